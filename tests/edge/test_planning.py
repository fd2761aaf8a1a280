"""Read plans: what a board is told, taken apart by hand, and that its meaning survives a restart."""

import dataclasses
import hashlib
import struct
from collections.abc import Iterable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge.config import load_site
from edge.planning import BoardPlan, channel_use, compile_board, from_json, plan_board, to_json
from protocols import profile, readplan
from protocols.model import Site

HEAD = 'version = 1\nmaker = "M"\nmodel = "N"\nsource = "S"\nevidence = "manual"\ntimeout_ms = 200\naddress_base = 0\n'
EXAMPLE = Path(__file__).parents[2] / "hil_tests" / "site" / "gateway.toml"


@pytest.fixture(scope="module")
def site() -> Site:
    return load_site(EXAMPLE)


def plan_of(site: Site, board: str, birth: str = "d1c1a179", taken: tuple[int, ...] = ()) -> BoardPlan:
    plan = compile_board(site, board, birth, taken)
    assert plan is not None
    return plan


def with_points(site: Site, changes: dict[str, dict[str, object]]) -> Site:
    """The site with some points changed, and only those points."""
    points = [dataclasses.replace(p, **changes[p.point]) for p in site.points if p.point in changes]
    return dataclasses.replace(site, points=tuple(points))


def names(plan: BoardPlan) -> list[list[str]]:
    return [[use.point for use in planned.read.uses] for planned in plan.reads]


def test_the_bytes_of_the_example(site: Site) -> None:
    """Header and buses by hand from the layout; units and reads taken apart by a second reader."""
    plan = plan_of(site, "cab1")
    assert plan.plan[:11] == b"TP\x02\x00" + bytes.fromhex("d1c1a179") + bytes([2, 12, len(plan.reads)])
    assert plan.plan[11:21] == bytes.fromhex("01 6000 03 0002 c000 03 00")  # 9600 8N1, 19200 8N1
    assert plan.digest == hashlib.sha256(plan.plan).digest()
    assert plan.generation == int.from_bytes(plan.digest[:2], "little")
    units = list(struct.iter_unpack("<BBHHHH", plan.plan[21 : 21 + 12 * 10]))
    assert [unit[:2] for unit in units] == [(bus, unit_id) for bus in (0, 1) for unit_id in range(1, 7)]
    radar = site.profiles["vegapuls-modbus"]
    assert units[0][2:] == (radar.timeout_ms, radar.floor_ms, radar.spacing_ms, radar.late_ms)
    reads = list(struct.iter_unpack("<BBHHHB", plan.plan[21 + 12 * 10 :]))
    assert len(reads) == len(plan.reads)
    for (unit, function_code, address, count, tenths, flags), planned in zip(reads, plan.reads, strict=True):
        assert (planned.bus, planned.unit_id) == (["level", "gas-a"][units[unit][0]], units[unit][1])
        assert (function_code, address, count) == (
            planned.read.function_code,
            planned.read.address,
            planned.read.count,
        )
        assert (tenths * 100, flags) == (planned.period_ms, 1)  # all of them have alarms


@pytest.mark.parametrize("board", ["cab1", "cab2"])
def test_every_point_of_the_board_is_read_once_in_its_period(site: Site, board: str) -> None:
    plan = plan_of(site, board)
    buses = {bus.name for bus in site.buses if bus.board == board}
    periods = {use.point: planned.period_ms for planned in plan.reads for use in planned.read.uses}
    assert periods == {point.point: point.period_ms for point in site.points if point.bus in buses}
    assert sum(len(planned.read.uses) for planned in plan.reads) == len(periods)
    assert set(plan.profiles) == {planned.profile for planned in plan.reads}


def test_six_temperatures_of_one_unit_are_one_request(site: Site) -> None:
    (planned,) = (planned for planned in plan_of(site, "cab2").reads if planned.unit_id == 20)
    assert [use.point for use in planned.read.uses] == [f"TK10{n}.temp" for n in range(1, 7)]


