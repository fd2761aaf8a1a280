"""The ledger against tables written by hand: what was on the wire, what is due by rule 8, what the messages say.

The heartbeat second is 0. Times in the tables are seconds after T0, which is 10 s past a full minute.
"""

from collections.abc import Sequence

import pytest

from hil_tests.bench.ledger import Figures, Ledger, Poll, Rule

T0 = 1_800_000_010_000
RULE = Rule("cab1", "gas-a", 1000, 1.0, 60)
RULES = {"GD01.gas": RULE, "GD02.gas": RULE, "GD07.gas": Rule("cab2", "gas-b", 1000, 1.0, 60)}
CAB1 = {"board": "cab1", "bus": None, "points": None}
Row = tuple[float, float | None] | tuple[float, float | None, int] | tuple[float, float | None, int, int]


def ledger() -> Ledger:
    return Ledger(RULES, heartbeat_second=0)


def good(t: float, value: float, point: str = "GD01.gas") -> Poll:
    at_ms = T0 + round(t * 1000)
    return Poll(point, at_ms, at_ms, value, 0)


def failed(t: float, status: int = 200, point: str = "GD01.gas") -> Poll:
    at_ms = T0 + round(t * 1000)
    return Poll(point, at_ms, at_ms + 250, None, status, certain=False)


def data(
    seq: int, rows: Sequence[Row], point: str = "GD01.gas", epoch: str = "E1E1E1E1", delay_ms: int = 500, **more: object
) -> dict:
    """A data message with rows (seconds after T0, value, status, detail), received `delay_ms` after its last row."""
    last_ms = T0 + round(rows[-1][0] * 1000)
    payload = {
        "schema": "tankgate/data/1",
        "epoch": epoch,
        "stream": "data",
        "seq": seq,
        "time": {"kind": "synced", "err_ms": 5},
        "t0_ms": T0,
        "rows": [[point, round(t * 1000), *rest] for t, *rest in rows],
        **more,
    }
    return {"received_ms": last_ms + delay_ms, "topic": "", "retained": False, "payload": payload, "duplicate": False}


def gap(from_ms: int | None, to_ms: int | None, scope: dict, seq: int = 1, err_ms: int | None = 5) -> dict:
    span = {"from_ms": from_ms, "to_ms": to_ms, "time": {"kind": "synced", "err_ms": err_ms}}
    return event("gap", seq, scope=scope, **span)


def event(kind: str, seq: int = 1, **payload: object) -> dict:
    payload = {"schema": f"tankgate/{kind}/1", "epoch": "E1E1E1E1", "stream": "event", "seq": seq, **payload}
    return {"received_ms": T0, "topic": "", "retained": False, "payload": payload, "duplicate": False}


def after(book: Ledger, t: float = 300, patience_ms: int = 5000) -> Figures:
    return book.figures(T0 + round(t * 1000), patience_ms)


DUE = [
    # polls (seconds, value or None for two unanswered requests)                   due times
    ("first of all", [(0, 3.0), (1, 3.0), (2, 3.0)], [0]),
    ("beyond the deadband of what was reported, not of the one before", [(0, 3.0), (1, 3.6), (2, 4.2)], [0, 2]),
    ("exactly the deadband is not beyond it", [(0, 3.0), (1, 4.0), (2, 2.0)], [0]),
    ("heartbeat: the first at or after the second", [(38, 3.0), (49, 3.0), (51, 3.0), (52, 3.0)], [38, 51]),
    ("each minute", [(38, 3.0), (51, 3.0), (111, 3.0), (171, 3.0)], [38, 51, 111, 171]),
    ("a minute without polls: one heartbeat, not two", [(0, 3.0), (171, 3.0), (172, 3.0)], [0, 171]),
]


@pytest.mark.parametrize(("polls", "due"), [case[1:] for case in DUE], ids=[case[0] for case in DUE])
def test_due_by_rule_8(polls, due):
    book = ledger()
    book.polled(good(t, value) for t, value in polls)
    assert [(poll.utc_ms - T0) / 1000 for poll in book.missing(T0 + 400_000, 0)] == due


