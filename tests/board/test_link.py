"""Both ends of the link over a ladder of wires, on a fake clock. Shell of the tests: runs on every interpreter."""

import moved
from protocols import link, readplan
from protocols.link import BoardEnd, deframe, enframe
from protocols.link_edge import Answer, Console, EdgeEnd, Hello, Pong, Records, Stranger
from recorder import Recorder
from uptime import Uptime

BOOT = b"\x9f\x3a\x60\xc2"
BOOT_HEX = "9f3a60c2"
IDENTITY = b"esp32-a0b765112233"


class Noise:
    """A seeded source of numbers that is the same on every interpreter."""

    def __init__(self, seed):
        self.state = seed

    def below(self, limit):
        self.state = self.state * 75 + 74 & 0xFFFF
        return self.state * limit >> 16


class Wire:
    """One direction: loses and flips bytes by the seed, cuts into pieces, delivers after a delay."""

    def __init__(self, seed=0, damage_percent=0, piece=1000, delay_ms=0):
        self.noise = Noise(seed)
        self.damage_percent = damage_percent
        self.piece = piece
        self.delay_ms = delay_ms
        self.queue = []

    def send(self, data, now_ms):
        data = bytearray(data)
        if self.damage_percent and self.noise.below(100) < self.damage_percent:
            at = self.noise.below(len(data))
            if self.noise.below(2):
                data[at] ^= 1 << self.noise.below(8)
            else:
                data = data[:at] + data[at + 1 :]
        for start in range(0, len(data), self.piece):
            self.queue.append((now_ms + self.delay_ms, bytes(data[start : start + self.piece])))

    def receive(self, now_ms):
        out = []
        while self.queue and self.queue[0][0] <= now_ms:
            out.append(self.queue.pop(0)[1])
        return out


class Pair:
    """A board's end and an edge's end, with what the edge received and committed."""

    def __init__(self, up=None, down=None, ring_bytes=4096, start_ms=0):
        self.now_ms = start_ms
        self.up = up or Wire()
        self.down = down or Wire()
        self.recorder = Recorder(bytearray(ring_bytes))
        self.uptime = Uptime(start_ms)
        self.board = BoardEnd(IDENTITY, BOOT, (0, 1, 0), link.RESET_POWER, self.recorder, start_ms)
        self.edge = EdgeEnd()
        self.got = []  # (generation, kind, body)
        self.lost = 0
        self.others = []
        self.committed = 0
        self.adopts = True

    def sample(self, number):
        body = bytes((number & 0xFF, number >> 8))
        self.recorder.sample(7, 0, 0, self.uptime, body, 0, 2, 0, self.now_ms)

    def run(self, ms, commits=True):
        for _ in range(ms):
            wait_ms = self.board.due_ms(self.now_ms)
            self.now_ms = self.now_ms + 1 & 0x0FFFFFFF
            self.uptime.advance(self.now_ms)
            assert self.board.due_ms(self.now_ms) >= wait_ms - 1  # who sleeps for so long misses nothing
            for piece in self.down.receive(self.now_ms):
                self.board.feed(piece, len(piece), self.now_ms)
            while True:
                is_due = self.board.due_ms(self.now_ms) == 0
                length = self.board.poll(self.now_ms, self.uptime)
                assert is_due == (length > 0)
                if not length:
                    break
                self.up.send(self.board.wire[:length], self.now_ms)
            for piece in self.up.receive(self.now_ms):
                for event in self.edge.feed(piece):
                    self.take(event, commits)

    def take(self, event, commits):
        if isinstance(event, Hello):
            if self.adopts and self.edge.boot != event.boot:
                self.edge.adopt(event.boot, self.committed)
            if self.edge.boot:
                self.down.send(self.edge.ack(), self.now_ms)
        elif isinstance(event, Records):
            assert not event.records or event.first == len(self.got) + self.lost + event.lost, event.first
            self.lost += event.lost
            self.got += event.records
            if commits:
                self.committed = self.edge.expected
            self.down.send(self.edge.ack(self.committed), self.now_ms)
        elif isinstance(event, Stranger):
            self.down.send(self.edge.who(), self.now_ms)
            self.others.append(event)
        else:
            self.others.append(event)

    def numbers(self):
        return [body[9] | body[10] << 8 for _, kind, body in self.got if kind == link.SAMPLE]


