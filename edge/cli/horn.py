"""`tankgate horn`: silence the horns, or sound them to hear that they do. Shell.

Must never look anywhere but through the daemon's local door, nor acknowledge an alarm.
"""

import sys
from gettext import gettext as _
from pathlib import Path
from typing import Any

import click

from edge.alarms.horn import TEST_MOST_S, TEST_S
from edge.alarms.words import refusal
from edge.cli import FOUND_A_FAULT
from edge.cli.site import ask_or_exit, load_running_or_exit

_by = click.option("--by", required=True, help=_("Role or badge number of whoever does it; no name."))


@click.group(help=_("Horns and beacons: silence them, test them. Auxiliary: they replace no fire or gas alarm system."))
def command() -> None:
    pass


@command.command(
    help=_("Silence every horn. Nothing is acknowledged by it, and the next alarm sounds again. It ends a test, too.")
)
@click.argument("gateway_toml", type=click.Path(path_type=Path))
@_by
def mute(gateway_toml: Path, by: str) -> None:
    _press(gateway_toml, {"do": "mute", "by": by})
    click.echo(_("muted: the next alarm sounds again"))


@command.command(help=_("All horns and beacons on for a while. Tell the people around first."))
@click.argument("gateway_toml", type=click.Path(path_type=Path))
@click.option("--for", "for_s", type=click.IntRange(1, TEST_MOST_S), default=TEST_S, help=_("Seconds."))
@_by
def test(gateway_toml: Path, for_s: int, by: str) -> None:
    _press(gateway_toml, {"do": "test", "by": by, "for_s": for_s})
    click.echo(_("on for {n} s").format(n=for_s))


def _press(gateway_toml: Path, request: dict[str, Any]) -> None:
    site = load_running_or_exit(gateway_toml, as_json=False)
    if all(output.kind == "fault" for output in site.outputs):
        click.echo(_("this site has no horn or beacon: write [outputs.horn] in gateway.toml"), err=True)
        sys.exit(FOUND_A_FAULT)
    answer = ask_or_exit(site, request)
    if "refused" in answer:
        click.echo(_("{what}: {why}").format(what=f"--{answer['field']}", why=refusal(answer["refused"])), err=True)
        sys.exit(FOUND_A_FAULT)
    if not answer.get("done"):
        click.echo(answer.get("error"), err=True)
        sys.exit(FOUND_A_FAULT)
