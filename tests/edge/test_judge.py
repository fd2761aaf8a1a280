"""The alarms of the example site in virtual time, through the pipeline: what comes of readings, of none, of people."""

import json
from dataclasses import replace

import pytest

from edge.alarms.horn import Horn
from edge.alarms.judge import DRILL, LATE_S, QUIET_S, START_S, Judge
from edge.alarms.presets import alarms_of, birth_row
from edge.batch import Batch
from edge.feed_schemas import Schemas
from edge.timebase import UNSYNCED
from protocols import modbus
from protocols.feeds import json_feed
from protocols.feeds.json_feed import TimeQuality
from protocols.model import IN_MAINTENANCE, Output, Voting
from tests.edge.test_pipeline import SITE, START_MS, World, messages

OWN = TimeQuality("synced", None, None)
SCHEMAS = Schemas()


class Judged(World):
    """A world whose points are judged. `now_s` is the gateway's monotonic clock; the boards began at 0 of it."""

    def __init__(self, site=SITE, kept=(), bypasses=(), now_s=0.0, is_unread=False):
        super().__init__(site)
        self.judge = Judge(site, kept, bypasses, now_s, START_MS, is_unread=is_unread)
        self.pipeline.judge = self.judge
        self.pipeline.tell(self.judge.begin(START_MS), OWN, START_MS, 0.0)
        self.now_s = now_s

    def at(self, second, point, value, outcome=modbus.OK, **taken):
        """A reading of this second of its board's uptime comes at once."""
        self.now_s = max(self.now_s, second)
        self.take(self.sample(point, value, round(second * 1000), outcome), now_s=self.now_s, **taken)

    def look(self, now_s):
        self.now_s = now_s
        wall_ms = START_MS + round(now_s * 1000)
        self.pipeline.tell(self.judge.look(now_s, wall_ms), OWN, wall_ms, now_s)

    def apply(self, site):
        wall_ms = START_MS + round(self.now_s * 1000)
        self.pipeline.tell(self.judge.leave(site, wall_ms, "R7"), OWN, wall_ms, self.now_s)
        self.pipeline.tell(self.judge.configure(site, self.now_s, wall_ms, "R7"), OWN, wall_ms, self.now_s)

    def bypass(self, kind, what, minutes=60):
        until_ms = START_MS + round(self.now_s * 1000) + minutes * 60_000
        told = self.judge.bypass(kind, what, "HW-17", "R7", "bump test", until_ms, self.now_s, START_MS)
        self.pipeline.tell(told, OWN, START_MS, self.now_s)

    def command(self, alarm, event, **more):
        what = {"occurrence": None, "until_ms": None, "by": "R7", "reason": None} | more
        told = self.judge.command(alarm, event, now_s=self.now_s, wall_ms=START_MS, **what)
        if isinstance(told, str):
            return told
        self.pipeline.tell([told], OWN, START_MS, self.now_s)
        return told.change.after.state

    def events(self, stale=False):
        """Alarm events since the last time, which all keep the schema; of points that are never read only if asked."""
        found = messages(self.close(), "alarm")
        assert [text for each in found for text in SCHEMAS.violations("alarm", each)] == []
        return [each for each in found if stale or not each["alarm"].endswith(":STALE")]

    def told(self, stale=False):
        """(alarm, transition, state after, mode) of each of them."""
        return [(each["alarm"], each["transition"], each["to"], each["mode"]) for each in self.events(stale)]


def stored(batches: list[Batch]):
    """What a later process finds."""
    kept = {each.alarm: each for batch in batches for each in batch.alarms}
    bypasses = [batch.bypasses for batch in batches if batch.bypasses is not None]
    return tuple(kept.values()), bypasses[-1] if bypasses else ()


def with_horn():
    """The example site with one horn, for everything."""
    return replace(SITE, outputs=(Output("horn", "horn", "cab1", None, 0, "", 25, (1, 2, 3), (), "keep", 10_000),))


def without(point_name):
    """The example site less a point."""
    return replace(SITE, points=tuple(each for each in SITE.points if each.point != point_name))


def with_(point_name, **changes):
    """The example site with a point that is set otherwise."""
    return replace(
        SITE, points=tuple(replace(each, **changes) if each.point == point_name else each for each in SITE.points)
    )


