"""`GET /v1/players/{player_id}/statement`: the stages of a player's money over a period.

It tells what stands on this rail. A deposit that is final at once never stood on a stage of the
player, and the player's balance is the PAM's: neither is in it.
"""

from collections.abc import Mapping
from uuid import UUID

from gateway.api import statements_store
from gateway.api.books import SCOPES, period_of
from gateway.api.endpoint import Call, endpoint
from gateway.api.players import check_player
from gateway.api.references import DepositKey, deposit_of, encode_place, withdrawal_of
from gateway.api.wire_base import WireContext, rfc3339
from gateway.api.wire_books import StageOut, StatementLineOut, StatementOut, StatementQuery
from gateway.api.wire_query import limit_of
from ledger import reading
from ledger.reading import StageBalance, StatementLine


@endpoint(
    "GET",
    "/v1/players/{player_id}/statement",
    "What moved on the stages of a player over a period, with both balances.",
    answers=StatementOut,
    query=StatementQuery,
    scopes=SCOPES,
)
async def get_statement(call: Call) -> StatementOut:
    """Empty for a player that was never seen: a player exists by being named."""
    query: StatementQuery = call.query
    brand = call.require_brand()
    player_id = check_player(call.path["player_id"])
    since, until, after = period_of(call, query)
    found = await reading.statement(
        call.uow,
        brand=brand,
        player_id=player_id,
        asset=query.asset,
        since=since,
        until=until,
        after=after,
        limit=limit_of(query.limit),
    )
    keys = {key for line in found.lines if (key := deposit_of(line.reference)) is not None}
    deposits = await statements_store.deposits(call.uow, sorted(keys, key=repr))
    payouts = {id_ for line in found.lines if (id_ := withdrawal_of(line.reference)) is not None}
    charged = await statements_store.fees_charged(call.uow, sorted(payouts))
    wire = call.services.wire
    return StatementOut(
        player_id=player_id,
        brand=brand,
        livemode=wire.livemode,
        since=rfc3339(since),
        until=rfc3339(until),
        stages=[_stage(wire, stage) for stage in found.balances],
        items=[_line(wire, line, deposits, charged) for line in found.lines],
        next_cursor=None if found.following is None else encode_place(found.following, until=until),
    )


def _stage(wire: WireContext, stage: StageBalance) -> StageOut:
    return StageOut(
        stage=stage.kind.value,
        asset=stage.asset,
        opening=wire.amount(stage.opening_minor, stage.asset),
        opening_minor=str(stage.opening_minor),
        closing=wire.amount(stage.closing_minor, stage.asset),
        closing_minor=str(stage.closing_minor),
    )


def _line(
    wire: WireContext,
    line: StatementLine,
    deposits: Mapping[DepositKey, UUID],
    charged: Mapping[UUID, int],
) -> StatementLineOut:
    key = deposit_of(line.reference)
    deposit_id = None if key is None else deposits.get(key)
    withdrawal_id = withdrawal_of(line.reference)
    fee_minor = None if withdrawal_id is None else charged.get(withdrawal_id)
    return StatementLineOut(
        posting_id=wire.id("posting", line.place.posting_id),
        booked_at=rfc3339(line.place.booked_at),
        kind=line.posting_kind,
        reference=line.reference,
        deposit_id=None if deposit_id is None else wire.id("deposit", deposit_id),
        withdrawal_id=None if withdrawal_id is None else wire.id("withdrawal", withdrawal_id),
        reverses=None if line.reverses is None else wire.id("posting", line.reverses),
        stage=line.kind.value,
        asset=line.asset,
        side=line.side.value,
        amount=wire.amount(line.amount_minor, line.asset),
        amount_minor=str(line.amount_minor),
        change=wire.amount(line.change_minor, line.asset),
        change_minor=str(line.change_minor),
        fee_charged=None if fee_minor is None else wire.amount(fee_minor, line.asset),
        fee_charged_minor=None if fee_minor is None else str(fee_minor),
    )
