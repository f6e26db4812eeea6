"""Set-ups of the batch contract: what two people decide, and where each stands (docs/adr/0027).

Owns the lifecycle and the rules of people: a person and not a machine, two of them over the very
same words, one set-up at a time on a network. The raw requests are kept, because the signer
believes only them. The tx is made and followed by `setup_step`.
"""

from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any, Final
from uuid import UUID

from config.chains import ChainSpec, Family
from config.database import Uow
from config.ids import Ids
from gateway.payouts import account_funds, approvals
from gateway.payouts import setups_store as store
from gateway.payouts.approvals import TWO_PEOPLE, Staff
from gateway.payouts.errors import DecisionRefused
from gateway.payouts.setups_store import SetupRow
from ledger import lifecycle
from ledger.lifecycle import Lifecycle
from watchers import account_balances, addresses
from watchers.addresses import AddressRole

VALID: Final = timedelta(days=1)  # as every decision of two people


class State(StrEnum):
    """Where a set-up stands."""

    PROPOSED = "proposed"
    """One person signed it; another one must."""
    APPROVED = "approved"
    """Two people signed it; payouts plan it."""
    PLANNED = "planned"
    """Unsigned bytes and a nonce are stored."""
    SIGNED = "signed"
    """Signed bytes are stored; it may be sent at any time."""
    SENT = "sent"
    """Nodes have it, or a block that is not final."""
    DONE = "done"
    """Final, and the chain shows what people wanted."""
    FAILED = "failed"
    """Nothing was signed, or the chain shows something else; `code` says which."""
    DECLINED = "declined"
    """A person said no before anything was built."""


class Trigger(StrEnum):
    """What moves a set-up."""

    AGREE = "agree"
    """The second person signed the same."""
    DECLINE = "decline"
    """A person said no."""
    PLAN = "plan"
    """Bytes and nonce are stored."""
    UNPLAN = "unplan"
    """They were dropped unsigned; it is planned anew."""
    REFUSE = "refuse"
    """It cannot be built, or the signer refused."""
    SIGN = "sign"
    """Signed bytes are stored."""
    SEND = "send"
    """It was handed to a node."""
    REPLACE = "replace"
    """Another attempt of its family is the live one: it pays more for the same."""
    CONFIRM = "confirm"
    """Final, as planned."""
    FAIL = "fail"
    """Final, and not as planned; or something else took its nonce."""
    REOPEN = "reopen"
    """Its final block left the chain."""


_S, _T = State, Trigger

CONTRACT_SETUPS: Final = Lifecycle(
    kind="contract_setup",
    table="gateway.contract_setups",
    transitions={
        (_S.PROPOSED, _T.AGREE): _S.APPROVED,
        (_S.PROPOSED, _T.DECLINE): _S.DECLINED,
        (_S.APPROVED, _T.DECLINE): _S.DECLINED,
        (_S.APPROVED, _T.PLAN): _S.PLANNED,
        (_S.APPROVED, _T.REFUSE): _S.FAILED,
        (_S.PLANNED, _T.UNPLAN): _S.APPROVED,
        (_S.PLANNED, _T.REFUSE): _S.FAILED,
        (_S.PLANNED, _T.SIGN): _S.SIGNED,
        (_S.SIGNED, _T.SEND): _S.SENT,
        (_S.SIGNED, _T.REPLACE): _S.SIGNED,
        (_S.SENT, _T.REPLACE): _S.SENT,
        (_S.SENT, _T.CONFIRM): _S.DONE,
        (_S.SENT, _T.FAIL): _S.FAILED,
        (_S.DONE, _T.REOPEN): _S.SENT,
        (_S.FAILED, _T.REOPEN): _S.SENT,
    },
)


