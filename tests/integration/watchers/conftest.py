"""A watcher over a simulated UTXO chain, over a simulated account chain and over the token zoo."""

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from dataclasses import dataclass
from typing import Any

import pytest

from gateway.sandbox.nodes import Anvil
from tests.support.clock import ManualClock, SequentialIds
from tests.support.databases import TestDatabase
from tests.support.pool_bench import PoolBench, Pooled, pool_bench
from tests.support.simchain import SimAccount, SimUtxo, sim_account, sim_utxo
from tests.support.watching import Watch, watching
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
    """What differs in the zoo's network settings; given by indirect parametrisation."""
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
