"""Fixtures of the payout road: a house per network, its lanes under their own database role."""

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from config.database import Database, async_url
from tests.conformance.conftest import open_world
from tests.support.clock import ManualClock, SequentialIds
from tests.support.databases import TestDatabase
from tests.support.payouts import Payouts

BuildHouse = Callable[[str], Awaitable[Payouts]]
OnNode = Callable[..., AbstractAsyncContextManager[Payouts]]
NODES = {"btc": "bitcoind", "ltc": "litecoind", "eth": "anvil"}


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
def on_node(
    request: pytest.FixtureRequest,
    database: Database,
    payouts_role: Database,
    clock: ManualClock,
    ids: SequentialIds,
) -> OnNode:
    """Opens the house on a network's real node: `network`, `folder` (of a short name where the
    signer has a socket), and further words of `Payouts.start`."""

    @asynccontextmanager
    async def house(network: str, folder: Path, **changes: Any) -> AsyncIterator[Payouts]:
        async with open_world(NODES[network], request) as world:
            yield await Payouts.start(
                network, database=database, role=payouts_role, clock=clock, ids=ids,
                folder=folder, world=world, **changes,
            )  # fmt: skip

    def opened(network: str, folder: Path, **changes: Any) -> AbstractAsyncContextManager[Payouts]:
        folder.mkdir(exist_ok=True)
        return house(network, folder, **changes)

    return opened


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
