"""`POST /v1/withdrawal_batches`: up to 500 orders under one signature (CONTRACT 3).

The items are independent: each has its own result, and what is wrong with one never stops another.
Plain ones are accepted together, in their order (`api.order_groups`), every other one in its own
unit of work. The call's own unit of work stays open around them with its key and nonce, so that a
second call with the key waits or is told 409, and a crash leaves neither: the retry finds what
stands by its request_id and goes on.
"""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from http import HTTPStatus
from uuid import UUID

from sqlalchemy.exc import DBAPIError

from config.database import Uow, is_lock_timeout
from gateway import withdrawals_store
from gateway.api import order_groups, orders, withdrawals
from gateway.api.endpoint import Answer, Call, Idempotency, Services, endpoint
from gateway.api.order_groups import Accepted
from gateway.api.wire_base import FieldProblem
from gateway.api.wire_objects import ItemProblem, Withdrawal, WithdrawalBatch
from gateway.api.wire_resources import WithdrawalBatchIn, WithdrawalIn
from gateway.auth import PrincipalKind
from gateway.errors import FieldError, Invalid, Refusal, Unavailable
from ledger import lifecycle
from watchers import addresses
from watchers.chain import Destination

BODY_BYTES_MAX = 512 * 1024  # CONTRACT 3

Target = Destination | Refusal
Result = Withdrawal | ItemProblem


async def _destinations(services: Services, body: WithdrawalBatchIn) -> Sequence[Target]:
    """Each item's destination or what is wrong with it; one look for all (A20)."""
    found: list[Target] = []
    keys: dict[str, list[str]] = {}
    for item in body.items:
        try:
            target = orders.parse_destination(services, item)
        except Refusal as refusal:
            found.append(refusal)
            continue
        found.append(target)
        keys.setdefault(orders.asset_of(services, item.asset).network, []).append(target.key)
    own = set()
    async with services.database.unit_of_work() as uow:
        for network, texts in keys.items():
            known = await addresses.by_keys(uow, network=network, keys=texts)
            own |= {(network, key) for key, row in known.items() if orders.is_of_the_house(row)}
    return [
        orders.own_address()
        if isinstance(target, Destination) and (item.asset.partition(":")[0], target.key) in own
        else target
        for item, target in zip(body.items, found, strict=True)
    ]


@endpoint(
    "POST",
    "/v1/withdrawal_batches",
    "Order up to 500 payouts at once; each stands alone. The signed body is what the signer pays.",
    answers=WithdrawalBatch,
    status=202,
    body=WithdrawalBatchIn,
    scopes=withdrawals.WRITE,
    kinds=frozenset({PrincipalKind.CLIENT}),
    idempotency=Idempotency.REQUIRED,
    prepare=_destinations,
    body_bytes_max=BODY_BYTES_MAX,
    is_order=True,
    is_routine=True,
)
async def create_batch(call: Call) -> Answer:
    """Results in the order of the items: the withdrawal, or the problem of one that made none."""
    body: WithdrawalBatchIn = call.body
    _refuse_twice(body)
    services, batch_id = call.services, call.services.ids.new_id()

    async def keep(uow: Uow) -> None:
        await withdrawals_store.insert_batch(
            uow, batch_id=batch_id, brand=call.brand, body=call.caller.signed.body, at=call.at
        )

    results: list[Result] = []
    with services.batches.one():
        await services.database.run(keep, brand=call.brand)
        while len(results) < len(body.items):
            results += await _next(call, len(results), batch_id)
    return Answer(body=WithdrawalBatch(items=results))


async def _next(call: Call, first: int, batch_id: UUID) -> list[Result]:
    """Results of some items from `first` on, up to one whose player somebody holds."""
    await _touch(call)
    calls = [
        replace(call, body=item, raw_body=call.raw_body["items"][number], prepared=target)
        for number, (item, target) in enumerate(zip(call.body.items, call.prepared, strict=True))
    ][first : first + order_groups.GROUP_MAX]
    tickets = [one.ticket(key=None) for one in calls if isinstance(one.prepared, Destination)]
    answers: Iterator[Accepted | None] = iter(())
    if tickets:
        answers = iter(await order_groups.run_group(tickets, is_ordered=True, batch_id=batch_id))
    results: list[Result] = []
    for one in calls:
        if isinstance(one.prepared, Refusal):
            results.append(_problem(one.body.request_id, one.prepared))
            continue
        try:
            accepted = next(answers)
        except StopIteration:  # those wait for the one before them
            break
        if accepted is None:
            await _touch(call)
            results.append(await _one(one, one.prepared, batch_id))
        else:
            results.append(accepted.withdrawal)
    return results


async def _touch(call: Call) -> None:
    """The call's own unit of work must not look frozen while others do the work."""
    await lifecycle.set_actor(call.uow, call.principal.key_id)


async def _one(call: Call, target: Destination, batch_id: UUID) -> Result:
    """One item in its own unit of work."""
    item: WithdrawalIn = call.body

    async def work(uow: Uow) -> Withdrawal:
        inner = replace(call, uow=uow, at=call.services.clock.now())
        await lifecycle.set_actor(uow, call.principal.key_id)
        order = await orders.read_order(inner, item, target, batch_id=batch_id)
        answer = await withdrawals.place(inner, order)
        if not isinstance(answer.body, Withdrawal):
            raise TypeError("an order's answer is a withdrawal")
        return answer.body

    try:
        return await call.services.database.run(work, brand=call.brand)
    except Refusal as refusal:
        return _problem(item.request_id, refusal)
    except DBAPIError as error:
        if not is_lock_timeout(error):
            raise
        return _problem(item.request_id, Unavailable("busy", "Another call holds this player."))


def _refuse_twice(body: WithdrawalBatchIn) -> None:
    """The signer refuses such a body whole: which of the two was meant?"""
    seen: set[str] = set()
    for number, item in enumerate(body.items):
        if item.request_id in seen:
            error = FieldError(
                field=f"items[{number}].request_id",
                code="duplicate",
                detail="This request_id stands twice in the batch.",
            )
            raise Invalid("duplicate_request_id", "Nothing was stored.", errors=[error])
        seen.add(item.request_id)


def _problem(request_id: str, refusal: Refusal) -> ItemProblem:
    return ItemProblem(
        request_id=request_id,
        type=f"urn:cage:problem:{refusal.code}",
        title=HTTPStatus(refusal.status).phrase,
        status=refusal.status,
        code=refusal.code,
        detail=refusal.detail,
        retryable=refusal.is_retryable,
        errors=[
            FieldProblem(field=item.field, code=item.code, detail=item.detail)
            for item in refusal.errors
        ],
    )
