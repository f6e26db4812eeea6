"""Wire models of the doctor: what was asked, and what was found, in words for people."""

from typing import Literal

from pydantic import Field

from gateway.api.wire_base import Wire
from gateway.api.wire_objects import Deposit, DepositEtaOut, EtaOut
from gateway.api.wire_query import BrandQuery, Text


class DoctorQuery(BrandQuery):
    """Exactly one of the three."""

    txid: Text | None = Field(default=None, description="As the sender's wallet shows it.")
    address: Text | None = Field(default=None, description="Where the coins were sent.")
    player_id: Text | None = Field(default=None, description="The casino's own player id.")


class FindingOut(Wire):
    """One cause. `code` is stable; the sentences are for people and may change."""

    code: str
    severity: Literal["ok", "info", "wait", "act", "alarm"]
    who: Literal["nobody", "player", "casino", "operator"] = Field(description="Who must act.")
    network: str | None
    text: str
    remedy: str | None
    detail: dict[str, str]
    eta: EtaOut | None


class PostingRef(Wire):
    """A posting of the deposit: `GET /v1/ledger/postings/{id}`."""

    id: str
    reference: str


class DepositExplained(Wire):
    """One deposit, and why it is or is not credited: the cause first."""

    deposit: Deposit
    summary: str
    is_credited: bool = Field(description="At least for play.")
    findings: list[FindingOut]
    eta: DepositEtaOut | None
    postings: list[PostingRef]


class NetworkAsked(Wire):
    """What a network said of the txid."""

    network: str
    state: Literal["asked", "answered", "failed"]
    place: str | None = Field(description="`mined`, `mempool` or `unknown`.")
    height: int | None
    error: str | None


class DoctorReport(Wire):
    """Why a deposit is or is not credited."""

    id: str | None = Field(description="Of a lookup that asked nodes; its answer is kept a day.")
    link: str | None = Field(description="Where to fetch the answer again, when `id` is given.")
    brand: str
    livemode: bool
    kind: Literal["txid", "address", "player_id"]
    subject: str
    verdict: Literal["credited", "waiting", "not_credited", "nothing_found", "looking"]
    summary: str
    findings: list[FindingOut] = Field(description="About the subject itself.")
    deposits: list[DepositExplained] = Field(description="Newest first, at most 20.")
    networks: list[NetworkAsked] = Field(description="Whose nodes were asked.")
