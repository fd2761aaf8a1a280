"""Starts the simulated lines that are written in C: built, run, and ready with a terminal and a mapped ledger. Shell.

In C because a simulated bus in Python would take a good part of the machine whose time is measured.
"""

import mmap
import subprocess
import time
from pathlib import Path

_START_S = 5.0


class Terminal:
    """The program `source` (C, beside this file) on its own terminal `port`; `ledger` is the memory that it maps."""

    def __init__(self, source: str, directory: Path, name: str, *arguments: str) -> None:
        program = directory / source
        if not program.exists():
            subprocess.run(["gcc", "-O2", "-o", program, Path(__file__).with_name(f"{source}.c")], check=True)
        self.port = directory / f"{name}.port"
        ledger = directory / f"{name}.ledger"
        self._process = subprocess.Popen([program, self.port, ledger, *arguments])
        deadline_s = time.monotonic() + _START_S
        while not self.port.is_symlink():
            if time.monotonic() > deadline_s or self._process.poll() is not None:
                raise OSError(f"{program}: no terminal after {_START_S} s")
            time.sleep(0.01)
        with ledger.open("r+b") as file:
            self.ledger = mmap.mmap(file.fileno(), 0)

    def close(self) -> None:
        """Switch it off and take the port away."""
        self._process.kill()
        self._process.wait()
        self.ledger.close()
        self.port.unlink()
