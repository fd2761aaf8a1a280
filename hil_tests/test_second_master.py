"""A stranger asks on a running board's bus: the board leaves it the line, and everybody is told.

That the board goes on a minute after the stranger's last request, and that one request in thirty seconds is enough to
keep it silent, takes minutes: tests/hil/test_faults.py sees it in virtual time.
"""

import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from hil_tests.bench.board import DIES_WITH_ITS_STARTER
from hil_tests.bench.line import Exchange, Line
from hil_tests.bench.rig import N_, Rig, lay_bus
from hil_tests.bench.sheet import Point
from hil_tests.bench.units import Unit
from hil_tests.mosquitto import Mosquitto
from hil_tests.small_site import BOARD, Bus, Reading, SmallSite
from protocols import model, profile

pytestmark = pytest.mark.needs("mosquitto", "micropython")

STRANGER = Path(__file__).parent / "peers" / "minimalmodbus_master.py"
LINE = "19200 8N1"
UNIT_ID = 7
ALARM = "system.bus.line:OTHER_MASTER"
OUR_COUNT, ITS_COUNT = 2, 3  # registers in a request tell whose it is
WATCHED_S = 4.0  # eight of the board's periods
PROFILE = """
version = 1
maker = "nobody"
model = "one number"
source = "this test"
evidence = "code"
timeout_ms = 500
address_base = 0
[channels.level]
function_code = 3
address = 0
type = "f32"
word_order = "ABCD"
decimals = 3
unit = "m"
"""
POINTS = f"""\
point,name,area,bus,unit_id,profile,channel,unit,period_s
T1.level,level,hall,line,{UNIT_ID},probe,level,m,0.5
"""


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[Mosquitto]:
    broker = Mosquitto(tmp_path, "allow_anonymous true")
    yield broker
    broker.close()


@pytest.mark.shows(N_("Another master on the bus: the board falls silent, leaves it the line, and an alarm says so."))
def test_the_board_is_silent_while_another_master_asks(rig: Rig, broker: Mosquitto, tmp_path: Path) -> None:
    asked: list[tuple[float, int]] = []  # when, and how many registers

    def note(exchange: Exchange) -> None:
        asked.append((exchange.asked_s, exchange.request[5]))

    point = Point("T1.level", "line", UNIT_ID, "probe", "level", "m", None, None, 500, 0, 60)
    unit = Unit(UNIT_ID, profile.load("probe", PROFILE), [point])
    line = Line("line", model.Line.parse(LINE), [unit], lambda _point, _now_s: 8.25)
    bus = lay_bus(rig, BOARD, 1, line, note)
    stranger = bus.join()

    def work() -> None:
        bus.run(time.monotonic())

    with (
        closing(bus.port),
        closing(stranger),
        closing(
            SmallSite(rig, tmp_path, broker.port, [Bus("line", LINE, bus.port.path)], POINTS, {"probe": PROFILE})
        ) as site,
    ):
        for port in (bus.port, stranger):
            site.watch(port.fileno(), lambda: bus.receive(time.monotonic()))
        site.until(lambda: bool(site.readings["T1.level"]), work)
        assert site.status(work)["buses"][0]["state"] == "polling"
        words = [stranger.path, "19200", str(ITS_COUNT), str(UNIT_ID)]
        with subprocess.Popen([*DIES_WITH_ITS_STARTER, sys.executable, STRANGER, *words]) as master:
            try:
                site.until(lambda: (ALARM, "UNACK") in site.alarms, work)
                told_s = time.monotonic()
                site.until(lambda: time.monotonic() >= told_s + WATCHED_S, work)
                status = site.status(work)
                assert master.poll() is None
            finally:
                master.kill()
        since_told = [count for at_s, count in asked if at_s >= told_s]
        assert OUR_COUNT not in since_told and since_told.count(ITS_COUNT) > 10
        first_s = min(at_s for at_s, count in asked if count == ITS_COUNT)
        beside = [at_s for at_s, count in asked if count == OUR_COUNT and at_s > first_s]
        assert len(beside) <= 1  # what it had begun when the stranger was first heard
        assert [(each["bus"], each["state"]) for each in status["buses"]] == [("line", "other_master")]
        assert [each["trouble"] for each in status["troubles"]] == ["other_master"]
        assert [(each["alarm"], each["state"]) for each in status["alarms"]] == [(ALARM, "UNACK")]
        assert [row["status"] for row in status["values"]] == [model.NOT_POLLED]
    assert set(site.readings["T1.level"]) <= {Reading(8.25, model.GOOD, 0), Reading(None, model.WRONG_REPLY, 0)}
