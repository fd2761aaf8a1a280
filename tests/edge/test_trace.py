"""`tankgate trace` as a person meets it: recording a line, reading a capture, counting it, making one of others."""

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
import tty
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import serial
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st

from edge import hex_log, logic
from edge.cli.trace import command
from edge.frame_words import explain, sentence
from edge.line_figures import figures
from edge.line_recorder import Marks
from protocols import modbus_edge, trace
from protocols.model import Line
from protocols.trace import RECEIVED, SENT, Frame, Port

ROOT = Path(__file__).parents[2]
TRACES = ROOT / "hil_tests" / "traces"
IO_MODULE = TRACES / "brainchild-io-16do.pcapng"
ENVIRONMENT = {"PATH": os.environ["PATH"], "LC_ALL": "C.UTF-8", "TZ": "UTC"}
COMMAND = [sys.executable, "-m", "edge", "trace"]
DEADLINE_S = 20.0
LINE = Line(9600, 8, "N", 1)
START_US = 1_764_104_400_000_000  # 2025-11-25 21:00 UTC
REQUEST = modbus_edge.read_request(7, 3, 100, 2)
REPLY = modbus_edge.read_reply(7, 3, b"\x41\x20\x00\x07")


class Run(NamedTuple):
    returncode: int
    stdout: str
    stderr: str


def run(*arguments: object) -> Run:
    """`tankgate trace` in this process: a new one takes longer to start than all it does."""
    result = CliRunner().invoke(command, [str(argument) for argument in arguments])
    assert result.exception is None or isinstance(result.exception, SystemExit)
    return Run(result.exit_code, result.stdout, result.stderr)


