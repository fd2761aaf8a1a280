"""What is wrong with a site's files, in words a technician can act on. Policy.

Owns the form of a problem (place, field, value, sentence, code) and the guess at what was meant. Must never
decide what is allowed. A code means the same in every language and is never given another meaning: E-... is
refused, W-... is a reminder.
"""

import unicodedata
from collections.abc import Iterable
from dataclasses import dataclass
from difflib import get_close_matches
from gettext import gettext as _


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing that is wrong, or worth a reminder, in one place of one file.

    `line` counts the lines of a TOML file, `row` the rows of a sheet as a spreadsheet shows them; at most one
    is set. `value` is what stands there, None where nothing does.
    """

    code: str
    file: str
    field: str
    value: str | None
    text: str
    line: int | None = None
    row: int | None = None
    point: str = ""

    def __str__(self) -> str:
        if self.row is not None:
            place = _("{file} row {row}").format(file=self.file, row=self.row)
        elif self.line is not None:
            place = _("{file} line {line}").format(file=self.file, line=self.line)
        else:
            place = self.file
        where = " ".join(filter(None, (place, self.point, self.field and f"[{self.field}]")))
        if self.value is not None:
            where = f"{where} = {self.value}"
        return _("{where}: {text} {code}").format(where=where, text=self.text, code=self.code)


class ConfigError(Exception):
    """The site's files cannot be used: all their problems at once, none of them the program's fault."""

    def __init__(self, problems: tuple[Problem, ...], warnings: tuple[Problem, ...]) -> None:
        super().__init__("\n".join(map(str, problems)))
        self.problems = problems
        self.warnings = warnings


def half_width(text: str) -> str:
    """The text with full-width letters, digits and marks as the English keyboard has them."""
    return unicodedata.normalize("NFKC", text).strip()


def nearest(value: str, allowed: Iterable[str]) -> str | None:
    """The allowed word that was probably meant; None when no one is near."""
    words = {word.casefold(): word for word in allowed}
    close = get_close_matches(half_width(value).casefold(), words, n=1)
    return words[close[0]] if close else None


def did_you_mean(value: str, allowed: Iterable[str]) -> str:
    """A sentence to append, naming the nearest allowed word; empty when there is none."""
    word = nearest(value, allowed)
    return _(" Did you mean “{word}”?").format(word=word) if word else ""


def one_of(allowed: Iterable[str]) -> str:
    """The allowed words as a list for a sentence."""
    return _(", ").join(allowed)
