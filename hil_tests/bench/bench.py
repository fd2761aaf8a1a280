"""The bench as a whole: the example site's plant, lines, boards and cables, and the books about them. Shell.

Owns the one loop over all pseudo-terminals and the bench's clock. Whoever runs the bench calls `step` all the time;
nothing moves in between. Must never decide what a sensor says or whether a reading was due: units.py, plant.py,
line.py and ledger.py do.
"""

import selectors
import time
from collections import defaultdict
from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path

from hil_tests.bench import sheet
from hil_tests.bench.board import Cable
from hil_tests.bench.bus import Bus
from hil_tests.bench.capture import Capture
from hil_tests.bench.ledger import Ledger, Poll, Rule
from hil_tests.bench.line import Exchange, Line
from hil_tests.bench.plant import Plant
from hil_tests.bench.rig import Rig, SimulatedRig, lay_bus
from hil_tests.bench.units import Unit
from protocols import model, profile
from protocols.feeds import json_feed

_UNANSWERED = (model.NO_REPLY, model.BAD_CRC, model.WRONG_REPLY)


class Bench:
    """A site on a rig. `directory` takes flash, console logs and dev/<board>, the edge's ends of the cables.

    `taps` are called with every exchange on a bus. `measure`: what a point measures when, if not the example plant's.
    """

    def __init__(
        self,
        site: Path,
        directory: Path,
        seed: int = 1,
        taps: Iterable[Callable[[Exchange], None]] = (),
        rig: Rig | None = None,
        measure: Callable[[str, float], float] | None = None,
    ) -> None:
        self.sheet = sheet.read(
            (site / "gateway.toml").read_text(encoding="utf-8"), (site / "points.csv").read_text(encoding="utf-8")
        )
        self.plant = Plant(seed)
        self._taps = tuple(taps)
        self._start_s = time.monotonic()
        self._start_utc_ms = time.time_ns() // 1_000_000
        self._selector = selectors.DefaultSelector()
        self.units = make_units(self.sheet, seed)
        rig = rig or SimulatedRig()
        self.buses = {
            bus.name: lay_bus(
                rig,
                bus.board,
                bus.uart,
                Line(bus.name, bus.line, self.units[bus.name], measure or self.plant.value, seed),
                self._exchanged,
                self._start_utc_ms,
            )
            for bus in self.sheet.buses
        }
        self.ledger = Ledger(self._rules(), json_feed.heartbeat_second(self.sheet.gateway))
        (directory / "dev").mkdir(parents=True)
        self.cables = {
            name: Cable(directory / "dev" / name, seed, rig.link_port(name)) for name in self.sheet.boards
        }
        self.boards = {
            name: rig.board(
                name,
                rig.identity(name, proposed),
                directory,
                {bus.uart: self.buses[bus.name].port.path for bus in self.sheet.buses if bus.board == name},
                self.cables[name].board_end,
            )
            for name, proposed in self.sheet.boards.items()
        }
        for bus in self.buses.values():
            self._watch(bus.port.fileno(), partial(self._receive, bus))
        for cable in self.cables.values():
            self._watch(cable.board_end.fileno(), cable.carry_up)
            self._watch_edge_end(cable)

    # --- time and work --------------------------------------------------------------------------------------

    def now_s(self) -> float:
        """Seconds since the bench began; the plant's time."""
        return time.monotonic() - self._start_s

    def utc_ms(self, now_s: float) -> int:
        """The same moment in UTC, by the clock that the machine had when the bench began."""
        return self._start_utc_ms + round(now_s * 1000)

    def start(self) -> None:
        """Power on every board."""
        for board in self.boards.values():
            board.power_on()

    def step(self, timeout_s: float) -> None:
        """Carry bytes and answer requests until `timeout_s` has passed."""
        end_s = self.now_s() + timeout_s
        while True:
            now_s = self.now_s()
            for bus in self.buses.values():
                bus.run(now_s)
            if now_s >= end_s:
                return
            due_s = min((due for bus in self.buses.values() if (due := bus.line.due_s()) is not None), default=end_s)
            for key, _events in self._selector.select(max(min(due_s, end_s) - now_s, 0)):
                key.data()

    def close(self) -> None:
        """Power everything off and take it away."""
        for board in self.boards.values():
            board.power_off()
        self._selector.close()
        for cable in self.cables.values():
            cable.close()
        for bus in self.buses.values():
            bus.port.close()

    # --- what can be done to it -----------------------------------------------------------------------------

    def unit(self, point: str) -> Unit:
        """The sensor that measures a point."""
        return next(
            unit
            for units in self.units.values()
            for unit in units
            for measured in unit.points
            if measured.point == point
        )

    def unplug(self, board: str) -> None:
        """Pull a board's link cable out of the edge."""
        cable = self.cables[board]
        if cable.edge_end is not None:
            self._selector.unregister(cable.edge_end.fileno())
            cable.unplug()

    def plug_in(self, board: str) -> None:
        """Put it in again."""
        cable = self.cables[board]
        if cable.edge_end is None:
            cable.plug_in()
            self._watch_edge_end(cable)

    def swap(self, one: str, other: str) -> None:
        """Exchange the plugs of two cables at the edge, which keeps both ports open."""
        first, second = self.cables[one], self.cables[other]
        for cable in (first, second):
            if cable.edge_end is not None:
                self._selector.unregister(cable.edge_end.fileno())
        first.edge_end, second.edge_end = second.edge_end, first.edge_end
        first.plug, second.plug = second.plug, first.plug
        self._watch_edge_end(first)
        self._watch_edge_end(second)

    def capture(self, file: Path) -> Capture:
        """Record all lines into this file, a port each, until it is closed."""
        return Capture(file, self.buses.values(), self._start_utc_ms)

    def _receive(self, bus: Bus) -> None:
        bus.receive(self.now_s())

    def _watch(self, descriptor: int, readable: Callable[[], None]) -> None:
        self._selector.register(descriptor, selectors.EVENT_READ, readable)

    def _watch_edge_end(self, cable: Cable) -> None:
        if cable.edge_end is not None:
            self._watch(cable.edge_end.fileno(), cable.carry_down)

    def _exchanged(self, exchange: Exchange) -> None:
        self.ledger.polled(self._polls(exchange))
        for tap in self._taps:
            tap(exchange)

    def _rules(self) -> dict[str, Rule]:
        return {
            point.point: Rule(
                self.sheet.bus(point.bus).board,
                point.bus,
                point.period_ms,
                point.deadband,
                point.heartbeat_s,
                unit.step(point),
            )
            for units in self.units.values()
            for unit in units
            for point in unit.points
        }

    def _polls(self, exchange: Exchange) -> Iterable[Poll]:
        for measured in exchange.measured:
            if measured.status in _UNANSWERED or exchange.replied_s is None:
                at_ms, until_ms = self.utc_ms(exchange.asked_s), self.utc_ms(exchange.given_up_s)
            else:
                at_ms = until_ms = self.utc_ms(exchange.replied_s)
            yield Poll(
                measured.point, at_ms, until_ms, measured.value, measured.status, measured.detail, exchange.certain
            )


def make_units(site: sheet.Sheet, seed: int) -> dict[str, list[Unit]]:
    """Bus -> its sensors."""
    points: dict[tuple[str, int, str], list[sheet.Point]] = defaultdict(list)
    for point in site.points:
        points[point.bus, point.unit_id, point.profile].append(point)
    units: dict[str, list[Unit]] = {bus.name: [] for bus in site.buses}
    for (bus, unit_id, name), measured in points.items():
        units[bus].append(Unit(unit_id, profile.builtin(name), measured, seed))
    return units
