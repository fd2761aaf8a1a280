"""A broker and the district behind it on the fake clock, and the gateway's client in front of it. Policy.

A broker that is out of reach keeps everything; one that is killed loses what it has acknowledged and the district has
not, and often sessions and retained messages as well; one whose queue is full drops what it acknowledges. The district
has what came in its database after a while, and says so in receipts: all up to a number, but what is missing.
"""

import json
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from random import Random
from typing import Any

from protocols.feeds.sequence import Ranges, identity
from tests.simulation.parts import SECOND_US, Time

QUEUE_MAX = 300  # messages that the broker keeps for a district that is away
RECEIPT_S = 5.0
ASK_AFTER_S = 30.0  # a hole may be on its way for so long
_RETRY_US = 2 * SECOND_US

Key = tuple[str, str, int]
Promise = tuple[int, list[tuple[int, int]]]  # committed up to, and missing
Published = tuple[str, bytes, bool]  # topic, payload, whether it is on the gateway's disk


class Client:
    """As edge/northbound.py's Northbound."""

    def __init__(self, broker: "Broker", time: Time, chance: Random, wake: Callable[[], None]) -> None:
        self._broker = broker
        self._time = time
        self._chance = chance
        self._wake = wake
        self._events: deque[tuple[Any, ...]] = deque()
        self._connection = 0
        self._tokens = 0
        self._is_cut = False

    def start(self) -> None:
        self._time.after(_RETRY_US, self._connect)

    def cut(self) -> None:
        """The gateway has no power."""
        self._is_cut = True
        self._broker.closed(self._connection)

    def stop(self) -> None:
        """It is not wanted any more."""
        self.cut()

    def events(self) -> Iterator[tuple[Any, ...]]:
        while self._events:
            yield self._events.popleft()

    def publish(
        self, topic: str, payload: bytes, *, retain: bool = False, user_properties: Sequence[tuple[str, str]] = ()
    ) -> int:
        self._tokens += 1
        if self._connection:
            is_stored = ("journalled", "0") not in user_properties
            self._broker.publish(self._connection, self._tokens, (topic, payload, is_stored))
        return self._tokens

    def tell(self, *event: Any) -> None:
        """What the broker says."""
        self._events.append(event)
        self._wake()

    def lost(self) -> None:
        """The connection is gone."""
        self._connection = 0
        self.tell("disconnected", "connection lost")
        self._time.after(_RETRY_US, self._connect)

    def _connect(self) -> None:
        if self._is_cut:
            return
        self._connection, has_session = self._broker.connect(self)
        if self._connection:
            self.tell("connected", self._chance.choice((3, 20, 65_535)), has_session)
            self._broker.subscribed(self._connection)
        else:
            self._time.after(_RETRY_US, self._connect)


class Broker:
    """For one gateway and one district."""

    def __init__(self, time: Time, chance: Random) -> None:
        self.is_up = True
        self.district = District(time, chance, self._receipt)
        self._time = time
        self._chance = chance
        self._connection = 0
        self._count = 0
        self._client: Client
        self._has_session = False
        self._retained: bytes | None = None  # the receipt
        self._arrival_us = 0
        self._queue: deque[Published] = deque()  # for the district

    # --- the gateway's side -----------------------------------------------------------------------------------------

    def connect(self, client: Client) -> tuple[int, bool]:
        """The number of a connection, 0 where nobody answers; whether this gateway is known."""
        if not self.is_up:
            return 0, False
        self._count += 1
        self._connection, self._client = self._count, client
        has_session, self._has_session = self._has_session, True
        return self._connection, has_session

    def subscribed(self, connection: int) -> None:
        """What is retained comes first."""
        if self._retained is not None:
            self._hand_over(connection, self._retained)

    def closed(self, connection: int) -> None:
        """The gateway was switched off."""
        if connection == self._connection:
            self._connection = 0

    def publish(self, connection: int, token: int, published: Published) -> None:
        """On its way: it arrives after a while, behind what was sent before, and its acknowledgement after another."""
        self._arrival_us = max(self._arrival_us, self._time.now_us + self._chance.randrange(1000, 80_000))
        self._time.at(self._arrival_us, lambda: self._arrives(connection, token, published))

    def _arrives(self, connection: int, token: int, published: Published) -> None:
        if connection != self._connection:
            return
        if len(self._queue) < QUEUE_MAX:  # a full queue drops, and acknowledges all the same
            self._queue.append(published)
            if self.district.is_there:
                self._time.after(self._chance.uniform(1000, 300_000), self._deliver)
        self._time.after(self._chance.uniform(1000, 80_000), lambda: self._acknowledge(connection, token, published[0]))

    def _acknowledge(self, connection: int, token: int, topic: str) -> None:
        if connection == self._connection:
            self._client.tell("acknowledged", token, 0, topic)

    # --- what happens to it -----------------------------------------------------------------------------------------

    def down(self) -> None:
        """Out of reach: the gateway notices at once."""
        self.is_up = False
        if self._connection:
            self._connection = 0
            self._client.lost()

    def kill(self) -> None:
        """Dead: what it had in its memory is gone."""
        self.down()
        self._queue.clear()
        if self._chance.random() < 0.5:
            self._has_session = False
        if self._chance.random() < 0.5:
            self._retained = None

    def up(self) -> None:
        """Back."""
        self.is_up = True

    # --- the district's side ----------------------------------------------------------------------------------------

    def _deliver(self) -> None:
        if self.district.is_there and self._queue:
            self.district.comes(*self._queue.popleft())

    def bring_district_back(self) -> None:
        """It gets what was kept for it."""
        self.district.is_there = True
        while self._queue:
            self._deliver()

    def _receipt(self, payload: bytes) -> None:
        if self.is_up:
            self._retained = payload
            self._hand_over(self._connection, payload)

    def _hand_over(self, connection: int, payload: bytes) -> None:
        latency_us = self._chance.uniform(1000, 80_000)
        self._time.after(latency_us, lambda: self._handed_over(connection, payload))

    def _handed_over(self, connection: int, payload: bytes) -> None:
        if connection and connection == self._connection:
            self._client.tell("message", "tankgate/v1/simulated/receipt", payload, True)


