"""The points sheet: from a table of cells to points, with everything that is wrong with it. Protocol.

Owns the columns, the units as people write them, and the rules between the cells of a row and between rows.
Reads what spreadsheets save: UTF-8 with or without a byte order mark, GB18030 (a Chinese Excel's CSV), blank
rows, any order of columns. Must never repair a cell: a guessed number is a wrong alarm later.
"""

import csv
import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from gettext import gettext as _
from math import isinf

from edge.alarms.presets import LIMITS, PRESETS, RATES, SWITCH, TIMES
from edge.problem import Problem, did_you_mean, half_width, one_of
from protocols.channel import SPAN_MIN
from protocols.model import Point
from protocols.profile import Channel, Profile

# A heading is "位号 point", or either half of it.
COLUMNS = {
    "point": "位号",
    "name": "名称",
    "area": "区域",
    "medium": "介质",
    "bus": "总线",
    "unit_id": "站号",
    "profile": "型号",
    "channel": "测量",
    "unit": "单位",
    "range_low": "量程下限",
    "range_high": "量程上限",
    "period_s": "周期s",
    "deadband": "上报死区",
    "heartbeat_s": "上报间隔s",
    "preset": "报警模板",
    "LL": "低低",
    "L": "低",
    "H": "高",
    "HH": "高高",
    "CH": "极限",
    "ROR": "升速/min",
    "ROF": "降速/min",
    "TTHH": "至高高min",
    "TTCH": "至极限min",
    "trend_s": "趋势时长s",
    "frozen_s": "冻结时长s",
    "compare_with": "比对位号",
    "DEV": "偏差",
    "on_delay_s": "报警延时s",
    "off_delay_s": "恢复延时s",
    "alarm_deadband": "报警死区",
    "re_alarm_s": "再报警s",
    "oel": "接触限值",
    "oel_source": "依据",
    "hazard": "重大危险源",
    "quota_id": "平台编码",
    "urgent": "加急",
    "action": "处置措施",
    "consequence": "后果",
    "minutes_to_act": "可用时间min",
}
_REQUIRED = ("point", "name", "area", "bus", "unit_id", "profile", "channel", "unit")
_HALVES = {half.casefold(): column for column, chinese in COLUMNS.items() for half in (column, chinese)}

# UCUM codes and what people write for them, blanks apart. Full-width and composed characters (％ ℃ ³ ㎜) are the same
# here, capitals are not: between m and M lies a factor of a thousand million. What may mean two units stands nowhere.
UNITS = {
    "%{LEL}": ("%LEL", "%lel", "%Lel", "LEL%", "lel%"),
    "%{vol}": ("%VOL", "%Vol", "%vol", "VOL%", "Vol%", "vol%"),
    "[ppm]": ("ppm", "PPM", "Ppm"),
    "[ppb]": ("ppb", "PPB", "Ppb"),
    "mg/m3": ("mg/m3", "mg/m^3", "毫克/立方米"),
    "Cel": ("℃", "°C", "°c", "degC", "摄氏度"),
    "MPa": ("MPa", "Mpa", "MPA", "兆帕"),
    "kPa": ("kPa", "kpa", "Kpa", "KPa", "KPA", "千帕"),
    "Pa": ("Pa", "pa", "PA", "帕"),
    "bar": ("bar", "Bar", "BAR"),
    "mbar": ("mbar", "mBar", "毫巴"),
    "m": ("m", "米"),
    "cm": ("cm", "CM", "厘米"),
    "mm": ("mm", "毫米"),
    "%": ("%",),
    "%{RH}": ("%RH", "%rh", "RH%"),
    "kg": ("kg", "Kg", "KG", "千克", "公斤"),
    "t": ("t", "吨"),
    "t/h": ("t/h", "吨/小时", "吨/时"),
    "m3": ("m3", "m^3", "立方米"),
    "m3/h": ("m3/h", "m^3/h", "立方米/小时", "立方米/时"),
    "L/min": ("L/min", "l/min", "LPM", "升/分", "升/分钟"),
    "mA": ("mA", "毫安"),
    "V": ("V", "伏"),
    "1": ("1",),  # switches, relays and codes: no unit at all
}
_UCUM = {half_width(written): unit for unit, all_written in UNITS.items() for written in all_written}

