"""A recording played again, in virtual time and by its command: which bytes come when, to whom."""

import json
import os
import select
import signal
import subprocess
import sys
import time
import tty
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from hil_tests.bench.player import MATCHED, TIMED, Pace, Player, both_sides
from protocols import modbus_edge, trace
from protocols.model import Line
from protocols.trace import RECEIVED, SENT, Frame

ROOT = Path(__file__).parents[2]
TRACES = ROOT / "hil_tests" / "traces"
CAPTURES = sorted(TRACES.glob("*.pcapng"))
DEADLINE_S = 20.0
LINE = Line(9600, 8, "N", 1)
CHAR_US = LINE.char_us
ASK_LEVEL = modbus_edge.read_request(1, 3, 0, 1)
ASK_STATE = modbus_edge.read_request(1, 4, 9, 1)
LEVELS = [modbus_edge.read_reply(1, 3, bytes((0, value))) for value in (10, 20)]
STATE = modbus_edge.read_reply(1, 4, b"\x00\x07")


def frame(event: int, first_us: int, data: bytes) -> Frame:
    return Frame(0, event, first_us, first_us + round(len(data) * CHAR_US), data)


RECORDED = [
    frame(SENT, 0, ASK_LEVEL),
    frame(RECEIVED, 30_000, LEVELS[0][:3]),
    frame(RECEIVED, 60_000, LEVELS[0][3:]),
    frame(SENT, 100_000, ASK_STATE),
    frame(RECEIVED, 112_000, STATE),
    frame(SENT, 1_000_000, ASK_LEVEL),
    frame(RECEIVED, 1_200_000, LEVELS[1]),
]


def said(player: Player, request: bytes, at_s: float) -> list[tuple[float, bytes]]:
    """What comes for this request, in seconds after it began."""
    player.heard(request, at_s)
    found = []
    while (due_s := player.due_s()) is not None:
        found.append((round(due_s - at_s, 4), player.deliver(due_s)))
    return found


def test_timed_keeps_the_recorded_offsets_from_our_request() -> None:
    player = Player("level", LINE, RECORDED, TIMED)
    assert said(player, ASK_LEVEL, 50.0) == [(0.0331, LEVELS[0][:3]), (0.0642, LEVELS[0][3:])]
    assert said(player, ASK_LEVEL, 60.0) == [(0.2073, LEVELS[1])]


def test_on_a_real_line_bytes_are_due_when_they_begin_and_the_request_is_over_when_it_came() -> None:
    player = Player("level", LINE, RECORDED, TIMED, is_wire=True)
    assert said(player, ASK_STATE, 5.0) == [(round(0.012 - 8 * CHAR_US / 1e6, 4), STATE)]


def test_matched_answers_as_soon_as_the_line_allows() -> None:
    player = Player("level", LINE, RECORDED, MATCHED)
    [(due_s, data)] = said(player, ASK_STATE, 5.0)
    assert data == STATE
    assert due_s == pytest.approx((LINE.silence_us + (8 + len(STATE)) * CHAR_US) / 1e6, abs=1e-4)


def test_a_pace_shortens_offsets_and_silences() -> None:
    twice = Player("level", LINE, RECORDED, TIMED, Pace(speed=2))
    assert said(twice, ASK_STATE, 0.0)[0][0] == pytest.approx((8333 + (3667 + 7 * CHAR_US) / 2) / 1e6, abs=1e-4)
    short = Player("level", LINE, RECORDED, TIMED, Pace(max_gap_s=0.005))
    said(short, ASK_LEVEL, 0.0)
    assert said(short, ASK_LEVEL, 1.0)[0][0] == pytest.approx((8333 + 5000 + 7 * CHAR_US) / 1e6, abs=1e-4)


def test_each_request_has_its_replies_in_order_whoever_asks_in_which() -> None:
    player = Player("level", LINE, RECORDED, MATCHED)
    asked = enumerate((ASK_STATE, ASK_LEVEL, ASK_LEVEL))
    replies = [b"".join(data for _at_s, data in said(player, request, at_s)) for at_s, request in asked]
    assert replies == [STATE, *LEVELS]
    assert player.unknown == []
    assert said(player, ASK_LEVEL, 10.0) == [] and player.unknown == [ASK_LEVEL]


def test_a_loop_begins_again() -> None:
    player = Player("level", LINE, RECORDED[3:], MATCHED, loops=True)
    assert [said(player, ASK_LEVEL, at_s)[0][1] for at_s in range(3)] == [LEVELS[1]] * 3


def test_requests_are_found_in_pieces_and_others_are_not_answered() -> None:
    player = Player("level", LINE, RECORDED, MATCHED)
    player.heard(ASK_STATE[:3], 0.0)
    assert player.due_s() is None
    assert said(player, ASK_STATE[3:], 0.004)[0][1] == STATE
    other = modbus_edge.read_request(2, 3, 0, 1)
    assert said(player, other + other[:-1] + b"\x00", 1.0) == []
    assert player.unknown == [other]


@pytest.mark.parametrize("file", CAPTURES, ids=lambda file: file.stem)
def test_a_recording_of_a_timed_replay_is_the_recording(file: Path) -> None:
    """The recorded master asks again, at its recorded times."""
    recorded = trace.read(file.read_bytes())
    line = recorded.ports[0].line
    assert line is not None
    again = played_again(recorded.frames, line)
    assert [(one.event, one.data) for one in again] == [(one.event, one.data) for one in recorded.frames]
    assert all(abs(one.first_us - two.first_us) <= 2 for one, two in zip(again, recorded.frames, strict=True))


