"""What a network's hot wallet can pay now, taken one withdrawal after another.

Owns the arithmetic of "does it fit": coins or hot balances, the fee policy, and fee capital. The
planner and the liquidity step use the same object, so that what leaves the wait is what gets
planned. It reserves nothing. Amounts in minor units; balances come from the books, never a node.
"""

from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from typing import Protocol
from uuid import UUID

from config.database import Uow
from gateway.payouts import account_funds, fee_policy, rebalances_store, store
from gateway.payouts.account_funds import FEE_CAPITAL as FEE_CAPITAL
from gateway.payouts.account_funds import HOT_WALLET as HOT_WALLET
from gateway.payouts.account_funds import AccountFunds, Payer, target_blocks
from gateway.payouts.attempts import ON_ITS_WAY
from gateway.payouts.coin_selection import (
    Selection,
    SizeOf,
    Terms,
    fee_for,
    select,
    select_in_order,
)
from gateway.payouts.context import Lane
from gateway.payouts.packages import Packages
from gateway.withdrawals_store import WithdrawalRow
from ledger import accounts, balances
from watchers import coins, fees, outgoing, outgoing_families, sweepable
from watchers.chain import Coin, FeeQuote
from watchers.outgoing import OutgoingRow, OutgoingState
from watchers.outgoing_families import OpenTx

FEE_ABOVE_MAXIMUM = "fee_above_maximum"
COINS_MAX = 2_000  # candidates looked at per plan
REFUND_INPUTS = 10  # fees that are tried to come out of a refund, by the number of inputs
REFUND_ROUNDS = 3  # then as much of the fee as there is
ATTEMPTS_MAX = 10_000  # own txs that are not final; far above what a hot wallet has at once
UNSETTLED = (
    OutgoingState.BUILT,
    OutgoingState.SIGNED,
    OutgoingState.BROADCAST,
    OutgoingState.SEEN,
    OutgoingState.MINED,
    OutgoingState.DROPPED,
)
P2WPKH_KEY = "0014" + "00" * 20  # any key of this size stands for the change output


class Funds(Protocol):
    """The running account of one planning step."""

    def admit(self, row: WithdrawalRow) -> str | None:
        """Take this payment in, or say by code why it must wait."""
        ...


