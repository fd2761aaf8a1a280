"""What happens to an alarm between a detector and the district, told as stories on one small site, in one order.

The programs are the real ones, each a process as in the field: sensors on two lines, a board, the gateway, a broker and
the district's receiver. Alarms that are raised in the first stories are reset in the last ones: off-delays pass
meanwhile. Where root runs them, the gateway's store lies on a small disk of its own. A larger site has the last word:
hundreds of its points are in alarm at once.
"""

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from tempfile import TemporaryFile
from threading import Event
from typing import Any

import paho.mqtt.client as mqtt
import pytest
from paho.mqtt.enums import CallbackAPIVersion

from hil_tests.bench.rig import N_, Rig
from hil_tests.bench.units import SILENT
from hil_tests.chain import Chain
from hil_tests.disk import Disk
from hil_tests.mosquitto import Mosquitto

pytestmark = pytest.mark.needs("mosquitto", "two_buses")

WITHIN_S = 60.0
DETECTORS = ("GD01.gas", "GD02.gas", "GD03.gas", "GD04.gas")
GATEWAY_TOML = """\
schema = 1
[site]
gateway = "stories"
name = "stories"
group = "tests"
timezone = "Asia/Shanghai"
points = "points.csv"
[boards.cab1]
id = "esp32s3-7cdfa1e40c11"
[buses.gas]
board = "cab1"
uart = 1
line = "19200 8N1"
[buses.level]
board = "cab1"
uart = 2
line = "19200 8N1"
[store]
path = "store"
max_bytes = "50 MB"
[destinations.district]
url = "mqtt://127.0.0.1:1883"
feed = "json"
commands = { acknowledge = ["district-duty"] }
"""
VOTING = """\
[voting.yard]
points = ["GD01.gas", "GD02.gas", "GD03.gas", "GD04.gas"]
rule = "2oo4"
"""
POINTS_CSV = """\
point,name,area,bus,unit_id,profile,channel,unit,range_low,range_high,period_s,deadband,heartbeat_s,preset,H,HH,\
on_delay_s,ROF,trend_s,action
TK101.level,甲醇罐液位,罐区A,level,1,vegapuls-modbus,level,m,0,12.5,0.5,0.5,60,tank-level,10.8,11.4,1,,,停止进料
TK102.level,甲苯罐液位,罐区A,level,2,vegapuls-modbus,level,m,0,12.5,0.5,0.5,60,tank-level,10.8,11.4,1,,,停止进料
TK103.level,丙酮罐液位,罐区B,level,3,vegapuls-modbus,level,m,0,12.5,0.5,0.5,60,tank-level,10.8,11.4,1,,,停止进料
TK104.level,氨水罐液位,罐区B,level,4,vegapuls-modbus,level,m,0,12.5,0.5,0.5,60,tank-level,10.8,11.4,1,0.5,20,查漏
GD01.gas,东侧可燃气,罐区A,gas,1,sensepoint-xcd,gas,%LEL,0,100,0.5,1,60,combustible,25,50,,,,撤离
GD02.gas,南侧可燃气,罐区A,gas,2,sensepoint-xcd,gas,%LEL,0,100,0.5,1,60,combustible,25,50,,,,撤离
GD03.gas,泵房可燃气,泵房,gas,3,gas-module-6in1,gas,%LEL,0,100,1,1,60,combustible,25,50,,,,停泵；开启排风
GD04.gas,装车台可燃气,装车台,gas,4,sensepoint-xcd,gas,%LEL,0,100,0.5,1,60,combustible,25,50,,,,停止装车
"""
TANKS = ("TK101.level", "TK102.level", "TK103.level", "TK104.level")
DAY_MS = 86_400_000
CAN_MOUNT = os.geteuid() == 0
STORE_FAULT = "system.store:FAULT"


