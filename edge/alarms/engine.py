"""Readings in, transitions of alarms out: where conditions, delays and lives of alarms meet. Policy.

Owns every alarm of a site as it stands. Each board has a time of its own, that of its samples: a delay is over when a
later sample of that board says so, or when whoever feeds this says that so much time has passed without one. So the
same samples give the same transitions, whether they come one by one or in one burst. Must never look at a clock, and
never acknowledge anything.
"""

import heapq
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from operator import attrgetter

from edge.alarms import conditions, lifecycle
from edge.alarms.conditions import NEVER_MS, Delayed
from edge.alarms.lifecycle import Facts
from protocols.model import GOOD


@dataclass(frozen=True, slots=True)
class Setting:
    """One alarm as the site asks for it. Its id is its point, or what it votes on, a colon, and its kind.

    LL, L, H, HH: `setpoint` in the point's unit. ROR, ROF: rise, fall a minute over `window_ms`. TTHH, TTCH: `setpoint`
    minutes to `level`. DEV: at each reading of its own, `setpoint` apart from the point `other`. OVER, UNDER, FAULT,
    CHECK: a status of `statuses`. FROZEN: the same value for `window_ms`. STALE: no value for `on_ms`, and none of
    `statuses`. VOTE: `needed` of the alarms `members` of other points; `point` is the first of these. `group`: the
    first by a limit, a rate or a time in it is marked as first-out. `re_alarm_ms`: an acknowledged alarm that still
    stands after it is announced anew. `consequence`: what happens where nobody does the `action` within
    `minutes_to_act`; "" and None: nobody says.
    """

    alarm: str
    kind: str
    point: str
    group: str
    priority: int
    action: str
    setpoint: float | None = None
    deadband: float = 0.0
    on_ms: int = 0
    off_ms: int = 0
    latch: bool = False
    can_be_shelved: bool = True
    re_alarm_ms: int | None = None
    window_ms: int = 0
    level: float = 0.0
    other: str = ""
    statuses: frozenset[int] = frozenset()
    members: tuple[str, ...] = ()
    needed: int = 0
    bad_counts: bool = True
    consequence: str = ""
    minutes_to_act: float | None = None


@dataclass(frozen=True, slots=True)
class Change:
    """A transition to be told. `t_ms`: of the sample, or of the end of a delay, in the time of `board`.

    `value`, `status`: the point's reading that stood then. `rests_on`: how many members a vote counts, else None.
    `by_reading`: the reading that it came with made it, and not that time has passed or a person's word.
    """

    setting: Setting
    transition: str
    before: Facts
    after: Facts
    board: str
    t_ms: int
    value: float | None
    status: int
    first_out: bool
    rests_on: int | None
    by_reading: bool


class _Alarm:
    """One alarm at work; `judge` says what its point's newest reading says of it."""

    __slots__ = (
        "condition", "delayed", "due_ms", "facts", "judge", "kind", "place", "point", "re_alarm_due_ms", "setting"
    )  # fmt: skip

    def __init__(self, setting: Setting, facts: Facts, place: int, point: "_Point") -> None:
        self.setting = setting
        self.facts = facts
        self.place = place  # in the engine's order
        self.point = point
        self.kind = lifecycle.Kind(setting.latch, setting.can_be_shelved)
        self.delayed = Delayed(setting.on_ms, setting.off_ms, lapses=setting.kind == "STALE")
        self.delayed.holds = facts.active
        self.re_alarm_due_ms = NEVER_MS
        self.due_ms = NEVER_MS  # its place in the board's queue
        self.condition: _Condition | None = None  # of a single point
        self.judge: Callable[[int], bool | None]


@dataclass(slots=True)
class _Point:
    """One point: its newest reading, and the alarms that a reading of it is asked about."""

    board: str
    value: float | None = None
    status: int = GOOD
    alarms: list[_Alarm] = field(default_factory=list)
    over_alarm: _Alarm | None = None
    stale_alarm: _Alarm | None = None

    @property
    def is_stale(self) -> bool:
        """Its newest reading is too old to be believed."""
        return self.stale_alarm is not None and self.stale_alarm.facts.active

    @property
    def is_unread(self) -> bool:
        """Nothing came of it yet: what is read without a value has a status that is not good."""
        return self.value is None and self.status == GOOD


@dataclass(slots=True)
class _Board:
    """The time of one board, and when which alarm is due in it; what is over may still lie in the queue."""

    now_ms: int = 0
    queue: list[tuple[int, int]] = field(default_factory=list)


_NOTHING: Sequence[Change] = ()


