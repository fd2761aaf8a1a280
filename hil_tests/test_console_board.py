"""The virtual board out of its box: the real mpremote and the board's real firmware find a chip in it."""

import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from hil_tests.bench.board import FIRMWARE
from hil_tests.bench.console_board import RING_BYTES, ConsoleBoard
from hil_tests.bench.pty_port import PtyPort

UNIQUE_ID = "7cdfa1e40c11"
IDENTITY = b"esp32-" + UNIQUE_ID.encode()
PATIENCE_S = 20.0
pytestmark = pytest.mark.needs("micropython")


class Desk:
    """One board on a desk, its link on UART2, and mpremote."""

    def __init__(self, directory: Path) -> None:
        self.link = PtyPort()
        self.plug = directory / "plug"
        self.board = ConsoleBoard(self.plug, UNIQUE_ID, directory / "flash", {2: self.link.path})
        self.heard = b""

    def until(self, true: Callable[[], bool]) -> None:
        end_s = time.monotonic() + PATIENCE_S
        while not true():
            assert time.monotonic() < end_s, self.board.said[-2000:]
            time.sleep(0.01)

    def hears(self, text: bytes) -> bool:
        self.heard += self.link.read()
        return text in self.heard

    def mpremote(self, *arguments: str, fails: bool = False) -> str:
        command = [sys.executable, "-m", "mpremote", "connect", str(self.plug), *arguments]
        run = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
        assert (run.returncode != 0) == fails, run.stdout + run.stderr
        return run.stdout

    def switch_on(self) -> None:
        self.board.power_on()
        self.until(lambda: self.board.said.endswith(b">>> "))

    def deploy(self, directory: Path, **others: bytes) -> None:
        directory.mkdir()
        build = [sys.executable, str(FIRMWARE / "build.py"), str(directory), "--architecture", "host"]
        subprocess.run(build, check=True)
        for name, content in others.items():
            (directory / name).write_bytes(content)
        self.mpremote("fs", "cp", "-r", *(str(path) for path in sorted(directory.iterdir())), ":")


@pytest.fixture
def desk(tmp_path: Path) -> Iterator[Desk]:
    desk = Desk(tmp_path)
    yield desk
    desk.board.close()
    desk.link.close()


def test_mpremote_finds_a_file_system_that_outlives_soft_and_hard_resets(desk: Desk, tmp_path: Path) -> None:
    desk.switch_on()
    (tmp_path / "x.py").write_text("print(40 + 2)\n" * 200)
    desk.mpremote("fs", "mkdir", ":kept", "+", "fs", "cp", str(tmp_path / "x.py"), ":kept/x.py")
    assert "42" in desk.mpremote("run", str(tmp_path / "x.py"))
    desk.mpremote("soft-reset")
    desk.mpremote("reset")
    desk.until(lambda: b"rst:0xc" in desk.board.said)
    assert "2800 x.py" in desk.mpremote("fs", "ls", ":kept")
    assert desk.mpremote("fs", "cat", ":kept/x.py").endswith((tmp_path / "x.py").read_text())
    desk.mpremote("fs", "rm", ":kept/x.py")
    assert desk.board.read("kept/x.py") is None


def test_boot_runs_before_main_and_main_not_in_the_raw_repl(desk: Desk, tmp_path: Path) -> None:
    desk.switch_on()
    for name in ("boot.py", "main.py"):
        (tmp_path / name).write_text(f"print('this is', '{name}')\n")
    desk.mpremote("fs", "cp", str(tmp_path / "boot.py"), str(tmp_path / "main.py"), ":")
    at = len(desk.board.said)
    desk.mpremote("soft-reset")
    assert b"this is boot.py" in desk.board.said[at:] and b"this is main.py" not in desk.board.said[at:]
    desk.mpremote("reset")
    desk.until(lambda: b"this is boot.py\nthis is main.py" in desk.board.said)


def test_a_file_that_was_not_closed_when_the_power_went_is_the_old_one(desk: Desk) -> None:
    desk.switch_on()
    desk.mpremote("exec", "with open('f', 'w') as f: f.write('old')")
    desk.mpremote("exec", "f = open('f', 'w'); f.write('new' * 1000)")
    desk.board.power_off()
    assert desk.board.read("f") == b"old"


@pytest.mark.parametrize("change", [1, 8])
def test_a_file_that_is_renamed_is_old_or_new_wherever_the_power_fails(desk: Desk, change: int) -> None:
    desk.switch_on()
    desk.mpremote("exec", "with open('f', 'w') as f: f.write('old' * 500)")
    desk.board.cut_at(change)
    write = "import os\nwith open('f.new', 'w') as f: f.write('new' * 500)\nos.rename('f.new', 'f')"
    console = subprocess.Popen([sys.executable, "-m", "mpremote", "connect", str(desk.plug), "exec", write])
    desk.until(lambda: not desk.board.is_running)
    console.kill()
    console.wait()
    assert desk.board.read("f") in (b"old" * 500, b"new" * 500)


def test_what_the_ring_cannot_hold_is_lost(desk: Desk) -> None:
    desk.switch_on()
    desk.mpremote("exec", "--no-follow", "import time\nwhile True: time.sleep(0.01)")
    with desk.plug.open("wb", buffering=0) as console:
        console.write(b"x" * (RING_BYTES + 41))
        desk.until(lambda: desk.board.lost_bytes == 41 + len(b"\r\x02"))  # mpremote's good-bye lies there already


def test_the_real_firmware_says_hello_on_its_link_and_yields_to_ctrl_c(desk: Desk, tmp_path: Path) -> None:
    """Even under its locked heap; and its watchdog, that nobody feeds any more, waits."""
    desk.switch_on()
    desk.deploy(tmp_path / "files")
    desk.mpremote("reset")
    desk.until(lambda: desk.hears(IDENTITY))
    desk.until(lambda: desk.board.watchdog_s == 8)
    assert "42" in desk.mpremote("exec", "print(6 * 7)")
    desk.until(lambda: desk.board.watchdog_s == 120)


def test_a_board_whose_link_is_its_console_yields_to_a_knock(desk: Desk, tmp_path: Path) -> None:
    desk.switch_on()
    desk.deploy(tmp_path / "files", two_buses=b"")
    at = len(desk.board.said)
    desk.mpremote("reset")
    desk.until(lambda: IDENTITY in desk.board.said[at:])
    with desk.plug.open("wb", buffering=0) as console:
        console.write(b"\0\x09\x82\r\x03\r\x01garbage\0")  # byte 3 within a frame is data
        time.sleep(0.5)
        assert not desk.board.said.endswith(b">>> ")
        console.write(b"\r\x03")
        desk.until(lambda: desk.board.said.endswith(b">>> "))
    assert "42" in desk.mpremote("exec", "print(6 * 7)")


def test_a_watchdog_that_is_not_fed_bites(desk: Desk) -> None:
    desk.switch_on()
    desk.mpremote("exec", "import machine; machine.WDT(timeout=1000)")
    desk.until(lambda: b"rst:0x8" in desk.board.said)
    desk.until(lambda: desk.board.said.endswith(b">>> "))
    assert "3" in desk.mpremote("resume", "exec", "import machine; print(machine.reset_cause())")
