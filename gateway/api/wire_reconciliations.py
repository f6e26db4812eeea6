"""Wire models of comparisons between the books and the chains, and of what they found."""

from collections.abc import Mapping
from typing import Any, Literal

from pydantic import Field, JsonValue

from gateway.api.wire_base import (
    Body,
    MinorOut,
    NetworkName,
    Time,
    Wire,
    WireContext,
    optional_time,
    rfc3339,
)
from gateway.api.wire_control import Approval, Reason
from gateway.api.wire_query import PageQuery, Text


class ReconciliationQuery(PageQuery):
    """A list of comparisons, narrowed."""

    network: Text | None = None
    state: Literal["clean", "breaks", "failed"] | None = None


class BreakQuery(PageQuery):
    """Open breaks, narrowed."""

    network: Text | None = None
    asset: Text | None = None


class BreakOut(Wire):
    """One place where books and reality differ; found minus expected."""

    kind: str
    network: str | None
    subject: str
    asset: str
    difference: str
    difference_minor: MinorOut
    details: dict[str, JsonValue] = Field(
        description="Where it is as far as rows and nodes tell: `places` with coin or address, "
        "the tx where it is known, amounts in minor units."
    )


class ReconciliationIn(Body):
    """Which network to compare; all without it."""

    network: NetworkName | None = None


class NetworkCompared(Wire):
    """How far the comparison with one chain has come."""

    network: str
    is_answered: bool
    height: int | None
    block_hash: str | None
    error: str | None


class ReconciliationOut(Wire):
    """A run; `done` once every network has answered or failed."""

    id: str
    state: Literal["running", "done"]
    trigger: Literal["cycle", "request"]
    created_at: Time
    networks: list[NetworkCompared]
    breaks: list[BreakOut]


class WalletCompared(Wire):
    """One custody account of a comparison: chain = books + unposted - unsettled + difference."""

    network: str
    account: str
    asset: str
    chain: str
    chain_minor: MinorOut
    books: str
    books_minor: MinorOut
    unposted: str = Field(description="Mined, and not in the books yet.")
    unposted_minor: MinorOut
    unsettled: str = Field(description="Left by own transactions, and not in the books yet.")
    unsettled_minor: MinorOut
    difference: str
    difference_minor: MinorOut


class OpenBreak(Wire):
    """A break from the comparison that found it to the one that does not find it any more."""

    id: str
    version: int
    brand: Literal["operator"]
    livemode: bool
    network: str
    kind: str
    subject: str
    asset: str
    state: Literal["open", "closed"]
    difference: str
    difference_minor: MinorOut
    details: dict[str, JsonValue]
    explanation: str | None = Field(description="What two people know of it.")
    proposed_by: str | None
    approved_by: str | None
    opened_at: Time
    changed_at: Time
    closed_at: Time | None


class BreakExplainIn(Body):
    """What this difference is; the same words by a second person let what it stopped start."""

    explanation: str = Reason


class BreakExplained(Wire):
    """The break as it stands, and the decision that waits for the second person."""

    item: OpenBreak
    approval: Approval | None


def open_break(snapshot: Mapping[str, Any], *, context: WireContext) -> OpenBreak:
    """The wire object of a snapshot of `watchers.reconciliations`."""
    minor, asset = int(snapshot["difference"]), snapshot["asset"]
    return OpenBreak(
        **{
            **snapshot,
            "id": context.id("reconciliation_break", snapshot["id"]),
            "livemode": context.livemode,
            "difference": context.amount(minor, asset),
            "difference_minor": str(minor),
            "opened_at": rfc3339(snapshot["opened_at"]),
            "changed_at": rfc3339(snapshot["changed_at"]),
            "closed_at": optional_time(snapshot["closed_at"]),
        }
    )
