"""What is sent when: tables of one rule each, then every order of commits, answers, losses and kills."""

import tracemalloc

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from edge.forward import (
    ASKED_S,
    DOUBT_S,
    LATE_PER_S,
    LATE_SHARE,
    PENDING_RANGES_MAX,
    RETRY_S,
    TOO_LARGE,
    WINDOW,
    Forward,
    Pace,
    Receipted,
)
from protocols.feeds.sequence import Ranges

NOT_AUTHORISED = 0x87
QUOTA_EXCEEDED = 0x97
NO_MATCHING_SUBSCRIBERS = 0x10


def all_now(forward: Forward, now_s: float = 0.0) -> list[tuple[str, str, int, bool]]:
    """What `next` gives until it says wait."""
    chosen = []
    while (message := forward.next(now_s)) is not None:
        chosen.append(message)
    return chosen


def answer(forward: Forward, sent: list[tuple[str, str, int, bool]], code: int = 0, now_s: float = 0.0) -> None:
    for epoch, stream, seq, _late in sent:
        forward.acknowledged((epoch, stream, seq), code, now_s)


def drained(forward: Forward) -> list[tuple[str, str, int, bool]]:
    """What `next` gives where each answer comes at once."""
    chosen = []
    while sent := all_now(forward):
        chosen += sent
        answer(forward, sent)
    return chosen


def connected(receive_maximum: int = 65535, **kept: int) -> Forward:
    """After a restart: `kept` messages of epoch A in the store, none of them acknowledged."""
    forward = Forward({}, {"A": {stream: (1, last) for stream, last in kept.items()}} if kept else {})
    forward.connected(0.0, receive_maximum)
    return forward


def test_events_go_before_live_data_and_live_data_before_history() -> None:
    forward = connected(data=2, event=1)
    forward.committed("B", "data", 1, 1)
    forward.committed("B", "event", 1, 2)
    assert all_now(forward) == [
        ("B", "event", 1, False),
        ("B", "event", 2, False),
        ("A", "event", 1, True),
        ("B", "data", 1, False),
        ("A", "data", 1, True),
        ("A", "data", 2, True),
    ]


def test_nothing_is_sent_without_a_connection() -> None:
    forward = Forward({}, {"A": {"data": (1, 3)}})
    assert all_now(forward) == []
    forward.connected(0.0, 20)
    forward.disconnected(1.0)
    assert all_now(forward) == []


@pytest.mark.parametrize(("receive_maximum", "window"), [(1, 1), (5, 5), (20, 20), (65535, WINDOW)])
def test_the_window_is_the_smaller_of_ours_and_the_brokers(receive_maximum: int, window: int) -> None:
    forward = connected(receive_maximum)
    forward.committed("A", "data", 1, 100)
    sent = all_now(forward)
    assert len(sent) == forward.in_flight() == window
    answer(forward, sent[:1])
    assert [seq for _epoch, _stream, seq, _late in all_now(forward)] == [window + 1]


def test_what_was_on_its_way_when_the_connection_broke_is_sent_again_and_late() -> None:
    forward = connected()
    forward.committed("A", "data", 1, 3)
    sent = all_now(forward)
    answer(forward, sent[1:2])
    forward.disconnected(1.0)
    forward.committed("A", "data", 4, 4)  # while nobody listens
    forward.connected(2.0, 20)
    forward.committed("A", "data", 5, 5)
    assert all_now(forward) == [
        ("A", "data", 5, False),
        ("A", "data", 1, True),
        ("A", "data", 3, True),
        ("A", "data", 4, True),
    ]


def test_a_connection_that_broke_unnoticed_begins_anew() -> None:
    forward = connected(data=9)
    all_now(forward)
    forward.connected(1.0, 3 * LATE_SHARE)
    assert [seq for _epoch, _stream, seq, _late in all_now(forward, 1.0)] == [1, 2, 3]


