"""From queued refunds to planned attempts, each alone; and what becomes of one with a lost deposit.

Owns the planning of refunds: hot coins or a hot lane, one payment, its fee out of the amount where
both are of one coin (CONTRACT 4, docs/adr/0042). Signing, sending, bumps and settlement are those
of every payout. One unit of work commits the reservation, the unsigned bytes, the attempt and its
member (write, then act). It neither signs nor sends.
"""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import Final
from uuid import UUID

from config.database import Uow
from config.logs import get_logger
from gateway.errors import TooLate, Unavailable
from gateway.payouts import (
    attempts,
    drafts,
    funds,
    lost_deposits,
    network_fee,
    refund_deposits,
    refunds_store,
    store,
    withdrawals,
)
from gateway.payouts.account_funds import Single, target_blocks
from gateway.payouts.coin_selection import Selection
from gateway.payouts.context import Lane
from gateway.payouts.errors import BrokenAttempt
from gateway.payouts.refusals import PAYOUT_BROKEN, SIGNER_CAP, cap_retry_is_due
from gateway.payouts.withdrawals import State, Trigger
from gateway.withdrawals_store import WithdrawalRow
from ledger.errors import StaleState
from signer.protocol import Purpose
from watchers import (
    addresses,
    coins,
    deposit_refunds,
    nonces,
    outgoing,
    outgoing_families,
    switches,
)
from watchers.chain import Unsigned
from watchers.errors import CoinTaken, InvalidAddress
from watchers.outgoing import OutgoingDraft
from watchers.switches import Action

ROWS_MAX: Final = 50  # refunds looked at in one pass; they are few
ORPHANED: Final = "deposit_orphaned"
WAITS: Final = "refund_waits"
"""Alarm: a refund waits for hot coins, fee capital or fees within policy."""

UNPAYABLE: Final = "refund_unpayable"
"""Code of a refund that nobody can pay, and the alarm about it: it is given back."""

log = get_logger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Plan:
    """Built and not committed. `row` with what it is charged."""

    row: WithdrawalRow
    draft: OutgoingDraft
    unsigned: Unsigned


