"""Which sweeps a pass looks at: what waits in great numbers is in the way of nothing else."""

import asyncio

import pytest

from gateway.payouts import sweeps_store
from gateway.payouts.sweep_books import SweepBooks
from gateway.payouts.sweep_follow import SweepFollow
from gateway.payouts.sweep_step import LOOKED_MAX
from tests.support.contract_bench import BuildBench
from tests.support.payouts import Payouts
from tests.support.sweeping import ETH, USDT, Sweeps
from watchers import switches
from watchers.switches import Action

pytestmark = [pytest.mark.postgres, pytest.mark.node]


async def _many_like(house: Payouts, *, asset: str, count: int) -> None:
    """So many sweeps beside the one of an asset, of addresses of their own, looked at before it."""
    async with house.database.unit_of_work() as uow:
        await uow.execute(
            "INSERT INTO chain.addresses (id, network, role, brand, account, branch, "
            "address_index, path, key, address, scheme, created_at, is_verified) "
            "SELECT gen_random_uuid(), a.network, a.role, a.brand, a.account, a.branch, "
            "1000000 + n, 'none', '0xe' || lpad(to_hex(n), 39, '0'), 'none ' || n, a.scheme, "
            "a.created_at, true "
            "FROM gateway.sweeps s JOIN chain.addresses a ON a.id = s.address_id, "
            "generate_series(1, :count) AS n WHERE s.asset = :asset",
            {"asset": asset, "count": count},
        )
        await uow.execute(
            "INSERT INTO gateway.sweeps (id, network, brand, address_id, address, key, asset, "
            "amount, deposits, oldest_at, state, look_at, created_at, state_at) "
            "SELECT gen_random_uuid(), s.network, s.brand, a.id, a.address, a.key, s.asset, "
            "s.amount, s.deposits, s.oldest_at, 'waiting', s.look_at - interval '1 hour', "
            "s.created_at, s.state_at FROM gateway.sweeps s, chain.addresses a "
            "WHERE s.asset = :asset AND a.path = 'none'",
            {"asset": asset},
        )


async def test_t2_a_stopped_asset_keeps_no_other_from_being_swept(build_bench: BuildBench) -> None:
    bench = await build_bench(has_contract=False)
    house = bench.house
    sweeps = await Sweeps.open(house)
    async with house.database.unit_of_work() as uow:
        await switches.open_breaker(
            uow,
            scope=f"asset:{USDT}",
            action=Action.SWEEP,
            reason="its issuer paused it",
            actor="ada",
            ids=house.ids,
            at=house.clock.now(),
        )
    await sweeps.deposit("anna", USDT, "50")
    lane = await house.cycle()
    await _many_like(house, asset=USDT, count=LOOKED_MAX)
    await sweeps.deposit("bert", ETH, "0.5")
    await sweeps.finish(lane)
    [row] = await sweeps.rows(asset=ETH)
    assert row.state == "swept"


async def _is_waited_for(house: Payouts) -> bool:
    """Whether somebody waits for a row that another holds."""
    async with house.database.unit_of_work() as uow:
        found = await uow.execute(
            "SELECT EXISTS (SELECT 1 FROM pg_locks l JOIN pg_stat_activity a USING (pid) "
            "WHERE NOT l.granted AND a.datname = current_database())"
        )
        return bool(found.scalar_one())


async def test_t8_what_a_person_asks_for_during_a_pass_is_not_put_off(
    build_bench: BuildBench,
) -> None:
    """The pass read the sweep before the person's word, and writes after it."""
    bench = await build_bench(has_contract=False)
    house = bench.house
    sweeps = await Sweeps.open(house)
    await sweeps.deposit("anna", USDT, "5")  # below its threshold
    lane = await house.cycle()
    house.clock.advance(700)
    await house.sample_fees()
    await sweeps.rates()
    async with house.database.unit_of_work() as uow:
        await sweeps_store.ask(uow, network=None, asset=USDT, person="ada", at=house.clock.now())
        cycle = asyncio.create_task(house.cycle(lane))
        while not await _is_waited_for(house) and not cycle.done():
            pass
        assert not cycle.done()
    await cycle
    row = await sweeps.row()
    assert (row.state, row.requested_by, row.look_at) == ("waiting", "ada", house.clock.now())
    await sweeps.finish(lane)
    assert await sweeps.states() == ["swept"]


async def test_t2_final_sweeps_are_booked_and_followed_page_by_page(
    build_bench: BuildBench,
) -> None:
    """One in front that people have to settle first must not keep the next page from its turn."""
    bench = await build_bench(has_contract=False)
    house = bench.house
    sweeps = await Sweeps.open(house)
    for player in ("anna", "bert", "cleo"):
        await sweeps.deposit(player, ETH, "0.5")
    lane = await house.cycle()
    for _ in range(4):
        lane = await house.cycle(lane)
    assert await sweeps.states() == ["sent"] * 3
    await house.mine(4)
    await SweepBooks(lane, page=1).run()
    assert all(tx.settled_block_hash is not None for tx in await sweeps.txs("sweep"))
    await SweepFollow(lane, page=1).run()
    assert await sweeps.states() == ["swept"] * 3
