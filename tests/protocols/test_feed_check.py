"""The checker: a right stream passes however it arrives, and each rule that is broken is found."""

import json
import random
from collections.abc import Iterable
from typing import Any

import pytest

from edge.feed_schemas import Schemas
from protocols.feeds import json_feed
from protocols.feeds.check import StreamChecker, Summary
from protocols.feeds.json_feed import TimeQuality
from protocols.feeds.sequence import Ranges

GATEWAY = "jt-0042"
EPOCH = "01KAR8M2"
SYNCED = TimeQuality("synced", 7, None)
SCHEMAS = Schemas()

Message = tuple[str, dict[str, Any], bool]  # topic, payload, retained

CONTENT = {
    "mode": "simulated",
    "site": {"name": "罐区", "group": "g", "timezone": "Asia/Shanghai", "codes": {}},
    "software": {"tankgate": "0.1.0", "firmware": "0.1.0", "config": "sha256:00"},
    "points": [
        {
            "point": name,
            "name": "",
            "area": "",
            "medium": "",
            "unit": "m",
            "unit_text": "m",
            "type": "f32",
            "decimals": 3,
            "range": None,
            "period_s": 1,
            "deadband": 0.01,
            "heartbeat_s": 60,
            "urgent": False,
            "source": {
                "board": "cab1",
                "bus": "level",
                "unit_id": 1,
                "profile": "vegapuls-modbus@1",
                "channel": "level",
                "evidence": "manual",
                "proven": False,
            },
            "codes": {},
        }
        for name in ("TK101.level", "TK102.level")
    ],
    "alarms": [],
}
BIRTH = json_feed.birth_id(CONTENT)


def on(kind: str, payload: bytes, retained: bool = False) -> Message:
    return json_feed.topic(GATEWAY, kind), json.loads(payload), retained


def birth(retained: bool = False) -> Message:
    return on("birth", json_feed.birth(GATEWAY, EPOCH, 1, BIRTH, CONTENT), retained)


def birth_event() -> Message:
    return on("event/birth", json_feed.birth(GATEWAY, EPOCH, 1, BIRTH, CONTENT))


def data(seq: int, epoch: str = EPOCH, **changes: Any) -> Message:
    rows = [("TK101.level", 0, 8.412, 0, 0), ("TK102.level", 0, None, 200, 0), ("TK101.level", 900, 8.5, 0, 0)]
    payload = json_feed.data(GATEWAY, epoch, seq, BIRTH, SYNCED, 1795401004000 + seq * 1000, rows)
    topic, message, retained = on("data", payload)
    return topic, message | changes, retained


def unsynced(seq: int) -> Message:
    rows = [("TK101.level", 0, 8.412, 0, 0)]
    quality = TimeQuality("unsynced", None, "cab1/9f3a60c2")
    return on("data", json_feed.data(GATEWAY, EPOCH, seq, BIRTH, quality, 8120, rows))


def clock(seq: int) -> Message:
    payload = json_feed.clock(
        GATEWAY, EPOCH, seq, BIRTH, boot="cab1/9f3a60c2", from_uptime_ms=8000,
        utc_at_uptime_0_ms=1795401604000, drift_ppm=3.2, err_ms=15,
    )  # fmt: skip
    return on("event/clock", payload)


def gap(seq: int, first: int, last: int) -> Message:
    payload = json_feed.gap(
        GATEWAY, EPOCH, seq, BIRTH, cause="retention", quality=SYNCED, begin=json_feed.Moment(0),
        end=json_feed.Moment(1), polls=None, polls_are="unknown", missing=(EPOCH, first, last),
    )  # fmt: skip
    return on("event/gap", payload)


