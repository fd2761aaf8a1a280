"""What a site will do: figures by hand from the line's arithmetic, and what the real poller makes of the example."""

import dataclasses
from collections import defaultdict
from collections.abc import Iterable
from itertools import pairwise
from pathlib import Path

import pytest

from edge.config import load_site
from edge.forecast import RING_BYTES, Forecast, Span, Worst, forecast, judge, transaction_ms
from edge.planning import BoardPlan, PlannedRead, compile_board
from hil_tests.bench import line, sheet
from hil_tests.bench.bench import make_units
from hil_tests.bench.units import SILENT
from overheard import LISTEN_MS, Overheard
from poller import Poller
from protocols import link
from protocols.model import Line, Output, Site
from protocols.profile import Read, builtin
from protocols.ticks import diff
from recorder import Recorder
from uptime import Uptime

ROOT = Path(__file__).parents[2]
SITE = ROOT / "hil_tests" / "site"
LINK_BAUD = 460800


@pytest.fixture(scope="module")
def site() -> Site:
    return load_site(SITE / "gateway.toml")


def plans_of(site: Site) -> list[BoardPlan]:
    compiled = (compile_board(site, board.name, "d1c1a179", ()) for board in site.boards)
    return [plan for plan in compiled if plan is not None]


def told_of(site: Site) -> Forecast:
    return forecast(site, plans_of(site), LINK_BAUD)


def with_points(site: Site, **changes: object) -> Site:
    """The site, every point of it changed in the same way."""
    return dataclasses.replace(site, points=tuple(dataclasses.replace(point, **changes) for point in site.points))


def codes(problems: Iterable[object]) -> list[str]:
    return [str(problem).split()[-1] for problem in problems]


# (13 + 2n) characters, twice 3.5 characters or 1.75 ms of silence; ct = bits / baud.
TRANSACTIONS = [
    ("9600 8N1", 3, 1, 22.92),  # 22 ct of 1.0417 ms
    ("9600 8E1", 3, 10, 45.83),  # 40 ct of 1.1458 ms
    ("19200 8N1", 4, 2, 12.5),  # 24 ct of 0.5208 ms
    ("115200 8N1", 3, 10, 6.365),  # 33 ct of 0.0868 ms, and 3.5 ms
    ("115200 8N2", 3, 20, 8.561),  # 53 ct of 0.0955 ms, and 3.5 ms
    ("9600 8N1", 1, 16, 22.92),  # 16 coils are two bytes, as one register is
    ("9600 8N1", 2, 17, 23.96),  # 17 inputs are three
]


@pytest.mark.parametrize(("settings", "function_code", "count", "expected_ms"), TRANSACTIONS)
def test_one_poll_on_the_wire(settings: str, function_code: int, count: int, expected_ms: float) -> None:
    planned = PlannedRead("bus", 1, Read(function_code, 0, count, ()), 1000, False, "profile")
    assert transaction_ms(Line.parse(settings), planned, 0) == pytest.approx(expected_ms, abs=0.005)
    assert transaction_ms(Line.parse(settings), planned, 30) == pytest.approx(expected_ms + 30, abs=0.005)


