"""What goes first, and when: the declared order, as tables."""

import pytest

from edge.batch import Batch, Filed, Mark, Message, Row, Section, filed
from edge.retention import HEADROOM_BYTES, Drop, Dropped, Usage, drop_due, shrink
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
        dropped, merged = Dropped("data", "retention"), Dropped("data", "retention")
        for part in parts:
            dropped.add(*part)
            later = Dropped("data", "retention")
            later.add(*part)
            merged.merge(later)
        assert (dropped.from_ms, dropped.to_ms) == (merged.from_ms, merged.to_ms) == span
        assert dropped.polls == merged.polls == sum(polls for _from, _to, polls in parts)


def one_second(seq: int) -> Filed:
    section = Section("cab1", "4be01d77", Clock("synced", 7, NOW_MS, 0))
    rows = tuple(Row(0, 1000 * seq + i // 2, i, i / 7, 0, 0) for i in range(20))
    messages = (
        Message("data", seq, "data", "d1c1a179", None, b"\x0f\0\0"),
        Message("event", seq, "alarm", "d1c1a179", b"{}", None),
    )
    return filed(Batch("d1c1a179", (section,), rows, (Mark("cab1", "4be01d77", seq, 9, NOW_MS),), messages))


def test_memory_gives_up_the_oldest_readings_first_and_keeps_events_and_marks() -> None:
    groups = [[one_second(seq)] for seq in range(1, 11)]
    half = sum(each.bytes for group in groups for each in group) - 3 * (one_second(1).bytes - 700)
    (dropped,) = shrink(groups, half, EPOCH)
    last = dropped.numbers[EPOCH][1]
    assert dropped.numbers == {EPOCH: (1, last)} and 1 <= last < 9
    assert (dropped.stream, dropped.cause, dropped.polls) == ("data", "disk_fault", 10 * last)
    assert (dropped.from_ms, dropped.to_ms) == (NOW_MS + 1000, NOW_MS + 1000 * last + 9)
    for seq, (batch,) in enumerate(groups, start=1):
        assert (batch.readings is None) == (seq <= last)
        assert [m.stream for m in batch.messages] == (["event"] if seq <= last else ["data", "event"])
        assert len(batch.taken) == 1
    assert sum(each.bytes for group in groups for each in group) <= half
    assert list(shrink(groups, half, EPOCH)) == []


def test_events_go_only_when_there_are_no_readings_left() -> None:
    groups = [[one_second(seq)] for seq in range(1, 5)]
    data, event = shrink(groups, 0, EPOCH)
    assert (data.stream, data.numbers, data.polls) == ("data", {EPOCH: (1, 4)}, 40)
    assert (event.stream, event.numbers, event.polls) == ("event", {EPOCH: (1, 4)}, 4)
    assert [len(batch.taken) for (batch,) in groups] == [1] * 4
