-- The ledger set-wise: many postings in one call, a fixed number of statements however many.

-- Books many postings. Postings and lines are parallel arrays; `p_of` names each line's posting,
-- counted from 1. The guarantees are those of ledger.post, posting by posting: idempotent by
-- reference (CG004 for other content, also within the call), balanced per asset (CG002, CG003), an
-- account of another owner is refused (CG008). What a checked account gives is counted against
-- what stands there with all that the call adds to it: below zero at its end is CG005.
CREATE FUNCTION ledger.post_many(
    p_at timestamptz,
    p_ids uuid[], p_references text[], p_kinds text[], p_reasons text[], p_reverses uuid[],
    p_networks text[], p_block_hashes text[], p_block_heights bigint[],
    p_of integer[], p_codes text[], p_account_kinds text[], p_assets text[], p_brands text[],
    p_players text[], p_wallets text[], p_sides text[], p_amounts numeric[], p_tags text[]
) RETURNS TABLE (posting_id uuid, is_new boolean)
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog AS $$
#variable_conflict use_column
DECLARE
    fresh uuid[];
    wrong text;
    take_ids bigint[];
    take_amounts numeric[];
BEGIN
    PERFORM ledger.refuse_foreign(p_brands);
    PERFORM ledger.open_accounts(
        p_codes, p_account_kinds, p_assets, p_brands, p_players, p_wallets);
    SELECT l.code INTO wrong
        FROM unnest(p_codes, p_brands) AS l (code, brand) JOIN ledger.accounts a ON a.code = l.code
        WHERE a.brand IS DISTINCT FROM l.brand LIMIT 1;
    IF FOUND THEN  -- a code of one owner under another's name
        RAISE EXCEPTION 'account % belongs to another owner', wrong USING ERRCODE = 'CG008';
    END IF;
    IF (SELECT count(DISTINCT o.of) FROM unnest(p_of) AS o (of)
            WHERE o.of BETWEEN 1 AND cardinality(p_ids)) <> cardinality(p_ids)
            OR EXISTS (SELECT 1 FROM unnest(p_amounts) AS l (amount)
                       WHERE (l.amount = trunc(l.amount)) IS NOT TRUE) THEN
        RAISE EXCEPTION 'a posting has no lines, or an amount that is not whole minor units'
            USING ERRCODE = 'CG002';
    END IF;
    -- In one order, so that two calls with the same references cannot deadlock.
    WITH booked AS (
        INSERT INTO ledger.postings AS p
            SELECT r.reference, r.id, p_at, r.kind, r.reason, r.reverses, r.network,
                r.block_hash, r.block_height
            FROM unnest(p_references, p_ids, p_kinds, p_reasons, p_reverses, p_networks,
                    p_block_hashes, p_block_heights) WITH ORDINALITY
                AS r (reference, id, kind, reason, reverses, network, block_hash, block_height, n)
            ORDER BY r.reference, r.n
            ON CONFLICT (reference) DO NOTHING RETURNING p.id
    ) SELECT coalesce(array_agg(b.id), '{}') INTO fresh FROM booked b;
    WITH head AS MATERIALIZED (
        SELECT r.id, r.n FROM unnest(p_ids) WITH ORDINALITY AS r (id, n)
        JOIN unnest(fresh) AS f (id) ON f.id = r.id
    ), line AS MATERIALIZED (
        SELECT h.id AS posting_id, row_number() OVER (PARTITION BY l.of ORDER BY l.n) AS line,
            a.id AS account_id, l.asset, l.side, l.amount, l.tag, a.is_checked,
            l.side = a.normal_side AS is_raised
        FROM unnest(p_of, p_codes, p_assets, p_sides, p_amounts, p_tags) WITH ORDINALITY
            AS l (of, code, asset, side, amount, tag, n)
        JOIN head h ON h.n = l.of
        JOIN ledger.accounts a ON a.code = l.code
    ), entered AS (
        INSERT INTO ledger.entries
            SELECT l.posting_id, l.line, p_at, l.account_id, l.asset, l.side, l.amount, l.tag
            FROM line l
    ), pending AS (
        INSERT INTO ledger.pending_credits
            SELECT l.account_id, sum(CASE WHEN l.is_raised THEN l.amount ELSE -l.amount END)
            FROM line l WHERE l.is_raised OR NOT l.is_checked GROUP BY l.account_id
    )
    SELECT array_agg(t.account_id ORDER BY t.account_id), array_agg(t.amount ORDER BY t.account_id)
        INTO take_ids, take_amounts
        FROM (SELECT l.account_id, sum(l.amount) AS amount FROM line l
              WHERE l.is_checked AND NOT l.is_raised GROUP BY l.account_id) AS t;
    IF take_ids IS NOT NULL THEN
        PERFORM ledger.take_many(take_ids, take_amounts);
    END IF;
    IF cardinality(fresh) < cardinality(p_ids) THEN
        SELECT d.reference INTO wrong FROM ledger.differing(p_references, p_kinds, p_reverses,
            p_networks, p_block_hashes, p_block_heights, p_of, p_codes, p_sides, p_amounts, p_tags)
            AS d (reference) LIMIT 1;
        IF FOUND THEN
            RAISE EXCEPTION 'reference % was posted with other content', wrong
                USING ERRCODE = 'CG004', DETAIL = wrong;
        END IF;
    END IF;
    RETURN QUERY
        SELECT p.id, f.id IS NOT NULL
        FROM unnest(p_references, p_ids) WITH ORDINALITY AS r (reference, id, n)
        JOIN ledger.postings p ON p.reference = r.reference
        LEFT JOIN unnest(fresh) AS f (id) ON f.id = r.id
        ORDER BY r.n;
