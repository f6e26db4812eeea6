"""The ETA of a deposit and of a network, as the API tells it."""

from uuid import UUID

import pytest

from tests.support.api import ApiHouse

pytestmark = pytest.mark.postgres


async def mined(house: ApiHouse, network: str, *, height: int, every_seconds: int) -> None:
    """A hundred blocks up to `height`, and the follower on the last."""
    await house.rows(
        "INSERT INTO chain.blocks (network, hash, height, parent_hash, time_seconds, is_canonical)"
        " SELECT :network, n::text, n, (n - 1)::text, 1700000000 + n * :every, true"
        " FROM generate_series(CAST(:height AS bigint) - 100, CAST(:height AS bigint)) n",
        network=network,
        height=height,
        every=every_seconds,
    )
    await house.rows(
        "INSERT INTO chain.cursors (network, height, hash, updated_at)"
        " VALUES (:network, :height, :hash, :at)",
        network=network,
        height=height,
        hash=str(height),
        at=house.clock.now(),
    )


async def deposit(house: ApiHouse, *, state: str, height: int | None, substatus: str | None) -> str:
    """One bitcoin deposit of acme, min 1, full 3; its public id."""
    deposit_id: UUID = house.ids.new_id()
    await house.rows(
        "INSERT INTO chain.deposits (id, brand, player_id, network, txid, position, asset, amount,"
        " address_id, address, state, substatus, block_hash, height, min_depth, full_depth,"
        " provisional_at_height, final_at_height, first_seen_at, state_at) SELECT :id, 'acme',"
        " 'anna', 'btc', :txid, 'out:0', 'btc:BTC', 5000000, id, address, :state, :substatus,"
        " CASE WHEN CAST(:height AS bigint) IS NULL THEN NULL ELSE 'h' END, :height, 1, 3,"
        " :height, CAST(:height AS bigint) + 2, :at, :at FROM chain.addresses"
        " WHERE network = 'btc' AND brand = 'acme' LIMIT 1",
        id=deposit_id,
        txid=deposit_id.hex,
        state=state,
        substatus=substatus,
        height=height,
        at=house.clock.now(),
    )
    return f"dep_test_{deposit_id.hex}"


@pytest.mark.parametrize(
    ("state", "height", "substatus", "provisional", "final"),
    [
        ("pending", 200, None, 0, 2),
        ("provisional", 200, None, None, 2),
        ("pending", 200, "exposure_cap", None, 2),
        ("detected", None, None, 3, 5),
        ("final", 190, None, None, None),
    ],
)
async def test_r10_a_deposit_tells_how_long_it_will_take(
    house: ApiHouse,
    state: str,
    height: int | None,
    substatus: str | None,
    provisional: int | None,
    final: int | None,
) -> None:
    await mined(house, "btc", height=200, every_seconds=540)
    name = await deposit(house, state=state, height=height, substatus=substatus)
    found = (await house.call("GET", f"/v1/deposits/{name}")).json()
    blocks = {
        stage: None if left is None else left["blocks"] for stage, left in found["eta"].items()
    }
    assert blocks == {"provisional": provisional, "final": final}
    assert (found["min_confirmations"], found["full_confirmations"]) == (1, 3)
    if final == 2:
        assert found["eta"]["final"] == {"blocks": 2, "p50_seconds": 907, "p90_seconds": 2_101}


async def test_before_the_network_was_followed_there_is_no_eta(house: ApiHouse) -> None:
    name = await deposit(house, state="detected", height=None, substatus=None)
    assert (await house.call("GET", f"/v1/deposits/{name}")).json()["eta"] is None


async def test_r10_networks_tell_their_pace(house: ApiHouse) -> None:
    await mined(house, "btc", height=200, every_seconds=540)
    items = (await house.call("GET", "/v1/networks")).json()["items"]
    paces = {item["network"]: item["block_interval_ms"] for item in items}
    assert paces == {"btc": 540_000, "ltc": 150_000, "eth": 12_000}
    urgent = next(item for item in items if item["network"] == "btc")["fee_classes"][0]
    assert urgent["eta_p50_seconds"] <= urgent["eta_p90_seconds"]
