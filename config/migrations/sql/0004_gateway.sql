-- What faces people: principals, idempotency, withdrawals, the numbered event feed, webhooks.
-- Written by `gateway` only. Amounts are minor units, NUMERIC(78,0).

CREATE TABLE gateway.brands (
    id text PRIMARY KEY CHECK (id ~ '^[a-z][a-z0-9-]{1,31}$' AND id <> 'operator'),
    account_index integer NOT NULL UNIQUE CHECK (account_index >= 1),
    balance_mode text NOT NULL DEFAULT 'shared' CHECK (balance_mode IN ('shared', 'per_asset')),
    created_at timestamptz NOT NULL
);

CREATE TABLE gateway.clients (
    key_id text PRIMARY KEY,
    kind text NOT NULL CHECK (kind IN ('client', 'operator', 'staff')),
    brand text REFERENCES gateway.brands (id),
    person text,
    public_key bytea NOT NULL CHECK (length(public_key) = 32),
    scopes text[] NOT NULL,
    roles text[] NOT NULL DEFAULT '{}',
    ip_allow cidr[] NOT NULL DEFAULT '{}',
    expires_at timestamptz,
    revoked_at timestamptz,
    created_at timestamptz NOT NULL,
    CHECK ((kind = 'client') = (brand IS NOT NULL AND person IS NULL)),
    CHECK ((kind = 'staff') = (person IS NOT NULL)),
    -- A key that creates may never approve (CONTRACT 3, A31).
    CHECK (NOT (scopes @> '{withdrawals:write}' AND scopes @> '{withdrawals:approve}'))
);

CREATE TABLE gateway.nonces (
    key_id text NOT NULL,
    nonce text NOT NULL CHECK (length(nonce) BETWEEN 8 AND 128),
    expires_at timestamptz NOT NULL,
    PRIMARY KEY (key_id, nonce)
);
CREATE INDEX nonces_expiry ON gateway.nonces (expires_at);

-- Stored answers, unique for ever per (scope, key); scope is `brand:` and the brand, or `key:` and the
-- id of an operator's or staff key.
CREATE TABLE gateway.idempotency (
    scope text NOT NULL,
    key text NOT NULL CHECK (length(key) BETWEEN 1 AND 255),
    fingerprint bytea NOT NULL,
    state text NOT NULL CHECK (state IN ('running', 'done')),
    status integer,
    body bytea,
    created_at timestamptz NOT NULL,
    PRIMARY KEY (scope, key),
    CHECK ((state = 'done') = (status IS NOT NULL AND body IS NOT NULL))
);

CREATE TABLE gateway.withdrawals (
    id uuid PRIMARY KEY,
    brand text NOT NULL REFERENCES gateway.brands (id),
    request_id text NOT NULL CHECK (length(request_id) BETWEEN 1 AND 128),
    kind text NOT NULL DEFAULT 'withdrawal' CHECK (kind IN ('withdrawal')),
    player_id text NOT NULL,
    network text NOT NULL,
    asset text NOT NULL,
    address text NOT NULL,
    address_key text NOT NULL,
    amount numeric(78, 0) NOT NULL CHECK (amount > 0 AND amount <> 'NaN'),
    pam_balance numeric(78, 0) NOT NULL CHECK (pam_balance >= 0 AND pam_balance <> 'NaN'),
    fee_class text NOT NULL CHECK (fee_class IN ('urgent', 'normal', 'economy')),
    fee_mode text NOT NULL CHECK (fee_mode IN ('brand', 'player')),
    metadata jsonb NOT NULL DEFAULT '{}',
    state text NOT NULL CHECK (state IN (
        'received', 'rejected', 'reserved', 'screening', 'on_hold', 'pending_approval', 'queued',
        'waiting_liquidity', 'planned', 'signed', 'broadcasting', 'uncertain', 'sent', 'confirming',
        'completed', 'cancelling', 'cancelled', 'failed', 'declined', 'expired')),
    code text,                 -- why rejected, on hold or waiting; stable words
    is_reserved boolean NOT NULL DEFAULT false,  -- a hold stands in the ledger
    version integer NOT NULL DEFAULT 1,
    attempt_id uuid,           -- the live attempt (chain.outgoing)
    txid text,
    valid_until timestamptz NOT NULL,
    promise_at timestamptz NOT NULL,             -- request to `sent`, by fee class
    sign_requested_at timestamptz,
    accepted_at timestamptz NOT NULL,
    state_at timestamptz NOT NULL,
    -- The player's deposits that were lost (orphaned, reversed) when the order was accepted.
    orphaned_known uuid[] NOT NULL DEFAULT '{}',
    UNIQUE (brand, request_id)
) WITH (fillfactor = 80);
CREATE INDEX withdrawals_queue ON gateway.withdrawals (network, asset, state, promise_at)
    WHERE state IN ('received', 'reserved', 'queued', 'waiting_liquidity', 'planned');
