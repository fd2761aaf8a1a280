"""Sensor profiles: what a file of protocols/profiles may say, its examples, and the reads that it needs. Protocol.

Owns the file's keys and how uses of a sensor share requests; protocols/channel.py owns what registers mean. Must
never guess: what a file leaves open or says twice is a problem, and all problems are told at once.
"""

from __future__ import annotations

import json
import re
import tomllib
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
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
FRAME_CHARS = 8 + 5  # of a request, and of its reply without the data
SILENCE_CHARS = 7  # 3.5 around each of the two; above 19200 baud a little more (MODBUS over Serial Line V1.02, 2.5.1)
_OUTCOMES = {
    modbus.TIMEOUT: model.NO_REPLY,
    modbus.BAD_CRC: model.BAD_CRC,
    modbus.SHORT: model.BAD_CRC,
    modbus.WRONG_REPLY: model.WRONG_REPLY,
    modbus.EXCEPTION: model.EXCEPTION,
}


class Mistake(NamedTuple):
    """One thing that is wrong with a file: the key at `path`, what stands there (None: nothing), and a sentence."""

    path: tuple[str, ...]
    value: str | None
    text: str


class ProfileError(ValueError):
    """A profile that cannot be used, with everything that is wrong with it."""

    def __init__(self, name: str, mistakes: Sequence[Mistake]) -> None:
        where = _("profile {name}").format(name=name)
        lines = [
            where + (f" [{'.'.join(path)}]" if path else "") + ("" if value is None else f" = {value}") + f": {text}"
            for path, value, text in mistakes
        ]
        super().__init__("\n".join(lines))
        self.mistakes = tuple(mistakes)


@dataclass(frozen=True, slots=True)
class Check:
    """Registers that tell whether this is still the device that the profile and the sheet mean.

    They hold `expected` where the profile says what; None: the device's own serial number, the same at each read.
    """

    function_code: int
    address: int
    count: int
    expected: tuple[int, ...] | None


@dataclass(frozen=True, slots=True)
class Profile:
    """A checked profile. `proven`: it has an example from its source, and reads it as printed there.

    `timeout_ms` is the slowest first byte of a reply, `reply_ms` the usual one, `floor_ms` what a unit that lives is
    always given, `spacing_ms` the least time between two requests to one unit, `late_ms` how long after a time-out its
    reply may still come.
    `bridge_gaps` are first and last wire addresses of what may be read along; `block`, its first and last register, is
    only known to be read whole. `address_base` is the document's number of wire address 0; negative where this unit's
    map is moved up. `writes` are the function codes, first and last wire addresses that may be written: by default
    none; coils alone are written (5), and only those that the site lists as outputs. `text` is the file itself.
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
    reply_ms: int
    floor_ms: int
    spacing_ms: int
    late_ms: int
    max_registers: int
    bridge_gaps: tuple[tuple[int, int], ...]
    address_base: int
    block: tuple[int, int] | None
    writes: tuple[tuple[int, int, int], ...]
    checks: tuple[Check, ...]
    channels: Mapping[str, Channel]
    text: str

    def may_write(self, function_code: int, address: int) -> bool:
        """Whether this wire address is listed as one that may be written so."""
        return any(code == function_code and first <= address <= last for code, first, last in self.writes)


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
    return _Key("0.0", lambda value: type(value) in (int, float) and abs(value) <= _NUMBER_MAX, None)


def _one_of(*choices: Any, default: Any = ...) -> _Key:
    allowed = ", ".join(str(choice).lower() if isinstance(choice, bool) else str(choice) for choice in choices)
    return _Key(allowed, lambda value: (type(value), value) in [(type(each), each) for each in choices], default)


def _text(pattern: str = r"[\s\S]+", example: str = '"…"', default: Any = ...) -> _Key:
    return _Key(example, lambda value: isinstance(value, str) and re.fullmatch(pattern, value), default)


def _codes(high: int, pattern: str, *words: Any) -> _Key:
    """A table from the sensor's codes to words, like { 0x02 = "warm_up" }."""

    def are_allowed(table: Any) -> bool:
        return isinstance(table, dict) and all(
            re.fullmatch(r"0|[1-9][0-9]{0,9}|0x[0-9A-Fa-f]{1,8}", code)
            and int(code, 0) <= high
            and (value in words if words else isinstance(value, str) and value)
            for code, value in table.items()
        ) and len({int(code, 0) for code in table}) == len(table)  # 2 and 0x02 are one

    return _Key(f"{{ 0 - {high} = {pattern} }}", are_allowed, None)


