"""A small site lived at random: time, people, changed files and restarts; after each, what must hold of every alarm."""

from dataclasses import replace

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from edge.alarms.judge import DRILL, Bypassed, Judge
from edge.alarms.lifecycle import Facts
from edge.alarms.presets import alarms_of
from edge.boards import Taken
from protocols.model import GOOD, NO_REPLY, OVER_RANGE, SENSOR_FAULT, Voting
from tests.edge.test_pipeline import BOOT, SITE, START_MS, SYNCED

NAMES = ("TK105.temp", "TK104.temp", "GD05.gas", "GD07.gas")
POINTS = tuple(
    replace(point, compare_with="TK104.temp", deviation=10.0) if point.point == "TK105.temp" else point
    for point in SITE.points
    if point.point in NAMES
)
VOTING = Voting("pumps", ("GD05.gas", "GD07.gas"), 2, True)
OXYGEN = {"preset": "oxygen", "trends": ()}  # of a point whose low-low and high-high may then not be shelved
ALARMS = ["TK105.temp:HH", "TK105.temp:H", "GD07.gas:HH", "GD07.gas:OVER", "vote.pumps:VOTE"]  # beside what stands
BOARDS = {bus.name: bus.board for bus in SITE.buses}
MINUTE_MS = 60_000


def site_of(names, is_oxygen):
    """Some of the points; TK104.temp is always there, since another is compared with it."""
    points = [point for point in POINTS if point.point in names or point.point == "TK104.temp"]
    if is_oxygen:
        points = [replace(point, **OXYGEN) if point.point == "TK105.temp" else point for point in points]
    votes = (VOTING,) if {"GD05.gas", "GD07.gas"} <= set(names) else ()
    return replace(SITE, points=tuple(points), votings=votes)


