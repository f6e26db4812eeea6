-- What is true on chain: hash chains and cursors, addresses, deposits, inflows, coins, nonces, own
-- transactions, samples. Written by `watchers` only (through its functions, whichever process
-- calls them). Amounts are minor units, NUMERIC(78,0); hashes and txids lower-case hex as the node
-- shows them.

CREATE TABLE chain.blocks (
    network text NOT NULL,
    hash text NOT NULL,
    height bigint NOT NULL CHECK (height >= 0),
    parent_hash text NOT NULL,
    time_seconds bigint NOT NULL,          -- the miner's claim; never decides money
    is_canonical boolean NOT NULL,
    PRIMARY KEY (network, hash)
);
CREATE UNIQUE INDEX blocks_canonical ON chain.blocks (network, height) WHERE is_canonical;

-- Where the follower of a network stands. Every block's unit of work compares (hash, fence) and
-- sets them, so that two watchers are safe (P12). `stopped_reason` is set by ReorgTooDeep (D09).
CREATE TABLE chain.cursors (
    network text PRIMARY KEY,
    height bigint,
    hash text,
    top_height bigint,                          -- the highest that was ever followed; see forks.py
    finalised_height bigint,
    lease_holder text,
    lease_expires_at timestamptz,
    fence bigint NOT NULL DEFAULT 0,
    stopped_reason text,
    event_version integer NOT NULL DEFAULT 0,   -- of events about the network
    updated_at timestamptz NOT NULL,
    CHECK ((height IS NULL) = (hash IS NULL))
);

-- The address pool (HOUSE 8). `brand` NULL: the operator's own (hot, change, gas).
CREATE TABLE chain.addresses (
    id uuid PRIMARY KEY,
    network text NOT NULL,
    role text NOT NULL CHECK (role IN ('deposit', 'hot', 'change', 'gas')),
    brand text,
    player_id text CHECK (length(player_id) BETWEEN 1 AND 128),
    account integer NOT NULL CHECK (account >= 0),
    branch integer NOT NULL CHECK (branch >= 0),       -- BIP 44 `chain`
    address_index integer NOT NULL CHECK (address_index >= 0),
    path text NOT NULL,
    key text NOT NULL,                                 -- match key: scriptPubKey or account
    address text NOT NULL,
    scheme text NOT NULL,
    is_verified boolean NOT NULL DEFAULT false,        -- the signer re-derived it
    verified_at timestamptz,
    issued_at timestamptz,
    retired_at timestamptz,
    version integer NOT NULL DEFAULT 1,
    created_at timestamptz NOT NULL,
    UNIQUE (network, account, branch, address_index),
    UNIQUE (network, key),
    CHECK ((role = 'deposit') = (brand IS NOT NULL)),
    CHECK (player_id IS NULL OR (brand IS NOT NULL AND issued_at IS NOT NULL)),
    CHECK (issued_at IS NULL OR is_verified),
    CHECK (retired_at IS NULL OR issued_at IS NOT NULL)
) WITH (fillfactor = 80);
CREATE UNIQUE INDEX addresses_active ON chain.addresses (brand, player_id, network)
    WHERE player_id IS NOT NULL AND retired_at IS NULL;
CREATE INDEX addresses_free ON chain.addresses (network, role, brand, address_index)
    WHERE issued_at IS NULL AND is_verified;
CREATE INDEX addresses_unissued ON chain.addresses (network, account, branch)
    WHERE issued_at IS NULL;
CREATE INDEX addresses_unverified ON chain.addresses (network, account, branch, address_index)
    WHERE NOT is_verified;