@pytest.fixture(autouse=True)
def in_utc(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    with monkeypatch.context() as environment:
        environment.setenv("TZ", "UTC")
        time.tzset()
        yield
    time.tzset()


def json_lines(text: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in text.splitlines()]


def conversation(*spoken: tuple[int, bytes] | tuple[int, bytes, str], step_us: int = 20_000) -> list[Frame]:
    """Frames one after the other, each beginning 20 ms after the one before."""
    return [
        Frame(0, event, at, at + (0 if event in trace.ERRORS else round(len(data) * LINE.char_us)), data, *comment)
        for at, (event, data, *comment) in zip(range(START_US, START_US * 2, step_us), spoken, strict=False)
    ]


@pytest.fixture
def capture(tmp_path: Path) -> Callable[..., Path]:
    def make(*spoken: Any, ports: tuple[Port, ...] = (Port("gas-a", LINE),), **step: int) -> Path:
        file = tmp_path / "made.pcapng"
        file.write_bytes(trace.write(ports, conversation(*spoken, **step)))
        return file

    return make


# --- show ---------------------------------------------------------------------------------------------------


def test_each_frame_is_a_line_in_words(capture: Callable[..., Path]) -> None:
    file = capture(
        (SENT, REQUEST),
        (RECEIVED, REPLY),
        (SENT, modbus_edge.write_many_request(7, 16, 5, [1, 500])),
        (RECEIVED, modbus_edge.exception_reply(7, 16, 2)),
        (SENT, REQUEST),
        (RECEIVED, REPLY[:-2] + b"\x00\x00", f"{trace.INJECTED}noise"),
        (RECEIVED, REPLY[:5]),
        (trace.PARITY, b"\x41"),
        (SENT, modbus_edge.read_request(8, 1, 3, 10)),
        (RECEIVED, modbus_edge.read_reply(8, 1, b"\x05\x02")),
    )
    shown = run("show", file)
    assert (shown.returncode, shown.stderr) == (0, "")
    assert shown.stdout.splitlines() == [
        "gas-a 9600 8N1",
        "11-25 21:00:00.000000              →   7 read holding registers 100-101",
        "11-25 21:00:00.020000     +11.7 ms ←   7 read holding registers: 100=16672 101=7",
        "11-25 21:00:00.040000     +10.6 ms →   7 write registers: 5=1 6=500",
        "11-25 21:00:00.060000      +6.5 ms ←   7 write registers: REFUSED, exception 2: it has no such address",
        "11-25 21:00:00.080000     +14.8 ms →   7 read holding registers 100-101",
        "11-25 21:00:00.100000     +11.7 ms ←   7 CRC BAD: it ends with 00 00, right would be "
        f"{REPLY[-2:].hex(' ')}: {REPLY[:-2].hex(' ')} 00 00  (injected: noise)",
        f"11-25 21:00:00.120000     +10.6 ms ←   7 CUT OFF after 5 bytes: {REPLY[:5].hex(' ')}",
        "11-25 21:00:00.140000              !     PARITY ERROR at byte 41",
        "11-25 21:00:00.160000     +34.8 ms →   8 read coils 3-12",
        "11-25 21:00:00.180000     +11.7 ms ←   8 read coils: 3=1 4=0 5=1 6=0 7=0 8=0 9=0 10=0 11=0 12=1",
    ]


def test_a_program_gets_the_same_as_json() -> None:
    rows = json_lines(run("show", IO_MODULE, "--json").stdout)
    assert len(rows) == 30
    assert rows[5] | {"gap_us": None} == {
        "number": 6,
        "port": "ttyUSB0",
        "first_us": 65128,
        "last_us": 65128 + 4010,
        "gap_us": None,
        "direction": "received",
        "verdict": "ok",
        "unit_id": 1,
        "function_code": 3,
        "address": 99,
        "count": 1,
        "values": [513],
        "exception_code": None,
        "data": "0103020201 78e4".replace(" ", ""),
        "comment": "",
    }


def test_a_capture_that_was_cut_off_is_shown_as_far_as_it_goes(tmp_path: Path) -> None:
    file = tmp_path / "torn.pcapng"
    file.write_bytes(IO_MODULE.read_bytes()[:-10])
    shown = run("show", file)
    assert shown.returncode == 0
    assert len(shown.stdout.splitlines()) == 1 + 29
    assert "torn.pcapng: cut off: 54 bytes from offset 2000" in shown.stderr


@pytest.mark.parametrize("command", ["show", "stats"])
def test_what_is_no_capture_is_refused_by_name(command: str, tmp_path: Path) -> None:
    foreign = tmp_path / "foreign.pcapng"
    foreign.write_bytes(b"\xd4\xc3\xb2\xa1" + bytes(20))
    for file, reason in ((foreign, "expected is a pcapng file"), (tmp_path / "missing", "there is no such file")):
        refused = run(command, file)
        assert (refused.returncode, refused.stdout) == (2, "")
        assert refused.stderr.startswith(f"{file}: ") and reason in refused.stderr


# --- stats --------------------------------------------------------------------------------------------------


def test_units_and_the_line_are_counted(capture: Callable[..., Path]) -> None:
    file = capture(
        (SENT, REQUEST),
        (RECEIVED, REPLY),
        (SENT, REQUEST),
        (SENT, REQUEST),
        (RECEIVED, REPLY[:-1] + b"\x00"),
        (SENT, REQUEST),
        (RECEIVED, modbus_edge.exception_reply(7, 3, 6)),
        (SENT, modbus_edge.read_request(8, 3, 0, 1)),
        (RECEIVED, modbus_edge.read_reply(9, 3, b"\x00\x01")),
        (SENT, REQUEST[:-1] + b"\x00"),
        (trace.FRAMING, b"\xfe"),
        (SENT, modbus_edge.write_request(0, 6, 0, 1)),
        (SENT, REQUEST),
    )
    counted = run("stats", file, "--json")
    assert counted.returncode == 1
    [port] = json.loads(counted.stdout)["ports"]
    assert port["damaged_requests"] == 1
    assert port["errors"] == {"framing": 1}
    assert (port["shortest_silence_us"], port["needed_silence_us"]) == (20_000 - 9375, 3646)
    assert port["too_short_silences"] == 0
    seven, eight = port["units"]
    assert seven["unit_id"] == 7  # its last request may still be answered after the capture's end
    assert {what: seven[what] for what in ("requests", "ok", "timeout", "crc", "exception", "exceptions")} == {
        "requests": 4,
        "ok": 1,
        "timeout": 1,
        "crc": 1,
        "exception": 1,
        "exceptions": {"6": 1},
    }
    assert seven["reply_min_ms"] == seven["reply_max_ms"] == 11.667
    assert (eight["requests"], eight["foreign"], eight["reply_p50_ms"]) == (1, 1, None)


def test_a_good_line_is_in_order_and_too_short_silences_are_told(capture: Callable[..., Path]) -> None:
    assert run("stats", IO_MODULE).returncode == 0
    file = capture((SENT, REQUEST), (RECEIVED, REPLY), (SENT, REQUEST), (RECEIVED, REPLY), step_us=12_000)
    counted = run("stats", file)
    assert counted.returncode == 0
    assert [line.split() for line in counted.stdout.splitlines() if line.startswith("gas-a ")][0] == [
        "gas-a", "9600", "8N1", "4", "78.1", "%", "0", "0", "2.62", "3.65", "1",
    ]  # fmt: skip


def test_where_nothing_was_said_nothing_is_in_order(tmp_path: Path, capture: Callable[..., Path]) -> None:
    for file in (capture(), Path("/dev/null")):
        counted = run("stats", file)
        assert (counted.returncode, counted.stdout) == (1, "")
        assert counted.stderr.startswith(f"{file}: no frames.")
    assert json.loads(run("stats", "/dev/null", "--json").stdout) == {"ports": []}


def test_a_file_that_the_system_refuses_is_named_with_why_and_what_to_do(tmp_path: Path) -> None:
    for words, said in (
        (("show", tmp_path), f"{tmp_path}: cannot be read: it is a folder. Name a file"),
        (("convert", IO_MODULE, IO_MODULE / "x.txt"), "what stands before it is no folder. Name a new file in"),
        (("convert", IO_MODULE, tmp_path / "a" / "x.txt"), "there is no such file, folder or port. Name a new file in"),
    ):
        refused = run(*words)
        assert refused.returncode == 2 and said in refused.stderr


# --- convert ------------------------------------------------------------------------------------------------


def converted(tmp_path: Path, source: Path, *options: str) -> trace.Trace:
    target = tmp_path / "converted.pcapng"
    done = run("convert", source, target, *options)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    return trace.read(target.read_bytes())


def test_a_logic_analysers_file_gives_the_same_as_its_published_decoding(tmp_path: Path) -> None:
    """The decoding of hil_tests/traces was made by other code, and judged by tshark."""
    made = converted(tmp_path, TRACES / "brainchild-io-16do.sr", "--line", "19200 8E1", "--channels", "1,0")
    known = trace.read(IO_MODULE.read_bytes()).frames
    assert [(frame.event, frame.data) for frame in made.frames] == [(frame.event, frame.data) for frame in known]
    assert all(abs(ours.first_us - theirs.first_us) <= 1 for ours, theirs in zip(made.frames, known, strict=True))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ((), "needs --line"),
        (("--line", "19200"), 'allowed is like "9600 8N1"'),
        (("--line", "19200 8E1"), "those on which something happens: 0, 1"),
        (("--line", "19200 8E1", "--channels", "1,7"), "channels 1,7: expected is"),
    ],
)
def test_what_a_logic_analysers_file_needs_is_said(options: tuple[str, ...], message: str, tmp_path: Path) -> None:
    refused = run("convert", TRACES / "brainchild-io-16do.sr", tmp_path / "x.pcapng", *options)
    assert refused.returncode == 2 and message in refused.stderr
    assert not (tmp_path / "x.pcapng").exists()


