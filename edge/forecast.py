"""What a site will be able to do before it is built: periods, waits, ring, link, disk and traffic. Policy.

Owns the arithmetic of a serial line (MODBUS over Serial Line V1.02, 2.5.1: a silence of 3.5 characters around each
frame, 1.75 ms above 19200 baud) and the judgement of what comes out. How soon a sensor begins to answer is printed in
few manuals, so whatever depends on it is a span: from units that answer at once to units that take all the time that
their profiles give them. Between them lies what is expected: units that answer as soon as their manuals print, or as
real sensors do. Must never promise what only the quick end of a span holds, nor take a plan that the expected breaks.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from gettext import gettext as _
from math import ceil
from typing import NamedTuple

from edge.alarms.presets import alarms_of
from edge.pipeline import BATCH_S
from edge.planning import BoardPlan, PlannedRead
from edge.problem import Problem
from protocols import link
from protocols.feeds import json_feed
from protocols.model import Bus, Line, Output, Point, Site
from protocols.profile import FRAME_CHARS, data_bytes

RING_BYTES = 65536  # of a board with all its heap, firmware/main.py
PROBE_EVERY_S = 9  # a dead unit of a line without idle time, firmware/poller.py
RING_REMINDER_S = 90  # a Raspberry Pi has started again by then
LINK_MOST_PCT = 70

_RECORD_HEAD_BYTES = 2 + link.SAMPLE_HEAD_BYTES
_COUNTS_BYTES = 2 + link.COUNTS_HEAD_BYTES  # the record of each bus, once a minute
_COUNTS_PER_S = 1 / 60
_FRAME_BYTES = 17  # of a DATA frame without its records: two zeros, COBS, CRC, kind, boot, number, generation, flags
_READING_STORED_BYTES = 4  # edge/batch.py
_BATCH_STORED_BYTES = 140  # its two rows, their keys and its sections, as measured on the example site
_PUBLISH_BYTES = 250  # topic, properties, TLS, TCP and IP of one message, and of what acknowledges it
_DAY_S = 86400
_ROW_TIME_MS = 500  # of a row in a message, for its length: three digits


class Span(NamedTuple):
    """From units that answer at once to units that take all the time that their profiles give them."""

    at_once: float
    slowest: float


class Worst(NamedTuple):
    """From a change at the sensor to what the gateway makes of it, in milliseconds.

    `alarm`: it decides, with the board's first sample after the point's on-delay. `horn`: the last of the horns and
    beacons that tell the point's alarms is on; None where there is none. `published`: its message goes out, an urgent
    one at once.
    """

    alarm: Span
    horn: Span | None
    published: Span


@dataclass(frozen=True, slots=True)
class PointForecast:
    """One point. Its worst cases: from a change at the sensor, if one poll in between fails.

    `expected_ms` is reachable where the bus's units begin to answer within the `reply_ms` of their profiles.
    """

    point: str
    bus: str
    unit_id: int
    asked_ms: int
    reachable_ms: Span
    expected_ms: float
    worst: Worst
    has_limits: bool


@dataclass(frozen=True, slots=True)
class PeriodForecast:
    """All reads of one bus that were asked for in one period: the longest of what they become.

    What is reachable is their average: a line that is asked for too much serves some of them oftener than others.
    """

    asked_ms: int
    reachable_ms: Span
    worst: Worst


@dataclass(frozen=True, slots=True)
class BusForecast:
    """One bus and the periods of its points, shortest first; a bus that only switches has none.

    `patience_ms`: the periods hold while its units begin to answer within that time on average; negative if they
    cannot hold at all. `allowed_ms`: what the slowest profile allows. `idle_ms`: left over in the shortest period.
    `probe_ms`: what asking a dead unit takes, where units answered at once before, or as late as their profiles allow.
    """

    bus: str
    board: str
    line: str
    units: int
    load_pct: Span
    longest_ms: Span
    periods: tuple[PeriodForecast, ...]
    patience_ms: float
    allowed_ms: int
    idle_ms: float
    probe_ms: Span

    @property
    def holds(self) -> bool:
        """Whether the periods hold even with units that take all the time that their profiles give them."""
        return self.load_pct.slowest <= 100

    @property
    def has_room_for_a_probe(self) -> bool:
        """Whether a dead unit is asked in idle time only, so that the others do not notice."""
        return self.idle_ms > self.probe_ms.at_once


@dataclass(frozen=True, slots=True)
class BoardForecast:
    """One board: how long its ring bridges without the gateway, and how busy its link is at most."""

    board: str
    ring_s: float
    link_pct: float


@dataclass(frozen=True, slots=True)
class Forecast:
    """The site. Bytes a day: from nothing changes to everything changes all the time."""

    buses: tuple[BusForecast, ...]
    boards: tuple[BoardForecast, ...]
    points: tuple[PointForecast, ...]
    stored_bytes: float
    day_bytes: tuple[float, float]


def forecast(site: Site, plans: Sequence[BoardPlan], link_baud: int) -> Forecast:
    """What these plans of this site will do. A board without a plan reads nothing, and has no row."""
    reads = [planned for plan in plans for planned in plan.reads]
    horns = _horns(site, reads, link_baud)
    buses = []
    points: list[PointForecast] = []
    for bus in site.buses:
        mine = [planned for planned in reads if planned.bus == bus.name]
        if mine:
            row, of_points = _bus(site, bus, mine, horns, link_baud)
            buses.append(row)
            points += of_points
    readings_per_s = sum(len(planned.read.uses) * 1000 / planned.period_ms for planned in reads)
    stored_per_s = readings_per_s * _READING_STORED_BYTES + _BATCH_STORED_BYTES / BATCH_S
    order = {point.point: at for at, point in enumerate(site.points)}
    return Forecast(
        buses=tuple(buses),
        boards=tuple(_board(plan, link_baud) for plan in plans),
        points=tuple(sorted(points, key=lambda row: order[row.point])),
        stored_bytes=stored_per_s * _DAY_S * site.store.readings_days,
        day_bytes=_day_bytes(site, readings_per_s),
    )


# --- one bus ------------------------------------------------------------------------------------------------


def transaction_ms(line: Line, planned: PlannedRead, first_byte_ms: float) -> float:
    """Request, silence, waiting for the first byte, reply, silence."""
    return _on_the_wire_ms(line, _data_bytes(planned)) + first_byte_ms


def _on_the_wire_ms(line: Line, carried_bytes: int) -> float:
    """A request of eight bytes, a reply of five and its data, a silence after each."""
    return ((FRAME_CHARS + carried_bytes) * line.char_us + 2 * line.silence_us) / 1000


def _data_bytes(planned: PlannedRead) -> int:
    return data_bytes(planned.read.function_code, planned.read.count)


def _bus(
    site: Site, bus: Bus, reads: Sequence[PlannedRead], horns: Mapping[str, Span], link_baud: int
) -> tuple[BusForecast, list[PointForecast]]:
    allowed_ms = [site.profiles[planned.profile].timeout_ms for planned in reads]
    at_once_ms = [transaction_ms(bus.line, planned, 0) for planned in reads]
    slowest_ms = [transaction_ms(bus.line, planned, ms) for planned, ms in zip(reads, allowed_ms, strict=True)]
    load_at_once = _load(_asked(reads, at_once_ms))
    reachable = list(map(Span, _reachable(site, reads, at_once_ms), _reachable(site, reads, slowest_ms)))
    expected_ms = _reachable(
        site, reads, [transaction_ms(bus.line, planned, site.profiles[planned.profile].reply_ms) for planned in reads]
    )
    longest_ms = Span(max(at_once_ms), max(slowest_ms))
    frame_ms = link.FRAME_MAX_BYTES * 10_000 / link_baud
    alarm = list(
        map(
            Span,
            _alarm(site, reads, at_once_ms, slowest_ms, [span.at_once for span in reachable], frame_ms),
            _alarm(site, reads, slowest_ms, slowest_ms, [span.slowest for span in reachable], frame_ms),
        )
    )
    next_sample = Span(
        _next_sample(reads, at_once_ms, [span.at_once for span in reachable]),
        _next_sample(reads, slowest_ms, [span.slowest for span in reachable]),
    )
    asked = {point.point: point for point in site.points}
    points = [
        PointForecast(
            point=use.point,
            bus=bus.name,
            unit_id=planned.unit_id,
            asked_ms=asked[use.point].period_ms,
            reachable_ms=reachable_ms,
            expected_ms=of_expected_ms,
            worst=_worst(asked[use.point], decided, next_sample, horns.get(use.point)),
            has_limits=bool(asked[use.point].limits),
        )
        for planned, reachable_ms, of_expected_ms, decided in zip(reads, reachable, expected_ms, alarm, strict=True)
        for use in planned.read.uses
    ]
    periods = []
    for asked_ms in sorted({planned.period_ms for planned in reads if planned.read.uses}):
        of_period = [at for at, planned in enumerate(reads) if planned.period_ms == asked_ms]
        used = {use.point for at in of_period for use in reads[at].read.uses}
        longest_worst = _longest_worst([point.worst for point in points if point.point in used])
        periods.append(PeriodForecast(asked_ms, _longest([reachable[at] for at in of_period]), longest_worst))
    row = BusForecast(
        bus=bus.name,
        board=bus.board,
        line=str(bus.line),
        units=len({planned.unit_id for planned in reads}),
        load_pct=Span(100 * load_at_once, 100 * _load(_asked(reads, slowest_ms))),
        longest_ms=longest_ms,
        periods=tuple(periods),
        patience_ms=(1 - load_at_once) / sum(1 / planned.period_ms for planned in reads),
        allowed_ms=max(allowed_ms),
        idle_ms=min(planned.period_ms for planned in reads if planned.read.uses or not points) - sum(at_once_ms),
        probe_ms=_probe(site, bus.line, reads),
    )
    return row, points


def _longest_worst(worst: Sequence[Worst]) -> Worst:
    horns = [each.horn for each in worst if each.horn is not None]
    return Worst(
        _longest([each.alarm for each in worst]),
        _longest(horns) if horns else None,
        _longest([each.published for each in worst]),
    )


def _longest(spans: Iterable[Span]) -> Span:
    return Span(*map(max, zip(*spans, strict=True)))


def _asked(reads: Sequence[PlannedRead], costs_ms: Sequence[float]) -> list[tuple[int, float]]:
    return [(planned.period_ms, cost_ms) for planned, cost_ms in zip(reads, costs_ms, strict=True)]


def _load(asked: Iterable[tuple[int, float]]) -> float:
    return sum(cost_ms / period_ms for period_ms, cost_ms in asked)


def _shortest_ms(asked: Sequence[tuple[int, float]]) -> float:
    """The shortest period that these (period, cost) leave possible: longer ones stay, all shorter ones become it."""
    rest = _load(asked)
    if rest <= 1:
        return 0
    stretched_ms = 0.0
    for period_ms, cost_ms in sorted(asked):
        if rest < 1 and stretched_ms / (1 - rest) <= period_ms:
            break
        stretched_ms += cost_ms
        rest -= cost_ms / period_ms
    return stretched_ms / (1 - rest)


def _reachable(site: Site, reads: Sequence[PlannedRead], costs_ms: Sequence[float]) -> list[float]:
    """Each read's period: as asked, unless the line has no time, or its unit must not be asked as often."""
    line_ms = _shortest_ms(_asked(reads, costs_ms))
    of_unit: dict[int, list[tuple[int, float]]] = {}
    for planned, cost_ms in zip(reads, costs_ms, strict=True):
        spacing_ms = site.profiles[planned.profile].spacing_ms
        of_unit.setdefault(planned.unit_id, []).append((planned.period_ms, max(cost_ms, spacing_ms)))
    return [max(planned.period_ms, line_ms, _shortest_ms(of_unit[planned.unit_id])) for planned in reads]


