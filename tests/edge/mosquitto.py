"""A real broker for tests, and what they do with it."""

import getpass
import socket
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import paho.mqtt.client as mqtt
from paho.mqtt.enums import CallbackAPIVersion

DEADLINE_S = 20.0


def until(condition: Callable[[], object]) -> None:
    deadline_s = time.monotonic() + DEADLINE_S
    while not condition():
        assert time.monotonic() < deadline_s, "not within the deadline"


class Mosquitto:
    """A broker on a port of its own that can be stopped and started again."""

    def __init__(self, directory: Path, settings: str) -> None:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port: int = probe.getsockname()[1]
        self._config = directory / "mosquitto.conf"
        # Started by root, mosquitto would become a user that cannot read the test's files.
        self._config.write_text(f"user {getpass.getuser()}\nlistener {self.port} 127.0.0.1\n{settings}\n")
        self.start()

    def start(self) -> None:
        self._process = subprocess.Popen(["mosquitto", "-c", self._config], stderr=subprocess.DEVNULL)
        until(lambda: self._is_listening() or self._process.poll() is not None)
        assert self._process.poll() is None, "mosquitto ended"

    def stop(self) -> None:
        self._process.kill()
        self._process.wait()

    def _is_listening(self) -> bool:
        try:
            socket.create_connection(("127.0.0.1", self.port), 1).close()
        except ConnectionRefusedError:
            time.sleep(0.01)
            return False
        return True


def publish(broker: Mosquitto, *messages: tuple[str, bytes, bool]) -> None:
    """From another client, each waited for."""
    client = mqtt.Client(CallbackAPIVersion.VERSION2, protocol=mqtt.MQTTv5)
    client.connect("127.0.0.1", broker.port)
    client.loop_start()
    for topic, payload, retain in messages:
        client.publish(topic, payload, qos=1, retain=retain).wait_for_publish(DEADLINE_S)
    client.disconnect()
    client.loop_stop()
