"""The folder of captures beside the store: what was on a bus when a unit of it went bad. Shell.

Owns its bounds: so many files and bytes, the oldest go first. Must never stop anything: a disk that takes nothing is
told in the log, and the capture is lost.
"""

import logging
import threading
import time
from gettext import gettext as _
from pathlib import Path
from urllib.parse import quote

from edge.rebuilt import WentBad, pcapng
from edge.troubles import trouble_text
from protocols.model import Line

log = logging.getLogger("tankgate")

NAME = "captures"
FILES_MAX = 50
BYTES_MAX = 20_000_000
_one_at_a_time = threading.Lock()  # when a supply fails, several buses go bad at once


def keep(folder: Path, bad: WentBad, line: Line) -> None:
    """Write its capture, and remove the oldest ones that are too many."""
    written = pcapng(bad, line)
    moment = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime())
    file = folder / f"{moment}-{quote(bad.bus, safe='')}-{bad.unit_id}-{bad.trouble}.pcapng"
    trouble = trouble_text(bad.trouble)
    text = _("bus {bus}, unit_id {unit_id}: {trouble} What was on the bus is in {file}")
    try:
        with _one_at_a_time:
            folder.mkdir(exist_ok=True)
            _make_room(folder, len(written))
            file.write_bytes(written)
    except OSError as fault:
        text = _("bus {bus}, unit_id {unit_id}: {trouble} What was on the bus cannot be kept in {file}: {fault}")
        log.warning(text.format(bus=bad.bus, unit_id=bad.unit_id, trouble=trouble, file=file, fault=fault))
    else:
        log.info(text.format(bus=bad.bus, unit_id=bad.unit_id, trouble=trouble, file=file))


def _make_room(folder: Path, need_bytes: int) -> None:
    files = sorted(folder.glob("*.pcapng"), key=lambda file: file.stat().st_mtime_ns, reverse=True)
    left_bytes = BYTES_MAX - need_bytes
    for i, file in enumerate(files):
        left_bytes -= file.stat().st_size
        if left_bytes < 0 or i >= FILES_MAX - 1:
            file.unlink(missing_ok=True)