class Story:
    """The site, its plant (a point -> what is really there), and what the district has heard.

    `leaks_m_per_min` of TK104, which stops where it was where that becomes 0. `disk`: where its store lies, for root.
    """

    def __init__(self, rig: Rig, directory: Path, points: str, plant: dict[str, float]) -> None:
        self.plant = plant
        self.leaks_m_per_min = 0.0
        self._leaked_m = 0.0
        self._now_s = 0.0
        self.disk: Disk | None = None
        site = directory / "files"
        site.mkdir()
        voting = VOTING if "GD02.gas" in plant else ""
        (site / "gateway.toml").write_text(GATEWAY_TOML + voting, encoding="utf-8")
        (site / "points.csv").write_text(points, encoding="utf-8")
        self.chain = Chain(directory, session="district", rig=rig, site=site, measure=self._measure)

    def _measure(self, point: str, now_s: float) -> float:
        self._leaked_m += self.leaks_m_per_min * (now_s - self._now_s) / 60
        self._now_s = now_s
        return self.plant[point] - (self._leaked_m if point == "TK104.level" else 0.0)

    def start(self) -> None:
        self.chain.start_broker(Mosquitto)
        self.chain.start_district()
        self.chain.start_boards()
        self.chain.write_site()
        if CAN_MOUNT:
            self.disk = Disk(self.chain.directory / "disk.img", self.chain.directory / "site" / "store")
        self.chain.start_gateway()
        self.until(lambda: len(self.chain.latest) == len(self.plant))

    def close(self) -> None:
        self.chain.close()
        if self.disk is not None:
            self.disk.unmount(lazily=True)

    def until(self, true: Callable[[], object]) -> None:
        end_s = time.monotonic() + WITHIN_S
        while not true():
            assert time.monotonic() < end_s and self.chain.ended() is None, self._told()
            self.chain.step(0.01)

    def _told(self) -> str:
        told = [(each["alarm"], each["transition"], each["to"]) for each in self.chain.alarms[-50:]]
        log = self.chain.log("gateway").read_text(encoding="utf-8")
        return f"ended: {self.chain.ended()}\n{told}\n{log[-3000:]}"

    def hears(self, alarm: str, transition: str, to: str, beyond: int = 0) -> dict[str, Any]:
        """The first such event after so many, as soon as the district has it."""
        found: list[dict[str, Any]] = []

        def is_heard() -> bool:
            found[:] = [
                each
                for each in self.chain.alarms[beyond:]
                if (each["alarm"], each["transition"], each["to"]) == (alarm, transition, to)
            ]
            return bool(found)

        self.until(is_heard)
        return found[0]

    def told_so_far(self) -> int:
        return len(self.chain.alarms)

    def says(self, *words: str, code: int | None = 0) -> str:
        """What `tankgate` says to a command, which ends with this code; all else works on meanwhile."""
        site = str(self.chain.directory / "site" / "gateway.toml")
        command = [sys.executable, "-m", "edge", *(word.format(site=site) for word in words), "--lang", "en"]
        with TemporaryFile("w+", encoding="utf-8") as output:  # a pipe is full after 64 KiB
            with subprocess.Popen(command, stdout=output, stderr=subprocess.STDOUT) as asked:
                self.until(lambda: asked.poll() is not None)
            output.seek(0)
            said = output.read()
        assert code in (None, asked.returncode), said
        return said

    def asks(self) -> dict[str, Any]:
        """What `tankgate alarms list` tells a program."""
        said: dict[str, Any] = json.loads(self.says("alarms", "list", "--json", "{site}", code=None))
        return said

    def stands(self) -> dict[str, str]:
        """Alarms and their states by `tankgate alarms list`."""
        return {each["alarm"]: each["state"] for each in self.asks()["alarms"]}

    def reads(self, point: str) -> tuple[float | None, int]:
        """Value and status of the newest reading that the district has."""
        latest = self.chain.latest[point]
        return latest.value, latest.status

    def heard_of(self, alarm: str, beyond: int = 0) -> list[str]:
        """What the district has heard of an alarm after so many events."""
        return [each["transition"] for each in self.chain.alarms[beyond:] if each["alarm"] == alarm]


@pytest.fixture(scope="module")
def story(rig: Rig, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Story]:
    plant = dict.fromkeys(TANKS, 5.0) | dict.fromkeys(DETECTORS, 0.0)
    story = Story(rig, tmp_path_factory.mktemp("stories"), POINTS_CSV, plant)
    try:
        story.start()
        yield story
    finally:
        story.close()


@pytest.fixture
def disk(story: Story) -> Disk:
    assert story.disk is not None  # its tests need root
    return story.disk


@pytest.mark.shows(N_("A start while all is well: nothing is raised, and no vote either."))
def test_nothing_is_raised_at_the_start(story: Story) -> None:
    assert story.stands() == {}
    assert story.chain.alarms == []


