"""The cycle on real nodes: agreement is kept, one unit that a raw key took is found (L12, L13)."""

from dataclasses import dataclass, field
from typing import Any

import pytest

from config.chains import Family
from config.clock import SystemClock
from tests.integration.watchers.conftest import RealBench
from tests.support import thief
from tests.support.watching import Watch
from watchers import reconciliations, switches
from watchers.breaks import BreakKind
from watchers.chain import Pay
from watchers.reconcile_loop import ReconcileLoop
from watchers.reconciliations import Break, Run, RunState
from watchers.switches import Action

pytestmark = [pytest.mark.postgres, pytest.mark.node]

AMOUNTS = {"btc:BTC": 50_000_000, "ltc:LTC": 500_000_000, "eth:ETH": 5 * 10**17}
FINAL_BLOCKS = 34


@dataclass(kw_only=True)
class Cycle:
    """The loop of one watcher, driven by hand."""

    watch: Watch
    loop: ReconcileLoop = field(init=False)

    def __post_init__(self) -> None:
        self.loop = self.another()

    def another(self) -> ReconcileLoop:
        """A second watcher's."""
        watch = self.watch
        return ReconcileLoop(
            chain=watch.chain,
            network=watch.network,
            database=watch.as_watcher,
            clock=SystemClock(),
        )

    async def run(self) -> Run:
        """One cycle that is due."""
        assert await self.loop.look()
        async with self.watch.as_watcher.unit_of_work() as uow:
            found = await reconciliations.newest(uow, self.watch.network.name)
        assert found is not None
        return found

    async def breaks(self) -> list[Break]:
        async with self.watch.as_watcher.unit_of_work() as uow:
            return await reconciliations.open_breaks(uow, network=self.watch.network.name)

    async def stopped(self, asset: str) -> set[str]:
        """Actions that are stopped for an asset."""
        name = self.watch.network.name
        async with self.watch.as_watcher.unit_of_work() as uow:
            return {
                action.value
                for action in Action
                if await switches.is_stopped(uow, network=name, asset=asset, action=action)
            }

    async def told(self, type: str) -> list[dict[str, Any]]:
        """Snapshots of the operator's events of a type, in their order."""
        async with self.watch.as_owner.unit_of_work() as uow:
            rows = await uow.execute(
                "SELECT snapshot FROM ledger.events WHERE type = :type ORDER BY position",
                {"type": type},
            )
            return [dict(item) for item in rows.scalars()]

    async def alarms(self) -> set[str]:
        async with self.watch.as_owner.unit_of_work() as uow:
            rows = await uow.execute("SELECT kind FROM gateway.alarms WHERE cleared_at IS NULL")
            return set(rows.scalars())


async def rich(real: RealBench) -> Cycle:
    """A final deposit, coins in the hot wallet, and a first comparison that is clean."""
    world, watch = real.world, real.watch
    anna, hot = await watch.address("anna"), await thief.own_address(watch)
    amount = AMOUNTS[world.native]
    for address in (anna.address, hot.address):
        await world.pay([Pay(asset=world.native, address=address, amount_minor=amount)])
    if world.token is not None:
        await world.pay([Pay(asset=world.token, address=hot.address, amount_minor=10**6)])
    await world.mine(FINAL_BLOCKS)
    await watch.follow()
    cycle = Cycle(watch=watch)
    first = await cycle.run()
    assert (first.state, first.breaks) == (RunState.CLEAN, ())
    return cycle


async def take_unit(real: RealBench, cycle: Cycle) -> tuple[str, int]:
    """The smallest unit of the native coin leaves by a raw key, in a block; txid and how much the
    wallet holds less of what the books have."""
    world, watch = real.world, real.watch
    if watch.network.family is Family.BITCOIN:
        [coin, *_] = await thief.coins_of(watch)
        return await thief.take_unit_of_coin(world, watch), coin.amount_minor
    hot = await thief.own_address(watch)
    before = (
        await watch.chain.reader.holdings(
            [hot.key], world.native, block_hash=(await watch.chain.reader.tip()).hash
        )
    )[hot.key]
    txid = await thief.send_from(
        watch, hot, Pay(asset=world.native, address="0x" + "99" * 20, amount_minor=1)
    )
    await world.mine(1)
    tip = await watch.chain.reader.tip()
    after = await watch.chain.reader.holdings([hot.key], world.native, block_hash=tip.hash)
    return txid, before - after[hot.key]


async def test_l12_l13_one_unit_taken_by_a_raw_key_stops_this_assets_payouts_in_the_next_cycle(
    real: RealBench,
) -> None:
    cycle = await rich(real)
    native, name = real.world.native, real.watch.network.name
    txid, lost = await take_unit(real, cycle)
    await real.watch.follow()

    run = await cycle.run()

    [found] = run.breaks
    assert (run.state, found.kind) == (RunState.BREAKS, BreakKind.UNKNOWN_OUTGOING)
    assert (found.subject, found.asset) == (f"custody:{name}/hot:{native}", native)
    assert found.difference_minor == -lost
    assert txid in {place["txid"] for place in found.details["places"]}
    is_utxo = real.watch.network.family is Family.BITCOIN
    payouts = {"build", "sign", "broadcast"} if is_utxo else {"build", "sign"}
    assert await cycle.stopped(native) == payouts
    if real.world.token is not None:
        assert await cycle.stopped(real.world.token) == set()
    [event] = await cycle.told("reconciliation.break")
    assert (event["kind"], event["asset"], event["state"]) == ("unknown_outgoing", native, "open")
    assert len(await cycle.told("switch.changed")) == len(payouts)
    assert "reconciliation_break" in await cycle.alarms()


async def test_l13_deposits_go_on_and_a_break_is_told_once(real: RealBench) -> None:
    cycle = await rich(real)
    world, watch = real.world, real.watch
    await take_unit(real, cycle)
    await watch.follow()
    await cycle.run()
    ben = await watch.address("ben")
    amount = AMOUNTS[world.native]
    await world.pay([Pay(asset=world.native, address=ben.address, amount_minor=amount)])
    await world.mine(FINAL_BLOCKS)
    await watch.follow()
    run = await cycle.run()
    assert [deposit.state.value for deposit in await watch.deposits()] == ["final", "final"]
    [found] = run.breaks
    assert found.kind is BreakKind.UNKNOWN_OUTGOING
    assert len(await cycle.told("reconciliation.break")) == 1


async def test_l12_two_watchers_keep_one_cycle_of_a_block(real: RealBench) -> None:
    cycle = await rich(real)
    await real.world.mine(1)
    await real.watch.follow()
    assert await cycle.another().look()
    assert not await cycle.loop.look()
