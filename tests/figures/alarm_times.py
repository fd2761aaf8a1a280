"""How long an alarm takes to disk, to the district and to the horn, and what makes that longer. Shell.

alarm_commit_p99_ms, alarm_publish_p99_ms, alarm_horn_p99_ms: from the last byte of the reply that has the value, on the
bus, to the acknowledgement on the link that says it is on disk, to paho's callback at the receiver, to the last bit of
the write to the horn's coil, on the alarm's own bus. On that bus one poll may just be going on, which is most of it.
The median of three windows' 99th percentiles, all three beside it.

alarm_horn_disk_hung, alarm_horn_uplink_down, alarm_commit_slow_unit: the same with the store's disk frozen, with a path
to the broker on which all is lost, with a unit that answers after 500 ms on the board's other bus; to the same as it
was in between, since the two take turns.
"""

import math
import statistics
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from functools import cache

from edge.forecast import Worst
from tests.figures.alarm_bench import SLOW_S, TAKES_S, AlarmBench, Took, alarm_bench
from tests.figures.figure import Measured

WINDOWS = 3
CHANGES = 100  # in a window
_TURNS = 3
_OF_A_TURN = 50
_ALL = ("ordered_s", "coil_s", "committed_s", "published_s")


@dataclass(frozen=True, slots=True)
class Undisturbed:
    """Window after window, nothing else happening; `worst`: what `check` said of it."""

    windows: list[list[Took]]
    worst: Worst


@cache
def undisturbed() -> Undisturbed:
    """Measured once for all figures that are of it."""
    with alarm_bench() as bench:
        return Undisturbed([bench.changes(CHANGES, _ALL) for _window in range(WINDOWS)], bench.worst())


def commit() -> Measured:
    """alarm_commit_p99_ms."""
    return _measured("committed_s")


def publish() -> Measured:
    """alarm_publish_p99_ms."""
    return _measured("published_s")


def horn() -> Measured:
    """alarm_horn_p99_ms."""
    return _measured("coil_s")


def horn_disk_hung() -> Measured:
    """alarm_horn_disk_hung."""
    return _ratio("coil_s", _frozen, with_disk=True)


def horn_uplink_down() -> Measured:
    """alarm_horn_uplink_down."""
    return _ratio("coil_s", _silent)


def commit_slow_unit() -> Measured:
    """alarm_commit_slow_unit."""
    return _ratio("committed_s", _slow)


def _measured(what: str) -> Measured:
    windows = [_took_ms(window, what) for window in undisturbed().windows]
    return Measured(round(_typical_ms(windows), 1), _told(windows))


def _ratio(
    what: str, disturbed: Callable[[AlarmBench], AbstractContextManager[None]], with_disk: bool = False
) -> Measured:
    before: list[list[float]] = []
    during: list[list[float]] = []
    with alarm_bench(with_disk) as bench:
        for _turn in range(_TURNS):
            before.append(_took_ms(bench.changes(_OF_A_TURN, (what,)), what))
            with disturbed(bench):
                during.append(_took_ms(bench.changes(_OF_A_TURN, (what,)), what))
    ratio = _typical_ms(during) / _typical_ms(before)
    return Measured(round(ratio, 2), f"disturbed: {_told(during)}. As it is: {_told(before)}")


@contextmanager
def _frozen(bench: AlarmBench) -> Iterator[None]:
    assert bench.disk is not None
    bench.disk.freeze()
    try:
        yield
    finally:
        bench.disk.thaw()  # or nothing that has files there could even be killed
    bench.catch_up()


@contextmanager
def _silent(bench: AlarmBench) -> Iterator[None]:
    bench.path.silent = True
    yield
    bench.path.silent = False


@contextmanager
def _slow(bench: AlarmBench) -> Iterator[None]:
    bench.other.takes_s = SLOW_S
    yield
    bench.other.takes_s = TAKES_S


def _took_ms(window: Sequence[Took], what: str) -> list[float]:
    """Rising."""
    return sorted((getattr(took, what) - took.replied_s) * 1000 for took in window)


def _typical_ms(windows: Sequence[Sequence[float]]) -> float:
    return statistics.median(_p99(took_ms) for took_ms in windows)


def _p99(took_ms: Sequence[float]) -> float:
    return took_ms[math.ceil(len(took_ms) * 0.99) - 1]


def _told(windows: Sequence[Sequence[float]]) -> str:
    return "; ".join(
        f"{len(took_ms)} changes: half within {took_ms[len(took_ms) // 2]:.1f} ms, 99 % {_p99(took_ms):.1f}, "
        f"all {took_ms[-1]:.1f}"
        for took_ms in windows
    )
