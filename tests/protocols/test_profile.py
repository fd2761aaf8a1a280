"""Profiles: their files, the reads that they need, registers to readings and back.

Register images are written by hand from the documents that each profile names; 123.456 and its bytes 42F6E979 are
an IEEE 754 float.
"""

import math
import re
import struct
import tomllib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocols import channel, modbus, model, profile
from protocols.model import Reading
from protocols.profile import ChannelUse, Decoder, ProfileError, Read, encode_registers, load, plan_reads

WORD_ORDERS = ["ABCD", "CDAB", "BADC", "DCBA"]

MINIMAL = """
version = 1
maker = "M"
model = "N"
source = "paper, p. 1"
evidence = "manual"
timeout_ms = 200
address_base = 0
[channels.a]
function_code = 3
address = 4
type = "u16"
decimals = 0
unit = "m"
"""


SERIAL = """
[serial]
function_code = 3
address = 20
count = 2
"""


def use(name, unit, low=None, high=None, point="p"):
    return ChannelUse(point, name, unit, low, high)


def whole(known, *uses):
    """The one read of these uses and its decoder."""
    (read,) = plan_reads(known, uses)
    return read, Decoder(known, read)


# --- the profiles that come along ---------------------------------------------------------------------------


def test_what_comes_along_says_how_far_it_is_proven():
    proven = {name: (profile.builtin(name).evidence, profile.builtin(name).proven) for name in profile.builtin_names()}
    assert proven == {
        "adam-4017p": ("manual", False),
        "fuel-probe-500ms": ("manual", False),
        "gas-module-6in1": ("code", True),
        "generic": ("manual", False),
        "igd-toc-635": ("manual", False),
        "io-16do": ("bench", True),
        "msa-ultima-x": ("manual", False),
        "rosemount-5300": ("manual", False),
        "sensepoint-xcd": ("manual", False),
        "vegapuls-modbus": ("manual", False),
    }
    with pytest.raises(ValueError, match="vegapuls-modbus"):
        profile.builtin("vegapuls")


@pytest.mark.parametrize(
    ("name", "uses", "request_text"),
    [
        ("vegapuls-modbus", [use("level", "m")], "04 00 64 00 08 (100 - 107)"),
        ("sensepoint-xcd", [use("gas", "%{LEL}")], "03 00 02 00 09 (40003 - 40011)"),
        ("gas-module-6in1", [use("gas", "[ppm]")], "03 00 00 00 0A (0 - 9)"),
        ("gas-module-6in1", [use("humidity", "%{RH}"), use("gas", "[ppm]")], "03 00 00 00 0A (0 - 9)"),
        ("adam-4017p", [use(f"ch{i}", "Cel", -20, 80) for i in range(8)], "03 00 00 00 08 (40001 - 40008)"),
        ("adam-4017p", [use("ch2", "m", 0, 9)], "03 00 02 00 01 (40003 - 40003)"),
        ("msa-ultima-x", [use("lel1", "%{LEL}")], "03 9D 09 00 08 (201 - 208)"),  # wire 40201 on
        ("msa-ultima-x", [use("lel1", "%{LEL}"), use("ppm3", "[ppm]")], "03 9D 09 00 0C (201 - 212)"),
        ("igd-toc-635", [use(f"gas{n}", "%{LEL}") for n in range(1, 33)], "04 00 00 00 20 (30001 - 30032)"),
        ("igd-toc-635", [use("status2", "1")], "04 0B B9 00 01 (33002 - 33002)"),
        (
            "fuel-probe-500ms",
            [use("level", "mm"), use("water", "mm"), use("temperature", "Cel")],
            "04 00 00 00 06 (0 - 5)",
        ),
        ("fuel-probe-500ms", [use("temperature_5", "Cel")], "04 00 0E 00 02 (14 - 15)"),
        ("rosemount-5300", [use("level", "m")], "04 07 D0 00 04 (2000 - 2003)"),
        ("rosemount-5300", [use("level_2102", "m")], "04 08 34 00 04 (2100 - 2103)"),
        ("io-16do", [use("coil_3", "1")], "01 00 03 00 01 (3 - 3)"),
        ("io-16do", [use("baud", "1")], "04 00 78 00 01 (120 - 120)"),
    ],
)
def test_value_and_status_come_in_one_request(name, uses, request_text):
    known = profile.builtin(name)
    read, _ = whole(known, *uses)
    assert profile.request_text(known, read) == request_text
    assert len(read.uses) == len(uses)


LEVEL = [0, 0, 0, 0, 45, 0, 0x0000, 0x4108]  # 8.5 m
GAS = [0x4252, 0x0000, 0, 0, 1, 0, 0, 0, 5]  # 52.5 %LEL, normal
ULTIMA = [0, 0, 0, 1, 0, 0, 0x4252, 0x0000]  # 52.5
RADAR = [0, 0, 0x4108, 0x0000]  # 8.5 m
MODULE = [0x2400, 525, 0, 0, 1000, 1, 0, 754, 0, 608]  # 52.5 %LEL, normal


def changed(registers, **words):
    """A copy with some registers changed, named r0, r1, …"""
    registers = list(registers)
    for name, word in words.items():
        registers[int(name[1:])] = word
    return registers


