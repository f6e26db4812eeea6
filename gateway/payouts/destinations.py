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
from gateway.payouts.context import ACTOR, Lane
from gateway.payouts.withdrawals import WITHDRAWALS
from gateway.withdrawals_store import WithdrawalRow
from ledger import lifecycle

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
    if row.address_key not in contracts or await _is_agreed(uow, row):
        return False
    await lifecycle.set_actor(uow, ACTOR, reason=CODE)
    detail = "it pays a contract: approve or decline it"
    await attempts.hold(lane, uow, row, code=CODE, detail=detail)
    await lifecycle.set_actor(uow, ACTOR)
    return True


async def _is_agreed(uow: Uow, row: WithdrawalRow) -> bool:
    """Whether somebody approved it since it was held for this. Who approved it before that, over a
    limit, was told nothing of a contract."""
    history = await lifecycle.history(uow, WITHDRAWALS.kind, row.id)
    held = [item.version for item in history if item.reason == CODE]
    return bool(held) and any(
        item.action is Action.APPROVE and item.round >= held[0]
        for item in await approvals.every(uow, row.id)
    )
