"""Modbus, master and other side: no reply is taken whose unit, function, length or CRC is wrong, and none is missed.

The judge of a CRC is pymodbus. Input: a byte that chooses the request, five that fill it in, then a script of what the
line brings; its steps are bytes as they are, bodies that get a right CRC, the echo, and the right reply.
"""

from collections.abc import Iterator

from pymodbus.framer import FramerRTU

from overheard import Overheard
from protocols import modbus, modbus_edge
from protocols.modbus import Transaction
from tests.fuzz.script import script, steps

RAW, SEALED, ECHO, REPLY = range(4)
_FUNCTIONS = (1, 2, 3, 4, 5, 6, 15, 16, 43)


def seeds() -> Iterator[bytes]:
    for function_code in range(len(_FUNCTIONS)):
        for line in (
            [(REPLY, b"\x12\x34")],
            [(ECHO, b""), (REPLY, b"\xff")],
            [(RAW, b"\0\xff"), (REPLY, b"")],
            [(SEALED, b"\x11\x83\x02")],
            [(SEALED, b"\x0b\x03\x02\0\x01"), (RAW, b"\x11\x03")],
        ):
            for echoes in (0, 16):
                yield bytes((function_code | echoes, 0x11, 0, 8, 3, 5)) + script(*line)


def run_one(data: bytes) -> None:
    if len(data) < 6:
        _lengths(data)
        return
    unit_id, address, word, piece = data[1], data[2] << 8 | data[3], data[4], data[5] % 32 + 1
    function_code = _FUNCTIONS[data[0] % 16 % len(_FUNCTIONS)]
    try:
        request = _request(unit_id, function_code, address, word)
    except ValueError:
        return
    _is_whole(request, modbus.request_length)
    transaction = Transaction()
    transaction.request[: len(request)] = request
    transaction.expects_echo = bool(data[0] & 16)
    transaction.begin(len(request))
    line = b"".join(_heard(what, body, request) for what, body in steps(data[6:]))
    _lengths(line)
    _overheard(line, request)
    outcome = fed = 0
    for at in range(0, len(line), piece):
        part = line[at : at + piece]
        fed += len(part)
        outcome = transaction.feed(part, len(part))
        came = bytes(transaction.reply[: transaction.reply_bytes])
        assert transaction.reply_bytes + transaction.overflow_bytes == fed and len(transaction.reply) == 320
        first = len(request) if transaction.expects_echo and transaction.echoed else 0
        whole = list(_replies(request, came, first))
        if outcome == modbus.PENDING:
            assert not whole, f"missed {whole}"
            assert transaction.missing_bytes() >= 1
            continue
        taken = came[transaction.frame_start : transaction.frame_end]
        assert taken in [came[start:end] for start, end in whole], f"taken was {taken.hex()}"
        assert outcome == (modbus.EXCEPTION if taken[1] & 0x80 else modbus.OK)
        if outcome == modbus.OK:
            start = transaction.data_start - transaction.frame_start
            assert transaction.data_bytes == len(taken) - 2 - start
        return
    ended = transaction.finish()
    assert ended in (modbus.TIMEOUT, modbus.BAD_CRC, modbus.SHORT, modbus.WRONG_REPLY)
    nothing = fed == (len(request) if transaction.echoed else 0)
    assert (ended == modbus.TIMEOUT) == nothing


def _request(unit_id: int, function_code: int, address: int, word: int) -> bytes:
    if function_code <= 4:
        return modbus_edge.read_request(unit_id, function_code, address, word)
    if function_code <= 6:
        return modbus_edge.write_request(unit_id, function_code, address, word)
    if function_code <= 16:
        bits = [address >> i & 1 for i in range(word)]
        assert modbus_edge.unpack_bits(modbus_edge.pack_bits(bits), word) == bits
        return modbus_edge.write_many_request(unit_id, function_code, address, bits)
    return modbus_edge.device_id_request(unit_id, word, address >> 8)


def _heard(what: int, body: bytes, request: bytes) -> bytes:
    match what % 4:
        case 1:
            return modbus_edge.frame(body)
        case 2:
            return request
        case 3:
            frame = _reply(body, request)
            _is_whole(frame, modbus.reply_length)
            return frame
    return body


def _reply(body: bytes, request: bytes) -> bytes:
    unit_id, function_code, count = request[0], request[1], request[4] << 8 | request[5]
    if function_code <= 4:
        size = (count + 7) // 8 if function_code <= 2 else 2 * count
        return modbus_edge.read_reply(unit_id, function_code, (body + bytes(size))[:size])
    if function_code <= 16:
        return modbus_edge.write_reply(request)
    return modbus_edge.device_id_reply(unit_id, request[3], [(0, body[:100]), (1, body[100:200])])


def _replies(request: bytes, came: bytes, first: int) -> Iterator[tuple[int, int]]:
    """Where a right reply to the request lies whole, as the standard says what one is."""
    count = request[4] << 8 | request[5]
    for start in range(first, len(came) - 4):
        rest = came[start:]
        if rest[0] != request[0] or rest[1] & 0x7F != request[1]:
            continue
        if rest[1] & 0x80:
            size = 5
        elif rest[1] <= 4:
            size = 5 + ((count + 7) // 8 if rest[1] <= 2 else 2 * count)
            if rest[2] != size - 5:
                continue
        elif rest[1] <= 16:
            size = 8
            if rest[2:6] != request[2:6]:
                continue
        else:
            size = modbus.reply_length(rest, 0, len(rest))
        if 0 < size <= len(rest) and FramerRTU.compute_CRC(rest[: size - 2]).to_bytes(2) == rest[size - 2 : size]:
            yield start, start + size


def _is_whole(frame: bytes, length_of) -> None:  # type: ignore[no-untyped-def]
    """Its length is told once it can be, and always the same."""
    assert FramerRTU.compute_CRC(frame[:-2]).to_bytes(2) == frame[-2:] and modbus.crc_ok(frame, 0, len(frame))
    told = [length_of(frame, 0, end) for end in range(len(frame) + 1)]
    assert told[-1] == len(frame) and set(told) <= {0, len(frame)} and told == sorted(told)


def _lengths(line: bytes) -> None:
    for length_of in (modbus.request_length, modbus.reply_length):
        for at in range(min(len(line), 8)):
            told = length_of(line, at, len(line))
            assert told in (-1, 0) or 5 <= told <= 264
            if told > 0:  # the bytes after it change nothing
                assert length_of(line, at, min(at + told, len(line))) in (0, told)


def _overheard(line: bytes, request: bytes) -> None:
    """Who listens calls nobody a master without a right CRC, and never its own echo."""
    heard = Overheard(0)
    for end, byte in enumerate(line, start=1):
        if heard.hear(byte, request if len(request) == 8 else None, 0):
            last = line[end - 8 : end]
            assert FramerRTU.compute_CRC(last[:6]).to_bytes(2) == last[6:] and last != request
    assert heard.stray_bytes <= len(line)
