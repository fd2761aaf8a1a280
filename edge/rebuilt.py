"""The last minutes of each bus, rebuilt from its samples, for whoever must find out why a unit went bad. Policy.

The gateway never sees a bus: its boards do. A request is known from the plan; a reply from the registers that came, or
of a failed poll from the bytes that did come. Times are the board's, to the millisecond. What a board saw besides, the
first try of a poll that was asked twice above all, is told by a comment at most. So a capture of these says of itself
that it is rebuilt. Must never cost more than a place in a list for a sample; what is written is made elsewhere.
"""

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import NamedTuple

from edge.statistics import LATELY, OUTCOMES, Unit
from edge.troubles import GARBAGE, NO_REPLY, unit_trouble
from protocols import link, modbus, modbus_edge, trace
from protocols.link_edge import reply_ms
from protocols.model import Line
from protocols.trace import RECEIVED, SENT, Frame, Port

RING_BYTES = 256 * 1024  # of each bus: four minutes at ten polls a second
AGAIN_S = 300.0  # how soon a bus is worth another capture
REMARK = "rebuilt from samples: times to 1 ms; not on it are first tries, late replies, other masters"
_STEP_US = 1_000_000
_SAMPLE_BYTES = 100  # what Python needs for one, besides its registers


class Kept(NamedTuple):
    """One poll: its request, when it ended, and the sample's body as link.SAMPLE lays it down."""

    request: bytes
    ended_ms: int
    body: bytes


@dataclass(frozen=True, slots=True)
class WentBad:
    """A unit that was good has this trouble now; `kept`: its bus's last minutes."""

    bus: str
    unit_id: int
    trouble: str
    kept: tuple[Kept, ...]


@dataclass(slots=True)
class _Ring:
    kept: deque[Kept] = field(default_factory=deque)
    size_bytes: int = 0
    captured_s: float = float("-inf")


class Rebuilt:
    """All buses of a gateway. `went_bad` gathers what is to be written; take it away."""

    def __init__(self) -> None:
        self.went_bad: list[WentBad] = []
        self._rings: dict[str, _Ring] = {}
        self._failing: set[tuple[str, int]] = set()
        self._troubles: dict[tuple[str, int], str | None] = {}

    def sample(
        self, name: tuple[str, int], request: bytes, ended_ms: int, body: bytes, unit: Unit, now_s: float
    ) -> None:
        """A poll ended; `unit` has counted it already."""
        if body[8] == link.NOT_ASKED:
            return
        ring = self._rings.get(name[0])
        if ring is None:
            ring = self._rings[name[0]] = _Ring()
        ring.kept.append(Kept(request, ended_ms, body))
        ring.size_bytes += _SAMPLE_BYTES + len(body)
        while ring.size_bytes > RING_BYTES:
            ring.size_bytes -= _SAMPLE_BYTES + len(ring.kept.popleft().body)
        if body[1] & 15 != modbus.OK:
            self._failing.add(name)
            if len(unit.lately) == LATELY and "ok" not in unit.lately:
                self._judge(name, ring, unit, now_s)
        elif name in self._failing:  # before that it is not known whether it stays away
            self._failing.remove(name)
            self._judge(name, ring, unit, now_s)

    def _judge(self, name: tuple[str, int], ring: _Ring, unit: Unit, now_s: float) -> None:
        """A unit goes bad when its trouble begins, and when it dies of it; but only if it was ever good."""
        trouble = unit_trouble(unit.counts.hour(now_s), unit.exceptions.hour(now_s), tuple(unit.lately))
        before = self._troubles.get(name)
        self._troubles[name] = trouble
        if trouble is None or trouble == before or (before is not None and trouble not in (NO_REPLY, GARBAGE)):
            return
        if unit.counts.since_start["ok"] and now_s - ring.captured_s >= AGAIN_S:
            ring.captured_s = now_s
            self.went_bad.append(WentBad(*name, trouble, tuple(ring.kept)))


def pcapng(bad: WentBad, line: Line) -> bytes:
    """The capture of such a bus."""
    return trace.write([Port(bad.bus, line, REMARK)], _frames(bad.kept, line))


def _frames(kept: tuple[Kept, ...], line: Line) -> Iterator[Frame]:
    busy_until_us = 0  # times of a millisecond let frames overlap that did not
    for poll in kept:
        reply, comment = _reply(poll)
        reply_us = round(len(reply) * line.char_us)
        waited_us = 1000 * (reply_ms(poll.body[8]) or 0)
        if poll.ended_ms * 1000 < busy_until_us - _STEP_US:
            busy_until_us = 0  # the clock was put back
        request_us = round(len(poll.request) * line.char_us)
        first_us = max(poll.ended_ms * 1000 - reply_us - waited_us - request_us, busy_until_us)
        yield Frame(0, SENT, first_us, first_us + request_us, poll.request, comment)
        busy_until_us = first_us + request_us
        if reply:
            busy_until_us += waited_us
            yield Frame(0, RECEIVED, busy_until_us, busy_until_us + reply_us, reply)
            busy_until_us += reply_us


def _reply(poll: Kept) -> tuple[bytes, str]:
    """The bytes of a reply, and what is to be said of the poll."""
    body = poll.body
    outcome, first_try = body[1] & 15, body[1] >> 4
    unit_id, function_code, data = poll.request[0], poll.request[1], bytes(body[link.SAMPLE_HEAD_BYTES :])
    comment = f"asked again after {OUTCOMES.get(first_try)}" if first_try else ""
    if outcome == modbus.OK:
        return modbus_edge.read_reply(unit_id, function_code, data), comment
    if outcome == modbus.EXCEPTION:
        return modbus_edge.exception_reply(unit_id, function_code, data[0] if data else 0), comment
    told = OUTCOMES[outcome]
    if len(data) == link.FAILED_MAX_BYTES:
        told += f", first {len(data)} bytes"
    return data, ", ".join(filter(None, (comment, told)))
