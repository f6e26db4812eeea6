"""D05 and D09 on the real programs: too deep a reorg stops all; two people let it be walked."""

import pytest

from tests.integration.watchers.conftest import RealBench
from tests.integration.watchers.test_real_nodes import pay_players
from watchers import switches
from watchers.errors import ReorgTooDeep
from watchers.switches import Action

pytestmark = [pytest.mark.postgres, pytest.mark.node]

LIMIT = 6  # blocks; bitcoind forgets the txs of a reorg deeper than 10


@pytest.mark.parametrize(
    "network_settings", [{"reorg_limit_blocks": LIMIT}], indirect=True, ids=["limit"]
)
async def test_d05_d09_a_deep_reorg_stops_the_network_and_two_people_let_it_be_walked(
    real: RealBench,
) -> None:
    world, watch = real.world, real.watch
    await pay_players(world, watch, ["anna"])
    await world.mine(LIMIT + 2)
    await watch.follow()
    credited, books = (await watch.deposit()).state, await watch.books()
    assert credited in ("provisional", "final")

    await world.lose(LIMIT + 2)
    with pytest.raises(ReorgTooDeep) as caught:
        await watch.follow()
    await watch.follower.stop(str(caught.value))
    async with watch.as_payouts.unit_of_work() as uow:
        for action in Action:
            assert await switches.is_stopped(
                uow, network=watch.network.name, asset=world.native, action=action
            )
    assert (await watch.deposit()).state == credited
    assert await watch.books() == books

    await watch.start_again(depth=LIMIT + 2)
    await watch.follow()
    assert (await watch.deposit()).state == "orphaned"
    await watch.audit()
    await world.mine(2 * LIMIT)
    await watch.follow()
    deposit = await watch.deposit()
    clearing = f"brand:acme:clearing:{world.native}"
    assert (deposit.state, (await watch.books())[clearing]) == ("final", deposit.amount_minor)
    await watch.audit()
