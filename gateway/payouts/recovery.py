"""What a lane does first: see where the last process stopped, and whether its books are whole.

Owns the start report and the `recovery` of a network (CONTRACT 8, P09): the signer's log is held
against the books at every start. A signature that the books lack stops the network: nothing is
built, signed or sent until `cage recover` (`imports.py`) has written it into them, the chain was
looked at again, and two people confirmed. Ordinary interruptions need none of that: each row goes
on from exactly where it stands.
"""

from enum import Enum, auto

from config import alarm_store
from config.database import Uow
from config.logs import get_logger
from gateway.payouts import attempts, comparison, store
from gateway.payouts import recovery_store as rows
from gateway.payouts.comparison import Difference, Unsigned
from gateway.payouts.context import ACTOR, Lane
from gateway.payouts.errors import SignerUnavailable
from gateway.payouts.recovery_store import Place, RecoveryRow
from gateway.payouts.signed_orders import assets_of
from gateway.payouts.withdrawals import State
from watchers import coins, switches
from watchers.switches import Action

OPEN_STATES = (State.PLANNED, State.SIGNED, State.BROADCASTING, State.UNCERTAIN)
REPORTED_MAX = 200  # attempts in the start report; the steps themselves go round all of them
NAMED_MAX = 5  # attempts in the text of an alarm

RECOVERY = "recovery"
"""Alarm: the books of a network lack what the signer signed; `cage recover`."""

LOG_MISMATCH = "signer_log_mismatch"
"""Alarm: the hourly comparison found a difference; payouts of the asset are stopped."""

PAYOUT_ACTIONS = (Action.BUILD, Action.SIGN, Action.BROADCAST)

log = get_logger(__name__)


class Standing(Enum):
    """What a lane may do now."""

    READY = auto()
    """Everything."""
    BLIND = auto()
    """The signer did not answer since the start: settle and send what is signed, no more."""
    STOPPED = auto()
    """In recovery, or the database may be a restored one that nobody has compared: settle what the
    chain says, no more."""


