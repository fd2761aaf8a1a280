"""How a command's tables look. Shell.

Must never know what they are about.
"""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from math import ceil

from rich.cells import cell_len
from rich.console import Console, ConsoleOptions, RenderResult
from rich.table import Table
from rich.text import Text

_GAP = 2
# What stays in one line: blanks, a word, a Chinese character with the marks that may not begin or end a line beside it.
_PIECE = re.compile(r"\s+|[“（《]*(?:[!-~]+|[^!-~\s])[”）》，。；：、！？]*")
_LAST_LEAST = 20  # the last column may be prose: it takes what is left, and goes on below


@dataclass(frozen=True, slots=True)
class Rows:
    """Rows under headings, without lines. Nothing is cut, whatever the terminal's width and the script's.

    Where a row is too wide for the terminal, its cells stand in two lines, or in as many as it takes; but for the
    first `keys` of them, which say what the row is about.
    """

    title: str
    headings: Sequence[Text]
    rows: Sequence[Sequence[Text]]
    keys: int

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        lines = 1
        while self._room(lines, options) < self._last(lines) and lines < len(self.headings) - self.keys:
            lines += 1
        room = max(self._room(lines, options), _LAST_LEAST)
        laid = Table(title=self.title, title_justify="left", box=None, pad_edge=False)
        headings = self._stacked(_bottom_aligned(self.headings, self._places(lines)), lines)
        for at, heading in enumerate(headings, start=1):
            laid.add_column(heading, overflow="fold", no_wrap=at < len(headings))
        for row in self.rows:
            laid.add_row(*self._stacked(row, lines, room))
        yield laid

    def _places(self, lines: int) -> list[range]:
        """Which cells stand in each of so many lines, beside the keys."""
        each = ceil((len(self.headings) - self.keys) / lines)
        return [range(at, min(at + each, len(self.headings))) for at in range(self.keys, len(self.headings), each)]

    def _stacked(self, row: Sequence[Text], lines: int, room: int | None = None) -> list[Text]:
        """The keys, then cells one below the other; a line without a text is left out.

        Those in the last column go on below where they are wider than `room`. A row's very last cell, which may be
        prose, always stands there.
        """
        places = self._places(lines)
        kept = [line for line in places if any(row[at].plain for at in line)] or places[:1]
        stacked = []
        for line in kept:
            *cells, last = (row[at] for at in line)
            cells += [Text("")] * (len(places[0]) - len(line))
            cells.append(last if room is None else wrapped(last, room))
            height = max(cell.plain.count("\n") for cell in cells)
            stacked.append([cell + Text("\n" * (height - cell.plain.count("\n"))) for cell in cells])
        return [*row[: self.keys], *map(Text("\n").join, zip(*stacked, strict=True))]

    def _widths(self, lines: int) -> list[int]:
        return [
            max(cell_len(text) for cell in column for text in cell.plain.split("\n"))
            for column in zip(*(self._stacked(row, lines) for row in (self.headings, *self.rows)), strict=True)
        ]

    def _room(self, lines: int, options: ConsoleOptions) -> int:
        """What the others leave to the last column."""
        others = self._widths(lines)[:-1]
        return options.max_width - sum(others) - _GAP * len(others)

    def _last(self, lines: int) -> int:
        """What the last column needs."""
        return min(self._widths(lines)[-1], _LAST_LEAST)


def wrapped(text: Text, width: int) -> Text:
    """Prose in lines that are not wider: broken at blanks and between Chinese characters, never within other words."""
    lines: list[Text] = []
    for line in text.split("\n", allow_blank=True):
        breaks, used = [], 0
        for piece in _PIECE.finditer(line.plain):
            if used and not piece[0].isspace() and used + cell_len(piece[0]) > width:
                breaks.append(piece.start())
                used = 0
            used += cell_len(piece[0])
        lines += line.divide(breaks)
    for line in lines:
        line.rstrip()
    return Text("\n").join(lines)


def _bottom_aligned(headings: Sequence[Text], places: Sequence[range]) -> list[Text]:
    """The headings of one line end in one line."""
    lowered = list(headings)
    for line in places:
        height = max(headings[at].plain.count("\n") for at in line)
        for at in line:
            lowered[at] = Text("\n" * (height - headings[at].plain.count("\n"))) + headings[at]
    return lowered


def table(title: str, headings: Iterable[str], rows: Iterable[Iterable[object]], keys: int = 1) -> Rows:
    """Rows of texts; what is None is a dash."""
    return Rows(
        title,
        [Text(heading) for heading in headings],
        [
            [cell if isinstance(cell, Text) else Text("-" if cell is None else str(cell)) for cell in row]
            for row in rows
        ],
        keys,
    )
