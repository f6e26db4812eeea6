"""W3, W10: a payout that pays too little for its time gets a further attempt, and is paid once."""

import pytest

from tests.support.bumps import (
    KVB,
    funded,
    mine_only,
    pass_blocks,
    quote,
    run_to_rest,
    sent,
    txids_told,
    work,
)
from tests.support.payouts import Payouts

pytestmark = pytest.mark.postgres

CHEAP = {2: 2 * KVB, 6: 2 * KVB, 36: 2 * KVB}
DEAR = {2: 20 * KVB, 6: 20 * KVB, 36: 20 * KVB}


async def test_p25_a_stuck_payout_is_replaced_and_paid_once(btc: Payouts) -> None:
    await funded(btc)
    await quote(btc, CHEAP)
    rows = [await btc.request("0.25"), await btc.request("0.3"), await btc.request("0.2")]
    lane = await work(btc)
    first = (await btc.row(rows[0])).txid
    await quote(btc, DEAR)
    await pass_blocks(btc)

    await work(btc, lane)

    assert await btc.states(*rows) == ["sent"] * 3  # all three move together
    [second] = {(await btc.row(row)).txid for row in rows}
    assert second != first
    assert list(btc.sim.pool) == [second]
    for row in rows:
        assert await txids_told(btc, row) == [first, second]
    old, new = await sent(btc)
    assert (new.family_id, new.replaces_id) == (old.family_id, old.id)
    assert new.fee_minor > old.fee_minor
    await run_to_rest(btc, lane)
    assert await btc.states(*rows) == ["completed"] * 3
    assert [btc.paid(row) for row in rows] == [1, 1, 1]
    assert [tx.state for tx in await sent(btc)] == ["replaced", "final"]
    await btc.assert_at_rest()


async def test_p25_nothing_is_bumped_while_fees_are_as_they_were(btc: Payouts) -> None:
    await funded(btc)
    await quote(btc, CHEAP)
    row = await btc.request("0.25")
    lane = await work(btc)
    await pass_blocks(btc)
    await quote(btc, {2: 2_200, 6: 2_190, 36: 2_000})  # within a tenth

    await work(btc, lane, times=2)

    assert len(await sent(btc)) == 1
    assert await btc.states(row) == ["sent"]


async def test_p20_the_original_is_mined_instead_and_settled(btc: Payouts) -> None:
    await funded(btc)
    await quote(btc, CHEAP)
    row = await btc.request("0.25")
    lane = await work(btc)
    first = (await btc.row(row)).txid
    assert first is not None
    original = btc.sim.pool[first]
    await quote(btc, DEAR)
    await pass_blocks(btc)
    await work(btc, lane)
    second = (await btc.row(row)).txid
    assert second != first
    btc.sim.pool = {first: original}  # a miner who never saw the replacement

    await mine_only(btc, first)
    await work(btc, lane, times=2)

    assert await btc.states(row) == ["confirming"]
    assert (await btc.row(row)).txid == first
    assert await txids_told(btc, row) == [first, second]
    old, _ = await sent(btc)
    await run_to_rest(btc, lane)
    assert await btc.states(row) == ["completed"]
    assert btc.paid(row) == 1
    assert [tx.state for tx in await sent(btc)] == ["final", "replaced"]
    assert await fees_booked(btc) == old.fee_minor  # the winner's fee only
    assert await btc.alarms() == []
    await btc.assert_at_rest()


async def test_p21_a_replacement_takes_no_further_payout_with_it(btc: Payouts) -> None:
    """P21: what is ordered beside a stuck batch has a tx of its own, so that nothing hangs on which
    attempt of the batch is mined."""
    await funded(btc, coins=2)
    await quote(btc, CHEAP)
    rows = [await btc.request("0.25"), await btc.request("0.3")]
    lane = await work(btc)
    first = (await btc.row(rows[0])).txid
    assert first is not None
    original = btc.sim.pool[first]
    late = await btc.request("0.2")
    await quote(btc, DEAR)
    await pass_blocks(btc)
    await work(btc, lane, times=2)
    [second] = {(await btc.row(row)).txid for row in rows}
    own = (await btc.row(late)).txid
    assert own is not None
    assert len({first, second, own}) == 3
    btc.sim.pool = {first: original, own: btc.sim.pool[own]}

    await mine_only(btc, first)
    await run_to_rest(btc, lane)

    rows.append(late)
    assert await btc.states(*rows) == ["completed"] * 3
    assert [(await btc.row(row)).txid for row in rows] == [first, first, own]
    assert [btc.paid(row) for row in rows] == [1, 1, 1]
    await btc.assert_at_rest()


async def test_p24_a_reorg_changes_the_winner_and_back(btc: Payouts) -> None:
    """The replacement is completed, its block goes, the original is mined there instead."""
    await funded(btc)
    await quote(btc, CHEAP)
    row = await btc.request("0.25")
    lane = await work(btc)
    first = (await btc.row(row)).txid
    assert first is not None
    original = btc.sim.pool[first]
    await quote(btc, DEAR)
    await pass_blocks(btc)
    await work(btc, lane)
    second = (await btc.row(row)).txid
    await btc.mine(2)
    await work(btc, lane, times=2)
    assert await btc.states(row) == ["completed"]

    btc.sim.rewind(2)
    btc.sim.pool = {first: original}
    for _ in range(3):
        btc.sim.mine()
    await btc.follow()
    await work(btc, lane, times=4)

    assert await btc.states(row) == ["completed"]
    assert (await btc.row(row)).txid == first
    assert await txids_told(btc, row) == [first, second]
    assert btc.paid(row) == 1
    assert await fees_booked(btc) == (await sent(btc))[0].fee_minor
    await btc.assert_at_rest()


