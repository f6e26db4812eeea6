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
    prints bytea[];
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
    prints := ledger.fingerprints(p_kinds, p_reverses, p_networks, p_block_hashes,
        p_block_heights, p_of, p_codes, p_assets, p_sides, p_amounts, p_tags);
    IF cardinality(prints) IS DISTINCT FROM cardinality(p_ids)
            OR EXISTS (SELECT 1 FROM unnest(p_amounts) AS l (amount)
                       WHERE (l.amount = trunc(l.amount)) IS NOT TRUE) THEN
        RAISE EXCEPTION 'a posting has no lines, or an amount that is not whole minor units'
            USING ERRCODE = 'CG002';
    END IF;
    -- In one order, so that two calls with the same references cannot deadlock.
    WITH keyed AS (
        INSERT INTO ledger.posting_keys AS k
            SELECT r.reference, r.id, p_at, r.print
            FROM unnest(p_references, p_ids, prints) WITH ORDINALITY AS r (reference, id, print, n)
            ORDER BY r.reference, r.n
            ON CONFLICT (reference) DO NOTHING RETURNING k.posting_id
    ) SELECT coalesce(array_agg(k.posting_id), '{}') INTO fresh FROM keyed k;
    IF cardinality(fresh) < cardinality(p_ids) THEN
        SELECT r.reference INTO wrong
            FROM unnest(p_references, prints) AS r (reference, print)
            JOIN ledger.posting_keys k ON k.reference = r.reference
            WHERE k.fingerprint <> r.print LIMIT 1;
        IF FOUND THEN
            RAISE EXCEPTION 'reference % was posted with other content', wrong
                USING ERRCODE = 'CG004', DETAIL = wrong;
        END IF;
    END IF;
    WITH head AS MATERIALIZED (
        SELECT r.* FROM unnest(p_ids, p_references, p_kinds, p_reasons, p_reverses, p_networks,
                p_block_hashes, p_block_heights) WITH ORDINALITY
            AS r (id, reference, kind, reason, reverses, network, block_hash, block_height, n)
        JOIN unnest(fresh) AS f (id) ON f.id = r.id
    ), line AS MATERIALIZED (
        SELECT h.id AS posting_id, row_number() OVER (PARTITION BY l.of ORDER BY l.n) AS line,
            a.id AS account_id, l.asset, l.side, l.amount, l.tag, a.is_checked,
            l.side = a.normal_side AS is_raised
        FROM unnest(p_of, p_codes, p_assets, p_sides, p_amounts, p_tags) WITH ORDINALITY
            AS l (of, code, asset, side, amount, tag, n)
        JOIN head h ON h.n = l.of
        JOIN ledger.accounts a ON a.code = l.code
    ), booked AS (
        INSERT INTO ledger.postings
            SELECT h.id, p_at, h.reference, h.kind, h.reason, h.reverses, h.network,
                h.block_hash, h.block_height FROM head h
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
    RETURN QUERY
        SELECT k.posting_id, f.id IS NOT NULL
        FROM unnest(p_references, p_ids) WITH ORDINALITY AS r (reference, id, n)
        JOIN ledger.posting_keys k ON k.reference = r.reference
        LEFT JOIN unnest(fresh) AS f (id) ON f.id = r.id
        ORDER BY r.n;
END
$$;

-- What the postings of one call stand for, each as ledger.fingerprint has it; one without lines
-- is left out.
CREATE FUNCTION ledger.fingerprints(
    p_kinds text[], p_reverses uuid[], p_networks text[], p_block_hashes text[],
    p_block_heights bigint[], p_of integer[], p_codes text[], p_assets text[], p_sides text[],
    p_amounts numeric[], p_tags text[]
) RETURNS bytea[]
LANGUAGE sql STABLE AS $$
    SELECT pg_catalog.array_agg(ledger.fingerprint(r.kind, r.reverses, r.network, r.block_hash,
            r.block_height, l.codes, l.assets, l.sides, l.amounts, l.tags) ORDER BY r.n)
        FROM ROWS FROM (pg_catalog.unnest(p_kinds), pg_catalog.unnest(p_reverses),
                pg_catalog.unnest(p_networks), pg_catalog.unnest(p_block_hashes),
                pg_catalog.unnest(p_block_heights)) WITH ORDINALITY
            AS r (kind, reverses, network, block_hash, block_height, n)
        JOIN (SELECT o.of, pg_catalog.array_agg(o.code ORDER BY o.n) AS codes,
                pg_catalog.array_agg(o.asset ORDER BY o.n) AS assets,
                pg_catalog.array_agg(o.side ORDER BY o.n) AS sides,
                pg_catalog.array_agg(o.amount ORDER BY o.n) AS amounts,
                pg_catalog.array_agg(o.tag ORDER BY o.n) AS tags
              FROM ROWS FROM (pg_catalog.unnest(p_of), pg_catalog.unnest(p_codes),
                    pg_catalog.unnest(p_assets), pg_catalog.unnest(p_sides),
                    pg_catalog.unnest(p_amounts), pg_catalog.unnest(p_tags)) WITH ORDINALITY
                AS o (of, code, asset, side, amount, tag, n)
              GROUP BY o.of) AS l ON l.of = r.n
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
    )
    INSERT INTO ledger.balances (account_id, is_checked) SELECT o.id, o.is_checked FROM opened o
$$;

-- Takes from checked accounts: distinct ids in their order, one amount each. Rows are held in that
-- order; pending rows are folded in only where the balance row alone is short.
CREATE FUNCTION ledger.take_many(p_accounts bigint[], p_amounts numeric[]) RETURNS void
LANGUAGE plpgsql AS $$
DECLARE
    changes numeric[];
    short_of text;
BEGIN
    PERFORM 1 FROM ledger.balances b WHERE b.account_id = ANY (p_accounts)
        ORDER BY b.account_id FOR UPDATE;
    WITH gone AS (
        DELETE FROM ledger.pending_credits p USING ledger.balances b,
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
        JOIN ledger.balances b ON b.account_id = t.id
        JOIN ledger.accounts a ON a.id = t.id
        LEFT JOIN folded f ON f.account_id = t.id;
    IF short_of IS NOT NULL THEN
        RAISE EXCEPTION 'not enough on the account for the postings of one call'
            USING ERRCODE = 'CG005', DETAIL = short_of;
    END IF;
    UPDATE ledger.balances b SET balance = b.balance + t.change
        FROM unnest(p_accounts, changes) AS t (id, change) WHERE b.account_id = t.id;
END
$$;

REVOKE EXECUTE ON FUNCTION ledger.post_many, ledger.fingerprints, ledger.open_accounts,
    ledger.take_many FROM PUBLIC;
GRANT EXECUTE ON FUNCTION ledger.post_many TO gateway_api, gateway_payouts, watchers;
