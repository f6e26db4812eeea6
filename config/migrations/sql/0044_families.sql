-- Attempts of one payment exclude each other on chain (CONTRACT 5, W3, N4), whoever writes: each
-- further one shares a coin, or account and nonce, with every earlier one that may have been signed.
-- Another family begins only after two people signed a reissue that names what was signed before.

-- What was signed is never called refused, so that `refused` is: nothing was signed.
ALTER TABLE chain.outgoing
    ADD CONSTRAINT outgoing_refused_unsigned CHECK (state <> 'refused' OR raw IS NULL);

-- What makes attempts exclude each other is fixed when one is built.
CREATE FUNCTION chain.refuse_other_family() RETURNS trigger
LANGUAGE plpgsql SET search_path = pg_catalog AS $$
BEGIN
    RAISE EXCEPTION 'attempt % keeps its network, family, account and nonce', OLD.id
        USING ERRCODE = 'check_violation';
END
$$;
CREATE TRIGGER family_is_fixed BEFORE UPDATE OF network, family_id, sender_key, nonce
    ON chain.outgoing FOR EACH ROW
    WHEN ((OLD.network, OLD.family_id, OLD.sender_key, OLD.nonce)
        IS DISTINCT FROM (NEW.network, NEW.family_id, NEW.sender_key, NEW.nonce))
    EXECUTE FUNCTION chain.refuse_other_family();

CREATE FUNCTION gateway.check_family() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog AS $$
DECLARE
    mine chain.outgoing;
    rival uuid;
BEGIN
    -- Whoever adds another attempt of this payment at the same time waits for us, and then sees it.
    PERFORM 1 FROM gateway.withdrawals w WHERE w.id = NEW.withdrawal_id FOR NO KEY UPDATE;
    SELECT * INTO mine FROM chain.outgoing o WHERE o.id = NEW.attempt_id;
    IF NOT FOUND THEN
        RAISE EXCEPTION 'withdrawal % rides on attempt %, which is none', NEW.withdrawal_id,
            NEW.attempt_id USING ERRCODE = 'check_violation';
    END IF;
    SELECT o.id INTO rival
    FROM gateway.attempt_members m JOIN chain.outgoing o ON o.id = m.attempt_id
    WHERE m.withdrawal_id = NEW.withdrawal_id AND o.id <> mine.id
        AND o.state <> 'refused' AND mine.state <> 'refused'
        AND (CASE
            WHEN mine.sender_key IS NOT NULL THEN
                (o.network, o.sender_key, o.nonce) = (mine.network, mine.sender_key, mine.nonce)
            ELSE EXISTS (
                SELECT 1 FROM chain.outgoing_inputs theirs
                    JOIN chain.outgoing_inputs ours USING (network, outpoint_txid, outpoint_vout)
                WHERE theirs.attempt_id = o.id AND ours.attempt_id = mine.id)
            END) IS NOT TRUE
        AND (SELECT count(DISTINCT a.person) FROM gateway.withdrawal_approvals a
            WHERE a.withdrawal_id = NEW.withdrawal_id AND a.action = 'reissue'
                AND o.txid = ANY(a.txids)) < 2
    LIMIT 1;
    IF FOUND THEN
        RAISE EXCEPTION 'withdrawal % could be paid twice: attempts % and % do not exclude each other',
            NEW.withdrawal_id, rival, NEW.attempt_id USING ERRCODE = 'check_violation';
    END IF;
    RETURN NULL;
END
$$;
-- At the commit, when the attempt has its coins.
CREATE CONSTRAINT TRIGGER attempts_exclude AFTER INSERT ON gateway.attempt_members
    DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION gateway.check_family();
