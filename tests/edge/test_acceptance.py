"""The acceptance report: what a person signs says what was run, on what, and what was not."""

import gettext
import os
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from edge.acceptance import FAILED, PASSED, SKIPPED, Result, Run, is_accepted, page
from edge.cli import FOUND_A_FAULT, UNREACHABLE, USAGE

ROOT = Path(__file__).parents[2]
CHINESE = gettext.translation("tankgate", ROOT / "edge" / "locale", ["zh_CN"]).gettext
SENSOR = "Another master on the bus: the board falls silent, leaves it the line, and an alarm says so."
PARITY = "The board sends the parity that the site file names."
RESULTS = (
    Result("test_a.py::test_one", SENSOR, PASSED, 3.2, "", {}, ()),
    Result("test_b.py::test_two", PARITY, SKIPPED, 0, "", {"parity": "an adapter that reports parity errors"}, ()),
)
BROKEN = Result("test_c.py::test_three", SENSOR, FAILED, 1, "assert 1 < <script>", {}, ("captures/1-level.pcapng",))
RUN = Run(
    site="示例化工 <1#> 罐区",
    gateway="jt-0042",
    by="Li",
    begun="2026-11-25 21:00:00+08:00",
    machine="pi",
    version="0.1.0",
    rig={"dut": "sim", "board": "virtual", "firmware_sha256": "ab" * 32},
    never=2,
    results=RESULTS,
    count=2,
)


def text(run: Run, language: str) -> str:
    """What a reader of this language is shown."""
    shown = page(run, CHINESE, language == "zh")
    other = {"zh": "en", "en": "zh"}[language]
    return re.sub(r"<[^>]+>", " ", re.sub(rf'<span lang="{other}">.*?</span>', "", shown))


@pytest.mark.parametrize(
    ("language", "sentences"),
    [
        ("en", ["1 passed, 0 failed, 1 not run", "GB/T 50493", SENSOR, "Nothing in this report was run on hardware"]),
        ("zh", ["通过 1 项，不合格 0 项", "不能代替 GB/T 50493", "总线上另有主站", "没有任何内容在真实硬件上运行过"]),
    ],
)
def test_each_language_has_verdict_limits_and_disclaimer(language: str, sentences: list[str]) -> None:
    shown = text(RUN, language)
    for sentence in sentences:
        assert sentence in shown
    assert "ab" * 32 in shown and "jt-0042" in shown


def test_what_was_not_run_stands_there_with_its_reason() -> None:
    assert PARITY in text(RUN, "en")
    assert "an adapter that reports parity errors" in text(RUN, "en") and "能报告校验错误的转换器" in text(RUN, "zh")
    assert "Of these tests, 2 have never passed on a real board." in text(RUN, "en")


def test_a_failure_is_shown_with_its_captures_and_refuses() -> None:
    run = replace(RUN, results=(*RESULTS, BROKEN), count=3)
    shown = page(run, CHINESE, True)
    assert "captures/1-level.pcapng" in shown and "assert 1 &lt; &lt;script&gt;" in shown
    assert is_accepted(RUN) and not is_accepted(run) and not is_accepted(replace(RUN, results=RESULTS[1:], count=1))


def test_a_run_that_was_ended_says_so_and_refuses() -> None:
    run = replace(RUN, count=34)
    assert "32 of its 34 tests were not examined" in text(run, "en") and "34 项中有 32 项未检查" in text(run, "zh")
    assert "were not examined" not in text(RUN, "en") and not is_accepted(run)


def test_a_real_board_is_not_called_simulated_and_pseudo_terminals_are_no_board() -> None:
    board = text(replace(RUN, rig={"dut": "board", "board": "esp32-1", "board_cab1": "esp32-1"}), "en")
    assert "Real boards on serial ports" in board and "Nothing in this report was run on hardware" not in board
    assert "Nothing in this report was run on hardware" in text(replace(RUN, rig={"dut": "pseudo-terminals"}), "en")


def test_the_page_is_one_file_for_a4() -> None:
    shown = page(RUN, CHINESE, True)
    assert "size: A4" in shown and not re.search(r"https?://|src=|<link|@import", shown)
    assert "示例化工 &lt;1#&gt; 罐区" in shown


def acceptance(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "edge", "bench", "acceptance", "--output", str(folder), *arguments]
    environment = os.environ | {"LANGUAGE": "zh_CN"}
    return subprocess.run(
        command, cwd=ROOT, env=environment, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=100
    )


def test_a_port_that_is_not_there_is_told_in_the_technicians_language(tmp_path: Path) -> None:
    run = acceptance(tmp_path / "new", "--port", "/dev/no-such-board", "--bus-port", "/dev/no-such-adapter")
    assert run.returncode == UNREACHABLE, run.stderr
    assert "/dev/no-such-board：没有这个串口。请插上：采集板 cab1。" in run.stderr
    assert not (tmp_path / "new").exists()  # the same command again is not refused


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--dut", "board"], "请用 --port 和 --bus-port 写明采集板的串口"),
        (["--port", "a", "--bus-port", "b", "--reset", "c"], "复位 reset = c：允许的是 rts、usb 或 cmd:程序"),
        (["--dut", "sim", "--port", "a"], "--port、--bus-port、--reset 和 --wiring 只用于 --dut=board"),
        (["--dut", "board", "--wiring", "none.toml"], "none.toml"),
    ],
)
def test_wrong_arguments_are_refused_in_words(tmp_path: Path, arguments: list[str], said: str) -> None:
    run = acceptance(tmp_path / "new", *arguments)
    assert (run.returncode, said in run.stderr) == (USAGE, True), run.stderr
    assert not (tmp_path / "new").exists()


def test_a_folder_that_exists_is_left_alone(tmp_path: Path) -> None:
    run = acceptance(tmp_path, "--dut", "sim")
    assert (run.returncode, list(tmp_path.iterdir())) == (USAGE, [])
    assert "已经存在" in run.stderr


@pytest.mark.parametrize("folder", ["/dev/null/x", "/proc/x"])
def test_a_folder_that_cannot_be_made_is_told_with_what_to_do(folder: str) -> None:
    run = acceptance(Path(folder), "--dut", "sim")
    assert run.returncode == USAGE and f"{folder} 无法建立：" in run.stderr and "Traceback" not in run.stderr


@pytest.mark.needs("micropython", "mosquitto")
def test_what_was_examined_before_somebody_ended_it_is_reported(tmp_path: Path) -> None:
    folder = tmp_path / "new"
    command = [sys.executable, "-m", "edge", "bench", "acceptance", "--output", str(folder), "--dut", "sim"]
    environment = os.environ | {"LANGUAGE": "en"}
    with subprocess.Popen(command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        while not process.stdout.readline().startswith("[1/"):
            assert process.poll() is None
        process.terminate()
        said = process.stdout.read()
    assert process.returncode == FOUND_A_FAULT and f"Report: {folder / 'report.html'}" in said
    assert "The run was ended before its end" in (folder / "report.html").read_text(encoding="utf-8")
