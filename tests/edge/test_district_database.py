"""The district's database: once and whole, with its own birth, its own time, and an account of what is missing."""

import asyncio
import json
import re
from collections.abc import Coroutine, Iterator
from pathlib import Path
from typing import Any

import asyncpg
import pytest

from edge.district.database import PATIENCE_S, UNAVAILABLE, Counts, Database, NoPlace, prepare, scripts, why
from edge.district.messages import read
from edge.district.receipts import receipts
from edge.feed_schemas import Schemas
from protocols.feeds import json_feed
from protocols.feeds.json_feed import TimeQuality
from protocols.feeds.sequence import Stream
from tests.edge.postgres import Postgres, rows

pytestmark = pytest.mark.needs("postgres")

VIOLATIONS = Schemas().violations
GOLDEN = Path(__file__).parents[2] / "protocols" / "feeds" / "golden" / "valid"
GATEWAY = "jt-0042"
EPOCH = "01KAR8M2"
OLD = "e681bf57"
T0 = 1795401004000
BIRTH = json.loads((GOLDEN / "birth.json").read_text())
Message = tuple[str, bytes]


class District:
    """A database and one connection that fills it."""

    def __init__(self, url: str) -> None:
        self.url = url
        self._loop = asyncio.new_event_loop()
        self.database = Database(url, VIOLATIONS)

    def run(self, coroutine: Coroutine[Any, Any, Any]) -> Any:
        return self._loop.run_until_complete(coroutine)

    def take(self, *messages: Message) -> Counts:
        return self.run(self.database.commit([read(topic, payload, VIOLATIONS) for topic, payload in messages]))

    def sweep(self) -> Counts:
        return self.run(self.database.sweep())

    def rows(self, query: str) -> list[tuple[Any, ...]]:
        return self.run(rows(self.url, query))

    def close(self) -> None:
        self.run(self.database.close())
        self._loop.close()


@pytest.fixture
def district(database: str) -> Iterator[District]:
    district = District(database)
    yield district
    district.close()


# --- messages -----------------------------------------------------------------------------------------------


def birth(change: dict[str, Any] | None = None, topic: str = "birth") -> Message:
    """The golden birth, or that with other points."""
    own = ("schema", "gateway", "epoch", "stream", "seq", "birth")
    content = {key: value for key, value in BIRTH.items() if key not in own} | (change or {})
    payload = json_feed.birth(GATEWAY, EPOCH, 907, json_feed.birth_id(content), content)
    return json_feed.topic(GATEWAY, topic), payload


def data(seq: int, *readings: tuple[Any, ...], t0: int = T0, of: str = OLD, **other: Any) -> Message:
    quality = other.get("quality", TimeQuality("synced", 7, None))
    readings = readings or (("TK101.level", 118, 8.412, 0, 0),)
    payload = json_feed.data(GATEWAY, other.get("epoch", EPOCH), seq, of, quality, t0, readings)
    return json_feed.topic(GATEWAY, "data"), payload


def event(kind: str, seq: int, **change: Any) -> Message:
    """The golden event of this name, changed."""
    message = json.loads((GOLDEN / f"{kind}.json").read_text()) | {"seq": seq} | change
    return json_feed.topic(GATEWAY, f"event/{kind.split('-')[0]}"), json.dumps(message).encode()


def state(next_data: int, pending: list[list[int]] = (), next_event: int = 916, **change: Any) -> Message:  # type: ignore[assignment]
    message = json.loads((GOLDEN / "state.json").read_text()) | change
    streams = {
        name: {"next": next_, "receipted": None, "pending": list(spans), "oldest_kept": 1}
        for name, next_, spans in (("data", next_data, pending), ("event", next_event, []))
    }
    message |= {"epochs": {message["epoch"]: streams}}
    return json_feed.topic(GATEWAY, "state"), json.dumps(message).encode()


# --- once ---------------------------------------------------------------------------------------------------


def test_a_message_is_kept_once_however_often_it_comes(district):
    counts = district.take(birth(), data(1), data(2), data(1))
    assert (counts.messages, counts.readings, counts.again) == (2, 2, 1)
    counts = district.take(data(2), data(3))
    assert (counts.messages, counts.readings, counts.again) == (1, 1, 1)
    assert district.rows("SELECT seq FROM reading ORDER BY seq") == [(1,), (2,), (3,)]


