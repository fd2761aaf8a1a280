"""The store: everything or nothing, the same bytes again, and no file that keeps it from starting."""

import json
import os
import random
import re
import secrets
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from shutil import copy
from typing import Any

import apsw
import pytest

from edge import store as store_module
from edge.batch import Batch, Held, Mark, Message, Row, Section, bitmap, data_payload, filed, message_order
from edge.export import records
from edge.retention import Drop, Dropped, drop_due
from edge.store import PAGE_BYTES, SCHEMA, WAL_MAX_BYTES, DamagedMessage, Positions, Store, StoreFault, reading
from edge.timebase import Clock
from edge.writer import Writer
from hil_tests.disk import Disk
from protocols.model import StoreSettings

NOW_MS = 1_795_400_000_000
DAY_MS = 86_400_000
BIRTH = "d1c1a179"
CONTENT = {
    "site": {"name": "示例"},
    "points": [{"point": f"GD{i:02}.gas", "type": "f32", "unit": "%{LEL}"} for i in range(20)],
}
CAB1 = Section("cab1", "4be01d77", Clock("synced", 7, NOW_MS, 0))
NO_CLOCK = Section("cab1", "4be01d77", Clock("unsynced", None, None, 0))


def open_store(
    directory: Path, now_ms: int = NOW_MS, gateway: str = "jt-0042", max_bytes: int = 50 * 10**6, machine: str = ""
) -> Store:
    store = Store(
        directory / "tankgate.db", gateway, now_ms, secrets.token_bytes, max_bytes=max_bytes, machine=machine
    )
    store.save_birth(BIRTH, CONTENT)
    store.open(now_ms)
    return store


def commit(store: Store, batches: Sequence[Batch], positions: Mapping[str, Positions] | None = None) -> None:
    store.commit([filed(batch) for batch in batches], positions or {}, now_utc_ms=NOW_MS)


def one_second(seq: int, section: Section = CAB1) -> Batch:
    """20 readings, every third one reported in data message `seq`, and event `seq`."""
    rows = tuple(Row(0, 1000 * seq + i, i, seq + i / 10, 0, 0) for i in range(20))
    messages = (
        Message("data", seq, "data", BIRTH, None, bitmap(range(0, 20, 3), 20)),
        Message("event", seq, "gap", BIRTH, event_payload(seq), None),
    )
    return Batch(BIRTH, (section,), rows, (Mark("cab1", "4be01d77", 20 * seq, seq, NOW_MS + seq),), messages)


def at_minute(minute: int, seq: int) -> Batch:
    """One reading of that minute after NOW_MS."""
    row = Row(0, minute * 60_000, 0, 1.5, 0, 0)
    return Batch(BIRTH, (CAB1,), (row,), (), (Message("data", seq, "data", BIRTH, None, bitmap([0], 1)),))


def event_payload(seq: int) -> bytes:
    return f'{{"event":{seq}}}'.encode()


def live_payload(store: Store, batch: Batch, seq: int) -> bytes:
    points = CONTENT["points"]
    order = message_order(points, batch.sections, batch.rows, range(0, 20, 3))
    return data_payload("jt-0042", store.epoch, seq, BIRTH, points, batch.sections, batch.rows, order)


def test_what_a_unit_is_known_by_is_committed_with_its_batch_and_outlives_it(tmp_path: Path) -> None:
    old = Held("gas-a", 3, "msa-ultima-x", 3, 40005, 9, b"old", b"old")
    new = old._replace(seen=b"new")
    base = Held("gas-a", 3, "msa-ultima-x", 3, 1000, 1, None, b"\x9c\x40")
    store = open_store(tmp_path)
    assert store.held() == []
    commit(store, [replace(one_second(1), held=(old, base)), replace(one_second(2), held=(new,))])
    store.close()
    again = open_store(tmp_path)
    assert sorted(again.held()) == [base, new]
    with pytest.raises(StoreFault):
        commit(again, [replace(one_second(3), held=(old,)), one_second(3)])  # its second half cannot be stored
    assert sorted(again.held()) == [base, new]
    again.close()


def test_a_committed_message_is_the_same_bytes_after_a_restart(tmp_path: Path) -> None:
    first = open_store(tmp_path)
    commit(first, [one_second(1), one_second(2)])
    live = live_payload(first, one_second(2), 2)
    assert first.payload(first.epoch, "data", 2) == ("data", live)
    first.close()

    again = open_store(tmp_path, NOW_MS + 60_000)
    assert again.notes == []
    assert again.payload(first.epoch, "data", 2) == ("data", live)
    assert again.payload(first.epoch, "event", 1) == ("gap", event_payload(1))
    assert again.payload(first.epoch, "data", 3) is None
    assert again.payload(again.epoch, "data", 2) is None


@pytest.mark.parametrize(
    ("minutes", "days", "clock_ms", "goes"),
    [
        ((0, 10), 1, NOW_MS + 3650 * DAY_MS, False),  # only the clock says that they are old
        ((-6 * 525_600, 0), 1, NOW_MS + DAY_MS, False),  # taken while a trusted clock was wrong by years
        ((0, 31 * 1440), 31, NOW_MS + 31 * DAY_MS, True),
        ((10 * 525_600, 31 * 1440), 31, NOW_MS + 31 * DAY_MS, True),
        ((0, 31 * 1440), 31, None, True),  # no clock was ever known
    ],
)
def test_the_writer_gives_up_by_age_what_time_made_old_and_not_a_clock(
    tmp_path: Path, minutes: tuple[int, int], days: int, clock_ms: int | None, goes: bool
) -> None:
    """One reading at the beginning, another so many days later, and the gateway starts again."""
    first = open_store(tmp_path)
    for seq, (minute, day) in enumerate(zip(minutes, (0, days), strict=True), start=1):
        first.commit([filed(at_minute(minute, seq))], {}, now_s=5000.0 + day * 86_400)
    first.close()
    store = open_store(tmp_path)
    keep = StoreSettings("store", max_bytes=50 * 10**6, readings_days=30, alarms_days=365)
    hears, wake = os.pipe()
    try:
        writer = Writer(store, wake, keep, lambda: clock_ms)
        writer.work()
        assert [dropped.numbers for dropped in writer.surplus] == [{first.epoch: (1, 1)}] * goes
    finally:
        store.close()
        os.close(hears)
        os.close(wake)


