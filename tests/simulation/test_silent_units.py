"""A board whose units are all silent takes another plan like any other board. Shell."""

import hashlib
from random import Random

import pytest

from protocols import link, readplan, readplan_edge
from protocols.link_edge import Answer, EdgeEnd, Hello
from tests.simulation.parts import SECOND_US, Cable, Faults, Line, Time, Unit
from tests.simulation.sim_board import SimBoard


class Sender:
    """The other end of a board's cable: it adopts whoever is there, and tells how its commands ended."""

    def __init__(self, time: Time, up: Cable, down: Cable) -> None:
        self.results: list[int] = []
        self.generation = 0
        self._end = EdgeEnd()
        self._time = time
        self._down = down
        up.to(self._heard)

    def _heard(self, data: bytes) -> None:
        for event in self._end.feed(data):
            if isinstance(event, Hello):
                self.generation = event.generation
                if self._end.boot is None:
                    self._end.adopt(event.boot, 0)
            elif isinstance(event, Answer):
                self.results.append(event.result)
            if self._end.boot is not None:
                self._down.send(self._end.ack(self._end.expected))

    def send(self, plan: bytes) -> None:
        """A plan, and two seconds for each of its commands."""
        commands = [(link.PLAN_BEGIN, len(plan).to_bytes(2, "little") + hashlib.sha256(plan).digest())]
        for at in range(0, len(plan), link.CHUNK_MAX_BYTES):
            commands.append((link.PLAN_CHUNK, at.to_bytes(2, "little") + plan[at : at + link.CHUNK_MAX_BYTES]))
        for operation, arguments in [*commands, (link.PLAN_COMMIT, b"")]:
            self._down.send(self._end.command(operation, arguments, self._time.now_us // 1000))
            self._time.run(self._time.now_us + 2 * SECOND_US)


@pytest.mark.parametrize("units", [1, 40, 63])
def test_a_board_whose_units_are_all_silent_takes_another_plan(units: int) -> None:
    time, faults = Time(), Faults()
    line = Line(time, Random(1), faults, {unit: Unit(unit, is_dead=True) for unit in range(1, units + 1)}, 1041)
    up, down = Cable(time, Random(2), faults, 460_800), Cable(time, Random(3), faults, 460_800)
    board = SimBoard(time, Random(4), "esp32-000000000001", [line], up, down)
    sender = Sender(time, up, down)
    board.start()
    time.run(3 * SECOND_US)
    for baud in (9600, 19200):
        plan = readplan_edge.encode(
            [readplan_edge.encode_bus(1, baud, 8, "N", 1)],
            [readplan_edge.encode_unit(0, unit, 200, 50, 0, 1000) for unit in range(1, units + 1)],
            [readplan_edge.encode_read(unit, 3, 0, 2, 1000) for unit in range(units)],
            bytes(4),
        )
        sender.send(plan)
        assert set(sender.results) == {link.DONE}
        assert sender.generation == board.generation == readplan.generation(hashlib.sha256(plan).digest())
        time.run(time.now_us + 20 * SECOND_US)