def test_a_change_of_status_or_detail_is_due():
    book = ledger()
    statuses = [(0, 3.0, 0), (0, 3.0, 0), (0, 3.0, 100), (204, None, 7), (204, None, 8), (204, None, 8)]
    for t, (status, value, detail) in enumerate(statuses):
        at_ms = T0 + t * 1000
        book.polled([Poll("GD01.gas", at_ms, at_ms, value, status, detail)])
    assert [poll.utc_ms - T0 for poll in book.missing(T0 + 9000, 0)] == [0, 2000, 3000, 4000]


def test_what_is_received_is_compared_and_timed():
    book = ledger()
    book.polled(good(t, value) for t, value in [(0, 3.0), (1, 5.0), (2, 5.1), (3, 8.0)])
    book.received(data(1, [(0.012, 3.0), (1.03, 5.0)], delay_ms=470))
    assert after(book, 4) == Figures(4, 3, 2, 0, 1, 0, 0, 0, 0, 0, 0, 500.0, 1500.0)
    assert after(book, 9) == Figures(4, 3, 2, 0, 0, 1, 0, 0, 0, 0, 0, 500.0, 1500.0)
    book.received(data(2, [(3.01, 8.0)]))
    assert (after(book).received, after(book).lost) == (3, 0)


def test_a_number_that_no_sensor_gave_is_wrong_and_loses_the_true_one():
    book = ledger()
    book.polled([good(0, 3.0), good(1, 5.0)])
    book.received(data(1, [(0.01, 3.0), (1.01, 5.1)]))
    assert (after(book).wrong_values, after(book).lost) == (1, 1)
    assert "GD01.gas" in book.findings[0] and "5.1" in book.findings[0]


@pytest.mark.parametrize(
    "row",
    [(2.1, 5.0), (1.01, 5.0, 100), (1.01, 5.0, 0, 3), (0.5, 0.0), (1.01, None, 0)],
    ids=["later than it was", "another status", "another detail", "zero for nothing", "no number, yet good"],
)
def test_other_ways_to_be_wrong(row):
    book = ledger()
    book.polled(good(t, value) for t, value in [(0, 3.0), (1, 5.0), (2, 7.0)])
    book.received(data(1, [(0.01, 3.0), row]))
    assert after(book).wrong_values == 1


def test_a_value_under_another_point_is_wrong():
    book = ledger()
    book.polled([good(0, 3.0), good(0, 4.0, "GD02.gas")])
    book.received(data(1, [(0.01, 3.0)], point="GD02.gas"))
    assert after(book).wrong_values == 1


def test_a_resend_is_harmless_and_a_reading_in_two_messages_is_not():
    book = ledger()
    book.polled([good(0, 3.0)])
    book.received(data(1, [(0.01, 3.0)]))
    book.received(data(1, [(0.01, 3.0)]))
    assert (after(book).resent, after(book).duplicated, after(book).received) == (1, 0, 1)
    book.received(data(2, [(0.01, 3.0)]))
    assert (after(book).resent, after(book).duplicated, after(book).received) == (1, 1, 1)


def test_what_changed_an_alarm_is_extra_and_moves_the_deadband():
    book = ledger()
    book.polled(good(t, value) for t, value in [(0, 3.0), (1, 3.9), (2, 4.1), (3, 5.0)])
    assert after(book).due == 2  # 4.1 is far from 3.0
    book.received(data(1, [(0.01, 3.0), (1.01, 3.9), (3.01, 5.0)]))  # 3.9 was reported, and from there it is not
    assert (after(book).due, after(book).received, after(book).extra, after(book).lost) == (2, 2, 1, 0)