def test_the_reading_that_makes_an_alarm_is_reported_at_once_and_named():
    world = Judged(with_("GD07.gas", deadband=50.0))
    world.at(1, "GD07.gas", 5.0)
    world.close()
    world.at(1.9, "TK101.temp", 20.0)
    assert world.pipeline.due_s() > world.now_s
    world.at(2, "GD07.gas", 30.0)  # within its deadband: only as an alarm it is reported
    assert world.pipeline.due_s() == 2
    batches = world.close()
    (event,) = messages(batches, "alarm")
    data = {each["seq"]: each for each in messages(batches, "data")}
    row = data[event["reading"]["seq"]]["rows"][event["reading"]["row"]]
    assert (row[0], row[2]) == ("GD07.gas", 30.0)
    assert [event[name] for name in ("alarm", "value", "unit", "status", "setpoint", "first_out", "t_ms")] == [
        "GD07.gas:H", 30.0, "%{LEL}", 0, 25.0, True, START_MS + 2000,
    ]  # fmt: skip
    assert event["facts"]["latched"] and not event["judged_late"] and event["to"] == "UNACK"


def test_around_what_is_urgent_readings_are_kept():
    world = Judged()
    world.at(1, "GD07.gas", 60.0)
    world.at(2, "GD07.gas", None, modbus.EXCEPTION)  # FAULT, priority 2; CHECK is 3
    assert [each for batch in world.close() for each in batch.raised_ms] == [
        START_MS + 1000, START_MS + 1000, START_MS + 2000,
    ]  # fmt: skip
    world.at(3, "GD07.gas", 60.0)
    assert [each for batch in world.close() for each in batch.raised_ms] == []


def test_an_alarm_that_is_over_its_delay_names_no_reading():
    world = Judged(with_("TK101.level", on_delay_s=10.0))
    world.at(1, "TK101.level", 11.0)
    world.at(9, "TK101.level", 11.0)
    assert world.told() == []
    world.at(13, "TK102.level", 5.0)  # another point's reading, by which the time of the board goes on
    (event,) = world.events()
    assert (event["alarm"], event["reading"], event["t_ms"]) == ("TK101.level:H", None, START_MS + 11_000)


def test_a_boards_time_goes_on_over_its_boots_whatever_utc_says():
    world = Judged(with_("TK101.level", on_delay_s=10.0))
    world.at(100, "TK101.level", 11.0, clock=UNSYNCED)
    world.at(106, "TK101.level", 11.0, clock=UNSYNCED)
    world.at(1, "TK101.level", 11.0, boot="00000002", clock=UNSYNCED)  # six of ten seconds are over
    world.at(4, "TK101.level", 11.0, boot="00000002", clock=UNSYNCED)
    assert world.told() == []
    world.at(6, "TK101.level", 11.0, boot="00000002", clock=UNSYNCED)
    (event,) = world.events()
    assert (event["boot"], event["t_uptime_ms"], event["t_ms"]) == ("cab1/00000002", 5000, None)


def test_a_board_that_is_quiet_makes_its_points_stale_and_nothing_else():
    world = Judged(with_("TK101.level", on_delay_s=10.0))
    world.at(1, "TK101.level", 11.0)
    world.close()
    world.look(1 + QUIET_S + 5.9)
    assert ("TK101.level:STALE", "raise", "UNACK", "simulated") not in world.told(stale=True)
    world.look(1 + QUIET_S + 60)
    told = world.told(stale=True)
    assert ("TK101.level:STALE", "raise", "UNACK", "simulated") in told
    assert all(alarm.endswith(":STALE") for alarm, *_rest in told)
    for second in range(3, 60, 2):  # what the board kept comes, and is judged in its own time
        world.at(second, "TK101.level", 11.0 if second < 20 else 5.0)
    assert [each[:3] for each in world.told(stale=True) if each[0].startswith("TK101.level")] == [
        ("TK101.level:STALE", "clear", "RTNUN"),
        ("TK101.level:H", "raise", "UNACK"),
        ("TK101.level:H", "clear", "RTNUN"),
    ]


def test_a_board_that_polls_what_nobody_understands_makes_its_points_stale():
    world = Judged()
    world.at(1, "GD07.gas", 5.0)
    for second in range(2, 60):
        board, (generation, kind, body) = world.sample("GD07.gas", 5.0, second * 1000)
        world.take((board, (generation ^ 1, kind, body)), now_s=second)  # of a plan that is not known
        world.look(second)
    assert ("GD07.gas:STALE", "raise", "UNACK", "simulated") in world.told(stale=True)


def test_what_moved_while_a_board_was_off_is_no_movement_of_a_moment():
    world = Judged(with_("TK101.level", trends=(("ROR", 0.05), ("TTHH", 5.0)), trend_s=600.0))
    for second in range(1, 1200, 2):
        world.at(second, "TK101.level", 5.0)
    world.look(4800)  # its cabinet had no power for an hour
    assert world.told() == []
    for second in range(1, 1200, 2):
        world.now_s = 4800 + second
        world.take(world.sample("TK101.level", 8.0, second * 1000), now_s=world.now_s, boot="00000002", began_s=4800.0)
    assert world.told() == []


