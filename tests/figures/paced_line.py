"""An RS-485 line in true wire time, and what it tells of its master: paced_line.c and its ledger. Shell."""

import struct
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from tests.figures.terminal import Terminal

BITS = 11  # a character of 8E1, what the standard asks for
TURNAROUND_NS = 5_000_000
_HEAD = struct.Struct("=QQ")
_PRESENT = _HEAD.size
_EXCHANGE = struct.Struct("=QQqII")
_FIRST = _PRESENT + 256


@dataclass(frozen=True, slots=True)
class Speed:
    """What a line's baud rate comes to. Source of the silence: MODBUS over Serial Line V1.02, 2.5.1.1."""

    baud: int

    @property
    def char_ns(self) -> int:
        """One character."""
        return BITS * 1_000_000_000 // self.baud

    @property
    def silence_ns(self) -> int:
        """What has to pass between two frames."""
        return 7 * self.char_ns // 2 if self.baud <= 19200 else 1_750_000

    def cycle_ns(self, registers: int) -> int:
        """The shortest cycle of one read: request and reply, a silence after each, the turnaround."""
        return (13 + 2 * registers) * self.char_ns + 2 * self.silence_ns + TURNAROUND_NS


@dataclass(frozen=True, slots=True)
class Exchange:
    """One request: when its first byte came, when the wire was free after it, and how long it had been before."""

    asked_ns: int
    free_ns: int
    silence_ns: int
    unit_id: int
    is_answered: bool


class PacedLine:
    """One line with these units; `port` is what its master opens."""

    def __init__(self, directory: Path, name: str, speed: Speed, unit_ids: Iterable[int]) -> None:
        self.speed = speed
        times = (speed.char_ns, speed.silence_ns, TURNAROUND_NS)
        self._terminal = Terminal("paced_line", directory, name, *map(str, times))
        self.port = self._terminal.port
        for unit_id in unit_ids:
            self.switch(unit_id, True)

    @property
    def requests(self) -> int:
        """How many there were so far."""
        number: int = _HEAD.unpack_from(self._terminal.ledger)[0]
        return number

    @property
    def early(self) -> int:
        """Requests before the silence was over."""
        number: int = _HEAD.unpack_from(self._terminal.ledger)[1]
        return number

    def exchanges(self, first: int, end: int) -> list[Exchange]:
        """Those of the requests `first` to `end` - 1."""
        rows = (_EXCHANGE.unpack_from(self._terminal.ledger, _FIRST + i * _EXCHANGE.size) for i in range(first, end))
        return [Exchange(*row) for row in rows]

    def switch(self, unit_id: int, is_present: bool) -> None:
        """Switch a unit on or off; it answers requests that come from now on, or none."""
        self._terminal.ledger[_PRESENT + unit_id] = is_present

    def close(self) -> None:
        """Take it away."""
        self._terminal.close()
