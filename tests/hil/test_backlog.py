"""A board that hears more slowly than a line babbles: what lies unread in its port must not be heard as a late reply.

The board's own loop (firmware/main.py) on ports in memory, and on a clock on which every byte costs more than it takes
to come; bytes wait in the port, as in a UART's buffer.
"""

import importlib
import sys
from types import SimpleNamespace

import pytest

from overheard import LISTEN_MS, Overheard
from poller import Poller
from protocols import modbus, modbus_edge, readplan_edge
from protocols.link_edge import MASK
from recorder import Recorder
from uptime import Uptime

CHAR_US = 521  # 19200 8N1
HEARD_US = 1500  # what one byte costs this board
LASTS_US = 20_000_000
PORT_BYTES = 4096
READS = (100, 200)  # of one unit, two registers each: their replies have one shape


class Clock:
    """Names of board.py that the loop uses."""

    def __init__(self):
        self.us = 0

    def module(self):
        return SimpleNamespace(
            feed_watchdog=lambda: None,
            free_heap_bytes=lambda: 1 << 20,
            now_ms=lambda: self.us // 1000 & MASK,
            now_us=lambda: self.us & MASK,
            wait=self.wait,
        )

    def wait(self, wait_us):
        self.us += max(min(wait_us, 1000), 20)


class Line:
    """The bus's port: its unit answers each read with the read's own address, and babbles once instead."""

    lost = False

    def __init__(self, clock, babble_us):
        self.clock = clock
        self.babble_us = babble_us
        self.coming = []  # (when, byte)
        self.unread = bytearray()
        self.asked = 0

    def wants_reopening(self, _now_ms):
        return False

    def set_deaf(self, _is_deaf):
        pass

    def write(self, request, count):
        self.asked += 1
        end_us = self.clock.us + count * CHAR_US + 2000
        if self.coming and self.coming[-1][0] > end_us:
            return  # it babbles
        reply = modbus_edge.read_reply(request[0], request[1], bytes(request[2:4]) * 2)
        if self.asked == 20:
            reply = b"\x55" * (self.babble_us // CHAR_US)
        self.coming += [(end_us + at * CHAR_US, byte) for at, byte in enumerate(reply)]

    def read(self, buf):
        while self.coming and self.coming[0][0] <= self.clock.us:
            _at_us, byte = self.coming.pop(0)
            if len(self.unread) < PORT_BYTES:
                self.unread.append(byte)
        count = min(len(buf), len(self.unread))
        buf[:count] = self.unread[:count]
        del self.unread[:count]
        return count


class Link:
    """The link's port, with nobody there; it ends the loop when the time is over."""

    lost = True  # always looked at

    def __init__(self, clock):
        self.wants_reopening = lambda _now_ms: clock.us >= LASTS_US
        self.read = lambda _buf: 0
        self.write = lambda _buf, _count: None


@pytest.fixture
def clock(monkeypatch):
    clock = Clock()
    monkeypatch.setitem(sys.modules, "board", clock.module())
    monkeypatch.delitem(sys.modules, "main", raising=False)
    return clock


@pytest.mark.parametrize("babble_ms", range(400, 3000, 400))
def test_what_lay_unread_is_never_another_reads_value(clock, babble_ms):
    main = importlib.import_module("main")
    plan = readplan_edge.encode(
        [readplan_edge.encode_bus(1, 19200, 8, "N", 1)],
        [readplan_edge.encode_unit(0, 1, 600, 300, 0, 1000)],
        [readplan_edge.encode_read(0, modbus.READ_HOLDING_REGISTERS, address, 2, 500) for address in READS],
        bytes(4),
    )
    overheard = Overheard(-LISTEN_MS & MASK)
    recorder = Recorder(bytearray(60_000))
    taken = []
    recorder.sample = lambda read, both, _answered, _uptime, buf, start, _count, *_rest: taken.append(
        (clock.us, read, both & 15, bytes(buf[start : start + 2]))
    )
    poller = Poller(plan, 0, recorder, overheard, 0, 0)
    hear = overheard.hear

    def slowly(byte, own, now_ms):
        clock.us += HEARD_US
        return hear(byte, own, now_ms)

    feed = poller.transaction.feed

    def fed_slowly(buf, count):
        clock.us += HEARD_US * count
        return feed(buf, count)

    overheard.hear = slowly
    poller.transaction.feed = fed_slowly
    nobody = SimpleNamespace(command_bytes=0, feed=lambda *_: None, poll=lambda *_: 0, due_ms=lambda _now_ms: 1000)
    main.loop([poller], [Line(clock, 1000 * babble_ms)], nobody, Link(clock), Uptime(0), bytearray(256))
    good = [(at_us, read, data) for at_us, read, outcome, data in taken if outcome == modbus.OK]
    assert [each for each in good if each[2] != READS[each[1]].to_bytes(2)] == []
    assert {read for at_us, read, _data in good if at_us > LASTS_US - 2_000_000} == {0, 1}
