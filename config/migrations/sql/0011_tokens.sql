-- Tokens and contracts: value that nobody's deposit explains, and accounts that have code
-- (docs/adr/0015). An inflow without an address is a difference of a whole wallet (D47).
ALTER TABLE chain.inflows ALTER COLUMN address_id DROP NOT NULL;
CREATE INDEX inflows_address ON chain.inflows (network, address_id) WHERE address_id IS NOT NULL;

-- Code at an own account (EIP-7702 or otherwise): nothing is swept from it until a person looked.
ALTER TABLE chain.addresses ADD COLUMN code_seen_at timestamptz;

-- A contradiction between what logs claim and what balances show, for people to explain. It moves
-- no money: what arrived is an inflow of the same block, in suspense.
CREATE TABLE chain.searches (
    id uuid PRIMARY KEY,
    network text NOT NULL,
    kind text NOT NULL CHECK (kind IN (
        'short', 'impossible', 'decimals', 'surplus', 'unchecked', 'unexplained', 'shortfall',
        'changed')),
    asset text NOT NULL,
    subject text NOT NULL,                 -- an own address, a custody account, or a deposit's id
    brand text,                            -- whose address it is, NULL for a wallet
    player_id text,
    block_hash text NOT NULL,              -- where it showed
    height bigint NOT NULL,
    claimed numeric NOT NULL CHECK (claimed >= 0 AND claimed <> 'NaN'),
    moved numeric NOT NULL CHECK (moved <> 'NaN'),  -- may be negative
    transfers jsonb NOT NULL DEFAULT '[]', -- [{txid, position, amount}] that were not credited
    state text NOT NULL DEFAULT 'open' CHECK (state IN ('open', 'closed')),
    opened_at timestamptz NOT NULL,
    closed_at timestamptz,
    closed_by text,
    outcome text,                          -- what the person found, in their words
    UNIQUE (network, block_hash, kind, asset, subject),
    CHECK ((state = 'closed') = (num_nulls(closed_at, closed_by, outcome) = 0))
);
CREATE INDEX searches_open ON chain.searches (network, opened_at) WHERE state = 'open';

-- The operator's, like inflows: no call of a brand sees it.
ALTER TABLE chain.searches ENABLE ROW LEVEL SECURITY;
CREATE POLICY all_rows ON chain.searches USING (true);
CREATE POLICY operator_calls ON chain.searches AS RESTRICTIVE TO gateway_api
    USING ((SELECT config.sees_brand('*')));

GRANT SELECT, INSERT, UPDATE ON chain.searches TO watchers;
GRANT SELECT, UPDATE (state, closed_at, closed_by, outcome) ON chain.searches TO gateway_api;
GRANT SELECT ON chain.searches TO gateway_payouts, scheduler;
