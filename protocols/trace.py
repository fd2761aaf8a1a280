"""Captures of serial lines as Wireshark opens them: frames with their times to pcapng, and back. Protocol.

Owns the layout: pcapng of link type 250 (RTAC serial), one frame a packet at the time of its first byte, then an empty
packet at the end of its last one. Times are whole microseconds since 1970, or since a recording's start where nobody
knows more. Bytes are appended: `head` once, then `packets` of each frame; a file that was cut off is read up to its
last whole packet. Must never judge a frame: a damaged one comes out as it was on the line.
Source: draft-ietf-opsawg-pcapng; LINKTYPE_RTAC_SERIAL of tcpdump's list of link types.
"""

import struct
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from gettext import gettext as _

from protocols.model import Line

# What a packet tells; RTAC serial's numbers.
SENT = 1  # a frame of the master, or what a program wrote
RECEIVED = 2  # a frame of a unit
_SENT_END, _RECEIVED_END = 3, 4
LOST = 5  # the recorder could not keep up here
FRAMING = 7  # a byte without its stop bit
PARITY = 8
BREAK = 9
OVERRUN = 10  # the receiver lost bytes
ERRORS = (LOST, FRAMING, PARITY, BREAK, OVERRUN)
INJECTED = "injected: "  # begins the comment that says what a test did to a frame
_ENDS = {SENT: _SENT_END, RECEIVED: _RECEIVED_END}

_LINK_TYPE = 250
_SECTION, _INTERFACE, _PACKET_OLD, _PACKET_SIMPLE, _PACKET = 0x0A0D0D0A, 1, 2, 3, 6
_MAGIC = 0x1A2B3C4D
_COMMENT = 1  # option of any block
_NAME, _DESCRIPTION, _RESOLUTION = 2, 3, 9  # of an interface
_FLAGS = 2  # of a packet
_MICROSECONDS = 6
_INBOUND, _OUTBOUND = 1, 2
_TEXT_MAX_BYTES = 65535
TIME_END_US = 2**32 * 1_000_000


@dataclass(frozen=True, slots=True)
class Port:
    """One line of a capture: its port's or bus's name, its settings where they are known, and a remark on it."""

    name: str
    line: Line | None = None
    comment: str = ""


@dataclass(frozen=True, slots=True)
class Frame:
    """What was on a line: one frame (SENT, RECEIVED), or one of ERRORS with the byte that it spoilt, if any.

    `port`: its place among the capture's ports. `first_us`: when its first byte began; `last_us`: when its last one
    ended. `number`: its packet's, as Wireshark counts; 0 where it was never in a file.
    """

    port: int
    event: int
    first_us: int
    last_us: int
    data: bytes
    comment: str = ""
    number: int = field(default=0, compare=False)


@dataclass(frozen=True, slots=True)
class Trace:
    """A capture. `cut_at`: the offset behind its last whole block, where it was cut off; else None."""

    ports: tuple[Port, ...]
    frames: tuple[Frame, ...]
    cut_at: int | None


@dataclass(frozen=True, slots=True)
class Exchange:
    """A request, and everything that came on its line until the next one."""

    request: Frame
    replies: tuple[Frame, ...]


# --- writing ------------------------------------------------------------------------------------------------


def head(ports: Sequence[Port]) -> bytes:
    """What a file begins with."""
    section = _block(_SECTION, struct.pack("<IHHq", _MAGIC, 1, 0, -1))
    return section + b"".join(_block(_INTERFACE, _interface(port)) for port in ports)


def packets(frame: Frame) -> bytes:
    """One frame or error, to be appended. ValueError where its times are none."""
    if not 0 <= frame.first_us <= frame.last_us < TIME_END_US:
        text = "first_us, last_us = {}, {}: allowed are rising ones from 0 to {}"
        raise ValueError(text.format(frame.first_us, frame.last_us, TIME_END_US - 1))
    written = _packet(frame, frame.event, frame.first_us, frame.data, frame.comment)
    if frame.event in _ENDS:
        written += _packet(frame, _ENDS[frame.event], frame.last_us, b"", "")
    return written


def write(ports: Sequence[Port], frames: Iterable[Frame]) -> bytes:
    """A whole file."""
    return head(ports) + b"".join(map(packets, frames))


def _interface(port: Port) -> bytes:
    options = _option(_NAME, port.name.encode()) + _option(_RESOLUTION, bytes((_MICROSECONDS,)))
    if port.line is not None:
        options += _option(_DESCRIPTION, f"RS-485 {port.line}".encode())
    if port.comment:
        options += _option(_COMMENT, port.comment.encode())
    return struct.pack("<HHI", _LINK_TYPE, 0, 0) + options + bytes(4)


