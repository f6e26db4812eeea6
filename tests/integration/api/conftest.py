"""A running API per test."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.support.api import ApiHouse, api_house
from tests.support.clock import ManualClock, SequentialIds
from tests.support.databases import TestDatabase


@pytest.fixture
async def house(
    test_database: TestDatabase, tmp_path: Path, clock: ManualClock, ids: SequentialIds
) -> AsyncIterator[ApiHouse]:
    """The API with two brands, their keys and addresses."""
    async with api_house(test_database, tmp_path, clock=clock, ids=ids) as running:
        yield running
