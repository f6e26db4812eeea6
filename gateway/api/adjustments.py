"""`POST /v1/ledger/adjustments`: what people book by hand; a second person's same call does it.

Owns who may decide and what the wire may say. The postings are `gateway/adjustments.py`.
"""

from collections.abc import Mapping
from typing import Final
from uuid import UUID

from config.ids import parse_public_id, uuid_of
from gateway import adjustments
from gateway.adjustments import Adjustment, Category
from gateway.api import two_people
from gateway.api.approvals_store import ApprovalRow
from gateway.api.endpoint import Answer, Call, Idempotency, endpoint
from gateway.api.orders import asset_of
from gateway.api.two_people import Proposal
from gateway.api.wire_audit import AdjustmentIn, AdjustmentOut
from gateway.auth import PrincipalKind
from gateway.errors import Conflict, invalid_field
from ledger.errors import AmountError, InsufficientFunds
from ledger.money import parse_amount

KIND: Final = "adjustment"
ROLES: Final = frozenset({"treasury", "finance"})
WRITE: Final = frozenset({"treasury:write"})
TAKES: Final[Mapping[Category, str]] = {
    Category.ALLOCATE: "brand",
    Category.WRITE_OFF_RECEIVABLE: "brand",
    Category.WRITE_OFF_COINS: "wallet",
    Category.REVERSAL: "posting",
}
"""What each category is about, besides asset and amount."""


@endpoint(
    "POST",
    "/v1/ledger/adjustments",
    "Book something by hand: a category, a reason, and two people.",
    answers=AdjustmentOut,
    body=AdjustmentIn,
    scopes=WRITE,
    kinds=frozenset({PrincipalKind.STAFF}),
    roles=ROLES,
    idempotency=Idempotency.REQUIRED,
)
async def adjust(call: Call) -> Answer:
    """202 while the second person is missing. Refused as it stands, it is not even proposed."""
    check_principal(call)
    body: AdjustmentIn = call.body
    content = await _content(call, body)
    about = next(content[name] for name in ("brand", "wallet", "posting") if content[name])
    decision = await two_people.propose_or_agree(
        call,
        Proposal(
            kind=KIND,
            subject="/".join(str(item) for item in (body.category, body.asset, about) if item),
            subject_version=0,
            content=content,
            reason=body.reason,
        ),
    )
    if decision.state != "done":
        return Answer(body=_wire(call, decision, None), status=202)
    return Answer(body=_wire(call, decision, await _book(call, decision)))


async def approve(call: Call, row: ApprovalRow) -> ApprovalRow:
    """The second person's consent by `POST /v1/approvals/{id}`, checked before; books it."""
    decision = await two_people.agree(call, row)
    await _book(call, decision)
    return decision


def check_principal(call: Call) -> None:
    """The house's books: no person of one brand."""
    two_people.check_operator(call, roles=ROLES, scopes=WRITE)


async def _content(call: Call, body: AdjustmentIn) -> dict[str, str | int | None]:
    """What both people agree to. Raises Invalid, and Conflict for what could not be booked."""
    category = Category(body.category)
    names = {"asset", "amount", TAKES[category]}
    if category is Category.REVERSAL:
        names = {"posting"}
    for name in ("asset", "amount", "brand", "wallet", "posting"):
        is_given = getattr(body, name) is not None
        if is_given is not (name in names):
            code, detail = ("not_allowed", "not taken") if is_given else ("required", "required")
            raise invalid_field(name, code, f"It is {detail} with this category.")
    if category is Category.REVERSAL:
        return await _reversal(call, str(body.posting))
    if body.brand is not None and body.brand not in call.services.registry.settings.brands:
        raise invalid_field("brand", "unknown_brand", "There is no such brand.")
    asset = asset_of(call.services, str(body.asset))
    try:
        amount = parse_amount(str(body.amount), decimals=asset.decimals)
    except AmountError as error:
        raise invalid_field("amount", "invalid", f"{error}.") from error
    if amount == 0:
        raise invalid_field("amount", "invalid", "It is more than zero.")
    return {
        "category": category.value,
        "asset": asset.id,
        "amount_minor": str(amount),
        "brand": body.brand,
        "wallet": body.wallet,
        "posting": None,
    }


async def _reversal(call: Call, text: str) -> dict[str, str | int | None]:
    livemode = call.services.registry.settings.livemode
    posting = parse_public_id("posting", text, livemode=livemode)
    if posting is None:
        raise invalid_field("posting", "invalid", "This is not the id of a posting.")
    view = await adjustments.reversible(call.uow, posting)
    line = view.lines[0]
    return {
        "category": Category.REVERSAL.value,
        "asset": line.account.asset,
        "amount_minor": str(line.amount_minor),
        "brand": None,
        "wallet": None,
        "posting": text,
    }


async def _book(call: Call, decision: ApprovalRow) -> UUID:
    content, reason = decision.content, decision.reason or ""
    posting_id = call.services.ids.new_id()
    try:
        if content["category"] == Category.REVERSAL:
            posting = uuid_of(str(content["posting"]))
            if posting is None:
                raise RuntimeError("a decision about no posting")
            return await adjustments.reverse(
                call.uow, posting, posting_id=posting_id, reason=reason, at=call.at
            )
        return await adjustments.book(
            call.uow,
            Adjustment(
                id=decision.id,
                category=Category(str(content["category"])),
                asset=str(content["asset"]),
                amount_minor=int(str(content["amount_minor"])),
                brand=_text(content["brand"]),
                wallet=_text(content["wallet"]),
                reason=reason,
            ),
            posting_id=posting_id,
            at=call.at,
        )
    except InsufficientFunds as error:
        raise Conflict("account_short", f"There is {error}.") from error


def _text(value: str | int | None) -> str | None:
    return None if value is None else str(value)


def _wire(call: Call, decision: ApprovalRow, posting: UUID | None) -> AdjustmentOut:
    context, content = call.services.wire, decision.content
    asset, amount = str(content["asset"]), int(str(content["amount_minor"]))
    return AdjustmentOut.model_validate(
        {
            "category": content["category"],
            "asset": asset,
            "amount": context.amount(amount, asset),
            "amount_minor": str(amount),
            "approval": two_people.wire(call, decision),
            "posting": None if posting is None else context.id("posting", posting),
        }
    )
