"""Readings in, transitions out: tables of time, value and what must come of it."""

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edge.alarms.conditions import NEVER_MS
from edge.alarms.engine import Engine, Setting
from edge.alarms.lifecycle import Facts
from protocols.model import (
    BAD_CRC,
    CALIBRATION,
    FROZEN,
    GOOD,
    NO_REPLY,
    OVER_RANGE,
    SENSOR_FAULT,
    UNIT_REPLACED,
    WRONG_REPLY,
)


def alarm(kind, point="TK1.level", **more):
    """A setting with what every alarm has."""
    return Setting(f"{point}:{kind}", kind, point, "area", 1, "look", **more)


def run(engine, rows, point="TK1.level"):
    """Feed rows (second, value[, status]); what came of them as (second, transition)."""
    told = []
    for second, value, *status in rows:
        given = status[0] if status else GOOD
        for change in engine.reading(point, round(second * 1000), value, given):
            told.append((change.t_ms / 1000, change.setting.kind, change.transition))
    return told


def engine_of(*settings, stand=None, **boards):
    """An engine of one board, unless `boards` says more."""
    points = {each.point for each in settings} | {each.other for each in settings if each.other}
    return Engine(settings, dict.fromkeys(points, "cab1") | boards, stand)


H = alarm("H", setpoint=10.0, deadband=0.5)


@pytest.mark.parametrize(
    ("setting", "rows", "told"),
    [
        # At the limit it is reached; it is left beyond the deadband.
        (H, [(0, 9.9), (1, 10.0), (2, 9.5), (3, 9.4)], [(1, "raise"), (3, "clear")]),
        (alarm("LL", setpoint=1.0, deadband=0.1), [(0, 1.0), (1, 1.1), (2, 1.2)], [(0, "raise"), (2, "clear")]),
        # A delay is over at its own moment, not at the sample that tells so.
        (alarm("H", setpoint=10.0, on_ms=5000), [(0, 11), (3, 11), (9, 11)], [(5, "raise")]),
        (alarm("H", setpoint=10.0, on_ms=5000), [(0, 11), (3, 9), (4, 11), (8, 11), (9, 11)], [(9, "raise")]),
        (alarm("H", setpoint=10.0, off_ms=5000), [(0, 11), (1, 9), (3, 11), (4, 9), (20, 9)],
         [(0, "raise"), (9, "clear")]),
        # What was otherwise for less than its delay is forgotten, whatever comes later.
        (alarm("H", setpoint=10.0, on_ms=5000), [(0, 11), (3, 9), (9, 9)], []),
        (alarm("H", setpoint=10.0, off_ms=5000), [(0, 11), (1, 9), (3, 11), (9, 11)], [(0, "raise")]),
        # A BAD reading neither raises nor clears; delays stand still, and what comes next decides.
        (H, [(0, 11), (1, None, NO_REPLY), (2, 11)], [(0, "raise")]),
        (H, [(0, 11), (1, None, SENSOR_FAULT), (2, 9)], [(0, "raise"), (2, "clear")]),
        (alarm("H", setpoint=10.0, on_ms=5000), [(0, 11), (1, None, NO_REPLY), (9, None, NO_REPLY)], []),
        (alarm("H", setpoint=10.0, on_ms=5000), [(0, 11), (1, None, NO_REPLY), (9, 11)], [(9, "raise")]),
        (alarm("H", setpoint=10.0, on_ms=5000), [(0, 11), (1, None, NO_REPLY), (9, 9)], []),
        # An UNCERTAIN one may raise, and does not clear. Over range is above every high limit.
        (H, [(0, 11, FROZEN), (1, 9, FROZEN), (2, 9)], [(0, "raise"), (2, "clear")]),
        (H, [(0, 9), (1, 9, OVER_RANGE), (2, 9)], [(1, "raise"), (2, "clear")]),
        (alarm("L", setpoint=1.0), [(0, 5), (1, 0, OVER_RANGE)], [(1, "raise")]),
        (alarm("FAULT", statuses=frozenset({SENSOR_FAULT})), [(0, None, SENSOR_FAULT), (1, 5)],
         [(0, "raise"), (1, "clear")]),
        # A lost poll says nothing of what the detector has said of itself; its next word decides.
        *((alarm("FAULT", statuses=frozenset({SENSOR_FAULT})),
           [(0, None, SENSOR_FAULT), (1, None, unheard), (2, None, SENSOR_FAULT), (3, None, unheard), (4, 5)],
           [(0, "raise"), (4, "clear")]) for unheard in (NO_REPLY, BAD_CRC, WRONG_REPLY, UNIT_REPLACED)),
        (alarm("OVER", statuses=frozenset({OVER_RANGE}), latch=True),
         [(0, 12, OVER_RANGE), (1, None, NO_REPLY), (2, 12, OVER_RANGE)], [(0, "raise")]),
        (alarm("FAULT", statuses=frozenset({SENSOR_FAULT})), [(0, None, SENSOR_FAULT), (1, None, CALIBRATION)],
         [(0, "raise"), (1, "clear")]),
        (alarm("FROZEN", window_ms=3000), [(0, 5), (2, 5), (3, 5), (4, 5.1)], [(3, "raise"), (4, "clear")]),
        # A rate is over below its deadband, not as soon as it is below its limit.
        (alarm("ROR", setpoint=10.0, deadband=2.0, window_ms=5000),
         [(second, 0.2 * min(second, 5) + 0.15 * max(min(second, 20) - 5, 0)) for second in range(23)],
         [(5, "raise"), (21, "clear")]),
        # No value for so long: bad ones and none at all are the same to it.
        (alarm("STALE", on_ms=3000), [(0, 5), (1, None, NO_REPLY), (6, 5)], [(3, "raise"), (6, "clear")]),
        # A detector that says what is wrong with it is not stale; it is as soon as it says nothing any more.
        (alarm("STALE", on_ms=3000, statuses=frozenset({SENSOR_FAULT})),
         [(0, None, NO_REPLY), (3, None, NO_REPLY), (4, None, SENSOR_FAULT), (9, None, SENSOR_FAULT),
          (10, None, NO_REPLY), (12, None, NO_REPLY)], [(3, "raise"), (4, "clear"), (7, "raise"), (9, "clear"),
          (12, "raise")]),
        (alarm("STALE", on_ms=3000), [(0, 5), (2, 5), (4.9, 5), (7.9, 5)], [(7.9, "raise"), (7.9, "clear")]),
    ],
)  # fmt: skip
def test_table(setting, rows, told):
    assert run(engine_of(setting), rows) == [(second, setting.kind, transition) for second, transition in told]


