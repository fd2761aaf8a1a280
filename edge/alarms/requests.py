"""What people ask of alarms, here and from the district: what it means, what is refused, and why. Policy.

Owns the requests' fields, and the list that people see: alarms of points and of the gateway itself. What may happen to
an alarm says lifecycle.py. `by` is a role or a badge number, never a name. Must never do anything for nobody.
"""

from collections import deque
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from edge.alarms import lifecycle, system
from edge.alarms.judge import BYPASS_MAX_MS, DRILL, SHELVE_MAX_MS, Bypassed, Judge, Told, asset_of
from edge.alarms.lifecycle import Standing
from edge.alarms.system import Change, SystemAlarms
from protocols.feeds.json_feed import Command
from protocols.model import Destination, Point

REQUESTS = ("alarms", "alarm", "bypass", "end_bypass")
_OF_DISTRICT = {"acknowledge": lifecycle.ACK, "silence": lifecycle.SILENCE}
_COMMANDS = (*_OF_DISTRICT.values(), lifecycle.RESET, lifecycle.SHELVE, lifecycle.UNSHELVE, lifecycle.NOTE)

# Why not, beside lifecycle's reasons; codes that people's programs get.
BAD_REQUEST = "bad_request"
WHO_EMPTY = "who_empty"  # this one and the next three name their `field` beside them
WHO_TOO_LONG = "who_too_long"
WORDS_EMPTY = "words_empty"
WORDS_TOO_LONG = "words_too_long"
NOT_ALLOWED = "not_allowed"
UNKNOWN_ALARM = "unknown_alarm"
TOO_LONG = "too_long"
IN_THE_PAST = "in_the_past"
UNKNOWN_PLACE = "unknown_place"
NOT_IN_FORCE = "not_in_force"
ALREADY_A_DRILL = "already_a_drill"
NO_STORE = "no_store"

REFUSALS_TOLD = 20  # in an hour
WHO_MAX, WORDS_MAX = 64, 500  # characters: an event is no place for a book

_Asked = tuple[dict[str, Any], list[Told | Bypassed | Change]]


