-- Jobs with their nodes and outcomes, operators' tokens, the audit log.
-- Times are milliseconds since 1970-01-01 UTC.

CREATE TABLE jobs (
    -- UUID version 7: sorts by time of creation.
    id TEXT PRIMARY KEY,
    operation TEXT NOT NULL,
    args TEXT NOT NULL,
    effect TEXT NOT NULL,
    type_digest TEXT NOT NULL,
    dry_run BOOLEAN NOT NULL,
    target TEXT NOT NULL,
    created_by TEXT NOT NULL,
    created_ms BIGINT NOT NULL,
    deadline_ms BIGINT NOT NULL,
    cancel_requested BOOLEAN NOT NULL DEFAULT FALSE,
    finished_ms BIGINT,
    nodes BIGINT NOT NULL,
    -- Nodes with an outcome, in all and by kind; counted in the transaction of the outcomes.
    done BIGINT NOT NULL DEFAULT 0,
    succeeded BIGINT NOT NULL DEFAULT 0,
    failed BIGINT NOT NULL DEFAULT 0,
    trapped BIGINT NOT NULL DEFAULT 0,
    timed_out BIGINT NOT NULL DEFAULT 0,
    denied BIGINT NOT NULL DEFAULT 0,
    refused BIGINT NOT NULL DEFAULT 0,
    cancelled BIGINT NOT NULL DEFAULT 0,
    no_answer BIGINT NOT NULL DEFAULT 0,
    indeterminate BIGINT NOT NULL DEFAULT 0
);

-- What is unfinished at a start, and what has to go.
CREATE INDEX jobs_finished ON jobs (finished_ms);

CREATE TABLE job_nodes (
    job_id TEXT NOT NULL REFERENCES jobs (id) ON DELETE CASCADE,
    -- From 0, in the order of the names.
    position BIGINT NOT NULL,
    request_id TEXT NOT NULL,
    node_id TEXT NOT NULL,
    node_name TEXT NOT NULL,
    -- The farthest stage the node has told of. Written a moment later, so it may lag behind.
    stage TEXT NOT NULL DEFAULT 'waiting' CHECK (stage IN ('waiting', 'sent', 'accepted', 'running')),
    started_ms BIGINT,
    PRIMARY KEY (job_id, position)
);

-- Rows are only ever added: the primary key is what makes an outcome the only one.
CREATE TABLE job_outcomes (
    job_id TEXT NOT NULL,
    position BIGINT NOT NULL,
    started_ms BIGINT,
    finished_ms BIGINT NOT NULL,
    plugin_digest TEXT,
    stats TEXT,
    outcome TEXT NOT NULL,
    -- Last, so that a list of outcomes does not read through the traces.
    trace TEXT NOT NULL,
    PRIMARY KEY (job_id, position),
    FOREIGN KEY (job_id, position) REFERENCES job_nodes (job_id, position) ON DELETE CASCADE
);

CREATE TABLE tokens (
    id TEXT PRIMARY KEY,
    -- SHA-256 of the secret; the secret itself is nowhere.
    hash TEXT NOT NULL UNIQUE,
    name TEXT NOT NULL,
    role TEXT NOT NULL CHECK (role IN ('viewer', 'operator', 'admin')),
    created_ms BIGINT NOT NULL,
    expires_ms BIGINT,
    last_used_ms BIGINT
);

CREATE TABLE audit (
    seq BIGINT PRIMARY KEY,
    time_ms BIGINT NOT NULL,
    actor TEXT NOT NULL,
    action TEXT NOT NULL,
    subject TEXT NOT NULL,
    detail TEXT NOT NULL,
    verdict TEXT NOT NULL CHECK (verdict IN ('allowed', 'denied')),
    hash TEXT NOT NULL
);
