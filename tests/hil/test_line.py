"""The line in virtual time: when bytes arrive, which silence was kept, and what damage does to them."""

import math

import pytest

from hil_tests.bench import units
from hil_tests.bench.faults import Row, Strike
from hil_tests.bench.line import Line
from hil_tests.bench.sheet import Point
from hil_tests.bench.units import Unit
from protocols import modbus, modbus_edge, model, profile

CHAR_S = 10 / 9600
REQUEST = modbus_edge.read_request(1, 4, 100, 8)
REPLY_BYTES = 5 + 16


def line(settings: str = "9600 8N1", seed: int = 0) -> Line:
    radars = [
        Unit(unit_id, profile.builtin("vegapuls-modbus"), [
            Point(f"TK10{unit_id}.level", "level", unit_id, "vegapuls-modbus", "level", "m", 0, 12.5, 2000, 0.01, 60)
        ])
        for unit_id in (1, 2)
    ]  # fmt: skip
    return Line("level", model.Line.parse(settings), radars, lambda point, now_s: 5.0 + now_s / 1000, seed)


def all_bytes(wire: Line, until_s: float = 10.0) -> list[tuple[float, bytes]]:
    """Everything that the line delivers, each piece at its own time."""
    pieces = []
    while (due_s := wire.due_s()) is not None and due_s <= until_s:
        pieces.append((due_s, wire.deliver(due_s)))
    return pieces


def test_a_reply_arrives_whole_when_its_last_byte_has():
    wire = line()
    first_byte_s = wire.units[1].first_byte_s
    wire.heard(REQUEST, 1.0)
    [(arrived_s, data)] = all_bytes(wire)
    assert arrived_s == pytest.approx(1.0 + (8 + REPLY_BYTES) * CHAR_S + first_byte_s)
    assert len(data) == REPLY_BYTES and modbus.crc_ok(data, 0, len(data))
    [exchange] = wire.exchanges
    assert (exchange.request, exchange.reply, exchange.replied_s) == (REQUEST, data, arrived_s)
    # Measured when the request had ended, not when the master began it.
    assert exchange.measured[0].value == pytest.approx(5.0 + (1.0 + 8 * CHAR_S) / 1000)
    assert exchange.given_up_s == pytest.approx(1.0 + (8 + REPLY_BYTES) * CHAR_S + 0.3)


def test_nothing_is_delivered_early():
    wire = line()
    wire.heard(REQUEST, 1.0)
    due_s = wire.due_s()
    assert wire.deliver(due_s - 0.0001) == b""
    assert wire.exchanges == []
    assert wire.deliver(due_s)


def test_bytewise_each_byte_has_its_time():
    wire = line("1200 8E1")
    wire.bytewise = True
    wire.heard(REQUEST, 0.0)
    pieces = all_bytes(wire)
    gaps = [later - sooner for (sooner, _), (later, _) in zip(pieces, pieces[1:], strict=False)]
    assert [len(data) for _, data in pieces] == [1] * REPLY_BYTES
    assert gaps == pytest.approx([11 / 1200] * (REPLY_BYTES - 1))


def test_a_pause_inside_a_reply():
    wire = line()
    wire.pause = (7, 0.02)
    wire.heard(REQUEST, 0.0)
    (first_s, first), (second_s, second) = all_bytes(wire)
    assert (len(first), len(second)) == (7, REPLY_BYTES - 7)
    assert second_s - first_s == pytest.approx(0.02 + (REPLY_BYTES - 7) * CHAR_S)


@pytest.mark.parametrize(
    "pieces", [[REQUEST], [REQUEST[i : i + 1] for i in range(8)], [REQUEST + b"\x00"], [b"\xff\x00" + REQUEST]]
)
def test_a_request_is_found_however_it_comes(pieces):
    wire = line()
    for i, piece in enumerate(pieces):
        wire.heard(piece, 0.001 * i)
    all_bytes(wire)
    assert len(wire.exchanges) == 1
    assert wire.requests == 1


@pytest.mark.parametrize("at", range(8))
def test_a_damaged_request_is_answered_by_nobody(at):
    wire = line()
    wire.heard(REQUEST[:at] + bytes((REQUEST[at] ^ 1,)) + REQUEST[at + 1 :], 0.0)
    assert wire.due_s() is None
    wire.heard(REQUEST, 1.0)
    assert len(all_bytes(wire)) == 1
    assert wire.stray_bytes == 8


def test_the_silence_that_the_master_kept_is_measured():
    wire = line()
    assert wire.silence_s == pytest.approx(3.5 * CHAR_S)
    assert line("115200 8N1").silence_s == 0.00175
    wire.heard(REQUEST, 0.0)
    [(replied_s, _)] = all_bytes(wire)
    assert wire.shortest_silence_s == math.inf
    wire.heard(REQUEST, replied_s + wire.silence_s + 0.001)
    [(replied_s, _)] = all_bytes(wire)
    assert (wire.shortest_silence_s, wire.too_soon) == (pytest.approx(wire.silence_s + 0.001), 0)
    wire.heard(REQUEST, replied_s + 0.001)
    assert (wire.shortest_silence_s, wire.too_soon, wire.talked_over) == (pytest.approx(0.001), 1, 0)
    wire.heard(REQUEST, replied_s + 0.02)
    assert wire.talked_over == 1


