"""`/v1/rates`: what the exposure caps value deposits by.

One person may follow the market; a jump, and the first rate of an asset, take the same call by a
second person. A mistake is corrected by the next rate: nothing is changed or deleted.
"""

from datetime import datetime

from gateway.api import two_people
from gateway.api.approvals_store import ApprovalRow
from gateway.api.endpoint import NOT_CLIENTS, Answer, Call, Idempotency, endpoint
from gateway.api.two_people import Proposal, person_of
from gateway.api.wire_base import rfc3339
from gateway.api.wire_policies import RateAnswer, RateIn, RateOut
from gateway.api.wire_query import FilterQuery, Page, limit_of, moment_of
from gateway.auth import PrincipalKind
from gateway.errors import Conflict, Invalid, invalid_field
from watchers import rates
from watchers.errors import RateRefused, RateTooFar
from watchers.rates import Rate

KIND = "rate"
ROLES = frozenset({"treasury", "risk"})
WRITE = frozenset({"treasury:write", "policies:write"})
READ = WRITE | {"treasury:read", "deposits:read"}


@endpoint(
    "GET",
    "/v1/rates",
    "The newest rate of each asset; with ?asset= the history of one, newest first.",
    answers=Page[RateOut],
    query=FilterQuery,
    scopes=READ,
    kinds=NOT_CLIENTS,
)
async def list_rates(call: Call) -> Page[RateOut]:
    """A history's cursor is the `as_of` of its last rate."""
    query: FilterQuery = call.query
    registry = call.services.registry
    reference = registry.policy.reference
    if query.asset is None:
        newest = await rates.newest(call.uow, assets=sorted(registry.assets), reference=reference)
        items = [_wire(call, newest[name]) for name in sorted(newest)]
        return Page[RateOut](items=items, next_cursor=None)
    limit = limit_of(query.limit)
    found = await rates.history(
        call.uow,
        asset=query.asset,
        reference=reference,
        before=moment_of(query.cursor, field="cursor"),
        limit=limit,
    )
    cursor = found[-1].as_of.isoformat() if len(found) >= limit else None
    return Page[RateOut](items=[_wire(call, rate) for rate in found], next_cursor=cursor)


@endpoint(
    "PUT",
    "/v1/rates",
    "Enter a rate; one that is far off takes the same call by a second person.",
    answers=RateAnswer,
    body=RateIn,
    scopes=WRITE,
    kinds=frozenset({PrincipalKind.STAFF}),
    roles=ROLES,
    idempotency=Idempotency.OPTIONAL,
)
async def put_rate(call: Call) -> Answer:
    """200 in force; 202 while it waits for the second person."""
    check_principal(call)
    body: RateIn = call.body
    if body.asset not in call.services.registry.assets:
        raise invalid_field("asset", "unknown_asset", "No such asset is configured.")
    as_of = moment_of(body.as_of, field="as_of")
    try:
        rate = await _record(call, body.asset, body.rate, as_of=as_of)
    except RateTooFar as error:
        return await _propose(call, body, detail=str(error))
    except RateRefused as error:
        raise Invalid(error.code, f"{error}.") from error
    return Answer(body=RateAnswer(rate=_wire(call, rate), approval=None))


async def approve(call: Call, row: ApprovalRow) -> ApprovalRow:
    """The second person's consent by `POST /v1/approvals/{id}`, checked before."""
    decision = await two_people.agree(call, row)
    await _enter(call, decision)
    return decision


def check_principal(call: Call) -> None:
    """Rates are the operator's, for all brands."""
    two_people.check_operator(call, roles=ROLES, scopes=WRITE)


async def _propose(call: Call, body: RateIn, *, detail: str) -> Answer:
    decision = await two_people.propose_or_agree(
        call,
        Proposal(
            kind=KIND,
            subject=body.asset,
            subject_version=0,
            content={"rate": body.rate, "as_of": body.as_of},
            reason=detail[:500],
        ),
    )
    if decision.state == "done":
        rate = await _enter(call, decision)
        return Answer(
            body=RateAnswer(rate=_wire(call, rate), approval=two_people.wire(call, decision))
        )
    newest = await rates.newest(
        call.uow, assets=[body.asset], reference=call.services.registry.policy.reference
    )
    standing = newest.get(body.asset)
    return Answer(
        body=RateAnswer(
            rate=None if standing is None else _wire(call, standing),
            approval=two_people.wire(call, decision),
        ),
        status=202,
    )


async def _enter(call: Call, decision: ApprovalRow) -> Rate:
    """What both agreed to; without a moment of its own it is as of the second person's call."""
    text = decision.content["as_of"]
    as_of = None if text is None else moment_of(str(text), field="as_of")
    try:
        return await _record(
            call,
            decision.subject,
            str(decision.content["rate"]),
            as_of=as_of,
            proposed_by=decision.proposed_person,
        )
    except RateRefused as error:
        raise Conflict(error.code, f"{error}.") from error


async def _record(
    call: Call,
    asset: str,
    text: str,
    *,
    as_of: datetime | None,
    proposed_by: str | None = None,
) -> Rate:
    person = person_of(call)
    return await rates.record(
        call.uow,
        rate_id=call.services.ids.new_id(),
        asset=asset,
        rate=rates.parse_rate(text),
        source=rates.STAFF,
        as_of=as_of or call.at,
        entered_by=proposed_by or person,
        approved_by=None if proposed_by is None else person,
        reference=call.services.registry.policy.reference,
        at=call.at,
    )


def _wire(call: Call, rate: Rate) -> RateOut:
    return RateOut(
        asset=rate.asset,
        currency=rate.currency,
        rate=rates.format_rate(rate.rate),
        source=rate.source,
        as_of=rfc3339(rate.as_of),
        entered_by=rate.entered_by,
        approved_by=rate.approved_by,
        is_fresh=rate.is_fresh(at=call.at, reference=call.services.registry.policy.reference),
    )
