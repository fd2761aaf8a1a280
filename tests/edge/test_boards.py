"""Who is at the end of which cable: real board ends on a fake clock. Shell of the tests."""

import hashlib
from dataclasses import replace

from edge.boards import Boards, ClockChanged, Noted, Refused, Taken
from edge.planning import BoardPlan
from protocols import link, octets, readplan, readplan_edge, switching
from protocols.link import BoardEnd
from protocols.model import Board, Site, StoreSettings
from recorder import Recorder
from uptime import Uptime

SITE = Site(
    gateway="jt-0042",
    name="",
    group="",
    timezone="Asia/Shanghai",
    enterprise_code="",
    gateway_code="",
    boards=(Board("cab1", "esp32-one", "/dev/a"), Board("cab2", "esp32-two", "/dev/b")),
    buses=(),
    points=(),
    store=StoreSettings("", 0, 30, 365),
    destinations=(),
    profiles={},
    config_hash="",
)
UTC_MS = 1_795_401_600_000
FREE_SITE = replace(SITE, boards=(Board("cab1", "esp32-one", None), Board("cab2", "esp32-two", None)))


def plan_for(board: str, period_ms: int = 1000) -> BoardPlan:
    plan = readplan_edge.encode(
        [readplan_edge.encode_bus(1, 9600, 8, "N", 1)],
        [readplan_edge.encode_unit(0, unit_id, 200, 50, 0, 1000) for unit_id in range(1, 31)],
        [readplan_edge.encode_read(unit, 3, 0, 2, period_ms) for unit in range(30)],
        b"\1\2\3\4",
    )
    digest = hashlib.sha256(plan).digest()
    return BoardPlan(board, readplan.generation(digest), plan, digest, "01020304", (), {})


class FakeBoard:
    """The board's real end of the link, with as much of main.py as takes a plan."""

    def __init__(self, identity: str, boot: bytes) -> None:
        self.recorder = Recorder(bytearray(8192))
        self.uptime = Uptime(0)
        self.end = BoardEnd(identity.encode(), boot, (0, 1, 0), 0, self.recorder, 0)
        self.plan = bytearray()
        self.digest = b""
        self.samples = 0
        self.refuses = False  # plans
        self.orders: list[bytes] = []  # arguments of switching.SWITCH
        self.answers = link.DONE  # to them

    def sample(self, now_ms: int) -> None:
        self.recorder.sample(0, 0, 0, self.uptime, self.samples.to_bytes(2, "big"), 0, 2, 0, now_ms)
        self.samples += 1

    def obey(self, now_ms: int) -> None:
        command, length = self.end.command, self.end.command_bytes
        if command[0] == switching.SWITCH:
            self.orders.append(bytes(command[1:length]))
            self.end.answer(self.answers)
            return
        if self.refuses:
            self.end.answer(link.NOT_STORED)
            return
        if command[0] == link.PLAN_BEGIN:
            self.plan = bytearray(octets.get_u16(command, 1))
            self.digest = bytes(command[3:35])
        elif command[0] == link.PLAN_CHUNK:
            offset = octets.get_u16(command, 1)
            self.plan[offset : offset + length - 3] = command[3:length]
        elif hashlib.sha256(self.plan).digest() == self.digest:
            self.recorder.plan(readplan.generation(self.digest), now_ms)
            self.end.say_hello()
        self.end.answer(link.DONE)


def is_ping(frame: bytes) -> bool:
    body = bytearray(frame[1:-1])
    return link.deframe(body, len(body)) > 0 and body[0] == link.PING


