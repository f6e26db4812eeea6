"""Whether coins that stay behind still pay what waits for them, as one urgent batch would.

Asked before coins leave for anything but a payout: a merge, a split, a move to cold. It reserves
nothing.
"""

from collections.abc import Sequence
from functools import partial
from typing import Final

from config.database import Uow
from gateway.payouts import fee_policy, store
from gateway.payouts.coin_selection import Terms, select
from gateway.payouts.context import Lane
from gateway.payouts.funds import P2WPKH_KEY
from gateway.payouts.withdrawals import State
from gateway.withdrawals_store import WithdrawalRow
from watchers import outgoing_families
from watchers.chain import Coin, FeeQuote
from watchers.coins import CoinRow

QUEUE_MAX: Final = 500  # withdrawals looked at; with more, nothing is moved


async def waiting(lane: Lane, uow: Uow) -> list[WithdrawalRow]:
    """What waits for hot value, QUEUE_MAX + 1 of each state at most."""
    rows: list[WithdrawalRow] = []
    for state in (State.QUEUED, State.WAITING_LIQUIDITY):
        rows += await store.in_state(uow, network=lane.network, state=state, limit=QUEUE_MAX + 1)
    return rows


async def is_enough(lane: Lane, uow: Uow, left: Sequence[Coin], quote: FeeQuote) -> bool:
    """Whether `left` pays all that waits. Raises FeeAboveCap."""
    rows = await waiting(lane, uow)
    if not rows:
        return True
    if len(rows) > QUEUE_MAX:
        return False
    fee = lane.registry.policy.fees[lane.network]
    keys = [row.address_key for row in rows]
    terms = Terms(
        payments_minor=sum(row.output_minor for row in rows),
        rate_sat_per_kvb=fee_policy.utxo_rate(quote, target_blocks=1, policy=fee),
        change_min_minor=max(fee.cpfp_reserve_minor, 1),
        must_keep_change=True,
    )
    return select(left, terms, size_of=partial(size_of, lane, keys)) is not None


async def unsigned_by_any(lane: Lane, uow: Uow, rows: Sequence[CoinRow]) -> list[Coin]:
    """The mined ones of these that no signed tx spends, dead ones included: nobody who authorised
    such a tx is asked when its coins move, so the signer refuses them (signer/own_moves.py)."""
    mined = [row.coin() for row in rows if row.height is not None]
    signed = await outgoing_families.spenders(
        uow, network=lane.network, outpoints=[coin.outpoint for coin in mined]
    )
    spent = {outpoint for tx in signed for outpoint in tx.inputs}
    return [coin for coin in mined if coin.outpoint not in spent]


def size_of(lane: Lane, keys: Sequence[str], *, inputs: int, has_change: bool) -> int:
    """Virtual bytes of a tx to these keys."""
    outputs = [*keys, P2WPKH_KEY] if has_change else list(keys)
    return lane.chain.writer.estimate_size_vb(inputs=inputs, outputs=outputs)
