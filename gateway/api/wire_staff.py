"""Wire models of limits, and of what staff decide about a withdrawal."""

from typing import Annotated, Literal

from pydantic import Field

from gateway.api.wire_base import AssetId, Body, Time, Wire
from gateway.api.wire_control import Approval, Reason
from gateway.api.wire_objects import Withdrawal
from gateway.api.wire_policies import BrandName, Money

RequestId = Annotated[str, Field(pattern=r"^[\x21-\x7e]{1,128}$")]
Txid = Annotated[str, Field(pattern=r"^(0x)?[0-9a-f]{64}$")]


class LimitRuleIn(Body):
    """One limit. Usage includes the order itself; what is exactly at a bound is within it."""

    brand: BrandName | None = Field(
        default=None, description="None: every brand without the same limit of its own."
    )
    scope: Literal["transaction", "player", "asset", "brand"]
    asset: AssetId | None = Field(default=None, description="Of scope `asset`, and no other.")
    window: Literal["24h", "30d"] | None = Field(
        default=None, description="Of every scope but `transaction`."
    )
    approval_above: Money | None = Field(default=None, description="One other person must agree.")
    dual_above: Money | None = Field(default=None, description="Two different people must agree.")
    max: Money | None = Field(default=None, description="Above it: `rejected`.")


class LimitsIn(Body):
    """A whole new version. `base_version` is the one that it was written against."""

    base_version: int = Field(ge=0)
    limits: list[LimitRuleIn] = Field(max_length=500)
    reason: str = Field(min_length=1, max_length=500)


class LimitsOut(Wire):
    """The version in force."""

    version: int
    livemode: bool
    currency: str
    currency_decimals: int
    limits: list[LimitRuleIn]
    proposed_by: str | None
    approved_by: str | None
    created_at: Time | None


class LimitsAnswer(Wire):
    """The limits as they stand, and the decision that a new version waits for."""

    policy: LimitsOut
    approval: Approval | None


class ApproveIn(Body):
    """Consent to exactly this payment. The signer reads these bytes: every field is required and
    must equal the withdrawal."""

    action: Literal["approve"]
    brand: BrandName
    request_id: RequestId
    asset: AssetId
    address: str = Field(min_length=1, max_length=255)
    amount: str = Field(max_length=100)


class DeclineIn(Body):
    """Either a reason, for what nothing was signed for; or, for `anchor_dead`, `decline_dead` with
    the brand, the request and every dead txid, sorted, which two people sign."""

    reason: str | None = Field(
        default=None, min_length=3, max_length=500, pattern=r"^[^\x00-\x1f\x7f]*$"
    )
    action: Literal["decline_dead"] | None = None
    brand: BrandName | None = None
    request_id: RequestId | None = None
    dead_txids: list[Txid] | None = Field(default=None, min_length=1, max_length=100)


class ReissueIn(Body):
    """Every transaction of it is dead: pay it anew. Two people sign it."""

    action: Literal["reissue"]
    brand: BrandName
    request_id: RequestId
    dead_txids: list[Txid] = Field(min_length=1, max_length=100, description="All, sorted.")


class AbortIn(Body):
    """Replace its transaction by one that pays nobody. Two people sign it."""

    action: Literal["abort"]
    brand: BrandName
    request_id: RequestId
    txid: Txid


class ExpediteIn(Body):
    """Why it is urgent."""

    reason: str = Reason


class SignedBy(Wire):
    """One signature about a withdrawal."""

    action: str
    person: str
    round: int = Field(description="The version of the withdrawal that was signed about.")
    is_current: bool = Field(description="It is about the version that stands.")
    at: Time


class WithdrawalDecisions(Wire):
    """What people signed, and what is still asked for."""

    id: str
    state: str
    code: str | None
    limits_version: int | None = Field(description="The limits that judged it; null: none did.")
    limit: str | None = Field(description="The limit that asked for people, or rejected it.")
    value: Money | None = Field(description="In the reference currency; null: no fresh rate.")
    approvals_missing: int
    dead_txids: list[str] = Field(description="Every txid that was signed for it, sorted.")
    signatures: list[SignedBy]


class WithdrawalDecided(Wire):
    """The withdrawal as it stands, and whether the decision waits for another person."""

    withdrawal: Withdrawal
    signed_by: list[str] = Field(description="Who has signed this decision about this version.")
    waits_for: Literal["person", "payouts"] | None = Field(
        description="`payouts`: enough people have signed; it is carried out next."
    )
