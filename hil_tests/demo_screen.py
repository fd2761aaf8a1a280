"""Draws the demo's screen: one frozen View in, lines of text out. A policy.

Never reads a clock, the terminal or a process, and never invents a number: what is not known is a dash, what
is bad is hatched. Widths are rich's own cell widths, so that Chinese and English stand in the same columns.
"""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from gettext import gettext as _

from rich.cells import cell_len, set_cell_size
from rich.text import Text

from hil_tests.bench.ledger import Figures
from protocols.model import quality, status_text

WIDE = 98
NARROW = 80
GASES_SHOWN = 4  # the screen is 27 lines high; the others are one key away
EVENT_LINES = 2  # rules are dropped on a low terminal before events get fewer lines than this

TANK_MARKS = ("H", "HH", "CH")
SEVERE = ("LL", "HH", "CH")
# Where a line may break: after a wide character and the closing mark that belongs to it, or after a space.
WORD = re.compile(r"(?:[\u2e80-\uffef][，。：；、！？）》”]*|[^\s\u2e80-\uffef]+)\s*")


@dataclass(frozen=True, slots=True)
class Hop:
    """One column of the chain: who it is, what it runs, and its one count."""

    name: str
    engine: str
    count: str


@dataclass(frozen=True, slots=True)
class Row:
    """One measuring point: the plant's truth beside what the district received, with its age.

    `status` is a code of protocols.model, NEVER_READ until the first reading came. `state` is what a tank
    that is read well is doing, or "" where there is nothing to say.
    """

    name: str
    unit_text: str
    decimals: int
    range_low: float
    range_high: float
    limits: tuple[tuple[str, float], ...]
    truth: float | None
    received: float | None
    status: int
    age_ms: int | None
    state: str = ""
    to_high_high_s: float | None = None

    @property
    def bad(self) -> bool:
        return quality(self.status) == "BAD"

    @property
    def excess(self) -> int:
        """0: inside its limits, 1: past the first limit, 2: past the second."""
        if self.received is None:
            return 0
        past = [
            kind
            for kind, limit in self.limits
            if (self.received <= limit if kind in ("L", "LL") else self.received >= limit)
        ]
        return 2 if any(kind in SEVERE for kind in past) else 1 if past else 0

    @property
    def normal(self) -> bool:
        return self.status == 0 and not self.excess


@dataclass(frozen=True, slots=True)
class View:
    """Everything that the screen shows at one moment."""

    site: str
    gateway: str
    elapsed_s: int
    hops: tuple[Hop, ...]
    figures: Figures
    tanks: tuple[Row, ...]
    gases: tuple[Row, ...]
    events: tuple[str, ...]  # newest first
    paused: bool = False
    expanded: bool = False  # every gas detector, in the tanks' place


@dataclass(frozen=True, slots=True)
class _Columns:
    """Widths in cells, left to right, without what stands between them; a width of 0 is a column left out."""

    hop: tuple[int, ...]
    arrow: str
    name: int
    truth: int
    received: int
    age: int
    bar: int
    time: int
    state: int


WIDE_COLUMNS = _Columns((18, 19, 13, 13, 13, 16), " ──▶", 14, 11, 12, 7, 26, 7, 16)
NARROW_COLUMNS = _Columns((13, 16, 11, 11, 11, 12), "▶", 14, 0, 13, 7, 18, 7, 16)


def lines(view: View, width: int, height: int) -> list[Text]:
    """The screen from top to bottom: at most `height` lines of 98 cells, or of 80 where 98 do not fit."""
    columns, width = (WIDE_COLUMNS, WIDE) if width >= WIDE else (NARROW_COLUMNS, NARROW)
    blocks = [[_header(view, width)], [*_chain(view.hops, columns), _ledger(view.figures, width)]]
    if not view.expanded:
        blocks.append([_tank_heading(columns), *(_row(row, columns, TANK_MARKS) for row in view.tanks)])
    blocks.append(_gas_block(view, columns))
    keys = _keys(view.paused, width)

    taken = sum(len(block) for block in blocks) + 1
    rules = min(len(blocks) + 1, max(0, height - taken - EVENT_LINES))
    room = max(0, height - taken - rules)
    events = [line for text in view.events for line in wrapped(text, width - 2)]
    blocks += [[Text(f" {line}") for line in events[:room]] + [Text()] * (room - len(events)), [keys]]
    drawn = _ruled(blocks, rules, width)[:height]
    for line in drawn:
        line.no_wrap, line.overflow = True, "crop"
    return drawn