def test_over_range_that_latches_outranks_what_is_normal_again():
    over = alarm("OVER", statuses=frozenset({OVER_RANGE}), latch=True)
    engine = engine_of(H, over)
    assert run(engine, [(0, 12, OVER_RANGE), (1, 3), (2, 3)]) == [
        (0, "H", "raise"), (0, "OVER", "raise"), (1, "OVER", "clear"),
    ]  # fmt: skip
    engine.command("TK1.level:OVER", "ack", occurrence=1)
    assert engine.command("TK1.level:OVER", "reset").after.state == "NORM"
    assert run(engine, [(3, 3)]) == [(3, "H", "clear")]


def test_timers_run_without_data():
    engine = engine_of(alarm("H", setpoint=10.0, on_ms=5000))
    run(engine, [(0, 11)])
    assert engine.due_ms("cab1") == 5000
    assert engine.advance("cab1", 4999) == []
    (change,) = engine.advance("cab1", 60_000)
    assert (change.t_ms, change.transition, change.value) == (5000, "raise", 11)
    assert engine.due_ms("cab1") == NEVER_MS


def test_what_is_never_read_is_stale():
    engine = engine_of(alarm("STALE", on_ms=3000))
    engine.begin("cab1", 1000)
    assert [change.t_ms for change in engine.advance("cab1", 9000)] == [4000]


