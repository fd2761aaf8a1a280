"""A board clocked through the wrap of each of its counters does what it does at any other time.

Shell of the tests: runs on every interpreter.
"""

from array import array

from overheard import Overheard
from poller import Poller
from protocols import link, modbus, octets, readplan_edge
from protocols.link_edge import MASK
from protocols.ticks import add, diff
from recorder import Recorder
from uptime import Uptime

BOOT = b"boot"
STEP_MS = 5
LASTS_MS = 20000
EDGE_AWAY_MS = (6000, 14000)


def _plan():
    """Three reads of two units on one bus; the second unit never answers."""
    return readplan_edge.encode(
        [readplan_edge.encode_bus(1, 9600, 8, "N", 1)],
        [readplan_edge.encode_unit(0, 1, 50, 50, 0, 1000), readplan_edge.encode_unit(0, 2, 50, 50, 10, 1000)],
        [
            readplan_edge.encode_read(0, 3, 0, 2, 500),
            readplan_edge.encode_read(0, 4, 8, 1, 700, urgent=True),
            readplan_edge.encode_read(1, 3, 0, 2, 1000),
        ],
        b"\1\2\3\4",
    )


def _reply(request):
    """What unit 1 answers: its registers hold the address that was asked."""
    if request[0] != 1:
        return None
    body = bytearray((1, request[1], 2 * request[5]) + (request[2], request[3]) * request[5] + (0, 0))
    crc = modbus.crc16(body, 0, len(body) - 2)
    body[-2] = crc & 0xFF
    body[-1] = crc >> 8
    return body


def _acknowledgement(number):
    """The edge has everything before this record on its disk."""
    body = bytearray(32)
    body[0] = link.ACK
    body[1:5] = BOOT
    length = octets.put_u28(body, octets.put_u28(body, 5, number), number)
    wire = bytearray(64)
    return wire[: link.enframe(body, length, wire)]


def _records(body, length):
    """How many records a DATA frame holds."""
    count = 0
    at = 12
    while at < length:
        at += 2 + body[at]
        count += 1
    return count


def _check_counters(*objects):
    """Every counter was masked where it was stored: else it would come to need the heap on a 32-bit board."""
    for thing in objects:
        for name, value in thing.__dict__.items():
            for count in (value,) if isinstance(value, int) else value if isinstance(value, array) else ():
                assert -MASK <= count <= MASK, (name, count)


def story(start_ms, start_us, first_number):
    """All that a board asks and sends, told from its start: (elapsed ms, what, record numbers, bytes).

    Each fifth answer of its edge is lost, so that it sends again; for some seconds round the wrap none comes.
    """
    recorder = Recorder(bytearray(4096))
    recorder.oldest = recorder.next = recorder.ack_number = recorder.send_number = first_number
    overheard = Overheard(start_ms)
    poller = Poller(_plan(), 0, recorder, overheard, start_ms, start_us)
    uptime = Uptime(start_ms)
    board = link.BoardEnd(b"virtual-1", BOOT, (0, 1, 0), link.RESET_POWER, recorder, start_ms)
    recorder.plan(7, start_ms)
    story = []
    replies = []  # (elapsed ms, bytes): not yet at the board
    answers = 0
    for elapsed in range(0, LASTS_MS, STEP_MS):
        now_ms = add(start_ms, elapsed)
        now_us = add(start_us, elapsed * 1000)
        uptime.advance(now_ms)
        while replies and replies[0][0] <= elapsed:
            reply = replies.pop(0)[1]
            poller.received(reply, len(reply), now_ms, now_us)
        if diff(poller.next_us, now_us) <= 0 and poller.step(now_ms, now_us, uptime):
            poller.sent(now_ms, now_us)
            request = bytes(poller.request[: poller.request_bytes])
            story.append((elapsed, "asks", 0, 0, request))
            if _reply(request):
                replies.append((elapsed + 2 * STEP_MS, _reply(request)))
        length = board.poll(now_ms, uptime)
        if elapsed % 100 == 0:
            _check_counters(recorder, overheard, poller, uptime, board)
        if not length:
            continue
        body = board.wire[1 : length - 1]
        length = link.deframe(body, length - 2)
        if body[0] == link.HELLO:
            oldest = diff(octets.get_u28(body, 10), first_number)
            newest = diff(octets.get_u28(body, 14), first_number)
            story.append((elapsed, "hello", oldest, newest, bytes(body[18:length])))
            expected = first_number
        else:
            first = octets.get_u28(body, 5)
            expected = add(first, _records(body, length))
            story.append((elapsed, "data", diff(first, first_number), 0, bytes(body[9:length])))
        answers += 1
        if answers % 5 and not EDGE_AWAY_MS[0] <= elapsed < EDGE_AWAY_MS[1]:
            answer = _acknowledgement(expected)
            board.feed(answer, len(answer), now_ms)
    return story


def _same(one, other):
    for i in range(min(len(one), len(other))):
        assert one[i] == other[i], (one[i], other[i])
    assert len(one) == len(other)


def test_the_story_has_what_can_go_wrong():
    told = story(0, 0, 0)
    asked = [entry[4][0] for entry in told if entry[1] == "asks"]
    sent = [entry[2] for entry in told if entry[1] == "data"]
    assert asked.count(1) > 50  # a unit that answers, more than once a second
    assert 4 < asked.count(2) < 30  # one that does not: retried, then probed
    assert sent[-1] > 60
    assert len(sent) > len(set(sent))  # some were sent again
    assert len([entry for entry in told if entry[1] == "hello"]) > 3  # it was alone for a while


def test_milliseconds_wrap():
    _same(story(0, 0, 0), story(MASK - LASTS_MS // 2, 0, 0))


def test_microseconds_wrap():
    _same(story(0, 0, 0), story(0, MASK - LASTS_MS * 500, 0))


def test_record_numbers_wrap():
    _same(story(0, 0, 0), story(0, 0, MASK - 40))


def test_all_wrap_together():
    _same(story(0, 0, 0), story(MASK - LASTS_MS // 2, MASK - LASTS_MS * 500, MASK - 40))


def test_uptime_goes_on_through_many_wraps():
    """Ten days in steps of a day: the millisecond counter wraps each 74.5 hours."""
    uptime = Uptime(MASK)
    now_ms = MASK
    for _ in range(10):
        now_ms = add(now_ms, 86400000)
        uptime.advance(now_ms)
    assert (uptime.s, uptime.ms) == (10 * 86400, 0)
    uptime.advance(add(now_ms, 999))
    assert (uptime.s, uptime.ms) == (10 * 86400, 999)


def test_the_interpreters_ticks_wrap_where_ours_do():
    """MicroPython's ticks wrap at 2^30 on 32 bits, a multiple of 2^28: masked, one follows the other."""
    assert diff(0 & MASK, 0x3FFFFFFF & MASK) == 1
    assert diff(5, MASK - 4) == 10
    assert diff(MASK - 4, 5) == -10
