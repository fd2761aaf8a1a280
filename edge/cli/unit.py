"""`tankgate unit`: what only a person may say of a unit. Shell.

Must never look anywhere but through the daemon's local door, nor accept a device unasked.
"""

import getpass
import sys
from gettext import gettext as _
from pathlib import Path

import click

from edge.cli import FOUND_A_FAULT, UNREACHABLE
from edge.cli.site import load_or_exit
from edge.control import NAME, ask


@click.group(help=_("Units: accept the device that took another one's place."))
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
    site = load_or_exit(gateway_toml, as_json=False)
    door = Path(site.store.path, NAME)
    if not any(point.bus == bus and point.unit_id == unit_id for point in site.points):
        text = _("bus {bus} has no unit {unit_id} in the sheet")
        raise click.BadParameter(text.format(bus=bus, unit_id=unit_id), param_hint="BUS UNIT_ID")
    try:
        answer = ask(door, {"do": "accept_unit", "bus": bus, "unit_id": unit_id, "by": by, "reason": reason})
    except OSError as fault:
        text = _("no daemon answers at {door}: {reason}. Is `tankgate run` running for this site?")
        click.echo(text.format(door=door, reason=fault.strerror or fault), err=True)
        sys.exit(UNREACHABLE)
    if not answer.get("done"):
        told = _("bus {bus} unit {unit_id}: nothing to accept: its serial number is the known one, or was never read")
        click.echo(answer.get("error") or told.format(bus=bus, unit_id=unit_id), err=True)
        sys.exit(FOUND_A_FAULT)
    done = _("bus {bus} unit {unit_id}: accepted, and known by its new serial number")
    click.echo(done.format(bus=bus, unit_id=unit_id))
