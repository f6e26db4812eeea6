"""`GET /v1/wallets`: what every wallet holds, by the books, by the chain, and on its way.

An operator's answer is one snapshot of books and chain state, read after the call's own unit of
work; a brand sees its own deposit wallets through row-level security. It asks no node.
"""

from collections.abc import Mapping
from contextlib import suppress
from datetime import datetime
from typing import Final, Literal

from gateway.api.endpoint import Answer, Call, endpoint
from gateway.api.wire_base import WireContext, rfc3339
from gateway.api.wire_query import Page, PageQuery
from gateway.api.wire_wallets import BandOut, ChainBlockOut, WalletOut
from gateway.treasury import bands, positions
from gateway.treasury.bands import BandState
from gateway.treasury.positions import BandPosition, WalletPosition
from ledger import balances
from ledger.accounts import AccountKind
from watchers import addresses
from watchers.errors import PoolEmpty
from watchers.positions import OnChain

READ = frozenset({"treasury:read", "ledger:read"})
STATUS: Final[Mapping[BandState, Literal["low", "ok", "high"]]] = {
    BandState.LOW: "low",
    BandState.INSIDE: "ok",
    BandState.HIGH: "high",
}


@endpoint(
    "GET",
    "/v1/wallets",
    "Custody by the books and by chain state, what is on its way, and bands.",
    answers=Page[WalletOut],
    query=PageQuery,
    scopes=READ,
)
async def list_wallets(call: Call) -> Answer:
    """A brand sees its own deposit wallets; the pooled ones are the operator's."""
    if call.one_brand is not None:
        return Answer(body=Page[WalletOut](items=await _of_brand(call), next_cursor=None))
    receiving = await _hot_addresses(call)

    async def later() -> Answer:
        services = call.services
        async with services.database.snapshot() as uow:
            found = await positions.read(uow, services.registry, has_chain=True)
        banded = {
            (item.role, item.asset): item for item in positions.by_band(found, services.registry)
        }
        items = [
            _wire(
                call,
                item,
                address=receiving.get(item.network) if item.role == "hot" else None,
                band=banded.get((item.role, item.asset)),
            )
            for item in found
        ]
        return Answer(body=Page[WalletOut](items=items, next_cursor=None))

    return Answer(body=None, later=later)


async def _hot_addresses(call: Call) -> dict[str, str]:
    """Where each network's hot wallet receives; missing until the signer has verified it."""
    found = {}
    for network in call.services.registry.chains:
        with suppress(PoolEmpty):
            row = await addresses.own_address(call.uow, network=network, role="hot")
            found[network] = row.address
    return found


async def _of_brand(call: Call) -> list[WalletOut]:
    rows = await balances.balances(call.uow, kind=AccountKind.CUSTODY, brand=call.one_brand)
    wire = call.services.wire
    return [
        WalletOut(
            wallet=row.wallet or "",
            role="deposit",
            network=(row.wallet or "").partition("/")[0],
            asset=row.asset,
            brand=row.brand,
            ledger=wire.amount(row.balance_minor, row.asset),
            ledger_minor=str(row.balance_minor),
        )
        for row in rows
        if row.brand == call.one_brand
    ]


def _wire(
    call: Call, item: WalletPosition, *, address: str | None, band: BandPosition | None
) -> WalletOut:
    wire = call.services.wire

    def amounts(name: str, minor: int | None) -> dict[str, str | None]:
        text = None if minor is None else wire.amount(minor, item.asset)
        return {name: text, f"{name}_minor": None if minor is None else str(minor)}

    return WalletOut(
        wallet=item.wallet,
        role=item.role.value,
        network=item.network,
        asset=item.asset,
        brand=item.brand,
        address=address,
        ledger=wire.amount(item.ledger_minor, item.asset),
        ledger_minor=str(item.ledger_minor),
        **amounts("chain", None if item.chain is None else item.chain.amount_minor),
        **amounts("reserved", item.reserved_minor),
        **amounts("outgoing", item.outgoing_minor),
        **amounts("incoming", item.incoming_minor),
        **amounts("free", item.free_minor),
        chain_block=None if item.chain is None else _block(item.chain, at=call.at),
        band=None if band is None else _band(wire, band),
    )


def _block(chain: OnChain, *, at: datetime) -> ChainBlockOut:
    return ChainBlockOut(
        height=chain.height,
        block_hash=chain.block_hash,
        source=chain.source.value,
        at=rfc3339(chain.at),
        age_seconds=max(0, int((at - chain.at).total_seconds())),
    )


def _band(wire: WireContext, item: BandPosition) -> BandOut:
    return BandOut(
        min=wire.amount(item.band.min_minor, item.asset),
        target=wire.amount(item.band.target_minor, item.asset),
        max=wire.amount(item.band.max_minor, item.asset),
        status=STATUS[bands.side_of(item.band, item.free_minor)],
    )
