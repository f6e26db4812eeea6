"""Own transactions, coins and inflows are the operator's: no call of a brand sees them (A29)."""

import pytest

from tests.integration.watchers.conftest import UtxoBench
from tests.integration.watchers.test_own_transactions import HALF, OUTSIDE, funded
from watchers import addresses

pytestmark = pytest.mark.postgres

TABLES = ("outgoing", "outgoing_inputs", "coins", "inflows")


async def test_a29_a_brands_call_sees_no_coin_no_inflow_and_no_transaction_of_the_operator(
    utxo: UtxoBench,
) -> None:
    watch = utxo.watch
    payouts = await funded(utxo)
    await payouts.pay(OUTSIDE, HALF // 5)
    async with watch.as_payouts.unit_of_work() as uow:
        hot = await addresses.own_address(uow, network="btc", role="hot")
    utxo.sim.pay([(hot.address, HALF)])
    utxo.sim.mine(3)
    await watch.follow()
    for table in TABLES:
        for brand, is_seen in (("acme", False), ("zest", False), ("*", True)):
            async with watch.as_api.unit_of_work(brand=brand) as uow:
                found = await uow.execute(f"SELECT EXISTS (SELECT 1 FROM chain.{table})")
                assert found.scalar_one() is is_seen, (table, brand)
