"""The ring of records that the edge has not yet committed. Policy.

Owns the ring's bytes and three places in it: the oldest record held, the first that the edge does not yet expect past
(acknowledged), and the next to send. A full ring drops its oldest; the jump in record numbers tells the edge how many.
Must never look at a clock, and allocates nothing after its construction. Record numbers count modulo 2^28.
"""

from protocols.link import PLAN, SAMPLE, SAMPLE_HEAD_BYTES
from protocols.octets import into_ring, out_of_ring, put_u16, put_u28
from protocols.ticks import diff

_RECORD_HEAD_BYTES = 2  # length of the body, kind


class Recorder:
    """Records in by `sample` and `plan`, out by `take`, freed by `release`."""

    def __init__(self, ring):
        self.ring = ring
        self.size = len(ring)
        self.generation = 0  # of the newest record
        self.oldest = 0  # number of the oldest record held
        self.next = 0  # number that the next record will get
        self.dropped = 0  # records that made room, modulo 2^28
        self.ack_number = 0
        self.send_number = 0
        self.send_generation = 0
        self.unsent_bytes = 0
        self.unsent_since_ms = 0
        self.flight_bytes = 0  # sent and not yet expected past
        self.urgent = False  # what waits must not wait for company
        self._used = 0
        self._begin = 0  # where the next record begins
        self._tail = 0
        self._tail_generation = 0
        self._ack = 0
        self._ack_generation = 0
        self._send = 0
        self._head = bytearray(_RECORD_HEAD_BYTES + SAMPLE_HEAD_BYTES)  # of a record that is being written

    def used_percent(self):
        """How full the ring is."""
        return self._used // (self.size // 100)

    def sample(self, read, outcome, answered, uptime, buf, start, count, urgent, now_ms):
        """The outcome of one poll, with the `count` bytes of `buf` that belong to it."""
        head = self._head
        head[2] = read
        head[3] = outcome
        put_u16(head, put_u28(head, 4, uptime.s), uptime.ms)
        head[10] = answered
        self._write(SAMPLE, SAMPLE_HEAD_BYTES, buf, start, count, now_ms)
        if urgent:
            self.urgent = True

    def told(self, kind, body, length, urgent, now_ms):
        """A record of another kind: body[:length] as link.COUNTS, SWITCHED or INPUT lays it down."""
        self._write(kind, 0, body, 0, length, now_ms)
        if urgent:
            self.urgent = True

    def plan(self, generation, now_ms):
        """From the next record on, samples are taken under this generation."""
        put_u16(self._head, 2, generation)
        self._write(PLAN, 2, self._head, 0, 0, now_ms)
        self.generation = generation
        self.urgent = True

    def take(self, out, at, end, now_ms):
        """Copy whole records that are due to be sent into out[at:end]; the offset after them."""
        while self.unsent_bytes:
            place = self._send
            length = 2 + self._at(place, 0)
            if at + length > end:
                break
            if self._at(place, 1) == PLAN:
                self.send_generation = self._plan_at(place)
            self._send = out_of_ring(self.ring, self.size, place, out, at, length)
            at += length
            self.send_number = self.send_number + 1 & 0x0FFFFFFF
            self.unsent_bytes -= length
            self.flight_bytes += length
        self.unsent_since_ms = now_ms
        if not self.unsent_bytes:
            self.urgent = False
        return at

    def acknowledge(self, expected):
        """The edge expects this record next; backwards when it was restarted. True when that was news."""
        if diff(expected, self.oldest) < 0 or diff(expected, self.next) > 0:  # months behind looks like ahead
            expected = self.oldest
        if expected == self.ack_number:
            return False
        if diff(expected, self.ack_number) < 0:  # it lost what it had taken but not committed
            self._ack = self._tail
            self._ack_generation = self._tail_generation
            self.ack_number = self.oldest
            self._walk_ack(expected)
            self.rewind()
            return True
        if diff(expected, self.send_number) > 0:  # a new edge that knows more than this end has sent again so far
            self._walk_ack(expected)
            self.rewind()
            return True
        self._walk_ack(expected)
        self.flight_bytes = self._distance(self._ack, self._send, self.send_number == self.ack_number)
        return True

    def rewind(self):
        """Send again from what the edge expects next."""
        self._send = self._ack
        self.send_number = self.ack_number
        self.send_generation = self._ack_generation
        self.flight_bytes = 0
        self.unsent_bytes = self._distance(self._send, self._begin, self.send_number == self.next)
        self.urgent = self.unsent_bytes > 0

    def release(self, committed):
        """Everything before this record is on the edge's disk."""
        if diff(committed, self.ack_number) > 0:
            return  # never more than it says it expects
        while diff(committed, self.oldest) > 0:
            self._free_oldest()

    def _write(self, kind, head_bytes, buf, start, count, now_ms):
        """One record: what of its body lies in `_head` behind length and kind, then buf[start : start + count]."""
        length = _RECORD_HEAD_BYTES + head_bytes + count
        while self._used + length > self.size:
            self.dropped = self.dropped + 1 & 0x0FFFFFFF
            self._free_oldest()
        if not self.unsent_bytes:
            self.unsent_since_ms = now_ms
        self.unsent_bytes += length
        self._used += length
        self.next = self.next + 1 & 0x0FFFFFFF
        head = self._head
        head[0] = head_bytes + count
        head[1] = kind
        at = into_ring(self.ring, self.size, self._begin, head, 0, _RECORD_HEAD_BYTES + head_bytes)
        self._begin = into_ring(self.ring, self.size, at, buf, start, count)

    def _free_oldest(self):
        length = 2 + self._at(self._tail, 0)
        if self._at(self._tail, 1) == PLAN:
            self._tail_generation = self._plan_at(self._tail)
        if self.send_number == self.oldest:  # not even sent: the places behind it move along
            self._send = self._step(self._send, length)
            self.send_number = self.send_number + 1 & 0x0FFFFFFF
            self.send_generation = self._tail_generation
            self.unsent_bytes -= length
        elif self.ack_number == self.oldest:
            self.flight_bytes -= length
        if self.ack_number == self.oldest:
            self._ack = self._step(self._ack, length)
            self.ack_number = self.ack_number + 1 & 0x0FFFFFFF
            self._ack_generation = self._tail_generation
        self._tail = self._step(self._tail, length)
        self._used -= length
        self.oldest = self.oldest + 1 & 0x0FFFFFFF

    def _walk_ack(self, number):
        while self.ack_number != number:
            length = 2 + self._at(self._ack, 0)
            if self._at(self._ack, 1) == PLAN:
                self._ack_generation = self._plan_at(self._ack)
            self._ack = self._step(self._ack, length)
            self.ack_number = self.ack_number + 1 & 0x0FFFFFFF

    def _at(self, place, offset):
        place += offset
        if place >= self.size:
            place -= self.size
        return self.ring[place]

    def _plan_at(self, place):
        return self._at(place, 2) | self._at(place, 3) << 8

    def _step(self, place, length):
        place += length
        return place - self.size if place >= self.size else place

    def _distance(self, start, end, none):
        if none:
            return 0
        return end - start if end > start else end - start + self.size
