"""`tankgate config apply`: changed files for a daemon that goes on running. Shell.

Must never let a daemon see files with a problem: they are checked here first, and by the daemon again.
"""

import getpass
import json
import sys
from gettext import gettext as _
from pathlib import Path
from typing import Any

import click

from edge.apart import PATIENCE_S
from edge.cli import BUSY, USAGE, Group
from edge.cli.site import ask_or_exit, examine_and_judge, refuse, remind
from edge.control import language


def _summary(applied: dict[str, Any]) -> list[str]:
    texts = {
        "points_added": _("points added: {names}"),
        "points_removed": _("points removed: {names}"),
        "points_changed": _("points changed: {names}"),
        "boards_planned": _("boards with a new read plan: {names}"),
        "destinations_stopped": _("destinations stopped: {names}"),
        "destinations_started": _("destinations started: {names}"),
    }
    lines = [text.format(names=_(", ").join(applied[key])) for key, text in texts.items() if applied[key]]
    if applied["is_new"]:
        return [*lines, _("birth {birth} is in force").format(birth=applied["birth"])]
    return [_("nothing changed")]


@click.group(cls=Group, help=_("Give changed files to the running daemon."))
def command() -> None:
    pass


@command.command(
    help=_("Check the site's files, and let the running daemon change to them; what is the same goes on undisturbed.")
)
@click.argument("gateway_toml", type=click.Path(path_type=Path))
@click.option("--by", default=getpass.getuser, help=_("Who says so; otherwise the user of this command."))
@click.option("--json", "as_json", is_flag=True, help=_("One JSON object instead of sentences."))
def apply(gateway_toml: Path, by: str, as_json: bool) -> None:
    examined = examine_and_judge(gateway_toml)
    if not as_json:
        remind(examined.warnings)
    if examined.site is None:
        refuse(examined.problems, gateway_toml.parent, as_json=as_json)
    request = {"do": "apply", "gateway_toml": str(gateway_toml.resolve()), "by": by, "language": language()}
    answer = ask_or_exit(examined.site, request, PATIENCE_S)
    if as_json:
        click.echo(json.dumps(answer, ensure_ascii=False))
    elif "problems" in answer:
        for problem in answer["problems"]:
            click.echo(problem, err=True)
        click.echo(_("Nothing was changed."), err=True)
    elif "busy" in answer:
        click.echo(_("the daemon is changing to other files at this moment: try again"), err=True)
    else:
        for line in _summary(answer):
            click.echo(line)
    sys.exit(USAGE if "problems" in answer else BUSY if "busy" in answer else 0)
