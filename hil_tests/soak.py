"""A soak: 32 units on each of two buses, the whole chain, mixed faults all the time; is anything lost, or grows? Shell.

Owns the site that is soaked, the schedule of what is broken beside the lines, and the rows of soak.csv. The line's
faults are the catalogue's mixed schedule (bench/faults.py), the verdict is the ledger's. Must never call memory that
grows a leak: it shows the slope.

    python -m hil_tests.soak --minutes 10        simulated board, real programs; writes soak.csv and soak.png
"""

import csv
import math
import random
import sys
import tempfile
from collections.abc import Callable, Generator
from contextlib import closing
from itertools import count
from pathlib import Path

import click

from hil_tests.bench.faults import Row, Strike, mixed
from hil_tests.bench.ledger import Figures
from hil_tests.chain import PATIENCE_MS, Chain
from hil_tests.mosquitto import Mosquitto
from hil_tests.soak_picture import draw

UNITS = 32
PERIOD_S = 3.0
BUSES = {"level": ("vegapuls-modbus", "level", "m", 12.5), "gas": ("sensepoint-xcd", "gas", "%LEL", 100.0)}
LINE = "19200 8N1"
SHARE = 0.02  # of all answers are struck
# UNPLUG is the caller's to do and TOO_SOON nobody's; a wrong number under a right CRC no master can know from a right
# one, so the ledger could not either.
ROWS = tuple(row for row in Row if row not in (Row.UNPLUG, Row.TOO_SOON, Row.WRONG_CONTENT))
QUIET_S = (15.0, 45.0)  # between two troubles beside the lines
START_S = 60.0
SETTLE_S = 60.0
STEP_S = 0.05
UNREACHABLE = 3
SAMPLES = 600  # rows of the CSV, at most one a period

GATEWAY_TOML = f"""
schema = 1
[site]
gateway = "soak"
name = "soak"
group = "tests"
timezone = "Asia/Shanghai"
points = "points.csv"
[boards.cab1]
id = "esp32s3-7cdfa1e40c11"
[buses.level]
board = "cab1"
uart = 1
line = "{LINE}"
[buses.gas]
board = "cab1"
uart = 2
line = "{LINE}"
[store]
path = "store"
max_bytes = "1 GB"
[destinations.district]
url = "mqtt://127.0.0.1:1883"
feed = "json"
"""

Trouble = Generator[None, None, None]  # is resumed all the time until it has mended what it broke


def write_site(folder: Path) -> None:
    """The site's two files."""
    folder.mkdir()
    (folder / "gateway.toml").write_text(GATEWAY_TOML, encoding="utf-8")
    rows = ["point,name,area,bus,unit_id,profile,channel,unit,range_low,range_high,period_s,deadband,heartbeat_s"]
    for bus, (profile, channel, unit, high) in BUSES.items():
        for number in range(1, UNITS + 1):
            point = f"{bus.upper()}{number:02}.{channel}"
            rows.append(f"{point},{bus},hall,{bus},{number},{profile},{channel},{unit},0,{high:g},{PERIOD_S:g},0.01,60")
    (folder / "points.csv").write_text("\n".join(rows) + "\n", encoding="utf-8")


def measure(point: str, now_s: float) -> float:
    """A value that is another one at each poll, and never another point's of the same time."""
    number = int("".join(filter(str.isdigit, point)))
    high = BUSES["level" if point.startswith("LEVEL") else "gas"][3]
    return round(high * (0.4 + 0.3 * math.sin(2 * math.pi * (now_s / (90 + number) + number / UNITS))), 2)


# --- what is broken beside the lines ------------------------------------------------------------------------


def _for(chain: Chain, seconds: float) -> Trouble:
    end_s = chain.bench.now_s() + seconds
    while chain.bench.now_s() < end_s:
        yield


def _cable_cut(chain: Chain) -> Trouble:
    chain.bench.cables["cab1"].cut = True
    yield from _for(chain, 3.0)
    chain.bench.cables["cab1"].cut = False


def _cable_damaged(chain: Chain) -> Trouble:
    chain.bench.cables["cab1"].damage = 0.002
    yield from _for(chain, 5.0)
    chain.bench.cables["cab1"].damage = 0.0


def _cable_pulled(chain: Chain) -> Trouble:
    chain.bench.unplug("cab1")
    yield from _for(chain, 2.0)
    chain.bench.plug_in("cab1")


def _bus_cut(chain: Chain) -> Trouble:
    chain.bench.buses["gas"].line.connected = False
    yield from _for(chain, 4.0)
    chain.bench.buses["gas"].line.connected = True


