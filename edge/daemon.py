"""The daemon: builds the objects, runs the deciding and the writing thread, stops in order. Shell. Start reading here.

One thread decides: it waits for the ports, the control door and the wake pipe until the next deadline that a policy
named, and never waits for the disk. One thread writes: whole batches from a bounded queue into the store. Only when a
batch is on disk the boards are told that it is committed, and its messages may be sent. Each destination has paho's
thread; it only reports what happened. Must never decide what is taken, reported or sent: the policies do.
"""

import ctypes
import json
import logging
import os
import secrets
import select
import signal
import threading
import time
from collections import deque
from dataclasses import asdict, replace
from gettext import gettext as _
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from edge import __version__, statistics
from edge.batch import Batch
from edge.boards import Boards, ClockChanged, Noted, Taken
from edge.cli import BUSY, FOUND_A_FAULT
from edge.control import NAME as CONTROL_NAME
from edge.control import Door, InUse
from edge.forward import REFUSED, Forward
from edge.northbound import Northbound
from edge.pipeline import Pipeline
from edge.planning import compile_board, from_json, to_json
from edge.serial_port import SerialPort, candidates
from edge.store import Store, StoreFault
from edge.troubles import troubles
from protocols import model
from protocols.feeds import json_feed
from protocols.model import Destination, Site

log = logging.getLogger("tankgate")

STATE_S = 600.0
REOPEN_S = 1.0
POSITIONS_S = 10.0
QUEUE_MAX = 600  # closed batches that wait for the disk
LIVE_MAX = 100  # payloads kept in memory until they are sent; the others are made again from the store
STA_UNSYNC = 0x0040


class Writer(threading.Thread):
    """The writing thread: commits what `put` gave it, in order, and says so through the wake pipe."""

    def __init__(self, store: Store, wake: int) -> None:
        super().__init__(name="writer", daemon=True)
        self.committed: deque[list[Batch]] = deque()
        self.fault: StoreFault | None = None
        self._store = store
        self._wake = wake
        self._queue: deque[list[Batch]] = deque()
        self._positions: dict[str, Any] = {}
        self._something = threading.Condition()
        self._stopping = False

    def put(self, batches: list[Batch]) -> None:
        """To be committed together; False-like faults are told by `fault`."""
        with self._something:
            self._queue.append(batches)
            self._something.notify()

    def put_positions(self, destination: str, positions: Any) -> None:
        """Positions ride in the next transaction."""
        with self._something:
            self._positions[destination] = positions
            self._something.notify()

    def waiting(self) -> int:
        """How many closed batches wait for the disk."""
        return len(self._queue)

    def stop(self) -> None:
        """Commit what is queued, then end."""
        with self._something:
            self._stopping = True
            self._something.notify()
        self.join()

    def run(self) -> None:
        """Commit until stopped."""
        while True:
            with self._something:
                while not self._queue and not self._positions and not self._stopping:
                    self._something.wait()
                if not self._queue and not self._positions:
                    return
                groups = list(self._queue)
                self._queue.clear()
                positions, self._positions = self._positions, {}
            try:
                self._store.commit([batch for group in groups for batch in group], positions)
            except StoreFault as fault:
                self.fault = fault
                os.write(self._wake, b"w")
                return
            self.committed.extend(groups)
            os.write(self._wake, b"w")


