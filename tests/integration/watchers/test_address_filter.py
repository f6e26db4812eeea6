"""The filter in front of the address lookup: it never misses an address that was committed."""

import asyncio
from uuid import UUID

import pytest

from config.database import Database
from tests.integration.watchers.conftest import UtxoBench
from watchers import address_filter, addresses
from watchers.address_filter import AddressFilter

pytestmark = pytest.mark.postgres

_INSERT = (
    "INSERT INTO chain.addresses (id, network, role, brand, account, branch, address_index, path, "
    "key, address, scheme, created_at) SELECT gen_random_uuid(), 'btc', 'deposit', 'acme', 7, "
    "0, :start + n, 'm', '0014' || substr(encode(sha256(convert_to(:start || '/' || n, 'UTF8')), "
    "'hex'), 1, 40), 'a' || :start || '/' || n, 'p2wpkh', now() "
    "FROM generate_series(1, :count) AS n RETURNING key"
)


async def insert(database: Database, start: int, count: int) -> list[str]:
    """Addresses as the pool writes them, many at once."""
    async with database.unit_of_work() as uow:
        found = await uow.execute(_INSERT, {"start": start, "count": count})
        return list(found.scalars())


async def test_every_address_is_a_candidate_and_hardly_any_other(utxo: UtxoBench) -> None:
    """Two pages and one row are read; what came later is read inside the unit of work."""
    count = 2 * address_filter.PAGE_ROWS + 1
    ours = await insert(utxo.watch.as_watcher, 1_000, count)
    known = AddressFilter("btc")
    await known.load(utxo.watch.as_watcher)
    later = await insert(utxo.watch.as_watcher, 900_000, 3)
    async with utxo.watch.as_watcher.unit_of_work() as uow:
        await known.extend(uow)
    assert known.candidates([*ours, *later]) == sorted([*ours, *later])
    assert known.candidates(["", "6a"]) == []
    strangers = [f"0014{number:040x}" for number in range(1, 20_001)]
    assert len(known.candidates(strangers)) < 200
    async with utxo.watch.as_watcher.unit_of_work() as uow:
        await known.extend(uow)
        rows = await uow.execute("SELECT count(*) FROM chain.addresses WHERE network = 'btc'")
        assert known.count == rows.scalar_one()


async def test_n11_an_address_committed_just_before_the_block_is_matched(
    utxo: UtxoBench,
) -> None:
    """The follower has its filter; then the pool grows, the address is issued and paid."""
    await utxo.watch.follow()
    async with utxo.watch.as_watcher.unit_of_work() as uow:
        row = await uow.execute(
            "INSERT INTO chain.addresses (id, network, role, brand, player_id, account, branch, "
            "address_index, path, key, address, scheme, is_verified, issued_at, created_at) "
            "SELECT gen_random_uuid(), 'btc', 'deposit', 'acme', 'anna', 9, 0, 1, 'm', key, "
            "address, scheme, true, now(), now() FROM (VALUES (CAST(:key AS text), "
            "CAST(:address AS text), 'p2wpkh')) AS v (key, address, scheme) RETURNING key",
            {"key": "0014" + "ab" * 20, "address": "bcrt1q-just-now"},
        )
        key = row.scalar_one()
    async with utxo.watch.as_watcher.unit_of_work() as uow:
        await utxo.watch.follower._known.extend(uow)
    assert utxo.watch.follower._known.candidates([key]) == [key]


async def test_a_lower_number_never_becomes_visible_after_a_higher_one(utxo: UtxoBench) -> None:
    """The second insert waits for the first one's end, so that a reader misses neither."""
    known = AddressFilter("btc")
    async with utxo.watch.as_watcher.unit_of_work() as first:
        slow = await first.execute(_INSERT, {"start": 1_000, "count": 1})
        second = asyncio.create_task(insert(utxo.watch.as_owner, 2_000, 1))
        await utxo_waits(utxo)
        await known.load(utxo.watch.as_watcher)
        assert not second.done()
        keys = list(slow.scalars())
    keys += await second
    await known.load(utxo.watch.as_watcher)
    assert known.candidates(keys) == sorted(keys)


async def test_a_database_that_went_back_in_time_is_read_anew(utxo: UtxoBench) -> None:
    ours = await insert(utxo.watch.as_watcher, 1_000, 10)
    known = AddressFilter("btc")
    await known.load(utxo.watch.as_watcher)
    async with utxo.watch.as_owner.unit_of_work() as uow:
        await uow.execute("DELETE FROM chain.addresses WHERE account = 7")
        await uow.execute(
            "SELECT setval(pg_get_serial_sequence('chain.addresses', 'number'), "
            "(SELECT max(number) FROM chain.addresses))"
        )
    others = await insert(utxo.watch.as_watcher, 5_000, 10)
    async with utxo.watch.as_watcher.unit_of_work() as uow:
        await known.extend(uow)
        found = await addresses.by_keys(uow, network="btc", keys=known.candidates(others + ours))
    assert sorted(found) == sorted(others)
    assert all(isinstance(row.id, UUID) for row in found.values())


async def utxo_waits(utxo: UtxoBench) -> None:
    """Until another connection waits for an advisory lock."""
    async with asyncio.timeout(20):
        while True:
            async with utxo.watch.as_api.unit_of_work() as uow:
                waiting = await uow.execute(
                    "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND NOT granted"
                )
                if waiting.scalar_one():
                    return
