"""What is kept of alarms: their facts in the transaction of their event, and a journal that nobody changes unseen."""

import json
from dataclasses import replace
from pathlib import Path
from shutil import copytree

import apsw
import pytest
from click.testing import CliRunner

from edge.batch import Batch, Bypass, Kept, Message
from edge.cli.journal import command as journal
from edge.retention import Dropped
from edge.store import Store, StoreFault
from tests.edge.test_store import BIRTH, commit, one_second, open_store

EXAMPLE = Path(__file__).parents[2] / "hil_tests" / "site"
KEPT = Kept("GD07.gas:HH", 50.0, '{"active": true}', 1795400000000, True)
BYPASS = Bypass(3, "unit", "gas-b/1", "HW-17", "R7", "bump test", 1795400000000, 1795403600000)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A site's folder; its store lies in `store`."""
    site = Path(copytree(EXAMPLE, tmp_path / "site"))
    (site / "store").mkdir()
    return site


def event(seq: int, kind: str = "alarm") -> Message:
    return Message("event", seq, kind, BIRTH, _payload(seq, kind), None)


def _payload(seq: int, kind: str) -> bytes:
    return f'{{"schema":"tankgate/{kind}/1","event":{seq},"value":52.5}}'.encode()


def told(*messages: Message) -> Batch:
    return Batch(BIRTH, (), (), (), messages)


def verified(folder: Path) -> tuple[int, dict[str, object]]:
    ended = CliRunner().invoke(journal, ["verify", "--json", str(folder / "gateway.toml")])
    return ended.exit_code, json.loads(ended.output)


def spoil(folder: Path, sql: str) -> None:
    connection = apsw.Connection(str(folder / "store" / "tankgate.db"))
    connection.execute(sql).fetchall()
    connection.close()


def filled(folder: Path) -> Store:
    """Two alarms, a gap and an action in one epoch, an alarm in the next."""
    first = open_store(folder / "store")
    commit(first, [told(event(1), event(2, "gap"), event(3)), told(event(4, "action"))])
    first.close()
    second = open_store(folder / "store")
    commit(second, [told(event(1))])
    return second


def test_facts_and_bypasses_outlive_a_restart_and_are_stored_with_their_batch_or_not_at_all(tmp_path: Path) -> None:
    store = open_store(tmp_path)
    commit(store, [replace(told(event(1)), alarms=(KEPT,), bypasses=(BYPASS,))])
    with pytest.raises(StoreFault):
        commit(store, [replace(one_second(2), alarms=(KEPT._replace(is_late=False),), bypasses=()), one_second(2)])
    store.close()
    again = open_store(tmp_path)
    assert (again.alarms(), again.bypasses()) == ([KEPT], [BYPASS])
    commit(again, [told(event(1))])  # says nothing of bypasses
    assert again.bypasses() == [BYPASS]
    commit(again, [replace(told(event(2)), bypasses=())])
    assert again.bypasses() == [] and again.last_bypass() == BYPASS.number


def test_a_journal_is_chained_over_restarts_and_its_head_is_known(folder: Path) -> None:
    store = filled(folder)
    code, answer = verified(folder)
    assert store.journal_head is not None and store.journal_head[0] == 4
    assert (code, answer) == (
        0, {"entries": 4, "first": 1, "head": f"sha256:{store.journal_head[1].hex()}", "broken": None,
            "is_head_known": True},
    )  # fmt: skip


def test_a_chain_made_anew_is_found_by_a_head_that_the_district_has(folder: Path) -> None:
    store = filled(folder)
    _code, answer = verified(folder)
    commit(store, [told(event(2))])
    store.close()
    asked = ["verify", "--head", str(answer["head"]), str(folder / "gateway.toml")]
    assert CliRunner().invoke(journal, asked).exit_code == 0  # it has grown since
    (folder / "store" / "tankgate.db").unlink()
    anew = open_store(folder / "store")
    commit(anew, [told(event(7))])
    anew.close()
    assert verified(folder)[0] == 0
    ended = CliRunner().invoke(journal, asked)
    assert ended.exit_code == 1 and "never in it" in ended.output


def test_a_commit_that_fails_leaves_the_chain_as_it_was(folder: Path) -> None:
    store = filled(folder)
    head = store.journal_head
    with pytest.raises(StoreFault):
        commit(store, [told(event(2)), told(event(1))])
    assert store.journal_head == head
    commit(store, [told(event(2))])
    assert verified(folder)[0] == 0


@pytest.mark.parametrize(
    ("sql", "number"),
    [
        ("UPDATE message SET body = replace(body, '52.5', '25.2') WHERE seq = 3", 2),
        ("DELETE FROM message WHERE seq = 3", 2),
        ("DELETE FROM journal WHERE number = 2", 2),
        ("UPDATE journal SET seq = 1 WHERE number = 2", 2),
        ("UPDATE message SET kind = 'gap' WHERE seq = 3", 2),
        ("UPDATE message SET kind = 'alarm' WHERE seq = 2", None),
        ("DELETE FROM journal WHERE number >= 3", None),
        ("DELETE FROM journal WHERE number >= 3; UPDATE message SET kind = 'gap' WHERE kind = 'action'", None),
        ("UPDATE journal SET seq = NULL WHERE number = 2; DELETE FROM journal WHERE number < 2", None),
    ],
)
def test_whoever_changes_it_is_found_and_where(folder: Path, sql: str, number: int | None) -> None:
    filled(folder).close()
    spoil(folder, sql)
    code, answer = verified(folder)
    broken = answer["broken"]
    assert code == 1 and isinstance(broken, dict) and broken["number"] == number


@pytest.mark.parametrize("head", ["nonsense", "sha256:77aa", "77" * 32, "SHA256:" + "77" * 32])
def test_what_is_no_head_is_refused_and_accuses_nobody(folder: Path, head: str) -> None:
    filled(folder).close()
    ended = CliRunner().invoke(journal, ["verify", "--head", head, str(folder / "gateway.toml")])
    assert ended.exit_code == 2 and "--head" in ended.output and head in ended.output
    assert "district" not in ended.output


def test_a_head_may_be_older_than_what_is_kept(folder: Path) -> None:
    store = filled(folder)
    strange = ["verify", "--head", f"sha256:{'77' * 32}", str(folder / "gateway.toml")]
    ended = CliRunner().invoke(journal, strange)
    assert ended.exit_code == 1 and "never in it" in ended.output  # all that there ever was is there
    store.commit([], {}, [Dropped("event", "retention", numbers={next(iter(store.epochs())): (1, 3)})])
    ended = CliRunner().invoke(journal, strange)
    assert ended.exit_code == 1 and "it is older than that, or" in ended.output and "entry 3" in ended.output
    ended = CliRunner().invoke(journal, [*strange, "--json"])
    assert (ended.exit_code, json.loads(ended.output)["is_head_known"]) == (1, None)


def test_what_retention_takes_leaves_its_last_hash_as_the_root(folder: Path) -> None:
    store = filled(folder)
    first = next(iter(store.epochs()))
    store.commit([], {}, [Dropped("event", "retention", numbers={first: (1, 3)})])
    code, answer = verified(folder)
    assert (code, answer["first"], answer["entries"]) == (0, 3, 2)
    store.commit([], {}, [Dropped("event", "retention", numbers={first: (4, 4)})])
    assert verified(folder)[1]["entries"] == 1
    commit(store, [told(event(2))])
    assert verified(folder)[0] == 0
