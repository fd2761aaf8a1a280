"""A virtual board's process, started for measuring: its id can be had, and its heap and program chosen. Shell."""

import os
import subprocess
from collections.abc import Sequence
from pathlib import Path

from hil_tests.bench.board import DIES_WITH_ITS_STARTER

BOARD_ID = "esp32s3-7cdfa1e40c11"


def power_on(
    command: Sequence[str | Path], flash: Path, uarts: Sequence[str], link: str, console: Path
) -> subprocess.Popen[bytes]:
    """Run `command` in a filled flash directory, on the terminals of its buses and its link."""
    environment = {"TANKGATE_BOARD_ID": BOARD_ID, "TANKGATE_LINK": link}
    environment |= {f"TANKGATE_UART{uart}": path for uart, path in enumerate(uarts, start=1)}
    with console.open("wb") as said:
        return subprocess.Popen(
            [*DIES_WITH_ITS_STARTER, *command], cwd=flash, env={**os.environ, **environment}, stdout=said, stderr=said
        )
