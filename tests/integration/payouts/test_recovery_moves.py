"""Aborts, children and gas top-ups that lost books do not know are written again (P09)."""

from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest

from gateway.payouts import recovery_store as rows
from gateway.payouts.approvals import Action
from gateway.payouts.imports import Importer
from gateway.payouts.raw_tx import account_nonce
from ledger import accounts, balances
from signer.protocol import Purpose, SignedTx, SignRequest
from tests.support.bumps import KVB, Sent, fees_rise, no_breaks, pass_blocks, quote, sent
from tests.support.databases import TestDatabase
from tests.support.payout_fixtures import BuildHouse
from tests.support.payouts import Payouts
from tests.support.people import ask_abort, call_dead, employ
from tests.support.restores import Backup, backups, rescan
from watchers import addresses, nonces
from watchers.addresses import AddressRole
from watchers.chain import AccountPlan, Pay

pytestmark = pytest.mark.postgres


@pytest.fixture
async def backup(test_database: TestDatabase, tmp_path: Path) -> AsyncIterator[Backup]:
    """Backups of this test's database."""
    async with backups() as take_back:
        yield Backup(database=test_database, file=tmp_path / "backup", take_back=take_back)


async def noticed(backup: Backup, house: Payouts) -> Payouts:
    """The house on its restored books, once payouts has looked."""
    back = await backup.bring_back(house)
    await back.cycle()
    assert "recovery" in await back.alarms()
    return back


async def recover(house: Payouts) -> None:
    """`cage recover`, and two people."""
    await house.follow()
    row = await Importer(replace(house.lane(), database=house.database)).run()
    assert row.left_over == ()
    await rescan(house)
    async with house.database.unit_of_work() as uow:
        assert await rows.confirm(
            uow, row.id, version=row.version, people=("ada", "bob"), at=house.clock.now()
        )


async def run_off(house: Payouts) -> None:
    """Until everything is final and settled."""
    for count in (1, 2, house.registry.chains[house.network].full_depth):
        await house.cycle(times=2)
        await house.mine(count)
    await house.cycle(times=2)


async def funded(house: Payouts) -> None:
    """Something to pay, capital for fees, and two people."""
    await employ(house)
    await house.fund(house.native, "0.5")
    await house.fund(house.native, "2", into="acme")


@pytest.mark.parametrize("blocks", [0, 1])
@pytest.mark.parametrize("network", ["btc", "eth"])
async def test_p09_an_abort_that_the_books_lost_is_an_abort_again(
    network: str, blocks: int, house: BuildHouse, backup: Backup
) -> None:
    built = await house(network)
    await funded(built)
    row = await built.request("0.25")
    lane = await built.cycle(times=2)
    row = await built.row(row)
    await backup.take()
    await ask_abort(built, row, str(row.txid))
    await built.cycle(lane)
    aborting = await built.row(row)
    assert aborting.state == "cancelling"
    if blocks:
        await built.mine(blocks)
    back = await noticed(backup, built)
    assert await back.states(row) == ["sent"]

    await recover(back)

    found = await back.row(row)
    assert (found.state, found.txid) == ("cancelling", aborting.txid)
    payment, abort = await sent(back)
    assert (abort.purpose, abort.replaces_id, abort.family_id) == ("abort", payment.id, payment.id)
    await run_off(back)
    assert await back.states(row) == ["cancelled"]
    assert back.paid(row) == 0
    assert await back.alarms() == []
    await no_breaks(back)
    await back.assert_at_rest()


@pytest.mark.parametrize("network", ["btc", "eth"])
async def test_p09_an_abort_that_the_books_lost_is_bumped_with_what_people_had_signed(
    network: str, house: BuildHouse, backup: Backup
) -> None:
    """Nobody can sign for an abort that is on its way: their words come back from the signer."""
    built = await house(network)
    await funded(built)
    row = await built.request("0.25")
    lane = await built.cycle(times=2)
    row = await built.row(row)
    await backup.take()
    await ask_abort(built, row, str(row.txid))
    await built.cycle(lane)
    first = await built.row(row)
    back = await noticed(backup, built)
    await recover(back)
    lane = await back.cycle(times=2)
    await fees_rise(back)
    await pass_blocks(back)

    await back.cycle(lane)

    second = await back.row(row)
    assert (second.state, second.txid == first.txid) == ("cancelling", False)
    payment, abort, bumped = await sent(back)
    assert (bumped.purpose, bumped.replaces_id) == ("abort", abort.id)
    assert bumped.fee_minor > abort.fee_minor > payment.fee_minor
    await run_off(back)
    assert await back.states(row) == ["cancelled"]
    assert back.paid(row) == 0
    assert await back.alarms() == []
    await no_breaks(back)
    await back.assert_at_rest()


