"""Books against chain at a block: what is explained is no break, what is not is one."""

from typing import Any

import pytest

from ledger import journal
from ledger.accounts import capital, custody
from ledger.journal import Posting, credit, debit
from tests.integration.watchers.conftest import UtxoBench
from watchers import address_store, reconcile_chain, store
from watchers.follower import LEASE_SECONDS

pytestmark = pytest.mark.postgres

HALF = 50_000_000
CUSTODY = "custody:btc/hot:btc:BTC"


async def test_a_deposit_that_is_mined_and_not_posted_explains_the_difference(
    utxo: UtxoBench,
) -> None:
    anna = await utxo.watch.address("anna")
    utxo.sim.pay([(anna.address, 4 * HALF)])
    utxo.sim.mine()
    await utxo.watch.follow()
    held = await reconcile_chain.holdings_at(
        utxo.watch.as_watcher, utxo.watch.chain, utxo.watch.network
    )
    assert (held.chain, held.books) == ({CUSTODY: 4 * HALF}, {})
    assert held.unposted == {CUSTODY: 4 * HALF}
    assert held.breaks == {}


async def test_books_that_claim_more_than_the_chain_holds_are_a_break(utxo: UtxoBench) -> None:
    anna = await utxo.watch.address("anna")
    utxo.sim.pay([(anna.address, HALF)])
    utxo.sim.mine(3)
    await utxo.watch.follow()
    posting = Posting(
        reference="wrong:1",
        kind="test",
        entries=(
            debit(custody("btc", "hot", "btc:BTC"), 7),
            credit(capital("btc:BTC"), 7),
        ),
    )
    async with utxo.watch.as_watcher.unit_of_work() as uow:
        await journal.post(
            uow, posting, posting_id=utxo.watch.ids.new_id(), at=utxo.watch.clock.now()
        )
    held = await reconcile_chain.holdings_at(
        utxo.watch.as_watcher, utxo.watch.chain, utxo.watch.network
    )
    assert held.breaks == {CUSTODY: -7}


async def test_the_effect_of_an_orphaned_block_is_not_in_the_book_of_the_new_chain(
    utxo: UtxoBench,
) -> None:
    anna = await utxo.watch.address("anna")
    utxo.sim.pay([(anna.address, HALF)])
    utxo.sim.mine(1)
    await utxo.watch.follow()
    utxo.sim.rewind(1)
    utxo.sim.mine_exactly([])
    await utxo.watch.follow()
    held = await reconcile_chain.holdings_at(
        utxo.watch.as_watcher, utxo.watch.chain, utxo.watch.network
    )
    assert (await utxo.watch.books())[CUSTODY] == HALF
    assert (held.books.get(CUSTODY, 0), held.chain.get(CUSTODY, 0)) == (0, 0)
    assert held.breaks == {}


async def test_a_comparison_and_a_follower_do_not_wait_for_each_other(utxo: UtxoBench) -> None:
    """The cursor's row is locked, as in the middle of a block; the books are read all the same."""
    watch = utxo.watch
    await watch.follow()
    position = await watch.position()
    async with watch.as_watcher.unit_of_work() as uow:
        row = await store.lock_cursor(
            uow, network="btc", fence=position.fence, lease_seconds=LEASE_SECONDS
        )
        assert row is not None
        held = await reconcile_chain.holdings_at(watch.as_watcher, watch.chain, watch.network)
        assert held.height == position.height


async def test_what_the_pool_has_left_is_counted_without_reading_what_was_issued(
    utxo: UtxoBench,
) -> None:
    watch = utxo.watch
    async with watch.as_owner.unit_of_work() as uow:
        await uow.execute(
            "INSERT INTO chain.addresses (id, network, role, brand, player_id, account, branch, "
            "address_index, path, key, address, scheme, is_verified, issued_at, created_at) "
            "SELECT gen_random_uuid(), 'btc', 'deposit', 'acme', 'p' || i, 1, 0, i, 'm/' || i, "
            "'k' || i, 'a' || i, 'p2wpkh', true, now(), now() FROM generate_series(1000, 9000) i"
        )
    branch: dict[str, Any] = {"network": "btc", "account": 1, "branch": 0}
    async with watch.as_owner.unit_of_work() as uow:
        await uow.execute("ANALYZE chain.addresses")
        rows = await uow.execute(f"EXPLAIN {address_store.POOL_COUNTS}", {**branch, "limit": 12})
        plan = "\n".join(rows.scalars().all())
    assert "Seq Scan" not in plan
    assert "addresses_unissued" in plan
    async with watch.as_watcher.unit_of_work() as uow:
        assert await address_store.pool_counts(uow, **branch, limit=500) == (12, 9001)
        assert await address_store.pool_counts(uow, **branch, limit=5) == (5, 9001)
