"""Ours, under measurement: a site of one board on the same sensors, the virtual board, and the daemon. Shell.

Every register is a point with deadband 0, and every reply brings new values, so every reading is reported. Nothing is
set for speed: the site is what a technician would write, with a profile of its own beside it.
"""

import csv
import select
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from hil_tests.bench.board import Cable, compile_flash, fill_flash, interpreter
from tests.figures.broker import HOST
from tests.figures.load import Load
from tests.figures.virtual_board import BOARD_ID, power_on

ROOT = Path(__file__).parents[2]
TOPIC = "tankgate/v1/figures/data"
_STOP_S = 10
_GATEWAY = """\
schema = 1
[site]
gateway  = "figures"
name     = "figures"
group    = "figures"
timezone = "Asia/Shanghai"
points   = "points.csv"
codes    = {{ enterprise = "", gateway = "" }}
[boards.cab1]
id   = "{board_id}"
port = "{link}"
[buses.line]
board = "cab1"
uart  = 1
line  = "115200 8N1"
[store]
path      = "store"
max_bytes = "8 GB"
[destinations.district]
url  = "mqtt://{host}:{broker_port}"
feed = "json"
"""
_PROFILE = """\
version      = 1
maker        = "tankgate"
model        = "counter"
source       = "tests/figures/sensors.c"
evidence     = "code"
timeout_ms   = 50
address_base = 0
"""
_CHANNEL = """\
[channels.r{register:02}]
function_code = 3
address       = {register}
type          = "u16"
decimals      = 0
unit          = "V"
"""


def readings(payload: Any) -> Iterator[tuple[str, int]]:
    """Points and values of one data message; a failed poll has no value and is none."""
    for point, _dt_ms, value, *_status in payload["rows"]:
        if value is not None:
            yield point, value


class Tankgate:
    """One running gateway with its virtual board, on the sensors at `port`."""

    def __init__(
        self,
        directory: Path,
        broker_port: int,
        port: Path,
        load: Load,
        urgent: bool = False,
        prepare: Callable[[Path], None] = lambda _directory: None,
    ) -> None:
        """`prepare` may change the site's files and what lies in its store, before anything is started."""
        directory.mkdir()
        self._cable = Cable(directory / "cab1")
        self._stopping = threading.Event()
        self._carrier = threading.Thread(target=self._carry, daemon=True)
        self._carrier.start()
        _write(directory, broker_port, self._cable.plug, load, urgent)
        prepare(directory)
        flash = directory / "flash"
        flash.mkdir()
        fill_flash(flash)
        compile_flash(flash)
        self._board = power_on(
            [*interpreter(), "main.py"], flash, [str(port)], self._cable.board_end.path, directory / "board.log"
        )
        with (directory / "daemon.log").open("wb") as log:
            self._daemon = subprocess.Popen(
                [sys.executable, "-m", "edge", "run", directory / "gateway.toml", "--simulated"],
                cwd=ROOT,
                stdout=log,
                stderr=subprocess.STDOUT,
            )

    @property
    def pids(self) -> tuple[int, ...]:
        """The daemon, and what stands for the board."""
        return self._daemon.pid, self._board.pid

    def close(self) -> None:
        """Stop it."""
        self._daemon.terminate()
        try:
            self._daemon.wait(_STOP_S)
        except subprocess.TimeoutExpired:
            self._daemon.kill()
            self._daemon.wait()
        self._board.kill()
        self._board.wait()
        self._stopping.set()
        self._carrier.join()
        self._cable.close()

    def _carry(self) -> None:
        """The link's cable: bytes from one terminal to the other, both ways."""
        board_end, edge_end = self._cable.board_end.fileno(), self._cable.edge_end.fileno()
        while not self._stopping.is_set():
            readable, _writable, _broken = select.select([board_end, edge_end], [], [], 0.2)
            if board_end in readable:
                self._cable.carry_up()
            if edge_end in readable:
                self._cable.carry_down()


def _write(directory: Path, broker_port: int, link: Path, load: Load, urgent: bool) -> None:
    (directory / "gateway.toml").write_text(
        _GATEWAY.format(board_id=BOARD_ID, link=link, host=HOST, broker_port=broker_port)
    )
    (directory / "profiles").mkdir()
    channels = (_CHANNEL.format(register=register) for register in range(load.registers))
    (directory / "profiles" / "counter.toml").write_text(_PROFILE + "".join(channels))
    with (directory / "points.csv").open("w", newline="") as file:
        sheet = csv.writer(file)
        sheet.writerow(
            ("point", "name", "area", "bus", "unit_id", "profile", "channel", "unit", "period_s", "deadband", "urgent")
        )
        for unit in range(1, load.units + 1):
            for register in range(load.registers):
                point, channel = f"U{unit:02}.r{register:02}", f"r{register:02}"
                row = (point, point, "A", "line", unit, "counter", channel, "V", load.period_ms / 1000, 0, int(urgent))
                sheet.writerow(row)
