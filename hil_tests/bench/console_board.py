"""A virtual board as it comes out of its box: MicroPython, an empty flash, and a console to plug in. Shell.

Owns the chip's process and what a chip does around MicroPython: it runs boot.py and main.py, starts again after a
reset, bites when the watchdog is not fed, and loses what is not read from its console's 259 bytes. What runs there is
the board's real firmware, put there by whoever talks to the console; the interpreter, its REPL and littlefs are
MicroPython's own. Must never write into the flash itself.

The console is the board's USB socket, which feeds it: without power there is no port. A cut of the power leaves what
littlefs had programmed until then; `cut_at` lets it fail within one program or erase.
"""

import array
import fcntl
import os
import re
import select
import signal
import subprocess
import termios
import threading
import time
from collections.abc import Mapping
from pathlib import Path

from hil_tests.bench.board import DIES_WITH_ITS_STARTER, interpreter
from hil_tests.bench.chance import draw
from hil_tests.bench.pty_port import PtyPort
from hil_tests.bench.usb_port import UsbPort

RING_BYTES = 259  # of ports/esp32/uart.c: stdin_ringbuf has 260, one of them never used
_FLASH_BYTES = 1 << 20
_ON_BOARD = Path(__file__).with_name("on_board")
_INTERRUPT = 3
_STEP_S = 0.005
_KILL_S = 5.0
# As machine.reset_cause() tells it, and as the chip's ROM does.
_POWER_ON, _HARD_RESET, _WATCHDOG, _SOFT_RESET = 1, 2, 3, 5
_ROM_SAYS = {
    _POWER_ON: b"rst:0x1 (POWERON_RESET),boot:0x13 (SPI_FAST_FLASH_BOOT)\r\n",
    _HARD_RESET: b"rst:0xc (SW_CPU_RESET),boot:0x13 (SPI_FAST_FLASH_BOOT)\r\n",
    _WATCHDOG: b"rst:0x8 (TG1WDT_SYS_RESET),boot:0x13 (SPI_FAST_FLASH_BOOT)\r\n",
    _SOFT_RESET: b"MPY: soft reboot\r\n",
}
_PROGRAM_RUNS = termios.NOFLSH  # an idle flag that the REPL clears as long as it reads


