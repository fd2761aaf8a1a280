"""How a command's tables look. Shell.

Must never know what they are about.
"""

from collections.abc import Iterable

from rich.table import Table
from rich.text import Text


def table(title: str, headings: Iterable[str], rows: Iterable[Iterable[object]]) -> Table:
    """Rows under headings, without lines; what is None is a dash. What is too wide goes on below: nothing is cut."""
    laid = Table(title=title, title_justify="left", box=None, pad_edge=False)
    for heading in headings:
        laid.add_column(heading, overflow="fold")
    for row in rows:
        laid.add_row(*(cell if isinstance(cell, Text) else "-" if cell is None else str(cell) for cell in row))
    return laid
