"""The read plan: what one board must poll, in the bytes that travel to it and lie in its flash. Protocol.

Owns the layout, its check and the generation. The edge compiles a plan from the site; the board polls straight from
these bytes, without building objects from them. `readplan_edge.py` makes them. Must never decide when something is
polled. Runs unchanged under CPython and MicroPython; allocates nothing.

Layout, little-endian (version 2; 3 where a tail follows):

    header  "TP" version salt birth[4] buses units reads                       11 bytes
    bus     uart, baud / 100 (u16), format, flags                               5 bytes
    unit    bus, unit id, timeout ms (u16), floor ms (u16), spacing ms (u16), late ms (u16)
                                                                               10 bytes
    read    unit, function code, address (u16), count (u16), period (u16, tenths of a second), flags
                                                                                9 bytes
    tail    of version 3: see switching.py
`timeout` is the most and `floor` the least that a live unit's first byte is waited for: between them the board learns.
`birth` is the one that the plan was made for: change a point, a scale or a unit, and it is another plan. `salt` is
whatever makes the generation differ from every other one that the edge still keeps.
"""

from protocols.octets import get_u16

VERSION = 2
VERSION_OUTPUTS = 3
MAX_BYTES = 3072
MAX_REGISTERS = 90  # so that a sample fits one frame of the link
MAX_BITS = 1440

HEADER_BYTES = 11

PARITY_EVEN = 1  # format of a bus: data bits - 5 in bits 0-1, parity in bits 2-3, stop bits - 1 in bit 4
PARITY_ODD = 2
OTHER_MASTER_ALLOWED = 1  # flag of a bus
URGENT = 1  # flag of a read: its samples leave the board at once
CHECK = 2  # and: it tells which device answers, so it is the first to be asked of a unit that comes or comes back

# What `check` found.
GOOD = 0
WRONG_SIZE = 1
WRONG_VERSION = 2
WRONG_REFERENCE = 3  # a unit names no bus, a read names no unit, or they are not grouped
WRONG_READ = 4  # function code, count or period
WRONG_BUS = 5  # how many, UART, speed or format
WRONG_UNIT = 6  # its times
WRONG_OUTPUT = 7  # an output's unit, pin, flags or loss, or an input's pin: switching.py


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
    return 11 + 5 * plan[8] + 10 * index


def read_at(plan, index):
    """Offset of a read."""
    return 11 + 5 * plan[8] + 10 * plan[9] + 9 * index


def baud(plan, bus):
    """Line speed of a bus."""
    return get_u16(plan, 11 + 5 * bus + 1) * 100


def bits_per_char(plan, bus):
    """Start, data, parity and stop bits of one character on a bus."""
    line = plan[11 + 5 * bus + 3]
    return 1 + 5 + (line & 3) + (1 if line & 12 else 0) + 1 + (line >> 4 & 1)


def period_ms(plan, index):
    """Period of a read."""
    return get_u16(plan, read_at(plan, index) + 6) * 100


def check(plan, length):
    """Whether plan[:length] may be polled: GOOD or what is wrong. The caller has compared its digest before."""
    if length < 11 or length > 3072:
        return WRONG_SIZE
    if plan[0] != 0x54 or plan[1] != 0x50 or not 2 <= plan[2] <= 3:
        return WRONG_VERSION
    end = read_at(plan, plan[10])
    if length < end or plan[2] == 2 and length > end:
        return WRONG_SIZE
    if plan[8] > 2:
        return WRONG_BUS
    i = 0
    while i < plan[8]:
        at = bus_at(plan, i)
        line = plan[at + 3]
        if plan[at] > 3 or not 3 <= get_u16(plan, at + 1) <= 10000 or line & 3 < 2 or line >> 2 & 3 > 2 or line > 31:
            return WRONG_BUS
        i += 1
    i = 0
    while i < plan[9]:
        at = unit_at(plan, i)
        if plan[at] >= plan[8] or not 1 <= plan[at + 1] <= 247:
            return WRONG_REFERENCE
        if not 1 <= get_u16(plan, at + 4) <= get_u16(plan, at + 2) <= 60000 or get_u16(plan, at + 6) > 60000:
            return WRONG_UNIT
        if not 1 <= get_u16(plan, at + 8) <= 60000:
            return WRONG_UNIT
        i += 1
    i = 0
    while i < plan[10]:
        at = read_at(plan, i)
        most = 1440 if plan[at + 1] <= 2 else 90
        if plan[at] >= plan[9]:
            return WRONG_REFERENCE
        if not 1 <= plan[at + 1] <= 4 or not 1 <= get_u16(plan, at + 4) <= most or get_u16(plan, at + 6) == 0:
            return WRONG_READ
        i += 1
    if plan[2] == 2:
        return GOOD
    from protocols.switching import check_tail  # a board that switches nothing has no heap for it

    return check_tail(plan, length)


def generation(digest):
    """The first 16 bits of the plan's SHA-256; 0 means no plan, so the edge never lets a plan have it."""
    return digest[0] | digest[1] << 8
