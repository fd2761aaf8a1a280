"""A logic analyser's recording: its metadata and samples become frames, or are refused with what is wrong.

Input: a byte that chooses line and channels; the metadata up to an empty line; the samples.
"""

from collections.abc import Iterator

from edge import logic
from protocols.model import Line
from protocols.trace import ERRORS, RECEIVED, SENT

_LINES = (Line(9600, 8, "N", 1), Line(19200, 8, "E", 1), Line(300, 7, "O", 2), Line(1_000_000, 8, "N", 2))
_CHANNELS = ([], ["0"], ["0", "1"], ["1", "0"])
_METADATA = b"[device 1]\nsamplerate=%s\ntotal probes=2\nprobe1=0\nprobe2=1\nunitsize=%d\n\n"


def seeds() -> Iterator[bytes]:
    frame = b"\x01\x03\x00\x00\x00\x01\x84\x0a"
    yield b"\x00" + _METADATA % (b"19200 Hz", 1) + _samples(frame, 2, 1)
    yield b"\x09" + _METADATA % (b"57.6 kHz", 2) + _samples(frame[:3], 3, 2, parity=True)
    yield b"\x05" + _METADATA % (b"96 kHz", 1) + _samples(frame[:3], 5, 1, parity=True)
    yield b"\x0c" + _METADATA % (b"4 MHz", 1) + bytes(20) + b"\1" * 20
    yield b"\x04" + _METADATA % (b"16 kHz", 1) + b"\1" * 20 + bytes(12)  # it ends within a character


def _samples(data: bytes, per_bit: int, unit_bytes: int, parity: bool = False) -> bytes:
    """Two channels, the second at rest."""
    levels = [1] * 40
    for byte in data:
        bits = [byte >> i & 1 for i in range(8)]
        levels += [0, *bits, *[sum(bits) % 2] * parity, 1]
    return b"".join(bytes((2 | level,)).ljust(unit_bytes, b"\0") * per_bit for level in [*levels, *[1] * 40])


def run_one(data: bytes) -> None:
    metadata, _empty, samples = data[1:].partition(b"\n\n")
    choice = data[0] if data else 0
    line, channels = _LINES[choice % 4], _CHANNELS[choice // 4 % 4]
    try:
        session = logic.session(metadata.decode(errors="replace"))
        frames = logic.frames(samples, session, channels, line)
    except ValueError as refused:
        assert str(refused)
        return
    end_us = (len(samples) // session.unit_bytes + 1) * 1e6 / session.samples_per_s
    for frame in frames:
        assert 0 <= frame.first_us <= frame.last_us and frame.data
        assert frame.event in (SENT, RECEIVED, *ERRORS) and frame.first_us <= end_us
    assert [frame.first_us for frame in frames] == sorted(frame.first_us for frame in frames)