def test_an_answer_to_what_is_not_on_its_way_any_more_is_ignored() -> None:
    forward = connected(data=1)
    sent = all_now(forward)
    forward.disconnected(1.0)
    answer(forward, sent)
    answer(forward, [("X", "data", 7, False)])
    assert forward.pending("A", "data") == [(1, 1)]


def test_a_message_that_nobody_subscribed_to_is_delivered() -> None:
    forward = connected(data=1)
    answer(forward, all_now(forward), NO_MATCHING_SUBSCRIBERS)
    assert forward.backlog() == 0


# --- refusals -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("code", [NOT_AUTHORISED, QUOTA_EXCEEDED])
def test_a_refused_data_message_holds_back_all_data_and_is_tried_again_later(code: int) -> None:
    forward = connected(2 * LATE_SHARE, data=4)
    answer(forward, all_now(forward, 10.0), code, 10.0)
    forward.committed("B", "data", 1, 1)
    assert all_now(forward, 10.0 + RETRY_S - 0.1) == []
    assert forward.due_s() == 10.0 + RETRY_S
    assert forward.backlog() == 5
    again = all_now(forward, 10.0 + RETRY_S)
    assert again == [("B", "data", 1, False), ("A", "data", 1, True), ("A", "data", 2, True)]
    assert forward.due_s() == float("inf")


def test_a_refused_event_holds_back_no_other() -> None:
    forward = connected(1, event=3)
    answer(forward, all_now(forward), NOT_AUTHORISED)
    for seq in (2, 3):
        sent = all_now(forward)
        assert sent == [("A", "event", seq, True)]
        answer(forward, sent)
    assert all_now(forward) == []
    assert all_now(forward, RETRY_S) == [("A", "event", 1, True)]


def test_refused_data_holds_back_no_event() -> None:
    forward = connected(data=1)
    answer(forward, all_now(forward), NOT_AUTHORISED)
    forward.committed("B", "event", 1, 1)
    assert all_now(forward) == [("B", "event", 1, False)]


def test_a_topic_that_stays_forbidden_is_tried_once_a_minute() -> None:
    forward = connected(data=86_400)
    tried = 0
    for second in range(601):
        sent = all_now(forward, second)
        tried += len(sent)
        answer(forward, sent, NOT_AUTHORISED, second)
    assert tried <= 11 * WINDOW


def test_a_reconnect_does_not_hurry_a_refused_message() -> None:
    forward = connected(data=1)
    answer(forward, all_now(forward), NOT_AUTHORISED)
    forward.disconnected(1.0)
    assert forward.due_s() == float("inf")  # nothing to do without a connection
    forward.connected(2.0, 20)
    assert all_now(forward, 2.0) == []
    assert len(all_now(forward, RETRY_S)) == 1


def test_a_retry_that_finds_no_room_waits_for_an_answer_and_not_for_a_time() -> None:
    forward = connected(2)
    forward.committed("A", "event", 1, 1)
    forward.committed("A", "data", 1, 9)
    event, _data = all_now(forward)
    answer(forward, [event], NOT_AUTHORISED)
    all_now(forward)
    assert forward.in_flight() == 2
    assert forward.due_s() == float("inf")


# --- what is too large --------------------------------------------------------------------------------------


def test_what_is_too_large_for_the_broker_holds_back_nothing_and_waits_for_another_connection() -> None:
    forward = connected(data=3)
    sent = all_now(forward)
    answer(forward, sent[:1], TOO_LARGE)
    answer(forward, sent[1:])
    forward.committed("B", "data", 1, 1)
    assert all_now(forward, 10 * RETRY_S) == [("B", "data", 1, False)]
    assert forward.pending("A", "data") == [(1, 1)]
    forward.connected(11 * RETRY_S, 20)
    assert ("A", "data", 1, True) in all_now(forward, 11 * RETRY_S)