_PLACES = {"mm": 0, "cm": 1, "m": 3}  # where the decimal point goes when a length is written in another unit

_MOVING_LEAST = 1e-4  # of a rate or a deviation, whatever the unit: 0.1 mm a minute
_MINUTES_MOST = 1440
_WINDOW_S = (10, 86_400)
_RE_ALARM_S = (60, 86_400)
_WINDOW_POLLS = 10  # a window of fewer has a hole where one poll fails, and says nothing
_MOST = 1e9  # of what anybody measures, whatever the unit
_POINT = re.compile(r"[A-Za-z0-9_-]+(\.[A-Za-z0-9_-]+)+")
_NUMBER = re.compile(r"-?[0-9]+(\.[0-9]+)?")
_EXCEL_NUMBER = re.compile(r"[0-9](\.[0-9]+)?E\+[0-9]+")


@dataclass(frozen=True, slots=True)
class Row:
    """One row with content: its number in the spreadsheet, and its cells, stripped, by column."""

    number: int
    cells: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Sheet:
    """The rows of one sheet; `headings` are the recognised columns as they were written."""

    file: str
    headings: Mapping[str, str]
    rows: tuple[Row, ...]
    problems: tuple[Problem, ...]
    warnings: tuple[Problem, ...]

    def profiles(self) -> set[str]:
        """The profiles that its rows name."""
        return {row.cells["profile"] for row in self.rows if row.cells.get("profile")}


def heading(column: str) -> str:
    """A column's full heading."""
    return f"{COLUMNS[column]} {column}"


def _refused(file: str, code: str, text: str, row: int | None = None) -> Sheet:
    return Sheet(file, {}, (), (Problem(code, file, "", None, text, row=row),), ())


def read_sheet(file: str, data: bytes) -> Sheet:
    """The rows of a CSV file; none when its form is wrong, so that one wrong heading is one problem."""
    if data.startswith((b"PK\x03\x04", b"\xd0\xcf\x11\xe0")):
        return _refused(file, "E-FIL-003", _("is a workbook. In the spreadsheet, save it as “CSV UTF-8”."))
    text = _decode(data)
    if text is None:
        return _refused(file, "E-FIL-002", _("is neither UTF-8 nor GB18030 text. Save it as “CSV UTF-8”."))
    table: list[list[str]] = []
    try:
        for cells in csv.reader(text.splitlines(keepends=True), strict=True):
            table.append([cell.strip() for cell in cells])
    except csv.Error:  # an open quote would swallow all the points below it
        text = _("has a double quote that is not closed, or text right after a closed one.")
        return _refused(file, "E-SHT-007", text, row=len(table) + 1)
    return sheet_of(file, table)


def sheet_of(file: str, table: Sequence[Sequence[str]]) -> Sheet:
    """The sheet of all rows of a table, empty ones too; none when its headings are wrong."""
    filled = [(number, cells) for number, cells in enumerate(table, start=1) if any(cells)]
    if not filled:
        return _refused(file, "E-SHT-001", _("is empty. Its first row must be the headings."))
    heading_row, names = filled[0]
    if len(names) == 1 and re.search("[，;；\t]", names[0]):
        text = _("its columns are not separated by half-width commas. Save it as “CSV UTF-8”.")
        return _refused(file, "E-SHT-004", text, heading_row)
    columns, problems, warnings = _columns(file, heading_row, names)
    if problems:
        return Sheet(file, {}, (), tuple(problems), tuple(warnings))
    headings = {column: names[at] for at, column in columns.items()}
    if len(filled) == 1:
        text = _("has headings, but no point below them. Write a row for each point.")
        problems.append(Problem("E-SHT-005", file, "", None, text, row=heading_row))
    rows = []
    for number, cells in filled[1:]:
        rows.append(Row(number, {column: cells[at] for at, column in columns.items() if at < len(cells)}))
        if any(cells[len(names) :]):
            text = _("has more cells than headings. Put a text that has a comma in double quotes.")
            point = rows[-1].cells.get("point", "")
            problems.append(Problem("E-SHT-006", file, "", None, text, row=number, point=point))
    return Sheet(file, headings, tuple(rows), tuple(problems), tuple(warnings))


