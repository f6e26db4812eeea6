"""Moves to cold and set-ups that lost books do not know go on by themselves, and once (P09)."""

from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from uuid import UUID

import pytest

from gateway.payouts import setups_store
from gateway.payouts.import_rebalances import SIGNED_BEFORE
from gateway.payouts.same_tx import gas_fields
from gateway.payouts.setups import State
from tests.integration.payouts.test_contract_setups import in_force
from tests.integration.payouts.test_contract_setups import signed as set_up
from tests.integration.payouts.test_recovery_moves import noticed, recover, run_off
from tests.support.batch import balance
from tests.support.bumps import funded, mine_only, no_breaks, pass_blocks, sent, work
from tests.support.contract_bench import Bench, BuildBench
from tests.support.databases import TestDatabase
from tests.support.payout_fixtures import BuildHouse
from tests.support.payouts import SimulatedCrash, crash_at
from tests.support.rebalancing import POLICY, agree, ask, custody, every, now, with_cold
from tests.support.restores import Backup, backups
from tests.support.sweeping import ETH, USDT, Sweeps, dear
from tests.support.vault import BATCH_CONTRACT, TOKEN
from watchers.outgoing import OutgoingState

pytestmark = pytest.mark.postgres

ALONE = replace(POLICY, two_people_above_minor=10**20)
DUAL = f'cold_dual_limit_minor = "{10**24}"\n'
WIDE = f'cold_tx_max_minor = "{10**24}"\ncold_day_max_minor = "{10**24}"\n'


@pytest.fixture
async def backup(test_database: TestDatabase, tmp_path: Path) -> AsyncIterator[Backup]:
    """Backups of this test's database."""
    async with backups() as take_back:
        yield Backup(database=test_database, file=tmp_path / "backup", take_back=take_back)


@pytest.mark.parametrize("blocks", [0, 1])
@pytest.mark.parametrize("stood", ["unknown", "proposed", "approved"])
@pytest.mark.parametrize("network", ["btc", "eth"])
async def test_p09_a_move_to_cold_that_the_books_lost_goes_on_and_is_made_once(
    network: str, stood: str, blocks: int, house: BuildHouse, backup: Backup
) -> None:
    built = await with_cold(await funded(await house(network)))
    if stood == "unknown":
        await backup.take()
    row = await ask(built, "1")
    if stood == "proposed":
        await backup.take()
    row = await agree(built, row)
    if stood == "approved":
        await backup.take()
    await work(built, times=2)
    [before] = await sent(built)
    if blocks:
        await built.mine(blocks)
    asked = len(built.signer.asked)
    back = await noticed(backup, built)

    await recover(back)
    await run_off(back)

    [move] = await sent(back)
    assert (move.id, move.txid, move.state) == (before.id, before.txid, "final")
    assert len(back.signer.asked) == asked
    rows = await every(back)
    [done] = [item for item in rows if item.state == "done"]
    given_up = [item for item in rows if item.id != done.id]
    assert (done.attempt_id, done.amount_minor) == (move.id, row.amount_minor)
    assert (done.id == row.id) is (stood == "approved")
    codes = [(item.id, item.state, item.code) for item in given_up]
    assert codes == ([(row.id, "cancelled", SIGNED_BEFORE)] if stood == "proposed" else [])
    assert await custody(back, "cold") == row.amount_minor
    assert await back.alarms() == []
    await no_breaks(back)
    await back.assert_at_rest()


async def test_p09_without_words_each_signature_takes_the_oldest_that_asks_for_the_same(
    house: BuildHouse, backup: Backup
) -> None:
    """One person agreed to each of three, so the signer was shown nobody's words: two were made,
    and the third is made now."""
    built = await funded(await house("btc"), coins=4)
    await with_cold(built, policy=ALONE, caps=f"{WIDE}{DUAL}")
    rows = []
    for _ in range(3):
        rows.append(await agree(built, await ask(built, "0.5"), "alice"))
        built.clock.advance(1)
    third = rows.pop()
    await backup.take()
    async with built.database.unit_of_work() as uow:  # only two of them reach the signer
        await uow.execute(
            "UPDATE gateway.rebalances SET valid_until = created_at WHERE id = :id",
            {"id": third.id},
        )
    await work(built, times=2)
    assert len(await sent(built)) == 2
    signed_in_order = [UUID(item.attempt_id) for item in built.signer.asked]
    back = await noticed(backup, built)

    await recover(back)

    assert [(await now(back, row)).state for row in (*rows, third)] == [
        "signed", "signed", "approved",
    ]  # fmt: skip
    await run_off(back)
    await run_off(back)
    found = [await now(back, row) for row in (*rows, third)]
    assert [row.state for row in found] == ["done"] * 3
    assert [row.attempt_id for row in found[:2]] == signed_in_order
    assert len({row.attempt_id for row in found}) == 3
    assert await custody(back, "cold") == 3 * back.minor(back.native, "0.5")
    await no_breaks(back)


