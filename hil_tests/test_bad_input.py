"""What no board should take: wrong plans, garbage on link and bus. Real firmware, its link spoken by hand."""

import hashlib
import random
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from hil_tests.bare_board import BareBoard, plan_of
from hil_tests.bench.rig import N_, Rig
from protocols import link, modbus, modbus_edge, readplan


@pytest.fixture
def bench(rig: Rig, tmp_path: Path) -> Iterator[BareBoard]:
    with closing(BareBoard(rig, tmp_path)) as board:
        yield board


@pytest.mark.shows(N_("A damaged or senseless read plan is refused; the board goes on by the one that it has."))
def test_a_wrong_plan_is_refused_and_the_old_one_goes_on(bench: BareBoard) -> None:
    good, other = plan_of(100), plan_of(200)
    digest = hashlib.sha256(good).digest()
    assert bench.send(good) == link.DONE
    generation = readplan.generation(digest)
    bench.next_samples(3)

    assert bench.send(other, digest) == link.WRONG_DIGEST
    broken = bytearray(other)
    broken[readplan.unit_at(other, 0) + 1] = 0  # no unit has the id 0
    assert bench.send(bytes(broken)) == link.WRONG_PLAN
    assert bench.command(link.PLAN_COMMIT, b"") == link.REFUSED
    assert bench.command(99, b"") == link.REFUSED

    for sample in bench.next_samples(5):
        assert sample == (generation, modbus.OK, b"\0\x64\0\x65")


@pytest.mark.shows(N_("Garbage on the link and on the bus changes no value and stops nothing."))
def test_garbage_on_link_and_bus_costs_no_sample_and_no_value(bench: BareBoard) -> None:
    assert bench.send(plan_of(100)) == link.DONE
    bench.next_samples(3)
    noise = random.Random(5).randbytes(100)
    for garbage in (noise, b"\0" * 50, b"\0\x05\x82half", b"\xff" * 300, bytes(range(1, 200))):
        bench.link.write(garbage)
        bench.bus.port.write(garbage[:40])
        bench.bus.port.write(modbus_edge.read_reply(9, 3, b"\x11\x22\x33\x44"))  # another unit's
        for sample in bench.next_samples(4):
            if sample.outcome == modbus.OK:
                assert sample.registers == b"\0\x64\0\x65"
    assert {sample.outcome for sample in bench.next_samples(5)} == {modbus.OK}
    assert not any("Traceback" in text for text in bench.console)
    assert "Traceback" not in bench.board.console.read_text()
