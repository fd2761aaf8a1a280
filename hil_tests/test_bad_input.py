"""What no board should take: wrong plans, garbage on link and bus. Real firmware, its link spoken by hand."""

import hashlib
import random
import select
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from hil_tests.bench.board import VirtualBoard
from hil_tests.bench.pty_port import PtyPort
from protocols import link, modbus, modbus_edge, readplan, readplan_edge
from protocols.link_edge import Answer, Console, EdgeEnd, Hello, Records

DEADLINE_S = 20.0


def plan_of(address: int) -> bytes:
    return readplan_edge.encode(
        [readplan_edge.encode_bus(1, 115200, 8, "N", 1)],
        [readplan_edge.encode_unit(0, 7, 200, 50, 0, 1000)],
        [readplan_edge.encode_read(0, 3, address, 2, 100)],
        b"\1\2\3\4",
    )


class Bench:
    """One board: its bus answered by hand (each register holds its address), its link spoken by hand."""

    def __init__(self, directory: Path) -> None:
        self.bus, self.link = PtyPort(), PtyPort()
        self.board = VirtualBoard("cab1", "esp32-one", directory, {1: self.bus.path}, self.link.path)
        self.end = EdgeEnd()
        self.samples: list[tuple[int, int, bytes]] = []  # generation, outcome, registers
        self.answers: list[int] = []
        self.console: list[str] = []
        self.board.power_on()
        self.until(lambda: self.end.boot)

    def until(self, condition: Callable[[], object]) -> None:
        end_s = time.monotonic() + DEADLINE_S
        while not condition():
            assert self.board.is_running, self.board.console.read_text()
            assert time.monotonic() < end_s, (len(self.samples), self.answers, self.console)
            readable, _, _ = select.select([self.bus.fileno(), self.link.fileno()], [], [], 0.1)
            if self.bus.fileno() in readable:
                request = self.bus.read()
                if len(request) == 8 and modbus.crc_ok(request, 0, 8):
                    at = request[2] << 8 | request[3]
                    self.bus.write(modbus_edge.read_reply(7, 3, at.to_bytes(2, "big") + (at + 1).to_bytes(2, "big")))
            if self.link.fileno() in readable:
                for event in self.end.feed(self.link.read()):
                    self.take(event)
            self.link.write(self.end.repeat(int(time.monotonic() * 1000)))

    def take(self, event: object) -> None:
        if isinstance(event, Hello):
            if self.end.boot is None:
                self.end.adopt(event.boot, 0)
            self.link.write(self.end.ack())
        elif isinstance(event, Records):
            for generation, kind, body in event.records:
                if kind == link.SAMPLE:
                    self.samples.append((generation, body[1] & 15, body[link.SAMPLE_HEAD_BYTES :]))
            self.link.write(self.end.ack(self.end.expected))
        elif isinstance(event, Answer):
            self.answers.append(event.result)
        elif isinstance(event, Console):
            self.console.append(event.text)

    def command(self, operation: int, arguments: bytes) -> int:
        """One command, until it is answered; its result."""
        before = len(self.answers)
        self.link.write(self.end.command(operation, arguments, int(time.monotonic() * 1000)))
        self.until(lambda: len(self.answers) > before)
        return self.answers[-1]

    def send(self, plan: bytes, digest: bytes) -> int:
        """A whole plan; the result of its commit."""
        begun = self.command(link.PLAN_BEGIN, len(plan).to_bytes(2, "little") + digest)
        assert begun == link.DONE
        assert self.command(link.PLAN_CHUNK, b"\0\0" + plan) == link.DONE
        return self.command(link.PLAN_COMMIT, b"")

    def next_samples(self, count: int) -> list[tuple[int, int, bytes]]:
        begin = len(self.samples)
        self.until(lambda: len(self.samples) >= begin + count)
        return self.samples[begin:]


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    bench = Bench(tmp_path)
    yield bench
    bench.board.power_off()
    bench.bus.close()
    bench.link.close()


def test_a_wrong_plan_is_refused_and_the_old_one_goes_on(bench: Bench) -> None:
    good, other = plan_of(100), plan_of(200)
    digest = hashlib.sha256(good).digest()
    assert bench.send(good, digest) == link.DONE
    generation = readplan.generation(digest)
    bench.next_samples(3)

    assert bench.send(other, digest) == link.WRONG_DIGEST
    broken = bytearray(other)
    broken[readplan.unit_at(other, 0) + 1] = 0  # no unit has the id 0
    assert bench.send(bytes(broken), hashlib.sha256(broken).digest()) == link.WRONG_PLAN
    assert bench.command(link.PLAN_COMMIT, b"") == link.REFUSED
    assert bench.command(99, b"") == link.REFUSED

    for taken, outcome, registers in bench.next_samples(5):
        assert (taken, outcome, registers) == (generation, modbus.OK, b"\0\x64\0\x65")


def test_garbage_on_link_and_bus_costs_no_sample_and_no_value(bench: Bench) -> None:
    plan = plan_of(100)
    assert bench.send(plan, hashlib.sha256(plan).digest()) == link.DONE
    bench.next_samples(3)
    noise = random.Random(5).randbytes(100)
    for garbage in (noise, b"\0" * 50, b"\0\x05\x82half", b"\xff" * 300, bytes(range(1, 200))):
        bench.link.write(garbage)
        bench.bus.write(garbage[:40])
        bench.bus.write(modbus_edge.read_reply(9, 3, b"\x11\x22\x33\x44"))  # another unit's
        for _generation, outcome, registers in bench.next_samples(4):
            if outcome == modbus.OK:
                assert registers == b"\0\x64\0\x65"
    assert {outcome for _, outcome, _ in bench.next_samples(5)} == {modbus.OK}
    assert not any("Traceback" in text for text in bench.console)
    assert "Traceback" not in bench.board.console.read_text()
