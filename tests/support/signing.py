"""The signer's own server around a house's vault, on a Unix socket of its folder."""

import asyncio
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from gateway.payouts.signer_client import SignerClient
from signer.logs import Log
from signer.pool import PoolVerifier
from signer.server import SignerServer
from signer.settings import load_settings
from tests.support.payouts import Payouts

START_SECONDS = 10.0
ANSWER_SECONDS = 60.0  # a request of 8 MB on a busy machine


@asynccontextmanager
async def socket_signer(house: Payouts) -> AsyncIterator[tuple[Path, SignerClient]]:
    """(socket, client) of the house's vault behind the real server."""
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
    async with asyncio.timeout(START_SECONDS):
        await ready.wait()
    try:
        yield settings.socket, SignerClient(settings.socket, timeout_seconds=ANSWER_SECONDS)
    finally:
        serving.cancel()
        await asyncio.wait([serving], timeout=START_SECONDS)
