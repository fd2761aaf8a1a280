"""Forty mistakes in a site's files, and what a technician must be told of each: written by hand, once.

The tests and the figure `config_mistakes_explained` judge by them. A mistake is explained when in both languages the
one problem that is told names its file, line or row, column or key, the value that stands there, a code, what is
allowed and what to do; the Chinese is whole, and not the English one.
"""

import csv
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from shutil import copytree

import openpyxl

from edge.config import examine
from edge.problem import Problem
from protocols import profile

EXAMPLE = Path(__file__).parents[2] / "hil_tests" / "site"
_ENGLISH_SENTENCE = re.compile(r"[a-z]{3,} [a-z]{2,} [a-z]{2,}")

Seed = Callable[[Path], None]


def replace(file: Path, old: str, new: str) -> None:
    """Change one place of a file, which must be there once."""
    text = file.read_text(encoding="utf-8")
    assert text.count(old) == 1, f"{old!r} stands {text.count(old)} times in {file.name}"
    file.write_text(text.replace(old, new), encoding="utf-8")


def change_cell(file: Path, row: int, column: str, value: str) -> None:
    """Write one cell of the sheet; rows are numbered as a spreadsheet does."""
    lines = file.read_text(encoding="utf-8").splitlines()
    at = [heading.split()[-1] for heading in lines[0].split(",")].index(column)
    cells = lines[row - 1].split(",")
    cells[at] = value
    lines[row - 1] = ",".join(cells)
    file.write_text("\n".join(lines) + "\n", encoding="utf-8")


def toml(old: str, new: str) -> Seed:
    return lambda site: replace(site / "gateway.toml", old, new)


def cell(row: int, column: str, value: str) -> Seed:
    return lambda site: change_cell(site / "points.csv", row, column, value)


def sheet(old: str, new: str, count: int = 1) -> Seed:
    def seed(site: Path) -> None:
        text = (site / "points.csv").read_text(encoding="utf-8")
        assert text.count(old) >= count
        (site / "points.csv").write_text(text.replace(old, new), encoding="utf-8")

    return seed


def own_profile(old: str, new: str) -> Seed:
    """In a copy of a built-in profile that lies beside the site."""

    def seed(site: Path) -> None:
        (site / "profiles").mkdir()
        file = site / "profiles" / "sensepoint-xcd.toml"
        file.write_text(profile.builtin("sensepoint-xcd").text, encoding="utf-8")
        replace(file, old, new)

    return seed


@dataclass(frozen=True, slots=True)
class Mistake:
    """`form`: in which the sheet is saved. `english`, `chinese`: what is allowed and what to do, as parts of the text.

    `alone`: it hides others, or moves their lines.
    """

    code: str
    seed: Seed
    problem: Problem
    english: tuple[str, ...]
    chinese: tuple[str, ...]
    form: str = "utf-8"
    alone: bool = False


def in_toml(
    code: str, seed: Seed, line: int, field: str, value: str | None, english: tuple[str, ...], chinese: tuple[str, ...],
    alone: bool = False,
) -> Mistake:  # fmt: skip
    problem = Problem(code, "gateway.toml", field, value, "", line=line)
    return Mistake(code, seed, problem, english, chinese, alone=alone)


def in_sheet(
    form: str, code: str, seed: Seed, row: int, point: str, field: str, value: str | None, english: tuple[str, ...],
    chinese: tuple[str, ...], alone: bool = False,
) -> Mistake:  # fmt: skip
    file = "points.xlsx" if form == "xlsx" else "points.csv"
    problem = Problem(code, file, field, value, "", row=row, point=point)
    return Mistake(code, seed, problem, english, chinese, form, alone or form == "xlsx")


def in_profile(
    code: str, seed: Seed, line: int, field: str, value: str | None, english: tuple[str, ...], chinese: tuple[str, ...],
    alone: bool = False,
) -> Mistake:  # fmt: skip
    problem = Problem(code, "profiles/sensepoint-xcd.toml", field, value, "", line=line)
    return Mistake(code, seed, problem, english, chinese, alone=alone)


