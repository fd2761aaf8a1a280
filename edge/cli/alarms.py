"""`tankgate alarms`: what stands, what a person does about it, and what happened. Shell.

What stands and what is done goes through the daemon's local door; `history` reads the journal in the store. Must never
do anything without somebody's role or badge, nor show alarms without saying that they are auxiliary.
"""

import json
import sys
import time
from bisect import bisect_right
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from fnmatch import fnmatchcase
from gettext import gettext as _
from gettext import ngettext
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import click
from rich.console import Console, ConsoleOptions, Group, RenderableType, RenderResult
from rich.live import Live
from rich.text import Text

from edge.alarms import lifecycle, requests
from edge.alarms.judge import DRILL
from edge.alarms.presets import alarms_of
from edge.alarms.statistics import STALE_MS, Day, Span, by_day, standing, timed
from edge.alarms.words import (
    action_word,
    limit_text,
    refusal,
    state_text,
    state_word,
    transition_word,
    vote_text,
    why_text,
)
from edge.cli import FOUND_A_FAULT, USAGE
from edge.cli.moment import moment_ms, moment_text, span_ms
from edge.cli.notice import notice, tell, tell_json
from edge.cli.site import ask_or_exit, ask_or_why, load_running_or_exit
from edge.cli.table import Rows, table, wrapped
from edge.problem import did_you_mean
from edge.store import FILE, StoreFault, reading
from protocols.model import Point, Site, has_value, mode_text, status_text

_LIVE_S = 1.0

_gateway_toml = click.argument("gateway_toml", type=click.Path(path_type=Path))
_as_json = click.option("--json", "as_json", is_flag=True, help=_("One JSON object instead of text."))
_by = click.option("--by", required=True, help=_("Role or badge number of whoever does it; no name."))
_until = click.option("--until", "until_text", metavar=_("TIME"), help=_("Its end, like 2026-11-23T08:00."))
_for = click.option("--for", "for_text", metavar=_("SPAN"), help=_("How long, like 30m, 8h or 2d."))


@click.group(help=_("Alarms: what stands, acknowledge, shelve, bypass, history. Auxiliary monitoring."))
def command() -> None:
    pass


# --- what stands --------------------------------------------------------------------------------------------


def standing_table(rows: Sequence[dict[str, Any]], site: Site) -> Rows:
    """Alarms that are not NORM, the most urgent first."""
    points = {point.point: point for point in site.points}
    zone = ZoneInfo(site.timezone)
    headings = [
        *(_("alarm"), _("priority"), _("value now"), _("state"), _("area"), _("raised at"), _("since")),
        *(_("times"), _("name"), _("what to do")),
    ]
    return table(_("alarms"), headings, [_standing_row(each, points.get(each["point"]), zone) for each in rows])


def _standing_row(alarm: dict[str, Any], point: Point | None, zone: ZoneInfo) -> list[object]:
    is_vote = alarm["rests_on"] is not None
    state = state_text(alarm) + (_(", first-out") if alarm["first_out"] else "")
    state += _marks(alarm)
    if alarm["shelved_until_ms"] is not None:
        state += _(", until {moment}").format(moment=_moment(alarm["shelved_until_ms"], zone, "minutes"))
    value = None if is_vote else value_text(point, alarm["value"], alarm["status"])
    limit = limit_text(alarm["kind"], alarm["setpoint"], point.unit_text if point else "")
    return [
        alarm["alarm"],
        alarm["priority"],
        value or (status_text(alarm["status"]) if alarm["status"] and not is_vote else None),
        Text(state, style=_style(alarm)),
        alarm["area"],
        vote_text(alarm["needed"], alarm["rests_on"]) if is_vote else limit,
        _moment(alarm["since_ms"], zone),
        alarm["occurrence"],
        point and point.name,
        "\n".join(filter(None, (alarm["action"], why_text(alarm["minutes_to_act"], alarm["consequence"])))),
    ]


