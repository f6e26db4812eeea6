-- `fee_mode: player` (CONTRACT 1, Fees): the most that the player may pay, and what is charged.
-- Both in minor units of the asset, fixed when the order is accepted, changed by nobody.
ALTER TABLE gateway.withdrawals
    ADD COLUMN max_fee numeric(78, 0) CHECK (max_fee >= 0 AND max_fee <> 'NaN'),
    ADD COLUMN fee_charged numeric(78, 0) CHECK (fee_charged >= 0 AND fee_charged <> 'NaN'),
    ADD CONSTRAINT withdrawals_fee_mode CHECK ((fee_mode = 'player') = (max_fee IS NOT NULL)),
    ADD CONSTRAINT withdrawals_fee_charged CHECK (
        fee_charged IS NULL OR (max_fee IS NOT NULL AND fee_charged <= max_fee
                                AND fee_charged < amount)),
    -- Only what no rule let through has no charge.
    ADD CONSTRAINT withdrawals_fee_known CHECK (
        fee_mode = 'brand' OR fee_charged IS NOT NULL OR state IN ('received', 'rejected'));

CREATE FUNCTION gateway.refuse_fee_change() RETURNS trigger
LANGUAGE plpgsql SET search_path = pg_catalog AS $$
BEGIN
    RAISE EXCEPTION 'the fee of withdrawal % was fixed when it was accepted', OLD.id
        USING ERRCODE = 'CG001';
END
$$;
CREATE TRIGGER withdrawals_fee_fixed
    BEFORE UPDATE OF fee_mode, max_fee, fee_charged ON gateway.withdrawals
    FOR EACH ROW WHEN ((OLD.fee_mode, OLD.max_fee, OLD.fee_charged)
        IS DISTINCT FROM (NEW.fee_mode, NEW.max_fee, NEW.fee_charged))
    EXECUTE FUNCTION gateway.refuse_fee_change();

-- A batch's signed body, once; the requests of its items point at it instead of holding it again.
-- A retry after a crash is another request with its own row; one without requests is harmless.
CREATE TABLE gateway.withdrawal_batches (
    id uuid PRIMARY KEY,
    brand text NOT NULL,
    body bytea NOT NULL,
    created_at timestamptz NOT NULL
);
ALTER TABLE gateway.withdrawal_batches ENABLE ROW LEVEL SECURITY;
CREATE POLICY brand_rows ON gateway.withdrawal_batches
    USING (config.sees_brand(brand)) WITH CHECK (config.sees_brand(brand));
GRANT SELECT, INSERT ON gateway.withdrawal_batches TO gateway_api;
GRANT SELECT ON gateway.withdrawal_batches TO gateway_payouts;

ALTER TABLE gateway.withdrawal_requests
    ADD COLUMN batch_id uuid REFERENCES gateway.withdrawal_batches (id),
    ALTER COLUMN body DROP NOT NULL,
    ADD CHECK ((body IS NULL) = (batch_id IS NOT NULL));
CREATE INDEX withdrawal_requests_batch ON gateway.withdrawal_requests (batch_id)
    WHERE batch_id IS NOT NULL;

-- Each order's request with its body, wherever that is kept.
CREATE VIEW gateway.signed_requests WITH (security_invoker = true) AS
SELECT r.withdrawal_id, r.brand, r.key_id, r.method, r.authority, r.path, r.query, r.headers,
    coalesce(r.body, b.body) AS body, r.signature_input, r.signature, r.batch_id
FROM gateway.withdrawal_requests r
LEFT JOIN gateway.withdrawal_batches b ON b.id = r.batch_id;
GRANT SELECT ON gateway.signed_requests TO gateway_api, gateway_payouts;

-- A destination that is ours and no player's is refused (CASES A20); such addresses belong to no brand,
-- and a brand's call learns no more of them than this.
CREATE FUNCTION chain.is_of_the_house(text, text) RETURNS boolean
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog AS $$
    SELECT EXISTS (SELECT 1 FROM chain.addresses a
                   WHERE a.network = $1 AND a.key = $2
                       AND (a.role <> 'deposit' OR a.player_id IS NULL))
$$;
REVOKE EXECUTE ON FUNCTION chain.is_of_the_house FROM PUBLIC;
GRANT EXECUTE ON FUNCTION chain.is_of_the_house TO gateway_api;
