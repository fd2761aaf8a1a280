"""`tankgate check` as a technician starts it: what it prints, in both languages, and how it ends."""

import json
import os
import subprocess
import sys
from pathlib import Path
from shutil import copytree

import pytest
from rich.cells import cell_len

from edge.alarms.words import AUXILIARY

ROOT = Path(__file__).parents[2]
USAGE = 2
OURS = "(own choice)"


@pytest.fixture
def site(tmp_path: Path) -> Path:
    """A copy of the example site that a test may spoil."""
    return Path(copytree(ROOT / "hil_tests" / "site", tmp_path / "site"))


def check(site: Path, *options: str, language: str = "en", columns: int = 130) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "edge", "--lang", language, "check", str(site / "gateway.toml"), *options],
        cwd=ROOT,
        env=os.environ | {"COLUMNS": str(columns)},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def rows(text: str) -> list[list[str]]:
    """The cells of each line: columns are two blanks apart."""
    return [[cell.strip() for cell in line.split("  ") if cell.strip()] for line in text.splitlines()]


def change(file: Path, old: str, new: str) -> None:
    text = file.read_text(encoding="utf-8")
    assert old in text
    file.write_text(text.replace(old, new), encoding="utf-8")


def test_the_example_in_english(site: Path) -> None:
    ended = check(site)
    assert ended.returncode == 0
    told = rows(ended.stdout)
    assert told[0] == ["gateway.toml, points.csv: 22 points, 2 boards, 3 buses, 62 limits. In order, 4 reminders."]
    gas_a = ["gas-a", "cab1", "19200 8N1", "6", "12-192 %", "20-320 ms", "1 s → 1-1.92 s", "1.5-4.2 s", "–"]
    assert gas_a in told
    assert ["5 s → 5 s", "5.6-10.4 s", "–"] in told  # the second period of gas-b
    assert ["cab1", "4 min 16 s", "0.9 %"] in told
    others = [
        f"{bus} (while its units begin to answer within {patience} ms on average)"
        for bus, patience in (("level", 296), ("gas-a", 147), ("gas-b", 197))
    ]
    assert f"probed in idle time, the others keep their periods: {', '.join(others)}." in ended.stdout
    assert "Disk: about 0.5 GB in 30 days. Network: about 1 - 72 MB a day." in ended.stdout
    assert "No horn is configured ([outputs.horn] in gateway.toml)" in ended.stdout
    unproven = told[told.index(["profile", "evidence", "source"]) + 1 :]
    assert [row[0] for row in unproven if len(row) == 3] == ["adam-4017p", "sensepoint-xcd", "vegapuls-modbus"]
    (sensepoint,) = [row for row in unproven if row[0] == "sensepoint-xcd"]
    assert sensepoint[1] == "manual" and sensepoint[2].startswith("Technical Manual SPXCDHMRFENU")
    assert [line.split()[-1] for line in ended.stderr.splitlines()] == ["W-LIM-004"] + ["W-PER-002"] * 3


def test_the_example_in_chinese(site: Path) -> None:
    ended = check(site, language="zh")
    assert ended.returncode == 0
    told = rows(ended.stdout)
    assert told[0] == ["gateway.toml、points.csv：22 个点，2 块采集板，3 条总线，62 个限值。通过，4 条提醒。"]
    assert ["总线", "采集板", "线路", "站", "占用", "最长一次轮询", "要求 → 可达", "→ 报警", "→ 喇叭"] in told
    level = ["level", "cab1", "9600 8N1", "6", "11-101 %", "38-338 ms", "2 秒 → 2-2.03 秒", "2.6-4.4 秒", "–"]
    assert level in told
    assert ["cab2", "8 分 28 秒", "0.4 %"] in told
    assert "其余各点周期不变：level（各站平均在 296 ms 内开始应答时）、gas-a（" in ended.stdout
    assert "未经例值验证" in ended.stdout and ["vegapuls-modbus", "手册"] in [row[:2] for row in told]
    assert "提醒：gateway.toml 第 18 行 [buses.level]：各站平均在 296 ms 内开始应答" in ended.stderr