def test_delays_stand_still_while_a_board_is_off():
    world = Judged(with_("TK101.level", on_delay_s=10.0))
    world.at(100, "TK101.level", 11.0)
    world.take(world.sample("TK102.level", 5.0, 1000), now_s=3601, boot="00000002", began_s=3600.0)
    world.take(world.sample("TK101.level", 5.0, 2000), now_s=3602, boot="00000002", began_s=3600.0)
    assert world.told() == []  # nobody knows how long it was so


def test_a_restart_of_a_board_makes_nothing_stale():
    world = Judged()
    world.at(100, "GD07.gas", 5.0)
    world.look(100 + QUIET_S)
    world.at(8, "GD07.gas", 5.0, boot="00000002")
    assert [each for each in world.told(stale=True) if each[0].startswith("GD07")] == []


def test_a_board_that_never_comes_is_found():
    world = Judged()
    world.look(START_S + 4)
    assert ("GD07.gas:STALE", "raise", "UNACK", "simulated") in world.told(stale=True)


def test_an_excursion_while_the_gateway_was_off_stands_as_returned_and_marked():
    world = Judged(now_s=LATE_S + 60)
    for second, value in enumerate((5.0, 60.0, 60.0, 5.0, 5.0)):
        world.at(second, "TK105.temp", value)
    late = world.events()
    assert [(each["alarm"], each["transition"], each["judged_late"]) for each in late] == [
        ("TK105.temp:H", "raise", True), ("TK105.temp:HH", "raise", True),
    ]  # fmt: skip
    for second in range(5, 20):
        world.at(second, "TK105.temp", 5.0)
    assert [(each["alarm"], each["to"], each["judged_late"]) for each in world.events()] == [
        ("TK105.temp:H", "RTNUN", True), ("TK105.temp:HH", "RTNUN", True),
    ]  # fmt: skip
    assert [(each.alarm, each.state, each.is_late) for each in world.judge.standing() if each.state == "RTNUN"] == [
        ("TK105.temp:HH", "RTNUN", True), ("TK105.temp:H", "RTNUN", True),
    ]  # fmt: skip


def test_what_stood_is_known_after_a_restart_and_told_once():
    world = Judged()
    world.at(1, "GD07.gas", 60.0)
    assert world.command("GD07.gas:H", "ack", occurrence=1) == "ACKED"
    kept, bypasses = stored(world.close())
    later = Judged(kept=kept, bypasses=bypasses)
    assert later.told() == [
        ("GD07.gas:H", "note", "ACKED", "simulated"), ("GD07.gas:HH", "note", "UNACK", "simulated"),
    ]  # fmt: skip
    later.at(1, "GD07.gas", 60.0)
    assert later.told() == []
    assert [(each.alarm, each.facts.occurrence, each.seq > 0) for each in later.judge.standing()] == [
        ("GD07.gas:HH", 1, True), ("GD07.gas:H", 1, True),
    ]  # fmt: skip


def test_a_changed_limit_is_told_and_the_alarm_keeps_its_state():
    world = Judged()
    world.at(1, "TK105.temp", 42.0)
    world.close()
    site = with_("TK105.temp", limits=(("H", 41.0), ("HH", 45.0)))
    told = world.judge.configure(site, 2.0, START_MS)
    world.pipeline.tell(told, OWN, START_MS, 2.0)
    (event,) = world.events()
    assert (event["transition"], event["to"], event["setpoint"], event["reason"]) == (
        "limit_changed", "UNACK", 41.0, "40 → 41",
    )  # fmt: skip
    kept, _bypasses = stored([])
    assert kept == ()


def changed_limits(world):
    """(alarm, why) of each limit that was changed, and stale points as well."""
    return [(each["alarm"], each["reason"]) for each in world.events(True) if each["transition"] == "limit_changed"]


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"limits": (("H", 40.0),)}, [("TK105.temp:HH", "45 → -")]),
        (
            {"limits": (("L", -5.0), ("H", 40.0), ("HH", 45.5))},
            [("TK105.temp:L", "- → -5"), ("TK105.temp:HH", "45 → 45.5")],
        ),
        ({"on_delay_s": 7.5}, [(f"TK105.temp:{kind}", "on_delay_s 0 → 7.5") for kind in ("H", "HH")]),
        (
            {"range_high": 50.0, "limits": (("H", 41.0),)},
            [("TK105.temp:HH", "45 → -"), ("TK105.temp:H", "40 → 41; deadband 1 → 0.7")],
        ),
        ({"period_ms": 4000}, [("TK105.temp:STALE", "on_delay_s 15 → 12")]),
        ({"action": "run"}, []),
    ],
)
def test_whatever_is_changed_of_a_limit_is_told(changes, told):
    world = Judged()
    world.close()
    world.apply(with_("TK105.temp", **changes))
    assert changed_limits(world) == told


