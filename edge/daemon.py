"""The daemon: builds the objects, runs the deciding thread, stops in order. Shell. Start reading here.

One thread decides: it waits for the ports, the control door and the wake pipe until the next deadline that a policy
named, and never waits for the disk. One thread writes (writer.py), one reads (reader.py). Only when a batch is on disk
the boards are told that it is committed, and its messages may be sent; where the store does not work, messages go out
unstored, marked so, and the boards keep what they have (keeping.py). Each destination (uplink.py) has paho's thread; it
only reports what happened. Changed files are checked in a process of their own; what they change is on disk before it
is in force.
Must never decide what is taken, reported or sent: the policies do.
"""

import json
import logging
import os
import secrets
import select
import signal
import threading
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from gettext import gettext as _
from pathlib import Path
from socket import socket
from typing import Any

from edge import __version__, captures, hardware, kernel_clock, last_good, statistics
from edge.alarms.horn import TEST_MOST_S, TEST_S, Horn
from edge.alarms.judge import Bypassed, Judge, Told
from edge.alarms.presets import alarms_of, birth_row
from edge.alarms.requests import REQUESTS, Requests, why_not_who
from edge.alarms.system import Change, SystemAlarms
from edge.apart import Check, Checked
from edge.boards import Boards, ClockChanged, Noted, Refused, Taken
from edge.changes import Changes, compare, leaving, restart_needed
from edge.cli import BUSY, FOUND_A_FAULT
from edge.control import NAME as CONTROL_NAME
from edge.control import Door, InUse, speaking
from edge.fault_words import reason
from edge.forward import Forward, Key
from edge.keeping import ALARM as STORE_ALARM
from edge.keeping import Keeping
from edge.northbound import Northbound
from edge.outputs import Outputs
from edge.pipeline import Pipeline
from edge.planning import BoardPlan, from_json, plan_board, to_json
from edge.reader import Reader
from edge.serial_port import SerialPort, candidates
from edge.store import FILE, Earlier, Store, StoreFault
from edge.troubles import troubles
from edge.uplink import Uplink
from edge.writer import Writer
from protocols import model, switching
from protocols.feeds import json_feed
from protocols.model import Destination, Input, Site

log = logging.getLogger("tankgate")

REOPEN_S = 1.0
FILES_ALARM = "system.config:FAULT"
# By then boards have started and told of their buses, which they do each minute: what an earlier process found wrong is
# found again, or is well.
LOOKED_S = 90.0
FOUND_PRIORITY = 2  # readings are missing, or a horn
FILES_PRIORITY = 3  # every point is still read and judged

Plans = dict[str, BoardPlan]  # by board


@dataclass(frozen=True, slots=True)
class _Coming:
    """What is to be in force as soon as it is on disk. `clients` and `positions`: of the destinations that begin."""

    site: Site
    content: dict[str, Any]
    birth: str
    plans: Plans
    files: bytes
    changes: Changes
    clients: dict[str, Northbound]
    positions: dict[str, dict[tuple[str, str, str], list[tuple[int, int]]]]

    def save(self, folder: Path, store: Store) -> None:
        """By the writing thread."""
        store.save_birth(self.birth, self.content)
        _save_plans(store, self.plans)
        last_good.keep(folder, self.files)


