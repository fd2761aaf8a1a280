"""Board uptime -> UTC, in virtual time. Shell of the tests."""

import random

from edge.timebase import UNSYNCED, Clock, Timebase
from protocols.feeds.json_feed import DRIFT_PPM_MAX

EPOCH_MS = 1_795_401_600_000


class Board:
    """A board and a wall clock with known truth: uptime runs `ppm` fast, pings take random ways, and slow ones.

    The gateway's own crystal, left alone, is `gateway_ppm` slow.
    """

    def __init__(self, seed: int, ppm: float = 0.0, slow_s: float = 0.0, gateway_ppm: float = 0.0) -> None:
        self.random = random.Random(seed)
        self.now_s = 1000.0
        self.ppm = ppm
        self.gateway_ppm = gateway_ppm
        self.slow_there_s = self.slow_back_s = slow_s
        self.wall_step_ms = 0.0
        self.timebase = Timebase(self.now_s)
        self.changes = 0

    def uptime_ms(self, at_s: float) -> int:
        return int((at_s - 990.0) * 1000 * (1 + self.ppm / 1e6))

    def wall_ms(self, at_s: float) -> float:
        return EPOCH_MS + at_s * 1000 * (1 + self.gateway_ppm / 1e6) + self.wall_step_ms

    def run(self, seconds: float, trusted: bool = True) -> None:
        end_s = self.now_s + seconds
        while self.timebase.due_s <= end_s:
            sent_s = max(self.timebase.due_s, self.now_s)
            self.timebase.pinged(sent_s)
            there_s = self.slow_there_s + self.random.choice((0.0005, 0.001, 0.02))
            back_s = self.slow_back_s + self.random.choice((0.0005, 0.001, 0.05))
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
            assert board.error_ms() <= board.timebase.clock.err_ms, ppm
        assert abs(-board.timebase.clock.drift_ppb / 1000 - ppm) < 5


def test_what_it_claims_holds_where_a_link_is_slow_first_one_way_and_then_the_other() -> None:
    for ppm in (-80, 30, 80):
        board = Board(3, ppm)
        for i in range(40):
            board.slow_there_s, board.slow_back_s = (0.0, 0.05) if i % 2 else (0.05, 0.0)
            for _ in range(30):
                board.run(10)
                assert board.error_ms() <= board.timebase.clock.err_ms, ppm


def test_no_drift_is_told_that_nobody_would_believe() -> None:
    """The district sets a clock record aside whose drift is beyond any crystal's."""
    board = Board(3, 15_000, slow_s=0.5)
    for _ in range(60):
        board.run(10)
        assert abs(board.timebase.clock.drift_ppb) <= DRIFT_PPM_MAX * 1000


def test_a_link_that_is_slow_first_up_and_then_down_makes_no_drift() -> None:
    for ppm in (-80, 80):
        board = Board(3, ppm)
        board.slow_there_s = 0.25
        board.run(140)
        board.slow_there_s, board.slow_back_s = 0.0, 0.25
        board.run(100)
        assert abs(board.timebase.clock.drift_ppb) < 200_000


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


def test_what_it_claims_holds_as_long_as_nobody_corrects_the_clock_and_when_somebody_does_again() -> None:
    for ppm in (-45, 45):
        for seed in range(5):
            board = Board(seed, gateway_ppm=ppm)
            board.run(600)
            for minutes in (15, 600):
                for _ in range(minutes):
                    board.run(60, trusted=False)
                    assert board.timebase.clock.kind == "holdover"
                    assert board.error_ms() <= board.timebase.clock.err_ms, (ppm, seed, minutes)
                for _ in range(60):
                    board.run(2)
                    assert board.error_ms() <= board.timebase.clock.err_ms, (ppm, seed, minutes)
                assert board.timebase.clock.kind == "synced"
                assert board.timebase.clock.err_ms < 50


