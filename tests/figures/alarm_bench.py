"""Alarms on the bench, and when each of them was where: on the bus, on the link, on disk, at the district, at the horn.

Shell. One board, 9600 8N1, ten units of ten registers that answer after 5 ms, each register a point with a limit, read
each second and always a little different; a horn's module on the same bus, and one more unit on the board's other bus.
The real programs, each a process. Every change of a value is another one, so what follows from it is known by it: in
the reply, in the record on the link, in the message. Nothing is asked of the gateway.
"""

import json
import random
import struct
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from paho.mqtt.client import Client, MQTTMessage
from paho.mqtt.enums import CallbackAPIVersion, MQTTProtocolVersion

from edge.cli.site import foresee
from edge.config import load_site
from edge.forecast import Worst
from hil_tests.bench.line import Exchange, Line
from hil_tests.bench.pty_port import PinPort
from hil_tests.bench.rig import SimulatedRig, lay_bus
from hil_tests.bench.sheet import Point
from hil_tests.bench.units import Unit
from hil_tests.broker import HOST, CuttablePath
from hil_tests.disk import Disk
from hil_tests.mosquitto import Mosquitto
from hil_tests.small_site import BOARD, Bus, SmallSite
from protocols import link, modbus, model, profile, switching
from protocols.link_edge import EdgeEnd, Hello, Records
from protocols.octets import get_u28

UNITS = 10
REGISTERS = 10
TAKES_S = 0.005
SLOW_S = 0.5
_LINE = "9600 8N1"
_PERIOD_MS = 1000
_LIMIT = 800.0
_STEP = 0.1  # of a register
_WELL, _WANDERS = 100.0, 20.0
_OFF_DELAY_S = 12.0  # the preset's ten seconds, and a poll
_COIL = 3
_HORN_UNIT = 30
_TICK_S = 0.001
_LAST_WORDS = 600  # characters
_BUTTON_PIN = 6
_BROKER = "allow_anonymous true\nmax_queued_messages 0\nset_tcp_nodelay true\n"
_PROFILE = """\
version = 1
maker = "tankgate"
model = "ten registers"
source = "tests/figures/alarm_bench.py"
evidence = "bench"
timeout_ms = 300
reply_ms = 5
address_base = 0
"""
_CHANNEL = """
[channels.r{register}]
function_code = 3
address = {register}
type = "u16"
divisor = 10
decimals = 1
unit = "kPa"
"""
_OUTPUTS = f"""
[outputs.horn]
bus = "gas"
unit_id = {_HORN_UNIT}
profile = "io-16do"
coil = {_COIL}
priorities = [1]
[inputs.mute]
board = "{BOARD}"
pin = {_BUTTON_PIN}
"""
_HEADINGS = "point,name,area,bus,unit_id,profile,channel,unit,range_low,range_high,period_s,deadband,preset,HH,action"
_OTHER = "other.level,other,A,other,1,fuel-probe-500ms,level,mm,,,1,1,,,"


@dataclass(slots=True)
class Took:
    """One change, and when what was where, in seconds of the monotonic clock; 0: not yet.

    `replied_s`: the last byte of the reply that has it. `record`: its number on the link. `ordered_s`: the horn's order
    is on the link. `coil_s`: the last bit of the write. `committed_s`: an acknowledgement says that it is on disk.
    `published_s`: the district has it.
    """

    changed_s: float
    replied_s: float = 0.0
    record: int = -1
    ordered_s: float = 0.0
    coil_s: float = 0.0
    committed_s: float = 0.0
    published_s: float = 0.0