def ladder():
    return [
        ("perfect", Wire(), Wire()),
        ("byte at a time", Wire(piece=1), Wire(piece=1)),
        ("delayed", Wire(delay_ms=40), Wire(delay_ms=40)),
        ("lossy up", Wire(seed=1, damage_percent=20), Wire()),
        ("lossy both", Wire(seed=2, damage_percent=20, piece=7), Wire(seed=3, damage_percent=20, delay_ms=5)),
    ]


def test_frame_golden():
    # 01 00 02 with CRC-16 0xB130 by hand: COBS of 01 00 02 30 B1 is 02 01 04 02 30 B1
    body = bytearray(b"\x01\x00\x02\x00\x00")
    wire = bytearray(20)
    length = enframe(body, 3, wire)
    crc = body[3] | body[4] << 8
    assert bytes(wire[:4]) == b"\x00\x02\x01\x04"
    assert wire[4] == 2 and wire[5] | wire[6] << 8 == crc and wire[7] == 0 and length == 8


def test_every_damage_of_one_byte_is_refused():
    body = bytearray(40)
    for i in range(30):
        body[i] = i * 7 & 0xFF
    wire = bytearray(60)
    length = enframe(body, 30, wire)
    intact = bytearray(wire[1 : length - 1])
    assert deframe(bytearray(intact), len(intact)) == 30
    for at in range(len(intact)):
        for bit in range(8):
            broken = bytearray(intact)
            broken[at] ^= 1 << bit
            assert deframe(broken, len(broken)) == -1
        cut = intact[:at] + intact[at + 1 :]
        assert deframe(bytearray(cut), len(cut)) == -1


def test_all_samples_arrive_in_order_over_every_wire():
    for name, up, down in ladder():
        pair = Pair(up, down)
        for number in range(300):
            pair.sample(number)
            pair.run(20)
        pair.run(8000)
        assert pair.numbers() == list(range(300)), name
        assert pair.lost == 0, name
        assert pair.recorder.oldest == pair.recorder.next, name


def test_nothing_is_freed_before_it_is_committed():
    pair = Pair()
    for number in range(20):
        pair.sample(number)
    pair.run(500, commits=False)
    assert pair.numbers() == list(range(20))
    assert pair.recorder.oldest == 0
    pair.committed = 12
    pair.down.send(pair.edge.ack(12), pair.now_ms)
    pair.run(5)
    assert pair.recorder.oldest == 12


def test_an_edge_that_was_killed_gets_again_what_it_had_not_committed():
    pair = Pair()
    for number in range(10):
        pair.sample(number)
    pair.run(300)
    for number in range(10, 20):
        pair.sample(number)
    pair.run(300, commits=False)
    assert pair.committed == 10 and len(pair.got) == 20
    pair.edge = EdgeEnd()
    pair.got = pair.got[:10]
    pair.sample(20)
    pair.run(3000)
    assert pair.numbers() == list(range(21))
    assert any(isinstance(event, Stranger) for event in pair.others)


def test_an_edge_that_knows_nothing_is_served_however_long_the_board_has_run():
    for start in (1000, 0x07000000, 0x08000001, 0x09000000, 0x0FFF0000):
        for commits in (True, False):
            pair = Pair()
            recorder = pair.recorder
            recorder.next = recorder.oldest = recorder.ack_number = recorder.send_number = start
            pair.committed = pair.lost = start
            for number in range(20):
                pair.sample(number)
            pair.run(3000, commits)
            assert pair.numbers() == list(range(20))
            pair.edge = EdgeEnd()  # another gateway
            pair.got = []
            pair.lost = pair.committed = 0
            for number in range(20, 30):
                pair.sample(number)
            pair.run(4000)
            held = range(20 if commits else 0, 30)
            assert pair.numbers() == list(held), (start, commits)
            assert pair.lost == start + held[0] and recorder.oldest == recorder.next == start + 30


def test_record_numbers_wrap_and_the_edge_goes_on_counting():
    pair = Pair(Wire(seed=4, damage_percent=20), Wire(seed=5, damage_percent=20))
    start = 0x10000000 - 10
    recorder = pair.recorder
    recorder.next = recorder.oldest = recorder.ack_number = recorder.send_number = start
    pair.committed = pair.lost = start
    for number in range(60):
        pair.sample(number)
        pair.run(30)
    pair.run(5000)
    assert pair.numbers() == list(range(60)) and pair.lost == start
    assert pair.edge.expected == start + 60 and recorder.oldest == recorder.next == 50