class Daemon:
    """One running gateway."""

    def __init__(self, site: Site, simulated: bool) -> None:
        self._site = site
        self._simulated = simulated
        self._mode = "simulated" if simulated else "live"
        self._stopping = False
        self._clock_step_ms = 0  # of the simulated site's clock
        self._started_s = time.monotonic()
        self._session_ms = int(self._wall_ms())
        self._wake_read, self._wake_write = os.pipe()
        os.set_blocking(self._wake_read, False)
        os.set_blocking(self._wake_write, False)

        directory = Path(site.store.path)
        directory.mkdir(parents=True, exist_ok=True)
        self._door = Door(directory / CONTROL_NAME)  # first: where another daemon holds it, nothing is touched
        self._store = Store.open(directory / "tankgate.db", site.gateway, int(self._wall_ms()), secrets.token_bytes)
        for sentence in self._store.notes:
            log.warning(sentence)

        content = json_feed.birth_content(site, __version__, __version__, self._mode)
        birth = json_feed.birth_id(content)
        self._store.save_birth(birth, content)
        births = self._store.births()
        marks = self._store.taken()
        is_set_aside = bool(self._store.notes)
        self._pipeline = Pipeline(site, self._store.epoch, self._mode, birth, births, marks, is_set_aside)
        self._content = content
        plans = {}
        for board in site.boards:
            plan = compile_board(site, board.name, birth, self._add_stored_plans(board.name, birth))
            if plan is None:
                continue
            self._store.save_plan(plan.board, plan.generation, plan.plan, to_json(plan))
            plans[board.name] = plan
            self._pipeline.add_plan(plan)
        self._boards = Boards(site, plans, {(mark.board, mark.boot): mark.next_record for mark in marks})
        self.epoch = self._store.epoch
        self.last_seq = self._store.epochs()  # of what is on disk: epoch -> stream -> number

        self._ports: dict[str, SerialPort] = {}
        self._reopen_s: dict[str, float] = {}
        self._scan_s = 0.0
        self._writer = Writer(self._store, self._wake_write)
        self._uplinks = [_Uplink(self, destination) for destination in site.destinations]
        self._live: dict[tuple[str, str, int], tuple[str, bytes]] = {}  # kind and payload
        self._positions_s = 0.0

    def _add_stored_plans(self, board: str, birth: str) -> set[int]:
        """Let samples of earlier plans be understood; the generations that belong to another birth than this."""
        others = set()
        for generation, text in self._store.plans(board):
            try:
                plan = from_json(text)
                self._pipeline.add_plan(plan)
            except (KeyError, TypeError, ValueError) as fault:  # written by a version that knew other fields
                others.add(generation)
                log.warning(
                    _(
                        "board {board}: its stored plan of generation {generation} cannot be read by this version "
                        "({fault}); samples that were taken under it become a gap"
                    ).format(board=board, generation=generation, fault=repr(fault))
                )
            else:
                if plan.birth != birth:
                    others.add(generation)
        return others

    # --- clocks -----------------------------------------------------------------------------------------------------

    def _wall_ms(self) -> float:
        return time.time() * 1000 + self._clock_step_ms

    def _is_clock_trusted(self) -> bool:
        """Whether the kernel says that its clock is synchronized; a simulated site has no other clock."""
        return self._simulated or _kernel_synchronized()

    # --- the deciding thread ----------------------------------------------------------------------------------------

    def run(self) -> int:
        """Until SIGTERM or SIGINT; the exit code."""
        signal.signal(signal.SIGTERM, self._stop_soon)
        signal.signal(signal.SIGINT, self._stop_soon)
        self._writer.start()
        self._pipeline.begin(self._content, time.monotonic())
        for uplink in self._uplinks:
            uplink.northbound.start()
        log.info(
            _("gateway {gateway}: running, epoch {epoch}, birth {birth}, {points} points").format(
                gateway=self._site.gateway,
                epoch=self._store.epoch,
                birth=self._pipeline.birth,
                points=len(self._site.points),
            )
        )
        while not self._stopping:
            self._turn()
            if self._writer.fault is not None:
                log.error(
                    _("store: {fault}. Stopping, so that the boards keep what is not on disk").format(
                        fault=self._writer.fault
                    )
                )
                return FOUND_A_FAULT
        self._stop()
        return 0

    def _turn(self) -> None:
        """Wait until something happens or is due, then let every policy have its say."""
        now_s = time.monotonic()
        readable = self._wait(max(0.0, min(self._due_s(), now_s + 1.0) - now_s))
        now_s = time.monotonic()
        if self._wake_read in readable:
            os.read(self._wake_read, 4096)
        for path, port in list(self._ports.items()):
            if port.fileno in readable:
                self._receive(path, port, now_s)
        for fileno in self._door.filenos():
            if fileno in readable:
                for client, request in self._door.receive(fileno):
                    self._door.reply(client, self._answer(request, now_s))
        self._keep_ports_open(now_s)
        self._boards.tick(now_s)
        self._digest_events(now_s)
        if now_s >= self._pipeline.due_s() and self._writer.waiting() < QUEUE_MAX:
            batches = self._pipeline.close(now_s)
            if batches:
                self._writer.put(batches)
        self._digest_commits(now_s)
        self._write_out()
        for uplink in self._uplinks:
            uplink.work(now_s)

    def _wait(self, timeout_s: float) -> set[int]:
        watched = [port.fileno for port in self._ports.values() if port.fileno is not None]
        watched += self._door.filenos()
        watched.append(self._wake_read)
        readable, _writable, _broken = select.select(watched, [], [], timeout_s)
        return set(readable)

    def _due_s(self) -> float:
        times = [self._boards.due_s(), self._pipeline.due_s(), self._scan_s]
        times += [uplink.due_s() for uplink in self._uplinks]
        return min(times)

    def _receive(self, path: str, port: SerialPort, now_s: float) -> None:
        data = port.read()
        if data:
            self._boards.received(path, data, now_s, self._wall_ms(), self._is_clock_trusted())
        self._close_if_lost(path, port)

    def _close_if_lost(self, path: str, port: SerialPort) -> None:
        if port.fileno is None:
            log.warning(_("port {port}: lost ({fault}); opened again as soon as it is back").format(
                port=path, fault=port.fault))
            self._boards.closed(path)

    def _keep_ports_open(self, now_s: float) -> None:
        """Open pinned ports, and every serial port while a board without a pinned port is not found."""
        if now_s < self._scan_s:
            return
        self._scan_s = now_s + REOPEN_S
        wanted = {board.port for board in self._site.boards if board.port}
        searched = [board.name for board in self._site.boards if not board.port]
        if any(self._boards.attached[name].port is None for name in searched):
            wanted.update(candidates())
        for path in sorted(wanted):
            port = self._ports.get(path)
            if port is None:
                port = self._ports[path] = SerialPort(path)
            if port.fileno is None:
                told = port.fault
                if port.open():
                    self._boards.opened(path, now_s)
                elif port.fault != told and path in {board.port for board in self._site.boards}:
                    log.warning(_("port {port}: cannot be opened ({fault}); tried again each second").format(
                        port=path, fault=port.fault))

    def _digest_events(self, now_s: float) -> None:
        events, self._boards.events = self._boards.events, []
        for event in events:
            if isinstance(event, Taken):
                self._pipeline.take(event, now_s)
            elif isinstance(event, ClockChanged):
                self._pipeline.clock_changed(event.board, event.boot, event.uptime_ms, event.clock, now_s)
            elif isinstance(event, Noted):
                log.log(logging.WARNING if event.warning else logging.INFO, "%s", event.text)

    def _digest_commits(self, now_s: float) -> None:
        """What is on disk: the boards may free it, the destinations may have it."""
        while self._writer.committed:
            for batch in self._writer.committed.popleft():
                for mark in batch.taken:
                    self._boards.committed(mark.board, mark.boot, mark.next_record)
                for message in batch.messages:
                    self.last_seq[self.epoch][message.stream] = message.seq
                    if message.payload is not None and len(self._live) < LIVE_MAX:
                        self._live[self.epoch, message.stream, message.seq] = (message.kind, message.payload)
                    for uplink in self._uplinks:
                        uplink.forward.committed(self.epoch, message.stream, message.seq, message.seq)
        if now_s >= self._positions_s:
            self._positions_s = now_s + POSITIONS_S
            for uplink in self._uplinks:
                if uplink.forward.dirty:
                    self._writer.put_positions(uplink.destination.name, uplink.forward.positions())

    def _write_out(self) -> None:
        out, self._boards.out = self._boards.out, []
        for path, data in out:
            port = self._ports[path]
            if port.fileno is not None:
                port.write(data)
                self._close_if_lost(path, port)

    # --- what is sent upwards ---------------------------------------------------------------------------------------

    def payload(self, key: tuple[str, str, int]) -> tuple[str, bytes] | None:
        """Kind and payload of a numbered message: as it was made, or from history."""
        return self._live.pop(key, None) or self._store.payload(*key)

    def birth_document(self) -> bytes:
        """The birth as it is retained."""
        return json_feed.birth(self._site.gateway, self._store.epoch, 1, self._pipeline.birth, self._content)

    def link_document(self, online: bool) -> bytes:
        """Online or not; the broker publishes the second on loss."""
        return json_feed.link(self._site.gateway, self._store.epoch, online, self._session_ms)

    def state_document(self, uplink: "_Uplink", now_s: float) -> bytes:
        """Everything that a wall of sites shows, in one retained document."""
        return json_feed.state(
            self._site.gateway,
            self._store.epoch,
            self._pipeline.birth,
            mode=self._mode,
            at_ms=int(self._wall_ms()),
            clock=self._clock_state(),
            epochs=uplink.epochs(),
            values=list(self._values(now_s)),
            alarms=[],
            boards=self._board_rows(now_s),
            buses=[[name, *bus.row()] for name, bus in self._buses(now_s)],
            units=[[*name, *unit.row(now_s)] for name, unit in self._units()],
            store=self._store_state(uplink),
        )

    def _values(self, now_s: float) -> Any:
        down = {name for name, board in self._boards.attached.items() if not board.up(now_s)}
        buses = {bus.name: bus.board for bus in self._site.buses}
        boards = {point.point: buses[point.bus] for point in self._site.points}
        for name, latest in self._pipeline.latest():
            if boards.get(name) in down:
                yield name, latest[0] if latest else None, None, model.BOARD_DOWN, 0
            elif latest is None:
                yield name, None, None, model.NEVER_READ, 0
            else:
                yield name, *latest

    def _clock_state(self) -> dict[str, Any]:
        clocks = [each.timebase.clock for each in self._boards.attached.values() if each.timebase is not None]
        known = [clock for clock in clocks if clock.err_ms is not None]
        if not known:
            return {"kind": "unsynced", "err_ms": None, "since_ms": None}
        worst = max(known, key=lambda clock: clock.err_ms or 0)
        return {"kind": worst.kind, "err_ms": worst.err_ms, "since_ms": None}

    def _board_rows(self, now_s: float) -> list[list[Any]]:
        return [
            [name, "up" if each.up(now_s) else "down", each.boot, each.uptime_s, each.ring_used_percent]
            for name, each in self._boards.attached.items()
        ]

    def _buses(self, now_s: float) -> list[tuple[str, statistics.Bus]]:
        """Of the site as it is now; the state of a bus is known while its board is up."""
        known = self._pipeline.statistics.buses
        buses = [(bus, known.get(bus.name, statistics.Bus())) for bus in self._site.buses]
        return [
            (bus.name, fared if self._boards.attached[bus.board].up(now_s) else replace(fared, state=None))
            for bus, fared in buses
        ]

    def _units(self) -> list[tuple[tuple[str, int], statistics.Unit]]:
        """Of the site as it is now: of others samples may still come."""
        polled = sorted({(point.bus, point.unit_id) for point in self._site.points})
        return [(name, self._pipeline.statistics.units.get(name, statistics.Unit())) for name in polled]

    def _store_state(self, uplink: "_Uplink") -> dict[str, Any]:
        disk = os.statvfs(self._site.store.path)
        return {
            "state": "ok" if self._writer.fault is None else "fault",
            "free_bytes": disk.f_bavail * disk.f_frsize,
            "history_hours": self._site.store.readings_days * 24,
            "backlog_messages": uplink.forward.backlog(),
            "journal_head": None,
        }

    # --- the local door ---------------------------------------------------------------------------------------------

    def _answer(self, request: dict[str, Any], now_s: float) -> dict[str, Any]:
        do = request.get("do")
        if do == "status":
            return self._status(now_s)
        if do == "step_clock" and self._simulated and isinstance(request.get("ms"), int):
            self._clock_step_ms += request["ms"]
            return {"done": True}
        return {"error": _("unknown request {request}: allowed is {allowed}").format(
            request=json.dumps(request), allowed='{"do": "status"}')}

    def _status(self, now_s: float) -> dict[str, Any]:
        return {
            "gateway": self._site.gateway,
            "mode": self._mode,
            "epoch": self._store.epoch,
            "birth": self._pipeline.birth,
            "uptime_s": round(now_s - self._started_s, 1),
            "pid": os.getpid(),
            "version": __version__,
            "clock": self._clock_state(),
            "samples": self._pipeline.samples,
            "refused_samples": self._pipeline.refused_samples,
            "next_seq": dict(self._pipeline.next_seq),
            "to_commit": self._writer.waiting(),
            "unproven_profiles": sorted(
                name for name, profile in self._site.profiles.items() if not profile.proven
            ),
            "boards": [
                {
                    "board": name,
                    "id": each.board.id,
                    "link": "up" if each.up(now_s) else "down",
                    "port": each.port,
                    "boot": each.boot,
                    "firmware": each.firmware,
                    "uptime_s": each.uptime_s,
                    "ring_used_pct": each.ring_used_percent,
                }
                for name, each in self._boards.attached.items()
            ],
            "destinations": [uplink.status() for uplink in self._uplinks],
            "buses": [
                {"bus": name, "state": bus.state_name, **bus.figures(now_s)} for name, bus in self._buses(now_s)
            ],
            "units": [
                {"bus": bus, "unit_id": unit_id, **unit.figures(now_s)} for (bus, unit_id), unit in self._units()
            ],
            "troubles": [asdict(each) for each in troubles(self._buses(now_s), self._units(), now_s)],
            "values": [
                {"point": point, "t_ms": t_ms, "value": value, "status": status, "detail": detail}
                for point, t_ms, value, status, detail in self._values(now_s)
            ],
        }

    # --- the end ----------------------------------------------------------------------------------------------------

    def _stop_soon(self, _signal: int, _frame: Any) -> None:
        self._stopping = True
        os.write(self._wake_write, b"s")

    def _stop(self) -> None:
        """Commit what was taken, tell the boards, say goodbye upwards, close."""
        now_s = time.monotonic()
        batches = self._pipeline.close(now_s)
        if batches:
            self._writer.put(batches)
        for uplink in self._uplinks:
            self._writer.put_positions(uplink.destination.name, uplink.forward.positions())
        self._writer.stop()
        self._digest_commits(now_s)
        self._write_out()
        for uplink in self._uplinks:
            uplink.northbound.stop()
        self._door.close()
        for port in self._ports.values():
            port.close()
        self._store.close()
        log.info(_("gateway {gateway}: stopped in order").format(gateway=self._site.gateway))


