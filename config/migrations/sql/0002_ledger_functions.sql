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
        INSERT INTO ledger.checked_balances (account_id)
            SELECT a.id FROM ledger.accounts a WHERE a.id = opened AND a.is_checked;
        INSERT INTO ledger.free_balances (account_id)
            SELECT a.id FROM ledger.accounts a WHERE a.id = opened AND NOT a.is_checked;
    END LOOP;
    SELECT array_agg(a.id ORDER BY l.n) INTO ids
        FROM unnest(p_codes) WITH ORDINALITY AS l (code, n)
        JOIN ledger.accounts a ON a.code = l.code;
    RETURN ids;
END
$$;

-- Adds a checked account's pending rows to its balance row, which the caller has locked or will
-- lock here.
CREATE FUNCTION ledger.fold_account(p_account bigint) RETURNS numeric
LANGUAGE plpgsql AS $$
DECLARE
    folded numeric;
    result numeric;
BEGIN
    PERFORM 1 FROM ledger.checked_balances WHERE account_id = p_account FOR UPDATE;
    WITH gone AS (
        DELETE FROM ledger.pending_credits WHERE account_id = p_account RETURNING delta
    ) SELECT coalesce(sum(delta), 0) INTO folded FROM gone;
    UPDATE ledger.checked_balances SET balance = balance + folded WHERE account_id = p_account
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
    held bigint[];
BEGIN
    SELECT array_agg(p.account_id) INTO accounts FROM (
        SELECT DISTINCT account_id FROM ledger.pending_credits ORDER BY 1 LIMIT p_limit) AS p;
    SELECT array_agg(l.account_id) INTO held FROM (
        SELECT account_id FROM ledger.checked_balances WHERE account_id = ANY (accounts)
            ORDER BY account_id FOR UPDATE SKIP LOCKED) AS l;
    SELECT held || array_agg(l.account_id) INTO accounts FROM (
        SELECT account_id FROM ledger.free_balances WHERE account_id = ANY (accounts)
            ORDER BY account_id FOR UPDATE SKIP LOCKED) AS l;
    WITH gone AS (
        DELETE FROM ledger.pending_credits p WHERE p.account_id = ANY (accounts)
            RETURNING p.account_id, p.delta
    ), folded AS (
        SELECT g.account_id, sum(g.delta) AS delta FROM gone g GROUP BY g.account_id
    ), checked AS (
        UPDATE ledger.checked_balances b SET balance = b.balance + f.delta
            FROM folded f WHERE b.account_id = f.account_id
    )
    UPDATE ledger.free_balances b SET balance = b.balance + f.delta
        FROM folded f WHERE b.account_id = f.account_id;
    RETURN coalesce(cardinality(accounts), 0);
END
$$;

-- Takes from a checked account.
CREATE FUNCTION ledger.take(p_account bigint, p_amount numeric, p_reference text) RETURNS void
LANGUAGE plpgsql AS $$
BEGIN
    UPDATE ledger.checked_balances b SET balance = b.balance - p_amount
        WHERE b.account_id = p_account AND b.balance >= p_amount;
    IF NOT FOUND THEN
        PERFORM ledger.take_folded(p_account, p_amount, p_reference);
    END IF;
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
    UPDATE ledger.checked_balances SET balance = balance - p_amount WHERE account_id = p_account;
END
$$;