@pytest.mark.parametrize(
    ("members", "message"),
    [
        ({}, "expected is a sigrok file"),
        ({"metadata": "unitsize=1\n"}, 'samplerate = ""'),
        ({"metadata": "samplerate=1 MHz\nunitsize=3\n"}, 'unitsize = "3"'),
    ],
)
def test_a_zip_of_something_else_is_refused_by_name(members: dict[str, str], message: str, tmp_path: Path) -> None:
    source = tmp_path / "x.sr"
    with zipfile.ZipFile(source, "w") as file:
        file.writestr("version", "2")
        for name, text in members.items():
            file.writestr(name, text)
    refused = run("convert", source, tmp_path / "x.pcapng", "--line", "9600 8N1")
    assert refused.returncode == 2
    assert refused.stderr.startswith(f"{source}: ") and message in refused.stderr


def levels(line: Line, per_bit: int, chars: list[list[int]], is_inverted: bool = False) -> bytes:
    """Samples of a line on which these bits are sent, start bits included, with a rest before each."""
    bits = [1] * 40
    for char in chars:
        bits += [*char, 1, 1]
    return bytes(bit ^ is_inverted for bit in [*bits, *[1] * 40] for _ in range(per_bit))


@pytest.mark.parametrize("is_inverted", [False, True])
def test_what_a_uart_would_refuse_is_named(is_inverted: bool) -> None:
    line = Line(1000, 8, "E", 1)
    good = [0, 1, 0, 0, 0, 0, 0, 1, 0, 0, 1]  # 41 with even parity
    wrong_parity = [*good[:9], 1, 1]
    no_stop = [*good[:10], 0]
    held = [0] * 14
    samples = levels(line, 10, [good, wrong_parity, no_stop, held, good], is_inverted)
    found = list(logic.characters(samples, 10_000, line))
    assert [(char.byte, char.error) for char in found] == [
        (0x41, 0),
        (0x41, trace.PARITY),
        (0x41, trace.FRAMING),
        (0x00, trace.BREAK),
        (0x41, 0),
    ]
    assert (found[0].first_us, found[0].last_us) == (40_000, 51_000)


