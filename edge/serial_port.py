"""One serial port towards a board: open, read, write, reopen. Shell.

Owns the descriptor. A port may vanish and return at any time, under the same path: `lost` says so and `open` tries
again. Opening must not reset the board, so DTR and RTS stay low and hang-up on close is off.
"""

import os
import termios

import serial
import serial.tools.list_ports

BAUD = 460800


class SerialPort:
    """One port by its path; `fileno` is None while it is lost."""

    def __init__(self, path: str, baud: int = BAUD) -> None:
        self.path = path
        self._baud = baud
        self.fault = ""  # why it could not be opened, in the system's words
        self._port: serial.Serial | None = None

    @property
    def fileno(self) -> int | None:
        """The descriptor to watch, or None."""
        return None if self._port is None else int(self._port.fileno())

    def open(self) -> bool:
        """Open it, for this process alone. False with `fault` set when that fails."""
        port = serial.Serial(baudrate=self._baud, timeout=0, write_timeout=0, exclusive=True)
        port.port = self.path
        port.dtr = False
        port.rts = False
        try:
            port.open()
            settings = termios.tcgetattr(port.fileno())
            settings[2] &= ~termios.HUPCL
            termios.tcsetattr(port.fileno(), termios.TCSANOW, settings)
        except (OSError, termios.error) as fault:
            self.fault = str(fault)
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
            self._lose(str(fault))
            return b""
        if not data:
            self._lose("end of file")
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
            self._lose(str(fault))

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
