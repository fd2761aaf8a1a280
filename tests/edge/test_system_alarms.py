"""Alarms of the gateway itself: what is told, and what stands. A table of what happens and what is expected."""

import pytest

from edge.alarms.system import SystemAlarms

BUS = "system.bus.gas-a:OTHER_MASTER"


@pytest.mark.parametrize(
    ("happens", "told", "state", "occurrence"),
    [
        ("", [], "NORM", 0),
        ("clear", [], "NORM", 0),
        ("raise", ["raise NORM UNACK"], "UNACK", 1),
        ("raise raise raise", ["raise NORM UNACK"], "UNACK", 1),
        ("raise clear", ["raise NORM UNACK", "clear UNACK RTNUN"], "RTNUN", 1),
        ("raise clear clear", ["raise NORM UNACK", "clear UNACK RTNUN"], "RTNUN", 1),
        ("raise clear raise", ["raise NORM UNACK", "clear UNACK RTNUN", "raise RTNUN UNACK"], "UNACK", 2),
    ],
)
def test_what_is_new_is_told_once(happens: str, told: list[str], state: str, occurrence: int) -> None:
    alarms = SystemAlarms()
    said = []
    for now_ms, what in enumerate(happens.split()):
        change = alarms.raise_alarm(BUS, 2, "unplug it", now_ms) if what == "raise" else alarms.clear(BUS, now_ms)
        if change is not None:
            said.append(f"{change.transition} {change.before.state} {change.alarm.state}")
    assert said == told
    standing = [(each.state, each.facts.occurrence) for each in alarms.standing()]
    assert standing == ([(state, occurrence)] if occurrence else [])


def told(changes):
    return [(each.alarm.alarm, each.transition, each.alarm.state, each.alarm.facts.occurrence) for each in changes]


def test_what_stood_is_known_after_a_restart_and_told_once() -> None:
    alarms = SystemAlarms()
    alarms.raise_alarm(BUS, 2, "拔掉它", 1000)
    alarms.clear(BUS, 2000)
    again = SystemAlarms(alarms.to_store())
    assert told(again.begin()) == [(BUS, "note", "RTNUN", 1)]
    (alarm,) = again.standing()
    assert (alarm.priority, alarm.action, alarm.since_ms) == (2, "拔掉它", 2000)
    assert again.clear_unfound(3000) == []
    assert again.raise_alarm(BUS, 2, "unplug it", 4000) is not None
    assert alarm.facts.occurrence == 2


def test_an_old_acknowledgement_fits_no_alarm_after_a_restart() -> None:
    alarms = SystemAlarms()
    alarms.raise_alarm(BUS, 2, "unplug it", 1000)
    alarms.clear(BUS, 2000)
    asked = {"occurrence": 1, "by": "R7", "reason": None, "now_ms": 3000}
    assert not isinstance(alarms.command(BUS, "ack", **asked), str)
    again = SystemAlarms(alarms.to_store())
    assert again.begin() == []
    again.raise_alarm(BUS, 2, "unplug it", 4000)
    assert again.command(BUS, "ack", **asked) == "other_occurrence"


def test_what_is_found_again_goes_on_and_what_is_not_is_over() -> None:
    alarms, other = SystemAlarms(), "system.bus.gas-b:OTHER_MASTER"
    for each in (BUS, other):
        alarms.raise_alarm(each, 2, "unplug it", 1000)
    again = SystemAlarms(alarms.to_store())
    again.begin()
    assert again.raise_alarm(BUS, 2, "unplug both", 2000) is None
    assert told(again.clear_unfound(3000)) == [(other, "clear", "RTNUN", 1)]
    assert again.clear_unfound(4000) == []
    assert {each.alarm: each.action for each in again.standing()} == {BUS: "unplug both", other: "unplug it"}


def test_what_can_be_read_only_later_is_learnt_and_what_has_happened_meanwhile_counts_more() -> None:
    alarms, other = SystemAlarms(), "system.bus.gas-b:OTHER_MASTER"
    for each in (BUS, other):
        alarms.raise_alarm(each, 2, "unplug it", 1000)
        alarms.clear(each, 2000)
    later = SystemAlarms()
    later.raise_alarm(BUS, 2, "unplug it", 3000)
    assert told(later.learn(alarms.to_store())) == [(other, "note", "RTNUN", 1)]
    assert {each.alarm: each.state for each in later.standing()} == {BUS: "UNACK", other: "RTNUN"}


def test_what_has_changed_is_stored_once_and_all_of_it_in_a_new_store() -> None:
    alarms = SystemAlarms()
    alarms.raise_alarm(BUS, 2, "unplug it", 1000)
    (kept,) = alarms.to_store()
    assert alarms.to_store() == ()
    alarms.raise_alarm(BUS, 2, "unplug it", 2000)
    assert alarms.to_store() == ()
    alarms.store_all()
    assert alarms.to_store() == (kept,)


def test_its_time_is_that_of_its_newest_transition_and_its_sentence_the_newest() -> None:
    alarms = SystemAlarms()
    alarms.raise_alarm(BUS, 2, "unplug it", 1000)
    alarms.raise_alarm(BUS, 1, "unplug both", 2000)
    (alarm,) = alarms.standing()
    assert (alarm.since_ms, alarm.priority, alarm.action) == (1000, 1, "unplug both")
    alarms.clear(BUS, None)  # the clock is not to be trusted any more
    assert (alarm.since_ms, alarm.facts.acked) == (None, False)


def test_the_active_and_the_urgent_stand_first() -> None:
    alarms = SystemAlarms()
    for alarm, priority in (("system.config:FAULT", 3), (BUS, 2), ("system.unit.gas-a.3:REPLACED", 1)):
        alarms.raise_alarm(alarm, priority, "", 0)
    alarms.clear("system.unit.gas-a.3:REPLACED", 1)
    names = [each.alarm for each in alarms.standing()]
    assert names == [BUS, "system.config:FAULT", "system.unit.gas-a.3:REPLACED"]
