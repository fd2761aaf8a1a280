"""The district's PostgreSQL: what is committed is in it whole and once. Shell.

Owns the connection, the transactions and the SQL; schema/ holds the tables, and is applied by whoever comes first.
Messages are recognised by their identity, so that readings need no index of their own for it. Several copies may
write at once: each transaction takes its rows in one order (gateway, messages, points, streams, each ascending), so
that they wait for each other and never in a circle. Must never give a reading another time than its message, or the
clock event of its boot, says.

Source: asyncpg.readthedocs.io; postgresql.org/docs: 13.3 (row locks), 8.17 (ranges).
"""

import json
import operator
from collections import defaultdict
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from datetime import UTC, datetime, timedelta
from gettext import gettext as _
from importlib import resources
from typing import Any

import asyncpg  # type: ignore[import-untyped]

from edge.district.messages import Data, Document, Event, Line, Message, Unreadable, read, resolved, whole
from edge.district.receipts import ASK_AFTER_S, SPEAK_OF_DAYS, Standing
from edge.fault_words import reason
from protocols.feeds.check import Violations
from protocols.feeds.sequence import Ranges, Stream

SERVER_MIN = 14
WAITING_AT_ONCE = 500
PATIENCE_S = 120.0  # with one statement: then the connection is dead
_SETTINGS = {
    "synchronous_commit": "on",  # a receipt must not promise what a crash of the database can take back
    # A copy whose machine is gone without a word keeps its locks until the server finds out: in a minute, not in the
    # two hours that systems wait by themselves.
    "tcp_keepalives_idle": "30",
    "tcp_keepalives_interval": "10",
    "tcp_keepalives_count": "3",
    "tcp_user_timeout": "60s",  # the same where an answer was on its way
}
_PREPARING = 0x746B6774  # advisory locks: one that prepares the tables ...
_SWEEPING = 0x746B6775  # ... and one that sweeps and writes receipts
_START = datetime(1970, 1, 1, tzinfo=UTC)
_READING = ("t", "value", "seq", "stream", "point", "status", "detail")

# The machine's doing, which passes: the same is tried again. A connection that breaks while it is being broken off
# can leave asyncpg's own state in disorder.
UNAVAILABLE = (OSError, asyncpg.PostgresError, asyncpg.InterfaceError, asyncpg.InternalClientError)
# The message's doing: it would be refused each time.
_REFUSED = (
    asyncpg.DataError,
    asyncpg.IntegrityConstraintViolationError,
    asyncpg.ProgramLimitExceededError,
    OverflowError,
)

Numbered = Data | Event | Unreadable
Row = tuple[datetime, float | int | None, int, int, int, int, int]


class NoPlace(Exception):
    """This database cannot be used, and why."""


def why(fault: Exception) -> str:
    """Why there is no database: of what the machine did a time-out has no words of its own."""
    return reason(fault) if isinstance(fault, OSError) else str(fault)


@dataclass(slots=True)
class Counts:
    """What became of messages."""

    messages: int = 0
    readings: int = 0
    again: int = 0
    waiting: int = 0
    set_aside: int = 0

    def add(self, other: "Counts") -> None:
        """Count those, too."""
        for field in fields(self):
            setattr(self, field.name, getattr(self, field.name) + getattr(other, field.name))


