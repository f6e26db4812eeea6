"""What is asked of a Core-compatible node, and how its identity is checked.

Owns the RPC method names of this family. The connection is `watchers.chains.node`, the protocol
`watchers.chains.jsonrpc`; meanings are in `decode.py`, `fee.py` and `errors.py`.
"""

from collections.abc import Sequence

from config.clock import Clock
from watchers.chain import NodeInfo
from watchers.chains.bitcoin import decode
from watchers.chains.bitcoin.errors import METHOD_NOT_FOUND, NOT_FOUND, OUT_OF_RANGE
from watchers.chains.errors import RpcError
from watchers.chains.jsonrpc import Endpoint, JsonRpc, Post, endpoint
from watchers.errors import NodeUnavailable, WrongNetwork

VERSION_LENGTH_MAX = 80  # characters of a node's own name that are kept


class BitcoinNode:
    """Typed by method, not yet by answer: results are JSON values that `decode.py` checks."""

    def __init__(
        self, urls: Sequence[str], post: Post, *, clock: Clock, genesis_hash: str, network: str
    ) -> None:
        self._genesis_hash = genesis_hash
        self._network = network
        self.rpc = JsonRpc(
            [endpoint(url) for url in urls], post, clock=clock, identify=self._identify
        )

    async def _identify(self, rpc: JsonRpc, node: Endpoint) -> None:
        """WrongNetwork unless the node's block 0 is ours (D62, N02)."""
        found = await rpc.ask(node, "getblockhash", 0)
        if found != self._genesis_hash:
            raise WrongNetwork(f"node {node.label} does not serve {self._network}")

    async def describe(self) -> NodeInfo:
        """`getnetworkinfo`, `getblockchaininfo`: version and initial block download (N24).

        Core's CLIENT_VERSION is 10000 x major + 100 x minor + build; the leading 0 of the old
        scheme (0.21.5.4 = 210504) carries nothing.
        """
        network, chain = await self.rpc.batch_all(
            [("getnetworkinfo", ()), ("getblockchaininfo", ())]
        )
        facts, state = (
            decode.mapping(network, "getnetworkinfo"),
            decode.mapping(chain, "getblockchaininfo"),
        )
        number, is_loading = facts.get("version"), state.get("initialblockdownload")
        if type(number) is not int or type(is_loading) is not bool:
            raise NodeUnavailable("the node does not say its version or whether it syncs")
        version = (number // 10_000, number // 100 % 100, number % 100)
        name = str(facts.get("subversion", ""))[:VERSION_LENGTH_MAX]
        return NodeInfo(version=version, version_text=name, is_syncing=is_loading)

    async def header(self, block_hash: str) -> object | None:
        """`getblockheader`, or None when the node does not know the hash."""
        try:
            return await self.rpc.call("getblockheader", block_hash, True)
        except RpcError as error:
            if error.code == NOT_FOUND:
                return None
            raise

    async def hash_at(self, height: int) -> object | None:
        """`getblockhash`, or None above the tip."""
        try:
            return await self.rpc.call("getblockhash", height)
        except RpcError as error:
            if error.code == OUT_OF_RANGE:
                return None
            raise

    async def hashes_from(self, height: int, count: int) -> list[object]:
        """`getblockhash` of up to `count` heights from one up, as far as there are blocks."""
        calls = [("getblockhash", (at,)) for at in range(height, height + count)]
        found: list[object] = []
        for answer in await self.rpc.batch(calls):
            if isinstance(answer, RpcError):
                if answer.code != OUT_OF_RANGE:
                    raise answer
                break
            found.append(answer)
        return found

    async def headers(self, block_hashes: Sequence[str]) -> list[object]:
        """`getblockheader` of each hash."""
        return await self.rpc.batch_all([("getblockheader", (item, True)) for item in block_hashes])

    async def tx(self, txid: str) -> object | None:
        """Verbose `getrawtransaction`, or None when the node does not know the txid."""
        try:
            return await self.rpc.call("getrawtransaction", txid, True)
        except RpcError as error:
            if error.code == NOT_FOUND:
                return None
            raise

    async def pool_entry(self, txid: str) -> object | None:
        """`getmempoolentry`, or None for a tx that is not in the mempool."""
        try:
            return await self.rpc.call("getmempoolentry", txid)
        except RpcError as error:
            if error.code == NOT_FOUND:
                return None
            raise

    async def pooled_txs(self, txids: Sequence[str]) -> dict[str, object]:
        """Verbose txs by txid; those that left the mempool meanwhile are absent."""
        calls = [("getrawtransaction", (txid, True)) for txid in txids]
        found: dict[str, object] = {}
        for txid, answer in zip(txids, await self.rpc.batch(calls), strict=True):
            if isinstance(answer, RpcError):
                if answer.code != NOT_FOUND:
                    raise answer
                continue
            found[txid] = answer
        return found

    async def pool_entries(self, txids: Sequence[str]) -> dict[str, object]:
        """`getmempoolentry` by txid; those that the node refuses are absent."""
        answers = await self.rpc.batch([("getmempoolentry", (txid,)) for txid in txids])
        return {
            txid: answer
            for txid, answer in zip(txids, answers, strict=True)
            if not isinstance(answer, RpcError)
        }

    async def pooled_spender(self, txid: str, vout: int) -> object | None:
        """`gettxspendingprevout` (Core >= 24), or None where the node has no such method."""
        try:
            return await self.rpc.call("gettxspendingprevout", [{"txid": txid, "vout": vout}])
        except RpcError as error:
            if error.code == METHOD_NOT_FOUND:
                return None
            raise
