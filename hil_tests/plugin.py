"""The pytest plugin of the whole project: what a test needs, which rig it runs on, and what was never run there. Shell.

A test says by `@pytest.mark.needs("mosquitto", "power_off")` which tools of this machine and which features of the rig
(bench/rig.py) it needs. Without a tool it is skipped by name, with CI=true it fails; without a feature it is skipped
with the reason. A test that takes the fixture `rig` is one about boards: it runs on the simulation or on real boards,
unchanged, and leaves a capture of each bus where it fails. Must never run a test twice, nor hide one.

board_runs.json, beside the tests: which of them ever passed on which board. Only `--record` on real ports writes it.
"""

import gettext
import json
import os
import re
import shutil
import sysconfig
from collections import defaultdict
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping
from datetime import UTC, datetime
from gettext import gettext as _
from pathlib import Path
from typing import Any
from weakref import WeakKeyDictionary

import pytest

from hil_tests.bench.bus import Bus
from hil_tests.bench.capture import Capture
from hil_tests.bench.rig import FEATURES, Rig, SimulatedRig, wired

_HERE = Path(__file__).parent
BOARD_RUNS = _HERE / "board_runs.json"
_NOT_PROGRAMS = {
    "libmodbus": Path("/usr/include/modbus/modbus.h"),
    "micropython-wasm": _HERE.parent / "tests/interpreters/node_modules/@micropython",
}
_BENCH = pytest.StashKey["_Session"]()
_OUTCOME = pytest.StashKey[dict[str, Any]]()

# Programs that came with a package, and daemons that a plain user's PATH does not show.
_POSTGRES = map(str, sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True))
os.environ["PATH"] = os.pathsep.join([sysconfig.get_path("scripts"), os.environ["PATH"], "/usr/sbin", *_POSTGRES])


class _Captures:
    """One directory a test, one file a bus; buses may outlive a test, or be made in the middle of one."""

    def __init__(self) -> None:
        self.folder = Path()  # until the rig is open there is no bus
        self._buses: WeakKeyDictionary[Bus, int] = WeakKeyDictionary()
        self._open: list[tuple[Path, int, Capture]] = []  # file, its size without a frame
        self._test = ""

    def add(self, bus: Bus, zero_utc_ms: int) -> None:
        """A bus was laid; `zero_utc_ms`: when its clock was 0."""
        self._buses[bus] = zero_utc_ms
        self._record(bus)

    def begin(self, test: str) -> None:
        """Record every bus, for this test."""
        self._test = re.sub(r"[^\w.-]+", "_", test)
        for bus in self._buses:
            self._record(bus)

    def files(self) -> list[str]:
        """The running test's, of the buses on which there was anything."""
        return [str(file) for file, empty, _capture in self._open if file.stat().st_size > empty]

    def end(self, keep: bool) -> None:
        """The test is over."""
        kept = self.files() if keep else []
        for file, _empty, capture in self._open:
            capture.close()
            if str(file) not in kept:
                file.unlink()
        self._open = []

    def _record(self, bus: Bus) -> None:
        folder = self.folder / self._test
        folder.mkdir(parents=True, exist_ok=True)
        file = folder / f"{len(self._open) + 1}-{bus.line.name}.pcapng"
        capture = Capture(file, [bus], self._buses[bus])
        self._open.append((file, file.stat().st_size, capture))


class _Session:
    """What this run is on, and what came of it."""

    def __init__(self, rig: Rig, results: Path | None) -> None:
        self.rig = rig
        self.told: dict[str, str] = {}  # about the rig, once it is open
        self.captures = _Captures()
        self.about_boards: dict[str, bool] = {}  # tests that take the rig -> whether they need the simulation
        self.passed: set[str] = set()
        self.missing: defaultdict[str, list[str]] = defaultdict(list)  # tool or feature -> tests
        self.suite_property: Callable[[str, object], None] | None = None
        self._results = results.open("w", encoding="utf-8") if results else None

    def tell(self, **row: object) -> None:
        """One line for a program that watches."""
        if self._results is not None:
            self._results.write(json.dumps(row, ensure_ascii=False) + "\n")
            self._results.flush()


