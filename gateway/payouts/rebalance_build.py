"""The tx of an approved move out of hot: its coins or its lane, beside all that payouts wait for.

Owns the choice and the draft of a first attempt, in the unit of work of the caller; what leaves the
warm wallet is of `warm_build`, a further attempt of `move_bumps`. It asks nobody and moves no
state.
"""

from functools import partial
from typing import Final

from config.database import Uow
from gateway.payouts import (
    coin_cover,
    drafts,
    fee_policy,
    funds,
    rebalances,
    warm_build,
)
from gateway.payouts.account_funds import FEE_CAPITAL, HOT_WALLET
from gateway.payouts.coin_selection import Terms, select
from gateway.payouts.context import Lane
from gateway.payouts.errors import FeeAboveCap
from gateway.payouts.rebalances import Direction
from gateway.payouts.rebalances_store import RebalanceRow
from watchers import addresses, coins, fees, nonces
from watchers.outgoing import OutgoingDraft

TARGET_BLOCKS: Final = 6  # nobody waits for it, and a nonce must not be held up for long


async def first(lane: Lane, uow: Uow, row: RebalanceRow) -> OutgoingDraft | str:
    """A draft whose coins or nonce are reserved, or by code why it must wait.

    Raises FeesUnknown, FeeAboveCap, PoolEmpty, CoinTaken.
    """
    if row.direction == Direction.WARM_TO_HOT:
        return await warm_build.first(lane, uow, row)
    if lane.is_account_based:
        return await _of_account(lane, uow, row)
    return await _of_coins(lane, uow, row)


async def _of_coins(lane: Lane, uow: Uow, row: RebalanceRow) -> OutgoingDraft | str:
    quote = await funds.current_quote(lane, uow)
    policy = lane.registry.policy.fees[lane.network]
    rows = await coins.spendable(uow, network=lane.network, limit=funds.COINS_MAX)
    free = await coin_cover.unsigned_by_any(lane, uow, rows)
    terms = Terms(
        payments_minor=row.amount_minor,
        rate_sat_per_kvb=fee_policy.utxo_rate(quote, target_blocks=TARGET_BLOCKS, policy=policy),
        change_min_minor=max(policy.cpfp_reserve_minor, 1),
        must_keep_change=not lane.spec.can_replace,
        cheap_rate_sat_per_kvb=await fees.cheap_rate(uow, network=lane.network),
    )
    size = partial(coin_cover.size_of, lane, [row.address_key])
    found = select(free, terms, size_of=size)
    if found is None:
        return HOT_WALLET
    if not fee_policy.fits(found.fee_minor, policy=policy):
        raise FeeAboveCap(f"a move out of hot for {found.fee_minor}")
    if found.fee_minor > await funds.room_beside(lane, uow, family_id=None):
        return FEE_CAPITAL
    taken = {coin.outpoint for coin in found.coins}
    left = [item.coin() for item in rows if item.height is not None]
    left = [coin for coin in left if coin.outpoint not in taken]
    if not await coin_cover.is_enough(lane, uow, left, quote):
        return HOT_WALLET
    change = None
    if found.change_minor:
        change = await addresses.own_address(uow, network=lane.network, role="change")
    chosen = sorted(found.coins, key=lambda coin: (coin.outpoint.txid, coin.outpoint.vout))
    payments = (rebalances.payment_of(row),)
    unsigned = drafts.utxo(
        lane, coins=chosen, payments=payments, change=change, change_minor=found.change_minor
    )
    attempt_id = lane.ids.new_id()
    draft = OutgoingDraft(
        id=attempt_id,
        network=lane.network,
        purpose=row.direction,
        family_id=attempt_id,
        unsigned=unsigned.data,
        payments=payments,
        fee_cap_minor=unsigned.fee_minor,
        inputs=tuple(coin.outpoint for coin in chosen),
        change=drafts.change_of(unsigned, change, found.change_minor),
    )
    await coins.reserve(uow, attempt_id=attempt_id, outpoints=draft.inputs)
    return draft


async def _of_account(lane: Lane, uow: Uow, row: RebalanceRow) -> OutgoingDraft | str:
    waiting = await coin_cover.waiting(lane, uow)
    if len(waiting) > coin_cover.QUEUE_MAX:
        return HOT_WALLET
    account = await funds.load_account(lane, uow)
    for payout in waiting:
        if account.admit(payout) is not None:
            return HOT_WALLET  # what is short already is not made shorter
    place = account.of_move(asset=row.asset, amount_minor=row.amount_minor, blocks=TARGET_BLOCKS)
    if isinstance(place, str):
        return place
    attempt_id = lane.ids.new_id()
    nonce = await nonces.allocate(
        uow, network=lane.network, sender_key=place.sender.key, attempt_id=attempt_id
    )
    payments = (rebalances.payment_of(row),)
    unsigned = drafts.account(
        lane, sender=place.sender, nonce=nonce, payments=payments, fee=place.fee, batch_of=None
    )
    return OutgoingDraft(
        id=attempt_id,
        network=lane.network,
        purpose=row.direction,
        family_id=attempt_id,
        unsigned=unsigned.data,
        payments=payments,
        fee_cap_minor=place.fee.cap_minor,
        sender_key=place.sender.key,
        nonce=nonce,
    )
