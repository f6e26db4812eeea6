"""A refill from a Safe: the typed data that its owners sign, and whether its number is still free.

Owns the plan of one transfer at one number of the Safe, from `approved` until a call of ours is
built (`safe_step`). The plan is committed before anybody can fetch it, and it is what the owners
sign: its hash covers receiver, amount and number, and no refund to anybody.
"""

from typing import Final
from uuid import UUID

from config.database import Uow
from config.logs import get_logger
from gateway.payouts import attempts, rebalances, refill_accounts, refills_store
from gateway.payouts import safe_plans_store as plans
from gateway.payouts.context import Lane
from gateway.payouts.errors import RefillNotPossible
from gateway.payouts.rebalances import State, Trigger
from gateway.payouts.rebalances_store import RebalanceRow
from gateway.payouts.refill_accounts import CONFLICT, FAILED, ColdAccount
from gateway.payouts.safe_plans_store import SafePlanRow
from watchers import registry
from watchers.addresses import AddressRow
from watchers.chain import Pay, SafePlan, SafeState

NOT_A_SAFE: Final = "not_a_safe"
OWNERS_ARE_CONTRACTS: Final = "safe_owners_are_contracts"

log = get_logger(__name__)


def typed_of(lane: Lane, row: RebalanceRow, *, safe_key: str, nonce: int) -> bytes:
    """What the owners sign about a refill: the same bytes whenever it is asked."""
    pay = Pay(asset=row.asset, address=row.address, amount_minor=row.amount_minor)
    plan = SafePlan(safe_key=safe_key, nonce=nonce, payment=pay)
    return registry.safe_unsigned(lane.spec, lane.registry.assets.values(), plan)


async def build(
    lane: Lane, uow: Uow, row: RebalanceRow, receive: AddressRow, *, account: ColdAccount
) -> bool:
    """Plan it and let people sign; False while another refill is on its way.

    Raises RefillNotPossible.
    """
    seen = account.safe
    if seen is None:
        raise RefillNotPossible(NOT_A_SAFE)
    if len(seen.signers) < seen.threshold:
        raise RefillNotPossible(OWNERS_ARE_CONTRACTS)
    if await refills_store.has_open(uow, network=lane.network):
        return False
    if not await refill_accounts.reaches(lane, uow, row, account, fee_minor=0):
        return False
    known = await plans.next_nonce(uow, network=lane.network, safe_key=receive.key)
    nonce = max(seen.nonce, known)  # what a node said may be older than a refill that is done
    plan = SafePlanRow(
        id=lane.ids.new_id(),
        rebalance_id=row.id,
        network=lane.network,
        safe_key=receive.key,
        nonce=nonce,
        typed=typed_of(lane, row, safe_key=receive.key, nonce=nonce),
        owners=seen.owners,
        threshold=seen.threshold,
    )
    await plans.insert(uow, plan, at=lane.now())
    await _move(lane, uow, row, Trigger.BUILD, {"attempt_id": plan.id})
    log.info(
        "payout.safe_planned",
        network=lane.network,
        rebalance_id=str(row.id),
        safe=plan.safe_key,
        nonce=plan.nonce,
        threshold=plan.threshold,
        safe_tx_hash=registry.safe_hash(plan.typed),
    )
    return True


async def watch(
    lane: Lane, uow: Uow, row: RebalanceRow, plan: SafePlanRow, *, seen: SafeState | None
) -> bool:
    """Before a call of ours is built: was it taken back, or did its number go elsewhere?"""
    if row.state == State.CANCELLED:
        await plans.drop(uow, plan.id, at=lane.now())
        return True
    if seen is None or seen.nonce <= plan.nonce:
        return False
    lost = f"{row.asset}: number {plan.nonce} of the Safe {plan.safe_key} was used"
    log.warning(f"payout.{CONFLICT}", rebalance_id=str(row.id), detail=lost)
    await attempts.alarm(lane, uow, CONFLICT, lost, object_id=row.id)
    await plans.drop(uow, plan.id, at=lane.now())
    if row.state == State.UNSIGNED_READY:
        await rebalances.cancel(uow, row, code=CONFLICT, ids=lane.ids, at=lane.now())
    else:
        await _move(lane, uow, row, Trigger.FAIL, {"code": CONFLICT})
    return True


async def unbuild(
    lane: Lane, uow: Uow, row: RebalanceRow, plan: SafePlanRow, *, code: str | None = None
) -> None:
    """Its call was dropped unsigned: it is built anew from the same signatures. `code`: why it
    waits."""
    changes = {"attempt_id": plan.id, "sign_requested_at": None, "code": code}
    await _move(lane, uow, row, Trigger.EXECUTE, changes)


async def fail(
    lane: Lane, uow: Uow, row: RebalanceRow, plan: SafePlanRow, *, code: str, detail: str
) -> None:
    """The signer will not call the Safe for it. Whoever has the signatures still can, until the
    number is used: a new refill takes the same number."""
    log.warning(f"payout.{FAILED}", rebalance_id=str(row.id), detail=detail)
    await attempts.alarm(lane, uow, FAILED, f"{row.asset}: {detail}", object_id=row.id)
    await plans.drop(uow, plan.id, at=lane.now())
    await _move(lane, uow, row, Trigger.FAIL, {"code": code})


async def _move(
    lane: Lane,
    uow: Uow,
    row: RebalanceRow,
    trigger: Trigger,
    changes: dict[str, str | UUID | None],
) -> None:
    await rebalances.move(uow, row, trigger, dict(changes), ids=lane.ids, at=lane.now())
