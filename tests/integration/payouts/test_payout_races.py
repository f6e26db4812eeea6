"""A settlement and a reorg at the same moment: one of the two comes first, and the books know."""

import asyncio

import pytest

from gateway.payouts import attempts
from gateway.payouts.settlement import Settlement
from ledger import accounts, balances
from tests.support.payouts import Payouts
from tests.support.waiting import until_it_waits

pytestmark = pytest.mark.postgres


async def test_a_reorg_during_a_settlement_is_seen_and_the_settlement_reversed(
    btc: Payouts,
) -> None:
    """Goal: no interleaving leaves a posting for a block that left the chain. The settlement has
    read its tx as final when the watcher begins to take the block back."""
    await btc.fund("btc:BTC", "1")
    await btc.fund("btc:BTC", "2", into="acme")
    row = await btc.request("0.5")
    lane = await btc.cycle()
    await btc.mine()
    await btc.cycle(lane)
    await btc.mine(3)  # final in the watcher's books, not yet settled
    attempt_id = (await btc.row(row)).attempt_id
    assert attempt_id is not None
    btc.sim.rewind(4)
    for _ in range(5):
        btc.sim.mine_exactly([])

    async with btc.role.unit_of_work() as uow:
        attempt = await attempts.load(uow, attempt_id, lock=True)
        assert attempt.tx.state == "final"
        following = asyncio.create_task(btc.follow())
        await until_it_waits(btc.database)
        await Settlement(lane)._one(uow, attempt_id=attempt_id)
    await following
    assert await btc.states(row) == ["completed"]

    await btc.cycle(lane)
    assert await btc.states(row) == ["sent"]
    assert "withdrawal_reopened" in await btc.alarms()
    in_flight = accounts.player("acme", row.player_id, accounts.Stage.IN_FLIGHT, "btc:BTC")
    async with btc.database.unit_of_work() as uow:
        assert await balances.balance(uow, in_flight) == row.amount_minor

    for _ in range(6):
        await btc.mine()
        await btc.cycle(lane)
    assert await btc.states(row) == ["completed"]
    assert btc.paid(row) == 1
    await btc.assert_at_rest()