@pytest.mark.parametrize("lacking", [0, 1])
def test_a_recording_may_end_within_a_character_or_with_it(lacking: int) -> None:
    """At 104.17 samples a bit, 990 samples reach to the middle of the stop bit, but for a rounding."""
    samples = b"\1" * 2000 + bytes(990 - lacking)
    assert list(logic.characters(samples, 1_000_000, LINE)) == []


SPY = """\
000000.000 TX   0000  07 03 00 64 00 02 85 B2                           .......
000000.030 RX   0000  07 03 20 41 20 00 07 00  00 00 00 00 00 00 00 00  .. A ..........
000000.030 RX   0010  00 00 00 00 00 00 00 00  00 00 00 00 00 00 00 00  ...............
000000.030 RX   0020  00 00 00                                          ...
000000.101 RTS  active
000000.120 TX   0000  41 42                                             AB
"""
SOCAT = """\
> 2026/11/25 21:14:14.000282715  length=8 from=0 to=7
 07 03 00 64 00 02 85 b2
< 2026/11/25 21:14:14.000593284  length=9 from=0 to=8
 07 03 04 41 20 00 07 5d 27
"""
PLAIN = """\
# site log
23:59:59.990 > 07 03 00 64 00 02 85 B2

00:00:00.010 < 07030441200007 5d27
"""


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (
            SPY,
            [
                (0, SENT, "07030064000285b2"),
                (30_000, RECEIVED, "07032041200007" + 28 * "00"),
                (120_000, SENT, "4142"),
            ],
        ),
        (
            SOCAT,
            [
                (1_795_641_254_282_715, SENT, "07030064000285b2"),
                (1_795_641_254_593_284, RECEIVED, "070304412000075d27"),
            ],
        ),
        (PLAIN, [(86_399_990_000, SENT, "07030064000285b2"), (86_400_010_000, RECEIVED, "070304412000075d27")]),
        ("2026-11-25 21:14:14.5 RX: 41", [(1_795_641_254_500_000, RECEIVED, "41")]),
        ("12.5 TX 0a0b", [(12_500_000, SENT, "0a0b")]),
    ],
)
def test_logs_are_read_in_the_forms_that_programs_write(text: str, expected: list[tuple[int, int, str]]) -> None:
    found = list(hex_log.pieces(text))
    assert [(piece.at_us, piece.event, piece.data.hex()) for piece in found] == expected


def test_pyserials_own_log_is_read(tmp_path: Path) -> None:
    master, slave = os.openpty()
    tty.setraw(slave)
    log = tmp_path / "spy.txt"
    with serial.serial_for_url(f"spy://{os.ttyname(slave)}?file={log}", timeout=1) as port:
        port.write(REQUEST)
        os.write(master, REPLY + bytes(30))
        assert port.read(len(REPLY) + 30) == REPLY + bytes(30)
    os.close(master)
    os.close(slave)
    assert [(piece.event, piece.data) for piece in hex_log.pieces(log.read_text())] == [
        (SENT, REQUEST),
        (RECEIVED, REPLY + bytes(30)),
    ]


