"""Launchers of real dev nodes, with the tools of a miner: blocks, reorgs, conflicts.

Each node is a child process in a folder of its own on a free loopback port, stopped by its pid.
These launchers play the outside world in tests and in the demo; they hold no key of the house.
"""

import asyncio
import contextlib
import copy
import itertools
import os
import signal
import socket
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from config.clock import Clock, SystemClock
from config.ids import Ids, SystemIds
from gateway.sandbox.rpc import JsonRpc, RpcError, RpcUnreachable

READY_TIMEOUT_SECONDS = 60.0
READY_POLL_SECONDS = 0.05
STOP_TIMEOUT_SECONDS = 30.0
START_ATTEMPTS = 3  # another process may take the free port between our look and the node's bind
COINBASE_MATURITY_BLOCKS = 100
PORTS = range(20_000, 30_000)  # below those that systems give out: 32768 (Linux), 49152
_numbers = itertools.count(os.getpid() * 97)  # processes that start together begin apart
WALLET = "world"  # the node's own wallet: players and exchanges, never the house


class NodeFailed(RuntimeError):
    """The node did not start or died; the message has the end of its log."""


def free_port() -> int:
    """A loopback port that was free a moment ago, and that nobody is given who does not name it.

    A port of the system's own choice could be given to somebody else before it is bound, and a role
    binds its port seconds later. Raises NodeFailed where all are taken.
    """
    for number in itertools.islice(_numbers, len(PORTS)):
        port = PORTS[number % len(PORTS)]
        with socket.socket() as probe:
            with contextlib.suppress(OSError):
                probe.bind(("127.0.0.1", port))
                return port
    raise NodeFailed(f"no free port from {PORTS[0]} to {PORTS[-1]}")


class DevNode(ABC):
    """A child process that answers JSON-RPC. Subclasses give the command and the probe call."""

    name = "node"
    probe_method = "getblockcount"

    def __init__(
        self, program: Path, folder: Path, *, clock: Clock | None = None, ids: Ids | None = None
    ) -> None:
        self._program = program
        self._folder = folder
        self._clock = clock or SystemClock()
        self._ids = ids or SystemIds(self._clock)
        self._process: asyncio.subprocess.Process | None = None
        self._rpc: JsonRpc | None = None
        self._port: int | None = None

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.stop()

    @property
    def port(self) -> int:
        """The RPC port; stays the same when the node is started again."""
        if self._port is None:
            raise NodeFailed(f"{self.name} was never started")
        return self._port

    @property
    def url(self) -> str:
        """The RPC URL, credentials included."""
        return f"http://127.0.0.1:{self.port}"

    @property
    def pid(self) -> int:
        """The process id of the running node."""
        if self._process is None:
            raise NodeFailed(f"{self.name} is not running")
        return self._process.pid

    @property
    def log_path(self) -> Path:
        """Where the node's output goes."""
        return self._folder / "output.log"

    @contextlib.asynccontextmanager
    async def connected(self) -> AsyncIterator[Self]:
        """The same running node with a connection of its own, for another event loop."""
        view = copy.copy(self)
        view._process = None  # a view never ends the process
        view._rpc = await JsonRpc(self.url).__aenter__()
        try:
            yield view
        finally:
            await view.stop()

    @abstractmethod
    def command(self) -> Sequence[str]:
        """The command line."""

    async def rpc(self, method: str, *params: Any) -> Any:
        """One call of the node's own API. Raises RpcError or RpcUnreachable."""
        if self._rpc is None:
            raise RpcUnreachable(f"{self.name} is not running")
        return await self._rpc.call(method, *params)

    async def start(self) -> None:
        """Start and wait until the node answers. Raises NodeFailed."""
        self._folder.mkdir(parents=True, exist_ok=True)
        is_first = self._port is None
        for attempt in range(START_ATTEMPTS):
            if is_first:
                self._choose_ports()
            with self.log_path.open("ab") as log:
                self._process = await asyncio.create_subprocess_exec(
                    *self.command(),
                    stdin=asyncio.subprocess.DEVNULL,
                    stdout=log,
                    stderr=log,
                    start_new_session=True,  # Ctrl-C reaches us; we stop the nodes in order
                )
            self._rpc = await JsonRpc(self.url).__aenter__()
            if await self._is_ready():
                return
            await self.stop()
            if attempt == START_ATTEMPTS - 1:
                raise NodeFailed(f"{self.name} did not start: {self._log_tail()}")

    def _choose_ports(self) -> None:
        """Ports that were free a moment ago; it keeps those that it started with."""
        self._port = free_port()

    async def _is_ready(self) -> bool:
        deadline = self._clock.monotonic_seconds() + READY_TIMEOUT_SECONDS
        while self._clock.monotonic_seconds() < deadline:
            if self._process is None or self._process.returncode is not None:
                return False
            try:
                await self.rpc(self.probe_method)
            except (RpcUnreachable, RpcError):  # -28: "Loading block index"
                await self._clock.sleep(READY_POLL_SECONDS)
            else:
                return True
        return False

    def _log_tail(self) -> str:
        lines = self.log_path.read_text(encoding="utf-8", errors="replace").splitlines()
        return " | ".join(lines[-3:]) or "no output"

    async def stop(self) -> None:
        """End the process by its pid, gently first; a second call does nothing."""
        if self._rpc is not None:
            await self._rpc.close()
            self._rpc = None
        process, self._process = self._process, None
        if process is None or process.returncode is not None:
            return
        with contextlib.suppress(ProcessLookupError):
            os.kill(process.pid, signal.SIGTERM)
        try:
            async with asyncio.timeout(STOP_TIMEOUT_SECONDS):
                await process.wait()
        except TimeoutError:
            process.kill()
            await process.wait()


