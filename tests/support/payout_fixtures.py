"""Fixtures of the payout road: a house per network, its lanes under their own database role."""

from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import pytest

from config.database import Database, async_url
from tests.support.clock import ManualClock, SequentialIds
from tests.support.databases import TestDatabase
from tests.support.payouts import Payouts

BuildHouse = Callable[[str], Awaitable[Payouts]]


@pytest.fixture
async def payouts_role(test_database: TestDatabase) -> AsyncIterator[Database]:
    """The database as a payout process sees it."""
    opened = Database(async_url(test_database.role_url("gateway_payouts")))
    yield opened
    await opened.close()


@pytest.fixture
def house(
    database: Database,
    payouts_role: Database,
    clock: ManualClock,
    ids: SequentialIds,
    tmp_path: Path,
) -> BuildHouse:
    """Builds the house on a network: `btc` replaces, `ltc` does not, `eth` has a token."""

    async def build(network: str) -> Payouts:
        return await Payouts.start(
            network, database=database, role=payouts_role, clock=clock, ids=ids, folder=tmp_path
        )

    return build


@pytest.fixture
async def btc(house: BuildHouse) -> Payouts:
    """A UTXO network that replaces."""
    return await house("btc")


@pytest.fixture
async def ltc(house: BuildHouse) -> Payouts:
    """A UTXO network that does not replace."""
    return await house("ltc")


@pytest.fixture
async def eth(house: BuildHouse) -> Payouts:
    """An account network with its native coin and a token."""
    return await house("eth")
