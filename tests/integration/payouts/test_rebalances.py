"""Hot to cold on every family: agreed to by people, made once, the books right at each block."""

from dataclasses import replace

import pytest

from gateway.payouts import rebalance_build, rebalances
from gateway.payouts.rebalance_step import OPEN_MAX
from ledger import accounts, balances
from tests.support.bumps import (
    KVB,
    funded,
    mine_only,
    no_breaks,
    pass_blocks,
    quote,
    sent,
    work,
)
from tests.support.payout_fixtures import BuildHouse
from tests.support.payouts import Payouts
from tests.support.rebalancing import (
    COLD,
    DAY,
    POLICY,
    agree,
    ask,
    custody,
    every,
    now,
    pin,
    told,
    with_cold,
)
from watchers import addresses, coins, inflows, switches
from watchers.chain import Pay
from watchers.errors import CoinTaken
from watchers.switches import Action

pytestmark = pytest.mark.postgres

ROAD = ["proposed", "approved", "planned", "signed", "sent", "done"]
BLOCKS = 8
FEE_OF_FEW = 1_000  # sat: of a tx with a few inputs, at the rate of the tests


async def to_rest(house: Payouts, *, blocks: int = BLOCKS) -> None:
    """Mine and work it off; the books explain the chain at each block between."""
    lane = await work(house, times=2)
    for _ in range(blocks):
        await no_breaks(house)
        await house.mine()
        await no_breaks(house)
        await work(house, lane)


async def fees_booked(house: Payouts) -> int:
    async with house.database.unit_of_work() as uow:
        return await balances.balance(uow, accounts.network_fee(house.native))


@pytest.mark.parametrize("network", ["btc", "ltc", "eth"])
async def test_t6_an_overflow_is_proposed_agreed_to_and_ends_in_cold(
    network: str, house: BuildHouse
) -> None:
    built = await funded(await house(network))  # 3 coins
    await with_cold(built, band=("0.5", "1", "2"))
    await work(built)
    [row] = await every(built)
    assert (row.state, row.requested_by, row.reason) == ("proposed", None, "above_max")
    assert row.amount_minor == built.minor(built.native, "2")
    await work(built, times=2)
    assert await sent(built) == []  # nobody has agreed
    await agree(built, row)

    await to_rest(built)

    row = await now(built, row)
    assert row.state == "done", row
    assert await told(built, row) == [f"rebalance.{state}" for state in ROAD]
    [move] = await sent(built)
    assert (move.purpose, move.state, move.txid) == ("hot_to_cold", "final", row.txid)
    fee = await fees_booked(built)
    assert 0 < fee <= move.fee_minor
    assert await custody(built, "cold") == row.amount_minor
    assert await custody(built, "hot") == built.minor(built.native, "1") - fee
    assert len(await every(built)) == 1  # inside its band again
    assert await built.alarms() == []
    await built.assert_at_rest()


async def test_t6_a_token_moves_and_its_fee_is_paid_in_the_coin(house: BuildHouse) -> None:
    built = await funded(await house("eth"))
    await built.fund("eth:USDT", "900", into="acme")
    await with_cold(built)
    row = await agree(built, await ask(built, "700", asset="eth:USDT"))
    await to_rest(built)
    assert (await now(built, row)).state == "done"
    assert await custody(built, "cold", "eth:USDT") == 700_000_000
    assert await custody(built, "hot", "eth:USDT") == 200_000_000
    assert await custody(built, "hot") == built.minor("eth:ETH", "3") - await fees_booked(built)
    await built.assert_at_rest()


async def test_t6_the_system_does_up_to_the_limit_what_policy_lets_it(house: BuildHouse) -> None:
    """And asks again only after a pause."""
    built = await funded(await house("btc"))
    alone = replace(POLICY, is_automatic=True, two_people_above_minor=200_000_000)
    caps = f'cold_tx_max_minor = "{10**9}"\ncold_day_max_minor = "{10**9}"\n'
    await with_cold(
        built,
        band=("0.5", "1", "2"),
        policy=alone,
        caps=f'{caps}cold_dual_limit_minor = "{10**9}"\n',
    )
    await to_rest(built)
    [row] = await every(built)
    assert (row.state, row.people_needed) == ("done", 0)
    await built.fund(built.native, "2", into="acme")
    await work(built)
    assert len(await every(built)) == 1
    built.clock.advance(3_700)
    built.signer.kit.clock.now += 3_700
    await built.sample_fees()
    await to_rest(built)
    assert [item.state for item in await every(built)] == ["done", "done"]
    assert await custody(built, "hot") <= built.minor(built.native, "2")


