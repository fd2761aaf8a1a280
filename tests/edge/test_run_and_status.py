"""`tankgate run` and `tankgate status` as a technician starts them: what they refuse, and how they end."""

import json
import os
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from shutil import copytree
from typing import IO, Any

import pytest
from rich.cells import cell_len

from edge.alarms.words import AUXILIARY
from edge.cli.status import span_text
from edge.config import load_site
from edge.control import NAME, ask

ROOT = Path(__file__).parents[2]
FOUND_A_FAULT, USAGE, UNREACHABLE, BUSY = 1, 2, 3, 4


def tankgate(
    *arguments: str | Path, language: str = "en", columns: int = 120, stdout: Any = subprocess.PIPE
) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "edge", "--lang", language, *map(str, arguments)],
        cwd=ROOT,
        env=os.environ | {"COLUMNS": str(columns)},
        stdout=stdout,
        stderr=subprocess.PIPE,
        text=True,
        timeout=60,
        check=False,
    )


@pytest.fixture
def gateway_toml(tmp_path: Path) -> Path:
    """The example site, with boards that are not there."""
    copytree(ROOT / "hil_tests" / "site", tmp_path, dirs_exist_ok=True)
    path = tmp_path / "gateway.toml"
    text = path.read_text(encoding="utf-8")
    text = text.replace("[boards.cab2]", f'port = "{tmp_path}/cab1"\n[boards.cab2]')
    path.write_text(text.replace("/dev/ttyAMA2", f"{tmp_path}/cab2"), encoding="utf-8")
    return path


@contextmanager
def running(gateway_toml: Path, log: IO[bytes] | None = None) -> Iterator[subprocess.Popen[bytes]]:
    """`tankgate run` on that site, its door open; told to stop at the end. What it says goes into `log`."""
    command = [sys.executable, "-m", "edge", "run", "--simulated", str(gateway_toml)]
    with subprocess.Popen(command, cwd=ROOT, stderr=log) as process:
        deadline = time.monotonic() + 20
        while not (gateway_toml.parent / "store" / "control.sock").exists():
            assert process.poll() is None and time.monotonic() < deadline, "the daemon opened no door"
            time.sleep(0.05)
        try:
            yield process
        finally:
            process.terminate()
            process.wait(timeout=20)


@pytest.fixture
def daemon(gateway_toml: Path) -> Iterator[subprocess.Popen[bytes]]:
    """`tankgate run` on that site."""
    with running(gateway_toml) as process:
        yield process


@pytest.mark.parametrize("command", ["run", "status"])
def test_wrong_files_are_refused_with_all_their_problems(gateway_toml: Path, command: str) -> None:
    text = gateway_toml.read_text(encoding="utf-8")
    text = text.replace('board = "cab2"', 'board = "cap2"').replace("schema = 1", "schema = 7")
    gateway_toml.write_text(text, encoding="utf-8")
    ended = tankgate(command, gateway_toml)
    assert ended.returncode == USAGE
    assert ended.stdout == ""
    first, second, count = [line for line in ended.stderr.splitlines() if "Reminder" not in line]
    assert first == "gateway.toml line 2 [schema] = 7: this version reads schema 1. E-VAL-003"
    assert second.endswith("E-BRD-002")
    assert count == f"2 problems in {gateway_toml.parent}."


def test_simulated_readings_do_not_leave_this_machine(gateway_toml: Path) -> None:
    text = gateway_toml.read_text(encoding="utf-8")
    gateway_toml.write_text(text.replace("127.0.0.1", "mqtt.example.invalid"), encoding="utf-8")
    ended = tankgate("run", "--simulated", gateway_toml)
    assert ended.returncode == USAGE
    assert "mqtt.example.invalid of destination district is not this machine" in ended.stderr
    assert not (gateway_toml.parent / "store").exists()


def test_status_without_a_daemon(gateway_toml: Path) -> None:
    ended = tankgate("status", gateway_toml)
    assert ended.returncode == UNREACHABLE
    assert "no daemon answers" in ended.stderr and "Traceback" not in ended.stderr


