"""One destination's MQTT 5 client: paho, its thread, its reconnecting. Shell.

Owns the connection and nothing that must not be lost: what is on its way when a connection breaks is
forgotten here, and `forward` sends it again. paho's callbacks run in its thread; they only append to a deque
and wake the thread that decides, by a byte into `wake_fd`. Everything else is called by the deciding thread
and never waits for the network. Must never decide what is sent, nor queue more than the broker's Receive
Maximum inside paho.

Source: MQTT 5.0, sections 3.1.2.11 (session expiry), 3.3.4 (Receive Maximum), 3.14 (disconnect).
"""

import os
import random
import ssl
import threading
import time
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import suppress
from gettext import gettext as _
from pathlib import Path
from typing import Any

from paho.mqtt.client import MQTT_ERR_SUCCESS, Client, ConnectFlags, DisconnectFlags, MQTTMessage
from paho.mqtt.enums import CallbackAPIVersion, MQTTProtocolVersion
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties
from paho.mqtt.reasoncodes import ReasonCode

from edge.broker_url import address
from edge.forward import WINDOW
from protocols.model import Destination

KEEPALIVE_S = 30
SESSION_EXPIRY_S = 86_400
RECEIVE_MAXIMUM = 65_535  # what MQTT 5 means where a broker says nothing
# Waiting before the next attempt is drawn from 0 to a ceiling that doubles, so that the gateways of a whole
# district do not come back in one moment. A connection that held this long was a good one: the ceiling starts
# anew.
CEILING_S = 1.0
CEILING_MAX_S = 60.0
GOOD_S = 30.0
STOP_S = 5.0
_CREDENTIAL = "credential:"

Event = tuple[Any, ...]


