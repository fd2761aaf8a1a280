"""The one durable queue: batches, messages, plans, births and positions in one SQLite file. Shell.

Owns that file. All that one `commit` is given is on disk when it returns, or none of it is. Message numbers
belong to an epoch, new at each opening, so that a cloned or restored card never passes for the one that went
on. Must never refuse to start because of what lies in the file: what cannot be used is set aside and told in
`notes`.

The writing thread commits, and saves. `payload`, `plans` and `positions` alone may be called from another thread: they
read through a connection of their own, which in WAL mode neither waits for the writer nor holds it up.
"""

import json
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from datetime import UTC, datetime, timedelta
from gettext import gettext as _
from pathlib import Path
from typing import Any, Self

import apsw

from edge.batch import Batch, Held, Mark, data_payload, indices, pack, unpack

# Before this version a checkpoint beside a second connection could reset the WAL and lose what was committed.
SQLITE_MIN = (3, 51, 3)
APPLICATION_ID = 0x746B6774  # "tkgt"
SCHEMA = 2
WAL_MAX_BYTES = 4 << 20
READ_WAIT_MS = 1000  # how long a read waits for a WAL that is being recovered
EPOCH_DIGITS = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"
STREAMS = ("data", "event")

CREATE = f"""
CREATE TABLE epoch (
    id INTEGER PRIMARY KEY, epoch TEXT NOT NULL UNIQUE, gateway TEXT NOT NULL, opened_ms INTEGER NOT NULL);
CREATE TABLE birth (birth TEXT PRIMARY KEY, content TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE plan (
    board TEXT, generation INTEGER, plan BLOB NOT NULL, meaning TEXT NOT NULL,
    PRIMARY KEY (board, generation)) WITHOUT ROWID;
-- A board's ring dies with its boot: only its newest boot matters.
CREATE TABLE taken (
    board TEXT PRIMARY KEY, boot TEXT NOT NULL, next_record INTEGER NOT NULL, newest_ms INTEGER) WITHOUT ROWID;
-- Registers that tell which device a unit is. known: its accepted serial number; null where the profile says it.
CREATE TABLE held (
    bus TEXT, unit_id INTEGER, profile TEXT, function_code INTEGER, address INTEGER, registers INTEGER,
    known BLOB, seen BLOB NOT NULL,
    PRIMARY KEY (bus, unit_id, profile, function_code, address, registers)) WITHOUT ROWID;
-- from_ms, to_ms: UTC of the first and last reading, null where no clock was known.
CREATE TABLE batch (
    id INTEGER PRIMARY KEY, birth TEXT NOT NULL, from_ms INTEGER, to_ms INTEGER, readings BLOB NOT NULL);
-- An event's body is its payload; a data message's is the bitmap of the batch's rows that it reports.
CREATE TABLE message (
    epoch INTEGER, stream TEXT, seq INTEGER, kind TEXT NOT NULL, batch INTEGER, body BLOB NOT NULL,
    PRIMARY KEY (epoch, stream, seq)) WITHOUT ROWID;
-- What a destination has acknowledged, as ranges.
CREATE TABLE position (
    destination TEXT, epoch TEXT, stream TEXT, first INTEGER, last INTEGER NOT NULL,
    PRIMARY KEY (destination, epoch, stream, first)) WITHOUT ROWID;
PRAGMA application_id = {APPLICATION_ID};
PRAGMA user_version = {SCHEMA};
"""
# These stay small and are checked whole at each opening. To check batch and message, gigabytes on a card,
# would take longer than the boards can buffer: of them only the newest rows are read.
CHECKED_TABLES = ("epoch", "birth", "plan", "taken", "held", "position")

Positions = Mapping[tuple[str, str], Sequence[tuple[int, int]]]  # (epoch, stream) -> acknowledged ranges


class StoreFault(Exception):
    """Disk full, input/output error, no access, damage; the cause is what SQLite or the system said.

    Nothing of a commit that raised this is on disk.
    """


class _Unusable(Exception):
    """This file is damaged, or not ours."""


