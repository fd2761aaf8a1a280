"""The feed as the district receives it: any payload is judged and shown, and what is no feed is called so.

Input: lines: a character that says on which topic and whether retained, then the payload.
"""

import json
from collections.abc import Iterator
from datetime import datetime, timedelta
from typing import Any

from edge.cli.listen import _line
from edge.district.messages import Data, Event, Line, Message, Unreadable, read, resolved
from edge.feed_schemas import Schemas
from edge.feed_screen import FeedScreen
from edge.receiver import Received
from protocols.feeds import json_feed
from protocols.feeds.check import Finding, StreamChecker
from protocols.feeds.json_feed import TimeQuality
from protocols.feeds.sequence import identity

_TOPICS = (
    "birth",
    "link",
    "state",
    "data",
    "event/alarm",
    "event/gap",
    "event/clock",
    "event/action",
    "event/birth",
    "x",
)
_VIOLATIONS = Schemas().violations
_LATEST_LINE = Line(json_feed.UTC_MS_MAX, json_feed.DRIFT_PPM_MAX, json_feed.ERR_MS_MAX)
_GATEWAY, _EPOCH = "jt-0042", "01KAR8M2"
_SYNCED, _UNSYNCED = TimeQuality("synced", 7, None), TimeQuality("unsynced", None, "cab1/9f3a60c2")
_CONTENT: dict[str, Any] = {
    "mode": "live",
    "site": {"name": "罐区", "group": "g", "timezone": "UTC", "codes": {}},
    "software": {"tankgate": "0.1.0", "firmware": "0.1.0", "config": "sha256:00"},
    "points": [
        dict.fromkeys(("name", "area", "medium"), "")
        | {"point": "a.b", "unit": "m", "unit_text": "m", "type": "f32", "decimals": 3, "range": [0, 12.5]}
        | {"period_s": 1, "deadband": 0.01, "heartbeat_s": 60, "urgent": False, "codes": {}}
        | {
            "source": {"board": "c", "bus": "l", "unit_id": 1, "profile": "p@1", "channel": "l", "evidence": "manual"}
            | {"proven": False}
        }
    ],
    "alarms": [],
}
_BIRTH = json_feed.birth_id(_CONTENT)


def _message(kind: str, payload: bytes, retained: bool = False) -> bytes:
    return bytes((0x30 + _TOPICS.index(kind) + 0x40 * retained,)) + payload


def _data(seq: int, quality: TimeQuality, rows: list[tuple[str, int, float | None, int, int]]) -> bytes:
    return _message("data", json_feed.data(_GATEWAY, _EPOCH, seq, _BIRTH, quality, 1795401004000, rows))


_FACTS = {"active": True, "acked": False, "latched": False, "shelved_until_ms": None, "suppressed": False} | {
    "out_of_service": False
}


