"""What leaves the site, as JSON: topics, and the payload of each document and message. Protocol.

Owns the text form of the feed; check.py holds a stream to its rules, schema/ its shapes. Must never make two
different payloads of the same input, nor write a number that no sensor gave.
Keys stand in the order of the golden messages, without spaces, in UTF-8.
"""

import hashlib
import json
import math
import re
import struct
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from protocols.feeds.sequence import Ranges
from protocols.model import GOOD, Point, Site, has_value

GATEWAY = re.compile("[a-z0-9-]{3,32}")  # its id, and so a level of each topic
EPOCH = re.compile("[0-9A-Z]{8,26}")

# What a number may be at most; schema/common.json says the same. Whatever a receiver computes with such times stays
# within what datetime and databases count: the year 9999.
UTC_MS_MAX = 10**14  # the year 5138
SPAN_MS_MAX = 10**12  # of an uptime, and within a batch: 31 years
DRIFT_PPM_MAX = 10_000
ERR_MS_MAX = 2**31 - 1
COUNT_MAX = 2**53 - 1  # also of a message's number: more, not every reader of JSON tells apart
VALUE_MAX = 1.7976931348623157e308  # of a float64: an integer can be beyond
RECEIPT_RANGES_MAX = 1000
COMMAND_TEXT_MAX = 128  # characters of its id, alarm and role
_DEPTH_MAX = 32
_F32 = struct.Struct("<f")
_F32_NORMAL_MIN = 2.0**-126
_F32_DIGITS = 6  # any decimal of so many digits comes through a normal float32 unharmed ...
_F32_DIGITS_MAX = 9  # ... and so many tell any two float32 apart
_ENCODER = json.JSONEncoder(ensure_ascii=False, separators=(",", ":"), allow_nan=False)

@dataclass(frozen=True, slots=True)
class TimeQuality:
    """How far a message's times can be trusted: synced, holdover, resolved or unsynced.

    `boot`, like "cab1/9f3a60c2", only where unsynced: then times are that boot's uptime and `err_ms` is None. Of what
    the gateway itself has found while its clock is not to be trusted no time is known: unsynced without a boot.
    """

    kind: str
    err_ms: int | None
    boot: str | None


@dataclass(frozen=True, slots=True)
class Command:
    """What a district asks for. `id` comes back in the reply; `do`: "acknowledge" or "silence" this occurrence."""

    id: str
    do: str
    alarm: str
    occurrence: int
    role: str
    reason: str | None


@dataclass(frozen=True, slots=True)
class Moment:
    """An end of a gap: its UTC in ms by the clock of then, None where none was known, and the uptime of a boot, like
    "cab1/9f3a60c2", where the gap is a board's. Moments are ordered by boots and uptimes: a clock may be put back.
    """

    utc_ms: int | None
    boot: str | None = None
    uptime_ms: int | None = None


def topic(gateway: str, kind: str) -> str:
    """Like "tankgate/v1/jt-0042/event/alarm" for the kind "event/alarm"."""
    return f"tankgate/v1/{gateway}/{kind}"


def heartbeat_second(gateway: str) -> int:
    """The second of the minute, 0 to 59, of this gateway's heartbeats: spread, so that sites do not speak at once."""
    return int.from_bytes(hashlib.sha256(gateway.encode()).digest()[:8], "big") % 60


def number(value: float | int, type: str) -> float | int:
    """A point's value as it stands in JSON: of an "f32" the shortest decimal that is the same float32.

    Every other type, and a float that is no float32, is its own shortest decimal already. (Of 2^-96, 2^87 and
    2^90 a decimal with one digit less exists.)
    """
    if type != "f32" or not _is_f32(value):
        return value
    fewest = _F32_DIGITS if abs(value) >= _F32_NORMAL_MIN else 1
    for digits in range(fewest, _F32_DIGITS_MAX):
        short = float(f"{value:.{digits}g}")
        if _F32.pack(short) == _F32.pack(value):
            return short
    return float(f"{value:.{_F32_DIGITS_MAX}g}")


