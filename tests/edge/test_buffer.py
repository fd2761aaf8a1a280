"""`tankgate buffer`, and receipts: a daemon, a broker, a store with history, and what a person is told of it."""

import csv
import io
import json
import os
import re
import secrets
import sqlite3
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from threading import Event
from typing import Any

import paho.mqtt.client as mqtt
import pytest
from paho.mqtt.enums import CallbackAPIVersion
from rich.cells import cell_len
from rich.console import Console

from edge.batch import Batch, Message, Row, Section, bitmap, filed
from edge.cli.buffer import _tables
from edge.export import records
from edge.feed_schemas import Schemas
from edge.store import FILE, Store, reading
from edge.timebase import Clock
from hil_tests.mosquitto import Mosquitto
from protocols.feeds import json_feed
from tests.edge.mosquitto import publish
from tests.edge.test_run_and_status import FOUND_A_FAULT, UNREACHABLE, USAGE, gateway_toml, running, tankgate

__all__ = ["gateway_toml"]

NOW_MS = 1_795_400_000_000  # 2026-11-23T10:13:20+08:00
GATEWAY = "jt-0042"
BIRTH = "d1c1a179"
CONTENT = {
    "points": [
        {"point": "TK101.level", "type": "f32", "unit": "m"},
        {"point": "GD01.gas", "type": "f32", "unit": "%{LEL}"},
    ]
}
NO_CLOCK = Section("cab2", "c2905a3e", Clock("unsynced", None, None, 0))


def second(seq: int, section: Section) -> Batch:
    rows = (Row(0, 1000 * seq, 0, 8.412, 0, 0), Row(0, 1000 * seq + 5, 1, None, 200, 0))
    return Batch(BIRTH, (section,), rows, (), (Message("data", seq, "data", BIRTH, None, bitmap([0, 1], 2)),))


def event(store: Store, seq: int, kind: str, **fields: Any) -> Batch:
    make = {"gap": json_feed.gap, "clock": json_feed.clock}[kind]
    payload = make(GATEWAY, store.epoch, seq, BIRTH, **fields)
    return Batch(BIRTH, (), (), (), (Message("event", seq, kind, BIRTH, payload, None),))


def make_history(folder: Path, base_ms: int, *later: Batch) -> Store:
    """10 seconds from then on, two of them before the clock of cab2 was known, and a gap in between; then `later`,
    when the gateway has run for 40 days.
    """
    folder.mkdir()
    store = Store(folder / FILE, GATEWAY, base_ms, secrets.token_bytes)
    store.save_birth(BIRTH, CONTENT)
    store.open(base_ms)
    synced = Section("cab1", "4be01d77", Clock("synced", 7, base_ms, 0))
    gap = event(
        store, 1, "gap", cause="ring_full", quality=json_feed.TimeQuality("synced", 7, None),
        begin=json_feed.Moment(base_ms + 4500), end=json_feed.Moment(base_ms + 7500), polls=6, polls_are="at_most",
        board="cab1",
    )  # fmt: skip
    clock = event(
        store, 2, "clock", boot="cab2/c2905a3e", from_uptime_ms=0, utc_at_uptime_0_ms=base_ms + 100_000, drift_ppm=0,
        err_ms=15,
    )  # fmt: skip
    before, after = ([second(seq, synced) for seq in seqs] for seqs in ((1, 2, 3, 4), (8, 9)))
    seconds = [*before, gap, *after, second(10, NO_CLOCK), second(11, NO_CLOCK), clock]
    store.commit([filed(batch) for batch in seconds], {}, now_utc_ms=base_ms)
    store.commit([filed(batch) for batch in later], {}, now_s=40 * 86_400.0)
    store.close()
    return store


@pytest.fixture
def history(gateway_toml: Path) -> Store:
    """Of a moment that is written in the tests."""
    return make_history(gateway_toml.parent / "store", NOW_MS)


@pytest.fixture
def recent(gateway_toml: Path) -> tuple[Store, int]:
    """Of an hour ago, and when that was: what a running daemon keeps."""
    base_ms = int(time.time() * 1000) - 3_600_000
    return make_history(gateway_toml.parent / "store", base_ms), base_ms


# --- export -------------------------------------------------------------------------------------------------