def test_a_limit_that_comes_back_is_told_also_after_a_restart():
    world = Judged()
    world.at(1, "TK105.temp", 20.0)
    batches = world.close()
    world.apply(with_("TK105.temp", limits=(("H", 40.0),)))
    batches += world.close()
    kept, _bypasses = stored(batches)
    assert changed_limits(Judged(kept=kept)) == [("TK105.temp:HH", "- → 45")]
    world.apply(SITE)
    told = world.close()
    assert [each["reason"] for each in messages(told, "alarm")] == ["- → 45"]
    world.at(1, "TK105.temp", 46.0)
    kept, _bypasses = stored([*batches, *told, *world.close()])
    assert changed_limits(Judged(kept=kept)) == []


def test_a_limit_that_was_changed_is_told_once():
    world = Judged()
    world.at(1, "TK105.temp", 20.0)
    batches = world.close()
    world.bypass(DRILL, "")
    site = with_("TK105.temp", on_delay_s=7.5)
    world.apply(site)
    batches += (told := world.close())
    assert {each["mode"] for each in messages(told, "alarm")} == {"simulated"}  # nobody plays that
    kept, _bypasses = stored(batches)
    assert changed_limits(Judged(site, kept)) == []


def test_how_a_vote_is_taken_is_told_where_it_changes():
    one, both = Voting("pumps", ("GD05.gas", "GD07.gas"), 1, True), Voting("pumps", ("GD05.gas", "GD07.gas"), 2, False)
    world = Judged(replace(SITE, votings=(one,)))
    world.close()
    world.apply(replace(SITE, votings=(both,)))
    assert changed_limits(world) == [("vote.pumps:VOTE", "needed 1 → 2; bad_counts true → false")]
    world.apply(SITE)
    assert changed_limits(world) == [("vote.pumps:VOTE", "needed 2 → -")]


def test_what_an_older_version_has_not_stored_of_a_limit_is_not_told():
    world = Judged()
    world.at(1, "TK105.temp", 20.0)
    kept, _bypasses = stored(world.close())
    older = [each._replace(facts=json.dumps({"active": False, "occurrence": 1})) for each in kept]
    world = Judged(kept=older)
    world.at(1, "TK105.temp", 20.0)
    batches = world.close()
    assert messages(batches, "alarm") == []
    kept, _bypasses = stored(batches)
    assert changed_limits(Judged(with_("TK105.temp", on_delay_s=7.5), kept)) == [
        (f"TK105.temp:{kind}", "on_delay_s 0 → 7.5") for kind in ("H", "HH")
    ]


def test_a_limit_that_was_changed_while_nobody_ran_is_told_at_the_start():
    world = Judged()
    world.at(1, "TK105.temp", 20.0)
    kept, _bypasses = stored(world.close())
    site = with_("TK105.temp", limits=(("L", -5.0), ("H", 41.0), ("HH", 45.0)))
    told = [("TK105.temp:L", "- → -5"), ("TK105.temp:H", "40 → 41")]
    assert changed_limits(Judged(site, kept)) == told
    later = Judged(site, is_unread=True)
    later.at(1, "GD07.gas", 60.0)
    assert changed_limits(later) == []
    later.pipeline.tell(later.judge.learn(kept, (), 0, 2.0, START_MS), OWN, START_MS, 2.0)
    assert changed_limits(later) == told


def test_at_the_first_start_no_limit_is_told_also_where_the_store_comes_later():
    world = Judged(is_unread=True)
    world.at(1, "GD07.gas", 60.0)
    world.pipeline.tell(world.judge.learn((), (), 0, 2.0, START_MS), OWN, START_MS, 2.0)
    assert changed_limits(world) == []


def test_a_delay_that_has_begun_goes_on_through_a_change_of_the_site():
    world = Judged(with_("TK101.level", on_delay_s=10.0))
    world.at(1, "TK101.level", 11.0)
    world.pipeline.tell(world.judge.configure(replace(world.site), 2.0, START_MS), OWN, START_MS, 2.0)
    world.at(12, "TK101.level", 11.0)
    assert world.told() == [("TK101.level:H", "raise", "UNACK", "simulated")]