def _alarm(
    site: Site,
    reads: Sequence[PlannedRead],
    costs_ms: Sequence[float],
    failed_ms: Sequence[float],
    reachable_ms: Sequence[float],
    frame_ms: float,
) -> list[float]:
    """From a change to the decision: just missed, then last in the queue, then one failed poll and its retry.

    A unit that did not answer one read owes that reply: one whose reply has the same shape is not asked meanwhile.
    """
    worst = []
    for planned, own_failed_ms, period_ms in zip(reads, failed_ms, reachable_ms, strict=True):
        profile = site.profiles[planned.profile]
        of_unit = [other for other in reads if other.unit_id == planned.unit_id and other is not planned]
        turn_ms = _turn_ms(planned, reads, costs_ms)
        wait_ms = turn_ms + len(of_unit) * profile.spacing_ms + max(own_failed_ms, profile.spacing_ms)
        if _shape(planned) in map(_shape, of_unit):
            wait_ms += own_failed_ms + max(profile.late_ms, 2 * profile.timeout_ms)
        worst.append(period_ms + wait_ms + _company_ms(planned) + frame_ms)
    return worst


def _next_sample(reads: Sequence[PlannedRead], costs_ms: Sequence[float], reachable_ms: Sequence[float]) -> float:
    """How long the time of a board may stand still: no sample comes for so long. A delay ends with one."""
    waits_ms = (
        period_ms + _turn_ms(planned, reads, costs_ms) + _company_ms(planned)
        for planned, period_ms in zip(reads, reachable_ms, strict=True)
        if planned.read.uses
    )
    return min(waits_ms, default=0.0)  # without points there is nobody whose delay could end


