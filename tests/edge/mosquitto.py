"""What tests do with a real broker."""

import time
from collections.abc import Callable

import paho.mqtt.client as mqtt
from paho.mqtt.enums import CallbackAPIVersion

from hil_tests.mosquitto import Mosquitto

DEADLINE_S = 20.0


def until(condition: Callable[[], object]) -> None:
    deadline_s = time.monotonic() + DEADLINE_S
    while not condition():
        assert time.monotonic() < deadline_s, "not within the deadline"


def publish(broker: Mosquitto, *messages: tuple[str, bytes, bool]) -> None:
    """From another client, each waited for."""
    client = mqtt.Client(CallbackAPIVersion.VERSION2, protocol=mqtt.MQTTv5)
    client.connect("127.0.0.1", broker.port)
    client.loop_start()
    for topic, payload, retain in messages:
        client.publish(topic, payload, qos=1, retain=retain).wait_for_publish(DEADLINE_S)
    client.disconnect()
    client.loop_stop()