class World:
    """Boards, cables and the policy; `cables` says which board is at which port."""

    def __init__(self, site: Site, cables: dict[str, FakeBoard], plans: dict[str, BoardPlan] | None = None) -> None:
        self.cables = cables
        self.now_ms = 0
        self.boards = Boards(site, plans or {}, {})
        self.taken: list[Taken] = []
        self.notes: list[str] = []
        self.clocks: list[ClockChanged] = []
        self.refused: list[Refused] = []
        self.loses_pings = 0  # so many of the next
        self.trusted = True  # the wall clock
        self.commits_late = False  # not at once, but when the test says so
        for port in cables:
            self.boards.opened(port, 0.0)

    def run(self, ms: int) -> None:
        for _ in range(ms):
            self.now_ms += 1
            now_s = self.now_ms / 1000
            for port, data in self.boards.out:
                if self.loses_pings and is_ping(data):
                    self.loses_pings -= 1
                elif port in self.cables:
                    self.cables[port].end.feed(data, len(data), self.now_ms)
            self.boards.out.clear()
            for port, board in list(self.cables.items()):
                board.uptime.advance(self.now_ms)
                if board.end.command_bytes:
                    board.obey(self.now_ms)
                while length := board.end.poll(self.now_ms, board.uptime):
                    wire = bytes(board.end.wire[:length])
                    self.boards.received(port, wire, now_s, UTC_MS + self.now_ms, self.trusted)
            self.boards.tick(now_s)
            self.digest()

    def digest(self) -> None:
        for event in self.boards.events:
            if isinstance(event, Taken):
                self.taken.append(event)
                if not self.commits_late:
                    self.boards.committed(event.board, event.boot, event.next_record)
            elif isinstance(event, Noted):
                self.notes.append(event.text)
            elif isinstance(event, Refused):
                self.refused.append(event)
            else:
                self.clocks.append(event)
        self.boards.events.clear()

    def samples(self, board: str) -> list[int]:
        return [
            int.from_bytes(body[9:11], "big")
            for taken in self.taken
            if taken.board == board
            for _generation, kind, body in taken.records
            if kind == link.SAMPLE
        ]


def two() -> tuple[FakeBoard, FakeBoard]:
    return FakeBoard("esp32-one", b"\1\1\1\1"), FakeBoard("esp32-two", b"\2\2\2\2")


def test_samples_come_under_the_name_of_their_board() -> None:
    one, other = two()
    world = World(SITE, {"/dev/a": one, "/dev/b": other})
    for _ in range(20):
        one.sample(world.now_ms)
        world.run(100)
    world.run(500)
    assert world.samples("cab1") == list(range(20))
    assert world.samples("cab2") == []
    assert one.recorder.oldest == one.recorder.next
    assert {event.board for event in world.clocks} == {"cab1", "cab2"}


def test_swapped_cables_of_pinned_ports_are_refused_by_name_and_never_mixed() -> None:
    one, other = two()
    world = World(SITE, {"/dev/a": one, "/dev/b": other})
    for _ in range(10):
        one.sample(world.now_ms)
        world.run(100)
    world.run(500)
    world.cables = {"/dev/a": other, "/dev/b": one}
    for _ in range(10):
        one.sample(world.now_ms)
        world.run(100)
    world.run(5000)
    assert world.samples("cab1") == list(range(10))
    assert world.samples("cab2") == []
    refused = [note for note in world.notes if "nothing is taken" in note]
    assert len(refused) == 2
    assert any("cab2 (esp32-two)" in note and "cab1" in note and "/dev/a" in note for note in refused)
    world.cables = {"/dev/a": one, "/dev/b": other}
    world.run(5000)
    assert world.samples("cab1") == list(range(20))


def test_swapped_cables_of_free_ports_follow_the_board() -> None:
    one, other = two()
    world = World(FREE_SITE, {"/dev/a": one, "/dev/b": other})
    for i in range(30):
        if i == 10:
            world.cables = {"/dev/a": other, "/dev/b": one}
        one.sample(world.now_ms)
        world.run(100)
    world.run(5000)
    assert world.samples("cab1") == list(range(30))
    assert world.samples("cab2") == []
    assert sum(taken.lost for taken in world.taken) == 0


def test_what_was_taken_and_is_not_yet_on_disk_is_not_taken_again_through_another_port() -> None:
    one, other = two()
    world = World(FREE_SITE, {"/dev/a": one, "/dev/b": other})
    world.commits_late = True
    for i in range(30):
        if i == 10:
            world.cables = {"/dev/a": other, "/dev/b": one}
        one.sample(world.now_ms)
        world.run(100)
    world.run(5000)
    assert world.samples("cab1") == list(range(30))
    assert one.recorder.oldest == 0  # nothing is on disk, so the board keeps it all
    world.boards.committed("cab1", "01010101", world.taken[-1].next_record)
    world.run(10)
    assert one.recorder.oldest == one.recorder.next == world.taken[-1].next_record


def test_samples_wait_for_the_first_pong_and_so_have_a_time() -> None:
    one, _other = two()
    for _ in range(5):
        one.sample(0)
    world = World(SITE, {"/dev/a": one})
    world.loses_pings = 2
    world.run(1500)
    assert world.taken == [] and one.recorder.unsent_bytes == 0
    world.run(4000)
    assert world.samples("cab1") == list(range(5))
    assert {taken.clock.kind for taken in world.taken} == {"synced"}


