"""`POST /v1/deposits/{id}/refund`: two people of compliance send a rejected deposit back.

The first signed body sets the value aside, the very same one of a second person lets it go; both
are kept as received and travel to the signer. Payouts carry it out; the rules of people are those
of `payouts/refunds.py` (CONTRACT 4, 8).
"""

from datetime import datetime, timedelta
from typing import Final

from gateway.api import orders, two_people, wire_objects
from gateway.api.deposit_decisions import ROLES, WRITE
from gateway.api.endpoint import Answer, Call, Idempotency, endpoint
from gateway.api.wire_deposit_refunds import DepositRefund, DepositRefundIn
from gateway.auth import PrincipalKind
from gateway.errors import Conflict, NotFound, invalid_field
from gateway.payouts import recovery_store, refunds, refunds_store
from gateway.payouts.errors import DecisionRefused
from gateway.payouts.refunds import Desk, Words
from gateway.payouts.withdrawals import State, withdrawal_snapshot
from ledger.errors import AmountError
from ledger.money import parse_amount
from watchers import addresses, deposit_commands, deposit_refunds
from watchers.deposit_commands import DepositRow
from watchers.errors import DepositStays

VALID_MAX: Final = timedelta(days=7)  # the signer counts no signature of people that is older


@endpoint(
    "POST",
    "/v1/deposits/{id}/refund",
    "Send a rejected deposit back; the very same body of a second person lets it go.",
    answers=DepositRefund,
    body=DepositRefundIn,
    scopes=WRITE,
    kinds=frozenset({PrincipalKind.STAFF}),
    roles=ROLES,
    idempotency=Idempotency.REQUIRED,
    is_order=True,
)
async def refund_deposit(call: Call) -> Answer:
    """202 while another person must sign the same, 200 with the second one (S15)."""
    found = await deposit_commands.get(call.uow, call.object_id("deposit"))
    if found is None:
        raise NotFound
    words = await _words(call, found)
    if await recovery_store.current(call.uow, found.network) is not None:
        raise Conflict("recovery", "These books may not know what was paid already.")
    locked = await deposit_refunds.lock(call.uow, [found.id])
    if found.id not in locked:
        raise Conflict("not_decidable", f"The deposit is {found.state}: reject it first.")
    desk = Desk(
        staff=two_people.staff_of(call),
        is_operator=call.principal.brand is None,
        policy=call.services.registry.policy,
        ids=call.services.ids,
        at=call.at,
    )
    try:
        row = await refunds.propose_or_agree(call.uow, words, locked[found.id], desk)
    except DecisionRefused as error:
        raise two_people.refusal(error) from error
    except DepositStays as error:
        raise Conflict(error.code, str(error)) from error
    after = await deposit_commands.get(call.uow, found.id)
    context = call.services.wire
    body = DepositRefund(
        deposit=wire_objects.deposit(
            deposit_commands.snapshot(found if after is None else after), context=context
        ),
        withdrawal=wire_objects.withdrawal(withdrawal_snapshot(row), context=context),
        signed_by=[item.person for item in await refunds_store.requests(call.uow, row.id)],
    )
    return Answer(body=body, status=202 if row.state == State.PENDING_APPROVAL else 200)


async def _words(call: Call, deposit: DepositRow) -> Words:
    """The body, understood as the signer will, and about this very deposit. Raises Invalid."""
    body: DepositRefundIn = call.body
    services = call.services
    if body.deposit_id != services.wire.id("deposit", deposit.id):
        raise invalid_field("deposit_id", "mismatch", "The path names another deposit.")
    asset = orders.asset_of(services, body.asset)
    if asset.id != deposit.asset:
        raise invalid_field("asset", "mismatch", "The deposit is of another asset.")
    try:
        amount_minor = parse_amount(body.amount, decimals=asset.decimals)
    except AmountError as error:
        raise invalid_field("amount", "invalid_amount", str(error)) from error
    if amount_minor != deposit.amount_minor:
        raise invalid_field("amount", "mismatch", "A deposit is sent back whole.")
    place = orders.parse_address(services, asset, body.address)
    if await addresses.is_of_the_house(call.uow, network=asset.network, key=place.key):
        raise orders.own_address()
    return Words(
        deposit_id=deposit.id,
        asset=asset.id,
        address=place.address,
        address_key=place.key,
        amount_minor=amount_minor,
        valid_until=_valid_until(call, body.valid_until),
    )


def _valid_until(call: Call, text: str) -> datetime:
    moment = orders.until(call, text)
    if moment > call.caller.created + VALID_MAX:
        raise invalid_field("valid_until", "too_far", "At most 7 days after the signature.")
    return moment
