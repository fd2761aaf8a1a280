"""What one bus met since it was last told, as a record: once a minute, and at once when its state changes. Policy.

Owns the counts that no sample carries: time in use, periods missed, another master's requests, strays, late replies.
Must never look at a clock, and allocates nothing after its construction.
"""

from protocols import link, octets
from protocols.ticks import diff

_EVERY_MS = 60000
_U16_MAX = 65535


class Tally:
    """One bus. `units` are the places in the plan of the units that `late` counts the late replies of."""

    def __init__(self, bus, units, overheard, now_ms):
        self.busy_us = 0
        self.late = bytearray(len(units))
        self._bus = bus
        self._units = units
        self._overheard = overheard
        self._body = bytearray(link.COUNTS_HEAD_BYTES + 2 * len(units))
        self._state = -1
        self._told_ms = now_ms
        self._overruns = 0
        self._requests = overheard.requests
        self._stray_bytes = overheard.stray_bytes

    def is_due(self, now_ms):
        """Whether there is something to tell."""
        return self._overheard.state != self._state or diff(now_ms, self._told_ms) >= _EVERY_MS

    def tell(self, recorder, overruns, now_ms, uptime):
        """Write the record, and begin anew. `overruns` are those since the start."""
        overheard = self._overheard
        body = self._body
        body[0] = self._bus
        body[1] = overheard.state
        at = octets.put_u28(body, 2, uptime.s)
        at = octets.put_u16(body, at, uptime.ms)
        at = octets.put_u16(body, at, min(diff(now_ms, self._told_ms), _U16_MAX))
        at = octets.put_u16(body, at, min(self.busy_us // 1000, _U16_MAX))
        at = octets.put_u16(body, at, min(diff(overruns, self._overruns), _U16_MAX))
        at = octets.put_u16(body, at, min(diff(overheard.requests, self._requests), _U16_MAX))
        at = octets.put_u16(body, at, min(max(diff(overheard.stray_bytes, self._stray_bytes), 0), _U16_MAX))
        unit = 0
        while unit < len(self._units) and at < link.COUNTS_MAX_BYTES:
            if self.late[unit]:
                body[at] = self._units[unit]
                body[at + 1] = self.late[unit]
                at += 2
                self.late[unit] = 0
            unit += 1
        recorder.told(link.COUNTS, body, at, overheard.state != self._state, now_ms)
        self._state = overheard.state
        self._told_ms = now_ms
        self._overruns = overruns
        self._requests = overheard.requests
        self._stray_bytes = overheard.stray_bytes
        self.busy_us = 0
