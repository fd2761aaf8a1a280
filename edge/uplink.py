"""One destination: its client, what it is sent next, and the documents that it keeps retained there. Shell.

Owns what happens between `forward`, which says what to send and what each answer means, and `northbound`, which sends
it. Called by the deciding thread alone. Must never decide what is sent.
"""

import logging
from collections.abc import Iterator, Mapping
from functools import partial
from gettext import gettext as _
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from edge.forward import BROKER, RECEIPT, REFUSED, RETRY_S, Forward, Key, Pace
from edge.northbound import Northbound
from edge.refusals import Refusals, short, whole, why
from edge.store import DamagedMessage, StoreFault
from protocols.feeds import json_feed
from protocols.model import Destination

if TYPE_CHECKING:
    from edge.daemon import Daemon

log = logging.getLogger("tankgate")

STATE_S = 600.0
REPLIES_KEPT = 100
STATE_CHANGE_S = 1.0  # at most so often for changes of alarms


class Uplink:
    """One destination: its policy, its client, and the documents that it keeps retained there."""

    def __init__(self, daemon: "Daemon", destination: Destination, northbound: Northbound, forward: Forward) -> None:
        self.destination = destination
        self.forward = forward
        self.northbound = northbound
        self._daemon = daemon
        self._keys: dict[int, Key] = {}
        self._being_read: dict[Key, bool] = {}  # whether it is late
        self._state_s = float("inf")
        self._published_s = 0.0
        self._connected = False
        self._reason = ""
        self._sent = Pace()
        self._made = Pace()
        self._is_told_ahead = False
        self._refusals = Refusals()
        self._again_s = float("inf")  # when documents that were refused are tried again
        self._replies: dict[str, bytes] = {}  # by the id of the command, the oldest first

    def due_s(self) -> float:
        """When `work` wants to be called without anything happening."""
        return min(self.forward.due_s(), self._state_s, self._again_s)

    def work(self, now_s: float) -> None:
        """Take what the client reports, send what the policy wants sent."""
        for event in self.northbound.events():
            self._digest(event, now_s)
        if not self._connected:
            return
        while True:
            chosen = self.forward.next(now_s, self._daemon.keeping.readable(now_s))
            if chosen is None:
                break
            self._send(chosen)
        if now_s >= self._again_s:
            self._try_again(now_s)
        if now_s >= self._state_s:
            self._publish_state(now_s)

    def want_state(self, now_s: float) -> None:
        """Something that the state tells has changed."""
        if self._connected:
            self._state_s = min(self._state_s, max(now_s, self._published_s + STATE_CHANGE_S))

    def publish_birth(self, now_s: float) -> None:
        """The retained birth and a state that names it; nothing without a connection, which begins with both."""
        if self._connected:
            topic = json_feed.topic(self._daemon.gateway, "birth")
            self.northbound.publish(topic, self._daemon.birth_document(), retain=True)
            self._publish_state(now_s)

    def epochs(self) -> dict[str, Any]:
        """For the state document: what was made, and what this destination has not yet acknowledged.

        An epoch that is over and wholly acknowledged is not listed.
        """
        epochs = {}
        for epoch, last in self._daemon.keeping.last_seq.items():
            streams = {
                stream: {
                    "next": last[stream] + 1,
                    "receipted": self.forward.receipted(epoch, stream),
                    "pending": self.forward.pending(epoch, stream),
                    "oldest_kept": self.forward.oldest_kept(epoch, stream),
                }
                for stream in last
            }
            if epoch == self._daemon.epoch or any(each["pending"] for each in streams.values()):
                epochs[epoch] = streams
        return epochs

    def status(self, now_s: float) -> dict[str, Any]:
        """For `tankgate status`."""
        return {
            "destination": self.destination.name,
            "url": _without_password(self.destination.url),
            "connected": self._connected,
            "reason": self._reason,
            "backlog_messages": self.forward.backlog(),
            "in_flight": self.forward.in_flight(),
            "acknowledged_messages": self.forward.acknowledged_count,
            "refused": self._refusals.rows(now_s, self._daemon.wall_ms()),
        }

    def alarms(self, now_s: float) -> Iterator[tuple[str, str]]:
        """Those of the gateway itself that stand because of what is refused, and what is to be done."""
        refused = self._refusals.rows(now_s, 0)
        if not refused:
            return
        name, topic, reason_code = self.destination.name, refused[0]["topic"], refused[0]["reason_code"]
        text = _("The broker of destination {destination} refuses {topics}: {why} `tankgate status` shows all of it.")
        topics = ", ".join(dict.fromkeys(short(each["topic"]) for each in refused))
        told = text.format(destination=name, topics=topics, why=why(topic, reason_code))
        yield f"system.destination.{name}:REFUSED", told

    def note_pace(self, now_s: float) -> None:
        """To be called now and then."""
        self._refusals.settle(self.forward.unacknowledged)
        made = sum(last for streams in self._daemon.keeping.last_seq.values() for last in streams.values())
        self._made.note(now_s, made)
        self._sent.note(now_s, made - self.forward.backlog())

    def buffer(self, times_ms: Mapping[Key, int | None], now_s: float) -> dict[str, Any]:
        """For `tankgate buffer`: what is still to come, how fast it goes, and when it will be done."""
        backlog = self.forward.backlog()
        gains_per_s = self._sent.per_s - self._made.per_s
        return {
            "destination": self.destination.name,
            "connected": self._connected,
            "reason": self._reason,
            "awaits_receipts": self.forward.awaits_receipts,
            "backlog_messages": backlog,
            "not_acknowledged": self.forward.backlog(BROKER),
            "not_receipted": self.forward.backlog(RECEIPT) if self.forward.awaits_receipts else None,
            "drained_per_s": round(self._sent.per_s, 1),
            "finished_in_s": 0 if not backlog else round(backlog / gains_per_s) if gains_per_s > 0.05 else None,
            "refused": self._refusals.rows(now_s, self._daemon.wall_ms()),
            "streams": [
                {**each, "oldest_ms": times_ms.get(key)}
                for each, key in zip(self.forward.streams(), self.oldest_pending(), strict=True)
            ],
        }

    def oldest_pending(self) -> list[Key]:
        """Of each stream the oldest message that is still to come."""
        return [(each["epoch"], each["stream"], each["pending"][0][0]) for each in self.forward.streams()]

    def _digest(self, event: tuple[Any, ...], now_s: float) -> None:
        if event[0] == "connected":
            self._connected = True
            self._reason = ""
            self.forget()
            self.forward.connected(now_s, event[1], event[2])
            self._greet(now_s)
            log.info(_("{destination}: connected").format(destination=self.destination.name))
        elif event[0] == "disconnected":
            if self._connected or event[1] != self._reason:
                log.warning(_("{destination}: not connected ({reason}); kept on disk and sent later").format(
                    destination=self.destination.name, reason=event[1]))
            self._connected = False
            self._state_s = self._again_s = float("inf")
            self._reason = event[1]
            self.forget()
            self.forward.disconnected(now_s)
        elif event[0] == "acknowledged":
            _kind, token, reason_code, topic = event
            key = self._keys.pop(token, None)
            if key is not None:
                self.forward.acknowledged(key, reason_code, now_s)
            elif reason_code >= REFUSED:
                self._again_s = min(self._again_s, now_s + RETRY_S)
            self._answered(topic, reason_code, key, now_s)
        elif event[0] == "subscribed":
            self._answered(event[1], event[2], None, now_s)
        elif event[0] == "message":
            _kind, topic, payload, is_retained = event
            if topic == json_feed.topic(self._daemon.gateway, "command"):
                self._command(payload, is_retained, now_s)
            else:
                self._receipt(payload, now_s)

    def forget(self) -> None:
        """Nothing is on its way any more."""
        self._keys.clear()
        self._being_read.clear()

    def _command(self, payload: bytes, is_retained: bool, now_s: float) -> None:
        """Do it, once for each id, and answer. What a broker retains would come again with each connection."""
        asked = json_feed.command(payload, self._daemon.gateway)
        if asked is None or is_retained:
            log.warning(_("{destination}: what came as a command is none for gateway {gateway}: ignored").format(
                destination=self.destination.name, gateway=self._daemon.gateway))
            return
        if asked.id not in self._replies:
            answer = self._daemon.command(self.destination, asked, now_s)
            refused, state = answer.get("refused"), answer.get("state")
            at_ms = int(self._daemon.wall_ms())
            self._replies[asked.id] = json_feed.reply(self._daemon.gateway, asked.id, at_ms, refused, state)
            if len(self._replies) > REPLIES_KEPT:
                del self._replies[next(iter(self._replies))]
        self.northbound.publish(json_feed.topic(self._daemon.gateway, "reply"), self._replies[asked.id])

    def _receipt(self, payload: bytes, now_s: float) -> None:
        gateway = self._daemon.gateway
        found = json_feed.receipt(payload, gateway)
        if found is None:
            log.warning(_("{destination}: what came as a receipt is none for gateway {gateway}: ignored").format(
                destination=self.destination.name, gateway=gateway))
            return
        at_ms, epochs = found
        if self._daemon.keeping.is_unread:
            epochs = {epoch: streams for epoch, streams in epochs.items() if epoch == self._daemon.epoch}
        receipted = self.forward.receipt(epochs, at_ms, now_s, self._daemon.epoch)
        for which in receipted.gone:
            self._daemon.keeping.tell_not_kept(*which, now_s)
        if receipted.is_ahead and not self._is_told_ahead:
            self._is_told_ahead = True
            self._daemon.keeping.tell_set_back(self.destination.name, now_s)

    def _answered(self, topic: str, reason_code: int, key: Key | None, now_s: float) -> None:
        """Once for each topic and reason code it is said what is refused, and again when it had been taken since."""
        if self._refusals.answered(topic, reason_code, key, now_s):
            text = _("{destination}: the broker refuses {topic}: {why}")
            told = whole(topic, reason_code, key is not None)
            log.warning(text.format(destination=self.destination.name, topic=topic, why=told))
        elif self._refusals and key is not None and reason_code < REFUSED:
            self._refusals.settle(self.forward.unacknowledged)

    def _greet(self, now_s: float) -> None:
        """Who we are, and that we are there."""
        gateway = self._daemon.gateway
        self.northbound.publish(json_feed.topic(gateway, "link"), self._daemon.link_document(True), retain=True)
        self.publish_birth(now_s)

    def _try_again(self, now_s: float) -> None:
        """All documents, of which some were refused."""
        self._again_s = float("inf")
        self._greet(now_s)
        if self._replies:
            newest = next(reversed(self._replies.values()))
            self.northbound.publish(json_feed.topic(self._daemon.gateway, "reply"), newest)

    def _send(self, chosen: tuple[str, str, int, bool]) -> None:
        epoch, stream, seq, late = chosen
        key = epoch, stream, seq
        found = self._daemon.keeping.payload(key)
        if found is not None:
            self._publish(key, late, *found)
            return
        self._being_read[key] = late
        self._daemon.keeping.read(key, partial(self._has_read, key))

    def _has_read(self, key: Key, found: tuple[str, bytes] | StoreFault | None, now_s: float) -> None:
        late = self._being_read.pop(key, None)
        if late is None:  # over another connection
            return
        if isinstance(found, DamagedMessage):
            log.error(_("store: {fault}; this message is left out").format(fault=found))
            self._daemon.keeping.tell_damaged(key, found, now_s)
            self.forward.gone(key)
        elif isinstance(found, StoreFault):
            log.error(_("store: {fault}; tried again in a minute").format(fault=found))
            self.forward.put_off(key, now_s)
        elif found is None:
            self.forward.gone(key)
        else:
            self._publish(key, late, *found)

    def _publish(self, key: Key, late: bool, kind: str, payload: bytes) -> None:
        topic = json_feed.topic(self._daemon.gateway, "data" if kind == "data" else f"event/{kind}")
        properties = [("sent_ms", str(int(self._daemon.wall_ms()))), ("late", "1" if late else "0")]
        if not self._daemon.keeping.is_stored(key):
            properties.append(("journalled", "0"))
        token = self.northbound.publish(topic, payload, retain=False, user_properties=properties)
        self._keys[token] = key

    def _publish_state(self, now_s: float) -> None:
        self._state_s = now_s + STATE_S
        self._published_s = now_s
        topic = json_feed.topic(self._daemon.gateway, "state")
        self.northbound.publish(topic, self._daemon.state_document(self, now_s), retain=True)


def _without_password(url: str) -> str:
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.hostname}:{parts.port or ''}".rstrip(":")