-- Which of these references stand for other content than is given here. Postings and lines are
-- parallel arrays, `p_of` names each line's posting, counted from 1. Entries that were put away with
-- their month are other content: what cannot be compared is refused.
CREATE FUNCTION ledger.differing(
    p_references text[], p_kinds text[], p_reverses uuid[], p_networks text[],
    p_block_hashes text[], p_block_heights bigint[],
    p_of integer[], p_codes text[], p_sides text[], p_amounts numeric[], p_tags text[]
) RETURNS SETOF text
LANGUAGE sql STABLE AS $$
    WITH given AS (
        SELECT o.of, array_agg(ROW(o.code, o.side, o.amount, o.tag) ORDER BY o.n) AS lines
        FROM ROWS FROM (pg_catalog.unnest(p_of), pg_catalog.unnest(p_codes),
                pg_catalog.unnest(p_sides), pg_catalog.unnest(p_amounts),
                pg_catalog.unnest(p_tags)) WITH ORDINALITY AS o (of, code, side, amount, tag, n)
        GROUP BY o.of
    )
    SELECT r.reference
    FROM ROWS FROM (pg_catalog.unnest(p_references), pg_catalog.unnest(p_kinds),
            pg_catalog.unnest(p_reverses), pg_catalog.unnest(p_networks),
            pg_catalog.unnest(p_block_hashes), pg_catalog.unnest(p_block_heights)) WITH ORDINALITY
        AS r (reference, kind, reverses, network, block_hash, block_height, n)
    JOIN ledger.postings p ON p.reference = r.reference
    LEFT JOIN given g ON g.of = r.n
    WHERE (r.kind, r.reverses, r.network, r.block_hash, r.block_height, g.lines)
        IS DISTINCT FROM (p.kind, p.reverses, p.network, p.block_hash, p.block_height,
            (SELECT array_agg(ROW(a.code, e.side::text, e.amount::numeric, e.brand_tag)
                    ORDER BY e.line)
             FROM ledger.entries e JOIN ledger.accounts a ON a.id = e.account_id
             WHERE e.posting_id = p.id AND e.booked_at = p.booked_at))
$$;

-- One posting, one round trip. Lines are parallel arrays. Idempotent by reference: the same content
-- answers the first id and is_new = false; other content raises CG004. A checked account that
-- would go below zero raises CG005 with its code in DETAIL.
--
-- Written for few instructions (docs/BENCHMARKS.md): statements of one row, whose plans each
-- connection keeps, cost less than one statement that does everything, and so do few expressions.
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
    account bigint;
    delta numeric;  -- signed by the account's normal side; NULL: the line lowers a checked account
    fits boolean;
    ids bigint[] := '{}';
    take_id bigint;
    take_amount numeric;
    more_ids bigint[];
    more_amounts numeric[];
BEGIN
    IF current_setting('cage.brand', true) IS DISTINCT FROM '*' THEN
        PERFORM ledger.refuse_foreign(p_brands);
    END IF;
    INSERT INTO ledger.postings SELECT p_reference, p_id, p_at, p_kind, p_reason, p_reverses,
            p_network, p_block_hash, p_block_height
        WHERE num_nulls(p_network, p_block_hash, p_block_height) IN (0, 3)
            AND cardinality(p_codes) > 0
        ON CONFLICT (reference) DO NOTHING;
    IF NOT FOUND THEN
        posting_id := ledger.posted_before(p_reference, p_kind, p_reverses, p_network, p_block_hash,
            p_block_height, p_codes, p_sides, p_amounts, p_tags);
        is_new := false;
        RETURN;
    END IF;
    FOR n IN 1..cardinality(p_codes) LOOP
        SELECT a.id, a.brand IS NOT DISTINCT FROM p_brands[n]
                    AND p_amounts[n] = trunc(p_amounts[n]),
                CASE WHEN p_sides[n] = a.normal_side THEN p_amounts[n]
                    WHEN NOT a.is_checked THEN -p_amounts[n] END
            INTO account, fits, delta FROM ledger.accounts a WHERE a.code = p_codes[n];
        IF fits IS NOT TRUE THEN
            SELECT f.account, f.delta INTO account, delta FROM ledger.fitted(n, p_reference, p_codes,
                p_kinds, p_assets, p_brands, p_players, p_wallets, p_sides, p_amounts) AS f;
        END IF;
        ids := ids || account;
        IF delta IS NOT NULL THEN
            INSERT INTO ledger.pending_credits VALUES (account, delta);
        ELSIF take_id IS NULL THEN
            take_id := account;
            take_amount := p_amounts[n];
        ELSE
            more_ids := more_ids || account;
            more_amounts := more_amounts || p_amounts[n];
        END IF;
    END LOOP;
    INSERT INTO ledger.entries
        SELECT p_id, n, p_at, ids[n], p_assets[n], p_sides[n], p_amounts[n], p_tags[n]
        FROM generate_subscripts(ids, 1) AS n;
    IF more_ids IS NOT NULL THEN
        -- In one order, so that two postings cannot deadlock.
        PERFORM ledger.take(t.id, t.amount, p_reference)
            FROM (SELECT t.id, t.amount FROM unnest(more_ids || take_id, more_amounts || take_amount)
                    AS t (id, amount) ORDER BY t.id, t.amount) AS t;
    ELSIF take_id IS NOT NULL THEN
        UPDATE ledger.checked_balances b SET balance = b.balance - take_amount
            WHERE b.account_id = take_id AND b.balance >= take_amount;
        IF NOT FOUND THEN
            PERFORM ledger.take_folded(take_id, take_amount, p_reference);
        END IF;
    END IF;
    posting_id := p_id;
    is_new := true;
