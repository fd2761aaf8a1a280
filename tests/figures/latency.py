"""How long a new value takes to the receiver. Shell.

latency_urgent_p99_ms and latency_p99_ms: from the last byte of the reply that carries a value, by the sensors' clock,
to paho's callback at the receiver, by the same clock: board, link, daemon, disk, broker. 50 readings a second, every
reply with new values; all points urgent, or none. A sensor's change waits for its poll on top of that. All ten units
are due in the same moment of each second and answer at once: urgent ones queue for the disk behind each other.
"""

import time

from tests.figures.chain import ours
from tests.figures.figure import Figure
from tests.figures.load import Load
from tests.figures.receiver import unit_and_register

_SETTLE_S = 5.0
_WINDOW_S = 60.0


def urgent() -> Figure:
    """latency_urgent_p99_ms."""
    return _measure("latency_urgent_p99_ms", 25, True)


def ordinary() -> Figure:
    """latency_p99_ms."""
    return _measure("latency_p99_ms", 1200, False)


def _measure(name: str, bound: float, is_urgent: bool) -> Figure:
    with ours(Load(units=10, registers=5, period_ms=1000), is_urgent) as chain:
        time.sleep(_SETTLE_S)
        start_ns = time.monotonic_ns()
        time.sleep(_WINDOW_S)
        took_ms = sorted(
            (each.at_ns - chain.sensors.at_ns(*unit_and_register(each.point), each.value)) / 1e6
            for each in chain.receiver.received
            if each.at_ns >= start_ns
        )
    p99 = took_ms[len(took_ms) * 99 // 100]
    beside = f"{len(took_ms)} readings: half within {took_ms[len(took_ms) // 2]:.1f}, the last {took_ms[-1]:.1f}"
    return Figure(name, round(p99, 1), "ms", bound, beside)
