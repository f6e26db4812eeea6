"""What people decide about a deposit that stands aside: released, or rejected (CONTRACT 4).

Public surface of `watchers`. Owns when each is possible, and what it books; who may decide, and how
many people it takes, is the caller's, whose unit of work says who acts and why.
"""

from datetime import datetime

from config.chains import Family
from config.database import Uow
from config.ids import Ids
from watchers import deposit_postings as postings
from watchers import switches
from watchers.deposit_due import locked
from watchers.deposit_postings import Booking
from watchers.deposits import (
    DEPOSITS,
    DepositRow,
    DepositState,
    DepositTrigger,
    Step,
    step_many,
    sweep_state_in,
)
from watchers.errors import DepositStays
from watchers.switches import Action

_UNDECIDED = (DepositState.ON_HOLD, DepositState.BELOW_MINIMUM, DepositState.UNSUPPORTED)


async def lock(uow: Uow, deposit: DepositRow) -> DepositRow:
    """It as it stands, under its player's lock and its own, in the order that watchers take them.

    Raises DepositStays (`not_decidable`) for one that does not wait for this.
    """
    found = [row for row in await locked(uow, [deposit]) if row.state in _UNDECIDED]
    if not found:
        raise DepositStays("not_decidable", "The deposit does not wait for a person's decision.")
    return found[0]


async def check_release(uow: Uow, deposit: DepositRow) -> None:
    """Raises DepositStays unless this locked deposit could be released now.

    Final, as far as the watcher has seen: its block stands and no threshold is left. A release is a
    credit, so that what stops credits stops it.
    """
    if deposit.state is not DepositState.ON_HOLD:
        raise DepositStays("not_on_hold", f"The deposit is {deposit.state}.")
    is_final = deposit.height is not None and deposit.final_at_height is None
    if not is_final or deposit.credited_stage != "held":
        raise DepositStays("not_final", "It can be released once its block is final.")
    if await switches.is_stopped(
        uow, network=deposit.network, asset=deposit.asset, action=Action.CREDIT
    ):
        raise DepositStays("credit_stopped", "Credits of its network or asset are stopped.")


async def release(
    uow: Uow, deposit: DepositRow, *, family: Family, ids: Ids, at: datetime
) -> DepositRow:
    """On hold -> final: held -> the brand's clearing, what the brand owes is repaid first.

    Raises DepositStays. The caller locked the deposit.
    """
    await check_release(uow, deposit)
    await postings.book_many(uow, [(deposit, Booking.RELEASED)], family=family, ids=ids, at=at)
    changes = {
        **sweep_state_in(deposit, is_final=True),
        "substatus": None,
        "credited_stage": "clearing",
    }
    step = Step(deposit=deposit, trigger=DepositTrigger.RELEASE, changes=changes)
    return (await step_many(uow, [step], ids=ids, at=at))[0]


async def reject(uow: Uow, deposit: DepositRow, *, ids: Ids, at: datetime) -> DepositRow:
    """On hold, below the minimum or unsupported -> rejected. Nothing is booked: what stands stays.

    Raises DepositStays. The caller locked the deposit.
    """
    if not DEPOSITS.allows(deposit.state, DepositTrigger.REJECT):
        raise DepositStays("not_rejectable", f"The deposit is {deposit.state}.")
    step = Step(deposit=deposit, trigger=DepositTrigger.REJECT, changes={})
    return (await step_many(uow, [step], ids=ids, at=at))[0]
