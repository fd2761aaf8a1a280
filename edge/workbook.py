"""A points sheet saved as XLSX: the cells of a workbook's first sheet, as the texts that points.py judges. Shell.

Owns what a cell's text is, so that both forms of a sheet obey the same rules. Must never repair a cell, nor take the
result of a formula: it is the one of the last time that a spreadsheet was open. Needs the extra `xlsx`.
"""

import warnings
import zlib
from dataclasses import replace
from decimal import Decimal
from gettext import gettext as _
from io import BytesIO
from typing import Any
from xml.etree.ElementTree import ParseError
from zipfile import BadZipFile, ZipFile

from edge.points import Sheet, sheet_of
from edge.problem import Problem

_EXACT = 1e15  # a spreadsheet keeps 15 digits: of a longer number the last ones are lost
_ROWS_MAX = 1_048_576  # of a spreadsheet
_UNPACKED_MAX_BYTES = 64_000_000  # thousands of points are two or three million
# openpyxl believes what a file says: what it stumbles over is the file's fault, whatever its name.
_DAMAGES = (
    *(BadZipFile, zlib.error, EOFError, ParseError),
    *(LookupError, ValueError, TypeError, AttributeError, ArithmeticError, AssertionError, RuntimeError, OSError),
)


def read_workbook(file: str, data: bytes) -> Sheet:
    """The rows of the first sheet, numbered as the spreadsheet shows them; none when the file cannot be read."""

    def refused(code: str, text: str) -> Sheet:
        return Sheet(file, {}, (), (Problem(code, file, "", None, text),), ())

    try:
        from openpyxl import load_workbook
    except ModuleNotFoundError:
        return refused(
            "E-FIL-005", _("needs openpyxl: pip install 'tankgate[xlsx]'. Or save the sheet as “CSV UTF-8”.")
        )
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of what it does not keep when it writes
            if _unpacked_bytes(data) > _UNPACKED_MAX_BYTES:
                return refused("E-FIL-006", _("has over 64 MB of cells. Copy the points alone into a new file."))
            book = load_workbook(BytesIO(data), read_only=True)
            sheets = [(sheet.title, _cells(sheet)) for sheet in book.worksheets]
    except _DAMAGES:
        text = _("is not a workbook that can be read: damaged, of an old form, or with a password. Save it as XLSX.")
        return refused("E-FIL-004", text)
    title, cells = sheets[0] if sheets else ("", [])
    sheet = sheet_of(file, [[_text(cell) for cell in row] for row in cells])
    formulas = [
        Problem(
            "E-SHT-008",
            file,
            sheet.headings[column],
            text,
            _("is a formula: its result may be an old one. Copy the column and paste it as values."),
            row=row.number,
            point=row.cells.get("point", ""),
        )
        for row in sheet.rows
        for column, text in row.cells.items()
        if text.startswith("=")
    ]
    notes = []
    if any(cell.value is not None for _title, rows in sheets[1:] for row in rows for cell in row):
        text = _("has several sheets: only the first one, “{title}”, is read.").format(title=title)
        notes.append(Problem("W-SHT-002", file, "", None, text))
    return replace(sheet, problems=(*sheet.problems, *formulas), warnings=(*sheet.warnings, *notes))


def _unpacked_bytes(data: bytes) -> int:
    """Of its cells and texts; no part of a ZIP file becomes longer than it says. Pictures are never unpacked."""
    with ZipFile(BytesIO(data)) as file:
        return sum(part.file_size for part in file.infolist() if part.filename.endswith(".xml"))


def _cells(sheet: Any) -> list[tuple[Any, ...]]:
    """All rows from the first on, empty ones too; how far the file says that they reach is not believed."""
    sheet.reset_dimensions()
    return list(sheet.iter_rows(min_row=1, max_row=_ROWS_MAX))


def _text(cell: Any) -> str:
    """The cell as the spreadsheet shows it with enough room: 15 digits, no exponent, per cent as per cent."""
    value = cell.value
    if value is None:
        return ""
    if cell.data_type == "f":
        return "=" + str(getattr(value, "text", value)).removeprefix("=")  # an array's formula is an object
    if isinstance(value, bool) or not isinstance(value, int | float):
        return str(value).strip()
    if "%" in cell.number_format:
        return f"{value * 100:.15g}%"
    if abs(value) >= _EXACT:
        return f"{value:.14E}"
    return f"{Decimal(f'{value:.15g}'):f}"
