"""What to send next to one destination, and what each answer and each connection means. Policy.

Owns, for every (epoch, stream), which messages the destination has acknowledged; all others are pending, and
every pending message is sent, and sent again, until it is acknowledged. Events go before data, what has just
happened before what is late, each epoch in its order. Late is what was committed while there was no
connection, or was on its way when one broke; after a restart that is everything pending.

A reason code of 0x80 or more is a refusal: the message stays pending and is tried again RETRY_S later. Data
has one topic, so a refusal holds back all data meanwhile; events have one topic a kind, so a refused gap
holds back no alarm. Must never send, wait or look at a clock.
"""

from collections import Counter
from collections.abc import Iterable, Mapping

from protocols.feeds.sequence import Ranges

WINDOW = 20  # messages on their way, also where the broker would take more
RETRY_S = 60.0
PENDING_RANGES_MAX = 1000
REFUSED = 0x80
STREAMS = ("event", "data")  # in the order of sending

Key = tuple[str, str, int]  # epoch, stream, seq
Stream = tuple[str, str]  # epoch, stream


class Forward:
    """One destination. `acknowledged` (ranges) and `known` (last number of each stream) are what the store kept."""

    def __init__(
        self,
        acknowledged: Mapping[Stream, Iterable[tuple[int, int]]],
        known: Mapping[str, Mapping[str, int]],
    ) -> None:
        self.acknowledged_count = 0  # since the start of this process
        self.dirty = False  # whether `positions` has something new
        self._known: dict[Stream, int] = {}
        self._acknowledged: dict[Stream, Ranges] = {}
        self._changed: set[Stream] = set()
        self._live = {stream: _Lane() for stream in STREAMS}
        self._late = {stream: _Lane() for stream in STREAMS}
        self._refused = {stream: _Lane() for stream in STREAMS}
        self._retry_s = dict.fromkeys(STREAMS, float("inf"))
        self._refusals: Counter[int] = Counter()
        self._in_flight: set[Key] = set()
        self._window = 0  # 0: not connected
        for epoch, streams in known.items():
            for stream, last in streams.items():
                done = self._acknowledged[epoch, stream] = Ranges()
                for span in acknowledged.get((epoch, stream), ()):
                    done.add(*span)
                self._known[epoch, stream] = last
                for first, end in done.missing(last):
                    self._late[stream].add(epoch, first, end)

    # --- what happens ---------------------------------------------------------------------------------------

    def committed(self, epoch: str, stream: str, first: int, last: int) -> None:
        """These messages are on disk and may be sent."""
        self._known[epoch, stream] = last
        self._acknowledged.setdefault((epoch, stream), Ranges())
        lane = self._live if self._window else self._late
        lane[stream].add(epoch, first, last)

    def connected(self, now_s: float, receive_maximum: int) -> None:
        """A connection on which the broker takes this many unacknowledged messages; nothing is on its way yet."""
        self.disconnected(now_s)
        self._window = min(WINDOW, receive_maximum)

    def disconnected(self, now_s: float) -> None:
        """No connection: whether what was on its way arrived is not known, so it is sent again."""
        self._window = 0
        for epoch, stream, seq in self._in_flight:
            self._late[stream].add(epoch, seq, seq)
        self._in_flight.clear()
        for stream in STREAMS:
            self._live[stream].move_to(self._late[stream])

    def acknowledged(self, key: Key, reason_code: int, now_s: float) -> None:
        """The broker's answer to a message; one that is not on its way (any more) is ignored."""
        if key not in self._in_flight:
            return
        epoch, stream, seq = key
        if reason_code < REFUSED:
            self.acknowledged_count += 1
            self._done(key)
            return
        self._in_flight.remove(key)
        self._refusals[reason_code] += 1
        self._refused[stream].add(epoch, seq, seq)
        self._retry_s[stream] = min(self._retry_s[stream], now_s + RETRY_S)

    def gone(self, key: Key) -> None:
        """A message that `next` gave is not kept any more: it is never sent."""
        self._done(key)

    def _done(self, key: Key) -> None:
        epoch, stream, seq = key
        self._in_flight.remove(key)
        self._acknowledged[epoch, stream].add(seq, seq)
        self._changed.add((epoch, stream))
        self.dirty = True

    # --- what to do -----------------------------------------------------------------------------------------

    def next(self, now_s: float) -> tuple[str, str, int, bool] | None:
        """(epoch, stream, seq, late) of the message to send now, from now on on its way; None: wait."""
        if len(self._in_flight) >= self._window:
            return None
        for stream in STREAMS:
            if now_s >= self._retry_s[stream]:
                self._retry_s[stream] = float("inf")
                self._refused[stream].move_to(self._late[stream])
            if stream == "data" and self._refused[stream]:
                continue
            for lane, late in ((self._live[stream], False), (self._late[stream], True)):
                if lane:
                    epoch, seq = lane.take()
                    self._in_flight.add((epoch, stream, seq))
                    return epoch, stream, seq, late
        return None

    def due_s(self) -> float:
        """When `next` may have something although nothing happened."""
        return min(self._retry_s.values()) if len(self._in_flight) < self._window else float("inf")

    def positions(self) -> dict[Stream, list[tuple[int, int]]]:
        """The acknowledged ranges of each stream that changed since the last call, to be kept by the store."""
        changed = {stream: list(self._acknowledged[stream]) for stream in sorted(self._changed)}
        self._changed.clear()
        self.dirty = False
        return changed

    # --- what is known --------------------------------------------------------------------------------------

    def pending(self, epoch: str, stream: str) -> list[tuple[int, int]]:
        """Ranges not yet acknowledged. Were there too many, the last one covers the rest: a doubt, never a loss."""
        last = self._known.get((epoch, stream), 0)
        ranges = list(self._acknowledged[epoch, stream].missing(last)) if last else []
        if len(ranges) > PENDING_RANGES_MAX:
            ranges[PENDING_RANGES_MAX - 1 :] = [(ranges[PENDING_RANGES_MAX - 1][0], ranges[-1][1])]
        return ranges

    def backlog(self) -> int:
        """Messages not yet acknowledged."""
        return sum(last - self._acknowledged[stream].count() for stream, last in self._known.items())

    def in_flight(self) -> int:
        """Messages sent and not yet answered."""
        return len(self._in_flight)

    def refused(self) -> dict[int, int]:
        """How often the broker refused, by reason code."""
        return dict(self._refusals)


class _Lane:
    """Messages of one stream that wait: epoch by epoch, each from its lowest number."""

    def __init__(self) -> None:
        self._epochs: dict[str, Ranges] = {}

    def __bool__(self) -> bool:
        return bool(self._epochs)

    def add(self, epoch: str, first: int, last: int) -> None:
        self._epochs.setdefault(epoch, Ranges()).add(first, last)

    def take(self) -> tuple[str, int]:
        epoch, ranges = next(iter(self._epochs.items()))
        seq = ranges.take()
        if not ranges:
            del self._epochs[epoch]
        return epoch, seq

    def move_to(self, other: "_Lane") -> None:
        for epoch, ranges in self._epochs.items():
            for span in ranges:
                other.add(epoch, *span)
        self._epochs.clear()
