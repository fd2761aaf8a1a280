"""`tankgate listen` as a person or a program meets it: what it prints, and how it ends."""

import json
import os
import pty
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from edge.alarms.words import AUXILIARY
from hil_tests.mosquitto import Mosquitto
from protocols.feeds import json_feed
from protocols.feeds.json_feed import TimeQuality
from tests.edge.mosquitto import DEADLINE_S, publish

ROOT = Path(__file__).parents[2]
GOLDEN = ROOT / "protocols" / "feeds" / "golden" / "valid"
GATEWAY = "jt-0042"
COMMAND = [sys.executable, "-m", "edge", "listen"]
ENVIRONMENT = {"PATH": os.environ["PATH"], "LC_ALL": "C.UTF-8", "TZ": "UTC", "TERM": "xterm"}

BIRTH = ("birth", (GOLDEN / "birth.json").read_bytes().strip())


def data(seq: int, value: float | None = 8.412) -> tuple[str, bytes]:
    rows = [("TK101.level", 118, value, 0 if value is not None else 200, 0)]
    quality = TimeQuality("synced", 7, None)
    return "data", json_feed.data(GATEWAY, "01KAR8M2", seq, "e681bf57", quality, 1795401004000, rows)


def lines(*messages: tuple[str, bytes]) -> str:
    """What `--json` prints of these."""
    return "".join(
        json.dumps(
            {
                "received_ms": 1795401004900,
                "topic": json_feed.topic(GATEWAY, kind),
                "retained": False,
                "payload": json_feed.read(payload),
                "duplicate": False,
            }
        )
        + "\n"
        for kind, payload in messages
    )


def listen(*arguments: str, given: str = "") -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*COMMAND, *arguments],
        cwd=ROOT,
        env=ENVIRONMENT,
        input=given,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )


# --- from a recording ---------------------------------------------------------------------------------------


def test_a_recording_in_order():
    run = listen("--from", "-", "--check", given=lines(BIRTH, data(1), data(2), data(2)))
    assert run.returncode == 0
    assert "4 messages, 2 readings. 1 came again, unchanged; 0 still to come" in run.stdout
    assert run.stdout.endswith("The feed is in order.\n")
    assert run.stderr == ""


def test_a_recording_with_faults(tmp_path):
    recording = tmp_path / "district.jsonl"
    recording.write_text(lines(BIRTH, data(1), ("data", b"hello"), data(4)))
    run = listen("--from", str(recording), "--check")
    assert run.returncode == 1
    assert run.stderr.splitlines() == [
        "tankgate/v1/jt-0042/data: the payload is not a JSON object",
        "tankgate/v1/jt-0042/data 01KAR8M2: numbers 2 to 3 did not come, and the gateway does not name them as pending",
    ]
    assert run.stdout.endswith("2 faults.\n")


def test_nothing_is_no_stream_in_order():
    run = listen("--from", "-", "--check")
    assert run.returncode == 1
    assert "Nothing came" in run.stdout


def test_a_recording_is_printed_as_it_was():
    given = lines(BIRTH, data(1), ("data", b"hello"))
    run = listen("--from", "-", "--json", given=given)
    assert [json.loads(line) for line in run.stdout.splitlines()] == [json.loads(line) for line in given.splitlines()]
    assert "甲醇罐液位" in run.stdout


def test_json_and_check_do_not_mix():
    run = listen("--from", "-", "--json", "--check", given=lines(BIRTH, data(1)))
    assert len(run.stdout.splitlines()) == 2
    assert "The feed is in order." in run.stderr


def test_a_line_a_message():
    run = listen("--from", "-", given=lines(BIRTH, data(1), ("event/gap", b"{")))
    assert run.stdout.splitlines() == [
        "02:30:04 jt-0042 birth",
        "02:30:04 jt-0042 data 01KAR8M2 1 1 reading",
        "02:30:04 jt-0042 event gap (no JSON object)",
    ]


def test_above_the_first_alarm_stands_once_what_alarms_are_not():
    event = (GOLDEN / "alarm.json").read_bytes().strip()
    said = listen("--from", "-", given=lines(BIRTH, ("event/alarm", event), ("event/alarm", event))).stdout
    before, after = said.split(AUXILIARY)
    assert len(before.splitlines()) == 1 and len(after.strip().splitlines()) == 2


