"""The gate before the signer, the question to it, and what its answer does.

Owns `planned` -> `signed`. The gate commits `sign_requested_at` under the players' locks: after it
nothing is cancelled, and recovery asks again with the same bytes; before it everything may still
stop. No unit of work is open while the signer is asked.
"""

from functools import partial
from uuid import UUID

from config.database import Uow
from config.logs import get_logger
from gateway.leases import LeaseLost
from gateway.payouts import attempts, store, withdrawals
from gateway.payouts.attempts import SIGN_ALONE, Attempt
from gateway.payouts.context import Lane
from gateway.payouts.errors import BrokenAttempt, SignerUnavailable
from gateway.payouts.suspects import suspects
from gateway.payouts.withdrawals import State, Trigger
from gateway.withdrawals_store import WithdrawalRow
from ledger import balances, holds
from ledger.errors import StaleState
from signer.protocol import Payment, Purpose, Refusal, SignedTx, SignRequest
from watchers import addresses, deposit_commands, nonces, outgoing
from watchers.nonces import Below
from watchers.outgoing import OutgoingState

NOT_ABOUT_THE_TX = frozenset({"store_unwritable", "unknown_peer", "unknown_network"})
"""Refusals by a signer that cannot work; nothing was decided, so payouts wait (S21)."""

KNOWS_MORE = frozenset({"already_paid", "attempt_mismatch", "nonce_used", "not_exclusive"})
"""Refusals by a signer that signed what these books do not know: lost commits, a restore."""

SIGNER_KNOWS_MORE = "signer_knows_more"
"""Code of a withdrawal that may be paid already, and the alarm that stops planning and signing."""

BUILT_MAX = 200  # unsigned attempts looked at in one pass

log = get_logger(__name__)


