"""W3: what nodes answer to a payout and its bump; only the chain decides, and it is paid once."""

import pytest

from gateway.leases import hold
from gateway.payouts.lane import PayoutLane
from gateway.withdrawals_store import WithdrawalRow
from tests.support.bumps import (
    KVB,
    funded,
    mine_only,
    no_breaks,
    pass_blocks,
    quote,
    run_to_rest,
    sent,
    work,
)
from tests.support.payouts import Payouts
from tests.support.simchain import SimUtxo, SimUtxoWriter, utxo_chain
from watchers.chain import SendOutcome, SendResult

pytestmark = pytest.mark.postgres


class Picky(SimUtxoWriter):
    """Refuses some txs by their place in the order of sending; takes all others."""

    def __init__(
        self,
        world: SimUtxo,
        refused: set[int],
        answer: SendOutcome = SendOutcome.FEE_TOO_LOW,
    ) -> None:
        super().__init__(world)
        self.refused = refused
        self.answer = answer
        self.seen: list[bytes] = []

    async def send(self, raw: bytes) -> SendResult:
        if raw not in self.seen:
            self.seen.append(raw)
        if self.seen.index(raw) in self.refused:
            return SendResult(outcome=self.answer, detail="refused")
        return await super().send(raw)


def utxo(house: Payouts) -> SimUtxo:
    if not isinstance(house.sim, SimUtxo):
        raise TypeError("a UTXO world is required")
    return house.sim


async def cheap(house: Payouts) -> WithdrawalRow:
    await funded(house)
    await quote(house, {2: 2 * KVB, 6: 2 * KVB, 36: 2 * KVB})
    return await house.request("0.25")


async def test_p25_a_payout_refused_for_its_fee_is_replaced_at_once(btc: Payouts) -> None:
    """The estimator says that it pays enough; the node says that it does not."""
    row = await cheap(btc)
    writer = Picky(utxo(btc), {0})

    lane = await work(btc, btc.lane(chain=utxo_chain(utxo(btc), writer=writer)), times=2)

    assert await btc.states(row) == ["sent"]
    old, new = await sent(btc)
    assert new.fee_minor >= old.fee_minor * 5 // 4
    assert (await btc.row(row)).txid == new.txid
    assert await btc.alarms() == []
    await run_to_rest(btc, lane)
    assert await btc.states(row) == ["completed"]
    assert btc.paid(row) == 1
    await btc.assert_at_rest()


async def test_p32_a_payout_that_hangs_on_too_much_is_sent_again_and_never_bumped(
    btc: Payouts,
) -> None:
    """Neither at once, nor when its target passed, nor when rates rise: no fee makes room."""
    row = await cheap(btc)
    writer = Picky(utxo(btc), {0}, SendOutcome.CHAIN_FULL)
    lane = await work(btc, btc.lane(chain=utxo_chain(utxo(btc), writer=writer)))
    assert await btc.states(row) == ["broadcasting"]
    assert await btc.alarms() == ["payout_chain_full"]
    for _ in range(8):
        btc.clock.advance(60)
        await pass_blocks(btc)
        await quote(btc, {2: 20 * KVB, 6: 20 * KVB, 36: 20 * KVB})
        await work(btc, lane)
    [only] = await sent(btc)
    assert (await btc.row(row)).txid == only.txid
    assert len(btc.signer.asked) == 1

    writer.refused.clear()  # a block made room
    btc.clock.advance(60)
    await quote(btc, {2: 2 * KVB, 6: 2 * KVB, 36: 2 * KVB})
    await work(btc, lane)

    assert await btc.states(row) == ["sent"]
    assert list(btc.sim.pool) == [only.txid]
    await run_to_rest(btc, lane)
    assert await btc.alarms() == []
    assert await btc.states(row) == ["completed"]
    assert btc.paid(row) == 1
    await btc.assert_at_rest()


async def test_p25_a_refused_replacement_leaves_the_payout_sent_and_is_bumped_at_the_next_block(
    btc: Payouts,
) -> None:
    row = await cheap(btc)
    writer = Picky(utxo(btc), {1})
    lane = await work(btc, btc.lane(chain=utxo_chain(utxo(btc), writer=writer)))
    first = (await btc.row(row)).txid
    await quote(btc, {2: 20 * KVB, 6: 20 * KVB, 36: 20 * KVB})
    await pass_blocks(btc)

    await work(btc, lane, times=3)
    assert await btc.states(row) == ["sent"]  # its original is in the mempool
    assert list(btc.sim.pool) == [first]
    assert len(await sent(btc)) == 2
    await pass_blocks(btc)
    await work(btc, lane)

    third = (await sent(btc))[2]
    assert list(btc.sim.pool) == [third.txid]
    await run_to_rest(btc, lane)
    assert await btc.states(row) == ["completed"]
    assert [tx.state for tx in await sent(btc)] == ["replaced", "replaced", "final"]
    assert btc.paid(row) == 1
    await btc.assert_at_rest()