def test_a_silent_unit_ends_the_exchange_at_once_and_an_absent_one_has_none():
    wire = line()
    wire.units[1].break_down(units.SILENT)
    wire.heard(REQUEST, 0.0)
    [exchange] = wire.exchanges
    assert (exchange.reply, exchange.replied_s, exchange.certain) == (b"", None, False)
    assert exchange.measured[0].status == model.NO_REPLY
    wire.heard(modbus_edge.read_request(9, 4, 100, 8), 1.0)
    assert len(wire.exchanges) == 1 and wire.due_s() is None


def test_a_late_reply_is_two_exchanges_and_waits_until_the_line_is_free():
    wire = line()
    wire.units[1].late_s = 0.5
    wire.units[1].break_down(units.LATE)
    wire.heard(REQUEST, 0.0)
    assert [exchange.measured[0].status for exchange in wire.exchanges] == [model.NO_REPLY]
    late_s = wire.due_s()
    # Another unit's reply would lie across it.
    wire.heard(modbus_edge.read_request(2, 4, 100, 8), late_s - 0.045)
    pieces = all_bytes(wire)
    assert [data[0] for _, data in pieces] == [1, 2]
    assert pieces[1][0] - pieces[0][0] >= REPLY_BYTES * CHAR_S - 1e-9
    assert [(e.unit_id, e.certain) for e in wire.exchanges] == [(1, False), (1, False), (2, True)]
    assert wire.exchanges[1].measured[0].status == model.GOOD


def test_a_reply_after_a_belated_one_is_not_certain():
    wire = line()
    wire.units[1].late_s = 0.5
    wire.units[1].break_down(units.LATE, replies=1)
    wire.heard(REQUEST, 0.0)
    belated_s = wire.due_s()
    wire.heard(REQUEST, belated_s - 0.03)  # asked again just before the belated reply comes: which one will it take?
    all_bytes(wire)
    wire.heard(REQUEST, 2.0)
    all_bytes(wire)
    assert [exchange.certain for exchange in wire.exchanges] == [False, False, False, True]


def test_a_cut_cable_lets_nothing_through():
    wire = line()
    wire.heard(REQUEST, 0.0)
    wire.connected = False
    assert all_bytes(wire)[0][1] == b""
    wire.heard(REQUEST, 1.0)
    assert wire.due_s() is None
    assert wire.exchanges[-1].measured[0].status == model.NO_REPLY


def test_a_reply_that_a_cut_swallowed_is_no_reading():
    wire = line()
    wire.heard(REQUEST, 0.0)
    wire.connected = False
    all_bytes(wire)
    assert (wire.exchanges[0].certain, wire.exchanges[0].measured[0].status) == (False, model.NO_REPLY)


def test_an_echo_comes_before_the_reply():
    wire = line()
    wire.echoes = True
    wire.heard(REQUEST, 0.0)
    (echo_s, echo), (_, reply) = all_bytes(wire)
    assert (echo, len(reply)) == (REQUEST, REPLY_BYTES)
    assert echo_s == pytest.approx(8 * CHAR_S)


def test_what_a_strike_makes_of_an_answer_comes_at_its_times():
    wire = line()
    whole = line()
    whole.heard(REQUEST, 1.0)
    [(whole_s, reply)] = all_bytes(whole)
    strikes = [(), (Strike(Row.PIECES, 0.2, 1.0),), (Strike(Row.CUT),)]
    wire.strikes = lambda request: strikes.pop(0) if request == REQUEST else ()
    wire.heard(REQUEST, 1.0)
    unharmed = all_bytes(wire)
    assert unharmed[-1][0] == pytest.approx(whole_s) and b"".join(data for _, data in unharmed) == reply
    wire.heard(REQUEST, 2.0)
    pieces = all_bytes(wire)
    assert pieces[-1][0] == pytest.approx(whole_s + 1.06)
    assert b"".join(data for _, data in pieces)[:3] == reply[:3]  # the level has moved on
    wire.heard(REQUEST, 3.0)
    assert all_bytes(wire) == []
    assert [(len(exchange.reply), exchange.certain) for exchange in wire.exchanges] == [
        (REPLY_BYTES, True),
        (REPLY_BYTES, False),
        (0, False),
    ]


def test_noise_damages_either_way_and_says_so():
    wire = line(seed=4)
    wire.noise = 0.02
    outcomes = {"silent": 0, "damaged": 0, "good": 0}
    for t in range(200):
        wire.heard(REQUEST, float(t))
        all_bytes(wire, t + 0.9)
    for exchange in wire.exchanges:
        status = exchange.measured[0].status
        intact = bool(exchange.reply) and modbus.crc_ok(exchange.reply, 0, len(exchange.reply))
        assert (status == model.GOOD) == intact == exchange.certain
        outcomes["good" if intact else "damaged" if exchange.reply else "silent"] += 1
    assert sum(outcomes.values()) == 200
    # 8 bytes of request and 21 of reply, each hit with 2 %.
    assert outcomes["silent"] == pytest.approx(200 * (1 - 0.98**8), abs=15)
    assert outcomes["damaged"] == pytest.approx(200 * 0.98**8 * (1 - 0.98**21), abs=20)


def test_what_is_longer_than_a_fifo_comes_in_pieces():
    wire = line()
    wire.units[1].break_down(units.BABBLE)
    wire.heard(REQUEST, 0.0)
    pieces = all_bytes(wire)
    assert len(pieces) > 4 and max(len(data) for _, data in pieces) == 64
    assert len(wire.exchanges) == 1


def test_a_late_call_is_measured():
    wire = line()
    wire.heard(REQUEST, 0.0)
    wire.deliver(wire.due_s() + 0.25)
    assert wire.latest_s == pytest.approx(0.25)
