"""Whether any alarm or horn takes longer than `check` said that it may. Shell.

alarm_bound_exceeded: of 10,000 changes on the fake clock, at 40 random sites whose units answer at once, or each time
as late as it pleases them, a poll failing now and then; and of the 300 on the bench, whose units answer after 5 ms, by
the far end of what `check` says. Spoilt where there were fewer. Beside it, how near to its worst case the slowest came.
"""

import multiprocessing
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

from tests.figures.alarm_bench import Took
from tests.figures.alarm_times import undisturbed
from tests.figures.figure import Measured

ROOT = Path(__file__).parents[2]
SITES = 40
CHANGES = 250  # at each
BENCH_CHANGES = 300
_PROCESSES = 2
_IN_MEMORY = Path("/dev/shm")

_Shares = tuple[float, float]  # of the worst case that a change took, to the alarm and to the horn


def exceeded() -> Measured:
    """alarm_bound_exceeded."""
    sys.path.append(str(ROOT / "firmware"))
    with multiprocessing.Pool(_PROCESSES) as pool:
        simulated = [each for site in pool.imap_unordered(_at_a_site, range(SITES)) for each in site]
    on_the_bench = list(_on_the_bench())
    late = [each for each in (*simulated, *on_the_bench) if max(each) > 1]
    beside = f"on the fake clock {_told(simulated)}; on the bench {_told(on_the_bench)}"
    are_too_few = len(simulated) < SITES * CHANGES or len(on_the_bench) < BENCH_CHANGES
    return Measured(len(late), beside, spoilt=are_too_few)


def _at_a_site(seed: int) -> list[_Shares]:
    from tests.simulation.alarm_world import AlarmWorld

    with TemporaryDirectory(dir=_IN_MEMORY if _IN_MEMORY.is_dir() else None) as folder:
        world = AlarmWorld(seed, Path(folder), are_quick=seed % 2 == 0)
        with world.gateway.in_place():
            took = list(world.run(CHANGES))
            world.gateway.cut()
    return [(each.alarm_ms / each.alarm_most_ms, each.horn_ms / each.horn_most_ms) for each in took]


def _on_the_bench() -> Iterator[_Shares]:
    found = undisturbed()
    alarm_ms, horn = found.worst.alarm.slowest, found.worst.horn
    assert horn is not None
    for took in (each for window in found.windows for each in window):
        yield _took_ms(took, took.ordered_s) / alarm_ms, _took_ms(took, took.coil_s) / horn.slowest


def _took_ms(took: Took, at_s: float) -> float:
    return (at_s - took.changed_s) * 1000


def _told(shares: Iterable[_Shares]) -> str:
    shares = list(shares)
    alarm, horn = (max(each) for each in zip(*shares, strict=True))
    return f"{len(shares)} changes, at most {alarm:.0%} of the worst case to the alarm, {horn:.0%} to the horn"
