"""`tankgate journal`: whether what happened to alarms, and who did what, stands as it was written. Shell.

Reads the store itself, beside a daemon or without one. Must never write to it.
"""

import json
import re
import sys
from gettext import gettext as _
from gettext import ngettext
from pathlib import Path
from typing import Any

import click

from edge.alarms.journal import ROOT, Broken, left_out, verify
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
    if of_district is not None and not re.fullmatch("sha256:[0-9a-f]{64}", of_district):
        told = _("{text} is no head. Write sha256: and its 64 digits, as the state document has them.")
        raise click.BadParameter(told.format(text=of_district), param_hint="--head")
    site = load_running_or_exit(gateway_toml, as_json=as_json)
    try:
        first, root, entries, others = _read(Path(site.store.path, FILE))
    except (OSError, StoreFault) as fault:
        click.echo(str(fault), err=True)
        sys.exit(FOUND_A_FAULT)
    head, broken = verify(root, first, entries)
    broken = broken or left_out(others)
    is_known: bool | None = of_district is None or of_district in map(_text, (root, *(row[-1] for row in entries)))
    if not is_known and first > 1:
        is_known = None
    if as_json:
        found = None if broken is None else {"number": broken.number, "what": broken.what}
        answer = {"entries": len(entries), "first": first, "head": _text(head), "broken": found}
        click.echo(json.dumps(answer | {"is_head_known": is_known}, ensure_ascii=False))
    elif broken is not None:
        click.echo(_accusation(broken), err=True)
    elif is_known is None:
        text = _(
            "The chain fits together from entry {first} on, which is the oldest that is kept. The head {head} is not "
            "in it: it is older than that, or somebody made the chain anew. The state document that it is from says "
            "when it was: by then entry {first} was not written yet, or was."
        )
        click.echo(text.format(first=first, head=of_district), err=True)
    elif not is_known:
        text = _("The chain fits together, but the head {head} was never in it: the district knows another one.")
        click.echo(text.format(head=of_district), err=True)
    else:
        text = ngettext(
            "{count} entry, from number {first}: as it was written. Head: {head}",
            "{count} entries, from number {first}: as they were written. Head: {head}",
            len(entries),
        )
        click.echo(text.format(count=len(entries), first=first, head=_text(head)))
    sys.exit(0 if broken is None and is_known else FOUND_A_FAULT)


def _read(file: Path) -> tuple[int, bytes, list[Any], list[Any]]:
    """The first number, the hash before it, the entries; and the events that are none. All of one moment."""
    with reading(file) as connection, connection:
        roots: Any = connection.execute("SELECT number, hash FROM journal WHERE seq IS NULL ORDER BY number DESC")
        last_gone, root = roots.fetchone() or (0, ROOT)
        entries = connection.execute(
            "SELECT number, coalesce(kind, ''), CAST(coalesce(body, '') AS BLOB), hash FROM journal LEFT JOIN message"
            " ON message.epoch = journal.epoch AND stream = 'event' AND message.seq = journal.seq"
            " WHERE journal.seq IS NOT NULL ORDER BY number"
        ).fetchall()
        others = connection.execute(
            "SELECT epoch.epoch, seq, kind, CAST(substr(body, 1, 40) AS BLOB) FROM epoch"
            " JOIN message ON message.epoch = epoch.id AND stream = 'event'"
            " WHERE (epoch.id, seq) NOT IN (SELECT epoch, seq FROM journal WHERE seq IS NOT NULL)"
        ).fetchall()
    return last_gone + 1, root, entries, others


def _accusation(broken: Broken) -> str:
    if broken.number is None:
        return _("{what}. The chain itself fits together: its end was cut off, or this was put in.").format(
            what=broken.what
        )
    text = _("entry {number}: {what}. Up to there the journal is as it was written.")
    return text.format(number=broken.number, what=broken.what)


def _text(hash_: bytes) -> str:
    return f"sha256:{hash_.hex()}"
