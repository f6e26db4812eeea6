"""The deposit proof, `cage-deposit-proof/1`: a self-contained bundle (D13).

Members, order of bytes and meaning: docs/integration/deposit-proofs.md. A change of any of them is
another format with another number.
"""

from typing import Literal

from pydantic import Field

from gateway.api.wire_base import AmountOut, MinorOut, Wire

FORMAT: Literal["cage-deposit-proof/1"] = "cage-deposit-proof/1"
HEX = r"^([0-9a-f]{2})*$"


class ProofNetwork(Wire):
    """Which chain; `genesis_hash` on UTXO chains, `chain_id` on EVM chains."""

    name: str
    family: Literal["bitcoin", "evm"]
    caip2: str
    genesis_hash: str | None
    chain_id: int | None


class ProofDeposit(Wire):
    """What is proven: that this amount reached this key."""

    id: str
    txid: str
    position: str
    asset: str
    caip19: str | None
    contract: str | None = Field(description="EVM tokens: whose log it is, lower case.")
    amount: AmountOut
    amount_minor: MinorOut
    decimals: int | None = Field(description="null: the asset is not listed.")
    address: str
    key: str = Field(description="scriptPubKey in hex, or the account in lower case.")


class ProofBlock(Wire):
    """The block that holds the tx."""

    hash: str
    height: int


class ProofInclusion(Wire):
    """UTXO: Merkle siblings from the leaf up, with the coinbase and its own. EVM: trie nodes from
    the root down, with the receipt and its own. All hex, in the byte order that is hashed."""

    index: int
    raw_tx: str = Field(pattern=HEX)
    branch: list[str]
    coinbase: str | None
    coinbase_branch: list[str] | None
    receipt: str | None
    receipt_branch: list[str] | None


class ProofAgreement(Wire):
    """How many of the operator's nodes had the block; the operator's word."""

    agreed: int
    nodes: int


class ProofFinality(Wire):
    """What the deposit's finality rests on."""

    rests_on: Literal["depth", "finalized_tag"]
    confirmations: int = Field(description="Headers in this bundle.")
    full_confirmations: int = Field(description="The full tier of this deposit.")
    finalised_height: int | None = Field(description="As the operator's nodes told it.")
    is_reached: bool


class ProofClaim(Wire):
    """That the address is the text of the key."""

    address: str
    key: str


class DepositProofBody(Wire):
    """Everything that the digest covers."""

    format: Literal["cage-deposit-proof/1"]
    network: ProofNetwork
    deposit: ProofDeposit
    block: ProofBlock
    inclusion: ProofInclusion
    headers: list[str] = Field(description="From the deposit's block on, each as it hashes.")
    agreement: ProofAgreement | None
    finality: ProofFinality
    claim: ProofClaim


class DepositProof(DepositProofBody):
    """A deposit proof. `cage deposits verify FILE` checks it with nothing else at hand."""

    digest: str = Field(
        pattern=r"^sha256:[0-9a-f]{64}$",
        description="Over the other members as JSON with sorted names, no spaces, in ASCII.",
    )
