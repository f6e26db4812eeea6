"""The request for a refill: raised once when a hot wallet is short, and taken back by itself (P26).

Owns when the system asks for cold -> hot, and in which words. It moves nothing: people sign, and
the cold keys are elsewhere. The other direction is asked for by the step that carries it out.
"""

from datetime import datetime, timedelta
from typing import Final

from config.database import Uow
from config.ids import Ids
from config.logs import get_logger
from config.registry import Registry
from gateway.payouts import rebalances, rebalances_store
from gateway.payouts.rebalances import EXPIRED, NOT_NEEDED, Direction, State, Wish
from gateway.payouts.rebalances_store import RebalanceRow
from gateway.treasury.advice import Advice, Reason
from gateway.treasury.outlook import Need
from gateway.treasury.positions import BandPosition
from ledger.money import format_amount
from watchers import addresses
from watchers.errors import PoolEmpty

TO_HOT: Final = Direction.COLD_TO_HOT
NOT_BEGUN: Final = (State.PROPOSED, State.APPROVED)  # nothing is built for whoever holds the keys

log = get_logger(__name__)


async def attend(
    uow: Uow,
    registry: Registry,
    item: BandPosition,
    advice: Advice | None,
    need: Need,
    *,
    is_told_low: bool,
    ids: Ids,
    at: datetime,
) -> RebalanceRow | None:
    """Ask once for what the wallet is short of, or take the request back; what changed.

    `is_told_low`: the wallet left its band and has not come far enough back yet.
    """
    last = await rebalances_store.newest_of_the_system(
        uow, asset=item.asset, direction=TO_HOT.value
    )
    is_short = advice is not None and advice.direction == TO_HOT.value
    if last is not None and last.state in NOT_BEGUN:
        code = EXPIRED if last.valid_until <= at else NOT_NEEDED
        if code == NOT_NEEDED and (is_short or is_told_low):
            return None
        locked = await rebalances_store.get(uow, last.id, lock=True)
        if locked is None or locked.state not in NOT_BEGUN:
            return None  # a person was quicker
        return await rebalances.cancel(uow, locked, code=code, ids=ids, at=at)
    if advice is None or not is_short or not await _may_ask(uow, registry, item, last, advice, at):
        return None
    return await _ask(uow, registry, item, advice, need, ids=ids, at=at)


async def _may_ask(
    uow: Uow,
    registry: Registry,
    item: BandPosition,
    last: RebalanceRow | None,
    advice: Advice,
    at: datetime,
) -> bool:
    """One open request per asset, whoever asked; and a pause after one that people turned down, or
    while the shortage is only expected."""
    if await rebalances_store.open_of(uow, asset=item.asset, direction=TO_HOT.value, limit=1):
        return False
    if last is None:
        return True
    pause = timedelta(seconds=registry.policy.rebalances[item.asset].pause_seconds)
    was_met = last.state == State.DONE or last.code in (NOT_NEEDED, EXPIRED)
    return last.created_at + pause <= at or (was_met and advice.reason is not Reason.FORECAST)


async def _ask(
    uow: Uow,
    registry: Registry,
    item: BandPosition,
    advice: Advice,
    need: Need,
    *,
    ids: Ids,
    at: datetime,
) -> RebalanceRow | None:
    """None where no cold wallet is set or no address is verified: the alarm about the wallet stays
    the only word."""
    asset = registry.assets[item.asset]
    if item.network not in registry.settings.cold or advice.amount_minor <= asset.dust_minor:
        return None
    try:
        to = await addresses.own_address(uow, network=item.network, role="hot")
    except PoolEmpty:
        log.warning("refill.no_hot_address", network=item.network, asset=item.asset)
        return None
    wish = Wish(
        network=item.network,
        asset=item.asset,
        direction=TO_HOT,
        amount_minor=advice.amount_minor,
        address=to.address,
        address_key=to.key,
        reason=advice_text(advice, item.asset, decimals=asset.decimals),
        forecast=_forecast_text(item, advice, need, decimals=asset.decimals),
        requested_by=None,
    )
    policy = registry.policy.rebalances[item.asset]
    return await rebalances.propose(uow, wish, policy=policy, ids=ids, at=at)


def advice_text(advice: Advice, asset: str, *, decimals: int) -> str:
    """The advice in a sentence."""
    amount = format_amount(advice.amount_minor, decimals=decimals)
    way = advice.direction.replace("_to_", " -> ")
    return f"{advice.reason}: move {amount} {asset} {way} before {advice.before:%Y-%m-%d %H:%M} UTC"


def _forecast_text(item: BandPosition, advice: Advice, need: Need, *, decimals: int) -> str:
    def text(minor: int) -> str:
        sign = "-" if minor < 0 else ""
        return sign + format_amount(abs(minor), decimals=decimals)

    held = f"free {text(item.free_minor)}, band {text(item.band.min_minor)}"
    held += f" to {text(item.band.max_minor)}, target {text(item.band.target_minor)}"
    if need.whole is None or not need.by_hour:
        return f"{held}; too little history for a forecast"
    whole = need.whole
    return (
        f"{held}; withdrawals expected within {whole.hours} h: {text(advice.need_minor)}"
        f" ({whole.basis}, {whole.samples} past sums)"
    )
