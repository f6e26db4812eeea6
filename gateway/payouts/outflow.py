"""Payouts of an asset stop by themselves when more leaves in an hour than own history expects.

Owns that breaker (N16), which stands between planning and signing: what crosses the bound is built
and not signed. It counts what was signed within the last hour and what waits to be, once per
family. Off unless policy names the asset; silent without enough history. Deposits go on.
"""

from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Final

from config.database import Uow
from config.logs import get_logger
from config.treasury_policy import OutflowMax
from gateway.payouts.context import ACTOR, Lane
from gateway.treasury import flows, outlook
from gateway.treasury.flows import Flow
from gateway.treasury.forecast import DAY
from watchers import switches
from watchers.switches import Action, Switch

SPAN: Final = timedelta(hours=1)
REASON: Final = "more was signed within an hour than own history expects"

log = get_logger(__name__)


class OutflowStep:
    """The breaker of one lane."""

    def __init__(self, lane: Lane) -> None:
        self._lane = lane
        self._watched: Mapping[str, OutflowMax] = {
            asset: row
            for asset, row in lane.registry.policy.treasury.outflow_max.items()
            if lane.registry.assets[asset].network == lane.network
        }
        self._bounds: dict[str, tuple[int, int | None]] = {}  # asset -> (hour, bound)

    async def run(self) -> None:
        """Compare each named asset with its bound."""
        if self._watched:
            await self._lane.run(self._judge)

    async def _judge(self, uow: Uow) -> None:
        lane, at = self._lane, self._lane.now()
        known = {item.scope: item for item in await switches.every(uow) if _is_sign(item)}
        for asset, row in self._watched.items():
            switch = known.get(f"asset:{asset}")
            if switch is not None and switch.is_stopped:
                continue
            # What was built before two people let it go on, they saw: it is settled.
            found = await flows.signed_since(
                uow,
                network=lane.network,
                since=at - SPAN,
                built_since=None if switch is None else switch.changed_at,
            )
            paid = found.get(asset, 0)
            bound = await self._bound(uow, asset, row, at=at)
            if bound is None or paid <= bound:
                continue
            log.error("payout.outflow_above_forecast", asset=asset, paid=str(paid), max=str(bound))
            await switches.open_breaker(
                uow,
                scope=f"asset:{asset}",
                action=Action.SIGN,  # what may not be signed is not built either
                reason=REASON,
                actor=ACTOR,
                ids=lane.ids,
                at=at,
            )

    async def _bound(self, uow: Uow, asset: str, row: OutflowMax, *, at: datetime) -> int | None:
        """Minor units of one hour, read once in it; None without enough history."""
        hour = flows.hour_of(at)
        if asset in self._bounds and self._bounds[asset][0] == hour:
            return self._bounds[asset][1]
        lane = self._lane
        series = await flows.series(uow, network=lane.network, asset=asset, flow=Flow.OUTFLOW)
        days_min = lane.registry.policy.treasury.history_days_min
        bound = None
        if series is not None and len(series.amounts) >= days_min * DAY:
            expected = outlook.ahead(series, hours=1, at=at).quantiles
            if expected:
                most = expected[row.quantile_permille] * row.factor_permille // 1_000
                bound = max(most, row.at_least_minor)
        self._bounds[asset] = (hour, bound)
        return bound


def _is_sign(item: Switch) -> bool:
    return item.action is Action.SIGN
