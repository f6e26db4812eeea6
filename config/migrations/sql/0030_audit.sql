-- What people and policies changed, for ever, and the seals over it and over the journal
-- (docs/adr on sealed logs). Rows come from the API's dispatcher and from triggers on the tables of
-- control, so that a change by any road leaves one; both write in the unit of work of the change.

CREATE SEQUENCE gateway.audit_position;
CREATE TABLE gateway.audit (
    position bigint NOT NULL DEFAULT nextval('gateway.audit_position'),
    id uuid NOT NULL DEFAULT gen_random_uuid(),
    at timestamptz NOT NULL DEFAULT now(),
    actor text NOT NULL,
    action text NOT NULL,
    subject_kind text NOT NULL,
    subject text NOT NULL,
    brand text,                 -- NULL: the operator's
    before jsonb,
    after jsonb,
    reason text,
    correlation text NOT NULL,  -- of the call, or of the unit of work
    PRIMARY KEY (position, at)
) PARTITION BY RANGE (at);
CREATE INDEX audit_correlation ON gateway.audit (correlation);
CREATE TABLE gateway.audit_default PARTITION OF gateway.audit DEFAULT;

-- Committed rows without a seal. Filled by a trigger, emptied in the unit of work of the seal.
CREATE TABLE gateway.audit_queue (
    position bigint PRIMARY KEY,
    at timestamptz NOT NULL
);
CREATE TABLE gateway.audit_seals (
    sequence bigint PRIMARY KEY CHECK (sequence >= 1),
    position bigint NOT NULL UNIQUE,
    at timestamptz NOT NULL,          -- of the row
    previous_hash text NOT NULL CHECK (length(previous_hash) = 64),
    hash text NOT NULL CHECK (length(hash) = 64),
    sealed_at timestamptz NOT NULL
);

CREATE FUNCTION gateway.queue_audit() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog AS $$
BEGIN
    INSERT INTO gateway.audit_queue (position, at) VALUES (NEW.position, NEW.at);
    PERFORM pg_notify('cage_audit', '');
    RETURN NULL;
END
$$;
CREATE TRIGGER audit_to_seal AFTER INSERT ON gateway.audit
    FOR EACH ROW EXECUTE FUNCTION gateway.queue_audit();
CREATE TRIGGER append_only BEFORE UPDATE OR DELETE ON gateway.audit
    FOR EACH ROW EXECUTE FUNCTION ledger.refuse_change();
CREATE TRIGGER append_only BEFORE UPDATE OR DELETE ON gateway.audit_seals
    FOR EACH ROW EXECUTE FUNCTION ledger.refuse_change();
DO $$
DECLARE
    name text;
BEGIN
    FOREACH name IN ARRAY ARRAY['audit', 'audit_default', 'audit_seals', 'audit_queue'] LOOP
        EXECUTE format('CREATE TRIGGER never_truncated BEFORE TRUNCATE ON gateway.%I '
            'FOR EACH STATEMENT EXECUTE FUNCTION ledger.refuse_change()', name);
    END LOOP;
END
$$;

-- Months ahead, as the journal's (0002_ledger.sql).
CREATE FUNCTION gateway.ensure_audit_partitions(p_from timestamptz, p_months integer)
RETURNS integer
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog AS $$
DECLARE
    first timestamp := date_trunc('month', p_from AT TIME ZONE 'UTC');
    month timestamp;
    name text;
    made integer := 0;
BEGIN
    PERFORM pg_advisory_xact_lock(hashtext('gateway.ensure_audit_partitions'));
    FOR i IN 0..p_months LOOP
        month := first + make_interval(months => i);
        name := format('audit_%s', to_char(month, 'YYYYMM'));
        CONTINUE WHEN to_regclass('gateway.' || name) IS NOT NULL;
        BEGIN
            EXECUTE format(
                'CREATE TABLE gateway.%I PARTITION OF gateway.audit FOR VALUES FROM (%L) TO (%L)',
                name, month AT TIME ZONE 'UTC', (month + interval '1 month') AT TIME ZONE 'UTC');
            EXECUTE format('CREATE TRIGGER never_truncated BEFORE TRUNCATE ON gateway.%I '
                'FOR EACH STATEMENT EXECUTE FUNCTION ledger.refuse_change()', name);
            made := made + 1;
        EXCEPTION WHEN check_violation THEN
            NULL;  -- the default partition holds rows of that month
        END;
    END LOOP;
    RETURN made;
END
$$;

-- One row. Who is `cage.actor` of the unit of work, else the role that is logged in.
CREATE FUNCTION gateway.write_audit(
    p_action text, p_subject_kind text, p_subject text, p_brand text, p_before jsonb,
    p_after jsonb, p_reason text
) RETURNS void
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog AS $$
BEGIN
    INSERT INTO gateway.audit (actor, action, subject_kind, subject, brand, before, after, reason,
                               correlation)
        VALUES (
            coalesce(nullif(current_setting('cage.actor', true), ''), 'role:' || session_user),
            p_action, p_subject_kind, p_subject, p_brand, p_before, p_after, p_reason,
            coalesce(nullif(current_setting('cage.correlation', true), ''),
                'tx:' || pg_current_xact_id()));
