"""Change the site while it runs, rightly and wrongly, and start it on bad files. The bench's ledger is the judge.

One chain runs through all these tests; beside its receiver another one holds the whole stream to the feed's rules.
"""

import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from hil_tests.bench.ledger import Poll
from hil_tests.bench.rig import N_, Rig
from hil_tests.broker import HOST
from hil_tests.chain import Chain
from hil_tests.mosquitto import Mosquitto

pytestmark = pytest.mark.needs("mosquitto", "two_boards", "reset")

POINTS = 22
WITHIN_S = 45.0
USAGE = 2
TAKEN_MS = 1000  # how long a plan travels at most, so that the board's poll of that moment is the one given up
ROOT = Path(__file__).parents[1]
REPLACED: list[tuple[str, int, int]] = []  # boards that were given another plan, and between which moments


@pytest.fixture(scope="module")
def chain(rig: Rig, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Chain]:
    with pytest.MonkeyPatch.context() as environment:
        environment.setenv("LANGUAGE", "en")
        chain = Chain(tmp_path_factory.mktemp("change"), rig=rig)
        try:
            chain.start_broker(Mosquitto)
            chain.start_district()
            url = f"mqtt://{HOST}:{chain.broker.port}"
            checker = subprocess.Popen(
                [sys.executable, "-m", "edge", "listen", url, "--check"],
                cwd=ROOT,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
            )
            chain.start_boards()
            chain.start_gateway()
            until(chain, lambda: len(chain.latest) == POINTS)
            yield chain
            end_ms = chain.now_ms
            until(chain, lambda: not lost(chain, end_ms))
            checker.send_signal(signal.SIGINT)
            said, _nothing = checker.communicate(timeout=20)
            assert checker.returncode == 0, said
            figures = chain.figures()
            assert figures.duplicated == figures.wrong_values == 0, chain.bench.ledger.findings
            assert not chain.gaps
            assert "Traceback" not in chain.log("gateway").read_text(encoding="utf-8")
        finally:
            chain.close()


def until(chain: Chain, true: Callable[[], object]) -> None:
    """Let the bench work until it is so."""
    end_s = time.monotonic() + WITHIN_S
    while not true():
        log = chain.log("gateway")
        assert time.monotonic() < end_s and chain.ended() is None, log.exists() and log.read_text()[-3000:]
        chain.step(0.01)


def lost(chain: Chain, until_ms: int) -> list[Poll]:
    """Readings due up to then that have not arrived, but for the poll that a bus gives up when its plan is replaced."""
    boards = {point.point: chain.bench.sheet.bus(point.bus).board for point in chain.bench.sheet.points}
    return [
        poll
        for poll in chain.bench.ledger.missing(chain.now_ms, 0)
        if poll.utc_ms <= until_ms
        and not any(
            board == boards[poll.point] and from_ms <= poll.utc_ms <= to_ms for board, from_ms, to_ms in REPLACED
        )
    ]


def site_file(chain: Chain, name: str) -> Path:
    return chain.directory / "site" / name


def edit(path: Path, old: str, new: str) -> None:
    text = path.read_text(encoding="utf-8-sig")
    assert text.count(old) == 1
    path.write_text(text.replace(old, new), encoding="utf-8")


def sheet_row(chain: Chain, point: str) -> str:
    lines = site_file(chain, "points.csv").read_text(encoding="utf-8").splitlines(keepends=True)
    return next(line for line in lines if line.startswith(f"{point},"))


def apply(chain: Chain) -> tuple[int, str]:
    """What `tankgate config apply` ends with and says, but for reminders, while the bench works on."""
    start_ms = chain.now_ms
    command = [sys.executable, "-m", "edge", "config", "apply", str(site_file(chain, "gateway.toml"))]
    with (chain.directory / "apply.txt").open("w+") as said:
        process = subprocess.Popen(command, cwd=ROOT, stdout=said, stderr=subprocess.STDOUT)
        until(chain, lambda: process.poll() is not None)
        said.seek(0)
        lines = [line for line in said if not line.startswith("Reminder")]
    for line in lines:
        if line.startswith("boards with a new read plan: "):
            boards = line.strip().split(": ")[1].split(", ")
            REPLACED.extend((board, start_ms, chain.now_ms + TAKEN_MS) for board in boards)
    return process.returncode, "".join(lines)


