"""No message, whatever it says and in whatever order it comes, holds up another: at worst it is set aside."""

import copy
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from edge.district.messages import DOCUMENTS
from protocols.feeds import json_feed
from tests.edge.test_district_database import (
    BOOT,
    EPOCH,
    GATEWAY,
    GOLDEN,
    T0,
    UNSYNCED,
    District,
    Message,
    birth,
    clock,
    data,
    district,
    event,
    state,
)

pytestmark = pytest.mark.needs("postgres")
__all__ = ["district"]

OTHER = "jt-0043"
ABSURD: tuple[Any, ...] = (
    *(None, True, -1, 1.0, 0.5, 2**31, 2**63 - 1, 2**63, 10**30, 10**400, 1e300, -1e300),
    *("", "\0", "x" * 9000, [], [None], [9, 1], {}, {"a": {}}),
)
VIEWS = ("latest_value", "history", "active_alarm", "loss")


def of_the_other(message: Message) -> Message:
    """The same from another gateway."""
    topic, payload = message
    return topic.replace(GATEWAY, OTHER), payload.replace(GATEWAY.encode(), OTHER.encode())


def goes_on(district: District) -> None:
    """Another gateway's messages come through, those that wait too, and whoever asks is answered."""
    district.take(of_the_other(data(1)))
    district.take(of_the_other(event("action", 1, **UNTIMED)), of_the_other(clock(2, 0, T0)), of_the_other(birth()))
    assert district.sweep().readings >= 1
    assert district.rows(f"SELECT value FROM history WHERE gateway = '{OTHER}'") == [(8.412,)]
    of_other = f"gateway = (SELECT id FROM gateway WHERE gateway = '{OTHER}')"
    assert district.rows(f"SELECT extract(epoch FROM t) * 1000 FROM action WHERE {of_other}") == [(T0 + 8120,)]
    district.run(district.database.standings())
    district.run(district.database.losses())
    for view in VIEWS:
        district.rows(f"SELECT * FROM {view}")


UNTIMED = {
    "t_ms": None, "boot": BOOT, "t_uptime_ms": 8120, "time": {"kind": "unsynced", "err_ms": None}, "epoch": EPOCH,
}  # fmt: skip
READING = ("TK101.level", 118, 8.412, 0, 0)


def changed(message: Message, **change: Any) -> Message:
    return message[0], json.dumps(json.loads(message[1]) | change).encode()


@pytest.mark.parametrize(
    "messages",
    [
        [changed(data(1), rows=[["TK101.level", 253402300000000, 8.4]]), birth()],
        [changed(data(1), rows=[["TK101.level", 0, 10**400]]), birth()],
        [data(1, t0=10**14, quality=UNSYNCED), changed(clock(1, 0, T0), utc_at_uptime_0_ms=20 * T0), birth()],
        [birth(), data(1, READING, t0=8120, quality=UNSYNCED), changed(clock(1, 0, T0), drift_ppm=1e300)],
        [event("action", 1, **UNTIMED), changed(clock(2, 0, T0), utc_at_uptime_0_ms=9 * 10**18)],
        [event("action", 1, **UNTIMED), changed(clock(2, 0, T0), drift_ppm=1e300)],
        [event("action", 1, **UNTIMED | {"t_uptime_ms": 9 * 10**18}), changed(clock(2, 0, T0), drift_ppm=1000)],
        [birth(), data(1, READING, t0=8120, quality=UNSYNCED), changed(clock(1, 0, T0), err_ms=2**40)],
        [changed(state(4), epochs={"01KAQZZ0": json.loads(state(2**63)[1])["epochs"][EPOCH]})],
        [event("gap", 1, missing_seq=[1, 3]), event("gap", 2, missing_epoch=EPOCH)],
        [changed(event("birth", 2), time="noon")],
        [changed(event("action", 7), seq=1.0)],
        [changed(state(4), alarms={"columns": [], "rows": [["a.b:H", 10**30, "UNACK", 9 * 10**18, 1]]})],
    ],
    ids=lambda messages: messages[-1][1][-60:].decode()[-40:],
)
def test_what_would_stop_a_sweep_is_set_aside(district, messages):
    for message in messages:
        district.take(message)
    district.sweep()
    goes_on(district)


