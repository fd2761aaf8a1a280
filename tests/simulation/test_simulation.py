"""Some lives of the whole chain on the fake clock; and that a chain which breaks its word is seen to. Shell."""

import threading
from dataclasses import replace
from itertools import product
from pathlib import Path

import pytest
from click.testing import CliRunner

from edge.config import load_site
from edge.feed_schemas import Schemas
from edge.pipeline import Pipeline
from edge.retention import Dropped
from protocols import link
from tests.simulation.__main__ import live, main
from tests.simulation.judge import judge
from tests.simulation.parts import SECOND_US
from tests.simulation.world import HOUR_S, UTC_MS, YEAR_MS, World, write_site

MINUTE_US = 60 * SECOND_US


@pytest.mark.parametrize("seed", range(5))
def test_every_answer_is_received_once_or_told_as_missing(seed: int) -> None:
    verdict, done = live(seed, hours=0.5)
    assert verdict.faults == [], (f"seed {seed}", done)
    assert verdict.readings + 10 * verdict.missing == 10 * verdict.answers > 5000


def test_where_nothing_happens_nothing_is_missing_and_nothing_comes_twice() -> None:
    verdict, _done = live(1, hours=0.5, is_calm=True)
    assert (verdict.faults, verdict.missing, verdict.doubles, dict(verdict.gaps)) == ([], 0, 0, {})
    assert verdict.readings == 10 * verdict.answers > 20_000


def test_a_clock_that_is_first_set_an_hour_after_boot_is_told_with_its_moment(tmp_path: Path) -> None:
    world = World(5, tmp_path, is_calm=True)
    with world.gateway.in_place():
        world.start()
        world.time.run(HOUR_S * SECOND_US)
        told = [world.broker.district.state["clock"]]
        world.tell_time()
        world.time.run((HOUR_S + 1200) * SECOND_US)
        told.append(world.broker.district.state["clock"])
        world.gateway.cut()
    assert told[0] == {"kind": "unsynced", "err_ms": None, "since_ms": None}
    assert told[1]["kind"] == "synced" and told[1]["err_ms"] < 200
    assert 0 <= told[1]["since_ms"] - (UTC_MS + HOUR_S * 1000) < 10_000


def test_what_is_done_before_the_clock_is_set_has_no_time_rather_than_one_of_a_wrong_year(tmp_path: Path) -> None:
    world = World(5, tmp_path, is_calm=True)
    world.clock.set(1_460_001, False)
    request = {"do": "bypass", "kind": "unit", "what": "cab1/1", "permit": "7", "owner": "R7", "reason": "span gas"}
    with world.gateway.in_place():
        world.start()
        world.time.run(MINUTE_US)
        world.gateway.ask(request | {"until_ms": int(world.clock.ms()) + 60_000})
        world.time.run(3 * MINUTE_US)
        world.tell_time()
        world.time.run(10 * MINUTE_US)
        world.gateway.ask(request | {"until_ms": int(world.clock.ms()) + 60_000})
        world.come_to_rest()
        world.gateway.cut()
    told = [each.document for each in world.broker.district.received.values()]
    actions = [each for each in told if each["schema"] == "tankgate/action/1"]
    times = [(each["time"]["kind"], each["t_ms"]) for each in actions]
    assert times[:2] == [("unsynced", None)] * 2  # it begins, and is over
    assert [kind for kind, _t_ms in times[2:]] == ["synced"] and times[2][1] >= UTC_MS
    assert [fault for each in actions for fault in Schemas().violations("action", each)] == []


def test_what_came_without_a_clock_is_completed_although_its_board_restarted_before_the_clock_was_set(
    tmp_path: Path,
) -> None:
    world = World(9, tmp_path, is_calm=True)
    board = world.boards["cab1"]
    with world.gateway.in_place():
        world.start()
        for _ in range(2):
            world.time.run(world.time.now_us + 3 * MINUTE_US)
            board.cut()
            world.time.run(world.time.now_us + SECOND_US)
            board.start()
        world.time.run(world.time.now_us + 3 * MINUTE_US)
        world.tell_time()
        world.come_to_rest()
        verdict = judge(world)
        world.gateway.cut()
    assert verdict.faults == []
    told = [each.document for each in world.broker.district.received.values()]
    unsynced = {each["boot"] for each in told if each["schema"] == "tankgate/data/1" and each["t0_ms"] is None}
    assert len(unsynced) == 4  # of which the other board has one
    assert unsynced == {each["boot"] for each in told if each["schema"] == "tankgate/clock/1"}


