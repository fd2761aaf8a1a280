"""Which device answers at each unit: still the one that the sheet and the profile mean? Policy.

Owns what the checked registers of each unit were seen to hold, and the serial number that each unit is known by: the
first one ever read, until a person accepts another. A serial number is known for a bus, a unit id and a profile.
Must never accept a device by itself, nor judge by a read that failed.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from edge.batch import Held
from protocols import model
from protocols.channel import REGISTERS_DISAGREE
from protocols.profile import Check, Profile

_Key = tuple[str, int, str, int, int, int]


@dataclass(slots=True)
class _Cell:
    known: bytes | None
    seen: bytes | None


@dataclass(frozen=True, slots=True)
class Watch:
    """One check of one unit. `expected` is what its profile says, None for a serial number."""

    check: Check
    key: _Key
    expected: bytes | None
    cell: _Cell


def fault(watches: Iterable[Watch]) -> tuple[int, int] | None:
    """Status and detail of every reading of a unit with these checks; None while nothing speaks against it."""
    for watch in watches:
        if watch.cell.seen is not None and watch.cell.seen != (watch.expected or watch.cell.known):
            return (model.WRONG_REPLY, REGISTERS_DISAGREE) if watch.expected else (model.UNIT_REPLACED, 0)
    return None


class Devices:
    """Every checked unit. `held` is what earlier processes knew; `changes` is what the store must be told."""

    def __init__(self, held: Iterable[Held] = ()) -> None:
        self._cells = {each[:6]: _Cell(each.known, each.seen) for each in held}
        self._changed: dict[_Key, _Cell] = {}

    def learn(self, held: Iterable[Held]) -> None:
        """What earlier processes knew turns out late: it counts, and not what was believed meanwhile."""
        for each in held:
            cell = self._cells.setdefault(each[:6], _Cell(None, each.seen))
            if cell.known != each.known:
                cell.known = each.known
                self._changed[each[:6]] = cell

    def watches(self, bus: str, unit_id: int, profile: Profile) -> tuple[Watch, ...]:
        """The checks of a unit under this profile."""
        watches = []
        for check in profile.checks:
            key = (bus, unit_id, profile.name, check.function_code, check.address, check.count)
            expected = b"".join(word.to_bytes(2) for word in check.expected) if check.expected else None
            watches.append(Watch(check, key, expected, self._cells.setdefault(key, _Cell(None, None))))
        return tuple(watches)

    def saw(self, watch: Watch, data: bytes) -> bool:
        """The bytes of the checked registers, as the unit sent them. Whether they are others than the last time."""
        cell = watch.cell
        if cell.seen == data:
            return False
        cell.seen = data
        if cell.known is None and watch.expected is None:
            cell.known = data
        self._changed[watch.key] = cell
        return True

    def accept(self, watches: Iterable[Watch]) -> bool:
        """From now on the serial numbers seen last are the right ones. Whether any of them was another."""
        others = [watch for watch in watches if watch.expected is None and watch.cell.seen != watch.cell.known]
        for watch in others:
            watch.cell.known = watch.cell.seen
            self._changed[watch.key] = watch.cell
        return bool(others)

    def changes(self) -> Sequence[Held]:
        """What changed since the last call."""
        changed, self._changed = self._changed, {}
        return [Held(*key, cell.known, cell.seen) for key, cell in changed.items() if cell.seen is not None]
