-- Plans and their runs.
-- Times are milliseconds since 1970-01-01 UTC.

CREATE TABLE plans (
    -- Also that of its run.
    id TEXT NOT NULL PRIMARY KEY,
    title TEXT NOT NULL,
    -- JSON: windlass_types::api::plans::PlanSource.
    source TEXT NOT NULL,
    -- JSON: windlass_types::plans::Plan, with `${run}` replaced.
    plan TEXT NOT NULL,
    steps BIGINT NOT NULL,
    -- JSON: windlass_types::api::plans::PlanReview.
    review TEXT NOT NULL,
    -- JSON: what was known of its nodes, as far as it rests on it.
    fleet TEXT NOT NULL,
    created_by TEXT NOT NULL,
    created_ms BIGINT NOT NULL,
    expires_ms BIGINT NOT NULL
);

CREATE INDEX plans_expires ON plans (expires_ms);

-- The primary key is what makes a plan be applied once.
CREATE TABLE runs (
    id TEXT NOT NULL PRIMARY KEY REFERENCES plans (id) ON DELETE CASCADE,
    state TEXT NOT NULL CHECK (state IN ('running', 'rolling_back', 'done', 'rolled_back', 'abandoned')),
    -- JSON: steps by state, of a run that is over.
    steps TEXT,
    started_by TEXT NOT NULL,
    started_ms BIGINT NOT NULL,
    finished_ms BIGINT
);

CREATE INDEX runs_finished ON runs (finished_ms);

-- Never changed: a run is what these tell, in their order.
CREATE TABLE run_events (
    run_id TEXT NOT NULL REFERENCES runs (id) ON DELETE CASCADE,
    -- From 1, without gaps.
    seq BIGINT NOT NULL,
    time_ms BIGINT NOT NULL,
    actor TEXT,
    -- JSON: windlass_types::api::plans::RunEventKind.
    event TEXT NOT NULL,
    PRIMARY KEY (run_id, seq)
);

-- Jobs of which a run does not know yet how they ended: they are kept until it does, so that none is made
-- a second time. A job is here before it is made.
CREATE TABLE run_jobs (
    job_id TEXT NOT NULL PRIMARY KEY,
    run_id TEXT NOT NULL REFERENCES runs (id) ON DELETE CASCADE
);