CREATE INDEX withdrawals_open ON gateway.withdrawals (state, state_at)
    WHERE state NOT IN ('completed', 'rejected', 'cancelled', 'failed', 'declined', 'expired');
CREATE INDEX withdrawals_player ON gateway.withdrawals (brand, player_id, id DESC);
CREATE INDEX withdrawals_list ON gateway.withdrawals (brand, id DESC);
CREATE INDEX withdrawals_attempt ON gateway.withdrawals (attempt_id) WHERE attempt_id IS NOT NULL;
CREATE INDEX withdrawals_txid ON gateway.withdrawals (txid) WHERE txid IS NOT NULL;

-- The client's signed bytes, exactly as received (CONTRACT 3, end-to-end authorised payouts).
CREATE TABLE gateway.withdrawal_requests (
    withdrawal_id uuid PRIMARY KEY REFERENCES gateway.withdrawals (id),
    brand text NOT NULL,
    key_id text NOT NULL,
    method text NOT NULL,
    authority text NOT NULL,
    path text NOT NULL,
    query text NOT NULL,
    headers jsonb NOT NULL,
    body bytea NOT NULL,
    signature_input text NOT NULL,
    signature text NOT NULL
);

-- Which withdrawals ride on which attempt, and where in it.
CREATE TABLE gateway.attempt_members (
    attempt_id uuid NOT NULL,
    withdrawal_id uuid NOT NULL REFERENCES gateway.withdrawals (id),
    output_index integer NOT NULL,
    PRIMARY KEY (attempt_id, withdrawal_id),
    UNIQUE (attempt_id, output_index)
);
CREATE INDEX attempt_members_withdrawal ON gateway.attempt_members (withdrawal_id);

-- Leases with fencing for single-writer loops (sequencer, payout lanes, scheduler jobs).
CREATE TABLE gateway.leases (
    name text PRIMARY KEY,
    holder text NOT NULL,
    fence bigint NOT NULL,
    expires_at timestamptz NOT NULL
);

-- The numbered feed: gap-free per brand ('operator' for the operator stream); `body` is the exact
-- text that the feed and every delivery send, so that a redelivery is identical (D78).
CREATE TABLE gateway.event_counters (
    brand text PRIMARY KEY,
    last_seq bigint NOT NULL CHECK (last_seq >= 0)
);
CREATE TABLE gateway.event_log (
    brand text NOT NULL,
    seq bigint NOT NULL CHECK (seq > 0),
    event_id uuid NOT NULL,
    type text NOT NULL,
    object_kind text NOT NULL,
    object_id uuid NOT NULL,
    object_version integer NOT NULL,
    body text NOT NULL,
    created_at timestamptz NOT NULL,
    PRIMARY KEY (brand, seq),
    UNIQUE (event_id)
);
CREATE INDEX event_log_object ON gateway.event_log (object_id, object_version);

-- Committed events that have no number yet. A trigger fills it in the unit of work of the event, the
-- sequencer empties it in the unit of work of the number: what is committed is visible, in whatever
-- order the writers commit, so there is no watermark to get wrong.
CREATE TABLE gateway.event_queue (
    event_id uuid PRIMARY KEY,
    position bigint NOT NULL,
    object_id uuid NOT NULL,
    object_version integer NOT NULL,
    is_stuck boolean NOT NULL DEFAULT false  -- cannot be rendered: its object alone waits
);
CREATE INDEX event_queue_stuck ON gateway.event_queue (object_id) WHERE is_stuck;
CREATE INDEX event_queue_position ON gateway.event_queue (position);
CREATE INDEX event_queue_object ON gateway.event_queue (object_id, object_version);
CREATE FUNCTION gateway.queue_events() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog AS $$
BEGIN
    INSERT INTO gateway.event_queue (event_id, position, object_id, object_version)
        SELECT id, position, object_id, object_version FROM appended;
    RETURN NULL;
END
$$;
CREATE TRIGGER events_to_number AFTER INSERT ON ledger.events
    REFERENCING NEW TABLE AS appended
    FOR EACH STATEMENT EXECUTE FUNCTION gateway.queue_events();

