"""The district's end against a real broker: what is new, what came again, and what a broken connection may not cost."""

import time
from collections.abc import Callable, Iterator
from pathlib import Path

import paho.mqtt.client as mqtt
import pytest
from paho.mqtt.enums import CallbackAPIVersion

from edge import receiver as receiver_module
from edge.receiver import Received, Receiver
from hil_tests.broker import CuttablePath
from hil_tests.mosquitto import Mosquitto
from protocols.feeds import json_feed
from protocols.feeds.json_feed import TimeQuality
from protocols.model import Destination
from tests.edge.certificates import authority, certificate
from tests.edge.mosquitto import publish, until

pytestmark = pytest.mark.needs("mosquitto")

GATEWAY = "jt-0042"


@pytest.fixture
def broker(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Mosquitto]:
    """Its settings are the parameter of the test."""
    mosquitto = Mosquitto(tmp_path, getattr(request, "param", "allow_anonymous true"))
    yield mosquitto
    mosquitto.close()


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(receiver_module, "RETRY_S", 0.05)


def at(url: str) -> Destination:
    return Destination("listen", url, "json", None, None, None)


class District:
    """A receiver and what it handed over."""

    def __init__(self, port: int, gateway: str = "+", session: str | None = None) -> None:
        self.came: list[Received] = []
        self.receiver = Receiver(at(f"mqtt://127.0.0.1:{port}"), gateway, self.came.append, session)

    def work_until(self, condition: Callable[[], object]) -> None:
        def works() -> object:
            self.receiver.work(0.05)
            return condition()

        until(works)

    def connected(self) -> "District":
        self.work_until(lambda: self.receiver.problem is None)
        return self

    def numbers(self) -> list[tuple[int, bool]]:
        return [(message.payload["seq"], message.duplicate) for message in self.came if message.payload]


def data(seq: int, gateway: str = GATEWAY, epoch: str = "01KAR8M2") -> tuple[str, bytes, bool]:
    quality = TimeQuality("synced", 7, None)
    payload = json_feed.data(gateway, epoch, seq, "e681bf57", quality, 1795401004000, [("GD01.gas", 0, 0.4, 0, 0)])
    return json_feed.topic(gateway, "data"), payload, False


def test_what_came_before_is_marked(broker):
    district = District(broker.port).connected()
    publish(broker, *(data(seq) for seq in (1, 2, 4, 2, 3, 4)), data(2, epoch="01KAS2QX"), data(1, gateway="jt-0043"))
    district.work_until(lambda: len(district.came) == 8)
    before = [(1, False), (2, False), (4, False), (2, True), (3, False), (4, True)]
    assert district.numbers() == [*before, (2, False), (1, False)]
    assert district.came[0].topic == "tankgate/v1/jt-0042/data"
    assert abs(district.came[0].received_ms - time.time() * 1000) < 60_000


def test_what_a_killed_receiver_had_not_yet_dealt_with_comes_again(broker):
    killed = District(broker.port, session="district").connected()
    publish(broker, data(1))
    killed.work_until(lambda: killed.came)
    killed.receiver.work(0.05)  # it is done with the first
    publish(broker, data(2))
    killed.work_until(lambda: len(killed.came) == 2)
    again = District(broker.port, session="district").connected()
    again.work_until(lambda: again.came)
    assert again.numbers() == [(2, False)]


def test_only_the_gateway_that_was_asked_for(broker):
    district = District(broker.port, "jt-0043").connected()
    publish(broker, data(1), data(7, gateway="jt-0043"))
    district.work_until(lambda: district.came)
    assert district.numbers() == [(7, False)]


def test_retained_documents_come_to_who_joins_late_and_are_marked(broker):
    link = json_feed.link(GATEWAY, "01KAR8M2", True, 1795399869000)
    publish(broker, (json_feed.topic(GATEWAY, "link"), link, True))
    district = District(broker.port).connected()
    district.work_until(lambda: district.came)
    publish(broker, (json_feed.topic(GATEWAY, "link"), link, True))
    district.work_until(lambda: len(district.came) == 2)
    assert [(message.retained, message.duplicate) for message in district.came] == [(True, False), (False, False)]


def test_a_payload_that_is_no_json_is_not_hidden(broker):
    district = District(broker.port).connected()
    publish(broker, (json_feed.topic(GATEWAY, "event/alarm"), b"\xff{", False))
    district.work_until(lambda: district.came)
    assert (district.came[0].topic, district.came[0].payload) == ("tankgate/v1/jt-0042/event/alarm", None)


