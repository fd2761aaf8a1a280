"""One channel of a sensor: its registers to one reading, and a value to its registers. Protocol.

Owns words, types, scaling, units, decimals and status of a channel. Must never guess: a code that the channel does
not list makes the reading bad. Sources: MODBUS Application Protocol V1.1b3; for 4-20 mA signals NAMUR NE 43.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from gettext import gettext as _
from struct import Struct
from typing import NamedTuple

from protocols import model
from protocols.model import Reading

# Detail of a WRONG_REPLY whose frame was right, but whose unit is not the sheet's, or whose decimals are not in the
# profile. The sensor's own code is added.
UNIT_DISAGREES = 1000
DECIMALS_DISAGREE = 2000
# The same of a unit in which a register that the profile expects holds something else.
REGISTERS_DISAGREE = 3000

# What a profile can say of a sensor. Statuses with a detail carry the sensor's own code.
STATUSES = {
    "good": model.GOOD,
    "maintenance_due": model.MAINTENANCE_DUE,
    "over_range": model.OVER_RANGE,
    "under_range": model.UNDER_RANGE,
    "frozen": model.FROZEN,
    "sensor_fault": model.SENSOR_FAULT,
    "wire_break": model.WIRE_BREAK,
    "not_a_number": model.NOT_A_NUMBER,
    "warm_up": model.WARM_UP,
    "calibration": model.CALIBRATION,
    "inhibited": model.INHIBITED,
    "simulated_by_device": model.SIMULATED_BY_DEVICE,
}
SPAN_MIN = 1e-9  # between two ends that are not the same
_WITH_DETAIL = (model.SENSOR_FAULT, model.MAINTENANCE_DUE)
NORMAL = "normal"  # of a simulated sensor: nothing to report

WORDS = {"bool": 1, "u16": 1, "i16": 1, "u32": 2, "i32": 2, "f32": 2}
WORD_ORDERS = ("ABCD", "CDAB", "BADC", "DCBA")
_WHOLE = {
    "bool": (0, 1),
    "u16": (0, 2**16 - 1),
    "i16": (-(2**15), 2**15 - 1),
    "u32": (0, 2**32 - 1),
    "i32": (-(2**31), 2**31 - 1),
}
_LONG = {"u32": Struct(">I"), "i32": Struct(">i"), "f32": Struct(">f")}
# The units that turn into each other without loss, in mm.
_LENGTHS = {"mm": 1, "cm": 10, "m": 1000}
# A sensor's zero may tremble under the range: NE 43 lets the 4 mA go down to 3.8, which is 1.25 % of the span.
_TREMBLE = 0.0125


class Field(NamedTuple):
    """A code that stands beside a value: wire address, "u16" or "u32", and its bits from `high` to `low`."""

    address: int
    type: str
    high: int
    low: int


class Current(NamedTuple):
    """A 4-20 mA input: the register at 4 and 20 mA, and the currents in mA beyond which a reading is not good."""

    raw_4ma: float
    raw_20ma: float
    wire_break_below_ma: float
    under_range_below_ma: float
    over_range_above_ma: float
    sensor_fault_above_ma: float

    def ma(self, raw: float) -> float:
        """The current that this register value means."""
        return 4 + (raw - self.raw_4ma) * 16 / (self.raw_20ma - self.raw_4ma)

    def raw(self, ma: float) -> float:
        """The register value of this current."""
        return self.raw_4ma + (ma - 4) * (self.raw_20ma - self.raw_4ma) / 16


@dataclass(frozen=True, slots=True)
class Channel:
    """One quantity of a sensor. Addresses are on the wire, from 0; units are UCUM codes.

    The value is (register - subtract) / divisor, and again / divisors[code] where the sensor tells its decimals.
    `units` are by the sensor's own code, by None where it never changes; none for a 4-20 mA input, whose unit is
    the sheet's. `fields` are by what they tell: unit, decimals, status, state, detail. `decimals` are what a person
    is shown. Value and fields lie in `count` registers from `first`, and are read at once. What is not from `valid_low`
    to `valid_high`, both in its own unit, is no measured value. `needs`: the channel that alone tells its faults.
    `bit`: which one of its register a "bool" is; None for a coil or an input.
    """

    name: str
    function_code: int
    address: int
    type: str
    word_order: str
    subtract: int
    divisor: int
    decimals: int
    current: Current | None
    fields: Mapping[str, Field]
    units: Mapping[int | None, str]
    divisors: Mapping[int, int]
    flags: Mapping[int, int]  # bit -> status
    states: Mapping[int, int]  # code -> status
    valid_low: float | None
    valid_high: float | None
    needs: str | None
    bit: int | None
    first: int
    count: int

    @property
    def value_type(self) -> str:
        """The type of its readings: "f32" where the value is scaled or may be converted, else the register's own."""
        is_scaled = self.current or self.subtract or self.divisor != 1 or self.fields.keys() & {"unit", "decimals"}
        return "f32" if is_scaled or any(unit in _LENGTHS for unit in self.units.values()) else self.type

    def accepts(self, unit: str) -> bool:
        """Whether a sheet may ask for its readings in this unit."""
        return self.current is not None or any(_factor(own, unit) for own in self.units.values())

    def valid(self, unit: str) -> tuple[float, float]:
        """The lowest and the highest value that it may measure, in a unit that it accepts; infinite where unknown."""
        multiply, divide = (self.units.get(None) and _factor(self.units[None], unit)) or (1, 1)
        low = -math.inf if self.valid_low is None else self.valid_low
        high = math.inf if self.valid_high is None else self.valid_high
        return low * multiply / divide, high * multiply / divide


