"""Captures and hex logs: read, or refused with where and why; what was read can be written, and is then the same.

Input: a pcapng file where it begins like one, else a hex log.
"""

import struct
from collections.abc import Iterator, Sequence

from edge import hex_log
from protocols import trace
from protocols.model import Line
from protocols.trace import RECEIVED, SENT, Frame, Port

_BEGINNING = b"\x0a\x0d\x0d\x0a"
_PORTS = (Port("a", Line(9600, 8, "N", 1)), Port("气", None, "rebuilt"))
_FRAMES = (
    Frame(0, SENT, 1_000, 9_000, b"\x01\x03\x00\x00\x00\x01\x84\x0a"),
    Frame(1, RECEIVED, 20_000, 29_000, b"\x01\x83\x02\xc0\xf1", f"{trace.INJECTED}noise"),
    Frame(0, trace.PARITY, 40_000, 40_000, b"\xfe"),
)
_LOGS = (
    b"000000.100 TX   0000  01 03 00 00 00 01 84 0A                           ........\n",
    b"> 2026/01/02 03:04:05.000000678 length=8 from=0 to=7\n 01 03 00 00 00 01 84 0a\n",
    b"# a person's\n23:59:59.9 > 0103 00000001840a\n00:00:00.1 RX 01 83 02 C0 F1\n",
)


def seeds() -> Iterator[bytes]:
    written = trace.write(_PORTS, _FRAMES)
    yield written
    yield written + trace.head(_PORTS[:1])
    yield written[:-5]
    yield _big_endian()
    yield from _LOGS


def _big_endian() -> bytes:
    """Another recorder's: its bytes the other way round, its times in nanoseconds, a block that nobody knows."""

    def block(kind: int, body: bytes) -> bytes:
        length = struct.pack(">I", len(body) + 12)
        return struct.pack(">I", kind) + length + body + length

    packet = struct.pack(">IIBBH", 1, 0, SENT, 0, 0) + b"\x01\x07\x00\x00"
    return (
        block(0x0A0D0D0A, struct.pack(">IHHq", 0x1A2B3C4D, 1, 0, -1))
        + block(1, struct.pack(">HHIHHBxxxI", 250, 0, 0, 9, 1, 9, 0))
        + block(5, bytes(12))
        + block(6, struct.pack(">IIIII", 0, 0, 1_000_000_000, len(packet), len(packet)) + packet)
    )


def run_one(data: bytes) -> None:
    try:
        if data.startswith(_BEGINNING):
            _is_whole(trace.read(data), len(data))
        else:
            _is_in_order(data.decode(errors="replace"))
    except ValueError as refused:
        assert str(refused)


def _is_whole(read: trace.Trace, size: int) -> None:
    assert read.cut_at is None or 0 <= read.cut_at < size
    assert all(frame.port < len(read.ports) and frame.first_us <= frame.last_us for frame in read.frames)
    for port in range(len(read.ports)):
        assert all(exchange.request.event == SENT for exchange in trace.exchanges(read.frames, port))
    assert len(list(trace.silences(read.frames))) == len(read.frames)
    again = trace.read(trace.write(read.ports, read.frames))
    assert [_said(frame) for frame in again.frames] == [_said(frame) for frame in read.frames]
    _is_logged(read.frames)


def _is_in_order(log: str) -> None:
    assert all(piece.event in (SENT, RECEIVED) for piece in hex_log.pieces(log))
    frames = hex_log.frames(log, _PORTS[0].line, False)
    assert all(frame.first_us <= frame.last_us for frame in frames)
    _is_logged(frames)


def _is_logged(frames: Sequence[Frame]) -> None:
    logged = list(hex_log.pieces("\n".join(hex_log.lines(frames))))
    said = [frame for frame in frames if frame.event in (SENT, RECEIVED) and frame.data]
    assert [(piece.event, piece.data) for piece in logged if piece.data] == [
        (frame.event, frame.data) for frame in said
    ]


def _said(frame: Frame) -> tuple[int, int, int, bytes]:
    return frame.port, frame.event, frame.first_us, frame.data
