"""Modbus RTU frames and the master transaction, on every interpreter. Golden frames: simplymodbus.ca, FC 1 to 16."""

from protocols import modbus, modbus_edge
from protocols.modbus import (
    BAD_CRC,
    EXCEPTION,
    OK,
    PENDING,
    SHORT,
    TIMEOUT,
    WRONG_REPLY,
    Transaction,
)


def unhex(text):
    return bytes(int(part, 16) for part in text.split())


READ_COILS = "11 01 00 13 00 25 0E 84", "11 01 05 CD 6B B2 0E 1B 45 E6"
READ_INPUTS = "11 02 00 C4 00 16 BA A9", "11 02 03 AC DB 35 20 18"
READ_HOLDING = "11 03 00 6B 00 03 76 87", "11 03 06 AE 41 56 52 43 40 49 AD"
READ_INPUT = "11 04 00 08 00 01 B2 98", "11 04 02 00 0A F8 F4"
WRITE_COIL = "11 05 00 AC FF 00 4E 8B", "11 05 00 AC FF 00 4E 8B"
WRITE_REGISTER = "11 06 00 01 00 03 9A 9B", "11 06 00 01 00 03 9A 9B"
WRITE_COILS = "11 0F 00 13 00 0A 02 CD 01 BF 0B", "11 0F 00 13 00 0A 26 99"
WRITE_REGISTERS = "11 10 00 01 00 02 04 00 0A 01 02 C6 F0", "11 10 00 01 00 02 12 98"
REFUSED = "0A 01 04 A1 00 01 AC 63", "0A 81 02 B0 53"

EXCHANGES = (
    READ_COILS,
    READ_INPUTS,
    READ_HOLDING,
    READ_INPUT,
    WRITE_COIL,
    WRITE_REGISTER,
    WRITE_COILS,
    WRITE_REGISTERS,
)


def begun(request):
    transaction = Transaction()
    for i, byte in enumerate(request):
        transaction.request[i] = byte
    transaction.begin(len(request))
    return transaction


def feed_all(transaction, data, piece=1000):
    outcome = PENDING
    for start in range(0, len(data), piece):
        outcome = transaction.feed(data[start : start + piece], len(data[start : start + piece]))
        if outcome != PENDING:
            return outcome
    return outcome


def raises(function, *arguments):
    try:
        function(*arguments)
    except ValueError as fault:
        return str(fault)
    return ""


def test_requests_are_the_published_bytes():
    assert modbus_edge.read_request(0x11, 1, 0x13, 0x25) == unhex(READ_COILS[0])
    assert modbus_edge.read_request(0x11, 2, 0xC4, 0x16) == unhex(READ_INPUTS[0])
    assert modbus_edge.read_request(0x11, 3, 0x6B, 3) == unhex(READ_HOLDING[0])
    assert modbus_edge.read_request(0x11, 4, 8, 1) == unhex(READ_INPUT[0])
    assert modbus_edge.write_request(0x11, 5, 0xAC, 1) == unhex(WRITE_COIL[0])
    assert modbus_edge.write_request(0x11, 6, 1, 3) == unhex(WRITE_REGISTER[0])
    assert modbus_edge.write_many_request(0x11, 15, 0x13, [1, 0, 1, 1, 0, 0, 1, 1, 1, 0]) == unhex(WRITE_COILS[0])
    assert modbus_edge.write_many_request(0x11, 16, 1, [10, 0x0102]) == unhex(WRITE_REGISTERS[0])


def test_replies_are_the_published_bytes():
    assert modbus_edge.read_reply(0x11, 1, unhex("CD 6B B2 0E 1B")) == unhex(READ_COILS[1])
    assert modbus_edge.read_reply(0x11, 3, unhex("AE 41 56 52 43 40")) == unhex(READ_HOLDING[1])
    assert modbus_edge.write_reply(unhex(WRITE_REGISTERS[0])) == unhex(WRITE_REGISTERS[1])
    assert modbus_edge.exception_reply(0x0A, 1, 2) == unhex(REFUSED[1])


def test_each_reply_five_ways():
    for request, reply in EXCHANGES:
        request = unhex(request)
        reply = unhex(reply)
        assert feed_all(begun(request), reply) == OK
        assert feed_all(begun(request), reply, 1) == OK
        assert feed_all(begun(request), reply + b"\xfe\x00") == OK
        for at in range(len(reply)):
            transaction = begun(request)
            assert feed_all(transaction, reply[:at] + reply[at + 1 :]) == PENDING
            assert transaction.finish() in (SHORT, BAD_CRC, WRONG_REPLY)
            for bit in range(8):
                broken = bytearray(reply)
                broken[at] ^= 1 << bit
                transaction = begun(request)
                assert feed_all(transaction, bytes(broken)) == PENDING
                assert transaction.finish() != OK


