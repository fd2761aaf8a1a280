"""The site's files, for every command that starts from them. Shell.

Must never let a traceback stand for a mistake in a file.
"""

import json
import sys
from collections.abc import Iterable, Sequence
from dataclasses import asdict, replace
from gettext import gettext as _
from gettext import ngettext
from pathlib import Path
from typing import Any, NoReturn

import click

from edge import last_good, serial_port
from edge.cli import UNREACHABLE, USAGE
from edge.config import Examined, examine
from edge.control import NAME, ask
from edge.fault_words import reason
from edge.forecast import Forecast, forecast, judge
from edge.planning import compile_board
from edge.problem import Problem
from protocols.model import Site


def load_or_exit(gateway_toml: Path, *, as_json: bool) -> Site:
    """The site; reminders are printed. With problems, all of them are printed and the program ends: USAGE.

    As JSON the problems are one object on stdout, and reminders are not printed with a site that is in order.
    """
    examined = examine(gateway_toml)
    if not as_json:
        remind(examined.warnings)
    if examined.site is None:
        refuse(examined.problems, gateway_toml.parent, as_json=as_json)
    return examined.site


def remind(warnings: Iterable[Problem]) -> None:
    """Print what is worth a reminder."""
    for warning in warnings:
        click.echo(_("Reminder: {warning}").format(warning=warning), err=True)


def refuse(problems: Sequence[Problem], folder: Path, *, as_json: bool) -> NoReturn:
    """Print every problem of a site's files, and end the program: USAGE."""
    if as_json:
        click.echo(json.dumps({"problems": [asdict(problem) for problem in problems]}, ensure_ascii=False))
        sys.exit(USAGE)
    for problem in problems:
        click.echo(str(problem), err=True)
    text = ngettext("{count} problem in {folder}.", "{count} problems in {folder}.", len(problems))
    click.echo(text.format(count=len(problems), folder=folder.resolve()), err=True)
    sys.exit(USAGE)


def load_running_or_exit(gateway_toml: Path, *, as_json: bool) -> Site:
    """The site that a daemon runs on, whatever has become of its files; without last good ones as `load_or_exit`."""
    found = last_good.find(gateway_toml)
    kept = None if found is None else examine(gateway_toml, found[1]).site
    return load_or_exit(gateway_toml, as_json=as_json) if kept is None else kept


def ask_or_exit(site: Site, request: dict[str, Any], timeout_s: float = 5.0) -> dict[str, Any]:
    """The answer of this site's daemon; without one the program ends: UNREACHABLE."""
    answer = ask_or_why(site, request, timeout_s)
    if isinstance(answer, str):
        click.echo(answer, err=True)
        sys.exit(UNREACHABLE)
    return answer


def ask_or_why(site: Site, request: dict[str, Any], timeout_s: float = 5.0) -> dict[str, Any] | str:
    """The answer of this site's daemon, or the sentence that says why there is none."""
    door = Path(site.store.path, NAME)
    try:
        return ask(door, request, timeout_s)
    except OSError as fault:
        text = _("no daemon answers at {door}: {reason}. Is `tankgate run` running for this site?")
        is_absent = isinstance(fault, FileNotFoundError | NotADirectoryError | ConnectionRefusedError)
        return text.format(door=door, reason=_("none runs") if is_absent else reason(fault))


def foresee(site: Site) -> Forecast:
    """What the site will do."""
    compiled = (compile_board(site, board.name, birth_id="00000000", taken_generations=()) for board in site.boards)
    return forecast(site, [plan for plan in compiled if plan is not None], serial_port.BAUD)


def examine_and_judge(gateway_toml: Path) -> Examined:
    """The files, and whether their plans can hold what is asked of them. No site where they cannot."""
    examined = examine(gateway_toml)
    if examined.site is None:
        return examined
    site = examined.site
    problems, reminders = map(examined.placed, judge(site, foresee(site), gateway_toml.name, examined.sheet))
    warnings = (*examined.warnings, *reminders)
    return replace(examined, site=None if problems else site, problems=problems, warnings=warnings)
