-- Bumps: further attempts of a family, and children that pay for a parent (docs/adr/0023).
ALTER TABLE chain.outgoing
    ADD COLUMN family_number integer NOT NULL DEFAULT 1, -- the order of attempts; ids follow a clock
    ADD COLUMN replaces_id uuid REFERENCES chain.outgoing (id), -- the attempt that this continues
    ADD COLUMN pays_for_id uuid REFERENCES chain.outgoing (id), -- the payout that it was built for
    ADD COLUMN planned_height bigint,      -- the followed block when a bump was built
    ADD COLUMN broadcast_height bigint,    -- the followed block at the first send
    ADD COLUMN settled_reference text;     -- own moves: the posting of the fee that stands

-- At most one attempt of a family is unsigned, so that "the newest signed one" stands still.
CREATE UNIQUE INDEX outgoing_family_built ON chain.outgoing (family_id) WHERE state = 'built';
CREATE INDEX outgoing_pays_for ON chain.outgoing (pays_for_id) WHERE pays_for_id IS NOT NULL;
CREATE INDEX outgoing_own_moves ON chain.outgoing (network, state)
    WHERE pays_for_id IS NOT NULL OR purpose IN ('consolidate', 'fan_out');
CREATE INDEX outgoing_upkeep ON chain.outgoing (network, created_at)
    WHERE purpose IN ('consolidate', 'fan_out');

-- A replacement keeps the state of its withdrawals and is a version of them all the same.
CREATE OR REPLACE FUNCTION ledger.record_state() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog AS $$
BEGIN
    IF TG_OP = 'UPDATE' AND NEW.state = OLD.state AND NEW.version = OLD.version THEN
        RETURN NULL;
    END IF;
    INSERT INTO ledger.state_history
        (object_kind, object_id, version, brand, from_state, to_state, at, actor, reason)
    VALUES (
        TG_ARGV[0], NEW.id, NEW.version, to_jsonb(NEW) ->> 'brand',
        CASE TG_OP WHEN 'UPDATE' THEN OLD.state END, NEW.state, NEW.state_at,
        nullif(current_setting('cage.actor', true), ''),
        nullif(current_setting('cage.reason', true), ''));
    RETURN NULL;
END
$$;

-- Since when a withdrawal is in its state; NULL: since state_at, which each further attempt moves.
ALTER TABLE gateway.withdrawals ADD COLUMN entered_at timestamptz;
CREATE FUNCTION gateway.keep_entered() RETURNS trigger
LANGUAGE plpgsql SET search_path = pg_catalog AS $$
BEGIN
    NEW.entered_at := CASE WHEN NEW.state = OLD.state THEN coalesce(OLD.entered_at, OLD.state_at) END;
    RETURN NEW;
END
$$;
CREATE TRIGGER withdrawals_entered BEFORE UPDATE OF state ON gateway.withdrawals
    FOR EACH ROW WHEN (NEW.state = OLD.state OR OLD.entered_at IS NOT NULL)
    EXECUTE FUNCTION gateway.keep_entered();
