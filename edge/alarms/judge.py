"""The alarms of a site as it runs: readings and people's words in, what is to be told and stored out. Policy.

Owns what lies around the engine: the time of each board, which goes on across its boots, and the UTC of a transition;
what was found late; what stood before a restart or a change of the site; shelves and bypasses, and their ends. Must
never let an order depend on UTC, nor look at a clock: `now_s` is monotonic, `wall_ms` what the gateway's clock says.
"""

import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from gettext import gettext as _
from typing import Any

from edge.alarms import lifecycle
from edge.alarms.engine import Change, Engine, Setting
from edge.alarms.lifecycle import Facts, Standing, facts_of
from edge.alarms.presets import alarms_of, birth_row
from edge.batch import Bypass, Kept
from edge.boards import Taken
from edge.timebase import UNSYNCED, Clock
from protocols.feeds.json_feed import TimeQuality
from protocols.model import Point, Site

LATE_S = 10.0  # a reading that came so long after it was taken: whoever could have acted did not know
# A board that is quiet for so long is judged by the gateway's clock. Longer than what it takes to start again and to
# listen for another master: a restart of a board is no reason to call all its points stale.
QUIET_S = 15.0
START_S = 30.0  # the same for a board that was not heard since the gateway began
LOOK_S = 1.0
SHELVE_MAX_MS = 12 * 3_600_000  # longer than a shift: nobody remembers
BYPASS_MAX_MS = 7 * 24 * 3_600_000
DRILL = "drill"
LIMITS = ("setpoint", "needed")  # one of them is what an alarm is about, where it is about a number
# What of an alarm is told when the site's files change it, as in a birth; these come first.
TOLD_OF = (
    *LIMITS, "deadband", "on_delay_s", "off_delay_s", "latch", "window_s", "level", "other", "members", "bad_counts",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Told:
    """A transition of an alarm of a point. `quality` is None where `t_ms` is by the gateway's own clock.

    `mode`: "test" or "drill", None where it is meant. `t_ms` is an uptime where unsynced.
    """

    change: Change
    mode: str | None
    quality: TimeQuality | None
    t_ms: int
    is_late: bool
    by: str | None = None
    reason: str | None = None


@dataclass(frozen=True, slots=True)
class Bypassed:
    """A bypass or a drill begins, or ends."""

    bypass: Bypass
    is_over: bool
    by: str | None
    reason: str | None


@dataclass(slots=True)
class _Board:
    """One board's time: that of its samples, on one counter for all its boots. `base_ms`: where this boot began.

    `ended_s`: when the newest reading of an earlier boot was taken.
    """

    heard_s: float
    quiet_s: float
    boot: str | None = None
    clock: Clock = UNSYNCED
    began_s: float = 0.0
    base_ms: int | None = None  # None until the first sample of this boot
    newest_ms: int = 0
    ended_s: float | None = None


class Judge:
    """`kept` and `bypasses` are what an earlier process has stored; `begin` comes before anything else.

    `last_number`: of the bypasses that there ever were. `is_unread`: what was stored cannot be read yet. Then nothing
    is to be stored over it until `learn`.
    """

    def __init__(
        self,
        site: Site,
        kept: Iterable[Kept],
        bypasses: Iterable[Bypass],
        now_s: float,
        wall_ms: int,
        last_number: int = 0,
        is_unread: bool = False,
    ) -> None:
        self.changes = 0  # of what the state document tells
        self.is_clock_trusted = True  # the gateway's own; while it is not, it may say any year
        self.bypassed: frozenset[str] = frozenset()  # points that are worked on
        self._known = {each.alarm: each for each in kept}
        self._leaving: set[str] = set()  # alarms that the next site does not have
        self._bypasses: dict[int, Bypass] = {}
        self._ends_s: dict[int, float] = {}
        self._last_number = last_number
        self._goes_on(bypasses, now_s, wall_ms)
        self.is_unread = is_unread
        self._boards: dict[str, _Board] = {}
        self._to_store: set[str] = set()
        self._bypasses_to_store = False
        self._look_s = now_s
        self._engine = self._set_up(site, now_s)
        self._unshelve_s: dict[tuple[str, int], float] = {}  # each shelf, by its alarm and its end in UTC
        self._time_shelves(now_s, wall_ms)
        for board in self._boards:
            self._engine.begin(board, 0)

    def _set_up(self, site: Site, now_s: float) -> Engine:
        boards = {bus.name: bus.board for bus in site.buses}
        self._site = site
        self._settings = {setting.alarm: setting for setting in alarms_of(site)}
        self._points = {point.point: boards[point.bus] for point in site.points}
        self._standing = {
            alarm: Standing(alarm, setting.priority, setting.action, *self._what_is_known(alarm))
            for alarm, setting in self._settings.items()
        }
        for board in set(self._points.values()) - self._boards.keys():
            self._boards[board] = _Board(now_s, START_S)
        self._cover()
        facts = {alarm: each.facts for alarm, each in self._standing.items()}
        return Engine(self._settings.values(), self._points, facts)

    def _goes_on(self, bypasses: Iterable[Bypass], now_s: float, wall_ms: int) -> None:
        """Bypasses of an earlier process: none lasts longer than it was meant to, wherever the clock stands now."""
        for each in bypasses:
            self._bypasses[each.number] = each
            self._ends_s[each.number] = now_s + min(each.until_ms - wall_ms, each.until_ms - each.from_ms) / 1000
        self._last_number = max(self._last_number, *self._bypasses, 0)

    def _time_shelves(self, now_s: float, wall_ms: int) -> None:
        """When each shelf of this site ends: one that is known keeps its end, wherever the clock stands by now."""
        known = self._unshelve_s
        self._unshelve_s = {
            (alarm, until_ms): known.get((alarm, until_ms), now_s + min(until_ms - wall_ms, SHELVE_MAX_MS) / 1000)
            for alarm, each in self._standing.items()
            if (until_ms := each.facts.shelved_until_ms) is not None
        }

    def _what_is_known(self, alarm: str) -> tuple[Facts, int | None, int, bool, bool]:
        kept = self._known.get(alarm)
        if kept is None:
            return Facts(), None, 0, False, False
        words = json.loads(kept.facts)
        return facts_of(words), kept.since_ms, 0, kept.is_late, words.get("is_played", False)

    # --- what stood before ------------------------------------------------------------------------------------------

    def begin(self, wall_ms: int) -> Iterator[Told]:
        """What stands from before, once, and limits that were changed while nobody ran."""
        yield from self._limits_changed(wall_ms, None, bool(self._known))
        yield from self._announce(self._standing, wall_ms)
        yield from self._serve(wall_ms, None, _("the site was changed"))

    def _announce(self, alarms: Iterable[str], wall_ms: int) -> Iterator[Told]:
        reason = _("stood when the gateway started")
        for alarm in alarms:
            standing = self._standing[alarm]
            if standing.state != "NORM":
                yield self._said(alarm, lifecycle.NOTE, standing.facts, wall_ms, None, reason)

    def learn(
        self, kept: Iterable[Kept], bypasses: Iterable[Bypass], last_number: int, now_s: float, wall_ms: int
    ) -> Iterator[Told]:
        """What an earlier process has stored can be read only now. What has happened meanwhile counts more."""
        happened = {alarm: self._kept(alarm) for alarm, each in self._standing.items() if each.facts != Facts()}
        self._known = {each.alarm: each for each in kept} | happened
        self._last_number = last_number
        self._goes_on(bypasses, now_s, wall_ms)
        self.is_unread = False
        self._renew(self._site, now_s, wall_ms)
        yield from self._limits_changed(wall_ms, None, self._known.keys() > happened.keys())
        yield from self._announce([alarm for alarm in self._standing if alarm not in happened], wall_ms)
        yield from self._serve(wall_ms, None, None)

    def configure(self, site: Site, now_s: float, wall_ms: int, by: str | None = None) -> Iterator[Told]:
        """Another site, after `leave`: alarms go on by their ids, delays that are set as before as well."""
        self._known |= {alarm: self._kept(alarm) for alarm in self._standing}
        self._renew(site, now_s, wall_ms)
        yield from self._limits_changed(wall_ms, by, True)
        yield from self._serve(wall_ms, by, _("the site was changed"))

    def leave(self, site: Site, wall_ms: int, by: str | None) -> Iterator[Told]:
        """Before another site: what stands and is not judged any more goes out of service, and is so if it returns.

        Limits that it does not have any more are told.
        """
        self._leaving = self._settings.keys() - {setting.alarm for setting in alarms_of(site)}
        self._to_store |= self._leaving
        for alarm, standing in self._standing.items():
            if alarm not in self._leaving:
                continue
            if standing.state != "NORM" and not standing.facts.out_of_service:
                yield from self._told(alarm, lifecycle.OUT_OF_SERVICE, wall_ms, by, _("the site was changed"))
            yield from self._limit_changed(alarm, _asked(self._settings[alarm]), {}, wall_ms, by)

    def _renew(self, site: Site, now_s: float, wall_ms: int) -> None:
        """Another engine for it, which goes on where this one is."""
        numbers = {alarm: each.seq for alarm, each in self._standing.items()}
        before = self._engine
        self._engine = self._set_up(site, now_s)
        self._engine.succeed(before)
        for alarm, standing in self._standing.items():
            standing.seq = numbers.get(alarm, 0)
        self._time_shelves(now_s, wall_ms)
        self.changes += 1

    def _limits_changed(self, wall_ms: int, by: str | None, is_any_known: bool) -> Iterator[Told]:
        """`is_any_known`: where none is, this is the first start, and all are new."""
        for alarm, setting in self._settings.items():
            kept, asked = self._known.get(alarm), _asked(setting)
            was = {} if kept is None else json.loads(kept.facts).get("asked")
            if was != asked:
                self._to_store.add(alarm)
            if kept is not None and was is None:  # by an older version
                was = asked | {"setpoint": kept.setpoint}
            if is_any_known:
                yield from self._limit_changed(alarm, was, asked, wall_ms, by)

    def _limit_changed(
        self, alarm: str, was: dict[str, Any], asked: dict[str, Any], wall_ms: int, by: str | None
    ) -> Iterator[Told]:
        """What was asked of an alarm, and what is; nothing of one that is not judged."""
        reason = "; ".join(
            ("" if name == "setpoint" else f"{name} ") + f"{_word(was.get(name))} → {_word(asked.get(name))}"
            for name in (TOLD_OF if was and asked else LIMITS)
            if was.get(name) != asked.get(name)
        )
        if reason:
            yield self._said(alarm, lifecycle.LIMIT_CHANGED, self._standing[alarm].facts, wall_ms, by, reason)

    def _kept(self, alarm: str) -> Kept:
        standing = self._standing[alarm]
        asked = {} if alarm in self._leaving else _asked(self._settings[alarm])
        words = asdict(standing.facts) | {"is_played": standing.is_played, "asked": asked}
        facts = json.dumps(words, ensure_ascii=False)
        return Kept(alarm, asked.get("setpoint"), facts, standing.since_ms, standing.is_late)

    def store_all(self) -> None:
        """The store is a new one, and knows nothing."""
        self._to_store.update(self._settings)
        self._bypasses_to_store = True

    def to_store(self) -> tuple[tuple[Kept, ...], tuple[Bypass, ...] | None]:
        """What has changed since this was asked last; nothing while what lies there is not known."""
        if self.is_unread:
            return (), None
        kept = tuple(
            self._kept(alarm) if alarm in self._standing else self._known[alarm] for alarm in sorted(self._to_store)
        )
        bypasses = tuple(self._bypasses.values()) if self._bypasses_to_store else None
        self._to_store.clear()
        self._bypasses_to_store = False
        return kept, bypasses

    # --- readings ---------------------------------------------------------------------------------------------------

    def took(self, taken: Taken) -> None:
        """Samples of a board come. Only a reading that follows shows that it is heard: their plan may be unknown."""
        board = self._boards.get(taken.board)
        if board is None:
            return
        if board.boot != taken.boot:
            if board.base_ms is not None:
                board.ended_s = board.began_s + (board.newest_ms - board.base_ms) / 1000
            board.boot, board.base_ms = taken.boot, None
        board.clock, board.began_s = taken.clock, taken.began_s

    def reading(
        self, name: str, uptime_ms: int, value: float | int | None, status: int, now_s: float
    ) -> Sequence[Told]:
        """A reading as the sensor gave it, of a point of the site as it is now."""
        board_name = self._points.get(name)
        if board_name is None:
            return ()
        board = self._boards[board_name]
        board.heard_s, board.quiet_s = now_s, QUIET_S
        if board.base_ms is None:
            self._was_off(board_name, board, uptime_ms)
            board.base_ms = board.newest_ms - uptime_ms
        board.newest_ms = max(board.newest_ms, board.base_ms + uptime_ms)
        changes = self._engine.reading(name, board.newest_ms, value, status)
        return [self._found(change, now_s, 0) for change in changes] if changes else ()

    def _was_off(self, name: str, board: _Board, uptime_ms: int) -> None:
        """Before the first reading of a boot: for how long there was none, less what `look` gives a board as well.

        Else what moved meanwhile would have moved in a moment.
        """
        if board.ended_s is None:
            return
        off_ms = round((board.began_s + uptime_ms / 1000 - board.ended_s - QUIET_S) * 1000)
        if off_ms > 0:
            board.newest_ms += off_ms
            self._engine.stand_still(name)

    def look(self, now_s: float, wall_ms: int) -> Iterator[Told | Bypassed]:
        """What time alone has brought about; to be asked often, and does nothing more than once in LOOK_S."""
        if now_s < self._look_s:
            return
        self._look_s = now_s + LOOK_S
        for name, board in self._boards.items():
            quiet_s = now_s - board.heard_s
            if quiet_s > board.quiet_s:
                until_ms = board.newest_ms + round((quiet_s - board.quiet_s) * 1000)
                for change in self._engine.lapse(name, until_ms):
                    yield self._found(change, now_s, wall_ms, lapsed=True)
        for shelf in [shelf for shelf, end_s in self._unshelve_s.items() if now_s >= end_s]:
            del self._unshelve_s[shelf]
            yield from self._told(shelf[0], lifecycle.UNSHELVE, wall_ms, None, _("its time is over"))
        for number in [number for number, end_s in self._ends_s.items() if now_s >= end_s]:
            yield from self.end_bypass(number, wall_ms, None, _("its time is over"))

    def _found(self, change: Change, now_s: float, wall_ms: int, lapsed: bool = False) -> Told:
        """By readings, or by their absence: of a board that was not heard since its start only `wall_ms` is a time."""
        board = self._boards[change.board]
        if board.base_ms is None:
            mode = self._note(change, self._known_ms(wall_ms), False)
            return Told(change, mode, None, wall_ms, False)
        uptime_ms = max(change.t_ms - board.base_ms, 0)
        utc_ms = board.clock.utc_ms(uptime_ms)
        boot = f"{change.board}/{board.boot}" if board.clock.kind == "unsynced" else None
        quality = TimeQuality(board.clock.kind, board.clock.err_ms, boot)
        is_late = not lapsed and now_s - (board.began_s + uptime_ms / 1000) > LATE_S
        mode = self._note(change, utc_ms, is_late)
        return Told(change, mode, quality, uptime_ms if utc_ms is None else utc_ms, is_late)

    def _note(self, change: Change, since_ms: int | None, is_late: bool) -> str | None:
        """Take it down; the mode that it is told in. What begins in a drill is played until it is well or announced
        after it; what stood before is not.
        """
        alarm = change.setting.alarm
        standing = self._standing[alarm]
        is_played = self.is_drill if change.before.stage == "NORM" else standing.is_played
        if change.transition in (lifecycle.RAISE, lifecycle.RE_ALARM):
            is_played = is_played and self.is_drill
        standing.is_played = is_played and change.after.stage != "NORM"
        if change.after != change.before:
            standing.facts, standing.since_ms, standing.is_late = change.after, since_ms, is_late
            self._to_store.add(alarm)
        self.changes += 1
        if change.transition == lifecycle.LIMIT_CHANGED:  # nobody plays that
            return None
        if is_played:
            return DRILL
        return "test" if change.before.out_of_service and change.after.out_of_service else None

    # --- what people do ---------------------------------------------------------------------------------------------

    def command(
        self,
        alarm: str,
        event: str,
        *,
        occurrence: int | None,
        until_ms: int | None,
        by: str,
        reason: str | None,
        now_s: float,
        wall_ms: int,
    ) -> Told | str:
        """What comes of it, or why it is refused. KeyError for an alarm that is not judged here."""
        facts = self._standing[alarm].facts
        if event == lifecycle.SILENCE and facts.occurrence != occurrence:
            return lifecycle.OTHER_OCCURRENCE
        if event == lifecycle.SILENCE and facts.state != "UNACK":
            return lifecycle.NOTHING_TO_SILENCE
        if event in (lifecycle.NOTE, lifecycle.SILENCE):
            return self._said(alarm, event, facts, wall_ms, by, reason)
        told = self._happens(alarm, event, wall_ms, by, reason, occurrence=occurrence, until_ms=until_ms)
        self._time_shelves(now_s, wall_ms)
        return told

    def _happens(
        self,
        alarm: str,
        event: str,
        wall_ms: int,
        by: str | None,
        reason: str | None,
        *,
        occurrence: int | None = None,
        until_ms: int | None = None,
    ) -> Told | str:
        change = self._engine.command(alarm, event, occurrence=occurrence, until_ms=until_ms)
        if isinstance(change, str):
            return change
        mode = self._note(change, self._known_ms(wall_ms), False)
        return Told(change, mode, None, wall_ms, False, by, reason)

    def _known_ms(self, wall_ms: int) -> int | None:
        return wall_ms if self.is_clock_trusted else None

    def _told(self, alarm: str, event: str, wall_ms: int, by: str | None, reason: str | None) -> Iterator[Told]:
        """The same where nobody has asked for it, and is to be refused."""
        told = self._happens(alarm, event, wall_ms, by, reason)
        if isinstance(told, Told):
            yield told

    def _said(self, alarm: str, event: str, facts: Facts, wall_ms: int, by: str | None, reason: str | None) -> Told:
        """Something that changes no fact."""
        change = self._engine.as_it_is(alarm, event)
        assert change.after == facts
        mode = self._note(change, None, False)
        return Told(change, mode, None, wall_ms, False, by, reason)

    # --- maintenance and drills -------------------------------------------------------------------------------------

    def bypass(
        self, kind: str, what: str, permit: str, owner: str, reason: str, until_ms: int, now_s: float, wall_ms: int
    ) -> Iterator[Told | Bypassed]:
        """From now on, until then at the latest. Not while `is_unread`: nobody knows which are in force."""
        self._last_number += 1
        bypass = Bypass(self._last_number, kind, what, permit, owner, reason, wall_ms, until_ms)
        self._bypasses[bypass.number] = bypass
        self._ends_s[bypass.number] = now_s + (until_ms - wall_ms) / 1000
        yield from self._bypasses_change(bypass, False, wall_ms, owner, reason)

    def end_bypass(self, number: int, wall_ms: int, by: str | None, reason: str | None) -> Iterator[Told | Bypassed]:
        """By its time, or by somebody. KeyError where it is not in force."""
        bypass = self._bypasses.pop(number)
        del self._ends_s[number]
        yield from self._bypasses_change(bypass, True, wall_ms, by, reason)

    def _bypasses_change(
        self, bypass: Bypass, is_over: bool, wall_ms: int, by: str | None, reason: str | None
    ) -> Iterator[Told | Bypassed]:
        self._bypasses_to_store = True
        self.changes += 1
        yield Bypassed(bypass, is_over, by, reason)
        self._cover()
        yield from self._serve(wall_ms, by, reason)

    def _cover(self) -> None:
        self.bypassed = frozenset(
            point.point
            for point in self._site.points
            if any(
                (each.kind == "point" and each.what == point.point)
                or (each.kind == "asset" and each.what == asset_of(point.point))
                or (each.kind == "unit" and each.what == f"{point.bus}/{point.unit_id}")
                for each in self._bypasses.values()
            )
        )

    def _serve(self, wall_ms: int, by: str | None, reason: str | None) -> Iterator[Told]:
        """Alarms of what is worked on are out of service, all others are not. A vote goes on, resting on fewer.

        What stands although its drill is over is meant, and announced as such. No shelf outlives that it may be one.
        """
        for alarm, setting in self._settings.items():
            standing = self._standing[alarm]
            is_out = not (setting.members or self.bypassed.isdisjoint((setting.point, setting.other)))
            if is_out != standing.facts.out_of_service:
                event = lifecycle.OUT_OF_SERVICE if is_out else lifecycle.IN_SERVICE
                yield from self._told(alarm, event, wall_ms, by, reason)
            if standing.is_played and standing.facts.stands and not self.is_drill:
                yield from self._told(alarm, lifecycle.RE_ALARM, wall_ms, None, _("it still stands after the drill"))
            if standing.facts.shelved_until_ms is not None and not setting.can_be_shelved:
                yield from self._told(alarm, lifecycle.UNSHELVE, wall_ms, by, _("it may not be shelved any more"))

    # --- for people -------------------------------------------------------------------------------------------------

    @property
    def is_drill(self) -> bool:
        """Whether what begins now is only played."""
        return any(each.kind == DRILL for each in self._bypasses.values())

    def bypasses(self) -> list[Bypass]:
        """Those in force."""
        return list(self._bypasses.values())

    def points(self) -> Sequence[Point]:
        """Those of the site."""
        return self._site.points

    def setting(self, alarm: str) -> Setting | None:
        """What the site asks of an alarm."""
        return self._settings.get(alarm)

    def as_it_is(self, alarm: str) -> Change | None:
        """Its point's newest reading, without a value while that is stale, and how many a vote rests on.

        None for one that is not judged here.
        """
        if alarm not in self._settings:
            return None
        change = self._engine.as_it_is(alarm, lifecycle.NOTE)
        stale = self._standing.get(f"{change.setting.point}:STALE")
        return replace(change, value=None) if stale is not None and stale.facts.active else change

    def numbered(self, alarm: str, seq: int) -> None:
        """Its newest event has this number."""
        self._standing[alarm].seq = seq

    def standing(self) -> list[Standing]:
        """Those that are not NORM, the most urgent first."""
        return sorted((each for each in self._standing.values() if each.state != "NORM"), key=lambda each: each.urgency)


def _asked(setting: Setting) -> dict[str, Any]:
    row = birth_row(setting)
    return {name: row[name] for name in TOLD_OF if row.get(name) is not None}


def _word(value: object) -> str:
    return "-" if value is None else json.dumps(value, ensure_ascii=False)


def asset_of(point: str) -> str:
    """TK101 of TK101.level."""
    return point.rpartition(".")[0]
