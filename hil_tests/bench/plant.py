"""The example site's plant: six tanks that fill and empty, their temperatures, ten gas detectors, and leaks. Policy.

Owns the truth that the simulated sensors measure. Every value is a function of the seed, the leaks that were started
and `now_s`, the seconds since the plant began; nothing is remembered between two questions, so they may be asked in
any order. Must never know how a value travels. All figures are invented; they are chosen so that the screen moves:
in 30 s well over 150 readings pass the deadbands of the example sheet, and TK103 crosses its high limit.
"""

import math
from dataclasses import dataclass, replace

from hil_tests.bench.chance import draw, wander

# --- tanks --------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Tank:
    """A tank that fills, rests, empties and rests again, for ever.

    Levels in m. `direction` at the start: 1 filling, -1 emptying, 0 at rest, at `high` when it begins there, else
    at `low`.
    """

    low: float
    high: float
    rate_m_s: float
    rest_s: float
    level: float
    direction: int
    warmth: float  # mean temperature, Cel

    def level_and_direction(self, now_s: float) -> tuple[float, int]:
        """The level in m, and 1 filling, -1 emptying or 0 at rest."""
        travel_s = (self.high - self.low) / self.rate_m_s
        at_s = (self._start_s(travel_s) + now_s) % (2 * (travel_s + self.rest_s))
        if at_s < travel_s:
            return self.low + self.rate_m_s * at_s, 1
        at_s -= travel_s
        if at_s < self.rest_s:
            return self.high, 0
        at_s -= self.rest_s
        if at_s < travel_s:
            return self.high - self.rate_m_s * at_s, -1
        return self.low, 0

    def _start_s(self, travel_s: float) -> float:
        if self.direction == 1:
            return (self.level - self.low) / self.rate_m_s
        if self.direction == -1:
            return travel_s + self.rest_s + (self.high - self.level) / self.rate_m_s
        return travel_s if self.level >= self.high else 2 * travel_s + self.rest_s


TANKS = {
    "TK101": Tank(2.0, 10.6, 0.0056, 120, 8.412, 1, 24.6),
    "TK102": Tank(3.207, 9.0, 0.0054, 90, 3.207, 0, 23.9),
    "TK103": Tank(4.0, 10.9, 0.0053, 180, 10.74, 1, 26.2),
    "TK104": Tank(2.0, 9.5, 0.0060, 120, 5.07, -1, 25.8),
    "TK105": Tank(1.5, 8.0, 0.0055, 120, 6.114, -1, 27.4),
    "TK106": Tank(2.0, 7.3, 0.0057, 60, 7.3, 0, 21.7),
}
_RIPPLE_M = 0.0005
_RIPPLE_PERIOD_S = 7.0

# --- gas ----------------------------------------------------------------------------------------------------

LEL = "%{LEL}"
AMMONIA = "[ppm]"
OXYGEN = "%{vol}"


@dataclass(frozen=True, slots=True)
class Detector:
    """A gas detector: what it measures, where it stands (m), and the air that it measures on a quiet day."""

    gas: str
    x: float
    y: float
    mean: float
    swing: float
    turn_s: float  # how fast the quiet day wanders


DETECTORS = {
    "GD01": Detector(LEL, 30, 0, 3.0, 2.6, 3.0),
    "GD02": Detector(LEL, 0, -30, 2.8, 2.4, 3.2),
    "GD03": Detector(LEL, -30, 0, 2.9, 2.5, 3.1),
    "GD04": Detector(LEL, 0, 30, 2.7, 2.3, 3.3),
    "GD05": Detector(LEL, 80, -40, 5.0, 4.4, 3.4),
    "GD06": Detector(LEL, 95, -40, 4.6, 4.1, 3.6),
    "GD07": Detector(LEL, 60, 10, 4.2, 3.2, 3.0),
    "GD08": Detector(AMMONIA, 20, 80, 5.0, 4.2, 3.0),
    "GD09": Detector(AMMONIA, 20, 60, 4.6, 4.0, 3.1),
    "GD10": Detector(OXYGEN, 62, 6, 20.7, 0.3, 4.0),
}
_GAS_RANGE = {LEL: 100.0, AMMONIA: 100.0, OXYGEN: 30.0}


@dataclass(frozen=True, slots=True)
class Place:
    """Where something can leak, and how much arrives next to it, in the gas's own unit."""

    gas: str
    x: float
    y: float
    strength: float