def _packet(frame: Frame, event: int, at_us: int, data: bytes, comment: str) -> bytes:
    seconds, microseconds = divmod(at_us, 1_000_000)
    payload = struct.pack(">IIBBH", seconds, microseconds, event, 0, 0) + data
    options = b""
    if comment:
        options += _option(_COMMENT, comment.encode())
    if frame.event in _ENDS:
        options += _option(_FLAGS, struct.pack("<I", _OUTBOUND if frame.event == SENT else _INBOUND))
    if options:
        options += bytes(4)
    sizes = struct.pack("<IIIII", frame.port, at_us >> 32, at_us & 0xFFFFFFFF, len(payload), len(payload))
    return _block(_PACKET, sizes + _padded(payload) + options)


def _option(code: int, value: bytes) -> bytes:
    value = value[:_TEXT_MAX_BYTES]
    return struct.pack("<HH", code, len(value)) + _padded(value)


def _padded(data: bytes) -> bytes:
    return data + bytes(-len(data) % 4)


def _block(kind: int, body: bytes) -> bytes:
    length = struct.pack("<I", len(body) + 12)
    return struct.pack("<I", kind) + length + body + length


# --- reading ------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Block:
    number: int
    at: int
    order: str  # struct's
    kind: int
    body: bytes

    def u32(self, at: int) -> int:
        return int(struct.unpack_from(self.order + "I", self.body, at)[0])


def read(data: bytes) -> Trace:
    """A whole file; of one that was cut off, what is whole. ValueError naming the block, its offset, what was expected.

    Other blocks and events of other recorders are passed over. Where the end of a frame was not recorded, it is as
    long as its bytes take by the line's settings.
    """
    reader = _Reader()
    cut_at = None
    for block in _blocks(data):
        if block is None:
            cut_at = reader.end_at
            break
        reader.take(block)
    return Trace(tuple(reader.ports), tuple(reader.frames), cut_at)


class _Reader:
    """What was read so far; `end_at` is the offset behind it."""

    def __init__(self) -> None:
        self.ports: list[Port] = []
        self.frames: list[Frame] = []
        self.end_at = 0
        self._first_port = 0  # of this section
        self._resolutions: list[int] = []  # of each port, as its option has it
        self._open: dict[tuple[int, int], int] = {}  # port and the event that ends it -> place of the frame
        self._packets = 0

    def take(self, block: _Block) -> None:
        if block.kind == _SECTION:
            self._first_port = len(self.ports)
        elif block.kind == _INTERFACE:
            self._interface(block)
        elif block.kind == _PACKET:
            self._packets += 1
            self._packet(block)
        elif block.kind in (_PACKET_OLD, _PACKET_SIMPLE):
            raise _unexpected(block, _("a packet without its port"), _("enhanced packets (block type 6)"))
        self.end_at = block.at + len(block.body) + 12

    def _interface(self, block: _Block) -> None:
        if len(block.body) < 8:
            text = _("an interface of {n} bytes").format(n=len(block.body))
            raise _unexpected(block, text, _("{n} or more").format(n=8))
        link_type = struct.unpack_from(block.order + "H", block.body)[0]
        if link_type != _LINK_TYPE:
            text = _("link type {link_type}").format(link_type=link_type)
            raise _unexpected(block, text, _("link type 250 (RTAC serial)"))
        options = dict(reversed(list(_options(block, 8))))  # of several of a kind the first counts
        resolution = options.get(_RESOLUTION, b"")[:1] or bytes((_MICROSECONDS,))
        name, comment = (_text(options.get(code, b"")) for code in (_NAME, _COMMENT))
        self.ports.append(Port(name, _line(_text(options.get(_DESCRIPTION, b""))), comment))
        self._resolutions.append(resolution[0])

    def _packet(self, block: _Block) -> None:
        if len(block.body) < 20:
            text = _("a packet of {n} bytes").format(n=len(block.body))
            raise _unexpected(block, text, _("{n} or more").format(n=20))
        port, captured = block.u32(0) + self._first_port, block.u32(12)
        if port >= len(self.ports):
            text = _("a packet of port {port}").format(port=port)
            raise _unexpected(block, text, _("one of the {n} ports before it").format(n=len(self.ports)))
        if not 12 <= captured <= len(block.body) - 20:
            text = _("a packet of {n} bytes").format(n=captured)
            raise _unexpected(block, text, _("12 to {n}").format(n=len(block.body) - 20))
        event, data = block.body[28], block.body[32 : 20 + captured]
        at_us = _microseconds(block.u32(4) << 32 | block.u32(8), self._resolutions[port])
        if at_us >= TIME_END_US:
            text = _("the time {at_us} µs").format(at_us=at_us)
            raise _unexpected(block, text, _("at most {n}").format(n=TIME_END_US - 1))
        if event in _ENDS or event in ERRORS:
            options = _options(block, 20 + captured + -captured % 4)
            comments = [_text(value) for code, value in options if code == _COMMENT]
            last_us = at_us + _duration_us(self.ports[port].line, len(data))
            if event in _ENDS:
                self._open[port, _ENDS[event]] = len(self.frames)
            self.frames.append(Frame(port, event, at_us, last_us, data, "\n".join(comments), self._packets))
        elif (port, event) in self._open:
            place = self._open.pop((port, event))
            frame = self.frames[place]
            self.frames[place] = replace(frame, last_us=max(at_us, frame.first_us))


