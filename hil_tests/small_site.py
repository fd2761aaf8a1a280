"""A small site, made for one test: its files, its boards, its gateway, and the readings that came out. Shell.

The boards and the gateway are the real programs, each a process as in the field. What hangs on the boards' buses is
the test's own. Must never look into the gateway but by `tankgate status --json`: readings are counted when the broker
hands them out.
"""

import json
import selectors
import signal
import subprocess
import sys
import time
from collections import defaultdict
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from pathlib import Path
from queue import SimpleQueue
from tempfile import TemporaryFile
from threading import Event
from typing import Any, NamedTuple

import paho.mqtt.client as mqtt
from paho.mqtt.enums import CallbackAPIVersion

from hil_tests.bench.board import DIES_WITH_ITS_STARTER, Board, Cable
from hil_tests.bench.pty_port import Port
from hil_tests.bench.rig import Rig

_ROOT = Path(__file__).parents[1]
BOARD = "cab1"
_GATEWAY_TOML = """
schema = 1
[site]
gateway = "small-site"
name = "small site"
group = "tests"
timezone = "Asia/Shanghai"
points = "points.csv"
{tables}
[store]
path = "store"
max_bytes = "50 MB"
[destinations.district]
url = "mqtt://127.0.0.1:{broker_port}"
feed = "json"
"""
_BOARD_TOML = """
[boards.{name}]
id = "{id}"
port = "{port}"
"""
_BUS_TOML = """
[buses.{name}]
board = "{board}"
uart = {uart}
line = "{line}"
"""
_TICK_S = 0.005
_DEADLINE_S = 45.0  # the off-delay of a gas alarm, and more
_STOP_S = 10.0


class Bus(NamedTuple):
    """One bus of a board: a virtual board opens `path` as its UART; `line` like "9600 8N1"."""

    name: str
    line: str
    path: str
    board: str = BOARD


class Reading(NamedTuple):
    """One row of a data message."""

    value: float | None
    status: int
    detail: int


