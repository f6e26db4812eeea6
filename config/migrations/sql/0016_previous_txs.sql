-- The whole tx that made a coin, once, however many coins it made: a signer wants it (BIP 174), and
-- a tx with 3,000 outputs to us was kept 3,000 times. The space of the old column comes back with
-- the next VACUUM FULL of chain.coins.
CREATE TABLE chain.previous_txs (
    network text NOT NULL,
    txid text NOT NULL,
    raw bytea NOT NULL,
    PRIMARY KEY (network, txid)
);
INSERT INTO chain.previous_txs (network, txid, raw)
    SELECT DISTINCT ON (network, txid) network, txid, previous_tx FROM chain.coins
    ORDER BY network, txid, vout;
ALTER TABLE chain.coins DROP COLUMN previous_tx,
    ADD FOREIGN KEY (network, txid) REFERENCES chain.previous_txs (network, txid);

GRANT SELECT, INSERT ON chain.previous_txs TO watchers, gateway_payouts;