@pytest.mark.parametrize(
    "line",
    ["hello", "12 ? 01", "25:00:00 < 01", "12:00:00 < 0", "12:00:00 < 01 xx"]
    + ["4294967296.0 < 01", "1969-12-31 23:59:59 < 01"],  # no capture can hold these times
)
def test_a_line_that_is_none_is_named_with_its_number(line: str) -> None:
    with pytest.raises(ValueError, match=r'line 2: ".*": expected is a time, a direction'):
        list(hex_log.pieces(f"1.0 > 01\n{line}"))


def test_a_log_becomes_a_capture_and_a_capture_a_log(tmp_path: Path) -> None:
    log = tmp_path / "log.txt"
    log.write_text("1.000 > " + REQUEST.hex() + "\n1.030 < " + REPLY[:4].hex() + "\n1.035 < " + REPLY[4:].hex() + "\n")
    made = converted(tmp_path, log, "--line", "9600 8N1")
    request, reply = made.frames
    assert made.ports == (Port("log.txt", LINE),)
    assert (request.event, request.data, request.first_us, request.last_us) == (SENT, REQUEST, 1_000_000, 1_008_333)
    assert (reply.event, reply.data, reply.first_us) == (RECEIVED, REPLY, 1_030_000 - 4167)
    back = tmp_path / "back.txt"
    assert run("convert", tmp_path / "converted.pcapng", back).returncode == 0
    said = [(piece.event, piece.data) for piece in hex_log.pieces(back.read_text())]
    assert said == [(SENT, REQUEST), (RECEIVED, REPLY)]


def test_who_asked_is_found_where_a_log_has_one_direction_and_told_where_it_is_a_units() -> None:
    one_way = f"1.000 RX {REQUEST.hex()}\n1.030 RX {REPLY.hex()}"
    assert [frame.event for frame in hex_log.frames(one_way, LINE, False)] == [SENT, RECEIVED]
    units = f"1.000 RX {REQUEST.hex()}\n1.030 TX {REPLY.hex()}"
    assert [frame.event for frame in hex_log.frames(units, LINE, True)] == [SENT, RECEIVED]


def test_nothing_is_written_over(tmp_path: Path, capture: Callable[..., Path]) -> None:
    there = tmp_path / "there.txt"
    there.write_text("kept")
    refused = run("convert", capture((SENT, REQUEST)), there)
    assert there.read_text() == "kept"
    assert refused.returncode == 2 and "it exists. Name a new file in a folder where" in refused.stderr


def test_a_hex_log_is_not_written_under_the_name_of_a_capture(tmp_path: Path) -> None:
    refused = run("convert", IO_MODULE, tmp_path / "again.pcapng")
    assert refused.returncode == 2 and f"Name one, like {tmp_path / 'again.txt'}." in refused.stderr
    assert not (tmp_path / "again.pcapng").exists()


# --- record -------------------------------------------------------------------------------------------------


