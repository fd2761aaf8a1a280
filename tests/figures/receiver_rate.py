"""How many readings a second one copy of `tankgate listen --into` brings into PostgreSQL. Shell.

receiver_rate: a district of 94 gateways of 200 points has been away; what its broker kept for it (batches of 20
readings, every tenth of them twice) is read by one copy, from its start on. The database waits for its disk, and all
of it, broker and copy share this machine. The figure is of the middle of the run: from a tenth of the readings to nine
tenths, by the numbers that the database says it has; duplicates count as nothing. Beside it stands what each part cost.
"""

import asyncio
import json
import random
import subprocess
import sys
import tempfile
import time
from collections import deque
from collections.abc import Iterator
from pathlib import Path

import asyncpg
from paho.mqtt.client import Client, MQTTMessageInfo
from paho.mqtt.enums import CallbackAPIVersion, MQTTProtocolVersion

from hil_tests.mosquitto import Mosquitto
from protocols.feeds import json_feed
from protocols.feeds.json_feed import TimeQuality
from tests.edge.postgres import Postgres
from tests.figures.cost import cpu_ns
from tests.figures.figure import Measured

ROOT = Path(__file__).parents[2]
GOLDEN = ROOT / "protocols" / "feeds" / "golden" / "valid" / "birth.json"
GATEWAYS = 94
POINTS = 200
ROWS = 20
BATCHES = 900  # of each gateway
AGAIN = 10
EPOCH = "01KAR8M2"
T0_MS = 1795401004000
SEED = 20261123
_WITHIN_S = 300.0
_POLL_S = 0.1
_AHEAD = 10_000  # messages: MQTT numbers no more than 65,535 at once
_SETTINGS = "allow_anonymous true\nmax_queued_messages 0\n"


def rate() -> Measured:
    """receiver_rate."""
    with tempfile.TemporaryDirectory(prefix="figures-") as directory:
        broker = Mosquitto(Path(directory), _SETTINGS)
        server = Postgres(durable=True)
        try:
            return asyncio.run(_measure(broker, server))
        finally:
            server.close()
            broker.close()


async def _measure(broker: Mosquitto, server: Postgres) -> Measured:
    database = server.create("district")
    copy = start_copy(broker, database)  # its session is what the broker keeps for
    copy.terminate()
    copy.communicate()
    readings = _publish(broker)
    costs_s = {"copy": 0.0, "PostgreSQL": 0.0, "broker": 0.0}
    connection = await asyncpg.connect(database)
    copy = start_copy(broker, database)
    try:
        await _until(connection, readings // 10)
        began_s, before = time.monotonic(), await _committed(connection)
        costs_s = {part: -spent for part, spent in _spent(copy.pid, server, broker).items()}
        await _until(connection, readings * 9 // 10)
        took_s, done = time.monotonic() - began_s, await _committed(connection) - before
        for part, spent in _spent(copy.pid, server, broker).items():
            costs_s[part] += spent
        await _until(connection, readings)
        in_table = await connection.fetchval("SELECT count(*) FROM reading")
        size = await connection.fetchval("SELECT pg_total_relation_size('reading')") / in_table
    finally:
        await connection.close()
        copy.kill()
        copy.communicate()
    each = ", ".join(f"{part} {spent / done * 1e6:.1f}" for part, spent in costs_s.items())
    beside = (
        f"{done} readings in {took_s:.1f} s; CPU us a reading: {each}; {size:.0f} bytes a reading on disk; "
        f"{in_table} of {readings} in the table"
    )
    return Measured(round(done / took_s), beside, spoilt=in_table != readings)


def copy_command(port: int, database: str) -> list[str]:
    """What starts one, in ROOT."""
    url = f"mqtt://127.0.0.1:{port}"
    return [sys.executable, "-m", "edge", "--lang", "en", "listen", url, "--into", database]


def start_copy(broker: Mosquitto, database: str) -> subprocess.Popen[str]:
    """One that is connected."""
    copy = subprocess.Popen(
        copy_command(broker.port, database),
        cwd=ROOT,
        stderr=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        text=True,
    )
    assert copy.stderr is not None
    for line in copy.stderr:
        if "broker: in order" in line:
            return copy
    raise OSError("tankgate listen --into ended by itself")


def _publish(broker: Mosquitto) -> int:
    """Everything, into the copy's session; how many readings that are, without those that come again."""
    client = Client(CallbackAPIVersion.VERSION2, protocol=MQTTProtocolVersion.MQTTv5)
    client.max_inflight_messages_set(100)
    client.connect("127.0.0.1", broker.port)
    client.loop_start()
    sent: deque[MQTTMessageInfo] = deque()
    for topic, payload in _messages():
        sent.append(client.publish(topic, payload, qos=1))
        if len(sent) > _AHEAD:
            sent.popleft().wait_for_publish(_WITHIN_S)
    for each in sent:
        each.wait_for_publish(_WITHIN_S)
    client.disconnect()
    client.loop_stop()
    return GATEWAYS * BATCHES * ROWS


def _messages() -> Iterator[tuple[str, bytes]]:
    chance = random.Random(SEED)
    content = json.loads(GOLDEN.read_text())
    for own in ("schema", "gateway", "epoch", "stream", "seq", "birth"):
        del content[own]
    content["points"] = [{**content["points"][0], "point": f"TK{point:03}.level"} for point in range(POINTS)]
    birth = json_feed.birth_id(content)
    gateways = [f"site-{number:03}" for number in range(GATEWAYS)]
    for gateway in gateways:
        yield json_feed.topic(gateway, "event/birth"), json_feed.birth(gateway, EPOCH, 1, birth, content)
    quality = TimeQuality("synced", 7, None)
    for seq in range(1, BATCHES + 1):
        for gateway in gateways:
            points = sorted((chance.randrange(1000), point) for point in chance.sample(range(POINTS), ROWS))
            rows = [(f"TK{point:03}.level", dt_ms, round(chance.uniform(0, 12), 3), 0, 0) for dt_ms, point in points]
            payload = json_feed.data(gateway, EPOCH, seq, birth, quality, T0_MS + 1000 * seq, rows)
            for _time in range(2 if seq % AGAIN == 0 else 1):
                yield json_feed.topic(gateway, "data"), payload


async def _committed(connection: asyncpg.Connection) -> int:
    """Readings that are in the database, by the account of the streams."""
    batches = await connection.fetchval(
        "SELECT coalesce(sum(upper(span) - lower(span)), 0) FROM stream, unnest(came) AS span WHERE stream = 'data'"
    )
    return int(batches) * ROWS


async def _until(connection: asyncpg.Connection, readings: int) -> None:
    until_s = time.monotonic() + _WITHIN_S
    while await _committed(connection) < readings:
        if time.monotonic() > until_s:
            raise TimeoutError(f"{readings} readings were not committed in {_WITHIN_S:.0f} s")
        await asyncio.sleep(_POLL_S)


def _spent(copy: int, server: Postgres, broker: Mosquitto) -> dict[str, float]:
    pids = {"copy": [copy], "PostgreSQL": server.pids(), "broker": [broker.pid]}
    return {part: sum(map(cpu_ns, of_part)) / 1e9 for part, of_part in pids.items()}
