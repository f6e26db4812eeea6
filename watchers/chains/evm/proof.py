"""Verification of an EVM block against its own header, and trie proofs out of it.

Pure. The header is rebuilt from the node's fields and must hash to the block hash; all txs must
give its transactionsRoot and their signatures their senders; all receipts its receiptsRoot. A
contradiction raises NodeLied (N04, N06). A shape that this version does not know makes the block
`unproven`, with the reason, and leaves it to the agreement of the nodes. That the header is the
chain's own is for the nodes to agree on too: an EVM header carries no work.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from coincurve import PublicKey
from eth_hash.auto import keccak

from watchers.chain import Block, TxProof
from watchers.chains.evm import decode, encode, trie
from watchers.chains.evm.encode import UnknownShape
from watchers.chains.evm.params import EvmParams
from watchers.chains.jsonrpc import parse_json
from watchers.errors import NodeLied

Raw = Mapping[str, object]


@dataclass(frozen=True, slots=True, kw_only=True)
class TrieEvidence:
    """A verified block's header and its two tries (`watchers.chain.BlockEvidence`)."""

    header: bytes
    txids: tuple[str, ...]
    txs: tuple[bytes, ...]
    receipts: tuple[bytes, ...]
    tx_trie: trie.Trie
    receipt_trie: trie.Trie
    unproven: str | None = None

    def prove(self, txid: str) -> TxProof | None:
        """The tx and its receipt with the nodes from both roots down."""
        if txid not in self.txids:
            return None
        index = self.txids.index(txid)
        key = trie.index_key(index)
        return TxProof(
            txid=txid,
            index=index,
            raw_tx=self.txs[index],
            branch=self.tx_trie.prove(key),
            companion=self.receipts[index],
            companion_branch=self.receipt_trie.prove(key),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class NoEvidence:
    """A block of a shape that this version does not know; `header` is empty unless it hashes."""

    header: bytes
    unproven: str

    def prove(self, txid: str) -> TxProof | None:
        """Nothing."""
        return None


def proven_block(value: object, receipts: object, block_hash: str, params: EvmParams) -> Block:
    """`decode.block` of a block with full txs and all receipts, verified, with its evidence.

    Raises NodeLied for what contradicts itself, NodeUnavailable for what is not understood.
    """
    block = decode.block(value, receipts, block_hash=block_hash, params=params)
    raw = decode.mapping(value, "block")
    rows = [decode.mapping(item, "receipt") for item in decode.sequence(receipts, "receipts")]
    return replace(block, evidence=_evidence(block, raw, rows))


@dataclass(frozen=True, slots=True, kw_only=True)
class Proven:
    """A verified block, and the txids of its txs that may have made a call."""

    block: Block
    succeeded: frozenset[str]


def proven_by(receipts: object, body: bytes, block_hash: str, params: EvmParams) -> Proven:
    """`proven` of the whole answer to `eth_getBlockByHash`."""
    value = decode.mapping(parse_json(body), "answer").get("result")
    return proven(value, receipts, block_hash, params)


def proven(value: object, receipts: object, block_hash: str, params: EvmParams) -> Proven:
    """`proven_block`, and what its txs ran. A block without txs has no receipts, whatever the
    node calls that."""
    if not decode.mapping(value, "block").get("transactions"):
        receipts = []
    return Proven(
        block=proven_block(value, receipts, block_hash, params),
        succeeded=decode.ran_code(decode.sequence(receipts, "receipts")),
    )


def _evidence(block: Block, raw: Raw, receipts: Sequence[Raw]) -> TrieEvidence | NoEvidence:
    header = b""
    try:
        header = _header(raw, block_hash=block.ref.hash)
        return _tries(block, raw, receipts, header)
    except UnknownShape as error:
        return NoEvidence(header=header, unproven=str(error))


def _header(raw: Raw, *, block_hash: str) -> bytes:
    """The header's bytes; a field that is not known may be what makes its hash another one."""
    header = encode.header(raw)
    if _hex(keccak(header)) == block_hash:
        return header
    if strange := encode.strange_members(raw):
        raise UnknownShape(f"the header has what is not known: {', '.join(strange)[:200]}")
    raise NodeLied(f"block {block_hash}: its header hashes to another block")


def _tries(block: Block, raw: Raw, receipts: Sequence[Raw], header: bytes) -> TrieEvidence:
    where = f"block {block.ref.hash}"
    items = [decode.mapping(item, "tx") for item in decode.sequence(raw["transactions"], "txs")]
    kinds = [encode.kind(item) for item in items]
    pairs = [encode.tx_and_signed(item) for item in items]
    txs, signed = tuple(pair[0] for pair in pairs), [pair[1] for pair in pairs]
    for txid, tx in zip(block.txids, txs, strict=True):
        if _hex(keccak(tx)) != txid:
            raise NodeLied(f"{where}: tx {txid} differs from its hash")
    check_senders(items, signed, where)
    tx_trie = trie.ordered(txs)
    if _hex(tx_trie.root) != decode.hash_text(raw.get("transactionsRoot"), "transactionsRoot"):
        raise NodeLied(f"{where}: its txs do not give the transactions root")
    _check_withdrawals(raw, where)
    named = [item.get("type") for item in receipts]
    if any(name is None and kind for name, kind in zip(named, kinds, strict=True)):
        raise UnknownShape("a receipt does not name its type")
    if [encode.kind(item) for item in receipts] != kinds:
        raise NodeLied(f"{where}: a receipt of another type than its tx")
    encoded = tuple(encode.receipt(item) for item in receipts)
    receipt_trie = trie.ordered(encoded)
    if _hex(receipt_trie.root) != decode.hash_text(raw.get("receiptsRoot"), "receiptsRoot"):
        raise NodeLied(f"{where}: its receipts do not give the receipts root")
    _check_gas(receipts, where)
    return TrieEvidence(
        header=header,
        txids=block.txids,
        txs=txs,
        receipts=encoded,
        tx_trie=tx_trie,
        receipt_trie=receipt_trie,
    )


def check_senders(txs: Sequence[Raw], signed: Sequence[tuple[bytes, bytes]], where: str) -> None:
    """`from` is no part of a tx's bytes; its signature gives it (EIP-155, 2718)."""
    for tx, (message, signature) in zip(txs, signed, strict=True):
        try:
            public = PublicKey.from_signature_and_message(signature, keccak(message), hasher=None)
        except ValueError as error:
            raise NodeLied(f"{where}: a tx with a signature of nobody") from error
        sender = _hex(keccak(public.format(compressed=False)[1:])[12:])
        if sender != decode.address_key(tx.get("from"), "tx.from"):
            raise NodeLied(f"{where}: a tx of another sender than its signature's")


def _check_withdrawals(raw: Raw, where: str) -> None:
    if raw.get("withdrawalsRoot") is None:
        return
    if raw.get("withdrawals") is None:
        raise UnknownShape("withdrawals are missing")
    items = decode.sequence(raw.get("withdrawals"), "withdrawals")
    rows = [encode.withdrawal(decode.mapping(item, "withdrawal")) for item in items]
    if _hex(trie.ordered(rows).root) != decode.hash_text(raw["withdrawalsRoot"], "withdrawalsRoot"):
        raise NodeLied(f"{where}: its withdrawals do not give the withdrawals root")


def _check_gas(receipts: Sequence[Raw], where: str) -> None:
    """`gasUsed` is no part of a receipt's bytes; the running total, which is, gives it."""
    total = 0
    for receipt in receipts:
        used = decode.quantity(receipt.get("gasUsed"), "gasUsed")
        total += used
        if total != decode.quantity(receipt.get("cumulativeGasUsed"), "cumulativeGasUsed"):
            raise NodeLied(f"{where}: gasUsed of a receipt differs from the running total")


def _hex(value: bytes) -> str:
    return "0x" + value.hex()
