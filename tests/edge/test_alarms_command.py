"""`tankgate alarms`: what happened and how well alarms serve, from a store without a gateway; what is refused."""

import json
from collections.abc import Callable
from dataclasses import replace
from datetime import datetime
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
from edge.batch import Batch, Message
from edge.cli.alarms import command as alarms
from edge.cli.alarms import standing_table
from protocols.feeds import json_feed
from tests.edge import test_config
from tests.edge.test_alarm_store import told
from tests.edge.test_config import speaking
from tests.edge.test_judge import Judged
from tests.edge.test_store import BIRTH, commit, open_store

speak = test_config.speak
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
        "schema": "tankgate/alarm/1", "alarm": alarm, "occurrence": 1, "transition": transition,
        "from": to if transition == "note" else "NORM", "to": to, "mode": "live", "priority": 2,
        "t_ms": t_ms, "decided_ms": t_ms, "judged_late": False, "facts": {"active": active}, "value": 30.5,
        "point": alarm.partition(":")[0], "status": 0, "setpoint": 25.0, "first_out": False,
        "by": None, "reason": None,
    }  # fmt: skip
    return Message("event", seq, "alarm", BIRTH, _payload(content | more), None)


def _payload(content: dict[str, Any]) -> bytes:
    return json.dumps(content, ensure_ascii=False, separators=(",", ":")).encode()


def keep(folder: Path, *messages: Message, opened_ms: int = 0) -> None:
    """They are told by a process of their own."""
    store = open_store(folder / "store", opened_ms)
    of_epoch = [
        replace(each, payload=_payload(json.loads(each.payload or b"") | {"epoch": store.epoch}))
        for each in messages
    ]
    batches: list[Batch] = [told(*of_epoch)]
    commit(store, batches)
    store.close()


def ask(folder: Path, *words: str) -> Result:
    name, *others = words
    return CliRunner(env={"COLUMNS": "250"}).invoke(alarms, [name, str(folder / "gateway.toml"), *others])


def local_ms(text: str) -> int:
    """A moment of the site's clock, which is Shanghai's."""
    return round(datetime.fromisoformat(f"{text}+08:00").timestamp() * 1000)


def flood(seq: int, begin_ms: int) -> list[Message]:
    """Twelve alarms a second apart: a flood from the tenth on, until the eighth is ten minutes old."""
    return [event(seq + i, f"TK1{i:02}.level:H", "raise", begin_ms + 1000 * i) for i in range(12)]


def test_the_report_counts_what_disturbed_somebody(folder: Path) -> None:
    keep(
        folder,
        event(20, "GD01.gas:H", "raise", NOW_MS - 2 * DAY_MS),  # stands since
        event(21, "GD02.gas:H", "raise", NOW_MS - 9 * DAY_MS),  # stands since, beyond what is reported
        event(22, "GD03.gas:H", "raise", NOW_MS, "OOSRV", mode="test"),
        event(23, "GD03.gas:HH", "raise", NOW_MS, mode="drill"),
        event(24, "GD04.gas:H", "raise", NOW_MS, "SHLVD"),
        event(25, "GD05.gas:HH", "raise", NOW_MS, priority=1),
        *flood(1, NOW_MS - 12_000),
    )
    report = json.loads(ask(folder, "report", "--json").output)
    days = report["days"]
    assert list(days) == [f"2026-11-{day}" for day in range(17, 24)]  # a quiet day is one as well
    assert {day: row["alarms"] for day, row in days.items() if row["alarms"]}.keys() == {"2026-11-21", "2026-11-23"}
    today = days["2026-11-23"]
    assert set(today["alarms"]) == {"GD05.gas:HH", *(f"TK1{i:02}.level:H" for i in range(12))}
    assert (today["most_in_ten_minutes"], today["priorities"]) == (13, {"1": 1, "2": 12})
    assert today["percent"] == {"1": 7.7, "2": 92.3}
    assert today["floods"] == [{"from_ms": NOW_MS - 3000, "to_ms": None}] and today["flood_ms"] == 3000
    assert [len(row["stale"]) for row in days.values()] == [1, 1, 1, 1, 1, 2, 2]
    stale = [each for each in report["standing"] if each["is_stale"]]
    assert [each["alarm"] for each in stale] == ["GD01.gas:H", "GD02.gas:H"]
    assert stale[0]["since_ms"] == NOW_MS - 2 * DAY_MS
    assert report["notice"] == AUXILIARY


