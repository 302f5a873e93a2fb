-- Which master leads. One row, whose id is 1.
CREATE TABLE leader (
    id BIGINT NOT NULL PRIMARY KEY,
    -- Grows whenever another master takes the lead.
    epoch BIGINT NOT NULL,
    -- Id of the master; empty when it gave the lead up.
    master TEXT NOT NULL,
    -- Where it listens for other masters; empty if there are none.
    address TEXT NOT NULL,
    -- Fingerprint of its authority.
    authority TEXT NOT NULL,
    -- Counts its renewals.
    beats BIGINT NOT NULL,
    -- So that a writer can hold on to the epoch and not to the beats.
    UNIQUE (id, epoch)
);
