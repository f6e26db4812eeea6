"""The outside world of the sandbox: the dev nodes, their miners, players' wallets and a token.

It plays everyone but the house. It holds no key of the house and calls no function of it.
"""

import json
from collections.abc import Mapping
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from pathlib import Path

from config.ids import Ids
from gateway.sandbox.cold_desk import ColdDesk, ColdWallet
from gateway.sandbox.liar import LyingNode, lying_node
from gateway.sandbox.nodes import Anvil, Bitcoind, Litecoind, UtxoNode
from gateway.sandbox.provision import Provisioned

CONTRACTS = Path(__file__).resolve().parents[2] / "contracts" / "build"
TOKEN_SUPPLY_MINOR = 10_000_000 * 10**6
WEI = 10**18
DOUBTED = "ltc"
"""Read through three nodes: a real one, its real peer, and one that will lie."""
KEPT_COLD = "btc"
"""Its cold wallet is kept by a node without peers."""


@dataclass(slots=True, kw_only=True)
class World:
    """The running nodes by network name; a network whose node could not be had is missing."""

    utxo: dict[str, UtxoNode]
    anvil: Anvil | None
    usdt: str | None
    peers: dict[str, UtxoNode] = field(default_factory=dict)
    liars: dict[str, LyingNode] = field(default_factory=dict)
    cold: dict[str, ColdDesk] = field(default_factory=dict)

    async def cold_wallets(self) -> list[ColdWallet]:
        """What the operator is told of the cold wallets."""
        return [await desk.wallet() for desk in self.cold.values()]

    def urls(self) -> dict[str, str]:
        """Network name -> RPC URL with credentials."""
        urls = {name: node.url for name, node in self.utxo.items()}
        return urls | ({"eth": self.anvil.url} if self.anvil else {})

    def node_lists(self) -> dict[str, list[str]]:
        """Network name -> the RPC URLs that a deployment asks, those it believes first in front."""
        lists = {name: [url] for name, url in self.urls().items()}
        for name, peer in self.peers.items():
            lists[name] = [self.liars[name].url, *lists[name], peer.url]
        return lists

    async def mine(self, network: str, count: int = 1) -> None:
        """Mine `count` blocks on one network."""
        if network == "eth":
            await self.evm().mine(count)
        else:
            await self.utxo[network].mine(count)

    async def height(self, network: str) -> int:
        """The height of a network's tip."""
        return await (self.evm() if network == "eth" else self.utxo[network]).height()

    def evm(self) -> Anvil:
        """The EVM node; raises KeyError when the sandbox runs without one."""
        if self.anvil is None:
            raise KeyError("eth")
        return self.anvil

    async def pay(self, asset: str, address: str, amount: str) -> str:
        """Send `amount` (asset units, decimal string) from a stranger; returns the txid."""
        network = asset.partition(":")[0]
        if network != "eth":
            return await self.utxo[network].send(address, amount)
        if asset == "eth:ETH":
            return await self.evm().send(address, _minor(amount, 18))
        data = "0xa9059cbb" + address[2:].lower().rjust(64, "0") + f"{_minor(amount, 6):064x}"
        return await self.evm().transact(to=self.usdt, data=data)

    async def received(self, asset: str, address: str) -> int:
        """What an address holds now in minor units, mined only."""
        network = asset.partition(":")[0]
        if network != "eth":
            found = await self.utxo[network].rpc("scantxoutset", "start", [f"addr({address})"])
            return int(found["total_amount"] * 10**8)
        if asset == "eth:ETH":
            return int(await self.evm().rpc("eth_getBalance", address, "latest"), 16)
        data = "0x70a08231" + address[2:].lower().rjust(64, "0")
        call = {"to": self.usdt, "data": data}
        return int(await self.evm().rpc("eth_call", call, "latest"), 16)

    async def versions(self) -> Mapping[str, str]:
        """Network -> the node's own version string."""
        found = {
            name: str((await node.rpc("getnetworkinfo"))["subversion"])
            for name, node in self.utxo.items()
        }
        if self.anvil is not None:
            found["eth"] = str(await self.anvil.rpc("web3_clientVersion"))
        return found


async def start_world(
    stack: AsyncExitStack, programs: Provisioned, folder: Path, *, ids: Ids
) -> World:
    """Start every node that could be had, fund the strangers, deploy the token."""
    launchers: dict[str, type[UtxoNode]] = {"btc": Bitcoind, "ltc": Litecoind}
    names = {"btc": "bitcoind", "ltc": "litecoind"}
    world = World(utxo={}, anvil=None, usdt=None)
    for network, launcher in launchers.items():
        program = programs.programs.get(names[network])
        if program is None:
            continue
        node = await stack.enter_async_context(
            launcher(program, folder / network, ids=ids, has_peers=network == DOUBTED)
        )
        await node.ensure_funds()
        world.utxo[network] = node
    await _add_doubtful_peers(stack, world, programs, folder, ids=ids)
    if (program := programs.programs.get(names[KEPT_COLD])) is not None:
        alone = launchers[KEPT_COLD](program, folder / f"{KEPT_COLD}-cold", ids=ids)
        world.cold[KEPT_COLD] = ColdDesk(await stack.enter_async_context(alone), KEPT_COLD)
    anvil_program = programs.programs.get("anvil")
    if anvil_program is not None:
        world.anvil = await stack.enter_async_context(Anvil(anvil_program, folder / "eth", ids=ids))
        world.usdt = await deploy_token(world.anvil)
    return world


async def _add_doubtful_peers(
    stack: AsyncExitStack, world: World, programs: Provisioned, folder: Path, *, ids: Ids
) -> None:
    program = programs.programs.get("litecoind")
    if program is None:
        return
    real = world.utxo[DOUBTED]
    peer = Litecoind(program, folder / f"{DOUBTED}-peer", peer=real, ids=ids)
    world.peers[DOUBTED] = await stack.enter_async_context(peer)
    world.liars[DOUBTED] = await stack.enter_async_context(lying_node(real.url))


async def deploy_token(anvil: Anvil) -> str:
    """Deploy the USDT-like token (6 decimals, no return value), minted to the first account."""
    artifact = json.loads((CONTRACTS / "UsdtLike.json").read_text("utf-8"))
    txid = await anvil.transact(to=None, data=artifact["bytecode"])
    await anvil.mine()
    receipt = await anvil.rpc("eth_getTransactionReceipt", txid)
    contract: str = receipt["contractAddress"]
    owner = (await anvil.accounts())[0]
    mint = "0x40c10f19" + owner[2:].lower().rjust(64, "0") + f"{TOKEN_SUPPLY_MINOR:064x}"
    await anvil.transact(to=contract, data=mint)
    await anvil.mine()
    return contract


def _minor(amount: str, decimals: int) -> int:
    whole, _, fraction = amount.partition(".")
    return int(whole + fraction.ljust(decimals, "0"))
