-- Limits of withdrawals, and what people sign about one (docs/adr/0025). Written by `gateway` only.

-- Versions of the limits. Version 0 is no limit.
CREATE TABLE gateway.limit_policies (
    version integer PRIMARY KEY CHECK (version >= 1),
    content jsonb NOT NULL,
    proposed_by text NOT NULL,
    approved_by text NOT NULL CHECK (approved_by <> proposed_by),
    created_at timestamptz NOT NULL
);
CREATE TRIGGER append_only BEFORE UPDATE OR DELETE ON gateway.limit_policies
    FOR EACH ROW EXECUTE FUNCTION ledger.refuse_change();

-- How each withdrawal was judged, for ever; only `counts` changes, once, when it gives its room back.
-- `value` is in minor units of the currency at the rate of acceptance, rounded up; NULL: no fresh rate.
CREATE TABLE gateway.withdrawal_limits (
    -- An order is judged before its row is stored.
    withdrawal_id uuid PRIMARY KEY REFERENCES gateway.withdrawals (id) DEFERRABLE INITIALLY DEFERRED,
    brand text NOT NULL,
    player_id text NOT NULL,
    asset text NOT NULL,
    amount numeric(78, 0) NOT NULL CHECK (amount > 0 AND amount <> 'NaN'),
    currency text NOT NULL,
    value numeric(78, 0) CHECK (value >= 0 AND value <> 'NaN'),
    rate_id uuid REFERENCES chain.reference_rates (id),
    policy_version integer NOT NULL CHECK (policy_version >= 0),
    approvals integer NOT NULL CHECK (approvals BETWEEN 0 AND 2),
    code text,                     -- the limit that rejected it or asks for people
    counts boolean NOT NULL,
    hour bigint NOT NULL,          -- of `at`: hours since 1970
    at timestamptz NOT NULL,
    CHECK ((value IS NULL) = (rate_id IS NULL))
) WITH (fillfactor = 90);
CREATE INDEX withdrawal_limits_hour ON gateway.withdrawal_limits (brand, hour) WHERE counts;

-- Sums of what counts, by the hour; player '' is all players. `unvalued` is minor units of the asset
-- that had no value. The hour that a window cuts is read from gateway.withdrawal_limits.
CREATE TABLE gateway.limit_usage (
    brand text NOT NULL,
    player_id text NOT NULL,
    hour bigint NOT NULL,
    asset text NOT NULL,
    currency text NOT NULL,
    value numeric(78, 0) NOT NULL CHECK (value >= 0 AND value <> 'NaN'),
    unvalued numeric(78, 0) NOT NULL CHECK (unvalued >= 0 AND unvalued <> 'NaN'),
    PRIMARY KEY (brand, player_id, hour, asset, currency)
) WITH (fillfactor = 70);

-- What people signed about a withdrawal, exactly as received: the signer reads the same bytes.
-- `round` is the version of the withdrawal that they saw.
CREATE TABLE gateway.withdrawal_approvals (
    id uuid PRIMARY KEY,
    withdrawal_id uuid NOT NULL REFERENCES gateway.withdrawals (id),
    brand text NOT NULL,
    action text NOT NULL CHECK (action IN
        ('approve', 'decline', 'expedite', 'reissue', 'decline_dead', 'abort')),
    round integer NOT NULL CHECK (round >= 1),
    txids text[] NOT NULL DEFAULT '{}',   -- that the body names: all dead ones, or the one to abort
    key_id text NOT NULL REFERENCES gateway.clients (key_id),
    person text NOT NULL,
    method text NOT NULL,
    authority text NOT NULL,
    path text NOT NULL,
    query text NOT NULL,
    headers jsonb NOT NULL,
    body bytea NOT NULL,
    signature_input text NOT NULL,
    signature text NOT NULL,
    at timestamptz NOT NULL,
    UNIQUE (withdrawal_id, action, round, person)
);
CREATE TRIGGER append_only BEFORE UPDATE OR DELETE ON gateway.withdrawal_approvals
    FOR EACH ROW EXECUTE FUNCTION ledger.refuse_change();

