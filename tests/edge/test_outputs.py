"""Outputs as the gateway knows them: a real board's outputs, on a fake clock, are told what the policy orders."""

import dataclasses
from pathlib import Path

import pytest

from edge.boards import Taken
from edge.config import load_site
from edge.outputs import Outputs
from edge.planning import BoardPlan, compile_board
from edge.timebase import UNSYNCED
from protocols import link, modbus, octets, readplan, switching
from protocols.model import Input, Output, Site
from protocols.profile import builtin

EXAMPLE = Path(__file__).parents[2] / "hil_tests" / "site" / "gateway.toml"
HORN = Output("horn", "horn", "cab2", "gas-b", 30, "io-16do", 3, (1, 2), (), "keep", 10_000)
FAULT = Output("fault", "fault", "cab2", None, 0, "", 25, (), (), "keep", 10_000)
MUTE = Input("mute", "mute", "cab2", 26, 5)


@pytest.fixture(scope="module")
def site() -> Site:
    site = load_site(EXAMPLE)
    profiles = {**site.profiles, "io-16do": builtin("io-16do")}
    return dataclasses.replace(site, outputs=(HORN, FAULT), inputs=(MUTE,), profiles=profiles)


def plan_of(site: Site) -> BoardPlan:
    plan = compile_board(site, "cab2", "d1c1a179", ())
    assert plan is not None
    return plan


class World:
    """The policy and what a board says to it; `orders` are (output, value) in the plan's order."""

    def __init__(self, site: Site) -> None:
        self.plan = plan_of(site)
        self.outputs = Outputs(site, 0.0)
        self.outputs.add_plan(self.plan)
        self.now_s = 0.0
        self.boot = "11111111"
        self.orders: list[tuple[int, int]] = []
        self.wanted = {"horn": False}

    def say(self, *records: tuple[int, bytes]) -> None:
        told = [(self.plan.generation, kind, body) for kind, body in records]
        self.outputs.took(Taken("cab2", self.boot, told, 1, 0, UNSYNCED, 0.0), self.now_s)

    def switched(self, output: int, value: int, outcome: int = modbus.OK, cause: int = switching.COMMANDED) -> None:
        self.say((switching.SWITCHED, bytes((output, value, outcome, cause)) + bytes(8)))

    def read_back(self, value: int | None) -> None:
        read = next(i for i, planned in enumerate(self.plan.reads) if planned.output == "horn")
        head = bytes((read, modbus.TIMEOUT if value is None else modbus.OK)) + bytes(7)
        self.say((link.SAMPLE, head + (b"" if value is None else bytes((value,)))))

    def ask(self, after_s: float = 0.0, **wanted: bool) -> None:
        self.now_s += after_s
        self.wanted |= wanted
        for order in self.outputs.due(self.wanted, self.now_s):
            assert order.board == "cab2"
            assert octets.get_u16(order.arguments, 0) == self.plan.generation
            assert len(order.arguments) == switching.SWITCH_BYTES - 1
            self.orders.append((order.arguments[2], order.arguments[3]))

    def alarms(self, after_s: float = 0.0) -> list[str]:
        self.now_s += after_s
        return [alarm for alarm, _text in self.outputs.alarms(self.now_s)]


@pytest.fixture
def world(site: Site) -> World:
    world = World(site)
    world.ask()
    world.switched(0, 0)
    world.ask()
    assert world.orders == [(0, 0)]  # once at the start: nobody knows what it is
    world.orders.clear()
    return world


def test_the_plan_lists_coils_pins_and_buttons_and_reads_the_coils_back(site: Site) -> None:
    plan = plan_of(site)
    assert (plan.outputs, plan.inputs) == (("horn", "fault"), ("mute",))
    coil, pin = (switching.output_at(plan.plan, at) for at in (0, 1))
    unit = plan.plan[coil]
    assert plan.plan[readplan.unit_at(plan.plan, unit) + 1] == 30
    assert plan.plan[coil + 1 : coil + 6] == bytes((3, 0, 0, 100, 0))  # coil 3, kept as it is, 10 s
    assert plan.plan[pin : pin + 6] == bytes((switching.PIN, 25, 0, switching.FAULT, 100, 0))
    (back,) = [planned for planned in plan.reads if planned.output]
    assert (back.read.function_code, back.read.address, back.read.count, back.period_ms) == (1, 3, 1, 1000)
    at = readplan.read_at(plan.plan, plan.reads.index(back))
    assert not plan.plan[at + 8] & readplan.CHECK


def test_an_order_is_given_once_and_what_comes_of_it_is_told(world: World) -> None:
    world.ask(1.0, horn=True)
    world.ask(0.1)
    assert world.orders == [(0, 1)]
    world.switched(0, 1)
    world.ask(0.1)
    assert world.orders == [(0, 1)] and world.alarms() == []
    assert [(each.output, each.value) for each in world.outputs.switched] == [("horn", False), ("horn", True)]


