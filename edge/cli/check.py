"""`tankgate check`: the site's files examined, and what the site will be able to do. Shell.

Must never open a port: a site is checked at a desk, before anything is wired.
"""

import sys
from collections.abc import Iterable, Sequence
from dataclasses import asdict
from gettext import gettext as _
from gettext import ngettext
from itertools import chain
from math import ceil
from pathlib import Path
from typing import Any

import click
from rich.console import Console

from edge.alarms.engine import Setting
from edge.alarms.presets import (
    MOVING_DEADBAND_SHARE,
    OWN_CHOICE,
    RATES,
    SHEET,
    TIMES,
    Damping,
    alarms_of,
    birth_row,
    damping,
)
from edge.alarms.words import limit_text
from edge.cli import USAGE
from edge.cli.notice import tell, tell_json
from edge.cli.site import foresee, refuse, remind
from edge.cli.table import Rows, table
from edge.config import examine
from edge.forecast import BoardForecast, BusForecast, Forecast, PointForecast, Span, judge
from protocols.model import Site
from protocols.profile import Profile


def _span(span: Span, form: str) -> str:
    """Both ends, or one where they read the same."""
    at_once, slowest = (f"{end:{form}}" for end in span)
    return at_once if at_once == slowest else f"{at_once}-{slowest}"


def _seconds(span_ms: Span | None, form: str, step_ms: int) -> str:
    """Whole steps, rounded up: nothing is promised sooner than computed."""
    if span_ms is None:
        return "–"
    at_once_s, slowest_s = (ceil(round(end_ms / step_ms, 6)) * step_ms / 1000 for end_ms in span_ms)
    return _("{n} s").format(n=_span(Span(at_once_s, slowest_s), form))


def _period(asked_ms: int, reachable_ms: Span) -> str:
    return "{} → {}".format(_("{n} s").format(n=f"{asked_ms / 1000:g}"), _seconds(reachable_ms, "g", 10))


def _bus_rows(bus: BusForecast) -> Iterable[list[object]]:
    """A row for each of its periods; what is the bus's own stands in the first one."""
    load, longest = f"{_span(bus.load_pct, '.0f')} %", f"{_span(bus.longest_ms, '.0f')} ms"
    own: list[object] = [bus.bus, bus.board, bus.line, bus.units, load, longest]
    for period in bus.periods:
        worst = (_seconds(span, ".1f", 100) for span in (period.worst.alarm, period.worst.horn))
        yield [*own, _period(period.asked_ms, period.reachable_ms), *worst]
        own = [""] * len(own)
    if not bus.periods:  # nothing but outputs
        yield [*own, "–", "–", "–"]


def _board_row(board: BoardForecast) -> list[object]:
    minutes, seconds = divmod(int(board.ring_s), 60)
    bridges = _("{minutes} min {seconds} s").format(minutes=minutes, seconds=seconds)
    return [board.board, bridges, f"{board.link_pct:.1f} %"]


def _point_row(point: PointForecast) -> list[object]:
    period = _period(point.asked_ms, point.reachable_ms)
    worst = (_seconds(span, ".1f", 100) for span in point.worst)
    return [point.point, point.bus, point.unit_id, period, *worst]


def _tables(told: Forecast, with_points: bool) -> Iterable[Rows]:
    period, worst = _("period:\nasked → reachable"), [_("worst: change\n→ alarm"), _("→ horn")]
    headings = [_("bus"), _("board"), _("line"), _("units"), _("load"), _("longest poll"), period, *worst]
    yield table("", headings, chain.from_iterable(map(_bus_rows, told.buses)))
    yield table("", [_("board"), _("without the gateway"), _("link load")], map(_board_row, told.boards))
    if with_points:
        headings = [_("point"), _("bus"), _("unit_id"), period, *worst, _("→ published")]
        yield table("", headings, map(_point_row, told.points))