@pytest.mark.shows(N_("A gas alarm is raised, told with its reading, and acknowledged by occurrence; it latches."))
def test_gas_is_found_and_somebody_acknowledges_it(story: Story) -> None:
    story.plant["GD01.gas"] = 60.0
    high = story.hears("GD01.gas:H", "raise", "UNACK")
    highest = story.hears("GD01.gas:HH", "raise", "UNACK")
    assert high["first_out"] and not highest["first_out"]
    assert (highest["value"], highest["setpoint"], highest["priority"]) == (60.0, 50, 1)
    assert highest["reading"] == high["reading"] is not None and not highest["judged_late"]
    assert highest["decided_ms"] - highest["t_ms"] < 2000

    refused = story.says("alarms", "ack", "{site}", "GD01.gas:HH", "--occurrence", "2", "--by", "R7", code=1)
    assert "raised again since" in refused
    refused = story.says(
        "alarms", "shelve", "{site}", "GD01.gas:HH", "--for", "30m", "--by", "R7", "--reason", "noise", code=1
    )
    assert "can never be shelved" in refused
    story.says("alarms", "ack", "{site}", "GD01.gas:HH", "--occurrence", "1", "--by", "R7", "--reason", "on the way")
    acknowledged = story.hears("GD01.gas:HH", "ack", "ACKED")
    assert (acknowledged["by"], acknowledged["reason"], acknowledged["occurrence"]) == ("R7", "on the way", 1)
    assert "cause is still there" in story.says("alarms", "reset", "{site}", "GD01.gas:HH", "--by", "R7", code=1)
    for said in (story.says("alarms", "list", "{site}", code=1), story.says("status", "{site}")):
        assert "does not replace the gas detection" in said and "不代替 GB/T 50493" in said


@pytest.mark.shows(N_("Gas spreads: two detectors of four make a vote, which says how many it rests on."))
def test_gas_spreads_to_a_second_detector(story: Story) -> None:
    assert "vote.yard:VOTE" not in story.stands()
    story.plant["GD02.gas"] = 60.0
    vote = story.hears("vote.yard:VOTE", "raise", "UNACK")
    assert (vote["rests_on"], vote["priority"], vote["point"]) == (4, 1, "GD01.gas")
    story.hears("GD02.gas:HH", "raise", "UNACK")
    story.plant["GD01.gas"] = 0.0


@pytest.mark.shows(N_("A detector over its range: its alarms stand on when it reads normal again, until a reset."))
def test_a_detector_is_over_its_range(story: Story) -> None:
    detector = story.chain.bench.unit("GD03.gas")
    detector.states["GD03.gas"] = ("over_range", 0)
    over = story.hears("GD03.gas:OVER", "raise", "UNACK")
    assert over["status"] == 100 and over["facts"]["latched"]
    story.hears("GD03.gas:HH", "raise", "UNACK")
    del detector.states["GD03.gas"]
    story.hears("GD03.gas:OVER", "clear", "UNACK")  # what becomes of the others: see below


@pytest.mark.shows(N_("A detector is calibrated under a bypass: no value, marked as a test; it ends by itself."))
def test_a_detector_is_calibrated(story: Story) -> None:
    before = story.told_so_far()
    end = (datetime.now(UTC) + timedelta(seconds=25)).isoformat(timespec="seconds")
    story.says(
        *("alarms", "bypass", "{site}", "--point", "GD04.gas", "--permit", "HW-17", "--owner", "R7"),
        *("--reason", "bump test", "--until", end),
    )
    assert story.hears("GD04.gas:HH", "out_of_service", "OOSRV", before)["by"] == "R7"
    story.plant["GD04.gas"] = 60.0
    played = story.hears("GD04.gas:HH", "raise", "OOSRV", before)
    assert (played["mode"], played["value"]) == ("test", 60.0)
    story.until(lambda: story.reads("GD04.gas") == (None, 214))
    story.chain.kill_gateway()
    story.chain.start_gateway()
    story.until(lambda: story.chain.status)
    (bypass,) = story.asks()["bypasses"]
    assert (bypass["what"], bypass["permit"], bypass["owner"]) == ("GD04.gas", "HW-17", "R7")
    assert story.stands()["GD04.gas:HH"] == "OOSRV"
    real = story.hears("GD04.gas:HH", "in_service", "UNACK", before)
    assert (real["by"], real["mode"], real["occurrence"]) == (None, "simulated", played["occurrence"])
    assert not story.asks()["bypasses"]
    assert "1 ended in 30 days" in story.says("alarms", "bypasses", "{site}")
    story.until(lambda: story.reads("GD04.gas") == (60.0, 0))
    story.plant["GD04.gas"] = 0.0


