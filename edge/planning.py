"""From a site to each board's read plan, and what every read of a plan means. Policy.

Owns which points share a request, and the memory of a plan: samples taken under an old plan are read by it,
after any restart and any change of the site. Must never decide when a read is sent; the board does.
"""

import hashlib
import json
from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from fractions import Fraction
from gettext import gettext as _
from itertools import combinations
from typing import Any

from protocols import readplan, readplan_edge
from protocols.model import Point, Site
from protocols.profile import ChannelUse, Profile, Read, bus_chars, load, plan_reads

CHECK_MS = 3_600_000  # how often a unit is asked who it is
_READS_MAX = 255  # a sample names its read in one byte
_SALT_AT, _COUNTS_AT = 3, 8  # in a plan's header: salt and birth lie between


@dataclass(frozen=True, slots=True)
class PlannedRead:
    """One request that is repeated: the read at the same index of the plan. `bus` and `profile` are names.

    A read without uses is a check of its profile.
    """

    bus: str
    unit_id: int
    read: Read
    period_ms: int
    urgent: bool
    profile: str


@dataclass(frozen=True, slots=True)
class BoardPlan:
    """A board's plan: the bytes that go to the board, and what comes back under them.

    `digest` is the plan's SHA-256, `profiles` are those that the reads name. `birth`, 8 hex digits, is the one that its
    samples belong to: a later one than its bytes name where the plan outlived a change of the site.
    """

    board: str
    generation: int
    plan: bytes
    digest: bytes
    birth: str
    reads: tuple[PlannedRead, ...]
    profiles: Mapping[str, Profile]


def to_json(plan: BoardPlan) -> str:
    """Everything that is needed to read samples of this plan, the profiles' text included."""
    return json.dumps(
        {
            "board": plan.board,
            "plan": plan.plan.hex(),
            "birth": plan.birth,
            "profiles": {name: profile.text for name, profile in plan.profiles.items()},
            "reads": [asdict(planned) for planned in plan.reads],
        },
        ensure_ascii=False,
    )


def from_json(text: str) -> BoardPlan:
    """The plan that `to_json` wrote down."""
    kept = json.loads(text)
    plan = bytes.fromhex(kept["plan"])
    digest = hashlib.sha256(plan).digest()
    return BoardPlan(
        board=kept["board"],
        generation=readplan.generation(digest),
        plan=plan,
        digest=digest,
        birth=kept["birth"],
        reads=tuple(_planned(**fields) for fields in kept["reads"]),
        profiles={name: load(name, source) for name, source in kept["profiles"].items()},
    )


def _planned(read: dict[str, Any], **fields: Any) -> PlannedRead:
    uses = tuple(ChannelUse(**use) for use in read.pop("uses"))
    return PlannedRead(read=Read(**read, uses=uses), **fields)


def compile_board(site: Site, board_name: str, birth_id: str, taken_generations: Collection[int]) -> BoardPlan | None:
    """The plan of one board, None when no point is on it. ValueError when more is asked than a plan can hold.

    `taken_generations` are those of other plans whose samples may still come: the new plan's is none of them.
    """
    buses = [bus for bus in site.buses if bus.board == board_name]
    units = [
        (index, unit_id, site.profiles[points[0].profile], points)
        for index, bus in enumerate(buses)
        for unit_id, points in _units(site.points, bus.name).items()
    ]
    reads = [
        (unit, planned)
        for unit, (_index, _unit_id, profile, points) in enumerate(units)
        for planned in _unit_reads(points, profile)
    ]
    if not reads:
        return None
    if len(reads) > _READS_MAX:
        raise ValueError(_("{count} reads, allowed are {most}").format(count=len(reads), most=_READS_MAX))
    bus_rows = [
        readplan_edge.encode_bus(
            bus.uart, bus.line.baud, bus.line.data_bits, bus.line.parity, bus.line.stop_bits, bus.other_master
        )
        for bus in buses
    ]
    unit_rows = [
        readplan_edge.encode_unit(
            index, unit_id, profile.timeout_ms, profile.floor_ms, profile.spacing_ms, profile.late_ms
        )
        for index, unit_id, profile, _points in units
    ]
    read_rows = [
        readplan_edge.encode_read(
            unit,
            planned.read.function_code,
            planned.read.address,
            planned.read.count,
            planned.period_ms,
            planned.urgent,
            check=not planned.read.uses,
        )
        for unit, planned in reads
    ]
    size = readplan.HEADER_BYTES + len(b"".join(bus_rows + unit_rows + read_rows))
    if size > readplan.MAX_BYTES:
        raise ValueError(_("{count} bytes, allowed are {most}").format(count=size, most=readplan.MAX_BYTES))
    profiles = {profile.name: profile for _index, _unit_id, profile, _points in units}
    meaning = tuple(planned for _unit, planned in reads)
    rows = (bus_rows, unit_rows, read_rows)
    return _salted(board_name, birth_id, rows, meaning, profiles, taken_generations)


