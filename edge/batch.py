"""A batch, what is committed together: its columns on disk, and the data message of its rows. Protocol.

Owns the packed columns of a batch and the one function that makes a data message's payload, live and on a
resend, so that both are the same bytes. Must never drop, round or re-stamp a reading: what is unpacked equals
what was packed.

Packed: one byte FORMAT, then, deflated, columns of whole numbers (zigzag, seven bits a byte, least first):
sections: board, boot, kind, err_ms, utc_at_uptime_0_ms, drift_ppb; samples: section, uptime, rows; rows:
point, status, detail, form of the value; then the values, form by form. A sample is the rows that share
section and uptime.
"""

import math
import struct
import zlib
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import accumulate, groupby
from operator import itemgetter
from typing import Any, NamedTuple

from edge.timebase import Clock
from protocols.feeds import json_feed

FORMAT = 1
_KINDS = ("synced", "holdover", "resolved", "unsynced")
# Forms of a value. _DECIMAL + d is a float as the whole number that, divided by 10^d, gives that float again:
# what a sensor sent as an integer with a divisor takes a byte or two, and comes back as the float that it
# was.
_NONE, _WHOLE, _F32, _F64, _DECIMAL = 0, 1, 2, 3, 4
_WHOLE_MAX = 2**34  # beyond, the column is longer than a float
_DIGITS_MAX = 9
_F32_MAX = 2**128 - 2**104
FILED_BYTES, _MESSAGE_BYTES = 500, 200  # what Python's objects take beside their bytes
_ROW_BYTES, _MARK_BYTES = 25, 55  # what a row of the store, and a mark in it, takes beside those
_SAMPLE = itemgetter(0, 1)  # of a Row: section and uptime


@dataclass(frozen=True, slots=True)
class Section:
    """One boot of one board, read by one clock."""

    board: str
    boot: str
    clock: Clock


class Row(NamedTuple):
    """One reading: `section` and `point` are indices, into the batch's sections and the birth's points."""

    section: int
    uptime_ms: int
    point: int
    value: float | int | None
    status: int
    detail: int


@dataclass(frozen=True, slots=True)
class Message:
    """One numbered message: an event with its payload, or data with the bitmap of the batch's reported rows."""

    stream: str  # "data" | "event"
    seq: int
    kind: str  # "data" | "birth" | "clock" | "gap" | "alarm" | "action"
    birth: str
    payload: bytes | None
    reported: bytes | None

    @property
    def stored_bytes(self) -> int:
        """What is written of it."""
        return len(self.reported or self.payload or b"")

    @property
    def bytes(self) -> int:
        """What it takes of a memory, roughly, without what is made again."""
        return self.stored_bytes + _MESSAGE_BYTES


@dataclass(frozen=True, slots=True)
class Mark:
    """How far the records of a board have been taken.

    `next_record` is the first of that boot that was not, `newest_uptime_ms` when its newest sample was taken, and
    `newest_ms` the UTC of that, by the clock of then; None where none was known.
    """

    board: str
    boot: str
    next_record: int
    newest_uptime_ms: int
    newest_ms: int | None


class Held(NamedTuple):
    """What the checked registers of a unit held when last read, and what its serial number is known to be."""

    bus: str
    unit_id: int
    profile: str
    function_code: int
    address: int
    registers: int
    known: bytes | None
    seen: bytes


class Kept(NamedTuple):
    """One alarm as it is known after a restart. `since_ms`, `is_late` as in Standing.

    `facts`: JSON of its facts, and beside them of what else is to be known of it.
    """

    alarm: str
    setpoint: float | None
    facts: str
    since_ms: int | None
    is_late: bool


class Bypass(NamedTuple):
    """What is not judged as usual until `until_ms` at the latest; times are UTC by the gateway's clock.

    `kind`, `what`: a "point", an "asset" (what its points' names begin with) or a "unit" (bus/unit id) that is worked
    on; or a "drill" of the whole site.
    """

    number: int
    kind: str
    what: str
    permit: str
    owner: str
    reason: str
    from_ms: int
    until_ms: int


