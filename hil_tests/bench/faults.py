"""The catalogue of what RS-485 lines do to an answer, in bytes and in time: alone, or mixed by a seed. Policy.

Owns the eighteen rows, in the order in which field reports show them, and what each makes of the bytes that a good
unit would have sent. The same schedule runs in virtual time and on pseudo-terminals. Must never know what the master
makes of it, nor touch a port: that a port vanishes (UNPLUG) is the caller's to do, and TOO_SOON does nothing but give
the master a fast unit, for there its own silences are what is measured.

`how` and `much` of a strike, each from 0 up to 1, choose among a row's ways and its strength: the same strike always
does the same, and less of both is milder, so that what is found to fail can be made smaller.
"""

import enum
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from hil_tests.bench import bits
from hil_tests.bench.chance import draw
from protocols import modbus_edge
from protocols.model import Line


class Row(enum.IntEnum):
    """The rows of the catalogue."""

    PIECES = 1  # the reply in pieces: pauses, receivers' FIFOs, the grid of a USB converter
    STRAY_BEFORE = 2  # a driver that switches on audibly
    STRAY_AFTER = 3  # and off
    LATE = 4  # after the time-out, when another read may wait
    SLOW = 5  # in time, but long after the request
    NOISE = 6  # flipped bits; lost, doubled, exchanged bytes; bursts; the request damaged
    CUT = 7  # the first bytes only, or none
    UNPLUG = 8  # the master's port vanishes, and comes back under another path
    ECHO = 9  # the master hears itself
    HEAD = 10  # the first bytes destroyed: the master held the line too long
    OTHER_UNIT = 11  # an intact frame of another unit beside ours
    EXCEPTION = 12  # refusals, with their CRC and without
    LINE_SETTINGS = 13  # another baud rate or parity, A and B swapped
    BABBLE = 14  # bytes without end
    COLLISION = 15  # two units at once
    STUCK = 16  # the line held low, then nothing
    TOO_SOON = 17  # the master's own silence
    WRONG_CONTENT = 18  # a right CRC over what is no answer


class Strike(NamedTuple):
    """One fault at one request."""

    row: Row
    how: float = 0.0
    much: float = 0.0


class Timed(NamedTuple):
    """One byte; `at_s` is the end of its last bit, counted from the end of the request's."""

    at_s: float
    byte: int


class Piece(NamedTuple):
    """Bytes that the master's port gets at once, at the end of the last of them."""

    at_s: float
    data: bytes


@dataclass(frozen=True, slots=True)
class Asked:
    """A request, and what its unit would answer: `reply` is empty where nobody does.

    `after_s`: from the request's end to the reply's first bit. `timeout_s`: the slowest first byte that the unit's
    profile allows. `period_s`: how often it is asked.
    """

    request: bytes
    reply: bytes
    line: Line
    after_s: float
    timeout_s: float
    period_s: float

    @property
    def char_s(self) -> float:
        """One character on the wire."""
        return self.line.bits_per_char / self.line.baud

    @property
    def silence_s(self) -> float:
        """Between two frames."""
        return 3.5 * self.char_s if self.line.baud <= 19200 else 0.00175


CODES = (1, 2, 3, 4, 5, 6, 0x0A, 0x0B)
LONGEST_PAUSE_S = 0.06
LONGEST_HELD_S = 3.0
RECOVERABLE = (Row.PIECES, Row.STRAY_BEFORE, Row.STRAY_AFTER, Row.ECHO, Row.OTHER_UNIT)  # no poll may be lost to them
_MOST_AT_ONCE = 16  # bytes that a port hands over together
_FIFOS = (1, 5, 16, 22)
_USB_GRID_S = 0.016
_STRAYS = (b"\x00", b"\xff", b"\xff\x00", b"\xff\x00\x55")
_BANNER = b"\r\nboot v2.1 heap 48 KB, sensor warm, waiting for command> "
_OTHER_LINES = ("4800 {}", "19200 {}", "2400 {}", "38400 {}", "9600 8E1", "9600 8O2", "9600 8N1")
_NOT_A_NUMBER = b"\x7f\xc0\x00\x00"  # float32, the high word first
_HUGE = b"\x7e\x96\x76\x99"  # 1e38


