"""One pseudo-terminal whose far end somebody else opens by its path. Shell.

Owns both descriptors: as long as the bench holds the far end too, nobody has to be there, and what is written waits in
the terminal as in a UART's buffer. Must never interpret a byte.
"""

import os
import select
import time
import tty
from typing import Protocol

_LOOK_S = 0.02


class Port(Protocol):
    """What the bench needs of any port, this one or a real adapter."""

    path: str
    lost_bytes: int

    def fileno(self) -> int:
        """What to select on."""

    def read(self) -> bytes:
        """What has come; empty if nothing has."""

    def write(self, data: bytes) -> None:
        """Send; what does not fit is lost and counted."""

    def close(self) -> None:
        """Nobody needs it any more."""


class PinPort:
    """A pin of a virtual board: who drives it says 0 or 1 at each change, and nobody drives it while it is hung up."""

    def __init__(self) -> None:
        self._master, slave = os.openpty()
        tty.setraw(slave)
        os.set_blocking(self._master, False)
        self.path = os.ttyname(slave)
        os.close(slave)
        self._level = 0

    @property
    def level(self) -> int:
        """1: energised."""
        try:
            if data := os.read(self._master, 4096):
                self._level = data[-1] & 1
        except BlockingIOError:
            pass
        except OSError:  # the board has no power
            self._level = 0
        return self._level

    def press(self, pressed: bool) -> None:
        """Of a button."""
        os.write(self._master, b"1" if pressed else b"0")

    def close(self) -> None:
        """Take the wire away."""
        os.close(self._master)


class PtyPort:
    """`path` is what the other side opens; `fileno` is what to select on."""

    def __init__(self) -> None:
        self._master, self._slave = os.openpty()
        tty.setraw(self._slave)
        os.set_blocking(self._master, False)
        self.path = os.ttyname(self._slave)
        self.lost_bytes = 0  # the far end took nothing more, as a UART without flow control

    def await_opener(self) -> None:
        """Wait until somebody has the path open; it is looked after again and again, for nothing tells."""
        ours = select.poll()
        ours.register(self._master, 0)  # POLLHUP: nobody has the far end
        os.close(self._slave)
        try:
            while ours.poll(0):
                time.sleep(_LOOK_S)
        finally:
            self._slave = os.open(self.path, os.O_RDWR | os.O_NOCTTY)

    def fileno(self) -> int:
        """The bench's end."""
        return self._master

    def read(self) -> bytes:
        """What has come from the far end, at most 4096 bytes; empty if nothing has."""
        try:
            return os.read(self._master, 4096)
        except BlockingIOError:
            return b""

    def write(self, data: bytes) -> None:
        """Give the far end these bytes; what does not fit is lost and counted."""
        try:
            written = os.write(self._master, data)
        except BlockingIOError:
            written = 0
        self.lost_bytes += len(data) - written

    def close(self) -> None:
        """Pull the plug: whoever has the far end open gets an error, and the path vanishes."""
        os.close(self._master)
        os.close(self._slave)
