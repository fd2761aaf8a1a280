"""What a technician's limits become, and what no standard lets them be. The defects are those of real point tables."""

from dataclasses import replace
from pathlib import Path
from shutil import copytree

import pytest

from edge.alarms.engine import Engine
from edge.alarms.presets import PRESETS, alarms_of, birth_row, damping
from edge.config import examine, load_site
from edge.points import heading
from protocols.model import GOOD, OVER_RANGE, Voting

EXAMPLE = Path(__file__).parents[2] / "hil_tests" / "site"


def found(tmp_path, row, **cells):
    """Codes and places of what is wrong once these cells of a row of the example say something else."""
    site = Path(copytree(EXAMPLE, tmp_path / "site"))
    sheet = site / "points.csv"
    lines = [line.split(",") for line in sheet.read_text(encoding="utf-8").splitlines()]
    columns = [name.split()[-1] for name in lines[0]]
    for added in cells.keys() - set(columns):
        columns.append(added)
        lines[0].append(heading(added))
        for line in lines[1:]:
            line.append("")
    for column, text in cells.items():
        lines[row - 1][columns.index(column)] = text
    sheet.write_text("\n".join(",".join(line) for line in lines) + "\n", encoding="utf-8")
    examined = examine(site / "gateway.toml")
    problems = [each for each in examined.problems + examined.warnings if each.code != "W-LIM-004"]
    assert all(problem.row == row for problem in problems)
    return [(problem.code, problem.field) for problem in problems]


_BIT = {"channel": "alarm_2", "unit": "1", "preset": "switch", "range_low": "", "range_high": "", "H": "", "HH": ""}
_COUNT = {"profile": "io-16do", "channel": "baud", "H": "1", "range_low": "0", "range_high": "19200"}


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
        # How long and how far beyond its limit an alarm is kept. One that could never clear is refused.
        (2, {"off_delay_s": "60", "alarm_deadband": "0.2"}, None, None),
        (2, {"off_delay_s": "0", "alarm_deadband": "0"}, None, None),
        (2, {"off_delay_s": "3601"}, "E-CEL-003", "off_delay_s"),
        (2, {"off_delay_s": "-1"}, "E-CEL-003", "off_delay_s"),
        (2, {"alarm_deadband": "-0.1"}, "E-CEL-003", "alarm_deadband"),
        (2, {"alarm_deadband": "10.8"}, "E-LIM-019", "alarm_deadband"),
        (2, {"alarm_deadband": "11", "H": "", "HH": "", "CH": ""}, "E-LIM-019", "alarm_deadband"),
        (21, {"oel": "2", "H": "2", "HH": "4"}, "E-LIM-019", "alarm_deadband"),  # by its preset it is 2
        (21, {"oel": "2", "H": "2", "HH": "4", "alarm_deadband": "0.5"}, None, None),
        (14, _BIT | {"H": "1", "alarm_deadband": "1"}, "E-LIM-019", "alarm_deadband"),
        (14, _BIT | {"L": "0", "alarm_deadband": "1"}, "E-LIM-019", "alarm_deadband"),
        # What happens otherwise, and how long a person has.
        (2, {"consequence": "满罐溢出", "minutes_to_act": "12"}, None, None),
        (2, {"minutes_to_act": "0"}, "E-CEL-003", "minutes_to_act"),
        (2, {"minutes_to_act": "1441"}, "E-CEL-003", "minutes_to_act"),
        (2, {"minutes_to_act": "soon"}, "E-CEL-002", "minutes_to_act"),
        # How soon what was acknowledged, and still stands, is announced anew.
        (2, {"re_alarm_s": "1800"}, None, None),
        (2, {"re_alarm_s": "59"}, "E-CEL-003", "re_alarm_s"),
        (2, {"re_alarm_s": "86401"}, "E-CEL-003", "re_alarm_s"),
        # How fast, how soon, how stuck, how far apart: all that it takes, of what makes sense for the preset.
        (2, {"TTHH": "15", "TTCH": "30", "ROR": "0.05", "ROF": "0.001", "trend_s": "600"}, None, None),
        (8, {"ROR": "2", "trend_s": "300", "H": "", "HH": ""}, None, None),
        (8, {"ROR": "2", "trend_s": "300", "H": "", "HH": "", "action": ""}, "E-LIM-011", "action"),
        (8, {"ROR": "2", "trend_s": "300", "H": "", "HH": "", "preset": ""}, "E-LIM-004", "preset"),
        (14, {"ROR": "5", "trend_s": "60"}, "E-LIM-006", "ROR"),
        (8, {"TTCH": "30", "trend_s": "300"}, "E-LIM-006", "TTCH"),
        (2, {"TTCH": "30", "trend_s": "600", "CH": ""}, "E-LIM-013", "TTCH"),
        (2, {"ROR": "0", "trend_s": "600"}, "E-CEL-003", "ROR"),
        (2, {"ROR": "0.05"}, "E-LIM-014", "trend_s"),
        (2, {"ROR": "0.05", "trend_s": "19"}, "E-LIM-015", "trend_s"),
        (2, {"frozen_s": "3600"}, None, None),
        (2, {"frozen_s": "19"}, "E-LIM-015", "frozen_s"),
        (2, {"compare_with": "TK102.level", "DEV": "0.1"}, None, None),
        (2, {"compare_with": "TK102.level"}, "E-LIM-016", "DEV"),
        (2, {"DEV": "0.1"}, "E-LIM-016", "compare_with"),
        (2, {"compare_with": "TK109.level", "DEV": "0.1"}, "E-LIM-016", "compare_with"),
        (2, {"compare_with": "TK101.level", "DEV": "0.1"}, "E-LIM-016", "compare_with"),
        (2, {"compare_with": "TK101.temp", "DEV": "0.1"}, "E-LIM-016", "compare_with"),
        (2, {"compare_with": "TK102.level", "DEV": "13"}, "E-LIM-016", "DEV"),
        # A status bit of a device, at one of its two values.
        (14, _BIT | {"H": "1"}, None, None),
        (14, _BIT | {"L": "0"}, None, None),
        (14, _BIT | {"H": "1", "L": "0"}, "E-LIM-018", "L"),
        (14, _BIT | {"H": "0.5"}, "E-LIM-018", "H"),
        (14, _BIT | _COUNT, "E-LIM-017", "preset"),
    ],
)
def test_defects(tmp_path, row, cells, code, column):
    assert found(tmp_path, row, **cells) == ([(code, heading(column))] if code else [])


