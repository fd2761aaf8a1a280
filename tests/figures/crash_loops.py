"""Kill everything, often, and see what is missing in the district's database. Shell.

The real daemon, virtual boards, mosquitto (which persists nothing) and `tankgate listen --into`, judged by the bench's
ledger on a site where every poll is due: the daemon killed (-9) at any moment; the broker killed while the receiver is
connected, 5 ms slow with each message, or away; boards without power; the network and the link cables cut cleanly and
silently; a card cloned and at work beside the first; a card set back to an older copy. `make prove` does it as often as
FULL says, which takes half an hour and more; the figures are of a sample.

lost_readings: due, not in the database, and in no gap record. wrong_readings: numbers that no sensor gave, or that the
database has twice. lost_events: what the last card has in its journal and the database has not; power cuts of which no
gap tells; alarms that the gateway had told of and that did not come. reordered_events: events that, in the order of
their numbers, do not follow from those before: an alarm from another state than it had, a gap or a clock of before.
"""

import functools
import random
import shutil
import sqlite3
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from subprocess import DEVNULL, STDOUT, Popen
from typing import NamedTuple

import click

from hil_tests.bench.board import DIES_WITH_ITS_STARTER
from hil_tests.bench.ledger import Figures, Poll
from tests.figures import tools
from tests.figures.figure import Measured
from tests.figures.judged_chain import Gap, JudgedChain, judged
from tests.figures.receiver_rate import ROOT

SAMPLE = {
    "daemon killed": 40,
    "broker killed, receiver connected": 3,
    "broker killed, receiver slow": 3,
    "broker killed, receiver away": 3,
    "board without power": 8,
    "network cut": 2,
    "network silent": 1,
    "cable cut": 2,
    "cable pulled": 2,
    "files broken, and mended": 3,
    "card cloned": 1,
    "card set back": 1,
}
FULL = {
    "daemon killed": 200,
    "broker killed, receiver connected": 20,
    "broker killed, receiver slow": 20,
    "broker killed, receiver away": 20,
    "board without power": 50,
    "network cut": 15,
    "network silent": 10,
    "cable cut": 15,
    "cable pulled": 15,
    "files broken, and mended": 20,
    "card cloned": 5,
    "card set back": 5,
}
SEED = 20261126
_FILES_ALARM = "system.config:FAULT"
_SILENT_S = 50.0  # a gateway notices after one and a half keep-alives of 30 s
_CALM_S = 5.0
_PATIENCE_S = 150.0  # a gateway waits up to a minute before it connects, and doubts its broker for half of one
_LOOK_S = 1.0
_TOLD = 5  # findings beside a figure
_SLACK_MS = 60
# What is broken here may leave gaps of these causes, and of no others.
_OF_A_CUT = {"board_restart", "board_down", "not_running"}  # by who else was away, and for how long
_OF_A_CARD = {"ring_full"}  # an older one does not know what the boards were told is safe

_SLOW = """
CREATE FUNCTION slow() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN PERFORM pg_sleep(0.005); RETURN NEW; END $$;
CREATE TRIGGER slow BEFORE INSERT ON message FOR EACH ROW EXECUTE FUNCTION slow();
ALTER TABLE message DISABLE TRIGGER slow;
"""
_EVENTS = "SELECT s.epoch, m.seq FROM message m JOIN stream s ON s.id = m.stream WHERE s.stream = 'event'"
_ALARMS = "SELECT s.epoch, a.seq, a.transition FROM alarm a JOIN stream s ON s.id = a.stream WHERE a.alarm = $1"
# Within an epoch: an alarm goes on from where it was, gaps of a board and clocks of a boot go on in time.
_REORDERED = """
SELECT count(*) FROM (
    SELECT seq, from_state <> lag(to_state) OVER w OR occurrence < lag(occurrence) OVER w OR t < lag(t) OVER w AS wrong
    FROM alarm WINDOW w AS (PARTITION BY stream, alarm ORDER BY seq)
    UNION ALL
    SELECT seq, to_t < lag(to_t) OVER w FROM gap WHERE cause <> 'other_master'
    WINDOW w AS (PARTITION BY stream, board ORDER BY seq)
    UNION ALL
    SELECT seq, from_uptime_ms < lag(from_uptime_ms) OVER w FROM clock
    WINDOW w AS (PARTITION BY stream, boot ORDER BY seq)
) AS judged WHERE wrong
"""


class PowerCut(NamedTuple):
    """Of a board; by the bench's clock."""

    board: str
    off_ms: int
    on_ms: int


