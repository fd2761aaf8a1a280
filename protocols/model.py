"""The normalized vocabulary: sites, boards, buses, points, readings and their status. Protocol.

Owns the words that edge, bench and feed share, and the status codes of the feed (protocols/feeds, section 3).
Must never decide anything.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from gettext import gettext as _
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from protocols.profile import Profile

# Status of a reading. Under 100 good, under 200 uncertain, from 200 on bad and without a value.
GOOD = 0
MAINTENANCE_DUE = 1
OVER_RANGE = 100
UNDER_RANGE = 101
FROZEN = 102
NO_REPLY = 200
BAD_CRC = 201
EXCEPTION = 202
WRONG_REPLY = 203
SENSOR_FAULT = 204
WIRE_BREAK = 205
NOT_A_NUMBER = 206
WARM_UP = 210
CALIBRATION = 211
INHIBITED = 212
SIMULATED_BY_DEVICE = 213
IN_MAINTENANCE = 214
BOARD_DOWN = 220
NOT_POLLED = 221
NEVER_READ = 222
UNIT_REPLACED = 223


def has_value(status: int) -> bool:
    """Whether a reading of this status carries a number."""
    return status < NO_REPLY


def quality(status: int) -> str:
    """GOOD, UNCERTAIN or BAD."""
    if status < OVER_RANGE:
        return "GOOD"
    return "UNCERTAIN" if status < NO_REPLY else "BAD"


def status_text(status: int) -> str:
    """What a person reads for this status."""
    texts = {
        GOOD: _("good"),
        MAINTENANCE_DUE: _("maintenance due"),
        OVER_RANGE: _("over range"),
        UNDER_RANGE: _("under range"),
        FROZEN: _("frozen"),
        NO_REPLY: _("no reply"),
        BAD_CRC: _("bad CRC"),
        EXCEPTION: _("exception"),
        WRONG_REPLY: _("wrong reply"),
        SENSOR_FAULT: _("sensor fault"),
        WIRE_BREAK: _("wire break"),
        NOT_A_NUMBER: _("not a number"),
        WARM_UP: _("warm-up"),
        CALIBRATION: _("calibration"),
        INHIBITED: _("inhibited"),
        SIMULATED_BY_DEVICE: _("simulated by the device"),
        IN_MAINTENANCE: _("in maintenance"),
        BOARD_DOWN: _("board down"),
        NOT_POLLED: _("not polled"),
        NEVER_READ: _("never read"),
        UNIT_REPLACED: _("unit replaced?"),
    }
    return texts.get(status, _("status {status}").format(status=status))


def cause_text(cause: str) -> str:
    """What a person reads for the cause of a gap; a cause of other versions as it is."""
    texts = {
        "ring_full": _("the board's ring was full"),
        "board_restart": _("the board was restarted"),
        "board_down": _("the board was down"),
        "not_running": _("the gateway was not running"),
        "disk_quota": _("no room on the disk"),
        "disk_fault": _("the disk failed"),
        "retention": _("older than what is kept"),
        "set_aside": _("the store was set aside"),
        "plan_unknown": _("taken under a read plan that is not known any more"),
        "other_master": _("another master on the bus"),
    }
    return texts.get(cause, cause)


def mode_text(mode: str) -> str:
    """What a person reads for the mode of a birth, a state or an alarm; a mode of other versions as it is."""
    return {"live": _("live"), "drill": _("drill"), "test": _("test"), "simulated": _("simulated")}.get(mode, mode)


@dataclass(frozen=True, slots=True)
class Line:
    """Settings of a serial line; parity is "N", "E" or "O"."""

    baud: int
    data_bits: int
    parity: str
    stop_bits: int

    @classmethod
    def parse(cls, text: str) -> Line:
        """From text like "9600 8N1"; ValueError saying what was allowed."""
        baud, _space, form = text.partition(" ")
        is_baud = re.fullmatch("[1-9][0-9]{0,4}00", baud) and 300 <= int(baud) <= 1_000_000
        if not is_baud or len(form) != 3 or form[0] not in "78" or form[1] not in "NEO" or form[2] not in "12":
            told = _('line "{text}": allowed is like "9600 8N1", "19200 8E1"; 300 to 1000000 baud in hundreds')
            raise ValueError(told.format(text=text))
        return cls(int(baud), int(form[0]), form[1], int(form[2]))

    @property
    def bits_per_char(self) -> int:
        """Start, data, parity and stop bits."""
        return 1 + self.data_bits + (self.parity != "N") + self.stop_bits

    @property
    def char_us(self) -> float:
        """How long one character takes."""
        return self.bits_per_char * 1e6 / self.baud

    @property
    def silence_us(self) -> float:
        """The silence before each frame (MODBUS over Serial Line V1.02, 2.5.1)."""
        return 3.5 * self.char_us if self.baud <= 19200 else 1750.0

    def __str__(self) -> str:
        return f"{self.baud} {self.data_bits}{self.parity}{self.stop_bits}"


@dataclass(frozen=True, slots=True)
class Board:
    """A board by its hardware id; `port` only where the site pins it."""

    name: str
    id: str
    port: str | None


@dataclass(frozen=True, slots=True)
class Bus:
    """One RS-485 line on one UART of a board."""

    name: str
    board: str
    uart: int
    line: Line
    other_master: bool


@dataclass(frozen=True, slots=True)
class Point:
    """One measured quantity, as a row of the points sheet says it; `unit` is a UCUM code, `limits` like ("HH", 50).

    `oel`: the exposure limit that its toxic limits are held to, in its unit; `oel_source`: the document that has it.
    `trends`: what its movement over `trend_s` is held to, like ("ROR", 0.5) a minute or ("TTHH", 15) minutes.
    `frozen_s`: so long the same value is an alarm; 0: never. `compare_with`: the point that it must not be `deviation`
    apart from; "" where there is none. `re_alarm_s`: what is acknowledged and still stands is announced anew; 0: never.
    `off_delay_s`, `alarm_deadband`: of its alarms, the latter in its unit; None: as its preset has them.
    `consequence`: what comes of its alarms where nobody acts; `minutes_to_act`: how long there is until then.
    """

    point: str
    name: str
    area: str
    medium: str
    unit: str
    unit_text: str
    type: str
    decimals: int
    range_low: float | None
    range_high: float | None
    period_ms: int
    deadband: float
    heartbeat_s: int
    urgent: bool
    bus: str
    unit_id: int
    profile: str
    channel: str
    limits: tuple[tuple[str, float], ...]
    preset: str
    on_delay_s: float
    oel: float | None
    oel_source: str
    action: str
    hazard: str
    quota_id: str
    trends: tuple[tuple[str, float], ...] = ()
    trend_s: float = 0.0
    frozen_s: float = 0.0
    compare_with: str = ""
    deviation: float = 0.0
    re_alarm_s: float = 0.0
    off_delay_s: float | None = None
    alarm_deadband: float | None = None
    consequence: str = ""
    minutes_to_act: float | None = None


@dataclass(frozen=True, slots=True)
class Output:
    """A horn, a beacon or a fault relay: a coil of a unit on a bus, or, where `bus` is None, a pin of its board.

    `kind`: "horn" falls silent when it is muted, "beacon" does not, "fault" is energised while its board hears the
    gateway. `priorities`, `areas`: of the alarms that it tells; no areas: of all. `at_loss`: "keep", "on" or "off",
    what its board does once the gateway was silent for `loss_ms`.
    """

    name: str
    kind: str
    board: str
    bus: str | None
    unit_id: int
    profile: str
    place: int
    priorities: tuple[int, ...]
    areas: tuple[str, ...]
    at_loss: str
    loss_ms: int


@dataclass(frozen=True, slots=True)
class Input:
    """A button on a pin. `does`: "mute" silences the horns, "test" has all horns and beacons on for `for_s`."""

    name: str
    does: str
    board: str
    pin: int
    for_s: int


@dataclass(frozen=True, slots=True)
class Voting:
    """`needed` of these points at their H limit at once. `bad_counts`: one without a value counts as one of them."""

    name: str
    points: tuple[str, ...]
    needed: int
    bad_counts: bool


@dataclass(frozen=True, slots=True)
class StoreSettings:
    """Where the store lies and what it keeps."""

    path: str
    max_bytes: int
    readings_days: int
    alarms_days: int


@dataclass(frozen=True, slots=True)
class Destination:
    """One broker that receives the stream. `await_receipt`: only its receiver's receipts say what is safe.

    `commands`: roles by what they may do from there, "acknowledge" and "silence"; by default nobody anything.
    """

    name: str
    url: str
    feed: str
    ca: str | None
    cert: str | None
    key: str | None
    await_receipt: bool = False
    commands: tuple[tuple[str, tuple[str, ...]], ...] = ()


@dataclass(frozen=True, slots=True)
class Site:
    """One gateway's whole configuration, checked. `config_hash` covers site file, points sheet and profiles."""

    gateway: str
    name: str
    group: str
    timezone: str
    enterprise_code: str
    gateway_code: str
    boards: tuple[Board, ...]
    buses: tuple[Bus, ...]
    points: tuple[Point, ...]
    store: StoreSettings
    destinations: tuple[Destination, ...]
    profiles: dict[str, Profile]
    config_hash: str
    outputs: tuple[Output, ...] = ()
    inputs: tuple[Input, ...] = ()
    votings: tuple[Voting, ...] = ()


class Reading(NamedTuple):
    """One engineering value; its time is that of the sample it came from. No value where the status is bad."""

    point: str
    value: float | int | None
    status: int
    detail: int
