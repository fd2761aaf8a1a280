"""Which horns and beacons are on: tables of what happens to alarms, fed with the engine's own transitions."""

from dataclasses import replace
from pathlib import Path

import pytest

from edge.alarms import lifecycle
from edge.alarms.engine import Change, Engine, Setting
from edge.alarms.horn import Horn
from edge.config import load_site
from protocols.model import Output, Site

EXAMPLE = Path(__file__).parents[2] / "hil_tests" / "site" / "gateway.toml"
AREA_A, YARD = "罐区A", "装车台"


def output(name: str, kind: str = "horn", priorities: tuple[int, ...] = (1, 2), areas: tuple[str, ...] = ()) -> Output:
    return Output(name, kind, "cab2", None, 0, "", 25, priorities, areas, "keep", 10_000)


class World:
    """A site's alarms and horns; `say` gives a reading of a detector at a second."""

    def __init__(self, site: Site, *outputs: Output) -> None:
        self.horn = Horn(replace(site, outputs=outputs))
        common = {"group": "area", "action": "leave", "setpoint": 50.0, "deadband": 2.0}
        settings = [
            Setting("GD01.gas:HH", "HH", "GD01.gas", priority=1, latch=True, **common),  # type: ignore[arg-type]
            Setting("GD02.gas:H", "H", "GD02.gas", priority=2, re_alarm_ms=60_000, **common),  # type: ignore[arg-type]
            Setting("GD05.gas:H", "H", "GD05.gas", priority=3, **common),  # type: ignore[arg-type]
        ]
        self.engine = Engine(settings, {"GD01.gas": "cab1", "GD02.gas": "cab1", "GD05.gas": "cab1"})
        self.engine.begin("cab1", 0)

    def say(self, second: float, point: str, value: float, is_late: bool = False) -> None:
        for change in self.engine.reading(point, int(second * 1000), value, 0):
            self.horn.heard(change, is_late)

    def do(self, alarm: str, event: str, occurrence: int | None = None) -> None:
        change = self.engine.command(alarm, event, occurrence=occurrence, until_ms=10**6)
        assert isinstance(change, Change), change
        self.horn.heard(change)

    def on(self, now_s: float = 0.0) -> set[str]:
        return {name for name, is_on in self.horn.wanted(now_s).items() if is_on}


@pytest.fixture
def world() -> World:
    return World(load_site(EXAMPLE), output("horn"), output("beacon", "beacon"))


def test_a_horn_sounds_until_somebody_acknowledges_and_a_beacon_until_it_is_over(world: World) -> None:
    assert world.on() == set()
    world.say(1, "GD01.gas", 55.0)
    assert world.on() == {"horn", "beacon"}
    world.do("GD01.gas:HH", lifecycle.ACK, 1)
    assert world.on() == {"beacon"}
    world.say(2, "GD01.gas", 0.0)
    assert world.on() == {"beacon"}  # latched: it stands until it is reset
    world.do("GD01.gas:HH", lifecycle.RESET)
    assert world.on() == set()


def test_a_latched_alarm_sounds_on_when_its_cause_is_gone(world: World) -> None:
    world.say(1, "GD01.gas", 55.0)
    world.say(2, "GD01.gas", 0.0)
    assert world.on() == {"horn", "beacon"}


def test_one_that_is_well_again_sounds_no_more_and_stays_lit_until_it_is_acknowledged(world: World) -> None:
    world.say(1, "GD02.gas", 55.0)
    world.say(2, "GD02.gas", 0.0)
    assert world.on() == {"beacon"}
    world.do("GD02.gas:H", lifecycle.ACK, 1)
    assert world.on() == set()


def test_muting_acknowledges_nothing_and_a_new_alarm_sounds_again(world: World) -> None:
    world.say(1, "GD01.gas", 55.0)
    assert world.horn.mute() == 1
    assert world.on() == {"beacon"}
    assert world.engine.stand()["GD01.gas:HH"].state == "UNACK"
    world.say(2, "GD02.gas", 55.0)
    assert world.on() == {"horn", "beacon"}
    assert world.horn.mute() == 1 and world.horn.mute() == 0
    assert world.on() == {"beacon"}


def test_what_was_muted_and_comes_again_sounds_again(world: World) -> None:
    world.say(1, "GD02.gas", 55.0)
    world.horn.mute()
    world.say(2, "GD02.gas", 0.0)
    world.say(3, "GD02.gas", 55.0)  # another occurrence
    assert "horn" in world.on()
    world.horn.mute()
    world.do("GD02.gas:H", lifecycle.ACK, 2)
    for second in range(4, 70):
        world.say(second, "GD02.gas", 55.0)  # a minute later it is announced anew
    assert "horn" in world.on()


