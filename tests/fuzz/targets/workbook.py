"""The points sheet as XLSX: rows as those from CSV, which sheet.py has judged, or a problem of the whole file.

Input: a byte that chooses a part of a workbook, and what stands there; or the whole file.
"""

import io
import zipfile
from collections.abc import Iterator

import openpyxl

from edge.workbook import read_workbook
from tests.fuzz.targets.configuration import are_told

_MAIN = "http://schemas.openxmlformats.org/spreadsheetml/2006/main"
_OFFICE = "http://schemas.openxmlformats.org/officeDocument/2006/relationships"
_PACKAGES = "http://schemas.openxmlformats.org/package/2006"
_TYPES = "application/vnd.openxmlformats-officedocument.spreadsheetml"
_ROWS = (
    tuple(
        [
            "point",
            "name",
            "area",
            "bus",
            "unit_id",
            "profile",
            "channel",
            "unit",
            "range_low",
            "range_high",
            "HH",
            "preset",
        ]
    ),
    ("TK1.level", "a", "b", "level", 1, "vegapuls-modbus", "level", "m", 0, 12.5, 11.4, "tank-level"),
)


def _saved() -> bytes:
    book = openpyxl.Workbook()
    for row in _ROWS:
        book.worksheets[0].append(row)
    book.worksheets[0]["N3"] = "=1+1"
    book.worksheets[0]["K2"].number_format = "0%"
    file = io.BytesIO()
    book.save(file)
    return file.getvalue()


_SAVED = _saved()
# Texts in their cells, and no part that is not needed: short, so that changes hit what matters.
_CELLS = "".join(
    f'<row r="{number}">'
    + "".join(
        f'<c r="{chr(65 + at)}{number}" t="inlineStr"><is><t>{value}</t></is></c>'
        if isinstance(value, str)
        else f'<c r="{chr(65 + at)}{number}"><v>{value}</v></c>'
        for at, value in enumerate(row)
    )
    + "</row>"
    for number, row in enumerate(_ROWS, start=1)
)
_PARTS = {
    "xl/worksheets/sheet1.xml": f'<worksheet xmlns="{_MAIN}"><sheetData>{_CELLS}</sheetData></worksheet>',
    "xl/workbook.xml": f'<workbook xmlns="{_MAIN}" xmlns:r="{_OFFICE}"><sheets><sheet name="a" sheetId="1" r:id="r1"/>'
    "</sheets></workbook>",
    "xl/sharedStrings.xml": f'<sst xmlns="{_MAIN}"><si><t>a</t></si></sst>',
    "xl/_rels/workbook.xml.rels": f'<Relationships xmlns="{_PACKAGES}/relationships">'
    f'<Relationship Id="r1" Type="{_OFFICE}/worksheet" Target="worksheets/sheet1.xml"/></Relationships>',
    "[Content_Types].xml": f'<Types xmlns="{_PACKAGES}/content-types">'
    f'<Override PartName="/xl/workbook.xml" ContentType="{_TYPES}.sheet.main+xml"/>'
    f'<Override PartName="/xl/sharedStrings.xml" ContentType="{_TYPES}.sharedStrings+xml"/></Types>',
    "xl/styles.xml": f'<styleSheet xmlns="{_MAIN}"><cellXfs><xf numFmtId="0"/><xf numFmtId="9"/></cellXfs>'
    "</styleSheet>",
}


def seeds() -> Iterator[bytes]:
    for number, part in enumerate(_PARTS.values()):
        yield bytes((number,)) + part.encode()
    cells = _PARTS["xl/worksheets/sheet1.xml"]
    yield b"\0" + cells.replace("<v>12.5</v>", "<f>1+1</f><v>2</v>").replace("<v>1</v>", "<v>1E+99</v>").encode()
    yield b"\0" + cells.replace('"><v>11.4', '" s="1"><v>11.4').encode()
    yield b"\xff" + _SAVED


def run_one(data: bytes) -> None:
    if not data:
        return
    read = read_workbook("points.xlsx", _packed(data[0], data[1:]))
    are_told(read.problems)
    are_told(read.warnings)


def _packed(number: int, content: bytes) -> bytes:
    """The workbook with one part changed, stored as it is; of a number that is none the content itself."""
    if number >= len(_PARTS):
        return content
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as book:
        for at, (name, part) in enumerate(_PARTS.items()):
            book.writestr(name, content if at == number else part)
    return file.getvalue()
