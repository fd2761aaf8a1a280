"""What samples and counts of a board add to the figures of units and buses, in virtual time."""

import struct

import pytest

from edge.statistics import Statistics, Unit, reply_times
from protocols import link, modbus

UNIT = ("gas-a", 3)


def sample(outcome: int, first: int = 0, answered: int = 0, code: int = 0) -> bytes:
    body = bytes((0, outcome | first << 4)) + struct.pack("<IHB", 1, 0, answered)
    return body + bytes((code,)) if outcome == modbus.EXCEPTION else body


def counts(state: int, span_ms: int, busy_ms: int, overruns: int = 0, foreign: int = 0, stray_bytes: int = 0) -> bytes:
    return bytes((0, state)) + struct.pack("<IH5H", 1, 0, span_ms, busy_ms, overruns, foreign, stray_bytes)


def unit_of(*bodies: bytes, now_s: float = 0.0) -> Unit:
    statistics = Statistics()
    for i, body in enumerate(bodies):
        statistics.sample(UNIT, body, 1000 + i, now_s)
    return statistics.units[UNIT]


def test_each_end_of_a_poll_has_its_count() -> None:
    unit = unit_of(
        sample(modbus.OK, answered=12),
        sample(modbus.TIMEOUT),
        sample(modbus.BAD_CRC),
        sample(modbus.SHORT),
        sample(modbus.WRONG_REPLY),
        sample(modbus.EXCEPTION, answered=9, code=2),
        sample(modbus.EXCEPTION, answered=9, code=6),
        sample(modbus.EXCEPTION, answered=9, code=2),
    )
    figures = unit.figures(0.0)
    assert figures["last_ok_ms"] == 1000
    assert figures["since_start"] == figures["hour"] == {
        "ok": 1,
        "timeout": 1,
        "crc": 1,
        "short": 1,
        "foreign": 1,
        "exception": 3,
        "retried_timeout": 0,
        "retried_crc": 0,
        "retried_short": 0,
        "retried_foreign": 0,
        "late": 0,
        "exceptions": {"2": 2, "6": 1},
        "reply_min_ms": 9,
        "reply_p50_ms": 9,
        "reply_p95_ms": 12,
        "reply_max_ms": 12,
    }
    assert unit.row(0.0) == [1, 1, 1, 0, 3, 12, 1000, 1, 1, 0]


def test_a_first_try_that_a_retry_healed_is_counted_by_its_kind() -> None:
    unit = unit_of(sample(modbus.OK, first=modbus.BAD_CRC, answered=5), sample(modbus.TIMEOUT, first=modbus.TIMEOUT))
    assert unit.counts.since_start == {"ok": 1, "retried_crc": 1, "timeout": 1, "retried_timeout": 1}
    assert unit.row(0.0)[-1] == 2


def test_what_was_not_asked_is_no_poll() -> None:
    unit = unit_of(sample(modbus.TIMEOUT, answered=link.NOT_ASKED))
    assert unit.counts.since_start == {} and not unit.lately


def test_an_hour_slides_by_the_minute_and_the_start_does_not() -> None:
    statistics = Statistics()
    for minute, times in ((0, 3), (1, 2), (59, 1)):
        for _ in range(times):
            statistics.sample(UNIT, sample(modbus.OK, answered=100 if minute else 30), None, 60.0 * minute + 59.9)
    unit = statistics.units[UNIT]
    seen = [
        (unit.counts.minute(now_s)["ok"], unit.counts.hour(now_s)["ok"], unit.figures(now_s)["hour"]["reply_min_ms"])
        for now_s in (59 * 60 + 59.9, 3600.0, 3660.0, 119 * 60.0)
    ]
    assert seen == [(0, 6, 30), (1, 3, 100), (0, 1, 100), (0, 0, None)]
    assert unit.counts.since_start["ok"] == 6 and unit.figures(7200.0)["since_start"]["reply_min_ms"] == 30


@pytest.mark.parametrize(
    ("replies", "times"),
    [
        ({}, [None, None, None, None]),
        ({7: 1}, [7, 7, 7, 7]),
        ({7: 1, 9: 1}, [7, 7, 9, 9]),
        ({5: 50, 8: 45, 90: 5}, [5, 5, 8, 90]),
        ({5: 50, 8: 44, 90: 6}, [5, 5, 90, 90]),
        ({20: 94, 100: 1, 101: 4, 254: 1}, [20, 20, 100, 3180]),  # in steps of 20 ms from 100 on
    ],
)
def test_reply_times(replies: dict[int, int], times: list[int | None]) -> None:
    assert list(reply_times(replies).values()) == times


def test_a_bus_has_its_load_of_the_last_record_of_the_hour_and_the_highest() -> None:
    statistics = Statistics()
    for minute, busy_ms in enumerate((6000, 30_000, 12_000)):
        statistics.counts("gas-a", "boot", counts(link.POLLING, 60_000, busy_ms, 0, 1, 5), {}, 60.0 * minute)
    statistics.counts("gas-a", "boot", counts(link.LISTENING, 300, 300), {}, 121.0)  # too short to say anything
    bus = statistics.buses["gas-a"]
    assert bus.row() == ["listening", 20, 0, 3, 15]
    assert (bus.load_pct, bus.peak_load_pct) == (20, 50)
    assert bus.figures(121.0)["hour"] == {"load_pct": 27, "overruns": 0, "foreign": 3, "stray_bytes": 15}
    assert bus.figures(121.0)["minute"]["load_pct"] == 50


def test_a_period_missed_while_the_bus_was_not_ours_is_no_overrun() -> None:
    statistics = Statistics()
    records = [
        ("a", link.POLLING, 100),  # it listened first
        ("a", link.POLLING, 1),
        ("a", link.OTHER_MASTER, 2),
        ("a", link.OTHER_MASTER, 100),
        ("a", link.POLLING, 100),
        ("a", link.POLLING, 4),
        ("b", link.POLLING, 100),  # and again, after its board's restart
    ]
    for boot, state, overruns in records:
        statistics.counts("gas-a", boot, counts(state, 60_000, 0, overruns), {}, 0.0)
    assert statistics.buses["gas-a"].counts.since_start["overruns"] == 1 + 2 + 4
