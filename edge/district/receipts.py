"""What a district may promise a gateway: everything up to a number, but what is missing. Policy.

Owns how a receipt follows from what the database has. Must never promise what is not committed: a hole that may only
be on its way bounds the promise instead of being asked for, since that would send it again for nothing.
"""

from collections.abc import Iterable
from typing import Any, NamedTuple

from protocols.feeds.sequence import Stream

PERIOD_S = 5.0
ASK_AFTER_S = 30.0  # a hole is asked for when it is this old: brokers and copies deliver in any order
SPEAK_OF_DAYS = 30  # of an epoch of which nothing came for so long and nothing is missing no receipt speaks
RANGES_MAX = 1000  # asked for at once


class Standing(NamedTuple):
    """What the database has of a stream: all up to `last` but the `holes`, ascending (first, last, is_young)."""

    stream: Stream
    last: int
    holes: list[tuple[int, int, bool]]


def promise(standing: Standing) -> tuple[int, list[tuple[int, int]]]:
    """(committed, missing) of one stream."""
    missing: list[tuple[int, int]] = []
    for first, last, is_young in standing.holes:
        if is_young or len(missing) == RANGES_MAX:
            return first - 1, missing
        missing.append((first, last))
    return standing.last, missing


def receipts(standings: Iterable[Standing]) -> dict[str, dict[str, Any]]:
    """By gateway, the `epochs` of its receipt."""
    gateways: dict[str, dict[str, Any]] = {}
    for standing in standings:
        committed, missing = promise(standing)
        gateway, epoch, name = standing.stream
        gateways.setdefault(gateway, {}).setdefault(epoch, {})[name] = {"committed": committed, "missing": missing}
    return gateways
