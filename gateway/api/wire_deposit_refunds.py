"""Wire models of a deposit that is sent back."""

from typing import Literal

from pydantic import Field

from gateway.api.wire_base import AssetId, Body, Wire
from gateway.api.wire_objects import Deposit, Withdrawal


class DepositRefundIn(Body):
    """What two people sign, in the same words; the signer reads these very bytes."""

    action: Literal["refund"]
    deposit_id: str = Field(max_length=128, description="As in the path.")
    asset: AssetId
    address: str = Field(min_length=1, max_length=256)
    amount: str = Field(description="The whole deposit, a decimal string in asset units.")
    valid_until: str = Field(max_length=40, description="RFC 3339, UTC; at most 7 days from now.")


class DepositRefund(Wire):
    """The deposit as it stands, the payment that sends it back, and who has signed for it."""

    deposit: Deposit
    withdrawal: Withdrawal
    signed_by: list[str]
