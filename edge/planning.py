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

from protocols import modbus, readplan, readplan_edge
from protocols.model import Output, Point, Site
from protocols.profile import ChannelUse, Profile, Read, bus_chars, load, plan_reads

CHECK_MS = 3_600_000  # how often a unit is asked who it is
READ_BACK_MS = 1000  # how often a coil is looked at
_READS_MAX = 255  # a sample names its read in one byte
_SALT_AT, _COUNTS_AT = 3, 8  # in a plan's header: salt and birth lie between


@dataclass(frozen=True, slots=True)
class PlannedRead:
    """One request that is repeated: the read at the same index of the plan. `bus` and `profile` are names.

    `urgent`: its samples leave the board at once. A read without uses reads back the coil of an `output`, or else is a
    check of its profile.
    """

    bus: str
    unit_id: int
    read: Read
    period_ms: int
    urgent: bool
    profile: str
    output: str = ""


@dataclass(frozen=True, slots=True)
class BoardPlan:
    """A board's plan: the bytes that go to the board, and what comes back under them.

    `digest` is the plan's SHA-256, `profiles` are those that the reads name. `birth`, 8 hex digits, is the one that its
    samples belong to: a later one than its bytes name where the plan outlived a change of the site. Names of `outputs`
    and `inputs` stand in the plan's order.
    """

    board: str
    generation: int
    plan: bytes
    digest: bytes
    birth: str
    reads: tuple[PlannedRead, ...]
    profiles: Mapping[str, Profile]
    outputs: tuple[str, ...] = ()
    inputs: tuple[str, ...] = ()


def to_json(plan: BoardPlan) -> str:
    """Everything that is needed to read samples of this plan, the profiles' text included."""
    return json.dumps(
        {
            "board": plan.board,
            "plan": plan.plan.hex(),
            "birth": plan.birth,
            "profiles": {name: profile.text for name, profile in plan.profiles.items()},
            "reads": [asdict(planned) for planned in plan.reads],
            "outputs": plan.outputs,
            "inputs": plan.inputs,
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
        outputs=tuple(kept.get("outputs", ())),
        inputs=tuple(kept.get("inputs", ())),
    )


def _planned(read: dict[str, Any], **fields: Any) -> PlannedRead:
    uses = tuple(ChannelUse(**use) for use in read.pop("uses"))
    return PlannedRead(read=Read(**read, uses=uses), **fields)


def compile_board(site: Site, board_name: str, birth_id: str, taken_generations: Collection[int]) -> BoardPlan | None:
    """The plan of one board, None when no point is on it. ValueError when more is asked than a plan can hold.

    `taken_generations` are those of other plans whose samples may still come: the new plan's is none of them.
    """
    buses = [bus for bus in site.buses if bus.board == board_name]
    outputs = [output for output in site.outputs if output.board == board_name]
    inputs = [each for each in site.inputs if each.board == board_name]
    units = [
        (index, unit_id, site.profiles[profile], points)
        for index, bus in enumerate(buses)
        for unit_id, (profile, points) in _units(site.points, outputs, bus.name).items()
    ]
    unit_at = {(buses[index].name, unit_id): at for at, (index, unit_id, _profile, _points) in enumerate(units)}
    reads = [
        (unit, planned)
        for unit, (index, unit_id, profile, points) in enumerate(units)
        for planned in [
            *(_unit_reads(points, profile) if points else []),
            *_read_back(outputs, buses[index].name, unit_id, profile.name),
        ]
    ]
    if not reads and not outputs and not inputs:
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
            check=not planned.read.uses and not planned.output,
        )
        for unit, planned in reads
    ]
    output_rows = [
        readplan_edge.encode_output(
            None if output.bus is None else unit_at[output.bus, output.unit_id],
            output.place,
            output.loss_ms,
            "fault" if output.kind == "fault" else output.at_loss,
        )
        for output in outputs
    ]
    rows = (bus_rows, unit_rows, read_rows, output_rows)
    tail_bytes = 2 + len(inputs) if outputs or inputs else 0
    size = readplan.HEADER_BYTES + len(b"".join(row for of_kind in rows for row in of_kind)) + tail_bytes
    if size > readplan.MAX_BYTES:
        raise ValueError(_("{count} bytes, allowed are {most}").format(count=size, most=readplan.MAX_BYTES))
    compiled = BoardPlan(
        board=board_name,
        generation=0,
        plan=b"",
        digest=b"",
        birth=birth_id,
        reads=tuple(planned for _unit, planned in reads),
        profiles={profile.name: profile for _index, _unit_id, profile, _points in units},
        outputs=tuple(output.name for output in outputs),
        inputs=tuple(each.name for each in inputs),
    )
    return _salted(compiled, rows, [each.pin for each in inputs], taken_generations)


