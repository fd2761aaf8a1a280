"""How well the alarms serve whoever reads them: floods, chattering, standing ones, the ten worst. Policy.

Owns counts of raisings, per day and over the last ten minutes. Only alarms that were announced count: what is shelved,
suppressed or out of service disturbs nobody. Must never look at a clock: `t_ms` never goes back.

Source: ISA-18.2 and EEMUA 191 as public guides give them: a flood begins at ten alarms in ten minutes and ends under
five; three raisings of one alarm in a minute are chattering; one that stands for more than a day is standing.
"""

from collections import Counter, deque
from collections.abc import Mapping
from dataclasses import dataclass, field

from edge.alarms.lifecycle import Facts

FLOOD_BEGINS = 10
FLOOD_ENDS = 5
WINDOW_MS = 600_000
CHATTERING = 3
CHATTER_MS = 60_000
STANDING_MS = 24 * 3_600_000


@dataclass(slots=True)
class Day:
    """What was announced on one day. `flood_ms`: time spent in floods."""

    alarms: Counter[str] = field(default_factory=Counter)
    priorities: Counter[int] = field(default_factory=Counter)
    floods: int = 0
    flood_ms: int = 0
    most_in_ten_minutes: int = 0
    chattering: set[str] = field(default_factory=set)

    def worst(self) -> list[tuple[str, int]]:
        """The ten that were raised most."""
        return sorted(self.alarms.items(), key=lambda each: (-each[1], each[0]))[:10]


class Statistics:
    """Raisings as they come, counted by day: the caller says which day a moment belongs to."""

    def __init__(self) -> None:
        self.days: dict[int, Day] = {}
        self.flood_since_ms: int | None = None
        self._recent: deque[int] = deque()
        self._last: dict[str, deque[int]] = {}
        self._raised_ms: dict[str, int] = {}

    def raised(self, alarm: str, priority: int, t_ms: int, day: int) -> bool:
        """An alarm is announced on this day; whether a flood begins with it."""
        self.passed(t_ms, day)
        today = self.days.setdefault(day, Day())
        today.alarms[alarm] += 1
        today.priorities[priority] += 1
        self._raised_ms[alarm] = t_ms
        self._recent.append(t_ms)
        today.most_in_ten_minutes = max(today.most_in_ten_minutes, len(self._recent))
        last = self._last.setdefault(alarm, deque(maxlen=CHATTERING))
        last.append(t_ms)
        if len(last) == CHATTERING and t_ms - last[0] < CHATTER_MS:
            today.chattering.add(alarm)
        if self.flood_since_ms is None and len(self._recent) >= FLOOD_BEGINS:
            self.flood_since_ms = t_ms
            today.floods += 1
            return True
        return False

    def passed(self, t_ms: int, day: int) -> bool:
        """Time has come to `t_ms`; whether a flood ends by it."""
        while self._recent and t_ms - self._recent[0] >= WINDOW_MS:
            over_ms = self._recent.popleft() + WINDOW_MS
            if self.flood_since_ms is not None and len(self._recent) < FLOOD_ENDS:
                self.days.setdefault(day, Day()).flood_ms += over_ms - self.flood_since_ms
                self.flood_since_ms = None
                return True
        return False

    def standing(self, facts: Mapping[str, Facts], t_ms: int) -> list[str]:
        """Alarms of `facts` that are active for more than a day."""
        return sorted(
            alarm
            for alarm, each in facts.items()
            if each.active and t_ms - self._raised_ms.get(alarm, t_ms) > STANDING_MS
        )
