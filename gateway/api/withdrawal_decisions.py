"""What staff decide about a withdrawal: approve, decline, expedite, reissue, abort (CONTRACT 3, 5).

Every call is a person's signature; where the signer will ask for it, its body names the payment and
is kept as received. What may be on the chain already takes two people and is carried out by
payouts: the answer then says `waits_for: payouts`.
"""

from collections.abc import Awaitable, Callable
from typing import Literal, TypeAlias

from gateway import withdrawals_store
from gateway.api import two_people, wire_objects
from gateway.api.endpoint import Answer, Call, Idempotency, endpoint
from gateway.api.wire_base import rfc3339
from gateway.api.wire_staff import (
    AbortIn,
    ApproveIn,
    DeclineIn,
    ExpediteIn,
    ReissueIn,
    SignedBy,
    WithdrawalDecided,
    WithdrawalDecisions,
)
from gateway.auth import PrincipalKind
from gateway.errors import Conflict, NotFound, TooLate, invalid_field
from gateway.payouts import approvals, decisions, limits, refund_deposits
from gateway.payouts.approvals import Action
from gateway.payouts.decisions import Desk
from gateway.payouts.errors import DecisionRefused, MaybeSigned
from gateway.payouts.withdrawals import withdrawal_snapshot
from gateway.withdrawals_store import WithdrawalRow
from ledger import lifecycle
from ledger.money import format_amount

APPROVE = frozenset({"withdrawals:approve"})
STAFF = frozenset({PrincipalKind.STAFF})
ROLES = frozenset({"finance", "risk", "compliance", "treasury", "admin"})
DEAD_WORDS = ("brand", "request_id", "dead_txids")

WaitsFor: TypeAlias = Literal["person", "payouts"] | None
Work: TypeAlias = Callable[[WithdrawalRow, Desk], Awaitable[tuple[WithdrawalRow, WaitsFor]]]


@endpoint(
    "GET",
    "/v1/withdrawals/{id}/decisions",
    "What people signed about a withdrawal, and what is still asked for.",
    answers=WithdrawalDecisions,
    scopes=APPROVE | {"withdrawals:read"},
    kinds=frozenset({PrincipalKind.STAFF, PrincipalKind.OPERATOR}),
)
async def get_decisions(call: Call) -> WithdrawalDecisions:
    """For the staff of the brand: names of people are nobody else's business."""
    row = await withdrawals_store.get(call.uow, call.object_id("withdrawal"))
    if row is None:
        raise NotFound
    judged = await limits.judged(call.uow, row.id)
    missing, _ = await approvals.missing(call.uow, row)
    reference = call.services.registry.policy.reference
    value = None if judged is None else judged.value_minor
    return WithdrawalDecisions(
        id=call.services.wire.id("withdrawal", row.id),
        state=row.state,
        code=row.code,
        limits_version=None if judged is None else judged.policy_version,
        limit=None if judged is None else judged.code,
        value=None if value is None else format_amount(value, decimals=reference.decimals),
        approvals_missing=missing,
        dead_txids=sorted(await decisions.signed_txids(call.uow, row.id)),
        signatures=[
            SignedBy(
                action=item.action.value,
                person=item.person,
                round=item.round,
                is_current=item.round == row.version,
                at=rfc3339(item.at),
            )
            for item in await approvals.every(call.uow, row.id)
        ],
    )


@endpoint(
    "POST",
    "/v1/withdrawals/{id}/approve",
    "Agree to a withdrawal over a limit, or let one go from a hold.",
    answers=WithdrawalDecided,
    body=ApproveIn,
    scopes=APPROVE,
    kinds=STAFF,
    roles=ROLES,
    idempotency=Idempotency.OPTIONAL,
)
async def approve_withdrawal(call: Call) -> Answer:
    """202 while another person must agree, 200 with the last one (A31)."""

    async def work(row: WithdrawalRow, desk: Desk) -> tuple[WithdrawalRow, WaitsFor]:
        amount = format_amount(row.amount_minor, decimals=_decimals(call, row))
        names = ("brand", "request_id", "asset", "address")
        _must_equal(call.body, {name: getattr(row, name) for name in names} | {"amount": amount})
        found = await decisions.approve(call.uow, row, desk)
        return found, "person" if found.version == row.version else None

    return await _decided(call, Action.APPROVE, work)


@endpoint(
    "POST",
    "/v1/withdrawals/{id}/decline",
    "End a withdrawal that nothing was signed for; with decline_dead, one whose txs are all dead.",
    answers=WithdrawalDecided,
    body=DeclineIn,
    scopes=APPROVE,
    kinds=STAFF,
    roles=ROLES,
    idempotency=Idempotency.OPTIONAL,
)
async def decline_withdrawal(call: Call) -> Answer:
    """One person and a reason, at once; or two people about every dead txid, then payouts."""
    body: DeclineIn = call.body
    is_dead = body.action is not None
    given = [getattr(body, name) is not None for name in DEAD_WORDS]
    if is_dead != all(given) or is_dead != any(given) or is_dead == (body.reason is not None):
        raise invalid_field(
            "action", "invalid", "Either a reason alone, or decline_dead with all its fields."
        )

    async def work(row: WithdrawalRow, desk: Desk) -> tuple[WithdrawalRow, WaitsFor]:
        if body.reason is None:
            return await _about_dead(call, row, desk, Action.DECLINE_DEAD)
        await lifecycle.set_actor(call.uow, desk.staff.person, reason=body.reason)
        return await decisions.decline(call.uow, row, desk), None

    return await _decided(call, Action.DECLINE_DEAD if is_dead else Action.DECLINE, work)