@pytest.mark.parametrize("language", ["en", "zh"])
def test_what_happens_if_nobody_acts_and_how_long_there_is(site: Path, language: str) -> None:
    lines = (site / "points.csv").read_text(encoding="utf-8").splitlines()
    more = ["consequence,minutes_to_act", "满罐溢出,12.5", *[","] * (len(lines) - 2)]
    sheet = "\n".join(",".join(cells) for cells in zip(lines, more, strict=True)) + "\n"
    (site / "points.csv").write_text(sheet, encoding="utf-8")
    told = rows(check(site, language=language).stdout)
    (at,) = (at for at, row in enumerate(told) if row[:1] == ["TK101.level"])
    minutes = "12.5 min" if language == "en" else "12.5 分"
    assert told[at] == ["TK101.level", minutes, "满罐溢出", "停止进料；核对现场液位计；通知班长"]
    titles = ["point", "time to act", "if nobody acts", "what to do"], ["点", "可用时间", "不处置的后果", "处置措施"]
    assert told[at - 1] == titles[language == "zh"] and told[at + 1] == []


@pytest.mark.parametrize(
    ("language", "told"),
    [
        (
            "en",
            [
                ["preset", "on-delay", "off-delay", "deadband", "latches", "re-alarm", "points"],
                ["tank-level", "5 s (sheet)", "60 s (sheet)", "0.2 m (sheet)", "no", "1800 s", "TK101.level"],
                ["tank-level", "none", f"10 s {OURS}", f"0.0625 m {OURS}", "no", "none", "TK102.level and 2 others"],
                ["combustible", "none", f"30 s {OURS}", f"2 %LEL {OURS}", "yes", "none", "GD01.gas and 6 others"],
            ],
        ),
        (
            "zh",
            [
                ["报警模板", "报警延时", "恢复延时", "死区", "锁定", "再报警", "点"],
                ["tank-level", "5 秒（点表）", "60 秒（点表）", "0.2 m（点表）", "否", "1800 秒", "TK101.level"],
                ["tank-level", "无", "10 秒（自定）", "0.0625 m（自定）", "否", "无", "TK102.level 及另外 2 个"],
                ["combustible", "无", "30 秒（自定）", "2 %LEL（自定）", "是", "无", "GD01.gas 及另外 6 个"],
            ],
        ),
    ],
)  # fmt: skip
def test_how_long_alarms_are_held_back_and_on_whose_word(site: Path, language: str, told: list[list[str]]) -> None:
    lines = (site / "points.csv").read_text(encoding="utf-8").splitlines()
    more = ["on_delay_s,off_delay_s,alarm_deadband,re_alarm_s", "5,60,0.2,1800", *[",,,"] * (len(lines) - 2)]
    sheet = "\n".join(",".join(cells) for cells in zip(lines, more, strict=True)) + "\n"
    (site / "points.csv").write_text(sheet, encoding="utf-8")
    ended = check(site, language=language, columns=130)
    assert ended.returncode == 0, ended.stderr
    said = rows(ended.stdout)
    assert all(row in said for row in told), [row for row in told if row not in said]
    assert ("no standard gives them" if language == "en" else "没有标准给出") in ended.stdout
    answer = json.loads(check(site, "--json").stdout)
    assert answer["notice"] == AUXILIARY and AUXILIARY.splitlines()[0] in ended.stdout
    (first, *_others) = answer["delays"]
    assert first == {
        "preset": "tank-level", "on_delay_s": 5, "off_delay_s": 60, "off_delay_from": "sheet", "deadband": 0.2,
        "deadband_from": "sheet", "unit_text": "m", "latches": False, "re_alarm_s": 1800, "points": ["TK101.level"],
    }  # fmt: skip


def test_a_row_for_each_point(site: Path) -> None:
    told = rows(check(site, "--points").stdout)
    assert ["TK101.temp", "gas-b", "20", "5 s → 5 s", "5.6-10.4 s", "–", "6.6-11.4 s"] in told
    assert sum(row[0].endswith((".level", ".temp", ".gas")) for row in told if len(row) == 7) == 22
    (damped,) = (row for row in told if row[:2] == ["tank-level", "none"] and "0.0475 m (own choice)" in row)
    assert damped[-1] == "TK105.level, TK106.level"


def test_a_bus_with_nothing_but_a_horn_has_its_row(site: Path) -> None:
    with (site / "gateway.toml").open("a", encoding="utf-8") as file:
        file.write('[buses.horns]\nboard = "cab2"\nuart = 2\nline = "9600 8N1"\n[outputs.horn]\nbus = "horns"\n')
        file.write('unit_id = 30\nprofile = "io-16do"\ncoil = 3\npriorities = [1, 2]\n')
    ended = check(site)
    assert ended.returncode == 0, ended.stderr
    assert ["horns", "cab2", "9600 8N1", "1", "2-102 %", "22-1022 ms", "–", "–", "–"] in rows(ended.stdout)


