"""What is missing when the Pi comes back. Shell.

pi_off_lost: the daemon is killed (-9) and stays away for 120 s while boards and sensors go on, on the example's site
with every poll due; then it starts again. The figure is of the readings that were due until then and are not in the
district's database: those that a gap record names as well, for the boards' rings must hold them all.
"""

import tempfile
import time
from pathlib import Path

from tests.figures.figure import Measured
from tests.figures.judged_chain import judged

_BEFORE_S = 15.0
_OFF_S = 120.0
_AFTER_S = 10.0
_PATIENCE_S = 120.0


def lost() -> Measured:
    """pi_off_lost."""
    with tempfile.TemporaryDirectory(prefix="figures-") as name, judged(Path(name)) as chain:
        chain.run(_BEFORE_S)
        chain.kill_gateway()
        before = chain.answered
        chain.run(_OFF_S)
        polls = chain.answered - before
        chain.start_gateway()
        began_s = time.monotonic()
        chain.run(_AFTER_S)
        lost = chain.lost(chain.now_ms, _PATIENCE_S)
        took_s = time.monotonic() - began_s
        figures = chain.figures()
        log = chain.log("gateway").read_text(encoding="utf-8")
    findings = "".join(f"; {finding}" for finding in chain.bench.ledger.findings[:5])
    beside = (
        f"{polls} polls were answered meanwhile; of {figures.due} due readings {figures.received} in the database "
        f"{took_s:.0f} s after its return, {figures.admitted} named by gaps, wrong {figures.wrong_values}, twice "
        f"{figures.duplicated}{findings}"
    )
    is_wrong = bool(figures.wrong_values or figures.duplicated) or "Traceback" in log
    return Measured(len(lost) + figures.admitted, beside, spoilt=is_wrong or not polls)