def _is_f32(value: float | int) -> bool:
    try:
        return isinstance(value, float) and _F32.unpack(_F32.pack(value)) == (value,)
    except OverflowError:
        return False


# --- birth --------------------------------------------------------------------------------------------------


def birth_content(
    site: Site,
    tankgate_version: str,
    firmware_version: str,
    mode: str,
    alarms: Iterable[Mapping[str, Any]] = (),
) -> dict[str, Any]:
    """All of a birth but its identity: JSON's own types only, so that it is the same after a stay in the store.

    `alarms` are those that this gateway judges.
    """
    boards = {bus.name: bus.board for bus in site.buses}
    return {
        "mode": mode,
        "site": {
            "name": site.name,
            "group": site.group,
            "timezone": site.timezone,
            "codes": {"enterprise": site.enterprise_code, "gateway": site.gateway_code},
        },
        "software": {"tankgate": tankgate_version, "firmware": firmware_version, "config": site.config_hash},
        "points": [_point(point, site, boards[point.bus]) for point in site.points],
        "alarms": [dict(row) for row in alarms],
    }


def _point(point: Point, site: Site, board: str) -> dict[str, Any]:
    profile = site.profiles[point.profile]
    has_range = point.range_low is not None and point.range_high is not None
    codes = {"quotaId": point.quota_id, "hazardSource": point.hazard}
    return {
        "point": point.point,
        "name": point.name,
        "area": point.area,
        "medium": point.medium,
        "unit": point.unit,
        "unit_text": point.unit_text,
        "type": point.type,
        "decimals": point.decimals,
        "range": [whole(point.range_low), whole(point.range_high)] if has_range else None,
        "period_s": whole(point.period_ms / 1000),
        "deadband": whole(point.deadband),
        "heartbeat_s": point.heartbeat_s,
        "urgent": point.urgent,
        "source": {
            "board": board,
            "bus": point.bus,
            "unit_id": point.unit_id,
            "profile": f"{profile.name}@{profile.version}",
            "channel": point.channel,
            "evidence": profile.evidence,
            "proven": profile.proven,
        },
        "codes": {name: code for name, code in codes.items() if code},
    }


def whole(value: float | None) -> float | int | None:
    """A setting as people write it: 12.5, and 1 rather than 1.0."""
    return int(value) if value is not None and value == int(value) else value


def birth_id(content: Mapping[str, Any]) -> str:
    """8 hex digits: the same configuration has the same id after a restart."""
    return hashlib.sha256(_json(content)).hexdigest()[:8]


def birth(gateway: str, epoch: str, seq: int, birth_id: str, content: Mapping[str, Any]) -> bytes:
    """Who speaks, and what its points are; retained, and a message of `event`."""
    return _json(_message("birth", gateway, epoch, "event", seq, birth_id) | dict(content))


# --- messages -----------------------------------------------------------------------------------------------


def data(
    gateway: str,
    epoch: str,
    seq: int,
    birth: str,
    quality: TimeQuality,
    t0: int,
    rows: Iterable[tuple[str, int, float | int | None, int, int]],
) -> bytes:
    """A batch of readings (point, dt_ms, value, status, detail), sorted by (dt_ms, point).

    `t0` is the UTC in ms that dt_ms counts from, or the uptime where unsynced; values have been through
    `number`. ValueError where a value and its status contradict each other, or a value is not finite.
    """
    return _json(
        _message("data", gateway, epoch, "data", seq, birth)
        | {"time": _time(quality)}
        | _moments(quality, t0_ms=t0)
        | _table("point dt_ms value status detail", (_reading(row) for row in rows))
    )


def clock(
    gateway: str,
    epoch: str,
    seq: int,
    birth: str,
    *,
    boot: str,
    from_uptime_ms: int,
    utc_at_uptime_0_ms: int,
    drift_ppm: float,
    err_ms: int,
) -> bytes:
    """From this uptime of this boot on: utc_ms = utc_at_uptime_0_ms + uptime_ms * (1 + drift_ppm / 10^6)."""
    return _json(
        _message("clock", gateway, epoch, "event", seq, birth)
        | {
            "boot": boot,
            "from_uptime_ms": from_uptime_ms,
            "utc_at_uptime_0_ms": utc_at_uptime_0_ms,
            "drift_ppm": drift_ppm,
            "err_ms": err_ms,
        }
    )


