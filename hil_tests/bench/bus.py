"""One RS-485 line at a port whose far end a master has: a board, or any Modbus program. Shell.

Owns the port, a pseudo-terminal unless a rig gave another one, and the terminals of other masters on the same line;
line.py decides what is on the wire and when. Must never
answer by itself.
"""

from collections.abc import Callable
from pathlib import Path

from hil_tests.bench.line import Exchange, Line
from hil_tests.bench.pty_port import Port, PtyPort
from protocols import trace


class Bus:
    """`tap` is called with every exchange, in the order in which they ended, `record` with all that was on the wire.

    `plug`, where there is one, is the stable path that the master opens. `port`: the rig's, or a new pseudo-terminal.
    """

    def __init__(
        self, line: Line, tap: Callable[[Exchange], None], plug: Path | None = None, port: Port | None = None
    ) -> None:
        self.line = line
        self.port: Port = port or PtyPort()
        self.record: Callable[[trace.Frame], None] | None = None
        self.plug = plug
        self._tap = tap
        self._masters = [self.port]  # who has a terminal on this line; nobody while the plug is out
        if plug is not None:
            plug.symlink_to(self.port.path)

    def join(self) -> PtyPort:
        """The terminal of one more master: what a master sends the others hear, and all hear the units."""
        port = PtyPort()
        self._masters.append(port)
        return port

    def unplug(self) -> None:
        """The master's adapter is gone: its port fails, and the path with it."""
        if self.plug is not None:
            self.plug.unlink()
        self._masters.remove(self.port)
        self.port.close()

    def plug_in(self) -> None:
        """It is back, as another terminal: only the plug leads there."""
        self.port = PtyPort()
        self._masters.append(self.port)
        if self.plug is not None:
            self.plug.symlink_to(self.port.path)

    def receive(self, now_s: float) -> None:
        """A master has written."""
        for master in self._masters:
            if data := master.read():
                self.line.heard(data, now_s)
                for other in self._masters:
                    if other is not master:
                        other.write(data)

    def run(self, now_s: float) -> None:
        """Put on the wire what is due by `now_s`."""
        due_s = self.line.due_s()
        if due_s is not None and due_s <= now_s and (data := self.line.deliver(now_s)):
            for master in self._masters:
                master.write(data)
        frames, self.line.frames = self.line.frames, []
        if self.record is not None:
            for frame in frames:
                self.record(frame)
        finished, self.line.exchanges = self.line.exchanges, []
        for exchange in finished:
            self._tap(exchange)