def _damped(site: Site) -> dict[Damping, list[str]]:
    """The points whose alarms are held back alike."""
    alike: dict[Damping, list[str]] = {}
    for point in site.points:
        if point.preset:
            alike.setdefault(damping(point), []).append(point.point)
    return alike


def _damping_row(damped: Damping, points: Sequence[str], with_points: bool) -> list[object]:
    """Delays and deadband, each with whose word it is."""
    deadband = _by(damped.deadband_from, f"{damped.deadband:g} {damped.unit_text}")
    first, others = points[0], len(points) - 1
    some = ngettext("{first} and {n} other", "{first} and {n} others", others).format(first=first, n=others)
    return [
        damped.preset,
        _by(SHEET, _long(damped.on_delay_s)) if damped.on_delay_s else _("none"),
        _by(damped.off_delay_from, _long(damped.off_delay_s)),
        deadband if damped.deadband or damped.deadband_from == SHEET else _("none"),
        _("yes") if damped.latches else _("no"),
        _long(damped.re_alarm_s) if damped.re_alarm_s else _("none"),
        _(", ").join(points) if with_points else some if others else first,
    ]


def _by(source: str, what: str) -> str:
    text = _("{what} (own choice)") if source == OWN_CHOICE else _("{what} (sheet)")
    return text.format(what=what)


def _long(span_s: float) -> str:
    return _("{n} s").format(n=f"{span_s:g}")


def _reasons(site: Site) -> Iterable[list[object]]:
    """A row for each point of which the sheet says what happens otherwise, or how soon."""
    for point in site.points:
        if point.consequence or point.minutes_to_act is not None:
            minutes = None if point.minutes_to_act is None else _("{n} min").format(n=f"{point.minutes_to_act:g}")
            yield [point.point, minutes, point.consequence or None, point.action or None]


def _movements(site: Site) -> Iterable[list[object]]:
    """A row for each alarm that is neither a limit nor about its own detector."""
    units = {point.point: point.unit_text for point in site.points}
    for setting in alarms_of(site):
        if setting.kind in (*RATES, *TIMES, "DEV", "FROZEN"):
            over = _long(setting.window_ms / 1000) if setting.window_ms else "–"
            yield [setting.alarm, _at(setting, units[setting.point]), over, setting.priority]


def _at(setting: Setting, unit: str) -> str:
    """Where it is raised, in words."""
    match setting.kind:
        case "DEV":
            text = _("{n} {unit} apart from {other}")
            return text.format(n=f"{setting.setpoint:g}", unit=unit, other=setting.other)
        case "FROZEN":
            return _("the same value")
        case "ROR" | "ROF":
            return limit_text(setting.kind, setting.setpoint, unit) or "–"
    return _("{n} min left to {level} {unit}").format(n=f"{setting.setpoint:g}", level=f"{setting.level:g}", unit=unit)


def _sentences(site: Site, told: Forecast) -> Iterable[str]:
    yield _("From – to: units that answer at once – units that take all the time that their profiles give them.")
    yield _("Worst: one poll fails; on-delays are in it.")
    if not any(output.kind != "fault" for output in site.outputs):
        yield _("No horn is configured ([outputs.horn] in gateway.toml): alarms are seen on the screen alone.")
    if _damped(site):
        text = _(
            "Own choice: tankgate's, for no standard gives them. The sheet's columns off_delay_s and alarm_deadband "
            "say otherwise. A movement's deadband is {share:.0f} % of its limit, own choice as well."
        )
        yield text.format(share=100 * MOVING_DEADBAND_SHARE)
    within = _("{bus} (while its units begin to answer within {patience:.0f} ms on average)")
    roomy = [
        bus.bus if bus.holds else within.format(bus=bus.bus, patience=bus.patience_ms)
        for bus in told.buses
        if bus.has_room_for_a_probe and bus.patience_ms > 0
    ]
    if roomy:
        text = _("A unit that does not answer is probed in idle time, the others keep their periods: {buses}.")
        yield text.format(buses=_(", ").join(roomy))
    text = _("Disk: about {size:.1f} GB in {days} days. Network: about {low:.0f} - {high:.0f} MB a day.")
    low, high = told.day_bytes
    days = site.store.readings_days
    yield text.format(size=told.stored_bytes / 1e9, days=days, low=low / 1e6, high=high / 1e6)


