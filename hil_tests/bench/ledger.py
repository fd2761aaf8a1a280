"""The bench's own books: what was put on the wires, what was therefore due, and what the district received. Policy.

Owns the truth of every poll and the answer to "lost, duplicated, wrong?". The rule by which a reading is due (feed.md,
rule 8) is worked out here again, from its text, so that the gateway is not checked by its own code. Must never ask
the gateway anything: its inputs are the wires and the messages that `tankgate listen --json` prints.

What the bench cannot know it does not claim: a reading is due only where no right gateway could leave it out, so not
for a value exactly at the deadband, at the very heartbeat second, for a request whose failure the board may still
retry, nor because of a clock that was just stepped. A true reading beyond what is due is `extra`: these, and those
that changed an alarm. Whatever was in fact received is what the next reading is compared to; what a gap names never
came to a gateway that could compare with it.
"""

import math
from bisect import bisect_left, bisect_right
from collections import defaultdict, deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

_SLACK_MS = 60  # beside a message's err_ms: how far the bench's own times may be off on a busy machine
_STALL_MS = 2000  # how long after a period a board may stamp the last poll that the bench has seen
_SLOT_MS = 300  # how near the heartbeat second the two clocks may differ about it
_TWO_BUSES_MS = 200  # samples of a board's buses may lie in its ring in another order than on the wires
_STEP_SLACK_MS = 60_000  # how long a gateway may take to believe a stepped clock
_LATENCIES = 2000  # how many of the newest make the percentiles


@dataclass(frozen=True, slots=True)
class Rule:
    """What decides when a point's reading is due. `tolerance`: one step of its sensor, in the sheet's unit."""

    board: str
    bus: str
    period_ms: int
    deadband: float
    heartbeat_s: int
    tolerance: float = 0.0


@dataclass(frozen=True, slots=True)
class Poll:
    """What the wire says that one poll of a point gave.

    `utc_ms`: when the reply's last byte was on the wire, or a request that failed was heard. `until_ms`: when the
    board gives up such a request. `certain`: whether a reading must come of it; not so for a failure (the board
    may ask again) and for a reply that came late (the board may have stopped waiting).
    """

    point: str
    utc_ms: int
    until_ms: int
    value: float | None
    status: int
    detail: int = 0
    certain: bool = True


@dataclass(frozen=True, slots=True)
class Figures:
    """One line of account. `due` = `received` + `in_flight` + `lost` + `admitted`."""

    sampled: int  # polls with a certain end
    due: int
    received: int  # of the due
    extra: int  # received beyond them, and true: what changed an alarm, and what might be reported
    in_flight: int
    lost: int
    admitted: int  # not received, and named by a Gap record
    duplicated: int  # the same reading in two different messages
    wrong_values: int  # numbers, or their statuses, that no sensor gave
    unexplained: int  # readings without a value for polls that were answered well
    resent: int  # messages that came again, byte for byte: harmless
    p50_ms: float | None
    p99_ms: float | None


class _Memory(NamedTuple):
    """What the rule remembers after an entry."""

    last: int = -1  # the newest entry reported so far
    epoch: str = ""  # of the message that brought that one, where it came
    slot: int | None = None  # the heartbeat slot that is served
    missed: bool = False  # this was a failure that would have been due, had it been certain


_NOTHING = _Memory()


@dataclass(slots=True)
class _Entry:
    poll: Poll
    is_due: bool = False
    reading_ms: int | None = None  # the received reading's own time, in the gateway's clock
    epoch: str = ""  # of the message that brought it
    refused: bool = False  # the board said that it did not get it
    admitted: bool = False  # a gap names it
    memory: _Memory = _NOTHING


@dataclass(slots=True)
class _Track:
    rule: Rule
    entries: list[_Entry] = field(default_factory=list)
    times: list[int] = field(default_factory=list)
    seen: set[int] = field(default_factory=set)
    open: set[int] = field(default_factory=set)  # due and not received


@dataclass(frozen=True, slots=True)
class _Gap:
    from_ms: int
    to_ms: int
    scope: Mapping[str, Any]
    slack_ms: int

    def covers(self, point: str, rule: Rule, utc_ms: int) -> bool:
        points = self.scope.get("points")
        return (
            self.from_ms - self.slack_ms <= utc_ms <= self.to_ms + self.slack_ms
            and self.scope.get("board") in (None, rule.board)
            and self.scope.get("bus") in (None, rule.bus)
            and (points is None or point in points)
        )


