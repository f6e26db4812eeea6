"""`GET /v1/deposits`, one, its timeline and its proof."""

from gateway.api import deposit_proofs, wire_objects
from gateway.api.endpoint import Call, endpoint
from gateway.api.timeline import timeline
from gateway.api.wire_deposit_proof import DepositProof
from gateway.api.wire_objects import Deposit, DepositDetail, DepositEtaOut, EtaOut
from gateway.api.wire_query import (
    FilterQuery,
    Page,
    decode_cursor,
    limit_of,
    moment_of,
    next_cursor,
)
from gateway.api.wire_resources import Timeline
from gateway.errors import NotFound, invalid_field
from watchers import deposit_commands, eta
from watchers.deposit_commands import DepositFilters, DepositRow, DepositState

READ = frozenset({"deposits:read"})


@endpoint(
    "GET",
    "/v1/deposits",
    "Deposits, newest first.",
    answers=Page[Deposit],
    query=FilterQuery,
    scopes=READ,
)
async def list_deposits(call: Call) -> Page[Deposit]:
    """A page."""
    query: FilterQuery = call.query
    limit = limit_of(query.limit)
    rows = await deposit_commands.find(
        call.uow,
        brand=call.one_brand,
        filters=DepositFilters(
            state=_state(query.state),
            player_id=query.player_id,
            asset=query.asset,
            txid=query.txid,
            created_after=moment_of(query.created_after, field="created_after"),
        ),
        after=decode_cursor(query.cursor),
        limit=limit,
    )
    items = [_wire(call, row) for row in rows]
    cursor = next_cursor([row.id for row in rows], limit=limit)
    return Page[Deposit](items=items, next_cursor=cursor)


@endpoint("GET", "/v1/deposits/{id}", "One deposit.", answers=DepositDetail, scopes=READ)
async def get_deposit(call: Call) -> DepositDetail:
    """By id, with its ETA (R10)."""
    row = await _visible(call)
    spec = call.services.registry.chains.get(row.network)
    found = None if spec is None else await eta.of_deposit(call.uow, spec, row)
    return DepositDetail(
        **_wire(call, row).model_dump(),
        min_confirmations=row.min_depth,
        full_confirmations=row.full_depth,
        policy_version=row.policy_version,
        eta=None
        if found is None
        else DepositEtaOut(provisional=_eta(found.provisional), final=_eta(found.final)),
    )


@endpoint(
    "GET",
    "/v1/deposits/{id}/timeline",
    "Every change of one deposit.",
    answers=Timeline,
    scopes=READ,
)
async def get_deposit_timeline(call: Call) -> Timeline:
    """Oldest first."""
    row = await _visible(call)
    return await timeline(call, "deposit", row.id)


@endpoint(
    "GET",
    "/v1/deposits/{id}/proof",
    "What proves one deposit, checked offline by `cage deposits verify`.",
    answers=DepositProof,
    scopes=READ,
)
async def get_deposit_proof(call: Call) -> DepositProof:
    """409 while it is in no block, or where nothing was kept that proves it."""
    return await deposit_proofs.build(call, await _visible(call))


async def _visible(call: Call) -> DepositRow:
    row = await deposit_commands.get(call.uow, call.object_id("deposit"))
    if row is None:
        raise NotFound
    return row


def _state(text: str | None) -> DepositState | None:
    if text is None:
        return None
    try:
        return DepositState(text)
    except ValueError as error:
        raise invalid_field("state", "invalid", "This is not a state of deposits.") from error


def _eta(found: eta.Eta | None) -> EtaOut | None:
    if found is None:
        return None
    return EtaOut(blocks=found.blocks, p50_seconds=found.p50_seconds, p90_seconds=found.p90_seconds)


def _wire(call: Call, row: DepositRow) -> Deposit:
    return wire_objects.deposit(deposit_commands.snapshot(row), context=call.services.wire)
