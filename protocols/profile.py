"""Sensor profiles: what a file of protocols/profiles may say, its examples, and the reads that it needs. Protocol.

Owns the file's keys and how uses of a sensor share requests; protocols/channel.py owns what registers mean. Must
never guess: what a file leaves open or says twice is a problem, and all problems are told at once.
"""

from __future__ import annotations

import math
import re
import tomllib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from gettext import gettext as _
from importlib import resources
from typing import Any, NamedTuple

from protocols import channel as channels_
from protocols import modbus, model
from protocols.channel import Channel as Channel
from protocols.channel import ChannelUse as ChannelUse
from protocols.channel import Current, Field
from protocols.model import Line, Reading

_MAX_PLANNED = 90  # registers that fit one sample of the board
_OUTCOMES = {
    modbus.TIMEOUT: model.NO_REPLY,
    modbus.BAD_CRC: model.BAD_CRC,
    modbus.SHORT: model.BAD_CRC,
    modbus.WRONG_REPLY: model.WRONG_REPLY,
    modbus.EXCEPTION: model.EXCEPTION,
}


class ProfileError(ValueError):
    """A profile that cannot be used; `problems` has a sentence for everything that is wrong with it."""

    def __init__(self, problems: Sequence[str]) -> None:
        super().__init__("\n".join(problems))
        self.problems = tuple(problems)


@dataclass(frozen=True, slots=True)
class Profile:
    """A checked profile. `proven`: it has an example from its source, and reads it as printed there.

    `timeout_ms` is the slowest first byte of a reply, `spacing_ms` the least time between two requests to one unit,
    `late_ms` how long after a time-out its reply may still come. `block`, its first and last register, is only known
    to be read whole. `address_base` is the document's number of wire address 0; negative where this unit's map is
    moved up. `writes` are the function codes, first and last wire addresses that may be written: by default none, and
    this version writes nothing at all. `text` is the file itself.
    """

    name: str
    version: int
    maker: str
    model: str
    source: str
    evidence: str
    proven: bool
    line: Line | None
    default_unit_id: int | None
    timeout_ms: int
    spacing_ms: int
    late_ms: int
    max_registers: int
    bridge_gaps: bool
    address_base: int
    block: tuple[int, int] | None
    writes: tuple[tuple[int, int, int], ...]
    channels: Mapping[str, Channel]
    text: str


@dataclass(frozen=True, slots=True)
class Read:
    """One Modbus request, and what is taken from its reply."""

    function_code: int
    address: int
    count: int
    uses: tuple[ChannelUse, ...]


# --- the keys of a file -------------------------------------------------------------------------------------


class _Key(NamedTuple):
    """What one key may be, for a person and for the reader; a default of ... says that it is needed."""

    allowed: str
    is_allowed: Callable[[Any], object]
    default: Any


def _whole(low: int, high: int, default: Any = ...) -> _Key:
    return _Key(f"{low} - {high}", lambda value: type(value) is int and low <= value <= high, default)


def _number() -> _Key:
    return _Key("0.0", lambda value: type(value) in (int, float) and math.isfinite(value), None)


def _one_of(*choices: Any, default: Any = ...) -> _Key:
    allowed = ", ".join(str(choice).lower() if isinstance(choice, bool) else str(choice) for choice in choices)
    return _Key(allowed, lambda value: (type(value), value) in [(type(each), each) for each in choices], default)


def _text(pattern: str = r"[\s\S]+", example: str = '"…"', default: Any = ...) -> _Key:
    return _Key(example, lambda value: isinstance(value, str) and re.fullmatch(pattern, value), default)


def _codes(high: int, pattern: str, *words: Any) -> _Key:
    """A table from the sensor's codes to words, like { 0x02 = "warm_up" }."""

    def are_allowed(table: Any) -> bool:
        return isinstance(table, dict) and all(
            re.fullmatch(r"[0-9]{1,10}|0x[0-9A-Fa-f]{1,8}", code)
            and int(code, 0) <= high
            and (value in words if words else isinstance(value, str) and value)
            for code, value in table.items()
        )

    return _Key(f"{{ 0 - {high} = {pattern} }}", are_allowed, None)


def _list(allowed: str, is_allowed: Callable[[Any], object], default: Any = ...) -> _Key:
    return _Key(allowed, lambda value: isinstance(value, list) and all(is_allowed(each) for each in value), default)


