"""`tankgate trace`: what is said on a serial line, recorded, read, counted and converted. Shell.

Must never write to a line, nor over a file that is there: a recording cannot be made again.
"""

import json
import re
import signal
import sys
import time
import zipfile
import zlib
from collections.abc import Callable, Iterable, Iterator
from datetime import datetime
from gettext import gettext as _
from importlib import resources
from pathlib import Path
from typing import Any, BinaryIO, TypeVar

import click
from rich.console import Console

from edge import hex_log, logic
from edge.cli import BUSY, FOUND_A_FAULT, UNREACHABLE, USAGE, Group
from edge.cli.table import table
from edge.fault_words import reason
from edge.frame_words import ERRORS, Told, explain, sentence
from edge.line_figures import PortFigures, figures
from edge.line_recorder import Recorder
from edge.serial_port import SerialPort
from protocols import trace
from protocols.model import Line
from protocols.trace import Frame, Port, Trace

_TICK_S = 0.05
_SINCE_1970_US = 10**14  # smaller times count from the recording's start
_CAPTURE = b"\x0a\x0d\x0d\x0a"
_ZIP = b"PK\x03\x04"


Parsed = TypeVar("Parsed")


class _LineType(click.ParamType[Line]):
    name = "line"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Line:
        try:
            return value if isinstance(value, Line) else Line.parse(value)
        except ValueError as error:
            self.fail(str(error), param, ctx)


_json = click.option("--json", "as_json", is_flag=True, help=_("One JSON object a frame, instead of sentences."))


@click.group(cls=Group, help=_("What is said on a serial line: record it, read it, count it, convert it."))
def command() -> None:
    pass


# --- record -------------------------------------------------------------------------------------------------


@command.command(
    help=_(
        "Listen on a line through a second adapter, and keep every frame in FILE (pcapng, for Wireshark too). Nothing "
        "is sent. A USB adapter's times are up to 16 ms late, unless its latency_timer is set to 1."
    )
)
@click.argument("port")
@click.argument("file", type=click.Path(path_type=Path))
@click.option("--line", type=_LineType(), required=True, help=_('The line\'s settings, like "9600 8N1".'))
@click.option("--seconds", type=click.IntRange(min=1), help=_("Stop after so many seconds; or press Ctrl-C."))
@_json
def record(port: str, file: Path, line: Line, seconds: int | None, as_json: bool) -> None:
    serial_port = SerialPort(port, line, marks_errors=True)
    if not serial_port.open():
        text = _("port {port}: cannot be opened: {fault}. Those that are here: `tankgate board list`")
        click.echo(text.format(port=port, fault=serial_port.fault), err=True)
        sys.exit(BUSY if serial_port.is_busy else UNREACHABLE)
    ports = (Port(port, line),)
    with _new_file(file) as target:
        target.write(trace.head(ports))
        text = _("Listening on {port}, {line}; Ctrl-C ends it.")
        click.echo(text.format(port=port, line=line), err=True)
        _show(ports, _kept(_heard(serial_port, line, seconds), target), as_json)
    if serial_port.fileno is None:
        text = _("port {port}: lost ({fault}); what came before is in {file}")
        click.echo(text.format(port=port, fault=serial_port.fault, file=file), err=True)
        sys.exit(UNREACHABLE)
    serial_port.close()


def _heard(port: SerialPort, line: Line, seconds: int | None) -> Iterator[Frame]:
    """Until the time is over, somebody ends it or the port is lost."""
    recorder = Recorder(port, line)
    ended: list[int] = []
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda number, _frame: ended.append(number))
    until_s = float("inf") if seconds is None else time.monotonic() + seconds
    while not ended and port.fileno is not None and time.monotonic() < until_s:
        yield from recorder.hear(_TICK_S)
    yield from recorder.finish()


def _kept(frames: Iterable[Frame], target: BinaryIO) -> Iterator[Frame]:
    for frame in frames:
        target.write(trace.packets(frame))
        target.flush()
        yield frame


# --- show ---------------------------------------------------------------------------------------------------


def _wireshark() -> str:
    return str(resources.files("protocols") / "wireshark")


@command.command(
    help=_("Read a capture: a line for each frame, with who asks whom for what, what came back, what is wrong."),
    epilog=_("The same in Wireshark: WIRESHARK_CONFIG_DIR={path} wireshark -C rs485 FILE").format(path=_wireshark()),
)
@click.argument("file", type=click.Path(path_type=Path))
@_json
def show(file: Path, as_json: bool) -> None:
    capture = _read_or_exit(file)
    _show(capture.ports, capture.frames, as_json)


