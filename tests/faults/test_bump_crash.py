"""P02, P40: one kill after every step of a bump; a fresh process continues, and pays once."""

import pytest

from gateway.payouts.bump_policy import BUMPS_MAX
from gateway.payouts.bumping import Bumping
from gateway.payouts.crash import POINTS_OF_BUMPS
from gateway.payouts.refusals import CAP_WAIT_LEAST
from gateway.withdrawals_store import WithdrawalRow
from signer.protocol import Refusal, SignedTx, SignRequest
from tests.support.bumps import KVB, funded, no_breaks, pass_blocks, quote, run_to_rest, sent, work
from tests.support.payout_fixtures import BuildHouse
from tests.support.payout_parts import VaultSigner
from tests.support.payouts import Payouts, SimulatedCrash, crash_at

pytestmark = pytest.mark.postgres

FINAL_BLOCKS = 15
ON_THE_WAY = ["payout.bump_planned", "payout.bump_answered", "payout.bump_signed"]
CASES = [
    *[(network, point) for network in ("btc", "ltc", "eth") for point in ON_THE_WAY],
    *[(network, "payout.broadcasting") for network in ("btc", "ltc", "eth")],
    *[(network, "payout.sent_to_node") for network in ("btc", "ltc", "eth")],
    ("ltc", "payout.child_settled"),
]


class NeverAgain(VaultSigner):
    """Has frozen the client's key since: a replacement is refused."""

    async def sign(self, request: SignRequest) -> SignedTx | Refusal:
        if request.replaces is not None:
            self.asked.append(request)
            return Refusal(code="key_not_trusted", reason="a client key is frozen")
        return await super().sign(request)


async def stuck(house: Payouts) -> WithdrawalRow:
    """A payout that was sent when blocks were cheap; they are dear now."""
    await funded(house)
    await calm(house)
    row = await house.request("0.25")
    await work(house)
    assert await house.states(row) == ["sent"]
    await busy(house)
    await pass_blocks(house)
    return row


async def calm(house: Payouts) -> None:
    if house.is_account_based:
        await quote(house, {1: 10**9, 5: 10**9}, floor=0, base_fee=10**9)
    else:
        await quote(house, {2: 2 * KVB, 6: 2 * KVB, 36: 2 * KVB})


async def busy(house: Payouts) -> None:
    if house.is_account_based:
        await quote(house, {1: 9 * 10**9, 5: 9 * 10**9}, floor=0, base_fee=9 * 10**9)
    else:
        await quote(house, {2: 20 * KVB, 6: 20 * KVB, 36: 20 * KVB})


@pytest.mark.parametrize(("network", "point"), CASES)
async def test_p02_kill_after_each_step_of_a_bump_pays_once(
    network: str, point: str, house: BuildHouse
) -> None:
    built = await house(network)
    row = await stuck(built)
    dying = built.lane(crash=crash_at(point))

    with pytest.raises(SimulatedCrash):
        await run_to_rest(built, dying, blocks=FINAL_BLOCKS)
    await run_to_rest(built, blocks=FINAL_BLOCKS)

    assert await built.states(row) == ["completed"]
    assert built.paid(row) == 1
    bumps = [tx for tx in await sent(built) if tx.replaces_id or tx.pays_for_id]
    assert len(bumps) == 1
    asked = [item for item in built.signer.asked if item.attempt_id == str(bumps[0].id)]
    assert len({item.unsigned for item in asked}) == 1
    await no_breaks(built)
    await built.assert_at_rest()


@pytest.mark.parametrize("network", ["btc", "ltc", "eth"])
async def test_p02_killed_after_the_signer_signed_a_bump_its_bytes_are_asked_for_again(
    network: str, house: BuildHouse
) -> None:
    """What the signer signed and the books only planned is no lost commit: no recovery."""
    built = await house(network)
    row = await stuck(built)
    with pytest.raises(SimulatedCrash):
        await work(built, built.lane(crash=crash_at("payout.bump_answered")))

    await work(built)

    assert await built.alarms() == []
    newest = (await sent(built))[-1]
    assert newest.txid in built.sim.pool
    await run_to_rest(built, blocks=FINAL_BLOCKS)
    assert await built.states(row) == ["completed"]
    assert built.paid(row) == 1
    await built.assert_at_rest()


async def test_p40_a_kill_at_every_step_in_a_row_still_pays_once(btc: Payouts) -> None:
    row = await stuck(btc)

    for point in (*ON_THE_WAY, "payout.broadcasting", "payout.sent_to_node", "payout.recorded"):
        with pytest.raises(SimulatedCrash):
            await work(btc, btc.lane(crash=crash_at(point)))
    await run_to_rest(btc)

    assert await btc.states(row) == ["completed"]
    assert btc.paid(row) == 1
    assert [tx.state for tx in await sent(btc)] == ["replaced", "final"]
    await btc.assert_at_rest()


async def test_p20_signed_while_the_original_was_mined_is_kept_and_loses(btc: Payouts) -> None:
    """Killed after the signer's answer; then the original is mined. What was signed is known by
    its txid, and the payout goes by the original."""
    row = await stuck(btc)
    first = (await btc.row(row)).txid
    with pytest.raises(SimulatedCrash):
        await work(btc, btc.lane(crash=crash_at("payout.bump_answered")))

    await btc.mine()
    await run_to_rest(btc)

    assert await btc.states(row) == ["completed"]
    assert (await btc.row(row)).txid == first
    old, new = await sent(btc)
    assert (old.state, new.state) == ("final", "replaced")
    assert new.txid is not None
    await btc.assert_at_rest()


