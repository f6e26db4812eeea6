-- A refund is a withdrawal of its own kind (CONTRACT 4, docs/adr/0042): one deposit goes back to where
-- two people of compliance send it, out of what stands aside, once.
ALTER TABLE gateway.withdrawals
    ADD COLUMN deposit_id uuid REFERENCES chain.deposits (id),
    DROP CONSTRAINT withdrawals_kind_check,
    ADD CONSTRAINT withdrawals_kind_check CHECK (kind IN ('withdrawal', 'refund')),
    ADD CONSTRAINT withdrawals_of_deposit CHECK ((kind = 'refund') = (deposit_id IS NOT NULL)),
    -- The fee of a refund is out of the amount, whatever it comes to when it is planned.
    DROP CONSTRAINT withdrawals_fee_charged,
    ADD CONSTRAINT withdrawals_fee_charged CHECK (
        fee_charged IS NULL OR (fee_charged < amount
            AND (kind = 'refund' OR (max_fee IS NOT NULL AND fee_charged <= max_fee)))),
    ADD CONSTRAINT withdrawals_refund_pays_brand_mode CHECK (kind <> 'refund' OR fee_mode = 'brand');

-- One refund of a deposit, for ever once anything was signed for it: the signer pays it once.
CREATE UNIQUE INDEX withdrawals_refund ON gateway.withdrawals (deposit_id)
    WHERE kind = 'refund' AND (txid IS NOT NULL OR state NOT IN ('declined', 'expired'));

-- They are few among all that wait: each pass of a lane asks for them apart.
CREATE INDEX withdrawals_refunds ON gateway.withdrawals (network, state, accepted_at, id)
    WHERE kind = 'refund';
CREATE INDEX withdrawals_deposit ON gateway.withdrawals (deposit_id) WHERE deposit_id IS NOT NULL;

CREATE FUNCTION gateway.refuse_kind_change() RETURNS trigger
LANGUAGE plpgsql SET search_path = pg_catalog AS $$
BEGIN
    RAISE EXCEPTION 'withdrawal % keeps its kind and its deposit', OLD.id USING ERRCODE = 'CG001';
END
$$;
CREATE TRIGGER withdrawals_kind_fixed BEFORE UPDATE OF kind, deposit_id ON gateway.withdrawals
    FOR EACH ROW WHEN ((OLD.kind, OLD.deposit_id) IS DISTINCT FROM (NEW.kind, NEW.deposit_id))
    EXECUTE FUNCTION gateway.refuse_kind_change();

-- As before, but what a refund is charged is fixed when it is signed.
DROP TRIGGER withdrawals_fee_fixed ON gateway.withdrawals;
CREATE TRIGGER withdrawals_fee_fixed
    BEFORE UPDATE OF fee_mode, max_fee, fee_charged ON gateway.withdrawals
    FOR EACH ROW WHEN ((OLD.fee_mode, OLD.max_fee, OLD.fee_charged)
        IS DISTINCT FROM (NEW.fee_mode, NEW.max_fee, NEW.fee_charged)
        AND (OLD.kind <> 'refund' OR OLD.txid IS NOT NULL))
    EXECUTE FUNCTION gateway.refuse_fee_change();

-- What each person signed, exactly as received: the signer reads the same bytes.
CREATE TABLE gateway.refund_requests (
    withdrawal_id uuid NOT NULL REFERENCES gateway.withdrawals (id),
    person text NOT NULL,
    key_id text NOT NULL REFERENCES gateway.clients (key_id),
    method text NOT NULL,
    authority text NOT NULL,
    path text NOT NULL,
    query text NOT NULL,
    headers jsonb NOT NULL,
    body bytea NOT NULL,
    signature_input text NOT NULL,
    signature text NOT NULL,
    at timestamptz NOT NULL,
    PRIMARY KEY (withdrawal_id, person)
);
CREATE TRIGGER append_only BEFORE UPDATE OR DELETE ON gateway.refund_requests
    FOR EACH ROW EXECUTE FUNCTION ledger.refuse_change();

-- The rule a second time (A31): a person's own key, not one key under two names, about a refund.
CREATE FUNCTION gateway.check_refund_request() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog AS $$
BEGIN
    PERFORM 1 FROM gateway.clients c
        WHERE c.key_id = NEW.key_id AND c.kind = 'staff' AND c.person = NEW.person;
    IF NOT FOUND THEN
        RAISE EXCEPTION 'key % is no staff key of %', NEW.key_id, NEW.person;
    END IF;
    PERFORM 1 FROM gateway.refund_requests r
        JOIN gateway.clients first ON first.key_id = r.key_id
        JOIN gateway.clients second ON second.key_id = NEW.key_id
        WHERE r.withdrawal_id = NEW.withdrawal_id AND first.public_key = second.public_key;
    IF FOUND THEN
        RAISE EXCEPTION 'one key signs refund % twice', NEW.withdrawal_id;
    END IF;
    PERFORM 1 FROM gateway.withdrawals w WHERE w.id = NEW.withdrawal_id AND w.kind = 'refund';
    IF NOT FOUND THEN
        RAISE EXCEPTION 'withdrawal % is no refund', NEW.withdrawal_id;
    END IF;
    RETURN NEW;