def test_status_of_a_running_daemon_and_its_end(gateway_toml: Path, daemon: subprocess.Popen[bytes]) -> None:
    status = json.loads(tankgate("status", "--json", gateway_toml).stdout)
    assert status["notice"] == AUXILIARY
    assert (status["gateway"], status["mode"], status["pid"]) == ("jt-0042", "simulated", daemon.pid)
    assert [(bus["bus"], bus["state"], bus["hour"]["overruns"]) for bus in status["buses"]] == [
        ("level", None, 0), ("gas-a", None, 0), ("gas-b", None, 0)
    ]
    assert (len(status["units"]), status["troubles"]) == (17, [])
    assert {unit["bus"]: (unit["hour"]["ok"], unit["last_ok_ms"]) for unit in status["units"]}["level"] == (0, None)
    tables = tankgate("status", gateway_toml)
    assert tables.returncode == 0
    for words in ("gateway jt-0042: 示例化工 1# 罐区", "cab2", "district", "TK101.level", "board down"):
        assert words in tables.stdout
    daemon.send_signal(signal.SIGTERM)
    assert daemon.wait(timeout=20) == 0
    assert tankgate("status", gateway_toml).returncode == UNREACHABLE


@pytest.mark.parametrize(("language", "words", "foreign"), [("en", "simulated", "模拟"), ("zh", "模拟", "simulated")])
def test_status_in_80_columns(
    gateway_toml: Path, daemon: subprocess.Popen[bytes], language: str, words: str, foreign: str
) -> None:
    told = tankgate("status", gateway_toml, language=language, columns=80).stdout
    lines = told.splitlines()
    assert len(lines) > 50 and max(map(cell_len, lines)) <= 80
    (point,) = [line for line in lines if line.startswith("TK101.level")]
    assert "甲醇罐液位" in point and "vegapuls-modbus" in point
    assert [line.split()[:2] for line in lines].count(["gas-b", "20"]) == 1
    assert words in told and foreign not in told
    assert "报警状态" not in told  # the status of a bus is none of an alarm


def test_the_door_takes_a_press_of_nobody_as_little_as_an_acknowledgement(
    gateway_toml: Path, daemon: subprocess.Popen[bytes]
) -> None:
    door = Path(load_site(gateway_toml).store.path, NAME)
    for do in ("mute", "test"):
        assert ask(door, {"do": do, "by": " "}) == {"refused": "who_empty", "field": "by"}
        assert ask(door, {"do": do, "by": "R" * 65}) == {"refused": "who_too_long", "field": "by"}
        assert ask(door, {"do": do, "by": "R7"}) == {"done": True}


def test_spans_are_told_in_the_unit_that_a_person_counts_them_in() -> None:
    spans = (0.14, 119, 120, 7199, 7200, 172_799, 172_800, 864_000)
    told = ["0.1 s", "119 s", "2 min", "119 min", "2 h", "47 h", "2 d", "10 d"]
    assert [span_text(span_s) for span_s in spans] == told


def test_a_second_daemon_on_the_same_store_leaves_the_first_alone(
    gateway_toml: Path, daemon: subprocess.Popen[bytes]
) -> None:
    before = json.loads(tankgate("status", "--json", gateway_toml).stdout)
    second = tankgate("run", "--simulated", gateway_toml)
    assert second.returncode == BUSY
    assert "another daemon runs on this store" in second.stderr and "Traceback" not in second.stderr
    after = json.loads(tankgate("status", "--json", gateway_toml).stdout)
    assert (after["pid"], after["epoch"]) == (daemon.pid, before["epoch"])