def _is_write(text: Any) -> bool:
    """Whether it is a function code that writes, and the first and last of its wire addresses."""
    parts = re.fullmatch(r"(?:5|6|15|16) ([0-9]{1,5})-([0-9]{1,5})", text) if isinstance(text, str) else None
    return parts is not None and int(parts[1]) <= int(parts[2]) <= 0xFFFF


_ADDRESS = _whole(0, 465536)
# What the first register's number is in the document, and the function that such numbers belong to.
_BASES = {0: None, 1: None, 10001: 2, 30001: 4, 40001: 3, 100001: 2, 300001: 4, 400001: 3}
_PROFILE_KEYS = {
    "version": _whole(1, 9999),
    "maker": _text(),
    "model": _text(),
    "source": _text(),
    "evidence": _one_of("manual", "code", "bench", "field"),
    "line": _text(r"[1-9][0-9]+ [78][NEO][12]", '"9600 8N1"', default=None),
    "default_unit_id": _whole(1, 247, default=None),
    "timeout_ms": _whole(10, 10_000),
    "spacing_ms": _whole(0, 10_000, default=0),
    "late_ms": _whole(10, 60_000, default=1000),
    "max_registers": _whole(1, modbus.MAX_REGISTERS, default=modbus.MAX_REGISTERS),
    "bridge_gaps": _one_of(True, False, default=False),
    "address_base": _one_of(*_BASES),
    "moved_by": _whole(0, 0xFFFF, default=0),
    "block": _text(r"[0-9]{1,6}-[0-9]{1,6}", '"0-9"', default=None),
    "writes": _list('["5 0-15", …]', _is_write, default=()),
    "channels": _Key("[channels.…]", lambda value: isinstance(value, dict) and value, ...),
    "example": _list("[[example]]", lambda value: isinstance(value, dict), default=()),
}
_FIELDS = ("unit", "decimals", "status", "state", "detail")
_STATUS_WORDS = " | ".join(f'"{word}"' for word in channels_.STATUSES)
_CHANNEL_KEYS = {
    "same_as": _Key("[channels.…]", lambda _name: False, None),  # of a known channel: replaced by its keys before
    "count": _whole(1, 999, default=None),
    "first": _whole(0, 999, default=None),
    "step": _whole(1, 9999, default=None),
    "function_code": _one_of(1, 2, 3, 4),
    "address": _ADDRESS,
    "type": _one_of(*channels_.WORDS),
    "word_order": _one_of(*channels_.WORD_ORDERS, default=None),
    "subtract": _whole(-(10**9), 10**9, default=0),
    "divisor": _whole(1, 10**9, default=1),
    "decimals": _whole(0, 9),
    "unit": _text(default=None),
    "unit_codes": _codes(2**32 - 1, '"m"'),
    "decimals_codes": _codes(2**32 - 1, "0 - 9", *range(10)),
    "status_flags": _codes(31, _STATUS_WORDS, *channels_.STATUSES),
    "state_codes": _codes(2**32 - 1, _STATUS_WORDS, *channels_.STATUSES),
    **{f"{field}_address": _ADDRESS._replace(default=None) for field in _FIELDS},
    **{f"{field}_type": _one_of("u16", "u32", default="u16") for field in _FIELDS},
    **{f"{field}_bits": _text(r"[0-9]{1,2}-[0-9]{1,2}", '"15-12"', default=None) for field in _FIELDS},
    **{limit: _number() for limit in Current._fields},
}
_EXAMPLE_KEYS = {
    "source": _text(),
    "channel": _text(),
    "address": _ADDRESS,
    "registers": _list("[0x0000 - 0xFFFF, …]", lambda word: type(word) is int and 0 <= word <= 0xFFFF),
    "value": _number(),
    "unit": _text(),
    "status": _one_of(*channels_.STATUSES, default="good"),
    "range_low": _number(),
    "range_high": _number(),
}


# --- reading a file -----------------------------------------------------------------------------------------


def builtin_names() -> tuple[str, ...]:
    """The profiles that come along."""
    files = resources.files("protocols").joinpath("profiles").iterdir()
    return tuple(sorted(file.name.removesuffix(".toml") for file in files if file.name.endswith(".toml")))


def builtin(name: str) -> Profile:
    """One that comes along; ValueError naming those that there are."""
    if name not in builtin_names():
        raise ValueError(f"name = {name!r}: allowed are {', '.join(builtin_names())}")
    return load(name, resources.files("protocols").joinpath("profiles").joinpath(f"{name}.toml").read_text("utf-8"))


