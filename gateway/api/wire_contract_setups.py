"""Wire models of set-ups of the batch contract."""

from typing import Literal

from pydantic import Field

from gateway.api.wire_base import AmountOut, AssetId, Body, NetworkName, Time, Wire

Action = Literal["deploy", "fund", "withdraw"]


class ContractSetupIn(Body):
    """What two people sign, in the same words; the signer reads these very bytes."""

    action: Action
    network: NetworkName
    reference: str = Field(
        pattern=r"^[A-Za-z0-9_.-]{1,64}$", description="Of people's choice; signed for once."
    )
    asset: AssetId | None = Field(default=None, description="Of all but `deploy`.")
    amount: str | None = Field(
        default=None, description="Decimal string in asset units; of all but `deploy`."
    )


class ContractSetupDeclineIn(Body):
    """Why not."""

    reason: str = Field(min_length=1, max_length=500)


class ContractSetup(Wire):
    """One set-up of a network's batch contract."""

    id: str
    version: int
    livemode: bool
    network: NetworkName
    reference: str
    action: Action
    asset: str | None
    amount: AmountOut | None
    state: Literal[
        "proposed", "approved", "planned", "signed", "sent", "done", "failed", "declined"
    ]
    code: str | None = Field(description="Why it is declined or failed.")
    signed_by: list[str]
    txid: str | None
    contract: str | None = Field(
        description="Of a deployment that is done: the address for networks.NAME.batch_contract."
    )
    is_in_force: bool = Field(description="Whether that setting names it already.")
    created_at: Time
    updated_at: Time