class Daemon:
    """One running gateway."""

    def __init__(self, gateway_toml: Path, checked: Checked, simulated: bool) -> None:
        assert checked.site is not None
        self._gateway_toml = gateway_toml.absolute()
        self._site = site = checked.site
        self._simulated = simulated
        self._mode = "simulated" if simulated else "live"
        self._stopping = False
        self._clock_step_ms = 0  # of the simulated site's clock
        self._started_s = time.monotonic()
        self._session_ms = int(self.wall_ms())
        self._wake_read, self._wake_write = os.pipe()
        os.set_blocking(self._wake_read, False)
        os.set_blocking(self._wake_write, False)
        self._is_told_to_apply = False  # by SIGHUP
        signal.signal(signal.SIGTERM, self._stop_soon)
        signal.signal(signal.SIGINT, self._stop_soon)
        signal.signal(signal.SIGHUP, self._apply_soon)

        directory = Path(site.store.path)
        directory.mkdir(parents=True, exist_ok=True)
        self._door = Door(directory / CONTROL_NAME)  # first: where another daemon holds it, nothing is touched
        self._store = Store(
            directory / FILE,
            site.gateway,
            int(self.wall_ms()),
            secrets.token_bytes,
            max_bytes=site.store.max_bytes,
            machine=hardware.machine(),
        )
        self._content = self._birth_content(site)
        birth = json_feed.birth_id(self._content)
        self._store.save_birth(birth, self._content)
        store_fault = self._open_store()
        marks = self._store.taken()
        is_set_aside = any(note.action == "store_set_aside" for note in self._store.notes)
        kept_alarms = self._store.alarms()
        self._alarms = SystemAlarms(kept_alarms)
        self._judge = Judge(
            site,
            kept_alarms,
            self._store.bypasses(),
            self._started_s,
            int(self.wall_ms()),
            self._store.last_bypass(),
            is_unread=store_fault is not None,
        )
        self._horn = Horn(site)
        self._pipeline = Pipeline(
            site,
            self._store.epoch,
            self._mode,
            birth,
            self._store.births(),
            marks,
            is_set_aside,
            self._store.held(),
            store_fault is not None,
            self._judge,
            self._horn,
            self._alarms,
        )
        self._outputs = Outputs(site, time.monotonic())
        self._known: dict[str, list[BoardPlan]] = {}  # by board: all whose samples may come, those in force first
        self._unreadable: dict[str, set[int]] = {}  # by board: generations of plans that this version cannot read
        for board in site.boards:
            self._load_plans(board.name, self._store.plans(board.name))
        self._plans = self._plan_boards(site, birth)
        try:
            _save_plans(self._store, self._plans)
            if checked.files:
                last_good.keep(directory, checked.files)
        except StoreFault as fault:
            store_fault = fault
        self._put_in_force(self._plans)
        self._boards = Boards(site, self._plans, {(mark.board, mark.boot): mark.next_record for mark in marks})
        self._requests = Requests(self._judge, self._alarms)
        self._told_changes: object = None  # of alarms and of what is on disk of them, to the state documents
        self._found: dict[str, str] = {}  # alarm of a unit or a bus -> what is to be done about it
        self.epoch = self._store.epoch

        self._ports: dict[str, SerialPort] = {}
        self._scan_s = 0.0
        self._writer = Writer(self._store, self._wake_write, site.store, self._known_ms, store_fault)
        self._reader = Reader(self._wake_write)
        self._uplinks: list[Uplink] = []
        self.keeping = Keeping(
            self, self._store, self._writer, self._reader, self._pipeline, self._boards, self._uplinks
        )
        kept = self._store.epochs()
        for each in site.destinations:
            forward = Forward(self._store.positions(each.name), kept, each.await_receipt)
            self._uplinks.append(Uplink(self, each, self._client(each), forward))

        self._check: Check | None = None
        self._is_saving = False  # what was checked
        self._asker: socket | None = None  # who waits for the answer; None: it was SIGHUP
        self._applied_by: str | None = None  # the person behind it
        self._language: object = None  # in which the asker is answered
        self._problems = checked.problems  # of the files, where the site is that of the last good ones

    def _birth_content(self, site: Site) -> dict[str, Any]:
        rows = (birth_row(setting) for setting in alarms_of(site))
        return json_feed.birth_content(site, __version__, __version__, self._mode, rows)

    def _open_store(self) -> StoreFault | None:
        """Without it the gateway starts all the same: the writing thread goes on trying."""
        try:
            self._store.open(int(self.wall_ms()))
        except StoreFault as fault:
            return fault
        return None

    def _plan_boards(self, site: Site, birth: str) -> Plans:
        """What each board is to poll; plans that are known already wherever they do."""
        return {
            board.name: plan_board(site, board.name, birth, self._known[board.name], self._unreadable[board.name])
            for board in site.boards
        }

    def boards(self) -> list[str]:
        """Those that plans are known of, or are to be."""
        return list(self._known)

    def learn(self, earlier: Earlier, now_s: float) -> None:
        """Plans and alarms that the store has become readable with."""
        for name, plans in earlier.plans.items():
            self._load_plans(name, plans)
        self._put_in_force(self._plans)
        told = self._judge.learn(earlier.alarms, earlier.bypasses, earlier.last_bypass, now_s, int(self.wall_ms()))
        self._tell_judged(told, now_s)
        for change in self._alarms.learn(earlier.alarms):
            self._tell(change, now_s)

    def store_all_alarms(self) -> None:
        """The store is a new one."""
        self._judge.store_all()
        self._alarms.store_all()

    def _load_plans(self, board: str, plans: Iterable[tuple[int, str]]) -> None:
        """Let samples of a board's earlier plans be understood."""
        self._known[board], self._unreadable[board] = [], set()
        for generation, text in plans:
            try:
                plan = from_json(text)
                self._pipeline.add_plan(plan)
                self._outputs.add_plan(plan)
            except (KeyError, TypeError, ValueError) as fault:  # written by a version that knew other fields
                self._unreadable[board].add(generation)
                log.warning(
                    _(
                        "board {board}: its stored plan of generation {generation} cannot be read by this version "
                        "({fault}); samples that were taken under it become a gap"
                    ).format(board=board, generation=generation, fault=repr(fault))
                )
            else:
                self._known[board].append(plan)

    def _put_in_force(self, plans: Plans) -> None:
        for name, plan in plans.items():
            self._pipeline.add_plan(plan)
            self._outputs.add_plan(plan)
            others = [known for known in self._known[name] if known.generation != plan.generation]
            self._known[name] = [plan, *others]

    def _client(self, destination: Destination) -> Northbound:
        """Not started yet. ValueError where its certificates cannot be used."""
        gateway = self._site.gateway
        will = self.link_document(False)
        wanted = {"receipt": destination.await_receipt, "command": bool(destination.commands)}
        topics = [json_feed.topic(gateway, kind) for kind, is_wanted in wanted.items() if is_wanted]
        return Northbound(destination, gateway, self._wake_write, json_feed.topic(gateway, "link"), will, topics)

    # --- clocks -----------------------------------------------------------------------------------------------------

    @property
    def gateway(self) -> str:
        """Its id."""
        return self._site.gateway

    def wall_ms(self) -> float:
        """The gateway's own clock."""
        return time.time() * 1000 + self._clock_step_ms

    def _is_clock_trusted(self) -> bool:
        """Whether the kernel says that its clock is synchronized; a simulated site has no other clock."""
        return self._simulated or kernel_clock.is_synchronized()

    # --- the deciding thread ----------------------------------------------------------------------------------------

    def run(self) -> int:
        """Until SIGTERM or SIGINT; the exit code."""
        self.begin()
        while not self._stopping:
            self.turn()
            if not (self._writer.is_alive() and self._reader.is_alive()):
                return FOUND_A_FAULT  # the program's own, which Python has told; whoever started it does so again
        return 0 if self._stop() else FOUND_A_FAULT

    def begin(self) -> None:
        """Start the other threads, and say who we are."""
        self._writer.start()
        self._reader.start()
        self._pipeline.begin(self._content, time.monotonic())
        self._judge.is_clock_trusted = self._is_clock_trusted()
        self._tell_judged(self._judge.begin(int(self.wall_ms())), time.monotonic())
        self._begin_system_alarms(time.monotonic())
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
        self.keeping.tell_notes(time.monotonic())

    def _begin_system_alarms(self, now_s: float) -> None:
        """What stood of the gateway itself; of the store and the files it is known already whether they are well."""
        for change in self._alarms.begin():
            self._tell(change, now_s)
        self.clear_alarm(STORE_ALARM, now_s)  # what stood was read from it
        if self._problems:
            self._raise_files_alarm(self._problems, now_s)
        else:
            self.clear_alarm(FILES_ALARM, now_s)

    def turn(self) -> None:
        """Wait until something happens or is due, then let every policy have its say."""
        now_s = time.monotonic()
        readable = self._wait(max(0.0, min(self._due_s(), now_s + 1.0) - now_s))
        now_s = time.monotonic()
        self._judge.is_clock_trusted = self._is_clock_trusted()
        if self._wake_read in readable:
            os.read(self._wake_read, 4096)
        for path, port in list(self._ports.items()):
            if port.fileno in readable:
                self._receive(path, port)
        for fileno in self._door.filenos():
            if fileno in readable:
                for client, request in self._door.receive(fileno):
                    answer = self._answer(client, request, now_s)
                    if answer is not None:
                        self._door.reply(client, answer)
        self._work_on_changes(readable, now_s)
        self._keep_ports_open(now_s)
        self._boards.tick(now_s)
        self._digest_events(now_s)
        self._tell_judged(self._judge.look(now_s, int(self.wall_ms())), now_s)
        self._sound(now_s)
        self._tell_found(now_s)
        self._keep_captures()
        self._reader.answer(now_s)
        self.keeping.watch(now_s)
        if (changes := (self._judge.changes, self._store.journal_head)) != self._told_changes:
            self._told_changes = changes
            for uplink in self._uplinks:
                uplink.want_state(now_s)
        if now_s >= self._pipeline.due_s():
            self.keeping.put(self._pipeline.close(now_s), now_s)
        self.keeping.digest(now_s)
        self._write_out()
        for uplink in self._uplinks:
            uplink.work(now_s)

    def _wait(self, timeout_s: float) -> set[int]:
        watched = [port.fileno for port in self._ports.values() if port.fileno is not None]
        watched += self._door.filenos()
        watched.append(self._wake_read)
        if self._check is not None:
            watched.append(self._check.fileno)
        readable, _writable, _broken = select.select(watched, [], [], timeout_s)
        return set(readable)

    def _due_s(self) -> float:
        times = [self._boards.due_s(), self._pipeline.due_s(), self._scan_s, self._horn.due_s()]
        times.append(self.keeping.due_s())
        times += [uplink.due_s() for uplink in self._uplinks]
        return min(times)

    def _receive(self, path: str, port: SerialPort) -> None:
        data = port.read()
        if data:
            # Both clocks at one moment, when all of it was there: other ports may have taken their time before.
            now_s, wall_ms = time.monotonic(), self.wall_ms()
            self._boards.received(path, data, now_s, wall_ms, self._is_clock_trusted())
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
                self._pipeline.take(event, now_s, int(self.wall_ms()))
                if self._outputs.are_any:
                    self._outputs.took(event, now_s)
            elif isinstance(event, Refused):
                self._tell_refused(event, now_s)
            elif isinstance(event, ClockChanged):
                self._pipeline.clock_changed(event.board, event.boot, event.uptime_ms, event.clock, now_s)
            elif isinstance(event, Noted):
                log.log(logging.WARNING if event.warning else logging.INFO, "%s", event.text)

    # --- horns and beacons ------------------------------------------------------------------------------------------

    def _sound(self, now_s: float) -> None:
        """Buttons, then what the alarms ask for, on its way to the boards before anything is written to disk."""
        if not self._outputs.are_any:
            return
        pressed, self._outputs.pressed = self._outputs.pressed, []
        for button in pressed:
            self._press(button, button.name, now_s)
        for order in self._outputs.due(self._horn.wanted(now_s), now_s):
            self._boards.order(order.board, order.arguments, now_s)
        self._write_out()
        switched, self._outputs.switched = self._outputs.switched, []
        for each in switched:
            text = {
                switching.COMMANDED: _("output {output}: {value}"),
                switching.LINK_LOST: _("output {output}: {value}, by its board, which did not hear this gateway"),
                switching.LINK_BACK: _("output {output}: {value}, by its board, which hears this gateway"),
            }[each.cause]
            log.info(text.format(output=each.output, value=_("on") if each.value else _("off")))

    def _press(self, button: Input, by: str, now_s: float) -> None:
        """Mute the horns, or test them; told to the district, since somebody was there."""
        if button.does == "mute":
            count = self._horn.mute()
            action, reason = "muted", _("{count} alarms").format(count=count)
        else:
            self._horn.test(now_s, button.for_s)
            action, reason = "output_test", _("{n} s").format(n=button.for_s)
        self._pipeline.action(action, self.own_quality(), int(self.wall_ms()), by, reason, now_s)

    def _tell_refused(self, refused: Refused, now_s: float) -> None:
        output = self._outputs.refused(refused.board, refused.arguments, now_s)
        if not output:
            return
        text = _("board {board} refuses to switch output {output}: its plan does not list it")
        reason = text.format(board=refused.board, output=output)
        log.warning("%s", reason)
        self._pipeline.action("command_refused", self.own_quality(), int(self.wall_ms()), None, reason, now_s)

    def _keep_captures(self) -> None:
        """What was on a bus when a unit of it went bad: written apart, since the deciding thread waits for no disk."""
        went_bad, self._pipeline.rebuilt.went_bad = self._pipeline.rebuilt.went_bad, []
        for bad in went_bad:
            line = next((bus.line for bus in self._site.buses if bus.name == bad.bus), None)
            if line is not None:  # its samples may come when it has left the site
                folder = Path(self._site.store.path, captures.NAME)
                threading.Thread(target=captures.keep, args=(folder, bad, line), daemon=True).start()

    def _write_out(self) -> None:
        out, self._boards.out = self._boards.out, []
        for path, data in out:
            port = self._ports[path]
            if port.fileno is not None:
                port.write(data)
                self._close_if_lost(path, port)

    # --- what is sent upwards ---------------------------------------------------------------------------------------

    def birth_document(self) -> bytes:
        """The birth as it is retained."""
        return json_feed.birth(self._site.gateway, self._store.epoch, 1, self._pipeline.birth, self._content)

    def link_document(self, online: bool) -> bytes:
        """Online or not; the broker publishes the second on loss."""
        return json_feed.link(self._site.gateway, self._store.epoch, online, self._session_ms)

    def state_document(self, uplink: Uplink, now_s: float) -> bytes:
        """Everything that a wall of sites shows, in one retained document."""
        return json_feed.state(
            self._site.gateway,
            self._store.epoch,
            self._pipeline.birth,
            mode="drill" if self._judge.is_drill else self._mode,
            at_ms=int(self.wall_ms()),
            clock=self._clock_state(),
            epochs=uplink.epochs(),
            values=list(self._values(now_s)),
            alarms=[
                (each.alarm, each.facts.occurrence, each.state, each.since_ms, each.seq)
                for each in self._requests.standing()
            ],
            boards=self._board_rows(now_s),
            buses=[[name, *bus.row()] for name, bus in self._buses(now_s)],
            units=[[*name, *unit.row(now_s)] for name, unit in self._units()],
            store=self.keeping.state(self._known_ms(), now_s)
            | {"backlog_messages": uplink.forward.backlog(), "journal_head": self._journal_head()},
        )

    def _journal_head(self) -> str | None:
        head = self._store.journal_head
        return None if head is None else f"sha256:{head[1].hex()}"

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
        timebases = [each.timebase for each in self._boards.attached.values() if each.timebase is not None]
        worst = max(timebases, key=lambda each: each.clock.err_ms or 0, default=None)
        if worst is None or worst.clock.err_ms is None:
            return {"kind": "unsynced", "err_ms": None, "since_ms": None}
        return {"kind": worst.clock.kind, "err_ms": worst.clock.err_ms, "since_ms": worst.since_ms}

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
        units = {(point.bus, point.unit_id) for point in self._site.points}
        polled = sorted(units | {(each.bus, each.unit_id) for each in self._site.outputs if each.bus is not None})
        return [(name, self._pipeline.statistics.units.get(name, statistics.Unit())) for name in polled]

    # --- alarms of the gateway itself -------------------------------------------------------------------------------

    def raise_alarm(self, alarm: str, priority: int, action: str, now_s: float) -> None:
        """It is so: told once, however often it is raised."""
        self._tell(self._alarms.raise_alarm(alarm, priority, action, self._known_ms()), now_s)

    def clear_alarm(self, alarm: str, now_s: float) -> None:
        """It is well again."""
        self._tell(self._alarms.clear(alarm, self._known_ms()), now_s)

    def _tell_found(self, now_s: float) -> None:
        """Alarms of units, buses, outputs and destinations stand for as long as they are found."""
        found = dict(self._find(now_s))
        if found != self._found:
            for alarm in self._found.keys() - found.keys():
                self.clear_alarm(alarm, now_s)
            for alarm, text in found.items() - self._found.items():
                self.raise_alarm(alarm, FOUND_PRIORITY, text, now_s)
            self._found = found
        if now_s - self._started_s > LOOKED_S:
            for change in self._alarms.clear_unfound(self._known_ms()):
                self._tell(change, now_s)

    def _find(self, now_s: float) -> Iterator[tuple[str, str]]:
        """Each such alarm with what is to be done."""
        for bus, unit_id in self._pipeline.replaced:
            yield f"system.unit.{bus}.{unit_id}:REPLACED", _(
                "Another device answers on bus {bus} at unit_id {unit_id}: its readings are invalid. Check its range, "
                "gas and calibration, then run: tankgate unit accept gateway.toml {bus} {unit_id}"
            ).format(bus=bus, unit_id=unit_id)
        for bus in self._pipeline.other_masters:
            yield f"system.bus.{bus}:OTHER_MASTER", _(
                "Another master sends requests on bus {bus}: the board is silent there, and nothing is read. Unplug "
                "it; the board goes on a minute after its last request."
            ).format(bus=bus)
        yield from self._outputs.alarms(now_s)
        for uplink in self._uplinks:
            yield from uplink.alarms(now_s)

    def _tell_judged(self, told: Iterable[Told | Bypassed], now_s: float) -> None:
        if found := list(told):
            self._pipeline.tell(found, self.own_quality(), int(self.wall_ms()), now_s)

    def _known_ms(self) -> int | None:
        return int(self.wall_ms()) if self._is_clock_trusted() else None

    def _tell(self, change: Change | None, now_s: float) -> None:
        if change is None:
            return
        self._pipeline.alarm(change, self.own_quality(), int(self.wall_ms()), now_s)
        for uplink in self._uplinks:
            uplink.want_state(now_s)

    # --- changing the site while it runs ----------------------------------------------------------------------------

    def _apply_soon(self, _signal: int, _frame: Any) -> None:
        self._is_told_to_apply = True
        os.write(self._wake_write, b"h")

    def _work_on_changes(self, readable: set[int], now_s: float) -> None:
        """One change at a time: checked apart, then saved, then in force."""
        if self._check is not None:
            ended: Checked | int | None = None
            if self._check.fileno in readable:
                ended = self._check.take()
            elif now_s > self._check.until_s:
                ended = self._check.kill()
            if ended is not None:
                self._check = None
                with speaking(self._language if self._asker is not None else None):
                    self._checked(ended, now_s)
        elif self._writer.saved:
            self._is_saving = False
            self._change(self._writer.saved.popleft(), now_s)
        elif self._is_told_to_apply and not self._is_saving:
            self._is_told_to_apply = False
            self._begin_check(None, now_s)

    def _begin_check(self, asker: socket | None, now_s: float, by: str | None = None) -> None:
        self._asker, self._applied_by = asker, by
        try:
            self._check = Check(self._gateway_toml, "apply")
        except OSError as fault:
            self._refuse([_("the site's files cannot be checked now: {fault}").format(fault=fault)], now_s)

    def _checked(self, checked: Checked | int, now_s: float) -> None:
        """What to do with the files: nothing, or see what the store knows of what they begin with."""
        if self.keeping.is_gone(now_s):
            self._refuse([self._no_store(self.keeping.why(now_s))], now_s)
            return
        if isinstance(checked, int):
            text = _("the check of the site's files ended without an answer (exit code {code})")
            self._refuse([text.format(code=checked)], now_s)
            return
        site = checked.site
        if site is None:
            self._refuse(checked.problems, now_s)
            return
        refused = restart_needed(self._site, site, checked.lines) + (leaving(site) if self._simulated else [])
        if refused:
            self._refuse(refused, now_s)
            return
        if self._asker is None:
            for reminder in checked.reminders:
                log.warning(_("Reminder: {warning}").format(warning=reminder))
        self._is_saving = True
        begin = (each.name for each in site.destinations if each not in self._site.destinations)
        boards = (each.name for each in site.boards if each.name not in self._known)
        self.keeping.read_earlier(begin, boards, partial(self._prepare, site, checked.files))

    def _no_store(self, fault: object) -> str:
        text = _("the store does not work ({fault}), and a change must be on disk before it is in force")
        return text.format(fault=fault)

    def _prepare(self, site: Site, files: bytes, earlier: Earlier | StoreFault, now_s: float) -> None:
        """All that the files change, and have it saved."""
        with speaking(self._language if self._asker is not None else None):
            try:
                if isinstance(earlier, StoreFault):
                    raise ValueError(self._no_store(earlier))
                coming = self._prepared(site, files, earlier)
            except ValueError as fault:  # a destination's certificates
                self._is_saving = False
                self._refuse([str(fault)], now_s)
                return
        self._writer.put_job(partial(coming.save, Path(site.store.path)), coming)

    def _prepared(self, site: Site, files: bytes, earlier: Earlier) -> _Coming:
        for name, known in earlier.plans.items():
            self._load_plans(name, known)
        content = self._birth_content(site)
        birth = json_feed.birth_id(content)
        plans = self._plan_boards(site, birth)
        begin = [destination for destination in site.destinations if destination not in self._site.destinations]
        return _Coming(
            site=site,
            content=content,
            birth=birth,
            plans=plans,
            files=files,
            changes=compare(self._site, site, self._plans, plans),
            clients={destination.name: self._client(destination) for destination in begin},
            positions=earlier.positions,
        )

    def _change(self, coming: _Coming, now_s: float) -> None:
        """It is on disk: put in force what differs, and leave everything else as it is."""
        is_new = coming.birth != self._pipeline.birth
        self._site, self._content, self._plans = coming.site, coming.content, coming.plans
        self._horn.configure(coming.site)
        self._outputs.configure(coming.site, now_s)
        self._writer.keep = coming.site.store
        if is_new:
            wall_ms = int(self.wall_ms())
            self._tell_judged(self._judge.leave(coming.site, wall_ms, self._applied_by), now_s)
            self._pipeline.reborn(coming.birth, coming.content, now_s)
            self._pipeline.action(
                "configuration_applied", self.own_quality(), wall_ms, self._applied_by, coming.birth, now_s
            )
            self._tell_judged(self._judge.configure(coming.site, now_s, wall_ms, self._applied_by), now_s)
            self._put_in_force(coming.plans)
        self._boards.configure(coming.site, coming.plans, now_s)
        self._close_unwanted_ports()
        self._change_uplinks(coming, now_s)
        if is_new:
            for uplink in self._uplinks:
                uplink.publish_birth(now_s)
        self.clear_alarm(FILES_ALARM, now_s)
        log.info(
            _("gateway {gateway}: configuration applied, birth {birth}, {points} points").format(
                gateway=coming.site.gateway, birth=coming.birth, points=len(coming.site.points)
            )
        )
        if self._asker is not None:
            self._door.reply(self._asker, {"birth": coming.birth, "is_new": is_new, **asdict(coming.changes)})

    def _close_unwanted_ports(self) -> None:
        """Those that no board speaks through and none is pinned to; a search opens what it needs again."""
        self._write_out()
        wanted = {board.port for board in self._site.boards} | {each.port for each in self._boards.attached.values()}
        for path in [path for path in self._ports if path not in wanted]:
            self._ports.pop(path).close()
            self._boards.closed(path)
        self._scan_s = 0.0

    def _change_uplinks(self, coming: _Coming, now_s: float) -> None:
        before = {uplink.destination.name: uplink for uplink in self._uplinks}
        numbers = self.keeping.numbers()
        self._uplinks.clear()
        for destination in coming.site.destinations:
            name = destination.name
            client = coming.clients.get(name)
            if client is None:
                self._uplinks.append(before.pop(name))
                continue
            old = before.pop(name, None)
            if old is None:
                forward = Forward(coming.positions[name], numbers, destination.await_receipt)
                client.start()
            else:  # the same receiver under another address: what it has acknowledged counts
                forward = old.forward
                old.forget()  # what is being read for it
                forward.disconnected(now_s)
                forward.awaits_receipts = destination.await_receipt
                threading.Thread(target=_replace, args=(old.northbound, client), daemon=True).start()
            self._uplinks.append(Uplink(self, destination, client, forward))
        for uplink in before.values():
            self.keeping.put_positions(uplink)
            threading.Thread(target=uplink.northbound.stop, daemon=True).start()

    def _refuse(self, problems: Sequence[str], now_s: float) -> None:
        """Nothing changes. Nobody reads a log: without somebody who asked it is an alarm."""
        if self._asker is not None:
            self._door.reply(self._asker, {"problems": list(problems)})
            return
        for problem in problems:
            log.error("%s", problem)
        self._raise_files_alarm(problems, now_s)

    def _raise_files_alarm(self, problems: Sequence[str], now_s: float) -> None:
        text = _(
            "The site's files have problems ({count}), so that the gateway runs on the last good ones. The first: "
            "{problem} Correct the files, then run: tankgate config apply {file}"
        ).format(problem=problems[0], count=len(problems), file=self._gateway_toml)
        self.raise_alarm(FILES_ALARM, FILES_PRIORITY, text, now_s)

    # --- the local door ---------------------------------------------------------------------------------------------

    def _answer_apply(self, client: socket, request: dict[str, Any], now_s: float) -> dict[str, Any] | None:
        if request.get("gateway_toml") != str(self._gateway_toml.resolve()):
            text = _("this daemon runs on {file}: that is the one to apply")
            return {"problems": [text.format(file=self._gateway_toml)]}
        if self._check is not None or self._is_saving:
            return {"busy": True}
        self._language = request.get("language")
        by = request.get("by")
        self._begin_check(client, now_s, by if isinstance(by, str) and by else None)
        return None

    def _answer(self, client: socket, request: dict[str, Any], now_s: float) -> dict[str, Any] | None:
        """The answer; None where it comes later."""
        do = request.get("do")
        if do == "apply":
            with speaking(request.get("language")):
                return self._answer_apply(client, request, now_s)
        if do == "status":
            return self._status(now_s)
        if do == "buffer":
            self.keeping.read_times(partial(self._tell_buffer, client))
            return None
        if do == "step_clock" and self._simulated and isinstance(request.get("ms"), int):
            self._clock_step_ms += request["ms"]
            return {"done": True}
        if do == "accept_unit":
            return self._accept_unit(request, now_s)
        if do in ("mute", "test"):
            return self._press_at_the_door(request, now_s)
        if do in REQUESTS:
            return self._done(*self._requests.answer(request, now_s, int(self.wall_ms()), self._known_ms()), now_s)
        known = ("status", "buffer", "apply", "accept_unit", "mute", "test", *REQUESTS)
        return {"error": _("unknown request {request}: allowed is {allowed}").format(
            request=json.dumps(request), allowed=", ".join(json.dumps({"do": each}) for each in known)
        )}

    def _tell_buffer(self, client: socket, found: Mapping[Key, int | None] | StoreFault, now_s: float) -> None:
        times_ms = {} if isinstance(found, StoreFault) else found
        answer = {
            "store": self.keeping.buffer(times_ms, self._known_ms(), now_s),
            "made": self.keeping.last_seq,
            "destinations": [uplink.buffer(times_ms, now_s) for uplink in self._uplinks],
        }
        self._door.reply(client, answer)

    def command(self, destination: Destination, asked: json_feed.Command, now_s: float) -> dict[str, Any]:
        """What a district asks for, and what becomes of it; a refusal is told as well."""
        wall_ms = int(self.wall_ms())
        answer, told = self._requests.command(destination, asked, now_s, wall_ms, self._known_ms())
        if "refused" in answer and self._requests.tells_refusal(now_s):
            by, reason = f"{destination.name}/{asked.role}", f"{asked.do} {asked.alarm}: {answer['refused']}"
            self._pipeline.action("command_refused", self.own_quality(), wall_ms, by, reason, now_s)
        return self._done(answer, told, now_s)

    def _done(
        self, answer: dict[str, Any], told: Iterable[Told | Bypassed | Change], now_s: float
    ) -> dict[str, Any]:
        for each in told:
            if isinstance(each, Change):
                self._tell(each, now_s)
            else:
                self._tell_judged([each], now_s)
        return answer

    def _press_at_the_door(self, request: dict[str, Any], now_s: float) -> dict[str, Any]:
        by, for_s = request.get("by"), request.get("for_s", TEST_S)
        if not isinstance(by, str) or not isinstance(for_s, int) or not 1 <= for_s <= TEST_MOST_S:
            text = _("mute, test: by is a role or a badge number, for_s 1 to {most} seconds")
            return {"error": text.format(most=TEST_MOST_S)}
        if refusal := why_not_who("by", by):
            return refusal
        self._press(Input("", request["do"], "", 0, for_s), by, now_s)
        self._sound(now_s)
        return {"done": True}

    def _accept_unit(self, request: dict[str, Any], now_s: float) -> dict[str, Any]:
        unit, by, reason = (request.get("bus"), request.get("unit_id")), request.get("by"), request.get("reason")
        if not isinstance(by, str) or not isinstance(reason, str | None):
            return {"error": _("accept_unit: by is a name, reason a sentence or null")}
        t_ms = int(self.wall_ms())
        return {"done": self._pipeline.accept(unit, self.own_quality(), t_ms, by, reason, now_s)}

    def own_quality(self) -> json_feed.TimeQuality:
        """Of a time by the gateway's own clock, which is what the error of every reading's time is counted from.

        While it is not to be trusted it may say any year: then there is no time.
        """
        if self._is_clock_trusted():
            return json_feed.TimeQuality("synced", 0, None)
        return json_feed.TimeQuality("unsynced", None, None)

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
            "to_commit": len(self._writer.waiting()),
            "store": self.keeping.status(now_s),
            "replaced": sorted(self._pipeline.replaced),
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
            "destinations": [uplink.status(now_s) for uplink in self._uplinks],
            "alarms": self._requests.rows(),
            "is_drill": self._judge.is_drill,
            "bypasses": [each._asdict() for each in self._judge.bypasses()],
            "outputs": self._outputs.rows(self._horn.wanted(now_s)),
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

    def _stop(self) -> bool:
        """Commit what was taken, tell the boards, say goodbye upwards, close. Whether nothing is lost."""
        if self._check is not None:
            self._check.kill()
        now_s = time.monotonic()
        self.keeping.put(self._pipeline.close(now_s), now_s)
        for uplink in self._uplinks:
            self.keeping.put_positions(uplink)
        is_all_stored = self._writer.stop()
        self.keeping.digest(now_s)
        self._write_out()
        for uplink in self._uplinks:
            uplink.northbound.stop()
        self._door.close()
        for port in self._ports.values():
            port.close()
        if is_all_stored and self._reader.stop():
            self._store.close()
        if is_all_stored:
            log.info(_("gateway {gateway}: stopped in order").format(gateway=self._site.gateway))
        else:
            text = _("gateway {gateway}: stopped. What only memory had is lost, but for what the boards keep: {fault}")
            log.error(text.format(gateway=self._site.gateway, fault=self._writer.why()))
        return is_all_stored


def _replace(old: Northbound, new: Northbound) -> None:
    """One after the other, so that the goodbye of the old one cannot follow the greeting of the new."""
    old.stop()
    new.start()


def _save_plans(store: Store, plans: Plans) -> None:
    for plan in plans.values():
        store.save_plan(plan.board, plan.generation, plan.plan, to_json(plan))


def run(gateway_toml: Path, checked: Checked, *, simulated: bool) -> int:
    """Run until told to stop; the exit code."""
    assert checked.site is not None
    gateway = checked.site.gateway
    for problem in checked.problems:
        log.error("%s", problem)
    for reminder in checked.reminders:
        log.warning("%s", reminder)
    try:
        daemon = Daemon(gateway_toml, checked, simulated)
    except InUse as fault:
        log.error("%s", fault)
        return BUSY
    except (OSError, StoreFault, ValueError) as fault:  # the store's place, or a destination's certificates
        why = f"{fault.filename}: {reason(fault)}" if isinstance(fault, OSError) and fault.filename else str(fault)
        text = _(
            "gateway {gateway}: cannot start: {fault}. Run `tankgate doctor` as this user: it says how to mend it."
        )
        log.error(text.format(gateway=gateway, fault=why))
        return FOUND_A_FAULT
    return daemon.run()
