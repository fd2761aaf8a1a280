"""Simulated sensors: the bytes they answer with, well and badly, and what each answer is said to mean."""

import struct

import pytest

from hil_tests.bench import units
from hil_tests.bench.sheet import Point
from hil_tests.bench.units import Measured, Unit
from protocols import modbus, modbus_edge, model, profile

RADAR_REQUEST = modbus_edge.read_request(1, 4, 100, 8)


def point(name: str, profile_name: str, channel: str, unit: str, low: float, high: float) -> Point:
    return Point(name, "bus", 1, profile_name, channel, unit, low, high, 1000, 1.0, 60)


def radar(**fault: object) -> Unit:
    level = point("TK101.level", "vegapuls-modbus", "level", "m", 0, 12.5)
    return Unit(1, profile.builtin("vegapuls-modbus"), [level], **fault)


def gas(**states: object) -> Unit:
    sensor = point("GD01.gas", "sensepoint-xcd", "gas", "%{LEL}", 0, 100)
    return Unit(1, profile.builtin("sensepoint-xcd"), [sensor], **states)


def measure(name: str) -> float:
    return {"TK101.level": 8.412, "GD01.gas": 52.5, "T0": 24.6, "T1": -20.0}[name]


def test_a_radar_answers_as_its_manual_says():
    answer = radar().answer(RADAR_REQUEST, measure)
    # 41364-EN p. 65: 100-101 status, 104-105 unit (45 is m), 106-107 the value in CDAB; 8.412 is 0x4106978d.
    body = bytes.fromhex("01 04 10 0000 0000 0000 0000 002d 0000 978d 4106")
    assert answer.data[:-2] == body
    assert modbus.crc_ok(answer.data, 0, len(answer.data))
    assert answer.measured == (Measured("TK101.level", 8.412, model.GOOD),)
    assert answer.certain
    assert 0 < answer.after_s < 0.25  # the manual's slowest


def test_a_status_bit_leaves_the_rest_of_its_register_alone():
    alarm = point("GD01.alarm", "sensepoint-xcd", "alarm_2", "1", None, None)
    faulty = gas(states={"GD01.gas": ("maintenance_due", 0)})
    faulty.points = [alarm, *faulty.points]
    answer = faulty.answer(modbus_edge.read_request(1, 3, 5, 1), lambda name: name == "GD01.alarm")
    assert answer.data[3:-2] == bytes.fromhex("0012")  # bit 4, a warning, and bit 1


def test_a_4_to_20_ma_module_answers_all_its_channels():
    channels = [point(f"T{i}", "adam-4017p", f"ch{i}", "Cel", -20, 80) for i in range(2)]
    module = Unit(20, profile.builtin("adam-4017p"), channels)
    answer = module.answer(modbus_edge.read_request(20, 3, 0, 8), measure)
    # 4 mA is a fifth of 7FFF; 24.6 of -20 to 80 is 11.136 mA.
    assert struct.unpack(">8H", answer.data[3:-2]) == (round(32767 * 11.136 / 20), 6553, 0, 0, 0, 0, 0, 0)
    assert [each.point for each in answer.measured] == ["T0", "T1"]
    assert module.step(channels[0]) == pytest.approx(100 / 26213.6)
    assert [m.point for m in module.answer(modbus_edge.read_request(20, 3, 1, 1), measure).measured] == ["T1"]


def test_a_detector_tells_where_its_map_begins_and_who_it_is():
    sensor = point("GD01.gas", "msa-ultima-x", "lel1", "%{LEL}", 0, 100)
    detector = Unit(247, profile.builtin("msa-ultima-x"), [sensor], serial=2019)
    base = detector.answer(modbus_edge.read_request(247, 3, 1000, 1), measure)
    assert (base.data[2:5].hex(), base.measured) == ("029c40", ())  # 40000, the manual's default
    serial = detector.answer(modbus_edge.read_request(247, 3, 40005, 9), measure)
    assert struct.unpack(">9H", serial.data[3:-2]) == (2019,) * 9


def test_what_a_sensor_says_of_itself_is_told():
    sensor = gas(states={"GD01.gas": ("sensor_fault", 1103)})
    answer = sensor.answer(modbus_edge.read_request(1, 3, 2, 9), measure)
    assert struct.unpack(">9H", answer.data[3:-2])[2:5] == (1103, 1 << 5, 1)
    assert answer.measured == (Measured("GD01.gas", None, model.SENSOR_FAULT, 1103),)
    sensor.states["GD01.gas"] = ("warm_up", 0)
    assert sensor.answer(modbus_edge.read_request(1, 3, 2, 9), measure).measured[0].status == model.WARM_UP


