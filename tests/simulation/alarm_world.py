"""One board's alarms and its horn on the fake clock: a random site, and random changes one after the other. Policy.

What is measured: from a change at the sensor to the horn's order, which leaves the gateway as the alarm is decided, and
to the last bit of the write to its coil. To be held to what `check` says of the point. Units either all answer at once,
or each time as late as it pleases them within their time-outs; now and then the first poll after a change fails. The
horn is that of the limits alone: what is stale by a failed poll does not sound it.
"""

import struct
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from random import Random

from edge.cli.site import foresee
from edge.config import load_site
from edge.forecast import PointForecast, judge
from protocols import link, modbus, modbus_edge, switching
from protocols.model import Line as Settings
from protocols.model import Site
from protocols.profile import builtin
from tests.simulation.parts import SECOND_US, Cable, Faults, Line, Time
from tests.simulation.sim_board import SimBoard
from tests.simulation.sim_broker import Broker
from tests.simulation.sim_gateway import SimGateway, WallClock
from tests.simulation.world import UTC_MS

HORN_UNIT = 30
_MODULE_TIMEOUT_MS = 50
_LIMIT, _WELL = 8000, 1000
_OFF_DELAY_S = 12.0  # the preset's ten seconds, and a poll
_FAILS = 0.3  # chance that the first poll after a change does
_STEP_US = 5000
_PATIENCE = 3.0  # bounds: by then it will never come
_LISTENS_S = 10.0  # a board that starts
_TOML = """
schema = 1
[site]
gateway = "simulated"
name = "simulated"
group = "tests"
timezone = "Asia/Shanghai"
points = "points.csv"
[boards.cab1]
id = "esp32-000000000001"
port = "/dev/cab1"
{buses}
[outputs.horn]
bus = "bus1"
unit_id = 30
profile = "module"
coil = 3
priorities = [1]
[store]
path = "store"
max_bytes = "500 MB"
[destinations.district]
url = "mqtt://127.0.0.1:1883"
feed = "json"
"""
_BUS = """
[buses.bus{uart}]
board = "cab1"
uart = {uart}
line = "{line}"
"""
_PROFILE = """
version = 1
maker = "simulated"
model = "registers"
source = "tests/simulation"
evidence = "bench"
timeout_ms = {timeout_ms}
timeout_floor_ms = {timeout_ms}
reply_ms = 0
spacing_ms = {spacing_ms}
address_base = 0
"""
_CHANNEL = """
[channels.r{address}]
function_code = 3
address = {address}
type = "u16"
divisor = 10
decimals = 1
unit = "kPa"
"""
_HEADINGS = "point,name,area,bus,unit_id,profile,channel,unit,range_low,range_high,period_s,on_delay_s,preset,HH,action"


@dataclass(frozen=True, slots=True)
class Took:
    """One change: how long it took, and how long it may take, in ms; infinite where it never came."""

    point: str
    alarm_ms: float
    alarm_most_ms: float
    horn_ms: float
    horn_most_ms: float

    @property
    def is_late(self) -> bool:
        """Whether one of the two took longer."""
        return self.alarm_ms > self.alarm_most_ms or self.horn_ms > self.horn_most_ms


@dataclass(slots=True)
class _Unit:
    """One unit: its registers by address, and whether its next answer fails. `timeout_us`: it answers at once if 0."""

    registers: dict[int, int]
    timeout_us: int
    fails: bool = False


