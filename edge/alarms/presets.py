"""The alarms that a site's points sheet asks for: presets by name, and what each makes of a point's limits. Policy.

Owns which limits a preset has, and the deadbands, off-delays, latches and priorities that come with them where the
sheet says no others. No limit, no exposure limit and no on-delay stands here: those are the technician's, so that what
raises an alarm is always a person's word. What does stand here can only keep an alarm up longer. Must never invent a
number that raises one later.

Sources: GB/T 50493-2019 as public abstracts give it (combustible at most 25 and 50 %LEL, toxic at most 100 and 200 % of
the exposure limit); latching and manual reset after what GB 16808 tests read; an off-delay rather than an on-delay
where a person must act each time that the limit is reached (Emerson, on ISA-18.2). Deadbands and off-delays are
OWN_CHOICE: no standard at hand gives them.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from edge.alarms.engine import Setting
from protocols.feeds.json_feed import whole
from protocols.model import (
    CALIBRATION,
    EXCEPTION,
    INHIBITED,
    NOT_A_NUMBER,
    OVER_RANGE,
    SENSOR_FAULT,
    SIMULATED_BY_DEVICE,
    UNDER_RANGE,
    WARM_UP,
    WIRE_BREAK,
    Point,
    Site,
    Voting,
)

LIMITS = ("LL", "L", "H", "HH", "CH")
RATES = ("ROR", "ROF")  # of rise and fall, a minute
TIMES = {"TTHH": "HH", "TTCH": "CH"}  # minutes left until this limit is reached
FAULTY = frozenset({SENSOR_FAULT, WIRE_BREAK, NOT_A_NUMBER, EXCEPTION})
CHECKED = frozenset({WARM_UP, CALIBRATION, INHIBITED, SIMULATED_BY_DEVICE})
STALE_POLLS = 3  # without a value: as many as make a unit dead on the board
VOTE_PRIORITY = 1
NEVER_SHELVED = ("HH", "LL")  # of a gas detector, beside its over-range; low-low is a lack of oxygen
MOVING_DEADBAND_SHARE = 0.1  # of its setpoint; of what is no limit
_PRIORITIES = {"HH": 1, "LL": 1, "H": 2, "L": 2, "OVER": 1, "UNDER": 3, "FAULT": 2, "STALE": 2, "CHECK": 3}
_PRIORITIES |= {"TTCH": 1, "TTHH": 2, "ROR": 2, "ROF": 2, "DEV": 3, "FROZEN": 3}


@dataclass(frozen=True, slots=True)
class Preset:
    """`limits`: those that make sense; a gas detector's low alarm is a high one in the wrong column. `trends`: of
    RATES and TIMES likewise.

    `most`: what a limit may be at most, where its unit is `unit`; `of_oel`: the same as a share of the exposure limit.
    `deadband_share`: of the range. `latches`: an alarm of a limit stands until it is reset; over-range always does.
    """

    limits: tuple[str, ...]
    deadband_share: float
    off_ms: int
    latches: bool = False
    unit: str = ""
    most: tuple[tuple[str, float], ...] = ()
    of_oel: tuple[tuple[str, float], ...] = ()
    trends: tuple[str, ...] = ()

    def deadband(self, range_low: float | None, range_high: float | None) -> float:
        """In the unit of the range; 0 where there is none."""
        return 0.0 if range_low is None or range_high is None else self.deadband_share * (range_high - range_low)


SWITCH = "switch"  # a contact, or a status bit of a device: in alarm at H = 1, or at L = 0 where that is the safe side
PRESETS = {
    "tank-level": Preset(LIMITS, 0.005, 10_000, trends=(*RATES, *TIMES)),
    "pressure": Preset(LIMITS[:4], 0.02, 10_000, trends=(*RATES, "TTHH")),
    "temperature": Preset(LIMITS[:4], 0.01, 10_000, trends=(*RATES, "TTHH")),
    "combustible": Preset(("H", "HH"), 0.02, 30_000, latches=True, unit="%{LEL}", most=(("H", 25.0), ("HH", 50.0))),
    "toxic": Preset(("H", "HH"), 0.02, 30_000, latches=True, of_oel=(("H", 1.0), ("HH", 2.0))),
    "oxygen": Preset(LIMITS[:4], 0.01, 30_000, latches=True, unit="%{vol}"),
    SWITCH: Preset(("L", "H"), 0.0, 10_000, unit="1"),  # there is nothing between 0 and 1
}


SHEET = "sheet"
OWN_CHOICE = "own_choice"


@dataclass(frozen=True, slots=True)
class Damping:
    """How the alarms of a point are held back, and on whose word: `..._from` is SHEET or OWN_CHOICE.

    `deadband`: of its limits, in its unit. `re_alarm_s`: 0 where they are not announced anew.
    """

    preset: str
    on_delay_s: float
    off_delay_s: float
    off_delay_from: str
    deadband: float
    deadband_from: str
    unit_text: str
    latches: bool
    re_alarm_s: float


def damping(point: Point) -> Damping:
    """What the sheet says of it, else its preset. KeyError for a point without one."""
    preset = PRESETS[point.preset]
    off_delay_s, deadband = point.off_delay_s, point.alarm_deadband
    return Damping(
        preset=point.preset,
        on_delay_s=point.on_delay_s,
        off_delay_s=preset.off_ms / 1000 if off_delay_s is None else off_delay_s,
        off_delay_from=OWN_CHOICE if off_delay_s is None else SHEET,
        deadband=preset.deadband(point.range_low, point.range_high) if deadband is None else deadband,
        deadband_from=OWN_CHOICE if deadband is None else SHEET,
        unit_text=point.unit_text,
        latches=preset.latches,
        re_alarm_s=point.re_alarm_s,
    )


def alarms_of(site: Site) -> tuple[Setting, ...]:
    """Every alarm of a site's points, in the order of its sheet, then what is voted on."""
    return (
        *(setting for point in site.points for setting in _of_point(point)),
        *(_of_voting(voting, site) for voting in site.votings),
    )


