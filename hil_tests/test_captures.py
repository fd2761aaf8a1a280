"""What real devices said: every recorded frame through our Modbus, and their readings out of the feed."""

import csv
import itertools
import struct
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from pathlib import Path
from typing import NamedTuple

import pytest

from hil_tests import tshark
from hil_tests.bench.line import Line
from hil_tests.bench.rig import N_, Rig, lay_bus
from hil_tests.bench.units import Answer
from hil_tests.mosquitto import Mosquitto
from hil_tests.small_site import BOARD, Bus, Reading, SmallSite
from protocols import modbus, modbus_edge, model, profile, trace

TRACES = Path(__file__).parent / "traces"
CAPTURES = {
    "flowmeter_target0_val0": "flow-meter",
    "flowmeter_target_15liter_per_min": "flow-meter",
    "brainchild-io-16do": "io-16do",  # comes along
}
FLOW_METER, IO_MODULE = "flowmeter_target_15liter_per_min", "brainchild-io-16do"
DEVICES = (("flow", "9600 8N1", FLOW_METER), ("io", "19200 8E1", IO_MODULE))
BITS = (modbus.READ_COILS, modbus.READ_DISCRETE_INPUTS)
POINTS = """\
point,name,area,bus,unit_id,profile,channel,unit,period_s
FT1.flow,flow,hall,flow,247,flow-meter,flow,L/min,0.1
FT1.temperature,gas,hall,flow,247,flow-meter,temperature,℃,0.1
FT1.signal,signal,hall,flow,247,flow-meter,analog_input,V,0.1
FT1.valve,valve,hall,flow,247,flow-meter,valve,%,0.1
XV1.coil,valve,hall,io,1,io-16do,coil_3,1,0.5
XV1.input,valve,hall,io,1,io-16do,input_0,1,0.5
XV1.mode,valve,hall,io,1,io-16do,holding_99,1,0.5
XV1.baud,module,hall,io,1,io-16do,baud,1,0.5
"""


class Exchange(NamedTuple):
    """One request and its reply. `number` is the reply's frame number, as Wireshark counts."""

    number: int
    request: bytes
    reply: bytes


def exchanges(pcapng: bytes) -> list[Exchange]:
    """Of a capture in which each request has one reply, as these have."""
    pairs = [(each.request, *each.replies) for each in trace.exchanges(trace.read(pcapng).frames, 0)]
    return [Exchange(reply.number, request.data, reply.data) for request, reply in pairs]


def recorded(capture: str) -> list[Exchange]:
    return exchanges((TRACES / f"{capture}.pcapng").read_bytes())


def expected(capture: str) -> dict[int, dict[str, float]]:
    """Frame number of a reply -> channel -> value."""
    with (TRACES / f"{capture}.csv").open(newline="") as file:
        return {
            int(row.pop("frame")): {channel: float(value) for channel, value in row.items() if value}
            for row in csv.DictReader(file)
        }


def profile_of(capture: str) -> profile.Profile:
    name = CAPTURES[capture]
    if name in profile.builtin_names():
        return profile.builtin(name)
    return profile.load(name, (TRACES / f"{name}.toml").read_text(encoding="utf-8"))


def registers(exchange: Exchange, data: bytes) -> list[int]:
    if exchange.request[1] in BITS:
        return modbus_edge.unpack_bits(data, int.from_bytes(exchange.request[4:6]))
    return modbus_edge.unpack_registers(data)


def ask(exchange: Exchange, pieces: list[bytes]) -> tuple[int, bytes]:
    """How a transaction ends that began with the recorded request, and the data of its reply."""
    transaction = modbus.Transaction()
    transaction.request[: len(exchange.request)] = exchange.request
    transaction.begin(len(exchange.request))
    outcome = modbus.PENDING
    for piece in pieces:
        outcome = transaction.feed(piece, len(piece))
    if outcome == modbus.PENDING:
        outcome = transaction.finish()
    start = transaction.data_start
    return outcome, bytes(transaction.reply[start : start + transaction.data_bytes])


every_exchange = pytest.mark.parametrize(
    "exchange",
    [
        pytest.param(exchange, id=f"{capture}:{exchange.number}")
        for capture in CAPTURES
        # One of each kind: the captures say the same things many times over.
        for exchange in {exchange[1:]: exchange for exchange in recorded(capture)}.values()
    ],
)