def test_full_ring_drops_its_oldest_and_the_edge_knows_how_many():
    pair = Pair(ring_bytes=1024)
    pair.adopts = False
    for number in range(200):
        pair.sample(number)
        pair.run(10)
    held = pair.recorder.next - pair.recorder.oldest
    assert held == 1024 // 13
    pair.adopts = True
    pair.run(3000)
    assert pair.lost == 200 - held
    assert pair.numbers() == list(range(200 - held, 200))


def test_ring_overflow_with_records_in_flight():
    pair = Pair(ring_bytes=1024, up=Wire(), down=Wire())
    pair.run(1100)
    for number in range(50):
        pair.sample(number)
    pair.run(150, commits=False)  # taken, not committed
    taken = len(pair.got)
    assert taken == 50
    pair.up.damage_percent = 100
    for number in range(50, 250):
        pair.sample(number)
        pair.run(10, commits=False)
    pair.up.damage_percent = 0
    pair.run(6000)
    assert len(pair.numbers()) + pair.lost == 250
    assert pair.numbers()[-1] == 249


def test_only_what_is_urgent_leaves_without_waiting_for_company():
    pair = Pair()
    pair.run(1100)
    body = bytearray(12)

    def sent_after_ms():
        before = pair.recorder.send_number
        for waited in range(300):
            pair.run(1)
            if pair.recorder.send_number != before:
                return waited
        return None

    def add(urgent):
        pair.recorder.sample(7, 0, 0, pair.uptime, body, 0, 2, urgent, pair.now_ms)

    for _ in range(2):  # what was urgent hurries nobody who comes after it
        add(0)
        pair.run(50)
        add(0)
        assert 40 <= sent_after_ms() <= 51
        add(1)
        assert sent_after_ms() <= 1
        pair.recorder.told(link.COUNTS, body, 12, False, pair.now_ms)
        assert 90 <= sent_after_ms() <= 101
        pair.recorder.told(link.COUNTS, body, 12, True, pair.now_ms)
        assert sent_after_ms() <= 1
        pair.recorder.plan(7, pair.now_ms)
        assert sent_after_ms() <= 1
    assert pair.recorder.generation == 7


def test_no_more_than_a_window_is_out_without_an_answer():
    pair = Pair(ring_bytes=8192)
    pair.run(1100)
    for number in range(400):
        pair.sample(number)
    pair.down.damage_percent = 100
    pair.run(90)
    assert link.WINDOW_BYTES <= 13 * pair.recorder.send_number < link.WINDOW_BYTES + link.FRAME_MAX_BYTES
    pair.down.damage_percent = 0
    pair.run(3000)
    assert pair.numbers() == list(range(400)) and pair.lost == 0


def test_a_ring_that_is_full_to_its_last_byte_has_lost_nothing():
    for before in (0, 5):  # also where it has come round
        pair = Pair(ring_bytes=13 * 40)
        for number in range(before):
            pair.sample(number)
        pair.run(2000)
        pair.adopts = False
        pair.edge = EdgeEnd()
        for number in range(before, before + 40):
            pair.sample(number)
        pair.run(9000)
        assert pair.recorder.used_percent() == 13 * 40 // (13 * 40 // 100)
        pair.adopts = True
        pair.run(3000)
        assert pair.numbers() == list(range(before + 40)) and pair.lost == pair.recorder.dropped == 0


def test_a_ring_that_moves_into_a_smaller_one_keeps_its_records():
    for committed, expected, sent in ((0, 0, 0), (0, 0, 7), (0, 5, 9), (3, 5, 12), (12, 12, 12), (4, 12, 12)):
        recorder = Recorder(bytearray(400))
        for number in range(30):  # it has come round
            recorder.sample(number, 0, 0, Uptime(0), bytes((number, number)), 0, 2, 0, 0)
            recorder.acknowledge(number + 1)
            recorder.release(number + 1)
        recorder.send_number = recorder.next
        recorder.rewind()
        for number in range(12):
            recorder.sample(number, 0, 0, Uptime(0), bytes((number, 255 - number)), 0, 2, 0, 0)
        out = bytearray(300)
        recorder.take(out, 0, 13 * sent, 0)
        recorder.acknowledge(30 + expected)
        recorder.release(30 + committed)
        flight_bytes = recorder.flight_bytes
        kept = moved.leave_ring(recorder, 200)
        moved.move_into(recorder, bytearray(200), kept)
        assert len(kept) == 13 * (12 - committed) and recorder.flight_bytes == flight_bytes
        end = recorder.take(out, 0, 300, 0)
        assert [out[at + 2] for at in range(0, end, 13)] == list(range(sent, 12))
        recorder.rewind()
        end = recorder.take(out, 0, 300, 0)
        assert [out[at + 2] for at in range(0, end, 13)] == list(range(expected, 12))
        recorder.sample(99, 0, 0, Uptime(0), bytes(2), 0, 2, 0, 0)
        assert recorder.take(out, 0, 300, 0) == 13 and out[2] == 99
        recorder.acknowledge(43)
        recorder.release(43)
        assert recorder.used_percent() == 0


