"""The fault catalogue on the bench: real boards on pseudo-terminals, one gateway, judged by what that one reports.

All rows run at once, each on a unit of its own, those that take a whole line on a line of their own; the tests then
judge row by row. Values stand still and no two points have the same, so that a value under another register shows.
What needs bits, or times finer than a busy machine has, is judged in virtual time (tests/hil/test_faults.py).
`make slow-faults` runs the same with interpreters as slow as an ESP32's.
"""

import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Any

import pytest

from hil_tests.bench import bus as bench_bus
from hil_tests.bench.board import SLOWED_DOWN
from hil_tests.bench.faults import Row, Strike
from hil_tests.bench.line import Exchange, Line
from hil_tests.bench.rig import Rig, SimulatedRig, lay_bus
from hil_tests.bench.sheet import Point
from hil_tests.bench.units import Unit
from hil_tests.mosquitto import Mosquitto
from hil_tests.small_site import Bus, SmallSite
from protocols import model, profile

pytestmark = pytest.mark.needs("mosquitto", "micropython", "simulation")

LINE = "19200 8N1"
PERIOD_S = 1.0
LISTEN_S = 5.0
STRUCK_S = 9.0  # how long the faults last
GONE_S = 4.0  # the port of UNPLUG
SLACK_S = 4.0  # of the feed and of a busy machine
BLOCK_S = 9.0  # a line that is never quiet is asked after a second, a unit waited for so long, a port listened to
SLOW_PATIENCE = 4  # times as long for boards that are slowed down
# A process that the machine puts aside between its look at the line and its first byte speaks into what came meanwhile.
# No UART does; virtual time allows none (tests/hil/test_faults.py).
PUT_ASIDE_SHARE = 0.02
LEAK_BYTES = 512 * 1024  # of a board's program that had ports torn out
CHANNELS = ("a", "b")  # two reads of each unit, whose replies have one shape
PROFILE = """
version = 1
maker = "nobody"
model = "two numbers far apart"
source = "this test"
evidence = "code"
timeout_ms = 600
timeout_floor_ms = 300
late_ms = {late_ms}
address_base = 0
[channels.a]
function_code = 3
address = 100
type = "f32"
word_order = "ABCD"
decimals = 3
unit = "m"
[channels.b]
same_as = "a"
address = 200
"""
LATE_MS = {"probe": 1000, "belated": 2000}  # by profile: a late reply here comes up to a period and a half too late
LINES: dict[str, tuple[Row, ...]] = {
    "spared": (Row.PIECES, Row.STRAY_BEFORE, Row.STRAY_AFTER, Row.ECHO),
    "wrong": (Row.OTHER_UNIT, Row.EXCEPTION, Row.WRONG_CONTENT),
    "damaged": (Row.NOISE, Row.CUT, Row.HEAD),
    "garbled": (Row.COLLISION, Row.LINE_SETTINGS, Row.TOO_SOON),
    "slow": (Row.LATE, Row.SLOW),
    "pulled": (Row.UNPLUG,),
    "babbling": (Row.BABBLE,),
    "held": (Row.STUCK,),
}


BOARDS = {name: (f"cab{number // 2}", number % 2 + 1) for number, name in enumerate(LINES)}  # board and UART


def profile_of(row: Row) -> str:
    return "belated" if row == Row.LATE else "probe"


ON = {row: [f"{row.name.lower()}.{channel}" for channel in CHANNELS] for row in Row}  # the points of its unit
TRUTH = {point: row + at / 4 for row, points in ON.items() for at, point in enumerate(points)}
POINTS = "point,name,area,bus,unit_id,profile,channel,unit,range_low,range_high,period_s\n" + "".join(
    f"{point},number,hall,{bus},{row},{profile_of(row)},{channel},m,0,100,{PERIOD_S}\n"
    for bus, rows in LINES.items()
    for row in rows
    for point, channel in zip(ON[row], CHANNELS, strict=True)
)


