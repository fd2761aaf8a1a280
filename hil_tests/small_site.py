"""A site of one board, made for one test: its files, its board, its gateway, and the readings that came out. Shell.

The board and the gateway are the real programs, each a process as in the field. What hangs on the board's buses is
the test's own. Must never look into the gateway: readings are counted when the broker hands them out.
"""

import json
import selectors
import subprocess
import sys
import time
from collections import defaultdict
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from pathlib import Path
from queue import SimpleQueue
from threading import Event
from typing import Any, NamedTuple

import paho.mqtt.client as mqtt
from paho.mqtt.enums import CallbackAPIVersion

from hil_tests.bench.board import DIES_WITH_ITS_STARTER, Cable
from hil_tests.bench.pty_port import Port
from hil_tests.bench.rig import Rig

_ROOT = Path(__file__).parents[1]
BOARD = "cab1"
_BOARD_ID = "esp32s3-7cdfa1e40c11"
_GATEWAY_TOML = """
schema = 1
[site]
gateway = "small-site"
name = "small site"
group = "tests"
timezone = "Asia/Shanghai"
points = "points.csv"
[boards.cab1]
id = "{board_id}"
port = "{port}"
{buses}
[store]
path = "store"
max_bytes = "50 MB"
[destinations.district]
url = "mqtt://127.0.0.1:{broker_port}"
feed = "json"
"""
_BUS_TOML = """
[buses.{name}]
board = "cab1"
uart = {uart}
line = "{line}"
"""
_TICK_S = 0.005
_DEADLINE_S = 30.0
_STOP_S = 10.0


class Bus(NamedTuple):
    """One bus of the board, with what hangs at `port`, which the rig gave for it; `line` like "9600 8N1"."""

    name: str
    line: str
    port: Port


class Reading(NamedTuple):
    """One row of a data message."""

    value: float | None
    status: int
    detail: int


class SmallSite:
    """`readings`: point -> what the broker handed out of it, in order, without the repetitions that heartbeats are."""

    def __init__(
        self, rig: Rig, directory: Path, broker_port: int, buses: list[Bus], points: str, profiles: Mapping[str, str]
    ) -> None:
        self.readings: defaultdict[str, list[Reading]] = defaultdict(list)
        self.console = directory / "gateway.log"
        self._payloads: SimpleQueue[bytes] = SimpleQueue()
        self._selector = selectors.DefaultSelector()
        with ExitStack() as self._to_stop:  # what was started is stopped again where a later part cannot start
            self._to_stop.callback(self._selector.close)
            cable = Cable(directory / "plug", board_end=rig.link_port(BOARD))
            self._to_stop.callback(cable.close)
            self.watch(cable.board_end.fileno(), cable.carry_up)
            if cable.edge_end is not None:
                self.watch(cable.edge_end.fileno(), cable.carry_down)
            self._listen(broker_port)
            identity = rig.identity(BOARD, _BOARD_ID)
            site = _write(directory / "site", identity, cable.plug, broker_port, buses, points, profiles)
            uarts = {uart: bus.port for uart, bus in enumerate(buses, 1)}
            self._board = rig.board(BOARD, identity, directory, uarts, cable.board_end)
            self._start_gateway(site)
            self._to_stop.callback(self._board.power_off)
            self._board.power_on()
            self._to_stop = self._to_stop.pop_all()

    def watch(self, descriptor: int, readable: Callable[[], None]) -> None:
        """Call this whenever there is something to read."""
        self._selector.register(descriptor, selectors.EVENT_READ, readable)

    def until(self, condition: Callable[[], bool], work: Callable[[], None] = lambda: None) -> None:
        """Carry bytes, and do `work` at least each 5 ms, until it is so; AssertionError where that takes too long."""
        end_s = time.monotonic() + _DEADLINE_S
        while not condition():
            assert self._gateway.poll() is None, self._told("the gateway ended")
            assert self._board.is_running, self._told("the board's program ended")
            assert time.monotonic() < end_s, self._told(f"not within {_DEADLINE_S} s: {dict(self.readings)}")
            work()
            for key, _events in self._selector.select(_TICK_S):
                key.data()
            while not self._payloads.empty():
                self._take(json.loads(self._payloads.get()))

    def restart_board(self) -> None:
        """Pull the board's cord, and plug it in again."""
        self._board.power_off()
        self._board.power_on()

    def close(self) -> None:
        """Stop everything, in the reverse order of starting."""
        self._to_stop.close()

    def _take(self, message: dict[str, Any]) -> None:
        for point, _dt_ms, value, *bad in message["rows"]:
            reading = Reading(value, *bad, *(0, 0)[len(bad) :])
            if self.readings[point][-1:] != [reading]:
                self.readings[point].append(reading)

    def _told(self, what: str) -> str:
        return f"{what}\n{self.console.read_text(errors='replace')}{self._board.console.read_text(errors='replace')}"

    def _listen(self, broker_port: int) -> None:
        """Returns when the broker has taken the subscription, so that no message is missed."""
        subscribed = Event()
        client = mqtt.Client(CallbackAPIVersion.VERSION2, protocol=mqtt.MQTTv5)
        client.on_connect = lambda client, *_: client.subscribe("tankgate/v1/small-site/data", qos=1)
        client.on_subscribe = lambda *_: subscribed.set()
        client.on_message = lambda _client, _data, message: self._payloads.put(bytes(message.payload))
        client.connect("127.0.0.1", broker_port)
        client.loop_start()
        self._to_stop.callback(client.loop_stop)
        self._to_stop.callback(client.disconnect)
        assert subscribed.wait(_STOP_S), "the broker takes no subscription"

    def _start_gateway(self, gateway_toml: Path) -> None:
        run = [sys.executable, "-m", "edge", "run", "--simulated", "--lang", "en", str(gateway_toml)]
        with self.console.open("wb") as console:
            self._gateway = subprocess.Popen(
                [*DIES_WITH_ITS_STARTER, *run],
                cwd=_ROOT,
                stdin=subprocess.DEVNULL,
                stdout=console,
                stderr=subprocess.STDOUT,
            )
        self._to_stop.callback(self._stop_gateway)

    def _stop_gateway(self) -> None:
        self._gateway.terminate()
        try:
            self._gateway.wait(_STOP_S)
        except subprocess.TimeoutExpired:
            self._gateway.kill()
            self._gateway.wait()


def _write(
    folder: Path,
    identity: str,
    port: Path,
    broker_port: int,
    buses: list[Bus],
    points: str,
    profiles: Mapping[str, str],
) -> Path:
    """The site's files; the path of its gateway.toml."""
    (folder / "profiles").mkdir(parents=True)
    for name, text in profiles.items():
        (folder / "profiles" / f"{name}.toml").write_text(text, encoding="utf-8")
    (folder / "points.csv").write_text(points, encoding="utf-8")
    tables = "".join(_BUS_TOML.format(name=bus.name, uart=uart, line=bus.line) for uart, bus in enumerate(buses, 1))
    gateway_toml = folder / "gateway.toml"
    gateway_toml.write_text(
        _GATEWAY_TOML.format(board_id=identity, port=port, buses=tables, broker_port=broker_port), encoding="utf-8"
    )
    return gateway_toml
