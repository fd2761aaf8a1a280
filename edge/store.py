"""The one durable queue: batches, messages, plans, births and positions in one SQLite file. Shell.

Owns that file. All that one `commit` is given is on disk when it returns, or none of it is. Message numbers
belong to an epoch, new with each Store, so that a cloned or restored card never passes for the one that went
on, and greater than all in the file when it is first opened, whatever the clock says. Must never keep the gateway
from starting because of what lies in the file: what cannot be used is set aside and told in `notes`.

A fault ends a connection: after a failed fsync nobody knows what is on disk, so `open` is called again, which reads
what is there. The writing thread opens, commits, and saves. What stands under "any one other thread" alone may be
called from another: it reads through a connection of its own, which in WAL mode neither waits for the writer nor
holds it up.

A file of RESERVE_BYTES lies beside the store. When the disk is full it is given up, so that the gateway can still
commit while it makes room inside the file.
"""

import errno
import json
import os
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager, suppress
from dataclasses import astuple
from datetime import UTC, datetime, timedelta
from gettext import gettext as _
from pathlib import Path
from typing import Any, NamedTuple

import apsw

from edge.alarms import journal
from edge.batch import Bypass, Filed, Held, Kept, Mark, Message, data_payload, indices, message_order, unpack
from edge.fault_words import reason
from edge.retention import AROUND_MS, Drop, Dropped, Usage

# Before this version a checkpoint beside a second connection could reset the WAL and lose what was committed.
SQLITE_MIN = (3, 51, 3)
APPLICATION_ID = 0x746B6774  # "tkgt"
SCHEMA = 5
FILE = "tankgate.db"  # in the store's folder
PAGE_BYTES = 2048
WAL_MAX_BYTES = 4 << 20
_PAGES_OF_A_COMMIT = 100  # at most, with what the log keeps about each page
RESERVE_BYTES = 16 << 20
READ_WAIT_MS = 1000  # how long a read waits for a WAL that is being recovered
EPOCH_DIGITS = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"
STREAMS = ("data", "event")
# However large the file may be, so much more than it had at its opening finds room: only after a commit it is known
# what is too much, and more than waits in memory for a disk never comes at once.
_MORE_PAGES = (24 << 20) // PAGE_BYTES
_SHRINK_PAGES = 512  # at most so many are given back at once, where the file is larger than it may be
_DROP_LOT = 2000  # batches or events
_MARKS_EVERY = 60  # commits, until the marks are written into their table

CREATE = f"""
-- made_s: when something was committed, in seconds for which gateways have run on this file (Store.lived_s).
-- machine: what it was opened on.
CREATE TABLE epoch (
    id INTEGER PRIMARY KEY, epoch TEXT NOT NULL UNIQUE, gateway TEXT NOT NULL, opened_ms INTEGER NOT NULL,
    machine TEXT NOT NULL);
CREATE TABLE birth (birth TEXT PRIMARY KEY, content TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE plan (
    board TEXT, generation INTEGER, plan BLOB NOT NULL, meaning TEXT NOT NULL,
    PRIMARY KEY (board, generation)) WITHOUT ROWID;
-- A board's ring dies with its boot: only its newest boot matters. Marks ride in the batches, which saves a page a
-- commit; from time to time they are written here, as they stood after batch `batch`.
CREATE TABLE taken (
    board TEXT PRIMARY KEY, boot TEXT NOT NULL, next_record INTEGER NOT NULL, newest_uptime_ms INTEGER NOT NULL,
    newest_ms INTEGER, batch INTEGER NOT NULL) WITHOUT ROWID;
-- Registers that tell which device a unit is. known: its accepted serial number; null where the profile says it.
CREATE TABLE held (
    bus TEXT, unit_id INTEGER, profile TEXT, function_code INTEGER, address INTEGER, registers INTEGER,
    known BLOB, seen BLOB NOT NULL,
    PRIMARY KEY (bus, unit_id, profile, function_code, address, registers)) WITHOUT ROWID;
-- from_ms, to_ms: UTC of the first and last reading, null where no clock was known. polls: how many gave them.
-- taken: marks as JSON, null but in the last batch of a commit.
CREATE TABLE batch (
    id INTEGER PRIMARY KEY, birth TEXT NOT NULL, from_ms INTEGER, to_ms INTEGER, polls INTEGER NOT NULL,
    made_s INTEGER NOT NULL, taken TEXT, readings BLOB NOT NULL);
-- Batches of readings around an alarm, when the others of their age have gone; and when such alarms were raised.
CREATE TABLE kept (
    id INTEGER PRIMARY KEY, birth TEXT NOT NULL, from_ms INTEGER, to_ms INTEGER, polls INTEGER NOT NULL,
    made_s INTEGER NOT NULL, readings BLOB NOT NULL);
CREATE TABLE raised (t_ms INTEGER PRIMARY KEY, made_s INTEGER NOT NULL);
-- An event's body is its payload; a data message's is the bitmap of the batch's rows that it reports.
-- made_ms: UTC when an event was committed, null where the gateway's clock was not to be trusted; of data neither is.
CREATE TABLE message (
    epoch INTEGER, stream TEXT, seq INTEGER, kind TEXT NOT NULL, batch INTEGER, made_ms INTEGER, made_s INTEGER,
    body BLOB NOT NULL, PRIMARY KEY (epoch, stream, seq)) WITHOUT ROWID;
-- What a destination's broker has acknowledged, and what its receiver has receipted (mark), as ranges.
CREATE TABLE position (
    destination TEXT, epoch TEXT, stream TEXT, mark TEXT, first INTEGER, last INTEGER NOT NULL,
    PRIMARY KEY (destination, epoch, stream, mark, first)) WITHOUT ROWID;
-- facts: JSON of edge/alarms/lifecycle.py's, and of what else is known of it. since_ms: UTC of the newest transition,
-- null where no clock was known.
CREATE TABLE alarm (
    alarm TEXT PRIMARY KEY, setpoint REAL, facts TEXT NOT NULL, since_ms INTEGER,
    is_late INTEGER NOT NULL) WITHOUT ROWID;
-- A number is never given twice: sqlite_sequence knows the last one.
CREATE TABLE bypass (
    number INTEGER PRIMARY KEY AUTOINCREMENT, kind TEXT NOT NULL, what TEXT NOT NULL, permit TEXT NOT NULL,
    owner TEXT NOT NULL, reason TEXT NOT NULL, from_ms INTEGER NOT NULL, until_ms INTEGER NOT NULL);
-- The chain over the events that are the journal: an entry is the body of that message. Where entries are gone, the
-- last of them is left without a message: its hash is the root of those that follow.
CREATE TABLE journal (number INTEGER PRIMARY KEY, epoch INTEGER, seq INTEGER, hash BLOB NOT NULL);
PRAGMA application_id = {APPLICATION_ID};
PRAGMA user_version = {SCHEMA};
"""
# These stay small and are checked whole at each opening. To check batch and message, gigabytes on a card,
# would take longer than the boards can buffer: of them only the newest rows are read.
CHECKED_TABLES = ("epoch", "birth", "plan", "taken", "held", "position", "alarm", "bypass", "journal", "raised")

