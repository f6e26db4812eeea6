"""Wire models of what has no lifecycle: networks, assets, addresses, funds, timelines, bodies."""

from typing import Literal

from pydantic import Field

from gateway.api.wire_base import (
    AmountOut,
    AssetId,
    Body,
    MinorOut,
    NetworkName,
    PlayerId,
    Stated,
    Time,
    Wire,
)
from gateway.api.wire_objects import Address


class FeeClassOut(Wire):
    """What a fee class means now: promise (request to `sent`) and inclusion."""

    fee_class: str
    promise_seconds: int
    target_blocks: int
    eta_seconds: int = Field(description="Time to inclusion at the network's block rate.")
    eta_p50_seconds: int = Field(description="At the observed rate: as likely earlier as later.")
    eta_p90_seconds: int = Field(description="At the observed rate: nine of ten are earlier.")
    rate: str | None = Field(description="Node's estimate: sat per kvB, or wei per gas.")


class NodeOut(Wire):
    """One node of a network, as it was judged."""

    node: str = Field(description="Host and port; never credentials.")
    state: str = Field(
        description="`healthy lagging stalled forked lying wrong_chain syncing unreachable "
        "quarantined`; only healthy ones count."
    )
    reason: str | None = Field(description="Why it is not healthy, and how it comes back.")
    since: Time
    height: int | None
    version: str | None
    observed_at: Time


class NetworkOut(Wire):
    """One network as the house sees it."""

    network: str
    chain: str
    family: str
    caip2: str
    livemode: bool
    height: int | None = Field(description="Last block whose effects are in the books.")
    block_hash: str | None
    tip_height: int | None
    finalised_height: int | None
    lag_blocks: int | None
    nodes_total: int
    nodes_agreeing: int
    quorum: int = Field(description="How many nodes must agree before anything counts.")
    nodes: list[NodeOut] = Field(description="Every node, in order of preference.")
    is_healthy: bool
    stopped_reason: str | None
    switches: list[str] = Field(
        description="What is stopped now: an action, or `eth:USDT/action` of one asset."
    )
    fee_classes: list[FeeClassOut]
    block_interval_ms: int = Field(description="Mean of our own last blocks, in milliseconds.")
    observed_at: Time | None


class TierOut(Wire):
    """Confirmations for deposits up to an amount; null: every larger one."""

    up_to: AmountOut | None
    min_confirmations: int = Field(description="Until `provisional`.")
    full_confirmations: int = Field(description="Until `final`.")


class AssetOut(Wire):
    """One asset on one network."""

    asset: str
    network: str
    symbol: str
    caip19: str
    contract: str | None
    decimals: int
    minimum_deposit: AmountOut
    minimum_withdrawal: AmountOut
    tiers: list[TierOut]


class AddressIn(Body):
    """Which network the player pays on."""

    network: NetworkName


class AddressOut(Address):
    """A player's deposit address. It stays watched after a rotation."""

    uri: str = Field(description="BIP-21 on UTXO chains, else the address itself.")
    qr_svg: str = Field(description="The uri as a QR code.")


class StageFunds(Wire):
    """A player's value in one asset by stage (CONTRACT 1)."""

    asset: str
    pending: AmountOut
    pending_minor: MinorOut
    provisional: AmountOut
    provisional_minor: MinorOut
    orphaned: AmountOut
    orphaned_minor: MinorOut
    final_total: AmountOut
    final_total_minor: MinorOut
    reserved: AmountOut
    reserved_minor: MinorOut
    in_flight: AmountOut
    in_flight_minor: MinorOut
    on_hold: AmountOut
    on_hold_minor: MinorOut


class FundsOut(Wire):
    """What of a player this rail holds. The balance itself is the PAM's."""

    player_id: str
    brand: str
    livemode: bool
    assets: list[StageFunds]


class TimelineEntry(Wire):
    """One change of state."""

    state: str
    previous_state: str | None
    version: int
    at: Time
    actor: str | None
    reason: str | None


class Timeline(Wire):
    """Every change of one object, oldest first."""

    id: str
    items: list[TimelineEntry]


