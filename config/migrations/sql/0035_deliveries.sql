-- The log of deliveries, and sending again what an endpoint parked, lost or never had (FEATURES E4).
DROP INDEX gateway.deliveries_event;
REVOKE INSERT, UPDATE (state, attempts, first_attempt_at, next_attempt_at, is_oldest, last_status,
    last_error, delivered_at) ON gateway.deliveries FROM gateway_api;
-- Events of a time; they stand nearly in its order, so that the smallest of indexes finds them.
CREATE INDEX event_log_created ON gateway.event_log USING brin (created_at);

-- Queue these events for an endpoint, whatever became of them before: a delivery that stands is due
-- now under its own id, a missing one is written under the id given. Per (endpoint, object) only the
-- oldest pending one is tried (CONTRACT 6): what is queued again may be older than what waits.
-- Returns how many deliveries were not pending before.
CREATE FUNCTION gateway.send_again(
    p_endpoint uuid, p_ids uuid[], p_events uuid[], p_at timestamptz) RETURNS integer
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog AS $$
DECLARE
    v_brand text;
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
    -- A try that ends meanwhile waits for us, and then lets the right one go.
    PERFORM 1 FROM gateway.deliveries d
        WHERE d.endpoint_id = p_endpoint AND (d.event_id = ANY(p_events) OR d.state = 'pending'
            AND d.object_id IN (SELECT l.object_id FROM gateway.event_log l
                                WHERE l.event_id = ANY(p_events)))
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
        ON CONFLICT (endpoint_id, event_id) DO UPDATE SET state = 'pending', attempts = 0,
            first_attempt_at = NULL, next_attempt_at = p_at, claimed_until = NULL,
            is_oldest = false, delivered_at = NULL
            WHERE d.state <> 'pending'
        RETURNING 1
    )
    SELECT count(*) INTO v_count FROM queued;
    UPDATE gateway.deliveries d SET next_attempt_at = least(d.next_attempt_at, p_at)
        WHERE d.endpoint_id = p_endpoint AND d.event_id = ANY(p_events) AND d.state = 'pending'
            AND d.next_attempt_at > p_at;
    UPDATE gateway.deliveries d SET is_oldest = false
        WHERE d.endpoint_id = p_endpoint AND d.state = 'pending' AND d.is_oldest
            AND EXISTS (SELECT 1 FROM gateway.deliveries older
                        WHERE older.endpoint_id = p_endpoint AND older.object_id = d.object_id
                            AND older.state = 'pending' AND older.seq < d.seq)
            AND d.object_id IN (SELECT l.object_id FROM gateway.event_log l
                                WHERE l.event_id = ANY(p_events));
    UPDATE gateway.deliveries d SET is_oldest = true
        FROM (
            SELECT DISTINCT ON (o.object_id) o.id FROM gateway.deliveries o
            WHERE o.endpoint_id = p_endpoint AND o.state = 'pending'
                AND o.object_id IN (SELECT l.object_id FROM gateway.event_log l
                                    WHERE l.event_id = ANY(p_events))
            ORDER BY o.object_id, o.seq
        ) AS oldest
        WHERE d.id = oldest.id AND NOT d.is_oldest;
    PERFORM pg_notify('cage_feed', '');
    RETURN v_count;
END
$$;
REVOKE ALL ON FUNCTION gateway.send_again(uuid, uuid[], uuid[], timestamptz) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION gateway.send_again(uuid, uuid[], uuid[], timestamptz) TO gateway_api;
