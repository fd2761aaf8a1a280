"""The serial link between board and edge: framing, layouts, and the board's end. Protocol.

Owns the bytes on the link and the board's half of the conversation: HELLO while nobody listens, records sent within a
window and sent again until the edge expects the next, the ring freed only by what the edge has committed, one command
at a time. The edge's half is `link_edge.py`. Must never open a port or look at a clock: `now_ms` is an argument.
Runs unchanged under CPython and MicroPython; allocates nothing after its construction.

A frame is 00 COBS(kind, body, CRC-16 low byte first) 00, at most 210 bytes on the wire. Zero bytes on both sides, so
that boot messages and tracebacks on the same wire cost no frame. Numbers are little-endian; u28 is a 28-bit count in
four bytes; a boot is the 32 random bits that a board draws at each start.

    up     HELLO   boot[4], protocol min, max, flags, generation u16, oldest u28, next u28, uptime_s u28,
                   firmware[3], reset cause, ring used %, length of id, id                  (layout frozen for ever)
           DATA    boot[4], first u28, generation u16 of the first record, flags, then records: length, kind, body
           PONG    boot[4], token u16, uptime_s u28, ms u16
           ANSWER  boot[4], command u16, result
    down   ACK     boot[4], next expected u28, committed u28
           PING    boot[4], token u16
           COMMAND boot[4], command u16, operation, arguments
           WHO     (nothing): say HELLO
    record SAMPLE  read, outcome, uptime_s u28, ms u16, answered, then registers big-endian | exception code | the bytes
                   that came. The outcome's low half is how the poll ended, its high half how the first try did where
                   there were two, else 0. `answered` is the time from the request's end to the reply's first byte:
                   milliseconds up to 100, from there on in steps of 20; 0 without a reply, NOT_ASKED where a dead
                   unit's other read was asked in this one's stead. A refusal may have lain in the port for as long as
                   a good reply would have taken on the wire: it is told that much sooner
           PLAN    generation u16: records after this one were taken under it
           COUNTS  bus, state, uptime_s u28, ms u16, span_ms u16, busy_ms u16, overruns u16, foreign requests u16,
                   stray bytes u16, then for each unit that was late: unit, late replies. Once a minute of each bus, and
                   at once when its state changes; counts are those of the span, 65535 is also more
           SWITCHED and INPUT: see switching.py
"""

from protocols.octets import are_same, cobs_decode, cobs_encode, copy, crc16, get_u16, get_u28, put_u16, put_u28
from protocols.ticks import diff

PROTOCOL = 2
FRAME_MAX_BYTES = 210
BODY_MAX_BYTES = 205  # kind, body and CRC
WINDOW_BYTES = 1600

HELLO = 0x01
DATA = 0x02
PONG = 0x03
ANSWER = 0x04
ACK = 0x81
PING = 0x82
COMMAND = 0x83
WHO = 0x84

SAMPLE = 1
PLAN = 2
COUNTS = 3

NOT_ASKED = 255  # `answered` of a sample

# The state of a bus, in COUNTS.
POLLING = 0
LISTENING = 1  # before the first request
OTHER_MASTER = 2  # one was heard: nothing is sent

OLDEST_FIRST = 1  # flag of DATA: the ring holds nothing older than this frame's first record

PLAN_BEGIN = 1  # operation: length u16, SHA-256[32]
PLAN_CHUNK = 2  # operation: offset u16, at most CHUNK_MAX_BYTES
PLAN_COMMIT = 3  # operation: take it; 4: see switching.py

DONE = 0  # result of a command
REFUSED = 1  # unknown, out of order or out of range
WRONG_DIGEST = 2
WRONG_PLAN = 3
NOT_STORED = 4  # the flash did not take it

CHUNK_MAX_BYTES = 160
IDENTITY_MAX_BYTES = 64
SAMPLE_HEAD_BYTES = 9
COUNTS_HEAD_BYTES = 18
COUNTS_MAX_BYTES = 180
FAILED_MAX_BYTES = 64

# Why the board started, in HELLO.
RESET_UNKNOWN = 0
RESET_POWER = 1
RESET_SOFT = 2
RESET_WATCHDOG = 3

HOLD_MS = 100  # an ordinary sample waits this long for company
BEACON_MS = 1000
ABSENT_MS = 5000  # more than an edge lets pass between two pings: a line with nothing to say is not a silent one
RESEND_MIN_MS = 100
RESEND_MAX_MS = 2000