class _AlarmLine(Line):
    """A line with such units, and with the horn's module, whose coil was written last at `coil_us`."""

    def __init__(self, time: Time, chance: Random, units: dict[int, _Unit], char_us: int) -> None:
        super().__init__(time, chance, Faults(), {}, char_us)
        self.coil = False
        self.coil_us = 0
        self.sensors = units

    def write(self, buf: bytearray, count: int) -> None:
        request = bytes(buf[:count])
        unit = self.sensors[request[0]]
        asked_us = self._time.now_us + count * self._char_us
        fails, unit.fails = unit.fails, False
        if request[1] == modbus.WRITE_COIL:
            self.coil, self.coil_us = request[4] == 0xFF, asked_us
            reply = modbus_edge.write_reply(request)
        elif request[1] == modbus.READ_COILS:
            reply = modbus_edge.read_reply(request[0], request[1], bytes((self.coil,)))
        else:
            address, words = struct.unpack(">HH", request[2:6])
            registers = [unit.registers.get(address + place, 0) for place in range(words)]
            reply = modbus_edge.read_reply(request[0], request[1], struct.pack(f">{words}H", *registers))
        if not fails:
            turnaround_us = self._chance.randrange(unit.timeout_us) if unit.timeout_us else 0
            ends_us, power = asked_us + turnaround_us + len(reply) * self._char_us, self._power
            self._time.at(ends_us, lambda: self._ends(power, reply, None, 0))


class _DownCable(Cable):
    """From the gateway to the board: when the horn was ordered on last."""

    ordered_us = 0

    def send(self, data: bytes) -> None:
        for piece in data.split(b"\0"):
            body = bytearray(piece)
            is_command = body and link.deframe(body, len(body)) > 0 and body[0] == link.COMMAND
            if is_command and body[7] == switching.SWITCH and body[11]:
                self.ordered_us = self._time.now_us
        super().send(data)


