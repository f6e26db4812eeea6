"""`GET /v1/withdrawals/{id}/attempts`: what a brand is told about the transactions of a payout."""

from pathlib import Path

import pytest
from embit.transaction import Transaction

from tests.support.bumps import KVB, funded, pass_blocks, quote, run_to_rest, work
from tests.support.databases import TestDatabase
from tests.support.payout_door import open_door, path_of
from tests.support.payouts import Payouts

pytestmark = pytest.mark.postgres

GWEI = 10**9
CHEAP = {2: 2 * KVB, 6: 2 * KVB, 36: 2 * KVB}
DEAR = {2: 20 * KVB, 6: 20 * KVB, 36: 20 * KVB}


async def test_w3_a_replaced_payout_tells_both_transactions_and_which_paid(
    btc: Payouts, test_database: TestDatabase, tmp_path: Path
) -> None:
    await funded(btc)
    await quote(btc, CHEAP)
    row = await btc.request("0.25")
    other = await btc.request("0.3")
    async with open_door(btc, test_database, tmp_path) as door:
        assert await door.attempts(row) == []
        lane = await work(btc)
        [first] = await door.attempts(row)
        assert (first["kind"], first["state"], first["is_current"]) == ("original", "seen", True)
        assert (first["payments"], first["nonce"], first["replaces_txid"]) == (2, None, None)
        raw = btc.sim.pool[first["txid"]]
        tx = Transaction.parse(raw)
        assert first["inputs"] == len(tx.vin)
        assert first["fee_asset"] == "btc:BTC"
        weight = 3 * len(_stripped(tx)) + len(raw)
        rate = int(first["fee_max_minor"]) * 1_000 // -(-weight // 4)
        assert (first["fee_rate"], first["fee_rate_unit"]) == (str(rate), "sat_per_kvb")
        assert 2_000 <= rate < 2_100
        assert tx.vout[first["output_index"]].value == row.amount_minor
        assert (first["fee"], first["height"], first["final_at"]) == (None, None, None)

        await quote(btc, DEAR)
        await pass_blocks(btc)
        await work(btc, lane)
        await run_to_rest(btc, lane)
        old, new = await door.attempts(row)
        assert (old["state"], old["kind"], old["is_current"]) == ("replaced", "original", False)
        assert (new["state"], new["kind"], new["is_current"]) == ("final", "replacement", True)
        assert new["replaces_txid"] == old["txid"] == first["txid"]
        assert int(new["fee_rate"]) >= 20_000 > int(old["fee_rate"])
        assert new["fee_minor"] == new["fee_max_minor"]
        assert new["height"] is not None
        assert new["created_at"] <= new["signed_at"] <= new["broadcast_at"] <= new["final_at"]
        beside = await door.attempts(other)
        assert [item["txid"] for item in beside] == [old["txid"], new["txid"]]
        assert beside[0]["output_index"] != old["output_index"]


async def test_a_child_that_pays_for_its_parent_is_told_and_pays_nobody(
    ltc: Payouts, test_database: TestDatabase, tmp_path: Path
) -> None:
    await funded(ltc)
    await quote(ltc, CHEAP)
    row = await ltc.request("0.25")
    lane = await work(ltc)
    await quote(ltc, DEAR)
    await pass_blocks(ltc)
    await work(ltc, lane)
    async with open_door(ltc, test_database, tmp_path) as door:
        parent, child = await door.attempts(row)
    assert (parent["kind"], parent["is_current"]) == ("original", True)
    assert (child["kind"], child["is_current"], child["payments"]) == ("cpfp", False, 0)
    assert (child["output_index"], child["replaces_txid"]) == (None, None)


async def test_an_account_chain_tells_nonce_and_price(
    eth: Payouts, test_database: TestDatabase, tmp_path: Path
) -> None:
    await funded(eth)
    await quote(eth, {5: GWEI, 20: GWEI}, floor=0, base_fee=GWEI)
    row = await eth.request("0.25")
    lane = await work(eth)
    async with open_door(eth, test_database, tmp_path) as door:
        [first] = await door.attempts(row)
        assert (first["nonce"], first["inputs"], first["output_index"]) == (0, 0, 0)
        assert (first["fee_rate"], first["fee_rate_unit"]) == (str(3 * GWEI), "wei_per_gas")
        assert first["fee"] is None
        await run_to_rest(eth, lane)
        [done] = await door.attempts(row)
    assert (done["state"], done["txid"]) == ("final", first["txid"])
    assert 0 < int(done["fee_minor"]) < int(done["fee_max_minor"])


async def test_a29_another_brand_is_told_nothing(
    btc: Payouts, test_database: TestDatabase, tmp_path: Path
) -> None:
    await funded(btc)
    row = await btc.request("0.25")
    await work(btc)
    async with open_door(btc, test_database, tmp_path) as door:
        assert len(await door.attempts(row)) == 1
        foreign = await door.get(path_of(row), brand="bravo")
        nobody = await door.get(f"/v1/withdrawals/wd_test_{'0' * 32}/attempts", brand="bravo")
    assert (foreign.status, nobody.status) == (404, 404)
    assert foreign.json()["code"] == nobody.json()["code"]


def _stripped(tx: Transaction) -> bytes:
    """The tx without its witnesses, by the library."""
    plain = Transaction.parse(tx.serialize())
    for item in plain.vin:
        item.witness = type(item.witness)()
    return bytes(plain.serialize())
