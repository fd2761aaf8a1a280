"""Wrong site files: every mistake has its code, place and suggestion, in both languages, all of them at once."""

import dataclasses
import gettext
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from shutil import copytree

import pytest

from edge.config import ConfigError, examine, load_site
from edge.points import heading, read_points, read_sheet
from edge.problem import Problem
from protocols import profile
from tests.edge.mistakes import EXAMPLE, MISTAKES, change_cell, judge, replace


@contextmanager
def speaking(locale_dir: Path) -> Iterator[Callable[[str], None]]:
    """Choose the language of what follows."""
    domain, directory = gettext.textdomain(), gettext.bindtextdomain("tankgate")
    gettext.bindtextdomain("tankgate", locale_dir)
    gettext.textdomain("tankgate")
    with pytest.MonkeyPatch.context() as environment:
        yield lambda language: environment.setenv("LANGUAGE", language)
    gettext.bindtextdomain("tankgate", directory)
    gettext.textdomain(domain)


@pytest.fixture
def speak(locale_dir: Path) -> Iterator[Callable[[str], None]]:
    """The same for one test."""
    with speaking(locale_dir) as speak:
        yield speak


@pytest.fixture
def site(tmp_path: Path) -> Path:
    """A copy of the example site that a test may spoil."""
    return Path(copytree(EXAMPLE, tmp_path / "site"))


def cell(file: Path, row: int, column: str) -> str:
    """One cell of the sheet; rows are numbered as a spreadsheet does."""
    lines = [line.split(",") for line in file.read_text(encoding="utf-8").splitlines()]
    return lines[row - 1][[heading.split()[-1] for heading in lines[0]].index(column)]


def codes(problems: tuple[Problem, ...]) -> list[str]:
    return [problem.code for problem in problems]


# --- what is right ------------------------------------------------------------------------------------------


def test_the_example_is_right() -> None:
    examined = examine(EXAMPLE / "gateway.toml")
    assert [str(problem) for problem in examined.problems] == []
    assert codes(examined.warnings) == ["W-LIM-004"]  # nobody knows better than the sheet what oxygen may be
    site = load_site(EXAMPLE / "gateway.toml")
    assert (len(site.boards), len(site.buses), len(site.points)) == (2, 3, 22)
    assert sum(kind != "CH" for point in site.points for kind, _limit in point.limits) == 56
    level = site.points[0]
    assert (level.point, level.unit, level.unit_text, level.period_ms) == ("TK101.level", "m", "m", 2000)
    assert level.limits == (("LL", 1.0), ("L", 1.5), ("H", 10.8), ("HH", 11.4), ("CH", 12.2))
    units = {point.unit_text: point.unit for point in site.points}
    assert units == {"m": "m", "℃": "Cel", "%LEL": "%{LEL}", "ppm": "[ppm]", "%VOL": "%{vol}"}
    assert site.store.path == str(EXAMPLE / "store")
    assert site.store.max_bytes == 8_000_000_000
    assert str(site.buses[1].line) == "19200 8N1"


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "gb18030"])
def test_the_sheet_is_read_in_every_encoding_that_spreadsheets_write(site: Path, encoding: str) -> None:
    sheet = site / "points.csv"
    text = sheet.read_text(encoding="utf-8").replace("\n", "\r\n")
    sheet.write_bytes(text.encode(encoding))
    assert load_site(site / "gateway.toml").points == load_site(EXAMPLE / "gateway.toml").points


@pytest.mark.parametrize("half", [0, -1], ids=["chinese", "english"])
def test_columns_are_recognised_by_either_half_in_any_order(site: Path, half: int) -> None:
    sheet = site / "points.csv"
    heading, *rows = [line.split(",") for line in sheet.read_text(encoding="utf-8").splitlines()]
    lines = [[name.split()[half] for name in heading], *rows]
    sheet.write_text("\n".join(",".join(reversed(cells)) for cells in lines), encoding="utf-8")
    assert load_site(site / "gateway.toml").points == load_site(EXAMPLE / "gateway.toml").points


def test_blank_rows_do_not_shift_row_numbers(site: Path) -> None:
    change_cell(site / "points.csv", 4, "HH", "12.8")
    replace(site / "points.csv", "TK101.level,", "\n,,,\nTK101.level,")
    (problem,) = examine(site / "gateway.toml").problems
    assert (problem.code, problem.row, problem.point) == ("E-LIM-003", 6, "TK103.level")


def test_rows_may_end_early(site: Path) -> None:
    sheet = site / "points.csv"
    heading, *rows = [line.split(",") for line in sheet.read_text(encoding="utf-8").splitlines()]
    lines = [list(reversed(heading)), *(list(reversed(cells)) for cells in rows), ["", ""], ["复测"]]
    sheet.write_text("\n".join(map(",".join, lines)), encoding="utf-8")
    problems = examine(site / "gateway.toml").problems
    assert {problem.row for problem in problems} == {25}
    assert set(codes(problems)) == {"E-CEL-001"} and len(problems) == 8


def test_a_quoted_text_may_have_commas(site: Path) -> None:
    replace(site / "points.csv", "停泵；开启排风；便携仪复测", '"停泵,开启排风,便携仪复测"')
    points = {point.point: point for point in load_site(site / "gateway.toml").points}
    assert points["GD07.gas"].action == "停泵,开启排风,便携仪复测"