@pytest.mark.parametrize("network", ["btc", "eth"])
async def test_p26_value_that_payouts_wait_for_stays_hot(network: str, house: BuildHouse) -> None:
    """What is queued is paid first: a move that would leave it short is not built."""
    built = await with_cold(await funded(await house(network)))
    row = await agree(built, await ask(built, "1.5"))
    payout = await built.request("1.8")
    async with built.database.unit_of_work() as uow:
        assert await rebalance_build.first(built.lane(), uow, row) == "hot_wallet"
    lane = await work(built, times=2)
    for _ in range(BLOCKS):
        await built.mine()
        await work(built, lane)
    assert await built.states(payout) == ["completed"]
    assert ((await now(built, row)).state, await custody(built, "cold")) == ("approved", 0)


@pytest.mark.parametrize("network", ["btc", "eth"])
async def test_s06_what_is_not_pinned_fails_and_everything_is_free_again(
    network: str, house: BuildHouse
) -> None:
    built = await funded(await house(network))
    await with_cold(built, is_pinned=False)
    pin(built)  # this minute: it counts tomorrow
    row = await agree(built, await ask(built, "1"))
    await work(built, times=2)
    row = await now(built, row)
    assert (row.state, row.code) == ("failed", "not_pinned")
    assert await built.alarms() == ["rebalance_failed"]
    payout = await built.request("1.5")  # coins and nonce went to the next one
    lane = await work(built, times=2)
    for _ in range(BLOCKS):
        await built.mine()
        await work(built, lane)
    assert await built.states(payout) == ["completed"]
    await no_breaks(built)


async def test_s15_words_of_another_move_move_nothing(house: BuildHouse) -> None:
    """A gateway that read other words than people signed is told so by the signer."""
    built = await with_cold(await funded(await house("btc")))
    row = await ask(built, "1")
    await agree(built, row, says={"amount": "0.5"})
    await work(built, times=2)
    found = await now(built, row)
    assert (found.state, found.code) == ("failed", "needs_staff")


async def test_a31_a_person_who_left_did_not_agree(house: BuildHouse) -> None:
    built = await with_cold(await funded(await house("btc")))
    row = await agree(built, await ask(built, "1"))
    async with built.database.unit_of_work() as uow:
        await uow.execute(
            "UPDATE gateway.clients SET revoked_at = :at WHERE person = 'bob'",
            {"at": built.clock.now()},
        )
    await work(built)
    found = await now(built, row)
    assert (found.state, found.code, await sent(built)) == ("failed", "person_left", [])


async def test_a31_a_move_that_policy_wants_more_people_for_by_now_fails(
    house: BuildHouse,
) -> None:
    """Policy of the process that carries it out, whatever the one that took the words said."""
    built = await funded(await house("btc"))
    await with_cold(built, policy=replace(POLICY, two_people_above_minor=10**9))
    row = await agree(built, await ask(built, "1"), "alice")
    assert (row.state, row.people_needed) == ("approved", 1)
    stricter = dict.fromkeys(built.registry.assets, POLICY)
    policy = replace(built.registry.policy, rebalances=stricter)
    built.registry = replace(built.registry, policy=policy)
    await work(built)
    found = await now(built, row)
    assert (found.state, found.code, await sent(built)) == ("failed", "too_few_people", [])


async def test_s05_over_the_signers_cap_of_a_day_it_waits_and_goes_by_itself(
    house: BuildHouse,
) -> None:
    built = await funded(await house("btc"), coins=2)
    caps = 'cold_tx_max_minor = "100000000"\ncold_day_max_minor = "150000000"\n'
    await with_cold(built, caps=caps, policy=replace(POLICY, valid_seconds=3 * DAY))
    first = await agree(built, await ask(built, "1"))
    second = await agree(built, await ask(built, "1"))
    await to_rest(built)
    waiting = await now(built, second)
    assert [(await now(built, first)).state, waiting.state] == ["done", "approved"]
    assert (waiting.code, len(await sent(built))) == ("signer_cap", 2)  # asked once, not each pass
    built.clock.advance(DAY)
    built.signer.kit.clock.now += DAY
    await built.sample_fees()
    await to_rest(built)
    assert (await now(built, second)).state == "done"