def test_a_connection_in_disorder_is_given_up(district):
    """asyncpg may leave one so that breaks in the middle: something is under way on it, and does not end."""

    async def begin_what_never_ends() -> asyncio.Task[str]:
        connection = await district.database.connect()
        return asyncio.create_task(connection.execute("SELECT pg_sleep(600)"))

    stuck = district.run(begin_what_never_ends())
    with pytest.raises(UNAVAILABLE):
        district.take(birth(), data(1))
    district.database.abandon()
    assert district.take(birth(), data(1)).messages == 1
    with pytest.raises(UNAVAILABLE):
        district.run(stuck)


def test_the_same_number_of_another_epoch_is_another_message(district):
    district.take(birth(), data(1), data(1, epoch="01KAS2QX"))
    assert district.rows("SELECT count(*) FROM history") == [(2,)]


def test_history_as_an_engineer_asks(district):
    district.take(birth(), data(1, ("TK101.level", 118, 8.412, 0, 0), ("GD07.gas", 455, None, 204, 12)))
    assert district.rows(
        "SELECT gateway, point, extract(epoch FROM t) * 1000, value, unit, status, detail, time_kind, err_ms"
        " FROM history ORDER BY t"
    ) == [
        (GATEWAY, "TK101.level", T0 + 118, 8.412, "m", 0, 0, "synced", 7),
        (GATEWAY, "GD07.gas", T0 + 455, None, "%LEL", 204, 12, "synced", 7),
    ]


LATEST = "SELECT point, value, unit FROM latest_value ORDER BY point"
HOUR_MS = 3_600_000


def level(seq: int, value: float, t0: int = T0, **other: Any) -> Message:
    return data(seq, ("TK101.level", 0, value, 0, 0), t0=t0, **other)


def values(next_data: int, *readings: list[Any], epoch: str = EPOCH, **other: Any) -> Message:
    """A state with these values."""
    columns = ["point", "t_ms", "value", "status", "detail"]
    return state(next_data, epoch=epoch, values={"columns": columns, "rows": list(readings)}, **other)


def test_the_latest_value_is_that_of_the_latest_message(district):
    district.take(birth(), level(2, 2.0))
    # From history; and the clock was an hour ahead then.
    district.take(data(1, ("TK101.level", 0, 1.0, 0, 0), ("TK101.temp", 5, 24.5, 0, 0), t0=T0 + HOUR_MS))
    assert district.rows(LATEST) == [("TK101.level", 2.0, "m"), ("TK101.temp", 24.5, "℃")]
    district.take(level(4, 4.0, t0=T0 - 2 * HOUR_MS), level(3, 3.0, t0=T0 - HOUR_MS))
    assert district.rows(LATEST)[0] == ("TK101.level", 4.0, "m")
    district.take(data(5, ("TK101.level", 0, 5.0, 0, 0), ("TK101.level", 5, 5.5, 0, 0), t0=T0 - HOUR_MS))
    assert district.rows(LATEST)[0] == ("TK101.level", 5.5, "m")


def test_the_latest_value_is_that_of_the_epoch_heard_last(district):
    """Of one transaction or several; whatever the epochs are called, and which of their messages comes first."""
    district.take(birth(), values(5), level(4, 4.0))
    district.take(values(1, epoch="01DXF6DT"), level(1, 1.0, t0=T0 - HOUR_MS, epoch="01DXF6DT"), level(3, 3.0))
    assert district.rows(LATEST) == [("TK101.level", 1.0, "m")]
    # From history: the rest of the epoch before, and one from before this district began to listen.
    district.take(level(5, 5.0, t0=T0 + HOUR_MS))
    district.take(level(9, 9.0, epoch="01KZZZZZ"))
    assert district.rows(LATEST) == [("TK101.level", 1.0, "m")]
    district.take(level(2, 2.0, epoch="01DXF6DT"), level(10, 10.0, epoch="01KZZZZZ"))
    assert district.rows(LATEST) == [("TK101.level", 2.0, "m")]
    district.take(values(7), level(6, 6.0))  # that before goes on: the other was a clone
    assert district.rows(LATEST) == [("TK101.level", 6.0, "m")]


