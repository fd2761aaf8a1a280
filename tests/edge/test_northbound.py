"""The client against a real broker: restarted, refusing, slow, with few places, taking the session away."""

import json
import os
import select
import socket
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import paho.mqtt.client as mqtt
import pytest
from paho.mqtt.enums import CallbackAPIVersion

from edge import northbound as northbound_module
from edge.forward import TOO_LARGE
from edge.northbound import Northbound
from hil_tests.broker import CuttablePath
from protocols.model import Destination
from tests.edge.certificates import authority, certificate, openssl

pytestmark = pytest.mark.needs("mosquitto")

GATEWAY = "jt-0042"
LINK = f"tankgate/v1/{GATEWAY}/link"
DATA = f"tankgate/v1/{GATEWAY}/data"
DEADLINE_S = 20.0
NOT_AUTHORISED = 0x87


class District:
    """Hears all that the broker gives out."""

    def __init__(self, port: int) -> None:
        self.heard: list[mqtt.MQTTMessage] = []
        self._client = mqtt.Client(CallbackAPIVersion.VERSION2, protocol=mqtt.MQTTv5)
        self._client.on_message = lambda _client, _userdata, message: self.heard.append(message)
        self._client.connect("127.0.0.1", port)
        self._client.subscribe("tankgate/#", qos=1)
        subscribed: list[int] = []
        self._client.on_subscribe = lambda _client, _userdata, mid, _reasons, _properties: subscribed.append(mid)
        self.until(lambda: subscribed)

    def until(self, heard: Callable[[], Any]) -> None:
        deadline_s = time.monotonic() + DEADLINE_S
        while not heard():
            assert time.monotonic() < deadline_s, [message.topic for message in self.heard]
            self._client.loop(0.05)


class Gateway:
    """The thread that decides: sleeps until it is woken, then drains the events."""

    def __init__(self, port: int, **destination: Any) -> None:
        self.wake_fd, wake_write = os.pipe()
        os.set_blocking(self.wake_fd, False)
        os.set_blocking(wake_write, False)
        self.events: list[tuple[Any, ...]] = []
        settings = {"url": f"mqtt://127.0.0.1:{port}", "feed": "json", "ca": None, "cert": None, "key": None}
        self.northbound = Northbound(
            Destination(name="district", **(settings | destination)),
            GATEWAY,
            wake_write,
            LINK,
            b'{"online":false}',
            subscriptions=[f"tankgate/v1/{GATEWAY}/receipt"],
        )
        self.northbound.start()

    def until(self, *wanted: Any) -> tuple[Any, ...]:
        """The next event that begins like this; what came before it is in `events`."""
        deadline_s = time.monotonic() + DEADLINE_S
        while time.monotonic() < deadline_s:
            for event in self.northbound.events():
                self.events.append(event)
                if event[: len(wanted)] == wanted:
                    return event
            select.select([self.wake_fd], [], [], deadline_s - time.monotonic())
            os.read(self.wake_fd, 4096)
        raise TimeoutError(f"no {wanted} in {self.events}")


