"""The evidence of deposits: stored when a block connects, read when someone asks for proof (D13).

`store` runs in the follower's unit of work and calls no node: a verified block proves its own txs
(`watchers.chain.BlockEvidence`). One row per tx, whatever it pays. Headers are kept from the block
of a deposit up to the deepest full tier of its network. docs/integration/deposit-proofs.md is the
format of the bundle that the API makes of it, and says what is kept costs per year.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from config.database import Uow
from watchers import evidence_store
from watchers.chain import Block, BlockEvidence
from watchers.coins import COINBASE_MATURITY_BLOCKS
from watchers.network import Network

__all__ = ["StoredProof", "Unproven", "proof_of", "span", "store"]


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredProof:
    """What proves one tx: its inclusion, as in `watchers.chain.TxProof`, and the headers from its
    block on, as far as they were kept and are canonical now."""

    block_hash: str
    height: int
    index: int
    raw_tx: bytes
    branch: tuple[bytes, ...]
    companion: bytes
    companion_branch: tuple[bytes, ...]
    headers: tuple[bytes, ...]
    finalised_height: int | None
    agreed_nodes: int | None = None
    total_nodes: int | None = None
    """How many nodes gave the block of how many; None where that was not recorded."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Unproven:
    """The tx is in a verified chain of hashes, but its block has a shape that proves nothing."""

    reason: str


def span(network: Network, *, is_coinbase: bool) -> int:
    """How many headers a proof may hold, its own block's included: the deepest full tier."""
    return max(network.finality_blocks, COINBASE_MATURITY_BLOCKS if is_coinbase else 1)


async def store(
    uow: Uow, network: Network, wanted: Sequence[tuple[Block, Collection[str]]], *, at: datetime
) -> None:
    """Keep the proofs of these txs of blocks that connect, and their headers where one needs them.

    Safe to repeat. A block without evidence (no reader verified it) leaves none.
    """
    rows = []
    for block, txids in wanted:
        if block.evidence is None or not txids:
            continue
        coinbases = {item.txid for item in block.transfers if item.is_coinbase}
        for txid in sorted(set(txids)):
            is_coinbase = txid in coinbases
            rows.append(_row(network, block, block.evidence, txid, is_coinbase=is_coinbase, at=at))
    if rows:
        await evidence_store.upsert(uow, rows)
    headers = [
        (block.ref.hash, block.ref.height, block.evidence.header)
        for block, _ in wanted
        if block.evidence is not None and block.evidence.header
    ]
    if headers:
        await evidence_store.insert_headers(uow, network=network.name, headers=headers)


async def proof_of(
    uow: Uow, *, network: str, txid: str, block_hash: str
) -> StoredProof | Unproven | None:
    """The proof of a tx in this block; None when none was kept of it."""
    row = await evidence_store.of_tx(uow, network=network, txid=txid)
    if row is None or row["block_hash"] != block_hash:
        return None
    if row["unproven"] is not None:
        return Unproven(reason=row["unproven"])
    headers = await _headers(uow, network, low=row["height"], high=row["until_height"])
    if not headers or headers[0][0] != block_hash:
        return None  # its block is not on our chain now
    return StoredProof(
        block_hash=block_hash,
        height=row["height"],
        index=row["tx_index"],
        raw_tx=bytes(row["raw_tx"]),
        branch=tuple(bytes(item) for item in row["branch"]),
        companion=bytes(row["companion"]),
        companion_branch=tuple(bytes(item) for item in row["companion_branch"]),
        headers=tuple(raw for _, raw in headers),
        finalised_height=await evidence_store.finalised_height(uow, network=network),
        agreed_nodes=row["agreed_nodes"],
        total_nodes=row["total_nodes"],
    )


async def _headers(uow: Uow, network: str, *, low: int, high: int) -> list[tuple[str, bytes]]:
    """(hash, header) from `low` on, up to the first that is missing."""
    found: list[tuple[str, bytes]] = []
    for row in await evidence_store.headers(uow, network=network, low=low, high=high):
        if row["raw"] is None or row["height"] != low + len(found):
            break
        found.append((row["hash"], bytes(row["raw"])))
    return found


def _row(
    network: Network,
    block: Block,
    evidence: BlockEvidence,
    txid: str,
    *,
    is_coinbase: bool,
    at: datetime,
) -> dict[str, Any]:
    proof = evidence.prove(txid)
    agreement = block.agreement
    unproven = evidence.unproven or "the block's evidence does not hold the tx"
    return {
        "network": network.name,
        "txid": txid,
        "block_hash": block.ref.hash,
        "height": block.ref.height,
        "until_height": block.ref.height + span(network, is_coinbase=is_coinbase) - 1,
        "tx_index": None if proof is None else proof.index,
        "raw_tx": None if proof is None else proof.raw_tx,
        "branch": None if proof is None else list(proof.branch),
        "companion": None if proof is None else proof.companion,
        "companion_branch": None if proof is None else list(proof.companion_branch),
        "unproven": unproven if proof is None else None,
        "agreed": None if agreement is None else len(agreement.given_by),
        "nodes": None if agreement is None else agreement.nodes,
        "at": at,
    }
