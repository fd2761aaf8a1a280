"""What comes from a broker, as what the district keeps: batch, event, document, or something unreadable. Protocol.

Owns which messages are read, and why others are not. Batches, of which there are many, are judged here by the rules
of schema/data.json; all else by the schemas themselves, which the caller brings. Must never raise for what a wire
can bring, nor change a number.
"""

import re
from dataclasses import dataclass, replace
from gettext import gettext as _
from typing import Any, NamedTuple

from protocols.feeds import json_feed
from protocols.feeds.check import Violations
from protocols.feeds.json_feed import COUNT_MAX, EPOCH, ERR_MS_MAX, GATEWAY, SPAN_MS_MAX, UTC_MS_MAX, VALUE_MAX
from protocols.feeds.sequence import Stream, identity
from protocols.model import BOARD_DOWN, GOOD, NEVER_READ, NOT_POLLED, has_value

EVENTS = ("alarm", "gap", "action", "clock", "birth")
DOCUMENTS = ("birth", "link", "state")
COLUMNS = ["point", "dt_ms", "value", "status", "detail"]
DETAIL_MAX = 2**31 - 1
_TOPIC = re.compile(r"tankgate/v1/([^/]+)/(?:(data|birth|link|state)|event/(\w+))")
_BIRTH = re.compile(r"[0-9a-f]{8}")
_BOOT = re.compile(r"[A-Za-z0-9_-]+/[0-9a-f]{8}")
_KINDS_OF_TIME = ("synced", "holdover", "resolved")
_ONLY_IN_STATE = (BOARD_DOWN, NOT_POLLED, NEVER_READ)
_NUMBERS = {float, int}  # and no bool

Row = tuple[str, int, float | int | None, int, int]  # point, dt_ms, value, status, detail


class Line(NamedTuple):
    """A clock event's line from a boot's uptime to UTC."""

    utc_at_uptime_0_ms: int
    drift_ppm: float
    err_ms: int

    def utc_ms(self, uptime_ms: int) -> int:
        """As `json_feed.clock` defines it."""
        return self.utc_at_uptime_0_ms + round(uptime_ms * (1 + self.drift_ppm / 1e6))


@dataclass(frozen=True, slots=True)
class Data:
    """A batch. `boot` only where unsynced: then `t0_ms` is that boot's uptime."""

    stream: Stream
    seq: int
    birth: str
    kind: str
    err_ms: int | None
    t0_ms: int
    boot: str | None
    rows: list[Row]
    topic: str
    payload: bytes


@dataclass(frozen=True, slots=True)
class Event:
    """A numbered message of another kind than a batch; `document` is its parsed payload."""

    stream: Stream
    seq: int
    kind: str
    document: dict[str, Any]
    topic: str
    payload: bytes


@dataclass(frozen=True, slots=True)
class Document:
    """What is retained: a birth, a link or a state."""

    gateway: str
    kind: str
    document: dict[str, Any]
    topic: str
    payload: bytes


@dataclass(frozen=True, slots=True)
class Unreadable:
    """What is set aside, and why. `numbered` where at least that could be read: it need not come again."""

    topic: str
    payload: bytes
    reason: str
    numbered: tuple[Stream, int] | None


Message = Data | Event | Document | Unreadable


def read(topic: str, payload: bytes, violations: Violations) -> Message:
    """What this is. `violations` judges all but batches."""
    addressed = _TOPIC.fullmatch(topic)
    document = json_feed.read(payload)
    if addressed is None:
        return Unreadable(topic, payload, _("no topic of the feed"), None)
    if document is None:
        return Unreadable(topic, payload, _("the payload is not a JSON object"), None)
    gateway, plain, event = addressed.groups()
    kind = plain or event
    known = f"tankgate/{kind}/1"
    if kind not in (*DOCUMENTS, "data", *EVENTS) or document.get("schema") != known:
        text = _("schema {schema}: on this topic {known} was expected")
        reason = text.format(schema=document.get("schema"), known=known)
    elif document.get("gateway") != gateway:
        reason = _("the topic is not that of gateway {gateway}").format(gateway=document.get("gateway"))
    elif kind == "data":
        batch = _batch(topic, payload, document)
        if isinstance(batch, Data):
            return batch
        reason = batch
    else:
        faults = list(violations(kind, document)) or _wrong_id(kind, document)
        numbered = identity(topic, document)
        if not faults and numbered:
            return Event(*numbered, kind, document, topic, payload)
        if not faults and plain:
            return Document(gateway, kind, document, topic, payload)
        # By the schema 7.0 is an integer, too.
        reason = "; ".join(faults) or _("seq {seq}: a number without a point was expected").format(seq=document["seq"])
    return Unreadable(topic, payload, reason, _number(topic, document, gateway))


def _number(topic: str, document: dict[str, Any], gateway: str) -> tuple[Stream, int] | None:
    numbered = identity(topic, document)
    if numbered is None:
        return None
    stream, seq = numbered
    is_sound = stream.gateway == gateway and GATEWAY.fullmatch(gateway) and EPOCH.fullmatch(stream.epoch)
    return numbered if is_sound and stream.name in ("data", "event") and 1 <= seq <= COUNT_MAX else None