def test_an_acknowledged_alarm_that_stands_is_announced_anew():
    engine = engine_of(alarm("H", setpoint=10.0, re_alarm_ms=60_000))
    run(engine, [(0, 11)])
    engine.command("TK1.level:H", "ack", occurrence=1)
    assert run(engine, [(59, 11), (61, 11)]) == [(60, "H", "re_alarm")]


def test_what_is_announced_anew_is_so_after_a_restart_a_changed_site_and_a_shelf():
    anew = alarm("H", setpoint=10.0, re_alarm_ms=60_000)
    engine = engine_of(anew, stand={"TK1.level:H": Facts(active=True, acked=True, occurrence=4)})
    engine.begin("cab1", 0)
    assert run(engine, [(59, 11), (61, 11)]) == [(60, "H", "re_alarm")]
    engine.command("TK1.level:H", "ack", occurrence=5)
    engine.command("TK1.level:H", "shelve", until_ms=1)
    assert run(engine, [(200, 11)]) == []
    engine.command("TK1.level:H", "unshelve")
    assert run(engine, [(259, 11), (261, 11)]) == [(260, "H", "re_alarm")]
    engine.command("TK1.level:H", "ack", occurrence=6)
    sooner = engine_of(alarm("H", setpoint=10.0, re_alarm_ms=30_000), stand=engine.stand())
    sooner.succeed(engine)
    assert run(sooner, [(290, 11), (292, 11)]) == [(291, "H", "re_alarm")]


def test_what_was_stale_before_a_restart_is_well_with_its_first_value():
    engine = engine_of(alarm("STALE", on_ms=3000), stand={"TK1.level:STALE": Facts(active=True, occurrence=1)})
    engine.begin("cab1", 0)
    assert run(engine, [(1, 5)]) == [(1, "STALE", "clear")]


def test_what_is_learnt_to_stand_is_over_with_the_next_normal_reading():
    before = engine_of(H)
    run(before, [(0, 5)])
    engine = engine_of(H, stand={"TK1.level:H": Facts(active=True, acked=False, occurrence=4)})
    engine.succeed(before)
    assert run(engine, [(1, 5)]) == [(1, "H", "clear")]


@pytest.mark.parametrize(("board", "told"), [("cab1", [(1, "DEV", "raise")]), ("cab2", [])])
def test_over_a_change_of_the_site_the_other_sensors_value_counts_unless_it_is_on_another_board(board, told):
    deviation = alarm("DEV", setpoint=5.0, other="TK1.servo")
    before = engine_of(deviation)
    run(before, [(0, 10.0)], "TK1.servo")
    engine = engine_of(deviation, **{"TK1.servo": board})
    engine.succeed(before)
    assert run(engine, [(1, 15.0)]) == told


def test_a_delay_begins_anew_where_its_point_comes_to_another_board():
    slow = alarm("H", setpoint=10.0, on_ms=5000)
    before = engine_of(slow)
    run(before, [(0, 11)])
    engine = engine_of(slow, **{"TK1.level": "cab2"})
    engine.succeed(before)
    assert run(engine, [(3, 11), (7.9, 11), (8.1, 11)]) == [(8, "H", "raise")]


def test_two_sensors_agree_again_below_the_deadband():
    engine = engine_of(alarm("DEV", setpoint=5.0, deadband=1.0, other="TK1.servo"))
    run(engine, [(0, 10.0)], "TK1.servo")
    assert run(engine, [(1, 15.0), (2, 14.5), (3, 14.0), (4, 13.9)]) == [(1, "DEV", "raise"), (4, "DEV", "clear")]


def test_what_stands_from_an_earlier_run_is_first_and_what_is_raised_after_it_is_not():
    stand = {"TK1.level:H": Facts(active=True, acked=True, occurrence=4)}
    engine = engine_of(H, alarm("HH", setpoint=12.0), stand=stand)
    (change,) = engine.reading("TK1.level", 0, 12.5, GOOD)
    assert (change.setting.kind, change.first_out) == ("HH", False)


