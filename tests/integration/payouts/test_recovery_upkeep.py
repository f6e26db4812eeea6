"""Merges and splits that lost books do not know are imported: the house keeps its coins (P09)."""

from dataclasses import replace
from pathlib import Path

import pytest

from gateway.payouts import recovery_store as rows
from gateway.payouts.imports import Importer
from tests.support.bumps import funded, no_breaks, run_to_rest, sent, work
from tests.support.databases import TestDatabase
from tests.support.payouts import Payouts
from tests.support.restores import backups, dump, rescan
from tests.support.upkeep import POLICY, cheap_hour, coins_of

pytestmark = pytest.mark.postgres

FINAL_BLOCKS = 15


@pytest.mark.parametrize("blocks", [0, 1])
async def test_p09_a_lost_split_is_imported_with_its_parts(
    blocks: int, btc: Payouts, test_database: TestDatabase, tmp_path: Path
) -> None:
    await funded(btc)
    await cheap_hour(btc)
    await dump(test_database, tmp_path / "backup")
    await work(btc, times=3)
    [lost] = await sent(btc)
    assert (lost.purpose, lost.state) == ("fan_out", "seen")
    if blocks:
        await btc.mine(blocks)
    async with backups() as take_back:
        back = await take_back(btc, test_database, tmp_path / "backup")
        await back.cycle(times=2)
        await back.follow()
        assert await sent(back) == []
        assert "recovery" in await back.alarms()

        done = await Importer(replace(back.lane(), database=back.database)).run()

        assert (done.imported, done.left_over) == (1, ())
        await rescan(back)
        async with back.database.unit_of_work() as uow:
            row = await rows.current(uow, back.network)
            assert row is not None
            assert await rows.confirm(
                uow, row.id, version=row.version, people=("ada", "bob"), at=back.clock.now()
            )
        await run_to_rest(back, blocks=FINAL_BLOCKS)
        [found] = await sent(back)
        assert (found.id, found.txid, found.state) == (lost.id, lost.txid, "final")
        assert found.purpose == "fan_out"
        mined, unmined = await coins_of(back)
        assert (len(mined), unmined) == (POLICY.keep_coins, [])
        assert await back.alarms() == []
        await no_breaks(back)
        await back.assert_at_rest()
