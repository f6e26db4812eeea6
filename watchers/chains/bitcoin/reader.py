"""`ChainReader` for Bitcoin-family networks.

Asks by hash wherever the node allows it and never trusts the node's `confirmations` (N21). Keeps
only the set of mempool txids already reported; everything durable belongs to the caller.
"""

import asyncio
from collections.abc import Mapping, Sequence

from watchers.chain import (
    AccountState,
    Block,
    BlockRef,
    Hop,
    MempoolTx,
    Outpoint,
    SafeState,
    TokenFacts,
    TxOutline,
    TxPlace,
    TxStatus,
)
from watchers.chains.bitcoin import decode, mempool, proof
from watchers.chains.bitcoin.errors import METHOD_NOT_FOUND
from watchers.chains.bitcoin.node import BitcoinNode
from watchers.chains.bitcoin.params import BitcoinParams
from watchers.chains.errors import RpcError
from watchers.chains.jsonrpc import reduce_answer
from watchers.chains.verifier import Verify, in_thread
from watchers.errors import NodeUnavailable, TipMoved, UnsupportedOperation

MEMPOOL_TXS_PER_CALL_MAX = 2000  # a flood is reported over several calls (D29)
MEMPOOL_FEES_PER_CALL_MAX = 500  # an ETA is worth no more: the rest of a flood tells no fee
MEMPOOL_SCAN_MAX = 5000  # only for nodes without gettxspendingprevout (Litecoin)


