-- Reading the journal back: by time, by posting, and by who may see what of it.

-- The journal's heads are the operator's (0002_ledger.sql). The functions below run as the owner and
-- show a brand's unit of work the heads of those postings that have a line on an account of its own,
-- and of those only its own lines. A reason may name others: it is the operator's.

-- One page of lines in the order (booked_at, posting, line), after a place in it: at most `p_limit`
-- lines of at most `p_limit` + 1 postings. A last row without a line says how far it looked, where
-- there may be more although the lines do not fill the page.
CREATE FUNCTION ledger.journal_page(
    p_from timestamptz, p_to timestamptz, p_at timestamptz, p_id uuid, p_line integer,
    p_limit integer
) RETURNS TABLE (
    posting_id uuid, booked_at timestamptz, line smallint, reference text, kind text, reason text,
    reverses uuid, network text, block_hash text, block_height bigint, code text,
    account_kind text, asset text, brand text, player_id text, wallet text, side text,
    amount numeric, brand_tag text)
LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = pg_catalog AS $$
#variable_conflict use_column
BEGIN
    RETURN QUERY
    WITH head AS MATERIALIZED (
        SELECT p.* FROM ledger.postings p
        WHERE p.booked_at >= p_from AND p.booked_at < p_to
            AND (p.booked_at, p.id) >= (p_at, p_id)
        ORDER BY p.booked_at, p.id LIMIT p_limit + 1
    ), shown AS MATERIALIZED (
        SELECT h.id, h.booked_at, e.line::smallint, h.reference, h.kind,
            CASE WHEN config.sees_brand('*') THEN h.reason END AS reason, h.reverses, h.network,
            h.block_hash, h.block_height, a.code, a.kind AS account_kind, e.asset, a.brand,
            a.player_id, a.wallet, e.side::text, e.amount::numeric, e.brand_tag
        FROM head h
        JOIN ledger.entries e ON e.posting_id = h.id AND e.booked_at = h.booked_at
        JOIN ledger.accounts a ON a.id = e.account_id
        WHERE (h.booked_at, h.id, e.line::integer) > (p_at, p_id, p_line)
            AND config.sees_brand(coalesce(a.brand, '*'))
        ORDER BY h.booked_at, h.id, e.line LIMIT p_limit
    )
    SELECT * FROM shown
    UNION ALL
    SELECT h.id, h.booked_at, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL,
        NULL, NULL, NULL, NULL, NULL, NULL
    FROM (SELECT * FROM head ORDER BY booked_at DESC, id DESC LIMIT 1) AS h
    WHERE (SELECT count(*) FROM head) > p_limit AND (SELECT count(*) FROM shown) < p_limit
    ORDER BY 2, 1, 3;
END
$$;

-- One posting with the lines that the unit of work may see. `lines_total` counts all of them.
CREATE FUNCTION ledger.posting_lines(p_id uuid) RETURNS TABLE (
    posting_id uuid, booked_at timestamptz, line smallint, reference text, kind text, reason text,
    reverses uuid, reversed_by uuid, network text, block_hash text, block_height bigint,
    lines_total bigint, code text, account_kind text, asset text, brand text, player_id text,
    wallet text, side text, amount numeric, brand_tag text)
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog AS $$
    SELECT p.id, p.booked_at, e.line::smallint, p.reference, p.kind,
        CASE WHEN config.sees_brand('*') THEN p.reason END, p.reverses,
        (SELECT r.id FROM ledger.postings r WHERE r.reverses = p.id ORDER BY r.booked_at LIMIT 1),
        p.network, p.block_hash, p.block_height,
        (SELECT count(*) FROM ledger.entries n
         WHERE n.posting_id = p.id AND n.booked_at = p.booked_at),
        a.code, a.kind, e.asset, a.brand, a.player_id, a.wallet, e.side::text, e.amount::numeric,
        e.brand_tag
    FROM ledger.entries e
    JOIN ledger.postings p ON p.id = e.posting_id AND p.booked_at = e.booked_at
    JOIN ledger.accounts a ON a.id = e.account_id
    WHERE e.posting_id = p_id AND config.sees_brand(coalesce(a.brand, '*'))
    ORDER BY e.line
$$;

-- The heads of postings of which the unit of work may see a line. Arrays are parallel.
CREATE FUNCTION ledger.posting_heads(p_ids uuid[], p_ats timestamptz[]) RETURNS TABLE (
    posting_id uuid, reference text, kind text, reverses uuid, network text, block_hash text,
    block_height bigint)
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog AS $$
    SELECT p.id, p.reference, p.kind, p.reverses, p.network, p.block_hash, p.block_height
    FROM (SELECT DISTINCT u.id, u.at FROM unnest(p_ids, p_ats) AS u (id, at)) AS w
    JOIN ledger.postings p ON p.id = w.id AND p.booked_at = w.at
    WHERE EXISTS (
        SELECT 1 FROM ledger.entries e JOIN ledger.accounts a ON a.id = e.account_id
        WHERE e.posting_id = p.id AND e.booked_at = p.booked_at
            AND config.sees_brand(coalesce(a.brand, '*')))
$$;

REVOKE EXECUTE ON FUNCTION ledger.journal_page, ledger.posting_lines, ledger.posting_heads
    FROM PUBLIC;
GRANT EXECUTE ON FUNCTION ledger.journal_page, ledger.posting_lines, ledger.posting_heads
    TO gateway_api;

-- The block of a coinbase deposit, which its postings name: the keys of deposits are the watchers'.
CREATE FUNCTION chain.coinbase_hash(p_deposit uuid) RETURNS text
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog AS $$
    SELECT k.coinbase_hash FROM chain.deposit_keys k
    WHERE k.deposit_id = p_deposit AND config.sees_brand('*')
$$;
REVOKE EXECUTE ON FUNCTION chain.coinbase_hash FROM PUBLIC;
GRANT EXECUTE ON FUNCTION chain.coinbase_hash TO gateway_api;