def test_a_day_is_one_of_the_sites_clock_and_a_flood_is_cut_at_its_midnight(folder: Path) -> None:
    keep(folder, *flood(1, local_ms("2026-11-21T23:57:51")), event(20, "GD01.gas:H", "raise", NOW_MS))
    days = json.loads(ask(folder, "report", "--json").output)["days"]
    assert list(days) == ["2026-11-21", "2026-11-22", "2026-11-23"]
    midnight_ms = local_ms("2026-11-22T00:00")
    floods = [[(each["from_ms"], each["to_ms"]) for each in row["floods"]] for row in days.values()]
    assert floods == [[(midnight_ms - 120_000, midnight_ms)], [(midnight_ms, midnight_ms + 478_000)], []]
    assert [row["flood_ms"] for row in days.values()] == [120_000, 478_000, 0]
    assert [sum(row["alarms"].values()) for row in days.values()] == [12, 0, 1]


def test_what_stands_is_what_its_newest_event_and_the_newest_process_say(folder: Path) -> None:
    long_ago_ms = NOW_MS - 3 * DAY_MS
    keep(
        folder,
        event(1, "system.store:FAULT", "raise", long_ago_ms),  # of a process that was killed
        event(2, "TK9.level:H", "raise", long_ago_ms),
        event(3, "TK9.level:H", "out_of_service", NOW_MS - 2 * DAY_MS, "OOSRV", facts={"active": True}),
        event(4, "GD01.gas:H", "raise", long_ago_ms, mode="drill"),
        event(5, "GD02.gas:H", "raise", long_ago_ms, "OOSRV", mode="test"),
        event(6, "GD02.gas:H", "in_service", long_ago_ms + MINUTE_MS, facts={"active": True}),
    )
    keep(
        folder,
        event(1, "GD01.gas:H", "note", NOW_MS - DAY_MS, facts={"active": True}),
        event(2, "GD02.gas:H", "note", NOW_MS - DAY_MS, facts={"active": True}),
        opened_ms=NOW_MS - DAY_MS,
    )
    assert json.loads(ask(folder, "report", "--json").output)["standing"] == [
        {"alarm": "GD01.gas:H", "since_ms": long_ago_ms, "is_stale": True},
        {"alarm": "GD02.gas:H", "since_ms": long_ago_ms + MINUTE_MS, "is_stale": True},
    ]


def test_what_still_stands_after_a_drill_is_counted_and_what_was_played_is_not(folder: Path) -> None:
    keep(
        folder,
        event(1, "GD01.gas:H", "raise", NOW_MS - MINUTE_MS, mode="drill"),
        event(2, "GD02.gas:H", "raise", NOW_MS - MINUTE_MS, mode="drill"),
        event(3, "GD01.gas:H", "re_alarm", NOW_MS),
    )
    *_days, day = json.loads(ask(folder, "report", "--json").output)["days"].values()
    assert day["alarms"] == {"GD01.gas:H": 1}


def test_each_alarm_that_stands_shows_whether_it_is_played() -> None:
    world = Judged()
    world.at(1, "GD07.gas", 30.0)
    world.bypass("drill", "")
    world.at(2, "GD07.gas", 60.0)
    rows = Requests(world.judge, SystemAlarms()).rows()
    assert [(row["alarm"], row["mode"]) for row in rows] == [("GD07.gas:HH", "drill"), ("GD07.gas:H", None)]
    console = Console(width=200, record=True, file=StringIO())
    console.print(standing_table(rows, world.site))
    lines = [line for line in console.export_text().splitlines() if "GD07" in line]
    assert ["(drill)" in line for line in lines] == [True, False]


