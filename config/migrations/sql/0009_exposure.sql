-- Credit policy: reference rates, what stands unfinal against the caps, versions of tiers and caps,
-- players' flags (docs/adr/0014). Written by `watchers` functions only, whichever process calls.

-- Currency units per one whole unit of the asset, exact. The newest `as_of` counts; nothing is
-- changed or deleted.
CREATE TABLE chain.reference_rates (
    id uuid PRIMARY KEY,
    asset text NOT NULL,
    currency text NOT NULL CHECK (currency ~ '^[A-Z]{3,8}$'),
    rate numeric(38, 18) NOT NULL CHECK (rate > 0 AND rate <> 'NaN'),
    source text NOT NULL CHECK (source = 'staff' OR source ~ '^source:[a-z0-9.-]{1,128}$'),
    as_of timestamptz NOT NULL,
    entered_by text NOT NULL,
    approved_by text CHECK (approved_by <> entered_by),
    entered_at timestamptz NOT NULL,
    CHECK (as_of <= entered_at)
);
CREATE UNIQUE INDEX reference_rates_newest ON chain.reference_rates (asset, currency, as_of DESC);
CREATE TRIGGER append_only BEFORE UPDATE OR DELETE ON chain.reference_rates
    FOR EACH ROW EXECUTE FUNCTION ledger.refuse_change();

-- One row per deposit that counts now: provisional, or orphaned after it was provisional or final.
-- `value` is in minor units of the currency at the rate of that moment, rounded up; NULL: no fresh
-- rate was known, and every cap that it touches is full until it is gone.
CREATE TABLE chain.exposures (
    deposit_id uuid PRIMARY KEY,
    network text NOT NULL,
    brand text NOT NULL,
    player_id text NOT NULL,
    asset text NOT NULL,
    currency text NOT NULL,
    value numeric(78, 0) CHECK (value >= 0 AND value <> 'NaN'),
    rate_id uuid REFERENCES chain.reference_rates (id),
    counted_at timestamptz NOT NULL,
    CHECK ((value IS NULL) = (rate_id IS NULL))
);

-- One row per scope, locked in the unit of work of the credit: the sums of chain.exposures.
-- `subject` is the player, the asset, or empty for the brand.
CREATE TABLE chain.exposure_usage (
    scope text NOT NULL CHECK (scope IN ('player', 'asset', 'brand')),
    brand text NOT NULL,
    subject text NOT NULL CHECK ((scope = 'brand') = (subject = '')),
    currency text NOT NULL,
    value numeric(78, 0) NOT NULL DEFAULT 0 CHECK (value >= 0 AND value <> 'NaN'),
    unvalued bigint NOT NULL DEFAULT 0 CHECK (unvalued >= 0),
    deposits bigint NOT NULL DEFAULT 0 CHECK (deposits >= unvalued),
    PRIMARY KEY (scope, brand, subject),
    CHECK (deposits > unvalued OR value = 0)
) WITH (fillfactor = 70);

-- Versions of tiers and caps. Version 0 is the configuration.
CREATE TABLE chain.credit_policies (
    version integer PRIMARY KEY CHECK (version >= 1),
    content jsonb NOT NULL,
    proposed_by text NOT NULL,
    approved_by text NOT NULL CHECK (approved_by <> proposed_by),
    created_at timestamptz NOT NULL
);
CREATE TRIGGER append_only BEFORE UPDATE OR DELETE ON chain.credit_policies
    FOR EACH ROW EXECUTE FUNCTION ledger.refuse_change();

-- What the casino says of a player. History by trigger, for ever.
CREATE TABLE chain.player_flags (
    brand text NOT NULL,
    player_id text NOT NULL CHECK (length(player_id) BETWEEN 1 AND 128),
    kyc_level text CHECK (length(kyc_level) BETWEEN 1 AND 64),
    player_group text CHECK (length(player_group) BETWEEN 1 AND 64),
    country text CHECK (country ~ '^[A-Z]{2}$'),
    blocked_reasons text[] NOT NULL DEFAULT '{}' CHECK (cardinality(blocked_reasons) <= 16),
    version integer NOT NULL DEFAULT 1,
    changed_by text NOT NULL,
    changed_at timestamptz NOT NULL,
    PRIMARY KEY (brand, player_id)
);
CREATE TABLE chain.player_flags_history (LIKE chain.player_flags);
ALTER TABLE chain.player_flags_history ADD PRIMARY KEY (brand, player_id, version);
CREATE FUNCTION chain.record_player_flags() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog AS $$
BEGIN
    INSERT INTO chain.player_flags_history (brand, player_id, kyc_level, player_group, country,
                                            blocked_reasons, version, changed_by, changed_at)
        VALUES (NEW.brand, NEW.player_id, NEW.kyc_level, NEW.player_group, NEW.country,
                NEW.blocked_reasons, NEW.version, NEW.changed_by, NEW.changed_at);
    RETURN NULL;