def test_over_range_keeps_no_delay_running_that_a_normal_reading_has_ended():
    over = alarm("OVER", statuses=frozenset({OVER_RANGE}), latch=True)
    engine = engine_of(alarm("H", setpoint=10.0, on_ms=5000), over)
    told = run(engine, [(0, 12, OVER_RANGE), (1, 3), (2, 11), (6, 11), (6.5, 3)])
    assert [each for each in told if each[1] == "H"] == []


def test_what_is_not_acknowledged_or_over_is_not_announced_anew():
    engine = engine_of(alarm("H", setpoint=10.0, latch=True, re_alarm_ms=60_000))
    assert run(engine, [(0, 11), (100, 11)]) == [(0, "H", "raise")]
    engine.command("TK1.level:H", "ack", occurrence=1)
    assert run(engine, [(101, 9), (300, 9)]) == [(101, "H", "clear")]


def test_an_alarm_of_an_earlier_run_is_announced_once():
    engine = engine_of(H, stand={"TK1.level:H": Facts(active=True, acked=True, occurrence=4)})
    assert run(engine, [(0, 11), (1, 11), (2, 9), (3, 11)]) == [(2, "H", "clear"), (3, "H", "raise")]
    assert engine.stand()["TK1.level:H"].occurrence == 5


def test_the_first_alarm_of_a_group_is_marked():
    high = alarm("HH", setpoint=11.0)
    engine = engine_of(H, high)
    first = engine.reading("TK1.level", 0, 12.0, GOOD)
    assert [(change.setting.kind, change.first_out) for change in first] == [("H", True), ("HH", False)]
    assert [change.after.first_out for change in first] == [True, False]
    engine.reading("TK1.level", 1, 0.0, GOOD)
    assert engine.reading("TK1.level", 2, 10.5, GOOD)[0].first_out


DETECTOR = {
    "STALE": alarm("STALE", "TK2.level", on_ms=1000),
    "FAULT": alarm("FAULT", "TK2.level", statuses=frozenset({SENSOR_FAULT})),
    "OVER": alarm("OVER", "TK2.level", statuses=frozenset({OVER_RANGE}), latch=True),
    "FROZEN": alarm("FROZEN", "TK2.level", window_ms=0),
    "DEV": alarm("DEV", "TK2.level", setpoint=1.0, other="TK1.level"),
}


@pytest.mark.parametrize("kind", DETECTOR)
def test_what_is_wrong_with_a_detector_is_never_first_and_hides_no_first(kind):
    engine = engine_of(H, DETECTOR[kind])
    engine.reading("TK1.level", 0, 5.0, GOOD)
    status = {"FAULT": SENSOR_FAULT, "STALE": NO_REPLY, "OVER": OVER_RANGE}.get(kind, GOOD)
    value = 1.0 if status in (GOOD, OVER_RANGE) else None
    wrong = [*engine.reading("TK2.level", 0, value, status), *engine.advance("cab1", 2000)]
    assert [(each.setting.kind, each.transition, each.first_out) for each in wrong] == [(kind, "raise", False)]
    assert [each.first_out for each in engine.reading("TK1.level", 3000, 12.0, GOOD)] == [True]


@pytest.mark.parametrize(
    ("covers", "ends"), [("shelve", "unshelve"), ("suppress", "unsuppress"), ("out_of_service", "in_service")]
)
def test_what_is_covered_is_never_first_and_hides_no_first_until_that_ends(covers, ends):
    other = alarm("H", "TK2.level", setpoint=10.0)
    engine = engine_of(H, other)
    engine.command("TK1.level:H", covers, until_ms=1)
    (covered,) = engine.reading("TK1.level", 0, 12.0, GOOD)
    (first,) = engine.reading("TK2.level", 0, 12.0, GOOD)
    assert (covered.first_out, first.first_out) == (False, True)
    engine.reading("TK2.level", 1000, 5.0, GOOD)
    engine.command("TK1.level:H", ends)
    (second,) = engine.reading("TK2.level", 2000, 12.0, GOOD)
    assert not second.first_out