def test_a_state_says_what_is_latest(district):
    smaller = birth({"points": [{**BIRTH["points"][0], "unit": "mm", "unit_text": "mm"}]})
    district.take(birth(), smaller, level(4, 4.0, t0=T0 + HOUR_MS))
    district.take(values(9, ["TK101.level", T0, 7.5], ["TK101.temp", None, None, 222], ["TK999.level", T0, 1.0]))
    seen = "SELECT point, value, unit, status, extract(epoch FROM t) * 1000 FROM latest_value ORDER BY point"
    now = [("TK101.level", 7.5, "m", 0, T0), ("TK101.temp", None, "℃", 222, None)]
    assert district.rows(seen) == now
    district.take(level(8, 8.0, t0=T0 + HOUR_MS))  # was made before it
    assert district.rows(seen) == now
    of_smaller = json.loads(smaller[1])["birth"]
    district.take(values(9, ["TK101.level", T0, 7500], ["TK101.level", T0, 7501], birth=of_smaller))
    assert district.rows(LATEST)[0] == ("TK101.level", 7501, "mm")
    district.take(level(9, 9.0))
    assert district.rows(LATEST)[0] == ("TK101.level", 9.0, "m")
    district.take(values(9, ["TK101.level", T0, 7.5]))  # retained, from before
    assert district.rows(LATEST)[0] == ("TK101.level", 9.0, "m")
    district.take(values(10, ["TK101.level", None, None, 220]))
    assert district.rows(LATEST)[0] == ("TK101.level", None, "m")


def test_what_the_database_refuses_does_not_hold_up_the_rest(district):
    bad = event("action", 2, reason="\0")
    too_big = (json_feed.topic(GATEWAY, "data"), data(3)[1].replace(b"8.412", b"1" + 400 * b"0"))
    counts = district.take(birth(), data(1), bad, too_big, data(4))
    assert (counts.messages, counts.readings, counts.set_aside) == (4, 2, 2)
    ((topic, payload),) = district.rows("SELECT topic, payload FROM set_aside WHERE topic LIKE '%action'")
    assert (topic, payload) == bad
    # They have come: nobody needs to send them again.
    assert district.rows("SELECT stream, came::text FROM stream ORDER BY stream") == [
        ("data", "{[1,2),[3,5)}"), ("event", "{[2,3)}"),
    ]  # fmt: skip


def test_what_cannot_be_read_is_set_aside_with_the_reason(district):
    topic = json_feed.topic(GATEWAY, "data")
    counts = district.take((topic, b"\xff{"), (topic, data(1)[1].replace(b"8.412", b'"n/a"')), data(2), birth())
    assert (counts.readings, counts.set_aside) == (1, 2)
    assert district.rows("SELECT reason, seq FROM set_aside ORDER BY seq NULLS FIRST") == [
        ("the payload is not a JSON object", None),
        ("row ['TK101.level', 118, 'n/a']: a column has a wrong type or is out of range", 1),
    ]


# --- births -------------------------------------------------------------------------------------------------


def test_old_data_are_read_with_their_own_birth(district):
    points = [{**BIRTH["points"][0], "unit": "mm", "unit_text": "mm"}]
    corrected = birth({"points": points})
    new = json.loads(corrected[1])["birth"]
    district.take(birth(), corrected, data(2, t0=T0 + 1000, of=new), data(1))
    assert district.rows("SELECT birth, unit FROM history ORDER BY t") == [(OLD, "m"), (new, "mm")]


@pytest.mark.parametrize("topic", ["birth", "event/birth"])
def test_a_message_whose_birth_has_not_come_waits_for_it(district, topic):
    counts = district.take(data(1), data(2))
    assert (counts.messages, counts.readings, counts.waiting) == (2, 0, 2)
    assert district.sweep().readings == 0
    district.take(birth(topic=topic))
    assert district.sweep().readings == 2
    assert district.take(data(2)).again == 1
    assert district.rows("SELECT value FROM history") == [(8.412,), (8.412,)]
    assert district.rows("SELECT FROM waiting") == []