def plain(view: View) -> str:
    """The same figures in one line, for a log or a pipe."""
    rows = [row for row in (*view.tanks, *view.gases) if not row.normal and row.age_ms is not None]
    troubles = ", ".join(f"{row.name} {_received(row)} {_state(row)}" for row in rows)
    counts = "  ".join(text for text, _is_red in _figures(view.figures))
    return f"{_elapsed(view.elapsed_s)}  {counts}" + (f"  {troubles}" if troubles else "")


def wrapped(text: str, width: int) -> list[str]:
    """`text` in lines of at most `width` cells, broken between words or after a wide character."""
    done: list[str] = []
    line = ""
    for word in WORD.findall(text):
        if line and cell_len(line) + cell_len(word.rstrip()) > width:
            done.append(line.rstrip())
            line = "  "
        line += word
    return [*done, line.rstrip()]


def _ruled(blocks: Sequence[Sequence[Text]], rules: int, width: int) -> list[Text]:
    """The blocks with `rules` rules between them; where there are few, the upper blocks stand together."""
    without = len(blocks) - 1 - rules
    result: list[Text] = []
    for index, block in enumerate(blocks):
        if index > max(0, without):
            result.append(Text("─" * width, style="dim"))
        result += block
    return result


def _header(view: View, width: int) -> Text:
    left = _(" tankgate demo · {site} ({gateway})").format(site=view.site, gateway=view.gateway)
    right = _("simulated site, real programs") + f"   {_elapsed(view.elapsed_s)}"
    gap = width - cell_len(left) - cell_len(right)
    if gap < 2:
        left, gap = _left(left, cell_len(left) + gap - 1), 1
    return Text(left + " " * gap + right, style="bold")


def _elapsed(elapsed_s: int) -> str:
    return f"{elapsed_s // 60:02d}:{elapsed_s % 60:02d}"


def _chain(hops: Sequence[Hop], columns: _Columns) -> list[Text]:
    names = [hop.name + columns.arrow for hop in hops[:-1]] + [hop.name for hop in hops[-1:]]
    rows = (names, [hop.engine for hop in hops], [hop.count for hop in hops])
    result = []
    for row, style in zip(rows, ("bold", "dim", ""), strict=True):
        cells = (_left(cell, width) for cell, width in zip(row, columns.hop, strict=True))
        result.append(Text(" " + " ".join(cells), style=style))
    return result


def balanced(figures: Figures) -> bool:
    """Nothing lost, duplicated or wrong. What a Gap record admits is not lost: the district knows of it."""
    return not (figures.lost or figures.duplicated or figures.wrong_values)


def _figures(figures: Figures) -> list[tuple[str, bool]]:
    """Each count and whether it is to be red."""
    p99 = "—" if figures.p99_ms is None else f"{figures.p99_ms / 1000:.2f} s"
    counts = [
        (_("due {n}").format(n=figures.due), False),
        (_("received {n}").format(n=figures.received), False),
        (_("in flight {n}").format(n=figures.in_flight), False),
        (_("in gaps {n}").format(n=figures.admitted), False),
        (_("lost {n}").format(n=figures.lost), figures.lost > 0),
        (_("duplicated {n}").format(n=figures.duplicated), figures.duplicated > 0),
        (_("wrong {n}").format(n=figures.wrong_values), figures.wrong_values > 0),
        (f"p99 {p99}", False),
    ]
    return counts if figures.admitted else counts[:3] + counts[4:]


def _ledger(figures: Figures, width: int) -> Text:
    counts = _figures(figures)
    text = _fitted(_("By the truth"), [count for count, _is_red in counts], width)
    text.stylize("green" if balanced(figures) else "")
    for count, is_red in counts:
        if is_red:
            text.highlight_words([count], "bold white on red")
    return text


def _fitted(title: str, parts: Sequence[str], width: int) -> Text:
    """Title and parts in one line, as loosely as fits: two spaces, one, no title, no space after a key."""
    glued = [part.replace(" ", "", 1) if part[1:2] == " " else part for part in parts]
    for line in ("  ".join((title, *parts)), " ".join((title, *parts)), " ".join(parts), " ".join(glued)):
        if 1 + cell_len(line) <= width:
            break
    return Text(f" {line}")


def _grid(columns: _Columns, name: str, truth: str, received: str, age: str, bar: Text, time: str) -> Text:
    """One line of a table up to its last column."""
    text = Text(" " + _left(name, columns.name)).append(_right(truth, columns.truth), style="dim")
    text.append(_right(received, columns.received) + _right(age, columns.age) + "  ").append_text(bar)
    return text.append(" " + _left(time, columns.time) + " ")


