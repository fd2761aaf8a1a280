"""What the bench writes of its lines: every frame with its virtual times, and what was done to it, for tshark too."""

from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from hil_tests import tshark
from hil_tests.bench.bus import Bus
from hil_tests.bench.capture import Capture
from hil_tests.bench.line import Line
from hil_tests.bench.sheet import Point
from hil_tests.bench.units import FAULTS, SILENT, Unit
from protocols import modbus, modbus_edge, model, profile, trace

START_UTC_MS = 1_700_000_000_000
SETTINGS = model.Line.parse("9600 8N1")
CHAR_US = 10 / 9600 * 1e6
REQUEST = modbus_edge.read_request(1, 4, 100, 8)
REPLY_BYTES = 5 + 16


def radar_bus() -> Bus:
    point = Point("TK101.level", "level", 1, "vegapuls-modbus", "level", "m", 0, 12.5, 2000, 0.01, 60)
    radar = Unit(1, profile.builtin("vegapuls-modbus"), [point])
    return Bus(Line("level", SETTINGS, [radar], lambda _point, _now_s: 5.0), lambda _exchange: None)


@pytest.fixture
def bus() -> Iterator[Bus]:
    bus = radar_bus()
    with closing(bus.port):
        yield bus


def ask(bus: Bus, now_s: float, request: bytes = REQUEST) -> None:
    """Have the request on the line at this virtual time, and let the line run until nothing is due."""
    bus.line.heard(request, now_s)
    bus.run(now_s)
    while (due_s := bus.line.due_s()) is not None:
        bus.run(due_s)


def test_each_frame_has_the_times_of_its_first_and_last_byte(bus: Bus, tmp_path: Path) -> None:
    file = tmp_path / "level.pcapng"
    with closing(Capture(file, [bus], START_UTC_MS)):
        ask(bus, 1.5)
        ask(bus, 2.0, b"\xff" + modbus_edge.read_request(9, 3, 0, 1))  # nobody is there
    ask(bus, 3.0)
    read = trace.read(file.read_bytes())
    assert read.ports == (trace.Port("level", SETTINGS),)
    request, reply, stray, unanswered = read.frames
    asked_us = START_UTC_MS * 1000 + 1_500_000
    assert (request.event, request.data, request.first_us) == (trace.SENT, REQUEST, asked_us)
    assert request.last_us - asked_us == pytest.approx(8 * CHAR_US, abs=1)
    assert (reply.event, len(reply.data), reply.comment) == (trace.RECEIVED, REPLY_BYTES, "")
    first_byte_us = bus.line.units[1].first_byte_s * 1e6
    assert reply.first_us - request.last_us == pytest.approx(first_byte_us, abs=2)
    assert reply.last_us - reply.first_us == pytest.approx(REPLY_BYTES * CHAR_US, abs=1)
    assert (stray.data, unanswered.data[0]) == (b"\xff", 9)


def record_every_fault(bus: Bus, file: Path) -> None:
    """A capture of good exchanges, and of each fault that a unit or a line can have."""
    line, unit = bus.line, bus.line.units[1]
    with closing(Capture(file, [bus], START_UTC_MS)):
        for at_s, fault in enumerate(FAULTS, 10):
            unit.break_down(fault, 1)
            ask(bus, 3.0 * at_s)
        line.pause = (7, 0.02)
        ask(bus, 100.0)
        line.pause = None
        line.echoes = True
        ask(bus, 103.0)
        line.echoes = False
        line.noise = 0.05
        for at_s in range(105, 120):
            ask(bus, at_s)
        line.noise = 0.0
        line.connected = False
        ask(bus, 120.0)
        line.connected = True
        ask(bus, 123.0)


@pytest.mark.needs("tshark")
def test_whatever_is_injected_is_named_and_nothing_else_is_malformed(bus: Bus, tmp_path: Path) -> None:
    file = tmp_path / "faults.pcapng"
    record_every_fault(bus, file)
    frames = trace.read(file.read_bytes()).frames
    comments = [frame.comment.removeprefix(trace.INJECTED) for frame in frames if frame.comment]
    told = {fault for comment in comments for fault in comment.split(", ")}
    assert told == {*FAULTS, "pause", "echo", "noise", "noise in the request", "cut cable"}
    [silent] = (frame for frame in frames if frame.comment == trace.INJECTED + SILENT)
    assert silent.event == trace.SENT
    packets = tshark.packets(file)
    for frame in frames:
        seen = packets[frame.number - 1]
        assert seen.get("frame.comment", "") == frame.comment
        is_intact = modbus.crc_ok(frame.data, 0, len(frame.data))
        assert is_intact or frame.comment
        if not frame.comment:
            assert (seen["mbrtu.crc16.status"], "_ws.malformed" in seen) == ("1", False)