CREATE TABLE gateway.webhook_endpoints (
    id uuid PRIMARY KEY,
    brand text NOT NULL,                       -- a brand, or 'operator'
    url text NOT NULL CHECK (length(url) <= 2048),
    types text[] NOT NULL DEFAULT '{}',        -- empty = all; 'deposit.*' patterns allowed
    secret_sealed bytea NOT NULL,              -- sealed under the key file, never plain
    previous_secret_sealed bytea,
    previous_until timestamptz,
    state text NOT NULL CHECK (state IN ('active', 'paused', 'deleted')),
    failures_in_a_row integer NOT NULL DEFAULT 0,
    next_probe_at timestamptz,
    version integer NOT NULL DEFAULT 1,
    created_at timestamptz NOT NULL
);
CREATE INDEX webhook_endpoints_brand ON gateway.webhook_endpoints (brand) WHERE state <> 'deleted';

CREATE TABLE gateway.deliveries (
    id uuid PRIMARY KEY,
    endpoint_id uuid NOT NULL REFERENCES gateway.webhook_endpoints (id),
    brand text NOT NULL,
    seq bigint NOT NULL,
    event_id uuid NOT NULL,
    object_id uuid NOT NULL,
    object_version integer NOT NULL,
    state text NOT NULL CHECK (state IN ('pending', 'delivered', 'parked')),
    attempts integer NOT NULL DEFAULT 0,
    first_attempt_at timestamptz,
    next_attempt_at timestamptz NOT NULL,
    claimed_until timestamptz,                 -- one try is in flight; past it, its process died
    is_oldest boolean NOT NULL,                -- of the pending ones of (endpoint, object)
    last_status integer,
    last_error text,
    delivered_at timestamptz,
    created_at timestamptz NOT NULL,
    UNIQUE (endpoint_id, event_id)
) WITH (fillfactor = 80);
-- Per (endpoint, object) only the oldest undelivered event is tried.
CREATE INDEX deliveries_due ON gateway.deliveries (endpoint_id, next_attempt_at, seq)
    WHERE state = 'pending' AND is_oldest;
CREATE UNIQUE INDEX deliveries_oldest ON gateway.deliveries (endpoint_id, object_id)
    WHERE state = 'pending' AND is_oldest;
CREATE INDEX deliveries_object ON gateway.deliveries (endpoint_id, object_id, seq)
    WHERE state = 'pending';

-- Inflows move out of suspense by two people (CONTRACT 1).
CREATE TABLE gateway.inflow_assignments (
    id uuid PRIMARY KEY,
    inflow_id uuid NOT NULL UNIQUE,
    target text NOT NULL CHECK (target IN ('capital', 'clearing')),
    brand text REFERENCES gateway.brands (id),
    proposed_by text NOT NULL,
    proposed_person text NOT NULL,
    approved_by text,
    approved_person text,
    state text NOT NULL CHECK (state IN ('pending_approval', 'done')),
    created_at timestamptz NOT NULL,
    done_at timestamptz,
    CHECK ((target = 'clearing') = (brand IS NOT NULL)),
    CHECK ((state = 'done') = (approved_by IS NOT NULL)),
    CHECK (approved_person IS NULL OR approved_person <> proposed_person)
);

-- Something a person must look at; shown by API, metrics and the operator stream.
CREATE TABLE gateway.alarms (
    id uuid PRIMARY KEY,
    kind text NOT NULL,
    network text,
    object_id uuid,
    detail text NOT NULL,
    raised_at timestamptz NOT NULL,
    cleared_at timestamptz
);
CREATE UNIQUE INDEX alarms_open ON gateway.alarms (kind, coalesce(network, ''), coalesce(object_id, '00000000-0000-0000-0000-000000000000'))
    WHERE cleared_at IS NULL;

-- State history by trigger (HOUSE 6); the function belongs to the ledger schema.
CREATE TRIGGER withdrawals_history AFTER UPDATE OF state ON gateway.withdrawals
    FOR EACH ROW EXECUTE FUNCTION ledger.record_state('withdrawal');

-- A withdrawal is stored once, in the state in which its acceptance ends; its history holds the way
-- there. `version` says how far: one that is stored as `received` has taken no step.
CREATE FUNCTION gateway.record_acceptance() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog AS $$
DECLARE
    written integer;
