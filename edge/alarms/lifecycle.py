"""The life of one alarm: what may happen to it in which state, and what comes of it. Policy.

Owns the one table of ISA-18.2 (IEC 62682). An alarm is a handful of facts that are independent of each other; its state
is read off them. Shelved, suppressed and out of service lie over the rest: below them the alarm lives on, so that it is
right the moment they end. Must never acknowledge anything by itself, and never change facts in place.

Source: ANSI/ISA-18.2-2016 (states), OPC UA Part 9 (orthogonal facts, latching, shelving).
"""

from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from typing import Any

# What can happen; the transitions of the feed.
RAISE = "raise"
CLEAR = "clear"
ACK = "ack"
RESET = "reset"
RE_ALARM = "re_alarm"  # what stands is announced anew, as another occurrence
SHELVE = "shelve"
UNSHELVE = "unshelve"
SUPPRESS = "suppress"
UNSUPPRESS = "unsuppress"
OUT_OF_SERVICE = "out_of_service"
IN_SERVICE = "in_service"
SILENCE = "silence"  # changes nothing: the horn is to be quiet about this occurrence
NOTE = "note"  # changes nothing: somebody has something to say
LIMIT_CHANGED = "limit_changed"  # by a changed configuration
EVENTS = (RAISE, CLEAR, ACK, RESET, RE_ALARM, SHELVE, UNSHELVE, SUPPRESS, UNSUPPRESS, OUT_OF_SERVICE, IN_SERVICE)

# Why not; codes that people's programs get.
NOTHING_TO_ACKNOWLEDGE = "nothing_to_acknowledge"
OTHER_OCCURRENCE = "other_occurrence"
NOTHING_TO_SILENCE = "nothing_to_silence"
NOTHING_TO_RESET = "nothing_to_reset"
ACKNOWLEDGE_FIRST = "acknowledge_first"
STILL_ACTIVE = "still_active"
NEVER_SHELVED = "never_shelved"
NOT_SHELVED = "not_shelved"


@dataclass(frozen=True, slots=True)
class Facts:
    """One alarm as it stands. Each raising, and each re-alarm, begins an occurrence, which acknowledgements name.

    `active`: its condition holds, delays and all. `latched`: it stands until it is reset, whatever its condition does.
    `first_out`: when it was raised last, no other of its group stood.
    """

    active: bool = False
    acked: bool = True
    latched: bool = False
    occurrence: int = 0
    shelved_until_ms: int | None = None
    suppressed: bool = False
    out_of_service: bool = False
    first_out: bool = False

    @property
    def stands(self) -> bool:
        """Whether its condition holds, or it waits for a reset all the same."""
        return self.active or self.latched

    @property
    def stage(self) -> str:
        """Where it is below everything that lies over it: NORM, UNACK, ACKED, RTNUN; LATUN, LATCH without its cause."""
        if self.active:
            return "ACKED" if self.acked else "UNACK"
        if self.latched:
            return "LATCH" if self.acked else "LATUN"
        return "NORM" if self.acked else "RTNUN"

    @property
    def state(self) -> str:
        """ISA-18.2's state: NORM, UNACK, ACKED, RTNUN, SHLVD, DSUPR or OOSRV. A latched alarm stands as if active."""
        if self.out_of_service:
            return "OOSRV"
        if self.suppressed:
            return "DSUPR"
        if self.shelved_until_ms is not None:
            return "SHLVD"
        return {"LATUN": "UNACK", "LATCH": "ACKED"}.get(self.stage, self.stage)


def facts_of(words: Mapping[str, Any]) -> Facts:
    """Facts as they were stored, among what else is stored with them."""
    return Facts(**{each.name: words[each.name] for each in fields(Facts) if each.name in words})


