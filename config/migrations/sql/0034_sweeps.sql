-- Deposits of account chains on their way to the hot wallet. `gateway` writes the sweeps; which one a
-- deposit belongs to stands on the deposit.
CREATE TABLE gateway.sweep_policies (
    version integer PRIMARY KEY CHECK (version >= 1),
    content jsonb NOT NULL,
    proposed_by text NOT NULL,
    approved_by text NOT NULL CHECK (approved_by <> proposed_by),
    created_at timestamptz NOT NULL
);
CREATE TRIGGER append_only BEFORE UPDATE OR DELETE ON gateway.sweep_policies
    FOR EACH ROW EXECUTE FUNCTION ledger.refuse_change();

CREATE TABLE gateway.sweeps (
    id uuid PRIMARY KEY,
    network text NOT NULL,
    brand text NOT NULL,
    address_id uuid NOT NULL REFERENCES chain.addresses (id),
    address text NOT NULL,
    key text NOT NULL,
    asset text NOT NULL,
    amount numeric(78, 0) NOT NULL CHECK (amount > 0 AND amount <> 'NaN'),  -- of its deposits
    moved numeric(78, 0) CHECK (moved > 0 AND moved <> 'NaN'),              -- by its tx
    deposits integer NOT NULL CHECK (deposits > 0),
    oldest_at timestamptz NOT NULL,        -- when its first deposit became final
    state text NOT NULL CHECK (state IN
        ('waiting', 'gas_planned', 'gas_sent', 'gas_ready', 'planned', 'signed', 'sent', 'swept',
         'failed', 'unsweepable')),
    code text,                             -- why it waits, failed, or is not swept
    reason text CHECK (reason IN ('threshold', 'age', 'exposure', 'request')),
    requested_by text,                     -- a person wants it now
    version integer NOT NULL DEFAULT 1,
    tries integer NOT NULL DEFAULT 0,      -- its txs that reverted
    gas_attempt_id uuid,                   -- of chain.outgoing: the top-up that it waits for
    attempt_id uuid,                       -- of chain.outgoing: its own tx
    txid text,
    look_at timestamptz NOT NULL,          -- not looked at before
    created_at timestamptz NOT NULL,
    state_at timestamptz NOT NULL,
    CHECK (state NOT IN ('gas_planned', 'gas_sent', 'gas_ready') OR gas_attempt_id IS NOT NULL),
    CHECK (state NOT IN ('planned', 'signed', 'sent', 'swept') OR
           (attempt_id IS NOT NULL AND moved IS NOT NULL))
) WITH (fillfactor = 70);
CREATE UNIQUE INDEX sweeps_open ON gateway.sweeps (address_id, asset) WHERE state <> 'swept';
-- One tx of an address at a time: its gas is counted once.
CREATE UNIQUE INDEX sweeps_busy ON gateway.sweeps (address_id)
    WHERE state IN ('gas_planned', 'gas_sent', 'gas_ready', 'planned', 'signed', 'sent');
CREATE UNIQUE INDEX sweeps_attempt ON gateway.sweeps (attempt_id);
CREATE UNIQUE INDEX sweeps_gas ON gateway.sweeps (gas_attempt_id);
CREATE INDEX sweeps_due ON gateway.sweeps (network, look_at)
    WHERE state IN ('waiting', 'gas_ready', 'failed', 'unsweepable');
CREATE INDEX sweeps_moving ON gateway.sweeps (network, id)
    WHERE state IN ('gas_planned', 'gas_sent', 'gas_ready', 'planned', 'signed', 'sent');
CREATE INDEX sweeps_list ON gateway.sweeps (network, id DESC);
CREATE TRIGGER sweeps_history AFTER INSERT OR UPDATE OF state ON gateway.sweeps
    FOR EACH ROW EXECUTE FUNCTION ledger.record_state('sweep');
ALTER TABLE gateway.sweeps ENABLE ROW LEVEL SECURITY;
CREATE POLICY brand_rows ON gateway.sweeps
    USING (config.sees_brand(brand)) WITH CHECK (config.sees_brand(brand));

ALTER TABLE chain.deposits ADD COLUMN sweep_id uuid;
ALTER TABLE chain.deposits DROP CONSTRAINT deposits_sweep_state_check;
ALTER TABLE chain.deposits ADD CONSTRAINT deposits_sweep_state_check
    CHECK (sweep_state IN ('none', 'waiting', 'sweeping', 'swept', 'unsweepable'));
-- A coin of the one wallet of a UTXO network is where payouts are made from, once it is final.
UPDATE chain.deposits SET sweep_state = 'swept'
    WHERE position LIKE 'out:%' AND sweep_state = 'none'
        AND (state = 'final' OR credited_stage = 'unallocated');
CREATE INDEX deposits_unswept ON chain.deposits (network, address_id, asset)
    WHERE sweep_state = 'none' AND state IN ('final', 'below_minimum', 'rejected')
        AND credited_stage IN ('clearing', 'unallocated');
CREATE INDEX outgoing_top_ups ON chain.outgoing (network, (payments -> 0 ->> 'key'))
    WHERE purpose = 'gas_top_up';
CREATE INDEX deposits_sweep ON chain.deposits (sweep_id) WHERE sweep_id IS NOT NULL;

GRANT SELECT, INSERT ON gateway.sweep_policies TO gateway_api;
GRANT SELECT ON gateway.sweep_policies TO gateway_payouts;
GRANT SELECT ON gateway.sweeps TO gateway_api, scheduler;
-- The API asks; payouts decides and acts.
GRANT UPDATE (requested_by, look_at) ON gateway.sweeps TO gateway_api;
GRANT SELECT, INSERT, UPDATE ON gateway.sweeps TO gateway_payouts;
GRANT UPDATE (sweep_id, sweep_state) ON chain.deposits TO gateway_payouts;