def row(chain: Chain, point: str) -> dict[str, Any]:
    assert chain.birth is not None
    rows = [each for each in chain.birth["points"] if each["point"] == point]
    return rows[0] if rows else {}


def alarm(chain: Chain) -> dict[str, Any]:
    """The alarm of the site's files, as `tankgate status` has it."""
    alarms = [each for each in chain.status.get("alarms", ()) if each["alarm"] == "system.config:FAULT"]
    return alarms[0] if alarms else {"state": "NORM"}


def read_on(chain: Chain, *points: str) -> Callable[[], bool]:
    """Whether each of these points has a reading that was taken from now on."""
    start_ms = chain.now_ms
    return lambda: all(chain.latest[point].measured_ms >= start_ms for point in points)


def test_a_name_and_a_deadband_are_changed_by_a_signal(chain: Chain) -> None:
    assert chain.birth is not None
    before = chain.birth
    sheet = site_file(chain, "points.csv")
    edit(sheet, "TK101.level,甲醇罐液位", "TK101.level,甲醇储罐液位")
    line = sheet_row(chain, "TK105.level")
    edit(sheet, line, line.replace(",0.01,", ",0.005,"))
    chain.hang_up()
    until(chain, lambda: row(chain, "TK101.level")["name"] == "甲醇储罐液位")
    assert row(chain, "TK105.level")["deadband"] == 0.005
    assert (chain.birth["epoch"], chain.birth["birth"] != before["birth"]) == (before["epoch"], True)
    until(chain, read_on(chain, "TK101.level", "TK105.level", "GD07.gas"))


def test_nothing_new_changes_nothing(chain: Chain) -> None:
    assert apply(chain) == (0, "nothing changed\n")


@pytest.mark.shows(N_("A point is taken out of the sheet and put in again while the gateway runs; the others go on."))
def test_a_point_is_taken_out_and_the_others_go_on(chain: Chain) -> None:
    sheet = site_file(chain, "points.csv")
    taken_out = sheet_row(chain, "GD05.gas")
    edit(sheet, taken_out, "")
    planned = ["boards with a new read plan: cab1"]  # and no other
    code, said = apply(chain)
    assert (code, said.splitlines()[:-1]) == (0, ["points removed: GD05.gas"] + planned)
    until(chain, lambda: not row(chain, "GD05.gas"))
    until(chain, read_on(chain, "GD01.gas", "GD06.gas", "TK101.level", "GD07.gas"))
    assert all(value["point"] != "GD05.gas" for value in chain.status["values"])
    edit(sheet, "GD06.gas", f"{taken_out}GD06.gas")
    code, said = apply(chain)
    assert (code, said.splitlines()[:-1]) == (0, ["points added: GD05.gas"] + planned)
    until(chain, read_on(chain, "GD05.gas"))


@pytest.mark.shows(N_("A board whose points were all taken out polls nothing, and begins again with its points."))
def test_a_board_without_points_falls_silent_and_comes_back(chain: Chain) -> None:
    sheet = site_file(chain, "points.csv")
    good = sheet.read_text(encoding="utf-8")
    sheet.write_text("".join(line for line in good.splitlines(True) if ",gas-b," not in line), encoding="utf-8")
    assert "boards with a new read plan: cab2" in apply(chain)[1]
    line = chain.bench.buses["gas-b"].line
    asked = {"requests": 0, "since_s": 0.0}

    def is_silent() -> bool:
        if asked["requests"] != line.requests:
            asked.update(requests=line.requests, since_s=chain.bench.now_s())
        return chain.bench.now_s() - asked["since_s"] > 3.0  # its points were polled each second

    until(chain, is_silent)
    assert chain.status["boards"][1]["link"] == "up"
    sheet.write_text(good, encoding="utf-8")
    assert "boards with a new read plan: cab2" in apply(chain)[1]
    until(chain, read_on(chain, "GD07.gas", "TK101.temp"))


def files_alarms(chain: Chain) -> list[str]:
    """What the district has heard of the files."""
    return [each["transition"] for each in chain.alarms if each["alarm"] == "system.config:FAULT"]