@endpoint(
    "POST",
    "/v1/withdrawals/{id}/expedite",
    "Put a withdrawal on the urgent class.",
    answers=WithdrawalDecided,
    body=ExpediteIn,
    scopes=APPROVE,
    kinds=STAFF,
    roles=ROLES,
    idempotency=Idempotency.OPTIONAL,
)
async def expedite_withdrawal(call: Call) -> Answer:
    """One person; who it was, and why, is kept with the withdrawal."""

    async def work(row: WithdrawalRow, desk: Desk) -> tuple[WithdrawalRow, WaitsFor]:
        return await decisions.expedite(call.uow, row, desk), None

    return await _decided(call, Action.EXPEDITE, work)


@endpoint(
    "POST",
    "/v1/withdrawals/{id}/reissue",
    "Every transaction of it is dead: pay it anew. Takes two people.",
    answers=WithdrawalDecided,
    body=ReissueIn,
    scopes=APPROVE,
    kinds=STAFF,
    roles=ROLES,
    idempotency=Idempotency.OPTIONAL,
)
async def reissue_withdrawal(call: Call) -> Answer:
    """202: another person must sign the same, or payouts carry it out."""

    async def work(row: WithdrawalRow, desk: Desk) -> tuple[WithdrawalRow, WaitsFor]:
        return await _about_dead(call, row, desk, Action.REISSUE)

    return await _decided(call, Action.REISSUE, work)


@endpoint(
    "POST",
    "/v1/withdrawals/{id}/abort",
    "Replace its transaction by one that pays nobody. Takes two people.",
    answers=WithdrawalDecided,
    body=AbortIn,
    scopes=APPROVE,
    kinds=STAFF,
    roles=ROLES,
    idempotency=Idempotency.OPTIONAL,
)
async def abort_withdrawal(call: Call) -> Answer:
    """202: another person must sign the same, or payouts try; it may still be paid instead."""
    body: AbortIn = call.body

    async def work(row: WithdrawalRow, desk: Desk) -> tuple[WithdrawalRow, WaitsFor]:
        _must_equal(body, {"brand": row.brand, "request_id": row.request_id})
        if not call.services.registry.chains[row.network].can_replace:
            raise Conflict("no_replacement", f"{row.network} does not replace transactions.")
        is_enough = await decisions.sign_abort(call.uow, row, body.txid, desk)
        return row, "payouts" if is_enough else "person"

    return await _decided(call, Action.ABORT, work)


async def _about_dead(
    call: Call, row: WithdrawalRow, desk: Desk, action: Action
) -> tuple[WithdrawalRow, WaitsFor]:
    body: ReissueIn | DeclineIn = call.body
    _must_equal(body, {"brand": row.brand, "request_id": row.request_id})
    is_enough = await decisions.sign_about_dead(call.uow, row, action, body.dead_txids or (), desk)
    return row, "payouts" if is_enough else "person"


async def _decided(call: Call, action: Action, work: Work) -> Answer:
    """Under the row's lock: exactly one of everything that wants to move it wins (A33)."""
    found = await withdrawals_store.get(call.uow, call.object_id("withdrawal"))
    if found is None:
        raise NotFound
    await refund_deposits.lock(call.uow, [found])
    row = await withdrawals_store.get(call.uow, found.id, lock=True) or found
    desk = Desk(
        staff=two_people.staff_of(call),
        policy=call.services.registry.policy,
        ids=call.services.ids,
        at=call.at,
    )
    try:
        after, waits_for = await work(row, desk)
    except MaybeSigned as error:
        raise Conflict(
            "maybe_signed", "The signer was asked for it: it may be paid already."
        ) from error
    except TooLate as error:
        raise Conflict("too_late", f"It is {error}.") from error
    except DecisionRefused as error:
        raise two_people.refusal(error) from error
    people = [
        item.person
        for item in await approvals.every(call.uow, row.id)
        if item.action is action and item.round == row.version
    ]
    body = WithdrawalDecided(
        withdrawal=wire_objects.withdrawal(withdrawal_snapshot(after), context=call.services.wire),
        signed_by=people,
        waits_for=waits_for,
    )
    return Answer(body=body, status=200 if waits_for is None else 202)


def _must_equal(body: object, wanted: dict[str, str]) -> None:
    """What a person signs names this very withdrawal. Raises Invalid for the first difference."""
    for name, value in wanted.items():
        if getattr(body, name) != value:
            raise invalid_field(name, "mismatch", f"This withdrawal's {name} is another.")


def _decimals(call: Call, row: WithdrawalRow) -> int:
    return call.services.registry.assets[row.asset].decimals
