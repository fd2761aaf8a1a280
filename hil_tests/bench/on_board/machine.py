"""The names of an ESP32's `machine` that firmware/board.py uses, over pseudo-terminals. Shell.

Runs under MicroPython's unix port, in the place of its own `machine`. Nothing that the board's loop calls allocates, as
on a chip. A chip cannot lose its UARTs: a terminal that hung up is silent.

Environment: TANKGATE_UNIQUE_ID (hex), TANKGATE_RESET_CAUSE, TANKGATE_WATCHDOG (a pipe), TANKGATE_UART1, TANKGATE_UART2.
"""

import binascii
import os
import select
import termios
import time

PWRON_RESET = 1
HARD_RESET = 2
WDT_RESET = 3
DEEPSLEEP_RESET = 4
SOFT_RESET = 5
_VTIME = 5
_VMIN = 6
_FED_EACH_MS = 100


def unique_id():
    return binascii.unhexlify(os.getenv("TANKGATE_UNIQUE_ID"))


def reset_cause():
    return int(os.getenv("TANKGATE_RESET_CAUSE"))


def reset():
    os.system("kill -KILL $PPID")


class Pin:
    IN = 1
    OUT = 3
    PULL_UP = 2

    def __init__(self, number, mode, pull=None, value=1):
        self.number = number
        self._value = value

    def __call__(self, value=None):
        if value is None:
            return self._value
        self._value = value


class UART:
    """Without bytes waiting, `readinto` gives None at once."""

    def __init__(self, number, baud, **settings):
        self._file = None
        path = os.getenv("TANKGATE_UART" + str(number))
        if not path:
            return  # nothing is wired to these pins
        self._file = open(path, "r+b")
        fd = self._file.fileno()
        termios.setraw(fd)
        attributes = termios.tcgetattr(fd)
        attributes[6][_VMIN] = 0
        attributes[6][_VTIME] = 0
        termios.tcsetattr(fd, termios.TCSANOW, attributes)
        self._readable = select.poll()
        self._readable.register(self._file, select.POLLIN)
        self._writable = select.poll()
        self._writable.register(self._file, select.POLLOUT)
        self.any()
        for _ in self._writable.ipoll(0):  # the first call after a registration allocates
            pass

    def any(self):
        if self._file is not None:
            for _ in self._readable.ipoll(0):
                return 1
        return 0

    def readinto(self, buf):
        if self._file is None:
            return None
        try:
            return self._file.readinto(buf)
        except OSError:
            return None

    def write(self, buf, count):
        if self._file is None:
            return
        try:
            for _ in self._writable.ipoll(0):
                self._file.write(buf, count)
        except OSError:
            pass

    def flush(self):
        pass


class WDT:
    """Who started it cannot stop it, and a soft reset does not: whoever holds the pipe's other end kills the board."""

    def __init__(self, timeout):
        self._pipe = open(os.getenv("TANKGATE_WATCHDOG"), "wb")
        self._pipe.write(b"%d\n" % timeout)
        self._fed_ms = time.ticks_ms()

    def feed(self):
        now_ms = time.ticks_ms()
        if time.ticks_diff(now_ms, self._fed_ms) >= _FED_EACH_MS:
            self._fed_ms = now_ms
            self._pipe.write(b"\n")