def _list(allowed: str, is_allowed: Callable[[Any], object], default: Any = ...) -> _Key:
    return _Key(allowed, lambda value: isinstance(value, list) and all(is_allowed(each) for each in value), default)


def _is_word(value: Any) -> bool:
    return type(value) is int and 0 <= value <= 0xFFFF


def _is_line(text: Any) -> bool:
    try:
        return isinstance(text, str) and bool(Line.parse(text))
    except ValueError:
        return False


def _is_span(text: Any) -> bool:
    return isinstance(text, str) and re.fullmatch(r"[0-9]{1,6}-[0-9]{1,6}", text) is not None


def _is_write(text: Any) -> bool:
    """Whether it is a function code that writes, and the first and last of its wire addresses."""
    parts = re.fullmatch(r"(?:5|6|15|16) ([0-9]{1,5})-([0-9]{1,5})", text) if isinstance(text, str) else None
    return parts is not None and int(parts[1]) <= int(parts[2]) <= 0xFFFF


_NUMBER_MAX = 1e15
_ADDRESS = _whole(0, 465536)
_FLOOR_MS = 100  # where the profile says nothing
_REPLY_MS = 20  # the same; real sensors take 2 to 20 ms
# What the first register's number is in the document, and the function that such numbers belong to.
_BASES = {0: None, 1: None, 10001: 2, 30001: 4, 40001: 3, 100001: 2, 300001: 4, 400001: 3}
_PROFILE_KEYS = {
    "version": _whole(1, 9999),
    "maker": _text(),
    "model": _text(),
    "source": _text(),
    "evidence": _one_of("manual", "code", "bench", "field"),
    "line": _Key('"9600 8N1"', _is_line, None),
    "default_unit_id": _whole(1, 247, default=None),
    "timeout_ms": _whole(10, 10_000),
    "reply_ms": _whole(0, 10_000, default=None),
    "timeout_floor_ms": _whole(10, 10_000, default=None),
    "spacing_ms": _whole(0, 10_000, default=0),
    "late_ms": _whole(10, 60_000, default=1000),
    "max_registers": _whole(1, modbus.MAX_REGISTERS, default=modbus.MAX_REGISTERS),
    "bridge_gaps": _Key(
        'true, false, ["10-14", …]',
        lambda value: type(value) is bool or (isinstance(value, list) and all(map(_is_span, value))),
        False,
    ),
    "address_base": _one_of(*_BASES),
    "moved_by": _whole(0, 0xFFFF, default=0),
    "block": _Key('"0-9"', _is_span, None),
    "writes": _list('["5 0-15", …]', _is_write, default=()),
    "serial": _Key("[serial]", lambda value: isinstance(value, dict), None),
    "expect": _list("[[expect]]", lambda value: isinstance(value, dict), default=()),
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
    "valid_low": _number(),
    "valid_high": _number(),
    "needs": _text(r"[A-Za-z0-9_-]+(\{n\})?", '"status", "status{n}"', default=None),
    "bit": _whole(0, 15, default=None),
}
_SERIAL_KEYS = {
    "function_code": _one_of(3, 4),
    "address": _ADDRESS,
    "count": _whole(1, _MAX_PLANNED),
}
_EXPECT_KEYS = {
    "function_code": _one_of(3, 4),
    "address": _ADDRESS,
    "registers": _Key(
        "[0x0000 - 0xFFFF, …]",
        lambda value: isinstance(value, list) and 0 < len(value) <= _MAX_PLANNED and all(map(_is_word, value)),
        ...,
    ),
}
_EXAMPLE_KEYS = {
    "source": _text(),
    "channel": _text(),
    "address": _ADDRESS,
    "registers": _list("[0x0000 - 0xFFFF, …]", _is_word),
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
    try:
        content = tomllib.loads(text)
    except (ValueError, RecursionError) as fault:  # numbers without end and brackets in brackets too
        raise ProfileError(name, [Mistake((), None, _("is no TOML: {fault}.").format(fault=fault))]) from fault
    mistakes: list[Mistake] = []
    keys = _read((), content, _PROFILE_KEYS, mistakes)
    base, moved_by, tables = keys["address_base"], keys.pop("moved_by"), keys["channels"] or {}
    channels: dict[str, Channel] = {}
    places: dict[str, tuple[str, ...]] = {}  # of each channel its table
    for each, table in tables.items():
        place, before = ("channels", each), len(mistakes)
        values = _read(place, _completed(table, tables), _CHANNEL_KEYS, mistakes)
        for one, own in _repeated(each, values, place, mistakes) if len(mistakes) == before else ():
            if one in channels:
                text = _("channel {channel} stands twice. Give one of the two another name.")
                mistakes.append(Mistake(place, None, text.format(channel=one)))
            if len(mistakes) == before and base in _BASES:
                channels[one] = _channel(one, own, base, moved_by, place, mistakes)
                places[one] = place
    checks = _checks(keys.pop("serial"), keys.pop("expect") or (), base, moved_by, mistakes)
    examples = [
        _read(("example", str(number)), example, _EXAMPLE_KEYS, mistakes)
        for number, example in enumerate(keys.pop("example") or (), start=1)
    ]
    floor_ms, reply_ms = keys.pop("timeout_floor_ms"), keys["reply_ms"]
    for key, ms in (("timeout_floor_ms", floor_ms), ("reply_ms", reply_ms)):
        if None not in (ms, keys["timeout_ms"]) and ms > keys["timeout_ms"]:
            told = _("is longer than timeout_ms = {timeout}. Correct one of the two.")
            mistakes.append(Mistake((key,), str(ms), told.format(timeout=keys["timeout_ms"])))
    if mistakes:
        raise ProfileError(name, mistakes)

    def span(printed: str) -> tuple[int, ...]:
        return tuple(_wire(int(end), base, moved_by) for end in printed.split("-"))

    gaps = keys["bridge_gaps"]
    keys |= {
        "line": keys["line"] and Line.parse(keys["line"]),
        "reply_ms": min(keys["timeout_ms"], _REPLY_MS) if reply_ms is None else reply_ms,
        "floor_ms": floor_ms or min(keys["timeout_ms"], _FLOOR_MS),
        "bridge_gaps": tuple(map(span, gaps)) if isinstance(gaps, list) else ((0, 0xFFFF),) * gaps,
        "address_base": base - moved_by,
        "block": keys["block"] and span(keys["block"]),
        "checks": checks,
        "writes": tuple(tuple(map(int, re.split("[ -]", written))) for written in keys["writes"]),
        "channels": channels,
    }
    profile = Profile(name=name, text=text, proven=bool(examples), **keys)
    for channel in channels.values():
        others = [name for name in channels if name != channel.name]
        if channel.needs is not None and channel.needs not in others:
            told = _("is no other channel of this profile ({others}). Correct it, or delete the key.")
            told = told.format(others=", ".join(others) or "-")
            mistakes.append(Mistake((*places[channel.name], "needs"), channel.needs, told))
            break  # of many alike, one is enough
    for channel in channels.values():
        if (count := _place(profile, channel)[2]) > (limit := _limit(profile, channel.function_code)):
            told = _(
                "value and codes span {count} registers; one request has {limit}. Read the codes as another channel."
            )
            mistakes.append(Mistake(places[channel.name], None, told.format(count=count, limit=limit)))
    for check in checks:
        if check.count > profile.max_registers:
            told = _("{count} registers to be checked; one request has {limit}. Check fewer.")
            table = "serial" if check.expected is None else "expect"
            mistakes.append(Mistake((table,), None, told.format(count=check.count, limit=profile.max_registers)))
    for number, example in enumerate(examples, start=1):
        if disproof := _disproof(profile, example):
            mistakes.append(Mistake(("example", str(number)), example["source"], disproof))
    if mistakes:
        raise ProfileError(name, mistakes)
    return profile


def _checks(
    serial: Any, expects: Sequence[Any], base: int, moved_by: int, mistakes: list[Mistake]
) -> tuple[Check, ...]:
    """The serial number, then what is expected: that is never moved, because it may tell where the map begins."""
    tables: list[tuple[tuple[str, ...], Any, Mapping[str, _Key], int]] = []
    if serial is not None:
        tables.append((("serial",), serial, _SERIAL_KEYS, moved_by))
    tables += [(("expect", str(number)), each, _EXPECT_KEYS, 0) for number, each in enumerate(expects, start=1)]
    checks = []
    for place, table, allowed, moved in tables:
        before = len(mistakes)
        keys = _read(place, table, allowed, mistakes)
        if len(mistakes) > before or base not in _BASES:
            continue
        if _BASES[base] not in (None, keys["function_code"]):
            mistakes.append(Mistake((*place, "function_code"), str(keys["function_code"]), _base_means(base)))
        address, expected = _wire(keys["address"], base, moved), keys.get("registers")
        count = len(expected) if expected else keys["count"]
        if not 0 <= address <= 0x10000 - count:
            told = _no_register(keys["address"], base, moved)
            mistakes.append(Mistake((*place, "address"), str(keys["address"]), told))
        checks.append(Check(keys["function_code"], address, count, expected and tuple(expected)))
    return tuple(checks)


def _wire(printed: int, base: int, moved_by: int) -> int:
    return printed - base + moved_by


def _no_register(printed: int, base: int, moved_by: int) -> str:
    told = _("{printed} is no register where address_base is {base} and moved_by {moved_by}. Correct one of them.")
    return told.format(printed=printed, base=base, moved_by=moved_by)


def _base_means(base: int) -> str:
    return _("address_base {base} means {code}. Correct one of the two.").format(base=base, code=_BASES[base])


def _completed(table: Any, tables: Mapping[str, Any]) -> Any:
    """A channel's table, with what it leaves out from the channel that it is the same as."""
    same = table.get("same_as") if isinstance(table, dict) else None
    if not isinstance(same, str) or not isinstance(tables.get(same), dict):
        return table
    return tables[same] | {key: value for key, value in table.items() if key != "same_as"}


def _repeated(
    name: str, keys: Mapping[str, Any], place: tuple[str, ...], mistakes: list[Mistake]
) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """The channels of one table, by name: itself, or `count` alike whose registers lie `step` apart.

    {n} in what one of them needs is its own number.
    """
    count, first, step = keys["count"], keys["first"], keys["step"]
    if count is None:
        for key in ("first", "step"):
            if keys[key] is not None:
                mistakes.append(Mistake((*place, key), str(keys[key]), _("goes with {key}.").format(key="count")))
        yield name, keys
    else:
        addresses = {key: at for key, at in keys.items() if key.endswith("address") and at is not None}
        for i in range(count):
            moved: dict[str, Any] = {key: at + i * (1 if step is None else step) for key, at in addresses.items()}
            number = str((1 if first is None else first) + i)
            needs = keys["needs"] and keys["needs"].replace("{n}", number)
            yield f"{name}{number}", {**keys, **moved, "needs": needs}


def _shown(value: Any) -> str | None:
    """What stands in the file, in a line; None where that is too long to be told."""
    if isinstance(value, str):
        return " ".join(value.split())
    return None if isinstance(value, dict) else json.dumps(value, ensure_ascii=False, default=str)


def _read(
    place: tuple[str, ...], content: Any, keys: Mapping[str, _Key], mistakes: list[Mistake]
) -> dict[str, Any]:
    """The table's values, with defaults for what is left out. What is wrong, missing or unknown is a mistake."""
    if not isinstance(content, dict):
        mistakes.append(Mistake(place, _shown(content), _("must be a table, not a single value.")))
        return {}
    for name in content:
        if name not in keys:
            told = _("there is no such key. Allowed are: {allowed}.").format(allowed=", ".join(keys))
            mistakes.append(Mistake((*place, name), _shown(content[name]), told))
    found: dict[str, Any] = {}
    for name, key in keys.items():
        found[name] = None if key.default is ... else key.default
        if name in content and key.is_allowed(content[name]):
            found[name] = content[name]
        elif name in content:
            told = _("is not allowed. Allowed is: {allowed}.").format(allowed=key.allowed)
            mistakes.append(Mistake((*place, name), _shown(content[name]), told))
        elif key.default is ...:
            told = _("is missing. Allowed is: {allowed}.").format(allowed=key.allowed)
            mistakes.append(Mistake((*place, name), None, told))
    return found


def _channel(
    name: str, keys: Mapping[str, Any], base: int, moved_by: int, place: tuple[str, ...], mistakes: list[Mistake]
) -> Channel:
    """A channel of keys that are right each by itself; what does not go together is a mistake."""

    def wrong(key: str, told: str) -> None:
        mistakes.append(Mistake((*place, key), None if keys[key] is None else _shown(keys[key]), told))

    def wire(key: str) -> int:
        address = _wire(keys[key], base, moved_by)
        if not 0 <= address <= 0xFFFF:
            wrong(key, _no_register(keys[key], base, moved_by))
        return address

    kind, function_code, is_bit = keys["type"], keys["function_code"], keys["bit"] is not None
    if _BASES[base] not in (None, function_code):
        wrong("function_code", _base_means(base))
    if (kind == "bool") != (function_code <= modbus.READ_DISCRETE_INPUTS or is_bit):
        wrong("type", _("bool goes with function_code 1 and 2, and with bit, and only with them."))
    if is_bit and function_code <= modbus.READ_DISCRETE_INPUTS:
        wrong("bit", _("is one of a register: it goes with function_code 3 and 4."))
    if (keys["word_order"] is None) != (channels_.WORDS[kind] == 1):
        wrong("word_order", _("is for types of two registers, and needed there."))
    limits = [keys[limit] for limit in Current._fields]
    is_current = any(limit is not None for limit in limits)
    if is_current and (None in limits or abs(limits[0] - limits[1]) < channels_.SPAN_MIN):
        wrong(
            Current._fields[0],
            _("goes with all of {keys}, and differs from raw_20ma.").format(keys=", ".join(Current._fields[1:])),
        )
    fields = {}
    for each, codes in zip(_FIELDS, ("unit_codes", "decimals_codes", "status_flags", "state_codes", None), strict=True):
        has_address = keys[f"{each}_address"] is not None
        if codes and has_address != bool(keys[codes]):
            wrong(codes, _("goes with {key}.").format(key=f"{each}_address"))
        if has_address:
            width = 16 * channels_.WORDS[keys[f"{each}_type"]]
            high, low = map(int, (keys[f"{each}_bits"] or f"{width - 1}-0").split("-"))
            if not low <= high < width:
                wrong(f"{each}_bits", _("from the highest bit to the lowest, at most {high}-0.").format(high=width - 1))
            fields[each] = Field(wire(f"{each}_address"), keys[f"{each}_type"], high, low)
    if [keys["unit"] is not None, "unit" in fields, is_current].count(True) != 1:
        wrong("unit", _("one of unit, unit_address and raw_4ma must tell the unit."))
    _check_valid(keys, wrong)
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
        valid_low=keys["valid_low"],
        valid_high=keys["valid_high"],
        needs=keys["needs"],
        bit=keys["bit"],
        first=first,
        count=end - first,
    )


