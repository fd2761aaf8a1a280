"""The firmware on a line with faults, in virtual time: the bench's catalogue against poller, transaction and ring.

Shell of the tests. The line is the one of tests/board/test_poller.py; what faults make of an answer is
hil_tests/bench/faults.py's. Each good reply says which unit and register it is of and when it was measured, so that a
value under another register, unit or time is seen. What the edge would flag by itself (no number, out of its range) is
no accepted value.
"""

import sys
from bisect import bisect_left
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from hil_tests.bench.faults import Asked, Faults, Row, Strike
from protocols import link, modbus, modbus_edge, model, profile, readplan_edge
from protocols.channel import ChannelUse, reader
from protocols.model import Line
from tests.board.test_poller import Bus

VICTIM, NEIGHBOUR, THIRD = 1, 2, 3
TIMEOUT_MS, FLOOR_MS, LATE_MS = 1000, 100, 1000  # as a blank profile has them
PERIOD_MS = 500
# (unit id, function code, address, count): of the victim three reads whose replies have one shape, and one beside them.
READS = (
    (VICTIM, 3, 100, 2),
    (VICTIM, 3, 200, 2),
    (VICTIM, 3, 300, 2),
    (VICTIM, 4, 400, 3),
    (NEIGHBOUR, 3, 100, 2),
    (THIRD, 4, 900, 8),
)
AFTER_S = 0.002  # how soon a healthy unit answers
_PROFILE = """
version = 1
maker = "nobody"
model = "two registers"
source = "this test"
evidence = "code"
timeout_ms = 1000
address_base = 0
[channels.value]
function_code = 3
address = 0
type = "f32"
word_order = "ABCD"
decimals = 3
unit = "m"
"""
_read_as_number = reader(
    profile.load("two-registers", _PROFILE).channels["value"], ChannelUse("value", "value", "m", 0.0, 100.0), 0
)
_STAMP_MS = 10  # one step of the register that says when it was measured
_REOPEN_MS = 1000  # as main.py and its ports try it
_BIT = 1 << 16

Schedule = Callable[[int, int, int], Sequence[Strike]]  # of the request's number, its unit id and address


class Sample(NamedTuple):
    """One record of the ring: a poll's outcome, and that of its first try."""

    read: int
    outcome: int
    first: int
    at_ms: int
    data: bytes


@dataclass(slots=True)
class Account:
    """What came of a run."""

    samples: list[Sample] = field(default_factory=list)
    wrong: list[str] = field(default_factory=list)  # one sentence for each value that its unit did not then have
    struck_ms: list[tuple[int, int]] = field(default_factory=list)  # from when a strike was over, and whose request
    requests_ms: list[int] = field(default_factory=list)
    states: list[int] = field(default_factory=list)  # of the bus, as its counts told
    late: int = 0
    flagged: int = 0  # values that the edge doubts by itself
    spoilt: int = 0  # answers that did not come through whole

    def lost(self, unit_id: int | None = None) -> int:
        """Polls without a good reply."""
        return sum(
            sample.outcome != modbus.OK for sample in self.samples if unit_id in (None, READS[sample.read][0])
        )

    def outcomes(self, unit_id: int) -> Counter[int]:
        """How one unit's tries ended, retried ones included."""
        mine = [sample for sample in self.samples if READS[sample.read][0] == unit_id]
        return Counter(sample.outcome for sample in mine) + Counter(sample.first for sample in mine if sample.first)

    def first_good_ms(self) -> int:
        """The longest from the end of a strike to the next good poll of its unit."""
        good: defaultdict[int, list[int]] = defaultdict(list)
        for sample in self.samples:
            if sample.outcome == modbus.OK:
                good[READS[sample.read][0]].append(sample.at_ms)
        longest = 0
        for over_ms, unit_id in self.struck_ms:
            at = bisect_left(good[unit_id], over_ms)
            longest = max([longest, *(at_ms - over_ms for at_ms in good[unit_id][at : at + 1])])
        return longest

    def longest_block_ms(self) -> int:
        """The longest between two requests: somebody is always due within PERIOD_MS."""
        pairs = zip(self.requests_ms, self.requests_ms[1:], strict=False)
        return max((later - earlier for earlier, later in pairs), default=0)


