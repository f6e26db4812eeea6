"""The main road of a deposit on the real programs: seen, credited, lost, found again, settled."""

import pytest

from gateway.sandbox.nodes import Bitcoind
from tests.integration.watchers.conftest import RealBench
from tests.support.watching import Watch
from tests.support.worlds import World
from watchers.chain import Pay

pytestmark = [pytest.mark.postgres, pytest.mark.node]

AMOUNTS = {"btc:BTC": 50_000_000, "ltc:LTC": 500_000_000, "eth:ETH": 5 * 10**17}


async def pay_players(world: World, watch: Watch, names: list[str]) -> None:
    """One payment per player, in one tx where the chain can."""
    rows = [await watch.address(name) for name in names]
    await world.pay(
        [
            Pay(asset=world.native, address=row.address, amount_minor=AMOUNTS[world.native])
            for row in rows
        ]
    )


async def test_d02_d04_d16_deposits_survive_a_reorg_with_one_credit_each(
    real: RealBench,
) -> None:
    world, watch = real.world, real.watch
    amount = AMOUNTS[world.native]
    tier = watch.registry.assets[world.native].tier(amount)
    await pay_players(world, watch, ["anna", "ben"])
    await watch.follow()
    assert await watch.deposit_states() == {"detected"}

    await world.mine(tier.min_depth)
    await watch.follow()
    assert await watch.deposit_states() == {"provisional"}
    await watch.audit()

    await world.lose(tier.min_depth)
    await watch.follow()
    assert await watch.deposit_states() == {"orphaned"}
    await watch.audit()

    await world.mine(tier.full_depth + 2)
    await watch.follow()
    assert await watch.deposit_states() == {"final"}
    clearing = f"brand:acme:clearing:{world.native}"
    assert (await watch.books())[clearing] == 2 * amount
    await watch.audit()


async def test_d08_a_reorg_while_the_watcher_was_down(
    real: RealBench,
) -> None:
    world, watch = real.world, real.watch
    tier = watch.registry.assets[world.native].tier(AMOUNTS[world.native])
    await pay_players(world, watch, ["anna"])
    await world.mine(tier.min_depth)
    await watch.follow()
    await watch.follower.drop_lease()

    await world.lose(tier.min_depth)
    await world.mine(tier.full_depth + 2)
    await watch.follow(watch.new_follower("second"))

    deposit = await watch.deposit()
    states = await watch.states(deposit.id)
    assert deposit.state == "final"
    assert states[states.index("orphaned") :] == ["orphaned", "provisional", "final"]
    await watch.audit()


async def test_d06_d07_invalidate_and_reconsider_end_as_if_one_branch_existed(
    bitcoind: Bitcoind, bitcoin_watch: Watch
) -> None:
    watch = bitcoin_watch
    anna = await watch.address("anna")
    await bitcoind.send(anna.address, "0.5")
    await bitcoind.mine()
    await watch.follow()
    branch_a = await bitcoind.invalidate(1)
    await bitcoind.mine_exactly([])
    await watch.follow()
    assert (await watch.deposit()).state == "orphaned"

    branch_b = str(await bitcoind.rpc("getbestblockhash"))
    await bitcoind.rpc("invalidateblock", branch_b)
    await bitcoind.reconsider(branch_a)
    await bitcoind.mine(2)
    await watch.follow()
    deposit = await watch.deposit()
    assert (deposit.state, deposit.block_hash) == ("final", branch_a)
    assert (await watch.books())["brand:acme:clearing:btc:BTC"] == 50_000_000
    await watch.audit()
    await bitcoind.reconsider(branch_b)


async def test_d04_a_double_spend_on_bitcoind_reverses_the_credit(
    bitcoind: Bitcoind, bitcoin_watch: Watch
) -> None:
    watch = bitcoin_watch
    anna = await watch.address("anna")
    txid = await bitcoind.send(anna.address, "0.5")
    await bitcoind.mine()
    await watch.follow()
    assert (await watch.deposit()).state == "provisional"

    await bitcoind.double_spend(txid, depth=1)
    await bitcoind.mine(3)
    await watch.follow()
    assert (await watch.deposit()).state == "reversed"
    assert await watch.books() == {}
    await watch.audit()