def test_another_gateway_in_the_site_file_does_not_change_what_was_made(tmp_path: Path) -> None:
    first = open_store(tmp_path)
    commit(first, [one_second(1)])
    live = live_payload(first, one_second(1), 1)
    first.close()
    again = open_store(tmp_path, gateway="jt-0099")
    assert again.payload(first.epoch, "data", 1) == ("data", live)


def test_history_keeps_every_reading_whether_reported_or_not(tmp_path: Path) -> None:
    store = open_store(tmp_path)
    batch = one_second(1)
    commit(store, [Batch(BIRTH, batch.sections, batch.rows, (), ())])
    store.close()
    ((readings, from_ms, to_ms),) = apsw.Connection(str(tmp_path / "tankgate.db")).execute(
        "SELECT readings, from_ms, to_ms FROM batch"
    )
    assert store_module.unpack(readings) == (batch.sections, batch.rows)
    assert (from_ms, to_ms) == (NOW_MS + 1000, NOW_MS + 1019)


def test_readings_without_a_clock_are_kept_without_a_time(tmp_path: Path) -> None:
    store = open_store(tmp_path)
    commit(store, [one_second(1, NO_CLOCK)])
    found = store.payload(store.epoch, "data", 1)
    assert found is not None
    assert json.loads(found[1])["boot"] == "cab1/4be01d77"


def test_each_opening_has_an_epoch_beyond_all_in_the_store_whatever_the_clock_says(tmp_path: Path) -> None:
    epochs = []
    for now_ms in (NOW_MS, NOW_MS, 0, NOW_MS + 3650 * DAY_MS, NOW_MS, NOW_MS + 1):
        store = open_store(tmp_path, now_ms)
        commit(store, [one_second(1)])
        epochs.append(store.epoch)
        known = store.epochs()
        store.close()
    assert epochs == sorted(set(epochs)) and len(epochs) == 6
    assert all(re.fullmatch("[0-9A-Z]{16}", epoch) for epoch in epochs)
    assert list(known) == epochs  # oldest first
    assert known[epochs[0]] == {"data": (1, 1), "event": (1, 1)}


def test_one_whose_epoch_is_known_keeps_it_when_its_store_opens_at_last(tmp_path: Path) -> None:
    open_store(tmp_path, NOW_MS).close()
    (tmp_path / "tankgate.db").rename(tmp_path / "there")
    (tmp_path / "tankgate.db").mkdir()
    store = Store(tmp_path / "tankgate.db", "jt-0042", 0, secrets.token_bytes)
    with pytest.raises(StoreFault):
        store.open(0)
    epoch = store.epoch  # in messages that are out already
    (tmp_path / "tankgate.db").rmdir()
    (tmp_path / "there").rename(tmp_path / "tankgate.db")
    store.open(0)
    assert store.epoch == epoch
    store.close()
    assert open_store(tmp_path, 0).epoch[:10] == "01M832VRG1"  # a millisecond beyond the greatest


def test_a_damaged_name_of_an_epoch_keeps_nobody_from_starting(tmp_path: Path) -> None:
    open_store(tmp_path).close()
    connection = apsw.Connection(str(tmp_path / "tankgate.db"))
    connection.execute("UPDATE epoch SET epoch = '~' || epoch")
    connection.close()
    assert re.fullmatch("[0-9A-Z]{16}", open_store(tmp_path).epoch)


def test_an_epoch_that_said_nothing_is_not_listed_later(tmp_path: Path) -> None:
    silent = open_store(tmp_path)
    assert silent.epochs() == {silent.epoch: {"data": (1, 0), "event": (1, 0)}}
    silent.close()
    later = open_store(tmp_path, NOW_MS + 1)
    assert list(later.epochs()) == [later.epoch]


def test_the_first_record_not_on_disk_is_known_of_each_boards_newest_boot(tmp_path: Path) -> None:
    store = open_store(tmp_path)
    newest = [Mark("cab1", "00000002", 3, 9, None), Mark("cab2", "c2905a3e", 77, 9, NOW_MS)]
    old_and_new = (Mark("cab1", "4be01d77", 500, 9, NOW_MS), *newest)
    commit(store, [one_second(1), Batch(BIRTH, (), (), old_and_new, ())])
    store.close()
    assert open_store(tmp_path).taken() == newest


def test_marks_ride_in_batches_and_neither_a_restart_nor_retention_forgets_them(tmp_path: Path) -> None:
    store = open_store(tmp_path)
    quiet = Mark("cab2", "c2905a3e", 77, 9, NOW_MS)
    commit(store, [replace(one_second(1), taken=(*one_second(1).taken, quiet))])
    for seq in range(2, 61):
        commit(store, [one_second(seq)])
    table = apsw.Connection(str(tmp_path / "tankgate.db")).execute("SELECT next_record FROM taken")
    assert table.fetchall() == [(20,), (77,)]
    store.close()
    store = open_store(tmp_path, NOW_MS + 1)
    assert store.taken() == [Mark("cab1", "4be01d77", 1200, 60, NOW_MS + 60), quiet]
    commit(store, [one_second(1)])
    commit(store, [one_second(2)])
    goes = store.what_goes(Drop("data", "retention", NOW_MS * 2, 0))
    assert goes is not None and goes.last_batch == 62
    store.commit([], {}, [goes])
    store.close()
    assert open_store(tmp_path, NOW_MS + 2).taken() == [Mark("cab1", "4be01d77", 40, 2, NOW_MS + 2), quiet]


