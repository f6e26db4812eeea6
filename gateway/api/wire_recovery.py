"""Wire models of a recovery: books that lack what the signer signed."""

from typing import Literal

from pydantic import Field

from gateway.api.wire_base import Body, NetworkName, Time, Wire
from gateway.api.wire_control import Approval, Reason


class LeftOver(Wire):
    """A signature that could not be imported; the signer pays none of its requests again."""

    attempt_id: str
    txid: str
    requests: list[list[str]] = Field(description="Brand and request_id of each payment.")
    reason: str


class RecoveryOut(Wire):
    """One recovery. While it is not closed nothing is built, signed or sent on the network."""

    id: str
    version: int
    network: NetworkName
    state: Literal["open", "imported", "confirmed", "closed"]
    cause: Literal["unknown_signatures", "newer_worker", "other_log"]
    detail: str
    unknown: int = Field(description="Signatures that the books lacked when it was opened.")
    imported: int
    left_over: list[LeftOver]
    rescan: str | None = Field(description="The blocks that are looked at again.")
    confirmed_by: list[str]
    opened_at: Time
    imported_at: Time | None
    confirmed_at: Time | None
    closed_at: Time | None


class ConfirmIn(Body):
    """What a person confirms: the books are whole, and payouts may go on."""

    reason: str = Reason
    accept_left_over: bool = Field(
        default=False, description="True: the signatures that are left over are being dealt with."
    )


class RecoveryAnswer(Wire):
    """The recovery as it stands, and the decision that waits for the second person."""

    recovery: RecoveryOut
    approval: Approval | None
