-- What the signer signed, held against the books (CONTRACT 8, P09). Written by `gateway` only.

-- Up to which entry of the signer's log the books of a network were found to hold every signature.
CREATE TABLE gateway.signer_logs (
    network text PRIMARY KEY,
    sequence bigint NOT NULL CHECK (sequence >= 0),
    entry_hash text NOT NULL,
    compared_at timestamptz NOT NULL,
    life text NOT NULL,                -- of the database that was compared (gateway.database_life)
    asked_at timestamptz               -- the scheduler wants it compared in both directions
);

-- Which database, files and server this is. A restore changes it, whichever way it is made: another
-- database, other files of the table, or a server started anew on older files. So does each
-- ordinary start of the server, which costs one more comparison.
CREATE FUNCTION gateway.database_life() RETURNS text
LANGUAGE sql STABLE SET search_path = pg_catalog AS $$
    SELECT concat_ws(' ', (SELECT oid FROM pg_database WHERE datname = current_database()),
        pg_relation_filenode('gateway.signer_logs'), extract(epoch FROM pg_postmaster_start_time()))
$$;

-- A network whose books lack what the signer signed: nothing is built, signed or sent there until
-- the signer's bytes are imported, the chain was looked at again and two people confirmed.
CREATE TABLE gateway.recoveries (
    id uuid PRIMARY KEY,
    network text NOT NULL,
    state text NOT NULL CHECK (state IN ('open', 'imported', 'confirmed', 'closed')),
    cause text NOT NULL CHECK (cause IN ('unknown_signatures', 'newer_worker', 'other_log')),
    detail text NOT NULL,
    sequence bigint NOT NULL,          -- the log was read up to here when it was last compared
    entry_hash text NOT NULL,
    epoch bigint NOT NULL,             -- the newest worker that the signer knows
    unknown integer NOT NULL DEFAULT 0,    -- signatures that the books lacked when it was opened
    imported integer NOT NULL DEFAULT 0,
    left_over jsonb NOT NULL DEFAULT '[]', -- [{attempt_id, txid, requests, reason}]: a person's case
    rescan_id uuid,                    -- of chain.rescans, null where no block has what was imported
    version integer NOT NULL DEFAULT 1,
    opened_at timestamptz NOT NULL,
    imported_at timestamptz,
    confirmed_at timestamptz,
    confirmed_by text[],               -- the two people
    closed_at timestamptz,
    CHECK ((state IN ('confirmed', 'closed')) = (confirmed_by IS NOT NULL)),
    CHECK (confirmed_by IS NULL
        OR (cardinality(confirmed_by) = 2 AND confirmed_by[1] <> confirmed_by[2]))
);
CREATE UNIQUE INDEX recoveries_open ON gateway.recoveries (network) WHERE state <> 'closed';

-- Coins of signatures that could not be imported, also before a block brings them: nobody may spend
-- them, since what was signed may be sent by whoever has its bytes. Written by `cage recover` alone.
CREATE TABLE chain.kept_coins (
    network text NOT NULL,
    txid text NOT NULL,
    vout integer NOT NULL,
    attempt_id uuid NOT NULL,          -- the signer's, no row of chain.outgoing
    PRIMARY KEY (network, txid, vout, attempt_id)
);
GRANT SELECT ON chain.kept_coins TO gateway_payouts, gateway_api, watchers;

GRANT SELECT, INSERT, UPDATE ON gateway.signer_logs TO gateway_payouts;
GRANT SELECT ON gateway.signer_logs, gateway.recoveries TO gateway_api, scheduler;
GRANT UPDATE (asked_at) ON gateway.signer_logs TO scheduler;
GRANT SELECT, INSERT ON gateway.recoveries TO gateway_payouts;
-- Payouts closes what people confirmed; it never confirms.
GRANT UPDATE (state, cause, detail, sequence, entry_hash, epoch, unknown, version, closed_at)
    ON gateway.recoveries TO gateway_payouts;
GRANT UPDATE (state, version, confirmed_at, confirmed_by) ON gateway.recoveries TO gateway_api;

ALTER TABLE gateway.approvals DROP CONSTRAINT approvals_kind_check,
    ADD CONSTRAINT approvals_kind_check CHECK (
        kind IN ('switch', 'policy', 'rate', 'limits', 'recovery'));

-- Whoever writes: nothing is confirmed that was not imported, and nothing closed that people did not
-- confirm; an import or a newer loss may open it again before.
CREATE FUNCTION gateway.check_recovery() RETURNS trigger
LANGUAGE plpgsql SET search_path = pg_catalog AS $$
BEGIN
    IF TG_OP = 'INSERT' THEN
        IF NEW.state <> 'open' OR NEW.confirmed_by IS NOT NULL THEN
            RAISE EXCEPTION 'a recovery begins open' USING ERRCODE = 'check_violation';
        END IF;
    ELSIF NEW.state <> OLD.state AND (
        (NEW.state = 'confirmed' AND OLD.state <> 'imported')
        OR (NEW.state = 'closed' AND OLD.state <> 'confirmed')
        OR OLD.state = 'closed'
    ) THEN
        RAISE EXCEPTION 'a recovery does not go from % to %', OLD.state, NEW.state
            USING ERRCODE = 'check_violation';
    END IF;
    IF array_position(NEW.confirmed_by, NULL) IS NOT NULL THEN
        RAISE EXCEPTION 'two people have names' USING ERRCODE = 'check_violation';
    END IF;
    RETURN NEW;
END
$$;
CREATE TRIGGER recovery_road BEFORE INSERT OR UPDATE ON gateway.recoveries
    FOR EACH ROW EXECUTE FUNCTION gateway.check_recovery();
