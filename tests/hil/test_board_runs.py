"""Which tests a real board ever passed is kept by board and firmware, and nothing that was kept is lost."""

import json
from pathlib import Path

from hil_tests.plugin import BOARD_RUNS, ever_passed, record

TOLD = {"dut": "board", "board": "esp32-1", "firmware_sha256": "aa"}


def test_runs_of_one_board_and_firmware_are_one_entry(tmp_path: Path) -> None:
    runs = tmp_path / "board_runs.json"
    runs.write_text(BOARD_RUNS.read_text(encoding="utf-8"), encoding="utf-8")
    before = ever_passed(runs)
    record(runs, TOLD, ["test_a.py::test_one", "test_a.py::test_two"])
    record(runs, TOLD, ["test_a.py::test_two", "test_b.py::test_three"])
    record(runs, TOLD | {"firmware_sha256": "bb"}, ["test_a.py::test_one"])
    kept = [run for run in json.loads(runs.read_text(encoding="utf-8"))["runs"] if run["board"] == "esp32-1"]
    assert [(run["firmware_sha256"], len(run["passed"])) for run in kept] == [("aa", 3), ("bb", 1)]
    assert ever_passed(runs) - before == {"test_a.py::test_one", "test_a.py::test_two", "test_b.py::test_three"}


def test_no_pseudo_terminal_and_no_simulation_was_ever_written_down() -> None:
    assert {run["dut"] for run in json.loads(BOARD_RUNS.read_text(encoding="utf-8"))["runs"]} <= {"board"}
