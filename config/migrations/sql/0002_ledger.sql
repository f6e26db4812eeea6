-- Double entry: accounts, postings and their entries, balances, holds, history and the outbox.
-- Written by `ledger` only, through the functions below; the application roles have no INSERT,
-- UPDATE or DELETE on the books (L03). Amounts are minor units, NUMERIC(78,0).

CREATE TABLE ledger.accounts (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    code text NOT NULL UNIQUE,
    kind text NOT NULL,
    asset text NOT NULL,
    brand text,
    player_id text,
    wallet text,
    normal_side text NOT NULL CHECK (normal_side IN ('debit', 'credit')),
    is_checked boolean NOT NULL  -- may never go below zero
);
CREATE INDEX accounts_player ON ledger.accounts (brand, player_id) WHERE player_id IS NOT NULL;
CREATE INDEX accounts_kind ON ledger.accounts (kind, asset);

-- A cache of the entries. The balance is this row plus the account's pending rows.
CREATE TABLE ledger.balances (
    account_id bigint PRIMARY KEY REFERENCES ledger.accounts (id),
    balance numeric(78, 0) NOT NULL DEFAULT 0 CHECK (balance <> 'NaN'),
    is_checked boolean NOT NULL,
    CHECK (NOT is_checked OR balance >= 0)
) WITH (fillfactor = 50);

-- Increases (and, for unchecked accounts, decreases too) are appended here, so that hot rows do
-- not serialise the house; a debit that needs them, or a short loop, folds them in (HOUSE 7).
CREATE TABLE ledger.pending_credits (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    account_id bigint NOT NULL,
    delta numeric(78, 0) NOT NULL CHECK (delta <> 'NaN')
);
CREATE INDEX pending_credits_account ON ledger.pending_credits (account_id);

-- Unique for ever, narrow, unpartitioned.
CREATE TABLE ledger.posting_keys (
    reference text PRIMARY KEY CHECK (length(reference) BETWEEN 1 AND 300),
    posting_id uuid NOT NULL,
    booked_at timestamptz NOT NULL,
    fingerprint bytea NOT NULL
);

CREATE TABLE ledger.postings (
    id uuid NOT NULL,
    booked_at timestamptz NOT NULL,
    reference text NOT NULL,
    kind text NOT NULL,
    reason text,
    reverses uuid,
    network text,
    block_hash text,
    block_height bigint,
    PRIMARY KEY (id, booked_at),
    CHECK ((network IS NULL) = (block_hash IS NULL) AND (network IS NULL) = (block_height IS NULL))
) PARTITION BY RANGE (booked_at);

CREATE TABLE ledger.entries (
    posting_id uuid NOT NULL,
    line smallint NOT NULL,
    booked_at timestamptz NOT NULL,
    account_id bigint NOT NULL,
    asset text NOT NULL,
    side text NOT NULL CHECK (side IN ('debit', 'credit')),
    amount numeric(78, 0) NOT NULL CHECK (amount > 0 AND amount <> 'NaN'),
    brand_tag text,
    PRIMARY KEY (posting_id, line, booked_at)
) PARTITION BY RANGE (booked_at);
CREATE INDEX entries_account ON ledger.entries (account_id, booked_at);

CREATE TABLE ledger.postings_default PARTITION OF ledger.postings DEFAULT;
CREATE TABLE ledger.entries_default PARTITION OF ledger.entries DEFAULT;

-- Makes the monthly partitions from the month of `p_from`, `p_months` ahead; idempotent. A month
-- whose rows already lie in the default partition is left there.
CREATE FUNCTION ledger.ensure_partitions(p_from timestamptz, p_months integer) RETURNS integer
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog AS $$
DECLARE
    month_start timestamptz;
    name text;
    parent text;
    made integer := 0;