def test_retention_takes_what_was_set_aside() -> None:
    forward = connected(data=1)
    answer(forward, all_now(forward), TOO_LARGE)
    assert forward.dropped("A", "data", 1, 1) == [(1, 1)]
    forward.connected(1.0, 20)
    assert all_now(forward, 1.0) == []


# --- history beside what happens ----------------------------------------------------------------------------


def test_history_leaves_room_for_what_happens_and_keeps_its_pace() -> None:
    """A broker that answers within 100 ms, and a backlog of a day: every live message goes out when it is committed."""
    forward = connected(data=86_400)
    sent_late = live = 0
    on_the_way: list[tuple[float, tuple[str, str, int, bool]]] = []
    seconds = 20
    for tick in range(100 * seconds):
        now_s = tick / 100
        while on_the_way and on_the_way[0][0] <= now_s:
            answer(forward, [on_the_way.pop(0)[1]], now_s=now_s)
        if tick % 100 == 0:
            live += 1
            forward.committed("B", "data", live, live)
            forward.committed("B", "event", live, live)
        sent = all_now(forward, now_s)
        assert [each for each in sent if not each[3]] == (
            [("B", "event", live, False), ("B", "data", live, False)] if tick % 100 == 0 else []
        )
        sent_late += sum(late for *_key, late in sent)
        on_the_way += [(now_s + 0.1, each) for each in sent]
    assert sent_late == pytest.approx(seconds * 50, rel=0.1)  # five each 100 ms


def test_history_waits_for_its_pace_and_says_until_when() -> None:
    forward = connected(data=86_400)
    sent, now_s = 0, 0.0
    while now_s < 10.0:
        while chosen := all_now(forward, now_s):
            sent += len(chosen)
            answer(forward, chosen, now_s=now_s)
        assert now_s < forward.due_s() <= now_s + 1 / LATE_PER_S + 1e-9
        now_s = forward.due_s()
    assert sent == pytest.approx(10 * LATE_PER_S, rel=0.02)


def test_a_week_without_a_broker_takes_no_memory() -> None:
    forward = connected()
    forward.disconnected(0.0)
    tracemalloc.start()
    for minute in range(7 * 1440):
        forward.committed("A", "data", 60 * minute + 1, 60 * minute + 60)
        forward.disconnected(60.0 * minute)  # an attempt that failed
    grown, _peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert forward.backlog() == 7 * 86_400
    assert grown < 10_000


# --- what is known ------------------------------------------------------------------------------------------


def test_pending_and_positions_are_ranges() -> None:
    forward = connected()
    forward.committed("A", "data", 1, 9)
    sent = all_now(forward)
    answer(forward, [sent[index] for index in (0, 2, 3, 8)])
    assert forward.pending("A", "data") == [(2, 2), (5, 8)]
    assert forward.pending("A", "event") == forward.pending("B", "data") == []
    assert forward.dirty
    assert forward.positions() == {("A", "data", "broker"): [(1, 1), (3, 4), (9, 9)]}
    assert not forward.dirty
    assert forward.positions() == {}
    assert forward.backlog() == 5


def test_answers_in_any_order_make_one_range() -> None:
    forward = connected(data=5)
    sent = all_now(forward)
    answer(forward, [sent[index] for index in (3, 0, 2, 4, 1)])
    assert forward.positions() == {("A", "data", "broker"): [(1, 5)]}


def test_a_restart_sends_what_the_kept_positions_do_not_name() -> None:
    kept = {("A", "data", "broker"): [(1, 3), (5, 5)], ("gone", "data", "broker"): [(1, 9)]}
    forward = Forward(kept, {"A": {"data": (1, 6), "event": (1, 0)}})
    forward.connected(0.0, 20)
    assert all_now(forward) == [("A", "data", 4, True), ("A", "data", 6, True)]


def test_a_message_that_is_not_kept_any_more_is_not_asked_for_again() -> None:
    forward = connected(data=2)
    sent = all_now(forward)
    forward.gone(sent[0][:3])
    forward.disconnected(1.0)
    forward.connected(2.0, 20)
    assert all_now(forward) == [("A", "data", 2, True)]
    assert forward.positions() == {("A", "data", "broker"): [(1, 1)]}