def gap(
    gateway: str,
    epoch: str,
    seq: int,
    birth: str,
    *,
    cause: str,
    quality: TimeQuality,
    begin: Moment,
    end: Moment,
    polls: int | None,
    polls_are: str,
    board: str | None = None,
    bus: str | None = None,
    of: str = "data",
    missing: tuple[str, int, int] | None = None,
) -> bytes:
    """What was measured, or would have been, and will not come. `quality` is that of `end`.

    `missing`: epoch, first and last number of the messages dropped, of the stream `of`; None where nothing was ever
    numbered. Of the stream "event", `polls` counts its messages.
    """
    return _json(
        _message("gap", gateway, epoch, "event", seq, birth)
        | {"of": of, "cause": cause}
        | {"from_ms": begin.utc_ms, "to_ms": end.utc_ms}
        | ({} if begin.boot is None else {"from_boot": begin.boot, "from_uptime_ms": begin.uptime_ms})
        | ({} if end.boot is None else {"boot": end.boot, "to_uptime_ms": end.uptime_ms})
        | {
            "time": _time(quality),
            "scope": {"board": board, "bus": bus, "points": None},
            "polls": polls,
            "polls_are": polls_are,
            "missing_epoch": missing and missing[0],
            "missing_seq": missing and missing[1:],
            "recoverable": False,
        }
    )


def alarm(
    gateway: str,
    epoch: str,
    seq: int,
    birth: str,
    *,
    mode: str,
    alarm: str,
    occurrence: int,
    transition: str,
    before: str,
    after: str,
    facts: Mapping[str, Any],
    quality: TimeQuality,
    t_ms: int | None,
    decided_ms: int | None,
    priority: int,
    judged_late: bool = False,
    journalled: bool = True,
    point: tuple[str, float | int | None, str, int, float | None] | None = None,
    first_out: bool = False,
    reading: tuple[int, int] | None = None,
    by: str | None = None,
    reason: str | None = None,
    action: str | None = None,
    rests_on: int | None = None,
) -> bytes:
    """One transition of an alarm, from one state to another.

    `point`: its name, value, unit and status, and the setpoint; None of an alarm of the gateway itself, of which
    `action` says what to do. `reading`: data message and row of the reading that made it. `t_ms` is an uptime where
    unsynced. `journalled`: whether there was a disk to write it to when it was made. `rests_on`: members that voted.
    """
    name, value, unit, status, setpoint = point or (None,) * 5
    told = {"active", "acked", "latched", "shelved_until_ms", "suppressed", "out_of_service"}
    return _json(
        _message("alarm", gateway, epoch, "event", seq, birth)
        | {"mode": mode, "alarm": alarm, "occurrence": occurrence, "transition": transition}
        | {"from": before, "to": after, "facts": {fact: facts[fact] for fact in facts if fact in told}}
        | _moments(quality, t_ms=t_ms)
        | {"time": _time(quality), "decided_ms": decided_ms, "judged_late": judged_late, "journalled": journalled}
        | {"point": name, "value": value, "unit": unit, "status": status, "setpoint": setpoint}
        | {"priority": priority, "first_out": first_out}
        | {"reading": None if reading is None else {"seq": reading[0], "row": reading[1]}}
        | {"by": by, "reason": reason}
        | ({} if action is None else {"action": action})
        | ({} if rests_on is None else {"rests_on": rests_on})
    )


def action(
    gateway: str,
    epoch: str,
    seq: int,
    birth: str,
    *,
    action: str,
    quality: TimeQuality,
    t_ms: int,
    by: str | None,
    reason: str | None,
    unit: tuple[str, int] | None = None,
    bypass: Mapping[str, Any] | None = None,
) -> bytes:
    """What was done, to no single alarm, by whom and why. `t_ms` is an uptime where unsynced; `unit`: bus, unit id.

    `bypass`: of a bypass or a drill that begins or ends, as the schema has it.
    """
    return _json(
        _message("action", gateway, epoch, "event", seq, birth)
        | {"action": action}
        | _moments(quality, t_ms=t_ms)
        | {"time": _time(quality), "by": by, "reason": reason}
        | ({} if unit is None else {"unit": {"bus": unit[0], "unit_id": unit[1]}})
        | ({} if bypass is None else {"bypass": dict(bypass)})
    )


