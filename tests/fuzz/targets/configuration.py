"""gateway.toml: a site that can be judged and planned, or problems of which each names code, file and place.

Input: the file; the sheet beside it is a right one.
"""

import re
from collections.abc import Iterable, Iterator
from pathlib import Path

from edge import serial_port
from edge.config import examine
from edge.forecast import forecast, judge
from edge.planning import compile_board
from edge.problem import Problem
from protocols.feeds import json_feed
from protocols.model import Site

_EXAMPLE = Path(__file__).parents[3] / "hil_tests" / "site"
_SMALL = """schema = 1
[site]
gateway = "jt-0042"
name = "a"
group = "b"
timezone = "UTC"
points = "points.csv"
[boards.cab1]
id = "esp32s3-7cdfa1e40c11"
[buses.level]
board = "cab1"
uart = 1
line = "9600 8N1"
[store]
path = "store"
max_bytes = "8 GB"
"""
_SHEET = """point,name,area,bus,unit_id,profile,channel,unit
TK1.level,a,b,level,1,vegapuls-modbus,level,m
"""


def seeds() -> Iterator[bytes]:
    yield (_EXAMPLE / "gateway.toml").read_bytes()
    yield _SMALL.encode()
    district = '[destinations.district]\nurl = "mqtts://a.invalid:8883"\nfeed = "json"\nca = "ca.pem"\n'
    yield (_SMALL + "keep = { readings_days = 30 }\n" + district + 'cert = "c.pem"\nkey = "credential:k"\n').encode()
    yield _SMALL.replace("[buses.level]", '[buses.level]\nother_master = "allowed"').encode("utf-8-sig")
    yield _SMALL.replace("uart = 1", "uart ＝ 1").encode()


def run_one(data: bytes) -> None:
    examined = examine(Path("/nowhere/gateway.toml"), {"gateway.toml": data, "points.csv": _SHEET.encode()})
    assert (examined.site is None) == bool(examined.problems)
    are_told(examined.problems)
    are_told(examined.warnings)
    if examined.site is not None:
        can_run(examined.site)


def are_told(problems: Iterable[Problem]) -> None:
    """Each with code, file and place, in one line a terminal shows as it is."""
    for problem in problems:
        assert re.fullmatch(r"[EW]-[A-Z]{3}-\d{3}", problem.code), problem
        assert problem.file and problem.text
        whole_file = problem.code in ("E-FIL-001", "E-FIL-002", "E-FIL-003", "E-FIL-004", "E-SHT-001", "W-SHT-002")
        assert problem.line or problem.row or problem.field or whole_file, problem
        assert problem.code in str(problem)


def can_run(site: Site) -> None:
    """All that `tankgate check` and a start make of it is made without an error."""
    compiled = (compile_board(site, board.name, birth_id="00000000", taken_generations=()) for board in site.boards)
    told = forecast(site, [plan for plan in compiled if plan is not None], serial_port.BAUD)
    are_told(problem for found in judge(site, told, "gateway.toml", "points.csv") for problem in found)
    json_feed.birth("jt", "01KAR8M2", 1, "00000000", json_feed.birth_content(site, "0.1.0", "0.1.0", "live"))