def test_a_generation_stands_at_each_record():
    pair = Pair()
    pair.recorder.plan(111, pair.now_ms)
    for number in range(5):
        pair.sample(number)
    pair.run(500, commits=False)
    pair.recorder.plan(222, pair.now_ms)
    pair.sample(5)
    pair.run(500)
    pair.edge = EdgeEnd()  # a new edge sees the frames begin in the middle
    pair.sample(6)
    pair.run(3000)
    assert [generation for generation, kind, _ in pair.got if kind == link.SAMPLE] == [111] * 5 + [222] * 2


class Restarts(Pair):
    """A pair whose edge is started anew now and then; `got` is what any of them received, by record number."""

    def __init__(self, up, down, ring_bytes):
        Pair.__init__(self, up, down, ring_bytes)
        self.got = {}
        self.gone = 0  # records that an edge which committed that was told to be lost
        self._gone = 0

    def take(self, event, commits):
        if isinstance(event, Records):
            self._gone += event.lost
            for i, record in enumerate(event.records):
                assert self.got.get(event.first + i, record) == record
                self.got[event.first + i] = record
            if commits:
                self.committed = self.edge.expected
                self.gone = self._gone
            self.down.send(self.edge.ack(self.committed), self.now_ms)
        else:
            Pair.take(self, event, commits)

    def restart(self):
        self.edge = EdgeEnd()
        self._gone = self.gone
        self.got = {number: record for number, record in self.got.items() if number < self.committed}


def test_a_generation_stands_at_each_record_whatever_is_sent_again_or_dropped():
    for seed in range(8):
        noise = Noise(seed)
        pair = Restarts(Wire(seed=seed), Wire(seed=seed + 99, damage_percent=15), 1500)
        generation = 0
        for step in range(300):
            if step == 0 or noise.below(12) == 0:
                generation += 1
                pair.recorder.plan(generation, pair.now_ms)
            pair.sample(generation)
            pair.up.damage_percent = 100 if step % 100 < 20 * (seed & 1) else 15
            pair.run(5 + noise.below(60), commits=noise.below(3) == 0 and step % 100 < 60)
            if noise.below(30) == 0:
                pair.restart()
        pair.up.damage_percent = pair.down.damage_percent = 0
        pair.run(12000)
        assert len(pair.got) + pair.gone == pair.recorder.next == pair.recorder.oldest, seed
        assert pair.got[pair.recorder.next - 1][0] == generation and (pair.gone > 0) == (pair.recorder.dropped > 0)
        for told, kind, body in pair.got.values():
            assert kind == link.PLAN or told == body[9] | body[10] << 8, seed


