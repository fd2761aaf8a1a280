"""How a command's tables look. Shell.

Must never know what they are about.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from math import ceil

from rich.cells import cell_len
from rich.console import Console, ConsoleOptions, RenderResult
from rich.table import Table
from rich.text import Text

_GAP = 2
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
        while self._width(lines) > options.max_width and lines < len(self.headings) - self.keys:
            lines += 1
        laid = Table(title=self.title, title_justify="left", box=None, pad_edge=False)
        headings = self._stacked(_bottom_aligned(self.headings, self._places(lines)), lines)
        for at, heading in enumerate(headings, start=1):
            laid.add_column(heading, overflow="fold", no_wrap=at < len(headings))
        for row in self.rows:
            laid.add_row(*self._stacked(row, lines))
        yield laid

    def _places(self, lines: int) -> list[range]:
        """Which cells stand in each of so many lines, beside the keys."""
        each = ceil((len(self.headings) - self.keys) / lines)
        return [range(at, min(at + each, len(self.headings))) for at in range(self.keys, len(self.headings), each)]

    def _stacked(self, row: Sequence[Text], lines: int) -> list[Text]:
        """The keys, then cells one below the other; a line without a text is left out."""
        places = self._places(lines)
        kept = [line for line in places if any(row[at].plain for at in line)] or places[:1]

        def cell(line: range, at: int) -> Text:  # where a line ends early, nothing of the same height
            return row[line[at]] if at < len(line) else Text("\n" * row[line[0]].plain.count("\n"))

        return [*row[: self.keys], *(Text("\n").join(cell(line, at) for line in kept) for at in range(len(places[0])))]

    def _width(self, lines: int) -> int:
        widths = [
            max(cell_len(text) for cell in column for text in cell.plain.split("\n"))
            for column in zip(*(self._stacked(row, lines) for row in (self.headings, *self.rows)), strict=True)
        ]
        return sum(widths[:-1]) + min(widths[-1], _LAST_LEAST) + _GAP * (len(widths) - 1)


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