def test_an_alarm_is_a_line_with_its_states():
    event = (GOLDEN / "alarm-system.json").read_bytes().strip()
    run = listen("--from", "-", given=lines(("event/alarm", event)))
    assert run.stdout == AUXILIARY + "\n02:30:04 jt-0042 event alarm 01KAR8M2 913 system.config:FAULT NORM → UNACK\n"


NIGHT = "2026-11-23 02:09:04 to 2026-11-23 02:12:43 (219 s)"
GAPS = {
    "gap": f"915 the board's ring was full: board cab1, {NIGHT}, at most 1971 polls",
    "gap-other-master": f"917 another master on the bus: board cab2, bus gas-b, {NIGHT}, nobody knows how much",
    "gap-clock-put-back": "2 the board was restarted: board cab1, 2026-11-23 02:09:04 to 2026-11-23 01:09:10"
    ", nobody knows how much",
    "gap-to-a-boot-without-clock": "3 the board was restarted: board cab1, 2026-11-23 02:09:04 to no clock"
    ", nobody knows how much",
    "gap-unsynced": "5 taken under a read plan that is not known any more: board cab1, no clock was known, 12 polls",
    "gap-dropped": "916 no room on the disk: numbers 4100 to 4711 of data, epoch 01KAQZZ0"
    ", 2026-11-19 14:53:20 to 2026-11-19 15:03:20 (600 s), nobody knows how much",
}


@pytest.mark.parametrize("name", GAPS)
def test_a_gap_is_a_line_with_its_cause_place_span_and_polls(name):
    run = listen("--from", "-", given=lines(("event/gap", (GOLDEN / f"{name}.json").read_bytes().strip())))
    assert run.stdout.split(maxsplit=5)[5] == GAPS[name] + "\n"


def test_of_events_a_gap_counts_messages():
    gap = json.loads((GOLDEN / "gap.json").read_text("utf-8")) | {"of": "event", "polls": 1, "polls_are": "exact"}
    run = listen("--from", "-", given=lines(("event/gap", json.dumps(gap).encode())))
    assert run.stdout.endswith("(219 s), 1 message\n")


@pytest.mark.parametrize("wrong", [{"scope": []}, {"from_ms": 10**30}, {"polls": "all"}, {"missing_seq": 7}])
def test_a_gap_of_a_strange_shape_is_a_line_all_the_same(wrong):
    gap = json.loads((GOLDEN / "gap.json").read_text("utf-8")) | {"missing_epoch": "01KAQZZ0"} | wrong
    run = listen("--from", "-", given=lines(("event/gap", json.dumps(gap).encode())))
    assert run.stdout == "02:30:04 jt-0042 event gap 01KAR8M2 915\n"


def test_only_one_gateway_of_a_recording():
    given = lines(BIRTH, data(1))
    run = listen("--from", "-", "--gateway", "jt-0043", given=given + given.replace("jt-0042", "jt-0043"))
    assert [line.split()[1] for line in run.stdout.splitlines()] == ["jt-0043", "jt-0043"]


@pytest.mark.parametrize(
    ("said", "arguments", "given"),
    [
        ("Give either the broker", [], ""),
        ("Give either the broker", ["mqtt://127.0.0.1", "--from", "-"], ""),
        ("--session, --into, --seconds, --ca, --cert and --key are of a broker", ["--from", "-", "--seconds", "1"], ""),
        ("http://127.0.0.1: allowed is mqtt://host:port", ["http://127.0.0.1"], ""),
        ("<stdin> line 2: not a line that `tankgate listen --json` prints", ["--from", "-"], lines(BIRTH) + "{}\n"),
        ("<stdin> line 1: not a line", ["--from", "-"], lines(BIRTH).replace("1795401004900", "1" + "0" * 20)),
        ("No such file", ["--from", "nowhere.jsonl"], ""),
        ("'--gateway': must be 3 to 32 small letters", ["mqtt://127.0.0.1:9", "--gateway", "#"], ""),
        ("'--gateway': must be 3 to 32 small letters", ["mqtt://127.0.0.1:9", "--gateway", "jt/0042"], ""),
    ],
)
def test_wrong_use(said, arguments, given):
    run = listen(*arguments, given=given)
    assert run.returncode == 2
    assert said in run.stderr and "Traceback" not in run.stderr