def test_near_the_heartbeat_second_either_reading_will_do():
    for taken in (49.9, 50.9):
        book = ledger()
        book.polled(good(t, 3.0) for t in (38.9, 49.9, 50.9, 51.9))
        book.received(data(1, [(38.9, 3.0)]))
        # The gateway's clock may be some milliseconds further than the bench's.
        book.received(data(2, [(taken + 0.12, 3.0)]))
        assert after(book).lost == 0, taken
    book = ledger()
    book.polled(good(t, 3.0) for t in (38.9, 49.9, 50.9, 51.9))
    book.received(data(1, [(38.9, 3.0)]))
    assert after(book).lost == 1


# --- polls that fail ----------------------------------------------------------------------------------------


def test_one_failure_that_a_retry_mends_needs_no_reading():
    book = ledger()
    book.polled([good(0, 3.0), failed(1), good(1.3, 3.0)])
    book.received(data(1, [(0.01, 3.0)]))
    assert (after(book).due, after(book).lost) == (1, 0)


def test_a_unit_that_stays_silent_must_become_bad_once():
    book = ledger()
    book.polled([good(0, 3.0), failed(1), failed(1.3), failed(2), failed(2.3)])
    book.received(data(1, [(0.01, 3.0)]))
    assert (after(book).due, after(book).lost) == (2, 1)
    book.received(data(2, [(1.56, None, 200)]))
    assert (after(book).due, after(book).received, after(book).lost) == (2, 2, 0)


def test_a_silent_unit_never_has_a_value():
    book = ledger()
    book.polled([good(0, 3.0), failed(1), failed(1.3)])
    book.received(data(1, [(0.01, 3.0), (1.5, 3.0)]))
    assert after(book).wrong_values == 1


def test_bad_readings_have_heartbeats_and_end_with_the_first_good_one():
    book = ledger()
    book.polled([good(0, 3.0), failed(1), failed(1.3), failed(45), failed(54), failed(63), good(70, 3.0)])
    book.received(data(1, [(0.01, 3.0), (1.5, None, 200)]))
    assert after(book).lost == 2  # the heartbeat, and the good one
    book.received(data(2, [(54.3, None, 200), (70.01, 3.0)]))
    assert after(book).lost == 0


def test_a_bad_reading_for_a_poll_that_was_answered_is_unexplained():
    book = ledger()
    book.polled([good(0, 3.0), good(1, 9.0)])
    book.received(data(1, [(0.01, 3.0), (1.2, None, 200)]))
    assert (after(book).unexplained, after(book).lost, after(book).wrong_values) == (1, 0, 0)


# --- epochs, clocks, gaps -----------------------------------------------------------------------------------


def test_an_epoch_begins_with_each_points_first_reading():
    book = ledger()
    for point in RULES:
        book.polled(good(t, 3.0, point) for t in (0, 1, 2, 3))
        book.received(data(len(book.findings) + list(RULES).index(point) + 1, [(0.01, 3.0)], point))
    assert (after(book).due, after(book).lost) == (3, 0)
    book.received(data(1, [(2.01, 3.0)], "GD01.gas", epoch="E2E2E2E2"))
    # GD02 hangs on the same board, so its first of the new epoch is missing; of the other board nothing is known.
    # It is not the one at 2 s for certain: two buses share a ring.
    assert [(poll.point, poll.utc_ms - T0) for poll in book.missing(T0 + 60_000, 0)] == [("GD02.gas", 3000)]
    book.received(data(2, [(2.01, 3.0)], "GD02.gas", epoch="E2E2E2E2"))
    assert after(book).lost == 0


def test_a_stepped_clock_is_known():
    day_ms = 86_400_000
    book = ledger()
    book.polled(good(t, value) for t, value in [(0, 3.0), (1, 5.0)])
    book.clock_stepped(T0 + 1500, day_ms)
    book.polled(good(t, value) for t, value in [(2, 5.0), (3, 7.0), (4, 7.0)])
    book.received(data(1, [(0.01, 3.0), (1.01, 5.0)]))
    book.received(data(2, [(2.01, 5.0), (3.01, 7.0)], t0_ms=T0 + day_ms))
    assert (after(book).lost, after(book).wrong_values, after(book).duplicated) == (0, 0, 0)
    assert (after(book).received + after(book).extra, after(book).p99_ms) == (4, 1510.0)