def answered(reply_ms):
    """A reply's time as a sample has it: one byte, at most 3,180 ms."""
    return reply_ms if reply_ms <= 100 else min(100 + (reply_ms - 100) // 20, 254)


def enframe(body, length, wire):
    """Lay body[:length] with its CRC as one frame into `wire`; its length. `body` must have two bytes to spare."""
    put_u16(body, length, crc16(body, 0, length))
    wire[0] = 0
    at = cobs_encode(body, length + 2, wire, 1)
    wire[at] = 0
    return at + 1


def deframe(buf, length):
    """Decode buf[:length], what stood between two zero bytes, in place: bytes of kind and body, or -1."""
    count = cobs_decode(buf, length)
    return count - 2 if count >= 3 and crc16(buf, 0, count) == 0 else -1


class BoardEnd:
    """The board's end: bytes in by `feed`, one frame at a time out of `poll`.

    `recorder` is the ring of records (firmware/recorder.py). A command stands in `command[:command_bytes]` (operation
    and arguments) until the caller `answer`s it; the same command repeated is answered again without being done again.
    """

    def __init__(self, identity, boot, firmware, reset_cause, recorder, now_ms):
        if len(identity) > IDENTITY_MAX_BYTES or len(boot) != 4:  # they are copied without a look at bounds
            raise ValueError("identity = {}: allowed are {} bytes; boot has 4".format(identity, IDENTITY_MAX_BYTES))
        self.recorder = recorder
        self.wire = bytearray(FRAME_MAX_BYTES + 2)
        self.command = bytearray(BODY_MAX_BYTES)
        self.command_bytes = 0
        self.bad_frames = 0
        self.present = False  # an edge was heard within ABSENT_MS
        self._identity = identity
        self._boot = boot
        self._firmware = firmware
        self._reset_cause = reset_cause
        self._body = bytearray(BODY_MAX_BYTES + 2)
        self._in = bytearray(FRAME_MAX_BYTES)
        self._in_bytes = 0
        self.heard_ms = now_ms
        self._hello_ms = now_ms  # when the next HELLO is due
        self._hello_due = True
        self._pong_due = False
        self._pong_token = 0
        self._answer_due = False
        self.number = 0  # of the last command
        self._number_known = False
        self._result = 0
        self._timer_on = False  # records are out and not yet expected past
        self._timer_ms = 0
        self._resend_ms = 500
        self._timed_number = 0  # the round trip is measured on the frame that ends before this record
        self._timed_ms = 0
        self._timed = False
        self._srtt_ms8 = 0  # smoothed round trip, in eighths of a millisecond
        self._var_ms4 = 0
        self._measured = False

    def feed(self, buf, count, now_ms):
        """Take `count` received bytes."""
        i = 0
        while i < count:
            byte = buf[i]
            i += 1
            if byte:
                if self._in_bytes < 210:
                    self._in[self._in_bytes] = byte
                self._in_bytes += 1
            elif self._in_bytes:
                length = deframe(self._in, self._in_bytes) if self._in_bytes <= 210 else -1
                self._in_bytes = 0
                if length < 0:
                    self.bad_frames += 1
                else:
                    self._message(length, now_ms)

    def poll(self, now_ms, uptime):
        """Bytes of the frame that stands in `wire` and is to be sent now, or 0."""
        if self._pong_due:
            self._pong_due = False
            at = self._head(PONG)
            at = put_u16(self._body, at, self._pong_token)
            at = put_u28(self._body, at, uptime.s)
            at = put_u16(self._body, at, uptime.ms)
            return enframe(self._body, at, self.wire)
        if self._answer_due:
            self._answer_due = False
            at = self._head(ANSWER)
            at = put_u16(self._body, at, self.number)
            self._body[at] = self._result
            return enframe(self._body, at + 1, self.wire)
        if self.present and diff(now_ms, self.heard_ms) >= ABSENT_MS:
            self.present = False
            self.recorder.rewind()  # who comes back may have lost what was on the wire
            self._timer_on = False
            self._timed = False
            self._hello_ms = now_ms
        if self._hello_due or not self.present and diff(now_ms, self._hello_ms) >= 0:
            return self._hello(now_ms, uptime)
        if not self.present:
            return 0
        if self._timer_on and diff(now_ms, self._timer_ms) >= 0:
            self.recorder.rewind()
            self._timed = False
            self._timer_on = False
            self._resend_ms = min(2 * self._resend_ms, RESEND_MAX_MS)
        return self._data(now_ms)

    def due_ms(self, now_ms):
        """Milliseconds until `poll` has something to say, if nothing comes in before: 0 to 1000."""
        if self._pong_due or self._answer_due or self._hello_due:
            return 0
        if not self.present:
            return min(max(diff(self._hello_ms, now_ms), 0), BEACON_MS)
        wait = ABSENT_MS - diff(now_ms, self.heard_ms)
        if self._timer_on:
            wait = min(wait, diff(self._timer_ms, now_ms))
        if self.recorder.unsent_bytes and self.recorder.flight_bytes < WINDOW_BYTES:
            wait = min(wait, self._hold_ms(now_ms))
        return min(max(wait, 0), BEACON_MS)

    def answer(self, result):
        """The command is done, or refused."""
        self.command_bytes = 0
        self._result = result
        self._answer_due = True

    def say_hello(self):
        """HELLO is due at once: something in it changed."""
        self._hello_due = True

    def _head(self, kind):
        body = self._body
        boot = self._boot
        body[0] = kind
        copy(body, 1, boot, 0, 4)
        return 5

    def _hello(self, now_ms, uptime):
        recorder = self.recorder
        body = self._body
        self._hello_due = False
        self._hello_ms = now_ms + BEACON_MS & 0x0FFFFFFF
        at = self._head(HELLO)
        body[at] = PROTOCOL
        body[at + 1] = PROTOCOL
        body[at + 2] = 0
        at = put_u16(body, at + 3, recorder.generation)
        at = put_u28(body, at, recorder.oldest)
        at = put_u28(body, at, recorder.next)
        at = put_u28(body, at, uptime.s)
        body[at] = self._firmware[0]
        body[at + 1] = self._firmware[1]
        body[at + 2] = self._firmware[2]
        body[at + 3] = self._reset_cause
        body[at + 4] = recorder.used_percent()
        body[at + 5] = len(self._identity)
        at += 6
        copy(body, at, self._identity, 0, len(self._identity))
        return enframe(body, at + len(self._identity), self.wire)

    def _hold_ms(self, now_ms):
        recorder = self.recorder
        if recorder.urgent or recorder.unsent_bytes >= 190:
            return 0
        return HOLD_MS - diff(now_ms, recorder.unsent_since_ms)

    def _data(self, now_ms):
        recorder = self.recorder
        if not recorder.unsent_bytes or recorder.flight_bytes >= WINDOW_BYTES or self._hold_ms(now_ms) > 0:
            return 0
        body = self._body
        at = self._head(DATA)
        at = put_u28(body, at, recorder.send_number)
        at = put_u16(body, at, recorder.send_generation)
        body[at] = OLDEST_FIRST if recorder.send_number == recorder.oldest else 0
        at = recorder.take(body, at + 1, BODY_MAX_BYTES - 2, now_ms)
        if not self._timer_on:
            self._timer_on = True
            self._timer_ms = now_ms + self._resend_ms & 0x0FFFFFFF
        if not self._timed:
            self._timed = True
            self._timed_ms = now_ms
            self._timed_number = recorder.send_number
        return enframe(body, at, self.wire)

    def _message(self, length, now_ms):
        body = self._in
        kind = body[0]
        if kind == WHO and length == 1:
            self._hello_due = True
        elif length < 5 or not self._is_for_me():
            return
        elif kind == ACK and length == 13:
            self._acknowledged(get_u28(body, 5), get_u28(body, 9), now_ms)
        elif kind == PING and length == 7:
            self._pong_token = get_u16(body, 5)
            self._pong_due = True
        elif kind == COMMAND and length >= 8:
            self._commanded(length)
        else:
            return
        self.heard_ms = now_ms
        if not self.present and kind == ACK:
            self.present = True
            self._resend_ms = max(self._resend_ms, 500) if not self._measured else self._timeout_ms()

    def _is_for_me(self):
        return are_same(self._in, 1, self._boot, 0, 4)

    def _commanded(self, length):
        number = get_u16(self._in, 5)
        if self._number_known and number == self.number:
            if not self.command_bytes:
                self._answer_due = True
            return
        if self.command_bytes:
            return  # one at a time; the edge repeats until it is answered
        self.number = number
        self._number_known = True
        copy(self.command, 0, self._in, 7, length - 7)
        self.command_bytes = length - 7

    def _acknowledged(self, expected, committed, now_ms):
        recorder = self.recorder
        moved = recorder.acknowledge(expected)
        recorder.release(committed)
        if self._timed and diff(recorder.ack_number, self._timed_number) >= 0:
            self._timed = False
            self._measure(diff(now_ms, self._timed_ms))
        if moved:
            self._resend_ms = self._timeout_ms()
            self._timer_on = recorder.flight_bytes > 0
            self._timer_ms = now_ms + self._resend_ms & 0x0FFFFFFF

    def _measure(self, rtt_ms):
        """One round trip; smoothed as TCP does (RFC 6298, in integers)."""
        if not self._measured:
            self._measured = True
            self._srtt_ms8 = rtt_ms * 8
            self._var_ms4 = rtt_ms * 2
            return
        error = rtt_ms - (self._srtt_ms8 >> 3)
        self._srtt_ms8 += error
        if error < 0:
            error = -error
        self._var_ms4 += error - (self._var_ms4 >> 2)

    def _timeout_ms(self):
        if not self._measured:
            return 500
        return min(max((self._srtt_ms8 >> 3) + self._var_ms4, RESEND_MIN_MS), RESEND_MAX_MS)