class Store:
    """The file at `path`. `epoch` is the one of this opening; `notes` what a person must be told about it."""

    @classmethod
    def open(cls, path: Path, gateway: str, now_utc_ms: int, random: Callable[[int], bytes]) -> Self:
        """Open or create. `random(n)` gives n random bytes. StoreFault where the place cannot be written."""
        version = tuple(map(int, apsw.sqlite_lib_version().split(".")))
        if version < SQLITE_MIN:
            raise StoreFault(
                _("SQLite {version} can lose data: install an apsw wheel with {needed} or newer").format(
                    version=apsw.sqlite_lib_version(), needed=".".join(map(str, SQLITE_MIN))
                )
            )
        notes = []
        with faults(path):
            try:
                writer = _connect(path)
            except _Unusable as why:
                aside = _set_aside(path, now_utc_ms)
                notes.append(
                    _("store {path}: {why}. It was set aside as {aside}, and a new one begun").format(
                        path=path, why=why, aside=aside.name
                    )
                )
                writer = _connect(path)
            sync_directory(path.parent)
            store = cls(path, writer, tuple(notes))
            store._begin_epoch(gateway, now_utc_ms, random)
        return store

    def __init__(self, path: Path, writer: apsw.Connection, notes: tuple[str, ...]) -> None:
        self.epoch = ""
        self.notes = notes
        self._path = path
        self._writer = writer
        self._reader = apsw.Connection(str(path), flags=apsw.SQLITE_OPEN_READONLY)
        self._reader.set_busy_timeout(READ_WAIT_MS)
        self._epochs = {
            epoch: (id, gateway)
            for id, epoch, gateway in writer.execute("SELECT id, epoch, gateway FROM epoch ORDER BY id")
        }
        self._births: dict[str, dict[str, Any]] = {
            birth: json.loads(content) for birth, content in writer.execute("SELECT birth, content FROM birth")
        }

    def _begin_epoch(self, gateway: str, now_utc_ms: int, random: Callable[[int], bytes]) -> None:
        self.epoch = _new_epoch(now_utc_ms, random)
        with self._writer:
            self._writer.execute(
                "INSERT INTO epoch (epoch, gateway, opened_ms) VALUES (?, ?, ?)",
                (self.epoch, gateway, now_utc_ms),
            )
        self._epochs[self.epoch] = (self._writer.last_insert_rowid(), gateway)

    def close(self) -> None:
        """Write everything back from the WAL and let go of the file."""
        with faults(self._path):
            self._reader.close()
            self._writer.close()

    # --- what is known at the start -------------------------------------------------------------------------

    def epochs(self) -> dict[str, dict[str, int]]:
        """Last number of each stream, 0 for none; of this epoch and all that have messages, oldest first."""
        last = {
            epoch: {stream: self._last_seq(id, stream) for stream in STREAMS}
            for epoch, (id, _gateway) in self._epochs.items()
        }
        return {epoch: streams for epoch, streams in last.items() if any(streams.values()) or epoch == self.epoch}

    def _last_seq(self, epoch_id: int, stream: str) -> int:
        with faults(self._path):
            last: int | None = self._writer.execute(
                "SELECT max(seq) FROM message WHERE epoch = ? AND stream = ?", (epoch_id, stream)
            ).get
        return last or 0

    def taken(self) -> list[Mark]:
        """How far each board's newest boot is on disk."""
        with faults(self._path):
            return [Mark(*row) for row in self._writer.execute("SELECT board, boot, next_record, newest_ms FROM taken")]

    def held(self) -> list[Held]:
        """What the checked registers of each unit are known to hold."""
        with faults(self._path):
            return [Held(*row) for row in self._writer.execute("SELECT * FROM held")]

    def save_plan(self, board: str, generation: int, plan: bytes, meaning: str) -> None:
        """Keep a plan; a generation that is here already stays as it is."""
        with faults(self._path), self._writer:
            self._writer.execute("INSERT OR IGNORE INTO plan VALUES (?, ?, ?, ?)", (board, generation, plan, meaning))

    def births(self) -> dict[str, dict[str, Any]]:
        """Content of every birth, by its id."""
        return dict(self._births)

    def save_birth(self, birth: str, content: Mapping[str, Any]) -> None:
        """Keep a birth's content. It must be here before a batch of it is committed."""
        text = json.dumps(content, ensure_ascii=False)
        with faults(self._path), self._writer:
            self._writer.execute("INSERT OR IGNORE INTO birth VALUES (?, ?)", (birth, text))
        self._births[birth] = json.loads(text)

    # --- the writing thread ---------------------------------------------------------------------------------

    def commit(self, batches: Sequence[Batch], positions: Mapping[str, Positions]) -> None:
        """One transaction for all: batches, their messages, the records taken, positions by destination."""
        with faults(self._path):
            try:
                with self._writer:
                    for batch in batches:
                        self._insert(batch)
                    for destination, ranges in positions.items():
                        self._replace_positions(destination, ranges)
            except (apsw.CorruptError, apsw.NotADBError):
                _damage_mark(self._path).touch()
                raise

    def _insert(self, batch: Batch) -> None:
        batch_id = None
        if batch.rows:
            times = [batch.sections[row.section].clock.utc_ms(row.uptime_ms) for row in batch.rows]
            known = [utc_ms for utc_ms in times if utc_ms is not None]
            self._writer.execute(
                "INSERT INTO batch (birth, from_ms, to_ms, readings) VALUES (?, ?, ?, ?)",
                (
                    batch.birth,
                    min(known, default=None),
                    max(known, default=None),
                    pack(batch.sections, batch.rows),
                ),
            )
            batch_id = self._writer.last_insert_rowid()
        epoch_id, _gateway = self._epochs[self.epoch]
        for message in batch.messages:
            is_data = message.stream == "data"
            body = message.reported if is_data else message.payload
            of_batch = batch_id if is_data else None
            self._writer.execute(
                "INSERT INTO message VALUES (?, ?, ?, ?, ?, ?)",
                (epoch_id, message.stream, message.seq, message.kind, of_batch, body),
            )
        self._writer.executemany(
            "INSERT OR REPLACE INTO taken VALUES (?, ?, ?, ?)",
            ((mark.board, mark.boot, mark.next_record, mark.newest_ms) for mark in batch.taken),
        )
        self._writer.executemany("INSERT OR REPLACE INTO held VALUES (?, ?, ?, ?, ?, ?, ?, ?)", batch.held)

    def _replace_positions(self, destination: str, positions: Positions) -> None:
        for (epoch, stream), ranges in positions.items():
            self._writer.execute(
                "DELETE FROM position WHERE destination = ? AND epoch = ? AND stream = ?",
                (destination, epoch, stream),
            )
            self._writer.executemany(
                "INSERT INTO position VALUES (?, ?, ?, ?, ?)",
                ((destination, epoch, stream, first, last) for first, last in ranges),
            )

    # --- any one other thread -------------------------------------------------------------------------------

    def plans(self, board: str) -> list[tuple[int, str]]:
        """(generation, meaning as JSON) of every plan that this board may hold samples of."""
        with faults(self._path):
            rows: list[Any] = self._reader.execute(
                "SELECT generation, meaning FROM plan WHERE board = ? ORDER BY generation", (board,)
            ).fetchall()
        return rows

    def positions(self, destination: str) -> dict[tuple[str, str], list[tuple[int, int]]]:
        """(epoch, stream) -> the ranges that this destination has acknowledged, ascending."""
        acknowledged: dict[tuple[str, str], list[tuple[int, int]]] = {}
        with faults(self._path):
            for epoch, stream, first, last in self._reader.execute(
                "SELECT epoch, stream, first, last FROM position WHERE destination = ? ORDER BY first",
                (destination,),
            ):
                acknowledged.setdefault((epoch, stream), []).append((first, last))
        return acknowledged

    def payload(self, epoch: str, stream: str, seq: int) -> tuple[str, bytes] | None:
        """Kind and payload of a committed message, byte for byte as it was; None where it is not kept.

        StoreFault where it, or the batch that it reports, cannot be read.
        """
        if epoch not in self._epochs:
            return None
        epoch_id, gateway = self._epochs[epoch]
        with faults(self._path):
            found = self._reader.execute(
                "SELECT kind, body, birth, readings FROM message LEFT JOIN batch ON batch.id = message.batch"
                " WHERE epoch = ? AND stream = ? AND seq = ?",
                (epoch_id, stream, seq),
            ).fetchone()
        if found is None:
            return None
        kind, body, birth, readings = found
        if stream == "event":
            return kind, body
        if readings is None:
            return None
        try:
            sections, rows = unpack(readings)
        except ValueError as error:
            raise StoreFault(
                _("{path}: data message {seq} of epoch {epoch} cannot be read: {cause}").format(
                    path=self._path, seq=seq, epoch=epoch, cause=error
                )
            ) from error
        points = self._births[birth]["points"]
        return kind, data_payload(gateway, epoch, seq, birth, points, sections, rows, indices(body))


