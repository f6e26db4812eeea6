"""Real headers, receipts and evidence for the simulated chains: a fake is a full model (HOUSE 12).

UTXO blocks are mined at regtest's difficulty; account blocks carry EIP-1559 headers and receipts
with a `Transfer` log per token movement. The bloom filters are left empty: nobody reads them.
"""

from collections.abc import Mapping, Sequence

from eth_hash.auto import keccak
from rlp.codec import encode_raw  # type: ignore[import-untyped]

from watchers.chain import Block, Transfer
from watchers.chains.bitcoin import rawtx
from watchers.chains.bitcoin.proof import MerkleEvidence, evidence_of
from watchers.chains.evm import trie
from watchers.chains.evm.decode import TRANSFER_TOPIC
from watchers.chains.evm.proof import TrieEvidence

REGTEST_BITS = 0x207FFFFF
NO_BLOOM = b"\0" * 256
GAS = 21_000


def height_push(height: int) -> bytes:
    """The start of a coinbase's script (BIP 34)."""
    if height == 0:
        return b"\x00"
    if height <= 16:
        return bytes([0x50 + height])
    digits = height.to_bytes(height.bit_length() // 8 + 1, "little")
    return bytes([len(digits)]) + digits


def mined(effects: Block) -> tuple[str, MerkleEvidence]:
    """The hash of a UTXO block with its work done, and its evidence."""
    start = b"".join(
        (
            (0x20000000).to_bytes(4, "little"),
            bytes.fromhex(effects.ref.parent_hash)[::-1],
            bytes.fromhex(rawtx.merkle_root(effects.txids))[::-1],
            effects.ref.time_seconds.to_bytes(4, "little"),
            REGTEST_BITS.to_bytes(4, "little"),
        )
    )
    nonce = 0
    while True:
        header = start + nonce.to_bytes(4, "little")
        work = rawtx.double_sha256(header)
        if work[-1] < 0x7F:
            return work[::-1].hex(), evidence_of(header, effects.raw_txs)
        nonce += 1


def hashed(
    effects: Block,
    raw_txs: Sequence[bytes],
    is_success: Mapping[str, bool],
    contracts: Mapping[str, str],
) -> tuple[str, TrieEvidence]:
    """The hash of an account block, and its evidence. `contracts`: token by asset."""
    receipts = []
    for number, txid in enumerate(effects.txids):
        moved = [item for item in effects.transfers if item.txid == txid]
        sender = effects.sends[number].sender_key
        logs = [_log(item, contracts[item.asset], sender) for item in moved if _is_log(item)]
        total = _number((number + 1) * GAS)
        status = b"\x01" if is_success[txid] else b""
        receipts.append(b"\x02" + bytes(encode_raw([status, total, NO_BLOOM, logs])))
    tx_trie, receipt_trie = trie.ordered(raw_txs), trie.ordered(receipts)
    header = bytes(
        encode_raw(
            [
                bytes.fromhex(effects.ref.parent_hash[2:]),
                keccak(b"\xc0"),
                b"\0" * 20,
                b"\0" * 32,
                tx_trie.root,
                receipt_trie.root,
                NO_BLOOM,
                b"",
                _number(effects.ref.height),
                _number(30_000_000),
                _number(len(receipts) * GAS),
                _number(effects.ref.time_seconds),
                effects.ref.hash.encode(),  # tells branches apart
                b"\0" * 32,
                b"\0" * 8,
                _number(10**9),
            ]
        )
    )
    evidence = TrieEvidence(
        header=header,
        txids=effects.txids,
        txs=tuple(raw_txs),
        receipts=tuple(receipts),
        tx_trie=tx_trie,
        receipt_trie=receipt_trie,
    )
    return "0x" + keccak(header).hex(), evidence


def _is_log(transfer: Transfer) -> bool:
    return transfer.position.startswith("log:")


def _log(transfer: Transfer, contract: str, sender: str) -> list[object]:
    topics = [
        bytes.fromhex(TRANSFER_TOPIC[2:]),
        bytes.fromhex(sender[2:]).rjust(32, b"\0"),
        bytes.fromhex(transfer.to_key[2:]).rjust(32, b"\0"),
    ]
    return [bytes.fromhex(contract[2:]), topics, transfer.amount_minor.to_bytes(32, "big")]


def _number(value: int) -> bytes:
    return value.to_bytes((value.bit_length() + 7) // 8, "big")
