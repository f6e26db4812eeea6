"""D05 and D09 on the real programs: too deep a reorg stops all; two people let it be walked."""

import pytest

from tests.conformance.conftest import REAL_BACKENDS, open_world
from tests.integration.watchers.test_real_nodes import pay_players
from tests.support.clock import ManualClock, SequentialIds
from tests.support.databases import TestDatabase
from tests.support.watching import Watch, watching
from watchers import switches
from watchers.errors import ReorgTooDeep
from watchers.switches import Action, GrantKind

pytestmark = [pytest.mark.postgres, pytest.mark.node]

LIMIT = 6  # blocks; bitcoind forgets the txs of a reorg deeper than 10


async def allow(watch: Watch, *, depth: int) -> None:
    """What the API does once two people agreed."""
    scope, people = f"network:{watch.network.name}", {"proposed_by": "ada", "approved_by": "grace"}
    async with watch.as_api.unit_of_work() as uow:
        found = await switches.get(uow, scope=scope, action=Action.ALL)
        assert found is not None
        await switches.close_breaker(
            uow,
            scope=scope,
            action=Action.ALL,
            version=found.version,
            reason="every node is on this branch",
            ids=watch.ids,
            at=watch.clock.now(),
            **people,
        )
        await switches.grant(
            uow,
            network=watch.network.name,
            kind=GrantKind.REORG,
            count=depth,
            ids=watch.ids,
            at=watch.clock.now(),
            **people,
        )


@pytest.mark.parametrize("backend", REAL_BACKENDS)
async def test_d05_d09_a_deep_reorg_stops_the_network_and_two_people_let_it_be_walked(
    backend: str,
    request: pytest.FixtureRequest,
    test_database: TestDatabase,
    clock: ManualClock,
    ids: SequentialIds,
) -> None:
    async with (
        open_world(backend, request) as world,
        watching(
            world.chain, test_database, clock=clock, ids=ids, reorg_limit_blocks=LIMIT
        ) as watch,
    ):
        watch.start_height = None
        watch.follower = watch.new_follower("first")
        await watch.follow()
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

        await allow(watch, depth=LIMIT + 2)
        await watch.follow()
        assert (await watch.deposit()).state == "orphaned"
        await watch.audit()
        await world.mine(2 * LIMIT)
        await watch.follow()
        deposit = await watch.deposit()
        clearing = f"brand:acme:clearing:{world.native}"
        assert (deposit.state, (await watch.books())[clearing]) == ("final", deposit.amount_minor)
        await watch.audit()
