"""The whole chain in one process on a fake clock, and the seed that draws what happens to it. Policy.

Two boards of three units, ten registers each, every five seconds: each answer of each unit is another, so that a
reading that is missing, doubled, invented or at a wrong time is seen as such. The Pi has no clock of its own: after
each start it says what it likes, until somebody corrects it, at once or in hours, and sometimes by a wrong year.
Whatever chance does, in the end it comes to rest: all power is on, all cables are in, nothing is damaged any more.
"""

from collections.abc import Callable, Iterable
from pathlib import Path
from random import Random

from edge.config import load_site
from tests.simulation.parts import SECOND_US, Cable, Faults, Line, Time, Unit
from tests.simulation.sim_board import SimBoard
from tests.simulation.sim_broker import Broker
from tests.simulation.sim_gateway import SimGateway, WallClock

BOARDS = {"cab1": "esp32-000000000001", "cab2": "esp32-000000000002"}
UNIT_IDS = (1, 2, 3)
REGISTERS = 10
PERIOD_S = 5
HOUR_S = 3600
UTC_MS = 1_795_401_000_000
YEAR_MS = 365 * 86_400_000
PI_PPM_MAX = 30
_CHAR_US = 1042  # 9600 8N1
_REST_S = 4 * HOUR_S  # all of a backlog is sent within
_TOML = """
schema = 1
[site]
gateway = "simulated"
name = "simulated"
group = "tests"
timezone = "Asia/Shanghai"
points = "points.csv"
{boards}
[store]
path = "store"
max_bytes = "500 MB"
"""
_DESTINATION = """
[destinations.{name}]
url = "mqtt://127.0.0.1:1883"
feed = "json"
await_receipt = true
"""
_LIVES_TO_A_COMPANY = 4  # in one of so many there is a second destination: it takes its time
_BOARD = """
[boards.{name}]
id = "{id}"
port = "{port}"
[buses.{name}]
board = "{name}"
uart = 1
line = "9600 8N1"
"""
_PROFILE = """
version = 1
maker = "simulated"
model = "ten registers"
source = "tests/simulation"
evidence = "bench"
timeout_ms = {timeout_ms}
address_base = 0
"""
_CHANNEL = """
[channels.r{place}]
function_code = 3
address = {place}
type = "u16"
decimals = 0
unit = "1"
"""


def _port(board: str) -> str:
    return f"/dev/{board}"


def write_site(folder: Path, destinations: Iterable[str] = ("district",), timeout_ms: int = 300) -> Path:
    """The site's files; its gateway.toml. Another `timeout_ms` makes other plans."""
    (folder / "profiles").mkdir(parents=True, exist_ok=True)
    channels = "".join(_CHANNEL.format(place=place) for place in range(REGISTERS))
    (folder / "profiles" / "ten.toml").write_text(_PROFILE.format(timeout_ms=timeout_ms) + channels, encoding="utf-8")
    rows = ["point,name,area,bus,unit_id,profile,channel,unit,period_s"]
    for board in BOARDS:
        for unit_id in UNIT_IDS:
            for place in range(REGISTERS):
                name = f"{board}-{unit_id}.r{place}"
                rows.append(f"{name},{name},a,{board},{unit_id},ten,r{place},1,{PERIOD_S}")
    (folder / "points.csv").write_text("\n".join(rows) + "\n", encoding="utf-8")
    boards = "".join(_BOARD.format(name=name, id=identity, port=_port(name)) for name, identity in BOARDS.items())
    toml = _TOML.format(boards=boards) + "".join(_DESTINATION.format(name=name) for name in destinations)
    (folder / "gateway.toml").write_text(toml, encoding="utf-8")
    return folder / "gateway.toml"