class Lives(RuleBasedStateMachine):
    """Beside the judge stands what was told of it: the newest facts of each alarm, and when its shelf is to end."""

    @initialize()
    def starts(self):
        self.now_s = 0.0
        self.site = site_of(NAMES, False)
        self.kept, self.bypasses, self.last_number = {}, (), 0
        self.facts, self.until_ms, self.occurrences, self.played = {}, {}, set(), set()
        self.boot()

    def boot(self, is_unread=False):
        kept, bypasses = ((), ()) if is_unread else (self.kept.values(), self.bypasses)
        self.judge = Judge(self.site, kept, bypasses, self.now_s, self.wall_ms, self.last_number, is_unread)
        return list(self.judge.begin(self.wall_ms))

    @property
    def wall_ms(self):
        return START_MS + round(self.now_s * 1000)

    @property
    def settings(self):
        return alarms_of(self.site)

    def hears(self, told, by=None):
        """Each transition goes on from the one before, none comes twice, and only people acknowledge."""
        for each in told:
            if isinstance(each, Bypassed):
                continue
            alarm, change, before = each.change.setting.alarm, each.change, each.change.before
            assert before == self.facts.get(alarm, Facts()), f"{alarm}: something was not told, or twice"
            self.facts[alarm] = change.after
            if change.transition in ("raise", "re_alarm"):
                assert (alarm, change.after.occurrence) not in self.occurrences
                self.occurrences.add((alarm, change.after.occurrence))
                (self.played.add if each.mode == DRILL else self.played.discard)(alarm)
            elif change.transition not in ("note", "limit_changed"):
                assert change.after != before or by
            assert before.acked or not change.after.acked or by == "ack"
            if change.transition == "shelve":
                self.until_ms[alarm] = change.after.shelved_until_ms
            elif change.transition == "unshelve":
                is_over = self.until_ms.pop(alarm) <= self.wall_ms
                assert is_over or by == "unshelve" or not each.change.setting.can_be_shelved

    # --- what happens ---------------------------------------------------------------------------------------------

    @rule(
        name=st.sampled_from(NAMES),
        read=st.sampled_from(
            [(5.0, GOOD), (19.0, GOOD), (30.0, GOOD), (46.0, GOOD), (60.0, GOOD),
             (101.0, OVER_RANGE), (None, NO_REPLY), (None, SENSOR_FAULT)]
        ),
    )  # fmt: skip
    def a_reading_comes(self, name, read):
        board = BOARDS[next(point.bus for point in POINTS if point.point == name)]
        self.judge.took(Taken(board, BOOT, [], 1, 0, SYNCED, 0.0))
        self.hears(self.judge.reading(name, round(self.now_s * 1000), *read, self.now_s))

    @rule(seconds=st.sampled_from([1, 5, 40, 61, 900, 3600, 30_000]))
    def time_passes(self, seconds):
        self.now_s += seconds
        self.hears(self.judge.look(self.now_s, self.wall_ms))
        here = {setting.alarm for setting in self.settings}
        late = {alarm for alarm, until_ms in self.until_ms.items() if until_ms <= self.wall_ms} & here
        assert not late, "shelves that did not end at their hour"

    @rule(
        which=st.integers(0, 12),
        event=st.sampled_from(["ack", "shelve", "shelve", "reset", "unshelve", "note"]),
        minutes=st.sampled_from([1, 60, 720]),
        sees=st.sampled_from([0, 0, 0, 1]),
    )
    def somebody_does(self, which, event, minutes, sees):
        """To one of those that stand, to one that may not be shelved, or to one that may have left."""
        those = [*ALARMS, *(each.alarm for each in self.judge.standing())]
        alarm = those[which % len(those)]
        occurrence = self.facts.get(alarm, Facts()).occurrence - sees
        until_ms = self.wall_ms + minutes * MINUTE_MS if event == "shelve" else None
        who = {"by": "R7", "reason": "x", "now_s": self.now_s, "wall_ms": self.wall_ms}
        try:
            told = self.judge.command(alarm, event, occurrence=occurrence, until_ms=until_ms, **who)
        except KeyError:
            assert alarm not in {setting.alarm for setting in self.settings}
            return
        assert not (event == "ack" and sees) or isinstance(told, str)
        self.hears([] if isinstance(told, str) else [told], event)

    @rule(
        what=st.sampled_from([("point", "TK104.temp"), ("asset", "GD07"), ("unit", "gas-b/1"), (DRILL, "")]),
        minutes=st.sampled_from([1, 60, 1500]),
    )
    def a_bypass_begins(self, what, minutes):
        if what[0] == DRILL and self.judge.is_drill:  # which is refused before it comes here
            return
        until_ms = self.wall_ms + minutes * MINUTE_MS
        told = list(self.judge.bypass(*what, "HW-17", "R7", "x", until_ms, self.now_s, self.wall_ms))
        self.last_number = told[0].bypass.number
        self.hears(told)

    @rule(which=st.integers(0, 3))
    def a_bypass_is_ended(self, which):
        if in_force := self.judge.bypasses():
            number = in_force[which % len(in_force)].number
            self.hears(self.judge.end_bypass(number, self.wall_ms, "R7", "x"))

    @rule(names=st.sampled_from((NAMES, NAMES, ("TK105.temp", "GD07.gas"), ("GD05.gas", "GD07.gas"))),
          is_oxygen=st.booleans())  # fmt: skip
    def files_are_applied(self, names, is_oxygen):
        self.site = site_of(names, is_oxygen)
        self.hears(self.judge.leave(self.site, self.wall_ms, "R7"))
        left = [facts for alarm, facts in self.facts.items() if alarm not in {each.alarm for each in self.settings}]
        assert all(facts.out_of_service or facts.state == "NORM" for facts in left)
        self.hears(self.judge.configure(self.site, self.now_s, self.wall_ms, "R7"))

    @rule(off_s=st.sampled_from([1, 61, 7200]), is_unread=st.booleans())
    def it_starts_again(self, off_s, is_unread):
        self.stores()
        self.now_s += off_s
        told = self.boot(is_unread)
        if is_unread:
            assert told == []
            learnt = (self.kept.values(), self.bypasses, self.last_number, self.now_s, self.wall_ms)
            told = list(self.judge.learn(*learnt))
        notes = [each.change.setting.alarm for each in told if each.change.transition == "note"]
        here = [setting.alarm for setting in self.settings]
        assert sorted(notes) == sorted(alarm for alarm in here if self.facts.get(alarm, Facts()).state != "NORM")
        self.hears(told)

    # --- what holds -----------------------------------------------------------------------------------------------

    @invariant()
    def stores(self):
        kept, bypasses = self.judge.to_store()
        self.kept |= {each.alarm: each for each in kept}
        self.bypasses = self.bypasses if bypasses is None else bypasses

    @invariant()
    def what_stands_is_what_was_told(self):
        here = {setting.alarm for setting in self.settings}
        told = {alarm: facts for alarm, facts in self.facts.items() if alarm in here and facts.state != "NORM"}
        assert {each.alarm: each.facts for each in self.judge.standing()} == told

    @invariant()
    def what_may_not_be_shelved_is_not(self):
        never = {setting.alarm for setting in self.settings if not setting.can_be_shelved}
        assert not never & self.until_ms.keys()
        assert all(each.facts.shelved_until_ms == self.until_ms.get(each.alarm) for each in self.judge.standing())

    @invariant()
    def what_stands_is_played_only_in_a_drill(self):
        standing = {each.alarm for each in self.judge.standing() if each.facts.stands}
        assert self.judge.is_drill or not standing & self.played


Lives.TestCase.settings = settings(max_examples=200, stateful_step_count=50)
test_whatever_happens_an_alarm_is_neither_lost_nor_silenced_for_ever = Lives.TestCase
