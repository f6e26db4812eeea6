"""A block is the same wherever it was verified: in the watcher, or in the second process."""

import asyncio

import pytest

from config.assets import load_assets
from config.clock import SystemClock
from gateway.sandbox.nodes import Anvil, UtxoNode
from tests.conformance.conftest import NETWORKS, SETTINGS, registry
from watchers.chains.node import HttpTransport
from watchers.chains.pace import PacedPost
from watchers.chains.verifier import Verifier
from watchers.errors import NodeUnavailable
from watchers.registry import FACTORIES

PATIENCE_SECONDS = 60.0
BLOCKS = 6

pytestmark = pytest.mark.node


@pytest.mark.parametrize("name", sorted(NETWORKS))
async def test_a_block_is_the_same_wherever_it_was_verified(
    name: str, request: pytest.FixtureRequest
) -> None:
    process: UtxoNode | Anvil = request.getfixturevalue(f"{name}_process")
    chains, clock = registry(), SystemClock()
    spec = chains[NETWORKS[name]]
    assets = [a for a in load_assets(SETTINGS, chains).values() if a.network == spec.network]
    async with process.connected() as node:
        await _fill(node)
        transport = HttpTransport(timeout_seconds=20.0)
        post = PacedPost(transport, calls_per_second=1000, clock=clock, close=transport.close)
        verifier = Verifier(clock=clock)
        chain = FACTORIES[spec.family](spec, [node.url], assets, post, clock, verifier)
        try:
            tip = await chain.reader.tip()
            refs = [await chain.reader.ref_at(tip.height - n) for n in range(BLOCKS)]
            hashes = [ref.hash for ref in refs if ref is not None]
            alone = [await chain.reader.block(item) for item in hashes]
            assert verifier.pid is None
            async with asyncio.timeout(PATIENCE_SECONDS):
                while verifier.pid is None:
                    together = await asyncio.gather(*map(chain.reader.block, hashes))
            together = await asyncio.gather(*map(chain.reader.block, hashes))
            assert verifier.pid is not None
            assert together == alone
            for one, other in zip(alone, together, strict=True):
                assert one.evidence is not None
                assert other.evidence is not None
                assert one.evidence.header == other.evidence.header != b""
                for txid in one.txids:
                    assert one.evidence.prove(txid) == other.evidence.prove(txid) is not None
            assert any(block.transfers for block in together)
            unknown = hashes[0].replace(hashes[0][-8:], "0" * 8)
            for error in await asyncio.gather(
                *(chain.reader.block(unknown) for _ in range(3)), return_exceptions=True
            ):
                assert isinstance(error, NodeUnavailable)
        finally:
            await chain.close()


async def _fill(node: UtxoNode | Anvil) -> None:
    if isinstance(node, Anvil):
        for number in range(BLOCKS):
            for _ in range(number):
                await node.send(f"0x{0xCA6E0000 + number:040x}", 10**15)
            await node.mine()
        return
    await node.ensure_funds()
    for _ in range(2):
        await node.send(await node.new_address(), "0.1")
        await node.mine(2)
