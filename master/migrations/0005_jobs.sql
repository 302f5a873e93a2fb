-- Jobs that go over their nodes a few at a time.

-- Nodes at once; none: all of them.
ALTER TABLE jobs ADD COLUMN batch BIGINT;
-- More nodes without success than this end it for those that have not had their turn.
ALTER TABLE jobs ADD COLUMN max_failures BIGINT;
-- How long each node has from its turn on, in milliseconds.
ALTER TABLE jobs ADD COLUMN node_ms BIGINT;
-- When a node of such a job had its turn. Written before the request is sent.
ALTER TABLE job_nodes ADD COLUMN released_ms BIGINT;