@pytest.mark.shows(N_("A tank that is filled too far: high, then high-high, after their delays, by urgency."))
def test_a_tank_is_overfilled(story: Story) -> None:
    story.plant["TK101.level"] = 11.0
    high = story.hears("TK101.level:H", "raise", "UNACK")
    assert high["reading"] is None  # it was the end of the delay, a second after the reading
    story.plant["TK101.level"] = 11.6
    story.hears("TK101.level:HH", "raise", "UNACK")
    standing = [alarm for alarm in story.stands() if alarm.startswith("TK101")]
    assert standing == ["TK101.level:HH", "TK101.level:H"]
    story.until(lambda: "TK101.level:HH" in {row[0] for row in story.chain.state["alarms"]["rows"]})


@pytest.mark.shows(N_("A detector that dies in alarm stays in alarm; that it does not answer is an alarm of its own."))
def test_a_detector_dies_in_alarm(story: Story) -> None:
    detector = story.chain.bench.unit("GD02.gas")
    before = story.told_so_far()
    detector.break_down(SILENT)
    stale = story.hears("GD02.gas:STALE", "raise", "UNACK", before)
    assert stale["value"] is None and stale["status"] == 200
    assert story.stands()["GD02.gas:HH"] == "UNACK"
    detector.heal()
    story.hears("GD02.gas:STALE", "clear", "RTNUN", before)
    assert not story.heard_of("GD02.gas:HH", before)


@pytest.mark.shows(N_("A line that is cut while a tank is in alarm: the alarm stays, and the cut is told."))
def test_a_bus_is_cut_in_alarm(story: Story) -> None:
    before = story.told_so_far()
    line = story.chain.bench.buses["level"].line
    line.connected = False
    story.hears("TK101.level:STALE", "raise", "UNACK", before)
    assert story.stands()["TK101.level:HH"] == "UNACK"
    line.connected = True
    story.hears("TK101.level:STALE", "clear", "RTNUN", before)
    assert not story.heard_of("TK101.level:HH", before)


@pytest.mark.needs("power_off")
@pytest.mark.shows(N_("A board dies while alarms stand: they stay, its points become stale, and nothing is cleared."))
def test_a_board_dies_in_alarm(story: Story) -> None:
    before = story.told_so_far()
    board = story.chain.bench.boards["cab1"]
    board.power_off()
    stale = story.hears("GD02.gas:STALE", "raise", "UNACK", before)
    assert not stale["judged_late"]
    stands = story.stands()
    assert (stands["GD02.gas:HH"], stands["TK101.level:HH"]) == ("UNACK", "UNACK")
    board.power_on()
    story.hears("GD02.gas:STALE", "clear", "RTNUN", before)
    story.hears("TK101.level:STALE", "clear", "RTNUN", before)
    assert not story.heard_of("GD02.gas:HH", before) and not story.heard_of("TK101.level:HH", before)


@pytest.mark.shows(N_("A detector that was over its range is trusted again once somebody has reset that alarm."))
def test_a_detector_that_was_over_its_range_is_trusted_again(story: Story) -> None:
    # It has read nothing but normal values since, for longer than their off-delay.
    assert "clear" not in story.heard_of("GD03.gas:H") and "clear" not in story.heard_of("GD03.gas:HH")
    story.says("alarms", "ack", "{site}", "GD03.gas:OVER", "--occurrence", "1", "--by", "R7")
    story.says("alarms", "reset", "{site}", "GD03.gas:OVER", "--by", "R7", "--reason", "tested with a hand-held")
    story.hears("GD03.gas:OVER", "reset", "NORM")  # and an off-delay later the others: see the last story but one


@pytest.mark.shows(N_("A tank that leaks slowly is told by how fast it falls, long before it is low, until it stops."))
def test_a_tank_leaks_slowly(story: Story) -> None:
    assert story.heard_of("TK104.level:ROF") == []
    story.leaks_m_per_min = 2.0
    leak = story.hears("TK104.level:ROF", "raise", "UNACK")
    assert (leak["setpoint"], leak["priority"], leak["status"]) == (0.5, 2, 0)
    assert 4.0 < leak["value"] < 5.0 and leak["reading"] is not None
    story.leaks_m_per_min = 0.0  # it is well again a window and an off-delay later: see the last story but one
    assert {alarm for alarm, state in story.stands().items() if alarm.startswith("TK104") and state == "UNACK"} == {
        "TK104.level:ROF"
    }