def _wrong_id(kind: str, document: dict[str, Any]) -> list[str]:
    if kind != "birth":
        return []
    own = ("schema", "gateway", "epoch", "stream", "seq", "birth")
    right = json_feed.birth_id({key: value for key, value in document.items() if key not in own})
    if document["birth"] == right:
        return []
    text = _("birth {birth} is not the digest of its content: {right}")
    return [text.format(birth=document["birth"], right=right)]


def _batch(topic: str, payload: bytes, document: dict[str, Any]) -> Data | str:
    """The batch, or what is wrong with it."""
    match document:
        case {
            "gateway": str(gateway),
            "epoch": str(epoch),
            "stream": "data",
            "seq": int(seq),
            "birth": str(birth),
            "time": {"kind": str(kind), "err_ms": int() | None as err_ms},
            "t0_ms": int() | None as t0_ms,
            "columns": columns,
            "rows": list(rows),
        } if columns == COLUMNS and rows:
            pass
        case _other:
            return _("a field of the batch is missing or of a wrong type")
    boot = None
    if kind == "unsynced" and t0_ms is None:
        boot, t0_ms = document.get("boot"), document.get("t0_uptime_ms")
        if not isinstance(boot, str) or not _BOOT.fullmatch(boot) or not isinstance(t0_ms, int) or t0_ms < 0:
            return _("a batch without a clock needs the boot and the uptime of its times")
        err_ms = None
    elif kind not in _KINDS_OF_TIME or t0_ms is None or err_ms is None or err_ms < 0:
        return _("time {time} and t0_ms {t0_ms} do not go together").format(time=document["time"], t0_ms=t0_ms)
    is_named = GATEWAY.fullmatch(gateway) and EPOCH.fullmatch(epoch) and _BIRTH.fullmatch(birth)
    t0_ms_max = UTC_MS_MAX if boot is None else SPAN_MS_MAX
    is_within = 1 <= seq <= COUNT_MAX and 0 <= t0_ms <= t0_ms_max and (err_ms or 0) <= ERR_MS_MAX
    if not is_named or not is_within or bool in map(type, (seq, t0_ms, err_ms)):
        return _("a name or a number at the head of the batch is outside of what the feed allows")
    readings = _readings(rows)
    if isinstance(readings, str):
        return readings
    return Data(Stream(gateway, epoch, "data"), seq, birth, kind, err_ms, t0_ms, boot, readings, topic, payload)


def _readings(rows: list[Any]) -> list[Row] | str:
    """Each with its status and detail, also where they were left out; or what is wrong with the first wrong one."""
    if set(map(type, rows)) == {list} and set(map(len, rows)) == {3}:  # all good values, as most batches are
        points, times_ms, values = zip(*rows, strict=True)
        if (
            set(map(type, points)) == {str}
            and set(map(type, times_ms)) == {int}
            and (kinds := set(map(type, values))) <= _NUMBERS
            and min(times_ms) >= 0
            and max(times_ms) <= SPAN_MS_MAX
            and (int not in kinds or -VALUE_MAX <= min(values) <= max(values) <= VALUE_MAX)
        ):
            return [(*row, GOOD, 0) for row in rows]
    readings: list[Row] = []
    for row in rows:
        fault = _fault(row)
        if fault is not None:
            return fault
        readings.append(whole(row))
    return readings


def _fault(row: Any) -> str | None:
    if not isinstance(row, list) or not 3 <= len(row) <= 5:
        return _("row {row}: three to five columns were expected").format(row=row)
    point, dt_ms, value, status, detail = whole(row)
    if (
        type(point) is not str
        or type(dt_ms) is not int
        or not 0 <= dt_ms <= SPAN_MS_MAX
        or (value is not None and (type(value) not in _NUMBERS or not -VALUE_MAX <= value <= VALUE_MAX))
        or type(status) is not int
        or not 0 <= status <= 255
        or type(detail) is not int
        or not -DETAIL_MAX <= detail <= DETAIL_MAX
    ):
        return _("row {row}: a column has a wrong type or is out of range").format(row=row)
    if (value is not None) != has_value(status) or status in _ONLY_IN_STATE:
        return _("row {row}: value and status contradict each other").format(row=row)
    return None


def whole(row: list[Any]) -> Row:
    """With the status and the detail that go without saying."""
    point, dt_ms, value, *stated = row
    return point, dt_ms, value, stated[0] if stated else GOOD, stated[1] if len(stated) > 1 else 0


def resolved(batch: Data, line: Line) -> Data:
    """A batch without a clock, by the line of its boot: its times become UTC, once."""
    t0_ms = line.utc_ms(batch.t0_ms)
    rows: list[Row] = [
        (point, line.utc_ms(batch.t0_ms + dt_ms) - t0_ms, value, status, detail)
        for point, dt_ms, value, status, detail in batch.rows
    ]
    return replace(batch, kind="resolved", err_ms=line.err_ms, t0_ms=t0_ms, boot=None, rows=rows)
