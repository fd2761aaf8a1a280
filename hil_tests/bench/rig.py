"""What the bench stands on: this machine's processes and pseudo-terminals, or real boards and adapters. Shell.

Owns the difference between the two, so that nothing else knows it: which ports there are, what a board is, which
features a rig has. The wiring file says what a rig of real boards has; nothing is guessed, and what a rig lacks is
named (FEATURES). Must never test anything.
"""

import hashlib
import select
import time
import tomllib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from gettext import gettext as _
from pathlib import Path
from typing import Any, Protocol

from hil_tests.bench.adapter_port import AdapterPort
from hil_tests.bench.board import Board, VirtualBoard, firmware_sha256, interpreter_name
from hil_tests.bench.bus import Bus
from hil_tests.bench.line import Exchange, Line
from hil_tests.bench.pty_port import Port, PtyPort
from hil_tests.bench.wired_board import Means, WiredBoard, ask_identity, reset_allowed
from protocols import link, model, readplan_edge
from protocols.link_edge import Answer, EdgeEnd

LINK = model.Line(460800, 8, "N", 1)
PLAN_S = 10.0


def N_(sentence: str) -> str:
    """A sentence that is translated where it is shown."""
    return sentence


FEATURES = {
    # what a rig has by itself
    "simulation": N_("the bench's own processes and terminals"),
    "chip": N_("a real chip, with its own speed and its own UARTs"),
    "reset": N_("a means to start the board anew"),
    "power_off": N_("a means to keep the board off for a while"),
    "unplug": N_("a USB socket that can be switched off"),
    "two_buses": N_("a board with two buses"),
    "two_boards": N_("two boards, one of them with two buses"),
    # what its wiring file says
    "de_line": N_("an RS-485 driver on the board, whose direction the board controls"),
    "parity": N_("an adapter that reports parity errors"),
    "baud": N_("an adapter that works at the baud rate that it was given, and at no other"),
    "line_break": N_("an adapter that can hold the line (break)"),
    "power_cut": N_("a supply that can really be cut, not only a reset pin"),
}
SIMULATED = frozenset({"simulation", "reset", "power_off", "two_buses", "two_boards"})
CLAIMED = frozenset({"de_line", "parity", "baud", "line_break", "power_cut"})


class Rig(Protocol):
    """The seam. `features` are names of FEATURES; `told` describes it for a report, once it is open.

    `on_bus` is called with every bus that is laid, and the UTC, in ms, at which that bus's clock was 0. `patience`: how
    many times longer than usual a site on it may take.
    """

    features: frozenset[str]
    patience: int
    on_bus: Callable[[Bus, int], None]

    def open(self) -> None:
        """Take what it needs; OSError where that is absent, in use or silent."""

    def close(self) -> None:
        """Give it back."""

    @property
    def told(self) -> Mapping[str, str]:
        """dut, board, firmware_sha256 and the like."""

    def identity(self, board: str, proposed: str) -> str:
        """The hardware id of the board that stands for `board` of a site."""

    def link_port(self, board: str) -> Port:
        """The port towards a board."""

    def bus_port(self, board: str, uart: int, line: model.Line) -> Port:
        """The port at the far end of a board's bus."""

    def board(
        self,
        name: str,
        identity: str,
        directory: Path,
        uarts: Mapping[int, str],
        link: Port,
        pins: Mapping[int, str] | None = None,
    ) -> Board:
        """The board, with no plan in its flash, not yet started. A virtual one opens the paths `uarts` and `pins`."""


class SimulatedRig:
    """Virtual boards, and lines that are pseudo-terminals. `prefix`: what slows the boards' interpreters down."""

    def __init__(self, prefix: Sequence[str] = ()) -> None:
        self.features = SIMULATED
        self.patience = 10 if prefix else 1
        self._prefix = prefix
        self.on_bus: Callable[[Bus, int], None] = _nobody_listens

    def open(self) -> None:
        """Nothing is needed."""

    def close(self) -> None:
        """Nothing is kept."""

    @property
    def told(self) -> Mapping[str, str]:
        """Which interpreter runs which firmware."""
        return {"dut": "sim", "board": f"virtual, {interpreter_name()}", "firmware_sha256": firmware_sha256()}

    def identity(self, board: str, proposed: str) -> str:
        """A virtual board is whoever it is told to be."""
        return proposed

    def link_port(self, board: str) -> Port:
        """A new pseudo-terminal."""
        return PtyPort()

    def bus_port(self, board: str, uart: int, line: model.Line) -> Port:
        """A new pseudo-terminal."""
        return PtyPort()

    def board(
        self,
        name: str,
        identity: str,
        directory: Path,
        uarts: Mapping[int, str],
        link: Port,
        pins: Mapping[int, str] | None = None,
    ) -> Board:
        """A virtual one."""
        return VirtualBoard(name, identity, directory, uarts, link.path, self._prefix, pins)


