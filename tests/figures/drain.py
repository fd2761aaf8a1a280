"""How fast a backlog goes, and who waits for it. Shell.

drain_ratio: a million readings wait on the gateway's disk, a second of 200 in each message, when its broker comes back;
200 readings a second go on. Readings of the backlog a second at a subscriber, in the middle half of it or in 60 s of
its middle, divided by 200. Meanwhile what has just happened must not wait: live readings no more than a second longer
than without a backlog (the oldest of a message, which has waited for its batch to close), and alarm events no more than
a second after they were decided. Each of these comes from the site's files, broken and mended while the daemon runs.
"""

import json
import os
import signal
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple

from paho.mqtt.client import Client, MQTTMessage
from paho.mqtt.enums import CallbackAPIVersion, MQTTProtocolVersion

from tests.figures import tankgate
from tests.figures.broker import HOST, Broker
from tests.figures.disk_writes import begin_history
from tests.figures.figure import Measured
from tests.figures.load import Load
from tests.figures.sensors import Sensors

_LOAD = Load(units=20, registers=10, period_ms=1000)
_BACKLOG = 1_000_000
_SECONDS = _BACKLOG // _LOAD.per_s  # of history, a message each
_DAY_MS = 86_400_000
_WINDOW_S = 60.0
_WITHIN_S = 360.0
_QUIET_S = 20.0
_DELAY_MS = 1000
_TOGGLE_S = 1.0


class _Came(NamedTuple):
    """A message; `age_ms` of its oldest reading, or since its alarm was decided."""

    at_s: float
    readings: int
    age_ms: float


class _District:
    """Subscribed to data and alarms, before there is a gateway."""

    def __init__(self, port: int) -> None:
        self.late: list[_Came] = []  # data of the backlog's epoch
        self.live: list[_Came] = []
        self.alarms: list[_Came] = []
        self._subscribed = threading.Event()
        self._client = Client(CallbackAPIVersion.VERSION2, protocol=MQTTProtocolVersion.MQTTv5)
        topics = [(tankgate.TOPIC, 1), (tankgate.TOPIC.replace("/data", "/event/alarm"), 1)]
        self._client.on_connect = lambda client, *_rest: client.subscribe(topics)
        self._client.on_subscribe = lambda *_rest: self._subscribed.set()
        self._client.on_message = self._on_message
        self._client.connect(HOST, port)
        self._client.loop_start()
        if not self._subscribed.wait(_QUIET_S):
            raise OSError("the broker takes no subscription")

    def close(self) -> None:
        """Leave."""
        self._client.disconnect()
        self._client.loop_stop()

    def _on_message(self, _client: Client, _userdata: Any, message: MQTTMessage) -> None:
        at_s, now_ms, payload = time.monotonic(), time.time() * 1000, json.loads(message.payload)
        if message.topic != tankgate.TOPIC:
            self.alarms.append(_Came(at_s, 0, now_ms - payload["decided_ms"]))
            return
        age_ms = now_ms - payload["t0_ms"]
        came = self.late if age_ms > _DAY_MS / 4 else self.live
        came.append(_Came(at_s, len(payload["rows"]), age_ms))


def ratio() -> Measured:
    """drain_ratio."""
    with tempfile.TemporaryDirectory(prefix="figures-") as name:
        directory = Path(name)
        broker = Broker(directory)
        district = _District(broker.port)
        sensors = Sensors(directory)
        gateway = tankgate.Tankgate(directory / "gateway", broker.port, sensors.port, _LOAD, prepare=_prepare)
        try:
            files = _Files(directory / "gateway" / "points.csv", gateway.pids[0])
            _until(lambda: len(district.late) >= _SECONDS, files.toggle, district)
            drained_s = time.monotonic()
            time.sleep(_QUIET_S)
        finally:
            gateway.close()
            sensors.close()
            district.close()
            broker.close()
    return _measured(district, drained_s)


def _prepare(directory: Path) -> None:
    begin_history(directory / "store", _LOAD.per_s, range(_SECONDS), int(time.time() * 1000) - _DAY_MS, ())


def _until(true: Callable[[], bool], meanwhile: Callable[[], None], district: _District) -> None:
    end_s = time.monotonic() + _WITHIN_S
    while not true():
        if time.monotonic() > end_s:
            raise TimeoutError(f"{len(district.late)} of {_SECONDS} messages came in {_WITHIN_S:.0f} s")
        time.sleep(0.05)
        if district.late:
            meanwhile()


class _Files:
    """A site's points, broken and mended in turn: the daemon tells each by an alarm event."""

    def __init__(self, points_csv: Path, daemon: int) -> None:
        self._points_csv = points_csv
        self._daemon = daemon
        self._good = points_csv.read_text()
        self._is_good = True
        self._next_s = 0.0

    def toggle(self) -> None:
        """Where that is due."""
        if time.monotonic() < self._next_s:
            return
        self._next_s = time.monotonic() + _TOGGLE_S
        self._is_good = not self._is_good
        self._points_csv.write_text(self._good if self._is_good else self._good + "nonsense\n")
        os.kill(self._daemon, signal.SIGHUP)


def _measured(district: _District, drained_s: float) -> Measured:
    late = district.late
    first, last = len(late) // 4, len(late) * 3 // 4
    middle_s = (late[first].at_s + late[last].at_s) / 2
    window = [came for came in late[first : last + 1] if abs(came.at_s - middle_s) <= _WINDOW_S / 2]
    took_s = window[-1].at_s - window[0].at_s
    per_s = sum(came.readings for came in window[1:]) / took_s
    meanwhile = [came.age_ms for came in district.live if late[0].at_s <= came.at_s <= drained_s]
    afterwards = [came.age_ms for came in district.live if came.at_s > drained_s + 1]
    delay_ms = max(meanwhile) - median(afterwards)
    events_ms = [came.age_ms for came in district.alarms if late[0].at_s <= came.at_s <= drained_s]
    came = sum(each.readings for each in late)
    beside = (
        f"{came} readings of the backlog in {late[-1].at_s - late[0].at_s:.0f} s, {per_s:.0f} a second over "
        f"{took_s:.0f} s; of {len(meanwhile)} live messages meanwhile the slowest {delay_ms:.0f} ms late; "
        f"of {len(events_ms)} alarm events {max(events_ms, default=0):.0f} ms after the decision"
    )
    is_delayed = delay_ms > _DELAY_MS or max(events_ms, default=_DELAY_MS + 1) > _DELAY_MS
    return Measured(round(per_s / _LOAD.per_s, 1), beside, spoilt=is_delayed or came != _BACKLOG)