class Ledger:
    """Feed it `polled` and `received` in any order; `figures` at any time."""

    def __init__(self, rules: Mapping[str, Rule], heartbeat_second: int) -> None:
        self._tracks = {point: _Track(rule) for point, rule in rules.items()}
        self._heartbeat_ms = heartbeat_second * 1000
        self._steps: list[tuple[int, int]] = []  # (from when, offset since then), both in the bench's clock
        self._epochs: dict[str, list[tuple[int, str]]] = defaultdict(list)  # board -> (first poll, epoch)
        self._messages: set[tuple[str, str, int]] = set()
        self._unsynced: dict[str, list[Callable[[Callable[[int], int]], None]]] = defaultdict(list)
        self._clocks: dict[str, Callable[[int], int]] = {}
        self._gaps: list[_Gap] = []
        self._disturbed_ms = 0
        self._latencies: deque[int] = deque(maxlen=_LATENCIES)
        self._sampled = self._due = self._received = self._extra = 0
        self._duplicated = self._wrong = self._unexplained = self._resent = 0
        self.findings: list[str] = []  # one sentence for each thing that is wrong, for the log

    # --- the wires ------------------------------------------------------------------------------------------

    def polled(self, polls: Iterable[Poll]) -> None:
        """What one exchange on a bus gave. Exchanges come in the order in which they ended."""
        for poll in polls:
            track = self._tracks[poll.point]
            # A failure bears the time of its request: a reply that came late to an earlier one may have ended since.
            track.times.append(max(poll.utc_ms, track.times[-1] if track.times else 0))
            track.entries.append(_Entry(poll, admitted=any(self._is_named(track, poll, gap) for gap in self._gaps)))
            self._sampled += poll.certain
            self._walk(track, len(track.entries) - 1)

    def clock_stepped(self, utc_ms: int, step_ms: int) -> None:
        """At `utc_ms` the gateway's clock was moved by `step_ms`."""
        self._steps.append((utc_ms, self._offset_at(utc_ms) + step_ms))

    def disturbed(self, utc_ms: int) -> None:
        """The bench broke something, or mended it: what is due may need its patience anew from here on."""
        self._disturbed_ms = utc_ms

    # --- the district ---------------------------------------------------------------------------------------

    def received(self, message: Mapping[str, Any]) -> None:
        """One object that `tankgate listen --json` printed."""
        payload = message["payload"]
        kind = payload["schema"].split("/")[1]
        if message["retained"] or kind not in ("data", "gap", "clock"):
            return
        identity = (payload["epoch"], payload["stream"], payload["seq"])
        if identity in self._messages:
            self._resent += 1
            return
        self._messages.add(identity)
        if kind == "data":
            self._data(payload, message["received_ms"])
        elif kind == "gap" and None not in (payload["from_ms"], payload["to_ms"]):
            slack_ms = _SLACK_MS + (payload["time"]["err_ms"] or 0)
            self._gap(_Gap(payload["from_ms"], payload["to_ms"], payload["scope"], slack_ms))
        elif kind == "clock":
            self._clock(payload)

    def _data(self, payload: Mapping[str, Any], received_ms: int) -> None:
        slack_ms = _SLACK_MS + (payload["time"]["err_ms"] or 0)
        start_ms = payload["t0_ms"]

        def take(utc_ms: Callable[[int], int], start_ms: int) -> None:
            for point, dt_ms, value, *rest in payload["rows"]:
                status, detail = (*rest, 0, 0)[:2]
                reading = Poll(point, utc_ms(start_ms + dt_ms), 0, value, status, detail)
                self._reading(reading, payload["epoch"], received_ms, slack_ms)

        if start_ms is not None:
            take(lambda utc_ms: utc_ms, start_ms)
        elif payload["boot"] in self._clocks:
            take(self._clocks[payload["boot"]], payload["t0_uptime_ms"])
        else:
            self._unsynced[payload["boot"]].append(lambda clock: take(clock, payload["t0_uptime_ms"]))

    def _gap(self, gap: _Gap) -> None:
        self._gaps.append(gap)
        for track in self._tracks.values():
            for offset in self._offsets():
                begin = bisect_left(track.times, gap.from_ms - offset - gap.slack_ms)
                for at in range(begin, bisect_right(track.times, gap.to_ms - offset + gap.slack_ms)):
                    entry = track.entries[at]
                    entry.admitted = entry.admitted or self._is_named(track, entry.poll, gap)
                    self._walk(track, at)

    def _is_named(self, track: _Track, poll: Poll, gap: _Gap) -> bool:
        return any(gap.covers(poll.point, track.rule, poll.utc_ms + offset) for offset in self._offsets())

    def _offsets(self) -> set[int]:
        return {0, *(offset for _, offset in self._steps)}

    def _clock(self, payload: Mapping[str, Any]) -> None:
        zero_ms, drift_ppm = payload["utc_at_uptime_0_ms"], payload["drift_ppm"]

        def clock(uptime_ms: int) -> int:
            return int(zero_ms + uptime_ms + round(uptime_ms * drift_ppm / 1e6))

        self._clocks[payload["boot"]] = clock
        for take in self._unsynced.pop(payload["boot"], []):
            take(clock)

    def _reading(self, reading: Poll, epoch: str, received_ms: int, slack_ms: int) -> None:
        track = self._tracks.get(reading.point)
        if track is None:
            self._note_wrong(reading, "the plant has no such point")
        elif reading.utc_ms in track.seen:
            self._duplicated += 1
            self.findings.append(f"{reading.point} {reading.utc_ms}: in two messages, again in {epoch}")
        else:
            track.seen.add(reading.utc_ms)
            at = self._matching(track, reading, slack_ms)
            if at is not None:
                self._accept(track, at, reading.utc_ms, epoch, received_ms)
            elif reading.value is not None or reading.status < 200:
                self._note_wrong(reading, "no sensor gave this")
            else:
                self._refused(track, reading)

    def _matching(self, track: _Track, reading: Poll, slack_ms: int) -> int | None:
        """The poll that a reading came of: one that it agrees with, ended before it, and was followed by the next
        only after it, for a board asks again only when it has stamped what it got."""
        times = track.times
        for offset in sorted(self._offsets(), key=abs):
            utc_ms = reading.utc_ms - offset
            for at in range(bisect_right(times, utc_ms + slack_ms) - 1, -1, -1):
                next_ms = times[at + 1] if at + 1 < len(times) else times[at] + track.rule.period_ms + _STALL_MS
                if next_ms < utc_ms - slack_ms:
                    break
                if track.entries[at].reading_ms is None and _agree(track, track.entries[at].poll, reading):
                    return at
        return None

    def _accept(self, track: _Track, at: int, reading_ms: int, epoch: str, received_ms: int) -> None:
        entry = track.entries[at]
        entry.reading_ms, entry.epoch = reading_ms, epoch
        if entry.is_due:
            self._received += 1
            track.open.discard(at)
        else:
            self._extra += 1
        self._latencies.append(received_ms - entry.poll.utc_ms)
        if not self._is_epoch_known(track.rule.board, epoch, entry.poll.utc_ms):
            for other in self._tracks.values():
                if other.rule.board == track.rule.board:
                    self._walk(other, bisect_left(other.times, entry.poll.utc_ms - _TWO_BUSES_MS), whole=True)
        else:
            self._walk(track, at)

    def _is_epoch_known(self, board: str, epoch: str, utc_ms: int) -> bool:
        """False when this poll is the first, so far, that a board's epoch brought."""
        epochs = self._epochs[board]
        for i, (first_ms, name) in enumerate(epochs):
            if name == epoch:
                if first_ms <= utc_ms:
                    return True
                del epochs[i]
                break
        epochs.append((utc_ms, epoch))
        epochs.sort()
        return False

    def _refused(self, track: _Track, reading: Poll) -> None:
        """The board says that nothing came where the bench had answered: counted, and the answer is not due."""
        self._unexplained += 1
        self.findings.append(f"{reading.point} {reading.utc_ms}: status {reading.status}, but the wire says otherwise")
        at = bisect_right(track.times, reading.utc_ms + _SLACK_MS) - 1
        if at >= 0 and track.entries[at].reading_ms is None:
            entry = track.entries[at]
            entry.refused = True
            self._walk(track, at)
            entry.reading_ms = reading.utc_ms  # and is what the next reading is compared to
            entry.poll = replace(entry.poll, value=None, status=reading.status, detail=reading.detail)
            self._walk(track, at)

    def _note_wrong(self, reading: Poll, why: str) -> None:
        self._wrong += 1
        self.findings.append(
            f"{reading.point} {reading.utc_ms}: {reading.value} status {reading.status} detail {reading.detail}: {why}"
        )

    # --- rule 8 ---------------------------------------------------------------------------------------------

    def _walk(self, track: _Track, at: int, whole: bool = False) -> None:
        """Apply the rule again from one entry on, until it changes nothing any more (or to the end)."""
        for index in range(at, len(track.entries)):
            entry = track.entries[index]
            before = track.entries[index - 1].memory if index else _NOTHING
            is_wanted = self._is_wanted(track, entry, before)
            is_due = is_wanted and self._must_come(entry, before)
            self._mark(track, index, is_due)
            if entry.reading_ms is None and entry.admitted:
                memory = before._replace(missed=False)
            elif entry.reading_ms is not None or is_due:
                memory = _Memory(index, entry.epoch, max(self._slots(track.rule, entry)))
            else:
                memory = before._replace(missed=is_wanted)
            unchanged = memory == entry.memory
            entry.memory = memory
            if unchanged and not whole:
                return

    def _mark(self, track: _Track, index: int, is_due: bool) -> None:
        entry = track.entries[index]
        if entry.is_due == is_due:
            return
        entry.is_due = is_due
        change = 1 if is_due else -1
        self._due += change
        if entry.reading_ms is not None:
            self._received += change
            self._extra -= change
        elif is_due:
            track.open.add(index)
        else:
            track.open.discard(index)

    def _is_wanted(self, track: _Track, entry: _Entry, before: _Memory) -> bool:
        """What the rule says of an entry, if its poll ended for certain."""
        if entry.refused:
            return False
        last = track.entries[before.last] if before.last >= 0 else None
        return (
            last is None
            or self._is_first_of_epoch(track.rule, entry, last)
            or self._is_change(track.rule, entry.poll, last.poll)
            or before.slot not in self._slots(track.rule, entry)
        )

    def _must_come(self, entry: _Entry, before: _Memory) -> bool:
        """One failure may be retried; two in a row that went unreported are one too many."""
        return entry.poll.certain or entry.poll.value is None and before.missed

    def _is_first_of_epoch(self, rule: Rule, entry: _Entry, last: _Entry) -> bool:
        begun = [e for e in self._epochs[rule.board] if e[0] <= entry.poll.utc_ms - _TWO_BUSES_MS]
        if not begun:
            return False
        return begun[-1][1] != (last.epoch or next((e for t, e in reversed(begun) if t <= last.poll.utc_ms), ""))

    def _is_change(self, rule: Rule, poll: Poll, last: Poll) -> bool:
        if (poll.status, poll.detail) != (last.status, last.detail):
            return True
        if poll.value is None or last.value is None:
            return False
        doubt = rule.tolerance + 1e-6 * max(abs(poll.value), rule.deadband)
        return abs(poll.value - last.value) > rule.deadband + doubt

    def _slots(self, rule: Rule, entry: _Entry) -> set[int]:
        """The heartbeat slots that a right gateway could see this reading in: one, but for doubts about time."""
        beat_ms = rule.heartbeat_s * 1000
        if entry.reading_ms is not None:
            return {(entry.reading_ms - self._heartbeat_ms) // beat_ms}
        return {
            (utc_ms + offset - self._heartbeat_ms) // beat_ms
            for utc_ms in (entry.poll.utc_ms - _SLOT_MS, max(entry.poll.utc_ms, entry.poll.until_ms) + _SLOT_MS)
            for offset in self._offsets_near(entry.poll.utc_ms)
        }

    def _offset_at(self, utc_ms: int) -> int:
        return next((offset for since_ms, offset in reversed(self._steps) if since_ms <= utc_ms), 0)

    def _offsets_near(self, utc_ms: int) -> set[int]:
        near = {self._offset_at(utc_ms)}
        for since_ms, offset in self._steps:
            if abs(utc_ms - since_ms) <= _STEP_SLACK_MS:
                near |= {offset, self._offset_at(since_ms - 1)}
        return near

    # --- the account ----------------------------------------------------------------------------------------

    def figures(self, utc_ms: int, patience_ms: int) -> Figures:
        """The account at `utc_ms`. What is due is in flight for `patience_ms` from its own time, or from the last
        disturbance if that was later; then it is lost."""
        admitted = lost = 0
        for entry, age_ms in self._missing(utc_ms):
            admitted += entry.admitted
            lost += not entry.admitted and age_ms > patience_ms
        return Figures(
            sampled=self._sampled,
            due=self._due,
            received=self._received,
            extra=self._extra,
            in_flight=self._due - self._received - lost - admitted,
            lost=lost,
            admitted=admitted,
            duplicated=self._duplicated,
            wrong_values=self._wrong,
            unexplained=self._unexplained,
            resent=self._resent,
            p50_ms=_percentile(self._latencies, 50),
            p99_ms=_percentile(self._latencies, 99),
        )

    def missing(self, utc_ms: int, patience_ms: int) -> list[Poll]:
        """What `figures` counts as lost."""
        return [entry.poll for entry, age_ms in self._missing(utc_ms) if not entry.admitted and age_ms > patience_ms]

    def _missing(self, utc_ms: int) -> Iterator[tuple[_Entry, int]]:
        """What is due and did not come, with its age."""
        for track in self._tracks.values():
            for at in sorted(track.open):
                entry = track.entries[at]
                since_ms = max(entry.poll.utc_ms, self._disturbed_ms)
                yield entry, utc_ms - since_ms


def _agree(track: _Track, poll: Poll, reading: Poll) -> bool:
    """Whether a reading says what the wire said."""
    if (poll.status, poll.detail) != (reading.status, reading.detail):
        return False
    if poll.value is None or reading.value is None:
        return poll.value is reading.value
    return math.isclose(poll.value, reading.value, rel_tol=1e-6, abs_tol=track.rule.tolerance)


def _percentile(values: Sequence[int], percent: int) -> float | None:
    """The nearest-rank percentile; None of nothing."""
    ordered = sorted(values)
    return float(ordered[math.ceil(len(ordered) * percent / 100) - 1]) if ordered else None
