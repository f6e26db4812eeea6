"""Deposits known by a trace alone whose tx is mined again where no node traces (D45, N14).

The follower connects such a block without them: they stay `orphaned` or `detected`, in no block.
Owns the search for them until it ends: the block is asked for again without limit, and the balance
of the account at it and at its parent tells too, by k nodes. Until then `searches.py` books nothing
that they explain, so that the same coins are never in the books twice.
"""

from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from functools import partial
from uuid import UUID

from sqlalchemy import RowMapping

from config.chains import Family
from config.clock import Clock
from config.database import Database, Uow
from config.logs import get_logger
from watchers import (
    addresses,
    changed_effects,
    deposit_blocks,
    deposit_due,
    evidence,
    policies,
    store,
    token_checks,
    token_store,
)
from watchers.agreement import is_traced
from watchers.chain import Block, ChainReader, Transfer, TxPlace, TxStatus
from watchers.errors import NodeError
from watchers.network import Network

log = get_logger("watchers.retrace")

PAGE_ROWS = 20  # deposits asked about in one look
RETRY_SECONDS = 60.0  # between two rounds over all that are awaited

Hold = Callable[[Uow], Awaitable[int]]
"""Locks the follower's cursor under its fence; the height."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Told:
    """A block that now tells what became of `deposit_ids`: `transfers` holds those it made."""

    block: Block
    deposit_ids: tuple[UUID, ...]
    transfers: tuple[Transfer, ...]


class Retrace:
    """Looks for the awaited deposits of one network, a page at a time.

    What is awaited is in rows: it goes on after a crash, and two instances do no harm.
    """

    def __init__(
        self, *, reader: ChainReader, network: Network, database: Database, clock: Clock
    ) -> None:
        self._reader = reader
        self._network = network
        self._database = database
        self._clock = clock
        self._after = deposit_due.FIRST
        self._next_at: datetime | None = None

    async def look(self, hold: Hold) -> int:
        """One page; how many deposits are in a block or known to be in none. No node's failure
        is raised: what could not be asked is asked again."""
        if self._network.family is not Family.EVM:
            return 0
        if self._next_at is not None and self._clock.now() < self._next_at:
            return 0
        self._next_at = None
        rows = await self._page()
        if not rows:
            self._after = deposit_due.FIRST
            return 0
        count = 0
        for told in await self._told(rows):
            count += await self._database.run(partial(self._settle, told=told, hold=hold))
        self._after = rows[-1]["id"]
        if len(rows) < PAGE_ROWS:
            self._after = deposit_due.FIRST
            self._next_at = self._clock.now() + timedelta(seconds=RETRY_SECONDS)
        return count

    async def _page(self) -> Sequence[RowMapping]:
        async with self._database.unit_of_work() as uow:
            return await token_store.awaited_page(
                uow, network=self._network.name, after=self._after, limit=PAGE_ROWS
            )

    async def _told(self, rows: Sequence[RowMapping]) -> list[_Told]:
        by_block: dict[str, list[tuple[RowMapping, TxStatus]]] = {}
        for row in rows:
            try:
                status = await self._reader.tx_status(row["txid"])
            except NodeError as error:
                log.warning("retrace.no_answer", txid=row["txid"], error=str(error))
                continue
            if status.place is TxPlace.MINED and status.block is not None:
                by_block.setdefault(status.block.hash, []).append((row, status))
        found = []
        for block_hash, items in by_block.items():
            try:
                told = await self._ask(block_hash, items)
            except NodeError as error:
                log.warning("retrace.no_answer", hash=block_hash, error=str(error))
                continue
            if told is not None:
                found.append(told)
        return found

    async def _ask(
        self, block_hash: str, items: Sequence[tuple[RowMapping, TxStatus]]
    ) -> _Told | None:
        """What the block tells of these; a failed tx made nothing, whoever traces it."""
        block = await self._reader.block(block_hash)
        rows = [row for row, _ in items]
        if block.ref.hash != block_hash:
            return None
        if not block.traces_incomplete:
            told = {_effect(item): item for item in block.transfers if is_traced(item)}
            made = [told[_wanted(row)] for row in rows if _wanted(row) in told]
            return _told(block, rows, made)
        failed = [row for row, status in items if status.is_success is False]
        ran = [row for row, status in items if status.is_success]
        proven = await self._by_balance(block, ran)
        return _told(block, [*failed, *proven], [_transfer(row) for row in proven])

    async def _by_balance(self, block: Block, rows: Sequence[RowMapping]) -> list[RowMapping]:
        """Those whose account rose over the block by exactly what they and its other txs claim."""
        coin = self._network.assets[self._network.spec.native_asset]
        mine = [row for row in rows if row["asset"] == coin.id]
        keys = sorted({row["key"] for row in mine})
        if not keys:
            return []
        async with self._database.unit_of_work() as uow:
            all_rows = await token_store.awaited_of(
                uow, network=self._network.name, txids=block.txids
            )
        moved, _ = await token_checks.moved(self._reader, self._network, block, coin, keys)
        claimed: Counter[str] = Counter()
        for row in all_rows:
            claimed[row["key"]] += int(row["amount"])
        for item in (*block.transfers, *block.gifts):
            if item.asset == coin.id:
                claimed[item.to_key] += item.amount_minor
        return [row for row in mine if moved.get(row["key"]) == claimed[row["key"]]]

    async def _settle(self, uow: Uow, *, told: _Told, hold: Hold) -> int:
        """Include or exclude them, as if the block had told it at once."""
        height, network, ref = await hold(uow), self._network, told.block.ref
        standing = await store.canonical_from(
            uow, network=network.name, low=ref.height, high=ref.height
        )
        if ref.height > height or [row["hash"] for row in standing] != [ref.hash]:
            return 0
        rows = await token_store.lock_awaited(
            uow, network=network.name, deposit_ids=told.deposit_ids
        )
        if not rows:
            return 0
        at = self._clock.now()
        wanted, txids = {_wanted(row) for row in rows}, {row["txid"] for row in rows}
        block = replace(
            told.block,
            transfers=tuple(item for item in told.transfers if _effect(item) in wanted),
            gifts=(),
            spends=(),
            sends=tuple(item for item in told.block.sends if item.txid in txids),
            txids=tuple(sorted(txids)),
            traces_incomplete=False,
        )
        only = frozenset(row["id"] for row in rows)
        (block,) = await changed_effects.settle(uow, network, [block], at=at, only=only)
        await self._include(uow, block, at=at)
        for row in rows:
            log.warning("retrace.told", deposit_id=str(row["id"]), hash=ref.hash)
        return len(rows)

    async def _include(self, uow: Uow, block: Block, *, at: datetime) -> None:
        network = self._network
        own = await addresses.by_keys(
            uow, network=network.name, keys=sorted({item.to_key for item in block.transfers})
        )
        found = [
            (item, own[item.to_key], asset)
            for item in block.transfers
            if (asset := network.asset(item.asset)) is not None
        ]
        await deposit_blocks.connect(
            uow,
            network,
            [deposit_blocks.Paid(block=block, found=found)],
            terms=await policies.terms(uow, network, found),
            internal_txids=frozenset(),
            at=at,
        )
        proven = {item.txid for item in block.transfers}
        await evidence.store(uow, network, [(block, proven)], at=at)


def _told(block: Block, rows: Sequence[RowMapping], transfers: Sequence[Transfer]) -> _Told | None:
    if not rows:
        return None
    ids = tuple(row["id"] for row in rows)
    return _Told(block=block, deposit_ids=ids, transfers=tuple(transfers))


_Effect = tuple[str, str, str, str, int]


def _effect(item: Transfer) -> _Effect:
    return (item.txid, item.position, item.asset, item.to_key, item.amount_minor)


def _wanted(row: RowMapping) -> _Effect:
    return (row["txid"], row["position"], row["asset"], row["key"], int(row["amount"]))


def _transfer(row: RowMapping) -> Transfer:
    return Transfer(
        txid=row["txid"],
        position=row["position"],
        asset=row["asset"],
        to_key=row["key"],
        amount_minor=int(row["amount"]),
    )
