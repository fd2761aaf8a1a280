"""What is heard on a bus and answers nothing: requests of another master, replies that come late. Policy.

Owns the rule that a board is never the second master: it listens before its first request and after each re-plug, and
goes silent for as long as requests of somebody else are heard. Must never look at a clock (`now_ms` is a 28-bit
counter), and allocates nothing after its construction.

Frames are looked for from their end: at each byte, whether the bytes up to it are one. So noise before a frame hides
nothing. Eight bytes of a reply to function 1 or 2 look like a request from address 768 on: those are passed over.
"""

from protocols import modbus
from protocols.link import LISTENING, OTHER_MASTER, POLLING
from protocols.octets import are_same, copy
from protocols.ticks import add, diff

LISTEN_MS = 5000
SILENT_MS = 60000  # after the last request of another master
_KEEP = 128  # bytes of the past: a longer late reply may go unnoticed, and its read then waits for `late_ms`


class Overheard:
    """One bus. `hear` each byte that answers nothing; `state` is POLLING, LISTENING or OTHER_MASTER."""

    def __init__(self, now_ms):
        self.state = LISTENING
        self.until_ms = add(now_ms, LISTEN_MS)  # of a state other than POLLING
        self.other_master_allowed = False
        self.requests = 0  # of another master, modulo 2^28
        self.stray_bytes = 0  # that belonged to no frame, modulo 2^28
        self._heard = bytearray(2 * _KEEP)
        self._end = 0
        self._written = bytearray(8)  # the last write that was sent, whose reply looks like a request
        self._written_until_ms = now_ms

    def listen(self, now_ms):
        """The port was plugged again: who is there is to be found out anew."""
        if self.state == POLLING:
            self.state = LISTENING
            self.until_ms = now_ms + LISTEN_MS & 0x0FFFFFFF
        self._end = 0

    def wrote(self, request, until_ms):
        """This write was sent: its reply may come until then, and is no request of somebody else."""
        copy(self._written, 0, request, 0, 8)
        self._written_until_ms = until_ms

    def may_send(self, now_ms):
        """Whether the bus is this board's to talk on."""
        if self.state != POLLING and (self.other_master_allowed or diff(now_ms, self.until_ms) >= 0):
            self.state = POLLING
        return self.state == POLLING

    def hear(self, byte, own, now_ms):
        """Take one byte; True when a request ends with it. `own` is the request on the wire, whose echo is none."""
        heard = self._heard
        end = self._end
        if end == 256:
            end = 128
            copy(heard, 0, heard, 128, 128)
        heard[end] = byte
        end += 1
        self._end = end
        self.stray_bytes = self.stray_bytes + 1 & 0x0FFFFFFF
        if end < 8 or not self._is_request(end - 8) or not modbus.crc_ok(heard, end - 8, end):
            return False
        is_own = own is not None and are_same(heard, end - 8, own, 0, 8)
        if is_own or are_same(heard, end - 8, self._written, 0, 8) and diff(self._written_until_ms, now_ms) > 0:
            self._take(8)
            return False
        self._take(8)
        self.requests = self.requests + 1 & 0x0FFFFFFF
        if not self.other_master_allowed:
            self.state = OTHER_MASTER
            self.until_ms = now_ms + SILENT_MS & 0x0FFFFFFF
        return True

    def ends_with_reply(self, unit_id, function_code, data_bytes):
        """Whether the last bytes are the intact reply to such a read; it is then taken out."""
        heard = self._heard
        start = self._end - 5 - data_bytes
        if start < 0 or heard[start] != unit_id or heard[start + 1] != function_code or heard[start + 2] != data_bytes:
            return False
        if not modbus.crc_ok(heard, start, self._end):
            return False
        self._take(5 + data_bytes)
        return True

    def _take(self, count):
        self.stray_bytes = self.stray_bytes - count & 0x0FFFFFFF
        self._end = 0

    def _is_request(self, start):
        """Whether the eight bytes can be a request, or the reply to a write."""
        heard = self._heard
        function_code = heard[start + 1]
        word = heard[start + 4] << 8 | heard[start + 5]
        if not 1 <= heard[start] <= 247:
            return False
        if function_code <= 2:
            return function_code != 0 and heard[start + 2] != 3 and 1 <= word <= 2000
        if function_code <= 4 or function_code == 16:
            return 1 <= word <= 125
        if function_code == 5:
            return word == 0 or word == 0xFF00
        return function_code == 6 or function_code == 15 and 1 <= word <= 1968