def seeds() -> Iterator[bytes]:
    who = (_GATEWAY, _EPOCH)
    birth = json_feed.birth(*who, 1, _BIRTH, _CONTENT)
    first = _data(1, _SYNCED, [("a.b", 118, 8.412, 0, 0), ("a.b", 119, None, 202, 2)])
    late = _data(3, _UNSYNCED, [("a.b", 0, 1.5, 100, 0)])
    link = _message("link", json_feed.link(*who, True, 1795401004000), retained=True)
    gap = json_feed.gap(
        *(*who, 2, _BIRTH), cause="retention", quality=_SYNCED, begin=json_feed.Moment(1), end=json_feed.Moment(2),
        polls=3, polls_are="exact", missing=(_EPOCH, 2, 2),
    )  # fmt: skip
    clock = json_feed.clock(
        *(*who, 3, _BIRTH), boot="cab1/9f3a60c2", from_uptime_ms=8, utc_at_uptime_0_ms=9, drift_ppm=3.2, err_ms=15
    )
    alarm = json_feed.alarm(
        *(*who, 4, _BIRTH), mode="live", alarm="system.config:FAULT", occurrence=1, transition="raise", before="NORM",
        after="UNACK", facts=_FACTS, quality=_SYNCED, t_ms=1, decided_ms=2, priority=2, action="修",
    )  # fmt: skip
    vote = json_feed.alarm(
        *(*who, 6, _BIRTH), mode="test", alarm="vote.y:VOTE", occurrence=2, transition="clear", before="UNACK",
        after="RTNUN", facts=_FACTS, quality=_SYNCED, t_ms=3, decided_ms=4, priority=1, judged_late=True,
        point=("a.b", 8.4, "m", 0, None), first_out=True, reading=(3, 0), by="R7", reason="r", rests_on=2,
    )  # fmt: skip
    action = json_feed.action(
        *(*who, 5, _BIRTH), action="unit_accepted", quality=_SYNCED, t_ms=1, by="b", reason=None, unit=("l", 1)
    )
    entry = {"next": 4, "receipted": 0, "pending": [[2, 2]], "oldest_kept": 1}
    state = json_feed.state(
        *(*who, _BIRTH), mode="live", at_ms=1795401005200, clock={"kind": "synced", "err_ms": 7, "since_ms": 1},
        epochs={_EPOCH: {"data": entry, "event": entry}}, values=[("a.b", 1, 8.412, 0, 0)],
        alarms=[["system.config:FAULT", 1, "UNACK", 1, 4]], boards=[["c", "up", "9f3a60c2", 9, 1]],
        buses=[["l", "polling", 4, 0, 0, 0]], units=[["l", 1, 9, 0, 0, 0, 0, 17, 1, 0, 0, 0]],
        store={"state": "ok", "free_bytes": 1, "history_hours": 1, "backlog_messages": 0, "journal_head": None},
    )  # fmt: skip
    yield b"\n".join([_message("event/birth", birth), first, first])
    yield b"\n".join([_message("birth", birth, retained=True), link, _message("state", state), late])
    yield b"\n".join([_message("event/gap", gap), _message("event/clock", clock), _message("event/action", action)])
    yield b"\n".join([_message("event/alarm", alarm), _message("event/alarm", vote), _message("state", state)])
    yield b"\n".join([_message("event/alarm", alarm), late, _message("data", b"{}"), _message("x", b"[1e999]")])


def run_one(data: bytes) -> None:
    checker, screen, faults = StreamChecker(_VIOLATIONS), FeedScreen(), 0
    lines = [line for line in data.split(b"\n") if line]
    for line in lines:
        kind, is_retained = _TOPICS[line[0] % 0x40 % 16 % len(_TOPICS)], bool(line[0] & 0x40)
        topic, payload = json_feed.topic(_GATEWAY, kind), json_feed.read(line[1:])
        if payload is not None:  # it can be written again, and is then the same
            assert json_feed.read(json.dumps(payload, ensure_ascii=False).encode()) == payload
        numbered = identity(topic, payload)
        assert numbered is None or kind == "data" or kind.startswith("event/")
        _is_kept_or_set_aside(read(topic, line[1:], _VIOLATIONS))
        findings = checker.feed(topic, payload, is_retained)
        assert payload is not None or findings
        faults += _are_told(findings)
        received = Received(1795401006000, topic, is_retained, payload, False)
        screen.take(received)
        assert all(character.isprintable() for character in _line(received))
    screen.draw(1795401006000)
    summary = checker.finish()
    _are_told(summary.findings)
    assert summary.messages == len(lines) and summary.coming >= 0


def _is_kept_or_set_aside(message: Message) -> None:
    match message:
        case Unreadable():
            assert message.reason
        case Data():
            timed = message if message.boot is None else resolved(message, _LATEST_LINE)
            for row in timed.rows:
                assert datetime(1970, 1, 1) + timedelta(milliseconds=timed.t0_ms + row[1])  # noqa: DTZ001
        case Event(kind="clock", document={"drift_ppm": drift_ppm, "utc_at_uptime_0_ms": utc_ms, "err_ms": err_ms}):
            assert 0 <= Line(utc_ms, drift_ppm, err_ms).utc_ms(json_feed.SPAN_MS_MAX) < 2 * json_feed.UTC_MS_MAX


def _are_told(findings: list[Finding] | tuple[Finding, ...]) -> int:
    assert all(finding.where and finding.text for finding in findings)
    return len(findings)
