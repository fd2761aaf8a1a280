"""A board's USB socket: a terminal that only those have open who are plugged in. Shell.

Owns the descriptor. Unlike a `PtyPort` it never has its own far end open: what is said while nobody listens is gone,
and whoever looks for a port's holders finds none. Must never interpret a byte.
"""

import os
import select
import termios
from contextlib import suppress


class UsbPort:
    """`path` is what the other side opens."""

    def __init__(self) -> None:
        self._master, far_end = os.openpty()
        self.path = os.ttyname(far_end)
        os.close(far_end)
        os.set_blocking(self._master, False)
        self._hung_up = select.poll()
        self._hung_up.register(self._master, 0)

    def fileno(self) -> int:
        """To select on, as long as it is plugged: a terminal that hung up is always readable."""
        return self._master

    @property
    def is_plugged(self) -> bool:
        """Whether somebody has it open and has made it raw; until then what is said would come back as an echo."""
        return not self._hung_up.poll(0) and not termios.tcgetattr(self._master)[3] & termios.ICANON

    def read(self) -> bytes:
        """What has come in; empty if nothing has."""
        try:
            return os.read(self._master, 4096)
        except OSError:  # nothing, or nobody
            return b""

    def write(self, data: bytes) -> None:
        """What nobody takes is lost."""
        if self.is_plugged:
            with suppress(BlockingIOError):
                os.write(self._master, data)

    def close(self) -> None:
        """Pull the plug: whoever has it open gets an error, and the path vanishes."""
        os.close(self._master)
