"""`tankgate alarms` as people see it, in both languages: its commands at the daemon's own door and requests."""

import fcntl
import json
import os
import pty
import re
import select
import signal
import struct
import subprocess
import sys
import termios
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from io import StringIO
from pathlib import Path
from shutil import copytree
from typing import Any

import pytest
from click.testing import CliRunner, Result
from rich.cells import cell_len
from rich.console import Console

from edge.alarms.requests import Requests
from edge.alarms.system import SystemAlarms
from edge.alarms.words import AUXILIARY
from edge.cli import alarms as alarms_command
from edge.cli.alarms import command as alarms
from edge.config import load_site
from edge.control import NAME, Door
from tests.edge.test_alarms_command import event, keep
from tests.edge.test_config import speaking
from tests.edge.test_judge import Judged
from tests.edge.test_pipeline import START_MS

ROOT = Path(__file__).parents[2]
EXAMPLE = ROOT / "hil_tests" / "site"
STALE_AND_HIGH = ["GD07.gas:STALE"], ["GD07.gas:H"]
VOTE = "\n[voting.yard]\npoints = [\"GD01.gas\", \"GD02.gas\", \"GD03.gas\"]\nrule = \"2oo3\"\n"


class Gateway:
    """The example's alarms behind its door. `world` is given readings, `ask` is `tankgate alarms`."""

    def __init__(self, folder: Path, site: Any) -> None:
        self.folder = folder
        self.world = Judged(site)
        self.system = SystemAlarms()
        self.requests = Requests(self.world.judge, self.system)
        self.site = site
        self._is_over = threading.Event()
        self.open()

    def open(self) -> None:
        self.door = Door(self.folder / "store" / NAME)
        self._is_over.clear()
        self._thread = threading.Thread(target=self._serve)
        self._thread.start()

    def _serve(self) -> None:
        while not self._is_over.is_set():
            readable, _writable, _odd = select.select(self.door.filenos(), [], [], 0.02)
            for fileno in readable:
                for client, request in self.door.receive(fileno):
                    answer, _told = self.requests.answer(request, self.world.now_s, START_MS, START_MS)
                    self.door.reply(client, answer)

    def has_a_journal(self) -> None:
        """Of one alarm."""
        keep(self.folder, event(1, "GD01.gas:H", "raise", START_MS))

    def close(self) -> None:
        """The daemon is gone; `open` brings it back."""
        if self._is_over.is_set():
            return
        self._is_over.set()
        self._thread.join()
        self.door.close()

    def ask(self, *words: str, columns: int = 200) -> Result:
        name, *others = words
        environment = {"COLUMNS": str(columns)}
        return CliRunner(env=environment).invoke(alarms, [name, str(self.folder / "gateway.toml"), *others])


@pytest.fixture(params=["en", "zh"])
def language(request: pytest.FixtureRequest, locale_dir: Path) -> Iterator[str]:
    with speaking(locale_dir) as speak:
        speak({"en": "en", "zh": "zh_CN"}[request.param])
        yield request.param


@pytest.fixture
def gateway(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Gateway]:
    """It is START_MS. GD01 to GD03 vote."""
    monkeypatch.setattr("time.time", lambda: START_MS / 1000)
    folder = Path(copytree(EXAMPLE, tmp_path / "site"))
    (folder / "store").mkdir()
    with (folder / "gateway.toml").open("a", encoding="utf-8") as file:
        file.write(VOTE)
    sheet = folder / "points.csv"
    lines = sheet.read_text(encoding="utf-8").splitlines()
    more = ["后果 consequence,可用时间min minutes_to_act", *["满罐溢出,12"] * 6, *[","] * (len(lines) - 7)]
    sheet.write_text("\n".join(map(",".join, zip(lines, more, strict=True))) + "\n", encoding="utf-8")
    gateway = Gateway(folder, load_site(folder / "gateway.toml"))
    yield gateway
    gateway.close()


def rows(said: str) -> list[list[str]]:
    """The cells of each line: columns are two blanks apart."""
    return [[cell.strip() for cell in line.split("  ") if cell.strip()] for line in said.splitlines()]


