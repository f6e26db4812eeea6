-- Nodes of each network: what each one said last, quarantine.
SELECT 1;