def test_a_vote_that_rests_on_what_is_broken_hides_no_first():
    members = [alarm("H", point, setpoint=25.0) for point in ("GDa.gas", "GDb.gas")]
    names = tuple(each.alarm for each in members)
    engine = engine_of(*members, Setting("v:VOTE", "VOTE", "GDa.gas", "area", 1, "go", members=names, needed=1))
    (vote,) = engine.reading("GDa.gas", 0, None, NO_REPLY)
    (high,) = engine.reading("GDb.gas", 0, 30.0, GOOD)
    assert (vote.setting.kind, vote.first_out, high.setting.kind, high.first_out) == ("VOTE", False, "H", True)


def test_deviation_says_nothing_while_one_has_no_value():
    engine = engine_of(alarm("DEV", setpoint=0.2, other="TK1.servo"))
    assert run(engine, [(0, 5.0), (1, 5.0)]) == []
    assert run(engine, [(2, 5.1)], "TK1.servo") == []
    assert run(engine, [(3, None, NO_REPLY)], "TK1.servo") == []
    assert run(engine, [(4, 9.0)]) == []
    assert run(engine, [(5, 5.1)], "TK1.servo") == []
    assert run(engine, [(6, 9.0)]) == [(6, "DEV", "raise")]


def apart():
    """An engine of a level and a servo gauge on boards of their own, for whose difference there are ten seconds."""
    deviation = alarm("DEV", setpoint=0.2, on_ms=10_000, off_ms=10_000, other="TK1.servo")
    engine = engine_of(deviation, alarm("STALE", "TK1.servo", on_ms=3000), **{"TK1.servo": "cab2"})
    engine.begin("cab1", 0)
    engine.begin("cab2", 0)
    return engine


def test_deviation_runs_in_the_time_of_its_own_board():
    engine = apart()
    run(engine, [(1, 5.0)], "TK1.servo")
    assert run(engine, [(36_000, 5.0)]) == []
    assert run(engine, [(2, 8.0)], "TK1.servo") == []  # this board began ten hours later
    assert run(engine, [(36_000.1, 5.0), (36_010, 5.0)]) == []
    assert run(engine, [(36_011, 5.0)]) == [(36_010.1, "DEV", "raise")]
    assert run(engine, [(3, 5.0)], "TK1.servo") == []
    assert run(engine, [(36_012, 5.0), (36_023, 5.0)]) == [(36_022, "DEV", "clear")]


def test_deviation_says_nothing_while_the_other_is_stale():
    engine = apart()
    run(engine, [(0, 5.0)], "TK1.servo")
    assert run(engine, [(0, 5.0), (1, 9.0)]) == []
    assert [each.setting.kind for each in engine.lapse("cab2", 60_000)] == ["STALE"]
    assert run(engine, [(2, 9.0), (30, 9.0)]) == []  # a delay that has begun does not end either
    assert run(engine, [(60, 9.0)], "TK1.servo") == [(60, "STALE", "clear")]
    assert run(engine, [(61, 9.0), (90, 9.0)]) == []
    assert run(engine, [(91, 5.0), (101, 5.0)]) == [(101, "DEV", "raise")]
    engine.lapse("cab2", 120_000)
    assert run(engine, [(102, 9.0), (120, 9.0)]) == []  # nor does it clear


def voted(needed=2, names="abcd", *, boards=None, stand=None, bad_counts=True):
    """An engine of detectors that vote, each on the board that `boards` says, else on one."""
    points = [f"GD{name}.gas" for name in names]
    members = [alarm("H", point, setpoint=25.0) for point in points]
    vote = Setting(
        "vote.a:VOTE", "VOTE", points[0], "a", 1, "go",
        members=tuple(each.alarm for each in members), needed=needed, bad_counts=bad_counts,
    )  # fmt: skip
    stale = [alarm("STALE", point, on_ms=3000) for point in points]
    engine = engine_of(*members, *stale, vote, stand=stand, **{f"GD{name}.gas": board for name, board in boards or ()})
    for board in {"cab1"} | {board for _name, board in boards or ()}:
        engine.begin(board, 0)
    return engine