def test_the_three_buses_of_the_example(site: Site) -> None:
    """By hand; ct = bits / baud, a cycle of n registers is (20 + 2n) ct + first byte up to 19200 baud.

    level: 9600 8N1, ct = 1.0417 ms. Input registers 100-107, n = 8: 36 ct = 37.5 ms; time-out 300 ms: 337.5 ms.
        Six units in 2 s: 225 / 2000 = 11.25 %, and 2025 / 2000 = 101.25 %, so that 2 s becomes 2.025 s.
    gas-a: 19200 8N1, ct = 0.52083 ms. 40003-40011, n = 9: 38 ct = 19.792 ms; 319.792 ms.
        Six units in 1 s: 118.75 ms = 11.875 %; 1918.75 ms = 191.875 %: 1 s becomes 1.91875 s.
    gas-b: 9600 8N1. Four times 0-9, n = 10: 40 ct = 41.667 ms, time-out 500: 541.667 ms, each second;
        once n = 6: 32 ct = 33.333 ms, time-out 300: 333.333 ms, each 5 s.
        (4 x 41.667) / 1000 + 33.333 / 5000 = 17.333 %; (4 x 541.667) / 1000 + 333.333 / 5000 = 223.333 %.
        The four share what the fifth leaves: 2166.667 / (1 - 0.066667) = 2321.43 ms.
    """
    level, gas_a, gas_b = told_of(site).buses
    assert [bus.units for bus in (level, gas_a, gas_b)] == [6, 6, 5]
    assert level.load_pct == pytest.approx((11.25, 101.25))
    assert level.longest_ms == pytest.approx((37.5, 337.5))
    assert [(p.asked_ms, p.reachable_ms) for p in level.periods] == [(2000, pytest.approx((2000, 2025)))]
    assert gas_a.load_pct == pytest.approx((11.875, 191.875))
    assert gas_a.longest_ms == pytest.approx((19.792, 319.792), abs=0.001)
    assert [(p.asked_ms, p.reachable_ms) for p in gas_a.periods] == [(1000, pytest.approx((1000, 1918.75)))]
    assert gas_b.load_pct == pytest.approx((17.3333, 223.3333), abs=0.0001)
    assert gas_b.longest_ms == pytest.approx((41.667, 541.667), abs=0.001)
    assert [(p.asked_ms, p.reachable_ms) for p in gas_b.periods] == [
        (1000, pytest.approx((1000, 2321.43), abs=0.01)),
        (5000, pytest.approx((5000, 5000))),
    ]


def test_how_slowly_units_may_answer_and_whether_a_dead_one_is_noticed(site: Site) -> None:
    """By hand. level: (1 - 0.1125) / (6 / 2000 ms) = 295.83 ms; idle 2000 - 225 ms.

    gas-a: (1 - 0.11875) / (6 / 1000 ms) = 146.875 ms; idle 1000 - 118.75 ms.
    gas-b: (1 - 0.17333) / (4 / 1000 + 1 / 5000 ms) = 196.83 ms; idle 1000 - 4 x 41.667 - 33.333 = 800 ms.
    A probe waits the floor (300, 100, 100 ms), or the time-out where a unit is known to be as slow; the wire takes
    37.5, 19.79 and 41.67 ms.
    """
    buses = told_of(site).buses
    assert [bus.patience_ms for bus in buses] == pytest.approx([295.83, 146.875, 196.83], abs=0.01)
    assert [bus.idle_ms for bus in buses] == pytest.approx([1775, 881.25, 800])
    assert [bus.probe_ms.at_once for bus in buses] == pytest.approx([337.5, 119.79, 141.67], abs=0.01)
    assert [bus.probe_ms.slowest for bus in buses] == pytest.approx([337.5, 319.79, 541.67], abs=0.01)
    assert all(bus.has_room_for_a_probe for bus in buses)


def test_a_dead_unit_is_asked_its_smallest_read(site: Site) -> None:
    """ch0 each second, ch2 to ch5 each 5 s: the probe asks one register, 22 ct = 22.92 ms, not four, 29.17 ms."""
    points = tuple(
        dataclasses.replace(point, period_ms=1000 if point.channel == "ch0" else 5000)
        for point in site.points
        if point.profile == "adam-4017p" and point.channel != "ch1"
    )
    (bus,) = told_of(dataclasses.replace(site, points=points)).buses
    assert bus.longest_ms.at_once == pytest.approx(29.17, abs=0.01)
    assert bus.probe_ms == pytest.approx((122.92, 322.92), abs=0.01)


