"""A soak's rows as one picture: memory, lines, latency and the account over time, troubles as shades. Shell.

Must never smooth: every row is drawn.
"""

from collections.abc import Mapping, Sequence
from itertools import groupby
from pathlib import Path
from statistics import linear_regression

import matplotlib

matplotlib.use("Agg")  # no window: this runs where there is no screen
from matplotlib import pyplot as plt  # noqa: E402
from matplotlib.axes import Axes  # noqa: E402
from matplotlib.patches import Rectangle  # noqa: E402

Rows = Sequence[Mapping[str, float | str]]
_COLOURS = ("#0b5fa5", "#c44e00", "#2b7a3d", "#7a3b8f")
_SHADES = ("#f2d7d5", "#fdebd0", "#fcf3cf", "#d5f5e3", "#d6eaf8", "#e8daef", "#e5e7e9")
_SLOPE_FROM = 1 / 3  # what a program still learns in its first third is no slope
_SLOPE_MINUTES = 20  # of a shorter stretch it is noise


def draw(rows: Rows, file: Path) -> None:
    """Write the picture, PNG."""
    minutes = [float(row["t_s"]) / 60 for row in rows]
    figure, panels = plt.subplots(4, 1, figsize=(12, 12), sharex=True, constrained_layout=True)
    memory, lines, latency, account = panels

    for name, colour in (("gateway", _COLOURS[0]), ("board", _COLOURS[2])):
        values = [float(row[f"{name}_mib"]) for row in rows]
        memory.plot(minutes, values, color=colour, label=f"{name}\n{_slope(minutes, values)}")
    values = [float(row["receiver_mib"]) or float("nan") for row in rows]  # one that is away has no memory
    memory.plot(minutes, values, color=_COLOURS[1], label="receiver\n(restarted)")
    memory.set(ylabel="RSS, MiB", ylim=(0, None), title="Memory; slopes over the last two thirds")

    for bus, colour in (("level", _COLOURS[0]), ("gas", _COLOURS[1])):
        load = [float(row[f"load_{bus}_pct"]) for row in rows]
        lines.step(minutes, load, where="post", color=colour, label=f"{bus}: load, %,\nboard's last minute")
        polls = [float(row[f"polls_{bus}_per_s"]) for row in rows]
        lines.plot(minutes, polls, color=colour, alpha=0.45, linewidth=0.9, label=f"{bus}: requests/s")
    ring = [float(row["ring_used_pct"]) for row in rows]
    lines.plot(minutes, ring, color=_COLOURS[2], label="board's ring,\n% used")
    lines.set(ylabel="% or 1/s", ylim=(0, None), title="Lines and ring")

    for name, colour in (("p50_ms", _COLOURS[0]), ("p99_ms", _COLOURS[1])):
        latency.plot(minutes, [float(row[name]) for row in rows], color=colour, label=f"{name[:3]} of the\nlast 2000")
    latency.set(ylabel="ms, sensor to platform", yscale="log", title="Latency, outages included")

    for name, colour in (("due", _COLOURS[0]), ("received", _COLOURS[2]), ("struck", _COLOURS[3])):
        account.plot(minutes, [float(row[name]) for row in rows], color=colour, label=name)
    account.plot(minutes, [float(row["in_flight"]) for row in rows], color="#777", linewidth=0.9, label="in flight")
    bad = [sum(float(row[name]) for name in ("lost", "duplicated", "wrong_values")) for row in rows]
    account.plot(minutes, bad, color="red", linewidth=2, label="lost + duplicated\n+ wrong")
    account.set(ylabel="readings", xlabel="minutes", ylim=(0, None), title="Account")

    _shade(rows, minutes, panels)
    for panel in panels:
        panel.legend(loc="upper left", bbox_to_anchor=(1.0, 1.0), fontsize=8, frameon=False)
        panel.grid(alpha=0.25)
        panel.margins(x=0)
    figure.suptitle("Soak, 2 buses of 32 units: simulated board and lines, real programs", fontsize=12)
    figure.savefig(file, dpi=110)
    plt.close(figure)


def _shade(rows: Rows, minutes: Sequence[float], panels: Sequence[Axes]) -> None:
    """Every trouble, behind the curves; named once, above the first panel."""
    kinds = sorted({str(row["trouble"]) for row in rows} - {""})
    colours = dict(zip(kinds, _SHADES * 2, strict=False))
    for kind, group in groupby(range(len(rows)), key=lambda at: str(rows[at]["trouble"])):
        span = list(group)
        if kind:
            end = minutes[min(span[-1] + 1, len(rows) - 1)]
            for panel in panels:
                panel.axvspan(minutes[span[0]], end, color=colours[kind], linewidth=0)
    patches = [Rectangle((0, 0), 1, 1, color=colours[kind]) for kind in kinds]
    panels[0].figure.legend(patches, kinds, loc="outside lower center", ncols=7, fontsize=8, frameon=False)


def _slope(minutes: Sequence[float], values: Sequence[float]) -> str:
    """Least squares, in words."""
    begin = int(len(values) * _SLOPE_FROM)
    hours, kept = [minute / 60 for minute in minutes[begin:]], values[begin:]
    if (hours[-1] - hours[0]) * 60 < _SLOPE_MINUTES:
        return f"(under {_SLOPE_MINUTES} min: no slope)"
    return f"{linear_regression(hours, kept).slope:+.2f} MiB/h"
