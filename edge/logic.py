"""Logic levels of a serial line, as a logic analyser samples them, to characters with their times. Protocol.

Owns the UART's rule: a start bit begins with an edge from the level at rest, each bit is looked at in its middle, the
parity and the stop bit must fit. The level at rest is the one that the line has longest, so inverted probes need no
telling. Must never read a file: `channel` takes the bytes of a sigrok session, the shell takes them out of its zip.
Source: sigrok v2 session files (sigrok.org/wiki/File_format:Sigrok/v2); their samples are little-endian words.
"""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from gettext import gettext as _

from protocols.cutter import Cutter
from protocols.model import Line
from protocols.trace import BREAK, FRAMING, PARITY, RECEIVED, SENT, Frame

_HERTZ = {"": 1, "Hz": 1, "kHz": 1_000, "MHz": 1_000_000, "GHz": 1_000_000_000}


@dataclass(frozen=True, slots=True)
class Session:
    """What a sigrok file says of its samples. `names`: channel -> its bit."""

    samples_per_s: int
    unit_bytes: int
    names: dict[str, int]


@dataclass(frozen=True, slots=True, order=True)
class Char:
    """One character, from its start bit to the end of its last stop bit. `error`: FRAMING, PARITY, BREAK or 0."""

    first_us: int
    last_us: int
    byte: int
    error: int


def session(metadata: str) -> Session:
    """From the member `metadata` of the zip; ValueError naming the line that is missing or wrong."""
    rows = dict(row.strip().partition("=")[::2] for row in metadata.splitlines() if "=" in row)
    rate = re.fullmatch(r"(\d{1,12}) ?([kMG]?Hz|)", rows.get("samplerate", ""), re.ASCII)
    unit_bytes = rows.get("unitsize", "1")
    if rate is None or not int(rate[1]):
        text = _('samplerate = "{found}" in its metadata: expected is like "4 MHz"')
        raise ValueError(text.format(found=rows.get("samplerate", "")))
    if unit_bytes not in ("1", "2", "4", "8"):
        text = _('unitsize = "{found}" in its metadata: expected is 1, 2, 4 or 8')
        raise ValueError(text.format(found=unit_bytes))
    probes = {name: int(key[5:]) - 1 for key, name in rows.items() if re.fullmatch(r"probe[1-9]\d?", key, re.ASCII)}
    bits = 8 * int(unit_bytes)
    return Session(int(rate[1]) * _HERTZ[rate[2]], int(unit_bytes), {n: bit for n, bit in probes.items() if bit < bits})


def frames(samples: bytes, told: Session, names: Sequence[str], line: Line) -> list[Frame]:
    """What was said on these channels, as port 0: one that both sides share, or the master's and then the units'.

    ValueError naming the channels where none or too many are named, or where one is not there.
    """
    levels = {name: channel(samples, told.unit_bytes, bit) for name, bit in told.names.items()}
    alive = [name for name in levels if edges(levels[name])]
    chosen = list(names) or (alive if len(alive) == 1 else [])
    if not 1 <= len(chosen) <= 2 or any(name not in levels for name in chosen):
        text = _(
            "channels {chosen}: expected is one for both directions, or the master's and the units'; those on which "
            "something happens: {alive}"
        )
        raise ValueError(text.format(chosen=",".join(chosen) or "-", alive=", ".join(alive) or "-"))
    events = (0,) if len(chosen) == 1 else (SENT, RECEIVED)
    heard = sorted(
        (char.first_us, event, char)
        for name, event in zip(chosen, events, strict=True)
        for char in characters(levels[name], told.samples_per_s, line)
    )
    cutter = Cutter(0)
    found: list[Frame] = []
    for _first_us, event, char in heard:
        if char.error:
            found.append(Frame(0, char.error, char.first_us, char.last_us, bytes((char.byte,))))
        found += cutter.feed(bytes((char.byte,)), char.first_us, char.last_us, event)
    return sorted(found + cutter.finish(), key=lambda frame: frame.first_us)


def channel(samples: bytes, unit_bytes: int, bit: int) -> bytes:
    """One channel of samples of so many bytes each: a 0 or a 1 for each sample."""
    mask = 1 << bit % 8
    table = bytes(1 if byte & mask else 0 for byte in range(256))
    return samples[bit // 8 :: unit_bytes].translate(table)


def edges(levels: bytes) -> int:
    """How often the level changes."""
    return levels.count(b"\x00\x01") + levels.count(b"\x01\x00")


def characters(levels: bytes, samples_per_s: int, line: Line) -> Iterator[Char]:
    """What was said on a line with these settings."""
    if 2 * levels.count(1) < len(levels):
        levels = levels.translate(b"\x01\x00" + bytes(254))
    per_bit = samples_per_s / line.baud
    bits = line.data_bits + (line.parity != "N")
    at = 0
    while (start := levels.find(0, at)) >= 0:
        if start + round((line.bits_per_char - 0.5) * per_bit) >= len(levels):
            return  # the recording ends within it
        if levels[start + round(per_bit / 2)]:
            at = start + 1  # too short for a bit
            continue
        ones = [levels[start + round((i + 1.5) * per_bit)] for i in range(bits)]
        is_stopped = levels[start + round((bits + 1.5) * per_bit)]
        byte = sum(bit << i for i, bit in enumerate(ones[: line.data_bits]))
        error = 0
        if not is_stopped:
            error = FRAMING if any(ones) else BREAK
        elif line.parity != "N" and sum(ones) % 2 != (line.parity == "O"):
            error = PARITY
        end = start + line.bits_per_char * per_bit
        yield Char(_us(start, samples_per_s), _us(end, samples_per_s), byte, error)
        at = start + round((bits + 1.5) * per_bit)
        if not is_stopped:
            at = levels.find(1, at)  # until the line is at rest again
            if at < 0:
                return


def _us(samples: float, samples_per_s: int) -> int:
    return round(samples * 1_000_000 / samples_per_s)