class UtxoNode(DevNode):
    """bitcoind or litecoind on regtest, with its own wallet full of mined coins."""

    name = "bitcoind"
    extra_flags: Sequence[str] = ()

    def __init__(
        self,
        program: Path,
        folder: Path,
        *,
        peer: "UtxoNode | None" = None,
        has_peers: bool = False,
        clock: Clock | None = None,
        ids: Ids | None = None,
    ) -> None:
        """`peer` is the one node that this one talks to; it was made with `has_peers`."""
        super().__init__(program, folder, clock=clock, ids=ids)
        self._user = "world"
        self._login = self._ids.token_bytes(16).hex()
        self._peer = peer
        self._has_peers = has_peers
        self._peer_port: int | None = None
        self.keeps_rewards = True
        """Whether the wallet has what blocks pay: its young coins die in a reorg."""

    @property
    def url(self) -> str:
        return f"http://{self._user}:{self._login}@127.0.0.1:{self.port}"

    def command(self) -> Sequence[str]:
        return (
            str(self._program),
            "-regtest",
            f"-datadir={self._folder}",
            "-server",
            "-txindex=1",
            *self._peering(),
            "-dnsseed=0",
            "-discover=0",
            "-rpcbind=127.0.0.1",
            "-rpcallowip=127.0.0.1",
            f"-rpcport={self.port}",
            f"-rpcuser={self._user}",
            f"-rpcpassword={self._login}",
            "-rpcworkqueue=256",
            "-fallbackfee=0.0001",
            "-printtoconsole=0",
            "-dbcache=50",
            *self.extra_flags,
        )

    def _choose_ports(self) -> None:
        super()._choose_ports()
        self._peer_port = free_port() if self._has_peers else None

    def _peering(self) -> Sequence[str]:
        if self._peer is not None:
            return ("-listen=0", f"-connect=127.0.0.1:{self._peer._peer_port}")
        if not self._has_peers:
            return ("-listen=0",)
        return ("-listen=1", "-listenonion=0", f"-bind=127.0.0.1:{self._peer_port}")

    async def start(self) -> None:
        await super().start()
        if WALLET in await self.rpc("listwallets"):
            return
        known = {item["name"] for item in (await self.rpc("listwalletdir"))["wallets"]}
        await self.rpc("loadwallet" if WALLET in known else "createwallet", WALLET)

    async def height(self) -> int:
        """The height of the tip."""
        height: int = await self.rpc("getblockcount")
        return height

    async def new_address(self) -> str:
        """A fresh bech32 address of the node's wallet."""
        address: str = await self.rpc("getnewaddress", "", "bech32")
        return address

    async def mine(self, count: int = 1, *, address: str | None = None) -> list[str]:
        """Mine `count` blocks with what the mempool holds; returns their hashes."""
        target = address or await self._reward_address()
        hashes: list[str] = await self.rpc("generatetoaddress", count, target)
        return hashes

    async def mine_exactly(self, txs: Sequence[str], *, address: str | None = None) -> str:
        """Mine one block that holds just `txs` (raw hex or txids of the mempool)."""
        target = address or await self._reward_address()
        block = await self.rpc("generateblock", target, list(txs))
        block_hash: str = block["hash"]
        return block_hash

    async def _reward_address(self) -> str:
        """Another one for each call, or two branches would have the same block."""
        if self.keeps_rewards:
            return await self.new_address()
        script = f"08{self._ids.token_bytes(8).hex()}7551"  # drop the number, leave true
        address: str = (await self.rpc("decodescript", script))["p2sh"]
        return address

    async def ensure_funds(self) -> None:
        """Mine until the node's wallet has mature coins."""
        if await self.rpc("getbalance") < 50:
            await self.mine(COINBASE_MATURITY_BLOCKS + 10)

    async def send(self, address: str, amount: str) -> str:
        """Pay `amount` (coins, decimal string) from the node's wallet; returns the txid."""
        txid: str = await self.rpc("sendtoaddress", address, amount)
        return txid

    async def send_many(self, amounts: dict[str, str]) -> str:
        """Pay several addresses in one tx; returns the txid."""
        txid: str = await self.rpc("sendmany", "", amounts)
        return txid

    async def invalidate(self, depth: int) -> str:
        """Take the last `depth` blocks off the chain; returns the hash of the lowest of them.

        Their txs go back to the mempool. Give the hash to `reconsider` to allow them again.
        """
        lowest: str = await self.rpc("getblockhash", await self.height() - depth + 1)
        await self.rpc("invalidateblock", lowest)
        return lowest

    async def reconsider(self, block_hash: str) -> None:
        """Allow an invalidated branch again; the longer branch becomes the chain."""
        await self.rpc("reconsiderblock", block_hash)

    async def reorg(self, depth: int, *, blocks: Sequence[Sequence[str]] | None = None) -> str:
        """Replace the last `depth` blocks by `depth + 1` others; returns the lost lowest hash.

        `blocks` says which txs each new block holds (default: none, so what was mined waits in the
        mempool again).
        """
        lowest = await self.invalidate(depth)
        for txs in blocks if blocks is not None else [()] * (depth + 1):
            await self.mine_exactly(txs)
        return lowest

    async def conflict(self, txid: str, *, fee: str = "0.001") -> str:
        """A signed raw tx that spends all inputs of the wallet's own `txid` back to the wallet, for
        `fee` coins, or half of what they are worth when that is less."""
        found = await self.rpc("getrawtransaction", txid, True)
        inputs, previous, total = [], [], 0
        for spent in found["vin"]:
            inputs.append({"txid": spent["txid"], "vout": spent["vout"]})
            parent = await self.rpc("getrawtransaction", spent["txid"], True)
            output = parent["vout"][spent["vout"]]
            total += output["value"]
            # Named here because the node itself no longer finds an output that is spent on chain.
            script = output["scriptPubKey"]["hex"]
            amount_text = f"{output['value']:.8f}"
            previous.append(inputs[-1] | {"scriptPubKey": script, "amount": amount_text})
        amount = total - min(type(total)(fee), total / 2)
        raw = await self.rpc(
            "createrawtransaction", inputs, {await self.new_address(): f"{amount:.8f}"}
        )
        signed = await self.rpc("signrawtransactionwithwallet", raw, previous)
        if not signed["complete"]:
            raise NodeFailed(f"{self.name}: the conflict of {txid} could not be signed")
        conflict: str = signed["hex"]
        return conflict

    async def double_spend(self, txid: str, *, depth: int = 0) -> str:
        """Mine a conflict of `txid` after taking `depth` blocks off; returns the conflict's txid.

        With `depth` >= 1 the tx was mined there; it can never come back afterwards.
        """
        conflict = await self.conflict(txid)
        if depth:
            await self.invalidate(depth)
        await self.mine_exactly([conflict])
        for _ in range(depth):
            await self.mine_exactly([])
        decoded = await self.rpc("decoderawtransaction", conflict)
        conflict_txid: str = decoded["txid"]
        return conflict_txid