END
$$;
CREATE TRIGGER player_flags_history AFTER INSERT OR UPDATE ON chain.player_flags
    FOR EACH ROW EXECUTE FUNCTION chain.record_player_flags();
CREATE TRIGGER append_only BEFORE UPDATE OR DELETE ON chain.player_flags_history
    FOR EACH ROW EXECUTE FUNCTION ledger.refuse_change();

-- The version that a deposit was judged by, and what its tx pays per size (sat per kvB; wei per
-- gas) where the mempool showed it.
ALTER TABLE chain.deposits
    ADD COLUMN policy_version integer NOT NULL DEFAULT 0 CHECK (policy_version >= 0),
    ADD COLUMN fee_rate numeric(78, 0) CHECK (fee_rate >= 0);
CREATE INDEX deposits_capped ON chain.deposits (network, first_seen_at, id)
    WHERE state = 'pending' AND substatus = 'exposure_cap';

-- What counts already has no known value: caps that are set soon after this are full until it ends.
INSERT INTO chain.exposures (deposit_id, network, brand, player_id, asset, currency, counted_at)
    SELECT id, network, brand, player_id, asset, 'USD', state_at FROM chain.deposits
    WHERE state = 'provisional'
        OR (state = 'orphaned' AND prior_state IN ('provisional', 'final'));
INSERT INTO chain.exposure_usage (scope, brand, subject, currency, unvalued, deposits)
    SELECT s.scope, e.brand, s.subject, 'USD', count(*), count(*)
    FROM chain.exposures e CROSS JOIN LATERAL
        (VALUES ('player', e.player_id), ('asset', e.asset), ('brand', '')) AS s (scope, subject)
    GROUP BY s.scope, e.brand, s.subject;

ALTER TABLE chain.player_flags ENABLE ROW LEVEL SECURITY;
CREATE POLICY brand_rows ON chain.player_flags
    USING (config.sees_brand(brand)) WITH CHECK (config.sees_brand(brand));
ALTER TABLE chain.player_flags_history ENABLE ROW LEVEL SECURITY;
CREATE POLICY brand_rows ON chain.player_flags_history USING (config.sees_brand(brand));
ALTER TABLE chain.exposure_usage ENABLE ROW LEVEL SECURITY;
CREATE POLICY brand_rows ON chain.exposure_usage
    USING (config.sees_brand(brand)) WITH CHECK (config.sees_brand(brand));
-- The process that reads a source may say nothing in the name of a person.
ALTER TABLE chain.reference_rates ENABLE ROW LEVEL SECURITY;
CREATE POLICY all_rows ON chain.reference_rates USING (true);
CREATE POLICY sources_only ON chain.reference_rates AS RESTRICTIVE FOR INSERT TO gateway_webhooks
    WITH CHECK (source <> 'staff' AND entered_by = source AND approved_by IS NULL);

GRANT SELECT ON chain.reference_rates, chain.credit_policies, chain.player_flags TO watchers;
GRANT SELECT, INSERT, DELETE ON chain.exposures TO watchers;
GRANT SELECT, INSERT, UPDATE ON chain.exposure_usage TO watchers;
GRANT SELECT, INSERT ON chain.reference_rates TO gateway_api, gateway_webhooks;
GRANT SELECT, INSERT ON chain.credit_policies TO gateway_api;
GRANT SELECT, INSERT, UPDATE ON chain.player_flags TO gateway_api;
GRANT SELECT ON chain.player_flags_history, chain.exposure_usage TO gateway_api;
GRANT SELECT ON chain.player_flags, chain.credit_policies, chain.reference_rates TO gateway_payouts;

-- Policies and steep rates are decided by two people, too.
ALTER TABLE gateway.approvals DROP CONSTRAINT approvals_kind_check,
    ADD CONSTRAINT approvals_kind_check CHECK (kind IN ('switch', 'policy', 'rate'));
