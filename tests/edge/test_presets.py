"""What a technician's limits become, and what no standard lets them be. The defects are those of real point tables."""

from pathlib import Path
from shutil import copytree

import pytest

from edge.alarms.engine import Engine
from edge.alarms.presets import PRESETS, alarms_of
from edge.config import examine, load_site
from edge.points import heading

EXAMPLE = Path(__file__).parents[2] / "hil_tests" / "site"


def found(tmp_path, row, **cells):
    """Codes and places of what is wrong once these cells of a row of the example say something else."""
    site = Path(copytree(EXAMPLE, tmp_path / "site"))
    sheet = site / "points.csv"
    lines = [line.split(",") for line in sheet.read_text(encoding="utf-8").splitlines()]
    columns = [name.split()[-1] for name in lines[0]]
    if "on_delay_s" in cells:
        columns.append("on_delay_s")
        lines[0].append(heading("on_delay_s"))
        for line in lines[1:]:
            line.append("")
    for column, text in cells.items():
        lines[row - 1][columns.index(column)] = text
    sheet.write_text("\n".join(",".join(line) for line in lines) + "\n", encoding="utf-8")
    examined = examine(site / "gateway.toml")
    problems = [each for each in examined.problems + examined.warnings if each.code != "W-LIM-004"]
    assert all(problem.row == row for problem in problems)
    return [(problem.code, problem.field) for problem in problems]


@pytest.mark.parametrize(
    ("row", "cells", "code", "column"),
    [
        # 25 %LEL is the most that a first level may be, 50 the most of a second; 25, 50, 90 in L, H, HH is one too far.
        (14, {"H": "30"}, "E-LIM-007", "H"),
        (14, {"HH": "60"}, "E-LIM-007", "HH"),
        (14, {"L": "20"}, "E-LIM-006", "L"),
        (21, {"unit": "%LEL", "preset": "combustible", "H": "25", "HH": "50"}, None, None),
        (20, {"unit": "ppm"}, "E-LIM-008", "unit"),
        # The exposure limit is the site's word, with its document; twice it is the most of the second level.
        (21, {"oel": ""}, "E-LIM-009", "oel"),
        (21, {"oel_source": ""}, "E-LIM-009", "oel_source"),
        (21, {"H": "31"}, "E-LIM-007", "H"),
        (21, {"HH": "61"}, "E-LIM-007", "HH"),
        # Limits that nobody can act upon, or that never come.
        (2, {"action": ""}, "E-LIM-011", "action"),
        (2, {"HH": "12.8"}, "E-LIM-003", "HH"),
        (2, {"LL": "0"}, "W-LIM-002", "LL"),
        (2, {"LL": "", "L": "", "H": "", "HH": "", "CH": ""}, "W-LIM-001", "preset"),
        (14, {"on_delay_s": "5"}, "W-LIM-003", "on_delay_s"),
    ],
)
def test_defects(tmp_path, row, cells, code, column):
    assert found(tmp_path, row, **cells) == ([(code, heading(column))] if code else [])


def test_a_delay_is_the_technicians_alone(tmp_path):
    site = load_site(EXAMPLE / "gateway.toml")
    assert {setting.on_ms for setting in alarms_of(site) if setting.setpoint is not None} == {0}


def test_what_the_example_asks_for():
    site = load_site(EXAMPLE / "gateway.toml")
    by_id = {setting.alarm: setting for setting in alarms_of(site)}
    limits = [setting for setting in by_id.values() if setting.setpoint is not None]
    assert len(limits) == 56  # every limit of the sheet but the six overflow levels
    gas = by_id["GD07.gas:HH"]
    assert (gas.setpoint, gas.deadband, gas.latch, gas.can_be_shelved, gas.priority) == (50, 2, True, False, 1)
    level = by_id["TK101.level:HH"]
    assert (level.setpoint, level.latch, level.can_be_shelved, level.group) == (11.4, False, True, "罐区A")
    assert level.action == "停止进料；核对现场液位计；通知班长"
    Engine(by_id.values(), {point.point: "cab1" for point in site.points})


def test_every_preset_keeps_an_alarm_longer_and_raises_none_later():
    for preset in PRESETS.values():
        assert preset.deadband_share > 0 and preset.off_ms > 0