class Farm:
    """The site, and what was seen of it: the gateway's status before, during and after the faults."""

    def __init__(self, rig: Rig, directory: Path, broker: Mosquitto, to_stop: ExitStack) -> None:
        self._rig = rig
        self.patience = SLOW_PATIENCE if rig.patience > 1 else 1
        self.is_struck = False
        self.struck: Counter[Row] = Counter()
        self.requests_s: defaultdict[str, list[float]] = defaultdict(list)
        self.good_after_s: dict[Row, float] = {}  # from the end of the faults to the first good reading
        self._asked: Counter[Row] = Counter()
        profiles = {name: PROFILE.format(late_ms=late_ms) for name, late_ms in LATE_MS.items()}
        self._profiles = {name: profile.load(name, text) for name, text in profiles.items()}
        self.buses = {name: self._bus(name, rows, directory) for name, rows in LINES.items()}
        on_board = [
            Bus(name, LINE, str(bus.plug), BOARDS[name][0]) for name, bus in self.buses.items()
        ]
        for bus in self.buses.values():
            to_stop.callback(lambda bus=bus: bus.port.close())
        self.site = to_stop.enter_context(
            closing(SmallSite(rig, directory, broker.port, on_board, POINTS, profiles))
        )
        for bus in self.buses.values():
            self._watch(bus)

    def run(self) -> None:
        """Everything is well, then struck, then well again."""
        self._until(lambda: self.site.readings.keys() == TRUTH.keys())
        self.before = self.site.status(self._work)
        memory = {name: board.resident_bytes for name, board in self.site.boards.items()}
        self.is_struck = True
        pulled = self.buses["pulled"]
        self.site.unwatch(pulled.port.fileno())
        pulled.unplug()
        gone_s = time.monotonic()
        self._for(self.patience * GONE_S)
        self.during = self.site.status(self._work)
        pulled.plug_in()
        self._watch(pulled)
        self.gone_s = time.monotonic() - gone_s
        self._for(self.patience * (STRUCK_S - GONE_S))
        self.is_struck = False
        mended_s = time.monotonic()

        def good_again() -> bool:
            for row in Row:
                if row not in self.good_after_s and all(self._is_good(point) for point in ON[row]):
                    self.good_after_s[row] = time.monotonic() - mended_s
            return len(self.good_after_s) == len(Row)

        self._until(good_again)
        self._for(self.patience * 2 * PERIOD_S)
        self.after = self.site.status(self._work)
        self.grown_bytes = {
            name: board.resident_bytes - memory[name] for name, board in self.site.boards.items()
        }

    def _is_good(self, point: str) -> bool:
        return self.site.readings[point][-1].value == pytest.approx(TRUTH[point])

    # --- what was seen ----------------------------------------------------------------------------------------

    def counted(self, row: Row) -> Counter[str]:
        """How the polls of a row's unit ended while it was struck, and since."""
        before, after = (
            Counter({kind: times for kind, times in unit["hour"].items() if isinstance(times, int)})
            for status in (self.before, self.after)
            for unit in status["units"]
            if unit["unit_id"] == row
        )
        return after - before

    def lost(self, row: Row) -> int:
        """Polls that came to nothing."""
        counted = self.counted(row)
        return sum(counted[kind] for kind in ("timeout", "crc", "short", "foreign"))

    def retried(self, row: Row) -> int:
        """Polls of whom the first try came to nothing."""
        counted = self.counted(row)
        return sum(times for kind, times in counted.items() if kind.startswith("retried"))

    def statuses(self, row: Row) -> set[int]:
        """Of all readings of a row."""
        return {reading.status for point in ON[row] for reading in self.site.readings[point]}

    def wrong(self, row: Row) -> list[Any]:
        """Good readings that are not what the unit has."""
        return [
            (point, reading)
            for point in ON[row]
            for reading in self.site.readings[point]
            if reading.status < model.OVER_RANGE and reading.value != pytest.approx(TRUTH[point])
        ]

    def troubles(self, row: Row, status: dict[str, Any]) -> set[str]:
        """What the gateway says of a row's unit or of its whole bus."""
        bus = bus_of(row)
        return {
            trouble["trouble"]
            for trouble in status["troubles"]
            if trouble["bus"] == bus and (row in trouble["unit_ids"] or not trouble["unit_ids"])
        }

    def longest_block_s(self, row: Row) -> float:
        """The longest between two requests on a row's line."""
        times = self.requests_s[bus_of(row)]
        return max(later - earlier for earlier, later in zip(times, times[1:], strict=False))

    def told(self, row: Row) -> str:
        """The figures of a row."""
        board = f"cab{list(LINES).index(bus_of(row)) // 2}"
        return (
            f"{row:d} {row.name}: {self.struck[row]} struck, {len(self.wrong(row))} wrong values, "
            f"{self.lost(row)} polls lost, {self.retried(row)} retried, good {self.good_after_s[row]:.1f} s after, "
            f"longest block {self.longest_block_s(row):.2f} s, {board} grown by {self.grown_bytes[board] >> 10} KiB"
        )

    # --- the bench --------------------------------------------------------------------------------------------

    def _bus(self, name: str, rows: Sequence[Row], directory: Path) -> bench_bus.Bus:
        units = [
            Unit(row, self._profiles[profile_of(row)], [
                Point(point, name, row, profile_of(row), channel, "m", 0, 100, int(1000 * PERIOD_S), 0, 60)
                for point, channel in zip(ON[row], CHANNELS, strict=True)
            ])
            for row in rows
        ]  # fmt: skip
        line = Line(name, model.Line.parse(LINE), units, lambda point, _now_s: TRUTH[point])
        line.strikes = self._strikes

        def note(exchange: Exchange) -> None:
            self.requests_s[name].append(exchange.asked_s)

        return lay_bus(self._rig, *BOARDS[name], line, note, plug=directory / f"{name}-line")

    def _strikes(self, request: bytes) -> Sequence[Strike]:
        row = Row(request[0])
        if row == Row.SLOW:  # it is so all the time
            return (Strike(row, 0.0, 0.4),)
        if not self.is_struck:
            return ()
        self._asked[row] += 1
        lasting = row in (Row.BABBLE, Row.STUCK)
        if row != Row.LINE_SETTINGS and self._asked[row] % (8 if lasting else 3) != 1:
            return ()
        number = self.struck[row]
        self.struck[row] += 1
        ways = 6 if row == Row.WRONG_CONTENT else 16
        how = 0.1 if row == Row.LINE_SETTINGS else (number * 5 % ways + 0.5) / ways  # half the speed; all in turn
        return (Strike(row, how, 0.6 if lasting else (number * 3 % 8 + 0.5) / 8),)

    def _watch(self, bus: bench_bus.Bus) -> None:
        self.site.watch(bus.port.fileno(), lambda: bus.receive(time.monotonic()))

    def _work(self) -> None:
        now_s = time.monotonic()
        for bus in self.buses.values():
            bus.run(now_s)

    def _until(self, condition: Callable[[], bool]) -> None:
        self.site.until(condition, self._work)

    def _for(self, lasts_s: float) -> None:
        end_s = time.monotonic() + lasts_s
        self._until(lambda: time.monotonic() >= end_s)