@pytest.mark.shows(N_("The gateway killed before an alarm was acknowledged: it stands as before, and is told once."))
def test_the_gateway_is_killed_before_anybody_has_acknowledged(story: Story) -> None:
    before = story.told_so_far()
    story.chain.kill_gateway()
    story.chain.start_gateway()
    again = story.hears("TK101.level:HH", "note", "UNACK", before)
    assert again["occurrence"] == 1 and again["by"] is None
    story.until(lambda: story.chain.status)
    story.says("alarms", "ack", "{site}", "TK101.level:HH", "--occurrence", "1", "--by", "R7")
    story.hears("TK101.level:HH", "ack", "ACKED", before)
    assert story.heard_of("TK101.level:HH", before) == ["note", "ack"]


@pytest.mark.shows(N_("An excursion while the gateway was off is found in what the board kept, and marked late."))
def test_a_tank_is_too_full_while_the_gateway_is_off(story: Story) -> None:
    before = story.told_so_far()
    assert story.chain.stop_gateway() == 0
    story.plant["TK102.level"] = 11.0
    run(story, 3)
    story.plant["TK102.level"] = 5.0
    run(story, 23)  # its off-delay, and what makes it late
    story.chain.start_gateway()
    raised = story.hears("TK102.level:H", "raise", "UNACK", before)
    cleared = story.hears("TK102.level:H", "clear", "RTNUN", before)
    assert raised["judged_late"] and cleared["judged_late"]
    assert 10_000 <= cleared["t_ms"] - raised["t_ms"] <= 20_000 and raised["decided_ms"] - raised["t_ms"] > 10_000
    assert story.stands()["TK102.level:H"] == "RTNUN"


@pytest.mark.shows(N_("The district is cut off: afterwards it hears everything, in order, and the whole state."))
def test_the_district_was_cut_off(story: Story) -> None:
    before = story.told_so_far()
    story.chain.path.cut()
    story.plant["TK102.level"] = 11.0
    story.until(lambda: any(each["alarm"] == "TK102.level:H" for each in alarms_of(story, "UNACK")))
    (high,) = (each for each in alarms_of(story, "UNACK") if each["alarm"] == "TK102.level:H")
    story.says("alarms", "ack", "{site}", "TK102.level:H", "--occurrence", str(high["occurrence"]), "--by", "R7")
    said = story.says(
        *("alarms", "shelve", "{site}", "TK102.level:H", "--for", "30m", "--by", "R7", "--reason", "gauge is replaced")
    )
    assert "it is now: shelved" in said
    assert story.told_so_far() == before
    story.chain.state = None
    story.chain.path.restore()
    story.hears("TK102.level:H", "shelve", "SHLVD", before)
    assert story.heard_of("TK102.level:H", before) == ["raise", "ack", "shelve"]
    story.until(  # what stands now: off-delays of earlier stories may still run out
        lambda: {row[0]: row[2] for row in (story.chain.state or EMPTY)["alarms"]["rows"]}
        == {each["alarm"]: each["state"] for each in story.chain.status["alarms"]}
    )
    story.says("alarms", "unshelve", "{site}", "TK102.level:H", "--by", "R7")
    story.hears("TK102.level:H", "unshelve", "ACKED", before)
    story.plant["TK102.level"] = 5.0


@pytest.mark.shows(N_("The clock is set back by a day: delays, states and the order of what is told do not notice."))
def test_the_clock_is_set_back_by_a_day(story: Story) -> None:
    steady = ("GD02", "TK101")  # what nothing happens to any more
    before, clocks = story.told_so_far(), story.chain.records["clock"]
    stands = {alarm: state for alarm, state in story.stands().items() if alarm.startswith(steady)}
    story.chain.step_clock(-DAY_MS)
    story.until(lambda: story.chain.records["clock"] > clocks)
    story.plant["TK103.level"] = 11.0
    raised = story.hears("TK103.level:H", "raise", "UNACK", before)
    story.plant["TK103.level"] = 5.0
    assert abs(raised["t_ms"] + DAY_MS - story.chain.now_ms) < 10_000 and not raised["judged_late"]
    cleared = story.hears("TK103.level:H", "clear", "RTNUN", before)
    assert 10_000 <= cleared["t_ms"] - raised["t_ms"] <= 20_000  # its off-delay, neither cut nor stretched
    assert cleared["seq"] > raised["seq"]
    after = story.stands()
    assert after["TK103.level:H"] == "RTNUN" and stands.items() <= after.items()
    clocks = story.chain.records["clock"]
    story.chain.step_clock(DAY_MS)
    story.until(lambda: story.chain.records["clock"] > clocks)
    assert not [each for each in story.chain.alarms[before:] if each["alarm"].startswith(steady)]


