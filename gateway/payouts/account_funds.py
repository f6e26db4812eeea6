"""What each paying account of an account chain can pay now: hot lanes, and the batch contract.

Owns the choice of a lane and the arithmetic of "does it fit". It reserves nothing. The books hold
one hot custody account per asset and are the authority on its total; the watcher's balances split
off what lies on other accounts than lane 0, which has the rest. Amounts in minor units.
"""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from uuid import UUID

from config.database import Uow
from config.policy import ClassPolicy
from gateway.payouts import fee_policy
from gateway.payouts.context import Lane
from gateway.payouts.errors import FeeAboveCap
from gateway.payouts.fee_policy import AccountFee
from gateway.withdrawals_store import WithdrawalRow
from signer.protocol import Purpose
from watchers import account_balances, addresses
from watchers.addresses import AddressRole, AddressRow
from watchers.chain import FeeQuote
from watchers.outgoing import OutgoingRow, OutgoingState

HOT_WALLET = "hot_wallet"  # codes of a withdrawal that waits for liquidity
FEE_CAPITAL = "fee_capital"
OWNER_LANE = 0  # the lane that the batch contract obeys
LEGS_MAX = 100  # of one batch (contracts/BatchPayer.sol, signer/batches.py)
LEG_AMOUNT_MAX = 2**96 - 1
BATCH_ID_BYTES = 32
STUCK_BLOCKS = 5  # an own tx unmined for so long: others pay, as long as one of them can


@dataclass(slots=True, kw_only=True)
class Payer:
    """One account that pays. `left` by asset; `waiting`: own txs of it that no block has."""

    address: AddressRow
    left: Counter[str] = field(default_factory=Counter)
    waiting: int = 0
    is_stuck: bool = False

    def take(self, asset: str, amount_minor: int) -> None:
        """Count on it no more."""
        self.left[asset] -= amount_minor


@dataclass(frozen=True, slots=True, kw_only=True)
class Single:
    """One payment by a lane."""

    sender: AddressRow
    fee: AccountFee


@dataclass(frozen=True, slots=True, kw_only=True)
class Batch:
    """What the contract pays in one tx of its owner."""

    rows: tuple[WithdrawalRow, ...]
    sender: AddressRow
    payer: AddressRow
    fee: AccountFee


