"""What one brand sees of another: nothing, by the database's own rules."""

import pytest

from tests.integration.watchers.conftest import UtxoBench
from watchers import addresses, deposit_commands

pytestmark = pytest.mark.postgres

HALF = 50_000_000


async def test_a29_no_brand_sees_anothers_deposits_or_addresses(utxo: UtxoBench) -> None:
    anna = await utxo.watch.address("anna", brand="acme")
    utxo.sim.pay([(anna.address, HALF)])
    utxo.sim.mine()
    await utxo.watch.follow()
    async with utxo.watch.as_api.unit_of_work(brand="zest") as uow:
        assert await deposit_commands.find(uow, brand=None) == []
        assert await addresses.by_id(uow, anna.id) is None
    async with utxo.watch.as_api.unit_of_work(brand="acme") as uow:
        (mine,) = await deposit_commands.find(uow, brand=None)
        locked = await deposit_commands.locked_by_asset(uow, brand="acme", player_id="anna")
    assert mine.player_id == "anna"
    assert locked["btc:BTC"].provisional == HALF
