"""A rescan that people end: what it found stays, what it was at is given up."""

import pytest
from sqlalchemy.exc import DBAPIError

from tests.integration.watchers.conftest import UtxoBench
from tests.integration.watchers.test_rescans import HALF, NoBlock, ask, missed, work_off
from tests.integration.watchers.test_switch_reorg import open_alarms
from tests.support.simchain import SimUtxoReader, utxo_chain
from tests.support.watching import Watch
from watchers import rescans
from watchers.chain import Block
from watchers.rescans import RescanRow, RescanState

pytestmark = pytest.mark.postgres


class CancelsAt(SimUtxoReader):
    """A person ends every rescan while the block of this height is fetched."""

    watch: Watch
    height: int

    async def block(self, block_hash: str) -> Block:
        found = await super().block(block_hash)
        if found.ref.height == self.height:
            await cancel_all(self.watch)
        return found


async def cancel_all(watch: Watch) -> list[RescanRow]:
    """What the API does."""
    async with watch.as_api.unit_of_work() as uow:
        running = await rescans.running(uow, network=watch.network.name)
        ended = [
            await rescans.cancel(
                uow,
                rescan_id=row.id,
                network=watch.network.name,
                cancelled_by="grace",
                reason="the wrong range",
                at=watch.clock.now(),
            )
            for row in running
        ]
    return [row for row in ended if row is not None]


async def test_d11_a_cancelled_rescan_keeps_what_it_found_and_goes_no_further(
    utxo: UtxoBench,
) -> None:
    """Two deposits 40 blocks apart; the first is found before a person ends it."""
    watch = utxo.watch
    await missed(utxo, blocks=40)
    anna = await watch.address("anna")
    await ask(watch)
    while not await watch.deposits():
        await watch.follower.rescan(await watch.position())
    (ended,) = await cancel_all(watch)
    assert (ended.state, ended.cancelled_by, ended.found) == (RescanState.CANCELLED, "grace", 1)
    assert await work_off(watch) == ended
    assert await cancel_all(watch) == []
    assert (await watch.deposit()).state == "final"
    utxo.sim.pay([(anna.address, HALF + 1)])
    utxo.sim.mine(3)
    await watch.follow()
    assert await watch.deposit_states() == {"final"}
    await watch.audit()


async def test_d11_a_rescan_cancelled_while_it_fetches_gives_up_that_piece_alone(
    utxo: UtxoBench,
) -> None:
    """The watcher keeps its lease; another rescan of the network goes on in the same look."""
    watch = utxo.watch
    await missed(utxo, blocks=40)
    await ask(watch)
    reader = CancelsAt(utxo.sim)
    reader.watch, reader.height = watch, 5
    follower = watch.new_follower("first", chain=utxo_chain(utxo.sim, reader=reader))
    ended = await work_off(watch, follower)
    assert (ended.state, ended.found) == (RescanState.CANCELLED, 0)
    assert await watch.deposits() == []
    await ask(watch)
    assert (await work_off(watch)).found == 1
    await watch.audit()


async def test_d11_cancelling_ends_the_alarm_of_a_rescan_that_waits(utxo: UtxoBench) -> None:
    watch = utxo.watch
    await missed(utxo, blocks=10)
    await ask(watch)
    follower = watch.new_follower("first", chain=utxo_chain(utxo.sim, reader=NoBlock(utxo.sim)))
    await follower.rescan(await watch.position(follower))
    assert await open_alarms(utxo) == {"rescan_waiting"}
    (ended,) = await cancel_all(watch)
    assert ended.waits_for is None
    assert await open_alarms(utxo) == set()
    await follower.rescan(await watch.position(follower))
    assert await open_alarms(utxo) == set()


@pytest.mark.parametrize(
    "forged",
    [
        "state = 'done', finished_at = now()",
        "waits_for = 'nothing'",
        "state = 'cancelled', finished_at = now()",
    ],
)
async def test_d11_the_api_can_end_a_rescan_by_a_named_person_and_nothing_else(
    utxo: UtxoBench, forged: str
) -> None:
    await missed(utxo, blocks=10)
    await ask(utxo.watch)
    with pytest.raises(DBAPIError, match=r"row-level security|check constraint"):
        async with utxo.watch.as_api.unit_of_work() as uow:
            await uow.execute(f"UPDATE chain.rescans SET {forged}")