END
$$;

-- The same for a role: a unit of work of one brand writes that brand's rows only.
CREATE FUNCTION gateway.append_audit(
    p_action text, p_subject_kind text, p_subject text, p_brand text, p_before jsonb,
    p_after jsonb, p_reason text
) RETURNS void
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog AS $$
BEGIN
    PERFORM ledger.refuse_foreign(ARRAY[p_brand]);
    PERFORM gateway.write_audit(p_action, p_subject_kind, p_subject, p_brand, p_before, p_after,
        p_reason);
END
$$;

-- A changed row of a table of control. Arguments: what it is, the columns that name it (separated
-- by commas), and columns left out, as an array. Of an update only what differs is kept.
CREATE FUNCTION gateway.audit_change() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog AS $$
DECLARE
    left_out text[] := coalesce(TG_ARGV[2], '{}');
    old_row jsonb := CASE WHEN TG_OP <> 'INSERT' THEN to_jsonb(OLD) - left_out END;
    new_row jsonb := CASE WHEN TG_OP <> 'DELETE' THEN to_jsonb(NEW) - left_out END;
    whole jsonb := coalesce(new_row, old_row);
BEGIN
    IF old_row = new_row THEN
        RETURN NULL;
    END IF;
    IF TG_OP = 'UPDATE' THEN
        SELECT jsonb_object_agg(n.key, old_row -> n.key), jsonb_object_agg(n.key, n.value)
            INTO old_row, new_row
            FROM jsonb_each(new_row) AS n WHERE n.value IS DISTINCT FROM old_row -> n.key;
    END IF;
    PERFORM gateway.write_audit(
        TG_ARGV[0] || CASE TG_OP WHEN 'INSERT' THEN '.created' WHEN 'UPDATE' THEN '.changed'
            ELSE '.deleted' END,
        TG_ARGV[0],
        (SELECT string_agg(whole ->> c.name, '/' ORDER BY c.n)
            FROM unnest(string_to_array(TG_ARGV[1], ',')) WITH ORDINALITY AS c (name, n)),
        nullif(whole ->> 'brand', 'operator'), old_row, new_row,
        coalesce(nullif(current_setting('cage.reason', true), ''), whole ->> 'reason'));
    RETURN NULL;
END
$$;

-- A new version of a policy: before is the version that it takes the place of.
CREATE FUNCTION gateway.audit_policy() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog AS $$
DECLARE
    before jsonb;
BEGIN
    EXECUTE format('SELECT content FROM %I.%I WHERE version = $1', TG_TABLE_SCHEMA, TG_TABLE_NAME)
        INTO before USING NEW.version - 1;
    PERFORM gateway.write_audit('policy.changed', 'policy', TG_ARGV[0], NULL, before,
        to_jsonb(NEW), nullif(current_setting('cage.reason', true), ''));
    RETURN NULL;
END
$$;

CREATE TRIGGER audited AFTER INSERT OR UPDATE OR DELETE ON gateway.brands
    FOR EACH ROW EXECUTE FUNCTION gateway.audit_change('brand', 'id');
CREATE TRIGGER audited AFTER INSERT OR UPDATE OR DELETE ON gateway.clients
    FOR EACH ROW EXECUTE FUNCTION gateway.audit_change('key', 'key_id');
CREATE TRIGGER audited AFTER INSERT OR DELETE
    OR UPDATE OF url, types, state, secret_sealed, previous_until ON gateway.webhook_endpoints
    FOR EACH ROW EXECUTE FUNCTION gateway.audit_change('webhook_endpoint', 'id',
        '{secret_sealed,previous_secret_sealed,failures_in_a_row,next_probe_at}');
CREATE TRIGGER audited AFTER INSERT OR UPDATE OR DELETE ON gateway.approvals
    FOR EACH ROW EXECUTE FUNCTION gateway.audit_change('approval', 'id');
CREATE TRIGGER audited AFTER INSERT OR UPDATE OR DELETE ON gateway.inflow_assignments
    FOR EACH ROW EXECUTE FUNCTION gateway.audit_change('inflow_assignment', 'inflow_id');
CREATE TRIGGER audited AFTER INSERT OR UPDATE OR DELETE ON gateway.contract_setups
    FOR EACH ROW EXECUTE FUNCTION gateway.audit_change('contract_setup', 'id');
CREATE TRIGGER audited AFTER INSERT OR UPDATE OR DELETE ON gateway.rebalances
    FOR EACH ROW EXECUTE FUNCTION gateway.audit_change('rebalance', 'id');