def plan_board(
    site: Site, board_name: str, birth_id: str, known: Sequence[BoardPlan], taken_generations: Collection[int]
) -> BoardPlan:
    """What this board is to poll: one of the `known` plans where it asks for the same, so that nothing is sent.

    A board without a point gets a plan without reads, or it would go on by its last. `known`: those of this board,
    the likeliest first; `taken_generations` besides theirs.
    """
    taken = {*taken_generations, *(plan.generation for plan in known)}
    wanted = compile_board(site, board_name, birth_id, taken) or _salted(
        board_name, birth_id, ([], [], []), (), {}, taken
    )
    kept = next((plan for plan in known if is_same(plan, wanted)), None)
    return wanted if kept is None else replace(kept, birth=birth_id)


def is_same(one: BoardPlan, other: BoardPlan) -> bool:
    """Whether two plans of a board poll the same, and their samples mean the same, whatever births they belong to."""
    return (
        one.plan[:_SALT_AT] + one.plan[_COUNTS_AT:] == other.plan[:_SALT_AT] + other.plan[_COUNTS_AT:]
        and one.reads == other.reads
        and all(one.profiles[name].text == profile.text for name, profile in other.profiles.items())
    )


def _salted(
    board_name: str,
    birth_id: str,
    rows: tuple[Sequence[bytes], Sequence[bytes], Sequence[bytes]],
    meaning: tuple[PlannedRead, ...],
    profiles: Mapping[str, Profile],
    taken_generations: Collection[int],
) -> BoardPlan:
    """The plan of these buses, units and reads, with a generation that is not taken."""
    for salt in range(256):
        plan = readplan_edge.encode(*rows, bytes.fromhex(birth_id), salt)
        digest = hashlib.sha256(plan).digest()
        generation = readplan.generation(digest)
        if generation != 0 and generation not in taken_generations:
            return BoardPlan(board_name, generation, plan, digest, birth_id, meaning, profiles)
    raise ValueError(f"taken_generations: {len(taken_generations)} leave none of 256 salts for {board_name}")


def _units(points: Sequence[Point], bus: str) -> dict[int, list[Point]]:
    """The points of each unit of a bus, by rising unit id; a unit's points in the sheet's order."""
    unit_ids = sorted({point.unit_id for point in points if point.bus == bus})
    return {
        unit_id: [point for point in points if point.bus == bus and point.unit_id == unit_id] for unit_id in unit_ids
    }


def _unit_reads(points: Sequence[Point], profile: Profile) -> list[PlannedRead]:
    """The reads of one unit: what the profile checks, so that no reading is judged before it, then by rising period.

    Of one period those come first that tell the faults of others.
    Each period's points have the cheapest requests there are. Then a slow request, or the point at one of its ends,
    moves to a shorter period for as long as that takes less of the bus's time: a point may be read more often than
    its row says, never less often.
    """
    every = [channel_use(point) for point in points]
    groups = {
        period_ms: [use for use, point in zip(every, points, strict=True) if point.period_ms == period_ms]
        for period_ms in sorted({point.period_ms for point in points})
    }
    reads = {period_ms: plan_reads(profile, uses, every) for period_ms, uses in groups.items()}
    while moved := _cheaper(profile, groups, reads, every):
        for period_ms, uses in moved.items():
            groups[period_ms] = uses
            reads[period_ms] = plan_reads(profile, uses, every)
    needed = {profile.channels[use.channel].needs for use in every}
    urgent = {point.point for point in points if point.urgent}
    bus, unit_id = points[0].bus, points[0].unit_id
    planned = [
        PlannedRead(bus, unit_id, read, period_ms, any(use.point in urgent for use in read.uses), profile.name)
        for period_ms, of_period in reads.items()
        for read in sorted(of_period, key=lambda read: not any(use.channel in needed for use in read.uses))
    ]
    checks = [Read(check.function_code, check.address, check.count, ()) for check in profile.checks]
    return [PlannedRead(bus, unit_id, read, CHECK_MS, False, profile.name) for read in checks] + planned


def _cheaper(
    profile: Profile,
    groups: Mapping[int, Sequence[ChannelUse]],
    reads: Mapping[int, Sequence[Read]],
    every: Sequence[ChannelUse],
) -> dict[int, list[ChannelUse]] | None:
    """Two periods' uses with some moved from the longer one, where that costs less; None where nothing does."""
    for fast_ms, slow_ms in combinations(groups, 2):
        now = _cost(fast_ms, reads[fast_ms]) + _cost(slow_ms, reads[slow_ms])
        for read in reads[slow_ms]:
            for moving in dict.fromkeys((read.uses, read.uses[:1], read.uses[-1:])):
                fast = [*groups[fast_ms], *moving]
                slow = [use for use in groups[slow_ms] if use not in moving]
                then = _cost(fast_ms, plan_reads(profile, fast, every))
                if then < now and then + _cost(slow_ms, plan_reads(profile, slow, every)) < now:
                    return {fast_ms: fast, slow_ms: slow}
    return None


def _cost(period_ms: int, reads: Sequence[Read]) -> Fraction:
    """Characters of bus time in each millisecond."""
    return sum((Fraction(bus_chars(read.function_code, read.count), period_ms) for read in reads), Fraction())


def channel_use(point: Point) -> ChannelUse:
    """What a point wants of its unit's profile."""
    return ChannelUse(point.point, point.channel, point.unit, point.range_low, point.range_high)
