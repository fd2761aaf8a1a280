"""One RS-485 line at a port whose far end a master has: a board, or any Modbus program. Shell.

Owns the port, a pseudo-terminal unless a rig gave another one; line.py decides what is on the wire and when. Must never
answer by itself.
"""

from collections.abc import Callable

from hil_tests.bench.line import Exchange, Line
from hil_tests.bench.pty_port import Port, PtyPort
from protocols import trace


class Bus:
    """`tap` is called with every exchange, in the order in which they ended, `record` with all that was on the wire."""

    def __init__(self, line: Line, tap: Callable[[Exchange], None], port: Port | None = None) -> None:
        self.line = line
        self.port: Port = port or PtyPort()
        self.record: Callable[[trace.Frame], None] | None = None
        self._tap = tap

    def receive(self, now_s: float) -> None:
        """The master has written."""
        if data := self.port.read():
            self.line.heard(data, now_s)

    def run(self, now_s: float) -> None:
        """Put on the wire what is due by `now_s`."""
        due_s = self.line.due_s()
        if due_s is not None and due_s <= now_s and (data := self.line.deliver(now_s)):
            self.port.write(data)
        frames, self.line.frames = self.line.frames, []
        if self.record is not None:
            for frame in frames:
                self.record(frame)
        finished, self.line.exchanges = self.line.exchanges, []
        for exchange in finished:
            self._tap(exchange)
