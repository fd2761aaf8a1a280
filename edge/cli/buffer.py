"""`tankgate buffer`: what is stored and not yet with everybody: how much, for how long, and out as a file. Shell.

`status` and `drain` ask the running daemon; `export` reads the store itself, beside a daemon or without one. Must never
write to the store.
"""

import csv
import json
import sys
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from fnmatch import fnmatchcase
from gettext import gettext as _
from pathlib import Path
from typing import IO, Any
from zoneinfo import ZoneInfo

import click
from rich.console import Console
from rich.text import Text

from edge.cli import FOUND_A_FAULT, UNREACHABLE, USAGE, Group
from edge.cli.moment import moment_ms, moment_text
from edge.cli.site import ask_or_exit, load_running_or_exit
from edge.cli.status import age_text, refused_tables, span_text, up_or_down
from edge.cli.table import Rows, table
from edge.export import records
from edge.fault_words import reason
from edge.store import FILE, StoreFault, reading

_COLUMNS = (
    "record", "time", "until", "point", "value", "unit", "quality", "status", "detail", "time_kind", "err_ms", "boot",
    "uptime_ms", "cause", "of", "board", "bus", "polls", "polls_are",
)  # fmt: skip
_ASK_S = 1.0


@click.group(cls=Group, help=_("What is stored and not yet delivered: how much, for how long, and out as a file."))
def command() -> None:
    pass


# --- status -------------------------------------------------------------------------------------------------


@command.command(help=_("How full the store is, how long it still lasts, and what each destination has yet to get."))
@click.argument("gateway_toml", type=click.Path(path_type=Path))
@click.option("--json", "as_json", is_flag=True, help=_("One JSON object instead of tables."))
def status(gateway_toml: Path, as_json: bool) -> None:
    site = load_running_or_exit(gateway_toml, as_json=as_json)
    buffer = ask_or_exit(site, {"do": "buffer"})
    if as_json:
        click.echo(json.dumps(buffer, ensure_ascii=False))
    else:
        console = Console()
        for each in _tables(site.gateway, buffer, time.time() * 1000):
            console.print(each)
            console.print()
    is_refused = any(each["refused"] for each in buffer["destinations"])
    sys.exit(FOUND_A_FAULT if is_refused or buffer["store"]["state"] != "ok" else 0)


def _tables(gateway: str, buffer: dict[str, Any], now_ms: float) -> Iterable[Rows]:
    store = buffer["store"]
    is_well = store["state"] == "ok"
    mend = _("Make room on the disk, or replace it; then nothing else is to be done.")
    yield table(
        _("store"),
        [
            _("status"), _("used"), _("at most"), _("free on disk"), _("oldest"), _("per hour"), _("lasts still"),
            _("reason"),
        ],
        [
            [
                Text(_("ok")) if is_well else Text(_("fault"), style="red"),
                _size(store["used_bytes"]),
                _size(store["max_bytes"]),
                _size(store["disk_free_bytes"]),
                age_text(store["oldest_ms"], now_ms),
                _size(store["bytes_per_hour"]),
                _span(store["hours_left"], 3600),
                None if is_well else f"{store['fault']}. {mend}",
            ]
        ],
    )  # fmt: skip
    yield table(
        _("destinations"),
        [
            _("destination"), _("link"), _("not\nacknowledged"), _("not\nreceipted"), _("sent\nper s"), _("done in"),
            _("reason"),
        ],
        [
            [
                each["destination"],
                up_or_down(each["connected"]),
                each["not_acknowledged"],
                each["not_receipted"],
                each["drained_per_s"],
                _span(each["finished_in_s"]),
                each["reason"] or None,
            ]
            for each in buffer["destinations"]
        ],
    )  # fmt: skip
    yield from refused_tables(gateway, buffer["destinations"], now_ms)
    rows = [
        [
            each["destination"],
            stream["epoch"],
            stream["stream"],
            stream["made"],
            stream["to_send"],
            stream["to_be_receipted"],
            age_text(stream["oldest_ms"], now_ms),
        ]
        for each in buffer["destinations"]
        for stream in each["streams"]
    ]
    if rows:
        yield table(
            _("still to come"),
            [
                _("destination"), _("epoch"), _("stream"), _("made"), _("to send"), _("to be\nreceipted"), _("oldest"),
            ],
            rows,
        )  # fmt: skip


def _size(count: float | None) -> str | None:
    if count is None:
        return None
    return f"{count / 1e9:.1f} GB" if count >= 1e9 else f"{count / 1e6:.1f} MB"


def _span(count: float | None, unit_s: float = 1) -> str | None:
    return None if count is None else span_text(count * unit_s)


# --- drain --------------------------------------------------------------------------------------------------


@command.command(help=_("Wait until every destination has everything, and show how far it is."))
@click.argument("gateway_toml", type=click.Path(path_type=Path))
@click.option("--timeout", "timeout_s", type=click.FloatRange(min=0), help=_("Give up after so many seconds."))
@click.option("--json", "as_json", is_flag=True, help=_("One JSON object at the end instead of text."))
def drain(gateway_toml: Path, timeout_s: float | None, as_json: bool) -> None:
    """Live messages are made all the time: it is drained as soon as nothing of before is to come."""
    site = load_running_or_exit(gateway_toml, as_json=as_json)
    until_s = time.monotonic() + timeout_s if timeout_s is not None else float("inf")
    first = ask_or_exit(site, {"do": "buffer"})
    ends = {(epoch, name): last for epoch, streams in first["made"].items() for name, last in streams.items()}
    while True:
        now = ask_or_exit(site, {"do": "buffer"})
        left = {each["destination"]: _left(each, ends) for each in now["destinations"]}
        if not as_json:
            for each in now["destinations"]:
                _show(each, left[each["destination"]])
        if not any(left.values()) or time.monotonic() >= until_s:
            break
        time.sleep(min(_ASK_S, max(0.0, until_s - time.monotonic())))
    if as_json:
        click.echo(json.dumps({"left": left}, ensure_ascii=False))
    if not any(left.values()):
        sys.exit(0)
    is_reached = all(each["connected"] for each in now["destinations"] if left[each["destination"]])
    sys.exit(FOUND_A_FAULT if is_reached else UNREACHABLE)


