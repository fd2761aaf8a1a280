"""The plant: deterministic, within its ranges, lively enough for the demo, and its leaks spread."""

import math
from itertools import pairwise

import pytest

from hil_tests.bench.ledger import Ledger, Poll, Rule
from hil_tests.bench.plant import DETECTORS, PLACES, TANKS, Plant

LEVELS = [f"{tank}.level" for tank in TANKS]
TEMPERATURES = [f"{tank}.temp" for tank in TANKS]
GASES = [f"{detector}.gas" for detector in DETECTORS]
# Period in s and deadband, as the example sheet has them.
SHEET = {
    **{point: (2, 0.01) for point in LEVELS},
    **{point: (5, 0.2) for point in TEMPERATURES},
    **{point: (1, 1.0) for point in GASES},
    "GD10.gas": (1, 0.1),
}
HIGH = {"GD08.gas": 30, "GD09.gas": 30, "GD10.gas": 23.5}


def test_the_same_seed_gives_the_same_plant_asked_in_any_order():
    times = [7.25, 0.0, 93.5, 7.25]
    there = {(point, t): Plant(5).value(point, t) for t in times for point in SHEET}
    back = {(point, t): Plant(5).value(point, t) for t in reversed(times) for point in reversed(SHEET)}
    assert there == back
    assert any(Plant(6).value(point, 7.25) != there[point, 7.25] for point in GASES)


@pytest.mark.parametrize("point", SHEET)
def test_a_day_of_quiet_stays_within_ranges_and_raises_no_gas_alarm(point):
    plant = Plant(1)
    values = [plant.value(point, t) for t in range(0, 86400, 37)]
    low, high = {"level": (1.2, 10.95), "temp": (15, 35), "gas": (0, HIGH.get(point, 25) - 0.1)}[point.split(".")[1]]
    assert low < min(values) + 1e-9 and max(values) < high
    assert len(set(values)) > 5


@pytest.mark.parametrize("tank", TANKS)
def test_a_tank_moves_as_its_direction_says(tank):
    plant = Plant(1)
    seen = set()
    for t, later in pairwise(range(0, 6000, 5)):
        direction = plant.direction(tank, t)
        if direction == plant.direction(tank, later):
            moved = plant.value(f"{tank}.level", later) - plant.value(f"{tank}.level", t)
            assert moved == pytest.approx(direction * 5 * TANKS[tank].rate_m_s, abs=0.0021)
            seen.add(direction)
    assert seen == {-1, 0, 1}
    assert plant.value(f"{tank}.level", 0) == pytest.approx(TANKS[tank].level, abs=0.001)


def test_tk103_crosses_its_high_limit_in_the_first_half_minute():
    plant = Plant(1)
    assert plant.value("TK103.level", 0) < 10.8 < plant.value("TK103.level", 15)


@pytest.mark.parametrize("seed", range(10))
@pytest.mark.parametrize("heartbeat_second", [5, 50])
def test_half_a_minute_has_at_least_150_due_readings(seed, heartbeat_second):
    plant = Plant(seed)
    start_ms = 1_800_000_000_000  # a full minute: second 5 falls into the half minute, second 50 does not
    rules = {point: Rule("cab1", "bus", period * 1000, deadband, 60) for point, (period, deadband) in SHEET.items()}
    ledger = Ledger(rules, heartbeat_second)
    for t in range(30):
        for point, (period, _deadband) in SHEET.items():
            if t % period == 0:
                at_ms = start_ms + 8000 + t * 1000
                ledger.polled([Poll(point, at_ms, at_ms, plant.value(point, t), 0)])
    assert ledger.figures(start_ms + 60_000, 0).due >= 150


def test_a_leak_reaches_the_near_detector_first_and_strongest_and_thins_out():
    plant = Plant(3)
    plant.leak("pump-house", 100.0)
    quiet = Plant(3)

    def added(detector: str, t: float) -> float:
        return plant.value(f"{detector}.gas", t) - quiet.value(f"{detector}.gas", t)

    by_distance = sorted(
        (name for name, detector in DETECTORS.items() if detector.gas == PLACES["pump-house"].gas),
        key=lambda name: math.dist((DETECTORS[name].x, DETECTORS[name].y), (60, 8)),
    )
    assert by_distance[0] == "GD07"
    arrivals = [next(t for t in range(100, 400) if added(name, t) > 0.5) for name in by_distance]
    assert arrivals == sorted(arrivals) and arrivals[0] < arrivals[-1]
    heights = [added(name, 399) for name in by_distance]
    assert heights == sorted(heights, reverse=True) and heights[0] > 5 * heights[-1] > 5
    assert plant.value("GD07.gas", 110) > 50
    assert added("GD08", 399) == 0  # another gas
    assert added("GD10", 399) < -0.2  # less oxygen
    plant.seal(400.0)
    assert added("GD07", 600) < 0.5


def test_unknown_names_are_refused():
    with pytest.raises(ValueError, match="TK101 to TK106"):
        Plant(1).value("TK107.level", 0)
    with pytest.raises(ValueError, match="pump-house"):
        Plant(1).leak("office", 0)
