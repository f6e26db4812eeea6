"""`/v1/forecasts`: what the next hours are expected to take and bring, advice, and the back-test.

The operator's: the figures are of all brands. It reads sums of past hours and one snapshot of the
wallets, moves nothing, and computes outside of any unit of work.
"""

import asyncio
from collections.abc import Mapping
from datetime import datetime
from typing import Final, Literal

from config.database import Uow
from config.registry import Registry
from config.treasury_policy import WalletRole
from gateway.api.endpoint import NOT_CLIENTS, Answer, Call, Services, endpoint
from gateway.api.wire_base import WireContext, rfc3339
from gateway.api.wire_forecasts import (
    AdviceOut,
    BacktestOut,
    BacktestQuery,
    ForecastOut,
    ForecastQuery,
    ForecastsOut,
    QuantilesOut,
    QuantileTestOut,
)
from gateway.errors import Forbidden, invalid_field
from gateway.treasury import flows, forecast, outlook, positions, refill
from gateway.treasury.flows import Flow
from gateway.treasury.forecast import HOURS_MAX, Backtest, Basis, Forecast, Series
from gateway.treasury.positions import WalletPosition

READ = frozenset({"treasury:read", "treasury:write", "admin"})
NAMES: Final[Mapping[int, Literal["p50", "p90", "p99"]]] = {500: "p50", 900: "p90", 990: "p99"}


@endpoint(
    "GET",
    "/v1/forecasts",
    "What the next hours are expected to take and bring, with advice on refills.",
    answers=ForecastsOut,
    query=ForecastQuery,
    scopes=READ,
    kinds=NOT_CLIENTS,
)
async def list_forecasts(call: Call) -> Answer:
    """One asset, or all."""
    services, at = call.services, call.at
    assets, hours = _asked(call, call.query)

    async def later() -> Answer:
        async with services.database.snapshot() as uow:
            wallets = await positions.read(uow, services.registry)
            items = [
                await _forecast(uow, services, asset, wallets, hours=hours, at=at)
                for asset in assets
            ]
        return Answer(body=ForecastsOut(items=items))

    return Answer(body=None, later=later)


@endpoint(
    "GET",
    "/v1/forecasts/backtest",
    "How the forecasts of the last eight weeks would have done.",
    answers=BacktestOut,
    query=BacktestQuery,
    scopes=READ,
    kinds=NOT_CLIENTS,
)
async def get_backtest(call: Call) -> Answer:
    """Of one asset and flow; computed in a thread."""
    query: BacktestQuery = call.query
    if query.asset is None:
        raise invalid_field("asset", "required", "A back-test is of one asset.")
    [asset], hours = _asked(call, query)
    wire, network = call.services.wire, call.services.registry.assets[asset].network
    series = await flows.series(call.uow, network=network, asset=asset, flow=Flow(query.flow))
    series = series or Series(first_hour=flows.hour_of(call.at), amounts=())

    async def later() -> Answer:
        found = await asyncio.to_thread(forecast.backtest, series, hours=hours)
        return Answer(
            body=BacktestOut(
                asset=asset,
                flow=query.flow,
                hours=hours,
                history_hours=len(series.amounts),
                forecasts=found.forecasts,
                skipped=found.skipped,
                quantiles=_tests(wire, asset, found),
            )
        )

    return Answer(body=None, later=later)


def _asked(call: Call, query: ForecastQuery) -> tuple[list[str], int]:
    """Assets and hours. Raises Invalid, and Forbidden for a view of one brand."""
    if call.one_brand is not None:
        raise Forbidden("operator_only", "Forecasts are of all brands together.")
    registry = call.services.registry
    if query.asset is not None and query.asset not in registry.assets:
        raise invalid_field("asset", "unknown_asset", "No such asset is configured.")
    text = query.hours
    if text is None:
        hours = registry.policy.treasury.horizon_hours
    elif text.isascii() and text.isdigit() and len(text) < 4 and 1 <= int(text) <= HOURS_MAX:
        hours = int(text)
    else:
        raise invalid_field("hours", "invalid", f"A whole number from 1 to {HOURS_MAX}.")
    return sorted(registry.assets) if query.asset is None else [query.asset], hours


async def _forecast(
    uow: Uow,
    services: Services,
    asset: str,
    wallets: list[WalletPosition],
    *,
    hours: int,
    at: datetime,
) -> ForecastOut:
    registry, wire = services.registry, services.wire
    network = registry.assets[asset].network
    found: dict[str, QuantilesOut] = {}
    history = 0
    for flow in Flow:
        series = await flows.series(uow, network=network, asset=asset, flow=flow)
        history = 0 if series is None else len(series.amounts)
        ahead = None if series is None else outlook.ahead(series, hours=hours, at=at)
        found[flow.value] = _quantiles(wire, asset, ahead)
    free = sum(
        item.free_minor for item in wallets if (item.role, item.asset) == (WalletRole.HOT, asset)
    )
    return ForecastOut(
        asset=asset,
        starts_at=rfc3339(flows.moment_of(flows.hour_of(at))),
        hours=hours,
        history_hours=history,
        inflow=found["inflow"],
        demand=found["demand"],
        outflow=found["outflow"],
        free=wire.amount(free, asset),
        free_minor=str(free),
        advice=await _advice(uow, registry, wire, asset, wallets, at=at),
    )


async def _advice(
    uow: Uow,
    registry: Registry,
    wire: WireContext,
    asset: str,
    wallets: list[WalletPosition],
    *,
    at: datetime,
) -> AdviceOut | None:
    """By the policy's horizon and quantile: what the system itself goes by."""
    banded = [
        item
        for item in positions.by_band(wallets, registry)
        if (item.role, item.asset) == (WalletRole.HOT, asset)
    ]
    if not banded:
        return None
    need = await outlook.need_of(uow, registry, asset, at=at)
    advice = outlook.advice_on(banded[0], need.by_hour, at=at)
    if advice is None:
        return None
    return AdviceOut(
        direction=advice.direction,
        amount=wire.amount(advice.amount_minor, asset),
        amount_minor=str(advice.amount_minor),
        reason=advice.reason.value,
        before=rfc3339(advice.before),
        text=refill.advice_text(advice, asset, decimals=registry.assets[asset].decimals),
    )


def _quantiles(wire: WireContext, asset: str, found: Forecast | None) -> QuantilesOut:
    if found is None:
        return QuantilesOut(basis=Basis.NONE.value, samples=0)
    amounts: dict[str, str] = {}
    for permille, minor in found.quantiles.items():
        name = NAMES[permille]
        amounts |= {name: wire.amount(minor, asset), f"{name}_minor": str(minor)}
    return QuantilesOut(basis=found.basis.value, samples=found.samples, **amounts)


def _tests(wire: WireContext, asset: str, found: Backtest) -> list[QuantileTestOut]:
    return [
        QuantileTestOut(
            quantile=NAMES[item.permille],
            covered=item.covered,
            coverage_permille=item.covered * 1_000 // max(found.forecasts, 1),
            loss=wire.amount(item.loss_minor, asset),
            loss_minor=str(item.loss_minor),
            naive_loss=wire.amount(item.naive_loss_minor, asset),
            naive_loss_minor=str(item.naive_loss_minor),
        )
        for item in found.quantiles
    ]
