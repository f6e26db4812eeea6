"""Lets waiting withdrawals go on by themselves, and ends those whose time has passed.

Owns `waiting_liquidity` -> `reserved`/`queued`, `on_hold` (`deposit_orphaned`) and back (of refunds
`refund_step.py` does both), and `expired`. Oldest promise first; a payment that does not fit does
not stop smaller ones (P26). It takes the same funds as the planner, so nothing goes back and forth.
"""

from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from uuid import UUID

from config.database import Uow
from config.logs import get_logger
from gateway.payouts import approvals, attempts, funds, refund_deposits, store, withdrawals
from gateway.payouts.companions import split_code
from gateway.payouts.context import Lane
from gateway.payouts.errors import FeeAboveCap, FeesUnknown
from gateway.payouts.refusals import SIGNER_CAP, cap_retry_is_due
from gateway.payouts.rounds import RowRound
from gateway.payouts.withdrawals import CLEARING, State, Trigger
from gateway.withdrawals_store import WithdrawalRow
from ledger.errors import StaleState
from watchers import deposit_commands

ROWS_MAX = 200  # rows of one kind looked at per cycle; the next cycle goes on behind them
ORPHANED = "deposit_orphaned"
CAP_RETRY_CODE = split_code(32)  # 16 together
MAY_EXPIRE = (
    State.RESERVED,
    State.SCREENING,
    State.ON_HOLD,
    State.PENDING_APPROVAL,
    State.QUEUED,
    State.WAITING_LIQUIDITY,
)

log = get_logger(__name__)


class LiquidityStep:
    """The waiting room of one lane."""

    def __init__(self, lane: Lane, *, rows_max: int = ROWS_MAX) -> None:
        self._lane = lane
        network, waiting = lane.network, State.WAITING_LIQUIDITY
        self._held = RowRound(network, State.ON_HOLD, size=rows_max, code=ORPHANED)
        self._clearing = RowRound(network, waiting, size=rows_max, code=CLEARING)
        self._short = RowRound(network, waiting, size=rows_max, but_code=CLEARING)

    async def run(self) -> None:
        """One pass: expire, resume after a deposit came back, reserve, enqueue."""
        lane = self._lane
        async with lane.database.unit_of_work() as uow:
            overdue = await store.overdue(
                uow, network=lane.network, states=MAY_EXPIRE, at=lane.now(), limit=ROWS_MAX
            )
            held = [row for row in await self._held.page(uow) if row.deposit_id is None]
            clearing = await self._clearing.page(uow)
            short = [
                row
                for row in await self._short.page(uow)
                if row.deposit_id is None and self._may_go(row)
            ]
        for row in overdue:
            await self._each(partial(self._expire, withdrawal_id=row.id))
        for row in held:
            await self._each(partial(self._resume, withdrawal_id=row.id))
        for row in clearing:
            await self._each(partial(self._reserve, withdrawal_id=row.id))
        if short:
            try:
                await self._each(partial(self._enqueue, ids=[row.id for row in short]))
            except (FeesUnknown, FeeAboveCap) as error:
                log.info("payout.fees_wait", network=lane.network, detail=str(error))

    def _may_go(self, row: WithdrawalRow) -> bool:
        """What waits for the signer's caps is not asked about in each pass."""
        return row.code != SIGNER_CAP or cap_retry_is_due(row, now=self._lane.now())

    async def _each(self, work: Callable[[Uow], Awaitable[None]]) -> None:
        try:
            await self._lane.run(work)
        except StaleState as error:  # somebody else moved it: the next pass reads anew
            log.info("payout.stale", network=self._lane.network, detail=str(error))

    async def _expire(self, uow: Uow, *, withdrawal_id: UUID) -> None:
        lane = self._lane
        await refund_deposits.lock(uow, await store.by_ids(uow, [withdrawal_id], lock=False))
        row = (await store.by_ids(uow, [withdrawal_id], lock=True))[0]
        if row.state in MAY_EXPIRE and row.sign_requested_at is None and row.txid is None:
            await withdrawals.give_up(uow, row, Trigger.EXPIRE, ids=lane.ids, at=lane.now())

    async def _resume(self, uow: Uow, *, withdrawal_id: UUID) -> None:
        """Back when the player's deposits are restored; when one was reversed, staff decide."""
        row = (await store.by_ids(uow, [withdrawal_id], lock=True))[0]
        if row.state != State.ON_HOLD or row.code != ORPHANED:
            return
        if await deposit_commands.orphaned_anew(
            uow, brand=row.brand, player_id=row.player_id, known=row.orphaned_known
        ):
            return
        if await deposit_commands.reversed_anew(
            uow, brand=row.brand, player_id=row.player_id, known=row.orphaned_known
        ):
            detail = f"a deposit of the player of {row.request_id} was reversed: staff decide"
            await attempts.alarm(self._lane, uow, "deposit_reversed", detail, object_id=row.id)
            return
        missing, limit = await approvals.missing(uow, row)
        code: str | None
        if not row.is_reserved:
            trigger, code = Trigger.RESUME_WAITING, CLEARING
        elif missing:
            trigger, code = Trigger.RESUME_APPROVAL, limit
        else:
            trigger, code = Trigger.RESUME_QUEUED, None
        await attempts.move(self._lane, uow, row, trigger, code=code)

    async def _reserve(self, uow: Uow, *, withdrawal_id: UUID) -> None:
        """Clearing may cover it now; else it stays as it is."""
        row = (await store.by_ids(uow, [withdrawal_id], lock=True))[0]
        if row.state == State.WAITING_LIQUIDITY and row.code == CLEARING:
            await withdrawals.reserve(uow, row, ids=self._lane.ids, at=self._lane.now())

    async def _enqueue(self, uow: Uow, *, ids: Sequence[UUID]) -> None:
        """Queue what fits beside everything that is queued already."""
        lane = self._lane
        account = await funds.load(lane, uow)
        for row in await store.in_state(
            uow, network=lane.network, state=State.QUEUED, limit=ROWS_MAX
        ):
            if row.deposit_id is None:
                account.admit(row)
        rows = await store.by_ids(uow, ids, lock=True)
        still_short: set[str] = set()
        for row in sorted(rows, key=lambda row: (row.promise_at, row.id)):
            is_waiting = row.state == State.WAITING_LIQUIDITY and row.code != CLEARING
            if not is_waiting or not self._may_go(row):
                continue
            code = account.admit(row)
            if code is None:
                # After a cap it rides with few, so that a refusal stops nobody else's batch.
                apart = row.code == SIGNER_CAP and not lane.is_account_based
                again = CAP_RETRY_CODE if apart else None
                await attempts.move(lane, uow, row, Trigger.LIQUIDITY_BACK, code=again)
            else:
                still_short.add(code)
        if not self._short.is_whole:  # somebody on another page may still be short
            return
        for code in {funds.HOT_WALLET, funds.FEE_CAPITAL, funds.FEE_ABOVE_MAXIMUM} - still_short:
            await attempts.clear(lane, uow, f"{code}_short")