def _platform_cut(chain: Chain) -> Trouble:
    chain.path.cut()
    yield from _for(chain, 6.0)
    chain.path.restore()


def _broker_killed(chain: Chain) -> Trouble:
    assert isinstance(chain.broker, Mosquitto)
    chain.broker.kill()
    yield from _for(chain, 2.0)
    chain.broker.start()


def _receiver_killed(chain: Chain) -> Trouble:
    chain.kill_district()
    yield from _for(chain, 2.0)
    chain.resume_district()


# Gateway and board are left alive, for their memory over hours is looked at. test_restart.py kills them.
TROUBLES: dict[str, Callable[[Chain], Trouble]] = {
    "cable cut": _cable_cut,
    "cable damaged": _cable_damaged,
    "cable pulled": _cable_pulled,
    "bus cut": _bus_cut,
    "platform cut": _platform_cut,
    "broker killed": _broker_killed,
    "receiver killed": _receiver_killed,
}


class Schedule:
    """One trouble after the other, and quiet between them, by a seed.

    `now`: the name of the present one, or ""; `seen`: of the last one, until somebody has noted it.
    """

    def __init__(self, chain: Chain, seed: int) -> None:
        self.now = self.seen = ""
        self.counts = dict.fromkeys(TROUBLES, 0)
        self._chain = chain
        self._chance = random.Random(seed)
        self._trouble: Trouble = _for(chain, QUIET_S[0])

    def tick(self, is_ending: bool) -> bool:
        """Go on with it; whether something is still broken. Begins nothing new while it `is_ending`."""
        if next(self._trouble, self) is not self:
            return bool(self.now)
        if self.now or is_ending:
            if self.now:
                self._chain.disturbed()
            self.now, self._trouble = "", _for(self._chain, self._chance.uniform(*QUIET_S))
        else:
            self.now = self.seen = self._chance.choice(list(TROUBLES))
            self.counts[self.now] += 1
            self._chain.disturbed()
            self._trouble = TROUBLES[self.now](self._chain)
        return bool(self.now)


# --- the run ------------------------------------------------------------------------------------------------


class Soak:
    """The chain under way, and the rows about it."""

    def __init__(self, chain: Chain, seed: int) -> None:
        self.rows: list[dict[str, float | str]] = []
        self.struck = 0
        self.every_s = PERIOD_S
        self._chain = chain
        self._seed = seed
        self._requests = count()
        self.schedule = Schedule(chain, seed)
        self._began_s = chain.bench.now_s()
        self._last: tuple[float, dict[str, int]] = (self._began_s, self._polls())
        for bus in chain.bench.buses.values():
            bus.line.strikes = self._strikes

    def _strikes(self, _request: bytes) -> list[Strike]:
        strikes = mixed(self._seed, next(self._requests), SHARE, ROWS)
        self.struck += bool(strikes)
        return strikes

    def spare_lines(self) -> None:
        """No more faults on the lines."""
        for bus in self._chain.bench.buses.values():
            bus.line.strikes = None

    def _polls(self) -> dict[str, int]:
        return {name: bus.line.requests for name, bus in self._chain.bench.buses.items()}

    def note_if_due(self) -> None:
        """A row each `every_s`."""
        if self._chain.bench.now_s() >= self._last[0] + self.every_s:
            self.note()

    def note(self) -> None:
        """One row, of now."""
        chain, now_s, polls = self._chain, self._chain.bench.now_s(), self._polls()
        then_s, before = self._last
        self._last = now_s, polls
        figures, status, trouble = chain.figures(), chain.status, self.schedule.seen
        self.schedule.seen = self.schedule.now
        load = {bus["bus"]: bus["load_pct"] for bus in status.get("buses", ())}
        self.rows.append(
            {
                "t_s": round(now_s - self._began_s, 1),
                "trouble": trouble,
                "board_mib": _mib(chain.bench.boards["cab1"].resident_bytes),
                "gateway_mib": _mib(chain.resident_bytes("gateway")),
                "receiver_mib": _mib(chain.resident_bytes("district")),
                "ring_used_pct": next((board["ring_used_pct"] or 0 for board in status.get("boards", ())), 0),
                **{f"load_{name}_pct": load.get(name) or 0 for name in BUSES},
                **{f"polls_{name}_per_s": round((polls[name] - before[name]) / (now_s - then_s), 2) for name in BUSES},
                "struck": self.struck,
                "sampled": figures.sampled,
                "due": figures.due,
                "received": figures.received,
                "in_flight": figures.in_flight,
                "admitted": figures.admitted,
                "lost": figures.lost,
                "duplicated": figures.duplicated,
                "wrong_values": figures.wrong_values,
                "resent": figures.resent,
                "p50_ms": figures.p50_ms or 0,
                "p99_ms": figures.p99_ms or 0,
            }
        )


