-- The daily search of a node's unspent outputs for coins that no block showed us (docs/adr/0044).
-- Written by `watchers` only.
CREATE TABLE chain.coin_searches (
    network text PRIMARY KEY,
    number bigint NOT NULL,                -- of chain.addresses: the last one that was looked for
    began_at timestamptz NOT NULL,
    ended_at timestamptz,
    rounds bigint NOT NULL DEFAULT 0
);
CREATE TABLE chain.missed_coins (
    network text NOT NULL,
    txid text NOT NULL,
    vout integer NOT NULL CHECK (vout >= 0),
    amount numeric(78, 0) NOT NULL CHECK (amount >= 0 AND amount <> 'NaN'),
    address_id uuid NOT NULL REFERENCES chain.addresses (id),
    height bigint NOT NULL CHECK (height >= 0),
    found_at timestamptz NOT NULL,
    rescan_id uuid REFERENCES chain.rescans (id),
    PRIMARY KEY (network, txid, vout)
);
CREATE INDEX missed_coins_address ON chain.missed_coins (address_id);
GRANT SELECT, INSERT, UPDATE ON chain.coin_searches TO watchers;
GRANT SELECT, INSERT, DELETE, UPDATE (rescan_id) ON chain.missed_coins TO watchers;
-- A finding has its block looked at again without a person; what comes of it is a rescan like others.
GRANT INSERT (id, network, from_height, to_height, next_height, asked_by, reason, created_at)
    ON chain.rescans TO watchers;
