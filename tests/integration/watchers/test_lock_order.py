"""Units of work that meet take their rows in one order; while one waits, it holds nothing later."""

import asyncio

import pytest

from config.database import Database
from ledger import balances
from tests.integration.watchers.conftest import UtxoBench
from tests.integration.watchers.test_credit_policy import put_policy, put_rate
from tests.support.waiting import until_it_waits
from watchers import store, switches
from watchers.switches import Action

pytestmark = pytest.mark.postgres

HALF = 50_000_000
BTC = "network:btc"


async def is_free(database: Database, table: str, where: str) -> bool:
    """Whether nobody holds the row."""
    async with database.unit_of_work() as uow:
        found = await uow.execute(f"SELECT 1 FROM {table} WHERE {where} FOR UPDATE SKIP LOCKED")
        return found.scalar_one_or_none() is not None


async def test_usage_rows_of_a_step_are_locked_in_one_order(utxo: UtxoBench) -> None:
    """One block makes acme's deposit final and credits one of zest: acme's row is asked for first,
    whatever is booked first, so that another network's step never waits crosswise."""
    watch = utxo.watch
    anna = await watch.address("anna", brand="acme")
    bert = await watch.address("bert", brand="zest")
    utxo.sim.pay([(anna.address, HALF), (bert.address, HALF)])
    utxo.sim.mine(3)
    await watch.follow()  # both brands have usage rows
    utxo.sim.pay([(anna.address, HALF)])
    utxo.sim.mine(2)
    utxo.sim.pay([(bert.address, HALF)])
    await watch.follow()
    utxo.sim.mine(1)
    async with watch.as_watcher.unit_of_work() as other:
        await other.execute(
            "SELECT 1 FROM chain.exposure_usage WHERE scope = 'brand' AND brand = 'acme' FOR UPDATE"
        )
        step = asyncio.create_task(watch.follow())
        await until_it_waits(watch.as_owner)
        is_zest_free = await is_free(
            watch.as_owner, "chain.exposure_usage", "scope = 'brand' AND brand = 'zest'"
        )
    await step
    assert is_zest_free
    assert sorted(row.state.value for row in await watch.deposits()) == [
        "final",
        "final",
        "final",
        "provisional",
    ]
    await watch.audit()


async def test_a_run_that_is_walked_locks_its_players_in_one_order(utxo: UtxoBench) -> None:
    """Under a cap a run is settled height by height: zed's is reached first, anna's row is asked
    for first, and while it waits for her it holds nothing of his."""
    watch = utxo.watch
    await put_rate(watch, "100")
    await put_policy(watch, caps=[{"per_brand": "100000.00"}])
    zed, anna = await watch.address("zed"), await watch.address("anna")
    await watch.follow()
    async with watch.as_watcher.unit_of_work() as uow:
        await balances.lock_players(uow, [("acme", "anna"), ("acme", "zed")])
    for payee in (zed, anna):
        utxo.sim.pay([(payee.address, HALF)])
        utxo.sim.mine(1)
    utxo.sim.mine(1)
    async with watch.as_watcher.unit_of_work() as other:
        await other.execute("SELECT 1 FROM ledger.players WHERE player_id = 'anna' FOR UPDATE")
        step = asyncio.create_task(watch.follow())
        await until_it_waits(watch.as_owner)
        is_zed_free = await is_free(watch.as_owner, "ledger.players", "player_id = 'zed'")
    await step
    assert is_zed_free
    assert {row.state.value for row in await watch.deposits()} == {"provisional", "final"}
    await watch.audit()


async def test_d09_a_start_takes_the_cursor_before_the_switch(utxo: UtxoBench) -> None:
    """As the follower does, which opens a breaker under its cursor: neither waits for the other
    with a row that the other needs."""
    watch = utxo.watch
    await watch.follow()
    await watch.follower.stop("a deep reorg")
    async with watch.as_watcher.unit_of_work() as other:
        await other.execute("SELECT 1 FROM chain.cursors WHERE network = 'btc' FOR UPDATE")
        start = asyncio.create_task(_start(watch.as_api, utxo))
        await until_it_waits(watch.as_owner)
        is_switch_free = await is_free(
            watch.as_owner, "chain.switches", f"scope = '{BTC}' AND action = 'all'"
        )
    assert (await start) is not None
    assert is_switch_free
    async with watch.as_watcher.unit_of_work() as uow:
        cursor = await store.cursor(uow, "btc")
    assert cursor is not None
    assert cursor["stopped_reason"] is None


async def _start(database: Database, utxo: UtxoBench) -> switches.Switch | None:
    async with database.unit_of_work() as uow:
        return await switches.close_breaker(
            uow,
            scope=BTC,
            action=Action.ALL,
            version=1,
            reason="looked at",
            proposed_by="ada",
            approved_by="grace",
            ids=utxo.watch.ids,
            at=utxo.watch.clock.now(),
        )
