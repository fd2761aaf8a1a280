"""`tankgate doctor`: the machine that runs the gateway, or will, examined. Shell.

Must never change anything, nor need root: what it may not see is said.
"""

import json
import sys
import time
from collections.abc import Iterator
from dataclasses import asdict
from gettext import gettext as _
from gettext import ngettext
from pathlib import Path
from typing import Any

import apsw
import click

from edge import diagnosis, kernel_clock, machine, serial_port
from edge.cli import FOUND_A_FAULT
from edge.cli.site import load_or_exit
from edge.control import NAME, ask
from edge.diagnosis import FAULT, OK, Finding
from edge.fault_words import reason
from edge.forecast import forecast
from edge.planning import compile_board
from edge.store import SQLITE_MIN
from protocols.model import Site


def _ask_daemon(door: Path) -> tuple[dict[str, Any] | None, str]:
    """Its status; or None, and what was in the way of asking, which is nothing where no daemon runs."""
    try:
        return ask(door, {"do": "status"}), ""
    except (FileNotFoundError, NotADirectoryError, ConnectionRefusedError):
        return None, ""
    except OSError as fault:
        return None, reason(fault)


def _need_bytes(site: Site) -> float:
    compiled = (compile_board(site, board.name, birth_id="00000000", taken_generations=()) for board in site.boards)
    told = forecast(site, [plan for plan in compiled if plan is not None], serial_port.BAUD)
    return min(told.stored_bytes, site.store.max_bytes)


def _examine(site: Site, toml: str) -> Iterator[Finding]:
    now_s = time.time()
    folder = Path(site.store.path)
    person = machine.person()
    status, fault = _ask_daemon(folder / NAME)
    owner = machine.owner_of(status["pid"]) if status else ""
    yield diagnosis.daemon(status, fault, str(folder / NAME), person, owner, toml)
    yield diagnosis.serial_rights(person)

    present = serial_port.candidates()
    ports = machine.ports({*present, *(board.port for board in site.boards if board.port)})
    yield from diagnosis.boards(site, ports, present, status, person, toml)

    store = machine.store_file(folder / "tankgate.db")
    yield from diagnosis.clock(now_s, kernel_clock.is_synchronized(), machine.has_rtc(), store)
    yield from diagnosis.disk(machine.folder(folder), _need_bytes(site), person)
    version = tuple(map(int, apsw.sqlite_lib_version().split(".")))
    yield diagnosis.sqlite(version, SQLITE_MIN)
    yield diagnosis.store(store, site.gateway, toml)

    connected = {row["destination"] for row in status["destinations"] if row["connected"]} if status else set()
    for destination in site.destinations:
        files, mismatch = machine.text_files(destination), machine.key_mismatch(destination)
        yield from diagnosis.certificates(destination, site.gateway, files, mismatch, now_s)
        reached = machine.reach(destination, site.gateway)
        yield from diagnosis.broker(destination, site.gateway, reached, destination.name in connected)


def _print(finding: Finding) -> None:
    """A line; of what is not in order two more, indented, whole to be copied."""
    topics = {
        "daemon": _("daemon"),
        "rights": _("rights"),
        "ports": _("ports"),
        "clock": _("clock"),
        "disk": _("disk"),
        "store": _("store"),
        "certificates": _("certificates"),
        "broker": _("broker"),
    }
    states = {"ok": _("ok"), "remark": _("remark"), "fault": _("FAULT")}
    text = _("{state} [{topic}] {where}: {found}")
    shown = text.format(
        state=states[finding.state], topic=topics[finding.topic], where=finding.where, found=finding.found
    )
    colour = {"remark": "yellow", "fault": "red"}.get(finding.state)
    click.echo(click.style(shown, fg=colour))
    if finding.state != OK:
        click.echo("    " + _("allowed: {allowed}").format(allowed=finding.allowed))
        click.echo("    " + _("to do: {do}").format(do=finding.do))


@click.command(help=_("Examine the machine that runs the gateway: rights, ports, clock, disk, store, brokers."))
@click.argument("gateway_toml", type=click.Path(path_type=Path))
@click.option("--json", "as_json", is_flag=True, help=_("One JSON object instead of lines."))
def command(gateway_toml: Path, as_json: bool) -> None:
    site = load_or_exit(gateway_toml, as_json=as_json)
    findings = []
    for finding in _examine(site, str(gateway_toml)):
        findings.append(finding)
        if not as_json:
            _print(finding)
    faults = sum(finding.state == FAULT for finding in findings)
    if as_json:
        answer = {"gateway": site.gateway, "faults": faults, "findings": [asdict(finding) for finding in findings]}
        click.echo(json.dumps(answer, ensure_ascii=False))
    else:
        text = ngettext("{count} fault.", "{count} faults.", faults)
        click.echo(text.format(count=faults) if faults else _("In order."))
    sys.exit(FOUND_A_FAULT if faults else 0)
