"""Modbus RTU on a serial line: frames of both roles, and one master transaction. Protocol.

Owns the frame lengths of function codes 1-6, 15, 16 and 43/14, and the rule by which bytes become the
reply to one request: same unit id, same function code, exactly the expected length, a right CRC. Silence never
decides: frames end where their length says, whatever pauses the line put between their bytes.
Must never open a port, look at a clock or raise for what a wire brings. Whole frames as bytes, which the edge and the
bench make and a board does not, are in `modbus_edge.py`.
Runs unchanged under CPython and MicroPython; allocates nothing after its set-up.

Source: MODBUS over Serial Line V1.02 (framing), MODBUS Application Protocol V1.1b3 (functions, limits).
"""

from protocols.octets import are_same, copy, crc16, find_head, put_u16

READ_COILS = 1
READ_DISCRETE_INPUTS = 2
READ_HOLDING_REGISTERS = 3
READ_INPUT_REGISTERS = 4
WRITE_COIL = 5
WRITE_REGISTER = 6
WRITE_COILS = 15
WRITE_REGISTERS = 16
ENCAPSULATED = 43  # with MEI type 14: read device identification
DEVICE_ID = 14

# How a transaction ends; these numbers cross the link in every sample.
OK = 0
TIMEOUT = 1  # not one byte that could be a reply
BAD_CRC = 2  # bytes came, no intact frame among them
SHORT = 3  # the reply began and was cut off
WRONG_REPLY = 4  # an intact frame, but of another unit, function or length
EXCEPTION = 5  # the unit refused; `Transaction.exception_code` says why
PENDING = 255  # not an ending: more bytes are needed

FRAME_MAX_BYTES = 256
REQUEST_BYTES = 8  # of function codes 1 to 6
MAX_REGISTERS = 125  # of one request
MAX_BITS = 2000
_CAPACITY = 320  # a longest reply, our own echo before it and some strays


def crc_ok(buf, start, end):
    """Whether the last two of buf[start:end] are the CRC of the bytes before them."""
    return end - start >= 4 and crc16(buf, start, end) == 0


def seal(buf, length):
    """Append the CRC to the first `length` bytes of `buf`; the new length."""
    return put_u16(buf, length, crc16(buf, 0, length))


def put_request(buf, unit_id, function_code, address, word):
    """Lay a request of function code 1 to 6 into `buf`; `word` is the count, or the value to write. Returns 8."""
    buf[0] = unit_id
    buf[1] = function_code
    buf[2] = address >> 8
    buf[3] = address & 0xFF
    buf[4] = word >> 8
    buf[5] = word & 0xFF
    return seal(buf, 6)


def request_length(buf, start, end):
    """Length of the request at buf[start:end]: 0 while more bytes are needed, -1 where no request begins."""
    if end - start < 2:
        return 0
    function_code = buf[start + 1]
    if 1 <= function_code <= 6:
        return 8
    if function_code == 15 or function_code == 16:
        return 9 + buf[start + 6] if end - start > 6 else 0
    if function_code == 43:
        return 7
    return -1


def reply_length(buf, start, end):
    """Length of the reply at buf[start:end]: 0 while more bytes are needed, -1 where no reply begins."""
    if end - start < 3:
        return 0
    function_code = buf[start + 1]
    if function_code & 0x80:
        return 5
    if 1 <= function_code <= 4:
        return 5 + buf[start + 2]
    if function_code == 5 or function_code == 6 or function_code == 15 or function_code == 16:
        return 8
    if function_code != 43 or buf[start + 2] != 14:
        return -1
    if end - start < 8:
        return 0
    left = buf[start + 7]  # objects: id, length, bytes
    at = start + 8
    while left:
        if end - at < 2:
            return 0
        at += 2 + buf[at + 1]
        left -= 1
    return at - start + 2 if at - start + 2 <= 256 else -1


