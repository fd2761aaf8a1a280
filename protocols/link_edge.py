"""The edge's end of the serial link. Protocol.

Owns the edge's half of the conversation that `link.py` lays down: frames out of bytes, records in order with resends
removed, the two acknowledgements, one command at a time. It keeps the records of one boot of one board; who that board
is, and from which record on its samples are wanted, the caller decides on its HELLO (`adopt`). Until then, and from
any other boot, nothing is taken. Must never open a port or look at a clock.

Runs under CPython and MicroPython, so that both ends are tested together on both; the board itself does not carry it.
"""

from protocols.link import (
    ACK,
    ANSWER,
    BODY_MAX_BYTES,
    COMMAND,
    DATA,
    FRAME_MAX_BYTES,
    HELLO,
    NOT_ASKED,
    OLDEST_FIRST,
    PING,
    PLAN,
    PONG,
    WHO,
    deframe,
    enframe,
)
from protocols.octets import get_u16, get_u28, put_u16, put_u28

MASK = 0x0FFFFFFF  # record numbers are counted modulo 2^28
_RING_RECORDS = 16384  # 64 KiB hold no more
CONSOLE_MAX_BYTES = 1024
REPEAT_COMMAND_MS = 500


def reply_ms(answered):
    """Edge only. Milliseconds that a sample's `answered` stands for, to 20 above 100; None where it was not asked."""
    if answered == NOT_ASKED:
        return None
    return answered if answered <= 100 else 100 + (answered - 100) * 20


class Hello:
    """A board says who it is. `boot` is 8 hex digits, `identity` the hardware id, `firmware` like "0.1.0"."""

    def __init__(self, body, length):
        """Edge only."""
        self.boot = _hex(body, 1)
        self.protocol_min = body[5]
        self.protocol_max = body[6]
        self.generation = get_u16(body, 8)
        self.oldest = get_u28(body, 10)
        self.next = get_u28(body, 14)
        self.uptime_s = get_u28(body, 18)
        self.firmware = "{}.{}.{}".format(body[22], body[23], body[24])
        self.reset_cause = body[25]
        self.ring_used_percent = body[26]
        # A foreign board may say anything: its id is shown to a person, so it is text in any case.
        self.identity = "".join(chr(byte) if 32 <= byte < 127 else "?" for byte in body[28 : 28 + body[27]])


class Records:
    """Records in order: `records` are (generation, kind, body bytes). `lost` of them before `first` are gone."""

    def __init__(self, boot, first, lost, records):
        """Edge only."""
        self.boot = boot
        self.first = first
        self.lost = lost
        self.records = records


class Pong:
    """The answer to a ping: the board's uptime when it said it."""

    def __init__(self, boot, token, uptime_ms):
        """Edge only."""
        self.boot = boot
        self.token = token
        self.uptime_ms = uptime_ms


class Answer:
    """The result of a command (link.DONE, ...)."""

    def __init__(self, boot, command, result):
        """Edge only."""
        self.boot = boot
        self.command = command
        self.result = result


class Stranger:
    """Records of a boot that was not adopted: they are not taken, and who it is should be asked."""

    def __init__(self, boot):
        """Edge only."""
        self.boot = boot


class Console:
    """Text between frames: boot log, traceback."""

    def __init__(self, text):
        """Edge only."""
        self.text = text