END
$$;

-- The rare half of a posting: no head was written. Answers the first id of a reference that was
-- taken, CG004 for other content; raises for what can be no head.
CREATE FUNCTION ledger.posted_before(
    p_reference text, p_kind text, p_reverses uuid, p_network text, p_block_hash text,
    p_block_height bigint, p_codes text[], p_sides text[], p_amounts numeric[], p_tags text[]
) RETURNS uuid
LANGUAGE plpgsql AS $$
BEGIN
    IF num_nulls(p_network, p_block_hash, p_block_height) NOT IN (0, 3) THEN
        RAISE EXCEPTION 'posting %: network, hash and height of a block come together', p_reference
            USING ERRCODE = 'check_violation';
    END IF;
    IF coalesce(cardinality(p_codes), 0) = 0 THEN
        RAISE EXCEPTION 'posting % has no lines', p_reference USING ERRCODE = 'CG002';
    END IF;
    IF EXISTS (SELECT 1 FROM ledger.differing(ARRAY[p_reference], ARRAY[p_kind],
            ARRAY[p_reverses], ARRAY[p_network], ARRAY[p_block_hash], ARRAY[p_block_height],
            array_fill(1, ARRAY[cardinality(p_codes)]), p_codes, p_sides, p_amounts, p_tags)) THEN
        RAISE EXCEPTION 'reference % was posted with other content', p_reference
            USING ERRCODE = 'CG004';
    END IF;
    RETURN (SELECT p.id FROM ledger.postings p WHERE p.reference = p_reference);
END
$$;

-- The other rare half: a line does not fit. Raises for what is wrong with the lines, opens the
-- accounts that are missing, and answers line `p_n`.
CREATE FUNCTION ledger.fitted(
    p_n integer, p_reference text, p_codes text[], p_kinds text[], p_assets text[],
    p_brands text[], p_players text[], p_wallets text[], p_sides text[], p_amounts numeric[],
    OUT account bigint, OUT delta numeric
)
LANGUAGE plpgsql AS $$
DECLARE
    wrong text;
