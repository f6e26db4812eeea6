-- Double entry: accounts, postings and their entries, balances, holds, history and the outbox.
-- Written by `ledger` only, through the functions of 0002_ledger_functions.sql; the application
-- roles have no INSERT, UPDATE or DELETE on the books (L03). Amounts are minor units, NUMERIC(78,0).

-- Rules of one column are domains: the server prepares a domain's check once per connection, a
-- table's at each statement, which was a tenth of the cost of a posting.
CREATE DOMAIN ledger.amount AS numeric(78, 0) CHECK (VALUE > 0 AND VALUE <> 'NaN');
CREATE DOMAIN ledger.change AS numeric(78, 0) CHECK (VALUE <> 'NaN');
CREATE DOMAIN ledger.stock AS numeric(78, 0) CHECK (VALUE >= 0 AND VALUE <> 'NaN');
CREATE DOMAIN ledger.side AS text CHECK (VALUE IN ('debit', 'credit'));
CREATE DOMAIN ledger.line AS smallint CHECK (VALUE >= 1);
CREATE DOMAIN ledger.reference AS text CHECK (length(VALUE) BETWEEN 1 AND 300);

CREATE TABLE ledger.accounts (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    code text NOT NULL UNIQUE,
    kind text NOT NULL,
    asset text NOT NULL,
    brand text,
    player_id text,
    wallet text,
    -- What a kind means is decided here and never by a caller (L02).
    normal_side text NOT NULL GENERATED ALWAYS AS (
        CASE WHEN kind IN ('custody', 'receivable', 'network_fee', 'reorg_loss', 'write_off')
            THEN 'debit' ELSE 'credit' END) STORED,
    is_checked boolean NOT NULL GENERATED ALWAYS AS (  -- may never go below zero
        kind IN ('provisional', 'held', 'reserved', 'in_flight', 'clearing', 'unallocated',
                 'receivable')) STORED,
    CONSTRAINT accounts_code CHECK (coalesce(code = CASE
        WHEN kind = 'custody' THEN 'custody:' || wallet || ':' || asset
        WHEN kind IN ('provisional', 'held', 'reserved', 'in_flight')
            THEN 'player:' || brand || ':' || player_id || ':' || kind || ':' || asset
        WHEN kind = 'clearing' THEN 'brand:' || brand || ':clearing:' || asset
        WHEN kind = 'receivable' THEN 'receivable:' || brand || ':' || asset
        WHEN kind = 'unallocated' THEN 'unallocated:' || asset
        WHEN kind = 'network_fee' THEN 'expense:fee:network:' || asset
        WHEN kind = 'reorg_loss' THEN 'expense:loss:reorg:' || asset
        WHEN kind = 'write_off' THEN 'expense:loss:write_off:' || asset
        WHEN kind = 'fee_recovery' THEN 'income:fee_recovery:' || asset
        WHEN kind = 'service' THEN 'income:service:' || asset
        WHEN kind = 'capital' THEN 'equity:capital:' || asset
        WHEN kind = 'suspense' THEN 'suspense:' || asset
    END, false))
);
CREATE INDEX accounts_player ON ledger.accounts (brand, player_id) WHERE player_id IS NOT NULL;
CREATE INDEX accounts_kind ON ledger.accounts (kind, asset);

-- A cache of the entries. The balance is the account's row plus its pending rows. A checked account
-- has its row in the first table, whose domain knows no less than zero, any other in the second.
CREATE TABLE ledger.checked_balances (
    account_id bigint PRIMARY KEY REFERENCES ledger.accounts (id),
    balance ledger.stock NOT NULL DEFAULT 0
) WITH (fillfactor = 50, autovacuum_vacuum_scale_factor = 0.05);
CREATE TABLE ledger.free_balances (
    account_id bigint PRIMARY KEY REFERENCES ledger.accounts (id),
    balance ledger.change NOT NULL DEFAULT 0
) WITH (fillfactor = 50, autovacuum_vacuum_scale_factor = 0.05);
CREATE VIEW ledger.balances WITH (security_invoker = true) AS
    SELECT account_id, balance::numeric(78, 0), true AS is_checked FROM ledger.checked_balances
    UNION ALL
    SELECT account_id, balance::numeric(78, 0), false FROM ledger.free_balances;