class AlarmWorld:
    """One site of one seed. `are_quick`: its units answer at once."""

    def __init__(self, seed: int, folder: Path, are_quick: bool) -> None:
        self.chance = Random(seed)
        self.time = Time()
        self.told: dict[str, PointForecast] = {}
        self._are_quick = are_quick
        self._places: dict[str, tuple[int, int, int]] = {}  # line, unit id, address
        self._well_s: dict[str, float] = {}  # when a point may be changed again
        while (site := self._draw(folder)) is None:
            pass
        self._lines = list(self._lay(seed))
        up = Cable(self.time, Random(f"{seed} up"), Faults(), 460_800)
        self._down = _DownCable(self.time, Random(f"{seed} down"), Faults(), 460_800)
        self._board = SimBoard(self.time, Random(f"{seed} board"), "esp32-000000000001", self._lines, up, self._down)
        clock = WallClock(self.time, UTC_MS, 0.0)
        clock.set(UTC_MS, True)
        broker = Broker(self.time, Random(f"{seed} broker"))
        cables: dict[str, tuple[Cable, Cable]] = {"/dev/cab1": (up, self._down)}
        self.gateway = SimGateway(self.time, Random(f"{seed} pi"), site, folder, clock, cables, {"district": broker})

    def run(self, changes: int) -> Iterator[Took]:
        """Begin, and change something again and again."""
        self._board.start()
        self.gateway.start()
        self.time.run(int(2 * _LISTENS_S * SECOND_US))
        for _change in range(changes):
            yield self._change()

    def _draw(self, folder: Path) -> Site | None:
        """A random site, written down; None where `check` refuses it, or slow units would make its points stale."""
        chance = self.chance
        self._timeout_ms = chance.choice((50, 100, 300))
        uarts = range(1, 1 + chance.randint(1, 2))
        self._settings = [f"{chance.choice((9600, 19200, 115_200))} 8{chance.choice('NE')}1" for _uart in uarts]
        self._units = {uart: range(1, 1 + chance.randint(3, 10)) for uart in uarts}
        step = chance.choice((1, 1, 3))  # what lies between may not be read along
        addresses = range(0, step * chance.randint(3, 10 if step == 1 else 4), step)
        self._places = {
            f"B{uart}-{unit_id}.r{address}": (uart - 1, unit_id, address)
            for uart, unit_ids in self._units.items()
            for unit_id in unit_ids
            for address in addresses
        }
        self._write(folder, addresses, chance.choice((0, 0, 100)))
        site = load_site(folder / "gateway.toml")
        told = foresee(site)
        self.told = {point.point: point for point in told.points}
        problems, _reminders = judge(site, told, "", "")
        holds = self._are_quick or all(bus.holds for bus in told.buses)
        return None if problems or not holds else site

    def _write(self, folder: Path, addresses: range, spacing_ms: int) -> None:
        drawn = _PROFILE.format(timeout_ms=self._timeout_ms, spacing_ms=spacing_ms)
        drawn += "".join(_CHANNEL.format(address=address) for address in addresses)
        module = builtin("io-16do").text.replace("\ntimeout_ms = 1000", f"\ntimeout_ms = {_MODULE_TIMEOUT_MS}")
        (folder / "profiles").mkdir(parents=True, exist_ok=True)
        for name, text in (("drawn", drawn), ("module", module)):
            (folder / "profiles" / f"{name}.toml").write_text(text, encoding="utf-8")
        rows = [_HEADINGS]
        for unit in dict.fromkeys((line, unit_id) for line, unit_id, _address in self._places.values()):
            period_s, on_delay_s = self.chance.choice((0.5, 1, 2)), self.chance.choice((0, 0, 0.5, 2))
            rows += [
                f"{name},{name},a,bus{line + 1},{unit_id},drawn,r{address},kPa,0,1000,{period_s},{on_delay_s},"
                f"pressure,{_LIMIT / 10:g},look"
                for name, (line, unit_id, address) in self._places.items()
                if (line, unit_id) == unit
            ]
        (folder / "points.csv").write_text("\n".join(rows) + "\n", encoding="utf-8")
        buses = "".join(_BUS.format(uart=uart, line=line) for uart, line in enumerate(self._settings, 1))
        (folder / "gateway.toml").write_text(_TOML.format(buses=buses), encoding="utf-8")

    def _lay(self, seed: int) -> Iterator[_AlarmLine]:
        timeout_us = 0 if self._are_quick else self._timeout_ms * 1000
        for uart, unit_ids in self._units.items():
            units = {unit_id: _Unit({}, timeout_us) for unit_id in unit_ids}
            for _line, unit_id, address in (each for each in self._places.values() if each[0] == uart - 1):
                units[unit_id].registers[address] = _WELL
            units[HORN_UNIT] = _Unit({}, 0 if self._are_quick else _MODULE_TIMEOUT_MS * 1000)
            char_us = round(Settings.parse(self._settings[uart - 1]).char_us)
            yield _AlarmLine(self.time, Random(f"{seed} {uart}"), units, char_us)

    def _change(self) -> Took:
        now_s = self.time.now_us / SECOND_US
        point = self.chance.choice([name for name in self._places if self._well_s.get(name, 0.0) < now_s])
        told = self.told[point]
        assert told.worst.horn is not None
        end = 0 if self._are_quick else 1
        alarm_most_ms, horn_most_ms = told.worst.alarm[end], told.worst.horn[end]
        self._pass(self.chance.uniform(0, told.asked_ms * 1000))
        line, unit_id, address = self._places[point]
        unit, horn = self._lines[line].sensors[unit_id], self._lines[0]
        changed_us = self.time.now_us
        unit.registers[address] = _LIMIT + 1
        unit.fails = self.chance.random() < _FAILS
        self._wait(lambda: horn.coil, _PATIENCE * horn_most_ms * 1000)
        alarm_ms, horn_ms = (_since(changed_us, at_us) for at_us in (self._down.ordered_us, horn.coil_us))
        unit.registers[address], unit.fails = _WELL, False
        self.gateway.ask({"do": "mute", "by": "tests"})
        self._wait(lambda: not horn.coil, _PATIENCE * horn_most_ms * 1000)
        self._well_s[point] = self.time.now_us / SECOND_US + _OFF_DELAY_S + told.reachable_ms.slowest / 1000
        return Took(point, alarm_ms, alarm_most_ms, horn_ms, horn_most_ms)

    def _wait(self, until: Callable[[], bool], most_us: float) -> None:
        end_us = self.time.now_us + most_us
        while not until() and self.time.now_us < end_us:
            self._pass(_STEP_US)

    def _pass(self, for_us: float) -> None:
        self.time.run(int(self.time.now_us + for_us))


def _since(changed_us: int, at_us: int) -> float:
    """In ms; infinite for what has not happened since."""
    return (at_us - changed_us) / 1000 if at_us > changed_us else float("inf")
