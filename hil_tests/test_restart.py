"""Kill any process at any time, start it again: no hole, no wrong value. The bench's ledger is the judge.

One chain runs through all these tests, on a broker that keeps its sessions. Each test breaks one thing at seeded
moments and ends when everything that was due until then has arrived.
"""

import random
import time
from collections.abc import Callable, Iterator

import pytest

from hil_tests.bench.rig import N_, Rig
from hil_tests.chain import Chain
from hil_tests.mosquitto import Mosquitto

pytestmark = pytest.mark.needs("mosquitto", "two_boards", "reset")

POINTS = 22
WITHIN_S = 45.0
STEP_S = 0.01


@pytest.fixture(scope="module")
def chain(rig: Rig, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Chain]:
    with pytest.MonkeyPatch.context() as environment:
        environment.setenv("LANGUAGE", "en")  # of the sentences in the gateway's log
        chain = Chain(tmp_path_factory.mktemp("restart"), session="district", rig=rig)
        try:
            chain.start_broker(Mosquitto)
            chain.start_district()
            chain.start_boards()
            chain.start_gateway()
            until(chain, lambda: len(chain.latest) == POINTS)
            yield chain
        finally:
            chain.close()


@pytest.fixture(params=[20261123], ids="seed {}".format)
def chance(request: pytest.FixtureRequest) -> random.Random:
    """When things break. The seed stands in the test's name."""
    return random.Random(request.node.name)


@pytest.fixture(autouse=True)
def whole_in_the_end(chain: Chain) -> Iterator[None]:
    """Everything that was due until now has arrived, once and right."""
    yield
    end_ms = chain.now_ms
    until(chain, lambda: is_whole(chain, end_ms))
    figures = chain.figures()
    assert figures.lost == figures.duplicated == figures.wrong_values == 0, (figures, chain.bench.ledger.findings)
    assert {gap["cause"] for gap in chain.gaps} <= {"board_restart"}  # nothing else may be admitted
    for log in [*chain.directory.glob("*.log"), *chain.directory.glob("bench/*/console.log")]:
        assert "Traceback" not in log.read_text(encoding="utf-8", errors="replace"), log.read_text()


def until(chain: Chain, true: Callable[[], object], within_s: float = WITHIN_S) -> None:
    """Let the bench work until it is so."""
    end_s = time.monotonic() + within_s
    while not true():
        assert time.monotonic() < end_s, told(chain)
        assert chain.ended() is None, told(chain)
        chain.step(STEP_S)


def run(chain: Chain, for_s: float) -> None:
    """Let the bench work for this long."""
    end_s = chain.bench.now_s() + for_s
    until(chain, lambda: chain.bench.now_s() >= end_s)


def told(chain: Chain) -> str:
    log = chain.log("gateway").read_text(encoding="utf-8")
    missing = chain.bench.ledger.missing(chain.now_ms, 0)
    return f"ended: {chain.ended()}\nnow {chain.now_ms}, missing: {missing}\n{chain.figures()}\n{log[-3000:]}"


def says(chain: Chain, sentence: str) -> Callable[[], bool]:
    """Whether the gateway has said it."""
    return lambda: sentence in chain.log("gateway").read_text(encoding="utf-8")


def is_whole(chain: Chain, since_ms: int) -> bool:
    """Whether everything that was due up to then has arrived, or stands in a gap record."""
    return all(poll.utc_ms > since_ms for poll in chain.bench.ledger.missing(chain.now_ms, 0))


def arrives(chain: Chain, board: str) -> Callable[[], bool]:
    """Whether a reading of this board, taken from now on, has arrived."""
    start_ms = chain.now_ms
    site = chain.bench.sheet
    points = [each.point for each in site.points if site.bus(each.bus).board == board]
    return lambda: any(chain.latest[point].measured_ms >= start_ms for point in points)


@pytest.mark.shows(
    N_("The gateway's program killed at any moment and started again: no reading is lost, doubled or wrong.")
)
def test_a_daemon_killed_at_any_moment(chain: Chain, chance: random.Random) -> None:
    for _ in range(5):
        run(chain, chance.uniform(0.2, 2.5))
        chain.kill_gateway()
        run(chain, chance.uniform(0.0, 0.5))
        chain.start_gateway()


@pytest.mark.shows(
    N_("The gateway killed just after it wrote to disk: what the board sends again is not stored twice.")
)
def test_a_daemon_killed_between_commit_and_acknowledgement(chain: Chain, chance: random.Random) -> None:
    """A commit makes the store's log grow; the board hears of it only after that."""
    wal = chain.directory / "site" / "store" / "tankgate.db-wal"
    for _ in range(6):
        until(chain, lambda: chain.status)
        stored_ns = wal.stat().st_mtime_ns
        end_s = time.monotonic() + WITHIN_S
        while wal.stat().st_mtime_ns == stored_ns:
            assert time.monotonic() < end_s, told(chain)
            chain.step(0.0005)
        run(chain, chance.choice((0.0, 0.0, 0.001, 0.003)))
        chain.kill_gateway()
        chain.start_gateway()


