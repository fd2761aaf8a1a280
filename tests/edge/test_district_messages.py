"""What is read, what is set aside and why; a time is made of an uptime as the clock event says."""

import json
from pathlib import Path
from typing import Any

import pytest

from edge.district.messages import Data, Document, Event, Line, Unreadable, read, resolved
from edge.feed_schemas import Schemas
from protocols.feeds import json_feed
from protocols.feeds.sequence import Stream

GOLDEN = Path(__file__).parents[2] / "protocols" / "feeds" / "golden"
VIOLATIONS = Schemas().violations
BATCH = json.loads((GOLDEN / "valid" / "data.json").read_text())
# That a point's name has two parts is left to the birth, which every point must be in.
LEFT_TO_THE_BIRTH = {"data-point-without-quantity.json"}


def topic(kind: str, gateway: str = "jt-0042") -> str:
    return json_feed.topic(gateway, kind if kind in ("data", "state", "link") else f"event/{kind}")


def golden(folder: str) -> list[Path]:
    """What a gateway tells; the rest is what it is told, and what it answers to that."""
    asked = ("receipt", "command", "reply")
    return [file for file in sorted((GOLDEN / folder).iterdir()) if kind_of(file) not in asked]


def kind_of(file: Path) -> str:
    return file.name.removesuffix(".json").split("-")[0]


@pytest.mark.parametrize("file", golden("valid"), ids=lambda file: file.stem)
def test_golden_messages_are_read(file):
    payload = file.read_bytes().strip()
    message = read(topic(kind_of(file)), payload, VIOLATIONS)
    assert not isinstance(message, Unreadable), message.reason
    assert message.payload == payload


@pytest.mark.parametrize("file", golden("invalid"), ids=lambda file: file.stem)
def test_golden_mistakes_are_set_aside(file):
    if file.name in LEFT_TO_THE_BIRTH:
        pytest.skip("the point is in no birth")
    message = read(topic(kind_of(file)), file.read_bytes().strip(), VIOLATIONS)
    assert isinstance(message, Unreadable) and message.reason


def test_a_batch_has_its_rows_whole():
    batch = read(topic("data"), json.dumps(BATCH).encode(), VIOLATIONS)
    assert isinstance(batch, Data)
    assert (batch.stream, batch.seq) == (Stream("jt-0042", "01KAR8M2", "data"), 184211)
    assert (batch.birth, batch.kind, batch.err_ms, batch.t0_ms, batch.boot) == (
        "e681bf57", "synced", 7, 1795401004000, None,
    )  # fmt: skip
    assert batch.rows[0] == ("TK101.level", 118, 8.412, 0, 0)
    assert [row for row in batch.rows if row[3]] == [
        (row[0], row[1], row[2], row[3], row[4] if len(row) > 4 else 0) for row in BATCH["rows"] if len(row) > 3
    ]


def test_documents_and_events_are_told_apart():
    birth = (GOLDEN / "valid" / "birth.json").read_bytes().strip()
    assert isinstance(read("tankgate/v1/jt-0042/birth", birth, VIOLATIONS), Document)
    event = read("tankgate/v1/jt-0042/event/birth", birth, VIOLATIONS)
    assert isinstance(event, Event) and (event.kind, event.seq) == ("birth", 907)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"gateway": "jt-0043"}, "not that of gateway jt-0043"),
        ({"schema": "tankgate/data/2"}, "schema tankgate/data/2: on this topic tankgate/data/1 was expected"),
        ({"seq": True}, "outside"),
        ({"seq": 2**63}, "outside"),
        ({"t0_ms": 10**15}, "outside"),
        ({"rows": [["A.b", 0, True]]}, "wrong type"),
        ({"rows": [["A.b", 0, 1.5, 0, 2**40]]}, "out of range"),
        ({"rows": [["A.b", 0, 1.5, 0, 0, 0]]}, "three to five columns"),
        ({"rows": [7]}, "three to five columns"),
        ({"rows": [[["A.b"], 0, 1.5]]}, "wrong type"),
    ],
)
def test_why_a_batch_is_set_aside(change: dict[str, Any], reason: str):
    message = read(topic("data"), json.dumps(BATCH | change).encode(), VIOLATIONS)
    assert isinstance(message, Unreadable) and reason in message.reason


@pytest.mark.parametrize("payload", [b"\xff{", b"[1]", b'{"a":' * 10_000])
def test_what_is_no_object_has_no_number(payload):
    message = read(topic("data"), payload, VIOLATIONS)
    assert isinstance(message, Unreadable) and message.numbered is None


def test_what_is_wrong_under_a_sound_number_need_not_come_again():
    message = read(topic("data"), json.dumps(BATCH | {"rows": []}).encode(), VIOLATIONS)
    assert isinstance(message, Unreadable) and message.numbered == (Stream("jt-0042", "01KAR8M2", "data"), 184211)
    message = read(topic("data"), json.dumps(BATCH | {"rows": [], "epoch": "?"}).encode(), VIOLATIONS)
    assert isinstance(message, Unreadable) and message.numbered is None


def test_a_birth_under_a_wrong_digest_is_set_aside():
    birth = json.loads((GOLDEN / "valid" / "birth.json").read_text())
    message = read("tankgate/v1/jt-0042/birth", json.dumps(birth | {"mode": "drill"}).encode(), VIOLATIONS)
    assert isinstance(message, Unreadable) and "not the digest" in message.reason


def test_a_topic_of_nobody():
    message = read("tankgate/v1/jt-0042/weather", b"{}", VIOLATIONS)
    assert isinstance(message, Unreadable) and message.reason == "no topic of the feed"


def test_times_by_the_line_of_the_boot():
    # 10^6 s of uptime at +20 ppm: 20 s more.
    line = Line(1_795_000_000_000, 20.0, 15)
    batch = Data(
        Stream("jt-0042", "01KAS2QX", "data"), 3, "e681bf57", "unsynced", None, 1_000_000_000, "cab1/9f3a60c2",
        [("GD01.gas", 0, 0.4, 0, 0), ("GD02.gas", 500_000, 0.5, 0, 0)], "", b"",
    )  # fmt: skip
    done = resolved(batch, line)
    assert (done.kind, done.err_ms, done.boot) == ("resolved", 15, None)
    assert done.t0_ms == 1_795_000_000_000 + 1_000_000_000 + 20_000
    assert [row[1] for row in done.rows] == [0, 500_010]