def exported(gateway_toml: Path, *options: str) -> list[dict[str, Any]]:
    ended = tankgate("buffer", "export", gateway_toml, "--json", *options)
    assert ended.returncode == 0, ended.stderr
    return [json.loads(line) for line in ended.stdout.splitlines()]


def test_everything_comes_out_with_its_time_and_quality_and_gaps_in_their_place(
    gateway_toml: Path, history: Store
) -> None:
    found = exported(gateway_toml)
    assert [each["record"] for each in found] == ["reading"] * 8 + ["gap"] + ["reading"] * 8
    assert found[0] == {
        "record": "reading", "time": "2026-11-23T10:13:21.000+08:00", "t_ms": NOW_MS + 1000, "point": "TK101.level",
        "value": 8.412, "unit": "m", "quality": "GOOD", "status": 0, "detail": 0, "time_kind": "synced", "err_ms": 7,
        "boot": "cab1/4be01d77", "uptime_ms": 1000,
    }  # fmt: skip
    assert (found[1]["value"], found[1]["quality"], found[1]["status"]) == (None, "BAD", 200)
    assert (found[8]["cause"], found[8]["time"], found[8]["polls"]) == ("ring_full", "2026-11-23T10:13:24.500+08:00", 6)
    resolved = found[-1]
    assert (resolved["time_kind"], resolved["err_ms"], resolved["t_ms"]) == ("resolved", 15, NOW_MS + 111_005)


def test_a_window_and_a_pattern_choose(gateway_toml: Path, history: Store) -> None:
    window = ("--from", "2026-11-23T10:13:22", "--to", "2026-11-23T10:13:24.200+08:00", "--point", "TK*")
    assert [each["t_ms"] - NOW_MS for each in exported(gateway_toml, *window)] == [2000, 3000, 4000]
    whole_day = exported(gateway_toml, "--to", "2026-11-23", "--point", "GD??.gas", "--point", "nothing")
    assert [each["record"] for each in whole_day].count("reading") == 8
    assert exported(gateway_toml, "--from", "2026-11-24") == []
    nothing = tankgate("buffer", "export", gateway_toml, "--point", "TK999.*")
    assert nothing.returncode == 0 and "no reading of these points" in nothing.stderr
    assert "no reading" not in tankgate("buffer", "export", gateway_toml, "--point", "TK*").stderr


def test_a_table_for_a_spreadsheet(gateway_toml: Path, history: Store, tmp_path: Path) -> None:
    ended = tankgate("buffer", "export", gateway_toml, "--output", tmp_path / "out.csv")
    assert (ended.returncode, ended.stdout) == (0, "")
    rows = list(csv.DictReader(io.StringIO((tmp_path / "out.csv").read_text(encoding="utf-8"))))
    assert len(rows) == 17 and rows[0]["value"] == "8.412" and rows[1]["value"] == ""
    assert rows[8]["until"] == "2026-11-23T10:13:27.500+08:00"


def test_a_store_is_not_overwritten_by_its_own_export(gateway_toml: Path, history: Store, tmp_path: Path) -> None:
    store = gateway_toml.parent / "store"
    (tmp_path / "link.csv").symlink_to(store / FILE)
    before = {path: path.read_bytes() for path in store.iterdir()}
    for output in (*(store / f"{FILE}{end}" for end in ("", "-wal", "-shm", "-damaged")), tmp_path / "link.csv"):
        ended = tankgate("buffer", "export", gateway_toml, "--output", output)
        assert ended.returncode == USAGE
        assert f"{output}: lies in the store's own folder" in ended.stderr and "elsewhere" in ended.stderr
        assert {path: path.read_bytes() for path in store.iterdir()} == before


def test_a_batch_that_cannot_be_read_is_a_gap_and_an_exit_code(gateway_toml: Path, history: Store) -> None:
    with closing(sqlite3.connect(gateway_toml.parent / "store" / FILE)) as file, file:
        file.execute("UPDATE batch SET readings = substr(readings, 1, 20) WHERE id = 2")
    ended = tankgate("buffer", "export", gateway_toml, "--json")
    assert ended.returncode == FOUND_A_FAULT and "cannot be read" in ended.stderr
    gap = json.loads(ended.stdout.splitlines()[2])
    assert (gap["record"], gap["cause"], gap["t_ms"]) == ("gap", "disk_fault", NOW_MS + 2000)
    assert len(ended.stdout.splitlines()) == 16


