"""Wire models of files that the owners of a cold wallet sign."""

from typing import Any, Literal

from pydantic import Field

from gateway.api.wire_base import AmountOut, Body, MinorOut, NetworkName, Wire
from gateway.api.wire_rebalances import RebalanceDetail


class Signatures(Wire):
    """How far a plan is signed. Wallets are named by the fingerprint of their key (BIP 32)."""

    needed: int
    signed_by: list[str] = Field(description="Signed every input.")
    waits_for: list[str] = Field(description="Have not; empty once it is complete.")
    is_complete: bool


class UnsignedRebalance(Wire):
    """What to sign, the same bytes until it is signed or cancelled."""

    rebalance_id: str
    network: NetworkName
    format: Literal["psbt", "eip1559", "safe"]
    psbt: str | None = Field(description="PSBT version 0 (BIP 174), base64; UTXO networks.")
    tx: str | None = Field(description="Payload that is signed (EIP-1559), hex; account networks.")
    transaction: dict[str, str | int] | None = Field(
        description="The same by name, quantities in hex; account networks."
    )
    typed_data: dict[str, Any] | None = Field(
        description="What each owner of a Safe signs (EIP-712, `eth_signTypedData_v4`)."
    )
    safe_tx_hash: str | None = Field(description="Its hash, as the Safe names it.")
    file_name: str
    txid: str | None = Field(
        description="What it will be called, whoever sends it; account networks: null until then."
    )
    asset: str
    address: str = Field(description="An address of the hot wallet: compare it on each device.")
    amount: AmountOut
    amount_minor: MinorOut
    fee: AmountOut = Field(
        description="Exact on UTXO networks, else the most it can cost; of a Safe 0, hot pays."
    )
    fee_minor: MinorOut
    coins: int = Field(description="How many it spends; 0 on account networks.")
    signatures: Signatures
    qr_svg: str | None = Field(description="The base64 text as one QR code; null: it is too large.")


class SignedRebalanceIn(Body):
    """A signed file, whole or with some of the signatures; exactly one of the three."""

    psbt: str | None = Field(default=None, min_length=1, description="Base64.")
    tx: str | None = Field(default=None, min_length=1, description="A finished tx, hex.")
    signature: str | None = Field(
        default=None, min_length=1, description="Of one owner of a Safe, 65 bytes in hex."
    )
    dry_run: bool = Field(default=False, description="Check it and keep nothing.")


class SignedRebalance(Wire):
    """The move after an upload; of a dry run the signatures as they would be."""

    rebalance: RebalanceDetail
    signatures: Signatures
    new_signatures: int = Field(description="0: all of them were here already.")
    dry_run: bool