def test_what_comes_down_is_not_received(broker):
    district = District(broker.port).connected()
    publish(broker, (json_feed.topic(GATEWAY, "receipt"), b"{}", False), data(1))
    district.work_until(lambda: district.came)
    assert district.numbers() == [(1, False)]


def test_a_broker_that_restarts_is_found_again(broker):
    district = District(broker.port).connected()
    publish(broker, data(1))
    district.work_until(lambda: district.came)
    broker.kill()
    district.work_until(lambda: district.receiver.problem is not None)
    broker.start()
    district.connected()
    publish(broker, data(1), data(2))
    district.work_until(lambda: len(district.came) == 3)
    assert district.numbers() == [(1, False), (1, True), (2, False)]


def test_what_comes_while_the_connection_is_cut_comes_later(broker):
    path = CuttablePath(broker.port)
    district = District(path.port).connected()
    path.cut()
    district.work_until(lambda: district.receiver.problem is not None)
    publish(broker, data(1), data(2))
    path.restore()
    district.work_until(lambda: len(district.came) == 2)
    assert district.numbers() == [(1, False), (2, False)]


def test_a_named_session_keeps_what_comes_between_two_runs(broker):
    first = District(broker.port, session="district").connected()
    first.receiver.close()
    publish(broker, data(1), data(2))
    second = District(broker.port, session="district").connected()
    second.work_until(lambda: len(second.came) == 2)
    assert second.numbers() == [(1, False), (2, False)]


@pytest.mark.parametrize("broker", ["allow_anonymous true\nsys_interval 1"], indirect=True)
def test_without_a_name_nothing_is_left_behind(broker):
    totals: list[bytes] = []
    watcher = mqtt.Client(CallbackAPIVersion.VERSION2, protocol=mqtt.MQTTv5)
    watcher.on_message = lambda _client, _userdata, message: totals.append(message.payload)
    watcher.connect("127.0.0.1", broker.port)
    watcher.subscribe("$SYS/broker/clients/total")

    def clients() -> list[bytes]:
        watcher.loop(0.05)
        return totals[-1:]

    district = District(broker.port).connected()
    until(lambda: clients() == [b"2"])
    district.receiver.close()
    until(lambda: clients() == [b"1"])


def test_no_broker_is_said(broker):
    broker.kill()
    district = District(broker.port)
    district.work_until(lambda: district.receiver.problem == "nobody listens at this port")


@pytest.mark.parametrize("broker", ["allow_anonymous false"], indirect=True)
def test_a_refusal_is_said(broker):
    district = District(broker.port)
    district.work_until(lambda: district.receiver.problem == "Not authorized")
    district.receiver.work(0.05)
    district.receiver.work(0.05)
    assert district.receiver.problem == "Not authorized"


@pytest.mark.needs("openssl")
def test_certificates_are_shown_and_checked(tmp_path):
    for name in ("ca", "other-ca"):
        authority(tmp_path, name)
    for name in ("broker", "ingest"):
        certificate(tmp_path, name, name)
    broker = Mosquitto(
        tmp_path,
        f"cafile {tmp_path / 'ca.pem'}\ncertfile {tmp_path / 'broker.pem'}\nkeyfile {tmp_path / 'broker.key'}\n"
        "require_certificate true\nuse_identity_as_username true",
    )
    url, ours = f"mqtts://127.0.0.1:{broker.port}", (str(tmp_path / "ingest.pem"), str(tmp_path / "ingest.key"))
    trusting = Receiver(Destination("listen", url, "json", str(tmp_path / "ca.pem"), *ours), "+", print)
    misled = Receiver(Destination("listen", url, "json", str(tmp_path / "other-ca.pem"), *ours), "+", print)

    def works(receiver: Receiver) -> Receiver:
        receiver.work(0.05)
        return receiver

    until(lambda: works(trusting).problem is None)
    until(lambda: "the encrypted connection fails: " in str(works(misled).problem))
    broker.close()


@pytest.mark.parametrize("url", ["http://127.0.0.1:1883", "127.0.0.1:1883", "mqtt://", "mqtt://[::1", "mqtt://h:port"])
def test_another_url_is_refused(url):
    with pytest.raises(ValueError, match=r"allowed is mqtt://host:port"):
        Receiver(at(url), "+", print)