-- The rule a second time (A31): who ordered it agrees to nothing about it, under whatever name the
-- key is registered; and an approval is a living person's.
CREATE FUNCTION gateway.check_approval() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog AS $$
BEGIN
    PERFORM 1 FROM gateway.clients c
        WHERE c.key_id = NEW.key_id AND c.kind = 'staff' AND c.person = NEW.person;
    IF NOT FOUND THEN
        RAISE EXCEPTION 'key % is no staff key of %', NEW.key_id, NEW.person;
    END IF;
    PERFORM 1 FROM gateway.withdrawal_requests r
        JOIN gateway.clients ordering ON ordering.key_id = r.key_id
        JOIN gateway.clients approving ON approving.key_id = NEW.key_id
        WHERE r.withdrawal_id = NEW.withdrawal_id
            AND (ordering.key_id = approving.key_id
                 OR ordering.public_key = approving.public_key);
    IF FOUND THEN
        RAISE EXCEPTION 'the key that ordered withdrawal % may not approve it', NEW.withdrawal_id;
    END IF;
    RETURN NEW;
END
$$;
CREATE TRIGGER approver_is_another BEFORE INSERT ON gateway.withdrawal_approvals
    FOR EACH ROW EXECUTE FUNCTION gateway.check_approval();

DO $$
DECLARE
    table_name text;
BEGIN
    FOREACH table_name IN ARRAY ARRAY['withdrawal_limits', 'limit_usage', 'withdrawal_approvals']
    LOOP
        EXECUTE format('ALTER TABLE gateway.%I ENABLE ROW LEVEL SECURITY', table_name);
        EXECUTE format(
            'CREATE POLICY brand_rows ON gateway.%I USING (config.sees_brand(brand)) '
            'WITH CHECK (config.sees_brand(brand))', table_name);
    END LOOP;
END
$$;

GRANT SELECT, INSERT ON gateway.limit_policies TO gateway_api;
GRANT SELECT ON gateway.limit_policies TO gateway_payouts;
GRANT SELECT, INSERT ON gateway.withdrawal_limits TO gateway_api;
GRANT SELECT ON gateway.withdrawal_limits TO gateway_payouts;
GRANT UPDATE (counts) ON gateway.withdrawal_limits TO gateway_api, gateway_payouts;
GRANT SELECT, INSERT ON gateway.limit_usage TO gateway_api;
GRANT SELECT ON gateway.limit_usage TO gateway_payouts;
GRANT UPDATE (value, unvalued) ON gateway.limit_usage TO gateway_api, gateway_payouts;
GRANT SELECT, DELETE ON gateway.limit_usage TO scheduler;  -- hours that no window reaches any more
GRANT SELECT, INSERT ON gateway.withdrawal_approvals TO gateway_api;
GRANT SELECT ON gateway.withdrawal_approvals TO gateway_payouts;

-- Staff put a withdrawal on a faster class. What else they decide about signed ones payouts carry out.
GRANT UPDATE (fee_class, promise_at) ON gateway.withdrawals TO gateway_api;

-- What was accepted before this version counts with its amount; a value needs a fresh rate.
INSERT INTO gateway.withdrawal_limits (withdrawal_id, brand, player_id, asset, amount, currency,
                                       policy_version, approvals, counts, hour, at)
    SELECT id, brand, player_id, asset, amount, 'USD', 0, 0, true,
        floor(extract(epoch FROM accepted_at) / 3600), accepted_at
    FROM gateway.withdrawals
    WHERE state NOT IN ('rejected', 'cancelled', 'failed', 'declined', 'expired')
        AND accepted_at > now() - interval '31 days';
INSERT INTO gateway.limit_usage (brand, player_id, hour, asset, currency, value, unvalued)
    SELECT l.brand, p.player_id, l.hour, l.asset, l.currency, 0, sum(l.amount)
    FROM gateway.withdrawal_limits l
        CROSS JOIN LATERAL (VALUES (''), (l.player_id)) AS p (player_id)
    GROUP BY l.brand, p.player_id, l.hour, l.asset, l.currency;

ALTER TABLE gateway.approvals DROP CONSTRAINT approvals_kind_check,
    ADD CONSTRAINT approvals_kind_check CHECK (kind IN ('switch', 'policy', 'rate', 'limits'));

-- A hold may go back from in flight to reserved, in its next cycle: every transaction of the payment
-- is dead, and two people signed that it is paid anew (CONTRACT 5). All else is as it was.
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
                        ELSE 'clearing' END;
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
                ELSE 'player:' || hold.brand || ':' || hold.player_id || ':' || target || ':'
                    || hold.asset
                END,
             target, CASE target WHEN 'clearing' THEN NULL ELSE hold.player_id END, 'credit',
             hold.amount - repaid),
            ('receivable:' || hold.brand || ':' || hold.asset, 'receivable', NULL, 'credit', repaid)
        ) AS l (code, kind, player, side, amount)
        WHERE l.amount > 0;
END
$$;