class Database:
    """One connection to the database at `url`, made when it is needed. `violations` as for messages.read.

    Every method: UNAVAILABLE where nothing has been done.
    """

    def __init__(self, url: str, violations: Violations) -> None:
        self._url = url
        self._violations = violations
        self._live: asyncpg.Connection | None = None
        self._gateways: dict[str, int] = {}
        self._streams: dict[Stream, int] = {}
        self._points: dict[tuple[int, str], dict[str, int]] = {}  # of a birth that has come: ids by name

    async def connect(self) -> asyncpg.Connection:
        """Connect, and make or upgrade the tables, where that has not been done. NoPlace where they cannot be."""
        if self._live is None or self._live.is_closed():
            # It may be another database now, or this one as it once was: a backup, a standby.
            self._gateways.clear()
            self._streams.clear()
            self._points.clear()
            self._live = connection = await asyncpg.connect(
                self._url, server_settings=_SETTINGS, command_timeout=PATIENCE_S
            )
            try:
                await prepare(connection, scripts())
                await connection.execute("CREATE TEMPORARY TABLE newest (LIKE latest) ON COMMIT DELETE ROWS")
                await connection.set_type_codec("jsonb", encoder=_json, decoder=json.loads, schema="pg_catalog")
            except (*UNAVAILABLE, NoPlace):
                self.abandon()
                raise
        return self._live

    def abandon(self) -> None:
        """After a fault: whatever state the connection is in, what comes next gets another one."""
        if self._live is not None:
            self._live.terminate()
            self._live = None

    async def close(self) -> None:
        """Let go."""
        if self._live is not None:
            await self._live.close()

    @property
    def _connection(self) -> asyncpg.Connection:
        assert self._live is not None
        return self._live

    # --- taking in ------------------------------------------------------------------------------------------

    async def commit(self, messages: Sequence[Message]) -> Counts:
        """Each of these once, those that are numbered in one transaction; what is UNAVAILABLE may be given again.

        What the database refuses is set aside.
        """
        await self.connect()
        return await _halving(self._commit, messages)

    async def _commit(self, messages: Sequence[Message]) -> Counts:
        await self._know(messages)
        births = {
            (self._gateways[each.document["gateway"]], each.document["birth"]): each.document
            for each in messages
            if isinstance(each, Event | Document) and each.kind == "birth"
        }
        for key in sorted(births):
            await self._keep_birth(*key, births[key])
        # A state before the messages that came with it: it says which epoch they are to be taken for.
        for document in (each for each in messages if isinstance(each, Document)):
            async with self._connection.transaction():
                await self._document(document)
        counts = Counts()
        async with self._connection.transaction():
            await self._take_in([each for each in messages if not isinstance(each, Document)], counts)
        return counts

    async def _take_in(self, messages: Sequence[Data | Event | Unreadable], counts: Counts) -> None:
        fresh = await self._number(messages)
        counts.messages = len(fresh)
        counts.again = len(messages) - len(fresh)
        await self._events([each for each in fresh if isinstance(each, Event)])
        await self._batches([each for each in fresh if isinstance(each, Data)], counts)
        await self._put_aside([each for each in fresh if isinstance(each, Unreadable)], counts)
        await self._came(fresh)

    async def _know(self, messages: Iterable[Message]) -> None:
        """Give gateways and streams their ids, for good: outside of what may be rolled back."""
        streams = {stream for message in messages for stream in _streams(message)}
        gateways = {stream.gateway for stream in streams}
        gateways |= {message.gateway for message in messages if isinstance(message, Document)}
        for gateway in sorted(gateways - self._gateways.keys()):
            await self._connection.execute("INSERT INTO gateway (gateway) VALUES ($1) ON CONFLICT DO NOTHING", gateway)
            self._gateways[gateway] = await self._connection.fetchval(
                "SELECT id FROM gateway WHERE gateway = $1", gateway
            )
        for stream in sorted(streams - self._streams.keys()):
            identity = self._gateways[stream.gateway], stream.epoch, stream.name
            await self._connection.execute(
                "INSERT INTO stream (gateway, epoch, stream) VALUES ($1, $2, $3) ON CONFLICT DO NOTHING", *identity
            )
            self._streams[stream] = await self._connection.fetchval(
                "SELECT id FROM stream WHERE (gateway, epoch, stream) = ($1, $2, $3)", *identity
            )

    def _key(self, message: Message) -> tuple[int, int] | None:
        """Its stream's id and its number, where it has one; `_know` it first."""
        identity = _identity(message)
        return None if identity is None else (self._streams[identity[0]], identity[1])

    async def _number(self, messages: Sequence[Numbered]) -> list[Numbered]:
        """Those whose numbers are new here, and those that have none."""
        numbered: dict[tuple[int, int], Numbered] = {}
        without: list[Numbered] = []
        for message in messages:
            key = self._key(message)
            if key is None:
                without.append(message)
            else:
                numbered.setdefault(key, message)
        if not numbered:
            return without
        keys = sorted(numbered)
        rows = await self._connection.fetch(
            "INSERT INTO message (stream, seq, kind, birth, time_kind, err_ms)"
            " SELECT * FROM unnest($1::int[], $2::bigint[], $3::text[], $4::text[], $5::text[], $6::int[])"
            " ON CONFLICT DO NOTHING RETURNING stream, seq",
            *zip(*((*key, *_described(numbered[key])) for key in keys), strict=True),
        )
        return [numbered[stream, seq] for stream, seq in rows] + without

    async def _came(self, fresh: Sequence[Numbered]) -> None:
        """Into the account of each stream: what came, and what by a gap never will."""
        came: defaultdict[int, Ranges] = defaultdict(Ranges)
        dropped: defaultdict[int, Ranges] = defaultdict(Ranges)
        for message in fresh:
            key = self._key(message)
            if key is not None:
                came[key[0]].add(key[1], key[1])
            for stream, first, last in _dropped(message):
                dropped[self._streams[stream]].add(first, last)
        await self._connection.execute(
            "SELECT FROM stream WHERE id = ANY($1::int[]) ORDER BY id FOR UPDATE", [*came, *dropped]
        )
        for column, numbers in (("came", came), ("dropped", dropped)):
            ranges = [(stream, *span) for stream in numbers for span in numbers[stream]]
            if ranges:
                await self._connection.execute(
                    f"UPDATE stream SET {column} = {column} + new.numbers, came_at = now() FROM ("
                    "  SELECT stream, range_agg(int8range(first, last, '[]')) AS numbers"
                    "  FROM unnest($1::int[], $2::bigint[], $3::bigint[]) AS new (stream, first, last) GROUP BY stream"
                    " ) AS new WHERE id = new.stream",
                    *zip(*ranges, strict=True),
                )

    # --- births and batches ---------------------------------------------------------------------------------

    async def _keep_birth(self, gateway: int, birth: str, document: Mapping[str, Any]) -> None:
        if await self._points_of(gateway, birth) is not None:
            return
        async with self._connection.transaction():
            own = ("schema", "gateway", "epoch", "stream", "seq", "birth")
            content = {name: value for name, value in document.items() if name not in own}
            await self._connection.execute(
                "INSERT INTO birth (gateway, birth, content) VALUES ($1, $2, $3) ON CONFLICT DO NOTHING",
                gateway, birth, content,
            )  # fmt: skip
            for insert in _POINTS_OF_BIRTH:
                await self._connection.execute(insert, gateway, birth)

    async def _points_of(self, gateway: int, birth: str) -> dict[str, int] | None:
        """Ids of the points of a birth; None where it has not come."""
        key = gateway, birth
        if key not in self._points:
            rows = await self._connection.fetch(
                "SELECT p.point, p.id FROM birth b LEFT JOIN birth_point USING (gateway, birth)"
                " LEFT JOIN point p ON p.id = birth_point.point WHERE b.gateway = $1 AND b.birth = $2",
                *key,
            )
            if not rows:
                return None
            self._points[key] = {point: id for point, id in rows if id is not None}  # a birth may have no points
        return self._points[key]

    async def _batches(self, batches: Sequence[Data], counts: Counts) -> None:
        """Readings of those that can be read now; the others wait."""
        rows: list[Row] = []
        waiting: list[tuple[Any, ...]] = []
        foreign: list[Unreadable] = []
        for batch in batches:
            gateway = self._gateways[batch.stream.gateway]
            points = await self._points_of(gateway, batch.birth)
            if points is None or batch.boot is not None:
                uptime_ms = None if batch.boot is None else batch.t0_ms
                stream = self._streams[batch.stream]
                waiting.append(
                    (stream, batch.seq, gateway, batch.birth, batch.boot, uptime_ms, batch.topic, batch.payload)
                )
                continue
            try:
                rows += _rows(batch, self._streams[batch.stream], points)
            except KeyError as unknown:
                foreign.append(_not_in_birth(batch, unknown.args[0]))
        if waiting:
            await self._connection.executemany(
                "INSERT INTO waiting (stream, seq, gateway, birth, boot, uptime_ms, topic, payload)"
                " VALUES ($1, $2, $3, $4, $5, $6, $7, $8)",
                waiting,
            )
        await self._put_aside(foreign, counts)
        await self._readings(rows)
        counts.waiting += len(waiting)
        counts.readings += len(rows)

    async def _readings(self, rows: list[Row]) -> None:
        if not rows:
            return
        await self._connection.copy_records_to_table("reading", records=rows, columns=_READING)
        newest: dict[tuple[int, int], Row] = {}  # of each point in each stream
        for row in rows:
            _t, _value, seq, stream, point, *_judged = row
            known = newest.get((stream, point))
            if known is None or known[2] <= seq:
                newest[stream, point] = row
        await self._connection.copy_records_to_table("newest", records=newest.values(), columns=_READING)
        await self._connection.execute(_LATEST_OF_DATA)

    async def _put_aside(self, messages: Sequence[Unreadable], counts: Counts) -> None:
        if messages:
            await self._connection.executemany(
                "INSERT INTO set_aside (topic, reason, payload, stream, seq) VALUES ($1, $2, $3, $4, $5)",
                [
                    (each.topic, each.reason.replace("\0", "\\0"), each.payload, *(self._key(each) or (None, None)))
                    for each in messages
                ],
            )
        counts.set_aside += len(messages)

    # --- events ---------------------------------------------------------------------------------------------

    async def _events(self, events: Sequence[Event]) -> None:
        """Each kind into its table; a birth has been kept as one."""
        for kind, insert in _EVENTS.items():
            of_kind = [each for each in events if each.kind == kind]
            if of_kind:
                await self._connection.execute(
                    insert + _OF_EVENTS,
                    [self._streams[each.stream] for each in of_kind],
                    [each.seq for each in of_kind],
                    [self._gateways[each.stream.gateway] for each in of_kind],
                    [each.document for each in of_kind],
                )

    # --- documents ------------------------------------------------------------------------------------------

    async def _document(self, document: Document) -> None:
        gateway = self._gateways[document.gateway]
        if document.kind == "link":
            await self._connection.execute(
                "UPDATE gateway SET is_online = $2, link_at = now() WHERE id = $1", gateway, document.document["online"]
            )
        elif document.kind == "state":
            await self._state(gateway, document.document)

    async def _state(self, gateway: int, state: Mapping[str, Any]) -> None:
        if not await self._is_heard(gateway, state):
            return
        await self._latest(gateway, state)
        await self._connection.execute("SELECT FROM stream WHERE gateway = $1 ORDER BY id FOR UPDATE", gateway)
        await self._connection.execute(
            # Of another gateway with this name it knows nothing.
            "UPDATE stream SET pending = '{}' WHERE gateway = $1 AND NOT isempty(pending)"
            " AND epoch NOT IN (SELECT epoch FROM speaking WHERE gateway = $1 AND epoch <> $2)",
            gateway,
            state["epoch"],
        )
        for stream, entry in _listed(state):
            await self._connection.execute(
                "UPDATE stream SET announced = greatest(announced, $2), pending = coalesce(("
                "  SELECT range_agg(int8range(first, last, '[]'))"
                "  FROM unnest($3::bigint[], $4::bigint[]) AS p (first, last)"
                " ), '{}') WHERE id = $1",
                self._streams[stream],
                entry["next"] - 1,
                [first for first, _last in entry["pending"]],
                [last for _first, last in entry["pending"]],
            )

    async def _is_heard(self, gateway: int, state: Mapping[str, Any]) -> bool:
        """Whether this state is the newest of its epoch. By its numbers, since clocks are stepped.

        A new epoch ends those before it. One that is over and goes on nevertheless is that of another gateway.
        """
        epoch = state["epoch"]
        numbers = [_next_of(state, "data"), _next_of(state, "event")]
        await self._connection.execute("SELECT FROM gateway WHERE id = $1 FOR NO KEY UPDATE", gateway)
        known = await self._connection.fetchrow(
            "SELECT next_data, next_event, is_over FROM speaker WHERE (gateway, epoch) = ($1, $2)", gateway, epoch
        )
        if known is None:
            await self._connection.execute(
                "UPDATE speaker SET is_over = true, state = NULL WHERE gateway = $1 AND NOT is_over", gateway
            )
        else:
            *before, is_over = known
            if any(map(operator.lt, numbers, before)) or (is_over and numbers == before):
                return False
        await self._connection.execute(
            "INSERT INTO speaker (gateway, epoch, next_data, next_event, state) VALUES ($1, $2, $3, $4, $5)"
            " ON CONFLICT (gateway, epoch) DO UPDATE SET heard = DEFAULT, is_over = false, state_at = now(),"
            " next_data = excluded.next_data, next_event = excluded.next_event, state = excluded.state",
            gateway, epoch, *numbers, dict(state),
        )  # fmt: skip
        return True

    async def _latest(self, gateway: int, state: Mapping[str, Any]) -> None:
        """What a state says of its points is newer than every message that was made before it."""
        points = await self._points_of(gateway, state["birth"]) or {}
        stream = Stream(state["gateway"], state["epoch"], "data")
        rows = {points[point]: reading for point, *reading in map(whole, state["values"]["rows"]) if point in points}
        if rows:
            await self._connection.execute(
                _LATEST_OF_STATE,
                self._streams[stream],
                _next_of(state, "data") - 1,
                state["birth"],
                [*rows],
                *map(list, zip(*rows.values(), strict=True)),
            )

    # --- sweeping: what one copy does for all ---------------------------------------------------------------

    async def is_sweeper(self) -> bool:
        """Whether this connection is the one that sweeps; once it is, it stays so until it ends."""
        await self.connect()
        return bool(await self._connection.fetchval("SELECT pg_try_advisory_lock($1)", _SWEEPING))

    async def sweep(self) -> Counts:
        """Read what has waited and can be read now, give events their time, and find what is missing."""
        counts = Counts()
        while waited := await self._waited():
            counts.add(await _halving(self._read_waited, waited))
        for complete in _COMPLETE:
            await self._connection.execute(complete)
        await self._connection.execute(_FIND_HOLES)
        return counts

    async def _waited(self) -> list[Numbered]:
        """Some of what has waited and can be read now, each with its time."""
        rows = await self._connection.fetch(
            "SELECT g.gateway, s.epoch, s.stream, w.seq, w.topic, w.payload,"
            " l.utc_at_uptime_0_ms, l.drift_ppm, l.err_ms"
            " FROM waiting w JOIN stream s ON s.id = w.stream JOIN gateway g ON g.id = w.gateway"
            " LEFT JOIN LATERAL line_of(w.gateway, w.boot, w.uptime_ms) l ON true"
            " WHERE EXISTS (SELECT FROM birth b WHERE b.gateway = w.gateway AND b.birth = w.birth)"
            " AND (w.boot IS NULL OR l.boot IS NOT NULL)"
            " ORDER BY w.stream, w.seq LIMIT $1",
            WAITING_AT_ONCE,
        )
        return [_with_its_time(read(row["topic"], row["payload"], self._violations), row) for row in rows]

    async def _read_waited(self, messages: Sequence[Numbered]) -> Counts:
        """Readings of these, which wait no more, in one transaction."""
        counts = Counts(messages=len(messages))
        await self._know(messages)
        described = [(*key, *_described(each)) for each in messages if (key := self._key(each)) is not None]
        async with self._connection.transaction():
            await self._connection.executemany(
                "DELETE FROM waiting WHERE (stream, seq) = ($1, $2)", [each[:2] for each in described]
            )
            await self._connection.executemany(
                "UPDATE message SET kind = $3, birth = $4, time_kind = $5, err_ms = $6 WHERE (stream, seq) = ($1, $2)",
                described,
            )
            await self._batches([each for each in messages if isinstance(each, Data)], counts)
            await self._put_aside([each for each in messages if isinstance(each, Unreadable)], counts)
        return counts

    async def standings(self) -> list[Standing]:
        """Of every stream of which a message came lately, or of which something is missing.

        By one look at all of it: what has come since the last sweep may have left holes that it did not find.
        """
        rows = await self._connection.fetch(
            _AGED + "SELECT g.gateway, s.epoch, s.stream,"
            " greatest(upper(s.came) - 1, s.announced, 0) AS last,"
            " array_remove(array_agg(lower(h.numbers) ORDER BY h.numbers), NULL) AS first,"
            " array_agg(upper(h.numbers) - 1 ORDER BY h.numbers) AS end,"
            " array_agg(h.since > now() - $1::float8 * interval '1 second' ORDER BY h.numbers) AS young"
            " FROM stream s JOIN gateway g ON g.id = s.gateway LEFT JOIN aged h ON h.stream = s.id"
            " WHERE s.came_at > now() - $2::int * interval '1 day' OR h.stream IS NOT NULL"
            " GROUP BY s.id, g.id ORDER BY g.gateway, s.epoch, s.stream",
            ASK_AFTER_S,
            SPEAK_OF_DAYS,
        )
        return [
            Standing(
                Stream(row["gateway"], row["epoch"], row["stream"]),
                row["last"],
                list(zip(row["first"], row["end"], row["young"], strict=False)),
            )
            for row in rows
        ]

    async def receipted(self, gateway: str, epochs: Mapping[str, Any]) -> None:
        """This receipt went to the broker."""
        await self._connection.execute(
            "INSERT INTO receipt SELECT id, now(), $2::jsonb FROM gateway WHERE gateway = $1"
            " ON CONFLICT (gateway) DO UPDATE SET at = excluded.at, epochs = excluded.epochs",
            gateway,
            dict(epochs),
        )

    async def losses(self) -> list[tuple[Stream, int, int]]:
        """Ranges of numbers that are lost, as things stand."""
        rows = await self._connection.fetch("SELECT gateway, epoch, stream, first, last FROM loss ORDER BY 1, 2, 3, 4")
        return [(Stream(*row[:3]), row["first"], row["last"]) for row in rows]

    async def twins(self) -> dict[str, list[str]]:
        """Names under which more than one gateway speaks, with their epochs, the last heard at the end."""
        rows = await self._connection.fetch(
            "SELECT g.gateway, array_agg(k.epoch ORDER BY k.state_at) AS epochs"
            " FROM speaking k JOIN gateway g ON g.id = k.gateway GROUP BY g.id HAVING count(*) > 1 ORDER BY 1"
        )
        return {row["gateway"]: row["epochs"] for row in rows}


