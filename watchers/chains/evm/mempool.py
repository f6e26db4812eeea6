"""Unconfirmed txs of an EVM node: verified against their hashes and signatures.

Pure. A tx hash commits to receiver, value and nonce, and the signature gives the sender, so that
no node can tell others under it. Types that this version cannot encode are not reported, nor txs
that are signed for another chain. What they pay is for an estimate only (R10).
"""

from collections.abc import Sequence
from dataclasses import replace

from eth_hash.auto import keccak

from watchers.chain import MempoolTx
from watchers.chains.evm import decode, encode, proof
from watchers.chains.evm.encode import Raw, UnknownShape
from watchers.chains.evm.params import EvmParams
from watchers.errors import NodeLied


def txids(block: object) -> list[str]:
    """The txs of a pending block."""
    items = decode.sequence(decode.mapping(block, "block").get("transactions"), "pending")
    return [decode.hash_text(decode.mapping(item, "tx").get("hash"), "tx.hash") for item in items]


def reduced(block: object, wanted: Sequence[str], *, params: EvmParams) -> list[MempoolTx]:
    """Those of a pending block's full txs that are wanted. NodeLied when one contradicts its hash
    or its signature."""
    raw = decode.mapping(block, "block")
    base = raw.get("baseFeePerGas")
    base_fee = None if base is None else decode.quantity(base, "baseFeePerGas")
    chosen = frozenset(wanted)
    found = []
    for item in decode.sequence(raw.get("transactions"), "pending"):
        tx = decode.mapping(item, "tx")
        if decode.hash_text(tx.get("hash"), "tx.hash") not in chosen:
            continue
        try:
            if not _is_of_chain(tx, params.chain_id):
                continue
            seen = _verified(tx, params=params)
        except UnknownShape:
            continue
        found.append(replace(seen, fee_rate=fee_rate(tx, base_fee=base_fee)))
    return found


def _verified(tx: Raw, *, params: EvmParams) -> MempoolTx:
    seen = decode.mempool_tx(tx, params=params)
    signed = encode.signed(tx)
    if "0x" + keccak(encode.tx(tx)).hex() != seen.txid:
        raise NodeLied(f"unconfirmed tx {seen.txid} differs from its hash")
    proof.check_senders([tx], [signed], f"unconfirmed tx {seen.txid}")
    return seen


def _is_of_chain(tx: Raw, chain_id: int) -> bool:
    """Signed for this chain, or before EIP-155 for any."""
    if encode.kind(tx) != 0:
        return int.from_bytes(encode.number(tx.get("chainId"), "chainId"), "big") == chain_id
    v = int.from_bytes(encode.number(tx.get("v"), "v"), "big")
    return v < encode.EIP155_V or (v - encode.EIP155_V) // 2 == chain_id


def fee_rate(tx: Raw, *, base_fee: int | None) -> int:
    """Wei per gas that it would pay in the pending block: its price, or by EIP-1559 base fee and
    priority, capped."""
    if tx.get("maxFeePerGas") is None:
        return decode.quantity(tx.get("gasPrice"), "gasPrice")
    most = decode.quantity(tx.get("maxFeePerGas"), "maxFeePerGas")
    if base_fee is None:
        return most
    return min(
        most, base_fee + decode.quantity(tx.get("maxPriorityFeePerGas"), "maxPriorityFeePerGas")
    )