def played_again(frames: Sequence[Frame], line: Line) -> list[Frame]:
    """What a timed replay puts on the wire when the recorded master asks again, in virtual time."""
    player = Player("again", line, frames, TIMED)
    for each in frames:
        if each.event == SENT:
            player.heard(each.data, each.first_us / 1e6)
        else:
            player.deliver(each.last_us / 1e6 + 1e-5)
    return player.frames


def test_a_listener_hears_both_sides_at_their_times() -> None:
    heard = list(both_sides(RECORDED, Pace(speed=10, max_gap_s=0.1)))
    assert [each.data for _at_s, each in heard] == [each.data for each in RECORDED]
    assert [round(at_s, 4) for at_s, _each in heard][:4] == [0.0, 0.003, 0.006, 0.01]
    assert heard[-2][0] - heard[-3][0] < 0.012  # 0.9 s, cut to 0.1 s, ten times as fast


def test_the_command_is_a_unit_to_any_master(tmp_path: Path) -> None:
    file = tmp_path / "recorded.pcapng"
    file.write_bytes(trace.write([trace.Port("level", LINE)], RECORDED))
    command = [sys.executable, "-m", "hil_tests.bench.replay", str(file), "--speed", "4"]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as process, ExitStack() as stack:
        stack.callback(process.kill)
        assert process.stdout is not None
        port = os.open(process.stdout.readline().strip(), os.O_RDWR | os.O_NOCTTY)
        stack.callback(os.close, port)
        tty.setraw(port)
        replies = []
        for request, reply in ((ASK_LEVEL, LEVELS[0]), (ASK_STATE, STATE), (ASK_LEVEL, LEVELS[1])):
            os.write(port, request)
            replies.append(_read(port, len(reply)))
    assert replies == [LEVELS[0], STATE, LEVELS[1]]


def _read(port: int, count: int) -> bytes:
    data = b""
    until_s = time.monotonic() + DEADLINE_S
    while len(data) < count and time.monotonic() < until_s:
        if select.select([port], [], [], 0.1)[0]:
            data += os.read(port, count - len(data))
    return data


@pytest.fixture
def file(tmp_path: Path) -> Path:
    file = tmp_path / "recorded.pcapng"
    file.write_bytes(trace.write([trace.Port("level", LINE)], RECORDED))
    return file


@contextmanager
def replaying(*arguments: object) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """The command, and the path that it plays on."""
    command = [sys.executable, "-m", "hil_tests.bench.replay", *map(str, arguments)]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    with subprocess.Popen(command, cwd=ROOT, text=True, **pipes) as process, ExitStack() as stack:
        stack.callback(process.kill)
        assert process.stdout is not None
        yield process, process.stdout.readline().strip()


def test_trace_record_hears_all_that_both_sides_say_and_ctrl_c_ends_it(file: Path, tmp_path: Path) -> None:
    """Nothing is said before somebody listens: the recorder starts a second after the replay, or later."""
    heard = tmp_path / "heard.pcapng"
    with replaying(file, "--mode", "listen", "--max-gap", "0.1") as (process, path):
        command = [sys.executable, "-m", "edge", "trace", "record", path, heard, "--line", str(LINE), "--json"]
        with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as recorder, ExitStack() as stack:
            stack.callback(recorder.kill)
            assert recorder.stdout is not None
            for said in (ASK_LEVEL, LEVELS[0], ASK_STATE, STATE, ASK_LEVEL, LEVELS[1]):
                assert json.loads(recorder.stdout.readline())["data"] == said.hex()
        process.send_signal(signal.SIGINT)
        assert (process.wait(DEADLINE_S), process.stderr.read()) == (0, "")
    kept = trace.read(heard.read_bytes()).frames
    assert b"".join(each.data for each in kept) == b"".join(each.data for each in RECORDED)


def test_a_loop_says_it_again_and_steps_wait_for_enter(file: Path) -> None:
    with replaying(file, "--mode", "listen", "--loop", "--step") as (process, path), ExitStack() as stack:
        port = os.open(path, os.O_RDWR | os.O_NOCTTY)
        stack.callback(os.close, port)
        for each in (*RECORDED, *RECORDED[:2]):
            assert "Enter" in process.stderr.readline() and not select.select([port], [], [], 0)[0]
            process.stdin.write("\n")
            process.stdin.flush()
            assert _read(port, len(each.data)) == each.data
        process.stdin.close()
        assert process.wait(DEADLINE_S) == 0


def replay(*arguments: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "hil_tests.bench.replay", *map(str, arguments)]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, timeout=DEADLINE_S)


@pytest.mark.parametrize(
    ("port", "said"),
    [
        ("/dev/ttyUSB9", "/dev/ttyUSB9: there is no such port. Plug in: the adapter on the line."),
        ("/dev/null", "/dev/null (the adapter on the line): it cannot be opened: "),
    ],
)
def test_a_port_that_cannot_be_opened_is_named_with_what_to_do(file: Path, port: str, said: str) -> None:
    refused = replay(file, "--port", port)
    assert refused.returncode == 3 and refused.stderr.startswith(said), refused.stderr


def test_what_cannot_be_replayed_is_refused_by_name(tmp_path: Path) -> None:
    foreign, lineless, empty = tmp_path / "x.pcapng", tmp_path / "lineless.pcapng", tmp_path / "empty.pcapng"
    foreign.write_bytes(b"nothing of the kind")
    lineless.write_bytes(trace.write([trace.Port("log.txt", None)], RECORDED))
    empty.write_bytes(trace.write([trace.Port("level", LINE)], []))
    for file, said in (
        (foreign, "expected is a pcapng file"),
        (lineless, "0 (log.txt, no line settings). Make the capture again by `tankgate trace convert"),
        (empty, "no frames"),
        (tmp_path, "is a directory"),
    ):
        refused = replay(file)
        assert refused.returncode == 2 and said in refused.stderr, refused.stderr