# (epoch, stream, "broker" | "receipt") -> the ranges that this one has
Positions = Mapping[tuple[str, str, str], Sequence[tuple[int, int]]]


class StoreFault(Exception):
    """Disk full, input/output error, no access, damage; the cause is what SQLite or the system said.

    Nothing of a commit that raised this counts as on disk; whether it is, the next `open` finds out.
    """

    @property
    def is_full(self) -> bool:
        """Whether there is no room, on the disk or within what the store may take."""
        return _is_full(self.__cause__)


class Unclosed(StoreFault):
    """It was not closed in order, and no gateway runs on it: whoever looked would leave files of its own beside it."""


class DamagedMessage(StoreFault):
    """One message cannot be made again, because it or its batch is damaged. All else can be read."""


class Earlier(NamedTuple):
    """What earlier processes left; positions by destination, plans by board."""

    epochs: dict[str, dict[str, tuple[int, int]]]
    marks: list[Mark]
    held: list[Held]
    alarms: list[Kept]
    bypasses: list[Bypass]
    last_bypass: int
    positions: dict[str, dict[tuple[str, str, str], list[tuple[int, int]]]]
    plans: dict[str, list[tuple[int, str]]]


class Note(NamedTuple):
    """What a person must be told: the feed's word for it, and a sentence."""

    action: str
    text: str


class _Unusable(Exception):
    """This file is damaged, or not ours."""