def said_until(gateway_toml: Path, sentence: str) -> str:
    """What a daemon says until it has said this; it is stopped then."""
    command = [sys.executable, "-m", "edge", "run", "--simulated", "--lang", "en", str(gateway_toml)]
    with subprocess.Popen(command, cwd=ROOT, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        said = ""
        for said_line in process.stderr:
            said += said_line
            if sentence in said_line:
                process.send_signal(signal.SIGTERM)
    assert process.returncode == 0, said
    return said


def test_bad_files_are_told_in_full_where_last_good_ones_are_run_on(gateway_toml: Path) -> None:
    said_until(gateway_toml, "running, epoch")
    good = gateway_toml.read_text(encoding="utf-8")
    bad = good.replace('board = "cab2"', 'board = "cap2"').replace("schema = 1", "schema = 7")
    gateway_toml.write_text(bad, encoding="utf-8")
    said = said_until(gateway_toml, "running, epoch")
    for words in ("gateway.toml line 2 [schema] = 7", "E-BRD-002", "running on the last good files", "22 points"):
        assert words in said
    assert "Traceback" not in said


def alarms_of(gateway_toml: Path) -> list[dict[str, Any]]:
    alarms: list[dict[str, Any]] = json.loads(tankgate("status", "--json", gateway_toml).stdout)["alarms"]
    return alarms


def test_status_of_a_daemon_whose_files_are_bad(gateway_toml: Path, daemon: subprocess.Popen[bytes]) -> None:
    assert tankgate("status", gateway_toml).returncode == 0
    (gateway_toml.parent / "points.csv").write_text("", encoding="utf-8")
    daemon.send_signal(signal.SIGHUP)
    deadline = time.monotonic() + 20
    while not (found := [each for each in alarms_of(gateway_toml) if each["point"] is None]):
        assert time.monotonic() < deadline
    (alarm,) = found  # no board ever comes, so that in time all points are stale as well
    assert (alarm["alarm"], alarm["state"], alarm["occurrence"]) == ("system.config:FAULT", "UNACK", 1)
    tables = tankgate("status", gateway_toml)
    assert tables.returncode == 0 and "system.config:FAULT" in tables.stdout and "甲醇罐液位" in tables.stdout


def test_an_alarm_of_the_gateway_outlives_it_and_is_over_where_its_cause_is(gateway_toml: Path) -> None:
    good = gateway_toml.read_text(encoding="utf-8")
    said_until(gateway_toml, "running, epoch")
    gateway_toml.write_text(good.replace("schema = 1", "schema = 7"), encoding="utf-8")
    said_until(gateway_toml, "running, epoch")
    gateway_toml.write_text(good, encoding="utf-8")
    with running(gateway_toml):
        (alarm,) = (each for each in alarms_of(gateway_toml) if each["alarm"] == "system.config:FAULT")
        assert (alarm["state"], alarm["occurrence"], alarm["active"]) == ("RTNUN", 1, False)
        acked = tankgate("alarms", "ack", gateway_toml, "system.config:FAULT", "--occurrence", "1", "--by", "R7")
        assert acked.returncode == 0, acked.stderr
    with running(gateway_toml):
        assert [each for each in alarms_of(gateway_toml) if each["alarm"] == "system.config:FAULT"] == []


def test_a_change_that_would_send_simulated_readings_away_is_refused(
    gateway_toml: Path, daemon: subprocess.Popen[bytes]
) -> None:
    text = gateway_toml.read_text(encoding="utf-8")
    gateway_toml.write_text(text.replace("127.0.0.1", "mqtt.example.invalid"), encoding="utf-8")
    ended = tankgate("config", "apply", gateway_toml)
    assert ended.returncode == USAGE
    assert "mqtt.example.invalid of destination district is not this machine" in ended.stderr
    status = json.loads(tankgate("status", "--json", gateway_toml).stdout)
    assert status["destinations"][0]["url"].startswith("mqtt://127.0.0.1")


def test_who_applies_is_answered_in_his_own_language(gateway_toml: Path, daemon: subprocess.Popen[bytes]) -> None:
    """Of what only the daemon knows; it speaks as its environment does before and after."""
    text = gateway_toml.read_text(encoding="utf-8")
    gateway_toml.write_text(text.replace('"jt-0042"', '"jt-0043"'), encoding="utf-8")
    line = text[: text.index('"jt-0042"')].count("\n") + 1
    answers = {
        "zh": f"gateway.toml 第 {line} 行 [site.gateway] = jt-0043：运行中的网关是 jt-0042。"
        "要改它，请重启守护程序。 E-APL-001",
        "en": f"gateway.toml line {line} [site.gateway] = jt-0043: the running gateway has jt-0042. "
        "To change it, restart the daemon. E-APL-001",
    }
    for language in ("zh", "en", "zh"):
        ended = tankgate("config", "apply", gateway_toml, language=language)
        assert (ended.returncode, answers[language] in ended.stderr.splitlines()) == (USAGE, True), ended.stderr


def test_a_certificate_that_cannot_be_used_changes_nothing(
    gateway_toml: Path, daemon: subprocess.Popen[bytes]
) -> None:
    text = gateway_toml.read_text(encoding="utf-8")
    wrong = 'url = "mqtts://127.0.0.1:1883"\nca = "missing.pem"'
    text = text.replace('url  = "mqtt://127.0.0.1:1883"', wrong).replace("示例化工", "另一化工")
    gateway_toml.write_text(text, encoding="utf-8")
    before = json.loads(tankgate("status", "--json", gateway_toml).stdout)
    ended = tankgate("config", "apply", gateway_toml)
    assert (ended.returncode, "missing.pem" in ended.stderr) == (USAGE, True)
    after = json.loads(tankgate("status", "--json", gateway_toml).stdout)
    assert (after["birth"], after["destinations"][0]["url"]) == (before["birth"], before["destinations"][0]["url"])


def test_apply_without_a_daemon_and_with_more_than_a_line_can_carry(gateway_toml: Path) -> None:
    ended = tankgate("config", "apply", gateway_toml)
    assert ended.returncode == UNREACHABLE and "no daemon answers" in ended.stderr
    text = gateway_toml.read_text(encoding="utf-8")
    gateway_toml.write_text(text.replace("19200 8N1", "1200 8N1"), encoding="utf-8")
    ended = tankgate("config", "apply", gateway_toml)
    assert ended.returncode == USAGE and "E-PER-001" in ended.stderr
    assert "points.csv row 14 GD01.gas [周期s period_s] = 1:" in ended.stderr


@pytest.mark.parametrize(
    ("line", "wrong", "said"),
    [
        ('path      = "store"', 'path = "points.csv/store"', "points.csv"),
        ('url  = "mqtt://127.0.0.1:1883"', 'url = "mqtts://127.0.0.1:1883"\nca = "missing.pem"', "missing.pem"),
    ],
)
def test_a_place_or_a_certificate_that_cannot_be_used_is_one_sentence(
    gateway_toml: Path, line: str, wrong: str, said: str
) -> None:
    text = gateway_toml.read_text(encoding="utf-8")
    assert line in text
    gateway_toml.write_text(text.replace(line, wrong), encoding="utf-8")
    ended = tankgate("run", "--simulated", gateway_toml)
    assert ended.returncode == FOUND_A_FAULT
    assert "jt-0042: cannot start" in ended.stderr and said in ended.stderr
    assert "Run `tankgate doctor` as this user" in ended.stderr
    assert "Traceback" not in ended.stderr


def test_a_stored_plan_that_this_version_cannot_read_is_left_out_and_told(gateway_toml: Path) -> None:
    def runs() -> list[str]:
        said = said_until(gateway_toml, "running, epoch")
        return [said_line for said_line in said.splitlines() if "stored plan" in said_line]

    assert runs() == []
    with closing(sqlite3.connect(gateway_toml.parent / "store" / "tankgate.db")) as store, store:
        (meaning,) = store.execute("SELECT meaning FROM plan WHERE board = 'cab1'").fetchone()
        unreadable = [meaning.replace("function_code", "fc"), meaning.replace('channels.level', 'channels.Level ?')]
        for generation, text in zip((7, 8), unreadable, strict=True):
            assert text != meaning
            store.execute("INSERT INTO plan VALUES ('cab1', ?, x'00', ?)", (generation, text))
    seventh, eighth = runs()
    assert "cab1" in seventh and "generation 7" in seventh and "generation 8" in eighth


def test_a_replaced_unit_waits_for_a_person_and_stays_accepted(gateway_toml: Path) -> None:
    """A store that knows the detector of gas-a by one serial number and has seen another one."""
    (gateway_toml.parent / "profiles").mkdir()
    text = (ROOT / "protocols" / "profiles" / "sensepoint-xcd.toml").read_text(encoding="utf-8")
    text = text.replace("[channels.gas]", "[serial]\nfunction_code = 3\naddress = 40046\ncount = 1\n[channels.gas]")
    (gateway_toml.parent / "profiles" / "sensepoint-xcd.toml").write_text(text, encoding="utf-8")
    accept = ("unit", "accept", gateway_toml, "gas-a", "3", "--by", "Li", "--reason", "new cell")
    assert tankgate(*accept).returncode == UNREACHABLE
    store_file = gateway_toml.parent / "store" / "tankgate.db"
    with running(gateway_toml):
        assert tankgate("status", "--json", gateway_toml).returncode == 0
    with closing(sqlite3.connect(store_file)) as store, store:
        store.execute("INSERT INTO held VALUES ('gas-a', 3, 'sensepoint-xcd', 3, 45, 1, x'0001', x'0002')")
    with running(gateway_toml):
        assert json.loads(tankgate("status", "--json", gateway_toml).stdout)["replaced"] == [["gas-a", 3]]
        other = tankgate("unit", "accept", gateway_toml, "gas-a", "4")
        assert other.returncode == FOUND_A_FAULT and "nothing to accept" in other.stderr
        unknown = tankgate("unit", "accept", gateway_toml, "gas-a", "40")
        assert unknown.returncode == USAGE and "no unit 40" in unknown.stderr
        assert "Allowed are: 1, 2, 3, 4, 5, 6." in unknown.stderr
        elsewhere = tankgate("unit", "accept", gateway_toml, "gas-x", "3")
        assert "Allowed are: gas-a, gas-b, level." in elsewhere.stderr
        accepted = tankgate(*accept)
        assert (accepted.returncode, accepted.stderr.count("Traceback")) == (0, 0)
        assert "gas-a unit 3: accepted" in accepted.stdout
    with running(gateway_toml):
        assert json.loads(tankgate("status", "--json", gateway_toml).stdout)["replaced"] == []
    with closing(sqlite3.connect(store_file)) as store:
        assert store.execute("SELECT known, seen FROM held").fetchall() == [(b"\0\2", b"\0\2")]
        ((body,),) = store.execute("SELECT body FROM message WHERE kind = 'action'").fetchall()
    action = json.loads(body)
    assert (action["by"], action["reason"], action["unit"]) == ("Li", "new cell", {"bus": "gas-a", "unit_id": 3})


def test_a_gateway_starts_without_its_store_and_takes_it_when_it_can(gateway_toml: Path) -> None:
    """What lies in the place of the file cannot be opened, as a file on a broken disk."""
    folder = gateway_toml.parent / "store"
    with running(gateway_toml):
        assert json.loads(tankgate("status", "--json", gateway_toml).stdout)["store"]["state"] == "ok"
    with closing(sqlite3.connect(folder / "tankgate.db")) as store:
        ((before,),) = store.execute("SELECT epoch FROM epoch").fetchall()
    (folder / "tankgate.db").rename(folder / "away")
    (folder / "tankgate.db").mkdir()
    with running(gateway_toml):
        status = json.loads(tankgate("status", "--json", gateway_toml).stdout)
        assert status["store"]["state"] == "fault" and "it is a folder" in status["store"]["fault"]
        assert [alarm["alarm"] for alarm in status["alarms"]] == ["system.store:FAULT"]
        assert tankgate("buffer", "status", gateway_toml).returncode == FOUND_A_FAULT
        refused = tankgate("config", "apply", gateway_toml)
        assert refused.returncode != 0 and "must be on disk" in refused.stderr + refused.stdout
        (folder / "tankgate.db").rmdir()
        (folder / "away").rename(folder / "tankgate.db")
        deadline = time.monotonic() + 20
        while status["store"]["state"] != "ok":
            assert time.monotonic() < deadline, status["store"]
            status = json.loads(tankgate("status", "--json", gateway_toml).stdout)
        destinations = json.loads(tankgate("buffer", "status", "--json", gateway_toml).stdout)["destinations"]
        assert {stream["epoch"] for stream in destinations[0]["streams"]} == {before, status["epoch"]}
    with closing(sqlite3.connect(folder / "tankgate.db")) as store:
        kinds = "SELECT kind FROM message WHERE epoch = (SELECT max(id) FROM epoch) ORDER BY seq"
        assert [kind for (kind,) in store.execute(kinds)][:2] == ["birth", "alarm"]


def test_a_gateway_that_ends_without_its_store_says_what_is_lost(gateway_toml: Path) -> None:
    store = gateway_toml.parent / "store"
    (store / "tankgate.db").mkdir(parents=True)
    command = [sys.executable, "-m", "edge", "--lang", "en", "run", "--simulated", str(gateway_toml)]
    with subprocess.Popen(command, cwd=ROOT, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        while "Everything else goes on" not in (line := process.stderr.readline()):
            assert line
        process.terminate()
        last = process.stderr.read().splitlines()[-1]
    assert process.returncode == FOUND_A_FAULT
    assert "What only memory had is lost" in last and "it is a folder" in last


@pytest.mark.parametrize("command", ["run", "status"])
def test_problems_are_one_object_for_programs(gateway_toml: Path, command: str) -> None:
    text = gateway_toml.read_text(encoding="utf-8").replace("schema = 1", "schema = 7")
    gateway_toml.write_text(text, encoding="utf-8")
    ended = tankgate(command, "--json", gateway_toml)
    assert ended.returncode == USAGE
    (problem,) = json.loads(ended.stdout)["problems"]
    assert (problem["code"], problem["line"], problem["field"], problem["value"]) == ("E-VAL-003", 2, "schema", "7")


def test_the_log_is_json_lines_for_programs(gateway_toml: Path) -> None:
    command = [sys.executable, "-m", "edge", "run", "--simulated", "--json", str(gateway_toml)]
    with subprocess.Popen(command, cwd=ROOT, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        first = json.loads(process.stderr.readline())
        process.send_signal(signal.SIGTERM)
        last = [json.loads(line) for line in process.stderr][-1]
    assert first["level"] in ("INFO", "WARNING") and "jt-0042" in last["text"]
    assert process.returncode == 0


def test_the_daemon_does_not_carry_what_checked_its_files(daemon: subprocess.Popen[bytes]) -> None:
    assert "pydantic" not in Path(f"/proc/{daemon.pid}/maps").read_text(encoding="utf-8")
