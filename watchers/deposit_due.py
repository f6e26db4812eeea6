"""Which steps of deposits are due at a tip, and doing them: credit, finalise, restore, reverse.

Owns the decision (`due_trigger`), the pages and the mass limit of reversals; the steps are in
`deposits.py`, their postings in `deposit_postings.py`. Thresholds are heights, so a block costs one
indexed statement and the deposits that really move, PAGE_ROWS of them in one unit of work: a page
that is not done is due again, whoever asks.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from config import alarm_store
from config.database import Uow
from config.logs import get_logger
from ledger import balances
from watchers import deposit_postings as postings
from watchers import deposit_store as store
from watchers import exposure, player_flags, policies, reversal_limit, switches
from watchers.deposit_postings import Booking
from watchers.deposits import (
    RESTORES,
    DepositRow,
    DepositState,
    DepositTrigger,
    Step,
    from_row,
    step_many,
    sweep_state_in,
)
from watchers.network import Network
from watchers.reversal_limit import Excess
from watchers.switches import Action
from watchers.unsupported import Substatus

log = get_logger("watchers.deposits")

PAGE_ROWS = 1_000  # deposits moved in one unit of work (D28)
FIRST = UUID(int=0)
WAVES_MAX = 4  # restored, then finalised; after that nothing is due
REVERSALS_ALARM = switches.REVERSALS_ALARM
PLAYER_BLOCKED = "player_blocked"  # substatus of what is held for that
SENT_BACK = "sent_back"  # substatus of what was refunded and then lost: if it comes, people decide


Due = tuple[DepositRow, DepositTrigger]
"""A deposit and the step that is due."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Tip:
    """Where thresholds are compared: `final_below` is the highest block that may be final."""

    height: int
    final_below: int
    since: int | None = None
    """The first height that this tip stands for, where the blocks came in a run (ADR 0017)."""


def due_trigger(
    deposit: DepositRow, *, height: int, final_below: int, since: int | None = None
) -> DepositTrigger | None:
    """The step that is due at tip `height`, or None. Pure.

    `final_below` is the highest block that may count as final at this tip. A deposit whose credit
    was due before it was final, at a height from `since` on, is credited first.
    """
    is_final = (
        deposit.height is not None
        and deposit.final_at_height is not None
        and deposit.final_at_height <= height
        and deposit.height <= final_below
    )
    is_credited = is_final or (
        deposit.provisional_at_height is not None and deposit.provisional_at_height <= height
    )
    if deposit.state is DepositState.PENDING and is_credited:
        first = height if since is None else since
        is_at_once = is_final and not _was_credited_first(deposit, first)
        return DepositTrigger.FINALISE if is_at_once else DepositTrigger.CREDIT
    if deposit.state is DepositState.PROVISIONAL and is_final:
        return DepositTrigger.FINALISE
    if deposit.state is not DepositState.ORPHANED or deposit.prior_state is None:
        return None
    if deposit.block_hash is None:
        conflict_at = deposit.conflict_final_at_height
        is_dead = (
            conflict_at is not None
            and conflict_at <= height
            and conflict_at - deposit.full_depth + 1 <= final_below  # the conflict's own block
        )
        return DepositTrigger.REVERSE if is_dead else None
    is_reached = is_final if deposit.prior_state is DepositState.FINAL else is_credited
    return RESTORES[deposit.prior_state] if is_reached else None


def _was_credited_first(deposit: DepositRow, since: int) -> bool:
    """Whether a pass at each height from `since` on would have credited it before its full tier."""
    credit_at, final_at = deposit.provisional_at_height, deposit.final_at_height
    return credit_at is not None and final_at is not None and max(credit_at, since) < final_at