def _decode(data: bytes) -> str | None:
    encodings = ["utf-8-sig"] if data.startswith(b"\xef\xbb\xbf") else ["utf-8", "gb18030"]
    for encoding in encodings:
        try:
            return data.decode(encoding)
        except UnicodeDecodeError:
            continue
    return None


def _columns(file: str, row: int, names: Sequence[str]) -> tuple[dict[int, str], list[Problem], list[Problem]]:
    """Which cell of a row is which column, and what is wrong with the headings."""
    columns: dict[int, str] = {}
    problems = []
    warnings = []
    for at, name in enumerate(names):
        if not name:
            continue
        halves = {_HALVES[half] for half in half_width(name).casefold().split() if half in _HALVES}
        if not halves:
            text = _("this version knows no such column: it is kept, and not used.")
            text += did_you_mean(name, _HALVES.values()) or did_you_mean(name, COLUMNS.values())
            warnings.append(Problem("W-SHT-001", file, name, None, text, row=row))
        elif len(halves) > 1:
            text = _("names two columns at once: {columns}.")
            text = text.format(columns=one_of(sorted(map(heading, halves))))
            problems.append(Problem("E-SHT-003", file, name, None, text, row=row))
        elif (column := halves.pop()) in columns.values():
            text = _("this column stands twice. Delete one of them.")
            problems.append(Problem("E-SHT-003", file, name, None, text, row=row))
        else:
            columns[at] = column
    unknown = [warning.field for warning in warnings]
    for column in _REQUIRED:
        if column not in columns.values():
            guess = did_you_mean(column, unknown) or did_you_mean(COLUMNS[column], unknown)
            text = _("this column is missing, and every point needs it.") + guess
            problems.append(Problem("E-SHT-002", file, heading(column), None, text, row=row))
    return columns, problems, warnings


class _Reader:
    """One row on its way to a point. A wrong cell is noted, and reading goes on with a stand-in."""

    def __init__(self, sheet: Sheet, row: Row, problems: list[Problem]) -> None:
        self._sheet = sheet
        self._row = row
        self._problems = problems

    def note(self, code: str, column: str, text: str) -> Problem:
        """A problem of one cell; it is not yet counted."""
        value = self._row.cells.get(column) or None
        field = self._sheet.headings.get(column, heading(column))
        point = self._row.cells.get("point", "")
        return Problem(code, self._sheet.file, field, value, text, row=self._row.number, point=point)

    def wrong(self, code: str, column: str, text: str) -> None:
        """A problem of one cell."""
        self._problems.append(self.note(code, column, text))

    def text(self, column: str) -> str:
        """The cell's text; empty is a problem only where the column is required."""
        value = self._row.cells.get(column, "")
        if not value and column in _REQUIRED:
            self.wrong("E-CEL-001", column, _("is empty, and every point needs it."))
        return value

    def choice(self, code: str, column: str, allowed: Collection[str]) -> str:
        """The cell's text where it is one of `allowed` or empty, else empty."""
        value = self.text(column)
        if not value or value in allowed:
            return value
        text = _("does not exist. Allowed are: {allowed}.").format(allowed=one_of(allowed))
        self.wrong(code, column, text + did_you_mean(value, allowed))
        return ""

    def number(self, column: str, low: float = -_MOST, high: float = _MOST) -> float | None:
        """The cell's number; None where it is empty or wrong."""
        value = self.text(column)
        if not value:
            return None
        if not _NUMBER.fullmatch(value):
            text = _("is not a number. Write digits, with a point before the decimals, like 12.5.")
            plain = half_width(value)
            if plain != value and _NUMBER.fullmatch(plain):
                text = _("is full-width. Write {plain} with the keyboard in English.").format(plain=plain)
            self.wrong("E-CEL-002", column, text)
            return None
        if not low <= float(value) <= high:
            text = _("is out of range: allowed are {low:g} to {high:g}.").format(low=low, high=high)
            if high == _MOST and float(value) < low:
                text = _("is out of range: allowed is {low:g} or more.").format(low=low)
            self.wrong("E-CEL-003", column, text)
            return None
        return float(value)

    def tenths(self, column: str, low: float, high: float, default: float) -> int:
        """The cell's seconds as milliseconds; whole tenths of a second."""
        value = self.number(column, low, high)
        if value is None:
            return round(default * 1000)
        if round(value * 1000) % 100:
            self.wrong("E-CEL-004", column, _("must be whole tenths of a second, like 0.5."))
        return round(value * 1000)

    def whole(self, column: str, low: int, high: int, default: int) -> int:
        """The cell's whole number."""
        value = self.number(column, low, high)
        if value is None:
            return default
        if value != int(value):
            self.wrong("E-CEL-004", column, _("must be a whole number."))
        return int(value)


