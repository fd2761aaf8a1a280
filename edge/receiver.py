"""The district's end of the feed: MQTT 5 in, restored whenever it breaks, acknowledged when the caller says. Shell.

Owns the connection (`Subscriber`), and which numbered messages have come (`Receiver`). Must never hide a message, nor
acknowledge one that the caller is not done with: what came again is marked, what is no JSON is passed on as such.
Runs in the caller's thread.

Source: MQTT 5.0, sections 3.1.2.11 (session expiry), 3.8.3.1 (retain handling of a subscription), 4.8.2 (shared ones).
"""

import secrets
import time
from collections import defaultdict
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from gettext import gettext as _
from typing import Any, NamedTuple

from paho.mqtt.client import MQTT_ERR_SUCCESS, Client, ConnectFlags, DisconnectFlags, MQTTMessage
from paho.mqtt.enums import CallbackAPIVersion, MQTTProtocolVersion
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties
from paho.mqtt.reasoncodes import ReasonCode

from edge.broker_url import address
from edge.fault_words import reason
from edge.northbound import tls_context
from protocols.feeds import json_feed
from protocols.feeds.sequence import Ranges, Stream, identity
from protocols.model import Destination

KINDS = ("birth", "link", "state", "data", "event/+")
RETAINED = ("birth", "link", "state")
STREAMS = ("data", "event/+")
KEEPALIVE_S = 30
RETRY_S = 1.0
# How long the broker keeps what comes while this end is away: for a named session, and for one of this run only.
NAMED_EXPIRY_S = 7 * 86_400
UNNAMED_EXPIRY_S = 600
RECEIVE_MAXIMUM = 65_535  # what MQTT 5 means where nothing is said
# So many connections, one after the other, that ended sooner than this: another client has the same name.
TAKEN_OVER = 3
SOON_S = 30.0

Token = tuple[int, int, int]  # connection, message id, QoS


class Delivered(NamedTuple):
    """A PUBLISH as it came; `token` acknowledges it. `retained`: kept by the broker from before."""

    token: Token
    topic: str
    retained: bool
    payload: bytes