def load(name: str, text: str) -> Profile:
    """A profile from its TOML text, its examples verified; ProfileError with everything that is wrong."""
    where = _("profile {name}").format(name=name)
    try:
        content = tomllib.loads(text)
    except tomllib.TOMLDecodeError as fault:
        raise ProfileError([_("{where}: is no TOML: {fault}").format(where=where, fault=fault)]) from fault
    problems: list[str] = []
    keys = _read(where, content, _PROFILE_KEYS, problems)
    base, moved_by, tables = keys["address_base"], keys.pop("moved_by"), keys["channels"] or {}
    channels: dict[str, Channel] = {}
    for each, table in tables.items():
        place, before = f"{where} [channels.{each}]", len(problems)
        values = _read(place, _completed(table, tables), _CHANNEL_KEYS, problems)
        for one, own in _repeated(each, values, place, problems) if len(problems) == before else ():
            if one in channels:
                problems.append(_("{where}: {channel} stands twice").format(where=place, channel=one))
            if len(problems) == before and base in _BASES:
                channels[one] = _channel(one, own, base, moved_by, place, problems)
    examples = [
        _read(f"{where} [[example]]", example, _EXAMPLE_KEYS, problems) for example in keys.pop("example") or ()
    ]
    if problems:
        raise ProfileError(problems)
    keys |= {
        "line": keys["line"] and Line.parse(keys["line"]),
        "address_base": base - moved_by,
        "block": keys["block"] and tuple(int(end) - base + moved_by for end in keys["block"].split("-")),
        "writes": tuple(tuple(map(int, re.split("[ -]", written))) for written in keys["writes"]),
        "channels": channels,
    }
    profile = Profile(name=name, text=text, proven=bool(examples), **keys)
    for channel in channels.values():
        if (count := _place(profile, channel)[2]) > (limit := _limit(profile, channel.function_code)):
            told = _("{where} [channels.{channel}]: value and codes span {count} registers; one request has {limit}")
            problems.append(told.format(where=where, channel=channel.name, count=count, limit=limit))
    for example in examples:
        if disproof := _disproof(profile, example):
            problems.append(f"{where} [[example]] {example['source']}: {disproof}")
    if problems:
        raise ProfileError(problems)
    return profile


def _completed(table: Any, tables: Mapping[str, Any]) -> Any:
    """A channel's table, with what it leaves out from the channel that it is the same as."""
    if not isinstance(table, dict) or not isinstance(tables.get(str(table.get("same_as"))), dict):
        return table
    return tables[table["same_as"]] | {key: value for key, value in table.items() if key != "same_as"}


def _repeated(
    name: str, keys: Mapping[str, Any], where: str, problems: list[str]
) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """The channels of one table, by name: itself, or `count` alike whose registers lie `step` apart."""
    count, first, step = keys["count"], keys["first"], keys["step"]
    if count is None:
        for key in ("first", "step"):
            if keys[key] is not None:
                problems.append(f"{where}: {key}: " + _("goes with {key}").format(key="count"))
        yield name, keys
    else:
        addresses = {key: at for key, at in keys.items() if key.endswith("address") and at is not None}
        for i in range(count):
            moved = {key: at + i * (1 if step is None else step) for key, at in addresses.items()}
            yield f"{name}{(1 if first is None else first) + i}", {**keys, **moved}


def _read(where: str, content: Any, keys: Mapping[str, _Key], problems: list[str]) -> dict[str, Any]:
    """The table's values, with defaults for what is left out. What is wrong, missing or unknown is a problem."""
    if not isinstance(content, dict):
        problems.append(_("{where}: must be a table").format(where=where))
        return {}
    for name in content:
        if name not in keys:
            told = _("{where}: there is no key {key}; there are: {allowed}")
            problems.append(told.format(where=where, key=name, allowed=", ".join(keys)))
    found: dict[str, Any] = {}
    for name, key in keys.items():
        found[name] = None if key.default is ... else key.default
        if name in content and key.is_allowed(content[name]):
            found[name] = content[name]
        elif name in content:
            told = _("{where}: {key} = {value} is not allowed; allowed: {allowed}")
            problems.append(told.format(where=where, key=name, value=content[name], allowed=key.allowed))
        elif key.default is ...:
            told = _("{where}: {key} is missing; allowed: {allowed}")
            problems.append(told.format(where=where, key=name, allowed=key.allowed))
    return found