def _left(destination: dict[str, Any], ends: dict[tuple[str, str], int]) -> int:
    """How many messages of before are still to come."""
    return sum(
        max(0, min(last, ends.get((stream["epoch"], stream["stream"]), 0)) - first + 1)
        for stream in destination["streams"]
        for first, last in stream["pending"]
    )


def _show(destination: dict[str, Any], left: int) -> None:
    text = _("{destination}: {left} still to come, {rate} sent per s, done in {time}")
    if not destination["connected"]:
        text = _("{destination}: {left} still to come, not connected ({reason})")
    elif left and destination["refused"]:
        text = _("{destination}: {left} still to come; its broker refuses messages. `tankgate buffer status` says why")
    elif left and destination["finished_in_s"] is None:
        text = _("{destination}: {left} still to come, {rate} sent per s; when it is done cannot be told yet")
    click.echo(
        text.format(
            destination=destination["destination"],
            left=left,
            rate=destination["drained_per_s"],
            time=_span(destination["finished_in_s"]),
            reason=destination["reason"],
        ),
        err=True,
    )


# --- export -------------------------------------------------------------------------------------------------


@command.command(help=_("History as CSV or JSON lines: every reading with its time and quality, and the gaps."))
@click.argument("gateway_toml", type=click.Path(path_type=Path))
@click.option("--from", "from_text", metavar=_("TIME"), help=_("Like 2026-11-23T08:00, in the site's time."))
@click.option("--to", "to_text", metavar=_("TIME"), help=_("The last moment that is wanted; a date is its whole day."))
@click.option("--point", "points", multiple=True, metavar=_("PATTERN"), help=_("Only these, like TK101.* or GD??.gas."))
@click.option("--output", type=click.Path(path_type=Path, dir_okay=False), help=_("A file, not standard output."))
@click.option("--json", "as_json", is_flag=True, help=_("One JSON object a line instead of CSV."))
def export(
    gateway_toml: Path,
    from_text: str | None,
    to_text: str | None,
    points: tuple[str, ...],
    output: Path | None,
    as_json: bool,
) -> None:
    site = load_running_or_exit(gateway_toml, as_json=as_json)
    zone = ZoneInfo(site.timezone)
    from_ms, to_ms = moment_ms("--from", from_text, zone, False), moment_ms("--to", to_text, zone, True)
    store = Path(site.store.path)
    if output is not None and store.resolve() in output.resolve().parents:
        text = _("{file}: lies in the store's own folder, where nothing may be overwritten. Name a file elsewhere.")
        click.echo(text.format(file=output), err=True)
        sys.exit(USAGE)
    try:
        with reading(store / FILE) as connection, _opened(output) as file:
            found = records(
                connection, from_ms, to_ms, lambda point: not points or any(fnmatchcase(point, p) for p in points)
            )
            is_whole, has_readings = _write(file, found, zone, as_json)
    except StoreFault as fault:
        click.echo(str(fault), err=True)
        sys.exit(FOUND_A_FAULT)
    if not has_readings:
        text = _("the store has no reading of these points and this time: look at --point, --from and --to")
        click.echo(text, err=True)
    if not is_whole:
        click.echo(_("parts of the store cannot be read: they stand as gaps of cause disk_fault"), err=True)
        sys.exit(FOUND_A_FAULT)


@contextmanager
def _opened(output: Path | None) -> Iterator[IO[str]]:
    if output is None:
        yield sys.stdout
        sys.stdout.flush()  # else what cannot take it is only found out when nobody can tell any more
        return
    try:
        with output.open("w", encoding="utf-8", newline="") as file:
            yield file
    except OSError as fault:
        text = _("{file}: cannot be written: {reason}. Name a new file in a folder where this user may write.")
        click.echo(text.format(file=output, reason=reason(fault)), err=True)
        sys.exit(USAGE)


def _write(file: IO[str], found: Iterable[dict[str, Any]], zone: ZoneInfo, as_json: bool) -> tuple[bool, bool]:
    """Whether nothing was unreadable, and whether there was any reading."""
    is_whole, has_readings = True, False
    lines = csv.DictWriter(file, _COLUMNS, extrasaction="ignore", lineterminator="\n")
    if not as_json:
        lines.writeheader()
    for record in found:
        is_whole &= record["record"] != "gap" or "of" in record
        has_readings |= record["record"] == "reading"
        if as_json:
            file.write(json.dumps(_timed(record, zone), ensure_ascii=False) + "\n")
        else:
            lines.writerow(_timed(record, zone))
    return is_whole, has_readings


def _timed(record: dict[str, Any], zone: ZoneInfo) -> dict[str, Any]:
    """With times for people beside those for programs."""
    timed = {"record": record["record"], "time": moment_text(record["t_ms"], zone)}
    if "until_ms" in record:
        timed["until"] = moment_text(record["until_ms"], zone)
    return timed | record
