"""One destination's MQTT 5 client: paho, its thread, its reconnecting. Shell.

Owns the connection and nothing that must not be lost: what is on its way when a connection breaks is
forgotten here, and `forward` sends it again. paho's callbacks run in its thread; they only append to a deque
and wake the thread that decides, by a byte into `wake_fd`. Everything else is called by the deciding thread
and never waits for the network. Must never decide what is sent, nor queue more than the broker's Receive
Maximum inside paho, nor send a packet that is larger than the broker takes: that is answered here as the broker would.

Source: MQTT 5.0, sections 3.1.2.11 (session expiry), 3.2.2.3.6 (Maximum Packet Size), 3.3.4 (Receive Maximum), 3.14
(disconnect); Linux, include/uapi/linux/tcp.h (tcp_info).
"""

import os
import random
import socket
import ssl
import struct
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

from edge import fault_words
from edge.broker_url import address
from edge.forward import TOO_LARGE, WINDOW
from edge.refusals import reason_word
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
# A client pings after a keep-alive of silence, and its broker answers: a link that is silent for longer than this many
# is dead. paho itself waits for two.
SILENT_KEEPALIVES = 1.5
LOOKS = 8  # at the clock in one keep-alive
# So many connections, one after the other, that were accepted and soon lost without a word: brokers do that to a client
# when another one comes that has its name, and not all say so.
TAKEN_OVER = 3
_MAX_PACKET = 268_435_460  # what MQTT itself allows
_TAKEN_OVER_CODE = 0x8E
# Packet too large; protocol error, which is what paho makes of mosquitto's PUBACK of a payload over message_size_limit.
_SIZE_MAY_BE_WHY = (TOO_LARGE, 0x82)
_LAST_DATA_RECEIVED = 52  # where tcp_info has the milliseconds since then
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
        self._gateway = gateway
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
        client.on_subscribe = self._on_subscribe
        # Without this callback paho would write to the socket in the thread that publishes.
        client.on_socket_register_write = lambda _client, _userdata, _socket: None
        self._thread = threading.Thread(target=self._run, name=f"northbound-{destination.name}", daemon=True)
        self._stopping = threading.Event()
        self._reason = ""  # of paho's thread, as are the next two
        self._reason_code = 0
        self._lost_soon = 0  # connections, one after the other

        self._events: deque[Event] = deque()
        # A message must not slip into a later connection than the one that `events` has told of: there it
        # would exceed the window, and be sent again besides. Both count connections; 0 is none.
        self._lock = threading.Lock()
        self._connections = 0
        self._open = 0  # under the lock
        self._told = 0  # of the deciding thread, as is all below
        self._room = 0
        self._tokens = 0
        self._max_packet = _MAX_PACKET  # bytes; of this connection
        self._learnt_max_packet = _MAX_PACKET  # from a broker that does not say it, but ends the connection
        self._taken_bytes = 0  # the largest packet that the broker has answered
        self._waiting: deque[tuple[int, int, str, bytes, bool, Properties]] = deque()
        self._in_flight: dict[int, tuple[int, int, str]] = {}  # paho's message id -> token, bytes of the packet, topic

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

        What is larger than the broker takes is not sent, and is acknowledged with TOO_LARGE. Without a connection the
        message is dropped: ("disconnected", …) tells so of everything unanswered.
        """
        self._tokens += 1
        if self._told:
            properties = Properties(PacketTypes.PUBLISH)  # type: ignore[no-untyped-call]
            properties.PayloadFormatIndicator = 1  # UTF-8
            properties.ContentType = "application/json"
            if user_properties:
                properties.UserProperty = list(user_properties)
            packet_bytes = _packet_bytes(topic, payload, properties)
            if packet_bytes > min(self._max_packet, self._learnt_max_packet):
                self._tell(("too large", self._tokens, topic))
            else:
                self._waiting.append((self._tokens, packet_bytes, topic, payload, retain, properties))
                self._fill_window()
        return self._tokens

    def events(self) -> Iterator[Event]:
        """What happened since the last call, oldest first.

        ("connected", receive_maximum, session_present), ("disconnected", reason),
        ("acknowledged", token, reason_code, topic), ("message", topic, payload, is_retained),
        ("subscribed", topic, reason_code). A failed attempt to connect is a "disconnected" too.
        """
        while self._events:
            match self._events.popleft():
                case ("connected", connection, receive_maximum, max_packet, session_present):
                    self._told = connection
                    self._max_packet = max_packet
                    self._room = min(WINDOW, receive_maximum)
                    yield "connected", receive_maximum, session_present
                case ("disconnected", reason, reason_code):
                    self._told = 0
                    if reason_code in _SIZE_MAY_BE_WHY:
                        self._learn_max_packet()
                    else:  # it may have been started again with a larger limit
                        self._learnt_max_packet = _MAX_PACKET
                    self._waiting.clear()
                    self._in_flight.clear()
                    yield "disconnected", reason
                case ("acknowledged", message_id, reason_code):
                    answered = self._in_flight.pop(message_id, None)
                    self._fill_window()
                    if answered is not None:
                        token, packet_bytes, topic = answered
                        self._taken_bytes = max(self._taken_bytes, packet_bytes)
                        yield "acknowledged", token, reason_code, topic
                case ("too large", token, topic):
                    yield "acknowledged", token, TOO_LARGE, topic
                case event:
                    yield event

    def _learn_max_packet(self) -> None:
        """Without this, the packet that ended the connection would be the first of the next one."""
        largest = max((packet_bytes for _token, packet_bytes, _topic in self._in_flight.values()), default=0)
        if largest > self._taken_bytes:
            self._learnt_max_packet = largest - 1

    def _fill_window(self) -> None:
        with self._lock:
            while self._waiting and len(self._in_flight) < self._room and self._told == self._open:
                token, packet_bytes, topic, payload, retain, properties = self._waiting.popleft()
                sent = self._client.publish(topic, payload, qos=1, retain=retain, properties=properties)
                self._in_flight[sent.mid] = token, packet_bytes, topic

    # --- paho's thread --------------------------------------------------------------------------------------

    def _run(self) -> None:
        session = Properties(PacketTypes.CONNECT)  # type: ignore[no-untyped-call]
        session.SessionExpiryInterval = SESSION_EXPIRY_S
        ceiling_s = CEILING_S
        while not self._stopping.is_set():
            began_s = time.monotonic()
            self._reason, self._reason_code = "", 0
            try:
                self._client.connect(self._host, self._port, KEEPALIVE_S, clean_start=False, properties=session)
            except OSError as error:
                self._reason = fault_words.reason(error)
            else:
                # Read each time: the broker may have asked for another keep-alive.
                while self._client.loop(self._client.keepalive / LOOKS or 60.0) == MQTT_ERR_SUCCESS:
                    self._hang_up_if_silent()
            was_good = time.monotonic() - began_s >= GOOD_S
            with self._lock:
                was_open, self._open = bool(self._open), 0
            self._tell(("disconnected", self._why(was_open and not was_good), self._reason_code))
            if was_good:
                ceiling_s = CEILING_S
            self._stopping.wait(random.uniform(0, ceiling_s))
            ceiling_s = min(2 * ceiling_s, CEILING_MAX_S)

    def _hang_up_if_silent(self) -> None:
        connected: Any = self._client.socket()
        silence_s = SILENT_KEEPALIVES * self._client.keepalive
        if connected is None or not silence_s:
            return
        info = connected.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, _LAST_DATA_RECEIVED + 4)
        if struct.unpack_from("I", info, _LAST_DATA_RECEIVED)[0] >= 1000 * silence_s:
            self._reason = _("nothing heard for {seconds:.0f} s").format(seconds=silence_s)
            with suppress(OSError):  # it has just ended by itself
                connected.shutdown(socket.SHUT_RDWR)

    def _why(self, is_lost_soon: bool) -> str:
        """Why there is no connection, in words for a person."""
        taken_over = _("another client at the broker has the name of this gateway, {gateway}")
        if self._reason_code == _TAKEN_OVER_CODE:
            return taken_over.format(gateway=self._gateway)
        if self._reason != _("connection lost"):
            self._lost_soon = 0
        elif is_lost_soon:
            self._lost_soon += 1
        if self._lost_soon >= TAKEN_OVER:
            text = _("connection lost again and again soon after it began; perhaps {cause}")
            return text.format(cause=taken_over.format(gateway=self._gateway))
        return self._reason

    def _tell(self, event: Event) -> None:
        self._events.append(event)
        with suppress(BlockingIOError):  # the pipe is full: that thread is being woken already
            os.write(self._wake_fd, b"n")

    def _on_connect(
        self, client: Client, _userdata: None, flags: ConnectFlags, reason: ReasonCode, properties: Properties | None
    ) -> None:
        if reason.is_failure:
            self._reason = reason_word(reason.value) or str(reason)
            return
        # `forward` sends again what was on its way; paho would, too, and without regard to Receive Maximum.
        client.drop_out_messages()
        if self._subscriptions:
            client.subscribe(self._subscriptions)
        with self._lock:
            self._connections += 1
            self._open = self._connections
        receive_maximum = getattr(properties, "ReceiveMaximum", RECEIVE_MAXIMUM)
        max_packet = getattr(properties, "MaximumPacketSize", _MAX_PACKET)
        self._tell(("connected", self._connections, receive_maximum, max_packet, flags.session_present))

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
            is_untold = reason == "Unspecified error"
            self._reason = _("connection lost") if is_untold else reason_word(reason.value) or str(reason)
            self._reason_code = reason.value

    def _on_publish(
        self, _client: Client, _userdata: None, message_id: int, reason: ReasonCode, _properties: Properties
    ) -> None:
        self._tell(("acknowledged", message_id, reason.value))

    def _on_subscribe(
        self,
        _client: Client,
        _userdata: None,
        _message_id: int,
        reasons: list[ReasonCode],
        _properties: Properties | None,
    ) -> None:
        for (topic, _qos), reason in zip(self._subscriptions, reasons, strict=False):
            self._tell(("subscribed", topic, reason.value))

    def _on_message(self, _client: Client, _userdata: None, message: MQTTMessage) -> None:
        with suppress(UnicodeDecodeError):  # such a topic is none of ours, and must not end this thread
            self._tell(("message", message.topic, message.payload, message.retain))


def _packet_bytes(topic: str, payload: bytes, properties: Properties) -> int:
    """Of the PUBLISH packet at QoS 1, whole."""
    remaining = 2 + len(topic.encode()) + 2 + len(properties.pack()) + len(payload)  # type: ignore[no-untyped-call]
    return 1 + next(count for count in (1, 2, 3, 4) if remaining < 128**count) + remaining


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
                cause=error if isinstance(error, ssl.SSLError) else fault_words.reason(error),
            )
        ) from error
    return context


def key_file(key: str | None) -> str | None:
    """`credential:name` is a file that systemd's LoadCredential put for this service alone."""
    if key is None or not key.startswith(_CREDENTIAL):
        return key
    return str(Path(os.environ.get("CREDENTIALS_DIRECTORY", ""), key.removeprefix(_CREDENTIAL)))