def test_unsynced_readings_wait_for_their_clock():
    book = ledger()
    book.polled([good(0, 3.0), good(1, 5.0)])
    unsynced = {"time": {"kind": "unsynced", "err_ms": None}, "t0_ms": None, "boot": "cab1/9f3a60c2"}
    book.received(data(1, [(0, 3.0), (1, 5.0)], t0_uptime_ms=10_000_000, **unsynced))
    assert after(book).received == 0
    book.received(event("clock", boot="cab1/9f3a60c2", utc_at_uptime_0_ms=T0 + 10 - 10_000_000 - 32, drift_ppm=3.2))
    assert (after(book).received, after(book).wrong_values) == (2, 0)
    book.polled([good(2, 7.0)])
    book.received(data(2, [(2, 7.0)], t0_uptime_ms=10_000_000, **unsynced))
    assert after(book).received == 3


@pytest.mark.parametrize(
    ("scope", "admitted"),
    [
        (CAB1, 2),
        ({"board": "cab2", "bus": None, "points": None}, 0),
        ({"board": None, "bus": None, "points": ["GD01.gas"]}, 2),
        ({"board": "cab1", "bus": "gas-b", "points": None}, 0),
    ],
)
def test_what_a_gap_admits_is_not_lost(scope, admitted):
    book = ledger()
    book.polled(good(t, value) for t, value in [(0, 3.0), (1, 5.0), (2, 7.0), (3, 9.0)])
    book.received(gap(T0 + 900, T0 + 2100, scope))
    assert (after(book).admitted, after(book).lost) == (admitted, 4 - admitted)


@pytest.mark.parametrize("order", ["polls first", "gap first"])
def test_what_a_gap_names_is_never_compared_with(order):
    book = ledger()
    polls = [good(t, value) for t, value in [(0, 3.0), (1, 5.0), (2, 3.0), (50.5, 3.0), (51.5, 3.0)]]
    if order == "polls first":
        book.polled(polls)
    book.received(gap(T0 + 900, T0 + 1500, CAB1, 1))
    book.received(gap(T0 + 50_400, T0 + 51_000, CAB1, 2))  # the heartbeat is in it
    if order == "gap first":
        book.polled(polls)
    book.received(data(1, [(0.01, 3.0)]))
    assert [poll.utc_ms - T0 for poll in book.missing(T0 + 60_000, 0)] == [51_500]
    assert after(book).admitted == 2


def test_a_gap_is_no_surer_of_its_ends_than_its_clock():
    for err_ms, lost in ((5, 1), (250, 0)):
        book = ledger()
        book.polled([good(0, 3.0)])
        book.received(gap(T0 + 300, T0 + 900, CAB1, err_ms=err_ms))
        assert after(book).lost == lost, err_ms


def test_a_gap_of_which_one_end_has_no_time_admits_nothing():
    book = ledger()
    book.polled([good(0, 3.0)])
    book.received(gap(T0 - 900, None, CAB1, 1))
    book.received(gap(None, T0 + 900, CAB1, 2))
    assert after(book).lost == 1


def test_a_disturbance_renews_the_patience():
    book = ledger()
    book.polled([good(0, 3.0)])
    book.disturbed(T0 + 60_000)
    assert after(book, 64).in_flight == 1
    assert after(book, 66).lost == 1


def test_retained_and_other_messages_are_no_readings():
    book = ledger()
    book.polled([good(0, 3.0)])
    book.received({**data(1, [(0.01, 3.0)]), "retained": True})
    book.received({"retained": False, "payload": {"schema": "tankgate/state/1"}})
    assert after(book).received == 0