def test_too_many_pending_ranges_end_in_one_that_covers_the_rest() -> None:
    last = 4 * PENDING_RANGES_MAX
    every_other = [(seq, seq) for seq in range(2, last + 1, 2)]
    ranges = Forward({("A", "data", "broker"): every_other}, {"A": {"data": (1, last)}}).pending("A", "data")
    assert len(ranges) == PENDING_RANGES_MAX
    assert ranges[:2] == [(1, 1), (3, 3)]
    assert ranges[-1] == (2 * PENDING_RANGES_MAX - 1, last - 1)


# --- receipts -----------------------------------------------------------------------------------------------


def awaiting(**kept: int) -> Forward:
    """A destination whose receiver gives receipts; the broker has acknowledged all of epoch A that was `kept`."""
    spans = {stream: (1, last) for stream, last in kept.items()}
    marks = {("A", stream, "broker"): [span] for stream, span in spans.items()}
    forward = Forward(marks, {"A": spans}, awaits_receipts=True)
    forward.connected(0.0, 20)
    return forward


def receipt(
    forward: Forward, committed: int, missing: list[tuple[int, int]], at_ms: int, now_s: float, stream: str = "data"
) -> Receipted:
    return forward.receipt({"A": {stream: (committed, missing)}}, at_ms, now_s)


def seqs(sent: list[tuple[str, str, int, bool]]) -> list[int]:
    return [seq for _epoch, _stream, seq, _late in sent]


def test_the_brokers_word_is_not_enough_where_receipts_are_awaited() -> None:
    forward = awaiting(data=9)
    assert all_now(forward) == []
    assert forward.pending("A", "data") == [(1, 9)] and forward.receipted("A", "data") == 0
    assert (forward.backlog("broker"), forward.backlog()) == (0, 9)
    receipt(forward, 7, [(3, 4)], 1000, 0.0)
    assert forward.pending("A", "data") == [(3, 4), (8, 9)] and forward.receipted("A", "data") == 2
    assert forward.positions() == {
        ("A", "data", "broker"): [(1, 2), (5, 9)],
        ("A", "data", "receipt"): [(1, 2), (5, 7)],
    }


def test_what_a_receipt_names_missing_is_sent_again_but_not_with_each_receipt() -> None:
    forward = awaiting(data=9)
    receipt(forward, 9, [(3, 4)], 1000, 0.0)
    sent = all_now(forward)
    assert sent == [("A", "data", 3, True), ("A", "data", 4, True)]
    receipt(forward, 9, [(3, 4)], 6000, 5.0)  # on their way
    answer(forward, sent)
    receipt(forward, 9, [(3, 4)], 11_000, 10.0)  # the receiver is at it
    assert all_now(forward) == []
    receipt(forward, 9, [(3, 4)], 71_000, ASKED_S + 1.0)
    assert seqs(all_now(forward)) == [3, 4]


def test_what_was_receipted_before_it_was_sent_is_not_sent() -> None:
    """After a restart, of which the receiver's retained receipt comes with the connection."""
    forward = Forward({}, {"A": {"data": (1, 9)}}, awaits_receipts=True)
    forward.connected(0.0, 20)
    receipt(forward, 8, [], 1000, 0.0)
    assert seqs(all_now(forward)) == [9]


def test_what_the_broker_has_forgotten_is_sent_again() -> None:
    forward = awaiting(data=9)
    receipt(forward, 5, [], 1000, 0.0)
    forward.connected(1.0, 20, session_present=False)
    assert seqs(all_now(forward, 1.0)) == [6, 7, 8, 9]


