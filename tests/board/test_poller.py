"""One bus in virtual time: due times, retries, dead units, owed replies. Runs on every interpreter."""

from poller import Poller
from protocols import link, modbus, modbus_edge, readplan, readplan_edge
from protocols.ticks import Uptime, add, diff
from recorder import Recorder


def plan_of(units, reads, baud=9600):
    """`units` are (unit id, timeout ms, spacing ms), `reads` (unit index, address, count, period ms, function 3)."""
    return readplan_edge.encode(
        [readplan_edge.encode_bus(1, baud, 8, "N", 1)],
        [readplan_edge.encode_unit(0, *unit, 1000) for unit in units],
        [readplan_edge.encode_read(read[0], (read + (3,))[4], read[1], read[2], read[3]) for read in reads],
        b"\0\0\0\0",
    )


class Bus:
    """A line and its units on a fake clock; registers hold their own address, or what `value` says."""

    def __init__(self, plan, start_ms=0, start_us=0):
        self.plan = plan
        self.at_us = 0
        self.start_ms = start_ms
        self.start_us = start_us
        self.recorder = Recorder(bytearray(60000))
        self.uptime = Uptime(start_ms)
        self.poller = Poller(plan, 0, self.recorder, start_ms, start_us)
        self.char_us = readplan.bits_per_char(plan, 0) * 1000000 // readplan.baud(plan, 0)
        self.dead = set()
        self.delay_us = {}  # by unit id: before the reply begins
        self.value = lambda unit_id, address: address
        self.coming = []  # (at_us, bytes) towards the poller
        self.requests = []  # (at_us, unit_id, address)
        self.damage = lambda reply: reply
        self.last_byte_us = -100000
        self.gaps_us = []  # silence before each request

    def now(self):
        return add(self.start_ms, self.at_us // 1000), add(self.start_us, self.at_us & 0x0FFFFFFF)

    def run(self, ms):
        end_us = self.at_us + ms * 1000
        while self.at_us < end_us:
            now_ms, now_us = self.now()
            self.uptime.advance(now_ms)
            while self.coming and self.coming[0][0] <= self.at_us:
                _, data = self.coming.pop(0)
                self.last_byte_us = self.at_us
                self.poller.received(data, len(data), now_us)
            if self.poller.step(now_ms, now_us, self.uptime):
                self.asked(bytes(self.poller.request[: self.poller.request_bytes]))
            wait_us = max(self.poller.due_us(now_ms, now_us), 1)
            until = min(self.at_us + wait_us, end_us)
            if self.coming:
                until = min(until, max(self.coming[0][0], self.at_us + 1))
            self.at_us = until

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
                body = bytes(buf[at + 2 : at + 2 + length])
                at += 2 + length
                uptime_ms = link.get_u28(body, 2) * 1000 + link.get_u16(body, 6)
                out.append((body[0], body[1], uptime_ms, body[8:]))
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
    for baud, silence_us in ((9600, 3640), (19200, 1820), (115200, 1750)):
        bus = Bus(plan_of([(1, 200, 0), (2, 200, 0)], [(0, 0, 10, 100), (1, 0, 10, 100)], baud))
        bus.run(5000)
        assert len(bus.requests) > 50
        assert min(bus.gaps_us) >= silence_us - 10


def test_a_damaged_reply_is_asked_once_more():
    bus = Bus(plan_of([(1, 100, 0)], [(0, 5, 2, 1000)]))
    spoil = [True, False, True, True, False]

    def damage(reply):
        return reply[:-1] + bytes((reply[-1] ^ 1,)) if spoil and spoil.pop(0) else reply

    bus.damage = damage
    bus.run(2900)
    outcomes = [outcome for _, outcome, _, _ in bus.samples()]
    assert outcomes == [modbus.OK, modbus.BAD_CRC, modbus.OK]


def test_no_reply_is_a_sample_without_a_value():
    bus = Bus(plan_of([(1, 100, 0)], [(0, 5, 2, 1000)]))
    bus.dead.add(1)
    bus.run(900)
    assert [(outcome, data) for _, outcome, _, data in bus.samples()] == [(modbus.TIMEOUT, b"")]
    assert len(bus.requests) == 2


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


def test_a_saturated_bus_still_probes_its_dead_unit():
    units = [(unit_id, 200, 0) for unit_id in range(1, 6)]
    bus = Bus(plan_of(units, [(unit, 0, 20, 100) for unit in range(5)]))
    bus.dead.add(5)
    bus.run(40000)
    probes = [at_us for at_us, unit_id, _ in bus.requests if unit_id == 5]
    assert 4 <= len(probes) - 6 <= 8
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
    assert bus.poller.stray_bytes > 100
    assert diff(bus.recorder.next, 0) == 5
