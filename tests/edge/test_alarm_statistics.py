"""Floods begin and end, an alarm chatters, one stands: on made-up days."""

from edge.alarms.lifecycle import Facts
from edge.alarms.statistics import STANDING_MS, Statistics

MINUTE_MS = 60_000


def test_a_flood_begins_at_ten_in_ten_minutes_and_ends_under_five():
    counted = Statistics()
    began = [counted.raised(f"GD{i:02}.gas:H", 2, i * MINUTE_MS // 2, 1) for i in range(12)]
    assert began == [False] * 9 + [True] + [False] * 2
    assert not counted.passed(13 * MINUTE_MS, 1)  # five left
    assert counted.passed(14 * MINUTE_MS, 1)
    day = counted.days[1]
    assert (day.floods, day.most_in_ten_minutes, counted.flood_since_ms) == (1, 12, None)
    assert day.flood_ms == 7 * MINUTE_MS / 2 + 10 * MINUTE_MS - 9 * MINUTE_MS / 2


def test_nine_in_ten_minutes_are_no_flood():
    counted = Statistics()
    assert not any(counted.raised("A.b:H", 1, i * 67_000, 1) for i in range(40))


def test_three_in_a_minute_are_chattering():
    counted = Statistics()
    for t_ms in (0, 30_000, 60_000, 90_000):
        counted.raised("TK1.level:H", 2, t_ms, 1)
    assert counted.days[1].chattering == set()
    counted.raised("TK1.level:H", 2, 119_000, 1)
    assert counted.days[1].chattering == {"TK1.level:H"}


def test_the_ten_worst_and_the_priorities_of_a_day():
    counted = Statistics()
    for i in range(12):
        for _ in range(i + 1):
            counted.raised(f"P{i:02}.x:H", 1 + i % 3, i * 1000, 7)
    worst = counted.days[7].worst()
    assert (len(worst), worst[0], worst[-1]) == (10, ("P11.x:H", 12), ("P02.x:H", 3))
    assert sum(counted.days[7].priorities.values()) == 78


def test_what_is_active_for_more_than_a_day_is_standing():
    counted = Statistics()
    counted.raised("A.x:H", 1, 0, 1)
    counted.raised("B.x:H", 1, 5000, 1)
    facts = {"A.x:H": Facts(active=True, acked=False, occurrence=1), "B.x:H": Facts(acked=False, occurrence=1)}
    assert counted.standing(facts, STANDING_MS) == []
    assert counted.standing(facts, STANDING_MS + 6000) == ["A.x:H"]
