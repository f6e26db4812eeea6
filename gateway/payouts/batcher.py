"""From queued withdrawals to planned attempts: who rides together, on which coins or nonce.

Owns the planning step. One unit of work commits the reserved coins or nonce, the full unsigned
bytes, the attempt and its members (write, then act). A withdrawal that cannot be paid leaves before
that and never blocks the others (P27). It neither signs nor sends.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TypeAlias
from uuid import UUID

from config.database import Uow
from config.logs import get_logger
from gateway.payouts import (
    approvals,
    attempts,
    companions,
    destinations,
    drafts,
    fee_policy,
    funds,
    question,
    store,
    withdrawals,
)
from gateway.payouts.account_funds import Batch, Single
from gateway.payouts.coin_selection import Selection
from gateway.payouts.context import Lane
from gateway.payouts.errors import BrokenAttempt, FeeAboveCap, FeesUnknown
from gateway.payouts.fee_policy import AccountFee
from gateway.payouts.funds import UtxoFunds
from gateway.payouts.refusals import PAYOUT_BROKEN
from gateway.payouts.withdrawals import State, Trigger
from gateway.withdrawals_store import WithdrawalRow
from ledger.errors import StaleState
from signer.protocol import Authorisation, Purpose
from watchers import addresses, coins, deposit_commands, nonces, outgoing, outgoing_lots, switches
from watchers.addresses import AddressRow
from watchers.chain import Coin, Unsigned
from watchers.errors import CoinTaken, InvalidAddress
from watchers.outgoing import OutgoingDraft
from watchers.switches import Action

QUEUE_MAX = 500  # withdrawals looked at per cycle
ATTEMPTS_MAX = 50  # groups planned per cycle: the rest waits for the next one
SINGLES_MAX = 500  # payments that ride alone, per cycle: signed and sent before there are more
LOT = 100  # of those in one unit of work

log = get_logger(__name__)

_Planned: TypeAlias = tuple[OutgoingDraft, Sequence[WithdrawalRow], Unsigned]


class Batcher:
    """The planning step of one lane."""

    def __init__(self, lane: Lane) -> None:
        self._lane = lane
        self._has_planned = False  # in this pass
        self._contracts: frozenset[str] = frozenset()  # destinations, as this pass found them

    async def plan(self) -> int:
        """Plan what is due; returns how many attempts. Raises FeesUnknown, FeeAboveCap."""
        async with self._lane.database.unit_of_work() as uow:
            queued = await store.in_state(
                uow, network=self._lane.network, state=State.QUEUED, limit=QUEUE_MAX
            )
            has_contract = (
                self._lane.is_account_based
                and await addresses.batch_contract(uow, network=self._lane.network) is not None
            )
            rates = None if self._lane.is_account_based else await self._rates(uow)
        is_alone = self._lane.is_account_based and not has_contract
        queued = [row for row in queued if row.deposit_id is None]  # refunds: `refund_step.py`
        queued = queued[:SINGLES_MAX] if is_alone else queued
        self._contracts = await destinations.contracts_among(self._lane, queued)
        found = companions.groups(
            queued,
            is_alone=is_alone,
            settings=self._lane.registry.settings.payouts,
            now=self._lane.now(),
            rates=rates,
        )
        if is_alone:  # one tx each, and one unit of work for many
            alone = [item for ids in found for item in ids]
            found = [alone[at : at + LOT] for at in range(0, len(alone), LOT)]
        planned = 0
        self._has_planned = False
        for ids in found[:ATTEMPTS_MAX]:
            try:
                count = await self._group(ids)
            except CoinTaken as error:  # another planner was quicker: select again next cycle
                log.warning("payout.coin_taken", network=self._lane.network, detail=str(error))
                continue
            planned += count
            if count:
                self._lane.crash("payout.planned")
        return planned

    async def _group(self, ids: Sequence[UUID]) -> int:
        try:
            planned = await self._lane.run(partial(self._plan_group, ids=ids))
        except (StaleState, BrokenAttempt) as error:
            if len(ids) > 1:
                half = len(ids) // 2  # one of them: by halves, so that it stops nobody else
                return await self._group(ids[:half]) + await self._group(ids[half:])
            log.warning("payout.not_planned", withdrawal_id=str(ids[0]), detail=str(error))
            if isinstance(error, BrokenAttempt):
                await self._lane.run(partial(self._broken, ids=ids, detail=str(error)))
            return 0
        self._has_planned = self._has_planned or planned > 0
        return planned

    async def _broken(self, uow: Uow, *, ids: Sequence[UUID], detail: str) -> None:
        for row in await store.by_ids(uow, ids, lock=True):
            if row.state == State.QUEUED:
                await attempts.hold(self._lane, uow, row, code=PAYOUT_BROKEN, detail=detail)

    async def _rates(self, uow: Uow) -> dict[str, int] | None:
        """What each class pays now, sat per kvB; None while nobody knows (it is said later)."""
        policy = self._lane.registry.policy
        try:
            quote = await funds.current_quote(self._lane, uow)
            return {
                name: fee_policy.utxo_rate(
                    quote,
                    target_blocks=item.inclusion_blocks[self._lane.spec.family],
                    policy=policy.fees[self._lane.network],
                )
                for name, item in policy.classes.items()
            }
        except (FeesUnknown, FeeAboveCap):
            return None

    async def _plan_group(self, uow: Uow, *, ids: Sequence[UUID]) -> int:
        # What may not be signed is not built either: it would come back every minute.
        network = self._lane.network
        no_build = await switches.stopped(uow, network=network, action=Action.BUILD)
        no_sign = await switches.stopped(uow, network=network, action=Action.SIGN)
        queued = [
            row
            for row in await store.by_ids(uow, ids, lock=True)
            if row.state == State.QUEUED
            and not (no_build.covers(row.asset) or no_sign.covers(row.asset))
        ]
        lost = await deposit_commands.orphaned_of(uow, [(r.brand, r.player_id) for r in queued])
        known = await store.with_request(uow, [row.id for row in queued])
        rows = [row for row in queued if await self._may_ride(uow, row, lost, known)]
        rows.sort(key=lambda row: (row.promise_at, row.id))
        if not rows:
            return 0
        if self._lane.is_account_based:
            return await self._plan_accounts(uow, rows)
        return int(await self._plan_utxo(uow, rows))

    async def _may_ride(
        self,
        uow: Uow,
        row: WithdrawalRow,
        lost: Mapping[tuple[str, str], frozenset[UUID]],
        known: Collection[UUID],
    ) -> bool:
        """False after moving a row that cannot be paid out of the queue. `known`: whose signed
        request is stored."""
        lane = self._lane
        if row.id not in known:
            detail = "its signed request is not stored any more"
            await attempts.hold(lane, uow, row, code=question.REQUEST_LOST, detail=detail)
            return False
        if row.txid is not None:
            return await self._may_ride_again(uow, row)
        if row.valid_until <= lane.now():
            await attempts.expire(lane, uow, row)
            return False
        if not lost.get((row.brand, row.player_id), frozenset()) <= set(row.orphaned_known):
            await attempts.move(lane, uow, row, Trigger.DEPOSIT_ORPHANED, code="deposit_orphaned")
            return False
        if await destinations.is_held(lane, uow, row, self._contracts):
            return False
        problem = self._unpayable(row)
        if problem is not None:
            await withdrawals.give_up(
                uow, row, Trigger.DECLINE, ids=lane.ids, at=lane.now(), code="address_refused"
            )
            await attempts.alarm(lane, uow, "payout_unpayable", problem, object_id=row.id)
            return False
        return True

    async def _may_ride_again(self, uow: Uow, row: WithdrawalRow) -> bool:
        """A reissue: it was signed once, so that only two people end it; no clock and no deposit
        stops what they signed."""
        problem = self._unpayable(row)
        if problem is not None:
            await attempts.move(self._lane, uow, row, Trigger.HOLD, code="address_refused")
            await attempts.alarm(self._lane, uow, "payout_unpayable", problem, object_id=row.id)
        return problem is None

    def _unpayable(self, row: WithdrawalRow) -> str | None:
        """Why the builder cannot pay this (accepted once, refused now), or None.

        Whether the row is still what the client signed is not asked here: only the signer's answer
        to that counts (S01), and its refusal leaves the row on hold with an alarm.
        """
        try:
            self._lane.chain.codec.parse(row.address)
        except InvalidAddress as error:
            return error.reason
        if row.output_minor <= self._lane.registry.assets[row.asset].dust_minor:
            return "the amount is dust"
        return None

    async def _plan_utxo(self, uow: Uow, rows: Sequence[WithdrawalRow]) -> bool:
        lane = self._lane
        signed = await store.authorisations(uow, [row.id for row in rows])
        draft = await self._draft(uow, question.within_orders(lane, rows, signed))
        people = await approvals.for_payment(uow, [row.id for row in rows])
        while draft is not None and not draft.fits(lane, signed, people):
            # What does not ride now stays queued for the next attempt; the lightest coins for one.
            if len(draft.members) > 1:
                half = draft.members[: (len(draft.members) + 1) // 2]
                draft = await self._draft(uow, half)
            elif not draft.has_fewest_coins:
                draft = await self._draft(uow, draft.members, has_fewest_coins=True)
            else:
                await self._hold(uow, draft.members[0])
                return False
        if draft is None:
            return False
        await coins.reserve(
            uow, attempt_id=draft.id, outpoints=[coin.outpoint for coin in draft.coins]
        )
        await self._commit(uow, draft.outgoing(lane.network), draft.members, draft.unsigned)
        return True

    async def _draft(
        self, uow: Uow, rows: Sequence[WithdrawalRow], *, has_fewest_coins: bool = False
    ) -> "_UtxoDraft | None":
        """Coins and bytes of a tx for what can be admitted; None when that is nothing."""
        lane = self._lane
        account = await funds.load_utxo(lane, uow, has_fewest_coins=has_fewest_coins)
        for row in rows:
            await self._admit(uow, account, row)
        selection, members = account.selection, account.rows
        if selection is None:
            return None
        chosen = sorted(selection.coins, key=lambda c: (c.outpoint.txid, c.outpoint.vout))
        change = None
        if selection.change_minor:
            change = await addresses.own_address(uow, network=lane.network, role="change")
        unsigned = drafts.utxo(
            lane,
            coins=chosen,
            payments=[drafts.planned(row) for row in members],
            change=change,
            change_minor=selection.change_minor,
        )
        if unsigned.fee_minor != selection.fee_minor:
            raise BrokenAttempt(f"built fee {unsigned.fee_minor}, planned {selection.fee_minor}")
        return _UtxoDraft(
            id=lane.ids.new_id(),
            coins=tuple(chosen),
            members=tuple(members),
            selection=selection,
            change=change,
            unsigned=unsigned,
            has_fewest_coins=has_fewest_coins,
        )

    async def _hold(self, uow: Uow, row: WithdrawalRow) -> None:
        """It fits into no question, whatever rides with it: a person's case, nobody else waits."""
        detail = "order and coins are over the signer's frame; consolidate"
        code = question.REQUEST_TOO_LARGE
        await attempts.hold(self._lane, uow, row, code=code, detail=detail)

    async def _plan_accounts(self, uow: Uow, rows: Sequence[WithdrawalRow]) -> int:
        """One tx for those that the contract pays for less gas, one for each of the others."""
        account = await funds.load_account(self._lane, uow)
        fresh = companions.never_signed(rows)
        is_cheaper = bool(fresh) and account.batch_is_cheaper(fresh)
        batch = account.batch(fresh) if is_cheaper else None
        planned = 0
        if batch is not None:
            await self._plan_batch(uow, batch)
            planned = 1
        paid = set() if batch is None else {row.id for row in batch.rows}
        singles: list[tuple[WithdrawalRow, Single]] = []
        for row in rows:
            if row.id in paid:
                continue
            place = account.place(row)
            if isinstance(place, str):
                await self._wait(uow, row, place)
            elif isinstance(place, Batch):  # no lane has it, the contract does
                await self._plan_batch(uow, place)
                planned += 1
            else:
                singles.append((row, place))
        await self._plan_singles(uow, singles)
        return planned + len(singles)

    async def _plan_singles(
        self, uow: Uow, singles: Sequence[tuple[WithdrawalRow, Single]]
    ) -> None:
        """One tx each; the numbers of an account in the order of the promises."""
        lane = self._lane
        by_sender: dict[str, list[tuple[UUID, WithdrawalRow, Single]]] = {}
        for row, place in singles:
            item = (lane.ids.new_id(), row, place)
            by_sender.setdefault(place.sender.key, []).append(item)
        planned: list[_Planned] = []
        for sender, items in sorted(by_sender.items()):  # accounts are locked in one order
            numbers = await nonces.allocate_many(
                uow,
                network=lane.network,
                sender_key=sender,
                attempt_ids=[attempt_id for attempt_id, _, _ in items],
            )
            for (attempt_id, row, place), nonce in zip(items, numbers, strict=True):
                planned.append(
                    self._account_tx(
                        [row],
                        attempt_id=attempt_id,
                        nonce=nonce,
                        sender=place.sender,
                        payer=None,
                        fee=place.fee,
                    )
                )
        await self._commit_many(uow, planned)

    async def _plan_batch(self, uow: Uow, batch: Batch) -> None:
        """One leg each, in order."""
        lane = self._lane
        attempt_id = lane.ids.new_id()
        nonce = await nonces.allocate(
            uow, network=lane.network, sender_key=batch.sender.key, attempt_id=attempt_id
        )
        built = self._account_tx(
            batch.rows,
            attempt_id=attempt_id,
            nonce=nonce,
            sender=batch.sender,
            payer=batch.payer,
            fee=batch.fee,
        )
        await self._commit_many(uow, [built])

    def _account_tx(
        self,
        rows: Sequence[WithdrawalRow],
        *,
        attempt_id: UUID,
        nonce: int,
        sender: AddressRow,
        payer: AddressRow | None,
        fee: AccountFee,
    ) -> _Planned:
        """One nonce: one payment of the sender, or a batch that its contract `payer` pays."""
        payments = tuple(drafts.planned(row) for row in rows)
        unsigned = drafts.account(
            self._lane,
            sender=sender,
            nonce=nonce,
            payments=payments,
            fee=fee,
            batch_of=None if payer is None else attempt_id,
        )
        draft = OutgoingDraft(
            id=attempt_id,
            network=self._lane.network,
            purpose=_purpose(rows).value,
            family_id=attempt_id,
            unsigned=unsigned.data,
            payments=payments,
            fee_cap_minor=unsigned.fee_minor,
            sender_key=sender.key,
            nonce=nonce,
            payer_key=None if payer is None else payer.key,
        )
        return draft, rows, unsigned

    async def _admit(self, uow: Uow, account: UtxoFunds, row: WithdrawalRow) -> bool:
        """Take the row into the plan; smaller ones behind it may still pass (P26)."""
        code = account.admit(row)
        if code is None:
            return True
        if self._has_planned:
            return False  # coins of this cycle went to others, whose change is not signed yet
        await self._wait(uow, row, code)
        return False

    async def _wait(self, uow: Uow, row: WithdrawalRow, code: str) -> None:
        await attempts.move(self._lane, uow, row, Trigger.LIQUIDITY_SHORT, code=code)
        await attempts.alarm(
            self._lane, uow, f"{code}_short", f"{row.asset} payouts wait for {code}"
        )

    async def _commit_many(
        self,
        uow: Uow,
        planned: Sequence[_Planned],
    ) -> None:
        """Attempts of an account chain, which hold no coins."""
        await outgoing_lots.record(uow, [draft for draft, _, _ in planned], at=self._lane.now())
        await self._board(uow, planned)

    async def _commit(
        self, uow: Uow, draft: OutgoingDraft, rows: Sequence[WithdrawalRow], unsigned: Unsigned
    ) -> None:
        await outgoing.record(uow, draft, at=self._lane.now())
        await self._board(uow, [(draft, rows, unsigned)])

    async def _board(
        self,
        uow: Uow,
        planned: Sequence[_Planned],
    ) -> None:
        """Members of recorded attempts: which output each has, and that it is planned."""
        lane = self._lane
        seats = [
            (draft.id, row, index)
            for draft, rows, unsigned in planned
            for row, index in zip(rows, unsigned.payment_outputs, strict=True)
        ]
        if not seats:
            return
        await store.add_seats(uow, [(key, row.id, index) for key, row, index in seats])
        moves = [(row, {"attempt_id": attempt_id, "code": None}) for attempt_id, row, _ in seats]
        await attempts.move_each(lane, uow, moves, Trigger.PLAN)
        for draft, rows, _ in planned:
            log.info(
                "payout.planned",
                network=lane.network,
                attempt_id=str(draft.id),
                members=len(rows),
                fee_cap_minor=str(draft.fee_cap_minor),
            )