def test_the_worst_wait_from_a_change_to_alarm_horn_and_publication(site: Site) -> None:
    """Alarm: period + everything else on the bus + one failed poll + one frame of the link.

    GD01.gas: 1000 + 118.75 + 319.79 + 210 x 10 / 460.8 = 1443.10 ms; if all take their time,
    1918.75 + 1918.75 + 319.79 + 4.56 = 4161.85 ms. Without an alarm, 100 ms more for company.
    Publication: a batch of 1 s more; an urgent one goes with the decision.
    """

    def worst(told: Forecast) -> Worst:
        return next(point.worst for point in told.points if point.point == "GD01.gas")

    alarm, horn, published = worst(told_of(site))
    assert horn is None
    assert alarm == pytest.approx((1443.10, 4161.85), abs=0.01)
    assert published == pytest.approx((2443.10, 5161.85), abs=0.01)
    urgent = worst(told_of(with_points(site, urgent=True)))
    assert urgent.alarm == urgent.published == alarm
    ordinary = worst(told_of(with_points(site, preset="", limits=())))
    assert ordinary.published == pytest.approx((2543.10, 5261.85), abs=0.01)


def test_the_worst_wait_to_the_horn_is_that_of_where_it_is_wired(site: Site) -> None:
    """On gas-b (9600 8N1): one frame, the longest poll going on, and 8 + 8 characters with two silences for each coil.

    Longest of those that answer at once: 41.67 ms, as `check` prints it for gas-b; of those that take all their time:
    the module's read-back, 13 + 1 + 7 characters = 21.88 ms and its 1000 ms. One coil: 16 + 7 characters = 23.96 ms,
    and 1000 ms. 4.56 + 41.67 + 23.96 = 70.18 ms; 4.56 + 1021.88 + 1023.96 = 2050.39 ms.
    A pin: one frame, and a request of 8 ct = 8.33 ms that is being sent.
    """
    coil = Output("horn", "horn", "cab2", "gas-b", 30, "io-16do", 3, (1, 2), ("罐区A",), "keep", 10_000)
    pin = Output("lamp", "beacon", "cab2", None, 0, "", 25, (1,), ("泵房",), "keep", 10_000)
    profiles = {**site.profiles, "io-16do": builtin("io-16do")}
    told = told_of(dataclasses.replace(site, outputs=(coil, pin), profiles=profiles))
    worst = {point.point: point.worst for point in told.points}

    def more(point: str) -> tuple[float, float]:
        horn, alarm = worst[point].horn, worst[point].alarm
        assert horn is not None
        return horn.at_once - alarm.at_once, horn.slowest - alarm.slowest

    assert more("GD01.gas") == pytest.approx((70.18, 2050.39), abs=0.01)  # of area A, though on another bus
    assert more("GD07.gas") == pytest.approx((12.89, 12.89), abs=0.01)
    assert worst["GD05.gas"].horn is None  # nobody hears the loading bay
    (gas_b,) = [bus for bus in told.buses if bus.bus == "gas-b"]
    assert gas_b.units == 6 and all(period.worst.horn is not None for period in gas_b.periods)


def test_a_horn_on_a_bus_of_its_own_waits_for_its_read_back_alone(site: Site) -> None:
    """9600 8N1. The read-back, 13 + 1 + 7 characters = 21.875 ms, and the write as above: 4.56 + 21.88 + 23.96 ms."""
    (bus,) = [bus for bus in site.buses if bus.name == "gas-b"]
    points = tuple(point for point in site.points if point.bus != bus.name)
    horn = Output("horn", "horn", bus.board, bus.name, 30, "io-16do", 3, (1, 2), (), "keep", 10_000)
    profiles = {**site.profiles, "io-16do": builtin("io-16do")}
    told = told_of(dataclasses.replace(site, points=points, outputs=(horn,), profiles=profiles))
    (row,) = [row for row in told.buses if row.bus == bus.name]
    assert (row.periods, row.units) == ((), 1)
    assert row.idle_ms == pytest.approx(1000 - 21.875)
    for point in told.points:
        assert point.worst.horn is not None
        assert point.worst.horn.at_once - point.worst.alarm.at_once == pytest.approx(50.39, abs=0.01)


