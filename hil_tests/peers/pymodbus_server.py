"""A Modbus RTU server of pymodbus: `pymodbus_server.py PORT UNIT_ID`, 9600 8N1, until it is killed. Shell.

What it serves comes from stdin, a line a register: table (coil, input, holding, measured), address and value. It has
the addresses 0 to 299 of each table. "ready" on stdout says that the port is open. Must never use code of ours: it is
somebody else's word.
"""

import sys

import click
from pymodbus.server import StartSerialServer
from pymodbus.simulator import DataType, SimData, SimDevice

_ADDRESSES = 300


def _connected(is_connected: bool) -> None:
    if is_connected:
        click.echo("ready")


def _serve(port: str, unit_id: int) -> None:
    tables: dict[str, list[int]] = {name: [0] * _ADDRESSES for name in ("coil", "input", "holding", "measured")}
    for line in sys.stdin:
        table, address, value = line.split()
        tables[table][int(address)] = int(value, 0)
    coils, inputs = ([bool(bit) for bit in tables[name]] for name in ("coil", "input"))
    device = SimDevice(
        unit_id,
        simdata=(
            [SimData(0, values=coils, datatype=DataType.BITS)],
            [SimData(0, values=inputs, datatype=DataType.BITS)],
            [SimData(0, values=tables["holding"], datatype=DataType.REGISTERS)],
            [SimData(0, values=tables["measured"], datatype=DataType.REGISTERS)],
        ),
    )
    StartSerialServer(device, port=port, baudrate=9600, trace_connect=_connected)


_serve(sys.argv[1], int(sys.argv[2]))
