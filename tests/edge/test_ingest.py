"""From a real broker into a real database: nothing lost, nothing twice, whatever is killed; and receipts that hold."""

import asyncio
import json
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import paho.mqtt.client as mqtt
import pytest
from paho.mqtt.enums import CallbackAPIVersion

from edge.district import ingest as ingest_module
from edge.district.ingest import Ingest
from edge.feed_schemas import Schemas
from edge.receiver import RETAINED
from hil_tests.mosquitto import PERSISTENT, Mosquitto
from protocols.feeds import json_feed
from protocols.model import Destination
from tests.edge.mosquitto import DEADLINE_S, publish, until
from tests.edge.postgres import Postgres, rows
from tests.edge.test_district_database import EPOCH, GATEWAY, birth, data, event, state

pytestmark = pytest.mark.needs("mosquitto", "postgres")

ROOT = Path(__file__).parents[2]
RECEIPT = json_feed.topic(GATEWAY, "receipt")


def query(url: str, text: str) -> list[tuple[Any, ...]]:
    return asyncio.run(rows(url, text))


def count(url: str) -> int:
    """Readings of which no message came twice."""
    ((readings, messages),) = query(url, "SELECT count(*), count(DISTINCT (stream, seq)) FROM reading")
    assert readings == messages, "the same message was read twice"
    return readings


def send(broker: Mosquitto, *messages: tuple[str, bytes]) -> None:
    documents = tuple(json_feed.topic(GATEWAY, kind) for kind in RETAINED)
    publish(broker, *((topic, payload, topic in documents) for topic, payload in messages))


class Copy:
    """One copy, in a thread; `said` is what it tells a person."""

    def __init__(self, broker: Mosquitto, database: str, session: str = "ingest") -> None:
        self.said: list[str] = []
        at = Destination("listen", f"mqtt://127.0.0.1:{broker.port}", "json", None, None, None)
        self._thread = threading.Thread(target=self._run, args=(at, database, session), daemon=True)
        self._thread.start()
        self.until_said("broker: in order")

    def _run(self, *where: Any) -> None:
        async def run() -> None:
            self._loop = asyncio.get_running_loop()
            self.ingest = Ingest(where[0], where[1], "+", where[2], Schemas().violations, self.said.append)
            await self.ingest.run()

        asyncio.run(run())

    def until_said(self, words: str) -> None:
        until(lambda: any(words in sentence for sentence in list(self.said)))

    def stop(self) -> None:
        if self._thread.is_alive():
            self._loop.call_soon_threadsafe(self.ingest.stop)
            self._thread.join(DEADLINE_S)
            assert not self._thread.is_alive()


@pytest.fixture
def copy(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., Copy]]:
    """Starts copies that end with the test, and sweep often."""
    monkeypatch.setattr(ingest_module, "PERIOD_S", 0.1)
    monkeypatch.setattr(ingest_module, "RETRY_S", 0.1)
    started: list[Copy] = []

    def start(*where: Any) -> Copy:
        started.append(Copy(*where))
        return started[-1]

    yield start
    for each in started:
        each.stop()


class Gateway:
    """Hears the receipts of a gateway."""

    def __init__(self, broker: Mosquitto) -> None:
        self.receipts: list[dict[str, Any]] = []
        self._client = mqtt.Client(CallbackAPIVersion.VERSION2, protocol=mqtt.MQTTv5)
        self._client.on_message = lambda _client, _userdata, message: self.receipts.append(json.loads(message.payload))
        self._client.connect("127.0.0.1", broker.port)
        self._client.subscribe(RECEIPT, qos=1)

    def until_receipted(self, stream: str, committed: int, missing: list[list[int]]) -> None:
        def heard() -> bool:
            self._client.loop(0.05)
            wanted = {"committed": committed, "missing": missing}
            return bool(self.receipts) and self.receipts[-1]["epochs"].get(EPOCH, {}).get(stream) == wanted

        until(heard)
        assert not list(Schemas().violations("receipt", self.receipts[-1]))


# --- in -----------------------------------------------------------------------------------------------------


def test_everything_of_the_feed_finds_its_place(broker, database, copy):
    running = broker()
    one = copy(running, database)
    link = json_feed.link(GATEWAY, EPOCH, True, 1795399869000)
    send(running, birth(), (json_feed.topic(GATEWAY, "link"), link), state(3))
    send(running, data(1), data(2), data(2), event("alarm", 1))
    until(lambda: one.ingest.counts.again == 1 and one.ingest.counts.messages == 3)
    assert count(database) == 2
    heard = "SELECT g.is_online, p.epoch FROM gateway g JOIN present p ON p.gateway = g.id"
    until(lambda: query(database, heard) == [(True, EPOCH)])
    assert query(database, "SELECT alarm, value FROM alarm") == [("GD07.gas:HH", 52.5)]


