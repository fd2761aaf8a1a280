"""The bench's chain with the district's PostgreSQL at its end, judged by the bench's ledger. Shell.

Owns the site that is judged (the example's, on which every poll gives another value and all of them are due), the
receiver and its database, and the way from the database's rows to the ledger: what counts as arrived is what the
database has committed, with the times that it has. Must never look at what is still on its way.
"""

import asyncio
import csv
import io
import json
import os
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from hil_tests.bench.board import DIES_WITH_ITS_STARTER
from hil_tests.bench.chance import draw
from hil_tests.bench.ledger import Poll
from hil_tests.chain import SITE, Chain
from hil_tests.mosquitto import Mosquitto
from tests.edge.postgres import Postgres, rows
from tests.figures.receiver_rate import ROOT, copy_command

# Nothing persisted: what a killed broker had not handed on is gone.
FORGETFUL = "allow_anonymous true\nmax_queued_messages 0\n"
_URGENT = "sensepoint-xcd"  # points of these devices: a message for each reading
_VALUE_HOLDS_S = 0.001  # two polls right after one another must not give the same: which of them came would be open
_DECIMALS = {"level": 3, "temp": 2, "gas": 1}  # what the sensors of the example can tell
_CALM = 0.3, 0.6  # of a range; no alarm limit lies there
_STEP_S = 0.01
_LOOK_S = 2.0
_FIRST_S = 60.0

_READINGS = """
SELECT s.epoch, m.seq, m.err_ms, extract(epoch FROM m.received_at) * 1000, p.point,
    (extract(epoch FROM r.t) * 1000)::bigint, r.value, r.status, r.detail
FROM reading r JOIN stream s ON s.id = r.stream JOIN message m ON m.stream = r.stream AND m.seq = r.seq
JOIN point p ON p.id = r.point ORDER BY m.received_at, s.epoch, m.seq, r.t, p.point
"""
_GAPS = """
SELECT s.epoch, gap.seq, (extract(epoch FROM from_t) * 1000)::bigint, (extract(epoch FROM to_t) * 1000)::bigint,
    cause, board, bus, gap.payload -> 'scope', (gap.payload #>> '{time,err_ms}')::integer
FROM gap JOIN stream s ON s.id = gap.stream WHERE from_t IS NOT NULL ORDER BY s.epoch, gap.seq
"""


class Gap(NamedTuple):
    """A gap record as the database has it."""

    epoch: str
    seq: int
    from_ms: int
    to_ms: int
    cause: str
    board: str | None
    bus: str | None
    scope: dict[str, Any]
    err_ms: int | None


class JudgedChain(Chain):
    """Started whole; entered once every point has a reading in the database."""

    def __init__(self, directory: Path) -> None:
        super().__init__(directory, site=_site(directory / "of"), measure=self._value)
        self._taken: set[tuple[str, int]] = set()
        self._taken_gaps: set[tuple[str, int]] = set()
        self._copy: subprocess.Popen[bytes] | None = None
        self.calm = {row["point"]: _calm(row) for row in _rows_of((SITE / "points.csv").read_text(encoding="utf-8"))}
        self._server = Postgres()
        self.database = self._server.create("district")

    # --- the parts ------------------------------------------------------------------------------------------

    def start(self) -> None:
        """OSError where not every point has come within a minute."""
        self.start_broker(Mosquitto)
        assert isinstance(self.broker, Mosquitto)
        self.broker.kill()
        self.broker.configure(FORGETFUL)
        self.broker.start()
        self.come()
        self.wait(lambda: "broker: in order" in self.log("district").read_text(encoding="utf-8"), _FIRST_S)
        self.start_boards()
        self.start_gateway()
        self.wait(self._is_begun, _FIRST_S)

    def come(self) -> None:
        """The district's receiver, from now on; it connects by itself."""
        with self.log("district").open("ab") as log:
            self._copy = subprocess.Popen(
                [*DIES_WITH_ITS_STARTER, *copy_command(self.broker.port, self.database)],
                cwd=ROOT,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=log,
                env=os.environ | {"LANGUAGE": "en"},
            )

    def leave(self) -> None:
        """kill -9 of the receiver."""
        if self._copy is not None:
            self._copy.kill()
            self._copy.wait()
            self._copy = None

    def close(self) -> None:
        """Stop whatever was started."""
        super().close()
        self.leave()
        self._server.close()

    # --- time -----------------------------------------------------------------------------------------------

    def run(self, seconds: float) -> None:
        """Let the bench work for so long. OSError where a process ended by itself."""
        end_s = self.bench.now_s() + seconds
        while self.bench.now_s() < end_s:
            self.step(_STEP_S)
            if (name := self.ended()) is not None:
                raise OSError(f"{name} ended: {self.log(name).read_text(encoding='utf-8', errors='replace')[-2000:]}")

    def wait(self, true: Callable[[], object], within_s: float) -> bool:
        """Let the bench work, where there is one, until it is so, or so long; whether it is so."""
        end_s = time.monotonic() + within_s
        while not true():
            if time.monotonic() > end_s:
                return False
            if hasattr(self, "bench"):
                self.run(_STEP_S)
            else:
                time.sleep(_STEP_S)
        return True

    # --- the database ---------------------------------------------------------------------------------------

    def ask(self, query: str, *arguments: Any) -> list[tuple[Any, ...]]:
        """What the database answers."""
        return asyncio.run(rows(self.database, query, *arguments))

    def take_in(self) -> list[Gap]:
        """Give the ledger what the database has by now; all gaps."""
        gaps = [Gap(*row[:-2], _object(row[-2]), row[-1]) for row in self.ask(_GAPS)]
        for gap in gaps:
            if (gap.epoch, gap.seq) not in self._taken_gaps:
                self._taken_gaps.add((gap.epoch, gap.seq))
                self.bench.ledger.received(_gap_message(gap))
        for message in _data_messages(self.ask(_READINGS)):
            identity = message["payload"]["epoch"], message["payload"]["seq"]
            if identity not in self._taken:
                self._taken.add(identity)
                self.bench.ledger.received(message)
        return gaps

    def lost(self, until_ms: int, within_s: float) -> list[Poll]:
        """What was due until then and neither arrives nor is told to be missing, however long one waits."""

        def missing() -> list[Poll]:
            self.take_in()
            return [poll for poll in self.bench.ledger.missing(self.now_ms, 0) if poll.utc_ms <= until_ms]

        end_s = time.monotonic() + within_s
        while (lost := missing()) and time.monotonic() < end_s:
            self.run(_LOOK_S)
        return lost

    def _is_begun(self) -> bool:
        self.run(0.5)
        ((came,),) = self.ask("SELECT count(DISTINCT point) FROM reading")
        return bool(came == len(self.calm))

    def _value(self, point: str, now_s: float) -> float:
        low, high = self.calm[point]
        return round(low + (high - low) * draw(1, point, int(now_s / _VALUE_HOLDS_S)), _DECIMALS[point.split(".")[1]])


