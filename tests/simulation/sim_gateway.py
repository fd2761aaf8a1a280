"""A Pi on the fake clock: the real daemon, whose ports, clocks, disk and MQTT client are the world's. Policy.

Nothing that a daemon does is written again here. Of its two threads the deciding one has its turn whenever something
happens or is due, and the writing one a while after it was given something: what it commits is in a real SQLite file.
What was not yet committed is gone when the power is cut.
"""

import logging
import os
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from operator import itemgetter
from pathlib import Path
from random import Random
from types import SimpleNamespace
from typing import Any
from unittest.mock import patch

import apsw

from edge.apart import Checked
from edge.batch import Batch
from edge.daemon import REOPEN_S, Daemon
from edge.reader import Reader, Take
from edge.store import DamagedMessage, Store, StoreFault
from edge.writer import POSITIONS_S, RETRY_S, Group, Writer
from protocols.model import Destination, Site
from tests.simulation.parts import SECOND_US, Cable, Time, Wake
from tests.simulation.sim_broker import Broker, Client

SPINS_US = 1000  # more than one turn in ten microseconds for so long is no work


@dataclass(frozen=True, slots=True)
class Line:
    """What a wall clock said from a moment on: so much UTC at that moment, and so many ppm too fast since."""

    since_us: int
    utc_ms: float
    ppm: float

    def ms(self, now_us: float) -> float:
        """UTC at a moment, true or not."""
        return self.utc_ms + (now_us - self.since_us) / 1000 * (1 + self.ppm / 1e6)


class WallClock:
    """What the Pi's clock says, and whether the kernel trusts it. `trusted`: what it ever said while it did.

    While nobody corrects it, its crystal is `ppm` off.
    """

    def __init__(self, time: Time, utc_ms: float, ppm: float) -> None:
        self.is_trusted = False
        self.turn_us = 0  # how long the gateway's turn has taken until now
        self._time = time
        self._ppm = ppm
        self._line = Line(time.now_us, utc_ms, ppm)
        self.trusted: list[Line] = []

    def ms(self) -> float:
        """UTC, as far as it knows."""
        return self._line.ms(self._time.now_us + self.turn_us)

    def set(self, utc_ms: float, is_trusted: bool) -> None:
        """Somebody sets it, and is trusted or not."""
        self.is_trusted = is_trusted
        self._line = Line(self._time.now_us, utc_ms, 0.0 if is_trusted else self._ppm)
        if is_trusted:
            self.trusted.append(self._line)


class _Port:
    """As edge/serial_port.py's: the Pi's end of a cable, which may be pulled out of its socket."""

    def __init__(self, gateway: "SimGateway", path: str) -> None:
        self.path = path
        self.fault = ""
        self.fileno: int | None = None
        self.heard: list[bytes] = []
        self.is_pulled = False
        self._gateway = gateway
        self._up, self._down = gateway.cables[path]
        gateway.ports[path] = self

    def open(self) -> bool:
        if self.path in self._gateway.pulled:
            self.fault = "no such device"
            return False
        self.fault = ""
        self.fileno = 1000 + sorted(self._gateway.cables).index(self.path)
        self._up.to(self._hear)
        return True

    def pull(self) -> None:
        if self.fileno is not None:
            self.is_pulled = True
            self._hear(b"")

    def read(self) -> bytes:
        data, self.heard = b"".join(self.heard), []
        self._gateway.clock.turn_us += self._gateway.reading_us
        if self.is_pulled:
            self.close()
            self.fault = "input/output error"
            return b""
        return data

    def write(self, data: bytes) -> None:
        self._down.send(data)

    def close(self) -> None:
        self.is_pulled = False
        self.fileno = None
        self.heard = []
        self._up.to(None)

    def _hear(self, data: bytes) -> None:
        self.heard.append(data)
        self._gateway.soon()


