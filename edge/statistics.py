"""How units answer and how buses fare: counts since the start of this process, and of its last hour. Policy.

Owns what a sample and a COUNTS record of a board add to which figure. A minute is one of the gateway's own clock, in
which a record came: what a board kept while the gateway was off counts when it comes. Reply times are kept as a sample
brings them, in whole milliseconds up to 100 and in steps of 20 from there on: so fine is each percentile.
Must never judge (`troubles.py` does), nor read a clock. Kept in memory only, 60 rows a figure at most.
"""

from collections import Counter, deque
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar

from protocols import link, modbus, octets
from protocols.link_edge import reply_ms

OUTCOMES = {
    modbus.OK: "ok",
    modbus.TIMEOUT: "timeout",
    modbus.BAD_CRC: "crc",
    modbus.SHORT: "short",
    modbus.WRONG_REPLY: "foreign",
    modbus.EXCEPTION: "exception",
}
RETRIED = ("retried_timeout", "retried_crc", "retried_short", "retried_foreign")  # first tries, by how they failed
_STATES = {link.POLLING: "polling", link.LISTENING: "listening", link.OTHER_MASTER: "other_master"}
LATELY = 3
_HOUR_MINUTES = 60
_PEAK_SPAN_MS = 10_000  # the load of a shorter span, before a change of state, says nothing of the bus

What = TypeVar("What", str, int)


