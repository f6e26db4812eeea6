-- Proof of each deposit (D13): raw headers of the blocks that carry deposits and inflows and of
-- those that follow them up to the full tier, and per tx its inclusion. Public chain data: no
-- brand owns a row, the API reads it through a deposit that its caller may see.
CREATE TABLE chain.headers (
    network text NOT NULL,
    hash text NOT NULL,
    raw bytea NOT NULL,                    -- as it hashes: 80 bytes, or RLP (EVM)
    PRIMARY KEY (network, hash)
);

-- One row per tx, of the block that it was last seen in. `unproven` says why the other columns are
-- empty: the block has a shape that this version does not know.
CREATE TABLE chain.evidence (
    network text NOT NULL,
    txid text NOT NULL,
    block_hash text NOT NULL,
    height bigint NOT NULL,
    until_height bigint NOT NULL,          -- headers are kept up to here
    tx_index integer CHECK (tx_index >= 0),
    raw_tx bytea,
    branch bytea[],                        -- UTXO: siblings from the leaf up; EVM: trie nodes
    companion bytea,                       -- UTXO: the coinbase; EVM: the receipt
    companion_branch bytea[],
    unproven text,
    stored_at timestamptz NOT NULL,
    PRIMARY KEY (network, txid),
    CHECK (num_nonnulls(tx_index, raw_tx, branch, companion, companion_branch)
        = CASE WHEN unproven IS NULL THEN 5 ELSE 0 END)
) WITH (fillfactor = 90);
CREATE INDEX evidence_until ON chain.evidence (network, until_height);

GRANT SELECT, INSERT, UPDATE ON chain.headers, chain.evidence TO watchers;
GRANT SELECT ON chain.headers, chain.evidence TO gateway_api;