WRITTEN = {
    "%{LEL}": "%LEL ％ＬＥＬ %lel LEL%",
    "%{vol}": "%VOL %vol VOL% ％Vol",
    "[ppm]": "ppm PPM ＰＰＭ",
    "mg/m3": "mg/m3 mg/m³ mg/㎥ ㎎/m3",
    "Cel": "℃ °C 摄氏度 degC",
    "MPa": "MPa Mpa MPA ㎫ 兆帕",
    "kPa": "kPa kpa KPA Kpa 千帕",
    "m": "m 米 ｍ",
    "cm": "cm 厘米 ㎝",
    "mm": "mm 毫米 ㎜",
    "t": "t 吨",
    "m3": "m3 m³ ㎥ 立方米",
    "m3/h": "m3/h m³/h 立方米/小时",
    "L/min": "L/min l/min 升/分钟",
    "%{RH}": "%RH RH%",
    "mA": "mA",
}
TWO_MEANINGS = ["mpa", "M", "MM", "MA", "MBAR", "T", "C", "c", "度", "方", "F", "ppt"]


def as_read(written: str) -> tuple[str, list[str]]:
    """What a unit in a sheet is taken for, and the codes of its problems."""
    data = f"point,name,area,bus,unit_id,profile,channel,unit\nA.b,a,a,a,1,a,a,{written}\n".encode()
    (point,), problems, _warnings = read_points(read_sheet("points.csv", data), ["a"], {}, ["a"])
    assert point.unit_text == written
    return point.unit, [problem.code for problem in problems]


def test_units_are_read_as_people_write_them() -> None:
    for unit, spellings in WRITTEN.items():
        for written in spellings.split():
            assert as_read(written) == (unit, []), written
    assert as_read("% LEL") == ("%{LEL}", []) and as_read("m g / m3")[0] == "mg/m3"


@pytest.mark.parametrize("written", TWO_MEANINGS)
def test_a_unit_that_may_mean_two_is_not_guessed(written: str) -> None:
    assert as_read(written) == ("", ["E-UOM-001"])


def test_a_length_keeps_its_resolution_in_another_unit(site: Path) -> None:
    metres = load_site(site / "gateway.toml").points[0]
    assert (metres.type, metres.decimals) == ("f32", 3)
    limits = zip(("LL", "L", "H", "HH", "CH"), ("1000", "1500", "10800", "11400", "12200"), strict=True)
    for column, value in (("unit", "毫米"), ("range_high", "12500"), *limits):
        change_cell(site / "points.csv", 2, column, value)
    millimetres = load_site(site / "gateway.toml").points[0]
    assert (millimetres.unit, millimetres.decimals) == ("mm", 0)


def test_limits_in_metres_beside_a_range_in_millimetres_are_found(site: Path, speak: Callable[[str], None]) -> None:
    for column, value in (("unit", "mm"), ("range_high", "12500")):
        change_cell(site / "points.csv", 2, column, value)
    for language, words in (("en", "is 62.5 by the preset, as far as from H = 10.8"), ("zh_CN", "模板给的 62.5")):
        speak(language)
        (problem,) = examine(site / "gateway.toml").problems
        assert (problem.code, problem.row, problem.field) == ("E-LIM-019", 2, heading("alarm_deadband"))
        assert words in problem.text


def test_a_profile_beside_the_site_goes_before_the_built_in_one(site: Path) -> None:
    text = "# ours\n" + profile.builtin("sensepoint-xcd").text
    (site / "profiles").mkdir()
    (site / "profiles" / "sensepoint-xcd.toml").write_text(text, encoding="utf-8")
    assert load_site(site / "gateway.toml").profiles["sensepoint-xcd"].text == text


def test_the_hash_covers_every_file_and_nothing_else(site: Path) -> None:
    def config_hash() -> str:
        return load_site(site / "gateway.toml").config_hash

    first = config_hash()
    assert first.startswith("sha256:") and len(first) == 71
    (site / "notes.txt").write_text("not a part of the site", encoding="utf-8")
    assert config_hash() == first
    hashes = {first}
    replace(site / "gateway.toml", "days = 30", "days = 31")
    hashes.add(config_hash())
    change_cell(site / "points.csv", 2, "deadband", "0.02")
    hashes.add(config_hash())
    (site / "profiles").mkdir()
    text = "# ours\n" + profile.builtin("sensepoint-xcd").text
    (site / "profiles" / "sensepoint-xcd.toml").write_text(text, encoding="utf-8")
    hashes.add(config_hash())
    assert len(hashes) == 4


def test_the_example_s_outputs_are_right_for_whoever_takes_away_their_marks(site: Path) -> None:
    text = (site / "gateway.toml").read_text(encoding="utf-8")
    head, _mark, tail = text.partition("# [outputs.horn]")
    (site / "gateway.toml").write_text(head + "[outputs.horn]" + tail.replace("\n# ", "\n"), encoding="utf-8")
    examined = examine(site / "gateway.toml")
    assert examined.site is not None, examined.problems
    assert [output.name for output in examined.site.outputs] == ["horn", "fault"]
    assert [(each.name, each.needed, len(each.points)) for each in examined.site.votings] == [("area-a", 2, 4)]


