-- The signer's statements about handed-out addresses (FEATURES N20): one row per address, written
-- in the unit of work that hands it out, answered later by payouts. Nobody waits for it.
CREATE TABLE gateway.attestations (
    address_id uuid PRIMARY KEY,           -- chain.addresses
    network text NOT NULL,
    brand text NOT NULL,
    state text NOT NULL DEFAULT 'pending' CHECK (state IN ('pending', 'attested', 'refused')),
    statement text,                        -- the canonical text `cage-address/1`
    signature text,                        -- base64, Ed25519 over its UTF-8 bytes
    key_id text,
    attempts integer NOT NULL DEFAULT 0,   -- refusals
    next_attempt_at timestamptz NOT NULL,
    code text,                             -- of the last refusal
    created_at timestamptz NOT NULL,
    done_at timestamptz,
    CHECK ((state = 'pending') = (done_at IS NULL)),
    CHECK (num_nonnulls(statement, signature, key_id)
        = CASE WHEN state = 'attested' THEN 3 ELSE 0 END)
) WITH (fillfactor = 80);
CREATE INDEX attestations_due ON gateway.attestations (network, next_attempt_at, address_id)
    WHERE state = 'pending';
CREATE INDEX attestations_refused ON gateway.attestations (network)
    WHERE state = 'pending' AND attempts > 0;

ALTER TABLE gateway.attestations ENABLE ROW LEVEL SECURITY;
CREATE POLICY brand_rows ON gateway.attestations USING (config.sees_brand(brand))
    WITH CHECK (config.sees_brand(brand));

GRANT SELECT, INSERT ON gateway.attestations TO gateway_api;
GRANT SELECT, UPDATE (state, statement, signature, key_id, attempts, next_attempt_at, code,
    done_at) ON gateway.attestations TO gateway_payouts;
-- An address that the signer does not stand by is taken out of hand-out; it stays watched.
GRANT UPDATE (retired_at) ON chain.addresses TO gateway_payouts;

-- What was handed out before this version.
INSERT INTO gateway.attestations (address_id, network, brand, next_attempt_at, created_at)
    SELECT id, network, brand, now(), now() FROM chain.addresses WHERE player_id IS NOT NULL;
