"""The house around one simulated network."""

from pathlib import Path

import pytest

from config.database import Database
from tests.support.clock import ManualClock, SequentialIds
from tests.support.payouts import Payouts


@pytest.fixture
async def btc(
    database: Database, clock: ManualClock, ids: SequentialIds, tmp_path: Path
) -> Payouts:
    """A UTXO network that replaces."""
    return await Payouts.start("btc", database=database, clock=clock, ids=ids, folder=tmp_path)


@pytest.fixture
async def eth(
    database: Database, clock: ManualClock, ids: SequentialIds, tmp_path: Path
) -> Payouts:
    """An account network with its native coin and a token."""
    return await Payouts.start("eth", database=database, clock=clock, ids=ids, folder=tmp_path)
