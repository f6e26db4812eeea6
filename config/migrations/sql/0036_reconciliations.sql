-- Every comparison of the books with a chain, kept. Written by `watchers` only.
CREATE TABLE chain.reconciliation_runs (
    id uuid PRIMARY KEY,
    network text NOT NULL,
    trigger text NOT NULL CHECK (trigger IN ('cycle', 'request')),
    state text NOT NULL CHECK (state IN ('clean', 'breaks', 'failed')),
    height bigint,
    block_hash text,
    error text,                            -- of a failed one, redacted
    breaks jsonb NOT NULL,                 -- as this run saw them: kind, subject, amount, details
    started_at timestamptz NOT NULL,
    finished_at timestamptz NOT NULL,
    number bigint GENERATED ALWAYS AS IDENTITY,        -- the order in which they were kept
    CHECK ((state = 'failed') = (error IS NOT NULL)),
    CHECK ((state = 'failed') = (block_hash IS NULL)),
    CHECK ((block_hash IS NULL) = (height IS NULL)),
    CHECK ((state = 'breaks') = (jsonb_array_length(breaks) > 0))
);
-- Two watchers of one network: one cycle of a block counts.
CREATE UNIQUE INDEX reconciliation_runs_cycle ON chain.reconciliation_runs (network, block_hash)
    WHERE trigger = 'cycle' AND block_hash IS NOT NULL;
CREATE INDEX reconciliation_runs_newest ON chain.reconciliation_runs (network, number DESC);
CREATE INDEX reconciliation_runs_height ON chain.reconciliation_runs (network, height DESC)
    WHERE height IS NOT NULL;

-- What each wallet held of each asset: chain = books + unposted - unsettled + difference.
CREATE TABLE chain.reconciliation_wallets (
    run_id uuid NOT NULL REFERENCES chain.reconciliation_runs (id),
    account text NOT NULL,
    chain numeric(78, 0) NOT NULL,
    books numeric(78, 0) NOT NULL,
    unposted numeric(78, 0) NOT NULL,
    unsettled numeric(78, 0) NOT NULL,
    difference numeric(78, 0) NOT NULL
        CHECK (difference = chain - books - unposted + unsettled),
    PRIMARY KEY (run_id, account)
);
CREATE INDEX reconciliation_wallets_broken ON chain.reconciliation_wallets (run_id)
    WHERE difference <> 0;

CREATE TRIGGER append_only BEFORE UPDATE OR DELETE ON chain.reconciliation_runs
    FOR EACH ROW EXECUTE FUNCTION chain.refuse_change();
CREATE TRIGGER append_only BEFORE UPDATE OR DELETE ON chain.reconciliation_wallets
    FOR EACH ROW EXECUTE FUNCTION chain.refuse_change();
CREATE TRIGGER never_truncated BEFORE TRUNCATE ON chain.reconciliation_runs
    FOR EACH STATEMENT EXECUTE FUNCTION chain.refuse_change();
CREATE TRIGGER never_truncated BEFORE TRUNCATE ON chain.reconciliation_wallets
    FOR EACH STATEMENT EXECUTE FUNCTION chain.refuse_change();

-- A break from the run that found it to the first run that does not.
CREATE TABLE chain.reconciliation_breaks (
    id uuid PRIMARY KEY,
    network text NOT NULL,
    kind text NOT NULL CHECK (kind IN ('uningested_deposit', 'unposted_fee', 'unknown_outgoing',
        'unknown_incoming', 'dust', 'stuck')),
    subject text NOT NULL,                 -- the custody account, or of `stuck` the object
    asset text NOT NULL,
    state text NOT NULL CHECK (state IN ('open', 'closed')),
    difference numeric(78, 0) NOT NULL,    -- chain less books, minor units
    details jsonb NOT NULL,
    first_run_id uuid NOT NULL REFERENCES chain.reconciliation_runs (id),
    last_run_id uuid NOT NULL REFERENCES chain.reconciliation_runs (id),
    version integer NOT NULL DEFAULT 1,
    opened_at timestamptz NOT NULL,
    changed_at timestamptz NOT NULL,
    closed_at timestamptz,
    explanation text,                      -- what two people know of this difference
    proposed_by text,
    approved_by text CHECK (approved_by <> proposed_by),
    CHECK ((explanation IS NULL) = (proposed_by IS NULL)
        AND (explanation IS NULL) = (approved_by IS NULL)),
    CHECK ((state = 'closed') = (closed_at IS NOT NULL))
);
CREATE UNIQUE INDEX reconciliation_breaks_open
    ON chain.reconciliation_breaks (network, kind, subject) WHERE state = 'open';
CREATE INDEX reconciliation_breaks_asset ON chain.reconciliation_breaks (asset)
    WHERE state = 'open';

GRANT SELECT, INSERT ON chain.reconciliation_runs, chain.reconciliation_wallets TO watchers;
GRANT SELECT, INSERT, UPDATE ON chain.reconciliation_breaks TO watchers;
GRANT SELECT ON chain.reconciliation_runs, chain.reconciliation_wallets,
    chain.reconciliation_breaks TO gateway_api, gateway_payouts, scheduler;
-- Two people explain; who compares never does.
GRANT UPDATE (explanation, proposed_by, approved_by, version, changed_at)
    ON chain.reconciliation_breaks TO gateway_api;
-- Custody by wallet is the operator's: no brand's call sees it (A29).
DO $$
DECLARE
    name text;
BEGIN
    FOREACH name IN ARRAY ARRAY['runs', 'wallets', 'breaks'] LOOP
        EXECUTE format('ALTER TABLE chain.reconciliation_%s ENABLE ROW LEVEL SECURITY', name);
        EXECUTE format('CREATE POLICY all_rows ON chain.reconciliation_%s USING (true)', name);
        EXECUTE format(
            'CREATE POLICY operator_calls ON chain.reconciliation_%s AS RESTRICTIVE TO gateway_api '
            'USING ((SELECT config.sees_brand(''*'')))', name);
    END LOOP;
END
$$;
