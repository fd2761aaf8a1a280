"""What brokers refuse: what counts as refused and until when; and what a technician is told, by a real broker's ACL."""

import json
import os
import re
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from rich.cells import cell_len

from edge.forward import TOO_LARGE
from edge.refusals import Refusals
from edge.store import Store
from hil_tests.mosquitto import Mosquitto
from protocols.feeds.sequence import Ranges
from tests.edge.mosquitto import publish
from tests.edge.test_buffer import GATEWAY, buffer_status, gateway_toml, receipt, recent, until
from tests.edge.test_run_and_status import FOUND_A_FAULT, running, tankgate

__all__ = ["gateway_toml", "recent"]

DATA, ALARM, BIRTH, RECEIPT = (f"tankgate/v1/{GATEWAY}/{kind}" for kind in ("data", "event/alarm", "birth", "receipt"))
OK, DENIED = 0, 0x87


def told(refusals: Refusals) -> list[tuple[str, int, int, int]]:
    rows = refusals.rows(0.0, 0.0)
    return [(each["topic"], each["reason_code"], each["times"], each["waiting_messages"]) for each in rows]


def all_but(*taken: int) -> Callable[[Any, Ranges], Ranges]:
    return lambda _stream, ranges: ranges.without([(seq, seq) for seq in taken])


def test_a_message_is_refused_until_that_very_message_is_taken() -> None:
    """A broker that takes others of its topic may still never take this one."""
    refusals = Refusals()
    news = [refusals.answered(DATA, DENIED, ("A", "data", seq), 10.0 + seq) for seq in (1, 2, 1)]
    assert news == [True, False, False]
    assert refusals.rows(20.0, 1_000_000.0) == [
        {"topic": DATA, "reason_code": DENIED, "times": 3, "since_ms": 991_000, "waiting_messages": 2}
    ]
    assert not refusals.answered(DATA, OK, ("A", "data", 9), 20.0)
    refusals.settle(all_but(9))
    assert told(refusals) == [(DATA, DENIED, 3, 2)]
    refusals.settle(all_but(1))
    assert told(refusals) == [(DATA, DENIED, 3, 1)]
    refusals.settle(all_but(1, 2))
    assert not refusals
    assert refusals.answered(DATA, DENIED, ("A", "data", 3), 30.0)  # which is news again


def test_a_document_or_a_subscription_is_refused_until_the_next_one_is_taken() -> None:
    refusals = Refusals()
    for topic in (BIRTH, RECEIPT):
        assert refusals.answered(topic, DENIED, None, 0.0)
        assert not refusals.answered(topic, DENIED, None, 1.0)
    refusals.settle(all_but())
    assert told(refusals) == [(BIRTH, DENIED, 2, 0), (RECEIPT, DENIED, 2, 0)]
    refusals.answered(BIRTH, OK, None, 2.0)
    assert told(refusals) == [(RECEIPT, DENIED, 2, 0)]


def test_each_topic_and_each_reason_is_news_of_its_own() -> None:
    refusals = Refusals()
    asked = [(DATA, DENIED, 1), (DATA, TOO_LARGE, 2), (ALARM, DENIED, 3), (DATA, TOO_LARGE, 4)]
    assert [refusals.answered(topic, code, ("A", "x", seq), 0.0) for topic, code, seq in asked] == [True] * 3 + [False]


# --- the whole gateway ----------------------------------------------------------------------------------------


def allow(acl: Path, *denied: str) -> None:
    kinds = {"data", "event/gap", "event/alarm", "event/action", "event/clock", "event/birth", "birth", "link", "state"}
    lines = [f"pattern write tankgate/v1/%c/{kind}" for kind in sorted(kinds - set(denied))]
    acl.write_text("\n".join([f"topic readwrite tankgate/v1/{GATEWAY}/receipt", *lines, ""]), encoding="utf-8")


def towards(gateway_toml: Path, broker: Mosquitto) -> None:
    """The site's destination is this broker, and gives receipts."""
    text = gateway_toml.read_text(encoding="utf-8")
    url = f'url = "mqtt://127.0.0.1:{broker.port}"\nawait_receipt = true'
    gateway_toml.write_text(re.sub(r"(?m)^url *=.*$", url, text), encoding="utf-8")


