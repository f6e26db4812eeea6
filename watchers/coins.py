"""The UTXO set of our own keys, and who reserved what.

Owns `chain.coins` and the txs that made them. A coin belongs to at most one attempt (P22). It must
not choose coins: that is the planner's business; here is only what may be chosen.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from uuid import UUID

from sqlalchemy import RowMapping

from config.database import Uow
from watchers import coin_store as store
from watchers.addresses import AddressRole
from watchers.chain import Coin, Outpoint
from watchers.errors import CoinTaken

UNCONFIRMED_ANCESTORS_MAX = 10  # HOUSE 5; well below the nodes' own limit of 25
COINBASE_MATURITY_BLOCKS = 100  # consensus, Bitcoin and Litecoin


@dataclass(frozen=True, slots=True, kw_only=True)
class MinedCoin:
    """An unspent coin of ours in a block, as far as a count needs it."""

    outpoint: Outpoint
    asset: str
    amount_minor: int
    role: AddressRole
    address_id: UUID


@dataclass(frozen=True, slots=True, kw_only=True)
class CoinRow:
    """A coin of ours with the whole tx that made it, which coins of one tx share.

    `height` is None while its tx is unconfirmed.
    """

    network: str
    outpoint: Outpoint
    asset: str
    amount_minor: int
    address_id: UUID
    key: str
    path: str
    previous_tx: bytes
    is_own_change: bool
    height: int | None

    @property
    def is_of_house(self) -> bool:
        """Of the operator's own account (hot, change): no player paid it (BIP 44, account 0)."""
        return self.path.split("/")[3] == "0h"

    def coin(self) -> Coin:
        """The coin as the builder and the signer take it."""
        return Coin(
            outpoint=self.outpoint,
            amount_minor=self.amount_minor,
            key=self.key,
            path=self.path,
            previous_tx=self.previous_tx,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class ApartCoins:
    """Coins of the cold or the warm wallet that nothing has reserved, largest first: `free` are
    final, `young` will be."""

    free: Sequence[CoinRow]
    young: Sequence[CoinRow]


async def spendable(uow: Uow, *, network: str, limit: int) -> list[CoinRow]:
    """Final coins of others and own change up to the ancestor limit, unreserved, largest first."""
    rows = await store.spendable(
        uow, network=network, limit=limit, ancestors=UNCONFIRMED_ANCESTORS_MAX
    )
    raws = await store.previous_txs(uow, network=network, txids={row["txid"] for row in rows})
    return [_row(row, raws[row["txid"]]) for row in rows]


async def cold(uow: Uow, *, network: str, limit: int) -> ApartCoins:
    """The cold wallet's coins as of one moment. The path of each is `cold/<branch>/<index>` of its
    descriptor. Nothing online can sign for them."""
    return await _apart(uow, network=network, role=AddressRole.COLD, limit=limit)


async def warm(uow: Uow, *, network: str, limit: int) -> ApartCoins:
    """The warm wallet's coins as of one moment, for moves that two people sign."""
    return await _apart(uow, network=network, role=AddressRole.WARM, limit=limit)


async def _apart(uow: Uow, *, network: str, role: AddressRole, limit: int) -> ApartCoins:
    rows = await store.apart(uow, network=network, role=role.value, limit=limit)
    raws = await store.previous_txs(uow, network=network, txids={row["txid"] for row in rows})
    return ApartCoins(
        free=[_row(row, raws[row["txid"]]) for row in rows if row["is_final"]],
        young=[_row(row, raws[row["txid"]]) for row in rows if not row["is_final"]],
    )


async def by_outpoints(uow: Uow, *, network: str, outpoints: Sequence[Outpoint]) -> list[CoinRow]:
    """Own coins by identity, in the order of (txid, vout), whoever holds them."""
    rows = await store.by_outpoints(uow, network=network, outpoints=outpoints)
    raws = await store.previous_txs(uow, network=network, txids={row["txid"] for row in rows})
    return [_row(row, raws[row["txid"]]) for row in rows]


async def holders(
    uow: Uow, *, network: str, outpoints: Sequence[Outpoint]
) -> dict[Outpoint, UUID | None]:
    """Of those of `outpoints` that are unspent coins of ours: the attempt that reserved them."""
    return {
        Outpoint(txid=row["txid"], vout=row["vout"]): row["reserved_by"]
        for row in await store.by_outpoints(uow, network=network, outpoints=outpoints)
        if row["spent_by"] is None
    }


async def reserve(
    uow: Uow, *, attempt_id: UUID, outpoints: Sequence[Outpoint], is_cold: bool = False
) -> None:
    """Reserve coins for an attempt; again for the same attempt changes nothing.

    Hot coins are never mixed with others (`is_cold`: of the cold or the warm wallet): of the other
    kind none is free. Raises CoinTaken, after
    which the unit of work must end without a commit.
    """
    wanted = set(outpoints)
    if len(wanted) != len(outpoints):
        raise CoinTaken("one outpoint is asked for twice")
    count = await store.reserve(
        uow, attempt_id=attempt_id, outpoints=list(outpoints), is_cold=is_cold
    )
    if count != len(wanted):
        raise CoinTaken(f"{len(wanted) - count} of {len(wanted)} coins are not free")


async def free(uow: Uow, *, attempt_id: UUID) -> None:
    """Free the coins of an attempt that was never signed; a signed one keeps them."""
    await store.free(uow, attempt_id=attempt_id)


async def claim(uow: Uow, *, network: str, attempt_id: UUID | None = None) -> int:
    """Reserve what signed attempts spend and nobody reserved: books written again after a loss."""
    return await store.claim(uow, network=network, attempt_id=attempt_id)


async def keep(uow: Uow, *, network: str, attempt_id: UUID, outpoints: Sequence[Outpoint]) -> None:
    """Nobody may spend the coins of a signature that these books cannot hold, for ever: also those
    that a block brings later."""
    await store.keep(uow, network=network, attempt_id=attempt_id, outpoints=outpoints)


async def mark_own_change(uow: Uow, *, network: str, txid: str) -> None:
    """The change of a tx that turned out to be ours; blocks had brought it as somebody's."""
    await store.mark_own_change(uow, network=network, txid=txid)


async def transactions(uow: Uow, *, network: str, txids: Collection[str]) -> dict[str, bytes]:
    """The whole txs that made coins of ours, by txid."""
    return await store.previous_txs(uow, network=network, txids=txids)


async def open_mined(uow: Uow, *, network: str) -> list[MinedCoin]:
    """Unspent coins in blocks, for the reconciliation with the chain."""
    return [
        MinedCoin(
            outpoint=Outpoint(txid=row["txid"], vout=row["vout"]),
            asset=row["asset"],
            amount_minor=int(row["amount"]),
            role=AddressRole(row["role"]),
            address_id=row["address_id"],
        )
        for row in await store.open_mined(uow, network=network)
    ]


def _row(row: RowMapping, previous_tx: bytes) -> CoinRow:
    return CoinRow(
        network=row["network"],
        outpoint=Outpoint(txid=row["txid"], vout=row["vout"]),
        asset=row["asset"],
        amount_minor=int(row["amount"]),
        address_id=row["address_id"],
        key=row["key"],
        path=row["path"],
        previous_tx=previous_tx,
        is_own_change=row["is_own_change"],
        height=row["height"],
    )