class Subscriber:
    """A client at the broker (of `broker` only address and certificates count) that subscribes to `topics`.

    With a `session` name the broker keeps what comes between two runs. `on_published` gets message ids and reason
    codes of what was published. ValueError where the URL or the certificates cannot be used.
    """

    def __init__(
        self,
        broker: Destination,
        topics: Iterable[str],
        on_message: Callable[[Delivered], None],
        session: str | None = None,
        receive_maximum: int = RECEIVE_MAXIMUM,
        on_published: Callable[[int, int], None] = lambda _message_id, _reason: None,
    ) -> None:
        self.problem: str | None = _("not connected yet")  # why nothing can come now; None: connected and subscribed
        self.connections = 0  # so many have been made
        self._host, self._port, is_tls = address(broker.url)
        self._topics = [(topic, 1) for topic in topics]
        self._on_message = on_message
        self._is_named = session is not None
        self._has_session = self._is_named
        self._receive_maximum = receive_maximum
        self._is_open = False
        self._retry_s = 0.0
        self._connected_s = 0.0
        self._lost_soon = 0
        self._client = client = Client(
            CallbackAPIVersion.VERSION2,
            client_id=session or f"tankgate-listen-{secrets.token_hex(6)}",
            protocol=MQTTProtocolVersion.MQTTv5,
            reconnect_on_failure=False,
            manual_ack=True,
        )
        if is_tls:
            client.tls_set_context(tls_context(broker))
        client.on_connect = self._connected
        client.on_subscribe = self._subscribed
        client.on_disconnect = self._disconnected
        client.on_message = self._message
        client.on_publish = lambda _client, _userdata, mid, reason, _properties: on_published(mid, reason.value)

    def work(self, timeout_s: float) -> None:
        """Connect where that is due, and take what comes; returns after the first of it, or after `timeout_s`."""
        now_s = time.monotonic()
        if self._is_open:
            self._is_open = self._client.loop(timeout_s) == MQTT_ERR_SUCCESS
            if not self._is_open:
                self._retry_s = time.monotonic() + RETRY_S
        elif now_s < self._retry_s:
            time.sleep(min(timeout_s, self._retry_s - now_s))
        else:
            self._connect()

    def fileno(self) -> int | None:
        """What becomes readable when `work` has something to take; None without a connection."""
        connected = self._client.socket() if self._is_open else None
        return None if connected is None else connected.fileno()

    def acknowledge(self, tokens: Iterable[Token]) -> None:
        """The broker may forget these. Of an earlier connection nothing can be acknowledged: it comes again."""
        for connection, message_id, qos in tokens:
            if connection == self.connections:
                self._client.ack(message_id, qos)

    def publish(self, topic: str, payload: bytes) -> int | None:
        """Send a retained document; its message id, or None without a connection."""
        if self.problem is not None:
            return None
        return self._client.publish(topic, payload, qos=1, retain=True).mid

    def close(self) -> None:
        """Leave. The broker forgets a session without a name, and sends again what was not acknowledged of a named."""
        properties = Properties(PacketTypes.DISCONNECT)  # type: ignore[no-untyped-call]
        properties.SessionExpiryInterval = NAMED_EXPIRY_S if self._is_named else 0
        self._client.disconnect(properties=properties)

    def _connect(self) -> None:
        properties = Properties(PacketTypes.CONNECT)  # type: ignore[no-untyped-call]
        properties.SessionExpiryInterval = NAMED_EXPIRY_S if self._is_named else UNNAMED_EXPIRY_S
        properties.ReceiveMaximum = self._receive_maximum
        try:
            self._client.connect(
                self._host, self._port, KEEPALIVE_S, clean_start=not self._has_session, properties=properties
            )
        except OSError as error:
            self.problem = reason(error)
            self._retry_s = time.monotonic() + RETRY_S
        else:
            self._is_open = True

    # --- called by paho, inside `work` ----------------------------------------------------------------------

    def _connected(
        self, client: Client, _userdata: None, _flags: ConnectFlags, reason: ReasonCode, _properties: Properties | None
    ) -> None:
        self.connections += 1
        self._connected_s = time.monotonic()
        if reason.is_failure:
            self.problem = str(reason)
        else:
            self._has_session = True
            client.subscribe(self._topics)  # each time: retained documents come again

    def _subscribed(
        self,
        _client: Client,
        _userdata: None,
        _message_id: int,
        reasons: list[ReasonCode],
        _properties: Properties | None,
    ) -> None:
        refused = [str(reason) for reason in reasons if reason.is_failure]
        self.problem = _("subscription refused: {reason}").format(reason=refused[0]) if refused else None

    def _disconnected(
        self,
        _client: Client,
        _userdata: None,
        _flags: DisconnectFlags,
        reason: ReasonCode,
        _properties: Properties | None,
    ) -> None:
        if self.problem is not None:  # a refusal has said why already
            return
        is_soon = time.monotonic() - self._connected_s < SOON_S
        self._lost_soon = self._lost_soon + 1 if is_soon else 0
        # Of a connection that just ended paho says "Unspecified error".
        self.problem = _("connection lost") if reason == "Unspecified error" else str(reason)
        if self._lost_soon >= TAKEN_OVER:
            self.problem += _(", again and again: perhaps another one runs with the same --session")

    def _message(self, _client: Client, _userdata: None, message: MQTTMessage) -> None:
        token = self.connections, message.mid, message.qos
        self._on_message(Delivered(token, message.topic, message.retain, bytes(message.payload)))


@dataclass(frozen=True, slots=True)
class Received:
    """One message as it came. `retained`: kept by the broker from before. `payload`: None where it was no JSON object.

    `duplicate`: this (gateway, epoch, stream, seq) had come before.
    """

    received_ms: int
    topic: str
    retained: bool
    payload: dict[str, Any] | None
    duplicate: bool


class Receiver:
    """Receives the feed of one gateway, or of all ("+"), and hands each message to `on_message`.

    `broker` and `session` as for a `Subscriber`.
    """

    def __init__(
        self, broker: Destination, gateway: str, on_message: Callable[[Received], None], session: str | None = None
    ) -> None:
        self._on_message = on_message
        self._seen: defaultdict[Stream, Ranges] = defaultdict(Ranges)
        self._handed_over: list[Token] = []
        topics = [json_feed.topic(gateway, kind) for kind in KINDS]
        self._subscriber = Subscriber(broker, topics, self._message, session)

    @property
    def problem(self) -> str | None:
        """Why nothing can come now; None: connected and subscribed."""
        return self._subscriber.problem

    def work(self, timeout_s: float) -> None:
        """Connect where that is due, and take what comes; returns after the first of it, or after `timeout_s`.

        By calling again the caller says that it is done with what was handed over: only then the broker may forget it.
        """
        self._subscriber.acknowledge(self._handed_over)
        self._handed_over.clear()
        self._subscriber.work(timeout_s)

    def close(self) -> None:
        """Leave, as a `Subscriber` does."""
        self._subscriber.close()

    def _message(self, message: Delivered) -> None:
        payload = json_feed.read(message.payload)
        numbered = identity(message.topic, payload)
        is_duplicate = False
        if numbered is not None:
            stream, seq = numbered
            is_duplicate = seq in self._seen[stream]
            self._seen[stream].add(seq, seq)
        received_ms = time.time_ns() // 1_000_000
        self._on_message(Received(received_ms, message.topic, message.retained, payload, is_duplicate))
        self._handed_over.append(message.token)
