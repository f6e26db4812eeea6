"""D12, P09: refunds that lost books do not know are written again, and never paid twice."""

from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest

from gateway.payouts import recovery_store as rows
from gateway.payouts.imports import Importer
from tests.support.databases import TestDatabase
from tests.support.payout_fixtures import BuildHouse
from tests.support.payouts import Payouts
from tests.support.refunding import (
    books,
    deposit_now,
    open_refunds,
    refund_of,
    rejected,
    sign,
)
from tests.support.restores import Backup, backups, rescan

pytestmark = pytest.mark.postgres

NETWORKS = ("btc", "eth")


@pytest.fixture
async def backup(test_database: TestDatabase, tmp_path: Path) -> AsyncIterator[Backup]:
    """Backups of this test's database."""
    async with backups() as take_back:
        yield Backup(database=test_database, file=tmp_path / "backup", take_back=take_back)


async def opened(house: BuildHouse, network: str) -> Payouts:
    built = await house(network)
    await built.fund(built.native, "1")
    await open_refunds(built)
    await built.cycle()
    return built


async def recovered(built: Payouts) -> rows.RecoveryRow:
    """`cage recover`: the import, the blocks, and two people."""
    importer = Importer(replace(built.lane(), database=built.database))
    row = await importer.run()
    await rescan(built)
    async with built.database.unit_of_work() as uow:
        assert await rows.confirm(
            uow, row.id, version=row.version, people=("ada", "bob"), at=built.clock.now()
        )
    return row


async def to_rest(built: Payouts) -> None:
    await built.cycle(times=3)
    for _ in range(4):
        await built.mine(2)
        await built.cycle(times=2)


@pytest.mark.parametrize(
    ("asked", "blocks"), [((), 0), ((), 4), (("alice",), 0), (("alice", "bob"), 4)]
)
@pytest.mark.parametrize("network", NETWORKS)
async def test_p09_a_refund_that_the_books_lost_is_written_again(
    network: str, asked: tuple[str, ...], blocks: int, house: BuildHouse, backup: Backup
) -> None:
    """The backup is of before anybody signed, of after one person, and of after both."""
    built = await opened(house, network)
    deposit = await rejected(built)
    if asked:
        await sign(built, deposit, *asked)
    await backup.take()
    left = [person for person in ("alice", "bob") if person not in asked]
    if left:
        await sign(built, deposit, *left)
    lane = await built.cycle(times=2)
    first = await refund_of(built, deposit)
    assert first is not None
    assert first.state == "sent"
    if blocks:
        await built.mine(blocks)
        await built.cycle(lane)
    asked_for = len(built.signer.asked)

    back = await backup.bring_back(built)
    await back.cycle(times=3)
    await back.follow()
    await back.cycle(times=2)
    assert "recovery" in await back.alarms()
    row = await recovered(back)
    assert row.left_over == ()
    found = await refund_of(back, deposit)
    assert found is not None
    assert (found.txid, found.output_minor) == (first.txid, first.output_minor)
    await to_rest(back)

    assert await back.states(found) == ["completed"]
    assert (await deposit_now(back, deposit)).state == "refunded"
    assert back.paid(await back.row(found)) == 1
    assert len(back.signer.asked) == asked_for
    await back.assert_at_rest()


async def test_p09_a_refund_of_a_deposit_that_the_books_lost_is_a_persons_case(
    btc_house: Payouts, backup: Backup
) -> None:
    await backup.take()
    deposit = await rejected(btc_house)
    await sign(btc_house, deposit)
    await btc_house.cycle(times=2)
    back = await backup.bring_back(btc_house)
    await back.cycle(times=2)
    importer = Importer(replace(back.lane(), database=back.database))
    row = await importer.run()
    [case] = row.left_over
    assert "is not in the books" in str(case["reason"])
    before = await books(back)
    await back.cycle(times=2)
    assert await books(back) == before


@pytest.fixture
async def btc_house(house: BuildHouse) -> Payouts:
    """With fees paid in, and people who may refund."""
    return await opened(house, "btc")


async def test_p09_other_words_in_the_restored_books_are_a_persons_case(
    btc_house: Payouts, backup: Backup
) -> None:
    """Asked for anew, to elsewhere, before the recovery: the signer's word stays out until that
    is declined."""
    built = btc_house
    deposit = await rejected(built)
    await backup.take()
    await sign(built, deposit)
    await built.cycle(times=2)
    back = await backup.bring_back(built)
    await sign(back, deposit, address="mipcBbFg9gMiCh81Kj8tqqdgoZub1ZJRfn")
    await back.cycle(times=2)
    importer = Importer(replace(back.lane(), database=back.database))
    row = await importer.run()
    [case] = row.left_over
    assert "another refund" in str(case["reason"])
    assert len(back.signer.asked) == 1
