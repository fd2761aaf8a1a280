"""What the daemon writes to its disk. Shell.

disk_write_per_reading: write_bytes of the daemon's process to the readings that it delivered meanwhile, with 200 points
polled and reported each second, two destinations that acknowledge everything, and retention at work: the store is
begun with half an hour of history that grows too old second by second. write_bytes counts what is handed to the disk,
not the file system's own journal. Six minutes and a half, which is more than three checkpoints of the log.
"""

import secrets
import tempfile
import time
from collections.abc import Collection, Sequence
from pathlib import Path

from edge.batch import Batch, Message, Row, Section, bitmap, filed
from edge.store import FILE, Store
from edge.timebase import Clock
from tests.figures import tankgate
from tests.figures.broker import HOST, Broker
from tests.figures.chain import Chain
from tests.figures.cost import written_bytes
from tests.figures.figure import Measured
from tests.figures.load import Load

_LOAD = Load(units=20, registers=10, period_ms=1000)
_SETTLE_S = 20.0
_WINDOW_S = 390.0
_OLD_S, _DUE_S = 1800, 600  # so much history, of which so much is too old at the beginning
_COMMIT_S = 60  # of it together
_DAY_MS = 86_400_000
_BIRTH = "00000000"


def per_reading() -> Measured:
    """disk_write_per_reading."""
    with tempfile.TemporaryDirectory(prefix="figures-") as folder:
        second = Broker(Path(folder))
        try:
            return _measure(second.port)
        finally:
            second.close()


def _measure(second_port: int) -> Measured:
    def prepare(directory: Path) -> None:
        gateway_toml = directory / "gateway.toml"
        text = gateway_toml.read_text().replace("[destinations", "keep = { readings_days = 1 }\n[destinations", 1)
        text += f'[destinations.second]\nurl = "mqtt://{HOST}:{second_port}"\nfeed = "json"\n'
        gateway_toml.write_text(text)
        _begin_history(directory / "store")

    def start(directory: Path, broker_port: int, port: Path) -> tankgate.Tankgate:
        return tankgate.Tankgate(directory, broker_port, port, _LOAD, prepare=prepare)

    with Chain(tankgate.TOPIC, tankgate.readings, start) as chain:
        daemon = chain.gateway.pids[0]
        time.sleep(_SETTLE_S)
        start_ns, before = chain.next_message_ns(), written_bytes(daemon)
        time.sleep(_WINDOW_S)
        end_ns, after = chain.next_message_ns(), written_bytes(daemon)
        count = chain.receiver.between(start_ns, end_ns)
        lost, twice = chain.receiver.lost_and_twice()
    seconds = (end_ns - start_ns) / 1e9
    beside = f"{after - before} bytes, {count} readings in {seconds:.0f} s; lost {lost}, twice {twice}"
    is_less = count < 0.95 * _LOAD.per_s * seconds
    return Measured(round((after - before) / count, 1), beside, spoilt=bool(lost) or is_less or after == before)


def _begin_history(folder: Path) -> None:
    """Up to now: it grows old by the time for which gateways have run on it."""
    until_now_s = _DAY_MS // 1000 + _DUE_S
    begin_ms = int(time.time() * 1000) - until_now_s * 1000
    seconds = [*range(_OLD_S), until_now_s]
    begin_history(folder, _LOAD.per_s, seconds, begin_ms, {"district", "second"})  # delivered long ago


def begin_history(
    folder: Path, per_s: int, seconds: Sequence[int], begin_ms: int, delivered: Collection[str]
) -> None:
    """A store of `per_s` readings in each of these seconds, a batch and message each, that these destinations have."""
    folder.mkdir()
    now_ms = int(time.time() * 1000)
    store = Store(folder / FILE, "figures", now_ms, secrets.token_bytes)
    store.save_birth(_BIRTH, {"points": [{"point": f"P{i}.x", "type": "u16"} for i in range(per_s)]})
    store.open(now_ms)
    section = Section("cab1", "4be01d77", Clock("synced", 5, begin_ms, 0))
    every = bitmap(range(per_s), per_s)
    batches = []
    for seq, second in enumerate(seconds, 1):
        rows = tuple(Row(0, 1000 * second + i // 10, i, (i * 37 + second) & 0xFFFF, 0, 0) for i in range(per_s))
        message = Message("data", seq, "data", _BIRTH, None, every)
        batches.append(filed(Batch(_BIRTH, (section,), rows, (), (message,))))
    which = (store.epoch, "data", "broker")
    for at in range(0, len(batches), _COMMIT_S):
        store.commit(batches[at : at + _COMMIT_S], {}, now_s=float(seconds[at]))
    store.commit([], {name: {which: [(1, len(seconds))]} for name in delivered})
    store.close()
