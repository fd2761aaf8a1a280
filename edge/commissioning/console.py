"""A board's console and its link, for as long as somebody stands beside it: knock, listen. Shell.

Owns the ports meanwhile. Must never write into a link whose board is not known.
"""

import time
from collections.abc import Callable, Iterable, Iterator
from gettext import gettext as _
from select import select

from edge.commissioning.outcome import BUSY, UNREACHABLE, Trouble
from edge.serial_port import SerialPort
from protocols.link_edge import EdgeEnd, Hello
from protocols.model import Line

CONSOLE_LINE = Line(115200, 8, "N", 1)
_KNOCK_S = 0.5  # the firmware takes a knock for one after 0.2 s of silence
_KNOCKS_S = 10.0
# Ctrl-C ends a program, Ctrl-B a raw REPL that was left behind.
_KNOCKS = (b"\r\x03", b"\r\x03", b"\r\x02")
_PROMPT = b">>> "
_OPEN_AGAIN_S = 0.5
_REST_MAX_BYTES = 4096


def cannot_open(port: SerialPort) -> Trouble:
    """What hindered its opening."""
    text = _("it cannot be opened: {reason}. Those that are here: `tankgate board list`")
    return Trouble("E-BRD-025", BUSY if port.is_busy else UNREACHABLE, text.format(reason=port.fault))


def knock(path: str) -> None:
    """End whatever runs on the board, so that its REPL waits. Trouble where no prompt comes."""
    port = SerialPort(path, CONSOLE_LINE)
    if not port.open():
        raise cannot_open(port)
    said = b""
    knocks = 0
    start_s = time.monotonic()
    try:
        while not said.endswith(_PROMPT):
            now_s = time.monotonic()
            if now_s - start_s > _KNOCKS_S or port.fileno is None:
                text = _(
                    "no MicroPython answers here. Is this the board's console (its USB socket), and is MicroPython on "
                    "it? If not: `tankgate board flash`"
                )
                raise Trouble("E-BRD-026", UNREACHABLE, text)
            if now_s - start_s >= knocks * _KNOCK_S:
                port.write(_KNOCKS[knocks % len(_KNOCKS)])
                knocks += 1
            if select([port.fileno], [], [], 0.05)[0]:
                said = (said + port.read())[-256:]
    finally:
        port.close()


class Ear:
    """Listens for HELLO on several ports; one that is not there, or not free, is tried again and again."""

    def __init__(self, paths: Iterable[str]) -> None:
        self._ends = {SerialPort(path): EdgeEnd() for path in paths}

    def hellos(self, until: Callable[[], bool], patience_s: float) -> Iterator[tuple[str, Hello]]:
        """Each with its port, as they come; until that is so or time is up."""
        end_s = time.monotonic() + patience_s
        try_s = 0.0
        try:
            while not until() and (now_s := time.monotonic()) < end_s:
                if now_s >= try_s:
                    try_s = now_s + _OPEN_AGAIN_S
                    for port in self._ends:
                        if port.fileno is None:
                            port.open()
                watched = {port.fileno: port for port in self._ends if port.fileno is not None}
                for descriptor in select(list(watched), [], [], 0.1)[0]:
                    port = watched[descriptor]
                    for event in self._ends[port].feed(port.read()):
                        if isinstance(event, Hello):
                            yield port.path, event
        finally:
            for port in self._ends:
                port.close()


class ConsoleText:
    """The lines of a console, without the frames that a link may have between them."""

    def __init__(self) -> None:
        self._rest = b""

    def feed(self, data: bytes) -> list[str]:
        """Whole lines. A frame's second byte is its kind, which no text has: a piece with one is no text."""
        *pieces, rest = (self._rest + data).split(b"\0")
        lines = [line for piece in pieces if _is_text(piece) for line in piece.splitlines()]
        while (end := rest.find(b"\n")) >= 0 and _is_text(rest[:end]):
            lines.append(rest[:end])
            rest = rest[end + 1 :]
        self._rest = rest[-_REST_MAX_BYTES:]
        return [line.decode(errors="replace").rstrip("\r") for line in lines]


def _is_text(piece: bytes) -> bool:
    return all(byte >= 32 or byte in b"\r\n\t\x1b" for byte in piece)
