"""The gateway's disk on the fake clock: what the chain does while it is gone, and what is told of what was lost."""

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from edge import writer
from edge.forward import TOO_LARGE
from edge.store import FILE, WAL_MAX_BYTES, Earlier, Store, StoreFault
from tests.edge.test_store import damage_pages
from tests.simulation.judge import judge
from tests.simulation.parts import SECOND_US
from tests.simulation.world import World

MINUTE_S = 60
MEMORY_BYTES = 100_000  # some minutes


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    """Which has run for a minute, and to which nothing happens by itself."""
    world = World(1, tmp_path, is_calm=True)
    with world.gateway.in_place():
        world.start()
        world.tell_time()
        go_on(world, MINUTE_S)
        yield world
        world.gateway.cut()


def go_on(world: World, seconds: float) -> None:
    world.time.run(int(world.time.now_us + seconds * SECOND_US))


def gaps(world: World, cause: str) -> list[dict[str, Any]]:
    received = [each.document for each in world.broker.district.received.values()]
    return [document for document in received if document.get("cause") == cause]


def alarms(world: World, alarm: str) -> list[str]:
    """Their transitions, as the district received them."""
    received = sorted(world.broker.district.received.values(), key=lambda each: each.at_us)
    return [each.document["transition"] for each in received if each.document.get("alarm") == alarm]


