"""A watcher over a simulated UTXO chain and over a simulated account chain."""

from collections.abc import AsyncIterator
from dataclasses import dataclass

import pytest

from tests.support.clock import ManualClock, SequentialIds
from tests.support.databases import TestDatabase
from tests.support.simchain import SimAccount, SimUtxo, sim_account, sim_utxo
from tests.support.watching import Watch, watching


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