def bus_of(row: Row) -> str:
    return next(name for name, rows in LINES.items() if row in rows)


@pytest.fixture(
    scope="module",
    params=[
        pytest.param((), id="board"),
        pytest.param(
            SLOWED_DOWN,
            id="slow_board",
            marks=[pytest.mark.slow_board, pytest.mark.needs("valgrind"), pytest.mark.timeout(900)],
        ),
    ],
)
def farm(rig: Rig, request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Farm]:
    directory = tmp_path_factory.mktemp("farm")
    with ExitStack() as to_stop:
        broker = to_stop.enter_context(closing(Mosquitto(directory, "allow_anonymous true")))
        farm = Farm(SimulatedRig(request.param) if request.param else rig, directory, broker, to_stop)
        farm.run()
        yield farm


def taken_at_once(farm: Farm, row: Row) -> None:
    assert farm.lost(row) == 0
    assert farm.retried(row) < farm.struck[row] / 2  # a busy machine may be late itself; the fault must not do it


def retried(farm: Farm, row: Row) -> None:
    assert farm.retried(row) > 0
    assert farm.lost(row) <= 1  # as above


def late(farm: Farm, row: Row) -> None:
    unit = next(unit for unit in farm.after["units"] if unit["unit_id"] == row)
    # Not taken in time, or waited for longer since it was late.
    assert farm.counted(row)["retried_timeout"] > 0 or unit["hour"]["reply_max_ms"] > 600
    assert farm.lost(row) <= 2  # of a unit that is late twice