def state(
    next_data: int, pending: list[list[int]], retained: bool = False, values: Iterable[Any] = (), epoch: str = EPOCH
) -> Message:
    entry = {"next": next_data, "receipted": 0, "pending": pending, "oldest_kept": 1}
    payload = json_feed.state(
        GATEWAY,
        epoch,
        BIRTH,
        mode="simulated",
        at_ms=1795401004000,
        clock={"kind": "synced", "err_ms": 7, "since_ms": None},
        epochs={epoch: {"data": entry}},
        values=values,
        alarms=[],
        boards=[],
        buses=[], units=[],
        store={"state": "ok", "free_bytes": 1, "history_hours": 720, "backlog_messages": 0, "journal_head": None},
    )
    return on("state", payload, retained)


def check(*messages: Message) -> tuple[list[str], Summary]:
    """What is found on the way, and the end's account with the rest."""
    checker = StreamChecker(SCHEMAS.violations)
    found = [str(finding) for message in messages for finding in checker.feed(*message)]
    summary = checker.finish()
    return found + [str(finding) for finding in summary.findings], summary


def assert_in_order(*messages: Message) -> Summary:
    found, summary = check(*messages)
    assert found == []
    return summary


def assert_found(text: str, *messages: Message) -> None:
    found, _summary = check(*messages)
    assert len(found) == 1 and text in found[0], found


# --- what is right ------------------------------------------------------------------------------------------


def test_a_stream_from_its_beginning():
    summary = assert_in_order(birth(), state(1, []), birth_event(), data(1), data(2), data(3))
    assert (summary.messages, summary.readings, summary.duplicates, summary.coming) == (6, 9, 0, 0)


def test_messages_that_come_again_are_counted():
    assert assert_in_order(birth(), data(1), data(2), data(1), data(2)).duplicates == 2


@pytest.mark.parametrize("seed", range(5))
def test_history_after_live_data(seed):
    """A gateway comes back with 1 to 50 on its disk: the state says so, then live and history alternate."""
    history = [data(seq) for seq in range(1, 51)]
    live = [data(seq) for seq in range(51, 71)]
    chance = random.Random(seed)
    mixed = []
    while history or live:
        lane = chance.choice([lane for lane in (history, live) if lane])
        mixed.append(lane.pop(0))
    summary = assert_in_order(birth(), state(51, [[1, 50]]), *mixed, state(71, []))
    assert summary.coming == 0


def test_what_is_pending_is_still_to_come_and_not_lost():
    assert assert_in_order(birth(), state(51, [[1, 50]]), data(51), data(1)).coming == 49


def test_a_listener_who_joins_late_misses_nothing_of_his():
    """What the others got before, live and from history, is not his."""
    retained = state(100, [[10, 40]], retained=True)
    assert_in_order(birth(retained=True), retained, data(30), data(130), data(31), data(131))


def test_readings_without_a_clock_are_completed():
    assert assert_in_order(birth(), unsynced(1)).boots_without_clock == 1
    assert assert_in_order(birth(), unsynced(1), clock(2)).boots_without_clock == 0


def test_what_a_gap_names_is_not_lost():
    assert_in_order(birth(), state(1, []), birth_event(), data(1), gap(2, 2, 4), data(5))


def test_an_unknown_field_and_a_later_schema_are_passed_over():
    topic, payload, retained = data(1)
    summary = assert_in_order(
        birth(), (topic, payload | {"new": 1}, retained), data(2, schema="tankgate/data/2", rows=7)
    )
    assert summary.unknown == 1


def test_births_may_come_after_what_names_them():
    """Retained documents come in any order."""
    assert_in_order(data(1), birth(retained=True))


def test_the_birth_of_old_history_may_have_gone_before_a_listener_joined():
    """The configuration was changed meanwhile: the retained birth is another."""
    assert_in_order(birth(retained=True), data(7, birth="00000000"))


# --- what is wrong ------------------------------------------------------------------------------------------


def test_a_hole():
    assert_found("numbers 2 to 3 did not come", birth(), data(1), data(4))


def test_a_hole_that_is_no_longer_pending():
    assert_found("numbers 2 to 3 did not come", birth(), state(4, [[1, 3]]), data(1), data(4), state(5, []))


def test_a_lost_end():
    assert_found("numbers 3 to 6 did not come", birth(), state(1, []), data(1), data(2), state(7, []))