class EdgeEnd:
    """The edge's end: `feed` gives what happened, the other methods give bytes to write."""

    def __init__(self):
        """Edge only."""
        self.boot = None  # hex of the adopted boot
        self.expected = 0  # number of the next record, unwrapped
        self.committed = 0
        self.bad_frames = 0
        self._boot_bytes = b"\0\0\0\0"
        self._in = bytearray()
        self._body = bytearray(BODY_MAX_BYTES + 2)
        self._wire = bytearray(FRAME_MAX_BYTES + 2)
        self._command = -1  # number of the last one
        self._command_frame = b""
        self._command_at_ms = 0

    def feed(self, data):
        """Edge only. Take received bytes; a list of Hello, Records, Pong, Answer, Stranger and Console, in order.

        Every Records, and every frame that brought nothing new, is to be acknowledged at once (`ack`).
        """
        events = []  # type: list[object]
        pieces = (bytes(self._in) + bytes(data)).split(b"\0")
        rest = pieces.pop()
        if len(rest) > CONSOLE_MAX_BYTES:
            pieces.append(rest)  # no frame is that long
            rest = b""
        self._in = bytearray(rest)
        for piece in pieces:
            if piece:
                self._chunk(piece, events)
        return events

    def adopt(self, boot, expected, committed=None):
        """Edge only. Take this boot's records from number `expected` on; those before `committed` are on disk.

        Both numbers are unwrapped. Without `committed` it is all that was taken.
        """
        self.boot = boot
        self._boot_bytes = bytes(int(boot[i : i + 2], 16) for i in range(0, 8, 2))
        self.expected = expected
        self.committed = expected if committed is None else committed
        self._command_frame = b""

    def forget(self):
        """Edge only. Take nothing until a board is adopted again."""
        self.boot = None
        self._command_frame = b""

    def ack(self, committed=None):
        """Edge only. The acknowledgement of everything taken, and of what is on disk (records before `committed`)."""
        if committed is not None and committed > self.committed:
            self.committed = committed
        at = self._head(ACK)
        at = put_u28(self._body, at, self.expected & MASK)
        at = put_u28(self._body, at, self.committed & MASK)
        return self._frame(at)

    def ping(self, token):
        """Edge only. Ask for the board's uptime; `token` comes back."""
        return self._frame(put_u16(self._body, self._head(PING), token & 0xFFFF))

    def who(self):
        """Edge only. Ask whoever is there for its HELLO."""
        self._body[0] = WHO
        return self._frame(1)

    def command(self, operation, arguments, now_ms):
        """Edge only. A new command for the adopted board: repeat it (`repeat`) until its Answer came.

        The first one's number is the time's: one that the board knows, of an edge before this one, is not done again.
        """
        self._command = (now_ms if self._command < 0 else self._command + 1) & 0xFFFF
        at = put_u16(self._body, self._head(COMMAND), self._command)
        self._body[at] = operation
        at += 1
        for byte in arguments:
            self._body[at] = byte
            at += 1
        self._command_frame = self._frame(at)
        self._command_at_ms = now_ms
        return self._command_frame

    def repeat(self, now_ms):
        """Edge only. The command again when it is half a second without an answer, else nothing."""
        if not self._command_frame or now_ms - self._command_at_ms < REPEAT_COMMAND_MS:
            return b""
        self._command_at_ms = now_ms
        return self._command_frame

    def _head(self, kind):
        body = self._body
        body[0] = kind
        boot = self._boot_bytes
        body[1] = boot[0]
        body[2] = boot[1]
        body[3] = boot[2]
        body[4] = boot[3]
        return 5

    def _frame(self, length):
        """Edge only."""
        return bytes(self._wire[: enframe(self._body, length, self._wire)])

    def _chunk(self, piece, events):
        """Edge only."""
        body = bytearray(piece)
        length = deframe(body, len(body)) if len(body) <= FRAME_MAX_BYTES else -1
        if length < 0:
            text = _printable(piece)
            if text:
                events.append(Console(text))
            else:
                self.bad_frames += 1
            return
        kind = body[0]
        if kind == HELLO and length >= 28 and length == 28 + body[27]:
            events.append(Hello(body, length))
        elif kind == DATA and length >= 12:
            self._data(body, length, events)
        elif kind == PONG and length == 13:
            uptime_ms = get_u28(body, 7) * 1000 + get_u16(body, 11)
            events.append(Pong(_hex(body, 1), get_u16(body, 5), uptime_ms))
        elif kind == ANSWER and length == 8:
            self._answered(body, events)
        else:
            self.bad_frames += 1

    def _answered(self, body, events):
        """Edge only."""
        boot = _hex(body, 1)
        number = get_u16(body, 5)
        if boot == self.boot and number == self._command and self._command_frame:
            self._command_frame = b""
            events.append(Answer(boot, number, body[7]))

    def _data(self, body, length, events):
        """Edge only."""
        boot = _hex(body, 1)
        if boot != self.boot:
            events.append(Stranger(boot))
            return
        # Who never heard of this board may be months behind it, but nobody is ahead by more than a ring holds.
        ahead = (get_u28(body, 5) - self.expected + _RING_RECORDS & MASK) - _RING_RECORDS
        lost = 0
        if ahead > 0:
            if not body[11] & OLDEST_FIRST:
                events.append(Records(boot, self.expected, 0, []))  # a frame before this one was damaged
                return
            lost = ahead
        number = self.expected + ahead
        generation = get_u16(body, 9)
        taken = []
        at = 12
        while at + 2 <= length and at + 2 + body[at] <= length:
            end = at + 2 + body[at]
            kind = body[at + 1]
            if kind == PLAN and end - at == 4:
                generation = get_u16(body, at + 2)
            if number >= self.expected:
                taken.append((generation, kind, bytes(body[at + 2 : end])))
            number += 1
            at = end
        first = self.expected + lost
        self.expected = max(self.expected, number)
        events.append(Records(boot, first, lost, taken))


def _hex(body, at):
    """Edge only."""
    return "{:02x}{:02x}{:02x}{:02x}".format(body[at], body[at + 1], body[at + 2], body[at + 3])


def _printable(piece):
    """Edge only. The text of a chunk that is mostly text, else nothing."""
    if len(piece) < 4:
        return ""
    good = 0
    for byte in piece:
        if 32 <= byte < 127 or byte == 9 or byte == 10 or byte == 13:
            good += 1
    if good * 10 < len(piece) * 9:
        return ""
    return "".join(chr(byte) if 32 <= byte < 127 or byte == 10 else " " for byte in piece).strip()