def test_what_a_receiver_at_work_does_not_get_to_after_a_lost_connection_is_sent_again() -> None:
    forward = awaiting(data=9)
    receipt(forward, 5, [], 1000, 0.0)
    forward.connected(10.0, 20)
    receipt(forward, 5, [], 1000, 10.1)  # the retained one: no sign of a receiver
    assert all_now(forward, 500.0) == [] and forward.due_s() == float("inf")
    receipt(forward, 6, [], 2000, 500.0)
    receipt(forward, 7, [], 3000, 520.0)  # it makes progress
    assert all_now(forward, 520.0 + DOUBT_S - 0.1) == [] and forward.due_s() == 520.0 + DOUBT_S
    receipt(forward, 7, [], 4000, 525.0)
    assert seqs(all_now(forward, 520.0 + DOUBT_S)) == [8, 9]


def test_a_database_that_was_set_back_gets_everything_again() -> None:
    forward = awaiting(data=9)
    receipt(forward, 9, [], 1000, 0.0)
    assert forward.backlog() == 0
    receipt(forward, 9, [(4, 9)], 2000, 1.0)
    assert forward.backlog() == 6 and seqs(drained(forward)) == [4, 5, 6, 7, 8, 9]


def test_what_is_not_kept_is_told_once_and_never_sent() -> None:
    forward = awaiting(data=9, event=2)
    receipt(forward, 9, [], 1000, 0.0)
    forward.dropped("A", "data", 1, 5)
    assert receipt(forward, 9, [(4, 7)], 2000, 1.0) == ([("retention", "A", "data", 4, 5)], False)
    assert receipt(forward, 9, [(4, 7)], 3000, 2.0) == ([], False)
    assert seqs(all_now(forward)) == [6, 7] and forward.oldest_kept("A", "data") == 6


def test_receipts_of_messages_that_this_store_never_made_are_a_sign() -> None:
    forward = awaiting(data=9)
    assert not forward.receipt({"0": {"data": (3, [])}}, 1000, 0.0).is_ahead  # older than all: retention took it
    assert receipt(forward, 10, [], 1000, 0.0).is_ahead
    assert forward.receipt({"B": {"data": (3, [])}}, 1000, 0.0).is_ahead


def test_a_process_that_began_without_its_store_and_its_clock_takes_nothing_old_for_lost() -> None:
    forward = Forward({}, {"0": {"data": (1, 0)}}, awaits_receipts=True)
    forward.learn({}, {"B": {"data": (1, 9)}, "C": {"data": (1, 9)}, "0": {"data": (1, 0)}})
    assert not forward.receipt({"A": {"data": (3, [])}}, 1000, 0.0).is_ahead  # retention took it
    assert forward.receipt({"BB": {"data": (3, [])}}, 1000, 0.0).is_ahead


def test_what_was_sent_while_there_was_no_disk_and_got_lost_is_told_as_gone() -> None:
    """A process that never had its store leaves an epoch that no store knows."""
    forward = awaiting(data=9)
    asked = {"B": {"data": (165, [(1, 52)])}}
    assert forward.receipt(asked, 1000, 0.0) == ([("disk_fault", "B", "data", 1, 52)], True)
    assert forward.receipt(asked, 2000, 1.0).gone == []
    assert forward.receipt({"0": {"data": (3, [(1, 2)])}}, 3000, 2.0) == ([("retention", "0", "data", 1, 2)], False)


def test_what_is_missing_beyond_all_that_was_made_was_lost_with_its_store_or_never_was() -> None:
    asked = {"A": {"data": (12, [(4, 5), (10, 12)])}}
    forward = awaiting(data=9)
    assert forward.receipt(asked, 1000, 0.0) == ([("disk_fault", "A", "data", 10, 12)], True)
    assert forward.receipt(asked, 2000, 1.0).gone == []  # it is told once
    assert seqs(all_now(forward)) == [4, 5]  # and never sent
    assert awaiting(data=9).receipt(asked, 1000, 0.0, current="A").gone == []
    forward.dropped("A", "data", 1, 9)
    assert forward.receipt(asked, 3000, 2.0).gone == [("retention", "A", "data", 4, 5)]