def _turn_ms(planned: PlannedRead, reads: Sequence[PlannedRead], costs_ms: Sequence[float]) -> float:
    """All others first. Where that is too much, it may have to wait for its own deadline: the earliest one is first."""
    queue_ms = sum(costs_ms)
    return max(queue_ms, planned.period_ms) if _load(_asked(reads, costs_ms)) > 1 else queue_ms


def _company_ms(planned: PlannedRead) -> int:
    return 0 if planned.urgent else link.HOLD_MS


def _shape(planned: PlannedRead) -> tuple[int, int]:
    """What a reply cannot be told by."""
    return planned.read.function_code, _data_bytes(planned)


def _horns(site: Site, reads: Sequence[PlannedRead], link_baud: int) -> dict[str, Span]:
    """For each point that a horn or a beacon tells, from the decision to the last of them."""
    frame_ms = link.FRAME_MAX_BYTES * 10_000 / link_baud
    outputs = [output for output in site.outputs if output.kind != "fault"]
    took_ms = {output.name: _switching(site, output, outputs, reads, frame_ms) for output in outputs}
    areas = {point.point: point.area for point in site.points}
    told: dict[str, list[Span]] = {}
    for setting in alarms_of(site):
        for output in outputs:
            if setting.priority in output.priorities and areas[setting.point] in (output.areas or areas.values()):
                told.setdefault(setting.point, []).append(took_ms[output.name])
    return {point: _longest(spans) for point, spans in told.items()}


