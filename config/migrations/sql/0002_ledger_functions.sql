-- What writes the books: one function per posting or step, in one round trip, owned by the owner.
-- Those that the roles call are SECURITY DEFINER with a fixed search path; the others are called by
-- them alone and run under both. The SQLSTATEs CG001 to CG008 are mapped to ledger/errors.py in ledger/store.py.

-- A brand's unit of work may touch its own accounts only: the functions below run as the owner,
-- whom row-level security does not hold, so they ask themselves (A29).
CREATE FUNCTION ledger.refuse_foreign(p_brands text[]) RETURNS void
LANGUAGE plpgsql STABLE AS $$
BEGIN
    IF coalesce(current_setting('cage.brand', true), '') <> '*' THEN
        PERFORM 1 FROM unnest(p_brands) AS b (brand)
            WHERE NOT config.sees_brand(coalesce(b.brand, '*'));
        IF FOUND THEN
            RAISE EXCEPTION 'this unit of work may not touch accounts of another owner'
                USING ERRCODE = 'CG008';
        END IF;
    END IF;
END
$$;

-- The ids of accounts, in order; opens those that do not exist. In code order, so that two first
-- postings cannot deadlock on each other's new accounts. Arrays are parallel.
CREATE FUNCTION ledger.account_ids(
    p_codes text[], p_kinds text[], p_assets text[], p_brands text[], p_players text[],
    p_wallets text[]
) RETURNS bigint[]
LANGUAGE plpgsql AS $$
DECLARE
    ids bigint[];
    i integer;
    opened bigint;
BEGIN
    SELECT array_agg(a.id ORDER BY l.n) INTO ids
        FROM unnest(p_codes) WITH ORDINALITY AS l (code, n)
        LEFT JOIN ledger.accounts a ON a.code = l.code;
    IF array_position(ids, NULL) IS NULL THEN
        RETURN ids;
    END IF;
    FOR i IN SELECT min(n) FROM generate_subscripts(p_codes, 1) AS n
        WHERE ids[n] IS NULL GROUP BY p_codes[n] ORDER BY p_codes[n]
    LOOP
        INSERT INTO ledger.accounts AS a (code, kind, asset, brand, player_id, wallet)
            VALUES (p_codes[i], p_kinds[i], p_assets[i], p_brands[i], p_players[i], p_wallets[i])
            ON CONFLICT (code) DO NOTHING RETURNING a.id INTO opened;
        IF opened IS NOT NULL THEN
            INSERT INTO ledger.balances (account_id, is_checked)
                SELECT a.id, a.is_checked FROM ledger.accounts a WHERE a.id = opened;
        END IF;
    END LOOP;
    SELECT array_agg(a.id ORDER BY l.n) INTO ids
        FROM unnest(p_codes) WITH ORDINALITY AS l (code, n)
        JOIN ledger.accounts a ON a.code = l.code;
    RETURN ids;
END
$$;

-- Adds an account's pending rows to its balance row, which the caller has locked or will lock here.
CREATE FUNCTION ledger.fold_account(p_account bigint) RETURNS numeric
LANGUAGE plpgsql AS $$
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
        WHERE b.account_id IN (
            SELECT DISTINCT p.account_id FROM ledger.pending_credits p ORDER BY 1 LIMIT p_limit)
        ORDER BY b.account_id FOR UPDATE SKIP LOCKED
    LOOP
        PERFORM ledger.fold_account(account);
        done := done + 1;
    END LOOP;
    RETURN done;
END
$$;

-- The rare half of taking from a checked account: its balance row alone was not enough, so pending
-- rows are folded in. CG005 when even those are not enough.
CREATE FUNCTION ledger.take_folded(p_account bigint, p_amount numeric, p_reference text)
RETURNS void
LANGUAGE plpgsql AS $$
BEGIN
    IF ledger.fold_account(p_account) < p_amount THEN
        RAISE EXCEPTION 'not enough on the account for posting %', p_reference
            USING ERRCODE = 'CG005',
            DETAIL = (SELECT code FROM ledger.accounts WHERE id = p_account);
    END IF;
    UPDATE ledger.balances SET balance = balance - p_amount WHERE account_id = p_account;
