"""`tankgate alarms`: what happened and how well alarms serve, from a store without a gateway; what is refused."""

import json
from pathlib import Path
from shutil import copytree
from typing import Any

import pytest
from click.testing import CliRunner, Result

from edge.alarms.words import AUXILIARY
from edge.batch import Batch, Message
from edge.cli.alarms import command as alarms
from tests.edge.test_alarm_store import told
from tests.edge.test_store import BIRTH, commit, open_store

EXAMPLE = Path(__file__).parents[2] / "hil_tests" / "site"
MINUTE_MS = 60_000
DAY_MS = 86_400_000
NOW_MS = 1_795_401_000_000  # 2026-11-23T10:30 in Shanghai


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A site's folder; its store lies in `store`. It is NOW_MS."""
    monkeypatch.setattr("time.time", lambda: NOW_MS / 1000)
    site = Path(copytree(EXAMPLE, tmp_path / "site"))
    (site / "store").mkdir()
    return site


def event(seq: int, alarm: str, transition: str, t_ms: int, to: str = "UNACK", **more: Any) -> Message:
    active = transition in ("raise", "re_alarm")
    content = {
        "alarm": alarm, "occurrence": 1, "transition": transition, "to": to, "mode": "live", "priority": 2,
        "t_ms": t_ms, "decided_ms": t_ms, "judged_late": False, "facts": {"active": active}, "value": 30.5,
        "by": None, "reason": None,
    }  # fmt: skip
    return Message("event", seq, "alarm", BIRTH, json.dumps(content | more).encode(), None)


def keep(folder: Path, *messages: Message) -> None:
    store = open_store(folder / "store")
    batches: list[Batch] = [told(*messages)]
    commit(store, batches)
    store.close()


def ask(folder: Path, *words: str) -> Result:
    name, *others = words
    return CliRunner().invoke(alarms, [name, str(folder / "gateway.toml"), *others])


def test_the_report_counts_what_disturbed_somebody(folder: Path) -> None:
    flood = [event(i, f"TK10{i % 6}.level:H", "raise", NOW_MS - (30 - i) * 1000) for i in range(1, 13)]
    keep(
        folder,
        event(20, "GD01.gas:H", "raise", NOW_MS - 2 * DAY_MS),  # stands since
        event(21, "GD02.gas:H", "raise", NOW_MS - 9 * DAY_MS),  # stands since, beyond what is reported
        event(22, "GD03.gas:H", "raise", NOW_MS, "OOSRV", mode="test"),
        event(23, "GD03.gas:HH", "raise", NOW_MS, mode="drill"),
        event(24, "GD04.gas:H", "raise", NOW_MS, "SHLVD"),
        *flood,
    )
    report = json.loads(ask(folder, "report", "--json").output)
    days = report["days"]
    assert list(days) == ["2026-11-21", "2026-11-23"]
    today = days["2026-11-23"]
    assert set(today["alarms"]) == {f"TK10{i}.level:H" for i in range(6)}
    assert (today["floods"], today["most_in_ten_minutes"], today["priorities"]) == (1, 12, {"2": 12})
    assert report["standing"] == ["GD01.gas:H", "GD02.gas:H"]
    assert report["notice"] == AUXILIARY
    said = ask(folder, "report").output
    assert "GD01.gas:H, GD02.gas:H" in said and AUXILIARY in said


def test_a_chattering_alarm_is_named(folder: Path) -> None:
    keep(folder, *(event(i, "GD01.gas:H", "raise", NOW_MS - 50_000 + 20_000 * i) for i in range(1, 4)))
    (day,) = json.loads(ask(folder, "report", "--json").output)["days"].values()
    assert day["chattering"] == ["GD01.gas:H"] and day["worst"] == [["GD01.gas:H", 3]]


def test_history_tells_what_is_asked_for_the_newest_last(folder: Path) -> None:
    keep(
        folder,
        event(1, "GD01.gas:H", "raise", NOW_MS - 3 * MINUTE_MS),
        event(2, "TK101.level:H", "raise", NOW_MS - 2 * MINUTE_MS),
        event(3, "GD01.gas:H", "ack", NOW_MS - MINUTE_MS, "ACKED", by="R7", reason="on the way", mode="drill"),
    )
    lines = ask(folder, "history", "--alarm", "GD*", "--json").output.splitlines()
    assert [json.loads(line)["transition"] for line in lines] == ["raise", "ack"]
    (line,) = ask(folder, "history", "--from", "2026-11-23T10:28", "--last", "1", "--json").output.splitlines()
    assert json.loads(line)["transition"] == "ack"
    said = ask(folder, "history").output
    assert "R7" in said and "on the way" in said and "(drill)" in said and AUXILIARY in said


def test_without_a_store_the_journal_cannot_be_read(folder: Path) -> None:
    ended = ask(folder, "history")
    assert ended.exit_code == 1 and "tankgate.db" in ended.output and "Traceback" not in ended.output


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("shelve", "GD01.gas:H", "--by", "R7", "--reason", "x"), "--for or --until"),
        (("shelve", "GD01.gas:H", "--by", "R7", "--reason", "x", "--for", "1h", "--until", "2026-11-24"), "--for or"),
        (("shelve", "GD01.gas:H", "--by", "R7", "--reason", "x", "--for", "soon"), "30m, 8h or 2d"),
        (("bypass", "--permit", "1", "--owner", "R7", "--reason", "x", "--for", "1h"), "--point, --asset and --unit"),
        (("ack", "GD01.gas:H", "--by", "R7"), "--occurrence"),
        (("ack", "GD01.gas:H", "--occurrence", "1"), "--by"),
    ],
)
def test_what_is_missing_is_named(folder: Path, words: tuple[str, ...], told: str) -> None:
    ended = ask(folder, *words)
    assert ended.exit_code == 2 and told in ended.output


def test_without_a_gateway_nothing_can_be_acknowledged(folder: Path) -> None:
    ended = ask(folder, "ack", "GD01.gas:H", "--occurrence", "1", "--by", "R7")
    assert ended.exit_code == 3 and "tankgate run" in ended.output
