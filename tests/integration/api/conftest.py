"""A running API per test, alone or with watchers that answer the doctor."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.support.api import ApiHouse, api_house
from tests.support.clock import ManualClock, SequentialIds
from tests.support.databases import TestDatabase
from tests.support.ward import Ward, open_ward


@pytest.fixture
async def house(
    test_database: TestDatabase, tmp_path: Path, clock: ManualClock, ids: SequentialIds
) -> AsyncIterator[ApiHouse]:
    """The API with two brands, their keys and addresses."""
    async with api_house(test_database, tmp_path, clock=clock, ids=ids) as running:
        yield running


@pytest.fixture
async def ward(
    test_database: TestDatabase, tmp_path: Path, clock: ManualClock, ids: SequentialIds
) -> AsyncIterator[Ward]:
    """The API with the watchers of btc, ltc and eth over simulated chains."""
    async with open_ward(test_database, tmp_path, clock=clock, ids=ids) as opened:
        yield opened


@pytest.fixture
def rounds(pytestconfig: pytest.Config) -> int:
    """How many rounds of a hundred requests at once."""
    count: int = pytestconfig.getoption("--rounds")
    return count
