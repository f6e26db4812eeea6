-- What two people decide about the batch contract: deploy, fund, withdraw. Written by `gateway` only.
CREATE TABLE gateway.contract_setups (
    id uuid PRIMARY KEY,
    network text NOT NULL,
    reference text NOT NULL,           -- people's own; the signer signs for each once
    action text NOT NULL CHECK (action IN ('deploy', 'fund', 'withdraw')),
    asset text,
    amount numeric(78, 0) CHECK (amount > 0 AND amount <> 'NaN'),
    state text NOT NULL CHECK (state IN
        ('proposed', 'approved', 'planned', 'signed', 'sent', 'done', 'failed', 'declined')),
    code text,                         -- why it is declined or failed
    version integer NOT NULL DEFAULT 1,
    attempt_id uuid,                   -- of chain.outgoing
    sign_requested_at timestamptz,
    txid text,
    contract text,                     -- of a deployment that is done: what was found on the chain
    proposed_by text NOT NULL,
    agreed_by text CHECK (agreed_by <> proposed_by),
    created_at timestamptz NOT NULL,
    state_at timestamptz NOT NULL,
    UNIQUE (network, reference),
    CHECK ((action = 'deploy') = (asset IS NULL) AND (asset IS NULL) = (amount IS NULL)),
    CHECK (state IN ('proposed', 'declined') OR agreed_by IS NOT NULL),
    CHECK (state IN ('proposed', 'approved', 'declined', 'failed') OR attempt_id IS NOT NULL),
    CHECK (contract IS NULL OR action = 'deploy')
);
CREATE UNIQUE INDEX contract_setups_open ON gateway.contract_setups (network)
    WHERE state NOT IN ('done', 'failed', 'declined');
CREATE UNIQUE INDEX contract_setups_attempt ON gateway.contract_setups (attempt_id);
CREATE TRIGGER contract_setups_history AFTER INSERT OR UPDATE OF state ON gateway.contract_setups
    FOR EACH ROW EXECUTE FUNCTION ledger.record_state('contract_setup');

-- What each person signed, exactly as received: the signer reads the same bytes.
CREATE TABLE gateway.contract_setup_requests (
    setup_id uuid NOT NULL REFERENCES gateway.contract_setups (id),
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
    PRIMARY KEY (setup_id, person)
);
CREATE TRIGGER append_only BEFORE UPDATE OR DELETE ON gateway.contract_setup_requests
    FOR EACH ROW EXECUTE FUNCTION ledger.refuse_change();

-- The rule a second time (A31): a person's own key, and not one key under two names.
CREATE FUNCTION gateway.check_setup_request() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog AS $$
BEGIN
    PERFORM 1 FROM gateway.clients c
        WHERE c.key_id = NEW.key_id AND c.kind = 'staff' AND c.person = NEW.person;
    IF NOT FOUND THEN
        RAISE EXCEPTION 'key % is no staff key of %', NEW.key_id, NEW.person;
    END IF;
    PERFORM 1 FROM gateway.contract_setup_requests r
        JOIN gateway.clients first ON first.key_id = r.key_id
        JOIN gateway.clients second ON second.key_id = NEW.key_id
        WHERE r.setup_id = NEW.setup_id AND first.public_key = second.public_key;
    IF FOUND THEN
        RAISE EXCEPTION 'one key signs contract setup % twice', NEW.setup_id;
    END IF;
    RETURN NEW;
END
$$;
CREATE TRIGGER signer_is_another BEFORE INSERT ON gateway.contract_setup_requests
    FOR EACH ROW EXECUTE FUNCTION gateway.check_setup_request();

GRANT SELECT, INSERT ON gateway.contract_setups, gateway.contract_setup_requests TO gateway_api;
GRANT UPDATE (state, state_at, version, code, agreed_by) ON gateway.contract_setups TO gateway_api;
GRANT SELECT ON gateway.contract_setups, gateway.contract_setup_requests TO gateway_payouts;
-- Payouts carries out what people agreed to; it never agrees.
GRANT UPDATE (state, state_at, version, code, attempt_id, sign_requested_at, txid, contract)
    ON gateway.contract_setups TO gateway_payouts;
GRANT SELECT ON chain.account_balances TO gateway_api;
