"""Board uptime -> UTC, in virtual time. Shell of the tests."""

import random

from edge.timebase import UNSYNCED, Clock, Timebase

EPOCH_MS = 1_795_401_600_000


class Board:
    """A board and a wall clock with known truth: uptime runs `ppm` fast, pings take random ways."""

    def __init__(self, seed: int, ppm: float = 0.0) -> None:
        self.random = random.Random(seed)
        self.now_s = 1000.0
        self.ppm = ppm
        self.wall_step_ms = 0.0
        self.timebase = Timebase(self.now_s)
        self.changes = 0

    def uptime_ms(self, at_s: float) -> int:
        return int((at_s - 990.0) * 1000 * (1 + self.ppm / 1e6))

    def wall_ms(self, at_s: float) -> float:
        return EPOCH_MS + at_s * 1000 + self.wall_step_ms

    def run(self, seconds: float, trusted: bool = True) -> None:
        end_s = self.now_s + seconds
        while self.timebase.due_s <= end_s:
            sent_s = max(self.timebase.due_s, self.now_s)
            self.timebase.pinged(sent_s)
            there_s = self.random.choice((0.0005, 0.001, 0.02))
            back_s = self.random.choice((0.0005, 0.001, 0.05))
            heard_s = sent_s + there_s + back_s
            uptime_ms = self.uptime_ms(sent_s + there_s)
            self.now_s = heard_s
            self.changes += self.timebase.pong(uptime_ms, sent_s, heard_s, self.wall_ms(heard_s), trusted)
        self.now_s = end_s

    def error_ms(self) -> float:
        at_s = self.now_s
        utc_ms = self.timebase.clock.utc_ms(self.uptime_ms(at_s))
        assert utc_ms is not None
        return abs(utc_ms - self.wall_ms(at_s))


def test_the_error_it_claims_holds() -> None:
    for seed in range(20):
        board = Board(seed)
        for _ in range(60):
            board.run(10)
            assert board.timebase.clock.kind == "synced"
            assert board.error_ms() <= board.timebase.clock.err_ms, seed
        assert board.timebase.clock.err_ms <= 5
        assert board.changes < 12


def test_a_crystal_that_is_off_is_followed() -> None:
    for ppm in (-80, 40, 80):
        board = Board(3, ppm)
        for _ in range(240):
            board.run(30)
            assert board.error_ms() <= board.timebase.clock.err_ms + 3, ppm
        assert abs(-board.timebase.clock.drift_ppb / 1000 - ppm) < 5


def test_without_a_trusted_clock_there_is_no_time() -> None:
    board = Board(1)
    board.run(100, trusted=False)
    assert board.timebase.clock == UNSYNCED
    assert board.timebase.clock.utc_ms(5000) is None
    board.run(20)
    assert board.timebase.clock.kind == "synced"


def test_a_clock_that_is_no_longer_corrected_grows_unsure() -> None:
    board = Board(1)
    board.run(60)
    before = board.timebase.clock
    board.run(3600, trusted=False)
    after = board.timebase.clock
    assert after.kind == "holdover"
    assert after.err_ms > before.err_ms + 80


def test_a_step_of_the_wall_clock_is_a_new_line_and_the_old_one_stays() -> None:
    board = Board(2)
    board.run(60)
    old = board.timebase.clock
    told_ms = old.utc_ms(1234)
    board.wall_step_ms = 86_400_000
    board.run(10)
    assert board.timebase.clock.kind == "synced"
    assert board.error_ms() <= board.timebase.clock.err_ms
    assert old.utc_ms(1234) == told_ms
    board.wall_step_ms = -3_600_000
    board.run(10)
    assert board.error_ms() <= board.timebase.clock.err_ms


def test_utc_is_integer_arithmetic() -> None:
    clock = Clock("synced", 3, EPOCH_MS, 3200)
    assert clock.utc_ms(10_000_000_000) == EPOCH_MS + 10_000_000_000 + 32_000