def test_what_is_worked_on_goes_out_without_a_value_and_its_alarms_are_a_test():
    world = Judged()
    world.at(1, "GD07.gas", 5.0)
    world.close()
    world.bypass("unit", "gas-b/1")
    assert {each[1:] for each in world.told()} == {("out_of_service", "OOSRV", "simulated")}
    world.at(2, "GD07.gas", 60.0)
    batches = world.close()
    (data,) = messages(batches, "data")
    assert data["rows"] == [["GD07.gas", 0, None, IN_MAINTENANCE]]
    assert [(each["alarm"], each["to"], each["mode"], each["value"]) for each in messages(batches, "alarm")] == [
        ("GD07.gas:H", "OOSRV", "test", 60.0), ("GD07.gas:HH", "OOSRV", "test", 60.0),
    ]  # fmt: skip
    kept, bypasses = stored([*world.close(), *batches])
    assert world.judge.bypassed == {"GD07.gas"}
    world.look(3602)  # its hour is over: what is so is so
    told = world.told()
    assert ("GD07.gas:HH", "in_service", "UNACK", "simulated") in told
    assert ("GD07.gas:FAULT", "in_service", "NORM", "simulated") in told
    world.at(3602, "GD07.gas", 60.0)
    assert messages(world.close(), "data")[0]["rows"][0][2] == 60.0


def test_a_deviation_from_what_is_worked_on_is_a_test():
    world = Judged(with_("TK101.level", compare_with="TK102.level", deviation=0.5))
    world.at(1, "TK101.level", 5.0)
    world.at(1, "TK102.level", 5.0)
    world.bypass("point", "TK102.level", minutes=1)
    assert ("TK101.level:DEV", "out_of_service", "OOSRV", "simulated") in world.told()
    world.at(2, "TK102.level", 9.0)
    world.at(3, "TK101.level", 11.0)  # it is not worked on, and judged as ever
    told = world.told()
    assert [each for each in told if "DEV" in each[0]] == [("TK101.level:DEV", "raise", "OOSRV", "test")]
    assert ("TK101.level:H", "raise", "UNACK", "simulated") in told
    for second in (49, 61):
        world.at(second, "TK102.level", 11.0)
        world.at(second, "TK101.level", 11.0)
    world.look(62)
    assert ("TK101.level:DEV", "in_service", "RTNUN", "simulated") in world.told()


def test_what_two_bypasses_cover_comes_back_with_the_second():
    world = Judged()
    world.bypass("asset", "TK101", minutes=10)
    world.bypass("point", "TK101.level", minutes=20)
    world.close()
    world.look(601)
    assert {alarm.partition(":")[0] for alarm, *_rest in world.told()} == {"TK101.temp"}
    world.look(1201)
    assert {alarm.partition(":")[0] for alarm, *_rest in world.told()} == {"TK101.level"}


def test_a_bypass_survives_a_restart_and_ends_at_its_time_all_the_same():
    world = Judged()
    world.bypass("point", "TK101.level", minutes=10)
    kept, bypasses = stored(world.close())
    later = Judged(kept=kept, bypasses=bypasses)
    assert later.judge.bypassed == {"TK101.level"}
    later.close()
    later.look(601)
    assert later.judge.bypassed == frozenset()
    assert all(each[1:3] == ("in_service", "NORM") for each in later.told() if each[0] == "TK101.level:H")


def test_a_bypass_lasts_no_longer_than_it_was_meant_to_whatever_the_clock_says_after_a_restart():
    world = Judged()
    world.bypass("point", "TK101.level", minutes=10)
    kept, bypasses = stored(world.close())
    a_day_back = Judge(SITE, kept, bypasses, 0.0, START_MS - 86_400_000)
    list(a_day_back.look(599, START_MS))
    assert a_day_back.bypassed
    list(a_day_back.look(601, START_MS))
    assert not a_day_back.bypassed


def test_a_number_of_a_bypass_is_not_given_twice():
    judge = Judge(SITE, (), (), 0.0, START_MS, last_number=7)
    (begun, *_others) = judge.bypass("point", "GD07.gas", "HW-18", "R7", "x", START_MS + 60_000, 0.0, START_MS)
    assert begun.bypass.number == 8


