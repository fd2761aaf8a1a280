"""What people may ask of alarms, what is refused, and by which code."""

from dataclasses import replace

import pytest

from edge.alarms.requests import REFUSALS_TOLD, Requests
from edge.alarms.system import SystemAlarms
from protocols.feeds.json_feed import Command
from protocols.model import Destination
from tests.edge.test_judge import Judged
from tests.edge.test_pipeline import START_MS

HOUR_MS = 3_600_000
FILES = "system.config:FAULT"


@pytest.fixture
def asked():
    """Ask; the answer. GD07.gas stands at 60 %LEL, and the files have a problem."""
    world = Judged()
    world.at(1, "GD07.gas", 60.0)
    system = SystemAlarms()
    system.raise_alarm(FILES, 3, "correct them", START_MS)
    requests = Requests(world.judge, system)

    def ask(**request):
        answer, told = requests.answer(request, 1.0, START_MS, START_MS)
        assert bool(told) == ("done" in answer)
        return answer

    return ask


def test_while_the_store_cannot_be_read_nothing_is_bypassed():
    world = Judged(is_unread=True)
    answer, told = Requests(world.judge, SystemAlarms()).answer(bypass("point", "GD07.gas"), 1.0, START_MS, START_MS)
    assert (answer, told) == ({"refused": "no_store"}, [])


def command(alarm, event, **more):
    return {"do": "alarm", "alarm": alarm, "event": event, "by": "R7"} | more


def bypass(kind, what, **more):
    asked_for = {"permit": "HW-17", "owner": "R7", "reason": "test", "until_ms": START_MS + HOUR_MS}
    return {"do": "bypass", "kind": kind, "what": what} | asked_for | more


@pytest.mark.parametrize(
    ("request_", "refused"),
    [
        (command("GD07.gas:HH", "ack"), "bad_request"),
        (command("GD07.gas:HH", "ack", occurrence=2), "other_occurrence"),
        (command("GD07.gas:HH", "ack", occurrence=1, by=""), "who_empty by"),
        (command("GD07.gas:HH", "ack", occurrence=1, by="R" * 65), "who_too_long by"),
        (command("GD07.gas:HH", "note", reason=" "), "words_empty reason"),
        (command("GD07.gas:HH", "note"), "words_empty reason"),
        (command("GD07.gas:HH", "note", reason="x" * 501), "words_too_long reason"),
        (command("GD07.gas:HH", "suppress"), "bad_request"),
        (command("GD99.gas:HH", "reset"), "unknown_alarm"),
        (command("GD07.gas:HH", "reset"), "still_active"),
        (command("GD07.gas:HH", "shelve", until_ms=START_MS + HOUR_MS), "never_shelved"),
        (command("GD07.gas:H", "shelve", until_ms=START_MS), "in_the_past"),
        (command("GD07.gas:H", "shelve", until_ms=START_MS + 13 * HOUR_MS), "too_long"),
        (command("GD07.gas:H", "unshelve"), "not_shelved"),
        (command(FILES, "shelve", until_ms=START_MS + HOUR_MS), "never_shelved"),
        (command("system.store:FAULT", "ack", occurrence=1), "unknown_alarm"),
        (bypass("point", "GD99.gas"), "unknown_place"),
        (bypass("asset", "GD07.gas"), "unknown_place"),
        (bypass("unit", "gas-b/99"), "unknown_place"),
        (bypass("area", "泵房"), "unknown_place"),
        (bypass("point", "GD07.gas", permit=""), "who_empty permit"),
        (bypass("point", "GD07.gas", owner=" "), "who_empty owner"),
        (bypass("point", "GD07.gas", owner="R" * 65), "who_too_long owner"),
        (bypass("point", "GD07.gas", reason="x" * 501), "words_too_long reason"),
        (bypass("point", "GD07.gas", reason=" "), "words_empty reason"),
        (bypass("point", "GD07.gas", until_ms=START_MS + 8 * 24 * HOUR_MS), "too_long"),
        ({"do": "end_bypass", "number": 1, "by": "R7"}, "not_in_force"),
        ({"do": "end_bypass", "number": 1, "by": ""}, "who_empty by"),
    ],
)
def test_refused(asked, request_, refused):
    code, *field = refused.split()
    assert asked(**request_) == {"refused": code} | ({"field": field[0]} if field else {})