def test_what_cannot_be_exported_is_said(gateway_toml: Path) -> None:
    none = tankgate("buffer", "export", gateway_toml)
    assert none.returncode == FOUND_A_FAULT and "tankgate.db: there is no such file" in none.stderr
    wrong = tankgate("buffer", "export", gateway_toml, "--from", "yesterday")
    assert wrong.returncode == USAGE and "yesterday is no time" in wrong.stderr
    file = gateway_toml.parent / "store" / FILE
    file.parent.mkdir()
    for content in (b"", b"no store" * 1000):
        file.write_bytes(content)
        other = tankgate("buffer", "export", gateway_toml)
        assert other.returncode == FOUND_A_FAULT and "The version that wrote it can read it" in other.stderr


def test_a_file_that_cannot_be_written_is_told_with_what_to_do(gateway_toml: Path, history: Store) -> None:
    for output, said in ((gateway_toml / "x.csv", "what stands before it is no"), ("/nope/x.csv", "no such file")):
        ended = tankgate("buffer", "export", gateway_toml, "--output", output)
        assert ended.returncode == USAGE and f"{output}: cannot be written: " in ended.stderr and said in ended.stderr
        assert "Name a new file in a folder where this user may write." in ended.stderr


def test_what_cannot_take_the_export_is_not_taken_for_the_store(gateway_toml: Path, history: Store) -> None:
    stick = tankgate("buffer", "export", gateway_toml, "--output", "/dev/full")
    assert stick.returncode == USAGE and "/dev/full: cannot be written: the disk is full." in stick.stderr
    with Path("/dev/full").open("w") as full:
        screen = tankgate("buffer", "export", gateway_toml, stdout=full)
    reader, writer = os.pipe()
    os.close(reader)
    with os.fdopen(writer, "w") as closed:  # as by `| head`, which has seen enough
        seen = tankgate("buffer", "export", gateway_toml, stdout=closed)
    assert (screen.returncode, seen.returncode) == (1, 1)
    assert "the disk is full" in screen.stderr and "pipe" not in seen.stderr.lower()
    assert FILE not in stick.stderr + screen.stderr + seen.stderr


def test_an_export_neither_waits_for_a_commit_nor_holds_up_the_log(history: Store, gateway_toml: Path) -> None:
    history.open(NOW_MS)
    with reading(gateway_toml.parent / "store" / FILE) as connection:
        found = records(connection, None, None, lambda _point: True)
        next(found)
        history.commit([filed(second(12, NO_CLOCK))], {})
        assert history._the_writer.pragma("wal_checkpoint", "TRUNCATE")[0] == 0  # not busy
        assert sum(1 for _record in found) == 18
    history.close()


# --- status, drain and receipts -----------------------------------------------------------------------------


def test_without_a_daemon_nobody_knows_what_is_to_come(gateway_toml: Path) -> None:
    for command in ("status", "drain"):
        assert tankgate("buffer", command, gateway_toml).returncode == UNREACHABLE


# What stays as it is in Chinese: names, units, and the words of the feed.
AS_IT_IS = {"district", "data", "event", "MB", "GB", "MQTT", "JT"}


@pytest.mark.parametrize(("language", "words"), [("en", "status ok nobody listens"), ("zh", "状态 正常")])
def test_status_in_80_columns_has_every_word_in_the_readers_language(
    gateway_toml: Path, recent: tuple[Store, int], monkeypatch: pytest.MonkeyPatch, language: str, words: str
) -> None:
    monkeypatch.setenv("LANGUAGE", language)  # of the daemon, which says why it is not connected
    text = gateway_toml.read_text(encoding="utf-8")
    gateway_toml.write_text(text.replace("127.0.0.1:1883", "127.0.0.1:1"), encoding="utf-8")
    with running(gateway_toml):
        until(lambda: buffer_status(gateway_toml)["destinations"][0]["reason"])
        ended = tankgate("buffer", "status", gateway_toml, language=language, columns=80)
        drain = tankgate("buffer", "drain", gateway_toml, "--timeout", "0", language=language)
    assert (ended.returncode, drain.returncode) == (0, UNREACHABLE)
    assert max(map(cell_len, ended.stdout.splitlines())) <= 80
    assert all(word in ended.stdout for word in words.split()) and "报警" not in ended.stdout
    if language == "zh":
        found = set(re.findall(r"[A-Za-z]{2,}", re.sub(r"\b[0-9A-Z]{16}\b", "", ended.stdout + drain.stderr)))
        assert found <= AS_IT_IS