class Engine:
    """The alarms of a site. `boards`: the board of each point. `stand`: facts of an earlier run, by alarm.

    Alarms that vote come after all those of their members' points.
    """

    def __init__(
        self, settings: Iterable[Setting], boards: Mapping[str, str], stand: Mapping[str, Facts] | None = None
    ) -> None:
        stand = stand or {}
        self._points = {point: _Point(board) for point, board in boards.items()}
        self._boards = {board: _Board() for board in boards.values()}
        self._by_id: dict[str, _Alarm] = {}
        self._alarms: list[_Alarm] = []
        self._standing: dict[str, int] = {}  # alarms that stand and lead, by group
        for setting in settings:
            point = self._points[setting.point]
            alarm = _Alarm(setting, stand.get(setting.alarm, Facts()), len(self._alarms), point)
            self._alarms.append(alarm)
            self._by_id[setting.alarm] = alarm
            self._attach(alarm)
            self._stands(alarm, Facts())

    def _attach(self, alarm: _Alarm) -> None:
        """Where its truth comes from, and whose readings change it."""
        setting, point = alarm.setting, alarm.point
        heard = [point]
        if setting.kind == "VOTE":
            members = [self._by_id[name] for name in setting.members]
            vote = conditions.Vote(setting.needed, setting.bad_counts)
            alarm.judge = lambda _t_ms: vote.truth([self._said(member) for member in members])
            heard = [member.point for member in members]
        elif setting.kind == "DEV":
            assert setting.setpoint is not None
            deviation = conditions.Deviation(setting.setpoint, setting.deadband)
            other = self._points[setting.other]
            alarm.judge = lambda _t_ms: deviation.truth(
                point.value, None if other.is_stale else other.value, alarm.delayed.holds
            )
        else:
            self._judge_by(alarm, _condition(setting))
        if setting.kind == "OVER" and setting.latch:
            point.over_alarm = alarm
        if setting.kind == "STALE":
            point.stale_alarm = alarm
        for each in heard:
            each.alarms.append(alarm)

    @staticmethod
    def _judge_by(alarm: _Alarm, condition: "_Condition") -> None:
        point = alarm.point
        alarm.condition = condition
        alarm.judge = lambda t_ms: condition.truth(t_ms, point.value, point.status, alarm.delayed.holds)

    def begin(self, board: str, t_ms: int) -> None:
        """The time of a board begins: of its points, those that nothing comes of are stale from here on."""
        self._boards[board].now_ms = t_ms
        for alarm in self._alarms:
            if alarm.point.board == board:
                self._await(alarm)

    def _await(self, alarm: _Alarm) -> None:
        """It lapses from now on, if it does and has not; it is announced anew, if it stands acknowledged."""
        now_ms = self._boards[alarm.point.board].now_ms
        if alarm.delayed.lapses and not alarm.delayed.holds:
            alarm.delayed.told(False, now_ms)
            self._queue(alarm)
        self._await_re_alarm(alarm, now_ms)

    def _await_re_alarm(self, alarm: _Alarm, t_ms: int) -> None:
        """From then on its re-alarm time runs anew, or no more."""
        re_alarm_ms, facts = alarm.setting.re_alarm_ms, alarm.facts
        is_due = re_alarm_ms is not None and facts.active and facts.state == "ACKED"
        alarm.re_alarm_due_ms = t_ms + (re_alarm_ms or 0) if is_due else NEVER_MS
        self._queue(alarm)

    def reading(self, name: str, t_ms: int, value: float | None, status: int) -> Sequence[Change]:
        """A reading of a point, in the order of its board's samples: what came of it, and of the time until it."""
        point = self._points[name]
        board = self._boards[point.board]
        changes = _NOTHING
        if board.queue and board.queue[0][0] <= t_ms:
            changes = self.advance(point.board, t_ms)
        board.now_ms = t_ms
        point.value, point.status = value, status
        for alarm in point.alarms:
            delayed = alarm.delayed
            truth = alarm.judge(t_ms)
            if truth is False and delayed.holds and self._outranked(alarm):
                truth = None
            if truth == delayed.holds and delayed.since_ms is None and not delayed.lapses:
                continue
            if delayed.told(truth, t_ms):
                changes = [*changes, *self._turned(alarm, t_ms, point.board, by_reading=True)]
            self._queue(alarm)
        return changes

    def advance(self, name: str, t_ms: int) -> Sequence[Change]:
        """The time of a board has come to `t_ms`: what was due until then, in its order."""
        board = self._boards[name]
        changes: list[Change] = []
        while board.queue and board.queue[0][0] <= t_ms:
            due_ms, place = heapq.heappop(board.queue)
            alarm = self._alarms[place]
            if alarm.due_ms != due_ms:
                continue
            alarm.due_ms = NEVER_MS
            if alarm.delayed.passed(due_ms):
                changes.extend(self._turned(alarm, due_ms))
                changes.extend(self._vote(alarm.point, due_ms))
            elif alarm.re_alarm_due_ms == due_ms:
                changes.extend(self._happens(alarm, lifecycle.RE_ALARM, due_ms))
            self._queue(alarm)
        board.now_ms = max(board.now_ms, t_ms)
        return changes

    def stand_still(self, name: str) -> None:
        """A board was not heard for a while: delays wait for what its points say next, but for what lapses."""
        for alarm in self._alarms:
            if alarm.point.board == name and not alarm.delayed.lapses:
                alarm.delayed.told(None, self._boards[name].now_ms)

    def lapse(self, name: str, t_ms: int) -> Sequence[Change]:
        """Nothing has come of a board until `t_ms`: what lapses without readings. All else waits for what it sends.

        Its time does not go on by it: samples of before may still come, and are judged in their own time.
        """
        changes: list[Change] = []
        due = [
            (alarm.delayed.due_ms, alarm.place)
            for alarm in self._alarms
            if alarm.point.board == name and alarm.delayed.lapses and alarm.delayed.due_ms <= t_ms
        ]
        for due_ms, place in sorted(due):
            alarm = self._alarms[place]
            alarm.delayed.passed(due_ms)
            changes.extend(self._turned(alarm, due_ms))
            changes.extend(self._vote(alarm.point, due_ms))
        return changes

    def _vote(self, point: _Point, t_ms: int) -> Iterable[Change]:
        """Time has turned an alarm of this point: what those say that vote on it."""
        for vote in point.alarms:
            if vote.setting.kind == "VOTE" and vote.delayed.told(vote.judge(t_ms), t_ms):
                yield from self._turned(vote, t_ms, point.board)

    def due_ms(self, name: str) -> int:
        """When `advance` wants to be called for a board, if no sample of it comes before."""
        queue = self._boards[name].queue
        return queue[0][0] if queue else NEVER_MS

    def command(
        self, alarm_id: str, event: str, *, occurrence: int | None = None, until_ms: int | None = None
    ) -> Change | str:
        """What a person asks for: the transition, or why it is refused. KeyError for an alarm that is not known."""
        alarm = self._by_id[alarm_id]
        after = lifecycle.step(alarm.facts, alarm.kind, event, occurrence=occurrence, until_ms=until_ms)
        if isinstance(after, str):
            return after
        now_ms = self._boards[alarm.point.board].now_ms
        return self._changed(alarm, event, after, now_ms)

    def as_it_is(self, alarm_id: str, transition: str) -> Change:
        """Something to be told of an alarm that changes nothing of it. KeyError for one that is not known."""
        alarm = self._by_id[alarm_id]
        return self._changed(alarm, transition, alarm.facts, self._boards[alarm.point.board].now_ms)

    def succeed(self, before: "Engine") -> None:
        """Go on where another engine was: the time of its boards, its readings, delays and windows that have begun.

        An alarm that is set otherwise keeps its facts, and its delays begin anew; so does its window where that is of
        another condition.
        """
        for name, board in self._boards.items():
            if name in before._boards:
                board.now_ms = before._boards[name].now_ms
        for name, point in self._points.items():
            known = before._points.get(name)
            if known is not None and known.board == point.board:
                point.value, point.status = known.value, known.status
        for alarm in self._alarms:
            old = before._by_id.get(alarm.setting.alarm)
            if old is not None and old.point.board != alarm.point.board:
                old = None
            if old is not None and old.condition is not None and _asks(old.setting) == _asks(alarm.setting):
                self._judge_by(alarm, old.condition)
            if old is not None and old.setting == alarm.setting and old.facts == alarm.facts:
                alarm.delayed, alarm.re_alarm_due_ms = old.delayed, old.re_alarm_due_ms
                self._queue(alarm)
            else:
                self._await(alarm)

    def stand(self) -> dict[str, Facts]:
        """Every alarm that is not as it was made, for the next run and for the state document."""
        return {alarm.setting.alarm: alarm.facts for alarm in self._alarms if alarm.facts != Facts()}

    def _outranked(self, alarm: _Alarm) -> bool:
        """Whether a high alarm may not clear, for its detector was over its range and nobody has reset that yet."""
        over_alarm = alarm.point.over_alarm
        return over_alarm is not None and over_alarm.facts.latched and alarm.setting.kind in conditions.HIGH

    @staticmethod
    def _said(member: _Alarm) -> int:
        """What a member of a vote says. What dies in alarm is in alarm: no BAD reading clears that, here neither."""
        facts, point = member.facts, member.point
        if facts.out_of_service:
            return conditions.IN_MAINTENANCE
        if facts.active:
            return conditions.IN_ALARM
        if point.is_stale:
            return conditions.BAD
        if point.is_unread:
            return conditions.UNREAD
        return conditions.BAD if point.value is None else conditions.HEALTHY

    def _turned(self, alarm: _Alarm, t_ms: int, board: str = "", by_reading: bool = False) -> Sequence[Change]:
        """Its condition came to hold, or to hold no more. `board`: whose time that is, where it is not its point's."""
        event = lifecycle.RAISE if alarm.delayed.holds else lifecycle.CLEAR
        return self._happens(alarm, event, t_ms, board, by_reading)

    def _happens(
        self, alarm: _Alarm, event: str, t_ms: int, board: str = "", by_reading: bool = False
    ) -> Sequence[Change]:
        after = lifecycle.step(alarm.facts, alarm.kind, event)
        if isinstance(after, str) or after == alarm.facts:
            return _NOTHING
        return [self._changed(alarm, event, after, t_ms, board, by_reading)]

    def _changed(
        self, alarm: _Alarm, event: str, after: Facts, t_ms: int, board: str = "", by_reading: bool = False
    ) -> Change:
        before, setting = alarm.facts, alarm.setting
        first_out = event == lifecycle.RAISE and _leads(setting, after) and not self._standing.get(setting.group)
        if event == lifecycle.RAISE:
            after = replace(after, first_out=first_out)
        alarm.facts = after
        if after != before:
            self._await_re_alarm(alarm, t_ms)
        self._stands(alarm, before)
        rests_on = None
        if setting.kind == "VOTE":
            members = [self._said(self._by_id[name]) for name in setting.members]
            rests_on = conditions.Vote(setting.needed, setting.bad_counts).rests_on(members)
        point = alarm.point
        return Change(
            setting=setting,
            transition=event,
            before=before,
            after=after,
            board=board or point.board,
            t_ms=t_ms,
            value=point.value,
            status=point.status,
            first_out=first_out,
            rests_on=rests_on,
            by_reading=by_reading,
        )

    def _stands(self, alarm: _Alarm, before: Facts) -> None:
        """Count it among those of its group, where that is news."""
        stood, stands = _leads(alarm.setting, before), _leads(alarm.setting, alarm.facts)
        if stood != stands:
            group = alarm.setting.group
            self._standing[group] = self._standing.get(group, 0) + (1 if stands else -1)

    def _queue(self, alarm: _Alarm) -> None:
        """Be asked when it is due. An entry that has become too early is found out when its time comes."""
        due_ms = min(alarm.delayed.due_ms, alarm.re_alarm_due_ms)
        if due_ms < alarm.due_ms:
            alarm.due_ms = due_ms
            heapq.heappush(self._boards[alarm.point.board].queue, (due_ms, alarm.place))


