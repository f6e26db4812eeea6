"""The tx of a set-up of the batch contract: built, signed, followed (CONTRACT 8, docs/adr/0027).

Owns `approved` to `done`. It takes a nonce of hot lane 0 as a payout does and asks the signer with
what both people signed; the broadcaster sends it and `own_moves` books its fee, as of other own
moves. Value moves inside hot custody and is no posting. A late one is bumped at its nonce, since
lane 0 waits behind it.
"""

from asyncio import timeout
from collections.abc import Sequence
from enum import Enum, auto
from functools import partial
from typing import Any, Final
from uuid import UUID

from config.database import Uow
from config.logs import get_logger
from gateway.payouts import asking, attempts, ends, funds, move_bumps, setups
from gateway.payouts import setups_store as store
from gateway.payouts.account_funds import Single
from gateway.payouts.bump_build import Write
from gateway.payouts.context import Lane
from gateway.payouts.errors import BrokenAttempt, BumpCapped
from gateway.payouts.fee_policy import AccountFee
from gateway.payouts.nonce_order import NonceOrder
from gateway.payouts.refusals import KNOWS_MORE, SIGNER_KNOWS_MORE
from gateway.payouts.setups import SetupAction, State, Trigger, Words
from gateway.payouts.setups_store import SetupRow
from signer.protocol import Purpose, Refusal, SignedTx, SignRequest
from watchers import addresses, nonces, outgoing, outgoing_families, switches
from watchers.addresses import AddressRow
from watchers.chain import ContractPlan, Pay, Unsigned
from watchers.nonces import Below
from watchers.outgoing import OutgoingDraft, OutgoingRow, OutgoingState, PlannedPayment
from watchers.switches import Action

# A creation uses some 600,000 (signer/contract_setup.py allows 1,500,000). A withdrawal has room
# for the token behind it; what is not used is not paid.
DEPLOY_GAS_LIMIT: Final = 900_000
WITHDRAW_GAS_LIMIT: Final = 150_000
TARGET_BLOCKS: Final = 1
LOOK_SECONDS: Final = 30.0  # one question to a node
FOLLOWED_MAX: Final = 20  # in one pass; a network has one on its way

FAILED: Final = "contract_setup_failed"
"""Alarm: what two people wanted of the batch contract did not come about; by set-up."""

REFERENCE_USED: Final = "already_paid"  # signer.errors.RefusalCode
_GONE: Final = (OutgoingState.REVERTED, OutgoingState.REPLACED)

log = get_logger(__name__)


class _Gate(Enum):
    """How a planned set-up left the gate."""

    OPEN = auto()
    """`sign_requested_at` is committed: ask."""
    SHUT = auto()
    """Not now, or signed already."""
    LATE = auto()
    """Its nonce has a free one below it, or its fee is of another hour: built anew, unless it was
    signed."""


