"""The gateway's disk freezes, fills up and dies: readings and alarms go on, and nothing is missing in the end.

One chain runs through all these tests; its store lies on a small disk of its own.
"""

import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from hil_tests.chain import Chain
from hil_tests.disk import Disk
from hil_tests.mosquitto import Mosquitto

pytestmark = pytest.mark.needs("mosquitto", *Disk.TOOLS)

POINTS = 22
WITHIN_S = 45.0
STORE_ALARM = "system.store:FAULT"


@pytest.fixture(scope="module")
def chain(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Chain]:
    with pytest.MonkeyPatch.context() as environment:
        environment.setenv("LANGUAGE", "en")
        chain = Chain(tmp_path_factory.mktemp("disk"))
        try:
            chain.start_broker(Mosquitto)
            chain.start_district()
            chain.start_boards()
            chain.start_gateway()
            until(chain, lambda: len(chain.latest) == POINTS)
            yield chain
        finally:
            chain.close()


@pytest.fixture(scope="module")
def disk(chain: Chain) -> Iterator[Disk]:
    chain.stop_gateway()
    folder = chain.directory / "site" / "store"
    disk = Disk(chain.directory / "disk.img", folder)
    chain.start_gateway()
    until(chain, lambda: chain.gaps)  # of what the store before this one had acknowledged to the boards
    until(chain, arrives(chain))
    chain.gaps.clear()
    try:
        yield disk
        chain.stop_gateway()
    finally:
        disk.unmount(lazily=True)


@pytest.fixture(autouse=True)
def whole_in_the_end(chain: Chain, disk: Disk) -> Iterator[None]:
    yield
    end_ms = chain.now_ms
    until(chain, lambda: all(poll.utc_ms > end_ms for poll in chain.bench.ledger.missing(chain.now_ms, 0)))
    figures = chain.figures()
    assert figures.lost == figures.duplicated == figures.wrong_values == 0, (figures, chain.bench.ledger.findings)
    assert chain.gaps == []
    assert "Traceback" not in log(chain)


def until(chain: Chain, true: Callable[[], object], within_s: float = WITHIN_S) -> None:
    end_s = time.monotonic() + within_s
    while not true():
        assert time.monotonic() < end_s and chain.ended() is None, told(chain)
        chain.step(0.01)


def told(chain: Chain) -> str:
    missing = chain.bench.ledger.missing(chain.now_ms, 0)
    return f"ended: {chain.ended()}\nnow {chain.now_ms}, missing: {missing}\n{chain.figures()}\n{log(chain)[-3000:]}"


def log(chain: Chain) -> str:
    return chain.log("gateway").read_text(encoding="utf-8")


def arrives(chain: Chain) -> Callable[[], bool]:
    """Whether a reading that is taken from now on has arrived."""
    start_ms = chain.now_ms
    return lambda: any(latest.measured_ms > start_ms for latest in chain.latest.values())


def store_alarm(chain: Chain, transition: str, seen: int) -> Callable[[], list[dict[str, Any]]]:
    """The store's alarms of this transition beyond those `seen`."""
    return lambda: [a for a in chain.alarms if a["alarm"] == STORE_ALARM and a["transition"] == transition][seen:]


def seen(chain: Chain, transition: str) -> int:
    return len(store_alarm(chain, transition, 0)())


def test_while_the_disk_hangs_alarms_and_readings_arrive_unstored(chain: Chain, disk: Disk) -> None:
    raised = store_alarm(chain, "raise", seen(chain, "raise"))
    cleared = store_alarm(chain, "clear", seen(chain, "clear"))
    disk.freeze()
    try:
        until(chain, raised)
        until(chain, arrives(chain))
        until(chain, lambda: chain.status["store"]["state"] == "fault")
        assert chain.state is not None and chain.state["store"]["state"] == "fault"
    finally:
        disk.thaw()
    (alarm,) = raised()
    assert not alarm["journalled"] and "not answered" in alarm["action"]
    until(chain, cleared)
    assert chain.status["store"] == {"state": "ok", "fault": None}


def test_a_full_disk_first_takes_the_reserve_and_then_only_the_store(chain: Chain, disk: Disk) -> None:
    raised = store_alarm(chain, "raise", seen(chain, "raise"))
    reserve = disk.mount_point / "tankgate-reserve"
    assert reserve.stat().st_size == 16 << 20
    disk.fill()
    until(chain, lambda: not reserve.exists())
    until(chain, arrives(chain))
    assert not raised()
    disk.fill()
    until(chain, raised)
    until(chain, arrives(chain))
    cleared = store_alarm(chain, "clear", seen(chain, "clear"))
    disk.make_room()
    until(chain, cleared)


def test_a_disk_that_dies_and_is_replaced_is_written_again(chain: Chain, disk: Disk) -> None:
    raised = store_alarm(chain, "raise", seen(chain, "raise"))
    cleared = store_alarm(chain, "clear", seen(chain, "clear"))
    disk.cut()
    until(chain, raised)
    until(chain, arrives(chain))
    disk.replug()
    until(chain, cleared)
    until(chain, arrives(chain))