@contextmanager
def judged(directory: Path) -> Iterator[JudgedChain]:
    """One at work. OSError where it does not come to work."""
    chain = JudgedChain(directory)
    try:
        chain.start()
        yield chain
    finally:
        chain.close()


# --- the site -----------------------------------------------------------------------------------------------


def _site(folder: Path) -> Path:
    """The example's site, with receipts, deadbands of 0, and a message for each reading of some points."""
    shutil.copytree(SITE, folder)
    with (folder / "gateway.toml").open("a", encoding="utf-8") as gateway_toml:
        gateway_toml.write("await_receipt = true\n")
    points_csv = folder / "points.csv"
    table = list(csv.reader(io.StringIO(points_csv.read_text(encoding="utf-8").removeprefix("\ufeff"))))
    names = [heading.split()[-1] for heading in table[0]]
    with points_csv.open("w", encoding="utf-8", newline="") as file:
        sheet = csv.writer(file)
        sheet.writerow([*table[0], "urgent"])
        for row in table[1:]:
            row[names.index("deadband")] = "0"
            sheet.writerow([*row, int(row[names.index("profile")] == _URGENT)])
    return folder


def _rows_of(points_csv: str) -> Iterator[dict[str, str]]:
    table = csv.reader(io.StringIO(points_csv.removeprefix("\ufeff")))
    names = [heading.split()[-1] for heading in next(table)]
    return (dict(zip(names, row, strict=False)) for row in table if row)


def _calm(row: dict[str, str]) -> tuple[float, float]:
    low = float(row["L"] or row["range_low"])
    high = float(row["H"] or row["range_high"])
    return low + _CALM[0] * (high - low), low + _CALM[1] * (high - low)


# --- what the database has, as the ledger takes it ------------------------------------------------------------


def _data_messages(table: list[tuple[Any, ...]]) -> Iterator[dict[str, Any]]:
    messages: dict[tuple[str, int], dict[str, Any]] = {}
    for epoch, seq, err_ms, received_ms, point, t_ms, value, status, detail in table:
        message = messages.get((epoch, seq))
        if message is None:
            message = messages[epoch, seq] = _message(
                epoch, "data", seq, int(received_ms), t0_ms=0, time={"kind": "synced", "err_ms": err_ms}, rows=[]
            )
        message["payload"]["rows"].append((point, t_ms, value, status, detail))
    return iter(messages.values())


def _gap_message(gap: Gap) -> dict[str, Any]:
    span: dict[str, Any] = {"from_ms": gap.from_ms, "to_ms": gap.to_ms, "time": {"err_ms": gap.err_ms}}
    return _message(gap.epoch, "event", gap.seq, 0, "gap", scope=gap.scope, **span)


def _message(epoch: str, stream: str, seq: int, received_ms: int, kind: str = "data", **payload: Any) -> dict[str, Any]:
    identity = {"schema": f"tankgate/{kind}/1", "epoch": epoch, "stream": stream, "seq": seq}
    return {"retained": False, "received_ms": received_ms, "payload": identity | payload}


def _object(scope: str | dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(scope) if isinstance(scope, str) else scope
    return found