# --- tables -------------------------------------------------------------------------------------------------


def scripts() -> list[str]:
    """What makes each version of the tables out of the one before."""
    folder = resources.files("edge.district") / "schema"
    return [(folder / f"{number}.sql").read_text("utf-8") for number in range(1, len(list(folder.iterdir())) + 1)]


async def prepare(connection: asyncpg.Connection, scripts: Sequence[str]) -> None:
    """Bring the tables to the version of the last script. NoPlace where they cannot be."""
    server = connection.get_server_version()
    if server.major < SERVER_MIN:
        text = _("PostgreSQL {version} is too old: {needed} or newer is needed")
        raise NoPlace(text.format(version=server.major, needed=SERVER_MIN))
    async with connection.transaction():
        await connection.execute("SELECT pg_advisory_xact_lock($1)", _PREPARING)
        await connection.execute("CREATE TABLE IF NOT EXISTS version (version int PRIMARY KEY, since timestamptz)")
        version = await connection.fetchval("SELECT coalesce(max(version), 0) FROM version")
        if version > len(scripts):
            text = _("the tables are of version {version}, this program knows {known}: install a newer tankgate")
            raise NoPlace(text.format(version=version, known=len(scripts)))
        for number, script in list(enumerate(scripts, start=1))[version:]:
            await connection.execute(script)
            await connection.execute("INSERT INTO version VALUES ($1, now())", number)


