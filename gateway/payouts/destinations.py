"""Whether a destination of an account chain is a contract, where the operator wants to know (A22).

Owns the question to the nodes and the hold. What a contract does with the coins cannot be known, so
its gas is bounded by the tx's own limit (P30) in any case; `contract_destinations = "approve"` lets
a person look first. A contract that is put at the address later is not seen here.
"""

from collections.abc import Sequence
from typing import Final

from config.database import Uow
from gateway.payouts import approvals, attempts
from gateway.payouts.approvals import Action
from gateway.payouts.context import Lane
from gateway.payouts.withdrawals import Trigger
from gateway.withdrawals_store import WithdrawalRow

CODE: Final = "contract_destination"


async def contracts_among(lane: Lane, rows: Sequence[WithdrawalRow]) -> frozenset[str]:
    """The match keys of these payments that are contracts now; nothing where nobody wants to know.

    Raises NodeUnavailable: without the nodes' word nothing is planned.
    """
    settings = lane.registry.settings.networks[lane.network]
    if not lane.is_account_based or settings.contract_destinations == "pay" or not rows:
        return frozenset()
    tip = await lane.chain.reader.tip()
    keys = sorted({row.address_key for row in rows})
    return await lane.chain.reader.with_code(keys, block_hash=tip.hash)


async def is_held(lane: Lane, uow: Uow, row: WithdrawalRow, contracts: frozenset[str]) -> bool:
    """Move a queued payment to a contract on hold, unless a person has agreed to exactly it."""
    if row.address_key not in contracts or await approvals.of(uow, row.id, Action.APPROVE):
        return False
    await attempts.move(lane, uow, row, Trigger.HOLD, code=CODE)
    detail = f"{row.request_id} pays a contract: approve or decline it"
    await attempts.alarm(lane, uow, CODE, detail, object_id=row.id)
    return True