class Outcome(NamedTuple):
    """What came of it all."""

    lost_readings: int
    wrong_readings: int
    lost_events: int
    reordered_events: int
    is_spoilt: bool
    beside: str
    findings: list[str]


class Loops:
    """The faults, on one chain; each leaves everything running."""

    def __init__(self, chain: JudgedChain, seed: int) -> None:
        self.cuts: list[PowerCut] = []
        self.told: list[tuple[str, int, str]] = []  # epoch, number and transition of alarms that the gateway told of
        self._chain = chain
        self._chance = random.Random(seed)
        self._spare = chain.directory / "spare"
        self.faults: dict[str, Callable[[], None]] = {
            "daemon killed": self._daemon_killed,
            "broker killed, receiver connected": self._broker_killed,
            "broker killed, receiver slow": self._broker_killed_slow,
            "broker killed, receiver away": self._broker_killed_away,
            "board without power": self._board_without_power,
            "network cut": self._network_cut,
            "network silent": self._network_silent,
            "cable cut": self._cable_cut,
            "cable pulled": self._cable_pulled,
            "files broken, and mended": self._files_broken,
            "card cloned": self._card_cloned,
            "card set back": self._card_set_back,
        }

    def schedule(self, counts: dict[str, int]) -> list[str]:
        """So often each, in any order."""
        order = [name for name, count in counts.items() for _time in range(count)]
        self._chance.shuffle(order)
        return order

    def _run(self, least_s: float, most_s: float) -> None:
        self._chain.run(self._chance.uniform(least_s, most_s))

    # --- programs -------------------------------------------------------------------------------------------

    def _daemon_killed(self) -> None:
        self._run(0.1, 4.0)
        self._chain.kill_gateway()
        self._run(0.0, 0.5)
        self._chain.start_gateway()

    def _broker_killed(self) -> None:
        self._run(0.5, 3.0)
        self._chain.broker.kill()
        self._run(0.0, 1.5)
        self._chain.broker.start()

    def _broker_killed_slow(self) -> None:
        """While some seconds of messages are on their way."""
        self._chain.ask("ALTER TABLE message ENABLE TRIGGER slow")
        self._chain.path.cut()
        self._run(2.0, 5.0)
        self._chain.path.restore()
        self._connected()
        self._run(0.0, 0.5)
        self._chain.broker.kill()
        self._run(0.0, 1.5)
        self._chain.broker.start()
        self._run(1.0, 3.0)
        self._chain.ask("ALTER TABLE message DISABLE TRIGGER slow")

    def _broker_killed_away(self) -> None:
        self._run(0.5, 2.0)
        self._chain.leave()
        self._run(1.0, 4.0)
        self._chain.broker.kill()
        self._run(0.0, 1.0)
        self._chain.broker.start()
        self._run(0.0, 3.0)
        self._chain.come()

    # --- power and cables -----------------------------------------------------------------------------------

    def _board_without_power(self) -> None:
        name = self._chance.choice(sorted(self._chain.bench.boards))
        board = self._chain.bench.boards[name]
        self._run(0.3, 3.0)
        board.power_off()
        off_ms = self._chain.now_ms
        self._run(0.2, 2.0)
        self.cuts.append(PowerCut(name, off_ms, self._chain.now_ms))
        board.power_on()

    def _network_cut(self) -> None:
        self._run(0.5, 2.0)
        self._chain.path.cut()
        self._run(1.0, 8.0)
        self._chain.path.restore()

    def _network_silent(self) -> None:
        """Whoever was connected over it will never hear of the other end again."""
        self._run(0.5, 2.0)
        self._chain.path.silent = True
        self._chain.run(_SILENT_S)
        self._chain.path.cut()
        self._chain.path.silent = False
        self._chain.path.restore()

    def _cable_cut(self) -> None:
        cable = self._chain.bench.cables[self._chance.choice(sorted(self._chain.bench.cables))]
        cable.cut = True
        self._run(1.0, 6.0)
        cable.cut = False

    def _cable_pulled(self) -> None:
        board = self._chance.choice(sorted(self._chain.bench.cables))
        self._chain.bench.unplug(board)
        self._run(0.5, 4.0)
        self._chain.bench.plug_in(board)

    # --- files and cards ------------------------------------------------------------------------------------

    @property
    def _site(self) -> Path:
        return self._chain.directory / "site"

    def _files_broken(self) -> None:
        """An alarm that comes and goes, and what the gateway told of it."""
        self._answers()
        points_csv = self._site / "points.csv"
        good = points_csv.read_text(encoding="utf-8")
        for text, transition, is_active in ((good + "nonsense\n", "raise", True), (good, "clear", False)):
            points_csv.write_text(text, encoding="utf-8")
            self._chain.hang_up()
            if not self._chain.wait(lambda is_so=is_active: self._is_files_alarm() is is_so, _PATIENCE_S):
                raise OSError(f"the gateway did not {transition} {_FILES_ALARM}")
            self._chain.run(1.0)  # until that is on disk
            status = self._chain.status
            alarm = next(alarm for alarm in status["alarms"] if alarm["alarm"] == _FILES_ALARM)
            self.told.append((status["epoch"], alarm["seq"], transition))

    def _is_files_alarm(self) -> bool | None:
        found = [alarm["active"] for alarm in self._chain.status.get("alarms", ()) if alarm["alarm"] == _FILES_ALARM]
        return any(found) if self._chain.status else None

    def _card_cloned(self) -> None:
        """The copy starts under the same name, without boards, while the first one is at work."""
        self._chain.kill_gateway()
        clone = self._chain.directory / "clone"
        _copy(self._site, clone)
        self._chain.start_gateway()
        gateway_toml = clone / "gateway.toml"
        text = gateway_toml.read_text(encoding="utf-8")
        for name, cable in self._chain.bench.cables.items():
            text = text.replace(str(cable.plug), str(clone / f"no-{name}"))
        gateway_toml.write_text(text, encoding="utf-8")
        with self._chain.log("clone").open("ab") as log:
            command = [*DIES_WITH_ITS_STARTER, sys.executable, "-m", "edge", "run", str(gateway_toml), "--simulated"]
            second = Popen(command, cwd=ROOT, stdin=DEVNULL, stdout=log, stderr=STDOUT)
        self._run(6.0, 10.0)
        second.kill()
        second.wait()
        shutil.rmtree(clone)

    def _card_set_back(self) -> None:
        """To some seconds ago. Events of since then are with the district already; readings need not be."""
        self._chain.kill_gateway()
        _copy(self._site / "store", self._spare)
        self._chain.start_gateway()
        self._answers()
        self._run(3.0, 8.0)
        self._chain.wait(self._has_every_told_event, _PATIENCE_S)
        self._chain.kill_gateway()
        shutil.rmtree(self._site / "store")
        self._spare.rename(self._site / "store")
        self._chain.start_gateway()

    def _has_every_told_event(self) -> bool:
        self._chain.run(1.0)
        status = self._chain.status
        if not status:
            return False
        came = set(self._chain.ask(_EVENTS))
        return all((status["epoch"], seq) in came for seq in range(1, status["next_seq"]["event"]))

    # --- waiting --------------------------------------------------------------------------------------------

    def _answers(self) -> None:
        if not self._chain.wait(lambda: self._chain.status, _PATIENCE_S):
            raise OSError("the gateway does not answer")

    def _connected(self) -> None:
        self._chain.wait(lambda: any(each["connected"] for each in self._chain.status.get("destinations", ())), 20.0)


