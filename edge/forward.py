"""What to send next to one destination, and what each answer, receipt and connection means. Policy.

Owns, for every (epoch, stream), two marks: which messages the broker has acknowledged, and, where the destination gives
receipts, which the receiver has in its database. What the last of them has not is pending, and every pending message is
sent, and sent again, until it has. Events go before data, what has just happened before what is late, each epoch in its
order. Late is what was committed while there was no connection, or was on its way when one broke; after a restart that
is everything pending.

A broker's word alone is not believed where receipts are awaited: a broker that is killed loses what it acknowledged.
So what it acknowledged is sent again when the receipt names it missing, when the broker has forgotten our session, and
when receipts go on coming after a lost connection but stop short of it for DOUBT_S.

A reason code of 0x80 or more is a refusal: the message stays pending and is tried again RETRY_S later. Data has one
topic, so a refusal holds back all data meanwhile; events have one topic a kind, so a refused gap holds back no alarm.
What cannot be read is tried again as late, and holds back nothing; nor does a message that is too large for the broker:
it stays pending, set aside until the next connection. History never takes all of the window, and is paced, so that what
has just happened finds room at once. Must never send, wait or look at a clock.
"""

from collections import deque
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

from protocols.feeds.sequence import Ranges

WINDOW = 20  # messages on their way, also where the broker would take more
LATE_SHARE = 4  # so many-th part of them for what is late
LATE_PER_S = 200.0  # a day of batches, one a second, in seven minutes
LATE_AT_ONCE_S = 0.05  # what is late may be ahead of that pace by so much
RETRY_S = 60.0
DOUBT_S = 30.0  # a receiver writes a receipt each 5 s
ASKED_S = 60.0  # what a receipt names missing is on its way for so long; then it is sent once more
PENDING_RANGES_MAX = 1000
PACE_S = 60.0
REFUSED = 0x80
_NEVER = 1 << 53  # no number of a message is as large
TOO_LARGE = 0x95
STREAMS = ("event", "data")  # in the order of sending
BROKER, RECEIPT = "broker", "receipt"  # the two marks

Key = tuple[str, str, int]  # epoch, stream, seq
Stream = tuple[str, str]  # epoch, stream
Span = tuple[int, int]


class Receipted(NamedTuple):
    """What a receipt asks for that is not kept any more, and whether it has what was never made here."""

    gone: list[tuple[str, str, str, int, int]]  # why, epoch, stream, first, last
    is_ahead: bool


