"""`tankgate bench`: starts the bench's test suite and makes an acceptance report of what it shows. Shell.

Must never import hil_tests: the suite is a process of its own, which tells what it does in lines of JSON.
"""

import getpass
import gettext
import json
import os
import platform
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from datetime import datetime
from gettext import gettext as _
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import click

from edge import __version__, acceptance
from edge.cli import BUSY, FOUND_A_FAULT, UNREACHABLE, USAGE, Group
from edge.cli.site import load_or_exit
from edge.fault_words import reason

_LOCALE = Path(__file__).parents[1] / "locale"
_BY_ID = Path("/dev/serial/by-id")
_TEST_S = 240
_LAST_WORDS = 1500  # characters of the log, where the suite did not get as far as a test


@click.group(cls=Group, help=_("The bench: judge this build on simulated boards, or a board on its ports."))
def command() -> None:
    pass


@command.command(
    name="acceptance",
    help=_(
        "Run the bench's tests and write an acceptance report (HTML, A4, Chinese and English). On simulated boards, or "
        "on a real board with RS-485 adapters at its buses. A run takes some minutes."
    ),
)
@click.option("--dut", type=click.Choice(["sim", "board"]), help=_("Simulated boards, or a real one."))
@click.option("--port", help=_("The serial port towards the board."))
@click.option("--bus-port", multiple=True, help=_("The RS-485 adapter at its UART1; once more for UART2."))
@click.option("--reset", help=_("How the board is reset: rts, usb or cmd:PROGRAM …"))
@click.option(
    "--wiring",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help=_("A wiring file instead (hil_tests/README.md)."),
)
@click.option("--site", "gateway_toml", type=click.Path(path_type=Path), help=_("The site's gateway.toml, to name it."))
@click.option("--by", default=getpass.getuser, help=_("Who tests; otherwise the user of this command."))
@click.option("--output", type=click.Path(path_type=Path), help=_("A new folder for report, log and captures."))
def accept(
    dut: str | None,
    port: str | None,
    bus_port: tuple[str, ...],
    reset: str | None,
    wiring: Path | None,
    gateway_toml: Path | None,
    by: str,
    output: Path | None,
) -> None:
    suite = _suite()
    site = load_or_exit(gateway_toml, as_json=False) if gateway_toml else None
    if dut is None:
        dut = "board" if port or bus_port or wiring else _ask_dut()
    if dut == "board" and wiring is None:
        port = port or _ask_port(_("Port towards the board"))
        bus_port = bus_port or (_ask_port(_("RS-485 adapter at UART1")),)
    begun = datetime.now().astimezone()
    folder = output or Path(f"acceptance-{begun:%Y%m%d-%H%M%S}")
    try:
        folder.mkdir(parents=True)
    except OSError as fault:
        text = _("{folder} cannot be made: {reason}. Name a new folder in one where this user may write.")
        raise click.BadParameter(text.format(folder=folder, reason=reason(fault)), param_hint="--output") from None
    on = [f"--dut={dut}", *(["--wiring", str(wiring)] if wiring else [])]
    on += ["--port", port] if port else []
    on += [part for each in bus_port for part in ("--bus-port", each)]
    on += ["--reset", reset] if reset else []

    run = acceptance.Run(
        site=site.name if site else "-",
        gateway=site.gateway if site else "-",
        by=by,
        begun=begun.isoformat(" ", "seconds"),
        machine=f"{platform.node()}, {platform.machine()}, Python {platform.python_version()}",
        version=__version__,
        rig={},
        never=None,
        results=(),
        count=0,
    )
    try:
        run = _watch(run, suite, on, folder)
    except SystemExit:
        shutil.rmtree(folder)  # nothing was examined
        raise
    report = folder / "report.html"
    chinese = gettext.translation("tankgate", _LOCALE, ["zh_CN"]).gettext
    is_chinese = _("Acceptance report") != "Acceptance report"
    report.write_text(acceptance.page(run, chinese, is_chinese), encoding="utf-8")
    click.echo(_("Report: {report}. Print it, or open it in any browser.").format(report=report))
    sys.exit(0 if acceptance.is_accepted(run) else FOUND_A_FAULT)