END
$$;
CREATE TRIGGER signer_is_another BEFORE INSERT ON gateway.refund_requests
    FOR EACH ROW EXECUTE FUNCTION gateway.check_refund_request();
ALTER TABLE gateway.refund_requests ENABLE ROW LEVEL SECURITY;
CREATE POLICY brand_rows ON gateway.refund_requests
    USING (EXISTS (SELECT 1 FROM gateway.withdrawals w
                   WHERE w.id = withdrawal_id AND config.sees_brand(w.brand)))
    WITH CHECK (EXISTS (SELECT 1 FROM gateway.withdrawals w
                        WHERE w.id = withdrawal_id AND config.sees_brand(w.brand)));
GRANT SELECT, INSERT ON gateway.refund_requests TO gateway_api;
GRANT SELECT ON gateway.refund_requests TO gateway_payouts;

-- Where the value of a deposit is while it is sent back, and after: with its refund, out of what it
-- came from.
ALTER TABLE chain.deposits DROP CONSTRAINT deposits_credited_stage_check,
    ADD CONSTRAINT deposits_credited_stage_check
    CHECK (credited_stage IN ('provisional', 'clearing', 'unallocated', 'held', 'refund_held',
                              'refund_unallocated'));

-- What stands aside and is sent back is final once, too.
DROP INDEX chain.deposits_final_due;
CREATE INDEX deposits_final_due ON chain.deposits (network, final_at_height)
    WHERE state IN ('pending', 'provisional', 'orphaned', 'below_minimum', 'on_hold', 'rejected',
                    'refunding', 'refunded')
        AND final_at_height IS NOT NULL;
DROP INDEX chain.deposits_unswept;
CREATE INDEX deposits_unswept ON chain.deposits (network, address_id, asset)
    WHERE sweep_state = 'none'
        AND state IN ('final', 'below_minimum', 'rejected', 'refunding', 'refunded')
        AND (credited_stage IN ('clearing', 'unallocated', 'refund_unallocated')
            OR (state = 'refunded' AND credited_stage = 'refund_held'));

-- The API begins a refund and gives one back that nothing was signed for; payouts end it by what the
-- chain says. Neither makes another step of a deposit.
GRANT UPDATE (prior_state) ON chain.deposits TO gateway_api;
GRANT UPDATE (state, version, state_at, substatus, credited_stage, prior_state, sweep_state)
    ON chain.deposits TO gateway_payouts;
DROP POLICY decided_only ON chain.deposits;
CREATE POLICY decided_only ON chain.deposits AS RESTRICTIVE FOR UPDATE TO gateway_api
    USING (state IN ('on_hold', 'below_minimum', 'unsupported', 'rejected', 'refunding'))
    WITH CHECK (state IN ('rejected', 'refunding')
        OR (state = 'final' AND credited_stage = 'clearing')
        OR (state = 'orphaned' AND prior_state = 'rejected'));

-- A policy does not see the row as it was.
CREATE FUNCTION chain.refuse_other_step() RETURNS trigger
LANGUAGE plpgsql SET search_path = pg_catalog AS $$
BEGIN
    IF OLD.state || '>' || NEW.state <> ALL (CASE current_user
        WHEN 'gateway_api' THEN ARRAY['on_hold>final', 'on_hold>rejected', 'below_minimum>rejected',
            'unsupported>rejected', 'rejected>refunding', 'refunding>rejected', 'rejected>orphaned']
        ELSE ARRAY['refunding>rejected', 'refunding>refunded', 'refunded>refunding',
            'rejected>orphaned', 'refunded>orphaned', 'orphaned>refunding'] END) THEN
        RAISE EXCEPTION 'deposit %: % does not make it % from %', OLD.id, current_user, NEW.state,
            OLD.state USING ERRCODE = 'insufficient_privilege';
    END IF;
    RETURN NEW;
END
$$;
CREATE TRIGGER decided_steps BEFORE UPDATE OF state ON chain.deposits
    FOR EACH ROW WHEN (OLD.state IS DISTINCT FROM NEW.state
        AND current_user IN ('gateway_api', 'gateway_payouts'))
    EXECUTE FUNCTION chain.refuse_other_step();
