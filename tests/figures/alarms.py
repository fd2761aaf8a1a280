"""The alarm engine by itself: how fast it judges, how like the standard it is, how well it foresees. Shell.

alarm_evaluations: readings a second of CPU, 5,000 points with four limits each, values all over and across the limits.
alarm_lifecycle_steps: random events to one alarm, each compared to ISA-18.2's drawing. overflow_eta_error: a tank that
fills, read with 2 mm of noise: the worst relative error of the minutes left, with ten of them left; spoilt by one false
alarm in 24 hours of filling and resting as tanks do. Its alarm is the one that the example's first tank gets.
"""

import random
import time
from dataclasses import replace

from edge.alarms.conditions import TimeTo
from edge.alarms.engine import Engine, Setting
from edge.alarms.lifecycle import EVENTS
from edge.alarms.presets import alarms_of
from edge.config import load_site
from protocols.model import GOOD
from tests.edge.test_lifecycle import Beside
from tests.edge.test_presets import EXAMPLE
from tests.figures.figure import Measured

_READINGS = 400_000
_POINTS = 5000
_STEPS = 100_000
_LEFT_MINUTES = 10.0
_WINDOW_S = 600.0
_NOISE_M = 0.002


def evaluations() -> Measured:
    """alarm_evaluations."""
    chance = random.Random(6)
    names = [f"P{i}.x" for i in range(_POINTS)]
    limits = (("LL", 1.0), ("L", 2.0), ("H", 10.0), ("HH", 11.0))
    settings = [
        Setting(f"{name}:{kind}", kind, name, "area", 1, "", setpoint, 0.1, 5000, 5000)
        for name in names
        for kind, setpoint in limits
    ]
    engine = Engine(settings, dict.fromkeys(names, "board"))
    readings = [(names[i % _POINTS], i // 5, chance.uniform(0.5, 11.5)) for i in range(_READINGS)]
    begun_s = time.process_time()
    changes = sum(len(engine.reading(name, t_ms, value, GOOD)) for name, t_ms, value in readings)
    spent_s = time.process_time() - begun_s
    return Measured(round(_READINGS / spent_s), f"{changes} transitions of {_READINGS} readings")


def lifecycle_steps() -> Measured:
    """alarm_lifecycle_steps."""
    chance = random.Random(18)
    alarm = Beside()
    for step in range(_STEPS):
        sees = chance.choice(("this one", "another"))
        try:
            alarm.happens(chance.choice(EVENTS), chance.random() < 0.5, sees)
        except AssertionError as difference:
            return Measured(step, f"differs after {step} steps: {difference}")
    return Measured(_STEPS, "no difference")


def overflow_eta() -> Measured:
    """overflow_eta_error."""
    setting = _minutes_to_high_high()
    errors = {
        rise_mm: max(abs(_minutes_left(setting, rise_mm, seed) / _LEFT_MINUTES - 1) for seed in range(20))
        for rise_mm in (2, 5, 20, 60)
    }
    false_alarms = _false_alarms(setting)
    each = ", ".join(f"{error:.3f} at {rise_mm} mm a minute" for rise_mm, error in errors.items())
    beside = f"the worst of 20 fillings each: {each}; {false_alarms} false alarms in 24 hours of normal filling"
    return Measured(round(max(errors.values()), 4), beside, spoilt=false_alarms > 0)


def _minutes_to_high_high() -> Setting:
    """What the product makes of the example's first tank, where minutes left and a window are filled in as well."""
    site = load_site(EXAMPLE / "gateway.toml")
    tank = replace(site.points[0], trends=(("TTHH", _LEFT_MINUTES),), trend_s=_WINDOW_S)
    return next(each for each in alarms_of(replace(site, points=(tank,))) if each.kind == "TTHH")


def _minutes_left(setting: Setting, rise_mm: float, seed: int) -> float:
    """What is foreseen of a steady filling when ten minutes are left in truth."""
    chance = random.Random(seed)
    condition = TimeTo(setting.level, _LEFT_MINUTES, setting.deadband, setting.window_ms)
    for t_ms in range(0, setting.window_ms + 60_000, 2000):
        left_minutes = _LEFT_MINUTES + (setting.window_ms + 58_000 - t_ms) / 60_000
        level_m = setting.level - left_minutes * rise_mm / 1000
        condition.truth(t_ms, level_m + chance.gauss(0, _NOISE_M), GOOD, False)
    assert condition.minutes is not None
    return condition.minutes


def _false_alarms(setting: Setting) -> int:
    """A day of a tank that is filled to half a metre under the level, rests, is emptied, and again."""
    chance = random.Random(24)
    engine = Engine([setting], {setting.point: "board"})
    top_m, bottom_m = setting.level - 0.5, 2.0
    level_m, rise_m, rest_until_ms, raised = bottom_m, 0.02, 0, 0
    for t_ms in range(0, 24 * 3_600_000, 2000):
        if t_ms >= rest_until_ms:
            level_m += rise_m * 2 / 60
            if not bottom_m <= level_m <= top_m:
                level_m = min(max(level_m, bottom_m), top_m)
                rise_m, rest_until_ms = -rise_m, t_ms + 1_800_000
        for change in engine.reading(setting.point, t_ms, level_m + chance.gauss(0, _NOISE_M), GOOD):
            raised += change.transition == "raise"
    return raised
