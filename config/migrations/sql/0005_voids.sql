-- What the signer must be told never to pay: one row per withdrawal that ended before anything was
-- signed (rejected, cancelled, declined, expired), written in the unit of work that ended it.
-- Payouts deliver it at least once (S25, docs/adr/0010).
CREATE TABLE gateway.voids (
    withdrawal_id uuid PRIMARY KEY REFERENCES gateway.withdrawals (id),
    brand text NOT NULL,
    request_id text NOT NULL,
    -- The client's signed cancel exactly as received; all null where no client signed one.
    method text,
    authority text,
    path text,
    query text,
    headers jsonb,
    body bytea,
    signature_input text,
    signature text,
    state text NOT NULL DEFAULT 'pending' CHECK (state IN ('pending', 'delivered', 'moot')),
    attempts integer NOT NULL DEFAULT 0,
    next_attempt_at timestamptz NOT NULL,
    code text,                 -- of the signer's last refusal
    created_at timestamptz NOT NULL,
    done_at timestamptz,
    CHECK (num_nonnulls(method, authority, path, query, headers, body, signature_input, signature)
        IN (0, 8)),
    CHECK ((state = 'pending') = (done_at IS NULL))
) WITH (fillfactor = 80);
CREATE INDEX voids_due ON gateway.voids (next_attempt_at, withdrawal_id) WHERE state = 'pending';

ALTER TABLE gateway.voids ENABLE ROW LEVEL SECURITY;
CREATE POLICY brand_rows ON gateway.voids USING (config.sees_brand(brand))
    WITH CHECK (config.sees_brand(brand));

GRANT SELECT, INSERT ON gateway.voids TO gateway_api, gateway_payouts;
GRANT UPDATE (method, authority, path, query, headers, body, signature_input, signature)
    ON gateway.voids TO gateway_api;
GRANT UPDATE (state, attempts, next_attempt_at, code, done_at) ON gateway.voids TO gateway_payouts;

-- What ended before this version: no signature of a client lives longer than 31 days.
INSERT INTO gateway.voids (withdrawal_id, brand, request_id, next_attempt_at, created_at)
    SELECT id, brand, request_id, now(), now() FROM gateway.withdrawals
    WHERE state IN ('rejected', 'cancelled', 'declined', 'expired') AND txid IS NULL
        AND accepted_at > now() - interval '31 days';
