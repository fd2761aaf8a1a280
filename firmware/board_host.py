"""The names of board.py over pseudo-terminals: a board without the hardware. Shell.

Owns the file descriptors and the host's clock. On a virtual board this file lies in flash as board.py. Runs under
MicroPython's unix port and under CPython. Must never decide anything.

Environment: TANKGATE_BOARD_ID, TANKGATE_UART1, TANKGATE_UART2 (absent: no such bus), TANKGATE_LINK.
"""

import gc
import os
import select
import sys
import termios
import time

try:
    import micropython

    MICROPYTHON = True
except ImportError:
    import tty

    MICROPYTHON = False

REOPEN_MS = 1000
_VTIME = 5  # places in the control characters of Linux's termios
_VMIN = 6

if MICROPYTHON:

    def now_ms():
        """Milliseconds, 28 bits."""
        return time.ticks_ms() & 0x0FFFFFFF

    def now_us():
        """Microseconds, 28 bits."""
        return time.ticks_us() & 0x0FFFFFFF

else:

    def now_ms():
        """Milliseconds, 28 bits."""
        return time.monotonic_ns() // 1000000 & 0x0FFFFFFF

    def now_us():
        """Microseconds, 28 bits."""
        return time.monotonic_ns() // 1000 & 0x0FFFFFFF


class Port:
    """One serial port. It may vanish at any time: `lost` says so, `reopen` tries again (and needs the heap)."""

    def __init__(self, path):
        self.path = path
        self.lost = True
        self._file = None
        self._writable = None
        self._deaf = False
        self._reopen_ms = now_ms()
        self.reopen()

    def reopen(self):
        """Open the path again; at most once a second. Whether it is open."""
        self._reopen_ms = now_ms() + REOPEN_MS & 0x0FFFFFFF
        if self._file is not None:
            self._file.close()
            self._file = None
        try:
            file = open(self.path, "r+b") if MICROPYTHON else open(self.path, "r+b", buffering=0)
        except OSError:
            return False
        fd = file.fileno()
        termios.setraw(fd) if MICROPYTHON else tty.setraw(fd)
        settings = termios.tcgetattr(fd)
        settings[6][_VMIN] = 0  # a read never waits
        settings[6][_VTIME] = 0
        termios.tcsetattr(fd, termios.TCSANOW, settings)
        self._writable = select.poll()
        self._writable.register(file, select.POLLOUT)
        _readable.register(file, select.POLLIN)
        if MICROPYTHON:  # the first call after a registration allocates
            for _ in self._writable.ipoll(0):
                pass
            for _ in _readable.ipoll(0):
                pass
        self._file = file
        self.lost = False
        self._deaf = False
        return True

    def set_deaf(self, deaf):
        """Whether bytes that come need not end a `wait`."""
        if deaf != self._deaf and not self.lost:
            self._deaf = deaf
            _readable.modify(self._file, 0 if deaf else select.POLLIN)

    def _lose(self):
        self.lost = True
        _readable.unregister(self._file)  # a terminal that hung up would end every wait

    def wants_reopening(self, now):
        """Whether it is lost and a second has passed since the last try."""
        return self.lost and (now - self._reopen_ms & 0x0FFFFFFF) < 0x08000000

    def read(self, buf):
        """Bytes read into `buf` without waiting: 0 to len(buf)."""
        if self.lost:
            return 0
        try:
            return self._file.readinto(buf) or 0
        except OSError:
            self._lose()
            return 0

    def write(self, buf, count):
        """Write the first `count` bytes of `buf`; a line that takes nothing more loses them, as a UART would."""
        if self.lost:
            return
        try:
            if MICROPYTHON:
                for _ in self._writable.ipoll(0):
                    self._file.write(buf, count)
            elif self._writable.poll(0):
                self._file.write(memoryview(buf)[:count])
        except OSError:
            self._lose()


_readable = select.poll()

if MICROPYTHON:

    def wait(timeout_us):
        """Sleep until a port has bytes or the time has passed."""
        if timeout_us >= 1000:
            start_us = time.ticks_us()
            for _ in _readable.ipoll(timeout_us // 1000):
                return
            timeout_us -= time.ticks_diff(time.ticks_us(), start_us)
        if timeout_us > 0:
            time.sleep_us(timeout_us)

    heap_lock = micropython.heap_lock
    heap_unlock = micropython.heap_unlock
    free_heap_bytes = gc.mem_free

else:

    def wait(timeout_us):
        """Sleep until a port has bytes or the time has passed."""
        if timeout_us >= 1000:
            _readable.poll(timeout_us // 1000)
        elif timeout_us > 0:
            time.sleep(timeout_us / 1000000)

    def heap_lock():
        """Nothing to lock: this interpreter is a stand-in."""

    def heap_unlock():
        """Nothing to unlock."""

    def free_heap_bytes():
        """More than the board's program asks for."""
        return 1 << 28


def identity():
    """The hardware id, as bytes."""
    return os.getenv("TANKGATE_BOARD_ID").encode()


_buses = {}


def open_bus(uart, baud, line):
    """The port of a bus; `baud` and `line` mean nothing on a pseudo-terminal. None where there is no such UART."""
    path = os.getenv("TANKGATE_UART" + str(uart))
    if path and uart not in _buses:
        _buses[uart] = Port(path)
    return _buses.get(uart)


def open_link():
    """The port towards the edge."""
    return Port(os.getenv("TANKGATE_LINK"))


def random_bytes(count):
    """Random bytes for the boot id."""
    return os.urandom(count)


def reset_cause():
    """Why the board started, as link.RESET_*: a host cannot tell."""
    return 0


def feed_watchdog():
    """A host has none."""


def interrupted():
    """A host has no watchdog that would bite."""


def crashed(fault):
    """The end of a main that raised: tell it on the console and stop. The power cord starts it again."""
    if MICROPYTHON:
        sys.print_exception(fault)
    else:
        sys.excepthook(type(fault), fault, fault.__traceback__)
    gc.collect()
    sys.exit(1)