def read_points(
    sheet: Sheet, buses: Collection[str], profiles: Mapping[str, Profile], profile_names: Collection[str]
) -> tuple[tuple[Point, ...], list[Problem], list[Problem]]:
    """The points of the sheet's rows; problems; reminders. With problems the points must not be used.

    `profiles` are those that could be loaded, `profile_names` those that exist: one with faults of its own is
    reported where it was loaded, not once more for every point.
    """
    problems: list[Problem] = []
    warnings: list[Problem] = []
    readers = []
    points = []
    first: dict[tuple[object, ...], tuple[int, Point]] = {}
    for row in sheet.rows:
        reader = _Reader(sheet, row, problems)
        point = _point(reader, buses, profiles, profile_names, warnings)
        readers.append(reader)
        points.append(point)
        _compare(reader, row.number, point, first)
    for reader, point in zip(readers, points, strict=True):
        _check_compared(reader, point, {each.point: each for each in points})
        if point.channel and point.profile in profiles:
            _check_needed(reader, point, profiles[point.profile].channels[point.channel].needs, first)
    return tuple(points), problems, warnings


def _point(
    reader: _Reader,
    buses: Collection[str],
    profiles: Mapping[str, Profile],
    profile_names: Collection[str],
    warnings: list[Problem],
) -> Point:
    name = reader.text("point")
    if name and not _POINT.fullmatch(name):
        text = _("must be asset.quantity in letters, digits, _ and -, like TK101.level.")
        plain = half_width(name)
        text += did_you_mean(name, [plain]) if plain != name and _POINT.fullmatch(plain) else ""
        reader.wrong("E-PNT-001", "point", text)
    if name.startswith("system."):
        reader.wrong("E-PNT-006", "point", _("“system.” is for alarms of the gateway itself. Name the asset."))
    profile_name = reader.choice("E-PRF-001", "profile", profile_names)
    profile = profiles.get(profile_name)
    channel = reader.choice("E-PRF-002", "channel", profile.channels) if profile else reader.text("channel")
    unit_text = reader.text("unit")
    range_low, range_high = reader.number("range_low"), reader.number("range_high")
    if range_low is not None and range_high is not None and range_high - range_low < SPAN_MIN:
        text = _("is not above range_low {low}.").format(low=reader.text("range_low"))
        reader.wrong("E-RNG-001", "range_high", text)
        range_low = range_high = None
    for empty, other in (("range_low", "range_high"), ("range_high", "range_low")):
        if not reader.text(empty) and reader.text(other):
            reader.wrong("E-RNG-002", empty, _("is empty: a range needs both its ends."))
    unit = _UCUM.get(half_width(unit_text).replace(" ", ""), "")
    if unit_text and not unit:
        known = [written[0] for written in UNITS.values()]
        text = _("is not a known unit. Known are: {allowed}.").format(allowed=one_of(known))
        is_celsius = unit_text in ("C", "c")  # near to nothing but cm, and a coulomb besides: it is not taken for ℃
        hint = _(" Did you mean “{word}”?").format(word="℃") if is_celsius else did_you_mean(unit_text, known)
        reader.wrong("E-UOM-001", "unit", text + hint)
    elif profile and channel:
        _check_channel(reader, profile.channels[channel], unit)
    preset = reader.choice("E-LIM-005", "preset", PRESETS)
    limits = _limits(reader, preset, range_low, range_high, warnings)
    deadband = reader.number("deadband", low=0) or 0.0
    if range_low is not None and range_high is not None and deadband >= range_high - range_low:
        text = _("is as wide as the range: between two heartbeats no change would be sent. Write a smaller one.")
        warnings.append(reader.note("W-RNG-002", "deadband", text))
    if profile and channel and profile.channels[channel].accepts(unit):
        _check_valid(reader, profile.channels[channel], unit, limits, warnings)
        _check_switch(reader, profile.channels[channel], preset, limits)
    on_delay_s = reader.number("on_delay_s", 0, 3600) or 0.0
    oel = reader.number("oel", low=0)
    period_ms = reader.tenths("period_s", 0.1, 3600, default=1)
    trends, trend_s = _trends(reader, preset, period_ms)
    frozen_s = _window(reader, "frozen_s", period_ms)
    compare_with, deviation = reader.text("compare_with"), reader.number("DEV", low=_MOVING_LEAST) or 0.0
    moving = [column for column in (*RATES, *TIMES, "frozen_s", "DEV") if reader.text(column)]
    if (limits or moving) and not reader.text("preset"):
        text = _("is empty, but the point has limits. Allowed are: {allowed}.")
        reader.wrong("E-LIM-004", "preset", text.format(allowed=one_of(PRESETS)))
    if preset and not (limits or moving):
        warnings.append(reader.note("W-LIM-001", "preset", _("the point has no limit, so it never alarms.")))
    if preset and (limits or moving) and not reader.text("action"):
        reader.wrong("E-LIM-011", "action", _("is empty, but the point has limits. Write what a person is to do."))
    _check_preset(reader, preset, unit, limits, oel, on_delay_s, warnings)
    quota_id = reader.text("quota_id")
    if _EXCEL_NUMBER.fullmatch(quota_id):
        text = _("the spreadsheet shortened a long code. Format the column as text, then enter it again.")
        reader.wrong("E-PNT-004", "quota_id", text)
    return Point(
        point=name,
        name=reader.text("name"),
        area=reader.text("area"),
        medium=reader.text("medium"),
        unit=unit,
        unit_text=unit_text,
        type=profile.channels[channel].value_type if profile and channel else "f32",
        decimals=_decimals(profile.channels[channel], unit) if profile and channel else 0,
        range_low=range_low,
        range_high=range_high,
        period_ms=period_ms,
        deadband=deadband,
        heartbeat_s=reader.whole("heartbeat_s", 1, 86400, default=60),
        urgent=bool(reader.whole("urgent", 0, 1, default=0)),
        bus=reader.choice("E-BUS-001", "bus", buses),
        unit_id=reader.whole("unit_id", 1, 247, default=0),
        profile=profile_name,
        channel=channel,
        limits=limits,
        preset=preset,
        on_delay_s=on_delay_s,
        off_delay_s=reader.number("off_delay_s", 0, 3600),
        alarm_deadband=_alarm_deadband(reader, preset, limits, range_low, range_high),
        re_alarm_s=reader.number("re_alarm_s", *_RE_ALARM_S) or 0.0,
        oel=oel,
        oel_source=reader.text("oel_source"),
        action=reader.text("action"),
        consequence=reader.text("consequence"),
        minutes_to_act=reader.number("minutes_to_act", 1, _MINUTES_MOST),
        hazard=reader.text("hazard"),
        quota_id=quota_id,
        trends=trends,
        trend_s=trend_s,
        frozen_s=frozen_s,
        compare_with=compare_with,
        deviation=deviation,
    )