def test_what_is_compared_with_is_judged_itself_or_nobody_would_notice_that_it_is_silent(tmp_path):
    assert found(tmp_path, 2, compare_with="TK102.level", DEV="0.1") == []
    sheet = tmp_path / "site" / "points.csv"
    lines = sheet.read_text(encoding="utf-8").splitlines()
    lines[2] = lines[2].replace("tank-level,1.0,1.5,10.8,11.4,12.2", ",,,,,")
    sheet.write_text("\n".join(lines) + "\n", encoding="utf-8")
    (problem,) = examine(tmp_path / "site" / "gateway.toml").problems
    assert (problem.code, problem.row, problem.field) == ("E-LIM-016", 2, heading("compare_with"))


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
        assert preset.off_ms > 0 and (preset.deadband_share > 0 or preset is PRESETS["switch"])


def test_above_the_range_of_any_sensor_an_alarm_latches_and_what_is_high_stands_until_it_is_reset():
    site = load_site(EXAMPLE / "gateway.toml")
    over = [setting for setting in alarms_of(site) if setting.kind == "OVER"]
    assert {setting.latch for setting in over} == {True} and len(over) == len(site.points)
    by_id = {setting.alarm: setting for setting in alarms_of(site)}
    engine = Engine([by_id[f"TK101.level:{kind}"] for kind in ("H", "HH", "OVER")], {"TK101.level": "cab1"})
    rows = [(0, 12.5, OVER_RANGE), (1000, 3.0, GOOD), (60_000, 3.0, GOOD)]
    told = [(each.setting.kind, each.transition) for row in rows for each in engine.reading("TK101.level", *row)]
    assert told == [("H", "raise"), ("HH", "raise"), ("OVER", "raise"), ("OVER", "clear")]
    engine.command("TK101.level:OVER", "ack", occurrence=1)
    engine.command("TK101.level:OVER", "reset")
    rows = [(61_000, 3.0, GOOD), (72_000, 3.0, GOOD)]
    told = [(each.setting.kind, each.transition) for row in rows for each in engine.reading("TK101.level", *row)]
    assert told == [("H", "clear"), ("HH", "clear")]


def test_how_fast_how_soon_how_stuck_and_how_far_apart(tmp_path):
    site = tmp_path / "site"
    row = {"TTHH": "15", "TTCH": "30", "ROF": "0.002", "trend_s": "600", "frozen_s": "7200", "on_delay_s": "5"}
    assert found(tmp_path, 2, **row, compare_with="TK102.level", DEV="0.1") == []
    by_id = {setting.alarm: setting for setting in alarms_of(load_site(site / "gateway.toml"))}
    soon, full = by_id["TK101.level:TTHH"], by_id["TK101.level:TTCH"]
    assert (soon.setpoint, soon.level, soon.window_ms, soon.on_ms, soon.priority) == (15, 11.4, 600_000, 0, 2)
    assert (full.setpoint, full.level, full.window_ms, full.on_ms, full.priority) == (30, 12.2, 600_000, 0, 1)
    assert birth_row(full)["level"] == 12.2 and birth_row(full)["window_s"] == 600
    leak, stuck, apart = (by_id[f"TK101.level:{kind}"] for kind in ("ROF", "FROZEN", "DEV"))
    assert (leak.setpoint, leak.window_ms, stuck.window_ms) == (0.002, 600_000, 7_200_000)
    assert (apart.setpoint, apart.other, apart.on_ms) == (0.1, "TK102.level", 5000)
    assert all(0 < each.deadband < each.setpoint for each in (soon, full, leak, apart))
    assert "TK101.level:ROR" not in by_id