BEGIN
    PERFORM pg_advisory_xact_lock(hashtext('ledger.ensure_partitions'));
    FOR i IN 0..p_months LOOP
        month_start := date_trunc('month', p_from AT TIME ZONE 'UTC') AT TIME ZONE 'UTC';
        month_start := (month_start AT TIME ZONE 'UTC' + make_interval(months => i)) AT TIME ZONE 'UTC';
        FOREACH parent IN ARRAY ARRAY['postings', 'entries'] LOOP
            name := format('%s_%s', parent, to_char(month_start AT TIME ZONE 'UTC', 'YYYYMM'));
            CONTINUE WHEN to_regclass('ledger.' || name) IS NOT NULL;
            BEGIN
                EXECUTE format(
                    'CREATE TABLE ledger.%I PARTITION OF ledger.%I FOR VALUES FROM (%L) TO (%L)',
                    name, parent, month_start,
                    (month_start AT TIME ZONE 'UTC' + interval '1 month') AT TIME ZONE 'UTC');
                made := made + 1;
            EXCEPTION WHEN check_violation THEN
                NULL;  -- the default partition holds rows of that month
            END;
        END LOOP;
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

CREATE FUNCTION ledger.check_posting() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog AS $$
DECLARE
    bad text;
BEGIN
    SELECT e.asset INTO bad FROM ledger.entries e
        WHERE e.posting_id = NEW.posting_id AND e.booked_at = NEW.booked_at
        GROUP BY e.asset
        HAVING sum(CASE e.side WHEN 'debit' THEN e.amount ELSE -e.amount END) <> 0
        LIMIT 1;
    IF bad IS NOT NULL THEN
        RAISE EXCEPTION 'posting % does not balance in %', NEW.posting_id, bad
            USING ERRCODE = 'CG002';
    END IF;
    PERFORM 1 FROM ledger.accounts a WHERE a.id = NEW.account_id AND a.asset = NEW.asset;
    IF NOT FOUND THEN
        RAISE EXCEPTION 'posting %: % entered on an account of another asset',
            NEW.posting_id, NEW.asset USING ERRCODE = 'CG003';
    END IF;
    RETURN NULL;
END
$$;

CREATE CONSTRAINT TRIGGER entries_balance AFTER INSERT ON ledger.entries
    DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION ledger.check_posting();

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
    FOREACH name IN ARRAY ARRAY['postings', 'entries', 'posting_keys', 'state_history', 'events']
    LOOP
        EXECUTE format(
            'CREATE TRIGGER append_only BEFORE UPDATE OR DELETE ON ledger.%I '
            'FOR EACH ROW EXECUTE FUNCTION ledger.refuse_change()', name);
        EXECUTE format(
            'CREATE TRIGGER never_truncated BEFORE TRUNCATE ON ledger.%I '
            'FOR EACH STATEMENT EXECUTE FUNCTION ledger.refuse_change()', name);
    END LOOP;
END
$$;

-- Opens accounts that do not exist; answers every id. Arrays are parallel.
CREATE FUNCTION ledger.open_account(
    p_code text, p_kind text, p_asset text, p_brand text, p_player text, p_wallet text,
    p_normal_side text, p_is_checked boolean
) RETURNS bigint
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog AS $$
DECLARE
    found_id bigint;
    found_asset text;
BEGIN
    INSERT INTO ledger.accounts (code, kind, asset, brand, player_id, wallet, normal_side, is_checked)
        VALUES (p_code, p_kind, p_asset, p_brand, p_player, p_wallet, p_normal_side, p_is_checked)
        ON CONFLICT (code) DO NOTHING RETURNING id INTO found_id;
    IF found_id IS NOT NULL THEN
        INSERT INTO ledger.balances (account_id, is_checked) VALUES (found_id, p_is_checked);
        RETURN found_id;
    END IF;
    SELECT id, asset INTO found_id, found_asset FROM ledger.accounts WHERE code = p_code;
    IF found_asset <> p_asset THEN
        RAISE EXCEPTION 'account % holds %, not %', p_code, found_asset, p_asset
            USING ERRCODE = 'CG003';
    END IF;
    RETURN found_id;
END
$$;

-- Adds an account's pending rows to its balance row, which the caller has locked or will lock here.
CREATE FUNCTION ledger.fold_account(p_account bigint) RETURNS numeric
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog AS $$
DECLARE
    folded numeric;
    result numeric;