CREATE TABLE chain.deposits (
    id uuid PRIMARY KEY,
    brand text NOT NULL,
    player_id text NOT NULL,
    network text NOT NULL,
    txid text NOT NULL,
    position text NOT NULL,
    cycle integer NOT NULL DEFAULT 1 CHECK (cycle >= 1),
    asset text NOT NULL,
    amount numeric(78, 0) NOT NULL CHECK (amount > 0 AND amount <> 'NaN'),
    address_id uuid NOT NULL REFERENCES chain.addresses (id),
    address text NOT NULL,
    state text NOT NULL CHECK (state IN (
        'detected', 'replaced', 'dropped', 'pending', 'below_minimum', 'unsupported', 'on_hold',
        'provisional', 'final', 'orphaned', 'reversed', 'rejected', 'refunding', 'refunded')),
    prior_state text,                      -- what an orphaned deposit returns to
    substatus text,                        -- e.g. `exposure_cap`; stable words
    sweep_state text NOT NULL DEFAULT 'none' CHECK (sweep_state IN ('none', 'swept')),
    is_internal boolean NOT NULL DEFAULT false,        -- paid by a tx of ours (D17)
    is_coinbase boolean NOT NULL DEFAULT false,
    block_hash text,
    height bigint,
    min_depth integer NOT NULL,            -- the tier at first sight, in blocks
    full_depth integer NOT NULL,
    provisional_at_height bigint,          -- thresholds: no work per deposit and block
    final_at_height bigint,
    orphaned_at_height bigint,
    absent_at_height bigint,               -- reversal by absence may be asked from here on
    sender_key text,                       -- account chains: who sent it, at which nonce
    sender_nonce bigint,
    conflict_txid text,                    -- a mined tx that makes this one impossible
    conflict_hash text,
    conflict_final_at_height bigint,
    credited_stage text CHECK (credited_stage IN ('provisional', 'clearing', 'unallocated')),
    custody_block_hash text,               -- the block of its standing custody entry
    custody_height bigint,
    version integer NOT NULL DEFAULT 1,
    first_seen_at timestamptz NOT NULL,
    state_at timestamptz NOT NULL,
    CHECK ((block_hash IS NULL) = (height IS NULL)),
    CHECK ((credited_stage IS NULL) = (custody_block_hash IS NULL)),
    CHECK ((credited_stage IS NULL) = (custody_height IS NULL)),
    CHECK (state <> 'orphaned' OR prior_state IS NOT NULL)
) WITH (fillfactor = 70);
CREATE INDEX deposits_provisional_due ON chain.deposits (network, provisional_at_height)
    WHERE state IN ('pending', 'orphaned') AND provisional_at_height IS NOT NULL;
CREATE INDEX deposits_final_due ON chain.deposits (network, final_at_height)
    WHERE state IN ('pending', 'provisional', 'orphaned', 'below_minimum')
        AND final_at_height IS NOT NULL;
CREATE INDEX deposits_conflict_due ON chain.deposits (network, conflict_final_at_height)
    WHERE conflict_final_at_height IS NOT NULL;
CREATE INDEX deposits_absent_due ON chain.deposits (network, absent_at_height)
    WHERE state = 'orphaned' AND absent_at_height IS NOT NULL;
CREATE INDEX deposits_block ON chain.deposits (network, block_hash) WHERE block_hash IS NOT NULL;
CREATE INDEX deposits_unposted ON chain.deposits (network, height)
    WHERE height IS NOT NULL AND custody_block_hash IS DISTINCT FROM block_hash;
CREATE INDEX deposits_conflict ON chain.deposits (network, conflict_hash)
    WHERE conflict_hash IS NOT NULL;
CREATE INDEX deposits_sender ON chain.deposits (network, sender_key, sender_nonce)
    WHERE sender_key IS NOT NULL AND state IN ('detected', 'orphaned');
CREATE INDEX deposits_player ON chain.deposits (brand, player_id, id DESC);
CREATE INDEX deposits_open ON chain.deposits (brand, player_id, asset)
    WHERE state IN ('detected', 'pending', 'provisional', 'orphaned', 'on_hold');
CREATE INDEX deposits_list ON chain.deposits (brand, id DESC);
CREATE INDEX deposits_txid ON chain.deposits (txid);

-- Unique for ever, narrow, never partitioned (HOUSE 7). A coinbase adds its block hash (D31).
CREATE TABLE chain.deposit_keys (
    network text NOT NULL,
    txid text NOT NULL,
    position text NOT NULL,
    coinbase_hash text NOT NULL DEFAULT '',
    deposit_id uuid NOT NULL UNIQUE REFERENCES chain.deposits (id),
    PRIMARY KEY (network, txid, position, coinbase_hash)
);

-- Inputs of txs that pay players: a block that spends one by another txid is a conflict.
CREATE TABLE chain.deposit_inputs (
    network text NOT NULL,
    outpoint_txid text NOT NULL,
    outpoint_vout integer NOT NULL,
    txid text NOT NULL,
    PRIMARY KEY (network, outpoint_txid, outpoint_vout, txid)
);