@pytest.mark.parametrize(
    ("name", "wanted", "registers", "value", "status", "detail"),
    [
        ("vegapuls-modbus", use("level", "m", 0, 12.5), LEVEL, 8.5, 0, 0),
        ("vegapuls-modbus", use("level", "cm", 0, 1250), LEVEL, 850.0, 0, 0),
        ("vegapuls-modbus", use("level", "m", 0, 8.25), LEVEL, 8.5, 100, 0),
        ("vegapuls-modbus", use("level", "m", 0, 12.5), changed(LEVEL, r4=49), 0.0085, 0, 0),
        ("vegapuls-modbus", use("level", "m", 0, 12.5), changed(LEVEL, r4=44), None, 203, 1044),  # feet
        ("vegapuls-modbus", use("level", "m", 0, 12.5), changed(LEVEL, r0=1), None, 204, 1),
        ("vegapuls-modbus", use("level", "m", 0, 12.5), changed(LEVEL, r1=1), None, 204, 0x10000),
        ("vegapuls-modbus", use("level", "m", 0, 12.5), changed(LEVEL, r0=0b1110), 8.5, 0, 0),  # SV, TV, QV invalid
        ("vegapuls-modbus", use("level", "m", 0, 12.5), changed(LEVEL, r7=0x7FC0), None, 206, 0),
        ("vegapuls-modbus", use("level", "m", 0, 12.5), changed(LEVEL, r7=0xFF80), None, 206, 0),
        ("sensepoint-xcd", use("gas", "%{LEL}", 0, 100), GAS, 52.5, 0, 0),
        ("sensepoint-xcd", use("gas", "%{LEL}", 0, 50), GAS, 52.5, 100, 0),
        ("sensepoint-xcd", use("gas", "[ppm]", 0, 100), GAS, None, 203, 1005),
        ("sensepoint-xcd", use("gas", "%{LEL}", 0, 100), changed(GAS, r3=0b11), 52.5, 0, 0),  # its own alarms
        ("sensepoint-xcd", use("gas", "%{LEL}", 0, 100), changed(GAS, r2=1103, r3=0x20), None, 204, 1103),
        ("sensepoint-xcd", use("gas", "%{LEL}", 0, 100), changed(GAS, r2=2, r3=0x10), 52.5, 1, 2),
        ("sensepoint-xcd", use("gas", "%{LEL}", 0, 50), changed(GAS, r2=2, r3=0x10), 52.5, 100, 0),
        ("sensepoint-xcd", use("gas", "%{LEL}", 0, 100), changed(GAS, r4=2), None, 210, 0),
        ("sensepoint-xcd", use("gas", "%{LEL}", 0, 100), changed(GAS, r4=3), None, 212, 0),
        ("sensepoint-xcd", use("gas", "%{LEL}", 0, 100), changed(GAS, r4=12), None, 211, 0),
        ("sensepoint-xcd", use("gas", "%{LEL}", 0, 100), changed(GAS, r4=9), None, 204, 9),  # no such state
        ("sensepoint-xcd", use("gas", "%{LEL}", 0, 100), changed(GAS, r2=2, r3=0x10, r4=3), None, 212, 0),
        ("sensepoint-xcd", use("gas", "%{LEL}", 0, 100), changed(GAS, r2=1101, r3=0x20, r4=12), None, 204, 1101),
        ("gas-module-6in1", use("gas", "%{LEL}", 0, 100), MODULE, 52.5, 0, 0),
        ("gas-module-6in1", use("gas", "[ppm]", 0, 100), MODULE, None, 203, 1002),
        ("gas-module-6in1", use("gas", "[ppm]"), changed(MODULE, r0=0x0000), 525.0, 0, 0),
        ("gas-module-6in1", use("gas", "%{vol}", 0, 30), changed(MODULE, r0=0x4800), 5.25, 0, 0),
        ("gas-module-6in1", use("gas", "%{vol}", 0, 30), changed(MODULE, r0=0x4C00), 0.525, 0, 0),
        ("gas-module-6in1", use("gas", "%{vol}", 0, 30), changed(MODULE, r0=0x4300), None, 203, 2003),
        ("gas-module-6in1", use("gas", "%{LEL}", 0, 100), changed(MODULE, r5=0x5500), None, 210, 0),  # low byte only
        ("gas-module-6in1", use("gas", "%{LEL}", 0, 100), changed(MODULE, r5=3), None, 204, 3),
        ("gas-module-6in1", use("gas", "%{LEL}", 0, 100), changed(MODULE, r5=6), 52.5, 0, 0),
        ("gas-module-6in1", use("gas", "%{LEL}", 0, 100), changed(MODULE, r5=8), 52.5, 100, 0),
        ("gas-module-6in1", use("gas", "%{LEL}", 60, 100), changed(MODULE, r5=8), 52.5, 100, 0),  # the first counts
        ("gas-module-6in1", use("gas", "%{LEL}", 0, 100), changed(MODULE, r5=9), 52.5, 1, 9),
        ("gas-module-6in1", use("gas", "%{LEL}", 0, 100), changed(MODULE, r5=0x0D), None, 204, 13),  # reserved
        ("gas-module-6in1", use("temperature", "Cel"), MODULE, 25.4, 0, 0),
        ("gas-module-6in1", use("humidity", "%{RH}"), MODULE, 60.8, 0, 0),
        ("adam-4017p", use("ch3", "Cel", -20, 80), [6553], -20.002, 0, 0),
        ("adam-4017p", use("ch3", "Cel", -20, 80), [19660], 29.999, 0, 0),
        ("adam-4017p", use("ch3", "Cel", 80, -20), [19660], 30.001, 0, 0),
        ("adam-4017p", use("ch3", "m", 0, 1000), [19660], 499.99, 0, 0),  # one step is 0.04: two digits
        ("adam-4017p", use("ch3", "Cel", -20, 80), [32766], 79.996, 0, 0),
        ("adam-4017p", use("ch3", "Cel", -20, 80), [32767], 80.0, 100, 0),  # the end of the scale
        ("adam-4017p", use("ch3", "Cel", -20, 80), [6225], -21.253, 101, 0),  # 3.7996 mA
        ("adam-4017p", use("ch3", "Cel", -20, 80), [5899], -22.496, 101, 0),  # 3.6006 mA
        ("adam-4017p", use("ch3", "Cel", -20, 80), [5898], None, 205, 0),
        ("adam-4017p", use("ch3", "Cel", -20, 80), [0], None, 205, 0),
        ("adam-4017p", use("ch3", "Cel", -20, 80), [0xFFFF], None, 205, 0),  # a little below 0 mA
        ("msa-ultima-x", use("lel1", "%{LEL}", 0, 100), ULTIMA, 52.5, 0, 0),
        ("msa-ultima-x", use("ppm1", "[ppm]", 0, 50), ULTIMA, 52.5, 100, 0),
        ("msa-ultima-x", use("lel1", "%{LEL}", 0, 100), changed(ULTIMA, r0=0xE0), 52.5, 0, 0),  # its own alarms
        ("msa-ultima-x", use("lel1", "%{LEL}", 0, 100), changed(ULTIMA, r0=0b1100), 52.5, 0, 0),  # others calibrate
        ("msa-ultima-x", use("lel1", "%{LEL}", 0, 100), changed(ULTIMA, r0=0b10), None, 211, 0),
        ("msa-ultima-x", use("lel1", "%{LEL}", 0, 100), changed(ULTIMA, r0=0x10), None, 210, 0),
        ("msa-ultima-x", use("lel1", "%{LEL}", 0, 100), changed(ULTIMA, r0=0b11, r1=0x11), None, 204, 0x11),
        ("msa-ultima-x", use("lel1", "%{LEL}", 0, 100), changed(ULTIMA, r6=0xC280), -64.0, 101, 0),
        ("msa-ultima-x", use("vol2", "%{vol}"), [0b10, *ULTIMA[1:6], 0, 0, 0x41A7, 0x3333], 20.899999618530273, 0, 0),
        ("msa-ultima-x", use("vol2", "%{vol}"), [0b100, *ULTIMA[1:6], 0, 0, 0x41A7, 0x3333], None, 211, 0),
        ("igd-toc-635", use("gas7", "%{LEL}", 0, 100), [100], 0.0, 0, 0),
        ("igd-toc-635", use("gas7", "%{LEL}", 0, 100), [625], 52.5, 0, 0),
        ("igd-toc-635", use("gas7", "%{LEL}", 0, 100), [0], -10.0, 101, 0),
        ("igd-toc-635", use("gas7", "%{LEL}", 0, 100), [1200], 110.0, 100, 0),
        ("igd-toc-635", use("status7", "1"), [0b111], 7, 0, 0),  # its own alarms
        ("igd-toc-635", use("status7", "1"), [0x08], None, 204, 0x08),
        ("igd-toc-635", use("status7", "1"), [0x10], None, 212, 0),
        ("igd-toc-635", use("status7", "1"), [0x48], None, 204, 0x48),  # fault, under range
        ("igd-toc-635", use("status7", "1"), [0x40], 0x40, 101, 0),
        ("igd-toc-635", use("status7", "1"), [0x80], 0x80, 100, 0),
        ("igd-toc-635", use("status7", "1"), [0x100], None, 204, 0x100),
        ("fuel-probe-500ms", use("level", "mm", 0, 3000), [0x449A, 0x5000], 1234.5, 0, 0),
        ("fuel-probe-500ms", use("level", "m", 0, 3), [0x449A, 0x5000], 1.2345, 0, 0),
        ("fuel-probe-500ms", use("water", "mm", 0, 1000), [0x449A, 0x5000], 1234.5, 100, 0),
        ("fuel-probe-500ms", use("temperature_1", "Cel"), [0xC120, 0x0000], -10.0, 0, 0),
        ("rosemount-5300", use("level", "m", 0, 12.5), RADAR, 8.5, 0, 0),
        ("rosemount-5300", use("level_2102", "m", 0, 12.5), [0, 0, 0x0000, 0x0841], 8.5, 0, 0),
        ("rosemount-5300", use("level", "m", 0, 12.5), changed(RADAR, r0=0b1110), 8.5, 0, 0),  # SV, TV, QV invalid
        ("rosemount-5300", use("level", "m", 0, 12.5), changed(RADAR, r1=1), None, 204, 1),
        ("io-16do", use("coil_3", "1"), [1], 1, 0, 0),
        ("io-16do", use("baud", "1"), [0x4B00], 19200, 0, 0),
    ],
)
def test_registers_become_a_reading(name, wanted, registers, value, status, detail):
    known = profile.builtin(name)
    read, decoder = whole(known, wanted)
    assert len(registers) == read.count
    assert decoder.decode(registers) == [Reading("p", value, status, detail)]