def test_what_stands_of_a_point_that_leaves_the_site_is_told_and_comes_back_as_it_was():
    world = Judged()
    world.at(1, "TK105.temp", 42.0)
    earlier = world.close()
    world.apply(without("TK105.temp"))
    batches = world.close()
    assert [[event[name] for name in ("alarm", "transition", "to", "by")] for event in messages(batches, "alarm")] == [
        ["TK105.temp:H", "out_of_service", "OOSRV", "R7"],
        ["TK105.temp:H", "limit_changed", "OOSRV", "R7"],
        ["TK105.temp:HH", "limit_changed", "NORM", "R7"],
    ]  # fmt: skip
    assert world.judge.standing() == []
    kept, _bypasses = stored([*earlier, *batches])
    later = Judged(kept=kept)  # a restart, by files that have it again
    assert [each[:3] for each in later.told() if each[1] != "limit_changed"] == [
        ("TK105.temp:H", "note", "OOSRV"), ("TK105.temp:H", "in_service", "UNACK"),
    ]  # fmt: skip
    world.pipeline.tell(world.judge.configure(SITE, 3.0, START_MS), OWN, START_MS, 3.0)
    assert world.told()[-1] == ("TK105.temp:H", "in_service", "UNACK", "simulated")


def test_what_a_store_knew_that_could_be_read_only_later_is_learnt_and_not_written_over():
    world = Judged()
    world.at(1, "GD07.gas", 60.0)
    world.at(1, "TK105.temp", 42.0)
    assert world.command("GD07.gas:HH", "ack", occurrence=1) == "ACKED"
    world.bypass("point", "TK101.level", minutes=10)
    kept, bypasses = stored(world.close())
    later = Judged(is_unread=True)
    later.at(1, "TK105.temp", 50.0)
    assert [each[:2] for each in later.told()] == [("TK105.temp:H", "raise"), ("TK105.temp:HH", "raise")]
    assert stored(later.close()) == ((), ())
    later.pipeline.tell(later.judge.learn(kept, bypasses, 4, 2.0, START_MS), OWN, START_MS, 2.0)
    told = [each[:3] for each in later.told()]
    assert ("GD07.gas:HH", "note", "ACKED") in told and ("GD07.gas:H", "note", "UNACK") in told
    assert not [each for each in told if each[0].startswith("TK105")]
    assert later.judge.bypassed == {"TK101.level"}
    later.at(2, "GD07.gas", 60.0)
    assert later.told() == []
    for second in (3, 34):
        later.at(second, "GD07.gas", 5.0)
    assert ("GD07.gas:HH", "clear", "ACKED", "simulated") in later.told()  # it latches
    states = {each.alarm: each.state for each in later.judge.standing()}
    assert states["TK105.temp:HH"] == "UNACK" and states["TK101.level:H"] == "OOSRV"


def played(world):
    return {each.alarm: each.is_played for each in world.judge.standing() if not each.alarm.endswith(":STALE")}


def test_what_begins_in_a_drill_says_so_until_it_is_well():
    world = Judged()
    world.bypass(DRILL, "", minutes=1)
    world.at(1, "TK105.temp", 42.0)
    assert world.command("TK105.temp:H", "note", reason="as planned") == "UNACK"
    world.at(2, "TK105.temp", 5.0)
    world.at(20, "TK105.temp", 5.0)
    assert played(world) == {"TK105.temp:H": True}
    world.look(61)
    assert world.command("TK105.temp:H", "ack", occurrence=1) == "NORM"
    assert {each[3] for each in world.told()} == {"drill"}
    world.at(62, "TK105.temp", 42.0)
    assert world.told() == [("TK105.temp:H", "raise", "UNACK", "simulated")]


@pytest.mark.parametrize("happens", [[], ["ack"], ["ack", "well"], ["well"]])
def test_what_still_stands_after_its_drill_is_announced_as_meant_and_sounds(happens):
    world = Judged(sounding := with_horn())
    world.pipeline._horn = horn = Horn(sounding)
    world.bypass(DRILL, "", minutes=1)
    world.at(1, "GD07.gas", 30.0)
    for each in happens:
        if each == "ack":
            world.command("GD07.gas:H", "ack", occurrence=1)
        else:  # it latches
            world.at(2, "GD07.gas", 0.0)
            world.at(40, "GD07.gas", 0.0)
    horn.mute()
    assert horn.wanted(60) == {"horn": False}
    assert {each[3] for each in world.told()} == {"drill"}
    world.look(61)
    assert world.told() == [("GD07.gas:H", "re_alarm", "UNACK", "simulated")]
    assert horn.wanted(61) == {"horn": True}
    assert world.command("GD07.gas:H", "ack", occurrence=1) == "other_occurrence"
    assert world.command("GD07.gas:H", "ack", occurrence=2) == "ACKED"
    assert world.told() == [("GD07.gas:H", "ack", "ACKED", "simulated")]


