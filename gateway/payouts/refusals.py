"""What a refusal by the signer does to the books: on hold, apart, waiting, or kept as it is.

Owns every way from `planned` that is not a signature, in one unit of work per refusal. Nothing is
given back while the signer may have signed it (KNOWS_MORE). It asks nobody.
"""

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Final
from uuid import UUID

from config.database import Uow
from config.logs import get_logger
from gateway.leases import LeaseLost
from gateway.payouts import attempts, companions, question, refusal_watch, store
from gateway.payouts.attempts import Attempt
from gateway.payouts.companions import SIGN_ALONE
from gateway.payouts.context import Lane
from gateway.payouts.errors import SignerUnavailable
from gateway.payouts.patience import SIGNER_IS_OUT
from gateway.payouts.suspects import named, suspects
from gateway.payouts.withdrawals import State, Trigger
from gateway.withdrawals_store import WithdrawalRow
from signer.protocol import Refusal
from watchers import outgoing

NOT_ABOUT_THE_TX: Final = SIGNER_IS_OUT | {"unknown_network"}
"""Refusals by a signer that cannot work; nothing was decided, so payouts wait (S21)."""

KNOWS_MORE: Final = frozenset({"already_paid", "attempt_mismatch", "nonce_used", "not_exclusive"})
"""Refusals by a signer that signed what these books do not know: lost commits, a restore."""

SIGNER_KNOWS_MORE: Final = "signer_knows_more"
"""Code of a withdrawal that may be paid already, and the alarm that stops planning and signing."""

PAYOUT_BROKEN: Final = "payout_broken"
"""Code of a withdrawal that cannot be built or asked about as the books have it, and its alarm."""

CAP_OF_TX: Final = "cap_exceeded"  # signer.errors.RefusalCode: only a smaller tx cures it
CAP_OF_WINDOW: Final = "cap_window"  # time cures it, or a smaller tx

SIGNER_CAP: Final = "signer_cap"
"""Code of a withdrawal that waits until the signer's caps have room again, and its alarm."""

CAP_WAIT_LEAST: Final = timedelta(seconds=60)  # an hour's window moves on by 1/60 of itself
CAP_WAIT_MOST: Final = timedelta(minutes=15)  # the promise of the class that most payouts have

log = get_logger(__name__)


async def apply(lane: Lane, uow: Uow, attempt: Attempt, refusal: Refusal, *, known: str) -> None:
    """Take a refusal to the books. `known`: what the signer remembers of it, for a person."""
    log.warning(
        "payout.signer_refused",
        network=lane.network,
        attempt_id=str(attempt.id),
        code=refusal.code,
        reason=refusal.reason,
        members=len(attempt.members),
    )
    await refusal_watch.count(lane, uow, attempt.id, refusal)
    if refusal.code in KNOWS_MORE:
        await _keep(lane, uow, attempt, refusal, known)
    elif refusal.code == CAP_OF_WINDOW:
        await _wait_for_cap(lane, uow, attempt, refusal)
    elif len(attempt.members) == 1:
        await _hold(lane, uow, attempt, refusal)
    elif refusal.code == CAP_OF_TX:
        await _smaller(lane, uow, attempt, refusal)
    else:
        await _apart(lane, uow, attempt, refusal)


async def raise_unless_about_the_tx(lane: Lane, refusal: Refusal) -> None:
    """Raises LeaseLost for a newer worker and SignerUnavailable for a signer that cannot work."""
    if refusal.code == "stale_epoch":
        # Our fence holds in the database, yet the signer saw a newer one: a restored database,
        # or a second house on this signer. Nothing is signed until people have looked.
        await lane.run(lambda uow: attempts.alarm(lane, uow, "signer_stale_epoch", refusal.reason))
        raise LeaseLost(f"{lane.network}: the signer knows a newer worker (S23)")
    if refusal.code in NOT_ABOUT_THE_TX:
        raise SignerUnavailable(f"{refusal.code}: {refusal.reason}")


async def cut(lane: Lane, uow: Uow, attempt: Attempt) -> None:
    """Take apart an attempt whose question fits into no frame: the signer has never seen it."""
    rows = attempt.rows(State.PLANNED)
    code = companions.split_code(len(attempt.members))
    queued = await attempts.unplan(lane, uow, attempt, codes={row.id: code for row in rows})
    log.warning("payout.cut", network=lane.network, attempt_id=str(attempt.id), members=len(rows))
    if len(attempt.members) > 1:
        return
    for row in queued:
        detail = "order and coins are over the signer's frame"
        await attempts.hold(lane, uow, row, code=question.REQUEST_TOO_LARGE, detail=detail)


