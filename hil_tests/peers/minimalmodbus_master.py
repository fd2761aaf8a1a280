"""minimalmodbus as the master of a line, until killed: `minimalmodbus_master.py PORT BAUD REGISTERS UNIT...`. Shell.

It keeps the silence between frames by itself, from the baud rate that it is told.
"""

import contextlib
import sys

import minimalmodbus  # type: ignore[import-untyped]

_TIMEOUT_S = 1.0


def main(port: str, baud: int, registers: int, *unit_ids: int) -> None:
    """Read the units in turn, back to back."""
    instruments = [minimalmodbus.Instrument(port, unit_id) for unit_id in unit_ids]
    for instrument in instruments:
        instrument.serial.baudrate = baud
        instrument.serial.timeout = _TIMEOUT_S
    while True:
        for instrument in instruments:
            with contextlib.suppress(minimalmodbus.ModbusException):  # where another master talks too
                instrument.read_registers(0, registers)


main(sys.argv[1], *map(int, sys.argv[2:]))