class Transaction:
    """One request and the bytes that come back, until they are its reply or time is up.

    `begin` with the request, `feed` with what the line brings, `finish` when the time-out has passed. After OK the
    data lie in `reply[data_start : data_start + data_bytes]`, big-endian as on the wire. Strays before and after the
    reply, our own echo and replies in pieces are survived. The reply to a write looks like its request: `expects_echo`
    tells a line that echoes. A read sets it where its own echo came.
    """

    def __init__(self, request_max_bytes=FRAME_MAX_BYTES):
        self.request = bytearray(request_max_bytes)
        self.request_bytes = 0
        self.reply = bytearray(_CAPACITY)
        self.reply_bytes = 0
        self.expects_echo = False
        self.echoed = False
        self.overflow_bytes = 0  # of a babbling unit, counted and dropped
        self.exception_code = 0
        self.data_start = 0
        self.data_bytes = 0
        self.frame_start = 0  # of the reply that was taken; what lies around it is strays
        self.frame_end = 0
        self.expected_bytes = 0  # of a good reply; 0 where only the reply itself tells
        self._first = 0  # no reply begins before this offset
        self._damaged = False

    def begin(self, request_bytes):
        """Wait for the reply to `request[:request_bytes]`, which the caller laid there and now sends."""
        request = self.request
        function_code = request[1]
        self.request_bytes = request_bytes
        self.reply_bytes = 0
        self.overflow_bytes = 0
        self.exception_code = 0
        self.echoed = False
        self._first = 0
        self._damaged = False
        count = request[4] << 8 | request[5]
        if function_code <= 2:
            self.expected_bytes = 5 + (count + 7 >> 3)
        elif function_code <= 4:
            self.expected_bytes = 5 + 2 * count
        elif function_code == 43:
            self.expected_bytes = 0
        else:
            self.expected_bytes = 8

    def feed(self, buf, count):
        """Take `count` received bytes; OK, EXCEPTION or PENDING."""
        reply = self.reply
        at = self.reply_bytes
        fits = count if at + count <= 320 else 320 - at
        self.overflow_bytes += count - fits
        copy(reply, at, buf, 0, fits)
        at += fits
        self.reply_bytes = at
        if not self.echoed and at >= self.request_bytes and are_same(reply, 0, self.request, 0, self.request_bytes):
            self.echoed = True
            if self.request[1] <= READ_INPUT_REGISTERS:
                self.expects_echo = True
            if self.expects_echo:
                self._first = self.request_bytes
        return self._look()

    def missing_bytes(self):
        """How many more must come until the reply can be whole: 1 or more. A refusal, of five bytes, once it began."""
        first = self._first
        have = self.reply_bytes - first
        if have >= 5:
            return max(self._length_at(first) - have, 1)
        is_refusal = have >= 2 and self.reply[first + 1] & 0x80
        return max((5 if is_refusal else self.expected_bytes or 5) - have, 1)

    def strays_start(self):
        """Where what came begins that is not our own echo."""
        return self.request_bytes if self.echoed else 0

    def finish(self):
        """The time is up: TIMEOUT, SHORT, BAD_CRC or WRONG_REPLY."""
        reply = self.reply
        end = self.reply_bytes
        start = self.strays_start()
        if end == start:
            return TIMEOUT
        if self._damaged:
            return BAD_CRC
        at = start
        while at < end and at < start + 4:  # a foreign frame may follow a few strays; further in would cost too much
            length = reply_length(reply, at, end)
            if 5 <= length <= end - at and crc_ok(reply, at, at + length):
                return WRONG_REPLY
            at += 1
        at = start
        while at + 1 < end:
            if reply[at] == self.request[0] and reply[at + 1] & 0x7F == self.request[1]:
                return SHORT
            at += 1
        return SHORT if end == start + 1 and reply[start] == self.request[0] else BAD_CRC

    def _look(self):
        reply = self.reply
        unit_id = self.request[0]
        function_code = self.request[1]
        end = self.reply_bytes
        at = self._first
        ruled_out = True  # every offset so far can never become the reply
        while True:
            at = find_head(reply, at, end - 4, unit_id, function_code)
            if ruled_out:
                self._first = at
            if at + 5 > end:
                return PENDING
            length = self._length_at(at)
            if length > 0:
                if end - at < length:
                    ruled_out = False
                elif crc_ok(reply, at, at + length):
                    return self._take(at, length)
                else:
                    self._damaged = True
            elif length == 0:
                ruled_out = False
            at += 1

    def _length_at(self, at):
        reply = self.reply
        if reply[at + 1] & 0x80:
            return 5
        if self.expected_bytes == 0:
            return reply_length(reply, at, self.reply_bytes)
        if reply[at + 1] <= 4:
            return self.expected_bytes if reply[at + 2] == self.expected_bytes - 5 else -1
        i = 2  # a write is confirmed by its address and count or value
        while i < 6 and at + i < self.reply_bytes:
            if reply[at + i] != self.request[i]:
                return -1
            i += 1
        return 8

    def _take(self, at, length):
        reply = self.reply
        self.frame_start = at
        self.frame_end = at + length
        if reply[at + 1] & 0x80:
            self.exception_code = reply[at + 2]
            return EXCEPTION
        self.data_start = at + 3 if reply[at + 1] <= 4 else at + 2
        self.data_bytes = at + length - 2 - self.data_start
        return OK
