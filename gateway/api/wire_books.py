"""Wire models of the books read back: accounts, postings, the journal, statements, findings."""

from typing import Annotated

from pydantic import Field, StringConstraints

from gateway.api.wire_base import AmountOut, MinorOut, Time, Wire
from gateway.api.wire_query import BrandQuery, PageQuery, Text

LongText = Annotated[
    str, StringConstraints(max_length=1024, pattern=r"^[^\x00-\x1f\x7f]*$")
]  # a code holds a player's id of up to 128 characters


class AccountQuery(PageQuery):
    """Accounts, narrowed; `brand` too narrows, for keys that see more than one."""

    cursor: LongText | None = None
    kind: Text | None = Field(default=None, description="`custody`, `clearing`, `reserved`, ...")
    asset: Text | None = None
    player_id: Text | None = None
    at: Text | None = Field(default=None, description="RFC 3339; now when missing.")


class PeriodQuery(PageQuery):
    """A half-open period: `from` is in it, `to` is not."""

    since: Text | None = Field(
        default=None, alias="from", description="RFC 3339; the beginning when missing."
    )
    until: Text | None = Field(default=None, alias="to", description="RFC 3339; now when missing.")


class StatementQuery(PeriodQuery):
    """A statement's period, perhaps of one asset."""

    asset: Text | None = None


class LedgerAccountOut(Wire):
    """One account and what stands on it, on its normal side."""

    account: str
    kind: str
    asset: str
    brand: str | None
    player_id: str | None
    wallet: str | None
    side: str
    balance: str
    balance_minor: MinorOut


class LedgerLineOut(Wire):
    """One entry of a posting."""

    line: int
    account: str
    kind: str
    asset: str
    brand: str | None
    player_id: str | None
    wallet: str | None
    side: str
    amount: AmountOut
    amount_minor: MinorOut
    brand_tag: str | None


class PostingHeadOut(Wire):
    """What a posting is. `reason` is shown to the operator only."""

    id: str
    booked_at: Time
    reference: str
    kind: str
    reason: str | None
    reverses: str | None
    network: str | None
    block_hash: str | None
    block_height: int | None


class PostingOut(PostingHeadOut):
    """One posting. A brand sees its own lines; `lines_total` counts all."""

    reversed_by: str | None
    lines: list[LedgerLineOut]
    lines_total: int


class JournalLineOut(PostingHeadOut):
    """One entry of the journal with its posting."""

    entry: LedgerLineOut


class StageOut(Wire):
    """A stage of a player's money at both ends of the period."""

    stage: str
    asset: str
    opening: str
    opening_minor: MinorOut
    closing: str
    closing_minor: MinorOut


class StatementLineOut(Wire):
    """One change of one stage: `change` raises the stage, or lowers it with a minus."""

    posting_id: str
    booked_at: Time
    kind: str
    reference: str
    deposit_id: str | None
    withdrawal_id: str | None
    reverses: str | None
    stage: str
    asset: str
    side: str
    amount: AmountOut
    amount_minor: MinorOut
    change: str
    change_minor: MinorOut
    fee_charged: AmountOut | None = Field(
        description="Of a withdrawal: what of its amount the player pays as its fee."
    )
    fee_charged_minor: MinorOut | None


class StatementOut(Wire):
    """A page of a statement. Opening plus the lines of all pages is closing, stage by stage."""

    player_id: str
    brand: str
    livemode: bool
    since: Time = Field(description="The `from` of the query.")
    until: Time = Field(description="The `to` of the query, or the moment of the first page.")
    stages: list[StageOut]
    items: list[StatementLineOut]
    next_cursor: str | None


class FindingOut(Wire):
    """One contradiction: found minus expected, in minor units; asset empty where none is meant."""

    kind: str
    subject: str
    asset: str
    difference_minor: MinorOut


class VerificationOut(Wire):
    """One part of the books replayed. The check is done when `next_cursor` is null."""

    part: str
    checked: int = Field(description="Objects that this call looked at.")
    items: list[FindingOut]
    next_cursor: str | None


class VerificationQuery(BrandQuery):
    """Where the check goes on."""

    cursor: LongText | None = None
