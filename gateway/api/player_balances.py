"""`PUT /v1/player_balances`: what a casino says its players have, for proofs of reserves.

Cage keeps no player balance of its own (CONTRACT 1): nothing but a proof reads these, and no
payout depends on them. The signed bytes are kept, so that it stays the casino's word.
"""

from datetime import timedelta

from gateway import proofs_store
from gateway.api.endpoint import Answer, Call, Idempotency, endpoint
from gateway.api.wire_base import rfc3339
from gateway.api.wire_proofs import BalanceIn, BalanceReportIn, BalanceReportOut
from gateway.api.wire_query import moment_of
from gateway.auth import PrincipalKind
from gateway.errors import invalid_field
from gateway.proofs_store import ReportedBalance
from ledger.errors import AmountError
from ledger.money import parse_amount

BODY_BYTES_MAX = 512 * 1024  # 2,000 items of some 200 bytes
AHEAD_MAX = timedelta(seconds=60)  # as for `created` of a signature
NOTHING = "0"
BALANCE_MINOR_MAX = 1 << 104
"""Of one item: 2^24 of them fit into what a tree of liabilities can sum (`ledger.sum_tree`), or one
casino's word would make everybody's proof of reserves impossible."""


@endpoint(
    "PUT",
    "/v1/player_balances",
    "Report players' balances, for proofs of reserves.",
    answers=BalanceReportOut,
    body=BalanceReportIn,
    scopes=frozenset({"players:write"}),
    kinds=frozenset({PrincipalKind.CLIENT}),
    idempotency=Idempotency.OPTIONAL,
    body_bytes_max=BODY_BYTES_MAX,
    is_routine=True,
)
async def report_player_balances(call: Call) -> Answer:
    """All of it or nothing. An older report never replaces a newer one, in whatever order."""
    body: BalanceReportIn = call.body
    brand = call.require_brand()
    as_of = moment_of(body.as_of, field="as_of")
    if as_of is None or as_of > call.at + AHEAD_MAX:
        raise invalid_field("as_of", "in_the_future", "Report what is, not what will be.")
    rows = [
        ReportedBalance(
            brand=brand,
            player_id=item.player_id,
            asset=item.asset,
            amount_minor=_minor(call, item, place),
            as_of=as_of,
        )
        for place, item in enumerate(body.items)
    ]
    if len({(row.player_id, row.asset) for row in rows}) != len(rows):
        raise invalid_field("items", "duplicate", "Each player and asset stands once.")
    report_id = call.services.ids.new_id()
    applied = await proofs_store.add_report(
        call.uow,
        report_id=report_id,
        brand=brand,
        key_id=call.principal.key_id,
        signed=call.caller.signed,
        rows=rows,
        at=call.at,
    )
    return Answer(
        body=BalanceReportOut(
            id=call.services.wire.id("balance_report", report_id),
            brand=brand,
            livemode=call.services.wire.livemode,
            as_of=rfc3339(as_of),
            items=len(rows),
            applied=applied,
        )
    )


def _minor(call: Call, item: BalanceIn, place: int) -> int:
    """Zero is a balance, though no amount (A11)."""
    spec = call.services.registry.assets.get(item.asset)
    if spec is None:
        raise invalid_field(f"items[{place}].asset", "unknown_asset", "It is not served here.")
    if item.balance == NOTHING:
        return 0
    try:
        minor = parse_amount(item.balance, decimals=spec.decimals)
    except AmountError as error:
        raise invalid_field(f"items[{place}].balance", "invalid", str(error)) from error
    if minor > BALANCE_MINOR_MAX:
        raise invalid_field(f"items[{place}].balance", "too_large", "Nobody has so much.")
    return minor
