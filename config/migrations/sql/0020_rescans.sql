-- Ranges of blocks that people want looked at again (docs/adr/0019), and what the watcher made of
-- each. It works at `next_height`: below that every block of the range was looked at.
CREATE TABLE chain.rescans (
    id uuid PRIMARY KEY,
    network text NOT NULL,
    from_height bigint NOT NULL CHECK (from_height >= 0),
    to_height bigint NOT NULL,             -- the watcher raises it where it finds something
    next_height bigint NOT NULL,
    state text NOT NULL DEFAULT 'running' CHECK (state IN ('running', 'done', 'failed')),
    found bigint NOT NULL DEFAULT 0 CHECK (found >= 0),
    withheld bigint NOT NULL DEFAULT 0 CHECK (withheld >= 0),
    waits_for text,                        -- why it stands still now; redacted
    failure text,                          -- what contradicts, for people
    asked_by text NOT NULL,
    reason text NOT NULL CHECK (length(reason) BETWEEN 1 AND 500),
    created_at timestamptz NOT NULL,
    finished_at timestamptz,
    CHECK (from_height <= to_height AND next_height BETWEEN from_height AND to_height + 1),
    CHECK ((state = 'running') = (finished_at IS NULL)),
    CHECK ((state = 'failed') = (failure IS NOT NULL)),
    CHECK (state <> 'done' OR next_height = to_height + 1)
);
CREATE INDEX rescans_running ON chain.rescans (network, id) WHERE state = 'running';
CREATE INDEX rescans_list ON chain.rescans (network, id DESC);

-- Headers below the first block that was followed, fetched so that a block of a rescan stands in
-- one chain of hashes with the others. The flag is taken off when the block itself was looked at.
ALTER TABLE chain.blocks ADD COLUMN is_header_only boolean NOT NULL DEFAULT false;
CREATE INDEX blocks_header_only ON chain.blocks (network, height)
    WHERE is_header_only AND is_canonical;

-- Who asked, and why, is written once; the watcher's work is not the API's.
ALTER TABLE chain.rescans ENABLE ROW LEVEL SECURITY;
CREATE POLICY all_rows ON chain.rescans USING (true);
CREATE POLICY asked_only ON chain.rescans AS RESTRICTIVE TO gateway_api
    USING (true) WITH CHECK (state = 'running' AND next_height = from_height AND found = 0);
GRANT SELECT ON chain.rescans TO watchers, gateway_api;
GRANT INSERT (id, network, from_height, to_height, next_height, asked_by, reason, created_at)
    ON chain.rescans TO gateway_api;
GRANT UPDATE (to_height, next_height, state, found, withheld, waits_for, failure, finished_at)
    ON chain.rescans TO watchers;