class BitcoinReader:
    """What Core-compatible nodes say about one network."""

    def __init__(
        self, node: BitcoinNode, params: BitcoinParams, *, verify: Verify = in_thread
    ) -> None:
        self._node = node
        self._params = params
        self._verify = verify
        self._blocks_asked = 0
        self._reported: set[str] = set()

    async def check_identity(self) -> None:
        await self._node.rpc.check_identity()

    async def tip(self) -> BlockRef:
        best = decode.hash_text(await self._node.rpc.call("getbestblockhash"), "best block")
        ref = await self.ref_of(best)
        if ref is None:
            raise NodeUnavailable("the node does not know its own best block")
        return ref

    async def finalised_height(self) -> int | None:
        return None  # proof of work has no finality of its own

    async def ref_at(self, height: int) -> BlockRef | None:
        found = await self._node.hash_at(height)
        if found is None:
            return None
        ref = await self.ref_of(decode.hash_text(found, "block hash"))
        if ref is None or ref.height != height:
            raise NodeUnavailable(f"no header for the block at {height}")
        return ref

    async def refs(self, height: int, count: int) -> Sequence[BlockRef]:
        hashes = [
            decode.hash_text(item, "block hash")
            for item in await self._node.hashes_from(height, count)
        ]
        found = [
            _ref(answer, block_hash)
            for answer, block_hash in zip(await self._node.headers(hashes), hashes, strict=True)
        ]
        if [ref.height for ref in found] != list(range(height, height + len(found))):
            raise NodeUnavailable(f"other headers than those from {height} up")
        return found

    async def ref_of(self, block_hash: str) -> BlockRef | None:
        answer = await self._node.header(block_hash)
        return None if answer is None else _ref(answer, block_hash)

    async def block(self, block_hash: str) -> Block:
        async def read(body: bytes) -> object:  # a full block takes over 10 ms (HOUSE 11)
            return await self._verify(
                reduce_answer,
                *(body, proof.proven_block, block_hash, self._params),
                is_behind=self._blocks_asked > 1,
            )

        self._blocks_asked += 1
        try:
            found = await self._node.rpc.call_as(read, "getblock", block_hash, 2)
        finally:
            self._blocks_asked -= 1
        if not isinstance(found, Block):
            raise TypeError("a block is read as one")
        return found

    async def mempool(self) -> Sequence[MempoolTx]:
        """A node that has no mempool shows nothing (N22)."""
        try:
            present = await self._mempool_txids()
        except RpcError as error:
            if error.code == METHOD_NOT_FOUND:
                return []
            raise
        self._reported &= set(present)
        new = [txid for txid in present if txid not in self._reported]
        answers = await self._node.pooled_txs(new[:MEMPOOL_TXS_PER_CALL_MAX])
        entries = await self._node.pool_entries(list(answers)[:MEMPOOL_FEES_PER_CALL_MAX])
        # A batch takes over 10 ms to parse and hash (HOUSE 11).
        found = await asyncio.to_thread(mempool.reduced, answers, entries, asset=self._params.asset)
        self._reported.update(answers)
        return found

    async def tx_status(self, txid: str) -> TxStatus:
        """Needs `-txindex=1` for txs that no wallet of the node owns."""
        answer = await self._node.tx(txid)
        if answer is None:
            return TxStatus(place=TxPlace.UNKNOWN)
        block_hash = decode.mapping(answer, "tx").get("blockhash")
        if block_hash is None:
            return TxStatus(place=TxPlace.MEMPOOL)
        ref = await self.ref_of(decode.hash_text(block_hash, "blockhash"))
        if ref is None:
            raise NodeUnavailable("tx: no header for its block")
        if await self._node.hash_at(ref.height) != ref.hash:
            return await self._status_off_chain(txid)
        return TxStatus(place=TxPlace.MINED, block=ref, is_success=True)

    async def tx_statuses(self, txids: Sequence[str]) -> Sequence[TxStatus]:
        return [await self.tx_status(txid) for txid in txids]

    async def outline(self, txid: str) -> TxOutline | None:
        """Needs `-txindex=1` as `tx_status` does."""
        answer = await self._node.tx(txid)
        if answer is None:
            return None
        is_mined = decode.mapping(answer, "tx").get("blockhash") is not None
        entry = None if is_mined else await self._node.pool_entry(txid)
        return mempool.outline(answer, entry, txid=txid, asset=self._params.asset)

    async def spender(self, outpoint: Outpoint) -> str | None:
        answer = await self._node.pooled_spender(outpoint.txid, outpoint.vout)
        if answer is None:
            return await self._scan_for_spender(outpoint)
        rows = decode.sequence(answer, "gettxspendingprevout")
        if len(rows) != 1:
            raise NodeUnavailable("gettxspendingprevout: one row is required")
        txid = decode.mapping(rows[0], "gettxspendingprevout").get("spendingtxid")
        return None if txid is None else decode.hash_text(txid, "spendingtxid")

    async def account_nonce(self, key: str) -> int:
        raise UnsupportedOperation(f"{self._params.network} has no account nonces")

    async def holdings(
        self, keys: Sequence[str], asset: str, *, block_hash: str
    ) -> Mapping[str, int]:
        raise UnsupportedOperation(f"{self._params.network} holds coins, not balances")

    async def token_facts(self, asset: str, *, block_hash: str) -> TokenFacts:
        raise UnsupportedOperation(f"{self._params.network} has no tokens")

    async def with_code(self, keys: Sequence[str], *, block_hash: str) -> frozenset[str]:
        raise UnsupportedOperation(f"{self._params.network} has no code at addresses")

    async def account_states(
        self, keys: Sequence[str], *, block_hash: str
    ) -> Mapping[str, AccountState]:
        raise UnsupportedOperation(f"{self._params.network} has no code at addresses")

    async def transfer_gas(self, asset: str, hops: Sequence[Hop]) -> Sequence[int | None]:
        raise UnsupportedOperation(f"{self._params.network} has no gas")

    async def batch_owner(self, *, block_hash: str) -> str | None:
        raise UnsupportedOperation(f"{self._params.network} has no contracts")

    async def created_batch(self, *, creator: str, nonce: int, block_hash: str) -> str | None:
        raise UnsupportedOperation(f"{self._params.network} has no contracts")

    async def safe_state(self, *, block_hash: str) -> SafeState | None:
        raise UnsupportedOperation(f"{self._params.network} has no contracts")

    async def open_coins(
        self, outpoints: Sequence[Outpoint], *, block_hash: str
    ) -> Mapping[Outpoint, int]:
        await self._require_tip(block_hash)
        calls = [("gettxout", (item.txid, item.vout, False)) for item in outpoints]
        found: dict[Outpoint, int] = {}
        answers = await self._node.rpc.batch_all(calls)
        for item, answer in zip(outpoints, answers, strict=True):
            if answer is None:
                continue  # spent, or never an output of this chain
            row = decode.mapping(answer, "gettxout")
            if row.get("bestblock") != block_hash:
                raise TipMoved("the tip changed while coins were read")
            found[item] = decode.amount_minor(row.get("value"))
        await self._require_tip(block_hash)
        return found

    async def _require_tip(self, block_hash: str) -> None:
        if await self._node.rpc.call("getbestblockhash") != block_hash:
            raise TipMoved(f"{block_hash} is not the tip")

    async def _mempool_txids(self) -> list[str]:
        answer = decode.sequence(await self._node.rpc.call("getrawmempool"), "getrawmempool")
        return [decode.hash_text(item, "txid") for item in answer]

    async def _status_off_chain(self, txid: str) -> TxStatus:
        """A tx whose indexed block is not on the active chain: pooled again, or nowhere. A node
        without a mempool shows nothing (N22)."""
        try:
            entry = await self._node.pool_entry(txid)
        except RpcError as error:
            if error.code != METHOD_NOT_FOUND:
                raise
            entry = None
        return TxStatus(place=TxPlace.UNKNOWN if entry is None else TxPlace.MEMPOOL)

    async def _scan_for_spender(self, outpoint: Outpoint) -> str | None:
        txids = (await self._mempool_txids())[:MEMPOOL_SCAN_MAX]
        for txid, answer in (await self._node.pooled_txs(txids)).items():
            if any(spend.outpoint == outpoint for spend in decode.spends(answer, txid=txid)):
                return txid
        return None


def _ref(answer: object, block_hash: str) -> BlockRef:
    ref = decode.header(answer)
    if ref.hash != block_hash:
        raise NodeUnavailable("header: the hash of another block")
    return ref
