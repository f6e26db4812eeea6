-- The rules of people about moves between hot and cold, where 0029_rebalances.sql took the API's word:
-- a move that no person asks for, and so one that nobody signs, is the system's, for which only
-- payouts speaks; and a move never comes to need fewer people than it was proposed with.
CREATE FUNCTION gateway.check_rebalance_asker() RETURNS trigger
LANGUAGE plpgsql SET search_path = pg_catalog AS $$
BEGIN
    IF NOT pg_has_role(current_user, 'gateway_payouts', 'USAGE') AND NOT pg_has_role(current_user,
            (SELECT c.relowner FROM pg_class c WHERE c.oid = TG_RELID), 'USAGE') THEN  -- a recovery
        RAISE EXCEPTION 'rebalance % names no person who asks for it', NEW.id;
    END IF;
    RETURN NEW;
END
$$;
CREATE TRIGGER asked_for_by_somebody BEFORE INSERT ON gateway.rebalances
    FOR EACH ROW WHEN (NEW.requested_by IS NULL)
    EXECUTE FUNCTION gateway.check_rebalance_asker();

CREATE FUNCTION gateway.refuse_fewer_people() RETURNS trigger
LANGUAGE plpgsql SET search_path = pg_catalog AS $$
BEGIN
    RAISE EXCEPTION 'rebalance % takes % people, not %', OLD.id, OLD.people_needed,
        NEW.people_needed;
END
$$;
CREATE TRIGGER people_never_get_fewer BEFORE UPDATE OF people_needed ON gateway.rebalances
    FOR EACH ROW WHEN (NEW.people_needed < OLD.people_needed)
    EXECUTE FUNCTION gateway.refuse_fewer_people();
