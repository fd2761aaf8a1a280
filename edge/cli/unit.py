"""`tankgate unit`: what only a person may say of a unit. Shell.

Must never look anywhere but through the daemon's local door, nor accept a device unasked.
"""

import getpass
import sys
from gettext import gettext as _
from pathlib import Path

import click

from edge.cli import FOUND_A_FAULT, Group
from edge.cli.site import ask_or_exit, load_running_or_exit


@click.group(cls=Group, help=_("Units: accept the device that took another one's place."))
def command() -> None:
    pass


@command.command(
    help=_(
        "The device that answers at this unit is the right one. Its serial number was another than before, so its "
        "points have had the status \"unit replaced?\" and no value; from now on they are good again. Check its range, "
        "gas and calibration first."
    )
)
@click.argument("gateway_toml", type=click.Path(path_type=Path))
@click.argument("bus")
@click.argument("unit_id", type=click.IntRange(1, 247))
@click.option("--by", default=getpass.getuser, help=_("Who says so; otherwise the user of this command."))
@click.option("--reason", help=_("Why, for the journal."))
def accept(gateway_toml: Path, bus: str, unit_id: int, by: str, reason: str | None) -> None:
    site = load_running_or_exit(gateway_toml, as_json=False)
    units = sorted({(point.bus, point.unit_id) for point in site.points})
    if (bus, unit_id) not in units:
        text = _("bus {bus} has no unit {unit_id} in the sheet. Allowed are: {allowed}.")
        allowed = [str(known) for of, known in units if of == bus] or sorted({of for of, _unit_id in units})
        text = text.format(bus=bus, unit_id=unit_id, allowed=_(", ").join(allowed))
        raise click.BadParameter(text, param_hint="BUS UNIT_ID")
    answer = ask_or_exit(site, {"do": "accept_unit", "bus": bus, "unit_id": unit_id, "by": by, "reason": reason})
    if not answer.get("done"):
        told = _("bus {bus} unit {unit_id}: nothing to accept: its serial number is the known one, or was never read")
        click.echo(answer.get("error") or told.format(bus=bus, unit_id=unit_id), err=True)
        sys.exit(FOUND_A_FAULT)
    done = _("bus {bus} unit {unit_id}: accepted, and known by its new serial number")
    click.echo(done.format(bus=bus, unit_id=unit_id))
