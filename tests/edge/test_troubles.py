"""Which sentence a technician gets for which counts: a table."""

import pytest

from edge.statistics import Bus, Unit
from edge.troubles import Trouble, bus_trouble, trouble_text, troubles, unit_trouble
from protocols import link

WELL = ("ok", "ok", "ok")
SILENT = ("timeout", "timeout", "timeout")


@pytest.mark.parametrize(
    ("counts", "exceptions", "lately", "trouble"),
    [
        ({}, {}, (), None),
        ({"ok": 3600}, {}, WELL, None),
        ({"ok": 3000, "timeout": 30}, {}, WELL, None),  # 1 % is not yet more than 1 %
        ({"ok": 2900, "timeout": 31}, {}, WELL, "no_reply_at_times"),
        ({"ok": 3, "timeout": 2}, {}, ("timeout", "timeout", "ok"), None),  # two of anything are chance
        ({"ok": 3000, "timeout": 3}, {}, SILENT, "no_reply"),  # it has just fallen silent
        ({"timeout": 2}, {}, ("timeout", "timeout"), None),
        ({"timeout": 9}, {}, SILENT, "no_reply"),
        ({"ok": 3000, "crc": 20, "retried_crc": 20}, {}, WELL, "damaged"),
        ({"ok": 3000, "retried_crc": 40}, {}, WELL, "damaged"),  # that each was healed is no comfort
        ({"ok": 300, "short": 2, "crc": 2}, {}, WELL, "damaged"),
        ({"ok": 300, "short": 2, "crc": 2}, {}, ("crc", "short", "crc"), "damaged"),
        ({"crc": 5, "short": 3, "timeout": 2}, {}, ("crc", "timeout", "short"), "garbage"),
        ({"timeout": 5, "crc": 2}, {}, ("crc", "timeout", "timeout"), "no_reply"),
        ({"foreign": 9, "timeout": 2}, {}, ("foreign", "foreign", "foreign"), "foreign"),
        ({"ok": 300, "foreign": 9}, {}, WELL, "foreign"),
        ({"ok": 300, "retried_timeout": 9, "late": 8}, {}, WELL, "late"),
        ({"ok": 300, "retried_timeout": 19, "late": 3}, {}, WELL, "no_reply_at_times"),
        ({"ok": 3000, "late": 3}, {}, WELL, None),
        ({"exception": 50}, {2: 50}, ("exception",) * 3, "exception_2"),
        ({"ok": 300, "exception": 9}, {6: 5, 4: 4}, WELL, "exception_6"),
        ({"ok": 300, "exception": 9, "crc": 12}, {1: 9}, WELL, "damaged"),  # the more frequent one
        ({"ok": 3000, "exception": 9}, {3: 9}, WELL, None),
    ],
)
def test_of_a_unit(
    counts: dict[str, int], exceptions: dict[int, int], lately: tuple[str, ...], trouble: str | None
) -> None:
    assert unit_trouble(counts, exceptions, lately) == trouble


FULL = {"busy_ms": 80, "span_ms": 100}


@pytest.mark.parametrize(
    ("state", "counts", "of_units", "tries", "trouble"),
    [
        (None, {}, [], 0, None),
        (link.POLLING, {}, [None, None], 1000, None),
        (link.LISTENING, {}, [None], 0, None),
        (link.OTHER_MASTER, {"foreign": 900}, ["no_reply", "no_reply"], 10, "other_master"),
        (link.POLLING, {"foreign": 900}, [None], 1000, "other_master_heard"),
        (link.POLLING, {"foreign": 2}, [None], 1000, None),
        (link.POLLING, {}, ["no_reply", "no_reply"], 100, "bus_no_reply"),
        (link.POLLING, {}, ["no_reply", "late"], 100, None),
        (link.POLLING, {}, ["no_reply"], 100, None),  # of a single unit its own sentence says more
        (link.POLLING, {}, ["no_reply", "garbage"], 100, "bus_garbage"),
        (link.POLLING, {"stray_bytes": 3}, ["no_reply", "no_reply"], 1000, "bus_garbage"),
        (link.POLLING, {"overruns": 11, **FULL}, [None], 1000, "overruns"),
        (link.POLLING, {"overruns": 10, **FULL}, [None], 1000, None),
        (link.POLLING, {"overruns": 500, "busy_ms": 79, "span_ms": 100}, [None, "no_reply"], 1000, None),
        (link.POLLING, {"overruns": 500}, [None], 1000, None),
        (link.POLLING, {"stray_bytes": 11}, [None], 1000, "stray_bytes"),
        (link.POLLING, {"stray_bytes": 10}, [None], 1000, None),
        (link.POLLING, {"stray_bytes": 900}, [None, "damaged"], 1000, None),  # its unit's sentence says it
        (link.POLLING, {"stray_bytes": 900}, [None, "exception_2"], 1000, "stray_bytes"),
    ],
)
def test_of_a_bus(
    state: int | None, counts: dict[str, int], of_units: list[str | None], tries: int, trouble: str | None
) -> None:
    assert bus_trouble(state, counts, of_units, tries) == trouble


def unit(*kinds: str) -> Unit:
    made = Unit()
    for kind in kinds:
        made.counts.count(kind, 0.0)
        made.lately.append(kind)
    return made


def test_units_with_the_same_trouble_stand_together_and_a_dead_bus_speaks_for_its_units() -> None:
    silent, damaged = ["timeout"] * 3, ["ok", "crc", "crc", "crc"]
    units = [
        (("gas-a", 1), unit("ok")),
        (("gas-a", 2), unit(*damaged)),
        (("gas-a", 3), unit(*silent)),
        (("gas-a", 4), unit(*damaged)),
        (("gas-b", 1), unit(*silent)),
        (("gas-b", 2), unit(*silent)),
        (("level", 1), unit(*silent)),
    ]
    buses = [("gas-a", Bus()), ("gas-b", Bus()), ("level", Bus(link.OTHER_MASTER)), ("spare", Bus())]
    assert list(troubles(buses, units, 0.0)) == [
        Trouble("gas-a", (2, 4), "damaged"),
        Trouble("gas-a", (3,), "no_reply"),
        Trouble("gas-b", (), "bus_no_reply"),
        Trouble("level", (), "other_master"),
    ]
    assert list(troubles(buses[:1], units[:4], 3600.0)) == [Trouble("gas-a", (3,), "no_reply")]  # what lasts


def test_every_trouble_has_words_an_unknown_exception_too() -> None:
    assert "baud" in trouble_text("garbage") and "tankgate check" in trouble_text("overruns")
    assert "exception 11" in trouble_text("exception_11")
