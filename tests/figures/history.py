"""What history costs: on one core, and on disk. Shell.

Samples of a made-up site go through the real pipeline and writer's steps into a real store, in virtual time: per unit
five integers that drift and five noisy float32, each second, all beyond the deadband, so that each is reported too.

durable_ingest: readings a second of CPU, from the board's records to the committed transaction, 20,000 in a batch.
history_per_reading: the store's file, less what is free in it, to the readings in it; a batch a second of 20 units.
"""

import csv
import random
import secrets
import struct
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from edge.batch import filed
from edge.boards import Taken
from edge.config import load_site
from edge.pipeline import Pipeline
from edge.planning import BoardPlan, compile_board
from edge.store import FILE, Store
from edge.timebase import Clock
from protocols import link, modbus
from protocols.feeds import json_feed
from tests.figures.figure import Measured

INTEGERS, FLOATS = 5, 5
READINGS = INTEGERS + FLOATS  # of a unit
START_MS = 1_795_400_000_000
_BOARD = """
[boards.cab{n}]
id = "esp32s3-{n:012x}"
[buses.line{n}]
board = "cab{n}"
uart = 1
line = "115200 8N1"
"""
_GATEWAY = """\
schema = 1
[site]
gateway = "figures"
name = "figures"
group = "figures"
timezone = "Asia/Shanghai"
points = "points.csv"
{boards}
[store]
path = "store"
max_bytes = "8 GB"
"""
_PROFILE = """\
version = 1
maker = "tankgate"
model = "mixed"
source = "tests/figures/history.py"
evidence = "code"
timeout_ms = 50
address_base = 0
"""
_CHANNEL = """\
[channels.{name}]
function_code = 3
address = {address}
type = "{type}"
decimals = {decimals}
unit = "V"
{more}
"""


_ORDER = 'word_order = "ABCD"'


class _Site:
    """The real pipeline and store, on a site of so many boards and units."""

    def __init__(self, directory: Path, boards: int, units: int) -> None:
        _write(directory, boards, units)
        site = load_site(directory / "gateway.toml")
        content = json_feed.birth_content(site, "0", "0", "simulated")
        birth = json_feed.birth_id(content)
        (directory / "store").mkdir()
        self.file = directory / "store" / FILE
        self.store = Store(self.file, site.gateway, START_MS, secrets.token_bytes)
        self.store.save_birth(birth, content)
        self.store.open(START_MS)
        self.pipeline = Pipeline(site, self.store.epoch, "simulated", birth, self.store.births())
        self.plans: list[BoardPlan] = []
        for board in site.boards:
            plan = compile_board(site, board.name, birth, ())
            assert plan is not None
            self.plans.append(plan)
            self.pipeline.add_plan(plan)
        self._chance = random.Random(1)
        self._levels = [20_000.0] * INTEGERS
        self._record = 0
        self._clock = Clock("synced", 5, START_MS, 0)

    def records(self, uptime_ms: int) -> list[Taken]:
        """One sample of every unit, as the boards send them."""
        self._levels = [level + self._chance.uniform(-3, 3) for level in self._levels]
        taken = []
        for plan in self.plans:
            samples = []
            for index in range(len(plan.reads)):
                integers = (int(level + self._chance.uniform(-2, 2)) & 0xFFFF for level in self._levels)
                floats = (self._chance.gauss(20, 3) for _float in range(FLOATS))
                head = bytes((index, modbus.OK)) + struct.pack("<IHB", uptime_ms // 1000, uptime_ms % 1000 + index, 0)
                body = head + struct.pack(f">{INTEGERS}H{FLOATS}f", *integers, *floats)
                samples.append((plan.generation, link.SAMPLE, body))
            self._record += len(samples)
            taken.append(Taken(plan.board, "4be01d77", samples, self._record, 0, self._clock, 0.0))
        return taken

    def commit(self, taken: list[Taken], now_s: float) -> None:
        """As the daemon's two threads do."""
        for each in taken:
            self.pipeline.take(each, now_s)
        batches = self.pipeline.close(now_s)
        self.store.commit([filed(batch) for batch in batches], {}, now_utc_ms=START_MS)


def durable_ingest() -> Measured:
    """durable_ingest."""
    boards, units, times = 20, 20, 5
    a_batch = boards * units * times * READINGS

    def run(site: _Site) -> Measured:
        rates = []
        for second in range(8):
            taken = [each for i in range(times) for each in site.records(1000 * second + 200 * i)]
            start_s = time.process_time()
            site.commit(taken, float(second))
            rates.append(a_batch / (time.process_time() - start_s))
        rates = sorted(rates[1:])  # the first one fills caches
        return Measured(
            round(rates[len(rates) // 2]), f"{a_batch} readings a batch, each reported; {rates[0]:.0f} at least"
        )

    return _on_a_site(boards, units, run)


def history_per_reading() -> Measured:
    """history_per_reading."""
    seconds, units = 1200, 20

    def run(site: _Site) -> Measured:
        for second in range(seconds):
            site.commit(site.records(1000 * second), float(second))
        usage = site.store.usage()
        site.store.close()
        count = seconds * units * READINGS
        used = usage.file_bytes - usage.unused_bytes
        on_disk = site.file.stat().st_size
        beside = f"{count} readings in {used} bytes, messages, births and plans among them; the file has {on_disk}"
        return Measured(round(used / count, 2), beside)

    return _on_a_site(1, units, run)


def _on_a_site(boards: int, units: int, run: Callable[[_Site], Measured]) -> Measured:
    with tempfile.TemporaryDirectory(prefix="figures-") as directory:
        return run(_Site(Path(directory), boards, units))


def _write(directory: Path, boards: int, units: int) -> None:
    tables = "".join(_BOARD.format(n=n) for n in range(1, boards + 1))
    (directory / "gateway.toml").write_text(_GATEWAY.format(boards=tables))
    (directory / "profiles").mkdir()
    channels = [_CHANNEL.format(name=f"i{i}", address=i, type="u16", decimals=0, more="") for i in range(INTEGERS)]
    floats = range(FLOATS)
    channels += [
        _CHANNEL.format(name=f"f{i}", address=INTEGERS + 2 * i, type="f32", decimals=3, more=_ORDER) for i in floats
    ]
    (directory / "profiles" / "mixed.toml").write_text(_PROFILE + "".join(channels))
    with (directory / "points.csv").open("w", newline="") as file:
        sheet = csv.writer(file)
        heading = "point name area bus unit_id profile channel unit period_s deadband"
        sheet.writerow(heading.split())
        for board in range(1, boards + 1):
            for unit in range(1, units + 1):
                for channel in (*(f"i{i}" for i in range(INTEGERS)), *(f"f{i}" for i in range(FLOATS))):
                    point = f"B{board:02}U{unit:02}.{channel}"
                    sheet.writerow((point, point, "A", f"line{board}", unit, "mixed", channel, "V", 1, 0))
