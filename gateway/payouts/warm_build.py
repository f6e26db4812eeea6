"""The tx of an approved move from warm to hot: of warm coins, or of the warm account, alone.

Owns the choice and the draft of its one attempt, in the unit of work of the caller. Nothing of the
hot wallet is added to it, and the rest goes back to the warm address. It asks nobody and moves no
state.
"""

from functools import partial
from typing import Final

from config.database import Uow
from gateway.payouts import coin_cover, drafts, fee_policy, funds, rebalances
from gateway.payouts.account_funds import FEE_CAPITAL
from gateway.payouts.coin_selection import Terms, select
from gateway.payouts.context import Lane
from gateway.payouts.errors import FeeAboveCap
from gateway.payouts.rebalances_store import RebalanceRow
from watchers import addresses, coins, fees, nonces, sweepable
from watchers.outgoing import OutgoingDraft

TARGET_BLOCKS: Final = 2  # payouts wait for it, and it is never bumped
WARM_ACCOUNT: Final = 0

WARM_WALLET: Final = "warm_wallet"
"""Why it waits: the wallet holds less than that, or coins that are not final yet."""


async def first(lane: Lane, uow: Uow, row: RebalanceRow) -> OutgoingDraft | str:
    """A draft whose coins or nonce are reserved, or by code why it must wait.

    Raises FeesUnknown, FeeAboveCap, PoolEmpty, CoinTaken.
    """
    if lane.is_account_based:
        return await _of_account(lane, uow, row)
    return await _of_coins(lane, uow, row)


async def _of_coins(lane: Lane, uow: Uow, row: RebalanceRow) -> OutgoingDraft | str:
    warm = await addresses.own_address(uow, network=lane.network, role="warm", lane=WARM_ACCOUNT)
    quote = await funds.current_quote(lane, uow)
    policy = lane.registry.policy.fees[lane.network]
    known = await coins.warm(uow, network=lane.network, limit=funds.COINS_MAX)
    terms = Terms(
        payments_minor=row.amount_minor,
        rate_sat_per_kvb=fee_policy.utxo_rate(quote, target_blocks=TARGET_BLOCKS, policy=policy),
        change_min_minor=lane.registry.assets[row.asset].dust_minor + 1,
        must_keep_change=False,
        cheap_rate_sat_per_kvb=await fees.cheap_rate(uow, network=lane.network),
    )
    size = partial(coin_cover.size_of, lane, [row.address_key])
    found = select([item.coin() for item in known.free], terms, size_of=size)
    if found is None:
        return WARM_WALLET
    if not fee_policy.fits(found.fee_minor, policy=policy):
        raise FeeAboveCap(f"a move from warm for {found.fee_minor}")
    if found.fee_minor > await funds.room_beside(lane, uow, family_id=None):
        return FEE_CAPITAL
    change = warm if found.change_minor else None
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
    await coins.reserve(uow, attempt_id=attempt_id, outpoints=draft.inputs, is_cold=True)
    return draft


async def _of_account(lane: Lane, uow: Uow, row: RebalanceRow) -> OutgoingDraft | str:
    """The account pays its own gas: coin of it must lie there beside a token."""
    warm = await addresses.own_address(uow, network=lane.network, role="warm", lane=WARM_ACCOUNT)
    native = lane.spec.native_asset
    fee = fee_policy.account_fee(
        await funds.current_quote(lane, uow),
        target_blocks=TARGET_BLOCKS,
        policy=lane.registry.policy.fees[lane.network],
        gas_limit=lane.chain.writer.gas_limit(row.asset),
    )
    if fee.cap_minor > await funds.fee_left(lane, uow):
        return FEE_CAPITAL
    wanted = {native: fee.cap_minor}
    wanted[row.asset] = wanted.get(row.asset, 0) + row.amount_minor
    for asset, amount in wanted.items():
        free = await sweepable.free(
            uow, network=lane.network, key=warm.key, asset=asset, pays_fees=asset == native
        )
        if free < amount:
            return WARM_WALLET
    attempt_id = lane.ids.new_id()
    nonce = await nonces.allocate(
        uow, network=lane.network, sender_key=warm.key, attempt_id=attempt_id
    )
    payments = (rebalances.payment_of(row),)
    unsigned = drafts.account(
        lane, sender=warm, nonce=nonce, payments=payments, fee=fee, batch_of=None
    )
    return OutgoingDraft(
        id=attempt_id,
        network=lane.network,
        purpose=row.direction,
        family_id=attempt_id,
        unsigned=unsigned.data,
        payments=payments,
        fee_cap_minor=unsigned.fee_minor,
        sender_key=warm.key,
        nonce=nonce,
    )