class ConsoleBoard:
    """One board. `plug` is what mpremote opens; all that the console ever said is in `said`."""

    def __init__(self, plug: Path, unique_id: str, flash: Path, uarts: Mapping[int, str], seed: int = 0) -> None:
        self.plug = plug
        self.said = b""
        self.lost_bytes = 0  # they came when the ring was full
        self._seed = seed
        self._cut_at = 0
        self._ring = b""
        self._raw = False
        self._process: subprocess.Popen[bytes] | None = None
        self._outside: UsbPort | None = None
        self._inside = PtyPort()
        self._stdio = os.open(self._inside.path, os.O_RDWR | os.O_NOCTTY)
        if not flash.exists():
            flash.write_bytes(b"\xff" * _FLASH_BYTES)
        pipe = flash.with_suffix(".watchdog")
        os.mkfifo(pipe)
        self._watchdog = os.open(pipe, os.O_RDWR | os.O_NONBLOCK)
        self._bites_s: float | None = None
        self.watchdog_s = 0.0  # what it was last set to
        self._environment = {
            **os.environ,
            "MICROPYPATH": f".frozen:{_ON_BOARD}",
            "TANKGATE_FLASH": str(flash.resolve()),
            "TANKGATE_UNIQUE_ID": unique_id,
            "TANKGATE_WATCHDOG": str(pipe),
            **{f"TANKGATE_UART{uart}": path for uart, path in uarts.items()},
        }
        self._lock = threading.Lock()
        self._is_closed = False
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    @property
    def is_running(self) -> bool:
        """Whether it has power."""
        return self._process is not None

    def power_on(self) -> None:
        """Start from what lies in flash."""
        with self._lock:
            if self._process is None:
                self._outside = UsbPort()
                self.plug.symlink_to(self._outside.path)
                self._start(_POWER_ON)

    def power_off(self) -> None:
        """Pull the cord."""
        with self._lock:
            self._stop()
            self._unplug()

    def cut_at(self, change: int) -> None:
        """The power will fail at the change-th program or erase of a start of MicroPython, a soft one included."""
        self._cut_at = change

    def read(self, name: str) -> bytes | None:
        """A file of its flash, looked at from outside; None where there is none."""
        program = f"import start, sys\nif start.has({name!r}): sys.stdout.buffer.write(open({name!r}, 'rb').read())"
        program += "\nelse: sys.exit(1)"
        run = subprocess.run(
            [interpreter()[0], "-c", program], cwd=_ON_BOARD, env=self._environment, capture_output=True, check=False
        )
        return None if run.returncode else run.stdout

    def close(self) -> None:
        """Take the board away."""
        self._is_closed = True
        self._thread.join()
        self.power_off()
        self._inside.close()
        os.close(self._stdio)
        os.close(self._watchdog)

    def _start(self, cause: int) -> None:
        self._say(_ROM_SAYS[cause])
        if cause != _SOFT_RESET:
            self._bites_s = None
        self._raw = self._raw and cause == _SOFT_RESET
        attributes = termios.tcgetattr(self._stdio)
        attributes[3] = _PROGRAM_RUNS
        termios.tcsetattr(self._stdio, termios.TCSANOW, attributes)
        lines = ["import start", "if start.has('boot.py'): execfile('boot.py')"]
        if self._raw:
            self._ring = b"\x01"  # it stays in the raw REPL, and does not run main.py
        else:
            lines.append("if start.has('main.py'): execfile('main.py')")
        self._process = subprocess.Popen(
            [*DIES_WITH_ITS_STARTER, *interpreter(), "-i", "-c", "\n".join(lines)],
            cwd=_ON_BOARD,
            env={**self._environment, "TANKGATE_RESET_CAUSE": str(cause), "TANKGATE_CUT": self._cut()},
            stdin=self._stdio,
            stdout=self._stdio,
            stderr=self._stdio,
        )

    def _cut(self) -> str:
        return f"{self._cut_at}:{int(draw(self._seed, 'torn', self._cut_at) * 4096)}" if self._cut_at else ""

    def _stop(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait(_KILL_S)
            self._process = None
        self._ring = b""

    def _unplug(self) -> None:
        if self._outside is not None:
            self.plug.unlink()
            self._outside.close()
            self._outside = None

    def _run(self) -> None:
        descriptors = [self._inside.fileno(), self._watchdog]
        while not self._is_closed:
            with self._lock:
                self._step()
                outside = [self._outside.fileno()] if self._outside and self._outside.is_plugged else []
            select.select(descriptors + outside, [], [], _STEP_S)

    def _step(self) -> None:
        self._say(self._inside.read())
        if self._process is None or self._outside is None:
            return
        self._take(self._outside.read(), self._process)
        if (code := self._process.poll()) is not None:
            self._say(self._inside.read())
            self._ended(code)
        elif self._has_bitten():
            self._stop()
            self._start(_WATCHDOG)

    def _ended(self, code: int) -> None:
        self._process = None
        if code >= 0:  # the REPL was left
            self._start(_SOFT_RESET)
        elif code == -signal.SIGKILL:  # machine.reset()
            self._start(_HARD_RESET)
        elif code == -signal.SIGABRT:  # the power failed while the flash was written
            self._cut_at = 0
            self._unplug()
        else:
            raise AssertionError(f"MicroPython ended by signal {-code}:\n{self.said[-2000:]!r}")

    def _say(self, data: bytes) -> None:
        if not data:
            return
        self.said += data
        last = re.findall(rb"(raw REPL; CTRL-B)|Type \"help\(\)\"", self.said[-len(data) - 40 :])
        if last:
            self._raw = bool(last[-1])
        if self._outside is not None:
            self._outside.write(data)

    def _take(self, data: bytes, process: subprocess.Popen[bytes]) -> None:
        """Bytes from outside: into the ring, and on when somebody reads. Ctrl-C interrupts where it is allowed to."""
        program_runs = bool(termios.tcgetattr(self._stdio)[3] & _PROGRAM_RUNS)
        is_caught = program_runs and self._interrupts(process.pid)
        unread = len(self._ring) + self._unread()
        for byte in data:
            if byte == _INTERRUPT and is_caught:
                process.send_signal(signal.SIGINT)
            elif unread < RING_BYTES:
                self._ring += bytes([byte])
                unread += 1
            else:
                self.lost_bytes += 1
        if self._ring and not is_caught:
            self._inside.write(self._ring)
            self._ring = b""

    def _unread(self) -> int:
        count = array.array("i", [0])
        fcntl.ioctl(self._stdio, termios.FIONREAD, count)
        return count[0]

    @staticmethod
    def _interrupts(pid: int) -> bool:
        """Whether micropython.kbd_intr is on: then MicroPython catches SIGINT."""
        try:
            status = Path(f"/proc/{pid}/status").read_text()
        except (FileNotFoundError, ProcessLookupError):
            return False
        caught = re.search(r"SigCgt:\s*(\w+)", status)
        return caught is not None and bool(int(caught[1], 16) >> signal.SIGINT - 1 & 1)

    def _has_bitten(self) -> bool:
        now_s = time.monotonic()
        try:
            fed = os.read(self._watchdog, 4096)
        except BlockingIOError:
            return self._bites_s is not None and now_s > self._bites_s
        if timeouts := [line for line in fed.split(b"\n") if line]:
            self.watchdog_s = int(timeouts[-1]) / 1000
        self._bites_s = now_s + self.watchdog_s
        return False