def _unproven(site: Site) -> list[Profile]:
    return [profile for _name, profile in sorted(site.profiles.items()) if not profile.proven]


def _evidence(profile: Profile) -> str:
    words = {"manual": _("manual"), "code": _("code"), "bench": _("bench"), "field": _("in the field")}
    return words[profile.evidence]


@click.command(help=_("Check a site's files, and say what it will be able to do. No hardware needed."))
@click.argument("gateway_toml", type=click.Path(path_type=Path))
@click.option("--points", "with_points", is_flag=True, help=_("A row for each point."))
@click.option("--json", "as_json", is_flag=True, help=_("One JSON object instead of tables."))
def command(gateway_toml: Path, with_points: bool, as_json: bool) -> None:
    examined = examine(gateway_toml)
    site = examined.site
    if site is None:
        if not as_json:
            remind(examined.warnings)
        refuse(examined.problems, gateway_toml.parent, as_json=as_json)
    told = foresee(site)
    problems, reminders = map(examined.placed, judge(site, told, gateway_toml.name, examined.sheet))
    warnings = [*examined.warnings, *reminders]
    if as_json:
        answer: dict[str, Any] = {
            "gateway": site.gateway,
            "config_hash": site.config_hash,
            "forecast": asdict(told),
            "alarms": [birth_row(setting) for setting in alarms_of(site)],
            "delays": [asdict(damped) | {"points": points} for damped, points in _damped(site).items()],
            "unproven_profiles": [profile.name for profile in _unproven(site)],
            "problems": [asdict(problem) for problem in problems],
            "warnings": [asdict(warning) for warning in warnings],
        }
        tell_json(answer)
        sys.exit(USAGE if problems else 0)
    console = Console(highlight=False)
    limits = sum(len(point.limits) for point in site.points)
    verdict = ngettext("In order, {n} reminder.", "In order, {n} reminders.", len(warnings)).format(n=len(warnings))
    text = _("{toml}, {sheet}: {points}, {boards}, {buses}, {limits}. {verdict}").format(
        toml=gateway_toml.name,
        sheet=examined.sheet,
        points=ngettext("{n} point", "{n} points", len(site.points)).format(n=len(site.points)),
        boards=ngettext("{n} board", "{n} boards", len(site.boards)).format(n=len(site.boards)),
        buses=ngettext("{n} bus", "{n} buses", len(site.buses)).format(n=len(site.buses)),
        limits=ngettext("{n} limit", "{n} limits", limits).format(n=limits),
        verdict=_("Refused.") if problems else verdict,
    )
    console.print(text, markup=False, soft_wrap=True)
    for each in _tables(told, with_points):
        console.print()
        console.print(each)
    if damped := _damped(site):
        headings = [_("preset"), _("on-delay"), _("off-delay"), _("deadband"), _("latches"), _("re-alarm"), _("points")]
        console.print()
        console.print(table("", headings, [_damping_row(*each, with_points) for each in damped.items()]))
    if reasons := list(_reasons(site)):
        console.print()
        console.print(table("", [_("point"), _("time to act"), _("if nobody acts"), _("what to do")], reasons))
    if movements := list(_movements(site)):
        console.print()
        console.print(table("", [_("alarm"), _("raised at"), _("judged over"), _("priority")], movements))
    console.print()
    tell(*_sentences(site, told))
    if _unproven(site):
        console.print()
        console.print(_("Unproven profiles: no source prints an example to check them by."), soft_wrap=True)
        rows = ([profile.name, _evidence(profile), profile.source] for profile in _unproven(site))
        console.print(table("", [_("profile"), _("evidence"), _("source")], rows))
    remind(warnings)
    if problems:
        refuse(problems, gateway_toml.parent, as_json=False)
