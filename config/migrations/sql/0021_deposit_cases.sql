-- Payments to another script of a key whose address was issued (docs/adr/0022): an inflow of its
-- own kind, a search, and a coin that nothing may reserve, whatever the code of a process says.
ALTER TABLE chain.inflows ADD COLUMN kind text NOT NULL DEFAULT 'payment'
    CHECK (kind IN ('payment', 'other_script'));

ALTER TABLE chain.coins ADD COLUMN is_other_script boolean NOT NULL DEFAULT false,
    ADD CONSTRAINT coins_other_script_is_never_reserved
    CHECK (NOT is_other_script OR reserved_by IS NULL);

ALTER TABLE chain.searches DROP CONSTRAINT searches_kind_check,
    ADD CONSTRAINT searches_kind_check CHECK (kind IN (
        'short', 'impossible', 'decimals', 'surplus', 'unchecked', 'unexplained', 'shortfall',
        'changed', 'other_script'));

-- A rescan that people end before it is done; what it found stays (docs/adr/0019).
ALTER TABLE chain.rescans ADD COLUMN cancelled_by text,
    ADD COLUMN cancel_reason text CHECK (length(cancel_reason) BETWEEN 1 AND 500),
    DROP CONSTRAINT rescans_state_check,
    ADD CONSTRAINT rescans_state_check
        CHECK (state IN ('running', 'done', 'failed', 'cancelled')),
    ADD CHECK ((state = 'cancelled') = (num_nulls(cancelled_by, cancel_reason) = 0)),
    ADD CHECK (num_nulls(cancelled_by, cancel_reason) IN (0, 2));
DROP POLICY asked_only ON chain.rescans;
CREATE POLICY asked_only ON chain.rescans AS RESTRICTIVE FOR INSERT TO gateway_api
    WITH CHECK (state = 'running' AND next_height = from_height AND found = 0);
CREATE POLICY cancelled_only ON chain.rescans AS RESTRICTIVE FOR UPDATE TO gateway_api
    USING (state = 'running') WITH CHECK (state = 'cancelled');
GRANT UPDATE (state, waits_for, cancelled_by, cancel_reason, finished_at) ON chain.rescans
    TO gateway_api;

-- Two people may name the most value, in minor units of a currency, that reversals may have besides
-- their number: what arrives until then is not accepted unseen (docs/adr/0013).
ALTER TABLE chain.switch_grants ADD COLUMN value_minor numeric(78, 0)
        CHECK (value_minor > 0 AND value_minor <> 'NaN'),
    ADD COLUMN value_currency text,
    ADD COLUMN taken_value_minor numeric(78, 0) CHECK (taken_value_minor <= value_minor),
    ADD CHECK ((value_minor IS NULL) = (value_currency IS NULL)),
    ADD CHECK (kind = 'reversals' OR value_minor IS NULL);
GRANT UPDATE (taken_value_minor) ON chain.switch_grants TO watchers;
