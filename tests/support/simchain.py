"""Simulated chains that implement the whole `Chain` protocol and pass its conformance suite.

`sim_utxo()` and `sim_account()` give a world (miners, outside players) and a chain over it. A fault
is a small subclass of a reader or writer, put in with `SimChain(..., reader=Faulty(world))`.
"""

from tests.support.sim_account import SimAccount, SimAccountReader, SimAccountWriter
from tests.support.sim_utxo import SimUtxo, SimUtxoReader, SimUtxoWriter
from watchers.chain import ChainReader, ChainWriter
from watchers.chain_parts import ChainParts
from watchers.chains.bitcoin.params import BitcoinParams, PowAlgorithm
from watchers.chains.evm.params import EvmParams

__all__ = [
    "SimAccount",
    "SimAccountReader",
    "SimAccountWriter",
    "SimChain",
    "SimUtxo",
    "SimUtxoReader",
    "SimUtxoWriter",
    "sim_account",
    "sim_utxo",
]

UTXO_PARAMS = BitcoinParams(
    network="btc",
    asset="btc:BTC",
    genesis_hash="00" * 32,
    hrp="bcrt",
    p2pkh_versions=frozenset({0x6F}),
    p2sh_versions=frozenset({0xC4}),
    xpub_versions=frozenset({bytes.fromhex("043587cf")}),
    coin_type=1,
    uri_scheme="bitcoin",
    pow_algorithm=PowAlgorithm.SHA256D,
    pow_limit=2**255 - 1,
)
TOKEN_CONTRACT = "0x5fbdb2315678afecb367f032d93f642f64180aa3"
ACCOUNT_PARAMS = EvmParams(
    network="eth",
    chain_id=31337,
    native_asset="eth:ETH",
    tokens={TOKEN_CONTRACT: "eth:USDT"},
    coin_type=60,
    xpub_versions=frozenset({bytes.fromhex("0488b21e")}),
    has_finalized_tag=True,
)


class SimChain(ChainParts):
    """One simulated network as a `watchers.chain.Chain`."""

    async def close(self) -> None:
        """There is no connection."""


def sim_utxo(
    params: BitcoinParams = UTXO_PARAMS, *, can_replace: bool = True
) -> tuple[SimUtxo, SimChain]:
    """A fresh UTXO world and an honest chain over it."""
    world = SimUtxo(params, can_replace=can_replace)
    return world, utxo_chain(world)


def utxo_chain(
    world: SimUtxo, *, reader: ChainReader | None = None, writer: ChainWriter | None = None
) -> SimChain:
    """A chain over an existing UTXO world, with faulty parts where given."""
    return SimChain(
        network=world.params.network,
        family="bitcoin",
        codec=world.codec,
        reader=reader or SimUtxoReader(world),
        writer=writer or SimUtxoWriter(world),
    )


def sim_account(params: EvmParams = ACCOUNT_PARAMS) -> tuple[SimAccount, SimChain]:
    """A fresh account world and an honest chain over it."""
    world = SimAccount(params)
    return world, account_chain(world)


def account_chain(
    world: SimAccount, *, reader: ChainReader | None = None, writer: ChainWriter | None = None
) -> SimChain:
    """A chain over an existing account world, with faulty parts where given."""
    return SimChain(
        network=world.params.network,
        family="evm",
        codec=world.codec,
        reader=reader or SimAccountReader(world),
        writer=writer or SimAccountWriter(world),
    )