def test_a_gateway_that_is_busy_with_one_board_gives_no_other_a_wrong_time(tmp_path: Path) -> None:
    world = World(8, tmp_path, is_calm=True)
    world.gateway.reading_us = 20_000
    with world.gateway.in_place():
        world.start()
        world.tell_time()
        world.time.run(10 * MINUTE_US)
        world.come_to_rest()
        verdict = judge(world)
        world.gateway.cut()
    assert (verdict.faults, verdict.missing) == ([], 0)
    assert verdict.readings > 5000


def test_a_destination_that_is_changed_while_the_disk_hangs_goes_on_where_it_was(tmp_path: Path) -> None:
    world = World(5, tmp_path, is_calm=True)
    with world.gateway.in_place():
        world.broker.down()
        world.start()
        world.tell_time()
        world.time.run(10 * MINUTE_US)
        world.broker.up()
        daemon = world.gateway._daemon
        assert daemon is not None
        while not daemon._uplinks[0]._being_read:
            world.time.run(world.time.now_us + 1000)
        world.gateway.hang_reads(10 * SECOND_US)
        moved = replace(daemon._site.destinations[0], url="mqtt://127.0.0.1:1999")
        earlier = daemon._store.earlier([moved.name], [])
        site = replace(daemon._site, destinations=(moved,))
        daemon._change(daemon._prepared(site, b"", earlier), world.gateway.now_s)
        for thread in threading.enumerate():
            if "_replace" in thread.name:
                thread.join()
        world.time.run(world.time.now_us + MINUTE_US)
        world.come_to_rest()
        verdict = judge(world)
        world.gateway.cut()
    assert (verdict.faults, verdict.missing) == ([], 0)


@pytest.mark.parametrize("step_ms", [-YEAR_MS, YEAR_MS, 5_000])
def test_a_clock_that_runs_free_gives_no_reading_what_it_is_set_to(step_ms: int, tmp_path: Path) -> None:
    world = World(6, tmp_path, is_calm=True)
    with world.gateway.in_place():
        world.start()
        world.tell_time()
        world.time.run(10 * MINUTE_US)
        world.clock.set(world.clock.ms(), False)
        world.time.run(12 * MINUTE_US)
        world.clock.set(world.clock.ms() + step_ms, False)
        world.time.run(30 * MINUTE_US)
        world.come_to_rest()
        verdict = judge(world)
        world.gateway.cut()
    assert verdict.faults == [] and verdict.unsynced < verdict.readings // 10


@pytest.mark.parametrize("wrong_ms", [-6 * YEAR_MS, 10 * YEAR_MS])
def test_what_was_taken_in_a_wrong_year_is_kept_as_long_as_all_else(wrong_ms: int, tmp_path: Path) -> None:
    """Trusted, and put right after five minutes; then the gateway starts again, and nothing went upwards yet."""
    world = World(7, tmp_path, is_calm=True)
    with world.gateway.in_place():
        world.broker.down()
        world.start()
        for end_min, off_ms in ((5, wrong_ms), (10, 0)):
            world.clock.set(UTC_MS + world.time.now_us / 1000 + off_ms, True)
            world.time.run(end_min * MINUTE_US)
        for end_min in (15, 20):
            world.gateway.cut()
            world.gateway.start()
            world.time.run(end_min * MINUTE_US)
        world.come_to_rest()
        verdict = judge(world)
        world.gateway.cut()
    assert verdict.faults == [] and not verdict.gaps["retention"]