-- Value that reaches hot, change, gas or unissued addresses, not by a tx of ours (CONTRACT 1).
CREATE TABLE chain.inflows (
    id uuid PRIMARY KEY,
    network text NOT NULL,
    txid text NOT NULL,
    position text NOT NULL,
    coinbase_hash text NOT NULL DEFAULT '',
    cycle integer NOT NULL DEFAULT 1,
    role text NOT NULL CHECK (role IN ('deposit', 'hot', 'change', 'gas')),
    brand text,                            -- of an unissued deposit address, else NULL
    asset text NOT NULL,
    amount numeric(78, 0) NOT NULL CHECK (amount > 0 AND amount <> 'NaN'),
    address_id uuid NOT NULL REFERENCES chain.addresses (id),
    address text NOT NULL,
    state text NOT NULL CHECK (state IN ('seen', 'booked', 'assigned', 'orphaned')),
    block_hash text,
    height bigint,
    book_at_height bigint,
    custody_block_hash text,
    posting_reference text,
    assigned_to text CHECK (assigned_to IN ('capital', 'clearing')),
    assigned_brand text,
    version integer NOT NULL DEFAULT 1,
    first_seen_at timestamptz NOT NULL,
    state_at timestamptz NOT NULL,
    UNIQUE (network, txid, position, coinbase_hash),
    CHECK ((block_hash IS NULL) = (height IS NULL)),
    CHECK ((state = 'assigned') <= (assigned_to IS NOT NULL))
);
CREATE INDEX inflows_due ON chain.inflows (network, book_at_height)
    WHERE state = 'seen' AND book_at_height IS NOT NULL;
CREATE INDEX inflows_unposted ON chain.inflows (network, height)
    WHERE height IS NOT NULL AND custody_block_hash IS DISTINCT FROM block_hash;
CREATE INDEX inflows_block ON chain.inflows (network, block_hash) WHERE block_hash IS NOT NULL;

-- Own transactions. One row per attempt; attempts of one family exclude each other on chain.
-- HOUSE 6, and `refused`: built, refused by the signer, never signed.
CREATE TABLE chain.outgoing (
    id uuid PRIMARY KEY,
    network text NOT NULL,
    purpose text NOT NULL,
    family_id uuid NOT NULL,
    state text NOT NULL CHECK (state IN (
        'built', 'signed', 'broadcast', 'seen', 'mined', 'final', 'replaced', 'dropped',
        'reverted', 'expired', 'refused')),
    unsigned bytea NOT NULL,
    raw bytea,
    txid text,
    sender_key text,
    nonce bigint,
    payments jsonb NOT NULL,               -- [{asset, address, key, amount_minor as text}]
    fee_cap_minor numeric(78, 0) NOT NULL CHECK (fee_cap_minor >= 0),
    fee_minor numeric(78, 0) CHECK (fee_minor >= 0),
    block_hash text,
    height bigint,
    final_at_height bigint,
    is_success boolean,
    is_paid_as_planned boolean,
    moved jsonb,                           -- what the chain says left us: [{asset, key, amount}]
    conflict_txid text,
    conflict_hash text,
    conflict_final_at_height bigint,
    settled_block_hash text,               -- the block whose effect the ledger holds
    created_at timestamptz NOT NULL,
    signed_at timestamptz,
    broadcast_at timestamptz,
    final_at timestamptz,
    state_at timestamptz NOT NULL,
    version integer NOT NULL DEFAULT 1,
    CHECK ((sender_key IS NULL) = (nonce IS NULL)),
    CHECK ((raw IS NULL) = (txid IS NULL)),
    CHECK (raw IS NOT NULL OR state IN ('built', 'refused')),
    CHECK ((block_hash IS NULL) = (height IS NULL))
) WITH (fillfactor = 70);
CREATE UNIQUE INDEX outgoing_txid ON chain.outgoing (network, txid) WHERE txid IS NOT NULL;
CREATE INDEX outgoing_open ON chain.outgoing (network, state)
    WHERE state NOT IN ('final', 'replaced', 'reverted', 'refused');
CREATE INDEX outgoing_account ON chain.outgoing (network, sender_key, nonce)
    WHERE sender_key IS NOT NULL;
CREATE INDEX outgoing_block ON chain.outgoing (network, block_hash) WHERE block_hash IS NOT NULL;
CREATE INDEX outgoing_settled_elsewhere ON chain.outgoing (network, id)
    WHERE settled_block_hash IS NOT NULL AND settled_block_hash IS DISTINCT FROM block_hash;
