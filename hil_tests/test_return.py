"""The Pi comes back to a full ring while a limit is exceeded: what holds now is judged soon, whatever waits before it.

The programs are the real ones, each a process as in the field. While the gateway is dead its board goes on polling
until the ring has dropped its oldest records, which the gap that follows proves.
"""

import json
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from hil_tests.bench.rig import N_, Rig
from hil_tests.chain import Chain
from hil_tests.mosquitto import Mosquitto

pytestmark = pytest.mark.needs("mosquitto", "two_buses")

JUDGED_S = 10.0  # from the Pi's return until the newest sample of each read has been judged
WITHIN_S = 60.0
GATEWAY_TOML = """\
schema = 1
[site]
gateway = "return"
name = "return"
group = "tests"
timezone = "Asia/Shanghai"
points = "points.csv"
[boards.cab1]
id = "esp32s3-7cdfa1e40c11"
[buses.a]
board = "cab1"
uart = 1
line = "19200 8N1"
[buses.b]
board = "cab1"
uart = 2
line = "19200 8N1"
[store]
path = "store"
max_bytes = "500 MB"
[destinations.district]
url = "mqtt://127.0.0.1:1883"
feed = "json"
"""
HEADINGS = """\
point,name,area,bus,unit_id,profile,channel,unit,range_low,range_high,period_s,deadband,heartbeat_s,preset,H,HH,\
action"""
POINTS = {f"GD{bus}{unit_id}.gas": (bus, unit_id) for bus in "ab" for unit_id in (1, 2, 3, 4)}
HIGH = "GDa1.gas", "GDb4.gas"


@pytest.fixture
def plant() -> dict[str, float]:
    """A point -> what is really there."""
    return dict.fromkeys(POINTS, 0.0)


@pytest.fixture
def chain(rig: Rig, tmp_path: Path, plant: dict[str, float]) -> Iterator[Chain]:
    site = tmp_path / "files"
    site.mkdir()
    (site / "gateway.toml").write_text(GATEWAY_TOML, encoding="utf-8")
    rows = [
        f"{point},{point},a,{bus},{unit_id},sensepoint-xcd,gas,%LEL,0,100,0.2,1,60,combustible,25,50,leave"
        for point, (bus, unit_id) in POINTS.items()
    ]
    (site / "points.csv").write_text("\n".join([HEADINGS, *rows, ""]), encoding="utf-8")
    chain = Chain(tmp_path, session="district", rig=rig, site=site, measure=lambda point, _now_s: plant[point])
    try:
        chain.start_broker(Mosquitto)
        chain.start_district()
        chain.start_boards()
        chain.start_gateway()
        until(chain, lambda: len(chain.latest) == len(POINTS))
        yield chain
    finally:
        chain.close()


def until(chain: Chain, true: Callable[[], object], within_s: float = WITHIN_S) -> None:
    """Let the bench work until it is so."""
    end_s = time.monotonic() + within_s
    while not true():
        assert time.monotonic() < end_s and chain.ended() is None, chain.log("gateway").read_text()[-3000:]
        chain.step(0.005)


def ring_s(chain: Chain) -> float:
    """For how long the board keeps everything, as `tankgate check` tells it."""
    command = [sys.executable, "-m", "edge", "check", str(chain.directory / "site" / "gateway.toml"), "--json"]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as checked:
        until(chain, lambda: checked.poll() is not None)
        assert checked.stdout is not None
        (board,) = json.load(checked.stdout)["forecast"]["boards"]
    return float(board["ring_s"])


def judged(chain: Chain, since_ms: int) -> dict[str, Any] | None:
    """The gateway's status, once each point has a value that was taken since."""
    status = chain.status
    taken_ms = [each["t_ms"] or 0 for each in status.get("values", ())]
    return status if taken_ms and min(taken_ms) >= since_ms else None


@pytest.mark.shows(
    N_("The gateway comes back to a board whose memory is full: a limit that is exceeded is an alarm within 10 s.")
)
def test_what_holds_when_the_pi_returns_is_judged_within_ten_seconds_whatever_the_ring_holds(
    chain: Chain, plant: dict[str, float]
) -> None:
    full_s = 1.2 * ring_s(chain)
    chain.kill_gateway()
    end_s = chain.bench.now_s() + full_s
    until(chain, lambda: chain.bench.now_s() >= end_s, full_s + WITHIN_S)
    for point in HIGH:
        plant[point] = 80.0
    chain.step(2.0)
    returned_ms, returned_s = chain.now_ms, time.monotonic()
    chain.start_gateway()
    until(chain, lambda: judged(chain, returned_ms))
    took_s = time.monotonic() - returned_s
    stands = {each["alarm"]: each for each in chain.status["alarms"]}
    assert {name for name in stands if name.endswith(":HH")} == {f"{point}:HH" for point in HIGH}
    assert all(stands[f"{point}:HH"]["state"] == "UNACK" for point in HIGH)
    until(chain, lambda: {each["alarm"] for each in chain.alarms} >= {f"{point}:HH" for point in HIGH})
    told_s = time.monotonic() - returned_s
    until(chain, lambda: any(gap["cause"] == "ring_full" for gap in chain.gaps))
    assert took_s < JUDGED_S and told_s < JUDGED_S