def test_positions_replace_those_of_the_same_destination_and_stream_only(tmp_path: Path) -> None:
    store = open_store(tmp_path)
    epoch = store.epoch
    data, event = (epoch, "data", "broker"), (epoch, "event", "broker")
    commit(store, [], {"district": {data: [(1, 5), (9, 9)], (epoch, "data", "receipt"): [(1, 3)], event: [(1, 2)]}})
    commit(store, [one_second(1)], {"district": {data: [(1, 9)]}, "backup": {data: [(1, 1)]}})
    store.close()
    again = open_store(tmp_path)
    assert again.positions("district") == {data: [(1, 9)], (epoch, "data", "receipt"): [(1, 3)], event: [(1, 2)]}
    assert again.positions("backup") == {data: [(1, 1)]}
    assert again.positions("nobody") == {}


def test_plans_and_births_are_kept(tmp_path: Path) -> None:
    store = open_store(tmp_path)
    store.save_plan("cab1", 7, b"\x01\x02", '{"seven":1}')
    store.save_plan("cab1", 7, b"other", "other")  # a generation never changes
    store.save_plan("cab1", 9, b"\x03", '{"nine":1}')
    store.close()
    again = open_store(tmp_path)
    assert again.plans("cab1") == [(7, '{"seven":1}'), (9, '{"nine":1}')]
    assert again.plans("cab2") == []
    assert again.births() == {BIRTH: CONTENT}


def test_the_file_is_made_for_a_memory_card(tmp_path: Path) -> None:
    store = open_store(tmp_path)
    settings = {
        name: store._writer.pragma(name) for name in ("page_size", "auto_vacuum", "journal_mode", "synchronous")
    }
    assert settings == {"page_size": 2048, "auto_vacuum": 2, "journal_mode": "wal", "synchronous": 2}


# --- all or nothing -----------------------------------------------------------------------------------------


def test_a_commit_that_fails_leaves_nothing_behind(tmp_path: Path) -> None:
    store = open_store(tmp_path)
    commit(store, [one_second(1)])
    with pytest.raises(StoreFault, match="UNIQUE") as fault:
        commit(store, [one_second(2), one_second(1)], {"district": {(store.epoch, "data", "broker"): [(1, 1)]}})
    assert isinstance(fault.value.__cause__, apsw.ConstraintError)
    assert store.epochs() == {store.epoch: {"data": (1, 1), "event": (1, 1)}}
    assert [mark.next_record for mark in store.taken()] == [20]
    assert store.positions("district") == {}
    commit(store, [one_second(2)])
    assert store.payload(store.epoch, "event", 2) == ("gap", event_payload(2))


# Commits second after second and says which are on disk.
COMMITS = """
import random, sys
from pathlib import Path
sys.path.insert(0, {root!r})
from tests.edge.test_store import commit, one_second, open_store
store = open_store(Path(sys.argv[1]))
print(store.epoch, flush=True)
seq = 0
while True:
    seq += 1
    commit(store, [one_second(seq)])
    print(seq, flush=True)
"""
ROOT = Path(__file__).parents[2]


def test_what_a_killed_process_had_committed_is_there(tmp_path: Path) -> None:
    for kill in range(3):
        program = [sys.executable, "-c", COMMITS.format(root=str(ROOT)), str(tmp_path)]
        with subprocess.Popen(program, stdout=subprocess.PIPE, text=True) as process:
            assert process.stdout is not None
            epoch = process.stdout.readline().strip()
            for _ in range(30 + kill):
                process.stdout.readline()
            process.send_signal(signal.SIGKILL)
            said = [int(line) for line in process.stdout.read().split()]
        store = open_store(tmp_path, NOW_MS + kill)
        assert store.notes == []
        last = store.epochs()[epoch]["data"][1]
        assert last in (said[-1], said[-1] + 1) if said else last >= 30 + kill
        assert [mark.next_record for mark in store.taken()] == [20 * last]
        assert all(store.payload(epoch, "data", seq) for seq in range(1, last + 1))
        store.close()


# No file may grow beyond a limit, as on a full disk; then it may again.
FULL = """
import resource, sys
from pathlib import Path
sys.path.insert(0, {root!r})
from edge.store import StoreFault
from tests.edge.test_store import commit, one_second, open_store
store = open_store(Path(sys.argv[1]))
resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, resource.RLIM_INFINITY))
seq = 0
try:
    while True:
        commit(store, [one_second(seq + 1)])
        seq += 1
except StoreFault as fault:
    print(type(fault.__cause__).__name__, file=sys.stderr)
assert store.epochs()[store.epoch]["data"][1] == seq, "half a commit"
resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
commit(store, [one_second(seq + 1)])
store.close()
print(seq + 1)
"""


def test_a_disk_that_takes_no_more_is_a_fault_and_the_same_batch_can_be_given_again(tmp_path: Path) -> None:
    program = [sys.executable, "-c", FULL.format(root=str(ROOT)), str(tmp_path)]
    last = int(subprocess.run(program, check=True, capture_output=True, text=True).stdout)
    store = open_store(tmp_path, NOW_MS + 1)
    assert store.notes == []
    (streams,) = (streams for epoch, streams in store.epochs().items() if epoch != store.epoch)
    assert streams == {"data": (1, last), "event": (1, last)}


