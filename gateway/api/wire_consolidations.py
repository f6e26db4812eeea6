"""Wire models of merges and splits of own coins."""

from typing import Annotated, Literal

from pydantic import Field

from gateway.api.wire_base import (
    AmountOut,
    Body,
    MinorOut,
    NetworkName,
    Stated,
    Time,
    WireContext,
    rfc3339,
)
from gateway.api.wire_query import PageQuery
from gateway.payouts.consolidations_store import ConsolidationRow

KIND = "consolidation"
Standing = Literal["asked", "quoted", "planned", "refused"]
What = Literal["consolidate", "fan_out"]


class ConsolidationQuery(PageQuery):
    """A list of merges and splits, narrowed."""

    network: NetworkName | None = None
    state: Standing | None = None


class ConsolidationIn(Body):
    """Merge the hot wallet's small coins into one (`consolidate`), or split the largest
    (`fan_out`), now instead of in a cheap hour. Without `fee_max` it is a dry run."""

    network: NetworkName
    purpose: What = "consolidate"
    fee_max: Annotated[str, Field(max_length=100)] | None = Field(
        default=None, description="The most that it may cost: a decimal string in coins."
    )


class Consolidation(Stated):
    """A merge or split: asked for by a person, or made by policy. What is `planned` is a tx."""

    network: str
    asset: str
    purpose: What
    dry_run: bool
    state: Standing
    code: str | None = Field(
        description="Why it is refused: `nothing_to_move`, `fee_above_asked`, `payouts_wait`,"
        " `fee_capital`, `move_open`, `stopped`, `rate_above_maximum`, `network_fee_too_high`,"
        " `fees_unknown`, `no_change_address`, `no_policy`, `expired`."
    )
    requested_by: str | None = Field(description="Null: the system, by policy.")
    fee_max: AmountOut | None
    coins: int | None = Field(description="Coins that it spends.")
    parts: int | None = Field(description="Coins that it makes.")
    amount: AmountOut | None = Field(description="Of the coins that it spends.")
    amount_minor: MinorOut | None
    fee: AmountOut | None
    fee_minor: MinorOut | None
    rate_per_kvb: int | None = Field(description="Satoshi per 1,000 virtual bytes.")
    saves_vb: int | None = Field(
        description="Virtual bytes that later payouts need not carry; null of a split."
    )
    break_even_per_kvb: int | None = Field(
        description="A merge pays off where later payouts pay more than this per 1,000 vB."
    )
    tx_state: str | None = Field(description="As of any own tx: `built`, `signed`, ... `final`.")
    txid: str | None
    created_at: Time
    state_at: Time


def consolidation(row: ConsolidationRow, *, context: WireContext) -> Consolidation:
    """A row as people see it."""

    def amount(minor: int | None) -> str | None:
        return None if minor is None else context.amount(minor, row.asset)

    def text(minor: int | None) -> str | None:
        return None if minor is None else str(minor)

    even = None
    if row.saves_vb is not None and row.fee_minor is not None:
        even = -(-row.fee_minor * 1_000 // row.saves_vb)
    return Consolidation.model_validate(
        {
            "id": context.id(KIND, row.id),
            "version": row.version,
            "brand": "operator",
            "livemode": context.livemode,
            "network": row.network,
            "asset": row.asset,
            "purpose": row.purpose,
            "dry_run": row.is_dry,
            "state": row.state,
            "code": row.code,
            "requested_by": row.requested_by,
            "fee_max": amount(row.fee_max_minor),
            "coins": row.coins,
            "parts": row.parts,
            "amount": amount(row.amount_minor),
            "amount_minor": text(row.amount_minor),
            "fee": amount(row.fee_minor),
            "fee_minor": text(row.fee_minor),
            "rate_per_kvb": row.rate_per_kvb,
            "saves_vb": row.saves_vb,
            "break_even_per_kvb": even,
            "tx_state": row.tx_state,
            "txid": row.txid,
            "created_at": rfc3339(row.created_at),
            "state_at": rfc3339(row.state_at),
        }
    )
