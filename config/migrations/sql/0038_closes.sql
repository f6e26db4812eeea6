-- The journal of one UTC day, closed once and bound to the day before. Written by `gateway` only.
CREATE TABLE gateway.day_closes (
    day date PRIMARY KEY,
    report text NOT NULL,                  -- canonical JSON, the bytes that were hashed
    sha256 text NOT NULL CHECK (sha256 ~ '^[0-9a-f]{64}$'),
    previous_sha256 text NOT NULL UNIQUE CHECK (previous_sha256 ~ '^[0-9a-f]{64}$'),
    closed_by text NOT NULL,               -- a key id, or the scheduler
    closed_at timestamptz NOT NULL
);
CREATE TRIGGER append_only BEFORE UPDATE OR DELETE ON gateway.day_closes
    FOR EACH ROW EXECUTE FUNCTION ledger.refuse_change();
CREATE TRIGGER never_truncated BEFORE TRUNCATE ON gateway.day_closes
    FOR EACH STATEMENT EXECUTE FUNCTION ledger.refuse_change();
ALTER TABLE gateway.day_closes ENABLE ROW LEVEL SECURITY;
CREATE POLICY operator_rows ON gateway.day_closes USING ((SELECT config.sees_brand('*')));
GRANT SELECT, INSERT ON gateway.day_closes TO gateway_api, scheduler;

-- What the signer would not sign, for the breaker that counts it.
CREATE TABLE gateway.signer_refusals (
    attempt_id uuid NOT NULL,
    network text NOT NULL,
    code text NOT NULL,
    at timestamptz NOT NULL,
    PRIMARY KEY (attempt_id, at)
);
CREATE INDEX signer_refusals_newest ON gateway.signer_refusals (network, at DESC);
GRANT SELECT, INSERT ON gateway.signer_refusals TO gateway_payouts;
GRANT SELECT ON gateway.signer_refusals TO gateway_api, scheduler;

-- The scheduler checks the books with themselves, and may stop, no more than that.
CREATE POLICY stop_only_scheduler ON chain.switches AS RESTRICTIVE TO scheduler
    USING (true) WITH CHECK (state = 'stopped');
GRANT INSERT, UPDATE (state, reason, causes, changed_by, approved_by, version, stopped_at,
    changed_at) ON chain.switches TO scheduler;