class Forward:
    """One destination. `marks` (ranges by epoch, stream and mark) and `known` (first and last number kept of each
    stream) are what the store has.
    """

    def __init__(
        self,
        marks: Mapping[tuple[str, str, str], Iterable[Span]],
        known: Mapping[str, Mapping[str, Span]],
        awaits_receipts: bool = False,
    ) -> None:
        self.awaits_receipts = awaits_receipts
        self.acknowledged_count = 0  # since the start of this process
        self.dirty = False  # whether `positions` has something new
        self._known: dict[Stream, int] = {}
        self._oldest: dict[Stream, int] = {}
        self._oldest_epoch = ""  # of those in the store when it was read
        self._marks: dict[str, dict[Stream, Ranges]] = {BROKER: {}, RECEIPT: {}}
        self._changed: set[Stream] = set()
        self._live = {stream: _Lane() for stream in STREAMS}
        self._late = {stream: _Lane() for stream in STREAMS}
        self._refused = {stream: _Lane() for stream in STREAMS}
        self._unread = {stream: _Lane() for stream in STREAMS}
        self._set_aside = {stream: _Lane() for stream in STREAMS}  # too large for this connection
        self._lanes = self._live, self._late, self._refused, self._unread, self._set_aside
        self._late_in_flight: set[Key] = set()
        self._pace_s = 0.0  # when the next late message is due, or would be
        self._held_s = float("inf")  # until when `next` held history back for the pace's sake
        self._retry_s = dict.fromkeys(STREAMS, float("inf"))
        self._in_flight: set[Key] = set()
        self._window = 0  # 0: not connected
        # Acknowledged over an earlier connection, and not receipted; and when that has been so for too long.
        self._doubted: dict[Stream, tuple[Ranges, float]] = {}
        self._doubt_s = float("inf")  # when that is, of what nothing more is heard
        self._asked: dict[Stream, Ranges] = {}  # by a receipt, and sent again
        self._asked_s = float("inf")
        self._told_gone: dict[Stream, Ranges] = {}
        self._receipt_ms: int | None = None
        self.learn(marks, known)

    def learn(
        self, marks: Mapping[tuple[str, str, str], Iterable[Span]], known: Mapping[str, Mapping[str, Span]]
    ) -> None:
        """What a store has of epochs that were not known until now: it opened late. `known`: oldest first."""
        self._oldest_epoch = next(iter(known), "")
        for epoch, streams in known.items():
            for stream, (first, last) in streams.items():
                if (epoch, stream) in self._known:
                    continue
                which = (epoch, stream)
                if not last:  # nothing of it is kept any more: only the marks tell how much there was
                    last = max((end for mark in self._marks for _, end in marks.get((*which, mark), ())), default=0)
                    first = last + 1
                for mark, of_streams in self._marks.items():
                    of_streams[which] = Ranges([(1, first - 1), *marks.get((*which, mark), ())])
                acknowledged, receipted = self._marks[BROKER][which], self._marks[RECEIPT][which]
                for span in receipted:
                    acknowledged.add(*span)
                self._known[which], self._oldest[which] = last, first
                for span in acknowledged.missing(last):
                    self._late[stream].add(epoch, *span)
                self._doubt([which])  # it was acknowledged over an earlier connection

    # --- what happens ---------------------------------------------------------------------------------------

    def committed(self, epoch: str, stream: str, first: int, last: int) -> None:
        """These messages may be sent: they are on disk, or there is no disk."""
        self._known[epoch, stream] = last
        self._oldest.setdefault((epoch, stream), first)
        for of_streams in self._marks.values():
            of_streams.setdefault((epoch, stream), Ranges())
        lane = self._live if self._window else self._late
        lane[stream].add(epoch, first, last)

    def connected(self, now_s: float, receive_maximum: int, session_present: bool = True) -> None:
        """A connection on which the broker takes this many unacknowledged messages; nothing is on its way yet."""
        self.disconnected(now_s)
        self._window = min(WINDOW, receive_maximum)
        for stream in STREAMS:
            self._set_aside[stream].move_to(self._late[stream])
        self._asked.clear()
        self._doubt_s = float("inf") if session_present else now_s
        self._doubted.clear()
        self._doubt(self._known)

    def _doubt(self, streams: Iterable[Stream]) -> None:
        for which in streams:
            if rest := self._unreceipted(which):
                self._doubted[which] = rest, self._doubt_s

    def _unreceipted(self, which: Stream) -> Ranges:
        """What only the broker has acknowledged."""
        if not self.awaits_receipts:
            return Ranges()
        return self._marks[BROKER][which].without(self._marks[RECEIPT][which])

    def _send_doubted_again(self, now_s: float) -> None:
        for which in [which for which, (_ranges, due_s) in self._doubted.items() if now_s >= due_s]:
            ranges, _due_s = self._doubted.pop(which)
            self._send_again(which, ranges.without(self._marks[RECEIPT][which]))

    def _send_again(self, which: Stream, ranges: Ranges) -> None:
        """The broker's word for these does not count any more."""
        epoch, stream = which
        on_its_way = [(seq, seq) for of, name, seq in self._in_flight if (of, name) == which]
        again = ranges.without(on_its_way)
        if again:
            self._marks[BROKER][which] = self._marks[BROKER][which].without(again)
            self._change(which)
        for span in again:
            self._late[stream].add(epoch, *span)

    def disconnected(self, now_s: float) -> None:
        """No connection: whether what was on its way arrived is not known, so it is sent again."""
        self._window = 0
        for epoch, stream, seq in self._in_flight:
            self._late[stream].add(epoch, seq, seq)
        self._in_flight.clear()
        self._late_in_flight.clear()
        for stream in STREAMS:
            self._live[stream].move_to(self._late[stream])

    def acknowledged(self, key: Key, reason_code: int, now_s: float) -> None:
        """The broker's answer to a message; one that is not on its way (any more) is ignored."""
        if key not in self._in_flight:
            return
        if reason_code < REFUSED:
            self._answered(key)
            self.acknowledged_count += 1
            epoch, stream, seq = key
            self._marks[BROKER][epoch, stream].add(seq, seq)
            self._change((epoch, stream))
            return
        if reason_code == TOO_LARGE:
            self._answered(key)
            self._set_aside[key[1]].add(key[0], key[2], key[2])
        else:
            self._try_later(self._refused, key, now_s)

    def _answered(self, key: Key) -> None:
        self._in_flight.remove(key)
        self._late_in_flight.discard(key)

    def put_off(self, key: Key, now_s: float) -> None:
        """A message that `next` gave cannot be read now: RETRY_S later."""
        self._try_later(self._unread, key, now_s)

    def _try_later(self, lanes: Mapping[str, "_Lane"], key: Key, now_s: float) -> None:
        self._answered(key)
        epoch, stream, seq = key
        lanes[stream].add(epoch, seq, seq)
        self._retry_s[stream] = min(self._retry_s[stream], now_s + RETRY_S)

    def gone(self, key: Key) -> None:
        """A message that `next` gave is not kept any more: it is never sent."""
        self._answered(key)
        epoch, stream, seq = key
        self._settle((epoch, stream), [(seq, seq)])

    def dropped(self, epoch: str, stream: str, first: int, last: int) -> list[Span]:
        """These are not kept any more, mostly the oldest there are: those of them that were pending."""
        which = (epoch, stream)
        if which not in self._known:
            return []
        if first <= self._oldest[which] <= last:
            self._oldest[which] = last + 1
        pending = Ranges([(first, last)]).without(self._settled(which))
        self._settle(which, [(first, last)])
        for lane in self._lanes:
            lane[stream].remove(epoch, [(first, last)])
        return list(pending)

    def _settle(self, which: Stream, spans: Iterable[Span]) -> None:
        for span in spans:
            for of_streams in self._marks.values():
                of_streams[which].add(*span)
        self._change(which)

    def _change(self, which: Stream) -> None:
        self._changed.add(which)
        self.dirty = True

    def receipt(
        self, epochs: Mapping[str, Mapping[str, tuple[int, list[Span]]]], at_ms: int, now_s: float, current: str = ""
    ) -> Receipted:
        """What the receiver has in its database: of each stream all up to a number, but for what it names missing.

        The retained one, which every connection brings first, is known by its time: no news from a receiver.
        `current`: the epoch that is still being made. What is missing of it beyond its last number never was.
        """
        is_news = self._receipt_ms is not None and at_ms > self._receipt_ms
        self._receipt_ms = at_ms
        gone: list[tuple[str, str, str, int, int]] = []
        is_ahead = False
        for epoch, streams in epochs.items():
            for stream, (committed, missing) in streams.items():
                which = (epoch, stream)
                if which not in self._known:
                    is_strange = self._is_strange(epoch)
                    is_ahead |= is_strange
                    gone += self._not_kept("disk_fault" if is_strange else "retention", which, missing)
                    continue
                is_ahead |= committed > self._known[which]
                self._cover(which, committed, missing, now_s)
                if is_news:
                    self._doubt_less(which, now_s)
                if not missing:  # as of nearly all
                    continue
                gone += self._not_kept("retention", which, Ranges(missing).without([(self._oldest[which], _NEVER)]))
                if epoch != current:  # an older copy of the store took the place of the one that made them
                    gone += self._not_kept("disk_fault", which, Ranges(missing).without([(1, self._known[which])]))
        return Receipted(gone, is_ahead)

    def _is_strange(self, epoch: str) -> bool:
        """Whether a store made it that knew more than this one: each begins beyond those that it has, and retention
        takes the oldest.
        """
        return "" < self._oldest_epoch < epoch

    def _doubt_less(self, which: Stream, now_s: float) -> None:
        """A receiver is at work: what it has not got to DOUBT_S after its last progress there, it will not get to."""
        if which not in self._doubted:
            return
        before, due_s = self._doubted[which]
        rest = before.without(self._marks[RECEIPT][which])
        if not rest:
            del self._doubted[which]
        elif due_s == float("inf") or rest.count() < before.count():
            self._doubted[which] = (rest, now_s + DOUBT_S)

    def _cover(self, which: Stream, committed: int, missing: list[Span], now_s: float) -> None:
        epoch, stream = which
        receipted, oldest = self._marks[RECEIPT][which], self._oldest[which]
        if not missing and not any(receipted.missing(min(committed, self._known[which]))):
            return  # nothing is new: of epochs that are over each receipt says so again
        lacks = Ranges(missing).without([(1, oldest - 1)])
        has = Ranges([(1, min(committed, self._known[which]))]).without(lacks)
        new = has.without(receipted)
        for span in new:
            receipted.add(*span)
            self._marks[BROKER][which].add(*span)
        self._marks[RECEIPT][which] = receipted.without(lacks)
        if new:
            for lane in self._lanes:
                lane[stream].remove(epoch, new)
            self._change(which)
        if now_s >= self._asked_s:
            self._asked.clear()
            self._asked_s = float("inf")
        asked = self._asked.setdefault(which, Ranges())
        again = lacks.without(asked, [(self._known[which] + 1, _NEVER)])
        if again:
            self._asked_s = min(self._asked_s, now_s + ASKED_S)
            for span in again:
                asked.add(*span)
            self._send_again(which, again)

    def _not_kept(self, why: str, which: Stream, missing: Iterable[Span]) -> list[tuple[str, str, str, int, int]]:
        """Told once."""
        told = self._told_gone.setdefault(which, Ranges())
        new = Ranges(missing).without(told)
        for span in new:
            told.add(*span)
        return [(why, *which, *span) for span in new]

    # --- what to do -----------------------------------------------------------------------------------------

    def next(
        self, now_s: float, readable: Mapping[Stream, Ranges] | None = None
    ) -> tuple[str, str, int, bool] | None:
        """(epoch, stream, seq, late) of the message to send now, from now on on its way; None: wait.

        While history cannot be read, `readable` has the numbers of each stream that can be sent all the same.
        """
        self._held_s = float("inf")
        if len(self._in_flight) >= self._window:
            return None
        if self._doubted:
            self._send_doubted_again(now_s)
        for stream in STREAMS:
            if now_s >= self._retry_s[stream]:
                self._retry_s[stream] = float("inf")
                for lane in (self._refused, self._unread):
                    lane[stream].move_to(self._late[stream])
            if stream == "data" and self._refused[stream]:
                continue
            taken = self._live[stream].take(stream, readable)
            is_late = taken is None
            if is_late and now_s < self._pace_s - LATE_AT_ONCE_S:
                self._held_s = self._pace_s - LATE_AT_ONCE_S if self._late[stream] else self._held_s
            elif is_late and len(self._late_in_flight) < max(1, self._window // LATE_SHARE):
                taken = self._late[stream].take(stream, readable)
            if taken is not None:
                key = taken[0], stream, taken[1]
                self._in_flight.add(key)
                if is_late:
                    self._late_in_flight.add(key)
                    self._pace_s = max(self._pace_s, now_s) + 1 / LATE_PER_S
                return *key, is_late
        return None

    def due_s(self) -> float:
        """When `next` may have something although nothing happened."""
        if len(self._in_flight) >= self._window:
            return float("inf")
        return min(self._held_s, *self._retry_s.values(), *(due_s for _ranges, due_s in self._doubted.values()))

    def positions(self) -> dict[tuple[str, str, str], list[Span]]:
        """The marks of each stream that changed since the last call, to be kept by the store.

        Were there too many ranges, only the first ones are kept: the others are sent again after a restart.
        """
        changed = {
            (*which, mark): list(of_streams[which])[:PENDING_RANGES_MAX]
            for which in sorted(self._changed)
            for mark, of_streams in self._marks.items()
            if mark == BROKER or self.awaits_receipts
        }
        self._changed.clear()
        self.dirty = False
        return changed

    # --- what is known --------------------------------------------------------------------------------------

    def _settled(self, which: Stream) -> Ranges:
        return self._marks[RECEIPT if self.awaits_receipts else BROKER][which]

    def pending(self, epoch: str, stream: str) -> list[Span]:
        """Ranges not yet safe. Were there too many, the last one covers the rest: a doubt, never a loss."""
        last = self._known.get((epoch, stream), 0)
        return Ranges(self._settled((epoch, stream)).missing(last)).at_most(PENDING_RANGES_MAX) if last else []

    def receipted(self, epoch: str, stream: str) -> int | None:
        """Up to here everything is in the receiver's database; None where this destination gives no receipts."""
        if not self.awaits_receipts or (epoch, stream) not in self._known:
            return None
        first = next(self._marks[RECEIPT][epoch, stream].missing(self._known[epoch, stream] + 1))
        return first[0] - 1

    def oldest_kept(self, epoch: str, stream: str) -> int:
        """The first number that can be sent again."""
        return self._oldest.get((epoch, stream), 1)

    def backlog(self, mark: str | None = None) -> int:
        """Messages that one of the marks has not reached: without a name the one that counts."""
        return sum(
            last - (self._marks[mark][which] if mark else self._settled(which)).count()
            for which, last in self._known.items()
        )

    def streams(self) -> list[dict[str, Any]]:
        """What is to come of each stream that has something to come, in the order of their age."""
        return [
            {
                "epoch": epoch,
                "stream": stream,
                "made": last,
                "to_send": last - self._marks[BROKER][epoch, stream].count(),
                "to_be_receipted": last - self._marks[RECEIPT][epoch, stream].count() if self.awaits_receipts else None,
                "pending": pending,
            }
            for (epoch, stream), last in sorted(self._known.items())
            if (pending := self.pending(epoch, stream))
        ]

    def in_flight(self) -> int:
        """Messages sent and not yet answered."""
        return len(self._in_flight)

    def unacknowledged(self, which: Stream, messages: Ranges) -> Ranges:
        """Those of them that are kept, and that the broker has not taken."""
        return messages.without(self._marks[BROKER][which])


class Pace:
    """How fast a count grows: told `note` now and then, `per_s` over the last PACE_S."""

    def __init__(self) -> None:
        self._noted: deque[tuple[float, float]] = deque()

    def note(self, now_s: float, count: float) -> None:
        """The count as it stands."""
        self._noted.append((now_s, count))
        while len(self._noted) > 2 and now_s - self._noted[1][0] >= PACE_S:
            self._noted.popleft()

    @property
    def per_s(self) -> float:
        """0 until it has been told twice."""
        if len(self._noted) < 2:
            return 0.0
        (since_s, before), (now_s, count) = self._noted[0], self._noted[-1]
        return (count - before) / max(now_s - since_s, 0.001)


class _Lane:
    """Messages of one stream that wait: epoch by epoch, each from its lowest number."""

    def __init__(self) -> None:
        self._epochs: dict[str, Ranges] = {}

    def __bool__(self) -> bool:
        return bool(self._epochs)

    def add(self, epoch: str, first: int, last: int) -> None:
        self._epochs.setdefault(epoch, Ranges()).add(first, last)

    def remove(self, epoch: str, spans: Iterable[Span]) -> None:
        if epoch in self._epochs:
            rest = self._epochs[epoch].without(spans)
            if rest:
                self._epochs[epoch] = rest
            else:
                del self._epochs[epoch]

    def take(self, stream: str, readable: Mapping[Stream, Ranges] | None) -> tuple[str, int] | None:
        """The first number that can be read."""
        for epoch, ranges in self._epochs.items():
            for span in [()] if readable is None else readable.get((epoch, stream), ()):
                seq = ranges.take(*span)
                if seq is not None:
                    if not ranges:
                        del self._epochs[epoch]
                    return epoch, seq
        return None

    def move_to(self, other: "_Lane") -> None:
        for epoch, ranges in self._epochs.items():
            for span in ranges:
                other.add(epoch, *span)
        self._epochs.clear()
