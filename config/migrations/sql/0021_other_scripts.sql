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
