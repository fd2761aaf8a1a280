"""How the units and ports of a capture fared: counts, reply times, load, silences. Policy.

Owns what counts as what; how an exchange ended is judged as a master would, by protocols/modbus.py. Must never put
anything into words.
"""

from collections import Counter
from dataclasses import dataclass, field
from typing import Any

from edge.statistics import OUTCOMES, nearest_ranks
from protocols import modbus, trace
from protocols.cutter import frame_length
from protocols.trace import Exchange, Frame, Trace

_PATIENCE_US = 1_000_000  # a request so near to the capture's end may still have been answered


@dataclass(slots=True)
class UnitFigures:
    """`outcomes` by the words of `statistics.OUTCOMES`; `exceptions` by code; `reply_us`: reply time -> how often."""

    requests: int = 0
    outcomes: Counter[str] = field(default_factory=Counter)
    exceptions: Counter[int] = field(default_factory=Counter)
    reply_us: Counter[int] = field(default_factory=Counter)

    @property
    def is_in_order(self) -> bool:
        """Whether every request was answered well."""
        return set(+self.outcomes) <= {"ok"}

    def row(self) -> dict[str, Any]:
        """For `tankgate trace stats --json`."""
        names = ("reply_min_ms", "reply_p50_ms", "reply_p95_ms", "reply_max_ms")
        times: list[float | None] = [us / 1000 for us in nearest_ranks(self.reply_us)]
        return (
            {"requests": self.requests}
            | {outcome: self.outcomes[outcome] for outcome in OUTCOMES.values()}
            | {"exceptions": {str(code): count for code, count in sorted(self.exceptions.items())}}
            | dict(zip(names, times or [None] * 4, strict=True))
        )


@dataclass(slots=True)
class PortFigures:
    """`units` by unit id. `busy_us` of `span_us` bytes were on the line. Silences are those before intact requests."""

    frames: int = 0
    span_us: int = 0
    busy_us: int = 0
    damaged_requests: int = 0
    errors: Counter[int] = field(default_factory=Counter)  # trace.ERRORS
    shortest_silence_us: int | None = None
    too_short_silences: int = 0
    units: dict[int, UnitFigures] = field(default_factory=dict)

    @property
    def is_in_order(self) -> bool:
        """Whether nothing was damaged, refused or left without a reply. Silences are no verdict: adapters are late."""
        return not (self.damaged_requests or self.errors) and all(unit.is_in_order for unit in self.units.values())

    @property
    def load_pct(self) -> float | None:
        """How much of the time bytes were on the line."""
        return round(100 * self.busy_us / self.span_us, 1) if self.span_us else None


def figures(capture: Trace) -> list[PortFigures]:
    """Of each port of a capture."""
    return [_port(capture, port) for port in range(len(capture.ports))]


def _port(capture: Trace, port: int) -> PortFigures:
    line = capture.ports[port].line
    told = PortFigures()
    frames = [frame for frame in capture.frames if frame.port == port]
    for frame, gap_us in trace.silences(frames):
        if frame.event in trace.ERRORS:
            told.errors[frame.event] += 1
            continue
        told.frames += 1
        told.busy_us += frame.last_us - frame.first_us
        if frame.event == trace.SENT and gap_us is not None:
            shortest_us = told.shortest_silence_us
            told.shortest_silence_us = gap_us if shortest_us is None else min(gap_us, shortest_us)
            # Times are whole microseconds: one at each end of a silence may be missing.
            told.too_short_silences += line is not None and gap_us < line.silence_us - 2
    if frames:
        ends_us = max(frame.last_us for frame in frames)
        told.span_us = ends_us - frames[0].first_us
        _exchanges(told, list(trace.exchanges(frames, port)), ends_us)
    return told


def _exchanges(told: PortFigures, exchanges: list[Exchange], ends_us: int) -> None:
    transaction = modbus.Transaction()
    for exchange in exchanges:
        request = exchange.request
        if not modbus.crc_ok(request.data, 0, len(request.data)):
            told.damaged_requests += 1
            continue
        if request.data[0] == 0 or frame_length(trace.SENT, request.data) != len(request.data):
            continue  # to all: nobody answers; or of a function whose replies are not known
        if exchange is exchanges[-1] and not exchange.replies and ends_us - request.last_us < _PATIENCE_US:
            continue
        unit = told.units.setdefault(request.data[0], UnitFigures())
        unit.requests += 1
        outcome, reply = _end(transaction, exchange)
        unit.outcomes[OUTCOMES[outcome]] += 1
        if outcome == modbus.EXCEPTION:
            unit.exceptions[transaction.exception_code] += 1
        if reply is not None:
            unit.reply_us[max(reply.first_us - request.last_us, 0)] += 1


def _end(transaction: modbus.Transaction, exchange: Exchange) -> tuple[int, Frame | None]:
    """How it ended, and, where it ended well, the frame with which its reply began."""
    request = exchange.request.data
    transaction.request[: len(request)] = request
    transaction.begin(len(request))
    begins: list[Frame] = []  # for each byte the frame that brought it
    for reply in exchange.replies:
        begins += [reply] * len(reply.data)
        outcome = transaction.feed(reply.data, len(reply.data))
        if outcome != modbus.PENDING:
            return outcome, begins[transaction.frame_start]
    return transaction.finish(), None
