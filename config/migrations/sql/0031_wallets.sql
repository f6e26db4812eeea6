-- Where each wallet stands in its band, and what came and went by the hour. Written by `gateway` only.

-- One row per wallet role and asset that ever was compared with its band.
CREATE TABLE gateway.wallet_bands (
    id uuid PRIMARY KEY,
    network text NOT NULL,
    role text NOT NULL CHECK (role IN ('deposit', 'hot', 'warm', 'cold', 'gas')),
    asset text NOT NULL,
    state text NOT NULL CHECK (state IN ('inside', 'low', 'gas_low', 'high')),
    amount numeric(78, 0) NOT NULL CHECK (amount <> 'NaN'),    -- at the last crossing
    version integer NOT NULL DEFAULT 1,
    created_at timestamptz NOT NULL,
    state_at timestamptz NOT NULL,
    UNIQUE (asset, role)
);
CREATE TRIGGER wallet_bands_history AFTER INSERT OR UPDATE OF state ON gateway.wallet_bands
    FOR EACH ROW EXECUTE FUNCTION ledger.record_state('wallet');

-- Sums of one hour (hours since 1970), minor units: deposits first seen in it, withdrawals accepted in
-- it, payouts signed in it. The last days are written again each hour: what ended otherwise leaves them.
CREATE TABLE gateway.flow_hours (
    network text NOT NULL,
    asset text NOT NULL,
    hour bigint NOT NULL,
    inflow numeric(78, 0) NOT NULL CHECK (inflow >= 0 AND inflow <> 'NaN'),
    demand numeric(78, 0) NOT NULL CHECK (demand >= 0 AND demand <> 'NaN'),
    outflow numeric(78, 0) NOT NULL CHECK (outflow >= 0 AND outflow <> 'NaN'),
    PRIMARY KEY (asset, hour)
);
CREATE INDEX flow_hours_network ON gateway.flow_hours (network, hour);
-- The hours of a network that are summed: from `first_hour`, below `next_hour`. An hour without a row
-- in between had nothing.
CREATE TABLE gateway.flow_marks (
    network text PRIMARY KEY,
    first_hour bigint NOT NULL,
    next_hour bigint NOT NULL CHECK (next_hour >= first_hour)
);

GRANT SELECT, INSERT, UPDATE ON gateway.wallet_bands, gateway.flow_marks TO gateway_payouts;
GRANT SELECT, INSERT, DELETE ON gateway.flow_hours TO gateway_payouts;
GRANT SELECT ON gateway.wallet_bands, gateway.flow_hours, gateway.flow_marks TO gateway_api;