def test_a_board_that_loses_power_about_the_change_of_its_plan_leaves_a_gap_and_an_answer_to_the_old_plan_counts(
    tmp_path: Path,
) -> None:
    """Before the new plan, while it is sent, just after it; and so where the gateway is without power as well."""
    world = World(1, tmp_path, is_calm=True)
    board, gateway, time = world.boards["cab1"], world.gateway, world.time
    sites = gateway.site, load_site(write_site(tmp_path, world.brokers, timeout_ms=400))
    cuts, generations = [], set()
    with gateway.in_place():
        world.start()
        world.tell_time()
        time.run(MINUTE_US)
        for number, (after_ms, is_gateway_cut) in enumerate(product((0, 60, 80, 100, 150, 200, 500), (False, True))):
            gateway.cut()
            gateway.site = sites[1 - number % 2]
            gateway.start()
            time.run(time.now_us + after_ms * 1000)
            generations.add((number % 2, after_ms, board.generation))
            board.cut()
            off_ms = time.now_us / 1000
            if is_gateway_cut:
                gateway.cut()
            time.run(time.now_us + SECOND_US)
            cuts.append((off_ms, time.now_us / 1000))
            board.start()
            if is_gateway_cut:
                gateway.start()
            time.run(time.now_us + MINUTE_US // 2)
        world.come_to_rest()
        verdict = judge(world)
        gateway.cut()
    assert verdict.faults == []
    gaps = [each.document for each in world.broker.district.received.values() if "from_boot" in each.document]
    ends = (("from_boot", "from_uptime_ms"), ("boot", "to_uptime_ms"))
    spans = [[board.true_ms(gap[boot][-8:], gap[uptime_ms]) for boot, uptime_ms in ends] for gap in gaps]
    assert [cut for cut in cuts if not any(begin <= cut[0] and cut[1] <= end for begin, end in spans)] == []
    assert len({generation for number, _after_ms, generation in generations if number}) == 2  # by both plans


def test_the_same_seed_is_the_same_life() -> None:
    assert live(17, hours=0.25) == live(17, hours=0.25)


def _forget_a_sample(monkeypatch: pytest.MonkeyPatch) -> None:
    taken = Pipeline.take

    def take(self, each, *rest):
        kept = [record for record in each.records if record[1] != link.SAMPLE or record[2][2] % 16]
        taken(self, replace(each, records=kept), *rest)

    monkeypatch.setattr(Pipeline, "take", take)


def _skip_a_number(monkeypatch: pytest.MonkeyPatch) -> None:
    number = Pipeline._number

    def skipping(self, stream):
        seq = number(self, stream)
        return seq if seq % 50 else number(self, stream)

    monkeypatch.setattr(Pipeline, "_number", skipping)


def _tell_no_gap(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Pipeline, "_tell_missing", lambda *_arguments: None)


def _change_the_time(monkeypatch: pytest.MonkeyPatch) -> None:
    sample = Pipeline._sample
    monkeypatch.setattr(
        Pipeline,
        "_sample",
        lambda self, taken, birth, read, uptime_ms, *rest: sample(self, taken, birth, read, uptime_ms + 5000, *rest),
    )


def _name_as_gone_what_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    begin = Pipeline.begin

    def beginning(self, content, now_s):
        begin(self, content, now_s)
        self.dropped(Dropped("data", "retention", numbers={self.epoch: (5, 6)}), now_s)

    monkeypatch.setattr(Pipeline, "begin", beginning)


BREAKS = [
    (_forget_a_sample, "0 readings came"),
    (_skip_a_number, "are missing"),
    (_tell_no_gap, "0 readings came"),
    (_change_the_time, "no unit said so at that time"),
    (_name_as_gone_what_is_kept, "as gone, and they lie in the store"),
]


@pytest.mark.parametrize(("breaks", "tells"), BREAKS)
def test_a_chain_that_breaks_its_word_is_found_out(breaks, tells, monkeypatch) -> None:
    breaks(monkeypatch)
    verdict, _done = live(3, hours=0.5)
    assert any(tells in fault for fault in verdict.faults)


def test_a_seed_that_failed_is_printed_with_how_it_lives_again(monkeypatch) -> None:
    _forget_a_sample(monkeypatch)
    ran = CliRunner().invoke(main, ["--seeds", "=3", "--hours", "0.1"])
    assert ran.exit_code == 1
    assert "seed 3:" in ran.output and "again: make simulate SEEDS==3 HOURS=0.1" in ran.output


def test_a_run_that_checked_nothing_fails(monkeypatch) -> None:
    ran = CliRunner().invoke(main, ["--seeds", "0"])
    assert ran.exit_code == 1 and "nothing was checked" in ran.output


def test_seeds_that_are_none_are_told_with_what_is_allowed() -> None:
    ran = CliRunner().invoke(main, ["--seeds", "==17"])
    assert ran.exit_code == 2
    assert "'==17': allowed are a number of seeds, like 200, and one seed, like =17" in ran.output