def _check_valid(keys: Mapping[str, Any], wrong: Callable[[str, str], None]) -> None:
    """Whether the range of valid values is one, of a number whose unit is known beforehand."""
    low, high = keys["valid_low"], keys["valid_high"]
    stated = "valid_low" if low is not None else "valid_high"
    if (low, high) != (None, None) and (keys["unit"] is None or keys["type"] == "bool"):
        wrong(stated, _("is for numbers in one unit: it goes with unit, and not with bool, unit_address or raw_4ma."))
    if None not in (low, high) and low >= high:
        wrong(stated, _("must be below valid_high = {high}.").format(high=high))


def _by_code(table: Mapping[str, Any] | None) -> dict[Any, Any]:
    return {int(code, 0): value for code, value in (table or {}).items()}


def _disproof(profile: Profile, example: Mapping[str, Any]) -> str | None:
    """Why an example is not what the profile reads; a printed value has the channel's decimals."""
    channel = profile.channels.get(example["channel"])
    if channel is None:
        text = _("channel {channel} does not exist. Allowed are: {allowed}.")
        return text.format(channel=example["channel"], allowed=", ".join(profile.channels))
    start, registers = example["address"] - profile.address_base, example["registers"]
    if not (start <= channel.first and channel.first + channel.count <= start + len(registers)):
        return _("these registers do not hold the whole channel.")
    use = ChannelUse("example", channel.name, example["unit"], example["range_low"], example["range_high"])
    if told := channels_.unfit(channel, use):
        return told
    reading = channels_.reader(channel, use, start)(registers)
    value = None if reading.value is None else round(reading.value, channel.decimals)
    if (value, reading.status) == (example["value"], channels_.STATUSES[example["status"]]):
        return None
    told = _("printed is {printed}, but it reads as {read}. The channel's keys are wrong, or the example is.")
    return told.format(
        printed=_measured(example["value"], channels_.STATUSES[example["status"]], 0),
        read=_measured(value, reading.status, reading.detail),
    )


