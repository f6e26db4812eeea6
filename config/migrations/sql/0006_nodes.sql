-- Nodes of each network: what each one was judged to be, since when, and what it must still have.
-- Written by the watcher that holds the network's lease; every other process judges in memory.
CREATE TABLE chain.nodes (
    network text NOT NULL,
    label text NOT NULL,                   -- host and port, never credentials or a path (N20)
    preference integer NOT NULL,           -- order in the configuration
    state text NOT NULL CHECK (state IN ('healthy', 'lagging', 'stalled', 'forked', 'lying',
        'wrong_chain', 'syncing', 'unreachable', 'quarantined')),
    reason text NOT NULL,                  -- redacted
    since timestamptz NOT NULL,
    height bigint,
    hash text,
    top_height bigint NOT NULL,            -- the highest block it was trusted with (N03)
    anchor_height bigint,                  -- a block below every reorg that it must have
    anchor_hash text,
    cause text NOT NULL,                   -- what it is on probation for, else empty
    version text NOT NULL,
    observed_at timestamptz NOT NULL,
    PRIMARY KEY (network, label)
);

GRANT SELECT, INSERT, UPDATE, DELETE ON chain.nodes TO watchers;
GRANT SELECT ON chain.nodes TO gateway_api, gateway_payouts, gateway_webhooks, scheduler;
