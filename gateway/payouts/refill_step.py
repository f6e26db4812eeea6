"""Cold to hot: the file that people sign, and what they signed on its way (CONTRACT 3, T7).

Owns `approved` to `done` of that direction. Unsigned bytes, coins and the change address are
committed before anybody can fetch the file; complete signatures become the plan's own tx, which
the broadcaster sends and `own_moves` books as other own moves. No key of a cold wallet is anywhere
here. What nobody signs holds its coins until a person cancels it.
"""

from functools import partial
from typing import Any, Final
from uuid import UUID

from config.database import Uow
from config.logs import get_logger
from gateway.payouts import attempts, fee_policy, funds, rebalance_plan, rebalances, refills_store
from gateway.payouts import rebalances_store as store
from gateway.payouts.coin_selection import Selection, Terms, select
from gateway.payouts.context import Lane
from gateway.payouts.errors import BrokenAttempt
from gateway.payouts.rebalances import Direction, State, Trigger
from gateway.payouts.rebalances_store import RebalanceRow
from ledger.errors import StaleState
from watchers import addresses, coins, outgoing, registry, switches
from watchers.addresses import AddressRole, AddressRow
from watchers.chain import Coin, Pay, Unsigned
from watchers.coins import CoinRow
from watchers.cold_spends import ColdCoin, ColdPlace, ColdPlan
from watchers.errors import PoolEmpty, SignedFileRefused
from watchers.outgoing import (
    ChangeOutput,
    OutgoingDraft,
    OutgoingRow,
    OutgoingState,
    PlannedPayment,
)
from watchers.switches import Action

LOOKED_AT_MAX: Final = 100  # refills in one pass; a network has one or two open
FILE_BYTES_MAX: Final = 256 * 1024  # of the unsigned file: comes back in a body of 512 KiB
TARGET_BLOCKS: Final = 2  # people sign it once: hours later it must still be worth mining

FAILED: Final = "refill_failed"
"""Alarm: what people wanted to move from cold to hot did not come about; by rebalance."""

CONFLICT: Final = "cold_spent_elsewhere"
"""Alarm: a block spends cold coins by a tx that is not ours; by rebalance."""

_UNSENT: Final = (OutgoingState.BUILT, OutgoingState.SIGNED)

log = get_logger(__name__)


class _NotPossible(Exception):
    """It cannot be built; the code says why."""


