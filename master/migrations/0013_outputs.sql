-- What operations have written on their way, for whoever watches.

CREATE TABLE job_outputs (
    job_id TEXT NOT NULL,
    position BIGINT NOT NULL,
    -- Of the attempt whose output it is; empty while none of it has come.
    request_id TEXT NOT NULL,
    -- It has come up to here.
    bytes BIGINT NOT NULL,
    -- How much there was, once the result says so.
    told BIGINT,
    -- What had come was forgotten, to make room.
    forgotten BOOLEAN NOT NULL,
    PRIMARY KEY (job_id, position),
    FOREIGN KEY (job_id, position) REFERENCES job_nodes (job_id, position) ON DELETE CASCADE
);

CREATE TABLE job_output_pieces (
    job_id TEXT NOT NULL,
    position BIGINT NOT NULL,
    -- Where it begins in the whole.
    start_byte BIGINT NOT NULL,
    data BLOB NOT NULL,
    PRIMARY KEY (job_id, position, start_byte),
    FOREIGN KEY (job_id, position) REFERENCES job_outputs (job_id, position) ON DELETE CASCADE
);