class RefundStep:
    """The refunds of one lane."""

    def __init__(self, lane: Lane) -> None:
        self._lane = lane

    async def follow(self) -> None:
        """Those that wait for their deposit's block: back in a final one they go on; lost, they are
        given back. And those that wait for the hot wallet, or the signer's caps."""
        point = "payout.refund_moved"
        await self._each(State.ON_HOLD, self._followed, point=point, code=ORPHANED)
        await self._each(State.WAITING_LIQUIDITY, self._covered, point=point)
        lane = self._lane
        await lane.run(
            lambda uow: attempts.clear_outside(lane, uow, WAITS, states=[State.WAITING_LIQUIDITY])
        )

    async def plan(self) -> None:
        """Plan what is queued. Raises FeesUnknown, FeeAboveCap."""
        await self._each(State.QUEUED, self._planned, point="payout.refund_planned")

    async def _each(
        self,
        state: State,
        work: Callable[[Uow, WithdrawalRow], Awaitable[bool]],
        *,
        point: str,
        code: str | None = None,
    ) -> None:
        lane = self._lane
        async with lane.database.unit_of_work() as uow:
            found = await refunds_store.in_state(
                uow, network=lane.network, state=state, code=code, limit=ROWS_MAX
            )
        for item in found:
            try:
                if await lane.run(partial(self._locked, item=item, state=state, work=work)):
                    lane.crash(point)
            except (StaleState, CoinTaken, TooLate, Unavailable) as error:
                log.info("payout.stale", withdrawal_id=str(item.id), detail=str(error))
            except BrokenAttempt as error:
                detail = str(error)
                await lane.run(partial(self._broken, withdrawal_id=item.id, detail=detail))

    async def _locked(
        self,
        uow: Uow,
        *,
        item: WithdrawalRow,
        state: State,
        work: Callable[[Uow, WithdrawalRow], Awaitable[bool]],
    ) -> bool:
        await lost_deposits.lock(uow, [item])
        row = (await store.by_ids(uow, [item.id], lock=True))[0]
        return row.state == state and await work(uow, row)

    async def _broken(self, uow: Uow, *, withdrawal_id: UUID, detail: str) -> None:
        row = (await store.by_ids(uow, [withdrawal_id], lock=True))[0]
        if row.state == State.QUEUED:
            await attempts.hold(self._lane, uow, row, code=PAYOUT_BROKEN, detail=detail)

    async def _followed(self, uow: Uow, row: WithdrawalRow) -> bool:
        lane = self._lane
        if row.code != ORPHANED:
            return False
        deposit = await refund_deposits.of(uow, row)
        if deposit_refunds.is_final(deposit):
            await attempts.move(lane, uow, row, Trigger.RESUME_QUEUED, code=None)
            return True
        height = await outgoing_families.followed_height(uow, network=lane.network)
        if height is None or not deposit_refunds.is_lost(deposit, height=height):
            return False
        await self._give_up(uow, row, code=ORPHANED)
        return True

    async def _covered(self, uow: Uow, row: WithdrawalRow) -> bool:
        """By the funds that it is planned with, so that nothing goes back and forth."""
        lane = self._lane
        if row.code == SIGNER_CAP and not cap_retry_is_due(row, now=lane.now()):
            return False
        if isinstance(await self._place(uow, row), str):
            return False
        await attempts.move(lane, uow, row, Trigger.LIQUIDITY_BACK, code=None)
        return True

    async def _place(self, uow: Uow, row: WithdrawalRow) -> Single | tuple[Selection, int] | str:
        """Who pays it, or which coins with what of the fee out of the amount; by code why not."""
        lane = self._lane
        if not lane.is_account_based:
            return (await funds.load_utxo(lane, uow, of_house=True)).of_refund(row)
        return (await funds.load_account(lane, uow)).of_move(
            asset=row.asset, amount_minor=row.amount_minor, blocks=target_blocks(lane, row)
        )

    async def _planned(self, uow: Uow, row: WithdrawalRow) -> bool:
        lane = self._lane
        for action in (Action.BUILD, Action.SIGN):
            if await switches.is_stopped(uow, network=lane.network, asset=row.asset, action=action):
                return False
        if row.valid_until <= lane.now():
            await attempts.expire(lane, uow, row)
            return False
        if await lost_deposits.paused(uow, [row]):
            await attempts.move(lane, uow, row, Trigger.DEPOSIT_ORPHANED, code=ORPHANED)
            return False
        place = await self._place(uow, row)
        found: _Plan | str | None = None
        if not await self._is_unpayable(uow, row, place):
            found = place if isinstance(place, str) else await self._built(uow, row, place)
        if found is None:
            detail = f"{row.request_id}: its amount is less than its fee, or the address is refused"
            await self._give_up(uow, row, code=UNPAYABLE)
            await attempts.alarm(lane, uow, UNPAYABLE, detail, object_id=row.id)
        elif isinstance(found, str):
            await attempts.move(lane, uow, row, Trigger.LIQUIDITY_SHORT, code=found)
            detail = f"{row.request_id}: waits for {found}, of hot coins alone"
            await attempts.alarm(lane, uow, WAITS, detail, object_id=row.id)
        else:
            await self._commit(uow, found)
            return True
        return False

    async def _give_up(self, uow: Uow, row: WithdrawalRow, *, code: str) -> None:
        lane = self._lane
        await withdrawals.give_up(uow, row, Trigger.DECLINE, ids=lane.ids, at=lane.now(), code=code)

    def _charged(self, row: WithdrawalRow, fee_minor: int) -> WithdrawalRow | None:
        """The refund with its fee out of it; None where nobody can pay what is left."""
        charged = replace(row, fee_charged_minor=fee_minor or None)
        try:
            self._lane.chain.codec.parse(row.address)
        except InvalidAddress:
            return None
        is_dust = charged.output_minor <= self._lane.registry.assets[row.asset].dust_minor
        return None if is_dust else charged

    async def _is_unpayable(
        self, uow: Uow, row: WithdrawalRow, place: Single | tuple[Selection, int] | str
    ) -> bool:
        """Nobody can: the address is refused, or nothing is left of the amount."""
        lane = self._lane
        if self._charged(row, 0) is None:
            return True
        if isinstance(place, str) and not lane.is_account_based:
            account = await funds.load_utxo(lane, uow, of_house=True)
            return self._charged(row, min(account.least_fee(row), row.amount_minor)) is None
        return False

    async def _built(
        self, uow: Uow, row: WithdrawalRow, place: Single | tuple[Selection, int]
    ) -> _Plan | None:
        if isinstance(place, Single):
            fee_minor = await self._native_fee(uow, row, place)
        else:
            fee_minor = place[1]
        charged = self._charged(row, min(fee_minor, row.amount_minor))
        if charged is None:
            return None
        if isinstance(place, Single):
            return await self._account_plan(uow, charged, place)
        return await self._utxo_plan(uow, charged, place[0])

    async def _utxo_plan(self, uow: Uow, row: WithdrawalRow, selection: Selection) -> _Plan:
        lane = self._lane
        chosen = sorted(selection.coins, key=lambda c: (c.outpoint.txid, c.outpoint.vout))
        change = None
        if selection.change_minor:
            change = await addresses.own_address(uow, network=lane.network, role="change")
        payments = (drafts.planned(row),)
        unsigned = drafts.utxo(
            lane,
            coins=chosen,
            payments=payments,
            change=change,
            change_minor=selection.change_minor,
        )
        if unsigned.fee_minor != selection.fee_minor:
            raise BrokenAttempt(f"built fee {unsigned.fee_minor}, planned {selection.fee_minor}")
        attempt_id = lane.ids.new_id()
        outpoints = tuple(coin.outpoint for coin in chosen)
        await coins.reserve(uow, attempt_id=attempt_id, outpoints=outpoints)
        draft = OutgoingDraft(
            id=attempt_id,
            network=lane.network,
            purpose=Purpose.REFUND.value,
            family_id=attempt_id,
            unsigned=unsigned.data,
            payments=payments,
            fee_cap_minor=unsigned.fee_minor,
            inputs=outpoints,
            change=drafts.change_of(unsigned, change, selection.change_minor),
        )
        return _Plan(row=row, draft=draft, unsigned=unsigned)

    async def _account_plan(self, uow: Uow, row: WithdrawalRow, place: Single) -> _Plan:
        lane = self._lane
        attempt_id, payments = lane.ids.new_id(), (drafts.planned(row),)
        nonce = await nonces.allocate(
            uow, network=lane.network, sender_key=place.sender.key, attempt_id=attempt_id
        )
        unsigned = drafts.account(
            lane,
            sender=place.sender,
            nonce=nonce,
            payments=payments,
            fee=place.fee,
            batch_of=None,
        )
        draft = OutgoingDraft(
            id=attempt_id,
            network=lane.network,
            purpose=Purpose.REFUND.value,
            family_id=attempt_id,
            unsigned=unsigned.data,
            payments=payments,
            fee_cap_minor=unsigned.fee_minor,
            sender_key=place.sender.key,
            nonce=nonce,
        )
        return _Plan(row=row, draft=draft, unsigned=unsigned)

    async def _native_fee(self, uow: Uow, row: WithdrawalRow, place: Single) -> int:
        """What is expected to be burnt and tipped, never above the tx's cap; zero for a token."""
        lane = self._lane
        if row.asset != lane.spec.native_asset:
            return 0
        expected = network_fee.expected(
            lane.registry,
            lane.spec,
            await funds.current_quote(lane, uow),
            asset=row.asset,
            key=row.address_key,
            fee_class=row.fee_class,
        )
        return min(expected, place.fee.cap_minor)

    async def _commit(self, uow: Uow, plan: _Plan) -> None:
        """The attempt, its one member, and what the refund is charged: it is planned."""
        lane, row = self._lane, plan.row
        await outgoing.record(uow, plan.draft, at=lane.now())
        [index] = plan.unsigned.payment_outputs
        await store.add_members(uow, attempt_id=plan.draft.id, outputs=[(row.id, index)])
        changes = {
            "attempt_id": plan.draft.id,
            "code": None,
            "fee_charged": row.fee_charged_minor,
        }
        await attempts.move(lane, uow, row, Trigger.PLAN, **changes)
        log.info(
            "payout.refund_planned",
            network=lane.network,
            withdrawal_id=str(row.id),
            attempt_id=str(plan.draft.id),
            fee_cap_minor=str(plan.draft.fee_cap_minor),
        )
