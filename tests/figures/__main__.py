"""`python -m tests.figures`: measures, prints a table, writes bench.json. Shell.

bench.json is a list of {id, value, unit, bound, least, ok, beside}; a value is null where nothing could be measured,
and a bound is the most that it may be, or the least.
"""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import click
from rich.console import Console
from rich.table import Table

from tests.figures import (
    alarm_bound,
    alarm_kills,
    alarm_times,
    alarms,
    board_heap,
    broker_kill,
    bus_time,
    bus_utilisation,
    cpu,
    crash_loops,
    disk_writes,
    drain,
    faults,
    history,
    late_replies,
    latency,
    lost_units,
    memory,
    mistakes,
    on_32_bits,
    outage,
    pi_off,
    receiver_rate,
    simulated,
    tools,
    traces,
    traffic,
    wraps,
)
from tests.figures.figure import Figure, Measured

ROOT = Path(__file__).parents[2]
FIGURES = {
    figure.id: figure
    for figure in (
        Figure("board_heap_per_poll", "bytes", 0, board_heap.per_poll),
        Figure("board_heap_needed", "bytes", 131072, board_heap.needed),
        Figure("bus_utilisation_9600", "ideal/achieved", 0.985, bus_utilisation.at_9600, least=True),
        Figure("bus_utilisation_19200", "ideal/achieved", 0.97, bus_utilisation.at_19200, least=True),
        Figure("bus_utilisation_115200", "ideal/achieved", 0.93, bus_utilisation.at_115200, least=True),
        Figure("bus_utilisation_9600_slow", "ideal/achieved", 0.93, bus_utilisation.slow_at_9600, least=True),
        Figure("bus_utilisation_19200_slow", "ideal/achieved", 0.85, bus_utilisation.slow_at_19200, least=True),
        Figure("dead_unit_cost", "with/without", 1.02, lost_units.dead_unit_cost),
        Figure("recovery_polls", "periods", 2, lost_units.recovery_polls),
        Figure("recovery_saturated_s", "s", 10, lost_units.recovery_saturated),
        Figure("late_replies_misfiled", "samples", 0, late_replies.misfiled),
        Figure("fault_kinds_passed", "kinds", 18, faults.kinds_passed, least=True),
        Figure("faulted_wrong_values", "values", 0, faults.wrong_values),
        Figure("recoverable_polls_lost", "polls", 0, faults.recoverable_lost),
        Figure("replug_recovery_polls", "periods", 2, faults.replug_recovery),
        Figure("tick_wrap_missed_polls", "polls", 0, wraps.missed),
        Figure("shared_tests_wasm32", "%", 100, on_32_bits.passed, least=True),
        Figure("cpu_vs_thingsboard_50", "ours/theirs", 0.056, cpu.at_50),
        Figure("cpu_vs_thingsboard_4000", "ours/theirs", 0.1, cpu.at_4000),
        Figure("bus_seconds_vs_thingsboard", "ours/theirs", 0.2, bus_time.ten_tags),
        Figure("durable_ingest", "readings/s", 20000, history.durable_ingest, least=True),
        Figure("history_per_reading", "bytes", 6, history.history_per_reading),
        Figure("disk_write_per_reading", "bytes", 60, disk_writes.per_reading),
        Figure("edge_rss_mib", "MiB", 45, memory.resident),
        Figure("latency_urgent_p99_ms", "ms", 25, latency.urgent),
        Figure("latency_p99_ms", "ms", 1200, latency.ordinary),
        Figure("trace_roundtrip_differences", "frames", 0, traces.roundtrip_differences),
        Figure("trace_malformed", "packets", 0, traces.malformed),
        Figure("alarm_evaluations", "readings/s", 20000, alarms.evaluations, least=True),
        Figure("alarm_lifecycle_steps", "steps", 100000, alarms.lifecycle_steps, least=True),
        Figure("alarms_lost", "alarms", 0, alarm_kills.lost),
        Figure("alarms_duplicated", "alarms", 0, alarm_kills.duplicated),
        Figure("alarms_reordered", "alarms", 0, alarm_kills.reordered),
        Figure("alarm_commit_p99_ms", "ms", 40, alarm_times.commit),
        Figure("alarm_publish_p99_ms", "ms", 80, alarm_times.publish),
        Figure("alarm_horn_p99_ms", "ms", 80, alarm_times.horn),
        Figure("alarm_horn_disk_hung", "hung/well", 1.2, alarm_times.horn_disk_hung),
        Figure("alarm_horn_uplink_down", "down/up", 1.2, alarm_times.horn_uplink_down),
        Figure("alarm_commit_slow_unit", "slow/quick", 1.2, alarm_times.commit_slow_unit),
        Figure("alarm_bound_exceeded", "changes", 0, alarm_bound.exceeded),
        Figure("overflow_eta_error", "of the minutes left", 0.1, alarms.overflow_eta),
        Figure("broker_kill_lost", "messages", 0, broker_kill.lost),
        Figure("simulated_hours_per_minute", "h/min", 100, simulated.hours_per_minute, least=True),
        Figure("lost_readings", "readings", 0, crash_loops.lost_readings),
        Figure("wrong_readings", "readings", 0, crash_loops.wrong_readings),
        Figure("lost_events", "events", 0, crash_loops.lost_events),
        Figure("reordered_events", "events", 0, crash_loops.reordered_events),
        Figure("pi_off_lost", "readings", 0, pi_off.lost),
        Figure("drain_ratio", "drained/made", 20, drain.ratio, least=True),
        Figure("outage_rss_mib", "MiB", 80, outage.resident),
        Figure("site_mb_per_day", "MB", 20, traffic.per_day),
        Figure("receiver_rate", "readings/s", 50_000, receiver_rate.rate, least=True),
        Figure("config_mistakes_explained", "mistakes", 40, mistakes.explained, least=True),
    )
}