class Store:
    """The file at `path`, once it is open. `epoch` is this Store's; `notes`: what a person must be told about the file.

    Before `open`, and after a fault, `births` and `epoch` are known and everything else is empty.
    """

    def __init__(
        self,
        path: Path,
        gateway: str,
        now_utc_ms: int,
        random: Callable[[int], bytes],
        *,
        max_bytes: int = 8 * 10**9,
        machine: str = "",
    ) -> None:
        """`random(n)` gives n random bytes. StoreFault where this SQLite must not be trusted with data."""
        version = tuple(map(int, apsw.sqlite_lib_version().split(".")))
        if version < SQLITE_MIN:
            raise StoreFault(
                _("SQLite {version} can lose data: install an apsw wheel with {needed} or newer").format(
                    version=apsw.sqlite_lib_version(), needed=".".join(map(str, SQLITE_MIN))
                )
            )
        self.epoch = _new_epoch(now_utc_ms, random)
        self._random = random
        self._is_epoch_told = False  # from the first try to open on messages may name it
        self.journal_head: tuple[int, bytes] | None = None  # number and hash of the newest entry on disk
        self.notes: list[Note] = []
        self._path = path
        self._gateway = gateway
        self._machine = machine
        self._max_pages = max((max_bytes - WAL_MAX_BYTES) // PAGE_BYTES, 1)
        self._writer: apsw.Connection | None = None
        self._reader: apsw.Connection | None = None
        self._reading = threading.Lock()
        self._was_open = False
        self._is_looked_through = False  # since the newest commit that succeeded
        self._is_full = False
        self._epochs: dict[str, tuple[int, str]] = {}  # id and gateway
        self._births: dict[str, dict[str, Any]] = {}
        self._plans: dict[tuple[str, int], tuple[bytes, str]] = {}  # of this process
        self._next_batch = 1
        self._taken: dict[str, Mark] = {}
        self._newest_s = 0  # when the newest commit of the file was, as `lived_s` counts
        self._began_s = float("inf")  # when that count was 0, on the monotonic clock
        self._marks_due = 0  # commits until they are written into their table
        self._tried: tuple[int, tuple[str, int] | None] | None = None  # of a commit that failed: batch, message

    # --- opening and closing --------------------------------------------------------------------------------

    def open(self, now_utc_ms: int) -> bool:
        """Open or create the file, or open it again after a fault. Whether the commit that failed last is in it.

        A file that was open before is not created a second time: where it is gone, its disk is. StoreFault where
        the place cannot be used.
        """
        self._let_go()
        is_epoch_told, self._is_epoch_told = self._is_epoch_told, True
        with faults(self._path):
            if self._was_open and not self._path.exists():
                raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT))
            try:
                self._begin(now_utc_ms, is_epoch_told)
            except apsw.Error as fault:
                if not _is_full(fault) or not self.give_up_reserve():
                    raise
                self._let_go()
                self._begin(now_utc_ms, is_epoch_told)
            if self._was_open:
                # What a failed fsync left unwritten may still stand in the kernel's memory as if it were on disk:
                # copied into the file, it is.
                with suppress(apsw.FullError):
                    self._the_writer.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
            self.keep_reserve()
            has_landed = self._has_landed()
        self._was_open = True
        return has_landed

    def _begin(self, now_utc_ms: int, is_epoch_told: bool) -> None:
        try:
            writer = _connect(self._path)
        except _Unusable as why:
            aside = _set_aside(self._path, now_utc_ms)
            text = _("store {path}: {why}. It was set aside as {aside}, and a new one begun")
            self.notes.append(
                Note("store_set_aside", text.format(path=self._path, why=why, aside=aside.name))
            )
            writer = _connect(self._path)
        self._writer = writer
        sync_directory(self._path.parent)
        writer.pragma("max_page_count", max(self._max_pages, writer.pragma("page_count") + _MORE_PAGES))
        newest = writer.execute("SELECT machine, epoch FROM epoch ORDER BY id DESC LIMIT 1").fetchone()
        machine, epoch = newest or ("", "")
        if machine and self._machine and machine != self._machine:
            text = _("store {path}: it was last written on another machine, in epoch {epoch}")
            self.notes.append(Note("store_moved", text.format(path=self._path, epoch=epoch)))
        greatest: str = writer.execute("SELECT max(epoch) FROM epoch").get or ""
        if not is_epoch_told and self.epoch <= greatest:
            self.epoch = _new_epoch(now_utc_ms, self._random, greatest)
        with _transaction(writer):
            writer.execute(
                "INSERT OR IGNORE INTO epoch (epoch, gateway, opened_ms, machine) VALUES (?, ?, ?, ?)",
                (self.epoch, self._gateway, now_utc_ms, self._machine),
            )
            writer.executemany(
                "INSERT OR IGNORE INTO birth VALUES (?, ?)",
                ((birth, json.dumps(content, ensure_ascii=False)) for birth, content in self._births.items()),
            )
            writer.executemany(
                "INSERT OR IGNORE INTO plan VALUES (?, ?, ?, ?)",
                ((*which, *plan) for which, plan in self._plans.items()),
            )
        self._epochs = {
            epoch: (id, gateway)
            for id, epoch, gateway in writer.execute("SELECT id, epoch, gateway FROM epoch ORDER BY id")
        }
        for birth, content in writer.execute("SELECT birth, content FROM birth"):
            self._births.setdefault(birth, json.loads(content))
        self.journal_head = writer.execute("SELECT number, hash FROM journal ORDER BY number DESC LIMIT 1").fetchone()
        ids = (writer.execute(f"SELECT max(id) FROM {table}").get or 0 for table in ("batch", "kept"))
        self._next_batch = max(self._next_batch, *(id + 1 for id in ids))  # those set apart keep theirs
        newest = (
            "SELECT made_s FROM batch ORDER BY id DESC LIMIT 1",
            "SELECT made_s FROM message WHERE made_s IS NOT NULL ORDER BY epoch DESC, stream DESC, seq DESC LIMIT 1",
        )
        self._newest_s = max(writer.execute(sql).get or 0 for sql in newest)
        self._taken = _read_marks(writer)
        self._marks_due = 0
        reader = apsw.Connection(str(self._path), flags=apsw.SQLITE_OPEN_READONLY)
        reader.set_busy_timeout(READ_WAIT_MS)
        with self._reading:
            self._reader = reader

    def _has_landed(self) -> bool:
        """Whether what the failed commit tried is there after all. All of it is, or none."""
        tried, self._tried = self._tried, None
        if tried is None:
            return False
        batch, message = tried
        found = 0
        if message is not None:
            epoch_id, _gateway = self._epochs[self.epoch]
            sql = "SELECT count(*) FROM message WHERE epoch = ? AND stream = ? AND seq = ?"
            found = self._the_writer.execute(sql, (epoch_id, *message)).get
        found = found or self._the_writer.execute("SELECT count(*) FROM batch WHERE id = ?", (batch,)).get
        return bool(found)

    def close(self) -> None:
        """Write everything back from the WAL and let go of the file."""
        with faults(self._path), self._reading:
            for connection in (self._reader, self._writer):
                if connection is not None:
                    connection.close()
            self._reader = self._writer = None

    def _let_go(self) -> None:
        """Close what can be closed: of a connection that met a fault nothing is asked any more."""
        with self._reading:
            for connection in (self._reader, self._writer):
                if connection is not None:
                    with suppress(apsw.Error):
                        connection.close(True)
            self._reader = self._writer = None

    @property
    def _the_writer(self) -> apsw.Connection:
        if self._writer is None:
            raise StoreFault(_("{path}: is not open").format(path=self._path))
        return self._writer

    # --- what a site is --------------------------------------------------------------------------------------

    def save_plan(self, board: str, generation: int, plan: bytes, meaning: str) -> None:
        """Keep a plan; a generation that is here already stays as it is. Without a file it is saved at its opening."""
        self._plans[board, generation] = (plan, meaning)
        if self._writer is not None:
            with faults(self._path), _transaction(self._writer):
                row = (board, generation, plan, meaning)
                self._writer.execute("INSERT OR IGNORE INTO plan VALUES (?, ?, ?, ?)", row)

    def births(self) -> dict[str, dict[str, Any]]:
        """Content of every birth, by its id."""
        return dict(self._births)

    def save_birth(self, birth: str, content: Mapping[str, Any]) -> None:
        """Keep a birth's content. It must be here before a batch of it is committed. Without a file as `save_plan`."""
        text = json.dumps(content, ensure_ascii=False)
        self._births[birth] = json.loads(text)
        if self._writer is not None:
            with faults(self._path), _transaction(self._writer):
                self._writer.execute("INSERT OR IGNORE INTO birth VALUES (?, ?)", (birth, text))

    # --- the writing thread ---------------------------------------------------------------------------------

    def commit(
        self,
        batches: Sequence[Filed],
        positions: Mapping[str, Positions],
        dropped: Sequence[Dropped] = (),
        now_utc_ms: int | None = None,
        now_s: float = 0.0,
    ) -> None:
        """One transaction for all: what goes, batches, their messages, the records taken, positions by destination."""
        writer = self._the_writer
        made_s = self.lived_s(now_s)
        with faults(self._path):
            messages = [(each.stream, each.seq) for batch in batches for each in batch.messages]
            self._tried = (self._next_batch, messages[0] if messages else None)
            next_batch = self._next_batch
            taken = {mark.board: mark for batch in batches for mark in batch.taken}
            with_readings = [batch for batch in batches if batch.readings is not None]
            carrier = with_readings[-1] if with_readings and self._marks_due and not dropped else None
            with self._marking_damage(writer), _transaction(writer):
                for each in dropped:
                    self._delete(writer, each)
                head = self.journal_head
                for batch in batches:
                    carries = taken if batch is carrier else {}
                    self._insert(writer, batch, next_batch, carries, now_utc_ms, made_s)
                    next_batch += batch.readings is not None
                    head = self._chain(writer, batch, head)
                if carrier is None and (taken or dropped):
                    _write_marks(writer, self._taken | taken, next_batch - 1)
                for destination, ranges in positions.items():
                    _replace_positions(writer, destination, ranges)
            self._is_looked_through = False
        self._next_batch, self.journal_head, self._tried, self._newest_s = next_batch, head, None, made_s
        self._taken |= taken
        if taken:
            self._marks_due = _MARKS_EVERY if carrier is None else self._marks_due - 1

    @contextmanager
    def _marking_damage(self, writer: apsw.Connection) -> Iterator[None]:
        """Damage that is met here will not go away by itself: the next opening does not trust the file again."""
        try:
            yield
        except (apsw.CorruptError, apsw.NotADBError, apsw.FullError) as fault:
            if not isinstance(fault, apsw.FullError) or self._is_damage(writer):
                _damage_mark(self._path).touch()
            raise

    def _is_damage(self, writer: apsw.Connection) -> bool:
        """Whether it is not full, but looks so, for a page names one far beyond its end. That is looked for once."""
        disk = os.statvfs(self._path.parent)
        has_room = disk.f_bavail * disk.f_frsize > 2 * RESERVE_BYTES
        if self._is_looked_through or not has_room or writer.pragma("page_count") > self._max_pages * 9 // 10:
            return False
        self._is_looked_through = True
        return writer.execute("PRAGMA quick_check(1)").get != "ok"

    def lived_s(self, now_s: float) -> int:
        """For how many seconds gateways have run on this file, by which age is told; `now_s`: the monotonic clock.

        The time between two of them does not count: only a wall clock could tell it.
        """
        self._began_s = min(self._began_s, now_s - self._newest_s)
        return int(now_s - self._began_s)

    def _insert(
        self,
        writer: apsw.Connection,
        batch: Filed,
        batch_id: int,
        carries: Mapping[str, Mark],
        now_utc_ms: int | None,
        made_s: int,
    ) -> None:
        if batch.readings is not None:
            marks = json.dumps([astuple(mark) for mark in carries.values()]) if carries else None
            row = (batch_id, batch.birth, batch.from_ms, batch.to_ms, batch.polls, made_s, marks, batch.readings)
            writer.execute("INSERT INTO batch VALUES (?, ?, ?, ?, ?, ?, ?, ?)", row)
        epoch_id, _gateway = self._epochs[self.epoch]
        for message in batch.messages:
            is_data = message.stream == "data"
            body = message.reported if is_data else message.payload
            which = (batch_id, None, None) if is_data else (None, now_utc_ms, made_s)
            writer.execute(
                "INSERT INTO message VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
                (epoch_id, message.stream, message.seq, message.kind, *which, body),
            )
        writer.executemany("INSERT OR REPLACE INTO held VALUES (?, ?, ?, ?, ?, ?, ?, ?)", batch.held)
        writer.executemany("INSERT OR REPLACE INTO alarm VALUES (?, ?, ?, ?, ?)", batch.alarms)
        writer.executemany("INSERT OR IGNORE INTO raised VALUES (?, ?)", ((t_ms, made_s) for t_ms in batch.raised_ms))
        if batch.bypasses is not None:
            writer.execute("DELETE FROM bypass")
            writer.executemany("INSERT INTO bypass VALUES (?, ?, ?, ?, ?, ?, ?, ?)", batch.bypasses)

    def _chain(
        self, writer: apsw.Connection, batch: Filed, head: tuple[int, bytes] | None
    ) -> tuple[int, bytes] | None:
        """Its events of the journal, each bound to all that came before; the new head."""
        epoch_id, _gateway = self._epochs[self.epoch]
        for message in batch.messages:
            if message.kind in journal.KINDS and message.payload is not None:
                number, hash_ = head or (0, journal.ROOT)
                head = number + 1, journal.link(hash_, message.payload)
                writer.execute("INSERT INTO journal VALUES (?, ?, ?, ?)", (head[0], epoch_id, message.seq, head[1]))
        return head

    def _delete(self, writer: apsw.Connection, dropped: Dropped) -> None:
        if dropped.stream == "data":
            if dropped.cause == "retention":  # for want of room nothing is written
                writer.execute(
                    "INSERT INTO kept SELECT id, birth, from_ms, to_ms, polls, made_s, readings FROM batch"
                    " WHERE id <= ?1 AND (EXISTS (SELECT 1 FROM raised WHERE t_ms BETWEEN from_ms - ?2 AND to_ms + ?2)"
                    "  OR from_ms IS NULL"  # no clock was known: near in the order of commits
                    "   AND EXISTS (SELECT 1 FROM raised WHERE abs(raised.made_s - batch.made_s) * 1000 <= ?2))",
                    (dropped.last_batch, AROUND_MS),
                )
            writer.execute("DELETE FROM batch WHERE id <= ?", (dropped.last_batch,))
        if dropped.stream == "kept":
            newest = "SELECT max(made_s) FROM kept WHERE id <= ?"
            writer.execute(f"DELETE FROM raised WHERE made_s < ({newest}) - ?", (dropped.last_batch, AROUND_MS // 1000))
            writer.execute("DELETE FROM kept WHERE id <= ?", (dropped.last_batch,))
        for epoch, (first, last) in dropped.numbers.items():
            if epoch in self._epochs:
                writer.execute(
                    "DELETE FROM message WHERE epoch = ? AND stream = ? AND seq BETWEEN ? AND ?",
                    (self._epochs[epoch][0], dropped.stream, first, last),
                )
                if dropped.stream == "event":
                    writer.execute(
                        "UPDATE journal SET seq = NULL WHERE epoch = ? AND seq BETWEEN ? AND ?",
                        (self._epochs[epoch][0], first, last),
                    )
        writer.execute(
            "DELETE FROM journal WHERE seq IS NULL AND number < (SELECT max(number) FROM journal WHERE seq IS NULL)"
        )
        over = writer.execute(
            "DELETE FROM epoch WHERE epoch <> ? AND NOT EXISTS (SELECT 1 FROM message WHERE message.epoch = epoch.id)"
            " RETURNING epoch",
            (self.epoch,),
        ).fetchall()
        writer.executemany("DELETE FROM position WHERE epoch = ?", over)

    def usage(self) -> Usage:
        """How much there is, and how much room."""
        writer = self._the_writer
        with faults(self._path), self._marking_damage(writer):
            disk = os.statvfs(self._path.parent)
            pages, unused = writer.pragma("page_count"), writer.pragma("freelist_count")
            kept: Any = writer.execute("SELECT coalesce(sum(length(readings)), 0), min(made_s) FROM kept").fetchone()
            return Usage(
                file_bytes=pages * PAGE_BYTES,
                unused_bytes=unused * PAGE_BYTES,
                disk_free_bytes=disk.f_bavail * disk.f_frsize,
                is_full=self._is_full,
                oldest_ms=writer.execute("SELECT to_ms FROM batch WHERE to_ms IS NOT NULL ORDER BY id LIMIT 1").get,
                oldest_s=writer.execute("SELECT made_s FROM batch ORDER BY id LIMIT 1").get,
                oldest_event_s=self._oldest_event_s(writer),
                oldest_kept_s=kept[1],
                kept_bytes=kept[0],
            )

    def _oldest_event_s(self, writer: apsw.Connection) -> int | None:
        sql = "SELECT made_s FROM message WHERE epoch = ? AND stream = 'event' ORDER BY seq LIMIT 1"
        found = (writer.execute(sql, (id,)).get for id, _gateway in self._epochs.values())
        return next((made_s for made_s in found if made_s is not None), None)

    def what_goes(self, drop: Drop) -> Dropped | None:
        """What such a drop comes to, a lot of it at most; `commit` then deletes it. None where there is nothing."""
        find = {"data": self._readings_that_go, "kept": _kept_that_go, "event": self._events_that_go}[drop.stream]
        with faults(self._path), self._marking_damage(self._the_writer):
            return find(self._the_writer, drop)

    def _readings_that_go(self, writer: apsw.Connection, drop: Drop) -> Dropped | None:
        dropped = _batches_that_go(writer, drop, "batch")
        for epoch, (id, _gateway) in self._epochs.items():
            sql = "SELECT seq, batch FROM message WHERE epoch = ? AND stream = 'data' ORDER BY seq"
            for seq, batch in writer.execute(sql, (id,)):
                if batch > dropped.last_batch:
                    return dropped if dropped.last_batch else None
                dropped.add_number(epoch, seq)
        return dropped if dropped.last_batch else None

    def _events_that_go(self, writer: apsw.Connection, drop: Drop) -> Dropped | None:
        """Of one epoch at a time."""
        dropped = Dropped("event", drop.cause)
        bytes = 0
        sql = (
            "SELECT seq, made_ms, made_s, length(body) FROM message WHERE epoch = ? AND stream = 'event'"
            " ORDER BY seq LIMIT ?"
        )
        for epoch, (id, _gateway) in self._epochs.items():
            for seq, made_ms, made_s, length in writer.execute(sql, (id, _DROP_LOT)):
                if not _goes(drop, made_s, bytes):
                    break
                bytes += length
                dropped.add(made_ms, made_ms, 1)
                dropped.add_number(epoch, seq)
            if dropped.numbers:
                return dropped
        return None

    def shrink(self) -> None:
        """Give back some of what is unused, where the file is larger than it may be (`max_bytes` was lowered)."""
        with faults(self._path), self._marking_damage(self._the_writer):
            more = self._the_writer.pragma("page_count") - self._max_pages
            if more > 0:
                self._the_writer.execute(f"PRAGMA incremental_vacuum({min(more, _SHRINK_PAGES)})").fetchall()

    # --- the reserve ----------------------------------------------------------------------------------------

    @property
    def _reserve(self) -> Path:
        return self._path.with_name(f"{self._path.stem}-reserve")

    def give_up_reserve(self) -> bool:
        """The disk is full: make room. Whether there was anything to give up."""
        self._is_full = True
        try:
            self._reserve.unlink()
        except OSError:
            return False
        return True

    def keep_reserve(self) -> None:
        """Have it, as soon as the disk has room for it twice over. A disk without that room is no fault."""
        try:
            disk = os.statvfs(self._path.parent)
            # What it takes, not what it says: a copy may be a hole.
            has = self._reserve.exists() and self._reserve.stat().st_blocks * 512 >= RESERVE_BYTES
            if not has and disk.f_bavail * disk.f_frsize >= 2 * RESERVE_BYTES:
                fd = os.open(self._reserve, os.O_CREAT | os.O_WRONLY, 0o640)
                try:
                    os.posix_fallocate(fd, 0, RESERVE_BYTES)
                finally:
                    os.close(fd)
                has = True
        except OSError:
            return
        if has:
            self._is_full = False

    # --- any one other thread -------------------------------------------------------------------------------

    @contextmanager
    def _read(self) -> Iterator[apsw.Connection]:
        with faults(self._path), self._reading:
            if self._reader is None:
                raise StoreFault(_("{path}: is not open").format(path=self._path))
            yield self._reader

    def earlier(self, destinations: Iterable[str], boards: Iterable[str]) -> Earlier:
        """All that is asked for below, but for single messages."""
        return Earlier(
            self.epochs(),
            self.taken(),
            self.held(),
            self.alarms(),
            self.bypasses(),
            self.last_bypass(),
            {name: self.positions(name) for name in destinations},
            {name: self.plans(name) for name in boards},
        )

    def epochs(self) -> dict[str, dict[str, tuple[int, int]]]:
        """First and last number kept of each stream; of this epoch and all that have messages, oldest first.

        (1, 0) where there are none.
        """
        spans = {
            epoch: {stream: self._span(id, stream) for stream in STREAMS}
            for epoch, (id, _gateway) in self._epochs.items()
        }
        empty = {self.epoch: dict.fromkeys(STREAMS, (1, 0))}
        return {
            epoch: streams
            for epoch, streams in (spans or empty).items()
            if epoch == self.epoch or any(last for _first, last in streams.values())
        }

    def _span(self, epoch_id: int, stream: str) -> tuple[int, int]:
        if self._reader is None:
            return 1, 0
        with self._read() as reader:
            return _span(reader, epoch_id, stream)

    def taken(self) -> list[Mark]:
        """How far each board's newest boot is on disk."""
        return list(self._taken.values())

    def held(self) -> list[Held]:
        """What the checked registers of each unit are known to hold."""
        if self._reader is None:
            return []
        with self._read() as reader:
            return [Held(*row) for row in reader.execute("SELECT * FROM held")]

    def alarms(self) -> list[Kept]:
        """Alarms as they were left."""
        if self._reader is None:
            return []
        with self._read() as reader:
            return [
                Kept(alarm, setpoint, facts, since_ms, bool(is_late))
                for alarm, setpoint, facts, since_ms, is_late in reader.execute("SELECT * FROM alarm")
            ]

    def bypasses(self) -> list[Bypass]:
        """Bypasses and drills that were in force."""
        if self._reader is None:
            return []
        with self._read() as reader:
            return [Bypass(*row) for row in reader.execute("SELECT * FROM bypass")]

    def last_bypass(self) -> int:
        """The number of the newest bypass that there ever was; 0 where there was none."""
        if self._reader is None:
            return 0
        with self._read() as reader:
            return reader.execute("SELECT seq FROM sqlite_sequence WHERE name = 'bypass'").get or 0

    def plans(self, board: str) -> list[tuple[int, str]]:
        """(generation, meaning as JSON) of every plan that this board may hold samples of."""
        if self._reader is None:
            return []
        with self._read() as reader:
            rows: list[Any] = reader.execute(
                "SELECT generation, meaning FROM plan WHERE board = ? ORDER BY generation", (board,)
            ).fetchall()
        return rows

    def positions(self, destination: str) -> dict[tuple[str, str, str], list[tuple[int, int]]]:
        """(epoch, stream, mark) -> the ranges that this destination has acknowledged or receipted, ascending."""
        ranges: dict[tuple[str, str, str], list[tuple[int, int]]] = {}
        if self._reader is None:
            return ranges
        with self._read() as reader:
            for epoch, stream, mark, first, last in reader.execute(
                "SELECT epoch, stream, mark, first, last FROM position WHERE destination = ? ORDER BY first",
                (destination,),
            ):
                ranges.setdefault((epoch, stream, mark), []).append((first, last))
        return ranges

    def times_ms(self, keys: Iterable[tuple[str, str, int]]) -> dict[tuple[str, str, int], int | None]:
        """When each message's first reading was taken, or when the event was committed; None where nobody knows."""
        return {key: self._time_ms(*key) for key in keys}

    def _time_ms(self, epoch: str, stream: str, seq: int) -> int | None:
        if epoch not in self._epochs:
            return None
        try:
            with self._read() as reader:
                return reader.execute(
                    "SELECT coalesce(from_ms, made_ms) FROM message LEFT JOIN batch ON batch.id = message.batch"
                    " WHERE epoch = ? AND stream = ? AND seq = ?",
                    (self._epochs[epoch][0], stream, seq),
                ).get
        except StoreFault as fault:
            if isinstance(fault.__cause__, apsw.CorruptError):  # told when it is to be sent
                return None
            raise

    def payload(self, epoch: str, stream: str, seq: int) -> tuple[str, bytes] | None:
        """Kind and payload of a committed message, byte for byte as it was; None where it is not kept.

        DamagedMessage where it, or the batch that it reports, is; StoreFault where the file cannot be read.
        """
        if epoch not in self._epochs:
            return None
        epoch_id, gateway = self._epochs[epoch]
        cause: Exception
        try:
            with self._read() as reader:
                found = reader.execute(
                    "SELECT kind, body, birth, readings FROM message LEFT JOIN batch ON batch.id = message.batch"
                    " WHERE epoch = ? AND stream = ? AND seq = ?",
                    (epoch_id, stream, seq),
                ).fetchone()
            if found is None:
                return None
            kind, body, birth, readings = found
            return kind, body if stream == "event" else self._data_payload(gateway, epoch, seq, birth, readings, body)
        except StoreFault as fault:
            if not isinstance(fault.__cause__, apsw.CorruptError):
                raise
            cause = fault.__cause__
        except (ValueError, LookupError) as error:
            cause = error
        text = _("{path}: message {seq} of stream {stream} of epoch {epoch} cannot be read: {cause}")
        raise DamagedMessage(
            text.format(path=self._path, seq=seq, stream=stream, epoch=epoch, cause=cause)
        ) from cause

    def payload_of(self, filed: Filed, message: Message) -> bytes | None:
        """The payload of a message of this epoch that is not on disk yet."""
        if message.payload is not None or filed.readings is None or message.reported is None:
            return message.payload
        body = message.reported
        return self._data_payload(self._gateway, self.epoch, message.seq, filed.birth, filed.readings, body)

    def _data_payload(
        self, gateway: str, epoch: str, seq: int, birth: str, readings: bytes | None, body: bytes
    ) -> bytes:
        if readings is None:
            raise ValueError(_("its readings are gone"))
        sections, rows = unpack(readings)
        points = self._births[birth]["points"]
        order = message_order(points, sections, rows, indices(body))
        return data_payload(gateway, epoch, seq, birth, points, sections, rows, order)


def _span(connection: apsw.Connection, epoch_id: int, stream: str) -> tuple[int, int]:
    """First and last number kept; (1, 0) without any."""
    first, last = (
        f"SELECT {which}(seq) FROM message WHERE epoch = :epoch AND stream = :stream" for which in ("min", "max")
    )  # apart: of both at once SQLite would read all
    found: Any = connection.execute(f"SELECT ({first}), ({last})", {"epoch": epoch_id, "stream": stream}).fetchone()
    return found if found[1] else (1, 0)


def _batches_that_go(writer: apsw.Connection, drop: Drop, table: str) -> Dropped:
    dropped = Dropped(drop.stream, drop.cause)
    bytes = 0
    sql = f"SELECT id, from_ms, to_ms, polls, made_s, length(readings) FROM {table} ORDER BY id LIMIT ?"
    for id, from_ms, to_ms, polls, made_s, length in writer.execute(sql, (_DROP_LOT,)):
        if not _goes(drop, made_s, bytes):
            break
        if polls and dropped.polls and dropped.is_timed != (from_ms is not None):
            break  # what has no time is told by itself, and takes the span from nothing else
        bytes += length
        dropped.add(from_ms, to_ms, polls)
        dropped.last_batch = id
    return dropped


def _kept_that_go(writer: apsw.Connection, drop: Drop) -> Dropped | None:
    """Of what was set apart: its messages went long ago."""
    dropped = _batches_that_go(writer, drop, "kept")
    return dropped if dropped.last_batch else None


def _goes(drop: Drop, made_s: int, bytes: int) -> bool:
    return bytes < drop.bytes if drop.before_s is None else made_s < drop.before_s


def _read_marks(writer: apsw.Connection) -> dict[str, Mark]:
    marks = {}
    for row in writer.execute("SELECT board, boot, next_record, newest_uptime_ms, newest_ms FROM taken"):
        marks[row[0]] = Mark(*row)
    sql = "SELECT taken FROM batch WHERE id > (SELECT coalesce(max(batch), 0) FROM taken) AND taken IS NOT NULL"
    for (text,) in writer.execute(f"{sql} ORDER BY id"):
        marks |= {row[0]: Mark(*row) for row in json.loads(text)}
    return marks


def _write_marks(writer: apsw.Connection, marks: Mapping[str, Mark], batch: int) -> None:
    writer.executemany(
        "INSERT OR REPLACE INTO taken VALUES (?, ?, ?, ?, ?, ?)", ((*astuple(mark), batch) for mark in marks.values())
    )


def _replace_positions(writer: apsw.Connection, destination: str, positions: Positions) -> None:
    for which, ranges in positions.items():
        writer.execute(
            "DELETE FROM position WHERE destination = ? AND epoch = ? AND stream = ? AND mark = ?",
            (destination, *which),
        )
        writer.executemany(
            "INSERT INTO position VALUES (?, ?, ?, ?, ?, ?)", ((destination, *which, *range_) for range_ in ranges)
        )


@contextmanager
def _transaction(connection: apsw.Connection) -> Iterator[None]:
    """All of it or nothing. SQLite ends some of those that fail by itself; apsw's own would then tell of that alone."""
    connection.execute("BEGIN")
    try:
        yield
        connection.execute("COMMIT")
    finally:
        if connection.in_transaction:
            with suppress(apsw.Error):
                connection.execute("ROLLBACK")


def _is_full(cause: BaseException | None) -> bool:
    """Where the log's index, a file of shared memory, finds no room, SQLite calls that an input/output error."""
    if isinstance(cause, apsw.IOError):
        return getattr(cause, "extendedresult", 0) == apsw.SQLITE_IOERR_SHMSIZE
    if isinstance(cause, OSError):
        return cause.errno in (errno.ENOSPC, errno.EDQUOT)
    return isinstance(cause, apsw.FullError)


@contextmanager
def faults(path: Path, raised: tuple[type[Exception], ...] = (apsw.Error, OSError)) -> Iterator[None]:
    """What SQLite and the system raise, as a StoreFault that says where."""
    try:
        yield
    except raised as error:
        cause = reason(error) if isinstance(error, OSError) else error
        raise StoreFault(_("{path}: {cause}").format(path=path, cause=cause)) from error


@contextmanager
def reading(path: Path) -> Iterator[apsw.Connection]:
    """The file for somebody who only looks, and leaves nothing beside it; a gateway may run on it meanwhile.

    Beside a WAL SQLite needs a file of shared memory: where there is none, it would make one, owned by whoever looks.
    Unclosed there, StoreFault where it cannot be read.
    """
    with faults(path):
        path.stat()
        has_memory = os.access(f"{path}-shm", os.F_OK)
        wal = path.with_name(path.name + "-wal")
        if not has_memory and wal.exists() and wal.stat().st_size:
            told = _("{path}: was not closed in order. Start the gateway first: it puts the store in order")
            raise Unclosed(told.format(path=path))
        uri = f"{path.absolute().as_uri()}?mode=ro" + ("" if has_memory else "&immutable=1")
        connection = apsw.Connection(uri, flags=apsw.SQLITE_OPEN_READONLY | apsw.SQLITE_OPEN_URI)
    # From here on what the system raises is of what its user does with what was read.
    try:
        with faults(path, (apsw.Error,)), closing(connection):
            connection.config(apsw.SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, 1)
            connection.set_busy_timeout(READ_WAIT_MS)
            yield connection
    except StoreFault as fault:
        if not isinstance(fault.__cause__, apsw.NotADBError | apsw.SQLError):
            raise
        told = _(
            "{path}: this version of tankgate cannot read it ({cause}): it is no store, or another version's. The "
            "version that wrote it can read it; the gateway sets it aside when it starts, and begins a new one"
        )
        raise StoreFault(told.format(path=path, cause=fault.__cause__)) from fault


def _connect(path: Path) -> apsw.Connection:
    """A checked connection for writing. _Unusable, and the file untouched, where this is no store of ours."""
    if _damage_mark(path).exists():
        raise _Unusable(_("was found damaged while it was in use"))
    _check_length(path)
    connection = apsw.Connection(str(path))
    try:
        _prepare(connection)
    except (apsw.CorruptError, apsw.NotADBError, apsw.SQLError, TypeError, ValueError) as error:
        connection.close()
        raise _Unusable(_("is damaged or no store ({cause})").format(cause=error)) from error
    except (_Unusable, apsw.Error):
        connection.close()
        raise
    return connection


def _check_length(path: Path) -> None:
    """SQLite does not mind where the end of a file is missing, until it needs it, and takes a stump for a new file."""
    wal = path.with_name(f"{path.name}-wal")
    if not path.exists() or (wal.exists() and wal.stat().st_size):  # the rest may stand in the log
        return
    size_bytes = path.stat().st_size
    with path.open("rb") as file:
        header = file.read(100)
    said_bytes = int.from_bytes(header[28:32], "big") * PAGE_BYTES
    is_ours = header and b"SQLite format 3\0".startswith(header[:16])
    if is_ours and size_bytes < max(said_bytes, PAGE_BYTES):
        raise _Unusable(_("is damaged ({cause})").format(cause=_("only {n} bytes are left").format(n=size_bytes)))


def _prepare(connection: apsw.Connection) -> None:
    """Check what is there, or create it; WAL, and every commit waits for the disk."""
    is_new = not connection.execute("SELECT count(*) FROM sqlite_schema").get
    if not is_new:
        _check(connection)
    connection.execute(f"PRAGMA page_size = {PAGE_BYTES}")
    connection.execute("PRAGMA auto_vacuum = incremental")
    if connection.pragma("journal_mode", "wal") != "wal":
        raise apsw.CantOpenError("this file system cannot keep a write-ahead log")
    connection.execute("PRAGMA synchronous = FULL")
    connection.pragma("journal_size_limit", WAL_MAX_BYTES)
    # Pages that change each second are copied into the file once for each filling of the log: as rarely as that may be.
    connection.pragma("wal_autocheckpoint", WAL_MAX_BYTES // PAGE_BYTES - _PAGES_OF_A_COMMIT)
    if is_new:
        with _transaction(connection):
            connection.execute(CREATE).fetchall()


def _check(connection: apsw.Connection) -> None:
    application_id, schema = connection.pragma("application_id"), connection.pragma("user_version")
    if application_id != APPLICATION_ID:
        raise _Unusable(_("is the database of another program"))
    if schema != SCHEMA:
        raise _Unusable(_("has schema {found}, this version knows {known}").format(found=schema, known=SCHEMA))
    for table in CHECKED_TABLES:
        faults = [fault for (fault,) in connection.execute(f"PRAGMA quick_check('{table}')")]
        if faults != ["ok"]:
            raise _Unusable(_("is damaged ({cause})").format(cause=faults[0]))
    for (content,) in connection.execute("SELECT content FROM birth"):
        json.loads(content)
    _read_marks(connection)
    for (readings,) in connection.execute("SELECT readings FROM batch ORDER BY id DESC LIMIT 1"):
        unpack(readings)
    connection.execute("SELECT * FROM message ORDER BY epoch DESC, stream DESC, seq DESC LIMIT 1").fetchall()
    epochs: list[Any] = connection.execute("SELECT id FROM epoch").fetchall()
    for (epoch_id,) in epochs:
        for stream in STREAMS:
            _span(connection, epoch_id, stream)  # without these nobody knows what was made


def _damage_mark(path: Path) -> Path:
    """Stands beside a file in which a commit met damage, so that the next opening does not trust it again."""
    return path.with_name(f"{path.name}-damaged")


def _set_aside(path: Path, now_utc_ms: int) -> Path:
    """Rename the file and its WAL, so that somebody can look at them; the new name."""
    while True:
        stamp = datetime(1970, 1, 1, tzinfo=UTC) + timedelta(milliseconds=now_utc_ms)
        millisecond = stamp.microsecond // 1000
        aside = path.with_name(f"{path.stem}-{stamp:%Y%m%dT%H%M%S}{millisecond:03}Z{path.suffix}")
        if not aside.exists():
            break
        now_utc_ms += 1
    for suffix in ("", "-wal", "-shm"):
        with suppress(FileNotFoundError):
            path.with_name(path.name + suffix).rename(aside.with_name(aside.name + suffix))
    _damage_mark(path).unlink(missing_ok=True)
    sync_directory(path.parent)
    return aside


def sync_directory(directory: Path) -> None:
    """A file's name is safe only when its directory is."""
    fd = os.open(directory, os.O_RDONLY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def _new_epoch(now_utc_ms: int, random: Callable[[int], bytes], before: str = "") -> str:
    """Ten digits of time and six of chance, five bits each; of a later time than the one `before`."""
    before_ms = 0
    for digit in before[:10]:
        before_ms = before_ms << 5 | EPOCH_DIGITS.find(digit)
    ms = max(now_utc_ms & 2**50 - 1, before_ms + 1)
    number = ms << 30 | int.from_bytes(random(4)) & 2**30 - 1
    return "".join(EPOCH_DIGITS[number >> shift & 31] for shift in range(75, -1, -5))