def test_outputs_and_inputs(site: Path) -> None:
    text = HORN.replace("[store]", "") + FAULT.replace("[store]", "link_loss_s = 30\n") + MUTE
    replace(site / "gateway.toml", "[store]", text)
    horn, fault = load_site(site / "gateway.toml").outputs
    assert (horn.kind, horn.board, horn.bus, horn.unit_id, horn.place) == ("horn", "cab2", "gas-b", 30, 3)
    assert (horn.priorities, horn.areas, horn.at_loss, horn.loss_ms) == ((1, 2), (), "keep", 10_000)
    assert (fault.kind, fault.bus, fault.place, fault.loss_ms) == ("fault", None, 25, 30_000)
    (mute,) = load_site(site / "gateway.toml").inputs
    assert (mute.does, mute.board, mute.pin) == ("mute", "cab2", 26)


def test_a_vote_of_points_with_a_limit(site: Path) -> None:
    replace(site / "gateway.toml", "[store]", VOTING)
    (voting,) = load_site(site / "gateway.toml").votings
    assert (voting.points, voting.needed, voting.bad_counts) == (("GD01.gas", "GD02.gas"), 2, True)
    change_cell(site / "points.csv", 14, "H", "")
    (problem,) = examine(site / "gateway.toml").problems
    assert (problem.code, problem.value) == ("E-VOT-002", "GD01.gas")


# --- forty mistakes, each told whole ---------------------------------------------------------------------------