class Wire:
    """A line on a pseudo-terminal, and `tankgate trace record` that listens on it."""

    def __init__(self, file: Path) -> None:
        self.master, self._slave = os.openpty()
        tty.setraw(self._slave)
        self.path = os.ttyname(self._slave)
        self.file = file
        self.process = subprocess.Popen(
            [*COMMAND, "record", self.path, str(file), "--line", "9600 8N1", "--json"],
            cwd=ROOT,
            env=ENVIRONMENT,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        assert self.process.stderr is not None
        assert "Listening on" in self.process.stderr.readline()

    def row(self) -> dict[str, Any]:
        assert self.process.stdout is not None
        return json.loads(self.process.stdout.readline())

    def unplug(self) -> None:
        os.close(self.master)
        os.close(self._slave)
        self.master = -1

    def close(self) -> None:
        if self.process.poll() is None:
            self.process.kill()
        self.process.communicate()
        if self.master >= 0:
            self.unplug()


@pytest.fixture
def wire(tmp_path: Path) -> Iterator[Wire]:
    wire = Wire(tmp_path / "recorded.pcapng")
    yield wire
    wire.close()


def test_a_line_is_recorded_as_it_is_heard(wire: Wire) -> None:
    """FF is what the system marks errors with: it must come through as itself."""
    reply = modbus_edge.read_reply(7, 3, b"\xff\xff\x00\xff")
    before_us = time.time_ns() // 1000
    os.write(wire.master, REQUEST)
    assert (wire.row()["direction"], os.write(wire.master, reply)) == ("sent", len(reply))
    row = wire.row()
    assert (row["direction"], row["values"], row["verdict"]) == ("received", [65535, 255], "ok")
    os.write(wire.master, REQUEST[:3])
    row = wire.row()  # by silence
    assert (row["verdict"], row["data"]) == ("cut", REQUEST[:3].hex())
    wire.process.send_signal(signal.SIGINT)
    assert wire.process.wait(DEADLINE_S) == 0
    read = trace.read(wire.file.read_bytes())
    assert read.ports == (Port(wire.path, LINE),)
    assert [frame.data for frame in read.frames] == [REQUEST, reply, REQUEST[:3]]
    first = read.frames[0]
    assert first.last_us - first.first_us == pytest.approx(8 * LINE.char_us, abs=1)
    assert before_us < first.last_us < before_us + DEADLINE_S * 1e6


def test_a_port_that_is_lost_leaves_what_came_before(wire: Wire) -> None:
    os.write(wire.master, REQUEST)
    wire.row()
    wire.unplug()
    assert wire.process.wait(DEADLINE_S) == 3
    assert [frame.data for frame in trace.read(wire.file.read_bytes()).frames] == [REQUEST]


def test_a_port_that_is_not_there_or_in_use_has_its_exit_code(wire: Wire, tmp_path: Path) -> None:
    missing = run("record", tmp_path / "ttyUSB9", tmp_path / "x.pcapng", "--line", "9600 8N1")
    told = f"port {tmp_path / 'ttyUSB9'}: cannot be opened: there is no such file, folder or port. Those that are here:"
    assert missing.returncode == 3 and told in missing.stderr
    folder = run("record", tmp_path, tmp_path / "x.pcapng", "--line", "9600 8N1")
    assert folder.returncode == 3 and "cannot be opened: it is a folder." in folder.stderr
    device = run("record", "/dev/null", tmp_path / "x.pcapng", "--line", "9600 8N1")
    assert device.returncode == 3 and "cannot be opened: it is no serial port." in device.stderr
    busy = run("record", wire.path, tmp_path / "x.pcapng", "--line", "9600 8N1")
    assert busy.returncode == 4 and f"{wire.path}: cannot be opened: another program has it open." in busy.stderr
    assert not (tmp_path / "x.pcapng").exists()


def test_marked_bytes_come_out_as_they_were_in_any_pieces() -> None:
    marks = Marks()
    marked = b"\x01\xff\xff\xff\x00\x41\xff\x00\x00\x02"
    chars = [char for byte in marked for char in marks.feed(bytes((byte,)))]
    assert chars == [(1, False), (0xFF, False), (0x41, True), (0, True), (2, False)] == Marks().feed(marked)

# --- any bytes ----------------------------------------------------------------------------------------------


any_frame = st.tuples(st.sampled_from((SENT, RECEIVED, *trace.ERRORS)), st.integers(0, 8), st.binary(max_size=270))


@given(st.lists(any_frame, max_size=8))
def test_any_frames_are_explained_and_counted(spoken: list[tuple[int, int, bytes]]) -> None:
    """With right CRCs too, so that what they say is looked at."""
    sealed = [(event, modbus_edge.frame(bytes((7, code)) + data) if code else data) for event, code, data in spoken]
    frames = conversation(*sealed)
    assert all(sentence(told) for told in explain(frames))
    [port] = figures(trace.Trace((Port("gas-a", LINE),), tuple(frames), None))
    assert all(sum(unit.outcomes.values()) == unit.requests for unit in port.units.values())


@given(st.text(max_size=100) | st.text("0123456789abcdef:.-/ <>TXR\n", max_size=200))
def test_any_text_is_a_log_or_refused_by_its_line(text: str) -> None:
    try:
        hex_log.frames(text, LINE, False)
    except ValueError as error:
        assert str(error).startswith("line ")


@given(st.text(max_size=100), st.binary(max_size=300), st.integers(1, 4))
def test_any_samples_are_decoded_or_refused(metadata: str, samples: bytes, unit_bytes: int) -> None:
    with contextlib.suppress(ValueError):
        logic.session(metadata)
    session = logic.Session(20_000, unit_bytes, {"0": 0})
    with contextlib.suppress(ValueError):
        logic.frames(samples, session, ["0"], LINE)
