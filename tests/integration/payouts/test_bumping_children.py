"""CPFP: where nothing replaces, or something of ours hangs on the stuck tx, a child lifts it."""

import pytest

from tests.support.bumps import (
    KVB,
    Sent,
    funded,
    no_breaks,
    pass_blocks,
    quote,
    run_to_rest,
    sent,
    work,
)
from tests.support.payouts import Payouts

pytestmark = pytest.mark.postgres

FINAL_BLOCKS = 15  # the full tier of a tx without payments
CHEAP = {2: 2 * KVB, 6: 2 * KVB, 36: 2 * KVB}
DEAR = {2: 20 * KVB, 6: 20 * KVB, 36: 20 * KVB}
DEARER = {2: 40 * KVB, 6: 40 * KVB, 36: 40 * KVB}


def by_purpose(txs: list[Sent], purpose: str) -> list[Sent]:
    return [tx for tx in txs if tx.purpose == purpose]


async def fees_of_brands(house: Payouts) -> dict[str | None, int]:
    """What stands as network fee, by brand."""
    async with house.database.unit_of_work() as uow:
        result = await uow.execute(
            "SELECT e.brand_tag, sum(CASE e.side WHEN 'debit' THEN e.amount ELSE -e.amount END) "
            "AS amount FROM ledger.entries e JOIN ledger.accounts a ON a.id = e.account_id "
            "WHERE a.kind = 'network_fee' GROUP BY e.brand_tag"
        )
        return {row.brand_tag: int(row.amount) for row in result if row.amount}


async def test_p19_ltc_is_lifted_by_a_child_and_its_fee_is_booked(ltc: Payouts) -> None:
    """Litecoin does not replace: CPFP only. Two brands share the child's fee."""
    await funded(ltc)
    await ltc.fund("ltc:LTC", "1", into="bravo")
    await quote(ltc, CHEAP)
    rows = [
        await ltc.request("0.25"),
        await ltc.request("0.3"),
        await ltc.request("0.2", brand="bravo"),
    ]
    lane = await work(ltc)
    await quote(ltc, DEAR)
    await pass_blocks(ltc)

    await work(ltc, lane)

    [parent] = by_purpose(await sent(ltc), "withdrawal")
    [child] = by_purpose(await sent(ltc), "cpfp")
    assert child.pays_for_id == parent.id
    assert set(ltc.sim.pool) == {parent.txid, child.txid}
    assert await ltc.states(*rows) == ["sent"] * 3
    assert {(await ltc.row(row)).txid for row in rows} == {parent.txid}
    await run_to_rest(ltc, lane, blocks=FINAL_BLOCKS)
    assert await ltc.states(*rows) == ["completed"] * 3
    assert [ltc.paid(row) for row in rows] == [1, 1, 1]
    assert [tx.state for tx in await sent(ltc)] == ["final", "final"]
    booked = await fees_of_brands(ltc)
    assert sum(booked.values()) == parent.fee_minor + child.fee_minor
    assert booked["acme"] > booked["bravo"] > 0
    await no_breaks(ltc)
    await ltc.assert_at_rest()


async def test_p19_a_stuck_child_gets_a_child_of_its_own_on_ltc(ltc: Payouts) -> None:
    await funded(ltc)
    await quote(ltc, CHEAP)
    row = await ltc.request("0.25")
    lane = await work(ltc)
    await quote(ltc, DEAR)
    await pass_blocks(ltc)
    await work(ltc, lane)
    await quote(ltc, DEARER)
    await pass_blocks(ltc)

    await work(ltc, lane)

    children = by_purpose(await sent(ltc), "cpfp")
    assert len(children) == 2
    assert len({child.family_id for child in children}) == 2
    assert len(ltc.sim.pool) == 3
    await run_to_rest(ltc, lane, blocks=FINAL_BLOCKS)
    assert await ltc.states(row) == ["completed"]
    await no_breaks(ltc)
    await ltc.assert_at_rest()


async def test_p19_with_a_payout_on_its_change_a_child_pays_and_is_replaced_itself(
    btc: Payouts,
) -> None:
    """BTC: nothing under a later payout is replaced; the child at the end of the package is."""
    await btc.fund("btc:BTC", "0.01")
    await btc.fund("btc:BTC", "2", into="acme")
    await quote(btc, CHEAP)
    rows = [await btc.request("1.5")]  # the one large coin: what comes next hangs on its change
    lane = await work(btc)
    rows.append(await btc.request("0.05", fee_class="economy"))
    await work(btc, lane)
    assert await btc.states(*rows) == ["sent", "sent"]
    await quote(btc, DEAR | {36: 2 * KVB})  # only the first one is short of its promise
    await pass_blocks(btc)

    await work(btc, lane)
    first = await sent(btc)
    await quote(btc, DEARER | {36: 2 * KVB})
    await pass_blocks(btc)
    await work(btc, lane)

    assert [tx.purpose for tx in first] == ["withdrawal", "withdrawal", "cpfp"]
    assert first[2].pays_for_id == first[0].id
    children = by_purpose(await sent(btc), "cpfp")
    assert [child.replaces_id for child in children] == [None, children[0].id]
    await run_to_rest(btc, lane, blocks=FINAL_BLOCKS)
    assert await btc.states(*rows) == ["completed", "completed"]
    assert [btc.paid(row) for row in rows] == [1, 1]
    await no_breaks(btc)
    await btc.assert_at_rest()


async def test_p24_the_fee_of_a_child_is_taken_back_and_booked_again(ltc: Payouts) -> None:
    await funded(ltc)
    await quote(ltc, CHEAP)
    row = await ltc.request("0.25")
    lane = await work(ltc)
    await quote(ltc, DEAR)
    await pass_blocks(ltc)
    await work(ltc, lane)
    await run_to_rest(ltc, lane, blocks=FINAL_BLOCKS)
    fees = sum(tx.fee_minor for tx in await sent(ltc))
    assert sum((await fees_of_brands(ltc)).values()) == fees

    depth = FINAL_BLOCKS
    ltc.sim.rewind(depth)
    for _ in range(depth + 1):
        ltc.sim.mine_exactly([])
    await ltc.follow()
    await work(ltc, lane, times=2)

    assert await fees_of_brands(ltc) == {}
    assert await ltc.states(row) == ["sent"]
    await run_to_rest(ltc, lane, blocks=FINAL_BLOCKS)
    assert await ltc.states(row) == ["completed"]
    assert sum((await fees_of_brands(ltc)).values()) == fees
    await no_breaks(ltc)
    await ltc.assert_at_rest()


async def test_p25_the_last_payout_of_a_chain_is_replaced_and_lifts_the_one_below(
    btc: Payouts,
) -> None:
    """Both are short: the upper one pays for the package, which a miner takes as one."""
    await btc.fund("btc:BTC", "0.01")
    await btc.fund("btc:BTC", "2", into="acme")
    await quote(btc, CHEAP)
    rows = [await btc.request("1.5")]
    lane = await work(btc)
    rows.append(await btc.request("0.05"))
    await work(btc, lane)
    await quote(btc, DEAR)
    await pass_blocks(btc)

    await work(btc, lane)

    below, _, above = await sent(btc)
    assert (above.purpose, above.replaces_id is None) == ("withdrawal", False)
    assert below.fee_minor + above.fee_minor >= 20 * 141 * 2  # 141 vB each, 20 sat/vB together
    await run_to_rest(btc, lane)
    assert await btc.states(*rows) == ["completed", "completed"]
    await no_breaks(btc)
    await btc.assert_at_rest()
