"""Coils that are written ahead of the polling, pins, the loss of the Pi, buttons. Runs on every interpreter."""

from outputs import BOUNCE_MS, Outputs
from overheard import LISTEN_MS, Overheard
from poller import Poller
from protocols import link, modbus, modbus_edge, octets, readplan, readplan_edge, switching
from protocols.ticks import add, diff
from recorder import Recorder
from uptime import Uptime

GENERATION = 0x1234
HORN = 0  # coil 3 of unit 30, kept as it is without the Pi
BEACON = 1  # coil 4, on without the Pi
FAULT = 2  # pin 25
LAMP = 3  # pin 26, off without the Pi
LOSS_MS = 10000


def plan_of(spacing_ms=0, period_ms=1000, slow_units=0):
    """One bus: a sensor, unit 1, slow ones from 2 on, and the module with the coils, unit 30."""
    units = [readplan_edge.encode_unit(0, 1 + i, 200, 50, 0, 1000) for i in range(1 + slow_units)]
    module = len(units)
    units.append(readplan_edge.encode_unit(0, 30, 200, 50, spacing_ms, 1000))
    reads = [readplan_edge.encode_read(i, 3, 0, 10, period_ms) for i in range(module)]
    reads.append(readplan_edge.encode_read(module, 1, 3, 2, 1000))
    outputs = [
        readplan_edge.encode_output(module, 3, LOSS_MS),
        readplan_edge.encode_output(module, 4, LOSS_MS, "on"),
        readplan_edge.encode_output(None, 25, LOSS_MS, "fault"),
        readplan_edge.encode_output(None, 26, LOSS_MS, "off"),
    ]
    bus = readplan_edge.encode_bus(1, 9600, 8, "N", 1)
    return readplan_edge.encode([bus], units, reads, b"\0\0\0\0", 0, outputs, [27])