def _moment(t_ms: int | None, zone: ZoneInfo, timespec: str = "seconds") -> str | None:
    """With a blank, at which a narrow column may break it."""
    moment = moment_text(t_ms, zone, timespec)
    return moment and moment.replace("T", " ")


def value_text(point: Point | None, value: float | None, status: int | None) -> str | None:
    """A value with its unit; None where there is none, or where its status says that it is none."""
    if point is None or value is None or status is None or not has_value(status):
        return None
    return f"{value:.{point.decimals}f} {point.unit_text}"


def _marks(alarm: dict[str, Any]) -> str:
    return (_(" (found late)") if alarm["judged_late"] else "") + (_(" (drill)") if alarm["mode"] == DRILL else "")


def _style(alarm: dict[str, Any]) -> str:
    if alarm["state"] in ("SHLVD", "OOSRV", "DSUPR"):
        return "dim"
    return "red" if alarm["active"] else "yellow"


def _shown(said: dict[str, Any], site: Site) -> RenderableType:
    parts: list[RenderableType] = []
    if said["is_drill"]:
        parts.append(_drill())
    if said["alarms"]:
        parts.append(standing_table(said["alarms"], site))
    else:
        parts.append(Text(_("No alarm stands.")))
    if said["bypasses"]:
        parts.append(_bypass_table(said["bypasses"], site))
    return Group(*parts)


@command.command(
    name="list", help=_("Alarms that stand, and bypasses in force. Exit code 1 while one is unacknowledged.")
)
@_gateway_toml
@_as_json
def list_(gateway_toml: Path, as_json: bool) -> None:
    site = load_running_or_exit(gateway_toml, as_json=as_json)
    said = ask_or_exit(site, {"do": "alarms"})
    if as_json:
        tell_json(said)
    else:
        tell(_shown(said, site))
    sys.exit(FOUND_A_FAULT if any(map(_is_new, said["alarms"])) else 0)


@command.command(help=_("The same, kept up to date until Ctrl-C."))
@_gateway_toml
def live(gateway_toml: Path) -> None:
    site = load_running_or_exit(gateway_toml, as_json=False)
    with Live(auto_refresh=False) as screen:
        try:
            while True:
                said = ask_or_why(site, {"do": "alarms"}, _LIVE_S)
                screen.update(Screen(said, site), refresh=True)
                time.sleep(_LIVE_S)
        except KeyboardInterrupt:
            return


@dataclass(frozen=True, slots=True)
class Screen:
    """What a terminal has room for: the notice, a drill and how many alarms stand, then the most urgent of them.

    `said`: the daemon's answer, or why there is none.
    """

    said: dict[str, Any] | str
    site: Site

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        yield notice(options.max_width)
        if isinstance(self.said, str):
            yield wrapped(Text(self.said, "red"), options.max_width)
            return
        head = Group(*_head(self.said))
        yield head

        def height(count: int) -> int:
            shown = Group(notice(options.max_width), head, *self._most_urgent(count))
            return len(console.render_lines(shown, options, pad=False))

        most = min(len(self.said["alarms"]), options.size.height)
        count = bisect_right(range(1, most + 1), options.size.height, key=height)
        yield from self._most_urgent(count)

    def _most_urgent(self, count: int) -> Iterable[RenderableType]:
        assert isinstance(self.said, dict)
        rows = self.said["alarms"]
        if count:
            yield standing_table(rows[:count], self.site)
        if left := len(rows) - count:
            text = ngettext("{n} more: `tankgate alarms list`", "{n} more: `tankgate alarms list`", left)
            yield Text(text.format(n=left), "red")


def _head(said: dict[str, Any]) -> Iterable[Text]:
    """Whether it is a drill, and how much there is."""
    if said["is_drill"]:
        yield _drill()
    count, new = len(said["alarms"]), sum(map(_is_new, said["alarms"]))
    text = ngettext("{n} alarm stands, {new} to be acknowledged.", "{n} alarms stand, {new} to be acknowledged.", count)
    yield Text(text.format(n=count, new=new) if count else _("No alarm stands."))
    if in_force := len(said["bypasses"]):
        text = ngettext("{n} bypass or drill is in force.", "{n} bypasses or drills are in force.", in_force)
        yield Text(text.format(n=in_force), "yellow")


