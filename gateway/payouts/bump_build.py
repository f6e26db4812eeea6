"""The bytes of a bump: a replacement with the same payments, or a child that pays for a package.

Owns how change shrinks, which coins are added and when that is over a bound (BumpCapped). It reads
coins and addresses in the caller's unit of work, and reserves and records nothing.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final
from uuid import UUID

from config.database import Uow
from gateway.payouts import bump_policy, drafts, fee_policy
from gateway.payouts.coin_selection import fee_for
from gateway.payouts.context import Lane
from gateway.payouts.errors import BrokenAttempt, BumpCapped, FeeAboveCap
from gateway.payouts.fee_policy import BASE_FEE_HEADROOM, SAT_PER_VB_IN_KVB, AccountFee
from gateway.payouts.funds import P2WPKH_KEY
from gateway.payouts.same_tx import gas_fields
from signer.protocol import Purpose
from watchers import addresses, coins, outgoing_families
from watchers.addresses import AddressRow
from watchers.chain import FeeQuote, Outpoint, Unsigned
from watchers.coins import CoinRow
from watchers.outgoing import OutgoingDraft, OutgoingRow, PlannedPayment

ADDED_MAX: Final = 10  # coins that a bump may add; more is a case for a person
SPARE_MAX: Final = 100  # coins looked at for it


Write = Callable[[AddressRow, AccountFee, int], Unsigned]
"""An account's tx by its sender, fee and nonce."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Need:
    """What a bump is for. `below_*`: own unmined ancestors; `room_minor`: what fee capital and hot
    balance leave for this one tx; `share_minor`: what policy lets it cost, None where the payment
    is in another coin. `for_id` is the payout that bears it."""

    rate: int
    quote: FeeQuote
    below_size_vb: int
    below_fee_minor: int
    room_minor: int
    share_minor: int | None
    for_id: UUID
    height: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Built:
    """A draft, its bytes, and the coins that it takes beside those of its family."""

    draft: OutgoingDraft
    unsigned: Unsigned
    takes: tuple[Outpoint, ...]


async def replacement(
    lane: Lane,
    uow: Uow,
    current: OutgoingRow,
    family: Sequence[OutgoingRow],
    need: Need,
    *,
    is_abort: bool = False,
) -> Built:
    """The same payments and inputs at a higher fee, change smaller or inputs added (BIP 125); an
    abort pays nobody and adds nothing. Raises BumpCapped.
    """
    is_abort = is_abort or current.purpose == Purpose.ABORT
    payments = () if is_abort else current.payments
    held = await coins.by_outpoints(uow, network=lane.network, outpoints=current.inputs)
    if len(held) != len(current.inputs):
        raise BrokenAttempt(f"attempt {current.id}: an input is no coin of ours")
    before = await outgoing_families.change_of(uow, current.id)
    fees = _Fees(
        lane,
        need,
        keys=[payment.key for payment in payments],
        paid_minor=sum(payment.amount_minor for payment in payments),
        highest_minor=max(tx.fee_cap_minor for tx in family if tx.raw is not None),
    )
    is_refund = current.purpose == Purpose.REFUND  # the signer takes no coin of a player for one
    chosen, added, change_minor = await _enough(lane, uow, held, fees, of_house=is_refund)
    if is_abort and added:
        raise BumpCapped("its own coins do not reach for an abort")
    change = None
    if change_minor:
        kept = await addresses.by_id(uow, before[0].address_id) if before else None
        change = kept or await addresses.own_address(uow, network=lane.network, role="change")
    unsigned = _utxo(lane, chosen, payments, change, change_minor)
    draft = OutgoingDraft(
        id=lane.ids.new_id(),
        network=lane.network,
        purpose=Purpose.ABORT.value if is_abort else current.purpose,
        family_id=current.family_id,
        unsigned=unsigned.data,
        payments=payments,
        fee_cap_minor=unsigned.fee_minor,
        inputs=tuple(coin.outpoint for coin in chosen),
        change=drafts.change_of(unsigned, change, change_minor),
        family_number=family[-1].family_number + 1,
        replaces_id=current.id,
        pays_for_id=current.pays_for_id,
        planned_height=need.height,
    )
    # The change of what it replaces may never exist: nobody may build on it.
    own = [Outpoint(txid=current.txid or "", vout=output.vout) for output in before]
    held_by = await coins.holders(uow, network=lane.network, outpoints=own)
    ids = {tx.id for tx in family}  # an earlier sibling may keep it from others already
    takes = (
        *(coin.outpoint for coin in added),
        *(outpoint for outpoint in own if held_by.get(outpoint) not in ids),
    )
    return Built(draft=draft, unsigned=unsigned, takes=takes)


