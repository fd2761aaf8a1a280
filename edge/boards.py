"""The boards at the ends of the cables: who is where, what is taken from whom, who needs which plan. Policy.

Owns one link end for each open port and one timebase for each boot. A board is known by its hardware id, whatever port
it speaks through; records of anybody else are refused by name and never taken. Bytes in by `received`, bytes to write
in `out`, everything that the daemon should know in `events`. Must never open a port, look at a clock or log.
"""

from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field
from gettext import gettext as _

from edge.planning import BoardPlan
from edge.timebase import UNSYNCED, Clock, Timebase
from protocols import link, octets, switching
from protocols.link_edge import Answer, Console, EdgeEnd, Hello, Pong, Records, Stranger
from protocols.model import Board, Site

WHO_S = 2.0  # how often an open port without a board is asked
SILENT_S = 10.0  # a board that has answered no ping for this long is down
ENDED_MOST = 200  # boots that are over, and wait for a clock
_CHUNK_BYTES = link.CHUNK_MAX_BYTES


@dataclass(frozen=True, slots=True)
class Taken:
    """Records of one boot of a board, in order, to be read by `clock`; `lost` before them are gone for good.

    `began_s`: when that boot began, on the gateway's monotonic clock. `has_past`: it had a plan when it was first
    heard, so that earlier boots may have polled.
    """

    board: str
    boot: str
    records: list[tuple[int, int, bytes]]
    next_record: int
    lost: int
    clock: Clock
    began_s: float
    has_past: bool = False


@dataclass(frozen=True, slots=True)
class ClockChanged:
    """A new line from uptime to UTC is in force for this boot."""

    board: str
    boot: str
    uptime_ms: int
    clock: Clock


@dataclass(frozen=True, slots=True)
class Noted:
    """A sentence for the log: a state changed, something is refused, a board's console spoke."""

    text: str
    warning: bool


@dataclass(frozen=True, slots=True)
class Refused:
    """A board does not take an order (switching.SWITCH)."""

    board: str
    arguments: bytes


Event = Taken | ClockChanged | Noted | Refused


@dataclass(slots=True)
class Attached:
    """What is known of one board of the site."""

    board: Board
    port: str | None = None
    boot: str | None = None
    has_past: bool = False  # it had a plan when this boot was first heard
    firmware: str | None = None
    generation: int | None = None
    uptime_s: int = 0
    ring_used_percent: int = 0
    heard_s: float = 0.0
    timebase: Timebase | None = None
    early: list[Records] = field(default_factory=list)  # they wait for the first pong: without it they have no time

    def up(self, now_s: float) -> bool:
        """Whether the board is at the end of a cable and answers."""
        return self.port is not None and now_s - self.heard_s < SILENT_S


@dataclass(slots=True)
class _Cable:
    """One open port."""

    end: EdgeEnd = field(default_factory=EdgeEnd)
    board: Attached | None = None
    refused: str | None = None  # the id that was refused last, so that it is said once
    who_s: float = 0.0
    token: int = 0
    pinged_s: float | None = None
    sending: list[tuple[int, bytes]] = field(default_factory=list)  # operations of a plan not yet answered
    orders: list[bytes] = field(default_factory=list)  # of switching.SWITCH, likewise; they go before a plan
    asked: str = ""  # what the command on the wire is of: "plan", "order" or nothing
    refusal: tuple[int, int] | None = None  # operation and result that a plan met last, so that it is said once
    resend_s: float = 0.0