@pytest.mark.parametrize(
    ("request_bytes", "code"),
    [
        (modbus_edge.read_request(1, 3, 100, 8), units.ILLEGAL_FUNCTION),
        (modbus_edge.read_request(1, 4, 200, 2), units.ILLEGAL_ADDRESS),
        (modbus_edge.write_request(1, 6, 100, 7), units.ILLEGAL_FUNCTION),
        (modbus_edge.device_id_request(1), units.ILLEGAL_FUNCTION),
    ],
)
def test_what_a_sensor_refuses(request_bytes, code):
    unit = radar()
    answer = unit.answer(request_bytes, measure)
    assert answer.data == modbus_edge.exception_reply(1, request_bytes[1], code)
    assert unit.writes == (request_bytes[1] == 6)
    assert answer.measured == ()


def test_a_sensor_refuses_more_registers_than_its_profile_allows():
    module = point("GD07.gas", "gas-module-6in1", "gas", "%{LEL}", 0, 100)
    unit = Unit(1, profile.builtin("gas-module-6in1"), [module])
    answer = unit.answer(modbus_edge.read_request(1, 3, 0, 11), lambda _point: 3.0)
    assert answer.data == modbus_edge.exception_reply(1, 3, units.ILLEGAL_VALUE)
    assert answer.measured == (Measured("GD07.gas", None, model.EXCEPTION, units.ILLEGAL_VALUE),)


@pytest.mark.parametrize(("unit", "head"), [("[ppm]", 0x0400), ("%{LEL}", 0x2400), ("%{vol}", 0x4400)])
def test_a_gas_module_names_its_unit_and_its_one_decimal(unit, head):
    module = Unit(1, profile.builtin("gas-module-6in1"), [point("GD07.gas", "gas-module-6in1", "gas", unit, 0, 100)])
    answer = module.answer(modbus_edge.read_request(1, 3, 0, 10), lambda _point: 20.9)
    # PROTOCOL.md 1.5: bits 15-12 the unit, 11-8 the decimals; 1.6: state 1 is normal.
    assert struct.unpack(">10H", answer.data[3:-2]) == (head, 209, 0, 0, 0, 1, 0, 0, 0, 0)


EXPECTED = {
    units.SILENT: (modbus.TIMEOUT, model.NO_REPLY),
    units.FLIPPED: (None, model.BAD_CRC),  # BAD_CRC or SHORT, by where the byte was
    units.CUT: (None, model.BAD_CRC),
    units.STRAY: (modbus.OK, model.GOOD),
    units.EXCEPTION: (modbus.EXCEPTION, model.EXCEPTION),
    units.BABBLE: (modbus.BAD_CRC, model.BAD_CRC),
    units.WRONG_UNIT: (modbus.WRONG_REPLY, model.WRONG_REPLY),
    units.LATE: (modbus.OK, model.NO_REPLY),  # good bytes, but nobody waits any more
}


@pytest.mark.parametrize("fault", units.FAULTS)
@pytest.mark.parametrize("seed", range(20))
def test_a_fault_is_what_a_master_finds(fault, seed):
    """The bench says of each faulty answer what a master must conclude; the transaction concludes it too."""
    unit = radar(seed=seed)
    unit.break_down(fault)
    answer = unit.answer(RADAR_REQUEST, measure)
    transaction = modbus.Transaction()
    transaction.request[:8] = RADAR_REQUEST
    transaction.begin(8)
    outcome = transaction.feed(answer.data, len(answer.data))
    if outcome == modbus.PENDING:
        outcome = transaction.finish()
    wanted, status = EXPECTED[fault]
    assert outcome == wanted or (wanted is None and outcome in (modbus.BAD_CRC, modbus.SHORT))
    assert [each.status for each in answer.measured] == [status]
    assert answer.certain == (fault in (units.STRAY, units.EXCEPTION))
    assert bool(answer.belated) == (fault == units.LATE)


def test_the_same_seed_spoils_the_same_byte():
    def answers(seed: int) -> list[bytes]:
        unit = radar(seed=seed)
        unit.break_down(units.FLIPPED)
        return [unit.answer(RADAR_REQUEST, measure).data for _ in range(5)]

    assert answers(1) == answers(1)
    assert answers(1) != answers(2)


def test_a_fault_can_heal_by_itself():
    unit = radar()
    unit.break_down(units.SILENT, replies=2)
    assert [bool(unit.answer(RADAR_REQUEST, measure).data) for _ in range(4)] == [False, False, True, True]
    unit.break_down(units.SILENT)
    assert not unit.answer(RADAR_REQUEST, measure).data
    unit.heal()
    assert unit.answer(RADAR_REQUEST, measure).data


def test_an_unknown_fault_is_refused():
    with pytest.raises(ValueError, match="babble"):
        radar().break_down("tired")
