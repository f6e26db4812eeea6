-- A warm wallet (docs/adr/0043): its key is the signer's, and two people sign each move from and to it.
ALTER TABLE chain.addresses DROP CONSTRAINT addresses_role_check,
    ADD CONSTRAINT addresses_role_check
    CHECK (role IN ('deposit', 'hot', 'change', 'gas', 'warm', 'cold'));
ALTER TABLE chain.inflows DROP CONSTRAINT inflows_role_check,
    ADD CONSTRAINT inflows_role_check
    CHECK (role IN ('deposit', 'hot', 'change', 'gas', 'warm', 'cold'));
COMMENT ON COLUMN chain.coins.is_cold IS 'of the cold or the warm wallet: no payout spends it';

ALTER TABLE gateway.rebalances DROP CONSTRAINT rebalances_direction_check,
    ADD CONSTRAINT rebalances_direction_check
    CHECK (direction IN ('hot_to_cold', 'cold_to_hot', 'hot_to_warm', 'warm_to_hot'));
-- Only what is signed elsewhere is handed out unsigned, and all else is planned here.
ALTER TABLE gateway.rebalances DROP CONSTRAINT rebalances_check2,
    ADD CONSTRAINT rebalances_planned_here
    CHECK (state <> 'planned' OR direction <> 'cold_to_hot');
-- A warm wallet's moves take two people whatever their size. What lost books get back from the
-- signer's log is nobody's wish: the signer saw both.
ALTER TABLE gateway.rebalances ADD CONSTRAINT rebalances_warm_takes_two
    CHECK (direction NOT IN ('hot_to_warm', 'warm_to_hot') OR people_needed = 2
        OR requested_by IS NULL);
