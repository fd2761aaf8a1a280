"""The site's outputs as they are switched: ordered, told by the boards, read back, and what is wrong with them. Policy.

Owns what is known of each output, and when it is ordered anew. A board tells each switching as a record in the one
stream of its samples, so a coil that is read back after it was taken after it: what differs was done by somebody else,
or the module was without power. Must never decide what is to be on (alarms/horn.py does), look at a clock or send.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from gettext import gettext as _

from edge.boards import Taken
from edge.planning import BoardPlan
from protocols import link, modbus, octets, switching
from protocols.model import Input, Output, Site

WITHIN_MS = 2000  # a board that could not do it by then never does it
AGAIN_S = 1.0  # after a refusal or a failure; a module that answers nothing must not take the bus from the sensors
SELDOM_S = 5.0  # and after several
UNHEARD_S = 3.0  # without a word of the board
WRONG_S = 3.0  # an output that is not as it is to be for so long is an alarm
START_S = 30.0  # until the boards are found
LISTENS_S = 10.0  # a board that starts listens for another master for 5 s first
_FAILED_READS = 3


@dataclass(frozen=True, slots=True)
class Order:
    """What a board is to be told: arguments of switching.SWITCH."""

    board: str
    arguments: bytes


@dataclass(frozen=True, slots=True)
class Switched:
    """An output was switched, by our order or, where `cause` says so, by its board alone."""

    output: str
    value: bool
    cause: int


@dataclass(slots=True)
class _State:
    """One output. `is_on`: as far as is known; `ordered`: what a board was told and has not yet answered for."""

    output: Output
    wrong_since_s: float
    is_on: bool | None = None
    ordered: bool | None = None
    again_s: float = 0.0
    fails: int = 0
    why: str = ""
    failed_reads: int = 0
    differs: bool = False


class Outputs:
    """All outputs and inputs of a site. `took` what the boards sent, then `due` what they are to be told."""

    def __init__(self, site: Site, now_s: float) -> None:
        self.switched: list[Switched] = []
        self.pressed: list[Input] = []
        self._states: dict[str, _State] = {}
        self._inputs: dict[str, Input] = {}
        self._plans: dict[tuple[str, int], BoardPlan] = {}
        self._newest: dict[str, tuple[str, int]] = {}  # board -> boot and generation of its newest record
        self._generations: dict[str, int] = {}
        self.configure(site, now_s)

    def configure(self, site: Site, now_s: float) -> None:
        """Another site; outputs that stay as they are are known as before."""
        before = self._states
        self._states = {}
        for output in site.outputs:
            known = before.get(output.name)
            is_same = known is not None and known.output == output
            self._states[output.name] = known if known and is_same else _State(output, now_s + START_S - WRONG_S)
        self._inputs = {each.name: each for each in site.inputs}

    def add_plan(self, plan: BoardPlan) -> None:
        """Records of this board and generation are understood; the plan in force comes last."""
        self._plans[plan.board, plan.generation] = plan
        self._generations[plan.board] = plan.generation

    @property
    def are_any(self) -> bool:
        """Whether there is anything to look for."""
        return bool(self._states or self._inputs)

    # --- what the boards say ----------------------------------------------------------------------------------------

    def took(self, taken: Taken, now_s: float) -> None:
        """Records of a board, in order."""
        for generation, kind, body in taken.records:
            if self._newest.get(taken.board) != (taken.boot, generation):
                self._newest[taken.board] = taken.boot, generation
                self._forget(taken.board, now_s)
            plan = self._plans.get((taken.board, generation))
            if plan is None:
                continue
            if kind == link.SAMPLE and len(body) >= link.SAMPLE_HEAD_BYTES and body[0] < len(plan.reads):
                name = plan.reads[body[0]].output
                if name in self._states:
                    self._read_back(self._states[name], body, now_s)
            elif kind == switching.SWITCHED and len(body) >= switching.SWITCHED_BYTES and body[0] < len(plan.outputs):
                name = plan.outputs[body[0]]
                if name in self._states:
                    self._told(self._states[name], body, now_s)
            elif kind == switching.INPUT and len(body) >= switching.INPUT_BYTES and body[0] < len(plan.inputs):
                name = plan.inputs[body[0]]
                if body[1] and name in self._inputs:
                    self.pressed.append(self._inputs[name])

    def _forget(self, board: str, now_s: float) -> None:
        """It started, or took a plan: its pins were dropped, its coils are to be looked at."""
        for state in self._states.values():
            if state.output.board == board:
                state.is_on = state.ordered = None
                state.again_s = 0.0
                state.wrong_since_s = max(state.wrong_since_s, now_s + LISTENS_S - WRONG_S)

    def _read_back(self, state: _State, body: bytes, now_s: float) -> None:
        if body[1] & 15 != modbus.OK or len(body) <= link.SAMPLE_HEAD_BYTES:
            state.failed_reads += 1
            return
        state.failed_reads = 0
        is_on = bool(body[link.SAMPLE_HEAD_BYTES] & 1)
        state.differs = state.is_on is not None and state.is_on != is_on
        if state.differs:
            state.again_s = min(state.again_s, now_s)
        state.is_on = is_on

    def _told(self, state: _State, body: bytes, now_s: float) -> None:
        value, outcome, cause = bool(body[1]), body[2], body[3]
        if state.ordered == value or cause != switching.COMMANDED:
            state.ordered = None
        if outcome == modbus.OK:
            state.is_on, state.fails, state.differs, state.again_s = value, 0, False, now_s
            self.switched.append(Switched(state.output.name, value, cause))
        else:
            state.is_on = None  # it may have done it all the same
            why = _("it refuses to be written") if outcome == modbus.EXCEPTION else _("it does not answer a write")
            self._failed(state, why, now_s)

    def refused(self, board: str, arguments: bytes, now_s: float) -> str:
        """A board does not take an order: the output that it was for; nothing where that is no news."""
        plan = self._plans.get((board, octets.get_u16(arguments, 0)))
        name = plan.outputs[arguments[2]] if plan is not None and arguments[2] < len(plan.outputs) else ""
        state = self._states.get(name)
        if state is None:
            return ""
        is_news = not state.fails
        state.ordered = None
        self._failed(state, _("its board refuses the order"), now_s)
        return name if is_news else ""

    def _failed(self, state: _State, why: str, now_s: float) -> None:
        state.fails += 1
        state.why = why
        state.again_s = now_s + (AGAIN_S if state.fails < _FAILED_READS else SELDOM_S)

    # --- what is to be done -----------------------------------------------------------------------------------------

    def due(self, wanted: Mapping[str, bool], now_s: float) -> list[Order]:
        """What the boards are to be told now, so that all outputs come to be as they are wanted.

        To be asked whenever something may have changed, and once a second at least.
        """
        orders = []
        for name, value in wanted.items():
            state = self._states[name]
            if state.ordered is None and state.is_on == value:
                state.wrong_since_s, state.fails = now_s, 0
                continue
            is_under_way = state.ordered == value and now_s < state.again_s
            if is_under_way or state.ordered is None and now_s < state.again_s:
                continue
            if state.ordered == value:
                state.fails += 1
                state.why = _("its board does not answer")
            order = self._order(state.output, value)
            if order is not None:
                state.ordered, state.again_s = value, now_s + UNHEARD_S
                orders.append(order)
        return orders

    def _order(self, output: Output, value: bool) -> Order | None:
        generation = self._generations.get(output.board)
        plan = None if generation is None else self._plans[output.board, generation]
        if generation is None or plan is None or output.name not in plan.outputs:
            return None
        place = plan.outputs.index(output.name)
        words = generation.to_bytes(2, "little") + bytes((place, value)) + WITHIN_MS.to_bytes(2, "little")
        return Order(output.board, words)

    def alarms(self, now_s: float) -> Iterator[tuple[str, str]]:
        """Alarms of the outputs that stand, each with what is to be done."""
        for name, state in self._states.items():
            if state.output.kind == "fault":
                continue
            if state.differs:
                yield f"system.output.{name}:DIFFERS", _(
                    "Output {name} ({place}) was switched by somebody else, or its module was without power; it is set "
                    "right again. Find who writes to it, or look at the module's supply."
                ).format(name=name, place=place_text(state.output))
            if now_s - state.wrong_since_s > WRONG_S or state.failed_reads >= _FAILED_READS:
                why = _("it does not answer") if state.failed_reads >= _FAILED_READS else state.why
                yield f"system.output.{name}:FAULT", _(
                    "Output {name} ({place}) cannot be switched: {why}. Until it is repaired, nobody hears it: keep "
                    "watch at the screen. Look at the module's supply, its address and its cable."
                ).format(name=name, place=place_text(state.output), why=why or _("its board is not heard"))

    def rows(self, wanted: Mapping[str, bool]) -> list[dict[str, object]]:
        """For a person: each output, what it is to be and what it is."""
        return [
            {
                "output": name,
                "kind": state.output.kind,
                "place": place_text(state.output),
                "wanted": wanted.get(name),
                "is_on": state.is_on,
            }
            for name, state in self._states.items()
        ]


def place_text(output: Output) -> str:
    """Where an output is, for a person."""
    if output.bus is None:
        return _("board {board}, pin {pin}").format(board=output.board, pin=output.place)
    return _("bus {bus}, unit_id {unit_id}, coil {coil}").format(
        bus=output.bus, unit_id=output.unit_id, coil=output.place
    )