def _show(ports: Iterable[Port], frames: Iterable[Frame], as_json: bool) -> None:
    """The ports, then each frame as it comes."""
    names = [port.name for port in ports]
    if not as_json:
        for port in ports:
            click.echo(_printable(f"{port.name} {port.line or ''} {port.comment}").rstrip())
    for told in explain(frames):
        if as_json:
            click.echo(json.dumps(_row(told, names[told.frame.port]), ensure_ascii=False))
        else:
            is_bad = told.verdict != "ok" or told.exception_code is not None
            name = names[told.frame.port] if len(names) > 1 else ""
            click.echo(click.style(_printable(_sentence(told, name)), fg="red" if is_bad else None))


def _printable(text: str) -> str:
    """What stands in a foreign file must not command the terminal."""
    return "".join(character if character.isprintable() else "?" for character in text)


def _sentence(told: Told, port: str) -> str:
    frame = told.frame
    arrow = {trace.SENT: "→", trace.RECEIVED: "←"}.get(frame.event, "!")
    gap = "" if told.gap_us is None else f"{told.gap_us / 1000:+.1f} ms"
    unit = "" if told.unit_id is None else str(told.unit_id)
    words = f"{_moment(frame.first_us)} {gap:>12} {port:<8}" if port else f"{_moment(frame.first_us)} {gap:>12}"
    comment = f"  ({frame.comment})" if frame.comment else ""
    return f"{words} {arrow} {unit:>3} {sentence(told)}{comment}"


def _moment(at_us: int) -> str:
    """The time of day here; of a recording without a date, the seconds since its start."""
    if at_us < _SINCE_1970_US:
        return f"{at_us / 1e6:12.6f}"
    return f"{datetime.fromtimestamp(at_us // 10**6).astimezone():%m-%d %H:%M:%S}.{at_us % 10**6:06}"


def _row(told: Told, port: str) -> dict[str, Any]:
    frame = told.frame
    return {
        "number": frame.number,
        "port": port,
        "first_us": frame.first_us,
        "last_us": frame.last_us,
        "gap_us": told.gap_us,
        "direction": {trace.SENT: "sent", trace.RECEIVED: "received"}.get(frame.event),
        "verdict": told.verdict,
        "unit_id": told.unit_id,
        "function_code": told.function_code,
        "address": told.address,
        "count": told.count,
        "values": list(told.values),
        "exception_code": told.exception_code,
        "data": frame.data.hex(),
        "comment": frame.comment,
    }


# --- stats --------------------------------------------------------------------------------------------------


@command.command(
    help=_(
        "Count a capture: how each unit answered and how soon, how full the line was, the shortest pause. Exit 1 "
        "where something was damaged, refused or left without a reply, or nothing was said."
    )
)
@click.argument("file", type=click.Path(path_type=Path))
@click.option("--json", "as_json", is_flag=True, help=_("One JSON object instead of tables."))
def stats(file: Path, as_json: bool) -> None:
    capture = _read_or_exit(file)
    if not capture.frames:
        text = _("{file}: no frames. Was anything said on the line while it was recorded?")
        click.echo(text.format(file=file), err=True)
    found = list(zip(capture.ports, figures(capture), strict=True))
    if as_json:
        click.echo(json.dumps({"ports": [_port_row(port, told) for port, told in found]}, ensure_ascii=False))
    elif capture.frames:
        _print_tables(found)
    is_in_order = bool(capture.frames) and all(told.is_in_order for _port, told in found)
    sys.exit(0 if is_in_order else FOUND_A_FAULT)


def _port_row(port: Port, told: PortFigures) -> dict[str, Any]:
    return {
        "port": port.name,
        "line": None if port.line is None else str(port.line),
        "comment": port.comment,
        "frames": told.frames,
        "span_us": told.span_us,
        "load_pct": told.load_pct,
        "damaged_requests": told.damaged_requests,
        "errors": {ERRORS[event]: count for event, count in sorted(told.errors.items())},
        "shortest_silence_us": told.shortest_silence_us,
        "needed_silence_us": None if port.line is None else round(port.line.silence_us),
        "too_short_silences": told.too_short_silences,
        "units": [{"unit_id": unit_id, **unit.row()} for unit_id, unit in sorted(told.units.items())],
    }


def _print_tables(found: list[tuple[Port, PortFigures]]) -> None:
    console = Console(highlight=False)
    rows = [_port_row(port, told) for port, told in found]
    headings = [_("port"), _("line"), _("frames"), _("bytes on\nthe line"), _("damaged\nrequests"), _("UART\nerrors")]
    headings += [_("shortest\npause ms"), _("needed"), _("too\nshort")]
    port_rows = (
        [
            row["port"],
            row["line"],
            row["frames"],
            None if row["load_pct"] is None else f"{row['load_pct']} %",
            row["damaged_requests"],
            sum(row["errors"].values()),
            _milliseconds(row["shortest_silence_us"]),
            _milliseconds(row["needed_silence_us"]),
            row["too_short_silences"],
        ]
        for row in rows
    )
    console.print(table("", headings, port_rows))
    headings = [_("unit_id"), _("requests"), _("answered"), _("no\nreply"), _("damaged"), _("foreign"), _("refused")]
    headings.append(_("reply ms:\nleast/mid/95 %/max"))
    for row in rows:
        console.print()
        console.print(table(row["port"], headings, map(_unit_cells, row["units"])))


