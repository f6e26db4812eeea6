"""The payout road on real nodes, with the signer asked over its own Unix socket."""

import asyncio
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from config.database import Database
from gateway.payouts.signer_client import SignerClient
from signer.logs import Log
from signer.pool import PoolVerifier
from signer.server import SignerServer
from signer.settings import load_settings
from tests.conformance.conftest import open_world
from tests.support.clock import ManualClock, SequentialIds
from tests.support.payouts import Payouts, SimulatedCrash, crash_at

pytestmark = [pytest.mark.postgres, pytest.mark.node]

BACKENDS = {"btc": "bitcoind", "ltc": "litecoind", "eth": "anvil"}


@asynccontextmanager
async def socket_signer(house: Payouts) -> AsyncIterator[SignerClient]:
    """The house's vault behind the real server."""
    kit = house.signer.kit
    settings = load_settings(kit.folder, own_uid=os.getuid())
    server = SignerServer(
        settings=settings,
        vault=kit.vault,
        pool=PoolVerifier(kit.keyring),
        trust=kit.trust,
        store=kit.store,
        clock=kit.clock,
        log=Log(kit.log, kit.clock),
    )
    ready = asyncio.Event()
    serving = asyncio.create_task(server.run(ready.set))
    async with asyncio.timeout(10):
        await ready.wait()
    try:
        yield SignerClient(settings.socket, timeout_seconds=10.0)
    finally:
        serving.cancel()
        await asyncio.wait([serving], timeout=10)


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
        rows = [await house.request("0.25"), await house.request("0.3")]
        async with socket_signer(house) as signer:
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
        await house.assert_at_rest()
