"""The ESP32's UARTs, RS-485 direction, clock and watchdog. Shell. The only file that imports machine.

Owns the pins. `board_host.py` has the same names over pseudo-terminals. Must never decide anything.
Not yet run on hardware: written from MicroPython's documentation and source (ports/esp32, 1.28), see README.md.

One bus: UART1, and the link on UART2 at 460800 baud. Two buses: UART1 and UART2, and the link over the console.
"""

import gc
import os
import sys
import time
from select import POLLIN, poll

import machine
import micropython

import flash

LINK_BAUD = 460800
RX_BYTES = 1024
TX_BYTES = 600  # half of it must hold a whole frame, or a write waits
WATCHDOG_MS = 8000
INTERRUPTED_MS = 120000
KNOCK_SILENCE_MS = 200
_KNOCK = b"\r\x03\r\x01"  # what mpremote sends to whatever runs; or the first half of it
# tx, rx, direction: on the ESP32 and the ESP32-S3 alike neither flash nor strapping pins.
PINS = {1: (17, 18, 21), 2: (16, 13, 14)}

heap_lock = micropython.heap_lock
heap_unlock = micropython.heap_unlock
free_heap_bytes = gc.mem_free


def now_ms():
    """Milliseconds, 28 bits."""
    return time.ticks_ms() & 0x0FFFFFFF


def now_us():
    """Microseconds, 28 bits."""
    return time.ticks_us() & 0x0FFFFFFF


class UartPort:
    """One UART; with a direction pin, an RS-485 line. It cannot vanish."""

    lost = False

    def __init__(self, uart, baud, line, direction):
        self.deaf = False  # here, not in the class: its first change in the loop would need the heap
        tx, rx, de = PINS[uart]
        parity = (None, 0, 1)[line >> 2 & 3]
        self._uart = machine.UART(
            uart, baud, bits=5 + (line & 3), parity=parity, stop=1 + (line >> 4 & 1), tx=tx, rx=rx,
            rxbuf=RX_BYTES, txbuf=TX_BYTES, timeout=0, timeout_char=0,
        )
        self._direction = machine.Pin(de, machine.Pin.OUT, value=0) if direction else None

    def wants_reopening(self, now):
        """Never."""
        return False

    def set_deaf(self, deaf):
        """Whether bytes that come need not end a `wait`."""
        self.deaf = deaf

    def any(self):
        """Whether bytes wait."""
        return self._uart.any()

    def read(self, buf):
        """Bytes read into `buf` without waiting: 0 to len(buf)."""
        return self._uart.readinto(buf) or 0

    def write(self, buf, count):
        """Write the first `count` bytes of `buf`; on RS-485 the line is driven for just as long."""
        if self._direction is None:
            self._uart.write(buf, count)
            return
        self._direction(1)
        self._uart.write(buf, count)
        self._uart.flush()
        self._direction(0)


class ConsolePort:
    """The console as the link, where both UARTs are buses.

    Who knocks (silence, Ctrl-C, silence: no frame looks so) wants the REPL: the program is ended.
    """

    lost = True  # a knock is looked for each turn
    deaf = False

    def __init__(self):
        micropython.kbd_intr(-1)  # byte 3 is data
        self._knocked = 0  # bytes of _KNOCK that came since the line was silent; -1 when others did
        self._heard_ms = 0
        self._in = sys.stdin.buffer
        self._out = sys.stdout.buffer
        self._readable = poll()
        self._readable.register(sys.stdin, POLLIN)
        self._one = bytearray(1)
        self.any()

    def wants_reopening(self, now):
        """Whether somebody knocked."""
        return self._knocked >= 2 and (now - self._heard_ms & 0x0FFFFFFF) >= KNOCK_SILENCE_MS

    def reopen(self):
        """Give the console back to the REPL."""
        micropython.kbd_intr(3)
        raise KeyboardInterrupt

    def any(self):
        """Whether bytes wait."""
        for _ in self._readable.ipoll(0):
            return 1
        return 0

    def read(self, buf):
        """Bytes read into `buf` without waiting: one at a time, since reading more would wait for all of them."""
        count = 0
        while count < len(buf) and self.any():
            self._in.readinto(self._one)
            buf[count] = self._one[0]
            self._listen(self._one[0])
            count += 1
        return count

    def _listen(self, byte):
        now = now_ms()
        if (now - self._heard_ms & 0x0FFFFFFF) >= KNOCK_SILENCE_MS:
            self._knocked = 0
        self._heard_ms = now
        if 0 <= self._knocked < len(_KNOCK) and byte == _KNOCK[self._knocked]:
            self._knocked += 1
        else:
            self._knocked = -1

    def write(self, buf, count):
        """Write the first `count` bytes of `buf`."""
        self._out.write(buf, count)


_ports = [None, None, None]  # the link, UART1, UART2


def wait(timeout_us):
    """Sleep until a port has bytes or the time has passed. The system's tick is 10 ms, so this looks by itself."""
    start_us = time.ticks_us()
    while time.ticks_diff(time.ticks_us(), start_us) < timeout_us:
        i = 0
        while i < len(_ports):
            if _ports[i] is not None and not _ports[i].deaf and _ports[i].any():
                return
            i += 1
        time.sleep_us(200)


def identity():
    """The hardware id, as bytes: the chip and its MAC."""
    chip = "esp32s3" if "S3" in sys.implementation._machine else "esp32"
    return (chip + "-" + "".join("{:02x}".format(byte) for byte in machine.unique_id())).encode()


def open_bus(uart, baud, line):
    """The port of a bus."""
    _ports[uart] = UartPort(uart, baud, line, True)
    return _ports[uart]


def open_link():
    """The port towards the edge: UART2 when it is not a bus by the file `two_buses` in flash."""
    _ports[0] = ConsolePort() if flash.load("two_buses") is not None else UartPort(2, LINK_BAUD, 3, False)
    return _ports[0]


def random_bytes(count):
    """Random bytes for the boot id."""
    return os.urandom(count)


def reset_cause():
    """Why the board started, as link.RESET_*."""
    return {machine.PWRON_RESET: 1, machine.SOFT_RESET: 2, machine.WDT_RESET: 3}.get(machine.reset_cause(), 0)


driven = []  # pins: whoever takes the board from its program lets them drop

_watchdog = None


def feed_watchdog():
    """To be called in every turn of the loop; the first call starts the watchdog."""
    global _watchdog
    if _watchdog is None:
        _watchdog = machine.WDT(timeout=WATCHDOG_MS)
    _watchdog.feed()


def interrupted():
    """Somebody at the console has the board, and nothing feeds its watchdog: in two minutes it goes back to work."""
    for pin in driven:
        pin(0)
    machine.WDT(timeout=INTERRUPTED_MS)


def crashed(fault):
    """The end of a main that raised: tell it on the console, and start again."""
    sys.print_exception(fault)
    time.sleep_ms(1000)
    machine.reset()