def _unit_cells(unit: dict[str, Any]) -> list[object]:
    times = "/".join(f"{unit[f'reply_{name}_ms'] or 0:.1f}" for name in ("min", "p50", "p95", "max"))
    counts = [unit[name] for name in ("unit_id", "requests", "ok", "timeout")]
    refused = ", ".join(f"{count}x{code}" for code, count in unit["exceptions"].items())
    return [*counts, unit["crc"] + unit["short"], unit["foreign"], refused or 0, times]


def _milliseconds(us: int | None) -> str | None:
    return None if us is None else f"{us / 1000:.2f}"


# --- convert ------------------------------------------------------------------------------------------------


@command.command(
    help=_(
        "Make a capture (pcapng) of SOURCE: a logic analyser's file (sigrok .sr) or a hex log (of pyserial's spy://, "
        "of socat -x, or lines of time, < or >, hex). Of a capture, a hex log is made."
    )
)
@click.argument("source", type=click.Path(path_type=Path))
@click.argument("target", type=click.Path(path_type=Path))
@click.option("--line", type=_LineType(), help=_('The line\'s settings, like "9600 8N1"; of a .sr they are needed.'))
@click.option(
    "--channels",
    default="",
    metavar="MASTER,UNITS",
    help=_("Of a .sr: the channels of both directions, or one that they share."),
)
@click.option("--swap", is_flag=True, help=_("Of a hex log: it was a unit's, so what it sent are replies."))
def convert(source: Path, target: Path, line: Line | None, channels: str, swap: bool) -> None:
    data = _bytes_or_exit(source)
    if data.startswith(_CAPTURE):
        if target.suffix == ".pcapng":
            text = _("{source} is a capture: of it a hex log is made. Name one, like {name}.")
            raise click.UsageError(text.format(source=source, name=target.with_suffix(".txt")))
        capture = _read_or_exit(source)
        written = "".join(f"{each}\n" for each in hex_log.lines(capture.frames)).encode()
    else:
        if data.startswith(_ZIP):
            if line is None:
                raise click.UsageError(_("a logic analyser's file needs --line, like --line \"9600 8N1\""))
            names = [name for name in channels.split(",") if name]
            frames = _parsed_or_exit(source, lambda: _sigrok(source, names, line))
        else:
            frames = _parsed_or_exit(source, lambda: hex_log.frames(data.decode(errors="replace"), line, swap))
        written = _parsed_or_exit(source, lambda: trace.write([Port(source.name, line)], frames))
    with _new_file(target) as file:
        file.write(written)


def _sigrok(source: Path, names: list[str], line: Line) -> list[Frame]:
    """ValueError where the zip is damaged or is something else."""
    try:
        with zipfile.ZipFile(source) as members:
            session = logic.session(members.read("metadata").decode(errors="replace"))
            parts = [name for name in members.namelist() if re.fullmatch(r"logic-1(-\d{1,9})?", name, re.ASCII)]
            parts.sort(key=lambda name: int(name.rpartition("-")[2]))
            samples = b"".join(map(members.read, parts))
    except (KeyError, zipfile.BadZipFile, zlib.error, RuntimeError, EOFError) as error:
        raise ValueError(_("{error}: expected is a sigrok file").format(error=error)) from error
    return logic.frames(samples, session, names, line)


# --- files --------------------------------------------------------------------------------------------------


def _read_or_exit(file: Path) -> Trace:
    """A capture; of one that was cut off, what is whole, and a remark."""
    data = _bytes_or_exit(file)
    capture = _parsed_or_exit(file, lambda: trace.read(data))
    if capture.cut_at is not None:
        text = _("{file}: cut off: {n} bytes from offset {at} on are no whole packet, and are left out")
        click.echo(text.format(file=file, at=capture.cut_at, n=len(data) - capture.cut_at), err=True)
    return capture


def _bytes_or_exit(file: Path) -> bytes:
    try:
        return file.read_bytes()
    except OSError as fault:
        text = _("{file}: cannot be read: {reason}. Name a file that this user may read.")
        click.echo(text.format(file=file, reason=reason(fault)), err=True)
        sys.exit(USAGE)


def _parsed_or_exit(file: Path, parse: Callable[[], Parsed]) -> Parsed:
    try:
        return parse()
    except ValueError as error:
        click.echo(f"{file}: {error}", err=True)
        sys.exit(USAGE)


def _new_file(file: Path) -> BinaryIO:
    try:
        return file.open("xb")
    except OSError as fault:
        text = _("{file}: cannot be written: {reason}. Name a new file in a folder where this user may write.")
        click.echo(text.format(file=file, reason=reason(fault)), err=True)
        sys.exit(USAGE)
