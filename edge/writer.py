"""The writing thread: it alone opens the store and commits, and goes on trying where the store fails. Shell.

Owns what waits for the disk. Each group that `put` was given is committed whole, in order, and reported in `committed`;
the wake pipe tells so. When the store fails, `gone` says why: the groups wait, packed and at most MEMORY_MAX_BYTES of
them (`retention` says what goes first, and never what may not yet be sent), until the store opens again. Must never
hold up the deciding thread: a hanging disk hangs this thread alone, and `is_gone` says so after SLOW_S.
"""

import os
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from gettext import gettext as _
from itertools import islice, takewhile
from typing import Any

from edge.batch import Batch, Filed, filed
from edge.forward import Pace
from edge.retention import Dropped, Usage, drop_due, shrink
from edge.store import STREAMS, WAL_MAX_BYTES, Positions, Store, StoreFault
from protocols.model import StoreSettings

SLOW_S = 2.0  # a commit that takes longer counts as none
RETRY_S = 1.0
POSITIONS_S = 10.0  # positions ride in a batch's transaction; without any they wait so long
TIDY_S = 60.0
MEMORY_MAX_BYTES = 16 << 20
MEMORY_LOT_BYTES = MEMORY_MAX_BYTES // 10  # is given up at once: all that waits is looked through for it
COMMIT_MOST = 1000  # groups in one transaction: what has waited for hours would be a slow one
STOP_S = 10.0

Job = Callable[[Store], None]


@dataclass(slots=True)
class Group:
    """What is committed together: batches, packed sooner or later. `told`: streams that may be sent already."""

    batches: Sequence[Batch | Filed]
    put_s: float
    dropped: Dropped | None = None
    told: set[str] = field(default_factory=set)
    _packed: list[Filed] = field(default_factory=list)

    def packed(self) -> list[Filed]:
        """From now on without the readings as objects."""
        if not self._packed and self.batches:
            self._packed = [filed(batch) if isinstance(batch, Batch) else batch for batch in self.batches]
            self.batches = self._packed  # in one step: the other thread reads it
        return self._packed

    @property
    def bytes(self) -> int:
        """What it takes of a memory, roughly."""
        return sum(each.bytes for each in self.packed())

    @property
    def is_told(self) -> bool:
        """Whether everything of it may be sent."""
        return len(self.told) == len(STREAMS)

    def forget_payloads(self) -> None:
        """It waits for a disk: what can be made again takes no room."""
        self._packed = [each.without_payloads() for each in self.packed()]
        self.batches = self._packed


def no_answer() -> str:
    """Why, where SLOW_S have passed."""
    return _("the disk has not answered for more than {n} s").format(n=round(SLOW_S))