@pytest.mark.shows(N_("The district acknowledges an alarm: only a role that may, only what it saw, in the journal."))
def test_the_district_acknowledges(story: Story) -> None:
    story.hears("vote.yard:VOTE", "clear", "RTNUN")  # since GD03 was trusted again, GD02 alone is in alarm
    before = story.told_so_far()
    (seen,) = (each["occurrence"] for each in story.asks()["alarms"] if each["alarm"] == "vote.yard:VOTE")
    with district_desk(story) as (ask, replies):
        ask("1", "acknowledge", "vote.yard:VOTE", seen, "guest")
        ask("2", "acknowledge", "vote.yard:VOTE", 9, "district-duty")
        ask("3", "silence", "vote.yard:VOTE", seen, "district-duty")  # nobody may
        story.until(lambda: len(replies) == 3)
        assert [replies[number]["refused"] for number in "123"] == ["not_allowed", "other_occurrence", "not_allowed"]
        assert story.stands()["vote.yard:VOTE"] == "RTNUN"
        ask("4", "acknowledge", "vote.yard:VOTE", seen, "district-duty")
        ask("4", "acknowledge", "vote.yard:VOTE", seen, "district-duty")  # by a broker that delivers twice
        story.until(lambda: "4" in replies)
        assert replies["4"]["done"]
    story.until(lambda: story.heard_of("vote.yard:VOTE", before) == ["ack"])
    (acknowledged,) = (each for each in story.chain.alarms[before:] if each["alarm"] == "vote.yard:VOTE")
    assert (acknowledged["by"], acknowledged["reason"]) == ("district/district-duty", "seen on the wall")
    assert journalled(story, "vote.yard:VOTE")[-1] == "ack"
    refused = [each for each in story.chain.actions if each["action"] == "command_refused"]
    assert [each["by"] for each in refused] == ["district/guest", *["district/district-duty"] * 2]


@pytest.mark.shows(N_("A drill: what is told says so, in each event and in the state, until it is ended."))
def test_a_drill_is_played(story: Story) -> None:
    before = story.told_so_far()
    story.says("alarms", "drill", "{site}", "--owner", "R7", "--reason", "spill exercise", "--for", "30m")
    story.plant["TK102.level"] = 11.6
    assert story.hears("TK102.level:HH", "raise", "UNACK", before)["mode"] == "drill"
    story.until(lambda: story.chain.state and story.chain.state["mode"] == "drill")
    listed = story.says("alarms", "list", "{site}", code=1)
    assert "DRILL" in listed and "(drill)" in listed
    (drill,) = story.asks()["bypasses"]
    story.says("alarms", "end", "{site}", str(drill["number"]), "--by", "R7")
    assert story.hears("TK102.level:HH", "re_alarm", "UNACK", before)["mode"] == "simulated"  # it still stands
    story.says("alarms", "note", "{site}", "TK102.level:HH", "seen", "--by", "R7")
    note = story.hears("TK102.level:HH", "note", "UNACK", before)
    assert (note["mode"], note["by"], note["reason"]) == ("simulated", "R7", "seen")
    story.plant["TK102.level"] = 5.0


@pytest.mark.needs(*Disk.TOOLS)
@pytest.mark.shows(N_("The disk hangs for a minute: alarms are told and acknowledged, and the journal has them all."))
def test_the_disk_hangs_for_a_minute(story: Story, disk: Disk) -> None:
    before = story.told_so_far()
    disk.freeze()
    frozen_s = time.monotonic()
    try:
        story.plant["TK103.level"] = 11.0
        raised = story.hears("TK103.level:H", "raise", "UNACK", before)
        assert time.monotonic() - frozen_s < 10
        story.says("alarms", "ack", "{site}", "TK103.level:H", "--occurrence", "2", "--by", "R7")
        story.hears("TK103.level:H", "ack", "ACKED", before)
        fault = story.hears(STORE_FAULT, "raise", "UNACK", before)
        assert not fault["journalled"] and "not answered" in fault["action"]
        story.until(lambda: (story.chain.state or EMPTY)["store"]["state"] == "fault")
        story.plant["TK103.level"] = 11.6
        highest = story.hears("TK103.level:HH", "raise", "UNACK", before)
        assert not highest["journalled"] and raised["first_out"] and not highest["first_out"]
        story.plant["TK103.level"] = 5.0
        run(story, 60 - (time.monotonic() - frozen_s))
        assert story.heard_of("TK103.level:H", before) == ["raise", "ack", "clear"]
    finally:
        disk.thaw()
    story.hears(STORE_FAULT, "clear", "RTNUN", before)
    assert journalled(story, "TK103.level:H")[-3:] == ["raise", "ack", "clear"]
    assert journalled(story, "TK103.level:HH") == ["raise", "clear"]


