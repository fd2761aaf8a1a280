"""Captures: written and read back, cut off anywhere, damaged, foreign; and what tshark makes of them."""

import struct
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hil_tests import tshark
from protocols import modbus, modbus_edge, trace
from protocols.model import Line
from protocols.trace import RECEIVED, SENT, Frame, Port

ROOT = Path(__file__).parents[2]
CAPTURES = sorted((ROOT / "hil_tests" / "traces").glob("*.pcapng"))
PORTS = (Port("/dev/ttyUSB0", Line(9600, 8, "N", 1)), Port("气体", Line(19200, 8, "E", 1), "rebuilt"), Port("tty"))
START_US = 1_700_000_000_000_000
REQUEST = modbus_edge.read_request(7, 3, 100, 2)
REPLY = modbus_edge.read_reply(7, 3, b"\x41\x20\x00\x00")
FRAMES = (
    Frame(0, SENT, START_US, START_US + 8333, REQUEST),
    Frame(0, RECEIVED, START_US + 20_000, START_US + 29_375, REPLY),
    Frame(1, SENT, START_US + 100_000, START_US + 104_600, REQUEST),
    Frame(1, RECEIVED, START_US + 110_000, START_US + 114_000, REPLY[:-1] + b"\x00", f"{trace.INJECTED}noise 干扰"),
    Frame(2, trace.FRAMING, START_US + 200_000, START_US + 200_000, b"\xfe"),
    Frame(2, trace.BREAK, START_US + 210_000, START_US + 210_000, b""),
    Frame(2, trace.LOST, START_US + 220_000, START_US + 220_000, b""),
)
WRITTEN = trace.write(PORTS, FRAMES)


def test_what_is_written_is_read() -> None:
    assert trace.read(WRITTEN) == trace.Trace(PORTS, FRAMES, None)
    assert [frame.number for frame in trace.read(WRITTEN).frames] == [1, 3, 5, 7, 9, 10, 11]


def test_captures_are_appended_to_each_other() -> None:
    read = trace.read(WRITTEN + WRITTEN)
    assert read.ports == PORTS + PORTS
    assert [frame.port for frame in read.frames] == [*(f.port for f in FRAMES), *(f.port + 3 for f in FRAMES)]


def test_a_file_that_was_cut_off_anywhere_is_read_up_to_its_last_whole_packet() -> None:
    sizes = [len(trace.head(PORTS))]
    for frame in FRAMES:
        sizes.append(sizes[-1] + len(trace.packets(frame)))
    for length in range(len(WRITTEN)):
        read = trace.read(WRITTEN[:length])
        whole = sum(size <= length for size in sizes[1:])
        assert read.frames[:whole] == FRAMES[:whole]
        assert len(read.frames) <= whole + 1  # its end packet may be what is missing
        assert read.cut_at is None or read.cut_at <= length
        assert read.cut_at is not None or length == 0 or trace.read(WRITTEN[:length] + WRITTEN).cut_at is None


@given(st.binary(max_size=200), st.integers(0, len(WRITTEN)), st.integers(0, 40))
def test_any_bytes_are_read_or_refused_by_name(junk: bytes, at: int, over: int) -> None:
    for data in (junk, WRITTEN[:at] + junk + WRITTEN[at + over :]):
        try:
            read = trace.read(data)
        except ValueError as error:
            assert "expected is" in str(error)
        else:
            assert all(frame.port < len(read.ports) and frame.first_us <= frame.last_us for frame in read.frames)


def damaged(at: int, value: bytes) -> bytes:
    return WRITTEN[:at] + value + WRITTEN[at + len(value) :]


INTERFACE_AT = 28
PACKET_AT = len(trace.head(PORTS))


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"\xd4\xc3\xb2\xa1" + bytes(40), "begins with d4c3b2a1"),
        (b"PK\x03\x04" + bytes(40), "begins with 504b0304"),
        (damaged(4, b"\x1d"), "block 1 at offset 0: a length of 29, expected is a multiple of 4"),
        (damaged(INTERFACE_AT + 8, b"\x01\x00"), "block 2 at offset 28: link type 1, expected is link type 250"),
        (damaged(PACKET_AT + 8, b"\x05"), f"block 5 at offset {PACKET_AT}: a packet of port 5, expected is one of"),
        (damaged(PACKET_AT + 20, b"\x05"), f"block 5 at offset {PACKET_AT}: a packet of 5 bytes, expected is 12 to"),
        (damaged(PACKET_AT, b"\x03"), "a packet without its port, expected is enhanced packets"),
        (damaged(PACKET_AT - 4, b"\x63"), "block 4 at offset"),
    ],
)
def test_what_is_no_capture_is_refused_with_its_place(data: bytes, message: str) -> None:
    with pytest.raises(ValueError, match="expected is") as refused:
        trace.read(data)
    assert message in str(refused.value)


