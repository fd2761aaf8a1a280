"""Columns that give back what was put in, and the one payload of a data message."""

import math
import random
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge.batch import Row, Section, bitmap, data_payload, indices, message_order, pack, unpack
from edge.timebase import Clock

CAB1 = Section("cab1", "4be01d77", Clock("synced", 7, 1_795_400_000_000, 0))
CAB2 = Section("cab2", "c2905a3e", Clock("synced", 15, 1_795_400_000_500, -3200))
ANEW = Section("cab1", "9f3a60c2", Clock("unsynced", None, None, 0))
POINTS = [
    {"point": "TK101.level", "type": "f32"},
    {"point": "GD03.gas", "type": "f32"},
    {"point": "GD08.gas", "type": "u16"},
]


def f32(value: float) -> float:
    return struct.unpack("<f", struct.pack("<f", value))[0]


def exact(value: float | int | None) -> object:
    """Tells apart what == does not: 5 and 5.0, 0.0 and -0.0."""
    return (type(value), struct.pack("<d", value)) if isinstance(value, float) else value


# --- columns ------------------------------------------------------------------------------------------------

sections = st.builds(
    Section,
    board=st.text(min_size=1, max_size=12),
    boot=st.from_regex("[0-9a-f]{8}", fullmatch=True),
    clock=st.builds(
        Clock,
        kind=st.sampled_from(["synced", "holdover", "resolved", "unsynced"]),
        err_ms=st.none() | st.integers(0, 10**7),
        utc_at_uptime_0_ms=st.none() | st.integers(-(10**13), 10**13),
        drift_ppb=st.integers(-(10**6), 10**6),
    ),
)
values = st.one_of(
    st.none(),
    st.integers(-(2**31), 2**32),
    st.floats(allow_nan=False, allow_infinity=False),
    st.floats(allow_nan=False, allow_infinity=False, width=32),
    st.builds(lambda whole, power: whole / 10**power, st.integers(-(2**31), 2**31), st.integers(0, 12)),
)


@st.composite
def batches(draw: st.DrawFn) -> tuple[tuple[Section, ...], tuple[Row, ...]]:
    chosen = draw(st.lists(sections, min_size=1, max_size=3))
    row = st.builds(
        Row,
        section=st.integers(0, len(chosen) - 1),
        uptime_ms=st.integers(0, 2**42),
        point=st.integers(0, 3000),
        value=values,
        status=st.integers(0, 255),
        detail=st.integers(-(2**31), 2**31),
    )
    return tuple(chosen), tuple(draw(st.lists(row, max_size=30)))


@given(batches())
def test_what_is_unpacked_equals_what_was_packed(batch: tuple[tuple[Section, ...], tuple[Row, ...]]) -> None:
    unpacked = unpack(pack(*batch))
    assert unpacked == batch
    assert [exact(row.value) for row in unpacked[1]] == [exact(row.value) for row in batch[1]]


@pytest.mark.parametrize(
    "value", [0.0, -0.0, 0, 5, 5.0, -1, 23.4, 0.1 + 0.2, f32(8.412), 1e300, 5e-324, 2.0**127, 65535, 12.5, -0.5]
)
def test_a_value_keeps_its_type_and_every_bit(value: float | int) -> None:
    ((row,),) = (unpack(pack([CAB1], [Row(0, 1, 0, value, 0, 0)]))[1],)
    assert exact(row.value) == exact(value)


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_what_is_no_number_is_refused(value: float) -> None:
    with pytest.raises(ValueError, match="finite"):
        pack([CAB1], [Row(0, 1, 0, value, 0, 0)])


def test_twenty_units_at_ten_readings_a_second_take_at_most_four_bytes_a_reading() -> None:
    noise = random.Random(1)
    rows = []
    for unit in range(20):
        at_ms = 913_322_000 + unit * 47 + noise.randrange(9)
        for channel in range(10):
            noisy, half = f32(noise.gauss(8.4, 0.3)), noise.randrange(200) / 2
            rows.append(Row(unit % 2, at_ms, unit * 10 + channel, noisy if unit < 10 else half, 0, 0))
    assert len(pack([CAB1, CAB2], rows)) <= 4 * len(rows)