BEGIN
    IF EXISTS (SELECT 1 FROM unnest(p_amounts) AS l (amount)
               WHERE (l.amount = trunc(l.amount)) IS NOT TRUE) THEN
        RAISE EXCEPTION 'posting %: an amount is not a whole number of minor units', p_reference
            USING ERRCODE = 'CG002';
    END IF;
    PERFORM ledger.account_ids(p_codes, p_kinds, p_assets, p_brands, p_players, p_wallets);
    SELECT l.code INTO wrong
        FROM unnest(p_codes, p_brands) AS l (code, brand) JOIN ledger.accounts a ON a.code = l.code
        WHERE a.brand IS DISTINCT FROM l.brand LIMIT 1;
    IF FOUND THEN  -- a code of one owner under another's name
        RAISE EXCEPTION 'account % belongs to another owner', wrong USING ERRCODE = 'CG008';
    END IF;
    SELECT a.id, CASE WHEN p_sides[p_n] = a.normal_side THEN p_amounts[p_n]
                WHEN NOT a.is_checked THEN -p_amounts[p_n] END
        INTO account, delta FROM ledger.accounts a WHERE a.code = p_codes[p_n];
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
        FROM ledger.accounts a JOIN ledger.checked_balances b ON b.account_id = a.id
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
    known integer[] := '{}';
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
            IF EXISTS (SELECT 1 FROM ledger.postings p WHERE p.reference = p_references[i]) THEN
                answers[i] := true;
                known := known || i;
            ELSIF taken + p_amounts[i] <= available THEN
                INSERT INTO ledger.postings (reference, id, booked_at, kind)
                    VALUES (p_references[i], p_posting_ids[i], p_at, 'hold_placed');
                taken := taken + p_amounts[i];
                answers[i] := true;
                fresh := fresh || i;
            END IF;
        END LOOP;
        IF taken > 0 THEN
            UPDATE ledger.checked_balances SET balance = balance - taken
                WHERE account_id = account;
        END IF;
    END LOOP;
    PERFORM ledger.open_holds(p_at, h.ids, h.brands, h.players, h.assets, h.amounts)
        FROM (SELECT array_agg(p_hold_ids[i]) AS ids, array_agg(p_brands[i]) AS brands,
                array_agg(p_players[i]) AS players, array_agg(p_assets[i]) AS assets,
                array_agg(p_amounts[i]) AS amounts
              FROM unnest(fresh) AS i) AS h
        WHERE h.ids IS NOT NULL;
    INSERT INTO ledger.entries (posting_id, line, booked_at, account_id, asset, side, amount, brand_tag)
        SELECT p_posting_ids[i], s.line, p_at, s.account, p_assets[i], s.side, p_amounts[i], p_brands[i]
        FROM unnest(fresh) AS i,
            LATERAL (VALUES (1, ids[i], 'debit'), (2, ids[total + i], 'credit'))
                AS s (line, account, side);
    INSERT INTO ledger.pending_credits (account_id, delta)
        SELECT ids[total + i], p_amounts[i] FROM unnest(fresh) AS i;
    IF cardinality(known) > 0 THEN
        PERFORM ledger.refuse_other_holds(h.ids, h.refs, h.brands, h.players, h.assets, h.amounts)
            FROM (SELECT array_agg(p_hold_ids[i]) AS ids, array_agg(p_references[i]) AS refs,
                    array_agg(p_brands[i]) AS brands, array_agg(p_players[i]) AS players,
                    array_agg(p_assets[i]) AS assets, array_agg(p_amounts[i]) AS amounts
                  FROM unnest(known) AS i) AS h;
    END IF;
    RETURN answers;
END
$$;

-- CG004 when one of these references stands for other content than this reservation.
CREATE FUNCTION ledger.refuse_other_holds(
    p_ids uuid[], p_references text[], p_brands text[], p_players text[], p_assets text[],
    p_amounts numeric[]
) RETURNS void
LANGUAGE plpgsql STABLE AS $$
DECLARE
    total integer := cardinality(p_ids);
    wrong text;
BEGIN
    SELECT r.reference INTO wrong
        FROM unnest(p_ids, p_references, p_brands, p_players, p_assets, p_amounts)
            AS r (id, reference, brand, player, asset, amount)
        WHERE NOT EXISTS (SELECT 1 FROM ledger.holds h
            WHERE (h.id, h.brand, h.player_id, h.asset, h.amount)
                = (r.id, r.brand, r.player, r.asset, r.amount))
        UNION ALL
        SELECT ledger.differing(p_references, array_fill('hold_placed'::text, ARRAY[total]),
            array_fill(NULL::uuid, ARRAY[total]), array_fill(NULL::text, ARRAY[total]),
            array_fill(NULL::text, ARRAY[total]), array_fill(NULL::bigint, ARRAY[total]),
            l.of, l.codes, l.sides, l.amounts, l.tags)
        FROM (
            SELECT array_agg(r.n::integer ORDER BY r.n, s.line) AS of,
                array_agg(s.code ORDER BY r.n, s.line) AS codes,
                array_agg(s.side ORDER BY r.n, s.line) AS sides,
                array_agg(r.amount ORDER BY r.n, s.line) AS amounts,
                array_agg(r.brand ORDER BY r.n, s.line) AS tags
            FROM unnest(p_brands, p_players, p_assets, p_amounts) WITH ORDINALITY
                AS r (brand, player, asset, amount, n)
            CROSS JOIN LATERAL (VALUES
                (1, 'brand:' || r.brand || ':clearing:' || r.asset, 'debit'),
                (2, 'player:' || r.brand || ':' || r.player || ':reserved:' || r.asset, 'credit'))
                AS s (line, code, side)) AS l
        LIMIT 1;
    IF FOUND THEN
        RAISE EXCEPTION 'reference % was posted with other content', wrong
            USING ERRCODE = 'CG004';
    END IF;
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
