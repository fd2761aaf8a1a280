"""Alarms of the gateway itself: which are active, since when, and what is to be told of them. Policy.

Owns what was ever raised; what may happen to it says lifecycle.py. Whoever finds something wrong raises it, as often as
he finds it, and clears it when it is well again: what is new comes back as a Change, which is told once. What stood
before a restart stands after it, until it is found to be well or nobody has found it again for a while. An alarm's id
is `system.` and what it is about, a colon, and its kind: system.config:FAULT, system.bus.gas-a:OTHER_MASTER.
Must never acknowledge anything.
"""

import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from gettext import gettext as _

from edge.alarms import lifecycle
from edge.alarms.lifecycle import Facts, Kind, Standing, facts_of
from edge.batch import Kept

PREFIX = "system."
_KIND = Kind(can_be_shelved=False)


@dataclass(frozen=True, slots=True)
class Change:
    """A transition to be told, and the facts before it; those after it are the alarm's. `by`: who did it, or None."""

    alarm: Standing
    transition: str
    before: Facts
    by: str | None = None
    reason: str | None = None


class SystemAlarms:
    """All that were ever raised. `kept` is what earlier processes have stored, of these and of points' alarms."""

    def __init__(self, kept: Iterable[Kept] = ()) -> None:
        self._alarms: dict[str, Standing] = {}
        self._to_store: set[str] = set()
        self._unfound: set[str] = set()  # were so in an earlier process; this one has not looked yet
        self._know(kept)

    def _know(self, kept: Iterable[Kept]) -> list[Standing]:
        """Those of which nothing was known, as they were."""
        new = []
        for each in kept:
            if each.alarm.startswith(PREFIX) and each.alarm not in self._alarms:
                words = json.loads(each.facts)
                facts = facts_of(words)
                found = Standing(each.alarm, words["priority"], words["action"], facts, each.since_ms)
                self._alarms[each.alarm] = found
                if facts.active:
                    self._unfound.add(each.alarm)
                new.append(found)
        return new

    def begin(self) -> list[Change]:
        """What stands from before, once."""
        return [_stood(each) for each in self.standing()]

    def learn(self, kept: Iterable[Kept]) -> list[Change]:
        """What was stored can be read only now: what stands of it. What has happened meanwhile counts more."""
        return [_stood(each) for each in self._know(kept) if each.state != "NORM"]

    def clear_unfound(self, now_ms: int | None) -> list[Change]:
        """Whoever could find it has looked by now: what this process has not found is so no more."""
        cleared = (self.clear(alarm, now_ms) for alarm in sorted(self._unfound))
        return [change for change in cleared if change is not None]

    def store_all(self) -> None:
        """The store is a new one, and knows nothing."""
        self._to_store.update(self._alarms)

    def to_store(self) -> tuple[Kept, ...]:
        """What has changed since this was asked last."""
        changed = [self._alarms[alarm] for alarm in sorted(self._to_store)]
        self._to_store.clear()
        return tuple(
            Kept(
                each.alarm,
                None,
                json.dumps(
                    asdict(each.facts) | {"priority": each.priority, "action": each.action}, ensure_ascii=False
                ),
                each.since_ms,
                False,
            )
            for each in changed
        )

    def raise_alarm(self, alarm: str, priority: int, action: str, now_ms: int | None) -> Change | None:
        """It is so. None where it was so already; the sentence is then the newest all the same."""
        found = self._alarms.setdefault(alarm, Standing(alarm, priority, action))
        found.priority, found.action = priority, action
        self._unfound.discard(alarm)
        return self._happens(found, lifecycle.RAISE, now_ms)

    def clear(self, alarm: str, now_ms: int | None) -> Change | None:
        """It is not so (any more). None where that is nothing new."""
        self._unfound.discard(alarm)
        found = self._alarms.get(alarm)
        return None if found is None else self._happens(found, lifecycle.CLEAR, now_ms)

    def _happens(self, found: Standing, event: str, now_ms: int | None) -> Change | None:
        after = lifecycle.step(found.facts, _KIND, event)
        if isinstance(after, str) or after == found.facts:
            return None
        return self._changed(found, event, after, now_ms)

    def command(
        self, alarm: str, event: str, *, occurrence: int | None, by: str, reason: str | None, now_ms: int | None
    ) -> Change | str:
        """What a person asks for, or why it is refused. KeyError for an alarm that was never raised."""
        found = self._alarms[alarm]
        if event == lifecycle.SHELVE:
            return lifecycle.NEVER_SHELVED
        after = found.facts
        if event != lifecycle.NOTE:
            stepped = lifecycle.step(found.facts, _KIND, event, occurrence=occurrence)
            if isinstance(stepped, str):
                return stepped
            after = stepped
        return self._changed(found, event, after, now_ms, by, reason)

    def _changed(
        self,
        found: Standing,
        event: str,
        after: Facts,
        now_ms: int | None,
        by: str | None = None,
        reason: str | None = None,
    ) -> Change:
        before, found.facts = found.facts, after
        if after != before:
            found.since_ms = now_ms
            self._to_store.add(found.alarm)
        return Change(found, event, before, by, reason)

    def standing(self) -> list[Standing]:
        """Those that are not NORM, the most urgent first."""
        return sorted((each for each in self._alarms.values() if each.state != "NORM"), key=lambda each: each.urgency)


def _stood(alarm: Standing) -> Change:
    return Change(alarm, lifecycle.NOTE, alarm.facts, reason=_("stood when the gateway started"))
