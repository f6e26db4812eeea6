"""Verification of a Bitcoin-family block against its own header, and merkle proofs out of it.

Pure. The header is rebuilt from the node's fields: its SHA-256d must be the block hash, its work
must meet `nBits`, and `nBits` must be no easier than the chain's limit. `decode.block` has checked
the txs against the merkle root. Retargeting, script validity and the witness commitment are the
node's business: docs/integration/deposit-proofs.md says what that leaves open.
"""

import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace

from watchers.chain import Block, TxProof
from watchers.chains.bitcoin import decode, rawtx
from watchers.chains.bitcoin.params import BitcoinParams, PowAlgorithm
from watchers.errors import NodeLied, NodeUnavailable

HEADER_BYTES = 80
BITS = re.compile(r"[0-9a-f]{8}", re.ASCII)
UINT32_MAX = 0xFFFFFFFF
INT32_SPAN = 1 << 32


@dataclass(frozen=True, slots=True, kw_only=True)
class MerkleEvidence:
    """The header of a verified block and its tree (`watchers.chain.BlockEvidence`).

    `raw_txs` holds the bytes of every tx by txid, in the order of the block. The tree is built
    once: a block may hold thousands of deposits.
    """

    header: bytes
    raw_txs: Mapping[str, bytes]
    levels: rawtx.Levels
    places: Mapping[str, int]
    unproven: str | None = None

    def prove(self, txid: str) -> TxProof | None:
        """Branches of the tx and of the coinbase; None when the block does not hold it."""
        index = self.places.get(txid)
        if index is None:
            return None
        return TxProof(
            txid=txid,
            index=index,
            raw_tx=self.raw_txs[txid],
            branch=rawtx.merkle_branch(self.levels, index),
            companion=next(iter(self.raw_txs.values())),
            companion_branch=rawtx.merkle_branch(self.levels, 0),
        )


def evidence_of(
    header: bytes, raw_txs: Mapping[str, bytes], levels: rawtx.Levels | None = None
) -> MerkleEvidence:
    """The evidence of a verified block whose txs are these, in order; `levels`: their tree."""
    return MerkleEvidence(
        header=header,
        raw_txs=raw_txs,
        levels=rawtx.merkle_levels(list(raw_txs)) if levels is None else levels,
        places={txid: index for index, txid in enumerate(raw_txs)},
    )


def proven_block(value: object, block_hash: str, params: BitcoinParams) -> Block:
    """`decode.block` of a `getblock` answer whose header was verified, with its evidence.

    Raises NodeLied for what contradicts itself, NodeUnavailable for what is not understood.
    """
    block, levels = decode.block_and_tree(value, block_hash=block_hash, asset=params.asset)
    header = header_bytes(decode.mapping(value, "block"))
    check_header(header, block_hash=block_hash, params=params)
    return replace(block, evidence=evidence_of(header, block.raw_txs, levels))


def header_bytes(raw: Mapping[str, object]) -> bytes:
    """The 80 bytes of a header from the fields of `getblock` or `getblockheader`."""
    version = raw.get("version")
    bits = raw.get("bits")
    if type(version) is not int or not -INT32_SPAN // 2 <= version < INT32_SPAN // 2:
        raise NodeUnavailable("header: a version is required")
    if not isinstance(bits, str) or not BITS.fullmatch(bits):
        raise NodeUnavailable("header: bits are required")
    parent = raw.get("previousblockhash", decode.NO_PARENT)
    numbers = [decode.integer(raw.get("time"), "time"), decode.integer(raw.get("nonce"), "nonce")]
    if max(numbers) > UINT32_MAX:
        raise NodeUnavailable("header: a number is out of range")
    return b"".join(
        (
            version.to_bytes(4, "little", signed=True),
            bytes.fromhex(decode.hash_text(parent, "previousblockhash"))[::-1],
            bytes.fromhex(decode.hash_text(raw.get("merkleroot"), "merkleroot"))[::-1],
            numbers[0].to_bytes(4, "little"),
            bytes.fromhex(bits)[::-1],
            numbers[1].to_bytes(4, "little"),
        )
    )


def check_header(header: bytes, *, block_hash: str, params: BitcoinParams) -> None:
    """NodeLied unless the header hashes to `block_hash` and its work meets a legal target."""
    if rawtx.double_sha256(header)[::-1].hex() != block_hash:
        raise NodeLied(f"block {block_hash}: its header hashes to another block")
    target = target_of(int.from_bytes(header[72:76], "little"))
    if target is None or target > params.pow_limit:
        raise NodeLied(f"block {block_hash}: its target is not legal on this chain")
    if int.from_bytes(work_hash(header, params.pow_algorithm), "little") > target:
        raise NodeLied(f"block {block_hash}: its work does not meet its target")


def target_of(bits: int) -> int | None:
    """The target of a compact `nBits`; None when it is negative, zero or above 2^256.

    Core: `arith_uint256::SetCompact` and `CheckProofOfWork`.
    """
    exponent, mantissa = bits >> 24, bits & 0x007FFFFF
    if bits & 0x00800000 and mantissa:
        return None
    target = mantissa >> 8 * (3 - exponent) if exponent <= 3 else mantissa << 8 * (exponent - 3)
    return target if 0 < target < 1 << 256 else None


def work_hash(header: bytes, algorithm: PowAlgorithm) -> bytes:
    """The hash that is compared with the target, in hash byte order (little-endian number)."""
    if algorithm is PowAlgorithm.SCRYPT:
        return hashlib.scrypt(header, salt=header, n=1024, r=1, p=1, dklen=32)
    return rawtx.double_sha256(header)
