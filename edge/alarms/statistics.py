"""How well the alarms serve whoever reads them: floods, chattering, what stands and is stale, the ten worst. Policy.

Owns what the events of the journal come to, day by day. An alarm is announced when it first stands for somebody to see:
when it is raised, or when its shelf, its being out of service or the drill ends in which it was raised. Must never look
at a clock: a day is what lies between two midnights that the caller names.

Source: ISA-18.2, IEC 62682 and EEMUA 191 as public guides give them. A flood begins with ten alarms in ten minutes and
ends under five; three raisings of one alarm in a minute are chattering; one that stands for more than a day is stale.
"""

from bisect import bisect_right
from collections import Counter, deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from edge.alarms.lifecycle import RAISE, RE_ALARM

FLOOD_BEGINS = 10
FLOOD_ENDS = 5
WINDOW_MS = 600_000
CHATTERING = 3
CHATTER_MS = 60_000
STALE_MS = 24 * 3_600_000

_STANDS = ("UNACK", "ACKED")  # one that latches stands until it is reset
_PLAYED = ("test", "drill")

Timed = Sequence[tuple[int, Mapping[str, Any]]]  # events of the journal, with their times


@dataclass(frozen=True, slots=True)
class Span:
    """From when to when: a flood, or an alarm that stands. `end_ms` is None where it is not over."""

    begin_ms: int
    end_ms: int | None

    def by_day(self, midnights: Sequence[int], now_ms: int) -> Iterator[tuple[int, "Span"]]:
        """What of it lies in each day: the place of the midnight with which that begins, and the part."""
        for place in range(max(bisect_right(midnights, self.begin_ms) - 1, 0), len(midnights) - 1):
            first_ms, last_ms = midnights[place : place + 2]
            if self.end_ms is not None and self.end_ms <= first_ms:
                return
            end_ms = self.end_ms if self.end_ms is not None or now_ms < last_ms else last_ms
            yield place, Span(max(self.begin_ms, first_ms), None if end_ms is None else min(end_ms, last_ms))

    def until_ms(self, now_ms: int) -> int:
        """Its end so far."""
        return now_ms if self.end_ms is None else self.end_ms


@dataclass(slots=True)
class Day:
    """What was announced on one day, and what stood. `floods` and `flood_ms`: what of them lies in this day.

    `standing`: at its end, or now. `stale`: what at any time of it had been standing for more than a day.
    """

    alarms: Counter[str] = field(default_factory=Counter)
    priorities: Counter[int] = field(default_factory=Counter)
    most_in_ten_minutes: int = 0
    floods: list[Span] = field(default_factory=list)
    flood_ms: int = 0
    chattering: set[str] = field(default_factory=set)
    standing: set[str] = field(default_factory=set)
    stale: set[str] = field(default_factory=set)

    def worst(self) -> list[tuple[str, int]]:
        """The ten that were announced most."""
        return sorted(self.alarms.items(), key=lambda each: (-each[1], each[0]))[:10]

    def percent(self) -> dict[int, float]:
        """The share of each priority, the most urgent first."""
        return {each: round(100 * count / self.alarms.total(), 1) for each, count in sorted(self.priorities.items())}


def timed(events: Iterable[Mapping[str, Any]]) -> list[tuple[int, Mapping[str, Any]]]:
    """Each with its time in UTC: when it was so, else when it was decided, else not before the one before it."""
    t_ms, found = 0, []
    for event in events:
        t_ms = event["t_ms"] or event["decided_ms"] or t_ms
        found.append((t_ms, event))
    return found