class AlarmBench:
    """The site at work. `disk` is that of its store, `path` its way to the broker."""

    def __init__(self, directory: Path, to_stop: ExitStack, with_disk: bool) -> None:
        self._chance = random.Random(6)
        self._now: Took | None = None  # what is going on
        self._register = 0  # what it reads, of the value that was set
        self._committed = 0
        self._is_sounding = False
        self._high: dict[str, float] = {}
        self._muted_s: dict[str, float] = {}  # when a point was well again
        self._number = 0
        self._edge = EdgeEnd()
        self._down = bytearray()
        self.disk = self._mount(directory, to_stop) if with_disk else None
        broker = to_stop.enter_context(closing(Mosquitto(directory, _BROKER)))
        self.path = CuttablePath(broker.port)
        self._listen(broker.port, to_stop)
        rig = SimulatedRig()
        probe, ten = profile.builtin("fuel-probe-500ms"), profile.load("ten", _profile_text())
        module = Unit(_HORN_UNIT, profile.builtin("io-16do"), [], takes_s=0.003)  # as its recording has it
        gas = [
            Unit(unit_id, ten, [_point(unit_id, register) for register in range(REGISTERS)], takes_s=TAKES_S)
            for unit_id in range(1, UNITS + 1)
        ]
        level = Point("other.level", "other", 1, probe.name, "level", "mm", None, None, _PERIOD_MS, 1, 60)
        self.other = Unit(1, probe, [level], takes_s=TAKES_S)
        settings = model.Line.parse(_LINE)
        self._buses = [
            lay_bus(rig, BOARD, uart, Line(name, settings, units, self._measure), tap)
            for uart, (name, units, tap) in enumerate(
                (("gas", [*gas, module], self._exchanged), ("other", [self.other], lambda _exchange: None)), 1
            )
        ]
        self._char_s = settings.char_us / 1e6
        self._mute = to_stop.enter_context(closing(PinPort()))
        buses = [Bus(bus.line.name, _LINE, bus.port.path) for bus in self._buses]
        pins, profiles = {_BUTTON_PIN: self._mute.path}, {"ten": _profile_text()}
        self.site = to_stop.enter_context(
            closing(SmallSite(rig, directory, self.path.port, buses, _sheet(), profiles, _OUTPUTS, pins, _TICK_S))
        )
        self.site.cables[BOARD].ups = self._went_up
        self.site.cables[BOARD].downs = self._went_down
        for bus in self._buses:
            self.site.watch(bus.port.fileno(), lambda bus=bus: bus.receive(time.monotonic()))
        self.until(lambda: self._edge.expected > UNITS * 5 and module.requests > 1)

    def changes(self, count: int, awaited: tuple[str, ...]) -> list[Took]:
        """So many, at random moments and places, one after the other; each until all that is `awaited` has come."""
        return [self._change(awaited) for _change in range(count)]

    def worst(self) -> Worst:
        """What `check` says of its points, which are all alike."""
        told = foresee(load_site(self.site.gateway_toml))
        return next(point.worst for point in told.points if point.has_limits)

    def until(self, condition: Callable[[], bool]) -> None:
        """Let all go on until it is so."""
        self.site.until(condition, self._work)

    def catch_up(self) -> None:
        """Until what was taken until now is on disk."""
        records = self._edge.expected
        self.until(lambda: self._committed >= records)

    def _change(self, awaited: tuple[str, ...]) -> Took:
        self._pass(self._chance.uniform(0.0, 0.3))
        self._number += 1
        now_s = time.monotonic()
        well = [name for name in _names() if self._muted_s.get(name, 0.0) < now_s - _OFF_DELAY_S]
        point, value = self._chance.choice(well), round(_LIMIT + _STEP * self._number, 1)
        self._register, self._high[point] = round(value / _STEP), value
        self._now = took = Took(now_s)
        self.until(lambda: all(getattr(took, each) for each in ("replied_s", *awaited)))
        del self._high[point]
        self._muted_s[point] = time.monotonic()
        self._mute.press(True)
        self.until(lambda: not self._is_sounding)
        self._mute.press(False)
        self._pass(0.05)  # contacts bounce
        return took

    def _pass(self, for_s: float) -> None:
        end_s = time.monotonic() + for_s
        self.until(lambda: time.monotonic() >= end_s)

    def _work(self) -> None:
        for bus in self._buses:
            bus.run(time.monotonic())

    def _measure(self, point: str, now_s: float) -> float:
        wave = now_s * 7.0 + len(point) + ord(point[-1])
        return self._high.get(point, _WELL + wave % 1.0 * _WANDERS)

    # --- where it is --------------------------------------------------------------------------------------------------

    def _exchanged(self, exchange: Exchange) -> None:
        took = self._now
        if exchange.request[1] == modbus.WRITE_COIL:
            self._is_sounding = exchange.request[4] == 0xFF
            if took is not None and self._is_sounding and not took.coil_s:
                took.coil_s = exchange.asked_s + len(exchange.request) * self._char_s
        elif took is not None and not took.replied_s and self._is_in(exchange.reply[3:-2]):
            assert exchange.replied_s is not None
            took.replied_s = exchange.replied_s

    def _is_in(self, registers: bytes) -> bool:
        return len(registers) == 2 * REGISTERS and self._register in struct.unpack(f">{REGISTERS}H", registers)

    def _went_up(self, data: bytes) -> None:
        for event in self._edge.feed(data):
            if isinstance(event, Hello) and event.boot != self._edge.boot:
                self._edge.adopt(event.boot, event.oldest)
            elif isinstance(event, Records):
                samples = [
                    number
                    for number, (_generation, kind, body) in enumerate(event.records, event.first)
                    if kind == link.SAMPLE and self._is_in(body[link.SAMPLE_HEAD_BYTES :])
                ]
                if samples and self._now is not None and self._now.record < 0:
                    self._now.record = samples[0]

    def _went_down(self, data: bytes) -> None:
        self._down += data
        *pieces, rest = bytes(self._down).split(b"\0")
        self._down = bytearray(rest)
        for piece in pieces:
            body = bytearray(piece)
            if len(body) > 0 and link.deframe(body, len(body)) > 0:
                self._told(body, time.monotonic())

    def _told(self, body: bytes, now_s: float) -> None:
        if body[0] == link.ACK:
            self._committed = get_u28(body, 9)
        took = self._now
        if took is None or took.record < 0:
            return
        is_order = body[0] == link.COMMAND and body[7] == switching.SWITCH and body[11] == 1
        if is_order and not took.ordered_s:
            took.ordered_s = now_s
        elif took.record < self._committed and not took.committed_s:
            took.committed_s = now_s

    def _listen(self, port: int, to_stop: ExitStack) -> None:
        client = Client(CallbackAPIVersion.VERSION2, protocol=MQTTProtocolVersion.MQTTv5)
        client.on_connect = lambda client, *_rest: client.subscribe("tankgate/v1/small-site/event/alarm", qos=1)
        client.on_message = self._came
        client.connect(HOST, port)
        client.loop_start()
        to_stop.callback(client.loop_stop)
        to_stop.callback(client.disconnect)

    def _came(self, _client: Client, _userdata: Any, message: MQTTMessage) -> None:
        now_s = time.monotonic()
        alarm, took = json.loads(message.payload), self._now
        if took is None or alarm["transition"] != "raise" or alarm["value"] is None:
            return
        if round(alarm["value"] / _STEP) == self._register and not took.published_s:
            took.published_s = now_s

    def _mount(self, directory: Path, to_stop: ExitStack) -> Disk:
        disk = Disk(directory / "disk.img", directory / "site" / "store", mebibytes=256)
        to_stop.callback(lambda: disk.unmount(lazily=True))
        return disk