@pytest.mark.parametrize("columns", [60, 80, 100])
@pytest.mark.parametrize("language", ["en", "zh"])
def test_nothing_is_cut_and_no_line_is_wider_than_the_terminal(site: Path, language: str, columns: int) -> None:
    """With the longest names that are allowed, 16 letters; only prose goes on below, at its blanks."""
    for short, long in (("gas-b", "gas-detectors-01"), ("cab1", "cabinet-no-00001")):
        for file in ("gateway.toml", "points.csv"):
            text = (site / file).read_text(encoding="utf-8")
            (site / file).write_text(text.replace(short, long), encoding="utf-8")
    ended = check(site, "--points", language=language, columns=columns)
    assert ended.returncode == 0 and "…" not in ended.stdout
    tables = [line for line in ended.stdout.splitlines() if "  " in line]
    assert len(tables) > 30 and all(cell_len(line) <= columns for line in tables)
    cells = [cell for row in rows(ended.stdout) for cell in row]
    wide = rows(check(site, "--points", language=language, columns=250).stdout)
    assert {cell for row in wide for cell in row if len(cell) <= 20} - set(cells) == set()
    unit, numbers = ("s", "{} s → {} s") if language == "en" else ("秒", "{} 秒 → {} 秒")
    assert numbers.format("5", "5") in cells and f"5.6-10.4 {unit}" in cells


def test_a_row_too_wide_for_the_terminal_stands_in_two_lines(site: Path) -> None:
    told = rows(check(site, columns=80).stdout)
    at = told.index(["bus", "longest poll", "asked → reachable", "→ alarm", "→ horn"])
    assert told[at - 2] == ["board", "line", "units", "load"]
    assert told[at + 3 : at + 7] == [
        ["gas-a", "cab1", "19200 8N1", "6", "12-192 %"],
        ["20-320 ms", "1 s → 1-1.92 s", "1.5-4.2 s", "–"],
        ["gas-b", "cab2", "9600 8N1", "5", "17-223 %"],
        ["42-542 ms", "1 s → 1-2.33 s", "1.8-5.4 s", "–"],
    ]
    assert told[at + 7] == ["5 s → 5 s", "5.6-10.4 s", "–"]  # nothing but its second period


@pytest.mark.parametrize(
    ("language", "sentence"),
    [
        (
            "en",
            "points.csv row 2 TK101.level [周期s period_s] = 0.2: bus level reaches 0.53 s with units that answer as "
            "soon as their profiles say (reply_ms, 20 where it is not printed). Ask for less, or move units to another "
            "bus. E-PER-001",
        ),
        (
            "zh",
            "points.csv 第 2 行 TK101.level [周期s period_s] = 0.2：即使各站都像型号文件写的那样快应答"
            "（reply_ms，没有印的按 20 ms），总线 level 也只能达到 0.53 秒。放宽周期，"
            "或把一部分站移到另一条总线。 E-PER-001",
        ),
    ],
)
def test_a_period_that_cannot_be_held_is_refused(site: Path, language: str, sentence: str) -> None:
    change(site / "points.csv", ",12.5,2,0.01", ",12.5,0.2,0.01")
    change(site / "points.csv", ",9.5,2,0.01", ",9.5,0.2,0.01")
    ended = check(site, language=language)
    assert ended.returncode == USAGE
    assert sentence in ended.stderr.splitlines()
    assert ended.stderr.count("E-PER-001") == 6
    assert ("Refused." if language == "en" else "不通过。") in ended.stdout


def test_a_bus_that_holds_whatever_its_units_do_is_told_without_a_condition(site: Path) -> None:
    for range_high in ("12.5", "9.5"):
        change(site / "points.csv", f",{range_high},2,", f",{range_high},3,")
    assert "the others keep their periods: level, gas-a (while " in check(site).stdout