@dataclass(frozen=True, slots=True)
class Wires:
    """Where one board hangs: the port towards it, how it is reset (or ""), the adapter on each of its UARTs."""

    port: str
    reset: str
    buses: Mapping[int, str]


class WiredRig:
    """Real boards, on this machine's serial ports."""

    def __init__(self, boards: Mapping[str, Wires], claimed: frozenset[str]) -> None:
        self.wires = boards
        self.features = claimed | _derived(boards)
        self.patience = 1
        self.on_bus: Callable[[Bus, int], None] = _nobody_listens
        self._ports: dict[str, AdapterPort] = {}
        self._boards: dict[str, WiredBoard] = {}
        self._told: dict[str, str] = {"dut": "board"}
        self._identities: dict[str, str] = {}

    def open(self) -> None:
        """Lock every port and ask every board who it is."""
        self._told["firmware_sha256"] = firmware_sha256()
        adapter = _("the RS-485 adapter on UART{uart} of board {name}")
        for name, wires in self.wires.items():
            port = self._port(wires.port, _("board {name}").format(name=name))
            port.set_line(LINK)
            for uart, path in wires.buses.items():
                self._port(path, adapter.format(uart=uart, name=name))
            hello = ask_identity(port)
            self._identities[name] = hello.identity
            self._told[f"board_{name}"] = hello.identity
            self._told[f"firmware_{name}"] = hello.firmware
        self._told["board"] = ", ".join(self._identities.values())
        if "chip" not in self.features:
            self._told["dut"] = "pseudo-terminals"

    def close(self) -> None:
        """Leave the boards running, and the ports to others."""
        for board in self._boards.values():
            board.release()
        for port in self._ports.values():
            port.release()

    @property
    def told(self) -> Mapping[str, str]:
        """Who the boards are. A board says its firmware's version; the hash is of the files here."""
        return self._told

    def identity(self, board: str, proposed: str) -> str:
        """The one that the board has."""
        return self._identities[board]

    def link_port(self, board: str) -> Port:
        """The port at which it hangs."""
        port = self._ports[self.wires[board].port]
        port.set_line(LINK)
        return port

    def bus_port(self, board: str, uart: int, line: model.Line) -> Port:
        """The adapter, at this line's settings."""
        port = self._ports[self.wires[board].buses[uart]]
        port.set_line(line)
        return port

    def board(
        self,
        name: str,
        identity: str,
        directory: Path,
        uarts: Mapping[int, str],
        link: Port,
        pins: Mapping[int, str] | None = None,
    ) -> Board:
        """The board, as if its flash were new: it is given a plan without reads. Nothing is wired to its pins."""
        port = self._ports[self.wires[name].port]
        means = Means(self.wires[name].reset, port) if self.wires[name].reset else None
        self._boards[name] = WiredBoard(name, identity, directory, port, means)
        self._boards[name].power_on()
        forget_plan(port)
        return self._boards[name]

    def _port(self, path: str, what: str) -> AdapterPort:
        self._ports[path] = AdapterPort(path, what)
        return self._ports[path]