@dataclass(frozen=True, slots=True)
class ChannelUse:
    """What a point wants of a channel: readings in this unit. Of a 4-20 mA input the range is its 4 and 20 mA."""

    point: str
    channel: str
    unit: str
    range_low: float | None
    range_high: float | None


def _factor(own: str, wanted: str) -> tuple[int, int] | None:
    """What turns a value of a unit into a wanted one, as multiplier and divisor; None: nothing does."""
    if own == wanted:
        return 1, 1
    if own in _LENGTHS and wanted in _LENGTHS:
        divisor = math.gcd(_LENGTHS[own], _LENGTHS[wanted])
        return _LENGTHS[own] // divisor, _LENGTHS[wanted] // divisor
    return None


# --- words --------------------------------------------------------------------------------------------------


def _words(word_order: str) -> tuple[Struct, bool]:
    """How two registers pack to big-endian bytes, and whether the second one comes first."""
    return Struct(">HH" if word_order in ("ABCD", "CDAB") else "<HH"), word_order in ("CDAB", "DCBA")


def _raw_reader(kind: str, word_order: str, at: int) -> Callable[[Sequence[int]], float | int]:
    if kind == "i16":
        return lambda registers: registers[at] - ((registers[at] & 0x8000) << 1)
    if WORDS[kind] == 1:
        return lambda registers: registers[at]
    words, is_swapped = _words(word_order)
    first, second = (at + 1, at) if is_swapped else (at, at + 1)
    pack, unpack = words.pack, _LONG[kind].unpack
    return lambda registers: unpack(pack(registers[first], registers[second]))[0]


def _raw_words(kind: str, word_order: str, raw: float | int) -> tuple[int, ...]:
    if WORDS[kind] == 1:
        return (int(raw) & 0xFFFF,)
    words, is_swapped = _words(word_order)
    pair = words.unpack(_LONG[kind].pack(raw if kind == "f32" else int(raw)))
    return pair[::-1] if is_swapped else pair


def _field_reader(field: Field, word_order: str, start: int) -> Callable[[Sequence[int]], int]:
    raw_of = _raw_reader(field.type, word_order, field.address - start)
    low, mask = field.low, (1 << field.high - field.low + 1) - 1
    return lambda registers: int(raw_of(registers)) >> low & mask


# --- registers to a reading ---------------------------------------------------------------------------------