BEGIN
    PERFORM 1 FROM ledger.balances WHERE account_id = p_account FOR UPDATE;
    WITH gone AS (
        DELETE FROM ledger.pending_credits WHERE account_id = p_account RETURNING delta
    ) SELECT coalesce(sum(delta), 0) INTO folded FROM gone;
    UPDATE ledger.balances SET balance = balance + folded WHERE account_id = p_account
        RETURNING balance INTO result;
    RETURN result;
END
$$;

-- The short loop: folds up to `p_limit` accounts that have pending rows; answers how many.
CREATE FUNCTION ledger.fold(p_limit integer) RETURNS integer
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog AS $$
DECLARE
    account bigint;
    done integer := 0;
BEGIN
    FOR account IN
        SELECT b.account_id FROM ledger.balances b
        WHERE EXISTS (SELECT 1 FROM ledger.pending_credits p WHERE p.account_id = b.account_id)
        ORDER BY b.account_id LIMIT p_limit FOR UPDATE SKIP LOCKED
    LOOP
        PERFORM ledger.fold_account(account);
        done := done + 1;
    END LOOP;
    RETURN done;
END
$$;

-- Takes `p_amount` off a checked account under its CHECK; folds pending rows when it needs them.
CREATE FUNCTION ledger.take(p_account bigint, p_amount numeric) RETURNS boolean
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog AS $$
BEGIN
    UPDATE ledger.balances SET balance = balance - p_amount
        WHERE account_id = p_account AND balance >= p_amount;
    IF FOUND THEN
        RETURN true;
    END IF;
    IF ledger.fold_account(p_account) < p_amount THEN
        RETURN false;
    END IF;
    UPDATE ledger.balances SET balance = balance - p_amount WHERE account_id = p_account;
    RETURN true;
END
$$;

-- One posting, one round trip. Lines are parallel arrays. Idempotent by reference: the same content
-- answers the first id and is_new = false; other content raises CG004. A checked account that
-- would go below zero raises CG005 with its code in DETAIL.
CREATE FUNCTION ledger.post(
    p_id uuid, p_at timestamptz, p_reference text, p_kind text, p_reason text, p_reverses uuid,
    p_network text, p_block_hash text, p_block_height bigint,
    p_codes text[], p_kinds text[], p_assets text[], p_brands text[], p_players text[],
    p_wallets text[], p_normal_sides text[], p_checked boolean[],
    p_sides text[], p_amounts numeric[], p_tags text[],
    OUT posting_id uuid, OUT is_new boolean
)
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog AS $$
DECLARE
    print bytea := sha256(convert_to(concat_ws('|', p_kind, p_network, p_block_hash,
        array_to_string(p_codes, ','), array_to_string(p_sides, ','),
        array_to_string(p_amounts, ','), array_to_string(p_tags, ',', '')), 'UTF8'));
    old_print bytea;
    ids bigint[];
    step record;
