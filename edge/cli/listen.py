"""`tankgate listen`: the district's side of the feed, live from a broker or from a recording; and its check. Shell.

Must never change what it shows: `--json` prints every message that came, with what the receiving added.
"""

import asyncio
import json
import re
import signal
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import asdict
from gettext import gettext as _
from gettext import ngettext
from typing import IO

import click
from rich.console import Console
from rich.live import Live

from edge.alarms.words import AUXILIARY
from edge.cli import FOUND_A_FAULT, UNREACHABLE, USAGE
from edge.feed_screen import STRANGE, FeedScreen, gap_text
from edge.receiver import Received, Receiver
from protocols.feeds import json_feed
from protocols.feeds.check import StreamChecker, Summary, Violations
from protocols.feeds.sequence import identity
from protocols.model import Destination

PATIENCE_S = 5.0  # for the first connection; one that broke is restored for as long as it takes
TICK_S = 0.25
SESSION = "ingest"  # of a copy that writes into a database and was given no other

Show = Callable[[Received | None], None]  # None: a tick without a message


def _gateway_id(_context: click.Context, _option: click.Parameter, value: str | None) -> str | None:
    if value is not None and not json_feed.GATEWAY.fullmatch(value):
        raise click.BadParameter(_("must be 3 to 32 small letters, digits and -, like jt-0042."))
    return value


@click.command(help=_("The district's side: receive a gateway's feed and check it."))
@click.argument("url", required=False)
@click.option(
    "--from",
    "recording",
    type=click.File("rb"),
    help=_("Read what `listen --json` printed, from a file or from - (standard input), instead of a broker."),
)
@click.option(
    "--gateway", metavar="ID", callback=_gateway_id, help=_("Only this gateway; otherwise all of the broker.")
)
@click.option("--session", metavar="NAME", help=_("Let the broker keep under this name what comes between two runs."))
@click.option(
    "--into",
    "database",
    metavar="POSTGRESQL",
    help=_("Keep everything in this database, like postgresql://user@host/name, and write receipts. Several may run."),
)
@click.option("--json", "as_json", is_flag=True, help=_("Print one JSON object a line for every message."))
@click.option("--check", is_flag=True, help=_("Hold the stream to the feed's rules; exit 1 where it breaks one."))
@click.option("--seconds", type=click.IntRange(min=1), help=_("Stop after so many seconds; or press Ctrl-C."))
@click.option("--ca", type=click.Path(), help=_("Who issued the broker's certificate; else the system's authorities."))
@click.option("--cert", type=click.Path(), help=_("The certificate to show to the broker."))
@click.option("--key", type=click.Path(), help=_("Its private key."))
def command(
    url: str | None,
    recording: IO[bytes] | None,
    gateway: str | None,
    session: str | None,
    database: str | None,
    as_json: bool,
    check: bool,
    seconds: int | None,
    ca: str | None,
    cert: str | None,
    key: str | None,
) -> None:
    if (url is None) == (recording is None):
        raise click.UsageError(_("Give either the broker, like mqtt://127.0.0.1:1883, or --from FILE."))
    if recording is not None and any(each is not None for each in (session, seconds, database, ca, cert, key)):
        raise click.UsageError(_("--session, --into, --seconds, --ca, --cert and --key are of a broker."))
    broker = Destination("listen", str(url), "json", ca, cert, key)
    if database is not None:
        if as_json or check:
            raise click.UsageError(_("--into keeps everything and judges it: it goes without --json and --check."))
        sys.exit(_into(database, broker, gateway or "+", session or SESSION, seconds))
    checker = StreamChecker(_violations()) if check else None
    messages: Iterator[Received | None]
    if recording is not None:
        messages = _of_recording(recording, gateway)
    else:
        messages = _of_broker(broker, gateway, session, seconds)
    console = Console(highlight=False)
    faults = 0
    with ExitStack() as stack:
        show: Show = _print_json if as_json else _lines()
        if console.is_terminal and not as_json:
            show = stack.enter_context(_table(console))
        try:
            for message in messages:
                show(message)
                if checker is not None and message is not None:
                    for finding in checker.feed(message.topic, message.payload, message.retained):
                        faults += 1
                        click.secho(str(finding), fg="red", err=True)
        except KeyboardInterrupt:
            pass
    if checker is not None:
        sys.exit(_verdict(checker.finish(), faults, as_json))