CREATE TRIGGER audited AFTER INSERT OR UPDATE OR DELETE ON gateway.recoveries
    FOR EACH ROW EXECUTE FUNCTION gateway.audit_change('recovery', 'id');
CREATE TRIGGER audited AFTER UPDATE OF cleared_by ON gateway.alarms
    FOR EACH ROW WHEN (NEW.cleared_by IS NOT NULL)
    EXECUTE FUNCTION gateway.audit_change('alarm', 'id');
CREATE TRIGGER audited AFTER INSERT OR UPDATE OR DELETE ON chain.switches
    FOR EACH ROW EXECUTE FUNCTION gateway.audit_change('switch', 'scope,action');
CREATE TRIGGER audited AFTER INSERT OR UPDATE OR DELETE ON chain.switch_grants
    FOR EACH ROW EXECUTE FUNCTION gateway.audit_change('switch_grant', 'network,id');
CREATE TRIGGER audited AFTER INSERT OR UPDATE OR DELETE ON chain.player_flags
    FOR EACH ROW EXECUTE FUNCTION gateway.audit_change('player_flags', 'player_id');
CREATE TRIGGER audited AFTER INSERT ON chain.credit_policies
    FOR EACH ROW EXECUTE FUNCTION gateway.audit_policy('confirmations');
CREATE TRIGGER audited AFTER INSERT ON gateway.limit_policies
    FOR EACH ROW EXECUTE FUNCTION gateway.audit_policy('limits');

ALTER TABLE gateway.audit ENABLE ROW LEVEL SECURITY;
CREATE POLICY brand_rows ON gateway.audit USING (config.sees_brand(coalesce(brand, '*')));
ALTER TABLE gateway.audit_seals ENABLE ROW LEVEL SECURITY;
CREATE POLICY brand_rows ON gateway.audit_seals USING ((SELECT config.sees_brand('*')) OR EXISTS
    (SELECT 1 FROM gateway.audit a WHERE (a.position, a.at) = (audit_seals.position, audit_seals.at)));
-- Rows come through the functions alone.
GRANT SELECT ON gateway.audit, gateway.audit_seals TO gateway_api, scheduler;
GRANT SELECT ON gateway.audit_queue TO gateway_api;
GRANT SELECT, DELETE ON gateway.audit_queue TO scheduler;
GRANT INSERT ON gateway.audit_seals TO scheduler;
REVOKE EXECUTE ON FUNCTION gateway.append_audit, gateway.write_audit, gateway.ensure_audit_partitions,
    gateway.audit_change, gateway.audit_policy, gateway.queue_audit FROM PUBLIC;
GRANT EXECUTE ON FUNCTION gateway.append_audit TO gateway_api;
GRANT EXECUTE ON FUNCTION gateway.ensure_audit_partitions TO scheduler;

-- The journal's own chain. A seal names postings, the digest of each (32 bytes, in their order) and
-- the seal before it. Off the road of a posting: a loop seals what stands (ledger/seals.py).
CREATE TABLE ledger.seals (
    sequence bigint PRIMARY KEY CHECK (sequence >= 1),
    postings uuid[] NOT NULL CHECK (cardinality(postings) BETWEEN 1 AND 10000),
    -- When each was booked: with its id the key of the index that finds it again.
    moments timestamptz[] NOT NULL CHECK (cardinality(moments) = cardinality(postings)),
    digests bytea NOT NULL CHECK (length(digests) = 32 * cardinality(postings)),
    first_at timestamptz NOT NULL,    -- of its postings
    last_at timestamptz NOT NULL,
    until timestamptz NOT NULL,       -- every posting booked before it is sealed, but for late ones
    previous_hash text NOT NULL CHECK (length(previous_hash) = 64),
    hash text NOT NULL CHECK (length(hash) = 64),
    sealed_at timestamptz NOT NULL
);
CREATE INDEX seals_last ON ledger.seals (last_at);
CREATE TRIGGER append_only BEFORE UPDATE OR DELETE ON ledger.seals
    FOR EACH ROW EXECUTE FUNCTION ledger.refuse_change();
CREATE TRIGGER never_truncated BEFORE TRUNCATE ON ledger.seals
    FOR EACH STATEMENT EXECUTE FUNCTION ledger.refuse_change();
ALTER TABLE ledger.seals ENABLE ROW LEVEL SECURITY;
CREATE POLICY operator_rows ON ledger.seals USING ((SELECT config.sees_brand('*')));
GRANT SELECT ON ledger.seals TO gateway_api, scheduler;
GRANT INSERT ON ledger.seals TO scheduler;

-- Which kinds there are is the code's (gateway/api/approvals.py).
ALTER TABLE gateway.approvals DROP CONSTRAINT approvals_kind_check,
    ADD CONSTRAINT approvals_kind_check CHECK (kind ~ '^[a-z][a-z_]{1,31}$');