def _copy(folder: Path, to: Path) -> None:
    shutil.copytree(folder, to, ignore=shutil.ignore_patterns("control.sock"))


def _events_on_card(site: Path) -> set[tuple[str, int]]:
    """What the journal of a killed daemon has."""
    sql = "SELECT epoch.epoch, seq FROM message JOIN epoch ON epoch.id = message.epoch WHERE stream = 'event'"
    with tempfile.TemporaryDirectory() as name:
        _copy(site / "store", card := Path(name) / "card")  # reading it would tidy up what that daemon left
        with closing(sqlite3.connect(card / "tankgate.db")) as store:
            return set(store.execute(sql).fetchall())


def run(counts: dict[str, int], seed: int, say: Callable[[str], None] = lambda _sentence: None) -> Outcome:
    """All these faults, one after the other, and what came of them."""
    with tempfile.TemporaryDirectory(prefix="figures-") as name, judged(Path(name)) as chain:
        for statement in _SLOW.strip().split(";\n"):
            chain.ask(statement)
        loops = Loops(chain, seed)
        order = loops.schedule(counts)
        for number, fault in enumerate(order, 1):
            say(f"{number}/{len(order)} {fault}")
            loops.faults[fault]()
        chain.run(_CALM_S)
        return _judge(chain, loops, len(order))