def _violations() -> Violations:
    try:
        from edge.feed_schemas import Schemas
    except ModuleNotFoundError as missing:
        text = _("--check needs {module}, which is not installed: pip install jsonschema-rs")
        raise click.UsageError(text.format(module=missing.name)) from missing
    return Schemas().violations


# --- into a database ----------------------------------------------------------------------------------------


def _into(database: str, broker: Destination, gateway: str, session: str, seconds: int | None) -> int:
    """One copy of the district's side; the exit code."""
    try:
        from edge.district.database import SERVER_MIN, UNAVAILABLE, NoPlace, why
        from edge.district.ingest import Ingest
        from edge.feed_schemas import Schemas
    except ModuleNotFoundError as missing:
        text = _("--into needs {module}, which is not installed: pip install 'tankgate[district]'")
        raise click.UsageError(text.format(module=missing.name)) from missing

    async def run(ingest: Ingest) -> None:
        loop = asyncio.get_running_loop()
        for ending in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(ending, ingest.stop)
        if seconds is not None:
            loop.call_later(seconds, ingest.stop)
        await ingest.run()

    def say(sentence: str) -> None:
        click.echo(f"{time.strftime('%Y-%m-%d %H:%M:%S')} {sentence}", err=True)

    try:
        ingest = Ingest(broker, database, gateway, session, Schemas().violations, say)
    except ValueError as error:  # of the broker's URL or a certificate
        raise click.UsageError(str(error)) from error
    try:
        asyncio.run(run(ingest))
    except (*UNAVAILABLE, NoPlace, ValueError) as fault:
        text = _(
            "--into {database} cannot be used: {fault}. It takes postgresql://user:password@host:port/name: a database "
            "of PostgreSQL {needed} or newer, in which this user may make tables."
        )
        shown = re.sub(r"//.*@", "//", re.sub(r"password=[^&]*", "password=...", database))
        click.echo(text.format(database=shown, fault=why(fault), needed=SERVER_MIN), err=True)
        return USAGE if isinstance(fault, ValueError) else UNREACHABLE
    text = _(
        "{messages} new messages, {readings} readings. {again} came again; {waiting} had to wait for a birth or a "
        "clock; {set_aside} set aside as unreadable; {losses} ranges of numbers lost."
    )
    click.echo(text.format(**asdict(ingest.counts), losses=len(ingest.losses)))
    if ingest.counts.set_aside or ingest.losses:
        return FOUND_A_FAULT
    return 0 if ingest.was_connected else UNREACHABLE


# --- where messages come from -------------------------------------------------------------------------------


def _of_broker(
    broker: Destination, gateway: str | None, session: str | None, seconds: int | None
) -> Iterator[Received | None]:
    url = broker.url
    came: list[Received] = []
    try:
        receiver = Receiver(broker, gateway or "+", came.append, session)
    except ValueError as error:
        raise click.UsageError(str(error)) from error
    click.echo(_("Connecting to {url}").format(url=url), err=True)
    until_s = time.monotonic() + PATIENCE_S
    was_connected = False
    problem = receiver.problem
    try:
        while time.monotonic() < until_s:
            receiver.work(TICK_S)
            if receiver.problem != problem:
                problem = receiver.problem
                click.echo(_("Connected") if problem is None else problem, err=True)
            if problem is None and not was_connected:
                was_connected = True
                until_s = float("inf") if seconds is None else time.monotonic() + seconds
            yield from came
            came.clear()
            yield None
    finally:
        receiver.close()
    if not was_connected:
        click.echo(_("No feed from {url}: {problem}. Is the broker there?").format(url=url, problem=problem), err=True)
        sys.exit(UNREACHABLE)


