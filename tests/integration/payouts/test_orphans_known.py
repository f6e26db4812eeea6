"""Which orphaned deposits pause a payout: told by their ids, never by comparing two clocks."""

from datetime import datetime

import pytest

from tests.support.clock import ManualClock
from tests.support.payouts import Payouts

pytestmark = pytest.mark.postgres


async def orphan(btc: Payouts, player_id: str, *, at: datetime, state: str = "orphaned") -> None:
    """What the watcher writes under the player's lock, with the moment that its clock showed."""
    async with btc.database.unit_of_work() as uow:
        await uow.execute(
            "UPDATE chain.deposits SET prior_state = state, state = :state, state_at = :at,"
            " version = version + 1 WHERE player_id = :player_id",
            {"at": at, "player_id": player_id, "state": state},
        )


async def test_a_deposit_orphaned_after_acceptance_pauses_whatever_the_clocks_say(
    btc: Payouts, clock: ManualClock
) -> None:
    """The watcher read its clock, then waited for the player's lock while the order was taken."""
    await btc.fund(btc.native, "1")
    await btc.fund(btc.native, "3", into="acme")
    await btc.deposit("p-1", "0.4")
    earlier = clock.now()
    clock.advance(1.0)
    row = await btc.request("0.3", player_id="p-1")
    await orphan(btc, "p-1", at=earlier)

    await btc.cycle()

    found = await btc.row(row)
    assert (found.state, found.code) == ("on_hold", "deposit_orphaned")
    assert not btc.signer.asked


async def test_a_deposit_reversed_after_acceptance_leaves_it_to_staff_whatever_the_clocks_say(
    btc: Payouts, clock: ManualClock
) -> None:
    await btc.fund(btc.native, "1")
    await btc.fund(btc.native, "3", into="acme")
    await btc.deposit("p-1", "0.4")
    earlier = clock.now()
    clock.advance(1.0)
    row = await btc.request("0.3", player_id="p-1")
    await orphan(btc, "p-1", at=earlier)
    lane = await btc.cycle()
    await orphan(btc, "p-1", at=earlier, state="reversed")

    await btc.cycle(lane)

    assert await btc.states(row) == ["on_hold"]
    assert "deposit_reversed" in await btc.alarms()


async def test_a_deposit_that_was_lost_at_acceptance_is_no_news(
    btc: Payouts, clock: ManualClock
) -> None:
    """The rules of acceptance counted it already; the watcher's clock runs an hour ahead."""
    await btc.fund(btc.native, "1")
    await btc.fund(btc.native, "3", into="acme")
    await btc.deposit("p-1", "0.4")
    async with btc.database.unit_of_work() as uow:
        [deposit_id] = (await uow.execute("SELECT id FROM chain.deposits")).scalars()
    ahead = clock.now().replace(hour=23)
    await orphan(btc, "p-1", at=ahead)
    await orphan(btc, "p-1", at=ahead, state="reversed")

    row = await btc.request("0.3", player_id="p-1")
    await btc.cycle()

    assert row.orphaned_known == (deposit_id,)
    assert await btc.states(row) == ["sent"]