def birth_row(setting: Setting) -> dict[str, Any]:
    """What a birth tells of an alarm; JSON's own types only."""
    row: dict[str, Any] = {
        "alarm": setting.alarm,
        "kind": setting.kind,
        "point": setting.point,
        "setpoint": whole(setting.setpoint),
        "deadband": whole(round(setting.deadband, 9)),
        "on_delay_s": whole(setting.on_ms / 1000),
        "off_delay_s": whole(setting.off_ms / 1000),
        "latch": setting.latch,
        "priority": setting.priority,
        "action": setting.action,
    }
    if setting.re_alarm_ms is not None:
        row["re_alarm_s"] = whole(setting.re_alarm_ms / 1000)
    if setting.consequence:
        row["consequence"] = setting.consequence
    if setting.minutes_to_act is not None:
        row["minutes_to_act"] = whole(setting.minutes_to_act)
    if setting.window_ms:
        row["window_s"] = whole(setting.window_ms / 1000)
    if setting.kind in TIMES:
        row["level"] = whole(setting.level)
    if setting.other:
        row["other"] = setting.other
    if setting.members:
        row |= {"members": list(setting.members), "needed": setting.needed, "bad_counts": setting.bad_counts}
    return row


def _of_voting(voting: Voting, site: Site) -> Setting:
    """Its area, what to do, why and when again are those of its first point."""
    first = next(point for point in site.points if point.point == voting.points[0])
    return Setting(
        f"vote.{voting.name}:VOTE",
        "VOTE",
        first.point,
        first.area,
        VOTE_PRIORITY,
        first.action,
        can_be_shelved=False,
        re_alarm_ms=_re_alarm_ms(first),
        consequence=first.consequence,
        minutes_to_act=first.minutes_to_act,
        members=tuple(f"{point}:H" for point in voting.points),
        needed=voting.needed,
        bad_counts=voting.bad_counts,
    )


def _of_point(point: Point) -> Iterable[Setting]:
    """Its limits, and what is wrong with its detector; nothing where the sheet names no preset."""
    if not point.preset:
        return
    preset, damped = PRESETS[point.preset], damping(point)
    common = _common(point, damped)
    for kind, limit in point.limits:
        if kind != "CH":  # not a limit of its own, but where the tank overflows
            yield _setting(
                point,
                kind,
                setpoint=limit,
                deadband=damped.deadband,
                on_ms=round(point.on_delay_s * 1000),
                latch=preset.latches,
                can_be_shelved=not (preset.latches and kind in NEVER_SHELVED),
                **common,
            )
    yield from _of_movement(point, common)
    if point.type != "bool":
        yield _setting(
            point,
            "OVER",
            statuses=frozenset({OVER_RANGE}),
            latch=True,  # what is there is not known
            can_be_shelved=not preset.latches,
        )
        yield _setting(point, "UNDER", statuses=frozenset({UNDER_RANGE}))
    yield _setting(point, "FAULT", statuses=FAULTY)
    yield _setting(point, "CHECK", statuses=CHECKED)
    yield _setting(point, "STALE", statuses=FAULTY | CHECKED, on_ms=STALE_POLLS * point.period_ms)


def _common(point: Point, damped: Damping) -> dict[str, Any]:
    """What limits and movements have in common: when they are over, when they are announced anew, and why to act."""
    return {
        "off_ms": round(damped.off_delay_s * 1000),
        "re_alarm_ms": _re_alarm_ms(point),
        "consequence": point.consequence,
        "minutes_to_act": point.minutes_to_act,
    }


def _of_movement(point: Point, common: dict[str, Any]) -> Iterable[Setting]:
    """How fast it may rise and fall, how soon it is full, when it is stuck, and how far from another sensor."""
    limits = dict(point.limits)
    window_ms = round(point.trend_s * 1000)
    for kind, setpoint in point.trends:
        deadband = MOVING_DEADBAND_SHARE * setpoint
        level = limits[TIMES[kind]] if kind in TIMES else 0.0
        yield _setting(point, kind, setpoint=setpoint, deadband=deadband, level=level, window_ms=window_ms, **common)
    if point.compare_with:
        yield _setting(
            point,
            "DEV",
            setpoint=point.deviation,
            deadband=MOVING_DEADBAND_SHARE * point.deviation,
            on_ms=round(point.on_delay_s * 1000),
            other=point.compare_with,
            **common,
        )
    if point.frozen_s:
        yield _setting(point, "FROZEN", window_ms=round(point.frozen_s * 1000), **(common | {"off_ms": 0}))


def _re_alarm_ms(point: Point) -> int | None:
    """Of its limits and movements, not of what is wrong with its detector: who waits for a spare part knows it."""
    return round(point.re_alarm_s * 1000) or None


def _setting(point: Point, kind: str, **more: Any) -> Setting:
    return Setting(f"{point.point}:{kind}", kind, point.point, point.area, _PRIORITIES[kind], point.action, **more)