def votes(changes):
    """What a vote has to say among them: transition, and how many it rests on."""
    return [(each.transition, each.rests_on) for each in changes if each.setting.kind == "VOTE"]


def reads(engine, rows):
    """Feed rows (second, detector, value or None); what the vote said of it."""
    return [
        (second, *said)
        for second, name, value in rows
        for said in votes(
            engine.reading(f"GD{name}.gas", round(second * 1000), value, NO_REPLY if value is None else GOOD)
        )
    ]


@pytest.mark.parametrize(
    ("bad_counts", "rows", "told"),
    [
        (True, [("a", 30), ("b", 5), ("c", 5), ("d", 5), ("b", None)], [("raise", 4)]),
        (False, [("a", 30), ("b", 5), ("c", 5), ("d", 5), ("b", None)], []),
        (False, [("a", 30), ("b", None), ("c", None), ("d", None)], [("raise", 1)]),  # all that are left agree
        (True, [("a", 30), ("b", 30), ("a", 5)], [("raise", 4), ("clear", 4)]),
        # What dies in alarm stays in alarm, for the vote as well; its next good value decides.
        (False, [("a", 30), ("b", 30), ("a", None), ("b", None)], [("raise", 4)]),
        (False, [("a", 30), ("b", 30), ("a", None), ("a", 5), ("a", None)], [("raise", 4), ("clear", 4)]),
        (True, [("a", 30), ("b", 30), ("a", None), ("a", 5)], [("raise", 4), ("clear", 4)]),
    ],
)
def test_two_of_four(bad_counts, rows, told):
    engine = voted(bad_counts=bad_counts)
    for name in "abcd":
        engine.reading(f"GD{name}.gas", 0, 0.0, GOOD)
    rows = [(tenth / 10, name, value) for tenth, (name, value) in enumerate(rows)]
    assert [said for _second, *said in reads(engine, rows)] == [list(each) for each in told]


@pytest.mark.parametrize("bad_counts", [True, False])
@pytest.mark.parametrize(
    ("stand", "values", "told"),
    [
        # All are healthy: one after the other is read, and nobody has anything to tell.
        ("", (0, 0, 0, 0), []),
        ("", (30, 0, 0, 0), []),
        # Two are in alarm: that is known with the second, whatever the others are going to say.
        ("", (30, 30, 0, 0), [(0.1, "raise", 2)]),
        ("", (0, 30, 0, 30), [(0.3, "raise", 4)]),
        # One is in alarm from an earlier run.
        ("a", (30, 0, 0, 0), []),
        # The vote itself is, and still so, or only by one member; it goes once all have said so.
        ("bcv", (0, 30, 30, 0), []),
        ("bcv", (0, 30, 0, 0), [(0.3, "clear", 4)]),
    ],
)
def test_at_a_start_a_vote_waits_for_those_that_may_turn_it(bad_counts, stand, values, told):
    ids = {name: f"GD{name}.gas:H" for name in "abcd"} | {"v": "vote.a:VOTE"}
    known = {ids[each]: Facts(active=True, acked=True, occurrence=1) for each in stand}
    engine = voted(bad_counts=bad_counts, stand=known)
    rows = [(tenth / 10, name, value) for tenth, (name, value) in enumerate(zip("abcd", values, strict=True))]
    assert reads(engine, rows) == told


@pytest.mark.parametrize(("bad_counts", "rests_on"), [(True, 4), (False, 2)])
def test_members_on_a_board_that_falls_silent_are_bad_from_then_on(bad_counts, rests_on):
    engine = voted(bad_counts=bad_counts, boards=[("c", "cab2"), ("d", "cab2")])
    assert reads(engine, [(0, name, 0) for name in "abcd"] + [(1, "a", 30)]) == []
    changes = engine.lapse("cab2", 60_000)
    assert votes(changes) == ([("raise", 4)] if bad_counts else [])
    assert [(each.board, each.t_ms, each.by_reading) for each in changes] == [("cab2", 3000, False)] * len(changes)
    assert reads(engine, [(2, "b", 30)]) == ([] if bad_counts else [(2, "raise", rests_on)])
    over = [(61, "clear", 4)] if bad_counts else [(3, "clear", rests_on)]
    assert reads(engine, [(3, "a", 5), (3, "b", 5), (61, "c", 0)]) == over