class SetupStep:
    """The set-ups of one lane."""

    def __init__(self, lane: Lane) -> None:
        self._lane = lane

    async def follow(self) -> None:
        """Go on by what the chain shows. Raises NodeUnavailable."""
        lane = self._lane
        if not lane.is_account_based:
            return
        async with lane.database.unit_of_work() as uow:
            found = await store.disagreeing(uow, network=lane.network, limit=FOLLOWED_MAX)
        for setup_id in found:
            async with lane.database.unit_of_work() as uow:
                row, family = await self._read(uow, setup_id, is_locked=False)
            contract = await self._created(row, ends.ended(_signed(family)))
            seen = [tx.version for tx in family]
            work = partial(self._follow, setup_id=setup_id, seen=seen, contract=contract)
            if await lane.run(work):
                lane.crash("payout.setup_moved")

    async def run(self) -> bool:
        """Plan, sign and make dearer; whether something was signed. Raises SignerUnavailable,
        FeesUnknown, FeeAboveCap."""
        lane = self._lane
        if not lane.is_account_based:
            return False
        async with lane.database.unit_of_work() as uow:
            row = await store.open_of(uow, network=lane.network)
        if row is None or row.state == State.PROPOSED:
            return False
        await lane.signer.head()  # without a signer nothing takes a nonce (S21)
        if row.state == State.APPROVED:
            if not await lane.run(partial(self._plan, setup_id=row.id)):
                return False
            lane.crash("payout.setup_planned")
        elif row.state != State.PLANNED and await lane.run(partial(self._bump, setup_id=row.id)):
            lane.crash("payout.setup_bumped")
        return await self._sign(row.id)

    async def _plan(self, uow: Uow, *, setup_id: UUID) -> bool:
        lane = self._lane
        row = await store.get(uow, setup_id, lock=True)
        if row is None or row.state != State.APPROVED or await self._is_stopped(uow, row):
            return False
        if not await setups.is_signed_by_two(uow, row):
            await self._fail(uow, row, Trigger.REFUSE, "person_left")
            return False
        contract = await addresses.batch_contract(uow, network=lane.network)
        action = SetupAction(row.action)
        if contract is not None and contract.key != lane.spec.batch_contract:
            contract = None
        if (contract is None) != (action is SetupAction.DEPLOY):
            await self._fail(
                uow, row, Trigger.REFUSE, "contract_there" if contract else "no_contract"
            )
            return False
        place = (await funds.load_account(lane, uow)).of_setup(
            asset=row.asset or lane.spec.native_asset,
            amount_minor=row.amount_minor or 0,
            is_back=action is SetupAction.WITHDRAW,
            gas_limit=self._gas_limit(row),
            blocks=TARGET_BLOCKS,
        )
        if isinstance(place, str):
            await self._fail(uow, row, Trigger.REFUSE, place)
            return False
        await self._commit(uow, row, place, contract)
        return True

    def _gas_limit(self, row: SetupRow) -> int:
        match SetupAction(row.action):
            case SetupAction.DEPLOY:
                return DEPLOY_GAS_LIMIT
            case SetupAction.WITHDRAW:
                return WITHDRAW_GAS_LIMIT
            case SetupAction.FUND:
                asset = row.asset or self._lane.spec.native_asset
                return self._lane.chain.writer.gas_limit(asset)

    async def _commit(
        self, uow: Uow, row: SetupRow, place: Single, contract: AddressRow | None
    ) -> None:
        """Nonce, bytes and state, in the unit of work of the caller (write, then act)."""
        lane, attempt_id = self._lane, self._lane.ids.new_id()
        nonce = await nonces.allocate(
            uow, network=lane.network, sender_key=place.sender.key, attempt_id=attempt_id
        )
        payments = payments_of(row, owner=place.sender, contract=contract)
        is_back = row.action == SetupAction.WITHDRAW
        draft = OutgoingDraft(
            id=attempt_id,
            network=lane.network,
            purpose=Purpose.CONTRACT_SETUP.value,
            family_id=attempt_id,
            unsigned=self._write(row, payments)(place.sender, place.fee, nonce).data,
            payments=payments,
            fee_cap_minor=place.fee.cap_minor,
            sender_key=place.sender.key,
            nonce=nonce,
            payer_key=contract.key if is_back and contract is not None else None,
        )
        await outgoing.record(uow, draft, at=lane.now())
        changes = {"attempt_id": attempt_id, "sign_requested_at": None}
        await setups.move(uow, row, Trigger.PLAN, changes, at=lane.now())
        log.info(
            "payout.setup_planned",
            network=lane.network,
            setup_id=str(row.id),
            attempt_id=str(attempt_id),
            action=row.action,
            fee_cap_minor=str(draft.fee_cap_minor),
        )

    def _write(self, row: SetupRow, payments: tuple[PlannedPayment, ...]) -> Write:
        """How its call is built, at any fee."""
        pays = [
            Pay(asset=item.asset, address=item.address, amount_minor=item.amount_minor)
            for item in payments
        ]

        def write(sender: AddressRow, fee: AccountFee, nonce: int) -> Unsigned:
            return self._lane.chain.writer.build(
                ContractPlan(
                    sender=sender.derived(),
                    nonce=nonce,
                    pay=pays[0] if pays else None,
                    is_back=row.action == SetupAction.WITHDRAW,
                    gas_limit=fee.gas_limit,
                    max_fee_per_gas=fee.max_fee_per_gas,
                    max_priority_fee_per_gas=fee.max_priority_fee_per_gas,
                )
            )

        return write

    async def _bump(self, uow: Uow, *, setup_id: UUID) -> bool:
        """Build a further attempt of a late one; False while it need not be, or may not."""
        lane = self._lane
        row, family = await self._read(uow, setup_id)
        if row.state not in (State.SIGNED, State.SENT) or await self._is_stopped(uow, row):
            return False
        newest = family[-1]
        is_free = all(tx.height is None and tx.conflict_txid is None for tx in family)
        if newest.state is OutgoingState.BUILT or not is_free:
            return False
        write = self._write(row, newest.payments)
        try:
            draft = await move_bumps.dearer(
                lane, uow, family, for_id=row.id, target_blocks=TARGET_BLOCKS, write=write
            )
        except BumpCapped as error:
            log.info("payout.setup_capped", setup_id=str(row.id), detail=str(error))
            return False
        if draft is None:
            return False
        await outgoing.record(uow, draft, at=lane.now())
        log.info("payout.setup_bumped", setup_id=str(row.id), attempt_id=str(draft.id))
        return True

    async def _sign(self, setup_id: UUID) -> bool:
        """Gate, question, answer. What the signer may have signed is never dropped unasked."""
        lane = self._lane
        gate, attempt_id = await lane.run(partial(self._gate, setup_id=setup_id))
        if gate is _Gate.SHUT or attempt_id is None:
            return False
        lane.crash("payout.setup_asked")
        async with lane.database.unit_of_work() as uow:
            row, family = await self._read(uow, setup_id, is_locked=False)
            (tx,) = (item for item in family if item.id == attempt_id)
            request = await self._question(uow, row, tx)
        answer = await asking.answer_of(
            lane, request, is_asked=gate is _Gate.OPEN, crash="payout.setup_answered"
        )
        if isinstance(answer, SignedTx):
            store_it = partial(self._store, answer=answer)
            await lane.run(partial(store_it, setup_id=setup_id, attempt_id=attempt_id))
            lane.crash("payout.setup_signed")
            return True
        drop = partial(self._not_signed, refusal=answer)
        await lane.run(partial(drop, setup_id=setup_id, attempt_id=attempt_id))
        lane.crash("payout.setup_refused")
        return False

    async def _gate(self, uow: Uow, *, setup_id: UUID) -> tuple[_Gate, UUID | None]:
        lane = self._lane
        row, family = await self._read(uow, setup_id)
        tx = family[-1]
        if tx.state is not OutgoingState.BUILT:
            return _Gate.SHUT, None
        below = Below.CLEAR
        if tx.replaces_id is None:
            sender = tx.sender_key or ""
            unsigned = await nonces.unsigned(uow, network=lane.network, sender_keys=[sender])
            below = NonceOrder(unsigned).below(tx)
        age_seconds = (lane.now() - tx.created_at).total_seconds()
        is_late = age_seconds > lane.registry.policy.limits.planned_seconds
        if below is Below.FREE or is_late or any(item.height is not None for item in family):
            return _Gate.LATE, tx.id
        if below is Below.UNSIGNED or await self._is_stopped(uow, row):
            return _Gate.SHUT, None
        await store.ask(uow, row.id, at=lane.now())
        return _Gate.OPEN, tx.id

    async def _question(self, uow: Uow, row: SetupRow, tx: OutgoingRow) -> SignRequest:
        """From committed rows only: the same after every crash."""
        sender = await addresses.by_text(uow, network=tx.network, key=tx.sender_key or "")
        if sender is None:
            raise BrokenAttempt(f"attempt {tx.id}: its sender is no address of ours")
        return SignRequest(
            attempt_id=str(tx.id),
            purpose=Purpose.CONTRACT_SETUP,
            network=tx.network,
            worker_epoch=self._lane.lease.fence,
            unsigned=tx.unsigned,
            input_paths=(sender.path,),
            change_paths={},
            payments=(),
            replaces=None if tx.replaces_id is None else str(tx.replaces_id),
            approvals=tuple(item.signed for item in await store.requests(uow, row.id)),
        )

    async def _store(self, uow: Uow, *, setup_id: UUID, attempt_id: UUID, answer: SignedTx) -> None:
        """Signed bytes and txid, before anything is sent."""
        lane = self._lane
        row, family = await self._read(uow, setup_id)
        await outgoing.mark_signed(
            uow, attempt_id=attempt_id, raw=answer.raw, txid=answer.txid, at=lane.now()
        )
        for tx in family:
            if tx.height is not None:
                await outgoing_families.note_winner(
                    uow, attempt_id=attempt_id, winner=tx, at=lane.now()
                )
        is_first = row.state == State.PLANNED
        changes = {"attempt_id": attempt_id, "txid": answer.txid}
        if is_first or row.state in (State.SIGNED, State.SENT):
            trigger = Trigger.SIGN if is_first else Trigger.REPLACE
            await setups.move(uow, row, trigger, changes, at=lane.now())
        await attempts.clear(lane, uow, "payout_fee_too_low", objects=[tx.id for tx in family])
        log.info(
            "payout.setup_signed",
            network=lane.network,
            setup_id=str(row.id),
            attempt_id=str(attempt_id),
            txid=answer.txid,
            log_sequence=answer.log_sequence,
        )

    async def _not_signed(
        self, uow: Uow, *, setup_id: UUID, attempt_id: UUID, refusal: Refusal | None
    ) -> None:
        """A refusal ends a first attempt: also that another tx was signed for its reference, in
        books that were lost. A further one is dropped, and the earlier ones go on. Where the signer
        knows more, all stays for people to look."""
        lane = self._lane
        row, family = await self._read(uow, setup_id)
        is_further = any(tx.raw is not None for tx in family)
        stays = KNOWS_MORE if is_further else KNOWS_MORE - {REFERENCE_USED}
        if refusal is not None and refusal.code in stays:
            detail = f"attempt {attempt_id}: {refusal.code}: {refusal.reason}"
            await attempts.alarm(lane, uow, SIGNER_KNOWS_MORE, detail)
            return
        await outgoing.drop_unsigned(uow, attempt_id=attempt_id, at=lane.now())
        if refusal is not None:
            log.warning("payout.setup_refused", setup_id=str(row.id), reason=refusal.reason)
        if is_further:
            return
        if refusal is None:
            await self._unplan(uow, row)
        else:
            await self._fail(uow, row, Trigger.REFUSE, refusal.code)

    async def _unplan(self, uow: Uow, row: SetupRow) -> None:
        changes = {"attempt_id": None, "sign_requested_at": None}
        await setups.move(uow, row, Trigger.UNPLAN, changes, at=self._lane.now())

    async def _fail(
        self,
        uow: Uow,
        row: SetupRow,
        trigger: Trigger,
        code: str,
        changes: dict[str, Any] | None = None,
    ) -> SetupRow:
        await attempts.alarm(
            self._lane, uow, FAILED, f"{row.action} {row.reference}: {code}", object_id=row.id
        )
        changes = {**(changes or {}), "code": code}
        return await setups.move(uow, row, trigger, changes, at=self._lane.now())

    async def _created(self, row: SetupRow, tx: OutgoingRow | None) -> str | None:
        """Of a final deployment: our contract, as its block shows it."""
        if tx is None or tx.state is not OutgoingState.FINAL or tx.block_hash is None:
            return None
        if row.action != SetupAction.DEPLOY:
            return None
        if tx.sender_key is None or tx.nonce is None:
            raise BrokenAttempt(f"attempt {tx.id} has no account")
        async with timeout(LOOK_SECONDS):
            return await self._lane.chain.reader.created_batch(
                creator=tx.sender_key, nonce=tx.nonce, block_hash=tx.block_hash
            )

    async def _follow(
        self, uow: Uow, *, setup_id: UUID, seen: list[int], contract: str | None
    ) -> bool:
        lane = self._lane
        row, family = await self._read(uow, setup_id)
        if [tx.version for tx in family] != seen:  # a block came or went: the next pass looks again
            return False
        signed = _signed(family)
        if row.state == State.PLANNED:
            if signed or any(tx.state is not OutgoingState.REFUSED for tx in family):
                return False
            await self._unplan(uow, row)  # a recovery took it apart
            return True
        if row.state in (State.DONE, State.FAILED):
            is_done = row.state == State.DONE
            if not signed or ends.says_so(
                signed, is_done=is_done, code=row.code, attempt_id=row.attempt_id
            ):
                return False
            changes: dict[str, Any] = {"code": None, "contract": None}
            await setups.move(uow, row, Trigger.REOPEN, changes, at=lane.now())
            return True
        before = row.state
        if before == State.SIGNED and any(tx.state is not OutgoingState.SIGNED for tx in signed):
            row = await setups.move(uow, row, Trigger.SEND, {}, at=lane.now())
        ended = ends.ended(signed)
        if row.state != State.SENT or ended is None:
            return row.state != before
        await self._end(uow, row, ended, contract)
        return True

    async def _end(self, uow: Uow, row: SetupRow, tx: OutgoingRow, contract: str | None) -> None:
        """By evidence, never by intent (P29)."""
        changes: dict[str, Any] = {"attempt_id": tx.id, "txid": tx.txid}
        if tx.state in _GONE:
            code = ends.REVERTED if tx.state is OutgoingState.REVERTED else "nonce_taken"
        elif row.action == SetupAction.DEPLOY:
            code = "" if contract is not None else ends.NOT_OURS
        else:
            planned = sorted((item.asset, item.key, item.amount_minor) for item in tx.payments)
            moved = sorted((item.asset, item.key, item.amount_minor) for item in tx.moved)
            code = "" if moved == planned else ends.DIFFERENT
        if code:
            await self._fail(uow, row, Trigger.FAIL, code, changes)
            return
        lane = self._lane
        changes |= {} if contract is None else {"contract": contract}
        await setups.move(uow, row, Trigger.CONFIRM, changes, at=lane.now())
        await attempts.clear(lane, uow, FAILED, objects=[row.id])
        log.info(
            "payout.setup_done",
            network=lane.network,
            setup_id=str(row.id),
            txid=tx.txid,
            contract=contract,
        )

    async def _is_stopped(self, uow: Uow, row: SetupRow) -> bool:
        asset = row.asset or self._lane.spec.native_asset
        for action in (Action.BUILD, Action.SIGN):
            if await switches.is_stopped(
                uow, network=self._lane.network, asset=asset, action=action
            ):
                return True
        return False

    async def _read(
        self, uow: Uow, setup_id: UUID, *, is_locked: bool = True
    ) -> tuple[SetupRow, list[OutgoingRow]]:
        """The set-up and every attempt of its family, the newest last, locked in this order."""
        row = await store.get(uow, setup_id, lock=is_locked)
        if row is None or row.attempt_id is None:
            raise BrokenAttempt(f"set-up {setup_id} has no attempt")
        tx = await outgoing.get(uow, row.attempt_id)
        if tx is None:
            raise BrokenAttempt(f"set-up {setup_id} has no transaction")
        if is_locked:
            return row, await outgoing_families.locked(uow, tx.family_id)
        return row, await outgoing.family(uow, tx.family_id)


def _signed(family: Sequence[OutgoingRow]) -> list[OutgoingRow]:
    return [tx for tx in family if tx.raw is not None]


def payments_of(
    row: SetupRow | Words, *, owner: AddressRow, contract: AddressRow | None
) -> tuple[PlannedPayment, ...]:
    """What moves between lane 0 and the contract; nothing for a deployment."""
    to = owner if row.action == SetupAction.WITHDRAW else contract
    if row.asset is None or row.amount_minor is None or to is None:
        return ()
    return (
        PlannedPayment(
            asset=row.asset, address=to.address, key=to.key, amount_minor=row.amount_minor
        ),
    )
