"""Many tokens by one tx of the gas account (docs/adr/0035): which sweeps ride together, and the tx.

Owns the choice between a sweep's own tx and a collect, the grouping of a lot's legs, and the
question for the signer. Deposit addresses that must first delegate stand before those that have, so
that the bytes alone say whose each authorisation is. It judges no sweep and asks nobody.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from config.database import Uow
from gateway.payouts.context import Lane
from gateway.payouts.errors import BrokenAttempt, FeeAboveCap
from gateway.payouts.fee_policy import AccountFee
from gateway.payouts.gas_station import Station
from gateway.payouts.raw_tx import authorised_nonces
from gateway.payouts.sweep_terms import Terms
from gateway.payouts.sweeps import Step
from signer.protocol import Purpose
from watchers import nonces
from watchers.addresses import AddressRow
from watchers.chain import AccountState, CollectLeg, CollectPlan, Delegation, Unsigned
from watchers.outgoing import OutgoingDraft, OutgoingRow, PlannedPayment

LEGS_MAX: Final = 100  # of one tx (contracts/Collector.sol)
SHARED_BY: Final = 10  # how many share the fixed gas of a collect, where nobody knows yet


@dataclass(frozen=True, slots=True, kw_only=True)
class Taking:
    """What a collect takes from one deposit address. `nonce`: it delegates by the same tx, at this
    number of its own; `step` is what its sweep goes on by."""

    step: Step
    own: AddressRow
    amount_minor: int
    nonce: int | None


def rides(account: AccountState | None, *, lacks_gas: bool) -> bool:
    """Whether a sweep of a token rides with others: where its address delegates already it is
    cheapest, and else where it would have to be given gas first."""
    if account is None or account.delegation is Delegation.FOREIGN:
        return False
    return account.delegation is Delegation.OURS or lacks_gas


def gas_of_one(lane: Lane, account: AccountState | None) -> int:
    """What one leg is expected to use, its share of the whole included; as one that delegates where
    nobody knows."""
    is_new = account is None or account.delegation is Delegation.NONE
    _, expected = lane.chain.writer.collect_gas(
        legs=SHARED_BY, authorisations=SHARED_BY if is_new else 0
    )
    return -(-expected // SHARED_BY)


def groups(takings: Sequence[Taking]) -> Iterator[list[Taking]]:
    """By asset, at most LEGS_MAX together, who must delegate first."""
    by_asset: dict[str, list[Taking]] = {}
    for item in takings:
        by_asset.setdefault(item.step.row.asset, []).append(item)
    for _, items in sorted(by_asset.items()):
        order = sorted(items, key=lambda item: item.nonce is None)
        for start in range(0, len(order), LEGS_MAX):
            yield order[start : start + LEGS_MAX]


def afforded(
    lane: Lane, terms: Terms, station: Station, group: Sequence[Taking]
) -> tuple[list[Taking], AccountFee | None]:
    """As many of a group as one tx may pay for, and its fee; None when not even one."""
    legs = list(group)
    while legs:
        limit, _ = lane.chain.writer.collect_gas(
            legs=len(legs), authorisations=sum(item.nonce is not None for item in legs)
        )
        try:
            fee = terms.fee(limit)
        except FeeAboveCap:
            fee = None
        if fee is not None and station.take(0, fee):
            return legs, fee
        legs = legs[: len(legs) // 2]
    return [], None


async def draft(
    lane: Lane, uow: Uow, station: Station, hot: AddressRow, legs: Sequence[Taking], fee: AccountFee
) -> OutgoingDraft:
    """The attempt of a collect, with a number of the gas account."""
    attempt_id = lane.ids.new_id()
    nonce = await nonces.allocate(
        uow, network=lane.network, sender_key=station.account.key, attempt_id=attempt_id
    )
    asset = legs[0].step.row.asset
    unsigned = _build(
        lane,
        asset,
        station.account,
        nonce,
        [(item.own, item.amount_minor, item.nonce) for item in legs],
        fee,
    )
    payments = tuple(
        PlannedPayment(
            asset=asset,
            address=hot.address,
            key=hot.key,
            amount_minor=item.amount_minor,
            from_key=item.own.key,
        )
        for item in legs
    )
    return OutgoingDraft(
        id=attempt_id,
        network=lane.network,
        purpose=Purpose.COLLECT.value,
        family_id=attempt_id,
        unsigned=unsigned.data,
        payments=payments,
        fee_cap_minor=unsigned.fee_minor,
        sender_key=station.account.key,
        nonce=nonce,
    )


def rebuilt(
    lane: Lane, tx: OutgoingRow, own: Mapping[str, AddressRow], fee: AccountFee
) -> Unsigned:
    """The same collect at another fee, with the same legs, authorisations and number; `own`: sender
    and deposit addresses by key. Raises BrokenAttempt."""
    sender = own.get(tx.sender_key or "")
    if sender is None or tx.nonce is None:
        raise BrokenAttempt(f"attempt {tx.id} has no account of ours")
    given = authorised_nonces(tx.unsigned)
    legs: list[tuple[AddressRow, int, int | None]] = []
    for index, payment in enumerate(tx.payments):
        address = own.get(payment.from_key or "")
        if address is None:
            raise BrokenAttempt(f"attempt {tx.id} takes from no address of ours")
        nonce = given[index] if index < len(given) else None
        legs.append((address, payment.amount_minor, nonce))
    return _build(lane, tx.payments[0].asset, sender, tx.nonce, legs, fee)


def _build(
    lane: Lane,
    asset: str,
    sender: AddressRow,
    nonce: int,
    legs: Sequence[tuple[AddressRow, int, int | None]],
    fee: AccountFee,
) -> Unsigned:
    """Legs as (deposit address, minor units, the number at which it delegates)."""
    return lane.chain.writer.build(
        CollectPlan(
            sender=sender.derived(),
            nonce=nonce,
            asset=asset,
            legs=tuple(
                CollectLeg(deposit=own.derived(), amount_minor=amount, authorise_nonce=given)
                for own, amount, given in legs
            ),
            gas_limit=fee.gas_limit,
            max_fee_per_gas=fee.max_fee_per_gas,
            max_priority_fee_per_gas=fee.max_priority_fee_per_gas,
        )
    )


def paths(tx: OutgoingRow, own: Mapping[str, AddressRow]) -> dict[int, str]:
    """Whose its legs are, and behind them its authorisations, for the signer. Raises
    BrokenAttempt."""
    found = []
    for payment in tx.payments:
        address = own.get(payment.from_key or "")
        if address is None:
            raise BrokenAttempt(f"attempt {tx.id} takes from no address of ours")
        found.append(address.path)
    return dict(enumerate([*found, *found[: len(authorised_nonces(tx.unsigned))]]))


def leg_of(tx: OutgoingRow, key: str) -> int:
    """The place of a deposit address among the legs. Raises BrokenAttempt."""
    for index, payment in enumerate(tx.payments):
        if payment.from_key == key:
            return index
    raise BrokenAttempt(f"attempt {tx.id} takes nothing from {key}")


def brands_of(tx: OutgoingRow, own: Mapping[str, AddressRow]) -> dict[str, int]:
    """How many legs each brand has: its share of the fee."""
    shares: dict[str, int] = {}
    for payment in tx.payments:
        address = own.get(payment.from_key or "")
        if address is None or address.brand is None:
            raise BrokenAttempt(f"attempt {tx.id} takes from no deposit address of ours")
        shares[address.brand] = shares.get(address.brand, 0) + 1
    return dict(sorted(shares.items()))