def too_full_without_store(story: Story, level: str, mend: Callable[[], None], before: int) -> None:
    """A tank is too full, which is told at once, unstored; with the store back it is in the journal as well."""
    story.hears(STORE_FAULT, "raise", "UNACK", before)
    story.plant[level] = 11.0
    raised = story.hears(f"{level}:H", "raise", "UNACK", before)
    assert not raised["journalled"] and raised["decided_ms"] - raised["t_ms"] < 2000
    mend()
    story.hears(STORE_FAULT, "clear", "RTNUN", before)
    assert journalled(story, f"{level}:H")[-1] == "raise"
    story.plant[level] = 5.0


@pytest.mark.needs(*Disk.TOOLS)
@pytest.mark.shows(N_("The disk is full: alarms are told at once, and are in the journal once there is room again."))
def test_the_disk_is_full(story: Story, disk: Disk) -> None:
    before = story.told_so_far()
    disk.fill()
    story.until(lambda: not (disk.mount_point / "tankgate-reserve").exists())
    disk.fill()
    too_full_without_store(story, "TK102.level", disk.make_room, before)


@pytest.mark.needs(*Disk.TOOLS)
@pytest.mark.shows(N_("The disk may only be read any more: alarms go on; on the next one the journal goes on as well."))
def test_the_disk_becomes_read_only(story: Story, disk: Disk) -> None:
    before = story.told_so_far()
    disk.make_read_only()
    too_full_without_store(story, "TK103.level", disk.replug, before)
    # The local door lay on the disk that was taken out: it is there again with the next start.
    assert story.chain.stop_gateway() == 0
    story.chain.start_gateway()
    story.until(lambda: story.chain.status)


@pytest.mark.shows(N_("The gas is gone: alarms stand until they are reset; over range outlasts a normal value."))
def test_the_gas_is_gone_and_the_alarm_is_reset(story: Story) -> None:
    story.hears("GD01.gas:HH", "clear", "ACKED")
    story.says("alarms", "reset", "{site}", "GD01.gas:HH", "--by", "R7")
    assert story.hears("GD01.gas:HH", "reset", "NORM")["by"] == "R7"
    assert [each for each in story.heard_of("GD01.gas:HH") if each != "note"] == ["raise", "ack", "clear", "reset"]
    story.hears("GD03.gas:HH", "clear", "UNACK")
    story.hears("TK104.level:ROF", "clear", "RTNUN")


@pytest.mark.shows(N_("The journal is as it was written, the district has its head, and heard all in order, once."))
def test_the_journal_is_as_it_was_written(story: Story) -> None:
    assert journalled(story, "GD01.gas:HH") == ["raise", "ack", "clear", "reset"]
    report = json.loads(story.says("alarms", "report", "{site}", "--json"))
    days = [day["alarms"] for day in report["days"].values()]  # two: the clock was set back by one
    assert sum(day.get("GD01.gas:HH", 0) for day in days) == 1
    assert sum(day.get("TK102.level:HH", 0) for day in days) == 1  # raised in a drill, it outlasted it
    verified = json.loads(story.says("journal", "verify", "{site}", "--json"))
    assert verified["broken"] is None and verified["entries"] > 50
    story.until(lambda: story.chain.state and story.chain.state["store"]["journal_head"] == verified["head"])
    story.says("journal", "verify", "{site}", "--head", verified["head"])
    state: dict[str, str] = {}
    for each in sorted(story.chain.alarms, key=lambda each: (each["epoch"], each["seq"])):
        if not each["alarm"].startswith("system."):
            assert state.setdefault(each["alarm"], "NORM") == each["from"], each
            state[each["alarm"]] = each["to"]
    assert len({(each["epoch"], each["seq"]) for each in story.chain.alarms}) == len(story.chain.alarms)
    standing = {alarm: to for alarm, to in state.items() if to != "NORM"}
    assert standing == {alarm: each for alarm, each in story.stands().items() if not alarm.startswith("system.")}
    assert "Traceback" not in story.chain.log("gateway").read_text(encoding="utf-8")


