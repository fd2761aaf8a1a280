"""How long a new value takes to the receiver. Shell.

latency_urgent_p99_ms and latency_p99_ms: from the last byte of the reply that carries a value, by the sensors' clock,
to paho's callback at the receiver, by the same clock: board, link, daemon, disk, broker. 50 readings a second, every
reply with new values; all points urgent, or none. A sensor's change waits for its poll on top of that. All ten units
are due in the same moment of each second and answer at once: urgent ones queue for the disk behind each other. The
figure is the median of three windows' 99th percentiles, and beside it stand all three.
"""

import statistics
import time

from tests.figures.chain import Chain, ours
from tests.figures.figure import Measured
from tests.figures.load import Load
from tests.figures.receiver import unit_and_register

WINDOWS = 3
_SETTLE_S = 5.0
_WINDOW_S = 25.0


def urgent() -> Measured:
    """latency_urgent_p99_ms."""
    return _measure(is_urgent=True)


def ordinary() -> Measured:
    """latency_p99_ms."""
    return _measure(is_urgent=False)


def _measure(is_urgent: bool) -> Measured:
    with ours(Load(units=10, registers=5, period_ms=1000), is_urgent) as chain:
        time.sleep(_SETTLE_S)
        windows = [_window(chain) for _ in range(WINDOWS)]
    p99s = [took_ms[len(took_ms) * 99 // 100] for took_ms in windows]
    beside = "; ".join(
        f"{len(took_ms)} readings: half within {took_ms[len(took_ms) // 2]:.1f}, 99 % {p99:.1f}, all {took_ms[-1]:.1f}"
        for took_ms, p99 in zip(windows, p99s, strict=True)
    )
    return Measured(round(statistics.median(p99s), 1), beside)


def _window(chain: Chain) -> list[float]:
    """What each reading took, in rising milliseconds; every reading that came in the window."""
    start_ns = time.monotonic_ns()
    time.sleep(_WINDOW_S)
    return sorted(
        (each.at_ns - chain.sensors.at_ns(*unit_and_register(each.point), each.value)) / 1e6
        for each in chain.receiver.received
        if each.at_ns >= start_ns
    )
