-- "Where is my deposit?" (FEATURES N10): a txid is asked of the watchers of every network whose txids
-- look like it. The answer holds only what `brand` may see; '*' is everybody's, the operator's.
ALTER TABLE chain.probes DROP CONSTRAINT probes_kind_check,
    ADD CONSTRAINT probes_kind_check CHECK (kind IN ('holdings', 'tx')),
    ADD COLUMN brand text NOT NULL DEFAULT '*',
    ADD COLUMN subject text,               -- the txid
    ADD CONSTRAINT probes_subject_check CHECK ((kind = 'tx') = (subject IS NOT NULL));
-- One open question per asker and tx, however often it is asked.
CREATE UNIQUE INDEX probes_open_subject ON chain.probes (network, brand, subject)
    WHERE state = 'asked' AND kind = 'tx';
CREATE INDEX probes_subject ON chain.probes (network, brand, subject, asked_at)
    WHERE kind = 'tx';
CREATE INDEX probes_tx_age ON chain.probes (network, asked_at) WHERE kind = 'tx';

ALTER TABLE chain.probes ENABLE ROW LEVEL SECURITY;
CREATE POLICY brand_rows ON chain.probes
    USING (config.sees_brand(brand)) WITH CHECK (config.sees_brand(brand));
GRANT DELETE ON chain.probes TO watchers;

-- One lookup that had to ask nodes, so that its answer can be fetched later. Kept for a day.
CREATE TABLE gateway.doctor_cases (
    id uuid PRIMARY KEY,
    brand text NOT NULL,                   -- whose view it is; '*' all
    txid text NOT NULL,                    -- as it was asked for, in lower case
    probes jsonb NOT NULL,                 -- network -> id in chain.probes
    created_at timestamptz NOT NULL
);
CREATE INDEX doctor_cases_age ON gateway.doctor_cases (created_at);
ALTER TABLE gateway.doctor_cases ENABLE ROW LEVEL SECURITY;
CREATE POLICY brand_rows ON gateway.doctor_cases
    USING (config.sees_brand(brand)) WITH CHECK (config.sees_brand(brand));
GRANT SELECT, INSERT, DELETE ON gateway.doctor_cases TO gateway_api;

-- Which of these references stand, as far as the unit of work may see a line of them.
CREATE FUNCTION ledger.standing(p_references text[]) RETURNS TABLE (
    reference text, posting_id uuid)
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog AS $$
    SELECT p.reference, p.id FROM ledger.postings p
    WHERE p.reference = ANY(p_references) AND EXISTS (
        SELECT 1 FROM ledger.entries e JOIN ledger.accounts a ON a.id = e.account_id
        WHERE e.posting_id = p.id AND e.booked_at = p.booked_at
            AND config.sees_brand(coalesce(a.brand, '*')))
$$;
REVOKE EXECUTE ON FUNCTION ledger.standing FROM PUBLIC;
GRANT EXECUTE ON FUNCTION ledger.standing TO gateway_api;
