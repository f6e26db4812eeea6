"""Payouts that pay too little for their time get a further attempt by themselves (W3, W10).

Owns the decision and the plan of a bump: a replacement in the same family where the network
replaces and nothing of ours hangs on the tx, else a child of the package. One unit of work commits
bytes, members and reservations (write, then act); `bump_signing` asks the signer. Decisions follow
heights and quotes, so a pass is made when either of them moved, or a node refused a fee.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from functools import partial
from typing import Final
from uuid import UUID

from config.database import Uow
from config.logs import get_logger
from gateway.payouts import (
    attempts,
    bump_build,
    bump_policy,
    families,
    fee_policy,
    funds,
    rebalance_build,
    rebalances_store,
    store,
)
from gateway.payouts import question as questions
from gateway.payouts.aborts import FEE_CLASS as ABORT_CLASS
from gateway.payouts.attempts import Attempt
from gateway.payouts.bump_build import Built, Need
from gateway.payouts.bump_policy import BUMPS_MAX, Waiting
from gateway.payouts.bump_signing import BumpSigning, bumped_in
from gateway.payouts.context import Lane
from gateway.payouts.errors import BumpCapped, FeesUnknown
from gateway.payouts.families import BUMP_CAPPED
from gateway.payouts.packages import Packages
from gateway.payouts.same_tx import gas_fields
from gateway.payouts.signing import is_stopped
from gateway.payouts.store import Riding
from gateway.payouts.withdrawals import State
from ledger.errors import StaleState
from signer.protocol import Purpose
from watchers import coins, fees, outgoing, outgoing_families, switches
from watchers.chain import FeeQuote, Outpoint
from watchers.errors import CoinTaken
from watchers.outgoing import OutgoingState
from watchers.outgoing_families import OpenTx
from watchers.switches import Action

SENT: Final = (State.BROADCASTING, State.UNCERTAIN, State.SENT, State.CANCELLING)
"""States of what may be bumped; of `cancelling` the abort, never the payment."""
OPEN_MAX: Final = 10_000  # own txs in no block; far above what a hot wallet has at once

log = get_logger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Due:
    """A payout that needs more, by its newest attempt. `target` is replaced; None: a child of
    `leaf` is built. `below` are the own unmined ancestors of what is built."""

    stuck: OpenTx
    riding: Riding
    rate: int
    target_blocks: int
    target: OpenTx | None
    leaf: OpenTx | None
    below: tuple[int, int]


@dataclass(frozen=True, slots=True, kw_only=True)
class _View:
    """What one pass decides on."""

    height: int
    quote: FeeQuote
    sampled_at: datetime
    txs: Sequence[OpenTx]
    riding: Sequence[Riding]


class Bumping:
    """The bumping step of one lane. What nodes refused is the broadcaster's; memory only paces."""

    def __init__(self, lane: Lane, fee_refused: set[UUID], *, chain_full: set[UUID]) -> None:
        self._lane = lane
        self._fee_refused = fee_refused
        self._chain_full = chain_full
        self._signing = BumpSigning(lane)
        self._looked: tuple[int, datetime, frozenset[UUID]] | None = None

    async def run(self) -> int:
        """One pass; returns how many bumps were signed. Raises SignerUnavailable."""
        if await is_stopped(self._lane):
            return 0
        signed = await self._signing.run()
        try:
            view = await self._view()
        except FeesUnknown as error:
            # Nothing is bumped on guesses; what waits is sent all the same.
            log.info("payout.fees_wait", network=self._lane.network, detail=str(error))
            return signed
        if view is None:
            return signed
        due = self._due(view)
        if due:
            await self._lane.signer.head()  # without a signer nothing is planned (S21)
        are_judged = [await self._one(item, view) for item in due]
        if all(are_judged):
            self._looked = (view.height, view.sampled_at, frozenset(self._fee_refused))
        return signed + (await self._signing.run() if due else 0)

    async def _view(self) -> _View | None:
        """What to decide on; None while nothing moved since the last look, or nothing waits."""
        network = self._lane.network
        async with self._lane.database.unit_of_work() as uow:
            height = await outgoing_families.followed_height(uow, network=network)
            sample = await fees.latest(uow, network=network)
            if height is None or sample is None:
                return None
            if (height, sample.sampled_at, frozenset(self._fee_refused)) == self._looked:
                return None
            riding = await store.riding(uow, network=network, states=SENT)
            riding += await self._moves(uow)
            if not riding:
                return None
            quote = fee_policy.usable(sample, now=self._lane.now())
            txs = await outgoing_families.open_txs(uow, network=network, limit=OPEN_MAX)
            aborts = {tx.id for tx in txs if tx.purpose == Purpose.ABORT}
            riding = [item for item in riding if (item.attempt_id in aborts) is item.is_cancelling]
        # What is in a block is not refused any more.
        self._fee_refused &= {tx.id for tx in txs}
        self._chain_full &= {tx.id for tx in txs}
        return _View(
            height=height, quote=quote, sampled_at=sample.sampled_at, txs=txs, riding=riding
        )

    async def _moves(self, uow: Uow) -> list[Riding]:
        """Moves to cold that only a child can lift; where a tx is replaced, `rebalance_step` does
        it."""
        if self._lane.is_account_based or self._lane.spec.can_replace:
            return []
        return [
            Riding(
                attempt_id=attempt_id,
                fee_classes=(),
                is_cancelling=False,
                own_blocks=rebalance_build.TARGET_BLOCKS,
            )
            for attempt_id in await rebalances_store.sent_from_hot(uow, network=self._lane.network)
        ]

    def _due(self, view: _View) -> list[_Due]:
        """What needs more; at the end of a package first, since that lifts what is below it."""
        return self._accounts(view) if self._lane.is_account_based else self._utxos(view)

    def _utxos(self, view: _View) -> list[_Due]:
        current = {riding.attempt_id for riding in view.riding}
        packages = Packages(view.txs, size_of=partial(funds.size_vb, self._lane), current=current)
        found: list[tuple[int, _Due]] = []
        for riding in view.riding:
            tx = packages.signed.get(riding.attempt_id)
            if tx is None or tx.conflict_txid is not None or packages.is_in_work(tx):
                continue
            children = [item for item in packages.descendants(tx) if item.pays_for_id is not None]
            if any(item.id in self._chain_full for item in (tx, *children)):
                continue  # no fee makes room: it is sent again until a block does
            waiting = self._waiting(
                view, tx, packages.rate(tx), self._target(riding), children=children
            )
            rate = None if waiting is None else bump_policy.wanted_rate(waiting)
            if rate is None:
                continue
            due = self._means(packages, tx, riding, rate)
            if due is not None:
                found.append((len(packages.ancestors(tx)), due))
        return [due for _, due in sorted(found, key=lambda item: -item[0])]

    def _means(self, packages: Packages, tx: OpenTx, riding: Riding, rate: int) -> _Due | None:
        """Replace it, replace the child at the end of its package, or build one; None to wait."""
        can_replace = self._lane.spec.can_replace
        below = packages.descendants(tx)
        due = _Due(
            stuck=tx,
            riding=riding,
            rate=rate,
            target_blocks=self._target(riding),
            target=None,
            leaf=None,
            below=(0, 0),
        )
        leaves = [item for item in (tx, *below) if not packages.descendants(item)]
        leaf = leaves[-1]
        if can_replace and (not below or leaf.pays_for_id is not None):
            return replace(due, target=leaf, below=packages.weight(packages.ancestors(leaf)))
        package = [leaf, *packages.ancestors(leaf)]
        unheld = self._fee_refused | self._chain_full
        if not packages.has_room(leaf) or any(item.id in unheld for item in package):
            return None  # P32; and no node takes the child of a tx that it does not hold
        return replace(due, leaf=leaf, below=packages.weight(package))

    def _accounts(self, view: _View) -> list[_Due]:
        """Per account the lowest nonce alone: what is above it cannot be mined before it (P15)."""
        riding = {item.attempt_id: item for item in view.riding}
        by_nonce: dict[tuple[str, int], list[OpenTx]] = {}
        for tx in view.txs:
            by_nonce.setdefault((tx.sender_key or "", tx.nonce or 0), []).append(tx)
        heads: dict[str, list[OpenTx]] = {}
        blocks: dict[str, list[int]] = {}
        for (sender, _), txs in sorted(by_nonce.items()):
            heads.setdefault(sender, txs)
            blocks.setdefault(sender, []).extend(
                self._target(riding[tx.id]) for tx in txs if tx.id in riding
            )
        found = []
        for sender, txs in heads.items():
            current = next((tx for tx in txs if tx.id in riding), None)
            is_in_work = any(tx.txid is None for tx in txs)
            if current is None or is_in_work or current.conflict_txid is not None:
                continue
            # The most urgent one in the queue behind it counts.
            found.append(self._account_due(current, riding[current.id], min(blocks[sender])))
        return found

    def _account_due(self, tx: OpenTx, riding: Riding, target_blocks: int) -> _Due:
        return _Due(
            stuck=tx,
            riding=riding,
            rate=0,  # its fee fields are in its bytes, which are read with its family
            target_blocks=target_blocks,
            target=tx,
            leaf=None,
            below=(0, 0),
        )

    def _waiting(
        self,
        view: _View,
        tx: OpenTx,
        rate: int,
        target_blocks: int,
        *,
        children: Sequence[OpenTx] = (),
    ) -> Waiting | None:
        """None for a tx, or a child of it, that nobody tried to send."""
        newest = [tx.broadcast_height, *(child.broadcast_height for child in children)]
        sent_at = [height for height in newest if height is not None]
        if len(sent_at) < len(newest):
            return None
        family = [
            item.broadcast_height
            for item in view.txs
            if item.family_id == tx.family_id and item.broadcast_height is not None
        ]
        return Waiting(
            rate=rate,
            quote=view.quote,
            target_blocks=target_blocks,
            waited=view.height - max(sent_at),
            family_waited=view.height - min(family),
            is_fee_refused=any(item.id in self._fee_refused for item in (tx, *children)),
        )

    def _target(self, riding: Riding) -> int:
        if riding.own_blocks is not None:
            return riding.own_blocks
        classes = self._lane.registry.policy.classes
        family = self._lane.spec.family
        names = (ABORT_CLASS,) if riding.is_cancelling else riding.fee_classes
        return min(classes[name].inclusion_blocks[family] for name in names)

    async def _one(self, due: _Due, view: _View) -> bool:
        """True when it is judged: planned, not needed, or capped."""
        lane = self._lane
        try:
            if await lane.run(partial(self._plan, due=due, view=view)):
                lane.crash("payout.bump_planned")
        except (CoinTaken, StaleState) as error:  # somebody was quicker: look again next time
            log.warning("payout.bump_stale", network=lane.network, detail=str(error))
            return False
        except BumpCapped as error:
            detail = f"{due.stuck.txid} waits: {error}"
            await lane.run(
                lambda uow: attempts.alarm(
                    lane, uow, BUMP_CAPPED, detail, object_id=due.stuck.family_id
                )
            )
        return True

    async def _plan(self, uow: Uow, *, due: _Due, view: _View) -> bool:
        """Commit one bump; False when it is not (any more) to be made. Raises BumpCapped."""
        lane = self._lane
        stuck = await self._still(uow, due)
        if stuck is None:
            return False
        bumps = await outgoing_families.bumps_of(uow, stuck.tx.family_id)
        # One per block: what was refused, by a node or by the signer, is tried at the next one.
        if any((bump.planned_height or 0) >= view.height for bump in bumps):
            return False
        is_abort = stuck.tx.purpose == Purpose.ABORT  # which has attempts of its own
        made = sum(
            bump.state is not OutgoingState.REFUSED and (bump.purpose == Purpose.ABORT) is is_abort
            for bump in bumps
        )
        if made >= BUMPS_MAX:  # a refused one was never signed: it costs nothing and blocks nothing
            raise BumpCapped(f"{made} bumps")
        if self._signing.waits_for_cap(stuck.tx.family_id):
            return False
        if lane.is_account_based:
            rate = self._account_rate(stuck, due, view)
            if rate is None:
                return False
            due = replace(due, rate=rate)
        built = await self._build(uow, stuck, due, view)
        await coins.reserve(uow, attempt_id=built.draft.id, outpoints=built.takes)
        await outgoing.record(uow, built.draft, at=lane.now())
        if built.draft.family_id == stuck.tx.family_id:
            await self._join(uow, stuck, built)
        attempt = await attempts.load(uow, built.draft.id, lock=False, is_current=False)
        if not questions.fits(await questions.of_attempt(lane, uow, attempt)):
            raise BumpCapped("the question is over the signer's frame")
        log.info(
            "payout.bump_planned",
            network=lane.network,
            attempt_id=str(built.draft.id),
            replaces=str(built.draft.replaces_id or ""),
            pays_for=str(built.draft.pays_for_id or ""),
            fee_cap_minor=str(built.draft.fee_cap_minor),
        )
        return True

    async def _still(self, uow: Uow, due: _Due) -> Attempt | None:
        """The stuck payout, locked with its family, when it still is what was judged."""
        target = due.target or due.stuck
        stuck, family = await families.locked(uow, due.stuck.id, also=(target.family_id,))
        rows = stuck.rows(*(state for state in bumped_in(stuck.tx) if state in SENT))
        is_own = due.riding.own_blocks is not None
        is_current = is_own or {row.attempt_id for row in rows} == {stuck.id}
        is_in_work = any(tx.state is OutgoingState.BUILT for tx in family)
        is_free = all(tx.height is None for tx in family) and stuck.tx.conflict_txid is None
        if len(rows) != len(stuck.members) or not (is_current and is_free) or is_in_work:
            return None
        asset = stuck.tx.payments[0].asset if is_own else rows[0].asset
        for action in (Action.BUILD, Action.SIGN):
            if await switches.is_stopped(
                uow, network=self._lane.network, asset=asset, action=action
            ):
                return None
        return stuck

    async def _build(self, uow: Uow, stuck: Attempt, due: _Due, view: _View) -> Built:
        lane = self._lane
        target = None if due.target is None else due.target.family_id
        need = Need(
            rate=due.rate,
            quote=view.quote,
            below_size_vb=due.below[0],
            below_fee_minor=due.below[1],
            room_minor=await funds.room_beside(lane, uow, family_id=target),
            share_minor=self._share_minor(stuck, due),
            for_id=stuck.id,
            height=view.height,
        )
        if due.leaf is not None:
            return await bump_build.child(lane, uow, await self._change_of(uow, due.leaf), need)
        if due.target is None:
            raise BumpCapped("nothing to bump it with")
        family = await outgoing.family(uow, due.target.family_id)
        (current,) = (tx for tx in family if tx.id == due.target.id)
        if lane.is_account_based:
            return await bump_build.same_nonce(
                lane, uow, current, family, need, target_blocks=due.target_blocks
            )
        return await bump_build.replacement(lane, uow, current, family, need)

    async def _change_of(self, uow: Uow, leaf: OpenTx) -> Outpoint:
        outpoints = [Outpoint(txid=leaf.txid or "", vout=vout) for vout in leaf.change]
        held_by = await coins.holders(uow, network=self._lane.network, outpoints=outpoints)
        free = [outpoint for outpoint, holder in held_by.items() if holder is None]
        if not free:
            raise BumpCapped("its package has no change of ours to spend")
        return min(free, key=lambda item: item.vout)

    def _share_minor(self, stuck: Attempt, due: _Due) -> int | None:
        """What of the payment may go to miners, less what a child adds to; native coin only. What
        an abort may cost is no share of anything."""
        native = self._lane.spec.native_asset
        if stuck.tx.purpose == Purpose.ABORT or any(
            payment.asset != native for payment in stuck.tx.payments
        ):
            return None
        policy = self._lane.registry.policy.fees[self._lane.network]
        paid = sum(payment.amount_minor for payment in stuck.tx.payments)
        share = paid * policy.fee_share_max_permille // 1_000
        is_own = due.target is not None and due.target.id == stuck.id
        return share if is_own else share - stuck.tx.fee_cap_minor

    def _account_rate(self, stuck: Attempt, due: _Due, view: _View) -> int | None:
        max_fee, tip, _ = gas_fields(stuck.tx.unsigned)
        rate = min(max_fee, max(view.quote.base_fee, 0) + tip)
        waiting = self._waiting(view, due.stuck, rate, due.target_blocks)
        return None if waiting is None else bump_policy.wanted_rate(waiting)

    async def _join(self, uow: Uow, stuck: Attempt, built: Built) -> None:
        """All members together, each at the same output: payments keep their order."""
        await store.add_members(
            uow,
            attempt_id=built.draft.id,
            outputs=[(member.withdrawal.id, member.output_index) for member in stuck.members],
        )
