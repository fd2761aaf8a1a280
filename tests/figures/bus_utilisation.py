"""How much of a bus's time carries polls, beside the peer that wastes least of it. Shell.

bus_utilisation_*: the shortest possible cycle divided by the achieved one, of ten units of ten registers polled back to
back on a line in true wire time (8E1: 11 bits a character; a turnaround of 5 ms). minimalmodbus, a process told the
same baud rate, takes turns on a line of the same kind; three rounds, medians. A request before the silence of 3.5
characters is over spoils the figure, and so does being more than 0.005 below the peer. Achieved cycles are those of
polls that ended well: each of another outcome is taken off.

bus_utilisation_*_slow: two such buses and the link in one loop, its interpreter made about as slow as an ESP32's by
valgrind's lackey; the worse bus counts. How slow that is in truth is measured by one loop of bytecode with and without.
"""

import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from hil_tests.bench.board import SLOWED_DOWN, interpreter
from tests.figures.board_master import BACK_TO_BACK_MS, REGISTERS, UNIT_IDS, BoardMaster, carry, plan
from tests.figures.figure import Measured
from tests.figures.paced_line import PacedLine, Speed

ROOT = Path(__file__).parents[2]
ROUNDS = 3
_BEHIND_PEER = 0.005
_START_S = 30.0
_SETTLED = 50  # requests
_WINDOW_S = 15.0
_SLOW_START_S = 90.0
_SLOW_WINDOW_S = 60.0
_LOOP = """\
import time
def spin(turns):
    i = x = 0
    while i < turns:
        x = x + i & 0xFFFF
        i += 1
spin(1000)
before = time.ticks_us()
spin({turns})
print(time.ticks_diff(time.ticks_us(), before) / {turns})
"""


def at_9600() -> Measured:
    """bus_utilisation_9600."""
    return _beside_peer(Speed(9600))


def at_19200() -> Measured:
    """bus_utilisation_19200."""
    return _beside_peer(Speed(19200))


def at_115200() -> Measured:
    """bus_utilisation_115200."""
    return _beside_peer(Speed(115200))


def slow_at_9600() -> Measured:
    """bus_utilisation_9600_slow."""
    return _slow(Speed(9600))


def slow_at_19200() -> Measured:
    """bus_utilisation_19200_slow."""
    return _slow(Speed(19200))


class _Window:
    """What a line saw of its master from now until `close`."""

    def __init__(self, line: PacedLine) -> None:
        self._line = line
        self._first = line.requests
        self._early = line.early

    def close(self, failed: int = 0) -> None:
        """Reckon: `failed` of the polls ended badly."""
        exchanges = self._line.exchanges(self._first, self._line.requests)
        if len(exchanges) < 2:
            raise OSError(f"{len(exchanges)} requests in a window")
        spent_ns = exchanges[-1].asked_ns - exchanges[0].asked_ns
        good = sum(exchange.is_answered for exchange in exchanges[:-1]) - failed
        self.utilisation = good * self._line.speed.cycle_ns(REGISTERS) / spent_ns
        self.early = self._line.early - self._early
        self.failed = len(exchanges) - 1 - good
        self.shortest_us = min(exchange.silence_ns for exchange in exchanges) / 1000


def _beside_peer(speed: Speed) -> Measured:
    our, their = [], []
    with tempfile.TemporaryDirectory() as name:
        for number in range(ROUNDS):
            our.append(_ours(Path(name) / f"ours{number}", speed))
            their.append(_theirs(Path(name) / f"theirs{number}", speed))
    ours, theirs = (statistics.median(window.utilisation for window in side) for side in (our, their))
    early = sum(window.early for window in our)
    beside = (
        f"8E1; ours {_each(our)}, {early} early, shortest silence {min(window.shortest_us for window in our):.0f} us "
        f"of {speed.silence_ns / 1000:.0f}, {sum(window.failed for window in our)} polls failed; minimalmodbus "
        f"{theirs:.4f}: {_each(their)}, {sum(window.early for window in their)} early"
    )
    return Measured(round(ours, 4), beside, spoilt=early > 0 or ours < theirs - _BEHIND_PEER)


def _each(windows: list[_Window]) -> str:
    return ", ".join(f"{window.utilisation:.4f}" for window in windows)


def _ours(directory: Path, speed: Speed) -> _Window:
    directory.mkdir()
    line = PacedLine(directory, "line", speed, UNIT_IDS)
    board = BoardMaster(directory, [line], plan(speed, 1, UNIT_IDS, BACK_TO_BACK_MS))
    try:
        return _watch(board, _START_S, _WINDOW_S)[0]
    finally:
        board.close()
        line.close()


def _watch(board: BoardMaster, start_s: float, window_s: float) -> list[_Window]:
    """What each line of a board sees, once it polls all of them."""
    if not carry([board], start_s, lambda: all(line.requests >= _SETTLED for line in board.lines)):
        raise OSError(f"{[line.requests for line in board.lines]} requests in {start_s} s; {board.said()}")
    windows = [_Window(line) for line in board.lines]
    before = board.edge.failed()
    carry([board], window_s)
    for window in windows:
        window.close(board.edge.failed() - before)
    return windows


def _theirs(directory: Path, speed: Speed) -> _Window:
    directory.mkdir()
    line = PacedLine(directory, "line", speed, UNIT_IDS)
    program = ROOT / "hil_tests/peers/minimalmodbus_master.py"
    words = [line.port, speed.baud, REGISTERS, *UNIT_IDS]
    master = subprocess.Popen([sys.executable, program, *map(str, words)])
    try:
        deadline_s = time.monotonic() + _START_S
        while line.requests < _SETTLED:
            if time.monotonic() > deadline_s or master.poll() is not None:
                raise OSError(f"minimalmodbus sent {line.requests} requests in {_START_S} s")
            time.sleep(0.1)
        window = _Window(line)
        time.sleep(_WINDOW_S)
        window.close()
        return window
    finally:
        master.kill()
        master.wait()
        line.close()


def _slow(speed: Speed) -> Measured:
    factor = _turn_us(20_000, SLOWED_DOWN) / _turn_us(1_000_000, ())
    with tempfile.TemporaryDirectory() as name:
        directory = Path(name)
        lines = [PacedLine(directory, f"line{bus}", speed, UNIT_IDS) for bus in (1, 2)]
        board = BoardMaster(directory, lines, plan(speed, 2, UNIT_IDS, BACK_TO_BACK_MS), SLOWED_DOWN)
        try:
            windows = _watch(board, _SLOW_START_S, _SLOW_WINDOW_S)
        finally:
            board.close()
            for line in lines:
                line.close()
    early = sum(window.early for window in windows)
    beside = (
        f"8E1; bytecode {factor:.0f} times slower; the buses {_each(windows)}, {early} early, shortest silence "
        f"{min(window.shortest_us for window in windows):.0f} us of {speed.silence_ns / 1000:.0f}, "
        f"{windows[0].failed} polls failed, {board.edge.lost} records dropped by the ring"
    )
    worse = min(window.utilisation for window in windows)
    return Measured(round(worse, 4), beside, spoilt=early > 0)


def _turn_us(turns: int, prefix: tuple[str, ...]) -> float:
    """What one turn of a loop of bytecode takes."""
    command = [*prefix, *interpreter(), "-c", _LOOP.format(turns=turns)]
    return float(subprocess.run(command, capture_output=True, text=True, check=True).stdout)