def _drill() -> Text:
    return Text(_("DRILL: what begins now is played and marked so; what stood before is real."), "reverse")


def _is_new(alarm: dict[str, Any]) -> bool:
    return alarm["state"] in ("UNACK", "RTNUN")


# --- what a person does about one ---------------------------------------------------------------------------


def _ask(site: Site, request: dict[str, Any], about: str, as_json: bool) -> dict[str, Any]:
    """The daemon's answer; where it refuses, the sentence, and the program ends."""
    answer = ask_or_exit(site, request)
    if as_json:
        tell_json(answer)
    if "refused" in answer:
        if not as_json:
            of = {"reason": "TEXT"} if request.get("event") == lifecycle.NOTE else {}
            what = of.get(answer["field"], f"--{answer['field']}") if "field" in answer else about
            why = refusal(answer["refused"]) + _meant(site, request, answer["refused"])
            click.echo(_("{what}: {why}").format(what=what, why=why), err=True)
        sys.exit(FOUND_A_FAULT)
    if "error" in answer:
        click.echo(answer["error"], err=True)
        sys.exit(USAGE)
    return answer


def _meant(site: Site, request: dict[str, Any], refused: str) -> str:
    """The name that was probably meant, where the one that was written is none."""
    if refused == requests.UNKNOWN_ALARM:
        return did_you_mean(request["alarm"], [setting.alarm for setting in alarms_of(site)])
    if refused == requests.UNKNOWN_PLACE:
        return did_you_mean(request["what"], requests.places(site.points)[request["kind"]])
    return ""


def _do(gateway_toml: Path, as_json: bool, alarm: str, event: str, **more: Any) -> None:
    site = load_running_or_exit(gateway_toml, as_json=as_json)
    answer = _ask(site, {"do": "alarm", "alarm": alarm, "event": event, **more}, alarm, as_json)
    if not as_json:
        text = _("{alarm}, occurrence {occurrence}: {done}; it is now: {state}")
        done, state = transition_word(event), state_word(answer["state"])
        tell(text.format(alarm=alarm, occurrence=answer["occurrence"], done=done, state=state))


@command.command(help=_("Acknowledge one occurrence of an alarm: the one that `list` shows."))
@_gateway_toml
@click.argument("alarm")
@click.option("--occurrence", type=click.IntRange(1), required=True, help=_("Which one was seen."))
@_by
@click.option("--reason", help=_("What was found, for the journal."))
@_as_json
def ack(gateway_toml: Path, alarm: str, occurrence: int, by: str, reason: str | None, as_json: bool) -> None:
    _do(gateway_toml, as_json, alarm, lifecycle.ACK, occurrence=occurrence, by=by, reason=reason)


@command.command(help=_("Reset an alarm that latches, once its cause is gone and it is acknowledged."))
@_gateway_toml
@click.argument("alarm")
@_by
@click.option("--reason", help=_("What was found, for the journal."))
@_as_json
def reset(gateway_toml: Path, alarm: str, by: str, reason: str | None, as_json: bool) -> None:
    _do(gateway_toml, as_json, alarm, lifecycle.RESET, by=by, reason=reason)


@command.command(
    help=_(
        "Put an alarm aside for a while, at most 12 hours. Never a gas detector's high-high or over-range, a lack of "
        "oxygen, nor a vote."
    )
)
@_gateway_toml
@click.argument("alarm")
@_for
@_until
@_by
@click.option("--reason", required=True, help=_("Why, for the journal."))
@_as_json
def shelve(
    gateway_toml: Path,
    alarm: str,
    for_text: str | None,
    until_text: str | None,
    by: str,
    reason: str,
    as_json: bool,
) -> None:
    until_ms = _end_ms(gateway_toml, for_text, until_text)
    _do(gateway_toml, as_json, alarm, lifecycle.SHELVE, until_ms=until_ms, by=by, reason=reason)


