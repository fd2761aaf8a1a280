"""One real serial port: a USB-RS485 adapter on a board's bus, or the port towards the board itself. Shell.

The same names as a pseudo-terminal's port. It is opened once, for this process alone, and kept until the rig is put
away: closing drops DTR, and DTR resets some boards. Must never interpret a byte. Not yet run on a real adapter.
"""

import os
import termios
from gettext import gettext as _
from pathlib import Path

import serial

from protocols import model


class AdapterPort:
    """The port at `path`, open. OSError where it is absent, BlockingIOError where it is in use, saying what to do.

    `path` should be a name that stays, under /dev/serial/by-id or by-path. `rts` is that pin, for resetting a board.
    """

    def __init__(self, path: str, what: str) -> None:
        self.path = path
        self.lost_bytes = 0
        self._serial = serial.Serial(timeout=0, write_timeout=0, exclusive=True)
        self._serial.port = path
        self._serial.dtr = self._serial.rts = False
        self.open(what)

    def open(self, what: str) -> None:
        """Open it, or again after it was gone; `what` it is, for the error."""
        if not Path(self.path).exists():
            text = _("{path}: there is no such port. Plug in: {what}. Ports here: {ports}")
            raise FileNotFoundError(text.format(path=self.path, what=what, ports=_present()))
        try:
            self._serial.open()
        except serial.SerialException as fault:
            if holder := _holder(self.path):
                text = _("{path} ({what}): in use by process {holder}. Stop it, or choose another port.")
                raise BlockingIOError(text.format(path=self.path, what=what, holder=holder)) from None
            reason = os.strerror(fault.errno) if fault.errno else str(fault)
            text = _("{path} ({what}): it cannot be opened: {fault}. Is it a serial port, and may this user open it?")
            raise OSError(text.format(path=self.path, what=what, fault=reason)) from None

    def set_line(self, line: model.Line) -> None:
        """Speak like this from now on; what came before is forgotten. OSError where the driver cannot."""
        try:
            self._serial.baudrate = line.baud
            self._serial.bytesize = line.data_bits
            self._serial.stopbits = line.stop_bits
            self._serial.parity = line.parity
        except termios.error:
            self._serial.parity = "N"  # as a pseudo-terminal has it; what was refused would be tried again and again
            text = _("{path}: its driver does not take {line}. Use another adapter.")
            raise OSError(text.format(path=self.path, line=line)) from None
        self.forget()

    def forget(self) -> None:
        """What has come and was not read."""
        self._serial.reset_input_buffer()

    def mark_errors(self, marked: bool) -> None:
        """With `marked` a byte with a wrong parity or frame is read as FF 00 and itself (termios PARMRK)."""
        settings = termios.tcgetattr(self.fileno())
        flags = termios.INPCK | termios.PARMRK
        settings[0] = settings[0] | flags if marked else settings[0] & ~flags
        termios.tcsetattr(self.fileno(), termios.TCSANOW, settings)

    def set_rts(self, asserted: bool) -> None:
        """On the usual development boards RTS alone holds the chip in reset."""
        self._serial.rts = asserted

    def send_break(self, seconds: float) -> None:
        """Hold the line for so long."""
        self._serial.send_break(seconds)

    def fileno(self) -> int:
        """What to select on."""
        return int(self._serial.fileno())

    def read(self) -> bytes:
        """What has come, at most 4096 bytes; empty if nothing has."""
        try:
            return os.read(self.fileno(), 4096)
        except BlockingIOError:
            return b""

    def write(self, data: bytes) -> None:
        """Send; what the driver does not take is lost and counted."""
        try:
            written = os.write(self.fileno(), data)
        except BlockingIOError:
            written = 0
        self.lost_bytes += len(data) - written

    def close(self) -> None:
        """A test is done with it; it stays open for the next."""

    def release(self) -> None:
        """Give it back to the machine."""
        self._serial.close()


def _present() -> str:
    """The names that stay, of what is plugged in."""
    return ", ".join(sorted(str(path) for path in Path("/dev/serial/by-id").glob("*"))) or "-"


def _holder(path: str) -> str:
    """Who has locked a port: its process and program; empty where nobody is known to have."""
    found = Path(path).stat()
    inode = f"{os.major(found.st_dev):02x}:{os.minor(found.st_dev):02x}:{found.st_ino}"
    for lock in Path("/proc/locks").read_text().splitlines():
        fields = lock.split()
        if inode in fields and fields[1] == "FLOCK":
            command = Path("/proc", fields[4], "cmdline").read_bytes().replace(b"\0", b" ")
            return f"{fields[4]} ({command.decode(errors='replace').strip()})"
    return ""
