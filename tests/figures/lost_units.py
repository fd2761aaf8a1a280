"""What a unit that does not answer costs the others, and how soon it is back when it does. Shell.

dead_unit_cost: the period of nine live units on a 9600 baud bus with a tenth that is configured and was never there,
divided by the period of the same nine alone: polled back to back by two boards side by side, after their first 30 s.
recovery_polls: the periods from a unit's return to its first good value at the edge, the worst of many returns, on a
bus that is idle for about 30 % of the time. recovery_saturated_s: the same in seconds on a bus that is never idle. The
unit has lived, is silent for 20 s and returns at a random moment of the next ten; three boards side by side, each with
one unit away.
"""

import contextlib
import random
import statistics
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path

from tests.figures.board_master import BACK_TO_BACK_MS, REGISTERS, UNIT_IDS, BoardMaster, carry, plan
from tests.figures.figure import Measured
from tests.figures.paced_line import PacedLine, Speed

SPEED = Speed(9600)
BOARDS = 3
DEAD_UNIT_ID = 10
IDLE_PERIOD_MS = 700
_LISTEN_S = 10.0  # until a board polls, at the latest
_FIRST_S = 30.0
_WINDOW_S = 300.0
_AWAY_S = 20.0
_RETURNS_WITHIN_S = 10.0  # after that: more than a board lets pass between two looks at a dead unit
_RETURNS = 12  # of each board
_WAIT_S = 60.0


def dead_unit_cost() -> Measured:
    """dead_unit_cost."""
    live = [unit_id for unit_id in UNIT_IDS if unit_id != DEAD_UNIT_ID]
    with ExitStack() as stack:
        boards = [stack.enter_context(_board(unit_ids, live, BACK_TO_BACK_MS)) for unit_ids in (UNIT_IDS, live)]
        carry(boards, _LISTEN_S + _FIRST_S)
        first = [board.lines[0].requests for board in boards]
        carry(boards, _WINDOW_S)
        with_ms, alone_ms = (_period_ms(board, at) for board, at in zip(boards, first, strict=True))
        probes = sum(
            exchange.unit_id == DEAD_UNIT_ID
            for exchange in boards[0].lines[0].exchanges(first[0], boards[0].lines[0].requests)
        )
    beside = f"{with_ms:.2f} ms with, {alone_ms:.2f} ms without; {probes} requests to the dead unit in {_WINDOW_S:g} s"
    return Measured(round(with_ms / alone_ms, 4), beside)


def recovery_polls() -> Measured:
    """recovery_polls."""
    took_s, beside = _recoveries(IDLE_PERIOD_MS)
    idle = 1 - len(UNIT_IDS) * SPEED.cycle_ns(REGISTERS) / (IDLE_PERIOD_MS * 1e6)
    return Measured(
        round(max(took_s) * 1000 / IDLE_PERIOD_MS, 2),
        f"{beside}; {IDLE_PERIOD_MS} ms leave the bus {100 * idle:.0f} % idle",
    )


def recovery_saturated() -> Measured:
    """recovery_saturated_s."""
    took_s, beside = _recoveries(BACK_TO_BACK_MS)
    return Measured(round(max(took_s), 2), beside)


@contextlib.contextmanager
def _board(unit_ids: Sequence[int], live: Sequence[int], period_ms: int) -> Iterator[BoardMaster]:
    """A board that polls `unit_ids`, of whom `live` are there."""
    with tempfile.TemporaryDirectory() as name:
        line = PacedLine(Path(name), "line", SPEED, live)
        board = BoardMaster(Path(name), [line], plan(SPEED, 1, unit_ids, period_ms, urgent=True))
        try:
            yield board
        finally:
            board.close()
            line.close()


def _period_ms(board: BoardMaster, first: int) -> float:
    """The mean time between two answers of a live unit."""
    line = board.lines[0]
    live = [exchange for exchange in line.exchanges(first, line.requests) if exchange.is_answered]
    units = len({exchange.unit_id for exchange in live})
    return units * (live[-1].asked_ns - live[0].asked_ns) / 1e6 / (len(live) - 1)


class _Absence:
    """One unit of a board, away and back, again and again."""

    def __init__(self, board: BoardMaster, chance: random.Random) -> None:
        self.took_s: list[float] = []
        self._board = board
        self._chance = chance
        self._read = 0
        self._is_back = False
        self._returns_s = 0.0  # or has returned
        self._leave()

    def step(self) -> None:
        """Come back when it is time, and note when the edge has a good value again."""
        now_s = time.monotonic()
        if not self._is_back and now_s >= self._returns_s:
            self._board.edge.reads.discard(self._read)
            self._board.lines[0].switch(UNIT_IDS[self._read], True)
            self._is_back = True
            self._returns_s = now_s
        elif self._is_back and self._read in self._board.edge.reads:
            self.took_s.append(now_s - self._returns_s)
            self._leave()
        elif self._is_back and now_s - self._returns_s > _WAIT_S:
            raise OSError(f"unit {UNIT_IDS[self._read]} is back since {_WAIT_S} s and has no good value")

    def _leave(self) -> None:
        self._read = self._chance.randrange(len(UNIT_IDS))
        self._board.lines[0].switch(UNIT_IDS[self._read], False)
        self._is_back = False
        self._returns_s = time.monotonic() + _AWAY_S + self._chance.uniform(0, _RETURNS_WITHIN_S)


def _recoveries(period_ms: int) -> tuple[list[float], str]:
    """How long each return took, and what is to be told of them."""
    seed = random.randrange(1_000_000)
    with ExitStack() as stack:
        boards = [stack.enter_context(_board(UNIT_IDS, UNIT_IDS, period_ms)) for _ in range(BOARDS)]
        everybody = len(UNIT_IDS)
        if not carry(boards, _FIRST_S, lambda: all(len(board.edge.reads) == everybody for board in boards)):
            raise OSError(f"of {everybody} units answered {[len(board.edge.reads) for board in boards]}")
        chance = random.Random(seed)
        absences = [_Absence(board, chance) for board in boards]

        def done() -> bool:
            for absence in absences:
                absence.step()
            return sum(len(absence.took_s) for absence in absences) >= BOARDS * _RETURNS

        carry(boards, _RETURNS * (_AWAY_S + _WAIT_S), done)
    took_s = [each for absence in absences for each in absence.took_s]
    told = f"{len(took_s)} returns, median {statistics.median(took_s):.2f} s, worst {max(took_s):.2f} s; seed {seed}"
    return took_s, told
