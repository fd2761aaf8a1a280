"""One board on one bus, without a gateway: its link is spoken by hand, by the test itself. Shell.

The bus has one unit, each of whose registers holds its own address. For what no gateway would do to a board, and for
what only real hardware has.
"""

import hashlib
import select
import struct
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import NamedTuple

from hil_tests.bench.line import Exchange, Line
from hil_tests.bench.rig import Rig, lay_bus
from hil_tests.bench.units import Answer as Reply
from hil_tests.bench.units import Unit
from hil_tests.small_site import BOARD
from protocols import link, modbus, modbus_edge, model, profile, readplan_edge
from protocols.link_edge import Answer, Console, EdgeEnd, Hello, Records

DEADLINE_S = 20.0
UNIT_ID = 7
LINE = model.Line.parse("115200 8N1")
_TICK_S = 0.1


class Sample(NamedTuple):
    """What came of one poll: the plan's generation, an outcome of modbus.py, the registers."""

    generation: int
    outcome: int
    registers: bytes


class Addresses(Unit):
    """A unit that says of each register its address, `after_s` after the request."""

    def __init__(self) -> None:
        super().__init__(UNIT_ID, profile.builtin("generic"), [])
        self.after_s = 0.002

    def answer(self, request: bytes, measure: Callable[[str], float]) -> Reply:
        """Whatever is asked for."""
        self.requests += 1
        address, count = struct.unpack(">HH", request[2:6])
        data = struct.pack(f">{count}H", *range(address, address + count))
        return Reply(modbus_edge.read_reply(UNIT_ID, request[1], data), self.after_s, ())


def plan_of(address: int, line: model.Line = LINE, period_ms: int = 100) -> bytes:
    """A plan of one read: two registers from this address on."""
    return readplan_edge.encode(
        [readplan_edge.encode_bus(1, line.baud, line.data_bits, line.parity, line.stop_bits)],
        [readplan_edge.encode_unit(0, UNIT_ID, 200, 50, 0, 1000)],
        [readplan_edge.encode_read(0, modbus.READ_HOLDING_REGISTERS, address, 2, period_ms)],
        b"\1\2\3\4",
    )


class BareBoard:
    """The board runs, and has said HELLO. `exchanges`, `samples`, `answers` and `console` grow as it goes on.

    With `two_buses` it has another one, on which nobody is. `pins`: terminals in the place of the board's pins.
    """

    def __init__(
        self,
        rig: Rig,
        directory: Path,
        line: model.Line = LINE,
        two_buses: bool = False,
        pins: Mapping[int, str] | None = None,
    ) -> None:
        self.unit = Addresses()
        self.exchanges: list[Exchange] = []
        self.bus = lay_bus(
            rig, BOARD, 1, Line("bus", line, [self.unit], lambda _point, _now_s: 0.0), self.exchanges.append
        )
        self.link = rig.link_port(BOARD)
        identity = rig.identity(BOARD, "esp32-one")
        self._ports = [self.bus.port, *([rig.bus_port(BOARD, 2, line)] if two_buses else [])]
        uarts = {uart: port.path for uart, port in enumerate(self._ports, 1)}
        self.board = rig.board(BOARD, identity, directory, uarts, self.link, pins)
        self.end = EdgeEnd()
        self.samples: list[Sample] = []
        self.answers: list[int] = []
        self.console: list[str] = []
        self.board.power_on()
        self.until(lambda: self.end.boot)

    def until(self, condition: Callable[[], object], within_s: float = DEADLINE_S) -> None:
        """Carry on until it is so; AssertionError where that takes too long, or the board's program ended."""
        end_s = time.monotonic() + within_s
        while not condition():
            assert self.board.is_running, self.board.console.read_text()
            assert time.monotonic() < end_s, (len(self.samples), self.answers, self.console)
            self._step()

    def _step(self) -> None:
        now_s = time.monotonic()
        self.bus.run(now_s)
        due_s = self.bus.line.due_s()
        wait_s = _TICK_S if due_s is None else min(max(due_s - now_s, 0), _TICK_S)
        readable, _, _ = select.select([self.bus.port, self.link], [], [], wait_s)
        if self.bus.port in readable:
            self.bus.receive(time.monotonic())
        for event in self.end.feed(self.link.read()) if self.link in readable else ():
            self._take(event)
        self.link.write(self.end.repeat(time.monotonic_ns() // 1_000_000))

    def _take(self, event: object) -> None:
        if isinstance(event, Hello):
            if self.end.boot != event.boot:
                self.end.adopt(event.boot, 0)
            self.link.write(self.end.ack())
        elif isinstance(event, Records):
            for generation, kind, body in event.records:
                if kind == link.SAMPLE:
                    self.samples.append(Sample(generation, body[1] & 15, body[link.SAMPLE_HEAD_BYTES :]))
            self.link.write(self.end.ack(self.end.expected))
        elif isinstance(event, Answer):
            self.answers.append(event.result)
        elif isinstance(event, Console):
            self.console.append(event.text)

    def command(self, operation: int, arguments: bytes) -> int:
        """One command, until it is answered; its result."""
        before = len(self.answers)
        self.link.write(self.end.command(operation, arguments, time.monotonic_ns() // 1_000_000))
        self.until(lambda: len(self.answers) > before)
        return self.answers[-1]

    def offer(self, plan: bytes, digest: bytes | None = None) -> None:
        """A whole plan, with its own digest or another, but for its commit."""
        digest = hashlib.sha256(plan).digest() if digest is None else digest
        assert self.command(link.PLAN_BEGIN, len(plan).to_bytes(2, "little") + digest) == link.DONE
        for offset in range(0, len(plan), link.CHUNK_MAX_BYTES):
            chunk = plan[offset : offset + link.CHUNK_MAX_BYTES]
            assert self.command(link.PLAN_CHUNK, offset.to_bytes(2, "little") + chunk) == link.DONE

    def send(self, plan: bytes, digest: bytes | None = None) -> int:
        """The same, and the result of its commit."""
        self.offer(plan, digest)
        return self.command(link.PLAN_COMMIT, b"")

    def restart(self, off_s: float = 0.0) -> None:
        """Off for so long, and on again, until the new start has said HELLO."""
        boot = self.end.boot
        self.board.power_off()
        time.sleep(off_s)  # with the board off there is nothing to observe
        self.board.power_on()
        self.until(lambda: self.end.boot != boot)

    def next_samples(self, count: int) -> list[Sample]:
        """So many more."""
        begin = len(self.samples)
        self.until(lambda: len(self.samples) >= begin + count)
        return self.samples[begin:]

    def close(self) -> None:
        """Off, and its ports back to the rig."""
        self.board.power_off()
        for port in (*self._ports, self.link):
            port.close()