CREATE INDEX outgoing_unsettled ON chain.outgoing (network, height)
    WHERE height IS NOT NULL AND settled_block_hash IS DISTINCT FROM block_hash;
CREATE INDEX outgoing_family ON chain.outgoing (family_id);
CREATE INDEX outgoing_final_due ON chain.outgoing (network, final_at_height)
    WHERE state = 'mined';
CREATE INDEX outgoing_conflict_due ON chain.outgoing (network, conflict_final_at_height)
    WHERE conflict_final_at_height IS NOT NULL;

CREATE TABLE chain.outgoing_inputs (
    attempt_id uuid NOT NULL REFERENCES chain.outgoing (id),
    network text NOT NULL,
    outpoint_txid text NOT NULL,
    outpoint_vout integer NOT NULL,
    PRIMARY KEY (attempt_id, outpoint_txid, outpoint_vout)
);
CREATE INDEX outgoing_inputs_outpoint
    ON chain.outgoing_inputs (network, outpoint_txid, outpoint_vout);

-- Change outputs fixed when the attempt is built; they become coins when it is signed.
CREATE TABLE chain.outgoing_change (
    attempt_id uuid NOT NULL REFERENCES chain.outgoing (id),
    vout integer NOT NULL,
    address_id uuid NOT NULL REFERENCES chain.addresses (id),
    amount numeric(78, 0) NOT NULL CHECK (amount > 0),
    PRIMARY KEY (attempt_id, vout)
);

-- UTXO set of our own keys. `reserved_by` is one attempt: unique per outpoint (P22).
CREATE TABLE chain.coins (
    network text NOT NULL,
    txid text NOT NULL,
    vout integer NOT NULL CHECK (vout >= 0),
    asset text NOT NULL,
    amount numeric(78, 0) NOT NULL CHECK (amount > 0 AND amount <> 'NaN'),
    address_id uuid NOT NULL REFERENCES chain.addresses (id),
    key text NOT NULL,
    path text NOT NULL,
    previous_tx bytea NOT NULL,
    is_own_change boolean NOT NULL DEFAULT false,
    is_coinbase boolean NOT NULL DEFAULT false,
    block_hash text,
    height bigint,
    spendable_at_height bigint,
    spent_by text,
    spent_hash text,
    spent_height bigint,
    reserved_by uuid REFERENCES chain.outgoing (id) DEFERRABLE INITIALLY DEFERRED,
    PRIMARY KEY (txid, vout, network),
    CHECK ((block_hash IS NULL) = (height IS NULL)),
    CHECK ((spent_by IS NULL) = (spent_hash IS NULL))
) WITH (fillfactor = 80);
CREATE INDEX coins_open ON chain.coins (network, amount DESC)
    WHERE spent_by IS NULL AND reserved_by IS NULL;
CREATE INDEX coins_unspent ON chain.coins (network, txid, vout)
    WHERE height IS NOT NULL AND spent_by IS NULL;
CREATE INDEX coins_block ON chain.coins (network, block_hash) WHERE block_hash IS NOT NULL;
CREATE INDEX coins_spent ON chain.coins (network, spent_hash) WHERE spent_hash IS NOT NULL;
CREATE INDEX coins_reserved ON chain.coins (reserved_by) WHERE reserved_by IS NOT NULL;

-- Account nonces: `next` is the first never used; given-back numbers go to the next payout.
CREATE TABLE chain.nonces (
    network text NOT NULL,
    sender_key text NOT NULL,
    next bigint NOT NULL CHECK (next >= 0),
    PRIMARY KEY (network, sender_key)
);
CREATE TABLE chain.nonce_uses (
    network text NOT NULL,
    sender_key text NOT NULL,
    nonce bigint NOT NULL CHECK (nonce >= 0),
    attempt_id uuid,                       -- NULL: given back, free to take again
    PRIMARY KEY (network, sender_key, nonce),
    FOREIGN KEY (network, sender_key) REFERENCES chain.nonces (network, sender_key)
);
CREATE INDEX nonce_uses_attempt ON chain.nonce_uses (attempt_id) WHERE attempt_id IS NOT NULL;
CREATE INDEX nonce_uses_free ON chain.nonce_uses (network, sender_key, nonce)
    WHERE attempt_id IS NULL;