class SetupAction(StrEnum):
    """What people do with the contract."""

    DEPLOY = "deploy"
    """Create it; hot lane 0 owns it."""
    FUND = "fund"
    """From hot lane 0 to the contract."""
    WITHDRAW = "withdraw"
    """From the contract back to hot lane 0."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Words:
    """What a person signed, understood. `amount_minor` in minor units; None for a deployment."""

    action: SetupAction
    network: str
    reference: str
    asset: str | None
    amount_minor: int | None


async def propose_or_agree(
    uow: Uow, words: Words, staff: Staff, *, spec: ChainSpec, ids: Ids, at: datetime
) -> SetupRow:
    """The set-up as it stands after this person's signature: `proposed` after the first one,
    `approved` with the second. The same person again changes nothing.

    Raises DecisionRefused, `same_person` for one that needs somebody else.
    """
    found = await store.by_reference(uow, network=words.network, reference=words.reference)
    if found is None:
        await _check_possible(uow, words, spec)
        row = proposed(words, person=staff.person, ids=ids, at=at)
        if not await store.insert(uow, row):
            raise DecisionRefused(
                "setup_open", "Another set-up of this network is on its way; wait, or decline it."
            )
        await _keep(uow, row.id, staff, at=at)
        return row
    if words_of(found) != words:
        raise DecisionRefused("other_content", "This reference stands for another set-up.")
    signed = await store.requests(uow, found.id)
    late = "Decline it, and propose it under another reference."
    if not approvals.is_further(
        signed,
        staff,
        state=found.state,
        is_open=found.state == State.PROPOSED,
        expired=late if found.created_at + VALID <= at else None,
    ):
        return found
    await _check_possible(uow, words, spec)
    await _keep(uow, found.id, staff, at=at)
    return await move(uow, found, Trigger.AGREE, {"agreed_by": staff.person}, at=at)


async def decline(uow: Uow, row: SetupRow, *, person: str, reason: str, at: datetime) -> SetupRow:
    """Say no to a locked set-up before anything is built; twice is once. Raises DecisionRefused."""
    if row.state == State.DECLINED:
        return row
    if not CONTRACT_SETUPS.allows(State(row.state), Trigger.DECLINE):
        raise DecisionRefused("too_late", f"It is {row.state}.")
    await lifecycle.set_actor(uow, person, reason=reason)
    return await move(uow, row, Trigger.DECLINE, {"code": "declined_by_staff"}, at=at)


async def move(
    uow: Uow, row: SetupRow, trigger: Trigger, changes: dict[str, Any], *, at: datetime
) -> SetupRow:
    """One transition. Raises StaleState, IllegalTransition."""
    return store.from_row(
        await lifecycle.advance(
            uow,
            CONTRACT_SETUPS,
            object_id=row.id,
            current=State(row.state),
            event=trigger,
            set=changes,
            at=at,
        )
    )


async def is_signed_by_two(uow: Uow, row: SetupRow) -> bool:
    """Whether two people signed it whose keys still count."""
    signed = await store.requests(uow, row.id)
    return len({item.person for item in signed if item.is_valid}) >= TWO_PEOPLE


async def _check_possible(uow: Uow, words: Words, spec: ChainSpec) -> None:
    """What people see at once; the lane looks again, under the locks that decide."""
    if spec.family is not Family.EVM:
        raise DecisionRefused("no_contracts", f"{words.network} has no batch contract.")
    there = await addresses.batch_contract(uow, network=words.network)
    is_there = there is not None and there.key == spec.batch_contract
    if words.action is SetupAction.DEPLOY:
        deployed = await store.deployed(uow, network=words.network)
        if is_there or deployed is not None:
            where = deployed or spec.batch_contract
            raise DecisionRefused("contract_there", f"The contract stands at {where}.")
        return
    if there is None or not is_there:
        raise DecisionRefused(
            "no_contract", f"networks.{words.network}.batch_contract is not in force."
        )
    hot = await addresses.by_role(uow, network=words.network, roles=(AddressRole.HOT,))
    lane = next(
        row.key
        for row in hot
        if row.address_index == account_funds.OWNER_LANE and row.key != there.key
    )
    held = await account_balances.held(uow, network=words.network)
    source = lane if words.action is SetupAction.FUND else there.key
    if held.get((source, words.asset or ""), 0) < (words.amount_minor or 0):
        raise DecisionRefused("not_enough", f"{source} does not hold that much.")


async def _keep(uow: Uow, setup_id: UUID, staff: Staff, *, at: datetime) -> None:
    await store.add_request(
        uow, setup_id, person=staff.person, key_id=staff.key_id, signed=staff.signed, at=at
    )


def words_of(row: SetupRow) -> Words:
    """What people sign about it."""
    return Words(
        action=SetupAction(row.action),
        network=row.network,
        reference=row.reference,
        asset=row.asset,
        amount_minor=row.amount_minor,
    )


def proposed(words: Words, *, person: str, ids: Ids, at: datetime) -> SetupRow:
    """A set-up that one person asks for, not stored yet."""
    return SetupRow(
        id=ids.new_id(),
        network=words.network,
        reference=words.reference,
        action=words.action.value,
        asset=words.asset,
        amount_minor=words.amount_minor,
        state=State.PROPOSED.value,
        code=None,
        version=1,
        attempt_id=None,
        sign_requested_at=None,
        txid=None,
        contract=None,
        proposed_by=person,
        agreed_by=None,
        created_at=at,
        state_at=at,
    )