def test_what_tells_the_faults_of_others_is_asked_before_them(site: Site) -> None:
    """In the map of the controller the status lies behind the value."""
    gas = next(point for point in site.points if point.point == "GD01.gas")
    gas = dataclasses.replace(gas, profile="igd-toc-635", channel="gas1")
    status = dataclasses.replace(gas, point="GD01.status", channel="status1", unit="1", limits=())
    profiles = {"igd-toc-635": profile.builtin("igd-toc-635")}
    planned = plan_of(dataclasses.replace(site, points=(gas, status), profiles=profiles), "cab1")
    assert names(planned) == [["GD01.status"], ["GD01.gas"]]


def test_a_kept_plan_whose_profile_knows_fewer_keys_is_still_read(site: Site) -> None:
    """As version 1 of this profile was: its samples mean what they meant then."""
    gas = next(point for point in site.points if point.point == "GD01.gas")
    gas = dataclasses.replace(gas, profile="igd-toc-635", channel="gas1")
    text = profile.builtin("igd-toc-635").text
    lines = [line for line in text.splitlines() if not line.startswith(("valid_", "needs"))]
    assert len(lines) == len(text.splitlines()) - 3
    old = profile.load("igd-toc-635", "\n".join(lines).replace("version = 2", "version = 1"))
    kept = from_json(to_json(plan_of(dataclasses.replace(site, points=(gas,), profiles={old.name: old}), "cab1")))
    (planned,) = kept.reads
    decoder = profile.Decoder(kept.profiles["igd-toc-635"], planned.read)
    assert [reading.value for raw in (1200, 1201) for reading in decoder.decode([raw])] == [110.0, 110.1]
    assert kept.profiles["igd-toc-635"].channels["gas1"].needs is None


def test_a_slower_point_rides_on_a_faster_read_of_the_same_registers(site: Site) -> None:
    changed = with_points(site, {"TK101.temp": {}, "TK102.temp": {"period_ms": 1000, "channel": "ch0"}})
    (planned,) = plan_of(changed, "cab2").reads
    assert planned.period_ms == 1000
    assert [use.point for use in planned.read.uses] == ["TK102.temp", "TK101.temp"]


def test_a_neighbour_that_is_asked_a_little_slower_rides_along(site: Site) -> None:
    """One register more each second are 2 characters; a request of its own is 22 of them each period."""
    for period_ms, reads in ((10_900, [(1000, 0, 2)]), (11_000, [(1000, 1, 1), (11_000, 0, 1)])):
        changed = with_points(site, {"TK101.temp": {"period_ms": period_ms}, "TK102.temp": {"period_ms": 1000}})
        planned = plan_of(changed, "cab2").reads
        assert [(each.period_ms, each.read.address, each.read.count) for each in planned] == reads


def test_slow_points_between_fast_ones_are_no_gap(site: Site) -> None:
    """ch0 and ch2 are fast, ch1 and ch5 are slow: the module need not allow gaps, ch1 is wanted anyway."""
    periods = {1: 1000, 2: 60_000, 3: 1000, 6: 60_000}
    changed = with_points(site, {f"TK10{n}.temp": {"period_ms": period_ms} for n, period_ms in periods.items()})
    planned = plan_of(changed, "cab2").reads
    assert [(each.period_ms, each.read.address, each.read.count) for each in planned] == [
        (1000, 0, 3),
        (60_000, 5, 1),
    ]
    assert [len(each.read.uses) for each in planned] == [3, 1]