_POINTS_OF_BIRTH = (
    "INSERT INTO point (gateway, point) SELECT gateway, of ->> 'point'"
    " FROM birth, jsonb_array_elements(content -> 'points') AS of WHERE gateway = $1 AND birth = $2"
    " ORDER BY 2 ON CONFLICT DO NOTHING",
    "INSERT INTO birth_point SELECT b.gateway, b.birth, p.id, of ->> 'name', of ->> 'area', of ->> 'medium',"
    " of ->> 'unit', of ->> 'unit_text', (of ->> 'decimals')::int, of -> 'codes' ->> 'quotaId', of -> 'source'"
    " FROM birth b, jsonb_array_elements(b.content -> 'points') AS of, point p"
    " WHERE b.gateway = $1 AND b.birth = $2 AND p.gateway = b.gateway AND p.point = of ->> 'point'"
    " ON CONFLICT DO NOTHING",
)
_T = "coalesce(utc((e ->> 't_ms')::bigint), utc_of(gateway, e ->> 'boot', (e ->> 't_uptime_ms')::bigint))"
_SPAN = ", ".join(
    f"coalesce(utc((e ->> '{end}_ms')::bigint), utc_of(gateway, e ->> '{boot}', (e ->> '{end}_uptime_ms')::bigint))"
    for end, boot in (("from", "from_boot"), ("to", "boot"))
)
_OF_EVENTS = " FROM unnest($1::int[], $2::bigint[], $3::int[], $4::jsonb[]) AS e (stream, seq, gateway, e)"
_EVENTS = {
    "clock": (
        "INSERT INTO clock SELECT stream, seq, gateway, e ->> 'boot', (e ->> 'from_uptime_ms')::bigint,"
        " (e ->> 'utc_at_uptime_0_ms')::bigint, (e ->> 'drift_ppm')::float8, (e ->> 'err_ms')::bigint"
    ),
    "alarm": (
        f"INSERT INTO alarm SELECT stream, seq, gateway, {_T}, e ->> 'boot', (e ->> 't_uptime_ms')::bigint,"
        " e ->> 'alarm', (e ->> 'occurrence')::bigint, e ->> 'transition', e ->> 'from', e ->> 'to',"
        " (e ->> 'priority')::int, e ->> 'mode', e ->> 'point', (e ->> 'value')::float8, e ->> 'unit',"
        " (e ->> 'status')::int, (e ->> 'setpoint')::float8, e ->> 'by', e ->> 'reason', e"
    ),
    "gap": (
        f"INSERT INTO gap SELECT stream, seq, gateway, {_SPAN}, e ->> 'boot',"
        " (e ->> 'from_uptime_ms')::bigint, (e ->> 'to_uptime_ms')::bigint, e ->> 'cause', e -> 'scope' ->> 'board',"
        " e -> 'scope' ->> 'bus', (e ->> 'polls')::bigint, e ->> 'polls_are', e ->> 'missing_epoch',"
        " CASE WHEN e ->> 'missing_epoch' IS NOT NULL THEN"
        "  int8range((e -> 'missing_seq' ->> 0)::bigint, (e -> 'missing_seq' ->> 1)::bigint, '[]') END,"
        " e, e ->> 'from_boot'"
    ),
    "action": (
        f"INSERT INTO action SELECT stream, seq, gateway, {_T}, e ->> 'boot', (e ->> 't_uptime_ms')::bigint,"
        " e ->> 'action', e ->> 'by', e ->> 'reason', e"
    ),
}
# The latest value is that of the newest message: of the epoch heard last, and in it of the highest number. It has no
# birth of its own where it has a message, which names it.
_LATEST_SET = """
ON CONFLICT (point) DO UPDATE SET t = excluded.t, value = excluded.value, seq = excluded.seq,
    stream = excluded.stream, status = excluded.status, detail = excluded.detail, birth = excluded.birth
WHERE CASE WHEN excluded.stream = known.stream THEN excluded.seq {beyond} known.seq
    ELSE (heard(excluded.stream), excluded.stream) > (heard(known.stream), known.stream) END
"""
_LATEST_OF_DATA = (
    "INSERT INTO latest AS known (t, value, seq, stream, point, status, detail)"
    " SELECT DISTINCT ON (n.point) n.t, n.value, n.seq, n.stream, n.point, n.status, n.detail"
    " FROM newest n JOIN stream s ON s.id = n.stream LEFT JOIN speaker k ON (k.gateway, k.epoch) = (s.gateway, s.epoch)"
    " ORDER BY n.point, coalesce(k.heard, 0) DESC, n.stream DESC"
) + _LATEST_SET.format(beyond=">")
_LATEST_OF_STATE = (
    "INSERT INTO latest AS known (stream, seq, birth, point, t, value, status, detail)"
    " SELECT $1, $2, $3, point, utc(t_ms), value, status, detail"
    " FROM unnest($4::int[], $5::bigint[], $6::float8[], $7::smallint[], $8::int[])"
    "  AS of (point, t_ms, value, status, detail) ORDER BY point"
) + _LATEST_SET.format(beyond=">=")
# An event without a time gets that of its boot's clock, once; each end of a gap that of its own.
_COMPLETE = [
    f"UPDATE {table} SET {t} = utc_of(gateway, {boot}, {uptime_ms})"
    f" WHERE {t} IS NULL AND EXISTS (SELECT FROM line_of(gateway, {boot}, {uptime_ms}))"
    for table, t, boot, uptime_ms in (
        ("alarm", "t", "boot", "uptime_ms"),
        ("action", "t", "boot", "uptime_ms"),
        ("gap", "from_t", "from_boot", "from_uptime_ms"),
        ("gap", "to_t", "boot", "to_uptime_ms"),
    )
]
# What is missing now; a hole that shrinks keeps its age.
_AGED = """
WITH missing AS (
    SELECT id AS stream,
        unnest(int8multirange(int8range(1, greatest(upper(came), announced + 1))) - came - dropped) AS numbers
    FROM stream
), aged AS (
    SELECT m.stream, m.numbers, coalesce(min(h.since), now()) AS since
    FROM missing m LEFT JOIN hole h ON h.stream = m.stream AND h.numbers && m.numbers GROUP BY m.stream, m.numbers
)
"""
_FIND_HOLES = f"""
{_AGED}, filled AS (
    DELETE FROM hole h WHERE NOT EXISTS (SELECT FROM aged a WHERE a.stream = h.stream AND a.numbers = h.numbers)
)
INSERT INTO hole SELECT * FROM aged ON CONFLICT DO NOTHING
"""


