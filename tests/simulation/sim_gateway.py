"""A Pi on the fake clock: the daemon's policies and its store, in the order of edge/daemon.py, with a cord. Policy.

But for the store's file, which is real. A commit is on disk when its time is over; what is taken and not yet there is
gone when the power is cut.
"""

from collections import deque
from pathlib import Path
from random import Random

from edge.batch import Batch
from edge.boards import Boards, ClockChanged, Taken
from edge.forward import Forward
from edge.pipeline import Pipeline
from edge.planning import from_json, plan_board, to_json
from edge.store import Store
from protocols.feeds import json_feed
from protocols.model import Site
from tests.simulation.parts import SECOND_US, Cable, Time, Wake
from tests.simulation.sim_broker import Broker

POSITIONS_S = 10.0
RECONNECT_S = 2.0


class WallClock:
    """What the Pi's clock says, and whether the kernel trusts it. `offsets_ms`: all that it ever was off by."""

    def __init__(self, time: Time, utc_ms: int) -> None:
        self._time = time
        self._offset_ms = utc_ms
        self.is_trusted = False
        self.offsets_ms = [utc_ms]

    def ms(self) -> int:
        """UTC, as far as it knows."""
        return self._time.now_us // 1000 + self._offset_ms

    def set(self, offset_ms: int) -> None:
        """Somebody sets it."""
        self._offset_ms = offset_ms
        self.offsets_ms.append(offset_ms)