def mixed(seed: int, request: int, share: float, rows: Sequence[Row] = tuple(Row)) -> list[Strike]:
    """The strikes at a request, by its number: none for most, two at once for some of the struck `share`."""
    strikes: list[Strike] = []
    for at in range(2):
        if draw(seed, request, at) < share:
            row = rows[int(draw(seed, request, at, "row") * len(rows))]
            strikes.append(Strike(row, draw(seed, request, at, "how"), draw(seed, request, at, "much")))
            share = 1 / 3
        else:
            break
    return strikes


class Faults:
    """One line's faults. `answer` is called for each request in turn."""

    def __init__(self) -> None:
        self._held_until_s = -math.inf  # somebody else has the line: replies drown
        self._ends_s: list[float] = []  # of what is on its way, late

    def answer(self, asked: Asked, strikes: Sequence[Strike], now_s: float) -> list[Piece]:
        """What the master's port gets after a request whose last bit was on the wire at `now_s`."""
        if now_s < self._held_until_s:
            return []
        wire = _from(asked, asked.reply, asked.after_s)
        for strike in sorted(strikes, key=lambda strike: strike.row == Row.ECHO):  # no echo waits for a late reply
            if strike.row == Row.ECHO and self._meets_a_late_one(asked, now_s):
                continue
            if strike.row in _WAYS:
                wire = _WAYS[strike.row](asked, wire, strike)
            if strike.row in (Row.BABBLE, Row.STUCK) and wire:
                self._held_until_s = max(self._held_until_s, now_s + wire[-1].at_s)
        pieces = _pieces(asked, wire)
        self._ends_s = [end_s for end_s in self._ends_s if end_s > now_s] + [now_s + piece.at_s for piece in pieces]
        return pieces

    def _meets_a_late_one(self, asked: Asked, now_s: float) -> bool:
        """Whether a late reply would collide with this request: then no echo of it would be whole."""
        from_s = now_s - len(asked.request) * asked.char_s
        until_s = now_s + _USB_GRID_S + len(asked.reply) * asked.char_s
        return any(from_s <= end_s <= until_s for end_s in self._ends_s)


def _from(asked: Asked, data: bytes, start_s: float) -> list[Timed]:
    """Bytes without a pause, whose first bit begins then."""
    return [Timed(start_s + (at + 1) * asked.char_s, byte) for at, byte in enumerate(data)]


def _later(wire: Sequence[Timed], shift_s: float) -> list[Timed]:
    return [Timed(each.at_s + shift_s, each.byte) for each in wire]


def _pieces(asked: Asked, wire: Sequence[Timed]) -> list[Piece]:
    pieces: list[Piece] = []
    for at_s, byte in sorted(wire, key=lambda each: each.at_s):
        last = pieces[-1] if pieces else None
        joins = last is not None and len(last.data) < _MOST_AT_ONCE and at_s - last.at_s < 1.5 * asked.char_s
        if last is not None and (joins or at_s == last.at_s):
            pieces[-1] = Piece(at_s, last.data + bytes((byte,)))
        else:
            pieces.append(Piece(at_s, bytes((byte,))))
    return pieces


def _start_s(asked: Asked, wire: Sequence[Timed]) -> float:
    """When the first bit of what is on the wire begins."""
    return wire[0].at_s - asked.char_s if wire else asked.after_s


# --- the rows -----------------------------------------------------------------------------------------------


def _in_pieces(asked: Asked, wire: list[Timed], strike: Strike) -> list[Timed]:
    if strike.how < 0.5:
        at = int(2 * strike.how * len(wire))
        return wire[:at] + _later(wire[at:], 0.002 + (LONGEST_PAUSE_S - 0.002) * strike.much)
    fifo = _FIFOS[int((strike.how - 0.5) * 2 * len(_FIFOS))]
    grid_s = max(_USB_GRID_S * strike.much, 1e-4)
    out = []
    for at, each in enumerate(wire):
        full = wire[min(at - at % fifo + fifo, len(wire)) - 1]
        out.append(Timed(math.ceil(full.at_s / grid_s) * grid_s, each.byte))
    return out


