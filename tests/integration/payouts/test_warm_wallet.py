"""The warm wallet on every family: two people move value to it and back, the books right at each
block, and nothing else touches what it holds."""

from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest
from sqlalchemy.exc import DBAPIError

from gateway.payouts.crash import POINTS_OF_REBALANCES
from gateway.payouts.rebalances import Direction
from gateway.treasury import positions
from gateway.treasury.positions import WalletPosition
from ledger import accounts, balances
from tests.integration.payouts.test_recovery_moves import noticed, recover, run_off
from tests.support.bumps import funded, no_breaks, run_to_rest, sent, work
from tests.support.databases import TestDatabase
from tests.support.payout_fixtures import NODES, BuildHouse, OnNode
from tests.support.payouts import Payouts, SimulatedCrash, crash_at
from tests.support.rebalancing import POLICY, agree, custody, every, now, told
from tests.support.restores import Backup, backups
from tests.support.warm import ask, warm_address, with_warm

pytestmark = pytest.mark.postgres

TO_WARM, TO_HOT = Direction.HOT_TO_WARM, Direction.WARM_TO_HOT
ROAD = ["proposed", "approved", "planned", "signed", "sent", "done"]
ELSEWHERE = {
    "payout.rebalance_proposed",  # the system asks for none
    "payout.rebalance_refused",
    "payout.rebalance_bumped",
}


@pytest.fixture
async def backup(test_database: TestDatabase, tmp_path: Path) -> AsyncIterator[Backup]:
    """Backups of this test's database."""
    async with backups() as take_back:
        yield Backup(database=test_database, file=tmp_path / "backup", take_back=take_back)


async def to_rest(house: Payouts, *, blocks: int = 8) -> None:
    """Mine and work it off; the books explain the chain at each block between."""
    lane = await work(house, times=2)
    for _ in range(blocks):
        await no_breaks(house)
        await house.mine()
        await no_breaks(house)
        await work(house, lane)


async def made(house: Payouts, direction: Direction, amount: str, *, asset: str = "") -> None:
    """A move that two people sign, to its end."""
    row = await agree(house, await ask(house, direction, amount, asset=asset))
    await to_rest(house)
    assert (await now(house, row)).state == "done"
    assert await told(house, row) == [f"rebalance.{state}" for state in ROAD]


async def fees_booked(house: Payouts) -> int:
    async with house.database.unit_of_work() as uow:
        return await balances.balance(uow, accounts.network_fee(house.native))


async def position(house: Payouts, role: str, asset: str = "") -> WalletPosition:
    """A wallet as `GET /v1/wallets` and `cage treasury balances` show it."""
    async with house.role.snapshot() as uow:
        found = await positions.read(uow, house.registry, has_chain=True)
    [wallet] = [i for i in found if (i.role, i.asset) == (role, asset or house.native)]
    return wallet


@pytest.mark.parametrize("network", ["btc", "ltc", "eth"])
async def test_t1_value_goes_to_the_warm_wallet_and_back_and_every_unit_is_accounted_for(
    network: str, house: BuildHouse
) -> None:
    built = await with_warm(await funded(await house(network)))  # 3 coins
    shown = await position(built, "warm")
    assert (shown.wallet, shown.ledger_minor) == (f"{network}/warm", 0)

    await made(built, TO_WARM, "2")
    there = await fees_booked(built)
    shown = await position(built, "warm")
    assert shown.chain is not None
    assert (shown.ledger_minor, shown.chain.amount_minor) == (built.minor(built.native, "2"),) * 2
    assert await custody(built, "hot") == built.minor(built.native, "1") - there

    await made(built, TO_HOT, "1.5")
    back = await fees_booked(built) - there
    assert there > 0
    assert back > 0
    assert await custody(built, "warm") == built.minor(built.native, "0.5") - back
    assert await custody(built, "hot") == built.minor(built.native, "2.5") - there
    assert [item.purpose for item in await sent(built)] == ["hot_to_warm", "warm_to_hot"]
    payout = await built.request("1.8")  # what came back pays
    await run_to_rest(built)
    assert await built.states(payout) == ["completed"]
    assert await built.alarms() == []
    await built.assert_at_rest()


