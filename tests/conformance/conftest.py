"""Backends of the conformance suite: each registered family on every program that speaks it."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from config.assets import load_assets
from config.chains import ChainRegistry, load_chains
from config.settings import AssetSettings, NetworkSettings, Settings
from gateway.sandbox.nodes import Anvil, UtxoNode
from tests.support import evm
from tests.support.pools import agreed_over
from tests.support.simchain import (
    TOKEN_CONTRACT,
    SimAccountReader,
    SimUtxoReader,
    sim_account,
    sim_utxo,
)
from tests.support.worlds import (
    AnvilWorld,
    SimAccountWorld,
    SimUtxoWorld,
    UtxoNodeWorld,
    Wallet,
    World,
)
from watchers.chain import Chain
from watchers.registry import build_agreed_chain, build_chain

SETTINGS = Settings(
    networks={
        "btc": NetworkSettings(chain="regtest"),
        "ltc": NetworkSettings(chain="regtest"),
        "eth": NetworkSettings(chain="dev"),
    },
    assets={"eth:USDT": AssetSettings(contract=TOKEN_CONTRACT)},
)
NETWORKS = {"bitcoind": "btc", "litecoind": "ltc", "anvil": "eth"}
REAL_BACKENDS = {"bitcoind": "bitcoin", "litecoind": "bitcoin", "anvil": "evm"}
SIM_BACKENDS = {"sim-utxo": "bitcoin", "sim-account": "evm"}
# The same program behind two URLs, both of which must agree: what several nodes say is a chain too.
AGREED_BACKENDS = {
    f"agreed-{name}": family for name, family in (SIM_BACKENDS | REAL_BACKENDS).items()
}
TOKENS_MINTED = 10**12


def _backend(name: str) -> object:
    marks = [pytest.mark.node] if name.removeprefix("agreed-") in REAL_BACKENDS else []
    return pytest.param(name, marks=marks, id=name)


FAMILIES = SIM_BACKENDS | REAL_BACKENDS | AGREED_BACKENDS
ALL = [_backend(name) for name in FAMILIES]
UTXO = [_backend(name) for name, family in FAMILIES.items() if family == "bitcoin"]
ACCOUNT = [_backend(name) for name, family in FAMILIES.items() if family == "evm"]


def registry() -> ChainRegistry:
    """The test networks of the chain registry."""
    return load_chains(SETTINGS)


def chain_of(
    network: str, url: str, *, token: str = TOKEN_CONTRACT, is_agreed: bool = False
) -> Chain:
    """The chain under test, built as in production, with `token` listed as eth:USDT.

    `is_agreed`: over two connections to the node, both of which must give the same answer.
    """
    settings = SETTINGS.model_copy(update={"assets": {"eth:USDT": AssetSettings(contract=token)}})
    chains = registry()
    assets = load_assets(settings, chains).values()
    if is_agreed:
        return build_agreed_chain(
            chains[network], [url, url], assets, quorum=2, timeout_seconds=10.0
        )
    return build_chain(chains[network], [url], assets, timeout_seconds=10.0)


@asynccontextmanager
async def open_world(name: str, request: pytest.FixtureRequest) -> AsyncIterator[World]:
    """A backend with funds outside; the real ones are the session's nodes, at a tip and with a
    mempool in which nothing of other tests is: they pay the same keys. anvil begins at its first
    block: the contract's address is that of the deployer's first tx."""
    is_agreed = name in AGREED_BACKENDS
    name = name.removeprefix("agreed-")
    if name == "sim-utxo":
        sim, chain = sim_utxo()
        readers = [SimUtxoReader(sim) for _ in range(2)]
        yield SimUtxoWorld(sim, agreed_over(chain, readers) if is_agreed else chain)
    elif name == "sim-account":
        account_sim, account_chain = sim_account()
        account_readers = [SimAccountReader(account_sim) for _ in range(2)]
        yield SimAccountWorld(
            account_sim,
            agreed_over(account_chain, account_readers) if is_agreed else account_chain,
        )
    elif name == "anvil":
        anvil_process: Anvil = request.getfixturevalue("anvil_process")
        async with anvil_process.connected() as anvil:
            await anvil.reset()
            snapshot = await anvil.snapshot()
            try:
                async with anvil_world(anvil, is_agreed=is_agreed) as world:
                    yield world
            finally:  # a test that fails spoils no other
                await anvil.rpc("anvil_dropAllTransactions")  # a revert keeps the pool
                await anvil.revert(snapshot)
    else:
        utxo_process: UtxoNode = request.getfixturevalue(f"{name}_process")
        async with (
            utxo_process.connected() as node,
            _utxo(node, NETWORKS[name], is_agreed) as world,
        ):
            await world.mine(2)  # the first takes what waits, the second is empty
            yield world
            await world.mine()  # leaves no tx waiting for the next test


@asynccontextmanager
async def _utxo(node: UtxoNode, network: str, is_agreed: bool) -> AsyncIterator[World]:
    chain = chain_of(network, node.url, is_agreed=is_agreed)
    spec = registry()[network]
    try:
        yield UtxoNodeWorld(node, chain, native=spec.native_asset, can_replace=spec.can_replace)
    finally:
        await chain.close()


@asynccontextmanager
async def anvil_world(node: Anvil, *, is_agreed: bool) -> AsyncIterator[World]:
    contract = await evm.deploy(node, "UsdtLike")
    owner = (await node.accounts())[0]
    await evm.mint(node, contract, owner, TOKENS_MINTED)
    chain = chain_of("eth", node.url, token=contract, is_agreed=is_agreed)
    try:
        yield AnvilWorld(node, chain, native="eth:ETH", token="eth:USDT", contract=contract)
    finally:
        await chain.close()


@pytest.fixture(params=ALL)
async def world(request: pytest.FixtureRequest) -> AsyncIterator[World]:
    """Every backend in turn."""
    async with open_world(str(request.param), request) as opened:
        yield opened


@pytest.fixture
def wallet(world: World) -> Wallet:
    """Keys of the public vector on the world's chain."""
    return Wallet.of(world.chain)