class _Uplink:
    """One destination: its policy, its client, and the documents that it keeps retained there."""

    def __init__(self, daemon: Daemon, destination: Destination) -> None:
        self.destination = destination
        self._daemon = daemon
        store = daemon._store
        self.forward = Forward(store.positions(destination.name), store.epochs())
        self.northbound = Northbound(
            destination,
            daemon._site.gateway,
            daemon._wake_write,
            json_feed.topic(daemon._site.gateway, "link"),
            daemon.link_document(False),
        )
        self._keys: dict[int, tuple[str, str, int]] = {}
        self._state_s = float("inf")
        self._connected = False
        self._reason = ""

    def due_s(self) -> float:
        """When `work` wants to be called without anything happening."""
        return min(self.forward.due_s(), self._state_s)

    def work(self, now_s: float) -> None:
        """Take what the client reports, send what the policy wants sent."""
        for event in self.northbound.events():
            self._digest(event, now_s)
        if not self._connected:
            return
        while True:
            chosen = self.forward.next(now_s)
            if chosen is None:
                break
            self._send(chosen)
        if now_s >= self._state_s:
            self._publish_state(now_s)

    def epochs(self) -> dict[str, Any]:
        """For the state document: what was made, and what this destination has not yet acknowledged.

        An epoch that is over and wholly acknowledged is not listed.
        """
        epochs = {}
        for epoch, last in self._daemon.last_seq.items():
            streams = {
                stream: {
                    "next": last[stream] + 1,
                    "receipted": None,
                    "pending": self.forward.pending(epoch, stream),
                    "oldest_kept": 1,
                }
                for stream in last
            }
            if epoch == self._daemon.epoch or any(each["pending"] for each in streams.values()):
                epochs[epoch] = streams
        return epochs

    def status(self) -> dict[str, Any]:
        """For `tankgate status`."""
        return {
            "destination": self.destination.name,
            "url": _without_password(self.destination.url),
            "connected": self._connected,
            "reason": self._reason,
            "backlog_messages": self.forward.backlog(),
            "in_flight": self.forward.in_flight(),
            "acknowledged_messages": self.forward.acknowledged_count,
            "refused": self.forward.refused(),
        }

    def _digest(self, event: tuple[Any, ...], now_s: float) -> None:
        if event[0] == "connected":
            self._connected = True
            self._reason = ""
            self._keys.clear()
            self.forward.connected(now_s, event[1])
            gateway = self._daemon._site.gateway
            self.northbound.publish(json_feed.topic(gateway, "link"), self._daemon.link_document(True), retain=True)
            self.northbound.publish(json_feed.topic(gateway, "birth"), self._daemon.birth_document(), retain=True)
            self._publish_state(now_s)
            log.info(_("{destination}: connected").format(destination=self.destination.name))
        elif event[0] == "disconnected":
            if self._connected or event[1] != self._reason:
                log.warning(_("{destination}: not connected ({reason}); kept on disk and sent later").format(
                    destination=self.destination.name, reason=event[1]))
            self._connected = False
            self._reason = event[1]
            self._keys.clear()
            self.forward.disconnected(now_s)
        elif event[0] == "acknowledged":
            key = self._keys.pop(event[1], None)
            if key is not None:
                self._acknowledged(key, event[2], now_s)

    def _acknowledged(self, key: tuple[str, str, int], reason_code: int, now_s: float) -> None:
        self.forward.acknowledged(key, reason_code, now_s)
        if reason_code >= REFUSED and self.forward.refused()[reason_code] == 1:
            log.warning(
                _(
                    "{destination}: the broker refuses messages of stream {stream} (reason code {reason_code}); kept "
                    "on disk and tried again each minute. Check its access rules."
                ).format(destination=self.destination.name, stream=key[1], reason_code=reason_code)
            )

    def _send(self, chosen: tuple[str, str, int, bool]) -> None:
        epoch, stream, seq, late = chosen
        try:
            found = self._daemon.payload((epoch, stream, seq))
        except StoreFault as fault:
            log.error(_("store: {fault}; this message is left out").format(fault=fault))
            found = None
        if found is None:
            self.forward.gone((epoch, stream, seq))
            return
        kind, payload = found
        topic = json_feed.topic(self._daemon._site.gateway, "data" if kind == "data" else f"event/{kind}")
        properties = [("sent_ms", str(int(self._daemon._wall_ms()))), ("late", "1" if late else "0")]
        token = self.northbound.publish(topic, payload, retain=False, user_properties=properties)
        self._keys[token] = (epoch, stream, seq)

    def _publish_state(self, now_s: float) -> None:
        self._state_s = now_s + STATE_S
        topic = json_feed.topic(self._daemon._site.gateway, "state")
        self.northbound.publish(topic, self._daemon.state_document(self, now_s), retain=True)


def run(site: Site, *, simulated: bool) -> int:
    """Run until told to stop; the exit code."""
    try:
        daemon = Daemon(site, simulated)
    except InUse as fault:
        log.error("%s", fault)
        return BUSY
    except (OSError, StoreFault, ValueError) as fault:  # the store's place, or a destination's certificates
        log.error(_("gateway {gateway}: cannot start: {fault}").format(gateway=site.gateway, fault=fault))
        return FOUND_A_FAULT
    return daemon.run()


def _without_password(url: str) -> str:
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.hostname}:{parts.port or ''}".rstrip(":")


class _Timex(ctypes.Structure):
    """struct timex of Linux: `status` is all that is read of it."""

    _fields_ = (
        ("modes", ctypes.c_uint),
        ("offset", ctypes.c_long),
        ("freq", ctypes.c_long),
        ("maxerror", ctypes.c_long),
        ("esterror", ctypes.c_long),
        ("status", ctypes.c_int),
        ("rest", ctypes.c_byte * 512),
    )


_libc = ctypes.CDLL(None)


def _kernel_synchronized() -> bool:
    timex = _Timex()
    return _libc.adjtimex(ctypes.byref(timex)) >= 0 and not timex.status & STA_UNSYNC
