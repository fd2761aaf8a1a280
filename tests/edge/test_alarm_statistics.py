"""Floods, chattering, what stands and is stale: on made-up days, and against a model that only looks and counts."""

from collections import Counter
from itertools import pairwise
from random import Random

import pytest

from edge.alarms.lifecycle import Facts, Kind, step
from edge.alarms.statistics import STALE_MS, Span, by_day, standing, timed

SECOND_MS = 1000
MINUTE_MS = 60_000
HOUR_MS = 3_600_000
DAY_MS = 24 * HOUR_MS


def event(alarm, t_ms, transition="raise", to="UNACK", priority=2, mode="live", epoch="A", before=None):
    before = before or (to if transition == "note" else "NORM")
    return {
        "alarm": alarm, "t_ms": t_ms, "decided_ms": t_ms, "transition": transition, "from": before, "to": to,
        "priority": priority, "mode": mode, "epoch": epoch,
    }  # fmt: skip


def days_of(events, midnights=(0, DAY_MS), now_ms=None, epochs=(("A", 0),)):
    events = timed(events)
    now_ms = midnights[-1] - 1 if now_ms is None else now_ms
    return by_day(events, list(standing(events, epochs)), midnights, now_ms)


def test_a_flood_begins_at_ten_in_ten_minutes_and_ends_under_five():
    (day,) = days_of([event(f"GD{i:02}.gas:H", i * MINUTE_MS // 2) for i in range(12)])
    # Ten with the one at 4.5 min; of the twelve four are left when that of 3.5 min is ten minutes old.
    assert day.floods == [Span(9 * MINUTE_MS // 2, 27 * MINUTE_MS // 2)]
    assert (day.flood_ms, day.most_in_ten_minutes) == (9 * MINUTE_MS, 12)


def test_nine_in_ten_minutes_are_no_flood():
    (day,) = days_of([event("A.b:H", i * 67_000) for i in range(40)])
    assert day.floods == [] and day.most_in_ten_minutes == 9


def test_a_flood_over_midnight_is_cut_there_whenever_the_next_alarm_comes():
    late = [event(f"P{i:02}.x:H", DAY_MS - 2 * MINUTE_MS + i) for i in range(12)]
    next_alarm = event("Q.x:H", 3 * DAY_MS + HOUR_MS)
    before, after, empty, last = days_of([*late, next_alarm], [i * DAY_MS for i in range(5)])
    assert before.floods == [Span(DAY_MS - 2 * MINUTE_MS + 9, DAY_MS)]
    assert after.floods == [Span(DAY_MS, DAY_MS + 8 * MINUTE_MS + 7)]
    assert before.flood_ms + after.flood_ms == 10 * MINUTE_MS - 2
    assert empty.floods == last.floods == [] and empty.flood_ms == last.flood_ms == 0
    assert (before.alarms.total(), after.alarms.total(), last.alarms.total()) == (12, 0, 1)


def test_a_flood_that_goes_on_has_no_end_and_lasts_until_now():
    (day,) = days_of([event(f"P{i:02}.x:H", HOUR_MS + i) for i in range(12)], now_ms=HOUR_MS + 5 * MINUTE_MS + 9)
    assert (day.floods, day.flood_ms) == ([Span(HOUR_MS + 9, None)], 5 * MINUTE_MS)


def test_three_in_a_minute_are_chattering_on_the_day_of_the_third():
    calm = [event("TK1.level:H", t_ms) for t_ms in (0, 30_000, 60_000, 90_000)]
    assert days_of(calm)[0].chattering == set()
    assert days_of([*calm, event("TK1.level:H", 119_999)])[0].chattering == {"TK1.level:H"}
    over = [event("A.x:H", DAY_MS + each * SECOND_MS) for each in (-20, -10, 1)]
    before, after = days_of(over, (0, DAY_MS, 2 * DAY_MS))
    assert (before.chattering, after.chattering) == (set(), {"A.x:H"})


def test_the_ten_worst_and_the_priorities_of_a_day():
    (day,) = days_of([
        event(f"P{i:02}.x:H", i * HOUR_MS + j, priority=1 + i % 3) for i in range(12) for j in range(i + 1)
    ])  # fmt: skip
    worst = day.worst()
    assert (len(worst), worst[0], worst[-1]) == (10, ("P11.x:H", 12), ("P02.x:H", 3))
    assert day.priorities == {1: 22, 2: 26, 3: 30}
    assert day.percent() == {1: 28.2, 2: 33.3, 3: 38.5}


def test_what_nobody_could_see_counts_when_it_can_be_seen():
    hidden = [
        event("DRILL.x:H", 1, mode="drill"), event("TEST.x:H", 2, to="OOSRV", mode="test"),
        event("SHELF.x:H", 3, to="SHLVD"), event("SEEN.x:H", 4), event("SEEN.x:H", 5, "shelve", "SHLVD"),
        event("GONE.x:H", 6, mode="drill"), event("GONE.x:H", 7, "clear", "RTNUN", mode="drill"),
    ]  # fmt: skip
    assert days_of(hidden)[0].alarms == {"SEEN.x:H": 1}
    shown = [
        event("DRILL.x:H", 10, "note"), event("DRILL.x:H", 11, "note"), event("TEST.x:H", 10, "in_service"),
        event("SHELF.x:H", 10, "unshelve"), event("SEEN.x:H", 10, "unshelve"), event("GONE.x:H", 10, "note", "RTNUN"),
    ]  # fmt: skip
    assert days_of([*hidden, *shown])[0].alarms == {"SEEN.x:H": 1, "DRILL.x:H": 1, "TEST.x:H": 1, "SHELF.x:H": 1}


def test_what_stands_for_more_than_a_day_is_stale_on_each_day_on_which_it_does():
    events = [
        event("A.x:H", HOUR_MS), event("A.x:H", 2 * HOUR_MS, "ack", "ACKED"),
        event("A.x:H", DAY_MS + 6 * HOUR_MS, "clear", "NORM"),
        event("B.x:H", HOUR_MS), event("B.x:H", DAY_MS + HOUR_MS, "clear", "RTNUN"),  # a day, not more
        event("C.x:H", HOUR_MS), event("C.x:H", 2 * HOUR_MS, "out_of_service", "OOSRV"),
        event("D.x:H", HOUR_MS, to="OOSRV", mode="test"), event("D.x:H", DAY_MS + HOUR_MS, "in_service"),
        event("E.x:H", HOUR_MS, mode="drill"),
    ]  # fmt: skip
    first, second, third = days_of(events, (0, DAY_MS, 2 * DAY_MS, 3 * DAY_MS), 2 * DAY_MS + HOUR_MS + 1)
    assert (first.standing, first.stale) == ({"A.x:H", "B.x:H", "E.x:H"}, set())
    assert (second.standing, second.stale) == ({"D.x:H", "E.x:H"}, {"A.x:H", "E.x:H"})
    assert (third.standing, third.stale) == ({"D.x:H", "E.x:H"}, {"D.x:H", "E.x:H"})


def test_what_a_new_process_does_not_tell_of_ended_with_the_old_one():
    events = [
        event("system.store:FAULT", 1), event("TK1.x:H", 2), event("system.bus.gas:FAULT", 3),
        event("TK1.x:H", HOUR_MS + 5, "note", epoch="B"), event("system.bus.gas:FAULT", HOUR_MS + 9, epoch="B"),
    ]  # fmt: skip
    found = sorted(standing(timed(events), (("A", 0), ("B", HOUR_MS))), key=lambda each: (each[0], each[1].begin_ms))
    assert found == [
        ("TK1.x:H", Span(2, None)),
        ("system.bus.gas:FAULT", Span(3, HOUR_MS)),
        ("system.bus.gas:FAULT", Span(HOUR_MS + 9, None)),
        ("system.store:FAULT", Span(1, HOUR_MS)),
    ]


def test_what_has_no_time_of_its_own_has_that_of_its_decision_or_of_the_one_before():
    unsynced = event("A.x:H", None) | {"decided_ms": 7}
    assert [t_ms for t_ms, _event in timed([unsynced, event("B.x:H", None)])] == [7, 7]


# --- against a model ----------------------------------------------------------------------------------------

ALARMS = [f"P{i}.x:H" for i in range(12)]
OPERATIONS = (
    ["raise"] * 6 + ["clear"] * 4
    + ["ack", "reset", "re_alarm", "shelve", "unshelve", "out_of_service", "in_service", "drill", "restart"]
)  # fmt: skip


class Plant:
    """Alarms by the real table, to which things happen; what is told of them, and what a person sees at any time."""

    def __init__(self):
        self.facts = dict.fromkeys(ALARMS, Facts())
        self.is_drill, self.epochs, self.events = False, [("0", 0)], []

    def happens(self, operation, alarm, t_ms):
        if operation == "drill":
            self.is_drill = not self.is_drill
            if not self.is_drill:
                self.tell_what_stands(t_ms)
        elif operation == "restart":
            self.epochs.append((str(len(self.epochs)), t_ms))
            for each in ALARMS[::2]:  # the others are of the gateway itself: it forgets them
                self.facts[each] = Facts()
            self.tell_what_stands(t_ms)
        else:
            before = self.facts[alarm]
            kind = Kind(latches=alarm in ALARMS[:3])
            after = step(before, kind, operation, occurrence=before.occurrence, until_ms=0)
            if isinstance(after, Facts) and after != before:
                self.facts[alarm] = after
                self.tell(alarm, operation, t_ms, before.state)

    def tell_what_stands(self, t_ms):
        for alarm in self.seen():
            self.tell(alarm, "note", t_ms, self.facts[alarm].state)

    def tell(self, alarm, transition, t_ms, before):
        mode, priority = "drill" if self.is_drill else "live", 1 + ALARMS.index(alarm) % 3
        after, epoch = self.facts[alarm].state, self.epochs[-1][0]
        self.events.append(event(alarm, t_ms, transition, after, priority, mode, epoch, before))

    def seen(self):
        return {alarm for alarm, facts in self.facts.items() if facts.state in ("UNACK", "ACKED")}


def played(steps, grid_ms, now_steps):
    """A plant to which this happened, what was seen half a grid step after each grid step, and now."""
    plant, seen, t_ms = Plant(), [], 0
    for wait, operation, alarm in steps:
        for _step in range(wait):
            seen.append(plant.seen())
            t_ms += grid_ms
        plant.happens(operation, alarm, t_ms)
    seen += [plant.seen()] * now_steps
    return plant, seen, t_ms + now_steps * grid_ms


def the_midnights(now_ms, day_ms):
    return list(range(0, now_ms + day_ms + 1, day_ms))


def is_heard(events, at):
    """Whether somebody learns by this event of the newest raising of its alarm: it is the first to show it."""
    own = [each for each in events[: at + 1] if each["alarm"] == events[at]["alarm"]]
    raised = max((i for i, each in enumerate(own) if each["transition"] in ("raise", "re_alarm")), default=None)
    if raised is None:
        return False
    *before, now = (each["to"] in ("UNACK", "ACKED") and each["mode"] == "live" for each in own[raised:])
    return now and not any(before)


def chance(seed, waits):
    """So many steps as it takes for everything to happen: calm and hectic by turns."""
    random = Random(seed)
    for _phase in range(12):
        wait = random.choice(waits)
        for _step in range(random.randrange(40)):
            yield random.choice(wait), random.choice(OPERATIONS), random.choice(ALARMS)


@pytest.mark.parametrize("seed", range(40))
def test_floods_chattering_and_counts_are_those_that_a_look_at_each_moment_finds(seed):
    steps, now_steps = chance(seed, ((0, 0, 1), (0, 1, 2), (5, 20))), seed % 4 * 5
    grid_ms, day_ms = 20 * SECOND_MS, 25 * MINUTE_MS
    plant, _seen, now_ms = played(steps, grid_ms, now_steps)
    midnights = the_midnights(now_ms, day_ms)
    days = days_of(plant.events, midnights, now_ms, plant.epochs)
    heard = [each for at, each in enumerate(plant.events) if is_heard(plant.events, at)]
    in_flood, flooded = False, []
    for moment_ms in range(0, now_ms + 1, grid_ms):
        count = sum(moment_ms - 10 * MINUTE_MS < each["t_ms"] <= moment_ms for each in heard)
        in_flood = count >= (5 if in_flood else 10)
        flooded.append((moment_ms, in_flood, count))
    for day, (first_ms, last_ms) in zip(days, pairwise(midnights), strict=True):
        today = [each for each in heard if first_ms <= each["t_ms"] < last_ms]
        assert day.alarms == Counter(each["alarm"] for each in today)
        assert day.priorities == Counter(each["priority"] for each in today)
        assert day.percent() == {each: round(100 * n / len(today), 1) for each, n in day.priorities.items()}
        moments = [each for each in flooded if first_ms <= each[0] < last_ms]
        counts = {t_ms: count for t_ms, _is, count in moments}
        assert day.most_in_ten_minutes == max((counts[each["t_ms"]] for each in today), default=0)
        lasting = [(t_ms, is_flood) for t_ms, is_flood, _count in moments if t_ms < now_ms]
        assert day.flood_ms == sum(grid_ms for _t_ms, is_flood in lasting if is_flood)
        covered = [t_ms for t_ms, is_flood in lasting if is_flood]
        assert covered == [
            t_ms for t_ms, _is in lasting
            if any(each.begin_ms <= t_ms and (each.end_ms is None or t_ms < each.end_ms) for each in day.floods)
        ]  # fmt: skip
        times = {alarm: [each["t_ms"] for each in heard if each["alarm"] == alarm] for alarm in ALARMS}
        assert day.chattering == {
            alarm for alarm in ALARMS for each in times[alarm]
            if first_ms <= each < last_ms and sum(each - MINUTE_MS < other <= each for other in times[alarm]) >= 3
        }  # fmt: skip
    assert in_flood == any(each.end_ms is None for day in days for each in day.floods)


@pytest.mark.parametrize("seed", range(40))
def test_what_stands_and_what_is_stale_is_what_a_look_in_each_hour_sees(seed):
    steps, now_steps = chance(seed, ((1,), (1, 5), (10, 30))), 1 + seed
    plant, seen, now_ms = played(steps, HOUR_MS, now_steps)
    midnights = the_midnights(now_ms, DAY_MS)
    days = days_of(plant.events, midnights, now_ms, plant.epochs)
    for number, day in enumerate(days):
        today = range(number * 24, min(number * 24 + 24, len(seen)))
        if not today:
            continue
        assert day.standing == seen[today[-1]]
        assert day.stale == {
            alarm for hour in today if hour >= STALE_MS // HOUR_MS
            for alarm in set.intersection(*seen[hour - STALE_MS // HOUR_MS : hour + 1])
        }  # fmt: skip
