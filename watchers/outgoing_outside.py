"""Own transactions that people sign elsewhere, and may send before they show us the signatures.

A wallet program has a button for that. The txid of a native segwit tx does not depend on its
signatures (BIP 141), so a block that has it tells whose it is: it is taken over as signed, and what
it moves is no inflow and no loss. Owns nothing else.
"""

from collections.abc import Sequence
from datetime import datetime

from config.database import Uow
from config.logs import get_logger
from watchers import outgoing, outgoing_store
from watchers.chain import Block
from watchers.network import Network

log = get_logger("watchers.outgoing")


async def adopt(
    uow: Uow, network: Network, blocks: Sequence[Block], *, at: datetime
) -> frozenset[str]:
    """Take over what these blocks have of such, before they are connected; the txids."""
    waiting = await outgoing_store.expected(uow, network=network.name)
    if not waiting:
        return frozenset()
    raws = {
        txid: block.raw_txs[txid] for block in blocks for txid in block.txids if txid in waiting
    }
    for txid in sorted(raws):
        attempt_id = waiting[txid]
        await outgoing.mark_signed(uow, attempt_id=attempt_id, raw=raws[txid], txid=txid, at=at)
        log.warning(
            "outgoing.sent_outside",
            network=network.name,
            attempt_id=str(attempt_id),
            txid=txid,
        )
    return frozenset(raws)