async def test_p19_below_the_mempools_minimum_it_is_replaced(btc: Payouts) -> None:
    """Evicted: the mempool wants more than it pays, before any block came."""
    await funded(btc)
    await quote(btc, CHEAP)
    row = await btc.request("0.25")
    lane = await work(btc)
    first = (await btc.row(row)).txid
    assert first is not None
    btc.sim.drop(first)
    await quote(btc, DEAR, floor=10 * KVB)

    await work(btc, lane)

    assert await btc.states(row) == ["sent"]
    assert (await btc.row(row)).txid != first
    await run_to_rest(btc, lane)
    assert btc.paid(row) == 1
    await btc.assert_at_rest()


async def test_p22_change_of_a_bumped_payout_waits_for_its_full_tier(btc: Payouts) -> None:
    """No payout may hang on a tx that may lose to its sibling."""
    await funded(btc, coins=1)
    await quote(btc, CHEAP)
    row = await btc.request("0.25")
    lane = await work(btc)
    await quote(btc, DEAR)
    await pass_blocks(btc)
    await work(btc, lane)
    change = {tx.txid for tx in await sent(btc)}

    other = await btc.request("0.5")
    await work(btc, lane)
    await btc.mine()
    third = await btc.request("0.1")
    await work(btc, lane)

    async with btc.database.unit_of_work() as uow:
        result = await uow.execute(
            "SELECT i.outpoint_txid FROM chain.outgoing_inputs i JOIN gateway.withdrawals w "
            "ON w.attempt_id = i.attempt_id WHERE w.id = ANY(:ids)",
            {"ids": [other.id, third.id]},
        )
        assert not set(result.scalars()) & change
    await run_to_rest(btc, lane, blocks=12)
    assert await btc.states(row, other, third) == ["completed"] * 3
    await btc.assert_at_rest()


async def fees_booked(house: Payouts) -> int:
    """What stands as network fee in the books."""
    async with house.database.unit_of_work() as uow:
        result = await uow.execute(
            "SELECT coalesce(sum(CASE e.side WHEN 'debit' THEN e.amount ELSE -e.amount END), 0) "
            "FROM ledger.entries e JOIN ledger.accounts a ON a.id = e.account_id "
            "WHERE a.kind = 'network_fee'"
        )
        return int(result.scalar_one())


async def test_p25_inputs_are_added_where_the_change_is_too_small(btc: Payouts) -> None:
    await btc.fund("btc:BTC", "0.01")
    await btc.fund("btc:BTC", "2", into="acme")
    await quote(btc, CHEAP)
    row = await btc.request("1.9998")  # leaves 20,000 satoshi less the fee
    lane = await work(btc)
    assert await inputs_of(btc) == [1]
    await quote(btc, {2: 190 * KVB, 6: 190 * KVB, 36: 190 * KVB})
    await pass_blocks(btc)

    await work(btc, lane)

    assert await inputs_of(btc) == [1, 2]
    _, new = await sent(btc)
    assert new.fee_minor >= 190 * 208  # two inputs, two outputs
    await run_to_rest(btc, lane)
    assert await btc.states(row) == ["completed"]
    assert btc.paid(row) == 1
    await btc.assert_at_rest()


async def test_p25_without_free_coins_the_whole_change_goes_to_the_miner(btc: Payouts) -> None:
    await btc.fund("btc:BTC", "0.01")
    await btc.fund("btc:BTC", "2", into="acme")
    await quote(btc, CHEAP)
    rows = [await btc.request("1.9998")]
    lane = await work(btc)
    async with btc.database.unit_of_work() as uow:  # the other coin is not ours to add
        await uow.execute(
            "UPDATE chain.coins SET reserved_by = (SELECT id FROM chain.outgoing) "
            "WHERE amount = 1000000"
        )
    await quote(btc, {2: 190 * KVB, 6: 190 * KVB, 36: 190 * KVB})
    await pass_blocks(btc)

    await work(btc, lane)

    old, new = await sent(btc)
    assert new.fee_minor == 20_000
    assert new.fee_minor > old.fee_minor
    await run_to_rest(btc, lane)
    assert await btc.states(*rows) == ["completed"]
    assert btc.paid(rows[0]) == 1


async def inputs_of(house: Payouts) -> list[int]:
    """How many inputs each attempt has, oldest first."""
    async with house.database.unit_of_work() as uow:
        result = await uow.execute(
            "SELECT count(*) FROM chain.outgoing_inputs i JOIN chain.outgoing o "
            "ON o.id = i.attempt_id GROUP BY o.id, o.family_number ORDER BY o.family_number"
        )
        return [int(count) for count in result.scalars()]
