"""Wire models of control: switches, decisions of two people, alarms, searches, rescans."""

from typing import Literal

from pydantic import Field

from gateway.api.wire_base import Body, NetworkName, Time, Wire

ACTION = "all, accept (new withdrawals), credit, build, sign, broadcast, sweep."
Action = Literal["all", "accept", "credit", "build", "sign", "broadcast", "sweep"]
Scope = Field(
    pattern=r"^(network:[a-z][a-z0-9]{1,15}|asset:[a-z][a-z0-9]{1,15}:[A-Za-z0-9]{2,64})$",
    description="`network:btc`, or `asset:eth:USDT`.",
    examples=["network:btc"],
)
Reason = Field(min_length=3, max_length=500, pattern=r"^[^\x00-\x1f\x7f]*$")


class SwitchIn(Body):
    """What to stop, or to start again. Stopping takes one person, starting two."""

    scope: str = Scope
    action: Action = Field(description=ACTION)
    state: Literal["stopped", "running"]
    reason: str = Reason
    accept_reorg_depth: int | None = Field(
        default=None,
        ge=1,
        le=1_000_000,
        description="With `running` of a whole network: blocks below where its follower stands"
        " that a reorg may undo, once.",
    )
    accept_reversals: int | None = Field(
        default=None,
        ge=1,
        le=1_000_000,
        description="With `running` of a whole network: deposits that one step may reverse, once.",
    )
    accept_reversals_value: str | None = Field(
        default=None,
        max_length=80,
        description="With `accept_reversals`: the most that they may be worth, in units of the"
        " reference currency; what has no fresh rate is then more. Without it: whatever they are.",
    )


class SwitchOut(Wire):
    """One switch. An action that has no switch was never stopped."""

    id: str
    version: int
    brand: str
    livemode: bool
    scope: str
    action: Action
    state: Literal["stopped", "running"]
    reason: str = Field(description="Of the last change.")
    causes: list[str] = Field(description="Of the stop that stands: `who: why`, oldest first.")
    changed_by: str = Field(description="Who stopped it, or asked for the start.")
    approved_by: str | None = Field(description="The second person of a start.")
    stopped_at: Time
    changed_at: Time


class SwitchChange(Wire):
    """One change of a switch, for ever."""

    id: str
    version: int
    scope: str
    action: Action
    state: Literal["stopped", "running"]
    reason: str
    changed_by: str
    approved_by: str | None
    changed_at: Time


class Approval(Wire):
    """A decision of two people about one subject."""

    id: str
    kind: Literal[
        "switch",
        "inflow",
        "policy",
        "rate",
        "limits",
        "sweep",
        "recovery",
        "adjustment",
        "break",
        "node_pardon",
        "deposit_release",
    ]
    subject: str = Field(description="`network:btc/all`, an inflow's id, an asset.")
    content: dict[str, str | int | None] = Field(description="What is done once it is approved.")
    reason: str | None
    state: Literal["pending_approval", "done", "declined", "expired"]
    proposed_by: str
    decided_by: str | None
    created_at: Time
    expires_at: Time | None
    decided_at: Time | None


class ApprovalIn(Body):
    """The answer of the second person; the first may take it back by declining."""

    decision: Literal["approve", "decline"] = "approve"


class SwitchAnswer(Wire):
    """The switch as it stands, and the decision that a start waits for."""

    switch: SwitchOut | None
    approval: Approval | None


class NodePardonIn(Body):
    """Which node may count again before its time; the same words by a second person end it."""

    network: NetworkName
    node: str = Field(
        max_length=300,
        pattern=r"^[\x21-\x7e]+$",
        description="Host and port, as `GET /v1/networks` names it.",
    )
    reason: str = Reason


class NodePardonAnswer(Wire):
    """The node that is barred, and the decision about it."""

    network: str
    node: str
    lies: int = Field(description="How often it was caught.")
    barred_until: Time = Field(description="Without a pardon; doubled with every lie, up to a day.")
    approval: Approval


class AlarmOut(Wire):
    """Something a person must look at."""

    id: str
    kind: str
    network: NetworkName | None
    object_id: str | None
    detail: str
    raised_at: Time
    cleared_at: Time | None


class SearchOut(Wire):
    """A difference that no transaction explains. Amounts in minor units: the token may be one
    whose decimals nobody should trust."""

    id: str
    network: NetworkName
    kind: str = Field(
        description="unexplained, shortfall, short, impossible, decimals, surplus, unchecked, "
        "changed, other_script."
    )
    asset: str
    subject: str = Field(description="An own address, a custody account, or a deposit.")
    brand: str | None
    player_id: str | None
    block_hash: str = Field(description="Where it showed.")
    height: int
    claimed_minor: str
    moved_minor: str = Field(description="May be negative.")
    txids: list[str] = Field(description="What was not credited because of it.")
    state: Literal["open", "closed"]
    opened_at: Time
    closed_at: Time | None
    closed_by: str | None
    outcome: str | None


class SearchClose(Body):
    """What a person found out."""

    outcome: str = Reason


class RescanIn(Body):
    """Which blocks to look at again, and why."""

    from_height: int = Field(ge=0, le=2**53, description="The first block.")
    to_height: int | None = Field(
        default=None, ge=0, le=2**53, description="The last one; without it where the watcher is."
    )
    reason: str = Reason


class RescanCancel(Body):
    """Why it is ended."""

    reason: str = Reason


class RescanOut(Wire):
    """A range of blocks that people want looked at again, and how far that is."""

    id: str
    network: NetworkName
    from_height: int
    to_height: int = Field(description="It rises where something is found.")
    next_height: int = Field(description="Every block of the range below it was looked at.")
    state: Literal["running", "done", "failed", "cancelled"]
    found: int = Field(description="Deposits, inflows and own txs that were not recorded before.")
    withheld: int = Field(
        description="Transfers that may be in the books already as an unexplained inflow."
    )
    waits_for: str | None = Field(description="Why it stands still now; it is tried for ever.")
    failure: str | None = Field(description="What a block contradicts.")
    asked_by: str
    reason: str
    cancelled_by: str | None
    cancel_reason: str | None
    created_at: Time
    finished_at: Time | None