CREATE TABLE chain.fee_samples (
    network text NOT NULL,
    sampled_at timestamptz NOT NULL,
    rates jsonb NOT NULL,                  -- target blocks -> rate, integers as text
    floor numeric(78, 0) NOT NULL,
    base_fee numeric(78, 0) NOT NULL,
    PRIMARY KEY (network, sampled_at)
);

CREATE TABLE chain.node_health (
    network text PRIMARY KEY,
    tip_height bigint,
    tip_hash text,
    height bigint,
    lag_blocks bigint,
    nodes_total integer NOT NULL,
    nodes_agreeing integer NOT NULL,
    is_healthy boolean NOT NULL,
    last_error text,                       -- redacted
    advanced_at timestamptz,               -- when the tip last changed
    observed_at timestamptz NOT NULL
);

-- What needs a node on someone's request (HOUSE 3): the watcher of the network answers.
CREATE TABLE chain.probes (
    id uuid PRIMARY KEY,
    network text NOT NULL,
    kind text NOT NULL CHECK (kind IN ('holdings')),
    state text NOT NULL CHECK (state IN ('asked', 'answered', 'failed')),
    answer jsonb,
    asked_at timestamptz NOT NULL,
    answered_at timestamptz
);
CREATE INDEX probes_open ON chain.probes (network, asked_at) WHERE state = 'asked';

CREATE TRIGGER deposits_history AFTER INSERT OR UPDATE OF state ON chain.deposits
    FOR EACH ROW EXECUTE FUNCTION ledger.record_state('deposit');

-- Row-level security: no call of one brand sees another's rows (A29, A30). The operator's
-- addresses have no brand: only a unit of work that sees all brands sees them.
ALTER TABLE chain.deposits ENABLE ROW LEVEL SECURITY;
CREATE POLICY brand_rows ON chain.deposits
    USING (config.sees_brand(brand)) WITH CHECK (config.sees_brand(brand));
ALTER TABLE chain.addresses ENABLE ROW LEVEL SECURITY;
CREATE POLICY brand_rows ON chain.addresses
    USING (config.sees_brand(brand)) WITH CHECK (config.sees_brand(brand));
-- Own transactions, coins and inflows are the operator's: the API shows them to no brand's call.
DO $$
DECLARE
    name text;
BEGIN
    FOREACH name IN ARRAY ARRAY['outgoing', 'outgoing_inputs', 'coins', 'inflows'] LOOP
        EXECUTE format('ALTER TABLE chain.%I ENABLE ROW LEVEL SECURITY', name);
        EXECUTE format('CREATE POLICY all_rows ON chain.%I USING (true)', name);
        EXECUTE format(
            'CREATE POLICY operator_calls ON chain.%I AS RESTRICTIVE TO gateway_api '
            'USING ((SELECT config.sees_brand(''*'')))', name);
    END LOOP;
END
$$;

GRANT SELECT, INSERT, UPDATE ON ALL TABLES IN SCHEMA chain TO watchers;
GRANT DELETE ON chain.fee_samples, chain.nonce_uses TO watchers;

GRANT SELECT ON chain.deposits, chain.addresses, chain.inflows, chain.blocks, chain.cursors,
    chain.fee_samples, chain.node_health, chain.outgoing, chain.outgoing_inputs, chain.probes,
    chain.coins, chain.nonces TO gateway_api;
GRANT UPDATE (player_id, issued_at, retired_at, version) ON chain.addresses TO gateway_api;
GRANT UPDATE (state, assigned_to, assigned_brand, version, state_at) ON chain.inflows
    TO gateway_api;
GRANT INSERT ON chain.probes TO gateway_api;

GRANT SELECT ON ALL TABLES IN SCHEMA chain TO gateway_payouts;
GRANT UPDATE (is_verified, verified_at, issued_at, version) ON chain.addresses
    TO gateway_payouts;
GRANT INSERT ON chain.outgoing, chain.outgoing_inputs, chain.outgoing_change, chain.coins,
    chain.nonces, chain.nonce_uses TO gateway_payouts;
GRANT UPDATE ON chain.outgoing, chain.nonces, chain.nonce_uses TO gateway_payouts;
GRANT UPDATE (reserved_by) ON chain.coins TO gateway_payouts;

GRANT SELECT ON chain.cursors, chain.node_health, chain.blocks TO gateway_webhooks;
GRANT SELECT ON chain.cursors, chain.node_health, chain.outgoing, chain.deposits, chain.addresses
    TO scheduler;