@pytest.mark.shows(N_("The MQTT broker killed and started again: everything arrives."))
def test_a_killed_broker(chain: Chain, chance: random.Random) -> None:
    for _ in range(2):
        run(chain, chance.uniform(0.5, 2.0))
        chain.broker.kill()
        run(chain, chance.uniform(0.2, 2.0))
        chain.broker.start()


@pytest.mark.shows(N_("The platform's receiver killed and started again: everything arrives."))
def test_a_killed_receiver(chain: Chain, chance: random.Random) -> None:
    for _ in range(3):
        run(chain, chance.uniform(0.3, 1.5))
        chain.kill_district()
        run(chain, chance.uniform(0.2, 2.0))
        chain.resume_district()


@pytest.mark.needs("power_off")
@pytest.mark.shows(
    N_("A board without power: the hole is reported as a gap with its times, and polling goes on by itself.")
)
def test_a_board_without_power_leaves_a_gap_for_what_its_ring_held(chain: Chain, chance: random.Random) -> None:
    board = chain.bench.boards["cab2"]
    before = len(chain.gaps)
    run(chain, chance.uniform(0.3, 1.5))
    board.power_off()
    off_ms = chain.now_ms
    run(chain, chance.uniform(0.5, 2.0))
    board.power_on()
    on_ms = chain.now_ms
    until(chain, lambda: len(chain.gaps) > before)
    until(chain, arrives(chain, "cab2"))
    (gap,) = chain.gaps[before:]
    assert (gap["cause"], gap["scope"]["board"], gap["polls_are"]) == ("board_restart", "cab2", "unknown")
    assert gap["from_ms"] <= off_ms and on_ms <= gap["to_ms"] <= chain.now_ms
    assert off_ms - gap["from_ms"] < 5000  # no poll is rarer


@pytest.mark.needs("power_off")
@pytest.mark.shows(N_("Board and gateway off together: the hole is reported as a gap."))
def test_a_board_and_the_daemon_killed_together_leave_the_same_gap(chain: Chain, chance: random.Random) -> None:
    board = chain.bench.boards["cab1"]
    before = len(chain.gaps)
    run(chain, chance.uniform(0.3, 1.5))
    chain.kill_gateway()
    board.power_off()
    off_ms = chain.now_ms
    run(chain, 0.5)
    board.power_on()
    chain.start_gateway()
    on_ms = chain.now_ms
    until(chain, lambda: len(chain.gaps) > before)
    until(chain, arrives(chain, "cab1"))
    (gap,) = chain.gaps[before:]
    assert (gap["cause"], gap["scope"]["board"]) == ("board_restart", "cab1")
    assert off_ms - 5000 < gap["from_ms"] <= off_ms and on_ms <= gap["to_ms"]


@pytest.mark.shows(
    N_("The cable between board and gateway cut, damaged and pulled: nothing is lost, and it is found again.")
)
def test_a_link_cable_that_is_cut_damaged_and_pulled(chain: Chain, chance: random.Random) -> None:
    """Longer than the board believes that somebody listens; and it comes back as another terminal."""
    cable = chain.bench.cables["cab1"]
    cable.cut = True
    run(chain, 4.0)
    cable.cut = False
    chain.bench.cables["cab2"].damage = 0.01
    run(chain, 4.0)
    chain.bench.cables["cab2"].damage = 0.0
    chain.bench.unplug("cab1")
    run(chain, chance.uniform(1.5, 3.0))
    chain.bench.plug_in("cab1")
    until(chain, says(chain, f"port {cable.plug}: lost"))
    until(chain, arrives(chain, "cab1"))


@pytest.mark.shows(N_("Two swapped cables are refused by name; no value appears under another board's points."))
def test_two_swapped_cables_are_refused_by_name_and_never_mixed(chain: Chain) -> None:
    chain.bench.swap("cab1", "cab2")
    for port, found in (("cab1", "cab2"), ("cab2", "cab1")):
        board = f"{found} ({chain.bench.boards[found].identity})"
        until(chain, says(chain, f"dev/{port}: {board} answers where gateway.toml puts {port}: nothing is taken"))
    until(chain, lambda: {board["link"] for board in chain.status.get("boards", ())} == {"down"})
    chain.bench.swap("cab1", "cab2")
    until(chain, arrives(chain, "cab1"))
    until(chain, arrives(chain, "cab2"))


@pytest.mark.shows(N_("The gateway stops in order, and the platform is told."))
def test_a_daemon_that_is_told_to_stop_stops_in_order(chain: Chain) -> None:
    until(chain, lambda: chain.status)
    assert chain.stop_gateway() == 0
    assert chain.log("gateway").read_text(encoding="utf-8").splitlines()[-1].endswith("stopped in order")
    store = chain.directory / "site" / "store"
    assert not (store / "tankgate.db-wal").exists() and not (store / "control.sock").exists()
    until(chain, lambda: chain.is_online is False)
    chain.start_gateway()
    until(chain, lambda: chain.is_online)
