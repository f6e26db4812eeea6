"""The payout road on real nodes, with the signer asked over its own Unix socket."""

from pathlib import Path

import pytest

from config.database import Database
from ledger import accounts, balances
from tests.conformance.conftest import open_world
from tests.support.clock import ManualClock, SequentialIds
from tests.support.payouts import Payouts, SimulatedCrash, crash_at
from tests.support.signing import socket_signer

pytestmark = [pytest.mark.postgres, pytest.mark.node]

BACKENDS = {"btc": "bitcoind", "ltc": "litecoind", "eth": "anvil"}


@pytest.mark.parametrize("network", list(BACKENDS))
async def test_real_node_payout_survives_a_kill_between_signing_and_broadcast(
    network: str,
    request: pytest.FixtureRequest,
    database: Database,
    payouts_role: Database,
    clock: ManualClock,
    ids: SequentialIds,
    session_folder: Path,
) -> None:
    folder = session_folder / f"house-{network}"
    folder.mkdir()
    async with open_world(BACKENDS[network], request) as world:
        house = await Payouts.start(
            network,
            database=database,
            role=payouts_role,
            clock=clock,
            ids=ids,
            folder=folder,
            world=world,
        )
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