def test_a_point_that_is_not_in_the_birth_is_no_reading(district):
    counts = district.take(birth(), data(1, ("TK999.level", 0, 1.0, 0, 0)))
    assert (counts.readings, counts.set_aside) == (0, 1)
    assert district.rows("SELECT reason FROM set_aside") == [("point TK999.level is not in birth e681bf57",)]


# --- clocks -------------------------------------------------------------------------------------------------

BOOT = "cab1/9f3a60c2"
UNSYNCED = TimeQuality("unsynced", None, BOOT)


def clock(seq: int, from_uptime_ms: int, utc_ms: int, drift_ppm: float = 0) -> Message:
    change = {"from_uptime_ms": from_uptime_ms, "utc_at_uptime_0_ms": utc_ms, "drift_ppm": drift_ppm, "epoch": EPOCH}
    return event("clock", seq, **change)


@pytest.mark.parametrize("first", ["data", "clock"])
def test_readings_without_a_clock_get_their_time_from_the_clock_record(district, first):
    unsynced = data(1, ("GD07.gas", 20, 0.4, 0, 0), t0=8120, quality=UNSYNCED)
    record = clock(1, 9000, T0)
    for message in (unsynced, record) if first == "data" else (record, unsynced):
        district.take(birth(), message)
    assert district.rows("SELECT FROM history") == []
    assert district.sweep().readings == 1
    seen = "SELECT extract(epoch FROM t) * 1000, time_kind, err_ms FROM history"
    assert district.rows(seen) == [(T0 + 8140, "resolved", 15)]
    # A better line comes: what has a time keeps it, what comes from now on gets the newest that had begun.
    district.take(clock(2, 20_000, T0 + 500, 100), data(2, t0=30_000, quality=UNSYNCED))
    district.sweep()
    assert [t_ms for t_ms, *_rest in district.rows(seen + " ORDER BY t")] == [T0 + 8140, T0 + 30_621]


def test_the_clock_of_another_boot_says_nothing(district):
    district.take(birth(), data(1, t0=8120, quality=TimeQuality("unsynced", None, "cab1/00000000")), clock(1, 8000, T0))
    assert district.sweep().readings == 0
    assert district.rows("SELECT boot, uptime_ms FROM waiting") == [("cab1/00000000", 8120)]


def test_events_without_a_clock_get_their_time_too(district):
    untimed = {"t_ms": None, "boot": BOOT, "t_uptime_ms": 700, "time": {"kind": "unsynced", "err_ms": None}}
    gap = event("gap-unsynced", 1, from_boot=BOOT, boot=BOOT)
    district.take(gap, event("alarm", 2, **untimed), event("alarm-system-unsynced", 3))
    assert district.rows("SELECT FROM alarm WHERE t IS NOT NULL") == []
    times = "SELECT extract(epoch FROM {}) * 1000 FROM {} ORDER BY seq"
    for line in clock(4, 0, T0, 1000), clock(5, 500, T0 + 500):  # what has a time keeps it
        district.take(line)
        district.sweep()
        assert district.rows(times.format("to_t", "gap")) == [(T0 + 7908,)]
        assert district.rows(times.format("t", "alarm")) == [(T0 + 701,), (None,)]


def test_each_end_of_a_gap_gets_the_time_of_its_own_boot(district):
    later = event("gap-to-a-boot-without-clock", 1, boot=BOOT)
    earlier = event("gap", 2, from_ms=None, from_boot="cab1/00000000", from_uptime_ms=500, to_ms=T0)
    district.take(later, earlier)
    times = "extract(epoch FROM from_t) * 1000, extract(epoch FROM to_t) * 1000"
    seen = f"SELECT {times}, from_boot, boot FROM gap ORDER BY seq"
    boots = ("cab1/4be01d77", BOOT), ("cab1/00000000", "cab1/4be01d77")
    assert district.rows(seen) == [(1795399744000, None, *boots[0]), (None, T0, *boots[1])]
    district.take(clock(4, 0, T0))
    district.sweep()
    assert district.rows(seen) == [(1795399744000, T0 + 6120, *boots[0]), (None, T0, *boots[1])]
    district.take(event("clock", 5, boot="cab1/00000000", from_uptime_ms=0, utc_at_uptime_0_ms=T0, drift_ppm=0))
    district.sweep()
    assert district.rows(seen)[1] == (T0 + 500, T0, *boots[1])