@contextmanager
def faults(path: Path) -> Iterator[None]:
    """What SQLite and the system raise, as a StoreFault that says where."""
    try:
        yield
    except (apsw.Error, OSError) as error:
        raise StoreFault(_("{path}: {cause}").format(path=path, cause=error)) from error


def _connect(path: Path) -> apsw.Connection:
    """A checked connection for writing. _Unusable, and the file untouched, where this is no store of ours."""
    if _damage_mark(path).exists():
        raise _Unusable(_("was found damaged while it was in use"))
    connection = apsw.Connection(str(path))
    try:
        _prepare(connection)
    except (apsw.CorruptError, apsw.NotADBError, apsw.SQLError, ValueError) as error:
        connection.close()
        raise _Unusable(_("is damaged or no store ({cause})").format(cause=error)) from error
    except (_Unusable, apsw.Error):
        connection.close()
        raise
    return connection


def _prepare(connection: apsw.Connection) -> None:
    """Check what is there, or create it; WAL, and every commit waits for the disk."""
    is_new = not connection.execute("SELECT count(*) FROM sqlite_schema").get
    if not is_new:
        _check(connection)
    connection.execute("PRAGMA page_size = 2048")
    connection.execute("PRAGMA auto_vacuum = incremental")
    if connection.pragma("journal_mode", "wal") != "wal":
        raise apsw.CantOpenError("this file system cannot keep a write-ahead log")
    connection.execute("PRAGMA synchronous = FULL")
    connection.pragma("journal_size_limit", WAL_MAX_BYTES)
    if is_new:
        with connection:
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
    for (readings,) in connection.execute("SELECT readings FROM batch ORDER BY id DESC LIMIT 1"):
        unpack(readings)
    connection.execute("SELECT * FROM message ORDER BY epoch DESC, stream DESC, seq DESC LIMIT 1").fetchall()


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


def _new_epoch(now_utc_ms: int, random: Callable[[int], bytes]) -> str:
    """Ten digits of time and six of chance, five bits each."""
    number = (now_utc_ms & 2**50 - 1) << 30 | int.from_bytes(random(4)) & 2**30 - 1
    return "".join(EPOCH_DIGITS[number >> shift & 31] for shift in range(75, -1, -5))