async def settle_page(
    uow: Uow, network: Network, tip: Tip, *, after: UUID = FIRST, at: datetime
) -> UUID | None:
    """Do every step of a tier that is due, one page by id after `after`; the id that ended it,
    None when it was the last.

    While `credit` is stopped nothing of it moves; what was due meanwhile goes on by id, that is by
    first sight, once it runs again (D74).
    """
    stopped = await switches.stopped(uow, network=network.name, action=Action.CREDIT)
    if stopped.is_whole:
        return None
    rows = await store.due(
        uow,
        network=network.name,
        height=tip.height,
        final_below=tip.final_below,
        stopped=sorted(stopped.assets),
        after=after,
        limit=PAGE_ROWS,
    )
    await _settle(uow, network, [from_row(row) for row in rows], tip, at=at)
    return rows[-1]["id"] if len(rows) == PAGE_ROWS else None


async def settle_capped(uow: Uow, network: Network, tip: Tip, *, at: datetime) -> int:
    """Ask again for deposits that a full cap keeps pending, oldest first; how many were asked."""
    stopped = await switches.stopped(uow, network=network.name, action=Action.CREDIT)
    if stopped.is_whole:
        return 0
    rows = await store.capped(
        uow,
        network=network.name,
        height=tip.height,
        stopped=sorted(stopped.assets),
        limit=PAGE_ROWS,
    )
    await _settle(uow, network, [from_row(row) for row in rows], tip, at=at)
    return len(rows)


async def settle_rest(
    uow: Uow, network: Network, tip: Tip, *, after: UUID, at: datetime
) -> UUID | None:
    """What the blocks' own units of work left: the next page, and at its end who waits for room.

    The id to go on from, None when nothing is left.
    """
    if after == FIRST:
        await reverse_dead(uow, network, tip, at=at)
    following = await settle_page(uow, network, tip, after=after, at=at)
    if following is None:
        await settle_capped(uow, network, tip, at=at)
    return following


async def walks(uow: Uow, network: Network, tip: Tip) -> bool:
    """Whether a pass at `tip` must be made at every height of its run: room under a cap goes from
    one height to the next, and reversals are limited by step."""
    policy = await policies.current(uow, assets=network.assets, reference=network.reference)
    if policy.caps:
        return True
    rows = await store.dead(
        uow, network=network.name, height=tip.height, final_below=tip.final_below
    )
    return bool(rows)


async def lock_ahead(uow: Uow, network: Network, tip: Tip) -> None:
    """Take the locks of every pass up to `tip`, in one order: pass by pass they would come in that
    of the heights, crosswise to those of another network."""
    rows = [
        *await store.dead(
            uow, network=network.name, height=tip.height, final_below=tip.final_below
        ),
        *await store.due(
            uow,
            network=network.name,
            height=tip.height,
            final_below=tip.final_below,
            stopped=(),
            after=FIRST,
            limit=PAGE_ROWS,
        ),
    ]
    await exposure.lock(uow, network, await locked(uow, [from_row(row) for row in rows]))


async def reverse_dead(uow: Uow, network: Network, tip: Tip, *, at: datetime) -> int:
    """Reverse every orphaned deposit whose conflict is final; returns how many moved."""
    rows = await store.dead(
        uow, network=network.name, height=tip.height, final_below=tip.final_below
    )
    deposits = [
        deposit
        for deposit in await locked(uow, [from_row(row) for row in rows])
        if due_trigger(deposit, height=tip.height, final_below=tip.final_below)
        is DepositTrigger.REVERSE
    ]
    return await reverse_within_limit(uow, network, deposits, at=at)


async def reverse_within_limit(
    uow: Uow, network: Network, deposits: Sequence[DepositRow], *, at: datetime
) -> int:
    """Reverse all of these locked deposits, or, above a limit, none of them: then the breaker
    opens and two people grant that many once, of as much value as they name (CONTRACT 4)."""
    if not deposits:
        return 0
    excess = await reversal_limit.excess(uow, network, deposits, at=at)
    if excess is not None and not await switches.take_reversals(
        uow,
        network=network.name,
        count=len(deposits),
        value_minor=excess.value_minor,
        currency=network.reference.currency,
        at=at,
    ):
        await _refuse_reversals(uow, network, excess, at=at)
        return 0
    await apply_many(uow, network, [(item, DepositTrigger.REVERSE) for item in deposits], at=at)
    return len(deposits)