# --- alarms -------------------------------------------------------------------------------------------------


def test_active_alarms_are_those_of_the_state_and_what_has_happened_since(district):
    # Listed: GD07.gas:HH and GD07.gas:H unacknowledged, GD03.gas:FAULT acknowledged, TK105.level:H out of service.
    district.take(birth(), event("alarm", 912, to="RTNUN"), state(10, next_event=916))
    active = "SELECT alarm, state FROM active_alarm ORDER BY alarm"
    assert district.rows(active) == [
        ("GD03.gas:FAULT", "ACKED"), ("GD07.gas:H", "UNACK"), ("GD07.gas:HH", "UNACK"), ("TK105.level:H", "OOSRV"),
    ]  # fmt: skip
    district.take(
        event("alarm", 916, alarm="GD07.gas:HH", to="ACKED"),
        event("alarm", 918, alarm="GD07.gas:H", to="NORM"),
        event("alarm", 917, alarm="GD07.gas:H", to="RTNUN"),
        event("alarm", 919, alarm="GD07.gas:L", to="UNACK"),
        event("alarm", 999, alarm="TK105.level:H", to="UNACK", epoch="01KAQZZ0"),  # late, from before the restart
    )
    assert district.rows(active) == [
        ("GD03.gas:FAULT", "ACKED"), ("GD07.gas:HH", "ACKED"), ("GD07.gas:L", "UNACK"), ("TK105.level:H", "OOSRV"),
    ]  # fmt: skip


def test_an_older_state_does_not_replace_a_newer_one(district):
    alarms = {"columns": ["alarm", "occurrence", "state", "since_ms", "seq"], "rows": []}
    district.take(state(10, next_event=5), state(20, next_event=7, alarms=alarms), state(10, next_event=5))
    assert district.rows("SELECT next_event FROM speaking") == [(7,)]
    assert district.rows("SELECT FROM active_alarm") == []
    # After a restart the numbers begin anew, and what still comes of before is old; whatever the epochs are called.
    for epoch in ("01KAS2QX", "01DXF6DT"):
        district.take(state(2, next_event=2, epoch=epoch), state(20, next_event=7), state(10, next_event=5))
        assert district.rows("SELECT epoch, next_event FROM speaking") == [(epoch, 2)]
        assert district.run(district.database.twins()) == {}


NONE = {"columns": ["alarm", "occurrence", "state", "since_ms", "seq"], "rows": []}
CLONE = "01KB77XZ"


def test_the_alarms_of_a_gateway_are_seen_again_after_its_clone_was_on(district):
    district.take(birth(), state(5, next_event=10, alarms=NONE), state(2, next_event=2, epoch=CLONE, alarms=NONE))
    active = "SELECT alarm, state, epoch FROM active_alarm ORDER BY 1, 3"
    assert district.rows("SELECT epoch FROM speaking") == [(CLONE,)]
    district.take(event("alarm", 10, epoch=EPOCH))
    standing = NONE | {"rows": [["GD07.gas:HH", 3, "UNACK", T0, 10]]}
    district.take(state(6, next_event=11, alarms=standing))
    assert district.rows(active) == [("GD07.gas:HH", "UNACK", EPOCH)]
    assert district.run(district.database.twins()) == {GATEWAY: [CLONE, EPOCH]}
    # While both are on neither hides what the other says.
    of_clone = NONE | {"rows": [["TK101.level:HH", 1, "UNACK", T0, 2]]}
    district.take(state(4, next_event=3, epoch=CLONE, alarms=of_clone))
    district.take(event("alarm", 11, epoch=EPOCH, alarm="GD07.gas:H"))
    assert district.rows(active) == [
        ("GD07.gas:H", "UNACK", EPOCH), ("GD07.gas:HH", "UNACK", EPOCH), ("TK101.level:HH", "UNACK", CLONE),
    ]  # fmt: skip
    # What is silent for longer than states are apart is off.
    district.rows("UPDATE speaker SET state_at = state_at - interval '30 minutes'")
    district.take(state(9, next_event=12, alarms=standing))
    assert district.rows(active) == [("GD07.gas:HH", "UNACK", EPOCH)]
    assert district.run(district.database.twins()) == {}