@pytest.mark.parametrize("wanted", ["level", "level_2102"])
@pytest.mark.parametrize("half", [0, 1])
@pytest.mark.parametrize(
    ("word", "value", "status"),
    [(0x0001, None, 204), (0x8000, None, 204), (0x4000, 0.0, 102), (0x0100, None, 204), (0x0080, None, 204)],
)
def test_no_map_of_the_radar_hides_its_status(wanted, half, word, value, status):
    """The manual does not print which of two words has the bits, nor whether their bytes are swapped."""
    _, decoder = whole(profile.builtin("rosemount-5300"), use(wanted, "m"))
    (reading,) = decoder.decode([*(word, 0)[:: -1 if half else 1], 0, 0])
    assert (reading.value, reading.status) == (value, status)


@pytest.mark.parametrize(
    ("registers", "value", "status", "detail"),
    [
        ([209, 0b000], 209, 0, 0),
        ([209, 0b001], 209, 100, 0),
        ([209, 0b010], 209, 101, 0),
        ([209, 0b011], 209, 100, 0),
        ([209, 0b111], None, 204, 0b111),
        ([209, 0b1111], None, 204, 0b1111),
    ],
)
def test_the_worst_flag_counts_and_of_equals_the_first(registers, value, status, detail):
    flags = '{ 0 = "over_range", 1 = "under_range", 2 = "sensor_fault", 3 = "inhibited" }'
    known = one("u16", unit='"1"', status_address=1, status_flags=flags)
    _, decoder = whole(known, use("a", "1"))
    assert decoder.decode(registers) == [Reading("p", value, status, detail)]


@pytest.mark.parametrize(
    ("raw", "value", "status"),
    [
        (3599, None, 205),
        (3600, -4.0, 101),
        (3799, -2.01, 101),
        (3800, -2.0, 0),
        (12000, 80.0, 0),
        (12003, 80.03, 0),
        (20500, 165.0, 0),
        (20501, 165.01, 100),
        (21000, 170.0, 100),
        (21001, None, 204),
    ],
)
def test_a_current_in_microamperes(raw, value, status):
    head = MINIMAL[: MINIMAL.index("[channels.a]")]
    known = load(
        "loop",
        f"""{head}[channels.a]
        function_code = 4
        address = 0
        type = "u16"
        decimals = 2
        raw_4ma = 4000
        raw_20ma = 20000
        wire_break_below_ma = 3.6
        under_range_below_ma = 3.8
        over_range_above_ma = 20.5
        sensor_fault_above_ma = 21.0""",
    )
    _, decoder = whole(known, use("a", "kPa", 0, 160))
    assert decoder.decode([raw]) == [Reading("p", value, status, 0)]


def test_a_zero_that_trembles_is_no_fault():
    # 1.25 % of the span, as NE 43 has it for a current
    known = profile.builtin("sensepoint-xcd")
    _, decoder = whole(known, use("gas", "%{LEL}", 0, 100))
    for value, status in ((-1.25, 0), (-1.5, 101), (100.0, 0), (100.5, 100)):
        words = struct.unpack(">HH", struct.pack(">f", value))
        assert decoder.decode([*words, *GAS[2:]]) == [Reading("p", value, status, 0)]


MISSING = struct.unpack(">HH", struct.pack(">f", -99.9))


@pytest.mark.parametrize(
    ("name", "wanted", "registers", "value", "status"),
    [
        ("msa-ultima-x", use("lel1", "%{LEL}"), [*ULTIMA[:6], *MISSING], None, 204),
        ("msa-ultima-x", use("lel1", "%{LEL}", 0, 100), [*ULTIMA[:6], *MISSING], None, 204),
        ("msa-ultima-x", use("ppm1", "[ppm]"), [*ULTIMA[:6], *MISSING], None, 204),
        ("msa-ultima-x", use("lel1", "%{LEL}"), [*ULTIMA[:6], 0xC2C6, 0x0000], -99.0, 0),
        ("igd-toc-635", use("gas1", "%{LEL}"), [0], -10.0, 0),
        ("igd-toc-635", use("gas1", "%{LEL}"), [1200], 110.0, 0),
        ("igd-toc-635", use("gas1", "%{LEL}"), [1201], None, 204),
        ("igd-toc-635", use("gas1", "%{LEL}", 0, 100), [1200], 110.0, 100),
        ("igd-toc-635", use("gas1", "%{LEL}", 0, 100), [0xFFFF], None, 204),
    ],
)
def test_what_no_sensor_can_measure_is_no_value(name, wanted, registers, value, status):
    _, decoder = whole(profile.builtin(name), wanted)
    assert decoder.decode(registers) == [Reading("p", value, status, 0)]


def test_valid_values_are_in_the_sensors_unit_whatever_the_sheets_is():
    known = one("i16", valid_low=-2, valid_high=3)
    _, decoder = whole(known, use("a", "mm", -9000, 9000))
    assert [decoder.decode([raw])[0].value for raw in (0xFFFD, 0xFFFE, 3, 4)] == [None, -2000, 3000, None]
    assert known.channels["a"].valid("cm") == (-200, 300)
    assert one("i16", valid_high=3).channels["a"].valid("m") == (-math.inf, 3)


def test_each_of_many_needs_its_own_and_all_may_need_one():
    igd = profile.builtin("igd-toc-635").channels
    assert [igd[f"gas{n}"].needs for n in (1, 32)] == ["status1", "status32"] and igd["status1"].needs is None
    one_more = MINIMAL[MINIMAL.index("[channels.a]") :].replace("channels.a", "channels.state")
    known = load("mine", MINIMAL + 'count = 2\nneeds = "state"\n' + one_more)
    assert [known.channels[name].needs for name in ("a1", "a2")] == ["state"] * 2


