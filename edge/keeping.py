"""What the deciding thread does about the store: what waits for it, what may be sent, what is given up. Shell.

Owns the order of things around a commit: batches go to the writing thread, and when it has them on disk the boards may
free their records and the destinations get the messages. Where it does not, messages are released unstored, an alarm
says so, and what memory or retention had to give up becomes a gap. Called by the deciding thread alone. Must never
wait for the disk, nor let anything go without a gap where somebody lacks it.
"""

import logging
from collections.abc import Iterable, Mapping
from dataclasses import replace
from functools import partial
from gettext import gettext as _
from typing import TYPE_CHECKING, Any

from edge.batch import Batch, Message
from edge.boards import Boards
from edge.forward import Key
from edge.pipeline import Pipeline
from edge.reader import Reader, Take
from edge.retention import Dropped, readings_max_bytes
from edge.store import STREAMS, WAL_MAX_BYTES, DamagedMessage, Earlier, Note, Store, StoreFault
from edge.uplink import Uplink
from edge.writer import POSITIONS_S, Group, Writer
from protocols.feeds.sequence import Ranges

if TYPE_CHECKING:
    from edge.daemon import Daemon

log = logging.getLogger("tankgate")

LIVE_MAX = 100  # of the newest messages the payloads are kept in memory; the others are made again from the store
EVENT_WAIT_S = 0.5  # an event goes out without the disk's answer after so long
WELL_S = 5.0  # a store that answers again counts as well after so long
GAPS_MOST = 20  # for what is given up at once, of one epoch
STORED_SHARE = 1.2  # what is stored takes in pages, to what it is in bytes
ALARM = "system.store:FAULT"
DAMAGED_ALARM = "system.store:DAMAGED"
ALARM_PRIORITY = 2  # readings may be missing


