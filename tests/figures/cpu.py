"""What a reading costs, beside what it costs the peer. Shell.

cpu_vs_thingsboard_50 and _4000: CPU of the daemon for each reading that reached the receiver, divided by the same of
thingsboard-gateway: from the sample (bytes in a serial port) to the PUBACK, disk included, at 10 units x 5 readings a
second and at 20 x 20 each 100 ms. The two take turns, three rounds in one run, and each round gives one ratio; the
figure is their median. Beside it stand both costs, and ours with the virtual board's process, since the peer polls the
line itself: on a site that is another machine's time. The peer is asked 16-bit registers one by one, as it reads tags;
the daemon's board asks for a unit's registers at once. Each side is charged for the readings that it delivered.
"""

import statistics
import time
from dataclasses import dataclass

from tests.figures import thingsboard
from tests.figures.chain import Chain, ours, theirs
from tests.figures.cost import cpu_ns
from tests.figures.figure import Measured
from tests.figures.load import Load

ROUNDS = 3
_SETTLE_S = 6.0
_WINDOW_S = 20.0


@dataclass(frozen=True, slots=True)
class _Run:
    """One window of one gateway: microseconds of CPU a reading, of the gateway and of all its processes."""

    gateway_us: float
    all_us: float
    readings_per_s: float
    lost: int
    twice: int


def at_50() -> Measured:
    """cpu_vs_thingsboard_50."""
    return _compare(Load(units=10, registers=5, period_ms=1000))


def at_4000() -> Measured:
    """cpu_vs_thingsboard_4000."""
    return _compare(Load(units=20, registers=20, period_ms=100))


def _compare(load: Load) -> Measured:
    thingsboard.install()
    rounds = [(_measure(ours(load)), _measure(theirs(load))) for _ in range(ROUNDS)]
    ratio = statistics.median(our.gateway_us / their.gateway_us for our, their in rounds)
    with_board = statistics.median(our.all_us / their.gateway_us for our, their in rounds)
    beside = (
        f"with the virtual board {with_board:.4f}; us a reading, ours: {_each(rounds, 0)}; theirs: {_each(rounds, 1)}"
    )
    return Measured(round(ratio, 4), beside)


def _each(rounds: list[tuple[_Run, _Run]], side: int) -> str:
    return ", ".join(
        f"{run.gateway_us:.1f} at {run.readings_per_s:.0f}/s ({run.lost} lost, {run.twice} twice)"
        for run in (each[side] for each in rounds)
    )


def _measure(chain: Chain) -> _Run:
    with chain:
        time.sleep(_SETTLE_S)
        start_ns = chain.next_message_ns()
        before = [cpu_ns(pid) for pid in chain.gateway.pids]
        time.sleep(_WINDOW_S)
        end_ns = chain.next_message_ns()
        spent = [cpu_ns(pid) - was for pid, was in zip(chain.gateway.pids, before, strict=True)]
        readings = chain.receiver.between(start_ns, end_ns)
        lost, twice = chain.receiver.lost_and_twice()
    return _Run(
        spent[0] / 1000 / readings, sum(spent) / 1000 / readings, readings * 1e9 / (end_ns - start_ns), lost, twice
    )