class World:
    """One run of one seed. Its store's file lies in `folder`, best in memory. `is_calm`: nothing happens to it."""

    def __init__(self, seed: int, folder: Path, is_calm: bool = False) -> None:
        self.seed = seed
        self.is_calm = is_calm
        self.time = Time()
        self.chance = Random(seed)
        self.settings = Random(f"{seed} free clock")  # what a clock is set to that nobody trusts
        self.faults = Faults()
        self.clock = WallClock(self.time, self._wrong_ms(), self.chance.uniform(-PI_PPM_MAX, PI_PPM_MAX))
        self.broker = Broker(self.time, Random(f"{seed} broker"))
        self.brokers = {"district": self.broker}
        if seed % _LIVES_TO_A_COMPANY == 0:
            self.brokers["company"] = Broker(self.time, Random(f"{seed} company"))
        self.units = {board: {unit_id: Unit(unit_id) for unit_id in UNIT_IDS} for board in BOARDS}
        self.boards: dict[str, SimBoard] = {}
        self.cables: dict[str, tuple[Cable, Cable]] = {}
        self.done: list[str] = []  # what chance did, for whoever looks at a failure
        for board, identity in BOARDS.items():
            line = Line(self.time, Random(f"{seed} {board}"), self.faults, self.units[board], _CHAR_US)
            up, down = (
                Cable(self.time, Random(f"{seed} {board} {way}"), self.faults, 460_800) for way in ("up", "down")
            )
            self.cables[board] = up, down
            self.boards[board] = SimBoard(self.time, Random(f"{seed} {identity}"), identity, [line], up, down)
        site = load_site(write_site(folder, self.brokers))
        pi = Random(f"{seed} pi")
        ports = {_port(board): ways for board, ways in self.cables.items()}
        self.gateway = SimGateway(self.time, pi, site, folder, self.clock, ports, self.brokers)

    def start(self) -> None:
        """Power for the boards and the gateway."""
        for board in self.boards.values():
            board.start()
        self.gateway.start()

    def run(self, hours: float) -> None:
        """Begin, let chance have its way for so long, and come to rest. AssertionError where it does not."""
        self.start()
        end_us = int(hours * HOUR_S * SECOND_US)
        if not self.is_calm:
            self._each(end_us, 20 * 60, self._cut_board)
            self._each(end_us, 25 * 60, self._cut_gateway)
            self._each(end_us, 30 * 60, self._lose_broker)
            self._each(end_us, 30 * 60, self._kill_broker)
            if "company" in self.brokers:
                self._each(end_us, 60 * 60, self._lose_company)
            self._each(end_us, 40 * 60, self._lose_district)
            self._each(end_us, 40 * 60, self._cut_cable)
            self._each(end_us, 40 * 60, self._pull_plug)
            self._each(end_us, 60 * 60, self._fill_disk)
            self._each(end_us, 30 * 60, self._stop_disk)
            self._each(end_us, 15 * 60, self._kill_unit)
            self._each(end_us, 10 * 60, self._damage)
            self._each(end_us, 60 * 60, self._step_clock)
            self._each(end_us, 60 * 60, self._lose_time)
            self._each(end_us, 20 * 60, self._set_free_clock, self.settings)
            self._wait_for_time()
        self.time.run(end_us)
        self.come_to_rest()

    def _each(self, end_us: int, mean_s: float, happens: Callable[[], None], chance: Random | None = None) -> None:
        """Again and again, so often on the average, until the end."""
        chance = chance or self.chance
        at_us = 0.0
        while (at_us := at_us + chance.expovariate(1 / mean_s) * SECOND_US) < end_us:
            self.time.at(int(at_us), happens)

    def _note(self, what: str) -> None:
        self.done.append(f"{self.time.now_us / SECOND_US:.6f} s: {what}")

    def _a_while(self, most_s: float) -> float:
        """Microseconds, mostly few."""
        return self.chance.random() ** 3 * most_s * SECOND_US

    # --- power ------------------------------------------------------------------------------------------------------

    def _cut_board(self) -> None:
        name = self.chance.choice(list(self.boards))
        board = self.boards[name]
        if board.is_on:
            self._note(f"{name} has no power")
            board.cut()
            self.time.after(self._a_while(300), lambda: self._start_board(name))

    def _start_board(self, name: str) -> None:
        if not self.boards[name].is_on:
            self._note(f"{name} starts")
            self.boards[name].start()

    def _cut_gateway(self) -> None:
        if self.gateway.is_on:
            self._note("the gateway has no power")
            self.gateway.cut()
            self.time.after(self._a_while(2 * HOUR_S), self._start_gateway)

    def _start_gateway(self) -> None:
        if not self.gateway.is_on:
            self._note("the gateway starts")
            self.clock.set(self._wrong_ms(), False)
            self.gateway.start()
            if not self.is_calm:
                self._wait_for_time()

    # --- clocks -----------------------------------------------------------------------------------------------------

    def _true_ms(self) -> float:
        return UTC_MS + self.time.now_us / 1000

    def _wrong_ms(self) -> float:
        """What a clock says that was not kept: about right, of the file's date, or of another age."""
        years = self.chance.choice((-UTC_MS / YEAR_MS, -10, -1 / 365, 0, 12))
        return self._true_ms() + years * YEAR_MS

    def _wait_for_time(self) -> None:
        self.time.after(self.chance.choice((0, 20, 40, 60, 600, 2 * HOUR_S, 4 * HOUR_S)) * SECOND_US, self.tell_time)

    def tell_time(self, wrong_ms: int = 0) -> None:
        """The gateway's clock is set, and trusted from now on."""
        if not self.clock.is_trusted or wrong_ms:
            self._note(f"the clock is synchronized, wrong by {wrong_ms} ms")
            self.clock.set(self._true_ms() + wrong_ms, True)

    def _step_clock(self) -> None:
        """Somebody who is trusted sets it wrong; most of them are corrected."""
        if self.clock.is_trusted:
            self.tell_time(self.chance.choice((-3_600_000, 3_600_000, -86_400_000, 500, -500, 60, -YEAR_MS, YEAR_MS)))
            self.time.after(self._a_while(2 * HOUR_S), self._correct_clock)

    def _correct_clock(self) -> None:
        if self.clock.is_trusted:
            self._note("the clock is corrected")
            self.clock.set(self._true_ms(), True)

    def _lose_time(self) -> None:
        """Nobody corrects it any more, for a while."""
        if self.clock.is_trusted:
            self._note("the clock runs free")
            self.clock.set(self.clock.ms(), False)
            self.time.after(self._a_while(3 * HOUR_S), self.tell_time)

    def _set_free_clock(self) -> None:
        """Somebody whom the kernel does not trust sets it."""
        if not self.clock.is_trusted:
            step_ms = self.settings.choice((-YEAR_MS, YEAR_MS, -3_600_000, 3_600_000, 5_000))
            self._note(f"the clock that runs free is set by {step_ms} ms")
            self.clock.set(self.clock.ms() + step_ms, False)

    # --- what lies between, and beside ------------------------------------------------------------------------------

    def _lose_broker(self) -> None:
        self._note("no broker")
        self.broker.down()
        self.time.after(self._a_while(HOUR_S), self.broker.up)

    def _kill_broker(self) -> None:
        self._note("the broker is killed")
        self.broker.kill()
        self.time.after(self._a_while(600), self.broker.up)

    def _lose_company(self) -> None:
        self._note("the company's broker is killed")
        self.brokers["company"].kill()
        self.time.after(self._a_while(2 * HOUR_S), self.brokers["company"].up)

    def _lose_district(self) -> None:
        self._note("no district")
        self.broker.district.is_there = False
        self.time.after(self._a_while(HOUR_S), self.broker.bring_district_back)

    def _cut_cable(self) -> None:
        name = self.chance.choice(list(self.cables))
        self._note(f"the cable of {name} is out")
        for way in self.cables[name]:
            way.is_cut = True
        self.time.after(self._a_while(600), lambda: self._plug_cable(name))

    def _plug_cable(self, name: str) -> None:
        for way in self.cables[name]:
            way.is_cut = False

    def _pull_plug(self) -> None:
        name = self.chance.choice(list(self.cables))
        self._note(f"the plug of {name} is pulled")
        self.gateway.pull(_port(name))
        self.time.after(self._a_while(600), lambda: self.gateway.pulled.discard(_port(name)))

    def _fill_disk(self) -> None:
        self._note("the disk is full")
        self.gateway.disk = "full"
        self.time.after(self._a_while(HOUR_S), self._empty_disk)

    def _empty_disk(self) -> None:
        self.gateway.disk = "well"

    def _stop_disk(self) -> None:
        """It answers nothing, or says that it failed after all was written."""
        if self.gateway.disk == "well" and self.chance.random() < 0.5:
            self._note("the disk lies")
            self.gateway.disk = "lies"
        else:
            self._note("the disk hangs")
            self.gateway.hang(self._a_while(60))

    def _kill_unit(self) -> None:
        unit = self.chance.choice([unit for units in self.units.values() for unit in units.values()])
        unit.is_dead = True
        self.time.after(self._a_while(1800), lambda: setattr(unit, "is_dead", False))

    def _damage(self) -> None:
        """Bytes are lost and damaged from now on, or less so."""
        for name in ("bus_loss", "bus_flip", "link_loss", "link_flip"):
            setattr(self.faults, name, self.chance.choice((0.0, 0.0, 0.01, 0.1)))

    def come_to_rest(self) -> None:
        """Nothing happens any more, until all is where it belongs. AssertionError where it does not come there."""
        self.faults.calm()
        for broker in self.brokers.values():
            broker.up()
        self.broker.bring_district_back()
        self._empty_disk()
        self.gateway.pulled.clear()
        for name in self.boards:
            self._start_board(name)
            self._plug_cable(name)
        self._start_gateway()
        for units in self.units.values():
            for unit in units.values():
                unit.is_dead = False
        self.time.run(self.time.now_us + 60 * SECOND_US)
        for units in self.units.values():
            for unit in units.values():
                unit.is_dead = True  # from here on nothing new comes
        until_us = self.time.now_us + _REST_S * SECOND_US
        while not (self.gateway.is_at_rest() and all(board.is_at_rest() for board in self.boards.values())):
            if self.time.now_us > until_us:
                raise AssertionError(f"seed {self.seed}: not at rest {_REST_S / HOUR_S:.0f} hours after all faults")
            self.time.run(self.time.now_us + SECOND_US // 10)
        for board in self.boards.values():
            board.cut()