class UtxoFunds:
    """Coins for one tx that pays every admitted withdrawal."""

    def __init__(
        self,
        lane: Lane,
        *,
        mined: Sequence[Coin],
        unconfirmed: Sequence[Coin],
        quote: FeeQuote,
        fee_left_minor: int,
        cheap_rate: int,
        has_fewest_bytes: bool,
    ) -> None:
        self._lane = lane
        self._mined = mined
        self._unconfirmed = unconfirmed
        self._has_fewest_bytes = has_fewest_bytes
        self._quote = quote
        self._fee_left_minor = fee_left_minor
        self._cheap_rate = cheap_rate
        self._policy = lane.registry.policy.fees[lane.network]
        self.rows: list[WithdrawalRow] = []
        self.selection: Selection | None = None

    def admit(self, row: WithdrawalRow) -> str | None:
        """As Funds.admit. Raises FeeAboveCap when the mempool asks more than the cap."""
        rows = [*self.rows, row]
        found = self._select(rows)
        if found is None:
            return HOT_WALLET
        if not fee_policy.fits(found.fee_minor, policy=self._policy):
            return FEE_ABOVE_MAXIMUM
        if found.fee_minor > self._fee_left_minor:
            return FEE_CAPITAL
        self.rows, self.selection = rows, found
        return None

    def of_refund(self, row: WithdrawalRow) -> tuple[Selection, int] | str:
        """Coins for a refund, which rides alone, and what of the fee comes out of its amount: never
        more than the tx pays; by code why it must wait. Raises FeeAboveCap."""
        found = self._within_amount(row)
        if found is None:
            return HOT_WALLET
        for _ in range(REFUND_ROUNDS):
            fee = min(found[0].fee_minor, row.amount_minor - 1)
            again = self._select([replace(row, fee_charged_minor=fee)])
            if again is None or again.fee_minor < fee:
                break
            found = again, fee
        if not fee_policy.fits(found[0].fee_minor, policy=self._policy):
            return FEE_ABOVE_MAXIMUM
        return FEE_CAPITAL if found[0].fee_minor > self._fee_left_minor else found

    def least_fee(self, row: WithdrawalRow) -> int:
        """What the smallest tx to it costs. Raises FeeAboveCap."""
        return self._fee_of(row, inputs=1)

    def _fee_of(self, row: WithdrawalRow, *, inputs: int) -> int:
        writer = self._lane.chain.writer
        size = writer.estimate_size_vb(inputs=inputs, outputs=[row.address_key])
        return fee_for(size, rate_sat_per_kvb=self._rate([row]))

    def _within_amount(self, row: WithdrawalRow) -> tuple[Selection, int] | None:
        """The first that reaches, by the fee of so many inputs out of the amount."""
        for inputs in range(1, REFUND_INPUTS + 1):
            fee = self._fee_of(row, inputs=inputs)
            if fee >= row.amount_minor:
                break
            found = self._select([replace(row, fee_charged_minor=fee)])
            if found is not None and found.fee_minor >= fee:
                return found, fee
        return None

    def _rate(self, rows: Sequence[WithdrawalRow]) -> int:
        return fee_policy.utxo_rate(
            self._quote,
            target_blocks=min(target_blocks(self._lane, row) for row in rows),
            policy=self._policy,
        )

    def _select(self, rows: Sequence[WithdrawalRow]) -> Selection | None:
        """With the CPFP reserve as the least change where it can be had; LTC insists on change
        (CONTRACT 5). A tx without change has no descendants of ours, so that it can be replaced."""
        rate = self._rate(rows)
        keys = [row.address_key for row in rows]
        dust = self._lane.registry.assets[self._lane.spec.native_asset].dust_minor
        reserve = max(self._policy.cpfp_reserve_minor, dust + 1)
        must_keep = not self._lane.spec.can_replace

        def size_of(*, inputs: int, has_change: bool) -> int:
            outputs = [*keys, P2WPKH_KEY] if has_change else keys
            return self._lane.chain.writer.estimate_size_vb(inputs=inputs, outputs=outputs)

        found = None
        for change_min in (reserve, dust + 1):
            terms = Terms(
                payments_minor=sum(row.output_minor for row in rows),
                rate_sat_per_kvb=rate,
                change_min_minor=change_min,
                must_keep_change=must_keep,
                cheap_rate_sat_per_kvb=self._cheap_rate,
            )
            found = self._of_terms(terms, size_of)
            if found is not None or must_keep:
                break
        return found

    def _of_terms(self, terms: Terms, size_of: SizeOf) -> Selection | None:
        if not self._has_fewest_bytes:
            return select(self._mined, terms, size_of=size_of, unconfirmed=self._unconfirmed)
        by_bytes = sorted(
            [*self._mined, *self._unconfirmed],
            key=lambda coin: (-(coin.amount_minor // len(coin.previous_tx)), coin.outpoint.txid),
        )
        return select_in_order(by_bytes, terms, size_of=size_of)


async def load_utxo(
    lane: Lane, uow: Uow, *, has_fewest_coins: bool = False, of_house: bool = False
) -> UtxoFunds:
    """The spendable coins, oldest first among equals; `has_fewest_coins`: those that are worth most
    per byte of their previous tx (fewest bytes for the signer); `of_house`: hot and change alone.
    Raises FeesUnknown."""
    quote = await current_quote(lane, uow)
    rows = await coins.spendable(uow, network=lane.network, limit=COINS_MAX)
    rows = [row for row in rows if row.is_of_house or not of_house]
    rows.sort(key=lambda coin: (coin.height is None, coin.height or 0, coin.outpoint.txid))
    unconfirmed = [row.coin() for row in rows if row.height is None]
    if unconfirmed:
        txs = await outgoing_families.open_txs(uow, network=lane.network, limit=ATTEMPTS_MAX)
        unconfirmed = Packages(txs, size_of=partial(size_vb, lane)).within_limits(unconfirmed)
    _, fee_left = await _committed_fees(lane, uow)
    return UtxoFunds(
        lane,
        mined=[row.coin() for row in rows if row.height is not None],
        unconfirmed=unconfirmed,
        quote=quote,
        fee_left_minor=fee_left,
        cheap_rate=await fees.cheap_rate(uow, network=lane.network),
        has_fewest_bytes=has_fewest_coins,
    )


def size_vb(lane: Lane, tx: OpenTx) -> int:
    """Virtual bytes of an own tx on a UTXO chain, rounded up."""
    outputs = [*tx.keys, *[P2WPKH_KEY] * len(tx.change)]
    return lane.chain.writer.estimate_size_vb(inputs=tx.inputs_count, outputs=outputs)


async def load_account(lane: Lane, uow: Uow) -> AccountFunds:
    """Hot custody by the books, less what is on its way, by account; raises FeesUnknown."""
    quote = await current_quote(lane, uow)
    caps, left = await _committed_fees(lane, uow)
    lanes, contract, _ = await _payers(lane, uow, caps=caps)
    return AccountFunds(lane, lanes=lanes, contract=contract, quote=quote, fee_left_minor=left)


async def load(lane: Lane, uow: Uow) -> Funds:
    """The funds of the lane's family; raises FeesUnknown."""
    return await (load_account if lane.is_account_based else load_utxo)(lane, uow)


async def current_quote(lane: Lane, uow: Uow) -> FeeQuote:
    """The fee quote to build with now; raises FeesUnknown for none or a stale one."""
    return fee_policy.usable(await fees.latest(uow, network=lane.network), now=lane.now())


async def room_beside(lane: Lane, uow: Uow, *, family_id: UUID | None) -> int:
    """What the dearest attempt of a family may cost at most, beside everything else on its way:
    fee capital, and on account chains the native coin of its sender. None: a new family."""
    caps, fee_left = await _committed_fees(lane, uow, but=family_id)
    if not lane.is_account_based:
        return fee_left
    lanes, _, own = await _payers(lane, uow, caps=caps, but=family_id)
    senders = {tx.sender_key for tx in own if tx.family_id == family_id}
    left = [item.left[lane.spec.native_asset] for item in lanes if item.address.key in senders]
    return min(fee_left, *left) if left else 0


async def fee_left(lane: Lane, uow: Uow) -> int:
    """The fee capital that is left beside everything on its way."""
    return (await _committed_fees(lane, uow))[1]


async def _payers(
    lane: Lane, uow: Uow, *, caps: int, but: UUID | None = None
) -> tuple[list[Payer], Payer | None, list[OutgoingRow]]:
    """The lanes, the contract and the own txs that are not final; the fee caps of a family `but`
    are not taken."""
    own = await outgoing.in_states(uow, network=lane.network, states=UNSETTLED, limit=ATTEMPTS_MAX)
    taken = await store.committed(uow, network=lane.network, states=ON_ITS_WAY)
    native = lane.spec.native_asset
    refills = await sweepable.refills(uow, network=lane.network)
    taken[native] = taken.get(native, 0) + caps + refills
    # The books hold what is on its way to cold until it is settled, as they do with payouts.
    for asset, amount in (await rebalances_store.leaving(uow, network=lane.network)).items():
        taken[asset] = taken.get(asset, 0) + amount
    hot = {
        asset.id: await balances.balance(uow, accounts.custody(lane.network, "hot", asset.id))
        - taken.get(asset.id, 0)
        for asset in lane.registry.assets_of(lane.network)
    }
    lanes, contract = await account_funds.payers(lane, uow, hot=hot, own=own, but=but)
    return lanes, contract, own


async def _committed_fees(lane: Lane, uow: Uow, *, but: UUID | None = None) -> tuple[int, int]:
    """(fee caps of what the hot wallet has on its way, fee capital that is left beside all that is
    on its way): of a family one attempt is mined, so its dearest counts. Of sweeps and top-ups the
    hot wallet pays refills only, which are counted with their amounts."""
    found = partial(outgoing_families.dearest, uow, network=lane.network, states=UNSETTLED)
    dearest = await found()
    elsewhere = await found(is_of_sweeps=True) if lane.is_account_based else {}
    caps = sum(cap for family_id, cap in dearest.items() if family_id != but)
    of_hot = caps - sum(cap for family_id, cap in elsewhere.items() if family_id != but)
    return of_hot, await balances.fee_capital(uow, lane.spec.native_asset) - caps
