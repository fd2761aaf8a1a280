"""The peer: thingsboard-gateway 3.8.5 in a venv of its own, reading the same sensors into the same broker. Shell.

Set up as its documentation has it for a serial Modbus line, one entry a tag, each 16-bit register a reading; storage
is SQLite, its durable one. Statistics, remote configuration and rate limits are off: they only cost. A plain broker is
enough for it but for one question at its start, how much it may send, which `_limits` answers.
"""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from paho.mqtt.client import Client, MQTTMessage
from paho.mqtt.enums import CallbackAPIVersion, MQTTProtocolVersion

from tests.figures.broker import HOST
from tests.figures.load import Load

TOPIC = "v1/gateway/telemetry"
VENV = Path(__file__).parents[2] / ".venv-peers"
_PACKAGES = ("thingsboard-gateway==3.8.5", "pymodbus==3.9.2", "pyserial")  # the latter two it would fetch when started
_QUESTION = "v1/devices/me/rpc/request/"
_ANSWER = "v1/devices/me/rpc/response/"
_LIMITS = {"maxPayloadSize": 65536, "maxInflightMessages": 100, "rateLimits": {}, "gatewayRateLimits": {}}
_STOP_S = 20


def install() -> None:
    """Make its venv, once."""
    stamp = VENV / ".installed"
    if stamp.exists() and stamp.read_text() == repr(_PACKAGES):
        return
    subprocess.run([sys.executable, "-m", "venv", VENV], check=True)
    subprocess.run([VENV / "bin" / "pip", "install", "--quiet", *_PACKAGES], check=True, stdout=sys.stderr)
    stamp.write_text(repr(_PACKAGES))


def readings(payload: Any) -> Iterator[tuple[str, int]]:
    """Points and values of one telemetry message."""
    for device, packets in payload.items():
        for packet in packets:
            for tag, value in packet["values"].items():
                yield f"{device}.{tag}", value


class ThingsBoard:
    """One running peer on the sensors at `port`."""

    def __init__(self, directory: Path, broker_port: int, port: Path, load: Load) -> None:
        directory.mkdir()
        _write(directory, broker_port, port, load)
        self._client = Client(CallbackAPIVersion.VERSION2, protocol=MQTTProtocolVersion.MQTTv311)
        self._client.on_connect = lambda client, *_rest: client.subscribe(_QUESTION + "+", qos=1)
        self._client.on_message = _limits
        self._client.connect(HOST, broker_port)
        self._client.loop_start()
        with (directory / "console.log").open("wb") as console:
            self._process = subprocess.Popen(
                [VENV / "bin" / "thingsboard-gateway"],
                cwd=directory,
                env={**os.environ, "TB_GW_CONFIG_DIR": str(directory)},
                stdout=console,
                stderr=subprocess.STDOUT,
            )

    @property
    def pids(self) -> tuple[int, ...]:
        """The processes whose time counts."""
        return (self._process.pid,)

    def close(self) -> None:
        """Stop it."""
        self._client.disconnect()
        self._client.loop_stop()
        self._process.terminate()
        try:
            self._process.wait(_STOP_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()


def _limits(client: Client, _userdata: Any, message: MQTTMessage) -> None:
    if json.loads(message.payload)["method"] == "getSessionLimits":
        client.publish(_ANSWER + message.topic.removeprefix(_QUESTION), json.dumps(_LIMITS), qos=1)


def _write(directory: Path, broker_port: int, port: Path, load: Load) -> None:
    gateway = {
        "thingsboard": {
            "host": HOST,
            "port": broker_port,
            "remoteShell": False,
            "remoteConfiguration": False,
            "statistics": {"enable": False},
            "checkConnectorsConfigurationInSeconds": 60,
            "security": {"type": "accessToken", "accessToken": "bench"},
            "qos": 1,
        },
        "storage": {"type": "sqlite", "data_file_path": "./data/"},
        "grpc": {"enabled": False},
        "connectors": [{"type": "modbus", "name": "line", "configuration": "line.json"}],
    }
    devices = [
        {
            "type": "serial",
            "method": "rtu",
            "port": str(port),
            "baudrate": 115200,
            "stopbits": 1,
            "bytesize": 8,
            "parity": "N",
            "byteOrder": "BIG",
            "wordOrder": "BIG",
            "timeout": 1,
            "retries": True,
            "pollPeriod": load.period_ms,
            "unitId": unit,
            "deviceName": f"U{unit:02}",
            "timeseries": [
                {
                    "tag": f"r{register:02}",
                    "type": "16uint",
                    "functionCode": 3,
                    "objectsCount": 1,
                    "address": register,
                }
                for register in range(load.registers)
            ],
        }
        for unit in range(1, load.units + 1)
    ]
    (directory / "data").mkdir()
    (directory / "tb_gateway.json").write_text(json.dumps(gateway))
    (directory / "line.json").write_text(json.dumps({"name": "line", "master": {"slaves": devices}}))
    shipped = next(VENV.glob("lib/python*/site-packages/thingsboard_gateway/config/logs.json"))
    (directory / "logs.json").write_text(shipped.read_text())
