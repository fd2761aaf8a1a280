"""A board as the master of paced lines, with an edge at its link that takes every record. Shell.

The board is the firmware as it lies in flash, compiled, in MicroPython, and its loop is main.py's. The plan comes over
the link; its units have what a blank profile writes, its periods are the caller's.
"""

import hashlib
import select
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from hil_tests.bench.board import compile_flash, fill_flash, interpreter
from hil_tests.bench.pty_port import PtyPort
from protocols import modbus, readplan_edge
from tests.figures.paced_line import PacedLine, Speed
from tests.figures.virtual_board import power_on

sys.path.append(str(Path(__file__).with_name("on_board")))

import surroundings  # noqa: E402

UNIT_IDS = tuple(range(1, 11))
REGISTERS = 10
BACK_TO_BACK_MS = 100  # more than any line here can carry
_TIMEOUT_MS = 1000  # the blank profile's
_LATE_MS = 1000
_LOOK_S = 0.01


def plan(speed: Speed, buses: int, unit_ids: Sequence[int], period_ms: int, urgent: bool = False) -> bytes:
    """One read of REGISTERS registers of each unit on each bus; `urgent` samples leave the board at once."""
    return readplan_edge.encode(
        [readplan_edge.encode_bus(bus + 1, speed.baud, 8, "E", 1) for bus in range(buses)],
        [
            readplan_edge.encode_unit(bus, unit_id, _TIMEOUT_MS, min(_TIMEOUT_MS, 100), 0, _LATE_MS)
            for bus in range(buses)
            for unit_id in unit_ids
        ],
        [
            readplan_edge.encode_read(unit, modbus.READ_HOLDING_REGISTERS, 0, REGISTERS, period_ms, urgent)
            for unit in range(buses * len(unit_ids))
        ],
        bytes(4),
    )


class BoardMaster:
    """A board that polls `lines` by `read_plan`. `prefix` is what its interpreter is run by."""

    def __init__(
        self, directory: Path, lines: Sequence[PacedLine], read_plan: bytes, prefix: Sequence[str] = ()
    ) -> None:
        self.lines = lines
        self.edge = surroundings.Edge(read_plan, hashlib.sha256(read_plan).digest(), leaves=False)
        self._console = directory / "console.log"
        flash = directory / "flash"
        flash.mkdir(parents=True)
        fill_flash(flash)
        compile_flash(flash)
        self._link = PtyPort()
        self._process = power_on(
            [*prefix, *interpreter(), "main.py"],
            flash,
            [str(line.port) for line in lines],
            self._link.path,
            self._console,
        )

    def fileno(self) -> int:
        """The edge's end of the link."""
        return self._link.fileno()

    def step(self) -> None:
        """Be the edge."""
        if self._process.poll() is not None:
            raise OSError(f"the board stopped: {self.said()}")
        self._link.write(self.edge.step(self._link.read(), time.monotonic_ns() // 1_000_000))

    def said(self) -> str:
        """Its last words on the console."""
        return self._console.read_text()[-300:]

    def close(self) -> None:
        """Take the board away, not its lines."""
        self._process.kill()
        self._process.wait()
        self._link.close()


def carry(boards: Sequence[BoardMaster], lasts_s: float, done: Callable[[], bool] = lambda: False) -> bool:
    """Be the edge of these boards until `done`, which it returns, or for so long."""
    deadline_s = time.monotonic() + lasts_s
    while time.monotonic() < deadline_s and not done():
        select.select(boards, [], [], _LOOK_S)
        for board in boards:
            board.step()
    return done()