async def test_t1_a_token_goes_there_and_back_once_the_warm_account_has_gas(
    house: BuildHouse,
) -> None:
    built = await with_warm(await funded(await house("eth")))
    await built.fund("eth:USDT", "900", into="acme")
    await made(built, TO_WARM, "700", asset="eth:USDT")
    row = await agree(built, await ask(built, TO_HOT, "300", asset="eth:USDT"))
    await to_rest(built, blocks=2)
    assert (await now(built, row)).state == "approved"  # it has no gas
    await made(built, TO_WARM, "0.5")
    await to_rest(built)
    assert (await now(built, row)).state == "done"
    assert await custody(built, "warm", "eth:USDT") == 400_000_000
    assert await custody(built, "hot", "eth:USDT") == 500_000_000
    assert await custody(built, "warm") < built.minor("eth:ETH", "0.5")
    await built.assert_at_rest()


@pytest.mark.parametrize("network", ["btc", "eth"])
async def test_p26_payouts_wait_for_hot_value_however_much_is_warm(
    network: str, house: BuildHouse
) -> None:
    built = await with_warm(await funded(await house(network)))
    await made(built, TO_WARM, "2.5")
    payout = await built.request("1")
    await run_to_rest(built)
    assert await built.states(payout) == ["waiting_liquidity"]
    await made(built, TO_HOT, "2")
    await run_to_rest(built)
    assert await built.states(payout) == ["completed"]
    await built.assert_at_rest()


@pytest.mark.parametrize("network", ["btc", "eth"])
async def test_p26_more_than_the_warm_wallet_holds_waits_and_expires(
    network: str, house: BuildHouse
) -> None:
    built = await with_warm(await funded(await house(network)))
    await made(built, TO_WARM, "1")
    row = await agree(built, await ask(built, TO_HOT, "1"))  # and no fee
    await to_rest(built, blocks=2)
    assert (await now(built, row)).state == "approved"
    built.clock.advance(POLICY.valid_seconds)
    built.signer.kit.clock.now += POLICY.valid_seconds
    await built.sample_fees()
    await work(built)
    ended = await now(built, row)
    assert (ended.state, ended.code) == ("cancelled", "expired")
    await built.assert_at_rest()


@pytest.mark.parametrize("direction", [TO_WARM, TO_HOT])
async def test_s15_one_person_is_never_enough(direction: Direction, house: BuildHouse) -> None:
    """Not by policy, and not for a stolen role of the API."""
    built = await with_warm(await funded(await house("btc")))
    alone = replace(POLICY, is_automatic=True, two_people_above_minor=10**12)
    rules = replace(built.registry.policy, rebalances={"btc:BTC": alone})
    built.registry = replace(built.registry, policy=rules)
    row = await ask(built, direction, "0.5")
    assert row.people_needed == 2
    row = await agree(built, row, "alice")
    assert row.state == "proposed"
    await work(built, times=2)
    assert await sent(built) == []
    with pytest.raises(DBAPIError, match="rebalances_warm_takes_two"):
        async with built.database.unit_of_work() as uow:
            await uow.execute(
                "INSERT INTO gateway.rebalances (id, network, asset, direction, amount, address, "
                "address_key, reason, state, people_needed, requested_by, valid_until, created_at, "
                "state_at) SELECT :id, network, asset, direction, amount, address, address_key, "
                "reason, state, 1, requested_by, valid_until, created_at, state_at "
                "FROM gateway.rebalances",
                {"id": built.ids.new_id()},
            )


async def test_s05_without_caps_of_the_signer_nothing_moves_and_all_is_free_again(
    house: BuildHouse,
) -> None:
    built = await with_warm(await funded(await house("btc")), caps="")
    row = await agree(built, await ask(built, TO_WARM, "0.5"))
    await work(built, times=2)
    ended = await now(built, row)
    assert (ended.state, ended.code) == ("failed", "cap_exceeded")
    payout = await built.request("2")
    await run_to_rest(built)
    assert await built.states(payout) == ["completed"]


