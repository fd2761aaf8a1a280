"""The site's files, for every command that starts from them. Shell.

Must never let a traceback stand for a mistake in a file.
"""

import json
import os
import pickle
import sys
from collections.abc import Iterable, Sequence
from dataclasses import asdict
from gettext import gettext as _
from gettext import ngettext
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

import click

from edge.cli import USAGE
from protocols.model import Site

if TYPE_CHECKING:
    from edge.problem import Problem


def load_or_exit(gateway_toml: Path, *, as_json: bool) -> Site:
    """The site; reminders are printed. With problems, all of them are printed and the program ends: USAGE.

    As JSON the problems are one object on stdout, and reminders are not printed with a site that is in order.
    """
    from edge.config import examine  # here, so that a daemon does not carry what checks its files

    examined = examine(gateway_toml)
    if not as_json:
        remind(examined.warnings)
    if examined.site is None:
        refuse(examined.problems, gateway_toml.parent, as_json=as_json)
    return examined.site


def remind(warnings: "Iterable[Problem]") -> None:
    """Print what is worth a reminder."""
    for warning in warnings:
        click.echo(_("Reminder: {warning}").format(warning=warning), err=True)


def refuse(problems: "Sequence[Problem]", folder: Path, *, as_json: bool) -> NoReturn:
    """Print every problem of a site's files, and end the program: USAGE."""
    if as_json:
        click.echo(json.dumps({"problems": [asdict(problem) for problem in problems]}, ensure_ascii=False))
        sys.exit(USAGE)
    for problem in problems:
        click.echo(str(problem), err=True)
    text = ngettext("{count} problem in {folder}.", "{count} problems in {folder}.", len(problems))
    click.echo(text.format(count=len(problems), folder=folder), err=True)
    sys.exit(USAGE)


def load_apart_or_exit(gateway_toml: Path, *, as_json: bool) -> Site:
    """The same in a process of its own: a daemon keeps the site for years, but not the 13 MiB that check it."""
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(reading)
        checked = load_or_exit(gateway_toml, as_json=as_json)
        with os.fdopen(writing, "wb") as pipe:
            pickle.dump(checked, pipe)
        sys.exit(0)
    os.close(writing)
    with os.fdopen(reading, "rb") as pipe:
        pickled = pipe.read()
    _pid, status = os.waitpid(child, 0)
    if status:
        sys.exit(os.waitstatus_to_exitcode(status))
    site: Site = pickle.loads(pickled)
    return site