def test_what_stood_before_a_drill_is_meant_all_through_it():
    world = Judged()
    world.at(1, "GD07.gas", 30.0)
    world.close()
    world.bypass(DRILL, "", minutes=10)
    world.at(2, "GD07.gas", 60.0)
    assert world.command("GD07.gas:H", "ack", occurrence=1) == "ACKED"
    assert [(each[0], each[3]) for each in world.told()] == [("GD07.gas:HH", "drill"), ("GD07.gas:H", "simulated")]
    for second in (3, 40, 41):  # it latches, and is there again
        world.at(second, "GD07.gas", 30.0 if second == 41 else 0.0)
    assert {(each[0], each[3]) for each in world.told()} == {("GD07.gas:HH", "drill"), ("GD07.gas:H", "simulated")}
    assert played(world) == {"GD07.gas:HH": True, "GD07.gas:H": False}
    world.look(603)
    assert [each[:2] for each in world.told()] == [("GD07.gas:HH", "re_alarm")]


def test_what_is_worked_on_in_a_drill_and_does_not_stand_is_not_played():
    world = Judged()
    world.bypass(DRILL, "")
    world.bypass("point", "TK105.temp")
    assert ("TK105.temp:H", "out_of_service", "OOSRV", "drill") in world.told()
    assert set(played(world).values()) == {False}


def test_what_a_drill_began_is_known_after_a_restart_and_when_its_point_comes_back():
    world = Judged()
    world.bypass(DRILL, "", minutes=1)
    world.at(1, "TK105.temp", 42.0)
    kept, bypasses = stored(world.close())
    later = Judged(kept=kept, bypasses=bypasses)
    assert later.told() == [("TK105.temp:H", "note", "UNACK", "drill")]
    later.look(61)
    assert later.told() == [("TK105.temp:H", "re_alarm", "UNACK", "simulated")]
    world.apply(without("TK105.temp"))
    world.look(61)
    world.close()
    world.apply(SITE)
    assert world.told()[-2:] == [
        ("TK105.temp:H", "in_service", "UNACK", "drill"), ("TK105.temp:H", "re_alarm", "UNACK", "simulated"),
    ]  # fmt: skip


def test_a_shelf_ends_by_itself():
    world = Judged()
    world.at(1, "GD07.gas", 30.0)
    assert world.command("GD07.gas:HH", "shelve", until_ms=START_MS + 60_000) == "never_shelved"
    assert world.command("GD07.gas:H", "shelve", until_ms=START_MS + 60_000, reason="wiring") == "SHLVD"
    world.close()
    world.look(62)
    assert world.told() == [("GD07.gas:H", "unshelve", "UNACK", "simulated")]


def shelved():
    """A world in which TK105.temp:H stands and is shelved for a minute."""
    world = Judged()
    world.at(1, "TK105.temp", 42.0)
    assert world.command("TK105.temp:H", "shelve", until_ms=START_MS + 60_000, reason="wiring") == "SHLVD"
    return world


def test_a_shelf_whose_point_has_left_the_site_ends_nothing():
    world = shelved()
    world.apply(without("TK105.temp"))
    world.close()
    world.look(61)
    assert world.told() == []


@pytest.mark.parametrize("back_s", [30, 90])
def test_a_shelf_that_comes_back_with_its_point_ends_at_its_time(back_s):
    world = shelved()
    world.apply(without("TK105.temp"))
    world.look(back_s)
    world.apply(SITE)
    world.close()
    world.look(back_s + 31)
    assert world.told() == [("TK105.temp:H", "unshelve", "UNACK", "simulated")]


def test_a_shelf_that_came_with_its_point_after_a_restart_without_it_ends_at_its_time():
    kept, _bypasses = stored(shelved().close())
    judge = Judge(without("TK105.temp"), kept, (), 0.0, START_MS)
    list(judge.configure(SITE, 30.0, START_MS + 30_000))

    def told(now_s):
        found = judge.look(now_s, START_MS + now_s * 1000)
        return [each.change.transition for each in found if each.change.setting.alarm == "TK105.temp:H"]

    assert (told(59), told(61)) == ([], ["unshelve"])


@pytest.mark.parametrize(
    ("happens", "state"),
    [
        ([("ack", {"occurrence": 1})], "ACKED"),
        ([("reset", {})], "UNACK"),  # refused
        ([("shelve", {"until_ms": START_MS + 30_000}), ("shelve", {"until_ms": START_MS + 60_000})], "UNACK"),
        ([("unshelve", {}), ("shelve", {"until_ms": START_MS + 60_000})], "UNACK"),
    ],
)
def test_whatever_somebody_does_to_a_shelved_alarm_its_shelf_ends_at_its_time_and_once(happens, state):
    world = shelved()
    for event, more in happens:
        world.command("TK105.temp:H", event, **more)
    world.close()
    world.look(59)
    assert world.told() == []
    world.look(60.5)
    world.look(70)
    assert world.told() == [("TK105.temp:H", "unshelve", state, "simulated")]


