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
