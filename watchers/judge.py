"""The judgement of one node: what a look at it gave -> its state, with reason and way back.

Pure: no clock, no network, no database. A bad node is named, left out and looked at again; it
comes back by itself after honest looks, a node that deceived only after `PROBATION_LOOKS` of them
in a row, and a liar not before its time is over. States and reasons hold the node's label (host
and port), never its URL (N20).
"""

from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from enum import StrEnum

from watchers.chain import BlockRef

FAILED_LOOKS = 2  # one lost answer is no outage; two in a row are (N01: within two polls)
SUSPECT_LOOKS = 2  # a reorg travels: only a node that is beside the others twice is forked
PROBATION_LOOKS = 3  # honest looks in a row before a node that deceived counts again
LYING_PROBATION_SECONDS = 1_800.0  # three looks are seconds: a liar would be back for its next lie
LYING_PROBATION_MAX_SECONDS = 86_400.0  # it doubles with every lie, up to a day
LAG_SECONDS = 120.0  # behind a peer by any number of blocks for this long is lagging


class NodeState(StrEnum):
    """What the house thinks of a node; only `healthy` ones are asked about money."""

    HEALTHY = "healthy"
    """Answers, and agrees with the others."""
    LAGGING = "lagging"
    """Behind its peers by blocks or for seconds (N01)."""
    STALLED = "stalled"
    """No new block for longer than the chain ever takes; nobody is ahead of it (N25)."""
    FORKED = "forked"
    """Has another block where k nodes agree on one (N07, D10)."""
    LYING = "lying"
    """Its answer contradicts its own hashes, or what k nodes say of the same block (N04-N06)."""
    WRONG_CHAIN = "wrong_chain"
    """Another genesis block or chain id (N02, D62)."""
    SYNCING = "syncing"
    """Says itself that it has not caught up with its network yet (N24)."""
    UNREACHABLE = "unreachable"
    """No usable answer in two looks, or none yet."""
    QUARANTINED = "quarantined"
    """Not trusted yet: on probation, too old, or back with other data than it had (N03, N24)."""


