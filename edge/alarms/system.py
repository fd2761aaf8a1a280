"""Alarms of the gateway itself: which are active, since when, and what is to be told of them. Policy.

Owns what was raised in this epoch; what may happen to it says lifecycle.py. Whoever finds something wrong raises it, as
often as he finds it, and clears it when it is well again: what is new comes back as a Change, which is told once. An
alarm's id is `system.` and what it is about, a colon, and its kind: system.config:FAULT, system.bus.gas-a:OTHER_MASTER.
Must never acknowledge anything.
"""

from dataclasses import dataclass

from edge.alarms import lifecycle
from edge.alarms.lifecycle import Facts, Kind, Standing

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
    """All that were raised in this epoch. `occurrence` counts its raisings."""

    def __init__(self) -> None:
        self._alarms: dict[str, Standing] = {}

    def raise_alarm(self, alarm: str, priority: int, action: str, now_ms: int | None) -> Change | None:
        """It is so. None where it was so already; the sentence is then the newest all the same."""
        found = self._alarms.setdefault(alarm, Standing(alarm, priority, action))
        found.priority, found.action = priority, action
        return self._happens(found, lifecycle.RAISE, now_ms)

    def clear(self, alarm: str, now_ms: int | None) -> Change | None:
        """It is not so (any more). None where that is nothing new."""
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
        return Change(found, event, before, by, reason)

    def standing(self) -> list[Standing]:
        """Those that are not NORM, the most urgent first."""
        return sorted((each for each in self._alarms.values() if each.state != "NORM"), key=lambda each: each.urgency)
