"""What is asked of an Ethereum JSON-RPC node, and how its identity is checked.

Owns the RPC method names of this family. The connection is `watchers.chains.node`, the protocol
`watchers.chains.jsonrpc`; meanings are in `decode.py`, `fee.py` and `errors.py`.
"""

import re
from collections.abc import Mapping, Sequence

from config.clock import Clock
from watchers.chain import NodeInfo
from watchers.chains.errors import RpcError
from watchers.chains.evm import safe
from watchers.chains.evm.decode import quantity
from watchers.chains.evm.errors import (
    METHOD_NOT_FOUND,
    REVERT_CODES,
    UNKNOWN_BLOCK_TAG,
    would_fail,
)
from watchers.chains.jsonrpc import Call, Endpoint, JsonRpc, Post, Read, endpoint, parse
from watchers.errors import WrongNetwork

VERSION = re.compile(r"(\d+)\.(\d+)\.(\d+)")  # `Geth/v1.16.2-stable-.../linux-amd64/go1.24`
VERSION_LENGTH_MAX = 80  # characters of a node's own name that are kept
BlockId = str | Mapping[str, object]
BALANCE_OF_SELECTOR = "0x70a08231"  # balanceOf(address)
DECIMALS_SELECTOR = "0x313ce567"  # decimals()
OWNER_SELECTOR = "0x8da5cb5b"  # owner()
TOTAL_SUPPLY_SELECTOR = "0x18160ddd"  # totalSupply()