async def test_p25_one_process_looks_again_when_a_block_or_a_refusal_came(btc: Payouts) -> None:
    """The memory of a loop only paces: the same bumps as from fresh processes, one per block."""
    row = await cheap(btc)
    writer = Picky(utxo(btc), {0, 1})
    lane = btc.lane(chain=utxo_chain(utxo(btc), writer=writer))
    await hold(btc.role, lane.lease)
    loop = PayoutLane(lane)
    counts = []
    for _ in range(2):
        for _ in range(3):
            await hold(btc.role, lane.lease)
            await loop.cycle()
            counts.append(len(await sent(btc)))
        await pass_blocks(btc)

    assert counts == [1, 2, 2, 3, 3, 3]
    assert await btc.states(row) == ["sent"]
    assert len(btc.sim.pool) == 1


async def test_p25_bumps_are_bounded_in_number(btc: Payouts) -> None:
    """A node that takes nothing: after eight bumps a person is called, and nothing else happens."""
    row = await cheap(btc)
    writer = Picky(utxo(btc), set(range(100)))
    lane = await work(btc, btc.lane(chain=utxo_chain(utxo(btc), writer=writer)))
    for _ in range(11):
        await pass_blocks(btc)
        await work(btc, lane)

    assert len(await sent(btc)) == 9
    assert "bump_capped" in await btc.alarms()
    assert await btc.states(row) == ["uncertain"]  # each cycle is a fresh process here: in doubt
    writer.refused = set()
    btc.clock.advance(60)
    await quote(btc, {2: 2 * KVB, 6: 2 * KVB, 36: 2 * KVB})
    await run_to_rest(btc, lane)
    assert await btc.states(row) == ["completed"]
    assert btc.paid(row) == 1
    assert "bump_capped" not in await btc.alarms()
    await btc.assert_at_rest()


async def test_p19_ltc_builds_no_child_of_a_tx_that_no_node_holds(ltc: Payouts) -> None:
    """Nodes would call the child an orphan; the same bytes are sent until a mempool takes them."""
    row = await cheap(ltc)
    writer = Picky(utxo(ltc), {0})
    lane = await work(ltc, ltc.lane(chain=utxo_chain(utxo(ltc), writer=writer)))
    for _ in range(3):
        await pass_blocks(ltc)
        ltc.clock.advance(60)
        await quote(ltc, {2: 20 * KVB, 6: 20 * KVB, 36: 20 * KVB})
        await work(ltc, lane)
    assert len(await sent(ltc)) == 1

    writer.refused = set()
    ltc.clock.advance(60)
    await work(ltc, lane)
    await quote(ltc, {2: 21 * KVB, 6: 21 * KVB, 36: 21 * KVB})
    await work(ltc, lane)

    assert [tx.purpose for tx in await sent(ltc)] == ["withdrawal", "cpfp"]
    await run_to_rest(ltc, lane, blocks=15)
    assert await ltc.states(row) == ["completed"]
    await no_breaks(ltc)
    await ltc.assert_at_rest()


async def test_p24_the_original_comes_back_by_a_reorg_and_the_newer_one_counts_again(
    btc: Payouts,
) -> None:
    """Original mined, its block lost, and nodes show the replacement: that one is followed."""
    row = await cheap(btc)
    lane = await work(btc)
    first = (await btc.row(row)).txid
    assert first is not None
    original = btc.sim.pool[first]
    await quote(btc, {2: 20 * KVB, 6: 20 * KVB, 36: 20 * KVB})
    await pass_blocks(btc)
    await work(btc, lane)
    second = (await btc.row(row)).txid
    assert second is not None
    newer = btc.sim.pool[second]
    btc.sim.pool = {first: original}
    await mine_only(btc, first)
    await work(btc, lane, times=2)
    assert (await btc.row(row)).txid == first

    btc.sim.rewind(1)
    btc.sim.pool = {second: newer}
    await pass_blocks(btc, 2)
    btc.clock.advance(60)
    await work(btc, lane, times=3)

    assert (await btc.row(row)).txid == second
    await run_to_rest(btc, lane)
    assert await btc.states(row) == ["completed"]
    assert (await btc.row(row)).txid == second
    assert btc.paid(row) == 1
    await btc.assert_at_rest()


async def test_p17_a_foreign_spend_that_is_final_kills_the_whole_family(btc: Payouts) -> None:
    """Somebody with our key: both attempts are dead, and only then people are asked."""
    row = await cheap(btc)
    lane = await work(btc)
    await quote(btc, {2: 20 * KVB, 6: 20 * KVB, 36: 20 * KVB})
    await pass_blocks(btc)
    await work(btc, lane)
    second = (await btc.row(row)).txid
    assert second is not None
    async with btc.database.unit_of_work() as uow:  # the change it keeps back is no input of it
        await uow.execute("UPDATE chain.coins SET reserved_by = NULL WHERE height IS NULL")
    await btc.steal_inputs_of(second)
    await btc.mine()
    await work(btc, lane)
    assert await btc.states(row) == ["sent"]
    await btc.mine(8)

    await work(btc, lane, times=2)

    assert await btc.states(row) == ["on_hold"]
    assert (await btc.row(row)).code == "anchor_dead"
    assert [tx.state for tx in await sent(btc)] == ["replaced", "replaced"]
