"""Which attempt of a family counts: the one in a block, whatever was current before (P20).

Owns `adopt`: members follow the attempt that the chain took, before anything is settled or held.
It sends nothing and signs nothing. A reorg may make another attempt the one that counts.
"""

from collections.abc import Sequence
from functools import partial
from typing import Final
from uuid import UUID

from config import alarm_store
from config.database import Uow
from config.logs import get_logger
from gateway.payouts import attempts, store
from gateway.payouts.attempts import Attempt
from gateway.payouts.context import Lane
from gateway.payouts.errors import BrokenAttempt
from gateway.payouts.rounds import AttemptRound
from gateway.payouts.withdrawals import ON_CHAIN, State, Trigger
from ledger.errors import StaleState
from watchers import outgoing, outgoing_families
from watchers.outgoing import OutgoingRow, OutgoingState

FOLLOWING: Final = (*ON_CHAIN, State.CONFIRMING, State.CANCELLING)
"""States of a withdrawal that goes on with whichever attempt the chain takes."""

UNMINED: Final = (
    OutgoingState.SIGNED,
    OutgoingState.BROADCAST,
    OutgoingState.SEEN,
    OutgoingState.DROPPED,
)

BUMP_CAPPED: Final = "bump_capped"
"""Alarm: a payout waits and may not cost more, or cannot be bumped; by family."""

BUMP_REFUSED: Final = "bump_refused"
"""Alarm: the signer said no to a replacement or child; by family."""

_ABOUT_A_FAMILY: Final = (BUMP_CAPPED, BUMP_REFUSED)
ABOUT_AN_ATTEMPT: Final = (
    "payout_fee_too_low", "payout_chain_full", "payout_conflict", "payout_invalid",
    "payout_uncertain",
)  # fmt: skip
"""Alarms about an attempt that no node shows."""

log = get_logger(__name__)


class FamilyStep:
    """Brings the members of one lane to the attempts that are in blocks."""

    def __init__(self, lane: Lane) -> None:
        self._lane = lane
        self._round = AttemptRound(lane.network, FOLLOWING)

    async def run(self) -> None:
        """One pass."""
        lane = self._lane
        async with lane.database.unit_of_work() as uow:
            found = await self._round.page(uow)
            won = await outgoing_families.mined_siblings(uow, found)
            told = await alarm_store.open_objects(uow, kinds=_ABOUT_A_FAMILY, network=lane.network)
            over = sorted(await outgoing_families.mined_families(uow, sorted(told)))
        for winner_id in sorted(set(won.values())):
            try:
                if await lane.run(partial(self._to_winner, winner_id=winner_id)):
                    lane.crash("payout.adopted")
            except StaleState as error:
                log.info("payout.stale", attempt_id=str(winner_id), detail=str(error))
        if over:
            await lane.run(lambda uow: attempts.clear(lane, uow, *_ABOUT_A_FAMILY, objects=over))

    async def _to_winner(self, uow: Uow, *, winner_id: UUID) -> bool:
        attempt, _ = await locked(uow, winner_id)
        if attempt.tx.height is None:
            return False
        return await adopt(self._lane, uow, winner_id)


async def adopt(lane: Lane, uow: Uow, attempt_id: UUID) -> bool:
    """Make an attempt the current one of all that it was built for; True when that moved any.

    Locks members and family. State, hold and books stay; settlement follows the chain's word.
    """
    attempt, family = await locked(uow, attempt_id)
    ids = {tx.id for tx in family}
    rows = [
        row
        for row in attempt.rows(*FOLLOWING)
        if row.attempt_id in ids and row.attempt_id != attempt_id
    ]
    for row in rows:
        await attempts.move(
            lane, uow, row, Trigger.ADOPT, attempt_id=attempt_id, txid=attempt.tx.txid
        )
    if rows:
        await attempts.clear(lane, uow, *ABOUT_AN_ATTEMPT, objects=sorted(ids))
        log.info(
            "payout.adopted",
            network=lane.network,
            attempt_id=str(attempt_id),
            txid=attempt.tx.txid,
            members=len(rows),
        )
    return bool(rows)


async def locked(
    uow: Uow, attempt_id: UUID, *, also: Sequence[UUID] = ()
) -> tuple[Attempt, list[OutgoingRow]]:
    """An attempt with all that it was built for, and its family, the newest last.

    Locked in the order of the house, withdrawals by id and then attempts by id. `also`: further
    families to lock.
    """
    members = await store.members(uow, attempt_id, lock=True, is_current=False)
    tx = await outgoing.get(uow, attempt_id)
    if tx is None:
        raise BrokenAttempt(f"attempt {attempt_id} has no transaction")
    family = await outgoing_families.locked(uow, tx.family_id, *also)
    (tx,) = (item for item in family if item.id == attempt_id)
    return Attempt(tx=tx, members=tuple(members)), family


async def siblings(uow: Uow, tx: OutgoingRow) -> list[OutgoingRow]:
    """The other signed attempts of its family, the newest last."""
    family = await outgoing.family(uow, tx.family_id)
    return [other for other in family if other.id != tx.id and other.raw is not None]


def survivor(family: Sequence[OutgoingRow]) -> OutgoingRow | None:
    """Of a family whose current attempt lost for good, the one that counts instead: one in a block,
    or the newest that nothing excludes. None when every one of them is dead or about to be."""
    others = [tx for tx in family if tx.raw is not None]
    mined = [tx for tx in others if tx.height is not None]
    alive = [tx for tx in others if tx.state in UNMINED and tx.conflict_txid is None]
    found = mined or alive
    return found[-1] if found else None


def is_undecided(family: Sequence[OutgoingRow]) -> bool:
    """Whether an attempt of the family is not dead yet: its rival is in a block, but not final."""
    return any(tx.state in UNMINED for tx in family)