class RefillStep:
    """The refills of one lane."""

    def __init__(self, lane: Lane) -> None:
        self._lane = lane

    async def run(self) -> bool:
        """One pass; whether something moved. Raises FeesUnknown, FeeAboveCap."""
        lane = self._lane
        if lane.is_account_based:
            return False
        async with lane.database.unit_of_work() as uow:
            found = await refills_store.to_look_at(uow, network=lane.network, limit=LOOKED_AT_MAX)
        has_moved = False
        for rebalance_id in found:
            try:
                if await lane.run(partial(self._one, rebalance_id=rebalance_id)):
                    lane.crash("payout.refill_moved")
                    has_moved = True
            except StaleState as error:
                log.info("payout.stale", rebalance_id=str(rebalance_id), detail=str(error))
            except (BrokenAttempt, SignedFileRefused) as error:  # it stops no other one
                await lane.run(
                    partial(self._tell_broken, rebalance_id=rebalance_id, detail=str(error))
                )
        return has_moved

    async def _tell_broken(self, uow: Uow, *, rebalance_id: UUID, detail: str) -> None:
        log.error("payout.refill_broken", rebalance_id=str(rebalance_id), detail=detail)
        await attempts.alarm(self._lane, uow, FAILED, detail, object_id=rebalance_id)

    async def _one(self, uow: Uow, *, rebalance_id: UUID) -> bool:
        """The next step of one refill, its row locked before its tx."""
        row = await store.get(uow, rebalance_id, lock=True)
        if row is None or row.direction != Direction.COLD_TO_HOT:
            return False
        if row.state == State.APPROVED:
            return await self._build(uow, row)
        tx = await self._tx(uow, row)
        match State(row.state):
            case State.UNSIGNED_READY:
                return await self._watch_unsigned(uow, row, tx)
            case State.CANCELLED if tx.state is OutgoingState.BUILT:
                await outgoing.drop_unsigned(uow, attempt_id=tx.id, at=self._lane.now())
                return True
            case State.SIGNED if tx.state is OutgoingState.BUILT:
                return await self._take_over(uow, row, tx)
            case State.SIGNED if tx.state not in _UNSENT:
                await self._move(uow, row, Trigger.SEND)
                return True
            case State.SENT:
                return await self._end(uow, row, tx)
            case State.DONE | State.FAILED if tx.raw is not None and not _is_over(tx):
                await self._move(uow, row, Trigger.REOPEN, code=None)
                return True
            case _:
                return False

    # -- building

    async def _build(self, uow: Uow, row: RebalanceRow) -> bool:
        lane = self._lane
        if row.valid_until <= lane.now():
            await rebalances.cancel(uow, row, code=rebalances.EXPIRED, ids=lane.ids, at=lane.now())
            return True
        if not await rebalances.is_signed_by_enough(uow, row):
            await self._refuse(uow, row, "person_left")
            return True
        if await self._is_stopped(uow, row):
            return False
        try:
            draft = await self._draft(uow, row)
        except _NotPossible as error:
            await self._refuse(uow, row, str(error))
            return True
        await coins.reserve(uow, attempt_id=draft.id, outpoints=draft.inputs, is_cold=True)
        await outgoing.record(uow, draft, at=lane.now())
        await self._move(uow, row, Trigger.BUILD, attempt_id=draft.id, txid=draft.expected_txid)
        log.info(
            "payout.refill_built",
            network=lane.network,
            rebalance_id=str(row.id),
            attempt_id=str(draft.id),
            txid=draft.expected_txid,
            coins=len(draft.inputs),
            fee_minor=str(draft.fee_cap_minor),
        )
        return True

    async def _draft(self, uow: Uow, row: RebalanceRow) -> OutgoingDraft:
        lane, spec = self._lane, self._lane.spec
        settings = lane.registry.settings.cold.get(lane.network)
        receive = await rebalance_plan.cold_address(uow, lane.registry, lane.network)
        if receive is None or settings is None or settings.descriptor is None:
            raise _NotPossible("no_cold_wallet")
        if not await self._is_hot(uow, row.address, row.address_key):
            raise _NotPossible("not_a_hot_address")
        known = await coins.cold(uow, network=lane.network, limit=funds.COINS_MAX)
        of_wallet = await self._places(uow, receive)
        free = {item.outpoint: item for item in known if item.address_id in of_wallet}
        found = await self._select(uow, row, settings.descriptor, list(free.values()))
        change = None
        if found.change_minor:
            try:
                change = await addresses.cold_change(uow, receive)
            except PoolEmpty as error:
                raise _NotPossible("no_change_address") from error
        chosen = sorted(found.coins, key=lambda c: (c.outpoint.txid, c.outpoint.vout))
        plan = ColdPlan(
            descriptor=settings.descriptor,
            coins=tuple(
                _cold_coin(coin, of_wallet[free[coin.outpoint].address_id]) for coin in chosen
            ),
            payment=Pay(asset=row.asset, address=row.address, amount_minor=row.amount_minor),
            change=None if change is None else _place(change),
            change_minor=found.change_minor,
        )
        unsigned = registry.cold_unsigned(spec, plan)
        if len(unsigned.data) > FILE_BYTES_MAX:
            raise _NotPossible("too_many_coins")
        return self._recorded(row, unsigned, plan, change)

    def _recorded(
        self, row: RebalanceRow, unsigned: Unsigned, plan: ColdPlan, change: AddressRow | None
    ) -> OutgoingDraft:
        lane, attempt_id = self._lane, self._lane.ids.new_id()
        progress = registry.cold_progress(lane.spec, unsigned=unsigned.data, signatures=())
        return OutgoingDraft(
            id=attempt_id,
            network=lane.network,
            purpose=outgoing.OUTSIDE_PURPOSE,
            family_id=attempt_id,
            unsigned=unsigned.data,
            payments=(
                PlannedPayment(
                    asset=row.asset,
                    address=row.address,
                    key=row.address_key,
                    amount_minor=row.amount_minor,
                ),
            ),
            fee_cap_minor=unsigned.fee_minor,
            inputs=tuple(item.coin.outpoint for item in plan.coins),
            change=()
            if change is None
            else tuple(
                ChangeOutput(vout=vout, address_id=change.id, amount_minor=plan.change_minor)
                for vout in unsigned.change_outputs
            ),
            expected_txid=progress.txid,
        )

    async def _places(self, uow: Uow, receive: AddressRow) -> dict[UUID, AddressRow]:
        """The addresses of the wallet that is configured now; those of an older one have another
        descriptor, and are emptied by its owners."""
        rows = await addresses.by_role(uow, network=self._lane.network, roles=(AddressRole.COLD,))
        return {row.id: row for row in rows if row.account == receive.account}

    async def _select(
        self, uow: Uow, row: RebalanceRow, descriptor: str, free: list[CoinRow]
    ) -> Selection:
        lane = self._lane
        policy = lane.registry.policy.fees[lane.network]
        quote = await funds.current_quote(lane, uow)
        size = registry.cold_size(lane.spec, descriptor)
        change_key = free[0].key if free else row.address_key

        def size_of(*, inputs: int, has_change: bool) -> int:
            outputs = [row.address_key, change_key] if has_change else [row.address_key]
            return size(inputs, outputs)

        terms = Terms(
            payments_minor=row.amount_minor,
            rate_sat_per_kvb=fee_policy.utxo_rate(
                quote, target_blocks=TARGET_BLOCKS, policy=policy
            ),
            change_min_minor=lane.registry.assets[row.asset].dust_minor + 1,
            must_keep_change=False,
        )
        found = select([item.coin() for item in free], terms, size_of=size_of)
        if found is None:
            raise _NotPossible("cold_wallet_short")
        if not fee_policy.fits(found.fee_minor, policy=policy):
            raise _NotPossible(funds.FEE_ABOVE_MAXIMUM)
        if found.fee_minor > await funds.room_beside(lane, uow, family_id=None):
            raise _NotPossible(funds.FEE_CAPITAL)
        return found

    # -- what comes back

    async def _watch_unsigned(self, uow: Uow, row: RebalanceRow, tx: OutgoingRow) -> bool:
        """While people sign: was it sent by them, or are its coins gone?"""
        if tx.raw is not None:
            log.warning("payout.refill_sent_outside", rebalance_id=str(row.id), txid=tx.txid)
            await self._move(uow, row, Trigger.SIGN)
            return True
        if tx.state is OutgoingState.REFUSED:
            await self._move(uow, row, Trigger.UNBUILD, attempt_id=None, txid=None)
            return True
        rivals = await refills_store.spent_coins(uow, tx.id)
        if not rivals:
            return False
        lane = self._lane
        await outgoing.drop_unsigned(uow, attempt_id=tx.id, at=lane.now())
        await self._alarm(uow, row, CONFLICT, f"spent by {', '.join(rivals)}")
        await rebalances.cancel(uow, row, code=CONFLICT, ids=lane.ids, at=lane.now())
        return True

    async def _take_over(self, uow: Uow, row: RebalanceRow, tx: OutgoingRow) -> bool:
        """The signatures are whole: the plan's own tx may be sent. All is looked at again here,
        since the process that took the file has no say over what is sent."""
        lane = self._lane
        paid = tx.payments[0]
        if not await self._is_hot(uow, paid.address, paid.key):
            raise BrokenAttempt(f"attempt {tx.id} does not pay a hot address of ours")
        signatures = await refills_store.of_attempt(uow, tx.id)
        progress = registry.cold_progress(lane.spec, unsigned=tx.unsigned, signatures=signatures)
        if progress.raw is None:
            raise BrokenAttempt(f"rebalance {row.id} is signed, and its signatures are not whole")
        registry.cold_signatures(lane.spec, unsigned=tx.unsigned, upload=progress.raw)
        await outgoing.mark_signed(
            uow, attempt_id=tx.id, raw=progress.raw, txid=progress.txid, at=lane.now()
        )
        log.info(
            "payout.refill_signed",
            network=lane.network,
            rebalance_id=str(row.id),
            attempt_id=str(tx.id),
            txid=progress.txid,
        )
        return True

    async def _end(self, uow: Uow, row: RebalanceRow, tx: OutgoingRow) -> bool:
        if tx.state is OutgoingState.FINAL:
            await self._move(uow, row, Trigger.CONFIRM)
            await attempts.clear(self._lane, uow, FAILED, objects=[row.id])
            return True
        if tx.state is OutgoingState.REPLACED:
            await self._alarm(uow, row, FAILED, f"{tx.txid} lost to {tx.conflict_txid}")
            await self._move(uow, row, Trigger.FAIL, code="coins_spent")
            return True
        return False

    async def _refuse(self, uow: Uow, row: RebalanceRow, code: str) -> None:
        await self._alarm(uow, row, FAILED, code)
        await self._move(uow, row, Trigger.REFUSE, code=code)

    async def _alarm(self, uow: Uow, row: RebalanceRow, kind: str, detail: str) -> None:
        log.warning(f"payout.{kind}", rebalance_id=str(row.id), detail=detail)
        await attempts.alarm(self._lane, uow, kind, f"{row.asset}: {detail}", object_id=row.id)

    async def _move(
        self, uow: Uow, row: RebalanceRow, trigger: Trigger, **changes: Any
    ) -> RebalanceRow:
        lane = self._lane
        return await rebalances.move(uow, row, trigger, changes, ids=lane.ids, at=lane.now())

    async def _tx(self, uow: Uow, row: RebalanceRow) -> OutgoingRow:
        tx = None
        if row.attempt_id is not None:
            tx = await outgoing.get(uow, row.attempt_id, is_locked=True)
        if tx is None:
            raise BrokenAttempt(f"rebalance {row.id} has no transaction")
        return tx

    async def _is_hot(self, uow: Uow, address: str, key: str) -> bool:
        """Whether it is the hot wallet's, as the signer re-derived it."""
        found = await addresses.by_text(uow, network=self._lane.network, key=key)
        return (
            found is not None
            and found.role is AddressRole.HOT
            and found.is_verified
            and found.address == address
        )

    async def _is_stopped(self, uow: Uow, row: RebalanceRow) -> bool:
        for action in (Action.BUILD, Action.SIGN):
            if await switches.is_stopped(uow, network=row.network, asset=row.asset, action=action):
                return True
        return False


def _is_over(tx: OutgoingRow) -> bool:
    return tx.state in (OutgoingState.FINAL, OutgoingState.REPLACED)


def _cold_coin(coin: Coin, address: AddressRow) -> ColdCoin:
    place = _place(address)
    return ColdCoin(coin=coin, branch=place.branch, index=place.index)


def _place(address: AddressRow) -> ColdPlace:
    """Where in the wallet an address is: its path ends so."""
    _, branch, index = address.path.split("/")
    return ColdPlace(branch=int(branch), index=int(index))
