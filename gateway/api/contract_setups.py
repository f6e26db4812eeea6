"""`/v1/contract_setups`: two people deploy, fund and withdraw from the batch contract (CONTRACT 8).

The first signed body proposes, the very same one of a second person agrees; both are kept as
received and travel to the signer. Payouts carry it out.
"""

from gateway.api import two_people
from gateway.api.endpoint import NOT_CLIENTS, Answer, Call, Idempotency, endpoint
from gateway.api.switches import READ, check_operator
from gateway.api.wire_base import rfc3339
from gateway.api.wire_contract_setups import (
    ContractSetup,
    ContractSetupDeclineIn,
    ContractSetupIn,
)
from gateway.api.wire_query import Page, PageQuery, limit_of
from gateway.auth import PrincipalKind
from gateway.errors import NotFound, invalid_field
from gateway.payouts import setups, setups_store
from gateway.payouts.errors import DecisionRefused
from gateway.payouts.setups import SetupAction, State, Words
from gateway.payouts.setups_store import SetupRow
from ledger.errors import AmountError
from ledger.money import parse_amount

KIND = "contract_setup"
ROLES = frozenset({"treasury", "admin"})
WRITE = frozenset({"treasury:write", "admin"})
STAFF = frozenset({PrincipalKind.STAFF})


@endpoint(
    "GET",
    "/v1/contract_setups",
    "Set-ups of batch contracts, newest first.",
    answers=Page[ContractSetup],
    query=PageQuery,
    scopes=READ,
    kinds=NOT_CLIENTS,
)
async def list_contract_setups(call: Call) -> Page[ContractSetup]:
    """They are few: one page."""
    check_operator(call)
    rows = await setups_store.newest(call.uow, limit=limit_of(call.query.limit))
    return Page[ContractSetup](items=[await _wire(call, row) for row in rows], next_cursor=None)


@endpoint(
    "GET",
    "/v1/contract_setups/{id}",
    "One set-up.",
    answers=ContractSetup,
    scopes=READ,
    kinds=NOT_CLIENTS,
)
async def get_contract_setup(call: Call) -> ContractSetup:
    """By id."""
    check_operator(call)
    row = await setups_store.get(call.uow, call.object_id(KIND))
    if row is None:
        raise NotFound
    return await _wire(call, row)


@endpoint(
    "POST",
    "/v1/contract_setups",
    "Deploy, fund or withdraw from the batch contract; the same call by a second person agrees.",
    answers=ContractSetup,
    body=ContractSetupIn,
    scopes=WRITE,
    kinds=STAFF,
    roles=ROLES,
    idempotency=Idempotency.REQUIRED,
    is_order=True,
)
async def propose_contract_setup(call: Call) -> Answer:
    """202 while another person must sign the same, 200 with the second one (S15)."""
    two_people.check_operator(call, roles=ROLES, scopes=WRITE)
    words = _words(call)
    staff = two_people.staff_of(call)
    try:
        row = await setups.propose_or_agree(
            call.uow,
            words,
            staff,
            spec=call.services.registry.chains[words.network],
            ids=call.services.ids,
            at=call.at,
        )
    except DecisionRefused as error:
        raise two_people.refusal(error) from error
    status = 202 if row.state == State.PROPOSED else 200
    return Answer(body=await _wire(call, row), status=status)


@endpoint(
    "POST",
    "/v1/contract_setups/{id}/decline",
    "Say no before anything is built.",
    answers=ContractSetup,
    body=ContractSetupDeclineIn,
    scopes=WRITE,
    kinds=STAFF,
    roles=ROLES,
    idempotency=Idempotency.OPTIONAL,
)
async def decline_contract_setup(call: Call) -> ContractSetup:
    """One person, at once; 409 `too_late` afterwards."""
    two_people.check_operator(call, roles=ROLES, scopes=WRITE)
    row = await setups_store.get(call.uow, call.object_id(KIND), lock=True)
    if row is None:
        raise NotFound
    person, body = two_people.person_of(call), call.body
    try:
        row = await setups.decline(call.uow, row, person=person, reason=body.reason, at=call.at)
    except DecisionRefused as error:
        raise two_people.refusal(error) from error
    return await _wire(call, row)


def _words(call: Call) -> Words:
    """The body, understood as the signer will. Raises Invalid."""
    body: ContractSetupIn = call.body
    registry = call.services.registry
    if body.network not in registry.chains:
        raise invalid_field("network", "unknown_network", "This network is not configured.")
    action, names = SetupAction(body.action), {"asset", "amount"} & set(call.raw_body)
    if action is SetupAction.DEPLOY:
        if names:
            raise invalid_field("asset", "invalid", "A deployment has no asset and no amount.")
        return Words(
            action=action,
            network=body.network,
            reference=body.reference,
            asset=None,
            amount_minor=None,
        )
    asset = registry.assets.get(body.asset or "")
    if asset is None or asset.network != body.network:
        raise invalid_field("asset", "unknown_asset", "An asset of this network is required.")
    try:
        amount_minor = parse_amount(body.amount or "", decimals=asset.decimals)
    except AmountError as error:
        raise invalid_field("amount", "invalid", str(error)) from error
    return Words(
        action=action,
        network=body.network,
        reference=body.reference,
        asset=asset.id,
        amount_minor=amount_minor,
    )


async def _wire(call: Call, row: SetupRow) -> ContractSetup:
    context, registry = call.services.wire, call.services.registry
    amount = None
    if row.asset is not None and row.amount_minor is not None:
        amount = context.amount(row.amount_minor, row.asset)
    spec = registry.chains.get(row.network)
    signed = await setups_store.requests(call.uow, row.id)
    return ContractSetup.model_validate(
        {
            "id": context.id(KIND, row.id),
            "version": row.version,
            "livemode": registry.settings.livemode,
            "network": row.network,
            "reference": row.reference,
            "action": row.action,
            "asset": row.asset,
            "amount": amount,
            "state": row.state,
            "code": row.code,
            "signed_by": [item.person for item in signed],
            "txid": row.txid,
            "contract": row.contract,
            "is_in_force": row.contract is not None
            and spec is not None
            and spec.batch_contract == row.contract,
            "created_at": rfc3339(row.created_at),
            "updated_at": rfc3339(row.state_at),
        }
    )
