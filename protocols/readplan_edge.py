"""Makes read plans: rows of buses, units and reads to the bytes that `readplan.py` lays down. Protocol.

Owns what the edge alone does with a plan. What the caller does wrong is a ValueError that names the argument and what
was allowed. Must never choose what is read.
Runs under CPython and MicroPython, where it serves the board's tests.
"""

from protocols.modbus_edge import check_range
from protocols.readplan import (
    CHECK,
    MAX_BITS,
    MAX_REGISTERS,
    OTHER_MASTER_ALLOWED,
    PARITY_EVEN,
    PARITY_ODD,
    URGENT,
    VERSION,
    VERSION_OUTPUTS,
    check,
)
from protocols.switching import FAULT, MAX_INPUTS, MAX_OUTPUTS, OFF_AT_LOSS, ON_AT_LOSS, PIN


def _u16(value):
    """Low byte first."""
    return bytes((value & 0xFF, value >> 8))


def encode_bus(uart, baud, data_bits, parity, stop_bits, other_master=False):
    """One bus; `parity` is "N", "E" or "O"."""
    check_range("uart", uart, 0, 3)
    if baud % 100 or not 300 <= baud <= 1000000:
        raise ValueError("baud = {}: allowed are 300 to 1000000 in hundreds".format(baud))
    check_range("data_bits", data_bits, 7, 8)
    check_range("stop_bits", stop_bits, 1, 2)
    line = data_bits - 5 | {"N": 0, "E": PARITY_EVEN, "O": PARITY_ODD}[parity] << 2 | stop_bits - 1 << 4
    return bytes((uart,)) + _u16(baud // 100) + bytes((line, OTHER_MASTER_ALLOWED if other_master else 0))


def encode_unit(bus, unit_id, timeout_ms, floor_ms, spacing_ms, late_ms):
    """One unit on the bus of that index."""
    check_range("unit_id", unit_id, 1, 247)
    check_range("timeout_ms", timeout_ms, 1, 60000)
    check_range("floor_ms", floor_ms, 1, timeout_ms)
    check_range("spacing_ms", spacing_ms, 0, 60000)
    check_range("late_ms", late_ms, 1, 60000)
    return bytes((bus, unit_id)) + _u16(timeout_ms) + _u16(floor_ms) + _u16(spacing_ms) + _u16(late_ms)


def encode_read(unit, function_code, address, count, period_ms, urgent=False, check=False):
    """One read of the unit of that index; the period in whole tenths of a second."""
    check_range("function_code", function_code, 1, 4)
    check_range("address", address, 0, 65535)
    check_range("count", count, 1, MAX_BITS if function_code <= 2 else MAX_REGISTERS)
    if period_ms % 100 or not 100 <= period_ms <= 6553500:
        raise ValueError("period_ms = {}: allowed are 100 to 6553500 in hundreds".format(period_ms))
    return (
        bytes((unit, function_code))
        + _u16(address)
        + _u16(count)
        + _u16(period_ms // 100)
        + bytes(((URGENT if urgent else 0) | (CHECK if check else 0),))
    )


def encode_output(unit, place, loss_ms, at_loss="keep"):
    """One coil of the unit of that index, or, where `unit` is None, one pin. `at_loss`: "keep", "off", "on" or "fault".

    "fault": a pin that is energised for as long as the Pi is heard.
    """
    check_range("place", place, 0, 65535)
    if loss_ms % 100 or not 3000 <= loss_ms <= 3600000:
        raise ValueError("loss_ms = {}: allowed are 3000 to 3600000 in hundreds".format(loss_ms))
    flags = {"keep": 0, "off": OFF_AT_LOSS, "on": ON_AT_LOSS, "fault": FAULT}[at_loss]
    return bytes((PIN if unit is None else unit,)) + _u16(place) + bytes((flags,)) + _u16(loss_ms // 100)


def encode(bus_rows, unit_rows, read_rows, birth, salt=0, output_rows=(), input_pins=()):
    """A whole plan from encoded rows; `birth` is the 4 bytes of the birth that it was made for. Without reads: idle.

    A board that switches nothing gets the same bytes as ever.
    """
    check_range("buses", len(bus_rows), 0, 2)
    check_range("units", len(unit_rows), 0, 255)
    check_range("reads", len(read_rows), 0, 255)
    check_range("len(birth)", len(birth), 4, 4)
    check_range("outputs", len(output_rows), 0, MAX_OUTPUTS)
    check_range("inputs", len(input_pins), 0, MAX_INPUTS)
    version = VERSION_OUTPUTS if output_rows or input_pins else VERSION
    plan = bytes((0x54, 0x50, version, salt)) + bytes(birth)
    plan += bytes((len(bus_rows), len(unit_rows), len(read_rows)))
    plan += b"".join(bus_rows) + b"".join(unit_rows) + b"".join(read_rows)
    if version == VERSION_OUTPUTS:
        plan += bytes((len(output_rows), len(input_pins))) + b"".join(output_rows) + bytes(input_pins)
    fault = check(plan, len(plan))
    if fault:
        raise ValueError("read plan of {} bytes: check says {}".format(len(plan), fault))
    return plan