def plan_board(
    site: Site, board_name: str, birth_id: str, known: Sequence[BoardPlan], taken_generations: Collection[int]
) -> BoardPlan:
    """What this board is to poll: one of the `known` plans where it asks for the same, so that nothing is sent.

    A board without a point gets a plan without reads, or it would go on by its last. `known`: those of this board,
    the likeliest first; `taken_generations` besides theirs.
    """
    taken = {*taken_generations, *(plan.generation for plan in known)}
    nothing = BoardPlan(board_name, 0, b"", b"", birth_id, (), {})
    wanted = compile_board(site, board_name, birth_id, taken) or _salted(nothing, ([], [], [], []), [], taken)
    kept = next((plan for plan in known if is_same(plan, wanted)), None)
    return wanted if kept is None else replace(kept, birth=birth_id)


def is_same(one: BoardPlan, other: BoardPlan) -> bool:
    """Whether two plans of a board poll the same, and their samples mean the same, whatever births they belong to."""
    return (
        one.plan[:_SALT_AT] + one.plan[_COUNTS_AT:] == other.plan[:_SALT_AT] + other.plan[_COUNTS_AT:]
        and one.reads == other.reads
        and (one.outputs, one.inputs) == (other.outputs, other.inputs)
        and all(one.profiles[name].text == profile.text for name, profile in other.profiles.items())
    )


def _salted(
    compiled: BoardPlan,
    rows: tuple[Sequence[bytes], Sequence[bytes], Sequence[bytes], Sequence[bytes]],
    input_pins: Sequence[int],
    taken_generations: Collection[int],
) -> BoardPlan:
    """The plan with the bytes of these buses, units, reads and outputs, and a generation that is not taken."""
    bus_rows, unit_rows, read_rows, output_rows = rows
    birth = bytes.fromhex(compiled.birth)
    for salt in range(256):
        plan = readplan_edge.encode(bus_rows, unit_rows, read_rows, birth, salt, output_rows, input_pins)
        digest = hashlib.sha256(plan).digest()
        generation = readplan.generation(digest)
        if generation != 0 and generation not in taken_generations:
            return replace(compiled, generation=generation, plan=plan, digest=digest)
    raise ValueError(f"taken_generations: {len(taken_generations)} leave none of 256 salts for {compiled.board}")


def _units(
    points: Sequence[Point], outputs: Sequence[Output], bus: str
) -> dict[int, tuple[str, list[Point]]]:
    """Profile and points of each unit of a bus, by rising unit id; a unit's points in the sheet's order."""
    units: dict[int, tuple[str, list[Point]]] = {}
    for point in points:
        if point.bus == bus:
            units.setdefault(point.unit_id, (point.profile, []))[1].append(point)
    for output in outputs:
        if output.bus == bus:
            units.setdefault(output.unit_id, (output.profile, []))
    return dict(sorted(units.items()))


def _read_back(outputs: Sequence[Output], bus: str, unit_id: int, profile: str) -> list[PlannedRead]:
    """A look at each coil of a unit that is switched."""
    return [
        PlannedRead(
            bus, unit_id, Read(modbus.READ_COILS, output.place, 1, ()), READ_BACK_MS, False, profile, output.name
        )
        for output in outputs
        if (output.bus, output.unit_id) == (bus, unit_id)
    ]


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
    urgent = {point.point for point in points if point.urgent or point.preset}  # an alarm waits for no company
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