def test_a_destination_without_receipts_does_not_wait_for_any() -> None:
    forward = Forward({("A", "data", "broker"): [(1, 9)]}, {"A": {"data": (1, 9)}})
    forward.connected(0.0, 20, session_present=False)
    assert all_now(forward) == [] and forward.backlog() == 0 and forward.receipted("A", "data") is None


# --- what cannot be sent ------------------------------------------------------------------------------------


def test_retention_tells_what_was_pending_of_it() -> None:
    forward = connected(data=9)
    sent = all_now(forward)
    answer(forward, sent[1:3])
    forward.disconnected(1.0)
    assert forward.dropped("A", "data", 1, 5) == [(1, 1), (4, 5)]
    assert forward.dropped("A", "data", 1, 5) == [] and forward.dropped("X", "data", 1, 5) == []
    forward.connected(2.0, 20)
    assert seqs(all_now(forward)) == [6, 7, 8, 9]


def test_what_memory_gave_up_between_others_does_not_make_those_before_it_gone() -> None:
    forward = awaiting(data=9)
    assert forward.dropped("A", "data", 4, 6) == [(4, 6)] and forward.oldest_kept("A", "data") == 1
    assert receipt(forward, 9, [(1, 2)], 1000, 0.0) == ([], False)
    assert seqs(all_now(forward)) == [1, 2]


def test_after_a_restart_nothing_below_what_is_kept_is_waited_for() -> None:
    forward = Forward({}, {"A": {"data": (6, 9)}})
    assert forward.pending("A", "data") == [(6, 9)] and forward.oldest_kept("A", "data") == 6


def test_a_stream_of_which_nothing_is_kept_has_no_backlog_and_was_not_set_back() -> None:
    """An epoch whose last message went by age, after a restart."""
    marks = {("A", "data", "broker"): [(1, 9)], ("A", "data", "receipt"): [(1, 7)]}
    forward = Forward(marks, {"A": {"data": (1, 0)}}, awaits_receipts=True)
    forward.connected(0.0, 65535)
    assert (forward.pending("A", "data"), forward.receipted("A", "data")) == ([], 9)
    assert receipt(forward, 9, [], 1000, 0.0) == ([], False)
    assert receipt(forward, 9, [(8, 9)], 2000, 1.0) == ([("retention", "A", "data", 8, 9)], False)
    assert all_now(forward) == []


def test_while_history_cannot_be_read_only_what_lies_in_memory_is_sent() -> None:
    forward = connected(data=3, event=1)
    forward.committed("B", "event", 1, 2)
    forward.committed("B", "data", 1, 4)
    forward.disconnected(0.0)
    forward.connected(0.0, 20)
    memory = {("B", "data"): Ranges([(3, 9)]), ("B", "event"): Ranges([(2, 2)])}
    sent = []
    while (message := forward.next(0.0, memory)) is not None:
        sent.append(message)
    assert sent == [("B", "event", 2, True), ("B", "data", 3, True), ("B", "data", 4, True)]
    answer(forward, sent)
    assert seqs(drained(forward)) == [1, 1, 1, 2, 3, 1, 2]  # events of A and B, data of A and B


def test_what_cannot_be_read_now_is_tried_again_later_and_holds_back_nothing() -> None:
    forward = connected(data=2)
    (first, second) = all_now(forward)
    forward.put_off(first[:3], 10.0)
    answer(forward, [second])
    forward.committed("A", "data", 3, 3)
    live = all_now(forward, 10.0)
    assert live == [("A", "data", 3, False)]
    answer(forward, live)
    assert forward.backlog() == 1 and all_now(forward, 10.0 + RETRY_S) == [first]


def test_a_store_that_opens_late_brings_its_epochs() -> None:
    forward = connected()
    forward.committed("B", "data", 1, 1)
    forward.learn({("A", "data", "broker"): [(1, 2)]}, {"A": {"data": (1, 3)}, "B": {"data": (1, 0)}})
    assert all_now(forward) == [("B", "data", 1, False), ("A", "data", 3, True)]


