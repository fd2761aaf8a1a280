"""The ring of records that the edge has not yet committed. Policy.

Owns the ring's bytes and three places in it: the oldest record held, the first that the edge does not yet expect past
(acknowledged), and the next to send. A full ring drops its oldest; the jump in record numbers tells the edge how many.
Must never look at a clock, and allocates nothing after its construction. Record numbers count modulo 2^28.
"""

from protocols.link import COUNTS, PLAN, SAMPLE, SAMPLE_HEAD_BYTES, put_u16, put_u28
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
        self._head = 0  # where the next record begins
        self._tail = 0
        self._tail_generation = 0
        self._ack = 0
        self._ack_generation = 0
        self._send = 0
        self._body = bytearray(SAMPLE_HEAD_BYTES)

    def used_percent(self):
        """How full the ring is."""
        return self._used // (self.size // 100)

    def sample(self, read, outcome, answered, uptime, buf, start, count, urgent, now_ms):
        """The outcome of one poll, with the `count` bytes of `buf` that belong to it."""
        body = self._body
        body[0] = read
        body[1] = outcome
        put_u16(body, put_u28(body, 2, uptime.s), uptime.ms)
        body[8] = answered
        self._begin(SAMPLE, SAMPLE_HEAD_BYTES + count, now_ms)
        self._append(body, 0, SAMPLE_HEAD_BYTES)
        self._append(buf, start, count)
        if urgent:
            self.urgent = True

    def counts(self, body, length, urgent, now_ms):
        """How a bus fared: body[:length] as link.COUNTS lays it down."""
        self._begin(COUNTS, length, now_ms)
        self._append(body, 0, length)
        if urgent:
            self.urgent = True

    def plan(self, generation, now_ms):
        """From the next record on, samples are taken under this generation."""
        self._begin(PLAN, 2, now_ms)
        put_u16(self._body, 0, generation)
        self._append(self._body, 0, 2)
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
            ring = self.ring
            size = self.size
            until = at + length
            while at < until:
                out[at] = ring[place]
                at += 1
                place += 1
                if place == size:
                    place = 0
            self._send = place
            self.send_number = self.send_number + 1 & 0x0FFFFFFF
            self.unsent_bytes -= length
            self.flight_bytes += length
        self.unsent_since_ms = now_ms
        if not self.unsent_bytes:
            self.urgent = False
        return at

    def acknowledge(self, expected):
        """The edge expects this record next; backwards when it was restarted. True when that was news."""
        if diff(expected, self.oldest) < 0:
            expected = self.oldest
        if expected == self.ack_number or diff(expected, self.next) > 0:
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
        self.unsent_bytes = self._distance(self._send, self._head, self.send_number == self.next)
        self.urgent = self.unsent_bytes > 0

    def release(self, committed):
        """Everything before this record is on the edge's disk."""
        if diff(committed, self.ack_number) > 0:
            return  # never more than it says it expects
        while diff(committed, self.oldest) > 0:
            self._free_oldest()

    def _begin(self, kind, length, now_ms):
        while self._used + length + _RECORD_HEAD_BYTES > self.size:
            self.dropped = self.dropped + 1 & 0x0FFFFFFF
            self._free_oldest()
        if not self.unsent_bytes:
            self.unsent_since_ms = now_ms
        self.unsent_bytes += length + _RECORD_HEAD_BYTES
        self._used += length + _RECORD_HEAD_BYTES
        self.next = self.next + 1 & 0x0FFFFFFF
        at = self._head
        self.ring[at] = length
        at = self._step(at, 1)
        self.ring[at] = kind
        self._head = self._step(at, 1)

    def _append(self, buf, start, count):
        ring = self.ring
        size = self.size
        at = self._head
        end = start + count
        while start < end:
            ring[at] = buf[start]
            start += 1
            at += 1
            if at == size:
                at = 0
        self._head = at

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