# --- frames -------------------------------------------------------------------------------------------------


def test_the_captures_are_read_whole() -> None:
    assert {capture: len(recorded(capture)) for capture in CAPTURES} == {
        "flowmeter_target0_val0": 37,
        "flowmeter_target_15liter_per_min": 66,
        "brainchild-io-16do": 15,
    }
    assert recorded(IO_MODULE)[0] == (2, bytes.fromhex("0101000300010dca"), bytes.fromhex("0101010190 48"))


@every_exchange
def test_both_roles_find_the_length_and_the_crc(exchange: Exchange) -> None:
    request, reply = exchange.request, exchange.reply
    assert modbus.request_length(request, 0, len(request)) == len(request)
    assert modbus.reply_length(reply, 0, len(reply)) == len(reply)
    for frame in (request, reply):
        assert modbus.crc_ok(frame, 0, len(frame))
        assert modbus_edge.frame(frame[:-2]) == frame


@every_exchange
def test_the_master_would_have_sent_these_bytes(exchange: Exchange) -> None:
    unit_id, function_code, address, word = struct.unpack(">BBHH", exchange.request[:6])
    if function_code <= modbus.READ_INPUT_REGISTERS:
        request = modbus_edge.read_request(unit_id, function_code, address, word)
    elif function_code <= modbus.WRITE_REGISTER:
        value = word == 0xFF00 if function_code == modbus.WRITE_COIL else word
        request = modbus_edge.write_request(unit_id, function_code, address, value)
    else:
        data = exchange.request[7:-2]
        coils = function_code == modbus.WRITE_COILS
        values = modbus_edge.unpack_bits(data, word) if coils else modbus_edge.unpack_registers(data)
        request = modbus_edge.write_many_request(unit_id, function_code, address, values)
    assert request == exchange.request


@every_exchange
def test_the_unit_would_have_sent_these_bytes(exchange: Exchange) -> None:
    unit_id, function_code = exchange.reply[:2]
    if function_code <= modbus.READ_INPUT_REGISTERS:
        reply = modbus_edge.read_reply(unit_id, function_code, exchange.reply[3:-2])
    else:
        reply = modbus_edge.write_reply(exchange.request)
    assert reply == exchange.reply


@every_exchange
def test_the_master_takes_the_reply_however_it_comes(exchange: Exchange) -> None:
    reply = exchange.reply
    data = reply[3:-2] if reply[1] <= modbus.READ_INPUT_REGISTERS else reply[2:-2]
    assert ask(exchange, [reply]) == (modbus.OK, data)
    assert ask(exchange, [bytes((byte,)) for byte in reply]) == (modbus.OK, data)
    assert ask(exchange, [b"\x00" + reply + b"\xff"]) == (modbus.OK, data)


@every_exchange
def test_the_master_takes_no_damaged_reply(exchange: Exchange) -> None:
    reply = exchange.reply
    for at in range(len(reply)):
        assert ask(exchange, [reply[:at] + reply[at + 1 :]])[0] not in (modbus.OK, modbus.EXCEPTION)
        for bit in range(8):
            flipped = reply[:at] + bytes((reply[at] ^ 1 << bit,)) + reply[at + 1 :]
            assert ask(exchange, [flipped])[0] not in (modbus.OK, modbus.EXCEPTION)


@pytest.mark.needs("tshark")
@pytest.mark.parametrize("capture", CAPTURES)
def test_wireshark_judges_each_frame_alike(capture: str, tmp_path: Path) -> None:
    """With a bit flipped near the end of every third frame: where the head is damaged, Wireshark does not judge."""
    file = tmp_path / "damaged.pcapng"
    pcapng = bytearray((TRACES / f"{capture}.pcapng").read_bytes())
    at = 0
    frames = [frame for exchange in recorded(capture) for frame in exchange[1:]]
    for number, frame in enumerate(frames):
        at = pcapng.index(frame, at)
        if number % 3 == 2:
            pcapng[at + len(frame) - 1 - number % 4] ^= 0x10
        at += len(frame)
    file.write_bytes(pcapng)
    ours = [
        "1" if modbus.crc_ok(frame, 0, len(frame)) else "0"
        for exchange in exchanges(bytes(pcapng))
        for frame in exchange[1:]
    ]
    assert ours.count("0") == len(frames) // 3
    assert [packet["mbrtu.crc16.status"] for packet in tshark.packets(file)] == ours


