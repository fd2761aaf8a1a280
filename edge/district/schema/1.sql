-- The district's database, version 1. PostgreSQL 14 or newer (multiranges).
-- Times are timestamptz. A reading keeps the numbers of the message that brought it: stream and seq.

CREATE FUNCTION utc(ms bigint) RETURNS timestamptz
    LANGUAGE sql IMMUTABLE PARALLEL SAFE RETURN timestamptz '1970-01-01Z' + ms * interval '1 millisecond';

-- --- who speaks ------------------------------------------------------------------------------------------------------

CREATE TABLE gateway (
    id int GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    gateway text NOT NULL UNIQUE,
    is_online boolean,
    link_at timestamptz,  -- when that was heard
    epoch text,           -- of the newest state, as are the next five
    birth text,
    next_data bigint,
    next_event bigint,
    state jsonb,
    state_at timestamptz,  -- when it was heard
    former text[] NOT NULL DEFAULT '{}'  -- epochs that are over: what still comes of their states is old
);

-- What the points of a gateway were at a time. A message names its birth, and is read by that and no other.
CREATE TABLE birth (
    gateway int REFERENCES gateway, birth text,
    heard_at timestamptz NOT NULL DEFAULT now(), content jsonb NOT NULL,
    PRIMARY KEY (gateway, birth)
);
CREATE TABLE point (
    id int GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    gateway int NOT NULL REFERENCES gateway, point text NOT NULL,
    UNIQUE (gateway, point)
);
CREATE TABLE birth_point (
    gateway int, birth text, point int REFERENCES point,
    name text, area text, medium text, unit text, unit_text text, decimals int, quota_id text, source jsonb,
    PRIMARY KEY (gateway, birth, point), FOREIGN KEY (gateway, birth) REFERENCES birth
);

-- --- what has come ---------------------------------------------------------------------------------------------------

CREATE TABLE stream (
    id int GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    gateway int NOT NULL REFERENCES gateway, epoch text NOT NULL, stream text NOT NULL,
    came int8multirange NOT NULL DEFAULT '{}',
    came_at timestamptz,                           -- when the last one did
    announced bigint NOT NULL DEFAULT 0,           -- the highest number that a state has told of
    pending int8multirange NOT NULL DEFAULT '{}',  -- still to come, by the newest state
    dropped int8multirange NOT NULL DEFAULT '{}',  -- will not come, by a gap
    UNIQUE (gateway, epoch, stream)
) WITH (fillfactor = 50);

CREATE TABLE message (
    stream int, seq bigint,
    kind text NOT NULL, birth text, received_at timestamptz NOT NULL DEFAULT now(),
    time_kind text, err_ms int,
    PRIMARY KEY (stream, seq)
);

-- History. Every reading once: its message is in `message` once.
CREATE TABLE reading (
    t timestamptz NOT NULL, value double precision, seq bigint NOT NULL,
    stream int NOT NULL, point int NOT NULL, status smallint NOT NULL, detail int NOT NULL,
    CHECK ((value IS NULL) = (status >= 200))
);
CREATE INDEX reading_by_point ON reading (point, t);

CREATE TABLE latest (
    point int PRIMARY KEY,
    t timestamptz NOT NULL, value double precision, seq bigint NOT NULL,
    stream int NOT NULL, status smallint NOT NULL, detail int NOT NULL
) WITH (fillfactor = 50);

-- A batch whose birth, or whose boot's clock, has not come: read as soon as it has.
CREATE TABLE waiting (
    stream int, seq bigint,
    gateway int NOT NULL, birth text NOT NULL, boot text, uptime_ms bigint,
    since timestamptz NOT NULL DEFAULT now(), topic text NOT NULL, payload bytea NOT NULL,
    PRIMARY KEY (stream, seq)
);
CREATE INDEX waiting_for ON waiting (gateway, birth, boot);

-- What cannot be read, as it came. With stream and seq where at least those could be.
CREATE TABLE set_aside (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    at timestamptz NOT NULL DEFAULT now(), topic text NOT NULL, reason text NOT NULL, payload bytea NOT NULL,
    stream int, seq bigint
);

-- --- events. t is null while no clock is known; boot and uptime then tell when ---------------------------------------

CREATE TABLE clock (
    stream int, seq bigint, gateway int NOT NULL,
    boot text NOT NULL, from_uptime_ms bigint NOT NULL, utc_at_uptime_0_ms bigint NOT NULL,
    drift_ppm double precision NOT NULL, err_ms bigint NOT NULL,
    PRIMARY KEY (stream, seq)
);
CREATE INDEX clock_of_boot ON clock (gateway, boot, from_uptime_ms);

CREATE TABLE alarm (
    stream int, seq bigint, gateway int NOT NULL,
    t timestamptz, boot text, uptime_ms bigint,
    alarm text NOT NULL, occurrence bigint NOT NULL, transition text NOT NULL,
    from_state text NOT NULL, to_state text NOT NULL, priority int, mode text,
    point text, value double precision, unit text, status int, setpoint double precision,
    by text, reason text, payload jsonb NOT NULL,
    PRIMARY KEY (stream, seq)
);
CREATE INDEX alarm_of_gateway ON alarm (gateway, t);
CREATE INDEX alarm_untimed ON alarm (gateway, boot) WHERE t IS NULL;