class AccountFunds:
    """Each admitted withdrawal takes its amount and its fee cap from the accounts that pay it."""

    def __init__(
        self,
        lane: Lane,
        *,
        lanes: Sequence[Payer],
        contract: Payer | None,
        quote: FeeQuote,
        fee_left_minor: int,
    ) -> None:
        self._lane = lane
        self._lanes = lanes
        self._contract = contract
        self._quote = quote
        self._fee_left_minor = fee_left_minor

    def admit(self, row: WithdrawalRow) -> str | None:
        """As Funds.admit. Raises FeeAboveCap."""
        found = self.place(row)
        return found if isinstance(found, str) else None

    def place(self, row: WithdrawalRow) -> Single | Batch | str:
        """Who pays this alone, or by code why nobody can now. Raises FeeAboveCap.

        The lane with the fewest unmined txs, a stuck one last; the contract where no lane can.
        """
        fee = self._fee([row], gas_limit=self._lane.chain.writer.gas_limit(row.asset))
        if fee.cap_minor > self._fee_left_minor:
            return FEE_CAPITAL
        able = [item for item in self._lanes if self._covers(item, row, fee.cap_minor)]
        if not able:
            batch = self.batch([row])
            return HOT_WALLET if batch is None else batch
        lane = min(able, key=lambda item: (item.is_stuck, item.waiting, item.address.address_index))
        lane.take(row.asset, row.output_minor)
        self._take_fee(lane, fee)
        return Single(sender=lane.address, fee=fee)

    def batch(self, rows: Sequence[WithdrawalRow]) -> Batch | None:
        """As many of the rows (of one asset, in order) as the contract pays in one tx; taken."""
        contract = self._contract
        owner = next((p for p in self._lanes if p.address.address_index == OWNER_LANE), None)
        if contract is None or owner is None or not rows:
            return None
        left, fitting = contract.left[rows[0].asset], list[WithdrawalRow]()
        for row in rows:
            if row.output_minor <= min(left, LEG_AMOUNT_MAX) and len(fitting) < LEGS_MAX:
                fitting.append(row)
                left -= row.output_minor
        for count in range(len(fitting), 0, -1):
            fee = self._batch_fee(fitting[:count], owner)
            if fee is not None:
                contract.take(rows[0].asset, sum(row.output_minor for row in fitting[:count]))
                self._take_fee(owner, fee)
                return Batch(
                    rows=tuple(fitting[:count]),
                    sender=owner.address,
                    payer=contract.address,
                    fee=fee,
                )
        return None

    def of_setup(
        self, *, asset: str, amount_minor: int, is_back: bool, gas_limit: int, blocks: int
    ) -> Single | str:
        """Lane 0's tx that moves value to the contract or, `is_back`, from it, or nothing; by code
        why not. Raises FeeAboveCap."""
        owner = next((p for p in self._lanes if p.address.address_index == OWNER_LANE), None)
        source = self._contract if is_back else owner
        fee = fee_policy.account_fee(
            self._quote,
            target_blocks=blocks,
            policy=self._lane.registry.policy.fees[self._lane.network],
            gas_limit=gas_limit,
        )
        if owner is None or source is None:
            return HOT_WALLET
        if fee.cap_minor > self._fee_left_minor:
            return FEE_CAPITAL
        native = self._lane.spec.native_asset
        wanted = Counter({native: fee.cap_minor})
        if source is owner:
            wanted[asset] += amount_minor
        if any(owner.left[name] < amount for name, amount in wanted.items()):
            return HOT_WALLET
        if source.left[asset] < amount_minor:
            return HOT_WALLET
        return Single(sender=owner.address, fee=fee)

    def of_move(self, *, asset: str, amount_minor: int, blocks: int) -> Single | str:
        """A lane that moves this much out of the hot wallet alone, or by code why none can now.
        Raises FeeAboveCap."""
        fee = fee_policy.account_fee(
            self._quote,
            target_blocks=blocks,
            policy=self._lane.registry.policy.fees[self._lane.network],
            gas_limit=self._lane.chain.writer.gas_limit(asset),
        )
        if fee.cap_minor > self._fee_left_minor:
            return FEE_CAPITAL
        wanted = Counter({asset: amount_minor})
        wanted[self._lane.spec.native_asset] += fee.cap_minor
        able = [
            item
            for item in self._lanes
            if all(item.left[name] >= amount for name, amount in wanted.items())
        ]
        if not able:
            return HOT_WALLET
        lane = min(able, key=lambda item: (item.is_stuck, item.waiting, item.address.address_index))
        lane.take(asset, amount_minor)
        self._take_fee(lane, fee)
        return Single(sender=lane.address, fee=fee)

    def batch_is_cheaper(self, rows: Sequence[WithdrawalRow]) -> bool:
        """Whether one tx for these uses less gas than one for each."""
        writer, asset, count = self._lane.chain.writer, rows[0].asset, min(len(rows), LEGS_MAX)
        return writer.expected_gas(asset, legs=count) < count * writer.expected_gas(asset)

    def _batch_fee(self, rows: Sequence[WithdrawalRow], owner: Payer) -> AccountFee | None:
        """None for more gas than policy, fee capital or the owner's coin allow: fewer may go."""
        writer, asset = self._lane.chain.writer, rows[0].asset
        alone = self._fee(rows, gas_limit=writer.gas_limit(asset))
        try:
            fee = self._fee(rows, gas_limit=writer.gas_limit(asset, legs=len(rows)))
        except FeeAboveCap:
            return None
        if fee.max_fee_per_gas < alone.max_fee_per_gas:  # cut by the cap per tx: less headroom
            return None
        native = self._lane.spec.native_asset
        is_covered = fee.cap_minor <= min(self._fee_left_minor, owner.left[native])
        return fee if is_covered else None

    def _fee(self, rows: Sequence[WithdrawalRow], *, gas_limit: int) -> AccountFee:
        return fee_policy.account_fee(
            self._quote,
            target_blocks=min(target_blocks(self._lane, row) for row in rows),
            policy=self._lane.registry.policy.fees[self._lane.network],
            gas_limit=gas_limit,
        )

    def _covers(self, payer: Payer, row: WithdrawalRow, cap_minor: int) -> bool:
        wanted = Counter({row.asset: row.output_minor})
        wanted[self._lane.spec.native_asset] += cap_minor
        return all(payer.left[asset] >= amount for asset, amount in wanted.items())

    def _take_fee(self, payer: Payer, fee: AccountFee) -> None:
        payer.take(self._lane.spec.native_asset, fee.cap_minor)
        payer.waiting += 1
        self._fee_left_minor -= fee.cap_minor