@dataclass(frozen=True, slots=True)
class Batch:
    """What is stored together or not at all. Its rows are of one birth and one kind of time.

    `taken` has a mark of each board that it has records of, `held` the checked registers that changed, `alarms` those
    whose facts did; `bypasses` are all that are in force, None where that is as before. `raised_ms`: UTC of alarms that
    were raised, around which readings are kept for as long as events are.
    """

    birth: str
    sections: tuple[Section, ...]
    rows: tuple[Row, ...]
    taken: tuple[Mark, ...]
    messages: tuple[Message, ...]
    held: tuple[Held, ...] = ()
    alarms: tuple[Kept, ...] = ()
    bypasses: tuple[Bypass, ...] | None = None
    raised_ms: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class Filed:
    """A batch as it lies on disk, or waits in memory for one: its readings packed, None where it has none.

    `from_ms`, `to_ms`: UTC of the first and last reading, None where no clock was known. `polls`: of its readings.
    """

    birth: str
    readings: bytes | None
    polls: int
    from_ms: int | None
    to_ms: int | None
    taken: tuple[Mark, ...]
    messages: tuple[Message, ...]
    held: tuple[Held, ...]
    alarms: tuple[Kept, ...] = ()
    bypasses: tuple[Bypass, ...] | None = None
    raised_ms: tuple[int, ...] = ()

    @property
    def stored_bytes(self) -> int:
        """What is written of it, without what pages take."""
        rows = _ROW_BYTES * (1 + len(self.messages)) + _MARK_BYTES * len(self.taken)
        return rows + len(self.readings or b"") + sum(message.stored_bytes for message in self.messages)

    @property
    def bytes(self) -> int:
        """What it takes of a memory, roughly, without what is made again."""
        return len(self.readings or b"") + sum(message.bytes for message in self.messages) + FILED_BYTES

    def without_payloads(self) -> "Filed":
        """Less what can be made again: the payloads of data messages."""
        return replace(self, messages=tuple(replace(m, payload=None) if m.reported else m for m in self.messages))


def filed(batch: Batch) -> Filed:
    """Pack a batch. ValueError as `pack`."""
    samples = [sample for sample, _rows in groupby(batch.rows, key=_SAMPLE)]
    times = [batch.sections[section].clock.utc_ms(uptime_ms) for section, uptime_ms in samples]
    known = [utc_ms for utc_ms in times if utc_ms is not None]
    return Filed(
        birth=batch.birth,
        readings=pack(batch.sections, batch.rows) if batch.rows else None,
        polls=len(samples),
        from_ms=min(known, default=None),
        to_ms=max(known, default=None),
        taken=batch.taken,
        messages=batch.messages,
        held=batch.held,
        alarms=batch.alarms,
        bypasses=batch.bypasses,
        raised_ms=batch.raised_ms,
    )


# --- the data message ---------------------------------------------------------------------------------------


