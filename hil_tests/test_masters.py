"""Other people's Modbus masters read our simulated sensors over a pseudo-terminal: they vouch for our slave role."""

import os
import select
import subprocess
import threading
import time
from collections.abc import Iterator
from struct import pack, unpack

import minimalmodbus
import pytest
from pymodbus.client import ModbusSerialClient

from hil_tests.bench import units
from hil_tests.bench.bus import Bus
from hil_tests.bench.line import Exchange, Line
from hil_tests.bench.sheet import Point
from hil_tests.bench.units import Unit
from protocols import model, profile

pytestmark = pytest.mark.needs("simulation")

LEVEL_M = 8.412  # 0x4106978d
GAS_LEL = 52.5
RADAR, GAS = 1, 2
TICK_S = 0.01
QUIET_S = 5.0


class Rig:
    """One line with two sensors, run in a thread of its own, as the masters here wait for their replies."""

    def __init__(self, settings: str) -> None:
        radar = Point("TK101.level", "bus", RADAR, "vegapuls-modbus", "level", "m", 0, 12.5, 2000, 0.01, 60)
        gas = Point("GD01.gas", "bus", GAS, "sensepoint-xcd", "gas", "%{LEL}", 0, 100, 1000, 1, 60)
        self.units = {
            point.unit_id: Unit(point.unit_id, profile.builtin(point.profile), [point]) for point in (radar, gas)
        }
        values = {"TK101.level": LEVEL_M, "GD01.gas": GAS_LEL}
        self.exchanges: list[Exchange] = []
        self.line = Line("bus", model.Line.parse(settings), list(self.units.values()), lambda point, _: values[point])
        self._bus = Bus(self.line, self.exchanges.append)
        self.path = self._bus.port.path
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def _run(self) -> None:
        while not self._stopping.is_set():
            now_s = time.monotonic()
            self._bus.run(now_s)
            wait_s = min((self.line.due_s() or now_s + TICK_S) - now_s, TICK_S)
            if select.select([self._bus.port], [], [], max(wait_s, 0))[0]:
                self._bus.receive(time.monotonic())

    def wait_until_quiet(self) -> None:
        """Until nobody talks any more."""
        end_s = time.monotonic() + QUIET_S
        while self.line.due_s() is not None:
            assert time.monotonic() < end_s
            time.sleep(TICK_S)

    def close(self) -> None:
        self._stopping.set()
        self._thread.join()
        self._bus.port.close()


@pytest.fixture
def rig() -> Iterator[Rig]:
    rig = Rig("19200 8N1")
    yield rig
    rig.close()


@pytest.fixture
def pymodbus_client(rig: Rig) -> Iterator[ModbusSerialClient]:
    client = ModbusSerialClient(rig.path, baudrate=19200, timeout=1, retries=0)
    assert client.connect()
    yield client
    client.close()


@pytest.fixture
def instrument(rig: Rig) -> Iterator[minimalmodbus.Instrument]:
    instrument = minimalmodbus.Instrument(rig.path, RADAR)
    instrument.serial.baudrate = 19200
    instrument.serial.timeout = 0.5
    yield instrument
    instrument.serial.close()


def test_pymodbus_reads_both_sensors(rig: Rig, pymodbus_client: ModbusSerialClient) -> None:
    level = pymodbus_client.read_input_registers(106, count=2, device_id=RADAR).registers
    assert unpack(">f", pack(">HH", level[1], level[0]))[0] == pytest.approx(LEVEL_M)
    gas = pymodbus_client.read_holding_registers(2, count=9, device_id=GAS).registers
    assert unpack(">f", pack(">HH", *gas[:2]))[0] == GAS_LEL
    assert gas[4] == 1 and gas[8] == 5  # normal, %LEL
    assert [exchange.unit_id for exchange in rig.exchanges] == [RADAR, GAS]


def test_pymodbus_sees_the_refusals(rig: Rig, pymodbus_client: ModbusSerialClient) -> None:
    refused = pymodbus_client.read_input_registers(500, count=2, device_id=RADAR)
    assert refused.isError() and refused.exception_code == units.ILLEGAL_ADDRESS
    refused = pymodbus_client.write_register(2, 7, device_id=GAS)
    assert refused.isError() and refused.exception_code == units.ILLEGAL_FUNCTION
    assert rig.units[GAS].writes == 1


def test_minimalmodbus_reads_a_float(instrument: minimalmodbus.Instrument) -> None:
    order = minimalmodbus.BYTEORDER_LITTLE_SWAP
    assert instrument.read_float(106, functioncode=4, byteorder=order) == pytest.approx(LEVEL_M)


@pytest.mark.parametrize(
    ("fault", "raised"),
    [
        (units.SILENT, minimalmodbus.NoResponseError),
        (units.FLIPPED, minimalmodbus.ModbusException),
        (units.CUT, minimalmodbus.ModbusException),
        (units.WRONG_UNIT, minimalmodbus.InvalidResponseError),
        (units.BABBLE, minimalmodbus.ModbusException),
        (units.EXCEPTION, minimalmodbus.SlaveDeviceBusyError),
    ],
)
def test_minimalmodbus_finds_each_fault(
    rig: Rig, instrument: minimalmodbus.Instrument, fault: str, raised: type[Exception]
) -> None:
    rig.units[RADAR].break_down(fault, replies=1)
    with pytest.raises(raised):
        instrument.read_registers(100, 8, functioncode=4)
    rig.wait_until_quiet()
    assert instrument.read_registers(100, 8, functioncode=4)[6:] == [0x978D, 0x4106]


@pytest.mark.needs("mbpoll")
def test_mbpoll_reads_a_float(rig: Rig) -> None:
    read = ["mbpoll", "-m", "rtu", "-b", "19200", "-P", "none", "-o", "1", "-0", "-1", "-q"]
    run = subprocess.run(
        [*read, "-a", str(GAS), "-t", "4:float", "-B", "-r", "2", "-c", "1", rig.path],
        capture_output=True,
        text=True,
        timeout=10,
        env={**os.environ, "LC_ALL": "C"},
    )
    assert run.returncode == 0, run.stdout + run.stderr
    assert f"[2]: \t{GAS_LEL}" in run.stdout


def test_masters_keep_the_silence_that_we_measure(rig: Rig, instrument: minimalmodbus.Instrument) -> None:
    for _ in range(5):
        instrument.read_registers(100, 8, functioncode=4)
    assert rig.line.requests == 5
    assert rig.line.too_soon == 0
    assert rig.line.silence_s <= rig.line.shortest_silence_s < 1