def slow(farm: Farm, row: Row) -> None:
    assert farm.lost(row) == 0
    unit = next(unit for unit in farm.after["units"] if unit["unit_id"] == row)
    assert unit["hour"]["reply_p50_ms"] > 100


def unplugged(farm: Farm, row: Row) -> None:
    assert farm.troubles(row, farm.during) & {"no_reply", "no_reply_at_times"}
    assert model.NO_REPLY in farm.statuses(row)
    assert "no_reply" not in farm.troubles(row, farm.after)
    assert {bus["state"] for bus in farm.after["buses"]} == {"polling"}
    assert farm.good_after_s[row] <= farm.patience * (LISTEN_S + 1 + 2 * PERIOD_S - (STRUCK_S - GONE_S) + SLACK_S)


def refused(farm: Farm, row: Row) -> None:
    assert farm.counted(row)["exception"] > 0
    assert model.EXCEPTION in farm.statuses(row)


def garbled(farm: Farm, row: Row) -> None:
    assert farm.troubles(row, farm.after) & {"garbage", "damaged"}
    assert farm.lost(row) > 0


def held(farm: Farm, row: Row) -> None:
    counted = farm.counted(row)
    assert counted["crc"] + counted["retried_crc"] + counted["timeout"] + counted["short"] > 0
    assert farm.troubles(row, farm.after) & {"damaged", "no_reply_at_times", "garbage", "no_reply"}


def silence_kept(farm: Farm, row: Row) -> None:
    for name in ("spared", "wrong"):
        line = farm.buses[name].line
        assert line.requests > 20
        assert line.too_soon <= line.requests * PUT_ASIDE_SHARE


def doubted(farm: Farm, row: Row) -> None:
    assert {model.NOT_A_NUMBER, model.OVER_RANGE} <= farm.statuses(row)
    assert farm.counted(row)["retried_foreign"] + farm.counted(row)["retried_crc"] > 0


HOLDS: dict[Row, Callable[[Farm, Row], None]] = {
    Row.PIECES: taken_at_once,
    Row.STRAY_BEFORE: taken_at_once,
    Row.STRAY_AFTER: taken_at_once,
    Row.LATE: late,
    Row.SLOW: slow,
    Row.NOISE: retried,
    Row.CUT: retried,
    Row.UNPLUG: unplugged,
    Row.ECHO: taken_at_once,
    Row.HEAD: retried,
    Row.OTHER_UNIT: taken_at_once,
    Row.EXCEPTION: refused,
    Row.LINE_SETTINGS: garbled,
    Row.BABBLE: held,
    Row.COLLISION: retried,
    Row.STUCK: held,
    Row.TOO_SOON: silence_kept,
    Row.WRONG_CONTENT: doubted,
}


@pytest.mark.parametrize("row", list(Row), ids=lambda row: row.name.lower())
def test_a_row_of_the_catalogue(farm: Farm, row: Row, record_property: Callable[[str, object], None]) -> None:
    record_property("figures", farm.told(row))
    print(farm.told(row))  # noqa: T201
    assert farm.wrong(row) == []
    HOLDS[row](farm, row)
    most_s = farm.patience * BLOCK_S + (farm.gone_s if row == Row.UNPLUG else 0)
    assert farm.longest_block_s(row) <= most_s
    assert all(grown <= LEAK_BYTES for grown in farm.grown_bytes.values())
    assert "Traceback" not in farm.site.console.read_text(encoding="utf-8")
