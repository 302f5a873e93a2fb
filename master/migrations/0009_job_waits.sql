-- Jobs whose nodes may be asked again, waited for, or have to wait for each other.

-- How often a node is asked again that answered without success.
ALTER TABLE jobs ADD COLUMN retries BIGINT;
-- How long nodes that are not there are waited for, in milliseconds.
ALTER TABLE jobs ADD COLUMN wait_ms BIGINT;
-- What it needs for itself on each node: a JSON array; none: nothing.
ALTER TABLE jobs ADD COLUMN locks TEXT;
-- Counts from 1.
ALTER TABLE job_nodes ADD COLUMN attempt BIGINT NOT NULL DEFAULT 1;
-- What came of the attempt before, JSON.
ALTER TABLE job_nodes ADD COLUMN last_outcome TEXT;
