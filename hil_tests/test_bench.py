"""The bench as a whole, without its boards: the example site's lines answer, cables can be swapped, books are kept."""

import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from hil_tests.bench.bench import Bench
from hil_tests.bench.line import Exchange
from protocols import modbus_edge, model

pytestmark = pytest.mark.needs("simulation")

SITE = Path(__file__).parent / "site"
WAIT_S = 5.0


@pytest.fixture
def exchanges() -> list[Exchange]:
    return []


@pytest.fixture
def bench(tmp_path: Path, exchanges: list[Exchange]) -> Iterator[Bench]:
    bench = Bench(SITE, tmp_path, taps=[exchanges.append])
    yield bench
    bench.close()


def until(bench: Bench, true: Callable[[], object]) -> None:
    end_s = time.monotonic() + WAIT_S
    while not true():
        assert time.monotonic() < end_s
        bench.step(0.01)


def test_every_bus_answers_and_the_books_know(bench: Bench, exchanges: list[Exchange]) -> None:
    requests = {"level": (1, 4, 100, 8), "gas-a": (3, 3, 2, 9), "gas-b": (20, 3, 0, 6)}
    for bus, request in requests.items():
        master = os.open(bench.buses[bus].port.path, os.O_RDWR | os.O_NOCTTY)
        os.write(master, modbus_edge.read_request(*request))
        os.close(master)
    until(bench, lambda: len(exchanges) == 3)
    points = {measured.point for exchange in exchanges for measured in exchange.measured}
    assert points == {"TK101.level", "GD03.gas", *(f"TK10{i}.temp" for i in range(1, 7))}
    bench.step(0.01)  # without patience a reading is lost a millisecond after its poll
    figures = bench.ledger.figures(bench.utc_ms(bench.now_s()), 0)
    assert (figures.sampled, figures.due, figures.lost) == (8, 8, 8)
    for poll in bench.ledger.missing(bench.utc_ms(bench.now_s()), 0):
        assert abs(poll.utc_ms - time.time() * 1000) < WAIT_S * 1000
        assert poll.status == model.GOOD


def test_a_sensor_is_found_by_its_point(bench: Bench) -> None:
    assert bench.unit("GD05.gas").unit_id == 5
    assert bench.unit("TK106.temp").unit_id == 20


def test_swapped_cables_lead_to_the_other_board(bench: Bench) -> None:
    edge = {name: os.open(cable.plug, os.O_RDWR | os.O_NOCTTY) for name, cable in bench.cables.items()}
    boards = {name: os.open(cable.board_end.path, os.O_RDWR | os.O_NOCTTY) for name, cable in bench.cables.items()}
    bench.swap("cab1", "cab2")
    os.write(boards["cab1"], b"up")
    os.write(edge["cab1"], b"down")
    bench.step(0.05)
    assert (os.read(edge["cab2"], 10), os.read(boards["cab2"], 10)) == (b"up", b"down")
    bench.unplug("cab1")
    assert not (bench.cables["cab1"].plug).exists() and bench.cables["cab2"].plug.exists()
    bench.plug_in("cab1")
    for descriptor in (*edge.values(), *boards.values()):
        os.close(descriptor)
