"""The sensors that every gateway under measurement reads: sensors.c, built and run; and its ledger. Shell.

Owns the process and the mapped ledger: what was served, and when. Must never answer by itself: a simulated bus in
Python would take a good part of the machine whose time is measured.
"""

import mmap
import struct
import subprocess
import time
from pathlib import Path

UNITS = REGISTERS = 32
_KEPT = 1024  # moments kept of one register
_SERVED = struct.Struct("=Q")
_START_S = 5.0


class Sensors:
    """One line of sensors on the pseudo-terminal `port`."""

    def __init__(self, directory: Path) -> None:
        program = directory / "sensors"
        if not program.exists():
            source = Path(__file__).with_name("sensors.c")
            subprocess.run(["gcc", "-O2", "-o", program, source], check=True)
        self.port = directory / "sensors.port"
        ledger = directory / "sensors.ledger"
        self._process = subprocess.Popen([program, self.port, ledger])
        deadline_s = time.monotonic() + _START_S
        while not self.port.is_symlink():
            if time.monotonic() > deadline_s or self._process.poll() is not None:
                raise OSError(f"{program}: no terminal after {_START_S} s")
            time.sleep(0.01)
        with ledger.open("rb") as file:
            self._ledger = mmap.mmap(file.fileno(), 0, prot=mmap.PROT_READ)

    def served(self, units: int, registers: int) -> int:
        """How many values units 1 to `units` have handed out of their first `registers` registers."""
        return sum(
            self._number(unit * REGISTERS + register)
            for unit in range(1, units + 1)
            for register in range(registers)
        )

    def line(self) -> tuple[int, int]:
        """How many requests were answered, and how many characters went over the line, either way."""
        after = UNITS * REGISTERS * (1 + _KEPT)
        return self._number(after), self._number(after + 1)

    def at_ns(self, unit_id: int, register: int, value: int) -> int:
        """The monotonic clock when the reply that carried this value of the register was complete."""
        row = unit_id * REGISTERS + register
        return self._number(UNITS * REGISTERS + row * _KEPT + value % _KEPT)

    def close(self) -> None:
        """Switch them off and take the port away."""
        self._process.kill()
        self._process.wait()
        self._ledger.close()
        self.port.unlink()

    def _number(self, index: int) -> int:
        number: int = _SERVED.unpack_from(self._ledger, index * _SERVED.size)[0]
        return number