def _channel(name: str, keys: Mapping[str, Any], base: int, moved_by: int, where: str, problems: list[str]) -> Channel:
    """A channel of keys that are right each by itself; what does not go together is a problem."""

    def wrong(key: str, told: str) -> None:
        problems.append(f"{where}: {key}: {told}")

    def wire(key: str) -> int:
        address: int = keys[key] - base + moved_by
        if not 0 <= address <= 0xFFFF:
            told = _("{printed} is no register where address_base is {base} and moved_by {moved_by}")
            wrong(key, told.format(printed=keys[key], base=base, moved_by=moved_by))
        return address

    kind, function_code = keys["type"], keys["function_code"]
    if _BASES[base] not in (None, function_code):
        wrong("function_code", _("address_base {base} means {code}").format(base=base, code=_BASES[base]))
    if (kind == "bool") != (function_code <= modbus.READ_DISCRETE_INPUTS):
        wrong("type", _("bool goes with function_code 1 and 2, and only with them"))
    if (keys["word_order"] is None) != (channels_.WORDS[kind] == 1):
        wrong("word_order", _("is for types of two registers, and needed there"))
    limits = [keys[limit] for limit in Current._fields]
    is_current = any(limit is not None for limit in limits)
    if is_current and (None in limits or limits[0] == limits[1]):
        wrong(
            Current._fields[0],
            _("goes with all of {keys}, and differs from raw_20ma").format(keys=", ".join(Current._fields[1:])),
        )
    fields = {}
    for each, codes in zip(_FIELDS, ("unit_codes", "decimals_codes", "status_flags", "state_codes", None), strict=True):
        has_address = keys[f"{each}_address"] is not None
        if codes and has_address != bool(keys[codes]):
            wrong(codes, _("goes with {key}").format(key=f"{each}_address"))
        if has_address:
            width = 16 * channels_.WORDS[keys[f"{each}_type"]]
            high, low = map(int, (keys[f"{each}_bits"] or f"{width - 1}-0").split("-"))
            if not low <= high < width:
                wrong(f"{each}_bits", _("from the highest bit to the lowest, at most {high}-0").format(high=width - 1))
            fields[each] = Field(wire(f"{each}_address"), keys[f"{each}_type"], high, low)
    if [keys["unit"] is not None, "unit" in fields, is_current].count(True) != 1:
        wrong("unit", _("one of unit, unit_address and raw_4ma must tell the unit"))
    address = wire("address")
    first = min([address, *(field.address for field in fields.values())])
    end = max(
        [address + channels_.WORDS[kind], *(field.address + channels_.WORDS[field.type] for field in fields.values())]
    )
    return Channel(
        name=name,
        function_code=function_code,
        address=address,
        type=kind,
        word_order=keys["word_order"] or "ABCD",
        subtract=keys["subtract"],
        divisor=keys["divisor"],
        decimals=keys["decimals"],
        current=Current(*limits) if is_current else None,
        fields=fields,
        units={None: keys["unit"]} if keys["unit"] else _by_code(keys["unit_codes"]),
        divisors={code: 10**places for code, places in _by_code(keys["decimals_codes"]).items()},
        flags={bit: channels_.STATUSES[word] for bit, word in _by_code(keys["status_flags"]).items()},
        states={code: channels_.STATUSES[word] for code, word in _by_code(keys["state_codes"]).items()},
        first=first,
        count=end - first,
    )


def _by_code(table: Mapping[str, Any] | None) -> dict[Any, Any]:
    return {int(code, 0): value for code, value in (table or {}).items()}


def _disproof(profile: Profile, example: Mapping[str, Any]) -> str | None:
    """Why an example is not what the profile reads; a printed value has the channel's decimals."""
    channel = profile.channels.get(example["channel"])
    if channel is None:
        return _("channel {channel} does not exist").format(channel=example["channel"])
    start, registers = example["address"] - profile.address_base, example["registers"]
    if not (start <= channel.first and channel.first + channel.count <= start + len(registers)):
        return _("these registers do not hold the whole channel")
    use = ChannelUse("example", channel.name, example["unit"], example["range_low"], example["range_high"])
    if told := channels_.unfit(channel, use):
        return told
    reading = channels_.reader(channel, use, start)(registers)
    value = None if reading.value is None else round(reading.value, channel.decimals)
    if (value, reading.status) == (example["value"], channels_.STATUSES[example["status"]]):
        return None
    told = _("printed is {printed} {status}, but it reads as {value} with status {code}, detail {detail}")
    return told.format(
        printed=example["value"], status=example["status"], value=value, code=reading.status, detail=reading.detail
    )


