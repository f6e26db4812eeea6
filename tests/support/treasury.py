"""A house with bands, a cold wallet and a treasury watch, over the payouts bench."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from config.registry import load_registry
from config.settings import ColdSettings, WalletSettings
from config.treasury_policy import OutflowMax
from gateway.payouts import rebalances_store
from gateway.payouts.rebalances_store import RebalanceRow
from gateway.treasury.watch import TreasuryWatch
from tests.support.colds import COLD_BTC_ADDRESS, COLD_BTC_DESCRIPTOR
from tests.support.comparing import network_of
from tests.support.payouts import Payouts
from watchers import cold

COLD_BTC = ColdSettings(address=COLD_BTC_ADDRESS, descriptor=COLD_BTC_DESCRIPTOR, addresses=2)


async def furnish(
    house: Payouts,
    bands: Mapping[str, WalletSettings],
    *,
    outflow: Mapping[str, OutflowMax] | None = None,
    **treasury: Any,
) -> None:
    """Configure bands (and, of btc, a cold wallet), outflow breakers and treasury policy."""
    old = house.registry.settings
    colds = {"btc": COLD_BTC} if house.network == "btc" else {}
    settings = old.model_copy(update={"wallets": dict(bands), "cold": colds})
    registry = load_registry(settings)
    changed = replace(registry.policy.treasury, outflow_max=outflow or {}, **treasury)
    house.registry = replace(registry, policy=replace(registry.policy, treasury=changed))
    wallet = settings.cold.get("btc")
    await cold.register(house.database, network_of(house), wallet, clock=house.clock)


def watch_of(house: Payouts) -> TreasuryWatch:
    """A fresh process of the watch."""
    return TreasuryWatch(
        house.network,
        house.registry,
        database=house.role,
        clock=house.clock,
        ids=house.ids,
    )


async def look(house: Payouts, watch: TreasuryWatch | None = None) -> TreasuryWatch:
    """One look of a watch that has the lease: whoever had it before is dead."""
    await house.expire_lease()
    watch = watch or watch_of(house)
    if not await watch.look():
        raise RuntimeError("another watch has the lease")
    return watch


async def wallet_events(house: Payouts) -> list[tuple[str, str | None, str]]:
    """(type, previous state, amount) of each crossing that was told, oldest first."""
    async with house.database.unit_of_work() as uow:
        rows = await uow.execute(
            "SELECT type, previous_state, snapshot ->> 'amount' AS amount FROM ledger.events "
            "WHERE object_kind = 'wallet' ORDER BY position"
        )
        return [(row.type, row.previous_state, row.amount) for row in rows]


async def requests(house: Payouts) -> list[RebalanceRow]:
    """Every request for a refill, oldest first."""
    async with house.database.unit_of_work() as uow:
        found = await rebalances_store.find(uow, limit=100, direction="cold_to_hot")
    return found[::-1]


async def history_of(house: Payouts, asset: str, *, hourly: int, hours: int, flow: str) -> None:
    """As if every one of the last `hours` had brought this much."""
    now = int(house.clock.now().timestamp()) // 3_600
    async with house.database.unit_of_work() as uow:
        await uow.execute(
            "INSERT INTO gateway.flow_hours (network, asset, hour, inflow, demand, outflow) "
            "SELECT :network, :asset, h, CAST(:inflow AS numeric), CAST(:demand AS numeric), "
            "CAST(:outflow AS numeric) FROM generate_series(CAST(:first AS bigint), :last) h "
            "ON CONFLICT (asset, hour) DO UPDATE SET inflow = EXCLUDED.inflow, "
            "demand = EXCLUDED.demand, outflow = EXCLUDED.outflow",
            {
                "network": house.network,
                "asset": asset,
                "first": now - hours,
                "last": now - 1,
                **dict.fromkeys(("inflow", "demand", "outflow"), 0),
                flow: hourly,
            },
        )
        await uow.execute(
            "INSERT INTO gateway.flow_marks (network, first_hour, next_hour) "
            "VALUES (:network, :first, :next) ON CONFLICT (network) DO UPDATE "
            "SET first_hour = EXCLUDED.first_hour, next_hour = EXCLUDED.next_hour",
            {"network": house.network, "first": now - hours, "next": now},
        )