async def broken(lane: Lane, uow: Uow, attempt_id: UUID, detail: str) -> None:
    """No question can be made from its rows. Who has no stored request is held, or all when that is
    not why; the others are planned anew. Once the signer was asked all stays, and people look."""
    members = await store.members(uow, attempt_id, lock=True)
    rows = [member.withdrawal for member in members]
    guilty = {row.id for row in rows} - await store.with_request(uow, [row.id for row in rows])
    code = question.REQUEST_LOST if guilty else PAYOUT_BROKEN
    log.error("payout.broken", network=lane.network, attempt_id=str(attempt_id), detail=detail)
    is_there = await outgoing.get(uow, attempt_id) is not None
    if not is_there or any(row.sign_requested_at is not None for row in rows):
        await attempts.alarm(lane, uow, code, detail, object_id=attempt_id)
        return
    attempt = await attempts.load(uow, attempt_id, lock=True)
    for row in await attempts.unplan(lane, uow, attempt):
        if row.id in guilty or not guilty:
            await attempts.hold(lane, uow, row, code=code, detail=detail)


def cap_retry_is_due(row: WithdrawalRow, *, now: datetime) -> bool:
    """Whether a row may be tried again after a cap: after as long as it has waited so far, at
    least and at most the bounds above, so that each wait is twice the one before."""
    waited = row.state_at - row.accepted_at
    return row.state_at + min(max(waited, CAP_WAIT_LEAST), CAP_WAIT_MOST) <= now


async def _keep(lane: Lane, uow: Uow, attempt: Attempt, refusal: Refusal, known: str) -> None:
    """It may be paid already: request mark, hold, coins and nonce stay until a person acts."""
    for row in attempt.rows(State.PLANNED):
        await attempts.move(lane, uow, row, Trigger.SIGNER_REFUSED, code=SIGNER_KNOWS_MORE)
    detail = f"attempt {attempt.id}: {refusal.code}: {refusal.reason}; {known}"
    await attempts.alarm(lane, uow, SIGNER_KNOWS_MORE, detail)


async def _hold(lane: Lane, uow: Uow, attempt: Attempt, refusal: Refusal) -> None:
    """One member: held for a person. Coins and nonce are free again."""
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
        detail = f"{refusal.code}: {refusal.reason}"
        await attempts.alarm(lane, uow, "signer_refused", detail, object_id=row.id)


async def _apart(lane: Lane, uow: Uow, attempt: Attempt, refusal: Refusal) -> None:
    """The suspects ride alone next, so the guilty one shows and blocks nobody (P27)."""
    rows = attempt.rows()
    alone = suspects(
        rows,
        await store.authorisations(uow, [row.id for row in rows]),
        refusal,
        codec=lane.chain.codec,
        decimals=lane.registry.assets[lane.spec.native_asset].decimals,
    )
    await attempts.unplan(lane, uow, attempt, codes=dict.fromkeys(alone, SIGN_ALONE))


async def _smaller(lane: Lane, uow: Uow, attempt: Attempt, refusal: Refusal) -> None:
    """Too much for one tx: whom the signer named rides alone, else half as many ride together."""
    rows = attempt.rows()
    guilty = {row.id for row in rows if row.request_id in named(refusal.reason)}
    code = companions.split_code(len(attempt.members))
    codes = dict.fromkeys(guilty, SIGN_ALONE) if guilty else {row.id: code for row in rows}
    await attempts.unplan(lane, uow, attempt, codes=codes)


async def _wait_for_cap(lane: Lane, uow: Uow, attempt: Attempt, refusal: Refusal) -> None:
    """Not now. Members of several brands part first, since a cap may be one brand's; of one brand
    the smaller half is tried at once and the larger one waits, a single payment waits."""
    rows = attempt.rows(State.PLANNED)
    code = companions.split_code(len(attempt.members))
    waiting = set() if len({row.brand for row in rows}) > 1 else _larger_half(rows)
    detail = f"{refusal.code}: {refusal.reason}"
    unplanned = await attempts.unplan(lane, uow, attempt, codes={row.id: code for row in rows})
    for row in unplanned:
        if row.id in waiting:
            await attempts.move(lane, uow, row, Trigger.LIQUIDITY_SHORT, code=SIGNER_CAP)
    if waiting:
        await attempts.alarm(lane, uow, SIGNER_CAP, detail)


def _larger_half(rows: Sequence[WithdrawalRow]) -> set[UUID]:
    """The larger payments, the single one included; among equals the later promises."""
    ordered = sorted(rows, key=lambda row: (row.amount_minor, row.promise_at, row.id))
    return {row.id for row in ordered[len(ordered) // 2 :]}