async def test_what_is_past_its_time_or_not_needed_is_taken_back(house: BuildHouse) -> None:
    built = await funded(await house("btc"))
    await with_cold(built, band=("0.5", "1", "2"))
    lane = await work(built)
    [row] = await every(built)
    await built.request("1.5")
    for _ in range(BLOCKS):
        await work(built, lane)
        await built.mine()
        built.clock.advance(61)
        built.signer.kit.clock.now += 61
        await built.sample_fees()
    assert (await now(built, row)).code == rebalances.NOT_NEEDED
    late = await ask(built, "0.1")
    built.clock.advance(DAY + 1)
    await work(built, lane)
    found = await now(built, late)
    assert (found.state, found.code) == ("cancelled", rebalances.EXPIRED)


@pytest.mark.parametrize("action", [Action.BUILD, Action.SIGN, Action.BROADCAST])
async def test_a_stopped_asset_moves_nothing_to_cold(action: Action, house: BuildHouse) -> None:
    built = await with_cold(await funded(await house("btc")))
    row = await agree(built, await ask(built, "1"))
    async with built.database.unit_of_work() as uow:
        await switches.open_breaker(
            uow, scope="asset:btc:BTC", action=action, reason="drill", actor="ada",
            ids=built.ids, at=built.clock.now(),
        )  # fmt: skip
    await work(built, times=2)
    assert ((await now(built, row)).state, await sent(built)) == ("approved", [])


@pytest.mark.parametrize("network", ["btc", "ltc"])
async def test_d05_a_done_move_whose_block_leaves_is_reopened_and_done_again(
    network: str, house: BuildHouse
) -> None:
    built = await with_cold(await funded(await house(network)))
    row = await agree(built, await ask(built, "1"))
    lane = await work(built, times=2)
    for _ in range(2):
        await built.mine()
        await work(built, lane)
    assert (await now(built, row)).state == "done"
    held = await custody(built, "cold")
    built.sim.rewind(2)
    for _ in range(3):
        built.sim.mine_exactly([])
    await built.follow()
    await work(built, lane)
    found = await now(built, row)
    assert (found.state, await custody(built, "cold"), held) == ("sent", 0, row.amount_minor)
    for _ in range(BLOCKS):
        await built.mine()
        await work(built, lane)
    assert (await now(built, row)).state == "done"
    assert await custody(built, "cold") == row.amount_minor
    await no_breaks(built)
    await built.assert_at_rest()


@pytest.mark.parametrize("network", ["btc", "eth"])
async def test_d05_a_move_that_was_made_dearer_is_reopened_when_its_block_leaves(
    network: str, house: BuildHouse
) -> None:
    """Its first attempt has lost, which says nothing about the one that was mined."""
    built = await with_cold(await funded(await house(network)))
    row = await agree(built, await ask(built, "1"))
    lane = await work(built, times=2)
    while len(moves := await sent(built)) < 2:
        await pass_blocks(built)
        await built.sample_fees()
        await work(built, lane)
    await mine_only(built, moves[-1].txid or "")
    full = built.registry.chains[network].full_depth
    for _ in range(full - 1):
        await built.mine()
        await work(built, lane)
    await work(built, lane)
    assert (await now(built, row)).state == "done"
    assert [tx.state for tx in await sent(built)] == ["replaced", "final"]

    built.sim.rewind(full)
    await pass_blocks(built, full + 1)
    await work(built, lane)

    assert ((await now(built, row)).state, await custody(built, "cold")) == ("sent", 0)
    for _ in range(BLOCKS):
        await built.mine()
        await work(built, lane)
    found = await now(built, row)
    assert (found.state, found.txid) == ("done", moves[-1].txid)
    assert await custody(built, "cold") == row.amount_minor
    await no_breaks(built)
    await built.assert_at_rest()


async def test_w10_a_late_move_is_lifted_by_a_child_where_nothing_is_replaced(
    house: BuildHouse,
) -> None:
    built = await with_cold(await funded(await house("ltc")))
    await quote(built, {2: 2 * KVB, 6: 2 * KVB, 36: 2 * KVB})
    row = await agree(built, await ask(built, "1"))
    lane = await work(built, times=2)
    [move] = await sent(built)
    await quote(built, {2: 20 * KVB, 6: 20 * KVB, 36: 20 * KVB})
    await pass_blocks(built)
    await work(built, lane)
    [_, child] = await sent(built)
    assert (child.purpose, child.pays_for_id, child.state) == ("cpfp", move.id, "seen")
    await work(built, lane, times=2)
    assert len(await sent(built)) == 2  # one is enough

    for _ in range(2 * BLOCKS):
        await built.mine()
        await no_breaks(built)
        await work(built, lane)
        await no_breaks(built)

    found = await now(built, row)
    assert (found.state, found.txid) == ("done", move.txid)
    assert await custody(built, "cold") == row.amount_minor
    assert await fees_booked(built) == move.fee_minor + child.fee_minor
    assert await built.alarms() == []
    await built.assert_at_rest()