def _check_channel(reader: _Reader, channel: Channel, unit: str) -> None:
    """Whether the profile's channel can give what the row asks of it."""
    if unit and not channel.accepts(unit):
        text = _("the profile's channel is in {units}, which does not convert. Write that unit, or another channel.")
        units = (UNITS.get(own, (own,))[0] for own in channel.units.values())
        reader.wrong("E-UOM-002", "unit", text.format(units=one_of(units)))
    if channel.current and not (reader.text("range_low") or reader.text("range_high")):
        text = _("is needed: a 4-20 mA input measures nothing without the values at 4 and 20 mA.")
        reader.wrong("E-RNG-003", "range_high", text)


def _check_valid(
    reader: _Reader, channel: Channel, unit: str, limits: Sequence[tuple[str, float]], warnings: list[Problem]
) -> None:
    """Whether what the sensor cannot measure would be noticed, and the limits are among what it can."""
    low, high = channel.valid(unit)
    for kind, limit in limits:
        if not low <= limit <= high:
            text = _("is beyond {end:g}, the last value that the profile calls valid: it can never alarm. Correct it.")
            reader.wrong("E-LIM-012", kind, text.format(end=low if limit < low else high))
    is_number = channel.type != "bool" and not channel.current
    if limits and is_number and isinf(high - low) and not reader.text("range_high"):
        text = _(
            "is empty, and the profile has no valid range with both its ends: a number that no sensor can measure "
            "would pass as good. Fill in the range."
        )
        warnings.append(reader.note("W-RNG-001", "range_high", text))


