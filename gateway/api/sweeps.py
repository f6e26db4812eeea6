"""`/v1/sweeps`: what lies at deposit addresses of account chains, and where it stands on its way.

A person may ask for what waits; what is done about it is payouts' and its policy's.
"""

from gateway.api import two_people, wire_sweeps
from gateway.api.endpoint import Call, Idempotency, endpoint
from gateway.api.wire_query import Page, decode_cursor, limit_of, next_cursor
from gateway.api.wire_sweeps import Sweep, SweepAsked, SweepIn, SweepQuery, SweepTotal
from gateway.auth import PrincipalKind
from gateway.errors import NotFound, invalid_field
from gateway.payouts import sweeps, sweeps_store

KIND = "sweep"
ROLES = frozenset({"treasury", "admin"})
READ = frozenset({"treasury:read", "treasury:write", "admin"})
WRITE = frozenset({"treasury:write", "admin"})


@endpoint(
    "GET",
    "/v1/sweeps",
    "Sweeps, newest first.",
    answers=Page[Sweep],
    query=SweepQuery,
    scopes=READ,
)
async def list_sweeps(call: Call) -> Page[Sweep]:
    """A page; a brand's key sees those of its own deposits."""
    query: SweepQuery = call.query
    limit = limit_of(query.limit)
    rows = await sweeps_store.find(
        call.uow,
        network=query.network,
        asset=query.asset,
        state=query.state,
        before=decode_cursor(query.cursor),
        limit=limit,
    )
    wire = call.services.wire
    return Page[Sweep](
        items=[wire_sweeps.sweep(sweeps.snapshot(row), context=wire) for row in rows],
        next_cursor=next_cursor([row.id for row in rows], limit=limit),
    )


@endpoint("GET", "/v1/sweeps/{id}", "One sweep.", answers=Sweep, scopes=READ)
async def get_sweep(call: Call) -> Sweep:
    """By id."""
    row = await sweeps_store.get(call.uow, call.object_id(KIND))
    if row is None:
        raise NotFound
    return wire_sweeps.sweep(sweeps.snapshot(row), context=call.services.wire)


@endpoint(
    "POST",
    "/v1/sweeps",
    "Sweep now what waits, whatever its threshold or age.",
    answers=SweepAsked,
    body=SweepIn,
    scopes=WRITE,
    kinds=frozenset({PrincipalKind.STAFF}),
    roles=ROLES,
    idempotency=Idempotency.OPTIONAL,
)
async def ask_for_sweeps(call: Call) -> SweepAsked:
    """It is asked for, not done: payouts looks at each within a moment."""
    two_people.check_operator(call, roles=ROLES, scopes=WRITE)
    body: SweepIn = call.body
    registry, wire = call.services.registry, call.services.wire
    if body.asset is not None and body.asset not in registry.assets:
        raise invalid_field("asset", "unknown_asset", "There is no such asset.")
    if body.network is not None and body.network not in registry.chains:
        raise invalid_field("network", "unknown_network", "There is no such network.")
    found = await sweeps_store.waiting(call.uow, network=body.network, asset=body.asset)
    if not body.dry_run:
        await sweeps_store.ask(
            call.uow,
            network=body.network,
            asset=body.asset,
            person=call.principal.person or call.principal.key_id,
            at=call.at,
        )
    return SweepAsked(
        dry_run=body.dry_run,
        sweeps=sum(row["count"] for row in found),
        waiting=[
            SweepTotal(
                asset=row["asset"],
                state=row["state"],
                sweeps=row["count"],
                amount=wire.amount(int(row["amount"]), row["asset"]),
                amount_minor=str(int(row["amount"])),
            )
            for row in found
        ],
    )
