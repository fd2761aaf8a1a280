"""Counters that wrap: the board's milliseconds and microseconds, and record numbers, modulo 2^28. Protocol.

Owns the one difference that everything on the board uses. Must never read a clock. Runs unchanged under CPython and
MicroPython, allocates nothing: 2^28 stays a small integer on a 32-bit board. A board carries it compiled by the viper
emitter, as octets.py.
"""


def diff(later: int, earlier: int) -> int:
    """later - earlier on a 28-bit counter: -2^27 to 2^27 - 1."""
    return (later - earlier + 0x08000000 & 0x0FFFFFFF) - 0x08000000


def add(count: int, delta: int) -> int:
    """count + delta on a 28-bit counter."""
    return count + delta & 0x0FFFFFFF
