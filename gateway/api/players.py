"""`GET /v1/players/{player_id}/funds`, and what a player id may look like."""

import re

from gateway.api.endpoint import Call, endpoint
from gateway.api.wire_base import PLAYER_PATTERN, WireContext
from gateway.api.wire_resources import FundsOut, StageFunds
from gateway.errors import invalid_field
from ledger import balances
from ledger.accounts import Stage, player
from watchers import deposit_commands
from watchers.deposit_commands import Stages

_PLAYER = re.compile(PLAYER_PATTERN)


def check_player(text: str) -> str:
    """The player id of a path or a query. Raises Invalid."""
    if not _PLAYER.fullmatch(text):
        raise invalid_field("player_id", "invalid", "1 to 128 characters of A-Z a-z 0-9 ._~@+=:-")
    return text


@endpoint(
    "GET",
    "/v1/players/{player_id}/funds",
    "What of a player the rail holds, by asset and stage.",
    answers=FundsOut,
    scopes=frozenset({"deposits:read", "withdrawals:read"}),
)
async def get_funds(call: Call) -> FundsOut:
    """Zero for a player that was never seen: a player exists by being named."""
    brand = call.require_brand()
    player_id = check_player(call.path["player_id"])
    deposits = await deposit_commands.funds(call.uow, brand=brand, player_id=player_id)
    rows = []
    for asset in call.services.registry.assets:
        reserved, in_flight = [
            await balances.balance(call.uow, player(brand, player_id, stage, asset))
            for stage in (Stage.RESERVED, Stage.IN_FLIGHT)
        ]
        stages = deposits.get(asset, Stages())
        rows.append(_stages(asset, stages, reserved, in_flight, call.services.wire))
    return FundsOut(
        player_id=player_id, brand=brand, livemode=call.services.wire.livemode, assets=rows
    )


def _stages(
    asset: str, stages: Stages, reserved: int, in_flight: int, wire: WireContext
) -> StageFunds:
    values = {
        "pending": stages.pending,
        "provisional": stages.provisional,
        "orphaned": stages.orphaned,
        "final_total": stages.final_total,
        "reserved": reserved,
        "in_flight": in_flight,
        "on_hold": stages.on_hold,
    }
    fields = {name: wire.amount(minor, asset) for name, minor in values.items()}
    fields |= {f"{name}_minor": str(minor) for name, minor in values.items()}
    return StageFunds(asset=asset, **fields)