async def test_p09_a_dearer_attempt_that_the_books_lost_is_the_live_one_again(
    house: BuildHouse, backup: Backup
) -> None:
    built = await with_cold(await funded(await house("btc")))
    row = await agree(built, await ask(built, "1"))
    lane = await work(built, times=2)
    await backup.take()
    while len(before := await sent(built)) < 2:
        await pass_blocks(built)
        await built.sample_fees()
        await work(built, lane)
    back = await noticed(backup, built)
    assert len(await sent(back)) == 1

    await recover(back)

    assert [(tx.id, tx.family_id, tx.replaces_id) for tx in await sent(back)] == [
        (tx.id, tx.family_id, tx.replaces_id) for tx in before
    ]
    assert (await now(back, row)).txid == before[-1].txid
    await work(back)
    await mine_only(back, before[-1].txid or "")
    await run_off(back)
    found = await now(back, row)
    assert (found.state, found.attempt_id) == ("done", before[-1].id)
    assert await custody(back, "cold") == row.amount_minor
    await no_breaks(back)
    await back.assert_at_rest()


@pytest.mark.node
@pytest.mark.parametrize("stood", ["unknown", "proposed", "approved"])
@pytest.mark.parametrize("action", ["fund", "withdraw"])
async def test_p09_a_set_up_that_the_books_lost_goes_on_and_is_done_once(
    build_bench: BuildBench, action: str, stood: str, backup: Backup
) -> None:
    bench = await in_force(build_bench)
    if action == "withdraw":
        await bench.house.fund("eth:USDT", "40", into="acme", at=BATCH_CONTRACT)
    if stood == "unknown":
        await backup.take()
    if stood == "proposed":
        await set_up(bench, action, asset="eth:USDT", amount="40", people=("alice",))
        await backup.take()
    row = await set_up(bench, action, asset="eth:USDT", amount="40")
    if stood == "approved":
        await backup.take()
    await bench.house.cycle(times=2)
    [before] = await bench.own_txs()
    await bench.house.mine()
    back = Bench(node=bench.node, house=await noticed(backup, bench.house))

    await recover(back.house)
    await back.finish()
    await back.finish()

    [tx] = await back.own_txs()
    assert (tx.id, tx.txid, tx.state) == (before.id, before.txid, OutgoingState.FINAL)
    async with back.house.database.unit_of_work() as uow:
        [found] = await setups_store.newest(uow, limit=9)
    assert (found.state, found.attempt_id, found.reference) == (State.DONE, tx.id, row.reference)
    left = 40_000_000 if action == "fund" else 0
    assert await balance(back.node, BATCH_CONTRACT, token=TOKEN) == left
    assert found.txid == before.txid
    assert await back.house.alarms() == []
    await back.house.assert_at_rest()
    await back.assert_reconciled()


@pytest.mark.node
async def test_p09_a_set_ups_dearer_attempt_that_the_books_lost_is_the_live_one_again(
    build_bench: BuildBench, backup: Backup
) -> None:
    bench = await in_force(build_bench)
    row = await set_up(bench, "fund", asset="eth:USDT", amount="40")
    lane = await bench.house.cycle(times=2)
    [first] = await bench.own_txs()
    await backup.take()
    await dear(bench, 3 * gas_fields(first.unsigned)[0])
    await bench.house.cycle(lane, times=2)
    [second] = [tx for tx in await bench.own_txs() if tx.id != first.id]
    back = Bench(node=bench.node, house=await noticed(backup, bench.house))

    await recover(back.house)

    async with back.house.database.unit_of_work() as uow:
        [found] = await setups_store.newest(uow, limit=9)
    assert (found.id, found.state, found.txid) == (row.id, State.SENT, second.txid)
    for _ in range(3):
        await back.finish()
    async with back.house.database.unit_of_work() as uow:
        [found] = await setups_store.newest(uow, limit=9)
    assert (found.state, found.attempt_id) == (State.DONE, second.id)
    assert await balance(back.node, BATCH_CONTRACT, token=TOKEN) == 40_000_000
    await back.house.assert_at_rest()
    await back.assert_reconciled()


@pytest.mark.node
@pytest.mark.parametrize("blocks", [0, 1])
@pytest.mark.parametrize(
    ("asset", "amount", "lost"), [(ETH, "0.5", "sweep"), (USDT, "50", "gas_top_up")]
)
async def test_p09_a_sweep_that_the_books_lost_goes_on_and_is_made_once(
    build_bench: BuildBench, asset: str, amount: str, lost: str, blocks: int, backup: Backup
) -> None:
    """The coin's own sweep, or the gas for a token's: planned again it would be signed again."""
    bench = await build_bench()
    before = await Sweeps.open(bench.house)
    await before.deposit("anna", asset, amount)
    with pytest.raises(SimulatedCrash):
        await bench.house.cycle(bench.house.lane(crash=crash_at("payout.sweeps_collected")))
    assert await before.states() == ["waiting"]
    await backup.take()
    await bench.house.cycle(times=2)
    [made] = await bench.own_txs()
    assert (made.purpose, made.raw is not None) == (lost, True)
    if blocks:
        await bench.house.mine()
    back = Bench(node=bench.node, house=await noticed(backup, bench.house))
    after = Sweeps(house=back.house)

    await recover(back.house)

    assert await after.states() == ["signed" if lost == "sweep" else "gas_planned"]
    await after.finish()
    assert await after.states() == ["swept"]
    txs = sorted(await back.own_txs(), key=lambda tx: tx.purpose)
    assert [(tx.purpose, tx.state) for tx in txs] == [
        *([("gas_top_up", OutgoingState.FINAL)] if lost == "gas_top_up" else []),
        ("sweep", OutgoingState.FINAL),
    ]
    assert (txs[0].id, (await after.row()).attempt_id) == (made.id, txs[-1].id)
    assert await back.house.alarms() == []
    await back.house.assert_at_rest()
    await back.assert_reconciled()