def _suite() -> Path:
    """Where the suite lies. Without it, or what it needs, the program ends: USAGE."""
    found = find_spec("hil_tests")
    missing = [name for name in ("pytest", "pytest_timeout", "pymodbus", "minimalmodbus") if find_spec(name) is None]
    if found is None or not found.submodule_search_locations:
        raise click.UsageError(_("The bench (hil_tests) is not installed: pip install 'tankgate[bench]'"))
    if missing:
        text = _("The bench's tools are missing ({names}): pip install 'tankgate[bench]'")
        raise click.UsageError(text.format(names=", ".join(missing)))
    return Path(next(iter(found.submodule_search_locations)))


def _ask_dut() -> str:
    if not sys.stdin.isatty():
        return "sim"
    answer: str = click.prompt(
        _("Examine simulated boards (sim) or a real one (board)?"), type=click.Choice(["sim", "board"]), default="sim"
    )
    return answer


def _ask_port(what: str) -> str:
    """One of the ports that are plugged in, or another path."""
    if not sys.stdin.isatty():
        raise click.UsageError(_("--dut board: name the ports by --port and --bus-port, or all by --wiring"))
    present = sorted(str(path) for path in _BY_ID.glob("*"))
    for number, path in enumerate(present, 1):
        click.echo(f"  {number}  {path}")
    answer: str = click.prompt(_("{what} (number or path)").format(what=what))
    return present[int(answer) - 1] if answer.isdigit() and 0 < int(answer) <= len(present) else answer


def _watch(run: acceptance.Run, suite: Path, on: list[str], folder: Path) -> acceptance.Run:
    """The run as it went, or until somebody ended it; its progress is printed. Without a result the program ends."""
    rig: dict[str, str] = {}
    results: list[acceptance.Result] = []
    never = None
    count = 0
    log = folder / "pytest.log"
    for row in _rows(suite, on, folder, log):
        if row["kind"] == "tests":
            count = row["count"]
        elif row["kind"] == "no rig":
            click.echo(row["why"], err=True)
            sys.exit(BUSY if row["busy"] else UNREACHABLE)
        elif row["kind"] == "rig":
            rig = {name: value for name, value in row.items() if name not in ("kind", "features")}
            click.echo(", ".join(rig.values()))
        elif row["kind"] == "test":
            del row["kind"]
            results.append(acceptance.Result(**row))
            _print(results[-1], len(results), count)
        elif row["kind"] == "end":
            never = row["never_on_a_board"]
    if not results:
        click.echo(log.read_text(encoding="utf-8", errors="replace")[-_LAST_WORDS:], err=True)
        sys.exit(USAGE)
    return replace(run, rig=rig, never=never, results=tuple(results), count=count)


def _rows(suite: Path, on: list[str], folder: Path, log: Path) -> Iterator[dict[str, Any]]:
    reading, writing = os.pipe()
    command = [sys.executable, "-m", "pytest", "-p", "hil_tests.plugin", str(suite), "-m", "shows", *on]
    command += ["--import-mode=importlib", "-p", "no:cacheprovider", f"--timeout={_TEST_S}"]
    command += ["--results", f"/dev/fd/{writing}", "--captures", str(folder / "captures")]
    command += ["--junitxml", str(folder / "junit.xml")]
    with log.open("wb") as said:
        process = subprocess.Popen(command, pass_fds=[writing], stdin=subprocess.DEVNULL, stdout=said, stderr=said)
    os.close(writing)
    for number in (signal.SIGINT, signal.SIGTERM):  # what came until then is reported
        signal.signal(number, lambda _number, _frame: process.terminate())
    try:
        with os.fdopen(reading, encoding="utf-8") as lines:
            for line in lines:
                yield json.loads(line)
    finally:
        process.terminate()
        process.wait()


def _print(result: acceptance.Result, number: int, count: int) -> None:
    words = {
        acceptance.PASSED: click.style(_("passed"), fg="green"),
        acceptance.FAILED: click.style(_("FAILED"), fg="red"),
        acceptance.SKIPPED: click.style(_("not run"), fg="yellow"),
    }
    needs = _(" (needs {names})").format(names=", ".join(result.missing)) if result.missing else ""
    click.echo(f"[{number}/{count}] {words[result.outcome]}{needs}  {_(result.shows)}")