class FaultedBus(Bus):
    """A bus of three units under a `schedule` of strikes. `run` as long as you like, then `account`."""

    def __init__(
        self,
        schedule: Schedule,
        line: str = "9600 8N1",
        period_ms: int = PERIOD_MS,
        start_ms: int = 0,
        start_us: int = 0,
        reads: Sequence[tuple[int, int, int, int]] = READS,
        after_s: float = AFTER_S,
    ) -> None:
        self.line = Line.parse(line)
        super().__init__(_plan(self.line, period_ms, reads), start_ms, start_us)
        self.values = Account()
        self.steps = 0
        self.value = self._register
        self.damage = self._strike
        self.after_s = after_s
        self._reads = reads
        self._period_ms = period_ms
        self._schedule = schedule
        self._faults = Faults()
        self._asked = 0
        self._back_us: int | None = None  # the port is gone until then
        self.is_cut = False  # no unit answers
        self._step = self.poller.step
        self.poller.step = self._counted
        self._grown_from = state_bytes(self.poller)

    def run(self, ms: int) -> None:
        """Let this much time pass; the ring is emptied as an edge does."""
        end_us = self.at_us + ms * 1000
        while self.at_us < end_us:
            until_us = min(end_us, self.at_us + 20_000_000)
            if self._back_us is not None:
                until_us = min(until_us, max(self._back_us, self.at_us + 1000))
            super().run(max((until_us - self.at_us) // 1000, 1))
            if self._back_us is not None and self.at_us >= self._back_us:
                self._back_us = None
                self.poller.reopened(self.now()[0])
            self._take()

    def unplug(self, ms: int) -> None:
        """Take the master's port away, and what was on its way; it is opened at the first try after so long."""
        self.coming.clear()
        self._back_us = self.at_us + (ms // _REOPEN_MS + 1) * _REOPEN_MS * 1000

    @property
    def is_unplugged(self) -> bool:
        """Whether the port is gone."""
        return self._back_us is not None

    def hears(self, pieces: Iterable[tuple[int, bytes]]) -> None:
        """Bytes of somebody else, each at its own time in microseconds."""
        self.coming.extend(pieces)
        self.coming.sort(key=lambda each: each[0])

    def shortest_gap_us(self) -> int:
        """The shortest silence that was kept before a request."""
        return min(self.gaps_us)

    def good_since(self, at_ms: int) -> list[Sample]:
        """Good samples from then on."""
        return [sample for sample in self.values.samples if sample.outcome == modbus.OK and sample.at_ms >= at_ms]

    def grown_bytes(self) -> int:
        """By how much the poller's state has grown: every object that it holds."""
        return state_bytes(self.poller) - self._grown_from

    def _counted(self, now_ms: int, now_us: int, uptime: Any) -> bool:
        self.steps += 1
        return self._step(now_ms, now_us, uptime)

    def _register(self, unit_id: int, address: int) -> int:
        """The first register of a read tells whose it is, the second when it was measured."""
        return self.at_us // (1000 * _STAMP_MS) % _BIT if address % 2 else _name(unit_id, address)

    def _strike(self, reply: bytes) -> bytes:
        request = bytes(self.poller.request[: self.poller.request_bytes])
        address = request[2] << 8 | request[3]
        strikes = self._schedule(self._asked, request[0], address)
        self._asked += 1
        self.values.requests_ms.append(self.at_us // 1000)
        if self.is_unplugged or self.is_cut:
            return b""
        if any(strike.row == Row.UNPLUG for strike in strikes):
            self.unplug(int(max(strike.much for strike in strikes) * 10_000))
            return b""
        asked = Asked(request, reply, self.line, self.after_s, TIMEOUT_MS / 1000, self._period_ms / 1000)
        ended_us = self.last_byte_us
        pieces = self._faults.answer(asked, strikes, ended_us / 1e6)
        arrivals = [(ended_us + round(piece.at_s * 1e6), piece.data) for piece in pieces]
        self.values.spoilt += reply not in b"".join(piece.data for piece in pieces)
        if strikes:
            over_us = max([ended_us, *(at_us for at_us, _ in arrivals)])
            self.values.struck_ms.append((over_us // 1000, request[0]))
        self.hears(arrivals)
        return b""

    def _take(self) -> None:
        """Empty the ring, and judge what it held."""
        buf = bytearray(2000)
        while self.recorder.unsent_bytes:
            end = self.recorder.take(buf, 0, len(buf), 0)
            at = 0
            while at < end:
                body = bytes(buf[at + 2 : at + 2 + buf[at]])
                kind = buf[at + 1]
                at += 2 + buf[at]
                if kind == link.SAMPLE:
                    at_ms = link.get_u28(body, 2) * 1000 + link.get_u16(body, 6)
                    self._judge(Sample(body[0], body[1] & 15, body[1] >> 4, at_ms, body[9:]))
                elif kind == link.COUNTS:
                    self.values.states.append(body[1])
                    self.values.late += sum(body[link.COUNTS_HEAD_BYTES + 1 :: 2])
        self.recorder.acknowledge(self.recorder.next)
        self.recorder.release(self.recorder.next)

    def _judge(self, sample: Sample) -> None:
        self.values.samples.append(sample)
        if sample.outcome != modbus.OK:
            return
        unit_id, _function_code, address, count = self._reads[sample.read]
        words = modbus_edge.unpack_registers(sample.data)
        if _read_as_number(words).status != model.GOOD:
            self.values.flagged += 1
            return
        names = [_name(unit_id, address + at) for at in range(0, count, 2)]
        age_ms = (sample.at_ms // _STAMP_MS - words[1]) % _BIT * _STAMP_MS
        # A unit may answer late by late_ms, and to its own read only.
        if len(words) != count or words[::2] != names or age_ms > TIMEOUT_MS + LATE_MS + FLOOR_MS:
            self.values.wrong.append(f"at {sample.at_ms} ms {unit_id}:{address} is {words}, {age_ms} ms old")


def _name(unit_id: int, address: int) -> int:
    return unit_id << 12 | address & 0xFFF


def _plan(line: Line, period_ms: int, reads: Sequence[tuple[int, int, int, int]]) -> bytes:
    units = sorted({unit_id for unit_id, *_ in reads})
    return readplan_edge.encode(
        [readplan_edge.encode_bus(1, line.baud, line.data_bits, line.parity, line.stop_bits)],
        [readplan_edge.encode_unit(0, unit_id, TIMEOUT_MS, FLOOR_MS, 0, LATE_MS) for unit_id in units],
        [
            readplan_edge.encode_read(units.index(unit_id), function_code, address, count, period_ms)
            for unit_id, function_code, address, count in reads
        ],
        bytes(4),
    )


def state_bytes(thing: object, seen: set[int] | None = None) -> int:
    """The size of an object and of all that hangs on its attributes, without functions and numbers."""
    seen = set() if seen is None else seen
    if id(thing) in seen or callable(thing) or isinstance(thing, int):
        return 0
    seen.add(id(thing))
    own = vars(thing).values() if hasattr(thing, "__dict__") else ()
    return sys.getsizeof(thing) + sum(state_bytes(each, seen) for each in own)