def _chosen(_context: click.Context, _option: click.Parameter, value: str) -> list[Figure]:
    ids = value.split(",") if value else list(FIGURES)
    for wrong in (id for id in ids if id not in FIGURES):
        raise click.BadParameter(f"{wrong!r}: allowed are {', '.join(FIGURES)}")
    return [FIGURES[id] for id in ids]


def _row(figure: Figure) -> dict[str, Any]:
    try:
        measured = figure.measure()
    except (OSError, subprocess.SubprocessError) as fault:  # what one figure needs is missing or stayed silent
        measured = Measured(None, str(fault))
    return {
        "id": figure.id,
        "value": measured.value,
        "unit": figure.unit,
        "bound": figure.bound,
        "least": figure.least,
        "ok": figure.is_kept(measured),
        "beside": measured.beside,
    }


def _table(rows: list[dict[str, Any]]) -> Table:
    table = Table("figure", "value", "bound", "unit", "")
    table.columns[0].no_wrap = True
    for row in rows:
        value = "-" if row["value"] is None else f"{row['value']:g}"
        bound = f"{'≥' if row['least'] else '≤'} {row['bound']:g}"
        table.add_row(row["id"], value, bound, row["unit"], "ok" if row["ok"] else "[red]NO[/]")
    return table


@click.command()
@click.option("--only", callback=_chosen, default="", metavar="ID,ID", help="Only these figures.")
def main(only: list[Figure]) -> None:
    """Measure the project's figures; the exit code is 1 when one of them does not keep its bound."""
    tools.find()
    subprocess.run(["make", "--silent", "tests/interpreters/node_modules"], cwd=ROOT, check=True, stdout=sys.stderr)
    console = Console()
    rows: list[dict[str, Any]] = []
    for figure in only:
        with console.status(figure.id):
            rows.append(_row(figure))
        (ROOT / "bench.json").write_text(json.dumps(rows, indent=1, ensure_ascii=False) + "\n")
    console.print(_table(rows))
    for row in rows:
        console.print(f"{row['id']}: {row['beside']}", highlight=False, markup=False, soft_wrap=True)
    sys.exit(0 if all(row["ok"] for row in rows) else 1)


main()
