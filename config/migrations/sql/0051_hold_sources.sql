-- A refund sets aside what stands aside (CONTRACT 4, docs/adr/0042): its hold is placed from held or
-- from unallocated value, and what is given back goes there.
ALTER TABLE ledger.holds ADD COLUMN source text NOT NULL DEFAULT 'clearing'
    CHECK (source IN ('clearing', 'held', 'unallocated'));

-- A hold of a refund is never placed again from clearing. All else is as it was.
CREATE OR REPLACE FUNCTION ledger.open_holds(
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
        WHERE h.state IN ('released', 'returned') AND h.source = 'clearing'
            AND (h.brand, h.player_id, h.asset, h.amount)
                = (excluded.brand, excluded.player_id, excluded.asset, excluded.amount);
    GET DIAGNOSTICS opened = ROW_COUNT;
    IF opened <> cardinality(p_ids) THEN
        RAISE EXCEPTION 'a hold is taken already' USING ERRCODE = 'CG007';
    END IF;
END
$$;

-- The account of a stage of a hold, and its owners.
CREATE FUNCTION ledger.stage_of_hold(
    p_stage text, p_brand text, p_player text, p_asset text,
    OUT code text, OUT brand text, OUT player text
)
LANGUAGE sql IMMUTABLE AS $$
    SELECT CASE p_stage
            WHEN 'clearing' THEN 'brand:' || p_brand || ':clearing:' || p_asset
            WHEN 'unallocated' THEN 'unallocated:' || p_asset
            ELSE 'player:' || p_brand || ':' || p_player || ':' || p_stage || ':' || p_asset END,
        CASE p_stage WHEN 'unallocated' THEN NULL ELSE p_brand END,
        CASE WHEN p_stage IN ('clearing', 'unallocated') THEN NULL ELSE p_player END
$$;

-- One hold, from held or unallocated value, in one posting with its reference: again with the same
-- content it changes nothing. CG005 where that much does not stand there, CG007 for a hold that is.
CREATE FUNCTION ledger.place_aside(
    p_id uuid, p_source text, p_brand text, p_player text, p_asset text, p_amount numeric,
    p_reference text, p_at timestamptz
) RETURNS void
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog AS $$
DECLARE
    is_placed boolean;
BEGIN
    IF p_source NOT IN ('held', 'unallocated') THEN
        RAISE EXCEPTION 'place_aside: not from %', p_source USING ERRCODE = 'CG006';
    END IF;
    PERFORM ledger.refuse_foreign(ARRAY[p_brand]);
    SELECT p.is_new INTO is_placed FROM (
        SELECT array_agg(a.code ORDER BY l.n) AS codes, array_agg(l.stage ORDER BY l.n) AS kinds,
            array_agg(a.brand ORDER BY l.n) AS brands, array_agg(a.player ORDER BY l.n) AS players,
            array_agg(l.side ORDER BY l.n) AS sides
        FROM (VALUES (1, p_source, 'debit'), (2, 'reserved', 'credit')) AS l (n, stage, side),
            LATERAL ledger.stage_of_hold(l.stage, p_brand, p_player, p_asset) AS a
    ) AS lines, LATERAL ledger.post(md5('hold:' || p_reference)::uuid, p_at, p_reference,
        'hold_placed', NULL, NULL, NULL, NULL, NULL, lines.codes, lines.kinds,
        ARRAY[p_asset, p_asset], lines.brands, lines.players, ARRAY[NULL, NULL]::text[],
        lines.sides, ARRAY[p_amount, p_amount], ARRAY[p_brand, p_brand]) AS p;
    IF is_placed THEN
        INSERT INTO ledger.holds (id, brand, player_id, asset, amount, source, state, created_at)
            VALUES (p_id, p_brand, p_player, p_asset, p_amount, p_source, 'open', p_at)
            ON CONFLICT (id) DO NOTHING;
        IF NOT FOUND THEN
            RAISE EXCEPTION 'hold % is taken already', p_id USING ERRCODE = 'CG007';
        END IF;
        RETURN;
    END IF;
    PERFORM 1 FROM ledger.holds h WHERE h.id = p_id
        AND (h.brand, h.player_id, h.asset, h.amount, h.source)
            = (p_brand, p_player, p_asset, p_amount, p_source);
    IF NOT FOUND THEN
        RAISE EXCEPTION 'reference % stands for another hold', p_reference USING ERRCODE = 'CG004';
    END IF;
END
$$;

-- As before, but what is given back goes where it came from; only a credit to clearing repays first.
CREATE OR REPLACE FUNCTION ledger.move_hold(
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
        SET state = p_to,
            resolved_at = CASE WHEN p_to IN ('captured', 'open') THEN NULL ELSE p_at END,
            cycle = h.cycle + CASE p_to WHEN 'open' THEN 1 ELSE 0 END
        WHERE h.id = p_id AND (h.state, p_to, p_reopens) IN (
            ('open', 'captured', false), ('open', 'released', false),
            ('captured', 'settled', false), ('captured', 'returned', false),
            ('captured', 'open', false), ('settled', 'captured', true))
        RETURNING * INTO hold;
    IF NOT FOUND THEN
        RAISE EXCEPTION 'hold % is not where % starts', p_id, p_to USING ERRCODE = 'CG007';
    END IF;
    PERFORM ledger.refuse_foreign(ARRAY[hold.brand]);
    IF p_reopens OR p_to = 'settled' THEN
        RETURN;  -- the caller's posting moves the money
    END IF;
    source := CASE WHEN p_to IN ('returned', 'open') THEN 'in_flight' ELSE 'reserved' END;
    target := CASE p_to WHEN 'captured' THEN 'in_flight' WHEN 'open' THEN 'reserved'
                        ELSE hold.source END;
    IF target = 'clearing' THEN
        repaid := ledger.repaid_first(hold.brand, hold.asset, hold.amount);
    END IF;
    reference := p_reference || CASE hold.cycle WHEN 1 THEN '' ELSE ':' || hold.cycle END;
    -- The posting's id is fixed by its reference.
    PERFORM ledger.post(md5('hold:' || reference)::uuid, p_at, reference, 'hold_' || p_to, NULL, NULL,
            NULL, NULL, NULL,
            array_agg(l.code), array_agg(l.kind), array_agg(hold.asset), array_agg(l.brand),
            array_agg(l.player), array_agg(NULL::text), array_agg(l.side), array_agg(l.amount),
            array_agg(hold.brand))
        FROM (
            SELECT a.code, s.stage AS kind, a.brand, a.player, s.side, s.amount
            FROM (VALUES (source, 'debit', hold.amount), (target, 'credit', hold.amount - repaid))
                    AS s (stage, side, amount),
                LATERAL ledger.stage_of_hold(s.stage, hold.brand, hold.player_id, hold.asset) AS a
            UNION ALL
            SELECT 'receivable:' || hold.brand || ':' || hold.asset, 'receivable', hold.brand, NULL,
                'credit', repaid
        ) AS l (code, kind, brand, player, side, amount)
        WHERE l.amount > 0;
END
$$;

REVOKE EXECUTE ON FUNCTION ledger.place_aside, ledger.stage_of_hold FROM PUBLIC;
GRANT EXECUTE ON FUNCTION ledger.place_aside TO gateway_api, gateway_payouts;