# --- from the district --------------------------------------------------------------------------------------


def receipt(payload: bytes | bytearray, gateway: str) -> tuple[int, dict[str, dict[str, tuple[int, list[Any]]]]] | None:
    """When it was written (UTC in ms), and by epoch and stream: committed up to, and the ranges missing.

    None where this is no receipt for this gateway; what names something missing that is no range promises nothing. An
    epoch that no gateway can have is not read: a gap could not name it.
    Of more ranges than RECEIPT_RANGES_MAX the lowest are taken, and the next one bounds `committed`: what is missing
    beyond it stands in a later receipt.
    """
    match read(payload):
        case {"schema": "tankgate/receipt/1", "gateway": str(named), "at_ms": int(at_ms), "epochs": dict(epochs)}:
            if named != gateway:
                return None
        case _:
            return None
    taken: dict[str, dict[str, tuple[int, list[Any]]]] = {}
    for epoch, streams in epochs.items():
        for stream, entry in streams.items() if isinstance(streams, dict) else ():
            if stream not in ("data", "event") or not EPOCH.fullmatch(epoch):
                continue
            match entry:
                case {"committed": int(committed), "missing": list(missing)} if all(map(_is_range, missing)):
                    ranges = list(Ranges(sorted(map(tuple, missing))))
                    for first, _last in ranges[RECEIPT_RANGES_MAX : RECEIPT_RANGES_MAX + 1]:
                        committed = min(committed, first - 1)
                    taken.setdefault(epoch, {})[stream] = (committed, ranges[:RECEIPT_RANGES_MAX])
                case _:
                    return None
    return at_ms, taken


def _is_range(written: Any) -> bool:
    match written:
        case [int(first), int(last)]:
            return 1 <= first <= last <= COUNT_MAX and bool not in map(type, written)
    return False


def command(payload: bytes | bytearray, gateway: str) -> Command | None:
    """What a district asks for; None where this is no command for this gateway."""
    match read(payload):
        case {
            "schema": "tankgate/command/1", "gateway": str(named), "id": str(number), "do": str(do),
            "alarm": str(alarm), "occurrence": int(occurrence), "role": str(role), **more,
        } if (
            named == gateway
            and do in ("acknowledge", "silence")
            and type(occurrence) is int
            and all(0 < len(each) <= COMMAND_TEXT_MAX for each in (number, alarm, role))
        ):  # fmt: skip
            reason = more.get("reason")
            return Command(number, do, alarm, occurrence, role, reason if isinstance(reason, str) else None)
    return None


def reply(gateway: str, number: str, at_ms: int, refused: str | None, state: str | None) -> bytes:
    """What became of the command of this id: the alarm's state after it, or the code of why it was refused."""
    done = {"done": refused is None, "refused": refused, "state": state}
    return _json({"schema": "tankgate/reply/1", "gateway": gateway, "id": number, "at_ms": at_ms} | done)


# --- retained documents -------------------------------------------------------------------------------------


def link(gateway: str, epoch: str, online: bool, session_ms: int) -> bytes:
    """Online or not; the will is made of the same session (its beginning, UTC) and published by the broker."""
    session = datetime.fromtimestamp(session_ms // 1000, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    return _json(
        {"schema": "tankgate/link/1", "gateway": gateway, "epoch": epoch, "online": online, "session": session}
    )


