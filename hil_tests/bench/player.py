"""A recorded line played again: the units answer our master, or both sides talk to a listener. Policy.

Owns which recorded bytes are due when. Has what a Bus wants of a Line, so a recording can hang on the bench where
sensors do. A request is answered by what followed the same request in the recording, each time by the next one, since
no master asks in another one's order. Times count from our request, so errors do not add up. Must never touch a port,
nor make a byte that was not recorded.
"""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace

from hil_tests.bench.line import Exchange
from protocols import modbus, trace
from protocols.cutter import Cutter
from protocols.model import Line
from protocols.trace import SENT, Frame

TIMED, MATCHED = "timed", "matched"


@dataclass(frozen=True, slots=True)
class Pace:
    """`speed`: 2 is twice as fast; `max_gap_s`: a longer silence is cut to that."""

    speed: float = 1.0
    max_gap_s: float = float("inf")

    def offsets_s(self, start_us: int, frames: Iterable[Frame]) -> Iterator[tuple[float, Frame]]:
        """When each of these frames begins, in seconds after the end of what ended at `start_us`."""
        at_s, ended_us = 0.0, start_us
        for frame in frames:
            at_s += min((frame.first_us - ended_us) / 1e6, self.max_gap_s) / self.speed
            yield at_s, frame
            at_s += (frame.last_us - frame.first_us) / 1e6 / self.speed
            ended_us = frame.last_us


class Player:
    """The units of one port of a capture. `mode` MATCHED answers as soon as the line allows, TIMED as late as recorded.

    `is_wire`: the port is a real line, where bytes take their time by themselves; else they are due when the last one
    of a frame would have come. `loops`: after the last reply to a request comes its first again, else none.
    """

    def __init__(
        self,
        name: str,
        settings: Line,
        recorded: Sequence[Frame],
        mode: str,
        pace: Pace = Pace(),
        *,
        loops: bool = False,
        is_wire: bool = False,
    ) -> None:
        if mode not in (TIMED, MATCHED):
            raise ValueError(f"mode = {mode!r}: allowed are {TIMED}, {MATCHED}")
        self.name = name
        self.settings = settings
        self.exchanges: list[Exchange] = []  # of a Line; here nobody measures anything
        self.frames: list[Frame] = []
        self.unknown: list[bytes] = []  # requests that were not recorded, or not so often
        self._mode = mode
        self._pace = pace
        self._loops = loops
        self.is_wire = is_wire
        self._recorded: defaultdict[bytes, list[trace.Exchange]] = defaultdict(list)
        for exchange in trace.exchanges(recorded, recorded[0].port if recorded else 0):
            self._recorded[exchange.request.data].append(exchange)
        self._next: defaultdict[bytes, int] = defaultdict(int)
        self._cutter = Cutter(0)
        self._due: list[tuple[float, Frame]] = []

    def heard(self, data: bytes, now_s: float) -> None:
        """Bytes of our master."""
        now_us = round(now_s * 1e6)
        takes_us = 0 if self.is_wire else round(len(data) * self.settings.char_us)
        for frame in self._cutter.feed(data, now_us, now_us + takes_us, SENT):
            self.frames.append(frame)
            if modbus.crc_ok(frame.data, 0, len(frame.data)):
                self._ask(frame)

    def due_s(self) -> float | None:
        """When the next bytes are due, or None."""
        return self._due[0][0] if self._due else None

    def deliver(self, now_s: float) -> bytes:
        """The bytes that are due by now, for the wire at this very moment."""
        data = b""
        while self._due and self._due[0][0] <= now_s:
            _due_s, frame = self._due.pop(0)
            self.frames.append(frame)
            data += frame.data
        return data

    def _ask(self, request: Frame) -> None:
        known, place = self._recorded.get(request.data, []), self._next[request.data]
        if not known or place >= len(known) and not self._loops:
            self.unknown.append(request.data)
            return
        self._next[request.data] = place + 1
        exchange = known[place % len(known)]
        ended_s = request.last_us / 1e6
        pace = self._pace if self._mode == TIMED else replace(self._pace, max_gap_s=self.settings.silence_us / 1e6)
        for offset_s, reply in pace.offsets_s(exchange.request.last_us, exchange.replies):
            first_s = ended_s + offset_s
            last_s = first_s + (reply.last_us - reply.first_us) / 1e6 / pace.speed
            played = replace(reply, port=0, first_us=round(first_s * 1e6), last_us=round(last_s * 1e6))
            self._due.append((first_s if self.is_wire else last_s, played))
        self._due.sort(key=lambda due: due[0])


def both_sides(recorded: Sequence[Frame], pace: Pace) -> Iterator[tuple[float, Frame]]:
    """The whole line for a listener: when each frame begins, in seconds after the first one did."""
    if recorded:
        yield from pace.offsets_s(recorded[0].first_us, recorded)
