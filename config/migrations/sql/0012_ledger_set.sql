-- The ledger set-wise.
SELECT 1;