class _Disk(Store):
    """The store on a disk that may be full, or say that it failed after all was written."""

    def __init__(self, gateway: "SimGateway", *arguments: Any, **more: Any) -> None:
        super().__init__(*arguments, **more)
        self._pi = gateway

    def _begin(self, *arguments: Any) -> None:
        self._fail("full")
        super()._begin(*arguments)

    def commit(self, *arguments: Any, **more: Any) -> None:
        self._fail("full")
        self._tried_then = None
        super().commit(*arguments, **more)
        if self._pi.disk == "lies" and self._tried_then is not None:
            self._pi.disk = "well"
            self._tried = self._tried_then
            raise StoreFault("disk I/O error") from apsw.IOError("disk I/O error")

    def _insert(self, *arguments: Any) -> None:
        self._tried_then = self._tried
        super()._insert(*arguments)

    def _fail(self, how: str) -> None:
        if self._pi.disk == how:
            raise StoreFault("database or disk is full") from apsw.FullError("database or disk is full")


class _Writer(Writer):
    """The writing thread without a thread: the gateway lets it work."""

    gateway: "SimGateway"

    def start(self) -> None:
        self.gateway.writer = self
        self.gateway.write_after(RETRY_S if self.gone else POSITIONS_S)

    def put(self, group: Group, now_s: float) -> Any:
        self.gateway.note_made(group)
        given_up = super().put(group, now_s)
        self.gateway.write_soon()
        return given_up

    def hang(self, now_s: float) -> None:
        """The disk does not answer any more."""
        self._busy_since_s = now_s
        self._in_hand = len(self._queue)


class _Reader(Reader):
    """The reading thread without a thread."""

    gateway: "SimGateway"

    def start(self) -> None:
        self.gateway.reader = self

    def ask(self, read: Callable[[], Any], take: Take) -> None:
        super().ask(read, take)
        self.gateway.read_soon()

    def hang(self, now_s: float) -> None:
        """The disk does not answer any more."""
        if not self._to_read.empty():
            self._busy_since_s = now_s if self._busy_since_s is None else self._busy_since_s

    def work(self) -> None:
        """All that was asked for."""
        self._busy_since_s = None
        while not self._to_read.empty():
            asked = self._to_read.get()
            assert asked is not None
            self.read(asked)


class _Door:
    def __init__(self, _path: Path) -> None:
        self.replied: Any = None

    def reply(self, _client: Any, answer: Any) -> None:
        self.replied = answer

    def filenos(self) -> list[int]:
        return []

    def close(self) -> None:
        pass


class SimDaemon(Daemon):
    """The daemon of a gateway."""

    def __init__(self, gateway: "SimGateway", site: Site) -> None:
        self._gateway = gateway
        super().__init__(gateway.folder / "gateway.toml", Checked(site, b"", (), ()), False)

    def wall_ms(self) -> float:
        return self._gateway.clock.ms()

    def _is_clock_trusted(self) -> bool:
        return self._gateway.clock.is_trusted

    def _client(self, destination: Destination) -> Any:
        return self._gateway.client(destination.name)

    def _wait(self, _timeout_s: float) -> set[int]:
        return {port.fileno for port in self._gateway.ports.values() if port.heard and port.fileno is not None}

    def _keep_captures(self) -> None:
        self._pipeline.rebuilt.went_bad.clear()

    def _due_s(self) -> float:
        return 0.0  # of a wait that there is not

    def _keep_ports_open(self, now_s: float) -> None:
        """Looked at again only while one is closed."""
        is_closed = None in [port.fileno for port in self._ports.values()]
        if is_closed or now_s >= self._scan_s:
            self._scan_s = min(self._scan_s, now_s + REOPEN_S)
            super()._keep_ports_open(now_s)
            if None not in [port.fileno for port in self._ports.values()]:
                self._scan_s = float("inf")

    def due_s(self, now_s: float) -> float:
        """When it wants its turn although nothing happens: each second only while there is trouble."""
        is_well = self.keeping.is_well and not self._writer.waiting()
        return min(super()._due_s(), now_s + (5.0 if is_well else 1.0))

    def is_at_rest(self) -> bool:
        """Nothing waits for the disk or the district."""
        return not self._writer.waiting() and not any(uplink.forward.backlog() for uplink in self._uplinks)

    def close(self) -> None:
        """Without any order."""
        self._store._let_go()
        for end in (self._wake_read, self._wake_write):
            os.close(end)