END
$$;

-- One posting, one round trip. Lines are parallel arrays. Idempotent by reference: the same content
-- answers the first id and is_new = false; other content raises CG004. A checked account that
-- would go below zero raises CG005 with its code in DETAIL.
CREATE FUNCTION ledger.post(
    p_id uuid, p_at timestamptz, p_reference text, p_kind text, p_reason text, p_reverses uuid,
    p_network text, p_block_hash text, p_block_height bigint,
    p_codes text[], p_kinds text[], p_assets text[], p_brands text[], p_players text[],
    p_wallets text[], p_sides text[], p_amounts numeric[], p_tags text[],
    OUT posting_id uuid, OUT is_new boolean
)
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog AS $$
#variable_conflict use_column
DECLARE
    print bytea := sha256(convert_to(ROW(p_kind, p_reverses, p_network, p_block_hash,
        p_block_height, p_codes, p_assets, p_sides, p_amounts, p_tags)::text, 'UTF8'));
    old_print bytea;
    amounts numeric(78, 0)[] := p_amounts;
    ids bigint[] := '{}';          -- one per line
    accounts bigint[] := '{}';     -- each once, with its net change on its normal side
    nets numeric[] := '{}';
    checks boolean[] := '{}';
    takes integer[] := '{}';       -- positions in `accounts` that go down under a CHECK
    account_id bigint;
    owner text;
    normal_side text;
    is_checked boolean;
    delta numeric;
    found_at integer;
BEGIN
    IF coalesce(current_setting('cage.brand', true), '') <> '*' THEN
        PERFORM ledger.refuse_foreign(p_brands);
    END IF;
    IF amounts <> p_amounts THEN
        RAISE EXCEPTION 'posting %: an amount is not a whole number of minor units', p_reference
            USING ERRCODE = 'CG002';
    END IF;
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
    FOR n IN 1..cardinality(p_codes) LOOP
        SELECT a.id, a.brand, a.normal_side, a.is_checked
            INTO account_id, owner, normal_side, is_checked
            FROM ledger.accounts a WHERE a.code = p_codes[n];
        IF NOT FOUND THEN  -- opens every one that is missing
            ids := ledger.account_ids(p_codes, p_kinds, p_assets, p_brands, p_players, p_wallets);
            SELECT a.id, a.brand, a.normal_side, a.is_checked
                INTO account_id, owner, normal_side, is_checked
                FROM ledger.accounts a WHERE a.id = ids[n];
        END IF;
        IF owner IS DISTINCT FROM p_brands[n] THEN  -- a code of one owner under another's name
            RAISE EXCEPTION 'account % belongs to another owner', p_codes[n]
                USING ERRCODE = 'CG008';
        END IF;
        ids[n] := account_id;
        delta := CASE p_sides[n] WHEN normal_side THEN amounts[n] ELSE -amounts[n] END;
        found_at := array_position(accounts, account_id);
        IF found_at IS NULL THEN
            accounts := accounts || account_id;
            nets := nets || delta;
            checks := checks || is_checked;
        ELSE
            nets[found_at] := nets[found_at] + delta;
        END IF;
    END LOOP;
    INSERT INTO ledger.postings VALUES (p_id, p_at, p_reference, p_kind, p_reason, p_reverses,
        p_network, p_block_hash, p_block_height);
    INSERT INTO ledger.entries AS e
            (posting_id, line, booked_at, account_id, asset, side, amount, brand_tag)
        SELECT p_id, l.n, p_at, l.id, l.asset, l.side, l.amount, l.tag
        FROM unnest(ids, p_assets, p_sides, amounts, p_tags)
            WITH ORDINALITY AS l (id, asset, side, amount, tag, n);
    INSERT INTO ledger.pending_credits AS c (account_id, delta)
        SELECT l.id, l.net FROM unnest(accounts, nets, checks) AS l (id, net, is_kept)
        WHERE l.net > 0 OR (l.net < 0 AND NOT l.is_kept);
    FOR i IN 1..cardinality(accounts) LOOP
        IF checks[i] AND nets[i] < 0 THEN
            takes := takes || i;
        END IF;
    END LOOP;
    IF cardinality(takes) > 1 THEN  -- rows in one order, so that two postings cannot deadlock
        SELECT array_agg(i ORDER BY accounts[i]) INTO takes FROM unnest(takes) AS i;
    END IF;
    FOREACH found_at IN ARRAY takes LOOP
        UPDATE ledger.balances b SET balance = b.balance + nets[found_at]
            WHERE b.account_id = accounts[found_at] AND b.balance >= -nets[found_at];
        IF NOT FOUND THEN
            PERFORM ledger.take_folded(accounts[found_at], -nets[found_at], p_reference);
        END IF;
    END LOOP;
    posting_id := p_id;
    is_new := true;