@given(
    st.lists(st.tuples(st.integers(0, 30), st.sampled_from([500, 1000, 5000, 60_000])), min_size=1, max_size=10),
    st.sampled_from(["", "bridge_gaps = true\n", "max_registers = 6\n"]),
)
def test_periods_together_never_cost_more_than_each_alone(points: list[tuple[int, int]], head: str) -> None:
    """Characters a millisecond; every point is read as often as asked, no gap is bridged unasked."""
    channel = '[channels.c]\nfunction_code = 3\naddress = 0\ncount = 31\nfirst = 0\ntype = "u16"\ndecimals = 0\n'
    known = profile.load("small", head + HEAD + channel + 'unit = "1"\n')
    gas = next(point for point in load_site(EXAMPLE).points if point.point == "GD01.gas")
    rows = [
        dataclasses.replace(gas, point=f"P{i}.x", profile="small", channel=f"c{at}", unit="1", period_ms=period_ms)
        for i, (at, period_ms) in enumerate(points)
    ]
    site = dataclasses.replace(load_site(EXAMPLE), points=tuple(rows), profiles={"small": known})
    planned = plan_of(site, "cab1").reads

    def cost(reads: Iterable[tuple[int, int]]) -> float:
        return sum((20 + 2 * count) / period_ms for period_ms, count in reads)

    alone = [
        (period_ms, read.count)
        for period_ms in {row.period_ms for row in rows}
        for read in profile.plan_reads(
            known, [channel_use(row) for row in rows if row.period_ms == period_ms], [channel_use(row) for row in rows]
        )
    ]
    assert cost((each.period_ms, each.read.count) for each in planned) <= cost(alone) * 1.000001
    asked = {row.point: (row.period_ms, int(row.channel[1:])) for row in rows}
    wanted = {at for _period_ms, at in asked.values()}
    served = {use.point: each for each in planned for use in each.read.uses}
    assert served.keys() == asked.keys()
    for point, each in served.items():
        period_ms, at = asked[point]
        assert each.period_ms <= period_ms and each.read.address <= at < each.read.address + each.read.count
    for each in planned:
        registers = range(each.read.address, each.read.address + each.read.count)
        assert len(registers) <= known.max_registers
        assert known.bridge_gaps or wanted.issuperset(registers)


def test_a_unit_is_asked_who_it_is_at_the_start_and_each_hour(site: Site) -> None:
    """Every read of a new plan is due at once. The numbers are the manual's: 1000, and 40000 + 5 to 13."""
    msa = profile.builtin("msa-ultima-x")
    gas = next(point for point in site.points if point.point == "GD01.gas")
    point = dataclasses.replace(gas, profile=msa.name, channel="lel1")
    plan = plan_of(dataclasses.replace(site, points=(point,), profiles={msa.name: msa}), "cab1")
    assert [(each.read.address, each.read.count, each.period_ms, len(each.read.uses)) for each in plan.reads] == [
        (40005, 9, 3_600_000, 0),
        (1000, 1, 3_600_000, 0),
        (40201, 8, 1000, 1),
    ]
    assert from_json(to_json(plan)) == plan


def test_an_urgent_point_makes_its_read_urgent_and_no_other(site: Site) -> None:
    changed = with_points(site, {"GD01.gas": {"urgent": True, "preset": ""}, "GD02.gas": {"preset": ""}})
    plan = plan_of(changed, "cab1")
    assert [planned.urgent for planned in plan.reads] == [True, False]
    assert [plan.plan[at] for at in (-10, -1)] == [1, 0]  # the flags of the two reads


def test_what_an_alarm_rests_on_leaves_the_board_at_once(site: Site) -> None:
    changed = with_points(site, {"GD01.gas": {}, "GD02.gas": {"preset": ""}})
    assert [(point.preset, point.urgent) for point in changed.points] == [("combustible", False), ("", False)]
    assert [planned.urgent for planned in plan_of(changed, "cab1").reads] == [True, False]


@pytest.mark.parametrize("urgent", ["TK101.temp", "TK102.temp"])
def test_a_shared_read_is_urgent_for_either_point(site: Site, urgent: str) -> None:
    fast: dict[str, object] = {"channel": "ch0", "period_ms": 1000, "urgent": urgent == "TK102.temp"}
    slow: dict[str, object] = {"urgent": urgent == "TK101.temp", "preset": ""}
    changed = with_points(site, {"TK101.temp": slow, "TK102.temp": fast | {"preset": ""}})
    (planned,) = plan_of(changed, "cab2").reads
    assert planned.urgent and planned.period_ms == 1000


def test_another_master_that_is_allowed(site: Site) -> None:
    buses = tuple(dataclasses.replace(bus, other_master=bus.name == "gas-a") for bus in site.buses)
    plan = plan_of(dataclasses.replace(site, buses=buses), "cab1")
    assert plan.plan[11:21] == bytes.fromhex("01 6000 03 0002 c000 03 01")


def test_a_generation_that_is_taken_is_never_given_again(site: Site) -> None:
    first = plan_of(site, "cab1")
    taken = (first.generation,)
    second = plan_of(site, "cab1", taken=taken)
    third = plan_of(site, "cab1", taken=(*taken, second.generation))
    assert len({first.generation, second.generation, third.generation}) == 3
    assert [plan.plan[3] for plan in (first, second, third)] == [0, 1, 2]
    assert second.reads == first.reads
    with pytest.raises(ValueError, match="taken_generations"):
        compile_board(site, "cab1", "d1c1a179", range(1 << 16))


