-- What people decide about deposits (CONTRACT 4, docs/adr/0042): held value has its account, whatever
-- stands aside is due once, at its finality, and the API may make two steps and no other.
ALTER TABLE chain.deposits DROP CONSTRAINT deposits_credited_stage_check,
    ADD CONSTRAINT deposits_credited_stage_check
    CHECK (credited_stage IN ('provisional', 'clearing', 'unallocated', 'held'));

-- `final_at_height` of a deposit that stands aside (on hold, below the minimum, rejected) goes at its
-- finality: with a block and without a threshold it is final.
DROP INDEX chain.deposits_final_due;
CREATE INDEX deposits_final_due ON chain.deposits (network, final_at_height)
    WHERE state IN ('pending', 'provisional', 'orphaned', 'below_minimum', 'on_hold', 'rejected')
        AND final_at_height IS NOT NULL;

-- A stolen API releases what is held and rejects what stands aside; it moves no other deposit.
GRANT UPDATE (state, version, state_at, substatus, credited_stage, sweep_state) ON chain.deposits
    TO gateway_api;
CREATE POLICY decided_only ON chain.deposits AS RESTRICTIVE FOR UPDATE TO gateway_api
    USING (state IN ('on_hold', 'below_minimum', 'unsupported'))
    WITH CHECK (state = 'rejected' OR (state = 'final' AND credited_stage = 'clearing'));
