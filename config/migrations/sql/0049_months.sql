-- Events, state history, the numbered log and the deliveries by month (HOUSE 7, docs/adr/0041).
-- An id is a UUIDv7 (RFC 9562 5.7): its first 48 bits are the milliseconds of its birth, so that the
-- ids of a month are one range of uuid. Each table is parted by an id itself: what is unique for
-- ever stays so under a plain key, and whoever asks by the id opens one partition. Ids that are no
-- UUIDv7 (of a network, of a node) are spread over all of uuid and lie in the default partition.

-- The lowest id that can be born at a moment.
CREATE FUNCTION config.first_id(p_at timestamptz) RETURNS uuid
LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE
RETURN rpad(lpad(to_hex(floor(extract(epoch FROM p_at) * 1000)::bigint), 12, '0'), 32, '0')::uuid;

-- Makes the partitions from the month of `p_from`, `p_months` ahead, of a table that is parted by a
-- moment or by an id; idempotent. A month whose rows already lie in the default partition is left
-- there, and one that was detached keeps its name and is not made again. Row triggers come to a
-- partition from its parent, statement triggers and storage parameters do not. Whoever wants the
-- table waits behind us: so we wait for a short time only, and try again at the next tick.
CREATE FUNCTION config.make_months(p_table regclass, p_from timestamptz, p_months integer)
RETURNS integer
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog SET lock_timeout = '2s' AS $$
DECLARE
    parent record;
    trigger_text text;
    starts timestamptz;
    ends timestamptz;
    part text;
    made integer := 0;
BEGIN
    IF p_months NOT BETWEEN 0 AND 300 THEN
        RAISE EXCEPTION 'a month at most 300 ahead is wanted, not %', p_months;
    END IF;
    SELECT n.nspname AS schema, c.relname AS name, a.atttypid = 'uuid'::regtype AS is_by_id,
        coalesce('WITH (' || array_to_string(d.reloptions, ', ') || ')', '') AS options
        INTO STRICT parent
        FROM pg_partitioned_table p
        JOIN pg_class c ON c.oid = p.partrelid
        JOIN pg_namespace n ON n.oid = c.relnamespace
        JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum = p.partattrs[0]
        JOIN pg_class d ON d.oid = p.partdefid
        WHERE p.partrelid = p_table AND n.nspname IN ('ledger', 'gateway');
    PERFORM pg_advisory_xact_lock(hashtextextended('months of ' || p_table::text, 0));
    FOR i IN 0..p_months LOOP
        starts := (date_trunc('month', p_from AT TIME ZONE 'UTC') + make_interval(months => i))
            AT TIME ZONE 'UTC';
        ends := (starts AT TIME ZONE 'UTC' + interval '1 month') AT TIME ZONE 'UTC';
        part := format('%I.%I', parent.schema,
            parent.name || '_' || to_char(starts AT TIME ZONE 'UTC', 'YYYYMM'));
        CONTINUE WHEN to_regclass(part) IS NOT NULL;
        BEGIN
            EXECUTE format('CREATE TABLE %s PARTITION OF %s FOR VALUES FROM (%L) TO (%L) %s',
                part, p_table,
                CASE WHEN parent.is_by_id THEN config.first_id(starts)::text ELSE starts::text END,
                CASE WHEN parent.is_by_id THEN config.first_id(ends)::text ELSE ends::text END,
                parent.options);
            FOR trigger_text IN
                SELECT replace(pg_get_triggerdef(t.oid), format(' ON %s ', p_table),
                    format(' ON %s ', part))
                FROM pg_trigger t
                WHERE t.tgrelid = p_table AND NOT t.tgisinternal AND t.tgtype & 1 = 0  -- statement
            LOOP
                EXECUTE trigger_text;
            END LOOP;
            made := made + 1;
        EXCEPTION WHEN check_violation THEN
            NULL;  -- the default partition holds rows of that month
        END;
    END LOOP;
    RETURN made;
