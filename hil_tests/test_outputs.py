"""A horn on a bus, a beacon and a fault relay on pins, two buttons: real programs, each a process as in the field."""

import json
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Any

import pytest

from hil_tests.bare_board import LINE as FAST_LINE
from hil_tests.bare_board import UNIT_ID, BareBoard
from hil_tests.bench.line import Exchange, Line
from hil_tests.bench.pty_port import PinPort
from hil_tests.bench.rig import N_, Rig, lay_bus
from hil_tests.bench.sheet import Point
from hil_tests.bench.units import SILENT, Unit
from hil_tests.mosquitto import Mosquitto
from hil_tests.small_site import BOARD, Bus, SmallSite
from protocols import link, modbus, model, profile, readplan_edge, switching

pytestmark = pytest.mark.needs("mosquitto", "simulation")

LINE = "19200 8N1"
POINTS = """\
point,name,area,bus,unit_id,profile,channel,unit,range_low,range_high,period_s,preset,H,HH,action
GD01.gas,gas,hall,gas-a,1,sensepoint-xcd,gas,%LEL,0,100,0.5,combustible,25,50,leave
GD02.gas,gas,hall,gas-a,2,sensepoint-xcd,gas,%LEL,0,100,0.5,combustible,25,50,leave
"""
OUTPUTS = """
[outputs.horn]
bus = "gas-a"
unit_id = 30
profile = "io-16do"
coil = 3
priorities = [1, 2]
[outputs.beacon]
board = "cab1"
pin = 4
kind = "beacon"
priorities = [1, 2]
on_link_loss = "on"
link_loss_s = 4
[outputs.fault]
board = "cab1"
pin = 5
normally = "energised"
link_loss_s = 3
[inputs.mute]
board = "cab1"
pin = 6
[inputs.test]
board = "cab1"
pin = 7
for_s = 60
"""
COIL = 3
DIFFERS, FAULT = "system.output.horn:DIFFERS", "system.output.horn:FAULT"


class Hall:
    """Two detectors and an output module on one bus, a board with its pins, the gateway."""

    def __init__(self, rig: Rig, directory: Path, broker_port: int, to_stop: ExitStack) -> None:
        self.gas = {"GD01.gas": 0.0, "GD02.gas": 0.0}
        sensor = profile.builtin("sensepoint-xcd")
        detectors = [
            Unit(unit_id, sensor, [Point(point, "gas-a", unit_id, sensor.name, "gas", "%{LEL}", 0, 100, 500, 1, 60)])
            for unit_id, point in enumerate(self.gas, 1)
        ]
        self.module = Unit(30, profile.builtin("io-16do"), [], takes_s=0.003)  # as its recording has it
        self.asked: list[Exchange] = []
        line = Line("gas-a", model.Line.parse(LINE), [*detectors, self.module], lambda point, _: self.gas[point])
        self._bus = lay_bus(rig, BOARD, 1, line, self.asked.append)
        to_stop.enter_context(closing(self._bus.port))
        self.beacon, self.fault, self.mute, self.test = (to_stop.enter_context(closing(PinPort())) for _ in range(4))
        ports = (self.beacon, self.fault, self.mute, self.test)
        pins = {number: pin.path for number, pin in enumerate(ports, 4)}
        on_board = [Bus("gas-a", LINE, self._bus.port.path)]
        self.site = to_stop.enter_context(
            closing(SmallSite(rig, directory, broker_port, on_board, POINTS, {}, OUTPUTS, pins))
        )
        self.site.watch(self._bus.port.fileno(), lambda: self._bus.receive(time.monotonic()))

    def work(self) -> None:
        self._bus.run(time.monotonic())

    def until(self, condition: Callable[[], bool]) -> None:
        self.site.until(condition, self.work)

    def is_sounding(self) -> bool:
        return self.module.coils.get(COIL, False)

    def says(self, *words: str, code: int = 0) -> str:
        return self.site.tankgate(*words, "--lang", "en", work=self.work, code=code)

    def hears(self, alarm: str, transition: str) -> dict[str, Any]:
        """The newest such event, as soon as it is told."""
        found: list[dict[str, Any]] = []

        def is_heard() -> bool:
            found[:] = [
                event for event in self.site.events if (event["alarm"], event["transition"]) == (alarm, transition)
            ]
            return bool(found)

        self.until(is_heard)
        return found[-1]

    def panel(self) -> dict[str, tuple[str, int]]:
        """Each gas alarm that stands: its state, and how many times it was raised; the most urgent first."""
        said = json.loads(self.site.tankgate("alarms", "list", "--json", "{site}", work=self.work, code=None))
        return {each["alarm"]: (each["state"], each["occurrence"]) for each in said["alarms"]}

    def press(self, button: PinPort) -> None:
        button.press(True)
        pressed_s = time.monotonic()
        self.until(lambda: time.monotonic() - pressed_s > 0.1)  # as long as a finger does
        button.press(False)

    def alarms(self, alarm: str) -> list[str]:
        return [state for name, state in self.site.alarms if name == alarm]


