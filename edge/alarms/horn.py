"""Which horns and beacons are to be on, from the alarms that stand: their areas, priorities and mutes. Policy.

Owns what is muted and what is being tested. A horn sounds for each alarm that stands and that nobody has acknowledged,
until it is muted; whatever happens after that is new, and sounds again. A beacon is lit until an alarm is well again
and acknowledged. Muting never acknowledges. An alarm that is shelved, suppressed or out of service (a bypass, a test)
does neither; one that a drill brings sounds, since that is what a drill is for. Nothing is kept: after a restart
whatever stands unacknowledged sounds again. Must never look at a clock, nor know how an output is switched.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from edge.alarms.engine import Change
from edge.alarms.lifecycle import SILENCE, Facts
from protocols.model import Output, Site

TEST_S = 5  # where nobody says for how long
TEST_MOST_S = 60


@dataclass(slots=True)
class _Standing:
    """One alarm. `is_late`: it was judged too long after its reading was taken; it sounds only while it holds."""

    priority: int
    point: str
    facts: Facts
    is_late: bool

    @property
    def sounds(self) -> bool:
        return self.facts.state == "UNACK" and (self.facts.active or not self.is_late)

    @property
    def is_lit(self) -> bool:
        return self.facts.state in ("UNACK", "ACKED", "RTNUN")


class Horn:
    """All horns and beacons of a site. `heard` of each transition, then `wanted`."""

    def __init__(self, site: Site) -> None:
        self._standing: dict[str, _Standing] = {}
        self._muted: dict[str, int] = {}  # alarm -> its occurrence that was muted
        self._test_until_s = 0.0
        self.configure(site)

    def configure(self, site: Site) -> None:
        """Another site. Alarms that are not judged any more were heard to go out of service before."""
        self._outputs: Sequence[Output] = [output for output in site.outputs if output.kind != "fault"]
        self._areas = {point.point: point.area for point in site.points}

    def heard(self, change: Change, is_late: bool = False) -> None:
        """A transition of an alarm of a point; `is_late`: it was found long after it happened."""
        alarm, facts = change.setting.alarm, change.after
        known = self._standing.pop(alarm, None)
        if facts.state == "NORM":
            self._muted.pop(alarm, None)
            return
        if change.transition == SILENCE:
            self._muted[alarm] = facts.occurrence
        if known is not None and known.facts.occurrence == facts.occurrence:
            is_late = known.is_late
        self._standing[alarm] = _Standing(change.setting.priority, change.setting.point, facts, is_late)

    def mute(self) -> int:
        """Silence what sounds, and end a test; how many alarms that were. What comes after it sounds again."""
        self._test_until_s = 0.0
        sounding = [alarm for alarm, each in self._standing.items() if self._sounds(alarm, each)]
        for alarm in sounding:
            self._muted[alarm] = self._standing[alarm].facts.occurrence
        return len(sounding)

    def test(self, now_s: float, for_s: float) -> None:
        """All horns and beacons are on for so long."""
        self._test_until_s = now_s + for_s

    def due_s(self) -> float:
        """When `wanted` changes by time alone."""
        return self._test_until_s or float("inf")

    def wanted(self, now_s: float) -> dict[str, bool]:
        """Each horn and beacon by its name, and whether it is to be on."""
        if now_s >= self._test_until_s:
            self._test_until_s = 0.0
        return {output.name: self._is_on(output) for output in self._outputs}

    def _is_on(self, output: Output) -> bool:
        if self._test_until_s:
            return True
        told = (
            (alarm, each)
            for alarm, each in self._standing.items()
            if each.priority in output.priorities and (not output.areas or self._areas.get(each.point) in output.areas)
        )
        if output.kind == "beacon":
            return any(each.is_lit for _alarm, each in told)
        return any(self._sounds(alarm, each) for alarm, each in told)

    def _sounds(self, alarm: str, each: _Standing) -> bool:
        return each.sounds and self._muted.get(alarm) != each.facts.occurrence
