"""The names of board.py where there are no terminals: ports and a clock in memory, the surroundings beside them. Shell.

Lies in flash as board.py. The loop runs under the locked heap as on any board; by a port that says that it wants
reopening it is left, so that the surroundings, who need the heap, can act. Time stands still but in `wait`.
"""

import hashlib
from gc import mem_free as free_heap_bytes  # noqa: F401

import surroundings
from micropython import heap_lock, heap_unlock  # noqa: F401

_SPAN = 0x0FFFFFFF
_STEP_US = 20  # what one turn of the loop takes
_EDGE_LOOKS_MS = 50
_NEVER_MS = 0x0FFFFFFF

_ports = []


class Clock:
    """Two 28-bit counters that wrap during the run, and the milliseconds since the start."""

    def __init__(self):
        self.us = _SPAN - 5000000
        self.ms = _SPAN - 7000
        self.since_start_ms = 0
        self._rest_us = 0

    def sleep(self, us):
        """Let time pass."""
        self._rest_us += us
        ms = self._rest_us // 1000
        self._rest_us -= ms * 1000
        self.us = self.us + us & _SPAN
        self.ms = self.ms + ms & _SPAN
        self.since_start_ms += ms


clock = Clock()


class Port:
    """Bytes in memory, both ways: `answer` gives what comes back for what was written, at the latest in `every_ms`."""

    lost = True  # so that the loop asks at each turn

    def __init__(self, answer, every_ms):
        self.in_bytes = 0
        self.out_bytes = 0
        self.deaf = False
        self._answer = answer
        self._every_ms = every_ms
        self._next_ms = every_ms
        self._in = bytearray(4096)
        self._out = bytearray(4096)
        _ports.append(self)

    def wants_reopening(self, now):
        """Whether the surroundings are to act."""
        return self.out_bytes > 0 or clock.since_start_ms >= self._next_ms

    def reopen(self):
        """Let the surroundings act. The heap is free here."""
        reply = self._answer(bytes(self._out[: self.out_bytes]))
        self.out_bytes = 0
        self._in[self.in_bytes : self.in_bytes + len(reply)] = reply
        self.in_bytes += len(reply)
        self._next_ms = clock.since_start_ms + self._every_ms

    def set_deaf(self, deaf):
        """Whether bytes that come need not end a `wait`."""
        self.deaf = deaf

    def read(self, buf):
        """What came back."""
        count = min(len(buf), self.in_bytes)
        i = 0
        while i < self.in_bytes:
            if i < count:
                buf[i] = self._in[i]
            else:
                self._in[i - count] = self._in[i]
            i += 1
        self.in_bytes -= count
        return count

    def write(self, buf, count):
        """Say it to the surroundings."""
        i = 0
        while i < count:
            self._out[self.out_bytes] = buf[i]
            self.out_bytes += 1
            i += 1


_plan = surroundings.plan()
edge = surroundings.Edge(_plan, hashlib.sha256(_plan).digest())


def now_ms():
    """Milliseconds, 28 bits."""
    return clock.ms


def now_us():
    """Microseconds, 28 bits."""
    return clock.us


def wait(timeout_us):
    """Let the time pass, unless bytes wait in a port, one way or the other."""
    i = 0
    while i < len(_ports):
        if _ports[i].in_bytes and not _ports[i].deaf or _ports[i].out_bytes:
            timeout_us = 0
        i += 1
    clock.sleep(max(_STEP_US, min(timeout_us, _EDGE_LOOKS_MS * 1000)))


def identity():
    """The hardware id, as bytes."""
    return b"esp32s3-7cdfa1e40c11"


def open_bus(uart, baud, line):
    """A line of sensors."""
    return Port(surroundings.Line().answer, _NEVER_MS)


def open_link():
    """The edge."""
    return Port(lambda data: edge.step(data, clock.since_start_ms), _EDGE_LOOKS_MS)


def random_bytes(count):
    """Bytes for the boot id."""
    return bytes(range(1, count + 1))


def reset_cause():
    """None known."""
    return 0


def feed_watchdog():
    """There is none."""
