"""From the counts of a unit or a bus to what it usually means, in a technician's words. Policy.

Owns thresholds and words. Judges by the last hour, and by how the last polls ended. Must never name a cause as certain:
only somebody on the spot knows.
"""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from gettext import gettext as _

from edge.statistics import LATELY, Bus, Unit
from protocols import link

_OFTEN = 3  # so many of a kind at least ...
_SHARE_PERCENT = 1  # ... and more than this share of the tries
_FULL_PERCENT = 80  # load from which missed periods are the bus's fault; under it they are those of a silent unit

NO_REPLY, GARBAGE = "no_reply", "garbage"  # nothing else of the unit
NO_REPLY_AT_TIMES, LATE, DAMAGED, FOREIGN = "no_reply_at_times", "late", "damaged", "foreign"  # among good replies
BUS_NO_REPLY, BUS_GARBAGE = "bus_no_reply", "bus_garbage"  # all its units
OTHER_MASTER, OTHER_MASTER_HEARD = "other_master", "other_master_heard"
OVERRUNS, STRAY_BYTES = "overruns", "stray_bytes"


@dataclass(frozen=True, slots=True)
class Trouble:
    """What ails a bus, or, where `unit_ids` are named, these units of it."""

    bus: str
    unit_ids: tuple[int, ...]
    trouble: str


def troubles(
    buses: Iterable[tuple[str, Bus]], units: Iterable[tuple[tuple[str, int], Unit]], now_s: float
) -> Iterator[Trouble]:
    """Of these buses, by name, and of these units, by (bus, unit id); units with the same trouble together."""
    on_buses: dict[str, dict[int, str | None]] = {}
    tries: Counter[str] = Counter()
    for (bus, unit_id), unit in units:
        counts = unit.counts.hour(now_s)
        found = unit_trouble(counts, unit.exceptions.hour(now_s), tuple(unit.lately))
        on_buses.setdefault(bus, {})[unit_id] = found
        tries[bus] += _tries(counts)
    for bus, fared in buses:
        of_units = on_buses.get(bus, {})
        found = bus_trouble(fared.state, fared.counts.hour(now_s), list(of_units.values()), tries[bus])
        if found is not None:
            yield Trouble(bus, (), found)
        if found == OTHER_MASTER:
            continue  # both masters' frames collide: what its units did says nothing of them
        covered = (NO_REPLY, GARBAGE) if found in (BUS_NO_REPLY, BUS_GARBAGE) else ()
        together: dict[str, list[int]] = {}
        for unit_id, trouble in of_units.items():
            if trouble is not None and trouble not in covered:
                together.setdefault(trouble, []).append(unit_id)
        for trouble, unit_ids in together.items():
            yield Trouble(bus, tuple(unit_ids), trouble)


def unit_trouble(counts: Mapping[str, int], exceptions: Mapping[int, int], lately: tuple[str, ...]) -> str | None:
    """What ails a unit with these counts of the last hour, whose last polls ended so; None where it is well."""

    def of(*kinds: str) -> int:
        return sum(counts.get(kind, 0) + counts.get(f"retried_{kind}", 0) for kind in kinds)

    tries = _tries(counts)
    silent, damaged, foreign = of("timeout"), of("crc", "short"), of("foreign")
    if lately == LATELY * ("timeout",):
        return NO_REPLY
    if tries >= _OFTEN and not of("ok", "exception"):
        return max((silent, NO_REPLY), (damaged, GARBAGE), (foreign, FOREIGN))[1]
    late = counts.get("late", 0)
    kinds = [
        (damaged, DAMAGED),
        (max(silent, late), LATE if 2 * late >= silent else NO_REPLY_AT_TIMES),
        (foreign, FOREIGN),
    ]
    if exceptions:
        kinds.append((of("exception"), f"exception_{max(exceptions, key=lambda code: exceptions[code])}"))
    times, trouble = max(kinds, key=lambda kind: kind[0])
    return trouble if _is_often(times, tries) else None