def test_the_sheet_has_the_last_word_on_off_delay_and_deadband(tmp_path):
    row = {"off_delay_s": "60", "alarm_deadband": "0.2", "ROF": "0.002", "trend_s": "600"}
    assert found(tmp_path, 2, **row) == []
    site = load_site(tmp_path / "site" / "gateway.toml")
    by_id = {setting.alarm: setting for setting in alarms_of(site)}
    assert {by_id[f"TK101.level:{kind}"].deadband for kind in ("LL", "L", "H", "HH")} == {0.2}
    assert {by_id[f"TK101.level:{kind}"].off_ms for kind in ("LL", "L", "H", "HH", "ROF")} == {60_000}
    assert (by_id["TK102.level:H"].deadband, by_id["TK102.level:H"].off_ms) == (0.0625, 10_000)
    assert by_id["TK101.level:ROF"].deadband == pytest.approx(0.0002)
    mine, other = (damping(point) for point in site.points[:2])
    assert (mine.off_delay_s, mine.off_delay_from, mine.deadband, mine.deadband_from) == (60, "sheet", 0.2, "sheet")
    assert (other.off_delay_s, other.off_delay_from, other.deadband_from) == (10, "own_choice", "own_choice")
    assert found(tmp_path / "zero", 2, off_delay_s="0", alarm_deadband="0") == []
    (none,) = (damping(point) for point in load_site(tmp_path / "zero" / "site" / "gateway.toml").points[:1])
    assert (none.off_delay_s, none.off_delay_from, none.deadband, none.deadband_from) == (0, "sheet", 0, "sheet")


def test_what_is_acknowledged_and_still_stands_is_announced_anew_where_the_sheet_says_so(tmp_path):
    assert found(tmp_path, 2, re_alarm_s="1800", ROF="0.002", trend_s="600") == []
    by_id = {setting.alarm: setting for setting in alarms_of(load_site(tmp_path / "site" / "gateway.toml"))}
    anew = {alarm for alarm, setting in by_id.items() if setting.re_alarm_ms == 1_800_000}
    assert anew == {f"TK101.level:{kind}" for kind in ("LL", "L", "H", "HH", "ROF")}
    assert {setting.re_alarm_ms for alarm, setting in by_id.items() if alarm not in anew} == {None}
    assert birth_row(by_id["TK101.level:HH"])["re_alarm_s"] == 1800
    assert "re_alarm_s" not in birth_row(by_id["TK102.level:HH"])


def test_what_happens_otherwise_is_of_limits_and_movements_not_of_detectors(tmp_path):
    assert found(tmp_path, 2, consequence="满罐溢出", minutes_to_act="12", ROF="0.002", trend_s="600") == []
    told = {
        row["alarm"]: (row.get("consequence"), row.get("minutes_to_act"))
        for row in map(birth_row, alarms_of(load_site(tmp_path / "site" / "gateway.toml")))
    }
    of_process = {f"TK101.level:{kind}" for kind in ("LL", "L", "H", "HH", "ROF")}
    assert {alarm for alarm, what in told.items() if what == ("满罐溢出", 12)} == of_process
    assert {what for alarm, what in told.items() if alarm not in of_process} == {(None, None)}


def test_a_status_bit_of_a_detector_is_an_alarm_of_its_own(tmp_path):
    site = tmp_path / "site"
    assert found(tmp_path, 14, **(_BIT | {"H": "1"})) == []
    by_id = {setting.alarm: setting for setting in alarms_of(load_site(site / "gateway.toml"))}
    kinds = {alarm.partition(":")[2] for alarm in by_id if alarm.startswith("GD01.gas")}
    assert kinds == {"H", "FAULT", "CHECK", "STALE"}
    engine = Engine([by_id["GD01.gas:H"]], {"GD01.gas": "cab1"})
    told = [change.transition for t_ms, value in ((0, 0), (1000, 1), (2000, 0), (12_000, 0))
            for change in engine.reading("GD01.gas", t_ms, value, 0)]  # fmt: skip
    assert told == ["raise", "clear"]


def test_what_tells_of_danger_to_life_is_never_shelved():
    """A gas detector's, and a lack of oxygen; and what they vote."""
    never = {"GD07.gas": {"HH", "OVER"}, "GD05.gas": {"HH", "OVER"}, "TK101.level": set()}
    example = load_site(EXAMPLE / "gateway.toml")
    site = replace(example, votings=(Voting("pumps", ("GD05.gas", "GD07.gas"), 2, True),))
    settings = alarms_of(site)
    for point, kinds in never.items():
        assert {each.kind for each in settings if each.point == point and not each.can_be_shelved} - {"VOTE"} == kinds
    assert not next(each for each in settings if each.kind == "VOTE").can_be_shelved
    (gas,) = (point for point in example.points if point.point == "GD07.gas")
    oxygen = replace(gas, preset="oxygen", limits=(("LL", 18.0), ("L", 19.5), ("H", 23.0), ("HH", 23.5)))
    settings = alarms_of(replace(example, points=(oxygen,), votings=()))
    assert {each.kind for each in settings if not each.can_be_shelved} == {"LL", "HH", "OVER"}