def _of_recording(recording: IO[bytes], gateway: str | None) -> Iterator[Received]:
    for number, line in enumerate(recording, start=1):
        match json_feed.read(line):
            case {
                "received_ms": int(received_ms),
                "topic": str(topic),
                "retained": bool(retained),
                "payload": dict() | None as payload,
                "duplicate": bool(duplicate),
            } if 0 <= received_ms <= json_feed.UTC_MS_MAX:
                if gateway is None or topic.split("/")[2:3] == [gateway]:
                    yield Received(received_ms, topic, retained, payload, duplicate)
            case _other:
                text = _("{file} line {number}: not a line that `tankgate listen --json` prints")
                raise click.UsageError(text.format(file=recording.name, number=number))


# --- where they go ------------------------------------------------------------------------------------------


@contextmanager
def _table(console: Console) -> Iterator[Show]:
    """A table that lives."""
    screen = FeedScreen()
    with Live(console=console, auto_refresh=False) as live:
        now_ms = 0
        drawn_s = 0.0

        def show(message: Received | None) -> None:
            nonlocal now_ms, drawn_s
            if message is None:
                now_ms = time.time_ns() // 1_000_000
            else:
                now_ms = message.received_ms  # of a recording, that of its making
                screen.take(message)
            if time.monotonic() - drawn_s >= TICK_S:
                drawn_s = time.monotonic()
                live.update(screen.draw(now_ms), refresh=True)

        yield show
        live.update(screen.draw(now_ms), refresh=True)


def _print_json(message: Received | None) -> None:
    if message is not None:
        click.echo(json.dumps(asdict(message), ensure_ascii=False, separators=(",", ":")).encode())


def _lines() -> Show:
    """A line a message; above the first alarm stands what alarms are not."""
    is_said = False

    def show(message: Received | None) -> None:
        nonlocal is_said
        if message is None:
            return
        if not is_said and _is_alarm(message):
            click.echo(AUXILIARY)
            is_said = True
        click.echo(_line(message))

    return show


def _is_alarm(message: Received) -> bool:
    return message.payload is not None and "alarm" in message.payload


def _line(message: Received) -> str:
    words = [time.strftime("%H:%M:%S", time.localtime(message.received_ms / 1000))]
    words += message.topic.split("/")[2:]
    numbered = identity(message.topic, message.payload)
    if numbered is not None:
        words += [numbered[0].epoch, str(numbered[1])]
    match message.payload:
        case None:
            words.append(_("(no JSON object)"))
        case {"alarm": str(alarm), "from": str(before), "to": str(after)}:
            words.append(f"{alarm} {before} → {after}")
        case {"schema": "tankgate/gap/1"}:
            with suppress(*STRANGE):
                words.append(gap_text(message.payload))
        case {"rows": list(rows)}:
            words.append(ngettext("{n} reading", "{n} readings", len(rows)).format(n=len(rows)))
    if message.retained:
        words.append(_("(kept by the broker)"))
    if message.duplicate:
        words.append(_("(came again)"))
    return " ".join(word for word in words if word.isprintable())


def _verdict(summary: Summary, faults: int, as_json: bool) -> int:
    """Print the account; the exit code."""
    for finding in summary.findings:
        click.secho(str(finding), fg="red", err=True)
    faults += len(summary.findings)
    text = _(
        "{messages} messages, {readings} readings. {duplicates} came again, unchanged; {coming} still to come; "
        "{boots} boots without a clock yet; {unknown} of an unknown schema, passed over."
    )
    account = text.format(
        messages=summary.messages,
        readings=summary.readings,
        duplicates=summary.duplicates,
        coming=summary.coming,
        boots=summary.boots_without_clock,
        unknown=summary.unknown,
    )
    if summary.messages == 0:
        verdict = _("Nothing came, so nothing was checked.")
    elif faults:
        verdict = ngettext("{n} fault.", "{n} faults.", faults).format(n=faults)
    else:
        verdict = _("The feed is in order.")
    click.echo(f"{account}\n{verdict}", err=as_json)
    return FOUND_A_FAULT if faults or summary.messages == 0 else 0
