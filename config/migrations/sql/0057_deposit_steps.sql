-- Where the value of a deposit stands moves with its state alone (migration 0056 guards the state): the
-- roles that make single steps of a deposit change nothing else about its money (A31).
CREATE FUNCTION chain.refuse_other_place() RETURNS trigger
LANGUAGE plpgsql SET search_path = pg_catalog AS $$
BEGIN
    RAISE EXCEPTION 'deposit %: % moves its value only with its state', OLD.id, current_user
        USING ERRCODE = 'insufficient_privilege';
END
$$;
CREATE TRIGGER placed_by_steps BEFORE UPDATE OF credited_stage, prior_state ON chain.deposits
    FOR EACH ROW WHEN (OLD.state = NEW.state
        AND (OLD.credited_stage, OLD.prior_state)
            IS DISTINCT FROM (NEW.credited_stage, NEW.prior_state)
        AND current_user IN ('gateway_api', 'gateway_payouts'))
    EXECUTE FUNCTION chain.refuse_other_place();
