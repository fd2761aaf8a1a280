"""The parts of the world that are not ours: time, lines and their units, boards' flash and cable, the broker. Policy.

Everything happens at a microsecond of one fake clock, by chances drawn from one seed. Must never look at a real clock.
"""

import struct
from collections.abc import Callable
from dataclasses import dataclass, field
from heapq import heappop, heappush
from random import Random

from protocols import modbus

SECOND_US = 1_000_000


class Time:
    """The clock that jumps from deadline to deadline, and what is to happen when."""

    def __init__(self) -> None:
        self.now_us = 0
        self._queue: list[tuple[int, int, Callable[[], None]]] = []
        self._count = 0

    def at(self, when_us: int, happens: Callable[[], None]) -> None:
        """Let something happen, now at the earliest; what is due at one moment happens in the order of asking."""
        self._count += 1
        heappush(self._queue, (when_us if when_us > self.now_us else self.now_us, self._count, happens))

    def after(self, delay_us: float, happens: Callable[[], None]) -> None:
        """Let something happen so much later."""
        self.at(self.now_us + int(delay_us), happens)

    def run(self, until_us: int) -> None:
        """Let everything happen until then."""
        queue = self._queue
        while queue and queue[0][0] <= until_us:
            self.now_us, _count, happens = heappop(queue)
            happens()
        self.now_us = until_us


class Wake:
    """One sleeper: it is woken once, at the earliest moment that somebody asked for."""

    def __init__(self, time: Time, happens: Callable[[], None]) -> None:
        self._time = time
        self._happens = happens
        self._due_us: int | None = None
        self._rings = self._ring

    def at(self, when_us: int) -> None:
        """Wake no later than then."""
        now_us = self._time.now_us
        if when_us < now_us:
            when_us = now_us
        if self._due_us is None or when_us < self._due_us:
            self._due_us = when_us
            self._time.at(when_us, self._rings)

    def off(self) -> None:
        """Do not wake."""
        self._due_us = None

    def _ring(self) -> None:
        if self._due_us == self._time.now_us:  # and not earlier, because somebody asked for that meanwhile
            self._due_us = None
            self._happens()


@dataclass(slots=True)
class Faults:
    """How bad the world is, as shares; all 0 once it is to come to rest."""

    bus_loss: float = 0.0  # of replies: nothing comes
    bus_flip: float = 0.0  # of replies: a bit is wrong
    link_loss: float = 0.0  # of pieces on the cable
    link_flip: float = 0.0

    def calm(self) -> None:
        """No more faults of bytes."""
        self.bus_loss = self.bus_flip = self.link_loss = self.link_flip = 0.0


@dataclass(frozen=True, slots=True)
class Answer:
    """What a unit has said: its `number`th answer, whole; its last byte was on the line at `at_us`."""

    number: int
    at_us: int


@dataclass(slots=True)
class Unit:
    """A sensor whose registers tell which answer this is, so that no two readings of it are alike for hours."""

    unit_id: int
    answers: list[Answer] = field(default_factory=list)
    asked_us: list[int] = field(default_factory=list)
    is_dead: bool = False
    number: int = 0

    def registers(self, count: int) -> list[int]:
        """What it says now: register r is number * 16 + r, modulo 2^16."""
        return [self.number << 4 & 0xFFFF | place for place in range(count)]


class Line:
    """One RS-485 line: wire time, a turnaround, and what chance does to a reply."""

    def __init__(self, time: Time, chance: Random, faults: Faults, units: dict[int, Unit], char_us: int) -> None:
        self.lost = False
        self._is_deaf = False
        self._time = time
        self._chance = chance
        self._faults = faults
        self._units = units
        self._char_us = char_us
        self._heard: list[bytes] = []
        self._wake: Callable[[], None] = lambda: None
        self._power = 0  # counts the boards' starts: what was on the line for an earlier one is gone

    def plug(self, wake: Callable[[], None]) -> None:
        """A board that has just been switched on listens here."""
        self._wake = wake
        self._heard.clear()
        self._is_deaf = False
        self._power += 1

    # As firmware/board.py's ports:

    def wants_reopening(self, _now_ms: int) -> bool:
        return False

    def set_deaf(self, deaf: bool) -> None:
        self._is_deaf = deaf

    def read(self, buf: bytearray) -> int:
        if not self._heard:
            return 0
        data = self._heard.pop(0)
        buf[: len(data)] = data
        return len(data)

    def write(self, buf: bytearray, count: int) -> None:
        """A request: the unit answers after the request's wire time and its own."""
        request = bytes(buf[:count])
        unit = self._units[request[0]]
        unit.asked_us.append(self._time.now_us)
        if unit.is_dead or self._chance.random() < self._faults.bus_loss:
            return
        words = int.from_bytes(request[4:6], "big")
        unit.number += 1
        reply = bytearray(5 + 2 * words)
        struct.pack_into(f">BBB{words}H", reply, 0, request[0], request[1], 2 * words, *unit.registers(words))
        modbus.seal(reply, len(reply) - 2)
        is_whole = self._chance.random() >= self._faults.bus_flip
        if not is_whole:
            reply[self._chance.randrange(len(reply))] ^= 1 << self._chance.randrange(8)
        turnaround_us = self._chance.randrange(2000, 20_000)
        ends_us = self._time.now_us + (count + len(reply)) * self._char_us + turnaround_us
        power, number = self._power, unit.number
        self._time.at(ends_us, lambda: self._ends(power, bytes(reply), unit if is_whole else None, number))

    def _ends(self, power: int, reply: bytes, unit: Unit | None, number: int) -> None:
        if power != self._power:
            return
        self._heard.append(reply)
        if unit is not None:
            unit.answers.append(Answer(number, self._time.now_us))
        if not self._is_deaf:
            self._wake()


class Cable:
    """One direction of the cable between a board and the Pi: pieces in order, some lost, some damaged, all if cut."""

    def __init__(self, time: Time, chance: Random, faults: Faults, baud: int) -> None:
        self.is_cut = False
        self._time = time
        self._chance = chance
        self._faults = faults
        self._byte_us = 10 * SECOND_US / baud
        self._free_us = 0.0
        self._takes: Callable[[bytes], None] | None = None

    def to(self, takes: Callable[[bytes], None] | None) -> None:
        """Who listens at its end from now on, and hears what is sent from now on."""
        self._takes = takes

    def send(self, data: bytes) -> None:
        """Bytes; they arrive together when the last of them does."""
        self._free_us = max(self._free_us, self._time.now_us) + len(data) * self._byte_us
        chance, faults = self._chance, self._faults
        if self.is_cut or chance.random() < faults.link_loss:
            return
        if chance.random() < faults.link_flip:
            damaged = bytearray(data)
            damaged[chance.randrange(len(data))] ^= 1 << chance.randrange(8)
            data = bytes(damaged)
        takes = self._takes
        if takes is not None:
            self._time.at(int(self._free_us), lambda: self._arrives(takes, data))

    def _arrives(self, takes: Callable[[bytes], None], data: bytes) -> None:
        if takes is self._takes and not self.is_cut:
            takes(data)
