"""What real devices said: every recorded frame through our Modbus, and their readings out of the feed."""

import csv
import itertools
import struct
import time
from collections.abc import Iterator
from contextlib import ExitStack, closing
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import pytest

from hil_tests import tshark
from hil_tests.bench.player import MATCHED, TIMED, Pace, Player, both_sides
from hil_tests.bench.rig import N_, Rig, lay_bus
from hil_tests.mosquitto import Mosquitto
from hil_tests.small_site import BOARD, Bus, Reading, SmallSite
from protocols import modbus, modbus_edge, model, profile, trace
from protocols.cutter import Cutter

TRACES = Path(__file__).parent / "traces"
CAPTURES = sorted(file.stem for file in TRACES.glob("*.pcapng"))
IO_MODULE = "brainchild-io-16do"
SHEET_UNITS = {"Cel": "℃", "L": None}  # of UCUM; a sheet has no litres
BITS = (modbus.READ_COILS, modbus.READ_DISCRETE_INPUTS)


class Exchange(NamedTuple):
    """One request and its reply. `number` is the reply's frame number, as Wireshark counts."""

    number: int
    request: bytes
    reply: bytes


def frames(capture: str) -> list[trace.Frame]:
    return list(trace.read((TRACES / f"{capture}.pcapng").read_bytes()).frames)


def settings(capture: str) -> model.Line:
    [port] = trace.read((TRACES / f"{capture}.pcapng").read_bytes()).ports
    assert port.line is not None
    return port.line


def recorded(capture: str) -> list[Exchange]:
    """The requests that one intact reply followed."""
    answered = [each for each in trace.exchanges(frames(capture), 0) if len(each.replies) == 1]
    pairs = [(each.request, *each.replies) for each in answered]
    return [Exchange(reply.number, request.data, reply.data) for request, reply in pairs if intact(request, reply)]


def intact(*frames: trace.Frame) -> bool:
    return all(modbus.crc_ok(frame.data, 0, len(frame.data)) for frame in frames)


