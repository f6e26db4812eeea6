"""What people signed about a withdrawal, and whether that is enough (CONTRACT 5, A31, S15).

Owns the rules that each such signature meets: a person and not a machine, another than who ordered
it, each person once, one action per round. A round is a version of the withdrawal: what changes
meanwhile is signed anew. The raw requests are kept, because the signer believes only them. It
moves no state.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Final
from uuid import UUID

from config.database import Uow
from config.ids import Ids
from gateway.payouts import approvals_store as store
from gateway.payouts import limits
from gateway.payouts.errors import DecisionRefused
from gateway.payouts.signed_requests_store import Signed
from gateway.withdrawals_store import WithdrawalRow
from signer.protocol import Authorisation

TWO_PEOPLE: Final = 2


class Action(StrEnum):
    """What a person signs about a withdrawal."""

    APPROVE = "approve"
    """It may be paid: over a limit, or let go from a hold."""
    DECLINE = "decline"
    """It is not paid; nothing was signed for it."""
    EXPEDITE = "expedite"
    """It is urgent."""
    REISSUE = "reissue"
    """Two: every txid of it is dead, pay it anew."""
    DECLINE_DEAD = "decline_dead"
    """Two: every txid of it is dead, give the money back."""
    ABORT = "abort"
    """Two: replace its transaction by one that pays nobody."""


BY_TWO: Final = frozenset({Action.REISSUE, Action.DECLINE_DEAD, Action.ABORT})
"""Actions about what may be on the chain: always two people, and one such action per round."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Staff:
    """A person at the API, with the request that they signed."""

    key_id: str
    person: str
    signed: Authorisation


@dataclass(frozen=True, slots=True, kw_only=True)
class Approval:
    """One signature. `round` is the version of the withdrawal that it is about, `txids` the
    transactions that it names."""

    withdrawal_id: UUID
    action: Action
    round: int
    txids: tuple[str, ...]
    key_id: str
    person: str
    at: datetime
    is_valid: bool
    signed: Authorisation


async def every(uow: Uow, *ids: UUID) -> list[Approval]:
    """All signatures about some withdrawals, oldest first."""
    if not ids:
        return []
    return [
        Approval(
            withdrawal_id=row["withdrawal_id"],
            action=Action(row["action"]),
            round=row["round"],
            txids=tuple(row["txids"]),
            key_id=row["key_id"],
            person=row["person"],
            at=row["at"],
            is_valid=row["is_valid"],
            signed=store.authorisation(row),
        )
        for row in await store.every(uow, ids)
    ]


async def of(uow: Uow, withdrawal_id: UUID, action: str) -> list[Authorisation]:
    """The signed requests about one withdrawal that travel to the signer, one per person.

    An approval is about bytes that never change, so each person's last one counts from any round;
    everything else only as its last round has it.
    """
    return _travelling(await every(uow, withdrawal_id), action)


async def for_payment(uow: Uow, ids: Sequence[UUID]) -> dict[UUID, tuple[Authorisation, ...]]:
    """What people signed so that these withdrawals may be paid: approvals and reissues."""
    found = await every(uow, *ids)
    return {
        item: tuple(
            signed
            for action in (Action.APPROVE, Action.REISSUE)
            for signed in _travelling([a for a in found if a.withdrawal_id == item], action)
        )
        for item in ids
    }


def _travelling(found: Sequence[Approval], action: str) -> list[Authorisation]:
    found = [item for item in found if item.action == action]
    if action != Action.APPROVE:
        last = max((item.round for item in found), default=0)
        found = [item for item in found if item.round == last]
    return [item.signed for item in {item.person: item for item in found}.values()]


async def sign(
    uow: Uow,
    row: WithdrawalRow,
    action: Action,
    staff: Staff,
    *,
    txids: Sequence[str] = (),
    ids: Ids,
    at: datetime,
) -> list[str]:
    """Keep a signature about a locked row; the people who have signed this in this round.

    The same key again changes nothing. Raises DecisionRefused: `same_person`, `other_action`.
    """
    if await store.is_initiators(uow, withdrawal_id=row.id, key_id=staff.key_id):
        raise DecisionRefused("same_person", "Another person than who ordered it must sign.")
    known = [item for item in await every(uow, row.id) if item.round == row.version]
    if action in BY_TWO:
        _refuse_other(action, known)
    mine = [item for item in known if item.action is action and item.person == staff.person]
    if any(item.key_id != staff.key_id for item in mine):
        raise DecisionRefused("same_person", "This person has signed with another key.")
    if not mine:
        await store.insert(
            uow,
            approval_id=ids.new_id(),
            withdrawal_id=row.id,
            brand=row.brand,
            action=action.value,
            round_=row.version,
            key_id=staff.key_id,
            person=staff.person,
            txids=txids,
            signed=staff.signed,
            at=at,
        )
    people = [item.person for item in known if item.action is action and item.is_valid]
    return list(dict.fromkeys([*people, staff.person]))


async def missing(uow: Uow, row: WithdrawalRow) -> tuple[int, str | None]:
    """How many people must still approve because of the limits, and the limit that asks."""
    judged = await limits.judged(uow, row.id)
    if judged is None or judged.approvals == 0:
        return 0, None
    found = await every(uow, row.id)
    agreed = {item.person for item in found if item.action is Action.APPROVE and item.is_valid}
    return max(judged.approvals - len(agreed), 0), judged.code


def _refuse_other(action: Action, known: Sequence[Approval]) -> None:
    for other in BY_TWO - {action}:
        people = {item.person for item in known if item.action is other and item.is_valid}
        if len(people) >= TWO_PEOPLE:
            raise DecisionRefused("other_action", f"Two people have signed {other} for it.")


def is_further(
    signed: Sequence[Signed], staff: Staff, *, state: str, is_open: bool, expired: str | None
) -> bool:
    """Whether a person's request about a proposal counts beside those that stand; False for the
    same again, which changes nothing. `expired`: what to do instead where its time is over.

    Raises DecisionRefused.
    """
    mine = [item for item in signed if item.person == staff.person]
    if any(item.key_id == staff.key_id for item in mine):
        return False
    if mine:
        raise DecisionRefused("same_person", "This person has signed with another key.")
    if not is_open:
        raise DecisionRefused("decided", f"It is {state}.")
    if expired is not None:
        raise DecisionRefused("proposal_expired", expired)
    if not all(item.is_valid for item in signed):
        raise DecisionRefused("proposer_left", "The key of the first person counts no more.")
    return True