class SimGateway:
    """One Pi: `start` it, `cut` its power. `cables` lead to the boards by their ports."""

    def __init__(
        self,
        time: Time,
        chance: Random,
        site: Site,
        folder: Path,
        clock: WallClock,
        cables: dict[str, tuple[Cable, Cable]],
        brokers: dict[str, Broker],
    ) -> None:
        self.is_on = False
        self.folder = folder
        self.clock = clock
        self.cables = cables
        self.pulled: set[str] = set()  # ports whose plug is out
        self.ports: dict[str, _Port] = {}
        self.disk = "well"  # "full"; "lies": the next commit is on disk, and seems to have failed
        self.writer: _Writer
        self.reader: _Reader
        self.reading_us = 0  # how long what comes through a port keeps the deciding thread busy
        self.made: dict[tuple[str, int], list[tuple[str, str, int]]] = {}  # message -> boards, boots, uptimes in it
        self._daemon: SimDaemon | None = None
        self._clients: list[Client] = []
        self._is_hanging = False  # its disk, for who writes
        self._is_blind = False  # the same, for who reads
        self._turned_us = self._turns = 0
        self._time = time
        self._chance = chance
        self.site = site  # what it starts on
        self._brokers = brokers  # by destination
        self._wake = Wake(time, self._turn)
        self._disk_wake = Wake(time, self._write)
        self._read_wake = Wake(time, self._read)

    @contextmanager
    def in_place(self) -> Iterator[None]:
        """While this lasts daemons are made of the world's parts."""
        fake_time = SimpleNamespace(monotonic=lambda: self.now_s, time=lambda: self.clock.ms() / 1000)
        writer = type("_ThisWriter", (_Writer,), {"gateway": self})
        reader = type("_ThisReader", (_Reader,), {"gateway": self})
        with ExitStack() as stack:
            stack.enter_context(
                patch.multiple(
                    "edge.daemon",
                    time=fake_time,
                    secrets=SimpleNamespace(token_bytes=self._chance.randbytes),
                    signal=SimpleNamespace(signal=lambda *_: None, SIGTERM=0, SIGINT=0, SIGHUP=0),
                    Door=_Door,
                    SerialPort=lambda path: _Port(self, path),
                    Store=lambda *arguments, **more: _Disk(self, *arguments, **more),
                    Writer=writer,
                    Reader=reader,
                )
            )
            stack.enter_context(patch("edge.writer.time", fake_time))
            stack.enter_context(patch("edge.reader.time", fake_time))
            stack.enter_context(patch.object(logging.getLogger("tankgate"), "disabled", True))
            yield

    @property
    def now_s(self) -> float:
        """Its monotonic clock."""
        return (self._time.now_us + self.clock.turn_us) / SECOND_US

    def client(self, destination: str) -> Client:
        """The daemon's way upwards."""
        self._clients.append(Client(self._brokers[destination], self._time, self._chance, self._soon_enough))
        return self._clients[-1]

    def start(self) -> None:
        """Power."""
        self.is_on = True
        self.ports = {}
        self._is_hanging = self._is_blind = False
        self._daemon = SimDaemon(self, self.site)
        self._daemon.begin()
        self.soon()

    def cut(self) -> None:
        """No power: what is not on disk is gone."""
        self.is_on = False
        self._wake.off()
        self._disk_wake.off()
        self._read_wake.off()
        while self._clients:
            self._clients.pop().cut()
        for port in self.ports.values():
            port.close()
        if self._daemon is not None:
            self._daemon.close()
        self._daemon = None

    def note_made(self, group: Group) -> None:
        """Of what the data messages tell that are to be committed."""
        assert self._daemon is not None
        for batch in group.batches:
            for message in batch.messages:
                if message.stream == "data" and isinstance(batch, Batch):
                    samples = set(map(itemgetter(0, 1), batch.rows))  # section and uptime
                    self.made[self._daemon.epoch, message.seq] = [
                        (batch.sections[at].board, batch.sections[at].boot, uptime_ms) for at, uptime_ms in samples
                    ]

    def ask(self, request: dict[str, Any]) -> Any:
        """As through the daemon's door; what is answered at once, or when the disk has been read."""
        assert self._daemon is not None
        nobody: Any = None
        answer = self._daemon._answer(nobody, request, self.now_s)
        if answer is None:
            self.reader.work()
            self.reader.answer(self.now_s)
            door: Any = self._daemon._door
            answer = door.replied
        self.soon()
        return answer

    def pull(self, path: str) -> None:
        """Somebody pulls a plug, which is put in again when it leaves `pulled`."""
        self.pulled.add(path)
        if path in self.ports:
            self.ports[path].pull()

    def hang(self, for_us: float) -> None:
        """The disk answers nothing for so long; sometimes only who reads has to wait."""
        if not self.is_on or self._is_hanging or self._is_blind:
            return
        self.hang_reads(for_us)
        if self._chance.random() < 0.5:
            self._is_hanging = True
            self._disk_wake.off()
            self.writer.hang(self.now_s)
            self._disk_wake.at(int(self._time.now_us + for_us))

    def hang_reads(self, for_us: float) -> None:
        """Who reads the disk has to wait."""
        self._is_blind = True
        self.reader.hang(self.now_s)
        self._read_wake.off()
        self._read_wake.at(int(self._time.now_us + for_us))

    def read_soon(self) -> None:
        """Something waits for the reading thread."""
        if self._is_blind:
            self.reader.hang(self.now_s)
        else:
            self._read_wake.at(int(self._time.now_us + self._chance.uniform(100, 10_000)))

    def soon(self) -> None:
        """Something happened that the deciding thread waits for."""
        if self.is_on:
            self._wake.at(self._time.now_us)

    def _soon_enough(self) -> None:
        """What comes from the broker may wait for the next turn for a while: fewer turns, more simulated hours."""
        if self.is_on:
            self._wake.at(self._time.now_us + 100_000)

    def write_soon(self) -> None:
        """Something waits for the writing thread."""
        if not self._is_hanging and not self.writer.gone:
            self.write_after(self._chance.uniform(0.002, 0.04))

    def write_after(self, after_s: float) -> None:
        """The writing thread looks by itself."""
        self._disk_wake.at(int(self._time.now_us + after_s * SECOND_US))

    def is_at_rest(self) -> bool:
        """Nothing waits for the disk or the district."""
        return self._daemon is not None and self._daemon.is_at_rest()

    def kept(self) -> dict[str, dict[str, tuple[int, int]]]:
        """What is in the store: epoch -> stream -> first and last number."""
        assert self._daemon is not None
        return self._daemon._store.epochs()

    def has(self, epoch: str, stream: str, seq: int) -> bool:
        """Whether a message can be read from the store."""
        assert self._daemon is not None
        try:
            return self._daemon._store.payload(epoch, stream, seq) is not None
        except DamagedMessage:
            return False

    def _turn(self) -> None:
        assert self._daemon is not None
        self._daemon.turn()
        self.clock.turn_us = 0
        self._wake.at(max(int(self._daemon.due_s(self.now_s) * SECOND_US), self._time.now_us) + 1)
        if self._time.now_us > self._turned_us + SPINS_US:
            self._turned_us, self._turns = self._time.now_us, 0
        self._turns += 1
        if self._turns > SPINS_US // 10:
            raise AssertionError(f"the daemon turns and turns at {self.now_s} s")

    def _read(self) -> None:
        self._is_blind = False
        self.reader.work()
        self._wake.at(self._time.now_us + self._chance.randrange(5000))

    def _write(self) -> None:
        self._is_hanging = False
        self.writer.work()
        self.write_after(RETRY_S if self.writer.gone else POSITIONS_S)
        self._wake.at(self._time.now_us + self._chance.randrange(5000))
