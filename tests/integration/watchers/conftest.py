"""A watcher over a simulated UTXO chain, over a simulated account chain and over the token zoo."""

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from dataclasses import dataclass
from typing import Any

import pytest

from gateway.sandbox.nodes import Anvil, Bitcoind
from tests.conformance.conftest import REAL_BACKENDS, chain_of, open_world
from tests.support.clock import ManualClock, SequentialIds
from tests.support.databases import TestDatabase
from tests.support.pool_bench import PoolBench, Pooled, pool_bench
from tests.support.simchain import SimAccount, SimUtxo, sim_account, sim_utxo
from tests.support.watching import Watch, watched, watching
from tests.support.worlds import World
from tests.support.zoo import Zoo, token_zoo
from watchers.addresses import AddressRow


@dataclass(frozen=True, slots=True, kw_only=True)
class UtxoBench:
    """A watcher and the world around its UTXO chain."""

    sim: SimUtxo
    watch: Watch


@dataclass(frozen=True, slots=True, kw_only=True)
class AccountBench:
    """A watcher and the world around its account chain."""

    sim: SimAccount
    watch: Watch


@dataclass(frozen=True, slots=True, kw_only=True)
class RealBench:
    """A watcher that began at the tip of a real node, and the world around that node."""

    world: World
    watch: Watch


@pytest.fixture
async def utxo(
    test_database: TestDatabase, clock: ManualClock, ids: SequentialIds
) -> AsyncIterator[UtxoBench]:
    """BTC: 0.5 coins need 1 confirmation to play and 3 to withdraw."""
    sim, chain = sim_utxo()
    async with watching(chain, test_database, clock=clock, ids=ids, absence_blocks=5) as watch:
        yield UtxoBench(sim=sim, watch=watch)


@pytest.fixture
async def account(
    test_database: TestDatabase, clock: ManualClock, ids: SequentialIds
) -> AsyncIterator[AccountBench]:
    """ETH: 0.5 coins need 3 confirmations to play and 12 to withdraw."""
    sim, chain = sim_account()
    async with watching(chain, test_database, clock=clock, ids=ids, absence_blocks=20) as watch:
        yield AccountBench(sim=sim, watch=watch)


@pytest.fixture
def network_settings(request: pytest.FixtureRequest) -> dict[str, Any]:
    """What differs in the network's settings; given by indirect parametrisation."""
    return dict(getattr(request, "param", {}))


@pytest.fixture
async def zoo(
    anvil: Anvil,
    test_database: TestDatabase,
    clock: ManualClock,
    ids: SequentialIds,
    network_settings: dict[str, Any],
) -> AsyncIterator[Zoo]:
    """Compiled tokens on anvil, and a watcher at its tip that lists them."""
    async with token_zoo(anvil, test_database, clock=clock, ids=ids, **network_settings) as opened:
        yield opened


@pytest.fixture
async def anna(zoo: Zoo) -> AddressRow:
    """A player's deposit address in the zoo."""
    return await zoo.watch.address("anna")


@pytest.fixture
async def pooled(
    test_database: TestDatabase, clock: ManualClock, ids: SequentialIds
) -> AsyncIterator[Pooled]:
    """Opens a watcher over several nodes of one simulated chain."""
    async with AsyncExitStack() as stack:

        async def opened(count: int, quorum: int) -> PoolBench:
            return await stack.enter_async_context(
                pool_bench(count, quorum, database=test_database, clock=clock, ids=ids)
            )

        yield opened


@pytest.fixture(params=REAL_BACKENDS)
async def real(
    request: pytest.FixtureRequest,
    test_database: TestDatabase,
    clock: ManualClock,
    ids: SequentialIds,
    network_settings: dict[str, Any],
) -> AsyncIterator[RealBench]:
    """Every real program in turn."""
    async with open_world(str(request.param), request) as world:
        await world.mine(1)  # what other tests left in the mempool is no news to this watcher
        async with watched(world.chain, test_database, clock, ids, **network_settings) as watch:
            yield RealBench(world=world, watch=watch)


@pytest.fixture
async def bitcoin_watch(
    bitcoind: Bitcoind, test_database: TestDatabase, clock: ManualClock, ids: SequentialIds
) -> AsyncIterator[Watch]:
    """A watcher that begins at bitcoind's tip, with an empty mempool."""
    chain = chain_of("btc", bitcoind.url)
    try:
        await bitcoind.mine(1)  # what other tests left in the mempool is no news to this watcher
        async with watched(chain, test_database, clock, ids) as watch:
            yield watch
    finally:
        await chain.close()
