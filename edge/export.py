"""History out of the store: every reading with its time and quality, and the gaps between them. Shell.

Owns one pass over the file, a piece at a time, beside a running gateway and without holding up its log. Readings that
were taken before a clock was known get their time by the clock record of their boot, if there is one. Must never skip
anything unsaid: a batch that cannot be read comes out as a gap, and so do events that tell of gaps and clocks.
"""

import json
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Any

import apsw

from edge.batch import Row, Section, unpack
from edge.timebase import Clock
from protocols.feeds import json_feed
from protocols.model import quality

_PIECE = 200  # batches; between two pieces the log may be written back
_BEYOND_ALL = 2**62
_RESOLVED = "resolved"


def records(
    connection: apsw.Connection, from_ms: int | None, to_ms: int | None, is_wanted: Callable[[str], bool]
) -> Iterator[dict[str, Any]]:
    """Readings and gaps from `from_ms` to `to_ms` (UTC, both included; None: no end), in the order of the store.

    {"record": "reading", "t_ms", "point", "value", "unit", "quality", "status", "detail", "time_kind", "err_ms",
    "boot", "uptime_ms"} and {"record": "gap", "t_ms", "until_ms", "cause", "board", "polls", "polls_are", ...}.
    A time is None where no clock was ever known; such readings come with every window.
    """
    begin_ms = from_ms if from_ms is not None else -(2**62)
    end_ms = to_ms if to_ms is not None else 2**62
    clocks = _clocks(connection)
    gaps = [gap for gap in _gaps(connection) if _crosses(gap, begin_ms, end_ms)]
    gaps.sort(key=lambda gap: gap["t_ms"] or 0)
    for first_ms, reading in _readings(connection, begin_ms, end_ms, clocks):
        while gaps and (gaps[0]["t_ms"] or 0) <= first_ms:
            yield gaps.pop(0)
        if reading["record"] == "gap" or is_wanted(reading["point"]):
            yield reading
    yield from gaps


def _clocks(connection: apsw.Connection) -> dict[str, Clock]:
    """Of each boot the first one: the readings without a time are those of before it."""
    clocks: dict[str, Clock] = {}
    for event in _events(connection, "clock"):
        if event is None:
            continue  # told with the gaps
        drift_ppb = round(event["drift_ppm"] * 1000)
        clock = Clock(_RESOLVED, event["err_ms"], event["utc_at_uptime_0_ms"], drift_ppb)
        clocks.setdefault(event["boot"], clock)
    return clocks


def _gaps(connection: apsw.Connection) -> Iterator[dict[str, Any]]:
    for event in _events(connection, "gap"):
        if event is None:
            yield _gap("disk_fault", None, None)
            continue
        yield _gap(
            event["cause"],
            event["from_ms"],
            event["to_ms"],
            of=event["of"],
            board=event["scope"]["board"],
            bus=event["scope"]["bus"],
            polls=event["polls"],
            polls_are=event["polls_are"],
            boot=event.get("from_boot"),
            uptime_ms=event.get("from_uptime_ms"),
            until_boot=event.get("boot"),
            until_uptime_ms=event.get("to_uptime_ms"),
        )


def _events(connection: apsw.Connection, kind: str) -> Iterator[dict[str, Any] | None]:
    """Of all epochs, the oldest first; some that cannot be read are one None."""
    sql = "FROM message WHERE epoch = ? AND stream = 'event'"
    for (epoch,) in connection.execute("SELECT id FROM epoch ORDER BY id").fetchall():
        next_seq = 1
        while next_seq < _BEYOND_ALL:
            try:
                found = connection.execute(f"SELECT seq, kind, body {sql} AND seq >= ? ORDER BY seq", (epoch, next_seq))
                for seq, its_kind, body in found:
                    next_seq = seq + 1
                    if its_kind == kind:
                        yield json.loads(body)
                next_seq = _BEYOND_ALL
            except ValueError:
                yield None
            except apsw.CorruptError:
                yield None
                one, last = f"SELECT body {sql} AND seq = ?", f"SELECT max(seq) {sql}"
                next_seq, _row = _beyond_damage(connection, (one, epoch), (last, epoch), next_seq)


