"""An adapter that listens on a line: its bytes with their times, cut to frames. Shell.

Owns the port's reading and the clock. Must never write to the port: it is a guest on somebody's bus.
A byte's time is when the system handed it over, less what the bytes after it took on the wire; a USB adapter hands
over up to 16 ms late, unless its latency timer is set to 1.
"""

import select
import time

from edge.serial_port import SerialPort
from protocols.cutter import Cutter
from protocols.model import Line
from protocols.trace import BREAK, FRAMING, PARITY, Frame


class Recorder:
    """One port that was opened with `marks_errors`. `hear` waits for bytes; when the port is lost, `fileno` is None."""

    def __init__(self, port: SerialPort, line: Line) -> None:
        self._port = port
        self._line = line
        self._cutter = Cutter(0)
        self._marks = Marks()
        self._utc_less_monotonic_us = (time.time_ns() - time.monotonic_ns()) // 1000
        self._ended_us = 0

    def hear(self, timeout_s: float) -> list[Frame]:
        """What was complete within this time."""
        watched = [] if self._port.fileno is None else [self._port.fileno]
        readable, _writable, _broken = select.select(watched, [], [], timeout_s)
        data = self._port.read() if readable else b""
        now_us = time.monotonic_ns() // 1000 + self._utc_less_monotonic_us
        if not data:
            return self._cutter.quiet(now_us)
        chars = self._marks.feed(data)
        first_us = max(now_us - round(len(chars) * self._line.char_us), self._ended_us)
        self._ended_us = max(now_us, first_us)
        frames = self._cutter.feed(bytes(byte for byte, _is_spoilt in chars), first_us, self._ended_us)
        spoilt = [byte for byte, is_spoilt in chars if is_spoilt]
        return [Frame(0, self._error(byte), now_us, now_us, bytes((byte,))) for byte in spoilt] + frames

    def finish(self) -> list[Frame]:
        """What is left at the end."""
        return self._cutter.finish()

    def _error(self, byte: int) -> int:
        """The system does not say which; with a parity bit it is what fails first."""
        if byte == 0:
            return BREAK
        return FRAMING if self._line.parity == "N" else PARITY


class Marks:
    """Bytes as termios' PARMRK marks them: FF FF is FF, FF 00 before one that came damaged. They may come in pieces."""

    def __init__(self) -> None:
        self._begun = b""

    def feed(self, data: bytes) -> list[tuple[int, bool]]:
        """Each byte, and whether it came damaged."""
        chars = []
        for byte in data:
            self._begun += bytes((byte,))
            if self._begun in (b"\xff", b"\xff\x00"):
                continue
            chars.append((byte, self._begun[:2] == b"\xff\x00"))
            self._begun = b""
        return chars
