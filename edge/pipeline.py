"""Samples -> readings -> batches and messages, in one pass and one order. Policy.

Owns what happens to a record between the link and the disk: the plan of its generation says what it means, the clock
of its boot says when it was, the profile says value and status, rule 8 of the feed says whether it is reported. Gives
out whole batches, each with the messages numbered in it; nothing it gave out ever changes.
Must never read a clock, touch the store or send anything.
"""

import struct
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass, field
from functools import partial
from typing import Any

from edge.alarms.horn import Horn
from edge.alarms.judge import Bypassed, Judge, Told
from edge.alarms.lifecycle import RAISE
from edge.alarms.system import Change, SystemAlarms
from edge.batch import Batch, Held, Mark, Message, Row, Section, bitmap, data_payload, message_order
from edge.boards import SILENT_S, Taken
from edge.devices import Devices, Watch, fault
from edge.planning import BoardPlan
from edge.rebuilt import Rebuilt
from edge.retention import Dropped
from edge.statistics import Statistics
from edge.timebase import Clock
from protocols import link, modbus, modbus_edge, octets, readplan
from protocols.feeds import json_feed
from protocols.model import IN_MAINTENANCE, NOT_POLLED, UNIT_REPLACED, Reading, Site, has_value
from protocols.profile import Decoder, data_bytes

BATCH_S = 1.0
REPORTED_MAX = 1000  # readings in one message: under 128 KB, which a broker may take that takes little
KEPT_PRIORITY = 2  # what is around a raising of these, from 1 on, is kept for as long as events are


@dataclass(slots=True)
class _Point:
    """One point's reporting rule and its latest reading. It lives through changes of the site, but for one of `means`.

    Samples of before such a change still have the old one, so that their values are not compared to the new.
    """

    means: tuple[Any, ...]  # where it comes from, and how registers become its values
    deadband: float
    heartbeat_ms: int
    urgent: bool
    reported: tuple[float | int | None, int, int] | None = None  # value, status, detail
    told: tuple[int, int] | None = None  # status and detail of the newest reading, as its sensor told them
    beat: int | None = None  # the heartbeat slot of the latest reading
    latest: tuple[int | None, float | int | None, int, int] | None = None  # utc_ms, value, status, detail


@dataclass(frozen=True, slots=True)
class _Read:
    """One read of one plan, ready to be turned into readings; `check` is what it checks instead.

    `needed`: for each point the one that tells its faults, None where it tells them itself; empty where all do.
    """

    decoder: Decoder
    bits: int  # count of coils or inputs; 0 for registers
    data_bytes: int  # of an intact sample
    points: tuple[tuple[int, _Point], ...]  # index in the birth, and the point
    needed: tuple[_Point | None, ...]
    unit: tuple[str, int]  # bus, unit id
    request: bytes
    watches: tuple[Watch, ...]  # all checks of the unit
    check: Watch | None  # what it checks; without it and without points it reads back a coil


@dataclass(frozen=True, slots=True)
class _Meaning:
    """What a plan's samples mean: its reads and the birth that they belong to. Units and buses by their index in it."""

    birth: str
    reads: tuple[_Read, ...]
    checks: tuple[_Read, ...]  # those of them that tell who a unit is
    units: dict[int, tuple[str, int]]
    buses: dict[int, str]


@dataclass(frozen=True, slots=True)
class _Newest:
    """The newest sample of a board, with its UTC by the clock of then.

    `at_s` is when it was on the monotonic clock, None of one that an earlier process took.
    """

    boot: str
    uptime_ms: int
    utc_ms: int | None
    at_s: float | None


@dataclass(frozen=True, slots=True)
class _Begun:
    """What first came of a board; its first sample is of uptime `first_ms`, and `lost` records were before it."""

    taken: Taken
    first_ms: int
    lost: int


@dataclass(slots=True)
class _Silence:
    """A bus that is not polled, because another master is heard, from one uptime of a boot to the last word of it."""

    boot: str
    clock: Clock
    from_ms: int
    to_ms: int