def test_what_was_retained_before_is_heard_by_who_comes_later(broker, database, copy):
    running = broker()
    send(running, birth(), state(3))
    copy(running, database)
    until(lambda: query(database, "SELECT epoch FROM birth JOIN present USING (gateway)") == [(EPOCH,)])


def test_a_copy_that_stops_leaves_nothing_half_done(broker, database, copy):
    running = broker()
    one = copy(running, database)
    send(running, birth(), *(data(seq) for seq in range(1, 101)))
    one.stop()
    copy(running, database)
    until(lambda: count(database) == 100)


def test_two_copies_share_the_work_and_write_one_account(broker, database, copy):
    running = broker()
    gateway = Gateway(running)
    copies = [copy(running, database, f"ingest-{number}") for number in (1, 2)]
    send(running, birth(), *(data(seq) for seq in range(1, 201) if seq != 150))
    until(lambda: count(database) == 199)
    assert all(each.ingest.counts.messages > 0 for each in copies)
    gateway.until_receipted("data", 149, [])
    query(database, "UPDATE hole SET since = since - interval '1 minute'")
    gateway.until_receipted("data", 200, [[150, 150]])
    copies[0].stop()  # whichever wrote them
    send(running, data(150))
    gateway.until_receipted("data", 200, [])
    promised = [receipt["epochs"][EPOCH]["data"]["committed"] for receipt in gateway.receipts]
    assert promised == sorted(promised)


def test_two_copies_of_one_name_are_told_of_it(broker, database, copy):
    running = broker()
    one, _two = copy(running, database), copy(running, database)
    one.until_said("perhaps another one runs with the same --session")


def test_a_database_that_restarts_costs_nothing(broker, copy):
    running = broker("allow_anonymous true\nmax_queued_messages 0")
    server = Postgres(durable=True)
    try:
        database = server.create("d")
        one = copy(running, database)
        send(running, birth(), data(1))
        until(lambda: count(database) == 1)
        server.stop()
        send(running, *(data(seq) for seq in range(2, 51)))
        one.until_said("database: ")
        server.start()
        until(lambda: one.ingest.counts.messages == 50)
        assert count(database) == 50
        one.stop()
    finally:
        server.close()


def test_a_broker_that_restarts_costs_nothing_that_it_had_written_down(broker, database, copy):
    running = broker(PERSISTENT)
    one = copy(running, database)
    send(running, birth(), *(data(seq) for seq in range(1, 51)))
    running.kill()
    one.until_said("broker: connection lost")
    running.start()
    # mosquitto 2.0 forgets shared subscriptions: what is published before a copy is back, only receipts bring again.
    until(lambda: one.said.count("broker: in order") == 2)
    send(running, *(data(seq) for seq in range(1, 101)))
    until(lambda: count(database) == 100)


# --- killed -------------------------------------------------------------------------------------------------


