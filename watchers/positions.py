"""What the chain holds of each wallet at a named block, and what is on its way out or in.

Owns no state: it reads coins, account balances, the newest comparison and own transactions, all in
the caller's snapshot. Codes are those of custody accounts, amounts minor units. It books nothing
and asks no node; every figure says where it comes from and of when it is.
"""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from sqlalchemy import RowMapping

from config.chains import ChainSpec, Family
from config.database import Uow
from watchers import addresses, store
from watchers import positions_store as own_store
from watchers.addresses import AddressRole, AddressRow
from watchers.inflows import custody_account
from watchers.outgoing_store import SWEEP_PURPOSES


class ChainSource(StrEnum):
    """Where an amount comes from."""

    COINS = "coins"
    """Our unspent coins at the follower's block."""
    ACCOUNTS = "accounts"
    """The operator's accounts at the follower's block, by the evidence of the blocks."""
    COMPARISON = "comparison"
    """The newest comparison of books and chain, which asked the nodes at its own block."""


@dataclass(frozen=True, slots=True, kw_only=True)
class OnChain:
    """What a wallet holds at a block, minor units; `at` is when that was written down."""

    amount_minor: int
    source: ChainSource
    height: int
    block_hash: str
    at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class Transit:
    """Own transactions that are signed and not in the books, by custody code, minor units. Until a
    tx is in a block its fee is the most that it may cost."""

    outgoing: Mapping[str, int]
    incoming: Mapping[str, int]


async def on_chain(uow: Uow, spec: ChainSpec) -> dict[str, OnChain]:
    """What is known of each wallet of a network, by custody code; none before its first block."""
    found = await _compared(uow, spec.network)
    cursor = await store.cursor(uow, spec.network)
    if cursor is None or cursor["hash"] is None:
        return found
    is_utxo = spec.family is Family.BITCOIN
    read = own_store.coins_by_role if is_utxo else own_store.balances_by_role
    held: Counter[str] = Counter({_code(spec, AddressRole.HOT, None, spec.native_asset): 0})
    for row in await read(uow, network=spec.network):
        held[_code(spec, AddressRole(row["role"]), row["brand"], row["asset"])] += int(
            row["amount"]
        )
    for code, amount in held.items():
        found[code] = OnChain(
            amount_minor=amount,
            source=ChainSource.COINS if is_utxo else ChainSource.ACCOUNTS,
            height=cursor["height"],
            block_hash=cursor["hash"],
            at=cursor["updated_at"],
        )
    return found


async def in_transit(uow: Uow, spec: ChainSpec) -> Transit:
    """What own transactions of a network take from and bring to its wallets."""
    rows = await own_store.in_transit(uow, network=spec.network)
    keys = {row["sender_key"] for row in rows}
    for row in rows:
        keys |= {key for item in _movements(row) for key in (item["key"], item.get("from_key"))}
    own = await addresses.by_keys(uow, network=spec.network, keys=sorted(filter(None, keys)))
    outgoing: Counter[str] = Counter()
    incoming: Counter[str] = Counter()
    for row in rows:
        role, brand = _payer(row, own)
        fee = row["fee_cap_minor"] if row["height"] is None else row["fee_minor"]
        outgoing[_code(spec, role, brand, spec.native_asset)] += int(fee or 0)
        for item in _movements(row):
            asset, amount = item["asset"], int(item["amount_minor"])
            source = own.get(item.get("from_key") or "")  # a collect takes from deposit addresses
            of = (role, brand) if source is None else (source.role, source.brand)
            outgoing[_code(spec, *of, asset)] += amount
            receiver = own.get(item["key"])
            # What a payout brings to a player is a deposit; gas for a sweep is not.
            is_of_sweeps = row["purpose"] in SWEEP_PURPOSES
            if receiver is not None and (receiver.player_id is None or is_of_sweeps):
                incoming[_code(spec, receiver.role, receiver.brand, asset)] += amount
    return Transit(outgoing=outgoing, incoming=incoming)


def _movements(row: RowMapping) -> list[Mapping[str, str]]:
    """What leaves by a tx: what its block shows, else what it was built to pay."""
    found: list[Mapping[str, str]] = (
        row["payments"] if row["height"] is None else (row["moved"] or [])
    )
    return found


def _payer(row: RowMapping, own: Mapping[str, AddressRow]) -> tuple[AddressRole, str | None]:
    sender = own.get(row["sender_key"] or "")
    if sender is not None:
        return sender.role, sender.brand
    role = row["input_role"]
    return (AddressRole.HOT if role is None else AddressRole(role)), None


async def _compared(uow: Uow, network: str) -> dict[str, OnChain]:
    return {
        row["account"]: OnChain(
            amount_minor=int(row["chain"]),
            source=ChainSource.COMPARISON,
            height=row["height"],
            block_hash=row["block_hash"],
            at=row["finished_at"],
        )
        for row in await own_store.newest_comparison(uow, network=network)
    }


def _code(spec: ChainSpec, role: AddressRole, brand: str | None, asset: str) -> str:
    return custody_account(
        family=spec.family, network=spec.network, role=role, brand=brand, asset=asset
    ).code