class WithdrawalIn(Body):
    """A payout order. Its bytes and signature travel to the signer, which pays exactly them."""

    request_id: str = Field(
        pattern=r"^[\x21-\x7e]{1,128}$", description="Unique per brand for ever."
    )
    player_id: PlayerId
    asset: AssetId
    address: str = Field(min_length=1, max_length=255)
    amount: str = Field(
        max_length=100,
        description="What is reserved; with fee_mode brand it is also what the player receives.",
    )
    pam_balance: str = Field(
        max_length=100,
        description="What the player still owns in this asset after the PAM's debit; may be 0.",
    )
    fee_class: Literal["urgent", "normal", "economy"] = "normal"
    fee_mode: Literal["brand", "player"] = "brand"
    max_fee: str | None = Field(
        default=None,
        max_length=100,
        description="Required with fee_mode player, in the asset, below the amount.",
    )
    valid_until: str | None = Field(default=None, max_length=40, description="RFC 3339, UTC.")
    metadata: dict[str, str] | None = Field(default=None, max_length=50)


class WithdrawalCheckIn(WithdrawalIn):
    """The body of an order; its request_id may be left out and is not used up."""

    request_id: str = Field(default="-", pattern=r"^[\x21-\x7e]{1,128}$")


class WithdrawalBatchIn(Body):
    """Orders that share one signature and nothing else: each is accepted or refused alone."""

    items: list[WithdrawalIn] = Field(min_length=1, max_length=500)


class CancelIn(Body):
    """A cancel; it may say which order, so that the signer need not take the gateway's word."""

    request_id: str | None = Field(default=None, pattern=r"^[\x21-\x7e]{1,128}$")


class InflowAssignIn(Body):
    """Where an inflow belongs: `capital`, or `clearing:BRAND`."""

    target: str = Field(alias="as", pattern=r"^(capital|clearing:[a-z][a-z0-9-]{1,31})$")


class InflowAssignment(Wire):
    """The two-person decision about an inflow."""

    id: str
    inflow_id: str
    target: str
    state: Literal["pending_approval", "done"]
    proposed_by: str
    approved_by: str | None
    created_at: Time
    done_at: Time | None


class WebhookIn(Body):
    """An endpoint to deliver events to."""

    url: str = Field(min_length=1, max_length=2048)
    types: list[str] = Field(
        default_factory=list, max_length=64, description="Empty: all. `deposit.*` is a pattern."
    )


class WebhookPatch(Body):
    """What to change; absent fields stay."""

    url: str | None = Field(default=None, min_length=1, max_length=2048)
    types: list[str] | None = Field(default=None, max_length=64)
    state: Literal["active", "paused"] | None = None
    rotate_secret: bool = Field(default=False, description="A new secret; both sign for 24 hours.")


class WebhookOut(Stated):
    """An endpoint. `secret` is shown once, in the answer that made it."""

    url: str
    types: list[str]
    state: str
    failures_in_a_row: int
    secret: str | None
    previous_secret_until: Time | None
    created_at: Time


class AccountBalance(Wire):
    """One account of the trial balance, on its normal side."""

    account: str
    asset: str
    side: Literal["debit", "credit"]
    balance: str
    balance_minor: MinorOut


class AssetTotal(Wire):
    """Debits and credits of one asset."""

    asset: str
    debits_minor: MinorOut
    credits_minor: MinorOut
    balanced: bool


class EquationOut(Wire):
    """Of one asset: custody + receivables = owed + suspense + own, to the unit."""

    asset: AssetId
    custody_minor: MinorOut
    receivables_minor: MinorOut
    owed_minor: MinorOut = Field(description="To players and brands, all stages.")
    suspense_minor: MinorOut
    own_minor: MinorOut = Field(description="Capital and income, less expense and losses.")
    equal: bool
    covered: bool = Field(description="custody + receivables >= owed.")


class TrialBalanceOut(Wire):
    """Every account with its balance; debits equal credits per asset or something is broken."""

    at: Time
    balanced: bool
    totals: list[AssetTotal]
    equations: list[EquationOut] = Field(description="Of the same moment; the operator's.")
    accounts: list[AccountBalance]


class NetworkHealth(Wire):
    """Whether a network is served."""

    network: str
    is_ready: bool
    reason: str | None


class Health(Wire):
    """`ready` only when every network is."""

    status: Literal["live", "ready", "degraded"]
    networks: list[NetworkHealth]
