"""The points sheet as XLSX: read like its CSV, row by row as the spreadsheet numbers them, and never repaired."""

import csv
import io
import os
import subprocess
import sys
import zipfile
from collections.abc import Callable
from datetime import date
from pathlib import Path
from shutil import copytree
from typing import Any

import openpyxl
import pytest

from edge.config import examine, load_site
from edge.workbook import read_workbook

ROOT = Path(__file__).parents[2]


@pytest.fixture
def site(tmp_path: Path) -> Path:
    """The example site, its sheet saved by a spreadsheet: numbers are numbers there, and codes are texts."""
    folder = Path(copytree(ROOT / "hil_tests" / "site", tmp_path / "site"))
    book = openpyxl.Workbook()
    for row in csv.reader((folder / "points.csv").read_text(encoding="utf-8").splitlines()):
        book.worksheets[0].append([_typed(text) for text in row])
    book.save(folder / "points.xlsx")
    toml = folder / "gateway.toml"
    toml.write_text(toml.read_text(encoding="utf-8").replace("points.csv", "points.xlsx"), encoding="utf-8")
    return folder


def _typed(text: str) -> str | float | None:
    if text == "001":
        return text
    try:
        return float(text) if "." in text else int(text)
    except ValueError:
        return text or None


def spoil(site: Path, change: Callable[[Any], None]) -> None:
    book = openpyxl.load_workbook(site / "points.xlsx")
    change(book)
    book.save(site / "points.xlsx")


def put(cell: str, value: object, number_format: str = "General") -> Callable[[Any], None]:
    def change(book: Any) -> None:
        book.worksheets[0][cell] = value
        book.worksheets[0][cell].number_format = number_format

    return change


def test_the_example_is_the_same_site_as_from_csv(site: Path) -> None:
    examined = examine(site / "gateway.toml")
    assert (examined.problems, examined.sheet) == ((), "points.xlsx")
    assert [warning.code for warning in examined.warnings] == ["W-LIM-004"]
    assert examined.site is not None
    from_csv = load_site(ROOT / "hil_tests" / "site" / "gateway.toml")
    assert examined.site.points == from_csv.points
    assert examined.site.config_hash != from_csv.config_hash


def test_rows_have_the_spreadsheets_numbers(site: Path) -> None:
    def change(book: Any) -> None:
        book.worksheets[0].insert_rows(1, 2)  # two blank rows above the headings
        book.worksheets[0].insert_rows(8, 3)  # and three between points
        book.worksheets[0]["R12"] = "high"  # HH of TK106.level, once row 7

    spoil(site, change)
    (problem,) = examine(site / "gateway.toml").problems
    assert (problem.code, problem.row, problem.point, problem.value) == ("E-CEL-002", 12, "TK106.level", "high")


CELLS = [
    # what is in the cell, its format, the text that is judged, and what that says of HH or of the code
    ("R2", 11.4000000000000004, "General", None, None),  # 15 digits, as the spreadsheet shows it
    ("R2", 0.25, "0%", "25%", "E-CEL-002"),  # shown as 25 %: 0.25 would be an alarm level nobody wrote
    ("R2", 1e-7, "General", "0.0000001", "E-LIM-001"),
    ("R2", True, "General", "True", "E-CEL-002"),
    ("R2", date(2026, 11, 4), "m-d", "2026-11-04 00:00:00", "E-CEL-002"),  # somebody wrote 11-4
    ("R2", "=Q2+0.6", "General", "=Q2+0.6", "E-SHT-008"),
    ("B2", "=A2", "General", "=A2", "E-SHT-008"),  # in a text too
    ("V2", 123456789012345678, "0", "1.23456789012346E+17", "E-PNT-004"),  # its last digits are lost
]


@pytest.mark.parametrize(("cell", "value", "number_format", "text", "code"), CELLS)
def test_a_cell_is_judged_as_it_is_shown(
    site: Path, cell: str, value: object, number_format: str, text: str | None, code: str | None
) -> None:
    spoil(site, put(cell, value, number_format))
    found = examine(site / "gateway.toml").problems
    if code is None:
        assert found == ()
    else:
        assert (code, 2, text) in [(problem.code, problem.row, problem.value) for problem in found]


def test_a_formula_in_a_column_that_is_not_used_does_no_harm(site: Path) -> None:
    spoil(site, put("Z2", "=A2"))
    spoil(site, put("Z1", "备注"))
    examined = examine(site / "gateway.toml")
    assert examined.site is not None
    assert [warning.code for warning in examined.warnings] == ["W-SHT-001", "W-LIM-004"]


def test_only_the_first_sheet_is_read_and_that_is_said(site: Path) -> None:
    spoil(site, lambda book: book.create_sheet("空表"))
    assert [warning.code for warning in examine(site / "gateway.toml").warnings] == ["W-LIM-004"]
    spoil(site, lambda book: book.create_sheet("旧点表").append(["TK107.level"]))
    warning, _oxygen = examine(site / "gateway.toml").warnings
    assert warning.code == "W-SHT-002" and "“Sheet”" in warning.text


@pytest.mark.parametrize("part", [0.5, 0.0])
def test_a_damaged_workbook(site: Path, part: float) -> None:
    data = (site / "points.xlsx").read_bytes()
    (site / "points.xlsx").write_bytes(data[: int(len(data) * part)])
    (problem,) = examine(site / "gateway.toml").problems
    assert (problem.code, problem.file) == ("E-FIL-004", "points.xlsx")


def test_an_old_or_locked_workbook_and_a_csv_with_a_workbooks_name(site: Path) -> None:
    for data in (b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + bytes(512), b"point,name\n"):
        (site / "points.xlsx").write_bytes(data)
        (problem,) = examine(site / "gateway.toml").problems
        assert problem.code == "E-FIL-004"