# --- readings -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("capture", CAPTURES)
def test_the_profiles_ask_and_read_as_recorded(capture: str) -> None:
    known = profile_of(capture)
    by_number = {exchange.number: exchange for exchange in recorded(capture)}
    for number, values in expected(capture).items():
        uses = [
            profile.ChannelUse(channel, channel, next(iter(known.channels[channel].units.values())), None, None)
            for channel in values
        ]
        (read,) = profile.plan_reads(known, uses)
        exchange = by_number[number]
        assert exchange.request == modbus_edge.read_request(
            exchange.request[0], read.function_code, read.address, read.count
        )
        _outcome, data = ask(exchange, [exchange.reply])
        readings = profile.Decoder(known, read).decode(registers(exchange, data))
        assert {reading.point: reading for reading in readings} == {
            channel: model.Reading(channel, as_sent(value), model.GOOD, 0) for channel, value in values.items()
        }


def as_sent(value: float) -> float:
    """The float32 that a decimal of the tables stands for."""
    return struct.unpack(">f", struct.pack(">f", value))[0]


class Recorded:
    """A unit that says what the captured one said: to each request its replies, in order, each of them once."""

    def __init__(self, capture: str) -> None:
        self.profile = profile_of(capture)
        self._exchanges = recorded(capture)
        self.unit_id = self._exchanges[0].request[0]

    def answer(self, request: bytes, _measure: Callable[[str], float]) -> Answer:
        for exchange in self._exchanges:
            if exchange.request == request:
                self._exchanges.remove(exchange)
                return Answer(exchange.reply, 0.003, ())
        return Answer(b"", 0, ())


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[Mosquitto]:
    broker = Mosquitto(tmp_path, "allow_anonymous true")
    yield broker
    broker.close()


@pytest.mark.needs("mosquitto", "micropython", "two_buses")
@pytest.mark.shows(
    N_("What a real flow meter and a real I/O module once said on two buses comes out of the feed, value by value.")
)
def test_what_the_devices_said_comes_out_of_the_feed(rig: Rig, broker: Mosquitto, tmp_path: Path) -> None:
    points = list(csv.DictReader(POINTS.splitlines()))
    lines = {
        name: Line(name, model.Line.parse(settings), [Recorded(capture)], lambda _point, _at_s: 0.0)
        for name, settings, capture in DEVICES
    }
    buses = {
        name: lay_bus(rig, BOARD, uart, line, lambda _exchange: None)
        for uart, (name, line) in enumerate(lines.items(), 1)
    }
    on_board = [Bus(name, settings, buses[name].port.path) for name, settings, _capture in DEVICES]
    profiles = {file.stem: file.read_text(encoding="utf-8") for file in TRACES.glob("*.toml")}
    with ExitStack() as stack:
        for bus in buses.values():
            stack.callback(bus.port.close)
        site = stack.enter_context(closing(SmallSite(rig, tmp_path, broker.port, on_board, POINTS, profiles)))
        for bus in buses.values():
            site.watch(bus.port.fileno(), lambda bus=bus: bus.receive(time.monotonic()))
        site.until(
            lambda: sum(readings[-1].value is None for readings in site.readings.values()) == len(points),
            lambda: [bus.run(time.monotonic()) for bus in buses.values()],
        )
    assert site.readings == {
        row["point"]: [
            *(Reading(value, model.GOOD, 0) for value in said(FLOW_METER if row["bus"] == "flow" else IO_MODULE, row)),
            Reading(None, model.NO_REPLY, 0),  # the recording is at its end
        ]
        for row in points
    }
    assert all(line.too_soon == line.stray_bytes == 0 for line in lines.values())


def said(capture: str, row: dict[str, str]) -> list[float]:
    """The channel's values in the recording, without repetitions: an unchanged value is reported once."""
    values = [values[row["channel"]] for values in expected(capture).values() if row["channel"] in values]
    return [value for value, _same in itertools.groupby(values)]
