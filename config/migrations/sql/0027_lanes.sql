-- What each account of the operator holds on account chains (hot lanes, the batch contract, gas), by
-- the evidence of the blocks: moved in the unit of work of the block, taken back with it. The books
-- keep one custody account per wallet; this only says which lane can pay. A move is written once per
-- block, account and asset, so that a block that is looked at again moves nothing twice.
CREATE TABLE chain.account_moves (
    network text NOT NULL,
    block_hash text NOT NULL,
    key text NOT NULL,
    asset text NOT NULL,
    delta numeric(78, 0) NOT NULL CHECK (delta <> 'NaN'),
    PRIMARY KEY (network, block_hash, key, asset)
);
CREATE TABLE chain.account_balances (
    network text NOT NULL,
    key text NOT NULL,
    asset text NOT NULL,
    amount numeric(78, 0) NOT NULL CHECK (amount <> 'NaN'),
    PRIMARY KEY (network, key, asset)
) WITH (fillfactor = 70);

-- The batch contract that pays an attempt's payments, one leg each; NULL: the sender pays itself.
ALTER TABLE chain.outgoing ADD COLUMN payer_key text CHECK (payer_key IS NULL OR sender_key IS NOT NULL);

GRANT SELECT, INSERT, DELETE ON chain.account_moves TO watchers;
GRANT SELECT, INSERT, UPDATE ON chain.account_balances TO watchers;
GRANT SELECT ON chain.account_balances TO gateway_payouts;
