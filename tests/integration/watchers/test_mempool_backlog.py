"""The backlog of unconfirmed txs: told twice, refused by the database, or lost with a commit."""

from collections.abc import Sequence
from dataclasses import replace

import pytest
from sqlalchemy.exc import DBAPIError

from config.clock import SystemClock
from tests.integration.watchers.conftest import UtxoBench
from tests.support.pools import View, agreed
from tests.support.simchain import SimUtxoReader, utxo_chain
from watchers.chain import MempoolTx
from watchers.deposit_mempool import FAILURES_MAX, TXS_PER_LOOK, MempoolMemory
from watchers.follower import Follower
from watchers.loops import look_beside
from watchers.polling import MempoolPace

pytestmark = pytest.mark.postgres

HALF = 50_000_000
TOO_MUCH = 10**80  # no column holds it
ABSENCE_BLOCKS = 5


class DatabaseAway(Exception):
    """The database went away before the commit."""


class Poisoned(SimUtxoReader):
    """A node that tells of one tx what no row can hold."""

    poisoned = ""

    async def mempool(self) -> Sequence[MempoolTx]:
        return [
            replace(tx, transfers=tuple(replace(t, amount_minor=TOO_MUCH) for t in tx.transfers))
            if tx.txid == self.poisoned
            else tx
            for tx in await super().mempool()
        ]


async def look(utxo: UtxoBench, follower: Follower) -> None:
    """One look at mempool and absence."""
    position = await utxo.watch.position(follower)
    await look_beside(follower, position, pace=MempoolPace(), clock=utxo.watch.clock)


async def test_d29_a_tx_that_two_nodes_tell_in_one_batch_is_one_deposit(utxo: UtxoBench) -> None:
    """The commit of the first look fails, and the second node tells the tx before the next one."""
    views = [View(utxo.sim), View(utxo.sim)]
    chain = agreed(utxo.sim, views, quorum=2, clock=SystemClock())
    is_away = [True]

    def crash(point: str) -> None:
        if point == "mempool.before_commit" and is_away[0]:
            raise DatabaseAway

    follower = utxo.watch.new_follower("pool", chain=chain, crash=crash)
    anna = await utxo.watch.address("anna")
    await utxo.watch.follow(follower)
    txid = utxo.sim.pay([(anna.address, HALF)])
    views[1]._reported.add(txid)
    with pytest.raises(DatabaseAway):
        await look(utxo, follower)
    assert await utxo.watch.deposits() == []
    is_away[0] = False
    views[1]._reported.discard(txid)
    await look(utxo, follower)
    await chain.close()
    assert (await utxo.watch.deposit()).state == "detected"
    assert follower._mempool.waiting == 0


async def test_d29_a_tx_that_waits_behind_a_flood_and_is_told_again_is_one_deposit(
    utxo: UtxoBench,
) -> None:
    """One node tells it while others are handled, the second one while it waits."""
    anna = await utxo.watch.address("anna")
    await utxo.watch.follow()
    views = [View(utxo.sim), View(utxo.sim)]
    chain = agreed(utxo.sim, views, quorum=2, clock=SystemClock())
    follower = utxo.watch.new_follower("first", chain=chain)
    utxo.sim.flood(2 * TXS_PER_LOOK)
    await look(utxo, follower)
    assert follower._mempool.waiting == TXS_PER_LOOK
    txid = utxo.sim.pay([(anna.address, HALF)])
    views[1]._reported.add(txid)
    await look(utxo, follower)
    assert [item.txid for item in follower._mempool.batch()] == [txid]
    views[1]._reported.discard(txid)
    await look(utxo, follower)
    await chain.close()
    assert (await utxo.watch.deposit()).state == "detected"
    assert follower._mempool.waiting == 0


async def test_d29_a_tx_that_no_row_can_hold_is_left_to_its_block_and_told(
    utxo: UtxoBench,
) -> None:
    """Its neighbours are recorded, what is absent is reversed meanwhile, and the alarm stands."""
    watch, sim = utxo.watch, utxo.sim
    anna = await watch.address("anna")
    gone = sim.pay([(anna.address, HALF)])
    sim.mine(1)
    await watch.follow()
    sim.rewind(1)
    sim.drop(gone)
    for _ in range(ABSENCE_BLOCKS + 1):
        sim.mine_exactly([])
    reader = Poisoned(sim)
    follower = watch.new_follower("first", chain=utxo_chain(sim, reader=reader))
    while await follower.follow(await watch.position(follower)):
        pass
    bert = await watch.address("bert")
    for amount in range(1, 4):
        sim.pay([(bert.address, HALF + amount)])
    reader.poisoned = sim.pay([(bert.address, HALF + 4)])
    for amount in range(5, 9):
        sim.pay([(bert.address, HALF + amount)])
    with pytest.raises(DBAPIError):
        await look(utxo, follower)
    states = {item.amount_minor - HALF: item.state.value for item in await watch.deposits()}
    assert states == {0: "reversed"}
    failures = 0
    for _ in range(40):
        try:
            await look(utxo, follower)
        except DBAPIError:
            failures += 1
    assert failures < 10
    assert follower._mempool.waiting == 0
    told = {item.amount_minor - HALF for item in await watch.deposits()}
    assert told == {0, 1, 2, 3, 5, 6, 7, 8}
    async with watch.as_owner.unit_of_work() as uow:
        alarms = await uow.execute(
            "SELECT detail FROM gateway.alarms WHERE kind = 'mempool_tx_failed'"
        )
        assert reader.poisoned in alarms.scalar_one()
    sim.mine(1)
    await watch.follow()
    assert {item.amount_minor - HALF for item in await watch.deposits()} == set(range(9))


def tx(txid: str) -> MempoolTx:
    """An unconfirmed tx that pays nobody."""
    return MempoolTx(txid=txid, transfers=(), spends=())


def test_d29_a_batch_that_fails_is_halved_until_the_one_tx_that_fails_is_alone() -> None:
    memory = MempoolMemory()
    memory.add([tx(str(n)) for n in range(64)])
    handled: list[str] = []
    sizes: list[int] = []
    while memory.waiting:
        if (stuck := memory.stuck) is not None:
            memory.leave(stuck)
            assert stuck.txid == "37"
            continue
        batch = memory.batch()
        sizes.append(len(batch))
        if any(item.txid == "37" for item in batch):
            memory.failed(batch)
        else:
            memory.done(batch)
            handled.extend(item.txid for item in batch)
    assert handled == [str(n) for n in range(64) if n != 37]
    assert len(sizes) < 40
    assert sizes.count(1) >= FAILURES_MAX


def test_d29_a_tx_that_is_told_again_waits_once() -> None:
    memory = MempoolMemory()
    memory.add([tx("a"), tx("b")])
    memory.add([tx("b"), tx("a"), tx("c")])
    assert [item.txid for item in memory.batch()] == ["a", "b", "c"]
