"""SQL of `ends`: rows that are over while the chain says otherwise by now."""

from typing import Final

OTHERWISE: Final = """
(s.state IN ('done', 'failed') AND s.txid IS NOT NULL AND CASE
    WHEN s.state = 'done' OR s.code IN ('moved_differently', 'not_our_contract') THEN
        NOT EXISTS (SELECT 1 FROM chain.outgoing m
            WHERE m.id = s.attempt_id AND m.state = 'final')
    WHEN s.code = 'reverted' THEN
        NOT EXISTS (SELECT 1 FROM chain.outgoing m
            WHERE m.id = s.attempt_id AND m.state = 'reverted')
    ELSE EXISTS (SELECT 1 FROM chain.outgoing o
        JOIN chain.outgoing m ON m.family_id = o.family_id
        WHERE o.id = s.attempt_id AND m.raw IS NOT NULL AND m.state <> 'replaced')
END)
"""
"""Of a row `s` with `state`, `code`, `txid` and `attempt_id`: its tx was orphaned after it was
done, or was mined after it failed, or ended in another way. It has no txid before it was signed."""