def test_what_was_dropped_unsent_leaves_its_generation_to_those_behind_it():
    for count in range(1, 60):
        recorder = Recorder(bytearray(400))
        for number in range(count):
            if number % 10 == 0:
                recorder.plan(1 + number // 10, 0)
            recorder.sample(1 + number // 10, 0, 0, Uptime(0), bytes(2), 0, 2, 0, 0)
        generation = recorder.send_generation
        out = bytearray(400)
        end = recorder.take(out, 0, 400, 0)
        at = 0
        while at < end:
            if out[at + 1] == link.PLAN:
                generation = out[at + 2]
            else:
                assert out[at + 2] == generation
            at += 2 + out[at]


def test_console_text_costs_no_frame():
    pair = Pair()
    pair.run(1100)
    pair.up.send(b"Traceback (most recent call last):\r\n  boom\r\n", pair.now_ms)
    pair.sample(0)
    pair.run(300)
    assert pair.numbers() == [0]
    assert [event.text for event in pair.others if isinstance(event, Console)] == [
        "Traceback (most recent call last): \n  boom"
    ]


def test_a_flood_that_is_no_text_says_nothing_and_costs_no_frame():
    pair = Pair()
    pair.run(1100)
    noise = Noise(3)
    for _ in range(40):
        pair.up.send(bytes([128 + noise.below(128) for _ in range(100)]), pair.now_ms)
    pair.sample(0)
    pair.run(3000)
    assert pair.numbers() == [0]
    assert not [event for event in pair.others if isinstance(event, Console)]
    assert pair.edge.bad_frames > 0


def test_an_identity_that_is_no_text_is_shown_as_text():
    pair = Pair()
    pair.board = BoardEnd(b"\xff\x00id\n", BOOT, (0, 1, 0), 0, pair.recorder, 0)
    hellos = pair.edge.feed(pair.board.wire[: pair.board.poll(0, pair.uptime)])
    assert [hello.identity for hello in hellos] == ["??id?"]


def test_a_command_is_done_once_and_answered_until_heard():
    pair = Pair(down=Wire(seed=5, damage_percent=40), up=Wire(seed=6, damage_percent=40))
    pair.run(1500)
    pair.down.send(pair.edge.command(link.PLAN_BEGIN, bytes(range(34)), pair.now_ms), pair.now_ms)
    done = 0
    for _ in range(300):
        pair.run(20)
        if pair.board.command_bytes:
            assert pair.board.command_bytes == 35 and pair.board.command[1] == 0 and pair.board.command[34] == 33
            done += 1
            pair.board.answer(link.DONE)
        again = pair.edge.repeat(pair.now_ms)
        if again:
            pair.down.send(again, pair.now_ms)
    assert done == 1
    answers = [event for event in pair.others if isinstance(event, Answer)]
    assert len(answers) == 1 and answers[0].result == link.DONE


def test_another_boots_frames_are_not_taken():
    pair = Pair()
    pair.run(1100)
    pair.edge.adopt("00112233", 0)
    pair.sample(0)
    pair.adopts = False
    pair.run(3000)
    assert pair.got == []
    assert {event.boot for event in pair.others if isinstance(event, Stranger)} == {BOOT_HEX}


def test_pong_tells_the_uptime():
    pair = Pair(start_ms=0x0FFFFF00)  # the millisecond counter wraps on the way
    pair.run(2500)
    pair.down.send(pair.edge.ping(7), pair.now_ms)
    pair.run(3)
    pong = pair.others[-1]
    assert isinstance(pong, Pong) and pong.token == 7 and 2500 <= pong.uptime_ms <= 2503


def test_without_an_edge_it_beacons_each_second():
    pair = Pair()
    pair.adopts = False
    hellos = []
    for _ in range(5000):
        pair.now_ms += 1
        length = pair.board.poll(pair.now_ms, pair.uptime)
        if length:
            hellos.append(pair.now_ms)
    assert len(hellos) == 5


def test_babble_on_the_link_stays_bounded():
    pair = Pair()
    pair.run(1100)
    noise = Noise(9)
    for _ in range(200):
        pair.up.send(bytes([1 + noise.below(255) for _ in range(300)]), pair.now_ms)
        pair.down.send(bytes([1 + noise.below(255) for _ in range(300)]), pair.now_ms)
        pair.run(1)
    pair.up.send(b"\0", pair.now_ms)
    pair.down.send(b"\0", pair.now_ms)
    pair.sample(0)
    pair.run(4000)
    assert pair.numbers() == [0]
    assert len(pair.edge._in) <= 1024


def test_the_longest_sample_fits_one_frame():
    pair = Pair()
    registers = bytes(2 * readplan.MAX_REGISTERS)
    pair.recorder.sample(7, 0, 0, pair.uptime, registers, 0, len(registers), 0, pair.now_ms)
    pair.run(2000)
    assert [len(body) for _, kind, body in pair.got if kind == link.SAMPLE] == [link.SAMPLE_HEAD_BYTES + 180]


def test_an_identity_that_fits_no_frame_is_refused():
    recorder = Recorder(bytearray(1000))
    BoardEnd(bytes(64), b"boot", (0, 1, 0), link.RESET_POWER, recorder, 0)
    try:
        BoardEnd(bytes(65), b"boot", (0, 1, 0), link.RESET_POWER, recorder, 0)
    except ValueError:
        return
    raise AssertionError("65 bytes were taken")