-- Increases (and, for unchecked accounts, decreases too) are appended here, so that hot rows do
-- not serialise the house; a debit that needs them, or a short loop, folds them in (HOUSE 7).
CREATE TABLE ledger.pending_credits (
    account_id bigint NOT NULL,
    delta ledger.change NOT NULL
) WITH (autovacuum_vacuum_scale_factor = 0.05);
CREATE INDEX pending_credits_account ON ledger.pending_credits (account_id);

-- The heads: unique by reference for ever, and so unpartitioned (ADR 0018). Found by id through their
-- entries, which name both columns of the second index.
CREATE TABLE ledger.postings (
    reference ledger.reference PRIMARY KEY,
    id uuid NOT NULL,
    booked_at timestamptz NOT NULL,
    kind text NOT NULL,
    reason text,
    reverses uuid,
    network text,
    block_hash text,
    block_height bigint
);
CREATE UNIQUE INDEX postings_time ON ledger.postings (booked_at, id);
CREATE INDEX postings_reverses ON ledger.postings (reverses) WHERE reverses IS NOT NULL;

CREATE TABLE ledger.entries (
    posting_id uuid NOT NULL,
    line ledger.line NOT NULL,
    booked_at timestamptz NOT NULL,
    account_id bigint NOT NULL,
    asset text NOT NULL,
    side ledger.side NOT NULL,
    amount ledger.amount NOT NULL,
    brand_tag text,
    PRIMARY KEY (posting_id, line, booked_at)
) PARTITION BY RANGE (booked_at);
CREATE INDEX entries_account ON ledger.entries (account_id, booked_at);

CREATE TABLE ledger.entries_default PARTITION OF ledger.entries DEFAULT;

-- Makes the monthly partitions from the month of `p_from`, `p_months` ahead; idempotent. A month
-- whose rows already lie in the default partition is left there.
CREATE FUNCTION ledger.ensure_partitions(p_from timestamptz, p_months integer) RETURNS integer
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog AS $$
DECLARE
    month_start timestamptz;
    name text;
    made integer := 0;
BEGIN
    PERFORM pg_advisory_xact_lock(hashtext('ledger.ensure_partitions'));
    FOR i IN 0..p_months LOOP
        month_start := date_trunc('month', p_from AT TIME ZONE 'UTC') AT TIME ZONE 'UTC';
        month_start := (month_start AT TIME ZONE 'UTC' + make_interval(months => i)) AT TIME ZONE 'UTC';
        name := format('entries_%s', to_char(month_start AT TIME ZONE 'UTC', 'YYYYMM'));
        CONTINUE WHEN to_regclass('ledger.' || name) IS NOT NULL;
        BEGIN
            EXECUTE format(
                'CREATE TABLE ledger.%I PARTITION OF ledger.entries FOR VALUES FROM (%L) TO (%L)',
                name, month_start,
                (month_start AT TIME ZONE 'UTC' + interval '1 month') AT TIME ZONE 'UTC');
            PERFORM ledger.guard(name, true);
            made := made + 1;
        EXCEPTION WHEN check_violation THEN
            NULL;  -- the default partition holds rows of that month
        END;
    END LOOP;
    RETURN made;
END
$$;

-- The invariants, a second time, whatever the code path.
CREATE FUNCTION ledger.refuse_change() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION 'ledger.% is append-only: correct by a reversing posting', TG_TABLE_NAME
        USING ERRCODE = 'CG001';
END
$$;

-- Every statement that adds entries adds whole postings: balanced per asset, each line on an account
-- of its asset. What each statement leaves balanced stays balanced, so only the new rows are read.
CREATE FUNCTION ledger.check_entries() RETURNS trigger
LANGUAGE plpgsql AS $$
DECLARE
    wrong record;