def test_what_is_computed_has_the_line_or_the_row_that_it_is_of(site: Path) -> None:
    """Lines of the file, rows of the sheet, its own headings; in a narrow terminal too, and counted in words."""
    text = (site / "points.csv").read_text(encoding="utf-8").splitlines()
    (site / "points.csv").write_text("\n".join([text[0].replace("周期s period_s", "period_s"), "", text[13]]), "utf-8")
    change(site / "points.csv", ",0,100,1,", ",0,100,0.1,")
    change(site / "gateway.toml", "8 GB", "50 MB")
    ended = check(site, columns=60)
    first = "gateway.toml, points.csv: 1 point, 2 boards, 3 buses, 2 limits. In order, "
    assert ended.returncode == 0 and ended.stdout.splitlines()[0].startswith(first)
    lines = (site / "gateway.toml").read_text(encoding="utf-8").splitlines()
    places = {"gas-a": "[buses.gas-a]", "50 MB": "max_bytes"}
    at = {key: next(n for n, line in enumerate(lines, 1) if line.startswith(start)) for key, start in places.items()}
    assert f"gateway.toml line {at['gas-a']} [buses.gas-a]: its periods hold" in ended.stderr
    assert f"gateway.toml line {at['50 MB']} [store.max_bytes] = 0.05 GB: " in ended.stderr
    change(site / "gateway.toml", "19200 8N1", "1200 8N1")
    ended = check(site)
    assert "points.csv row 3 GD01.gas [period_s] = 0.1: bus gas-a reaches" in ended.stderr
    assert "Refused." in ended.stdout and ended.returncode == USAGE


def test_wrong_files_are_refused_before_anything_is_computed(site: Path) -> None:
    rest = ",12.2,甲醇,001,E12345678001G0001YW001"
    change(site / "points.csv", "11.4" + rest, "12.8" + rest)
    ended = check(site)
    assert (ended.returncode, ended.stdout) == (USAGE, "")
    assert "points.csv row 2 TK101.level [高高 HH] = 12.8: is above range_high 12.5" in ended.stderr
    assert "Traceback" not in ended.stderr
    (problem,) = json.loads(check(site, "--json").stdout)["problems"][:1]
    assert (problem["code"], problem["row"]) == ("E-LIM-003", 2)


def test_a_folder_and_a_full_disk_are_told(site: Path) -> None:
    command = [sys.executable, "-m", "edge", "--lang", "en", "check"]
    folder = subprocess.run([*command, str(site)], cwd=ROOT, capture_output=True, text=True, check=False)
    assert folder.returncode == USAGE
    assert folder.stderr.splitlines()[0] == "site: is a folder. Name the file in it, like gateway.toml. E-FIL-001"
    with Path("/dev/full").open("w") as full:
        toml = str(site / "gateway.toml")
        ended = subprocess.run([*command, toml], cwd=ROOT, stdout=full, stderr=subprocess.PIPE, text=True, check=False)
    assert ended.returncode == 1
    assert "the disk is full" in ended.stderr and "Traceback" not in ended.stderr


def test_one_object_for_programs(site: Path) -> None:
    ended = check(site, "--json")
    assert (ended.returncode, ended.stderr) == (0, "")
    told = json.loads(ended.stdout)
    assert (told["gateway"], told["problems"], len(told["warnings"])) == ("jt-0042", [], 4)
    assert told["unproven_profiles"] == ["adam-4017p", "sensepoint-xcd", "vegapuls-modbus"]
    assert [bus["bus"] for bus in told["forecast"]["buses"]] == ["level", "gas-a", "gas-b"]
    assert len(told["forecast"]["points"]) == 22
    change(site / "points.csv", ",12.5,2,0.01", ",12.5,0.2,0.01")
    change(site / "points.csv", ",9.5,2,0.01", ",9.5,0.2,0.01")
    ended = check(site, "--json")
    assert ended.returncode == USAGE
    assert {problem["code"] for problem in json.loads(ended.stdout)["problems"]} == {"E-PER-001"}


@pytest.mark.parametrize(
    ("language", "row"),
    [
        ("en", ["TK101.level:TTHH", "15 min left to 11.4 m", "600 s", "2"]),
        ("zh", ["TK101.level:TTHH", "15 分钟内到 11.4 m", "600 秒", "2"]),
    ],
)
def test_what_is_judged_by_its_movement_is_shown(site: Path, language: str, row: list[str]) -> None:
    sheet = site / "points.csv"
    first, second, *others = sheet.read_text(encoding="utf-8").splitlines()
    more = [line + ",,,," for line in others]
    lines = [first + ",至高高min,趋势时长s,compare_with,偏差 DEV", second + ",15,600,TK102.level,0.1", *more]
    sheet.write_text("\n".join(lines) + "\n", encoding="utf-8")
    told = rows(check(site, language=language).stdout)
    assert row in told
    assert any(cells[0] == "TK101.level:DEV" and "TK102.level" in cells[1] for cells in told if len(cells) > 1)
    alarms = {each["alarm"]: each for each in json.loads(check(site, "--json").stdout)["alarms"]}
    assert alarms["TK101.level:TTHH"]["level"] == 11.4 and alarms["TK101.level:DEV"]["other"] == "TK102.level"
