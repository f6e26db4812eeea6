-- Breakers: what is stopped, since when, by whom; what two people agree to (docs/adr/0013).

-- One row per (scope, action) that was ever stopped; no row means running. One person or the house
-- itself stops; `running` again carries two different people, and only the API's role can write it.
CREATE TABLE chain.switches (
    id uuid PRIMARY KEY,
    scope text NOT NULL CHECK (scope ~ '^(network:[a-z][a-z0-9]{1,15}|asset:[a-z][a-z0-9]{1,15}:[A-Za-z0-9]{2,64})$'),
    action text NOT NULL CHECK (action IN ('all', 'accept', 'credit', 'build', 'sign', 'broadcast', 'sweep')),
    state text NOT NULL CHECK (state IN ('stopped', 'running')),
    reason text NOT NULL CHECK (length(reason) BETWEEN 1 AND 500),
    -- Of the stop that stands: each `actor: reason` once. A new cause raises `version`, so that an
    -- approval given before it became known no longer fits.
    causes text[] NOT NULL DEFAULT '{}' CHECK (cardinality(causes) <= 20),
    changed_by text NOT NULL,              -- who stopped it last, or who asked for the start
    approved_by text,                      -- the second person of a start
    version integer NOT NULL DEFAULT 1,
    stopped_at timestamptz NOT NULL,
    changed_at timestamptz NOT NULL,
    UNIQUE (scope, action),
    CHECK ((state = 'running') = (approved_by IS NOT NULL)),
    CHECK (approved_by IS NULL OR approved_by <> changed_by),
    CHECK ((state = 'stopped') = (cardinality(causes) > 0))
);
CREATE INDEX switches_stopped ON chain.switches (scope) WHERE state = 'stopped';

-- Every change for ever, written by the database, changed by nobody.
CREATE TABLE chain.switch_history (
    switch_id uuid NOT NULL,
    version integer NOT NULL,
    scope text NOT NULL,
    action text NOT NULL,
    state text NOT NULL,
    reason text NOT NULL,
    changed_by text NOT NULL,
    approved_by text,
    changed_at timestamptz NOT NULL,
    PRIMARY KEY (switch_id, version)
);
CREATE FUNCTION chain.record_switch() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog AS $$
BEGIN
    INSERT INTO chain.switch_history (switch_id, version, scope, action, state, reason,
                                      changed_by, approved_by, changed_at)
        VALUES (NEW.id, NEW.version, NEW.scope, NEW.action, NEW.state, NEW.reason,
                NEW.changed_by, NEW.approved_by, NEW.changed_at);
    RETURN NULL;
END
$$;
CREATE FUNCTION chain.refuse_change() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION 'chain.% is append-only', TG_TABLE_NAME;
END
$$;
-- A stop is what it was made for: nobody moves it elsewhere, takes a cause off it while it stands,
-- or takes its row away.
CREATE FUNCTION chain.keep_switch() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF TG_OP = 'DELETE' OR (NEW.id, NEW.scope, NEW.action) <> (OLD.id, OLD.scope, OLD.action)
            OR NEW.version <> OLD.version + 1
            OR (NEW.state = 'stopped' AND NOT NEW.causes @> OLD.causes) THEN
        RAISE EXCEPTION 'switch %: a stop keeps its scope, action and causes', OLD.scope;
    END IF;
    RETURN NEW;
END
$$;
CREATE TRIGGER keeps_its_meaning BEFORE UPDATE OR DELETE ON chain.switches
    FOR EACH ROW EXECUTE FUNCTION chain.keep_switch();
CREATE TRIGGER never_truncated BEFORE TRUNCATE ON chain.switches
    FOR EACH STATEMENT EXECUTE FUNCTION chain.refuse_change();
CREATE TRIGGER switches_history AFTER INSERT OR UPDATE ON chain.switches
    FOR EACH ROW EXECUTE FUNCTION chain.record_switch();
CREATE TRIGGER append_only BEFORE UPDATE OR DELETE ON chain.switch_history
    FOR EACH ROW EXECUTE FUNCTION chain.refuse_change();
CREATE TRIGGER never_truncated BEFORE TRUNCATE ON chain.switch_history
    FOR EACH STATEMENT EXECUTE FUNCTION chain.refuse_change();