@command.command(help=_("End a shelf before its time."))
@_gateway_toml
@click.argument("alarm")
@_by
@_as_json
def unshelve(gateway_toml: Path, alarm: str, by: str, as_json: bool) -> None:
    _do(gateway_toml, as_json, alarm, lifecycle.UNSHELVE, by=by)


@command.command(help=_("Write something about an alarm into the journal."))
@_gateway_toml
@click.argument("alarm")
@click.argument("text")
@_by
@_as_json
def note(gateway_toml: Path, alarm: str, text: str, by: str, as_json: bool) -> None:
    _do(gateway_toml, as_json, alarm, lifecycle.NOTE, by=by, reason=text)


def _end_ms(gateway_toml: Path, for_text: str | None, until_text: str | None) -> int:
    if (for_text is None) == (until_text is None):
        raise click.UsageError(_("its end is needed, once: --for or --until"))
    if for_text is not None:
        return round(time.time() * 1000) + span_ms("--for", for_text)
    site = load_running_or_exit(gateway_toml, as_json=False)
    end_ms = moment_ms("--until", until_text, ZoneInfo(site.timezone), True)
    assert end_ms is not None
    return end_ms


# --- maintenance and drills ---------------------------------------------------------------------------------


@command.command(
    help=_(
        "Work on a point, a tank or a unit: its readings go out as \"in maintenance\" without a value, its alarms are "
        "out of service, until its end."
    )
)
@_gateway_toml
@click.option("--point", help=_("Like TK101.level."))
@click.option("--asset", help=_("All points of a tank or detector, like TK101."))
@click.option("--unit", metavar="BUS/ID", help=_("All points of a unit, like gas-a/3."))
@click.option("--permit", required=True, help=_("Number of the work permit."))
@click.option("--owner", required=True, help=_("Role or badge number of whoever answers for it."))
@click.option("--reason", required=True, help=_("Why, for the journal."))
@_for
@_until
@_as_json
def bypass(
    gateway_toml: Path,
    point: str | None,
    asset: str | None,
    unit: str | None,
    permit: str,
    owner: str,
    reason: str,
    for_text: str | None,
    until_text: str | None,
    as_json: bool,
) -> None:
    given = [(kind, what) for kind, what in (("point", point), ("asset", asset), ("unit", unit)) if what]
    if len(given) != 1:
        raise click.UsageError(_("one of --point, --asset and --unit is needed"))
    _begin(gateway_toml, *given[0], permit, owner, reason, _end_ms(gateway_toml, for_text, until_text), as_json)


@command.command(help=_("Mark everything that is told as a drill, until its end."))
@_gateway_toml
@click.option("--owner", required=True, help=_("Role or badge number of whoever answers for it."))
@click.option("--reason", required=True, help=_("Why, for the journal."))
@_for
@_until
@_as_json
def drill(
    gateway_toml: Path, owner: str, reason: str, for_text: str | None, until_text: str | None, as_json: bool
) -> None:
    _begin(gateway_toml, DRILL, "", "-", owner, reason, _end_ms(gateway_toml, for_text, until_text), as_json)


def _begin(
    gateway_toml: Path, kind: str, what: str, permit: str, owner: str, reason: str, until_ms: int, as_json: bool
) -> None:
    site = load_running_or_exit(gateway_toml, as_json=as_json)
    request = {"kind": kind, "what": what, "permit": permit, "owner": owner, "reason": reason, "until_ms": until_ms}
    answer = _ask(site, {"do": "bypass", **request}, what or _("drill"), as_json)
    if not as_json:
        text = _("number {number}: in force until {until}; alarms out of service by it: {count}")
        until = moment_text(until_ms, ZoneInfo(site.timezone), "minutes")
        tell(text.format(number=answer["number"], until=until, count=answer["alarms"]))


