"""Gas for sweeps: what a deposit address lacks, from gas account 0; and the account's own filling.

Owns the bounds of the policy's gas rule and the drafts of top-ups. A top-up is exactly what the
sweep behind it lacks; once more where an earlier tx of the address used it up after all, as a
reorganisation can make it. The account is filled from hot lane 0 when it is low. Both are the
purpose `gas_top_up`, whose caps are the signer's own.
"""

from datetime import timedelta
from typing import Final
from uuid import UUID

from config.database import Uow
from config.logs import get_logger
from gateway.payouts import attempts, drafts, funds
from gateway.payouts.account_funds import OWNER_LANE, Single
from gateway.payouts.context import Lane
from gateway.payouts.fee_policy import AccountFee
from gateway.payouts.sweep_terms import TRANSFER_GAS, Terms
from signer.protocol import Purpose
from watchers import account_balances, addresses, nonces, outgoing, sweepable
from watchers.addresses import AddressRow
from watchers.outgoing import OutgoingDraft, PlannedPayment

DAY: Final = timedelta(days=1)
GAS_ACCOUNT: Final = 0
# An address that delegates (docs/adr/0035) runs some code when it is paid: 21,000 are not enough.
TOP_UP_GAS_LIMIT: Final = 30_000

GAS_SHORT: Final = "sweep_gas_short"
"""Alarm: sweeps wait for a gas account that holds too little, or gave all it may in a day."""

log = get_logger(__name__)


class Station:
    """What the gas account can give in one unit of work; each top-up is taken from it."""

    def __init__(self, account: AddressRow, *, left: int, fee_left: int) -> None:
        self._account = account
        self._left = left
        self._fee_left = fee_left

    @property
    def account(self) -> AddressRow:
        """Who gives."""
        return self._account

    def take(self, amount_minor: int, fee: AccountFee) -> bool:
        """Whether it can give so much at this fee; then it is given."""
        cost = amount_minor + fee.cap_minor
        if cost > self._left or not self.afford(fee.cap_minor):
            return False
        self._left -= cost
        return True

    def afford(self, fee_minor: int) -> bool:
        """Whether the house can pay this fee beside all that is on its way; then it is taken."""
        if fee_minor > self._fee_left:
            return False
        self._fee_left -= fee_minor
        return True


async def open_station(lane: Lane, uow: Uow, terms: Terms) -> Station:
    """The gas account with what it holds, less what is on its way, within its cap of a day.

    Raises PoolEmpty.
    """
    native = lane.spec.native_asset
    account = await addresses.own_address(uow, network=lane.network, role="gas", lane=GAS_ACCOUNT)
    left = await sweepable.free(uow, network=lane.network, key=account.key, asset=native)
    most = terms.gas_rule(lane.network).top_up_day_max_minor
    if most is not None:
        since = lane.now() - DAY
        given = await sweepable.given(
            uow, network=lane.network, sender_keys=[account.key], since=since
        )
        left = min(left, most - given)
    fee_left = await funds.fee_left(lane, uow)
    return Station(account, left=left, fee_left=fee_left)


async def refill(lane: Lane, uow: Uow, terms: Terms) -> UUID | None:
    """Fill the gas account where its rule says so and nothing is on its way to it; the attempt.

    Raises FeeAboveCap, PoolEmpty.
    """
    rule, native = terms.gas_rule(lane.network), lane.spec.native_asset
    if rule.account_target_minor == 0:
        return None
    account = await addresses.own_address(uow, network=lane.network, role="gas", lane=GAS_ACCOUNT)
    held = (await account_balances.held(uow, network=lane.network)).get((account.key, native), 0)
    if held >= rule.account_min_minor or await sweepable.refills(uow, network=lane.network):
        return None
    hot = await addresses.by_role(uow, network=lane.network, roles=(addresses.AddressRole.HOT,))
    given = await sweepable.given(
        uow,
        network=lane.network,
        sender_keys=[row.key for row in hot],
        since=lane.now() - DAY,
    )
    amount = min(rule.account_target_minor - held, rule.refill_day_max_minor - given)
    if amount <= 0:
        await attempts.alarm(lane, uow, GAS_SHORT, "the gas account had all that it may in a day")
        return None
    place = (await funds.load_account(lane, uow)).of_setup(
        asset=native, amount_minor=amount, is_back=False, gas_limit=TRANSFER_GAS, blocks=1
    )
    if not isinstance(place, Single) or place.sender.address_index != OWNER_LANE:
        detail = f"hot lane 0 cannot give it {amount}: {place}"
        await attempts.alarm(lane, uow, GAS_SHORT, detail)
        return None
    attempt_id = lane.ids.new_id()
    nonce = await nonces.allocate(
        uow, network=lane.network, sender_key=place.sender.key, attempt_id=attempt_id
    )
    draft = top_up_draft(
        lane,
        attempt_id=attempt_id,
        sender=place.sender,
        nonce=nonce,
        to=account,
        amount_minor=amount,
        fee=place.fee,
    )
    await outgoing.record(uow, draft, at=lane.now())
    log.info("payout.gas_refill_planned", network=lane.network, amount_minor=str(amount))
    return attempt_id


async def again(lane: Lane, uow: Uow, terms: Terms, *, to: AddressRow, missing_minor: int) -> bool:
    """Give a deposit address what the sweep that was signed for it lacks; False where the account
    cannot, which people are told. Raises FeeAboveCap, PoolEmpty."""
    fee = top_up_fee(terms)
    station = await open_station(lane, uow, terms)
    if not station.take(missing_minor, fee):
        await attempts.alarm(lane, uow, GAS_SHORT, f"a sent sweep of {to.address} lacks gas")
        return False
    attempt_id = lane.ids.new_id()
    nonce = await nonces.allocate(
        uow, network=lane.network, sender_key=station.account.key, attempt_id=attempt_id
    )
    draft = top_up_draft(
        lane,
        attempt_id=attempt_id,
        sender=station.account,
        nonce=nonce,
        to=to,
        amount_minor=missing_minor,
        fee=fee,
    )
    await outgoing.record(uow, draft, at=lane.now())
    log.info(
        "payout.sweep_topped_up_again",
        network=lane.network,
        address=to.address,
        amount_minor=str(missing_minor),
    )
    return True


def top_up_fee(terms: Terms) -> AccountFee:
    """Of a transfer of native coin to a deposit address. Raises FeeAboveCap."""
    return terms.fee(TOP_UP_GAS_LIMIT)


def top_up_draft(
    lane: Lane,
    *,
    attempt_id: UUID,
    sender: AddressRow,
    nonce: int,
    to: AddressRow,
    amount_minor: int,
    fee: AccountFee,
) -> OutgoingDraft:
    """An attempt that gives native coin to an own account."""
    payment = PlannedPayment(
        asset=lane.spec.native_asset, address=to.address, key=to.key, amount_minor=amount_minor
    )
    unsigned = drafts.account(
        lane, sender=sender, nonce=nonce, payments=[payment], fee=fee, batch_of=None
    )
    return OutgoingDraft(
        id=attempt_id,
        network=lane.network,
        purpose=Purpose.GAS_TOP_UP.value,
        family_id=attempt_id,
        unsigned=unsigned.data,
        payments=(payment,),
        fee_cap_minor=unsigned.fee_minor,
        sender_key=sender.key,
        nonce=nonce,
    )