def bus_trouble(
    state: int | None, counts: Mapping[str, int], of_units: list[str | None], tries: int
) -> str | None:
    """What ails a bus with these counts and tries of the last hour, whose units have these troubles."""
    stray_bytes = counts.get("stray_bytes", 0)
    if state == link.OTHER_MASTER:
        return OTHER_MASTER
    if counts.get("foreign", 0) >= _OFTEN:
        return OTHER_MASTER_HEARD
    if len(of_units) > 1 and all(trouble in (NO_REPLY, GARBAGE) for trouble in of_units):
        return BUS_GARBAGE if GARBAGE in of_units or stray_bytes >= _OFTEN else BUS_NO_REPLY
    is_full = 100 * counts.get("busy_ms", 0) >= _FULL_PERCENT * counts.get("span_ms", 0) > 0
    if is_full and _is_often(counts.get("overruns", 0), tries):
        return OVERRUNS
    is_told = any(trouble in (GARBAGE, DAMAGED, FOREIGN, LATE) for trouble in of_units)  # such replies leave bytes over
    return STRAY_BYTES if _is_often(stray_bytes, tries) and not is_told else None


def _tries(counts: Mapping[str, int]) -> int:
    return sum(times for what, times in counts.items() if what != "late")


def _is_often(times: int, tries: int) -> bool:
    return times >= _OFTEN and 100 * times > _SHARE_PERCENT * tries


def trouble_text(trouble: str) -> str:
    """What it usually means, and what to look at first."""
    texts = {
        NO_REPLY: _("No reply: its power, its address (unit_id), A/B swapped at its terminals, or the cable to it."),
        GARBAGE: _(
            "Bytes come, but not one intact frame: its line settings (baud, parity) differ from the bus's, A/B are "
            "swapped, or two units have this address."
        ),
        NO_REPLY_AT_TIMES: _(
            "Some requests stay without a reply: a loose terminal, a weak supply, or interference on the cable."
        ),
        LATE: _(
            "Replies come after their time: the unit is slower than its profile says. Raise timeout_floor_ms (and "
            "timeout_ms) in its profile."
        ),
        DAMAGED: _(
            "Damaged replies (CRC, cut off): wiring. Look at the terminating resistors at both ends, the shield, A/B "
            "beside a power cable, loose terminals; or the baud rate is only nearly right."
        ),
        FOREIGN: _(
            "Intact frames that answer something else: two units with the same address, or another master on the bus."
        ),
        "exception_1": _("The unit does not know this function (exception 1): wrong profile, or another model."),
        "exception_2": _(
            "The unit has no such register (exception 2): wrong profile, another model or version, or an address "
            "counted from 1 instead of 0."
        ),
        "exception_3": _(
            "The unit does not take this request (exception 3): it gives fewer registers at once. Lower "
            "max_registers in its profile."
        ),
        "exception_4": _(
            "The unit reports its own fault (exception 4): look at its display and its manual; the sensor may be "
            "unplugged or worn out."
        ),
        "exception_6": _(
            "The unit is busy (exception 6): it is asked too often, or somebody is setting it up. Make its period "
            "longer."
        ),
        BUS_NO_REPLY: _(
            "No unit of this bus replies: the bus cable at the cabinet, A/B swapped, the supply of the units, or the "
            "wrong `uart` in gateway.toml."
        ),
        BUS_GARBAGE: _(
            "Bytes come, but no unit's frame is intact: `line` in gateway.toml (baud, parity, stop bits) differs from "
            "the units, A/B are swapped, or there is heavy noise."
        ),
        OTHER_MASTER: _(
            "Another master asks on this bus (a DCS, a display, a laptop): this gateway sends nothing while it does. "
            "Find it and unplug it. Only an engineer may set other_master = \"allowed\"."
        ),
        OTHER_MASTER_HEARD: _(
            "Another master was heard on this bus within the last hour (a DCS, a display, a laptop): find it and "
            "unplug it, unless it belongs there."
        ),
        OVERRUNS: _(
            "There is not enough time on this bus: periods pass without a reading. Make periods longer or the bus "
            "faster; `tankgate check` computes what is possible. Silent units cost time too."
        ),
        STRAY_BYTES: _(
            "Bytes come that nobody asked for: noise. Look at the terminating and bias resistors and the shield."
        ),
    }
    code = trouble.removeprefix("exception_")
    return texts.get(trouble) or _("The unit refuses with exception {code}: see its manual.").format(code=code)
