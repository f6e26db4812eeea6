"""Builds the proof of one deposit from what was kept when its block connected.

It recomputes nothing: what the bundle says is checked by code of its own (`gateway/cli`), which a
stranger runs. No node is asked.
"""

import hashlib
import json

from config.assets import AssetSpec
from config.chains import ChainSpec, Family, Finality
from gateway.api.endpoint import Call
from gateway.api.wire_deposit_proof import (
    FORMAT,
    DepositProof,
    DepositProofBody,
    ProofAgreement,
    ProofBlock,
    ProofClaim,
    ProofDeposit,
    ProofFinality,
    ProofInclusion,
    ProofNetwork,
)
from gateway.errors import Conflict
from watchers import addresses, evidence
from watchers.deposit_commands import DepositRow
from watchers.evidence import StoredProof, Unproven


class _NotYet(Conflict):
    """The chain has to go on first: ask again."""

    is_retryable = True


async def build(call: Call, deposit: DepositRow) -> DepositProof:
    """The bundle. Raises Conflict: `unconfirmed` while the deposit is in no block, `unproven`
    where its block has a shape that proves nothing, `no_evidence` where none was kept."""
    if deposit.block_hash is None:
        raise _NotYet("unconfirmed", "The deposit is in no block now: there is nothing to prove.")
    proof = await evidence.proof_of(
        call.uow, network=deposit.network, txid=deposit.txid, block_hash=deposit.block_hash
    )
    address = await addresses.by_id(call.uow, deposit.address_id)
    chain = call.services.registry.chains.get(deposit.network)
    if isinstance(proof, Unproven):
        raise Conflict("unproven", f"The block has a shape that proves nothing: {proof.reason}.")
    if proof is None or address is None or chain is None:
        raise Conflict("no_evidence", "No proof was kept when the deposit's block was read.")
    return _sealed(_body(call, deposit, proof, chain, key=address.key))


def _sealed(body: DepositProofBody) -> DepositProof:
    """With the digest, which finds what was altered by accident or by hand; it is no signature."""
    plain = body.model_dump(mode="json")
    text = json.dumps(plain, sort_keys=True, separators=(",", ":"), ensure_ascii=True)
    digest = "sha256:" + hashlib.sha256(text.encode("ascii")).hexdigest()
    return DepositProof(**dict(body), digest=digest)


def _body(
    call: Call, deposit: DepositRow, proof: StoredProof, chain: ChainSpec, *, key: str
) -> DepositProofBody:
    is_utxo = chain.family is Family.BITCOIN
    return DepositProofBody(
        format=FORMAT,
        network=ProofNetwork(
            name=chain.network,
            family="bitcoin" if is_utxo else "evm",
            caip2=chain.caip2,
            genesis_hash=chain.genesis_hash,
            chain_id=chain.evm_chain_id,
        ),
        deposit=_deposit(call, deposit, chain, key=key),
        block=ProofBlock(hash=proof.block_hash, height=proof.height),
        inclusion=_inclusion(proof, is_utxo=is_utxo),
        headers=[item.hex() for item in proof.headers],
        agreement=_agreement(proof),
        finality=_finality(deposit, proof, chain),
        claim=ProofClaim(address=deposit.address, key=key),
    )


def _agreement(proof: StoredProof) -> ProofAgreement | None:
    if proof.agreed_nodes is None or proof.total_nodes is None:
        return None
    return ProofAgreement(agreed=proof.agreed_nodes, nodes=proof.total_nodes)


def _deposit(call: Call, deposit: DepositRow, chain: ChainSpec, *, key: str) -> ProofDeposit:
    wire = call.services.wire
    spec = call.services.registry.assets.get(deposit.asset)
    contract = _contract(deposit, spec)
    unlisted = None if contract is None else f"{chain.caip2}/erc20:{contract}"
    return ProofDeposit(
        id=wire.id("deposit", deposit.id),
        txid=deposit.txid,
        position=deposit.position,
        asset=deposit.asset,
        caip19=unlisted if spec is None else spec.caip19,
        contract=contract,
        amount=wire.amount(deposit.amount_minor, deposit.asset),
        amount_minor=str(deposit.amount_minor),
        decimals=None if spec is None else spec.decimals,
        address=deposit.address,
        key=key,
    )


def _contract(deposit: DepositRow, spec: AssetSpec | None) -> str | None:
    """Whose log it is: of a listed asset, or of the token that the asset's id names."""
    if spec is not None:
        return None if spec.contract is None else spec.contract.lower()
    name = deposit.asset.partition(":")[2]
    return name if name.startswith("0x") else None


def _inclusion(proof: StoredProof, *, is_utxo: bool) -> ProofInclusion:
    companion, nodes = proof.companion.hex(), [item.hex() for item in proof.companion_branch]
    return ProofInclusion(
        index=proof.index,
        raw_tx=proof.raw_tx.hex(),
        branch=[item.hex() for item in proof.branch],
        coinbase=companion if is_utxo else None,
        coinbase_branch=nodes if is_utxo else None,
        receipt=None if is_utxo else companion,
        receipt_branch=None if is_utxo else nodes,
    )


def _finality(deposit: DepositRow, proof: StoredProof, chain: ChainSpec) -> ProofFinality:
    """The rule of `watchers.network.final_below` over what the bundle holds."""
    by_tag = chain.finality is Finality.FINALIZED_TAG
    tag = proof.finalised_height if by_tag else None
    is_deep = len(proof.headers) >= deposit.full_depth
    return ProofFinality(
        rests_on="finalized_tag" if by_tag else "depth",
        confirmations=len(proof.headers),
        full_confirmations=deposit.full_depth,
        finalised_height=tag,
        is_reached=is_deep and (tag is None or tag >= proof.height),
    )
