"""A disk that does not answer who reads: the daemon goes on, says so, and sends what it has in memory."""

import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from paho.mqtt.client import Client, MQTTMessage
from paho.mqtt.enums import CallbackAPIVersion, MQTTProtocolVersion

from edge.control import NAME, ask
from edge.forward import LATE_SHARE, WINDOW
from hil_tests.mosquitto import Mosquitto
from protocols.feeds import json_feed
from tests.edge.test_run_and_status import ROOT, gateway_toml
from tests.figures.disk_writes import begin_history

__all__ = ["gateway_toml"]

pytestmark = pytest.mark.needs("mosquitto")

SECONDS = 3000  # of history, a message each
WITHIN_S = 40.0
ANSWERS_S = 1.0
# `tankgate`, for whom reading the disk takes as long as the file is there that the first argument names; for all of it,
# or for the thread of that name.
SLOW = """
import runpy, sys, threading, time
from pathlib import Path
import apsw
hangs, whom = Path(sys.argv.pop(1)), sys.argv.pop(1)
class File(apsw.VFSFile):
    def xRead(self, amount, offset):
        while whom in ("all", threading.current_thread().name) and hangs.exists():
            time.sleep(0.02)
        return super().xRead(amount, offset)
class Disk(apsw.VFS):
    def xOpen(self, name, flags):
        return File("unix", name, flags)
disk = Disk("slow", "unix", makedefault=True)
runpy.run_module("edge", run_name="__main__")
"""


class District:
    """What it heard of the events and how many messages of data."""

    def __init__(self, broker: Mosquitto) -> None:
        self.events: list[dict[str, Any]] = []
        self.data: set[tuple[str, int]] = set()
        self._client = Client(CallbackAPIVersion.VERSION2, protocol=MQTTProtocolVersion.MQTTv5)
        self._client.on_connect = lambda client, *_rest: client.subscribe("tankgate/v1/#", 1)
        self._client.on_message = self._hear
        self._client.connect("127.0.0.1", broker.port)
        self._client.loop_start()

    def close(self) -> None:
        self._client.disconnect()
        self._client.loop_stop()

    def _hear(self, _client: Client, _userdata: object, message: MQTTMessage) -> None:
        document = json_feed.read(message.payload) or {}
        if message.topic.endswith("/data"):
            self.data.add((document["epoch"], document["seq"]))
        elif "/event/" in message.topic:
            self.events.append(document)

    def alarms(self, alarm: str) -> list[str]:
        return [event["transition"] for event in self.events if event.get("alarm") == alarm]


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[Mosquitto]:
    broker = Mosquitto(tmp_path, "allow_anonymous true\nmax_queued_messages 0\n")
    yield broker
    broker.close()


@pytest.fixture
def district(broker: Mosquitto) -> Iterator[District]:
    district = District(broker)
    yield district
    district.close()


def backlog(door: Path) -> int:
    (destination,) = ask(door, {"do": "status"}, ANSWERS_S)["destinations"]
    return destination["backlog_messages"]


def until(true: Callable[[], object]) -> None:
    end_s = time.monotonic() + WITHIN_S
    while not true():
        assert time.monotonic() < end_s
        time.sleep(0.02)


@pytest.mark.parametrize("whom", ["all", "reader"])  # who writes may find in memory what it needs
def test_while_the_disk_answers_no_reads_alarms_go_on_and_the_door_answers(
    gateway_toml: Path, broker: Mosquitto, district: District, whom: str
) -> None:
    folder = gateway_toml.parent
    hangs, door = folder / "hangs", folder / "store" / NAME
    text = gateway_toml.read_text(encoding="utf-8").replace("127.0.0.1:1883", f"127.0.0.1:{broker.port}")
    gateway_toml.write_text(text, encoding="utf-8")
    begin_history(folder / "store", 20, range(SECONDS), int(time.time() * 1000) - 3_600_000, ())
    command = [sys.executable, "-c", SLOW, hangs, whom, "--lang", "en", "run", "--simulated", gateway_toml]
    with subprocess.Popen(command, cwd=ROOT) as daemon:
        try:
            until(lambda: len(district.data) > 20)
            hangs.touch()
            until(lambda: ask(door, {"do": "status"}, ANSWERS_S)["store"]["state"] == "fault")
            assert 20 < len(district.data) < SECONDS
            until(lambda: district.alarms("system.store:FAULT") == ["raise"])
            (folder / "points.csv").write_text("nonsense\n", encoding="utf-8")
            daemon.send_signal(signal.SIGHUP)
            until(lambda: district.alarms("system.config:FAULT") == ["raise"])
            status = ask(door, {"do": "status"}, ANSWERS_S)
            assert "not answered" in status["store"]["fault"]
            buffer = ask(door, {"do": "buffer"}, ANSWERS_S)
            assert buffer["store"]["state"] == "fault" and buffer["destinations"][0]["backlog_messages"] > 0
            hangs.unlink()
            until(lambda: district.alarms("system.store:FAULT") == ["raise", "clear"])
            until(lambda: len(district.data) >= SECONDS - WINDOW // LATE_SHARE)  # the others after a minute
            until(lambda: backlog(door) == SECONDS - len(district.data))
            assert [event["cause"] for event in district.events if "cause" in event] == []
        finally:
            hangs.unlink(missing_ok=True)
            daemon.terminate()
            assert daemon.wait(timeout=20) == 0
