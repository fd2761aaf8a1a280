"""What the daemon keeps in memory. Shell.

edge_rss_mib: VmRSS of the daemon's process, all that it shares with others counted in full, with 400 points polled and
reported every second for five minutes.
"""

import time

from tests.figures.chain import ours
from tests.figures.cost import resident_kib
from tests.figures.figure import Measured
from tests.figures.load import Load

_MINUTES = 5


def resident() -> Measured:
    """edge_rss_mib."""
    with ours(Load(units=20, registers=20, period_ms=1000)) as chain:
        daemon = chain.gateway.pids[0]
        start = resident_kib(daemon)
        time.sleep(_MINUTES * 60)
        end = resident_kib(daemon)
    beside = (
        f"{start['VmRSS'] / 1024:.1f} at the first reading, {end['VmHWM'] / 1024:.1f} at most; of the figure "
        f"{end['RssAnon'] / 1024:.1f} its own and {end['RssFile'] / 1024:.1f} files"
    )
    return Measured(round(end["VmRSS"] / 1024, 1), beside)