# --- what the database refuses ------------------------------------------------------------------------------


async def _halving(take_in: Callable[[Sequence[Any]], Awaitable[Counts]], messages: Sequence[Message]) -> Counts:
    """Take all of these in; the one that the database refuses is found by halving, and set aside."""
    try:
        return await take_in(messages)
    except _REFUSED as refusal:
        if len(messages) == 1:
            return await take_in([_set_aside(messages[0], str(refusal))])
    half = len(messages) // 2
    counts = await _halving(take_in, messages[:half])
    counts.add(await _halving(take_in, messages[half:]))
    return counts


# --- messages as rows ---------------------------------------------------------------------------------------


def _json(document: Any) -> str:
    return json.dumps(document, ensure_ascii=False)


def _identity(message: Message) -> tuple[Stream, int] | None:
    match message:
        case Data() | Event():
            return message.stream, message.seq
        case Unreadable():
            return message.numbered
    return None


def _streams(message: Message) -> Iterator[Stream]:
    """Its own, and those that it tells of."""
    identity = _identity(message)
    if identity is not None:
        yield identity[0]
    for stream, _first, _last in _dropped(message):
        yield stream
    if isinstance(message, Document) and message.kind == "state":
        yield Stream(message.gateway, message.document["epoch"], "data")
        for stream, _entry in _listed(message.document):
            yield stream