@pytest.fixture(scope="module")
def judged(locale_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[int, list[str]]:
    """What is not told of each of the forty, alone and where many are made at once."""
    with speaking(locale_dir) as speak:
        return judge(tmp_path_factory.mktemp("forty"), speak)


@pytest.mark.parametrize("at", range(len(MISTAKES)), ids=[mistake.code for mistake in MISTAKES])
def test_a_mistake_is_told_whole_in_both_languages(judged: dict[int, list[str]], at: int) -> None:
    assert judged[at] == []


def test_there_are_forty_and_no_two_are_the_same() -> None:
    assert len(MISTAKES) == 40 == len({(each.code, each.problem, each.english) for each in MISTAKES})
    assert {each.form for each in MISTAKES} == {"utf-8", "utf-8-sig", "gb18030", "xlsx"}
    assert sum(not each.alone for each in MISTAKES) > 20


# --- one mistake each, by its code --------------------------------------------------------------------------

# Code; field; what is replaced in gateway.toml, and by what; what stands on the reported line; parts of the
# sentence in English and in Chinese.
HORN = """[outputs.horn]
bus = "gas-b"
unit_id = 30
profile = "io-16do"
coil = 3
priorities = [1, 2]
[store]"""
FAULT = """[outputs.fault]
board = "cab2"
pin = 25
normally = "energised"
[store]"""
MUTE = """[inputs.mute]
board = "cab2"
pin = 26
[store]"""
VOTING = '[voting.a]\npoints = ["GD01.gas", "GD02.gas"]\nrule = "2oo2"\n[store]'
TOML_MISTAKES = [
    ("E-KEY-001", "buses.level.othermaster", "# other_master =", "othermaster =", "othermaster",
     "Did you mean “other_master”?", "是不是“other_master”？"),
    ("E-KEY-001", "destination", "[destinations.", "[destination.", "[destination.district]",
     "Did you mean “destinations”?", "是不是“destinations”？"),
    ("E-KEY-001", "outputs.horn.coils", "[store]", HORN.replace("coil ", "coils"), "coils", "Did you mean “coil”?",
     "是不是“coil”？"),
    ("E-OUT-001", "outputs.horn", "[store]", HORN.replace("coil = 3\n", ""), "[outputs.horn]",
     "It has: bus, profile, unit_id.", "现在只有：bus、profile、unit_id"),
    ("E-OUT-001", "outputs.fault", "[store]", FAULT.replace("pin = 25", "coil = 25"), "[outputs.fault]",
     "It has: board, coil.", "现在只有：board、coil"),
    ("E-OUT-002", "outputs.horn.bus", "[store]", HORN.replace("gas-b", "gas-c"), "gas-c",
     "there is no such bus", "没有这条总线"),
    ("E-OUT-002", "outputs.fault.board", "[store]", FAULT.replace("cab2", "cab3"), "cab3",
     "there is no such board", "没有这块采集板"),
    ("E-OUT-003", "outputs.horn.coil", "[store]", HORN.replace("coil = 3", "coil = 4"), "coil = 4",
     "profile io-16do does not list this coil under writes", "型号 io-16do 的 writes 没有列出这个线圈"),
    ("E-OUT-004", "outputs.lamp.coil", "[store]",
     HORN.replace("[store]", "") + HORN.replace(".horn", ".lamp").replace("coil ", "coil  "), "coil  = 3",
     "[horn] is on this coil or pin already", "[horn] 已经占用了这个线圈或引脚"),
    ("E-OUT-004", "inputs.mute.pin", "[store]", FAULT.replace("[store]", "") + MUTE.replace("= 26", "=  25"),
     "pin =  25", "[fault] is on this coil or pin already", "[fault] 已经占用了这个线圈或引脚"),
    ("E-OUT-005", "outputs.horn.coil", "[store]", HORN.replace("priorities = [1, 2]", 'normally = "energised"'),
     "coil = 3", "a fault output needs a pin", "故障输出要接在采集板的引脚上"),
    ("E-OUT-005", "outputs.fault.priorities", "[store]", FAULT.replace("pin", "priorities = [1]\npin"), "priorities",
     "means nothing for a fault output", "对故障输出没有意义"),
    ("E-OUT-006", "inputs.mute.pin", "[store]", MUTE.replace("26", "34"), "pin = 34",
     "of an esp32 is not free for it. Allowed are: 4, 19, 22", "esp32 的这个引脚不能这样用。可用的有：4、19、22"),
    ("E-OUT-007", "outputs.horn", "[store]", HORN.replace("priorities = [1, 2]", ""), "[outputs.horn]",
     "tells no alarms", "没有可报的报警"),
    ("E-OUT-008", "outputs.horn.profile", "[store]", HORN.replace("= 30", "= 20"), "profile = ",
     "point TK106.temp reads this unit by profile adam-4017p", "点 TK106.temp 按型号 adam-4017p 读这个站"),
    ("E-OUT-009", "outputs.horn.areas", "[store]", HORN.replace("coil", 'areas = ["罐区a"]\ncoil'), "areas",
     "Did you mean “罐区A”?", "是不是“罐区A”？"),
    ("E-PRF-001", "outputs.horn.profile", "[store]", HORN.replace("io-16do", "io-16d0"), "io-16d0",
     "Did you mean “io-16do”?", "是不是“io-16do”？"),
    ("E-INP-001", "inputs.silence", "[store]", MUTE.replace("mute", "silence"), "[inputs.silence]",
     "mute or test", "mute 或 test"),
    ("E-VAL-001", "outputs.horn.priorities", "[store]", HORN.replace("[1, 2]", "1"), "priorities",
     "must be a list", "应是方括号里的一列"),
    ("E-VAL-003", "outputs.horn.priorities", "[store]", HORN.replace("[1, 2]", "[5]"), "priorities",
     "from 1 to 4", "1 到 4"),
    ("E-VAL-003", "outputs.horn.unit_id", "[store]", HORN.replace("30", "248"), "248", "1 to 247", "1 到 247"),
    ("E-VAL-003", "outputs.horn.on_link_loss", "[store]", HORN.replace("coil", 'on_link_loss = "?"\ncoil'), "loss",
     "“keep”", "“keep”"),
    ("E-VAL-003", "outputs.fault.link_loss_s", "[store]", FAULT.replace("pin", "link_loss_s = 2\npin"), "loss",
     "3 to 3600 seconds", "3 到 3600 秒"),
    ("E-VAL-003", "outputs.horn.kind", "[store]", HORN.replace("coil", 'kind = "bell"\ncoil'), "bell",
     "“beacon”", "“beacon”"),
    ("E-VAL-003", "outputs.fault.normally", "[store]", FAULT.replace("energised", "on"), "normally",
     "“energised”", "“energised”"),
    ("E-VAL-003", "inputs.test.for_s", "[store]", MUTE.replace("mute", "test").replace("pin", "for_s = 61\npin"),
     "for_s", "1 to 60 seconds", "1 到 60 秒"),
    ("E-VAL-002", "voting.a.rule", "[store]", VOTING.replace("2oo2", "2 of 2"), "rule =", "like 2oo4", "2oo4 这样"),
    ("E-VAL-003", "voting.a.rule", "[store]", VOTING.replace("2oo2", "3oo2"), "rule =", "more are needed", "还多"),
    ("E-VAL-003", "voting.a.when_bad", "[store]", VOTING.replace("[store]", 'when_bad = "?"\n[store]'), "when_bad",
     "“left_out”", "“left_out”"),
    ("E-VAL-001", "voting.a.points", "[store]", VOTING.replace('["GD01.gas", "GD02.gas"]', '"GD01.gas"'),
     'points = "GD', "must be a list", "应是方括号里的一列"),
    ("E-VOT-001", "voting.a.points", "[store]", VOTING.replace("GD02", "GDO2"), "points = [",
     "Did you mean “GD02.gas”?", "是不是“GD02.gas”？"),
    ("E-VOT-003", "voting.a.points", "[store]", VOTING.replace('"GD02', '"GD01'), "points = [",
     "stands here twice", "两次"),
    ("E-VOT-004", "voting.a.rule", "[store]", VOTING.replace("2oo2", "2oo4"), "rule =",
     "is of 4 points, but there are 2", "是 4 个点的规则，而列出的有 2 个"),
    ("E-VAL-001", "destinations.district.await_receipt", 'feed = "json"', 'feed = "json"\nawait_receipt = "yes"',
     "await_receipt", "must be true or false", "必须是 true 或 false"),
    ("E-KEY-001", "destinations.district.commands.reset", 'feed = "json"',
     'feed = "json"\ncommands = { reset = ["duty"] }', "commands",
     "Allowed are: acknowledge, silence", "可用的有：acknowledge、silence"),
    ("E-VAL-002", "destinations.district.commands.silence", 'feed = "json"',
     'feed = "json"\ncommands = { silence = ["王班长"] }', "commands", "must be a list of roles", "须是岗位列表"),
    ("E-VAL-001", "boards.cab2.id", '"esp32-a0b765112233"', "3", "id   = 3",
     "a text in double quotes", "双引号里的文字"),
    ("E-VAL-001", "boards.cab3", "[boards.cab2]", "[boards]\ncab3 = 1\n[boards.cab2]", "cab3",
     "must be a table", "应是一个表"),
    ("E-VAL-002", "destinations.a b", "[destinations.district]", '[destinations."a b"]', "a b",
     "like gas-a", "如 gas-a"),
    ("E-VAL-002", "boards.cab2.port", "/dev/ttyAMA2", "ttyAMA2", "port =",
     "whole path, like /dev/ttyAMA2", "完整路径，如 /dev/ttyAMA2"),
    ("E-VAL-003", "site.timezone", "Asia/Shanghai", "Beijing", "timezone", "like Asia/Shanghai", "如 Asia/Shanghai"),
    ("E-VAL-003", "destinations.district.feed", '"json"', '"sparkplug"', "sparkplug",
     "speaks only “json”", "只会“json”"),
    ("E-VAL-003", "schema", "schema = 1", "schema = 2", "schema = 2", "reads schema 1", "读 schema 1"),
    ("E-BRD-003", "buses.gas-a.uart", "uart  = 2", "uart  = 1 #", "uart  = 1 #", "bus level", "总线 level"),
    ("E-BRD-004", "buses.gas-b.uart", '"cab2"\nuart  = 1', '"cab2"\nuart  = 2', 'uart  = 2\nline  = "9600',
     "only bus is on uart 1", "唯一的总线接 uart 1"),
    ("E-DST-001", "destinations.district.cert", "mqtt://127.0.0.1:1883", 'mqtts://a:8883"\ncert = "a.pem', "cert =",
     "cert and key belong together", "cert 和 key 要一起写"),
    ("E-TOM-002", "", '"changzhou-jintan"', "“changzhou-jintan”", "“", '“ is full-width. Write "', "“ 是全角"),
]  # fmt: skip

# Code; row, column and value of the changed cell; parts of the sentence in English and in Chinese.
SHEET_MISTAKES = [
    ("E-CEL-001", 2, "name", "", "is empty", "是空的"),
    ("E-CEL-003", 2, "deadband", "-1", "0 or more", "不小于 0"),
    ("E-CEL-004", 2, "unit_id", "1.5", "a whole number", "整数"),
    ("E-CEL-003", 2, "range_high", "9" * 400, "allowed are -1e+09 to 1e+09", "应在 -1e+09 到 1e+09 之间"),
    ("E-CEL-003", 2, "deadband", "9" * 400, "allowed are 0 to 1e+09", "应在 0 到 1e+09 之间"),
    ("E-RNG-001", 2, "range_high", "0." + "0" * 320 + "5", "not above range_low 0", "不大于量程下限 0"),
    ("E-PNT-001", 2, "point", "ＴＫ101.level", "Did you mean “TK101.level”?", "是不是“TK101.level”？"),
    ("E-PNT-006", 2, "point", "system.config", "alarms of the gateway itself", "网关自身的报警"),
    ("E-PNT-003", 15, "unit_id", "1", "row 14", "第 14 行"),
    ("E-PNT-004", 2, "quota_id", "1.23457E+11", "Format the column as text", "设成文本格式"),
    ("E-PNT-005", 3, "quota_id", "E12345678001G0001YW001", "row 2", "第 2 行"),
    ("E-UNT-001", 20, "unit_id", "20", "unit 20 of bus gas-b is adam-4017p", "总线 gas-b 站号 20 是 adam-4017p"),
    ("E-UOM-001", 8, "unit", "C", "Did you mean “℃”?", "是不是“℃”？"),
    ("E-UOM-001", 8, "unit", "c", "Did you mean “℃”?", "是不是“℃”？"),
    ("E-RNG-001", 2, "range_high", "-1", "not above range_low 0", "不大于量程下限 0"),
    ("E-RNG-001", 2, "range_high", "0", "not above range_low 0", "不大于量程下限 0"),
    ("E-RNG-002", 2, "range_low", "", "needs both its ends", "上下限都要填"),
    ("E-LIM-002", 2, "LL", "-1", "below range_low 0: it can never alarm. Raise LL",
     "小于量程下限 0，永远不会报警。改大 LL，或改量程。"),
    ("E-LIM-004", 2, "preset", "", "the point has limits", "有限值"),
]  # fmt: skip


def check_in_both_languages(
    speak: Callable[[str], None], path: Path, expected: Problem, english: str, chinese: str
) -> None:
    """One problem, the same in both languages but for its words, and none of them left untranslated."""
    texts = []
    for language, part in (("en", english), ("zh_CN", chinese)):
        speak(language)
        (problem,) = examine(path).problems
        assert part in problem.text
        assert dataclasses.replace(problem, text="") == expected
        assert str(problem).endswith(problem.code) and "\n" not in str(problem)
        texts.append(problem.text)
    assert texts[0] != texts[1], "the sentence has no Chinese"


@pytest.mark.parametrize(("code", "field", "old", "new", "where", "english", "chinese"), TOML_MISTAKES)
def test_a_mistake_in_gateway_toml(
    site: Path,
    speak: Callable[[str], None],
    code: str,
    field: str,
    old: str,
    new: str,
    where: str,
    english: str,
    chinese: str,
) -> None:
    path = site / "gateway.toml"
    replace(path, old, new)
    text = path.read_text(encoding="utf-8")
    line = text[: text.index(where)].count("\n") + 1
    speak("en")
    (problem,) = examine(path).problems
    expected = Problem(code, "gateway.toml", field, problem.value, "", line=line)
    check_in_both_languages(speak, path, expected, english, chinese)


@pytest.mark.parametrize(("code", "row", "column", "value", "english", "chinese"), SHEET_MISTAKES)
def test_a_mistake_in_the_sheet(
    site: Path,
    speak: Callable[[str], None],
    code: str,
    row: int,
    column: str,
    value: str,
    english: str,
    chinese: str,
) -> None:
    change_cell(site / "points.csv", row, column, value)
    if code in ("E-PNT-003", "E-UNT-001"):  # the cell that shows it is another one than the wrong one
        column = {"E-PNT-003": "channel", "E-UNT-001": "profile"}[code]
        value = {"E-PNT-003": "gas", "E-UNT-001": "gas-module-6in1"}[code]
    expected = Problem(
        code, "points.csv", heading(column), value or None, "", row=row, point=cell(site / "points.csv", row, "point")
    )
    check_in_both_languages(speak, site / "gateway.toml", expected, english, chinese)


SHEETS: list[tuple[str, Callable[[str], bytes], str, str]] = [
    ("E-SHT-001", lambda text: b"\n\n", "is empty", "是空的"),
    ("E-SHT-002", lambda text: text.replace("单位 unit,", "单 位,").encode(), "is missing", "缺少"),
    ("E-SHT-003", lambda text: text.replace("介质 medium", "介质 area").encode(), "two columns", "两列"),
    ("E-SHT-004", lambda text: text.replace(",", ";").encode(), "half-width commas", "半角逗号"),
    ("E-SHT-004", lambda text: text.replace(",", "，").encode(), "half-width commas", "半角逗号"),
    ("E-SHT-005", lambda text: text.splitlines()[0].encode(), "Write a row for each point.", "每个点写一行。"),
    ("E-SHT-006", lambda text: (text.rstrip() + ",复测\n").encode(), "double quotes", "双引号"),
    ("E-SHT-007", lambda text: text.replace("停泵", '"停泵').encode(), "double quote", "双引号"),
    ("E-SHT-007", lambda text: text.replace("泵房,", '"泵房,').encode(), "double quote", "双引号"),
    ("E-FIL-002", lambda text: text.encode("utf-8-sig")[:-4], "CSV UTF-8", "CSV UTF-8"),
    ("E-FIL-002", lambda text: text.encode("utf-16"), "CSV UTF-8", "CSV UTF-8"),
    ("E-FIL-003", lambda text: b"PK\x03\x04 a workbook", "workbook", "工作簿"),
]


@pytest.mark.parametrize(("code", "spoil", "english", "chinese"), SHEETS)
def test_a_sheet_of_the_wrong_form(
    site: Path,
    speak: Callable[[str], None],
    code: str,
    spoil: Callable[[str], bytes],
    english: str,
    chinese: str,
) -> None:
    sheet = site / "points.csv"
    sheet.write_bytes(spoil(sheet.read_text(encoding="utf-8")))
    for language, part in (("en", english), ("zh_CN", chinese)):
        speak(language)
        (problem,) = examine(site / "gateway.toml").problems
        assert (problem.code, problem.file) == (code, "points.csv")
        assert part in problem.text


# --- the whole of it ----------------------------------------------------------------------------------------


def test_the_sentence_that_the_technician_reads(site: Path, speak: Callable[[str], None]) -> None:
    change_cell(site / "points.csv", 4, "HH", "12.8")
    replace(site / "gateway.toml", 'board = "cab2"', 'board = "cap2"')
    speak("zh_CN")
    toml, sheet = examine(site / "gateway.toml").problems
    assert str(toml) == (
        "gateway.toml 第 28 行 [buses.gas-b.board] = cap2：没有这块采集板。可用的有：cab1、cab2。"
        "是不是“cab2”？ E-BRD-002"
    )
    assert str(sheet) == (
        "points.csv 第 4 行 TK103.level [高高 HH] = 12.8：大于量程上限 12.5，永远不会报警。"
        "改小 HH，或改量程。 E-LIM-003"
    )
    speak("en")
    toml, sheet = examine(site / "gateway.toml").problems
    assert str(toml) == (
        "gateway.toml line 28 [buses.gas-b.board] = cap2: there is no such board. Allowed are: cab1, cab2. "
        "Did you mean “cab2”? E-BRD-002"
    )
    assert str(sheet) == (
        "points.csv row 4 TK103.level [高高 HH] = 12.8: is above range_high 12.5: it can never alarm. "
        "Lower HH or change the range. E-LIM-003"
    )


def test_all_problems_of_all_files_at_once(site: Path) -> None:
    replace(site / "gateway.toml", "timezone =", "timezon =")
    replace(site / "gateway.toml", "uart  = 2", "uart  = 3")
    replace(site / "gateway.toml", "esp32-a0b765112233", "esp32s3-7cdfa1e40c11")
    change_cell(site / "points.csv", 2, "unit_id", "0")
    change_cell(site / "points.csv", 2, "HH", "hoch")
    change_cell(site / "points.csv", 23, "bus", "gas-c")
    change_cell(site / "points.csv", 14, "profile", "ours")
    (site / "profiles").mkdir()
    (site / "profiles" / "ours.toml").write_text("version = ", encoding="utf-8")
    with pytest.raises(ConfigError) as caught:
        load_site(site / "gateway.toml")
    assert codes(caught.value.problems) == [
        "E-KEY-001", "E-BRD-001", "E-VAL-003", "E-CEL-002", "E-CEL-003", "E-BUS-001", "E-TOM-001"
    ]  # fmt: skip
    assert all(str(problem) in str(caught.value) for problem in caught.value.problems)


def test_empty_cells_are_not_the_same_twice(site: Path) -> None:
    for row in (2, 3):
        change_cell(site / "points.csv", row, "quota_id", "")
        change_cell(site / "points.csv", row, "point", "")
    assert codes(examine(site / "gateway.toml").problems) == ["E-CEL-001", "E-CEL-001"]


def test_a_current_input_needs_its_range(site: Path) -> None:
    for column in ("range_low", "range_high"):
        change_cell(site / "points.csv", 8, column, "")
    (problem,) = examine(site / "gateway.toml").problems
    assert (problem.code, problem.row, problem.field) == ("E-RNG-003", 8, heading("range_high"))


def with_controller(site: Path, status: str = "", **changes: str) -> None:
    """GD01.gas is the first sensor of an IGD controller; `status`: the channel of one row more, `changes`: its own."""
    own = {"profile": "igd-toc-635", "channel": "gas1", "unit_id": "9", "period_s": "1", **changes}
    for column, value in own.items():
        change_cell(site / "points.csv", 14, column, value)
    if status:
        row = f"GD01.status,状态,罐区A,gas-a,9,igd-toc-635,{status},1,,,2"
        with (site / "points.csv").open("a", encoding="utf-8") as sheet:
            sheet.write(row + "\n")


@pytest.mark.parametrize("status", ["", "status2"])
def test_a_gas_row_without_the_row_that_tells_its_faults_is_refused(
    site: Path, speak: Callable[[str], None], status: str
) -> None:
    with_controller(site, status)
    expected = Problem("E-PNT-007", "points.csv", heading("channel"), "gas1", "", row=14, point="GD01.gas")
    english = "stand in channel status1 alone. Add a row for that channel"
    check_in_both_languages(speak, site / "gateway.toml", expected, english, "只在测量 status1 里。为它加一行")


def test_faults_are_read_as_often_as_what_they_are_of(site: Path, speak: Callable[[str], None]) -> None:
    with_controller(site, "status1")
    expected = Problem("E-PNT-008", "points.csv", heading("period_s"), "1", "", row=14, point="GD01.gas")
    check_in_both_languages(speak, site / "gateway.toml", expected, "row 24, which tells its faults: 2 s", "第 24 行")
    change_cell(site / "points.csv", 14, "period_s", "2")
    assert examine(site / "gateway.toml").problems == ()


def test_a_limit_that_the_sensor_cannot_measure_never_alarms(site: Path, speak: Callable[[str], None]) -> None:
    with_controller(site, "status1", period_s="2", preset="pressure", range_low="", range_high="", HH="111")
    expected = Problem("E-LIM-012", "points.csv", "高高 HH", "111", "", row=14, point="GD01.gas")
    english = "is beyond 110, the last value that the profile calls valid: it can never alarm."
    check_in_both_languages(speak, site / "gateway.toml", expected, english, "超出 110")
    change_cell(site / "points.csv", 14, "HH", "110")
    assert examine(site / "gateway.toml").problems == ()


@pytest.mark.parametrize(
    ("row", "codes_told"),
    [(14, ["W-RNG-001"]), (2, ["W-RNG-001"]), (None, [])],  # a detector, a radar, a controller whose numbers are known
)
def test_limits_without_any_range_are_worth_a_reminder(site: Path, row: int | None, codes_told: list[str]) -> None:
    if row is None:
        with_controller(site, "status1", period_s="2")
    for column in ("range_low", "range_high"):
        change_cell(site / "points.csv", row or 14, column, "")
    examined = examine(site / "gateway.toml")
    told = [warning for warning in examined.warnings if warning.code != "W-LIM-004"]
    assert (examined.problems, codes(tuple(told))) == ((), codes_told)
    assert all((warning.row, warning.field) == (row, heading("range_high")) for warning in told)


def test_unknown_columns_are_kept_and_reported(site: Path, speak: Callable[[str], None]) -> None:
    replace(site / "points.csv", "介质 medium", "介制")
    speak("en")
    examined = examine(site / "gateway.toml")
    assert examined.site is not None
    warning, _oxygen = examined.warnings
    assert (warning.code, warning.row, warning.field) == ("W-SHT-001", 1, "介制")


def test_reminders_do_not_refuse(site: Path) -> None:
    for column in ("H", "HH"):
        change_cell(site / "points.csv", 14, column, "")
    change_cell(site / "points.csv", 8, "HH", "80")
    change_cell(site / "points.csv", 2, "LL", "0")
    replace(site / "gateway.toml", "[buses.level]", '[boards.cab3]\nid = "esp32-000000000003"\n[buses.level]')
    text = (site / "gateway.toml").read_text(encoding="utf-8")
    (site / "gateway.toml").write_text(text[: text.index("[destinations")], encoding="utf-8")
    examined = examine(site / "gateway.toml")
    assert examined.site is not None
    assert sorted(codes(examined.warnings)) == [
        "W-BRD-001", "W-DST-001", "W-LIM-001", "W-LIM-002", "W-LIM-002", "W-LIM-004"
    ]  # fmt: skip


@pytest.mark.parametrize("is_own", [False, True])
def test_a_blank_profile_is_no_profile(site: Path, speak: Callable[[str], None], is_own: bool) -> None:
    name = "ours" if is_own else "generic"
    blank = profile.builtin("generic").text
    line = 1 + blank[: blank.index("\nsource")].count("\n") + 1
    if is_own:
        (site / "profiles").mkdir()
        (site / "profiles" / "ours.toml").write_text(blank, encoding="utf-8")
    cells = {"profile": name, "channel": "value", "unit": "1", "unit_id": "9", "preset": "pressure"}
    for column, value in cells.items():
        change_cell(site / "points.csv", 14, column, value)
    expected = Problem(
        "E-PRF-004",
        f"profiles/{name}.toml",
        "source",
        profile.builtin("generic").source,
        "",
        line=line if is_own else None,
    )
    check_in_both_languages(speak, site / "gateway.toml", expected, "fill it in from the manual", "照说明书填写")


@pytest.mark.parametrize(("deadband", "told"), [("99.9", []), ("100", ["W-RNG-002"]), ("500", ["W-RNG-002"])])
def test_a_deadband_that_nothing_gets_beyond_is_worth_a_reminder(site: Path, deadband: str, told: list[str]) -> None:
    change_cell(site / "points.csv", 14, "deadband", deadband)
    warnings = [each for each in examine(site / "gateway.toml").warnings if each.code != "W-LIM-004"]
    assert codes(tuple(warnings)) == told
    assert all((each.row, each.field, each.value) == (14, heading("deadband"), deadband) for each in warnings)


def test_a_pipe_or_a_device_is_not_read(site: Path, speak: Callable[[str], None]) -> None:
    """It might never end."""
    os.mkfifo(site / "pipe")
    speak("en")
    for path in (site / "pipe", Path("/dev/zero")):
        (problem,) = examine(path).problems
        assert problem.code == "E-FIL-001" and "a pipe or a device. Name a file on a disk." in problem.text
    replace(site / "gateway.toml", '"points.csv"', '"pipe"')
    (problem,) = examine(site / "gateway.toml").problems
    assert (problem.code, problem.field, problem.value) == ("E-FIL-001", "site.points", "pipe")


def test_files_that_cannot_be_read(site: Path) -> None:
    assert codes(examine(site / "gatewy.toml").problems) == ["E-FIL-001"]
    assert codes(examine(site / "none" / "gateway.toml").problems) == ["E-FIL-001"]
    assert codes(examine(site).problems) == ["E-FIL-001"]
    text = (site / "gateway.toml").read_text(encoding="utf-8")
    (site / "gateway.toml").write_bytes(text.encode("gb18030"))
    (problem,) = examine(site / "gateway.toml").problems
    assert (problem.code, problem.line) == ("E-FIL-002", 1)


@pytest.mark.parametrize(
    "text",
    [
        *("", "site = 3", "[[boards]]", "boards.x = []", "[buses.x]\nuart = [1]\nboard = {}", "schema = 1.5"),
        *(f"schema = {'9' * 5000}", f"schema = {'[' * 5000}", f'[store]\nmax_bytes = "{"9" * 5000} GB"'),
        f'[buses.x]\nline = "{"9" * 5000} 8N1"',
        f"x = '''\n{' ' * 5000}\n'''",
    ],
    ids=lambda text: text[:20],
)
def test_no_file_however_odd_makes_a_traceback(site: Path, text: str) -> None:
    (site / "gateway.toml").write_text(text, encoding="utf-8")
    examined = examine(site / "gateway.toml")
    assert examined.site is None and examined.problems
    assert all(str(problem) for problem in examined.problems)


def test_a_mistake_in_a_profile_has_its_line_its_key_and_words(site: Path, speak: Callable[[str], None]) -> None:
    """The second of two examples, and the table that makes many channels."""
    (site / "profiles").mkdir()
    file = site / "profiles" / "sensepoint-xcd.toml"
    example = '[[example]]\nsource = "p. {page}"\nchannel = "ch2"\naddress = 1\nregisters = [11]\nvalue = {value}\n'
    example += 'unit = "1"\n'
    head = profile.builtin("sensepoint-xcd").text.partition("[channels")[0].replace("= 40001", "= 0")
    many = '[channels.ch]\ncount = 2\nfunction_code = 3\naddress = 0\ntype = "u16"\ndecimals = 0\nunit = "1"\n'
    text = head + many + example.format(page=1, value=11) + example.format(page=2, value=10)
    file.write_text(text, encoding="utf-8")
    line = text[: text.rindex("[[example]]")].count("\n") + 1
    speak("zh_CN")
    (problem,) = [found for found in examine(site / "gateway.toml").problems if found.code == "E-PRF-003"]
    assert str(problem) == (
        f"profiles/sensepoint-xcd.toml 第 {line} 行 [example.2] = p. 2：印的是 10（正常），读出的却是 11（正常）。"
        "测量的各项写错了，或者例值抄错了。 E-PRF-003"
    )
    file.write_text(text.replace("value = 10", "value = 11").replace("count = 2", 'count = 2\nneeds = "b{n}"'), "utf-8")
    (problem,) = [found for found in examine(site / "gateway.toml").problems if found.code == "E-PRF-003"]
    line = text[: text.index("count = 2")].count("\n") + 2
    assert (problem.line, problem.field, problem.value) == (line, "channels.ch.needs", "b1")