@command.command(help=_("Bypasses and drills in force, and how many there were in 30 days."))
@_gateway_toml
@_as_json
def bypasses(gateway_toml: Path, as_json: bool) -> None:
    site = load_running_or_exit(gateway_toml, as_json=as_json)
    said = ask_or_exit(site, {"do": "alarms"})
    since_ms = time.time() * 1000 - 30 * 86_400_000
    ended = [
        each["bypass"]
        for each in _journal(site, lambda event: event["action"] in ("bypass", DRILL), "action")
        if each["bypass"]["is_over"] and (each["t_ms"] or 0) >= since_ms
    ]
    if as_json:
        tell_json({"bypasses": said["bypasses"], "ended_in_30_days": len(ended)})
        return
    in_force = _bypass_table(said["bypasses"], site) if said["bypasses"] else _("No bypass is in force.")
    text = ngettext("{count} ended in 30 days.", "{count} ended in 30 days.", len(ended))
    tell(in_force, text.format(count=len(ended)))


@command.command(help=_("End a bypass or a drill: everything is judged as it is now."))
@_gateway_toml
@click.argument("number", type=click.IntRange(1))
@_by
@click.option("--reason", help=_("What was found, for the journal."))
@_as_json
def end(gateway_toml: Path, number: int, by: str, reason: str | None, as_json: bool) -> None:
    site = load_running_or_exit(gateway_toml, as_json=as_json)
    request = {"do": "end_bypass", "number": number, "by": by, "reason": reason}
    _ask(site, request, _("number {number}").format(number=number), as_json)
    if not as_json:
        tell(_("number {number}: ended").format(number=number))


def _bypass_table(rows: Iterable[dict[str, Any]], site: Site) -> Rows:
    zone = ZoneInfo(site.timezone)
    return table(
        _("bypasses and drills in force"),
        [_("number"), _("of"), _("permit"), _("owner"), _("until"), _("reason")],
        [
            [
                each["number"],
                each["what"] or _("drill"),
                each["permit"],
                each["owner"],
                Text(moment_text(each["until_ms"], zone, "minutes") or "", "yellow"),
                each["reason"],
            ]
            for each in rows
        ],
    )


# --- what happened ------------------------------------------------------------------------------------------


@command.command(help=_("What happened to alarms, and who did what: the journal of this gateway."))
@_gateway_toml
@click.option("--alarm", "pattern", metavar=_("PATTERN"), help=_("Only these alarms, like TK101.* or *:HH."))
@click.option("--from", "from_text", metavar=_("TIME"), help=_("Like 2026-11-23T08:00, in the site's time."))
@click.option("--last", type=click.IntRange(1), default=50, show_default=True, help=_("So many at most."))
@click.option("--json", "as_json", is_flag=True, help=_("One JSON object a line instead of a table."))
def history(gateway_toml: Path, pattern: str | None, from_text: str | None, last: int, as_json: bool) -> None:
    site = load_running_or_exit(gateway_toml, as_json=as_json)
    zone = ZoneInfo(site.timezone)
    from_ms = moment_ms("--from", from_text, zone, False) or 0

    def is_wanted(event: dict[str, Any]) -> bool:
        if from_text is not None and (event["t_ms"] or event.get("decided_ms") or 0) < from_ms:
            return False
        return pattern is None or fnmatchcase(event["alarm"], pattern)

    kinds = ("alarm", "action") if pattern is None else ("alarm",)
    events = _journal(site, is_wanted, *kinds)[-last:]
    if as_json:
        for event in events:
            tell_json(event)
        return
    points = {point.point: point for point in site.points}
    headings = [
        *(_("alarm"), _("value then"), _("raised at"), _("time"), _("area"), _("state"), _("what happened")),
        *(_("times"), _("by"), _("reason")),
    ]
    told = [
        _history_row(event, points.get(event["point"]), zone)
        if "alarm" in event
        else _action_row(event, headings, zone)
        for event in events
    ]
    tell(table(_("alarms and actions, the newest last"), headings, told))


