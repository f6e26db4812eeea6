"""`ChainReader` for EVM networks.

Asks by block hash wherever it matters, so that a lagging or forked node cannot answer for another
block (N12). Keeps only the set of pending txids already reported.
"""

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import replace
from typing import TypeVar

from watchers.chain import (
    AccountState,
    Block,
    BlockRef,
    Delegation,
    Hop,
    MempoolTx,
    Outpoint,
    TokenFacts,
    TxOutline,
    TxPlace,
    TxStatus,
)
from watchers.chains.errors import RpcError
from watchers.chains.evm import batch, batch_data, collect, decode, mempool, proof, safe
from watchers.chains.evm.build import transfer_data
from watchers.chains.evm.errors import INVALID_PARAMS, METHOD_NOT_FOUND, is_pruned
from watchers.chains.evm.node import BlockId, EvmNode
from watchers.chains.evm.params import EvmParams
from watchers.chains.evm.trace import Tracer
from watchers.chains.jsonrpc import reduce_answer, reduce_answers
from watchers.chains.verifier import Verify, in_thread
from watchers.errors import NodeUnavailable, StateUnavailable, TipMoved, UnsupportedOperation
from watchers.safes import SafeState

T = TypeVar("T")

TX = "eth_getTransactionByHash"
RECEIPT = "eth_getTransactionReceipt"
PENDING_TXS_PER_CALL_MAX = 2000  # a flood is reported over several calls (D29)

BLOCK_CALLS = 2  # the block with its txs, and its receipts