# --- options ------------------------------------------------------------------------------------------------


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("rig", "the bench's rig (hil_tests/README.md)")
    group.addoption("--dut", choices=("sim", "board"), default="sim", help="virtual boards (default), or real ones")
    group.addoption("--port", help="the serial port towards the board")
    group.addoption("--bus-port", action="append", default=[], help="the RS-485 adapter on its UART1; again for UART2")
    group.addoption("--reset", help="rts, usb or cmd:PROGRAM … ({action} becomes off, on or reset)")
    group.addoption("--wiring", type=Path, help="a TOML file instead of these three, for more boards and features")
    group.addoption("--captures", type=Path, help="keep the captures of failed tests here")
    group.addoption("--results", type=Path, help="write a JSON line for each test, as it ends")
    group.addoption("--record", action="store_true", help=f"write what passes on real boards to {BOARD_RUNS.name}")


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "needs(*names): tools of this machine, features of the rig; skipped by name")
    config.addinivalue_line("markers", "shows(sentence): what it proves, for an acceptance report")
    gettext.bindtextdomain("tankgate", _HERE.parent / "edge" / "locale")  # a rig's faults are told to people
    gettext.textdomain("tankgate")
    option = config.option
    if option.dut == "sim":
        if option.port or option.bus_port or option.wiring or option.reset:
            raise pytest.UsageError(_("--port, --bus-port, --reset and --wiring are for --dut=board"))
        rig: Rig = SimulatedRig()
    else:
        try:
            rig = wired(option.port, option.bus_port, option.reset, option.wiring)
        except ValueError as fault:
            raise pytest.UsageError(str(fault)) from None
    config.stash[_BENCH] = _Session(rig, option.results)


# --- what a test needs --------------------------------------------------------------------------------------


def _is_here(tool: str) -> bool:
    if tool == "root":  # the right to mount file systems
        return os.geteuid() == 0
    return _NOT_PROGRAMS[tool].exists() if tool in _NOT_PROGRAMS else shutil.which(tool) is not None


def _needs(item: pytest.Item) -> list[str]:
    return [name for mark in item.iter_markers("needs") for name in mark.args]


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> None:
    bench = item.config.stash[_BENCH]
    needs = _needs(item)
    features = [name for name in needs if name in FEATURES and name not in bench.rig.features]
    tools = [name for name in needs if name not in FEATURES and not _is_here(name)]
    for name in (*features, *tools):
        bench.missing[name].append(item.nodeid)
    if features:
        pytest.skip("; ".join(f"needs {name}: {FEATURES[name]}" for name in features))
    if tools:
        (pytest.fail if os.environ.get("CI") == "true" else pytest.skip)(f"needs {', '.join(tools)}")
    bench.captures.begin(item.nodeid)


def pytest_collection_finish(session: pytest.Session) -> None:
    bench = session.config.stash[_BENCH]
    for item in session.items:
        needs = _needs(item)
        if "rig" in getattr(item, "fixturenames", ()) or not FEATURES.keys().isdisjoint(needs):
            bench.about_boards[_name(item)] = "simulation" in needs
    bench.tell(kind="tests", count=len(session.items))


def _name(item: pytest.Item) -> str:
    """Like test_restart.py::test_a_killed_broker, wherever the suite lies; a seed or parameter is part of it."""
    return f"{item.path.name}::{item.nodeid.partition('::')[2]}"


# --- the rig ------------------------------------------------------------------------------------------------


@pytest.fixture(scope="session")
def rig(
    request: pytest.FixtureRequest,
    record_testsuite_property: Callable[[str, object], None],
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Rig]:
    """The boards and lines of this run, virtual or real; without its ports the run ends, and says what is missing."""
    bench = request.config.stash[_BENCH]
    try:
        bench.rig.open()
    except OSError as fault:
        bench.tell(kind="no rig", why=str(fault), busy=isinstance(fault, BlockingIOError))
        bench.rig.close()
        pytest.exit(f"--dut={request.config.option.dut}: {fault}", returncode=pytest.ExitCode.USAGE_ERROR)
    bench.told = dict(bench.rig.told)
    for name, value in bench.told.items():
        record_testsuite_property(name, value)
    bench.suite_property = record_testsuite_property
    bench.tell(kind="rig", **bench.told, features=sorted(bench.rig.features))
    bench.captures.folder = request.config.option.captures or tmp_path_factory.mktemp("captures")
    bench.rig.on_bus = bench.captures.add
    yield bench.rig
    bench.rig.close()


