"""The guide to alarms: every example in it is a site that loads, and its tables say what the program does."""

import csv
import re
from pathlib import Path
from shutil import copytree

import openpyxl
import pytest

from edge.alarms.presets import PRESETS, alarms_of, damping
from edge.config import examine, load_site
from edge.points import COLUMNS
from protocols.model import Site

ROOT = Path(__file__).parents[2]
EXAMPLE = ROOT / "hil_tests" / "site"
FOLDER = ROOT / "edge" / "alarms"
GUIDES = {name: (FOLDER / name).read_text(encoding="utf-8") for name in ("README.md", "README.zh-CN.md")}
OF_EVERY_POINT = {"point", "name", "area", "bus", "unit_id", "profile", "channel", "unit", "range_low", "range_high"}
OF_OTHER_THINGS = {"medium", "period_s", "deadband", "heartbeat_s", "hazard", "quota_id", "urgent"}


def blocks(guide: str, kind: str) -> list[str]:
    return re.findall(rf"^```{kind}\n(.*?)^```$", GUIDES[guide], re.M | re.S)


def table(guide: str, first: str) -> list[list[str]]:
    """The cells of the table whose heading begins so."""
    lines = GUIDES[guide].split(f"\n| {first} |")[1].split("\n\n")[0].splitlines()[2:]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]


@pytest.fixture(params=GUIDES)
def guide(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def loaded(folder: Path, guide: str) -> Site:
    """The example's gateway with the points and votes of all examples together."""
    site = Path(copytree(EXAMPLE, folder / "site"))
    rows = [row for block in blocks(guide, "csv") for row in csv.DictReader(block.splitlines())]
    headings = list(dict.fromkeys(heading for row in rows for heading in row))
    with (site / "points.csv").open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, headings, restval="")
        writer.writeheader()
        writer.writerows(rows)
    with (site / "gateway.toml").open("a", encoding="utf-8") as toml:
        toml.write("".join(blocks(guide, "toml")))
    return load_site(site / "gateway.toml")


def test_every_example_loads_alone_as_csv_and_as_a_workbook(guide: str, tmp_path: Path) -> None:
    for number, block in enumerate(blocks(guide, "csv")):
        site = Path(copytree(EXAMPLE, tmp_path / str(number)))
        (site / "points.csv").write_text(block, encoding="utf-8")
        examined = examine(site / "gateway.toml")
        assert examined.site is not None, examined.problems
        assert {each.code for each in examined.warnings} <= {"W-LIM-004", "W-BRD-001"}
        save_workbook(site, block)
        assert load_site(site / "gateway.toml").points == examined.site.points


def save_workbook(site: Path, block: str) -> None:
    """As a spreadsheet does: numbers are numbers."""
    book = openpyxl.Workbook()
    for row in csv.reader(block.splitlines()):
        book.active.append([float(cell) if re.fullmatch(r"[0-9.]+", cell) else cell for cell in row])
    book.save(site / "points.xlsx")
    toml = site / "gateway.toml"
    toml.write_text(toml.read_text(encoding="utf-8").replace('"points.csv"', '"points.xlsx"'), encoding="utf-8")


def test_a_mistake_in_a_workbook_is_told_by_row_and_column(tmp_path: Path) -> None:
    site = Path(copytree(EXAMPLE, tmp_path / "site"))
    wrong = blocks("README.md", "csv")[0].replace(",5,60,0.05,1800,", ",5,60,10.8,30,").replace(",12\n", ",0.5\n")
    save_workbook(site, wrong)
    problems = examine(site / "gateway.toml").problems
    assert {(each.code, each.row, each.field) for each in problems} == {
        ("E-LIM-019", 2, "报警死区 alarm_deadband"),
        ("E-CEL-003", 2, "再报警s re_alarm_s"),
        ("E-CEL-003", 2, "可用时间min minutes_to_act"),
    }


def test_every_column_of_alarms_has_an_example_and_a_word(guide: str) -> None:
    sheets = [list(csv.DictReader(block.splitlines())) for block in blocks(guide, "csv")]
    filled = {heading.split()[-1] for rows in sheets for row in rows for heading, cell in row.items() if cell}
    assert set(COLUMNS) - OF_OTHER_THINGS - filled == set()
    assert {column for column in filled if f"`{column}`" not in GUIDES[guide]} <= OF_EVERY_POINT


def test_both_guides_have_the_same_examples() -> None:
    assert blocks("README.md", "csv") == blocks("README.zh-CN.md", "csv")
    english, chinese = (re.sub(r" *#.*", "", "".join(blocks(guide, "toml"))) for guide in GUIDES)
    assert english == chinese


def test_the_first_row_has_its_own_delays_and_the_second_those_of_its_preset(guide: str, tmp_path: Path) -> None:
    own, by_preset, *_others = loaded(tmp_path, guide).points
    damped = damping(own)
    assert (damped.off_delay_from, damped.deadband_from, damped.re_alarm_s) == ("sheet", "sheet", 1800)
    assert (damping(by_preset).off_delay_s, damping(by_preset).off_delay_from) == (10, "own_choice")


def test_the_presets_are_as_the_table_says(guide: str) -> None:
    rows = table(guide, {"README.md": "preset", "README.zh-CN.md": "模板"}[guide])
    yes = {"README.md": "yes", "README.zh-CN.md": "是"}[guide]
    told = {
        row[0].strip("`"): (row[1], row[2], float(row[3]), row[4], row[5] == yes)
        for row in rows
    }  # fmt: skip
    assert told == {
        name: (
            ", ".join(each.limits),
            ", ".join(each.trends),
            round(100 * each.deadband_share, 9),
            f"{each.off_ms / 1000:g} s",
            each.latches,
        )
        for name, each in PRESETS.items()
    }
    for row in rows:
        limits = dict(PRESETS[row[0].strip("`")].most) | {
            kind: 100 * share for kind, share in PRESETS[row[0].strip("`")].of_oel
        }
        assert all(f"{most:g} %" in row[6] for most in limits.values())


def test_the_priorities_are_as_the_table_says(guide: str, tmp_path: Path) -> None:
    rows = table(guide, {"README.md": "alarm", "README.zh-CN.md": "报警"}[guide])
    told = {kind: int(priority) for kinds, priority, _of in rows for kind in re.findall(r"`(\w+)`", kinds)}
    settings = alarms_of(loaded(tmp_path, guide))
    assert told == {setting.kind: setting.priority for setting in settings}
    assert all(setting.latch for setting in settings if setting.kind == "OVER")


def test_votes_count_what_has_no_value_or_leave_it_out(guide: str, tmp_path: Path) -> None:
    four, east = loaded(tmp_path, guide).votings
    assert (four.needed, len(four.points), four.bad_counts) == (2, 4, True)
    assert (east.needed, len(east.points), east.bad_counts) == (1, 2, False)
