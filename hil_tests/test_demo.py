"""The demo, started the way a user starts it: its figures, its keys, and what it leaves behind."""

import json
import os
import pty
import select
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

pytestmark = pytest.mark.needs("simulation")

ROOT = Path(__file__).parents[1]
DEMO = [sys.executable, "-m", "edge", "demo", "--lang", "en"]
FIELDS = {
    "readings_sampled",
    "readings_due",
    "readings_received",
    "in_gaps",
    "lost",
    "duplicated",
    "wrong_values",
    "p50_ms",
    "p99_ms",
    "board",
}


def demo(*arguments, timeout_s):
    run = subprocess.run([*DEMO, *arguments], cwd=ROOT, capture_output=True, text=True, timeout=timeout_s, check=False)
    assert run.returncode == 0, run.stderr
    return run


@pytest.mark.timeout(110)
def test_30_seconds_lose_nothing_and_print_one_object():
    run = demo("--seconds", "30", "--json", timeout_s=100)
    figures = json.loads(run.stdout)
    assert set(figures) == FIELDS
    assert figures["readings_sampled"] > 300
    assert figures["readings_received"] == figures["readings_due"] > 150
    assert figures["lost"] == figures["duplicated"] == figures["wrong_values"] == figures["in_gaps"] == 0
    assert 0 < figures["p50_ms"] <= figures["p99_ms"]
    assert set(figures["board"]) == {"interpreter", "heap"}


@pytest.mark.timeout(240)
def test_every_key_is_told_to_its_end_and_nothing_is_lost():
    run = demo("--script", "--json", timeout_s=230)
    figures = json.loads(run.stdout)
    assert figures["lost"] == figures["duplicated"] == figures["wrong_values"] == 0
    told = [line for line in run.stderr.splitlines() if line[2:3] == ":"]
    assert sorted(line.split()[1] for line in told) == ["1:", "1:", "2:", "3:", "4:", "5:", "5:", "6:", "7:"]
    assert not any("not seen" in line for line in told)


@pytest.mark.timeout(110)
def test_the_terminal_shows_the_screen_and_is_left_as_it_was():
    master, slave = pty.openpty()
    before = subprocess.run(["stty", "-g"], stdin=slave, capture_output=True, check=True).stdout
    environment = os.environ | {"TERM": "xterm-256color", "COLUMNS": "98", "LINES": "27"}
    running = subprocess.Popen([*DEMO], cwd=ROOT, stdin=slave, stdout=slave, stderr=subprocess.DEVNULL, env=environment)
    try:
        shown = read_until(master, "TK101", within_s=60)
        assert "\x1b[?1049h" in shown
        assert "simulated site, real programs" in shown
        os.write(master, b"1")
        read_until(master, "1: GD05", within_s=10)
        os.write(master, b"q")
        assert "\x1b[?1049l" in read_until(master, "\x1b[?1049l", within_s=10)
        assert running.wait(30) == 0
    finally:
        running.kill()
        running.wait()
    assert subprocess.run(["stty", "-g"], stdin=slave, capture_output=True, check=True).stdout == before


@pytest.mark.timeout(60)
def test_a_signal_stops_every_process():
    running = subprocess.Popen(
        [*DEMO, "--seconds", "600"], cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
    )
    assert running.stderr is not None
    for line in running.stderr:
        if "gateway: started" in line:
            break
    started = children(running.pid)
    assert started
    running.send_signal(signal.SIGTERM)
    assert running.wait(30) == 130
    assert not [pid for pid in started if Path(f"/proc/{pid}").exists()]


def children(pid):
    """Every process that this one has started, and theirs."""
    found = []
    for task in Path(f"/proc/{pid}/task").iterdir():
        for child in (task / "children").read_text().split():
            found += [int(child), *children(int(child))]
    return found


def read_until(descriptor, text, within_s):
    """What came from a terminal up to this text; an assertion where it does not come in time."""
    shown = b""
    deadline_s = time.monotonic() + within_s
    while time.monotonic() < deadline_s:
        if select.select([descriptor], [], [], 0.2)[0]:
            shown += os.read(descriptor, 65536)
        if text.encode() in shown:
            return shown.decode(errors="replace")
    raise AssertionError(f"{text!r} was not shown in {within_s} s, but: {shown[-2000:]!r}")
