"""Whether polls are missed where a board's counters wrap. Policy.

tick_wrap_missed_polls: polls that two units on one bus do not give in 13 virtual days, across each wrap of the 28-bit
counters (268 s of microseconds, 74.5 h of milliseconds) and that of MicroPython's own ticks, 2^30 ms, after 12.4 days;
beside them every request of which the stories of tests/board/test_wraps.py, started just before a wrap, have more or
less than the same story without one: there a unit is dead, an edge comes and goes, and record numbers wrap too.
"""

import sys
from pathlib import Path
from typing import Any

from tests.figures.figure import Measured

ROOT = Path(__file__).parents[2]
_DAYS = 13
_PERIOD_MS = 10_000
_DAY_MS = 86_400_000


def missed() -> Measured:
    """tick_wrap_missed_polls."""
    sys.path.append(str(ROOT / "firmware"))
    from tests.board import test_wraps
    from tests.hil import faulted_bus

    reads = (faulted_bus.READS[0], faulted_bus.READS[-1])
    bus = faulted_bus.FaultedBus(lambda _number, _unit_id, _address: (), period_ms=_PERIOD_MS, reads=reads)
    bus.run(_DAYS * _DAY_MS)
    due = len(reads) * _DAYS * _DAY_MS // _PERIOD_MS
    good = len(bus.good_since(0))
    stories = _stories(test_wraps)
    beside = (
        f"{good} of {due} polls in {_DAYS} days; {len(stories)} stories across a wrap of milliseconds, microseconds, "
        f"record numbers and all of them differ by {stories} requests"
    )
    return Measured(due - good + sum(stories), beside, spoilt=bool(bus.values.wrong))


def _stories(test_wraps: Any) -> list[int]:
    """By how many requests each story across a wrap differs from the one without."""
    half_ms, mask = test_wraps.LASTS_MS // 2, test_wraps.MASK
    starts = ((mask - half_ms, 0, 0), (0, mask - 1000 * half_ms, 0), (0, 0, mask - 40))
    starts += ((mask - half_ms, mask - 1000 * half_ms, mask - 40),)
    plain = _requests(test_wraps.story(0, 0, 0))
    return [len(plain ^ _requests(test_wraps.story(*start))) for start in starts]


def _requests(story: list[Any]) -> set[tuple[int, bytes]]:
    """When a board asked what."""
    return {(elapsed_ms, asked) for elapsed_ms, what, _oldest, _newest, asked in story if what == "asks"}