def batch_id(family_id: UUID) -> bytes:
    """The contract pays each id once: one for every attempt of a family."""
    return family_id.bytes.rjust(BATCH_ID_BYTES, b"\x00")


def target_blocks(lane: Lane, row: WithdrawalRow) -> int:
    """The inclusion target of a withdrawal's class on this family."""
    classes: Mapping[str, ClassPolicy] = {**lane.registry.policy.classes}
    return classes[row.fee_class].inclusion_blocks[lane.spec.family]


async def payers(
    lane: Lane,
    uow: Uow,
    *,
    hot: Mapping[str, int],
    own: Sequence[OutgoingRow],
    but: UUID | None = None,
) -> tuple[list[Payer], Payer | None]:
    """The lanes that pay, and the batch contract.

    `hot`: what the books leave of all hot accounts together; `own`: own txs that are not final.
    The fees of the family `but` are not taken.
    """
    held = await account_balances.held(uow, network=lane.network)
    rows = await addresses.by_role(uow, network=lane.network, roles=(AddressRole.HOT,))
    contract = await addresses.batch_contract(uow, network=lane.network)
    found = {row.key: Payer(address=row) for row in rows}
    for (key, asset), amount in held.items():
        if key in found:
            found[key].left[asset] = amount
    _count_unmined(lane, found, _dearest_unmined(own), but=but)
    _mark_stuck(lane, found, own)
    first = _lane_at(found.values(), OWNER_LANE, contract)
    if first is not None:
        others = [item for item in found.values() if item is not first]
        first.left = Counter(
            {
                asset: amount - sum(max(item.left[asset], 0) for item in others)
                for asset, amount in hot.items()
            }
        )
        # By the books, in-flight value of a set-up is still hot: neither side can pay with it.
        for tx in _dearest_unmined(own):
            for payment in tx.payments if tx.purpose == Purpose.CONTRACT_SETUP else ():
                first.take(payment.asset, payment.amount_minor)
    lanes = [_lane_at(found.values(), index, contract) for index in range(lane.spec.hot_lanes)]
    usable = [item for item in lanes if item is not None and item.address.is_verified]
    return usable, None if contract is None else found.get(contract.key)


def _dearest_unmined(own: Sequence[OutgoingRow]) -> list[OutgoingRow]:
    """Of each family that no block has, the attempt that may cost most: one of them is mined."""
    mined = {tx.family_id for tx in own if tx.state is OutgoingState.MINED}
    found: dict[UUID, OutgoingRow] = {}
    for tx in own:
        other = found.get(tx.family_id)
        is_dearer = other is None or tx.fee_cap_minor > other.fee_cap_minor
        if tx.family_id not in mined and is_dearer:
            found[tx.family_id] = tx
    return list(found.values())


def _count_unmined(
    lane: Lane, found: Mapping[str, Payer], unmined: Iterable[OutgoingRow], *, but: UUID | None
) -> None:
    native = lane.spec.native_asset
    for tx in unmined:
        sender, payer = found.get(tx.sender_key or ""), found.get(tx.payer_key or "")
        if sender is None:
            continue
        sender.take(native, 0 if tx.family_id == but else tx.fee_cap_minor)
        sender.waiting += 1
        source = sender if tx.payer_key is None else payer
        if source is None:
            continue  # a Safe pays out of the cold wallet
        for payment in tx.payments:
            source.take(payment.asset, payment.amount_minor)


def _mark_stuck(lane: Lane, found: Mapping[str, Payer], own: Sequence[OutgoingRow]) -> None:
    """By the first signature of each family that no block has, whatever replaced it since."""
    mined = {tx.family_id for tx in own if tx.state is OutgoingState.MINED}
    late = lane.now() - timedelta(seconds=STUCK_BLOCKS * lane.spec.block_seconds)
    for tx in own:
        sender = found.get(tx.sender_key or "")
        if sender is not None and tx.family_id not in mined and tx.signed_at is not None:
            sender.is_stuck |= tx.signed_at < late


def _lane_at(found: Iterable[Payer], index: int, contract: AddressRow | None) -> Payer | None:
    key = None if contract is None else contract.key
    return next(
        (p for p in found if p.address.address_index == index and p.address.key != key), None
    )
