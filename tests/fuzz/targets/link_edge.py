"""The edge's end of the link: nothing is taken but in order, from the boot that was adopted; bytes in any pieces.

Input: the number of the record that is expected next, how the bytes are cut, and a script of what the wire brings:
bytes as they are, and bodies that become a right frame.
"""

from collections.abc import Iterator

from protocols import link, modbus
from protocols.link_edge import CONSOLE_MAX_BYTES, MASK, Answer, Console, EdgeEnd, Records
from tests.fuzz.script import script, steps

RAW, FRAMED = range(2)
BOOT = b"\x9f\x3a\x60\xc2"


def seeds() -> Iterator[bytes]:
    hello = b"\x01" + BOOT + bytes((2, 2, 0, 1, 0, 0, 0, 0, 0, 5, 0, 0, 0, 9, 0, 0, 0, 0, 1, 0, 1, 7, 5)) + b"esp32"
    head = b"\x02" + BOOT
    sample, plan = b"\x0b\x01\x07\0\1\0\0\0\2\0\x05\x11\x22", b"\x02\x02\x34\x12"
    first, next_, later, flags = b"\x05\0\0\0\1\0", b"\x07\0\0\0\1\0", b"\x63\0\0\0\1\0", (b"\0", b"\1")
    pong, answer = b"\x03" + BOOT + b"\1\0\2\0\0\0\3\0", b"\x04" + BOOT + b"\1\0\0"
    for body in (
        hello,
        pong,
        answer,
        head + first + flags[1] + sample + plan,
        head + later + flags[0] + sample,
        head + later + flags[1] + sample,
        head[:4] + b"x" + first + flags[0] + sample,
    ):
        yield b"\x05\0\0\0\x03" + script((FRAMED, body), (RAW, b"Traceback (most recent call last)\n"), (FRAMED, body))
    records = [(FRAMED, head + first + flags[1] + sample * 2), (FRAMED, head + next_ + flags[0] + plan + sample)]
    yield b"\x05\0\0\0\xff" + script(*records, *records)


def run_one(data: bytes) -> None:
    expected, piece = int.from_bytes(data[:4], "little"), (data[4:5] or b"\1")[0] + 1
    wire = b"".join(framed(body) if what % 2 == FRAMED else body for what, body in steps(data[5:]))
    end, told = _end(expected), []
    for at in range(0, len(wire), piece):
        before = end.expected
        events = end.feed(wire[at : at + piece])
        for event in events:
            if isinstance(event, Records):
                assert event.boot == BOOT.hex() and event.lost == event.first - before >= 0
                before = event.first + len(event.records)
            elif isinstance(event, Answer):
                assert (event.boot, event.command) == (BOOT.hex(), 1)
            elif isinstance(event, Console):
                assert event.text and all(c.isprintable() or c == "\n" for c in event.text)
        assert before == end.expected and end.committed <= end.expected
        told += events
        assert len(end._in) <= CONSOLE_MAX_BYTES
    counts = ((number & MASK).to_bytes(4, "little") for number in (end.expected, end.committed))
    assert end.ack() == framed(b"\x81" + BOOT + b"".join(counts))
    if piece < 16:  # cut otherwise it says the same
        assert [vars(event) for event in _end(expected).feed(wire)] == [vars(event) for event in told]


def _end(expected: int) -> EdgeEnd:
    end = EdgeEnd()
    end.adopt(BOOT.hex(), expected)
    end.command(link.PLAN_COMMIT, b"", 1)
    return end


def framed(body: bytes) -> bytes:
    """As a right frame, made without the parser's help (every code of COBS is under 255); cut to what fits one."""
    body = body[: link.BODY_MAX_BYTES - 2]
    sealed = body + modbus.crc16(body, 0, len(body)).to_bytes(2, "little")
    return b"\0" + b"".join(bytes((len(run) + 1,)) + run for run in sealed.split(b"\0")) + b"\0"