def heard_after_hours(one: FakeBoard) -> World:
    """A gateway that starts four hours after its board."""
    world = World(SITE, {})
    world.now_ms = 4 * 3_600_000
    one.uptime.advance(world.now_ms // 2)
    world.cables = {"/dev/a": one}
    world.boards.opened("/dev/a", world.now_ms / 1000)
    world.run(5000)
    return world


def test_what_a_board_kept_for_hours_claims_less_than_what_it_has_just_polled() -> None:
    one, _other = two()
    one.sample(0)
    world = heard_after_hours(one)
    one.sample(world.now_ms)
    world.run(1000)
    kept, fresh = (taken for taken in world.taken if any(kind == link.SAMPLE for _, kind, _body in taken.records))
    assert kept.clock.err_ms > 1000 > 10 > fresh.clock.err_ms
    assert abs(kept.began_s) < 1 and abs(fresh.began_s) < 0.1
    assert world.clocks[-1].clock.err_ms >= kept.clock.err_ms  # it completes what went out without a time, too


def test_what_a_board_counted_hours_ago_claims_no_more_than_what_it_polled_then() -> None:
    one, _other = two()
    counts = bytearray(link.COUNTS_HEAD_BYTES)
    one.recorder.told(link.COUNTS, counts, len(counts), False, 0)
    world = heard_after_hours(one)
    (kept,) = world.taken
    assert kept.clock.err_ms > 1000


def test_a_record_that_is_too_short_to_have_a_time_is_taken_like_any_other() -> None:
    """One frame in 65,536 that a line damages passes its checksum all the same."""
    one, _other = two()
    one.recorder.told(link.SAMPLE, b"\0\0\0", 3, False, 0)
    one.sample(0)
    world = World(SITE, {"/dev/a": one})
    world.run(2000)
    assert [len(body) for taken in world.taken for _generation, _kind, body in taken.records] == [3, 11]
    assert one.recorder.oldest == one.recorder.next


def test_a_board_that_has_a_plan_when_it_is_first_heard_has_a_past() -> None:
    one, _other = two()
    world = World(SITE, {"/dev/a": one}, {"cab1": plan_for("cab1")})
    world.run(3000)
    one.sample(world.now_ms)
    world.run(1000)
    assert [taken.has_past for taken in world.taken] == [False] * len(world.taken) != []
    again = FakeBoard("esp32-one", b"\4\4\4\4")
    again.recorder.plan(readplan.generation(one.digest), world.now_ms)
    world.cables = {"/dev/a": again}
    world.taken.clear()
    world.run(3000)
    again.sample(world.now_ms)
    world.run(1000)
    assert [taken.has_past for taken in world.taken] == [True] * len(world.taken) != []


def test_how_far_a_store_took_a_board_counts_although_it_is_read_late() -> None:
    one, other = two()
    for _ in range(5):
        one.sample(0)
        other.sample(0)
    world = World(SITE, {"/dev/a": one})
    world.run(2000)
    world.boards.learn({("cab1", "01010101"): 2, ("cab2", "02020202"): 3})
    world.cables["/dev/b"] = other
    world.boards.opened("/dev/b", world.now_ms / 1000)
    world.run(2000)
    assert world.samples("cab1") == list(range(5))  # was heard meanwhile: what came, came
    assert world.samples("cab2") == [3, 4]


def test_samples_that_wait_for_a_pong_of_a_board_that_restarts_are_taken_all_the_same() -> None:
    one, _other = two()
    one.sample(0)
    world = World(SITE, {"/dev/a": one})
    world.loses_pings = 1
    world.run(1000)
    again = FakeBoard("esp32-one", b"\4\4\4\4")
    world.cables = {"/dev/a": again}
    world.run(5000)
    (taken,) = world.taken
    assert (taken.boot, taken.clock.kind, world.samples("cab1")) == ("01010101", "unsynced", [0])


def test_boots_that_were_over_before_the_clock_was_set_have_their_time_all_the_same() -> None:
    """One restarts twice, the other one dies; and once the clock is set, each is told once."""
    one, other = two()
    world = World(SITE, {"/dev/a": one, "/dev/b": other})
    world.trusted = False
    world.run(5000)
    del world.cables["/dev/b"]
    began_ms = {"01010101": 0, "02020202": 0}
    for boot in (b"\4\4\4\4", b"\5\5\5\5"):
        world.run(60_000)
        again = FakeBoard("esp32-one", boot)
        again.uptime = Uptime(world.now_ms)
        began_ms[boot.hex()] = world.now_ms
        world.cables["/dev/a"] = again
        world.run(5000)
    assert world.clocks == []
    world.trusted = True
    world.run(30_000)
    assert len(world.clocks) == len({clock.boot for clock in world.clocks}) == 4
    for told in world.clocks:
        utc_ms = told.clock.utc_ms(0)
        assert utc_ms is not None and told.clock.err_ms is not None
        assert abs(utc_ms - UTC_MS - began_ms[told.boot]) <= told.clock.err_ms < 100, told
    assert {told.boot for told in world.clocks if told.uptime_ms} == {"05050505"}


def test_a_board_of_another_site_is_refused_once_and_gets_no_plan() -> None:
    stranger = FakeBoard("esp32-other", b"\3\3\3\3")
    world = World(FREE_SITE, {"/dev/a": stranger}, {"cab1": plan_for("cab1")})
    for _ in range(30):
        stranger.sample(world.now_ms)
        world.run(100)
    assert world.taken == []
    assert len(world.notes) == 1
    assert "esp32-other" in world.notes[0] and "/dev/a" in world.notes[0]
    assert stranger.plan == bytearray()


def test_a_plan_travels_whole_and_is_not_sent_twice() -> None:
    one, _other = two()
    plan = plan_for("cab1")
    world = World(SITE, {"/dev/a": one}, {"cab1": plan})
    world.run(3000)
    assert bytes(one.plan) == plan.plan
    assert one.recorder.generation == plan.generation
    plans = [body for taken in world.taken for _generation, kind, body in taken.records if kind == link.PLAN]
    assert plans == [plan.generation.to_bytes(2, "little")]
    one.sample(world.now_ms)
    world.run(500)
    assert world.taken[-1].records[-1][0] == plan.generation


def test_a_change_sends_a_plan_to_the_board_whose_plan_is_another_and_leaves_the_others_alone() -> None:
    one, other = two()
    plans = {"cab1": plan_for("cab1"), "cab2": plan_for("cab2")}
    world = World(SITE, {"/dev/a": one, "/dev/b": other}, plans)
    world.run(3000)
    clocks = [board.timebase for board in world.boards.attached.values()]
    again = plan_for("cab2", period_ms=500)
    world.boards.configure(SITE, {"cab1": plans["cab1"], "cab2": again}, world.now_ms / 1000)
    world.taken.clear()
    one.sample(world.now_ms)
    other.sample(world.now_ms)
    world.run(500)
    assert (bytes(one.plan), bytes(other.plan)) == (plans["cab1"].plan, again.plan)
    assert (world.samples("cab1"), world.samples("cab2")) == ([0], [0])
    kinds = {taken.board: [kind for _generation, kind, _body in taken.records] for taken in world.taken}
    assert link.PLAN not in kinds["cab1"]
    assert [board.timebase for board in world.boards.attached.values()] == clocks


def test_a_board_that_is_taken_out_is_heard_to_its_last_word_and_then_refused() -> None:
    one, other = two()
    one.sample(0)
    world = World(SITE, {"/dev/a": one, "/dev/b": other})
    world.loses_pings = 2  # so that what it sent still waits for a time
    world.commits_late = True
    world.run(500)
    world.boards.configure(replace(SITE, boards=SITE.boards[1:]), {}, world.now_ms / 1000)
    world.digest()
    (taken,) = world.taken
    world.boards.committed("cab1", taken.boot, taken.next_record)
    one.sample(world.now_ms)
    world.run(3000)
    assert world.samples("cab1") == [0]
    assert [note for note in world.notes if "esp32-one is not one of this site" in note]
    assert world.boards.attached["cab2"].up(world.now_ms / 1000)


def test_a_plan_that_is_refused_is_said_once_and_offered_again() -> None:
    one, _other = two()
    one.refuses = True
    plan = plan_for("cab1")
    world = World(SITE, {"/dev/a": one}, {"cab1": plan})
    world.run(10_000)
    assert len([note for note in world.notes if "refused its read plan" in note]) == 1
    one.refuses = False
    world.run(5000)
    assert bytes(one.plan) == plan.plan


def test_a_port_that_vanished_and_came_back_has_its_board_again() -> None:
    one, _other = two()
    world = World(SITE, {"/dev/a": one})
    for i in range(30):
        if i == 10:
            world.boards.closed("/dev/a")
            world.cables = {}
        if i == 20:
            world.cables = {"/dev/a": one}
            world.boards.opened("/dev/a", world.now_ms / 1000)
        one.sample(world.now_ms)
        world.run(100)
    world.run(5000)
    assert world.samples("cab1") == list(range(30))


def test_a_restarted_board_is_a_new_boot_from_its_first_record() -> None:
    one, _other = two()
    world = World(SITE, {"/dev/a": one})
    for _ in range(5):
        one.sample(world.now_ms)
    world.run(3000)
    again = FakeBoard("esp32-one", b"\4\4\4\4")
    again.samples = 100
    world.cables = {"/dev/a": again}
    again.sample(world.now_ms)
    world.run(3000)
    assert world.samples("cab1") == [0, 1, 2, 3, 4, 100]
    assert {taken.boot for taken in world.taken} == {"01010101", "04040404"}


def test_a_board_that_restarts_for_ever_takes_no_more_memory() -> None:
    one, other = two()
    world = World(SITE, {"/dev/a": one, "/dev/b": other})
    other.sample(0)
    for boot in range(1, 20):
        one = world.cables["/dev/a"] = FakeBoard("esp32-one", bytes([boot] * 4))
        one.sample(world.now_ms)
        world.run(3000)
        world.boards.committed("cab1", "01010101", 1)  # late, by a disk that was slow
    assert world.samples("cab1") == [0] * 19 and world.samples("cab2") == [0]
    boots = [("cab1", "12121212"), ("cab1", "13131313"), ("cab2", "02020202")]  # and one before
    assert sorted(world.boards._expected) == sorted(world.boards._committed) == boots


def test_a_board_that_falls_silent_is_down() -> None:
    one, _other = two()
    world = World(SITE, {"/dev/a": one})
    world.run(2000)
    assert world.boards.attached["cab1"].up(world.now_ms / 1000)
    world.cables = {}
    world.run(11_000)
    assert not world.boards.attached["cab1"].up(world.now_ms / 1000)


ORDER = b"\1\2\0\1\xd0\7"


def test_an_order_goes_at_once_and_before_the_rest_of_a_plan() -> None:
    board = FakeBoard("esp32-one", b"\1\2\3\4")
    world = World(SITE, {"/dev/a": board}, {"cab1": plan_for("cab1")})
    while not board.plan:
        world.run(1)  # the plan has begun, and has several chunks to go
    assert board.recorder.generation == 0
    world.boards.order("cab1", ORDER, world.now_ms / 1000)
    world.run(3)
    assert board.orders == [ORDER] and board.recorder.generation == 0
    world.run(1000)
    assert board.recorder.generation == plan_for("cab1").generation  # and the plan goes on behind it
    world.boards.order("cab1", ORDER, world.now_ms / 1000)
    world.boards.order("cab1", ORDER[::-1], world.now_ms / 1000)
    assert len(world.boards.out) == 1  # one command at a time
    world.run(4)
    assert board.orders == [ORDER, ORDER, ORDER[::-1]]


def test_a_lost_order_is_repeated_and_done_once() -> None:
    board = FakeBoard("esp32-one", b"\1\2\3\4")
    world = World(SITE, {"/dev/a": board})
    world.run(50)
    world.boards.order("cab1", ORDER, world.now_ms / 1000)
    world.boards.out.clear()
    world.run(600)
    assert board.orders == [ORDER]
    world.run(2000)
    assert board.orders == [ORDER]


def test_the_first_order_after_a_restart_of_the_gateway_is_not_taken_for_the_last_one_before_it() -> None:
    board = FakeBoard("esp32-one", b"\1\2\3\4")
    world = World(SITE, {"/dev/a": board})
    world.run(50)
    world.boards.order("cab1", ORDER, world.now_ms / 1000)
    world.run(50)
    world.boards = Boards(SITE, {}, {})
    world.boards.opened("/dev/a", world.now_ms / 1000)
    world.run(50)
    world.boards.order("cab1", ORDER[::-1], world.now_ms / 1000)
    world.run(50)
    assert board.orders == [ORDER, ORDER[::-1]]


def test_a_refused_order_is_told_and_one_for_a_board_that_is_away_is_nothing() -> None:
    board = FakeBoard("esp32-one", b"\1\2\3\4")
    board.answers = link.REFUSED
    world = World(SITE, {"/dev/a": board})
    world.run(50)
    world.boards.order("cab1", ORDER, world.now_ms / 1000)
    world.boards.order("cab2", ORDER, world.now_ms / 1000)
    world.boards.order("cab9", ORDER, world.now_ms / 1000)
    world.run(50)
    assert board.orders == [ORDER]
    assert world.refused == [Refused("cab1", ORDER)]