@dataclass(slots=True)
class Standing:
    """One alarm as it stands, for people and for the state document. `action`: what a person should do.

    `priority`: 1 is the most urgent. `since_ms`: UTC of the newest transition, None where no clock was known. `seq`:
    the number of its newest event, 0 where this epoch has none. `is_late`: that transition was found long after it was.
    `is_played`: its occurrence began in a drill.
    """

    alarm: str
    priority: int
    action: str
    facts: Facts = Facts()
    since_ms: int | None = None
    seq: int = 0
    is_late: bool = False
    is_played: bool = False

    @property
    def state(self) -> str:
        """ISA-18.2's."""
        return self.facts.state

    @property
    def urgency(self) -> tuple[bool, int, str]:
        """For sorting: those that stand first, then the urgent."""
        return not self.facts.stands, self.priority, self.alarm


@dataclass(frozen=True, slots=True)
class Kind:
    """What of an alarm's settings its life depends on."""

    latches: bool = False
    can_be_shelved: bool = True


# Whether it happens to an alarm in this stage. None: it is nothing new. A text: it is refused, and why.
_HAPPENS: dict[str, dict[str, str | bool | None]] = {
    "NORM": {RAISE: True, CLEAR: None, ACK: NOTHING_TO_ACKNOWLEDGE, RESET: NOTHING_TO_RESET, RE_ALARM: None},
    "UNACK": {RAISE: None, CLEAR: True, ACK: True, RESET: STILL_ACTIVE, RE_ALARM: True},
    "ACKED": {RAISE: None, CLEAR: True, ACK: NOTHING_TO_ACKNOWLEDGE, RESET: STILL_ACTIVE, RE_ALARM: True},
    "RTNUN": {RAISE: True, CLEAR: None, ACK: True, RESET: NOTHING_TO_RESET, RE_ALARM: None},
    "LATUN": {RAISE: True, CLEAR: None, ACK: True, RESET: ACKNOWLEDGE_FIRST, RE_ALARM: True},
    "LATCH": {RAISE: True, CLEAR: None, ACK: NOTHING_TO_ACKNOWLEDGE, RESET: True, RE_ALARM: True},
}


def step(
    facts: Facts, kind: Kind, event: str, *, occurrence: int | None = None, until_ms: int | None = None
) -> Facts | str:
    """The facts after `event`: the same where it is nothing new, or a text that says why it was refused.

    An acknowledgement names the occurrence that its person saw, SHELVE the moment at which it ends. ValueError where
    one of these is missing, or for an event that is none.
    """
    if event in (RAISE, CLEAR, ACK, RESET, RE_ALARM):
        if event == ACK:
            if occurrence is None:
                raise ValueError("an acknowledgement names an occurrence")
            if occurrence != facts.occurrence:
                return OTHER_OCCURRENCE
        happens = _HAPPENS[facts.stage][event]
        if happens is True:
            return _stepped(facts, kind, event)
        return happens or facts
    if event == SHELVE:
        if until_ms is None:
            raise ValueError("shelving has an end")
        return replace(facts, shelved_until_ms=until_ms) if kind.can_be_shelved else NEVER_SHELVED
    if event == UNSHELVE:
        return replace(facts, shelved_until_ms=None) if facts.shelved_until_ms is not None else NOT_SHELVED
    if event in (SUPPRESS, UNSUPPRESS):
        return replace(facts, suppressed=event == SUPPRESS)
    if event in (OUT_OF_SERVICE, IN_SERVICE):
        return replace(facts, out_of_service=event == OUT_OF_SERVICE)
    raise ValueError(f"event {event!r}; allowed are {', '.join(EVENTS)}")


def _stepped(facts: Facts, kind: Kind, event: str) -> Facts:
    if event == RAISE:
        return replace(facts, active=True, acked=False, latched=kind.latches, occurrence=facts.occurrence + 1)
    if event == RE_ALARM:
        return replace(facts, acked=False, occurrence=facts.occurrence + 1)
    if event == CLEAR:
        return replace(facts, active=False)
    if event == ACK:
        return replace(facts, acked=True)
    return replace(facts, latched=False)