async def apply_many(
    uow: Uow,
    network: Network,
    moves: Sequence[Due],
    *,
    at: datetime,
) -> list[DepositRow]:
    """One due step of each with its posting; the caller holds the players' locks.

    Who is credited was admitted by `exposure` in this unit of work, so that it counts already.
    """
    bookings = [(item, booking) for item, by in moves if (booking := _booking(item, by))]
    await postings.book_many(uow, bookings, family=network.family, ids=network.ids, at=at)
    steps = [Step(deposit=item, trigger=by, changes=_changes(item, by)) for item, by in moves]
    after = await step_many(uow, steps, ids=network.ids, at=at)
    others = [
        item for item, (_, by) in zip(after, moves, strict=True) if by is not DepositTrigger.CREDIT
    ]
    await exposure.keep(uow, network, others, at=at)
    for item in after:
        log.info(
            f"deposit.{item.state.value}",
            deposit_id=str(item.id),
            network=network.name,
            height=item.height,
        )
    return after


async def locked(uow: Uow, deposits: Sequence[DepositRow]) -> list[DepositRow]:
    """The deposits re-read under the locks of their players, taken in one order."""
    if not deposits:
        return []
    pairs = sorted({(item.brand, item.player_id) for item in deposits})
    await balances.lock_players(uow, pairs)
    return [from_row(row) for row in await store.lock(uow, [item.id for item in deposits])]


async def _settle(
    uow: Uow, network: Network, found: Sequence[DepositRow], tip: Tip, *, at: datetime
) -> None:
    current = await locked(uow, found)
    await exposure.lock(uow, network, current)  # of all brands at once: `admit` takes some first
    latest = {item.id: item for item in current}
    for _ in range(WAVES_MAX):
        moves: list[Due] = []
        for item in current:
            trigger = due_trigger(
                item, height=tip.height, final_below=tip.final_below, since=tip.since
            )
            if trigger is not None and trigger is not DepositTrigger.REVERSE:
                moves.append((item, trigger))
        moves = await _without_blocked(uow, moves)
        moves = await _with_room(uow, network, moves, at=at)
        if not moves:
            break
        current = await apply_many(uow, network, moves, at=at)
        latest |= {item.id: item for item in current}
    else:
        raise AssertionError("a deposit had a further step due after every wave")
    await _close_aside(uow, network, list(latest.values()), tip, at=at)


_CREDITS = (DepositTrigger.CREDIT, DepositTrigger.FINALISE)


async def _without_blocked(uow: Uow, moves: Sequence[Due]) -> list[Due]:
    """The same steps, but what would be credited to a blocked player is held (CONTRACT 4), and what
    its refund has paid already.

    A block that is committed later holds the next step; it takes nothing back.
    """
    asking = {(item.brand, item.player_id) for item, trigger in moves if trigger in _CREDITS}
    blocked = await player_flags.blocked(uow, asking) if asking else frozenset()
    return [
        (item, DepositTrigger.HOLD)
        if trigger in _CREDITS
        and ((item.brand, item.player_id) in blocked or item.substatus == SENT_BACK)
        else (item, trigger)
        for item, trigger in moves
    ]


async def _with_room(
    uow: Uow,
    network: Network,
    moves: Sequence[Due],
    *,
    at: datetime,
) -> list[Due]:
    """Without the credits that a full exposure cap keeps pending."""
    asking = [item for item, trigger in moves if trigger is DepositTrigger.CREDIT]
    if not asking:
        return list(moves)
    admitted = await exposure.admit(uow, network, asking, at=at)
    return [
        (item, trigger)
        for item, trigger in moves
        if trigger is not DepositTrigger.CREDIT or item.id in admitted
    ]


