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

-- The short loop: folds up to `p_limit` accounts that have pending rows; answers how many. Set-wise,
-- because postings wait for the rows that it holds.
CREATE FUNCTION ledger.fold(p_limit integer) RETURNS integer
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog AS $$
DECLARE
    accounts bigint[];
BEGIN
    SELECT array_agg(l.account_id) INTO accounts FROM (
        SELECT b.account_id FROM ledger.balances b
        WHERE b.account_id IN (
            SELECT DISTINCT p.account_id FROM ledger.pending_credits p ORDER BY 1 LIMIT p_limit)
        ORDER BY b.account_id FOR UPDATE SKIP LOCKED) AS l;
    WITH gone AS (
        DELETE FROM ledger.pending_credits p WHERE p.account_id = ANY (accounts)
            RETURNING p.account_id, p.delta
    )
    UPDATE ledger.balances b SET balance = b.balance + s.folded
        FROM (SELECT g.account_id, sum(g.delta) AS folded FROM gone g GROUP BY g.account_id) AS s
        WHERE b.account_id = s.account_id;
    RETURN coalesce(cardinality(accounts), 0);
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

-- What a reference stands for. In one expression, so that it is inlined into the statement.
CREATE FUNCTION ledger.fingerprint(
    p_kind text, p_reverses uuid, p_network text, p_block_hash text, p_block_height bigint,
    p_codes text[], p_assets text[], p_sides text[], p_amounts numeric[], p_tags text[]
) RETURNS bytea
LANGUAGE sql AS $$
    SELECT pg_catalog.sha256(pg_catalog.convert_to(ROW(p_kind, p_reverses, p_network, p_block_hash,
        p_block_height, p_codes, p_assets, p_sides, p_amounts, p_tags)::text, 'UTF8'))
$$;

-- One posting, one round trip. Lines are parallel arrays. Idempotent by reference: the same content
-- answers the first id and is_new = false; other content raises CG004. A checked account that
-- would go below zero raises CG005 with its code in DETAIL.
--
-- One statement reads the accounts and writes everything, the balance of the one checked account
-- that most postings lower included: on this path each further statement or expression costs as
-- much as the row it writes. It writes nothing when a line does not fit or the reference is taken;
-- ledger.post_unfit then says why or makes it fit.
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
    -- Lines that lower a checked account and are not done yet: there are several, which are taken in
    -- one order so that two postings cannot deadlock, or the balance row alone was not enough. What
    -- the posting itself adds to such an account is pending by then, and take_folded counts it.
    take_ids bigint[];
    take_amounts numeric[];
BEGIN
    IF current_setting('cage.brand', true) IS DISTINCT FROM '*' THEN
        PERFORM ledger.refuse_foreign(p_brands);
    END IF;
    WITH line AS MATERIALIZED (
        SELECT n, a.id, a.is_checked, p_assets[n] AS asset, p_sides[n] AS side,
            p_amounts[n] AS amount, p_tags[n] AS tag, p_sides[n] = a.normal_side AS is_raised,
            a.brand IS NOT DISTINCT FROM p_brands[n] AND p_amounts[n] = trunc(p_amounts[n])
                AND num_nulls(p_network, p_block_hash, p_block_height) IN (0, 3)
                AND a.id IS NOT NULL AS fits
        FROM generate_subscripts(p_codes, 1) AS n
        -- OFFSET 0: always by the code's index, whatever the plan was made from.
        LEFT JOIN LATERAL (SELECT a.id, a.brand, a.normal_side, a.is_checked
            FROM ledger.accounts a WHERE a.code = p_codes[n] OFFSET 0) AS a ON true
    ), key AS (
        INSERT INTO ledger.posting_keys AS k
            SELECT p_reference, p_id, p_at, ledger.fingerprint(p_kind, p_reverses, p_network,
                p_block_hash, p_block_height, p_codes, p_assets, p_sides, p_amounts, p_tags)
            WHERE NOT EXISTS (SELECT 1 FROM line l WHERE NOT l.fits)
            ON CONFLICT (reference) DO NOTHING RETURNING k.posting_id
    ), head AS (
        INSERT INTO ledger.postings
            SELECT p_id, p_at, p_reference, p_kind, p_reason, p_reverses, p_network,
                p_block_hash, p_block_height FROM key
    ), entry AS (
        INSERT INTO ledger.entries
            SELECT p_id, l.n, p_at, l.id, l.asset, l.side, l.amount, l.tag
            FROM line l WHERE EXISTS (SELECT 1 FROM key)
    ), pending AS (
        INSERT INTO ledger.pending_credits
            SELECT l.id, CASE WHEN l.is_raised THEN l.amount ELSE -l.amount END
            FROM line l WHERE (l.is_raised OR NOT l.is_checked) AND EXISTS (SELECT 1 FROM key)
    ), taken AS (
        UPDATE ledger.balances b SET balance = b.balance - t.amount
            FROM (SELECT max(l.id) AS id, max(l.amount) AS amount FROM line l
                  WHERE l.is_checked AND NOT l.is_raised HAVING count(*) = 1) AS t
            WHERE b.account_id = t.id AND b.balance >= t.amount AND EXISTS (SELECT 1 FROM key)
            RETURNING true
    )
    SELECT k.posting_id,
            ARRAY(SELECT l.id FROM line l WHERE l.is_checked AND NOT l.is_raised
                AND NOT EXISTS (SELECT 1 FROM taken)),
            ARRAY(SELECT l.amount FROM line l WHERE l.is_checked AND NOT l.is_raised
                AND NOT EXISTS (SELECT 1 FROM taken))
        INTO posting_id, take_ids, take_amounts FROM key k;
    IF NOT FOUND THEN
        SELECT u.posting_id, u.is_new INTO posting_id, is_new FROM ledger.post_unfit(p_id, p_at,
            p_reference, p_kind, p_reason, p_reverses, p_network, p_block_hash, p_block_height,
            p_codes, p_kinds, p_assets, p_brands, p_players, p_wallets, p_sides, p_amounts,
            p_tags) AS u;
        RETURN;
    END IF;
    is_new := true;
    IF cardinality(take_ids) > 1 THEN
        SELECT array_agg(t.id ORDER BY t.id, t.amount), array_agg(t.amount ORDER BY t.id, t.amount)
            INTO take_ids, take_amounts FROM unnest(take_ids, take_amounts) AS t (id, amount);
    END IF;
    FOR i IN 1..cardinality(take_ids) LOOP
        UPDATE ledger.balances b SET balance = b.balance - take_amounts[i]
            WHERE b.account_id = take_ids[i] AND b.balance >= take_amounts[i];
        IF NOT FOUND THEN
            PERFORM ledger.take_folded(take_ids[i], take_amounts[i], p_reference);
        END IF;
    END LOOP;