POINTS = [
    *(point for point in POINTS_OF_REBALANCES if point not in ELSEWHERE),
    "payout.broadcasting",
    "payout.sent_to_node",
    "payout.child_settled",
]


@pytest.mark.parametrize("point", POINTS)
@pytest.mark.parametrize("network", ["btc", "eth"])
async def test_p02_killed_at_each_step_of_a_move_from_warm_it_is_made_once(
    network: str, point: str, house: BuildHouse
) -> None:
    built = await with_warm(await funded(await house(network)))
    await made(built, TO_WARM, "2")
    row = await agree(built, await ask(built, TO_HOT, "1"))

    with pytest.raises(SimulatedCrash):
        await run_to_rest(built, built.lane(crash=crash_at(point)))
    await run_to_rest(built)

    assert (await now(built, row)).state == "done"
    assert await told(built, row) == [f"rebalance.{state}" for state in ROAD]
    [move] = [item for item in await sent(built) if item.purpose == "warm_to_hot"]
    asked = {item.unsigned for item in built.signer.asked if item.attempt_id == str(move.id)}
    assert (len(asked), move.state) == (1, "final")
    assert await built.alarms() == []
    await no_breaks(built)
    await built.assert_at_rest()


@pytest.mark.parametrize("stood", ["unknown", "approved"])
@pytest.mark.parametrize("network", ["btc", "eth"])
async def test_p09_a_move_from_warm_that_the_books_lost_goes_on_and_is_made_once(
    network: str, stood: str, house: BuildHouse, backup: Backup
) -> None:
    built = await with_warm(await funded(await house(network)))
    await made(built, TO_WARM, "2")
    if stood == "unknown":
        await backup.take()
    row = await agree(built, await ask(built, TO_HOT, "1"))
    if stood == "approved":
        await backup.take()
    await work(built, times=2)
    before = (await sent(built))[-1]
    asked = len(built.signer.asked)
    back = await noticed(backup, built)

    await recover(back)
    await run_off(back)

    move = (await sent(back))[-1]
    assert (move.id, move.txid, move.state) == (before.id, before.txid, "final")
    assert len(back.signer.asked) == asked
    [done] = [item for item in await every(back) if item.direction == TO_HOT]
    assert (done.state, done.attempt_id, done.id == row.id) == (
        "done", move.id, stood == "approved",
    )  # fmt: skip
    assert await back.alarms() == []
    await no_breaks(back)
    await back.assert_at_rest()


@pytest.mark.node
@pytest.mark.parametrize("network", list(NODES))
async def test_t1_real_nodes_take_both_ways(network: str, on_node: OnNode, tmp_path: Path) -> None:
    async with on_node(network, tmp_path) as house:
        await house.fund(house.native, "3")
        await with_warm(house)
        await made(house, TO_WARM, "2")
        await made(house, TO_HOT, "1")
        held = await custody(house, "warm")
        shown = await position(house, "warm")
        assert shown.chain is not None
        assert (shown.ledger_minor, shown.chain.amount_minor) == (held, held)
        assert 0 < held < house.minor(house.native, "1")
        assert await house.alarms() == []
        await house.assert_at_rest()


async def test_the_warm_address_is_one_that_the_signer_verified(house: BuildHouse) -> None:
    built = await with_warm(await house("btc"))
    row = await warm_address(built)
    assert (row.path, row.is_verified, row.brand) == ("m/84h/1h/0h/5/0", True, None)


@pytest.mark.parametrize("network", ["btc", "eth"])
async def test_t1_coins_from_outside_are_in_suspense_until_people_assign_them(
    network: str, house: BuildHouse
) -> None:
    built = await with_warm(await funded(await house(network)))
    warm = await warm_address(built)
    await built.fund(built.native, "1", at=warm.address)
    assert await custody(built, "warm") == built.minor(built.native, "1")
    await no_breaks(built)
    payout = await built.request("1.9")  # of hot value alone
    await run_to_rest(built)
    assert await built.states(payout) == ["completed"]
    assert await custody(built, "warm") == built.minor(built.native, "1")
    await made(built, TO_HOT, "0.5")
    await built.assert_at_rest()
