"""The suite against a board on ports: here a virtual one, started apart, behind pseudo-terminals instead of adapters.

What this shows: options, ports, locks, reset and identity work, and the tests do not know the difference. It shows
nothing of an ESP32, and none of it is written down as passed on a board.
"""

import fcntl
import json
import os
import select
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from xml.etree import ElementTree

import pytest

from hil_tests.bench.board import DIES_WITH_ITS_STARTER, Cable, VirtualBoard, firmware_sha256

pytestmark = pytest.mark.needs("simulation")

ROOT = Path(__file__).parents[1]
BOARD_ID = "esp32s3-000000000042"
RUN_S = 110.0


class Bench:
    """A board that somebody else has put up: its port, its bus's adapter, and a switch for its supply."""

    def __init__(self, directory: Path) -> None:
        self.link = Cable(directory / "board")
        self.bus = Cable(directory / "rs485")
        uarts = {1: self.bus.board_end.path}
        self.board = VirtualBoard("cab1", BOARD_ID, directory, uarts, self.link.board_end.path)
        self.board.power_on()
        self.switched: list[str] = []
        self._orders, self._done = directory / "orders", directory / "done"
        for fifo in (self._orders, self._done):
            os.mkfifo(fifo)
        self.reset = f"cmd:sh -c 'echo {{action}} > {self._orders}; read done < {self._done}'"
        self._is_closing = threading.Event()
        self._threads = [threading.Thread(target=self._carry), threading.Thread(target=self._obey)]
        for thread in self._threads:
            thread.start()

    def _carry(self) -> None:
        ends = {self.link.board_end: self.link.carry_up, self.link.edge_end: self.link.carry_down}
        ends |= {self.bus.board_end: self.bus.carry_up, self.bus.edge_end: self.bus.carry_down}
        while not self._is_closing.is_set():
            for end in select.select(list(ends), [], [], 0.1)[0]:
                ends[end]()

    def _obey(self) -> None:
        while order := self._orders.read_text().strip():
            self.switched.append(order)
            self.board.power_off()
            if order != "off":
                self.board.power_on()
            self._done.write_text("done\n")

    def close(self) -> None:
        self._is_closing.set()
        self._orders.write_text("")
        for thread in self._threads:
            thread.join()
        self.board.power_off()
        self.link.close()
        self.bus.close()


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    with closing(Bench(tmp_path)) as bench:
        yield bench


def suite(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    """pytest, as somebody with a rig starts it."""
    command = [*DIES_WITH_ITS_STARTER, sys.executable, "-m", "pytest", "-p", "no:cacheprovider", *arguments]
    environment = os.environ | {"CI": "false", "LANGUAGE": "en"}
    return subprocess.run(
        command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False, timeout=RUN_S
    )


def test_the_same_tests_judge_a_board_on_ports(bench: Bench, tmp_path: Path) -> None:
    junit, results = tmp_path / "junit.xml", tmp_path / "results.jsonl"
    on = ["--dut=board", "--port", bench.link.plug, "--bus-port", bench.bus.plug, "--reset", bench.reset]
    runs = ["hil_tests/test_bad_input.py", "hil_tests/test_hardware.py", "--record"]
    run = suite(*runs, *on, "--junitxml", junit, "--results", results)
    assert run.returncode == 0, run.stdout + run.stderr

    rows = [json.loads(line) for line in results.read_text(encoding="utf-8").splitlines()]
    outcomes = {row["test"]: row["outcome"] for row in rows if row["kind"] == "test"}
    assert outcomes["test_bad_input.py::test_a_wrong_plan_is_refused_and_the_old_one_goes_on"] == "passed"
    assert outcomes["test_bad_input.py::test_garbage_on_link_and_bus_costs_no_sample_and_no_value"] == "passed"
    skipped = {row["test"]: row["missing"] for row in rows if row["kind"] == "test" and row["outcome"] == "skipped"}
    assert len(skipped) > 5 and all("chip" in missing for missing in skipped.values())
    assert {"off", "on"} <= set(bench.switched)

    told = {each.get("name"): each.get("value") for each in ElementTree.parse(junit).iter("property")}
    assert told["board_cab1"] == BOARD_ID
    assert told["firmware_sha256"] == firmware_sha256()
    assert told["dut"] == "pseudo-terminals"
    assert told["ever_passed_on_a_board"] == "0"  # this was none
    assert "passed on pseudo-terminals (no real board) 2" in run.stdout
    assert json.loads((ROOT / "hil_tests/board_runs.json").read_text())["runs"] == []


def test_a_port_that_is_absent_or_in_use_is_named_with_what_to_do(tmp_path: Path) -> None:
    on = ["hil_tests/test_bad_input.py", "--dut=board", "--bus-port", tmp_path / "rs485", "--port", tmp_path / "board"]
    said = suite(*on).stdout
    assert f"{tmp_path / 'board'}: there is no such port. Plug in: board cab1." in said
    assert "passed on this board 0" in said and "on sim" not in said
    with closing(Cable(tmp_path / "board")) as cable, cable.plug.open("rb", buffering=0) as other:
        fcntl.flock(other, fcntl.LOCK_EX)
        said = suite(*on).stdout
    assert f"{tmp_path / 'board'} (board cab1): in use by process {os.getpid()} (" in said


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--port", "x"], "--port, --bus-port, --reset and --wiring are for --dut=board"),
        (["--dut=board", "--port", "x"], "--port and one or two --bus-port (UART1, then UART2) are needed"),
        (["--dut=board", "--port", "x", "--bus-port", "y", "--reset", "z"], "reset = z: allowed is rts, usb or cmd:"),
        (["--dut=board", "--wiring", "none.toml"], "none.toml: cannot be read: No such file"),
    ],
)
def test_wrong_options_are_refused_with_what_is_allowed(options: list[str], said: str) -> None:
    run = suite("hil_tests/test_bad_input.py", *options)
    assert (run.returncode, said in run.stdout + run.stderr) == (pytest.ExitCode.USAGE_ERROR, True), run.stderr
