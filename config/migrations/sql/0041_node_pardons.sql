-- How long a node that lied counts for nothing: until now it was derived from its state at a restart.
ALTER TABLE chain.nodes
    ADD COLUMN barred_at timestamptz,      -- its last lie
    ADD COLUMN barred_until timestamptz;
UPDATE chain.nodes SET barred_at = since, barred_until = since + interval '1 day'
    WHERE cause LIKE 'lying%';
ALTER TABLE chain.nodes ADD CHECK ((barred_at IS NULL) = (barred_until IS NULL));

-- Two people ended the time of a node that lied (by mistake, or it was repaired). Each watcher and
-- payouts process reads it; a later lie is barred again.
CREATE TABLE chain.node_pardons (
    id uuid PRIMARY KEY,
    network text NOT NULL,
    label text NOT NULL,                   -- as in chain.nodes
    reason text NOT NULL,
    proposed_by text NOT NULL,
    approved_by text NOT NULL CHECK (approved_by <> proposed_by),
    granted_at timestamptz NOT NULL
);
CREATE INDEX node_pardons_newest ON chain.node_pardons (network, label, granted_at DESC);

CREATE TRIGGER append_only BEFORE UPDATE OR DELETE ON chain.node_pardons
    FOR EACH ROW EXECUTE FUNCTION chain.refuse_change();
CREATE TRIGGER never_truncated BEFORE TRUNCATE ON chain.node_pardons
    FOR EACH STATEMENT EXECUTE FUNCTION chain.refuse_change();
CREATE TRIGGER audited AFTER INSERT ON chain.node_pardons
    FOR EACH ROW EXECUTE FUNCTION gateway.audit_change('node_pardon', 'network,label');

GRANT SELECT ON chain.node_pardons TO watchers, gateway_api, gateway_payouts, scheduler;
GRANT INSERT ON chain.node_pardons TO gateway_api;
-- Where our nodes stand is the operator's: no brand's call sees it.
ALTER TABLE chain.node_pardons ENABLE ROW LEVEL SECURITY;
CREATE POLICY all_rows ON chain.node_pardons USING (true);
CREATE POLICY operator_calls ON chain.node_pardons AS RESTRICTIVE TO gateway_api
    USING ((SELECT config.sees_brand('*')));