def test_what_memory_gave_up_while_there_was_no_disk_is_told(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(writer, "MEMORY_MAX_BYTES", MEMORY_BYTES)
    monkeypatch.setattr(writer, "MEMORY_LOT_BYTES", MEMORY_BYTES // 10)
    world.broker.down()
    world.gateway.disk = "full"
    go_on(world, 10 * MINUTE_S)
    batches = [each for group in world.gateway.writer.waiting()[1:] for each in group.batches]
    waiting = [message for each in batches for message in each.messages]
    assert not any(message.payload for message in waiting if message.stream == "data")  # they are made again
    assert gaps(world, "disk_fault") == []
    world.come_to_rest()
    verdict = judge(world)
    assert verdict.faults == []
    told = gaps(world, "disk_fault")
    assert {gap["of"] for gap in told} == {"data"} and sum(gap["polls"] for gap in told) >= verdict.missing > 100
    assert alarms(world, "system.store:FAULT") == ["raise", "clear"]


def test_what_a_store_had_that_was_set_aside_is_told(world: World) -> None:
    """Not everybody had it; what waited in memory meanwhile comes."""
    world.broker.down()
    go_on(world, 5 * MINUTE_S)
    (world.gateway.folder / "store" / f"{FILE}-damaged").touch()  # as a commit leaves it that meets damage
    world.gateway.disk = "full"
    go_on(world, 5 * MINUTE_S)
    world.come_to_rest()
    verdict = judge(world)
    assert [fault for fault in verdict.faults if "lost the first" not in fault] == []  # which a new file has
    told = gaps(world, "set_aside")
    assert {gap["of"] for gap in told} == {"data", "event"}
    assert 200 < verdict.missing < 400


def test_of_what_is_given_up_each_span_is_told_that_somebody_lacks_and_nothing_between(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The broker takes all but three messages, which wait for another connection until there is no room for them."""
    publish, lacking = world.broker.publish, []

    def picky(connection: int, token: int, published: Any) -> None:
        document = json.loads(published[1])
        if document.get("stream") == "data" and document["seq"] in (15, 16, 30):
            lacking.append(document["seq"])
            world.broker._client.tell("acknowledged", token, TOO_LARGE, published[0])
        else:
            publish(connection, token, published)

    monkeypatch.setattr(world.broker, "publish", picky)
    go_on(world, 10 * MINUTE_S)
    assert set(lacking) == {15, 16, 30}
    keeps = world.gateway.writer
    assert keeps.usage is not None
    keeps.keep = replace(keeps.keep, max_bytes=WAL_MAX_BYTES + keeps.usage.file_bytes)  # a tenth more than there may be
    go_on(world, 10 * MINUTE_S)
    told = {tuple(gap["missing_seq"]) for gap in gaps(world, "disk_quota")}
    assert {span for span in told if span[1] < 100} == {(15, 16), (30, 30)}  # the others were just on their way


def test_a_damaged_page_of_history_is_told_raises_an_alarm_and_holds_up_nothing(world: World) -> None:
    world.broker.down()
    go_on(world, 10 * MINUTE_S)
    world.gateway.cut()
    damage_pages(world.gateway.folder / "store" / FILE, "batch", 5, 2)
    world.gateway.start()
    world.broker.up()
    world.tell_time()
    go_on(world, 2 * MINUTE_S)
    begin_us = world.time.now_us - 10 * SECOND_US
    fresh = [each for each in world.broker.district.received.values() if each.at_us > begin_us]
    assert any("rows" in each.document for each in fresh)  # what is refused holds all data back for a minute
    world.come_to_rest()
    verdict = judge(world)
    assert verdict.faults == []
    assert 5 < len(gaps(world, "disk_fault")) < 100 and verdict.missing > 0
    assert alarms(world, "system.store:DAMAGED") == ["raise"]


def test_while_the_disk_answers_no_reads_a_broker_that_comes_back_gets_what_is_newest(world: World) -> None:
    """Although it is on disk by then."""
    world.broker.down()
    go_on(world, 10 * MINUTE_S)
    world.broker.up()
    go_on(world, 3)
    world.gateway.hang_reads(5 * MINUTE_S * SECOND_US)
    go_on(world, 1)
    world.broker.down()
    go_on(world, 30)
    assert not world.gateway.writer.waiting()
    world.broker.up()
    go_on(world, 30)
    assert alarms(world, "system.store:FAULT") == ["raise"]
    assert world.broker.district.state["store"]["state"] == "fault"
    go_on(world, 5 * MINUTE_S)
    world.come_to_rest()
    verdict = judge(world)
    assert (verdict.faults, verdict.missing) == ([], 0)
    assert alarms(world, "system.store:FAULT") == ["raise", "clear"]


def test_what_a_receipt_misses_of_this_epoch_and_was_never_made_is_no_gap(world: World) -> None:
    (epoch,) = world.gateway.kept()
    asked = {epoch: {"data": {"committed": 0, "missing": [[10**6, 10**9]]}}}
    document = {"schema": "tankgate/receipt/1", "gateway": "simulated", "at_ms": 10**9, "epochs": asked}
    world.broker._hand_over(world.broker._connection, json.dumps(document).encode())
    go_on(world, MINUTE_S)
    assert gaps(world, "disk_fault") == gaps(world, "retention") == []


def test_a_store_that_fails_again_while_it_is_read_is_read_later(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """It could not be read at the start, and again dies just when that is made up for."""
    read, failed = Store.earlier, []

    def fail_first(store: Store, *names: Any) -> Earlier:
        if not failed:
            failed.append(True)
            raise StoreFault("the disk is gone again")
        return read(store, *names)

    world.gateway.cut()
    world.gateway.disk = "full"
    world.gateway.start()
    go_on(world, MINUTE_S)
    monkeypatch.setattr(Store, "earlier", fail_first)
    world.come_to_rest()
    assert failed and judge(world).faults == []


def test_nothing_is_written_over_what_a_store_knows_that_could_not_be_read_at_the_start(world: World) -> None:
    """How far each board had come: without that nobody could tell what a board lost by its own restart meanwhile."""
    board = world.boards["cab1"]
    world.gateway.cut()
    go_on(world, MINUTE_S)
    board.cut()
    board.start()
    world.gateway.disk = "full"
    world.gateway.start()
    go_on(world, MINUTE_S)
    world.come_to_rest()
    verdict = judge(world)
    assert verdict.faults == [] and verdict.missing > 10