class Boards:
    """All boards of one site."""

    def __init__(self, site: Site, plans: Mapping[str, BoardPlan], taken: Mapping[tuple[str, str], int]) -> None:
        self.out: list[tuple[str, bytes]] = []
        self.events: list[Event] = []
        self.attached = {board.name: Attached(board) for board in site.boards}
        self._by_id = {board.id: self.attached[board.name] for board in site.boards}
        self._pinned = {board.port: board for board in site.boards if board.port}
        self._plans = plans
        self._committed = dict(taken)
        self._expected = dict(taken)  # beyond that: taken, and not yet on disk
        self._cables: dict[str, _Cable] = {}
        self._ended: deque[tuple[str, str, Timebase]] = deque(maxlen=ENDED_MOST)

    def learn(self, taken: Mapping[tuple[str, str], int]) -> None:
        """How far boards had been taken by earlier processes, of those that were not heard meanwhile."""
        self._committed = {**taken, **self._committed}
        self._expected = {**taken, **self._expected}

    def configure(self, site: Site, plans: Mapping[str, BoardPlan], now_s: float) -> None:
        """Another site, or other plans. A board that stays as it was keeps its cable, its clock and what waits."""
        before, plans_before = self.attached, self._plans
        self.attached = {}
        for board in site.boards:
            known = before.get(board.name)
            self.attached[board.name] = known if known is not None and known.board == board else Attached(board)
        self._by_id = {board.id: self.attached[board.name] for board in site.boards}
        self._pinned = {board.port: board for board in site.boards if board.port}
        self._plans = plans
        for name, attached in before.items():
            if self.attached.get(name) is not attached:
                self._end_boot(attached)
        for cable in self._cables.values():
            cable.refused = cable.refusal = None
            name = cable.board.board.name if cable.board is not None else ""
            if cable.board is not None and self.attached.get(name) is not cable.board:
                self._detach(cable)
            elif name in plans_before and name in plans and plans_before[name].generation == plans[name].generation:
                continue
            cable.sending.clear()
            cable.who_s = now_s

    def opened(self, port: str, now_s: float) -> None:
        """A port was opened: ask who is there."""
        self._cables[port] = _Cable(who_s=now_s)
        self.tick(now_s)

    def closed(self, port: str) -> None:
        """A port is gone; the board may come back through another one."""
        cable = self._cables.pop(port, None)
        if cable is not None and cable.board is not None:
            cable.board.port = None

    def received(self, port: str, data: bytes, now_s: float, wall_ms: float, trusted: bool) -> None:
        """Bytes came in through `port`, at `now_s` by the monotonic and `wall_ms` by the wall clock."""
        cable = self._cables[port]
        for event in cable.end.feed(data):
            if isinstance(event, Hello):
                self._hello(port, cable, event, now_s)
            elif isinstance(event, Records):
                self._records(port, cable, event, now_s)
            elif isinstance(event, Pong):
                self._pong(cable, event, now_s, wall_ms, trusted)
            elif isinstance(event, Answer):
                self._answered(port, cable, event, now_s)
            elif isinstance(event, Stranger):
                self._stranger(port, cable, now_s)
            elif isinstance(event, Console):
                self._note(_("port {port}: board console: {text}").format(port=port, text=event.text), False)

    def committed(self, board: str, boot: str, next_record: int) -> None:
        """The records before `next_record` are on disk: the board may free them."""
        if (board, boot) in self._expected:
            self._committed[board, boot] = next_record
        attached = self.attached.get(board)
        if attached is not None and attached.port is not None and attached.boot == boot:
            self.out.append((attached.port, self._cables[attached.port].end.ack(next_record)))

    def due_s(self) -> float:
        """When `tick` wants to be called at the latest."""
        due_s = float("inf")
        for cable in self._cables.values():
            if self._wants_hello(cable):
                due_s = min(due_s, cable.who_s)
            if cable.board is not None and cable.board.timebase is not None:
                due_s = min(due_s, cable.board.timebase.due_s)
            if cable.asked:
                due_s = min(due_s, cable.resend_s)
        return due_s

    def tick(self, now_s: float) -> None:
        """Ask, ping and repeat what is due."""
        for port, cable in self._cables.items():
            attached = cable.board
            if self._wants_hello(cable) and now_s >= cable.who_s:
                cable.who_s = now_s + WHO_S
                self.out.append((port, cable.end.who()))
            if attached is None:
                continue
            if attached.timebase is not None and now_s >= attached.timebase.due_s:
                cable.token = cable.token + 1 & 0xFFFF
                cable.pinged_s = now_s
                attached.timebase.pinged(now_s)
                self.out.append((port, cable.end.ping(cable.token)))
            if cable.asked and now_s >= cable.resend_s:
                cable.resend_s = now_s + 0.5
                again = cable.end.repeat(int(now_s * 1000))
                if again:
                    self.out.append((port, again))

    def order(self, board: str, arguments: bytes, now_s: float) -> None:
        """Have a board switch an output, as switching.SWITCH has it; nothing where no board is there."""
        attached = self.attached.get(board)
        if attached is None or attached.port is None:
            return
        cable = self._cables[attached.port]
        cable.orders.append(arguments)
        if not cable.asked:
            self._ask(attached.port, cable, now_s)

    def _wants_hello(self, cable: _Cable) -> bool:
        """Whether nobody is known at this end, or one who polls by another plan than ours."""
        if cable.board is None:
            return True
        plan = self._plans.get(cable.board.board.name)
        return plan is not None and cable.board.generation != plan.generation and not cable.sending

    def _hello(self, port: str, cable: _Cable, hello: Hello, now_s: float) -> None:
        attached = self._by_id.get(hello.identity)
        reason = self._refusal(port, hello, attached)
        if attached is None or reason:
            self._detach(cable)
            if cable.refused != hello.identity:
                cable.refused = hello.identity
                self._note(reason, True)
            return
        cable.refused = None
        if attached.port != port or attached.boot != hello.boot:
            self._attach(port, cable, attached, hello, now_s)
        attached.generation = hello.generation
        attached.uptime_s = hello.uptime_s
        attached.ring_used_percent = hello.ring_used_percent
        attached.heard_s = now_s
        self.out.append((port, cable.end.ack()))
        plan = self._plans.get(attached.board.name)
        if plan is not None and hello.generation != plan.generation and not cable.sending:
            self._send_plan(port, cable, plan, now_s)

    def _refusal(self, port: str, hello: Hello, attached: Attached | None) -> str:
        """Why nothing is taken from this board at this port; empty when it may be."""
        pinned = self._pinned.get(port)
        if attached is None:
            return _(
                "port {port}: board {identity} is not one of this site: nothing is taken from it. "
                "Write its id under [boards] in gateway.toml, or unplug it."
            ).format(port=port, identity=hello.identity)
        if pinned is not None and pinned.name != attached.board.name:
            return _(
                "port {port}: {found} ({identity}) answers where gateway.toml puts {expected}: nothing is taken "
                "from it. Swap the cables back, or correct `port` under [boards]."
            ).format(port=port, found=attached.board.name, identity=hello.identity, expected=pinned.name)
        if attached.board.port and attached.board.port != port:
            return _(
                "port {port}: {found} ({identity}) belongs to port {pinned} by gateway.toml: nothing is taken from "
                "it here. Move the cable, or correct `port` under [boards]."
            ).format(port=port, found=attached.board.name, identity=hello.identity, pinned=attached.board.port)
        if not hello.protocol_min <= link.PROTOCOL <= hello.protocol_max:
            return _(
                "port {port}: {found} speaks link versions {low} to {high}, this gateway {ours}: nothing is taken "
                "from it. Deploy the firmware of this version."
            ).format(
                port=port,
                found=attached.board.name,
                low=hello.protocol_min,
                high=hello.protocol_max,
                ours=link.PROTOCOL,
            )
        return ""

    def _attach(self, port: str, cable: _Cable, attached: Attached, hello: Hello, now_s: float) -> None:
        self._detach(cable)
        if attached.port is not None and attached.port in self._cables:
            self._detach(self._cables[attached.port])
        name = attached.board.name
        if attached.boot != hello.boot:
            self._forget_boots(name, (attached.boot, hello.boot))
            self._end_boot(attached)
            attached.timebase = Timebase(now_s, hello.uptime_s)
            attached.has_past = hello.generation != 0
        attached.port = port
        attached.boot = hello.boot
        attached.firmware = hello.firmware
        cable.board = attached
        known = (name, hello.boot)
        cable.end.adopt(hello.boot, self._expected.get(known, 0), self._committed.get(known, 0))
        if attached.timebase is not None:
            attached.timebase.due_s = now_s
        self._note(
            _("port {port}: {board} ({identity}, firmware {firmware}, boot {boot})").format(
                port=port, board=name, identity=hello.identity, firmware=hello.firmware, boot=hello.boot
            ),
            False,
        )

    def _detach(self, cable: _Cable) -> None:
        if cable.board is not None:
            cable.board.port = None
        cable.board = None
        cable.pinged_s = None
        cable.sending.clear()
        cable.orders.clear()
        cable.asked = ""
        cable.end.forget()

    def _stranger(self, port: str, cable: _Cable, now_s: float) -> None:
        """Records of a boot that does not belong to this cable's board: somebody else is at its end now."""
        self._detach(cable)
        if now_s >= cable.who_s:
            cable.who_s = now_s + 0.1  # each frame of a stranger asks, but not each of a burst
            self.out.append((port, cable.end.who()))

    def _records(self, port: str, cable: _Cable, records: Records, now_s: float) -> None:
        attached = cable.board
        if attached is None or attached.timebase is None:
            return
        attached.heard_s = now_s
        self.out.append((port, cable.end.ack()))
        if records.records or records.lost:
            attached.early.append(records)
            self._expected[attached.board.name, records.boot] = cable.end.expected
        if attached.timebase.is_heard:
            self._take_early(attached)

    def _forget_boots(self, board: str, but: tuple[str | None, ...]) -> None:
        """A ring dies with its boot. What an old port still holds may be of the one before."""
        for numbers in (self._expected, self._committed):
            for which in [each for each in numbers if each[0] == board and each[1] not in but]:
                del numbers[which]

    def _end_boot(self, attached: Attached) -> None:
        """Nothing more comes of it; when it was may be known later."""
        self._take_early(attached)
        if attached.timebase is not None and attached.boot is not None and attached.timebase.clock == UNSYNCED:
            self._ended.append((attached.board.name, attached.boot, attached.timebase))

    def _date_ended(self, now_s: float, wall_ms: float) -> None:
        """The wall clock is trusted: boots that were over before that have their time from the monotonic clock."""
        for each in self.attached.values():
            if each.timebase is not None and each.boot is not None and not each.up(now_s):
                self._ended.append((each.board.name, each.boot, each.timebase))
        while self._ended:
            board, boot, timebase = self._ended.popleft()
            if timebase.date(now_s, wall_ms):
                self._tell_clock(board, boot, timebase, 0)

    def _tell_clock(self, board: str, boot: str, timebase: Timebase, uptime_ms: int) -> None:
        # What went out without a time is read by it: it claims what holds for all of this boot.
        self.events.append(ClockChanged(board, boot, uptime_ms, timebase.clock_at(0)))

    def _take_early(self, attached: Attached) -> None:
        if attached.timebase is None:
            return  # without a boot nothing came
        name, began_s = attached.board.name, attached.timebase.began_s
        for each in attached.early:
            next_record = each.first + len(each.records)
            uptimes_ms = [
                octets.get_u28(body, 2) * 1000  # of both kinds
                for _, kind, body in each.records
                if kind in (link.SAMPLE, link.COUNTS) and len(body) >= link.SAMPLE_HEAD_BYTES
            ]
            clock = attached.timebase.clock_at(*uptimes_ms[:1], *uptimes_ms[-1:])
            taken = Taken(name, each.boot, each.records, next_record, each.lost, clock, began_s, attached.has_past)
            self.events.append(taken)
        attached.early.clear()

    def _pong(self, cable: _Cable, pong: Pong, now_s: float, wall_ms: float, trusted: bool) -> None:
        attached = cable.board
        if attached is None or attached.timebase is None or attached.boot != pong.boot:
            return
        if cable.pinged_s is None or pong.token != cable.token:
            return
        attached.heard_s = now_s
        attached.uptime_s = pong.uptime_ms // 1000
        if attached.timebase.pong(pong.uptime_ms, cable.pinged_s, now_s, wall_ms, trusted):
            self._tell_clock(attached.board.name, pong.boot, attached.timebase, pong.uptime_ms)
        if trusted:
            self._date_ended(now_s, wall_ms)
        self._take_early(attached)
        cable.pinged_s = None

    def _send_plan(self, port: str, cable: _Cable, plan: BoardPlan, now_s: float) -> None:
        body = plan.plan
        cable.sending = [(link.PLAN_BEGIN, len(body).to_bytes(2, "little") + plan.digest)]
        for offset in range(0, len(body), _CHUNK_BYTES):
            chunk = offset.to_bytes(2, "little") + body[offset : offset + _CHUNK_BYTES]
            cable.sending.append((link.PLAN_CHUNK, chunk))
        cable.sending.append((link.PLAN_COMMIT, b""))
        if cable.asked != "order":
            self._ask(port, cable, now_s)

    def _ask(self, port: str, cable: _Cable, now_s: float) -> None:
        """The next command: one at a time, and orders first."""
        if cable.orders:
            cable.asked, operation, arguments = "order", switching.SWITCH, cable.orders[0]
        elif cable.sending:
            cable.asked, (operation, arguments) = "plan", cable.sending[0]
        else:
            cable.asked = ""
            return
        cable.resend_s = now_s + 0.5
        self.out.append((port, cable.end.command(operation, arguments, int(now_s * 1000))))

    def _answered(self, port: str, cable: _Cable, answer: Answer, now_s: float) -> None:
        if cable.board is None:
            return
        asked, cable.asked = cable.asked, ""
        if asked == "order" and cable.orders:
            arguments = cable.orders.pop(0)
            if answer.result != link.DONE:
                self.events.append(Refused(cable.board.board.name, arguments))
        elif asked == "plan" and cable.sending:
            self._plan_answered(port, cable, cable.board.board.name, answer.result)
        self._ask(port, cable, now_s)

    def _plan_answered(self, port: str, cable: _Cable, board: str, result: int) -> None:
        operation, _arguments = cable.sending.pop(0)
        if result != link.DONE:
            cable.sending.clear()
            if cable.refusal != (operation, result):
                cable.refusal = (operation, result)
                self._note(
                    _(
                        "board {board}: it refused its read plan (operation {operation}, result {result}); tried again "
                        "at its next HELLO"
                    ).format(board=board, operation=operation, result=result),
                    True,
                )
        elif not cable.sending:
            self.out.append((port, cable.end.who()))

    def _note(self, text: str, warning: bool) -> None:
        self.events.append(Noted(text, warning))