def test_an_on_delay_is_part_of_the_wait_for_the_alarm_and_not_for_the_reading(site: Site) -> None:
    """It ends with the next sample of its board. Of gas-a: 1000 + 118.75 ms, or 1918.75 + 1918.75 ms.

    level: 2000 + 225, or 2025 + 2025 ms. gas-b: 1000 + 4 x 41.667 + 33.333 = 1200 ms, or 2321.43 + 2500 ms.
    """
    next_sample_ms = {"gas-a": Span(1118.75, 3837.5), "level": Span(2225, 4050), "gas-b": Span(1200, 4821.4286)}
    lamp = Output("lamp", "beacon", "cab2", None, 0, "", 25, (1, 2, 3, 4), (), "keep", 10_000)
    site = dataclasses.replace(site, outputs=(lamp,))
    before, after = told_of(site), told_of(with_points(site, on_delay_s=10.0))
    for one, other in zip(before.points, after.points, strict=True):
        next_ms = next_sample_ms[one.bus]
        assert other.worst.alarm.slowest == pytest.approx(one.worst.alarm.slowest + 10_000 + next_ms.slowest)
        assert one.worst.horn is not None and other.worst.horn is not None
        assert other.worst.horn.at_once == pytest.approx(one.worst.horn.at_once + 10_000 + next_ms.at_once)
        assert other.worst.published == one.worst.published
    assert max(point.worst.alarm.slowest for point in after.points) == max(
        period.worst.alarm.slowest for bus in after.buses for period in bus.periods
    )


def test_the_worst_of_a_period_is_that_of_its_slowest_point(site: Site) -> None:
    lamp = Output("lamp", "beacon", "cab2", None, 0, "", 25, (1, 2, 3), (), "keep", 10_000)
    told = told_of(dataclasses.replace(site, outputs=(lamp,)))
    for bus in told.buses:
        for period in bus.periods:
            mine = [point for point in told.points if (point.bus, point.asked_ms) == (bus.bus, period.asked_ms)]
            for each in range(3):
                spans = [span for point in mine if (span := point.worst[each]) is not None]
                longest = period.worst[each]
                assert longest is not None and longest.slowest == max(span.slowest for span in spans)


def test_two_reads_of_a_unit_that_must_not_be_asked_often_wait_for_each_other(site: Site) -> None:
    """Spacing 400 ms; two reads of one register, 22 ct = 22.92 ms each, time-out 300 ms.

    1000 + 2 x 22.92 + 400 for the other read + 400 for the retry + 4.56 = 1850.39 ms; and since a reply that is owed to
    the other one would look like its own, its 322.92 ms and late_ms of 1000.
    """
    points = tuple(
        dataclasses.replace(point, period_ms=1000 if point.point == "TK103.temp" else 5000)
        for point in site.points
        if point.point in ("TK101.temp", "TK103.temp")
    )
    slow = dataclasses.replace(site.profiles["adam-4017p"], spacing_ms=400)
    told = told_of(dataclasses.replace(site, points=points, profiles={slow.name: slow}))
    assert told.points[1].worst.alarm.at_once == pytest.approx(1850.39 + 1322.92, abs=0.01)


def test_ring_and_link_of_the_boards(site: Site) -> None:
    """A record is 11 bytes and the registers' bytes; alone in a frame 17 more; a byte on the link is 10 bits.

    Counts of each bus, 20 bytes a minute.
    cab1: 3 a second of 27 bytes, 6 a second of 29, 2/60 of 20: 255.67 bytes/s, 65536 / 255.67 = 256.33 s;
        (255.67 + 9.033 x 17) / 46080 = 0.888 %.
    cab2: 4 a second of 31, 0.2 of 23, 1/60 of 20: 128.93 bytes/s, 508.3 s; (128.93 + 4.217 x 17) / 46080 = 0.435 %.
    """
    cab1, cab2 = told_of(site).boards
    assert (cab1.ring_s, cab1.link_pct) == pytest.approx((256.33, 0.888), abs=0.01)
    assert (cab2.ring_s, cab2.link_pct) == pytest.approx((508.3, 0.435), abs=0.01)