# --- requests -----------------------------------------------------------------------------------------------


def plan_reads(profile: Profile, uses: Sequence[ChannelUse]) -> tuple[Read, ...]:
    """The fewest requests for these uses, each of them whole in one; ValueError for a use that does not fit.

    Registers that nobody wants are read along only where the profile allows it.
    """
    for use in uses:
        if use.channel not in profile.channels:
            raise ValueError(f"{use.point}: channel = {use.channel!r}: allowed are {', '.join(profile.channels)}")
        if told := channels_.unfit(profile.channels[use.channel], use):
            raise ValueError(told)
    reads: list[Read] = []
    for use in sorted(uses, key=lambda use: _place(profile, profile.channels[use.channel])):
        function_code, first, count = _place(profile, profile.channels[use.channel])
        if reads and reads[-1].function_code == function_code:
            last = reads[-1]
            joined = max(last.address + last.count, first + count) - last.address
            is_near = profile.bridge_gaps or first <= last.address + last.count
            if is_near and joined <= _limit(profile, function_code):
                reads[-1] = Read(function_code, last.address, joined, (*last.uses, use))
                continue
        reads.append(Read(function_code, first, count, (use,)))
    return tuple(reads)


def _place(profile: Profile, channel: Channel) -> tuple[int, int, int]:
    """Function code, first register and count of the least request that reads a channel."""
    first, count = channel.first, channel.count
    if profile.block and profile.block[0] <= first and first + count - 1 <= profile.block[1]:
        first, count = profile.block[0], profile.block[1] - profile.block[0] + 1
    return channel.function_code, first, count


def _limit(profile: Profile, function_code: int) -> int:
    registers = min(profile.max_registers, _MAX_PLANNED)
    return 16 * registers if function_code <= modbus.READ_DISCRETE_INPUTS else registers


def request_text(profile: Profile, read: Read) -> str:
    """A read as bytes on the wire and as its document numbers it: "03 00 02 00 09 (40003 - 40011)"."""
    wire = bytes((read.function_code, *read.address.to_bytes(2), *read.count.to_bytes(2)))
    first = read.address + profile.address_base
    return f"{wire.hex(' ').upper()} ({first} - {first + read.count - 1})"


class Decoder:
    """Turns the replies to one read into readings."""

    def __init__(self, profile: Profile, read: Read) -> None:
        self._count = read.count
        self._points = [use.point for use in read.uses]
        self._readers = [channels_.reader(profile.channels[use.channel], use, read.address) for use in read.uses]

    def decode(self, registers: Sequence[int]) -> list[Reading]:
        """One reading for each use, in its order. Coils and discrete inputs come as 0 and 1, one an entry."""
        if len(registers) != self._count:
            raise ValueError(f"registers: {self._count} are allowed, not {len(registers)}")
        return [read(registers) for read in self._readers]

    def failed(self, outcome: int, detail: int) -> list[Reading]:
        """Every use bad, for an outcome of protocols.modbus but OK; `detail` is an exception's code."""
        code = detail if outcome == modbus.EXCEPTION else 0
        return [Reading(point, None, _OUTCOMES[outcome], code) for point in self._points]


def encode_registers(
    profile: Profile,
    channel: str,
    value: float | None,
    *,
    state: str = channels_.NORMAL,
    unit: str = "",
    range_low: float | None = None,
    range_high: float | None = None,
    detail: int = 0,
) -> dict[tuple[int, int], int]:
    """(function code, wire address) -> register of a simulated sensor; the inverse of a Decoder.

    `unit` and range are the sheet's; without a unit the profile's first. `state` is "normal" or a status word of
    the profile that this channel can tell, `detail` the sensor's own code with it; ValueError for what it cannot.
    """
    known = profile.channels[channel]
    use = ChannelUse(channel, channel, unit or next(iter(known.units.values()), ""), range_low, range_high)
    words = channels_.registers(known, use, value, state, detail)
    return {(known.function_code, address): word for address, word in words.items()}