@pytest.mark.parametrize("is_restart", [False, True])
def test_a_shelf_of_what_may_not_be_shelved_any_more_ends_at_once(is_restart):
    world = Judged()
    world.at(1, "TK105.temp", 46.0)
    assert world.command("TK105.temp:HH", "shelve", until_ms=START_MS + 60_000) == "SHLVD"
    batches = world.close()
    site = with_("TK105.temp", preset="oxygen")
    if is_restart:
        world = Judged(site, stored(batches)[0])
    else:
        world.apply(site)
    told = [each for each in world.told() if each[1] not in ("note", "limit_changed")]
    assert told == [("TK105.temp:HH", "unshelve", "UNACK", "simulated")]
    world.look(62)
    assert world.told() == []


def test_a_shelf_lasts_as_long_as_was_said_although_the_clock_is_set_back():
    world = shelved()
    list(world.judge.configure(SITE, 2.0, START_MS - 3_600_000))
    list(world.judge.look(61, START_MS - 3_540_000))
    assert "SHLVD" not in {each.state for each in world.judge.standing()}


def test_while_no_clock_is_trusted_nobody_says_since_when_an_alarm_is_worked_on():
    world = Judged()
    world.at(1, "TK105.temp", 42.0)
    world.judge.is_clock_trusted = False
    told = world.judge.command("TK105.temp:H", "ack", occurrence=1, until_ms=None, by="R7", reason=None, now_s=2.0,
                               wall_ms=1_460_001)  # fmt: skip
    world.pipeline.tell([told], TimeQuality("unsynced", None, None), 1_460_001, 2.0)
    told = [(each["transition"], each["t_ms"]) for each in world.events()]
    assert told == [("raise", START_MS + 1000), ("ack", None)]
    assert [(each.alarm, each.since_ms) for each in world.judge.standing()] == [("TK105.temp:H", None)]


def test_a_note_changes_nothing():
    world = Judged()
    assert world.command("GD07.gas:H", "note", reason="sensor is old") == "NORM"
    (event,) = world.events()
    assert (event["transition"], event["from"], event["to"], event["by"], event["reason"]) == (
        "note", "NORM", "NORM", "R7", "sensor is old",
    )  # fmt: skip


def test_a_vote_of_detectors_on_two_boards():
    voting = Voting("pumps", ("GD05.gas", "GD07.gas"), 2, True)
    site = replace(SITE, votings=(voting,))
    world = Judged(site)
    world.at(1, "GD05.gas", 30.0)
    world.at(1, "GD07.gas", 5.0)
    world.close()
    world.at(2, "GD07.gas", 30.0)
    found = messages(world.close(), "alarm")
    assert [(each["alarm"], each.get("rests_on")) for each in found] == [
        ("GD07.gas:H", None), ("vote.pumps:VOTE", 2),
    ]  # fmt: skip
    content = json_feed.birth_content(site, "0.1.0", "0.1.0", "live", map(birth_row, alarms_of(site)))
    payload = json_feed.birth("jt-0042", "01KAR8M2", 1, json_feed.birth_id(content), content)
    document = json_feed.read(payload)
    assert document is not None
    assert list(SCHEMAS.violations("birth", document)) == []
    assert document["alarms"][-1]["members"] == ["GD05.gas:H", "GD07.gas:H"]


def test_a_detector_on_a_board_that_is_quiet_is_voted_as_bad_once_it_is_stale():
    world = Judged(replace(SITE, votings=(Voting("pumps", ("GD05.gas", "GD07.gas"), 2, True),)))
    world.at(1, "GD05.gas", 5.0)
    world.at(1, "GD07.gas", 30.0)
    world.close()
    world.at(20, "GD07.gas", 30.0)
    world.look(40)
    (event,) = (each for each in world.events(stale=True) if each["alarm"] == "vote.pumps:VOTE")
    assert (event["transition"], event["reading"], event["rests_on"]) == ("raise", None, 2)
    assert event["t_ms"] == START_MS + 4000 and not event["judged_late"]


@pytest.mark.parametrize("event", ["ack", "reset"])
def test_another_occurrence_than_the_one_that_was_seen_is_refused(event):
    world = Judged()
    world.at(1, "GD07.gas", 30.0)
    assert world.command("GD07.gas:H", event, occurrence=2) in ("other_occurrence", "still_active")