def test_one_reply_serves_many_points_in_the_order_of_the_read():
    known = profile.builtin("gas-module-6in1")
    read, decoder = whole(known, use("humidity", "%{RH}", point="h"), use("gas", "%{LEL}", point="g"))
    assert [use.point for use in read.uses] == [reading.point for reading in decoder.decode(MODULE)]
    with pytest.raises(ValueError, match="10 are allowed, not 9"):
        decoder.decode(MODULE[:9])


@pytest.mark.parametrize(
    ("outcome", "status", "detail"),
    [
        (modbus.TIMEOUT, model.NO_REPLY, 0),
        (modbus.BAD_CRC, model.BAD_CRC, 0),
        (modbus.SHORT, model.BAD_CRC, 0),
        (modbus.WRONG_REPLY, model.WRONG_REPLY, 0),
        (modbus.EXCEPTION, model.EXCEPTION, 6),
    ],
)
def test_a_failed_read_makes_every_point_bad_without_a_value(outcome, status, detail):
    known = profile.builtin("adam-4017p")
    _, decoder = whole(known, use("ch0", "m", 0, 1, "a"), use("ch1", "m", 0, 1, "b"))
    assert decoder.failed(outcome, 6) == [Reading("a", None, status, detail), Reading("b", None, status, detail)]


# --- words, types, conversions ------------------------------------------------------------------------------


def one(kind, word_order=None, *, function_code=3, **keys):
    """A profile of one channel `a` at register 0."""
    lines = {"function_code": function_code, "address": 0, "type": f'"{kind}"', "decimals": 0, "unit": '"m"'} | keys
    if word_order:
        lines["word_order"] = f'"{word_order}"'
    head = MINIMAL[: MINIMAL.index("[channels.a]")]
    return load("one", f"{head}[channels.a]\n" + "\n".join(f"{key} = {value}" for key, value in lines.items()))


@pytest.mark.parametrize(
    ("word_order", "registers"),
    [
        ("ABCD", [0x42F6, 0xE979]),
        ("CDAB", [0xE979, 0x42F6]),
        ("BADC", [0xF642, 0x79E9]),
        ("DCBA", [0x79E9, 0xF642]),
    ],
)
def test_four_word_orders(word_order, registers):
    value = struct.unpack(">f", bytes.fromhex("42F6E979"))[0]
    known = one("f32", word_order)
    _, decoder = whole(known, use("a", "m"))
    assert decoder.decode(registers) == [Reading("p", value, 0, 0)]
    assert encode_registers(known, "a", value) == {(3, 0): registers[0], (3, 1): registers[1]}
    whole_number = one("i32", word_order)
    _, decoder = whole(whole_number, use("a", "m"))
    assert decoder.decode(registers)[0].value == 0x42F6E979


@pytest.mark.parametrize(
    ("kind", "registers", "value"),
    [
        ("u16", [0xFFFE], 65534),
        ("i16", [0xFFFE], -2),
        ("i16", [0x7FFF], 32767),
        ("u32", [0xFFFF, 0xFFFE], 4294967294),
        ("i32", [0xFFFF, 0xFFFE], -2),
    ],
)
def test_whole_numbers_stay_whole(kind, registers, value):
    _, decoder = whole(one(kind, "ABCD" if len(registers) == 2 else None), use("a", "m"))
    (reading,) = decoder.decode(registers)
    assert reading.value == value
    assert isinstance(reading.value, int)


def test_a_divisor_divides():
    _, decoder = whole(one("u16", divisor=10), use("a", "m"))
    assert decoder.decode([234])[0].value == 23.4  # 234 * 0.1 is another number


@pytest.mark.parametrize(
    ("own", "wanted", "value"), [("mm", "m", 1.234), ("mm", "cm", 123.4), ("m", "mm", 1234000), ("cm", "mm", 12340)]
)
def test_lengths_are_converted(own, wanted, value):
    _, decoder = whole(one("u16", unit=f'"{own}"'), use("a", wanted))
    assert decoder.decode([1234])[0].value == value


@pytest.mark.parametrize(("own", "wanted"), [("m", "Cel"), ("[ppm]", "mg/m3"), ("[ppm]", "%{vol}"), ("m", "")])
def test_other_units_are_refused(own, wanted):
    known = one("u16", unit=f'"{own}"')
    assert not known.channels["a"].accepts(wanted)
    with pytest.raises(ValueError, match="does not fit"):
        plan_reads(known, [use("a", wanted)])
    with pytest.raises(ValueError, match="does not fit"):
        Decoder(known, Read(3, 0, 1, (use("a", wanted),)))


def test_the_type_of_what_comes_out():
    assert one("u16", unit='"1"').channels["a"].value_type == "u16"
    assert one("u16", unit='"1"', divisor=10).channels["a"].value_type == "f32"
    assert one("u16", unit='"1"', subtract=5).channels["a"].value_type == "f32"
    assert one("u16", unit='"mm"').channels["a"].value_type == "f32"
    assert one("bool", unit='"1"', function_code=2).channels["a"].value_type == "bool"


def test_a_status_bit_of_a_detector_is_a_value_of_its_own():
    known = profile.builtin("sensepoint-xcd")
    uses = use("gas", "%{LEL}", 0, 100, "gas"), use("alarm_1", "1", point="low"), use("alarm_2", "1", point="high")
    read, decoder = whole(known, *uses)
    assert (read.function_code, read.address, read.count) == (3, 2, 9)  # 40003 to 40011, in one request
    value = [0x42F6, 0xE979]
    for word, low, high in ((0, 0, 0), (1, 1, 0), (3, 1, 1), (2, 0, 1)):
        assert [each.value for each in decoder.decode([*value, 0, word, 1, 0, 0, 0, 5])][1:] == [low, high]
    assert encode_registers(known, "alarm_2", 1) == {(3, 5): 2}


def test_bits_are_zero_and_one():
    known = one("bool", unit='"1"', function_code=2)
    read, decoder = whole(known, use("a", "1"))
    assert (read.function_code, read.count) == (2, 1)
    assert [decoder.decode([bit])[0].value for bit in (0, 1)] == [0, 1]
    assert encode_registers(known, "a", 1) == {(2, 0): 1}


WHOLE = {"u16": (0, 2**16 - 1), "i16": (-(2**15), 2**15 - 1), "u32": (0, 2**32 - 1), "i32": (-(2**31), 2**31 - 1)}


@given(st.data(), st.sampled_from(sorted(WHOLE)), st.sampled_from(WORD_ORDERS), st.sampled_from([1, 10, 1000]))
def test_whole_numbers_come_back(data, kind, word_order, divisor):
    known = one(kind, word_order if kind.endswith("32") else None, divisor=divisor)
    raw = data.draw(st.integers(*WHOLE[kind]))
    read, decoder = whole(known, use("a", "m"))
    words = encode_registers(known, "a", raw / divisor if divisor > 1 else raw)
    assert decoder.decode([words[3, i] for i in range(read.count)])[0].value == raw / divisor