def _crosses(gap: dict[str, Any], begin_ms: int, end_ms: int) -> bool:
    """Or may do so. A clock that was put back lets a gap end before it begins."""
    ends_ms = gap["t_ms"], gap["until_ms"]
    return None in ends_ms or (min(ends_ms) <= end_ms and max(ends_ms) >= begin_ms)


def _gap(cause: str, t_ms: int | None, until_ms: int | None, **more: Any) -> dict[str, Any]:
    return {"record": "gap", "t_ms": t_ms, "until_ms": until_ms, "cause": cause, **more}


def _readings(
    connection: apsw.Connection, begin_ms: int, end_ms: int, clocks: dict[str, Clock]
) -> Iterator[tuple[int, dict[str, Any]]]:
    """Each with the time of the first reading of its batch; what is kept of older ones, around alarms, first."""
    births: dict[str, Any] = {}
    for table in ("kept", "batch"):
        for birth, first_ms, batch_to_ms, readings in _batches(connection, table, begin_ms, end_ms):
            try:
                sections, rows = unpack(readings)
            except ValueError:
                gap = _gap("disk_fault", first_ms, batch_to_ms)
                if _crosses(gap, begin_ms, end_ms):
                    yield first_ms or 0, gap
                continue
            if birth not in births:
                content = connection.execute("SELECT content FROM birth WHERE birth = ?", (birth,)).get
                births[birth] = json.loads(content)["points"]
            for row in rows:
                reading = _reading(births[birth][row.point], sections[row.section], row, clocks)
                if reading["t_ms"] is None or begin_ms <= reading["t_ms"] <= end_ms:
                    yield first_ms or 0, reading


def _batches(connection: apsw.Connection, table: str, begin_ms: int, end_ms: int) -> Iterator[Any]:
    """Birth, first and last time, readings. What cannot be read, up to the next that can, is one without any."""
    next_id, last_ms = 0, None
    while True:
        piece: list[Any] = []
        is_damaged = False
        try:
            piece.extend(
                connection.execute(
                    f"SELECT id, birth, from_ms, to_ms, readings FROM {table} WHERE id >= ?"
                    " AND (to_ms IS NULL OR to_ms >= ?) AND (from_ms IS NULL OR from_ms <= ?) ORDER BY id LIMIT ?",
                    (next_id, begin_ms, end_ms, _PIECE),
                )
            )
        except apsw.CorruptError:
            is_damaged = True
        if piece:
            next_id, last_ms = piece[-1][0] + 1, piece[-1][3]
        yield from (row[1:] for row in piece)
        if is_damaged:
            one, last = f"SELECT from_ms, readings FROM {table} WHERE id = ?", f"SELECT max(id) FROM {table}"
            next_id, row = _beyond_damage(connection, (one,), (last,), next_id)
            yield "", last_ms, row and row[0], b""
        elif not piece:
            return


def _beyond_damage(
    connection: apsw.Connection, one: tuple[Any, ...], last: tuple[Any, ...], first: int
) -> tuple[int, Any]:
    """The first number from `first` on that can be read again, and its row; one beyond all, and None, without any.

    `one`, but for the number, and `last` are SQL and what belongs to it.
    """
    is_met = False
    end = 0
    with suppress(apsw.CorruptError):
        end = connection.execute(last[0], last[1:]).get or 0
    for number in range(first, end + 1):
        try:
            found: Any = connection.execute(one[0], (*one[1:], number)).fetchone()
        except apsw.CorruptError:
            is_met = True
            continue
        if is_met and found:
            return number, found
    return _BEYOND_ALL, None


def _reading(point: dict[str, Any], section: Section, row: Row, clocks: dict[str, Clock]) -> dict[str, Any]:
    boot = f"{section.board}/{section.boot}"
    clock = section.clock if section.clock.utc_at_uptime_0_ms is not None else clocks.get(boot, section.clock)
    return {
        "record": "reading",
        "t_ms": clock.utc_ms(row.uptime_ms),
        "point": point["point"],
        "value": None if row.value is None else json_feed.number(row.value, point["type"]),
        "unit": point["unit"],
        "quality": quality(row.status),
        "status": row.status,
        "detail": row.detail,
        "time_kind": clock.kind,
        "err_ms": clock.err_ms,
        "boot": boot,
        "uptime_ms": row.uptime_ms,
    }