@pytest.mark.parametrize(
    "damage",
    [lambda packed: b"", lambda packed: packed[:-3], lambda packed: b"\x02" + packed[1:], lambda packed: b"\x01junk"],
)
def test_a_damaged_batch_is_told_from_a_good_one(damage) -> None:
    with pytest.raises(ValueError, match="batch"):
        unpack(damage(pack([CAB1], [Row(0, 1, 0, 1.5, 0, 0)])))


@given(st.sets(st.integers(0, 99)))
def test_a_bitmap_gives_back_its_indices(chosen: set[int]) -> None:
    assert indices(bitmap(chosen, 100)) == sorted(chosen)


# --- the data message ---------------------------------------------------------------------------------------

ROWS = [
    Row(0, 1_004_640, 1, f32(52.5), 0, 0),
    Row(0, 1_004_118, 0, f32(8.412), 0, 0),
    Row(0, 1_004_455, 2, None, 202, 2),
    Row(0, 1_004_455, 1, None, 200, 0),
    Row(1, 1_004_202, 2, 100, 100, 0),
]


def test_a_data_message_byte_for_byte() -> None:
    payload = data_payload("jt-0042", "01KAR8M2", 184211, "d1c1a179", POINTS, [CAB1, CAB2], ROWS, [1, 3, 2, 0, 4])
    # Rule 3 and the example of the feed; the times by hand: 1795400000000 + 1004118, and, of cab2,
    # 1795400000500 + 1004202 - 4 (3.2 ppm of 1004 s is 3.2 ms, rounded down).
    assert payload.decode() == (
        '{"schema":"tankgate/data/1","gateway":"jt-0042","epoch":"01KAR8M2","stream":"data","seq":184211,'
        '"birth":"d1c1a179","time":{"kind":"synced","err_ms":15},"t0_ms":1795401004118,'
        '"columns":["point","dt_ms","value","status","detail"],'
        '"rows":[["TK101.level",0,8.412],["GD03.gas",337,null,200],["GD08.gas",337,null,202,2],["GD03.gas",522,52.5],'
        '["GD08.gas",580,100,100]]}'
    )


def test_without_a_clock_a_message_has_its_boots_uptime() -> None:
    payload = data_payload("jt-0042", "01KAS2QX", 3, "d1c1a179", POINTS, [ANEW], [Row(0, 8120, 1, 0.5, 0, 0)], [0])
    assert payload.decode() == (
        '{"schema":"tankgate/data/1","gateway":"jt-0042","epoch":"01KAS2QX","stream":"data","seq":3,'
        '"birth":"d1c1a179","time":{"kind":"unsynced","err_ms":null},"t0_ms":null,"boot":"cab1/9f3a60c2",'
        '"t0_uptime_ms":8120,"columns":["point","dt_ms","value","status","detail"],"rows":[["GD03.gas",0,0.5]]}'
    )


def test_a_resend_from_the_packed_columns_is_the_same_bytes() -> None:
    live = data_payload("jt-0042", "01KAR8M2", 9, "d1c1a179", POINTS, [CAB1, CAB2], ROWS, [1, 3, 4])
    kept = unpack(pack([CAB1, CAB2], ROWS))
    order = message_order(POINTS, *kept, indices(bitmap([4, 1, 3], 5)))
    assert data_payload("jt-0042", "01KAR8M2", 9, "d1c1a179", POINTS, *kept, order) == live


def test_only_the_reported_rows_decide_about_the_time_of_a_message() -> None:
    payload = data_payload("jt-0042", "01KAR8M2", 9, "d1c1a179", POINTS, [CAB1, ANEW], ROWS, [0])
    assert b'"time":{"kind":"synced","err_ms":7}' in payload


def test_rows_of_two_kinds_of_time_are_refused() -> None:
    with pytest.raises(ValueError, match="synced, unsynced"):
        data_payload("jt-0042", "01KAR8M2", 9, "d1c1a179", POINTS, [CAB1, ANEW], ROWS, [0, 4])


def test_rows_of_two_boots_without_a_clock_are_refused() -> None:
    other = Section("cab2", "00000001", Clock("unsynced", None, None, 0))
    with pytest.raises(ValueError, match="cab1/9f3a60c2, cab2/00000001"):
        data_payload("jt-0042", "01KAR8M2", 9, "d1c1a179", POINTS, [ANEW, other], ROWS, [0, 4])


def test_a_place_in_the_message_is_a_place_in_message_order() -> None:
    assert message_order(POINTS, [CAB1, CAB2], ROWS, [0, 1, 2, 3, 4]) == [1, 3, 2, 0, 4]