# fmt: off
MISTAKES = (
    in_toml("E-KEY-001", toml("timezone =", "timezon =  "), 8, "site.timezon", "Asia/Shanghai",
            ("Allowed are: gateway, name, group, timezone, points, codes.", "Did you mean “timezone”?"),
            ("可用的有：gateway、name、group、timezone、points、codes。", "是不是“timezone”？")),
    in_toml("E-KEY-001", toml("readings_days", "reading_days"), 35, "store.keep.reading_days", "30",
            ("Allowed are: readings_days, alarms_days.", "Did you mean “readings_days”?"),
            ("可用的有：readings_days、alarms_days。", "是不是“readings_days”？")),
    in_toml("E-KEY-002", toml('feed = "json"', ""), 37, "destinations.district.feed", None,
            ("is missing.", "Add a line to this table: feed = …"), ("缺少", "feed = …"), alone=True),
    in_toml("E-OUT-001", toml("[store]", "[outputs.horn]\ncoil = 0\n[store]"), 32, "outputs.horn", None,
            ("needs either `bus`, `unit_id`, `profile` and `coil`, or `board` and `pin`.", "It has: coil."),
            ("要么写 bus、unit_id、profile 和 coil，要么写 board 和 pin", "现在只有：coil"), alone=True),
    in_toml("E-VAL-001", toml("uart  = 2", 'uart  = "2"'), 25, "buses.gas-a.uart", "2",
            ("must be a whole number", "without quotes"), ("不加引号的整数",)),
    in_toml("E-VAL-002", toml('"jt-0042"', '"JT_0042"'), 5, "site.gateway", "JT_0042",
            ("3 to 32 small letters, digits and -", "like jt-0042"), ("3", "32", "小写字母", "jt-0042")),
    in_toml("E-VAL-002", toml('"jt-0042"', '"ｊｔ-0042"'), 5, "site.gateway", "ｊｔ-0042",
            ("small letters", "Write jt-0042 instead"), ("小写字母", "改成半角：jt-0042"), alone=True),
    in_toml("E-VAL-002", toml('"19200 8N1"', '"19200,8,N,1"'), 26, "buses.gas-a.line", "19200,8,N,1",
            ("must be baud, data bits, parity, stop bits", "like 9600 8N1"), ("如 9600 8N1",)),
    in_toml("E-VAL-002", toml('"8 GB"', '"8G"'), 34, "store.max_bytes", "8G",
            ("must be a size", "like 8 GB or 500 MB"), ("如 8 GB", "500 MB")),
    in_toml("E-VAL-002", toml('"mqtt://127', '"http://127'), 38, "destinations.district.url", "http://127.0.0.1:1883",
            ("must be mqtts:// or mqtt://, a host, a colon and a port",), ("mqtts:// 或 mqtt://",)),
    in_toml("E-VAL-003", toml("Asia/Shanghai", "Asia/Shanghi"), 8, "site.timezone", "Asia/Shanghi",
            ("is not a known time zone", "Did you mean “Asia/Shanghai”?"), ("时区", "是不是“Asia/Shanghai”？"),
            alone=True),
    in_toml("E-VAL-003", toml("uart  = 2", "uart  = 3"), 25, "buses.gas-a.uart", "3",
            ("allowed are 1 and 2",), ("1 和 2",), alone=True),
    in_toml("E-BRD-001", toml("esp32-a0b765112233", "esp32s3-7cdfa1e40c11"), 15, "boards.cab2.id",
            "esp32s3-7cdfa1e40c11", ("board cab1 has it already", "Each needs its own: change one of the two."),
            ("采集板 cab1", "改掉")),
    in_toml("E-BRD-002", toml('"cab2"', '"cap2"'), 28, "buses.gas-b.board", "cap2",
            ("Allowed are: cab1, cab2.", "Did you mean “cab2”?"), ("可用的有：cab1、cab2。", "是不是“cab2”？")),
    in_toml("E-DST-002", toml("# ca ", "ca   "), 40, "destinations.district.ca", "/etc/tankgate/district-ca.pem",
            ("is never used", "Write mqtts:// in the url."), ("改成 mqtts://",), alone=True),
    in_toml("E-FIL-001", toml('"points.csv"', '"point.csv"'), 9, "site.points", "point.csv",
            ("does not exist in", "Correct the name, or put the file there.", "Did you mean “points.csv”?"),
            ("改正文件名，或把文件放进去。", "是不是“points.csv”？"), alone=True),
    in_toml("E-TOM-001", toml('"json"', "json"), 39, "", None,
            ("column 8: is not TOML.", "A text needs double quotes"), ("第 8 列", "双引号"), alone=True),
    in_toml("E-TOM-002", toml("group    =", "group    ＝"), 7, "", None,
            ("column 10: ＝ is full-width. Write = with the keyboard in English.",), ("第 10 列：＝ 是全角", "="),
            alone=True),
    in_toml("E-TOM-003", toml("[buses.gas-a]", "[buses.level]"), 23, "", None,
            ("stands further up already. Delete one of them.",), ("删掉一处",), alone=True),

    in_sheet("utf-8", "E-LIM-003", cell(4, "HH", "12.8"), 4, "TK103.level", "高高 HH", "12.8",
             ("is above range_high 12.5: it can never alarm.", "Lower HH or change the range."),
             ("大于量程上限 12.5，永远不会报警。", "改小 HH，或改量程。")),
    in_sheet("utf-8-sig", "E-CEL-002", cell(2, "HH", "11.4m"), 2, "TK101.level", "高高 HH", "11.4m",
             ("is not a number. Write digits", "like 12.5"), ("不是数", "如 12.5")),
    in_sheet("gb18030", "E-CEL-002", cell(6, "HH", "８.７"), 6, "TK105.level", "高高 HH", "８.７",
             ("is full-width. Write 8.7 with the keyboard in English.",), ("全角", "改成 8.7")),
    in_sheet("utf-8-sig", "E-CEL-003", cell(5, "unit_id", "300"), 5, "TK104.level", "站号 unit_id", "300",
             ("allowed are 1 to 247",), ("1 到 247",)),
    in_sheet("gb18030", "E-CEL-004", cell(7, "period_s", "0.25"), 7, "TK106.level", "周期s period_s", "0.25",
             ("must be whole tenths of a second", "like 0.5"), ("0.1 秒的整数倍", "如 0.5")),
    in_sheet("utf-8", "E-PNT-001", cell(3, "point", "TK102液位"), 3, "TK102液位", "位号 point", "TK102液位",
             ("must be asset.quantity in letters, digits, _ and -", "like TK101.level"),
             ("设备.测量", "如 TK101.level")),
    in_sheet("gb18030", "E-PNT-002", cell(9, "point", "TK101.temp"), 9, "TK101.temp", "位号 point", "TK101.temp",
             ("stands in row 8 already.", "Each point needs its own: change one of the two."), ("第 8 行", "改掉")),
    in_sheet("utf-8-sig", "E-BUS-001", cell(14, "bus", "gas_a"), 14, "GD01.gas", "总线 bus", "gas_a",
             ("Allowed are: level, gas-a, gas-b.", "Did you mean “gas-a”?"),
             ("可用的有：level、gas-a、gas-b。", "是不是“gas-a”？")),
    in_sheet("gb18030", "E-PRF-001", cell(10, "profile", "adam-4017"), 10, "TK103.temp", "型号 profile", "adam-4017",
             ("Allowed are: adam-4017p", "Did you mean “adam-4017p”?"),
             ("可用的有：adam-4017p", "是不是“adam-4017p”？")),
    in_sheet("utf-8", "E-PRF-002", cell(5, "channel", "levle"), 5, "TK104.level", "测量 channel", "levle",
             ("Allowed are: level", "Did you mean “level”?"), ("可用的有：level", "是不是“level”？")),
    in_sheet("gb18030", "E-UOM-001", cell(15, "unit", "%LE"), 15, "GD02.gas", "单位 unit", "%LE",
             ("Known are: %LEL", "Did you mean “%LEL”?"), ("%LEL、", "是不是“%LEL”？")),
    in_sheet("utf-8", "E-UOM-002", cell(7, "unit", "ppm"), 7, "TK106.level", "单位 unit", "ppm",
             ("is in m, cm, mm, which does not convert.", "Write that unit, or another channel."),
             ("以 m、cm、mm 为单位，不能换算", "换")),
    in_sheet("xlsx", "E-LIM-001", cell(2, "HH", "10.8"), 2, "TK101.level", "高高 HH", "10.8",
             ("is not above H = 10.8", "the limits must rise from LL to CH. Correct one of the two."),
             ("不大于 H = 10.8", "LL", "CH", "改正其中一个")),
    in_sheet("gb18030", "E-LIM-005", cell(17, "preset", "combustable"), 17, "GD04.gas", "报警模板 preset",
             "combustable",
             ("Allowed are: tank-level, pressure, temperature, combustible", "Did you mean “combustible”?"),
             ("可用的有：tank-level、pressure、temperature、combustible", "是不是“combustible”？")),
    in_sheet("xlsx", "E-LIM-006", cell(16, "L", "5"), 16, "GD03.gas", "低 L", "5",
             ("preset combustible has no such alarm.", "Allowed are: H, HH"), ("combustible", "可用的有：H、HH")),
    in_sheet("xlsx", "E-SHT-008", cell(3, "HH", "=Q3+0.6"), 3, "TK102.level", "高高 HH", "=Q3+0.6",
             ("is a formula", "Copy the column and paste it as values."), ("公式", "粘贴")),
    in_sheet("xlsx", "E-PNT-004", cell(2, "quota_id", "123456789012345678"), 2, "TK101.level", "平台编码 quota_id",
             "1.23456789012346E+17", ("Format the column as text, then enter it again.",), ("设成文本格式",)),
    in_sheet("utf-8-sig", "E-SHT-003", sheet("介质 medium", "区域 area"), 1, "", "区域 area", None,
             ("this column stands twice.", "Delete one of them."), ("两次", "删掉"), alone=True),

    in_profile("E-PRF-003", own_profile('evidence = "manual"', 'evidence = "hearsay"'), 7, "evidence", "hearsay",
               ("is not allowed. Allowed is: manual",), ("不可用。可用的是：manual",)),
    in_profile("E-PRF-003", own_profile('type = "f32"', 'type = "f33"'), 18, "channels.gas.type", "f33",
               ("is not allowed. Allowed is: ", "f32"), ("不可用。可用的是：", "f32"),
               alone=True),
    in_profile("E-TOM-002", own_profile("address_base =", "address_base ＝"), 13, "", None,
               ("column 14: ＝ is full-width. Write = with the keyboard in English.",), ("第 14 列：＝ 是全角", "="),
               alone=True),
)
# fmt: on


