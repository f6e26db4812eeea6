"""What a node's whole set of unspent outputs holds for some keys: simulated, and on real nodes."""

from collections.abc import AsyncIterator

import pytest

from config.clock import SystemClock
from gateway.sandbox.nodes import UtxoNode
from tests.conformance.conftest import NETWORKS, open_world, registry
from tests.conformance.support import coin_of, fund, native, unit
from tests.support.sim_unspent import SimUnspent
from tests.support.worlds import SimUtxoWorld, Wallet, World
from watchers.registry import build_unspent
from watchers.unspent import UnspentReader

pytestmark = pytest.mark.asyncio

BACKENDS = [
    "sim-utxo",
    pytest.param("bitcoind", marks=pytest.mark.node),
    pytest.param("litecoind", marks=pytest.mark.node),
]
CALLS_PER_SECOND = 1_000


@pytest.fixture(params=BACKENDS)
async def node(request: pytest.FixtureRequest) -> AsyncIterator[tuple[World, UnspentReader]]:
    """Each backend, and its set."""
    name = str(request.param)
    async with open_world(name, request) as world:
        if isinstance(world, SimUtxoWorld):
            yield world, SimUnspent(world.sim)
            return
        process: UtxoNode = request.getfixturevalue(f"{name}_process")
        reader = build_unspent(
            registry()[NETWORKS[name]],
            [process.url],
            clock=SystemClock(),
            calls_per_second=CALLS_PER_SECOND,
        )
        assert reader is not None
        yield world, reader
        await reader.close()


async def test_what_lies_at_some_keys_is_told_with_its_block(
    node: tuple[World, UnspentReader],
) -> None:
    world, reader = node
    wallet = Wallet.of(world.chain)
    target, stranger = wallet.address(71), wallet.address(997)
    before = {coin.outpoint for coin in (await reader.unspent([target.key])).coins}
    block = await fund(world, target, unit(world))
    await world.mine()
    tip = await world.chain.reader.tip()

    found = await reader.unspent([stranger.key, target.key, target.key])

    assert (found.height, found.block_hash) == (tip.height, tip.hash)
    [coin] = [item for item in found.coins if item.outpoint not in before]
    assert coin.outpoint == coin_of(block, target).outpoint
    assert (coin.key, coin.amount_minor, coin.height) == (
        target.key, unit(world), block.ref.height,
    )  # fmt: skip
    assert {item.key for item in found.coins} == {target.key}
    assert (await reader.unspent([stranger.key])).coins == ()


async def test_what_waits_in_the_mempool_is_not_in_the_set(
    node: tuple[World, UnspentReader],
) -> None:
    world, reader = node
    target = Wallet.of(world.chain).address(72)
    before = (await reader.unspent([target.key])).coins
    [txid] = await world.pay([native(world, target, unit(world))])
    assert (await reader.unspent([target.key])).coins == before
    await world.mine()
    after = (await reader.unspent([target.key])).coins
    assert {coin.outpoint.txid for coin in after} - {coin.outpoint.txid for coin in before} == {
        txid
    }


async def test_account_chains_have_no_such_set() -> None:
    spec = registry()["eth"]
    assert build_unspent(spec, ["http://127.0.0.1:1"], clock=SystemClock(), calls_per_second=1) is (
        None
    )
