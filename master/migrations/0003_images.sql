-- The digest of a bundle is that of its OCI image manifest, which is kept in place of the
-- component's digest. Sources are fetched again from the hosts that have them.
DROP TABLE plugin_sources;

CREATE TABLE plugin_sources (
    digest TEXT PRIMARY KEY,
    image BLOB NOT NULL,
    manifest BLOB NOT NULL,
    wit BLOB NOT NULL,
    created_ms BIGINT NOT NULL
);
