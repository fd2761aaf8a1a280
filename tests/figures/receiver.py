"""What a gateway delivers: an MQTT subscriber that keeps every reading with the moment it came. Shell.

Every value is its register's count of reads (sensors.c), so what is missing or came twice shows in the readings
themselves, whatever the gateway says of it.
"""

import json
import time
from collections import Counter
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

from paho.mqtt.client import Client, MQTTMessage
from paho.mqtt.enums import CallbackAPIVersion, MQTTProtocolVersion

from tests.figures.broker import HOST


class Received(NamedTuple):
    """One reading: `point` is unit and register, "U03.r07"; `at_ns` the monotonic clock in paho's callback."""

    at_ns: int
    point: str
    value: int


def unit_and_register(point: str) -> tuple[int, int]:
    """Where a point's value was read."""
    unit, register = point.split(".")
    return int(unit[1:]), int(register[1:])


class Receiver:
    """Subscribed to `topic` at QoS 1; `readings` turns one payload into points and values."""

    def __init__(self, port: int, topic: str, readings: Callable[[Any], Iterable[tuple[str, int]]]) -> None:
        self.received: list[Received] = []
        self._readings = readings
        self._client = Client(CallbackAPIVersion.VERSION2, protocol=MQTTProtocolVersion.MQTTv5)
        self._client.on_connect = lambda client, *_rest: client.subscribe(topic, qos=1)
        self._client.on_message = self._on_message
        self._client.connect(HOST, port)
        self._client.loop_start()

    def between(self, start_ns: int, end_ns: int) -> int:
        """How many readings came in that time."""
        return sum(start_ns <= each.at_ns < end_ns for each in self.received)

    def lost_and_twice(self) -> tuple[int, int]:
        """Readings missing between the first and the last of their point, and readings that came again."""
        values: dict[str, Counter[int]] = {}
        for each in self.received:
            values.setdefault(each.point, Counter())[each.value] += 1
        lost = sum(max(seen) - min(seen) + 1 - len(seen) for seen in values.values())
        return lost, sum(seen.total() - len(seen) for seen in values.values())

    def close(self) -> None:
        """Leave."""
        self._client.disconnect()
        self._client.loop_stop()

    def _on_message(self, _client: Client, _userdata: Any, message: MQTTMessage) -> None:
        at_ns = time.monotonic_ns()
        for point, value in self._readings(json.loads(message.payload)):
            self.received.append(Received(at_ns, point, value))