END
$$;
REVOKE ALL ON FUNCTION config.make_months(regclass, timestamptz, integer) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION config.make_months(regclass, timestamptz, integer) TO scheduler;

-- The journal and the audit log get theirs from the same function.
CREATE OR REPLACE FUNCTION ledger.ensure_partitions(p_from timestamptz, p_months integer)
RETURNS integer
LANGUAGE sql SECURITY DEFINER SET search_path = pg_catalog AS $$
    SELECT config.make_months('ledger.entries', p_from, p_months)
$$;
DROP FUNCTION gateway.ensure_audit_partitions(timestamptz, integer);

-- What stands moves aside with its indexes, so that the new tables have their names.
ALTER TABLE ledger.events SET SCHEMA config;
ALTER TABLE ledger.state_history SET SCHEMA config;
ALTER TABLE gateway.event_log SET SCHEMA config;
ALTER TABLE gateway.deliveries SET SCHEMA config;

CREATE TABLE ledger.events (
    position bigint GENERATED ALWAYS AS IDENTITY,
    id uuid PRIMARY KEY,
    brand text,  -- NULL: the operator's stream
    type text NOT NULL,
    object_kind text NOT NULL,
    object_id uuid NOT NULL,
    object_version integer NOT NULL,
    previous_state text,
    snapshot jsonb NOT NULL,
    created_at timestamptz NOT NULL,
    xid xid8 NOT NULL DEFAULT pg_current_xact_id()
) PARTITION BY RANGE (id);
CREATE INDEX events_object ON ledger.events (object_id, object_version);

-- By its object: one partition has all of an object's history.
CREATE TABLE ledger.state_history (
    object_kind text NOT NULL,
    object_id uuid NOT NULL,
    version integer NOT NULL,
    brand text,
    from_state text,
    to_state text NOT NULL,
    at timestamptz NOT NULL,
    actor text,
    reason text,
    PRIMARY KEY (object_id, version)
) PARTITION BY RANGE (object_id);

CREATE TABLE gateway.event_log (
    brand text NOT NULL,
    seq bigint NOT NULL CHECK (seq > 0),
    event_id uuid PRIMARY KEY,
    type text NOT NULL,
    object_kind text NOT NULL,
    object_id uuid NOT NULL,
    object_version integer NOT NULL,
    body text NOT NULL,
    created_at timestamptz NOT NULL
) PARTITION BY RANGE (event_id);
CREATE INDEX event_log_object ON gateway.event_log (object_id, object_version);
CREATE INDEX event_log_created ON gateway.event_log USING brin (created_at);

-- The numbers, unique for ever, and which event has each: the road of the feed into the log.
CREATE TABLE gateway.event_numbers (
    brand text NOT NULL,
    seq bigint NOT NULL,
    event_id uuid NOT NULL,
    PRIMARY KEY (brand, seq)
);
CREATE FUNCTION gateway.keep_numbers() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog AS $$
BEGIN
    INSERT INTO gateway.event_numbers (brand, seq, event_id)
        SELECT brand, seq, event_id FROM numbered;
    RETURN NULL;
END
$$;
REVOKE ALL ON FUNCTION gateway.keep_numbers() FROM PUBLIC;

-- The feed of a brand up to this number was put away: it is refused below, never told with a hole.
ALTER TABLE gateway.event_counters ADD COLUMN put_away_seq bigint NOT NULL DEFAULT 0
    CHECK (put_away_seq BETWEEN 0 AND last_seq);