@given(st.floats(width=32, allow_nan=False, allow_infinity=False), st.sampled_from(WORD_ORDERS))
def test_floats_come_back(value, word_order):
    known = one("f32", word_order)
    _, decoder = whole(known, use("a", "m"))
    words = encode_registers(known, "a", value)
    assert decoder.decode([words[3, 0], words[3, 1]])[0].value == value


@given(st.floats(0, 100), st.sampled_from(["%{LEL}", "[ppm]", "%{vol}", "mg/m3", "[ppb]"]))
def test_the_simulated_module_names_its_unit_and_decimals(value, unit):
    known = profile.builtin("gas-module-6in1")
    read, decoder = whole(known, use("gas", unit, 0, 100))
    words = encode_registers(known, "gas", value, unit=unit)
    (reading,) = decoder.decode([words.get((3, i), 0) for i in range(read.count)])
    assert reading.status == model.GOOD
    assert math.isclose(reading.value, value, abs_tol=0.0501)


@pytest.mark.parametrize(("unit", "code", "value"), [("m", 45, 8.5), ("cm", 48, 850), ("mm", 49, 8500)])
def test_the_simulated_level_speaks_the_unit_of_the_sheet(unit, code, value):
    words = encode_registers(profile.builtin("vegapuls-modbus"), "level", value, unit=unit)
    assert words[4, 104] == code
    assert (words[4, 107] << 16 | words[4, 106]) == {"m": 0x41080000, "cm": 0x44548000, "mm": 0x4604D000}[unit]


def test_a_simulated_value_stays_in_its_register():
    known = one("u16")
    assert encode_registers(known, "a", -3) == {(3, 0): 0}
    assert encode_registers(known, "a", 70000) == {(3, 0): 0xFFFF}
    assert encode_registers(known, "a", None) == {(3, 0): 0}


@given(st.floats(-20, 79.99))
def test_the_simulated_current_is_within_one_step(value):
    known = profile.builtin("adam-4017p")
    _, decoder = whole(known, use("ch0", "Cel", -20, 80))
    words = encode_registers(known, "ch0", value, unit="Cel", range_low=-20, range_high=80)
    (reading,) = decoder.decode([words[3, 0]])
    assert reading.status == model.GOOD
    assert math.isclose(reading.value, value, abs_tol=0.003)


@pytest.mark.parametrize(
    ("name", "wanted", "states"),
    [
        ("vegapuls-modbus", use("level", "m"), ["sensor_fault", "not_a_number"]),
        (
            "sensepoint-xcd",
            use("gas", "%{LEL}"),
            ["sensor_fault", "maintenance_due", "warm_up", "inhibited", "calibration", "not_a_number"],
        ),
        ("gas-module-6in1", use("gas", "%{LEL}"), ["warm_up", "sensor_fault", "over_range", "maintenance_due"]),
        ("adam-4017p", use("ch5", "Cel", 0, 50), ["wire_break"]),
        ("msa-ultima-x", use("lel1", "%{LEL}"), ["sensor_fault", "warm_up", "calibration", "not_a_number"]),
        ("igd-toc-635", use("gas32", "%{LEL}"), []),
        ("fuel-probe-500ms", use("level", "mm"), ["not_a_number"]),
        ("rosemount-5300", use("level_2102", "m"), ["sensor_fault", "frozen", "not_a_number"]),
    ],
)
def test_a_simulated_sensor_tells_its_state_and_no_other(name, wanted, states):
    known = profile.builtin(name)
    read, decoder = whole(known, wanted)
    sheet = {"unit": wanted.unit, "range_low": wanted.range_low, "range_high": wanted.range_high}
    for state in ["normal", *states]:
        words = encode_registers(known, wanted.channel, 7.5, state=state, detail=42, **sheet)
        (reading,) = decoder.decode([words.get((read.function_code, read.address + i), 0) for i in range(read.count)])
        assert reading.status == channel.STATUSES.get(state, model.GOOD)
        assert (reading.value is None) is not model.has_value(reading.status)
    for state in set(channel.STATUSES) - {"good", *states}:
        with pytest.raises(ValueError, match=state):
            encode_registers(known, wanted.channel, 7.5, state=state, **sheet)
    with pytest.raises(ValueError, match="asleep"):
        encode_registers(known, wanted.channel, 7.5, state="asleep", **sheet)


# --- requests -----------------------------------------------------------------------------------------------


def spread(*addresses, head=""):
    """A profile with one u16 channel at each address, named by it."""
    channel_a = MINIMAL[MINIMAL.index("[channels.a]") :]
    tables = [channel_a.replace("channels.a", f"channels.a{at}").replace("= 4", f"= {at}") for at in addresses]
    return load("spread", head + MINIMAL[: MINIMAL.index("[channels.a]")] + "".join(tables))


@pytest.mark.parametrize(
    ("head", "addresses", "reads"),
    [
        ("", [7, 5, 6], [(5, 3)]),
        ("", [5, 7], [(5, 1), (7, 1)]),
        ("bridge_gaps = true\n", [5, 7], [(5, 3)]),
        ("bridge_gaps = true\n", [0, 10], [(0, 11)]),  # nine between: 18 characters against 20
        ("bridge_gaps = true\n", [0, 11], [(0, 12)]),  # ten cost the same, but each request its wait
        ("bridge_gaps = true\n", [0, 12], [(0, 1), (12, 1)]),
        ("bridge_gaps = ['6-8', '11-11']\n", [5, 9, 10, 12, 14], [(5, 8), (14, 1)]),
        ("bridge_gaps = true\n", range(0, 99, 9), [(0, 82), (90, 1)]),
        ("max_registers = 8\n", range(17), [(0, 8), (8, 8), (16, 1)]),
        ("bridge_gaps = true\nmax_registers = 8\n", [0, 7, 8, 15, 16], [(0, 1), (7, 2), (15, 2)]),
        ("block = '4-9'\n", [5, 7, 10], [(4, 7)]),
        ("block = '4-9'\n", [5, 11], [(4, 6), (11, 1)]),
    ],
)
def test_neighbours_share_a_request(head, addresses, reads):
    known = spread(*addresses, head=head)
    planned = plan_reads(known, [use(f"a{at}", "m", point=str(at)) for at in addresses])
    assert [(read.address, read.count) for read in planned] == reads
    assert sorted(int(use.point) for read in planned for use in read.uses) == sorted(addresses)


def test_bits_share_a_request_of_sixteen_times_as_many():
    text = MINIMAL.replace("u16", "bool").replace("= 3", "= 2").replace("timeout_ms", "bridge_gaps = true\ntimeout_ms")
    table = text[text.index("[channels.a]") :]
    for i in range(1, 11):
        text += table.replace("channels.a", f"channels.a{i}").replace("= 4", f"= {4 + 144 * i - (i == 10)}")
    names = ["a", *(f"a{i}" for i in range(1, 11))]
    planned = plan_reads(load("bits", text), [use(name, "m") for name in names])
    assert [(read.address, read.count) for read in planned] == [(4, 1440)]
    planned = plan_reads(load("bits", text.replace("= 1443", "= 1444")), [use(name, "m") for name in names])
    assert [(read.address, read.count) for read in planned] == [(4, 1297), (1444, 1)]


