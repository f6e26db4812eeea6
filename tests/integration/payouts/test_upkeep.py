"""F3: own coins are merged and split while inclusion is cheap; only the fee leaves."""

from dataclasses import replace

import pytest

from config.policy import CoinPolicy
from ledger import accounts, balances
from signer.protocol import OWN_MOVES, Refusal, SignedTx, SignRequest
from tests.support.bumps import funded, no_breaks, quote, run_to_rest, sent, work
from tests.support.payout_fixtures import BuildHouse
from tests.support.payout_parts import VaultSigner
from tests.support.payouts import Payouts
from tests.support.upkeep import CHEAP, DEAR, POLICY, cheap_hour, coins_of, rain
from watchers import outgoing_store, switches
from watchers.switches import Action

pytestmark = pytest.mark.postgres

SMALL = 100_000  # satoshi
FINAL_BLOCKS = 15


async def fees_booked(house: Payouts) -> int:
    """Network fees that stand as an expense."""
    async with house.database.unit_of_work() as uow:
        return await balances.balance(uow, accounts.network_fee(house.native))


async def small_coins(house: Payouts) -> Payouts:
    """Seven coins of money and twelve small ones: more than the policy has patience with."""
    await funded(house, coins=6)
    await rain(house, count=12, minor=SMALL)
    return house


@pytest.mark.parametrize("network", ["btc", "ltc"])
async def test_f3_many_small_coins_become_one_and_only_the_fee_leaves(
    network: str, house: BuildHouse
) -> None:
    built = await small_coins(await house(network))

    await cheap_hour(built)
    lane = await work(built, times=3)

    [move] = await sent(built)
    assert (move.purpose, move.state) == ("consolidate", "seen")
    mined, unmined = await coins_of(built)
    assert len(mined) == POLICY.keep_coins
    assert unmined == [12 * SMALL + built.minor(built.native, "1") - move.fee_minor]
    await run_to_rest(built, lane, blocks=FINAL_BLOCKS)
    assert [tx.state for tx in await sent(built)] == ["final"]
    assert await fees_booked(built) == move.fee_minor
    assert await built.alarms() == []
    await no_breaks(built)
    await built.assert_at_rest()


@pytest.mark.parametrize("network", ["btc", "ltc"])
async def test_f3_a_single_coin_is_split_and_payouts_need_no_change_of_each_other(
    network: str, house: BuildHouse
) -> None:
    built = await funded(await house(network))

    await cheap_hour(built)
    lane = await work(built, times=3)

    [move] = await sent(built)
    assert (move.purpose, move.state) == ("fan_out", "seen")
    await built.mine(2)
    mined, unmined = await coins_of(built)
    assert (len(mined), unmined) == (POLICY.keep_coins, [])
    assert sum(mined) == built.minor(built.native, "3") - move.fee_minor
    rows = []
    for amount in ("0.31", "0.32", "0.33"):
        rows.append(await built.request(amount))
        await work(built, lane)
    async with built.database.unit_of_work() as uow:
        parents = await uow.execute(
            "SELECT count(*) FROM chain.outgoing_inputs i JOIN chain.outgoing o "
            "ON o.network = i.network AND o.txid = i.outpoint_txid WHERE o.id <> :id",
            {"id": move.id},
        )
        assert parents.scalar_one() == 0
    await run_to_rest(built, lane, blocks=FINAL_BLOCKS)
    assert await built.states(*rows) == ["completed"] * 3
    assert (await sent(built))[0].state == "final"
    await no_breaks(built)
    await built.assert_at_rest()


async def test_f3_the_fee_follows_the_block(btc: Payouts) -> None:
    await small_coins(btc)
    await cheap_hour(btc)
    lane = await work(btc, times=3)
    [move] = await sent(btc)
    await run_to_rest(btc, lane, blocks=FINAL_BLOCKS)
    assert await fees_booked(btc) == move.fee_minor

    btc.sim.rewind(FINAL_BLOCKS)
    for _ in range(FINAL_BLOCKS + 1):
        btc.sim.mine_exactly([])
    await btc.follow()
    await work(btc, lane)

    assert await fees_booked(btc) == 0
    await run_to_rest(btc, lane, blocks=FINAL_BLOCKS)
    assert await fees_booked(btc) == move.fee_minor
    assert [tx.state for tx in await sent(btc)] == ["final"]
    await no_breaks(btc)
    await btc.assert_at_rest()


async def test_f3_nothing_moves_while_fees_are_high(btc: Payouts) -> None:
    await small_coins(btc)
    await cheap_hour(btc)
    await quote(btc, DEAR)

    lane = await work(btc, times=3)

    assert await sent(btc) == []
    await quote(btc, CHEAP)
    btc.clock.advance(60)
    await quote(btc, CHEAP)
    await work(btc, lane, times=2)
    assert len(await sent(btc)) == 1


@pytest.mark.parametrize(
    "policy",
    [
        replace(POLICY, rate_max=1),  # cheap by history, and dear by policy
        replace(POLICY, merge_above=0),
        replace(POLICY, merge_above=19),
    ],
)
async def test_f3_policy_says_when_and_whether(policy: CoinPolicy, btc: Payouts) -> None:
    await small_coins(btc)
    await cheap_hour(btc, policy=policy)

    await work(btc, times=3)

    assert await sent(btc) == []


