"""What a simulation cannot show: direction, parity, baud rate, break, supply. Each runs where a rig has what it needs.

None of these has ever run: they wait for the first rig (board_runs.json says so). On the simulation they are skipped,
by name.
"""

import random
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from hil_tests.bare_board import LINE, BareBoard, Sample, plan_of
from hil_tests.bench.adapter_port import AdapterPort
from hil_tests.bench.rig import N_, Rig
from protocols import link, modbus, modbus_edge, model

GOOD = b"\0\x64\0\x65"  # registers 100 and 101
SLOW, FAST = model.Line.parse("9600 8E1"), LINE
POLLS = 100
OFF_S = 2.0  # the supply's capacitors are empty, and the host has seen the port go
MARKED = b"\xff\x00"  # before a byte that came with a wrong parity or frame


@pytest.fixture
def board_at(rig: Rig, tmp_path: Path) -> Iterator[Callable[[model.Line], BareBoard]]:
    """A board that polls registers 100 and 101 at these settings, ten times a second."""
    boards: list[BareBoard] = []

    def start(line: model.Line) -> BareBoard:
        boards.append(BareBoard(rig, tmp_path, line))
        assert boards[-1].send(plan_of(100, line)) == link.DONE
        boards[-1].next_samples(3)
        return boards[-1]

    yield start
    for board in boards:
        board.close()


def all_good(samples: list[Sample]) -> bool:
    return all((sample.outcome, sample.registers) == (modbus.OK, GOOD) for sample in samples)


def adapter_of(board: BareBoard) -> AdapterPort:
    assert isinstance(board.bus.port, AdapterPort)
    return board.bus.port


def heard(board: BareBoard, for_s: float) -> bytes:
    """What the adapter reads while nobody answers."""
    end_s = time.monotonic() + for_s
    data = b""
    while time.monotonic() < end_s:
        data += board.bus.port.read()
        time.sleep(0.01)
    return data


@pytest.mark.needs("chip", "de_line")
@pytest.mark.shows(N_("The board frees the line in time: the earliest allowed reply keeps its first byte."))
@pytest.mark.parametrize("line", [SLOW, FAST], ids=str)
def test_the_first_byte_of_the_earliest_reply_meets_no_collision(
    board_at: Callable[[model.Line], BareBoard], line: model.Line
) -> None:
    """A unit that answers 3.5 characters after the request: a board that still drives the line spoils its first byte.

    The adapter's own delay comes on top of it; on one with a latency timer, set that to 1 ms.
    """
    board = board_at(line)
    board.unit.after_s = board.bus.line.silence_s
    asked = board.unit.requests
    samples = board.next_samples(POLLS)
    assert all_good(samples)
    assert board.unit.requests - asked <= POLLS + 2  # none was asked again


@pytest.mark.needs("chip", "de_line")
@pytest.mark.shows(N_("Between its requests the board does not drive the line: another master is heard."))
def test_the_line_is_free_between_requests(board_at: Callable[[model.Line], BareBoard]) -> None:
    """The board stops polling for another master, which it can only hear while it does not drive."""
    board = board_at(SLOW)
    board.bus.port.write(modbus_edge.read_request(9, modbus.READ_HOLDING_REGISTERS, 0, 2))  # not our unit
    assert len(heard(board, 3.0)) <= 8  # the one request that may have been under way


@pytest.mark.needs("chip", "parity")
@pytest.mark.shows(N_("The board sends the parity that the site file names."))
def test_even_parity_is_really_sent(board_at: Callable[[model.Line], BareBoard]) -> None:
    """An adapter set to odd parity must find fault with every byte of a request, and one set to even with none."""
    board = board_at(SLOW)
    adapter = adapter_of(board)
    adapter.mark_errors(True)
    try:
        adapter.set_line(model.Line(SLOW.baud, 8, "O", 1))
        odd = heard(board, 2.0)
        adapter.set_line(SLOW)
        even = heard(board, 2.0)
    finally:
        adapter.mark_errors(False)
    assert odd and odd.count(MARKED) * 3 == len(odd), odd.hex(" ")
    assert even and MARKED not in even, even.hex(" ")


@pytest.mark.needs("chip", "baud")
@pytest.mark.shows(N_("A read plan with another baud rate takes effect on the wire."))
def test_another_baud_rate_takes_effect(board_at: Callable[[model.Line], BareBoard]) -> None:
    board = board_at(SLOW)
    other = model.Line.parse("19200 8E1")
    assert board.send(plan_of(100, other)) == link.DONE
    assert {sample.outcome for sample in board.next_samples(5)[3:]} == {modbus.TIMEOUT}  # we still speak the old one
    adapter_of(board).set_line(other)
    board.next_samples(3)
    assert all_good(board.next_samples(20))


@pytest.mark.needs("chip", "line_break")
@pytest.mark.shows(N_("A line held down for half a second stops nothing: polling goes on by itself."))
def test_polling_goes_on_after_a_break(board_at: Callable[[model.Line], BareBoard]) -> None:
    board = board_at(SLOW)
    adapter_of(board).send_break(0.5)
    board.next_samples(10)
    assert all_good(board.next_samples(20))


@pytest.mark.timeout(300)
@pytest.mark.needs("chip", "power_off", "power_cut")
@pytest.mark.shows(N_("The supply cut while a read plan is stored, 20 times: the board polls the old plan or the new."))
def test_a_plan_survives_a_supply_that_is_cut_while_it_is_stored(
    board_at: Callable[[model.Line], BareBoard], request: pytest.FixtureRequest
) -> None:
    board = board_at(FAST)
    chance = random.Random(request.node.name)
    for offered in range(110, 310, 10):
        board.offer(plan_of(offered, FAST))
        board.link.write(board.end.command(link.PLAN_COMMIT, b"", 0))
        time.sleep(chance.uniform(0, 0.05))
        board.restart(OFF_S)
        sample = board.next_samples(1)[0]
        polled = int.from_bytes(sample.registers[:2]) if sample.outcome == modbus.OK else 0
        assert polled in (offered - 10, offered), (offered, sample)
        if polled != offered:
            assert board.send(plan_of(offered, FAST)) == link.DONE
            board.next_samples(3)


@pytest.mark.needs("chip", "unplug")
@pytest.mark.shows(N_("A board whose USB plug was pulled comes back under the same name, with a new start."))
def test_a_pulled_plug_comes_back(board_at: Callable[[model.Line], BareBoard]) -> None:
    board = board_at(FAST)
    board.restart(OFF_S)
    board.next_samples(3)
    assert all_good(board.next_samples(10))


@pytest.mark.needs("chip")
@pytest.mark.shows(N_("A real chip keeps up with ten polls a second: none is late, none is lost."))
def test_a_chip_keeps_its_period(board_at: Callable[[model.Line], BareBoard]) -> None:
    board = board_at(FAST)
    begin_s = time.monotonic()
    samples = board.next_samples(POLLS)
    assert all_good(samples)
    assert POLLS * 0.1 * 0.95 < time.monotonic() - begin_s < POLLS * 0.1 * 1.05
