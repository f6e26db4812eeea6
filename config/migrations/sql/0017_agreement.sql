-- Who gave a block: told in proofs, and the reason to ask another node again before it is final.
ALTER TABLE chain.evidence
    ADD COLUMN agreed_nodes integer,       -- NULL: recorded before this version, or by one reader
    ADD COLUMN total_nodes integer,
    ADD CHECK ((agreed_nodes IS NULL) = (total_nodes IS NULL)),
    ADD CHECK (agreed_nodes BETWEEN 1 AND total_nodes);

-- Blocks that another node has yet to be asked for (N04). A row is done when it is gone; what
-- differs stays for people. `digest` is of what the block pays to us, as it was given.
CREATE TABLE chain.second_looks (
    network text NOT NULL,
    block_hash text NOT NULL,
    height bigint NOT NULL,
    due_at_height bigint NOT NULL,         -- one block before the first tier that makes it final
    given_by text[] NOT NULL,              -- labels of nodes
    digest text NOT NULL,
    payments integer NOT NULL CHECK (payments >= 0),
    state text NOT NULL DEFAULT 'waiting' CHECK (state IN ('waiting', 'differs')),
    connected_at timestamptz NOT NULL,
    next_look_at timestamptz NOT NULL,
    PRIMARY KEY (network, block_hash)
);
CREATE INDEX second_looks_due ON chain.second_looks (network, due_at_height)
    WHERE state = 'waiting';
GRANT SELECT, INSERT, UPDATE, DELETE ON chain.second_looks TO watchers;
GRANT SELECT ON chain.second_looks TO gateway_api;

-- Where the slow scan of balances of addresses that never received anything stands.
CREATE TABLE chain.balance_scans (
    network text PRIMARY KEY,
    number bigint NOT NULL,                -- of chain.addresses: the last one that was looked at
    rounds bigint NOT NULL DEFAULT 0,      -- how often all of them were
    scanned_at timestamptz NOT NULL
);
GRANT SELECT, INSERT, UPDATE ON chain.balance_scans TO watchers;
GRANT SELECT ON chain.balance_scans TO gateway_api;

-- Addresses that the scan found to hold something that no deposit or inflow names: their balance
-- counts in every comparison from then on.
CREATE TABLE chain.scan_finds (
    network text NOT NULL,
    address_id uuid NOT NULL REFERENCES chain.addresses (id),
    found_at timestamptz NOT NULL,
    PRIMARY KEY (network, address_id)
);
GRANT SELECT, INSERT ON chain.scan_finds TO watchers;
GRANT SELECT ON chain.scan_finds TO gateway_api;
CREATE INDEX deposits_address ON chain.deposits (network, address_id);
