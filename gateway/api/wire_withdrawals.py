"""Wire models beside a withdrawal: its dry run and its attempts."""

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