def test_a_chattering_alarm_is_named(folder: Path) -> None:
    keep(folder, *(event(i, "GD01.gas:H", "raise", NOW_MS - 50_000 + 20_000 * i) for i in range(1, 4)))
    (day,) = json.loads(ask(folder, "report", "--json").output)["days"].values()
    assert day["chattering"] == ["GD01.gas:H"] and day["worst"] == [["GD01.gas:H", 3]]


@pytest.mark.parametrize("columns", [80, 120])
@pytest.mark.parametrize(
    ("language", "words"),
    [
        ("en", ("floods: from ten", "still going on", "the ten worst", "stale: standing", "chattering", "8/92/0")),
        ("zh_CN", ("泛滥：从", "仍在持续", "最多的十个", "陈旧：超过", "抖动", "8/92/0")),
    ],
)
def test_the_report_as_a_person_reads_it(
    folder: Path, speak: Callable[[str], None], language: str, words: tuple[str, ...], columns: int
) -> None:
    keep(
        folder,
        event(20, "GD01.gas:H", "raise", NOW_MS - 2 * DAY_MS),
        *(event(21 + i, "GD02.gas:HH", "raise", NOW_MS - DAY_MS + 1000 * i, priority=1) for i in range(3)),
        *flood(1, local_ms("2026-11-22T20:00:00")),
        *flood(40, NOW_MS - 12_000),
        event(60, "GD05.gas:HH", "raise", NOW_MS, priority=1),
    )
    speak(language)
    ended = CliRunner().invoke(alarms, ["report", str(folder / "gateway.toml")], env={"COLUMNS": str(columns)})
    said = ended.stdout[: ended.stdout.index(AUXILIARY[:4])]
    assert ended.exit_code == 0 and max(map(cell_len, said.splitlines())) <= columns
    assert [word for word in words if word not in said] == []
    for moment in ("2026-11-22T20:00:09+08:00", "2026-11-22T20:10:07+08:00", "2026-11-23T10:29:57+08:00"):
        assert moment in said
    together = " ".join(said.split())
    assert all(f"TK1{i:02}.level:H(1)" in together for i in range(9)) and "TK110.level:H" not in together
    assert together.index("GD02.gas:HH(3)") < together.index("TK100.level:H(1)")


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


def action(seq: int, action: str, t_ms: int, by: str | None, reason: str, **more: Any) -> Message:
    """As the gateway tells it."""
    quality = json_feed.TimeQuality("synced", 7, None)
    told = json_feed.action(
        "jt-0042", "", seq, BIRTH, action=action, quality=quality, t_ms=t_ms, by=by, reason=reason, **more
    )
    return Message("event", seq, "action", BIRTH, told, None)


BYPASS = {
    "number": 3, "kind": "asset", "what": "TK101", "permit": "HW-17", "owner": "R7", "from_ms": NOW_MS - 9 * MINUTE_MS,
    "until_ms": NOW_MS + 50 * MINUTE_MS, "is_over": False,
}  # fmt: skip
DRILL = BYPASS | {"number": 4, "kind": "drill", "what": "", "permit": "-"}
DONE = (
    action(1, "configuration_applied", NOW_MS - 10 * MINUTE_MS, "R1", BIRTH),
    action(2, "bypass", NOW_MS - 9 * MINUTE_MS, "R7", "gauge", bypass=BYPASS),
    event(3, "TK101.level:H", "out_of_service", NOW_MS - 9 * MINUTE_MS, "OOSRV", by="R7"),
    action(4, "bypass", NOW_MS - 8 * MINUTE_MS, None, "its time is over", bypass=BYPASS | {"is_over": True}),
    action(5, "drill", NOW_MS - 7 * MINUTE_MS, "R7", "spill", bypass=DRILL),
    action(6, "command_refused", NOW_MS - 6 * MINUTE_MS, "district/guest", "acknowledge GD01.gas:HH: not_allowed"),
    action(7, "unit_accepted", NOW_MS - 5 * MINUTE_MS, "R8", "new sensor", unit=("gas-a", 3)),
    action(8, "muted", NOW_MS - 4 * MINUTE_MS, "R7", "2 alarms"),
)


