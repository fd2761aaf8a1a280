"""What faults on a line do to values and polls, in virtual time: the catalogue of hil_tests/bench/faults.py. Policy.

fault_kinds_passed: rows of the catalogue of which holds what must (tests/hil/fault_rows.py), each alone.
faulted_wrong_values: values under another register, unit or time that were taken as good, in 100,000 polls of three
units that all suffer from all rows; a fifth of the answers is struck, and the port is pulled out now and then. What the
edge flags by itself (no number, out of its range) is not taken as good. A CRC-16 does not see one damaged frame in
65,536; a wrong value needs unit, function and length to be right beside it.
recoverable_polls_lost: polls without a value in 10,000, a fifth of whose answers is struck by rows 1 to 3, 9 and 11.
replug_recovery_polls: periods from the end of noise that left no answer whole, or from the end of the 5 s of listening
after the port came back, to a good value of every unit, the worst of many. Reads that look like one whose answer may
still come wait for late_ms longer, as told beside.
"""

import os
import sys
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

from hil_tests.bench.faults import RECOVERABLE, Row
from tests.figures.figure import Measured

ROOT = Path(__file__).parents[2]
_POLLS = 100_000
_PART = 5_000  # of them, each with a seed of its own
_RECOVERABLE_POLLS = 10_000
_EPISODES = 40
_RUN_MS = 60_000


def kinds_passed() -> Measured:
    """fault_kinds_passed."""
    with ProcessPoolExecutor(os.cpu_count()) as pool:
        verdicts = list(pool.map(_judge, Row))
    return Measured(sum(passed for passed, _told in verdicts), "\n  ".join(["", *(told for _passed, told in verdicts)]))


def wrong_values() -> Measured:
    """faulted_wrong_values."""
    with ProcessPoolExecutor(os.cpu_count()) as pool:
        parts = list(pool.map(_mixed, range(_POLLS // _PART)))
    polls, wrong, lost, flagged = (sum(part[at] for part in parts) for at in range(4))
    silences = sum(part[4] for part in parts)
    beside = (
        f"in {polls} polls, seeds 0 to {len(parts) - 1}; {flagged} flagged by the edge, {lost} lost; {silences} times "
        f"damaged bytes had a right CRC and were taken for another master's request"
    )
    return Measured(wrong, beside)


def recoverable_lost() -> Measured:
    """recoverable_polls_lost."""
    bus = _rows().mixed_bus(1, RECOVERABLE)
    while len(bus.values.samples) < _RECOVERABLE_POLLS:
        bus.run(_RUN_MS)
    values = bus.values
    retried = sum(sample.first != 0 for sample in values.samples)
    beside = f"in {len(values.samples)} polls, {len(values.struck_ms)} answers struck, {retried} asked twice"
    return Measured(values.lost(), beside, spoilt=bool(values.wrong))


def replug_recovery() -> Measured:
    """replug_recovery_polls."""
    with ProcessPoolExecutor(os.cpu_count()) as pool:
        noise, replug = pool.map(_recover, ("noise", "replug"))
    period_ms = _rows().PERIOD_MS
    worst = max(noise[0], replug[0]) / period_ms
    periods = [[each / period_ms for each in took] for took in (noise, replug)]
    told = [f"{of_units:.2f} (every read {of_reads:.2f})" for of_units, of_reads in periods]
    beside = f"{_EPISODES} times each; after noise {told[0]}, after a replug {told[1]}; periods of {period_ms} ms"
    return Measured(round(worst, 2), beside)


def _rows() -> Any:
    """The rows in virtual time, which import the firmware as it lies in flash."""
    sys.path.append(str(ROOT / "firmware"))
    from tests.hil import fault_rows

    return fault_rows


def _judge(row: Row) -> tuple[bool, str]:
    verdict = _rows().judge(row)
    return not verdict.broken, str(verdict)


def _mixed(seed: int) -> tuple[int, int, int, int, int]:
    bus = _rows().mixed_bus(seed)
    while len(bus.values.samples) < _PART:
        bus.run(_RUN_MS)
    values = bus.values
    return len(values.samples), len(values.wrong), values.lost(), values.flagged, bus.overheard.requests


def _recover(kind: str) -> tuple[int, int]:
    """The longest until every unit is good again, and until every read is."""
    episodes = _rows().recoveries(kind, _EPISODES)
    return max(each[0] for each in episodes), max(each[1] for each in episodes)
