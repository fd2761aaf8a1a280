"""The names of pins.py over pseudo-terminals, for a board without the hardware. Shell.

Environment: TANKGATE_PIN25 and so on. Who is driven gets 0 or 1 at each change; of a button the last byte says whether
it is pressed. Must never decide anything.
"""

import os

from board import Port

_opened = {}


class Pin:
    """One terminal. Who holds its other end sees it hang up when the board stops."""

    def __init__(self, path):
        self._port = Port(path)
        self._byte = bytearray(b"-")

    def drive(self, level):
        """1: energised."""
        if self._byte[0] != 48 + level:
            self._byte[0] = 48 + level
            self._port.write(self._byte, 1)

    def pressed(self):
        """1 or 0."""
        self._port.read(self._byte)
        return 1 if self._byte[0] == 49 else 0


def open_output(number):
    """The output on a pin; None where nothing is wired to it."""
    path = os.getenv("TANKGATE_PIN" + str(number))
    if path and number not in _opened:
        _opened[number] = Pin(path)
    return _opened.get(number)


open_button = open_output