def rows(capture: str) -> list[dict[str, str]]:
    """What is known of it: a row for each reply that a profile reads; its number in Wireshark, channel -> value."""
    with (TRACES / f"{capture}.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def expected(capture: str) -> dict[int, dict[str, float]]:
    """Frame number of a reply -> channel -> value."""
    return {
        int(row["frame"]): {
            channel: float(value) for channel, value in row.items() if value and channel not in ("frame", "profile")
        }
        for row in rows(capture)
    }


def profile_of(capture: str) -> profile.Profile:
    name = rows(capture)[0]["profile"]
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


@pytest.mark.parametrize(
    ("capture", "count"),
    [("flowmeter_target0_val0", 37), ("flowmeter_target_15liter_per_min", 66), (IO_MODULE, 15)],
)
def test_the_captures_are_read_whole(capture: str, count: int) -> None:
    assert len(recorded(capture)) == count


@pytest.mark.parametrize("capture", CAPTURES)
def test_every_expected_reading_has_its_exchange(capture: str) -> None:
    assert expected(capture).keys() <= {exchange.number for exchange in recorded(capture)}


def test_a_frame_number_is_as_wireshark_counts() -> None:
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
    damaged = []
    for number, frame in enumerate(filter(intact, frames(capture))):
        data = bytearray(frame.data)
        if number % 3 == 2:
            data[len(data) - 1 - number % 4] ^= 0x10
        damaged.append(replace(frame, data=bytes(data)))
    file.write_bytes(trace.write([trace.Port("damaged")], damaged))
    ours = ["1" if intact(frame) else "0" for frame in damaged]
    assert ours.count("0") == len(damaged) // 3
    judged = [packet["mbrtu.crc16.status"] for packet in tshark.packets(file) if "mbrtu.crc16.status" in packet]
    assert judged == ours


@pytest.mark.parametrize("capture", CAPTURES)
def test_a_listener_finds_every_frame_and_who_sent_it(capture: str) -> None:
    cutter = Cutter(0)
    found: list[trace.Frame] = []
    for at_s, frame in both_sides(frames(capture), Pace()):
        at_us = round(at_s * 1e6)
        found += cutter.feed(frame.data, at_us, at_us + frame.last_us - frame.first_us)
    found += cutter.finish()
    assert [(frame.event, frame.data) for frame in found] == [(frame.event, frame.data) for frame in frames(capture)]


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


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[Mosquitto]:
    broker = Mosquitto(tmp_path, "allow_anonymous true")
    yield broker
    broker.close()


@pytest.mark.needs("mosquitto", "micropython", "two_buses")
@pytest.mark.shows(N_("What a real device was recorded to say comes out of the feed, value by value."))
@pytest.mark.parametrize("capture", CAPTURES)
def test_what_a_device_said_comes_out_of_the_feed(capture: str, rig: Rig, broker: Mosquitto, tmp_path: Path) -> None:
    """One board has the recording on both its buses, played in both ways, until there is nothing more to say."""
    line, known = settings(capture), profile_of(capture)
    players = {mode: Player(mode, line, frames(capture), mode) for mode in (TIMED, MATCHED)}
    buses = {
        mode: lay_bus(rig, BOARD, uart, player, lambda _exchange: None)
        for uart, (mode, player) in enumerate(players.items(), 1)
    }
    played: dict[str, list[trace.Frame]] = {mode: [] for mode in players}
    on_board = [Bus(mode, str(line), bus.port.path) for mode, bus in buses.items()]
    channels = dict.fromkeys(channel for values in expected(capture).values() for channel in values)
    read = {channel: said(capture, channel) for channel in channels if sheet_unit(known, channel)}
    points = {f"{mode}.{channel}": channel for mode in players for channel in read}
    profiles = {file.stem: file.read_text(encoding="utf-8") for file in TRACES.glob("*.toml")}
    with ExitStack() as stack:
        for bus in buses.values():
            stack.callback(bus.port.close)
        sheet = points_sheet(points, known, recorded(capture)[0].request[0])
        site = stack.enter_context(closing(SmallSite(rig, tmp_path, broker.port, on_board, sheet, profiles)))
        for mode, bus in buses.items():
            site.watch(bus.port.fileno(), lambda bus=bus: bus.receive(time.monotonic()))
            bus.record = played[mode].append
        site.until(
            lambda: sum(readings[-1].value is None for readings in site.readings.values()) == len(points),
            lambda: [bus.run(time.monotonic()) for bus in buses.values()],
        )
    assert {point: without_lost_polls(readings) for point, readings in site.readings.items()} == {
        point: [
            *(Reading(value, model.GOOD, 0) for value in read[channel]),
            Reading(None, model.NO_REPLY, 0),  # the recording is at its end
        ]
        for point, channel in points.items()
    }
    requests = {exchange.request for exchange in recorded(capture)}
    for mode, player in players.items():
        assert requests.issuperset(player.unknown)
        silences = [gap_us for frame, gap_us in trace.silences(played[mode]) if frame.event == trace.SENT]
        assert min(filter(None, silences)) >= line.silence_us - 2


def without_lost_polls(readings: list[Reading]) -> list[Reading]:
    """A bench held up for longer than a reply may take loses a poll; only after that a value may come again."""
    told: list[Reading] = []
    for before, each in itertools.pairwise([None, *readings[:-1]]):
        assert each is not None
        is_again = before is not None and before.status == model.NO_REPLY and told[-1:] == [each]
        if each.status != model.NO_REPLY and not is_again:
            told.append(each)
    return [*told, readings[-1]]


def sheet_unit(known: profile.Profile, channel: str) -> str | None:
    """A channel's unit as a sheet has it, if it has."""
    unit = next(iter(known.channels[channel].units.values()))
    return SHEET_UNITS.get(unit, unit)


def points_sheet(points: dict[str, str], known: profile.Profile, unit_id: int) -> str:
    """The rows of these points, name -> channel, each on the bus that its name begins with."""
    rows = ["point,name,area,bus,unit_id,profile,channel,unit,period_s"]
    for point, channel in points.items():
        unit, bus = sheet_unit(known, channel), point.partition(".")[0]
        rows.append(f"{point},{channel},hall,{bus},{unit_id},{known.name},{channel},{unit},0.1")
    return "\n".join(rows) + "\n"


def said(capture: str, channel: str) -> list[float]:
    """The channel's values in the recording, without repetitions: an unchanged value is reported once."""
    values = [values[channel] for values in expected(capture).values() if channel in values]
    return [value for value, _same in itertools.groupby(values)]