def _booking(deposit: DepositRow, trigger: DepositTrigger) -> Booking | None:
    match trigger:
        case DepositTrigger.CREDIT:
            return Booking.PROVISIONAL
        case DepositTrigger.FINALISE:
            is_pending = deposit.state is DepositState.PENDING
            return Booking.CLEARING if is_pending else Booking.FINAL
        case DepositTrigger.HOLD:
            is_credited = deposit.state is DepositState.PROVISIONAL
            return Booking.HELD if is_credited else None  # of a pending one: at its finality
        case DepositTrigger.REVERSE:
            return Booking.REVERSED
        case _:
            return None


_FINAL = (DepositTrigger.FINALISE, DepositTrigger.RESTORE_FINAL)


def _changes(deposit: DepositRow, trigger: DepositTrigger) -> dict[str, Any]:
    booking = _booking(deposit, trigger)
    if trigger is DepositTrigger.HOLD:
        held = {} if booking is None else {"credited_stage": booking.value}
        reason = SENT_BACK if deposit.substatus == SENT_BACK else PLAYER_BLOCKED
        return {"substatus": reason, **held}
    swept = sweep_state_in(deposit, is_final=trigger in _FINAL)
    if booking in (Booking.PROVISIONAL, Booking.CLEARING):
        return {
            **swept,
            "substatus": None,
            "credited_stage": booking.value,
            "custody_block_hash": deposit.block_hash,
            "custody_height": deposit.height,
        }
    if booking is Booking.FINAL:
        return {**swept, "credited_stage": "clearing"}
    if booking is Booking.REVERSED:
        was_refunded = deposit.prior_state is DepositState.REFUNDED
        return {
            "substatus": SENT_BACK if was_refunded else deposit.substatus,
            "prior_state": None,
            "absent_at_height": None,
            "credited_stage": None,
            "custody_block_hash": None,
            "custody_height": None,
        }
    if trigger not in RESTORES.values():
        raise ValueError(f"{trigger} is not a step of the chain")
    return {
        **swept,
        "prior_state": None,
        "orphaned_at_height": None,
        "absent_at_height": None,
    }


_ASIDE = (
    DepositState.BELOW_MINIMUM,
    DepositState.ON_HOLD,
    DepositState.REJECTED,
    DepositState.REFUNDING,
    DepositState.REFUNDED,
)


async def _close_aside(
    uow: Uow, network: Network, deposits: Sequence[DepositRow], tip: Tip, *, at: datetime
) -> None:
    """What stands aside is final: booked where nothing of it is yet (D20), and due no more."""
    due = [
        item
        for item in deposits
        if item.state in _ASIDE
        and item.height is not None
        and item.final_at_height is not None
        and item.final_at_height <= tip.height
        and item.height <= tip.final_below
    ]
    wanted = [(item, booking) for item in due if (booking := _aside(item)) is not None]
    await postings.book_many(uow, wanted, family=network.family, ids=network.ids, at=at)
    for booking in (Booking.HELD, Booking.UNALLOCATED):
        if booked := [item.id for item, into in wanted if into is booking]:
            await store.mark_booked(uow, deposit_ids=booked, stage=booking.value)
    taken = {item.id for item, _ in wanted}
    if standing := [item.id for item in due if item.id not in taken]:
        await store.mark_final(uow, deposit_ids=standing)


def _aside(deposit: DepositRow) -> Booking | None:
    """What its finality books. Rejected before it, it is nobody's; a token that was on no list
    books nothing, whatever is listed today."""
    if deposit.credited_stage is not None or deposit.substatus in tuple(Substatus):
        return None
    is_held = deposit.state is DepositState.ON_HOLD
    return Booking.HELD if is_held else Booking.UNALLOCATED


async def _refuse_reversals(uow: Uow, network: Network, excess: Excess, *, at: datetime) -> None:
    log.error("deposit.reversals_over_limit", network=network.name, detail=excess.detail)
    await alarm_store.raise_alarm(
        uow,
        alarm_id=network.ids.new_id(),
        kind=REVERSALS_ALARM,
        network=network.name,
        detail=excess.detail,
        at=at,
    )
    await switches.open_breaker(
        uow,
        scope=switches.network_scope(network.name),
        action=Action.ALL,
        reason=excess.reason,
        actor="watcher",
        ids=network.ids,
        at=at,
    )
