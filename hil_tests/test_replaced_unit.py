"""Somebody hangs another detector in a detector's place: its readings are doubted until a person has looked at it."""

import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from hil_tests.bench.line import Exchange, Line
from hil_tests.bench.rig import N_, Rig, lay_bus
from hil_tests.bench.sheet import Point
from hil_tests.bench.units import Unit
from hil_tests.mosquitto import Mosquitto
from hil_tests.small_site import BOARD, Bus, Reading, SmallSite
from protocols import model, profile

pytestmark = pytest.mark.needs("mosquitto")

LINE = "19200 8E1"
GAS = {2019: 52.5, 2024: 31.0}  # what each of the two detectors measures
OLD, NEW = (Reading(value, model.GOOD, 0) for value in GAS.values())
REPLACED = Reading(None, model.UNIT_REPLACED, 0)
POINTS = """\
point,name,area,bus,unit_id,profile,channel,unit,period_s
GD01.gas,gas,hall,gas-a,7,msa-ultima-x,lel1,%LEL,0.5
"""


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[Mosquitto]:
    broker = Mosquitto(tmp_path, "allow_anonymous true")
    yield broker
    broker.close()


@pytest.mark.needs("reset")
@pytest.mark.shows(
    N_("Another detector in a detector's place is noticed; its readings are doubted until a person has accepted it.")
)
def test_another_detector_in_the_same_place(rig: Rig, broker: Mosquitto, tmp_path: Path) -> None:
    point = Point("GD01.gas", "gas-a", 7, "msa-ultima-x", "lel1", "%{LEL}", None, None, 500, 1, 60)
    detector = Unit(7, profile.builtin("msa-ultima-x"), [point], serial=2019)
    asked: list[Exchange] = []
    line = Line("gas-a", model.Line.parse(LINE), [detector], lambda _point, _now_s: GAS[detector.serial])
    bus = lay_bus(rig, BOARD, 1, line, asked.append)
    checks = (bytes.fromhex("03e80001"), bytes.fromhex("9c450009"))  # 1000, and 40005 to 40013

    def are_checked() -> bool:
        return {exchange.request[2:6] for exchange in asked}.issuperset(checks)

    with (
        closing(bus.port),
        closing(SmallSite(rig, tmp_path, broker.port, [Bus("gas-a", LINE, bus.port.path)], POINTS, {})) as site,
    ):
        site.watch(bus.port.fileno(), lambda: bus.receive(time.monotonic()))

        def until_last_is(reading: Reading) -> None:
            site.until(lambda: site.readings["GD01.gas"][-1:] == [reading], lambda: bus.run(time.monotonic()))

        until_last_is(OLD)
        site.until(are_checked, lambda: bus.run(time.monotonic()))
        detector.serial = 2024
        site.restart_boards()  # everything is asked anew at its start, not only each hour, and first of all this
        until_last_is(REPLACED)
        command = ("unit", "accept", "{site}", "gas-a", "7", "--by", "Li")
        site.tankgate(*command, work=lambda: bus.run(time.monotonic()))
        until_last_is(NEW)
    assert site.readings["GD01.gas"] == [OLD, REPLACED, NEW]