def test_members_on_a_bus_that_is_not_polled_are_bad_from_then_on():
    engine = voted()
    assert reads(engine, [(0, name, 0) for name in "abcd"] + [(second, "a", 0) for second in (1, 2)]) == []
    (raised,) = (each for each in engine.reading("GDa.gas", 9000, 0.0, GOOD) if each.setting.kind == "VOTE")
    assert (raised.transition, raised.t_ms, raised.by_reading) == ("raise", 3000, False)
    assert reads(engine, [(10, "b", 0), (10, "c", 0), (10, "d", 0)]) == [(10, "clear", 4)]


def test_members_that_are_never_read_are_bad_once_they_are_stale():
    engine = voted(names="abc", bad_counts=False)
    assert reads(engine, [(1, "a", 30)]) == []
    assert [(*said, each.t_ms) for each in engine.advance("cab1", 9000) for said in votes([each])] == [
        ("raise", 1, 3000)
    ]


def test_what_falls_silent_in_alarm_stays_in_alarm_for_the_vote():
    engine = voted(bad_counts=False, boards=[("c", "cab2"), ("d", "cab2")])
    rows = [(0, "a", 0), (0, "b", 0), (0, "c", 30), (0, "d", 30)]
    assert reads(engine, rows) == [(0, "raise", 4)]
    assert votes(engine.lapse("cab2", 60_000)) == []
    assert reads(engine, [(1, "a", 0), (2, "b", 0), (61, "c", 0)]) == [(61, "clear", 4)]


def test_a_vote_is_turned_by_the_end_of_a_members_delay_at_that_moment():
    members = [alarm("H", point, setpoint=25.0, on_ms=5000) for point in ("GDa.gas", "GDb.gas")]
    names = tuple(each.alarm for each in members)
    engine = engine_of(*members, Setting("v:VOTE", "VOTE", "GDa.gas", "a", 1, "go", members=names, needed=2))
    assert reads(engine, [(0, "a", 30), (1, "b", 30)]) == []
    assert [(each.setting.kind, each.t_ms) for each in engine.advance("cab1", 9000)] == [
        ("H", 5000), ("H", 6000), ("VOTE", 6000),
    ]  # fmt: skip


def test_a_member_in_maintenance_is_not_counted_as_healthy():
    points = [f"GD{name}.gas" for name in "abc"]
    members = [alarm("H", point, setpoint=25.0) for point in points]
    vote = Setting("v:VOTE", "VOTE", points[0], "a", 1, "go", members=tuple(each.alarm for each in members), needed=2)
    engine = engine_of(*members, vote)
    for point in points:
        engine.reading(point, 0, 0.0, GOOD)
    for name in ("GDb.gas:H", "GDc.gas:H"):
        engine.command(name, "out_of_service")
    changes = engine.reading("GDa.gas", 1000, 30.0, GOOD)
    assert [(change.setting.kind, change.rests_on) for change in changes] == [("H", None), ("VOTE", 1)]


def test_minutes_left_are_told_before_the_level_is():
    """A tank that rises 20 mm a minute towards 10 m: with ten minutes left it must be known, and not before."""
    engine = engine_of(alarm("TTHH", setpoint=10.0, level=10.0, window_ms=300_000))
    told = run(engine, [(2 * i, 9.0 + 0.02 * 2 * i / 60) for i in range(1300)])
    assert [(kind, transition) for _second, kind, transition in told] == [("TTHH", "raise")]
    assert told[0][0] == pytest.approx(40 * 60, abs=3)