@dataclass(slots=True)
class _Open:
    """A batch that is being filled: one birth, one kind of time, one boot while that is unsynced."""

    birth: str
    sections: list[Section] = field(default_factory=list)
    places: dict[tuple[str, str, Clock], int] = field(default_factory=dict)
    rows: list[Row] = field(default_factory=list)
    reported: list[int] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class _Alarm:
    """An event whose payload waits for the number of the data message that has the reading which made it."""

    seq: int
    birth: str
    payload: Callable[..., bytes]
    filled: _Open | None
    row: int

    def message(self, places: dict[int, tuple[int, list[int]]]) -> Message:
        """`places`: of each batch its message's number, and the indices of its rows in their order."""
        reading = None
        if self.filled is not None:
            seq, order = places[id(self.filled)]
            reading = seq, order.index(self.row)
        return Message("event", self.seq, "alarm", self.birth, self.payload(reading=reading), None)


class Pipeline:
    """One epoch of one gateway. `take` what the boards sent, `close` gives what is to be committed together.

    `marks`: how far earlier processes took each board; `held`: what they knew of the devices; `is_set_aside`: the store
    that knew it could not be used. `is_unread`: it cannot be asked yet, and `learn` follows. `judge`: of the alarms of
    points, where there are any; `horn` hears of each of them. `system`: alarms of the gateway itself, for the store.
    """

    def __init__(
        self,
        site: Site,
        epoch: str,
        mode: str,
        birth: str,
        births: dict[str, dict[str, Any]],
        marks: Iterable[Mark] = (),
        is_set_aside: bool = False,
        held: Iterable[Held] = (),
        is_unread: bool = False,
        judge: Judge | None = None,
        horn: Horn | None = None,
        system: SystemAlarms | None = None,
    ) -> None:
        self.epoch = epoch
        self.judge = judge
        self._system = system or SystemAlarms()
        self._horn = horn
        self.gateway = site.gateway
        self.mode = mode
        self.birth = birth
        self.next_seq = {"data": 1, "event": 1}
        self.statistics = Statistics()
        self.rebuilt = Rebuilt()
        self.journalled = True  # whether there is a disk that takes what is decided
        self.samples = 0
        self.refused_samples = 0  # of plans that are not known
        self._births = births
        self._rows = {row["point"]: row for row in births[birth]["points"]}  # of the birth in force
        self._points: dict[str, _Point] = {}
        self._meanings: dict[tuple[str, int], _Meaning] = {}
        self._beat_offset_ms = json_feed.heartbeat_second(site.gateway) * 1000
        self._full: list[_Open] = []
        self._open: dict[tuple[str, str, str], _Open] = {}
        self._taken: dict[tuple[str, str], Mark] = {}
        self._events: list[Message | _Alarm] = []
        self._raised_ms: list[int] = []
        self._close_s: float | None = None
        self._newest = _newest(marks)
        self._is_unread = is_unread
        self._begun: dict[str, _Begun] = {}  # boards whose first gap can be told when the store is read
        self._lost: dict[str, int] = {}  # records of a board that are gone since its newest sample
        self._is_set_aside = is_set_aside
        self._devices = Devices(held)
        self._silences: dict[tuple[str, str], _Silence] = {}  # by board and bus

    def add_plan(self, plan: BoardPlan) -> None:
        """From now on samples of this board and generation are understood, as readings of the plan's birth.

        Plans in force come after those of the past: the last one that has a point says how it is reported.
        """
        content = self._births[plan.birth]
        index = {point["point"]: i for i, point in enumerate(content["points"])}
        reads = []
        of_channel: dict[tuple[str, int, str], _Point] = {}
        for planned in plan.reads:
            for use in planned.read.uses:
                means = (planned.bus, planned.unit_id, plan.profiles[planned.profile].text, use)
                point = self._point(content["points"][index[use.point]], means)
                of_channel[planned.bus, planned.unit_id, use.channel] = point
        units: dict[int, tuple[str, int]] = {}
        buses: dict[int, str] = {}
        for i, planned in enumerate(plan.reads):
            unit = plan.plan[readplan.read_at(plan.plan, i)]
            units[unit] = (planned.bus, planned.unit_id)
            buses[plan.plan[readplan.unit_at(plan.plan, unit)]] = planned.bus
            unit_of_bus = (planned.bus, planned.unit_id)
            count = planned.read.count
            function_code, profile = planned.read.function_code, plan.profiles[planned.profile]
            points = [(index[use.point], of_channel[*unit_of_bus, use.channel]) for use in planned.read.uses]
            needs = [profile.channels[use.channel].needs for use in planned.read.uses]
            needed = tuple(of_channel.get((*unit_of_bus, channel or "")) for channel in needs)
            bits = count if function_code <= modbus.READ_DISCRETE_INPUTS else 0
            watches = self._devices.watches(planned.bus, planned.unit_id, profile)
            place = (function_code, planned.read.address, count)
            check = None
            if not points and not planned.output:
                check = next(w for w in watches if (w.check.function_code, w.check.address, w.check.count) == place)
            reads.append(
                _Read(
                    decoder=Decoder(profile, planned.read),
                    bits=bits,
                    data_bytes=data_bytes(function_code, count),
                    points=tuple(points),
                    needed=needed if any(needed) else (),
                    unit=unit_of_bus,
                    request=modbus_edge.read_request(planned.unit_id, *place),
                    watches=watches,
                    check=check,
                )
            )
        self._meanings[plan.board, plan.generation] = _Meaning(
            plan.birth, tuple(reads), tuple(read for read in reads if read.check), units, buses
        )

    def begin(self, content: dict[str, Any], now_s: float) -> None:
        """The epoch begins with its birth, as a message of the event stream."""
        self.reborn(self.birth, content, now_s)

    def reborn(self, birth: str, content: dict[str, Any], now_s: float) -> None:
        """Another birth is in force, told as a message of the event stream; `add_plan` of all its boards follows."""
        self.birth = birth
        self._births[birth] = content
        self._rows = {row["point"]: row for row in content["points"]}
        seq = self._number("event")
        payload = json_feed.birth(self.gateway, self.epoch, seq, birth, content)
        self._event(Message("event", seq, "birth", self.birth, payload, None), now_s)

    def take(self, taken: Taken, now_s: float, wall_ms: int | None = None) -> None:
        """Records of a board, in order; `wall_ms`: what the gateway's own clock says.

        Samples that fit no known plan, and those that are gone, become a gap. While one is yet to be told, what came
        without a sample counts as taken with the next one, so that it is not forgotten by a restart.
        """
        self._lost[taken.board] = self._lost.get(taken.board, 0) + taken.lost
        samples = [
            record
            for record in taken.records
            if record[1] == link.SAMPLE and len(record[2]) >= link.SAMPLE_HEAD_BYTES
        ]
        for generation, kind, body in taken.records:
            if kind == link.COUNTS and len(body) >= link.COUNTS_HEAD_BYTES:
                self._count(taken, generation, body, now_s)
        newest = self._newest.get(taken.board)
        if not samples and (newest is None or newest.boot != taken.boot or self._lost[taken.board]):
            return
        if self._close_s is None:
            self._close_s = now_s + BATCH_S
        if not samples and newest is not None:
            self._mark(taken, newest)
            return
        clock = taken.clock
        times = [octets.get_u28(body, 2) * 1000 + octets.get_u16(body, 6) for _generation, _kind, body in samples]
        newest_at_s = taken.began_s + times[-1] / 1000
        self._tell_missing(taken, times[0], now_s)
        if self.judge is not None:
            self.judge.took(taken)
        unknown: list[int] = []
        for uptime_ms, (generation, _kind, body) in zip(times, samples, strict=True):
            read = self._read(taken.board, generation, body)
            if read is None:
                unknown.append(uptime_ms)
            else:
                self._sample(taken, *read, uptime_ms, body, now_s, wall_ms)
        if unknown:
            self.refused_samples += len(unknown)
            begin, end = (_moment(taken.board, taken.boot, clock, uptime_ms) for uptime_ms in (unknown[0], unknown[-1]))
            self._gap("plan_unknown", taken.board, clock, begin, end, len(unknown), now_s)
        newest = self._newest[taken.board] = _Newest(taken.boot, times[-1], clock.utc_ms(times[-1]), newest_at_s)
        self._mark(taken, newest)

    def _mark(self, taken: Taken, newest: _Newest) -> None:
        mark = Mark(taken.board, taken.boot, taken.next_record, newest.uptime_ms, newest.utc_ms)
        self._taken[taken.board, taken.boot] = mark

    def _read(self, board: str, generation: int, body: bytes) -> tuple[str, _Read] | None:
        """Birth and read that a sample belongs to; None where no plan that is known gives such a sample."""
        meaning = self._meanings.get((board, generation))
        if meaning is None or body[0] >= len(meaning.reads) or body[1] & 15 > modbus.EXCEPTION:
            return None
        read = meaning.reads[body[0]]
        if body[1] & 15 == modbus.OK and len(body) != link.SAMPLE_HEAD_BYTES + read.data_bytes:
            return None
        return meaning.birth, read

    def _tell_missing(self, taken: Taken, first_ms: int, now_s: float) -> None:
        """The gap before the sample of uptime `first_ms`, if there is one: from the newest sample on.

        Whatever clocks say. Nobody knows where that was when the store that knew it could not be used.
        """
        newest = self._newest.get(taken.board)
        lost = self._lost.pop(taken.board)
        if newest is None and self._is_unread:
            self._begun[taken.board] = _Begun(taken, first_ms, lost)
            return
        self._tell_gap(taken, first_ms, newest, lost, now_s)

    def learn(self, marks: Iterable[Mark], is_set_aside: bool, held: Iterable[Held], now_s: float) -> None:
        """What could not be read when this process began."""
        self._is_unread = False
        self._is_set_aside |= is_set_aside
        self._devices.learn(held)
        earlier = _newest(marks)
        next_records = {(mark.board, mark.boot): mark.next_record for mark in marks}
        self._newest = {**earlier, **self._newest}
        for board, begun in self._begun.items():
            lost = max(begun.lost - next_records.get((board, begun.taken.boot), 0), 0)
            self._tell_gap(begun.taken, begun.first_ms, earlier.get(board), lost, now_s)
        self._begun.clear()

    def _tell_gap(self, taken: Taken, first_ms: int, newest: _Newest | None, lost: int, now_s: float) -> None:
        if newest is None and taken.has_past and not self._is_set_aside:  # what earlier boots polled never came here
            end = _moment(taken.board, taken.boot, taken.clock, 0)
            self._gap("not_running", taken.board, taken.clock, json_feed.Moment(None), end, None, now_s)
        polls: int | None = lost
        if newest is not None and newest.boot != taken.boot:
            cause, polls = _why_a_new_boot(newest, taken), None  # what its ring still held nobody can count
        elif newest is None and self._is_set_aside:
            cause, polls = "set_aside", None
        elif lost:
            # The first record of a boot names its plan; some of the others may be counts of a bus.
            cause, polls = "ring_full", lost if newest else lost - 1
        else:
            return
        if newest is not None:
            begin = json_feed.Moment(newest.utc_ms, f"{taken.board}/{newest.boot}", newest.uptime_ms)
        elif cause == "set_aside":
            begin = json_feed.Moment(None)
        else:
            begin = _moment(taken.board, taken.boot, taken.clock, 0)
        end = _moment(taken.board, taken.boot, taken.clock, first_ms)
        self._gap(cause, taken.board, taken.clock, begin, end, polls, now_s, polls_are="at_most")

    def _count(self, taken: Taken, generation: int, body: bytes, now_s: float) -> None:
        """What a board counted on one of its buses, and in which state that bus is now."""
        meaning = self._meanings.get((taken.board, generation))
        bus = None if meaning is None else meaning.buses.get(body[0])
        if meaning is None or bus is None or body[1] > link.OTHER_MASTER:
            return
        pairs = zip(body[link.COUNTS_HEAD_BYTES :: 2], body[link.COUNTS_HEAD_BYTES + 1 :: 2], strict=False)
        late = {meaning.units[unit]: times for unit, times in pairs if unit in meaning.units}
        is_first_word = bus not in self.statistics.buses
        self.statistics.counts(bus, taken.boot, body, late, now_s)
        uptime_ms = octets.get_u28(body, 2) * 1000 + octets.get_u16(body, 6)
        place = taken.board, bus
        silence = self._silences.get(place)
        if silence is not None and silence.boot != taken.boot:
            self._tell_other_master(place, now_s)  # what is missing from there on is the restart's gap
            silence = None
        if silence is not None:
            silence.clock, silence.to_ms = taken.clock, uptime_ms
            if body[1] == link.POLLING:
                self._tell_other_master(place, now_s)
        elif body[1] == link.OTHER_MASTER:
            from_ms = self._silent_since_ms(taken, uptime_ms) if is_first_word else uptime_ms
            self._silences[place] = _Silence(taken.boot, taken.clock, from_ms, uptime_ms)

    def _silent_since_ms(self, taken: Taken, uptime_ms: int) -> int:
        """Uptime since which another master is heard, where the first word of it came to an earlier process."""
        newest = self._newest.get(taken.board)
        is_earlier = newest is not None and newest.boot == taken.boot and newest.at_s is None
        return newest.uptime_ms if newest is not None and is_earlier else uptime_ms

    def _tell_other_master(self, place: tuple[str, str], now_s: float) -> None:
        silence = self._silences.pop(place)
        board, bus = place
        begin, end = (
            _moment(board, silence.boot, silence.clock, uptime_ms) for uptime_ms in (silence.from_ms, silence.to_ms)
        )
        self._gap("other_master", board, silence.clock, begin, end, None, now_s, bus=bus)

    @property
    def other_masters(self) -> set[str]:
        """Buses on which nothing is sent, because another master is heard."""
        return {name for name, bus in self.statistics.buses.items() if bus.state == link.OTHER_MASTER}

    def clock_changed(self, board: str, boot: str, uptime_ms: int, clock: Clock, now_s: float) -> None:
        """A new line from uptime to UTC: the receiver completes by it what went out without a time."""
        if clock.utc_at_uptime_0_ms is None or clock.err_ms is None:
            return
        seq = self._number("event")
        payload = json_feed.clock(
            self.gateway,
            self.epoch,
            seq,
            self.birth,
            boot=f"{board}/{boot}",
            from_uptime_ms=uptime_ms,
            utc_at_uptime_0_ms=clock.utc_at_uptime_0_ms,
            drift_ppm=clock.drift_ppb / 1000,
            err_ms=clock.err_ms,
        )
        self._event(Message("event", seq, "clock", self.birth, payload, None), now_s)

    def alarm(self, change: Change, quality: json_feed.TimeQuality, decided_ms: int, now_s: float) -> None:
        """A transition of an alarm of the gateway itself, found at `decided_ms` by the gateway's clock."""
        alarm = change.alarm
        alarm.seq = seq = self._number("event")
        payload = json_feed.alarm(
            self.gateway,
            self.epoch,
            seq,
            self.birth,
            mode=self.mode,  # nobody plays these
            alarm=alarm.alarm,
            occurrence=alarm.facts.occurrence,
            transition=change.transition,
            before=change.before.state,
            after=alarm.state,
            facts=asdict(alarm.facts),
            quality=quality,
            t_ms=decided_ms if quality.kind != "unsynced" else None,
            decided_ms=decided_ms,
            priority=alarm.priority,
            action=alarm.action,
            by=change.by,
            reason=change.reason,
            journalled=self.journalled,
        )
        self._event(Message("event", seq, "alarm", self.birth, payload, None), now_s)

    def tell(
        self, told: Iterable[Told | Bypassed], own_quality: json_feed.TimeQuality, decided_ms: int, now_s: float
    ) -> None:
        """What the judge found or was told; `own_quality` is that of the gateway's own clock."""
        for each in told:
            if isinstance(each, Told):
                self._alarm(each, each.quality or own_quality, decided_ms, now_s)
            else:
                action = "drill" if each.bypass.kind == "drill" else "bypass"
                bypass = each.bypass._asdict() | {"is_over": each.is_over}
                del bypass["reason"]
                self.action(action, own_quality, decided_ms, each.by, each.reason, now_s, bypass=bypass)

    def _alarm(
        self,
        told: Told,
        quality: json_feed.TimeQuality,
        decided_ms: int | None,
        now_s: float,
        filled: _Open | None = None,
        row: int = 0,
    ) -> None:
        """A transition of an alarm of a point; `row` of `filled` is the reading that made it."""
        assert self.judge is not None
        change, setting = told.change, told.change.setting
        if self._horn is not None:
            self._horn.heard(change, told.is_late)
        seq = self._number("event")
        self.judge.numbered(setting.alarm, seq)
        point = self._rows[setting.point]
        value = change.value if change.value is None else json_feed.number(change.value, point["type"])
        payload = partial(
            json_feed.alarm,
            self.gateway,
            self.epoch,
            seq,
            self.birth,
            mode=told.mode or self.mode,
            alarm=setting.alarm,
            occurrence=change.after.occurrence,
            transition=change.transition,
            before=change.before.state,
            after=change.after.state,
            facts=asdict(change.after),
            quality=quality,
            t_ms=told.t_ms,
            decided_ms=decided_ms,
            priority=setting.priority,
            judged_late=told.is_late,
            journalled=self.journalled,
            point=(setting.point, value, point["unit"], change.status, setting.setpoint),
            first_out=change.first_out,
            by=told.by,
            reason=told.reason,
            rests_on=change.rests_on,
        )
        raised_ms = decided_ms if quality.kind == "unsynced" else told.t_ms
        if change.transition == RAISE and setting.priority <= KEPT_PRIORITY and raised_ms is not None:
            self._raised_ms.append(raised_ms)
        self._event(_Alarm(seq, self.birth, payload, filled, row), now_s)

    def _gap(
        self,
        cause: str,
        board: str,
        clock: Clock,
        begin: json_feed.Moment,
        end: json_feed.Moment,
        polls: int | None,
        now_s: float,
        *,
        polls_are: str = "exact",
        bus: str | None = None,
    ) -> None:
        """Readings of this board are missing between two moments, of which `clock` gives the time of the second.

        `polls` is None where nobody can know how many.
        """
        seq = self._number("event")
        payload = json_feed.gap(
            self.gateway,
            self.epoch,
            seq,
            self.birth,
            cause=cause,
            quality=json_feed.TimeQuality(clock.kind, clock.err_ms, None),
            begin=begin,
            end=end,
            board=board,
            bus=bus,
            polls=polls,
            polls_are="unknown" if polls is None else polls_are,
        )
        self._event(Message("event", seq, "gap", self.birth, payload, None), now_s)

    @property
    def replaced(self) -> set[tuple[str, int]]:
        """(bus, unit id) of the units that answer with another serial number than the one they are known by."""
        return {read.unit for read in self._checks() if fault(read.watches) == (UNIT_REPLACED, 0)}

    def accept(
        self,
        unit: tuple[Any, Any],
        quality: json_feed.TimeQuality,
        t_ms: int,
        by: str,
        reason: str | None,
        now_s: float,
    ) -> bool:
        """A person says that the device which answers at this unit is the right one; False where none was in doubt."""
        watches = [read.check for read in self._checks() if read.unit == unit and read.check]
        if not self._devices.accept(watches):
            return False
        self.action("unit_accepted", quality, t_ms, by, reason, now_s, unit=unit)
        return True

    def action(
        self,
        action: str,
        quality: json_feed.TimeQuality,
        t_ms: int,
        by: str | None,
        reason: str | None,
        now_s: float,
        *,
        unit: tuple[str, int] | None = None,
        bypass: dict[str, Any] | None = None,
    ) -> None:
        """Something was done to no single alarm, by a person or, without a name, by the gateway."""
        seq = self._number("event")
        payload = json_feed.action(
            self.gateway,
            self.epoch,
            seq,
            self.birth,
            action=action,
            quality=quality,
            t_ms=t_ms,
            by=by,
            reason=reason,
            unit=unit,
            bypass=bypass,
        )
        self._event(Message("event", seq, "action", self.birth, payload, None), now_s)

    def dropped(self, dropped: Dropped, now_s: float) -> None:
        """The store gave up what was not safe with everybody yet: a gap for each epoch that it is of."""
        quality = json_feed.TimeQuality("unsynced" if dropped.from_ms is None else "synced", None, None)
        missing: list[Any] = [(epoch, *span) for epoch, span in dropped.numbers.items()] or [None]
        for each in missing:
            seq = self._number("event")
            is_all = dropped.polls > 0 and len(missing) == 1
            payload = json_feed.gap(
                self.gateway,
                self.epoch,
                seq,
                self.birth,
                cause=dropped.cause,
                quality=quality,
                begin=json_feed.Moment(dropped.from_ms),
                end=json_feed.Moment(dropped.to_ms),
                polls=dropped.polls if is_all else None,
                polls_are="at_most" if is_all else "unknown",
                of=dropped.stream,
                missing=each,
            )
            self._event(Message("event", seq, "gap", self.birth, payload, None), now_s)

    def _checks(self) -> Iterable[_Read]:
        """The reads of the birth in force that tell who a unit is."""
        for meaning in self._meanings.values():
            if meaning.birth == self.birth:
                yield from meaning.checks

    def due_s(self) -> float:
        """When `close` wants to be called."""
        return float("inf") if self._close_s is None else self._close_s

    def close(self, now_s: float) -> list[Batch]:
        """Everything taken so far, to be committed in one transaction; empty when nothing was."""
        self._close_s = None
        batches = []
        places: dict[int, tuple[int, list[int]]] = {}
        for filled in (*self._full, *self._open.values()):
            messages = []
            if filled.reported:
                messages.append(self._data_message(filled, places))
            batches.append(Batch(filled.birth, tuple(filled.sections), tuple(filled.rows), (), tuple(messages)))
        if self._taken or self._events:
            held = tuple(self._devices.changes())
            events = tuple(each if isinstance(each, Message) else each.message(places) for each in self._events)
            alarms, bypasses = ((), None) if self.judge is None else self.judge.to_store()
            alarms = (*alarms, *self._system.to_store())
            taken = tuple(self._taken.values())
            raised_ms = tuple(self._raised_ms)
            batches.append(Batch(self.birth, (), (), taken, events, held, alarms, bypasses, raised_ms))
            self._taken.clear()
            self._raised_ms.clear()
            self._events = []
        self._full.clear()
        self._open.clear()
        return batches

    def latest(self) -> Iterable[tuple[str, tuple[int | None, float | int | None, int, int] | None]]:
        """Each point of the birth in force with its latest reading (utc_ms, value as in the feed, status, detail).

        One whose bus is not polled now has no value, only the time of its latest reading.
        """
        silent = {
            name for name, bus in self.statistics.buses.items() if bus.state in (link.LISTENING, link.OTHER_MASTER)
        }
        for row in self._births[self.birth]["points"]:
            latest = self._points[row["point"]].latest
            if row["source"]["bus"] in silent:
                latest = (latest[0] if latest else None, None, NOT_POLLED, 0)
            elif latest is not None and latest[1] is not None:
                latest = (latest[0], json_feed.number(latest[1], row["type"]), *latest[2:])
            yield row["point"], latest

    def _point(self, row: dict[str, Any], means: tuple[Any, ...]) -> _Point:
        point = self._points.get(row["point"])
        if point is None or point.means != means:
            point = self._points[row["point"]] = _Point(means, 0.0, 1, False)
        point.deadband = row["deadband"]
        point.heartbeat_ms = row["heartbeat_s"] * 1000
        point.urgent = row["urgent"]
        return point

    def _number(self, stream: str) -> int:
        seq = self.next_seq[stream]
        self.next_seq[stream] = seq + 1
        return seq

    def _event(self, message: Message | _Alarm, now_s: float) -> None:
        self._events.append(message)
        self._close_s = now_s  # an event closes the batch

    def _sample(
        self,
        taken: Taken,
        birth: str,
        read: _Read,
        uptime_ms: int,
        body: bytes,
        now_s: float,
        wall_ms: int | None,
    ) -> None:
        self.samples += 1
        clock = taken.clock
        outcome = body[1] & 15
        utc_ms = clock.utc_ms(uptime_ms)
        moment_ms = uptime_ms if utc_ms is None else utc_ms
        self.statistics.sample(read.unit, body, utc_ms, now_s)
        self.rebuilt.sample(read.unit, read.request, moment_ms, body, self.statistics.units[read.unit], now_s)
        if read.check is not None:
            if outcome == modbus.OK and self._devices.saw(read.check, bytes(body[link.SAMPLE_HEAD_BYTES :])):
                self._close_s = now_s
            return
        if not read.points:
            return
        if outcome == modbus.OK:
            readings = read.decoder.decode(_registers(body, read.bits))
        else:
            is_refusal = outcome == modbus.EXCEPTION and len(body) > link.SAMPLE_HEAD_BYTES
            readings = read.decoder.failed(outcome, body[link.SAMPLE_HEAD_BYTES] if is_refusal else 0)
        if read.watches and (told := fault(read.watches)) is not None:
            readings = [Reading(reading.point, None, *told) for reading in readings]
        for (_index, point), reading in zip(read.points, readings, strict=True):
            point.told = (reading.status, reading.detail)
        if read.needed:
            readings = [_no_better(*each) for each in zip(readings, read.needed, strict=True)]
        filled, section = self._batch(birth, taken.board, taken.boot, clock)
        rows = filled.rows
        for (index, point), measured in zip(read.points, readings, strict=True):
            found, reading = self._judged(point, measured, uptime_ms, now_s)
            makes_an_alarm = False
            for each in found:
                makes_an_alarm |= each.change.by_reading
                assert each.quality is not None  # that of its board's clock
                by_it = filled if each.change.by_reading else None
                self._alarm(each, each.quality, wall_ms, now_s, by_it, len(rows))
            if self._is_reported(point, moment_ms, reading, makes_an_alarm):
                filled.reported.append(len(rows))
                if point.urgent:
                    self._close_s = now_s
            rows.append(Row(section, uptime_ms, index, reading.value, reading.status, reading.detail))
            point.latest = (utc_ms, reading.value, reading.status, reading.detail)

    def _judged(
        self, point: _Point, measured: Reading, uptime_ms: int, now_s: float
    ) -> tuple[Sequence[Told], Reading]:
        """What comes of a reading, and the reading as it goes out: of what is worked on without its value."""
        if self.judge is None or self._points[measured.point] is not point:  # of before its point was changed
            return (), measured
        told = self.judge.reading(measured.point, uptime_ms, measured.value, measured.status, now_s)
        if measured.point in self.judge.bypassed:
            return told, Reading(measured.point, None, IN_MAINTENANCE, 0)
        return told, measured

    def _is_reported(self, point: _Point, time_ms: int, reading: Reading, makes_an_alarm: bool) -> bool:
        """Rule 8 of the feed."""
        value, status, detail = reading.value, reading.status, reading.detail
        beat = (time_ms - self._beat_offset_ms) // point.heartbeat_ms
        beats = beat != point.beat
        point.beat = beat
        last = point.reported
        if last is not None and not beats and not makes_an_alarm and status == last[1] and detail == last[2]:
            if value is None or last[0] is None:
                return False
            if abs(value - last[0]) <= point.deadband:
                return False
        point.reported = (value, status, detail)
        return True

    def _batch(self, birth: str, board: str, boot: str, clock: Clock) -> tuple[_Open, int]:
        key = (birth, clock.kind, f"{board}/{boot}" if clock.kind == "unsynced" else "")
        filled = self._open.get(key)
        if filled is not None and len(filled.reported) >= REPORTED_MAX:
            self._full.append(filled)
            filled = None
        if filled is None:
            filled = self._open[key] = _Open(birth)
        place = filled.places.get((board, boot, clock))
        if place is None:
            place = filled.places[board, boot, clock] = len(filled.sections)
            filled.sections.append(Section(board, boot, clock))
        return filled, place

    def _data_message(self, filled: _Open, places: dict[int, tuple[int, list[int]]]) -> Message:
        seq = self._number("data")
        points = self._births[filled.birth]["points"]
        order = message_order(points, filled.sections, filled.rows, filled.reported)
        places[id(filled)] = seq, order
        payload = data_payload(self.gateway, self.epoch, seq, filled.birth, points, filled.sections, filled.rows, order)
        return Message("data", seq, "data", filled.birth, payload, bitmap(filled.reported, len(filled.rows)))


