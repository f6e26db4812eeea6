-- Moves of the operator's own value between hot and cold, and the cold addresses they touch.
-- `gateway.rebalances` is written by `gateway` only, the marks in `chain` by `watchers`.
CREATE TABLE gateway.rebalances (
    id uuid PRIMARY KEY,
    network text NOT NULL,
    asset text NOT NULL,
    direction text NOT NULL CHECK (direction IN ('hot_to_cold', 'cold_to_hot')),
    amount numeric(78, 0) NOT NULL CHECK (amount > 0 AND amount <> 'NaN'),
    address text NOT NULL,             -- where it goes, an own one; part of what people sign
    address_key text NOT NULL,
    reason text NOT NULL CHECK (length(reason) BETWEEN 1 AND 500),
    forecast text CHECK (length(forecast) BETWEEN 1 AND 2000),   -- why now, as it was known then
    state text NOT NULL CHECK (state IN
        ('proposed', 'approved', 'planned', 'unsigned_ready', 'signed', 'sent', 'done', 'failed',
         'declined', 'cancelled')),
    code text,                         -- why it failed, was declined or cancelled, or waits
    people_needed integer NOT NULL CHECK (people_needed BETWEEN 0 AND 2),
    version integer NOT NULL DEFAULT 1,
    attempt_id uuid,                   -- of chain.outgoing: the newest one
    sign_requested_at timestamptz,
    txid text,
    requested_by text,                 -- NULL: the system
    valid_until timestamptz NOT NULL,  -- nothing is signed for the first time after it
    created_at timestamptz NOT NULL,
    state_at timestamptz NOT NULL,
    CHECK (people_needed > 0 OR requested_by IS NULL),
    CHECK (state NOT IN ('planned', 'unsigned_ready', 'signed', 'sent', 'done')
        OR attempt_id IS NOT NULL),
    CHECK (state <> 'planned' OR direction = 'hot_to_cold'),
    CHECK (state <> 'unsigned_ready' OR direction = 'cold_to_hot')
);
-- One open request of the system per asset and direction (P26).
CREATE UNIQUE INDEX rebalances_of_the_system ON gateway.rebalances (asset, direction)
    WHERE requested_by IS NULL AND state NOT IN ('done', 'failed', 'declined', 'cancelled');
CREATE UNIQUE INDEX rebalances_attempt ON gateway.rebalances (attempt_id);
CREATE INDEX rebalances_open ON gateway.rebalances (network, direction, created_at)
    WHERE state NOT IN ('done', 'failed', 'declined', 'cancelled');
CREATE INDEX rebalances_asset ON gateway.rebalances (asset, direction, created_at);
CREATE TRIGGER rebalances_history AFTER INSERT OR UPDATE OF state ON gateway.rebalances
    FOR EACH ROW EXECUTE FUNCTION ledger.record_state('rebalance');

-- What each person signed, exactly as received: the signer reads the same bytes.
CREATE TABLE gateway.rebalance_requests (
    rebalance_id uuid NOT NULL REFERENCES gateway.rebalances (id),
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
    PRIMARY KEY (rebalance_id, person)
);
CREATE TRIGGER append_only BEFORE UPDATE OR DELETE ON gateway.rebalance_requests
    FOR EACH ROW EXECUTE FUNCTION ledger.refuse_change();

-- The rules of people a second time (A31, S15): a person's own key, not one key under two names,
-- and nothing is approved by fewer people than it takes.
CREATE FUNCTION gateway.check_rebalance_request() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog AS $$
BEGIN
    PERFORM 1 FROM gateway.clients c
        WHERE c.key_id = NEW.key_id AND c.kind = 'staff' AND c.person = NEW.person;
    IF NOT FOUND THEN
        RAISE EXCEPTION 'key % is no staff key of %', NEW.key_id, NEW.person;
    END IF;
    PERFORM 1 FROM gateway.rebalance_requests r
        JOIN gateway.clients first ON first.key_id = r.key_id
        JOIN gateway.clients second ON second.key_id = NEW.key_id
        WHERE r.rebalance_id = NEW.rebalance_id AND first.public_key = second.public_key;
    IF FOUND THEN
        RAISE EXCEPTION 'one key signs rebalance % twice', NEW.rebalance_id;
    END IF;
    RETURN NEW;
END
$$;
CREATE TRIGGER signer_is_another BEFORE INSERT ON gateway.rebalance_requests
    FOR EACH ROW EXECUTE FUNCTION gateway.check_rebalance_request();

CREATE FUNCTION gateway.check_rebalance_people() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog AS $$
BEGIN
    IF (SELECT count(*) FROM gateway.rebalance_requests r WHERE r.rebalance_id = NEW.id)
            < NEW.people_needed THEN
        RAISE EXCEPTION 'rebalance % takes % people', NEW.id, NEW.people_needed;
    END IF;
    RETURN NEW;
END
$$;
CREATE TRIGGER people_are_enough BEFORE UPDATE OF state ON gateway.rebalances
    FOR EACH ROW WHEN (OLD.state = 'proposed' AND NEW.state = 'approved')
    EXECUTE FUNCTION gateway.check_rebalance_people();
CREATE FUNCTION gateway.check_new_rebalance() RETURNS trigger
LANGUAGE plpgsql SET search_path = pg_catalog AS $$
BEGIN
    RAISE EXCEPTION 'rebalance % begins as %', NEW.id, NEW.state;
END
$$;
CREATE TRIGGER begins_as_proposed BEFORE INSERT ON gateway.rebalances
    FOR EACH ROW WHEN (NEW.state <> 'proposed') EXECUTE FUNCTION gateway.check_new_rebalance();

GRANT SELECT, INSERT ON gateway.rebalances, gateway.rebalance_requests TO gateway_api;
GRANT UPDATE (state, state_at, version, code, people_needed) ON gateway.rebalances TO gateway_api;
-- Payouts proposes for the system and carries out what was approved; no person's word is its own.
GRANT SELECT, INSERT ON gateway.rebalances TO gateway_payouts;
GRANT SELECT ON gateway.rebalance_requests TO gateway_payouts;
GRANT UPDATE (state, state_at, version, code, attempt_id, sign_requested_at, txid)
    ON gateway.rebalances TO gateway_payouts;

-- Cold addresses are watched and never spent from by anything online.
ALTER TABLE chain.addresses DROP CONSTRAINT addresses_role_check,
    ADD CONSTRAINT addresses_role_check
    CHECK (role IN ('deposit', 'hot', 'change', 'gas', 'cold'));
ALTER TABLE chain.inflows DROP CONSTRAINT inflows_role_check,
    ADD CONSTRAINT inflows_role_check
    CHECK (role IN ('deposit', 'hot', 'change', 'gas', 'cold'));
ALTER TABLE chain.coins ADD COLUMN is_cold boolean NOT NULL DEFAULT false;
