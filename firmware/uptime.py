"""The uptime that does not wrap, from a counter that does. Policy. Must never read a clock.

Allocates nothing after its construction.
"""

from protocols.ticks import diff


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
