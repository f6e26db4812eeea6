"""`/v1/reconciliations`: comparisons of the books with the chains, for the operator.

Those of the cycle and those that somebody asked for, with their wallets and breaks.
"""

from gateway import reconciliation
from gateway.api.endpoint import NOT_CLIENTS, Answer, Call, Idempotency, endpoint
from gateway.api.wire_base import rfc3339
from gateway.api.wire_query import (
    Page,
    PageQuery,
    decode_cursor,
    limit_of,
    next_cursor,
)
from gateway.api.wire_reconciliations import (
    BreakOut,
    NetworkCompared,
    ReconciliationIn,
    ReconciliationOut,
    ReconciliationQuery,
    WalletCompared,
)
from gateway.errors import InProgress, NotFound, invalid_field
from gateway.reconciliation import Difference, Reconciliation
from watchers import reconciliations
from watchers.reconciliations import RunState, WalletLine

SCOPES = frozenset({"ledger:read"})


@endpoint(
    "POST",
    "/v1/reconciliations",
    "Compare the books with themselves and with every chain.",
    answers=ReconciliationOut,
    status=202,
    body=ReconciliationIn,
    scopes=SCOPES,
    kinds=NOT_CLIENTS,
    idempotency=Idempotency.OPTIONAL,
)
async def create_reconciliation(call: Call) -> Answer:
    """The watchers answer within seconds: ask for the run until its state is `done`."""
    if call.one_brand is not None:
        raise NotFound
    chains = call.services.registry.chains
    network = call.body.network
    if network is not None and network not in chains:
        raise invalid_field("network", "unknown_network", "This network is not served.")
    found = await reconciliation.start(
        call.uow,
        reconciliation_id=call.services.ids.new_id(),
        networks=chains if network is None else (network,),
        requested_by=call.principal.key_id,
        ids=call.services.ids,
        at=call.at,
    )
    return Answer(body=_wire(call, found))


@endpoint(
    "GET",
    "/v1/reconciliations",
    "Every comparison of a network, newest first; each kept for ever.",
    answers=Page[ReconciliationOut],
    query=ReconciliationQuery,
    scopes=SCOPES,
    kinds=NOT_CLIENTS,
)
async def list_reconciliations(call: Call) -> Page[ReconciliationOut]:
    """A page; one that was asked for appears once per network that it compared."""
    if call.one_brand is not None:
        raise NotFound
    query: ReconciliationQuery = call.query
    limit = limit_of(query.limit)
    runs = await reconciliations.find(
        call.uow,
        network=query.network,
        state=None if query.state is None else RunState(query.state),
        before=decode_cursor(query.cursor),
        limit=limit,
    )
    return Page[ReconciliationOut](
        items=[_wire(call, reconciliation.of_run(run)) for run in runs],
        next_cursor=next_cursor([run.id for run in runs], limit=limit),
    )


@endpoint(
    "GET",
    "/v1/reconciliations/{id}",
    "One run as far as it has come.",
    answers=ReconciliationOut,
    scopes=SCOPES,
    kinds=NOT_CLIENTS,
)
async def get_reconciliation(call: Call) -> ReconciliationOut:
    """By id."""
    return _wire(call, await _visible(call))


@endpoint(
    "GET",
    "/v1/reconciliations/{id}/breaks",
    "Where books and reality differ; empty is what everybody wants.",
    answers=Page[BreakOut],
    query=PageQuery,
    scopes=SCOPES,
    kinds=NOT_CLIENTS,
)
async def list_breaks(call: Call) -> Page[BreakOut]:
    """All of them on one page."""
    found = await _visible(call)
    if not found.is_complete:
        raise InProgress("running", "Not every network has answered yet; ask again.")
    return Page[BreakOut](items=[_break(call, item) for item in found.breaks], next_cursor=None)


@endpoint(
    "GET",
    "/v1/reconciliations/{id}/wallets",
    "What each wallet held of each asset, by the chain and by the books.",
    answers=Page[WalletCompared],
    query=PageQuery,
    scopes=SCOPES,
    kinds=NOT_CLIENTS,
)
async def list_compared_wallets(call: Call) -> Page[WalletCompared]:
    """All of them on one page."""
    found = await _visible(call)
    if not found.is_complete:
        raise InProgress("running", "Not every network has answered yet; ask again.")
    lines = [
        line for run_id in found.runs for line in await reconciliations.wallets(call.uow, run_id)
    ]
    return Page[WalletCompared](items=[_wallet(call, line) for line in lines], next_cursor=None)


async def _visible(call: Call) -> Reconciliation:
    found = await reconciliation.get(call.uow, call.object_id("reconciliation"))
    if found is None or call.one_brand is not None:
        raise NotFound
    return found


def _wire(call: Call, found: Reconciliation) -> ReconciliationOut:
    return ReconciliationOut(
        id=call.services.wire.id("reconciliation", found.id),
        state="done" if found.is_complete else "running",
        trigger=found.trigger.value,
        created_at=rfc3339(found.created_at),
        networks=[
            NetworkCompared(
                network=network.network,
                is_answered=network.is_answered,
                height=network.height,
                block_hash=network.block_hash,
                error=network.error,
            )
            for network in found.networks
        ],
        breaks=[_break(call, item) for item in found.breaks],
    )


def _break(call: Call, item: Difference) -> BreakOut:
    return BreakOut(
        kind=item.kind,
        network=item.network,
        subject=item.subject,
        asset=item.asset,
        difference=call.services.wire.amount(item.difference_minor, item.asset),
        difference_minor=str(item.difference_minor),
        details=dict(item.details),
    )


def _wallet(call: Call, line: WalletLine) -> WalletCompared:
    asset = line.account.split(":", 2)[2]
    amounts = {
        "chain": line.chain_minor,
        "books": line.books_minor,
        "unposted": line.unposted_minor,
        "unsettled": line.unsettled_minor,
        "difference": line.difference_minor,
    }
    texts = {name: call.services.wire.amount(minor, asset) for name, minor in amounts.items()}
    minors = {f"{name}_minor": str(minor) for name, minor in amounts.items()}
    return WalletCompared(
        network=asset.partition(":")[0], account=line.account, asset=asset, **texts, **minors
    )