BEGIN
    INSERT INTO ledger.posting_keys VALUES (p_reference, p_id, p_at, print)
        ON CONFLICT (reference) DO NOTHING;
    IF NOT FOUND THEN
        SELECT k.posting_id, k.fingerprint INTO posting_id, old_print
            FROM ledger.posting_keys k WHERE k.reference = p_reference;
        IF old_print <> print THEN
            RAISE EXCEPTION 'reference % was posted with other content', p_reference
                USING ERRCODE = 'CG004';
        END IF;
        is_new := false;
        RETURN;
    END IF;
    SELECT array_agg(a.id ORDER BY l.n) INTO ids
        FROM unnest(p_codes, p_assets) WITH ORDINALITY AS l (code, asset, n)
        LEFT JOIN ledger.accounts a ON a.code = l.code AND a.asset = l.asset;
    IF array_position(ids, NULL) IS NOT NULL THEN
        -- In code order, so that two first postings cannot deadlock on each other's new accounts.
        SELECT array_agg(o.id ORDER BY o.n) INTO ids FROM (
            SELECT s.n, ledger.open_account(p_codes[s.n], p_kinds[s.n], p_assets[s.n],
                p_brands[s.n], p_players[s.n], p_wallets[s.n], p_normal_sides[s.n],
                p_checked[s.n]) AS id
            FROM (SELECT n FROM generate_subscripts(p_codes, 1) AS n ORDER BY p_codes[n]) s
        ) o;
    END IF;
    INSERT INTO ledger.postings VALUES (p_id, p_at, p_reference, p_kind, p_reason, p_reverses,
        p_network, p_block_hash, p_block_height);
    INSERT INTO ledger.entries (posting_id, line, booked_at, account_id, asset, side, amount, brand_tag)
        SELECT p_id, l.n, p_at, l.id, l.asset, l.side, l.amount, l.tag
        FROM unnest(ids, p_assets, p_sides, p_amounts, p_tags)
            WITH ORDINALITY AS l (id, asset, side, amount, tag, n);
    FOR step IN
        SELECT l.id, bool_or(l.checked) AS checked,
            sum(CASE WHEN l.side = l.normal THEN l.amount ELSE -l.amount END) AS delta
        FROM unnest(ids, p_sides, p_normal_sides, p_amounts, p_checked)
            AS l (id, side, normal, amount, checked)
        GROUP BY l.id ORDER BY l.id
    LOOP
        IF step.checked AND step.delta < 0 THEN
            IF NOT ledger.take(step.id, -step.delta) THEN
                RAISE EXCEPTION 'not enough on the account for posting %', p_reference
                    USING ERRCODE = 'CG005',
                    DETAIL = (SELECT code FROM ledger.accounts WHERE id = step.id);
            END IF;
        ELSIF step.delta <> 0 THEN
            INSERT INTO ledger.pending_credits (account_id, delta) VALUES (step.id, step.delta);
        END IF;
    END LOOP;
    posting_id := p_id;
    is_new := true;
END
$$;

-- Reserves from clearing, set-wise: up to 200 requests, one answer each, in order. Requests on one
-- clearing account lock its row once; one that does not fit answers false and later ones may fit.
CREATE FUNCTION ledger.place_many(
    p_at timestamptz, p_hold_ids uuid[], p_posting_ids uuid[], p_references text[],
    p_brands text[], p_players text[], p_assets text[], p_amounts numeric[]
) RETURNS boolean[]
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog AS $$
DECLARE
    total integer := coalesce(array_length(p_hold_ids, 1), 0);
    answers boolean[] := array_fill(false, ARRAY[total]);
    is_old boolean[] := array_fill(false, ARRAY[total]);
    reserved bigint[] := array_fill(NULL::bigint, ARRAY[total]);
    clearing bigint[] := array_fill(NULL::bigint, ARRAY[total]);
    available numeric;
    taken numeric;
    account record;