def _judge(chain: JudgedChain, loops: Loops, faults: int) -> Outcome:
    chain.kill_gateway()
    on_card = _events_on_card(chain.directory / "site")
    chain.start_gateway()
    end_ms, began_s = chain.now_ms, time.monotonic()
    lost = chain.lost(end_ms, _PATIENCE_S)
    while (lacking := on_card - set(chain.ask(_EVENTS))) and time.monotonic() < began_s + _PATIENCE_S:
        chain.run(_LOOK_S)
    took_s = time.monotonic() - began_s
    gaps = chain.take_in()
    untold = [cut for cut in loops.cuts if not any(_tells(gap, cut) for gap in gaps)]
    came = set(chain.ask(_ALARMS, _FILES_ALARM))
    unheard = [told for told in loops.told if told not in came]
    ((reordered,),) = chain.ask(_REORDERED)
    ((aside,),) = chain.ask("SELECT count(*) FROM set_aside")
    figures = chain.figures()
    causes = Counter(gap.cause for gap in gaps)
    logs = [*chain.directory.glob("*.log"), *chain.directory.glob("bench/*/console.log")]
    crashed = [log for log in logs if "Traceback" in log.read_text(encoding="utf-8", errors="replace")]
    findings = [
        *(f"lost reading: {poll}; the nearest gap: {_nearest(gaps, poll)}" for poll in lost),
        *chain.bench.ledger.findings,
        *(f"lost event: {epoch} {seq}" for epoch, seq in sorted(lacking)),
        *(f"no gap: {cut}" for cut in untold),
        *(f"lost alarm: {told}" for told in unheard),
        *(f"traceback in {log}" for log in crashed),
    ]
    beside = (
        f"{faults} faults; of {figures.due} due readings {figures.received} in the database, {figures.admitted} named "
        f"by gaps ({', '.join(f'{cause} {count}' for cause, count in sorted(causes.items()))}); {figures.unexplained} "
        f"told as failures though the wire answered; {len(chain.ask(_EVENTS))} events; {aside} set aside; whole "
        f"{took_s:.0f} s after the last fault; seed {SEED}"
    )
    return Outcome(
        lost_readings=len(lost),
        wrong_readings=figures.wrong_values + figures.duplicated,
        lost_events=len(lacking) + len(untold) + len(unheard),
        reordered_events=int(reordered),
        is_spoilt=bool(crashed) or bool(aside) or not causes.keys() <= _OF_A_CUT | _OF_A_CARD or _is_little(figures),
        beside=beside,
        findings=findings,
    )


def _is_little(figures: Figures) -> bool:
    """Whether so little came that nothing was shown."""
    return figures.received < 0.8 * figures.due or figures.received < 1000


def _nearest(gaps: list[Gap], poll: Poll) -> Gap | None:
    return min(gaps, key=lambda gap: max(gap.from_ms - poll.utc_ms, poll.utc_ms - gap.to_ms), default=None)


def _tells(gap: Gap, cut: PowerCut) -> bool:
    return (
        gap.board == cut.board
        and gap.cause in _OF_A_CUT
        and gap.from_ms <= cut.off_ms + _SLACK_MS
        and cut.on_ms - _SLACK_MS <= gap.to_ms
    )


# --- the figures --------------------------------------------------------------------------------------------


@functools.cache
def _sample() -> Outcome:
    """One run serves all four."""
    return run(SAMPLE, SEED)


def _measured(number: int) -> Measured:
    outcome = _sample()
    beside = "; ".join([outcome.beside, *outcome.findings[:_TOLD]])
    return Measured(number, beside, spoilt=outcome.is_spoilt)


def lost_readings() -> Measured:
    """lost_readings."""
    return _measured(_sample().lost_readings)


def wrong_readings() -> Measured:
    """wrong_readings."""
    return _measured(_sample().wrong_readings)


def lost_events() -> Measured:
    """lost_events."""
    return _measured(_sample().lost_events)


def reordered_events() -> Measured:
    """reordered_events."""
    return _measured(_sample().reordered_events)


@click.command()
@click.option("--seed", default=SEED, show_default=True)
@click.option("--sample", is_flag=True, help="Only as often as for the figures.")
def main(seed: int, sample: bool) -> None:
    """Do it as often as FULL says; exit 1 where anything was lost, wrong or out of order."""
    tools.find()
    outcome = run(SAMPLE if sample else FULL, seed, click.echo)
    for finding in outcome.findings:
        click.echo(finding, err=True)
    counts = outcome[:4]
    click.echo(outcome.beside)
    click.echo("lost readings {}, wrong readings {}, lost events {}, reordered events {}".format(*counts))
    is_good = not any(counts) and not outcome.is_spoilt
    click.echo("PASSED" if is_good else "FAILED")
    sys.exit(not is_good)


if __name__ == "__main__":
    main()