def test_a_coil_that_somebody_else_switched_is_an_alarm_and_is_set_right(world: World) -> None:
    world.read_back(0)
    assert world.alarms() == []
    world.read_back(1)
    assert world.alarms() == ["system.output.horn:DIFFERS"]
    world.ask()
    assert world.orders == [(0, 0)]
    world.switched(0, 0)
    assert world.alarms() == []


def test_what_was_read_before_it_was_switched_is_no_difference(world: World) -> None:
    world.ask(horn=True)
    world.read_back(0)  # the sample was on its way
    assert world.alarms() == []
    world.switched(0, 1)
    world.read_back(1)
    assert world.alarms() == []


def test_a_module_that_takes_no_write_is_an_alarm_and_asked_ever_more_seldom(world: World) -> None:
    world.ask(horn=True)
    times = []
    for _ in range(200):
        if world.orders:
            times.append(world.now_s)
            world.orders.clear()
            world.switched(0, 1, modbus.TIMEOUT)
        world.ask(0.1)
    assert [round(later - earlier) for earlier, later in zip(times, times[1:], strict=False)] == [1, 1, 5, 5, 5]
    assert world.alarms() == ["system.output.horn:FAULT"]
    world.orders.clear()
    world.switched(0, 1)
    world.ask()
    assert world.alarms() == []


def test_a_module_that_does_not_answer_is_told_before_it_is_needed(world: World) -> None:
    for _ in range(3):
        world.ask(1.0)
        world.read_back(None)
    assert world.alarms() == ["system.output.horn:FAULT"]
    world.read_back(0)
    assert world.alarms() == []


def test_a_board_that_says_nothing_is_asked_again_and_is_an_alarm(world: World) -> None:
    world.ask(horn=True)
    for _ in range(40):
        world.ask(0.1)
    assert world.orders == [(0, 1), (0, 1)]
    assert world.alarms() == ["system.output.horn:FAULT"]


def test_a_refusal_names_the_output(world: World) -> None:
    world.ask(horn=True)
    arguments = world.plan.generation.to_bytes(2, "little") + b"\0\1\xd0\7"
    assert world.outputs.refused("cab2", arguments, world.now_s) == "horn"
    world.ask(0.5)
    assert world.orders == [(0, 1)]
    world.ask(0.6)
    assert world.orders == [(0, 1), (0, 1)]
    assert world.outputs.refused("cab2", arguments, world.now_s) == ""  # told once
    assert world.outputs.refused("cab2", b"\0\0\7\1\0\0", world.now_s) == ""


def test_a_board_that_started_again_is_told_again(world: World) -> None:
    world.ask(horn=True)
    world.switched(0, 1)
    world.orders.clear()
    world.boot = "22222222"
    world.read_back(1)
    world.ask()
    assert world.orders == []  # the module kept its coil
    world.boot = "33333333"
    world.read_back(0)
    world.ask()
    assert world.orders == [(0, 1)] and world.alarms() == []
    world.switched(0, 1, modbus.TIMEOUT)  # it listens for another master first
    assert world.alarms(9.0) == [] and world.alarms(2.0) == ["system.output.horn:FAULT"]


def test_what_the_board_did_alone_is_told_and_set_right(world: World) -> None:
    world.ask(horn=True)
    world.switched(0, 1)
    world.orders.clear()
    world.switched(0, 0, cause=switching.LINK_LOST)
    world.switched(1, 0, cause=switching.LINK_LOST)
    assert [(each.output, each.cause) for each in world.outputs.switched[-2:]] == [("horn", 1), ("fault", 1)]
    world.ask()
    assert world.orders == [(0, 1)]
    fault = next(row for row in world.outputs.rows(world.wanted) if row["output"] == "fault")
    assert fault["is_on"] is False and fault["wanted"] is None


def test_a_button_that_is_pressed_is_told_and_one_that_is_released_is_not(world: World) -> None:
    world.say((switching.INPUT, bytes((0, 1)) + bytes(6)), (switching.INPUT, bytes((0, 0)) + bytes(6)))
    assert world.outputs.pressed == [MUTE]


def test_records_of_another_plan_or_too_short_ones_change_nothing(world: World) -> None:
    world.say((switching.SWITCHED, b"\0\1"), (switching.INPUT, b"\0"), (link.SAMPLE, b""))
    world.say((switching.SWITCHED, bytes((9, 1)) + bytes(10)))
    foreign = Taken("cab2", world.boot, [(1, switching.SWITCHED, bytes(12))], 1, 0, UNSYNCED, 0.0)
    world.outputs.took(foreign, world.now_s)
    assert world.outputs.pressed == [] and world.alarms() == []


def test_an_output_that_was_moved_is_told_anew_and_one_that_stayed_is_not(site: Site, world: World) -> None:
    world.outputs.configure(site, world.now_s)
    world.ask()
    assert world.orders == []
    moved = dataclasses.replace(site, outputs=(dataclasses.replace(HORN, place=4), FAULT))
    world.outputs.configure(moved, world.now_s)
    world.ask()
    assert world.orders == [(0, 0)]  # what is known is of the place where it was
