"""What is done to each byte, as machine code where a compiler makes it: CRC-16, COBS, copies, numbers. Protocol.

Owns what every byte on a wire and in a ring passes through. Must never know what the bytes mean.
A board carries it compiled by the viper emitter (firmware/manifest.py), where `ptr8` and `ptr16` are addresses and an
`int` is the machine's: **no bound is checked, so every caller guarantees that offsets and counts lie in its buffers**.
Elsewhere the same source is plain Python. Hence functions of integers and
buffers only, and at module level not even a constant: the emitter knows none.
Runs unchanged under CPython and MicroPython; allocates nothing after its set-up.

Source: MODBUS over Serial Line V1.02 (CRC); Cheshire and Baker, Consistent Overhead Byte Stuffing, 1997.
"""

from array import array

ptr8 = object  # to viper a type; to others a word


def ptr16(words):
    """To viper a cast; to others nothing."""
    return words


def _fill(table: ptr16):
    """Set-up. The CRC-16 of each byte, polynomial 0xA001."""
    byte = 0
    while byte < 256:
        crc = byte
        bit = 0
        while bit < 8:
            crc = crc >> 1 ^ 0xA001 if crc & 1 else crc >> 1
            bit += 1
        table[byte] = crc
        byte += 1


_CRC_TABLE = array("H", bytes(512))
_fill(_CRC_TABLE)


def crc16(buf: ptr8, start: int, end: int) -> int:
    """CRC-16 of buf[start:end]; on the wire its low byte comes first. With its own CRC at the end: 0."""
    table = ptr16(_CRC_TABLE)
    crc = 0xFFFF
    while start < end:
        crc = crc >> 8 ^ table[(crc ^ buf[start]) & 0xFF]
        start += 1
    return crc


def put_u16(buf: ptr8, at: int, value: int) -> int:
    """Two bytes, low first; the offset after them."""
    buf[at] = value & 0xFF
    buf[at + 1] = value >> 8 & 0xFF
    return at + 2


def put_u28(buf: ptr8, at: int, value: int) -> int:
    """Four bytes, low first; the offset after them."""
    buf[at] = value & 0xFF
    buf[at + 1] = value >> 8 & 0xFF
    buf[at + 2] = value >> 16 & 0xFF
    buf[at + 3] = value >> 24 & 0x0F
    return at + 4


def get_u16(buf: ptr8, at: int) -> int:
    """Two bytes, low first."""
    return buf[at] | buf[at + 1] << 8


def get_u28(buf: ptr8, at: int) -> int:
    """Four bytes, low first."""
    return buf[at] | buf[at + 1] << 8 | buf[at + 2] << 16 | (buf[at + 3] & 0x0F) << 24


def copy(out: ptr8, at: int, buf: ptr8, start: int, count: int):
    """Copy buf[start : start + count] to out[at:]; upwards, so that a piece may move towards its buffer's begin."""
    end = start + count
    while start < end:
        out[at] = buf[start]
        at += 1
        start += 1


def are_same(buf: ptr8, at: int, other: ptr8, start: int, count: int) -> int:
    """1 where buf[at : at + count] is other[start : start + count], else 0."""
    end = start + count
    while start < end:
        if buf[at] != other[start]:
            return 0
        at += 1
        start += 1
    return 1


def find_head(buf: ptr8, start: int, end: int, unit_id: int, function_code: int) -> int:
    """The first offset in start..end-1 where a reply of this unit and function begins, a refusal too; else `end`.

    `start` where that is not before `end`. Reads one byte past `end`.
    """
    while start < end:
        if buf[start] == unit_id and buf[start + 1] & 0x7F == function_code:
            return start
        start += 1
    return start


def into_ring(ring: ptr8, size: int, at: int, buf: ptr8, start: int, count: int) -> int:
    """Copy buf[start : start + count] into a ring of `size` bytes from `at` on; the place after it."""
    end = start + count
    while start < end:
        ring[at] = buf[start]
        start += 1
        at += 1
        if at == size:
            at = 0
    return at


def out_of_ring(ring: ptr8, size: int, at: int, out: ptr8, start: int, count: int) -> int:
    """Copy `count` bytes of a ring of `size` bytes from `at` on to out[start:]; the place after them."""
    end = start + count
    while start < end:
        out[start] = ring[at]
        start += 1
        at += 1
        if at == size:
            at = 0
    return at


def cobs_encode(buf: ptr8, count: int, out: ptr8, at: int) -> int:
    """Lay buf[:count], at most 254 bytes, into out[at:] without a zero byte; the offset after it, count + 1 on."""
    code_at = at
    at += 1
    i = 0
    while i < count:
        byte = buf[i]
        if byte:
            out[at] = byte
        else:
            out[code_at] = at - code_at
            code_at = at
        at += 1
        i += 1
    out[code_at] = at - code_at
    return at


def cobs_decode(buf: ptr8, count: int) -> int:
    """Undo that in place, of buf[:count]: the bytes that it makes, or -1 where it is none. Any bytes will do."""
    at = 0
    out = 0
    while at < count:
        end = at + buf[at]
        if end > count or end == at:
            return -1
        at += 1
        while at < end:
            buf[out] = buf[at]
            out += 1
            at += 1
        if at < count:
            buf[out] = 0
            out += 1
    return out