-- What two people allowed once: so many reversals in one step, or a reorg down to a height.
CREATE TABLE chain.switch_grants (
    id uuid PRIMARY KEY,
    network text NOT NULL,
    kind text NOT NULL CHECK (kind IN ('reversals', 'reorg')),
    count bigint NOT NULL CHECK (count > 0),           -- reversals at most, or blocks below `height`
    height bigint CHECK (height >= 0),                 -- where the follower stood when it was given
    -- Of the network's `all` when it was given, 0 without one: the next stop ends it for good.
    switch_version integer NOT NULL,
    proposed_by text NOT NULL,
    approved_by text NOT NULL CHECK (approved_by <> proposed_by),
    created_at timestamptz NOT NULL,
    expires_at timestamptz NOT NULL,
    taken_at timestamptz,
    taken_count bigint CHECK (taken_count <= count),
    CHECK ((kind = 'reorg') = (height IS NOT NULL)),
    CHECK ((taken_at IS NULL) = (taken_count IS NULL))
);
CREATE INDEX switch_grants_open ON chain.switch_grants (network, kind, expires_at)
    WHERE taken_at IS NULL;

-- Everybody reads what is stopped; who watches or pays may stop, and no more than that.
ALTER TABLE chain.switches ENABLE ROW LEVEL SECURITY;
CREATE POLICY all_rows ON chain.switches USING (true);
CREATE POLICY stop_only ON chain.switches AS RESTRICTIVE TO watchers, gateway_payouts
    USING (true) WITH CHECK (state = 'stopped');
GRANT SELECT, INSERT, UPDATE (state, reason, causes, changed_by, approved_by, version, stopped_at,
    changed_at) ON chain.switches TO watchers, gateway_payouts, gateway_api;
GRANT SELECT ON chain.switches TO gateway_webhooks, scheduler;
GRANT SELECT ON chain.switch_history TO watchers, gateway_payouts, gateway_api, scheduler;
GRANT SELECT ON chain.switch_grants TO watchers, gateway_api;
GRANT UPDATE (taken_at, taken_count) ON chain.switch_grants TO watchers;
GRANT INSERT ON chain.switch_grants TO gateway_api;
GRANT UPDATE (stopped_reason, top_height, updated_at) ON chain.cursors TO gateway_api;

-- A network that was stopped before this version had breakers.
INSERT INTO chain.switches (id, scope, action, state, reason, causes, changed_by, stopped_at,
                            changed_at)
    SELECT gen_random_uuid(), 'network:' || network, 'all', 'stopped', left(stopped_reason, 500),
           ARRAY['watcher: ' || left(stopped_reason, 500)], 'watcher', updated_at, updated_at
    FROM chain.cursors WHERE stopped_reason <> '';

-- Decisions that need two people. One open decision per subject; `subject_version` is the version
-- of the thing that the first person saw.
CREATE TABLE gateway.approvals (
    id uuid PRIMARY KEY,
    kind text NOT NULL CHECK (kind IN ('switch')),
    subject text NOT NULL,
    subject_version integer NOT NULL,
    content jsonb NOT NULL,                -- what is done when it is approved
    reason text NOT NULL,
    state text NOT NULL CHECK (state IN ('pending_approval', 'done', 'declined', 'expired')),
    proposed_by text NOT NULL,             -- key id
    proposed_person text NOT NULL,
    decided_by text,
    decided_person text,
    created_at timestamptz NOT NULL,
    expires_at timestamptz NOT NULL,
    decided_at timestamptz,
    CHECK (state <> 'done' OR (decided_by IS NOT NULL AND decided_person <> proposed_person)),
    CHECK ((state = 'pending_approval') = (decided_at IS NULL))
);
CREATE UNIQUE INDEX approvals_open ON gateway.approvals (kind, subject)
    WHERE state = 'pending_approval';
CREATE INDEX approvals_list ON gateway.approvals (id DESC);
GRANT SELECT, INSERT ON gateway.approvals TO gateway_api;
GRANT UPDATE (state, decided_by, decided_person, decided_at) ON gateway.approvals TO gateway_api;
GRANT SELECT ON gateway.approvals TO scheduler;

ALTER TABLE gateway.alarms ADD COLUMN cleared_by text;   -- the person; NULL: it ended by itself