def bitmap(reported: Iterable[int], count: int) -> bytes:
    """Indices of rows, each below `count`, as one bit a row, least significant first."""
    bits = bytearray((count + 7) // 8)
    for index in reported:
        bits[index >> 3] |= 1 << (index & 7)
    return bytes(bits)


def indices(bits: bytes) -> list[int]:
    """The indices that a bitmap was made of, ascending."""
    return [index for index in range(len(bits) * 8) if bits[index >> 3] >> (index & 7) & 1]


def message_order(
    points: Sequence[Mapping[str, Any]],
    sections: Sequence[Section],
    rows: Sequence[Row],
    reported: Iterable[int],
) -> list[int]:
    """The reported rows in the order of the message, by time and then by the point's name.

    An alarm that names a row of a data message names a place in this list.
    """

    def place(index: int) -> tuple[int, str, int]:
        row = rows[index]
        return _time_ms(sections, row), points[row.point]["point"], index

    return sorted(reported, key=place)


def data_payload(
    gateway: str,
    epoch: str,
    seq: int,
    birth: str,
    points: Sequence[Mapping[str, Any]],
    sections: Sequence[Section],
    rows: Sequence[Row],
    order: Sequence[int],
) -> bytes:
    """The payload of a data message, the same bytes whenever it is made.

    `points` are the birth's, of which `point` and `type` are read; `order` is what `message_order` gave for the
    reported rows, one or more. ValueError where these are of two kinds of time, or of two boots without a clock: that
    makes two batches.
    """
    start_ms = _time_ms(sections, rows[order[0]])
    feed_rows = []
    for index in order:
        row = rows[index]
        point = points[row.point]
        value = None if row.value is None else json_feed.number(row.value, point["type"])
        feed_rows.append((point["point"], _time_ms(sections, row) - start_ms, value, row.status, row.detail))
    quality = _quality([sections[section] for section in {rows[index].section for index in order}])
    return json_feed.data(gateway, epoch, seq, birth, quality, start_ms, feed_rows)


def _time_ms(sections: Sequence[Section], row: Row) -> int:
    """UTC, or the board's uptime where no clock is known."""
    utc_ms = sections[row.section].clock.utc_ms(row.uptime_ms)
    return row.uptime_ms if utc_ms is None else utc_ms


def _quality(sections: Collection[Section]) -> json_feed.TimeQuality:
    kinds = sorted({section.clock.kind for section in sections})
    if len(kinds) != 1:
        raise ValueError(f"reported: rows of one kind of time, not of {', '.join(kinds)}")
    if kinds != ["unsynced"]:
        return json_feed.TimeQuality(kinds[0], max(section.clock.err_ms or 0 for section in sections), None)
    boots = sorted({f"{section.board}/{section.boot}" for section in sections})
    if len(boots) != 1:
        raise ValueError(f"reported: rows of one boot while no clock is known, not of {', '.join(boots)}")
    return json_feed.TimeQuality("unsynced", None, boots[0])


# --- columns ------------------------------------------------------------------------------------------------


def pack(sections: Sequence[Section], rows: Sequence[Row]) -> bytes:
    """The readings as bytes. ValueError for an unknown kind of time, and for a value that is not finite."""
    out = bytearray()
    _put(out, len(sections))
    for section in sections:
        _put_text(out, section.board)
        _put_text(out, section.boot)
        _put(out, _KINDS.index(section.clock.kind))
        _put_optional(out, section.clock.err_ms)
        _put_optional(out, section.clock.utc_at_uptime_0_ms)
        _put(out, section.clock.drift_ppb)

    samples = [(*sample, len(list(same))) for sample, same in groupby(rows, key=_SAMPLE)]
    _put(out, len(samples))
    _put_all(out, [section for section, _uptime, _count in samples])
    _put_all(out, _steps(uptime for _section, uptime, _count in samples))
    _put_all(out, [count for _section, _uptime, count in samples])

    _put_all(out, _steps(row.point for row in rows))
    _put_all(out, [row.status for row in rows])
    _put_all(out, [row.detail for row in rows])
    forms = bytearray()
    wholes: list[int] = []
    singles: list[float] = []
    doubles: list[float] = []
    for row in rows:
        value = row.value
        form, whole = _form(value)
        forms.append(form)
        if form == _F32 and value is not None:
            singles.append(value)
        elif form == _F64 and value is not None:
            doubles.append(value)
        elif form != _NONE:
            wholes.append(whole)
    out += forms
    _put_all(out, wholes)
    out += _planes(struct.pack(f"<{len(singles)}f", *singles), 4)
    out += _planes(struct.pack(f"<{len(doubles)}d", *doubles), 8)
    return bytes([FORMAT]) + zlib.compress(out, 9)


def unpack(packed: bytes) -> tuple[tuple[Section, ...], tuple[Row, ...]]:
    """The sections and rows that were packed. ValueError where these bytes are no batch, or a damaged one."""
    if packed[:1] != bytes([FORMAT]):
        raise ValueError(f"a batch of format {packed[:1].hex() or 'nothing'}: only format {FORMAT} is known")
    try:
        source = _Source(zlib.decompress(packed[1:]))
    except zlib.error as error:
        raise ValueError(f"a damaged batch: {error}") from error
    sections = tuple(
        Section(
            board=source.text(),
            boot=source.text(),
            clock=Clock(
                kind=_KINDS[source.whole()],
                err_ms=source.optional(),
                utc_at_uptime_0_ms=source.optional(),
                drift_ppb=source.whole(),
            ),
        )
        for _ in range(source.whole())
    )

    samples = source.whole()
    of_samples, uptimes, counts = (
        source.column(samples),
        accumulate(source.column(samples)),
        source.column(samples),
    )
    stamps = [
        (section, uptime_ms)
        for section, uptime_ms, count in zip(of_samples, uptimes, counts, strict=True)
        for _ in range(count)
    ]
    count = len(stamps)
    points = list(accumulate(source.column(count)))
    statuses = source.column(count)
    details = source.column(count)
    forms = source.raw(count)
    wholes = iter(source.column(sum(form == _WHOLE or form >= _DECIMAL for form in forms)))
    singles = iter(source.floats(forms.count(_F32), "f", 4))
    doubles = iter(source.floats(forms.count(_F64), "d", 8))

    def value(form: int) -> float | int | None:
        if form == _NONE:
            return None
        if form == _F32:
            return next(singles)
        if form == _F64:
            return next(doubles)
        whole = next(wholes)
        return whole if form == _WHOLE else whole / 10 ** (form - _DECIMAL)

    rows = tuple(
        Row(*stamp, point, value(form), status, detail)
        for stamp, point, form, status, detail in zip(stamps, points, forms, statuses, details, strict=True)
    )
    return sections, rows


def _form(value: float | int | None) -> tuple[int, int]:
    """The shortest form that gives this value again, and its whole number where the form has one."""
    if value is None:
        return _NONE, 0
    if isinstance(value, int):
        return _WHOLE, value
    if not math.isfinite(value):
        raise ValueError(f"value: a finite number or None, not {value}")
    # repr gives the fewest digits that read back as this float: a whole number over a power of ten shows
    # itself.
    before, _point, after = repr(value).partition(".")
    digits = after.rstrip("0")
    if len(digits) <= _DIGITS_MAX and "e" not in before + digits and repr(value) != "-0.0":
        whole = int(before + digits)
        if abs(whole) < _WHOLE_MAX:
            return _DECIMAL + len(digits), whole
    is_single = abs(value) <= _F32_MAX and struct.unpack("<f", struct.pack("<f", value)) == (value,)
    return (_F32 if is_single else _F64), 0


def _steps(numbers: Iterable[int]) -> Iterator[int]:
    """Each number less the one before it; itertools.accumulate undoes it."""
    before = 0
    for number in numbers:
        yield number - before
        before = number


def _planes(packed: bytes, width: int) -> bytes:
    """All first bytes, then all second bytes, and so on: the exponents of neighbours are alike."""
    return b"".join(packed[plane::width] for plane in range(width))


def _put(out: bytearray, number: int) -> None:
    _put_all(out, (number,))


def _put_all(out: bytearray, numbers: Iterable[int]) -> None:
    zigzag = [number * 2 if number >= 0 else -number * 2 - 1 for number in numbers]
    if max(zigzag, default=0) <= 0x7F:  # as most columns are
        out += bytes(zigzag)
        return
    for number in zigzag:
        while number > 0x7F:
            out.append(number & 0x7F | 0x80)
            number >>= 7
        out.append(number)


def _put_optional(out: bytearray, number: int | None) -> None:
    _put(out, number is not None)
    if number is not None:
        _put(out, number)


def _put_text(out: bytearray, text: str) -> None:
    encoded = text.encode()
    _put(out, len(encoded))
    out += encoded


class _Source:
    """Reads what the functions above have put."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._at = 0

    def raw(self, count: int) -> bytes:
        self._at += count
        return self._data[self._at - count : self._at]

    def whole(self) -> int:
        number = shift = 0
        while True:
            byte = self._data[self._at]
            self._at += 1
            number |= (byte & 0x7F) << shift
            shift += 7
            if byte < 0x80:
                return -(number >> 1) - 1 if number & 1 else number >> 1

    def column(self, count: int) -> list[int]:
        return [self.whole() for _ in range(count)]

    def optional(self) -> int | None:
        return self.whole() if self.whole() else None

    def text(self) -> str:
        return self.raw(self.whole()).decode()

    def floats(self, count: int, code: str, width: int) -> tuple[float, ...]:
        planes = self.raw(count * width)
        return struct.unpack(f"<{count}{code}", b"".join(planes[each::count] for each in range(count)))
