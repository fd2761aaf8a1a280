"""A virtual board: the firmware as it lies in flash, run by MicroPython, with its power cord and its link cable. Shell.

Owns the flash directory, the process and the two pseudo-terminals of the link, between which it carries the bytes, so
that the cable can be cut, damaged, unplugged or swapped. Must never look into the link's bytes.
"""

import hashlib
import os
import shutil
import subprocess
import sys
import sysconfig
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Protocol

from hil_tests.bench.chance import draw
from hil_tests.bench.pty_port import Port, PtyPort

FIRMWARE = Path(__file__).parents[2] / "firmware"
# A board that outlives its bench would go on opening its terminals, whose names others get next.
DIES_WITH_ITS_STARTER = ("setpriv", "--pdeathsig", "KILL")
# Runs a program about as slowly as an ESP32 runs bytecode; tests/figures/bus_utilisation.py measures how slowly.
SLOWED_DOWN = ("valgrind", "--tool=lackey", "--log-file=/dev/null")
_HEAP = "128k"  # of 64-bit words: about what an ESP32 without PSRAM leaves to a program
_KILL_S = 5.0
_AS_A_CHIP_STARTS = ("-c", "execfile('boot.py'); execfile('main.py')")


def interpreter() -> list[str]:
    """The command that runs the firmware: MicroPython where it is installed, else CPython as a stand-in."""
    path = os.pathsep.join([sysconfig.get_path("scripts"), os.environ.get("PATH", "")])
    micropython = shutil.which("micropython", path=path)
    return [micropython, "-X", f"heapsize={_HEAP}"] if micropython else [sys.executable]


def interpreter_name() -> str:
    """What runs the boards, like "MicroPython 1.29" or "CPython 3.11"."""
    program = "import sys; print(sys.implementation.name, *sys.implementation.version[:2])"
    run = subprocess.run([*interpreter(), "-c", program], capture_output=True, text=True, check=True)
    name, major, minor = run.stdout.split()
    return f"{ {'micropython': 'MicroPython', 'cpython': 'CPython'}[name] } {major}.{minor}"


def firmware_sha256() -> str:
    """Of the firmware's files here, names and bytes."""
    digest = hashlib.sha256()
    with TemporaryDirectory() as folder:
        _build(Path(folder), "--only", "fill")
        for source in sorted(file for file in Path(folder).rglob("*") if file.is_file()):
            name = source.relative_to(folder).as_posix()
            digest.update(f"{name} {source.stat().st_size}\n".encode() + source.read_bytes())
    return digest.hexdigest()


def fill_flash(flash: Path) -> None:
    """Put the firmware into a flash directory, as its manifest says, for a host: board_host.py becomes board.py."""
    _build(flash, "--only", "fill", "--host")


def compile_flash(flash: Path, architecture: str = "host") -> None:
    """Compile the modules in it, as one does for a board; `architecture` as `mpy-cross -march` names it."""
    _build(flash, "--only", "compile", "--architecture", architecture)


def _build(flash: Path, *arguments: str) -> None:
    subprocess.run([sys.executable, str(FIRMWARE / "build.py"), str(flash), *arguments], check=True)