class Northbound:
    """A client that connects as `gateway`, with the will `will_payload`, to be retained on `will_topic`.

    ValueError where the destination's URL or certificates cannot be used.
    """

    def __init__(
        self,
        destination: Destination,
        gateway: str,
        wake_fd: int,
        will_topic: str,
        will_payload: bytes,
        subscriptions: Sequence[str] = (),
    ) -> None:
        self._wake_fd = wake_fd
        self._subscriptions = [(topic, 1) for topic in subscriptions]
        try:
            self._host, self._port, is_tls = address(destination.url)
        except ValueError as fault:
            told = _("destination {destination}: {fault}").format(destination=destination.name, fault=fault)
            raise ValueError(told) from fault
        self._client = client = Client(
            CallbackAPIVersion.VERSION2,
            client_id=gateway,
            protocol=MQTTProtocolVersion.MQTTv5,
            reconnect_on_failure=False,
        )
        if is_tls:
            client.tls_set_context(tls_context(destination))
        client.will_set(will_topic, will_payload, qos=1, retain=True)
        client.max_inflight_messages_set(WINDOW)
        client.on_connect = self._on_connect
        client.on_disconnect = self._on_disconnect
        client.on_publish = self._on_publish
        client.on_message = self._on_message
        # Without this callback paho would write to the socket in the thread that publishes.
        client.on_socket_register_write = lambda _client, _userdata, _socket: None
        self._thread = threading.Thread(target=self._run, name=f"northbound-{destination.name}", daemon=True)
        self._stopping = threading.Event()
        self._reason = ""

        self._events: deque[Event] = deque()
        # A message must not slip into a later connection than the one that `events` has told of: there it
        # would exceed the window, and be sent again besides. Both count connections; 0 is none.
        self._lock = threading.Lock()
        self._connections = 0
        self._open = 0  # under the lock
        self._told = 0  # of the deciding thread, as is all below
        self._room = 0
        self._tokens = 0
        self._waiting: deque[tuple[int, str, bytes, bool, Properties]] = deque()
        self._in_flight: dict[int, int] = {}  # paho's message id -> token

    def start(self) -> None:
        """Begin to connect, and to connect again whenever the connection is lost."""
        self._thread.start()

    def stop(self) -> None:
        """Leave; the broker publishes the will. Waits STOP_S at most."""
        self._stopping.set()
        self._client.disconnect(ReasonCode(PacketTypes.DISCONNECT, "Disconnect with will message"))
        self._thread.join(STOP_S)

    def publish(
        self,
        topic: str,
        payload: bytes,
        *,
        retain: bool = False,
        user_properties: Sequence[tuple[str, str]] = (),
    ) -> int:
        """Send, or send as soon as the broker has room. The token comes back in "acknowledged".

        Without a connection the message is dropped: ("disconnected", …) tells so of everything unanswered.
        """
        self._tokens += 1
        if self._told:
            properties = Properties(PacketTypes.PUBLISH)  # type: ignore[no-untyped-call]
            properties.PayloadFormatIndicator = 1  # UTF-8
            properties.ContentType = "application/json"
            if user_properties:
                properties.UserProperty = list(user_properties)
            self._waiting.append((self._tokens, topic, payload, retain, properties))
            self._fill_window()
        return self._tokens

    def events(self) -> Iterator[Event]:
        """What happened since the last call, oldest first.

        ("connected", receive_maximum, session_present), ("disconnected", reason),
        ("acknowledged", token, reason_code), ("message", topic, payload). A failed attempt to connect is a
        "disconnected" too.
        """
        while self._events:
            match self._events.popleft():
                case ("connected", connection, receive_maximum, session_present):
                    self._told = connection
                    self._room = min(WINDOW, receive_maximum)
                    yield "connected", receive_maximum, session_present
                case ("disconnected", reason):
                    self._told = 0
                    self._waiting.clear()
                    self._in_flight.clear()
                    yield "disconnected", reason
                case ("acknowledged", message_id, reason_code):
                    token = self._in_flight.pop(message_id, None)
                    self._fill_window()
                    if token is not None:
                        yield "acknowledged", token, reason_code
                case event:
                    yield event

    def _fill_window(self) -> None:
        with self._lock:
            while self._waiting and len(self._in_flight) < self._room and self._told == self._open:
                token, topic, payload, retain, properties = self._waiting.popleft()
                sent = self._client.publish(topic, payload, qos=1, retain=retain, properties=properties)
                self._in_flight[sent.mid] = token

    # --- paho's thread --------------------------------------------------------------------------------------

    def _run(self) -> None:
        session = Properties(PacketTypes.CONNECT)  # type: ignore[no-untyped-call]
        session.SessionExpiryInterval = SESSION_EXPIRY_S
        ceiling_s = CEILING_S
        while not self._stopping.is_set():
            began_s = time.monotonic()
            self._reason = ""
            try:
                self._client.connect(self._host, self._port, KEEPALIVE_S, clean_start=False, properties=session)
            except OSError as error:
                self._reason = str(error)
            else:
                # The broker may have asked for another keepalive; a quarter of it is soon enough to send a
                # ping.
                while self._client.loop(max(1.0, self._client.keepalive / 4)) == MQTT_ERR_SUCCESS:
                    pass
            with self._lock:
                self._open = 0
            self._tell(("disconnected", self._reason))
            if time.monotonic() - began_s >= GOOD_S:
                ceiling_s = CEILING_S
            self._stopping.wait(random.uniform(0, ceiling_s))
            ceiling_s = min(2 * ceiling_s, CEILING_MAX_S)

    def _tell(self, event: Event) -> None:
        self._events.append(event)
        with suppress(BlockingIOError):  # the pipe is full: that thread is being woken already
            os.write(self._wake_fd, b"n")

    def _on_connect(
        self, client: Client, _userdata: None, flags: ConnectFlags, reason: ReasonCode, properties: Properties | None
    ) -> None:
        if reason.is_failure:
            self._reason = str(reason)
            return
        # `forward` sends again what was on its way; paho would, too, and without regard to Receive Maximum.
        client.drop_out_messages()
        if self._subscriptions:
            client.subscribe(self._subscriptions)
        with self._lock:
            self._connections += 1
            self._open = self._connections
        receive_maximum = getattr(properties, "ReceiveMaximum", RECEIVE_MAXIMUM)
        self._tell(("connected", self._connections, receive_maximum, flags.session_present))

    def _on_disconnect(
        self,
        _client: Client,
        _userdata: None,
        _flags: DisconnectFlags,
        reason: ReasonCode,
        _properties: Properties | None,
    ) -> None:
        if not self._reason:
            # The broker's parting word, or paho's; of a connection that just ended paho says "Unspecified error".
            self._reason = _("connection lost") if reason == "Unspecified error" else str(reason)

    def _on_publish(
        self, _client: Client, _userdata: None, message_id: int, reason: ReasonCode, _properties: Properties
    ) -> None:
        self._tell(("acknowledged", message_id, reason.value))

    def _on_message(self, _client: Client, _userdata: None, message: MQTTMessage) -> None:
        self._tell(("message", message.topic, message.payload))


def tls_context(destination: Destination) -> ssl.SSLContext:
    """The broker's certificate is checked against `ca`, or the system's authorities; ours is shown if there is one.

    ValueError where a file cannot be used.
    """
    try:
        context = ssl.create_default_context(cafile=destination.ca)
        if destination.cert:
            # A key with a password is refused: nobody sits there to type it.
            context.load_cert_chain(destination.cert, key_file(destination.key), password="")
    except OSError as error:
        raise ValueError(
            _("destination {destination}: ca = {ca}, cert = {cert}, key = {key} cannot be used: {cause}").format(
                destination=destination.name,
                ca=destination.ca,
                cert=destination.cert,
                key=destination.key,
                cause=error,
            )
        ) from error
    return context


def key_file(key: str | None) -> str | None:
    """`credential:name` is a file that systemd's LoadCredential put for this service alone."""
    if key is None or not key.startswith(_CREDENTIAL):
        return key
    return str(Path(os.environ.get("CREDENTIALS_DIRECTORY", ""), key.removeprefix(_CREDENTIAL)))
