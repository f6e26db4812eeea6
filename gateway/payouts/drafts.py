"""The bytes of an attempt from its payments: of first attempts and of bumps alike.

Pure but for the network's own writer: it reads no rows, reserves nothing and records nothing.
"""

from collections.abc import Sequence
from uuid import UUID

from gateway.payouts.account_funds import batch_id
from gateway.payouts.context import Lane
from gateway.payouts.fee_policy import AccountFee
from gateway.withdrawals_store import WithdrawalRow
from watchers.addresses import AddressRow
from watchers.chain import AccountPlan, BatchPlan, Coin, Pay, Plan, Unsigned, UtxoPlan
from watchers.outgoing import ChangeOutput, PlannedPayment


def planned(row: WithdrawalRow) -> PlannedPayment:
    """What a withdrawal is paid."""
    return PlannedPayment(
        asset=row.asset, address=row.address, key=row.address_key, amount_minor=row.output_minor
    )


def utxo(
    lane: Lane,
    *,
    coins: Sequence[Coin],
    payments: Sequence[PlannedPayment],
    change: AddressRow | None,
    change_minor: int,
) -> Unsigned:
    """A PSBT over these coins, in this order (the signer's is that of txid and index)."""
    return lane.chain.writer.build(
        UtxoPlan(
            coins=tuple(coins),
            payments=_pays(payments),
            change=None if change is None else change.derived(),
            change_minor=change_minor,
        )
    )


def change_of(
    unsigned: Unsigned, address: AddressRow | None, amount_minor: int
) -> tuple[ChangeOutput, ...]:
    """The change of a built tx as it is recorded."""
    if address is None:
        return ()
    return tuple(
        ChangeOutput(vout=index, address_id=address.id, amount_minor=amount_minor)
        for index in unsigned.change_outputs
    )


def account(
    lane: Lane,
    *,
    sender: AddressRow,
    nonce: int,
    payments: Sequence[PlannedPayment],
    fee: AccountFee,
    batch_of: UUID | None,
) -> Unsigned:
    """An account's tx: one payment, or the legs of a batch under the id of its family."""
    plan: Plan
    if batch_of is not None:
        plan = BatchPlan(
            sender=sender.derived(),
            nonce=nonce,
            batch_id=batch_id(batch_of),
            payments=_pays(payments),
            gas_limit=fee.gas_limit,
            max_fee_per_gas=fee.max_fee_per_gas,
            max_priority_fee_per_gas=fee.max_priority_fee_per_gas,
        )
    else:
        (payment,) = _pays(payments)
        plan = AccountPlan(
            sender=sender.derived(),
            nonce=nonce,
            payment=payment,
            gas_limit=fee.gas_limit,
            max_fee_per_gas=fee.max_fee_per_gas,
            max_priority_fee_per_gas=fee.max_priority_fee_per_gas,
        )
    return lane.chain.writer.build(plan)


def _pays(payments: Sequence[PlannedPayment]) -> tuple[Pay, ...]:
    return tuple(
        Pay(asset=item.asset, address=item.address, amount_minor=item.amount_minor)
        for item in payments
    )