class Bitcoind(UtxoNode):
    """bitcoind on regtest."""


class Litecoind(UtxoNode):
    """litecoind on regtest. MWEB never activates: block 432 could not be mined without a peg-in."""

    name = "litecoind"
    extra_flags = ("-vbparams=mweb:99999999998:99999999999",)


class Anvil(DevNode):
    """An Ethereum dev node that mines only when told; `finalized` is two blocks behind the head."""

    name = "anvil"
    probe_method = "eth_blockNumber"

    def __init__(
        self,
        program: Path,
        folder: Path,
        *,
        chain_id: int = 31337,
        clock: Clock | None = None,
        ids: Ids | None = None,
    ) -> None:
        super().__init__(program, folder, clock=clock, ids=ids)
        self._chain_id = chain_id

    def command(self) -> Sequence[str]:
        return (
            str(self._program),
            "--host",
            "127.0.0.1",
            "--port",
            str(self.port),
            "--no-mining",
            "--slots-in-an-epoch",
            "1",
            "--chain-id",
            str(self._chain_id),
            "--silent",
        )

    async def height(self) -> int:
        """The number of the head block."""
        return int(await self.rpc("eth_blockNumber"), 16)

    async def mine(self, count: int = 1) -> int:
        """Mine `count` blocks (the first takes the pool's txs); returns the new height."""
        await self.rpc("anvil_mine", hex(count))
        return await self.height()

    async def accounts(self) -> list[str]:
        """The node's unlocked, funded accounts: the outside world."""
        accounts: list[str] = await self.rpc("eth_accounts")
        return accounts

    async def send(self, address: str, wei: int, *, sender: str | None = None) -> str:
        """Pay native coin from an unlocked account; returns the tx hash (not mined yet)."""
        source = sender or (await self.accounts())[0]
        txid: str = await self.rpc(
            "eth_sendTransaction", {"from": source, "to": address, "value": hex(wei)}
        )
        return txid

    async def transact(self, *, to: str | None, data: str, sender: str | None = None) -> str:
        """Send a call (or, without `to`, a deployment) from an unlocked account."""
        source = sender or (await self.accounts())[0]
        call = {"from": source, "data": data} | ({"to": to} if to else {})
        txid: str = await self.rpc("eth_sendTransaction", call)
        return txid

    async def set_balance(self, address: str, wei: int) -> None:
        """Give an address exactly `wei`, out of nothing."""
        await self.rpc("anvil_setBalance", address, hex(wei))

    async def reorg(self, depth: int, *, txs: Sequence[tuple[str, int]] = ()) -> None:
        """Replace the last `depth` blocks; `txs` are (raw tx, index of the new block).

        Unlike geth, anvil does not put the lost txs back into the pool: they are gone.
        """
        await self.rpc("anvil_reorg", depth, [list(pair) for pair in txs])

    async def reset(self) -> None:
        """Return to the chain's beginning where it is not there, whatever happened to it."""
        await self.rpc("anvil_dropAllTransactions")
        if await self.height():
            await self.rpc("anvil_reset")

    async def snapshot(self) -> str:
        """Remember the whole state; give the result to `revert`."""
        snapshot: str = await self.rpc("evm_snapshot")
        return snapshot

    async def revert(self, snapshot: str) -> None:
        """Return to a snapshot; the blocks mined since are gone. Raises NodeFailed where it is not
        there any more."""
        if await self.rpc("evm_revert", snapshot) is not True:
            raise NodeFailed(f"anvil has no snapshot {snapshot}")