def _measured(value: float | None, status: int, detail: int) -> str:
    """A value with its status, in words."""
    words = _("{value} ({status})") if not detail else _("{value} ({status}, detail {detail})")
    shown = _("nothing") if value is None else value
    return words.format(value=shown, status=model.status_text(status), detail=detail)


# --- requests -----------------------------------------------------------------------------------------------


def data_bytes(function_code: int, count: int) -> int:
    """Bytes of data in a reply to a request for so many registers or bits."""
    return (count + 7) // 8 if function_code <= modbus.READ_DISCRETE_INPUTS else 2 * count


def bus_chars(function_code: int, count: int) -> int:
    """What a request costs: characters that nobody else can send meanwhile; the wait for the unit comes on top."""
    return FRAME_CHARS + SILENCE_CHARS + data_bytes(function_code, count)


def plan_reads(profile: Profile, uses: Sequence[ChannelUse], beside: Sequence[ChannelUse] = ()) -> tuple[Read, ...]:
    """The cheapest requests for these uses, each of them whole in one; of equally cheap ones the fewest.

    Registers that no use wants, nor one of those `beside` (of the same unit), are read along only where the profile
    allows it. ValueError for a use that does not fit.
    """
    for use in uses:
        if use.channel not in profile.channels:
            raise ValueError(f"{use.point}: channel = {use.channel!r}: allowed are {', '.join(profile.channels)}")
        if told := channels_.unfit(profile.channels[use.channel], use):
            raise ValueError(told)
    of_place: dict[tuple[int, int, int], list[ChannelUse]] = {}
    for use in uses:
        of_place.setdefault(_place(profile, profile.channels[use.channel]), []).append(use)
    places = sorted(of_place)
    all_places = {*places, *(_place(profile, profile.channels[use.channel]) for use in beside)}
    wanted = {(code, first + i) for code, first, count in all_places for i in range(count)}
    # Some cheapest plan has runs of the sorted places: of two requests, the later one may take all that it holds.
    # best[end]: characters and requests for the places before `end`, and where the last request begins, negative.
    best = [(0, 0, 0)] + [(1 << 30, 0, 0)] * len(places)
    for start in range(len(places)):
        for end, run in _runs(profile, places, start, wanted):
            chars, requests, _last = best[start]
            best[end] = min(best[end], (chars + bus_chars(places[start][0], run), requests + 1, -start))
    reads: list[Read] = []
    end = len(places)
    while end:
        start = -best[end][2]
        function_code, first, _count = places[start]
        last = max(place_first + count for _code, place_first, count in places[start:end])
        riders = tuple(use for place in places[start:end] for use in of_place[place])
        reads.append(Read(function_code, first, last - first, riders))
        end = start
    return tuple(reversed(reads))


def _runs(
    profile: Profile, places: Sequence[tuple[int, int, int]], start: int, wanted: Collection[tuple[int, int]]
) -> Iterator[tuple[int, int]]:
    """The requests that may begin with this place: the place after their last one, and their length."""
    function_code, first, _count = places[start]
    reached = first
    for end in range(start, len(places)):
        code, address, count = places[end]
        farthest = max(reached, address + count)
        if code != function_code or farthest - first > _limit(profile, code):
            return
        for gap in range(reached, address):
            if (code, gap) not in wanted and not any(low <= gap <= high for low, high in profile.bridge_gaps):
                return
        reached = farthest
        yield end + 1, reached - first


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
