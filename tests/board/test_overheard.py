"""What a bus's other talkers may do to a board: requests of a second master, replies that come late.

Shell of the tests: runs on every interpreter.
"""

from overheard import LISTEN_MS, SILENT_MS, Overheard
from protocols import link, modbus, modbus_edge

FOREIGN = modbus_edge.read_request(9, 3, 40, 2)


def hear(overheard, data, now_ms, own=None):
    """How many requests end in these bytes."""
    return len([1 for byte in data if overheard.hear(byte, own, now_ms)])


def test_it_listens_before_the_first_request():
    overheard = Overheard(1000)
    assert not overheard.may_send(1000 + LISTEN_MS - 1) and overheard.state == link.LISTENING
    assert overheard.may_send(1000 + LISTEN_MS) and overheard.state == link.POLLING


def test_a_request_of_somebody_else_silences_the_board_until_none_was_heard_for_a_minute():
    overheard = Overheard(0)
    assert hear(overheard, FOREIGN, 3000) == 1
    assert overheard.state == link.OTHER_MASTER
    assert hear(overheard, FOREIGN, 33000) == 1  # one in thirty seconds is enough
    assert not overheard.may_send(33000 + SILENT_MS - 1)
    assert overheard.may_send(33000 + SILENT_MS)
    assert overheard.requests == 2 and overheard.stray_bytes == 0


def test_requests_of_every_kind_are_known_and_noise_before_them_hides_none():
    requests = [modbus_edge.read_request(1, function_code, 100, 1) for function_code in (1, 2, 3, 4)]
    requests += [modbus_edge.write_request(17, 5, 8, 1), modbus_edge.write_request(17, 6, 8, 1234)]
    requests.append(modbus_edge.write_reply(modbus_edge.write_many_request(1, 16, 0, [1, 2, 3])))
    requests.append(modbus_edge.write_reply(modbus_edge.write_many_request(1, 15, 0, [1, 0, 1])))
    for request in requests:
        overheard = Overheard(0)
        assert hear(overheard, b"\x00\xff\x01\x03\x10" + request, 0) == 1, request
        assert overheard.stray_bytes == 5


def test_replies_and_noise_are_no_requests():
    overheard = Overheard(0)
    chaos = 12345
    for _ in range(20000):
        chaos = (chaos * 16807 + 7) % 65521
        assert not overheard.hear(chaos & 0xFF, None, 0)
    for count in range(1, 30):
        hear_count = hear(overheard, modbus_edge.read_reply(3, 3, bytes(range(2 * count))), 0)
        assert hear_count == 0, count
    assert hear(overheard, modbus_edge.read_reply(3, 1, b"\x01\x02\x03"), 0) == 0  # eight bytes, as a request has
    assert hear(overheard, modbus_edge.exception_reply(3, 3, 2), 0) == 0


def test_the_boards_own_echo_is_none_but_the_same_request_at_another_time_is():
    overheard = Overheard(0)
    own = bytearray(modbus_edge.read_request(1, 3, 0, 2))
    assert hear(overheard, own, 0, own) == 0
    assert hear(overheard, own, 0) == 1


def test_an_engineer_may_allow_another_master():
    overheard = Overheard(0)
    overheard.other_master_allowed = True
    assert hear(overheard, FOREIGN, 0) == 1
    assert overheard.may_send(0) and overheard.requests == 1


def test_a_replug_makes_it_listen_again():
    overheard = Overheard(0)
    assert overheard.may_send(LISTEN_MS)
    overheard.listen(60000)
    assert not overheard.may_send(60000) and not overheard.may_send(60000 + LISTEN_MS - 1)
    assert overheard.may_send(60000 + LISTEN_MS)
    assert hear(overheard, FOREIGN, 70000) == 1
    overheard.listen(70001)
    assert not overheard.may_send(70001 + LISTEN_MS)


def test_a_late_reply_is_found_at_its_end_and_taken_out():
    overheard = Overheard(0)
    reply = modbus_edge.read_reply(3, 4, b"\x01\x02\x03\x04")
    assert hear(overheard, b"\xff" + reply[:-1], 0) == 0
    assert not overheard.ends_with_reply(3, 4, 4)
    assert hear(overheard, reply[-1:], 0) == 0
    assert not overheard.ends_with_reply(3, 3, 4) and not overheard.ends_with_reply(2, 4, 4)
    assert overheard.ends_with_reply(3, 4, 4) and not overheard.ends_with_reply(3, 4, 4)
    assert overheard.stray_bytes == 1


def test_frames_are_found_however_long_it_has_listened():
    overheard = Overheard(0)
    for _ in range(200):
        assert hear(overheard, b"\x55" * 7, 0) == 0
        assert modbus.crc_ok(FOREIGN, 0, 8)
        assert hear(overheard, FOREIGN, 0) == 1
    for _ in range(3000):
        assert not overheard.hear(0x55, None, 0)
    assert hear(overheard, FOREIGN, 0) == 1