@contextmanager
def alarm_bench(with_disk: bool = False) -> Iterator[AlarmBench]:
    """Started, and stopped in the end; `with_disk` its store lies on one that can be frozen.

    TimeoutError where something does not come.
    """
    try:
        with TemporaryDirectory(prefix="figures-") as name, ExitStack() as to_stop:
            yield AlarmBench(Path(name), to_stop, with_disk)
    except AssertionError as fault:
        raise TimeoutError(str(fault)[-_LAST_WORDS:]) from fault


def _names() -> list[str]:
    return [f"P{unit_id:02}.r{register}" for unit_id in range(1, UNITS + 1) for register in range(REGISTERS)]


def _profile_text() -> str:
    return _PROFILE + "".join(_CHANNEL.format(register=register) for register in range(REGISTERS))


def _point(unit_id: int, register: int) -> Point:
    name = f"P{unit_id:02}.r{register}"
    return Point(name, "gas", unit_id, "ten", f"r{register}", "kPa", 0, 1000, _PERIOD_MS, 1, 60)


def _sheet() -> str:
    rows = [
        f"P{unit_id:02}.r{register},pressure,A,gas,{unit_id},ten,r{register},kPa,0,1000,{_PERIOD_MS / 1000:g},1,"
        f"pressure,{_LIMIT:g},look"
        for unit_id in range(1, UNITS + 1)
        for register in range(REGISTERS)
    ]
    return "\n".join([_HEADINGS, *rows, _OTHER, ""])
