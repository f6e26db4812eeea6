"""`GET /v1/ledger/verification`: the books replayed from zero, page by page. For the operator."""

from sqlalchemy.exc import DBAPIError

from config.database import sqlstate
from gateway import verification
from gateway.api.endpoint import NOT_CLIENTS, Call, endpoint
from gateway.api.references import decode_text, encode_text
from gateway.api.wire_books import FindingOut, VerificationOut, VerificationQuery
from gateway.errors import Invalid, NotFound, invalid_field

BAD_TEXT = ("22P02", "22007", "22008")  # a place that is no id or no moment


@endpoint(
    "GET",
    "/v1/ledger/verification",
    "Replay a part of the books and tell every contradiction.",
    answers=VerificationOut,
    query=VerificationQuery,
    scopes=frozenset({"ledger:read"}),
    kinds=NOT_CLIENTS,
)
async def verify_books(call: Call) -> VerificationOut:
    """Begin without a cursor and go on until there is none; each page is read-only."""
    if call.one_brand is not None:
        raise NotFound
    text = decode_text(call.query.cursor)
    part, _, rest = (verification.PARTS[0], "", "") if text is None else text.partition("|")
    if part not in verification.PARTS:
        raise _no_cursor()
    try:
        page = await verification.check(call.uow, part, place=rest or None)
    except ValueError as error:
        raise _no_cursor() from error
    except DBAPIError as error:
        if sqlstate(error) not in BAD_TEXT:
            raise
        raise _no_cursor() from error
    following = verification.following(part, page)
    return VerificationOut(
        part=part,
        checked=page.checked,
        items=[
            FindingOut(
                kind=item.kind,
                subject=item.subject,
                asset=item.asset,
                difference_minor=str(item.difference_minor),
            )
            for item in page.findings
        ],
        next_cursor=(
            None if following is None else encode_text(f"{following[0]}|{following[1] or ''}")
        ),
    )


def _no_cursor() -> Invalid:
    return invalid_field("cursor", "invalid", "This is not a cursor of this check.")
