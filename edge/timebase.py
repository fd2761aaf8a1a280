"""Board uptime -> UTC, with its uncertainty. Policy.

Owns, for one boot of one board, the line that turns its uptime into UTC: fitted from pings with the shortest round
trips, replaced before it may be wrong by more than it claims, restarted when the trusted wall clock was stepped. One
that is trusted no longer is not asked: from its last word on the monotonic clock goes on. A time that was given is
never changed: each new line is a Clock record, and readings name the line that they were read by.
Must never read a clock: monotonic seconds, the wall clock and whether it is trusted are arguments.
"""

from dataclasses import dataclass, replace

from protocols.feeds.json_feed import DRIFT_PPM_MAX

WINDOW = 12  # pings; the best of them is believed
FAST_PINGS = 8  # the first ones, half a second apart
FAST_PING_S = 0.5
PING_S = 4.0
LOST_PING_S = 2.0
MARGIN_MS = 1  # rounding of both counters
DRIFT_SPAN_MS = 120_000  # a drift is fitted over at least this long
HOLDOVER_PPM = 50  # how fast a clock that nobody corrects is assumed to go wrong
_UNSURE_PPB = 100_000  # of a crystal that was not measured
_AGEING = _UNSURE_PPB / 1e9  # how fast an old ping loses its worth
_NEAR_MS = 10_000  # so far beside the pings a line claims no more than between them
_STEADY_PPB = 5_000  # how well a fitted drift holds where nobody looks: crystals mind the temperature


@dataclass(frozen=True, slots=True)
class Clock:
    """One line from uptime to UTC. Kind "unsynced" has no line: `utc_at_uptime_0_ms` and `err_ms` are None."""

    kind: str
    err_ms: int | None
    utc_at_uptime_0_ms: int | None
    drift_ppb: int

    def utc_ms(self, uptime_ms: int) -> int | None:
        """UTC of a moment of that boot, in integer arithmetic: the same on every machine."""
        if self.utc_at_uptime_0_ms is None:
            return None
        return self.utc_at_uptime_0_ms + uptime_ms + uptime_ms * self.drift_ppb // 1_000_000_000


UNSYNCED = Clock("unsynced", None, None, 0)


@dataclass(frozen=True, slots=True)
class _Ping:
    uptime_ms: int
    utc_ms: float
    err_ms: float


@dataclass(frozen=True, slots=True)
class _Pong:
    uptime_ms: int
    heard_s: float
    half_ms: float  # of the round trip


@dataclass(frozen=True, slots=True)
class _Drift:
    ppb: float
    certain_ppb: float  # it is off by no more

    def nearest(self, ppb: float) -> float:
        """What of this drift lies nearest to that one."""
        return min(max(ppb, self.ppb - self.certain_ppb), self.ppb + self.certain_ppb)


