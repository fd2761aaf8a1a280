"""What a broker takes with it when it is killed. Shell.

broker_kill_lost: messages that a gateway had made when its broker was killed (-9, nothing persisted) while the
district's receiver was away, and that never reached the district's database, although broker and receiver came back.
With receipts (`await_receipt`): none. Beside it stands the same without receipts, where the broker's acknowledgement
is believed; were that none too, the kill would have proven nothing, and the figure fails.
"""

import asyncio
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from edge.control import NAME as CONTROL
from edge.control import ask
from hil_tests.mosquitto import Mosquitto
from tests.edge.postgres import Postgres, rows
from tests.figures.figure import Measured
from tests.figures.load import Load
from tests.figures.receiver_rate import start_copy
from tests.figures.sensors import Sensors
from tests.figures.tankgate import Tankgate

_SETTLE = 30  # messages that have come before anything is done
_AWAY_S = 10.0
_FIRST_S = 60.0
# A hole is asked for after 30 s, and a gateway doubts 30 s after the last progress; the rest is for the way.
_PATIENCE_S = 120.0
_POLL_S = 0.5
_SETTINGS = "allow_anonymous true\nmax_queued_messages 0\n"
# Of the streams of the one gateway, those of these numbers that have come.
_CAME = """
SELECT coalesce(sum(upper(span) - lower(span)), 0)::bigint
FROM unnest($1::text[], $2::bigint[]) AS made (stream, last) JOIN stream USING (stream)
CROSS JOIN LATERAL unnest(came * int8multirange(int8range(1, made.last, '[]'))) AS span
"""


class _Run(NamedTuple):
    made: int
    lost: int
    took_s: float


def lost() -> Measured:
    """broker_kill_lost."""
    with_receipts, without = _run(receipts=True), _run(receipts=False)
    beside = (
        f"of {with_receipts.made} messages, all there {with_receipts.took_s:.0f} s after the kill; "
        f"without receipts {without.lost} of {without.made} are lost"
    )
    return Measured(with_receipts.lost, beside, spoilt=without.lost == 0)


def _run(receipts: bool) -> _Run:
    with tempfile.TemporaryDirectory(prefix="figures-") as name:
        directory = Path(name)
        broker = Mosquitto(directory, _SETTINGS)
        server = Postgres()
        database = server.create("district")
        sensors = Sensors(directory)
        load = Load(units=10, registers=5, period_ms=1000)
        gateway = Tankgate(directory / "gateway", broker.port, sensors.port, load, urgent=True, receipts=receipts)
        try:
            return _kill(broker, database, directory / "gateway" / "store" / CONTROL)
        finally:
            gateway.close()
            sensors.close()
            server.close()
            broker.close()


def _kill(broker: Mosquitto, database: str, door: Path) -> _Run:
    with _copy(broker, database):
        anything = dict.fromkeys(("data", "event"), 10**9)
        if _until(database, anything, _SETTLE, _FIRST_S) < _SETTLE:
            raise TimeoutError(f"less than {_SETTLE} messages came in {_FIRST_S:.0f} s")
    time.sleep(_AWAY_S)
    made = _made(door)
    broker.kill()
    began_s = time.monotonic()
    broker.start()
    with _copy(broker, database):
        number = sum(made.values())
        came = _until(database, made, number, _PATIENCE_S)
    return _Run(number, number - came, time.monotonic() - began_s)


@contextmanager
def _copy(broker: Mosquitto, database: str) -> Iterator[None]:
    """The district's receiver, until it is killed."""
    copy = start_copy(broker, database)
    try:
        yield
    finally:
        copy.kill()
        copy.communicate()


def _made(door: Path) -> dict[str, int]:
    """The last number of each stream."""
    return {stream: next_seq - 1 for stream, next_seq in ask(door, {"do": "status"})["next_seq"].items()}


def _until(database: str, made: dict[str, int], number: int, within_s: float) -> int:
    """How many of these have come, as soon as it is `number`, or after a time."""
    until_s = time.monotonic() + within_s
    while True:
        ((came,),) = asyncio.run(rows(database, _CAME, list(made), list(made.values())))
        if came >= number or time.monotonic() > until_s:
            return int(came)
        time.sleep(_POLL_S)