@dataclass(frozen=True, slots=True, kw_only=True)
class _UtxoDraft:
    """A tx that is built and not committed. `coins` in the order of its inputs."""

    id: UUID
    coins: tuple[Coin, ...]
    members: tuple[WithdrawalRow, ...]
    selection: Selection
    change: AddressRow | None
    unsigned: Unsigned
    has_fewest_coins: bool

    def fits(
        self,
        lane: Lane,
        signed: Mapping[UUID, Authorisation],
        people: Mapping[UUID, tuple[Authorisation, ...]],
    ) -> bool:
        """Whether the signer can be asked for it; a row without a stored request is its case."""
        if any(row.id not in signed for row in self.members):
            return True
        change = (
            {}
            if self.change is None
            else {index: self.change.path for index in self.unsigned.change_outputs}
        )
        return question.fits(
            question.build(
                lane,
                attempt_id=self.id,
                unsigned=self.unsigned.data,
                input_paths=[coin.path for coin in self.coins],
                change_paths=change,
                outputs=list(zip(self.members, self.unsigned.payment_outputs, strict=True)),
                signed=signed,
                purpose=_purpose(self.members),
                people=people,
            )
        )

    def outgoing(self, network: str) -> OutgoingDraft:
        """As it is recorded."""
        return OutgoingDraft(
            id=self.id,
            network=network,
            purpose=_purpose(self.members).value,
            family_id=self.id,
            unsigned=self.unsigned.data,
            payments=tuple(drafts.planned(row) for row in self.members),
            fee_cap_minor=self.unsigned.fee_minor,
            inputs=tuple(coin.outpoint for coin in self.coins),
            change=drafts.change_of(self.unsigned, self.change, self.selection.change_minor),
        )


def _purpose(rows: Sequence[WithdrawalRow]) -> Purpose:
    """What was signed before goes on in a new family, if two people said so (the signer asks)."""
    is_reissue = any(row.txid is not None for row in rows)
    return Purpose.REISSUE if is_reissue else Purpose.WITHDRAWAL