_OF_PROCESS = frozenset(("LL", "L", "H", "HH", "ROR", "ROF", "TTHH", "TTCH"))


def _leads(setting: Setting, facts: Facts) -> bool:
    """Whether it stands, for people to see, by a person's limit: what a detector says of itself is no first alarm.

    A vote is none either: it follows from others, and may rest on what is broken.
    """
    return setting.kind in _OF_PROCESS and facts.state in ("UNACK", "ACKED")


_asks = attrgetter("kind", "setpoint", "deadband", "window_ms", "level", "statuses")  # all that a condition is made of
_Condition = (
    conditions.Limit | conditions.Rate | conditions.TimeTo | conditions.Status | conditions.Frozen | conditions.Stale
)


def _condition(setting: Setting) -> _Condition:
    """The condition of a single point."""
    match setting.kind:
        case "STALE":
            return conditions.Stale(setting.statuses)
        case "FROZEN":
            return conditions.Frozen(setting.window_ms)
        case "OVER" | "UNDER" | "FAULT" | "CHECK":
            return conditions.Status(setting.statuses)
    if setting.setpoint is None:
        raise ValueError(f"alarm {setting.alarm}: kind {setting.kind} needs a setpoint")
    match setting.kind:
        case "LL" | "L" | "H" | "HH":
            return conditions.Limit(setting.kind, setting.setpoint, setting.deadband)
        case "ROR" | "ROF":
            return conditions.Rate(setting.kind, setting.setpoint, setting.deadband, setting.window_ms)
        case "TTHH" | "TTCH":
            return conditions.TimeTo(setting.level, setting.setpoint, setting.deadband, setting.window_ms)
    raise ValueError(f"alarm {setting.alarm}: kind {setting.kind!r} is not known")
