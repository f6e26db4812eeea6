-- A deposit whose address the player had rotated away before we first saw it (D22). It is credited to
-- the same owner; older rows stay unflagged.
ALTER TABLE chain.deposits ADD COLUMN is_late boolean NOT NULL DEFAULT false;
