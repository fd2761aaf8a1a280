-- Version 3: no time is computed of what lies beyond the feed's bounds (protocols/feeds/json_feed.py).

CREATE OR REPLACE FUNCTION line_of(of_gateway int, of_boot text, of_uptime_ms bigint) RETURNS SETOF clock
    LANGUAGE sql STABLE
BEGIN ATOMIC
    SELECT c.* FROM clock c WHERE c.gateway = of_gateway AND c.boot = of_boot
    AND of_uptime_ms <= 1000000000000 AND c.utc_at_uptime_0_ms <= 100000000000000 AND abs(c.drift_ppm) <= 10000
    AND c.err_ms <= 2147483647
    ORDER BY c.from_uptime_ms <= of_uptime_ms DESC, abs(c.from_uptime_ms - of_uptime_ms), c.seq LIMIT 1;
END;