class EvmNode:
    """Typed by method, not yet by answer: results are JSON values that `decode.py` checks."""

    def __init__(
        self, urls: Sequence[str], post: Post, *, clock: Clock, chain_id: int, network: str
    ) -> None:
        self._chain_id = chain_id
        self._network = network
        self.clock = clock
        self.rpc = JsonRpc(
            [endpoint(url) for url in urls], post, clock=clock, identify=self._identify
        )

    async def _identify(self, rpc: JsonRpc, node: Endpoint) -> None:
        """WrongNetwork unless the node has our chain id (D62, N02)."""
        found = quantity(await rpc.ask(node, "eth_chainId"), "eth_chainId")
        if found != self._chain_id:
            raise WrongNetwork(f"node {node.label} does not serve {self._network}")

    async def describe(self) -> NodeInfo:
        """`web3_clientVersion`, `eth_syncing`: what it is and whether it still catches up (N24)."""
        name, progress = await self.rpc.batch([("web3_clientVersion", ()), ("eth_syncing", ())])
        for item in (name, progress):  # providers may hide either
            if isinstance(item, RpcError) and item.code != METHOD_NOT_FOUND:
                raise item
        text = name if isinstance(name, str) else ""
        found = VERSION.search(text)
        version = None if found is None else tuple(int(part) for part in found.groups())
        is_syncing = not (progress is False or isinstance(progress, RpcError))
        return NodeInfo(
            version=version, version_text=text[:VERSION_LENGTH_MAX], is_syncing=is_syncing
        )

    async def header_at(self, height: int) -> object:
        """A block without txs by height, or None above the tip."""
        return await self.rpc.call("eth_getBlockByNumber", hex(height), False)

    async def headers_from(self, height: int, count: int) -> list[object]:
        """Blocks without txs of `count` heights from one up; None for each above the tip."""
        heights = range(height, height + count)
        return await self.rpc.batch_all(
            [("eth_getBlockByNumber", (hex(at), False)) for at in heights]
        )

    async def header_of(self, block_hash: str) -> object:
        """A block without txs by hash, or None when unknown."""
        return await self.rpc.call("eth_getBlockByHash", block_hash, False)

    async def tagged(self, tag: str, *, with_txs: bool = False) -> object:
        """The block of a tag (`latest`, `finalized`, `pending`), or None when there is none."""
        try:
            return await self.rpc.call("eth_getBlockByNumber", tag, with_txs)
        except RpcError as error:
            if error.code == UNKNOWN_BLOCK_TAG:
                return None
            raise

    async def block_and_receipts(self, block_hash: str, read: Read) -> list[object | RpcError]:
        """A block with its txs by hash, and all its receipts, as `read` reads both in one go."""
        calls: list[Call] = [
            ("eth_getBlockByHash", (block_hash, True)),
            ("eth_getBlockReceipts", (block_hash,)),
        ]  # BLOCK_CALLS of them
        return await self.rpc.batch_as(read, calls)

    async def block_of(self, block_hash: str) -> tuple[object, bytes]:
        """A block with its txs by hash, and the bytes of the whole answer."""
        kept = b""

        async def read(body: bytes) -> object:
            nonlocal kept
            kept = body
            return await parse(body)

        answer = await self.rpc.call_as(read, "eth_getBlockByHash", block_hash, True)
        return answer, kept

    async def receipts(self, block_hash: str, txids: Sequence[str], read: Read) -> object:
        """All receipts of a block in order, by one call or, where a node has none, one by one.

        `read` reads the answer of the one call (`JsonRpc.call_as`), and of that one alone.
        """
        try:
            return await self.rpc.call_as(read, "eth_getBlockReceipts", block_hash)
        except RpcError as error:
            if error.code != METHOD_NOT_FOUND:
                raise
        return await self.rpc.batch_all([("eth_getTransactionReceipt", (txid,)) for txid in txids])

    async def balances(
        self, keys: Sequence[str], contract: str | None, block_id: BlockId
    ) -> list[object]:
        """One balance answer per key at a block: native, or `balanceOf` of a contract."""
        return await self.rpc.batch_all([_balance_call(key, contract, block_id) for key in keys])

    async def token_facts(self, contract: str, block_id: BlockId) -> list[object]:
        """Answers of `decimals()` and `totalSupply()`; None where the call reverts."""
        selectors = (DECIMALS_SELECTOR, TOTAL_SUPPLY_SELECTOR)
        return await self._views(
            [("eth_call", ({"to": contract, "data": data}, block_id)) for data in selectors]
        )

    async def _views(self, calls: Sequence[Call]) -> list[object]:
        """Answers of views; None where one reverts."""
        answers = await self.rpc.batch(calls)
        for answer in answers:
            if isinstance(answer, RpcError) and answer.code not in REVERT_CODES:
                raise answer
        return [None if isinstance(answer, RpcError) else answer for answer in answers]

    async def gas_of(self, calls: Sequence[Mapping[str, str]]) -> list[object]:
        """`eth_estimateGas` of each call now; None where it would fail."""
        answers = await self.rpc.batch([("eth_estimateGas", (call,)) for call in calls])
        for answer in answers:
            if isinstance(answer, RpcError) and not would_fail(answer):
                raise answer
        return [None if isinstance(answer, RpcError) else answer for answer in answers]

    async def codes(self, keys: Sequence[str], block_id: BlockId) -> list[object]:
        """The code at each key at a block."""
        return await self.rpc.batch_all([("eth_getCode", (key, block_id)) for key in keys])

    async def nonces(self, keys: Sequence[str], block_id: BlockId) -> list[object]:
        """The number of mined txs (and delegations) of each key at a block."""
        return await self.rpc.batch_all(
            [("eth_getTransactionCount", (key, block_id)) for key in keys]
        )

    async def batch_contract(self, contract: str, block_id: BlockId) -> list[object]:
        """The code of our batch contract at a block, and what it answers to `owner()`."""
        owner: Call = ("eth_call", ({"to": contract, "data": OWNER_SELECTOR}, block_id))
        return await self._views([("eth_getCode", (contract, block_id)), owner])

    async def safe_views(self, contract: str, block_id: BlockId) -> list[object]:
        """What a Safe answers to its views (`safe.VIEWS`); None where one reverts."""
        return await self._views(
            [("eth_call", ({"to": contract, "data": data}, block_id)) for data in safe.view_data()]
        )


def _balance_call(key: str, contract: str | None, block_id: BlockId) -> Call:
    if contract is None:
        return ("eth_getBalance", (key, block_id))
    data = BALANCE_OF_SELECTOR + key[2:].rjust(64, "0")
    return ("eth_call", ({"to": contract, "data": data}, block_id))
