"""What goes first, and when: the declared order, as tables."""

from collections.abc import Iterable
from dataclasses import replace

import pytest

from edge.batch import Batch, Bypass, Filed, Held, Kept, Mark, Message, Row, Section, filed
from edge.retention import AROUND_MS, HEADROOM_BYTES, Drop, Dropped, Usage, drop_due, shrink
from edge.timebase import Clock
from protocols.model import StoreSettings

MB = 10**6
DAY_S = 86_400
NOW_S = 400 * DAY_S
NOW_MS = 1_795_400_000_000
KEEP = StoreSettings("store", max_bytes=100 * MB, readings_days=30, alarms_days=365)
LOG_BYTES = 4 * MB
READINGS_MAX = 96 * MB * 9 // 10
EMPTY = Usage(0, 0, 10**9, False, None, NOW_S, None)
EPOCH = "01KAR8M2QQQQQQQQ"


def due(**usage: object) -> Drop | None:
    return drop_due(EMPTY._replace(**usage), KEEP, LOG_BYTES, NOW_S)


@pytest.mark.parametrize(
    ("usage", "goes"),
    [
        ({"oldest_s": NOW_S - 29 * DAY_S, "oldest_event_s": NOW_S - 364 * DAY_S}, None),
        ({"oldest_s": NOW_S - 31 * DAY_S}, ("data", "retention")),
        ({"oldest_event_s": NOW_S - 366 * DAY_S}, ("event", "retention")),
        ({"file_bytes": READINGS_MAX}, None),
        ({"file_bytes": READINGS_MAX + MB}, ("data", "disk_quota")),
        ({"file_bytes": READINGS_MAX + 9 * MB, "unused_bytes": 9 * MB}, None),
        ({"file_bytes": READINGS_MAX + MB, "oldest_s": None}, None),  # the last tenth is for events
        ({"file_bytes": 96 * MB, "oldest_s": None}, ("event", "disk_quota")),
        ({"file_bytes": 60 * MB, "is_full": True, "disk_free_bytes": 0}, ("data", "disk_quota")),
        ({"file_bytes": 60 * MB, "is_full": True, "disk_free_bytes": 0, "unused_bytes": HEADROOM_BYTES}, None),
        ({"file_bytes": 60 * MB, "is_full": True, "disk_free_bytes": 30 * MB}, None),
        ({"oldest_kept_s": NOW_S - 364 * DAY_S, "kept_bytes": 9 * MB}, None),
        ({"oldest_kept_s": NOW_S - 366 * DAY_S, "kept_bytes": 9 * MB}, ("kept", "retention")),
        ({"file_bytes": READINGS_MAX + MB, "kept_bytes": READINGS_MAX // 5}, ("data", "disk_quota")),
        ({"file_bytes": READINGS_MAX + MB, "kept_bytes": READINGS_MAX // 3}, ("kept", "disk_quota")),
        ({"file_bytes": READINGS_MAX + MB, "kept_bytes": 1, "oldest_s": None}, ("kept", "disk_quota")),
        ({"file_bytes": 1 * MB, "is_full": True, "disk_free_bytes": 0}, None),  # it has nothing to give
    ],
)
def test_what_goes_next(usage: dict[str, object], goes: tuple[str, str] | None) -> None:
    drop = due(**usage)
    assert (None if drop is None else (drop.stream, drop.cause)) == goes


def test_what_has_no_time_takes_the_span_from_what_goes_with_it() -> None:
    """A span that left out some of what is gone would say that it is not."""
    timed, untimed, events = (NOW_MS, NOW_MS + 5, 3), (None, None, 4), (None, None, 0)
    for parts, span in (((timed, events), timed[:2]), ((timed, untimed, timed), (None, None))):
        dropped = Dropped("data", "retention")
        for part in parts:
            dropped.add(*part)
        assert (dropped.from_ms, dropped.to_ms) == span
        assert dropped.polls == sum(polls for _from, _to, polls in parts)


def one_second(seq: int) -> Filed:
    section = Section("cab1", "4be01d77", Clock("synced", 7, NOW_MS, 0))
    rows = tuple(Row(0, 1000 * seq + i // 2, i, i / 7, 0, 0) for i in range(20))
    messages = (
        Message("data", seq, "data", "d1c1a179", None, b"\x0f\0\0"),
        Message("event", seq, "alarm", "d1c1a179", b"{}", None),
    )
    return filed(Batch("d1c1a179", (section,), rows, (Mark("cab1", "4be01d77", seq, 9, NOW_MS),), messages))


def test_memory_gives_up_the_oldest_readings_first_and_keeps_events_and_marks_in_one_batch() -> None:
    groups = [[one_second(seq)] for seq in range(1, 11)]
    before = sum(each.bytes for group in groups for each in group)
    count, left, (dropped,) = shrink(groups, before // 2, EPOCH)
    assert dropped.numbers == {EPOCH: (1, count)} and 5 <= count < 9
    assert (dropped.stream, dropped.cause, dropped.polls) == ("data", "disk_fault", 10 * count)
    assert (dropped.from_ms, dropped.to_ms) == (NOW_MS + 1000, NOW_MS + 1000 * count + 9)
    assert left.readings is None and left.polls == 0
    assert [(m.stream, m.seq) for m in left.messages] == [("event", seq) for seq in range(1, count + 1)]
    assert left.taken == (Mark("cab1", "4be01d77", count, 9, NOW_MS),)
    assert left.bytes + sum(each.bytes for group in groups[count:] for each in group) <= before - before // 2


def test_events_go_only_when_there_are_no_readings_left() -> None:
    groups = [[one_second(seq)] for seq in range(1, 5)]
    count, left, (data, event) = shrink(groups, 10**6, EPOCH)
    assert (data.stream, data.numbers, data.polls) == ("data", {EPOCH: (1, 4)}, 40)
    assert (event.stream, event.numbers, event.polls) == ("event", {EPOCH: (1, 4)}, 4)
    assert (count, left.messages, len(left.taken)) == (4, (), 1)
    only_events = [shrink(groups, 1, EPOCH).batch]  # of the first two
    count, left, (data, event) = shrink([only_events, groups[-1]], groups[-1][0].bytes, EPOCH)
    assert (data.numbers, event.numbers) == ({EPOCH: (4, 4)}, {EPOCH: (1, 1)})
    assert [message.seq for message in left.messages] == [4]


def test_what_is_left_of_them_knows_the_newest_of_everything() -> None:
    groups = []
    for seq in range(1, 4):
        held = Held("gas", 1, "p", 3, 0, 1, None, bytes([seq]))
        kept = Kept("GD01.gas:H", None, f"facts {seq}", None, False)
        bypass = (Bypass(1, "drill", "", "", "", "", 0, 0),) if seq == 2 else None
        groups.append([replace(one_second(seq), held=(held,), alarms=(kept,), bypasses=bypass, raised_ms=(seq,))])
    left = shrink(groups, 10**6, EPOCH).batch
    assert [each.seen for each in left.held] == [b"\3"] and [each.facts for each in left.alarms] == ["facts 3"]
    assert left.bypasses is not None and [each.number for each in left.bypasses] == [1]


def test_of_an_alarm_that_is_raised_again_and_again_as_much_is_known_as_keeps_readings() -> None:
    raised_ms = [*range(0, 3_600_000, 1000), 10**9]
    batch = replace(one_second(1), raised_ms=tuple(reversed(raised_ms)))
    left = shrink([[batch]], 10**6, EPOCH).batch.raised_ms
    assert len(left) < 10 and (left[0], left[-1]) == (0, 10**9)

    def keeps(raised: Iterable[int]) -> set[int]:
        minutes = range(-20, 20_000)
        return {m for m in minutes if any(abs(m * 60_000 - t_ms) <= AROUND_MS for t_ms in raised)}

    assert keeps(left) == keeps(raised_ms[::60] + raised_ms[-2:])
