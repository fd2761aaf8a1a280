"""Counters that wrap: the board's milliseconds and microseconds, and record numbers, modulo 2^28. Protocol.

Owns the one difference that everything on the board uses, and the uptime that does not wrap. Must never read a clock.
Runs unchanged under CPython and MicroPython, allocates nothing: 2^28 stays a small integer on a 32-bit board.
"""

MASK = 0x0FFFFFFF
_HALF = 0x08000000


def diff(later, earlier):
    """later - earlier on a 28-bit counter: -2^27 to 2^27 - 1."""
    return (later - earlier + 0x08000000 & 0x0FFFFFFF) - 0x08000000


def add(count, delta):
    """count + delta on a 28-bit counter."""
    return count + delta & 0x0FFFFFFF


class Uptime:
    """Seconds and milliseconds since the start, carried across each wrap of the millisecond counter.

    Must be advanced at least once in 37 hours (half the counter's 74.5).
    """

    def __init__(self, now_ms):
        self.s = 0
        self.ms = 0
        self._last_ms = now_ms

    def advance(self, now_ms):
        """Bring `s` and `ms` to `now_ms`."""
        self.ms += diff(now_ms, self._last_ms)
        self._last_ms = now_ms
        while self.ms >= 1000:
            self.ms -= 1000
            self.s += 1