def test_check_without_jsonschema_says_what_to_install(tmp_path):
    (tmp_path / "jsonschema_rs.py").write_text("raise ModuleNotFoundError(name='jsonschema_rs')")
    run = subprocess.run(
        [*COMMAND, "--from", "-", "--check"],
        cwd=ROOT,
        env=ENVIRONMENT | {"PYTHONPATH": str(tmp_path)},
        input=b"",
        capture_output=True,
        check=False,
        timeout=60,
    )
    assert run.returncode == 2
    assert b"pip install jsonschema-rs" in run.stderr and b"Traceback" not in run.stderr


# --- from a broker ------------------------------------------------------------------------------------------


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[Mosquitto]:
    mosquitto = Mosquitto(tmp_path, "allow_anonymous true")
    yield mosquitto
    mosquitto.close()


def send(broker: Mosquitto, *messages: tuple[str, bytes]) -> None:
    publish(broker, *((json_feed.topic(GATEWAY, kind), payload, False) for kind, payload in messages))


@contextmanager
def listening(broker: Mosquitto, *arguments: str, **streams: Any) -> Iterator[subprocess.Popen[str]]:
    """One that is connected. It is stopped by Ctrl-C where it has not ended by itself."""
    url = f"mqtt://127.0.0.1:{broker.port}"
    process = subprocess.Popen(
        [*COMMAND, url, *arguments],
        cwd=ROOT,
        env=ENVIRONMENT,
        stderr=subprocess.PIPE,
        text=True,
        **{"stdout": subprocess.PIPE} | streams,
    )
    try:
        assert process.stderr is not None
        assert process.stderr.readline() == f"Connecting to {url}\n"
        assert process.stderr.readline() == "Connected\n"
        yield process
    finally:
        process.kill()
        process.communicate()


@pytest.mark.needs("mosquitto")
def test_every_message_is_a_line(broker):
    with listening(broker, "--json") as process:
        send(broker, data(1), data(1))
        came = [json.loads(process.stdout.readline()) for _count in range(2)]
        process.send_signal(signal.SIGINT)
        assert process.wait(DEADLINE_S) == 0
        assert process.communicate() == ("", "")
    assert list(came[0]) == ["received_ms", "topic", "retained", "payload", "duplicate"]
    assert [message["duplicate"] for message in came] == [False, True]
    assert came[0]["payload"]["rows"] == [["TK101.level", 118, 8.412]]


@pytest.mark.needs("mosquitto")
def test_seconds_end_it_and_the_check_decides(broker):
    with listening(broker, "--check", "--seconds", "1") as process:
        send(broker, BIRTH, data(1), data(3))
        said, complained = process.communicate(timeout=DEADLINE_S)
    assert process.returncode == 1
    assert "numbers 2 to 2 did not come" in complained
    assert said.endswith("1 fault.\n")


def test_no_broker():
    run = listen("mqtt://127.0.0.1:9")
    assert run.returncode == 3
    assert run.stderr.splitlines() == [
        "Connecting to mqtt://127.0.0.1:9",
        "nobody listens at this port",
        "No feed from mqtt://127.0.0.1:9: nobody listens at this port. Is the broker there?",
    ]


@pytest.mark.needs("mosquitto")
def test_a_table_on_a_terminal(broker):
    master, slave = pty.openpty()
    with listening(broker, stdout=slave) as process:
        send(broker, BIRTH, data(1))
        text = _read_until(master, lambda text: "8.412" in text)
        assert "TK101.level" in text and "甲醇罐液位" in text and "good" in text
        send(broker, data(2, value=None))
        text = _read_until(master, lambda text: "no reply" in text)
        assert "8.412" not in text[text.rindex("no reply") - 80 :]
        send(broker, ("event/alarm", (GOLDEN / "alarm-system.json").read_bytes().strip()))
        text = _read_until(master, lambda text: "GB/T 50493" in text and "改正点表" in text)
        assert "unacknowledged  3  system.config:FAULT  for " in text
        send(
            broker,
            ("birth", BIRTH[1].replace("泵房可燃气".encode(), b"\\u001b]0;owned\\u0007[red]x")),
            ("state", b"{}"),
        )
        text = _read_until(master, lambda text: "1 of a strange shape" in text and "]0;owned[red]x" in text)
        assert "\x1b]0;owned" not in text
        process.send_signal(signal.SIGINT)
        assert process.wait(DEADLINE_S) == 0
    os.close(slave)
    os.close(master)


def _read_until(terminal: int, shown: Callable[[str], bool]) -> str:
    text = b""
    while not shown(text.decode(errors="replace")):
        text += os.read(terminal, 4096)
    return text.decode()
