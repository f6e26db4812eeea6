"""Refills that end otherwise than a pass thought: a reorganisation, a person who takes one back."""

import asyncio

import pytest

from gateway.payouts import rebalances, rebalances_store
from gateway.payouts.rebalances import State
from gateway.payouts.refill_step import FAILED
from tests.integration.payouts.test_refills import COIN, FINAL_BLOCKS, ready, rival
from tests.support.bumps import work
from tests.support.cold import ALONE
from tests.support.payouts import Payouts
from tests.support.refills import ColdHouse
from tests.support.waiting import until_it_waits

pytestmark = pytest.mark.postgres


async def test_d05_a_done_refill_that_loses_to_another_tx_while_payouts_are_down_has_failed(
    btc: Payouts,
) -> None:
    """Its block leaves, and the owners' other tx is final before anybody looks again."""
    cold, row = await ready(btc)
    raw, txid = rival(cold, (await cold.tx(row)).unsigned)
    signed = await cold.sign(row)
    lane = await work(btc, times=2)
    for _ in range(FINAL_BLOCKS):
        await btc.mine()
        await work(btc, lane)
    assert (await cold.now(row)).state == State.DONE
    btc.is_compared = False
    await btc.world.lose(FINAL_BLOCKS)
    btc.sim.pool.pop(signed.txid or "")
    btc.sim.pool[txid] = raw
    await btc.mine(FINAL_BLOCKS + 1)
    assert (await cold.tx(row)).state == "replaced"

    await work(btc, lane, times=2)

    found = await cold.now(row)
    assert (found.state, found.code) == (State.FAILED, "coins_spent")
    assert FAILED in await btc.alarms()
    assert (await cold.custody())["hot"] == 2 * COIN
    await work(btc, lane, times=2)
    assert (await cold.now(row)).version == found.version


async def test_a_refill_taken_back_while_a_pass_looks_at_it_calls_nobody(btc: Payouts) -> None:
    """The lane found it approved, and waits for its row while a person takes it back."""
    cold = await ColdHouse.of(btc, ALONE)
    row = await cold.asked("0.7")
    async with btc.database.unit_of_work() as uow:
        locked = await rebalances_store.get(uow, row.id, lock=True)
        assert locked is not None
        looking = asyncio.create_task(btc.cycle())
        await until_it_waits(btc.database)
        await rebalances.decline(
            uow, locked, person="alice", reason="not now", ids=btc.ids, at=btc.clock.now()
        )
    await looking
    found = await cold.now(row)
    assert (found.state, found.attempt_id) == (State.CANCELLED, None)
    assert await btc.alarms() == []
