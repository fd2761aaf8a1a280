"""One bus in virtual time: due times, retries, dead units, owed replies. Runs on every interpreter."""

from overheard import LISTEN_MS, Overheard
from poller import Poller
from protocols import link, modbus, modbus_edge, octets, readplan, readplan_edge
from protocols.ticks import add, diff
from recorder import Recorder
from uptime import Uptime


def plan_of(units, reads, baud=9600):
    """`units` are (unit id, timeout ms, spacing ms), `reads` (unit index, address, count, period ms, function 3)."""
    return readplan_edge.encode(
        [readplan_edge.encode_bus(1, baud, 8, "N", 1)],
        [readplan_edge.encode_unit(0, unit_id, most, min(most, 50), spacing, 1000) for unit_id, most, spacing in units],
        [readplan_edge.encode_read(read[0], (read + (3,))[4], read[1], read[2], read[3]) for read in reads],
        b"\0\0\0\0",
    )


class Bus:
    """A line and its units on a fake clock; registers hold their own address, or what `value` says."""

    def __init__(self, plan, start_ms=0, start_us=0, has_listened=True):
        self.plan = plan
        self.at_us = 0
        self.start_ms = start_ms
        self.start_us = start_us
        self.recorder = Recorder(bytearray(60000))
        self.uptime = Uptime(start_ms)
        self.overheard = Overheard(add(start_ms, -LISTEN_MS) if has_listened else start_ms)
        self.poller = Poller(plan, 0, self.recorder, self.overheard, start_ms, start_us)
        self.char_us = readplan.bits_per_char(plan, 0) * 1000000 // readplan.baud(plan, 0)
        self.dead = set()
        self.delay_us = {}  # by unit id: before the reply begins
        self.value = lambda unit_id, address: address
        self.coming = []  # (at_us, bytes) towards the poller
        self.requests = []  # (at_us, unit_id, address)
        self.damage = lambda reply: reply
        self.last_byte_us = -100000
        self.gaps_us = []  # silence before each request
        self.counts = []  # bodies of COUNTS records that `samples` met

    def now(self):
        return add(self.start_ms, self.at_us // 1000), add(self.start_us, self.at_us & 0x0FFFFFFF)

    def run(self, ms):
        end_us = self.at_us + ms * 1000
        while self.at_us < end_us:
            now_ms, now_us = self.now()
            self.uptime.advance(now_ms)
            if not self.is_deaf(now_us):
                self.deliver(now_ms, now_us)
            if diff(self.poller.next_us, now_us) <= 0 and self.poller.step(now_ms, now_us, self.uptime):
                self.asked(bytes(self.poller.request[: self.poller.request_bytes]))
                self.poller.sent(now_ms, now_us)
            wait_us = max(diff(self.poller.next_us, now_us), 1)
            until = min(self.at_us + wait_us, end_us)
            if self.coming and not self.is_deaf(now_us):
                until = min(until, max(self.coming[0][0], self.at_us + 1))
            self.at_us = until

    def is_deaf(self, now_us):
        return self.poller.is_deaf and diff(self.poller.next_us, now_us) > 0

    def deliver(self, now_ms, now_us):
        """What has come by now, as one read of a port gives it."""
        data = b""
        while self.coming and self.coming[0][0] <= self.at_us:
            self.last_byte_us, piece = self.coming.pop(0)
            data += piece
        if data:
            self.poller.received(data, len(data), now_ms, now_us)

    def asked(self, request):
        assert modbus.crc_ok(request, 0, len(request))
        unit_id = request[0]
        function_code = request[1]
        address = request[2] << 8 | request[3]
        count = request[4] << 8 | request[5]
        self.gaps_us.append(self.at_us - self.last_byte_us)
        self.requests.append((self.at_us, unit_id, address))
        self.last_byte_us = self.at_us + 8 * self.char_us
        if unit_id in self.dead:
            return
        words = count if function_code > modbus.READ_DISCRETE_INPUTS else count + 15 >> 4
        data = b"".join(
            bytes((self.value(unit_id, address + i) >> 8, self.value(unit_id, address + i) & 0xFF))
            for i in range(words)
        )
        reply = self.damage(modbus_edge.read_reply(unit_id, function_code, data))
        arrives = self.last_byte_us + self.delay_us.get(unit_id, 2000) + len(reply) * self.char_us
        if reply:
            self.coming.append((arrives, reply))
            self.coming.sort(key=lambda each: each[0])

    def samples(self):
        """(read, outcome, uptime ms, data) of every record."""
        out = []
        buf = bytearray(300)
        recorder = self.recorder
        while recorder.unsent_bytes:
            end = recorder.take(buf, 0, 300, 0)
            at = 0
            while at < end:
                length = buf[at]
                record_kind = buf[at + 1]
                body = bytes(buf[at + 2 : at + 2 + length])
                at += 2 + length
                if record_kind != link.SAMPLE:
                    self.counts.append(body)
                    continue
                uptime_ms = octets.get_u28(body, 2) * 1000 + octets.get_u16(body, 6)
                out.append((body[0], body[1] & 15, uptime_ms, body[9:]))
        return out


def test_every_read_keeps_its_period():
    bus = Bus(plan_of([(1, 200, 0), (2, 200, 0)], [(0, 10, 2, 500), (1, 20, 4, 1000), (0, 40, 1, 200)]))
    bus.run(10000)
    samples = bus.samples()
    counts = [len([1 for each in samples if each[0] == read]) for read in range(3)]
    assert counts == [20, 10, 50]
    assert all(outcome == modbus.OK for _, outcome, _, _ in samples)
    assert bus.poller.overruns == 0
    for read, _, _, data in samples:
        assert modbus_edge.unpack_registers(data)[0] == (10, 20, 40)[read]


def test_silence_between_frames_is_kept():
    for baud, silence_us in ((1200, 29167), (9600, 3646), (19200, 1823), (115200, 1750)):  # 3.5 characters, rounded up
        bus = Bus(plan_of([(1, 200, 0), (2, 200, 0)], [(0, 0, 10, 100), (1, 0, 10, 100)], baud))
        bus.run(5000)
        assert len(bus.requests) > 10
        assert min(bus.gaps_us) >= silence_us


def test_a_damaged_reply_is_asked_once_more():
    bus = Bus(plan_of([(1, 100, 0)], [(0, 5, 2, 1000)]))
    spoil = [False, True, False, True, True, False]

    def damage(reply):
        return reply[:-1] + bytes((reply[-1] ^ 1,)) if spoil and spoil.pop(0) else reply

    bus.damage = damage
    bus.run(3900)
    outcomes = [outcome for _, outcome, _, _ in bus.samples()]
    assert outcomes == [modbus.OK, modbus.OK, modbus.BAD_CRC, modbus.OK]


def test_no_reply_is_a_sample_without_a_value():
    bus = Bus(plan_of([(1, 100, 0)], [(0, 5, 2, 1000)]))
    bus.run(900)
    bus.dead.add(1)
    bus.run(1000)
    assert [(outcome, data) for _, outcome, _, data in bus.samples()][1:] == [(modbus.TIMEOUT, b"")]
    assert len(bus.requests) == 1 + 2


def test_an_exception_is_not_retried_and_carries_its_code():
    bus = Bus(plan_of([(1, 100, 0)], [(0, 5, 2, 1000)]))
    bus.damage = lambda reply: modbus_edge.exception_reply(1, 3, 2)
    bus.run(900)
    assert [(outcome, data) for _, outcome, _, data in bus.samples()] == [(modbus.EXCEPTION, b"\x02")]
    assert len(bus.requests) == 1


def test_a_dead_unit_does_not_change_the_others_and_comes_back():
    units = [(unit_id, 200, 0) for unit_id in range(1, 9)]
    bus = Bus(plan_of(units, [(unit, 0, 4, 1000) for unit in range(8)]))
    bus.dead.add(3)
    bus.run(20000)
    samples = bus.samples()
    for read in range(8):
        outcomes = [outcome for each, outcome, _, _ in samples if each == read]
        assert 18 <= len(outcomes) <= 20, (read, len(outcomes))
        assert set(outcomes) == ({modbus.TIMEOUT} if read == 2 else {modbus.OK})
    bus.dead.clear()
    back_us = bus.at_us
    bus.run(3000)
    good = [uptime_ms for read, outcome, uptime_ms, _ in bus.samples() if read == 2 and outcome == modbus.OK]
    assert good and good[0] - back_us // 1000 <= 2000


def test_units_that_come_back_together_do_not_wait_for_each_others_owed_replies():
    """After its first answer the first unit's other read waits, for it looks alike: the others have the bus."""
    units = [(unit_id, 1000, 0) for unit_id in (1, 2, 3)]
    bus = Bus(plan_of(units, [(0, 0, 2, 500), (0, 50, 2, 500), (1, 0, 2, 500), (2, 0, 2, 500)]))
    bus.run(3000)
    bus.dead.update((1, 2, 3))
    bus.run(20000)
    bus.samples()
    bus.dead.clear()
    bus.run(1000)
    assert {read for read, outcome, _, _ in bus.samples() if outcome == modbus.OK} >= {0, 2, 3}


def test_a_slow_unit_that_was_dead_comes_back_soon_where_nobody_else_is_due():
    """It took 600 ms of the 1000 that its profile allows: twice that is waited for it, and the bus is idle anyway."""
    bus = Bus(plan_of([(1, 1000, 0), (2, 1000, 0)], [(0, 0, 2, 2000), (1, 0, 2, 2000)]))
    bus.delay_us[1] = 600000
    bus.run(8000)
    bus.dead.add(1)
    bus.run(61000)
    bus.samples()
    bus.dead.clear()
    bus.run(4000)
    good = [uptime_ms for read, outcome, uptime_ms, _ in bus.samples() if read == 0 and outcome == modbus.OK]
    assert good and good[0] <= 69000 + 4000


def test_a_saturated_bus_still_probes_its_dead_unit():
    units = [(unit_id, 200, 0) for unit_id in range(1, 6)]
    bus = Bus(plan_of(units, [(unit, 0, 20, 100) for unit in range(5)]))
    bus.dead.add(5)
    bus.run(40000)
    probes = [at_us for at_us, unit_id, _ in bus.requests if unit_id == 5]
    assert 4 <= len(probes) <= 6
    assert bus.poller.overruns > 0


class LateUnit:
    """A unit whose replies come late now and then, and what was made of them.

    The first two reads of `reads` are (A, B), due in this order; all are (function code, address, count). In an episode
    the requests from the next one for A on have the fates that `pattern` tells: "L" late, "x" lost, "." in time.
    """

    TIMEOUT_MS = 100
    LATE_MS = 1000  # as plan_of has it
    PERIOD_MS = 500

    def __init__(self, reads):
        self.reads = reads
        rows = [(0, address, count, self.PERIOD_MS, function_code) for function_code, address, count in reads]
        self.bus = Bus(plan_of([(1, self.TIMEOUT_MS, 0)], rows))
        self.bus.damage = self._reply
        self.good = 0
        self.misfiled = 0
        self._fates = ""
        self._begun = True
        self._after_us = 0
        while self.good < 2 * len(reads):
            self.bus.run(self.PERIOD_MS)
            self._count()

    def episode(self, pattern, after_ms):
        """One episode; late replies begin `after_ms` after their request. Counts `good` and `misfiled` samples."""
        self._fates = pattern
        self._begun = False
        self._after_us = after_ms * 1000
        self.bus.run(2 * self.PERIOD_MS + after_ms)
        while self._fates:
            self.bus.run(self.PERIOD_MS)
        self.bus.run(after_ms + self.PERIOD_MS)
        self._count()

    def _reply(self, reply):
        self._begun = self._begun or self.bus.requests[-1][2] == self.reads[0][1]
        fate = "."
        if self._begun and self._fates:
            fate = self._fates[0]
            self._fates = self._fates[1:]
        self.bus.delay_us[1] = self._after_us if fate == "L" else 2000
        return b"" if fate == "x" else reply

    def _count(self):
        for read, outcome, _, data in self.bus.samples():
            if outcome == modbus.OK:
                self.good += 1
                address = self.reads[read][1]
                self.misfiled += data[0] << 8 | data[1] != address
        self.bus.requests = []
        self.bus.gaps_us = []


LATE_PATTERNS = ("L", "LL", "xL", "Lx", "L.L", "LLLLLLLL")  # the last is long enough for a unit to be held for dead
ALIKE = (  # reads of one unit whose replies have the same shape; beside them one that has another
    ((3, 100, 2), (3, 200, 2), (3, 300, 2), (4, 400, 3)),
    ((4, 100, 10), (4, 200, 10), (3, 300, 10)),
    ((1, 100, 9), (1, 200, 16), (2, 300, 16)),
)


def late_pairs():
    """Reads of a unit in every order in which one that has a late reply is followed by another of the same shape."""
    for reads in ALIKE:
        shape = [read for read in reads if read[0] == reads[0][0]]
        for first in shape:
            for second in shape:
                if second != first:
                    yield (first, second) + tuple(read for read in reads if read != first and read != second)


def test_a_late_reply_is_never_filed_under_another_read():
    for reads in late_pairs():
        for pattern in LATE_PATTERNS:
            for after_ms in (1, 90, 101, 130, 330, 600, 1099):
                unit = LateUnit(reads)
                unit.episode(pattern, after_ms)
                unit.episode(pattern, after_ms)
                assert unit.misfiled == 0, (reads, pattern, after_ms)
                assert unit.good > 4 * len(reads), (reads, pattern, after_ms, unit.good)


def test_a_late_reply_is_never_filed_under_a_read_of_the_next_plan():
    for late_ms in (150, 600):
        for changed_ms in range(0, late_ms + 100, 50):
            bus = Bus(plan_of([(1, 100, 0), (2, 100, 0)], [(0, 100, 2, 500), (1, 300, 2, 500)]))
            bus.run(3000)
            bus.samples()
            bus.delay_us[1] = late_ms * 1000
            bus.run(500 + changed_ms)
            bus.delay_us[1] = 80000
            while bus.poller.waiting:
                bus.run(1)
            bus.samples()
            now_ms, now_us = bus.now()
            bus.poller.leave(now_ms)
            plan = plan_of([(1, 100, 0), (2, 100, 0)], [(0, 200, 2, 500), (1, 400, 2, 500)])
            bus.poller = Poller(plan, 0, bus.recorder, bus.overheard, now_ms, now_us)
            bus.run(LISTEN_MS + 3000)
            first = [modbus_edge.unpack_registers(data)[0] for read, _, _, data in bus.samples() if read == 0]
            assert len(first) >= 3 and set(first) == {200}, (late_ms, changed_ms)


def test_minimum_spacing_of_a_unit_is_kept():
    bus = Bus(plan_of([(1, 200, 500), (2, 200, 0)], [(0, 0, 2, 1000), (0, 50, 2, 1000), (1, 0, 2, 100)]))
    bus.run(10000)
    asked = [at_us for at_us, unit_id, _ in bus.requests if unit_id == 1]
    assert len(asked) >= 19
    assert min(later - earlier for earlier, later in zip(asked, asked[1:])) >= 499000
    assert len([1 for _, unit_id, _ in bus.requests if unit_id == 2]) >= 99


def test_a_failure_that_waits_for_its_units_spacing_is_recorded_although_others_are_asked_meanwhile():
    bus = Bus(plan_of([(1, 100, 500), (2, 100, 0)], [(0, 0, 2, 2000), (1, 0, 2, 200)]))
    bus.dead.add(1)
    bus.run(6000)
    samples = bus.samples()
    assert [outcome for read, outcome, _, _ in samples if read == 0] == [modbus.TIMEOUT] * 3
    assert len([1 for read, _, _, _ in samples if read == 1]) >= 28


def test_a_line_that_is_never_quiet_gives_bad_samples_and_not_silence():
    bus = Bus(plan_of([(1, 100, 0)], [(0, 0, 2, 1000)]))
    bus.dead.add(1)
    bus.coming = [(at_us, b"\x55") for at_us in range(0, 10000000, 2000)]
    bus.run(10000)
    outcomes = [outcome for _, outcome, _, _ in bus.samples()]
    assert len(outcomes) >= 4
    assert modbus.OK not in outcomes and modbus.BAD_CRC in outcomes


def test_overruns_are_counted_and_never_caught_up():
    bus = Bus(plan_of([(1, 200, 0)], [(0, 0, 60, 100)]))
    bus.run(10000)
    asked = len(bus.requests)
    assert asked <= 10000 // 140 + 1
    assert bus.poller.overruns + asked >= 95


def test_it_polls_on_across_every_wrap():
    for start_ms, start_us in ((0x0FFFFFFF - 2000, 0), (0, 0x0FFFFFFF - 2000000), (0x0FFFFFFF - 1, 0x0FFFFFFF - 1)):
        bus = Bus(plan_of([(1, 200, 0)], [(0, 7, 2, 500)]), start_ms, start_us)
        bus.run(6000)
        samples = bus.samples()
        assert [outcome for _, outcome, _, _ in samples] == [modbus.OK] * 12
        times = [uptime_ms for _, _, uptime_ms, _ in samples]
        assert all(490 <= later - earlier <= 510 for earlier, later in zip(times, times[1:]))


def test_a_period_longer_than_half_the_microsecond_counter_is_kept():
    bus = Bus(plan_of([(1, 200, 0)], [(0, 7, 2, 200000)]))
    bus.run(1001000)
    assert [at_us // 1000000 for at_us, _, _ in bus.requests] == [0, 200, 400, 600, 800, 1000]


def test_garbage_between_polls_is_counted_and_ignored():
    bus = Bus(plan_of([(1, 200, 0)], [(0, 7, 2, 1000)]))
    for at in range(0, 5000, 50):
        bus.coming.append((at * 1000 + 500000, b"\x01\x03\x04\x00"))
    bus.coming.sort(key=lambda each: each[0])
    bus.run(5000)
    assert [outcome for _, outcome, _, _ in bus.samples()].count(modbus.OK) >= 4
    assert bus.overheard.stray_bytes > 100
    assert len([1 for at_us, _, _ in bus.requests if at_us < 5000000]) == 5


def test_nothing_is_asked_before_the_bus_was_listened_to():
    bus = Bus(plan_of([(1, 200, 0)], [(0, 7, 2, 500)]), has_listened=False)
    bus.run(8000)
    assert min(at_us for at_us, _, _ in bus.requests) // 1000 == LISTEN_MS
    assert bus.poller.overruns == 0 and len(bus.samples()) == 6


def test_after_a_replug_the_bus_is_listened_to_again():
    bus = Bus(plan_of([(1, 200, 0)], [(0, 0, 2, 500)]))
    bus.run(3300)
    before = len(bus.requests)
    bus.poller.reopened(bus.now()[0])
    bus.run(LISTEN_MS - 100)
    assert len(bus.requests) == before
    bus.run(3000)
    assert len(bus.requests) >= before + 5


def test_a_reply_that_comes_in_pieces_is_no_stray():
    bus = Bus(plan_of([(1, 200, 0)], [(0, 7, 4, 500)]))
    bus.dead.add(1)
    asked = bus.asked

    def answers_in_pieces(request):
        asked(request)
        reply = modbus_edge.read_reply(1, 3, bytes((0, 7, 0, 8, 0, 9, 0, 10)))
        at_us = bus.at_us + 8 * bus.char_us + 30000
        for i in range(len(reply)):
            bus.coming.append((at_us + i * bus.char_us * 8, reply[i : i + 1]))

    bus.asked = answers_in_pieces
    bus.run(5000)
    samples = bus.samples()
    assert len(samples) >= 9 and all(outcome == modbus.OK for _, outcome, _, _ in samples)
    assert bus.overheard.stray_bytes == 0


def test_a_second_master_that_polls_fast_is_left_alone_and_nothing_of_its_is_taken():
    """Its requests and their replies, of the very shape of ours, come without a pause from 2 s to 30 s."""
    bus = Bus(plan_of([(1, 200, 0)], [(0, 7, 2, 500)]))
    foreign = modbus_edge.read_request(1, 3, 900, 2)
    answer = modbus_edge.read_reply(1, 3, b"\x03\x84\x03\x85")
    for at_ms in range(2001, 30000, 40):
        bus.coming.append((at_ms * 1000, foreign))
        bus.coming.append((at_ms * 1000 + 18000, answer))
    bus.run(100000)
    asked_ms = [at_us // 1000 for at_us, _, _ in bus.requests]
    last_foreign_ms = (30000 - 2001) // 40 * 40 + 2001
    during = [at_ms for at_ms in asked_ms if 2001 < at_ms < last_foreign_ms + 59000]
    assert len(during) <= 1
    assert [at_ms for at_ms in asked_ms if last_foreign_ms + 59000 < at_ms < last_foreign_ms + 62000]
    for _, outcome, _, data in bus.samples():
        assert outcome != modbus.OK or modbus_edge.unpack_registers(data) == [7, 8]
    states = [body[1] for body in bus.counts]
    assert states[:2] == [link.POLLING, link.OTHER_MASTER] and states[-1] == link.POLLING
    assert bus.poller.overruns > 100


def test_a_second_master_with_one_request_in_thirty_seconds_is_noticed():
    bus = Bus(plan_of([(1, 200, 0)], [(0, 7, 2, 500)]))
    bus.coming = [(at_ms * 1000, modbus_edge.read_request(4, 4, 1, 2)) for at_ms in (10250, 40250, 70250)]
    bus.run(140000)
    asked_ms = [at_us // 1000 for at_us, _, _ in bus.requests]
    assert not [at_ms for at_ms in asked_ms if 10250 <= at_ms < 130250]
    assert [at_ms for at_ms in asked_ms if at_ms < 10250] and [at_ms for at_ms in asked_ms if at_ms >= 130250]


def test_a_reply_that_came_after_a_foreign_request_is_not_taken():
    """Within our own transaction: the other master's request, then an answer that fits ours and may be to either."""
    bus = Bus(plan_of([(1, 200, 0)], [(0, 7, 2, 1000)]))
    foreign = modbus_edge.read_request(1, 3, 900, 2)
    answer = modbus_edge.read_reply(1, 3, b"\x03\x84\x03\x85")
    bus.run(500)
    bus.delay_us[1] = 100000
    bus.coming = [(1020000, foreign), (1040000, answer)]
    bus.run(1400)
    assert [outcome for _, outcome, _, _ in bus.samples()][:1] == [modbus.OK]
    assert modbus.OK not in [outcome for _, outcome, _, _ in bus.samples()]
    assert bus.overheard.state == link.OTHER_MASTER


def test_a_unit_that_dies_holds_up_the_bus_only_shortly():
    """Its profile allows a second; it answered in 2 ms, so it is waited for as long as such a unit may need."""
    bus = Bus(plan_of([(1, 1000, 0), (2, 1000, 0)], [(0, 0, 2, 500), (1, 0, 2, 500)]))
    bus.run(5000)
    bus.dead.add(1)
    bus.run(5000)
    asked = [at_us for at_us, unit_id, _ in bus.requests if unit_id == 2]
    assert max(later - earlier for earlier, later in zip(asked, asked[1:])) < 700000
    assert bus.poller.overruns == 0


def test_a_unit_that_was_never_there_costs_its_whole_time_out_once():
    bus = Bus(plan_of([(1, 1000, 0), (2, 1000, 0)], [(0, 0, 2, 300), (1, 0, 2, 300)]))
    bus.dead.add(1)
    bus.run(20000)
    asked = [at_us for at_us, unit_id, _ in bus.requests if unit_id == 2]
    gaps = sorted(later - earlier for earlier, later in zip([0] + asked, asked))
    assert 1000000 < gaps[-1] < 1100000 and gaps[-2] < 310000


def test_a_unit_slower_than_its_floor_is_learnt_and_not_lost():
    """300 ms of the 400 that its profile allows: first heard by a wait in full, then waited for as it deserves."""
    bus = Bus(plan_of([(1, 400, 0), (2, 400, 0)], [(0, 0, 2, 1000), (1, 0, 2, 1000)]))
    bus.delay_us[1] = 300000
    bus.run(20000)
    outcomes = [outcome for read, outcome, _, _ in bus.samples() if read == 0]
    assert len(outcomes) == 20 and set(outcomes) == {modbus.OK}


def test_a_unit_that_becomes_slower_than_it_is_waited_for_is_found_by_its_late_replies():
    bus = Bus(plan_of([(1, 600, 0), (2, 600, 0)], [(0, 0, 2, 1000), (1, 0, 2, 1000)]))
    bus.run(10000)
    bus.delay_us[1] = 350000
    bus.run(10000)
    outcomes = [outcome for read, outcome, _, _ in bus.samples() if read == 0]
    assert outcomes[-7:] == [modbus.OK] * 7
    bus.run(60000)
    bus.samples()
    assert sum(body[19] for body in bus.counts if len(body) > link.COUNTS_HEAD_BYTES) >= 1


def test_a_dead_unit_is_probed_by_its_shortest_read():
    bus = Bus(plan_of([(1, 200, 0), (2, 200, 0)], [(0, 0, 60, 500), (0, 100, 1, 2000), (1, 0, 2, 500)]))
    bus.dead.add(1)
    bus.run(10000)
    probes = [address for at_us, unit_id, address in bus.requests if unit_id == 1]
    assert set(probes) == {100} and len(probes) >= 18
    samples = bus.samples()
    assert len([1 for read, _, _, _ in samples if read == 0]) >= 18  # one probe speaks for both
    assert 4 <= len([1 for read, _, _, _ in samples if read == 1]) <= 6


def test_on_an_overloaded_bus_everyone_is_served_and_the_short_periods_first():
    """Twelve reads of 0.2 s and two of 2 s, at twice what the line can carry."""
    units = [(unit_id, 200, 0) for unit_id in range(1, 15)]
    reads = [(unit, 0, 2, 200) for unit in range(12)] + [(unit, 0, 2, 2000) for unit in (12, 13)]
    bus = Bus(plan_of(units, reads))
    bus.run(60000)
    counts = [len([1 for _, unit_id, _ in bus.requests if unit_id == each]) for each in range(1, 15)]
    assert max(counts[:12]) <= min(counts[:12]) * 1.1
    assert min(counts[12:]) >= 27
    assert bus.poller.overruns > 1000


def test_the_bus_is_counted_each_minute():
    bus = Bus(plan_of([(1, 200, 0)], [(0, 0, 10, 500)]))
    bus.coming = [(at_ms * 1000, b"\x55\xaa") for at_ms in range(250, 60000, 1000)]
    bus.run(61000)
    bus.samples()
    first, second = bus.counts
    assert first[1] == link.POLLING
    span_ms, busy_ms, overruns, requests, strays = [octets.get_u16(second, at) for at in range(8, 18, 2)]
    assert 59000 <= span_ms <= 61100 and (overruns, requests, strays) == (0, 0, 120)
    assert 110 * 41 <= busy_ms <= 122 * 45  # 33 characters, 2 ms, and silence


def test_a_sample_tells_how_soon_the_unit_answered_and_how_its_first_try_ended():
    bus = Bus(plan_of([(1, 200, 0)], [(0, 0, 2, 1000)]))
    bus.delay_us[1] = 12000
    spoil = [False, True, False]
    bus.damage = lambda reply: reply[:5] if spoil and spoil.pop(0) else reply
    bus.run(1900)
    buf = bytearray(300)
    heads = []
    end = bus.recorder.take(buf, 0, 300, 0)
    at = 0
    while at < end:
        if buf[at + 1] == link.SAMPLE:
            heads.append((buf[at + 3], buf[at + 10]))
        at += 2 + buf[at]
    assert heads[0] == (modbus.OK, 12)
    assert heads[1] == (modbus.SHORT << 4 | modbus.OK, 12)


def test_bytes_that_come_while_it_is_deaf_change_nothing_before_it_looks():
    """A reply in single bytes costs a handful of looks, not one a byte."""
    bus = Bus(plan_of([(1, 200, 0)], [(0, 0, 60, 1000)]))
    turns = [0]
    step = bus.poller.step

    def counted(now_ms, now_us, uptime):
        turns[0] += 1
        return step(now_ms, now_us, uptime)

    bus.poller.step = counted

    def in_bytes(reply):
        at_us = bus.last_byte_us + 2000
        for i in range(len(reply)):
            bus.coming.append((at_us + (i + 1) * bus.char_us, reply[i : i + 1]))
        return b""

    bus.damage = in_bytes
    bus.run(60000)
    assert [outcome for _, outcome, _, _ in bus.samples()] == [modbus.OK] * 60
    assert turns[0] <= 60 * 12
