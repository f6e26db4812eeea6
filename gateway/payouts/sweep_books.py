"""What sweeps and their top-ups do to the books, at finality, by the chain's evidence (T2, T3).

Owns Dr custody (receiver) / Cr custody (sender) for what moved between own accounts, Dr
expense:fee:network / Cr custody of who paid the gas, and the mirror of both when the block leaves
the chain. No player's money moves. What moved to nobody of ours is not booked: it stays a break of
the reconciliation under the alarm `sweep_moved_differently`, until people decide.
"""

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Final
from uuid import UUID

from config.database import Uow
from config.logs import get_logger
from gateway.payouts import attempts, collecting
from gateway.payouts.context import Lane
from gateway.payouts.errors import BrokenAttempt
from ledger import accounts, journal
from ledger.accounts import Account
from ledger.errors import StaleState
from ledger.journal import ChainEffect, Entry, Posting, credit, debit
from ledger.money import split_by_largest_remainder
from signer.protocol import Purpose
from watchers import addresses, outgoing, outgoing_lots, sweepable
from watchers.addresses import AddressRow
from watchers.inflows import custody_account
from watchers.outgoing import OutgoingRow, OutgoingState

BOOKED_MAX: Final = 500  # own txs in a page
LOT: Final = 100  # of them in one unit of work

MOVED_DIFFERENTLY: Final = "sweep_moved_differently"
"""Alarm: a final sweep or top-up moved something else than planned; by attempt."""

log = get_logger(__name__)


class SweepBooks:
    """The settling step of one lane's sweeps, in pages: what people have to settle stays in the
    list and is in the way of nothing behind it."""

    def __init__(self, lane: Lane, *, page: int = BOOKED_MAX) -> None:
        self._lane = lane
        self._page = page

    async def run(self) -> None:
        """One pass over own txs whose block and posting disagree."""
        lane, after = self._lane, None
        while True:
            async with lane.database.unit_of_work() as uow:
                ids = await sweepable.unbooked(
                    uow, network=lane.network, after=after, limit=self._page
                )
            await self._book(ids)
            if len(ids) < self._page:
                return
            after = ids[-1]

    async def _book(self, ids: Sequence[UUID]) -> None:
        lane = self._lane
        for start in range(0, len(ids), LOT):
            try:
                await lane.run(partial(self._lot, ids=ids[start : start + LOT]))
                lane.crash("payout.sweeps_booked")
            except StaleState as error:  # a block came or went: the next pass looks again
                log.info("payout.sweep_stale", network=lane.network, detail=str(error))

    async def _lot(self, uow: Uow, *, ids: Sequence[UUID]) -> None:
        lane = self._lane
        found = await outgoing_lots.get(uow, ids, is_locked=True)
        for tx in found.values():
            if tx.settled_block_hash not in (None, tx.block_hash):
                await self._reverse(uow, tx)
        over = [
            tx
            for tx in found.values()
            if tx.state in (OutgoingState.FINAL, OutgoingState.REVERTED)
            and tx.settled_block_hash != tx.block_hash
        ]
        keys = {tx.sender_key or "" for tx in over}
        keys |= {moved.key for tx in over for moved in tx.moved}
        keys |= {moved.from_key or "" for tx in over for moved in tx.moved}
        keys |= {payment.from_key or "" for tx in over for payment in tx.payments}
        own = await addresses.by_keys(uow, network=lane.network, keys=sorted(keys))
        postings: list[tuple[UUID, Posting]] = []
        settled: list[tuple[UUID, str, str]] = []
        for tx in over:
            posting = self._posting(tx, own)
            if posting is None:
                moved = ", ".join(
                    f"{item.amount_minor} {item.asset} to {item.key}" for item in tx.moved
                )
                detail = f"{tx.txid} is final but moved {moved}"
                await attempts.alarm(lane, uow, MOVED_DIFFERENTLY, detail, object_id=tx.id)
                continue
            postings.append((lane.ids.new_id(), posting))
            settled.append((tx.id, tx.block_hash or "", posting.reference))
        await journal.post_many(uow, postings, at=lane.now())
        if settled:
            await outgoing_lots.mark_settled(uow, settled, network=lane.network)
            log.info("payout.sweeps_booked", network=lane.network, count=len(settled))

    def _posting(self, tx: OutgoingRow, own: Mapping[str, AddressRow]) -> Posting | None:
        """What left and what it cost; None when something left to somebody else."""
        sender = own.get(tx.sender_key or "")
        if sender is None or tx.block_hash is None or tx.height is None or tx.fee_minor is None:
            raise BrokenAttempt(f"attempt {tx.id} is final without a sender, a block or a fee")
        if tx.has_legs and tx.is_success and tx.is_paid_as_planned is None:
            return None  # nobody has shown what it took
        entries: list[Entry] = []
        for moved in tx.moved if tx.is_success else ():
            receiver = own.get(moved.key)
            source = sender if moved.from_key is None else own.get(moved.from_key)
            if receiver is None or source is None:
                return None
            entries += [
                debit(self._custody(receiver, moved.asset), moved.amount_minor),
                credit(self._custody(source, moved.asset), moved.amount_minor),
            ]
        if tx.fee_minor:
            native = self._lane.spec.native_asset
            for brand, share in self._fees(tx, sender, own):
                entries.append(debit(accounts.network_fee(native), share, brand_tag=brand))
            entries.append(credit(self._custody(sender, native), tx.fee_minor))
        is_gas = tx.purpose == Purpose.GAS_TOP_UP
        return Posting(
            reference=f"own:{tx.id}:{'gas' if is_gas else 'sweep'}:{tx.version}",
            kind="gas_top_up" if is_gas else "sweep",
            entries=tuple(entries),
            effect=ChainEffect(network=tx.network, block_hash=tx.block_hash, height=tx.height),
        )

    def _fees(
        self, tx: OutgoingRow, sender: AddressRow, own: Mapping[str, AddressRow]
    ) -> list[tuple[str | None, int]]:
        """Who the fee is for, in shares; of a collect by how many legs are whose."""
        fee = tx.fee_minor or 0
        if not tx.has_legs:
            return [(sender.brand or self._brand_of(tx, own), fee)]
        legs = collecting.brands_of(tx, own)
        shares = split_by_largest_remainder(fee, list(legs.values()))
        return [(brand, share) for brand, share in zip(legs, shares, strict=True) if share]

    def _brand_of(self, tx: OutgoingRow, own: Mapping[str, AddressRow]) -> str | None:
        """Whose deposit a top-up is for; None for the filling of a gas account."""
        receivers = [own[item.key] for item in tx.moved if item.key in own]
        return receivers[0].brand if receivers else None

    def _custody(self, address: AddressRow, asset: str) -> Account:
        return custody_account(
            family=self._lane.spec.family,
            network=self._lane.network,
            role=address.role,
            brand=address.brand,
            asset=asset,
        )

    async def _reverse(self, uow: Uow, tx: OutgoingRow) -> None:
        """The settled block left the chain; it may be booked again, in another one."""
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
        log.error("payout.sweep_reopened", network=self._lane.network, attempt_id=str(tx.id))
