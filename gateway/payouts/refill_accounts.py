"""A refill from a cold account: one EIP-1559 transfer that its owner signs.

What a lane has to ask a node about the account, and the draft from it. A network has one such
refill at a time, since they stand in the order of their numbers. A contract cannot sign one: a Safe
that is configured as such has a road of its own (`safe_refills`), any other is refused.
"""

from asyncio import timeout
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from config.database import Uow
from gateway.payouts import fee_policy, funds, rebalances, refills_store
from gateway.payouts.context import Lane
from gateway.payouts.errors import RefillNotPossible
from gateway.payouts.rebalances_store import RebalanceRow
from ledger import accounts, balances
from watchers import addresses, nonces, outgoing, outgoing_families
from watchers.addresses import AddressRole, AddressRow
from watchers.chain import AccountPlan, Pay, SafeState
from watchers.outgoing import OutgoingDraft

LOOK_SECONDS: Final = 30.0  # one question to a node
TARGET_BLOCKS: Final = 5

FAILED: Final = "refill_failed"
"""Alarm: what people wanted to move from cold to hot did not come about; by rebalance."""

CONFLICT: Final = "cold_spent_elsewhere"
"""Alarm: cold coins, or the cold account's number, went to a tx that is not ours; by rebalance."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ColdAccount:
    """The account as a node sees it now."""

    height: int
    mined_count: int
    has_code: bool
    held: Mapping[str, int]
    """By asset, minor units. The books have one account for this one and older ones together."""
    safe: SafeState | None = None


async def safe_state(lane: Lane) -> SafeState | None:
    """The Safe that is configured, at the newest block. Raises NodeUnavailable."""
    reader = lane.chain.reader
    return await reader.safe_state(block_hash=(await reader.tip()).hash)


async def is_hot(uow: Uow, *, network: str, address: str, key: str) -> bool:
    """Whether it is the hot wallet's, as the signer re-derived it."""
    found = await addresses.by_text(uow, network=network, key=key)
    return (
        found is not None
        and found.role is AddressRole.HOT
        and found.is_verified
        and found.address == address
    )


async def look(lane: Lane, receive: AddressRow) -> ColdAccount:
    """Ask a node, with no unit of work open. Raises NodeUnavailable, TimeoutError."""
    reader, key, held = lane.chain.reader, receive.key, dict[str, int]()
    async with timeout(LOOK_SECONDS):
        count = await reader.account_nonce(key)
        tip = await reader.tip()
        coded = await reader.with_code([key], block_hash=tip.hash)
        for asset in lane.registry.assets_of(lane.network):
            found = await reader.holdings([key], asset.id, block_hash=tip.hash)
            held[asset.id] = found.get(key, 0)
        safe = await reader.safe_state(block_hash=tip.hash)
    return ColdAccount(
        height=tip.height, mined_count=count, has_code=key in coded, held=held, safe=safe
    )


async def reaches(
    lane: Lane, uow: Uow, row: RebalanceRow, seen: ColdAccount, *, fee_minor: int
) -> bool:
    """Whether it pays the amount and the fee, by the books and by what the account itself holds;
    False when a node has to be asked again first. Raises RefillNotPossible."""
    wanted = Counter({row.asset: row.amount_minor})
    wanted[lane.spec.native_asset] += fee_minor
    for asset, amount in wanted.items():
        if await balances.balance(uow, accounts.custody(lane.network, "cold", asset)) < amount:
            raise RefillNotPossible("cold_wallet_short")
    if all(seen.held.get(asset, 0) >= amount for asset, amount in wanted.items()):
        return True
    followed = await outgoing_families.followed_height(uow, network=lane.network)
    if followed is not None and seen.height < followed:
        return False  # the books know of later blocks than the answer
    raise RefillNotPossible("cold_wallet_short")


async def draft(
    lane: Lane, uow: Uow, row: RebalanceRow, receive: AddressRow, *, seen: ColdAccount
) -> OutgoingDraft | None:
    """What its owner signs; None while another refill of the account is on its way, or a node has
    to be asked again.

    Raises RefillNotPossible, FeesUnknown, FeeAboveCap.
    """
    if seen.has_code:
        raise RefillNotPossible("cold_is_a_contract")
    if await refills_store.has_open(uow, network=lane.network):
        return None
    native = lane.spec.native_asset
    policy = lane.registry.policy.fees[lane.network]
    fee = fee_policy.account_fee(
        await funds.current_quote(lane, uow),
        target_blocks=TARGET_BLOCKS,
        policy=policy,
        gas_limit=lane.chain.writer.gas_limit(row.asset),
    )
    if not await reaches(lane, uow, row, seen, fee_minor=fee.cap_minor):
        return None
    if await balances.fee_capital(uow, native) < fee.cap_minor:
        raise RefillNotPossible(funds.FEE_CAPITAL)
    attempt_id = lane.ids.new_id()
    await nonces.at_least(
        uow, network=lane.network, sender_key=receive.key, mined_count=seen.mined_count
    )
    nonce = await nonces.allocate(
        uow, network=lane.network, sender_key=receive.key, attempt_id=attempt_id
    )
    pay = Pay(asset=row.asset, address=row.address, amount_minor=row.amount_minor)
    unsigned = lane.chain.writer.build(
        AccountPlan(
            sender=receive.derived(),
            nonce=nonce,
            payment=pay,
            gas_limit=fee.gas_limit,
            max_fee_per_gas=fee.max_fee_per_gas,
            max_priority_fee_per_gas=fee.max_priority_fee_per_gas,
        )
    )
    return OutgoingDraft(
        id=attempt_id,
        network=lane.network,
        purpose=outgoing.OUTSIDE_PURPOSE,
        family_id=attempt_id,
        unsigned=unsigned.data,
        payments=(rebalances.payment_of(row),),
        fee_cap_minor=fee.cap_minor,
        sender_key=receive.key,
        nonce=nonce,
    )