@dataclass(slots=True)
class Received:
    """A message as it first came."""

    payload: bytes
    document: dict[str, Any]
    at_us: int
    is_stored: bool


@dataclass(slots=True)
class _Stream:
    came: Ranges = field(default_factory=Ranges)
    dropped: Ranges = field(default_factory=Ranges)  # named by a gap
    announced: int = 0
    holes_us: dict[int, int] = field(default_factory=dict)  # the first number of a hole -> when it was first seen
    promise: Promise | None = None  # until something comes, or a hole may grow old


class District:
    """The receiver of section 2 of the feed, with a database in memory. `receipt` publishes."""

    def __init__(self, time: Time, chance: Random, receipt: Callable[[bytes], None]) -> None:
        self.is_there = True
        self.received: dict[Key, Received] = {}
        self.doubles = 0
        self.state: dict[str, Any] = {}  # the newest
        self.faults: list[str] = []
        self._time = time
        self._chance = chance
        self._publish = receipt
        self._fresh: list[Published] = []
        self._streams: dict[tuple[str, str], _Stream] = {}
        self._told: dict[tuple[str, str], Promise] = {}
        self._time.after(RECEIPT_S * SECOND_US, self._commit)

    def comes(self, topic: str, payload: bytes, is_stored: bool) -> None:
        """Not yet in the database."""
        self._fresh.append((topic, payload, is_stored))

    def _commit(self) -> None:
        """And what the database has is receipted, if that is news or a hole has grown old."""
        fresh, self._fresh = self._fresh, []
        for published in fresh:
            self._take(*published)
        promises = {which: stream.promise or self._promise(stream) for which, stream in self._streams.items()}
        if self.is_there and promises != self._told:
            self._told = promises
            self._publish(self._receipt(promises))
        self._time.after(self._chance.uniform(0.8, 1.2) * RECEIPT_S * SECOND_US, self._commit)

    def _take(self, topic: str, payload: bytes, is_stored: bool) -> None:
        document = json.loads(payload)
        numbered = identity(topic, document)
        if numbered is None:
            self.state = document if "values" in document else self.state
            for epoch, streams in document.get("epochs", {}).items():
                for name, entry in streams.items():
                    stream = self._stream(epoch, name)
                    stream.announced = max(stream.announced, entry["next"] - 1)
            return
        key = numbered[0].epoch, numbered[0].name, numbered[1]
        before = self.received.get(key)
        if before is not None:
            self.doubles += 1
            if before.payload != payload:
                self.faults.append(f"message {key} came again with another content")
            return
        self.received[key] = Received(payload, document, self._time.now_us, is_stored)
        self._stream(*key[:2]).came.add(key[2], key[2])
        if document.get("missing_seq"):
            self._stream(document["missing_epoch"], document["of"]).dropped.add(*document["missing_seq"])

    def _stream(self, epoch: str, name: str) -> _Stream:
        """To be changed."""
        stream = self._streams.setdefault((epoch, name), _Stream())
        stream.promise = None
        return stream

    def missing(self, epoch: str, name: str, last: int) -> list[tuple[int, int]]:
        """What of this stream has neither come nor was named by a gap."""
        stream = self._stream(epoch, name)
        return list(Ranges([(1, last)]).without(stream.came, stream.dropped))

    def last(self, epoch: str, name: str) -> int:
        """The last number that came."""
        return max((last for _first, last in self._stream(epoch, name).came), default=0)

    def streams(self) -> list[tuple[str, str]]:
        """Epoch and name of all that it knows."""
        return list(self._streams)

    def _promise(self, stream: _Stream) -> Promise:
        """A young hole may be on its way."""
        end = max([stream.announced, *(last for _first, last in stream.came)])
        holes = list(Ranges([(1, end)]).without(stream.came, stream.dropped))
        if not holes:
            stream.promise = end, []
        stream.holes_us = {first: stream.holes_us.get(first, self._time.now_us) for first, _last in holes}
        missing = []
        for first, last in holes:
            if self._time.now_us - stream.holes_us[first] < ASK_AFTER_S * SECOND_US:
                return first - 1, missing
            missing.append((first, last))
        return end, missing

    def _receipt(self, promises: dict[tuple[str, str], Promise]) -> bytes:
        epochs: dict[str, Any] = {}
        for (epoch, stream), (committed, missing) in promises.items():
            epochs.setdefault(epoch, {})[stream] = {"committed": committed, "missing": missing}
        at_ms = self._time.now_us // 1000
        document = {"schema": "tankgate/receipt/1", "gateway": "simulated", "at_ms": at_ms, "epochs": epochs}
        return json.dumps(document).encode()