class Window(Generic[What]):
    """Counts of anything: `since_start`, of the last hour, of the last minute."""

    def __init__(self) -> None:
        self.since_start: Counter[What] = Counter()
        self._hour: Counter[What] = Counter()
        self._minutes: deque[tuple[int, Counter[What]]] = deque()  # those in which something was counted

    def count(self, what: What, now_s: float, times: int = 1) -> None:
        """It happened, so many times."""
        if not times:
            return
        self._forget(now_s)
        minute = int(now_s // 60)
        if not self._minutes or self._minutes[-1][0] != minute:
            self._minutes.append((minute, Counter()))
        self.since_start[what] += times
        self._hour[what] += times
        self._minutes[-1][1][what] += times

    def hour(self, now_s: float) -> Counter[What]:
        """The running minute and the 59 before it."""
        self._forget(now_s)
        return self._hour

    def minute(self, now_s: float) -> Counter[What]:
        """The last whole minute."""
        last = int(now_s // 60) - 1
        return next((counts for minute, counts in self._minutes if minute == last), Counter())

    def _forget(self, now_s: float) -> None:
        while self._minutes and self._minutes[0][0] <= now_s // 60 - _HOUR_MINUTES:
            self._hour -= self._minutes.popleft()[1]


@dataclass(slots=True)
class Unit:
    """`counts` by OUTCOMES, RETRIED and "late"; `exceptions` by their code; `replies` by link's `answered`."""

    counts: Window[str] = field(default_factory=Window)
    exceptions: Window[int] = field(default_factory=Window)
    replies: Window[int] = field(default_factory=Window)
    last_ok_ms: int | None = None  # UTC
    lately: deque[str] = field(default_factory=lambda: deque(maxlen=LATELY))  # how its last polls ended

    def row(self, now_s: float) -> list[Any]:
        """As the feed's `state` has a unit, from the third column on: counts since the start, times of the hour."""
        counts = self.counts.since_start
        first = [counts[what] for what in ("ok", "timeout", "crc", "late", "exception")]
        times = reply_times(self.replies.hour(now_s))
        last = [counts["short"], counts["foreign"], sum(counts[what] for what in RETRIED)]
        return [*first, times["reply_p95_ms"], self.last_ok_ms, *last]

    def figures(self, now_s: float) -> dict[str, Any]:
        """All that is known, for `tankgate status --json`."""
        return {
            "last_ok_ms": self.last_ok_ms,
            "since_start": _unit_figures(
                self.counts.since_start, self.exceptions.since_start, self.replies.since_start
            ),
            "hour": _unit_figures(self.counts.hour(now_s), self.exceptions.hour(now_s), self.replies.hour(now_s)),
            "minute": _unit_figures(
                self.counts.minute(now_s), self.exceptions.minute(now_s), self.replies.minute(now_s)
            ),
        }


@dataclass(slots=True)
class Bus:
    """`counts`: overruns, foreign, stray_bytes, busy_ms, span_ms. `state` is link's, of `boot`; None: not yet heard."""

    state: int | None = None
    boot: str | None = None
    load_pct: int | None = None  # of the last record
    peak_load_pct: int | None = None
    counts: Window[str] = field(default_factory=Window)

    @property
    def state_name(self) -> str | None:
        """Polling, listening or other_master."""
        return None if self.state is None else _STATES[self.state]

    def row(self) -> list[Any]:
        """As the feed's `state` has a bus, from the second column on."""
        counts = self.counts.since_start
        return [
            self.state_name,
            self.load_pct,
            counts["overruns"],
            counts["foreign"],
            counts["stray_bytes"],
        ]

    def figures(self, now_s: float) -> dict[str, Any]:
        """All that is known, for `tankgate status --json`."""
        return {
            "load_pct": self.load_pct,
            "peak_load_pct": self.peak_load_pct,
            "since_start": _bus_figures(self.counts.since_start),
            "hour": _bus_figures(self.counts.hour(now_s)),
            "minute": _bus_figures(self.counts.minute(now_s)),
        }


class Statistics:
    """Of all units, by (bus, unit id), and of all buses of one gateway."""

    def __init__(self) -> None:
        self.units: dict[tuple[str, int], Unit] = {}
        self.buses: dict[str, Bus] = {}

    def sample(self, name: tuple[str, int], body: bytes, utc_ms: int | None, now_s: float) -> None:
        """How one poll of a unit ended: `body` as link.SAMPLE lays it down. A read that was not asked is no poll."""
        unit = self.units.setdefault(name, Unit())
        answered = body[8]
        if answered == link.NOT_ASKED:
            return
        outcome = OUTCOMES[body[1] & 15]
        unit.counts.count(outcome, now_s)
        unit.lately.append(outcome)
        first_try = f"retried_{OUTCOMES.get(body[1] >> 4)}"
        if first_try in RETRIED:
            unit.counts.count(first_try, now_s)
        if outcome in ("ok", "exception"):
            unit.replies.count(answered, now_s)
        if outcome == "ok":
            unit.last_ok_ms = utc_ms
        elif outcome == "exception" and len(body) > link.SAMPLE_HEAD_BYTES:
            unit.exceptions.count(body[link.SAMPLE_HEAD_BYTES], now_s)

    def counts(self, name: str, boot: str, body: bytes, late: Mapping[tuple[str, int], int], now_s: float) -> None:
        """What a board counted on a bus: `body` as link.COUNTS lays it down, its units' late replies in `late`.

        The counts are those of the time before the state was `body`'s. What a board could not ask while the bus was
        not its own is no overrun.
        """
        bus = self.buses.setdefault(name, Bus())
        span_ms, busy_ms, overruns, foreign, stray_bytes = (octets.get_u16(body, at) for at in range(8, 18, 2))
        if (bus.state, bus.boot) == (link.POLLING, boot):
            bus.counts.count("overruns", now_s, overruns)
        bus.counts.count("foreign", now_s, foreign)
        bus.counts.count("stray_bytes", now_s, stray_bytes)
        bus.counts.count("busy_ms", now_s, busy_ms)
        bus.counts.count("span_ms", now_s, span_ms)
        if span_ms >= _PEAK_SPAN_MS:
            bus.load_pct = _percent(busy_ms, span_ms)
            bus.peak_load_pct = max(bus.peak_load_pct or 0, bus.load_pct)
        bus.state = body[1]
        bus.boot = boot
        for unit, times in late.items():
            self.units.setdefault(unit, Unit()).counts.count("late", now_s, times)


def reply_times(replies: Mapping[int, int]) -> dict[str, int | None]:
    """The least, the middle, the 95th of a hundred and the most, in ms; None without a reply. By nearest rank."""
    names = ("reply_min_ms", "reply_p50_ms", "reply_p95_ms", "reply_max_ms")
    ranks = nearest_ranks(replies)
    return dict(zip(names, map(reply_ms, ranks), strict=True)) if ranks else dict.fromkeys(names)


def nearest_ranks(counts: Mapping[int, int]) -> list[int]:
    """The least, the middle, the 95th of a hundred and the most of so many of each; empty where there are none."""
    total = sum(counts.values())
    if not total:
        return []
    ranks = [1, -(-total * 50 // 100), -(-total * 95 // 100), total]
    found: list[int] = []
    passed = 0
    for value in sorted(counts):
        passed += counts[value]
        while len(found) < len(ranks) and passed >= ranks[len(found)]:
            found.append(value)
    return found


def _unit_figures(counts: Counter[str], exceptions: Counter[int], replies: Counter[int]) -> dict[str, Any]:
    return (
        {what: counts[what] for what in (*OUTCOMES.values(), *RETRIED, "late")}
        | {"exceptions": {str(code): times for code, times in sorted(exceptions.items())}}
        | reply_times(replies)
    )


def _bus_figures(counts: Counter[str]) -> dict[str, Any]:
    span_ms = counts["span_ms"]
    return {
        "load_pct": _percent(counts["busy_ms"], span_ms) if span_ms else None,
        "overruns": counts["overruns"],
        "foreign": counts["foreign"],
        "stray_bytes": counts["stray_bytes"],
    }


def _percent(busy_ms: int, span_ms: int) -> int:
    return min(round(100 * busy_ms / span_ms), 100)
