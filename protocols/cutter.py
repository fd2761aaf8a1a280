"""The bytes of a Modbus line, both sides in one stream, to frames with their times and who sent them. Protocol.

Owns the rule: a frame ends where its length says and its CRC is right, as request or as reply; a reply to the request
before it comes first, since some bytes are both. What is no frame ends at a silence, or where the next frame begins.
Silence alone never cuts: adapters hand bytes over late and in pieces. Must never drop a byte or look at a clock.
Source: MODBUS over Serial Line V1.02, MODBUS Application Protocol V1.1b3; lengths and CRC are modbus.py's.
"""

from protocols import modbus
from protocols.profile import data_bytes
from protocols.trace import RECEIVED, SENT, Frame

SILENCE_US = 50_000  # after so long nothing goes on that was begun: three times what USB adapters hold back
_ANSWERS_US = 1_000_000  # what comes later is no answer, but the same request again
_BABBLE_BYTES = 128  # of what is no frame and does not end


def frame_length(event: int, data: bytes | bytearray, start: int = 0) -> int:
    """Length of the frame that was SENT or RECEIVED: 0 while more bytes are needed, -1 where none begins."""
    if event == SENT:
        return int(modbus.request_length(data, start, len(data)))
    return int(modbus.reply_length(data, start, len(data)))


class Cutter:
    """One port. `feed` the bytes as they come, `quiet` when none do; both give the frames that are complete."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._event = 0  # who sent what is in `_bytes`, where that is known
        self._bytes = bytearray()
        self._first_us: list[int] = []  # of each byte
        self._last_us: list[int] = []
        self._request: Frame | None = None  # that has no reply yet

    def feed(self, data: bytes, first_us: int, last_us: int, event: int = 0) -> list[Frame]:
        """Bytes in a row, from the first one's beginning to the last one's end; SENT or RECEIVED where it is known."""
        frames = self.quiet(first_us) if event == self._event else self.finish()
        self._event = event
        span_us = last_us - first_us
        for i, byte in enumerate(data):
            self._bytes.append(byte)
            self._first_us.append(first_us + span_us * i // len(data))
            self._last_us.append(first_us + span_us * (i + 1) // len(data))
        frames += self._whole(False)
        while len(self._bytes) > modbus.FRAME_MAX_BYTES:
            frames.append(self._rest(_BABBLE_BYTES))
        return frames

    def quiet(self, now_us: int) -> list[Frame]:
        """Nothing came until now."""
        return self.finish() if self._last_us and now_us - self._last_us[-1] >= SILENCE_US else []

    def finish(self) -> list[Frame]:
        """Nothing more will come."""
        frames = self._whole(True)
        if self._bytes:
            frames.append(self._rest(len(self._bytes)))
        return frames

    def _whole(self, is_over: bool) -> list[Frame]:
        """Every frame that is complete, with what lay before it; `is_over`: what is not complete never will be."""
        frames: list[Frame] = []
        while (found := self._find(is_over)) is not None:
            event, start, length = found
            if start:
                frames.append(self._rest(start))
            frames.append(self._cut(event, length))
        return frames

    def _find(self, is_over: bool) -> tuple[int, int, int] | None:
        """Who sent it, where it begins, how long it is."""
        have = len(self._bytes)
        for start in range(have - 3):
            answers = self._answers(start)
            for event in (self._event,) if self._event else (RECEIVED, SENT) if answers else (SENT, RECEIVED):
                length = frame_length(event, self._bytes, start)
                if 0 < length <= have - start and modbus.crc_ok(self._bytes, start, start + length):
                    return event, start, length
                may_become = start == 0 and length >= 0 and have < max(length, 8) and not is_over
                if may_become and (answers or self._event or self._request is None):
                    return None  # what lies inside it is not looked at, or by chance a frame would be found
        return None

    def _answers(self, start: int) -> bool:
        """Whether the bytes there begin the reply to the request before them."""
        if self._request is None or self._first_us[start] - self._request.last_us > _ANSWERS_US:
            return False
        request, reply = self._request.data, self._bytes[start : start + 6]
        if reply[0] != request[0] or reply[1] & 0x7F != request[1]:
            return False
        if reply[1] & 0x80 or request[1] == modbus.ENCAPSULATED:
            return True
        if request[1] > modbus.READ_INPUT_REGISTERS:
            return reply[2:] == request[2 : len(reply)]
        return reply[2] == data_bytes(request[1], request[4] << 8 | request[5])

    def _cut(self, event: int, length: int) -> Frame:
        """The first `length` bytes as a frame."""
        frame = Frame(self._port, event, self._first_us[0], self._last_us[length - 1], bytes(self._bytes[:length]))
        del self._bytes[:length], self._first_us[:length], self._last_us[:length]
        if event == RECEIVED:
            self._request = None
        elif modbus.crc_ok(frame.data, 0, length):
            self._request = frame if frame.data[0] else None  # a broadcast has no reply
        return frame

    def _rest(self, length: int) -> Frame:
        """The first `length` bytes, which are no frame. Who sent them is a guess where it is not known."""
        request = self._request
        is_request = request is None and length >= modbus.REQUEST_BYTES
        frame = self._cut(self._event or (SENT if is_request else RECEIVED), length)
        self._request = request
        return frame