def refused(gateway_toml: Path) -> dict[str, dict[str, Any]]:
    (destination,) = buffer_status(gateway_toml)["destinations"]
    return {each["topic"]: each for each in destination["refused"]}


def alarm_state(gateway_toml: Path) -> str | None:
    alarms = json.loads(tankgate("status", "--json", gateway_toml).stdout)["alarms"]
    return next((each["state"] for each in alarms if each["alarm"] == "system.destination.district:REFUSED"), None)


@pytest.mark.needs("mosquitto")
def test_what_a_broker_refuses_is_shown_and_is_an_alarm_until_it_takes_it(
    gateway_toml: Path, recent: tuple[Store, int], broker: Callable[..., Mosquitto], tmp_path: Path
) -> None:
    acl, log = tmp_path / "acl", tmp_path / "gateway.log"
    allow(acl, "data", "event/alarm", "birth")
    served = broker(f"allow_anonymous true\nacl_file {acl}\n")
    towards(gateway_toml, served)
    with log.open("wb") as said, running(gateway_toml, said):
        until(lambda: {DATA, ALARM, BIRTH} == refused(gateway_toml).keys())
        found = refused(gateway_toml)
        assert {each["reason_code"] for each in found.values()} == {DENIED}
        assert found[BIRTH]["waiting_messages"] == 0 < found[DATA]["waiting_messages"]
        assert alarm_state(gateway_toml) == "UNACK"
        for command in (["status"], ["buffer", "status"]):
            for language, words in (("en", "not authorized (reason code 135). Let"), ("zh", "无权限（原因码 135）。")):
                shown = tankgate(*command, gateway_toml, language=language, columns=80)
                assert shown.returncode == FOUND_A_FAULT
                assert max(map(cell_len, shown.stdout.splitlines())) <= 80
                text = re.sub(r"\s+", " ", shown.stdout)
                assert words in text and f"tankgate/v1/{GATEWAY}/" in text and "ACL" in text
                assert all(re.search(rf"district +{kind} +[1-9]", text) for kind in ("data", "event/alarm", "birth"))
        drain = tankgate("buffer", "drain", gateway_toml, "--timeout", "0")
        assert drain.returncode == FOUND_A_FAULT and "its broker refuses messages" in drain.stderr

        allow(acl)
        os.kill(served.pid, signal.SIGHUP)
        until(lambda: not refused(gateway_toml), within_s=90.0)
        until(lambda: alarm_state(gateway_toml) == "RTNUN")
        for command in (["status"], ["buffer", "status"]):
            assert tankgate(*command, gateway_toml).returncode == 0

        allow(acl, "data")
        os.kill(served.pid, signal.SIGHUP)
        publish(served, receipt({recent[0].epoch: {"data": {"committed": 11, "missing": [[2, 3]]}}}, 1000))
        until(lambda: refused(gateway_toml).keys() == {DATA})
        assert alarm_state(gateway_toml) == "UNACK"
    lines = [line for line in log.read_text(encoding="utf-8").splitlines() if "the broker refuses" in line]
    assert [sum(f"/{kind}: " in line for line in lines) for kind in ("data", "event/alarm", "birth")] == [2, 1, 1]
    assert all("Let the gateway write to this topic in the broker's access rules (ACL)." in line for line in lines)


@pytest.mark.needs("mosquitto")
def test_what_is_too_large_for_a_broker_is_shown_as_set_aside(
    gateway_toml: Path, broker: Callable[..., Mosquitto]
) -> None:
    """The birth is, by far."""
    towards(gateway_toml, broker("allow_anonymous true\nmax_packet_size 2000\n"))
    event = f"tankgate/v1/{GATEWAY}/event/birth"
    with running(gateway_toml):
        until(lambda: {event, BIRTH} <= refused(gateway_toml).keys())
        found = refused(gateway_toml)
        assert (found[event]["reason_code"], found[event]["waiting_messages"]) == (TOO_LARGE, 1)
        shown = tankgate("buffer", "status", gateway_toml)
        text = re.sub(r"\s+", " ", shown.stdout)
        assert shown.returncode == FOUND_A_FAULT
        assert "max_packet_size" in text and "Set aside on disk until the next connection." in text
        assert alarm_state(gateway_toml) == "UNACK"
