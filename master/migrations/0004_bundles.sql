-- Bundles and their signatures, approvals, deployments, and what each node is wanted to run.
-- Times are milliseconds since 1970-01-01 UTC. The parts of a bundle are blobs outside the database.

CREATE TABLE bundles (
    digest TEXT PRIMARY KEY,
    plugin TEXT NOT NULL,
    version TEXT NOT NULL,
    description TEXT NOT NULL,
    -- OCI image manifest, JSON.
    image TEXT NOT NULL,
    size_bytes BIGINT NOT NULL,
    -- JSON, read from the parts once.
    operations TEXT NOT NULL,
    capabilities TEXT NOT NULL,
    created_by TEXT NOT NULL,
    created_ms BIGINT NOT NULL,
    -- A version names one bundle for ever.
    UNIQUE (plugin, version)
);

CREATE TABLE bundle_signatures (
    bundle TEXT NOT NULL REFERENCES bundles (digest) ON DELETE CASCADE,
    -- SHA-256 of the public key: one signature by each.
    key TEXT NOT NULL,
    -- windlass_bundle::Signature, JSON.
    signature TEXT NOT NULL,
    created_ms BIGINT NOT NULL,
    PRIMARY KEY (bundle, key)
);

CREATE TABLE approvals (
    plugin TEXT PRIMARY KEY,
    -- windlass_bundle::Approval.
    approval TEXT NOT NULL,
    approved_by TEXT NOT NULL,
    approved_ms BIGINT NOT NULL
);

-- What a node is wanted to run. Nothing here refers to `nodes`: a node that is deleted while a
-- deployment is at it must not make the transaction fail. Its rows go with it, or at the next start.
CREATE TABLE node_plugins (
    node_id TEXT NOT NULL,
    plugin TEXT NOT NULL,
    -- None: the node is kept without this plugin.
    digest TEXT,
    -- Who wants it: a host tries again what failed only for another id.
    deployment TEXT NOT NULL,
    allow_downgrade BOOLEAN NOT NULL,
    pinned BOOLEAN NOT NULL,
    -- What was wanted before, for a rollback.
    previous_digest TEXT,
    -- Of the set when this last changed.
    revision BIGINT NOT NULL,
    PRIMARY KEY (node_id, plugin)
);

-- The newest revision of the set of each node. A node without a row has never been given a set.
CREATE TABLE node_sets (
    node_id TEXT PRIMARY KEY,
    revision BIGINT NOT NULL
);

-- What nodes get that have nothing else: the newest whose target they fit.
CREATE TABLE plugin_defaults (
    plugin TEXT NOT NULL,
    deployment TEXT NOT NULL,
    digest TEXT NOT NULL,
    target TEXT NOT NULL,
    allow_downgrade BOOLEAN NOT NULL,
    created_ms BIGINT NOT NULL,
    PRIMARY KEY (plugin, deployment)
);

CREATE TABLE deployments (
    -- UUID version 7: sorts by time of creation.
    id TEXT PRIMARY KEY,
    plugin TEXT NOT NULL,
    -- None for a rollback, where each node has its own.
    digest TEXT,
    version TEXT,
    state TEXT NOT NULL,
    reason TEXT NOT NULL,
    target TEXT NOT NULL,
    strategy TEXT NOT NULL,
    allow_downgrade BOOLEAN NOT NULL,
    revision BIGINT NOT NULL,
    -- Steps that have begun, and since when the last of them is only watched.
    begun BIGINT NOT NULL,
    soak_since_ms BIGINT,
    -- Failures that an operator has seen and accepted.
    forgiven BIGINT NOT NULL,
    nodes BIGINT NOT NULL,
    by_state TEXT NOT NULL,
    created_by TEXT NOT NULL,
    created_ms BIGINT NOT NULL,
    finished_ms BIGINT
);

CREATE INDEX deployments_plugin ON deployments (plugin, id);
CREATE INDEX deployments_finished ON deployments (finished_ms);

CREATE TABLE deployment_nodes (
    deployment_id TEXT NOT NULL REFERENCES deployments (id) ON DELETE CASCADE,
    -- From 0, in the order in which they have their turn.
    position BIGINT NOT NULL,
    node_id TEXT NOT NULL,
    node_name TEXT NOT NULL,
    step BIGINT NOT NULL,
    state TEXT NOT NULL,
    to_digest TEXT,
    from_digest TEXT,
    from_version TEXT,
    problem TEXT,
    -- The node was given `to_digest`.
    given BOOLEAN NOT NULL,
    sent_ms BIGINT NOT NULL,
    changed_ms BIGINT NOT NULL,
    PRIMARY KEY (deployment_id, position)
);

CREATE TABLE plugin_events (
    seq BIGINT PRIMARY KEY,
    node_id TEXT NOT NULL,
    node_name TEXT NOT NULL,
    -- Counts up on the node. With the time, since a host that lost its disk counts from 1 again.
    number BIGINT NOT NULL,
    time_ms BIGINT NOT NULL,
    plugin TEXT NOT NULL,
    kind TEXT NOT NULL,
    version TEXT NOT NULL,
    digest TEXT,
    from_version TEXT,
    message TEXT NOT NULL,
    stored_ms BIGINT NOT NULL,
    UNIQUE (node_id, number, time_ms)
);

CREATE INDEX plugin_events_plugin ON plugin_events (plugin, seq);
