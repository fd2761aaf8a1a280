"""What becomes of alarms when the gateway is killed again and again. Shell.

alarms_lost, alarms_duplicated, alarms_reordered: tanks whose sensors fail and recover, each state for several polls, so
that the board has read it, while the gateway is killed (-9) at random moments, at work and while it starts. Expected is
each raising and each clearing, once and in order: the board keeps what it reads, and an alarm without delays owes
nothing to how long the gateway was there. What the district's receiver knows for a resend counts once; their order is
that of their epochs and numbers, by which the feed has them taken: what has just happened is sent before what is late.
"""

import random
import tempfile
import time
from collections import Counter
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

from hil_tests.bench.units import Unit
from hil_tests.chain import Chain
from hil_tests.mosquitto import Mosquitto
from tests.figures.figure import Measured

KILLS = 100
_TANKS = 6
_PERIOD_S = 0.5
_STATE_S = (2.0, 6.0)  # at least four polls
_AT_WORK_S = (0.2, 4.0)
_STARTING_S = (0.2, 1.5)
_STARTING_SHARE = 0.2
_PATIENCE_S = 120.0
_TOML = """\
schema = 1
[site]
gateway = "kills"
name = "kills"
group = "figures"
timezone = "Asia/Shanghai"
points = "points.csv"
[boards.cab1]
id = "esp32s3-7cdfa1e40c11"
[buses.level]
board = "cab1"
uart = 1
line = "19200 8N1"
[store]
path = "store"
max_bytes = "500 MB"
[destinations.district]
url = "mqtt://127.0.0.1:1883"
feed = "json"
"""
_HEADINGS = (
    "point,name,area,bus,unit_id,profile,channel,unit,range_low,range_high,period_s,deadband,heartbeat_s,preset,H,HH,action"
)

_Event = tuple[int, str]  # occurrence, transition


class Found(NamedTuple):
    """Of the events that were expected."""

    lost: int
    duplicated: int
    reordered: int
    beside: str


def lost() -> Measured:
    """alarms_lost."""
    found = _found()
    return Measured(found.lost, found.beside)


def duplicated() -> Measured:
    """alarms_duplicated."""
    found = _found()
    return Measured(found.duplicated, found.beside)


def reordered() -> Measured:
    """alarms_reordered."""
    found = _found()
    return Measured(found.reordered, found.beside)


@cache
def _found() -> Found:
    return kill(KILLS, seed=6)


def kill(kills: int, seed: int) -> Found:
    """So many times; what the district then knows, to what happened at the tanks."""
    with tempfile.TemporaryDirectory(prefix="figures-") as name:
        site = Path(name, "files")
        _write(site)
        chain = Chain(Path(name), session="figures", site=site, measure=lambda _point, _now_s: 5.0)
        try:
            chain.start_broker(Mosquitto)
            chain.start_district()
            chain.start_boards()
            chain.start_gateway()
            return _Run(chain, random.Random(seed)).through(kills)
        finally:
            chain.close()


class _Run:
    """The tanks, and what was done to each."""

    def __init__(self, chain: Chain, chance: random.Random) -> None:
        self._chain = chain
        self._chance = chance
        self._tanks = {f"TK{i}.level": chain.bench.unit(f"TK{i}.level") for i in range(1, _TANKS + 1)}
        self._change_s: dict[str, float] = {}
        self._expected: dict[str, list[_Event]] = {f"{point}:FAULT": [] for point in self._tanks}

    def through(self, kills: int) -> Found:
        """Kill, wait until nothing more can come, and compare."""
        self._until(lambda: len(self._chain.latest) == _TANKS)
        begun_s = time.monotonic()
        self._change_s = dict.fromkeys(self._tanks, begun_s)
        for _kill in range(kills):
            if self._chance.random() < _STARTING_SHARE:
                self._work_for(self._chance.uniform(*_STARTING_S))
            else:
                self._until(lambda: self._chain.status, changing=True)
                self._work_for(self._chance.uniform(*_AT_WORK_S))
            self._chain.kill_gateway()
            self._chain.start_gateway()
        took_s = time.monotonic() - begun_s
        self._settle()
        received = {alarm: self._received(alarm) for alarm in self._expected}
        counts = [_compare(self._expected[alarm], received[alarm]) for alarm in self._expected]
        missing, twice, out_of_order = (sum(each) for each in zip(*counts, strict=True))
        number = sum(map(len, self._expected.values()))
        told = [(each["epoch"], each["seq"]) for each in self._chain.alarms]
        late = sum(later < before for before, later in zip(told, told[1:], strict=False))
        beside = f"of {number} raisings and clearings, {kills} kills, {took_s:.0f} s; {late} times newer first"
        return Found(missing, twice, out_of_order, beside)

    def _settle(self) -> None:
        end_s = time.monotonic() + _PATIENCE_S
        number = sum(map(len, self._expected.values()))
        while time.monotonic() < end_s and sum(len(self._received(alarm)) for alarm in self._expected) < number:
            self._chain.step(0.01)

    def _received(self, alarm: str) -> list[_Event]:
        found = [e for e in self._chain.alarms if e["alarm"] == alarm and e["transition"] in ("raise", "clear")]
        found.sort(key=lambda each: (each["epoch"], each["seq"]))
        return [(each["occurrence"], each["transition"]) for each in found]

    def _work_for(self, for_s: float) -> None:
        end_s = time.monotonic() + for_s
        self._until(lambda: time.monotonic() >= end_s, changing=True)

    def _until(self, true: Any, changing: bool = False) -> None:
        end_s = time.monotonic() + _PATIENCE_S
        while not true():
            if time.monotonic() > end_s:
                raise TimeoutError(self._chain.log("gateway").read_text(encoding="utf-8")[-2000:])
            if changing:
                self._change()
            self._chain.step(0.01)

    def _change(self) -> None:
        now_s = time.monotonic()
        for point, unit in self._tanks.items():
            if now_s >= self._change_s[point]:
                self._change_s[point] = now_s + self._chance.uniform(*_STATE_S)
                self._turn(point, unit)

    def _turn(self, point: str, unit: Unit) -> None:
        told = self._expected[f"{point}:FAULT"]
        occurrence = len(told) // 2 + 1
        if point in unit.states:
            del unit.states[point]
            told.append((occurrence, "clear"))
        else:
            unit.states[point] = ("sensor_fault", 1)
            told.append((occurrence, "raise"))


def _compare(expected: list[_Event], received: list[_Event]) -> tuple[int, int, int]:
    """How many of the expected are lost, how many came more than once or were never made, how many too early."""
    counts = Counter(received)
    unexpected = sum(counts[each] - (each in expected) for each in counts)
    place = {each: i for i, each in enumerate(expected)}
    places = [place[each] for each in dict.fromkeys(received) if each in place]
    early = sum(later < before for before, later in zip(places, places[1:], strict=False))
    return len(set(expected) - counts.keys()), unexpected, early


def _write(site: Path) -> None:
    site.mkdir()
    (site / "gateway.toml").write_text(_TOML, encoding="utf-8")
    rows = [
        f"TK{i}.level,TK{i},A,level,{i},vegapuls-modbus,level,m,0,12.5,{_PERIOD_S},0.5,60,tank-level,10.8,11.4,stop"
        for i in range(1, _TANKS + 1)
    ]
    (site / "points.csv").write_text("\n".join([_HEADINGS, *rows, ""]), encoding="utf-8")
