"""The payout road on real nodes, with the signer asked over its own Unix socket."""

from dataclasses import replace
from pathlib import Path

import pytest

from gateway import withdrawals_store
from gateway.payouts import recovery_store
from gateway.payouts.imports import Importer
from ledger import accounts, balances
from tests.support.databases import TestDatabase
from tests.support.payout_fixtures import NODES, OnNode
from tests.support.payouts import SimulatedCrash, crash_at
from tests.support.restores import backups, dump, rescan
from tests.support.signing import socket_signer

pytestmark = [pytest.mark.postgres, pytest.mark.node]


@pytest.mark.parametrize("network", list(NODES))
async def test_real_node_payout_survives_a_kill_between_signing_and_broadcast(
    network: str, on_node: OnNode, session_folder: Path
) -> None:
    async with on_node(network, session_folder / f"house-{network}") as house:
        await house.fund(house.native, "1")
        await house.fund(house.native, "2", into="acme")
        player = {"fee_mode": "player", "max_fee": "0.01"}
        rows = [await house.request("0.25"), await house.request("0.3", **player)]
        async with socket_signer(house) as (_, signer):
            with pytest.raises(SimulatedCrash):
                await house.cycle(house.lane(crash=crash_at("payout.signed"), signer=signer))
            lane = await house.cycle(house.lane(signer=signer), times=2)
            assert await house.states(*rows) == ["sent", "sent"]
            for _ in range(4):
                await house.mine()
                await house.cycle(lane)

        assert await house.states(*rows) == ["completed", "completed"]
        for row in rows:
            txid = (await house.row(row)).txid
            assert txid is not None
            assert (await house.chain.reader.tx_status(txid)).block is not None
        charged = rows[1].fee_charged_minor
        assert charged is not None
        async with house.database.unit_of_work() as uow:
            earned = accounts.fee_recovery(house.native)
            assert await balances.balance(uow, earned) == charged > 0
        await house.assert_at_rest()


@pytest.mark.parametrize("network", ["btc", "eth"])
async def test_p09_restored_database_on_a_real_node_pays_nothing_twice(
    network: str, on_node: OnNode, test_database: TestDatabase, session_folder: Path
) -> None:
    """A backup by pg_dump before two payouts, restored after one is mined and one is not."""
    folder = session_folder / f"back-{network}"
    async with on_node(network, folder) as house, backups() as take_back:
        await house.fund(house.native, "1")
        await house.fund(house.native, "2", into="acme")
        async with socket_signer(house) as (_, signer):
            await house.cycle(house.lane(signer=signer))
            first = await house.request("0.25")
            await dump(test_database, folder / "backup")
            await house.cycle(house.lane(signer=signer), times=2)
            await house.mine()
            second = await house.request("0.3", player_id="later")
            await house.cycle(house.lane(signer=signer), times=2)
            txids = {(await house.row(row)).txid for row in (first, second)}
            assert await house.states(first, second) == ["confirming", "sent"]

            back = await take_back(house, test_database, folder / "backup")
            await back.follow()
            await back.cycle(back.lane(signer=signer), times=2)
            assert await back.states(first) == ["queued"]
            assert "recovery" in await back.alarms()

            lane = replace(back.lane(signer=signer), database=back.database)
            row = await Importer(lane).run()
            assert row.left_over == ()
            await rescan(back)
            async with back.database.unit_of_work() as uow:
                assert await recovery_store.confirm(
                    uow, row.id, version=row.version, people=["ada", "bob"], at=back.clock.now()
                )
            for _ in range(5):
                await back.cycle(back.lane(signer=signer), times=2)
                await back.mine()

        async with back.database.unit_of_work() as uow:
            remade = await withdrawals_store.by_request_id(
                uow, brand="acme", request_id=second.request_id
            )
            sent = await uow.execute("SELECT txid FROM chain.outgoing")
            assert set(sent.scalars()) == txids
        assert remade is not None
        assert await back.states(first, remade) == ["completed", "completed"]
        await back.assert_at_rest()