async def test_p20_planned_while_the_original_was_mined_is_dropped(btc: Payouts) -> None:
    row = await stuck(btc)
    with pytest.raises(SimulatedCrash):
        await work(btc, btc.lane(crash=crash_at("payout.bump_planned")))

    await btc.mine()
    with pytest.raises(SimulatedCrash):
        await work(btc, btc.lane(crash=crash_at("payout.bump_dropped")))
    await run_to_rest(btc)

    assert await btc.states(row) == ["completed"]
    assert [(tx.state, tx.txid is None) for tx in await sent(btc)] == [
        ("final", False), ("refused", True),
    ]  # fmt: skip
    await btc.assert_at_rest()


async def test_p17_signed_while_a_foreign_spend_was_mined_is_dead_with_its_family(
    btc: Payouts,
) -> None:
    """The block that tells of the foreign spend comes before the replacement's bytes are stored: it
    knows of the original only, and no later block tells it again."""
    row = await stuck(btc)
    first = (await btc.row(row)).txid
    assert first is not None
    with pytest.raises(SimulatedCrash):
        await work(btc, btc.lane(crash=crash_at("payout.bump_answered")))

    await btc.steal_inputs_of(first)
    await btc.mine()
    lane = await work(btc)
    await btc.mine(8)
    await work(btc, lane, times=2)

    assert await btc.states(row) == ["on_hold"]
    assert (await btc.row(row)).code == "anchor_dead"
    assert [tx.state for tx in await sent(btc)] == ["replaced", "replaced"]


class Moody(VaultSigner):
    """Refuses replacements for as long as `code` says why."""

    code: str | None = "cap_window"

    async def sign(self, request: SignRequest) -> SignedTx | Refusal:
        if request.replaces is not None and self.code is not None:
            self.asked.append(request)
            return Refusal(code=self.code, reason="not now")
        return await super().sign(request)


async def test_refused_bumps_use_up_nothing(eth: Payouts) -> None:
    """One try per block, and however many were refused, the next one may be signed."""
    moody = Moody(eth.signer.kit)
    moody.code = "fee_too_high"
    eth.signer = moody
    row = await stuck(eth)
    lane = await work(eth)
    for _ in range(BUMPS_MAX):
        await pass_blocks(eth)
        await work(eth, lane, times=2)
    assert [tx.state for tx in await sent(eth)] == ["seen"] + ["refused"] * (BUMPS_MAX + 1)
    moody.code = None
    await pass_blocks(eth)
    await work(eth, lane)
    assert (await sent(eth))[-1].txid == (await eth.row(row)).txid
    assert (await sent(eth))[-1].state == "seen"
    await run_to_rest(eth, lane, blocks=FINAL_BLOCKS)
    assert await eth.states(row) == ["completed"]
    await eth.assert_at_rest()


async def test_a_bump_over_the_signers_window_waits_as_a_first_signature_does(
    eth: Payouts,
) -> None:
    moody = Moody(eth.signer.kit)
    eth.signer = moody
    row = await stuck(eth)
    lane = await work(eth)
    bumping = Bumping(lane, set(), chain_full=set())  # one process: its memory paces
    await pass_blocks(eth)
    assert await bumping.run() == 0
    asked = len(moody.asked)
    await pass_blocks(eth)
    assert await bumping.run() == 0
    assert len(moody.asked) == asked  # a block is no reason to ask again
    moody.code = None
    eth.clock.advance(int(CAP_WAIT_LEAST.total_seconds()))
    await busy(eth)
    await pass_blocks(eth)
    assert await bumping.run() == 1
    await work(eth, lane)
    assert [tx.state for tx in await sent(eth)] == ["seen", "refused", "refused", "seen"]
    await run_to_rest(eth, lane, blocks=FINAL_BLOCKS)
    assert await eth.states(row) == ["completed"]
    await eth.assert_at_rest()


async def test_p20_a_kill_after_the_adoption_settles_by_the_winner(btc: Payouts) -> None:
    row = await stuck(btc)
    first = (await btc.row(row)).txid
    assert first is not None
    original = btc.sim.pool[first]
    await work(btc)
    btc.sim.pool = {first: original}
    await btc.mine()

    with pytest.raises(SimulatedCrash):
        await work(btc, btc.lane(crash=crash_at("payout.adopted")))
    await run_to_rest(btc)

    assert await btc.states(row) == ["completed"]
    assert (await btc.row(row)).txid == first
    await btc.assert_at_rest()


async def test_s07_a_refused_replacement_leaves_the_payout_with_the_attempt_it_has(
    btc: Payouts,
) -> None:
    row = await stuck(btc)
    first = (await btc.row(row)).txid
    signer = NeverAgain(btc.signer.kit)

    lane = await work(btc, btc.lane(signer=signer), times=3)

    assert len(signer.asked) == 1  # not again before the next block
    assert await btc.states(row) == ["sent"]
    assert (await btc.row(row)).txid == first
    assert await btc.alarms() == ["bump_refused"]
    await run_to_rest(btc, lane)
    assert await btc.states(row) == ["completed"]
    assert await btc.alarms() == []
    await btc.assert_at_rest()


def test_every_point_of_bumps_is_killed_at() -> None:
    killed = {point for _, point in CASES}
    elsewhere = {"payout.bump_dropped", "payout.adopted"}
    assert set(POINTS_OF_BUMPS) <= killed | elsewhere