@pytest.mark.parametrize("network", ["btc", "eth"])
async def test_w3_a_late_move_is_made_dearer_and_one_attempt_counts(
    network: str, house: BuildHouse
) -> None:
    built = await with_cold(await funded(await house(network)))
    row = await agree(built, await ask(built, "1"))
    lane = await work(built, times=2)
    [first] = await sent(built)
    for _ in range(8):
        await pass_blocks(built)
        await built.sample_fees()
        await work(built, lane)
    moves = await sent(built)
    assert len(moves) > 1
    assert {tx.family_id for tx in moves} == {first.family_id}
    assert sorted({tx.fee_minor for tx in moves}) == [tx.fee_minor for tx in moves]
    assert (await now(built, row)).txid == moves[-1].txid
    await mine_only(built, moves[-1].txid or "")
    for _ in range(BLOCKS):
        await built.mine()
        await work(built, lane)
    found = await now(built, row)
    assert (found.state, found.txid) == ("done", moves[-1].txid)
    assert await custody(built, "cold") == row.amount_minor
    await no_breaks(built)
    await built.assert_at_rest()


async def test_cold_coins_are_nobodys_choice_and_a_stranger_who_pays_cold_is_an_inflow(
    house: BuildHouse,
) -> None:
    built = await with_cold(await funded(await house("btc")))
    cold = COLD["btc"].address
    await built.world.pay([Pay(asset="btc:BTC", address=cold, amount_minor=700_000_000)])
    await built.mine(BLOCKS)
    async with built.database.unit_of_work() as uow:
        [inflow] = [row for row in await inflows.find(uow, network="btc") if row.address == cold]
        assert (inflow.role, inflow.state) == ("cold", "booked")
        spendable = await coins.spendable(uow, network="btc", limit=100)
        [only] = (await coins.cold(uow, network="btc", limit=100)).free
    assert (only.amount_minor, only.path) == (700_000_000, "cold/0/0")
    assert only.outpoint not in {coin.outpoint for coin in spendable}
    assert await custody(built, "cold") == 700_000_000
    await no_breaks(built)
    row = await built.request("3.5")  # more than hot has, less than both
    await work(built, times=2)
    assert await built.states(row) == ["waiting_liquidity"]
    for is_cold in (False, True):
        async with built.database.unit_of_work() as uow:
            other = [item.outpoint for item in spendable[:1]] if is_cold else [only.outpoint]
            with pytest.raises(CoinTaken):
                await coins.reserve(
                    uow, attempt_id=built.ids.new_id(), outpoints=other, is_cold=is_cold
                )


async def test_a_cold_address_is_no_players_and_no_payouts_destination(house: BuildHouse) -> None:
    built = await with_cold(await house("btc"))
    async with built.database.unit_of_work() as uow:
        rows = await addresses.by_role(uow, network="btc", roles=(addresses.AddressRole.COLD,))
        assert len(rows) == 6
        assert all(row.is_verified and row.player_id is None for row in rows)
        assert await addresses.is_of_the_house(uow, network="btc", key=rows[0].key)
        assert await addresses.unverified(uow, network="btc", limit=10) == []


async def test_t6_what_nobody_signs_is_in_the_way_of_no_other_move(house: BuildHouse) -> None:
    built = await funded(await house("eth"))
    await with_cold(built)
    for _ in range(OPEN_MAX):
        await ask(built, "0.001")
    built.clock.advance(1)
    row = await agree(built, await ask(built, "0.5"))
    await work(built, times=2)
    assert (await now(built, row)).state == "sent"


async def test_t6_a_fee_that_none_may_pay_holds_up_only_its_own_move(house: BuildHouse) -> None:
    """Many coins in one move cost more than a tx may; the one behind it takes a single coin."""
    built = await house("btc")
    for _ in range(12):
        await built.fund(built.native, "0.1", into="acme")
    await built.fund(built.native, "1")
    await with_cold(built)
    fees = replace(built.registry.policy.fees["btc"], fee_per_tx_max_minor=FEE_OF_FEW)
    policy = replace(built.registry.policy, fees={**built.registry.policy.fees, "btc": fees})
    built.registry = replace(built.registry, policy=policy)
    large = await agree(built, await ask(built, "2.05"))
    small = await agree(built, await ask(built, "0.05"))
    await work(built, times=2)
    assert (await now(built, large)).state == "approved"
    assert (await now(built, small)).state == "sent"
