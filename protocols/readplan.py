"""The read plan: what one board must poll, in the bytes that travel to it and lie in its flash. Protocol.

Owns the layout, its check and the generation. The edge compiles a plan from the site; the board polls straight from
these bytes, without building objects from them. Must never decide when something is polled.
Runs unchanged under CPython and MicroPython; what is not marked "Edge only" allocates nothing.

Layout, little-endian (version 1):

    header  "TP" version salt birth[4] buses units reads                       11 bytes
    bus     uart, baud / 100 (u16), format, flags                               5 bytes
    unit    bus, unit id, timeout ms (u16), spacing ms (u16), late ms (u16)     8 bytes
    read    unit, function code, address (u16), count (u16), period (u16, tenths of a second), flags
                                                                                9 bytes
`birth` ties a plan to the meaning of its reads: change a name, a scale or a unit, and it is another plan. `salt` is
whatever makes the generation differ from every other one that the edge still keeps.
"""

VERSION = 1
MAX_BYTES = 3072
MAX_REGISTERS = 90  # so that a sample fits one frame of the link
MAX_BITS = 1440

HEADER_BYTES = 11
BUS_BYTES = 5
UNIT_BYTES = 8
READ_BYTES = 9

PARITY_EVEN = 1  # format of a bus: data bits - 5 in bits 0-1, parity in bits 2-3, stop bits - 1 in bit 4
PARITY_ODD = 2
OTHER_MASTER_ALLOWED = 1  # flag of a bus
URGENT = 1  # flag of a read: its samples leave the board at once

# What `check` found.
GOOD = 0
WRONG_SIZE = 1
WRONG_VERSION = 2
WRONG_REFERENCE = 3  # a unit names no bus, a read names no unit, or they are not grouped
WRONG_READ = 4  # function code, count or period


def u16(plan, at):
    """The little-endian 16-bit number at `at`."""
    return plan[at] | plan[at + 1] << 8


def buses(plan):
    """How many buses the plan has."""
    return plan[8]


def units(plan):
    """How many units the plan has."""
    return plan[9]


def reads(plan):
    """How many reads the plan has."""
    return plan[10]


def bus_at(plan, index):
    """Offset of a bus."""
    return 11 + 5 * index


def unit_at(plan, index):
    """Offset of a unit."""
    return 11 + 5 * plan[8] + 8 * index


def read_at(plan, index):
    """Offset of a read."""
    return 11 + 5 * plan[8] + 8 * plan[9] + 9 * index


def baud(plan, bus):
    """Line speed of a bus."""
    return u16(plan, 11 + 5 * bus + 1) * 100


def bits_per_char(plan, bus):
    """Start, data, parity and stop bits of one character on a bus."""
    line = plan[11 + 5 * bus + 3]
    return 1 + 5 + (line & 3) + (1 if line & 12 else 0) + 1 + (line >> 4 & 1)


def period_ms(plan, index):
    """Period of a read."""
    return u16(plan, read_at(plan, index) + 6) * 100


def check(plan, length):
    """Whether plan[:length] may be polled: GOOD or what is wrong. The caller has compared its digest before."""
    if length < 11 or length > 3072:
        return WRONG_SIZE
    if plan[0] != 0x54 or plan[1] != 0x50 or plan[2] != 1:
        return WRONG_VERSION
    if length != read_at(plan, plan[10]):
        return WRONG_SIZE
    i = 0
    while i < plan[9]:
        if plan[unit_at(plan, i)] >= plan[8] or not 1 <= plan[unit_at(plan, i) + 1] <= 247:
            return WRONG_REFERENCE
        i += 1
    i = 0
    while i < plan[10]:
        at = read_at(plan, i)
        most = 1440 if plan[at + 1] <= 2 else 90
        if plan[at] >= plan[9]:
            return WRONG_REFERENCE
        if not 1 <= plan[at + 1] <= 4 or not 1 <= u16(plan, at + 4) <= most or u16(plan, at + 6) == 0:
            return WRONG_READ
        i += 1
    return GOOD


def generation(digest):
    """The first 16 bits of the plan's SHA-256; 0 means no plan, so the edge never lets a plan have it."""
    return digest[0] | digest[1] << 8


# --- compiling, on the edge ------------------------------------------------------------------------------------------


def _check_range(name, value, low, high):
    """Edge only. ValueError naming the argument and what was allowed."""
    if not low <= value <= high:
        raise ValueError("{} = {}: allowed are {} to {}".format(name, value, low, high))


def _u16(value):
    """Edge only."""
    return bytes((value & 0xFF, value >> 8))


def encode_bus(uart, baud, data_bits, parity, stop_bits, other_master=False):
    """Edge only. One bus; `parity` is "N", "E" or "O"."""
    _check_range("uart", uart, 0, 3)
    if baud % 100 or not 300 <= baud <= 1000000:
        raise ValueError("baud = {}: allowed are 300 to 1000000 in hundreds".format(baud))
    _check_range("data_bits", data_bits, 7, 8)
    _check_range("stop_bits", stop_bits, 1, 2)
    line = data_bits - 5 | {"N": 0, "E": PARITY_EVEN, "O": PARITY_ODD}[parity] << 2 | stop_bits - 1 << 4
    return bytes((uart,)) + _u16(baud // 100) + bytes((line, OTHER_MASTER_ALLOWED if other_master else 0))


def encode_unit(bus, unit_id, timeout_ms, spacing_ms, late_ms):
    """Edge only. One unit on the bus of that index."""
    _check_range("unit_id", unit_id, 1, 247)
    _check_range("timeout_ms", timeout_ms, 1, 60000)
    _check_range("spacing_ms", spacing_ms, 0, 60000)
    _check_range("late_ms", late_ms, 1, 60000)
    return bytes((bus, unit_id)) + _u16(timeout_ms) + _u16(spacing_ms) + _u16(late_ms)


def encode_read(unit, function_code, address, count, period_ms, urgent=False):
    """Edge only. One read of the unit of that index; the period in whole tenths of a second."""
    _check_range("function_code", function_code, 1, 4)
    _check_range("address", address, 0, 65535)
    _check_range("count", count, 1, MAX_BITS if function_code <= 2 else MAX_REGISTERS)
    if period_ms % 100 or not 100 <= period_ms <= 6553500:
        raise ValueError("period_ms = {}: allowed are 100 to 6553500 in hundreds".format(period_ms))
    return (
        bytes((unit, function_code))
        + _u16(address)
        + _u16(count)
        + _u16(period_ms // 100)
        + bytes((URGENT if urgent else 0,))
    )


def encode(bus_rows, unit_rows, read_rows, birth, salt=0):
    """Edge only. A whole plan from encoded rows; `birth` is the 4 bytes of the birth that the reads belong to."""
    _check_range("buses", len(bus_rows), 1, 2)
    _check_range("units", len(unit_rows), 1, 255)
    _check_range("reads", len(read_rows), 1, 255)
    _check_range("len(birth)", len(birth), 4, 4)
    plan = bytes((0x54, 0x50, VERSION, salt)) + bytes(birth)
    plan += bytes((len(bus_rows), len(unit_rows), len(read_rows)))
    plan += b"".join(bus_rows) + b"".join(unit_rows) + b"".join(read_rows)
    fault = check(plan, len(plan))
    if fault:
        raise ValueError("read plan of {} bytes: check says {}".format(len(plan), fault))
    return plan
