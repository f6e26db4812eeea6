"""One interface over every chain backend: what the conformance suite needs of the outside world.

The keys are those of a public BIP 32 test vector; they must never hold anything of value.
"""

from collections.abc import Sequence
from typing import Protocol

from embit import bip32, finalizer, psbt
from embit.networks import NETWORKS

from gateway.sandbox.nodes import Anvil, UtxoNode
from tests.support import evm
from tests.support.sim_account import sign as sign_payload
from tests.support.simchain import SimAccount, SimUtxo
from watchers.chain import Chain, DerivedAddress, Pay, Unsigned

SEED = bytes.fromhex("000102030405060708090a0b0c0d0e0f")  # BIP 32 test vector 1
DECIMALS = {"btc:BTC": 8, "ltc:LTC": 8}


class World(Protocol):
    """Miners and outside players around one chain under test."""

    chain: Chain
    native: str
    token: str | None
    can_replace: bool

    async def pay(self, payments: Sequence[Pay]) -> list[str]:
        """Pay from outside, unconfirmed; the txids (one for all on a UTXO chain)."""
        ...

    async def mine(self, count: int = 1) -> list[str]:
        """Mine what waits; block hashes from low to high."""
        ...

    async def lose(self, depth: int) -> None:
        """Replace the last `depth` blocks by `depth + 1` empty ones; their txs wait again."""
        ...


class Wallet:
    """Derives and signs like the house would, with keys of the public vector."""

    def __init__(self, chain: Chain, *, account_path: str, version: str) -> None:
        self._chain = chain
        self._root = bip32.HDKey.from_seed(SEED, version=NETWORKS[version]["xprv"])
        self._account_key = self._root.derive(account_path)
        self.xpub = str(self._account_key.to_public().to_base58())

    @classmethod
    def of(cls, chain: Chain) -> "Wallet":
        """The wallet that fits a chain's family (test networks: coin type 1)."""
        if chain.family == "bitcoin":
            return cls(chain, account_path="m/84h/1h/0h", version="regtest")
        return cls(chain, account_path="m/44h/60h/0h", version="main")

    def address(self, index: int, *, chain: int = 0) -> DerivedAddress:
        """The wallet's address at `chain/index`."""
        return self._chain.codec.derive(xpub=self.xpub, account=0, chain=chain, index=index)

    def sign(self, unsigned: Unsigned) -> bytes:
        """Network bytes of a built tx."""
        keys = [self._root.derive(path.replace("h", "'")).key for path in unsigned.input_paths]
        if self._chain.family == "evm":
            return sign_payload(unsigned.data, keys[0].secret)
        container = psbt.PSBT.parse(unsigned.data)
        for key in keys:
            container.sign_with(key)
        return bytes(finalizer.finalize_psbt(container).serialize())


class SimUtxoWorld:
    """The simulated UTXO chain."""

    def __init__(self, sim: SimUtxo, chain: Chain) -> None:
        self.sim = sim
        self.chain = chain
        self.native = sim.params.asset
        self.token: str | None = None
        self.can_replace = sim.can_replace

    async def pay(self, payments: Sequence[Pay]) -> list[str]:
        return [self.sim.pay([(item.address, item.amount_minor) for item in payments])]

    async def mine(self, count: int = 1) -> list[str]:
        return self.sim.mine(count)

    async def lose(self, depth: int) -> None:
        self.sim.rewind(depth)
        for _ in range(depth + 1):
            self.sim.mine_exactly([])


class SimAccountWorld:
    """The simulated account chain."""

    def __init__(self, sim: SimAccount, chain: Chain) -> None:
        self.sim = sim
        self.chain = chain
        self.native = sim.params.native_asset
        self.token: str | None = next(iter(sim.params.tokens.values()))
        self.can_replace = True

    async def pay(self, payments: Sequence[Pay]) -> list[str]:
        return [self.sim.pay(item.asset, item.address, item.amount_minor) for item in payments]

    async def mine(self, count: int = 1) -> list[str]:
        return self.sim.mine(count)

    async def lose(self, depth: int) -> None:
        self.sim.rewind(depth)
        for _ in range(depth + 1):
            self.sim.mine_exactly([])


class UtxoNodeWorld:
    """bitcoind or litecoind on regtest."""

    def __init__(self, node: UtxoNode, chain: Chain, *, native: str, can_replace: bool) -> None:
        self._node = node
        self.chain = chain
        self.native = native
        self.token: str | None = None
        self.can_replace = can_replace

    async def pay(self, payments: Sequence[Pay]) -> list[str]:
        amounts = {item.address: _coins(item.amount_minor) for item in payments}
        return [await self._node.send_many(amounts)]

    async def mine(self, count: int = 1) -> list[str]:
        return await self._node.mine(count)

    async def lose(self, depth: int) -> None:
        await self._node.reorg(depth)

    async def include(self, raw: bytes) -> str:
        """Mine a block with a tx that no node would relay; its txid."""
        await self._node.mine_exactly([raw.hex()])
        decoded = await self._node.rpc("decoderawtransaction", raw.hex())
        return str(decoded["txid"])


class AnvilWorld:
    """anvil, which forgets the txs of lost blocks: the world sends them again."""

    def __init__(self, node: Anvil, chain: Chain, *, native: str, token: str, contract: str):
        self._node = node
        self._contract = contract
        self.chain = chain
        self.native = native
        self.token: str | None = token
        self.can_replace = True

    async def pay(self, payments: Sequence[Pay]) -> list[str]:
        txids = []
        for item in payments:
            if item.asset == self.native:
                txids.append(await self._node.send(item.address, item.amount_minor))
            else:
                txids.append(
                    await evm.transfer(self._node, self._contract, item.address, item.amount_minor)
                )
        return txids

    async def mine(self, count: int = 1) -> list[str]:
        hashes = []
        for _ in range(count):
            height = await self._node.mine()
            block = await self._node.rpc("eth_getBlockByNumber", hex(height), False)
            hashes.append(str(block["hash"]))
        return hashes

    async def lose(self, depth: int) -> None:
        head = await self._node.height()
        lost: list[str] = []
        for height in range(head - depth + 1, head + 1):
            block = await self._node.rpc("eth_getBlockByNumber", hex(height), False)
            lost.extend(block["transactions"])
        raws = [await self._node.rpc("eth_getRawTransactionByHash", txid) for txid in lost]
        await self._node.reorg(depth)
        await self._node.mine()
        for raw in raws:
            await self._node.rpc("eth_sendRawTransaction", raw)


def _coins(minor: int) -> str:
    return f"{minor // 10**8}.{minor % 10**8:08d}"
