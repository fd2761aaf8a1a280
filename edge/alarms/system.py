"""Alarms of the gateway itself: which are active, since when, and what is to be told of them. Policy.

Owns their facts; the states of ISA-18.2 are derived. Whoever finds something wrong raises it, as often as he finds it,
and clears it when it is well again: what is new comes back as a Change, which is told once. An alarm's id is
`system.` and what it is about, a colon, and its kind: system.config:FAULT, system.bus.gas-a:OTHER_MASTER.
Must never acknowledge anything: this version has nobody who does, so a cleared alarm stands as RTNUN.
"""

from dataclasses import dataclass


@dataclass(slots=True)
class SystemAlarm:
    """One alarm as it stands. `occurrence` counts raisings of this epoch, `seq` is the number of its newest event.

    `priority`: 1 is the most urgent. `action`: what a person should do, in one or two sentences. `since_ms`: UTC of the
    newest transition, None where the gateway's clock was not to be trusted.
    """

    alarm: str
    priority: int
    action: str
    active: bool = False
    acked: bool = True
    occurrence: int = 0
    since_ms: int | None = None
    seq: int = 0

    @property
    def state(self) -> str:
        """NORM, UNACK, ACKED or RTNUN."""
        if self.active:
            return "ACKED" if self.acked else "UNACK"
        return "NORM" if self.acked else "RTNUN"


@dataclass(frozen=True, slots=True)
class Change:
    """A transition to be told: "raise" or "clear", and the states before and after."""

    alarm: SystemAlarm
    transition: str
    before: str
    after: str


class SystemAlarms:
    """All that were raised in this epoch."""

    def __init__(self) -> None:
        self._alarms: dict[str, SystemAlarm] = {}

    def raise_alarm(self, alarm: str, priority: int, action: str, now_ms: int | None) -> Change | None:
        """It is so. None where it was so already; the sentence is then the newest all the same."""
        found = self._alarms.setdefault(alarm, SystemAlarm(alarm, priority, action))
        found.priority, found.action = priority, action
        if found.active:
            return None
        before = found.state
        found.active, found.acked = True, False
        found.occurrence += 1
        found.since_ms = now_ms
        return Change(found, "raise", before, found.state)

    def clear(self, alarm: str, now_ms: int | None) -> Change | None:
        """It is not so (any more). None where that is nothing new."""
        found = self._alarms.get(alarm)
        if found is None or not found.active:
            return None
        before = found.state
        found.active = False
        found.since_ms = now_ms
        return Change(found, "clear", before, found.state)

    def standing(self) -> list[SystemAlarm]:
        """Those that are not NORM, the most urgent first."""
        return sorted(
            (alarm for alarm in self._alarms.values() if alarm.state != "NORM"),
            key=lambda alarm: (not alarm.active, alarm.priority, alarm.alarm),
        )