def test_data_lie_in_place():
    transaction = begun(unhex(READ_HOLDING[0]))
    assert feed_all(transaction, unhex("00 FF") + unhex(READ_HOLDING[1])) == OK
    data = transaction.reply[transaction.data_start : transaction.data_start + transaction.data_bytes]
    assert modbus_edge.unpack_registers(data) == [0xAE41, 0x5652, 0x4340]
    assert modbus_edge.unpack_bits(unhex("CD 01"), 10) == [1, 0, 1, 1, 0, 0, 1, 1, 1, 0]


def test_strays_and_echo_before_the_reply_are_survived():
    request = unhex(READ_HOLDING[0])
    reply = unhex(READ_HOLDING[1])
    for strays in (b"\x00", b"\xff", b"\xff\x00", b"\x11", b"\x11\x03", b"\x11\x03\x06", request):
        assert feed_all(begun(request), strays + reply) == OK
        assert feed_all(begun(request), strays + reply, 1) == OK
    transaction = begun(request)
    feed_all(transaction, request + reply)
    assert transaction.echoed


def test_an_echo_alone_is_no_reply():
    transaction = begun(unhex(READ_HOLDING[0]))
    assert feed_all(transaction, unhex(READ_HOLDING[0])) == PENDING
    assert transaction.finish() == TIMEOUT
    write = unhex(WRITE_REGISTER[0])
    transaction = begun(write)
    transaction.expects_echo = True
    assert feed_all(transaction, write) == PENDING
    assert feed_all(transaction, write) == OK


def test_an_exception_is_known_at_byte_five():
    transaction = begun(unhex(REFUSED[0]))
    reply = unhex(REFUSED[1])
    assert feed_all(transaction, reply[:4], 1) == PENDING
    assert feed_all(transaction, reply[4:]) == EXCEPTION
    assert transaction.exception_code == 2


def test_what_does_not_belong_to_the_request_is_not_its_reply():
    request = modbus_edge.read_request(1, 3, 0, 2)
    foreign = (
        modbus_edge.read_reply(2, 3, b"\0\1\0\2"),  # another unit
        modbus_edge.read_reply(1, 4, b"\0\1\0\2"),  # another function
        modbus_edge.read_reply(1, 3, b"\0\1"),  # fewer registers
        modbus_edge.read_reply(1, 3, b"\0\1\0\2\0\3"),  # more
        modbus_edge.exception_reply(1, 4, 2),
    )
    ours = modbus_edge.read_reply(1, 3, b"\0\7\0\x08")
    for frame in foreign:
        transaction = begun(request)
        assert feed_all(transaction, frame) == PENDING
        assert transaction.finish() == WRONG_REPLY, frame
        transaction = begun(request)
        assert feed_all(transaction, frame + ours) == OK
        assert transaction.reply[transaction.data_start + 1] == 7


def test_silence_and_cut_replies_have_their_names():
    request = modbus_edge.read_request(1, 3, 0, 2)
    assert begun(request).finish() == TIMEOUT
    transaction = begun(request)
    feed_all(transaction, modbus_edge.read_reply(1, 3, b"\0\1\0\2")[:-3])
    assert transaction.finish() == SHORT
    transaction = begun(request)
    feed_all(transaction, b"\xfb\xfe\x0f\xff\x00\x31\x32")
    assert transaction.finish() == BAD_CRC


def test_a_babbling_unit_is_bounded():
    transaction = begun(modbus_edge.read_request(1, 3, 0, 2))
    babble = bytes(range(2, 202))
    for _ in range(50):
        assert transaction.feed(babble, len(babble)) == PENDING
    assert transaction.reply_bytes == 320
    assert transaction.overflow_bytes == 50 * 200 - 320


def test_device_identification_is_framed_by_its_objects():
    request = modbus_edge.device_id_request(1)
    assert request[:5] == unhex("01 2B 0E 01 00")
    reply = modbus_edge.device_id_reply(1, 1, [(0, b"VEGA"), (1, b"PULS"), (2, b"1.0")])
    for piece in (1, 3, 1000):
        assert feed_all(begun(request), reply, piece) == OK
    assert modbus.reply_length(reply, 0, len(reply)) == len(reply)
    assert modbus.reply_length(reply, 0, len(reply) - 5) == 0 or len(reply) - 5 >= 8
    assert feed_all(begun(request), modbus_edge.exception_reply(1, 43, 1)) == EXCEPTION


def test_request_lengths_for_the_other_role():
    for request, _reply in EXCHANGES:
        request = unhex(request)
        assert modbus.request_length(request, 0, len(request)) == len(request)
        assert modbus.request_length(request, 0, 1) == 0
    assert modbus.request_length(b"\x01\x63\x00", 0, 3) == -1
    assert modbus.request_length(modbus_edge.device_id_request(9), 0, 7) == 7


def test_wrong_arguments_are_named():
    assert "unit_id = 248" in raises(modbus_edge.read_request, 248, 3, 0, 1)
    assert "count = 126" in raises(modbus_edge.read_request, 1, 3, 0, 126)
    assert "address + count" in raises(modbus_edge.read_request, 1, 3, 65535, 2)
    assert "value = 2" in raises(modbus_edge.write_request, 1, 5, 0, 2)
    assert "len(values)" in raises(modbus_edge.write_many_request, 1, 16, 0, [0] * 124)