def test_each_output_tells_its_priorities_and_areas(world: World) -> None:
    site = load_site(EXAMPLE)
    outputs = [output("first", priorities=(1,)), output("yard", priorities=(1, 2, 3), areas=(YARD,))]
    world = World(site, *outputs, output("a", areas=(AREA_A,)), output("fault", "fault"))
    world.say(1, "GD05.gas", 55.0)
    assert world.on() == {"yard"}
    world.say(2, "GD02.gas", 55.0)
    assert world.on() == {"yard", "a"}
    world.say(3, "GD01.gas", 55.0)
    assert world.on() == {"yard", "a", "first"}
    assert "fault" not in world.horn.wanted(0.0)  # its board alone drops it


@pytest.mark.parametrize("event", [lifecycle.OUT_OF_SERVICE, lifecycle.SHELVE, lifecycle.SUPPRESS])
def test_what_is_worked_on_or_shelved_does_not_sound_and_does_at_once_when_that_ends(world: World, event: str) -> None:
    world.do("GD02.gas:H", event)
    world.say(1, "GD02.gas", 55.0)
    assert world.on() == set()
    ends = {lifecycle.OUT_OF_SERVICE: "in_service", lifecycle.SHELVE: "unshelve", lifecycle.SUPPRESS: "unsuppress"}
    world.do("GD02.gas:H", ends[event])
    assert world.on() == {"horn", "beacon"}


def test_an_excursion_of_yesterday_does_not_sound_but_one_that_still_holds_does(world: World) -> None:
    world.say(1, "GD01.gas", 55.0, is_late=True)
    world.say(2, "GD01.gas", 0.0, is_late=True)  # in one burst; latched
    assert world.on() == {"beacon"}
    world.say(3, "GD02.gas", 55.0, is_late=True)
    assert world.on() == {"horn", "beacon"}
    world.say(4, "GD01.gas", 55.0)  # the latched one, again: the same occurrence, but now it holds
    world.do("GD02.gas:H", lifecycle.ACK, 1)
    assert world.on() == {"horn", "beacon"}


def test_a_test_is_over_by_itself_or_by_muting(world: World) -> None:
    world.horn.test(100.0, 5)
    assert world.horn.due_s() == 105.0
    assert world.on(104.9) == {"horn", "beacon"} and world.on(105.0) == set()
    assert world.horn.due_s() == float("inf")
    world.horn.test(200.0, 5)
    assert world.horn.mute() == 0 and world.on(200.1) == set()
    world.say(1, "GD01.gas", 55.0)
    world.horn.test(300.0, 5)
    assert world.on(306.0) == {"horn", "beacon"}  # a test takes nothing away


def test_one_alarm_is_silenced_and_the_others_go_on(world: World) -> None:
    world.say(1, "GD01.gas", 55.0)
    world.horn.heard(world.engine.as_it_is("GD01.gas:HH", lifecycle.SILENCE))
    assert world.on() == {"beacon"}
    world.say(2, "GD02.gas", 55.0)
    assert world.on() == {"horn", "beacon"}  # another one
    world.do("GD02.gas:H", lifecycle.ACK, 1)
    assert world.on() == {"beacon"}
    world.say(3, "GD01.gas", 0.0)
    world.say(4, "GD01.gas", 55.0)
    assert world.on() == {"horn", "beacon"}  # the same one, raised again


def test_an_alarm_that_stands_sounds_where_its_point_belongs_when_areas_are_named_anew(world: World) -> None:
    world.say(1, "GD02.gas", 55.0)
    site = load_site(EXAMPLE)
    points = tuple(replace(each, area="罐区一") if each.area == AREA_A else each for each in site.points)
    outputs = (output("old", areas=(AREA_A,)), output("new", areas=("罐区一",)))
    world.horn.configure(replace(site, points=points, outputs=outputs))
    assert world.on() == {"new"}


def test_whether_an_occurrence_was_found_late_is_decided_when_it_begins(world: World) -> None:
    world.say(1, "GD01.gas", 55.0)
    world.say(2, "GD01.gas", 0.0, is_late=True)  # its link was slow meanwhile; it latches, and was heard in time
    assert world.on() == {"horn", "beacon"}
    world.do("GD01.gas:HH", lifecycle.ACK, 1)
    world.say(3, "GD01.gas", 55.0, is_late=True)
    assert world.on() == {"horn", "beacon"}
    world.say(4, "GD01.gas", 0.0)
    assert world.on() == {"beacon"}  # an excursion of before, whenever its end comes
    world.say(5, "GD01.gas", 55.0)
    world.say(6, "GD01.gas", 0.0)  # another one, all of it heard in time
    assert world.on() == {"horn", "beacon"}