# --- what came of it ----------------------------------------------------------------------------------------


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    report = yield
    bench = item.config.stash[_BENCH]
    outcome = item.stash.setdefault(_OUTCOME, {"outcome": "passed", "why": "", "seconds": 0.0, "captures": []})
    outcome["seconds"] += report.duration
    if report.outcome != "passed":
        outcome["outcome"] = report.outcome
        outcome["why"] = report.longrepr[2] if isinstance(report.longrepr, tuple) else _last_line(report)
    if report.failed and (files := bench.captures.files()):
        outcome["captures"] = files
        report.sections.append(("captures", "\n".join(files)))
    if report.when == "teardown":
        report.user_properties.extend(("capture", file) for file in outcome["captures"])
        bench.captures.end(keep=bool(outcome["captures"]))
        _count(item, bench, outcome)
    return report


def _last_line(report: pytest.TestReport) -> str:
    """The assertion or error itself, without the way to it."""
    crash = getattr(report.longrepr, "reprcrash", None)
    return str(crash.message if crash else report.longrepr)


def _count(item: pytest.Item, bench: _Session, outcome: dict[str, Any]) -> None:
    name = _name(item)
    if outcome["outcome"] == "passed":
        bench.passed.add(name)
    bench.tell(
        kind="test",
        test=name,
        shows=next((mark.args[0] for mark in item.iter_markers("shows")), ""),
        missing={need: FEATURES.get(need, "") for need in _needs(item) if item.nodeid in bench.missing.get(need, ())},
        **outcome,
    )


class _Account:
    """The tests about boards among those of this run: where each was ever seen to pass."""

    def __init__(self, bench: _Session) -> None:
        before = ever_passed(BOARD_RUNS)
        for_boards = {test for test, is_simulated in bench.about_boards.items() if not is_simulated}
        self.simulated = len(bench.about_boards) - len(for_boards)
        self.now = for_boards & bench.passed
        self.is_board = bench.told.get("dut") == "board"
        self.on_board = for_boards & (before | (self.now if self.is_board else set()))
        self.never = sorted(for_boards - self.on_board)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    bench = config.stash[_BENCH]
    write = terminalreporter.line
    tools = sorted(bench.missing.keys() - FEATURES.keys())
    if tools:
        terminalreporter.section("not run: a tool is missing")
    for tool in tools:
        write(f"{tool}: {len(bench.missing[tool])}")
        for test in bench.missing[tool]:
            write(f"    {test}")
    if not bench.about_boards:
        return
    terminalreporter.section("boards")
    for name, value in bench.told.items():
        write(f"{name}: {value}")
    for feature in sorted(bench.missing.keys() & FEATURES.keys()):
        write(f"not run for want of {feature} ({FEATURES[feature]}):")
        for test in bench.missing[feature]:
            write(f"    {test}")
    account = _Account(bench)
    where = {"sim": "on sim", "board": "on this board", "pseudo-terminals": "on pseudo-terminals (no real board)"}
    told = where[bench.told.get("dut", config.option.dut)]
    write(
        f"passed {told} {len(account.now)}, ever on a real board {len(account.on_board)}, never on a real board "
        f"{len(account.never)} (board_runs.json); of the simulation alone {account.simulated}"
    )
    for test in account.never if terminalreporter.verbosity > 0 else ():
        write(f"    never on a board: {test}")


@pytest.hookimpl(tryfirst=True)
def pytest_sessionfinish(session: pytest.Session) -> None:
    bench = session.config.stash[_BENCH]
    if bench.suite_property is not None:
        account = _Account(bench)
        bench.suite_property("passed_here", len(account.now))
        bench.suite_property("ever_passed_on_a_board", len(account.on_board))
        bench.suite_property("never_passed_on_a_board", len(account.never))
        if session.config.option.record and account.is_board:
            record(BOARD_RUNS, bench.told, account.now)
    bench.tell(kind="end", never_on_a_board=len(_Account(bench).never))


def ever_passed(runs: Path) -> set[str]:
    """Tests that a board is known to have passed."""
    return {test for run in json.loads(runs.read_text(encoding="utf-8"))["runs"] for test in run["passed"]}


def record(runs: Path, told: Mapping[str, str], passed: Iterable[str]) -> None:
    """Add a run; one of the same boards and firmware becomes the two together. `told`: board, firmware_sha256, ..."""
    book = json.loads(runs.read_text(encoding="utf-8"))
    same = [run for run in book["runs"] if all(run[name] == told[name] for name in ("board", "firmware_sha256"))]
    tests = sorted({*passed, *(test for run in same for test in run["passed"])})
    run = {**told, "date": datetime.now(UTC).date().isoformat(), "passed": tests}
    book["runs"] = [other for other in book["runs"] if other not in same] + [run]
    runs.write_text(json.dumps(book, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
