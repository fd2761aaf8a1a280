"""Is it true? What a reading says about one condition, and since when that has held. Policy.

Owns the comparison of each kind of condition with its deadband, the gate of quality, and on- and off-delays in sample
time. A condition answers True, False or None; None means that this reading says nothing about it, so that what was
known stays: a BAD reading neither raises nor clears a process alarm. An UNCERTAIN one may raise, and never clears.
Must never look at a clock: `t_ms` is the time of a sample, on the one counter that does not jump.

Source: quality and alarms after NAMUR NE 107 as OPC UA maps it; enter at the limit, leave beyond the deadband.
"""

import statistics
from collections import deque
from collections.abc import Collection, Sequence
from dataclasses import dataclass

from protocols.model import BAD_CRC, NO_REPLY, OVER_RANGE, UNDER_RANGE, UNIT_REPLACED, WRONG_REPLY

HIGH = ("H", "HH")
UNHEARD = (NO_REPLY, BAD_CRC, WRONG_REPLY, UNIT_REPLACED)  # the detector itself has said nothing
NEVER_MS = 1 << 62


class Delayed:
    """One condition through time: it counts once it has held for `on_ms`, and no more once it has not for `off_ms`.

    While readings say nothing, delays stand still; what comes next decides, as if it had held all along. `lapses`: it
    becomes true by itself when for `on_ms` nothing said that it is not.
    """

    __slots__ = ("due_ms", "holds", "lapses", "off_ms", "on_ms", "since_ms")

    def __init__(self, on_ms: int, off_ms: int, lapses: bool = False) -> None:
        self.on_ms = on_ms
        self.off_ms = off_ms
        self.lapses = lapses
        self.holds = False  # delays and all
        self.since_ms: int | None = None  # when it began to be otherwise
        self.due_ms = NEVER_MS  # when that counts if nothing else is heard

    def told(self, truth: bool | None, t_ms: int) -> bool:
        """A reading says so; whether `holds` changed by it. What was due before must have been asked by `passed`."""
        if truth is None:
            self.due_ms = NEVER_MS
            return False
        if truth == self.holds:
            self.since_ms = None
            self.due_ms = NEVER_MS
            changed = False
        else:
            if self.since_ms is None:
                self.since_ms = t_ms
            self.due_ms = self.since_ms + (self.on_ms if truth else self.off_ms)
            changed = self.passed(t_ms)
        if self.lapses and not truth and not self.holds:
            self.since_ms = t_ms
            self.due_ms = t_ms + self.on_ms
        return changed

    def passed(self, t_ms: int) -> bool:
        """Time has come to `t_ms`; whether `holds` changed, at `due_ms` as it was before."""
        if self.due_ms > t_ms:
            return False
        self.holds = not self.holds
        self.since_ms = None
        self.due_ms = NEVER_MS
        return True


# The conditions of one point. Each tells what a reading says: `value` is None where its status is bad, `holds` is
# whether the condition counted before.


class Limit:
    """A value at or beyond its limit: H, HH above it, L, LL below. Over range is above every high limit."""

    __slots__ = ("beyond", "deadband", "is_high", "setpoint")

    def __init__(self, kind: str, setpoint: float, deadband: float) -> None:
        self.is_high = kind in HIGH
        self.setpoint = setpoint
        self.deadband = deadband
        self.beyond = OVER_RANGE if self.is_high else UNDER_RANGE

    def truth(self, _t_ms: int, value: float | None, status: int, holds: bool) -> bool | None:
        """What this reading says."""
        if status == self.beyond:
            return True
        if value is None:
            return None
        if self.is_high:
            is_true = value >= (self.setpoint - self.deadband if holds else self.setpoint)
        else:
            is_true = value <= (self.setpoint + self.deadband if holds else self.setpoint)
        return None if status >= OVER_RANGE and not is_true else is_true


class Status:
    """A reading of one of these statuses: a faulty sensor, a function check, a value over its range.

    Whoever is not heard is not well again by that: a lost poll between two faults is no end of the first.
    """

    __slots__ = ("statuses",)

    def __init__(self, statuses: Collection[int]) -> None:
        self.statuses = statuses

    def truth(self, _t_ms: int, _value: float | None, status: int, _holds: bool) -> bool | None:
        """What this reading says."""
        return None if status in UNHEARD else status in self.statuses


class Stale:
    """A reading without a value. It lapses: where nothing is read at all, it is true as well.

    Not one of the statuses `told_apart`: that detector answers, and what it says of itself is an alarm of its own.
    """

    __slots__ = ("told_apart",)

    def __init__(self, told_apart: Collection[int]) -> None:
        self.told_apart = told_apart

    def truth(self, _t_ms: int, value: float | None, status: int, _holds: bool) -> bool:
        """What this reading says."""
        return value is None and status not in self.told_apart


