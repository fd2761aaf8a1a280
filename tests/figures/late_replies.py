"""Whether a reply that comes late is ever taken for the reply to another read. Policy.

late_replies_misfiled: good samples that hold another read's registers, in virtual time, over every ordered pair of
reads of one unit with replies of the same shape (A late, B due next), every beginning of the late reply from 1 ms to
the unit's time-out and late_ms together, and patterns of late, lost and timely replies (tests/board/test_poller.py).
Each is tried on a unit that was never late before, and once more on the same, since a board may learn from it.
"""

import os
import sys
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

from tests.figures.figure import Measured

ROOT = Path(__file__).parents[2]
_STEP_MS = 1


def misfiled() -> Measured:
    """late_replies_misfiled."""
    late = _simulation()
    cases = [(reads, pattern) for pattern in reversed(late.LATE_PATTERNS) for reads in late.late_pairs()]
    with ProcessPoolExecutor(os.cpu_count()) as pool:
        counts = list(pool.map(_run, cases))
    wrong = sum(count[0] for count in counts)
    worst = max(zip(counts, cases, strict=True))
    (most, _good), ((late_read, next_read, *_others), pattern) = worst
    where = f"; most, {most}, where {late_read} is {pattern!r} and {next_read} next" if wrong else ""
    last_ms = late.LateUnit.TIMEOUT_MS + late.LateUnit.LATE_MS
    beside = (
        f"of {sum(count[1] for count in counts)} good samples; {len(cases)} pairs and patterns, replies that begin "
        f"{_STEP_MS} to {last_ms} ms after their request, in steps of {_STEP_MS} ms{where}"
    )
    return Measured(wrong, beside)


def _simulation() -> Any:
    """The simulated bus of the board's tests, which import the firmware as it lies in flash."""
    sys.path.append(str(ROOT / "firmware"))
    from tests.board import test_poller

    return test_poller


def _run(case: tuple[Any, str]) -> tuple[int, int]:
    """Misfiled and good samples of one pair and pattern, over all delays."""
    late = _simulation()
    reads, pattern = case
    wrong = good = 0
    for after_ms in range(_STEP_MS, late.LateUnit.TIMEOUT_MS + late.LateUnit.LATE_MS + 1, _STEP_MS):
        unit = late.LateUnit(reads)
        unit.episode(pattern, after_ms)
        unit.episode(pattern, after_ms)
        wrong += unit.misfiled
        good += unit.good
    return wrong, good
