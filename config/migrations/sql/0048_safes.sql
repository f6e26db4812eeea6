-- Cold to hot from a Safe: what its owners sign, before any transaction of ours exists (docs/adr/0040).
CREATE TABLE gateway.safe_plans (
    id uuid PRIMARY KEY,               -- what gateway.rebalance_signatures calls its attempt
    rebalance_id uuid NOT NULL REFERENCES gateway.rebalances (id),
    network text NOT NULL,
    safe_key text NOT NULL,
    nonce bigint NOT NULL CHECK (nonce >= 0),      -- of the Safe
    typed bytea NOT NULL,              -- typed data (EIP-712), as the owners get it
    owners text[] NOT NULL,            -- of the Safe when it was made: at this nonce they are the same
    threshold integer NOT NULL CHECK (threshold BETWEEN 1 AND cardinality(owners)),
    created_at timestamptz NOT NULL,
    dropped_at timestamptz             -- its number is free for another one
);
-- A number of a Safe is one plan's.
CREATE UNIQUE INDEX safe_plans_nonce ON gateway.safe_plans (network, safe_key, nonce)
    WHERE dropped_at IS NULL;
CREATE UNIQUE INDEX safe_plans_rebalance ON gateway.safe_plans (rebalance_id)
    WHERE dropped_at IS NULL;
GRANT SELECT ON gateway.safe_plans TO gateway_api;
GRANT SELECT, INSERT, UPDATE (dropped_at) ON gateway.safe_plans TO gateway_payouts;