def _heading(title: str, bar: str, time: str, columns: _Columns) -> Text:
    marks = Text(_left(bar, columns.bar))
    text = _grid(columns, title, _("truth"), _("received"), _("age"), marks, time).append(_("status"))
    text.stylize("dim")
    return text


def _tank_heading(columns: _Columns) -> Text:
    level, marks = _("level"), _("│: H HH overflow")
    full = f"{level}  ({marks})"
    return _heading(_("Tank"), full if cell_len(full) <= columns.bar else marks, _("to HH"), columns)


def _gas_block(view: View, columns: _Columns) -> list[Text]:
    shown = view.gases if view.expanded else _chosen(view.gases, GASES_SHOWN)
    block = [_heading(_("Gas"), _("│: limits"), "", columns), *(_row(row, columns, None) for row in shown)]
    hidden = [row for row in view.gases if row not in shown]
    if view.expanded:
        rest = _("↑ brings the tanks back")
    elif all(row.normal for row in hidden):
        rest = _("{n} more, all normal; ↓ shows them").format(n=len(hidden))
    else:
        abnormal = sum(not row.normal for row in hidden)
        rest = _("{n} more, {abnormal} not normal; ↓ shows them").format(n=len(hidden), abnormal=abnormal)
    return [*block, Text(f"   {rest}", style="dim")]


def _chosen(rows: Sequence[Row], count: int) -> tuple[Row, ...]:
    """The rows that need to be seen, filled up from the end of the sheet, in the sheet's order."""
    ranked = sorted(range(len(rows)), key=lambda index: (rows[index].normal, -index))
    return tuple(rows[index] for index in sorted(ranked[:count]))


def _row(row: Row, columns: _Columns, kinds: Iterable[str] | None) -> Text:
    """One point; `kinds` names the limits to mark, None: all."""
    age = "—" if row.age_ms is None else f"{row.age_ms / 1000:.1f} s"
    time = _time_to_go(row) if kinds else ""
    bar = _bar(row, columns.bar, kinds)
    text = _grid(columns, row.name, _value(row.truth, row), _received(row), age, bar, time)
    return text.append(_left(_state(row), columns.state), style=_style(row))


def _received(row: Row) -> str:
    return _("invalid") if row.bad else _value(row.received, row)


def _value(value: float | None, row: Row) -> str:
    return "—" if value is None else f"{value:.{row.decimals}f} {row.unit_text}"


def _state(row: Row) -> str:
    return row.state if row.status == 0 and row.state else status_text(row.status)


def _style(row: Row) -> str:
    if row.bad or row.excess == 2:
        return "red"
    return "yellow" if row.status or row.excess else "cyan"


def _time_to_go(row: Row) -> str:
    if row.to_high_high_s is None:
        return "—"
    if row.to_high_high_s < 60:
        return _("{n} s").format(n=round(row.to_high_high_s))
    return _("{n} min").format(n=round(row.to_high_high_s / 60))


def _bar(row: Row, width: int, kinds: Iterable[str] | None) -> Text:
    """A bar with its limits marked; hatched where there is no value, because an empty bar would say zero."""
    if row.bad or row.received is None:
        return Text("╱" * width, style="red")
    per_cell = width / (row.range_high - row.range_low)
    filled = min(width, max(0, round((row.received - row.range_low) * per_cell)))
    cells = ["█"] * filled + ["·"] * (width - filled)
    for kind, limit in row.limits:
        if kinds is None or kind in kinds:
            cell = min(width - 1, round((limit - row.range_low) * per_cell))
            cells[cell] = "┃" if cell < filled else "│"
    return Text("".join(cells), style=_style(row))


def _keys(paused: bool, width: int) -> Text:
    parts = [
        _("1 sensor"),
        _("2 gateway"),
        _("3 platform"),
        _("4 board"),
        _("5 leak"),
        _("6 noise"),
        _("7 clock"),
        _("space go on") if paused else _("space pause"),
        _("q quit"),
    ]
    text = _fitted(_("Break it"), parts, width)
    text.highlight_regex(r"(?<!\S)\d", "reverse")
    return text


def _left(text: str, width: int) -> str:
    """Padded to `width` cells; cut, with a mark, where it is longer."""
    if cell_len(text) > width:
        return set_cell_size(text, width - 1) + "…"
    return set_cell_size(text, width)


def _right(text: str, width: int) -> str:
    return " " * max(0, width - cell_len(text)) + text if width else ""