-- By its object: what is pending of (endpoint, object) lies in one partition, and the keys that hold
-- the object beside the event or the endpoint are as strict as without it.
CREATE TABLE gateway.deliveries (
    id uuid NOT NULL,
    endpoint_id uuid NOT NULL REFERENCES gateway.webhook_endpoints (id),
    brand text NOT NULL,
    seq bigint NOT NULL,
    event_id uuid NOT NULL,
    object_id uuid NOT NULL,
    object_version integer NOT NULL,
    state text NOT NULL CHECK (state IN ('pending', 'delivered', 'parked')),
    attempts integer NOT NULL DEFAULT 0,
    first_attempt_at timestamptz,
    next_attempt_at timestamptz NOT NULL,
    claimed_until timestamptz,                 -- one try is in flight; past it, its process died
    is_oldest boolean NOT NULL,                -- of the pending ones of (endpoint, object)
    last_status integer,
    last_error text,
    delivered_at timestamptz,
    created_at timestamptz NOT NULL,
    PRIMARY KEY (id, object_id),
    UNIQUE (endpoint_id, event_id, object_id)  -- an event has one object
) PARTITION BY RANGE (object_id);
-- Per (endpoint, object) only the oldest undelivered event is tried.
CREATE INDEX deliveries_due ON gateway.deliveries (endpoint_id, next_attempt_at, seq)
    WHERE state = 'pending' AND is_oldest;
CREATE UNIQUE INDEX deliveries_oldest ON gateway.deliveries (endpoint_id, object_id)
    WHERE state = 'pending' AND is_oldest;
CREATE INDEX deliveries_object ON gateway.deliveries (endpoint_id, object_id, seq)
    WHERE state = 'pending';
CREATE INDEX deliveries_endpoint ON gateway.deliveries (endpoint_id, id);

CREATE TABLE ledger.events_default PARTITION OF ledger.events DEFAULT;
CREATE TABLE ledger.state_history_default PARTITION OF ledger.state_history DEFAULT;
CREATE TABLE gateway.event_log_default PARTITION OF gateway.event_log DEFAULT;
CREATE TABLE gateway.deliveries_default PARTITION OF gateway.deliveries DEFAULT
    WITH (fillfactor = 80);

DO $$
DECLARE
    name text;
BEGIN
    FOREACH name IN ARRAY ARRAY['events', 'state_history'] LOOP
        EXECUTE format(
            'CREATE TRIGGER append_only BEFORE UPDATE OR DELETE ON ledger.%I '
            'FOR EACH ROW EXECUTE FUNCTION ledger.refuse_change()', name);
        PERFORM ledger.guard(name, false);
        PERFORM ledger.guard(name || '_default', false);
    END LOOP;
    CREATE TRIGGER append_only BEFORE UPDATE OR DELETE ON gateway.event_numbers
        FOR EACH ROW EXECUTE FUNCTION ledger.refuse_change();
    CREATE TRIGGER never_truncated BEFORE TRUNCATE ON gateway.event_numbers
        FOR EACH STATEMENT EXECUTE FUNCTION ledger.refuse_change();
END
$$;

-- The months of what stands, and this month and the next, so that no row has to wait for the
-- scheduler in the default partition. Then the rows, each to its month.
DO $$
DECLARE
    part record;
    born timestamptz;  -- the oldest of its ids
    earliest timestamp;
    this_month timestamp := date_trunc('month', now() AT TIME ZONE 'UTC');