BEGIN
    INSERT INTO ledger.state_history
        (object_kind, object_id, version, brand, from_state, to_state, at, actor, reason)
    SELECT 'withdrawal', n.id, step.version, n.brand, step.from_state, step.to_state, n.state_at,
        nullif(current_setting('cage.actor', true), ''),
        nullif(current_setting('cage.reason', true), '')
    FROM added n
    JOIN (VALUES
        ('received', 1, 1, NULL, 'received'),
        ('rejected', 2, 1, NULL, 'received'),
        ('rejected', 2, 2, 'received', 'rejected'),
        ('waiting_liquidity', 2, 1, NULL, 'received'),
        ('waiting_liquidity', 2, 2, 'received', 'waiting_liquidity'),
        ('queued', 3, 1, NULL, 'received'),
        ('queued', 3, 2, 'received', 'reserved'),
        ('queued', 3, 3, 'reserved', 'queued'),
        ('pending_approval', 3, 1, NULL, 'received'),
        ('pending_approval', 3, 2, 'received', 'reserved'),
        ('pending_approval', 3, 3, 'reserved', 'pending_approval')
    ) AS step (state, ends_at, version, from_state, to_state)
        ON step.state = n.state AND step.ends_at = n.version;
    GET DIAGNOSTICS written = ROW_COUNT;
    IF written <> (SELECT coalesce(sum(version), 0) FROM added) THEN
        RAISE EXCEPTION 'a withdrawal begins in a state or version that no acceptance ends in';
    END IF;
    RETURN NULL;
END
$$;
CREATE TRIGGER withdrawals_accepted AFTER INSERT ON gateway.withdrawals
    REFERENCING NEW TABLE AS added
    FOR EACH STATEMENT EXECUTE FUNCTION gateway.record_acceptance();

-- Row-level security: no call of one brand sees another's rows (A29, A30).
DO $$
DECLARE
    table_name text;
BEGIN
    FOREACH table_name IN ARRAY ARRAY[
        'withdrawals', 'withdrawal_requests', 'event_log', 'webhook_endpoints', 'deliveries'
    ] LOOP
        EXECUTE format('ALTER TABLE gateway.%I ENABLE ROW LEVEL SECURITY', table_name);
        EXECUTE format(
            'CREATE POLICY brand_rows ON gateway.%I USING (config.sees_brand(brand)) '
            'WITH CHECK (config.sees_brand(brand))', table_name);
    END LOOP;
END
$$;

GRANT SELECT ON gateway.brands, gateway.clients TO
    gateway_api, gateway_payouts, gateway_webhooks, watchers, scheduler;
GRANT SELECT, INSERT, DELETE ON gateway.nonces TO gateway_api;
GRANT SELECT, DELETE ON gateway.nonces TO scheduler;
GRANT SELECT, INSERT, UPDATE, DELETE ON gateway.idempotency TO gateway_api;
GRANT SELECT, INSERT ON gateway.withdrawals, gateway.withdrawal_requests TO gateway_api;
GRANT UPDATE (state, code, is_reserved, version, state_at) ON gateway.withdrawals TO gateway_api;
GRANT SELECT ON gateway.attempt_members, gateway.event_counters, gateway.event_log,
    gateway.deliveries, gateway.leases, gateway.alarms TO gateway_api, scheduler;
GRANT SELECT, INSERT, UPDATE ON gateway.webhook_endpoints, gateway.inflow_assignments
    TO gateway_api;
GRANT SELECT, UPDATE ON gateway.withdrawals TO gateway_payouts;
GRANT SELECT ON gateway.withdrawal_requests TO gateway_payouts;
GRANT SELECT, INSERT ON gateway.attempt_members TO gateway_payouts;
GRANT SELECT, INSERT, UPDATE ON gateway.leases
    TO gateway_payouts, gateway_webhooks, watchers, scheduler;
GRANT SELECT, INSERT, UPDATE ON gateway.alarms
    TO gateway_api, gateway_payouts, gateway_webhooks, watchers, scheduler;
GRANT SELECT, INSERT, UPDATE ON gateway.event_counters TO gateway_webhooks;
GRANT SELECT, INSERT ON gateway.event_log TO gateway_webhooks;
GRANT SELECT, DELETE, UPDATE (is_stuck) ON gateway.event_queue TO gateway_webhooks;
GRANT SELECT, UPDATE ON gateway.webhook_endpoints TO gateway_webhooks;
GRANT SELECT, INSERT, UPDATE ON gateway.deliveries TO gateway_webhooks;

-- A reconciliation: the books at once, each network by the answer of its watcher (chain.probes).
CREATE TABLE gateway.reconciliations (
    id uuid PRIMARY KEY,
    probes jsonb NOT NULL,         -- network -> id of its question
    book_breaks jsonb NOT NULL,    -- [{kind, subject, asset, difference_minor as text}]
    requested_by text NOT NULL,
    created_at timestamptz NOT NULL
);
GRANT SELECT, INSERT ON gateway.reconciliations TO gateway_api;
