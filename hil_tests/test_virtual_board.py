"""The virtual board and its cable: it starts from flash, says HELLO, and loses what a real one would lose."""

import contextlib
import select
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from hil_tests.bench.board import Cable, VirtualBoard, compile_flash, fill_flash, interpreter_name
from hil_tests.bench.pty_port import PtyPort

pytestmark = pytest.mark.needs("simulation")

BOARD_ID = "esp32s3-7cdfa1e40c11"
HELLO_S = 10.0


class Wired:
    """One board, one cable, and what the edge's end of it has read."""

    def __init__(self, directory: Path) -> None:
        self.cable = Cable(directory / "plug")
        self.board = VirtualBoard("cab1", BOARD_ID, directory, {}, self.cable.board_end.path)
        self.read = b""
        self._edge = self.cable.plug.open("rb", buffering=0)

    def until(self, true: Callable[[], bool]) -> bool:
        """Carry bytes until it is so; False when it took too long."""
        end_s = time.monotonic() + HELLO_S
        while not true():
            if time.monotonic() > end_s:
                return False
            time.sleep(0.01)
            self.cable.carry_up()
            self.read += self._edge.read(4096) if _has_bytes(self._edge.fileno()) else b""
        return True


def _has_bytes(descriptor: int) -> bool:
    return bool(select.select([descriptor], [], [], 0)[0])


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Wired]:
    bench = Wired(tmp_path)
    yield bench
    bench.board.power_off()
    bench.cable.close()


def test_a_board_says_hello_with_its_identity(bench: Wired) -> None:
    bench.board.power_on()
    assert bench.until(lambda: BOARD_ID.encode() in bench.read), bench.board.console.read_text()
    assert bench.board.is_running


def test_flash_outlives_the_power_cord(bench: Wired) -> None:
    bench.board.power_on()
    assert bench.until(lambda: BOARD_ID.encode() in bench.read)
    (bench.board.flash / "kept").write_text("x")
    bench.board.power_off()
    assert not bench.board.is_running
    bench.read = b""
    bench.board.power_on()
    assert bench.until(lambda: BOARD_ID.encode() in bench.read)
    assert (bench.board.flash / "kept").read_text() == "x"


def test_nothing_passes_a_cut_cable_and_a_damaged_one_changes_bytes(tmp_path: Path) -> None:
    cable = Cable(tmp_path / "cab1")
    board_end = Path(cable.board_end.path)
    with board_end.open("r+b", buffering=0) as board, cable.plug.open("r+b", buffering=0) as edge:
        cable.cut = True
        board.write(b"lost")
        cable.carry_up()
        cable.cut = False
        board.write(b"kept")
        cable.carry_up()
        assert edge.read(100) == b"kept"
        edge.write(b"down")
        cable.carry_down()
        assert board.read(100) == b"down"
        cable.damage = 0.05
        board.write(bytes(1000))
        cable.carry_up()
        flips = [byte for byte in edge.read(1000) if byte]
        assert 20 < len(flips) < 90
        assert all(byte.bit_count() == 1 for byte in flips)
    cable.close()


def test_an_unplugged_cable_takes_its_path_away_and_comes_back(tmp_path: Path) -> None:
    cable = Cable(tmp_path / "cab1")
    with cable.plug.open("rb", buffering=0) as edge:
        cable.unplug()
        assert not cable.plug.exists()
        with contextlib.suppress(OSError):
            assert edge.read(1) == b""
    cable.plug_in()
    assert cable.plug.exists()
    cable.close()


def test_a_port_that_nobody_reads_loses_and_counts() -> None:
    port = PtyPort()
    for _ in range(100):
        port.write(bytes(1000))
    assert 50_000 < port.lost_bytes < 100_000
    port.close()


def test_the_interpreter_is_named() -> None:
    assert interpreter_name().startswith(("MicroPython 1.", "CPython 3."))


@pytest.mark.needs("mpy-cross")
def test_only_what_the_manifest_lists_is_machine_code_and_that_of_the_board_in_question(tmp_path: Path) -> None:
    modules = {}
    for architecture in ("host", "xtensawin", "rv32imc"):
        flash = tmp_path / str(architecture)
        flash.mkdir()
        fill_flash(flash)
        compile_flash(flash, architecture)
        modules[architecture] = {file.name: file.read_bytes() for file in flash.rglob("*.mpy")}
    differ = {name for name in modules["host"] if len({of_one[name] for of_one in modules.values()}) == len(modules)}
    alike = {name for name in modules["host"] if len({of_one[name] for of_one in modules.values()}) == 1}
    assert differ == {"octets.mpy", "ticks.mpy"}
    assert alike == set(modules["host"]) - differ and "poller.mpy" in alike
