-- Version 2: the two ends of a gap may lie in two boots of its board, of which one may have no clock yet.

ALTER TABLE gap ADD COLUMN from_boot text;
UPDATE gap SET from_boot = boot WHERE from_uptime_ms IS NOT NULL;
DROP INDEX gap_untimed;
CREATE INDEX gap_untimed ON gap (gateway) WHERE from_t IS NULL OR to_t IS NULL;