END
$$;

-- How much of a credit to a brand's clearing repays what the brand owes first (CONTRACT 4). Holds
-- the receivable's row when that is not zero, so that two credits cannot repay it twice.
CREATE FUNCTION ledger.repaid_first(p_brand text, p_asset text, p_amount numeric) RETURNS numeric
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog AS $$
DECLARE
    owed record;
BEGIN
    PERFORM ledger.refuse_foreign(ARRAY[p_brand]);
    SELECT b.account_id, b.balance + coalesce((SELECT sum(p.delta) FROM ledger.pending_credits p
                                               WHERE p.account_id = b.account_id), 0) AS balance
        INTO owed
        FROM ledger.accounts a JOIN ledger.balances b ON b.account_id = a.id
        WHERE a.code = 'receivable:' || p_brand || ':' || p_asset;
    IF owed.balance IS NULL OR owed.balance = 0 THEN
        RETURN 0;
    END IF;
    RETURN least(p_amount, ledger.fold_account(owed.account_id));
END
$$;

-- What is free on a brand's clearing, with its row held until the unit of work ends.
CREATE FUNCTION ledger.lock_clearing(p_brand text, p_asset text) RETURNS numeric
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog AS $$
BEGIN
    PERFORM ledger.refuse_foreign(ARRAY[p_brand]);
    RETURN coalesce((SELECT ledger.fold_account(a.id) FROM ledger.accounts a
                     WHERE a.code = 'brand:' || p_brand || ':clearing:' || p_asset), 0);
END
$$;

-- Reserves from clearing, set-wise: up to 200 requests, one answer each, in order. Requests on one
-- clearing account hold its row once; one that does not fit answers false and later ones may fit.
-- A reference that was placed before answers true again (CG004 for other content).
CREATE FUNCTION ledger.place_many(
    p_at timestamptz, p_hold_ids uuid[], p_posting_ids uuid[], p_references text[],
    p_brands text[], p_players text[], p_assets text[], p_amounts numeric[]
) RETURNS boolean[]
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog AS $$
DECLARE
    total integer := coalesce(array_length(p_hold_ids, 1), 0);
    amounts numeric(78, 0)[] := p_amounts;
    answers boolean[] := array_fill(false, ARRAY[total]);
    fresh integer[] := '{}';
    prints bytea[] := array_fill(NULL::bytea, ARRAY[total]);
    old_print bytea;
    ids bigint[];
    available numeric;
    taken numeric;
    account bigint;