def lay_bus(
    rig: Rig,
    board: str,
    uart: int,
    line: Line,
    tap: Callable[[Exchange], None],
    zero_utc_ms: int | None = None,
    plug: Path | None = None,
) -> Bus:
    """A line with its units on a board's bus. Its clock is time.monotonic(), or was 0 at `zero_utc_ms`.

    With a `plug` a virtual board opens that path, and the bus can be unplugged.
    """
    line.is_wire = "simulation" not in rig.features
    bus = Bus(line, tap, plug, rig.bus_port(board, uart, line.settings))
    rig.on_bus(bus, time.time_ns() // 1_000_000 - _now_ms() if zero_utc_ms is None else zero_utc_ms)
    return bus


def _nobody_listens(_bus: Bus, _zero_utc_ms: int) -> None:
    """Nothing is recorded."""


def _derived(boards: Mapping[str, Wires]) -> frozenset[str]:
    resets = [wires.reset for wires in boards.values()]
    ports = [path for wires in boards.values() for path in (wires.port, *wires.buses.values())]
    has = {
        # Behind a pseudo-terminal is a program: it is never taken for a real board.
        "chip": not any(Path(path).resolve().is_relative_to("/dev/pts") for path in ports),
        "reset": all(resets),
        "power_off": all(reset in ("rts", "usb") or "{action}" in reset for reset in resets),
        "unplug": all(reset == "usb" for reset in resets),
        "two_buses": any(wires.buses.keys() >= {1, 2} for wires in boards.values()),
        "two_boards": boards.keys() >= {"cab1", "cab2"} and boards["cab1"].buses.keys() >= {1, 2},
    }
    return frozenset(name for name, is_so in has.items() if is_so)


def wired(port: str | None, bus_ports: list[str], reset: str | None, wiring: Path | None) -> WiredRig:
    """The rig of these options; ValueError saying what is missing or wrong in them or in the wiring file."""
    if wiring is not None:
        if port or bus_ports or reset:
            raise ValueError(_("--wiring says everything: leave out --port, --bus-port and --reset"))
        return _read(wiring)
    if not port or not 1 <= len(bus_ports) <= 2:
        raise ValueError(_("--dut=board: --port and one or two --bus-port (UART1, then UART2) are needed, or --wiring"))
    return WiredRig({"cab1": _wires("--reset", port, reset or "", dict(enumerate(bus_ports, 1)))}, frozenset())


def _read(wiring: Path) -> WiredRig:
    try:
        file = tomllib.loads(wiring.read_text(encoding="utf-8"))
    except OSError as fault:
        text = _("{wiring}: cannot be read: {reason}. hil_tests/README.md shows what stands in a wiring file.")
        raise ValueError(text.format(wiring=wiring, reason=fault.strerror)) from None
    except (UnicodeDecodeError, tomllib.TOMLDecodeError) as fault:
        raise ValueError(f"{wiring}: {fault}") from None
    features = file.pop("features", [])
    if not isinstance(features, list) or any(str(each) not in CLAIMED for each in features):
        text = _("{wiring}: features = {found}: allowed is a list of {allowed}")
        raise ValueError(text.format(wiring=wiring, found=features, allowed=", ".join(sorted(CLAIMED))))
    boards = file.pop("boards", {})
    if file or not _is_table_of_tables(boards) or "cab1" not in boards or boards.keys() - {"cab1", "cab2"}:
        text = _("{wiring}: allowed are features, [boards.cab1], and [boards.cab2] where there are two")
        raise ValueError(text.format(wiring=wiring))
    for name, row in boards.items():
        if not {"port", "uart1"} <= row.keys() <= {"port", "reset", "uart1", "uart2"}:
            text = _("{wiring}: [boards.{name}]: port and uart1 are needed, reset and uart2 are allowed")
            raise ValueError(text.format(wiring=wiring, name=name))
        for key, value in row.items():
            if not isinstance(value, str):
                text = _('{wiring}: [boards.{name}] {key} = {value}: allowed is a text, like "/dev/ttyUSB0" or "rts"')
                raise ValueError(text.format(wiring=wiring, name=name, key=key, value=value))
    return WiredRig(
        {
            name: _wires(
                f"{wiring}: [boards.{name}]",
                row["port"],
                row.get("reset", ""),
                {uart: row[f"uart{uart}"] for uart in (1, 2) if f"uart{uart}" in row},
            )
            for name, row in boards.items()
        },
        frozenset(features),
    )


def _is_table_of_tables(value: Any) -> bool:
    return isinstance(value, dict) and all(isinstance(row, dict) for row in value.values())


def _wires(where: str, port: str, reset: str, buses: Mapping[int, str]) -> Wires:
    if reset not in ("", "rts", "usb") and not reset.startswith("cmd:"):
        text = _("{where}: reset = {reset}: allowed is {allowed}")
        raise ValueError(text.format(where=where, reset=reset, allowed=reset_allowed()))
    return Wires(port, reset, buses)


def forget_plan(port: AdapterPort) -> None:
    """Give a board a plan without reads, as if its flash were new. OSError where it does not take it in PLAN_S."""
    plan = readplan_edge.encode([], [], [], bytes(4))
    hello = ask_identity(port)
    end = EdgeEnd()
    end.adopt(hello.boot, hello.next)
    begin = len(plan).to_bytes(2, "little") + hashlib.sha256(plan).digest()
    end_s = time.monotonic() + PLAN_S
    for operation, arguments in ((link.PLAN_BEGIN, begin), (link.PLAN_CHUNK, b"\0\0" + plan), (link.PLAN_COMMIT, b"")):
        port.write(end.command(operation, arguments, _now_ms()))
        result = None
        while result is None:
            if time.monotonic() > end_s:
                text = _("{path}: the board takes no read plan in {s:.0f} s. Reset it, and look at its link's wiring.")
                raise OSError(text.format(path=port.path, s=PLAN_S))
            readable, _writable, _broken = select.select([port], [], [], 0.1)
            for event in end.feed(port.read()) if readable else ():
                if isinstance(event, Answer):
                    result = event.result
            port.write(end.repeat(_now_ms()))
        if result != link.DONE:
            text = _("{path}: the board refuses an empty read plan ({result}). Flash the firmware of this version.")
            raise OSError(text.format(path=port.path, result=result))


def _now_ms() -> int:
    return time.monotonic_ns() // 1_000_000