class EvmReader:
    """What Ethereum JSON-RPC nodes say about one network."""

    def __init__(self, node: EvmNode, params: EvmParams, *, verify: Verify = in_thread) -> None:
        self._node = node
        self._params = params
        self._verify = verify
        self._blocks_asked = 0
        self._takes_pairs = True
        self._tracer = Tracer(node, params)
        self._reported: set[str] = set()

    async def check_identity(self) -> None:
        await self._node.rpc.check_identity()

    async def tip(self) -> BlockRef:
        return decode.header(await self._node.tagged("latest"))

    async def finalised_height(self) -> int | None:
        if not self._params.has_finalized_tag:
            return None
        answer = await self._node.tagged("finalized")
        return 0 if answer is None else decode.header(answer).height

    async def ref_at(self, height: int) -> BlockRef | None:
        answer = await self._node.header_at(height)
        if answer is None:
            return None
        ref = decode.header(answer)
        if ref.height != height:
            raise NodeUnavailable("block: of another height")
        return ref

    async def refs(self, height: int, count: int) -> Sequence[BlockRef]:
        found: list[BlockRef] = []
        for answer in await self._node.headers_from(height, count):
            if answer is None:
                break
            found.append(decode.header(answer))
        if [ref.height for ref in found] != list(range(height, height + len(found))):
            raise NodeUnavailable("block: of another height")
        return found

    async def ref_of(self, block_hash: str) -> BlockRef | None:
        answer = await self._node.header_of(block_hash)
        if answer is None:
            return None
        ref = decode.header(answer)
        if ref.hash != block_hash:
            raise NodeUnavailable("block: the hash of another block")
        return ref

    async def block(self, block_hash: str) -> Block:
        self._blocks_asked += 1
        try:
            found = await self._proven(block_hash)
        finally:
            self._blocks_asked -= 1
        return await self._tracer.complete(found.block, found.succeeded)

    async def _proven(self, block_hash: str) -> proof.Proven:
        """Asked for and verified in one go, where the node has both calls and takes batches."""

        async def read(body: bytes) -> object:
            return await self._verify(  # a full block takes over 10 ms (HOUSE 11)
                reduce_answers,
                *(body, BLOCK_CALLS, proof.proven, block_hash, self._params),
                is_behind=self._blocks_asked > 1,
            )

        if self._takes_pairs:
            try:
                found, receipts = await self._node.block_and_receipts(block_hash, read)
            except RpcError as error:
                found = receipts = error
            if isinstance(found, proof.Proven):
                return found
            self._takes_pairs = not _is_unknown_call(receipts)
        return await self._proven_singly(block_hash)

    async def _proven_singly(self, block_hash: str) -> proof.Proven:
        """Verified in one go with reading the receipts, which is most of it."""
        answer, body = await self._node.block_of(block_hash)
        txs = decode.block_txs(answer, block_hash=block_hash)
        txids = [decode.hash_text(tx.get("hash"), "tx.hash") for tx in txs]

        async def verify(function: Callable[..., T], *first: object) -> T:
            return await self._verify(
                function, *first, body, block_hash, self._params, is_behind=self._blocks_asked > 1
            )

        async def read(receipts: bytes) -> object:
            return await verify(reduce_answer, receipts, proof.proven_by)

        found = await self._node.receipts(block_hash, txids, read) if txids else []
        return found if isinstance(found, proof.Proven) else await verify(proof.proven_by, found)

    async def mempool(self) -> Sequence[MempoolTx]:
        """The txs of the node's pending block; a node without one has no mempool (N22)."""
        try:
            answer = await self._node.tagged("pending", with_txs=True)
        except RpcError as error:
            if error.code == INVALID_PARAMS:
                return []
            raise
        if answer is None:
            return []
        present = mempool.txids(answer)
        self._reported &= set(present)
        new = [txid for txid in present if txid not in self._reported][:PENDING_TXS_PER_CALL_MAX]
        # Signatures take over 10 ms to check (HOUSE 11).
        found = await asyncio.to_thread(mempool.reduced, answer, new, params=self._params)
        self._reported.update(new)
        return found

    async def tx_status(self, txid: str) -> TxStatus:
        place, block_hash = _place(await self._node.rpc.call(TX, txid), txid)
        if block_hash is None:
            return TxStatus(place=place)
        answer = await self._node.rpc.call(RECEIPT, txid)
        receipt = decode.checked_receipt(answer, txid=txid, block_hash=block_hash)
        return _mined(receipt, await self._active(block_hash))

    async def tx_statuses(self, txids: Sequence[str]) -> Sequence[TxStatus]:
        if len(txids) < 2:
            return [await self.tx_status(txid) for txid in txids]
        try:
            answers = await self._node.rpc.batch_all([(TX, (txid,)) for txid in txids])
            places = [_place(item, txid) for item, txid in zip(answers, txids, strict=True)]
            blocks = {txid: at for txid, (_, at) in zip(txids, places, strict=True) if at}
            found = await self._node.rpc.batch_all([(RECEIPT, (txid,)) for txid in blocks])
        except RpcError:  # a node that takes no batches
            return [await self.tx_status(txid) for txid in txids]
        refs = {block_hash: await self._active(block_hash) for block_hash in set(blocks.values())}
        mined = {
            txid: _mined(
                decode.checked_receipt(answer, txid=txid, block_hash=blocks[txid]),
                refs[blocks[txid]],
            )
            for txid, answer in zip(blocks, found, strict=True)
        }
        return [
            mined.get(txid) or TxStatus(place=place)
            for txid, (place, _) in zip(txids, places, strict=True)
        ]

    async def _active(self, block_hash: str) -> BlockRef:
        # The block of a tx, which nodes name from an index of their own.
        ref = await self.ref_of(block_hash)
        if ref is None or await self.ref_at(ref.height) != ref:
            raise NodeUnavailable("tx: its block is not on the active chain")
        return ref

    async def outline(self, txid: str) -> TxOutline | None:
        answer = await self._node.rpc.call(TX, txid)
        return None if answer is None else decode.outline(answer, txid=txid, params=self._params)

    async def spender(self, outpoint: Outpoint) -> str | None:
        return None  # account chains have no outpoints; the nonce tells

    async def account_nonce(self, key: str) -> int:
        answer = await self._node.rpc.call("eth_getTransactionCount", key, "latest")
        return decode.quantity(answer, "eth_getTransactionCount")

    async def holdings(
        self, keys: Sequence[str], asset: str, *, block_hash: str
    ) -> Mapping[str, int]:
        contract = self._contract_of(asset)

        async def ask(block_id: BlockId) -> Sequence[object]:
            return await self._node.balances(keys, contract, block_id)

        answers = await self._at_block(block_hash, ask)
        read = decode.quantity if contract is None else decode.word
        return {key: read(answer, "balance") for key, answer in zip(keys, answers, strict=True)}

    async def token_facts(self, asset: str, *, block_hash: str) -> TokenFacts:
        contract = self._contract_of(asset)
        if contract is None:
            raise UnsupportedOperation(f"{asset} is no token")

        async def ask(block_id: BlockId) -> Sequence[object]:
            return await self._node.token_facts(contract, block_id)

        decimals, supply = (
            None if answer is None else decode.fact(answer)
            for answer in await self._at_block(block_hash, ask)
        )
        return TokenFacts(decimals=decimals, total_supply_minor=supply)

    async def with_code(self, keys: Sequence[str], *, block_hash: str) -> frozenset[str]:
        async def ask(block_id: BlockId) -> Sequence[object]:
            return await self._node.codes(keys, block_id)

        answers = await self._at_block(block_hash, ask)
        found = [decode.code(answer) for answer in answers]
        return frozenset(
            key
            for key, code in zip(keys, found, strict=True)
            if collect.delegation_of(code, self._params) is Delegation.FOREIGN
        )

    async def account_states(
        self, keys: Sequence[str], *, block_hash: str
    ) -> Mapping[str, AccountState]:
        async def ask(block_id: BlockId) -> Sequence[object]:
            return [
                *await self._node.codes(keys, block_id),
                *await self._node.nonces(keys, block_id),
            ]

        answers = await self._at_block(block_hash, ask)
        codes, numbers = answers[: len(keys)], answers[len(keys) :]
        return {
            key: AccountState(
                delegation=collect.delegation_of(decode.code(code), self._params),
                nonce=decode.quantity(number, "eth_getTransactionCount"),
            )
            for key, code, number in zip(keys, codes, numbers, strict=True)
        }

    async def transfer_gas(self, asset: str, hops: Sequence[Hop]) -> Sequence[int | None]:
        contract = self._contract_of(asset)
        if contract is None:
            raise UnsupportedOperation(f"{asset} is no token")
        calls = [
            {"from": sender, "to": contract, "data": "0x" + transfer_data(to_key, amount).hex()}
            for sender, to_key, amount in hops
        ]
        return [
            None if answer is None else decode.quantity(answer, "eth_estimateGas")
            for answer in await self._node.gas_of(calls)
        ]

    async def batch_owner(self, *, block_hash: str) -> str | None:
        contract = self._params.batch_contract
        return None if contract is None else await self._owner_of(contract, block_hash)

    async def created_batch(self, *, creator: str, nonce: int, block_hash: str) -> str | None:
        contract = batch_data.created_key(creator, nonce)
        return contract if await self._owner_of(contract, block_hash) == creator else None

    async def _owner_of(self, contract: str, block_hash: str) -> str | None:
        async def ask(block_id: BlockId) -> Sequence[object]:
            return await self._node.batch_contract(contract, block_id)

        code, owner = await self._at_block(block_hash, ask)
        return batch.owner_of(code, owner)

    async def safe_state(self, *, block_hash: str) -> SafeState | None:
        contract = self._params.safe
        if contract is None:
            return None

        async def ask(block_id: BlockId) -> Sequence[object]:
            return await self._node.safe_views(contract, block_id)

        answers = await self._at_block(block_hash, ask)
        found = safe.state_of(answers, safe=contract, params=self._params)
        if found is None:
            return None

        async def ask_codes(block_id: BlockId) -> Sequence[object]:
            return await self._node.codes(found.owners, block_id)

        codes = await self._at_block(block_hash, ask_codes)
        coded = {
            key
            for key, code in zip(found.owners, map(decode.code, codes), strict=True)
            if code != "0x" and not code.startswith(collect.DELEGATION_PREFIX)
        }
        return replace(found, owner_contracts=frozenset(coded))

    async def open_coins(
        self, outpoints: Sequence[Outpoint], *, block_hash: str
    ) -> Mapping[Outpoint, int]:
        raise UnsupportedOperation(f"{self._params.network} holds balances, not coins")

    def _contract_of(self, asset: str) -> str | None:
        try:
            return self._params.contract_of(asset)
        except KeyError as error:
            raise UnsupportedOperation(f"{asset} is not listed") from error

    async def _at_block(
        self, block_hash: str, ask: Callable[[BlockId], Awaitable[Sequence[object]]]
    ) -> Sequence[object]:
        """State at a block by EIP-1898; for nodes without it by number, with the hash checked
        before and after. Raises StateUnavailable for a block whose state is pruned."""
        try:
            return await ask({"blockHash": block_hash, "requireCanonical": True})
        except RpcError as error:
            if is_pruned(error):
                raise StateUnavailable(str(error)) from error
            if error.code != INVALID_PARAMS:
                raise
        ref = await self.ref_of(block_hash)
        if ref is None or await self.ref_at(ref.height) != ref:
            raise TipMoved(f"{block_hash} is not on the active chain")
        answers = await ask(hex(ref.height))
        if await self.ref_at(ref.height) != ref:
            raise TipMoved("the chain changed while state was read")
        return answers


def _place(answer: object, txid: str) -> tuple[TxPlace, str | None]:
    """Where a node has a tx, and the block that it names."""
    if answer is None:
        return TxPlace.UNKNOWN, None
    tx = decode.mapping(answer, "tx")
    if decode.hash_text(tx.get("hash"), "tx.hash") != txid:
        raise NodeUnavailable("tx: the txid of another tx")
    if tx.get("blockHash") is None:
        return TxPlace.MEMPOOL, None
    return TxPlace.MINED, decode.hash_text(tx.get("blockHash"), "tx.blockHash")


def _mined(receipt: Mapping[str, object], ref: BlockRef) -> TxStatus:
    return TxStatus(place=TxPlace.MINED, block=ref, is_success=decode.is_success(receipt))


def _is_unknown_call(answer: object) -> bool:
    return isinstance(answer, RpcError) and answer.code == METHOD_NOT_FOUND
