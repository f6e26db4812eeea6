"""T8: a person has own coins merged or split now; policy's bounds hold, only the fee leaves."""

from collections.abc import Awaitable, Callable
from dataclasses import replace

import pytest

from config.policy import CoinPolicy
from gateway.payouts import consolidations
from gateway.payouts import consolidations_store as store
from gateway.payouts.consolidations_store import ConsolidationRow
from signer.protocol import Purpose
from tests.support.bumps import funded, no_breaks, quote, run_to_rest, sent, work
from tests.support.payout_fixtures import BuildHouse
from tests.support.payouts import Payouts, SimulatedCrash, crash_at
from tests.support.upkeep import CHEAP, DEAR, PLENTY, POLICY, ask, cheap_hour, coins_of, rain
from watchers import switches
from watchers.switches import Action

pytestmark = pytest.mark.postgres

SMALL = 100_000  # satoshi
FINAL_BLOCKS = 15
PATIENT = replace(POLICY, merge_above=1_000, rate_max=100)
"""Policy by itself would not merge these coins for long."""


async def standing(house: Payouts, asked: ConsolidationRow) -> ConsolidationRow:
    """As it stands now."""
    async with house.role.unit_of_work() as uow:
        row = await store.get(uow, asked.id)
    assert row is not None
    return row


async def dear_hour(house: Payouts, policy: CoinPolicy = PATIENT) -> Payouts:
    """Ten coins, of them four small ones, in an hour that nobody calls cheap."""
    await funded(house, coins=5)
    await rain(house, count=4, minor=SMALL)
    await cheap_hour(house, policy=policy)
    await quote(house, DEAR)
    return house


@pytest.mark.parametrize("network", ["btc", "ltc"])
async def test_t8_a_person_merges_coins_in_a_dear_hour_and_only_the_fee_leaves(
    network: str, house: BuildHouse
) -> None:
    built = await dear_hour(await house(network))
    lane = await work(built, times=2)
    assert await sent(built) == []  # policy waits

    dry = await ask(built, fee_max=None)
    await work(built, lane, times=2)
    quoted = await standing(built, dry)
    assert (quoted.state, quoted.coins, quoted.parts) == ("quoted", 4, 1)
    assert quoted.amount_minor == 4 * SMALL
    assert quoted.fee_minor is not None
    assert quoted.saves_vb is not None
    assert await sent(built) == []

    asked = await ask(built, fee_max=quoted.fee_minor)
    await work(built, lane, times=2)

    [move] = await sent(built)
    assert (move.purpose, move.state) == ("consolidate", "seen")
    assert move.fee_minor == quoted.fee_minor
    made = await standing(built, asked)
    assert (made.state, made.attempt_id, made.txid) == ("planned", move.id, move.txid)
    await run_to_rest(built, lane, blocks=FINAL_BLOCKS)
    assert (await standing(built, asked)).tx_state == "final"
    mined, unmined = await coins_of(built)
    assert (len(mined), unmined) == (POLICY.keep_coins + 1, [])
    assert await built.alarms() == []
    await no_breaks(built)
    await built.assert_at_rest()


async def test_t8_a_person_splits_the_largest_coin_before_it_is_needed(btc: Payouts) -> None:
    """Five of six coins are enough for policy, and not for a person who asks."""
    await funded(btc, coins=4)
    await cheap_hour(btc, policy=PATIENT)
    lane = await work(btc, times=2)
    assert await sent(btc) == []

    asked = await ask(btc, Purpose.FAN_OUT)
    await work(btc, lane, times=2)

    assert (await standing(btc, asked)).parts == 2
    assert [tx.purpose for tx in await sent(btc)] == ["fan_out"]
    await run_to_rest(btc, lane, blocks=FINAL_BLOCKS)
    await no_breaks(btc)
    await btc.assert_at_rest()


async def test_t8_what_policy_moves_by_itself_is_listed_too(btc: Payouts) -> None:
    await funded(btc)
    await cheap_hour(btc)
    await work(btc, times=3)
    [move] = await sent(btc)
    async with btc.role.unit_of_work() as uow:
        [row] = await store.find(uow, network="btc", state=None, before=None, limit=10)
    assert (row.purpose, row.state, row.requested_by) == ("fan_out", "planned", None)
    assert (row.attempt_id, row.txid, row.fee_minor) == (move.id, move.txid, move.fee_minor)