def test_a_store_that_fails_says_why_and_what_to_do() -> None:
    store: dict[str, Any] = {
        "state": "fault", "fault": "database or disk is full", "used_bytes": 7_900_000_000, "max_bytes": 8_000_000_000,
        "disk_free_bytes": 0, "oldest_ms": None, "bytes_per_hour": 0, "hours_left": None,
    }  # fmt: skip
    drawn = Console(width=80, file=io.StringIO())
    for each in _tables(GATEWAY, {"store": store, "destinations": []}, NOW_MS):
        drawn.print(each)
    assert isinstance(drawn.file, io.StringIO)
    lines = drawn.file.getvalue().splitlines()
    assert max(map(cell_len, lines)) <= 80
    told = " ".join(" ".join(lines).split())
    assert all(words in told for words in ("fault", "7.9 GB", "0.0 MB", "disk is full", "Make room on the disk"))


def until(condition: Callable[[], Any], within_s: float = 25.0) -> Any:
    end_s = time.monotonic() + within_s
    while not (found := condition()):
        assert time.monotonic() < end_s, "not within the deadline"
        time.sleep(0.1)
    return found


def buffer_status(gateway_toml: Path) -> dict[str, Any]:
    status: dict[str, Any] = json.loads(tankgate("buffer", "status", "--json", gateway_toml).stdout)
    return status


class District:
    """Hears all data that the broker gives out."""

    def __init__(self, broker: Mosquitto) -> None:
        self.heard: list[bytes] = []
        self._client = mqtt.Client(CallbackAPIVersion.VERSION2, protocol=mqtt.MQTTv5)
        subscribed = Event()
        self._client.on_message = lambda _client, _userdata, message: self.heard.append(message.payload)
        self._client.on_subscribe = lambda *_: subscribed.set()
        self._client.connect("127.0.0.1", broker.port)
        self._client.subscribe(f"tankgate/v1/{GATEWAY}/data", qos=1)
        self._client.loop_start()
        assert subscribed.wait(20)

    def close(self) -> None:
        self._client.disconnect()
        self._client.loop_stop()

    def of(self, epoch: str, seq: int) -> list[bytes]:
        return [each for each in self.heard if f'"epoch":"{epoch}","stream":"data","seq":{seq},'.encode() in each]


@pytest.fixture
def chain(
    gateway_toml: Path, recent: tuple[Store, int], broker: Callable[..., Mosquitto]
) -> Iterator[tuple[Mosquitto, District]]:
    """A running daemon with that history, whose destination is to give receipts; its broker, and who listens there."""
    running_broker = broker()
    district = District(running_broker)
    text = gateway_toml.read_text(encoding="utf-8")
    at = text.index("[destinations.")
    url = f'url = "mqtt://127.0.0.1:{running_broker.port}"\nawait_receipt = true'
    lines = [url if line.startswith("url") else line for line in text[at:].splitlines()]
    gateway_toml.write_text(text[:at] + "\n".join(lines) + "\n", encoding="utf-8")
    with running(gateway_toml):
        yield running_broker, district
    district.close()


def receipt(epochs: dict[str, Any], at_ms: int) -> tuple[str, bytes, bool]:
    document = {"schema": "tankgate/receipt/1", "gateway": GATEWAY, "at_ms": at_ms, "epochs": epochs}
    return f"tankgate/v1/{GATEWAY}/receipt", json.dumps(document).encode(), True