def test_what_such_a_store_says_that_only_the_broker_has_is_doubted_as_after_a_lost_connection() -> None:
    for session_present, sent_s in ((True, 520.0 + DOUBT_S), (False, 600.0)):
        forward = Forward({}, {}, awaits_receipts=True)
        forward.connected(0.0, 20, session_present)
        marks = {("A", "data", "broker"): [(1, 9)], ("A", "data", "receipt"): [(1, 5)]}
        forward.learn(marks, {"A": {"data": (1, 9)}})
        if session_present:
            receipt(forward, 5, [], 1000, 500.0)
            receipt(forward, 7, [], 2000, 520.0)
            assert all_now(forward, sent_s - 0.1) == []
        assert seqs(all_now(forward, sent_s)) == ([8, 9] if session_present else [6, 7, 8, 9])


def test_too_many_ranges_are_not_kept_but_sent_again_after_a_restart() -> None:
    last = 4 * PENDING_RANGES_MAX
    every_other = [(seq, seq) for seq in range(2, last + 1, 2)]
    forward = Forward({("A", "data", "broker"): every_other}, {"A": {"data": (1, last)}})
    forward.connected(0.0, 1)
    answer(forward, all_now(forward))
    kept = forward.positions()["A", "data", "broker"]
    assert kept[0] == (1, 2) and len(kept) == PENDING_RANGES_MAX
    again = Forward({("A", "data", "broker"): kept}, {"A": {"data": (1, last)}})
    assert again.backlog() == last - PENDING_RANGES_MAX - 1


def test_a_pace_is_that_of_the_last_minute() -> None:
    pace = Pace()
    assert pace.per_s == 0.0
    for second in range(0, 200, 10):
        pace.note(float(second), 5.0 * second if second < 100 else 500.0)
    assert pace.per_s == 0.0
    pace.note(200.0, 620.0)
    assert pace.per_s == 2.0


# --- every order of everything ------------------------------------------------------------------------------