@pytest.mark.parametrize(
    ("request_", "state"),
    [
        (command("GD07.gas:HH", "ack", occurrence=1), "ACKED"),
        (command("GD07.gas:H", "shelve", until_ms=START_MS + HOUR_MS), "SHLVD"),
        (command("GD07.gas:HH", "note", reason="somebody is on the way"), "UNACK"),
        (command(FILES, "ack", occurrence=1), "ACKED"),
        (command(FILES, "note", reason="seen"), "UNACK"),
    ],
)
def test_done(asked, request_, state):
    answer = asked(**request_)
    assert (answer["done"], answer["state"], answer["occurrence"]) == (True, state, 1)


def test_the_list_has_what_an_acknowledgement_names_and_the_urgent_first(asked):
    rows = asked(do="alarms")["alarms"]
    assert [(each["alarm"], each["occurrence"], each["state"]) for each in rows] == [
        ("GD07.gas:HH", 1, "UNACK"), ("GD07.gas:H", 1, "UNACK"), (FILES, 1, "UNACK"),
    ]  # fmt: skip
    assert rows[0]["action"] == "停泵；开启排风；便携仪复测" and rows[2]["point"] is None


def test_a_bypass_begins_is_listed_and_is_ended_by_its_number(asked):
    begun = asked(**bypass("asset", "TK101"))
    assert begun == {"done": True, "number": 1, "alarms": 16}  # of its level and its temperature
    assert asked(do="alarms")["bypasses"][0]["permit"] == "HW-17"
    assert asked(**bypass("drill", "")) == {"done": True, "number": 2, "alarms": 0}
    assert asked(**bypass("drill", "")) == {"refused": "already_a_drill"}
    assert asked(do="alarms")["is_drill"]
    assert asked(do="end_bypass", number=1, by="R7")["alarms"] == 16
    assert [each["kind"] for each in asked(do="alarms")["bypasses"]] == ["drill"]


DUTY = Destination(
    "district", "mqtts://x:1", "json", None, None, None, commands=(("acknowledge", ("duty",)), ("silence", ("chief",)))
)


@pytest.mark.parametrize(
    ("do", "role", "more", "answer"),
    [
        ("acknowledge", "duty", {}, {"done": True, "state": "ACKED", "occurrence": 1}),
        ("silence", "chief", {}, {"done": True, "state": "UNACK", "occurrence": 1}),
        ("acknowledge", "chief", {}, {"refused": "not_allowed"}),
        ("silence", "duty", {}, {"refused": "not_allowed"}),
        ("acknowledge", "duty", {"occurrence": 2}, {"refused": "other_occurrence"}),
        ("silence", "chief", {"occurrence": 2}, {"refused": "other_occurrence"}),
        ("silence", "chief", {"alarm": "GD01.gas:HH", "occurrence": 0}, {"refused": "nothing_to_silence"}),
        ("silence", "chief", {"alarm": FILES}, {"refused": "nothing_to_silence"}),
        ("acknowledge", "duty", {"alarm": "GD99.gas:HH"}, {"refused": "unknown_alarm"}),
    ],
)
def test_a_district_may_do_what_its_role_was_given(do, role, more, answer):
    world = Judged()
    world.at(1, "GD07.gas", 60.0)
    requests = Requests(world.judge, SystemAlarms())
    asked = replace(Command("1", do, "GD07.gas:HH", 1, role, "on the way"), **more)
    found, told = requests.command(DUTY, asked, 1.0, START_MS, START_MS)
    assert found == answer
    who = [(f"district/{role}", "on the way")] if "done" in answer else []
    assert [(each.by, each.reason) for each in told] == who
    by_default = replace(DUTY, commands=())
    assert requests.command(by_default, asked, 1.0, START_MS, START_MS) == ({"refused": "not_allowed"}, [])


def test_a_mad_sender_does_not_fill_the_journal():
    requests = Requests(Judged().judge, SystemAlarms())
    assert sum(requests.tells_refusal(second) for second in range(1000)) == REFUSALS_TOLD
    assert requests.tells_refusal(3600.0)
