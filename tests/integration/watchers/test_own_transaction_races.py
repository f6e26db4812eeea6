"""A payout role and a watcher that touch one own transaction at the same moment."""

import asyncio
from collections.abc import Awaitable

import pytest

from config.database import Database, Uow
from ledger.errors import StaleState
from tests.integration.watchers.conftest import AccountBench, UtxoBench
from tests.integration.watchers.test_own_transactions import (
    ETHER,
    HALF,
    OUTSIDE,
    PAYEE,
    AccountPayouts,
    funded,
)
from tests.support.waiting import until_it_waits
from tests.support.watching import Watch
from watchers import outgoing

pytestmark = pytest.mark.postgres


async def follow_beside(watch: Watch) -> Awaitable[object]:
    """Start the watcher; it now waits for a row that the caller's unit of work holds."""
    task = asyncio.create_task(watch.follow())
    await until_it_waits(watch.as_owner)
    return task


async def test_a_block_is_not_lost_to_a_payout_that_moves_the_same_tx(utxo: UtxoBench) -> None:
    """The payout role's `seen` commits between the watcher's read and its write."""
    payouts = await funded(utxo)
    sent = await payouts.pay(OUTSIDE, HALF // 5)
    utxo.sim.mine()
    async with utxo.watch.as_payouts.unit_of_work() as uow:
        await outgoing.mark_seen(uow, attempt_id=sent.id, at=utxo.watch.clock.now())
        following = await follow_beside(utxo.watch)
    await following
    row = await payouts.get(sent.id)
    assert (row.state, row.block_hash) == ("mined", utxo.sim.tip.ref.hash)

    utxo.sim.mine(2)
    await utxo.watch.follow()
    assert (await payouts.get(sent.id)).state == "final"
    await utxo.watch.audit()


async def test_a_conflict_is_not_lost_to_a_payout_that_moves_the_same_tx(
    account: AccountBench,
) -> None:
    payouts = AccountPayouts(account)
    await payouts.fund()
    attempt = await payouts.pay(PAYEE, planned=ETHER // 2, sent=ETHER // 2, nonce=0)
    txid = (await payouts.get(attempt)).txid
    assert txid is not None
    account.sim.drop(txid)
    rival = await payouts.pay(PAYEE, planned=ETHER // 4, sent=ETHER // 4, nonce=0)
    account.sim.mine()
    watch = account.watch
    async with watch.as_payouts.unit_of_work() as uow:
        await outgoing.mark_broadcast(uow, attempt_id=attempt, at=watch.clock.now())
        following = await follow_beside(watch)
    await following
    row = await payouts.get(attempt)
    assert (row.state, row.conflict_txid) == ("broadcast", (await payouts.get(rival)).txid)


async def test_p20_a_replacement_that_is_signed_beside_the_block_of_its_original_loses_to_it(
    account: AccountBench,
) -> None:
    """Payouts holds the family, finds the original unmined and stores the signature; the watcher
    waits for that row with the original's block in hand. One of the two must see the other."""
    payouts = AccountPayouts(account)
    await payouts.fund()
    original = await payouts.pay(PAYEE, planned=ETHER // 2, sent=ETHER // 2, nonce=0)
    newer, raw, txid = await payouts.plan(PAYEE, planned=ETHER // 4, sent=ETHER // 4, nonce=0)
    account.sim.mine()
    watch = account.watch
    async with watch.as_payouts.unit_of_work() as uow:
        held = await outgoing.get(uow, original, is_locked=True)
        assert held is not None
        assert held.height is None
        await outgoing.mark_signed(uow, attempt_id=newer, raw=raw, txid=txid, at=watch.clock.now())
        following = await follow_beside(watch)
    await following
    assert (await payouts.get(original)).state == "mined"
    assert (await payouts.get(newer)).conflict_txid == held.txid


async def test_a_unit_of_work_that_read_something_stale_runs_again_as_a_whole(
    utxo: UtxoBench,
) -> None:
    tries: list[int] = []

    async def work(uow: Uow) -> str:
        tries.append(len(tries))
        if len(tries) < 3:
            raise StaleState("another one moved it")
        return "done"

    database: Database = utxo.watch.as_watcher
    assert await database.run(work) == "done"
    assert tries == [0, 1, 2]


async def test_a_unit_of_work_that_stays_stale_ends_with_its_conflict(utxo: UtxoBench) -> None:
    async def work(uow: Uow) -> None:
        raise StaleState("for ever")

    with pytest.raises(StaleState, match="for ever"):
        await utxo.watch.as_watcher.run(work)


async def test_a_settlement_names_the_block_that_it_posted_or_nothing(utxo: UtxoBench) -> None:
    """The block of the posting left the chain before the mark: the posting must not stand."""
    payouts = await funded(utxo)
    sent = await payouts.pay(OUTSIDE, HALF // 5)
    utxo.sim.mine(3)
    await utxo.watch.follow()
    posted = (await payouts.get(sent.id)).block_hash
    assert posted is not None
    utxo.sim.rewind(3)
    for _ in range(4):
        utxo.sim.mine_exactly([])
    await utxo.watch.follow()

    with pytest.raises(StaleState):
        async with utxo.watch.as_payouts.unit_of_work() as uow:
            await outgoing.mark_settled(uow, attempt_id=sent.id, block_hash=posted)
    assert (await payouts.get(sent.id)).settled_block_hash is None

    utxo.sim.mine(3)
    await utxo.watch.follow()
    with pytest.raises(StaleState):  # final again, in another block
        async with utxo.watch.as_payouts.unit_of_work() as uow:
            await outgoing.mark_settled(uow, attempt_id=sent.id, block_hash=posted)
    assert (await payouts.get(sent.id)).settled_block_hash is None


async def test_a_reorg_waits_for_the_settlement_that_reads_its_tx(utxo: UtxoBench) -> None:
    """Then the settled block is found to have left the chain, and the settlement is reversed."""
    payouts = await funded(utxo)
    sent = await payouts.pay(OUTSIDE, HALF // 5)
    utxo.sim.mine(3)
    await utxo.watch.follow()
    async with utxo.watch.as_payouts.unit_of_work() as uow:
        row = await outgoing.get(uow, sent.id, is_locked=True)
        assert row is not None
        assert row.block_hash is not None
        utxo.sim.rewind(3)
        for _ in range(4):
            utxo.sim.mine_exactly([])
        following = await follow_beside(utxo.watch)
        await outgoing.mark_settled(uow, attempt_id=sent.id, block_hash=row.block_hash)
    await following
    assert (await payouts.get(sent.id)).state == "seen"
    async with utxo.watch.as_payouts.unit_of_work() as uow:
        (found,) = await outgoing.settled_elsewhere(uow, network="btc", limit=9)
    assert (found.id, found.settled_block_hash) == (sent.id, row.block_hash)
