"""The whole chain on this machine: bench, broker, gateway and district, each a process as in the field. Shell.

Owns those processes, the site's files that tie them together, and what the district's side has received. The
gateway and the receiver are the real programs, started as a user starts them. Must never look into the gateway
but through its own door (`status`, and `step_clock` of a simulated site). Everything listens on 127.0.0.1 only.
"""

import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections import Counter, deque
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import Any

from hil_tests.bench.bench import Bench
from hil_tests.bench.board import DIES_WITH_ITS_STARTER
from hil_tests.bench.ledger import Figures
from hil_tests.bench.line import Exchange
from hil_tests.bench.rig import Rig
from hil_tests.broker import HOST, Broker, CuttablePath
from hil_tests.mosquitto import Mosquitto
from protocols import model

SITE = Path(__file__).parent / "site"
PATIENCE_MS = 30_000  # after an outage the gateway's own back-off passes before anything can arrive
STATUS_S = 1.0
STOP_S = 10.0
SUBSCRIBED_S = 20.0


@dataclass(frozen=True, slots=True)
class Received:
    """What the district received of a point; `measured_ms` by the bench's clock, wherever the gateway's stands."""

    measured_ms: int
    value: float | None
    status: int


class Chain:
    """Start the parts in the order of the methods; then call `step` all the time."""

    def __init__(
        self,
        directory: Path,
        session: str | None = None,
        rig: Rig | None = None,
        site: Path = SITE,
        measure: Callable[[str, float], float] | None = None,
    ) -> None:
        """With a `session` the broker keeps what comes while the district's receiver is away."""
        self.directory = directory
        self._rig = rig
        self._site = site
        self._measure = measure
        self._session = ["--session", session] if session else []
        self.birth: dict[str, Any] | None = None
        self.is_online: bool | None = None  # the gateway, by its link document
        self.latest: dict[str, Received] = {}
        self.arrivals: deque[int] = deque(maxlen=20_000)  # when the received readings had been measured
        self.records: Counter[str] = Counter()  # what the district received, by kind
        self.gaps: list[dict[str, Any]] = []  # the gap records among them
        self.alarms: list[dict[str, Any]] = []  # and the alarm events
        self.actions: list[dict[str, Any]] = []  # and what was done to no single alarm
        self.state: dict[str, Any] | None = None  # the newest one
        self.answered = 0  # polls that a sensor answered well
        self.damaged = 0  # polls that came to nothing, or to a reply that no CRC fits
        self.status: dict[str, Any] = {}  # of the running gateway; empty while none answers
        self._samples_before = 0  # of the gateways that were killed
        self._clock_offsets_ms = [0]  # of the gateway's clock, as the bench has set it
        self._messages: SimpleQueue[dict[str, Any]] = SimpleQueue()
        self._processes: dict[str, subprocess.Popen[bytes]] = {}
        self._is_closed = threading.Event()
        self._to_stop = ExitStack()  # in the reverse order of starting
        self._door = directory / "site" / "store" / "control.sock"

    # --- starting and stopping ------------------------------------------------------------------------------

    def start_broker(self, kind: type[Broker] | type[Mosquitto] = Broker) -> None:
        """The broker, and the path to it that can be cut."""
        self.broker = kind(self.directory)
        self._to_stop.callback(self.broker.close)
        self.path = CuttablePath(self.broker.port)

    def start_district(self) -> None:
        """The receiver, straight at the broker; OSError where it has not subscribed in SUBSCRIBED_S."""
        district = self.resume_district()
        self._to_stop.callback(self._stop, "district")
        until_s = time.monotonic() + SUBSCRIBED_S
        while "Connected" not in (said := self.log("district").read_text(encoding="utf-8")):
            # What is published before somebody has subscribed, the broker throws away.
            if district.poll() is not None or time.monotonic() > until_s:
                raise OSError(f"district: {said}")
            time.sleep(0.05)

    def resume_district(self) -> subprocess.Popen[bytes]:
        """The receiver again; what came meanwhile waits in its session."""
        url = f"mqtt://{HOST}:{self.broker.port}"
        with self.log("district").open("ab") as log:
            district = subprocess.Popen(
                [*DIES_WITH_ITS_STARTER, sys.executable, "-m", "edge", "listen", url, "--json", *self._session],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=log,
                env=os.environ | {"LANGUAGE": "en"},  # what it says goes to the log only, and is read above
            )
        self._processes["district"] = district
        threading.Thread(target=self._listen, args=(district,), daemon=True).start()
        return district

    def start_boards(self) -> None:
        """The plant, its lines and its boards."""
        bench = self.directory / "bench"
        self.bench = Bench(self._site, bench, taps=[self._exchanged], rig=self._rig, measure=self._measure)
        self._to_stop.callback(self.bench.close)
        self.bench.start()

    def write_site(self) -> None:
        """The site's own files: only its broker and the boards' ports are this machine's."""
        gateway_toml = self.directory / "site" / "gateway.toml"
        shutil.copytree(self._site, gateway_toml.parent)
        gateway_toml.write_text(self._tied_together(gateway_toml.read_text(encoding="utf-8")), encoding="utf-8")
        threading.Thread(target=self._watch, daemon=True).start()
        self._to_stop.callback(self._stop, "gateway")

    def start_gateway(self) -> None:
        """The daemon, on the site's files, which are written where nobody has done so."""
        gateway_toml = self.directory / "site" / "gateway.toml"
        if not gateway_toml.exists():
            self.write_site()
        with self.log("gateway").open("ab") as log:
            self._processes["gateway"] = subprocess.Popen(
                [*DIES_WITH_ITS_STARTER, sys.executable, "-m", "edge", "run", str(gateway_toml), "--simulated"],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
            )

    def kill_gateway(self) -> None:
        """kill -9: nothing is put in order."""
        self._end_gateway(signal.SIGKILL)

    def stop_gateway(self) -> int:
        """SIGTERM, and its exit code; the bench works on meanwhile."""
        return self._end_gateway(signal.SIGTERM)

    def hang_up(self) -> None:
        """SIGHUP: the gateway is to change to its files as they are now."""
        self._processes["gateway"].send_signal(signal.SIGHUP)

    def kill_district(self) -> None:
        """kill -9; what it had said is taken."""
        district = self._processes.pop("district")
        district.kill()
        district.wait()

    def close(self) -> None:
        """Stop whatever was started, the gateway first."""
        self._is_closed.set()
        self._to_stop.close()

    def _end_gateway(self, how: signal.Signals) -> int:
        self._samples_before = self.stored
        gateway = self._processes.pop("gateway")
        self.status = {}
        gateway.send_signal(how)
        while (code := gateway.poll()) is None:
            self.step(0.005)
        return code

    def _stop(self, name: str) -> None:
        process = self._processes.pop(name, None)
        if process is None:
            return
        process.terminate()
        try:
            process.wait(STOP_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()

    def resident_bytes(self, name: str) -> int:
        """What a process, "gateway" or "district", holds in memory; 0 while it does not run."""
        process = self._processes.get(name)
        if process is None or process.poll() is not None:
            return 0
        return int(Path(f"/proc/{process.pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGESIZE")

    def log(self, name: str) -> Path:
        """Where a process writes what it says."""
        return self.directory / f"{name}.log"

    def ended(self) -> str | None:
        """The name of a process that ended by itself."""
        return next((name for name, each in self._processes.items() if each.poll() is not None), None)

    def _tied_together(self, gateway_toml: str) -> str:
        text = re.sub(r"(?m)^port\s*=.*\n", "", gateway_toml)
        text = re.sub(r"(?m)^id\s*=.*\n", "", text)
        for name, cable in self.bench.cables.items():
            lines = f'id = "{self.bench.boards[name].identity}"\nport = "{cable.plug}"\n'
            text = re.sub(rf"(?m)^\[boards\.{name}\].*\n", rf"\g<0>{lines}", text)
        return re.sub(r"(?m)^url\s*=.*$", f'url = "mqtt://{HOST}:{self.path.port}"', text)

    # --- the running chain ----------------------------------------------------------------------------------

    @property
    def now_ms(self) -> int:
        """UTC by the bench's clock."""
        return self.bench.utc_ms(self.bench.now_s())

    @property
    def stored(self) -> int:
        """Polls that gateways have stored, the killed ones included."""
        samples: int = self.status.get("samples", 0)
        return self._samples_before + samples

    def step(self, timeout_s: float) -> None:
        """Let the bench work, then take what the district received meanwhile."""
        self.bench.step(timeout_s)
        while True:
            try:
                message = self._messages.get_nowait()
            except Empty:
                return
            self.bench.ledger.received(message)
            self._note(message["payload"], message["received_ms"], message["duplicate"])

    def figures(self, patience_ms: int = PATIENCE_MS) -> Figures:
        """The ledger as it stands."""
        return self.bench.ledger.figures(self.now_ms, patience_ms)

    def disturbed(self) -> None:
        """Something was broken or mended just now."""
        self.bench.ledger.disturbed(self.now_ms)

    def step_clock(self, step_ms: int) -> None:
        """Move the gateway's clock. OSError where no gateway answers."""
        self._ask({"do": "step_clock", "ms": step_ms})
        self.bench.ledger.clock_stepped(self.now_ms, step_ms)
        self._clock_offsets_ms.append(self._clock_offsets_ms[-1] + step_ms)

    def silence(self) -> None:
        """Cut every sensor off: from now on nothing is measured."""
        for bus in self.bench.buses.values():
            bus.line.connected = False
        self.disturbed()

    def _exchanged(self, exchange: Exchange) -> None:
        is_good = all(measured.status < model.NO_REPLY for measured in exchange.measured)
        self.answered += is_good
        self.damaged += not is_good

    def _note(self, payload: Mapping[str, Any], received_ms: int, is_duplicate: bool) -> None:
        kind = payload["schema"].split("/")[1]
        if kind == "birth":
            self.birth = dict(payload)
        elif kind == "link":
            self.is_online = payload["online"]
        elif kind == "state":
            self.state = dict(payload)
        if is_duplicate:
            return
        self.records[kind] += 1
        if kind == "gap":
            self.gaps.append(dict(payload))
        elif kind == "alarm":
            self.alarms.append(dict(payload))
        elif kind == "action":
            self.actions.append(dict(payload))
        if kind != "data":
            return
        for point, dt_ms, value, *rest in payload["rows"]:
            measured_ms = self._measured_ms(payload["t0_ms"], dt_ms, received_ms)
            self.arrivals.append(measured_ms)
            known = self.latest.get(point)
            if known is None or known.measured_ms <= measured_ms:
                self.latest[point] = Received(measured_ms, value, rest[0] if rest else model.GOOD)

    def _measured_ms(self, t0_ms: int | None, dt_ms: int, received_ms: int) -> int:
        """By the bench's clock: of the offsets that the gateway's clock has had, the one that fits."""
        if t0_ms is None:  # its time follows in a clock event; for the eye it is now
            return received_ms
        times = (t0_ms + dt_ms - offset for offset in self._clock_offsets_ms)
        return min(times, key=lambda utc_ms: abs(received_ms - utc_ms))

    # --- threads: they only carry lines ---------------------------------------------------------------------

    def _listen(self, district: subprocess.Popen[bytes]) -> None:
        assert district.stdout is not None
        for line in district.stdout:
            if line.endswith(b"\n"):  # the last one of a killed program may be half a line
                self._messages.put(json.loads(line))

    def _watch(self) -> None:
        while not self._is_closed.wait(STATUS_S):
            asked = self._processes.get("gateway")
            try:
                status = self._ask({"do": "status"})
            except OSError:
                status = {}
            if self._processes.get("gateway") is asked:  # it was not killed meanwhile
                self.status = status

    def _ask(self, request: Mapping[str, Any]) -> dict[str, Any]:
        """One request to the gateway's door and its answer; OSError where there is no gateway."""
        with socket.socket(socket.AF_UNIX) as door:
            door.settimeout(5.0)
            door.connect(str(self._door))
            door.sendall(json.dumps(request).encode() + b"\n")
            with door.makefile("rb") as lines:
                line = lines.readline()
        if not line:
            raise ConnectionError("the gateway closed its door without an answer")
        answer: dict[str, Any] = json.loads(line)
        return answer