def _dropped(message: Message) -> Iterator[tuple[Stream, int, int]]:
    if isinstance(message, Event) and message.kind == "gap" and message.document["missing_seq"] is not None:
        gap = message.document
        yield Stream(gap["gateway"], gap["missing_epoch"], gap["of"]), *gap["missing_seq"]


def _listed(state: Mapping[str, Any]) -> Iterator[tuple[Stream, Mapping[str, Any]]]:
    for epoch, streams in state["epochs"].items():
        for name, entry in streams.items():
            yield Stream(state["gateway"], epoch, name), entry


def _next_of(state: Mapping[str, Any], stream: str) -> int:
    """The number of the message that its own epoch makes next."""
    return int(state["epochs"].get(state["epoch"], {}).get(stream, {"next": 1})["next"])


def _described(message: Message) -> tuple[str, str | None, str | None, int | None]:
    """Kind, birth, kind of time and its error."""
    match message:
        case Data():
            return "data", message.birth, message.kind, message.err_ms
        case Event():
            time = message.document["time"] if message.kind in ("alarm", "gap", "action") else {}
            return message.kind, message.document["birth"], time.get("kind"), time.get("err_ms")
    return "unreadable", None, None, None


def _rows(batch: Data, stream: int, points: Mapping[str, int]) -> list[Row]:
    start = _START + timedelta(milliseconds=batch.t0_ms)
    seq = batch.seq
    return [
        (start + timedelta(0, 0, 1000 * dt_ms), value, seq, stream, points[point], status, detail)
        for point, dt_ms, value, status, detail in batch.rows
    ]


def _set_aside(message: Message, reason: str) -> Unreadable:
    return Unreadable(message.topic, message.payload, reason, _identity(message))


def _with_its_time(batch: Message, row: asyncpg.Record) -> Data | Unreadable:
    """A batch that has waited, by the line of its boot where it has no clock. Its number is as good as when it came."""
    if isinstance(batch, Unreadable):  # an earlier version knew fewer bounds
        return replace(batch, numbered=(Stream(row["gateway"], row["epoch"], row["stream"]), row["seq"]))
    assert isinstance(batch, Data)
    if batch.boot is None:
        return batch
    return resolved(batch, Line(row["utc_at_uptime_0_ms"], row["drift_ppm"], row["err_ms"]))


def _not_in_birth(batch: Data, point: str) -> Unreadable:
    return _set_aside(batch, _("point {point} is not in birth {birth}").format(point=point, birth=batch.birth))