def seeded(folder: Path, mistakes: Iterable[Mistake], form: str) -> Path:
    """The example site with these mistakes in it; its gateway.toml."""
    site = Path(copytree(EXAMPLE, folder))
    for mistake in mistakes:
        mistake.seed(site)
    _save_as(site, form)
    return site / "gateway.toml"


def _save_as(site: Path, form: str) -> None:
    """As a spreadsheet saves its sheet: numbers are numbers in a workbook."""
    file = site / "points.csv"
    text = file.read_text(encoding="utf-8")
    if form != "xlsx":
        file.write_bytes(text.replace("\n", "\r\n").encode(form))
        return
    book = openpyxl.Workbook()
    for row in csv.reader(text.splitlines()):
        book.worksheets[0].append([_typed(each) for each in row])
    book.save(site / "points.xlsx")
    replace(site / "gateway.toml", "points.csv", "points.xlsx")


def _typed(text: str) -> str | float | None:
    if text.startswith("0") and text.isdigit() and text != "0":  # a code, kept as text
        return text
    try:
        return float(text) if "." in text else int(text)
    except ValueError:
        return text or None


def unexplained(mistake: Mistake, told: dict[str, list[Problem]]) -> list[str]:
    """What a technician is not told of this mistake; `told`: all problems, by language, "en" and "zh_CN"."""
    missing = []
    texts = []
    for language, parts in (("en", mistake.english), ("zh_CN", mistake.chinese)):
        found = [problem for problem in told[language] if _placed(problem) == _placed(mistake.problem)]
        if len(found) != 1:
            missing.append(f"{language}: {_placed(mistake.problem)} is not in {list(map(_placed, told[language]))}")
            continue
        text, whole = found[0].text, str(found[0])
        missing += [f"{language}: {part!r} is not in {text!r}" for part in parts if part not in text]
        if "\n" in whole or not whole.endswith(mistake.code) or mistake.problem.file not in whole:
            missing.append(f"{language}: {whole!r} is not one whole line")
        texts.append(text)
    if len(texts) == 2 and (texts[0] == texts[1] or not re.search("[\u4e00-\u9fff]", texts[1])):
        missing.append(f"zh_CN: {texts[1]!r} is not Chinese")
    if len(texts) == 2 and _ENGLISH_SENTENCE.search(texts[1]):
        missing.append(f"zh_CN: {texts[1]!r} is English in part")
    return missing


def _placed(problem: Problem) -> tuple[object, ...]:
    return problem.code, problem.file, problem.line, problem.row, problem.point, problem.field, problem.value


def told(speak: Callable[[str], None], gateway_toml: Path) -> dict[str, list[Problem]]:
    """All problems of a site, in both languages."""
    problems = {}
    for language in ("en", "zh_CN"):
        speak(language)
        problems[language] = list(examine(gateway_toml).problems)
    return problems


def judge(folder: Path, speak: Callable[[str], None]) -> dict[int, list[str]]:
    """Every mistake by its place in MISTAKES: what is not told of it, alone and where many are made at once."""
    missing = {}
    together = [mistake for mistake in MISTAKES if not mistake.alone]
    all_told = told(speak, seeded(folder / "together", together, "utf-8"))
    for at, mistake in enumerate(MISTAKES):
        one_told = told(speak, seeded(folder / str(at), [mistake], mistake.form))
        missing[at] = unexplained(mistake, one_told)
        missing[at] += [f"{language}: not alone" for language, found in one_told.items() if len(found) != 1]
        if not mistake.alone:
            missing[at] += unexplained(mistake, all_told)
    return missing
