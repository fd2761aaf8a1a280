"""Hex logs of serial traffic, of pyserial's spy://, of socat -x and of people, to pieces of bytes, and back. Protocol.

A line is a time, a direction and bytes; of socat the bytes stand below. A time is a count of seconds, a time of day or
both date and time; a log names no zone, so it is taken for UTC. `>` and TX are what was sent, which a master's own log
calls its requests. Must never cut or join frames: a log's pieces are what a program happened to read at once.
Source: pyserial 3.5 serial/urlhandler/protocol_spy.py; socat 1.7.4.4, which prints microseconds behind three zeros.
"""

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from gettext import gettext as _

from protocols.cutter import Cutter
from protocols.model import Line
from protocols.trace import ERRORS, RECEIVED, SENT, TIME_END_US, Frame

_DAY_US = 86_400_000_000
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_DIRECTIONS = {">": SENT, "TX": SENT, "<": RECEIVED, "RX": RECEIVED}
_SOCAT = re.compile(r"([<>]) (\d{4}/\d\d/\d\d \d\d:\d\d:\d\d)\.\d*(\d{6}) +length=\d+ from=\d+ to=\d+")
_SPY = re.compile(r"(\d+\.\d{3}) ([TR]X)   ([0-9A-F]{4})  (.{49})")
_SPY_OTHER = re.compile(r"\d+\.\d{3} [A-Z\-]{2,4}\b")  # control lines, calls
_PLAIN = re.compile(r"(\S+(?: \d\d:\d\d:\S+)?)\s+([<>]|[TR]X:?)\s*([0-9A-Fa-f\s]+)")
_HEX = re.compile(r"(?: [0-9a-f]{2})+")


@dataclass(frozen=True, slots=True)
class Piece:
    """Bytes that were logged together: SENT or RECEIVED, at this time."""

    at_us: int
    event: int
    data: bytes


def pieces(text: str) -> Iterator[Piece]:
    """A whole log. Empty lines, comments (#) and other calls in it are passed over; ValueError names any other line."""
    piece: Piece | None = None
    day_us = 0  # midnights that a log without dates has passed
    for number, line in enumerate(text.splitlines(), 1):
        line = line.strip()
        more = _more(line)
        found = None if more else _piece(line)
        if more and piece is not None:
            piece = replace(piece, data=piece.data + more)
        elif found is not None:
            if piece is not None:
                yield piece
                if found.at_us + day_us < piece.at_us - _DAY_US // 2:
                    day_us += _DAY_US
            piece = replace(found, at_us=found.at_us + day_us)
        elif line and line[0] not in "#-" and "socat[" not in line and not _SPY_OTHER.match(line):
            text = _('line {number}: "{line}": expected is a time, a direction (< or >) and bytes as hex')
            raise ValueError(text.format(number=number, line=line[:80]))
    if piece is not None:
        yield piece


def frames(text: str, line: Line | None, is_swapped: bool) -> list[Frame]:
    """A log's pieces as frames of port 0; `line` tells how long bytes took. `is_swapped`: what was sent is the unit's.

    What was sent began at its time in the log, what was received had ended. Where all went one way, both sides were
    heard. ValueError as of `pieces`.
    """
    logged = list(pieces(text))
    is_told = len({piece.event for piece in logged}) > 1
    cutter = Cutter(0)
    found: list[Frame] = []
    ended_us = 0
    for piece in logged:
        takes_us = 0 if line is None else round(len(piece.data) * line.char_us)
        first_us = max(piece.at_us - (takes_us if piece.event == RECEIVED else 0), ended_us)
        ended_us = max(first_us + takes_us, piece.at_us)
        event = SENT + RECEIVED - piece.event if is_swapped else piece.event
        found += cutter.feed(piece.data, first_us, ended_us, event if is_told else 0)
    return found + cutter.finish()


def lines(frames: Iterable[Frame]) -> Iterator[str]:
    """Frames as such a log; a UART's errors stand behind a #."""
    for frame in frames:
        moment = _EPOCH + timedelta(microseconds=frame.first_us)
        direction = ">" if frame.event == SENT else "<"
        if frame.event in ERRORS:
            yield f"# {moment:%Y-%m-%d %H:%M:%S.%f} {frame.data.hex()}"
        else:
            yield f"{moment:%Y-%m-%d %H:%M:%S.%f} {direction} {frame.data.hex(' ')}"


def _more(line: str) -> bytes:
    """Bytes of the piece that an earlier line has begun: what stands below socat's head, further rows of spy://."""
    if _HEX.fullmatch(f" {line}"):
        return bytes.fromhex(line)
    spy = _SPY.match(line.ljust(80))
    more = None if spy is None or spy[3] == "0000" else _made(spy[1], spy[2], spy[4])
    return b"" if more is None else more.data


def _piece(line: str) -> Piece | None:
    if socat := _SOCAT.fullmatch(line):
        direction, moment, microseconds = socat.groups()
        at_us = _moment_us(moment.replace("/", "-"))
        return None if at_us is None else Piece(at_us + int(microseconds), _DIRECTIONS[direction], b"")
    if spy := _SPY.match(line.ljust(80)):
        seconds, direction, _offset, dump = spy.groups()
        return _made(seconds, direction, dump)
    if plain := _PLAIN.fullmatch(line):
        return _made(*plain.groups())
    return None


def _made(moment: str, direction: str, digits: str) -> Piece | None:
    at_us = _moment_us(moment)
    try:
        data = bytes.fromhex(digits)
    except ValueError:
        return None
    return None if at_us is None else Piece(at_us, _DIRECTIONS[direction.rstrip(":")], data)


def _moment_us(text: str) -> int | None:
    """None where it is none, or none that a capture can hold."""
    at_us = _any_moment_us(text)
    return at_us if at_us is not None and 0 <= at_us < TIME_END_US else None


def _any_moment_us(text: str) -> int | None:
    if re.fullmatch(r"\d{1,12}(\.\d{1,9})?", text, re.ASCII):
        seconds, _point, fraction = text.partition(".")
        return int(seconds) * 1_000_000 + int(fraction.ljust(6, "0")[:6])
    try:
        if re.match(r"\d\d:", text):
            return _since_us(datetime.fromisoformat(f"1970-01-01 {text}"))
        return _since_us(datetime.fromisoformat(text))
    except ValueError:
        return None


def _since_us(moment: datetime) -> int:
    moment = moment if moment.tzinfo is not None else moment.replace(tzinfo=UTC)
    return (moment - _EPOCH) // timedelta(microseconds=1)
