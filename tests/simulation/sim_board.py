"""A board on the fake clock: the real loop of firmware/main.py over made ports, a flash in memory, a cord. Policy.

The loop's `board.wait` ends the turn by an exception, and the next turn calls the loop again: it keeps nothing of its
own between two turns. Counters start anywhere, so that they wrap during a run, and run as fast as its crystal says.
"""

import sys
from collections.abc import Sequence
from random import Random
from types import ModuleType, SimpleNamespace
from typing import Any
from unittest.mock import patch

from protocols import link, readplan
from tests.simulation.parts import Cable, Line, Time, Wake

MASK = (1 << 28) - 1
RING_BYTES = 8192
PPM_MAX = 50
LINK_TURN_US = 3000  # until the loop comes to look at its link


class _Turned(Exception):
    """The loop wants to wait."""


class _Machine(ModuleType):
    """What firmware/main.py knows as `board`: the machine of whichever board has its turn."""

    def __init__(self) -> None:
        super().__init__("board")
        self.turn: SimBoard
        self._ms = self._us = 0

    def begin(self, turn: "SimBoard") -> None:
        """Time stands still until its next turn."""
        self.turn = turn
        self._ms, self._us = turn.counters()

    def now_ms(self) -> int:
        return self._ms

    def now_us(self) -> int:
        return self._us

    def wait(self, wait_us: int) -> None:
        # By the fake clock: so long that the slowest crystal has counted enough, or it would wait again and again.
        self.turn.wake.at(self.turn.time.now_us + wait_us + wait_us * PPM_MAX // 1_000_000 + 2)
        raise _Turned

    def feed_watchdog(self) -> None:
        pass

    def free_heap_bytes(self) -> int:
        return 0


class _Flash(ModuleType):
    """What firmware/main.py knows as `flash`."""

    def load_whole(self, name: str) -> bytes | None:
        return _MACHINE.turn.files.get(name)

    def save_twice(self, name: str, data: bytes) -> bool:
        _MACHINE.turn.files[name] = bytes(data)
        return True


_MACHINE = _Machine()
_NO_PINS: Any = SimpleNamespace(open_output=lambda _number: None, open_button=lambda _number: None)


def _firmware() -> Any:
    """firmware/main.py on this machine."""
    stood = {name: sys.modules.get(name) for name in ("board", "flash", "main")}
    sys.modules["board"], sys.modules["flash"] = _MACHINE, _Flash("flash")
    try:
        sys.modules.pop("main", None)
        import main
    finally:
        for name, module in stood.items():
            if module is None:
                sys.modules.pop(name, None)
            else:
                sys.modules[name] = module
    return main


_MAIN = _firmware()


class _LinkPort:
    """The board's end of the cable."""

    def __init__(self, cable: Cable) -> None:
        self.heard: list[bytes] = []
        self.lost = False
        self._cable = cable

    def wants_reopening(self, _now_ms: int) -> bool:
        return False

    def read(self, buf: bytearray) -> int:
        if not self.heard:
            return 0
        data = self.heard.pop(0)
        buf[: len(data)] = data
        return len(data)

    def write(self, buf: bytearray, count: int) -> None:
        self._cable.send(bytes(buf[:count]))


class SimBoard:
    """One board: `start` it, `cut` its power. `up` is the cable to the Pi, `down` from it."""

    def __init__(
        self, time: Time, chance: Random, identity: str, lines: Sequence[Line], up: Cable, down: Cable
    ) -> None:
        self.time = time
        self.identity = identity
        self.files: dict[str, bytes] = {}
        self.is_on = False
        self.started_us: dict[str, int] = {}  # by boot
        self.polling_us: list[tuple[int, int]] = []  # from when to when it had a plan
        self.wake = Wake(time, self._turn)
        self._polls_since_us: int | None = None
        self._us_offset = 0
        self._ms_offset = 0
        self._ppm = chance.randint(-PPM_MAX, PPM_MAX)
        self._chance = chance
        self._lines = lines
        self._up = up
        self._down = down

    def counters(self) -> tuple[int, int]:
        """Its counters of milliseconds and of microseconds, by what its crystal has counted."""
        counted_us = self.time.now_us + self.time.now_us * self._ppm // 1_000_000
        return counted_us // 1000 + self._ms_offset & MASK, counted_us + self._us_offset & MASK

    def now_ms(self) -> int:
        """Its counter of milliseconds."""
        return self.counters()[0]

    def true_ms(self, boot: str, uptime_ms: int) -> float:
        """When that was, in milliseconds of the run."""
        return self.started_us[boot] / 1000 + uptime_ms / (1 + self._ppm / 1e6)

    def start(self) -> None:
        """Power."""
        self.is_on = True
        self._us_offset, self._ms_offset = self._chance.getrandbits(28), self._chance.getrandbits(28)
        _MACHINE.turn = self
        self._recorder = _MAIN.Recorder(bytearray(RING_BYTES))
        self._uptime = _MAIN.Uptime(self.now_ms())
        self._link_port = _LinkPort(self._up)
        self._down.to(self._hear)
        boot = self._chance.randbytes(4)
        self.started_us[boot.hex()] = self.time.now_us
        self._end = link.BoardEnd(
            self.identity.encode(), boot, _MAIN.FIRMWARE, link.RESET_POWER, self._recorder, self.now_ms()
        )
        self._plan = _MAIN.Plan()
        self._rx = bytearray(256)
        self._polled = b""
        self._pollers: list[Any] = []
        self._overheard = [_MAIN.Overheard(self.now_ms()) for _line in self._lines]
        for line in self._lines:
            line.plug(self._soon)
        self._poll_plan()
        self._soon()

    def cut(self) -> None:
        """No power: its ring is gone, its flash stays."""
        self.is_on = False
        self._polls_no_more()
        self.wake.off()
        self._down.to(None)

    @property
    def generation(self) -> int:
        """Of the plan that it polls."""
        return self._plan.generation()

    def is_at_rest(self) -> bool:
        """Everything in its ring is committed."""
        return self.is_on and self._recorder.oldest == self._recorder.next

    def _hear(self, data: bytes) -> None:
        self._link_port.heard.append(data)
        if self.is_on:
            self.wake.at(self.time.now_us + LINK_TURN_US)

    def _soon(self) -> None:
        if self.is_on:
            self.wake.at(self.time.now_us)

    def _polls_no_more(self) -> None:
        if self._polls_since_us is not None:
            self.polling_us.append((self._polls_since_us, self.time.now_us))
            self._polls_since_us = None

    def _poll_plan(self) -> None:
        """As main() does: pollers of the plan in flash, and a record and a HELLO that say so."""
        self._polls_no_more()
        for poller in self._pollers:
            poller.leave(self.now_ms())
        self._pollers = []
        self._ports: list[Any] = [*self._lines]
        self._wired: Any = None
        plan = self._plan.bytes
        if plan:
            self._polled = self._plan.digest
            self._polls_since_us = self.time.now_us
            for bus in range(readplan.buses(plan)):
                heard = self._overheard[plan[readplan.bus_at(plan, bus)] - 1]
                self._pollers.append(_MAIN.Poller(plan, bus, self._recorder, heard, *self.counters()))
            self._recorder.plan(self._plan.generation(), self.now_ms())
            if plan[2] == readplan.VERSION_OUTPUTS:
                self._wire(plan)
            self._end.say_hello()

    def _wire(self, plan: bytes) -> None:
        """Nothing is wired to its pins."""
        with patch.dict(sys.modules, pins=_NO_PINS):
            from wired import Wired

            self._wired = Wired(
                plan, self._plan.generation(), self._pollers, self._recorder, self._end, *self.counters()
            )
        self._pollers.append(self._wired)
        self._ports.append(self._wired)

    def _turn(self) -> None:
        _MACHINE.begin(self)
        while True:
            try:
                _MAIN.loop(self._pollers, self._ports, self._end, self._link_port, self._uptime, self._rx, self._wired)
            except _Turned:
                return
            self._end.answer(self._plan.obey(self._end.command, self._end.command_bytes))
            if self._plan.digest != self._polled:
                self._poll_plan()