def test_a_trend_is_not_believed_before_its_window_is_full_nor_across_a_hole():
    engine = engine_of(alarm("ROR", setpoint=0.1, window_ms=60_000))
    assert run(engine, [(i, i * 1.0) for i in range(60)]) == []
    assert run(engine, [(i + 80, i * 1.0) for i in range(60)]) == []
    assert run(engine, [(140, 60.0)]) == [(140, "ROR", "raise")]


@pytest.mark.parametrize(
    ("setting", "more", "value"),
    [
        # Ten minutes of window. The pump starts after 700 s; the float sticks after 500 s.
        (alarm("TTCH", setpoint=30.0, level=12.0, window_ms=600_000), {"setpoint": 29.0}, lambda s: max(0, s - 700)),
        (alarm("ROR", setpoint=0.05, window_ms=600_000), {"setpoint": 0.06}, lambda s: max(0, s - 700)),
        (alarm("FROZEN", window_ms=600_000), {"window_ms": 700_000}, lambda s: min(0, s - 500)),
    ],
)
@pytest.mark.parametrize("changes_s", [2, 760])
def test_a_window_of_readings_goes_on_over_a_change_of_the_site(setting, more, value, changes_s):
    def raised_s(after=None):
        engine = engine_of(setting)
        for second in range(0, 3600, 2):
            if second == changes_s and after is not None:
                before, engine = engine, engine_of(after, alarm("H", "TK2.level", setpoint=10.0), stand=engine.stand())
                engine.succeed(before)
            for change in engine.reading("TK1.level", second * 1000, 8 + value(second) * 0.4 / 60, GOOD):
                return change.t_ms / 1000
        return None

    undisturbed_s = raised_s()
    assert 700 < undisturbed_s < 1300
    assert raised_s(setting) == raised_s(replace(setting, action="run", latch=True)) == undisturbed_s
    if changes_s == 760:
        assert raised_s(replace(setting, **more)) >= changes_s + 600  # of something else it begins anew


BURSTS = st.lists(
    st.tuples(
        st.integers(0, 4000),
        st.sampled_from("abc"),
        st.one_of(st.none(), st.sampled_from([0.5, 5.0, 9.6, 10.0, 11.5])),
        st.integers(0, 3000),
    ),
    max_size=60,
)


@settings(max_examples=300)
@given(BURSTS, st.booleans())
def test_one_by_one_and_in_one_burst_the_transitions_are_the_same(steps, bad_counts):
    points = {name: f"TK{name}.level" for name in "abc"}

    def fresh():
        singles = [
            each
            for point in points.values()
            for each in (
                alarm("L", point, setpoint=1.0, on_ms=1500),
                alarm("H", point, setpoint=10.0, deadband=0.5, on_ms=2000, off_ms=3000),
                alarm("HH", point, setpoint=11.0, latch=True),
                alarm("STALE", point, on_ms=5000),
                alarm("FROZEN", point, window_ms=6000),
                alarm("DEV", point, setpoint=1.0, on_ms=2000, other=points["a" if point != points["a"] else "b"]),
            )
        ]
        members = tuple(f"{point}:H" for point in points.values())
        vote = Setting("v:VOTE", "VOTE", points["a"], "a", 1, "", members=members, needed=2, bad_counts=bad_counts)
        engine = engine_of(*singles, vote)
        engine.begin("cab1", 0)
        return engine

    def told(changes):
        return [(change.t_ms, change.setting.alarm, change.transition, change.rests_on) for change in changes]

    slow, fast = fresh(), fresh()
    one_by_one, burst, t_ms = [], [], 0
    for after_ms, name, value, idle_ms in steps:
        t_ms += after_ms
        status = GOOD if value is not None else NO_REPLY
        one_by_one += told(slow.reading(points[name], t_ms, value, status))
        one_by_one += told(slow.advance("cab1", t_ms + idle_ms))  # the clock runs on, and nobody has heard more
        burst += told(fast.reading(points[name], t_ms, value, status))
        t_ms += idle_ms
    burst += told(fast.advance("cab1", t_ms))
    assert one_by_one == burst