CREATE TABLE gap (
    stream int, seq bigint, gateway int NOT NULL,
    from_t timestamptz, to_t timestamptz, boot text, from_uptime_ms bigint, to_uptime_ms bigint,
    cause text NOT NULL, board text, bus text, polls bigint, polls_are text NOT NULL,
    missing_epoch text, missing int8range, payload jsonb NOT NULL,
    PRIMARY KEY (stream, seq)
);
CREATE INDEX gap_of_gateway ON gap (gateway, from_t);
CREATE INDEX gap_untimed ON gap (gateway, boot) WHERE from_t IS NULL;

CREATE TABLE action (
    stream int, seq bigint, gateway int NOT NULL,
    t timestamptz, boot text, uptime_ms bigint,
    action text NOT NULL, by text, reason text, payload jsonb NOT NULL,
    PRIMARY KEY (stream, seq)
);
CREATE INDEX action_of_gateway ON action (gateway, t);
CREATE INDEX action_untimed ON action (gateway, boot) WHERE t IS NULL;

-- --- what is missing, and what the gateways have been told -----------------------------------------------------------

CREATE TABLE hole (
    stream int REFERENCES stream, numbers int8range, since timestamptz NOT NULL,
    PRIMARY KEY (stream, numbers)
);
CREATE TABLE receipt (gateway int PRIMARY KEY REFERENCES gateway, at timestamptz NOT NULL, epochs jsonb NOT NULL);

-- The line that gives an uptime of a boot its UTC: the newest that had begun, or else the first.
CREATE FUNCTION line_of(of_gateway int, of_boot text, of_uptime_ms bigint) RETURNS SETOF clock LANGUAGE sql STABLE
BEGIN ATOMIC
    SELECT c.* FROM clock c WHERE c.gateway = of_gateway AND c.boot = of_boot
    ORDER BY c.from_uptime_ms <= of_uptime_ms DESC, abs(c.from_uptime_ms - of_uptime_ms), c.seq LIMIT 1;
END;
CREATE FUNCTION utc_of(of_gateway int, of_boot text, of_uptime_ms bigint) RETURNS timestamptz LANGUAGE sql STABLE
BEGIN ATOMIC
    SELECT utc(utc_at_uptime_0_ms + round((of_uptime_ms * (1 + drift_ppm / 1e6))::numeric)::bigint)
    FROM line_of(of_gateway, of_boot, of_uptime_ms);
END;

-- --- for people ------------------------------------------------------------------------------------------------------

CREATE VIEW latest_value AS
    SELECT g.gateway, p.point, b.name, b.area, l.t, l.value, b.unit_text AS unit, l.status, l.detail
    FROM gateway g JOIN point p ON p.gateway = g.id JOIN latest l ON l.point = p.id
    JOIN message m ON m.stream = l.stream AND m.seq = l.seq
    JOIN birth_point b ON b.gateway = g.id AND b.birth = m.birth AND b.point = p.id;

-- Each reading with the unit and the source that it had then.
CREATE VIEW history AS
    SELECT g.gateway, p.point, r.t, r.value, b.unit_text AS unit, r.status, r.detail, m.time_kind, m.err_ms,
        b.name, b.source, m.birth, m.received_at
    FROM point p JOIN gateway g ON g.id = p.gateway
    JOIN reading r ON r.point = p.id
    JOIN message m ON m.stream = r.stream AND m.seq = r.seq
    JOIN birth_point b ON b.gateway = p.gateway AND b.birth = m.birth AND b.point = p.id;

-- Alarms that are not NORM: those of the newest state, and what has happened since.
CREATE VIEW active_alarm AS
    SELECT g.gateway, told.alarm, told.occurrence, told.state, told.since
    FROM gateway g
    CROSS JOIN LATERAL (
        SELECT DISTINCT ON (alarm) *
        FROM (
            SELECT of ->> 0 AS alarm, (of ->> 1)::bigint AS occurrence, of ->> 2 AS state,
                utc((of ->> 3)::bigint) AS since, 0 AS seq
            FROM jsonb_array_elements(g.state -> 'alarms' -> 'rows') AS of
            UNION ALL
            SELECT a.alarm, a.occurrence, a.to_state, a.t, a.seq
            FROM stream s JOIN alarm a ON a.stream = s.id
            WHERE s.gateway = g.id AND s.epoch = g.epoch AND s.stream = 'event' AND a.seq >= g.next_event
        ) AS said
        ORDER BY alarm, seq DESC
    ) AS told
    WHERE told.state <> 'NORM';

-- Numbers that neither came nor, by a state that was heard well after they were asked for, are still to come.
CREATE VIEW loss AS
    SELECT g.gateway, s.epoch, s.stream, lower(lost) AS first, upper(lost) - 1 AS last, h.since
    FROM hole h JOIN stream s ON s.id = h.stream JOIN gateway g ON g.id = s.gateway
    CROSS JOIN LATERAL unnest(int8multirange(h.numbers) - s.pending) AS lost
    WHERE g.state_at > h.since + interval '60 seconds';
