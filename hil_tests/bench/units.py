"""Simulated sensors, made from their profiles: request bytes in, reply bytes out, well or badly. Policy.

Owns what a unit on an RS-485 line answers, and what the answer therefore tells about each of its points. Registers
are the profile's, laid by protocols.profile.encode_registers; frames are the slave role of protocols.modbus, V1.1b3.
Must never know when anything happens: that is the line's part. A unit takes writes of the coils that its profile lists
under `writes`, and refuses all others.
"""

import struct
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

from hil_tests.bench.chance import draw
from hil_tests.bench.sheet import Point
from protocols import modbus, modbus_edge, model
from protocols.channel import NORMAL, STATUSES
from protocols.profile import Profile, encode_registers

# What can be wrong with a unit.
SILENT = "silent"  # unplugged, dead, or its address is another one
FLIPPED = "flipped byte"
CUT = "cut"  # the reply ends half-way
LATE = "late"  # `late_s` after it should have come
STRAY = "stray"  # bytes around a good reply: a driver that switches on and off audibly
EXCEPTION = "exception"  # the unit refuses, `exception_code` says how
BABBLE = "babble"  # a boot banner instead of a reply
WRONG_UNIT = "wrong unit"  # it answers under a neighbour's address
FAULTS = (SILENT, FLIPPED, CUT, LATE, STRAY, EXCEPTION, BABBLE, WRONG_UNIT)

ILLEGAL_FUNCTION = 1
ILLEGAL_ADDRESS = 2
ILLEGAL_VALUE = 3
BUSY = 6

_STRAY_BEFORE = b"\xff\x00"
_STRAY_AFTER = b"\x00"
_BANNER = b"\r\nboot v2.1 heap 48 KB, sensor warm, waiting for command> " * 6
_FIRST_BYTE = 0.1  # of the slowest first byte that the profile allows: what a healthy unit takes


@dataclass(frozen=True, slots=True)
class Measured:
    """What an answer tells about one point: a value, or a status without one."""

    point: str
    value: float | None
    status: int
    detail: int = 0

    def failed(self, status: int) -> "Measured":
        """The same point where nothing good came."""
        return Measured(self.point, None, status)


@dataclass(frozen=True, slots=True)
class Answer:
    """What a unit puts on the line after one request. `data` is empty where it says nothing.

    `after_s` counts from the request's last byte. `measured`: what the asker must conclude. `certain` is false where
    it may ask again first. `belated`: what `data` tells an asker who is still, or again, waiting for them.
    """

    data: bytes
    after_s: float
    measured: tuple[Measured, ...]
    certain: bool = True
    belated: tuple[Measured, ...] = ()
    fault: str = ""  # of FAULTS, for whoever records

    def lost(self) -> "Answer":
        """Nothing of it, or of its request, came through."""
        return self.failed(b"", model.NO_REPLY)

    def damaged(self, data: bytes) -> "Answer":
        """`data` came through instead of it, and no CRC fits."""
        return self.failed(data, model.BAD_CRC)

    def failed(self, data: bytes, status: int) -> "Answer":
        """`data` came instead of it, and the asker must find this status."""
        return Answer(data, self.after_s, tuple(told.failed(status) for told in self.measured), certain=False)