@pytest.mark.shows(N_("A points sheet with a mistake is refused by name; the gateway goes on by the old one."))
def test_a_wrong_sheet_is_refused_and_the_old_one_goes_on(chain: Chain) -> None:
    assert chain.birth is not None
    before, told = chain.birth["birth"], len(files_alarms(chain))
    sheet = site_file(chain, "points.csv")
    good = sheet.read_text(encoding="utf-8")
    edit(sheet, "GD07.gas,泵房可燃气,泵房,gas-b,1,gas-module-6in1", "GD07.gas,泵房可燃气,泵房,gas-b,1,gas-module-7in1")
    code, said = apply(chain)
    assert (code, "GD07.gas [型号 profile] = gas-module-7in1" in said) == (USAGE, True)
    assert alarm(chain)["state"] == "NORM"  # whoever applies reads it
    chain.hang_up()
    until(chain, lambda: alarm(chain)["state"] == "UNACK")
    assert "GD07.gas [型号 profile] = gas-module-7in1" in alarm(chain)["action"]
    until(chain, read_on(chain, "GD07.gas", "TK101.level"))
    assert chain.birth["birth"] == before
    sheet.write_text(good, encoding="utf-8")
    chain.hang_up()
    until(chain, lambda: alarm(chain)["state"] == "RTNUN")
    until(chain, lambda: len(files_alarms(chain)) == told + 2)


def test_what_only_a_restart_changes_is_refused_in_words(chain: Chain) -> None:
    gateway_toml = site_file(chain, "gateway.toml")
    edit(gateway_toml, 'gateway  = "jt-0042"', 'gateway  = "jt-0043"')
    code, said = apply(chain)
    text = gateway_toml.read_text(encoding="utf-8")
    line = text[: text.index('gateway  = "jt-0043"')].count("\n") + 1
    edit(gateway_toml, 'gateway  = "jt-0043"', 'gateway  = "jt-0042"')
    assert code == USAGE
    told = "the running gateway has jt-0042. To change it, restart the daemon. E-APL-001"
    assert f"gateway.toml line {line} [site.gateway] = jt-0043: {told}" in said


def test_a_destination_comes_and_goes_beside_the_others(chain: Chain) -> None:
    gateway_toml = site_file(chain, "gateway.toml")
    good = gateway_toml.read_text(encoding="utf-8")
    url = f"mqtt://{HOST}:1"
    gateway_toml.write_text(f'{good}\n[destinations.second]\nurl = "{url}"\nfeed = "json"\n', encoding="utf-8")
    code, said = apply(chain)
    assert (code, "destinations started: second" in said, "read plan" in said) == (0, True, False)
    until(chain, lambda: len(chain.status.get("destinations", ())) == 2)
    assert chain.is_online
    gateway_toml.write_text(good, encoding="utf-8")
    assert "destinations stopped: second" in apply(chain)[1]
    until(chain, lambda: [each["destination"] for each in chain.status["destinations"]] == ["district"])
    until(chain, read_on(chain, "TK101.level", "GD07.gas"))


@pytest.mark.shows(N_("A gateway that starts on damaged site files runs on the last good ones, and says so."))
@pytest.mark.parametrize("bad", ["", '[site]\ngateway = "jt-0042\n'], ids=["empty", "no TOML"])
def test_a_gateway_that_starts_on_bad_files_runs_on_the_last_good_ones(chain: Chain, bad: str) -> None:
    gateway_toml = site_file(chain, "gateway.toml")
    good = gateway_toml.read_text(encoding="utf-8")
    assert chain.stop_gateway() == 0
    gateway_toml.write_text(bad, encoding="utf-8")
    chain.start_gateway()
    until(chain, lambda: alarm(chain)["state"] == "UNACK")
    until(chain, read_on(chain, "TK101.level", "GD07.gas"))
    assert "running on the last good files" in chain.log("gateway").read_text(encoding="utf-8")
    gateway_toml.write_text(good, encoding="utf-8")
    assert apply(chain) == (0, "nothing changed\n")
    until(chain, lambda: alarm(chain)["state"] == "RTNUN")