def test_the_list_says_first_out_value_limit_area_and_what_to_do(gateway: Gateway, language: str) -> None:
    gateway.world.at(1, "GD07.gas", 30.0)
    gateway.world.at(2, "GD07.gas", 52.5)
    gateway.world.at(3, "TK101.level", 11.0)
    said = gateway.ask("list", columns=250)
    assert said.exit_code == 1 and {"en": "since", "zh": "起始时间"}[language] in said.output
    told = rows(said.output)
    (high,) = (row for row in told if "GD07.gas:H" in row)
    (second,) = (row for row in told if "GD07.gas:HH" in row)
    (level,) = (row for row in told if "TK101.level:H" in row)
    first, not_first = {
        "en": ("unacknowledged, first-out", "unacknowledged"), "zh": ("未确认，首发", "未确认")
    }[language]  # fmt: skip
    assert first in high and first in level and not_first in second
    assert "52.5 %LEL" in high and "≥ 25 %LEL" in high and "≥ 50 %LEL" in second and "泵房" in high
    otherwise = {"en": "within 12 min, or else: 满罐溢出", "zh": "12 分钟内，否则：满罐溢出"}[language]
    assert "11.000 m" in level and "停止进料；核对现场液位计；通知班长" in level
    assert [otherwise] in told and said.output.count("满罐溢出") == 1
    row = json.loads(gateway.ask("list", "--json").output)["alarms"][-1]
    assert row["alarm"] == "TK101.level:H"
    expected = {"value": 11.0, "status": 0, "setpoint": 10.8, "area": "罐区A", "first_out": True, "rests_on": None}
    expected |= {"consequence": "满罐溢出", "minutes_to_act": 12}
    assert {name: row[name] for name in expected} == expected


def test_the_list_says_what_a_vote_rests_on_and_until_when_one_is_shelved(gateway: Gateway, language: str) -> None:
    for second, point in enumerate(("GD01.gas", "GD02.gas", "GD03.gas", "GD07.gas", "GD07.gas"), 1):
        gateway.world.at(second, point, 30.0)
    gateway.world.bypass("point", "GD03.gas")
    shelved = gateway.ask("shelve", "GD07.gas:H", "--for", "1h", "--by", "R7", "--reason", "noise")
    assert shelved.exit_code == 0, shelved.output
    told = rows(gateway.ask("list", columns=250).output)
    (vote,) = (row for row in told if "vote.yard:VOTE" in row)
    assert {"en": "2 needed, rests on 2", "zh": "需 2 路，现有 2 路参与"}[language] in vote
    (high,) = (row for row in told if "GD07.gas:H" in row)
    assert {"en": "until 2026-11-23 11:30", "zh": "，至 2026-11-23 11:30"}[language] in " ".join(high)


SAID = {
    "list": (),
    "ack": ("GD07.gas:HH", "--occurrence", "1", "--by", "R7"),
    "reset": ("GD05.gas:H", "--by", "R7"),
    "shelve": ("GD07.gas:H", "--for", "1h", "--by", "R7", "--reason", "noise"),
    "unshelve": ("GD06.gas:H", "--by", "R7"),
    "note": ("GD07.gas:HH", "on the way", "--by", "R7"),
    "bypass": ("--point", "TK101.level", "--permit", "HW-17", "--owner", "R7", "--reason", "x", "--for", "1h"),
    "drill": ("--owner", "R7", "--reason", "x", "--for", "1h"),
    "end": ("1", "--by", "R7"),
    "bypasses": (),
    "history": (),
    "report": (),
}


@pytest.mark.parametrize("name", SAID)
def test_every_answer_about_alarms_says_what_they_are_not(gateway: Gateway, language: str, name: str) -> None:
    assert set(SAID) == set(alarms.commands) - {"live"}  # which test_a_list_longer_than_the_screen sees to
    gateway.has_a_journal()
    for second, (point, value) in enumerate((("GD07.gas", 52.5), ("GD06.gas", 30.0), ("GD05.gas", 30.0)), 1):
        gateway.world.at(second, point, value)
    gateway.world.at(4, "GD05.gas", 0.0)
    gateway.world.at(60, "GD05.gas", 0.0)
    gateway.world.command("GD05.gas:H", "ack", occurrence=1)
    gateway.world.command("GD06.gas:H", "shelve", until_ms=START_MS + 60_000)
    gateway.world.bypass("point", "GD04.gas")
    said = gateway.ask(name, *SAID[name])
    assert said.exit_code == (1 if name == "list" else 0), said.output
    assert said.output.rstrip().endswith(AUXILIARY)


@pytest.mark.parametrize("name", SAID)
def test_every_answer_to_a_program_says_so_as_well(gateway: Gateway, name: str) -> None:
    gateway.has_a_journal()
    gateway.world.at(1, "GD07.gas", 52.5)
    gateway.world.bypass("point", "GD04.gas")
    lines = gateway.ask(name, *SAID[name], "--json").stdout.splitlines()
    assert lines and all(json.loads(line)["notice"] == AUXILIARY for line in lines)


@contextmanager
def live(folder: Path, language: str, height: int, width: int) -> Iterator[Callable[[str], str]]:
    """`tankgate alarms live` on a terminal of this size: what it has drawn since, as soon as this is in it."""
    near, far = pty.openpty()
    fcntl.ioctl(far, termios.TIOCSWINSZ, struct.pack("HHHH", height, width, 0, 0))
    command = [sys.executable, "-m", "edge", "--lang", language, "alarms", "live", str(folder / "gateway.toml")]
    environment = {"PATH": os.environ["PATH"], "LC_ALL": "C.UTF-8", "TERM": "xterm"}
    with subprocess.Popen(command, cwd=ROOT, env=environment, stdin=far, stdout=far, stderr=far) as process:
        os.close(far)
        drawn = bytearray()

        def until(words: str) -> str:
            end_s = time.monotonic() + 60
            while words.encode() not in drawn:
                assert time.monotonic() < end_s, drawn.decode(errors="replace")[-2000:]
                if select.select([near], [], [], 0.1)[0]:
                    drawn.extend(os.read(near, 65536))
            said = drawn.decode(errors="replace")
            drawn.clear()
            return said

        yield until
        process.send_signal(signal.SIGINT)
        while process.poll() is None:  # it may have something to say, and waits until somebody reads it
            if select.select([near], [], [], 0.05)[0]:
                with suppress(OSError):
                    os.read(near, 65536)
        os.close(near)
        assert process.returncode == 0