def test_what_a_clone_does_not_know_of_is_still_to_come(district):
    district.take(birth(), data(1), data(4), state(5, [[2, 3]], next_event=1), state(1, next_event=1, epoch=CLONE))
    district.take(data(5), state(6, [[2, 3]], next_event=1))
    district.sweep()
    aged(district, 10)
    district.take(data(1, epoch=CLONE), state(2, next_event=1, epoch=CLONE))
    assert district.run(district.database.losses()) == []
    district.take(state(1, next_event=1, epoch="01KC0000"))  # a restart of either, which would know
    assert district.run(district.database.losses()) == [(Stream(GATEWAY, EPOCH, "data"), 2, 3)]


def test_what_an_earlier_version_knew_of_epochs_is_kept(database):
    async def with_two_versions() -> None:
        connection = await asyncpg.connect(database)
        await prepare(connection, scripts()[:2])
        await connection.execute(
            "INSERT INTO gateway (gateway, epoch, next_data, next_event, state, state_at, former)"
            " VALUES ('jt-0042', '01KAS2QX', 4, 3, '{}', now(), '{01KAR8M2,01DXF6DT}')"
        )
        await connection.execute(
            "INSERT INTO stream (gateway, epoch, stream, announced) VALUES (1, '01KAR8M2', 'data', 7)"
        )
        await prepare(connection, scripts())
        await connection.close()

    asyncio.run(with_two_versions())
    assert asyncio.run(rows(database, "SELECT epoch, is_over, next_data, next_event FROM speaker ORDER BY heard")) == [
        ("01KAR8M2", True, 8, 1), ("01DXF6DT", True, 1, 1), ("01KAS2QX", False, 4, 3),
    ]  # fmt: skip


def test_gaps_and_actions_are_rows(district):
    district.take(event("gap", 1), event("gap-dropped", 2), event("action-unit", 3))
    assert district.rows("SELECT cause, board, polls, polls_are, missing FROM gap ORDER BY seq") == [
        ("ring_full", "cab1", 1971, "at_most", None),
        ("disk_quota", None, None, "unknown", asyncpg.Range(4100, 4712)),
    ]
    assert district.rows("SELECT action, by, reason FROM action") == [("unit_accepted", "李工", "GD03 更换探头")]


# --- what is missing ----------------------------------------------------------------------------------------


def aged(district: District, minutes: int) -> None:
    """Let time pass for the holes that are known."""
    district.rows(f"UPDATE hole SET since = since - interval '{minutes} minutes'")


def standings(district: District) -> dict[str, tuple[int, list[tuple[int, int, bool]]]]:
    district.sweep()
    return {each.stream.name: (each.last, each.holes) for each in district.run(district.database.standings())}


def test_holes_are_found_age_and_fill(district):
    district.take(birth(), data(2), data(5))
    assert standings(district) == {"data": (5, [(1, 1, True), (3, 4, True)])}
    aged(district, 1)
    district.take(data(4), data(8))
    # What is left of an old hole is old.
    assert standings(district) == {"data": (8, [(1, 1, False), (3, 3, False), (6, 7, True)])}
    district.take(data(1), data(3), data(6), data(7))
    assert standings(district) == {"data": (8, [])}


def test_the_end_of_a_stream_is_missing_too(district):
    district.take(birth(), data(1), state(4, next_event=1))
    assert standings(district)["data"] == (3, [(2, 3, True)])


def test_what_a_store_has_forgotten_that_was_set_back_is_missing_all_the_same(district):
    district.take(birth(), data(1), state(10, next_event=1))
    topic, payload = state(1, next_event=1, epoch="01KB77XZ")
    knows = json.loads(payload)
    knows["epochs"][EPOCH] = {"data": {"next": 4, "receipted": None, "pending": [], "oldest_kept": 1}}
    district.take((topic, json.dumps(knows).encode()))
    district.sweep()
    (of_data,) = [
        each for each in district.run(district.database.standings()) if each.stream == (GATEWAY, EPOCH, "data")
    ]
    assert (of_data.last, of_data.holes) == (9, [(2, 9, True)])