async def stop(house: Payouts) -> None:
    """People stop the asset."""
    async with house.role.unit_of_work() as uow:
        await switches.open_breaker(
            uow, scope="asset:btc:BTC", action=Action.SIGN, reason="drill", actor="ada",
            ids=house.ids, at=house.clock.now(),
        )  # fmt: skip


async def need_everything(house: Payouts) -> None:
    """A withdrawal waits that takes nearly all coins."""
    await house.request("10.9", brand="bravo")


async def grow_old(house: Payouts) -> None:
    """Nobody looked for longer than a request counts."""
    house.clock.advance(consolidations.VALID.total_seconds() + 1)
    await quote(house, DEAR)


async def crave(house: Payouts) -> None:
    """The mempool's minimum is above what policy allows."""
    await quote(house, DEAR, floor=10_000_000)


async def nothing(house: Payouts) -> None:
    """No more than that."""
    del house


@pytest.mark.parametrize(
    ("code", "policy", "fee_max", "meanwhile"),
    [
        ("fee_above_asked", PATIENT, 100, nothing),
        ("rate_above_maximum", replace(PATIENT, rate_max=10), PLENTY, nothing),
        ("nothing_to_move", replace(PATIENT, keep_coins=9), PLENTY, nothing),
        ("stopped", PATIENT, PLENTY, stop),
        ("payouts_wait", replace(PATIENT, keep_coins=0), PLENTY, need_everything),
        ("network_fee_too_high", PATIENT, PLENTY, crave),
        ("expired", PATIENT, PLENTY, grow_old),
    ],
)
async def test_t8_what_does_not_fit_is_refused_once_by_code_and_nothing_moves(
    code: str,
    policy: CoinPolicy,
    fee_max: int,
    meanwhile: Callable[[Payouts], Awaitable[None]],
    btc: Payouts,
) -> None:
    await dear_hour(btc, policy)
    asked = await ask(btc, fee_max=fee_max)
    await meanwhile(btc)

    await work(btc, times=3)

    found = await standing(btc, asked)
    assert (found.state, found.code, found.version) == ("refused", code, 2)
    assert await sent(btc) == []
    mined, unmined = await coins_of(btc)
    assert (len(mined), unmined) == (10, [])


async def test_t8_without_young_fees_or_a_policy_nothing_moves(btc: Payouts) -> None:
    await dear_hour(btc)
    btc.clock.advance(590)
    asked = await ask(btc)
    btc.clock.advance(20)
    await work(btc)
    assert (await standing(btc, asked)).code == "fees_unknown"
    rules = replace(btc.registry.policy, coins={})
    btc.registry = replace(btc.registry, policy=rules)
    await quote(btc, CHEAP)
    asked = await ask(btc)
    await work(btc)
    assert (await standing(btc, asked)).code == "no_policy"
    assert await sent(btc) == []


async def test_t8_one_move_at_a_time_and_a_person_need_not_pause(btc: Payouts) -> None:
    await dear_hour(btc)
    first = await ask(btc)
    lane = await work(btc, times=2)
    assert (await standing(btc, first)).state == "planned"
    second = await ask(btc)
    await work(btc, lane)
    assert (await standing(btc, second)).code == "move_open"
    await rain(btc, count=3, minor=SMALL)  # that mines the first one, too
    await quote(btc, DEAR)
    third = await ask(btc)
    await work(btc, lane, times=2)
    assert (await standing(btc, third)).state == "planned"
    assert [tx.purpose for tx in await sent(btc)] == ["consolidate", "consolidate"]


@pytest.mark.parametrize("point", ["payout.upkeep_planned", "payout.bump_answered"])
async def test_p02_killed_behind_a_persons_word_it_is_moved_once(point: str, btc: Payouts) -> None:
    await dear_hour(btc)
    asked = await ask(btc)

    with pytest.raises(SimulatedCrash):
        await work(btc, btc.lane(crash=crash_at(point)), times=3)
    lane = await run_to_rest(btc, blocks=FINAL_BLOCKS)

    [move] = await sent(btc)
    assert (await standing(btc, asked)).attempt_id == move.id
    assert move.state == "final"
    assert await btc.alarms() == []
    await run_to_rest(btc, lane, blocks=1)
    assert len(await sent(btc)) == 1
    await no_breaks(btc)
    await btc.assert_at_rest()


async def test_t8_a_request_of_an_account_chain_is_nobodys_to_answer(eth: Payouts) -> None:
    """The API refuses one; were it there, the lane would leave it alone."""
    asked = await ask(eth)
    await work(eth, times=2)
    assert (await standing(eth, asked)).state == "asked"
    assert await sent(eth) == []
