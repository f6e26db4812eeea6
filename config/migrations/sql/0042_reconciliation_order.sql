-- When a comparison read the books: the one that read them last says what is open.
ALTER TABLE chain.reconciliation_runs ADD COLUMN read_at timestamptz;  -- NULL: before this version
CREATE INDEX reconciliation_runs_read ON chain.reconciliation_runs (network, read_at)
    WHERE read_at IS NOT NULL;