@pytest.mark.parametrize("comes", [data(3), state(4, next_event=1)])
def test_nothing_is_promised_that_is_missing_since_the_last_sweep(district, comes):
    """Another copy has committed what comes behind it, or a state tells of it."""
    district.take(birth(), data(1))
    district.sweep()
    district.take(comes)
    promised = receipts(district.run(district.database.standings()))
    assert promised[GATEWAY][EPOCH]["data"] == {"committed": 1, "missing": []}


def test_what_a_gap_has_dropped_is_not_missing(district):
    district.take(data(5), event("gap-dropped", 1, missing_epoch=EPOCH, missing_seq=[1, 3]))
    assert standings(district)["data"] == (5, [(4, 4, True)])


def test_a_gap_may_be_told_of_events_and_by_another_epoch(district):
    district.take(event("alarm", 5, epoch=EPOCH))
    district.take(event("gap-dropped", 1, epoch="01KB77XZ", of="event", missing_epoch=EPOCH, missing_seq=[1, 3]))
    district.sweep()
    found = {each.stream: each.holes for each in district.run(district.database.standings())}
    assert found == {(GATEWAY, EPOCH, "event"): [(4, 4, True)], (GATEWAY, "01KB77XZ", "event"): []}


def test_pending_is_coming_and_the_rest_is_lost(district):
    losses = district.database.losses
    district.take(birth(), data(1), data(9))
    district.sweep()
    aged(district, 10)
    assert district.run(losses()) == []  # no state has been heard: it may come
    district.take(state(10, [[2, 4]], next_event=1))
    assert district.run(losses()) == [(Stream(GATEWAY, EPOCH, "data"), 5, 8)]
    district.take(*(data(seq) for seq in range(2, 9)))
    district.sweep()
    assert district.run(losses()) == []


# --- tables -------------------------------------------------------------------------------------------------


def test_tables_are_upgraded_with_what_they_hold(district):
    district.take(birth(), data(1))
    more = [*scripts(), "ALTER TABLE reading ADD COLUMN mark text DEFAULT 'kept'"]

    async def upgrade(known: list[str]) -> None:
        connection = await asyncpg.connect(district.url)
        try:
            await prepare(connection, known)
        finally:
            await connection.close()

    district.run(upgrade(more))
    district.run(upgrade(more))
    assert district.rows("SELECT value, mark FROM reading") == [(8.412, "kept")]
    with pytest.raises(NoPlace, match="install a newer tankgate"):
        district.run(upgrade(scripts()))


def test_two_that_begin_at_once_make_the_tables_once(database):
    async def both() -> None:
        pair = [Database(database, VIOLATIONS) for _copy in range(2)]
        await asyncio.gather(*(each.connect() for each in pair))
        for each in pair:
            await each.close()

    asyncio.run(both())
    made = [(number + 1,) for number, _script in enumerate(scripts())]
    assert asyncio.run(rows(database, "SELECT version FROM version ORDER BY 1")) == made


def test_copies_that_write_the_same_points_and_streams_never_wait_in_a_circle(database):
    names = [f"TK101.{name}" for name in ("level", "temp")]

    async def write(copy: Database, messages: list[Message]) -> None:
        for each in messages:
            await copy.commit([read(*each, VIOLATIONS)])

    async def both() -> None:
        pair = [Database(database, VIOLATIONS) for _copy in range(2)]
        await write(pair[0], [birth()])
        states = [values(seq, *([name, T0, 1.0] for name in names)) for seq in range(2, 100)]
        batches = [data(seq, *((name, at, 2.0, 0, 0) for at, name in enumerate(names))) for seq in range(1, 99)]
        await asyncio.gather(write(pair[0], states), write(pair[1], batches))
        for each in pair:
            await each.close()

    asyncio.run(both())
    ((deadlocks,),) = asyncio.run(
        rows(database, "SELECT deadlocks FROM pg_stat_database WHERE datname = current_database()")
    )
    assert deadlocks == 0


def test_one_sweeps_until_it_ends(database):
    async def three() -> list[bool]:
        first, second = Database(database, VIOLATIONS), Database(database, VIOLATIONS)
        said = [await first.is_sweeper(), await second.is_sweeper(), await first.is_sweeper()]
        await first.close()
        said.append(await second.is_sweeper())
        await second.close()
        return said

    assert asyncio.run(three()) == [True, False, True, True]