BEGIN
    IF total > 200 OR NOT 0 < ALL (amounts) OR 'NaN' = ANY (amounts) OR amounts <> p_amounts THEN
        RAISE EXCEPTION 'place_many: at most 200 requests, of positive amounts of minor units'
            USING ERRCODE = 'CG006';
    END IF;
    PERFORM ledger.refuse_foreign(p_brands);
    SELECT ledger.account_ids(array_agg(l.code ORDER BY l.n), array_agg(l.kind ORDER BY l.n),
            array_agg(l.asset ORDER BY l.n), array_agg(l.brand ORDER BY l.n),
            array_agg(l.player ORDER BY l.n), array_fill(NULL::text, ARRAY[2 * total]))
        INTO ids
        FROM (
            SELECT r.n, 'brand:' || r.brand || ':clearing:' || r.asset AS code,
                'clearing' AS kind, r.asset, r.brand, NULL AS player
            FROM unnest(p_brands, p_assets) WITH ORDINALITY AS r (brand, asset, n)
            UNION ALL
            SELECT total + r.n, 'player:' || r.brand || ':' || r.player || ':reserved:' || r.asset,
                'reserved', r.asset, r.brand, r.player
            FROM unnest(p_brands, p_players, p_assets) WITH ORDINALITY AS r (brand, player, asset, n)
        ) AS l;
    FOR account IN SELECT DISTINCT c FROM unnest(ids[:total]) AS c ORDER BY c LOOP
        available := ledger.fold_account(account);
        taken := 0;
        FOR i IN 1..total LOOP
            CONTINUE WHEN ids[i] <> account;
            prints[i] := sha256(convert_to(ROW('hold_placed', p_hold_ids[i], p_brands[i],
                p_players[i], p_assets[i], p_amounts[i])::text, 'UTF8'));
            SELECT k.fingerprint INTO old_print
                FROM ledger.posting_keys k WHERE k.reference = p_references[i];
            IF FOUND THEN
                IF old_print <> prints[i] THEN
                    RAISE EXCEPTION 'reference % was posted with other content', p_references[i]
                        USING ERRCODE = 'CG004';
                END IF;
                answers[i] := true;
            ELSIF taken + p_amounts[i] <= available THEN
                INSERT INTO ledger.posting_keys
                    VALUES (p_references[i], p_posting_ids[i], p_at, prints[i]);
                taken := taken + p_amounts[i];
                answers[i] := true;
                fresh := fresh || i;
            END IF;
        END LOOP;
        IF taken > 0 THEN
            UPDATE ledger.balances SET balance = balance - taken WHERE account_id = account;
        END IF;
    END LOOP;
    PERFORM ledger.open_holds(p_at, h.ids, h.brands, h.players, h.assets, h.amounts)
        FROM (SELECT array_agg(p_hold_ids[i]) AS ids, array_agg(p_brands[i]) AS brands,
                array_agg(p_players[i]) AS players, array_agg(p_assets[i]) AS assets,
                array_agg(p_amounts[i]) AS amounts
              FROM unnest(fresh) AS i) AS h
        WHERE h.ids IS NOT NULL;
    INSERT INTO ledger.postings (id, booked_at, reference, kind)
        SELECT p_posting_ids[i], p_at, p_references[i], 'hold_placed' FROM unnest(fresh) AS i;
    INSERT INTO ledger.entries (posting_id, line, booked_at, account_id, asset, side, amount, brand_tag)
        SELECT p_posting_ids[i], s.line, p_at, s.account, p_assets[i], s.side, p_amounts[i], p_brands[i]
        FROM unnest(fresh) AS i,
            LATERAL (VALUES (1, ids[i], 'debit'), (2, ids[total + i], 'credit'))
                AS s (line, account, side);
    INSERT INTO ledger.pending_credits (account_id, delta)
        SELECT ids[total + i], p_amounts[i] FROM unnest(fresh) AS i;
    RETURN answers;
END
$$;

-- The hold rows of fresh reservations. A hold that was given back may be placed once more, under
-- another reference; one that is taken raises CG007.
CREATE FUNCTION ledger.open_holds(
    p_at timestamptz, p_ids uuid[], p_brands text[], p_players text[], p_assets text[],
    p_amounts numeric[]
) RETURNS void
LANGUAGE plpgsql AS $$
DECLARE
    opened integer;
