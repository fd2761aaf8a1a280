"""One serial port, towards a board or beside a bus: open, read, write, reopen. Shell.

Owns the descriptor. A port may vanish and return at any time, under the same path: `lost` says so and `open` tries
again. Opening must not reset the board, so DTR and RTS stay low and hang-up on close is off.
"""

import errno
import os
import termios
from gettext import gettext as _

import serial
import serial.tools.list_ports

from edge.fault_words import reason
from protocols.model import Line

BAUD = 460800
_LINK = Line(BAUD, 8, "N", 1)


class SerialPort:
    """One port by its path; `fileno` is None while it is lost. `marks_errors`: as termios' PARMRK has it."""

    def __init__(self, path: str, line: Line = _LINK, marks_errors: bool = False) -> None:
        self.path = path
        self.fault = ""  # why it could not be opened, or was lost
        self.is_busy = False  # somebody else has it
        self._line = line
        self._marks_errors = marks_errors
        self._port: serial.Serial | None = None

    @property
    def fileno(self) -> int | None:
        """The descriptor to watch, or None."""
        return None if self._port is None else int(self._port.fileno())

    def open(self) -> bool:
        """Open it, for this process alone. False with `fault` set when that fails."""
        line = self._line
        port = serial.Serial(baudrate=line.baud, timeout=0, write_timeout=0, exclusive=True)
        port.bytesize, port.parity, port.stopbits = line.data_bits, line.parity, line.stop_bits
        port.port = self.path
        port.dtr = False
        port.rts = False
        try:
            port.open()
            settings = termios.tcgetattr(port.fileno())
            settings[2] &= ~termios.HUPCL
            if self._marks_errors:
                settings[0] = settings[0] & ~(termios.IGNPAR | termios.IGNBRK) | termios.INPCK | termios.PARMRK
            termios.tcsetattr(port.fileno(), termios.TCSANOW, settings)
        except (OSError, termios.error) as fault:
            self.fault = reason(fault)
            self.is_busy = fault.args[:1] in ((errno.EAGAIN,), (errno.EBUSY,))
            port.close()
            return False
        self._port = port
        self.fault = ""
        return True

    def read(self) -> bytes:
        """What has come in; empty when nothing did, or when the port is lost (`fileno` is None then)."""
        if self._port is None:
            return b""
        try:
            data = os.read(self._port.fileno(), 4096)
        except BlockingIOError:
            return b""
        except OSError as fault:
            self._lose(reason(fault))
            return b""
        if not data:
            self._lose(_("its other end was taken away"))
        return data

    def write(self, data: bytes) -> None:
        """Send; what the line does not take at once is lost, and the link sends it again."""
        if self._port is None:
            return
        try:
            os.write(self._port.fileno(), data)
        except BlockingIOError:
            return
        except OSError as fault:
            self._lose(reason(fault))

    def close(self) -> None:
        """Give the port back."""
        if self._port is not None:
            self._port.close()
            self._port = None

    def _lose(self, fault: str) -> None:
        self.fault = fault
        self.close()


def candidates() -> list[str]:
    """Paths of all serial ports of this machine, in a stable order."""
    return sorted(port.device for port in serial.tools.list_ports.comports())