PLACES = {
    "pump-house": Place(LEL, 60, 8, 70.0),
    "loading-bay": Place(LEL, 86, -38, 70.0),
    "area-a": Place(LEL, 20, -12, 70.0),
    "ammonia-tank": Place(AMMONIA, 20, 72, 90.0),
}
_REACH_M = 40.0  # over this distance the concentration falls to 1/e
_SPREAD_M_S = 1.5  # speed of the cloud's edge
_RISE_S = 4.0
_FALL_S = 15.0
_DISPLACED = 0.006  # %VOL of oxygen that 1 %LEL pushes aside


@dataclass(frozen=True, slots=True)
class Leak:
    """One leak; `until_s` is None while it flows."""

    place: str
    since_s: float
    until_s: float | None = None

    def concentration(self, detector: Detector, now_s: float) -> float:
        """What this leak adds at a detector, in the unit of the leaking gas."""
        place = PLACES[self.place]
        distance_m = math.hypot(detector.x - place.x, detector.y - place.y)
        arrived_s = self.since_s + distance_m / _SPREAD_M_S
        last_s = math.inf if self.until_s is None else self.until_s + distance_m / _SPREAD_M_S
        if now_s <= arrived_s:
            return 0.0
        height = place.strength * math.exp(-distance_m / _REACH_M)
        risen = 1 - math.exp(-(min(now_s, last_s) - arrived_s) / _RISE_S)
        return height * risen * math.exp(-max(now_s - last_s, 0.0) / _FALL_S)


# --- the plant ----------------------------------------------------------------------------------------------


class Plant:
    """What the sensors of the example site would measure."""

    def __init__(self, seed: int) -> None:
        self.seed = seed
        self.leaks: list[Leak] = []

    def leak(self, place: str, now_s: float) -> None:
        """Something begins to leak at one of PLACES."""
        if place not in PLACES:
            raise ValueError(f"place = {place!r}: allowed are {', '.join(PLACES)}")
        self.leaks.append(Leak(place, now_s))

    def seal(self, now_s: float) -> None:
        """Every leak is closed; what is in the air thins out."""
        self.leaks = [leak if leak.until_s is not None else replace(leak, until_s=now_s) for leak in self.leaks]

    def value(self, point: str, now_s: float) -> float:
        """The true value of a point of the example sheet, in the sheet's unit, as finely as its sensor resolves it."""
        asset, _, quantity = point.partition(".")
        if quantity == "level" and asset in TANKS:
            return round(self._level(asset, now_s), 3)
        if quantity == "temp" and asset in TANKS:
            return round(self._temperature(asset, now_s), 2)
        if quantity == "gas" and asset in DETECTORS:
            return round(self._gas(asset, now_s), 1)
        raise ValueError(f"point = {point!r}: the plant has TK101 to TK106 .level and .temp, GD01 to GD10 .gas")

    def direction(self, tank: str, now_s: float) -> int:
        """1 while a tank fills, -1 while it empties, 0 at rest."""
        return TANKS[tank].level_and_direction(now_s)[1]

    def _level(self, tank: str, now_s: float) -> float:
        phase = 2 * math.pi * (now_s / _RIPPLE_PERIOD_S + draw(self.seed, tank, "ripple"))
        return TANKS[tank].level_and_direction(now_s)[0] + _RIPPLE_M * math.sin(phase)

    def _temperature(self, tank: str, now_s: float) -> float:
        slow = 0.8 * wander(self.seed, f"{tank} weather", now_s / 120)
        return TANKS[tank].warmth + slow + 0.25 * wander(self.seed, f"{tank} stir", now_s / 8)

    def _gas(self, name: str, now_s: float) -> float:
        detector = DETECTORS[name]
        quiet = detector.mean + detector.swing * wander(self.seed, name, now_s / detector.turn_s)
        if detector.gas == OXYGEN:
            return max(quiet - _DISPLACED * self._leaked(detector, LEL, now_s), 0.0)
        # A detector stops at the end of its range; how it says so is the sensor's affair, not the plant's.
        return min(max(quiet + self._leaked(detector, detector.gas, now_s), 0.0), _GAS_RANGE[detector.gas])

    def _leaked(self, detector: Detector, gas: str, now_s: float) -> float:
        return sum(leak.concentration(detector, now_s) for leak in self.leaks if PLACES[leak.place].gas == gas)
