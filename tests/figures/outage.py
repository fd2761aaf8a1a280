"""What the daemon keeps in memory while nobody takes anything and its disk quota is used up. Shell.

outage_rss_mib: VmRSS of the daemon's process, the most of seven minutes without a broker at 2,000 readings a second, on
a store that is nearly full of what nobody has got: the oldest of it goes, minute after minute, each time with a gap
record. After minute 3 it may not grow by more than 1 MiB.
"""

import random
import secrets
import socket
import tempfile
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from edge.batch import Batch, Message, Row, Section, bitmap, filed
from edge.control import NAME as CONTROL
from edge.control import ask
from edge.store import FILE, WAL_MAX_BYTES, Store
from edge.timebase import Clock
from hil_tests.broker import HOST
from tests.figures.cost import resident_kib
from tests.figures.figure import Measured
from tests.figures.load import Load
from tests.figures.sensors import Sensors
from tests.figures.tankgate import Tankgate

_LOAD = Load(units=20, registers=20, period_ms=200)
_QUOTA_BYTES = 50_000_000  # the least that may be set
_READINGS_SHARE = 0.9  # of it, without the log
_FILLED = 0.995  # of that, before anything begins
_MINUTES, _SETTLED_MINUTES = 7, 3
_GROWTH_MIB = 1.0
_FIRST_S = 60.0
_EVERY_S = 5.0
_BIRTH = "00000000"
_AGO_S = 86_400


def resident() -> Measured:
    """outage_rss_mib."""
    with tempfile.TemporaryDirectory(prefix="figures-") as name, socket.socket() as nobody:
        nobody.bind((HOST, 0))  # and does not listen
        directory = Path(name)
        sensors = Sensors(directory)
        gateway = Tankgate(directory / "gateway", nobody.getsockname()[1], sensors.port, _LOAD, prepare=_prepare)
        try:
            return _measure(gateway.pids[0], directory / "gateway")
        finally:
            gateway.close()
            sensors.close()


def _measure(daemon: int, directory: Path) -> Measured:
    door = directory / "store" / CONTROL
    _wait_for_samples(door)
    before = ask(door, {"do": "status"})["samples"]
    began_s = time.monotonic()
    resident_mib = list(_resident_mib(daemon, began_s))
    took_s = time.monotonic() - began_s
    per_s = (ask(door, {"do": "status"})["samples"] - before) * _LOAD.registers / took_s
    drops = (directory / "daemon.log").read_text().count("(disk_quota)")
    settled = next(mib for at_s, mib in resident_mib if at_s >= _SETTLED_MINUTES * 60)
    later = max(mib for at_s, mib in resident_mib if at_s >= _SETTLED_MINUTES * 60)
    most = max(mib for _at_s, mib in resident_mib)
    beside = (
        f"{per_s:.0f} readings a second; {settled:.1f} MiB at minute {_SETTLED_MINUTES}, at most {later:.1f} after it, "
        f"{resident_mib[0][1]:.1f} at the beginning; the quota took effect {drops} times"
    )
    is_spoilt = later > settled + _GROWTH_MIB or not drops or per_s < 0.95 * _LOAD.per_s
    return Measured(round(most, 1), beside, spoilt=is_spoilt)


def _wait_for_samples(door: Path) -> None:
    until_s = time.monotonic() + _FIRST_S
    while time.monotonic() < until_s:
        try:
            if ask(door, {"do": "status"})["samples"]:
                return
        except OSError:  # it is not there yet
            pass
        time.sleep(0.2)
    raise TimeoutError(f"no samples in {_FIRST_S:.0f} s")


def _resident_mib(daemon: int, began_s: float) -> Iterator[tuple[float, float]]:
    while (at_s := time.monotonic() - began_s) <= _MINUTES * 60:
        yield at_s, resident_kib(daemon)["VmRSS"] / 1024
        time.sleep(_EVERY_S)


def _prepare(directory: Path) -> None:
    """Set the quota, and fill the store up to just below it: one second of readings that no packing helps, repeated."""
    gateway_toml = directory / "gateway.toml"
    gateway_toml.write_text(gateway_toml.read_text().replace('"8 GB"', f'"{_QUOTA_BYTES // 10**6} MB"', 1))
    chance = random.Random(1)
    now_ms = int(time.time() * 1000)
    folder = directory / "store"
    folder.mkdir()
    store = Store(folder / FILE, "figures", now_ms, secrets.token_bytes, max_bytes=_QUOTA_BYTES)
    store.save_birth(_BIRTH, {"points": [{"point": f"P{i}.x", "type": "u16"} for i in range(_LOAD.per_s)]})
    store.open(now_ms)
    section = Section("cab1", "4be01d77", Clock("synced", 5, now_ms - _AGO_S * 1000, 0))
    rows = tuple(Row(0, i // 2, i, chance.randrange(65536), 0, 0) for i in range(_LOAD.per_s))
    message = Message("data", 1, "data", _BIRTH, None, bitmap(range(_LOAD.per_s), _LOAD.per_s))
    second = filed(Batch(_BIRTH, (section,), rows, (), (message,)))
    seq = 0
    while store.usage().file_bytes < _FILLED * _READINGS_SHARE * (_QUOTA_BYTES - WAL_MAX_BYTES):
        numbered = [replace(second, messages=(replace(message, seq=seq + i),)) for i in range(1, 51)]
        store.commit(numbered, {})
        seq += 50
    store.close()