class World:
    """A bus with a sensor and an output module, a board's outputs, and a Pi that is there, on a fake clock."""

    def __init__(self, plan, start_ms=0):
        self.at_us = 0
        self.start_ms = start_ms
        self.recorder = Recorder(bytearray(60000))
        self.uptime = Uptime(start_ms)
        self.overheard = Overheard(add(start_ms, -LISTEN_MS))
        self.poller = Poller(plan, 0, self.recorder, self.overheard, start_ms, 0)
        self.outputs = Outputs(plan, GENERATION, [self.poller], self.recorder, start_ms)
        self.poller.outputs = self.outputs
        self.char_us = 10 * 1000000 // 9600
        self.coils = {3: 0, 4: 0}
        self.present = True
        self.heard_ms = start_ms
        self.dead = set()
        self.delay_us = {}
        self.echoes = False
        self.damage = lambda reply: reply
        self.coming = []
        self.requests = []  # (at_us, bytes)
        self.numbers = 0

    def now_ms(self):
        return add(self.start_ms, self.at_us // 1000)

    def run(self, ms):
        end_us = self.at_us + ms * 1000
        poller = self.poller
        while self.at_us < end_us:
            now_ms = self.now_ms()
            now_us = self.at_us & 0x0FFFFFFF
            self.uptime.advance(now_ms)
            if self.present:
                self.heard_ms = now_ms
            self.outputs.work(self.present, self.heard_ms, now_ms, now_us, self.uptime)
            data = b""
            while self.coming and self.coming[0][0] <= self.at_us:
                data += self.coming.pop(0)[1]
            if data:
                poller.received(data, len(data), now_ms, now_us)
            while diff(poller.next_us, now_us) <= 0:
                if poller.step(now_ms, now_us, self.uptime):
                    self.asked(bytes(poller.request[: poller.request_bytes]))
                    poller.sent(now_ms, now_us)
            self.at_us = min(self.at_us + 500, end_us)

    def asked(self, request):
        self.requests.append((self.at_us, request))
        if self.echoes:
            self.coming.append((self.at_us + 8 * self.char_us, request))
        unit_id, function_code = request[0], request[1]
        if unit_id in self.dead:
            return
        address, word = request[2] << 8 | request[3], request[4] << 8 | request[5]
        if function_code == 5:
            self.coils[address] = word >> 8 & 1
            reply = modbus_edge.write_reply(request)
        elif function_code == 1:
            bits = [self.coils.get(address + i, 0) for i in range(word)]
            reply = modbus_edge.read_reply(unit_id, 1, modbus_edge.pack_bits(bits))
        else:
            reply = modbus_edge.read_reply(unit_id, function_code, bytes(2 * word))
        reply = self.damage(reply)
        if reply:
            delay_us = self.delay_us.get(unit_id, 2000)
            self.coming.append((self.at_us + (8 + len(reply)) * self.char_us + delay_us, reply))
            self.coming.sort(key=lambda each: each[0])

    def switch(self, output, value, within_ms=2000, generation=GENERATION):
        self.numbers += 1
        body = bytearray(200)
        body[0] = switching.SWITCH
        octets.put_u16(body, 1, generation)
        body[3] = output
        body[4] = value
        octets.put_u16(body, 5, within_ms)
        now_us = self.at_us & 0x0FFFFFFF
        return self.outputs.command(body, switching.SWITCH_BYTES, self.numbers, self.now_ms(), now_us, self.uptime)

    def told(self, kind=switching.SWITCHED):
        """Bodies of the records of this kind, without their times."""
        out = []
        buf = bytearray(300)
        recorder = self.recorder
        while recorder.unsent_bytes:
            end = recorder.take(buf, 0, 300, 0)
            at = 0
            while at < end:
                if buf[at + 1] == kind:
                    out.append(tuple(buf[at + 2 : at + 2 + buf[at] - 6]))
                at += 2 + buf[at]
        return out

    def writes(self):
        return [request for _, request in self.requests if request[1] == 5]


def record(output, value, outcome=modbus.OK, cause=switching.COMMANDED, number=1):
    return (output, value, outcome, cause, number, 0)


def test_a_coil_is_written_as_the_real_module_was_and_its_echo_is_the_proof():
    plan = readplan_edge.encode(
        [readplan_edge.encode_bus(1, 19200, 8, "E", 1)],
        [readplan_edge.encode_unit(0, 1, 1000, 100, 0, 1000)],
        [readplan_edge.encode_read(0, 1, 3, 1, 1000)],
        b"\0\0\0\0",
        0,
        [readplan_edge.encode_output(0, 3, LOSS_MS)],
    )
    world = World(plan)
    world.run(500)
    assert world.switch(0, 1) == link.DONE
    world.run(100)
    # frames 9 and 10 of hil_tests/traces/brainchild-io-16do.pcapng
    assert world.writes() == [bytes((0x01, 0x05, 0x00, 0x03, 0xFF, 0x00, 0x7C, 0x3A))]
    assert world.told() == [record(0, 1)]


def test_a_write_goes_ahead_of_every_read_that_is_due():
    world = World(plan_of(period_ms=100, slow_units=8))  # more than the line has time for
    world.run(3000)
    begun_us = world.at_us
    assert world.switch(HORN, 1) == link.DONE
    world.run(300)
    after = [(at_us, request) for at_us, request in world.requests if at_us >= begun_us]
    assert after[0][1][1] == 5  # but for the one on the wire, nobody came first
    assert after[0][0] - begun_us < 60000
    assert world.coils[3] == 1


def test_several_are_written_one_after_the_other():
    world = World(plan_of())
    world.run(1000)
    world.told()
    for output, value in ((HORN, 1), (BEACON, 1), (LAMP, 1)):
        assert world.switch(output, value) == link.DONE
    world.run(300)
    assert world.told() == [record(LAMP, 1, number=3), record(HORN, 1, number=1), record(BEACON, 1, number=2)]
    assert world.coils == {3: 1, 4: 1} and world.outputs.level[LAMP] == 1


def test_what_the_plan_does_not_list_is_refused():
    world = World(plan_of())
    assert world.switch(4, 1) == link.REFUSED
    assert world.switch(HORN, 2) == link.REFUSED
    assert world.switch(HORN, 1, generation=GENERATION + 1) == link.REFUSED
    assert world.switch(FAULT, 1) == link.REFUSED  # the loss of the Pi alone switches it
    world.run(1000)
    assert not world.writes() and world.outputs.level[HORN] == 0


def test_a_damaged_echo_is_tried_once_more_and_then_told():
    world = World(plan_of())
    world.run(1000)
    world.told()
    spoil = [True]

    def damage(reply):
        return reply[:-1] + bytes((reply[-1] ^ 1,)) if reply[1] == 5 and spoil and spoil.pop() else reply

    world.damage = damage
    world.switch(HORN, 1)
    world.run(300)
    assert world.told() == [record(HORN, 1)] and len(world.writes()) == 2
    world.dead.add(30)
    world.switch(HORN, 0)
    world.run(600)
    assert world.told() == [record(HORN, 0, modbus.TIMEOUT, number=2)] and len(world.writes()) == 4


def test_a_refusal_of_the_module_is_told_and_not_tried_again():
    world = World(plan_of())
    world.run(1000)
    world.told()
    world.damage = lambda reply: modbus_edge.exception_reply(30, 5, 2) if reply[1] == 5 else reply
    world.switch(HORN, 1)
    world.run(300)
    assert world.told() == [record(HORN, 1, modbus.EXCEPTION)] and len(world.writes()) == 1


def test_a_command_that_came_too_late_is_never_done():
    world = World(plan_of())
    world.run(1000)
    world.told()
    for byte in modbus_edge.read_request(9, 3, 40, 2):
        world.overheard.hear(byte, None, world.now_ms())  # another master: the bus is not ours for a minute
    assert world.switch(HORN, 1, within_ms=2000) == link.DONE
    world.run(1900)
    assert world.told() == []
    world.run(200)
    assert world.told() == [record(HORN, 1, modbus.TIMEOUT)]
    world.run(70000)
    assert not world.writes()


def test_an_order_of_meanwhile_wins():
    world = World(plan_of())
    world.run(1000)
    world.told()
    world.delay_us[30] = 30000
    world.switch(HORN, 1)
    world.run(20)
    assert len(world.writes()) == 1
    world.switch(HORN, 0)
    world.run(400)
    assert world.told() == [record(HORN, 0, number=2)] and world.coils[3] == 0


def test_on_a_line_that_echoes_the_echo_is_not_taken_for_the_reply():
    world = World(plan_of())
    world.echoes = True
    world.run(1500)
    world.told()
    world.dead.add(30)
    world.switch(HORN, 1)
    world.run(800)
    assert world.told() == [record(HORN, 1, modbus.TIMEOUT)]
    world.dead.clear()
    world.run(10000)
    world.switch(HORN, 1)
    world.run(300)
    assert world.told() == [record(HORN, 1, number=2)]


def test_a_late_reply_to_a_write_is_not_another_master():
    world = World(plan_of())
    world.run(1000)
    world.told()
    world.delay_us[30] = 90000  # longer than it is waited for now
    world.switch(HORN, 1)
    world.run(1500)
    assert len(world.writes()) > 1 and world.overheard.state == link.POLLING


def test_the_unit_s_spacing_is_kept():
    world = World(plan_of(spacing_ms=300))
    world.run(2000)
    world.switch(HORN, 1)
    world.switch(BEACON, 1)
    world.run(1500)
    times = [at_us for at_us, request in world.requests if request[0] == 30]
    assert world.coils == {3: 1, 4: 1}
    assert min(later - earlier for earlier, later in zip(times, times[1:])) >= 300000  # noqa: B905, RUF007


def test_without_the_pi_each_output_is_what_its_flags_say():
    world = World(plan_of(), start_ms=0x0FFFFFFF - 4000)  # the counter comes round meanwhile
    world.run(1000)
    assert world.outputs.level[FAULT] == 1  # energised: all is well
    world.switch(HORN, 1)
    world.switch(LAMP, 1)
    world.run(500)
    world.told()
    world.present = False
    world.run(LOSS_MS - 100)
    assert world.told() == [] and world.outputs.level[FAULT] == 1
    world.run(400)
    assert world.outputs.level[FAULT] == 0
    assert world.coils == {3: 1, 4: 1}  # the horn goes on sounding, the beacon was lit
    assert sorted(world.told()) == [
        record(BEACON, 1, cause=switching.LINK_LOST, number=0),
        record(FAULT, 0, cause=switching.LINK_LOST, number=0),
        record(LAMP, 0, cause=switching.LINK_LOST, number=0),
    ]
    world.present = True
    world.run(100)
    assert world.told() == [record(FAULT, 1, cause=switching.LINK_BACK, number=0)]


def test_before_the_pi_is_heard_all_is_not_well():
    world = World(plan_of())
    world.present = False
    world.run(1000)
    assert world.outputs.level[FAULT] == 0
    world.present = True
    world.run(10)
    assert world.outputs.level[FAULT] == 1


def test_what_the_loss_of_the_pi_asks_for_is_tried_until_it_is_done():
    world = World(plan_of())
    world.run(1000)
    world.dead.add(30)
    world.present = False
    world.run(LOSS_MS + 5000)
    world.told()
    assert world.coils[4] == 0 and 5 <= len(world.writes()) <= 12
    world.dead.clear()
    world.run(2000)
    assert world.coils[4] == 1 and world.told() == [record(BEACON, 1, cause=switching.LINK_LOST, number=0)]


def test_a_button_is_told_once_however_its_contact_bounces():
    world = World(plan_of())
    levels = [0, 1, 0, 1, 0, 0, 1] + 20 * [1] + [0, 1, 0] + 20 * [0]
    for pressed in levels:
        world.run(5)
        world.outputs.looked(0, pressed, world.now_ms(), world.uptime)
    assert 5 * 20 > BOUNCE_MS
    assert world.told(switching.INPUT) == [(0, 1), (0, 0)]


def test_a_module_that_answers_nothing_leaves_the_bus_to_the_others():
    world = World(plan_of(period_ms=500))
    world.dead.add(30)
    world.run(1000)
    for _ in range(5):
        world.switch(HORN, 1)
        world.run(1000)
    assert len([1 for _, request in world.requests if request[0] == 1]) == 12
    assert len(world.writes()) == 10
    assert readplan.check(world.outputs.plan, len(world.outputs.plan)) == readplan.GOOD