@pytest.fixture
def hall(rig: Rig, tmp_path: Path) -> Iterator[Hall]:
    with ExitStack() as to_stop:
        broker = to_stop.enter_context(closing(Mosquitto(tmp_path, "allow_anonymous true")))
        hall = Hall(rig, tmp_path, broker.port, to_stop)
        hall.until(lambda: len(hall.site.readings) == len(hall.gas) and hall.module.requests > 1)
        yield hall


@pytest.mark.shows(N_("Horn and beacon sound when they are tested, and fall silent when they are muted."))
def test_the_buttons(hall: Hall) -> None:
    assert not hall.is_sounding() and not hall.beacon.level
    hall.press(hall.test)
    hall.until(lambda: hall.is_sounding() and hall.beacon.level == 1)
    hall.press(hall.mute)
    hall.until(lambda: not hall.is_sounding() and hall.beacon.level == 0)
    assert "--by" in hall.says("horn", "test", "{site}", code=2)
    assert "--by: is blank" in hall.says("horn", "test", "{site}", "--by", " ", code=1)
    hall.says("horn", "test", "{site}", "--for", "2", "--by", "R7")
    hall.until(hall.is_sounding)
    hall.until(lambda: not hall.is_sounding())  # by itself
    assert hall.alarms(DIFFERS) == [] and hall.alarms(FAULT) == []


@pytest.mark.shows(N_("Gas sounds the horn at once; muting acknowledges nothing, and the next alarm sounds it again."))
def test_gas(hall: Hall) -> None:
    hall.gas["GD01.gas"] = 60.0
    hall.until(hall.is_sounding)
    hall.until(lambda: hall.beacon.level == 1 and hall.alarms("GD01.gas:HH") == ["UNACK"])
    hall.press(hall.mute)
    hall.until(lambda: not hall.is_sounding())
    assert hall.beacon.level == 1 and hall.alarms("GD01.gas:HH") == ["UNACK"]
    hall.gas["GD02.gas"] = 30.0
    hall.until(hall.is_sounding)  # another one
    hall.press(hall.mute)
    hall.until(lambda: not hall.is_sounding())
    hall.gas["GD02.gas"] = 60.0
    hall.until(hall.is_sounding)  # and the same detector's next


@pytest.mark.shows(N_("As on a gas alarm panel: first-out, mute, re-sound, count of alarms, reset by hand only."))
def test_a_gas_alarm_panel(hall: Hall) -> None:
    """What a gas alarm panel does, step by step. No conformity to its standard is claimed."""
    # The first detector in alarm is marked, and sounds the horn; those that follow are not the first.
    hall.gas["GD01.gas"] = 30.0
    assert hall.hears("GD01.gas:H", "raise")["first_out"]
    hall.until(hall.is_sounding)
    hall.gas["GD02.gas"] = 30.0
    assert not hall.hears("GD02.gas:H", "raise")["first_out"]

    # Muting silences the horn alone: the beacon stays lit, nothing is acknowledged, all are counted.
    hall.press(hall.mute)
    hall.until(lambda: not hall.is_sounding())
    assert hall.beacon.level == 1
    assert hall.panel() == {"GD01.gas:H": ("UNACK", 1), "GD02.gas:H": ("UNACK", 1)}
    for language, first in (("en", ", first-out"), ("zh", "，首发")):
        said = hall.site.tankgate("alarms", "list", "{site}", "--lang", language, work=hall.work, code=1)
        assert said.count(first) == 1 and said.count("30.0 %LEL") == 2 and said.count("≥ 25 %LEL") == 2

    # A further alarm of a detector that is muted sounds again.
    hall.gas["GD01.gas"] = 60.0
    assert not hall.hears("GD01.gas:HH", "raise")["first_out"]
    hall.until(hall.is_sounding)
    assert list(hall.panel()) == ["GD01.gas:HH", "GD01.gas:H", "GD02.gas:H"]

    # Acknowledged, it falls silent. While its cause is there it cannot be reset.
    for alarm in hall.panel():
        hall.says("alarms", "ack", "{site}", alarm, "--occurrence", "1", "--by", "R7")
    hall.until(lambda: not hall.is_sounding())
    for alarm in hall.panel():
        assert "cause is still there" in hall.says("alarms", "reset", "{site}", alarm, "--by", "R7", code=1)

    # The gas goes: nothing resets itself, and the beacon tells so.
    hall.gas.update({"GD01.gas": 0.0, "GD02.gas": 0.0})
    for alarm in ("GD01.gas:H", "GD01.gas:HH", "GD02.gas:H"):
        assert hall.hears(alarm, "clear")["to"] == "ACKED"
    assert len(hall.panel()) == 3 and hall.beacon.level == 1

    # A person resets: one after the other is gone, and with the last the beacon. The next alarm is a first one again.
    for alarm in hall.panel():
        assert hall.beacon.level == 1
        hall.says("alarms", "reset", "{site}", alarm, "--by", "R7")
    hall.until(lambda: hall.beacon.level == 0)
    assert hall.panel() == {}
    hall.gas["GD02.gas"] = 30.0
    hall.until(hall.is_sounding)
    hall.until(lambda: hall.hears("GD02.gas:H", "raise")["occurrence"] == 2)
    assert hall.hears("GD02.gas:H", "raise")["first_out"]
    assert hall.panel() == {"GD02.gas:H": ("UNACK", 2)}


