"""Frames out of a line's bytes: real recordings in any pieces, damage, silence, strays, babble."""

from collections.abc import Iterable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocols import modbus_edge, trace
from protocols.cutter import SILENCE_US, Cutter
from protocols.trace import RECEIVED, SENT, Frame

CAPTURES = sorted((Path(__file__).parents[2] / "hil_tests" / "traces").glob("*.pcapng"))
CHAR_US = 1042
REQUEST = modbus_edge.read_request(1, 3, 0x0300, 1)  # as a reply: three bytes of data, and the CRC is right
REPLY = modbus_edge.read_reply(1, 3, b"\x12\x34")


def cut(pieces: Iterable[tuple[int, bytes]], event: int = 0) -> list[tuple[int, bytes]]:
    """What becomes of these bytes, each piece from its time in µs on; without a byte more or less."""
    cutter = Cutter(0)
    frames: list[Frame] = []
    fed = b""
    for at_us, data in pieces:
        frames += cutter.feed(data, at_us, at_us + len(data) * CHAR_US, event)
        fed += data
    frames += cutter.finish()
    assert b"".join(frame.data for frame in frames) == fed
    assert all(one.last_us <= two.first_us + 1 for one, two in zip(frames, frames[1:], strict=False))
    return [(frame.event, frame.data) for frame in frames]


def in_a_row(*frames: bytes) -> list[tuple[int, bytes]]:
    """Without any silence between them, as an adapter may hand them over."""
    return [(0, b"".join(frames))]


@pytest.mark.parametrize("piece_bytes", [1, 3, 16, 10_000])
@pytest.mark.parametrize("file", CAPTURES, ids=lambda file: file.stem)
def test_real_devices_frames_are_found_in_any_pieces(file: Path, piece_bytes: int) -> None:
    frames = trace.read(file.read_bytes()).frames
    line = b"".join(frame.data for frame in frames)
    pieces = [(at * CHAR_US, line[at : at + piece_bytes]) for at in range(0, len(line), piece_bytes)]
    assert cut(pieces) == [(frame.event, frame.data) for frame in frames]


def test_times_are_those_of_each_frames_bytes() -> None:
    cutter = Cutter(2)
    [request, reply] = cutter.feed(REQUEST + REPLY, 1000, 1000 + 15 * CHAR_US)
    assert (request.port, request.first_us, request.last_us) == (2, 1000, 1000 + 8 * CHAR_US)
    assert (reply.first_us, reply.last_us) == (1000 + 8 * CHAR_US, 1000 + 15 * CHAR_US)


def test_a_request_that_looks_like_a_reply_is_a_request_again() -> None:
    """The unit is silent, and is asked again."""
    assert cut(in_a_row(REQUEST, REQUEST, REPLY)) == [(SENT, REQUEST), (SENT, REQUEST), (RECEIVED, REPLY)]


def test_a_write_and_its_reply_are_the_same_bytes() -> None:
    write = modbus_edge.write_request(1, 6, 5, 7)
    assert cut(in_a_row(write, write)) == [(SENT, write), (RECEIVED, write)]
    assert cut([(0, write), (2_000_000, write)]) == [(SENT, write), (SENT, write)]


def test_a_damaged_reply_is_kept_apart_from_the_next_request() -> None:
    damaged = REPLY[:-1] + b"\x00"
    assert cut(in_a_row(REQUEST, damaged, REQUEST, REPLY)) == [
        (SENT, REQUEST),
        (RECEIVED, damaged),
        (SENT, REQUEST),
        (RECEIVED, REPLY),
    ]
    assert cut(in_a_row(REQUEST, REPLY[:4], REQUEST, REPLY)) == [
        (SENT, REQUEST),
        (RECEIVED, REPLY[:4]),
        (SENT, REQUEST),
        (RECEIVED, REPLY),
    ]


def test_strays_around_a_reply_are_frames_of_their_own() -> None:
    assert cut(in_a_row(REQUEST, b"\xff\x00", REPLY, b"\x00", REQUEST)) == [
        (SENT, REQUEST),
        (RECEIVED, b"\xff\x00"),
        (RECEIVED, REPLY),
        (RECEIVED, b"\x00"),
        (SENT, REQUEST),
    ]


def test_a_pause_in_a_reply_cuts_nothing_and_a_silence_does() -> None:
    assert cut([(0, REQUEST), (20_000, REPLY[:3]), (20_000 + SILENCE_US - 1, REPLY[3:])])[1:] == [(RECEIVED, REPLY)]
    pieces = [(0, REQUEST), (20_000, REPLY[:3]), (20_000 + 3 * CHAR_US + SILENCE_US, REPLY[3:])]
    assert cut(pieces)[1:] == [(RECEIVED, REPLY[:3]), (RECEIVED, REPLY[3:])]


def test_a_refusal_and_an_identification_have_lengths_of_their_own() -> None:
    refusal = modbus_edge.exception_reply(1, 3, 2)
    ask = modbus_edge.device_id_request(1)
    told = modbus_edge.device_id_reply(1, 1, [(0, b"maker"), (1, b"product")])
    assert cut(in_a_row(REQUEST, refusal, ask, told)) == [
        (SENT, REQUEST),
        (RECEIVED, refusal),
        (SENT, ask),
        (RECEIVED, told),
    ]


def test_who_sent_it_is_believed_where_it_is_known() -> None:
    cutter = Cutter(0)
    frames = cutter.feed(REPLY[:3], 0, 100, SENT) + cutter.feed(REPLY, 200, 300, RECEIVED) + cutter.finish()
    assert [(frame.event, frame.data) for frame in frames] == [(SENT, REPLY[:3]), (RECEIVED, REPLY)]


def test_babble_comes_out_while_it_lasts() -> None:
    cutter = Cutter(0)
    frames = [frame for i in range(50) for frame in cutter.feed(b"boot v2 " * 8, i * 9000, i * 9000 + 8000)]
    assert sum(len(frame.data) for frame in frames) >= 50 * 64 - 256


def test_a_silence_is_noticed_without_a_byte() -> None:
    cutter = Cutter(0)
    assert cutter.feed(b"\x01\x03", 0, 2000) == []
    assert cutter.quiet(2000 + SILENCE_US - 1) == []
    [frame] = cutter.quiet(2000 + SILENCE_US)
    assert frame.data == b"\x01\x03"


any_piece = st.tuples(st.binary(max_size=300), st.integers(0, 100_000), st.sampled_from((0, SENT, RECEIVED)))


@given(st.lists(any_piece, max_size=8))
def test_any_bytes_come_out_again_in_order(fed: list[tuple[bytes, int, int]]) -> None:
    cutter = Cutter(0)
    frames: list[Frame] = []
    at_us = 0
    for data, gap_us, event in fed:
        frames += cutter.feed(data, at_us + gap_us, at_us + gap_us + len(data) * CHAR_US, event)
        at_us += gap_us + len(data) * CHAR_US
    frames += cutter.finish()
    assert b"".join(frame.data for frame in frames) == b"".join(data for data, _gap_us, _event in fed)
    assert all(0 < len(frame.data) <= 264 for frame in frames)


def test_noise_that_announces_a_long_frame_holds_nothing_up() -> None:
    frames = Cutter(0).feed(REQUEST + b"\x02\x03\xf0" + REPLY, 0, 18 * CHAR_US)
    assert [frame.data for frame in frames] == [REQUEST, b"\x02\x03\xf0", REPLY]