def _decimals(channel: Channel, unit: str) -> int:
    """What a person is shown after the decimal point; the profile says it of its first unit."""
    own = next(iter(channel.units.values()), unit)
    return max(0, channel.decimals + _PLACES.get(unit, 0) - _PLACES.get(own, 0))


def _limits(
    reader: _Reader, preset: str, range_low: float | None, range_high: float | None, warnings: list[Problem]
) -> tuple[tuple[str, float], ...]:
    limits: list[tuple[str, float]] = []
    for kind in LIMITS:
        limit = reader.number(kind)
        if limit is None:
            continue
        is_low = kind in ("LL", "L")
        if preset and kind not in PRESETS[preset].limits:
            text = _("preset {preset} has no such alarm. Allowed are: {allowed}.")
            reader.wrong("E-LIM-006", kind, text.format(preset=preset, allowed=one_of(PRESETS[preset].limits)))
        elif limits and limit <= limits[-1][1]:
            below = limits[-1][0]
            text = _("is not above {kind} = {value}: the limits must rise from LL to CH. Correct one of the two.")
            reader.wrong("E-LIM-001", kind, text.format(kind=below, value=reader.text(below)))
        elif range_low is not None and limit < range_low:
            text = _("is below range_low {low}: {effect}. Raise {kind} or change the range.")
            effect = _("it can never alarm") if is_low else _("it would always alarm")
            reader.wrong("E-LIM-002", kind, text.format(low=reader.text("range_low"), effect=effect, kind=kind))
        elif range_high is not None and limit > range_high:
            text = _("is above range_high {high}: {effect}. Lower {kind} or change the range.")
            effect = _("it would always alarm") if is_low else _("it can never alarm")
            reader.wrong("E-LIM-003", kind, text.format(high=reader.text("range_high"), effect=effect, kind=kind))
        else:
            limits.append((kind, limit))
            if limit == (range_low if is_low else range_high) and preset != SWITCH:
                text = _("is the very end of the range: it alarms only there.")
                warnings.append(reader.note("W-LIM-002", kind, text))
    return tuple(limits)


def _alarm_deadband(
    reader: _Reader,
    preset: str,
    limits: Sequence[tuple[str, float]],
    range_low: float | None,
    range_high: float | None,
) -> float | None:
    """How far beyond a limit its alarm is kept; None where the preset says it. What could never clear is refused."""
    given = reader.number("alarm_deadband", low=0)
    low, high = (0.0, 1.0) if preset == SWITCH else (range_low, range_high)
    deadband = given
    if given is None and preset:
        deadband = PRESETS[preset].deadband(range_low, range_high)
    for kind, limit in limits:
        end = high if kind in ("LL", "L") else low
        if deadband and end is not None and kind != "CH" and deadband >= abs(limit - end):
            text = _("is as far as from {kind} = {limit} to the end of the range: it never clears. Write less.")
            if given is None:
                text = _(
                    "is {deadband:g} by the preset, as far as from {kind} = {limit} to the end of the range: it never "
                    "clears. Write a smaller one here, or correct {kind}."
                )
            text = text.format(deadband=deadband, kind=kind, limit=reader.text(kind))
            reader.wrong("E-LIM-019", "alarm_deadband", text)
            break
    return given