async def test_f3_a_part_is_never_smaller_than_policy_says(btc: Payouts) -> None:
    await funded(btc)
    most = btc.minor("btc:BTC", "2")
    await cheap_hour(btc, policy=replace(POLICY, part_min_minor=most // 3))

    await work(btc, times=3)

    mined, unmined = await coins_of(btc)
    assert len(mined) == 1
    assert len(unmined) == 2


@pytest.mark.parametrize(("waits", "is_split"), [("0.9", True), ("1.2", False)])
async def test_f3_coins_that_waiting_payouts_need_stay(
    waits: str, is_split: bool, btc: Payouts
) -> None:
    """Beside the coin of 2 there is one of 1."""
    await funded(btc)
    await cheap_hour(btc)
    row = await btc.request(waits, brand="bravo")

    await work(btc, times=3)

    assert await btc.states(row) == ["waiting_liquidity"]
    assert [tx.purpose for tx in await sent(btc)] == (["fan_out"] if is_split else [])


@pytest.mark.parametrize("action", [Action.BUILD, Action.SIGN, Action.BROADCAST])
async def test_f3_a_stopped_asset_is_not_moved(action: Action, btc: Payouts) -> None:
    await funded(btc)
    await cheap_hour(btc)
    async with btc.role.unit_of_work() as uow:
        await switches.open_breaker(
            uow, scope="asset:btc:BTC", action=action, reason="drill", actor="ada",
            ids=btc.ids, at=btc.clock.now(),
        )  # fmt: skip

    await work(btc, times=3)

    assert await sent(btc) == []


async def test_f3_one_at_a_time_and_none_soon_after_another(btc: Payouts) -> None:
    await small_coins(btc)
    await cheap_hour(btc)
    lane = await work(btc, times=3)
    await rain(btc, count=12, minor=SMALL)  # that mines the first one, too
    btc.clock.advance(POLICY.pause_seconds - 60)
    await quote(btc, CHEAP)
    await work(btc, lane, times=3)
    assert len(await sent(btc)) == 1

    btc.clock.advance(120)
    await quote(btc, CHEAP)
    await work(btc, lane, times=3)

    assert len(await sent(btc)) == 2
    for _ in range(3):  # the second one is in no block, however long that takes
        btc.clock.advance(POLICY.pause_seconds)
        await quote(btc, CHEAP)
        await work(btc, lane)
    assert [tx.state for tx in await sent(btc)] == ["mined", "seen"]


class Refusing(VaultSigner):
    """Says no to merges and splits for as long as `code` says why."""

    code: str | None = "cap_window"

    async def sign(self, request: SignRequest) -> SignedTx | Refusal:
        if request.purpose in OWN_MOVES and self.code is not None:
            self.asked.append(request)
            return Refusal(code=self.code, reason="not now")
        return await super().sign(request)


async def test_f3_a_refused_move_frees_its_coins_and_payouts_go_on(btc: Payouts) -> None:
    refusing = Refusing(btc.signer.kit)
    btc.signer = refusing
    await funded(btc)
    await cheap_hour(btc, policy=replace(POLICY, keep_coins=5))  # the house has few addresses

    lane = await work(btc, times=4)

    assert len(refusing.asked) == 1
    assert [tx.state for tx in await sent(btc)] == ["refused"]
    assert await btc.alarms() == ["upkeep_refused"]
    row = await btc.request("1.5")
    await work(btc, lane)
    assert await btc.states(row) == ["sent"]
    refusing.code = None
    btc.clock.advance(POLICY.pause_seconds)
    await quote(btc, CHEAP)
    await work(btc, lane, times=3)
    assert sorted(tx.purpose for tx in await sent(btc)) == ["fan_out", "fan_out", "withdrawal"]
    assert await btc.alarms() == []


async def test_f3_a_move_of_another_hour_is_not_signed_any_more(btc: Payouts) -> None:
    """The signer was out when it was asked; its coins wait for nobody."""
    await funded(btc)
    await cheap_hour(btc)
    lane = await work(btc)
    [built] = await sent(btc)
    assert built.state == "built"
    btc.signer.is_down = True
    await work(btc, lane)
    btc.clock.advance(btc.registry.policy.limits.planned_seconds + 1)
    await quote(btc, DEAR)
    await work(btc, lane)
    assert [tx.state for tx in await sent(btc)] == ["built"]  # it may be signed

    btc.signer.is_down = False
    await work(btc, lane)

    assert [tx.state for tx in await sent(btc)] == ["refused"]
    assert btc.signer.asked == []
    mined, unmined = await coins_of(btc)
    assert (len(mined), unmined) == (2, [])


async def test_s07_a_coin_that_a_dead_payout_spends_is_not_merged(btc: Payouts) -> None:
    """The signer remembers it, and would call the books behind."""
    await small_coins(btc)
    row = await btc.request("0.0001")
    await work(btc)
    async with btc.database.unit_of_work() as uow:  # as when a rival of its tx is final
        freed = await uow.execute(
            "UPDATE chain.coins SET reserved_by = NULL WHERE reserved_by IS NOT NULL "
            "RETURNING txid, vout"
        )
        [dead] = freed.all()
    await cheap_hour(btc)

    await work(btc, times=3)

    assert (await btc.row(row)).txid is not None
    move = (await sent(btc))[-1]
    assert (move.purpose, move.state) == ("consolidate", "seen")
    async with btc.database.unit_of_work() as uow:
        spenders = await uow.execute(
            "SELECT attempt_id FROM chain.outgoing_inputs WHERE outpoint_txid = :txid "
            "AND outpoint_vout = :vout",
            {"txid": dead.txid, "vout": dead.vout},
        )
        assert move.id not in spenders.scalars().all()
    assert await btc.alarms() == []


def test_both_sides_mean_the_same_purposes() -> None:
    assert {purpose.value for purpose in OWN_MOVES} == set(outgoing_store.UPKEEP_PURPOSES)
