"""Wire models beside a withdrawal: its dry run and its attempts."""

from enum import StrEnum

from pydantic import Field

from gateway.api.wire_base import AmountOut, MinorOut, Time, Wire


class WouldBe(Wire):
    """Where an order would stand at once."""

    state: str
    code: str | None = Field(description="Why it would be rejected or wait.")


class NetworkFeeEstimate(Wire):
    """What the payment is expected to cost in the network's own coin."""

    asset: str
    amount: AmountOut
    amount_minor: MinorOut


class SecondsEta(Wire):
    """From now, in seconds: half as soon as not, and nine times of ten. A guess, never a rule."""

    p50_seconds: int
    p90_seconds: int


class WithdrawalEta(Wire):
    """When the order would be `sent` and `completed`."""

    sent: SecondsEta
    completed: SecondsEta | None = Field(description="Null before the network was followed.")


class WithdrawalCheck(Wire):
    """The dry run of an order: what would happen now. Nothing of it is stored or reserved."""

    brand: str
    livemode: bool
    asset: str
    amount: AmountOut
    amount_minor: MinorOut
    amount_out: AmountOut
    amount_out_minor: MinorOut
    fee_mode: str
    fee_charged: AmountOut | None
    fee_charged_minor: MinorOut | None
    would_be: WouldBe
    waits_for: list[str] = Field(
        description=(
            "`clearing`, `approval`, `hot_wallet`, `fee_capital`, `fees` (no quote), `switch`."
        )
    )
    network_fee_estimate: NetworkFeeEstimate | None = Field(
        description="Null without a young fee quote."
    )
    eta: WithdrawalEta | None = Field(description="Null where it waits or is rejected.")
    promise_at: Time


class AttemptKind(StrEnum):
    """Why a transaction was built."""

    ORIGINAL = "original"
    """The first of its family."""
    REPLACEMENT = "replacement"
    """Instead of an earlier one of its family, at a higher fee; both cannot be in the chain."""
    CPFP = "cpfp"
    """A child that pays for its parent; it pays nobody."""
    REISSUE = "reissue"
    """A new family, after two people called every earlier transaction dead."""
    ABORT = "abort"
    """Instead of the payment, by two people; it pays nobody."""


class AttemptOut(Wire):
    """One transaction of ours; a batch pays others, too."""

    txid: str | None = Field(description="Null until it is signed.")
    kind: AttemptKind
    state: str
    is_current: bool = Field(description="The withdrawal follows this one now.")
    replaces_txid: str | None
    fee_asset: str
    fee: AmountOut | None = Field(description="What the chain took, once it is in a block.")
    fee_minor: MinorOut | None
    fee_max: AmountOut = Field(description="What it can cost; on UTXO chains exactly that.")
    fee_max_minor: MinorOut
    fee_rate: MinorOut | None = Field(description="What it offers; on UTXO chains once signed.")
    fee_rate_unit: str
    nonce: int | None
    inputs: int
    output_index: int | None = Field(description="Where the withdrawal is paid in it.")
    payments: int = Field(description="Withdrawals that it pays.")
    block_hash: str | None
    height: int | None
    created_at: Time
    signed_at: Time | None
    broadcast_at: Time | None
    final_at: Time | None
    updated_at: Time


class WithdrawalAttempts(Wire):
    """The attempts of a withdrawal, oldest first."""

    id: str
    brand: str
    livemode: bool
    items: list[AttemptOut]