class Keeping:
    """Between one Daemon, whose `uplinks` may change, and its store."""

    def __init__(
        self,
        daemon: "Daemon",
        store: Store,
        writer: Writer,
        reader: Reader,
        pipeline: Pipeline,
        boards: Boards,
        uplinks: list[Uplink],
    ) -> None:
        self.last_seq: dict[str, dict[str, int]] = {}  # of what may be sent: epoch -> stream -> number
        self._daemon = daemon
        self._store = store
        self._writer = writer
        self._reader = reader
        self._pipeline = pipeline
        self._boards = boards
        self._uplinks = uplinks
        self._stored = dict.fromkeys(STREAMS, 0)  # numbers of this epoch that are on disk
        self._live: dict[tuple[str, str, int], tuple[str, bytes]] = {}  # kind and payload
        self._in_memory: dict[tuple[str, str], Ranges] | None = None  # the numbers, until they change
        self._untold: list[Group] = []  # of which not everything may be sent yet
        # By the memory, while there is no store, with what somebody lacks of it; told when there is one.
        self._given_up: list[tuple[Dropped, dict[str, Ranges]]] = []
        self._told_damaged: set[tuple[str, str, int]] = set()
        self._is_learning = False  # what the file has
        self._is_set_aside = False  # what only that file had is to be told
        self._gone_s: float | None = None  # when it was last seen so
        self._positions_s = 0.0
        self.learn_numbers(store.epochs())

    def learn_numbers(self, kept: dict[str, dict[str, tuple[int, int]]]) -> None:
        """Of epochs that were not known until now."""
        known = {epoch: {stream: last for stream, (_first, last) in streams.items()} for epoch, streams in kept.items()}
        self.last_seq = known | self.last_seq

    def numbers(self) -> dict[str, dict[str, tuple[int, int]]]:
        """First and last number of each stream that may be sent."""
        oldest = self._uplinks[0].forward.oldest_kept if self._uplinks else lambda _epoch, _stream: 1
        return {
            epoch: {stream: (oldest(epoch, stream), last) for stream, last in streams.items()}
            for epoch, streams in self.last_seq.items()
        }

    def put(self, batches: list[Batch], now_s: float, dropped: Dropped | None = None) -> None:
        """To be committed together; nothing where there is nothing."""
        if batches or dropped is not None:
            group = Group(batches, now_s, dropped)
            self._untold.append(group)
            self._given_up += [(dropped, self._lacking(dropped)) for dropped in self._writer.put(group, now_s)]

    def digest(self, now_s: float) -> None:
        """What is on disk: the boards may free it, the destinations may have it; so they may where there is no disk."""
        while self._writer.committed:
            group = self._writer.committed.popleft()
            self._in_memory = None
            for batch in group.batches:
                for mark in batch.taken:
                    self._boards.committed(mark.board, mark.boot, mark.next_record)
                for message in batch.messages:
                    self._stored[message.stream] = message.seq
            for stream in STREAMS:
                self._release(group, stream)
        is_gone = self.is_gone(now_s)
        for group in self._untold:
            if is_gone or now_s >= group.put_s + EVENT_WAIT_S:  # as `due_s` reckons, to the last bit
                self._release(group, "event")
            if is_gone and not group.is_told:
                self._release(group, "data")
                group.forget_payloads()
        self._untold = [group for group in self._untold if not group.is_told]
        if now_s >= self._positions_s:
            self._positions_s = now_s + POSITIONS_S
            for uplink in self._uplinks:
                uplink.note_pace(now_s)
                if uplink.forward.dirty:
                    self.put_positions(uplink)

    def _release(self, group: Group, stream: str) -> None:
        """Its messages of this stream may be sent."""
        if stream in group.told:
            return
        group.told.add(stream)
        self._in_memory = None
        messages: list[Message] = [m for batch in group.batches for m in batch.messages if m.stream == stream]
        for message in messages:
            self.last_seq[self._store.epoch][stream] = message.seq
            if message.payload is not None:
                self._live[self._store.epoch, stream, message.seq] = (message.kind, message.payload)
                if len(self._live) > LIVE_MAX:
                    del self._live[next(iter(self._live))]
            for uplink in self._uplinks:
                uplink.forward.committed(self._store.epoch, stream, message.seq, message.seq)

    def put_positions(self, uplink: Uplink) -> None:
        """What a destination has, to be known after a restart."""
        self._writer.put_positions(uplink.destination.name, uplink.forward.positions())

    def due_s(self) -> float:
        """When `digest` wants to be called although nothing happened."""
        return min(
            (group.put_s + EVENT_WAIT_S for group in self._untold if "event" not in group.told),
            default=float("inf"),
        )

    def is_gone(self, now_s: float) -> bool:
        """Whether it does not work at present."""
        return self._writer.is_gone(now_s) or self._reader.is_gone(now_s)

    def why(self, now_s: float) -> str:
        """Why it does not."""
        return self._writer.why() if self._writer.is_gone(now_s) else self._reader.why(now_s)

    def watch(self, now_s: float) -> None:
        """Whether it works; what it has learned, and what it wants to give up."""
        while self._writer.reopened:
            log.warning(_("store: works again (it was: {fault})").format(fault=self._writer.reopened.popleft()))
            self._was_reopened(now_s)
        self._learn(now_s)
        while self._writer.surplus:
            self._give_up(self._writer.surplus.popleft(), now_s)
        is_gone = self.is_gone(now_s)
        self._pipeline.journalled = not is_gone
        if is_gone and self._gone_s is None:
            fault = self.why(now_s)
            text = _("store: {fault}. Everything else goes on, and the boards keep what they can")
            log.error("%s", text.format(fault=fault))
            text = _(
                "Readings are not being stored: {fault}. They are shown, judged and sent all the same, and kept in "
                "memory. Make room on the disk, or replace it; then nothing else is to be done."
            )
            self._daemon.raise_alarm(ALARM, ALARM_PRIORITY, text.format(fault=fault), now_s)
        elif not is_gone and self._gone_s is not None:
            for dropped, lacking in self._given_up:
                self._tell_dropped(dropped, lacking, now_s)
            self._given_up.clear()
            if now_s - self._gone_s < WELL_S:
                return
            self._gone_s = None
            self._daemon.clear_alarm(ALARM, now_s)
        if is_gone:
            self._gone_s = now_s

    def _was_reopened(self, now_s: float) -> None:
        """A new file knows nothing."""
        is_set_aside = any(note.action == "store_set_aside" for note in self._store.notes)
        self.tell_notes(now_s)
        if is_set_aside:
            self._daemon.clear_alarm(DAMAGED_ALARM, now_s)
            self._is_set_aside = True
            self._daemon.store_all_alarms()

    def _learn(self, now_s: float) -> None:
        """What is in a file that could not be read at the start, or in one that took the place of another."""
        if self._is_learning or self._reader.is_gone(now_s):
            return
        if self._writer.is_unread and self._writer.is_readable:
            self._is_learning = True
            names = (each.destination.name for each in self._uplinks)
            self.read_earlier(names, self._daemon.boards(), self._learnt_earlier)
        elif self._is_set_aside:
            self._is_learning = True
            made = {epoch: dict(streams) for epoch, streams in self.last_seq.items()}
            self._reader.ask(self._store.epochs, partial(self._learnt_what_is_left, made, self._first_waiting()))

    def read_earlier(self, destinations: Iterable[str], boards: Iterable[str], take: Take) -> None:
        """`take` gets what the store has, an Earlier, or a StoreFault."""
        self._reader.ask(partial(self._store.earlier, list(destinations), list(boards)), take)

    def _learnt_earlier(self, found: Earlier | StoreFault, now_s: float) -> None:
        """What earlier processes knew could not be read at the start: the gaps since then go in the first commit."""
        self._is_learning = False
        if isinstance(found, StoreFault):
            log.error("%s", found)
            return
        self._daemon.learn(found, now_s)
        self._boards.learn({(mark.board, mark.boot): mark.next_record for mark in found.marks})
        is_set_aside = any(note.action == "store_set_aside" for note in self._store.notes)
        self._pipeline.learn(found.marks, is_set_aside, found.held, now_s)
        self.learn_numbers(found.epochs)
        for uplink in self._uplinks:
            uplink.forward.learn(found.positions[uplink.destination.name], found.epochs)
        self.put(self._pipeline.close(now_s), now_s)
        self._writer.is_unread = False

    @property
    def is_unread(self) -> bool:
        """Whether nobody knows yet what earlier processes left in the store."""
        return self._writer.is_unread

    @property
    def is_well(self) -> bool:
        """Whether the store has worked for a while."""
        return self._gone_s is None

    def tell_notes(self, now_s: float) -> None:
        """What a person must know about the file, in the log and in the journal."""
        notes, self._store.notes = self._store.notes, []
        for note in notes:
            self._tell(note, now_s)

    def _tell(self, note: Note, now_s: float) -> None:
        log.warning("%s", note.text)
        t_ms = int(self._daemon.wall_ms())
        self._pipeline.action(note.action, self._daemon.own_quality(), t_ms, None, note.text, now_s)

    def _first_waiting(self) -> dict[str, int]:
        """Of each stream the first number that is not on disk, where there is any."""
        batches = [batch for group in self._writer.waiting() for batch in group.batches]
        waiting = [(message.stream, message.seq) for batch in batches for message in batch.messages]
        return dict(reversed(waiting))

    def _learnt_what_is_left(
        self,
        made: Mapping[str, Mapping[str, int]],
        waited: Mapping[str, int],
        found: dict[str, dict[str, tuple[int, int]]] | StoreFault,
        now_s: float,
    ) -> None:
        """Of what was `made` when this `waited`, what only the old file had and not everybody has got is lost."""
        self._is_learning = False
        if isinstance(found, StoreFault):
            log.error("%s", found)
            return
        self._is_set_aside = False
        for epoch, streams in made.items():
            for stream, last in streams.items():
                first, last_kept = found.get(epoch, {}).get(stream, (1, 0))
                here = [first] if last_kept else []
                if epoch == self._store.epoch and stream in waited:
                    here.append(waited[stream])
                lost = Dropped(stream, "set_aside", numbers={epoch: (1, min(here, default=last + 1) - 1)})
                self._drop(lost, now_s)

    def _give_up(self, surplus: Dropped, now_s: float) -> None:
        """What is not safe with everybody yet becomes a gap, in the transaction that deletes it."""
        self._drop(surplus, now_s)
        self.put(self._pipeline.close(now_s), now_s, surplus)

    def _drop(self, dropped: Dropped, now_s: float) -> None:
        lacking = self._lacking(dropped)
        if lacking:
            log.warning(
                _("store: messages that not every destination has are given up ({cause}): {numbers}").format(
                    cause=dropped.cause, numbers={epoch: list(numbers) for epoch, numbers in lacking.items()}
                )
            )
            self._tell_dropped(dropped, lacking, now_s)

    def _lacking(self, dropped: Dropped) -> dict[str, Ranges]:
        """What not every destination has of it, by epoch; from now on none gets it."""
        told = {
            epoch: Ranges(
                span for each in self._uplinks for span in each.forward.dropped(epoch, dropped.stream, first, last)
            )
            for epoch, (first, last) in dropped.numbers.items()
        }
        return {epoch: numbers for epoch, numbers in told.items() if numbers}

    def _tell_dropped(self, dropped: Dropped, lacking: Mapping[str, Ranges], now_s: float) -> None:
        """A gap for each span of numbers, or one without any. Of several nobody knows whose polls they are."""
        numbers = [{epoch: span} for epoch, ranges in lacking.items() for span in ranges.at_most(GAPS_MOST)]
        polls = dropped.polls if len(numbers) < 2 else 0
        for each in numbers or [{}]:
            self._pipeline.dropped(replace(dropped, numbers=each, polls=polls), now_s)

    def readable(self, now_s: float) -> dict[tuple[str, str], Ranges] | None:
        """While history cannot be read: the numbers of each stream that lie in memory. None: all can be read."""
        if not self.is_gone(now_s):
            return None
        if self._in_memory is None:
            epoch = self._store.epoch
            last_seq = self.last_seq[epoch]
            found = {(epoch, stream): Ranges([(seq + 1, last_seq[stream])]) for stream, seq in self._stored.items()}
            for _epoch, stream, seq in self._live:
                found[epoch, stream].add(seq, seq)
            self._in_memory = found
        return self._in_memory

    def is_stored(self, key: tuple[str, str, int]) -> bool:
        """Whether a message is on disk."""
        epoch, stream, seq = key
        return epoch != self._store.epoch or seq <= self._stored[stream]

    def tell_damaged(self, key: tuple[str, str, int], fault: DamagedMessage, now_s: float) -> None:
        """A message can never be sent again. The file stays in use: what can be read of it is to be sent first."""
        if key not in self._told_damaged:
            self._told_damaged.add(key)
            epoch, stream, seq = key
            self._pipeline.dropped(Dropped(stream, "disk_fault", numbers={epoch: (seq, seq)}), now_s)
        text = _(
            "The store is damaged: {fault}. What cannot be read is told as missing; all else is sent, and readings go "
            "on being stored. The disk is probably worn out: replace it, once nothing waits in `tankgate buffer status`"
        )
        self._daemon.raise_alarm(DAMAGED_ALARM, ALARM_PRIORITY, text.format(fault=fault), now_s)

    def tell_not_kept(self, why: str, epoch: str, stream: str, first: int, last: int, now_s: float) -> None:
        """The district asked for what is not here: retention took it, or no disk ever had it."""
        self._pipeline.dropped(Dropped(stream, why, numbers={epoch: (first, last)}), now_s)

    def tell_set_back(self, destination: str, now_s: float) -> None:
        """The district has what this store never made."""
        text = _(
            "destination {destination}: its receipts name messages that this store does not know. The store was set "
            "back to an older copy, or the gateway was stopped while its disk did not work"
        ).format(destination=destination)
        self._tell(Note("store_set_back", text), now_s)

    def payload(self, key: tuple[str, str, int]) -> tuple[str, bytes] | None:
        """Kind and payload of a numbered message that lies in memory; None where it does not."""
        found = self._live.get(key)
        return self._writer.payload(key[1], key[2]) if found is None and not self.is_stored(key) else found

    def read(self, key: tuple[str, str, int], take: Take) -> None:
        """`take` gets kind and payload of a message from history, None where it is not kept, or a StoreFault."""
        self._reader.ask(partial(self._store.payload, *key), take)

    def read_times(self, take: Take) -> None:
        """`take` gets when what each destination lacks first was made, by key, or a StoreFault."""
        keys = {key for uplink in self._uplinks for key in uplink.oldest_pending()}
        self._reader.ask(partial(self._store.times_ms, keys), take)

    def state(self, now_ms: int | None, now_s: float) -> dict[str, Any]:
        """For the state document."""
        usage = self._writer.usage
        oldest_ms = None if usage is None else usage.oldest_ms
        return {
            "state": "fault" if self.is_gone(now_s) else "ok",
            "free_bytes": 0 if usage is None else usage.disk_free_bytes,
            "history_hours": round(max(now_ms - oldest_ms, 0) / 3_600_000, 1) if now_ms and oldest_ms else 0,
        }

    def status(self, now_s: float) -> dict[str, Any]:
        """For `tankgate status`."""
        is_gone = self.is_gone(now_s)
        return {"state": "fault", "fault": self.why(now_s)} if is_gone else {"state": "ok", "fault": None}

    def buffer(self, times_ms: Mapping[Key, int | None], now_ms: int | None, now_s: float) -> dict[str, Any]:
        """For `tankgate buffer`: how full it is, and how long until it must give up readings that nobody has yet.

        `times_ms`: of what each destination lacks first.
        """
        usage, keep = self._writer.usage, self._writer.keep
        per_hour = self._writer.stored.per_s * 3600 * STORED_SHARE
        found: dict[str, Any] = {
            "used_bytes": None,
            "max_bytes": keep.max_bytes,
            "disk_free_bytes": None,
            "oldest_ms": None,
            "bytes_per_hour": round(per_hour),
            "hours_left": None,
        }
        if usage is not None:
            used_bytes = usage.file_bytes - usage.unused_bytes
            room = min(readings_max_bytes(keep, WAL_MAX_BYTES), used_bytes + usage.disk_free_bytes - 2 * WAL_MAX_BYTES)
            found |= {"used_bytes": used_bytes, "disk_free_bytes": usage.disk_free_bytes, "oldest_ms": usage.oldest_ms}
            if per_hour and now_ms is not None:
                of_readings = (ms for (_epoch, stream, _seq), ms in times_ms.items() if stream == "data")
                oldest_ms = min((ms for ms in of_readings if ms is not None), default=now_ms)
                holds = min(max(room, 0) / per_hour, keep.readings_days * 24)
                found["hours_left"] = round(max(holds - (now_ms - oldest_ms) / 3_600_000, 0), 1)
        return self.status(now_s) | found
