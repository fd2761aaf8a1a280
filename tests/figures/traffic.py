"""What a site costs its mobile plan. Shell.

site_mb_per_day: the demo's site as it stands in hil_tests/site, at its default reporting, over mutual TLS: all bytes
of the connection between gateway and broker, both ways, with 52 bytes of IP and TCP headers for each segment, by the
kernel's own count, of three minutes. To that comes what a day has and these minutes have not: a state document each ten
minutes. On loopback large documents go in one segment where a real line takes several: a few hundred bytes.

The plant takes twenty times as long for everything as on the demo's screen, which is hurried so that one sees it move:
there every tank fills or empties by 20 m an hour, and gas comes and goes within seconds; here by a metre an hour, as
tanks do. The same at the demo's pace, where some reading leaves its deadband in nearly every second, stands beside.

Source: Linux, include/uapi/linux/tcp.h (tcp_info).
"""

import math
import shutil
import socket
import struct
import tempfile
import time
from collections import Counter
from contextlib import closing
from pathlib import Path

from paho.mqtt.client import Client, MQTTMessage
from paho.mqtt.enums import CallbackAPIVersion, MQTTProtocolVersion

from hil_tests.bench.plant import Plant
from hil_tests.broker import HOST
from hil_tests.chain import SITE, Chain
from hil_tests.mosquitto import Mosquitto
from tests.edge.certificates import authority, certificate
from tests.figures.figure import Measured

_WINDOW_S = 180.0  # each point's heartbeat is in it three times
_SLOW = 20
_FIRST_S = 60.0
_SETTLE_S = 15.0
_DAY_S = 86_400
_STATES = 144  # of a day
_HEADERS_BYTES = 20 + 32  # IP, and TCP with its time stamps
_FIXED_BYTES = 100  # of a document: MQTT, TLS
_BYTES_ACKED = struct.Struct("=QQII")  # acknowledged, received, segments out and in
_BYTES_ACKED_AT = 120
_INFO_BYTES = 256
_STEP_S = 0.05
_BROKER = """
allow_anonymous true
cafile {folder}/ca.pem
certfile {folder}/broker.pem
keyfile {folder}/broker.key
require_certificate true
"""


def per_day() -> Measured:
    """site_mb_per_day."""
    with tempfile.TemporaryDirectory(prefix="figures-") as name:
        folder = Path(name)
        authority(folder, "ca")
        for each in ("broker", "gateway", "district"):
            certificate(folder, each, each)
        site = folder / "of"
        plant = _Plant()
        with closing(Chain(folder, site=site, measure=plant.value)) as chain:
            chain.start_broker(Mosquitto)
            assert isinstance(chain.broker, Mosquitto)
            chain.broker.kill()
            chain.broker.configure(_BROKER.format(folder=folder))
            chain.broker.start()
            _write_site(site, folder, chain.path.port)
            district = _District(folder, chain.broker.port)
            try:
                chain.start_boards()
                chain.start_gateway()
                return _measure(chain, district, plant)
            finally:
                district.close()


def _measure(chain: Chain, district: "_District", plant: "_Plant") -> Measured:
    until_s = time.monotonic() + _FIRST_S
    while not district.bytes["data"]:
        chain.step(_STEP_S)
        if time.monotonic() > until_s:
            raise TimeoutError(f"no data in {_FIRST_S:.0f} s: {chain.log('gateway').read_text()[-600:]}")
    _run(chain, _SETTLE_S)
    hurried_mb, hurried_payloads = _mb_per_day(chain, district)
    plant.slow_down(chain.bench.now_s())
    mb, payloads = _mb_per_day(chain, district)
    beside = (
        f"payloads alone {payloads}; {hurried_mb:.2f} (payloads {hurried_payloads}) at the demo's pace, {_SLOW} times "
        f"as fast; {_STATES} state documents of {district.state_bytes} bytes in each"
    )
    return Measured(round(mb, 2), beside)


def _mb_per_day(chain: Chain, district: "_District") -> tuple[float, str]:
    """All, and what there is of payloads of each kind."""
    (connection,) = chain.path.near_ends()
    before, had, began_s = _carried_bytes(connection), district.bytes.copy(), time.monotonic()
    _run(chain, _WINDOW_S)
    per_s = (_carried_bytes(connection) - before) / (time.monotonic() - began_s)
    if chain.path.near_ends() != [connection]:
        raise ConnectionError("the gateway connected anew meanwhile: nothing can be said of a day")
    a_day = _DAY_S / _WINDOW_S / 1e6
    came = ", ".join(f"{kind} {count * a_day:.2f}" for kind, count in sorted((district.bytes - had).items()))
    return per_s * _DAY_S / 1e6 + _STATES * (district.state_bytes + _FIXED_BYTES) / 1e6, came


def _run(chain: Chain, seconds: float) -> None:
    end_s = time.monotonic() + seconds
    while time.monotonic() < end_s:
        chain.step(_STEP_S)
        if chain.ended() is not None:
            raise OSError(f"{chain.ended()} ended: {chain.log('gateway').read_text()[-600:]}")


def _carried_bytes(connection: socket.socket) -> int:
    info = connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, _INFO_BYTES)
    acked, received, segments_out, segments_in = _BYTES_ACKED.unpack_from(info, _BYTES_ACKED_AT)
    return int(acked + received + _HEADERS_BYTES * (segments_out + segments_in))


def _write_site(site: Path, folder: Path, port: int) -> None:
    shutil.copytree(SITE, site)
    gateway_toml = site / "gateway.toml"
    text = gateway_toml.read_text(encoding="utf-8")
    before, after = text.split("[destinations.district]\n")
    # Indented, so that the chain leaves it: its own broker has no TLS.
    mine = f'  url = "mqtts://{HOST}:{port}"\n  feed = "json"\n  ca = "{folder}/ca.pem"\n'
    mine += f'  cert = "{folder}/gateway.pem"\n  key = "{folder}/gateway.key"\n'
    rest = [line for line in after.splitlines() if not line.startswith(("url", "feed"))]
    gateway_toml.write_text("\n".join([before + "[destinations.district]\n" + mine, *rest, ""]), encoding="utf-8")


class _Plant:
    """The demo's, at its own pace or slower."""

    def __init__(self) -> None:
        self._plant = Plant(1)
        self._slow_s = math.inf  # from then on

    def value(self, point: str, now_s: float) -> float:
        """What a point measures."""
        slow_s = max(now_s - self._slow_s, 0.0)
        return self._plant.value(point, now_s - slow_s + slow_s / _SLOW)

    def slow_down(self, now_s: float) -> None:
        """From now on."""
        self._slow_s = now_s


class _District:
    """Subscribed to everything; `bytes` of payloads by kind."""

    def __init__(self, folder: Path, port: int) -> None:
        self.bytes: Counter[str] = Counter()
        self.state_bytes = 0
        self._client = Client(CallbackAPIVersion.VERSION2, protocol=MQTTProtocolVersion.MQTTv5)
        self._client.tls_set(folder / "ca.pem", folder / "district.pem", folder / "district.key")
        self._client.on_connect = lambda client, *_rest: client.subscribe("#", qos=1)
        self._client.on_message = self._on_message
        self._client.connect(HOST, port)
        self._client.loop_start()

    def close(self) -> None:
        """Leave."""
        self._client.disconnect()
        self._client.loop_stop()

    def _on_message(self, _client: Client, _userdata: object, message: MQTTMessage) -> None:
        kind = message.topic.split("/", 3)[3]
        self.bytes[kind] += len(message.payload)
        if kind == "state":
            self.state_bytes = len(message.payload)
