"""Reversal by absence is counted before it is done, and reaches whoever is due."""

import pytest

from tests.integration.watchers.conftest import UtxoBench
from watchers import switches

pytestmark = pytest.mark.postgres

SMALL = 1_000_000
LIMIT = 20  # `deposits_reversed_per_step_max`


async def pay_and_lose(utxo: UtxoBench, count: int) -> list[str]:
    """`count` final deposits of anna whose blocks left the chain; their txs wait in the pool."""
    anna = await utxo.watch.address("anna")
    txids = [utxo.sim.pay([(anna.address, SMALL + number)]) for number in range(count)]
    utxo.sim.mine(3)
    await utxo.watch.follow()
    utxo.sim.rewind(3)
    return txids


async def alarms(utxo: UtxoBench) -> list[str]:
    async with utxo.watch.as_watcher.unit_of_work() as uow:
        found = await uow.execute("SELECT kind FROM gateway.alarms ORDER BY kind")
        return list(found.scalars())


async def test_more_absent_deposits_than_allowed_in_one_step_wait_for_people(
    utxo: UtxoBench,
) -> None:
    """One above the limit: none is reversed, however often the watcher looks (CONTRACT 4)."""
    for txid in await pay_and_lose(utxo, LIMIT + 1):
        utxo.sim.drop(txid)
    utxo.sim.mine(12)
    for _ in range(3):
        await utxo.watch.follow()
        assert await utxo.watch.deposit_states() == {"orphaned"}
    assert await alarms(utxo) == ["reversals_over_limit", "switch_stopped"]
    async with utxo.watch.as_watcher.unit_of_work() as uow:
        assert await switches.is_stopped(
            uow, network="btc", asset="btc:BTC", action=switches.Action.BUILD
        )
    await utxo.watch.audit()


async def test_what_two_people_granted_is_reversed_once(utxo: UtxoBench) -> None:
    """A grant of too few is not used; one that covers them is, without a further block."""
    for txid in await pay_and_lose(utxo, LIMIT + 1):
        utxo.sim.drop(txid)
    utxo.sim.mine(12)
    await utxo.watch.follow()
    for count, expected in ((LIMIT, "orphaned"), (LIMIT + 1, "reversed")):
        await utxo.watch.grant(switches.GrantKind.REVERSALS, count)
        await utxo.watch.follow()
        assert await utxo.watch.deposit_states() == {expected}
    assert await utxo.watch.books() == {}
    await utxo.watch.audit()


async def test_as_many_absent_deposits_as_allowed_are_reversed_in_one_step(
    utxo: UtxoBench,
) -> None:
    for txid in await pay_and_lose(utxo, LIMIT):
        utxo.sim.drop(txid)
    utxo.sim.mine(12)
    await utxo.watch.follow()
    assert await utxo.watch.deposit_states() == {"reversed"}
    assert await alarms(utxo) == []
    assert await utxo.watch.books() == {}
    await utxo.watch.audit()


async def test_an_absent_deposit_behind_many_that_wait_in_the_mempool_is_reversed(
    utxo: UtxoBench,
) -> None:
    await pay_and_lose(utxo, LIMIT + 5)
    last = max(await utxo.watch.deposits(), key=lambda item: item.id)
    utxo.sim.drop(last.txid)
    for _ in range(12):
        utxo.sim.mine_exactly([])
    await utxo.watch.follow()
    found = {item.id: item.state.value for item in await utxo.watch.deposits()}
    assert found.pop(last.id) == "reversed"
    assert set(found.values()) == {"orphaned"}
    assert await alarms(utxo) == []
    await utxo.watch.audit()
