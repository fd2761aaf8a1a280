"""`tankgate journal`: whether what happened to alarms, and who did what, stands as it was written. Shell.

Reads the store itself, beside a daemon or without one. Must never write to it.
"""

import json
import sys
from gettext import gettext as _
from gettext import ngettext
from pathlib import Path
from typing import Any

import click

from edge.alarms.journal import ROOT, verify
from edge.cli import FOUND_A_FAULT
from edge.cli.site import load_running_or_exit
from edge.store import FILE, StoreFault, reading


@click.group(help=_("The journal: whether anybody has changed it."))
def command() -> None:
    pass


@command.command(
    name="verify",
    help=_(
        "Check the chain from its root to its head. The head also stands in each state document that the district has "
        "received: compare the two."
    ),
)
@click.argument("gateway_toml", type=click.Path(path_type=Path))
@click.option("--json", "as_json", is_flag=True, help=_("One JSON object instead of text."))
def verify_(gateway_toml: Path, as_json: bool) -> None:
    site = load_running_or_exit(gateway_toml, as_json=as_json)
    try:
        with reading(Path(site.store.path, FILE)) as connection:
            roots: Any = connection.execute("SELECT number, hash FROM journal WHERE seq IS NULL ORDER BY number DESC")
            first, root = roots.fetchone() or (0, ROOT)
            entries: list[Any] = connection.execute(
                "SELECT number, CAST(coalesce(body, '') AS BLOB), hash FROM journal LEFT JOIN message"
                " ON message.epoch = journal.epoch AND stream = 'event' AND message.seq = journal.seq"
                " WHERE journal.seq IS NOT NULL ORDER BY number"
            ).fetchall()
    except (OSError, StoreFault) as fault:
        click.echo(str(fault), err=True)
        sys.exit(FOUND_A_FAULT)
    head, broken = verify(root, first + 1, entries)
    if as_json:
        found = None if broken is None else {"number": broken.number, "what": broken.what}
        answer = {"entries": len(entries), "first": first + 1, "head": f"sha256:{head.hex()}", "broken": found}
        click.echo(json.dumps(answer, ensure_ascii=False))
    elif broken is not None:
        text = _("entry {number}: {what}. Up to there the journal is as it was written.")
        click.echo(text.format(number=broken.number, what=broken.what), err=True)
    else:
        text = ngettext(
            "{count} entry, from number {first}: as it was written. Head: {head}",
            "{count} entries, from number {first}: as they were written. Head: {head}",
            len(entries),
        )
        click.echo(text.format(count=len(entries), first=first + 1, head=f"sha256:{head.hex()}"))
    sys.exit(FOUND_A_FAULT if broken is not None else 0)
