"""The sensors that every gateway under measurement reads: sensors.c and its ledger, what was served and when. Shell."""

import struct
from pathlib import Path

from tests.figures.terminal import Terminal

UNITS = REGISTERS = 32
_KEPT = 1024  # moments kept of one register
_SERVED = struct.Struct("=Q")


class Sensors:
    """One line of sensors on the pseudo-terminal `port`."""

    def __init__(self, directory: Path) -> None:
        self._terminal = Terminal("sensors", directory, "sensors")
        self.port = self._terminal.port

    def served(self, units: int, registers: int) -> int:
        """How many values units 1 to `units` have handed out of their first `registers` registers."""
        return sum(
            self._number(unit * REGISTERS + register) for unit in range(1, units + 1) for register in range(registers)
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
        self._terminal.close()

    def _number(self, index: int) -> int:
        number: int = _SERVED.unpack_from(self._terminal.ledger, index * _SERVED.size)[0]
        return number
