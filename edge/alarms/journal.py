"""The journal: what happened to alarms, and who did what, in entries that nobody can change unseen. Protocol.

Owns the chain. An entry is the payload of an event; its hash is the SHA-256 of the hash before it and its bytes. So an
entry that is changed, left out or put in breaks every hash after it. The last hash is the head, which each state
document carries; what retention removes leaves its last hash behind as the root. Must never
look further into an entry than its schema.
"""

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass
from gettext import gettext as _

ROOT = bytes(32)  # before the first entry
KINDS = ("alarm", "action")  # of the events that are its entries


@dataclass(frozen=True, slots=True)
class Broken:
    """What is not as it was written: the number of the first such entry of the chain, and what is wrong with it.

    `number` is None of a message that should be an entry and is none: nobody knows which it was.
    """

    number: int | None
    what: str


def link(before: bytes, entry: bytes) -> bytes:
    """The hash of an entry that follows the hash `before`."""
    return hashlib.sha256(before + entry).digest()


def verify(root: bytes, first: int, entries: Iterable[tuple[int, str, bytes, bytes]]) -> tuple[bytes, Broken | None]:
    """The head of a chain of (number, kind, entry, hash) that begins with number `first` after the hash `root`.

    `kind` is what the store takes the entry for, which the hash does not cover. Stops where it is broken, with the
    hash until there.
    """
    head, expected = root, first
    for number, kind, entry, written in entries:
        if number != expected:
            return head, Broken(expected, _("entries are missing before {number}").format(number=number))
        if link(head, entry) != written:
            return head, Broken(number, _("its content or its place was changed"))
        if not _is_of(kind, entry):
            return head, Broken(number, _("the store has it as {kind}, which it is not").format(kind=kind))
        head, expected = written, number + 1
    return head, None


def left_out(messages: Iterable[tuple[str, int, str, bytes]]) -> Broken | None:
    """The first of the events (epoch, number, kind, how it begins) without an entry that should have one."""
    for epoch, seq, kind, begin in messages:
        if kind in KINDS or any(_is_of(each, begin) for each in KINDS):
            text = _("event {seq} of epoch {epoch} tells of an alarm or an action, and is not in the chain")
            return Broken(None, text.format(seq=seq, epoch=epoch))
    return None


def _is_of(kind: str, entry: bytes) -> bool:
    """Its first field is its schema, in the one form that a message has."""
    return entry.startswith(f'{{"schema":"tankgate/{kind}/'.encode())