def _stray_before(asked: Asked, wire: list[Timed], strike: Strike) -> list[Timed]:
    strays = _STRAYS[int(strike.how * len(_STRAYS))]
    ahead_s = (0.2 + 2.8 * strike.much) * asked.char_s
    begin_s = max(_start_s(asked, wire) - ahead_s - len(strays) * asked.char_s, 0.0)
    out = _from(asked, strays, begin_s)
    return out + _later(wire, max(out[-1].at_s + ahead_s - _start_s(asked, wire), 0.0))


def _stray_after(asked: Asked, wire: list[Timed], strike: Strike) -> list[Timed]:
    end_s = wire[-1].at_s if wire else asked.after_s
    return wire + _from(asked, b"\x00" if strike.how < 0.5 else b"\xfe", end_s + 0.005 * strike.much)


def _late(asked: Asked, wire: list[Timed], strike: Strike) -> list[Timed]:
    begins_s = asked.timeout_s + 0.001 + 1.5 * asked.period_s * strike.much
    return _later(wire, begins_s - _start_s(asked, wire))


def _slow(asked: Asked, wire: list[Timed], strike: Strike) -> list[Timed]:
    begins_s = 0.05 + (0.95 * asked.timeout_s - 0.05) * strike.much
    return _later(wire, begins_s - _start_s(asked, wire))


def _noise(asked: Asked, wire: list[Timed], strike: Strike) -> list[Timed]:
    way, part = divmod(strike.how * 6, 1)
    at = int(part * len(wire))
    if way == 1:  # lost
        return wire[:at] + wire[at + 1 :]
    if way == 2 and wire:  # doubled
        return wire[: at + 1] + _later(wire[at:], asked.char_s)
    if way == 3 and at + 1 < len(wire):  # exchanged
        one, other = wire[at], wire[at + 1]
        return [*wire[:at], Timed(one.at_s, other.byte), Timed(other.at_s, one.byte), *wire[at + 2 :]]
    if way == 4:  # a burst
        until = at + 1 + int(strike.much * 8)
        return [
            Timed(each.at_s, each.byte ^ (1 + int(255 * draw(0, strike, place))) if at <= place < until else each.byte)
            for place, each in enumerate(wire)
        ]
    if way == 5:  # the request
        return []
    chance = 10 ** (3 * strike.much - 5)  # of each bit
    flips = [sum((draw(0, strike, place, bit) < chance) << bit for bit in range(8)) for place in range(len(wire))]
    return [Timed(each.at_s, each.byte ^ flip) for each, flip in zip(wire, flips, strict=True)]


def _cut(asked: Asked, wire: list[Timed], strike: Strike) -> list[Timed]:
    return wire[: int(strike.much * len(wire))]


def _echo(asked: Asked, wire: list[Timed], strike: Strike) -> list[Timed]:
    echo = _from(asked, asked.request, -len(asked.request) * asked.char_s)
    if strike.how < 0.5 and wire:  # glued: the port hands both over together, where the reply is not long in coming
        together_s = min(_start_s(asked, wire), _USB_GRID_S)
        return [Timed(max(each.at_s, together_s), each.byte) for each in echo] + wire
    return echo + wire


def _head(asked: Asked, wire: list[Timed], strike: Strike) -> list[Timed]:
    count = 1 + int(strike.much * 3)
    if strike.how < 0.5:
        return wire[count:]
    return [Timed(each.at_s, each.byte & 0xA5 ^ 0x5A) for each in wire[:count]] + wire[count:]


def _other_unit(asked: Asked, wire: list[Timed], strike: Strike) -> list[Timed]:
    if not wire:
        return wire
    # One whom this master never asks: what a unit that is asked says belatedly, LATE says.
    stranger = asked.request[0] ^ 0x40
    body = bytes((stranger,)) + asked.reply[1:-2]
    if strike.how >= 0.5:  # another shape
        body = bytes((stranger, 3, 2 + 2 * int(strike.much * 20))) + bytes(2 + 2 * int(strike.much * 20))
    first = _from(asked, modbus_edge.frame(body), _start_s(asked, wire))
    return first + _later(wire, len(first) * asked.char_s + asked.silence_s)


