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
        "received: whoever makes the whole chain anew is found by --head."
    ),
)
@click.argument("gateway_toml", type=click.Path(path_type=Path))
@click.option("--head", "of_district", metavar="sha256:…", help=_("A head that the district has: is it in the chain?"))
@click.option("--json", "as_json", is_flag=True, help=_("One JSON object instead of text."))
def verify_(gateway_toml: Path, of_district: str | None, as_json: bool) -> None:
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
    is_known = of_district is None or of_district in map(_text, (root, *(row[2] for row in entries)))
    if as_json:
        found = None if broken is None else {"number": broken.number, "what": broken.what}
        answer = {"entries": len(entries), "first": first + 1, "head": _text(head), "broken": found}
        click.echo(json.dumps(answer | {"is_head_known": is_known}, ensure_ascii=False))
    elif broken is not None:
        text = _("entry {number}: {what}. Up to there the journal is as it was written.")
        click.echo(text.format(number=broken.number, what=broken.what), err=True)
    elif not is_known:
        text = _("The chain fits together, but the head {head} was never in it: the district knows another one.")
        click.echo(text.format(head=of_district), err=True)
    else:
        text = ngettext(
            "{count} entry, from number {first}: as it was written. Head: {head}",
            "{count} entries, from number {first}: as they were written. Head: {head}",
            len(entries),
        )
        click.echo(text.format(count=len(entries), first=first + 1, head=_text(head)))
    sys.exit(0 if broken is None and is_known else FOUND_A_FAULT)


def _text(hash_: bytes) -> str:
    return f"sha256:{hash_.hex()}"
