"""`python -m tests.figures`: measures, prints a table, writes bench.json. Shell."""

import json
import os
import subprocess
import sys
import sysconfig
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

import click
from rich.console import Console
from rich.table import Table

from tests.figures import board_heap, cpu, latency, memory
from tests.figures.figure import Figure

ROOT = Path(__file__).parents[2]
FIGURES: dict[str, Callable[[], Figure]] = {
    "board_heap_per_poll": board_heap.per_poll,
    "board_heap_needed": board_heap.needed,
    "cpu_vs_thingsboard_50": cpu.at_50,
    "cpu_vs_thingsboard_4000": cpu.at_4000,
    "edge_rss_mib": memory.resident,
    "latency_urgent_p99_ms": latency.urgent,
    "latency_p99_ms": latency.ordinary,
}


def _chosen(_context: click.Context, _option: click.Parameter, value: str) -> list[str]:
    ids = value.split(",") if value else list(FIGURES)
    for wrong in (id for id in ids if id not in FIGURES):
        raise click.BadParameter(f"{wrong!r}: allowed are {', '.join(FIGURES)}")
    return ids


def _table(figures: list[Figure]) -> Table:
    table = Table("figure", "value", "at most", "unit", "")
    table.columns[0].no_wrap = True
    for figure in figures:
        value = "-" if figure.value is None else f"{figure.value:g}"
        table.add_row(figure.id, value, f"{figure.bound:g}", figure.unit, "ok" if figure.ok else "[red]NO[/]")
    return table


@click.command()
@click.option("--only", callback=_chosen, default="", metavar="ID,ID", help="Only these figures.")
def main(only: list[str]) -> None:
    """Measure the project's figures; the exit code is 1 when one of them is over its bound."""
    os.environ["PATH"] = os.pathsep.join([sysconfig.get_path("scripts"), os.environ["PATH"], "/usr/sbin"])
    subprocess.run(["make", "--silent", "tests/interpreters/node_modules"], cwd=ROOT, check=True, stdout=sys.stderr)
    console = Console()
    figures = []
    for id in only:
        with console.status(id):
            figures.append(FIGURES[id]())
        rows = [{**asdict(figure), "ok": figure.ok} for figure in figures]
        (ROOT / "bench.json").write_text(json.dumps(rows, indent=1, ensure_ascii=False) + "\n")
    console.print(_table(figures))
    for figure in figures:
        console.print(f"{figure.id}: {figure.beside}", highlight=False, markup=False, soft_wrap=True)
    sys.exit(0 if all(figure.ok for figure in figures) else 1)


main()