def test_other_recorders_files_are_read() -> None:
    """Big-endian, nanoseconds, an option twice, blocks and events of no concern, the end not recorded."""

    def block(kind: int, body: bytes) -> bytes:
        return struct.pack(">II", kind, len(body) + 12) + body + struct.pack(">I", len(body) + 12)

    def option(code: int, value: bytes) -> bytes:
        return struct.pack(">HH", code, len(value)) + value + bytes(-len(value) % 4)

    def packet(event: int, at_us: int, data: bytes) -> bytes:
        rtac = struct.pack(">IIBBH", *divmod(at_us, 1_000_000), event, 0x80, 0) + data
        times = divmod(at_us * 1000, 1 << 32)
        return block(6, struct.pack(">IIIII", 0, *times, len(rtac), len(rtac)) + rtac + bytes(-len(rtac) % 4))

    options = option(2, b"COM1") + option(2, b"COM2") + option(3, b"RS-485 9600 8N1") + option(9, b"\x09")
    file = (
        block(0x0A0D0D0A, struct.pack(">IHHq", 0x1A2B3C4D, 1, 0, -1))
        + block(1, struct.pack(">HHI", 250, 0, 0) + options)
        + block(0x0BAD, b"")
        + packet(0, START_US - 5, b"")
        + packet(1, START_US, REQUEST)
    )
    assert trace.read(file) == trace.Trace(
        (Port("COM1", Line(9600, 8, "N", 1)),), (Frame(0, SENT, START_US, START_US + 8333, REQUEST),), None
    )


@pytest.mark.parametrize("times", [(-1, 0), (5, 4), (2**32 * 10**6, 2**32 * 10**6)])
def test_times_that_no_file_can_hold_are_refused(times: tuple[int, int]) -> None:
    with pytest.raises(ValueError, match="first_us, last_us = "):
        trace.packets(Frame(0, SENT, *times, REQUEST))


def test_each_request_has_what_followed_it_on_its_line() -> None:
    late = Frame(0, RECEIVED, 5, 5, REPLY)
    sent, received = FRAMES[:2]
    other = FRAMES[2]
    assert list(trace.exchanges([late, sent, other, received, late, sent], 0)) == [
        trace.Exchange(sent, (received, late)),
        trace.Exchange(sent, ()),
    ]


# --- tshark -------------------------------------------------------------------------------------------------


@pytest.mark.needs("tshark")
@pytest.mark.parametrize("file", CAPTURES, ids=lambda file: file.stem)
def test_tshark_decodes_every_capture_with_the_profile(file: Path) -> None:
    frames = trace.read(file.read_bytes()).frames
    packets = tshark.packets(file)
    for frame in frames:
        seen = packets[frame.number - 1]
        assert seen["mbrtu.crc16.status"] == str(int(modbus.crc_ok(frame.data, 0, len(frame.data))))
        assert seen["modbus.func_code"] and "_ws.malformed" not in seen


@pytest.mark.needs("tshark")
def test_tshark_sees_what_was_written(tmp_path: Path) -> None:
    file = tmp_path / "written.pcapng"
    file.write_bytes(WRITTEN)
    packets = tshark.packets(file)
    for frame in trace.read(WRITTEN).frames:
        seen = packets[frame.number - 1]
        assert seen["rtacser.eventtype"] == f"0x{frame.event:02x}"
        assert seen["frame.interface_name"] == PORTS[frame.port].name
        assert float(seen["frame.time_epoch"]) == pytest.approx(frame.first_us / 1e6, abs=1e-6)
        assert seen.get("frame.comment", "") == frame.comment
        if frame.event in (SENT, RECEIVED):
            assert seen["mbrtu.crc16.status"] == str(int(modbus.crc_ok(frame.data, 0, len(frame.data))))
            assert seen["frame.packet_flags_direction"] == f"0x{3 - frame.event:08x}"