END
$$;

-- The rare half of a posting: the reference was taken, an account is missing, or a line is wrong.
CREATE FUNCTION ledger.post_unfit(
    p_id uuid, p_at timestamptz, p_reference text, p_kind text, p_reason text, p_reverses uuid,
    p_network text, p_block_hash text, p_block_height bigint,
    p_codes text[], p_kinds text[], p_assets text[], p_brands text[], p_players text[],
    p_wallets text[], p_sides text[], p_amounts numeric[], p_tags text[],
    OUT posting_id uuid, OUT is_new boolean
)
LANGUAGE plpgsql AS $$
#variable_conflict use_column
DECLARE
    old_print bytea;
    wrong text;
BEGIN
    IF NOT coalesce((SELECT bool_and(l.amount = trunc(l.amount))
                     FROM unnest(p_amounts) AS l (amount)), false) THEN
        RAISE EXCEPTION 'posting %: an amount is not a whole number of minor units', p_reference
            USING ERRCODE = 'CG002';
    END IF;
    IF num_nulls(p_network, p_block_hash, p_block_height) NOT IN (0, 3) THEN
        RAISE EXCEPTION 'posting %: network, hash and height of a block come together', p_reference
            USING ERRCODE = 'check_violation';
    END IF;
    SELECT k.posting_id, k.fingerprint INTO posting_id, old_print
        FROM ledger.posting_keys k WHERE k.reference = p_reference;
    IF FOUND THEN
        IF old_print <> ledger.fingerprint(p_kind, p_reverses, p_network, p_block_hash,
                p_block_height, p_codes, p_assets, p_sides, p_amounts, p_tags) THEN
            RAISE EXCEPTION 'reference % was posted with other content', p_reference
                USING ERRCODE = 'CG004';
        END IF;
        is_new := false;
        RETURN;
    END IF;
    PERFORM ledger.account_ids(p_codes, p_kinds, p_assets, p_brands, p_players, p_wallets);
    SELECT l.code INTO wrong
        FROM unnest(p_codes, p_brands) AS l (code, brand) JOIN ledger.accounts a ON a.code = l.code
        WHERE a.brand IS DISTINCT FROM l.brand LIMIT 1;
    IF FOUND THEN  -- a code of one owner under another's name
        RAISE EXCEPTION 'account % belongs to another owner', wrong USING ERRCODE = 'CG008';
    END IF;
    SELECT p.posting_id, p.is_new INTO posting_id, is_new FROM ledger.post(p_id, p_at, p_reference,
        p_kind, p_reason, p_reverses, p_network, p_block_hash, p_block_height, p_codes, p_kinds,
        p_assets, p_brands, p_players, p_wallets, p_sides, p_amounts, p_tags) AS p;
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
