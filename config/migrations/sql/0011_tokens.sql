-- Tokens and contracts: checks, unlisted assets, traces.
SELECT 1;
