"""Payments to another script of a key whose address was issued (D26, docs/adr/0022).

They are never a deposit: nobody said that such a script belongs to a player. What arrived is ours
all the same (the key is), so it is an inflow of its own kind in suspense, a coin that no payout may
take (the signer spends P2WPKH only), and a search for people. Runs inside the block's unit of work.
"""

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from uuid import UUID

from config import alarm_store
from config.chains import Family
from config.database import Uow
from config.logs import get_logger
from watchers import inflows, token_store
from watchers.addresses import AddressRow
from watchers.chain import Block, Transfer
from watchers.inflows import Arrival, InflowKind
from watchers.matches import Match, TxDepths
from watchers.network import Network
from watchers.registry import issued_keys

log = get_logger("watchers.other_scripts")

KIND = "other_script"
ACTOR = "watchers.other_scripts"

Sibling = tuple[Transfer, str]
"""A transfer to a script that is nobody's address, and the key that an address of ours may have."""


def siblings(network: Network, transfers: Sequence[Transfer]) -> list[Sibling]:
    """The transfers that may pay another script of an own key. Pure; by the block's size."""
    found = issued_keys(network.family, [item.to_key for item in transfers])
    if not found:
        return []
    return [(item, found[item.to_key]) for item in transfers if item.to_key in found]


def matches(
    network: Network, found: Iterable[Sibling], own: Mapping[str, AddressRow]
) -> list[Match]:
    """Those that do, with the address that was issued for the key."""
    asset = network.asset(network.spec.native_asset)
    if asset is None:
        return []
    return [
        (transfer, own[key], asset)
        for transfer, key in found
        if key in own and transfer.to_key not in own and transfer.amount_minor > 0
    ]


def arrivals(network: Network, block: Block, found: Sequence[Match]) -> list[Arrival]:
    """The inflows of one block. One of our own txs counts too: it paid out what comes back here."""
    depths = TxDepths(network, found, in_block=True)
    return [(block.ref, item[0], item[1], depths.of(item).full_depth) for item in found]


async def connect(
    uow: Uow,
    network: Network,
    run: Sequence[tuple[Block, Sequence[Match]]],
    arrived: Sequence[Sequence[Arrival]],
    *,
    at: datetime,
) -> None:
    """Record what blocks pay to other scripts, and tell people: one search per address and block.

    Safe to repeat. Its coins are the business of `effects.py`, as all coins are.
    """
    found = [item for items in arrived for item in items]
    if not found:
        return
    await inflows.connect(
        uow, found, network=network.name, ids=network.ids, at=at, kind=InflowKind.OTHER_SCRIPT
    )
    searches = [
        _search(network, block, items, at=at)
        for block, matched in run
        for items in _by_address(matched)
    ]
    await token_store.open_searches(uow, searches)
    told = ", ".join(sorted({address.address for _, _, address, _ in found}))
    await alarm_store.raise_alarm(
        uow,
        alarm_id=network.ids.new_id(),
        kind=KIND,
        network=network.name,
        detail=f"paid by another script of the same key, not credited: {told}",
        at=at,
    )
    log.error("deposit.other_script", network=network.name, count=len(found))


async def disconnect(uow: Uow, network: Network, *, block_hash: str, at: datetime) -> None:
    """The block left the chain: its searches are about nothing now. Its inflows are taken back
    with all others, and a block that is back opens its searches again."""
    if network.family is Family.BITCOIN:
        await token_store.close_searches(
            uow,
            network=network.name,
            kind=KIND,
            block_hash=block_hash,
            closed_by=ACTOR,
            outcome="its block left the chain",
            at=at,
        )


def _by_address(found: Sequence[Match]) -> list[list[Match]]:
    by_id: dict[UUID, list[Match]] = {}
    for item in found:
        by_id.setdefault(item[1].id, []).append(item)
    return list(by_id.values())


def _search(
    network: Network, block: Block, found: Sequence[Match], *, at: datetime
) -> Mapping[str, object]:
    _, address, asset = found[0]
    total = sum(transfer.amount_minor for transfer, _, _ in found)
    return {
        "id": network.ids.new_id(),
        "network": network.name,
        "kind": KIND,
        "asset": asset.id,
        "subject": address.address,
        "brand": address.brand,
        "player_id": address.player_id,
        "block_hash": block.ref.hash,
        "height": block.ref.height,
        "claimed": total,
        "moved": total,
        "transfers": [
            {"txid": item.txid, "position": item.position, "amount": str(item.amount_minor)}
            for item, _, _ in found
        ],
        "at": at,
    }