class Requests:
    """Of one gateway."""

    def __init__(self, judge: Judge, gateway: SystemAlarms) -> None:
        self._judge = judge
        self._refusals_s: deque[float] = deque(maxlen=REFUSALS_TOLD)
        self._gateway = gateway

    def standing(self) -> list[Standing]:
        """All that are not NORM, the most urgent first."""
        return sorted([*self._judge.standing(), *self._gateway.standing()], key=lambda each: each.urgency)

    def rows(self) -> list[dict[str, Any]]:
        """The same for a program or a table."""
        return [self._row(each) for each in self.standing()]

    def _row(self, each: Standing) -> dict[str, Any]:
        facts, setting, now = each.facts, self._judge.setting(each.alarm), self._judge.as_it_is(each.alarm)
        return {
            "alarm": each.alarm,
            "occurrence": facts.occurrence,
            "state": each.state,
            "priority": each.priority,
            "since_ms": each.since_ms,
            "judged_late": each.is_late,
            "mode": DRILL if each.is_played else None,
            "active": facts.active,
            "acked": facts.acked,
            "latched": facts.latched,
            "shelved_until_ms": facts.shelved_until_ms,
            "point": None if setting is None else setting.point,
            "kind": each.alarm.rpartition(":")[2],
            "area": None if setting is None else setting.group,
            "setpoint": None if setting is None else setting.setpoint,
            "value": None if now is None else now.value,
            "status": None if now is None else now.status,
            "first_out": facts.first_out,
            "needed": None if setting is None or not setting.members else setting.needed,
            "rests_on": None if now is None else now.rests_on,
            "action": each.action,
            "consequence": None if setting is None else setting.consequence or None,
            "minutes_to_act": None if setting is None else setting.minutes_to_act,
            "seq": each.seq,
        }

    def answer(self, request: Mapping[str, Any], now_s: float, wall_ms: int, known_ms: int | None) -> _Asked:
        """The answer to a request of REQUESTS, and what comes of it; `known_ms`: `wall_ms` where it can be trusted."""
        match request:
            case {"do": "alarms"}:
                bypasses = [each._asdict() for each in self._judge.bypasses()]
                return {"alarms": self.rows(), "bypasses": bypasses, "is_drill": self._judge.is_drill}, []
            case {"do": "alarm", "alarm": str(alarm), "event": event, "by": str(by)} if event in _COMMANDS:
                refusal = why_not_who("by", by)
                if not refusal and event == lifecycle.NOTE:
                    refusal = _why_not_words("reason", request.get("reason"))
                if refusal:
                    return refusal, []
                return self._command(request, alarm, event, by, now_s, wall_ms, known_ms)
            case {
                "do": "bypass", "kind": str(kind), "what": str(what), "permit": str(permit), "owner": str(owner),
                "reason": str(reason), "until_ms": int(until_ms),
            }:  # fmt: skip
                if refusal := (
                    why_not_who("permit", permit)
                    or why_not_who("owner", owner)
                    or _why_not_words("reason", reason)
                    or self._why_no_bypass(kind, what, until_ms, wall_ms)
                ):
                    return refusal, []
                told = self._judge.bypass(kind, what, permit, owner, reason, until_ms, now_s, wall_ms)
                return self._done(told)
            case {"do": "end_bypass", "number": int(number), "by": str(by)}:
                if refusal := why_not_who("by", by):
                    return refusal, []
                if all(each.number != number for each in self._judge.bypasses()):
                    return {"refused": NOT_IN_FORCE}, []
                return self._done(self._judge.end_bypass(number, wall_ms, by, _text(request.get("reason"))))
        return {"refused": BAD_REQUEST}, []

    def command(
        self, destination: Destination, asked: Command, now_s: float, wall_ms: int, known_ms: int | None
    ) -> _Asked:
        """The same to what a district asks for: only what gateway.toml lets this role do from there."""
        if asked.role not in dict(destination.commands).get(asked.do, ()):
            return {"refused": NOT_ALLOWED}, []
        request = {
            "do": "alarm",
            "alarm": asked.alarm,
            "event": _OF_DISTRICT[asked.do],
            "occurrence": asked.occurrence,
            "by": f"{destination.name}/{asked.role}",
            "reason": asked.reason,
        }
        return self.answer(request, now_s, wall_ms, known_ms)

    def tells_refusal(self, now_s: float) -> bool:
        """Whether a refused command is to be told as an event: so many an hour, or a mad sender fills the journal."""
        if len(self._refusals_s) == REFUSALS_TOLD and now_s - self._refusals_s[0] < 3600:
            return False
        self._refusals_s.append(now_s)
        return True

    @staticmethod
    def _done(told: Iterator[Told | Bypassed]) -> _Asked:
        first, *others = told
        assert isinstance(first, Bypassed)
        return {"done": True, "number": first.bypass.number, "alarms": len(others)}, [first, *others]

    def _command(
        self,
        request: Mapping[str, Any],
        alarm: str,
        event: str,
        by: str,
        now_s: float,
        wall_ms: int,
        known_ms: int | None,
    ) -> _Asked:
        occurrence, until_ms = request.get("occurrence"), request.get("until_ms")
        reason = _text(request.get("reason"))
        if (event in _OF_DISTRICT.values() and not isinstance(occurrence, int)) or (
            event == lifecycle.SHELVE and not isinstance(until_ms, int)
        ):
            return {"refused": BAD_REQUEST}, []
        if event == lifecycle.SHELVE and isinstance(until_ms, int):
            refused = _why_not_until(until_ms, wall_ms, SHELVE_MAX_MS)
            if refused:
                return {"refused": refused}, []
        told: Told | Change | str
        try:
            if alarm.startswith(system.PREFIX) and event == lifecycle.SILENCE:
                return {"refused": lifecycle.NOTHING_TO_SILENCE}, []
            if alarm.startswith(system.PREFIX):
                told = self._gateway.command(
                    alarm, event, occurrence=occurrence, by=by, reason=reason, now_ms=known_ms
                )
            else:
                told = self._judge.command(
                    alarm,
                    event,
                    occurrence=occurrence,
                    until_ms=until_ms,
                    by=by,
                    reason=reason,
                    now_s=now_s,
                    wall_ms=wall_ms,
                )
        except KeyError:
            return {"refused": UNKNOWN_ALARM}, []
        if isinstance(told, str):
            return {"refused": told}, []
        after = told.alarm.facts if isinstance(told, Change) else told.change.after
        return {"done": True, "state": after.state, "occurrence": after.occurrence}, [told]

    def _why_no_bypass(self, kind: str, what: str, until_ms: int, wall_ms: int) -> dict[str, str]:
        if what not in places(self._judge.points()).get(kind, ()):
            return {"refused": UNKNOWN_PLACE}
        if self._judge.is_unread:
            return {"refused": NO_STORE}
        if kind == DRILL and self._judge.is_drill:
            return {"refused": ALREADY_A_DRILL}
        refused = _why_not_until(until_ms, wall_ms, BYPASS_MAX_MS)
        return {"refused": refused} if refused else {}


def places(points: Iterable[Point]) -> dict[str, set[str]]:
    """What a bypass may be of, by its kind."""
    known: dict[str, set[str]] = {"point": set(), "asset": set(), "unit": set(), DRILL: {""}}
    for point in points:
        known["point"].add(point.point)
        known["asset"].add(asset_of(point.point))
        known["unit"].add(f"{point.bus}/{point.unit_id}")
    return known


def _why_not_until(until_ms: int, wall_ms: int, most_ms: int) -> str:
    if until_ms <= wall_ms:
        return IN_THE_PAST
    return TOO_LONG if until_ms - wall_ms > most_ms else ""


def why_not_who(field: str, words: str) -> dict[str, str]:
    """The refusal of what is no role or badge number; empty where it may be one."""
    if not words.strip():
        return {"refused": WHO_EMPTY, "field": field}
    return {"refused": WHO_TOO_LONG, "field": field} if len(words) > WHO_MAX else {}


def _why_not_words(field: str, words: object) -> dict[str, str]:
    if not isinstance(words, str) or not words.strip():
        return {"refused": WORDS_EMPTY, "field": field}
    return {"refused": WORDS_TOO_LONG, "field": field} if len(words) > WORDS_MAX else {}


def _text(words: object) -> str | None:
    return words[:WORDS_MAX] if isinstance(words, str) and words else None