class Frozen:
    """A value that has been the same, to the last digit, for `window_ms`."""

    __slots__ = ("_since_ms", "_value", "window_ms")

    def __init__(self, window_ms: int) -> None:
        self.window_ms = window_ms
        self._value: float | None = None
        self._since_ms = 0

    def truth(self, t_ms: int, value: float | None, _status: int, _holds: bool) -> bool | None:
        """What this reading says."""
        if value is None:
            return None
        if value != self._value:
            self._value, self._since_ms = value, t_ms
        return t_ms - self._since_ms >= self.window_ms


class Trend:
    """A straight line through the good readings of the last `window_ms`, once they fill it without a hole.

    A hole is a fifth of the window: what lies before it may belong to another movement.
    """

    def __init__(self, window_ms: int) -> None:
        self.window_ms = window_ms
        self._readings: deque[tuple[int, float]] = deque()

    def line(self, t_ms: int, value: float | None, status: int) -> tuple[float, float] | None:
        """With this reading: rise a minute, and the value that the line has now; None while nothing can be said."""
        if value is None or status >= OVER_RANGE:
            return None
        readings = self._readings
        if readings and t_ms - readings[-1][0] > self.window_ms // 5:
            readings.clear()
        readings.append((t_ms, value))
        while t_ms - readings[0][0] > self.window_ms and t_ms - readings[1][0] >= self.window_ms:
            readings.popleft()
        if len(readings) < 3 or t_ms - readings[0][0] < self.window_ms:
            return None
        minutes = [(each_ms - t_ms) / 60_000 for each_ms, _value in readings]
        rise, here = statistics.linear_regression(minutes, [each for _t_ms, each in readings])
        return rise, here


class Rate:
    """A value that rises ("ROR") or falls ("ROF") by `setpoint` a minute or more."""

    def __init__(self, kind: str, setpoint: float, deadband: float, window_ms: int) -> None:
        self._sign = 1 if kind == "ROR" else -1
        self._setpoint = setpoint
        self._deadband = deadband
        self._trend = Trend(window_ms)

    def truth(self, t_ms: int, value: float | None, status: int, holds: bool) -> bool | None:
        """What the trend with this reading says."""
        line = self._trend.line(t_ms, value, status)
        if line is None:
            return None
        return self._sign * line[0] >= (self._setpoint - self._deadband if holds else self._setpoint)


class TimeTo:
    """A level that, rising as it does, comes to `level` within `setpoint` minutes; `minutes` are left."""

    def __init__(self, level: float, setpoint: float, deadband: float, window_ms: int) -> None:
        self._level = level
        self._setpoint = setpoint
        self._deadband = deadband
        self._trend = Trend(window_ms)
        self.minutes: float | None = None  # None: nothing is known; infinite: it does not rise

    def truth(self, t_ms: int, value: float | None, status: int, holds: bool) -> bool | None:
        """What the trend with this reading says."""
        line = self._trend.line(t_ms, value, status)
        if line is None:
            self.minutes = None
            return None
        rise, here = line
        if here >= self._level:
            self.minutes = 0.0
        else:
            self.minutes = (self._level - here) / rise if rise > 0 else float("inf")
        return self.minutes <= (self._setpoint + self._deadband if holds else self._setpoint)


class Deviation:
    """Two sensors of one quantity that differ by `setpoint` or more."""

    def __init__(self, setpoint: float, deadband: float) -> None:
        self._setpoint = setpoint
        self._deadband = deadband

    def truth(self, value: float | None, other: float | None, holds: bool) -> bool | None:
        """What their newest readings say; nothing while one of them has no value."""
        if value is None or other is None:
            return None
        return abs(value - other) >= (self._setpoint - self._deadband if holds else self._setpoint)


# What a member of a vote says.
HEALTHY = 0
IN_ALARM = 1
BAD = 2
IN_MAINTENANCE = 3
UNREAD = 4  # nothing came of it yet


@dataclass(frozen=True, slots=True)
class Vote:
    """`needed` members of an area in alarm. `bad_counts`: a BAD member counts as one; else the vote rests on fewer.

    One in maintenance is never counted as healthy: the vote rests on the others.
    """

    needed: int
    bad_counts: bool

    def rests_on(self, members: Sequence[int]) -> int:
        """How many members the vote counts."""
        return sum(each not in (IN_MAINTENANCE, UNREAD) and (self.bad_counts or each != BAD) for each in members)

    def truth(self, members: Sequence[int]) -> bool | None:
        """What they say together; nothing where nobody is left to vote, nor while those unread may turn it.

        Where fewer than needed are, all must agree.
        """
        unread = members.count(UNREAD)
        of = self.rests_on(members) + unread
        if not of:
            return None
        needed = min(self.needed, of)
        said = sum(each == IN_ALARM or (each == BAD and self.bad_counts) for each in members)
        return None if said < needed <= said + unread else said >= needed
