"""`/v1/consolidations`: own coins merged or split on a person's word, and by policy (T8).

A request is answered by payouts within a moment: ask for it until it is no longer `asked`. What is
planned goes the road of every own move; caps and counters are the signer's.
"""

from config.chains import Family
from gateway.api import two_people, wire_consolidations
from gateway.api.endpoint import NOT_CLIENTS, Answer, Call, Idempotency, endpoint
from gateway.api.switches import check_operator
from gateway.api.wire_consolidations import (
    KIND,
    Consolidation,
    ConsolidationIn,
    ConsolidationQuery,
)
from gateway.api.wire_query import Page, decode_cursor, limit_of, next_cursor
from gateway.auth import PrincipalKind
from gateway.errors import Conflict, NotFound, invalid_field
from gateway.payouts import consolidations
from gateway.payouts import consolidations_store as store
from gateway.payouts.errors import DecisionRefused
from ledger.errors import AmountError
from ledger.money import parse_amount
from signer.protocol import Purpose

ROLES = frozenset({"treasury", "admin"})
READ = frozenset({"treasury:read", "treasury:write", "admin"})
WRITE = frozenset({"treasury:write", "admin"})


@endpoint(
    "GET",
    "/v1/consolidations",
    "Merges and splits of own coins, newest first.",
    answers=Page[Consolidation],
    query=ConsolidationQuery,
    scopes=READ,
    kinds=NOT_CLIENTS,
)
async def list_consolidations(call: Call) -> Page[Consolidation]:
    """A page: what people asked for, and what policy made."""
    check_operator(call)
    query: ConsolidationQuery = call.query
    limit = limit_of(query.limit)
    rows = await store.find(
        call.uow,
        network=query.network,
        state=query.state,
        before=decode_cursor(query.cursor),
        limit=limit,
    )
    context = call.services.wire
    return Page[Consolidation](
        items=[wire_consolidations.consolidation(row, context=context) for row in rows],
        next_cursor=next_cursor([row.id for row in rows], limit=limit),
    )


@endpoint(
    "GET",
    "/v1/consolidations/{id}",
    "One merge or split.",
    answers=Consolidation,
    scopes=READ,
    kinds=NOT_CLIENTS,
)
async def get_consolidation(call: Call) -> Consolidation:
    """By id."""
    check_operator(call)
    row = await store.get(call.uow, call.object_id(KIND))
    if row is None:
        raise NotFound
    return wire_consolidations.consolidation(row, context=call.services.wire)


@endpoint(
    "POST",
    "/v1/consolidations",
    "Merge small coins, or split the largest, now; without `fee_max` only say what it comes to.",
    answers=Consolidation,
    status=202,
    body=ConsolidationIn,
    scopes=WRITE,
    kinds=frozenset({PrincipalKind.STAFF}),
    roles=ROLES,
    idempotency=Idempotency.REQUIRED,
)
async def ask_for_consolidation(call: Call) -> Answer:
    """It is asked for, not done: payouts answers it in its next pass, or not at all."""
    two_people.check_operator(call, roles=ROLES, scopes=WRITE)
    body: ConsolidationIn = call.body
    spec = call.services.registry.chains.get(body.network)
    if spec is None:
        raise invalid_field("network", "unknown_network", "This network is not configured.")
    if spec.family is not Family.BITCOIN:
        raise Conflict(
            "no_coins",
            f"{spec.network} has accounts and no coins: there is nothing to consolidate. What lies"
            " at deposit addresses is swept: POST /v1/sweeps, `cage treasury sweep`.",
        )
    try:
        row = await consolidations.ask(
            call.uow,
            network=spec.network,
            asset=spec.native_asset,
            purpose=Purpose(body.purpose),
            fee_max_minor=_fee_max(call, spec.native_asset),
            person=two_people.person_of(call),
            ids=call.services.ids,
            at=call.at,
        )
    except DecisionRefused as error:
        raise two_people.refusal(error) from error
    return Answer(body=wire_consolidations.consolidation(row, context=call.services.wire))


def _fee_max(call: Call, asset: str) -> int | None:
    body: ConsolidationIn = call.body
    if body.fee_max is None:
        return None
    try:
        return parse_amount(body.fee_max, decimals=call.services.registry.assets[asset].decimals)
    except AmountError as error:
        raise invalid_field("fee_max", "invalid", str(error)) from error
