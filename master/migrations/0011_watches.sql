-- What the watches of nodes have found: the latest result of each.
-- Times are milliseconds since 1970-01-01 UTC.

CREATE TABLE node_status (
    node_id TEXT NOT NULL REFERENCES nodes (id) ON DELETE CASCADE,
    plugin TEXT NOT NULL,
    watch TEXT NOT NULL,
    -- Full name.
    operation TEXT NOT NULL,
    every_ms BIGINT NOT NULL,
    -- Of the bundle that gave the result.
    plugin_version TEXT NOT NULL,
    plugin_digest TEXT NOT NULL,
    -- By what the node names this result when it says that it is still the same.
    content TEXT NOT NULL,
    kind TEXT NOT NULL,
    -- JSON.
    outcome TEXT NOT NULL,
    outcome_bytes BIGINT NOT NULL,
    -- Why it is no success; none if it is.
    problem TEXT,
    -- When it was first found so, by the clock of the node, and by the master's.
    collected_ms BIGINT NOT NULL,
    changed_ms BIGINT NOT NULL,
    received_ms BIGINT NOT NULL,
    PRIMARY KEY (node_id, plugin, watch)
);
