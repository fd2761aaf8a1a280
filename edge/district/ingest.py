"""From the broker into the database, and receipts back: one copy of however many. Shell.

Owns the order that makes nothing lost: a message is acknowledged when its transaction is committed, and a receipt is
made of what is committed. Streams come by a shared subscription, so that every message goes to one copy; retained
documents go to all. While one transaction is under way the next messages are read; whatever has come by then makes
the next transaction. One copy that has its broker, and whose database connection holds a lock, sweeps and writes the
receipts.
Must never acknowledge before the commit, nor give up while broker or database are away.

Source: MQTT 5.0, sections 3.3.4 (Receive Maximum), 4.8.2 (shared subscriptions).
"""

import asyncio
import time
from collections.abc import Callable
from contextlib import suppress
from gettext import gettext as _

from edge.district.database import UNAVAILABLE, Counts, Database, why
from edge.district.messages import Message, read
from edge.district.receipts import PERIOD_S, receipts
from edge.forward import REFUSED
from edge.receiver import RETAINED, STREAMS, Delivered, Subscriber, Token
from protocols.feeds import json_feed
from protocols.feeds.check import Violations
from protocols.feeds.sequence import Stream
from protocols.model import Destination

GROUP = "ingest"
WINDOW = 2000  # messages that the broker may send ahead of their acknowledgement
HELD_MAX = 2 * WINDOW  # mosquitto 2.0 sends more than it may: from here on the rest waits in the socket
BURST = 20  # read before the database has its turn
TICK_S = 0.25
RETRY_S = 1.0

Say = Callable[[str], None]