@st.composite
def small_plans(draw):
    """A profile's first lines, first and last register of its channels, and how many of them are wanted."""
    head = draw(st.sampled_from(["", "bridge_gaps = true\n", "bridge_gaps = ['3-5', '9-9', '20-30']\n"]))
    head += draw(st.sampled_from(["", "block = '4-7'\n"])) + f"max_registers = {draw(st.integers(6, 24))}\n"
    highest = draw(st.sampled_from([12, 45]))
    channels = draw(st.lists(st.tuples(st.integers(0, highest), st.integers(0, 5)), min_size=1, max_size=8))
    wanted = draw(st.integers(1, min(len(channels), 5)))
    return head, [(first, first + more) for first, more in channels], wanted


def parted(items):
    """Every way to part a list into groups."""
    if not items:
        yield []
        return
    for rest in parted(items[1:]):
        yield [[items[0]], *rest]
        for i, group in enumerate(rest):
            yield [*rest[:i], [items[0], *group], *rest[i + 1 :]]


@given(small_plans())
def test_no_other_requests_are_cheaper(plan):
    """All ways to part the uses into requests, each tried by its registers alone."""
    head, channels, wanted = plan
    text = head + MINIMAL[: MINIMAL.index("[channels.a]")]
    for i, (first, last) in enumerate(channels):
        text += f'[channels.c{i}]\nfunction_code = 3\naddress = {first}\ntype = "u16"\ndecimals = 0\nunit = "m"\n'
        text += f'status_address = {last}\nstatus_flags = {{ 0 = "frozen" }}\n'
    known = load("small", text)
    uses = [use(f"c{i}", "m", point=f"p{i}") for i in range(len(channels))]
    planned = plan_reads(known, uses[:wanted], uses[wanted:])

    def place(each):
        first, last = channels[int(each.channel[1:])]
        return range(4, 8) if known.block and first >= 4 and last <= 7 else range(first, last + 1)

    allowed = {at for each in uses for at in place(each)}
    allowed |= {at for low, high in known.bridge_gaps for at in range(low, min(high, 99) + 1)}

    def cost(requests):
        """Two characters a register and 20 a request; None for what must not be sent."""
        total = 0
        for registers in requests:
            if len(registers) > known.max_registers or not allowed.issuperset(registers):
                return None
            total += 20 + 2 * len(registers)
        return total, len(requests)

    def hull(group):
        return range(min(place(each).start for each in group), max(place(each).stop for each in group))

    costs = [told for groups in parted(uses[:wanted]) if (told := cost([hull(group) for group in groups]))]
    mine = cost([range(read.address, read.address + read.count) for read in planned])
    assert mine == min(costs)
    assert sorted(each.point for read in planned for each in read.uses) == [f"p{i}" for i in range(wanted)]
    for read in planned:
        for each in read.uses:
            assert set(place(each)) <= set(range(read.address, read.address + read.count))


def test_functions_do_not_share_a_request():
    text = MINIMAL + MINIMAL[MINIMAL.index("[channels.a]") :].replace("channels.a", "channels.b").replace("= 3", "= 4")
    planned = plan_reads(load("two", text), [use("b", "m"), use("a", "m")])
    assert [(read.function_code, read.address) for read in planned] == [(3, 4), (4, 4)]


@pytest.mark.parametrize(
    ("wanted", "told"),
    [
        (use("level", "m"), "channel = 'level': allowed are ch0"),
        (use("ch0", "Cel"), "needs range_low and range_high"),
        (use("ch0", "Cel", 5, 5), "needs range_low and range_high"),
    ],
)
def test_a_use_that_does_not_fit_is_refused(wanted, told):
    with pytest.raises(ValueError, match=told):
        plan_reads(profile.builtin("adam-4017p"), [wanted])


# --- the file -----------------------------------------------------------------------------------------------


def problems(text):
    with pytest.raises(ProfileError) as raised:
        load("mine", text)
    found = str(raised.value).splitlines()
    assert len(found) == len(raised.value.mistakes)
    return found


@pytest.mark.parametrize(
    ("address_base", "function_code", "printed"),
    [(0, 3, 4), (1, 4, 5), (40001, 3, 40005), (400001, 3, 400005), (30001, 4, 30005), (10001, 2, 10005)],
)
def test_addresses_stand_as_the_document_prints_them(address_base, function_code, printed):
    text = MINIMAL.replace("address = 4", f"address = {printed}")
    text = text.replace("address_base = 0", f"address_base = {address_base}")
    text = text.replace("function_code = 3", f"function_code = {function_code}")
    known = load("mine", text.replace("u16", "bool") if function_code == 2 else text)
    (read,) = plan_reads(known, [use("a", "m")])
    assert (read.function_code, read.address) == (function_code, 4)
    assert profile.request_text(known, read).endswith(f"({printed} - {printed})")


REPEATED = """
status_address = 90
status_flags = { 0 = "sensor_fault" }
"""


@given(st.integers(1, 20), st.integers(0, 900), st.integers(1, 40))
def test_one_table_is_as_good_as_many(count, first, step):
    head, table = MINIMAL[: MINIMAL.index("[channels.a]")], MINIMAL[MINIMAL.index("[channels.a]") :] + REPEATED
    short = load("short", f"{head}{table}count = {count}\nfirst = {first}\nstep = {step}\n")
    tables = [
        table.replace("channels.a", f"channels.a{first + i}")
        .replace("address = 4", f"address = {4 + i * step}")
        .replace("address = 90", f"address = {90 + i * step}")
        for i in range(count)
    ]
    assert short.channels == load("long", head + "".join(tables)).channels


def test_numbers_start_at_one_and_registers_follow_each_other():
    known = load("mine", MINIMAL + "count = 3\n")
    assert {name: channel.address for name, channel in known.channels.items()} == {"a1": 4, "a2": 5, "a3": 6}


@given(st.integers(0, 0xFFFF - 13))
def test_a_moved_map_keeps_the_documents_numbers(moved_by):
    text = MINIMAL.replace("address_base = 0", f"address_base = 0\nmoved_by = {moved_by}\nblock = '4-13'")
    known = load("mine", text + EXAMPLE)
    (read,) = plan_reads(known, [use("a", "m")])
    assert (read.address, read.count) == (4 + moved_by, 10)
    assert profile.request_text(known, read).endswith("(4 - 13)")
    _, decoder = whole(known, use("a", "m"))
    assert decoder.decode([209, *[0] * 9])[0].value == 209


def test_a_moved_map_takes_its_serial_number_along_but_not_what_tells_where_it_is():
    head, table = MINIMAL[: MINIMAL.index("[channels.a]")], MINIMAL[MINIMAL.index("[channels.a]") :]
    head = head.replace("address_base = 0", "address_base = 40001\nmoved_by = 500")
    text = head + table.replace("= 4", "= 40005") + SERIAL.replace("20", "40021")
    known = load("mine", text + "[[expect]]\nfunction_code = 3\naddress = 41001\nregisters = [500]\n")
    assert known.checks == (profile.Check(3, 520, 2, None), profile.Check(3, 1000, 1, (500,)))
    ultima = profile.builtin("msa-ultima-x")
    assert ultima.checks == (profile.Check(3, 40005, 9, None), profile.Check(3, 1000, 1, (40000,)))
    assert all(not profile.builtin(name).checks for name in profile.builtin_names() if name != ultima.name)