async def child(lane: Lane, uow: Uow, outpoint: Outpoint, need: Need) -> Built:
    """Own change to own change at a fee that lifts the whole package (CPFP); raises BumpCapped."""
    held = await coins.by_outpoints(uow, network=lane.network, outpoints=[outpoint])
    if not held:
        raise BumpCapped("no own change to spend")
    fees = _Fees(lane, need, keys=[], paid_minor=0, highest_minor=None)
    chosen, _, change_minor = await _enough(lane, uow, held, fees)
    change = await addresses.own_address(uow, network=lane.network, role="change")
    unsigned = _utxo(lane, chosen, (), change, change_minor)
    attempt_id = lane.ids.new_id()
    draft = OutgoingDraft(
        id=attempt_id,
        network=lane.network,
        purpose=Purpose.CPFP.value,
        family_id=attempt_id,
        unsigned=unsigned.data,
        payments=(),
        fee_cap_minor=unsigned.fee_minor,
        inputs=tuple(coin.outpoint for coin in chosen),
        change=drafts.change_of(unsigned, change, change_minor),
        pays_for_id=need.for_id,
        planned_height=need.height,
    )
    return Built(draft=draft, unsigned=unsigned, takes=draft.inputs)


def _utxo(
    lane: Lane,
    chosen: Sequence[CoinRow],
    payments: Sequence[PlannedPayment],
    change: AddressRow | None,
    change_minor: int,
) -> Unsigned:
    coins = [coin.coin() for coin in chosen]
    return drafts.utxo(
        lane, coins=coins, payments=payments, change=change, change_minor=change_minor
    )


async def same_nonce(
    lane: Lane,
    uow: Uow,
    current: OutgoingRow,
    family: Sequence[OutgoingRow],
    need: Need,
    *,
    target_blocks: int,
    is_abort: bool = False,
    write: Write | None = None,
) -> Built:
    """The same payment at the same nonce, both fee fields higher (EIP-1559); an abort is a transfer
    of nothing to itself, and `write` makes what is no payment. Raises BumpCapped."""
    sender = await addresses.by_text(uow, network=lane.network, key=current.sender_key or "")
    if sender is None or current.nonce is None:
        raise BrokenAttempt(f"attempt {current.id}: the sender is no address of ours")
    is_abort = is_abort or current.purpose == Purpose.ABORT
    signed = [gas_fields(tx.unsigned) for tx in family if tx.raw is not None]
    highest = AccountFee(
        max_fee_per_gas=max(item[0] for item in signed),
        max_priority_fee_per_gas=max(item[1] for item in signed),
        gas_limit=lane.chain.writer.gas_limit(lane.spec.native_asset)
        if is_abort
        else gas_fields(current.unsigned)[2],
    )
    fee = _gas(lane, highest, need, target_blocks=target_blocks)
    nothing = PlannedPayment(
        asset=lane.spec.native_asset, address=sender.address, key=sender.key, amount_minor=0
    )
    if write is not None:
        unsigned = write(sender, fee, current.nonce)
    else:
        unsigned = drafts.account(
            lane,
            sender=sender,
            nonce=current.nonce,
            payments=[nothing] if is_abort else current.payments,
            fee=fee,
            batch_of=None if is_abort or current.payer_key is None else current.family_id,
        )
    draft = OutgoingDraft(
        id=lane.ids.new_id(),
        network=lane.network,
        purpose=Purpose.ABORT.value if is_abort else current.purpose,
        family_id=current.family_id,
        unsigned=unsigned.data,
        payments=() if is_abort else current.payments,
        fee_cap_minor=unsigned.fee_minor,
        sender_key=current.sender_key,
        nonce=current.nonce,
        payer_key=current.payer_key,
        family_number=family[-1].family_number + 1,
        replaces_id=current.id,
        planned_height=need.height,
    )
    return Built(draft=draft, unsigned=unsigned, takes=())


def most_minor(lane: Lane, need: Need, *, rate_cap_minor: int) -> int:
    """What one tx may cost: the cap of its rate, policy's absolute maximum, the share of what is
    paid, and the room that is left; satoshi or wei."""
    policy = lane.registry.policy.fees[lane.network]
    bounds = [rate_cap_minor, policy.fee_per_tx_max_minor, need.room_minor]
    if need.share_minor is not None:
        bounds.append(need.share_minor)
    return min(bounds)


