"""What became of every answer of every unit: received once with its own time, or told as missing. Policy.

Reads what the district received and what the units said; knows nothing of the gateway but the numbers that it has given
out. Must never forgive: what it cannot explain is told.
"""

import json
from collections import Counter, defaultdict
from dataclasses import dataclass, field
from typing import Any

from tests.simulation.parts import Answer
from tests.simulation.world import REGISTERS, UNIT_IDS, World

_TOLERANCE_MS = 100  # from the last byte on the line to the sample's time
_NUMBERS = 4096  # an answer's number comes again after so many


@dataclass(slots=True)
class Verdict:
    """How one run ended. `faults` are sentences; a right gateway leaves none."""

    answers: int = 0
    readings: int = 0  # received, of answers
    missing: int = 0  # answers that a gap tells of
    gaps: Counter[str] = field(default_factory=Counter)
    doubles: int = 0  # messages that came again
    faults: list[str] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class _Gap:
    board: str | None
    from_ms: float
    to_ms: float


class _Judge:
    def __init__(self, world: World) -> None:
        self.world = world
        self.verdict = Verdict()
        self.starts_ms = {
            f"{name}/{boot}": at_us / 1000
            for name, board in world.boards.items()
            for boot, at_us in board.started_us.items()
        }
        self.found: dict[tuple[str, int], set[tuple[int, int]]] = defaultdict(set)  # unit -> (number, register)
        self.gaps: list[_Gap] = []
        self.said = {
            (board, unit_id): _by_number(units[unit_id].answers)
            for board, units in world.units.items()
            for unit_id in UNIT_IDS
        }

    def judge(self) -> Verdict:
        for document in self._messages():
            kind = document["schema"].split("/")[1]
            if kind == "data":
                for row in document["rows"]:
                    self._row(document, row)
            elif kind == "gap":
                self._gap(document)
        for (board, unit_id), by_number in self.said.items():
            for answers in by_number.values():
                for answer in answers:
                    self._answer(board, unit_id, answer)
        if not self.verdict.readings:
            self.verdict.faults.append("nothing was checked: no reading was received")
        return self.verdict

    def _messages(self) -> list[dict[str, Any]]:
        """Each message once, and each number of each stream there."""
        first: dict[tuple[str, str, int], bytes] = {}
        newest: dict[tuple[str, str], int] = defaultdict(int)
        for key, payload in self.world.broker.received:
            if key in first:
                self.verdict.doubles += 1
                if first[key] != payload:
                    self._fault(f"message {key} came again with another content")
                continue
            first[key] = payload
        for epoch, streams in self.world.gateway.last_seq().items():
            for stream, last in streams.items():
                newest[epoch, stream] = last
        for epoch, stream, seq in first:
            if seq > newest[epoch, stream]:
                self._fault(f"message {seq} of {epoch} {stream} was received, and is not in the store")
        for (epoch, stream), last in newest.items():
            holes = [seq for seq in range(1, last + 1) if (epoch, stream, seq) not in first]
            if holes:
                self._fault(f"{len(holes)} messages of {epoch} {stream} are missing, the first is {holes[0]} of {last}")
        return [json.loads(payload) for payload in first.values()]

    def _row(self, document: dict[str, Any], row: list[Any]) -> None:
        point, dt_ms, value = row[:3]
        if value is None:
            return
        unit, _dot, register = point.partition(".r")
        board, _dash, unit_id = unit.partition("-")
        place = board, int(unit_id)
        err_ms = (document["time"]["err_ms"] or 0) + _TOLERANCE_MS
        moments_ms = self._moments_ms(document, "t0", document["t0_ms"], dt_ms)
        for answer in self.said[place].get(value >> 4, ()):
            at_ms = answer.at_us / 1000
            if value & 15 == int(register) and any(abs(at_ms - moment_ms) <= err_ms for moment_ms in moments_ms):
                reading = answer.number, int(register)
                if reading in self.found[place]:
                    self._fault(f"{point}: answer {answer.number} was received twice")
                self.found[place].add(reading)
                self.verdict.readings += 1
                return
        self._fault(f"{point} = {value}, message {document['epoch']} {document['seq']}: no unit said so at that time")

    def _moments_ms(self, document: dict[str, Any], name: str, utc_ms: int | None, dt_ms: int = 0) -> list[float]:
        """When that was, by every clock that the gateway ever had, in milliseconds of the run."""
        if utc_ms is None:
            start_ms = self.starts_ms[document["boot"]]
            return [start_ms + document[f"{name}_uptime_ms"] + dt_ms]
        return [utc_ms + dt_ms - offset_ms for offset_ms in self.world.clock.offsets_ms]

    def _gap(self, document: dict[str, Any]) -> None:
        self.verdict.gaps[document["cause"]] += 1
        begins_ms = self._moments_ms(document, "from", document["from_ms"])
        ends_ms = self._moments_ms(document, "to", document["to_ms"])
        # Both by one clock: what was put in force in between would make a gap of hours of a second.
        for begin_ms, end_ms in zip(begins_ms, ends_ms, strict=True):
            self.gaps.append(_Gap(document["scope"]["board"], begin_ms, end_ms))

    def _answer(self, board: str, unit_id: int, answer: Answer) -> None:
        self.verdict.answers += 1
        found = sum((answer.number, register) in self.found[board, unit_id] for register in range(REGISTERS))
        if found == REGISTERS:
            return
        at_ms = answer.at_us / 1000
        is_told = any(
            gap.board in (None, board) and gap.from_ms - _TOLERANCE_MS <= at_ms <= gap.to_ms + _TOLERANCE_MS
            for gap in self.gaps
        )
        if is_told and not found:
            self.verdict.missing += 1
        else:
            place = f"{board} unit {unit_id}, answer {answer.number} at {at_ms / 1000:.3f} s"
            self._fault(f"{place}: {found} readings came, and no gap tells why")

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