class SmallSite:
    """`readings`: point -> what the broker handed out of it, in order, without the repetitions that heartbeats are.

    `events`: each alarm record, in order; `alarms`: (alarm, state after) of each. `outputs`: tables of gateway.toml,
    `pins`: terminals in the place of the boards' pins. `tick_s`: how long the lines may wait to be looked at.
    """

    def __init__(
        self,
        rig: Rig,
        directory: Path,
        broker_port: int,
        buses: list[Bus],
        points: str,
        profiles: Mapping[str, str],
        outputs: str = "",
        pins: Mapping[int, str] | None = None,
        tick_s: float = _TICK_S,
    ) -> None:
        self._tick_s = tick_s
        self._deadline_s = rig.patience * _DEADLINE_S
        self.readings: defaultdict[str, list[Reading]] = defaultdict(list)
        self.events: list[dict[str, Any]] = []
        self.alarms: list[tuple[str, str]] = []
        self.console = directory / "gateway.log"
        self.boards: dict[str, Board] = {}
        self.cables: dict[str, Cable] = {}
        self.gateway_toml = directory / "site" / "gateway.toml"
        self._payloads: SimpleQueue[bytes] = SimpleQueue()
        self._selector = selectors.DefaultSelector()
        with ExitStack() as self._to_stop:  # what was started is stopped again where a later part cannot start
            self._to_stop.callback(self._selector.close)
            names = {bus.board: f"esp32s3-7cdfa1e40c{number:02x}" for number, bus in enumerate(buses)}
            ids = {name: rig.identity(name, proposed) for name, proposed in names.items()}
            for name in ids:
                self.cables[name] = self._lay_cable(directory / f"{name}-plug", rig.link_port(name))
            for name, board_id in ids.items():
                uarts = {uart: bus.path for uart, bus in _uarts(buses, name)}
                self.boards[name] = rig.board(name, board_id, directory, uarts, self.cables[name].board_end, pins)
            self._listen(broker_port)
            tables = _board_tables(ids, self.cables) + _bus_tables(buses) + outputs
            _write(self.gateway_toml, broker_port, tables, points, profiles)
            self._start_gateway(self.gateway_toml)
            for board in self.boards.values():
                self._to_stop.callback(board.power_off)
                board.power_on()
            self._to_stop = self._to_stop.pop_all()

    def _lay_cable(self, plug: Path, board_end: Port) -> Cable:
        cable = Cable(plug, board_end=board_end)
        self._to_stop.callback(cable.close)
        self.watch(cable.board_end.fileno(), cable.carry_up)
        if cable.edge_end is not None:
            self.watch(cable.edge_end.fileno(), cable.carry_down)
        return cable

    def watch(self, descriptor: int, readable: Callable[[], None]) -> None:
        """Call this whenever there is something to read."""
        self._selector.register(descriptor, selectors.EVENT_READ, readable)

    def unwatch(self, descriptor: int) -> None:
        """Never mind."""
        self._selector.unregister(descriptor)

    def tankgate(self, *words: str, work: Callable[[], None] = lambda: None, code: int | None = 0) -> str:
        """What a command of `tankgate` prints ("{site}" is gateway.toml); the rest works on meanwhile.

        `code`: what it ends with, None for anything. Where that is a fault, it is what it says of it.
        """
        command = [sys.executable, "-m", "edge", *(word.format(site=self.gateway_toml) for word in words)]
        with TemporaryFile("w+", encoding="utf-8") as said:
            asked = subprocess.Popen(command, cwd=_ROOT, stdout=said, stderr=said if code else None)
            self.until(lambda: asked.poll() is not None, work)
            said.seek(0)
            told = said.read()
            assert code in (None, asked.returncode), told
            return told

    def status(self, work: Callable[[], None] = lambda: None) -> dict[str, Any]:
        """What `tankgate status --json` knows."""
        said: dict[str, Any] = json.loads(self.tankgate("status", "--json", "{site}", work=work))
        return said

    def until(self, condition: Callable[[], bool], work: Callable[[], None] = lambda: None) -> None:
        """Carry bytes, and do `work` at least each tick, until it is so; AssertionError where that takes too long."""
        end_s = time.monotonic() + self._deadline_s
        while not condition():
            assert self._gateway.poll() is None, self._told("the gateway ended")
            for name, board in self.boards.items():
                assert board.is_running, self._told(f"the program of {name} ended")
            assert time.monotonic() < end_s, self._told(f"not within {self._deadline_s} s: {dict(self.readings)}")
            work()
            for key, _events in self._selector.select(self._tick_s):
                key.data()
            while not self._payloads.empty():
                self._take(json.loads(self._payloads.get()))

    def freeze_gateway(self) -> None:
        """It does nothing any more, and holds its ports all the same."""
        self._gateway.send_signal(signal.SIGSTOP)

    def thaw_gateway(self) -> None:
        """It goes on."""
        self._gateway.send_signal(signal.SIGCONT)

    def restart_boards(self) -> None:
        """Pull the cord of each board, and plug it in again."""
        for board in self.boards.values():
            board.power_off()
            board.power_on()

    def close(self) -> None:
        """Stop everything, in the reverse order of starting."""
        self._to_stop.close()

    def _take(self, message: dict[str, Any]) -> None:
        if message["schema"] == "tankgate/alarm/1":
            self.events.append(message)
            self.alarms.append((message["alarm"], message["to"]))
            return
        for point, _dt_ms, value, *bad in message["rows"]:
            reading = Reading(value, *bad, *(0, 0)[len(bad) :])
            if self.readings[point][-1:] != [reading]:
                self.readings[point].append(reading)

    def _told(self, what: str) -> str:
        logs = [self.console, *(board.console for board in self.boards.values())]
        return "\n".join([what, *(log.read_text(errors="replace") for log in logs)])

    def _listen(self, broker_port: int) -> None:
        """Returns when the broker has taken the subscription, so that no message is missed."""
        subscribed = Event()
        client = mqtt.Client(CallbackAPIVersion.VERSION2, protocol=mqtt.MQTTv5)
        topics = [(f"tankgate/v1/small-site/{topic}", 1) for topic in ("data", "event/alarm")]
        client.on_connect = lambda client, *_: client.subscribe(topics)
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


def _uarts(buses: list[Bus], board: str) -> list[tuple[int, Bus]]:
    """UART and bus of a board: its first bus is on UART 1."""
    return list(enumerate((bus for bus in buses if bus.board == board), 1))


def _board_tables(ids: Mapping[str, str], cables: Mapping[str, Cable]) -> str:
    return "".join(_BOARD_TOML.format(name=name, id=ids[name], port=cables[name].plug) for name in ids)


def _bus_tables(buses: list[Bus]) -> str:
    return "".join(
        _BUS_TOML.format(name=bus.name, board=board, uart=uart, line=bus.line)
        for board in dict.fromkeys(bus.board for bus in buses)
        for uart, bus in _uarts(buses, board)
    )


def _write(gateway_toml: Path, broker_port: int, tables: str, points: str, profiles: Mapping[str, str]) -> None:
    """The site's files."""
    folder = gateway_toml.parent
    (folder / "profiles").mkdir(parents=True)
    for name, text in profiles.items():
        (folder / "profiles" / f"{name}.toml").write_text(text, encoding="utf-8")
    (folder / "points.csv").write_text(points, encoding="utf-8")
    gateway_toml.write_text(_GATEWAY_TOML.format(tables=tables, broker_port=broker_port), encoding="utf-8")
