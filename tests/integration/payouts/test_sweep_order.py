"""Which sweeps a pass looks at: what waits in great numbers is in the way of nothing else."""

import asyncio

import pytest

from gateway.payouts import sweeps_store
from gateway.payouts.sweep_books import SweepBooks
from gateway.payouts.sweep_bumping import SweepBumping
from gateway.payouts.sweep_follow import SweepFollow
from gateway.payouts.sweep_step import LOOKED_MAX, SweepStep
from tests.support.contract_bench import BuildBench
from tests.support.payouts import Payouts
from tests.support.sweeping import ETH, NATIVE_RULE, USDT, Sweeps, dear
from tests.support.waiting import until_it_waits
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
        await until_it_waits(house.database)
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


async def test_p15_a_sweep_that_may_not_cost_more_is_in_the_way_of_none_behind_it(
    build_bench: BuildBench,
) -> None:
    """Accounts are looked at in rounds, a page in a pass; the next round waits for a block."""
    bench = await build_bench(has_contract=False)
    house = bench.house
    sweeps = await Sweeps.open(house, rules=[{**NATIVE_RULE, "threshold": "0.00001"}])
    for player, amount in (("anna", "0.0002"), ("bert", "0.5"), ("cleo", "0.5")):
        await sweeps.deposit(player, ETH, amount)
    await dear(bench, 10**9)
    lane = await house.cycle()
    sent = await sweeps.txs("sweep")
    assert [tx.payments[0].amount_minor > 10**17 for tx in sent] == [False, True, True]
    await dear(bench, 5 * sent[0].fee_cap_minor // 21_000)
    bumping = SweepBumping(lane, page=1)
    assert [await bumping.run() for _ in range(4)] == [0, 1, 1, 0]
    assert "sweep_bump_capped" not in await house.alarms()  # the last one that could clears it
    assert {tx.replaces_id for tx in await sweeps.txs("sweep")} == {None, sent[1].id, sent[2].id}
    assert await bumping.run() == 0


async def test_t2_deposits_that_wait_for_a_sweep_on_its_way_hold_up_no_other_address(
    build_bench: BuildBench,
) -> None:
    bench = await build_bench(has_contract=False)
    house = bench.house
    sweeps = await Sweeps.open(house)
    places = [await sweeps.address(player) for player in ("anna", "bert")]
    [busy, free] = [
        player for _, player in sorted(zip([p.id for p in places], ("anna", "bert"), strict=True))
    ]
    await sweeps.deposit(busy, USDT, "50")
    lane = await house.cycle()
    assert await sweeps.states() == ["gas_sent"]
    await sweeps.deposit(busy, USDT, "60")
    await sweeps.deposit(free, USDT, "70")
    step = SweepStep(lane, page=1)
    for _ in range(3):
        await step.run()
    found = {row.amount_minor for row in await sweeps.rows()}
    assert found == {50 * 10**6, 70 * 10**6}