def test_what_an_untrusted_clock_is_set_to_is_not_followed() -> None:
    for step_ms in (-365 * 86_400_000, 365 * 86_400_000, 3_600_000, -50):
        board = Board(6)
        board.run(600)
        board.run(60, trusted=False)
        board.wall_step_ms = step_ms
        for _ in range(60):
            board.run(60, trusted=False)
            clock = board.timebase.clock
            assert clock.kind == "holdover"
            assert abs(board.error_ms() - abs(step_ms)) <= clock.err_ms, step_ms  # of the time before it was set
        board.run(10)
        assert board.timebase.clock.kind == "synced"
        assert board.error_ms() <= board.timebase.clock.err_ms


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


def test_a_clock_that_is_first_set_hours_after_boot_claims_no_more_of_the_beginning_than_it_knows() -> None:
    for ppm in (-80, 0, 80):
        for seed in range(5):
            board = Board(seed, ppm)
            board.run(4 * 3600, trusted=False)
            assert board.timebase.clock == UNSYNCED
            board.run(30)
            clock = board.timebase.clock_at(0)
            utc_ms = clock.utc_ms(0)
            assert utc_ms is not None and clock.err_ms is not None
            assert abs(utc_ms - board.wall_ms(990.0)) <= clock.err_ms, (ppm, seed)
            assert board.timebase.clock_at(board.uptime_ms(board.now_s)) == board.timebase.clock


def test_a_backlog_of_hours_without_a_link_is_read_within_what_its_line_claims() -> None:
    for ppm in (-80, 80):
        board = Board(7, ppm)
        board.run(1800)  # its drift is known
        silent_s = board.now_s
        board.now_s += 3 * 3600
        for seconds in range(0, 3 * 3600, 600):
            uptime_ms = board.uptime_ms(silent_s + seconds)
            clock = board.timebase.clock_at(uptime_ms)
            utc_ms = clock.utc_ms(uptime_ms)
            assert utc_ms is not None and clock.err_ms is not None
            assert abs(utc_ms - board.wall_ms(silent_s + seconds)) <= clock.err_ms, (ppm, seconds)


def test_a_backlog_is_not_read_by_a_drift_that_was_measured_and_is_not_yet_in_the_line() -> None:
    for ppm in (-80, 80):
        for seed in range(5):
            board = Board(seed, ppm)
            for _ in range(100):
                board.run(2)
                later_s = board.now_s + 3 * 3600
                clock = board.timebase.clock_at(board.uptime_ms(later_s))
                utc_ms = clock.utc_ms(board.uptime_ms(later_s))
                assert utc_ms is not None and clock.err_ms is not None
                assert abs(utc_ms - board.wall_ms(later_s)) <= clock.err_ms, (ppm, seed, board.now_s)


def test_a_step_of_the_wall_clock_is_no_drift_and_no_interval_feels_it() -> None:
    for step_ms in (-3_600_000, 500, 3_600_000, -365 * 86_400_000):
        board = Board(4)
        board.run(900)
        board.wall_step_ms = step_ms
        for _ in range(60):
            board.run(10)
            assert board.error_ms() <= board.timebase.clock.err_ms, step_ms
            assert abs(board.timebase.began_s - 990.0) < 0.05
        assert abs(board.timebase.clock.drift_ppb) < 10_000, step_ms


def test_since_when_there_is_a_line_of_this_kind_is_told_by_the_line_in_force() -> None:
    board = Board(5)
    board.run(600, trusted=False)
    assert board.timebase.since_ms is None
    board.run(3600)
    assert abs(board.timebase.since_ms - board.wall_ms(1600.0)) < 5000
    board.run(3600, trusted=False)
    assert board.timebase.clock.kind == "holdover"
    assert abs(board.timebase.since_ms - board.wall_ms(5200.0)) < 5000
    board.run(60)
    since_ms = board.timebase.since_ms
    board.wall_step_ms = -3_600_000
    board.run(60)
    assert abs(board.timebase.since_ms + 3_600_000 - since_ms) < 50


def test_utc_is_integer_arithmetic() -> None:
    clock = Clock("synced", 3, EPOCH_MS, 3200)
    assert clock.utc_ms(10_000_000_000) == EPOCH_MS + 10_000_000_000 + 32_000