def _switching(
    site: Site, output: Output, outputs: Sequence[Output], reads: Sequence[PlannedRead], frame_ms: float
) -> Span:
    """From the decision to the output: the command, and of a coil the poll that is just going on and the write.

    All coils of that bus may be written before it. A pin waits for a request that its board is just sending. A write
    and its echo have eight bytes each (MODBUS Application Protocol V1.1b3, 6.5), three more than the thirteen of a read
    without data.
    """
    lines = {bus.name: bus.line for bus in site.buses if bus.board == output.board}
    if output.bus is None:
        sending_ms = max((8 * line.char_us / 1000 for line in lines.values()), default=0.0)
        return Span(frame_ms + sending_ms, frame_ms + sending_ms)
    line = lines[output.bus]
    going_on = [planned for planned in reads if planned.bus == output.bus]
    coils = [each for each in outputs if each.bus == output.bus]
    at_once_ms = frame_ms + len(coils) * _on_the_wire_ms(line, 3)
    slowest_ms = at_once_ms + sum(site.profiles[each.profile].timeout_ms for each in coils)
    return Span(
        at_once_ms + max(transaction_ms(line, planned, 0) for planned in going_on),
        slowest_ms
        + max(transaction_ms(line, planned, site.profiles[planned.profile].timeout_ms) for planned in going_on),
    )


def _later(span: Span, at_once_ms: float, slowest_ms: float) -> Span:
    return Span(span.at_once + at_once_ms, span.slowest + slowest_ms)


def _worst(point: Point, decided: Span, next_sample: Span, horn_ms: Span | None) -> Worst:
    """A reading's message waits for no on-delay, but for the second's batch where it is not urgent."""
    delay_ms = point.on_delay_s * 1000
    alarm = _later(decided, *(delay_ms + wait_ms for wait_ms in next_sample)) if delay_ms else decided
    batch_ms = 0.0 if point.urgent else BATCH_S * 1000
    return Worst(alarm, None if horn_ms is None else _later(alarm, *horn_ms), _later(decided, *2 * (batch_ms,)))


def _probe(site: Site, line: Line, reads: Sequence[PlannedRead]) -> Span:
    """The dearest unit to probe: its smallest read, and what is waited for its first byte."""
    smallest: dict[int, PlannedRead] = {}
    for planned in reads:
        other = smallest.setdefault(planned.unit_id, planned)
        smallest[planned.unit_id] = min(planned, other, key=_data_bytes)
    costs = []
    for planned in smallest.values():
        profile = site.profiles[planned.profile]
        waits_ms = profile.floor_ms, profile.timeout_ms
        costs.append(Span(*(transaction_ms(line, planned, wait_ms) for wait_ms in waits_ms)))
    return _longest(costs)


# --- boards, disk and network -------------------------------------------------------------------------------


