"""Sweeps and top-ups that pay too little for the chain of now: the same nonce at a higher fee.

Owns the decision and the plan of such a replacement; `sweep_sending` asks the signer and sends. Of
an account only the lowest nonce is looked at: what is above it waits for it (P15). A top-up and a
token keep their amounts; coin that pays for itself gives more of itself. A token whose gas went to
an earlier tx of its address is given it again. Nobody waits for a sweep,
so what may not cost more just waits, and people hear of it.
"""

from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime
from functools import partial
from typing import Final
from uuid import UUID

from config.database import Uow
from config.logs import get_logger
from gateway.payouts import (
    attempts,
    bump_policy,
    collecting,
    drafts,
    funds,
    gas_station,
    sweep_terms,
)
from gateway.payouts.bump_policy import BUMPS_MAX, Waiting
from gateway.payouts.context import Lane
from gateway.payouts.errors import BrokenAttempt, BumpCapped, FeeAboveCap
from gateway.payouts.fee_policy import BASE_FEE_HEADROOM, AccountFee
from gateway.payouts.same_tx import gas_fields
from gateway.payouts.sweep_terms import Terms
from ledger.errors import StaleState
from signer.protocol import Purpose
from watchers import (
    addresses,
    outgoing,
    outgoing_families,
    sweepable,
    switches,
)
from watchers.addresses import AddressRole, AddressRow
from watchers.chain import Unsigned
from watchers.outgoing import OutgoingDraft, OutgoingRow, OutgoingState, PlannedPayment
from watchers.switches import Action

HEADS_MAX: Final = 200  # accounts looked at in one pass; the next one goes on behind them
TARGET_BLOCKS: Final = 20  # without a block for so long, the quote was wrong

SWEEP_CAPPED: Final = "sweep_bump_capped"
"""Alarm: a sweep or a top-up waits and may not cost more; the next replacement clears it."""

log = get_logger(__name__)


