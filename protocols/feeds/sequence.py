"""Which numbered messages of the feed have come, and which have not. Protocol.

Owns a message's identity, and sets of its numbers. Must never forget a number: a stream of years is a handful
of ranges.
"""

from bisect import bisect_left
from collections.abc import Iterable, Iterator, Mapping
from math import inf
from typing import Any, NamedTuple


class Stream(NamedTuple):
    """What is numbered without holes; `name` is "data" or "event"."""

    gateway: str
    epoch: str
    name: str


def identity(topic: str, payload: Any) -> tuple[Stream, int] | None:
    """Stream and number of what came on this topic; None for what is not numbered, or has no such shape.

    A retained birth carries the number of its event and is no message of the stream.
    """
    level = topic.split("/")[3:4]
    if level not in (["data"], ["event"]) or not isinstance(payload, Mapping):
        return None
    match payload:
        case {"gateway": str(gateway), "epoch": str(epoch), "stream": str(name), "seq": int(seq)}:
            return Stream(gateway, epoch, name), seq
    return None


class Ranges:
    """A set of numbers as ascending ranges (first, last) that do not touch."""

    def __init__(self, ranges: Iterable[tuple[int, int]] = ()) -> None:
        self._ranges: list[tuple[int, int]] = []
        for first, last in ranges:
            self.add(first, last)

    def __iter__(self) -> Iterator[tuple[int, int]]:
        return iter(self._ranges)

    def __bool__(self) -> bool:
        return bool(self._ranges)

    def __contains__(self, number: int) -> bool:
        at = bisect_left(self._ranges, number, key=_last)
        return at < len(self._ranges) and self._ranges[at][0] <= number

    def add(self, first: int, last: int) -> None:
        """All from `first` to `last`; nothing where they cross."""
        if first > last:
            return
        begin = end = bisect_left(self._ranges, first - 1, key=_last)
        while end < len(self._ranges) and self._ranges[end][0] <= last + 1:
            first = min(first, self._ranges[end][0])
            last = max(last, self._ranges[end][1])
            end += 1
        self._ranges[begin:end] = [(first, last)]

    def without(self, *others: Iterable[tuple[int, int]]) -> "Ranges":
        """What is in this set and in none of the others."""
        taken = list(Ranges(range_ for other in others for range_ in other))
        rest = Ranges()
        begin = 0
        for first, last in self:
            while begin < len(taken) and taken[begin][1] < first:
                begin += 1
            at = begin
            while at < len(taken) and taken[at][0] <= last:
                rest.add(first, taken[at][0] - 1)
                first = taken[at][1] + 1
                at += 1
            rest.add(first, last)
        return rest

    def missing(self, last: int) -> Iterator[tuple[int, int]]:
        """The ranges of 1 to `last` that are not in the set."""
        begin = 1
        for first, end in self._ranges:
            if begin < first:
                yield begin, first - 1
            begin = end + 1
        if begin <= last:
            yield begin, last

    def at_most(self, count: int) -> list[tuple[int, int]]:
        """So many ranges of it; where there are more, the last one covers the rest."""
        ranges = self._ranges[:count]
        if ranges:
            ranges[-1] = ranges[-1][0], self._ranges[-1][1]
        return ranges

    def take(self, least: int = 1, most: float = inf) -> int | None:
        """Remove the lowest number from `least` to `most`; it, or None where there is none."""
        at = bisect_left(self._ranges, least, key=_last)
        if at == len(self._ranges) or self._ranges[at][0] > most:
            return None
        first, last = self._ranges[at]
        taken = max(first, least)
        rest = [(first, taken - 1), (taken + 1, last)]
        self._ranges[at : at + 1] = [each for each in rest if each[0] <= each[1]]
        return taken

    def count(self) -> int:
        """How many numbers."""
        return sum(last - first + 1 for first, last in self)


def _last(range_: tuple[int, int]) -> int:
    return range_[1]