def _action_row(action: dict[str, Any], headings: Iterable[str], zone: ZoneInfo) -> list[object]:
    """What was done to no single alarm, in the cells that go with it."""
    of, reasons = None, [action["reason"]] if action["reason"] else []
    if bypass := action.get("bypass"):
        of = bypass["what"] or None
        if of and not bypass["is_over"]:
            reasons.append(_("permit {permit}").format(permit=bypass["permit"]))
        if not bypass["is_over"]:
            reasons.append(_("until {until}").format(until=moment_text(bypass["until_ms"], zone, "minutes")))
    elif unit := action.get("unit"):
        of = f"{unit['bus']}/{unit['unit_id']}"
    cells = {
        _("time"): _moment(action["t_ms"], zone),
        _("alarm"): of,
        _("what happened"): action_word(action),
        _("by"): action["by"],
        _("reason"): "\n".join(reasons) or None,
    }
    return [cells.get(heading) for heading in headings]


def _history_row(event: dict[str, Any], point: Point | None, zone: ZoneInfo) -> list[object]:
    happened, until_ms = transition_word(event["transition"]), event["facts"].get("shelved_until_ms")
    marks = [mode_text(event["mode"])] if event["mode"] != "live" else []
    marks += [_("first-out")] if event["first_out"] else []
    marks += [_("found late")] if event["judged_late"] else []
    if event["transition"] == lifecycle.SHELVE and until_ms is not None:
        marks += [_("until {moment}").format(moment=_moment(until_ms, zone, "minutes"))]
    rests_on, kind, unit = event.get("rests_on"), event["alarm"].rpartition(":")[2], point.unit_text if point else ""
    return [
        event["alarm"],
        None if rests_on is not None else value_text(point, event["value"], event["status"]),
        limit_text(kind, event["setpoint"], unit) if rests_on is None else vote_text(None, rests_on),
        _moment(event["t_ms"], zone),
        point and point.area,
        state_word(event["to"]),
        _("{what} ({marks})").format(what=happened, marks=_(", ").join(marks)) if marks else happened,
        event["occurrence"],
        event["by"],
        event["reason"],
    ]


def _journal(site: Site, is_wanted: Callable[[dict[str, Any]], bool], *kinds: str) -> list[dict[str, Any]]:
    """Events of these kinds, in the order in which they were stored; what each is, it says itself."""
    schemas = [f"tankgate/{kind}/1" for kind in kinds]
    sql = (
        "SELECT body FROM journal JOIN message ON message.epoch = journal.epoch AND stream = 'event'"
        " AND message.seq = journal.seq ORDER BY number"
    )
    events = (json.loads(body) for (body,) in _rows(site, sql))
    return [event for event in events if event["schema"] in schemas and is_wanted(event)]


def _rows(site: Site, sql: str) -> list[Any]:
    """Out of the store; the program ends where it cannot be read."""
    try:
        with reading(Path(site.store.path, FILE)) as connection:
            return connection.execute(sql).fetchall()
    except (OSError, StoreFault) as fault:
        click.echo(str(fault), err=True)
        sys.exit(FOUND_A_FAULT)


# --- how well they serve ------------------------------------------------------------------------------------


@command.command(
    help=_(
        "How many alarms there were each day, and of which priority; floods, chattering, the ten worst; what stands, "
        "and what for more than a day."
    )
)
@_gateway_toml
@click.option("--days", type=click.IntRange(1, 3650), default=7, show_default=True, help=_("So many, with today."))
@_as_json
def report(gateway_toml: Path, days: int, as_json: bool) -> None:
    site = load_running_or_exit(gateway_toml, as_json=as_json)
    zone, now_ms = ZoneInfo(site.timezone), round(time.time() * 1000)
    events = timed(_journal(site, lambda _event: True, "alarm"))
    stays = list(standing(events, _rows(site, "SELECT epoch, opened_ms FROM epoch ORDER BY id")))
    dates = _dates(min((t_ms for t_ms, _event in events), default=now_ms), now_ms, days, zone)
    midnights = [round(each.timestamp() * 1000) for each in dates]
    rows = dict(zip((f"{each:%Y-%m-%d}" for each in dates), by_day(events, stays, midnights, now_ms), strict=False))
    stands = sorted((alarm, stay) for alarm, stay in stays if stay.end_ms is None)
    if as_json:
        now = [
            {"alarm": alarm, "since_ms": stay.begin_ms, "is_stale": now_ms - stay.begin_ms > STALE_MS}
            for alarm, stay in stands
        ]
        told = {day: _day(row) for day, row in rows.items()}
        tell_json({"days": told, "standing": now})
        return
    shown: list[RenderableType] = []
    for each in _report_tables(rows, stands, now_ms, zone):
        shown += [each, ""]
    tell(*shown)