@pytest.mark.parametrize(
    ("stated", "floor_ms"),
    [("timeout_ms = 200", 100), ("timeout_ms = 30", 30), ("timeout_ms = 200\ntimeout_floor_ms = 150", 150)],
)
def test_how_long_a_unit_that_lives_is_always_given(stated, floor_ms):
    assert load("mine", MINIMAL.replace("timeout_ms = 200", stated)).floor_ms == floor_ms


@pytest.mark.parametrize(
    ("stated", "reply_ms"),
    [("timeout_ms = 200", 20), ("timeout_ms = 12", 12), ("timeout_ms = 200\nreply_ms = 0", 0)],
)
def test_how_soon_a_unit_is_reckoned_to_answer(stated, reply_ms):
    assert load("mine", MINIMAL.replace("timeout_ms = 200", stated)).reply_ms == reply_ms
    printed = {name: profile.builtin(name).reply_ms for name in profile.builtin_names()}
    assert {name: ms for name, ms in printed.items() if ms != 20} == {
        "fuel-probe-500ms": 500,
        "io-16do": 3,
        "vegapuls-modbus": 50,
    }


def test_nothing_may_be_written_unless_it_is_listed():
    writing = {name: profile.builtin(name).writes for name in profile.builtin_names() if profile.builtin(name).writes}
    assert writing == {"io-16do": ((5, 3, 3),)}  # what a recording shows the real module do
    known = load("mine", MINIMAL.replace("address_base", "writes = ['5 0-15', '16 100-100']\naddress_base"))
    assert known.writes == ((5, 0, 15), (16, 100, 100))
    assert known.may_write(5, 15) and not known.may_write(5, 16) and not known.may_write(6, 3)


def test_the_blank_profile_explains_each_key():
    text = profile.builtin("generic").text
    tables = [profile._PROFILE_KEYS, profile._CHANNEL_KEYS, profile._EXAMPLE_KEYS, profile._SERIAL_KEYS]
    keys = {key for table in tables for key in table} - {"channels", "example", "serial", "expect"}
    assert all(heading in text for heading in ("[channels.value]", "# [[example]]", "# [serial]", "# [[expect]]"))
    lines = [line.lstrip("# ") for line in text.splitlines()]
    assert [key for key in keys if not any(line.startswith(f"{key} = ") for line in lines)] == []
    assert all(word in text for word in channel.STATUSES)


def test_the_blank_profile_may_be_filled_in():
    """What waits behind a # is what the reader allows there."""
    tables = [profile._PROFILE_KEYS, profile._CHANNEL_KEYS, profile._EXAMPLE_KEYS, profile._SERIAL_KEYS]
    waiting = re.findall(r"(?m)^# (\w+ = .+)$", profile.builtin("generic").text)
    assert len(waiting) > 40
    for line in waiting:
        ((key, value),) = tomllib.loads(line).items()
        assert any(key in table and table[key].is_allowed(value) for table in tables) or key == "same_as", line


def test_everything_wrong_is_told_at_once():
    text = MINIMAL.replace('maker = "M"\n', "").replace("timeout_ms = 200", "timeout_ms = 1").replace('"u16"', '"u17"')
    found = problems('colour = "red"\n' + text + "scale = 0.1\n")
    assert len(found) == 5
    for part in ("[colour] = red", "[maker]: is missing", "[timeout_ms] = 1: ", "a.type] = u17: ", "a.scale] = 0.1: "):
        assert sum(part in problem for problem in found) == 1, part
    assert all(problem.startswith("profile mine") for problem in found)
    assert any("u16, i16" in problem for problem in found)


