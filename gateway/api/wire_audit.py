"""Wire models of the audit log, the chains over it and over the journal, and adjustments."""

from typing import Any, Literal

from pydantic import Field

from gateway.api.wire_base import AmountOut, AssetId, Body, MinorOut, Time, Wire
from gateway.api.wire_control import Approval, Reason
from gateway.api.wire_query import BrandQuery, PageQuery, Text


class AuditQuery(PageQuery):
    """The audit log, narrowed. `action` is its beginning, `subject` any part of it."""

    actor: Text | None = None
    action: Text | None = Field(default=None, description="`switch.`, `POST /v1/withdrawals/`.")
    subject: Text | None = Field(default=None, description="An object's id, a player, a scope.")
    correlation: Text | None = Field(default=None, description="The `X-Request-Id` of a call.")
    since: Text | None = Field(default=None, alias="from", description="RFC 3339.")
    until: Text | None = Field(default=None, alias="to", description="RFC 3339.")


class AuditOut(Wire):
    """One change. Rows of one call have its `correlation`."""

    id: str
    at: Time
    actor: str = Field(description="A person, a key, or `role:` and a process.")
    action: str
    subject_kind: str
    subject: str
    brand: str | None = Field(description="null: the operator's.")
    before: Any = Field(description="What differed, as it was; null for what is new.")
    after: Any
    reason: str | None
    correlation: str
    sequence: int | None = Field(description="Its place in the chain; null until it is sealed.")
    hash: str | None


class ChainQuery(BrandQuery):
    """A piece of the chain: records with `sequence` above `after`."""

    after: Text | None = Field(default=None, description="The last `sequence` you have; 0 first.")
    limit: Text | None = None


class SealedOut(Wire):
    """One record of the chain."""

    sequence: int
    previous_hash: str
    hash: str = Field(description="SHA-256 over sequence, previous hash and row (docs/adr).")
    row: AuditOut | None = Field(description="null: the row is gone.")


class AuditChain(Wire):
    """Records in their order; an empty list is the end."""

    items: list[SealedOut]


class HeadOut(Wire):
    """Where a chain ends; sequence 0 before its first record."""

    sequence: int
    hash: str | None


class AuditTail(Wire):
    """The end of both chains, and what waits for its seal."""

    audit: HeadOut
    waiting: int = Field(description="Rows of the audit log without a seal yet.")
    oldest_waiting_at: Time | None
    lost: int = Field(description="Rows without a seal for which none is coming: put in by hand.")
    journal: HeadOut
    journal_until: Time | None = Field(description="Postings booked before it are sealed.")


class SealOut(Wire):
    """One seal of the journal."""

    sequence: int
    postings: int
    until: Time
    previous_hash: str
    hash: str
    sealed_at: Time


Category = Literal["allocate", "write_off_receivable", "write_off_coins", "reversal"]


class AdjustmentIn(Body):
    """What to book by hand. Every category but `reversal` takes an asset and an amount."""

    category: Category = Field(
        description="`allocate`: capital to a brand's clearing. `write_off_receivable`: what a "
        "brand owes is given up. `write_off_coins`: coins of a wallet are gone. `reversal`: an "
        "earlier adjustment, mirrored and linked."
    )
    asset: AssetId | None = None
    amount: str | None = Field(default=None, max_length=80, description="In asset units.")
    brand: str | None = Field(default=None, max_length=32)
    wallet: str | None = Field(default=None, max_length=80, examples=["btc/hot"])
    posting: str | None = Field(default=None, max_length=64, description="Of a `reversal`.")
    reason: str = Reason


class AdjustmentOut(Wire):
    """The decision, and what it booked once both people agreed."""

    category: Category
    asset: str | None
    amount: AmountOut | None
    amount_minor: MinorOut | None
    approval: Approval
    posting: str | None