class SweepBumping:
    """The bumping step of one lane's sweeps. Its memory only paces."""

    def __init__(self, lane: Lane, *, page: int = HEADS_MAX) -> None:
        self._lane = lane
        self._page = page
        self._after: UUID | None = None
        self._began: tuple[int, datetime] | None = None  # of the round that stands at `_after`
        self._looked: tuple[int, datetime] | None = None  # of the last whole round

    async def run(self) -> int:
        """A page of a round over all accounts, which begins when a block or a quote came; how many
        replacements were planned. What may not cost more is in the way of nothing behind it.

        Raises FeesUnknown, FeeAboveCap.
        """
        lane = self._lane
        async with lane.database.unit_of_work() as uow:
            height = await outgoing_families.followed_height(uow, network=lane.network)
            heads = [] if height is None else await self._heads(uow, height)
            if height is None or not heads:
                self._end_round()
                return 0
            terms = await sweep_terms.load(lane, uow)
        if self._after is None:
            self._began = (height, terms.sampled_at)
            if self._began == self._looked:
                return 0
        planned = await self._bump(heads, terms, height)
        if len(heads) < self._page:
            self._end_round()
        else:
            self._after = heads[-1].id
        return planned

    def _end_round(self) -> None:
        self._after, self._looked = None, self._began

    async def _bump(self, heads: Sequence[OutgoingRow], terms: Terms, height: int) -> int:
        lane, planned = self._lane, 0
        for tx in heads:
            try:
                planned += await lane.run(
                    partial(self._one, attempt_id=tx.id, terms=terms, height=height)
                )
            except StaleState as error:
                log.info("payout.sweep_stale", network=lane.network, detail=str(error))
            except BumpCapped as error:
                detail = f"{tx.txid} waits: {error}"
                await lane.run(partial(attempts.alarm, lane, kind=SWEEP_CAPPED, detail=detail))
        lane.crash("payout.sweeps_bumped")
        return planned

    async def _heads(self, uow: Uow, height: int) -> list[OutgoingRow]:
        return await sweepable.heads(
            uow,
            network=self._lane.network,
            sent_below=height,
            after=self._after,
            limit=self._page,
        )

    async def _one(self, uow: Uow, *, attempt_id: UUID, terms: Terms, height: int) -> bool:
        """Commit one replacement; False when none is needed (any more). Raises BumpCapped."""
        lane = self._lane
        family = (await sweepable.families(uow, [attempt_id], is_locked=True))[attempt_id]
        (tx,) = (item for item in family if item.id == attempt_id)
        is_open = all(item.height is None for item in family) and tx.conflict_txid is None
        if not is_open or any(item.state is OutgoingState.BUILT for item in family):
            return False
        if any((item.planned_height or 0) >= height for item in family):
            return False  # one per block
        for action in (Action.SWEEP, Action.SIGN):
            if await switches.is_stopped(
                uow, network=lane.network, asset=tx.payments[0].asset, action=action
            ):
                return False
        signed = [item for item in family if item.raw is not None]
        if await self._lacks_gas(uow, tx, signed):
            return await self._top_up(uow, tx, signed, terms)
        rate = bump_policy.wanted_rate(_waiting(tx, signed, terms, height))
        if rate is None:
            return False
        if len(signed) > BUMPS_MAX:
            raise BumpCapped(f"{len(signed) - 1} bumps")
        sender = await self._sender(uow, tx)
        await self._commit(uow, tx, signed, sender, terms, rate=rate, height=height)
        await attempts.clear(lane, uow, SWEEP_CAPPED)
        return True

    async def _lacks_gas(self, uow: Uow, tx: OutgoingRow, signed: Sequence[OutgoingRow]) -> bool:
        """Whether no node takes a token's sweep: its address holds less than it may cost."""
        is_token = tx.payments[0].asset != self._lane.spec.native_asset
        if tx.purpose != Purpose.SWEEP or not is_token:
            return False
        sender = await self._sender(uow, tx)
        return await self._room(uow, tx, signed, sender) < tx.fee_cap_minor

    async def _top_up(
        self, uow: Uow, tx: OutgoingRow, signed: Sequence[OutgoingRow], terms: Terms
    ) -> bool:
        """What it lacks, once; False while that is on its way, or too dear, or people stopped it.

        Raises BumpCapped, PoolEmpty.
        """
        lane, sender = self._lane, await self._sender(uow, tx)
        native = lane.spec.native_asset
        for action in (Action.SWEEP, Action.SIGN):
            if await switches.is_stopped(uow, network=lane.network, asset=native, action=action):
                return False
        if terms.is_too_dear(lane.network) or await sweepable.is_gas_coming(
            uow, network=lane.network, key=sender.key
        ):
            return False
        missing = tx.fee_cap_minor - max(await self._room(uow, tx, signed, sender), 0)
        try:
            return await gas_station.again(lane, uow, terms, to=sender, missing_minor=missing)
        except FeeAboveCap as error:
            raise BumpCapped(f"its gas: {error}") from error

    async def _sender(self, uow: Uow, tx: OutgoingRow) -> AddressRow:
        sender = await addresses.by_text(uow, network=self._lane.network, key=tx.sender_key or "")
        if sender is None:
            raise BrokenAttempt(f"attempt {tx.id}: the sender is no address of ours")
        return sender

    async def _commit(
        self,
        uow: Uow,
        tx: OutgoingRow,
        signed: Sequence[OutgoingRow],
        sender: AddressRow,
        terms: Terms,
        *,
        rate: int,
        height: int,
    ) -> None:
        lane = self._lane
        payments, payment = tx.payments, tx.payments[0]
        gives_itself = tx.purpose == Purpose.SWEEP and payment.asset == lane.spec.native_asset
        room = await self._room(uow, tx, signed, sender)
        fee = self._fee(terms, signed, rate=rate, room=room)
        if gives_itself:
            left = min(payment.amount_minor, room - fee.cap_minor)
            if left <= 0:
                raise BumpCapped("its fee would be all that it moves")
            payments = (replace(payment, amount_minor=left),)
        unsigned = await self._build(uow, tx, sender, payments, fee)
        draft = OutgoingDraft(
            id=lane.ids.new_id(),
            network=lane.network,
            purpose=tx.purpose,
            family_id=tx.family_id,
            unsigned=unsigned.data,
            payments=payments,
            fee_cap_minor=unsigned.fee_minor,
            sender_key=tx.sender_key,
            nonce=tx.nonce,
            family_number=signed[-1].family_number + 1,
            replaces_id=signed[-1].id,
            planned_height=height,
        )
        await outgoing.record(uow, draft, at=lane.now())
        log.info(
            "payout.sweep_bump_planned",
            network=lane.network,
            attempt_id=str(draft.id),
            replaces=str(draft.replaces_id),
            fee_cap_minor=str(draft.fee_cap_minor),
        )

    async def _build(
        self,
        uow: Uow,
        tx: OutgoingRow,
        sender: AddressRow,
        payments: Sequence[PlannedPayment],
        fee: AccountFee,
    ) -> Unsigned:
        """The same number and, but for what coin gives of itself, the same payments."""
        if tx.purpose != Purpose.COLLECT:
            return drafts.account(
                self._lane,
                sender=sender,
                nonce=tx.nonce or 0,
                payments=payments,
                fee=fee,
                batch_of=None,
            )
        keys = {sender.key, *(item.from_key or "" for item in payments)}
        own = await addresses.by_keys(uow, network=self._lane.network, keys=sorted(keys))
        return collecting.rebuilt(self._lane, tx, own, fee)

    async def _room(
        self, uow: Uow, tx: OutgoingRow, signed: Sequence[OutgoingRow], sender: AddressRow
    ) -> int:
        """What its account may spend on the fee of this nonce; of coin that gives itself, all."""
        lane, native = self._lane, self._lane.spec.native_asset
        if sender.role is AddressRole.DEPOSIT:
            held = await sweepable.native(
                uow, network=lane.network, asset=native, keys=[sender.key]
            )
            later = await sweepable.unassigned(
                uow, network=lane.network, asset=native, address_ids=[sender.id]
            )
            return held[sender.key] - later.get(sender.id, 0)
        dearest = max(item.fee_cap_minor for item in signed)
        if sender.role is AddressRole.HOT:
            return await funds.room_beside(lane, uow, family_id=tx.family_id) + dearest
        free = await sweepable.free(uow, network=lane.network, key=sender.key, asset=native)
        return free + dearest

    def _fee(
        self, terms: Terms, signed: Sequence[OutgoingRow], *, rate: int, room: int
    ) -> AccountFee:
        fields = [gas_fields(item.unsigned) for item in signed]
        highest = AccountFee(
            max_fee_per_gas=max(item[0] for item in fields),
            max_priority_fee_per_gas=max(item[1] for item in fields),
            gas_limit=fields[-1][2],
        )
        policy, gas = terms.fee_policy, highest.gas_limit
        bounds = [policy.rate_cap, policy.fee_per_tx_max_minor // gas, room // gas]
        most = terms.gas_rule(self._lane.network).rate_max
        bounds += [] if most is None else [most]
        fee = bump_policy.replacement_gas(
            highest=highest,
            wanted=rate,
            base_fee=max(terms.quote.base_fee, 0),
            headroom=BASE_FEE_HEADROOM,
            most_per_gas=min(bounds),
        )
        if fee is None or fee.max_fee_per_gas < terms.quote.base_fee:  # no block could take it
            raise BumpCapped(f"{rate} wei per gas is over {min(bounds)}")
        return fee


def _waiting(tx: OutgoingRow, signed: Sequence[OutgoingRow], terms: Terms, height: int) -> Waiting:
    max_fee, tip, _ = gas_fields(tx.unsigned)
    sent = [item.broadcast_height for item in signed if item.broadcast_height is not None]
    return Waiting(
        rate=min(max_fee, max(terms.quote.base_fee, 0) + tip),
        quote=terms.quote,
        target_blocks=TARGET_BLOCKS,
        waited=height - (tx.broadcast_height or height),
        family_waited=height - min(sent, default=height),
        is_fee_refused=False,
    )
