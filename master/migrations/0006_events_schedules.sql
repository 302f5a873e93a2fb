-- What happened on the grid, and what runs by the clock.
-- Times are milliseconds since 1970-01-01 UTC.

CREATE TABLE events (
    -- Grows by one with each event. The newest is never forgotten, so no number is used twice.
    seq BIGINT NOT NULL PRIMARY KEY,
    time_ms BIGINT NOT NULL,
    -- Dotted, such as `node.connected`.
    kind TEXT NOT NULL,
    -- The node it happened to, with the name it had.
    node_id TEXT,
    node_name TEXT,
    -- What else it is about, such as the id of a job; may be empty.
    subject TEXT NOT NULL,
    -- More, as a JSON object.
    data TEXT NOT NULL
);

CREATE INDEX events_time ON events (time_ms);

CREATE TABLE schedules (
    id TEXT NOT NULL PRIMARY KEY,
    name TEXT NOT NULL UNIQUE,
    -- JSON: the job that is made each time, as it is asked for over the API.
    job TEXT NOT NULL,
    -- JSON: a cron expression with its time zone or a period, splay, from and until when.
    timing TEXT NOT NULL,
    max_running BIGINT NOT NULL,
    missed TEXT NOT NULL CHECK (missed IN ('skip', 'once', 'all')),
    paused BOOLEAN NOT NULL,
    created_by TEXT NOT NULL,
    created_ms BIGINT NOT NULL,
    -- Times up to here are done with: they ran, or were left out.
    done_ms BIGINT NOT NULL
);

-- The primary key is what makes a run the only one of its time.
CREATE TABLE schedule_runs (
    schedule_id TEXT NOT NULL REFERENCES schedules (id) ON DELETE CASCADE,
    -- The time it was for, which is not quite the time it ran.
    fire_ms BIGINT NOT NULL,
    -- Chosen before the job is made, so that it is made once; none if it was left out.
    job_id TEXT,
    -- `begun`: the job may not have been made yet.
    state TEXT NOT NULL CHECK (state IN ('begun', 'fired', 'skipped', 'failed')),
    problem TEXT,
    -- An operator ran it out of turn.
    manual BOOLEAN NOT NULL,
    time_ms BIGINT NOT NULL,
    PRIMARY KEY (schedule_id, fire_ms)
);