def test_a_commit_waits_for_the_disk_whatever_the_database_is_set_to(district):
    """Others may have made it faster; what is acknowledged and receipted must outlive its crash."""
    ((name,),) = district.rows("SELECT current_database()")
    district.rows(f"ALTER DATABASE {name} SET synchronous_commit = off")
    connection = district.run(district.database.connect())
    assert district.run(connection.fetchval("SHOW synchronous_commit")) == "on"


def test_who_is_gone_without_a_word_is_found_out_before_the_others_lose_patience(district):
    asked = "SELECT name, reset_val::int FROM pg_settings WHERE name LIKE 'tcp_%'"
    district.take(birth())
    connection = district.run(district.database.connect())
    found = dict(district.run(connection.fetch(asked)))
    silent_s = found["tcp_keepalives_idle"] + found["tcp_keepalives_interval"] * found["tcp_keepalives_count"]
    assert 0 < silent_s < PATIENCE_S and 0 < found["tcp_user_timeout"] / 1000 < PATIENCE_S


def test_a_restarted_database_is_found_again():
    server = Postgres()
    try:
        district = District(server.create("d"))
        district.take(birth(), data(1))
        server.stop()
        with pytest.raises((OSError, asyncpg.PostgresError, asyncpg.InterfaceError)):
            district.take(data(2))
        server.start()
        assert district.take(data(2), data(1)).messages == 1
        district.close()
    finally:
        server.close()


def test_a_database_that_is_set_back_while_copies_run_is_filled_like_any_other(postgres):
    """What it had until then is not known by the same ids any more: here they are those of another epoch."""
    district, backup = District(postgres.create("set-back")), District(postgres.create("backup"))
    district.take(birth(), data(1))
    backup.take(birth(), *(data(seq, epoch="01KA0000") for seq in (1, 2)))
    backup.close()
    postgres.restore("set-back", "backup")
    with pytest.raises(UNAVAILABLE):
        district.take(data(2))
    district.database.abandon()
    assert district.take(data(2)).messages == 1
    kept = "SELECT epoch, seq FROM message JOIN stream ON stream.id = message.stream ORDER BY 1, 2"
    assert district.rows(kept) == [("01KA0000", 1), ("01KA0000", 2), (EPOCH, 2)]
    district.close()


def test_a_database_that_does_not_answer_in_time_is_a_fault_with_words(district, monkeypatch):
    district.take(birth(), data(1))
    district.database.abandon()
    monkeypatch.setattr("edge.district.database.PATIENCE_S", 0.5)

    async def lock() -> asyncpg.Connection:
        connection = await asyncpg.connect(district.url)
        await connection.execute("BEGIN; LOCK TABLE message")
        return connection

    locked = district.run(lock())
    with pytest.raises(UNAVAILABLE) as raised:
        district.take(data(2))
    assert why(raised.value) == "no answer came in time"
    district.run(locked.close())


# --- an engineer's questions --------------------------------------------------------------------------------


def test_the_readmes_questions_are_answered(district):
    district.take(birth(), data(1), data(3), event("alarm", 912), event("gap", 915), state(4, next_event=913))
    district.sweep()
    aged(district, 10)
    district.take(state(5, next_event=914))
    text = (Path(__file__).parents[2] / "edge" / "district" / "README.md").read_text("utf-8")
    questions = [each for block in re.findall(r"```sql\n(.*?)```", text, re.S) for each in block.split(";")[:-1]]
    assert len(questions) == 7
    for question in questions:
        assert district.rows(question), question


def test_history_is_found_by_its_index(district):
    district.take(birth(), *(data(seq, ("TK101.level", 0, 1.0, 0, 0), t0=T0 + seq) for seq in range(1, 500)))
    district.rows("ANALYZE")
    plan = district.rows(
        "EXPLAIN SELECT t, value FROM history WHERE gateway = 'jt-0042' AND point = 'TK101.level'"
        " AND t BETWEEN '2026-11-23 02:30:04+00' AND '2026-11-23 02:30:04.01+00'"
    )
    assert "reading_by_point" in str(plan)