def crowd() -> str:
    """Five hundred temperatures: 63 modules of eight inputs on two lines."""
    units = [(bus, unit_id) for bus in ("gas", "level") for unit_id in range(1, 33)][:63]
    points = [(bus, unit_id, channel) for bus, unit_id in units for channel in range(8)][:500]
    return "".join(
        ["point,name,area,bus,unit_id,profile,channel,unit,range_low,range_high,period_s,deadband,heartbeat_s,"
         "preset,H,action\n"]
        + [f"{bus}{unit_id}-{channel}.temp,温度,罐区,{bus},{unit_id},adam-4017p,ch{channel},℃,-20,80,5,0.2,60,"
           f"temperature,40,喷淋\n" for bus, unit_id, channel in points]
    )  # fmt: skip


@pytest.mark.shows(N_("Five hundred points in alarm at once: each is told once, at once, and stands in the state."))
def test_five_hundred_points_are_in_alarm_at_once(rig: Rig, tmp_path: Path) -> None:
    sheet = crowd()
    plant = {line.partition(",")[0]: 20.0 for line in sheet.splitlines()[1:]}
    crowded = Story(rig, tmp_path, sheet, plant)
    try:
        crowded.start()
        plant.update(dict.fromkeys(plant, 50.0))
        began_s = time.monotonic()
        crowded.until(lambda: len(crowded.chain.alarms) >= len(plant))
        assert time.monotonic() - began_s < 20
        alarms = crowded.chain.alarms
        assert {each["alarm"] for each in alarms} == {f"{point}:H" for point in plant} and len(alarms) == len(plant)
        assert [each["first_out"] for each in alarms] == [True] + [False] * (len(plant) - 1)
        assert max(each["decided_ms"] - each["t_ms"] for each in alarms) < 3000
        crowded.until(lambda: len((crowded.chain.state or EMPTY)["alarms"]["rows"]) == len(plant))
        assert len(crowded.stands()) == len(plant)
        ((_day, row),) = json.loads(crowded.says("alarms", "report", "{site}", "--json"))["days"].items()
        assert len(row["floods"]) == 1
    finally:
        crowded.close()


EMPTY: dict[str, Any] = {"alarms": {"rows": []}, "store": {"state": ""}}


@contextmanager
def district_desk(story: Story) -> Iterator[tuple[Callable[..., None], dict[str, dict[str, Any]]]]:
    """Somebody at the district, with a client of his own: how to ask, and the replies by their ids."""
    replies: dict[str, dict[str, Any]] = {}
    client = mqtt.Client(CallbackAPIVersion.VERSION2, protocol=mqtt.MQTTv5)
    subscribed = Event()

    def note(_client: mqtt.Client, _data: None, message: mqtt.MQTTMessage) -> None:
        said = json.loads(message.payload)
        replies[said["id"]] = said

    def ask(number: str, do: str, alarm: str, occurrence: int, role: str) -> None:
        command = {
            "schema": "tankgate/command/1", "gateway": "stories", "id": number, "do": do, "alarm": alarm,
            "occurrence": occurrence, "role": role, "reason": "seen on the wall",
        }  # fmt: skip
        client.publish("tankgate/v1/stories/command", json.dumps(command), qos=1)

    client.on_connect = lambda client, *_: client.subscribe("tankgate/v1/stories/reply", 1)
    client.on_subscribe = lambda *_: subscribed.set()
    client.on_message = note
    client.connect("127.0.0.1", story.chain.broker.port)
    client.loop_start()
    try:
        assert subscribed.wait(WITHIN_S)
        yield ask, replies
    finally:
        client.disconnect()
        client.loop_stop()


def journalled(story: Story, alarm: str) -> list[str]:
    """What of an alarm stands in the journal, but for notes."""
    said = story.says("alarms", "history", "{site}", "--alarm", alarm, "--json")
    told = [json.loads(line)["transition"] for line in said.splitlines()]
    return [each for each in told if each != "note"]


def alarms_of(story: Story, state: str) -> list[dict[str, Any]]:
    """Alarms in this state, by the gateway's own door."""
    return [each for each in story.chain.status.get("alarms", ()) if each["state"] == state]


def run(story: Story, for_s: float) -> None:
    end_s = time.monotonic() + for_s
    story.until(lambda: time.monotonic() >= end_s)