class AnyOrder(RuleBasedStateMachine):
    """A gateway that commits, a broker that answers as it likes, a power cord that is pulled."""

    @initialize()
    def start(self) -> None:
        self.now_s = 0.0
        self.on_disk: dict[str, dict[str, int]] = {}
        self.kept: dict[tuple[str, str, str], list[tuple[int, int]]] = {}
        self.arrived: set[tuple[str, str, int]] = set()  # at the broker
        self.begin()

    def begin(self) -> None:
        self.epoch = f"E{len(self.on_disk)}"
        self.forward = Forward(
            self.kept, {e: {s: (1, last) for s, last in streams.items()} for e, streams in self.on_disk.items()}
        )
        self.on_disk[self.epoch] = {"data": 0, "event": 0}
        self.told: set[tuple[str, str, int]] = {
            (epoch, stream, seq)
            for (epoch, stream, _mark), ranges in self.kept.items()
            for first, last in ranges
            for seq in range(first, last + 1)
        }
        self.sent: list[tuple[str, str, int]] = []
        self.fresh: set[tuple[str, str, int]] = set()  # committed on this connection
        self.window = 0

    @rule(stream=st.sampled_from(["data", "event"]), count=st.integers(1, 30))
    def commit(self, stream: str, count: int) -> None:
        first = self.on_disk[self.epoch][stream] + 1
        self.on_disk[self.epoch][stream] += count
        self.forward.committed(self.epoch, stream, first, first + count - 1)
        if self.window:
            self.fresh |= {(self.epoch, stream, seq) for seq in range(first, first + count)}

    @rule(receive_maximum=st.sampled_from([1, 2, 7, 20, 65535]))
    def connect(self, receive_maximum: int) -> None:
        self.disconnect()
        self.window = min(WINDOW, receive_maximum)
        self.forward.connected(self.now_s, receive_maximum)

    @rule()
    def disconnect(self) -> None:
        self.forward.disconnected(self.now_s)
        self.sent.clear()
        self.fresh.clear()
        self.window = 0

    @rule(count=st.integers(1, 30))
    def send(self, count: int) -> None:
        for _ in range(count):
            chosen = self.forward.next(self.now_s)
            if chosen is None:
                return
            *key, late = chosen
            epoch, stream, seq = key
            assert 1 <= seq <= self.on_disk[epoch][stream]
            assert (epoch, stream, seq) not in self.told, "sent although acknowledged"
            assert (epoch, stream, seq) not in self.sent, "sent twice on one connection"
            assert late == ((epoch, stream, seq) not in self.fresh)
            if late:
                assert not any(each[1] == stream for each in self.fresh), "late before live"
            if stream == "data":
                assert not any(each[1] == "event" for each in self.fresh), "data before events"
            self.fresh.discard((epoch, stream, seq))
            self.sent.append((epoch, stream, seq))

    @precondition(lambda self: self.sent)
    @rule(data=st.data(), code=st.sampled_from([0, 0, 0, 0x10, 0x80, 0x87, 0x95, 0x97]))
    def answer(self, data: st.DataObject, code: int) -> None:
        key = self.sent.pop(data.draw(st.integers(0, len(self.sent) - 1)))
        self.forward.acknowledged(key, code, self.now_s)
        if code < 0x80:
            self.arrived.add(key)
            self.told.add(key)

    @precondition(lambda self: self.sent)
    @rule()
    def arrive_and_lose_the_answer(self) -> None:
        self.arrived.add(self.sent[0])
        self.disconnect()

    @rule(seconds=st.sampled_from([0.5, 30.0, 100.0]))
    def wait(self, seconds: float) -> None:
        self.now_s += seconds

    @rule()
    def keep_positions(self) -> None:
        self.kept |= self.forward.positions()

    @rule()
    def kill(self) -> None:
        self.begin()

    @invariant()
    def the_window_holds(self) -> None:
        if hasattr(self, "forward"):
            assert self.forward.in_flight() == len(self.sent) <= self.window

    @invariant()
    def pending_is_what_is_not_acknowledged(self) -> None:
        if not hasattr(self, "forward"):
            return
        pending = set()
        for epoch, streams in self.on_disk.items():
            for stream, last in streams.items():
                ranges = self.forward.pending(epoch, stream)
                assert all(first <= end for first, end in ranges)
                assert all(end + 1 < first for (_, end), (first, _) in zip(ranges, ranges[1:], strict=False))
                pending |= {(epoch, stream, seq) for first, end in ranges for seq in range(first, end + 1)}
                assert {(e, s, n) for e, s, n in self.told if (e, s) == (epoch, stream)} | {
                    (e, s, n) for e, s, n in pending if (e, s) == (epoch, stream)
                } == {(epoch, stream, seq) for seq in range(1, last + 1)}
        assert not pending & self.told
        assert self.forward.backlog() == len(pending)

    def teardown(self) -> None:
        """With a broker that is there and accepts, everything arrives in the end."""
        if not hasattr(self, "forward"):
            return
        self.connect(5)
        self.now_s += RETRY_S + 1
        while self.forward.backlog():
            before = len(self.told)
            self.now_s += 1.0  # as the pace wants it
            self.send(30)
            for key in self.sent:
                self.forward.acknowledged(key, 0, self.now_s)
                self.arrived.add(key)
                self.told.add(key)
            self.sent.clear()
            assert len(self.told) > before, "stands still"
        everything = {
            (epoch, stream, seq)
            for epoch, streams in self.on_disk.items()
            for stream, last in streams.items()
            for seq in range(1, last + 1)
        }
        assert self.arrived == everything


TestAnyOrder = AnyOrder.TestCase
TestAnyOrder.settings = settings(max_examples=80, stateful_step_count=40)