def _trends(reader: _Reader, preset: str, period_ms: int) -> tuple[tuple[tuple[str, float], ...], float]:
    """How fast it may rise and fall and what time must be left, and over how many seconds that is judged."""
    trends: list[tuple[str, float]] = []
    for kind in (*RATES, *TIMES):
        setpoint = reader.number(kind, *((_MOVING_LEAST,) if kind in RATES else (1, _MINUTES_MOST)))
        if setpoint is None:
            continue
        if preset and kind not in PRESETS[preset].trends:
            text = _("preset {preset} has no such alarm. Allowed are: {allowed}.")
            allowed = one_of((*PRESETS[preset].limits, *PRESETS[preset].trends))
            reader.wrong("E-LIM-006", kind, text.format(preset=preset, allowed=allowed))
        elif kind in TIMES and not reader.text(TIMES[kind]):
            text = _("is the time until {limit} is reached, and that is empty. Fill in {limit}, or leave both out.")
            reader.wrong("E-LIM-013", kind, text.format(limit=TIMES[kind]))
        else:
            trends.append((kind, setpoint))
    if trends and not reader.text("trend_s"):
        text = _("is empty: write over how many seconds {kind} is judged, {low} to {high}, like 600.")
        low, high = _WINDOW_S
        reader.wrong("E-LIM-014", "trend_s", text.format(kind=trends[0][0], low=low, high=high))
    return tuple(trends), _window(reader, "trend_s", period_ms)


def _window(reader: _Reader, column: str, period_ms: int) -> float:
    """The seconds over which a point is watched; 0 where it is not."""
    window_s = reader.number(column, *_WINDOW_S)
    if window_s is None:
        return 0.0
    if window_s * 1000 < _WINDOW_POLLS * period_ms:
        text = _("is shorter than {polls} periods: it says nothing once a poll fails. Write {least:g} or more.")
        reader.wrong("E-LIM-015", column, text.format(polls=_WINDOW_POLLS, least=_WINDOW_POLLS * period_ms / 1000))
    return window_s


def _check_switch(reader: _Reader, channel: Channel, preset: str, limits: Sequence[tuple[str, float]]) -> None:
    """Whether a switch is one, and says at which of its two values it alarms."""
    if preset == SWITCH and channel.type != "bool":
        text = _("preset {preset} is for channels of type bool. Write another preset, or another channel.")
        reader.wrong("E-LIM-017", "preset", text.format(preset=preset))
    elif preset == SWITCH and (wrong := next((kind for kind, limit in limits if limit != (kind == "H")), None)):
        reader.wrong("E-LIM-018", wrong, _("a switch has two values: write H = 1 or L = 0, where it is to alarm."))
    elif preset == SWITCH and len(limits) > 1:
        reader.wrong("E-LIM-018", "L", _("with H as well it would always alarm. Keep the one that is the alarm."))


def _check_compared(reader: _Reader, point: Point, points: Mapping[str, Point]) -> None:
    """Whether there is another sensor of the same quantity, and how far from it is too far."""
    if bool(point.compare_with) != bool(reader.text("DEV")):
        empty = "DEV" if point.compare_with else "compare_with"
        text = _("is empty: compare_with and DEV go together, the other sensor and how far apart is an alarm.")
        reader.wrong("E-LIM-016", empty, text)
    if not point.compare_with:
        return
    other = points.get(point.compare_with)
    if other is None:
        text = _("the sheet has no such point.") + did_you_mean(point.compare_with, points)
        reader.wrong("E-LIM-016", "compare_with", text)
    elif other is point:
        reader.wrong("E-LIM-016", "compare_with", _("is this very point. Write the other sensor's."))
    elif other.unit and point.unit and other.unit != point.unit:
        text = _("is in {unit}: two sensors are compared in one unit. Write the same unit in both rows.")
        reader.wrong("E-LIM-016", "compare_with", text.format(unit=other.unit_text))
    elif not other.preset:
        text = _("has no alarm preset: nobody would notice that it is silent. Fill in one in its row.")
        reader.wrong("E-LIM-016", "compare_with", text)
    elif point.range_low is not None and point.deviation > (point.range_high or 0.0) - point.range_low:
        reader.wrong("E-LIM-016", "DEV", _("is more than the whole range: it can never alarm. Write less."))


