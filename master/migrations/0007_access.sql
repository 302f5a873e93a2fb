-- Users and roles. Tokens may belong to a user, and then have the user's role.
-- Times are milliseconds since 1970-01-01 UTC.

CREATE TABLE roles (
    name TEXT NOT NULL PRIMARY KEY,
    -- JSON: a list of rules.
    rules TEXT NOT NULL,
    created_ms BIGINT NOT NULL
);

CREATE TABLE users (
    id TEXT NOT NULL PRIMARY KEY,
    name TEXT NOT NULL UNIQUE,
    -- Of `roles`, or one that is always there.
    role TEXT NOT NULL,
    disabled BOOLEAN NOT NULL,
    created_ms BIGINT NOT NULL
);

-- Anew, because the old one takes no other roles than three.
CREATE TABLE tokens_with_users (
    id TEXT NOT NULL PRIMARY KEY,
    -- SHA-256 of the secret; the secret itself is nowhere.
    hash TEXT NOT NULL UNIQUE,
    name TEXT NOT NULL,
    -- None where there is a user.
    role TEXT,
    user_id TEXT REFERENCES users (id) ON DELETE CASCADE,
    created_ms BIGINT NOT NULL,
    expires_ms BIGINT,
    last_used_ms BIGINT,
    CHECK ((role IS NULL) <> (user_id IS NULL))
);

INSERT INTO tokens_with_users (id, hash, name, role, created_ms, expires_ms, last_used_ms)
SELECT id, hash, name, role, created_ms, expires_ms, last_used_ms FROM tokens;

DROP TABLE tokens;

ALTER TABLE tokens_with_users RENAME TO tokens;

CREATE INDEX tokens_user ON tokens (user_id);