def test_another_thread_reads_while_this_one_commits(tmp_path: Path) -> None:
    store = open_store(tmp_path)
    commit(store, [one_second(1)])
    expected = store.payload(store.epoch, "data", 1)
    ended = threading.Event()
    found = []

    def read() -> None:
        while not ended.is_set():
            found.append(store.payload(store.epoch, "data", 1))

    reader = threading.Thread(target=read)
    reader.start()
    for seq in range(2, 150):
        commit(store, [one_second(seq)])
    ended.set()
    reader.join()
    assert len(found) > 10
    assert all(each == expected for each in found)


# --- files that cannot be used ------------------------------------------------------------------------------


def cut_in_half(file: Path) -> None:
    with file.open("r+b") as opened:
        opened.truncate(file.stat().st_size // 2)


def overwrite_root_pages(file: Path) -> None:
    with file.open("r+b") as opened:
        opened.seek(2048)
        opened.write(bytes(range(256)) * 200)


def make_foreign(file: Path) -> None:
    file.unlink()
    connection = apsw.Connection(str(file))
    connection.execute("CREATE TABLE somebody_elses (a)")
    connection.pragma("user_version", SCHEMA)
    connection.close()


def make_newer(file: Path) -> None:
    connection = apsw.Connection(str(file))
    connection.pragma("user_version", 99)
    connection.close()


def make_text(file: Path) -> None:
    file.write_text("not a database, but a note that somebody left here, and long enough to be looked at" * 9)


@pytest.mark.parametrize(
    ("spoil", "why"),
    [
        (cut_in_half, "bytes are left"),
        (overwrite_root_pages, "malformed"),
        (make_foreign, "another program"),
        (make_newer, "schema 99"),
        (make_text, "not a database"),
    ],
)
def test_a_file_that_cannot_be_used_is_set_aside_and_told(
    tmp_path: Path, spoil: Callable[[Path], None], why: str
) -> None:
    file = tmp_path / "tankgate.db"
    store = open_store(tmp_path)
    commit(store, [one_second(seq) for seq in range(1, 60)])
    store.close()
    spoil(file)
    content = file.read_bytes()

    anew = open_store(tmp_path, NOW_MS + 1)
    (note,) = anew.notes
    (aside,) = (each for each in tmp_path.glob("tankgate-*.db"))
    assert aside.name == "tankgate-20261123T021320001Z.db"
    assert note.action == "store_set_aside" and why in note.text and aside.name in note.text
    assert aside.read_bytes() == content
    commit(anew, [one_second(1)])
    anew.close()
    assert open_store(tmp_path, NOW_MS + 2).notes == []


def test_a_second_file_set_aside_at_the_same_time_does_not_replace_the_first(tmp_path: Path) -> None:
    for _ in range(2):
        make_text(tmp_path / "tankgate.db")
        open_store(tmp_path).close()
    assert len(list(tmp_path.glob("tankgate-*.db"))) == 2


def test_damage_that_a_commit_has_met_is_not_trusted_by_the_next_opening(tmp_path: Path) -> None:
    open_store(tmp_path).close()
    (tmp_path / "tankgate.db-damaged").touch()
    store = open_store(tmp_path, NOW_MS + 1)
    assert len(store.notes) == 1
    store.close()
    assert open_store(tmp_path, NOW_MS + 2).notes == []


DAMAGES = [
    "UPDATE batch SET readings = substr(readings, 1, 40) WHERE id = 1",
    "DELETE FROM batch WHERE id = 1",
    "UPDATE message SET body = x'ffffffffff' WHERE stream = 'data' AND seq = 1",  # rows that are not there
]


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_batch_in_old_history_is_a_fault_of_its_messages_alone(tmp_path: Path, damage: str) -> None:
    store = open_store(tmp_path)
    commit(store, [one_second(1), one_second(2)])
    store.close()
    connection = apsw.Connection(str(tmp_path / "tankgate.db"))
    connection.execute(damage)
    connection.close()
    again = open_store(tmp_path, NOW_MS + 1)
    assert again.notes == []
    with pytest.raises(DamagedMessage, match="message 1 of stream data"):
        again.payload(store.epoch, "data", 1)
    assert again.payload(store.epoch, "event", 1) == ("gap", event_payload(1))
    assert again.payload(store.epoch, "data", 2) == ("data", live_payload(store, one_second(2), 2))


def damage_pages(file: Path, table: str, first: int, count: int) -> None:
    """So many of the leaves of a table in a store that is closed, from one on."""
    connection = apsw.Connection(str(file))
    sql = "SELECT pageno FROM dbstat WHERE name = ? AND pagetype = 'leaf' ORDER BY path"
    pages = [page for (page,) in connection.execute(sql, (table,))][first : first + count]
    connection.close()
    with file.open("r+b") as opened:
        for page in pages:
            opened.seek((page - 1) * PAGE_BYTES)
            opened.write(b"\xff" * PAGE_BYTES)


@pytest.mark.parametrize("table", ["batch", "message"])
def test_a_damaged_page_in_old_history_is_a_fault_of_what_lies_there_alone(tmp_path: Path, table: str) -> None:
    store = open_store(tmp_path)
    commit(store, [one_second(seq) for seq in range(1, 301)])
    store.close()
    damage_pages(tmp_path / "tankgate.db", table, 3, 1)
    again = open_store(tmp_path, NOW_MS + 1)
    damaged = []
    for seq in range(1, 301):
        try:
            assert again.payload(store.epoch, "data", seq) is not None
        except DamagedMessage:
            damaged.append(seq)
    assert 3 <= len(damaged) < 100 and damaged == list(range(damaged[0], damaged[-1] + 1))
    times_ms = again.times_ms((store.epoch, "data", seq) for seq in range(1, 301))
    assert [seq for (_epoch, _stream, seq), t_ms in times_ms.items() if t_ms is None] == damaged
    again.close()
    assert open_store(tmp_path, NOW_MS + 2).notes == []  # it stays in use: what can be read is to be sent


def test_where_a_stream_begins_or_ends_cannot_be_read_the_file_is_set_aside(tmp_path: Path) -> None:
    store = open_store(tmp_path)
    commit(store, [one_second(seq) for seq in range(1, 301)])
    store.close()
    damage_pages(tmp_path / "tankgate.db", "message", 0, 1)
    again = open_store(tmp_path, NOW_MS + 1)
    assert [note.action for note in again.notes] == ["store_set_aside"]
    assert again.epochs() == {again.epoch: {"data": (1, 0), "event": (1, 0)}}


def test_an_export_goes_on_beyond_damage_and_says_where_it_is(tmp_path: Path) -> None:
    store = open_store(tmp_path)
    commit(store, [one_second(seq) for seq in range(1, 301)])
    store._the_writer.execute("DELETE FROM message")  # whose events are none
    store.close()
    damage_pages(tmp_path / "tankgate.db", "batch", 3, 2)

    def exported(from_ms: int | None = None) -> list[dict[str, Any]]:
        with reading(tmp_path / "tankgate.db") as connection:
            return list(records(connection, from_ms, None, lambda _point: True))

    found = exported()
    (at,) = [at for at, each in enumerate(found) if each["record"] == "gap"]
    gap, before, after = found[at], found[at - 1], found[at + 1]
    assert (gap["cause"], gap["t_ms"], gap["until_ms"]) == ("disk_fault", before["t_ms"], after["t_ms"])
    missing = (after["t_ms"] - before["t_ms"]) // 1000
    assert len(found) - 1 == 20 * (300 - missing) and 5 < missing < 100
    later = exported(from_ms=after["t_ms"] + 20)  # a second reading: where the damage begins is not in this window
    assert later[0]["record"] == "gap" and later[1:] == found[at + 21 :]


@pytest.mark.parametrize("kept", ["data", "event"])  # which messages the damaged page is of
def test_damaged_messages_keep_no_reading_from_being_exported(tmp_path: Path, kept: str) -> None:
    store = open_store(tmp_path)
    gap = {"from_ms": 1, "to_ms": 2, "of": "data", "cause": "ring_full", "polls": 1, "polls_are": "at_most"}
    payload = json.dumps(gap | {"scope": {"board": "cab1", "bus": None}}).encode()
    commit(store, [one_second(seq) for seq in range(1, 301)])
    store._the_writer.execute("DELETE FROM message WHERE stream <> ?", (kept,))
    store._the_writer.execute("UPDATE message SET body = ? WHERE stream = 'event' AND seq < 300", (payload,))
    store._the_writer.execute("UPDATE message SET body = 'x' WHERE stream = 'event' AND seq = 300")
    store.close()
    damage_pages(tmp_path / "tankgate.db", "message", 1, 2)
    with reading(tmp_path / "tankgate.db") as connection:
        found = list(records(connection, None, None, lambda _point: True))
    causes = [each["cause"] for each in found if each["record"] == "gap"]
    assert len(found) - len(causes) == 20 * 300
    # Where gaps may be missing, that is told: two pages, and the last event, which is none.
    assert causes.count("disk_fault") == (2 if kept == "event" else 0)
    assert (kept == "event") == (200 < causes.count("ring_full") < 300)


@pytest.mark.parametrize("seed", range(20))
def test_whatever_lies_in_the_file_the_second_start_at_the_latest_has_a_store(tmp_path: Path, seed: int) -> None:
    chance = random.Random(seed)
    store = open_store(tmp_path)
    for seq in range(1, 80):
        commit(store, [one_second(seq)], {"district": {(store.epoch, "data", "broker"): [(1, seq)]}})
    store.close()
    file = tmp_path / "tankgate.db"
    damaged = bytearray(file.read_bytes())
    for _ in range(chance.choice([1, 3, 30])):
        begin = chance.randrange(len(damaged))
        end = min(begin + chance.choice([1, 20, 2048]), len(damaged))
        damaged[begin:end] = chance.randbytes(end - begin)
    file.write_bytes(damaged)
    for _start in range(2):
        store = open_store(tmp_path)
        try:
            for seq in range(1, 100):
                commit(store, [one_second(seq)], {"district": {(store.epoch, "data", "broker"): [(1, seq)]}})
        except StoreFault:
            continue
        finally:
            store.close()
        return
    pytest.fail(f"seed {seed}: no store after the second start")


def test_a_place_that_cannot_be_written_is_a_fault(tmp_path: Path) -> None:
    with pytest.raises(StoreFault, match="nowhere"):
        open_store(tmp_path / "nowhere")


def test_a_sqlite_that_can_lose_data_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(store_module, "SQLITE_MIN", (99, 0, 0))
    with pytest.raises(StoreFault, match=r"99\.0\.0"):
        open_store(tmp_path)


# --- what is given up ---------------------------------------------------------------------------------------


def test_the_oldest_batches_go_with_their_messages_and_nothing_else(tmp_path: Path) -> None:
    store = open_store(tmp_path)
    old = store.epoch
    data, event = (old, "data", "broker"), (old, "event", "broker")
    commit(store, [one_second(seq) for seq in range(1, 6)], {"district": {data: [(1, 5)], event: [(1, 5)]}})
    store.close()
    store = open_store(tmp_path, NOW_MS + 1)
    commit(store, [one_second(seq) for seq in range(1, 6)])
    drop = Drop("data", "disk_quota", None, 3 * len(filed(one_second(1)).readings or b"") - 9)
    goes = store.what_goes(drop)
    assert goes == Dropped("data", "disk_quota", NOW_MS + 1000, NOW_MS + 3019, 60, {old: (1, 3)}, 3)
    with pytest.raises(StoreFault):  # nothing goes where the gap that it leaves cannot be written
        store.commit([filed(one_second(1))], {}, [goes])
    assert store.epochs()[old] == {"data": (1, 5), "event": (1, 5)}
    store.commit([filed(one_second(6))], {}, [goes])
    assert store.epochs() == {
        old: {"data": (4, 5), "event": (1, 5)},
        store.epoch: {"data": (1, 6), "event": (1, 6)},
    }
    assert store.payload(old, "data", 3) is None and store.payload(old, "data", 4) is not None
    assert store.usage().oldest_ms == NOW_MS + 4019


def test_readings_around_an_alarm_stay_as_long_as_events_do(tmp_path: Path) -> None:
    store = open_store(tmp_path)
    for seq, minute in enumerate((0, 9, 11, 20, 22, 30, 32, 45, 99), start=1):
        raised_ms = (NOW_MS + 20 * 60_000,) if minute == 20 else ()
        store.commit([filed(replace(at_minute(minute, seq), raised_ms=raised_ms))], {}, now_s=minute * 60.0)
    goes = store.what_goes(Drop("data", "retention", 98 * 60, 0))
    assert goes is not None
    store.commit([], {}, [goes])
    usage = store.usage()
    assert usage.oldest_s == 99 * 60 and usage.kept_bytes > 0
    with reading(tmp_path / "tankgate.db") as connection:
        there = {record["t_ms"] for record in records(connection, None, None, lambda _point: True)}
    assert there == {NOW_MS + minute * 60_000 for minute in (11, 20, 22, 30, 99)}
    assert usage.oldest_kept_s == 11 * 60
    goes = store.what_goes(Drop("kept", "retention", 21 * 60, 0))
    assert goes is not None and (goes.numbers, goes.polls) == ({}, 2)
    store.commit([], {}, [goes])
    assert store.usage().oldest_kept_s == 22 * 60
    assert store.what_goes(Drop("kept", "retention", 22 * 60, 0)) is None


def test_readings_around_an_alarm_stay_also_where_no_clock_is_known(tmp_path: Path) -> None:
    store = open_store(tmp_path)
    for seq, minute in enumerate((0, 9, 11, 20, 30, 32), start=1):
        raised_ms = (1_460_001,) if minute == 20 else ()  # what the gateway's clock said
        batch = replace(at_minute(minute, seq), sections=(NO_CLOCK,), raised_ms=raised_ms)
        store.commit([filed(batch)], {}, now_s=minute * 60.0)
    goes = store.what_goes(Drop("data", "retention", 98 * 60, 0))
    assert goes is not None
    store.commit([], {}, [goes])
    with reading(tmp_path / "tankgate.db") as connection:
        there = [record["uptime_ms"] for record in records(connection, None, None, lambda _point: True)]
    assert there == [minute * 60_000 for minute in (11, 20, 30)]


def test_readings_are_set_apart_beside_earlier_ones_after_a_start_without_any_others(tmp_path: Path) -> None:
    for minute in (0, 60, 120):
        store = open_store(tmp_path)
        commit(store, [replace(at_minute(minute, 1), raised_ms=(NOW_MS + minute * 60_000,))])
        goes = store.what_goes(Drop("data", "retention", 1, 0))
        assert goes is not None
        store.commit([], {}, [goes])
        assert store.usage().oldest_s is None  # no board has spoken for as long as readings stay
        store.close()
    with reading(tmp_path / "tankgate.db") as connection:
        there = [record["t_ms"] for record in records(connection, None, None, lambda _point: True)]
    assert there == [NOW_MS + minute * 60_000 for minute in (0, 60, 120)]


def test_readings_of_a_wrong_year_that_go_take_no_alarm_along(tmp_path: Path) -> None:
    store = open_store(tmp_path)
    for seq, (minute, now_s) in enumerate(((5_256_000, 0.0), (60, 3600.0), (99, 5940.0)), start=1):
        batch = replace(at_minute(minute, seq), raised_ms=(NOW_MS + minute * 60_000,))
        store.commit([filed(batch)], {}, now_s=now_s)
    for stream, before_s in (("data", 60), ("kept", 60), ("data", 3700)):
        goes = store.what_goes(Drop(stream, "retention", before_s, 0))
        assert goes is not None and goes.polls == 1
        store.commit([], {}, [goes])
    assert store.usage().oldest_kept_s == 3600


@pytest.mark.parametrize("left_out", [{}, {"rows": ()}])  # all that is made, or events alone
def test_age_goes_on_from_the_file_whenever_it_opens(tmp_path: Path, left_out: dict[str, tuple[()]]) -> None:
    store = open_store(tmp_path)
    for now_s in (50.0, 950.0):
        store.commit([filed(replace(one_second(round(now_s)), **left_out))], {}, now_s=now_s)
    store.close()
    late = Store(tmp_path / "tankgate.db", "jt-0042", NOW_MS, secrets.token_bytes)
    assert late.lived_s(7.0) == 0
    late.open(NOW_MS)
    assert late.lived_s(67.0) >= 900 and late.lived_s(127.0) - late.lived_s(67.0) == 60


def test_for_want_of_room_nothing_is_set_apart(tmp_path: Path) -> None:
    store = open_store(tmp_path)
    commit(store, [at_minute(0, 1), Batch(BIRTH, (), (), (), (), raised_ms=(NOW_MS,))])
    goes = store.what_goes(Drop("data", "disk_quota", None, 1))
    assert goes is not None
    store.commit([], {}, [goes])
    assert store.usage().kept_bytes == 0


def test_by_size_as_many_go_as_give_the_bytes(tmp_path: Path) -> None:
    store = open_store(tmp_path)
    commit(store, [one_second(seq) for seq in range(1, 101)])
    ((length,),) = apsw.Connection(str(tmp_path / "tankgate.db")).execute("SELECT avg(length(readings)) FROM batch")
    goes = store.what_goes(Drop("data", "disk_quota", None, round(30 * length)))
    assert goes is not None and 28 <= goes.last_batch <= 32
    assert goes.numbers == {store.epoch: (1, goes.last_batch)} and goes.polls == 20 * goes.last_batch
    assert store.what_goes(Drop("data", "disk_quota", None, 0)) is None


def test_events_go_by_when_they_were_made_and_an_epoch_without_messages_goes_with_them(tmp_path: Path) -> None:
    store = open_store(tmp_path)
    old = store.epoch
    event = Batch(BIRTH, (), (), (), (Message("event", 1, "gap", BIRTH, event_payload(1), None),))
    store.commit([filed(event)], {"district": {(old, "event", "broker"): [(1, 1)]}}, now_utc_ms=NOW_MS, now_s=77.0)
    store.close()
    store = open_store(tmp_path, NOW_MS + 1)
    assert store.usage().oldest_event_s == store.lived_s(5000.0) == 0
    store.commit([filed(event)], {}, now_s=5060.0)  # no clock is known
    goes = store.what_goes(Drop("event", "retention", 30, 0))
    assert goes == Dropped("event", "retention", NOW_MS, NOW_MS, 1, {old: (1, 1)})
    store.commit([], {}, [goes])
    assert store.usage().oldest_event_s == 60
    assert list(store.epochs()) == [store.epoch] and store.positions("district") == {}
    store.close()
    assert list(open_store(tmp_path, NOW_MS + 2).epochs())[:1] == [store.epoch]


def test_the_file_stays_within_its_bytes_and_its_log_too(tmp_path: Path) -> None:
    """A year in a small store: what goes makes room for what comes, and the last tenth is for events."""
    max_bytes = 52 * 10**5
    keep = StoreSettings("", max_bytes, 30, 365)
    store = open_store(tmp_path, max_bytes=max_bytes)
    chance = random.Random(1)
    seq = 0
    for _minute in range(75):
        batches = []
        for _second in range(60):
            seq += 1
            rows = tuple(Row(0, 1000 * seq + i, i, chance.random(), 0, 0) for i in range(20))
            batches.append(filed(replace(one_second(seq), rows=rows)))
        store.commit(batches, {}, now_utc_ms=NOW_MS)
        while (drop := drop_due(store.usage(), keep, WAL_MAX_BYTES, 0)) is not None:
            goes = store.what_goes(drop)
            assert goes is not None and goes.stream == "data"
            store.commit([], {}, [goes])
    assert (tmp_path / "tankgate.db").stat().st_size <= max_bytes - WAL_MAX_BYTES
    assert (tmp_path / "tankgate.db-wal").stat().st_size <= WAL_MAX_BYTES
    first, last = store.epochs()[store.epoch]["data"]
    assert first > 300 and last == seq
    store.close()
    smaller = open_store(tmp_path, max_bytes=5 * 10**6)
    while (drop := drop_due(smaller.usage(), replace(keep, max_bytes=5 * 10**6), WAL_MAX_BYTES, 0)) is not None:
        goes = smaller.what_goes(drop)
        assert goes is not None
        smaller.commit([], {}, [goes])
    before = smaller.usage().file_bytes
    smaller.shrink()
    assert smaller.usage().file_bytes < before


# --- faults and what comes after ----------------------------------------------------------------------------

# A disk whose syncs and writes fail now and then, as libfiu makes them; the writing thread's way through it.
FAULTY = """
import sys
from pathlib import Path
sys.path.insert(0, {root!r})
from edge.store import StoreFault
from tests.edge.test_store import NOW_MS, commit, one_second, open_store
store, faults, landed = None, 0, 0
while store is None:
    try:
        store = open_store(Path(sys.argv[1]))
    except StoreFault:
        pass
for seq in range(1, 121):
    while True:
        try:
            if store._writer is None and store.open(NOW_MS):
                landed += 1
                break
            commit(store, [one_second(seq)])
            break
        except StoreFault:
            faults += 1
            store._let_go()
print(store.epoch, faults, landed)
"""


@pytest.mark.needs("fiu-run")
@pytest.mark.parametrize(
    "fault", ["posix/io/sync/fdatasync,probability=0.15,failinfo=5", "posix/io/rw/pwrite*,probability=0.03,failinfo=28"]
)
def test_through_every_fault_everything_is_stored_once(tmp_path: Path, fault: str) -> None:
    """A commit that failed may be on disk all the same: only what is read again tells."""
    program = [sys.executable, "-c", FAULTY.format(root=str(ROOT)), str(tmp_path)]
    ended = subprocess.run(
        ["fiu-run", "-x", "-c", f"enable_random name={fault}", *program], capture_output=True, text=True, check=True
    )
    epoch, faults, landed = ended.stdout.split()
    assert int(faults) > 3, ended.stdout
    store = open_store(tmp_path, NOW_MS + 1)
    assert store.notes == []
    assert store.epochs()[epoch] == {"data": (1, 120), "event": (1, 120)}
    connection = apsw.Connection(str(tmp_path / "tankgate.db"))
    assert connection.execute("SELECT count(*), min(id), max(id) FROM batch").fetchone() == (120, 1, 120)
    assert connection.execute("PRAGMA integrity_check").get == "ok"


def test_a_commit_that_landed_although_it_failed_is_found(tmp_path: Path) -> None:
    store = open_store(tmp_path)
    commit(store, [one_second(1)])
    for message in (("data", 2), None):  # of readings that are not reported there is none
        store._tried = (2, message)  # as after a fault
        assert not store.open(NOW_MS)
    for message in (("data", 1), None):
        store._tried = (1, message)
        assert store.open(NOW_MS)
    commit(store, [one_second(2)])
    assert store.epochs()[store.epoch]["data"] == (1, 2)


def test_what_is_in_the_log_after_a_fault_is_in_the_file_before_it_counts(tmp_path: Path) -> None:
    """Pages that a failed sync left unwritten are still read from the kernel's memory; copied, they are on disk."""
    store = open_store(tmp_path)
    commit(store, [one_second(1)])
    with reading(tmp_path / "tankgate.db") as export:  # while somebody reads, the log does not end with its writer
        assert export.execute("SELECT count(*) FROM batch").get == 1
        store.open(NOW_MS)
        copied = Path(copy(tmp_path / "tankgate.db", tmp_path / "copy.db"))
    with reading(copied) as connection:
        assert connection.execute("SELECT count(*) FROM batch").get == 1
    assert store.payload(store.epoch, "data", 1) is not None


def test_a_store_that_is_gone_is_not_begun_anew_where_its_disk_was(tmp_path: Path) -> None:
    store = open_store(tmp_path)
    for file in tmp_path.iterdir():
        file.unlink()
    with pytest.raises(StoreFault, match="there is no such file"):
        store.open(NOW_MS)
    assert list(tmp_path.iterdir()) == []


def test_a_file_that_is_found_damaged_is_set_aside_and_the_same_epoch_goes_on_in_a_new_one(tmp_path: Path) -> None:
    store = open_store(tmp_path)
    store.save_plan("cab1", 7, b"\x01", "{}")
    commit(store, [one_second(1)])
    (tmp_path / "tankgate.db-damaged").touch()
    assert not store.open(NOW_MS + 1)
    assert [note.action for note in store.notes] == ["store_set_aside"]
    commit(store, [one_second(2)])
    assert store.epochs() == {store.epoch: {"data": (2, 2), "event": (2, 2)}}
    assert store.payload(store.epoch, "data", 2) == ("data", live_payload(store, one_second(2), 2))
    assert store.plans("cab1") == [(7, "{}")]


def test_a_full_disk_gets_the_reserve(tmp_path: Path) -> None:
    store = open_store(tmp_path)
    reserve = tmp_path / "tankgate-reserve"
    assert reserve.stat().st_blocks * 512 >= 16 << 20  # really taken, not a hole
    assert store.give_up_reserve() and not store.give_up_reserve()
    assert store.usage().is_full and not reserve.exists()
    store.keep_reserve()
    assert not store.usage().is_full and reserve.exists()


@pytest.mark.parametrize("size_bytes", [0, 16 << 20])  # the cord was pulled while it was made; it was copied
def test_a_reserve_that_takes_no_room_is_made_again(tmp_path: Path, size_bytes: int) -> None:
    reserve = tmp_path / "tankgate-reserve"
    with reserve.open("wb") as file:
        file.truncate(size_bytes)
    open_store(tmp_path).close()
    assert reserve.stat().st_blocks * 512 >= 16 << 20


@pytest.mark.needs(*Disk.TOOLS)
def test_a_disk_without_any_room_gets_the_reserve_at_the_start_too(tmp_path: Path) -> None:
    disk = Disk(tmp_path / "disk.img", tmp_path / "disk")
    try:
        open_store(disk.mount_point).close()
        with (disk.mount_point / "others").open("wb", buffering=0) as others, suppress(OSError):
            while True:
                others.write(bytes(4096))
        store = open_store(disk.mount_point)
        commit(store, [one_second(1)])
        assert store.usage().is_full and not (disk.mount_point / "tankgate-reserve").exists()
        store.close()
    finally:
        disk.unmount()


def test_a_store_that_comes_from_another_machine_says_so(tmp_path: Path) -> None:
    for machine, told in (("a", []), ("a", []), ("b", ["store_moved"]), ("", []), ("b", [])):
        store = open_store(tmp_path, machine=machine)
        assert [note.action for note in store.notes] == told
        store.close()


def test_before_it_is_open_a_store_knows_what_it_was_told(tmp_path: Path) -> None:
    store = Store(tmp_path / "tankgate.db", "jt-0042", NOW_MS, secrets.token_bytes)
    store.save_birth(BIRTH, CONTENT)
    store.save_plan("cab1", 7, b"\x01", "{}")
    assert (store.births(), store.taken(), store.plans("cab1")) == ({BIRTH: CONTENT}, [], [])
    assert store.positions("district") == {}
    assert store.epochs() == {store.epoch: {"data": (1, 0), "event": (1, 0)}}
    batch = filed(one_second(1))
    assert store.payload_of(batch, batch.messages[0]) == live_payload(store, one_second(1), 1)
    with pytest.raises(StoreFault, match="not open"):
        store.commit([batch], {})
    store.open(NOW_MS)
    store.commit([batch], {})
    assert store.plans("cab1") == [(7, "{}")] and store.births() == {BIRTH: CONTENT}


def test_wherever_a_file_is_torn_there_is_a_store_and_what_is_missing_is_told(tmp_path: Path) -> None:
    """Each page boundary and each place between, near the front; then ever fewer."""
    store = open_store(tmp_path)
    commit(store, [one_second(seq) for seq in range(1, 200)], {"district": {(store.epoch, "data", "broker"): [(1, 9)]}})
    store.close()
    file = tmp_path / "tankgate.db"
    whole = file.read_bytes()
    begins = [0, 1, 15, 16, 99, 100, 101, 2047, 2048, 2049, *range(3000, len(whole), 7001), len(whole) - 1]
    for begin in begins:
        file.write_bytes(whole[:begin])
        torn = open_store(tmp_path, NOW_MS + begin)
        assert begin == 0 or [note.action for note in torn.notes] == ["store_set_aside"], begin
        commit(torn, [one_second(1)])
        torn.close()
        for other in tmp_path.iterdir():
            other.unlink()