class SimGateway:
    """One Pi: `start` it, `cut` its power. `cables` lead to the boards by their ports."""

    def __init__(
        self,
        time: Time,
        chance: Random,
        site: Site,
        path: Path,
        clock: WallClock,
        cables: dict[str, tuple[Cable, Cable]],
        broker: Broker,
    ) -> None:
        self.is_on = False
        self.boots = 0
        self.gone = 0  # messages that were to be sent and are not kept
        self._time = time
        self._chance = chance
        self._site = site
        self._path = path
        self._clock = clock
        self._cables = cables
        self._broker = broker
        self._wake = Wake(time, self._turn)

    @property
    def _now_s(self) -> float:
        return self._time.now_us / SECOND_US

    def start(self) -> None:
        """Power: as Daemon begins."""
        self.is_on = True
        self.boots += 1
        now_s, site = self._now_s, self._site
        self._store = store = Store.open(self._path, site.gateway, self._clock.ms(), self._chance.randbytes)
        content = json_feed.birth_content(site, "0.1.0", "0.1.0", "simulated")
        birth = json_feed.birth_id(content)
        store.save_birth(birth, content)
        marks = store.taken()
        self.pipeline = Pipeline(site, store.epoch, "simulated", birth, store.births(), marks, False, store.held())
        plans = {}
        for board in site.boards:
            known = [from_json(text) for _generation, text in store.plans(board.name)]
            for plan in known:
                self.pipeline.add_plan(plan)
            plans[board.name] = plan = plan_board(site, board.name, birth, known, ())
            store.save_plan(plan.board, plan.generation, plan.plan, to_json(plan))
            self.pipeline.add_plan(plan)
        self.boards = Boards(site, plans, {(mark.board, mark.boot): mark.next_record for mark in marks})
        self._last_seq = store.epochs()
        self.forward = Forward(store.positions("district"), self._last_seq)
        self._live: dict[tuple[str, str, int], tuple[str, bytes]] = {}
        self._queue: deque[list[Batch]] = deque()
        self._committing: list[list[Batch]] = []
        self._positions_s = 0.0
        self._connection = 0
        self.pipeline.begin(content, now_s)
        for port, (up, _down) in self._cables.items():
            up.to(lambda data, port=port: self._heard(port, data))  # type: ignore[misc]
            self.boards.opened(port, now_s)
        self._time.after(RECONNECT_S * SECOND_US, self._connect)
        self._wake.at(self._time.now_us)

    def cut(self) -> None:
        """No power: what is not on disk is gone."""
        self.is_on = False
        self._wake.off()
        self._broker.closed(self._connection)
        self._connection = 0
        for up, _down in self._cables.values():
            up.to(None)
        self._store.close()

    def is_at_rest(self) -> bool:
        """Nothing waits for the disk or the district."""
        return self.is_on and not self._queue and not self._committing and not self.forward.backlog()

    def last_seq(self) -> dict[str, dict[str, int]]:
        """What was made: epoch -> stream -> number."""
        return self._last_seq

    # --- the deciding thread ----------------------------------------------------------------------------------------

    def _heard(self, port: str, data: bytes) -> None:
        self.boards.received(port, data, self._now_s, self._clock.ms(), self._clock.is_trusted)
        self._turn()

    def _turn(self) -> None:
        now_s = self._now_s
        self.boards.tick(now_s)
        events, self.boards.events = self.boards.events, []
        for event in events:
            if isinstance(event, Taken):
                self.pipeline.take(event, now_s)
            elif isinstance(event, ClockChanged):
                self.pipeline.clock_changed(event.board, event.boot, event.uptime_ms, event.clock, now_s)
        if now_s >= self.pipeline.due_s():
            batches = self.pipeline.close(now_s)
            if batches:
                self._queue.append(batches)
                self._write()
        out, self.boards.out = self.boards.out, []
        for port, data in out:
            self._cables[port][1].send(data)
        self._send()
        due_s = min(self.boards.due_s(), self.pipeline.due_s(), self.forward.due_s(), now_s + 60)
        self._wake.at(int(due_s * SECOND_US) + 1)

    # --- the writing thread -----------------------------------------------------------------------------------------

    def _write(self) -> None:
        """What waits goes to the disk together, where it is after a while."""
        if self._committing or not self._queue:
            return
        self._committing, self._queue = list(self._queue), deque()
        boot = self.boots
        self._time.after(self._chance.uniform(2000, 40_000), lambda: self._written(boot))

    def _written(self, boot: int) -> None:
        if not self.is_on or boot != self.boots:
            return
        positions = {}
        if self._now_s >= self._positions_s and self.forward.dirty:
            self._positions_s = self._now_s + POSITIONS_S
            positions = {"district": self.forward.positions()}
        groups, self._committing = self._committing, []
        self._store.commit([batch for group in groups for batch in group], positions)
        for batch in (batch for group in groups for batch in group):
            for mark in batch.taken:
                self.boards.committed(mark.board, mark.boot, mark.next_record)
            for message in batch.messages:
                self._last_seq[self._store.epoch][message.stream] = message.seq
                if message.payload is not None and len(self._live) < 100:
                    self._live[self._store.epoch, message.stream, message.seq] = (message.kind, message.payload)
                self.forward.committed(self._store.epoch, message.stream, message.seq, message.seq)
        self._write()
        self._turn()

    # --- upwards ----------------------------------------------------------------------------------------------------

    def _connect(self) -> None:
        if not self.is_on or self._connection:
            return
        boot = self.boots
        self._connection = self._broker.connect(
            lambda key, code: self._acknowledged(boot, key, code), lambda: self._disconnected(boot)
        )
        if self._connection:
            self.forward.connected(self._now_s, 20)
            self._turn()
        else:
            self._time.after(RECONNECT_S * SECOND_US, self._connect)

    def _disconnected(self, boot: int) -> None:
        if self.is_on and boot == self.boots:
            self._connection = 0
            self.forward.disconnected(self._now_s)
            self._time.after(RECONNECT_S * SECOND_US, self._connect)

    def _send(self) -> None:
        if not self._connection:
            return
        while (chosen := self.forward.next(self._now_s)) is not None:
            epoch, stream, seq, _late = chosen
            found = self._live.pop((epoch, stream, seq), None) or self._store.payload(epoch, stream, seq)
            if found is None:
                self.gone += 1
                self.forward.gone((epoch, stream, seq))
            else:
                self._broker.publish(self._connection, (epoch, stream, seq), found[1])

    def _acknowledged(self, boot: int, key: tuple[str, str, int], code: int) -> None:
        if self.is_on and boot == self.boots:
            self.forward.acknowledged(key, code, self._now_s)
            self._send()
