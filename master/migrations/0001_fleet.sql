-- Nodes and what is known about them, join tokens, plugin sources.
-- Times are milliseconds since 1970-01-01 UTC.

CREATE TABLE inventories (
    digest TEXT PRIMARY KEY,
    -- Array of plugins with their operations; the same for most nodes, so it is kept once.
    plugins TEXT NOT NULL
);

CREATE TABLE nodes (
    id TEXT PRIMARY KEY,
    name TEXT NOT NULL,
    state TEXT NOT NULL CHECK (state IN ('pending', 'accepted', 'rejected', 'revoked')),
    -- Of its public key. A deleted node is forgotten, so its key may ask again under a new id.
    fingerprint TEXT NOT NULL UNIQUE,
    -- How often a certificate has been issued, and the newest one that was seen in a session.
    issued_generation BIGINT NOT NULL DEFAULT 0,
    seen_generation BIGINT NOT NULL DEFAULT 0,
    certificate_serial TEXT,
    certificate_expires_ms BIGINT,
    labels TEXT NOT NULL DEFAULT '{}',
    flags TEXT NOT NULL DEFAULT '[]',
    facts TEXT NOT NULL DEFAULT '{}',
    inventory TEXT REFERENCES inventories (digest),
    host_version TEXT,
    address TEXT,
    created_ms BIGINT NOT NULL,
    last_seen_ms BIGINT
);

-- Names are unique among the nodes of the grid. Pending ones may ask for a name that is taken:
-- whoever accepts them then has to give another one, so nobody can squat on a name by asking first.
CREATE UNIQUE INDEX nodes_accepted_name ON nodes (name) WHERE state = 'accepted';

CREATE TABLE join_tokens (
    id TEXT PRIMARY KEY,
    -- SHA-256 of the secret; the secret itself is nowhere.
    hash TEXT NOT NULL UNIQUE,
    labels TEXT NOT NULL DEFAULT '{}',
    created_ms BIGINT NOT NULL,
    expires_ms BIGINT NOT NULL,
    used_by TEXT,
    used_ms BIGINT
);

CREATE TABLE plugin_sources (
    digest TEXT PRIMARY KEY,
    manifest BLOB NOT NULL,
    wit BLOB NOT NULL,
    component_digest TEXT NOT NULL,
    created_ms BIGINT NOT NULL
);
