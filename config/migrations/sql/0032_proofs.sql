-- Proofs of reserves (FEATURES L9, N8): what is owed as a tree that adds up, what is held by address,
-- one signed statement over both.

ALTER TABLE chain.probes DROP CONSTRAINT probes_kind_check,
    ADD CONSTRAINT probes_kind_check CHECK (kind IN ('holdings', 'tx', 'reserves'));

-- What a casino says its players have, with the very bytes that it signed.
CREATE TABLE gateway.balance_reports (
    id uuid PRIMARY KEY,
    brand text NOT NULL,
    key_id text NOT NULL,
    as_of timestamptz NOT NULL,
    items integer NOT NULL CHECK (items > 0),
    method text NOT NULL,
    authority text NOT NULL,
    path text NOT NULL,
    query text NOT NULL,
    headers jsonb NOT NULL,
    body bytea NOT NULL,
    signature_input text NOT NULL,
    signature text NOT NULL,
    created_at timestamptz NOT NULL
);
CREATE TRIGGER append_only BEFORE UPDATE OR DELETE ON gateway.balance_reports
    FOR EACH ROW EXECUTE FUNCTION ledger.refuse_change();
CREATE TABLE gateway.player_balances (
    brand text NOT NULL,
    player_id text NOT NULL CHECK (length(player_id) BETWEEN 1 AND 128),
    asset text NOT NULL,
    amount numeric(78, 0) NOT NULL CHECK (amount >= 0 AND amount <> 'NaN'),
    as_of timestamptz NOT NULL,
    report_id uuid NOT NULL REFERENCES gateway.balance_reports (id),
    PRIMARY KEY (brand, player_id, asset)
);

CREATE TABLE gateway.proofs (
    id uuid PRIMARY KEY,
    state text NOT NULL CHECK (state IN ('asked', 'assembled', 'done', 'failed')),
    version integer NOT NULL DEFAULT 1,
    probes jsonb NOT NULL,                 -- network -> id of its question in chain.probes
    requested_by text NOT NULL,
    statement text,                        -- what is signed, byte for byte
    key_id text,
    public_key bytea,
    signature bytea,
    reason text,                           -- why it failed
    next_attempt_at timestamptz NOT NULL,
    attempts integer NOT NULL DEFAULT 0,
    created_at timestamptz NOT NULL,
    state_at timestamptz NOT NULL,
    CHECK ((state IN ('assembled', 'done')) = (statement IS NOT NULL)),
    CHECK ((state = 'done') = (signature IS NOT NULL AND key_id IS NOT NULL
        AND public_key IS NOT NULL)),
    CHECK ((state = 'failed') = (reason IS NOT NULL))
);
CREATE INDEX proofs_open ON gateway.proofs (next_attempt_at) WHERE state IN ('asked', 'assembled');
CREATE TRIGGER proofs_history AFTER INSERT OR UPDATE OF state ON gateway.proofs
    FOR EACH ROW EXECUTE FUNCTION ledger.record_state('proof');

-- The parts that the statement commits to, as the text that is hashed: no owner's name stands in it.
CREATE TABLE gateway.proof_parts (
    proof_id uuid NOT NULL REFERENCES gateway.proofs (id),
    kind text NOT NULL CHECK (kind IN ('liabilities', 'holdings')),
    subject text NOT NULL,                 -- an asset, or a network
    content text NOT NULL,
    PRIMARY KEY (proof_id, kind, subject)
);
-- Whose leaf is which: each brand sees its own.
CREATE TABLE gateway.proof_leaves (
    proof_id uuid NOT NULL REFERENCES gateway.proofs (id),
    asset text NOT NULL,
    place integer NOT NULL CHECK (place >= 0),
    kind text NOT NULL CHECK (kind IN ('player', 'brand', 'house')),
    brand text NOT NULL,                   -- '*': the house's own
    player_id text NOT NULL,               -- empty: the brand's or the house's own
    amount numeric(78, 0) NOT NULL CHECK (amount > 0 AND amount <> 'NaN'),
    salt bytea NOT NULL CHECK (length(salt) = 32),
    PRIMARY KEY (proof_id, asset, place),
    UNIQUE (proof_id, brand, player_id, asset, kind)
);
-- That we hold the key of each address: its own signature over the statement.
CREATE TABLE gateway.proof_addresses (
    proof_id uuid NOT NULL REFERENCES gateway.proofs (id),
    network text NOT NULL,
    address text NOT NULL,
    path text,                             -- NULL: no key of the signer's
    signature text,
    code text,                             -- why there is none
    PRIMARY KEY (proof_id, network, address),
    CHECK (signature IS NULL OR code IS NULL)
);
CREATE INDEX proof_addresses_unsigned ON gateway.proof_addresses (proof_id, network, address)
    WHERE signature IS NULL AND code IS NULL;

DO $$
DECLARE
    name text;
BEGIN
    FOREACH name IN ARRAY ARRAY['balance_reports', 'player_balances', 'proof_leaves'] LOOP
        EXECUTE format('ALTER TABLE gateway.%I ENABLE ROW LEVEL SECURITY', name);
        EXECUTE format(
            'CREATE POLICY brand_rows ON gateway.%I USING (config.sees_brand(brand)) '
            'WITH CHECK (config.sees_brand(brand))', name);
    END LOOP;
    -- Addresses and holdings are the operator's until it publishes them.
    EXECUTE 'ALTER TABLE gateway.proof_addresses ENABLE ROW LEVEL SECURITY';
    EXECUTE 'CREATE POLICY operator_rows ON gateway.proof_addresses '
        'USING ((SELECT config.sees_brand(''*'')))';
    EXECUTE 'ALTER TABLE gateway.proof_parts ENABLE ROW LEVEL SECURITY';
    EXECUTE 'CREATE POLICY shown_rows ON gateway.proof_parts '
        'USING (kind = ''liabilities'' OR (SELECT config.sees_brand(''*'')))';
END
$$;

GRANT SELECT, INSERT ON gateway.balance_reports, gateway.proofs TO gateway_api;
GRANT SELECT, INSERT, UPDATE ON gateway.player_balances TO gateway_api;
GRANT SELECT ON gateway.proof_parts, gateway.proof_leaves, gateway.proof_addresses TO gateway_api;
GRANT SELECT ON gateway.balance_reports, gateway.player_balances TO gateway_payouts;
GRANT SELECT, INSERT ON gateway.proof_parts, gateway.proof_leaves TO gateway_payouts;
GRANT SELECT, UPDATE ON gateway.proofs TO gateway_payouts;
GRANT SELECT, INSERT, UPDATE ON gateway.proof_addresses TO gateway_payouts;

-- A log of deliveries in the order of their events, and what may be done to them by hand.
CREATE INDEX deliveries_endpoint ON gateway.deliveries (endpoint_id, id);
CREATE INDEX deliveries_event ON gateway.deliveries (event_id);
GRANT INSERT ON gateway.deliveries TO gateway_api;
GRANT UPDATE (state, attempts, first_attempt_at, next_attempt_at, is_oldest, last_status, last_error,
    delivered_at) ON gateway.deliveries TO gateway_api;
