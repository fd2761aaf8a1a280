"""`tankgate status`: what the running daemon knows, as tables for people or as JSON for programs. Shell.

Must never look anywhere but through the daemon's local door: what the store holds is not what is running.
"""

import sys
import time
from collections.abc import Iterable
from gettext import gettext as _
from pathlib import Path
from typing import Any

import click
from rich.console import RenderableType
from rich.text import Text

from edge.cli import FOUND_A_FAULT
from edge.cli.alarms import standing_table, value_text
from edge.cli.notice import tell, tell_json
from edge.cli.site import ask_or_exit, load_running_or_exit
from edge.cli.table import Rows, table
from edge.refusals import short, whole
from edge.statistics import RETRIED
from edge.troubles import trouble_text
from protocols.model import Site, mode_text, quality, status_text

_STYLES = {"GOOD": "", "UNCERTAIN": "yellow", "BAD": "red"}


def up_or_down(is_up: bool) -> Text:
    return Text(_("up")) if is_up else Text(_("down"), style="red")


def age_text(t_ms: int | None, now_ms: float) -> str | None:
    return None if t_ms is None else span_text((now_ms - t_ms) / 1000)


def span_text(span_s: float) -> str:
    """In the unit that a person would count it in."""
    if span_s < 120:
        return _("{n} s").format(n=round(span_s, 1))
    minutes = int(span_s / 60)
    if minutes < 120:
        return _("{n} min").format(n=minutes)
    hours = minutes // 60
    return _("{n} h").format(n=hours) if hours < 48 else _("{n} d").format(n=hours // 24)


def _clock(clock: dict[str, Any]) -> str:
    words = {"synced": _("synced"), "holdover": _("was synced"), "unsynced": _("not synced")}
    kind = words[clock["kind"]]
    return kind if clock["err_ms"] is None else f"{kind} ±{clock['err_ms']} ms"


def _bus_tables(status: dict[str, Any], now_ms: float) -> Iterable[Rows]:
    """Counts of the last hour: those since the start are old news to whoever has just mended something."""
    states = {"polling": _("polling"), "listening": _("listening"), "other_master": _("other master"), None: None}
    yield table(
        _("buses, in the last hour"),
        [_("bus"), _("status"), _("load"), _("highest"), _("missed periods"), _("foreign requests"), _("stray bytes")],
        [
            [
                bus["bus"],
                Text(states[bus["state"]] or "-", style="red" if bus["state"] == "other_master" else ""),
                _percent(bus["hour"]["load_pct"]),
                _percent(bus["peak_load_pct"]),
                bus["hour"]["overruns"],
                bus["hour"]["foreign"],
                bus["hour"]["stray_bytes"],
            ]
            for bus in status["buses"]
        ],
    )
    yield table(
        _("units, in the last hour"),
        [
            _("bus"),
            _("unit_id"),
            _("answered"),
            _("no\nreply"),
            _("damaged"),
            _("foreign"),
            _("exception"),
            _("retried"),
            _("late"),
            _("reply ms:\nmid/95 %/max"),
            _("last\nanswer"),
        ],
        [
            [
                unit["bus"],
                unit["unit_id"],
                hour["ok"],
                hour["timeout"],
                hour["crc"] + hour["short"],
                hour["foreign"],
                hour["exception"],
                sum(hour[kind] for kind in RETRIED),
                hour["late"],
                _reply_times(hour),
                age_text(unit["last_ok_ms"], now_ms),
            ]
            for unit in status["units"]
            for hour in [unit["hour"]]
        ],
        keys=2,
    )
    if status["troubles"]:
        yield table(
            _("what is not well, and what it usually means"),
            [_("bus"), _("unit_id"), ""],
            [
                [each["bus"], ", ".join(map(str, each["unit_ids"])) or None, trouble_text(each["trouble"])]
                for each in status["troubles"]
            ],
        )


def refused_tables(gateway: str, destinations: Iterable[dict[str, Any]], now_ms: float) -> Iterable[Rows]:
    """What brokers refuse, one table or none."""
    rows = [
        [
            destination["destination"],
            short(each["topic"]),
            each["times"],
            each["waiting_messages"],
            age_text(each["since_ms"], now_ms),
            whole(each["topic"], each["reason_code"], bool(each["waiting_messages"])),
        ]
        for destination in destinations
        for each in destination["refused"]
    ]
    if rows:
        yield table(
            _("what brokers refuse (topics under tankgate/v1/{gateway}/), why, and what to do").format(gateway=gateway),
            [_("destination"), _("topic"), _("times"), _("still\nto send"), _("since"), ""],
            rows,
            keys=2,
        )


def _percent(share: int | None) -> str | None:
    return None if share is None else f"{share} %"


def _reply_times(figures: dict[str, Any]) -> str | None:
    times = [figures[f"reply_{which}_ms"] for which in ("p50", "p95", "max")]
    return None if times[0] is None else "/".join(map(str, times))


def _on_or_off(is_on: bool | None) -> str | None:
    return None if is_on is None else _("on") if is_on else _("off")


def _tables(site: Site, status: dict[str, Any], now_ms: float) -> Iterable[Rows]:
    yield table(
        _("gateway {gateway}: {name}").format(gateway=status["gateway"], name=site.name),
        [_("mode"), _("running for"), _("clock"), _("samples"), _("to commit"), _("version")],
        [
            [
                mode_text(status["mode"]),
                span_text(status["uptime_s"]),
                _clock(status["clock"]),
                status["samples"],
                status["to_commit"],
                status["version"],
            ]
        ],
    )
    yield table(
        _("boards"),
        [_("board"), _("link"), _("port"), _("ring"), _("firmware")],
        [
            [b["board"], up_or_down(b["link"] == "up"), b["port"], f"{b['ring_used_pct']} %", b["firmware"]]
            for b in status["boards"]
        ],
    )
    yield from _bus_tables(status, now_ms)
    yield table(
        _("destinations"),
        [_("destination"), _("link"), _("in flight"), _("backlog"), _("acknowledged"), _("reason")],
        [
            [
                d["destination"],
                up_or_down(d["connected"]),
                d["in_flight"],
                d["backlog_messages"],
                d["acknowledged_messages"],
                d["reason"] or None,
            ]
            for d in status["destinations"]
        ],
    )
    yield from refused_tables(site.gateway, status["destinations"], now_ms)
    if status["alarms"]:
        yield standing_table(status["alarms"], site)
    if status["outputs"]:
        yield table(
            _("horns, beacons, fault outputs"),
            [_("output"), _("place"), _("wanted"), _("found")],
            [[o["output"], o["place"], _on_or_off(o["wanted"]), _on_or_off(o["is_on"])] for o in status["outputs"]],
        )
    points = {point.point: point for point in site.points}
    rows = []
    for reading in status["values"]:
        code, value = reading["status"], reading["value"]
        point = points.get(reading["point"])
        shown = value_text(point, value, code)
        state = Text(status_text(code), style=_STYLES[quality(code)])
        profile = Text(point.profile if point else "")
        if profile.plain in status["unproven_profiles"]:
            profile.append(_(" (unproven)"), style="yellow")
        rows.append([reading["point"], point and point.name, shown, state, age_text(reading["t_ms"], now_ms), profile])
    yield table(_("points"), [_("point"), _("name"), _("value"), _("status"), _("age"), _("profile")], rows)


@click.command(help=_("What the running daemon knows about boards, units and destinations."))
@click.argument("gateway_toml", type=click.Path(path_type=Path))
@click.option("--json", "as_json", is_flag=True, help=_("One JSON object instead of tables."))
def command(gateway_toml: Path, as_json: bool) -> None:
    site = load_running_or_exit(gateway_toml, as_json=as_json)
    status = ask_or_exit(site, {"do": "status"})
    if as_json:
        tell_json(status)
    else:
        shown: list[RenderableType] = []
        for each in _tables(site, status, time.time() * 1000):
            shown += [each, ""]
        tell(*shown)
    sys.exit(FOUND_A_FAULT if any(each["refused"] for each in status["destinations"]) else 0)
