"""Characters as levels on a line: sent with one line's settings, received with another's. Protocol.

Owns what a pseudo-terminal has not: wrong baud rates and parities, A and B swapped, two drivers at once. A signal is
the times at which the line is low; else it is high, as an idle line is. Must never know what the bytes mean.
Source: MODBUS over Serial Line V1.02, 2.5.1 (start bit, least significant bit first, parity, stop bit).

The receiver samples in the middle of a bit, as a UART without oversampling noise. A character with a wrong parity or
stop bit is handed over all the same: MicroPython's UART on an ESP32 does so.
"""

from collections.abc import Iterable, Sequence
from typing import NamedTuple

from protocols.model import Line


class Low(NamedTuple):
    """The line is low from `start_s` up to `end_s`."""

    start_s: float
    end_s: float


class Received(NamedTuple):
    """One character, at the end of its last bit."""

    at_s: float
    byte: int


def send(data: bytes, line: Line, start_s: float = 0.0, swapped: bool = False) -> list[Low]:
    """The signal of these characters without a pause; `swapped`: the wires A and B are exchanged at the driver."""
    bit_s = 1 / line.baud
    levels: list[bool] = []
    for byte in data:
        bits = [bool(byte >> at & 1) for at in range(line.data_bits)]
        parity = [] if line.parity == "N" else [sum(bits) % 2 == (1 if line.parity == "E" else 0)]
        levels += [False, *bits, *parity, *[True] * line.stop_bits]
    return _joined(
        Low(start_s + at * bit_s, start_s + (at + 1) * bit_s) for at, high in enumerate(levels) if high == swapped
    )


def both(one: Sequence[Low], other: Sequence[Low]) -> list[Low]:
    """Two drivers at once: the line is high where both are."""
    return _joined(sorted([*one, *other]))


def receive(signal: Sequence[Low], line: Line) -> list[Received]:
    """The characters that a receiver with these settings makes of a signal."""
    bit_s = 1 / line.baud
    middles = 1 + line.data_bits + (line.parity != "N")  # start, data and parity bits before the first stop bit
    out: list[Received] = []
    free_s = -1.0  # no start bit is looked for before
    at = 0
    while at < len(signal):
        start_s = signal[at].start_s
        if start_s < free_s or not _is_low(signal, at, start_s + bit_s / 2):
            at += 1
            continue
        byte = sum((not _is_low(signal, at, start_s + (bit + 1.5) * bit_s)) << bit for bit in range(line.data_bits))
        free_s = start_s + (middles + 0.5) * bit_s
        out.append(Received(start_s + line.bits_per_char * bit_s, byte))
        at += 1
    return out


def _is_low(signal: Sequence[Low], at: int, when_s: float) -> bool:
    """Whether the line is low then, which is not before `signal[at]`."""
    while at < len(signal) and signal[at].start_s <= when_s:
        if when_s < signal[at].end_s:
            return True
        at += 1
    return False


def _joined(lows: Iterable[Low]) -> list[Low]:
    """Those in order of their start, without seams."""
    out: list[Low] = []
    for low in lows:
        if out and low.start_s <= out[-1].end_s + 1e-9:
            out[-1] = Low(out[-1].start_s, max(out[-1].end_s, low.end_s))
        else:
            out.append(low)
    return out