def _mib(size_bytes: int) -> float:
    return round(size_bytes / 2**20, 2)


def run(chain: Chain, minutes: float, seed: int) -> tuple[Soak, Figures]:
    """Soak a started chain; OSError where one of its processes ended by itself."""
    _until(chain, lambda: len(chain.latest) == UNITS * len(BUSES), START_S)
    soak = Soak(chain, seed)
    soak.every_s = max(minutes * 60 / SAMPLES, PERIOD_S)
    end_s = chain.bench.now_s() + minutes * 60
    while (is_ending := chain.bench.now_s() >= end_s) is False or soak.schedule.now:
        _step(chain)
        soak.schedule.tick(is_ending)
        soak.note_if_due()
    soak.spare_lines()
    end_ms = chain.now_ms

    def is_whole() -> bool:
        soak.note_if_due()
        return all(poll.utc_ms > end_ms for poll in chain.bench.ledger.missing(chain.now_ms, 0))

    _until(chain, is_whole, SETTLE_S)
    soak.note()
    return soak, chain.figures()


def _until(chain: Chain, true: Callable[[], bool], within_s: float) -> None:
    """Let the chain work until it is so, or so long; the ledger says what is missing then."""
    end_s = chain.bench.now_s() + within_s
    while not true() and chain.bench.now_s() < end_s:
        _step(chain)


def _step(chain: Chain) -> None:
    chain.step(STEP_S)
    if (name := chain.ended()) is not None:
        raise OSError(f"{name} ended: {chain.log(name).read_text(encoding='utf-8', errors='replace')[-2000:]}")


@click.command()
@click.option("--minutes", type=click.FloatRange(min=0, min_open=True), default=10.0, show_default=True)
@click.option("--seed", default=20261125, show_default=True)
@click.option("--output", type=click.Path(path_type=Path), default="soak", show_default=True, help="A folder.")
def main(minutes: float, seed: int, output: Path) -> None:
    """Soak the whole chain; write soak.csv and soak.png. Exit 1 where anything was lost, doubled or wrong."""
    output.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="soak-") as folder:
        site = Path(folder, "soaked")
        write_site(site)
        with closing(Chain(Path(folder), "district", site=site, measure=measure)) as chain:
            try:
                chain.start_broker(Mosquitto)
                chain.start_district()
                chain.start_boards()
                chain.start_gateway()
                soak, figures = run(chain, minutes, seed)
            except OSError as fault:
                click.echo(f"not soaked: {fault}", err=True)
                sys.exit(UNREACHABLE)
            findings = [
                *chain.bench.ledger.findings,
                *(f"lost: {poll}" for poll in chain.bench.ledger.missing(chain.now_ms, PATIENCE_MS)),
            ]
            late_s = max(bus.line.latest_s for bus in chain.bench.buses.values())
    with (output / "soak.csv").open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, soak.rows[0])
        writer.writeheader()
        writer.writerows(soak.rows)
    draw(soak.rows, output / "soak.png")
    troubles = ", ".join(f"{name} {times}" for name, times in soak.schedule.counts.items())
    click.echo(f"{minutes:g} min, seed {seed}: {figures.sampled} polls, {soak.struck} answers struck; {troubles}")
    click.echo(f"due {figures.due}, received {figures.received}, admitted in gaps {figures.admitted}")
    click.echo(f"without a value where the wire gave one (struck lines do that): {figures.unexplained}")
    click.echo(f"p50 {figures.p50_ms} ms, p99 {figures.p99_ms} ms, outages included")
    click.echo(f"the bench's own bytes were at most {late_s * 1000:.0f} ms late (a busy machine: time-outs pass)")
    click.echo(f"{output / 'soak.csv'}, {output / 'soak.png'}")
    is_good = figures.received > 0 == figures.lost == figures.duplicated == figures.wrong_values
    for finding in () if is_good else findings:
        click.echo(finding, err=True)
    verdict = "PASSED" if is_good else "FAILED"
    click.echo(f"{verdict}: lost {figures.lost}, duplicated {figures.duplicated}, wrong {figures.wrong_values}")
    click.echo("Simulated board and lines, real programs: nothing ran on hardware.")
    sys.exit(not is_good)


if __name__ == "__main__":
    main()