def reader(channel: Channel, use: ChannelUse, start: int) -> Callable[[Sequence[int]], Reading]:
    """What makes one use's reading of a reply whose first register is `start`: prepared here, so that it is quick.

    Of several statuses the worst counts (bad, uncertain, good), of equally bad ones the first: flags in the file's
    order, then the state, then unit, number and range. ValueError for a use that does not fit the channel.
    """
    if told := unfit(channel, use):
        raise ValueError(told)
    point, flags, states = use.point, tuple(channel.flags.items()), channel.states
    fields = {name: _field_reader(field, channel.word_order, start) for name, field in channel.fields.items()}
    status_of, state_of, detail_of = fields.get("status"), fields.get("state"), fields.get("detail")
    if channel.bit is None:
        raw_of = _raw_reader(channel.type, channel.word_order, channel.address - start)
    else:
        raw_of = _field_reader(Field(channel.address, "u16", channel.bit, channel.bit), channel.word_order, start)
    value_of = _current_reader(channel.current, use) if channel.current else _value_reader(channel, use, fields)

    def read(registers: Sequence[int]) -> Reading:
        status, detail = model.GOOD, 0
        if status_of and (word := status_of(registers)):
            for bit, meant in flags:
                if word >> bit & 1 and (status == model.GOOD or meant // 100 > status // 100):
                    status = meant
            if status in _WITH_DETAIL:
                detail = detail_of(registers) if detail_of else word
        if state_of:
            code = state_of(registers)
            meant = states.get(code, model.SENSOR_FAULT)
            if status == model.GOOD or meant // 100 > status // 100:
                status, detail = meant, code if meant in _WITH_DETAIL else 0
        if status >= model.NO_REPLY:
            return Reading(point, None, status, detail)
        raw = raw_of(registers)
        if raw - raw != 0:  # NaN or infinite
            return Reading(point, None, model.NOT_A_NUMBER, 0)
        value, meant, code = value_of(registers, raw)
        if meant // 100 > status // 100:
            status, detail = meant, code
        return Reading(point, value, status, detail)

    return read


_ValueReader = Callable[[Sequence[int], float | int], tuple[float | int | None, int, int]]


def _current_reader(current: Current, use: ChannelUse) -> _ValueReader:
    """Value, status and detail of a 4-20 mA signal. The value has the digits that one step of the register gives."""
    low, high = use.range_low or 0.0, use.range_high or 0.0
    step = abs((high - low) / (current.raw_20ma - current.raw_4ma))
    digits = max(0, math.ceil(-math.log10(step)))

    def read(_registers: Sequence[int], raw: float | int) -> tuple[float | None, int, int]:
        ma = current.ma(raw)
        if ma < current.wire_break_below_ma:
            return None, model.WIRE_BREAK, 0
        if ma > current.sensor_fault_above_ma:
            return None, model.SENSOR_FAULT, 0
        value = round(low + (ma - 4) * (high - low) / 16, digits) + 0.0
        if ma < current.under_range_below_ma:
            return value, model.UNDER_RANGE, 0
        return value, model.OVER_RANGE if ma > current.over_range_above_ma else model.GOOD, 0

    return read


def _value_reader(
    channel: Channel, use: ChannelUse, fields: Mapping[str, Callable[[Sequence[int]], int]]
) -> _ValueReader:
    """Value, status and detail of a number: its unit and decimals must be known, and the sheet's range holds it.

    Beyond what the profile calls valid it is none: some sensors tell a fault by a number that they cannot measure.
    """
    unit_of, decimals_of, divisors = fields.get("unit"), fields.get("decimals"), channel.divisors
    factors = {code: factor for code, own in channel.units.items() if (factor := _factor(own, use.unit))}
    subtract, divisor = channel.subtract, channel.divisor
    fixed = factors.get(None)
    is_plain = not decimals_of and fixed == (1, 1) and not subtract and divisor == 1
    too_high = math.inf if use.range_high is None else use.range_high
    too_low = -math.inf if use.range_low is None else use.range_low
    if not math.isinf(too_high - too_low):
        too_low -= _TREMBLE * (too_high - too_low)
    valid_low, valid_high = channel.valid(use.unit)

    def read(registers: Sequence[int], raw: float | int) -> tuple[float | int | None, int, int]:
        value = raw
        if not is_plain:
            factor = fixed
            if unit_of:
                unit = unit_of(registers)
                factor = factors.get(unit)
                if factor is None:
                    return None, model.WRONG_REPLY, UNIT_DISAGREES + unit
            multiply, divide = factor or (1, 1)
            if decimals_of:
                places = decimals_of(registers)
                if places not in divisors:
                    return None, model.WRONG_REPLY, DECIMALS_DISAGREE + places
                divide *= divisors[places]
            value = (raw - subtract) * multiply / (divisor * divide)
        if not valid_low <= value <= valid_high:
            return None, model.SENSOR_FAULT, 0
        if value > too_high:
            return value, model.OVER_RANGE, 0
        return value, model.UNDER_RANGE if value < too_low else model.GOOD, 0

    return read


def unfit(channel: Channel, use: ChannelUse) -> str | None:
    """Why a channel cannot give what a use wants."""
    if not channel.accepts(use.unit):
        told = _("{point}: {unit} does not fit: {channel} is in {units}.")
        units = ", ".join(channel.units.values())
        return told.format(point=use.point, unit=use.unit, channel=channel.name, units=units)
    low, high = use.range_low, use.range_high
    if channel.current and (low is None or high is None or abs(high - low) < SPAN_MIN):
        told = _("{point}: {channel} needs range_low and range_high, the values at 4 and 20 mA.")
        return told.format(point=use.point, channel=channel.name)
    return None


# --- a value to registers -----------------------------------------------------------------------------------


def registers(channel: Channel, use: ChannelUse, value: float | None, state: str, detail: int) -> dict[int, int]:
    """Wire address -> register of a simulated sensor that measures `value`, in the unit and range of the use.

    `state` is "normal" or a status of a profile that this channel can tell; ValueError for another one. `detail`
    goes where the sensor has a register for it. No value leaves zero.
    """
    if told := unfit(channel, use):
        raise ValueError(told)
    meant = model.GOOD if state == NORMAL else STATUSES.get(state)
    codes = {"detail": detail}
    flag = next((bit for bit, status in channel.flags.items() if status == meant), None)
    of_state = [code for code, status in channel.states.items() if status == meant]
    by_number = {model.WIRE_BREAK: channel.current, model.NOT_A_NUMBER: channel.type == "f32"}
    if meant is None or (meant != model.GOOD and flag is None and not of_state and not by_number.get(meant)):
        raise ValueError(f"state = {state!r}: {channel.name} cannot tell it")
    codes["status"] = 0 if flag is None else 1 << flag
    normal = [code for code, status in channel.states.items() if status == model.GOOD]
    codes["state"] = next(iter(of_state if flag is None and of_state else normal), 0)
    own = [code for code, unit in channel.units.items() if _factor(unit, use.unit)]
    unit_code = next((code for code in own if channel.units[code] == use.unit), next(iter(own), None))
    codes["unit"] = unit_code or 0
    places = [code for code, divisor in channel.divisors.items() if divisor <= 10**channel.decimals]
    codes["decimals"] = max(places, key=lambda code: channel.divisors[code], default=0)
    if meant == model.NOT_A_NUMBER and channel.type == "f32":
        raw: float = math.nan
    elif channel.current:
        raw = _raw_current(channel.current, use, value, is_broken=meant == model.WIRE_BREAK)
    else:
        multiply, divide = (channel.units and _factor(channel.units[unit_code], use.unit)) or (1, 1)
        divide *= channel.divisor * channel.divisors.get(codes["decimals"], 1)
        raw = (value or 0) * divide / multiply + channel.subtract
    if channel.type in _WHOLE:
        lowest, highest = _WHOLE[channel.type]
        raw = min(max(round(raw), lowest), highest)
    if channel.bit is not None:
        raw = round(raw) << channel.bit
    words = dict(enumerate(_raw_words(channel.type, channel.word_order, raw), channel.address))
    for name, field in channel.fields.items():
        for address, word in enumerate(
            _raw_words(field.type, channel.word_order, codes[name] << field.low), field.address
        ):
            words[address] = words.get(address, 0) | word
    return words


def _raw_current(current: Current, use: ChannelUse, value: float | None, is_broken: bool) -> float:
    if is_broken:
        return current.raw(0)
    low, high = use.range_low or 0.0, use.range_high or 0.0
    return current.raw(4 if value is None else 4 + (value - low) * 16 / (high - low))