@pytest.mark.shows(N_("A horn that somebody else switches is set right, and told; so is one that cannot be switched."))
def test_somebody_else_at_the_module(hall: Hall) -> None:
    hall.module.coils[COIL] = True
    hall.until(lambda: hall.alarms(DIFFERS) == ["UNACK", "RTNUN"])
    assert not hall.is_sounding()
    hall.module.break_down(SILENT)
    hall.until(lambda: hall.alarms(FAULT) == ["UNACK"])
    hall.module.heal()
    hall.until(lambda: hall.alarms(FAULT) == ["UNACK", "RTNUN"])
    written = [exchange.request for exchange in hall.asked if exchange.request[1] > modbus.READ_INPUT_REGISTERS]
    assert {(request[0], request[1], request[3]) for request in written} == {(30, modbus.WRITE_COIL, COIL)}


@pytest.mark.shows(N_("A fault relay drops when its board loses the gateway, or its power."))
def test_the_fault_relay(hall: Hall) -> None:
    hall.until(lambda: hall.fault.level == 1)
    hall.site.freeze_gateway()
    frozen_s = time.monotonic()
    hall.until(lambda: hall.fault.level == 0)
    assert 2.0 < time.monotonic() - frozen_s < 6.0
    hall.until(lambda: hall.beacon.level == 1)  # as it was configured
    assert not hall.is_sounding()  # and this one is left as it was
    hall.site.thaw_gateway()
    hall.until(lambda: hall.fault.level == 1 and hall.beacon.level == 0)
    (board,) = hall.site.boards.values()
    board.power_off()
    assert hall.fault.level == 0
    board.power_on()
    hall.until(lambda: hall.fault.level == 1)


@pytest.mark.shows(N_("A board of two buses has room for as many units, outputs and buttons as a plan may have."))
@pytest.mark.needs("two_buses")
@pytest.mark.parametrize("units", [16, 63])
def test_all_that_a_plan_may_have_finds_room(rig: Rig, tmp_path: Path, units: int) -> None:
    reads, first_pin = 64, 2
    plan = readplan_edge.encode(
        [readplan_edge.encode_bus(uart, FAST_LINE.baud, 8, "N", 1) for uart in (1, 2)],
        [readplan_edge.encode_unit(unit % 2, UNIT_ID + unit, 200, 50, 0, 1000) for unit in range(units)],
        [
            readplan_edge.encode_read(read % units, modbus.READ_HOLDING_REGISTERS, 10 * read, 10, 500)
            for read in range(reads)
        ],
        b"\1\2\3\4",
        output_rows=[readplan_edge.encode_output(place % units, place, 3000) for place in range(switching.MAX_OUTPUTS)],
        input_pins=range(first_pin, first_pin + switching.MAX_INPUTS),
    )
    with ExitStack() as to_stop:
        buttons = [to_stop.enter_context(closing(PinPort())) for _ in range(switching.MAX_INPUTS)]
        pins = {number: button.path for number, button in enumerate(buttons, first_pin)}
        board = to_stop.enter_context(closing(BareBoard(rig, tmp_path, two_buses=True, pins=pins)))
        assert board.send(plan) == link.DONE
        board.until(lambda: len(board.samples) > reads and any(each.outcome == modbus.OK for each in board.samples))