@pytest.mark.parametrize("blocks", [0, 1])
async def test_p09_a_reissue_that_the_books_lost_is_paid_once_by_its_second_family(
    blocks: int, btc: Payouts, backup: Backup
) -> None:
    """Both families come back, with the words of two people that the second one stands on."""
    await funded(btc)
    row = await btc.request("0.25")
    await backup.take()
    lane = await btc.cycle()
    [dead] = list(btc.sim.pool)
    await btc.steal_inputs_of(dead)
    await btc.mine(8)
    await btc.cycle(lane)
    assert await btc.states(row) == ["on_hold"]
    await btc.fund("btc:BTC", "3")
    assert await call_dead(btc, row, Action.REISSUE, [dead])
    await btc.cycle(lane, times=2)
    alive = (await btc.row(row)).txid
    assert alive != dead
    if blocks:
        await btc.mine(blocks)
    back = await noticed(backup, btc)

    await recover(back)

    found = await back.row(row)
    assert found.txid == alive
    first, second = await sent(back)
    assert first.family_id != second.family_id
    await run_off(back)
    assert await back.states(row) == ["completed"]
    assert back.paid(row) == 1


@pytest.mark.parametrize("blocks", [0, 1])
async def test_p09_a_child_that_the_books_lost_pays_for_its_payout_again(
    ltc: Payouts, blocks: int, backup: Backup
) -> None:
    await funded(ltc)
    await quote(ltc, {2: 2 * KVB, 6: 2 * KVB, 36: 2 * KVB})
    row = await ltc.request("0.25")
    lane = await ltc.cycle(times=2)
    await backup.take()
    await quote(ltc, {2: 20 * KVB, 6: 20 * KVB, 36: 20 * KVB})
    await pass_blocks(ltc)
    await ltc.cycle(lane)
    before = await sent(ltc)
    assert [tx.purpose for tx in before] == ["withdrawal", "cpfp"]
    if blocks:
        await ltc.mine(blocks)
    back = await noticed(backup, ltc)
    assert len(await sent(back)) == 1

    await recover(back)

    assert [facts(tx) for tx in await sent(back)] == [facts(tx) for tx in before]
    await run_off(back)
    assert await back.states(row) == ["completed"]
    assert back.paid(row) == 1
    fees = sum(tx.fee_minor for tx in before)
    async with back.database.unit_of_work() as uow:
        assert await balances.balance(uow, accounts.network_fee(back.native)) == fees
    await no_breaks(back)
    await back.assert_at_rest()


def facts(tx: Sent) -> tuple[object, ...]:
    """What a recovery must find again."""
    return (tx.id, tx.family_id, tx.purpose, tx.txid, tx.fee_minor, tx.pays_for_id)


async def test_p09_a_gas_top_up_that_the_books_lost_keeps_its_nonce(
    eth: Payouts, backup: Backup
) -> None:
    await funded(eth)
    lane = await eth.cycle()
    await backup.take()
    async with eth.database.unit_of_work() as uow:
        [hot] = await addresses.by_role(uow, network="eth", roles=(AddressRole.HOT,))
        [gas, *_] = await addresses.by_role(uow, network="eth", roles=(AddressRole.GAS,))
        nonce = await nonces.allocate(
            uow, network="eth", sender_key=hot.key, attempt_id=eth.ids.new_id()
        )
    plan = AccountPlan(
        sender=hot.derived(),
        nonce=nonce,
        payment=Pay(asset="eth:ETH", address=gas.address, amount_minor=10**15),
        gas_limit=21_000,
        max_fee_per_gas=10**10,
        max_priority_fee_per_gas=10**9,
    )
    question = SignRequest(
        attempt_id=str(eth.ids.new_id()),
        purpose=Purpose.GAS_TOP_UP,
        network="eth",
        worker_epoch=lane.lease.fence,
        unsigned=eth.chain.writer.build(plan).data,
        input_paths=(hot.path,),
        change_paths={},
        payments=(),
        own_path=gas.path,
    )
    answer = await eth.signer.sign(question)
    assert isinstance(answer, SignedTx), answer
    back = await noticed(backup, eth)

    await recover(back)

    [tx] = await sent(back)
    assert (str(tx.id), tx.purpose, tx.txid) == (
        question.attempt_id, "gas_top_up", answer.txid,
    )  # fmt: skip
    await back.cycle()
    row = await back.request("0.25")
    await back.cycle()
    paid = next(item for item in back.signer.asked if item.payments)
    assert account_nonce(paid.unsigned) == nonce + 1
    assert await back.states(row) == ["sent"]