BEGIN
    -- The usual statement adds one posting in one asset, which costs no grouping. A line on an
    -- account of another asset makes its sum NaN, which is not zero either.
    PERFORM 1 FROM added n
        HAVING bool_and((n.posting_id, n.asset)
                = (SELECT f.posting_id, f.asset FROM added f LIMIT 1))
            AND sum(CASE WHEN (SELECT a.asset FROM ledger.accounts a WHERE a.id = n.account_id)
                IS DISTINCT FROM n.asset THEN 'NaN'
            WHEN n.side = 'debit' THEN n.amount ELSE -n.amount END) = 0;
    IF FOUND THEN
        RETURN NULL;
    END IF;
    PERFORM 1 FROM added n GROUP BY n.posting_id, n.asset
        HAVING sum(CASE WHEN (SELECT a.asset FROM ledger.accounts a WHERE a.id = n.account_id)
                IS DISTINCT FROM n.asset THEN 'NaN'
            WHEN n.side = 'debit' THEN n.amount ELSE -n.amount END) <> 0;
    IF NOT FOUND THEN
        RETURN NULL;
    END IF;
    SELECT n.posting_id, n.asset INTO wrong
        FROM added n LEFT JOIN ledger.accounts a ON a.id = n.account_id
        WHERE a.asset IS DISTINCT FROM n.asset LIMIT 1;
    IF FOUND THEN
        RAISE EXCEPTION 'posting %: % entered on an account of another asset',
            wrong.posting_id, wrong.asset USING ERRCODE = 'CG003';
    END IF;
    RAISE EXCEPTION 'a posting does not balance' USING ERRCODE = 'CG002', DETAIL = (
        SELECT string_agg(format('%s in %s', t.posting_id, t.asset), ', ') FROM (
            SELECT n.posting_id, n.asset FROM added n GROUP BY n.posting_id, n.asset
            HAVING sum(CASE n.side WHEN 'debit' THEN n.amount ELSE -n.amount END) <> 0 LIMIT 5
        ) AS t);
END
$$;

-- Row triggers come to a partition from its parent, statement triggers do not: every table of the
-- journal, parent or partition, gets its own.
CREATE FUNCTION ledger.guard(p_table text, p_has_entries boolean) RETURNS void
LANGUAGE plpgsql SET search_path = pg_catalog AS $$
BEGIN
    EXECUTE format(
        'CREATE TRIGGER never_truncated BEFORE TRUNCATE ON ledger.%I '
        'FOR EACH STATEMENT EXECUTE FUNCTION ledger.refuse_change()', p_table);
    IF p_has_entries THEN
        EXECUTE format(
            'CREATE TRIGGER entries_balance AFTER INSERT ON ledger.%I '
            'REFERENCING NEW TABLE AS added '
            'FOR EACH STATEMENT EXECUTE FUNCTION ledger.check_entries()', p_table);
    END IF;
END
$$;

CREATE TABLE ledger.holds (
    id uuid PRIMARY KEY,
    brand text NOT NULL,
    player_id text NOT NULL,
    asset text NOT NULL,
    amount numeric(78, 0) NOT NULL CHECK (amount > 0 AND amount <> 'NaN'),
    state text NOT NULL CHECK (state IN ('open', 'captured', 'released', 'settled', 'returned')),
    cycle integer NOT NULL DEFAULT 1,
    created_at timestamptz NOT NULL,
    resolved_at timestamptz
);
CREATE INDEX holds_open ON ledger.holds (brand, asset) WHERE state IN ('open', 'captured');

-- Lock rows: every change of a player's provisional or orphaned value takes theirs (CONTRACT 1).
CREATE TABLE ledger.players (
    brand text NOT NULL,
    player_id text NOT NULL,
    PRIMARY KEY (brand, player_id)
);

CREATE TABLE ledger.state_history (
    object_kind text NOT NULL,
    object_id uuid NOT NULL,
    version integer NOT NULL,
    brand text,
    from_state text,
    to_state text NOT NULL,
    at timestamptz NOT NULL,
    actor text,
    reason text,
    PRIMARY KEY (object_id, version)
);

CREATE FUNCTION ledger.record_state() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog AS $$
BEGIN
    IF TG_OP = 'UPDATE' AND NEW.state = OLD.state THEN
        RETURN NULL;
    END IF;
    INSERT INTO ledger.state_history
        (object_kind, object_id, version, brand, from_state, to_state, at, actor, reason)
    VALUES (
        TG_ARGV[0], NEW.id, NEW.version, to_jsonb(NEW) ->> 'brand',
        CASE TG_OP WHEN 'UPDATE' THEN OLD.state END, NEW.state, NEW.state_at,
        nullif(current_setting('cage.actor', true), ''),
        nullif(current_setting('cage.reason', true), ''));
    RETURN NULL;
