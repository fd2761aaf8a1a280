"""What was on the bench's lines, as a pcapng file that grows while they run. Shell.

Owns the file; protocols/trace.py owns its layout, line.py what was on a wire and when. Must never change a frame.
"""

from collections.abc import Iterable
from dataclasses import replace
from functools import partial
from pathlib import Path

from hil_tests.bench.bus import Bus
from protocols import trace


class Capture:
    """Records these buses from now to `close`. `start_utc_ms`: when their clock, the `now_s` of their calls, was 0.

    Each frame is in the file as soon as its bus has run, so that a test that dies leaves it whole.
    """

    def __init__(self, file: Path, buses: Iterable[Bus], start_utc_ms: int = 0) -> None:
        self._buses = tuple(buses)
        self._start_us = start_utc_ms * 1000
        self._file = file.open("wb", buffering=0)
        self._file.write(trace.head([trace.Port(bus.line.name, bus.line.settings) for bus in self._buses]))
        for port, bus in enumerate(self._buses):
            bus.record = partial(self._write, port)

    def close(self) -> None:
        """Record no more."""
        for bus in self._buses:
            bus.record = None
        self._file.close()

    def _write(self, port: int, frame: trace.Frame) -> None:
        first_us, last_us = frame.first_us + self._start_us, frame.last_us + self._start_us
        self._file.write(trace.packets(replace(frame, port=port, first_us=first_us, last_us=last_us)))