BEGIN
    INSERT INTO ledger.holds AS h (id, brand, player_id, asset, amount, state, created_at)
        SELECT r.id, r.brand, r.player, r.asset, r.amount, 'open', p_at
        FROM unnest(p_ids, p_brands, p_players, p_assets, p_amounts)
            AS r (id, brand, player, asset, amount)
        ON CONFLICT (id) DO UPDATE SET state = 'open', cycle = h.cycle + 1, resolved_at = NULL
        WHERE h.state IN ('released', 'returned')
            AND (h.brand, h.player_id, h.asset, h.amount)
                = (excluded.brand, excluded.player_id, excluded.asset, excluded.amount);
    GET DIAGNOSTICS opened = ROW_COUNT;
    IF opened <> cardinality(p_ids) THEN
        RAISE EXCEPTION 'a hold is taken already' USING ERRCODE = 'CG007';
    END IF;
END
$$;

-- Moves a hold and, where money changes its stage, posts that in the same call. Each step at most
-- once (L07): the row must be in the state that the step starts from, or CG007. In a later cycle of
-- a hold the reference gets the cycle's number.
CREATE FUNCTION ledger.move_hold(
    p_id uuid, p_to text, p_reopens boolean, p_reference text, p_at timestamptz
) RETURNS void
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog AS $$
DECLARE
    hold ledger.holds;
    source text;
    target text;
    repaid numeric := 0;
    reference text;
BEGIN
    UPDATE ledger.holds h
        SET state = p_to, resolved_at = CASE WHEN p_to = 'captured' THEN NULL ELSE p_at END
        WHERE h.id = p_id AND (h.state, p_to, p_reopens) IN (
            ('open', 'captured', false), ('open', 'released', false),
            ('captured', 'settled', false), ('captured', 'returned', false),
            ('settled', 'captured', true))
        RETURNING * INTO hold;
    IF NOT FOUND THEN
        RAISE EXCEPTION 'hold % is not where % starts', p_id, p_to USING ERRCODE = 'CG007';
    END IF;
    PERFORM ledger.refuse_foreign(ARRAY[hold.brand]);
    IF p_reopens OR p_to = 'settled' THEN
        RETURN;  -- the caller's posting moves the money
    END IF;
    source := CASE p_to WHEN 'returned' THEN 'in_flight' ELSE 'reserved' END;
    target := CASE p_to WHEN 'captured' THEN 'in_flight' ELSE 'clearing' END;
    IF target = 'clearing' THEN
        repaid := ledger.repaid_first(hold.brand, hold.asset, hold.amount);
    END IF;
    reference := p_reference || CASE hold.cycle WHEN 1 THEN '' ELSE ':' || hold.cycle END;
    -- The posting's id is fixed by its reference.
    PERFORM ledger.post(md5('hold:' || reference)::uuid, p_at, reference, 'hold_' || p_to, NULL, NULL,
            NULL, NULL, NULL,
            array_agg(l.code), array_agg(l.kind), array_agg(hold.asset), array_agg(hold.brand),
            array_agg(l.player), array_agg(NULL::text), array_agg(l.side), array_agg(l.amount),
            array_agg(hold.brand))
        FROM (VALUES
            ('player:' || hold.brand || ':' || hold.player_id || ':' || source || ':' || hold.asset,
             source, hold.player_id, 'debit', hold.amount),
            (CASE target WHEN 'clearing' THEN 'brand:' || hold.brand || ':clearing:' || hold.asset
                ELSE 'player:' || hold.brand || ':' || hold.player_id || ':in_flight:' || hold.asset
                END,
             target, CASE target WHEN 'clearing' THEN NULL ELSE hold.player_id END, 'credit',
             hold.amount - repaid),
            ('receivable:' || hold.brand || ':' || hold.asset, 'receivable', NULL, 'credit', repaid)
        ) AS l (code, kind, player, side, amount)
        WHERE l.amount > 0;
END
$$;

REVOKE EXECUTE ON ALL FUNCTIONS IN SCHEMA ledger FROM PUBLIC;
GRANT EXECUTE ON FUNCTION ledger.post, ledger.place_many, ledger.move_hold, ledger.repaid_first,
    ledger.lock_clearing TO gateway_api, gateway_payouts, watchers;
GRANT EXECUTE ON FUNCTION ledger.fold TO gateway_payouts, watchers, scheduler;
GRANT EXECUTE ON FUNCTION ledger.ensure_partitions TO scheduler;