def start(broker: Mosquitto, database: str, session: str) -> subprocess.Popen[str]:
    process = subprocess.Popen(
        [sys.executable, "-m", "edge", "--lang", "en", "listen", f"mqtt://127.0.0.1:{broker.port}", "--into", database]
        + ["--session", session],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    while "broker: in order" not in (line := process.stderr.readline()):
        assert line, "it ended"
    return process


def test_a_killed_copy_loses_nothing_and_brings_nothing_twice(broker, database):
    running = broker("allow_anonymous true\nmax_queued_messages 0")
    processes = [start(running, database, "ingest-1"), start(running, database, "ingest-2")]
    try:
        send(running, birth())
        sending = threading.Thread(target=send, args=(running, *(data(seq) for seq in range(1, 1001))))
        sending.start()
        for kill in range(3):
            until(lambda done=kill: count(database) > 150 * (done + 1))
            processes[0].kill()
            processes[0].communicate()
            processes[0] = start(running, database, "ingest-1")
        sending.join()
        until(lambda: count(database) == 1000)
        for process in processes:
            process.send_signal(signal.SIGTERM)
            said, _told = process.communicate(timeout=DEADLINE_S)
            assert process.returncode == 0
            assert "new messages" in said and said.endswith("0 ranges of numbers lost.\n")
    finally:
        for process in processes:
            process.kill()
            process.communicate()


def test_a_broker_that_never_answers_is_an_exit_code(database):
    run = subprocess.run(
        [sys.executable, "-m", "edge", "--lang", "en", "listen", "mqtt://127.0.0.1:9", "--into", database]
        + ["--seconds", "1"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
        timeout=DEADLINE_S,
    )
    assert run.returncode == 3 and "broker: nobody listens at this port" in run.stderr


# --- back ---------------------------------------------------------------------------------------------------


def test_a_receipt_is_retained_and_says_what_is_committed(broker, database, copy):
    running = broker()
    copy(running, database)
    send(running, birth(), event("action", 1), *(data(seq) for seq in (1, 2, 3)))
    gateway = Gateway(running)
    gateway.until_receipted("data", 3, [])
    gateway.until_receipted("event", 1, [])
    late = Gateway(running)
    late.until_receipted("data", 3, [])
    assert abs(late.receipts[0]["at_ms"] - time.time() * 1000) < 60_000
    told = "SELECT epochs -> '01KAR8M2' -> 'data' ->> 'committed' FROM receipt"
    until(lambda: query(database, told) == [("3",)])


def test_a_copy_that_lost_its_broker_leaves_the_receipts_to_another(broker, database, copy):
    """Two nodes of a cluster, of which one is gone for good."""
    nodes = broker(), broker()
    first = copy(nodes[0], database, "ingest-1")
    until(lambda: query(database, "SELECT FROM pg_locks WHERE locktype = 'advisory' AND granted"))
    copy(nodes[1], database, "ingest-2")
    gateway = Gateway(nodes[1])
    nodes[0].kill()
    first.until_said("broker: ")
    send(nodes[1], birth(), data(1))
    gateway.until_receipted("data", 1, [])


def test_receipts_that_the_broker_refuses_are_told(broker, database, copy, tmp_path):
    (tmp_path / "acl").write_text("topic readwrite tankgate/v1/+/data\ntopic read tankgate/#\n")
    running = broker(f"allow_anonymous true\nacl_file {tmp_path / 'acl'}")
    one = copy(running, database)
    send(running, data(1))
    one.until_said("receipts: the broker refuses receipts (reason code 135)")


def test_a_loss_is_told(broker, database, copy):
    running = broker()
    one = copy(running, database)
    send(running, birth(), data(1), data(4))
    until(lambda: query(database, "SELECT numbers FROM hole"))
    query(database, "UPDATE hole SET since = since - interval '10 minutes'")
    send(running, state(5, [[2, 2]], next_event=1))
    one.until_said(f"{GATEWAY}: numbers 3 to 3 of data, epoch {EPOCH}, are lost")


def test_two_gateways_of_one_name_are_told_of(broker, database, copy):
    running = broker()
    one = copy(running, database)
    send(running, state(3), state(2, epoch="01KB77XZ"), state(4))
    one.until_said(f"{GATEWAY}: two gateways use this name (epochs 01KB77XZ, {EPOCH})")


def test_a_message_that_waited_is_read_by_itself(broker, database, copy):
    running = broker()
    one = copy(running, database)
    send(running, data(1))
    until(lambda: one.ingest.counts.waiting == 1)
    send(running, birth())
    until(lambda: count(database) == 1)


# --- wrong use ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("code", "said", "arguments"),
    [
        (2, "goes without --json and --check", ["--into", "postgresql:///d", "--check"]),
        (2, "allowed is mqtt://host:port", ["http://127.0.0.1", "--into", "postgresql:///d"]),
        (
            3,
            "--into postgresql:///d?host=/nowhere&password=... cannot be used: there is no such file, folder or port.",
            ["--into", "postgresql:///d?host=/nowhere&password=secret"],
        ),
        (
            3,
            "--into postgresql://127.0.0.1:1/d cannot be used: nobody listens at this port. It takes postgresql://",
            ["--into", "postgresql://ingest:secret@127.0.0.1:1/d"],
        ),
        (2, "--into mysql://127.0.0.1/d cannot be used: invalid DSN", ["--into", "mysql://ingest:secret@127.0.0.1/d"]),
        (2, "It takes postgresql://user:password@host:port/name", ["--into", "postgresql://ingest:secret@h:port/d"]),
    ],
)
def test_wrong_use(code, said, arguments):
    if not arguments[0].startswith("http"):
        arguments = ["mqtt://127.0.0.1:1", *arguments]
    run = subprocess.run(
        [sys.executable, "-m", "edge", "--lang", "en", "listen", *arguments],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert run.returncode == code
    assert said in run.stderr and "Traceback" not in run.stderr and "secret" not in run.stderr
