"""A real board on a serial port: who it is, and its reset or its supply. Shell.

What it polls and says goes over the same ports as a virtual board's; only how it is started and stopped is its own.
Must never look into the link's bytes but for the HELLO that names it. Not yet run on a real board.
"""

import select
import shlex
import subprocess
import time
from collections.abc import Callable
from gettext import gettext as _
from pathlib import Path

from hil_tests.bench.adapter_port import AdapterPort
from protocols.link_edge import EdgeEnd, Hello

HELLO_S = 15.0  # a board that was just reset boots, and says HELLO each second
_ASK_S = 1.0
_RESET_S = 0.2
_RETURN_S = 20.0
_COMMAND_S = 60.0


def reset_allowed() -> str:
    """What a reset may be."""
    return _("rts, usb or cmd:PROGRAM … ({action} in it becomes off, on or reset)")


class Means:
    """How a board is reset: `power_off` and `power_on` where that can be, and `reset`.

    ValueError where `text` is none of what is allowed.
    """

    def __init__(self, text: str, port: AdapterPort) -> None:
        self._port = port
        self._command = text.removeprefix("cmd:")
        if text == "rts":
            self._switch: Callable[[bool], None] = lambda on: port.set_rts(not on)
        elif text == "usb":
            self._switch = self._usb
        elif text.startswith("cmd:"):
            self._switch = lambda on: self._run("on" if on else "off")
        else:
            raise ValueError(f"reset = {text!r}: allowed is {reset_allowed()}")
        self.can_hold = text in ("rts", "usb") or "{action}" in text

    def power(self, on: bool) -> None:
        """Off until on again."""
        if not self.can_hold:
            raise ValueError("this rig's reset cannot keep a board off")
        self._switch(on)

    def reset(self) -> None:
        """Start the board anew."""
        if not self.can_hold:
            self._run("reset")
            return
        self._switch(False)
        time.sleep(_RESET_S)  # the pin's own time; there is nothing to observe
        self._switch(True)

    def _run(self, action: str) -> None:
        command = [part.replace("{action}", action) for part in shlex.split(self._command)]
        subprocess.run(command, check=True, timeout=_COMMAND_S)

    def _usb(self, on: bool) -> None:
        """Linux's switch of one socket of a hub (since 6.0); the port goes away, and comes back under its name."""
        if not on:
            self._socket = _usb_socket(self._port.path)
            self._port.release()
        self._socket.write_text("0" if on else "1")
        if on:
            end_s = time.monotonic() + _RETURN_S
            while not Path(self._port.path).exists() and time.monotonic() < end_s:
                time.sleep(0.05)
            self._port.open(_("the board whose USB socket was switched on again"))


class WiredBoard:
    """One real board; without `means` nothing here resets it. `console` stays empty: that text comes over the link."""

    def __init__(self, name: str, identity: str, directory: Path, port: AdapterPort, means: Means | None) -> None:
        self.name = name
        self.identity = identity
        self.console = directory / name / "console.log"
        self.console.parent.mkdir(parents=True, exist_ok=True)
        self.console.touch()
        self.resident_bytes = 0  # of this machine's memory
        self._port = port
        self._means = means
        self._is_off = False

    @property
    def is_running(self) -> bool:
        """Whether it was not switched off; a hung board shows itself by its silence."""
        return not self._is_off

    def power_on(self) -> None:
        """Switch it on; one that was on is reset, so that each test begins with a start."""
        if self._means is None:
            return
        if self._is_off:
            self._means.power(True)
            self._is_off = False
        else:
            self._means.reset()
        self._port.forget()

    def power_off(self) -> None:
        """Keep it off, where the rig can; where it cannot, it goes on until the next test resets it."""
        if self._means is not None and self._means.can_hold and not self._is_off:
            self._means.power(False)
            self._is_off = True

    def release(self) -> None:
        """Leave it running."""
        if self._is_off:
            self.power_on()


def ask_identity(port: AdapterPort) -> Hello:
    """Who is at the other end. OSError where nobody says HELLO in HELLO_S."""
    end = EdgeEnd()
    end_s = time.monotonic() + HELLO_S
    while time.monotonic() < end_s:
        port.write(end.who())
        readable, _writable, _broken = select.select([port], [], [], _ASK_S)
        for event in end.feed(port.read()) if readable else ():
            if isinstance(event, Hello):
                return event
    text = _("{path}: no board says HELLO in {s:.0f} s. Is it flashed and powered, and its link wired to this port?")
    raise OSError(text.format(path=port.path, s=HELLO_S))


def _usb_socket(path: str) -> Path:
    """The file that switches the USB socket of a port; OSError where there is none."""
    device = Path("/sys/class/tty", Path(path).resolve().name, "device").resolve()
    for parent in device.parents:
        if (parent / "idVendor").exists():
            socket = (parent / "port").resolve() / "disable"
            if socket.exists():
                return socket
    text = _("{path}: reset = usb, but the USB socket of this port cannot be switched. Use rts, or cmd:…")
    raise OSError(text.format(path=path))