class SigningStep:
    """Takes every planned attempt of a lane through gate and signer."""

    def __init__(self, lane: Lane) -> None:
        self._lane = lane

    async def run(self) -> None:
        """One pass. Raises SignerUnavailable: then the rest waits too."""
        async with self._lane.database.unit_of_work() as uow:
            found = await store.open_attempts(
                uow, network=self._lane.network, states=[State.PLANNED]
            )
            built = await outgoing.in_states(
                uow, network=self._lane.network, states=[OutgoingState.BUILT], limit=BUILT_MAX
            )
        for attempt_id in sorted({row.id for row in built} - set(found)):
            await self._lane.run(partial(self._abandon, attempt_id=attempt_id))
        # Account chains in the order of their nonces; ids of one millisecond are in no order.
        by_nonce = {row.id: row.nonce for row in built if row.nonce is not None}
        for attempt_id in sorted(found, key=lambda item: (by_nonce.get(item, 0), item)):
            if await is_stopped(self._lane):
                return
            try:
                await self._one(attempt_id)
            except StaleState as error:  # a cancel won the race: the next pass reads anew
                log.info("payout.stale", attempt_id=str(attempt_id), detail=str(error))

    async def _abandon(self, uow: Uow, *, attempt_id: UUID) -> None:
        """Every member ended before signing was asked for: coins and nonce are free again."""
        attempt = await attempts.load(uow, attempt_id, lock=True)
        rows = attempt.rows()
        if any(row.state == State.PLANNED or row.sign_requested_at is not None for row in rows):
            return
        await outgoing.drop_unsigned(uow, attempt_id=attempt_id, at=self._lane.now())
        log.info("payout.abandoned", attempt_id=str(attempt_id), members=len(rows))

    async def _one(self, attempt_id: UUID) -> None:
        if not await self._lane.run(partial(self._gate, attempt_id=attempt_id)):
            return
        self._lane.crash("payout.sign_requested")
        async with self._lane.database.unit_of_work() as uow:
            request = await self._request(uow, attempt_id)
        answer = await self._lane.signer.sign(request)
        self._lane.crash("payout.signer_answered")
        if isinstance(answer, SignedTx):
            await self._lane.run(partial(self._store, attempt_id=attempt_id, answer=answer))
            self._lane.crash("payout.signed")
            return
        if answer.code == "stale_epoch":
            # Our fence holds in the database, yet the signer saw a newer one: a restored database,
            # or a second house on this signer. Nothing is signed until people have looked.
            await self._lane.run(
                lambda uow: attempts.alarm(self._lane, uow, "signer_stale_epoch", answer.reason)
            )
            raise LeaseLost(f"{self._lane.network}: the signer knows a newer worker (S23)")
        if answer.code in NOT_ABOUT_THE_TX:
            raise SignerUnavailable(f"{answer.code}: {answer.reason}")
        await self._lane.run(partial(self._refused, attempt_id=attempt_id, refusal=answer))

    async def _gate(self, uow: Uow, *, attempt_id: UUID) -> bool:
        """Commit `sign_requested_at` on all members, or drop the attempt and say False."""
        lane = self._lane
        players = {
            (member.withdrawal.brand, member.withdrawal.player_id)
            for member in await store.members(uow, attempt_id, lock=False)
        }
        await balances.lock_players(uow, sorted(players))
        attempt = await attempts.load(uow, attempt_id, lock=True)
        rows = attempt.rows()
        if rows and all(row.sign_requested_at is not None for row in rows):
            return all(row.state == State.PLANNED for row in rows)
        failing = [row for row in rows if not await self._may_sign(uow, row)]
        limit = lane.registry.policy.limits.planned_seconds
        is_late = any((lane.now() - row.state_at).total_seconds() > limit for row in rows)
        count = await store.member_count(uow, attempt_id)
        below = await nonces.below(uow, attempt_id=attempt_id)
        if below is Below.UNSIGNED and not failing and not is_late:
            return False  # account chains are signed in the order of their nonces
        is_complete = len(rows) == count and below is not Below.FREE
        if not failing and not is_late and is_complete:
            await store.request_signature(uow, [row.id for row in rows], at=lane.now())
            return True
        for row in await attempts.unplan(lane, uow, attempt):
            if row.id in {other.id for other in failing}:
                await self._stop(uow, row)
        log.info("payout.unplanned", attempt_id=str(attempt_id), failing=len(failing))
        return False

    async def _may_sign(self, uow: Uow, row: WithdrawalRow) -> bool:
        if row.state != State.PLANNED or row.valid_until <= self._lane.now():
            return False
        return not await deposit_commands.orphaned_anew(
            uow, brand=row.brand, player_id=row.player_id, known=row.orphaned_known
        )

    async def _stop(self, uow: Uow, row: WithdrawalRow) -> None:
        """Take a member that failed the gate (queued again by now) out of the queue."""
        lane = self._lane
        if row.valid_until <= lane.now():
            await withdrawals.give_up(uow, row, Trigger.EXPIRE, ids=lane.ids, at=lane.now())
        else:
            await attempts.move(lane, uow, row, Trigger.DEPOSIT_ORPHANED, code="deposit_orphaned")

    async def _request(self, uow: Uow, attempt_id: UUID) -> SignRequest:
        """The question, from committed rows only: the same after every crash."""
        lane = self._lane
        attempt = await attempts.load(uow, attempt_id, lock=False)
        signed = await store.authorisations(uow, [row.id for row in attempt.rows()])
        if len(signed) != len(attempt.members):
            raise BrokenAttempt(f"attempt {attempt_id}: a member has no stored request")
        if attempt.tx.sender_key is None:
            input_paths, change_paths = await outgoing.signing_paths(uow, attempt_id)
        else:
            sender = await addresses.by_text(uow, network=lane.network, key=attempt.tx.sender_key)
            if sender is None:
                raise BrokenAttempt(f"attempt {attempt_id}: the sender is no address of ours")
            input_paths, change_paths = (sender.path,), {}
        return SignRequest(
            attempt_id=str(attempt_id),
            purpose=Purpose.WITHDRAWAL,
            network=lane.network,
            worker_epoch=lane.lease.fence,
            unsigned=attempt.tx.unsigned,
            input_paths=input_paths,
            change_paths=change_paths,
            payments=tuple(
                Payment(
                    brand=member.withdrawal.brand,
                    request_id=member.withdrawal.request_id,
                    output_index=member.output_index,
                    authorisation=signed[member.withdrawal.id],
                )
                for member in sorted(attempt.members, key=lambda member: member.output_index)
            ),
        )

    async def _store(self, uow: Uow, *, attempt_id: UUID, answer: SignedTx) -> None:
        """Signed bytes and txid, before anything is sent; reserved -> in flight."""
        lane = self._lane
        attempt = await attempts.load(uow, attempt_id, lock=True)
        await outgoing.mark_signed(
            uow, attempt_id=attempt_id, raw=answer.raw, txid=answer.txid, at=lane.now()
        )
        for row in attempt.rows(State.PLANNED):
            await holds.capture(
                uow, hold_id=row.id, reference=f"withdrawal:{row.id}:capture", at=lane.now()
            )
            await attempts.move(lane, uow, row, Trigger.SIGN, txid=answer.txid)
        log.info(
            "payout.signed",
            network=lane.network,
            attempt_id=str(attempt_id),
            txid=answer.txid,
            log_sequence=answer.log_sequence,
        )

    async def _refused(self, uow: Uow, *, attempt_id: UUID, refusal: Refusal) -> None:
        """One member: held for a person. A batch: the suspects ride alone next, so the guilty one
        shows and blocks nobody (P27). Coins and nonce are free again."""
        lane = self._lane
        attempt = await attempts.load(uow, attempt_id, lock=True)
        log.warning(
            "payout.signer_refused",
            network=lane.network,
            attempt_id=str(attempt_id),
            code=refusal.code,
            reason=refusal.reason,
            members=len(attempt.members),
        )
        if refusal.code in KNOWS_MORE:
            await self._keep(uow, attempt, refusal)
            return
        if len(attempt.members) == 1:
            await self._hold(uow, attempt, refusal)
            return
        rows = attempt.rows()
        alone = suspects(
            rows,
            await store.authorisations(uow, [row.id for row in rows]),
            refusal,
            codec=lane.chain.codec,
            decimals=lane.registry.assets[lane.spec.native_asset].decimals,
        )
        await attempts.unplan(lane, uow, attempt, codes=dict.fromkeys(alone, SIGN_ALONE))

    async def _keep(self, uow: Uow, attempt: Attempt, refusal: Refusal) -> None:
        """It may be paid already: request mark, hold, coins and nonce stay until a person acts."""
        lane = self._lane
        for row in attempt.rows(State.PLANNED):
            await attempts.move(lane, uow, row, Trigger.SIGNER_REFUSED, code=SIGNER_KNOWS_MORE)
        detail = f"attempt {attempt.id}: {refusal.code}: {refusal.reason}"
        await attempts.alarm(lane, uow, SIGNER_KNOWS_MORE, detail)

    async def _hold(self, uow: Uow, attempt: Attempt, refusal: Refusal) -> None:
        lane = self._lane
        await outgoing.drop_unsigned(uow, attempt_id=attempt.id, at=lane.now())
        for row in attempt.rows(State.PLANNED):
            await attempts.move(
                lane,
                uow,
                row,
                Trigger.SIGNER_REFUSED,
                code="signer_refused",
                attempt_id=None,
                sign_requested_at=None,
            )
            await attempts.alarm(
                lane,
                uow,
                "signer_refused",
                f"{refusal.code}: {refusal.reason}",
                object_id=row.id,
            )


async def is_stopped(lane: Lane) -> bool:
    """True while the network's alarm that the signer knows more than the books is open."""
    async with lane.database.unit_of_work() as uow:
        return await store.has_alarm(uow, kind=SIGNER_KNOWS_MORE, network=lane.network)