def _newest(marks: Iterable[Mark]) -> dict[str, _Newest]:
    return {mark.board: _Newest(mark.boot, mark.newest_uptime_ms, mark.newest_ms, None) for mark in marks}


def _why_a_new_boot(newest: _Newest, taken: Taken) -> str:
    """What kept the readings between the newest sample and this boot of the board away.

    A board that starts again is back within seconds. One that was away for longer was down; and where the gateway was
    away as well, nobody knows what the board had been doing. Only then the wall clock measures how long that was: if it
    was stepped meanwhile, the cause may be the wrong one of these, the gap is right.
    """
    if newest.at_s is not None:
        return "board_restart" if taken.began_s - newest.at_s < SILENT_S else "board_down"
    began_ms = taken.clock.utc_at_uptime_0_ms
    if began_ms is None or newest.utc_ms is None or began_ms - newest.utc_ms < SILENT_S * 1000:
        return "board_restart"
    return "not_running"


def _moment(board: str, boot: str, clock: Clock, uptime_ms: int) -> json_feed.Moment:
    return json_feed.Moment(clock.utc_ms(uptime_ms), f"{board}/{boot}", uptime_ms)


def _no_better(reading: Reading, needed: _Point | None) -> Reading:
    """The reading, no better than the newest one of the point that tells its faults."""
    if needed is None or needed.told is None or needed.told[0] // 100 <= reading.status // 100:
        return reading
    return Reading(reading.point, reading.value if has_value(needed.told[0]) else None, *needed.told)


def _registers(body: bytes, bits: int) -> Sequence[int]:
    """The registers of an intact sample, or its coils."""
    if bits:
        return modbus_edge.unpack_bits(body[link.SAMPLE_HEAD_BYTES :], bits)
    return struct.unpack_from(f">{(len(body) - link.SAMPLE_HEAD_BYTES) // 2}H", body, link.SAMPLE_HEAD_BYTES)