def test_a_record_and_its_frame_are_as_long_as_on_a_real_board() -> None:
    recorder = Recorder(bytearray(1000))
    recorder.sample(0, 0, 0, Uptime(0), bytes(range(1, 17)), 0, 16, False, 0)
    assert recorder.unsent_bytes == 27
    end = link.BoardEnd(b"board", b"\1\2\3\4", (0, 1, 0), 1, recorder, 0)
    assert end.poll(0, Uptime(0)) > 0  # HELLO
    ack = bytearray(20)
    end.feed(ack, link.enframe(bytearray(b"\x81\1\2\3\4" + bytes(10)), 13, ack), 0)
    assert end.poll(200, Uptime(0)) == 27 + 17
    assert f"RING_KIB = {RING_BYTES // 1024}  " in (ROOT / "firmware" / "main.py").read_text(encoding="utf-8")


def test_disk_and_network_of_the_example(site: Site) -> None:
    """3 + 6 + 4 + 6 / 5 = 14.2 readings a second; by hand 14.2 x 4 + 140 bytes a second, 30 days: 0.51 GB.

    22 rows each minute are 31680 rows a day of at least 20 bytes; 86400 messages have 250 bytes around them.
    """
    told = told_of(site)
    assert told.stored_bytes == pytest.approx((14.2 * 4 + 140) * 86400 * 30)
    low, high = told.day_bytes
    assert 31680 * 20 + 1440 * 250 < low < 2.5e6
    assert 14.2 * 86400 * 20 + 86400 * 250 < high < 100e6


def test_a_slower_point_on_a_faster_read_is_not_slower_for_it(site: Site) -> None:
    points = tuple(
        dataclasses.replace(point, channel="ch0", period_ms=1000) if point.point == "TK102.temp" else point
        for point in site.points
        if point.point in ("TK101.temp", "TK102.temp")
    )
    told = told_of(dataclasses.replace(site, points=points))
    assert [(point.asked_ms, point.reachable_ms.at_once) for point in told.points] == [(5000, 1000), (1000, 1000)]
    assert [board.board for board in told.boards] == ["cab2"]


# --- judgement ----------------------------------------------------------------------------------------------


def test_the_example_is_in_order_with_one_reminder_a_bus(site: Site) -> None:
    problems, reminders = judge(site, told_of(site), "gateway.toml", "points.csv")
    assert problems == []
    assert codes(reminders) == ["W-PER-002"] * 3


def test_a_period_that_sensors_are_not_quick_enough_for_is_refused_where_limits_depend_on_it(site: Site) -> None:
    """At 0.2 s. level: 50 ms are printed, six times 37.5 + 50 ms are 525 ms. gas-a: nothing is printed, so it is 20 ms,
    six times 19.79 + 20 ms are 238.75 ms, though 118.75 ms of wire would fit. Spacing of a gas module: 500 ms;
    gas-b has four of them, and the temperatures.
    """
    fast = with_points(site, period_ms=200)
    told = told_of(fast)
    problems, _reminders = judge(fast, told, "gateway.toml", "points.csv")
    asked = {problem.point: problem for problem in problems}
    assert {problem.code for problem in problems} == {"E-PER-001"}
    assert set(asked) == {point.point for point in fast.points}
    assert asked["TK101.level"].value == "0.2" and "bus level reaches 0.53 s" in asked["TK101.level"].text
    assert "bus gas-a reaches 0.24 s" in asked["GD01.gas"].text
    assert "reaches 0.50 s" in asked["GD07.gas"].text

    without_limits = with_points(fast, limits=())
    problems, reminders = judge(without_limits, told_of(without_limits), "gateway.toml", "points.csv")
    assert problems == []
    assert codes(reminders).count("W-PER-001") == 22


