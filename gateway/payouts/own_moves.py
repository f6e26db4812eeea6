"""What own moves do to the books: their fee, and value that changes its wallet.

Owns Dr expense:fee:network / Cr custody at finality, and its reversal when the block leaves the
chain. A child that pays for a parent (CPFP) is borne by the brands of the payout that it was built
for, one that lifts an own move and all others by the house. Between hot, warm and cold the value
is posted as well, Dr custody of the one / Cr custody of the other, and the account that sends it
pays the fee. Value that moves to own change, or between accounts of the hot wallet, is no posting.
"""

from functools import partial
from uuid import UUID

from config.database import Uow
from config.logs import get_logger
from gateway.payouts import attempts, store
from gateway.payouts.context import Lane
from gateway.payouts.errors import BrokenAttempt
from ledger import accounts, journal
from ledger.errors import StaleState
from ledger.journal import ChainEffect, Entry, Posting, credit, debit
from ledger.money import split_by_largest_remainder
from watchers import outgoing, outgoing_families
from watchers.outgoing import OutgoingRow, OutgoingState

MOVES_MAX = 200  # own moves posted or reversed in one pass
BETWEEN_WALLETS = {
    "hot_to_cold": ("hot", "cold"),
    "cold_to_hot": ("cold", "hot"),
    "safe_refill": ("cold", "hot"),
    "hot_to_warm": ("hot", "warm"),
    "warm_to_hot": ("warm", "hot"),
}
"""Wallets that value leaves and reaches, by the purpose of the tx."""

log = get_logger(__name__)


class OwnMoves:
    """The settling step of a lane's own moves."""

    def __init__(self, lane: Lane) -> None:
        self._lane = lane

    async def run(self) -> None:
        """One pass over own moves whose block and posting disagree."""
        lane = self._lane
        async with lane.database.unit_of_work() as uow:
            found = await outgoing_families.own_unsettled(
                uow, network=lane.network, limit=MOVES_MAX
            )
        for attempt_id in found:
            try:
                await lane.run(partial(self._one, attempt_id=attempt_id))
                lane.crash("payout.child_settled")
            except StaleState as error:
                log.info("payout.stale", attempt_id=str(attempt_id), detail=str(error))

    async def _one(self, uow: Uow, *, attempt_id: UUID) -> None:
        tx = await outgoing.get(uow, attempt_id, is_locked=True)
        if tx is None:
            raise BrokenAttempt(f"attempt {attempt_id} has no transaction")
        if tx.settled_block_hash not in (None, tx.block_hash):
            await self._reverse(uow, tx)
            tx = await outgoing.get(uow, attempt_id, is_locked=True) or tx
        is_over = tx.state in (OutgoingState.FINAL, OutgoingState.REVERTED)  # either costs its gas
        if is_over and tx.settled_block_hash is None:
            await self._post(uow, tx)

    async def _post(self, uow: Uow, tx: OutgoingRow) -> None:
        lane, native = self._lane, self._lane.spec.native_asset
        if tx.block_hash is None or tx.height is None or tx.fee_minor is None:
            raise BrokenAttempt(f"attempt {tx.id} is final without a block or a fee")
        moved = _moved(tx)
        if moved is None:
            detail = f"{tx.txid} is final and moved something else than planned"
            await attempts.alarm(lane, uow, "paid_differently", detail, object_id=tx.id)
            return
        shares = await self._shares(uow, tx, fee_minor=tx.fee_minor)
        reference = f"own:{tx.id}:fee:{tx.version}"
        await journal.post(
            uow,
            Posting(
                reference=reference,
                kind="own_move" if moved else "own_move_fee",
                entries=(
                    *moved,
                    *(
                        debit(accounts.network_fee(native), share, brand_tag=brand)
                        for brand, share in shares.items()
                        if share
                    ),
                    credit(accounts.custody(tx.network, _source(tx), native), tx.fee_minor),
                ),
                effect=ChainEffect(network=tx.network, block_hash=tx.block_hash, height=tx.height),
            ),
            posting_id=lane.ids.new_id(),
            at=lane.now(),
        )
        await outgoing.mark_settled(
            uow, attempt_id=tx.id, block_hash=tx.block_hash, reference=reference
        )
        log.info("payout.child_settled", network=tx.network, attempt_id=str(tx.id), txid=tx.txid)

    async def _shares(self, uow: Uow, tx: OutgoingRow, *, fee_minor: int) -> dict[str | None, int]:
        """The fee by brand; of none where no payout was behind it."""
        if tx.pays_for_id is None:
            return {None: fee_minor}
        brands = await store.brands_on(uow, tx.pays_for_id)
        parent = None if brands else await outgoing.get(uow, tx.pays_for_id)
        if parent is not None and parent.is_own_move:
            return {None: fee_minor}
        if not brands:
            raise BrokenAttempt(f"attempt {tx.id} was built for a payout without members")
        shares = split_by_largest_remainder(fee_minor, list(brands.values()))
        return dict(zip(brands, shares, strict=True))

    async def _reverse(self, uow: Uow, tx: OutgoingRow) -> None:
        """The settled block left the chain; it may be posted again, in another one."""
        if tx.settled_reference is None:
            raise BrokenAttempt(f"attempt {tx.id} is settled without a posting")
        await journal.reverse(
            uow,
            tx.settled_reference,
            new_reference=f"{tx.settled_reference}:reversed",
            posting_id=self._lane.ids.new_id(),
            at=self._lane.now(),
            reason="block_orphaned",
        )
        await outgoing.mark_unsettled(uow, attempt_id=tx.id)
        log.error("payout.child_reopened", network=tx.network, attempt_id=str(tx.id))


def _source(tx: OutgoingRow) -> str:
    """The wallet that pays the fee: that which the value leaves, but for a Safe, which a hot lane
    calls."""
    return "hot" if tx.is_batch else BETWEEN_WALLETS.get(tx.purpose, ("hot", "hot"))[0]


def _moved(tx: OutgoingRow) -> tuple[Entry, ...] | None:
    """What changed its wallet, by the chain's evidence (P29); None when that is not the plan."""
    if tx.purpose not in BETWEEN_WALLETS or not tx.moved:
        return ()
    moved = sorted((item.asset, item.key, item.amount_minor) for item in tx.moved)
    if moved != sorted((item.asset, item.key, item.amount_minor) for item in tx.payments):
        return None
    source, target = BETWEEN_WALLETS[tx.purpose]
    return tuple(
        entry
        for asset, _, amount in moved
        for entry in (
            debit(accounts.custody(tx.network, target, asset), amount),
            credit(accounts.custody(tx.network, source, asset), amount),
        )
    )