def _dates(first_ms: int, now_ms: int, days: int, zone: ZoneInfo) -> list[datetime]:
    """The midnights of so many days before and after today's, none before the first entry of the journal."""
    first, today = (datetime.fromtimestamp(t_ms / 1000, zone).toordinal() for t_ms in (first_ms, now_ms))
    begin = min(max(first, today - days + 1), today)
    return [datetime.fromordinal(day).replace(tzinfo=zone) for day in range(begin, today + 2)]


def _day(row: Day) -> dict[str, Any]:
    return {
        "alarms": dict(row.alarms),
        "priorities": {str(priority): count for priority, count in sorted(row.priorities.items())},
        "percent": {str(priority): share for priority, share in row.percent().items()},
        "most_in_ten_minutes": row.most_in_ten_minutes,
        "floods": [{"from_ms": each.begin_ms, "to_ms": each.end_ms} for each in row.floods],
        "flood_ms": row.flood_ms,
        "chattering": sorted(row.chattering),
        "worst": row.worst(),
        "standing": sorted(row.standing),
        "stale": sorted(row.stale),
    }


def _report_tables(
    rows: dict[str, Day], stands: Iterable[tuple[str, Span]], now_ms: int, zone: ZoneInfo
) -> Iterator[Rows]:
    """The figures of each day; then, where there are any, floods, the alarms by name, and what is stale now."""
    headings = [
        _("day"), _("alarms"), _("of priority 1/2/3"), _("in %"), _("most in 10 min"), _("floods"),
        _("min in floods"), _("standing at its end"), _("stale"),
    ]  # fmt: skip
    yield table(_("alarms by day"), headings, (_report_row(day, row) for day, row in rows.items()))
    floods = [each for row in rows.values() for each in row.floods]
    if floods:
        yield table(
            _("floods: from ten alarms in ten minutes to under five"),
            [_("from"), _("until"), _("minutes")],
            (
                [
                    moment_text(each.begin_ms, zone, "seconds"),
                    moment_text(each.end_ms, zone, "seconds") or _("still going on"),
                    f"{(each.until_ms(now_ms) - each.begin_ms) / 60_000:.1f}",
                ]
                for each in floods
            ),
        )
    named = [
        [day, what, ", ".join(alarms)]
        for day, row in rows.items()
        for what, alarms in (
            (_("the ten worst"), [f"{alarm}({times})" for alarm, times in row.worst()]),
            (_("chattering"), sorted(row.chattering)),
            (_("stale"), sorted(row.stale)),
        )
        if alarms
    ]
    if named:
        yield table(_("alarms by name"), [_("day"), "", _("alarms")], named, keys=2)
    stale = [(alarm, stay) for alarm, stay in stands if now_ms - stay.begin_ms > STALE_MS]
    if stale:
        since = ((alarm, moment_text(stay.begin_ms, zone, "seconds")) for alarm, stay in stale)
        yield table(_("stale: standing for over a day"), [_("alarm"), _("since")], since)


def _report_row(day: str, row: Day) -> list[object]:
    percent = row.percent()
    return [
        day,
        row.alarms.total(),
        "/".join(str(row.priorities[priority]) for priority in (1, 2, 3)),
        "/".join(f"{percent.get(priority, 0):.0f}" for priority in (1, 2, 3)) if percent else None,
        row.most_in_ten_minutes,
        len(row.floods),
        f"{row.flood_ms / 60_000:.1f}",
        len(row.standing),
        len(row.stale),
    ]
