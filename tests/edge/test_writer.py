"""The writing thread's queue: what waits for a disk for hours, and gets there in the end. Without the thread.

The disk is real, and gone: something else lies in its place.
"""

import os
import random
from collections.abc import Iterator
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from edge import writer as writer_module
from edge.batch import Batch, Mark, Message, Row, bitmap
from edge.retention import Dropped, readings_max_bytes
from edge.store import STREAMS, WAL_MAX_BYTES, Store, StoreFault
from edge.writer import Group, Writer
from protocols.model import StoreSettings
from tests.edge.test_store import BIRTH, NOW_MS, commit, damage_pages, one_second, open_store

KEEP = StoreSettings("store", max_bytes=50 * 10**6, readings_days=30, alarms_days=365)
MEMORY_BYTES = 1 << 20
ALARM_EVERY = 500


def mark(seq: int) -> Mark:
    return Mark("cab1", "4be01d77", 20 * seq, seq, NOW_MS + seq)


class Disk:
    """A store's folder that can be taken away, and the writer of it."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / "tankgate.db"
        self.store = open_store(folder)
        self.hears, self.wake = os.pipe()
        os.set_blocking(self.wake, False)
        self.writer = Writer(self.store, self.wake, KEEP, lambda: NOW_MS)
        self.seq = self.alarms = 0

    def take_away(self, is_well: bool = True) -> None:
        """Something else lies in its place; it was well until now, or a commit has failed before."""
        self.path.rename(self.path.with_name("away"))
        self.path.mkdir()
        if is_well:
            self.store._let_go()
            self.put()
        self.writer.work()
        assert self.writer.gone

    def bring_back(self) -> None:
        """It lies in its place again."""
        self.path.rmdir()
        self.path.with_name("away").rename(self.path)

    def put(
        self, *, is_told: bool = True, payload: bytes = b"x" * 700, surplus: Dropped | None = None
    ) -> list[Dropped]:
        """A second: a data message with the payload that it was made with, and now and then an alarm."""
        self.seq += 1
        messages = [Message("data", self.seq, "data", BIRTH, bytes(5000), bitmap([0], 1))]
        if self.seq % ALARM_EVERY == 0 or not is_told:
            self.alarms += 1
            messages.append(Message("event", self.alarms, "alarm", BIRTH, payload, None))
        group = Group([Batch(BIRTH, (), (), (mark(self.seq),), tuple(messages))], 0.0, surplus)
        given_up = self.writer.put(group, 0.0)
        if is_told and self.writer.gone:
            group.told.update(STREAMS)
            group.forget_payloads()
        return given_up

    def _messages(self, stream: str) -> list[Message]:
        batches = [each for group in self.writer.waiting() for each in group.batches]
        return [message for each in batches for message in each.messages if message.stream == stream]

    def numbers(self, stream: str) -> list[int]:
        """Of what waits."""
        return [message.seq for message in self._messages(stream)]

    def payloads(self, stream: str) -> list[bytes | None]:
        """As they are kept."""
        return [message.payload for message in self._messages(stream)]


@pytest.fixture
def disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Disk]:
    """With little memory, so that a day is soon over."""
    monkeypatch.setattr(writer_module, "MEMORY_MAX_BYTES", MEMORY_BYTES)
    monkeypatch.setattr(writer_module, "MEMORY_LOT_BYTES", MEMORY_BYTES // 10)
    disk = Disk(tmp_path)
    yield disk
    disk.store.close()
    os.close(disk.hears)
    os.close(disk.wake)


def given_up_in(disk: Disk, seconds: int) -> list[Dropped]:
    return [dropped for _second in range(seconds) for dropped in disk.put()]


def test_days_without_a_disk_cost_readings_and_neither_alarms_nor_memory_nor_what_boards_are_told(disk: Disk) -> None:
    disk.take_away()
    surplus = Dropped("data", "disk_quota", last_batch=1)
    disk.put(surplus=surplus)
    given_up = given_up_in(disk, 20_000)
    waiting = disk.writer.waiting()
    assert sum(group.bytes for group in waiting) <= MEMORY_BYTES and len(waiting) < MEMORY_BYTES // 500
    assert 0 < len(given_up) < 200  # in lots: to look through all that waits takes its time
    assert {each.stream for each in given_up} == {"data"}
    assert not any(disk.payloads("data")[1:])  # it is made again; the first was in the commit that failed
    told = [each.numbers[disk.store.epoch] for each in given_up]
    kept = disk.numbers("data")
    assert told[0][0] == 2 and kept[0] == 1
    assert all(last + 1 == first for (_first, last), (first, _last) in pairwise([*told, (kept[1], 0)]))
    assert kept[1:] == list(range(kept[1], disk.seq + 1))
    disk.bring_back()
    disk.writer.work()
    assert disk.writer.gone == "" and disk.writer.waiting() == []
    assert disk.store.epochs()[disk.store.epoch] == {"data": (1, disk.seq), "event": (1, disk.alarms)}
    assert disk.store.taken() == [mark(disk.seq)]
    taken = [each for group in disk.writer.committed for batch in group.batches for each in batch.taken]
    assert taken[-1] == mark(disk.seq)
    assert [group.dropped for group in disk.writer.committed if group.dropped] == [surplus]


def test_what_may_not_be_sent_yet_is_not_given_up(disk: Disk) -> None:
    disk.take_away()
    given_up_in(disk, 10_000)
    untold = []
    for _time in range(5):  # an alarm flood in one turn, with more bytes than there may be
        disk.put(is_told=False, payload=bytes(MEMORY_BYTES // 2))
        untold.append(disk.seq)
    assert [seq for seq in disk.numbers("data") if seq in untold] == untold
    assert len([payload for payload in disk.payloads("event") if len(payload) > 1000]) == 5


def test_what_a_failed_commit_left_on_disk_all_the_same_is_neither_given_up_nor_stored_twice(disk: Disk) -> None:
    disk.put()
    disk.writer.work()
    commit = disk.store.commit

    def lies(*arguments: Any) -> None:
        commit(*arguments)
        disk.store._tried = (1, ("data", 2))  # as it is where a commit fails
        raise StoreFault("input/output error")

    disk.put()
    disk.put()
    disk.store.commit = lies
    disk.writer.work()
    disk.take_away(is_well=False)
    given_up = given_up_in(disk, 10_000)
    assert given_up[0].numbers[disk.store.epoch][0] == 4
    del disk.store.commit
    disk.bring_back()
    disk.writer.work()
    assert disk.writer.gone == "" and disk.store.epochs()[disk.store.epoch]["data"] == (1, disk.seq)
    committed = [message for group in disk.writer.committed for each in group.batches for message in each.messages]
    assert [message.seq for message in committed if message.stream == "data"][:3] == [1, 2, 3]


@pytest.mark.parametrize(("max_bytes", "waiting"), [(6 * 10**6, 1), (9 * 10**6, 500)])  # it was lowered; an outage
def test_what_comes_finds_room_in_a_store_that_has_none_and_the_oldest_goes_for_it(
    tmp_path: Path, max_bytes: int, waiting: int
) -> None:
    chance = random.Random(1)
    rows = tuple(Row(0, i, i % 20, chance.random(), 0, 0) for i in range(250))

    def second(seq: int) -> Group:
        return Group([replace(one_second(seq), rows=rows, messages=one_second(seq).messages[:1])], 0.0)

    def used_bytes(store: Store) -> int:
        return store.usage().file_bytes - store.usage().unused_bytes

    store = open_store(tmp_path, max_bytes=9 * 10**6)
    while used_bytes(store) < 4_200_000:
        store.commit([each for seq in range(50) for each in second(store._next_batch + seq).packed()], {})
    store.close()
    store = open_store(tmp_path, max_bytes=max_bytes)
    keep = StoreSettings("store", max_bytes, readings_days=30, alarms_days=365)
    hears, wake = os.pipe()
    os.set_blocking(wake, False)
    writer = Writer(store, wake, keep, lambda: NOW_MS)
    for seq in range(1, waiting + 1):
        writer.put(second(seq), 0.0)
    for _time in range(10):
        writer.work()
        while writer.surplus:
            writer.put(Group([], 0.0, writer.surplus.popleft()), 0.0)
    assert (writer.gone, writer.waiting()) == ("", [])
    assert used_bytes(store) <= readings_max_bytes(keep, WAL_MAX_BYTES)
    assert store.epochs()[store.epoch]["data"] == (1, waiting)
    os.close(hears)
    os.close(wake)


@pytest.mark.parametrize("page", [0, 3])  # the oldest batches; some that are to go
def test_where_damage_keeps_the_oldest_from_going_the_file_is_set_aside(tmp_path: Path, page: int) -> None:
    store = open_store(tmp_path)
    commit(store, [one_second(seq) for seq in range(1, 301)])
    commit(store, [one_second(seq) for seq in range(301, 304)])
    store.close()
    damage_pages(tmp_path / "tankgate.db", "batch", page, 1)
    store = open_store(tmp_path)
    assert store.notes == []
    hears, wake = os.pipe()
    os.set_blocking(wake, False)
    writer = Writer(store, wake, replace(KEEP, max_bytes=4_300_000), lambda: NOW_MS)
    told = []
    for seq in range(1, 6):
        writer.put(Group([one_second(seq)], 0.0), 0.0)
        writer.work()
        told.append(writer.gone != "")
    assert told == [True, False, False, False, False]
    assert [note.action for note in store.notes] == ["store_set_aside"]
    assert store.epochs()[store.epoch]["event"] == (2, 5)  # the first was in the file that is set aside
    os.close(hears)
    os.close(wake)


def test_what_waited_for_hours_is_committed_in_pieces(disk: Disk, monkeypatch: pytest.MonkeyPatch) -> None:
    """A transaction of hours would be slower than a disk that answers."""
    monkeypatch.setattr(writer_module, "MEMORY_MAX_BYTES", 10**9)
    disk.take_away()
    given_up_in(disk, 2500)
    sizes, commit = [], disk.store.commit
    disk.store.commit = lambda batches, *rest: sizes.append(len(batches)) or commit(batches, *rest)
    disk.bring_back()
    disk.writer.work()
    assert sizes == [1000, 1000, 501] and disk.writer.waiting() == []