def _exception(asked: Asked, wire: list[Timed], strike: Strike) -> list[Timed]:
    code = CODES[int(strike.how * len(CODES))]
    refusal = modbus_edge.exception_reply(asked.request[0], asked.request[1], code)
    return _from(asked, refusal[:3] if strike.much >= 0.7 else refusal, asked.after_s)


def _line_settings(asked: Asked, wire: list[Timed], strike: Strike) -> list[Timed]:
    ours = str(asked.line)
    others = [text.format(ours.partition(" ")[2]) for text in _OTHER_LINES]
    others = [text for text in others if text != ours] + [ours]
    sent = others[int(strike.how * len(others))]
    data = bytes(each.byte for each in wire)
    signal = bits.send(data, Line.parse(sent), asked.after_s, swapped=sent == ours)
    return [Timed(*each) for each in bits.receive(signal, asked.line)]


def _babble(asked: Asked, wire: list[Timed], strike: Strike) -> list[Timed]:
    count = int((0.1 + (LONGEST_HELD_S - 0.1) * strike.much) / asked.char_s)
    if strike.how < 0.5:
        return _from(asked, (_BANNER * (count // len(_BANNER) + 1))[:count], asked.after_s)
    noise = bytes(int(256 * draw(0, strike, place)) for place in range(64)) if strike.how < 0.75 else b"\x55"
    return _from(asked, (noise * (count // len(noise) + 1))[:count], asked.after_s)


def _collision(asked: Asked, wire: list[Timed], strike: Strike) -> list[Timed]:
    if not wire:
        return wire
    body = bytes((asked.request[0] ^ (0x40 if strike.how < 0.5 else 0),)) + asked.reply[1:3]
    other = modbus_edge.frame(body + bytes(byte ^ 0x33 for byte in asked.reply[3:-2]))
    begins_s = asked.after_s + 4 * strike.much * asked.char_s
    signal = bits.both(
        bits.send(asked.reply, asked.line, asked.after_s), bits.send(other, asked.line, begins_s)
    )
    return [Timed(*each) for each in bits.receive(signal, asked.line)]


def _stuck(asked: Asked, wire: list[Timed], strike: Strike) -> list[Timed]:
    if strike.how >= 0.5:  # a break, which is one character, and then nothing: the caller's schedule goes on so
        return _from(asked, b"\x00", asked.after_s)
    count = int((0.1 + (LONGEST_HELD_S - 0.1) * strike.much) / asked.char_s)
    return _from(asked, bytes(count), asked.after_s)


def _wrong_content(asked: Asked, wire: list[Timed], strike: Strike) -> list[Timed]:
    unit_id, function_code, data = asked.reply[0:1], asked.reply[1:2], asked.reply[3:-2]
    ways = (
        bytes((len(data) - 1,)) + data,  # the count says one byte less than there is
        bytes((len(data) - 1,)) + data[:-1],  # an odd count, and so many bytes
        bytes((len(data) + 2,)) + data + b"\x00\x00",  # two bytes too many
        bytes((len(data) - 2,)) + data[:-2],  # two too few
        bytes((len(data),)) + (_NOT_A_NUMBER * len(data))[: len(data)],
        bytes((len(data),)) + (_HUGE * len(data))[: len(data)],
    )
    body = ways[int(strike.how * len(ways))] if len(data) > 2 else ways[0]
    return _from(asked, modbus_edge.frame(unit_id + function_code + body), asked.after_s)


_WAYS: dict[Row, Callable[[Asked, list[Timed], Strike], list[Timed]]] = {
    Row.PIECES: _in_pieces,
    Row.STRAY_BEFORE: _stray_before,
    Row.STRAY_AFTER: _stray_after,
    Row.LATE: _late,
    Row.SLOW: _slow,
    Row.NOISE: _noise,
    Row.CUT: _cut,
    Row.ECHO: _echo,
    Row.HEAD: _head,
    Row.OTHER_UNIT: _other_unit,
    Row.EXCEPTION: _exception,
    Row.LINE_SETTINGS: _line_settings,
    Row.BABBLE: _babble,
    Row.COLLISION: _collision,
    Row.STUCK: _stuck,
    Row.WRONG_CONTENT: _wrong_content,
}