@pytest.mark.parametrize(
    ("old", "new", "part"),
    [
        ("version = 1", "version = ", "is no TOML"),
        ("version = 1", "version = true", "[version] = true: is not allowed"),
        ('evidence = "manual"', 'evidence = "hearsay"', "manual, code, bench, field"),
        ("address_base = 0", "address_base = 2", "[address_base] = 2: "),
        ("address_base = 0", "address_base = false", "[address_base] = false: "),
        ("address_base = 0", "address_base = 40001", "4 is no register where address_base is 40001"),
        ("address_base = 0", "address_base = 30001", "address_base 30001 means 4"),
        ("address_base = 0", "address_base = 0\nmoved_by = -1", "0 - 65535"),
        ("address_base = 0", "address_base = 0\nmoved_by = 65535", "address_base is 0 and moved_by 65535"),
        ("address_base = 0", 'address_base = 0\nwrites = ["3 0-15"]', "5 0-15"),
        ("address_base = 0", 'address_base = 0\nwrites = ["5 15-0"]', "5 0-15"),
        ("address_base = 0", 'address_base = 0\nwrites = ["6 0-65536"]', "5 0-15"),
        ("address_base = 0", "address_base = 0\nwrites = [5]", "5 0-15"),
        ('unit = "m"', 'unit = "m"\ncount = 0', "1 - 999"),
        ('unit = "m"', 'unit = "m"\nfirst = 0', "first] = 0: goes with count."),
        ('unit = "m"', 'unit = "m"\nstep = 2', "step] = 2: goes with count."),
        (
            'unit = "m"',
            'unit = "m"\n[channels.b]\nsame_as = "a"\ncount = 2\n[channels.b1]\nsame_as = "a"',
            "b1 stands twice",
        ),
        ("address_base = 0", 'address_base = 0\nline = "9600"', "9600 8N1"),
        ("address_base = 0", 'address_base = 0\nblock = "all"', '"0-9"'),
        ("address_base = 0", "address_base = 0\nbridge_gaps = 1", "true, false"),
        ("[channels.a]", "[channel.a]", "[channels]: is missing"),
        ("[channels.a]", "[channels]\nb = 1\n[channels.a]", "[channels.b] = 1: must be a table"),
        ("function_code = 3", "function_code = 2", "bool goes with"),
        ("function_code = 3", "function_code = 3\nbit = 4", "bool goes with"),
        ("function_code = 3", "function_code = 1\nbit = 4", "goes with function_code 3 and 4"),
        ("function_code = 3", "function_code = 3\nbit = 16", "0 - 15"),
        ("function_code = 3", "function_code = 6", "1, 2, 3, 4"),
        ("address = 4", "address = -1", "0 - 465536"),
        ('type = "u16"', 'type = "f32"', "word_order]: is for types of two registers"),
        ('type = "u16"', 'type = "u16"\nword_order = "ABCD"', "word_order] = ABCD: is for types of two registers"),
        ('unit = "m"', "", "one of unit, unit_address and raw_4ma"),
        ('unit = "m"', "\n".join(f"{key} = 4" for key in channel.Current._fields), "raw_4ma] = 4: goes with"),
        ('unit = "m"', 'unit = "m"\nraw_4ma = 0.0', "goes with all of raw_20ma, wire_break_below_ma"),
        ('unit = "m"', 'unit = "m"\nstatus_address = 5', "status_flags]: goes with status_address."),
        ('unit = "m"', 'unit = "m"\nstate_codes = { 1 = "good" }', "state_codes]: goes with state_address."),
        ('unit = "m"', 'unit = "m"\nstate_address = 5\nstate_codes = { 1 = "fine" }', '"warm_up"'),
        ('unit = "m"', 'unit = "m"\nstatus_address = 5\nstatus_flags = { 32 = "frozen" }', "0 - 31"),
        ('unit = "m"', 'unit = "m"\ndetail_address = 5\ndetail_bits = "0-7"', "from the highest bit"),
        ('unit = "m"', 'unit = "m"\ndetail_address = 5\ndetail_bits = "16-0"', "at most 15-0"),
        ('unit = "m"', 'unit = "m"\ndetail_address = 94', "span 91 registers; one request has 90"),
        ('unit = "m"', 'unit = "m"\nsame_as = "b"', "same_as] = b: is not allowed"),
        ('unit = "m"', 'unit_address = 5\nunit_codes = { m = "m" }', "unit_codes"),
        ("timeout_ms = 200", "timeout_ms = 200\ntimeout_floor_ms = 201", "[timeout_floor_ms] = 201: is longer"),
        ("timeout_ms = 200", "timeout_ms = 200\ntimeout_floor_ms = 9", "10 - 10000"),
        ("timeout_ms = 200", "timeout_ms = 200\nreply_ms = 201", "[reply_ms] = 201: is longer"),
        ('unit = "m"', 'unit = "m"\nvalid_low = 5\nvalid_high = 5', "valid_low] = 5: must be below valid_high = 5"),
        ('unit = "m"', 'unit = "m"\nvalid_high = "5"', "valid_high] = 5: is not allowed"),
        ('unit = "m"', 'unit_address = 5\nunit_codes = { 1 = "m" }\nvalid_high = 5', "= 5: is for numbers in one unit"),
        ('unit = "m"', 'unit = "m"\nneeds = "b"', "needs] = b: is no other channel of this profile (-)."),
        ('unit = "m"', 'unit = "m"\nneeds = "a"', "needs] = a: is no other channel"),
        ('unit = "m"', 'unit = "m"\nneeds = "{n}"', 'needs] = {n}: is not allowed. Allowed is: "status", "status{n}".'),
        ("address_base = 0", "address_base = 0\nbridge_gaps = ['9']", '["10-14", …]'),
        ("[channels.a]", "serial = 7\n[channels.a]", "[serial] = 7: is not allowed. Allowed is: [serial]."),
        ("[channels.a]", "[serial]\nfunction_code = 3\n[channels.a]", "[serial.address]: is missing"),
        ("[channels.a]", SERIAL.replace("2", "91") + "[channels.a]", "1 - 90"),
        ("[channels.a]", SERIAL.replace("20", "65535") + "[channels.a]", "65535: 65535 is no register"),
        ("[channels.a]", "[[expect]]\nregisters = []\n[channels.a]", "[expect.1.registers] = []"),
        ("address_base = 0", "address_base = 0\nmax_registers = 1\n" + SERIAL, "2 registers to be checked"),
    ],
)
def test_a_mistake_in_a_file(old, new, part):
    assert old in MINIMAL
    found = problems(MINIMAL.replace(old, new))
    assert any(part in problem for problem in found), found


def test_a_mistake_of_many_channels_is_told_once():
    (found,) = problems(MINIMAL + 'count = 20\nneeds = "b{n}"\n')
    assert "[channels.a.needs] = b1: is no other channel of this profile (a2, a3" in found
    (found,) = problems(MINIMAL + "count = 20\nstep = 9999\n")
    assert "69997 is no register" in found  # 4 + 7 * 9999


EXAMPLE = """
[[example]]
source = "paper, p. 2"
channel = "a"
address = 4
registers = [0x00D1]
value = 209
unit = "m"
"""


def test_an_example_proves():
    assert not load("mine", MINIMAL).proven
    assert load("mine", MINIMAL + EXAMPLE).proven


@pytest.mark.parametrize(
    ("old", "new", "part"),
    [
        ("209", "208", "printed is 208 (good), but it reads as 209 (good)."),
        ("value = 209\n", "", "printed is nothing (good)"),
        ('unit = "m"', 'unit = "m"\nstatus = "over_range"', "printed is 209 (over range)"),
        ('unit = "m"', 'unit = "Cel"', "Cel does not fit: a is in m"),
        ('channel = "a"', 'channel = "b"', "channel b does not exist"),
        ("address = 4", "address = 5", "do not hold the whole channel"),
        ("[0x00D1]", "[]", "do not hold the whole channel"),
        ("[0x00D1]", "[65536]", "[0x0000 - 0xFFFF, …]"),
        ('source = "paper, p. 2"\n', "", "source]: is missing"),
    ],
)
def test_an_example_that_is_read_otherwise_refuses_the_profile(old, new, part):
    assert old in EXAMPLE
    (found,) = problems(MINIMAL + EXAMPLE.replace(old, new))
    assert part in found
    assert "[example.1" in found


def test_each_printed_value_of_a_built_in_profile_matters():
    text = profile.builtin("gas-module-6in1").text
    for printed, other in (("value = 0\n", "value = 1\n"), ("-24.6", "-24.5"), ("60.8\n", "60.7\n")):
        assert text.count(printed) == 1
        (found,) = problems(text.replace(printed, other))
        assert "PROTOCOL.md" in found


def test_the_file_stays_with_the_profile():
    known = load("mine", MINIMAL)
    assert (known.text, known.line, known.default_unit_id) == (MINIMAL, None, None)
    assert (known.spacing_ms, known.late_ms, known.max_registers) == (0, 1000, 125)
    assert profile.builtin("gas-module-6in1").spacing_ms == 500


@pytest.mark.parametrize(
    ("old", "new", "told"),
    [
        ("decimals = 0", 'decimals = 0\nstate_address = 5\nstate_codes = { 06 = "frozen" }', "Allowed is: { 0 - "),
        ("decimals = 0", 'decimals = 0\nstate_address = 5\nstate_codes = { 6 = "good", 0x6 = "good" }', "{ 0 - "),
        ("[channels.a]", "[channels.1]\nsame_as = 1\n[channels.a]", "same_as] = 1: is not allowed"),
        ("timeout_ms = 200", "timeout_ms = " + "9" * 5000, "is no TOML"),
        ("timeout_ms = 200", "timeout_ms = " + "[" * 5000, "is no TOML"),
        ("timeout_ms = 200", 'timeout_ms = 200\nline = "50 8N1"', '= 50 8N1: is not allowed. Allowed is: "9600 8N1"'),
        ('unit = "m"', "raw_4ma = 0\nraw_20ma = " + "9" * 400, "Allowed is: 0.0"),
    ],
    ids=lambda text: text[:20],
)
def test_what_fuzzing_found_is_told(old, new, told):
    assert old in MINIMAL
    assert any(told in problem for problem in problems(MINIMAL.replace(old, new, 1)))