END
$$;

-- The outbox. `xid` lets the sequencer number only what can no longer be overtaken.
CREATE TABLE ledger.events (
    position bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    id uuid NOT NULL UNIQUE,
    brand text,  -- NULL: the operator's stream
    type text NOT NULL,
    object_kind text NOT NULL,
    object_id uuid NOT NULL,
    object_version integer NOT NULL,
    previous_state text,
    snapshot jsonb NOT NULL,
    created_at timestamptz NOT NULL,
    xid xid8 NOT NULL DEFAULT pg_current_xact_id()
);
CREATE INDEX events_object ON ledger.events (object_id, object_version);

DO $$
DECLARE
    name text;
BEGIN
    FOREACH name IN ARRAY ARRAY['postings', 'entries', 'state_history', 'events']
    LOOP
        EXECUTE format(
            'CREATE TRIGGER append_only BEFORE UPDATE OR DELETE ON ledger.%I '
            'FOR EACH ROW EXECUTE FUNCTION ledger.refuse_change()', name);
        PERFORM ledger.guard(name, name = 'entries');
    END LOOP;
    PERFORM ledger.guard('entries_default', true);
END
$$;

-- Brand isolation below the code: a unit of work of one brand reads that brand's accounts only, and
-- of the journal only what stands on them. The house's own accounts are the operator's.
ALTER TABLE ledger.accounts ENABLE ROW LEVEL SECURITY;
CREATE POLICY brand_rows ON ledger.accounts USING (config.sees_brand(coalesce(brand, '*')));
ALTER TABLE ledger.state_history ENABLE ROW LEVEL SECURITY;
CREATE POLICY brand_rows ON ledger.state_history USING (config.sees_brand(coalesce(brand, '*')));
ALTER TABLE ledger.events ENABLE ROW LEVEL SECURITY;
CREATE POLICY brand_rows ON ledger.events USING (config.sees_brand(coalesce(brand, '*')))
    WITH CHECK (config.sees_brand(coalesce(brand, '*')));
ALTER TABLE ledger.holds ENABLE ROW LEVEL SECURITY;
CREATE POLICY brand_rows ON ledger.holds USING (config.sees_brand(brand));
ALTER TABLE ledger.players ENABLE ROW LEVEL SECURITY;
CREATE POLICY brand_rows ON ledger.players
    USING (config.sees_brand(brand)) WITH CHECK (config.sees_brand(brand));
DO $$
DECLARE
    name text;
BEGIN
    FOREACH name IN ARRAY ARRAY['checked_balances', 'free_balances', 'pending_credits', 'entries'] LOOP
        EXECUTE format('ALTER TABLE ledger.%I ENABLE ROW LEVEL SECURITY', name);
        -- Row-level security of ledger.accounts holds inside the subquery too.
        EXECUTE format(
            'CREATE POLICY brand_rows ON ledger.%I USING ((SELECT config.sees_brand(''*'')) OR '
            'EXISTS (SELECT 1 FROM ledger.accounts a WHERE a.id = account_id))', name);
    END LOOP;
END
$$;
ALTER TABLE ledger.postings ENABLE ROW LEVEL SECURITY;
CREATE POLICY operator_rows ON ledger.postings USING ((SELECT config.sees_brand('*')));

-- Not on the partitions: their parent's policies would not hold there.
GRANT SELECT ON ledger.accounts, ledger.checked_balances, ledger.free_balances, ledger.balances,
    ledger.pending_credits, ledger.postings, ledger.entries, ledger.holds, ledger.players, ledger.state_history
    TO gateway_api, gateway_payouts, gateway_webhooks, watchers, scheduler;
GRANT SELECT ON ledger.events TO gateway_payouts, gateway_webhooks, watchers, scheduler;
GRANT INSERT, UPDATE ON ledger.players TO gateway_api, gateway_payouts, watchers;
GRANT INSERT (id, brand, type, object_kind, object_id, object_version, previous_state, snapshot,
    created_at) ON ledger.events
    TO gateway_api, gateway_payouts, gateway_webhooks, watchers, scheduler;
