-- Reservations that wait together cost a statement per group where they cost one or more each: what is
-- known of their references, their postings, the accounts of players who never had one.

-- The ids of accounts, in order; opens those that do not exist. In code order, so that two first
-- postings cannot deadlock on each other's new accounts. Arrays are parallel.
CREATE OR REPLACE FUNCTION ledger.account_ids(
    p_codes text[], p_kinds text[], p_assets text[], p_brands text[], p_players text[],
    p_wallets text[]
) RETURNS bigint[]
LANGUAGE plpgsql AS $$
DECLARE
    ids bigint[];
BEGIN
    -- One by one in the index, whatever was known of the table when this was planned.
    SELECT array_agg((SELECT a.id FROM ledger.accounts a WHERE a.code = l.code) ORDER BY l.n) INTO ids
        FROM unnest(p_codes) WITH ORDINALITY AS l (code, n);
    IF array_position(ids, NULL) IS NULL THEN
        RETURN ids;
    END IF;
    WITH wanted AS (
        SELECT l.code, min(l.n) AS n FROM unnest(p_codes) WITH ORDINALITY AS l (code, n)
        WHERE ids[l.n] IS NULL GROUP BY l.code
    ), opened AS (
        INSERT INTO ledger.accounts AS a (code, kind, asset, brand, player_id, wallet)
        SELECT w.code, p_kinds[w.n], p_assets[w.n], p_brands[w.n], p_players[w.n], p_wallets[w.n]
        FROM wanted w ORDER BY w.code
        ON CONFLICT (code) DO NOTHING RETURNING a.id, a.is_checked
    ), checked AS (
        INSERT INTO ledger.checked_balances (account_id)
        SELECT o.id FROM opened o WHERE o.is_checked
    )
    INSERT INTO ledger.free_balances (account_id)
        SELECT o.id FROM opened o WHERE NOT o.is_checked;
    SELECT array_agg((SELECT a.id FROM ledger.accounts a WHERE a.code = l.code) ORDER BY l.n) INTO ids
        FROM unnest(p_codes) WITH ORDINALITY AS l (code, n);
    RETURN ids;
END
$$;

-- Reserves from clearing, set-wise: up to 200 requests, one answer each, in order. Requests on one
-- clearing account hold its row once; one that does not fit answers false and later ones may fit.
-- A reference that was placed before answers true again (CG004 for other content).
CREATE OR REPLACE FUNCTION ledger.place_many(
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
    before integer[];
    added integer[];
    names text[];  -- the references of `added`, where one stands twice in this call
    is_twice boolean;
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
    is_twice := (SELECT count(DISTINCT r) FROM unnest(p_references) AS r) < total;
    FOR account IN SELECT DISTINCT c FROM unnest(ids[:total]) AS c ORDER BY c LOOP
        available := ledger.fold_account(account);
        taken := 0;
        added := '{}';
        names := '{}';
        -- Behind the lock, so that what others placed on this account until now is among them.
        SELECT coalesce(array_agg(r.n), '{}') INTO before
            FROM unnest(p_references) WITH ORDINALITY AS r (reference, n)
            WHERE ids[r.n] = account
                AND (SELECT true FROM ledger.postings p WHERE p.reference = r.reference);
        FOR i IN 1..total LOOP
            CONTINUE WHEN ids[i] <> account;
            IF i = ANY (before) OR (is_twice AND p_references[i] = ANY (names)) THEN
                answers[i] := true;
                known := known || i;
            ELSIF taken + p_amounts[i] <= available THEN
                taken := taken + p_amounts[i];
                answers[i] := true;
                added := added || i;
                IF is_twice THEN
                    names := names || p_references[i];
                END IF;
            END IF;
        END LOOP;
        IF taken > 0 THEN
            INSERT INTO ledger.postings (reference, id, booked_at, kind)
                SELECT p_references[i], p_posting_ids[i], p_at, 'hold_placed' FROM unnest(added) AS i;
            UPDATE ledger.checked_balances SET balance = balance - taken
                WHERE account_id = account;
            fresh := fresh || added;
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