@pytest.mark.parametrize(("reply_ms", "refused"), [(13, []), (14, ["E-PER-001"] * 6)])
def test_what_a_manual_prints_of_its_replies_decides(site: Site, reply_ms: int, refused: list[str]) -> None:
    """gas-a at 0.2 s: (200 - 118.75) / 6 = 13.5 ms are left for each reply to begin."""
    points = tuple(dataclasses.replace(point, period_ms=200) for point in site.points if point.bus == "gas-a")
    quick = dataclasses.replace(site.profiles["sensepoint-xcd"], reply_ms=reply_ms)
    fast = dataclasses.replace(site, points=points, profiles={quick.name: quick})
    problems, _reminders = judge(fast, told_of(fast), "gateway.toml", "points.csv")
    assert codes(problems) == refused


def test_a_bus_without_idle_time_says_what_a_dead_unit_costs(site: Site) -> None:
    busy = with_points(site, period_ms=300)  # level: 300 - 225 ms are less than 337.5; gas-b: 300 - 200 than 141.67
    _problems, reminders = judge(busy, told_of(busy), "gateway.toml", "points.csv")
    told = [reminder for reminder in reminders if reminder.code == "W-PER-003"]
    assert [reminder.field for reminder in told] == ["buses.level", "buses.gas-b"]
    assert "delays the others by 142 ms, by 542 ms if" in told[1].text


def test_a_short_ring_a_busy_link_and_a_small_disk(site: Site) -> None:
    """Twelve units of cab1 each 0.1 s, by hand: 60 x 27 + 60 x 29 = 3360 bytes/s, the ring bridges 20 s.

    3360 + 120 x 17 = 5400 bytes/s are 94 % of 5760; cab2 has 40 x 31 + 10 x 23 + 50 x 17 = 2320, 40 %.
    """
    small = dataclasses.replace(site, store=dataclasses.replace(site.store, max_bytes=100_000_000))
    small = with_points(small, period_ms=100)
    problems, reminders = judge(small, forecast(small, plans_of(small), 57600), "gateway.toml", "points.csv")
    assert [problem.field for problem in problems if problem.code == "E-BRD-006"] == ["boards.cab1"]
    told = {reminder.code: reminder for reminder in reversed(reminders)}
    assert told["W-BRD-002"].field == "boards.cab1" and "only 20 s" in told["W-BRD-002"].text
    assert told["W-STO-001"].value == "0.1 GB"


# --- what really happens ------------------------------------------------------------------------------------