def _check_preset(
    reader: _Reader,
    name: str,
    unit: str,
    limits: Sequence[tuple[str, float]],
    oel: float | None,
    on_delay_s: float,
    warnings: list[Problem],
) -> None:
    """Whether the limits are what the standards let this kind of detector have, and somebody knows what to do."""
    if not name or not limits:
        return
    preset = PRESETS[name]
    if preset.unit and unit and unit != preset.unit:
        text = _("preset {preset} counts in {unit}. Write that unit, or another preset.")
        reader.wrong("E-LIM-008", "unit", text.format(preset=name, unit=UNITS[preset.unit][0]))
        return
    if preset.of_oel:
        for column, text in (
            ("oel", _("is empty: toxic limits are held to the exposure limit of the medium. Fill it in.")),
            ("oel_source", _("is empty: write the document that the exposure limit is taken from.")),
        ):
            if not reader.text(column):
                reader.wrong("E-LIM-009", column, text)
    most = dict(preset.most) or {kind: share * oel for kind, share in preset.of_oel if oel is not None}
    for kind, limit in limits:
        if limit > most.get(kind, limit):
            text = _("is above {most:g}: GB/T 50493-2019 allows {kind} no more. Lower it.")
            reader.wrong("E-LIM-007", kind, text.format(most=most[kind], kind=kind))
    if preset.latches and on_delay_s:
        text = _("a gas alarm waits for nothing: the delay comes on top of the detector's own.")
        warnings.append(reader.note("W-LIM-003", "on_delay_s", text))
    if name == "oxygen":
        text = _("no source of oxygen limits comes with this program: they are used as you wrote them.")
        warnings.append(reader.note("W-LIM-004", limits[-1][0], text))


def _check_needed(
    reader: _Reader, point: Point, needs: str | None, first: Mapping[tuple[object, ...], tuple[int, Point]]
) -> None:
    """Whether the channel that alone tells this one's faults is read as well, and as often."""
    if needs is None or not (point.bus and point.unit_id):
        return
    row, other = first.get((point.bus, point.unit_id, needs), (0, None))
    if other is None:
        text = _(
            "tells no fault of its sensor: those stand in channel {needs} alone. Add a row for that channel, with the "
            "same bus, unit_id and profile, and with unit 1."
        )
        reader.wrong("E-PNT-007", "channel", text.format(needs=needs))
    elif other.period_ms > point.period_ms:
        text = _("is shorter than that of row {row}, which tells its faults: {other} s. Write the same in both.")
        reader.wrong("E-PNT-008", "period_s", text.format(row=row, other=f"{other.period_ms / 1000:g}"))


def _compare(reader: _Reader, row: int, point: Point, first: dict[tuple[object, ...], tuple[int, Point]]) -> None:
    """What is wrong between this row and the rows above it; `first` is the first row of each identity."""
    for column, value, code in (("point", point.point, "E-PNT-002"), ("quota_id", point.quota_id, "E-PNT-005")):
        other_row, _other = first.setdefault((column, value), (row, point))
        if value and other_row != row:
            text = _("stands in row {row} already. Each point needs its own: change one of the two.")
            reader.wrong(code, column, text.format(row=other_row))
    if not (point.bus and point.unit_id and point.profile and point.channel):
        return  # one of their cells is wrong, and was reported
    unit = (point.bus, point.unit_id)
    other_row, other = first.setdefault(unit, (row, point))
    if other.profile != point.profile:
        text = _("row {row} says that unit {unit_id} of bus {bus} is {profile}. One of the rows is wrong.")
        text = text.format(row=other_row, unit_id=point.unit_id, bus=point.bus, profile=other.profile)
        reader.wrong("E-UNT-001", "profile", text)
    other_row, _other = first.setdefault((*unit, point.channel), (row, point))
    if other_row != row:
        text = _("row {row} reads the same channel of unit {unit_id} of bus {bus}. Is the unit_id right?")
        text = text.format(row=other_row, unit_id=point.unit_id, bus=point.bus)
        reader.wrong("E-PNT-003", "channel", text)