def test_history_tells_what_was_done_between_alarms_in_its_order(folder: Path) -> None:
    keep(folder, *DONE)
    told = [json.loads(line) for line in ask(folder, "history", "--json").output.splitlines() if line[0] == "{"]
    assert [each["seq"] for each in told[:2]] == [1, 2] and told[1]["bypass"] == BYPASS
    assert [each.get("action") or each["transition"] for each in told] == [
        "configuration_applied", "bypass", "out_of_service", "bypass", "drill", "command_refused", "unit_accepted",
        "muted",
    ]  # fmt: skip
    lines = ask(folder, "history", "--alarm", "*", "--json").output.splitlines()
    assert ["transition" in json.loads(line) for line in lines if line[0] == "{"] == [True]  # alarms were asked for
    lines = ask(folder, "history", "--from", "2026-11-23T10:25", "--json").output.splitlines()
    assert [json.loads(line)["action"] for line in lines if line[0] == "{"] == ["unit_accepted", "muted"]


@pytest.mark.parametrize("columns", [80, 120])
@pytest.mark.parametrize(
    ("language", "words"),
    [
        ("en", ["configuration applied", "bypass 3 begun", "out of service", "bypass 3 ended", "drill 4 begun",
                "command refused", "device accepted", "horns muted"]),
        ("zh_CN", ["配置已生效", "旁路 3 开始", "停用", "旁路 3 结束", "演练 4 开始", "命令被拒绝", "设备已认可",
                   "喇叭已消音"]),
    ],
)  # fmt: skip
def test_history_as_a_person_reads_it(
    folder: Path, speak: Callable[[str], None], language: str, words: list[str], columns: int
) -> None:
    keep(folder, *DONE)
    speak(language)
    ended = CliRunner().invoke(alarms, ["history", str(folder / "gateway.toml")], env={"COLUMNS": str(columns)})
    said = ended.stdout[: ended.stdout.index(AUXILIARY[:4])]
    assert max(map(cell_len, said.splitlines())) <= columns
    places = [said.find(word) for word in words]
    assert -1 not in places and places == sorted(places)
    for each in ("TK101", "gas-a/3", "HW-17", "2026-11-23T11:20+08:00", "district/guest", BIRTH):
        assert each in said


@pytest.mark.parametrize(
    ("language", "told"),
    [
        ("en", ["raised (first-out)", "30.5 %LEL", "≥ 25 %LEL", "泵房", "until 2026-11-23 11:30+08:00", "rests on 3"]),
        ("zh_CN", ["发生（首发）", "30.5 %LEL", "≥ 25 %LEL", "泵房", "至 2026-11-23 11:30+08:00", "现有 3 路参与"]),
    ],
)
def test_history_tells_first_out_value_limit_area_shelf_and_votes(
    folder: Path, locale_dir: Path, language: str, told: list[str]
) -> None:
    shelved = {"active": True, "shelved_until_ms": NOW_MS + 60 * MINUTE_MS}
    keep(
        folder,
        event(1, "GD07.gas:H", "raise", NOW_MS - MINUTE_MS, first_out=True),
        event(2, "GD07.gas:H", "shelve", NOW_MS, "SHLVD", facts=shelved, by="R7"),
        event(3, "vote.a:VOTE", "raise", NOW_MS, point="GD01.gas", setpoint=None, rests_on=3),
    )
    with speaking(locale_dir) as speak:
        speak(language)
        lines = ask(folder, "history").output.splitlines()
    raised, shelf, vote = (next(line for line in lines if word in line) for word in told[::4] + told[5:])
    assert all(word in raised for word in told[:4]) and told[4] in shelf and told[5] in vote
    assert "30.5" not in vote


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
