-- Stored secrets, encrypted with a key that is not in the database.
-- Times are milliseconds since 1970-01-01 UTC.

CREATE TABLE secrets (
    name TEXT NOT NULL PRIMARY KEY,
    -- Another one each time the value is set, also after a removal: what jobs refer to.
    id TEXT NOT NULL,
    -- Counts how often it was set.
    version BIGINT NOT NULL,
    -- Which key: the beginning of its hash.
    key_id TEXT NOT NULL,
    -- Nonce and ciphertext, bound to name, id and version.
    sealed BLOB NOT NULL,
    created_by TEXT NOT NULL,
    created_ms BIGINT NOT NULL,
    changed_by TEXT NOT NULL,
    changed_ms BIGINT NOT NULL
);

-- JSON: the ids of the secrets that the arguments name, by name.
ALTER TABLE jobs ADD COLUMN secrets TEXT;
