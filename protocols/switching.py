"""What a board may switch, and its buttons: the tail of a read plan, the command, the records. Protocol.

Owns their layouts and the check of a tail. Nothing is ever switched that no tail lists. Lies apart from readplan.py and
link.py since a board whose plan has no tail has no heap for it. Must never decide what is switched. Runs unchanged
under CPython and MicroPython; allocates nothing.

Layout, little-endian. After the reads of a plan of version 3:

    tail    outputs, inputs                                                     2 bytes
    output  unit (255: a pin of the board), coil or pin (u16), flags, loss (u16, tenths of a second)
                                                                                6 bytes
    input   pin                                                                 1 byte
`loss`: once the Pi was silent for so long, an output is what its flags say.

On the link, as a command and as records:

    SWITCH   generation u16, output, value, within u16 (ms). Its answer says whether it is taken; its record how it
             ended, once, and at the latest when the time is over. After that it is never done
    SWITCHED output, value, outcome of the write, cause, command u16, uptime_s u28, ms u16. After a good outcome the
             output is so; samples after this record were taken after it
    INPUT    input, 1 pressed or 0 released, uptime_s u28, ms u16
"""

from protocols import readplan
from protocols.octets import get_u16

MAX_OUTPUTS = 32
MAX_INPUTS = 8
PIN = 255  # in the place of an output's unit

OFF_AT_LOSS = 1  # flags of an output: what it is without the Pi; neither: as it was
ON_AT_LOSS = 2
FAULT = 4  # a pin that is energised while all is well: nobody switches it, the loss of the Pi drops it

SWITCH = 4  # operation of a command
SWITCHED = 4  # kinds of records
INPUT = 5
SWITCH_BYTES = 7
SWITCHED_BYTES = 12
INPUT_BYTES = 8

# Why an output was switched, in SWITCHED.
COMMANDED = 0
LINK_LOST = 1
LINK_BACK = 2


def outputs(plan):
    """How many outputs the plan has."""
    return plan[readplan.read_at(plan, plan[10])] if plan[2] == 3 else 0


def inputs(plan):
    """How many inputs the plan has."""
    return plan[readplan.read_at(plan, plan[10]) + 1] if plan[2] == 3 else 0


def output_at(plan, index):
    """Offset of an output."""
    return readplan.read_at(plan, plan[10]) + 2 + 6 * index


def input_at(plan, index):
    """Offset of an input."""
    return output_at(plan, outputs(plan)) + index


def check_tail(plan, length):
    """Whether the tail of plan[:length], whose rest is good, may be switched by: readplan.GOOD or what is wrong."""
    end = readplan.read_at(plan, plan[10])
    if end + 2 > length or length != input_at(plan, plan[end + 1]):
        return readplan.WRONG_SIZE
    if outputs(plan) > MAX_OUTPUTS or inputs(plan) > MAX_INPUTS:
        return readplan.WRONG_OUTPUT
    i = 0
    while i < outputs(plan):
        at = output_at(plan, i)
        flags = plan[at + 3]
        if plan[at] == PIN:
            if get_u16(plan, at + 1) > 48:
                return readplan.WRONG_OUTPUT
        elif not _is_read(plan, plan[at]) or flags & FAULT:  # a coil stays as it is when its board stops
            return readplan.WRONG_OUTPUT
        if flags > FAULT or flags == 3 or not 30 <= get_u16(plan, at + 4) <= 36000:
            return readplan.WRONG_OUTPUT
        i += 1
    i = 0
    while i < inputs(plan):
        if plan[input_at(plan, i)] > 48:
            return readplan.WRONG_OUTPUT
        i += 1
    return readplan.GOOD


def _is_read(plan, unit):
    """Whether anything of a unit is read: who never answers is known by it, and a coil is read back."""
    i = 0
    while i < plan[10]:
        if plan[readplan.read_at(plan, i)] == unit:
            return True
        i += 1
    return False