BEGIN
    FOR part IN SELECT * FROM (VALUES
        ('ledger.events', 'config.events', 'id'),
        ('ledger.state_history', 'config.state_history', 'object_id'),
        ('gateway.event_log', 'config.event_log', 'event_id'),
        ('gateway.deliveries', 'config.deliveries', 'object_id')
    ) AS v (name, old, key) LOOP
        EXECUTE format(
            'SELECT to_timestamp((''x'' || left(replace(%1$I::text, ''-'', ''''), 12))'
            '::bit(48)::bigint / 1000.0) FROM %2$s '
            'WHERE substr(%1$I::text, 15, 1) = ''7'' AND %1$I >= config.first_id($1) '
            'ORDER BY %1$I LIMIT 1',
            part.key, part.old) INTO born USING now() - interval '20 years';
        earliest := least(date_trunc('month', born AT TIME ZONE 'UTC'), this_month);
        PERFORM config.make_months(part.name::regclass, earliest AT TIME ZONE 'UTC',
            (extract(year FROM age(this_month, earliest)) * 12
                + extract(month FROM age(this_month, earliest)))::integer + 1);
        EXECUTE format('INSERT INTO %s OVERRIDING SYSTEM VALUE SELECT * FROM %s',
            part.name, part.old);
        EXECUTE format('DROP TABLE %s', part.old);
    END LOOP;
END
$$;
SELECT setval(pg_get_serial_sequence('ledger.events', 'position'),
    (SELECT coalesce(max(position), 0) + 1 FROM ledger.events), false);

-- The triggers come after the rows, which one statement brought: they would keep all of it aside.
INSERT INTO gateway.event_numbers (brand, seq, event_id)
    SELECT brand, seq, event_id FROM gateway.event_log;
CREATE TRIGGER numbers_kept AFTER INSERT ON gateway.event_log
    REFERENCING NEW TABLE AS numbered
    FOR EACH STATEMENT EXECUTE FUNCTION gateway.keep_numbers();
-- What was copied is queued already, or numbered.
CREATE TRIGGER events_to_number AFTER INSERT ON ledger.events
    REFERENCING NEW TABLE AS appended
    FOR EACH STATEMENT EXECUTE FUNCTION gateway.queue_events();

ALTER TABLE ledger.state_history ENABLE ROW LEVEL SECURITY;
CREATE POLICY brand_rows ON ledger.state_history USING (config.sees_brand(coalesce(brand, '*')));
ALTER TABLE ledger.events ENABLE ROW LEVEL SECURITY;
CREATE POLICY brand_rows ON ledger.events USING (config.sees_brand(coalesce(brand, '*')))
    WITH CHECK (config.sees_brand(coalesce(brand, '*')));
DO $$
DECLARE
    name text;
BEGIN
    FOREACH name IN ARRAY ARRAY['event_log', 'event_numbers', 'deliveries'] LOOP
        EXECUTE format('ALTER TABLE gateway.%I ENABLE ROW LEVEL SECURITY', name);
        EXECUTE format(
            'CREATE POLICY brand_rows ON gateway.%I USING (config.sees_brand(brand)) '
            'WITH CHECK (config.sees_brand(brand))', name);
    END LOOP;
END
$$;

-- Not on the partitions: their parent's policies would not hold there.
GRANT SELECT ON ledger.state_history
    TO gateway_api, gateway_payouts, gateway_webhooks, watchers, scheduler;
GRANT SELECT ON ledger.events TO gateway_payouts, gateway_webhooks, watchers, scheduler;
GRANT INSERT (id, brand, type, object_kind, object_id, object_version, previous_state, snapshot,
    created_at) ON ledger.events
    TO gateway_api, gateway_payouts, gateway_webhooks, watchers, scheduler;
GRANT SELECT ON gateway.event_log, gateway.event_numbers, gateway.deliveries
    TO gateway_api, scheduler;
GRANT SELECT, INSERT ON gateway.event_log TO gateway_webhooks;
GRANT SELECT ON gateway.event_numbers TO gateway_webhooks;
GRANT SELECT, INSERT, UPDATE ON gateway.deliveries TO gateway_webhooks;

-- As before (0035_deliveries.sql), by the objects of the events: each opens one partition.
CREATE OR REPLACE FUNCTION gateway.send_again(
    p_endpoint uuid, p_ids uuid[], p_events uuid[], p_at timestamptz) RETURNS integer
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog AS $$
DECLARE
    v_brand text;
    v_objects uuid[];
    v_count integer;
BEGIN
    SELECT e.brand INTO v_brand FROM gateway.webhook_endpoints e
        WHERE e.id = p_endpoint AND e.state <> 'deleted' AND config.sees_brand(e.brand);
    IF NOT FOUND THEN
        RETURN 0;
    END IF;
    -- The sequencer holds a brand's counter while it adds deliveries: nothing is added beside us, and
    -- what it adds afterwards sees what we queued.
    PERFORM 1 FROM gateway.event_counters c WHERE c.brand = v_brand FOR UPDATE;
    v_objects := ARRAY(SELECT DISTINCT l.object_id FROM gateway.event_log l
        WHERE l.event_id = ANY(p_events));
    -- A try that ends meanwhile waits for us, and then lets the right one go.
    PERFORM 1 FROM gateway.deliveries d
        WHERE d.endpoint_id = p_endpoint AND d.object_id = ANY(v_objects)
            AND (d.event_id = ANY(p_events) OR d.state = 'pending')
        ORDER BY d.id FOR UPDATE;
    WITH wanted AS (
        SELECT w.id, l.* FROM unnest(p_ids, p_events) AS w (id, wanted_event)
        JOIN gateway.event_log l ON l.event_id = w.wanted_event AND l.brand = v_brand
    ), queued AS (
        INSERT INTO gateway.deliveries AS d (id, endpoint_id, brand, seq, event_id, object_id,
            object_version, is_oldest, state, next_attempt_at, created_at)
        SELECT w.id, p_endpoint, w.brand, w.seq, w.event_id, w.object_id, w.object_version, false,
            'pending', p_at, p_at
        FROM wanted w
        ON CONFLICT (endpoint_id, event_id, object_id) DO UPDATE SET state = 'pending',
            attempts = 0, first_attempt_at = NULL, next_attempt_at = p_at, claimed_until = NULL,
            is_oldest = false, delivered_at = NULL
            WHERE d.state <> 'pending'
        RETURNING 1
    )
    SELECT count(*) INTO v_count FROM queued;
    UPDATE gateway.deliveries d SET next_attempt_at = least(d.next_attempt_at, p_at)
        WHERE d.endpoint_id = p_endpoint AND d.object_id = ANY(v_objects)
            AND d.event_id = ANY(p_events) AND d.state = 'pending' AND d.next_attempt_at > p_at;
    UPDATE gateway.deliveries d SET is_oldest = false
        WHERE d.endpoint_id = p_endpoint AND d.object_id = ANY(v_objects)
            AND d.state = 'pending' AND d.is_oldest
            AND EXISTS (SELECT 1 FROM gateway.deliveries older
                        WHERE older.endpoint_id = p_endpoint AND older.object_id = d.object_id
                            AND older.state = 'pending' AND older.seq < d.seq);
    UPDATE gateway.deliveries d SET is_oldest = true
        FROM (
            SELECT DISTINCT ON (o.object_id) o.id, o.object_id FROM gateway.deliveries o
            WHERE o.endpoint_id = p_endpoint AND o.state = 'pending'
                AND o.object_id = ANY(v_objects)
            ORDER BY o.object_id, o.seq
        ) AS oldest
        WHERE d.id = oldest.id AND d.object_id = oldest.object_id AND NOT d.is_oldest;
    PERFORM pg_notify('cage_feed', '');
    RETURN v_count;
END
$$;

-- Takes a month out of one of these tables; false: it is not (or no more) in it. The rows stay in the
-- table of the month, which nobody may change any more, until the owner has put it elsewhere. What
-- still has work in it is refused. The owner's alone. Of the log, what is numbered waits for us: the
-- locks are the sequencer's and in its order.
CREATE FUNCTION config.detach_month(p_table regclass, p_month timestamptz) RETURNS boolean
LANGUAGE plpgsql SET search_path = pg_catalog SET lock_timeout = '2s' AS $$
DECLARE
    starts timestamptz := date_trunc('month', p_month AT TIME ZONE 'UTC') AT TIME ZONE 'UTC';
    lowest uuid := config.first_id(starts);
    beyond uuid := config.first_id((starts AT TIME ZONE 'UTC' + interval '1 month') AT TIME ZONE 'UTC');
    part regclass := to_regclass(
        format('%s_%s', p_table, to_char(starts AT TIME ZONE 'UTC', 'YYYYMM')));
    has_work boolean := false;
    counted jsonb;  -- the last number of each brand when the look at the month began
    seen jsonb;     -- the last one in the month, as far as that look saw
BEGIN
    IF p_table <> ALL (ARRAY['ledger.events', 'ledger.state_history', 'gateway.event_log',
                             'gateway.deliveries']::regclass[]) THEN
        RAISE EXCEPTION 'no month of % can be detached', p_table USING ERRCODE = 'CG009';
    END IF;
    IF p_table = 'gateway.event_log'::regclass THEN
        -- A look at all of the month takes minutes of many rows, so nobody waits for it: what was
        -- numbered meanwhile has numbers above `counted`, and is looked for under the locks.
        SELECT coalesce(jsonb_object_agg(c.brand, c.last_seq), '{}') INTO counted
            FROM gateway.event_counters c;
        IF part IS NOT NULL THEN
            EXECUTE format('SELECT coalesce(jsonb_object_agg(m.brand, m.seq), ''{}'') '
                'FROM (SELECT brand, max(seq) AS seq FROM %s GROUP BY brand) AS m', part) INTO seen;
        END IF;
        PERFORM 1 FROM gateway.event_counters ORDER BY brand FOR UPDATE;
    END IF;
    EXECUTE format('LOCK TABLE %s IN ACCESS EXCLUSIVE MODE', p_table);
    IF NOT EXISTS (SELECT 1 FROM pg_inherits i WHERE i.inhrelid = part AND i.inhparent = p_table) THEN
        RETURN false;
    END IF;
    CASE p_table
        WHEN 'ledger.events'::regclass THEN
            has_work := EXISTS (SELECT 1 FROM gateway.event_queue q
                WHERE q.event_id >= lowest AND q.event_id < beyond);
        WHEN 'gateway.deliveries'::regclass THEN
            has_work := EXISTS (SELECT 1 FROM gateway.deliveries d
                JOIN gateway.webhook_endpoints e ON e.id = d.endpoint_id AND e.state <> 'deleted'
                WHERE d.state = 'pending' AND d.object_id >= lowest AND d.object_id < beyond);
        WHEN 'gateway.event_log'::regclass THEN
            LOCK TABLE gateway.deliveries IN SHARE MODE;
            has_work := EXISTS (SELECT 1 FROM gateway.deliveries d
                JOIN gateway.webhook_endpoints e ON e.id = d.endpoint_id AND e.state <> 'deleted'
                WHERE d.state = 'pending' AND d.event_id >= lowest AND d.event_id < beyond);
        ELSE
            NULL;  -- no work hangs on history
    END CASE;
    IF has_work THEN
        RAISE EXCEPTION '% still has events to number or to deliver', part USING ERRCODE = 'CG009';
    END IF;
    IF p_table = 'gateway.event_log'::regclass THEN
        UPDATE gateway.event_counters c SET put_away_seq = m.seq
            FROM (
                SELECT k.brand, greatest(k.put_away_seq, (seen ->> k.brand)::bigint, (
                    SELECT max(n.seq) FROM gateway.event_numbers n
                    WHERE n.brand = k.brand AND n.seq > coalesce((counted ->> k.brand)::bigint, 0)
                        AND n.event_id >= lowest AND n.event_id < beyond)) AS seq
                FROM gateway.event_counters k
            ) AS m
            WHERE m.brand = c.brand AND m.seq > c.put_away_seq;
    END IF;
    EXECUTE format('ALTER TABLE %s DETACH PARTITION %s', p_table, part);
    EXECUTE format('CREATE TRIGGER append_only BEFORE UPDATE OR DELETE ON %s '
        'FOR EACH ROW EXECUTE FUNCTION ledger.refuse_change()', part);
    PERFORM gateway.write_audit('month.detached', 'table', part::text, NULL, NULL, NULL, NULL);
    RETURN true;
END
$$;
REVOKE ALL ON FUNCTION config.detach_month(regclass, timestamptz) FROM PUBLIC;
