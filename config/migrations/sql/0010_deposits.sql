-- Deposits set-wise.
SELECT 1;
