"""The points sheet as CSV: points that can be planned and judged, or problems of which each names code, file and row.

Input: the file, as UTF-8 or GB18030.
"""

import dataclasses
import math
from collections.abc import Iterator
from pathlib import Path

from edge.config import load_site
from edge.points import read_points, read_sheet
from tests.fuzz.targets.configuration import are_told, can_run

_EXAMPLE = Path(__file__).parents[3] / "hil_tests" / "site"
_SITE = load_site(_EXAMPLE / "gateway.toml")
_HEAD = "point,name,area,bus,unit_id,profile,channel,unit"
_LEVEL = "TK1.level,a,b,level,1,vegapuls-modbus,level,m"


def seeds() -> Iterator[bytes]:
    example = (_EXAMPLE / "points.csv").read_text(encoding="utf-8")
    heading, *rows = example.splitlines(keepends=True)
    for text in (heading + rows[0] + rows[6], heading + rows[12] + rows[-1], f"{_HEAD}\n{_LEVEL}\n"):
        yield text.encode("utf-8-sig")
        yield text.encode("gb18030")
    columns = ",range_low,range_high,period_s,deadband,heartbeat_s,urgent,preset,LL,L,H,HH,CH,quota_id,action"
    yield f'{_HEAD}{columns}\n{_LEVEL},0,12.5,0.5,0.01,60,1,tank-level,1,1.5,10.8,11.4,12.2,E1,"a, ""b"""\n'.encode()
    yield f"{_HEAD}{columns}\r\n{_LEVEL},-1,１２,0.05,-3,x,2,oxygen,9,8,7,6,5,1.2E+15,\r\n{_LEVEL}\r\n".encode()
    yield f"{_HEAD.replace('unit_id', 'unitid')},note\n{_LEVEL}\n".encode()
    yield f"{_HEAD};{_HEAD}\n".encode()


def run_one(data: bytes) -> None:
    sheet = read_sheet("points.csv", data)
    are_told(sheet.problems)
    are_told(sheet.warnings)
    names = list(_SITE.profiles)
    points, problems, reminders = read_points(sheet, [bus.name for bus in _SITE.buses], _SITE.profiles, names)
    are_told(problems)
    are_told(reminders)
    assert len(points) == len(sheet.rows) and (points or sheet.problems)
    if problems or sheet.problems:
        return
    for point in points:
        numbers = (point.range_low, point.range_high, point.deadband, *(limit for _kind, limit in point.limits))
        assert all(number is None or math.isfinite(number) for number in numbers)
        assert 1 <= point.unit_id <= 247 and 100 <= point.period_ms <= 3_600_000 and point.period_ms % 100 == 0
    assert len({point.point for point in points}) == len(points)
    try:
        can_run(dataclasses.replace(_SITE, points=points))
    except ValueError as fault:
        assert "read plan of" in str(fault) or "allowed are" in str(fault), fault  # more than a board holds: E-BRD-005
