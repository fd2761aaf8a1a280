"""The journal: what happened to alarms, and who did what, in entries that nobody can change unseen. Protocol.

Owns the chain. Each entry is JSON in one form only; its hash is the SHA-256 of the hash before it and its bytes. So an
entry that is changed, left out or put in breaks every hash after it. The last hash is the head, which each state
document carries; what retention removes leaves its last hash behind as the root. `who` is a role or a badge number,
never a name. Must never write two forms of one entry.
"""

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from gettext import gettext as _
from typing import Any

ROOT = bytes(32)  # before the first entry


@dataclass(frozen=True, slots=True)
class Broken:
    """The first entry of a chain that is not what was written: its number, and what is wrong."""

    number: int
    what: str


def entry_bytes(number: int, content: Mapping[str, Any]) -> bytes:
    """One entry as it is stored; keys in order, no spaces, UTF-8. ValueError for what is no JSON."""
    whole = {"number": number, **content}
    return json.dumps(whole, ensure_ascii=False, separators=(",", ":"), sort_keys=True, allow_nan=False).encode()


def link(before: bytes, entry: bytes) -> bytes:
    """The hash of an entry that follows the hash `before`."""
    return hashlib.sha256(before + entry).digest()


def verify(root: bytes, first: int, entries: Iterable[tuple[int, bytes, bytes]]) -> tuple[bytes, Broken | None]:
    """The head of a chain of (number, entry, hash) that begins with number `first` after the hash `root`.

    Stops where it is broken, with the hash until there.
    """
    head, expected = root, first
    for number, entry, written in entries:
        if number != expected:
            return head, Broken(expected, _("entries are missing before {number}").format(number=number))
        if link(head, entry) != written:
            return head, Broken(number, _("its content or its place was changed"))
        head, expected = written, number + 1
    return head, None