class Writer(threading.Thread):
    """Commits what `put` gave it. `known_ms` gives UTC, or None where the gateway's clock is not to be trusted.

    `wake` is the writing end of a pipe. `fault`: why the store could not be opened at the start.
    """

    def __init__(
        self,
        store: Store,
        wake: int,
        keep: StoreSettings,
        known_ms: Callable[[], int | None],
        fault: StoreFault | None = None,
    ) -> None:
        super().__init__(name="writer", daemon=True)
        self.committed: deque[Group] = deque()
        self.saved: deque[Any] = deque()
        self.surplus: deque[Dropped] = deque()  # to be put back with the gaps that it leaves
        self.reopened: deque[str] = deque()  # why it had been gone, once it has committed again
        self.gone = "" if fault is None else str(fault)
        # Until somebody has read what earlier processes left in the store nothing may be written over it.
        self.is_unread = fault is not None
        self.is_readable = fault is None
        self.usage: Usage | None = None
        self.stored = Pace()  # bytes of readings and messages
        self._stored_bytes = 0
        self.keep = keep
        self._store = store
        self._wake = wake
        self._known_ms = known_ms
        self._queue: deque[Group] = deque()
        self._in_hand = 0  # of these, the first ones: the writing thread's
        self._packed_bytes: int | None = None  # of all, while there is no store
        self._tried = 0  # so many were in a commit that failed: they may be on disk
        self._jobs: deque[tuple[Job, Any]] = deque()
        self._positions: dict[str, dict[tuple[str, str, str], Any]] = {}
        self._something = threading.Condition()
        self._busy_since_s: float | None = None
        self._tidy_s = 0.0
        self._is_giving_up = False  # a surplus, which is on its way through the deciding thread
        self._stopping = False

    # --- the deciding thread --------------------------------------------------------------------------------

    def put(self, group: Group, now_s: float) -> list[Dropped]:
        """To be committed. What memory gave up for it while there is no store."""
        with self._something:
            self._queue.append(group)
            self._something.notify()
            if not self.is_gone(now_s):
                self._packed_bytes = None
                return []
            new = [group] if self._packed_bytes is not None else self._queue
            self._packed_bytes = (self._packed_bytes or 0) + sum(each.bytes for each in new)
            too_much_bytes = self._packed_bytes - MEMORY_MAX_BYTES
            return self._shrink(too_much_bytes + MEMORY_LOT_BYTES) if too_much_bytes > 0 else []

    def _shrink(self, too_much_bytes: int) -> list[Dropped]:
        """Of what may be sent, and cannot be on disk."""
        begin = max(self._in_hand, self._tried)
        old = list(takewhile(lambda group: group.is_told, islice(self._queue, begin, None)))
        if not old:
            return []
        count, batch, dropped = shrink([group.packed() for group in old], too_much_bytes, self._store.epoch)
        surplus = next((group.dropped for group in old[:count] if group.dropped is not None), None)
        rest = list(self._queue)
        rest[begin : begin + count] = [Group([batch], old[0].put_s, surplus, set(STREAMS))]
        self._queue = deque(rest)
        self._packed_bytes = sum(group.bytes for group in rest)
        return dropped

    def put_job(self, job: Job, done: Any) -> None:
        """To be done before anything that is put later is committed; `saved` then has `done`."""
        with self._something:
            self._jobs.append((job, done))
            self._something.notify()

    def put_positions(self, destination: str, positions: Positions) -> None:
        """Positions ride in the next transaction."""
        with self._something:
            self._positions.setdefault(destination, {}).update(positions)

    def is_gone(self, now_s: float) -> bool:
        """Whether nothing gets to the disk at present."""
        busy_since_s = self._busy_since_s
        return bool(self.gone) or (busy_since_s is not None and now_s - busy_since_s > SLOW_S)

    def why(self) -> str:
        """Why nothing gets to the disk."""
        return self.gone or no_answer()

    def waiting(self) -> list[Group]:
        """What is not on disk, oldest first."""
        with self._something:
            return list(self._queue)

    def payload(self, stream: str, seq: int) -> tuple[str, bytes] | None:
        """Kind and payload of a message that is not on disk; None where it is not among these."""
        found = (
            (batch, message)
            for group in self.waiting()
            for batch in group.batches
            for message in batch.messages
            if (message.stream, message.seq) == (stream, seq)
        )
        for batch, message in found:
            payload = self._store.payload_of(batch, message) if isinstance(batch, Filed) else message.payload
            return None if payload is None else (message.kind, payload)
        return None

    def stop(self) -> bool:
        """Commit what is queued, then end; a disk that hangs is waited for STOP_S. Whether all is on disk."""
        with self._something:
            self._stopping = True
            self._something.notify()
        self.join(STOP_S)
        return not self.is_alive() and not self._queue

    # --- the writing thread ---------------------------------------------------------------------------------

    def run(self) -> None:
        """Commit until stopped."""
        is_last = False
        while not is_last:
            is_last = self._wait()
            self.work()

    def work(self) -> None:
        """Everything that waits, once."""
        try:
            self._busy_since_s = time.monotonic()
            if self.gone:
                self._open_again()
                self.is_readable = True
            if self.is_unread:
                self._wake_up()
                return
            self._commit()
            if self.gone:
                self.reopened.append(self.gone)
                self.gone = ""
            self._tidy()
        except StoreFault as fault:
            self.gone = str(fault)
            if fault.is_full:
                self._store.give_up_reserve()
            self._wake_up()
        finally:
            self._busy_since_s = None
            self._in_hand = 0

    def _wait(self) -> bool:
        """Until there is something to do, or to try again; whether it is the last time."""
        with self._something:
            if self.gone:
                self._something.wait_for(lambda: self._stopping, RETRY_S)
            else:
                self._something.wait_for(lambda: self._queue or self._jobs or self._stopping, POSITIONS_S)
            return self._stopping

    def _open_again(self) -> None:
        has_landed = self._store.open(int(time.time() * 1000))
        if has_landed:
            self._report(self._tried)
        self._tried = 0
        self._tidy_s = 0.0

    def _commit(self) -> None:
        while True:
            self._do_jobs()
            self._commit_some()
            if not self._queue:
                return

    def _do_jobs(self) -> None:
        while self._jobs:
            job, done = self._jobs[0]
            job(self._store)
            self.saved.append(done)
            self._jobs.popleft()
            self._wake_up()

    def _commit_some(self) -> None:
        self._busy_since_s = time.monotonic()
        with self._something:
            groups = list(islice(self._queue, COMMIT_MOST))
            self._in_hand = self._tried = len(groups)
            positions, self._positions = self._positions, {}
        if not groups and not positions:
            return
        try:
            self._write(groups, positions)
        except StoreFault:
            with self._something:
                for destination, ranges in positions.items():
                    self._positions[destination] = ranges | self._positions.get(destination, {})
            raise
        self._report(len(groups))

    def _write(self, groups: list[Group], positions: dict[str, dict[tuple[str, str, str], Any]]) -> None:
        batches = [batch for group in groups for batch in group.packed()]
        dropped = [group.dropped for group in groups if group.dropped is not None]
        now_ms, now_s = self._known_ms(), time.monotonic()
        try:
            self._store.commit(batches, positions, dropped, now_ms, now_s)
        except StoreFault as fault:
            if not fault.is_full or not self._store.give_up_reserve():
                raise
            self._tidy_s = 0.0
            self._store.commit(batches, positions, dropped, now_ms, now_s)

    def _report(self, count: int) -> None:
        """The first so many groups are on disk."""
        with self._something:
            groups = [self._queue.popleft() for _group in range(count)]
            self._in_hand = self._tried = 0
            if self._packed_bytes is not None:
                self._packed_bytes -= sum(group.bytes for group in groups)
        self._stored_bytes += sum(batch.stored_bytes for group in groups for batch in group.packed())
        self.stored.note(time.monotonic(), self._stored_bytes)
        self._is_giving_up = self._is_giving_up and not any(group.dropped for group in groups)
        self.committed.extend(groups)
        self._wake_up()

    def _tidy(self) -> None:
        """See from time to time how much there is; what is too much goes once its gaps are made."""
        now_s = time.monotonic()
        if now_s < self._tidy_s or self._is_giving_up:
            return
        self._store.keep_reserve()
        self._store.shrink()
        self.usage = self._store.usage()
        drop = drop_due(self.usage, self.keep, WAL_MAX_BYTES, self._store.lived_s(now_s))
        surplus = None if drop is None else self._store.what_goes(drop)
        if surplus is None:
            self._tidy_s = now_s + TIDY_S
            return
        self._is_giving_up = True
        self.surplus.append(surplus)
        self._wake_up()

    def _wake_up(self) -> None:
        with suppress(BlockingIOError):  # the pipe is full: that thread is being woken already
            os.write(self._wake, b"w")
