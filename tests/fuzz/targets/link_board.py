"""The board's end of the link: whatever the edge's side says, its ring stays whole and it sends right frames only.

Input: a script: bytes as they are, bodies that become a right frame of this boot, time that passes, records, answers.
"""

from collections.abc import Iterator

from protocols import link
from protocols.link import BoardEnd
from protocols.ticks import diff
from recorder import Recorder
from tests.fuzz.script import script, steps
from tests.fuzz.targets.link_edge import BOOT, framed
from uptime import Uptime

RAW, FRAMED, PASS, SAMPLE, PLAN, ANSWER = range(6)
_RING_BYTES = 512


def seeds() -> Iterator[bytes]:
    def ack(expected: int, committed: int) -> tuple[int, bytes]:
        return FRAMED, b"\x81" + expected.to_bytes(4, "little") + committed.to_bytes(4, "little")

    begin = FRAMED, b"\x83\x01\0\x01\x40\0" + bytes(32)
    sample, second = (SAMPLE, b"\0\x12\x34"), (PASS, b"\x64")
    yield script(ack(0, 0), sample, second, ack(1, 1), sample, sample, second, ack(3, 1), ack(1, 1))
    yield script(
        (RAW, b"garbage\0"), (FRAMED, b"\x84"), ack(0, 0), (FRAMED, b"\x82\x07\0"), begin, (ANSWER, b"\0"), begin
    )
    yield script(ack(0, 0), *[(SAMPLE, b"\1" + bytes(60))] * 12, (PLAN, b"\1\2"), second, ack(4, 0), second, second)
    yield script((PLAN, b"\1\2"), sample, ack(0, 0), *[second] * 40, ack(5, 5), ack(0x0FFFFFFF, 2))


def run_one(data: bytes) -> None:
    recorder, uptime, now_ms = Recorder(bytearray(_RING_BYTES)), Uptime(0), 0
    last = bytearray()
    end = BoardEnd(b"esp32-a0b765112233", BOOT, (0, 1, 0), link.RESET_POWER, recorder, now_ms)
    for what, body in steps(data):
        match what % 6:
            case 0:
                end.feed(body, len(body), now_ms)
            case 1:
                frame = framed(body[:1] + BOOT + body[1:])
                end.feed(frame, len(frame), now_ms)
            case 2:
                now_ms = now_ms + 10 * sum(body) & 0x0FFFFFFF
                uptime.advance(now_ms)
            case 3:
                recorder.sample(0, 0, 0, uptime, body, 0, min(len(body), 180), sum(body[:1]) & 1, now_ms)
            case 4:
                recorder.plan(sum(body), now_ms)
            case 5 if end.command_bytes:
                end.answer(sum(body) & 0xFF)
        assert end.command_bytes <= link.BODY_MAX_BYTES and end._in_bytes <= len(data)
        while length := end.poll(now_ms, uptime):
            assert length <= link.FRAME_MAX_BYTES and not end.wire[0] and not end.wire[length - 1]
            last = end.wire[1 : length - 1]
            assert 0 not in last
        assert 0 <= end.due_ms(now_ms) <= 1000
    assert not last or link.deframe(last, len(last)) > 4 and last[1:5] == BOOT
    _is_whole(recorder)


def _is_whole(recorder: Recorder) -> None:
    """Oldest, acknowledged, next to send and next stand in this order; what is counted is what lies there."""
    places = (recorder.oldest, recorder.ack_number, recorder.send_number, recorder.next)
    assert all(diff(later, earlier) >= 0 for earlier, later in zip(places, places[1:], strict=False)), places
    at, sizes = recorder._tail, []
    for _record in range(diff(recorder.next, recorder.oldest)):
        sizes.append(2 + recorder._at(at, 0))
        at = recorder._step(at, sizes[-1])
    assert at == recorder._begin and sum(sizes) == recorder._used <= _RING_BYTES
    acked, sent = diff(recorder.ack_number, recorder.oldest), diff(recorder.send_number, recorder.oldest)
    assert recorder.flight_bytes == sum(sizes[acked:sent]), (recorder.flight_bytes, sizes, acked, sent)
    assert recorder.unsent_bytes == sum(sizes[sent:]), (recorder.unsent_bytes, sizes, sent)