def test_history_that_never_comes():
    assert_found("numbers 7 to 7 did not come", birth(), state(51, [[7, 8]]), data(8), state(51, []))


def test_each_epoch_has_its_own_numbers():
    assert_found("01KAS2QX: numbers 2 to 2", birth(), data(1), data(1, "01KAS2QX"), data(2), data(3, "01KAS2QX"))


def test_another_content_under_the_same_number():
    assert_found("another content", birth(), data(1), data(1, t0_ms=1))


def test_a_birth_that_is_not_the_digest_of_its_content():
    topic, payload, retained = birth()
    payload["points"][0]["unit"] = "cm"
    assert_found("not the digest", (topic, payload, retained))


def test_a_hole_after_a_state():
    assert_found("numbers 5 to 6 did not come", birth(), state(5, []), data(7))


def test_a_birth_that_never_comes():
    assert_found(f"birth {BIRTH} did not come", data(1), data(2))
    assert_found("birth 00000000 did not come", birth(), birth_event(), data(1, birth="00000000"))
    assert_found(f"birth {BIRTH} did not come", state(1, [], retained=True))


@pytest.mark.parametrize(
    ("text", "rows"),
    [
        ("rows 0 and 1 are not in the order", [["TK101.level", 5, 1.0], ["TK101.level", 4, 1.0]]),
        ("rows 0 and 1 are not in the order", [["TK102.level", 4, 1.0], ["TK101.level", 4, 1.0]]),
        ("rows 0 and 1 are not in the order", [["TK101.level", 4, 1.0], ["TK101.level", 4, 1.0]]),
        ("point TK109.level is not in birth", [["TK109.level", 4, 1.0]]),
        ("longer than the same float32 needs: 8.412", [["TK101.level", 4, 8.411999702453613]]),
        ("from status 200 on there is no value", [["TK101.level", 4, 0.0, 200]]),
        ("an absent value has a status of 200 or more", [["TK101.level", 4, None]]),
        ("stand only in state", [["TK101.level", 4, None, 220]]),
    ],
)
def test_wrong_rows(text, rows):
    assert_found(text, birth(), data(1, rows=rows))


def test_a_state_with_points_of_another_site():
    assert_found("TK109.level", birth(), state(1, [], values=[("TK109.level", 1, 1.0, 0, 0)]))


@pytest.mark.parametrize("pending", [[[1, 4]], [[3, 2]], [[2, 3], [1, 1]]])
def test_pending_that_cannot_be(pending):
    found, _summary = check(birth(), state(4, pending, retained=True))
    assert len(found) == 1 and "pending" in found[0]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("no topic of the feed", ("tankgate/v1/jt-0042/event/party", {}, False)),
        ("no topic of the feed", ("elsewhere", {}, False)),
        ("not a JSON object", ("tankgate/v1/jt-0042/data", None, False)),
        ("on this topic tankgate/data/1 was expected", ("tankgate/v1/jt-0042/data", birth()[1], False)),
        ("not that of gateway jt-0042", ("tankgate/v1/jt-0043/birth", birth()[1], False)),
    ],
)
def test_wrong_topics_and_payloads(text, message):
    found, _summary = check(message)
    assert text in found[-1], found


# --- ranges -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(20))
def test_ranges_are_a_set(seed):
    chance = random.Random(seed)
    numbers: set[int] = set()
    ranges = Ranges()
    for _step in range(60):
        first = chance.randrange(200)
        last = first + chance.randrange(-1, 6)
        ranges.add(first, last)
        numbers |= set(range(first, last + 1))
        assert {number for number in range(210) if number in ranges} == numbers
        assert ranges.count() == len(numbers)
        assert all(before[1] + 1 < after[0] for before, after in zip(list(ranges), list(ranges)[1:], strict=False))
    others = [(start, start + chance.randrange(9)) for start in chance.sample(range(200), 15)]
    left = numbers - {number for first, last in others for number in range(first, last + 1)}
    assert {number for number in range(210) if number in ranges.without(others)} == left
