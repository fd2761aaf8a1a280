"""What became of every answer of every unit: received once with its own time, or told as missing. Policy.

Reads what the district received and what the units said; knows nothing of the gateway but the numbers that lie in its
store. Gaps are judged by board time, which is true whatever clocks say; a reading's UTC by every clock that the gateway
ever trusted, within the error that its message claims; what came without a time by its uptime, and by the Clock record
that completes it. Must never forgive: what it cannot explain is told.
"""

from bisect import bisect_left
from collections import Counter, defaultdict
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

from tests.simulation.parts import SECOND_US, Answer
from tests.simulation.sim_broker import Received
from tests.simulation.world import PERIOD_S, REGISTERS, UNIT_IDS, World

_TOLERANCE_MS = 5  # of a sample's time: whole milliseconds, and the board's turn
_ALL = (1 << REGISTERS) - 1
_NUMBERS = 4096  # an answer's number comes again after so many
_ASKED_EVERY_MS = 2 * PERIOD_S * 1000 + 1000  # every unit, whether it answers or not: once in each period
_LISTENS_MS = 5000  # a board that starts, before it asks
_PPM_MAX = 100  # how far crystals may be off, as the feed says of what no Clock record covers


@dataclass(slots=True)
class Verdict:
    """How one run ended. `faults` are sentences; a right gateway leaves none."""

    answers: int = 0
    readings: int = 0  # received, of answers
    missing: int = 0  # answers that a gap tells of
    unsynced: int = 0  # readings that came without a time
    gaps: Counter[str] = field(default_factory=Counter)
    doubles: int = 0  # messages that came again
    faults: list[str] = field(default_factory=list)

    def add(self, other: "Verdict") -> None:
        """And how another run ended."""
        for name in ("answers", "readings", "missing", "unsynced", "gaps", "doubles"):
            setattr(self, name, getattr(self, name) + getattr(other, name))
        self.faults = self.faults + other.faults

    def __str__(self) -> str:
        gaps = ", ".join(f"{cause} {count}" for cause, count in sorted(self.gaps.items()))
        return (
            f"{self.answers} answers of units: {self.readings} readings received, {self.unsynced} of them without a "
            f"time; {self.missing} answers told as missing by {sum(self.gaps.values())} gaps ({gaps}); {self.doubles} "
            "messages came twice"
        )


@dataclass(frozen=True, slots=True)
class _Gap:
    board: str | None
    cause: str
    from_ms: float
    to_ms: float
    polls: int | None = None  # at most so many are missing


@dataclass(frozen=True, slots=True)
class _Line:
    """A Clock record."""

    from_uptime_ms: int
    utc_at_uptime_0_ms: int
    drift_ppm: float
    err_ms: int