def by_day(events: Timed, stays: Iterable[tuple[str, Span]], midnights: Sequence[int], now_ms: int) -> list[Day]:
    """A Day for each two neighbours of `midnights`, the last of which is to come.

    `events` are all that there are, as the journal has them; `stays` is what `standing` makes of them.
    """
    announced = sorted(_announced(events), key=lambda each: each[0])
    days = _counted(announced, midnights)
    for flood in _floods([t_ms for t_ms, _event in announced], now_ms):
        for place, part in flood.by_day(midnights, now_ms):
            days[place].floods.append(part)
            days[place].flood_ms += part.until_ms(now_ms) - part.begin_ms
    for alarm, stay in stays:
        for place, part in stay.by_day(midnights, now_ms):
            if part.end_ms in (None, midnights[place + 1]):
                days[place].standing.add(alarm)
            if part.until_ms(now_ms) - stay.begin_ms > STALE_MS:
                days[place].stale.add(alarm)
    return days


def _counted(announced: Timed, midnights: Sequence[int]) -> list[Day]:
    days = [Day() for _midnight in midnights[1:]]
    recent: deque[int] = deque()
    last: dict[str, deque[int]] = {}
    for t_ms, event in announced:
        alarm, place = event["alarm"], bisect_right(midnights, t_ms) - 1
        times = last.setdefault(alarm, deque(maxlen=CHATTERING))
        times.append(t_ms)
        recent.append(t_ms)
        while t_ms - recent[0] >= WINDOW_MS:
            recent.popleft()
        if not 0 <= place < len(days):
            continue
        day = days[place]
        day.alarms[alarm] += 1
        day.priorities[event["priority"]] += 1
        day.most_in_ten_minutes = max(day.most_in_ten_minutes, len(recent))
        if len(times) == CHATTERING and t_ms - times[0] < CHATTER_MS:
            day.chattering.add(alarm)
    return days


def _announced(events: Timed) -> Iterator[tuple[int, Mapping[str, Any]]]:
    """The events by which somebody learnt of a raising."""
    unheard = set()
    for t_ms, event in events:
        if event["transition"] in (RAISE, RE_ALARM):
            unheard.add(event["alarm"])
        if event["alarm"] in unheard and event["to"] in _STANDS and event["mode"] not in _PLAYED:
            unheard.discard(event["alarm"])
            yield t_ms, event


def _floods(times: Sequence[int], now_ms: int) -> Iterator[Span]:
    """By how many of these sorted times lie in the ten minutes before each moment at which that changes."""
    first = last = 0
    begin_ms = None
    for moment_ms in sorted({*times, *(each + WINDOW_MS for each in times)}):
        if moment_ms > now_ms:
            break
        while last < len(times) and times[last] <= moment_ms:
            last += 1
        while first < last and times[first] + WINDOW_MS <= moment_ms:
            first += 1
        if begin_ms is None and last - first >= FLOOD_BEGINS:
            begin_ms = moment_ms
        elif begin_ms is not None and last - first < FLOOD_ENDS:
            yield Span(begin_ms, moment_ms)
            begin_ms = None
    if begin_ms is not None:
        yield Span(begin_ms, None)


def standing(events: Timed, epochs: Sequence[tuple[str, int]]) -> Iterator[tuple[str, Span]]:
    """Each alarm's spans in the list of those that stand, by its state, whatever it was raised in.

    `epochs`: those of the gateway's processes and when they began, the newest last. Each begins by telling what stands
    from before: what it does not tell of ended with the one before it.
    """
    places = {epoch: place for place, (epoch, _began_ms) in enumerate(epochs)}
    since: dict[str, tuple[int, int]] = {}  # since when; in which epoch it was told last
    for t_ms, event in events:
        alarm, place = event["alarm"], places[event["epoch"]]
        since_ms, told = since.pop(alarm, (t_ms, place))
        if place > told and event["from"] not in _STANDS:
            yield alarm, Span(since_ms, max(epochs[told + 1][1], since_ms))
            since_ms = t_ms
        if event["to"] in _STANDS:
            since[alarm] = since_ms, place
        elif since_ms < t_ms:
            yield alarm, Span(since_ms, t_ms)
    for alarm, (since_ms, told) in since.items():
        is_over = told + 1 < len(epochs)
        yield alarm, Span(since_ms, max(epochs[told + 1][1], since_ms) if is_over else None)
