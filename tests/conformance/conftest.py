"""Backends of the conformance suite: each registered family on every program that speaks it."""

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from config.assets import load_assets
from config.chains import ChainRegistry, load_chains
from config.settings import AssetSettings, NetworkSettings, Settings
from gateway.sandbox.nodes import Anvil, Bitcoind, Litecoind, UtxoNode
from gateway.sandbox.provision import locate
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
REAL_BACKENDS = {"bitcoind": "bitcoin", "litecoind": "bitcoin", "anvil": "evm"}
SIM_BACKENDS = {"sim-utxo": "bitcoin", "sim-account": "evm"}
TOKENS_MINTED = 10**12


def _backend(name: str) -> object:
    marks = [pytest.mark.node] if name in REAL_BACKENDS else []
    return pytest.param(name, marks=marks, id=name)


ALL = [_backend(name) for name in (*SIM_BACKENDS, *REAL_BACKENDS)]
REAL = [_backend(name) for name in REAL_BACKENDS]


def program(name: str) -> Path:
    """A node's program; a missing one fails the run, it is never skipped (HOUSE 12)."""
    found = locate(name, os.environ)
    if found is None:
        raise RuntimeError(f"{name} is missing: set {name.upper()} or run ./cage test")
    return found


def registry() -> ChainRegistry:
    """The test networks of the chain registry."""
    return load_chains(SETTINGS)


def chain_of(network: str, url: str) -> Chain:
    """The chain under test, built as in production."""
    chains = registry()
    assets = load_assets(SETTINGS, chains).values()
    return build_chain(chains[network], [url], assets, timeout_seconds=10.0)


@asynccontextmanager
async def open_world(name: str, folder: Path) -> AsyncIterator[World]:
    """A fresh backend with funds outside; stopped by its pid at the end."""
    match name:
        case "sim-utxo":
            sim, chain = sim_utxo()
            yield SimUtxoWorld(sim, chain)
        case "sim-account":
            account_sim, account_chain = sim_account()
            yield SimAccountWorld(account_sim, account_chain)
        case "bitcoind":
            async with Bitcoind(program(name), folder) as node, _utxo(node, "btc") as world:
                yield world
        case "litecoind":
            async with (
                Litecoind(program(name), folder) as ltc_node,
                _utxo(ltc_node, "ltc") as world,
            ):
                yield world
        case _:
            async with Anvil(program(name), folder) as anvil, _anvil(anvil) as evm_world:
                yield evm_world


@asynccontextmanager
async def _utxo(node: UtxoNode, network: str) -> AsyncIterator[World]:
    await node.ensure_funds()
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
    chain = chain_of("eth", node.url)
    try:
        yield AnvilWorld(node, chain, native="eth:ETH", token="eth:USDT", contract=contract)
    finally:
        await chain.close()


@pytest.fixture(params=ALL)
async def world(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[World]:
    """Every backend in turn."""
    async with open_world(str(request.param), tmp_path / "node") as opened:
        yield opened


@pytest.fixture
def wallet(world: World) -> Wallet:
    """Keys of the public vector on the world's chain."""
    return Wallet.of(world.chain)
