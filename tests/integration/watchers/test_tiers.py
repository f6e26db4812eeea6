"""Confirmation tiers: a receiver waits for the sum that one tx pays him, not for each output."""

import pytest

from tests.integration.watchers.conftest import AccountBench, UtxoBench
from watchers import addresses

pytestmark = pytest.mark.postgres

SLICE = 5_000_000  # satoshi: alone min 1, full 2; 40 of them are 2 coins: min 2, full 6
SLICES = 40
HALF = 50_000_000


async def test_d75_one_tx_split_into_many_outputs_waits_as_long_as_its_sum(
    utxo: UtxoBench,
) -> None:
    """Seen first in a block; neither playable nor withdrawable one confirmation early."""
    anna = await utxo.watch.address("anna")
    utxo.sim.pay([(anna.address, SLICE)] * SLICES)
    utxo.sim.mine(1)
    await utxo.watch.follow()
    assert await utxo.watch.books() == {}
    utxo.sim.mine(4)
    await utxo.watch.follow()
    assert {(row.state, row.min_depth, row.full_depth) for row in await utxo.watch.deposits()} == {
        ("provisional", 2, 6)
    }
    utxo.sim.mine(1)
    await utxo.watch.follow()
    assert {row.state for row in await utxo.watch.deposits()} == {"final"}
    await utxo.watch.audit()


async def test_d75_the_sum_counts_for_what_the_mempool_showed_first(utxo: UtxoBench) -> None:
    anna = await utxo.watch.address("anna")
    utxo.sim.pay([(anna.address, SLICE)] * SLICES)
    await utxo.watch.follow()
    utxo.sim.mine(5)
    await utxo.watch.follow()
    assert {(row.state, row.full_depth) for row in await utxo.watch.deposits()} == {
        ("provisional", 6)
    }


async def test_d75_the_sum_is_over_every_address_of_the_player(utxo: UtxoBench) -> None:
    old = await utxo.watch.address("anna")
    async with utxo.watch.as_api.unit_of_work(brand="acme") as uow:
        new = await addresses.rotate(
            uow, address_id=old.id, brand="acme", at=utxo.watch.clock.now()
        )
    utxo.sim.pay([(old.address, 2 * HALF), (new.address, 2 * HALF)])
    utxo.sim.mine(1)
    await utxo.watch.follow()
    assert {row.full_depth for row in await utxo.watch.deposits()} == {6}


async def test_d75_other_players_of_the_same_tx_do_not_wait_for_each_other(
    utxo: UtxoBench,
) -> None:
    anna = await utxo.watch.address("anna")
    bert = await utxo.watch.address("bert")
    utxo.sim.pay([(anna.address, SLICE), (bert.address, 4 * HALF)])
    utxo.sim.mine(1)
    await utxo.watch.follow()
    assert [row.full_depth for row in await utxo.watch.deposits()] == [2, 6]


async def test_d75_coins_of_a_split_tx_are_not_spent_before_it_is_final(utxo: UtxoBench) -> None:
    anna = await utxo.watch.address("anna")
    utxo.sim.pay([(anna.address, SLICE)] * SLICES)
    (block,) = utxo.sim.mine(1)
    await utxo.watch.follow()
    async with utxo.watch.as_watcher.unit_of_work() as uow:
        found = await uow.execute(
            "SELECT DISTINCT spendable_at_height - height + 1 FROM chain.coins "
            "WHERE block_hash = :hash",
            {"hash": block},
        )
        assert found.scalars().all() == [6]


async def test_transfers_of_two_blocks_keep_their_own_tiers(account: AccountBench) -> None:
    anna = await account.watch.address("anna")
    for amount in (5 * 10**17, 6 * 10**17):
        account.sim.pay("eth:ETH", anna.address, amount)
        account.sim.mine(1)
    await account.watch.follow()
    assert [row.full_depth for row in await account.watch.deposits()] == [12, 12]


async def test_d75_many_txs_of_one_block_wait_as_long_as_their_sum(account: AccountBench) -> None:
    """Seen apart in the mempool, each of a low tier; the block that has both sums them."""
    anna = await account.watch.address("anna")
    bert = await account.watch.address("bert")
    account.sim.pay("eth:ETH", anna.address, 5 * 10**17)
    account.sim.pay("eth:ETH", anna.address, 6 * 10**17)
    account.sim.pay("eth:ETH", bert.address, 7 * 10**17)
    await account.watch.follow()
    assert [row.full_depth for row in await account.watch.deposits()] == [12, 12, 12]
    account.sim.mine(1)
    await account.watch.follow()
    assert [row.full_depth for row in await account.watch.deposits()] == [32, 32, 12]