def _gas(lane: Lane, highest: AccountFee, need: Need, *, target_blocks: int) -> AccountFee:
    policy = lane.registry.policy.fees[lane.network]
    gas = highest.gas_limit
    per_gas = most_minor(lane, need, rate_cap_minor=policy.rate_cap * gas) // gas
    try:
        quoted = fee_policy.account_fee(
            need.quote, target_blocks=target_blocks, policy=policy, gas_limit=gas
        )
    except FeeAboveCap as error:
        raise BumpCapped(str(error)) from error
    base = max(need.quote.base_fee, 0)
    fee = bump_policy.replacement_gas(
        highest=highest,
        wanted=max(need.rate, base + quoted.max_priority_fee_per_gas),
        base_fee=base,
        headroom=BASE_FEE_HEADROOM,
        most_per_gas=per_gas,
    )
    if fee is None:
        raise BumpCapped(f"12.5 % above {highest.max_fee_per_gas} wei per gas is over {per_gas}")
    return fee


class _Fees:
    """The fee of one bump by its coins, or BumpCapped."""

    def __init__(
        self,
        lane: Lane,
        need: Need,
        *,
        keys: Sequence[str],
        paid_minor: int,
        highest_minor: int | None,
    ) -> None:
        self._lane = lane
        self._need = need
        self._keys = list(keys)
        self._paid_minor = paid_minor
        self._highest_minor = highest_minor
        self._dust_minor = lane.registry.assets[lane.spec.native_asset].dust_minor

    def change_minor(self, chosen: Sequence[CoinRow], *, is_last: bool = False) -> int | None:
        """What these coins leave for change, 0 for none; None when they do not reach.

        `is_last`: nothing can be added, so the whole rest is taken, if nodes take that.
        """
        rest = sum(coin.amount_minor for coin in chosen) - self._paid_minor
        fee, _ = self._fee(len(chosen), has_change=True)
        if rest - fee > self._dust_minor:
            return rest - fee
        if not self._keys:  # a tx has an output
            return None
        fee, most = self._fee(len(chosen), has_change=False)
        if is_last and self._highest_minor is not None:
            fee = min(fee, self._highest_minor + self._step_minor(len(chosen)))
        return 0 if fee <= rest <= most else None

    def _step_minor(self, inputs: int) -> int:
        """BIP 125 rule 4 for a tx without change."""
        size = self._lane.chain.writer.estimate_size_vb(inputs=inputs, outputs=self._keys)
        return fee_for(size, rate_sat_per_kvb=bump_policy.INCREMENTAL_SAT_PER_KVB)

    def _fee(self, inputs: int, *, has_change: bool) -> tuple[int, int]:
        """(the fee, the most that it may be)"""
        lane, need = self._lane, self._need
        outputs = [*self._keys, P2WPKH_KEY] if has_change else self._keys
        size = lane.chain.writer.estimate_size_vb(inputs=inputs, outputs=outputs)
        rate_cap = lane.registry.policy.fees[lane.network].rate_cap
        most = most_minor(lane, need, rate_cap_minor=rate_cap * size)
        wanted = bump_policy.package_fee(
            rate=min(need.rate, rate_cap * SAT_PER_VB_IN_KVB),
            size_vb=size,
            below_size_vb=need.below_size_vb,
            below_fee_minor=need.below_fee_minor,
        )
        if self._highest_minor is None:
            fee = bump_policy.child_fee(
                wanted_minor=wanted,
                size_vb=size,
                floor_sat_per_kvb=need.quote.floor,
                most_minor=most,
            )
        else:
            fee = bump_policy.replacement_fee(
                wanted_minor=wanted,
                size_vb=size,
                highest_minor=self._highest_minor,
                most_minor=most,
            )
        if fee is None:
            raise BumpCapped(f"the least that nodes take for {size} vB is over {most} satoshi")
        return fee, most


async def _enough(
    lane: Lane, uow: Uow, held: Sequence[CoinRow], fees: _Fees, *, of_house: bool = False
) -> tuple[list[CoinRow], list[CoinRow], int]:
    """(all coins in the signer's order, those added, change): the largest mined ones are added,
    since a replacement may add no unconfirmed input (BIP 125 rule 2)."""
    change_minor = fees.change_minor(held)
    if change_minor is not None:
        return _ordered(held), [], change_minor
    found = await coins.spendable(uow, network=lane.network, limit=SPARE_MAX)
    found = [coin for coin in found if coin.is_of_house or not of_house]
    spare = [coin for coin in found if coin.height is not None][:ADDED_MAX]
    for count in range(1, len(spare) + 1):
        added = spare[:count]
        change_minor = fees.change_minor([*held, *added])
        if change_minor is not None:
            return _ordered([*held, *added]), added, change_minor
    change_minor = fees.change_minor(held, is_last=True)
    if change_minor is not None:
        return _ordered(held), [], change_minor
    raise BumpCapped("change and free coins do not reach")


def _ordered(found: Sequence[CoinRow]) -> list[CoinRow]:
    return sorted(found, key=lambda coin: (coin.outpoint.txid, coin.outpoint.vout))