class Cable:
    """The link between a board and the edge. `plug` is the stable path that the edge opens.

    `cut`: nothing passes. `damage`: the chance of a flipped bit for each byte, in both directions. `board_end` is
    a port that the rig gave, or a new pseudo-terminal. `ups` and `downs` hear what passes, for whoever wants to know.
    """

    def __init__(self, plug: Path, seed: int = 0, board_end: Port | None = None) -> None:
        self.plug = plug
        self.board_end: Port = board_end or PtyPort()
        self.edge_end: PtyPort | None = None
        self.cut = False
        self.damage = 0.0
        self.ups: Callable[[bytes], None] = _nobody_hears
        self.downs: Callable[[bytes], None] = _nobody_hears
        self._seed = seed
        self._bytes = 0
        self.plug_in()

    def carry_up(self) -> None:
        """Bytes of the board."""
        data = self._carried(self.board_end.read())
        if data and self.edge_end is not None:
            self.edge_end.write(data)
            self.ups(data)

    def carry_down(self) -> None:
        """Bytes of the edge."""
        if self.edge_end is not None and (data := self._carried(self.edge_end.read())):
            self.board_end.write(data)
            self.downs(data)

    def unplug(self) -> None:
        """Pull the plug out of the edge: its port fails, and the path is gone."""
        if self.edge_end is not None:
            self.plug.unlink()
            self.edge_end.close()
            self.edge_end = None

    def plug_in(self) -> None:
        """Put it in again; the edge finds a new port under the old path."""
        if self.edge_end is None:
            self.edge_end = PtyPort()
            self.plug.symlink_to(self.edge_end.path)

    def close(self) -> None:
        """Take the cable away."""
        self.unplug()
        self.board_end.close()

    def _carried(self, data: bytes) -> bytes:
        self._bytes += len(data)
        if self.cut:
            return b""
        if self.damage <= 0:
            return data
        out = bytearray(data)
        for at in range(len(out)):
            chance = draw(self._seed, str(self.plug), self._bytes - at)
            if chance < self.damage:
                out[at] ^= 1 << int(chance / self.damage * 8)
        return bytes(out)


def _nobody_hears(_data: bytes) -> None:
    """Bytes pass, and that is all."""


class Board(Protocol):
    """One board, virtual or real."""

    name: str
    identity: str
    console: Path

    @property
    def resident_bytes(self) -> int:
        """What its program holds in this machine's memory; 0 where it is none of its processes."""

    @property
    def is_running(self) -> bool:
        """Whether its program runs."""

    def power_on(self) -> None:
        """Start it."""

    def power_off(self) -> None:
        """Stop it at once."""


class VirtualBoard:
    """One board: `flash` outlives its power cord. What it says on its console is in `console`.

    `prefix` is what its interpreter is run by, `pins` are the terminals in the place of its pins.
    """

    def __init__(
        self,
        name: str,
        board_id: str,
        directory: Path,
        uarts: Mapping[int, str],
        link: str,
        prefix: Sequence[str] = (),
        pins: Mapping[int, str] | None = None,
    ) -> None:
        self.name = name
        self.identity = board_id
        self._prefix = prefix
        self.flash = directory / name / "flash"
        self.console = directory / name / "console.log"
        self.flash.mkdir(parents=True)
        fill_flash(self.flash)
        self._program: tuple[str, ...] = ("main.py",)
        if interpreter()[0] != sys.executable:
            compile_flash(self.flash)
            self._program = _AS_A_CHIP_STARTS
        self._process: subprocess.Popen[bytes] | None = None
        self._environment = {
            **os.environ,
            "TANKGATE_BOARD_ID": board_id,
            "TANKGATE_LINK": link,
            **{f"TANKGATE_UART{uart}": path for uart, path in uarts.items()},
            **{f"TANKGATE_PIN{pin}": path for pin, path in (pins or {}).items()},
        }

    @property
    def is_running(self) -> bool:
        """Whether its program runs; false as well after a crash."""
        return self._process is not None and self._process.poll() is None

    @property
    def resident_bytes(self) -> int:
        """What its program holds in memory now; 0 while it does not run."""
        if self._process is None:
            return 0
        pages = Path(f"/proc/{self._process.pid}/statm").read_text().split()[1]
        return int(pages) * os.sysconf("SC_PAGESIZE")

    def power_on(self) -> None:
        """Start from what lies in flash."""
        if self.is_running:
            return
        with self.console.open("ab") as console:
            self._process = subprocess.Popen(
                [*DIES_WITH_ITS_STARTER, *self._prefix, *interpreter(), *self._program],
                cwd=self.flash,
                env=self._environment,
                stdin=subprocess.DEVNULL,
                stdout=console,
                stderr=subprocess.STDOUT,
            )

    def power_off(self) -> None:
        """Pull the cord: whatever was in memory is gone."""
        if self._process is not None:
            self._process.kill()
            self._process.wait(_KILL_S)
            self._process = None