class _Judge:
    def __init__(self, world: World) -> None:
        self.world = world
        self.district = world.broker.district
        self.districts = {name: broker.district for name, broker in world.brokers.items()}
        faults = [fault for district in self.districts.values() for fault in district.faults]
        self.verdict = Verdict(doubles=self.district.doubles, faults=faults)
        # unit -> number of an answer -> a bit for each register: came at all, came from disk
        self.came: dict[tuple[str, int], Counter[int]] = defaultdict(Counter)
        self.stored: dict[tuple[str, int], Counter[int]] = defaultdict(Counter)
        self.asked: tuple[Any, ...] = ()
        self.answer: Answer | None = None
        self.gaps: list[_Gap] = []
        self.gone_ms: dict[str, list[float]] = defaultdict(list)  # of a board, in messages that gaps name
        self.missing: Counter[_Gap] = Counter()  # answers that no other gap tells of
        self.newest_us: dict[tuple[str, str, int], int] = {}  # of an epoch and a unit
        self.lines: dict[str, list[_Line]] = defaultdict(list)
        self.likely = world.clock.trusted[:1]  # what was so for one reading is mostly so for the next
        self.said = {
            (board, unit_id): _by_number(units[unit_id].answers)
            for board, units in world.units.items()
            for unit_id in UNIT_IDS
        }
        self.points = {
            f"{board}-{unit_id}.r{register}": ((board, unit_id), register)
            for board, unit_id in self.said
            for register in range(REGISTERS)
        }

    def judge(self) -> Verdict:
        self._numbers()
        received = self.district.received.values()
        by_kind: dict[str, list[Received]] = defaultdict(list)
        for message in received:
            by_kind[message.document["schema"].split("/")[1]].append(message)
        for message in by_kind["clock"]:
            document = message.document
            values = (document[name] for name in ("from_uptime_ms", "utc_at_uptime_0_ms", "drift_ppm", "err_ms"))
            self.lines[document["boot"]].append(_Line(*values))
        for message in sorted(by_kind["data"], key=lambda each: each.document["seq"]):
            for row in message.document["rows"]:
                self._row(message, row)
        for message in by_kind["gap"]:
            self._gap(message.document)
        for gone_ms in self.gone_ms.values():
            gone_ms.sort()
        for (board, unit_id), by_number in self.said.items():
            for answers in by_number.values():
                for answer in answers:
                    self._answer(board, unit_id, answer)
        for gap, missing in self.missing.items():
            self._count(gap, missing)
        for (board, unit_id), unit in ((place, self.world.units[place[0]][place[1]]) for place in self.said):
            self._asked(board, unit_id, unit.asked_us)
        if not self.verdict.readings:
            self._fault("nothing was checked: no reading was received")
        return self.verdict

    def _numbers(self) -> None:
        """Of each stream each number came, up to the last that came or lies in the store, or a gap names it."""
        kept = self.world.gateway.kept()
        on_disk = {(epoch, name) for epoch, streams in kept.items() for name in streams}
        for epoch, name in {*(stream for each in self.districts.values() for stream in each.streams()), *on_disk}:
            first_kept, last_kept = kept.get(epoch, {}).get(name, (1, 0))
            if first_kept != 1:
                self._fault(f"{epoch} {name} lost the first {first_kept - 1}: no life is so long, no disk so small")
            for where, district in self.districts.items():
                last = max(district.last(epoch, name), last_kept)
                missing = district.missing(epoch, name, last)
                if missing:
                    self._fault(f"{where}: of {epoch} {name} are missing {missing} of {last}")

    def _row(self, message: Received, row: list[Any]) -> None:
        point, dt_ms, value = row[:3]
        if value is None:
            return
        document = message.document
        place, register = self.points[point]
        answer = self._said(message, place, dt_ms, value >> 4)
        if answer is None or value & 15 != register:
            where = f"message {document['epoch']} {document['seq']}"
            self._fault(f"{point} = {value}, {where}: no unit said so at that time")
            return
        came, stored, bit = self.came[place], self.stored[place], 1 << register
        if stored[answer.number] & bit and message.is_stored:
            self._fault(f"{point}: answer {answer.number} was received twice")
        self.verdict.readings += not came[answer.number] & bit
        self.verdict.unsynced += document["t0_ms"] is None
        came[answer.number] |= bit
        if message.is_stored:
            stored[answer.number] |= bit

    def _said(self, message: Received, place: tuple[str, int], dt_ms: int, number: int) -> Answer | None:
        """The answer of that number modulo _NUMBERS that a row's time is that of. Rows of one answer lie together."""
        asked = (id(message), place, dt_ms, number)
        if asked != self.asked:
            self.asked = asked
            candidates = self.said[place].get(number, ())
            then = (each for each in candidates if self._is_then(message.document, place[0], dt_ms, each))
            self.answer = next(then, None)
            if self.answer is not None:
                self._is_in_order(message.document, place, self.answer)
        return self.answer

    def _is_in_order(self, document: dict[str, Any], place: tuple[str, int], answer: Answer) -> None:
        stream = (document["epoch"], *place)
        if answer.at_us < self.newest_us.get(stream, 0):
            where = f"{place[0]} unit {place[1]}"
            self._fault(f"{where}: answer {answer.number} came after a later one, in message {document['seq']}")
        self.newest_us[stream] = answer.at_us

    def _is_then(self, document: dict[str, Any], board: str, dt_ms: int, answer: Answer) -> bool:
        """Whether a row's time is that of the answer, within the error that is claimed."""
        if document["t0_ms"] is not None:
            allowed_ms = document["time"]["err_ms"] + _TOLERANCE_MS
            return self._was(document["t0_ms"] + dt_ms, allowed_ms, answer)
        uptime_ms = document["t0_uptime_ms"] + dt_ms
        if abs(self._true_ms(document["boot"], uptime_ms) - answer.at_us / 1000) > _TOLERANCE_MS:
            return False
        self._complete(document, uptime_ms, answer)
        return True

    def _was(self, utc_ms: float, allowed_ms: float, answer: Answer) -> bool:
        """Whether the gateway's clock, when it was trusted, said so then, or would have."""
        for line in (*self.likely, *self.world.clock.trusted):
            if abs(line.ms(answer.at_us) - utc_ms) <= allowed_ms:
                self.likely = [line]
                return True
        return False

    def _complete(self, document: dict[str, Any], uptime_ms: int, answer: Answer) -> None:
        """As a district does: by the newest Clock record of that boot that had begun, or else by the first."""
        lines = self.lines.get(document["boot"])
        if not lines:  # no clock was ever known in this boot
            return
        begun = [line for line in lines if line.from_uptime_ms <= uptime_ms]
        line = max(begun, key=lambda each: each.from_uptime_ms) if begun else lines[0]
        utc_ms = line.utc_at_uptime_0_ms + uptime_ms * (1 + line.drift_ppm / 1e6)
        allowed_ms = line.err_ms + _TOLERANCE_MS + max(uptime_ms - line.from_uptime_ms, 0) * _PPM_MAX / 1e6
        if not self._was(utc_ms, allowed_ms, answer):
            place = f"{document['boot']} at uptime {uptime_ms} ms"
            self._fault(f"{place}: the Clock record {line} makes {utc_ms:.0f} of it, which it was by no clock")

    def _true_ms(self, boot: str, uptime_ms: int) -> float:
        board, _slash, boot = boot.partition("/")
        return self.world.boards[board].true_ms(boot, uptime_ms)

    def _gap(self, document: dict[str, Any]) -> None:
        self.verdict.gaps[document["cause"]] += 1
        if document["missing_seq"]:
            first, last = document["missing_seq"]
            which = document["missing_epoch"], document["of"]
            kept = [seq for seq in range(first, last + 1) if self.world.gateway.has(*which, seq)]
            if kept:
                where = f"gap {document['seq']} of {document['epoch']}"
                self._fault(f"{where} names {which} {kept} as gone, and they lie in the store")
        if document["cause"] == "disk_fault" and document["missing_seq"]:
            received = [district.received for district in self.districts.values()]
            came = [seq for seq in range(first, last + 1) if all((*which, seq) in each for each in received)]
            if came:
                self._fault(f"gap {document['seq']} of {document['epoch']} names {which} {came} as gone, and they came")
        board = document["scope"]["board"]
        if "boot" in document:
            from_ms = 0.0
            if "from_boot" in document:
                from_ms = self._true_ms(document["from_boot"], document["from_uptime_ms"])
            to_ms = self._true_ms(document["boot"], document["to_uptime_ms"])
            if from_ms > to_ms:
                self._fault(f"gap {document['seq']} of {document['epoch']} ends before it begins")
            self.gaps.append(_Gap(board, document["cause"], from_ms, to_ms, document["polls"]))
        elif document["missing_seq"]:
            if document["of"] == "data":
                self._gone(document["missing_epoch"], *document["missing_seq"])
        elif document["from_ms"] is not None:
            for line in self.world.clock.trusted:
                begin_us = line.since_us - line.utc_ms * 1000
                spans_ms = (begin_us / 1000 + document[end] for end in ("from_ms", "to_ms"))
                self.gaps.append(_Gap(board, document["cause"], *spans_ms))

    def _gone(self, epoch: str, first: int, last: int) -> None:
        """A gap names messages: it tells of what was in them."""
        for seq in range(first, last + 1):
            for board, boot, uptime_ms in self.world.gateway.made.get((epoch, seq), ()):
                self.gone_ms[board].append(self._true_ms(f"{board}/{boot}", uptime_ms))

    def _is_gone(self, board: str, at_ms: float) -> bool:
        gone_ms = self.gone_ms[board]
        at = bisect_left(gone_ms, at_ms - _TOLERANCE_MS)
        return at < len(gone_ms) and gone_ms[at] <= at_ms + _TOLERANCE_MS

    def _answer(self, board: str, unit_id: int, answer: Answer) -> None:
        self.verdict.answers += 1
        came = self.came[board, unit_id][answer.number]
        at_ms = answer.at_us / 1000
        telling = [
            gap
            for gap in self.gaps
            if gap.board in (None, board) and gap.from_ms - _TOLERANCE_MS <= at_ms <= gap.to_ms + _TOLERANCE_MS
        ]
        place = f"{board} unit {unit_id}, answer {answer.number} at {at_ms / 1000:.3f} s"
        if came == _ALL:
            inside = [gap for gap in telling if gap.from_ms + _TOLERANCE_MS < at_ms < gap.to_ms - _TOLERANCE_MS]
            if self.stored[board, unit_id][answer.number] == _ALL and any(gap.board for gap in inside):
                self._fault(f"{place}: it came, and {inside[0]} tells that it will not")
        elif (telling or self._is_gone(board, at_ms)) and not came:
            self.verdict.missing += 1
            if len(telling) == 1:
                self.missing[telling[0]] += 1
        else:
            self._fault(f"{place}: {came.bit_count()} readings came, and no gap tells why")

    def _count(self, gap: _Gap, missing: int) -> None:
        """Of how much a gap tells: no less than is missing, no more than was asked, and counted each minute."""
        if gap.polls is None or gap.board is None:
            return
        units = self.world.units[gap.board].values()
        ends_us = gap.from_ms * 1000 - SECOND_US, gap.to_ms * 1000 + SECOND_US
        asked = sum(bisect_left(unit.asked_us, ends_us[1]) - bisect_left(unit.asked_us, ends_us[0]) for unit in units)
        most = asked + (gap.to_ms - gap.from_ms) / 60_000 + 2
        if not missing <= gap.polls <= most:
            self._fault(f"{gap} counts {gap.polls}: at least {missing} are missing, and at most {most:.0f}")

    def _asked(self, board: str, unit_id: int, asked_us: list[int]) -> None:
        """A board that has power and a plan polls, whatever else happens."""
        for begin_us, end_us in self.world.boards[board].polling_us:
            asked = asked_us[bisect_left(asked_us, begin_us) : bisect_left(asked_us, end_us)]
            for earlier_us, later_us in pairwise((begin_us + _LISTENS_MS * 1000, *asked, end_us)):
                if later_us - earlier_us > _ASKED_EVERY_MS * 1000:
                    spans = f"{earlier_us / SECOND_US:.3f} to {later_us / SECOND_US:.3f} s"
                    self._fault(f"{board} unit {unit_id} was not asked from {spans}")

    def _fault(self, sentence: str) -> None:
        self.verdict.faults.append(sentence)


def _by_number(answers: list[Answer]) -> dict[int, list[Answer]]:
    by_number: dict[int, list[Answer]] = defaultdict(list)
    for answer in answers:
        by_number[answer.number % _NUMBERS].append(answer)
    return by_number


def judge(world: World) -> Verdict:
    """Of a world that has come to rest."""
    return _Judge(world).judge()
