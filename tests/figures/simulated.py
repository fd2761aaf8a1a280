"""How fast the whole chain lives on a fake clock, in two processes, with everything that happens to it. Shell.

simulated_hours_per_minute: two boards of three units, ten registers each, every five seconds; spoilt by one answer of a
unit that was neither received once, in order and with its own time, nor told as missing.
"""

import sys
import time
from pathlib import Path

from tests.figures.figure import Measured

ROOT = Path(__file__).parents[2]
_SEEDS = 48  # an end where one process waits for the other weighs little
_HOURS = 6.0


def hours_per_minute() -> Measured:
    """simulated_hours_per_minute."""
    sys.path.append(str(ROOT / "firmware"))
    from tests.simulation.__main__ import lives
    from tests.simulation.judge import Verdict

    total, failed = Verdict(), []
    begun_s = time.monotonic()
    for seed, verdict, _done in lives(range(_SEEDS), _HOURS):
        total.add(verdict)
        failed += [seed] if verdict.faults else []
    rate = _SEEDS * _HOURS / (time.monotonic() - begun_s) * 60
    beside = f"{_SEEDS} seeds, failed: {failed or 'none'}; {total}"
    return Measured(round(rate, 1), beside, spoilt=bool(failed) or not total.readings)
