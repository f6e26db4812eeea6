-- Merges and splits of the hot wallet's own coins: what a person asks for, and what policy made. A
-- plan's tx is an own move of chain.outgoing, followed and booked as all of them.
CREATE TABLE gateway.consolidations (
    id uuid PRIMARY KEY,
    network text NOT NULL,
    asset text NOT NULL,
    purpose text NOT NULL CHECK (purpose IN ('consolidate', 'fan_out')),
    is_dry boolean NOT NULL,
    state text NOT NULL CHECK (state IN ('asked', 'quoted', 'planned', 'refused')),
    code text,                            -- why it is refused
    version integer NOT NULL DEFAULT 1,
    requested_by text,                    -- NULL: the system, by policy
    fee_max numeric(78, 0) CHECK (fee_max > 0 AND fee_max <> 'NaN'),
    coins integer CHECK (coins > 0),      -- that it spends
    parts integer CHECK (parts > 0),      -- that it makes
    amount numeric(78, 0) CHECK (amount > 0 AND amount <> 'NaN'),   -- of the coins that it spends
    fee numeric(78, 0) CHECK (fee > 0 AND fee <> 'NaN'),
    rate_per_kvb bigint CHECK (rate_per_kvb > 0),
    saves_vb integer CHECK (saves_vb > 0),   -- that later payouts need not carry
    attempt_id uuid UNIQUE,               -- of chain.outgoing
    created_at timestamptz NOT NULL,
    state_at timestamptz NOT NULL,
    CHECK ((state = 'refused') = (code IS NOT NULL)),
    CHECK ((state = 'planned') = (attempt_id IS NOT NULL)),
    CHECK (state <> 'planned' OR NOT is_dry),
    CHECK (state <> 'quoted' OR is_dry),
    CHECK (requested_by IS NOT NULL OR state = 'planned'),
    CHECK (is_dry OR requested_by IS NULL OR fee_max IS NOT NULL),
    CHECK (state NOT IN ('quoted', 'planned')
        OR num_nulls(coins, parts, amount, fee, rate_per_kvb) = 0),
    CHECK (state <> 'planned' OR fee_max IS NULL OR fee <= fee_max)
);
CREATE UNIQUE INDEX consolidations_open ON gateway.consolidations (network)
    WHERE state = 'asked';
CREATE INDEX consolidations_list ON gateway.consolidations (network, id DESC);
CREATE TRIGGER consolidations_history AFTER INSERT OR UPDATE OF state ON gateway.consolidations
    FOR EACH ROW EXECUTE FUNCTION ledger.record_state('consolidation');
CREATE TRIGGER audited AFTER INSERT ON gateway.consolidations
    FOR EACH ROW WHEN (NEW.requested_by IS NOT NULL AND NOT NEW.is_dry)
    EXECUTE FUNCTION gateway.audit_change('consolidation', 'id');

ALTER TABLE gateway.consolidations ENABLE ROW LEVEL SECURITY;
CREATE POLICY all_rows ON gateway.consolidations USING (true);
CREATE POLICY operator_calls ON gateway.consolidations AS RESTRICTIVE TO gateway_api
    USING ((SELECT config.sees_brand('*')));
-- People ask; payouts looks, and makes what fits. Neither does the other's part.
CREATE POLICY asked_only ON gateway.consolidations AS RESTRICTIVE FOR INSERT TO gateway_api
    WITH CHECK (state = 'asked');
CREATE POLICY made_only ON gateway.consolidations AS RESTRICTIVE FOR INSERT TO gateway_payouts
    WITH CHECK (requested_by IS NULL);
GRANT SELECT, INSERT ON gateway.consolidations TO gateway_api, gateway_payouts;
GRANT UPDATE (state, state_at, version, code, coins, parts, amount, fee, rate_per_kvb, saves_vb,
    attempt_id) ON gateway.consolidations TO gateway_payouts;