@pytest.mark.needs("mosquitto")
def test_only_receipts_empty_the_buffer_and_what_they_miss_is_sent_again_the_same(
    gateway_toml: Path, recent: tuple[Store, int], chain: tuple[Mosquitto, District]
) -> None:
    broker, district = chain
    store, base_ms = recent
    epoch = store.epoch

    def of_history() -> dict[str, Any]:
        (destination,) = buffer_status(gateway_toml)["destinations"]
        streams = {(each["epoch"], each["stream"]): each for each in destination["streams"]}
        return streams.get((epoch, "data"), {})

    until(lambda: of_history().get("to_send") == 0)
    before = of_history()
    assert (before["made"], before["to_be_receipted"], before["pending"]) == (11, 8, [[1, 4], [8, 11]])
    assert before["oldest_ms"] == base_ms + 1000
    ended = tankgate("buffer", "drain", gateway_toml, "--timeout", "0", "--json")
    assert ended.returncode == FOUND_A_FAULT and json.loads(ended.stdout)["left"]["district"] >= 8

    assert [len(district.of(epoch, seq)) for seq in (1, 2, 3, 4)] == [1, 1, 1, 1]
    publish(broker, (f"tankgate/v1/{GATEWAY}/receipt", b"no receipt at all", False))
    publish(broker, receipt({epoch: {"data": {"committed": 11, "missing": [[2, 3]]}}}, 1000))
    until(lambda: of_history().get("pending") == [[2, 3]])
    until(lambda: len(district.of(epoch, 3)) == 2)
    for seq, times in ((1, 1), (2, 2), (3, 2), (4, 1)):
        heard = district.of(epoch, seq)
        assert len(heard) == times and len(set(heard)) == 1  # the same bytes

    made = buffer_status(gateway_toml)["made"]
    all_of_it = {e: {s: {"committed": n, "missing": []} for s, n in streams.items()} for e, streams in made.items()}
    publish(broker, receipt(all_of_it, 2000))
    drained = tankgate("buffer", "drain", gateway_toml, "--timeout", "20")
    assert drained.returncode == 0, drained.stderr
    shown = tankgate("buffer", "status", gateway_toml)
    assert shown.returncode == 0 and "district" in shown.stdout and "8.0 GB" in shown.stdout


@pytest.mark.needs("mosquitto")
def test_a_store_that_was_set_back_is_told_from_the_receipts(
    gateway_toml: Path, recent: tuple[Store, int], chain: tuple[Mosquitto, District]
) -> None:
    """The district has more of an epoch than this store ever made."""
    broker, _district = chain
    publish(broker, receipt({recent[0].epoch: {"data": {"committed": 99, "missing": []}}}, 1000))
    store = f"file:{gateway_toml.parent}/store/{FILE}?mode=ro"

    def actions() -> list[Any]:
        with closing(sqlite3.connect(store, uri=True)) as file:
            return file.execute("SELECT body FROM message WHERE kind = 'action'").fetchall()

    ((body,),) = until(actions)
    assert json.loads(body)["action"] == "store_set_back"
    assert list(Schemas().violations("action", json.loads(body))) == []


def test_history_that_grows_too_old_before_anybody_has_it_leaves_a_gap_in_the_same_commit(gateway_toml: Path) -> None:
    """It is older than the site keeps readings, the gateway has run since then, and no broker was ever there."""
    now_ms = int(time.time() * 1000)
    base_ms = now_ms - 40 * 86_400_000
    newest = second(12, Section("cab1", "4be01d77", Clock("synced", 7, now_ms - 12_000, 0)))
    history = make_history(gateway_toml.parent / "store", base_ms, newest)
    file = gateway_toml.parent / "store" / FILE
    with running(gateway_toml), closing(sqlite3.connect(f"file:{file}?mode=ro", uri=True)) as looking:
        sql = "SELECT min(id) FROM batch"
        told = "SELECT body FROM message WHERE kind = 'gap' AND cast(body AS TEXT) LIKE '%retention%' ORDER BY seq"
        until(lambda: looking.execute(sql).fetchone() == (9,))
        gaps = [json.loads(body) for (body,) in looking.execute(told)]
        # Two of these seconds have no time, and are told apart: no span leaves them out.
        assert [(gap["of"], gap["missing_epoch"], gap["missing_seq"], gap["polls"]) for gap in gaps] == [
            ("data", history.epoch, [1, 9], 12), ("data", history.epoch, [10, 11], 4),
        ]  # fmt: skip
        assert (gaps[0]["from_ms"] - base_ms, gaps[0]["to_ms"] - base_ms) == (1000, 9005)
        assert gaps[1]["from_ms"] is None
        assert [each for gap in gaps for each in Schemas().violations("gap", gap)] == []
        (destination,) = buffer_status(gateway_toml)["destinations"]
        pending = [each["pending"] for each in destination["streams"] if each["stream"] == "data"]
        assert pending == [[[12, 12]]]
