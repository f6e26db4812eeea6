"""P18, P22: concurrent planners never share a nonce or a coin."""

import asyncio
from uuid import UUID

import pytest

from tests.support.payouts import Payouts
from watchers import addresses, coins, nonces, outgoing
from watchers.chain import Outpoint
from watchers.errors import CoinTaken
from watchers.outgoing import OutgoingDraft, PlannedPayment

pytestmark = pytest.mark.postgres


async def test_p18_fifty_concurrent_allocations_give_fifty_consecutive_nonces(
    eth: Payouts,
) -> None:
    async with eth.role.unit_of_work() as uow:
        hot = await addresses.own_address(uow, network="eth", role="hot")

    async def allocate(attempt_id: UUID) -> int:
        async with eth.role.unit_of_work() as uow:
            return await nonces.allocate(
                uow, network="eth", sender_key=hot.key, attempt_id=attempt_id
            )

    found = await asyncio.gather(*(allocate(eth.ids.new_id()) for _ in range(50)))

    assert sorted(found) == list(range(50))


async def test_p22_of_two_batches_on_the_same_coins_one_selects_again(btc: Payouts) -> None:
    await btc.fund("btc:BTC", "1")
    await btc.fund("btc:BTC", "2")
    async with btc.role.unit_of_work() as uow:
        free = await coins.spendable(uow, network="btc", limit=10)
    both = [coin.outpoint for coin in free]

    async def plan(outpoints: list[Outpoint]) -> bool:
        attempt_id = btc.ids.new_id()
        try:
            async with btc.role.unit_of_work() as uow:
                await coins.reserve(uow, attempt_id=attempt_id, outpoints=outpoints)
                await outgoing.record(uow, draft(attempt_id, outpoints), at=btc.clock.now())
        except CoinTaken:
            return False
        return True

    answers = await asyncio.gather(plan(both), plan(both[::-1]), plan(both[:1]), plan(both[1:]))

    async with btc.role.unit_of_work() as uow:
        left = await coins.spendable(uow, network="btc", limit=10)
        taken = await uow.execute(
            "SELECT count(DISTINCT reserved_by) FROM chain.coins WHERE reserved_by IS NOT NULL"
        )
        assert taken.scalar_one() == answers.count(True)
    assert 1 <= answers.count(True) <= 2
    assert not {coin.outpoint for coin in left} & set(both) or answers.count(True) == 1


def draft(attempt_id: UUID, outpoints: list[Outpoint]) -> OutgoingDraft:
    return OutgoingDraft(
        id=attempt_id,
        network="btc",
        purpose="withdrawal",
        family_id=attempt_id,
        unsigned=b"\x01",
        payments=(PlannedPayment(asset="btc:BTC", address="a", key="k", amount_minor=1),),
        fee_cap_minor=1,
        inputs=tuple(outpoints),
    )


async def test_p18_each_of_many_accounts_gets_the_number_that_it_alone_would_get(
    eth: Payouts,
) -> None:
    """One that nobody has, one below which the chain is, one with a number that was given back."""
    new, old, again = "0x" + "aa" * 20, "0x" + "bb" * 20, "0x" + "cc" * 20
    spare, kept, first = (eth.ids.new_id() for _ in range(3))
    async with eth.role.unit_of_work() as uow:
        for attempt_id in (spare, kept):
            await nonces.allocate(uow, network="eth", sender_key=again, attempt_id=attempt_id)
        await nonces.give_back(uow, attempt_id=spare)
        wanted = [(old, 7, eth.ids.new_id()), (again, 0, eth.ids.new_id()), (new, 0, first)]
        assert await nonces.allocate_each(uow, network="eth", wanted=wanted) == [7, 0, 0]
        wanted = [(key, 0, eth.ids.new_id()) for key in (new, old, again)]
        assert await nonces.allocate_each(uow, network="eth", wanted=wanted) == [1, 8, 2]
        for key, expected in ((new, 2), (old, 9), (again, 3)):
            found = await nonces.allocate(
                uow, network="eth", sender_key=key, attempt_id=eth.ids.new_id()
            )
            assert found == expected
        with pytest.raises(ValueError, match="one number of each"):
            await nonces.allocate_each(uow, network="eth", wanted=[wanted[0], wanted[0]])