class Recovery:
    """One lane's view of whether its books are whole. A lane that lost its lease looks anew."""

    def __init__(self, lane: Lane) -> None:
        self._lane = lane
        self._has_compared = False

    def forget(self) -> None:
        """Another instance worked meanwhile."""
        self._has_compared = False

    async def look(self) -> Standing:
        """Compare at the start, close what people confirmed, and say what may be done."""
        async with self._lane.database.unit_of_work() as uow:
            standing = await rows.current(uow, self._lane.network)
            place = await rows.place(uow, self._lane.network)
        if standing is not None:
            if standing.state != "confirmed":
                return Standing.STOPPED
            await self._lane.run(lambda uow: self._close(uow, standing))
            self._lane.crash("payout.recovery_closed")
            self._has_compared = False
        is_known = self._has_compared and place.is_of_this_life
        if is_known and place.asked_at is None:
            return Standing.READY
        try:
            return await self._compare(place)
        except SignerUnavailable as error:
            log.warning("payout.not_compared", network=self._lane.network, detail=str(error))
            if is_known:
                return Standing.READY
            return Standing.BLIND if place.is_of_this_life else Standing.STOPPED

    async def _compare(self, place: Place) -> Standing:
        lane = self._lane
        is_hourly = place.asked_at is not None
        unsigned: list[Unsigned] = []
        if is_hourly:  # before the log is read: it knows whatever these books call signed
            unsigned = await comparison.unsigned(lane.database, lane.signer, lane.network, place)
        found = await comparison.lost(lane.database, lane.signer, lane.network)
        cause = _cause(found, fence=lane.lease.fence)
        if unsigned:
            await self._freeze(
                frozenset().union(*(item.assets for item in unsigned)),
                "the signer did not sign "
                + ", ".join(f"{item.attempt_id} {item.txid}" for item in unsigned[:NAMED_MAX]),
            )
        if cause is None:
            await lane.run(lambda uow: self._clean(uow, found, is_whole=not unsigned))
            self._has_compared = True
            return Standing.READY
        if is_hourly and found.unknown:
            assets = [await assets_of(lane.signer, entry) for entry in found.unknown[:NAMED_MAX]]
            await self._freeze(frozenset().union(*assets), _detail(found))
        await lane.run(lambda uow: self._open(uow, found, cause))
        lane.crash("payout.recovery_opened")
        return Standing.STOPPED

    async def _clean(self, uow: Uow, found: Difference, *, is_whole: bool) -> None:
        """The books hold everything up to here. With a difference the other way the place stays,
        so that the next comparison looks at the same again; what was asked for is answered."""
        place = await rows.place(uow, self._lane.network)
        at = self._lane.now()
        if is_whole or place.compared_at is None:
            await rows.move_place(
                uow,
                self._lane.network,
                sequence=found.sequence,
                entry_hash=found.entry_hash,
                at=at,
            )
        else:
            await rows.answered(uow, self._lane.network)

    async def _open(self, uow: Uow, found: Difference, cause: str) -> None:
        lane, detail = self._lane, _detail(found)
        values = {
            "id": lane.ids.new_id(),
            "network": lane.network,
            "cause": cause,
            "detail": detail,
            "sequence": found.sequence,
            "entry_hash": found.entry_hash,
            "epoch": found.epoch,
            "unknown": len(found.unknown),
            "at": lane.now(),
        }
        if await rows.open_one(uow, values):
            await attempts.alarm(lane, uow, RECOVERY, f"{cause}: {detail}; run `cage recover`")
            log.error("payout.recovery", network=lane.network, cause=cause, detail=detail)

    async def _close(self, uow: Uow, row: RecoveryRow) -> None:
        """Two people confirmed: the lane goes on above every worker that the signer knows, and
        from what the import read. Coins that came with later blocks are reserved now."""
        lane = self._lane
        await lane.lease.raise_fence(uow, above=row.epoch)
        await coins.claim(uow, network=lane.network)
        await rows.move_place(
            uow, lane.network, sequence=row.sequence, entry_hash=row.entry_hash, at=lane.now()
        )
        await rows.close(uow, row.id, at=lane.now())
        await attempts.clear(lane, uow, RECOVERY)
        log.info("payout.recovered", network=lane.network, people=list(row.confirmed_by))

    async def _freeze(self, assets: frozenset[str], detail: str) -> None:
        """Stop the payouts of these assets (of the network, where nobody knows which): two people
        start them again."""
        lane = self._lane
        scopes = [f"asset:{asset}" for asset in sorted(assets)]

        async def stop(uow: Uow) -> None:
            for scope in scopes or [switches.network_scope(lane.network)]:
                for action in PAYOUT_ACTIONS:
                    await switches.open_breaker(
                        uow,
                        scope=scope,
                        action=action,
                        reason="the signer's log and the books differ",
                        actor=ACTOR,
                        ids=lane.ids,
                        at=lane.now(),
                    )
            await alarm_store.raise_alarm(
                uow,
                alarm_id=lane.ids.new_id(),
                kind=LOG_MISMATCH,
                network=lane.network,
                object_id=None,
                detail=detail,
                at=lane.now(),
            )

        await lane.run(stop)
        log.error("payout.log_mismatch", network=lane.network, scopes=scopes, detail=detail)


def _cause(found: Difference, *, fence: int) -> str | None:
    """Why people must look, or None: the books are whole."""
    if found.unknown:
        return "unknown_signatures"
    if found.is_other_log:
        return "other_log"
    return "newer_worker" if found.epoch > fence else None


def _detail(found: Difference) -> str:
    if found.unknown:
        named = ", ".join(f"{item.attempt_id} {item.txid}" for item in found.unknown[:NAMED_MAX])
        return f"{len(found.unknown)} signatures are not in the books: {named}"
    if found.is_other_log:
        return "the signer's log is not the one that was compared before"
    return f"the signer has seen worker {found.epoch}, newer than these books know"


async def report(lane: Lane) -> int:
    """Log the attempts that were interrupted, oldest first; returns how many were logged."""
    try:
        head = await lane.signer.head()
        log.info(
            "payout.signer_head",
            network=lane.network,
            sequence=head.sequence,
            entry_hash=head.entry_hash,
            fingerprint=head.fingerprint,
        )
    except SignerUnavailable as error:
        log.warning("payout.signer_unavailable", network=lane.network, detail=str(error))
    async with lane.database.unit_of_work() as uow:
        ids = await store.open_attempts(
            uow, network=lane.network, states=OPEN_STATES, limit=REPORTED_MAX
        )
        found = await attempts.load_many(uow, ids, lock=False)
    for attempt in found:
        members = attempt.rows()
        log.info(
            "payout.continues",
            network=lane.network,
            attempt_id=str(attempt.id),
            txid=attempt.tx.txid,
            states=sorted({row.state for row in members}),
            is_sign_requested=all(row.sign_requested_at is not None for row in members),
        )
    return len(found)