def _rewritten(data: bytes, change: Callable[[bytes], bytes]) -> bytes:
    """The workbook with its first sheet changed as text."""
    file = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(data)) as old, zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as new:
        for name in old.namelist():
            part = old.read(name)
            new.writestr(name, change(part) if name == "xl/worksheets/sheet1.xml" else part)
    return file.getvalue()


@pytest.mark.parametrize(
    ("old", "new", "code"),
    [
        (b'<pageMargins left="', b'<pageMargins leftt="', "E-FIL-004"),  # openpyxl: TypeError
        (b"<sheetData>", b"<sheetData>" + b" " * 64_000_000, "E-FIL-006"),
    ],
)
def test_a_workbook_that_is_odd_inside(site: Path, old: bytes, new: bytes, code: str) -> None:
    data = (site / "points.xlsx").read_bytes()
    changed = _rewritten(data, lambda sheet: sheet.replace(old, new))
    assert changed != data
    assert code in [problem.code for problem in read_workbook("points.xlsx", changed).problems]


def test_rows_end_where_a_spreadsheets_rows_end(site: Path) -> None:
    def change(sheet: bytes) -> bytes:
        return sheet.replace(b'<row r="2"', b'<row r="999999999999"')

    data = _rewritten((site / "points.xlsx").read_bytes(), change)
    assert read_workbook("points.xlsx", data).rows == ()


def test_a_file_that_another_program_wrote() -> None:
    """By hand from ECMA-376, part 1: shared and inline texts, rows left out, and a dimension that is not true."""
    main = "http://schemas.openxmlformats.org/spreadsheetml/2006/main"
    office = "http://schemas.openxmlformats.org/officeDocument/2006/relationships"
    packages = "http://schemas.openxmlformats.org/package/2006"
    types = "application/vnd.openxmlformats-officedocument.spreadsheetml"
    names = ("point", "name", "area", "bus", "unit_id", "profile", "channel", "unit")
    headings = "".join(f'<c r="{"ABCDEFGH"[i]}3" t="s"><v>{i}</v></c>' for i in range(8))
    parts = {
        "[Content_Types].xml": f'<Types xmlns="{packages}/content-types">'
        '<Default Extension="rels" ContentType="application/vnd.openxmlformats-package.relationships+xml"/>'
        f'<Override PartName="/xl/workbook.xml" ContentType="{types}.sheet.main+xml"/>'
        f'<Override PartName="/xl/worksheets/sheet1.xml" ContentType="{types}.worksheet+xml"/>'
        f'<Override PartName="/xl/sharedStrings.xml" ContentType="{types}.sharedStrings+xml"/></Types>',
        "_rels/.rels": f'<Relationships xmlns="{packages}/relationships">'
        f'<Relationship Id="r1" Type="{office}/officeDocument" Target="xl/workbook.xml"/></Relationships>',
        "xl/workbook.xml": f'<workbook xmlns="{main}" xmlns:r="{office}">'
        '<sheets><sheet name="点表" sheetId="1" r:id="r1"/></sheets></workbook>',
        "xl/_rels/workbook.xml.rels": f'<Relationships xmlns="{packages}/relationships">'
        f'<Relationship Id="r1" Type="{office}/worksheet" Target="worksheets/sheet1.xml"/>'
        f'<Relationship Id="r2" Type="{office}/sharedStrings" Target="sharedStrings.xml"/></Relationships>',
        "xl/sharedStrings.xml": f'<sst xmlns="{main}">' + "".join(f"<si><t>{n}</t></si>" for n in names) + "</sst>",
        "xl/worksheets/sheet1.xml": f'<worksheet xmlns="{main}"><dimension ref="A1:B2"/><sheetData>'
        f'<row r="3">{headings}</row>'
        '<row r="7"><c r="A7" t="inlineStr"><is><t>TK1.level</t></is></c><c r="E7"><v>12</v></c></row>'
        "</sheetData></worksheet>",
    }
    data = io.BytesIO()
    with zipfile.ZipFile(data, "w") as file:
        for name, text in parts.items():
            file.writestr(name, '<?xml version="1.0" encoding="UTF-8"?>' + text)
    sheet = read_workbook("points.xlsx", data.getvalue())
    assert sheet.problems == ()
    (row,) = sheet.rows
    assert row.number == 7
    assert (row.cells["point"], row.cells["name"], row.cells["unit_id"]) == ("TK1.level", "", "12")


def test_without_openpyxl_one_sentence_says_how_to_go_on(site: Path, tmp_path: Path) -> None:
    (tmp_path / "without" / "openpyxl").mkdir(parents=True)
    missing = tmp_path / "without" / "openpyxl" / "__init__.py"
    missing.write_text("raise ModuleNotFoundError('No module named openpyxl', name='openpyxl')\n", encoding="utf-8")
    ended = subprocess.run(
        [sys.executable, "-m", "edge", "--lang", "en", "check", str(site / "gateway.toml")],
        cwd=ROOT,
        env=os.environ | {"PYTHONPATH": str(tmp_path / "without")},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert ended.returncode == 2
    assert ended.stderr.splitlines()[0] == (
        "points.xlsx: needs openpyxl: pip install 'tankgate[xlsx]'. Or save the sheet as “CSV UTF-8”. E-FIL-005"
    )


def test_the_fixture_has_numbers(site: Path) -> None:
    """Otherwise nothing above is shown."""
    row = openpyxl.load_workbook(site / "points.xlsx").worksheets[0][2]
    assert [type(cell.value) for cell in row if cell.column_letter in "EIQR"] == [int, int, float, float]