@pytest.mark.parametrize(("height", "width"), [(24, 80), (40, 120), (12, 80)])
def test_a_list_longer_than_the_screen_keeps_the_notice_the_drill_and_the_count(
    gateway: Gateway, language: str, height: int, width: int
) -> None:
    for second, point in enumerate([f"GD0{n}.gas" for n in range(1, 8)], 1):
        gateway.world.at(second, point, 60.0)
    gateway.world.bypass("drill", "")
    rows = gateway.requests.rows()
    console = Console(width=width, height=height, file=StringIO(), force_terminal=True, legacy_windows=False)
    said = {"alarms": rows, "bypasses": [], "is_drill": True}
    lines = console.render_lines(alarms_command.Screen(said, gateway.site), pad=False)
    told = ["".join(segment.text for segment in line).rstrip() for line in lines]
    assert len(told) <= height and all(cell_len(line) <= width for line in told)
    text = "".join(told).replace(" ", "")
    assert "".join(AUXILIARY.split()) in text
    total, more, played = {
        "en": (f"{len(rows)} alarms stand", " more", "DRILL"), "zh": (f"{len(rows)} 条报警", "还有 ", "演练")
    }[language]  # fmt: skip
    assert any(total in line for line in told) and any(played in line for line in told)
    shown = sum(row["alarm"] in text for row in rows if row["alarm"].endswith(":HH"))
    (rest,) = (int(re.search(r"\d+", line)[0]) for line in told if more in line)  # type: ignore[index]
    assert shown >= (1 if height > 12 else 0) and 0 < rest < len(rows) + 1


def test_live_waits_for_the_daemon_and_goes_on_with_it(gateway: Gateway) -> None:
    gateway.world.at(1, "GD07.gas", 60.0)
    with live(gateway.folder, "en", 24, 80) as until:
        until("GD07.gas:HH")
        gateway.close()
        assert "GD07.gas:HH" not in until("no daemon answers")
        gateway.open()
        until("GD07.gas:HH")


PERMIT = ("--owner", "R7", "--reason", "x", "--for", "1h")


@pytest.mark.parametrize(
    ("words", "english", "chinese"),
    [
        (("ack", "GD07.gas:HH", "--occurrence", "1", "--by", " "), "--by: is blank: write a role or", "--by：是空白"),
        (("ack", "GD07.gas:HH", "--occurrence", "1", "--by", "R" * 65), "--by: is longer than 64", "--by：超过 64"),
        (("bypass", "--point", "TK101.level", "--permit", "", *PERMIT), "--permit: is blank", "--permit：是空白"),
        (("note", "GD07.gas:HH", " ", "--by", "R7"), "TEXT: is empty", "TEXT：是空的"),
        (("note", "GD07.gas:HH", "x" * 501, "--by", "R7"), "TEXT: is longer than 500", "TEXT：超过 500"),
        (("reset", "GD7.gas:HH", "--by", "R7"), "Did you mean “GD07.gas:HH”?", "是不是“GD07.gas:HH”？"),
        (("bypass", "--asset", "TK11", "--permit", "1", *PERMIT), "Did you mean “TK101”?", "是不是“TK101”？"),
        (("bypass", "--unit", "gasa/1", "--permit", "1", *PERMIT), "Did you mean “gas-a/1”?", "是不是“gas-a/1”？"),
    ],
)
def test_what_is_refused_names_field_limit_and_what_was_meant(
    gateway: Gateway, language: str, words: tuple[str, ...], english: str, chinese: str
) -> None:
    gateway.world.at(1, "GD07.gas", 52.5)
    before = gateway.requests.rows()
    said = gateway.ask(*words)
    assert said.exit_code == 1 and (english if language == "en" else chinese) in said.output, said.output
    assert gateway.requests.rows() == before


def test_a_value_that_is_no_more_is_not_shown_as_that_of_now(gateway: Gateway, language: str) -> None:
    gateway.world.at(1, "GD07.gas", 30.0)
    gateway.world.look(100.0)  # its board is silent
    told = [row for row in rows(gateway.ask("list", columns=250).output) if row[:1] in STALE_AND_HIGH]
    assert len(told) == 2 and not [cell for row in told for cell in row if "%LEL" in cell and "≥" not in cell]
