"""What a board meets while its heap is measured: two lines of sensors, some broken, and an edge that leaves. Policy.

Owns which request stays without a good answer, and the edge's half of the link. The same under CPython, where
pseudo-terminals carry the bytes, and inside a MicroPython that has none. Must never look at a clock.
"""

from protocols import link, modbus, modbus_edge, readplan_edge
from protocols.link_edge import Answer, EdgeEnd, Hello, Records

POLLS = 10000
BUSES = 2
UNITS = 8  # on each bus
READS = 4  # of each unit
REGISTERS = 10  # in each read
PERIOD_MS = 100  # more than the lines can carry: the board is never idle
DEAD_UNIT_ID = 8
_SILENT_EVERY = 41  # requests; the three are prime, so that they meet every read
_DAMAGED_EVERY = 29
_CUT_EVERY = 53
_AWAY_AFTER = 3000  # samples
_AWAY_MS = 9000  # longer than the board waits for its edge, and than its ring holds
_PING_MS = 1000


def plan():
    """A read plan of 64 reads on two buses."""
    return readplan_edge.encode(
        [readplan_edge.encode_bus(uart + 1, 115200, 8, "N", 1) for uart in range(BUSES)],
        [
            readplan_edge.encode_unit(bus, unit_id, 10, 10, 0, 100)
            for bus in range(BUSES)
            for unit_id in range(1, UNITS + 1)
        ],
        [
            readplan_edge.encode_read(unit, modbus.READ_HOLDING_REGISTERS, read * REGISTERS, REGISTERS, PERIOD_MS)
            for unit in range(BUSES * UNITS)
            for read in range(READS)
        ],
        b"\1\2\3\4",
    )


class Line:
    """The sensors of one bus."""

    def __init__(self):
        self._requests = 0

    def answer(self, request):
        """The reply to one request, or nothing."""
        self._requests += 1
        count = self._requests
        if request[0] == DEAD_UNIT_ID or count % _SILENT_EVERY == 0:
            return b""
        reply = modbus_edge.read_reply(request[0], request[1], bytes((count + i) & 0xFF for i in range(2 * request[5])))
        if count % _DAMAGED_EVERY == 0:
            return reply[:4] + bytes((reply[4] ^ 0x10,)) + reply[5:]
        return reply[:7] if count % _CUT_EVERY == 0 else reply


class Edge:
    """The other end of the link: it sends the plan, takes every record and commits it at once.

    Where it `leaves`, its plug is once out for a while, in the middle.
    """

    def __init__(self, plan, digest, leaves=True):
        self.outcomes = [0] * 6  # records taken, by the outcome of the poll
        self.reads = set()  # that were answered well
        self.lost = 0  # records that the full ring dropped
        self.returned = not leaves
        self._end = EdgeEnd()
        self._operations = [(link.PLAN_BEGIN, len(plan).to_bytes(2, "little") + digest)]
        for offset in range(0, len(plan), link.CHUNK_MAX_BYTES):
            chunk = plan[offset : offset + link.CHUNK_MAX_BYTES]
            self._operations.append((link.PLAN_CHUNK, offset.to_bytes(2, "little") + chunk))
        self._operations.append((link.PLAN_COMMIT, b""))
        self._left_ms = None
        self._ping_ms = 0

    def taken(self):
        """Samples taken."""
        return sum(self.outcomes)

    def failed(self):
        """Those of them without a good reply."""
        return sum(self.outcomes) - self.outcomes[modbus.OK]

    def step(self, data, now_ms):
        """Take what came in and give what goes out; nothing passes while the plug is out."""
        if not self.returned and self._left_ms is None and self.taken() >= _AWAY_AFTER:
            self._left_ms = now_ms
        if self._left_ms is not None and not self.returned:
            if now_ms - self._left_ms < _AWAY_MS:
                return b""
            self.returned = True
        out = b""
        for event in self._end.feed(data):
            out += self._digest(event, now_ms)
        if self._end.boot and now_ms - self._ping_ms >= _PING_MS:
            self._ping_ms = now_ms
            out += self._end.ping(now_ms & 0xFFFF) + self._end.ack(self._end.expected)
        return out + (self._end.repeat(now_ms) if self._end.boot else b"")

    def _digest(self, event, now_ms):
        end = self._end
        if isinstance(event, Hello):
            if end.boot != event.boot:
                end.adopt(event.boot, 0)
                return end.ack() + end.command(*self._operations[0], now_ms)
            return end.ack()
        if isinstance(event, Answer) and self._operations:
            if event.result != link.DONE:
                raise ValueError("the board refused operation {}: {}".format(self._operations[0][0], event.result))
            self._operations.pop(0)
            return end.command(*self._operations[0], now_ms) if self._operations else end.who()
        if isinstance(event, Records):
            self.lost += event.lost
            for _generation, kind, body in event.records:
                if kind == link.SAMPLE:
                    self.outcomes[body[1] & 15] += 1
                    if body[1] & 15 == modbus.OK:
                        self.reads.add(body[0])
            return end.ack(end.expected)
        return b""