SERIOUS = frozenset(
    {NodeState.FORKED, NodeState.LYING, NodeState.WRONG_CHAIN, NodeState.QUARANTINED}
)
"""States that a node leaves only by probation."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Anchor:
    """A block deeper than the reorg limit; a node that alone lacks it has other data (N03)."""

    height: int
    hash: str


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeRecord:
    """What is known of one node. `since`: when it came into this state; heights in blocks.

    `failed`, `suspect` and `honest` count looks in a row; `cause` is what put it on probation.
    `moved_at_seconds` (monotonic): when its tip was last seen to change. `lies`: how often it was
    caught; it is barred since `barred_at` until `barred_until`.
    """

    label: str
    state: NodeState = NodeState.UNREACHABLE
    reason: str = "not looked at yet"
    since: datetime | None = None
    height: int | None = None
    hash: str | None = None
    top_height: int = 0
    anchor: Anchor | None = None
    version: str = ""
    failed: int = 0
    suspect: int = 0
    honest: int = 0
    cause: str = ""
    lied_about: str | None = None
    lies: int = 0
    barred_at: datetime | None = None
    barred_until: datetime | None = None
    moved_at_seconds: float | None = None
    is_known: bool = False
    """False until the first look of this process."""

    @property
    def is_healthy(self) -> bool:
        """Whether it may count: judged so by this process, not only by one before it."""
        return self.state is NodeState.HEALTHY and self.is_known


@dataclass(frozen=True, slots=True, kw_only=True)
class Look:
    """One look at a node. `problem` and `reason` are set when it did not end well.

    `on_branch`: whether it has the agreed block, None when that could not be told.
    `has_anchor` likewise; a node that lost it together with k others has none.
    `new_anchor`: a block of its own chain, deep enough to become the anchor.
    """

    problem: NodeState | None = None
    reason: str = ""
    tip: BlockRef | None = None
    version: tuple[int, ...] | None = None
    version_text: str = ""
    is_syncing: bool = False
    on_branch: bool | None = None
    has_anchor: bool | None = None
    new_anchor: Anchor | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Rules:
    """The limits of one network. `stall_seconds` 0: blocks come when somebody makes them.

    `lying_seconds`: how long a node is barred for its first lie.
    """

    lag_blocks: int
    stall_seconds: float
    lying_seconds: float
    min_version: tuple[int, ...] | None


def judge(
    before: NodeRecord,
    look: Look,
    *,
    peer_height: int | None,
    rules: Rules,
    at: datetime,
    now_seconds: float,
) -> NodeRecord:
    """The record after a look. `peer_height`: what enough other nodes had before it began."""
    seen = _seen(before, look, now_seconds=now_seconds)
    if look.problem is NodeState.UNREACHABLE:
        return _unreachable(seen, look.reason, is_first=not before.is_known, at=at)
    seen = replace(seen, failed=0)
    found = _certain(before, look, rules)
    if found is None and look.on_branch is False:
        return _beside(seen, look, at=at)
    found = found or _late(
        seen, look, peer_height=peer_height, rules=rules, now_seconds=now_seconds
    )
    if found is not None:
        return _enter(_barred(replace(seen, suspect=0), found[0], rules, at=at), *found, at=at)
    return _honest(replace(seen, suspect=0), look, at=at)


def accuse(
    before: NodeRecord, state: NodeState, reason: str, *, rules: Rules, at: datetime
) -> NodeRecord:
    """The record after proof that needs no second look: a lie, another chain."""
    known = _barred(replace(before, is_known=True), state, rules, at=at)
    return _enter(known, state, reason, at=at)


def barred_until(lies: int, rules: Rules, *, at: datetime) -> datetime:
    """When a node that was caught lying so often, the last time now, may count again. Pure."""
    doubled = rules.lying_seconds * 2 ** min(max(lies, 1) - 1, 20)
    return at + timedelta(seconds=min(doubled, LYING_PROBATION_MAX_SECONDS))


def _barred(seen: NodeRecord, state: NodeState, rules: Rules, *, at: datetime) -> NodeRecord:
    """One lie more, unless it is the same one still told; its time begins anew either way."""
    if state is not NodeState.LYING:
        return seen
    lies = seen.lies if seen.state is NodeState.LYING else seen.lies + 1
    return replace(seen, lies=lies, barred_at=at, barred_until=barred_until(lies, rules, at=at))


def pardoned(seen: NodeRecord, *, granted_at: datetime) -> NodeRecord:
    """Two people ended the time of lies told until then. Pure. The way back stays: honest looks,
    and the block that it lied about; and its next lie counts as one more."""
    if seen.barred_at is None or seen.barred_at > granted_at:
        return seen
    return replace(seen, barred_at=None, barred_until=None)


def _seen(before: NodeRecord, look: Look, *, now_seconds: float) -> NodeRecord:
    """The plain facts of a look; `top_height` is the highest it was ever trusted with."""
    seen = replace(before, is_known=True)
    if look.version_text:
        seen = replace(seen, version=look.version_text)
    if look.tip is None:
        return seen
    has_moved = look.tip.hash != before.hash or before.moved_at_seconds is None
    return replace(
        seen,
        height=look.tip.height,
        hash=look.tip.hash,
        moved_at_seconds=now_seconds if has_moved else before.moved_at_seconds,
    )


def _unreachable(seen: NodeRecord, reason: str, *, is_first: bool, at: datetime) -> NodeRecord:
    held = replace(seen, failed=seen.failed + 1, honest=0)
    is_out = is_first or held.failed >= FAILED_LOOKS or not seen.is_healthy
    return _enter(held, NodeState.UNREACHABLE, reason, at=at) if is_out else held


def _certain(before: NodeRecord, look: Look, rules: Rules) -> tuple[NodeState, str] | None:
    """What one look proves."""
    if look.problem is not None:
        return look.problem, look.reason
    is_old = (
        rules.min_version is not None
        and look.version is not None
        and look.version < rules.min_version
    )
    if is_old and rules.min_version is not None:
        least = ".".join(str(part) for part in rules.min_version)
        return NodeState.QUARANTINED, f"version {look.version_text} is older than {least}"
    tip = look.tip
    if tip is not None and tip.height == 0 and before.top_height > 0:
        return NodeState.QUARANTINED, f"came back empty, it had block {before.top_height}"
    if look.has_anchor is False and before.anchor is not None:
        return (
            NodeState.QUARANTINED,
            f"came back with other data: its block {before.anchor.height} is not the one it had",
        )
    if look.is_syncing:
        height = "" if tip is None else f" at block {tip.height}"
        return NodeState.SYNCING, f"says itself that it is still catching up{height}"
    return None


def _beside(seen: NodeRecord, look: Look, *, at: datetime) -> NodeRecord:
    """Another block than the agreed one: believed at the second look, since a reorg travels."""
    held = replace(seen, suspect=seen.suspect + 1, honest=0)
    if held.is_healthy and held.suspect < SUSPECT_LOOKS:
        return held
    height = "?" if look.tip is None else look.tip.height
    return _enter(held, NodeState.FORKED, f"its chain at {height} is not the agreed one", at=at)


def _late(
    seen: NodeRecord, look: Look, *, peer_height: int | None, rules: Rules, now_seconds: float
) -> tuple[NodeState, str] | None:
    """Behind where its peers were already before this look, or nothing new for too long."""
    tip = look.tip
    if tip is None:
        return None
    moved_at_seconds = now_seconds if seen.moved_at_seconds is None else seen.moved_at_seconds
    still_seconds = now_seconds - moved_at_seconds
    behind = 0 if peer_height is None else peer_height - tip.height
    if behind >= rules.lag_blocks or (behind > 0 and still_seconds >= LAG_SECONDS):
        return NodeState.LAGGING, f"{behind} blocks behind its peers, at block {tip.height}"
    if rules.stall_seconds and still_seconds >= rules.stall_seconds:
        return NodeState.STALLED, f"no new block for {int(still_seconds)} s, at block {tip.height}"
    return None


def _enter(seen: NodeRecord, state: NodeState, reason: str, *, at: datetime) -> NodeRecord:
    cause = f"{state}: {reason}" if state in SERIOUS else seen.cause
    since = seen.since if state is seen.state and seen.since is not None else at
    return replace(seen, state=state, reason=reason, since=since, honest=0, cause=cause)


def _honest(seen: NodeRecord, look: Look, *, at: datetime) -> NodeRecord:
    """One look without blame: healthy, or one step nearer to it."""
    honest = seen.honest + 1
    is_barred = seen.barred_until is not None and at < seen.barred_until
    if seen.cause and (honest < PROBATION_LOOKS or is_barred):
        until = f" and barred until {seen.barred_until:%F %H:%MZ}" if is_barred else ""
        return replace(
            seen,
            state=NodeState.QUARANTINED,
            since=seen.since if seen.state is NodeState.QUARANTINED else at,
            honest=honest,
            reason=f"{min(honest, PROBATION_LOOKS)} of {PROBATION_LOOKS} honest looks{until} "
            f"after {seen.cause}",
        )
    return replace(
        seen,
        state=NodeState.HEALTHY,
        reason="",
        since=seen.since if seen.state is NodeState.HEALTHY else at,
        honest=honest,
        cause="",
        lied_about=None,
        barred_at=None,
        barred_until=None,
        top_height=max(seen.top_height, seen.height or 0),
        anchor=look.new_anchor or seen.anchor,
    )


def parse_version(text: str) -> tuple[int, ...]:
    """`0.21.5.4` or `25.0` as comparable numbers; a leading 0 carries nothing (Core's scheme)."""
    parts = tuple(int(part) for part in text.split("."))
    return parts[1:] if parts[0] == 0 and len(parts) > 1 else parts
