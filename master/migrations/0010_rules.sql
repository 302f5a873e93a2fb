-- Rules: when something happens, do something.
-- Times are milliseconds since 1970-01-01 UTC.

CREATE TABLE rules (
    id TEXT NOT NULL PRIMARY KEY,
    name TEXT NOT NULL UNIQUE,
    kind TEXT NOT NULL,
    -- CEL; none: all of the kind.
    condition TEXT,
    -- JSON: windlass_types::api::rules::Then.
    action TEXT NOT NULL,
    most BIGINT NOT NULL,
    per_ms BIGINT NOT NULL,
    paused BOOLEAN NOT NULL,
    created_by TEXT NOT NULL,
    created_ms BIGINT NOT NULL,
    -- Events up to here are done with, or were there before it.
    done_seq BIGINT NOT NULL
);

-- The primary key is what makes an event fire a rule once.
CREATE TABLE rule_firings (
    rule_id TEXT NOT NULL REFERENCES rules (id) ON DELETE CASCADE,
    seq BIGINT NOT NULL,
    state TEXT NOT NULL CHECK (state IN ('begun', 'done', 'left_out', 'failed')),
    -- Chosen before the job is made, so that it is made once.
    job_id TEXT,
    problem TEXT,
    time_ms BIGINT NOT NULL,
    PRIMARY KEY (rule_id, seq)
);

-- What an earlier master has left half done.
CREATE INDEX rule_firings_begun ON rule_firings (state, time_ms);