def test_the_same_site_gives_the_same_plan_and_another_birth_another(site: Site) -> None:
    assert plan_of(site, "cab2") == plan_of(load_site(EXAMPLE), "cab2")
    assert plan_of(site, "cab2").generation != plan_of(site, "cab2", birth="d1c1a17a").generation


@pytest.mark.parametrize("board", ["cab1", "cab2"])
def test_a_plan_is_the_same_after_a_stay_in_the_store(site: Site, board: str) -> None:
    plan = plan_of(site, board)
    assert from_json(to_json(plan)) == plan


def test_a_board_without_points_has_no_plan(site: Site) -> None:
    assert compile_board(with_points(site, {"GD01.gas": {}}), "cab2", "d1c1a179", ()) is None


def test_a_plan_outlives_what_it_does_not_read(site: Site) -> None:
    known = plan_of(site, "cab1")
    changes: dict[str, dict[str, object]] = {"TK101.level": {"name": "other", "deadband": 1.0, "heartbeat_s": 30}}
    points = tuple(dataclasses.replace(point, **changes.get(point.point, {})) for point in site.points)
    kept = plan_board(dataclasses.replace(site, points=points), "cab1", "0000000a", [known], ())
    assert kept == dataclasses.replace(known, birth="0000000a")


@pytest.mark.parametrize("change", [{"range_high": 11.0}, {"unit_id": 9}, {"period_ms": 3000}, {"point": "T.level"}])
def test_another_read_or_another_meaning_is_another_plan(site: Site, change: dict[str, object]) -> None:
    known = plan_of(site, "cab1")
    points = tuple(
        dataclasses.replace(point, **change) if point.point == "TK101.level" else point for point in site.points
    )
    changed = plan_board(dataclasses.replace(site, points=points), "cab1", "0000000a", [known], ())
    assert changed.generation != known.generation and changed.plan[4:8] == bytes.fromhex("0000000a")
    assert plan_board(site, "cab1", "0000000b", [changed, known], ()).generation == known.generation  # and back


def test_another_line_is_another_plan(site: Site) -> None:
    known = plan_of(site, "cab1")
    buses = tuple(dataclasses.replace(bus, line=dataclasses.replace(bus.line, baud=4800)) for bus in site.buses)
    changed = plan_board(dataclasses.replace(site, buses=buses), "cab1", "d1c1a179", [known], ())
    assert changed.generation != known.generation and changed.reads == known.reads


def test_another_profile_of_the_same_name_is_another_plan(site: Site) -> None:
    known = plan_of(site, "cab1")
    profile = site.profiles["vegapuls-modbus"]
    profiles = site.profiles | {profile.name: dataclasses.replace(profile, text=f"{profile.text}# corrected")}
    changed = plan_board(dataclasses.replace(site, profiles=profiles), "cab1", "d1c1a179", [known], ())
    assert changed.generation != known.generation


def test_a_board_that_lost_its_points_is_told_to_read_nothing(site: Site) -> None:
    bare = with_points(site, {"GD01.gas": {}})
    nothing = plan_board(bare, "cab2", "d1c1a179", [plan_of(site, "cab2")], ())
    assert (nothing.plan, nothing.reads) == (b"TP\x02\x00" + bytes.fromhex("d1c1a179") + bytes(3), ())
    assert readplan.check(nothing.plan, len(nothing.plan)) == readplan.GOOD
    assert from_json(to_json(nothing)) == nothing


def test_more_than_a_plan_can_hold_is_refused(site: Site) -> None:
    gas = next(point for point in site.points if point.point == "GD01.gas")
    points = tuple(
        dataclasses.replace(gas, point=f"X{bus}{n}.gas", bus=bus, unit_id=n)
        for bus in ("level", "gas-a")
        for n in range(1, 248)
    )
    too_many = dataclasses.replace(site, points=points)
    too_long = dataclasses.replace(site, points=points[:200])  # 200 units with a read each: 3821 bytes
    for large, english in ((too_many, "494 reads, allowed are 255"), (too_long, "3821 bytes, allowed are 3072")):
        with pytest.raises(ValueError, match=english):
            compile_board(large, "cab1", "d1c1a179", ())