class Ingest:
    """One copy. `say` gets a sentence whenever something changes that a person should know."""

    def __init__(
        self, broker: Destination, database: str, gateway: str, session: str, violations: Violations, say: Say
    ) -> None:
        self.counts = Counts()
        self.was_connected = False
        self.losses: list[tuple[Stream, int, int]] = []
        self.twins: dict[str, list[str]] = {}
        self._url = database
        self._violations = violations
        self._say = say
        self._problems: dict[str, str | None] = {}
        self._stop = asyncio.Event()
        self._wake = asyncio.Event()
        self._came: list[tuple[Token, Message]] = []
        self._receipts_of = 0  # the connection of the next two
        self._told: dict[str, dict[str, object]] = {}  # receipts, by gateway
        self._telling: dict[int, dict[str, object]] = {}  # those that the broker has not answered, by message id
        topics = [json_feed.topic(gateway, kind) for kind in RETAINED]
        topics += [f"$share/{GROUP}/{json_feed.topic(gateway, kind)}" for kind in STREAMS]
        self._subscriber = Subscriber(broker, topics, self._message, session, WINDOW, self._published)

    def stop(self) -> None:
        """Commit what was read, acknowledge it, and leave."""
        self._stop.set()
        self._wake.set()

    async def run(self) -> None:
        """Until stopped. UNAVAILABLE or NoPlace where the database cannot be used at the start."""
        database = Database(self._url, self._violations)
        await database.connect()
        sweeping = asyncio.create_task(self._sweep())
        sweeping.add_done_callback(lambda _task: self.stop())
        try:
            await self._ingest(database)
        finally:
            self._subscriber.close()
            await database.close()
        sweeping.cancel()
        with suppress(asyncio.CancelledError):
            await sweeping

    # --- in -------------------------------------------------------------------------------------------------

    async def _ingest(self, database: Database) -> None:
        committing: asyncio.Task[None] | None = None
        while not self._stop.is_set():
            if committing is not None and committing.done():
                committing.result()
                committing = None
            if committing is None and self._came:
                committing = asyncio.create_task(self._commit(database))
                committing.add_done_callback(lambda _task: self._wake.set())
            is_full = len(self._came) >= HELD_MAX
            if is_full or not await self._take():
                await self._something(None if is_full else self._subscriber.fileno())
        if committing is not None:
            await committing
        if self._came:
            await self._commit(database)

    async def _take(self) -> bool:
        """Read a few; whether there were any."""
        had = len(self._came)
        for _packet in range(BURST):
            before = len(self._came)
            self._subscriber.work(0.0)
            if len(self._came) == before:
                break
        self.was_connected |= self._subscriber.problem is None
        self._tell("broker", self._subscriber.problem)
        has_come = len(self._came) > had
        await asyncio.sleep(0)
        return has_come

    async def _something(self, fileno: int | None) -> None:
        """Until there is something to read here, or a transaction has ended, or TICK_S have passed."""
        loop = asyncio.get_running_loop()
        if fileno is not None:
            loop.add_reader(fileno, self._wake.set)
        with suppress(TimeoutError):
            await asyncio.wait_for(self._wake.wait(), TICK_S)
        if fileno is not None:
            loop.remove_reader(fileno)
        self._wake.clear()

    async def _commit(self, database: Database) -> None:
        """All that came, however long the database is away; then the broker may forget it."""
        taken, self._came = self._came, []
        while True:
            try:
                counts = await database.commit([message for _token, message in taken])
                break
            except UNAVAILABLE as fault:
                database.abandon()
                self._tell("database", why(fault))
                if self._stop.is_set():
                    return
                await asyncio.sleep(RETRY_S)
        self._tell("database", None)
        self.counts.add(counts)
        self._subscriber.acknowledge(token for token, _message in taken)

    def _message(self, message: Delivered) -> None:
        self._came.append((message.token, read(message.topic, message.payload, self._violations)))

    # --- back -----------------------------------------------------------------------------------------------

    async def _sweep(self) -> None:
        """Each PERIOD_S, where no other copy does it. One that has no broker can write no receipts: it lets another."""
        database = Database(self._url, self._violations)
        while True:
            try:
                if self._subscriber.problem is not None:
                    database.abandon()
                elif await database.is_sweeper():
                    self.counts.add(await database.sweep())
                    await self._write_receipts(database)
                    self._tell_losses(await database.losses())
                    self._tell_twins(await database.twins())
                self._tell("account", None)
            except UNAVAILABLE as fault:
                database.abandon()
                self._tell("account", why(fault))
            await asyncio.sleep(PERIOD_S)

    async def _write_receipts(self, database: Database) -> None:
        """Those that differ from what the broker has; it may have none after a new connection."""
        if self._receipts_of != self._subscriber.connections:
            self._receipts_of = self._subscriber.connections
            self._told.clear()
            self._telling.clear()
        for gateway, epochs in receipts(await database.standings()).items():
            if self._told.get(gateway) != epochs:
                at_ms = time.time_ns() // 1_000_000
                topic = json_feed.topic(gateway, "receipt")
                message_id = self._subscriber.publish(topic, json_feed.write_receipt(gateway, at_ms, epochs))
                if message_id is not None:
                    self._told[gateway] = self._telling[message_id] = epochs
                    await database.receipted(gateway, epochs)

    def _published(self, message_id: int, reason: int) -> None:
        refused = self._telling.pop(message_id, None) is not None and reason >= REFUSED
        problem = None
        if refused:
            text = _("the broker refuses receipts (reason code {reason}): allow this client to write {topic}")
            problem = text.format(reason=reason, topic=json_feed.topic("+", "receipt"))
        self._tell("receipts", problem)

    def _tell_losses(self, losses: list[tuple[Stream, int, int]]) -> None:
        for stream, first, last in (each for each in losses if each not in self.losses):
            text = _("{gateway}: numbers {first} to {last} of {stream}, epoch {epoch}, are lost")
            self._say(
                text.format(gateway=stream.gateway, stream=stream.name, epoch=stream.epoch, first=first, last=last)
            )
        self.losses = losses

    def _tell_twins(self, twins: dict[str, list[str]]) -> None:
        for gateway in twins.keys() - self.twins.keys():
            text = _(
                "{gateway}: two gateways use this name (epochs {epochs}): switch off the clone, or give it another"
            )
            self._say(text.format(gateway=gateway, epochs=", ".join(twins[gateway])))
        self.twins = twins

    def _tell(self, who: str, problem: str | None) -> None:
        """What changed; that nothing is wrong with the broker, too."""
        if problem != self._problems.get(who, None if who != "broker" else ""):
            names = {
                "broker": _("broker"),
                "database": _("database"),
                "account": _("account of what is missing"),
                "receipts": _("receipts"),
            }
            found = _("in order") if problem is None else problem
            self._say(f"{names[who]}: {found}")
        self._problems[who] = problem
