"""Wire models of proofs of reserves and of what casinos report of their players' balances."""

from typing import Literal

from pydantic import Field

from gateway.api.wire_base import AssetId, Body, PlayerId, Time, Wire
from gateway.api.wire_query import BrandQuery, Text

REPORT_ITEMS_MAX = 2_000


class BalanceIn(Body):
    """What one player has in one asset, by the casino's own books; "0" where it is nothing now."""

    player_id: PlayerId
    asset: AssetId
    balance: str = Field(description="Decimal string in asset units.", examples=["0.25"])


class BalanceReportIn(Body):
    """Balances of players at one moment; whoever is not named keeps what was reported before."""

    as_of: str = Field(description="RFC 3339: the moment of these balances.")
    items: list[BalanceIn] = Field(min_length=1, max_length=REPORT_ITEMS_MAX)


class BalanceReportOut(Wire):
    """A report that is kept. `applied`: of how many items nothing later was known."""

    id: str
    brand: str
    livemode: bool
    as_of: Time
    items: int
    applied: int


class ProofOut(Wire):
    """One proof of reserves. `statement` is what is signed, byte for byte, once it is done."""

    id: str
    version: int
    livemode: bool
    state: str = Field(description="asked, assembled, done or failed.")
    statement: str | None
    key_id: str | None
    public_key: str | None = Field(description="Base64 of 32 bytes: compare with the pinned one.")
    signature: str | None = Field(description="Base64: Ed25519 over the statement's bytes.")
    reason: str | None
    created_at: Time
    state_at: Time


class NodeOut(Wire):
    """A sibling on the way up: its hash (hex), and the sum below it in minor units."""

    hash: str
    sum: str


class LeafOut(Wire):
    """One claim and its way up to the root that the statement names for its asset."""

    asset: AssetId
    kind: str = Field(description="player or brand.")
    brand: str
    player_id: str
    amount_minor: str
    salt: str = Field(description="Hex of 32 bytes; keep it to yourself.")
    place: int
    path: list[NodeOut]


class InclusionOut(Wire):
    """`cage-inclusion/1`: what a proof owes one player, or one casino; verified offline."""

    format: Literal["cage-inclusion/1"]
    proof: str
    statement: str
    key_id: str
    public_key: str
    signature: str
    leaves: list[LeafOut]


class HoldingOut(Wire):
    """What one address (one coin of it, on UTXO chains) holds."""

    asset: str
    amount_minor: str
    address: str
    outpoint: str | None


class OwnershipOut(Wire):
    """Whether the address' own key signed the statement. `code`: why it did not."""

    network: str
    address: str
    signature: str | None
    code: str | None


class BundleOut(Wire):
    """`cage-reserves-bundle/1`: all that a stranger needs to verify a proof offline."""

    format: Literal["cage-reserves-bundle/1"]
    statement: str
    key_id: str
    public_key: str
    signature: str
    liabilities: dict[str, list[NodeOut]]
    holdings: dict[str, list[HoldingOut]]
    transactions: dict[str, dict[str, str]] = Field(
        description="By network and txid, hex: the txs of the listed outpoints."
    )
    ownership: list[OwnershipOut]


class ProofQuery(BrandQuery):
    """Which proof; the newest one that is done when missing."""

    proof: Text | None = Field(default=None, description="prf_...")
