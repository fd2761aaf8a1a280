"""Samples -> readings -> messages, in virtual time, on the example site. Shell of the tests."""

import json
import struct
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from edge.alarms.system import SystemAlarms
from edge.batch import Batch, Held, Mark
from edge.boards import Taken
from edge.config import load_site
from edge.feed_schemas import Schemas
from edge.pipeline import Pipeline
from edge.planning import BoardPlan, compile_board, plan_board
from edge.retention import Dropped
from edge.timebase import UNSYNCED, Clock
from protocols import link, modbus, model
from protocols.feeds import json_feed
from protocols.model import Site
from protocols.profile import builtin, encode_registers

SITE = load_site(Path(__file__).parents[2] / "hil_tests" / "site" / "gateway.toml")
EPOCH = "01KAR8M2QQQQQQQQ"
START_MS = 1_795_401_000_000
SYNCED = Clock("synced", 3, START_MS, 0)
BOOT = "9f3a60c2"


class World:
    """A pipeline with the plans of both boards, and samples made for it from the profiles."""

    def __init__(
        self,
        site: Site = SITE,
        marks: Sequence[Mark] = (),
        is_set_aside: bool = False,
        held: Sequence[Held] = (),
        is_unread: bool = False,
    ) -> None:
        self.site = site
        content = json_feed.birth_content(site, "0.1.0", "0.1.0", "simulated")
        self.birth = json_feed.birth_id(content)
        self.births = {self.birth: content}
        self.pipeline = Pipeline(
            site, EPOCH, "simulated", self.birth, self.births, marks, is_set_aside, held, is_unread
        )
        self.plans: dict[str, BoardPlan] = {}
        for board in site.boards:
            plan = compile_board(site, board.name, self.birth, ())
            if plan is not None:
                self.plans[board.name] = plan
                self.pipeline.add_plan(plan)
        self.numbers = {board.name: 0 for board in site.boards}

    def sample(
        self, point: str, value: float | None, uptime_ms: int, outcome: int = modbus.OK, code: int = 0
    ) -> tuple[str, tuple[int, int, bytes]]:
        """(board, record) of one poll that reads this point."""
        for board, plan in self.plans.items():
            for index, planned in enumerate(plan.reads):
                if any(use.point == point for use in planned.read.uses):
                    body = bytes((index, outcome)) + struct.pack("<IHB", uptime_ms // 1000, uptime_ms % 1000, 0)
                    if outcome == modbus.OK:
                        body += self.registers(plan, index, point, value)
                    elif outcome == modbus.EXCEPTION:
                        body += bytes((code,))
                    return board, (plan.generation, link.SAMPLE, body)
        raise LookupError(point)

    def check(
        self, address: int, registers: Sequence[int], uptime_ms: int, outcome: int = modbus.OK
    ) -> tuple[str, tuple[int, int, bytes]]:
        """(board, record) of one poll that asks a unit who it is."""
        (board, plan) = next(iter(self.plans.items()))
        index = next(i for i, each in enumerate(plan.reads) if not each.read.uses and each.read.address == address)
        body = bytes((index, outcome)) + struct.pack("<IHB", uptime_ms // 1000, uptime_ms % 1000, 0)
        return board, (plan.generation, link.SAMPLE, body + struct.pack(f">{len(registers)}H", *registers))

    def counts(self, bus: str, state: int, uptime_ms: int) -> tuple[str, tuple[int, int, bytes]]:
        """(board, record) of what a board counted on this bus in a minute."""
        board = next(each.board for each in self.site.buses if each.name == bus)
        index = [each.name for each in self.site.buses if each.board == board].index(bus)
        moment = uptime_ms // 1000, uptime_ms % 1000
        body = bytes((index, state)) + struct.pack("<IH5H", *moment, 60_000, 12_000, 1, 2, 3)
        return board, (self.plans[board].generation, link.COUNTS, body)

    def registers(self, plan: BoardPlan, index: int, point: str, value: float | None) -> bytes:
        planned = plan.reads[index]
        read = planned.read
        words: dict[tuple[int, int], int] = {}
        for use in read.uses:
            words |= encode_registers(
                plan.profiles[planned.profile],
                use.channel,
                value if use.point == point else 20.0,
                unit=use.unit,
                range_low=use.range_low,
                range_high=use.range_high,
            )
        return b"".join(
            words.get((read.function_code, address), 0).to_bytes(2, "big")
            for address in range(read.address, read.address + read.count)
        )

    def take(
        self,
        *samples: tuple[str, tuple[int, int, bytes]],
        boot: str = BOOT,
        clock: Clock = SYNCED,
        lost: int = 0,
        now_s: float = 0.0,
        began_s: float = 0.0,
    ) -> None:
        for board, record in samples:
            self.numbers[board] += 1 + lost
            taken = Taken(board, boot, [record], self.numbers[board], lost, clock, began_s)
            self.pipeline.take(taken, now_s)
            lost = 0

    def close(self) -> list[Batch]:
        return self.pipeline.close(1.0)


def data_rows(batches: list[Batch]) -> list[list[Any]]:
    return [row for message in messages(batches, "data") for row in message["rows"]]


def messages(batches: list[Batch], kind: str) -> list[dict[str, Any]]:
    return [
        json.loads(message.payload)
        for batch in batches
        for message in batch.messages
        if message.kind == kind and message.payload is not None
    ]


def test_a_reading_has_its_value_and_its_time() -> None:
    world = World()
    world.take(world.sample("TK101.level", 8.5, 4118))
    batches = world.close()
    (message,) = messages(batches, "data")
    assert message["t0_ms"] == START_MS + 4118
    assert message["rows"] == [["TK101.level", 0, 8.5]]
    assert message["time"] == {"kind": "synced", "err_ms": 3}
    assert [row.value for batch in batches for row in batch.rows] == [8.5]
    assert batches[-1].taken == (Mark("cab1", BOOT, 1, 4118, START_MS + 4118),)


def test_history_keeps_every_reading_and_the_message_those_beyond_the_deadband() -> None:
    world = World()
    values = [5.0, 5.005, 5.0, 5.02, 5.025, 5.0, 5.0]
    world.take(*(world.sample("TK101.level", value, 1000 + 10 * i) for i, value in enumerate(values)))
    batches = world.close()
    assert len([row for batch in batches for row in batch.rows]) == 7
    assert [row[2] for row in data_rows(batches)] == [5.0, 5.02, 5.0]


def test_a_backlog_goes_out_in_messages_that_a_broker_takes() -> None:
    world = World()
    samples = [world.sample("TK101.level", 5.0 + i % 2, 1000 + 10 * i) for i in range(5000)]
    for sample in samples:
        world.take(sample)
    batches = world.close()
    told = messages(batches, "data")
    assert [(each["seq"], len(each["rows"])) for each in told] == [(seq, 1000) for seq in range(1, 6)]
    assert [row[2] for row in data_rows(batches)] == [5.0 + i % 2 for i in range(5000)]
    assert max(len(message.payload or b"") for batch in batches for message in batch.messages) < 128_000
    world.take(samples[0])
    assert [each["seq"] for each in messages(world.close(), "data")] == [6]


def test_a_change_of_status_is_reported_and_carries_no_value() -> None:
    world = World()
    world.take(
        world.sample("GD01.gas", 3.0, 1000),
        world.sample("GD01.gas", None, 2000, modbus.TIMEOUT),
        world.sample("GD01.gas", None, 3000, modbus.TIMEOUT),
        world.sample("GD01.gas", None, 4000, modbus.EXCEPTION, 2),
        world.sample("GD01.gas", None, 5000, modbus.EXCEPTION, 4),
        world.sample("GD01.gas", 3.0, 6000),
    )
    assert [row[2:] for row in data_rows(world.close())] == [
        [3.0],
        [None, model.NO_REPLY],
        [None, model.EXCEPTION, 2],
        [None, model.EXCEPTION, 4],
        [3.0],
    ]


def controller(*statuses: str) -> World:
    """A controller with one gas detector, and its status where there is a row for it."""
    gas = next(point for point in SITE.points if point.point == "GD01.gas")
    gas = replace(gas, profile="igd-toc-635", channel="gas1", deadband=0.0, range_low=None, range_high=None)
    rows = [replace(gas, point=f"GD01.{name}", channel=name, unit="1", limits=()) for name in statuses]
    return World(replace(SITE, points=(gas, *rows), profiles={"igd-toc-635": builtin("igd-toc-635")}))


def test_a_fault_that_another_register_tells_makes_its_gas_bad() -> None:
    """Bits of the controller: 3 fault, 4 disabled, 7 over range. A value that is not read is no better than it."""
    world = controller("status1")
    words = {"good": 0b111, "fault": 0b1000, "disabled": 0b10000, "over": 0b10000000}
    uptime_ms = 1000
    for word in ("good", "fault", "disabled", "over", "lost", "good"):
        outcome = modbus.TIMEOUT if word == "lost" else modbus.OK
        status = world.sample("GD01.status1", words.get(word), uptime_ms, outcome)
        world.take(status, world.sample("GD01.gas", 12.5, uptime_ms + 100))
        uptime_ms += 1000
    told = [row[2:] for row in data_rows(world.close()) if row[0] == "GD01.gas"]
    assert told == [[12.5], [None, 204, 8], [None, 212], [12.5, 100], [None, 200], [12.5]]


def test_a_failed_read_stays_one_whatever_another_register_tells() -> None:
    world = controller("status1")
    world.take(world.sample("GD01.status1", 0b1000, 1000), world.sample("GD01.gas", None, 1100, modbus.TIMEOUT))
    assert [row[2:] for row in data_rows(world.close()) if row[0] == "GD01.gas"] == [[None, 200]]


def test_a_plan_of_before_its_faults_were_asked_for_is_still_understood() -> None:
    world = controller()
    world.take(world.sample("GD01.gas", 12.5, 1000))
    assert [row[2:] for row in data_rows(world.close())] == [[12.5]]


def test_each_heartbeat_is_reported_once() -> None:
    world = World()
    second = json_feed.heartbeat_second("jt-0042")
    start_s = START_MS // 1000 % 60
    first_beat_ms = (second - start_s) % 60 * 1000
    world.take(*(world.sample("TK101.level", 5.0, uptime_ms) for uptime_ms in range(0, 180_000, 2000)))
    times = [row[1] for row in data_rows(world.close())]
    beats = [next(t for t in range(0, 180_000, 2000) if t >= first_beat_ms + 60_000 * i) for i in range(3)]
    assert times == sorted({0, *beats})


def test_an_urgent_reading_closes_the_batch() -> None:
    points = tuple(replace(point, urgent=point.point == "GD07.gas") for point in SITE.points)
    world = World(replace(SITE, points=points))
    world.take(world.sample("TK101.level", 5.0, 1000))
    assert world.pipeline.due_s() == 1.0
    world.take(world.sample("GD07.gas", 52.5, 1010))
    assert world.pipeline.due_s() == 0.0
    assert {row[0] for row in data_rows(world.close())} == {"TK101.level", "GD07.gas"}


def test_without_a_clock_readings_go_out_with_their_uptime_and_apart_by_boot() -> None:
    world = World()
    world.take(world.sample("TK101.level", 5.0, 8120), clock=UNSYNCED)
    world.take(world.sample("GD07.gas", 1.0, 9000), clock=UNSYNCED)
    first, second = messages(world.close(), "data")
    assert first["time"] == {"kind": "unsynced", "err_ms": None}
    assert first["t0_ms"] is None and first["t0_uptime_ms"] == 8120 and first["boot"] == f"cab1/{BOOT}"
    assert second["boot"] == f"cab2/{BOOT}"
    world.pipeline.clock_changed("cab1", BOOT, 8000, Clock("synced", 15, START_MS, 3200), 0.0)
    (clock,) = messages(world.close(), "clock")
    assert (clock["boot"], clock["utc_at_uptime_0_ms"], clock["drift_ppm"], clock["err_ms"]) == (
        f"cab1/{BOOT}",
        START_MS,
        3.2,
        15,
    )


def test_a_sample_is_read_by_the_plan_it_was_taken_under() -> None:
    world = World()
    before = world.sample("TK101.level", 7.5, 1000)
    swapped = {"TK101.level": 2, "TK102.level": 1}  # the technician had mixed up two station numbers
    points = tuple(replace(point, unit_id=swapped.get(point.point, point.unit_id)) for point in SITE.points)
    site = replace(SITE, points=points, config_hash="sha256:other")
    content = json_feed.birth_content(site, "0.1.0", "0.1.0", "simulated")
    birth = json_feed.birth_id(content)
    world.births[birth] = content
    old = world.plans["cab1"]
    plan = compile_board(site, "cab1", birth, {old.generation})
    assert plan is not None and plan.generation != old.generation
    world.pipeline.add_plan(plan)
    world.plans = {"cab1": plan}
    world.take(before, world.sample("TK101.level", 2.5, 2000))
    first, second = messages(world.close(), "data")
    assert (first["birth"], first["rows"][0][:3]) == (world.birth, ["TK101.level", 0, 7.5])
    assert (second["birth"], second["rows"][0][:3]) == (birth, ["TK101.level", 0, 2.5])


def changed(world: World, **changes: Any) -> str:
    """The running world changes to a site whose TK101.level is another; the new birth."""
    points = tuple(replace(point, **changes) if point.point == "TK101.level" else point for point in SITE.points)
    site = replace(SITE, points=points, config_hash=f"sha256:{changes}")
    content = json_feed.birth_content(site, "0.1.0", "0.1.0", "simulated")
    birth = json_feed.birth_id(content)
    plans = {name: plan_board(site, name, birth, [plan], ()) for name, plan in world.plans.items()}
    world.pipeline.reborn(birth, content, 0.0)
    for plan in plans.values():
        world.pipeline.add_plan(plan)
    world.plans = plans
    return birth


def test_a_changed_name_reports_nothing_again_and_forgets_nothing() -> None:
    world = World()
    world.take(world.sample("TK101.level", 5.0, 4000), world.sample("TK102.level", 6.0, 4000))
    (first,) = messages(world.close(), "data")
    world.take(world.sample("TK102.level", 7.0, 4100))  # of a batch that is open when the site changes
    birth = changed(world, name="other")
    world.take(world.sample("TK101.level", 5.005, 4200), world.sample("TK102.level", 8.0, 4200))
    batches = world.close()
    (event,) = messages(batches, "birth")
    assert (event["birth"], event["epoch"], event["seq"]) == (birth, EPOCH, 1)
    before, after = messages(batches, "data")
    assert (before["birth"], [row[0] for row in before["rows"]]) == (first["birth"], ["TK102.level"])
    assert (after["birth"], [row[0] for row in after["rows"]]) == (birth, ["TK102.level"])
    assert (before["seq"], after["seq"]) == (first["seq"] + 1, first["seq"] + 2)
    assert dict(world.pipeline.latest())["TK101.level"] == (START_MS + 4200, 5.005, 0, 0)
    assert world.pipeline.statistics.units["level", 1].counts.since_start["ok"] == 2


def test_a_changed_deadband_is_in_force_at_once_for_what_was_reported_before() -> None:
    world = World()
    world.take(world.sample("TK101.level", 5.0, 4000))
    world.close()
    generation = world.plans["cab1"].generation
    changed(world, deadband=0.5)
    assert world.plans["cab1"].generation == generation
    world.take(*(world.sample("TK101.level", value, 4010 + i) for i, value in enumerate((5.4, 5.6))))
    assert [row[2] for row in data_rows(world.close())] == [5.6]


def test_a_point_that_means_something_else_begins_anew_and_its_old_samples_stay_apart() -> None:
    world = World()
    late = world.sample("TK101.level", 5.0, 4020)
    world.take(world.sample("TK101.level", 5.0, 4000))
    world.close()
    changed(world, unit="mm", unit_text="mm", range_high=12500.0)
    assert dict(world.pipeline.latest())["TK101.level"] is None
    world.take(late)  # taken under the plan before, and not beyond its deadband
    assert data_rows(world.close()) == []
    assert dict(world.pipeline.latest())["TK101.level"] is None
    world.take(world.sample("TK101.level", 5000.0, 4030))
    assert [row[2] for row in data_rows(world.close())] == [5000.0]


def test_an_alarm_of_the_gateway_goes_out_at_once_with_its_number() -> None:
    world = World()
    alarms = SystemAlarms()
    change = alarms.raise_alarm("system.config:FAULT", 3, "correct it", START_MS)
    assert change is not None
    world.take(world.sample("TK101.level", 5.0, 100))
    world.pipeline.alarm(change, json_feed.TimeQuality("synced", 0, None), START_MS, 0.25)
    assert world.pipeline.due_s() == 0.25
    (event,) = messages(world.close(), "alarm")
    assert (event["alarm"], event["to"], event["t_ms"]) == ("system.config:FAULT", "UNACK", START_MS)
    assert [alarm.seq for alarm in alarms.standing()] == [event["seq"]]


def test_samples_of_an_unknown_plan_become_a_gap_and_never_a_reading() -> None:
    world = World()
    unknown = []
    for uptime_ms in (1000, 3000, 5000):
        board, (generation, kind, body) = world.sample("TK101.level", 7.5, uptime_ms)
        unknown.append((generation ^ 1, kind, body))
    world.pipeline.take(Taken("cab1", BOOT, unknown, 3, 0, SYNCED, 0.0), 0.0)
    batches = world.close()
    assert data_rows(batches) == [] and not any(batch.rows for batch in batches)
    (gap,) = messages(batches, "gap")
    assert (gap["cause"], gap["polls"], gap["polls_are"], gap["scope"]["board"]) == ("plan_unknown", 3, "exact", board)
    assert (gap["from_ms"], gap["to_ms"]) == (START_MS + 1000, START_MS + 5000)
    assert batches[-1].taken == (Mark("cab1", BOOT, 3, 5000, START_MS + 5000),)


def test_records_that_the_ring_dropped_become_a_gap_with_their_count() -> None:
    world = World()
    world.take(world.sample("TK101.level", 7.5, 1000))
    world.close()
    world.take(world.sample("TK101.level", 7.5, 220_000), lost=1971)
    (gap,) = messages(world.close(), "gap")
    assert (gap["cause"], gap["polls"], gap["polls_are"]) == ("ring_full", 1971, "at_most")
    assert (gap["from_ms"], gap["to_ms"]) == (START_MS + 1000, START_MS + 220_000)


OTHER_BOOT = "00000002"
LATER = Clock("synced", 3, START_MS + 8000, 0)  # a boot that began eight seconds after BOOT


def test_a_restarted_board_leaves_a_gap_up_to_its_first_sample() -> None:
    world = World()
    world.take(world.sample("TK101.level", 7.5, 1000))
    world.close()
    world.take(world.sample("TK101.level", 7.5, 4000), boot=OTHER_BOOT, clock=LATER)
    (gap,) = messages(world.close(), "gap")
    assert (gap["cause"], gap["polls"], gap["polls_are"]) == ("board_restart", None, "unknown")
    assert (gap["from_ms"], gap["to_ms"]) == (START_MS + 1000, START_MS + 12_000)


def test_a_board_that_restarted_together_with_the_gateway_leaves_the_same_gap() -> None:
    world = World(marks=[Mark("cab1", BOOT, 77, 1000, START_MS + 1000)])
    plan_only = (world.plans["cab1"].generation, link.PLAN, bytes(2))
    world.take(("cab1", plan_only), boot=OTHER_BOOT, clock=LATER)
    assert world.close() == []  # were it taken, a gateway killed here would have forgotten the gap
    world.take(world.sample("TK101.level", 7.5, 4000), boot=OTHER_BOOT, clock=LATER)
    batches = world.close()
    (gap,) = messages(batches, "gap")
    assert (gap["cause"], gap["from_ms"], gap["to_ms"]) == ("board_restart", START_MS + 1000, START_MS + 12_000)
    assert batches[-1].taken == (Mark("cab1", OTHER_BOOT, 2, 4000, START_MS + 12_000),)


def test_a_board_that_was_away_for_longer_was_down_and_with_the_gateway_away_nobody_knows() -> None:
    away = replace(LATER, utc_at_uptime_0_ms=START_MS + 1000 + 10_000)
    for marks, cause in (((), "board_down"), ((Mark("cab1", BOOT, 77, 1000, START_MS + 1000),), "not_running")):
        world = World(marks=marks)
        if not marks:
            world.take(world.sample("TK101.level", 7.5, 1000))
            world.close()
        world.take(world.sample("TK101.level", 7.5, 4000), boot=OTHER_BOOT, clock=away, began_s=11.0)
        (gap,) = messages(world.close(), "gap")
        assert (gap["cause"], gap["polls_are"]) == (cause, "unknown")
        assert (gap["from_ms"], gap["to_ms"]) == (START_MS + 1000, START_MS + 15_000)
        assert list(Schemas().violations("gap", gap)) == []


def test_what_the_store_gave_up_is_a_gap_of_each_epoch() -> None:
    world = World()
    known = Dropped("data", "disk_quota", START_MS, START_MS + 5000, 70, {EPOCH: (3, 9)})
    world.pipeline.dropped(known, 0.0)
    world.pipeline.dropped(Dropped("event", "retention", numbers={"01KAR8M2": (1, 4), EPOCH: (1, 2)}), 0.0)
    gaps = messages(world.close(), "gap")
    assert [(gap["of"], gap["cause"], gap["polls"], gap["missing_epoch"], gap["missing_seq"]) for gap in gaps] == [
        ("data", "disk_quota", 70, EPOCH, [3, 9]),
        ("event", "retention", None, "01KAR8M2", [1, 4]),
        ("event", "retention", None, EPOCH, [1, 2]),
    ]
    assert [(gap["from_ms"], gap["to_ms"]) for gap in gaps] == [(START_MS, START_MS + 5000), (None, None), (None, None)]
    assert [list(Schemas().violations("gap", gap)) for gap in gaps] == [[], [], []]


def test_an_alarm_says_whether_there_is_a_disk_to_write_it_to() -> None:
    world = World()
    for journalled in (True, False):
        world.pipeline.journalled = journalled
        change = SystemAlarms().raise_alarm("system.store:FAULT", 2, "…", START_MS)
        assert change is not None
        world.pipeline.alarm(change, json_feed.TimeQuality("synced", 0, None), START_MS, 0.0)
    assert [alarm["journalled"] for alarm in messages(world.close(), "alarm")] == [True, False]


def span(gap: dict[str, Any]) -> tuple[Any, ...]:
    assert list(Schemas().violations("gap", gap)) == []
    return tuple(gap.get(name) for name in ("from_boot", "from_uptime_ms", "boot", "to_uptime_ms"))


def test_a_gap_tells_both_its_ends_by_board_time_whatever_is_known_of_clocks() -> None:
    for newest_ms in (START_MS + 1000, None):
        for clock in (LATER, UNSYNCED):
            world = World(marks=[Mark("cab1", BOOT, 77, 1000, newest_ms)])
            world.take(world.sample("TK101.level", 7.5, 4000), boot=OTHER_BOOT, clock=clock)
            (gap,) = messages(world.close(), "gap")
            assert span(gap) == (f"cab1/{BOOT}", 1000, f"cab1/{OTHER_BOOT}", 4000)
            assert (gap["from_ms"], gap["to_ms"]) == (newest_ms, clock.utc_ms(4000))


def test_a_gap_over_a_clock_that_was_put_back_is_not_cut_short() -> None:
    world = World(marks=[Mark("cab1", BOOT, 77, 90_000, START_MS + 90_000)])
    world.take(world.sample("TK101.level", 7.5, 4000), boot=OTHER_BOOT, clock=LATER)
    (gap,) = messages(world.close(), "gap")
    assert (gap["from_ms"], gap["to_ms"]) == (START_MS + 90_000, START_MS + 12_000)
    assert span(gap) == (f"cab1/{BOOT}", 90_000, f"cab1/{OTHER_BOOT}", 4000)


def test_how_long_a_board_was_away_is_no_matter_of_the_wall_clock() -> None:
    for step_ms in (-3_600_000, 0, 3_600_000):
        for began_s, cause in ((10.0, "board_restart"), (12.0, "board_down")):
            world = World()
            world.take(world.sample("TK101.level", 7.5, 1000))
            clock = replace(LATER, utc_at_uptime_0_ms=START_MS + step_ms)
            world.take(world.sample("TK101.level", 7.5, 4000), boot=OTHER_BOOT, clock=clock, began_s=began_s)
            (gap,) = messages(world.close(), "gap")
            assert gap["cause"] == cause


def test_the_gateway_alone_was_restarted_and_nothing_is_missing() -> None:
    world = World(marks=[Mark("cab1", BOOT, 77, 1000, START_MS + 1000)])
    world.take(world.sample("TK101.level", 7.5, 2000))
    assert messages(world.close(), "gap") == []


def test_what_the_ring_dropped_while_there_was_no_gateway_began_at_the_last_sample_on_disk() -> None:
    world = World(marks=[Mark("cab1", BOOT, 77, 1000, START_MS + 1000)])
    world.take(world.sample("TK101.level", 7.5, 9000), lost=12)
    (gap,) = messages(world.close(), "gap")
    assert (gap["cause"], gap["polls"]) == ("ring_full", 12)
    assert (gap["from_ms"], gap["to_ms"]) == (START_MS + 1000, START_MS + 9000)


def test_what_a_store_knew_that_was_set_aside_is_told() -> None:
    world = World(is_set_aside=True)
    world.take(world.sample("TK101.level", 7.5, 9000), lost=900)
    world.take(world.sample("TK101.level", 7.5, 10_000))
    (gap,) = messages(world.close(), "gap")
    assert (gap["cause"], gap["polls"], gap["polls_are"]) == ("set_aside", None, "unknown")
    assert (gap["from_ms"], gap["to_ms"]) == (None, START_MS + 9000)
    assert span(gap) == (None, None, f"cab1/{BOOT}", 9000)


def test_while_the_store_cannot_be_read_gaps_wait_until_it_can() -> None:
    """Until then nobody knows where they began; what goes on meanwhile is told at once."""
    for marks, begins in (((Mark("cab1", BOOT, 77, 1000, START_MS + 1000),), (f"cab1/{BOOT}", 1000)), ((), None)):
        world = World(is_unread=True)
        world.take(world.sample("TK101.level", 7.5, 4000), boot=OTHER_BOOT, clock=LATER)
        world.take(world.sample("TK101.level", 7.6, 9000), boot=OTHER_BOOT, clock=LATER, lost=2)
        (ring_full,) = messages(world.close(), "gap")
        assert ring_full["cause"] == "ring_full"
        world.pipeline.learn(marks, False, (), 10.0)
        world.take(world.sample("TK101.level", 7.7, 10_000), boot=OTHER_BOOT, clock=LATER)
        gaps = messages(world.close(), "gap")
        assert [span(gap) for gap in gaps] == ([(*begins, f"cab1/{OTHER_BOOT}", 4000)] if begins else [])


def test_where_a_store_that_could_not_be_read_was_set_aside_then_nobody_knows_where_the_gap_began() -> None:
    world = World(is_unread=True)
    world.take(world.sample("TK101.level", 7.5, 4000))
    world.close()
    world.pipeline.learn((), True, (), 10.0)
    (gap,) = messages(world.close(), "gap")
    assert (gap["cause"], gap["polls"], span(gap)) == ("set_aside", None, (None, None, f"cab1/{BOOT}", 4000))


def test_what_a_board_polled_before_it_was_first_heard_is_a_gap_without_a_beginning() -> None:
    """A gateway that gave it a plan and lost its power before a sample came; or whose card is a new one."""
    for lost, causes in ((0, ["not_running"]), (12, ["not_running", "ring_full"])):
        world = World()
        board, record = world.sample("TK101.level", 7.5, 4000)
        taken = Taken(board, OTHER_BOOT, [record], lost + 1, lost, LATER, 0.0, has_past=True)
        world.pipeline.take(taken, 0.0)
        world.take(world.sample("TK101.level", 7.6, 5000), boot=OTHER_BOOT, clock=LATER)
        gaps = messages(world.close(), "gap")
        assert [gap["cause"] for gap in gaps] == causes
        assert span(gaps[0]) == (None, None, f"cab1/{OTHER_BOOT}", 0)
        assert (gaps[0]["from_ms"], gaps[0]["polls"]) == (None, None)
    world = World(marks=[Mark("cab1", BOOT, 77, 1000, START_MS + 1000)])
    world.pipeline.take(replace(taken, lost=0), 0.0)
    assert [gap["cause"] for gap in messages(world.close(), "gap")] == ["board_restart"]


def test_records_that_an_unread_store_has_are_no_gap() -> None:
    """A board says that 76 records were before the first that came; 70 of them turn out to be on disk."""
    for next_record, polls in ((76, []), (70, [6])):
        world = World(is_unread=True)
        world.take(world.sample("TK101.level", 7.5, 4000), lost=76)
        assert messages(world.close(), "gap") == []
        world.pipeline.learn([Mark("cab1", BOOT, next_record, 1000, START_MS + 1000)], False, (), 10.0)
        gaps = messages(world.close(), "gap")
        assert [gap["polls"] for gap in gaps] == polls
        assert all(span(gap) == (f"cab1/{BOOT}", 1000, f"cab1/{BOOT}", 4000) for gap in gaps)


def test_a_sample_that_no_read_of_its_plan_gives_becomes_a_gap_and_never_a_reading() -> None:
    world = World()
    board, (generation, kind, body) = world.sample("TK101.level", 7.5, 1000)
    bodies = [body[:-2], body + b"\0\0", body[:9], b"\xff" + body[1:], body[:1] + b"\x06" + body[2:]]
    for wrong in bodies:
        world.take((board, (generation, kind, wrong)))
    batches = world.close()
    assert [gap["cause"] for gap in messages(batches, "gap")] == ["plan_unknown"] * len(bodies)
    assert not any(batch.rows for batch in batches)


def test_message_numbers_have_no_hole() -> None:
    world = World()
    seqs: dict[str, list[int]] = {"data": [], "event": []}
    world.pipeline.begin(world.births[world.birth], 0.0)
    for i in range(20):
        world.take(world.sample("TK101.level", 5.0 + i % 3, 1000 * i))
        if i % 4 == 0:
            world.pipeline.clock_changed("cab1", BOOT, 1000 * i, SYNCED, 0.0)
        for batch in world.close():
            for message in batch.messages:
                seqs[message.stream].append(message.seq)
    assert seqs["data"] == list(range(1, len(seqs["data"]) + 1))
    assert seqs["event"] == [1, 2, 3, 4, 5, 6]


def test_everything_of_one_second_is_committed_together() -> None:
    world = World()
    world.take(world.sample("TK101.level", 5.0, 100))
    world.take(world.sample("GD07.gas", 1.0, 200))
    batches = world.close()
    assert {mark.board for batch in batches for mark in batch.taken} == {"cab1", "cab2"}
    assert world.close() == []


# --- which device answers -----------------------------------------------------------------------------------

MSA = builtin("msa-ultima-x")
UNIT = ("gas-a", 1)
OLD, NEW = [2019, 5, 6, 0, 0, 0, 0, 0, 0], [2024, 5, 6, 0, 0, 0, 0, 0, 0]
GOOD, REPLACED = (model.GOOD, 0), (model.UNIT_REPLACED, 0)
MOVED = (model.WRONG_REPLY, 3000)


def detector_world(held: Sequence[Held] = ()) -> World:
    """One MSA detector: its serial number at 40005, its map's base at 1000."""
    point = replace(next(p for p in SITE.points if p.point == "GD01.gas"), profile=MSA.name, channel="lel1")
    return World(replace(SITE, points=(point,), profiles={MSA.name: MSA}), held=held)


def polled(world: World, uptime_ms: int, outcome: int = modbus.OK) -> tuple[int, int]:
    """Status and detail of a reading now; one with a value has 7.5."""
    world.take(world.sample("GD01.gas", 7.5, uptime_ms, outcome))
    ((_name, latest),) = world.pipeline.latest()
    assert latest is not None and (latest[1] == 7.5) is model.has_value(latest[2])
    return latest[2:]


def held(batches: list[Batch]) -> list[Held]:
    return [each for batch in batches for each in batch.held]


def test_another_serial_number_spoils_every_reading_until_the_old_one_is_back() -> None:
    world = detector_world()
    assert polled(world, 1000) == GOOD  # not asked yet
    world.take(world.check(40005, OLD, 2000))
    assert polled(world, 3000) == GOOD and world.pipeline.replaced == set()
    world.take(world.check(40005, NEW, 4000))
    assert polled(world, 5000) == REPLACED and world.pipeline.replaced == {UNIT}
    assert polled(world, 6000, modbus.TIMEOUT) == REPLACED
    world.take(world.check(40005, [], 7000, modbus.TIMEOUT))
    assert polled(world, 8000) == REPLACED  # what nobody answered changes nothing
    world.take(world.check(40005, OLD, 9000))
    assert polled(world, 10_000) == GOOD and world.pipeline.replaced == set()


def test_a_check_is_no_reading_and_what_it_found_is_committed_at_once_and_once() -> None:
    world = detector_world()
    world.take(world.check(40005, OLD, 1000))
    assert world.pipeline.due_s() == 0.0
    batches = world.close()
    data = struct.pack(">9H", *OLD)
    assert held(batches) == [Held(*UNIT, MSA.name, 3, 40005, 9, data, data)]
    assert not any(batch.rows for batch in batches) and batches[-1].taken[0].next_record == 1
    world.take(world.check(40005, OLD, 2000))
    assert world.pipeline.due_s() == 1.0
    assert held(world.close()) == []


def test_a_unit_whose_serial_number_never_comes_is_judged_by_its_readings() -> None:
    world = detector_world()
    world.take(world.check(40005, [], 1000, modbus.TIMEOUT))
    assert polled(world, 2000) == GOOD
    assert held(world.close()) == []


def test_a_replaced_unit_is_still_replaced_after_a_restart() -> None:
    first = detector_world()
    first.take(first.check(40005, OLD, 1000))
    kept = held(first.close())
    first.take(first.check(40005, NEW, 2000))
    kept = held(first.close())
    second = detector_world(kept)
    assert second.pipeline.replaced == {UNIT}
    assert polled(second, 3000) == REPLACED
    second.take(second.check(40005, OLD, 4000))
    assert polled(second, 5000) == GOOD


def test_a_device_that_was_believed_while_the_store_could_not_be_read_is_doubted_when_it_can() -> None:
    first = detector_world()
    first.take(first.check(40005, OLD, 1000))
    kept = held(first.close())
    second = detector_world()
    second.take(second.check(40005, NEW, 2000))
    assert polled(second, 3000) == GOOD
    second.pipeline.learn((), False, kept, 4.0)
    assert polled(second, 5000) == REPLACED
    assert second.pipeline.replaced == {UNIT}


def test_a_person_accepts_the_new_device() -> None:
    world = detector_world()
    quality = json_feed.TimeQuality("synced", None, None)

    def accept(unit: tuple[str, int]) -> bool:
        return world.pipeline.accept(unit, quality, START_MS, "李工", "更换探头", 0.0)

    assert not accept(UNIT)  # never read
    world.take(world.check(40005, OLD, 1000))
    world.take(world.check(40005, NEW, 2000))
    world.close()
    assert not accept(("gas-a", 2)) and accept(UNIT) and not accept(UNIT)
    assert world.pipeline.replaced == set() and polled(world, 3000) == GOOD
    batches = world.close()
    (action,) = messages(batches, "action")
    assert (action["action"], action["by"], action["reason"]) == ("unit_accepted", "李工", "更换探头")
    assert action["unit"] == {"bus": "gas-a", "unit_id": 1}
    assert list(Schemas().violations("action", action)) == []
    new = struct.pack(">9H", *NEW)
    assert held(batches) == [Held(*UNIT, MSA.name, 3, 40005, 9, new, new)]
    world.take(world.check(40005, OLD, 4000))
    assert polled(world, 5000) == REPLACED  # now the old one is the stranger


def test_a_map_that_was_moved_is_a_wrong_reply_and_nothing_to_accept() -> None:
    world = detector_world()
    world.take(world.check(1000, [40000], 1000))
    assert polled(world, 2000) == GOOD
    world.take(world.check(1000, [41000], 3000))
    assert polled(world, 4000) == MOVED and world.pipeline.replaced == set()
    assert not world.pipeline.accept(UNIT, json_feed.TimeQuality("synced", None, None), 0, "x", None, 0.0)
    kept = held(world.close())
    assert polled(detector_world(kept), 5000) == MOVED
    world.take(world.check(1000, [40000], 6000))
    assert polled(world, 7000) == GOOD


def test_a_unit_that_gets_another_profile_is_a_new_acquaintance() -> None:
    world = detector_world([Held(*UNIT, "another-profile", 3, 40005, 9, b"old" * 6, b"new" * 6)])
    assert world.pipeline.replaced == set() and polled(world, 1000) == GOOD
    world.take(world.check(40005, NEW, 2000))
    assert polled(world, 3000) == GOOD


def test_counts_are_taken_without_a_sample_once_no_gap_is_owed() -> None:
    world = World(marks=[Mark("cab1", BOOT, 77, 1000, START_MS + 1000)])
    world.take(world.counts("level", link.POLLING, 60_000), boot=OTHER_BOOT, clock=LATER)
    assert world.close() == []  # the restart is yet to be told
    world.take(world.sample("TK101.level", 7.5, 64_000), boot=OTHER_BOOT, clock=LATER)
    batches = world.close()
    assert [gap["cause"] for gap in messages(batches, "gap")] == ["board_restart"]
    assert batches[-1].taken == (Mark("cab1", OTHER_BOOT, 2, 64_000, START_MS + 72_000),)
    world.take(world.counts("level", link.POLLING, 120_000), boot=OTHER_BOOT, clock=LATER)
    batches = world.close()
    assert data_rows(batches) == [] and [batch.taken for batch in batches] == [
        (Mark("cab1", OTHER_BOOT, 3, 64_000, START_MS + 72_000),)
    ]
    world.take(world.counts("level", link.POLLING, 180_000), boot=OTHER_BOOT, clock=LATER, lost=5)
    assert world.close() == []
    world.take(world.sample("TK101.level", 7.5, 184_000), boot=OTHER_BOOT, clock=LATER)
    (gap,) = messages(world.close(), "gap")
    assert (gap["cause"], gap["polls"], gap["to_uptime_ms"]) == ("ring_full", 5, 184_000)


def test_counts_beside_samples_are_taken_with_them_and_give_no_readings() -> None:
    world = World()
    (board, sample), (_board, counts) = world.sample("GD01.gas", 3.0, 1000), world.counts("gas-a", 0, 1500)
    world.pipeline.take(Taken(board, BOOT, [counts, sample, counts], 3, 0, SYNCED, 0.0), 0.0)
    batches = world.close()
    assert [row[0] for row in data_rows(batches)] == ["GD01.gas"]
    assert batches[-1].taken == (Mark("cab1", BOOT, 3, 1000, START_MS + 1000),)
    assert world.pipeline.statistics.buses["gas-a"].row() == ["polling", 20, 1, 4, 6]


def test_counts_of_an_unknown_plan_or_damaged_ones_are_ignored() -> None:
    world = World()
    board, (generation, kind, body) = world.counts("gas-a", link.OTHER_MASTER, 1000)
    bodies = [body[:1] + b"\x03" + body[2:], b"\x02" + body[1:], body[:-1]]
    world.take((board, (generation ^ 1, kind, body)), *((board, (generation, kind, each)) for each in bodies))
    assert world.pipeline.statistics.buses == {} and world.close() == []


def statuses(world: World) -> dict[str, tuple[Any, ...] | None]:
    return {point: latest and latest[1:3] for point, latest in world.pipeline.latest()}


def test_while_a_bus_is_not_polled_its_points_have_no_value() -> None:
    world = World()
    world.take(world.sample("GD01.gas", 3.0, 1000), world.sample("TK101.level", 5.0, 1000))
    assert statuses(world)["GD01.gas"] == (3.0, model.GOOD)
    for state, other_masters in ((link.LISTENING, set()), (link.OTHER_MASTER, {"gas-a"})):
        world.take(world.counts("gas-a", state, 2000))
        latest = dict(world.pipeline.latest())
        assert latest["GD01.gas"] == (START_MS + 1000, None, model.NOT_POLLED, 0)
        assert latest["GD02.gas"] == (None, None, model.NOT_POLLED, 0)
        assert statuses(world)["TK101.level"] == (5.0, model.GOOD) and statuses(world)["TK102.level"] is None
        assert world.pipeline.other_masters == other_masters
    world.take(world.counts("gas-a", link.POLLING, 3000))
    assert statuses(world)["GD01.gas"] == (3.0, model.GOOD) and world.pipeline.other_masters == set()


def test_the_time_of_another_master_is_a_gap_of_its_bus() -> None:
    world = World()
    world.take(world.sample("GD01.gas", 3.0, 1000), world.counts("gas-a", link.OTHER_MASTER, 1500))
    world.take(world.counts("gas-a", link.OTHER_MASTER, 61_500), world.counts("gas-a", link.LISTENING, 80_000))
    assert messages(world.close(), "gap") == []
    world.take(world.counts("gas-a", link.POLLING, 85_000), world.counts("gas-a", link.POLLING, 145_000))
    (gap,) = messages(world.close(), "gap")
    assert (gap["cause"], gap["polls"], gap["polls_are"]) == ("other_master", None, "unknown")
    assert (gap["from_ms"], gap["to_ms"]) == (START_MS + 1500, START_MS + 85_000)
    assert gap["scope"] == {"board": "cab1", "bus": "gas-a", "points": None}


def test_a_board_that_restarts_beside_another_master_leaves_both_gaps() -> None:
    world = World()
    world.take(world.sample("GD01.gas", 3.0, 1000), world.counts("gas-a", link.OTHER_MASTER, 1500))
    world.take(world.counts("gas-a", link.OTHER_MASTER, 61_500))
    world.take(world.counts("gas-a", link.POLLING, 5000), boot=OTHER_BOOT, clock=LATER)
    world.take(world.sample("GD01.gas", 3.0, 5100), boot=OTHER_BOOT, clock=LATER)
    other_master, restart = messages(world.close(), "gap")
    assert (other_master["cause"], restart["cause"]) == ("other_master", "board_restart")
    assert (other_master["from_ms"], other_master["to_ms"]) == (START_MS + 1500, START_MS + 61_500)
    assert (restart["from_ms"], restart["to_ms"]) == (START_MS + 1000, START_MS + 13_100)


def test_a_gateway_that_restarts_beside_another_master_tells_the_whole_gap() -> None:
    world = World(marks=[Mark("cab2", BOOT, 77, 1000, START_MS + 1000)])
    world.take(world.counts("gas-b", link.OTHER_MASTER, 121_500), world.counts("gas-b", link.POLLING, 130_000))
    (gap,) = messages(world.close(), "gap")
    assert (gap["from_ms"], gap["to_ms"]) == (START_MS + 1000, START_MS + 130_000)


def test_each_unit_is_counted_under_its_name_late_replies_too() -> None:
    world = World()
    world.take(world.sample("TK104.level", 3.0, 1000), world.sample("GD03.gas", None, 1000, modbus.EXCEPTION, 2))
    board, (generation, kind, body) = world.counts("gas-a", link.POLLING, 2000)
    world.take((board, (generation, kind, body + bytes((8, 5, 99, 1)))))  # six level units, then gas-a 1, 2, 3
    units = world.pipeline.statistics.units
    assert set(units) == {("level", 4), ("gas-a", 3)}
    assert units["level", 4].counts.since_start == {"ok": 1} and units["level", 4].last_ok_ms == START_MS + 1000
    assert units["gas-a", 3].counts.since_start == {"exception": 1, "late": 5}
