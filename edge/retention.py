"""What the store gives up, and when: by age and by size, in one declared order. Policy.

Owns that order. By age: readings after `readings_days`, events after `alarms_days`, counted from their commit in time
for which gateways ran on this store: no clock and no stamp makes anything old. Readings around an alarm of priority 1
or 2 stay as long as events do, set apart ("kept"). By size: the oldest readings, those set apart first where they take
more than a quarter, and only when there are none left the oldest events: a tenth of `max_bytes` is out of the readings'
reach. In memory, while there is no store: readings, then events, the oldest of each; what is left of those that were
there becomes one. What is given up is told as a Dropped, from which gap records are made; nothing that anybody lacks is
given up without one.
Must never delete anything.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import NamedTuple

from edge.batch import FILED_BYTES, Filed, Message
from protocols.model import StoreSettings

ALARM_SHARE = 10  # one part in so many of max_bytes is for events alone
AROUND_MS = 600_000  # readings so long before and after an alarm stay
KEPT_SHARE = 4  # one part in so many of what readings may take is out of the ordinary ones' reach
HEADROOM_BYTES = 10 << 20  # what is kept free inside the file while the disk around it is full
_DAY_S = 86_400
_LOT_S = 600  # by age in lots: each deletion rewrites pages
_LOT_PARTS = 200  # by size likewise: one part in so many of what may be used


class Usage(NamedTuple):
    """How much there is. `unused_bytes` lie within `file_bytes`; `is_full`: the disk took no more when last asked.

    The oldest are given by when they were committed, as `Store.lived_s` has it; None where there are none.
    """

    file_bytes: int
    unused_bytes: int
    disk_free_bytes: int
    is_full: bool
    oldest_ms: int | None  # UTC of the oldest readings whose time is known
    oldest_s: int | None
    oldest_event_s: int | None
    oldest_kept_s: int | None = None
    kept_bytes: int = 0


class Drop(NamedTuple):
    """What is to go: the oldest of this stream, of before that second, or else of so many bytes."""

    stream: str
    cause: str
    before_s: int | None
    bytes: int


@dataclass(slots=True)
class Dropped:
    """What that comes to: numbers by epoch, span and count of polls (of events: how many), batches up to an id.

    Of some that have a time and some that have none there is no span: it would leave out the others.
    """

    stream: str
    cause: str
    from_ms: int | None = None
    to_ms: int | None = None
    polls: int = 0
    numbers: dict[str, tuple[int, int]] = field(default_factory=dict)
    last_batch: int = 0
    is_timed: bool = True

    def add(self, from_ms: int | None, to_ms: int | None, polls: int) -> None:
        """More of it."""
        self.polls += polls
        self.is_timed &= from_ms is not None or not polls
        begins_ms, ends_ms = (
            [ms for ms in both if ms is not None and self.is_timed]
            for both in ((self.from_ms, from_ms), (self.to_ms, to_ms))
        )
        self.from_ms, self.to_ms = min(begins_ms, default=None), max(ends_ms, default=None)

    def add_number(self, epoch: str, seq: int) -> None:
        """One more message, of a higher number than those before."""
        first, _last = self.numbers.get(epoch, (seq, seq))
        self.numbers[epoch] = (first, seq)


def readings_max_bytes(keep: StoreSettings, log_bytes: int) -> int:
    """What may be used before readings are given up. `log_bytes`: what the write-ahead log may take beside the file."""
    return (keep.max_bytes - log_bytes) * (ALARM_SHARE - 1) // ALARM_SHARE


def drop_due(usage: Usage, keep: StoreSettings, log_bytes: int, lived_s: int) -> Drop | None:
    """What is to go now, the first of it. `lived_s`: how old the store is by now, as `Store.lived_s` has it."""
    for stream, oldest_s, days in (
        ("data", usage.oldest_s, keep.readings_days),
        ("event", usage.oldest_event_s, keep.alarms_days),
        ("kept", usage.oldest_kept_s, keep.alarms_days),
    ):
        before_s = lived_s - days * _DAY_S
        if oldest_s is not None and oldest_s < before_s - _LOT_S:
            return Drop(stream, "retention", before_s, 0)
    used_bytes = usage.file_bytes - usage.unused_bytes
    too_much = max(used_bytes - readings_max_bytes(keep, log_bytes), _to_go_for_room(usage, log_bytes))
    is_much_kept = usage.kept_bytes * KEPT_SHARE > readings_max_bytes(keep, log_bytes)
    has_readings = usage.oldest_s is not None
    if too_much > 0 and (has_readings or usage.kept_bytes):
        stream = "data" if has_readings and not is_much_kept else "kept"
        return Drop(stream, "disk_quota", None, too_much + used_bytes // _LOT_PARTS)
    too_much = used_bytes - (keep.max_bytes - log_bytes) * (_LOT_PARTS - 1) // _LOT_PARTS
    if too_much > 0:
        return Drop("event", "disk_quota", None, too_much + used_bytes // _LOT_PARTS)
    return None


def _to_go_for_room(usage: Usage, log_bytes: int) -> int:
    """While others have filled the disk the file cannot grow: what is freed inside it is written again.

    A small file has nothing to give: then somebody must make room.
    """
    if not usage.is_full or usage.file_bytes < 4 * HEADROOM_BYTES:
        return 0
    return HEADROOM_BYTES - usage.unused_bytes - max(usage.disk_free_bytes - 2 * log_bytes, 0)


class Shrunk(NamedTuple):
    """So many groups, the oldest, became one batch without readings. `dropped`: what was given up for it."""

    groups: int
    batch: Filed
    dropped: list[Dropped]


def shrink(groups: Sequence[Sequence[Filed]], too_much_bytes: int, epoch: str) -> Shrunk:
    """Give up so much of what waits in memory for a disk, if there is so much. There is one group or more.

    The one that is left has the events, and what is to be known after a restart: a group that is empty takes room too.
    """
    data, event = Dropped("data", "disk_fault"), Dropped("event", "disk_fault")
    old: list[Filed] = []
    count, freed_bytes = 0, -FILED_BYTES  # of the one that is left
    for group in groups:
        if freed_bytes >= too_much_bytes:
            break
        count += 1
        old += group
        for each in group:
            freed_bytes += each.bytes
            data.add(each.from_ms, each.to_ms, each.polls)
            for message in each.messages:
                if message.stream == "data":
                    data.add_number(epoch, message.seq)
                else:
                    freed_bytes -= message.bytes
    one = _as_one(old)
    messages = iter(one.messages)
    while freed_bytes < too_much_bytes and (oldest := next(messages, None)) is not None:
        freed_bytes += oldest.bytes
        event.add(None, None, 1)
        event.add_number(epoch, oldest.seq)
    dropped = [each for each in (data, event) if each.polls or each.numbers]
    return Shrunk(count, replace(one, messages=tuple(messages)), dropped)


def _as_one(batches: Sequence[Filed]) -> Filed:
    """Their events, and of all else the newest."""
    events: list[Message] = [message for each in batches for message in each.messages if message.stream == "event"]
    return Filed(
        birth=batches[-1].birth,
        readings=None,
        polls=0,
        from_ms=None,
        to_ms=None,
        taken=tuple({mark.board: mark for each in batches for mark in each.taken}.values()),
        messages=tuple(events),
        held=tuple({held[:-2]: held for each in batches for held in each.held}.values()),
        alarms=tuple({kept.alarm: kept for each in batches for kept in each.alarms}.values()),
        bypasses=next((each.bypasses for each in reversed(batches) if each.bypasses is not None), None),
        raised_ms=_needed(t_ms for each in batches for t_ms in each.raised_ms),
    )


def _needed(raised_ms: Iterable[int]) -> tuple[int, ...]:
    """Those without which readings around them would not stay: two in twenty minutes at most."""
    needed: list[int] = []
    for t_ms in sorted(raised_ms):
        if len(needed) > 1 and t_ms - needed[-2] <= 2 * AROUND_MS:
            needed.pop()
        needed.append(t_ms)
    return tuple(needed)
