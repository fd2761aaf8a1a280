"""Other people's Modbus servers as sensors: the real firmware polls them, and what they serve comes out of the feed."""

import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest

from hil_tests.bench.board import Cable
from hil_tests.bench.rig import N_, Rig
from hil_tests.mosquitto import Mosquitto
from hil_tests.small_site import BOARD, Bus, Reading, SmallSite
from protocols import model

pytestmark = pytest.mark.needs("mosquitto", "micropython")

PEERS = Path(__file__).parent / "peers"
LINE = "9600 8N1"
UNIT_ID = 17
ILLEGAL_ADDRESS = 2
SERVED = """\
coil 3 1
input 20 1
holding 16 0x4106
holding 17 0x978d
holding 40 0x5e00
holding 41 0xb2d0
holding 200 0xffff
holding 289 1
measured 5 0xff85
measured 10 0xe979
measured 11 0x42f6
"""
# 8.412 is 4106978D and 123.456 is 42F6E979 as float32; 3000000000 is B2D05E00; -123 is FF85.
READINGS = {
    "P1.level": Reading(8.412, model.GOOD, 0),
    "P1.pressure": Reading(123.456, model.GOOD, 0),
    "P1.mass": Reading(3_000_000_000, model.GOOD, 0),
    "P1.temperature": Reading(-12.3, model.GOOD, 0),
    "P1.first": Reading(65535, model.GOOD, 0),
    "P1.last": Reading(1, model.GOOD, 0),
    "P1.valve": Reading(1, model.GOOD, 0),
    "P1.switch": Reading(1, model.GOOD, 0),
    "P1.open": Reading(0, model.GOOD, 0),
    "P1.missing": Reading(None, model.EXCEPTION, ILLEGAL_ADDRESS),
}
PROFILE = """
version = 1
maker = "nobody"
model = "a server under test"
source = "this test"
evidence = "code"
timeout_ms = 1000
address_base = 0
block = "200-289"  # 90 registers: the longest reply that a board asks for
[channels.level]
function_code = 3
address = 16
type = "f32"
word_order = "ABCD"
decimals = 3
unit = "m"
[channels.pressure]
same_as = "level"
function_code = 4
address = 10
word_order = "CDAB"
unit = "bar"
[channels.mass]
same_as = "level"
address = 40
type = "u32"
word_order = "CDAB"
unit = "kg"
[channels.temperature]
function_code = 4
address = 5
type = "i16"
divisor = 10
decimals = 1
unit = "Cel"
[channels.first]
function_code = 3
address = 200
type = "u16"
decimals = 0
unit = "[ppm]"
[channels.last]
same_as = "first"
address = 289
[channels.missing]
same_as = "first"
address = 5000
[channels.valve]
function_code = 1
address = 3
type = "bool"
decimals = 0
unit = "%"
[channels.switch]
same_as = "valve"
function_code = 2
address = 20
[channels.open]
same_as = "valve"
address = 4
"""
UNITS = {"level": "m", "pressure": "bar", "mass": "kg", "temperature": "℃", "valve": "%", "switch": "%", "open": "%"}
POINTS = "point,name,area,bus,unit_id,profile,channel,unit,period_s\n" + "".join(
    f"{point},{channel},hall,line,{UNIT_ID},peer,{channel},{UNITS.get(channel, 'ppm')},0.5\n"
    for point, channel in ((point, point.removeprefix("P1.")) for point in READINGS)
)


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[Mosquitto]:
    broker = Mosquitto(tmp_path, "allow_anonymous true")
    yield broker
    broker.close()


@pytest.fixture
def wire(rig: Rig, tmp_path: Path) -> Iterator[Cable]:
    """Between the board's bus and a server, which opens a port."""
    wire = Cable(tmp_path / "server", board_end=rig.bus_port(BOARD, 1, model.Line.parse(LINE)))
    yield wire
    wire.close()


@pytest.fixture
def libmodbus_server(tmp_path: Path) -> Path:
    program = tmp_path / "libmodbus_server"
    source = PEERS / "libmodbus_server.c"
    subprocess.run(["gcc", "-Wall", "-Werror", "-o", program, source, "-lmodbus"], check=True)
    return program


@pytest.mark.shows(N_("Another maker's Modbus server (pymodbus) is read as a sensor, each kind of register rightly."))
def test_pymodbus_as_a_sensor(rig: Rig, broker: Mosquitto, wire: Cable, tmp_path: Path) -> None:
    read_from([sys.executable, PEERS / "pymodbus_server.py"], rig, broker, wire, tmp_path)


@pytest.mark.needs("gcc", "libmodbus")
@pytest.mark.shows(N_("Another maker's Modbus server (libmodbus) is read as a sensor, each kind of register rightly."))
def test_libmodbus_as_a_sensor(
    libmodbus_server: Path, rig: Rig, broker: Mosquitto, wire: Cable, tmp_path: Path
) -> None:
    read_from([libmodbus_server], rig, broker, wire, tmp_path)


def read_from(server: list[str | Path], rig: Rig, broker: Mosquitto, wire: Cable, directory: Path) -> None:
    """Run a site whose only sensor is this server: exactly what it serves must come out."""
    with started([*server, wire.plug, str(UNIT_ID)]):
        line = Bus("line", LINE, wire.board_end.path)
        with closing(SmallSite(rig, directory, broker.port, [line], POINTS, {"peer": PROFILE})) as site:
            site.watch(wire.board_end.fileno(), wire.carry_up)
            site.watch(wire.edge_end.fileno(), wire.carry_down)
            site.until(lambda: site.readings.keys() >= READINGS.keys())
    assert site.readings == {point: [reading] for point, reading in READINGS.items()}


@contextmanager
def started(command: list[str | Path]) -> Iterator[None]:
    """A server that has said that its port is open."""
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as server:
        server.stdin.write(SERVED)
        server.stdin.close()
        try:
            assert server.stdout.readline() == "ready\n"
            yield
        finally:
            server.kill()