def _board(plan: BoardPlan, link_baud: int) -> BoardForecast:
    """A link's load is that of records which all go alone; a byte on it has ten bits."""
    per_s = [(1000 / planned.period_ms, _RECORD_HEAD_BYTES + _data_bytes(planned)) for planned in plan.reads]
    per_s += [(_COUNTS_PER_S, _COUNTS_BYTES)] * len({planned.bus for planned in plan.reads})
    ring_bytes_per_s = sum(rate * size for rate, size in per_s)
    link_bytes_per_s = sum(rate * (size + _FRAME_BYTES) for rate, size in per_s)
    return BoardForecast(plan.board, RING_BYTES / ring_bytes_per_s, 100 * link_bytes_per_s / (link_baud / 10))


def _day_bytes(site: Site, readings_per_s: float) -> tuple[float, float]:
    """Heartbeats alone, and every reading in a message of every second; measured on messages of this site."""
    rows = [
        (point.point, _ROW_TIME_MS, json_feed.number(point.range_high or 0.0, "f32"), 0, 0) for point in site.points
    ]
    quality = json_feed.TimeQuality("synced", 10, None)

    def length(rows: Sequence[tuple[str, int, float | int | None, int, int]]) -> int:
        return len(json_feed.data(site.gateway, "0" * 16, 1_000_000, "0" * 8, quality, 1_700_000_000_000, rows))

    message_bytes = length([]) + _PUBLISH_BYTES
    row_bytes = (length(rows) - length([])) / len(rows)
    heartbeat_rows = sum(_DAY_S / point.heartbeat_s for point in site.points)
    heartbeat_messages = _DAY_S / min(point.heartbeat_s for point in site.points)
    most_messages = _DAY_S / BATCH_S
    return (
        heartbeat_messages * message_bytes + heartbeat_rows * row_bytes,
        most_messages * message_bytes + readings_per_s * _DAY_S * row_bytes,
    )


# --- judgement ----------------------------------------------------------------------------------------------


def judge(site: Site, told: Forecast, toml_file: str, sheet_file: str) -> tuple[list[Problem], list[Problem]]:
    """Problems and reminders. Refused is what does not hold with sensors as quick as is known of them."""
    problems = []
    warnings = []
    for point in told.points:
        if point.expected_ms > point.asked_ms:
            text = _(
                "bus {bus} reaches {reachable:.2f} s with units that answer as soon as their profiles say (reply_ms, "
                "20 where it is not printed). Ask for less, or move units to another bus."
            )
            text = text.format(bus=point.bus, reachable=ceil(point.expected_ms / 10) / 100)
            asked, name = f"{point.asked_ms / 1000:g}", point.point
            if point.has_limits:
                problems.append(Problem("E-PER-001", sheet_file, "period_s", asked, text, point=name))
            else:
                warnings.append(Problem("W-PER-001", sheet_file, "period_s", asked, text, point=name))
    for bus in told.buses:
        field = f"buses.{bus.bus}"
        if bus.load_pct.at_once <= 100 and not bus.holds:
            text = _(
                "its periods hold while its units begin to answer within {patience:.0f} ms on average; their profiles "
                "allow up to {allowed} ms."
            ).format(patience=bus.patience_ms, allowed=bus.allowed_ms)
            warnings.append(Problem("W-PER-002", toml_file, field, None, text))
        if not bus.has_room_for_a_probe:
            text = _(
                "no idle time: if a unit is dead, every {every} s its probe delays the others by {least:.0f} ms, by "
                "{most:.0f} ms if it is known to answer late."
            ).format(every=PROBE_EVERY_S, least=bus.probe_ms.at_once, most=bus.probe_ms.slowest)
            warnings.append(Problem("W-PER-003", toml_file, field, None, text))
    for board in told.boards:
        field = f"boards.{board.board}"
        if board.link_pct > LINK_MOST_PCT:
            text = _("its link would be {load:.0f} % busy, allowed are {most} %. Ask for less, or add a board.")
            text = text.format(load=board.link_pct, most=LINK_MOST_PCT)
            problems.append(Problem("E-BRD-006", toml_file, field, None, text))
        if board.ring_s < RING_REMINDER_S:
            text = _("its ring bridges only {seconds:.0f} s without the gateway: a restart may lose samples.")
            warnings.append(Problem("W-BRD-002", toml_file, field, None, text.format(seconds=board.ring_s)))
    if told.stored_bytes > site.store.max_bytes:
        text = _("{days} days need about {need:.1f} GB: the oldest readings will go earlier.")
        text = text.format(days=site.store.readings_days, need=told.stored_bytes / 1e9)
        stated = f"{site.store.max_bytes / 1e9:g} GB"
        warnings.append(Problem("W-STO-001", toml_file, "store.max_bytes", stated, text))
    return problems, warnings