class Timebase:
    """One boot of one board: `pong` after each ping, `clock` in force."""

    def __init__(self, now_s: float, uptime_s: int = 0) -> None:
        self.clock = UNSYNCED
        self.began_s = now_s - uptime_s  # when this boot began, by the monotonic clock
        self.due_s = now_s  # when the next ping is wanted
        self._pings = 0
        self._window: list[_Ping] = []
        self._anchors: list[_Ping] = []  # the best of each full window, for the drift
        self._newest = _Pong(0, now_s, 0.0)
        self._synced: tuple[float, float] | None = None  # monotonic s and UTC when the wall clock was last trusted
        self._from_ms = self._to_ms = 0  # uptimes of the first and the newest ping that the line in force agrees with
        self._unsure_ppb = _UNSURE_PPB  # of its drift
        self._since_ms = 0  # uptime since which the line in force is of its kind

    @property
    def is_heard(self) -> bool:
        """Whether a ping was ever answered."""
        return self._pings > 0

    @property
    def since_ms(self) -> int | None:
        """UTC, by the line in force, since which there is one of its kind; None without one."""
        return self.clock.utc_ms(self._since_ms)

    def clock_at(self, *uptimes_ms: int) -> Clock:
        """The line in force, and what it claims so far from where it was measured: before its pings, or after them.

        By whole minutes, so that a backlog is read by few lines.
        """
        far_ms = max((max(self._from_ms - each, each - self._to_ms) for each in uptimes_ms), default=0)
        if self.clock.err_ms is None or far_ms <= _NEAR_MS:
            return self.clock
        more_ms = (far_ms // 60_000 + 1) * 60_000 * self._unsure_ppb // 1_000_000_000 + 1
        return replace(self.clock, err_ms=self.clock.err_ms + more_ms)

    def pinged(self, now_s: float) -> None:
        """A ping went out; another one follows if this is lost."""
        self.due_s = now_s + LOST_PING_S

    def pong(self, uptime_ms: int, sent_s: float, now_s: float, wall_ms: float, trusted: bool) -> bool:
        """The board's uptime, asked at `sent_s` and heard now, when the wall clock says `wall_ms`.

        True when a new line is in force.
        """
        self._pings += 1
        self.began_s = (sent_s + now_s) / 2 - uptime_ms / 1000
        self.due_s = now_s + (FAST_PING_S if self._pings < FAST_PINGS else PING_S)
        self._newest = _Pong(uptime_ms, now_s, (now_s - sent_s) * 500)
        if trusted:
            self._synced = now_s, wall_ms
        if self._synced is None:
            return False
        ping = self._ping(*self._synced)
        if self._is_step(ping):
            self._window.clear()
            self._anchors.clear()
        self._to_ms = uptime_ms
        self._window.append(ping)
        del self._window[:-WINDOW]
        best = min(self._window, key=lambda each: each.err_ms + (uptime_ms - each.uptime_ms) * _AGEING)
        if trusted and self._pings % WINDOW == 0:
            self._anchors.append(best)
            del self._anchors[:-60]
        return self._put_in_force(best, trusted)

    def date(self, now_s: float, wall_ms: float) -> bool:
        """The wall clock is trusted at last, and no more pongs come of this boot: by the newest there was.

        True when that gives it its line.
        """
        if not self.is_heard or self.clock != UNSYNCED:
            return False
        ping = self._ping(now_s, wall_ms)
        self._to_ms = ping.uptime_ms
        return self._put_in_force(ping, False)

    def _ping(self, synced_s: float, synced_ms: float) -> _Ping:
        """What the newest pong says, by what the wall clock said when it was trusted, and the monotonic clock."""
        pong, free_s = self._newest, self._newest.heard_s - synced_s
        err_ms = pong.half_ms + MARGIN_MS + abs(free_s) * HOLDOVER_PPM / 1000
        return _Ping(pong.uptime_ms, synced_ms + free_s * 1000 - pong.half_ms, err_ms)

    def _is_step(self, ping: _Ping) -> bool:
        """Whether this ping contradicts the line in force by more than both together allow."""
        expected = self.clock.utc_ms(ping.uptime_ms)
        if expected is None or self.clock.err_ms is None:
            return False
        return abs(ping.utc_ms - expected) > ping.err_ms + self.clock.err_ms + MARGIN_MS

    def _put_in_force(self, best: _Ping, trusted: bool) -> bool:
        drift = self._measured_drift(best)
        is_new = self._is_replaced(best, trusted, drift)
        if drift is not None:  # it is that of the line in force which may be wrong
            unsure_ppb = abs(self.clock.drift_ppb - drift.ppb) + drift.certain_ppb + _STEADY_PPB
            self._unsure_ppb = min(round(unsure_ppb), _UNSURE_PPB)
        return is_new

    def _is_replaced(self, best: _Ping, trusted: bool, drift: _Drift | None) -> bool:
        old = self.clock
        # No further than the pings demand: between slow ones a drift is known less well than that of before.
        drift_ppb = old.drift_ppb if drift is None else round(drift.nearest(old.drift_ppb))
        utc_at_0 = best.utc_ms - best.uptime_ms - best.uptime_ms * drift_ppb / 1e9
        kind = "synced" if trusted else "holdover"
        # What nobody can know now. A line claims twice that, so that it may be wrong by as much when it is replaced.
        ageing_ppb = self._unsure_ppb + (0 if trusted else HOLDOVER_PPM * 1000)
        unknown_ms = best.err_ms + (self._to_ms - best.uptime_ms) * ageing_ppb / 1e9
        clock = Clock(kind, int(2 * unknown_ms) + 1, round(utc_at_0), drift_ppb)
        if old.utc_at_uptime_0_ms is not None and old.err_ms is not None and old.kind == kind:
            moved_ms = abs((clock.utc_ms(best.uptime_ms) or 0) - (old.utc_ms(best.uptime_ms) or 0))
            if moved_ms + unknown_ms <= old.err_ms < 3 * unknown_ms + 1:
                return False  # the line in force is still as good as it says
        if clock.kind != old.kind:
            self._since_ms = self._to_ms
        self.clock = clock
        self._from_ms = best.uptime_ms
        return True

    def _measured_drift(self, best: _Ping) -> _Drift | None:
        if not self._anchors:
            return None
        first = self._anchors[0]
        span_ms = best.uptime_ms - first.uptime_ms
        if span_ms < DRIFT_SPAN_MS:
            return None
        drift_ppb = ((best.utc_ms - first.utc_ms) / span_ms - 1) * 1e9
        if abs(drift_ppb) > DRIFT_PPM_MAX * 1000:
            return None  # no crystal is as bad as that: the wall clock was moved
        return _Drift(drift_ppb, (best.err_ms + first.err_ms) / span_ms * 1e9)