def _blocks(data: bytes) -> Iterator[_Block | None]:
    """The blocks, in order; None at the end where the last one is not whole."""
    at, number, order = 0, 0, "<"
    while at < len(data):
        number += 1
        if len(data) - at < 12:
            if at == 0 and data[:4] != struct.pack("<I", _SECTION)[: len(data)]:
                raise _no_capture(data)
            yield None
            return
        if data[at : at + 4] == struct.pack("<I", _SECTION):
            order = "<" if data[at + 8 : at + 12] == struct.pack("<I", _MAGIC) else ">"
            if order == ">" and data[at + 8 : at + 12] != struct.pack(">I", _MAGIC):
                raise _no_capture(data[at:])
        elif at == 0:
            raise _no_capture(data)
        kind, length = struct.unpack_from(order + "II", data, at)
        block = _Block(number, at, order, kind, data[at + 8 : at + length - 4])
        if length < 12 or length % 4:
            raise _unexpected(block, _("a length of {n}").format(n=length), _("a multiple of 4 from 12 on"))
        if length > len(data) - at:
            yield None
            return
        (again,) = struct.unpack_from(order + "I", data, at + length - 4)
        if again != length:
            raise _unexpected(block, _("{n} as its length at its end").format(n=again), str(length))
        yield block
        at += length


def _options(block: _Block, at: int) -> Iterator[tuple[int, bytes]]:
    """Code and value of each option from this offset of the block's body on."""
    while at + 4 <= len(block.body):
        code, length = struct.unpack_from(block.order + "HH", block.body, at)
        if code == 0:
            return
        yield code, block.body[at + 4 : at + 4 + length]
        at += 4 + length + -length % 4


def _microseconds(count: int, resolution: int) -> int:
    """From a count in units of 10 to the minus `resolution` seconds, or of 2 where its highest bit is set."""
    units = 2 ** (resolution & 0x7F) if resolution & 0x80 else 10**resolution
    return count * 1_000_000 // units


def _duration_us(line: Line | None, count: int) -> int:
    return 0 if line is None else round(count * line.char_us)


def _line(description: str) -> Line | None:
    """Settings from text like "RS-485 9600 8N1"; None where it says something else."""
    try:
        line = Line.parse(description.removeprefix("RS-485 "))
    except ValueError:
        return None
    return line if line.baud else None


def _text(value: bytes) -> str:
    return value.decode(errors="replace").rstrip("\0")


def _no_capture(data: bytes) -> ValueError:
    text = _("begins with {found}: expected is a pcapng file (0a0d0d0a), in Wireshark “Save as, pcapng”")
    return ValueError(text.format(found=data[:12].hex()))


def _unexpected(block: _Block, found: str, expected: str) -> ValueError:
    text = _("block {number} at offset {at}: {found}, expected is {expected}")
    return ValueError(text.format(number=block.number, at=block.at, found=found, expected=expected))


# --- who answered whom --------------------------------------------------------------------------------------


def exchanges(frames: Iterable[Frame], port: int) -> Iterator[Exchange]:
    """The requests of one port with what followed each, in order; what came before the first request is left out."""
    request: Frame | None = None
    replies: list[Frame] = []
    for frame in frames:
        if frame.port != port or frame.event in ERRORS:
            continue
        if frame.event == SENT:
            if request is not None:
                yield Exchange(request, tuple(replies))
            request, replies = frame, []
        else:
            replies.append(frame)
    if request is not None:
        yield Exchange(request, tuple(replies))


def silences(frames: Iterable[Frame]) -> Iterator[tuple[Frame, int | None]]:
    """Each frame with the microseconds since the one before on its port had ended; None before a port's first.

    Negative where two talked at once. Errors have none.
    """
    ended_us: dict[int, int] = {}
    for frame in frames:
        if frame.event in ERRORS:
            yield frame, None
            continue
        before_us = ended_us.get(frame.port)
        yield frame, None if before_us is None else frame.first_us - before_us
        ended_us[frame.port] = max(frame.last_us, before_us or 0)
