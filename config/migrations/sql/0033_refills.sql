-- Cold to hot: what people sign with keys that are nowhere here.

-- Signatures over the stored plan of a rebalance, each verified before it is written.
CREATE TABLE gateway.rebalance_signatures (
    attempt_id uuid NOT NULL,          -- of chain.outgoing: the plan that is signed
    input_index integer NOT NULL CHECK (input_index >= 0),
    public_key bytea NOT NULL,
    signature bytea NOT NULL,
    rebalance_id uuid NOT NULL REFERENCES gateway.rebalances (id),
    uploaded_by text NOT NULL,
    at timestamptz NOT NULL,
    PRIMARY KEY (attempt_id, input_index, public_key)
);
CREATE TRIGGER append_only BEFORE UPDATE OR DELETE ON gateway.rebalance_signatures
    FOR EACH ROW EXECUTE FUNCTION ledger.refuse_change();
GRANT SELECT, INSERT ON gateway.rebalance_signatures TO gateway_api;
GRANT SELECT ON gateway.rebalance_signatures TO gateway_payouts;

-- The txid that an unsigned tx will have, whoever sends it: its signers have a button for that.
ALTER TABLE chain.outgoing ADD COLUMN expected_txid text
    CHECK (expected_txid IS NULL OR (purpose = 'cold_to_hot'
        AND (txid IS NULL OR txid = expected_txid)));
CREATE UNIQUE INDEX outgoing_expected ON chain.outgoing (network, expected_txid)
    WHERE state = 'built' AND expected_txid IS NOT NULL;