END
$$;

-- Opens the accounts that do not exist, in code order, so that two calls cannot deadlock on each
-- other's new accounts.
CREATE FUNCTION ledger.open_accounts(
    p_codes text[], p_kinds text[], p_assets text[], p_brands text[], p_players text[],
    p_wallets text[]
) RETURNS void
LANGUAGE sql AS $$
    WITH opened AS (
        INSERT INTO ledger.accounts AS a (code, kind, asset, brand, player_id, wallet)
            SELECT DISTINCT ON (l.code) l.code, l.kind, l.asset, l.brand, l.player, l.wallet
            FROM ROWS FROM (pg_catalog.unnest(p_codes), pg_catalog.unnest(p_kinds),
                    pg_catalog.unnest(p_assets), pg_catalog.unnest(p_brands),
                    pg_catalog.unnest(p_players), pg_catalog.unnest(p_wallets))
                AS l (code, kind, asset, brand, player, wallet)
            WHERE NOT EXISTS (SELECT 1 FROM ledger.accounts x WHERE x.code = l.code)
            ORDER BY l.code
            ON CONFLICT (code) DO NOTHING RETURNING a.id, a.is_checked
    ), checked AS (
        INSERT INTO ledger.checked_balances (account_id)
            SELECT o.id FROM opened o WHERE o.is_checked
    )
    INSERT INTO ledger.free_balances (account_id) SELECT o.id FROM opened o WHERE NOT o.is_checked
$$;

-- Takes from checked accounts: distinct ids in their order, one amount each. Rows are held in that
-- order; pending rows are folded in only where the balance row alone is short.
CREATE FUNCTION ledger.take_many(p_accounts bigint[], p_amounts numeric[]) RETURNS void
LANGUAGE plpgsql AS $$
DECLARE
    changes numeric[];
    short_of text;
BEGIN
    PERFORM 1 FROM ledger.checked_balances b WHERE b.account_id = ANY (p_accounts)
        ORDER BY b.account_id FOR UPDATE;
    WITH gone AS (
        DELETE FROM ledger.pending_credits p USING ledger.checked_balances b,
                unnest(p_accounts, p_amounts) AS t (id, amount)
            WHERE b.account_id = t.id AND p.account_id = t.id AND b.balance < t.amount
            RETURNING p.account_id, p.delta
    ), folded AS (
        SELECT g.account_id, sum(g.delta) AS delta FROM gone g GROUP BY g.account_id
    )
    SELECT array_agg(coalesce(f.delta, 0) - t.amount ORDER BY t.n),
            min(a.code) FILTER (WHERE b.balance + coalesce(f.delta, 0) < t.amount)
        INTO changes, short_of
        FROM unnest(p_accounts, p_amounts) WITH ORDINALITY AS t (id, amount, n)
        JOIN ledger.checked_balances b ON b.account_id = t.id
        JOIN ledger.accounts a ON a.id = t.id
        LEFT JOIN folded f ON f.account_id = t.id;
    IF short_of IS NOT NULL THEN
        RAISE EXCEPTION 'not enough on the account for the postings of one call'
            USING ERRCODE = 'CG005', DETAIL = short_of;
    END IF;
    UPDATE ledger.checked_balances b SET balance = b.balance + t.change
        FROM unnest(p_accounts, changes) AS t (id, change) WHERE b.account_id = t.id;
END
$$;

REVOKE EXECUTE ON FUNCTION ledger.post_many, ledger.open_accounts, ledger.take_many
    FROM PUBLIC;
GRANT EXECUTE ON FUNCTION ledger.post_many TO gateway_api, gateway_payouts, watchers;