@dataclass(slots=True)
class Unit:
    """One sensor. `points`: the rows of the sheet that it measures.

    `fault` is one of FAULTS or None; with `faulty_replies` it heals by itself after so many answers. `states`:
    point -> what its channel says of itself, as a status word of its profile and the detail that goes with it.
    `coils`: address -> what was written last. `takes_s`: to its first byte, where that is known better than by its
    profile.
    """

    unit_id: int
    profile: Profile
    points: Sequence[Point]
    seed: int = 0
    fault: str | None = None
    faulty_replies: int | None = None
    late_s: float = 1.0
    exception_code: int = BUSY
    serial: int = 1  # stands in all registers of its serial number; another one is another device
    states: dict[str, tuple[str, int]] = field(default_factory=dict)
    takes_s: float | None = None
    coils: dict[int, bool] = field(default_factory=dict)
    requests: int = 0
    writes: int = 0  # that somebody tried: a gateway that only reads leaves it at 0

    @property
    def first_byte_s(self) -> float:
        """From a request's end to the reply's first byte."""
        return self.profile.timeout_ms / 1000 * _FIRST_BYTE if self.takes_s is None else self.takes_s

    def step(self, point: Point) -> float:
        """What one step of a 4-20 mA register is worth, in the sheet's unit; 0 of others, no finer than the plant."""
        current = self.profile.channels[point.channel].current
        if current is None or point.range_low is None or point.range_high is None:
            return 0.0
        return abs((point.range_high - point.range_low) / (current.raw_20ma - current.raw_4ma))

    def break_down(self, fault: str, replies: int | None = None) -> None:
        """Have this fault from now on, or for so many answers."""
        if fault not in FAULTS:
            raise ValueError(f"fault = {fault!r}: allowed are {', '.join(FAULTS)}")
        self.fault, self.faulty_replies = fault, replies

    def heal(self) -> None:
        """Be a good sensor again."""
        self.fault = self.faulty_replies = None

    def answer(self, request: bytes, measure: Callable[[str], float]) -> Answer:
        """Answer one whole, intact request to this unit; `measure` gives a point's true value in the sheet's unit."""
        self.requests += 1
        fault = self._take_fault()
        good = self._good(request, measure)
        return good if fault is None else replace(self._spoil(fault, request, good), fault=fault)

    def _take_fault(self) -> str | None:
        fault = self.fault
        if fault is not None and self.faulty_replies is not None:
            self.faulty_replies -= 1
            if self.faulty_replies <= 0:
                self.heal()
        return fault

    def _good(self, request: bytes, measure: Callable[[str], float]) -> Answer:
        function_code = request[1]
        if function_code > modbus.READ_INPUT_REGISTERS:
            self.writes += function_code != modbus.ENCAPSULATED
            return self._write(request)
        address, count = modbus_edge.unpack_registers(request[2:6])
        wanted = {(function_code, address + offset) for offset in range(count)}
        registers = {
            (check.function_code, check.address + i): word
            for check in self.profile.checks
            for i, word in enumerate(check.expected or (self.serial,) * check.count)
        } | {
            (modbus.READ_COILS, coil): int(self.coils.get(coil, False))
            for code, first, last in self.profile.writes
            if code == modbus.WRITE_COIL
            for coil in range(first, last + 1)
        }
        told = []
        # Bits last: their register may be another point's status.
        for point in sorted(self.points, key=lambda point: self.profile.channels[point.channel].bit is not None):
            laid, measured = self._measure(point, measure(point.point))
            if self.profile.channels[point.channel].bit is not None:
                laid = {place: word | registers.get(place, 0) for place, word in laid.items()}
            registers |= laid
            if laid.keys() <= wanted:
                told.append(measured)
        if all(known != function_code for known, _ in registers):
            return self._refuse(request, ILLEGAL_FUNCTION, told)
        if not wanted & registers.keys():
            return self._refuse(request, ILLEGAL_ADDRESS, told)
        is_bits = function_code <= modbus.READ_DISCRETE_INPUTS
        if not 1 <= count <= (modbus.MAX_BITS if is_bits else self.profile.max_registers):
            return self._refuse(request, ILLEGAL_VALUE, told)
        words = [registers.get(place, 0) for place in sorted(wanted)]
        data = modbus_edge.pack_bits(words) if is_bits else struct.pack(f">{count}H", *words)
        return Answer(modbus_edge.read_reply(self.unit_id, function_code, data), self.first_byte_s, tuple(told))

    def _write(self, request: bytes) -> Answer:
        """A coil is switched, and the request comes back as it is (V1.1b3, 6.5)."""
        address, word = modbus_edge.unpack_registers(request[2:6])
        if request[1] != modbus.WRITE_COIL or not any(code == modbus.WRITE_COIL for code, *_ in self.profile.writes):
            return self._refuse(request, ILLEGAL_FUNCTION, ())
        if not self.profile.may_write(modbus.WRITE_COIL, address):
            return self._refuse(request, ILLEGAL_ADDRESS, ())
        if word not in (0, 0xFF00):
            return self._refuse(request, ILLEGAL_VALUE, ())
        self.coils[address] = word != 0
        return Answer(modbus_edge.write_reply(request), self.first_byte_s, ())

    def _measure(self, point: Point, value: float) -> tuple[dict[tuple[int, int], int], Measured]:
        """The registers of one point's channel, and what they tell."""
        state, detail = self.states.get(point.point, (NORMAL, 0))
        registers = encode_registers(
            self.profile,
            point.channel,
            value,
            state=state,
            unit=point.unit,
            range_low=point.range_low,
            range_high=point.range_high,
            detail=detail,
        )
        status = model.GOOD if state == NORMAL else STATUSES[state]
        return registers, Measured(point.point, value if model.has_value(status) else None, status, detail)

    def _refuse(self, request: bytes, code: int, told: Sequence[Measured]) -> Answer:
        measured = tuple(Measured(each.point, None, model.EXCEPTION, code) for each in told)
        reply = modbus_edge.exception_reply(self.unit_id, request[1], code)
        return Answer(reply, self.first_byte_s, measured)

    def _spoil(self, fault: str, request: bytes, good: Answer) -> Answer:
        """The answer as this fault leaves it."""
        data = good.data
        where = draw(self.seed, self.unit_id, self.requests)
        if fault == SILENT:
            return good.lost()
        if fault == FLIPPED:
            at = int(where * len(data))
            return good.damaged(data[:at] + bytes((data[at] ^ 0x10,)) + data[at + 1 :])
        if fault == CUT:
            return good.damaged(data[: 2 + int(where * (len(data) - 2))])
        if fault == LATE:
            late = good.failed(data, model.NO_REPLY)
            return replace(late, after_s=good.after_s + self.late_s, belated=good.measured)
        if fault == STRAY:
            return replace(good, data=_STRAY_BEFORE + data + _STRAY_AFTER)
        if fault == EXCEPTION:
            return self._refuse(request, self.exception_code, good.measured)
        if fault == BABBLE:
            return good.damaged(_BANNER)
        neighbour = self.unit_id % 247 + 1
        return good.failed(modbus_edge.frame(bytes((neighbour,)) + data[1:-2]), model.WRONG_REPLY)
