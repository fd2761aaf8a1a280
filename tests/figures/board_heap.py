"""How much heap the board's program takes: for each poll, and in all. Shell.

board_heap_per_poll: the locked loop of main.py through 10,000 polls of 64 reads on two buses with the link up; units
that are silent, reply damaged or cut, one dead unit a bus, and an edge that is unplugged until the ring overflows and
comes back. Bytes on gc's meter after minus before, of both builds the worse: 64 bits on pseudo-terminals, and 32 bits
(WebAssembly) on ports in memory, since there are no others.

board_heap_needed: the smallest -X heapsize in which the same two buses are polled whole, plan taken over the link and
records committed, with a ring that holds 240 s of the example site's busier board. By bisection, to 1 KiB.
"""

import hashlib
import re
import select
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from edge.config import load_site
from edge.planning import compile_board
from hil_tests.bench.board import compile_flash, fill_flash
from hil_tests.bench.pty_port import PtyPort
from protocols import link
from tests.figures.figure import Measured
from tests.figures.virtual_board import power_on

ROOT = Path(__file__).parents[2]
ON_BOARD = Path(__file__).with_name("on_board")
WASM = ROOT / "tests" / "interpreters" / "wasm.mjs"
RING_S = 240
_RECORD_HEAD_BYTES = 2
_RUN_S = 180.0
_TRY_S = 15.0
_TRY_SAMPLES = 2000
_LOW_KIB, _HIGH_KIB = 48, 256

sys.path.append(str(ON_BOARD))  # as it lies in flash

import surroundings  # noqa: E402


def per_poll() -> Measured:
    """board_heap_per_poll."""
    with tempfile.TemporaryDirectory() as name:
        directory = Path(name)
        terminals = _Terminals(directory / "terminals", "1m", "heap_per_poll")
        deadline_s = time.monotonic() + _RUN_S
        while terminals.runs and time.monotonic() < deadline_s:
            terminals.step()
        long_said = terminals.close()
        outcomes = [*terminals.edge.outcomes, terminals.edge.lost]

        flash = _flash(directory / "memory", is_compiled=False)  # WebAssembly runs no machine code
        shutil.copy(flash / "memory_board.py", flash / "board.py")
        shutil.copy(ROOT / "tests" / "interpreters" / "run.py", flash)
        run = subprocess.run(
            ["node", WASM, flash, "heap_per_poll"], capture_output=True, text=True, timeout=_RUN_S, check=False
        )
        short_said = run.stdout + run.stderr
    in_terminals = re.search(r"allocated (-?\d+) polls (\d+)", long_said)
    in_memory = re.search(r"allocated (-?\d+) polls (\d+)\noutcomes (.+)", short_said)
    if in_terminals is None or in_memory is None:
        ends = f"it did not run to its end; 64 bits: {long_said[-300:]} 32 bits: {short_said[-300:]}"
        return Measured(None, ends)
    short_outcomes = [int(word) for word in in_memory[3].split()]
    beside = (
        f"64 bits {in_terminals[1]} in {in_terminals[2]} polls ({_told(outcomes)}); "
        f"32 bits {in_memory[1]} in {in_memory[2]} ({_told(short_outcomes)})"
    )
    return Measured(max(int(in_terminals[1]), int(in_memory[1])), beside)


def needed() -> Measured:
    """board_heap_needed."""
    ring_bytes = round(RING_S * max(_record_bytes_per_s()))
    low, high = _LOW_KIB, _HIGH_KIB
    ring = 0
    while high - low > 1:
        middle = (low + high) // 2
        found = _runs_in(middle, ring_bytes)
        if found:
            high, ring = middle, found
        else:
            low = middle
    beside = f"ring {ring} bytes, {RING_S} s of the busier board are {ring_bytes}; 64 reads, two buses, link up"
    return Measured(high * 1024 if ring else None, beside)


def _told(outcomes: list[int]) -> str:
    names = ("good", "silent", "bad CRC", "cut", "wrong", "exceptions", "dropped by the ring")
    return ", ".join(f"{count} {name}" for count, name in zip(outcomes, names, strict=True) if count)


def _record_bytes_per_s() -> list[float]:
    """What each board of the example site writes into its ring, all polls good."""
    site = load_site(ROOT / "hil_tests" / "site" / "gateway.toml")
    return [
        sum(
            (_RECORD_HEAD_BYTES + link.SAMPLE_HEAD_BYTES + 2 * read.read.count) * 1000 / read.period_ms
            for read in plan.reads
        )
        for board in site.boards
        if (plan := compile_board(site, board.name, "00000000", ())) is not None
    ]


def _runs_in(heap_kib: int, ring_bytes: int) -> int:
    """The ring's bytes where the board runs in this heap and its ring is large enough, else 0."""
    with tempfile.TemporaryDirectory() as name:
        terminals = _Terminals(Path(name) / "flash", f"{heap_kib}k", "heap_needed")
        live = surroundings.BUSES * (surroundings.UNITS - 1) * surroundings.READS
        deadline_s = time.monotonic() + _TRY_S
        while terminals.runs and terminals.edge.taken() < _TRY_SAMPLES and time.monotonic() < deadline_s:
            terminals.step()
        has_run = terminals.runs and terminals.edge.taken() >= _TRY_SAMPLES and len(terminals.edge.reads) == live
        ring = re.search(r"ring (\d+)", terminals.close())
        return int(ring[1]) if has_run and ring and int(ring[1]) >= ring_bytes else 0


def _flash(flash: Path, is_compiled: bool = True) -> Path:
    """A board's flash with what measures it."""
    flash.mkdir()
    fill_flash(flash)
    for source in (ROOT / "protocols").glob("*_edge.py"):
        shutil.copy(source, flash / "protocols")
    if is_compiled:
        compile_flash(flash)
    for source in ON_BOARD.glob("*.py"):
        shutil.copy(source, flash)
    return flash


class _Terminals:
    """A board on three pseudo-terminals, with the surroundings at their other ends."""

    def __init__(self, flash: Path, heap: str, program: str) -> None:
        plan = surroundings.plan()
        self.edge = surroundings.Edge(plan, hashlib.sha256(plan).digest())
        self._lines = {PtyPort(): surroundings.Line() for _bus in range(surroundings.BUSES)}
        self._link = PtyPort()
        self._console = flash.parent / "console.log"
        self._process = power_on(
            ["micropython", "-X", f"heapsize={heap}", "-c", f"import {program}"],
            _flash(flash),
            [port.path for port in self._lines],
            self._link.path,
            self._console,
        )

    @property
    def runs(self) -> bool:
        """Whether the program still runs."""
        return self._process.poll() is None

    def step(self) -> None:
        """Carry what there is, for a tenth of a second at most."""
        readable, _writable, _broken = select.select([*self._lines, self._link], [], [], 0.1)
        for port, line in self._lines.items():
            if port in readable:
                port.write(line.answer(port.read()))
        data = self._link.read() if self._link in readable else b""
        self._link.write(self.edge.step(data, time.monotonic_ns() // 1000000))

    def close(self) -> str:
        """Take everything away; what the program said."""
        self._process.kill()
        self._process.wait()
        for port in [*self._lines, self._link]:
            port.close()
        return self._console.read_text()