def test_a_birth_without_points_does_not_keep_its_batches_waiting(district):
    none = birth({"points": []})
    of = json.loads(none[1])["birth"]
    district.take(*(data(seq, of=of) for seq in range(1, 4)))
    district.take(none)
    assert district.sweep().set_aside == 3
    assert district.rows("SELECT FROM waiting") == []
    goes_on(district)


def test_what_an_earlier_version_let_in_stops_nothing(district):
    """Batches that waited, and clock records that were believed, when the bounds were not yet known."""
    district.take(data(1), data(2, t0=8120, quality=UNSYNCED), data(3), event("action", 1, **UNTIMED))
    district.rows(
        "UPDATE waiting SET payload = convert_to(replace(convert_from(payload, 'UTF8'), ',118,', ',253402300000000,'),"
        " 'UTF8') WHERE seq = 1"
    )
    district.rows(
        "INSERT INTO clock SELECT 99, 1, id, 'cab1/9f3a60c2', 0, 9000000000000000000, 1e300, 9000000000000 FROM gateway"
    )
    district.take(birth())
    counts = district.sweep()
    assert (counts.readings, counts.set_aside) == (1, 1)
    assert district.rows("SELECT seq, reason LIKE 'row %' FROM set_aside") == [(1, True)]
    assert district.rows("SELECT seq, boot FROM waiting") == [(2, BOOT)]
    assert district.rows("SELECT t FROM action") == [(None,)]
    goes_on(district)


def test_what_the_database_refuses_of_what_has_waited_is_set_aside(district):
    district.take(data(1), data(2, ("TK101.level", 0, 8.5, 0, 0)), data(3))
    district.rows("ALTER TABLE reading ADD CHECK (value <> 8.5)")  # whatever it may be that it refuses
    district.take(birth())
    counts = district.sweep()
    assert (counts.messages, counts.readings, counts.set_aside) == (3, 2, 1)
    ((seq, reason, payload),) = district.rows("SELECT seq, reason, payload FROM set_aside")
    assert (seq, "check" in reason) == (2, True) and b"8.5" in payload
    assert district.rows("SELECT seq, kind FROM message ORDER BY seq") == [(1, "data"), (2, "unreadable"), (3, "data")]
    goes_on(district)


# --- anything whatsoever ------------------------------------------------------------------------------------


def places(within: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Where something stands in a document; of a list its first element speaks for all."""
    inner = within.items() if isinstance(within, dict) else enumerate(within[:1]) if isinstance(within, list) else ()
    for step, value in inner:
        yield (*path, step)
        yield from places(value, (*path, step))


def variants(file: Path) -> Iterator[Message]:
    """The message with something absurd in each of its places in turn, each under a number of its own."""
    sound = json.loads(file.read_text("utf-8")) | {"gateway": GATEWAY}
    kind = sound["schema"].split("/")[1]
    topic = json_feed.topic(GATEWAY, kind if kind in (*DOCUMENTS[1:], "data") else f"event/{kind}")
    seq = 1000
    for path in list(places(sound)):
        for absurd in ABSURD:
            document = copy.deepcopy(sound)
            if "seq" in document:
                document["seq"] = seq = seq + 1
            within = document
            for step in path[:-1]:
                within = within[step]
            within[path[-1]] = absurd
            if kind == "birth":
                own = ("schema", "gateway", "epoch", "stream", "seq", "birth")
                document["birth"] = json_feed.birth_id({key: document[key] for key in document if key not in own})
            yield topic, json.dumps(document).encode()


TOLD = [file for file in sorted(GOLDEN.iterdir()) if not file.stem.startswith(("receipt", "command", "reply"))]


@pytest.mark.parametrize("file", TOLD, ids=lambda file: file.stem)
def test_anything_whatsoever_holds_up_nothing(district, file):
    messages = list(variants(file))
    district.take(*messages)
    district.take(birth(), clock(1, 0, T0))
    district.sweep()
    assert district.rows("SELECT count(*) > 0 FROM set_aside") == [(True,)]
    goes_on(district)