@pytest.fixture
def gateway() -> Iterator[Callable[..., Gateway]]:
    started: list[Gateway] = []

    def start(port: int, **destination: Any) -> Gateway:
        started.append(Gateway(port, **destination))
        return started[-1]

    yield start
    for each in started:
        each.northbound.stop()


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Tests wait for reconnections often, and no district suffers from them."""
    monkeypatch.setattr(northbound_module, "CEILING_S", 0.05)
    monkeypatch.setattr(northbound_module, "CEILING_MAX_S", 0.2)


def test_a_message_arrives_with_its_properties_and_is_acknowledged(broker, gateway) -> None:
    port = broker().port
    district = District(port)
    client = gateway(port)
    assert client.until("connected") == ("connected", 20, False)
    properties = [("sent_ms", "1795401005200"), ("late", "1")]
    payload = '{"name":"示例"}'.encode()
    token = client.northbound.publish(DATA, payload, user_properties=properties)
    assert client.until("acknowledged", token)[2] < 0x80
    district.until(lambda: district.heard)
    (message,) = district.heard
    assert (message.topic, message.payload, message.qos) == (DATA, payload, 1)
    assert message.properties.UserProperty == properties
    assert message.properties.ContentType == "application/json"


def test_what_comes_down_is_an_event(broker, gateway) -> None:
    port = broker().port
    client = gateway(port)
    client.until("connected")
    client.northbound.publish(f"tankgate/v1/{GATEWAY}/receipt", b"{}", retain=True)
    assert client.until("message") == ("message", f"tankgate/v1/{GATEWAY}/receipt", b"{}", False)


@pytest.mark.parametrize("leave", ["in order", "killed"])
def test_the_will_stays_behind_retained(broker, gateway, leave: str) -> None:
    running = broker()
    client = gateway(running.port)
    client.until("connected")
    token = client.northbound.publish(LINK, b'{"online":true}', retain=True)
    client.until("acknowledged", token)
    if leave == "in order":
        client.northbound.stop()
    else:
        client.northbound._client.socket().shutdown(socket.SHUT_RDWR)
    district = District(running.port)
    district.until(lambda: district.heard and json.loads(district.heard[-1].payload) == {"online": False})


def test_a_broker_that_comes_back_is_found_again(broker, gateway) -> None:
    running = broker()
    client = gateway(running.port)
    client.until("connected")
    running.kill()
    assert client.until("disconnected")[1]
    # Given while nobody listens: dropped here, `forward` sends it again.
    client.northbound.publish(DATA, b"1")
    assert client.until("disconnected")[1] == "nobody listens at this port"
    running.start()
    client.until("connected")
    token = client.northbound.publish(DATA, b"2")
    client.until("acknowledged", token)
    answered = [event for event in client.events if event[0] == "acknowledged"]
    assert answered == [("acknowledged", token, answered[0][2], DATA)]


def test_the_session_is_kept_for_what_comes_down(broker, gateway) -> None:
    running = broker()
    client = gateway(running.port)
    client.until("connected", 20, False)
    client.northbound._client.socket().shutdown(socket.SHUT_RDWR)
    client.until("connected", 20, True)


def test_a_client_of_the_same_name_takes_the_connection_away_but_not_for_good(broker, gateway) -> None:
    port = broker().port
    client = gateway(port)
    client.until("connected")
    other = mqtt.Client(CallbackAPIVersion.VERSION2, client_id=GATEWAY, protocol=mqtt.MQTTv5)
    # mosquitto does not say why it ends a connection: that it happens again and again tells.
    for reason in ["connection lost", "connection lost", "perhaps another client at the broker has the name"]:
        other.connect("127.0.0.1", port, clean_start=False)
        other.loop()
        assert reason in client.until("disconnected")[1]
        client.until("connected")


def test_a_denied_publish_is_not_a_delivered_one(broker, gateway, tmp_path: Path) -> None:
    (tmp_path / "acl").write_text("topic readwrite tankgate/v1/+/event/#\ntopic readwrite tankgate/v1/+/link\n")
    port = broker(f"allow_anonymous true\nacl_file {tmp_path / 'acl'}").port
    client = gateway(port)
    client.until("connected")
    denied = client.northbound.publish(DATA, b"{}")
    allowed = client.northbound.publish(f"tankgate/v1/{GATEWAY}/event/gap", b"{}")
    assert client.until("acknowledged", denied)[2:] == (NOT_AUTHORISED, DATA)
    assert client.until("acknowledged", allowed)[2] < 0x80


def test_a_refused_connection_says_why(broker, gateway, tmp_path: Path) -> None:
    (tmp_path / "passwords").touch()
    port = broker(f"allow_anonymous false\npassword_file {tmp_path / 'passwords'}").port
    client = gateway(port)
    assert client.until("disconnected") == ("disconnected", "not authorized")
    assert client.until("disconnected") == ("disconnected", "not authorized")  # and it goes on trying


def test_few_places_at_the_broker_are_enough(broker, gateway) -> None:
    client = gateway(broker("allow_anonymous true\nmax_inflight_messages 2").port)
    client.until("connected", 2)
    tokens = [client.northbound.publish(DATA, b"%d" % number) for number in range(50)]
    for token in tokens:
        client.until("acknowledged", token)


class BareBroker:
    """Byte by byte what a broker may do and mosquitto does not: it takes two messages, and answers when told."""

    def __init__(self) -> None:
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self.listener.getsockname()[1]

    def accept(self) -> None:
        self.connection, _address = self.listener.accept()
        self.connection.settimeout(DEADLINE_S)
        assert self.connection.recv(4096)[0] >> 4 == 1  # CONNECT
        self.connection.sendall(bytes.fromhex("20 06 00 00 03 21 0002"))  # CONNACK, 0x21 Receive Maximum = 2

    def publishes(self, count: int) -> list[tuple[bytes, bytes]]:
        """Packet identifier and payload of the next PUBLISH packets, each shorter than 128 bytes."""
        found: list[tuple[bytes, bytes]] = []
        while len(found) < count:
            head = self._exactly(2)
            body = self._exactly(head[1])
            if head[0] >> 4 == 3:
                identifier_at = 2 + int.from_bytes(body[:2], "big")
                payload_at = identifier_at + 3 + body[identifier_at + 2]  # after the properties
                found.append((body[identifier_at : identifier_at + 2], body[payload_at:]))
        return found

    def _exactly(self, count: int) -> bytes:
        received = b""
        while len(received) < count:
            received += self.connection.recv(count - len(received))
        return received

    def is_quiet(self) -> bool:
        """Whether nothing comes for a while."""
        return not select.select([self.connection], [], [], 0.2)[0]

    def close(self) -> None:
        self.connection.close()
        self.listener.close()


@pytest.fixture
def bare_broker() -> Iterator[BareBroker]:
    broker = BareBroker()
    yield broker
    broker.close()


def test_never_more_on_the_way_than_the_broker_takes(bare_broker: BareBroker, gateway) -> None:
    client = gateway(bare_broker.port)
    bare_broker.accept()
    client.until("connected", 2, False)
    tokens = [client.northbound.publish(DATA, b"%d" % number) for number in range(5)]
    received = bare_broker.publishes(2)
    assert bare_broker.is_quiet()
    for number in range(5):
        bare_broker.connection.sendall(b"\x40\x02" + received[number][0])  # PUBACK
        assert client.until("acknowledged")[:3] == ("acknowledged", tokens[number], 0)
        if len(received) < 5:
            received += bare_broker.publishes(1)


def test_nothing_of_an_earlier_connection_is_sent_by_itself(bare_broker: BareBroker, gateway) -> None:
    client = gateway(bare_broker.port)
    bare_broker.accept()
    client.until("connected")
    for number in range(5):  # two on their way, three that wait for room
        client.northbound.publish(DATA, b"%d" % number)
    bare_broker.publishes(2)
    bare_broker.connection.close()
    bare_broker.accept()
    client.northbound.publish(DATA, b"before the loss is told")
    client.until("disconnected")
    client.until("connected")
    client.northbound.publish(DATA, b"new")
    assert [payload for _identifier, payload in bare_broker.publishes(1)] == [b"new"]
    assert bare_broker.is_quiet()


def test_the_brokers_parting_word_is_the_reason(bare_broker: BareBroker, gateway) -> None:
    client = gateway(bare_broker.port)
    bare_broker.accept()
    client.until("connected")
    bare_broker.connection.sendall(bytes.fromhex("e0 01 8e"))  # DISCONNECT, 0x8e
    assert client.until("disconnected")[1] == "another client at the broker has the name of this gateway, jt-0042"


def test_a_subscription_that_is_refused_is_told(bare_broker: BareBroker, gateway) -> None:
    client = gateway(bare_broker.port)
    bare_broker.accept()
    client.until("connected")
    subscribe = bare_broker.connection.recv(4096)
    bare_broker.connection.sendall(b"\x90\x04" + subscribe[2:4] + b"\x00\x87")  # SUBACK
    assert client.until("subscribed") == ("subscribed", f"tankgate/v1/{GATEWAY}/receipt", NOT_AUTHORISED)


def test_a_topic_that_is_no_text_does_not_end_the_destination(bare_broker: BareBroker, gateway) -> None:
    client = gateway(bare_broker.port)
    bare_broker.accept()
    client.until("connected")
    for topic in (b"\xff\xfe", b"ab"):
        bare_broker.connection.sendall(b"\x30\x06\x00\x02" + topic + b"\x00{")  # PUBLISH at QoS 0
    assert client.until("message") == ("message", "ab", b"{", False)


# --- too large ----------------------------------------------------------------------------------------------


def test_a_packet_that_is_larger_than_the_broker_takes_is_not_sent(broker, gateway) -> None:
    port = broker("allow_anonymous true\nmax_packet_size 500").port
    district = District(port)
    client = gateway(port)
    client.until("connected")
    properties = [("sent_ms", "1795401005200"), ("late", "1")]
    # 3 of the header, 2 + 24 of the topic, 2 of the id, 57 of the properties.
    fits, too_large = (
        client.northbound.publish(DATA, b"x" * (500 - 3 - 26 - 2 - 57 + more), user_properties=properties)
        for more in (0, 1)
    )
    answers = dict(client.until("acknowledged")[1:3] for _message in range(2))
    assert answers[fits] < 0x80 and answers[too_large] == TOO_LARGE
    after = client.northbound.publish(DATA, b"small")
    assert client.until("acknowledged", after)[2] < 0x80
    assert not any(event[0] == "disconnected" for event in client.events)
    district.until(lambda: district.heard[-1:] and district.heard[-1].payload == b"small")
    assert len(district.heard) == 2


def test_a_broker_that_refuses_a_large_payload_is_understood(broker, gateway) -> None:
    client = gateway(broker("allow_anonymous true\nmessage_size_limit 300").port)
    client.until("connected")
    client.northbound.publish(DATA, b"x" * 301)
    client.until("disconnected")  # its answer is against the standard, and paho hangs up
    client.until("connected")
    large = client.northbound.publish(DATA, b"x" * 301)
    assert client.until("acknowledged") == ("acknowledged", large, TOO_LARGE, DATA)
    small = client.northbound.publish(DATA, b"x" * 300)
    assert client.until("acknowledged", small)[2] < 0x80


def test_a_broker_whose_limit_was_raised_gets_what_it_refused(broker, gateway) -> None:
    running = broker("allow_anonymous true\nmessage_size_limit 300")
    client = gateway(running.port)
    client.until("connected")
    client.northbound.publish(DATA, b"x" * 301)
    client.until("disconnected")
    client.until("connected")
    large = client.northbound.publish(DATA, b"x" * 301)
    assert client.until("acknowledged", large)[2] == TOO_LARGE
    running.kill()
    running.configure("allow_anonymous true\nmessage_size_limit 3000")
    running.start()
    client.until("disconnected")
    client.until("connected")
    large = client.northbound.publish(DATA, b"x" * 301)
    assert client.until("acknowledged", large)[2] < 0x80


def test_a_broker_that_ends_the_connection_for_a_large_packet_gets_no_second_one(bare_broker, gateway) -> None:
    client = gateway(bare_broker.port)
    bare_broker.accept()
    client.until("connected")
    client.northbound.publish(DATA, b"y" * 10)
    client.northbound.publish(DATA, b"x" * 60)
    bare_broker.publishes(2)
    bare_broker.connection.sendall(bytes.fromhex("e0 01 95"))  # DISCONNECT, 0x95
    assert client.until("disconnected") == ("disconnected", "a message is larger than the broker takes")
    bare_broker.accept()
    client.until("connected")
    large = client.northbound.publish(DATA, b"x" * 60)
    assert client.until("acknowledged") == ("acknowledged", large, TOO_LARGE, DATA)
    client.northbound.publish(DATA, b"y" * 10)
    assert [payload for _identifier, payload in bare_broker.publishes(1)] == [b"y" * 10]


# --- silence ------------------------------------------------------------------------------------------------


def test_a_silent_link_is_noticed_within_one_and_a_half_keep_alives(broker, gateway, monkeypatch) -> None:
    monkeypatch.setattr(northbound_module, "KEEPALIVE_S", 2)
    path = CuttablePath(broker().port)
    client = gateway(path.port)
    client.until("connected")
    path.silent = True
    # paho itself would say "Keep alive timeout" after two keep-alives.
    assert client.until("disconnected") == ("disconnected", "nothing heard for 3 s")
    path.silent = False
    client.until("connected")
    path.cut()


def test_a_link_on_which_nothing_is_said_is_not_silent(broker, gateway, monkeypatch) -> None:
    monkeypatch.setattr(northbound_module, "KEEPALIVE_S", 1)
    running = broker("allow_anonymous true\nlog_type all")
    client = gateway(running.port)
    client.until("subscribed")
    deadline_s = time.monotonic() + DEADLINE_S
    while running.log.read_text().count("Received PINGREQ") < 4:
        assert time.monotonic() < deadline_s
    assert list(client.northbound.events()) == []


def test_attempts_are_drawn_from_a_doubling_span(broker, gateway, monkeypatch) -> None:
    spans: list[float] = []
    monkeypatch.setattr(northbound_module.random, "uniform", lambda _least, most: spans.append(most) or 0.0)
    running = broker()
    running.kill()
    client = gateway(running.port)
    for _attempt in range(5):
        client.until("disconnected")
    assert spans[:4] == [0.05, 0.1, 0.2, 0.2]


def test_a_quiet_connection_costs_nearly_nothing(broker, gateway) -> None:
    client = gateway(broker().port)
    client.until("connected")
    began = time.process_time()
    time.sleep(2)  # the measured time itself
    assert time.process_time() - began < 0.02


# --- TLS ----------------------------------------------------------------------------------------------------


@pytest.fixture
def certificates(tmp_path: Path) -> Path:
    """An authority, and of its making a broker's and a gateway's certificate; and an authority nobody trusts."""
    for name in ("ca", "other-ca"):
        authority(tmp_path, name)
    for name in ("broker", GATEWAY):
        certificate(tmp_path, name, name)
    return tmp_path


@pytest.mark.needs("openssl")
def test_the_certificates_of_both_sides_are_checked(broker, gateway, certificates: Path, monkeypatch) -> None:
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(certificates))
    port = broker(
        f"cafile {certificates / 'ca.pem'}\ncertfile {certificates / 'broker.pem'}\n"
        f"keyfile {certificates / 'broker.key'}\nrequire_certificate true\nuse_identity_as_username true"
    ).port
    url = f"mqtts://127.0.0.1:{port}"
    ours = {"cert": str(certificates / f"{GATEWAY}.pem"), "key": f"credential:{GATEWAY}.key"}
    trusting = gateway(port, url=url, ca=str(certificates / "ca.pem"), **ours)
    trusting.until("connected")
    token = trusting.northbound.publish(DATA, b"{}")
    trusting.until("acknowledged", token)
    trusting.northbound.stop()

    misled = gateway(port, url=url, ca=str(certificates / "other-ca.pem"), **ours)
    assert "the encrypted connection fails: " in misled.until("disconnected")[1]
    nameless = gateway(port, url=url, ca=str(certificates / "ca.pem"))
    assert nameless.until("disconnected")[1]
    assert not any(event[0] == "connected" for event in misled.events + nameless.events)


@pytest.mark.needs("openssl")
def test_a_key_with_a_password_is_refused_and_nobody_is_asked_for_it(certificates: Path) -> None:
    locked = certificates / "locked.key"
    openssl("ec", "-in", certificates / f"{GATEWAY}.key", "-aes128", "-passout", "pass:secret", "-out", locked)
    with pytest.raises(ValueError, match="locked.key cannot be used"):
        Gateway(8883, url="mqtts://127.0.0.1:8883", cert=str(certificates / f"{GATEWAY}.pem"), key=str(locked))


@pytest.mark.parametrize(
    ("destination", "sentence"),
    [
        ({"url": "http://mqtt.example.invalid"}, "mqtt://host:port or mqtts://host:port"),
        ({"url": "mqtts://mqtt.example.invalid", "ca": "/nowhere/ca.pem"}, "ca = /nowhere/ca.pem"),
    ],
)
def test_a_destination_that_cannot_be_used_is_told_before_anything_runs(
    destination: dict[str, str], sentence: str
) -> None:
    with pytest.raises(ValueError, match="destination district") as refused:
        Gateway(1883, **destination)
    assert sentence in str(refused.value)