class VirtualBus:
    """The board's poller on the bench's line with its sensors, in virtual time."""

    def __init__(self, site: Site, name: str, first_byte: float) -> None:
        """`first_byte`: when units begin to answer, as a part of what their profiles allow."""
        bus = next(bus for bus in site.buses if bus.name == name)
        self.plan = next(plan for plan in plans_of(site) if plan.board == bus.board)
        index = [other.name for other in site.buses if other.board == bus.board].index(name)
        texts = ((SITE / file).read_text(encoding="utf-8") for file in ("gateway.toml", "points.csv"))
        units = make_units(sheet.read(*texts), 0)[name]
        for unit in units:
            allowed_ms = unit.profile.timeout_ms
            part = first_byte * allowed_ms / 1000 / unit.first_byte_s  # how much slower than the bench has it
            unit.profile = dataclasses.replace(unit.profile, timeout_ms=allowed_ms * part)
            assert unit.first_byte_s == pytest.approx(first_byte * allowed_ms / 1000)
        self.line = line.Line(name, bus.line, units, lambda point, at_s: 0.0)
        self.poller = Poller(self.plan.plan, index, Recorder(bytearray(60000)), Overheard(-LISTEN_MS), 0, 0)
        self.uptime = Uptime(0)
        self.asked_s: defaultdict[tuple[int, int], list[float]] = defaultdict(list)  # by unit id and address
        self.longest_ms = 0.0

    def run(self, seconds: int) -> None:
        at_us = 0
        while at_us < seconds * 1_000_000:
            now_ms, now_us = at_us // 1000, at_us & 0x0FFFFFFF
            self.uptime.advance(now_ms)
            due_s = self.line.due_s()
            is_due = diff(self.poller.next_us, now_us) <= 0
            if due_s is not None and due_s * 1e6 <= at_us and (is_due or not self.poller.is_deaf):
                data = self.line.deliver(at_us / 1e6)
                self.poller.received(data, len(data), now_ms, now_us)
            if diff(self.poller.next_us, now_us) <= 0 and self.poller.step(now_ms, now_us, self.uptime):
                request = bytes(self.poller.request[: self.poller.request_bytes])
                self.asked_s[request[0], request[2] << 8 | request[3]].append(at_us / 1e6)
                self.line.heard(request, at_us / 1e6)
                self.poller.sent(now_ms, now_us)
            at_us += max(diff(self.poller.next_us, now_us), 1)
            due_s = self.line.due_s()
            if due_s is not None and not self.poller.is_deaf:
                at_us = min(at_us, int(due_s * 1e6) + 1)
        silence_ms = self.line.silence_s * 1000
        for exchange in self.line.exchanges:
            if exchange.replied_s is not None:
                took_ms = (exchange.replied_s - exchange.asked_s) * 1000 + silence_ms
                self.longest_ms = max(self.longest_ms, took_ms)


@pytest.mark.parametrize("first_byte", [0.0, 0.1, 0.95])
@pytest.mark.parametrize("name", ["level", "gas-a", "gas-b"])
def test_the_example_runs_as_foretold(site: Site, name: str, first_byte: float) -> None:
    """Periods on average, the longest gap between two polls of one unit, and the longest poll."""
    told = next(bus for bus in told_of(site).buses if bus.bus == name)
    bus = VirtualBus(site, name, first_byte)
    bus.run(200)
    assert bus.line.shortest_silence_s > bus.line.silence_s - 10e-6  # the board counts whole microseconds
    of_bus = [planned for planned in bus.plan.reads if planned.bus == name]
    for period in told.periods:
        mine = [(read.unit_id, read.read.address) for read in of_bus if read.period_ms == period.asked_ms]
        polls_per_ms = 0.0
        for key in mine:
            asked_s = bus.asked_s[key]
            steady_s = asked_s[1:]  # at the start nobody knows yet how soon units answer
            polls_per_ms += (len(steady_s) - 1) / (steady_s[-1] - steady_s[0]) / 1000
            worst_gap_ms = period.worst.alarm.slowest - told.longest_ms.slowest - link.HOLD_MS
            assert max(later - earlier for earlier, later in pairwise(asked_s)) * 1000 <= worst_gap_ms
        achieved_ms = len(mine) / polls_per_ms
        assert period.reachable_ms.at_once * 0.995 <= achieved_ms <= period.reachable_ms.slowest * 1.005
    assert told.longest_ms.at_once * 0.8 <= bus.longest_ms <= told.longest_ms.slowest


@pytest.mark.parametrize("name", ["level", "gas-a", "gas-b"])
def test_a_dead_unit_changes_nothing_for_the_others_as_foretold(site: Site, name: str) -> None:
    bus = VirtualBus(site, name, 0.05)
    dead = bus.line.units[2 if name == "gas-b" else 3]
    dead.break_down(SILENT)
    bus.run(100)
    periods = {(read.unit_id, read.read.address): read.period_ms for read in bus.plan.reads if read.bus == name}
    for key, asked_s in bus.asked_s.items():
        steady_s = [at_s for at_s in asked_s if at_s > 20]  # it takes three failed polls to be dead
        achieved_ms = (steady_s[-1] - steady_s[0]) / (len(steady_s) - 1) * 1000
        assert key[0] == dead.unit_id or achieved_ms == pytest.approx(periods[key], rel=0.005)
