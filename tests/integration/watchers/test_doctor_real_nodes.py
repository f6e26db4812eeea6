"""What real nodes say to the doctor about a txid, on bitcoind, litecoind and anvil."""

from typing import Any

import pytest

from config.database import ALL_BRANDS
from tests.integration.watchers.conftest import RealBench
from tests.support.watching import Watch
from watchers import doctor_probe, doctor_store
from watchers.chain import Pay

pytestmark = [pytest.mark.postgres, pytest.mark.node]

AMOUNTS = {"btc:BTC": 50_000_000, "ltc:LTC": 500_000_000, "eth:ETH": 5 * 10**17}


async def asked(watch: Watch, txid: str, *, brand: str = ALL_BRANDS) -> dict[str, Any]:
    """The watcher's answer about a txid."""
    async with watch.as_api.unit_of_work(brand=brand) as uow:
        probe_id = await doctor_store.ask(
            uow,
            probe_id=watch.ids.new_id(),
            network=watch.network.name,
            brand=brand,
            txid=txid,
            at=watch.clock.now(),
        )
    count = await doctor_probe.answer_all(
        watch.as_watcher, watch.chain, watch.network, clock=watch.clock
    )
    assert count == 1
    async with watch.as_api.unit_of_work(brand=brand) as uow:
        (row,) = await doctor_store.probes(uow, [probe_id])
    assert row["state"] == "answered", row["answer"]
    answer: dict[str, Any] = row["answer"]
    return answer


async def test_n10_a_payment_is_found_in_mempool_and_block_by_its_brand_alone(
    real: RealBench,
) -> None:
    world, watch = real.world, real.watch
    row = await watch.address("anna")
    amount = AMOUNTS[world.native]
    (txid,) = await world.pay([Pay(asset=world.native, address=row.address, amount_minor=amount)])
    pooled = await asked(watch, txid, brand="acme")
    assert (pooled["place"], pooled["height"]) == ("mempool", None)
    assert int(pooled["fee_rate"]) > 0
    (pay,) = pooled["pays"]
    assert (pay["player_id"], pay["amount"], pay["stands"]) == ("anna", str(amount), None)
    assert (await asked(watch, txid, brand="zest"))["pays"] == []

    await world.mine()
    mined = await asked(watch, txid)
    assert (mined["place"], mined["is_success"]) == ("mined", True)
    assert mined["height"] > mined["followed_height"]
    assert [item["address"] for item in mined["pays"]] == [row.address]
    await watch.follow()
    known = await asked(watch, txid)
    assert known["height"] == known["followed_height"]
    assert [item["stands"] for item in known["pays"]] == ["deposit"]

    nobodys = txid[:-8] + "00000000"
    assert (await asked(watch, nobodys))["place"] == "unknown"


@pytest.mark.parametrize("real", ["anvil"], indirect=True)
async def test_n10_a_token_transfer_that_reverts_names_who_was_to_get_it(
    real: RealBench,
) -> None:
    """More tokens than the sender has: anvil mines the tx, its receipt has status 0."""
    world, watch = real.world, real.watch
    row = await watch.address("anna")
    assert world.token is not None
    (txid,) = await world.pay([Pay(asset=world.token, address=row.address, amount_minor=2**255)])
    await world.mine()
    failed = await asked(watch, txid, brand="acme")
    assert (failed["place"], failed["is_success"]) == ("mined", False)
    assert [(item["position"], item["player_id"]) for item in failed["pays"]] == [("call", "anna")]
