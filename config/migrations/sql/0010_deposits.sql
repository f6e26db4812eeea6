-- Deposits at scale, and what happens to them before any block.

-- Addresses in the order of their commits: a watcher reads what came since by `number`. Inserts wait
-- in line until their unit of work ends, so that no lower number becomes visible after a higher one.
ALTER TABLE chain.addresses ADD COLUMN number bigint GENERATED ALWAYS AS IDENTITY;
CREATE UNIQUE INDEX addresses_number ON chain.addresses (network, number);
CREATE FUNCTION chain.wait_in_line() RETURNS trigger
LANGUAGE plpgsql SET search_path = pg_catalog AS $$
BEGIN
    PERFORM pg_advisory_xact_lock(hashtextextended('chain.addresses/number', 0));
    RETURN NULL;
END
$$;
CREATE TRIGGER addresses_in_line BEFORE INSERT ON chain.addresses
    FOR EACH STATEMENT EXECUTE FUNCTION chain.wait_in_line();

-- Every outpoint that a deposit's tx needs: its own inputs, and those of its unconfirmed ancestors.
-- `spender` is the tx that spends it where the deposit is good: another one makes it impossible.
ALTER TABLE chain.deposit_inputs ADD COLUMN spender text;
UPDATE chain.deposit_inputs SET spender = txid;
ALTER TABLE chain.deposit_inputs ALTER COLUMN spender SET NOT NULL;

-- `absent_at_height` of a detected deposit: nobody has had its tx since some block; if that stays,
-- it is `dropped` here. `degraded_at_height`: the count of absence stands still since then.
ALTER TABLE chain.cursors ADD COLUMN degraded_at_height bigint;
-- When a detected deposit's tx is looked for next; what was detected before this version is due.
ALTER TABLE chain.deposits ADD COLUMN check_at_height bigint;
UPDATE chain.deposits SET check_at_height = 0 WHERE state = 'detected';
CREATE INDEX deposits_check_due ON chain.deposits (network, check_at_height)
    WHERE state = 'detected';