BEGIN
    IF total > 200 THEN
        RAISE EXCEPTION 'place_many: at most 200 requests' USING ERRCODE = 'CG006';
    END IF;
    FOR i IN 1..total LOOP
        clearing[i] := ledger.open_account(
            format('brand:%s:clearing:%s', p_brands[i], p_assets[i]), 'clearing', p_assets[i],
            p_brands[i], NULL, NULL, 'credit', true);
        reserved[i] := ledger.open_account(
            format('player:%s:%s:reserved:%s', p_brands[i], p_players[i], p_assets[i]), 'reserved',
            p_assets[i], p_brands[i], p_players[i], NULL, 'credit', true);
    END LOOP;
    FOR account IN SELECT DISTINCT c AS id FROM unnest(clearing) AS c ORDER BY c LOOP
        available := ledger.fold_account(account.id);
        taken := 0;
        FOR i IN 1..total LOOP
            CONTINUE WHEN clearing[i] <> account.id;
            PERFORM 1 FROM ledger.posting_keys WHERE reference = p_references[i];
            IF FOUND THEN
                answers[i] := true;
                is_old[i] := true;
            ELSIF p_amounts[i] > 0 AND taken + p_amounts[i] <= available THEN
                taken := taken + p_amounts[i];
                answers[i] := true;
            END IF;
        END LOOP;
        UPDATE ledger.balances SET balance = balance - taken WHERE account_id = account.id;
    END LOOP;
    FOR i IN 1..total LOOP
        CONTINUE WHEN NOT answers[i] OR is_old[i];
        INSERT INTO ledger.holds AS h
            (id, brand, player_id, asset, amount, state, created_at)
            VALUES (p_hold_ids[i], p_brands[i], p_players[i], p_assets[i], p_amounts[i], 'open', p_at)
            ON CONFLICT (id) DO UPDATE SET state = 'open', cycle = h.cycle + 1, resolved_at = NULL
            WHERE h.state IN ('released', 'returned') AND h.amount = excluded.amount;
        IF NOT FOUND THEN
            RAISE EXCEPTION 'hold % is not free', p_hold_ids[i] USING ERRCODE = 'CG007';
        END IF;
    END LOOP;
    INSERT INTO ledger.posting_keys
        SELECT p_references[i], p_posting_ids[i], p_at,
            sha256(convert_to(concat_ws('|', 'hold_placed', p_hold_ids[i], p_amounts[i]), 'UTF8'))
        FROM generate_series(1, total) AS i WHERE answers[i] AND NOT is_old[i];
    INSERT INTO ledger.postings (id, booked_at, reference, kind)
        SELECT p_posting_ids[i], p_at, p_references[i], 'hold_placed'
        FROM generate_series(1, total) AS i WHERE answers[i] AND NOT is_old[i];
    INSERT INTO ledger.entries (posting_id, line, booked_at, account_id, asset, side, amount, brand_tag)
        SELECT p_posting_ids[i], s.line, p_at, s.account, p_assets[i], s.side, p_amounts[i], p_brands[i]
        FROM generate_series(1, total) AS i,
            LATERAL (VALUES (1, clearing[i], 'debit'), (2, reserved[i], 'credit'))
                AS s (line, account, side)
        WHERE answers[i] AND NOT is_old[i];
    INSERT INTO ledger.pending_credits (account_id, delta)
        SELECT reserved[i], p_amounts[i]
        FROM generate_series(1, total) AS i WHERE answers[i] AND NOT is_old[i];
    RETURN answers;
END
$$;

-- Brand isolation below the code, for the one role that serves brands.
ALTER TABLE ledger.accounts ENABLE ROW LEVEL SECURITY;
CREATE POLICY brand_rows ON ledger.accounts USING (config.sees_brand(coalesce(brand, '*')));
ALTER TABLE ledger.state_history ENABLE ROW LEVEL SECURITY;
CREATE POLICY brand_rows ON ledger.state_history USING (config.sees_brand(coalesce(brand, '*')));
ALTER TABLE ledger.holds ENABLE ROW LEVEL SECURITY;
CREATE POLICY brand_rows ON ledger.holds
    USING (config.sees_brand(brand)) WITH CHECK (config.sees_brand(brand));

GRANT SELECT ON ALL TABLES IN SCHEMA ledger
    TO gateway_api, gateway_payouts, gateway_webhooks, watchers, scheduler;
REVOKE SELECT ON ledger.events FROM gateway_api;
GRANT INSERT, UPDATE ON ledger.players TO gateway_api, gateway_payouts, watchers;
GRANT INSERT (id, brand, type, object_kind, object_id, object_version, previous_state, snapshot,
    created_at) ON ledger.events
    TO gateway_api, gateway_payouts, gateway_webhooks, watchers, scheduler;
GRANT UPDATE (state, resolved_at) ON ledger.holds TO gateway_api, gateway_payouts;
REVOKE EXECUTE ON ALL FUNCTIONS IN SCHEMA ledger FROM PUBLIC;
GRANT EXECUTE ON FUNCTION ledger.post, ledger.place_many, ledger.fold, ledger.fold_account,
    ledger.open_account TO gateway_api, gateway_payouts, watchers;
GRANT EXECUTE ON FUNCTION ledger.fold, ledger.ensure_partitions TO scheduler;
