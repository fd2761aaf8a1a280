-- Version 3: no order and no time by what cannot be trusted.

-- No time is computed of what lies beyond the feed's bounds (protocols/feeds/json_feed.py).

CREATE OR REPLACE FUNCTION line_of(of_gateway int, of_boot text, of_uptime_ms bigint) RETURNS SETOF clock
    LANGUAGE sql STABLE
BEGIN ATOMIC
    SELECT c.* FROM clock c WHERE c.gateway = of_gateway AND c.boot = of_boot
    AND of_uptime_ms <= 1000000000000 AND c.utc_at_uptime_0_ms <= 100000000000000 AND abs(c.drift_ppm) <= 10000
    AND c.err_ms <= 2147483647
    ORDER BY c.from_uptime_ms <= of_uptime_ms DESC, abs(c.from_uptime_ms - of_uptime_ms), c.seq LIMIT 1;
END;

-- Who speaks: each epoch of which a state has come. Their order is that in which they were heard, since their names
-- are of clocks.
CREATE TABLE speaker (
    gateway int REFERENCES gateway, epoch text,
    heard bigint NOT NULL GENERATED ALWAYS AS IDENTITY,  -- the newest state has the greatest
    is_over boolean NOT NULL DEFAULT false,              -- another epoch has begun after it
    next_data bigint NOT NULL, next_event bigint NOT NULL,
    state jsonb,                                         -- none where it is over
    state_at timestamptz NOT NULL DEFAULT now(),         -- when it was heard
    PRIMARY KEY (gateway, epoch)
);
INSERT INTO speaker (gateway, epoch, is_over, next_data, next_event)
    SELECT g.id, f.epoch, true, 1 + coalesce(max(s.announced) FILTER (WHERE s.stream = 'data'), 0),
        1 + coalesce(max(s.announced) FILTER (WHERE s.stream = 'event'), 0)
    FROM gateway g CROSS JOIN unnest(g.former) WITH ORDINALITY AS f (epoch, at)
    LEFT JOIN stream s ON s.gateway = g.id AND s.epoch = f.epoch GROUP BY g.id, f.epoch, f.at ORDER BY g.id, f.at;
INSERT INTO speaker (gateway, epoch, next_data, next_event, state, state_at)
    SELECT id, epoch, next_data, next_event, state, state_at FROM gateway WHERE epoch IS NOT NULL;

DROP VIEW active_alarm, loss, latest_value;
ALTER TABLE gateway DROP epoch, DROP birth, DROP next_data, DROP next_event, DROP state, DROP state_at, DROP former;

-- When the epoch of a stream was; 0 for one of which no state has come: what comes of it is history.
CREATE FUNCTION heard(of_stream int) RETURNS bigint LANGUAGE sql STABLE
BEGIN ATOMIC
    SELECT coalesce((
        SELECT k.heard FROM stream s JOIN speaker k ON k.gateway = s.gateway AND k.epoch = s.epoch WHERE s.id = of_stream
    ), 0);
END;

ALTER TABLE latest ALTER t DROP NOT NULL, ADD birth text;  -- as a state names it; otherwise that of the message

-- Those that still do: a gateway says its state every 10 minutes. More than one: two gateways use one name.
CREATE VIEW speaking AS
    SELECT gateway, epoch, next_event, state, state_at
    FROM (SELECT *, max(state_at) OVER (PARTITION BY gateway) AS newest_at FROM speaker WHERE NOT is_over) AS s
    WHERE state_at > newest_at - interval '25 minutes';

-- What a gateway's newest state says.
CREATE VIEW present AS
    SELECT DISTINCT ON (gateway) gateway, epoch, state, state_at FROM speaker ORDER BY gateway, heard DESC;

-- Alarms that are not NORM: those of the newest state of each who speaks, and what has happened since.
CREATE VIEW active_alarm AS
    SELECT g.gateway, told.alarm, told.occurrence, told.state, told.since, k.epoch
    FROM speaking k JOIN gateway g ON g.id = k.gateway
    CROSS JOIN LATERAL (
        SELECT DISTINCT ON (alarm) *
        FROM (
            SELECT of ->> 0 AS alarm, (of ->> 1)::numeric::bigint AS occurrence, of ->> 2 AS state,
                utc((of ->> 3)::numeric::bigint) AS since, 0 AS seq
            FROM jsonb_array_elements(k.state -> 'alarms' -> 'rows') AS of
            UNION ALL
            SELECT a.alarm, a.occurrence, a.to_state, a.t, a.seq
            FROM stream s JOIN alarm a ON a.stream = s.id
            WHERE s.gateway = k.gateway AND s.epoch = k.epoch AND s.stream = 'event' AND a.seq >= k.next_event
        ) AS said
        ORDER BY alarm, seq DESC
    ) AS told
    WHERE told.state <> 'NORM';

CREATE VIEW loss AS
    SELECT g.gateway, s.epoch, s.stream, lower(lost) AS first, upper(lost) - 1 AS last, h.since
    FROM hole h JOIN stream s ON s.id = h.stream JOIN gateway g ON g.id = s.gateway
    JOIN present p ON p.gateway = g.id
    CROSS JOIN LATERAL unnest(int8multirange(h.numbers) - s.pending) AS lost
    WHERE p.state_at > h.since + interval '60 seconds';

CREATE VIEW latest_value AS
    SELECT g.gateway, p.point, b.name, b.area, l.t, l.value, b.unit_text AS unit, l.status, l.detail
    FROM gateway g JOIN point p ON p.gateway = g.id JOIN latest l ON l.point = p.id
    LEFT JOIN message m ON m.stream = l.stream AND m.seq = l.seq
    JOIN birth_point b ON b.gateway = g.id AND b.birth = coalesce(l.birth, m.birth) AND b.point = p.id;
