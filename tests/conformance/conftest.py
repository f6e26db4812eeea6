"""Backends of the conformance suite: each registered family on every program that speaks it."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from config.assets import load_assets
from config.chains import ChainRegistry, load_chains
from config.settings import AssetSettings, NetworkSettings, Settings
from gateway.sandbox.nodes import Anvil, UtxoNode
from tests.support import evm
from tests.support.simchain import TOKEN_CONTRACT, sim_account, sim_utxo
from tests.support.worlds import (
    AnvilWorld,
    SimAccountWorld,
    SimUtxoWorld,
    UtxoNodeWorld,
    Wallet,
    World,
)
from watchers.chain import Chain
from watchers.registry import build_chain

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
TOKENS_MINTED = 10**12


def _backend(name: str) -> object:
    marks = [pytest.mark.node] if name in REAL_BACKENDS else []
    return pytest.param(name, marks=marks, id=name)


ALL = [_backend(name) for name in (*SIM_BACKENDS, *REAL_BACKENDS)]
FAMILIES = SIM_BACKENDS | REAL_BACKENDS
UTXO = [_backend(name) for name, family in FAMILIES.items() if family == "bitcoin"]
ACCOUNT = [_backend(name) for name, family in FAMILIES.items() if family == "evm"]


def registry() -> ChainRegistry:
    """The test networks of the chain registry."""
    return load_chains(SETTINGS)


def chain_of(network: str, url: str, *, token: str = TOKEN_CONTRACT) -> Chain:
    """The chain under test, built as in production, with `token` listed as eth:USDT."""
    settings = SETTINGS.model_copy(update={"assets": {"eth:USDT": AssetSettings(contract=token)}})
    chains = registry()
    assets = load_assets(settings, chains).values()
    return build_chain(chains[network], [url], assets, timeout_seconds=10.0)


@asynccontextmanager
async def open_world(name: str, request: pytest.FixtureRequest) -> AsyncIterator[World]:
    """A backend with funds outside; the real ones are the session's nodes."""
    if name == "sim-utxo":
        sim, chain = sim_utxo()
        yield SimUtxoWorld(sim, chain)
    elif name == "sim-account":
        account_sim, account_chain = sim_account()
        yield SimAccountWorld(account_sim, account_chain)
    elif name == "anvil":
        anvil_process: Anvil = request.getfixturevalue("anvil_process")
        async with anvil_process.connected() as anvil:
            snapshot = await anvil.snapshot()
            async with _anvil(anvil) as world:
                yield world
            await anvil.rpc("anvil_dropAllTransactions")  # a revert keeps the pool
            await anvil.revert(snapshot)
    else:
        utxo_process: UtxoNode = request.getfixturevalue(f"{name}_process")
        async with (
            utxo_process.connected() as node,
            _utxo(node, NETWORKS[name]) as world,
        ):
            yield world
            await world.mine()  # leaves no tx waiting for the next test


@asynccontextmanager
async def _utxo(node: UtxoNode, network: str) -> AsyncIterator[World]:
    chain = chain_of(network, node.url)
    spec = registry()[network]
    try:
        yield UtxoNodeWorld(node, chain, native=spec.native_asset, can_replace=spec.can_replace)
    finally:
        await chain.close()


@asynccontextmanager
async def _anvil(node: Anvil) -> AsyncIterator[World]:
    contract = await evm.deploy(node, "UsdtLike")
    owner = (await node.accounts())[0]
    await evm.mint(node, contract, owner, TOKENS_MINTED)
    chain = chain_of("eth", node.url, token=contract)
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
