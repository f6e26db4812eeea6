"""Addresses as clients get them: distinct, verified, with the signer's statement (A41, N20)."""

import asyncio
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from config.database import Database, async_url
from config.settings import AddressPoolSettings
from gateway import attestation_store
from gateway.attestation_store import Attestation
from gateway.payouts.pool_verifier import RESERVE_ROWS
from tests.support.api import POOL_ROWS, ApiHouse, problem
from tests.support.clock import ManualClock
from tests.support.databases import TestDatabase
from watchers import addresses
from watchers.errors import PoolEmpty

REQUESTS = 100


async def add_rows(house: ApiHouse, *, first: int, count: int, is_verified: bool) -> None:
    """Pool rows of acme behind those that stand; their texts are of no chain."""
    await house.rows(
        """
        INSERT INTO chain.addresses (id, network, role, brand, account, branch, address_index,
            path, key, address, scheme, is_verified, created_at)
        SELECT gen_random_uuid(), 'btc', 'deposit', 'acme', 1, 0, n, 'm/84h/1h/1h/0/' || n,
            '0014' || lpad(to_hex(n), 40, '0'), 'pool-' || n, 'p2wpkh', :is_verified, :at
        FROM generate_series(CAST(:first AS integer), CAST(:last AS integer)) AS n
        """,
        first=first,
        last=first + count - 1,
        is_verified=is_verified,
        at=house.clock.now(),
    )


async def create(house: ApiHouse, players: Sequence[str]) -> list[dict[str, Any]]:
    """The players' addresses, all asked for at once."""
    async with house.client() as client:
        replies = await asyncio.gather(
            *(
                client.request("POST", f"/v1/players/{name}/addresses", body={"network": "btc"})
                for name in players
            )
        )
    assert {reply.status for reply in replies} == {200}, [reply.body for reply in replies]
    return [reply.json() for reply in replies]


async def test_a41_hundred_requests_at_once_get_hundred_distinct_addresses_without_a_gap(
    house: ApiHouse,
) -> None:
    await add_rows(house, first=POOL_ROWS, count=REQUESTS, is_verified=True)
    made = await create(house, [f"player-{number}" for number in range(REQUESTS)])
    assert len({item["address"] for item in made}) == REQUESTS
    issued = await house.rows(
        "SELECT player_id, address_index FROM chain.addresses WHERE player_id IS NOT NULL"
        " ORDER BY address_index"
    )
    # A request that another one overtakes skips a locked row: never by more than those at once.
    assert len({row["player_id"] for row in issued}) == REQUESTS
    assert issued[-1]["address_index"] < POOL_ROWS + REQUESTS
    again = await create(house, [f"player-{number}" for number in range(REQUESTS)])
    assert [item["id"] for item in again] == [item["id"] for item in made]


async def test_a41_hundred_requests_of_one_player_at_once_get_one_address(
    house: ApiHouse,
) -> None:
    made = await create(house, ["player-1"] * REQUESTS)
    assert len({item["id"] for item in made}) == 1
    issued = await house.rows("SELECT id FROM chain.addresses WHERE player_id IS NOT NULL")
    asked = await house.rows("SELECT address_id FROM gateway.attestations")
    assert len(issued) == len(asked) == 1


async def test_thousand_verified_addresses_serve_without_the_signer_and_no_unverified_one(
    house: ApiHouse, test_database: TestDatabase
) -> None:
    """No signer runs here at all. The reserve of CONTRACT 8, then an answer that says why not."""
    await add_rows(house, first=POOL_ROWS, count=500, is_verified=False)
    await add_rows(house, first=POOL_ROWS + 500, count=RESERVE_ROWS - POOL_ROWS, is_verified=True)
    database = Database(async_url(test_database.role_url("gateway_api")))
    try:
        async with database.unit_of_work(brand="acme") as uow:
            given = [
                await addresses.hand_out(
                    uow,
                    brand="acme",
                    player_id=f"player-{number}",
                    network="btc",
                    at=house.clock.now(),
                )
                for number in range(RESERVE_ROWS)
            ]
        assert all(row.is_verified for row in given)
        assert len({row.id for row in given}) == RESERVE_ROWS
        with pytest.raises(PoolEmpty):
            async with database.unit_of_work(brand="acme") as uow:
                await addresses.hand_out(
                    uow, brand="acme", player_id="one-more", network="btc", at=house.clock.now()
                )
    finally:
        await database.close()
    reply = await house.call("POST", "/v1/players/one-more/addresses", body={"network": "btc"})
    assert (reply.status, problem(reply)["code"]) == (503, "pool_empty")
    old = await house.call("POST", "/v1/players/player-1/addresses", body={"network": "btc"})
    assert (old.status, old.json()["address"]) == (200, given[1].address)


def test_pool_is_refilled_well_before_the_reserve_is_touched() -> None:
    """Rows count from when they are derived; a batch of the signer is on its way meanwhile."""
    pool = AddressPoolSettings()
    assert pool.low * 2 // 3 >= RESERVE_ROWS
    assert pool.high >= pool.low + RESERVE_ROWS


async def test_statement_is_null_then_shown_by_every_call(house: ApiHouse) -> None:
    [made] = await create(house, ["player-1"])
    assert made["attestation"] is None
    [row] = await house.rows("SELECT * FROM gateway.attestations")
    assert (row["state"], row["network"], row["brand"]) == ("pending", "btc", "acme")
    found = Attestation(
        address_id=row["address_id"], statement="cage-address/1", signature="AA==", key_id="att_1"
    )
    async with house.owner.unit_of_work() as uow:
        assert await attestation_store.keep(uow, [found], at=house.clock.now()) == {
            found.address_id
        }
        assert await attestation_store.keep(uow, [found], at=house.clock.now()) == set()
    shown = {
        "statement": "cage-address/1",
        "signature": "AA==",
        "key_id": "att_1",
        "algorithm": "ed25519",
    }
    [again] = await create(house, ["player-1"])
    assert again == {**made, "attestation": shown}
    for target in (made["address"], made["id"]):
        one = await house.call("GET", f"/v1/addresses/{target}")
        assert one.json()["attestation"] == shown


async def test_rotated_address_asks_for_its_own_statement(house: ApiHouse) -> None:
    [made] = await create(house, ["player-1"])
    rotated = await house.call("POST", f"/v1/addresses/{made['id']}/rotate")
    assert rotated.json()["attestation"] is None
    rows = await house.rows("SELECT address_id FROM gateway.attestations")
    assert len(rows) == 2


async def test_a29_statement_of_another_brand_is_not_seen(
    house: ApiHouse, test_database: TestDatabase, clock: ManualClock, tmp_path: Path
) -> None:
    [made] = await create(house, ["player-1"])
    reply = await house.call("GET", f"/v1/addresses/{made['address']}", key="bravo-key")
    assert reply.status == 404
    database = Database(async_url(test_database.role_url("gateway_api")))
    try:
        for brand, count in (("acme", 1), ("bravo", 0)):
            async with database.unit_of_work(brand=brand) as uow:
                seen = await uow.execute("SELECT count(*) FROM gateway.attestations")
                assert seen.scalar_one() == count
    finally:
        await database.close()
