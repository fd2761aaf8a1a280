"""Whole Modbus RTU frames as bytes, of both roles: for the edge, the bench and the tests. Protocol.

Owns what a board never makes, so that it need not carry it; lengths and the CRC are `modbus.py`'s. What the caller
does wrong is a ValueError that names the argument and what was allowed.
Runs under CPython and MicroPython, where it serves the board's tests.
"""

from protocols.modbus import (
    DEVICE_ID,
    ENCAPSULATED,
    FRAME_MAX_BYTES,
    MAX_BITS,
    MAX_REGISTERS,
    WRITE_COIL,
    WRITE_COILS,
    WRITE_REGISTER,
    WRITE_REGISTERS,
)
from protocols.octets import crc16

_MAX_WRITE_REGISTERS = 123
_MAX_WRITE_BITS = 1968


def frame(body):
    """`body` with its CRC."""
    crc = crc16(body, 0, len(body))
    return bytes(body) + bytes((crc & 0xFF, crc >> 8))


def check_range(name, value, low, high):
    """ValueError naming the argument and what was allowed."""
    if not low <= value <= high:
        raise ValueError("{} = {}: allowed are {} to {}".format(name, value, low, high))


def _words(*words):
    """Big-endian 16-bit words."""
    out = bytearray()
    for word in words:
        out.append(word >> 8)
        out.append(word & 0xFF)
    return bytes(out)


def read_request(unit_id, function_code, address, count):
    """Request of function code 1 to 4 for `count` bits or registers from the zero-based `address`."""
    check_range("unit_id", unit_id, 1, 247)
    check_range("function_code", function_code, 1, 4)
    check_range("address", address, 0, 65535)
    check_range("count", count, 1, MAX_BITS if function_code <= 2 else MAX_REGISTERS)
    check_range("address + count", address + count, 1, 65536)
    return frame(bytes((unit_id, function_code)) + _words(address, count))


def write_request(unit_id, function_code, address, value):
    """Request of function code 5 (value 0 or 1) or 6 (value 0 to 65535)."""
    check_range("unit_id", unit_id, 0, 247)
    check_range("function_code", function_code, WRITE_COIL, WRITE_REGISTER)
    check_range("address", address, 0, 65535)
    check_range("value", value, 0, 1 if function_code == WRITE_COIL else 65535)
    word = 0xFF00 * value if function_code == WRITE_COIL else value
    return frame(bytes((unit_id, function_code)) + _words(address, word))


def write_many_request(unit_id, function_code, address, values):
    """Request of function code 15 (bits) or 16 (registers)."""
    check_range("unit_id", unit_id, 0, 247)
    check_range("function_code", function_code, WRITE_COILS, WRITE_REGISTERS)
    bits = function_code == WRITE_COILS
    check_range("len(values)", len(values), 1, _MAX_WRITE_BITS if bits else _MAX_WRITE_REGISTERS)
    check_range("address + count", address + len(values), 1, 65536)
    data = pack_bits(values) if bits else _words(*values)
    return frame(bytes((unit_id, function_code)) + _words(address, len(values)) + bytes((len(data),)) + data)


def device_id_request(unit_id, code=1, object_id=0):
    """Request of function code 43/14; `code` 1 basic, 2 regular, 3 extended, 4 one object."""
    check_range("unit_id", unit_id, 1, 247)
    check_range("code", code, 1, 4)
    check_range("object_id", object_id, 0, 255)
    return frame(bytes((unit_id, ENCAPSULATED, DEVICE_ID, code, object_id)))


def read_reply(unit_id, function_code, data):
    """Reply of function code 1 to 4; `data` are packed bits or big-endian registers."""
    check_range("len(data)", len(data), 1, 250)
    return frame(bytes((unit_id, function_code, len(data))) + bytes(data))


def write_reply(request):
    """Reply to a write: unit, function, address and value or count come back."""
    return frame(bytes(request)[:6])


def exception_reply(unit_id, function_code, code):
    """Refusal of `function_code` with exception `code`."""
    return frame(bytes((unit_id, function_code | 0x80, code)))


def device_id_reply(unit_id, code, objects, more=0, next_object_id=0):
    """Reply of function code 43/14; `objects` are (object id, bytes) in order of id."""
    body = bytearray((unit_id, ENCAPSULATED, DEVICE_ID, code, 0x80 | code, more, next_object_id, len(objects)))
    for object_id, value in objects:
        body.append(object_id)
        body.append(len(value))
        body.extend(value)
    check_range("reply bytes", len(body) + 2, 10, FRAME_MAX_BYTES)
    return frame(bytes(body))


def pack_bits(bits):
    """Bits as coils travel: the first in the lowest bit of the first byte."""
    out = bytearray((len(bits) + 7) // 8)
    for i, bit in enumerate(bits):
        if bit:
            out[i >> 3] |= 1 << (i & 7)
    return bytes(out)


def unpack_bits(data, count):
    """The first `count` coils of `data` as 0 and 1."""
    return [data[i >> 3] >> (i & 7) & 1 for i in range(count)]


def unpack_registers(data):
    """Big-endian registers of `data` as integers."""
    return [data[i] << 8 | data[i + 1] for i in range(0, len(data) - 1, 2)]