def state(
    gateway: str,
    epoch: str,
    birth: str,
    *,
    mode: str,
    at_ms: int,
    clock: Mapping[str, Any],
    epochs: Mapping[str, Any],
    values: Iterable[tuple[str, int | None, float | int | None, int, int]],
    alarms: Iterable[Sequence[Any]],
    boards: Iterable[Sequence[Any]],
    buses: Iterable[Sequence[Any]],
    units: Iterable[Sequence[Any]],
    store: Mapping[str, Any],
) -> bytes:
    """Everything that a wall of sites shows. Rows as the columns say; values have been through `number`.

    ValueError where a value and its status contradict each other.
    """
    return _json(
        {"schema": "tankgate/state/1", "gateway": gateway, "epoch": epoch, "birth": birth, "mode": mode}
        | {"at_ms": at_ms, "clock": clock, "epochs": epochs}
        | {
            "values": _table("point t_ms value status detail", (_reading(row) for row in values)),
            "alarms": _table("alarm occurrence state since_ms seq", alarms),
            "boards": _table("board link boot uptime_s ring_used_pct", boards),
            "buses": _table("bus state load_pct overruns foreign stray_bytes", buses),
            "units": _table(
                "bus unit_id ok timeout crc late exception reply_p95_ms last_ok_ms short foreign retried", units
            ),
            "store": store,
        }
    )


def write_receipt(gateway: str, at_ms: int, epochs: Mapping[str, Any]) -> bytes:
    """What a district has committed, epoch by epoch: {stream: {"committed": number, "missing": ranges}}. Retained."""
    return _json({"schema": "tankgate/receipt/1", "gateway": gateway, "at_ms": at_ms, "epochs": epochs})


# --- text ---------------------------------------------------------------------------------------------------


def _message(kind: str, gateway: str, epoch: str, stream: str, seq: int, birth: str) -> dict[str, Any]:
    return {
        "schema": f"tankgate/{kind}/1",
        "gateway": gateway,
        "epoch": epoch,
        "stream": stream,
        "seq": seq,
        "birth": birth,
    }


def _time(quality: TimeQuality) -> dict[str, Any]:
    return {"kind": quality.kind, "err_ms": quality.err_ms}


def _moments(quality: TimeQuality, **moments_ms: int | None) -> dict[str, Any]:
    """Each as it is known: its UTC, or null and beside it the uptime of a boot."""
    if quality.kind != "unsynced":
        return moments_ms
    if quality.boot is None:
        return dict.fromkeys(moments_ms)
    uptimes_ms = {name.replace("_ms", "_uptime_ms"): moment_ms for name, moment_ms in moments_ms.items()}
    return dict.fromkeys(moments_ms) | {"boot": quality.boot} | uptimes_ms


def _table(columns: str, rows: Iterable[Sequence[Any]]) -> dict[str, Any]:
    return {"columns": columns.split(), "rows": list(rows)}


def _reading(row: tuple[str, int | None, float | int | None, int, int]) -> Sequence[Any]:
    """Without the status and detail that go without saying."""
    point, _time_ms, value, status, detail = row
    if (value is not None) != has_value(status):
        raise ValueError(f"{point}: value {value} with status {status}; allowed is a value under 200, None from 200 on")
    if detail:
        return row
    return row[:3] if status == GOOD else row[:4]


def read(payload: bytes | bytearray) -> dict[str, Any] | None:
    """A payload as it was written; None where it is no JSON object in UTF-8, or holds what cannot be written again.

    Nor is what is nested deeper than any feed: whoever copies or prints it would come to the end of the stack.
    """
    try:
        text = payload.decode()
        document = json.loads(text, parse_float=_finite, parse_constant=_finite)
        if "\\u" in text:
            json.dumps(document, ensure_ascii=False).encode()  # half a character, "\ud800", has no UTF-8
    except (ValueError, RecursionError):
        return None
    return document if isinstance(document, dict) and _depth_is_allowed(document) else None


def _depth_is_allowed(document: dict[str, Any]) -> bool:
    level: list[Any] = [document]
    for _depth in range(_DEPTH_MAX):
        level = [
            inner
            for outer in level
            for inner in (outer.values() if isinstance(outer, dict) else outer)
            if isinstance(inner, dict | list)
        ]
        if not level:
            return True
    return False


def _finite(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        raise ValueError(f"{text} is not a finite number")
    return value


def _json(document: Mapping[str, Any]) -> bytes:
    return _ENCODER.encode(document).encode()
