"""A batch that lost books do not know is imported as a batch: each leg is settled alone (P09)."""

from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest

from gateway import withdrawals_store
from gateway.payouts import recovery_store as rows
from gateway.payouts.imports import Importer
from gateway.payouts.recovery_store import RecoveryRow
from tests.integration.payouts.test_payout_batches import ONE, _funded
from tests.support import evm
from tests.support.batch import balance, fresh
from tests.support.contract_bench import Bench, BuildBench
from tests.support.databases import TestDatabase
from tests.support.payouts import Payouts
from tests.support.restores import TakeBack, backups, dump, rescan
from tests.support.vault import BATCH_CONTRACT, TOKEN

pytestmark = [pytest.mark.postgres, pytest.mark.node]


@pytest.fixture
async def take_back() -> AsyncIterator[TakeBack]:
    """Databases taken back, closed behind the test."""
    async with backups() as lent:
        yield lent


async def imported(house: Payouts) -> RecoveryRow:
    """What `cage recover` says."""
    return await Importer(replace(house.lane(), database=house.database)).run()


async def confirmed(house: Payouts) -> bool:
    async with house.database.unit_of_work() as uow:
        row = await rows.current(uow, house.network)
        assert row is not None
        return await rows.confirm(
            uow, row.id, version=row.version, people=("ada", "bob"), at=house.clock.now()
        )


@pytest.mark.parametrize("blocks", [0, 1])
async def test_p09_p28_a_lost_batch_is_imported_with_its_legs(
    build_bench: BuildBench,
    test_database: TestDatabase,
    take_back: TakeBack,
    tmp_path: Path,
    blocks: int,
) -> None:
    """One order is in the backup, three came after it; one leg fails, the others are paid."""
    bench = await build_bench()
    await _funded(bench)
    house = bench.house
    lane = await house.cycle()
    early = await bench.pay(1, "2")
    await dump(test_database, tmp_path / "backup")
    late = [
        await house.request("2", asset="eth:USDT", address=fresh(number)) for number in (1, 2, 3)
    ]
    await bench.node.transact(
        to=TOKEN, data=evm.call_data("setBlocked(address,bool)", fresh(3), True)
    )
    await bench.node.mine()
    await house.cycle(lane, times=2)
    if blocks:
        await house.mine(blocks)
        await house.cycle(lane)
    (sent,) = await bench.own_txs()
    assert sent.payer_key == BATCH_CONTRACT

    bench = Bench(node=bench.node, house=await take_back(house, test_database, tmp_path / "backup"))
    await bench.house.cycle(times=2)
    await bench.house.follow()
    assert (await imported(bench.house)).left_over == ()
    (tx,) = await bench.own_txs()
    assert (tx.payer_key, tx.payments) == (sent.payer_key, sent.payments)
    await rescan(bench.house)
    assert await confirmed(bench.house)
    await bench.finish()

    async with bench.house.database.unit_of_work() as uow:
        made = [
            await withdrawals_store.by_request_id(uow, brand=row.brand, request_id=row.request_id)
            for row in [*early, *late]
        ]
    assert [row.state for row in made if row is not None] == [
        "completed", "completed", "completed", "failed",
    ]  # fmt: skip
    paid = [await balance(bench.node, fresh(number), token=TOKEN) for number in range(4)]
    assert paid == [2 * ONE, 2 * ONE, 2 * ONE, 0]
    await bench.house.assert_at_rest()
