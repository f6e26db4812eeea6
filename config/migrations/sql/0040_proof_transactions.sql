-- The transactions whose outputs a proof of reserves lists: that a coin pays the address it is listed
-- under is then checked offline (docs/adr/0036).
ALTER TABLE gateway.proof_parts DROP CONSTRAINT proof_parts_kind_check,
    ADD CONSTRAINT proof_parts_kind_check
        CHECK (kind IN ('liabilities', 'holdings', 'transactions'));
