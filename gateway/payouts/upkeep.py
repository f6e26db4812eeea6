"""Merges and splits of the hot wallet's own coins while inclusion is cheap (F3, docs/adr/0032).

Owns the decision and the plan of one such tx: policy, the rate of the moment against the last
weeks, and that queued payouts do not need the coins. One unit of work commits bytes and
reservations; `bump_signing` asks the signer, `broadcaster` sends, `own_moves` books the fee. One
at a time, and none soon after another, whatever became of it; a person's word (`upkeep_asked`)
takes the place of the cheap hour and of the pause, and of nothing else.
"""

from collections.abc import Sequence
from datetime import timedelta
from typing import Final
from uuid import UUID

from config import alarm_store
from config.database import Uow
from config.logs import get_logger
from config.policy import CoinPolicy
from gateway.payouts import (
    coin_cover,
    coin_shapes,
    consolidations,
    drafts,
    fee_policy,
    funds,
)
from gateway.payouts.coin_shapes import Shape
from gateway.payouts.context import Lane
from gateway.payouts.errors import BrokenAttempt
from gateway.payouts.funds import P2WPKH_KEY
from gateway.payouts.refusals import SIGNER_KNOWS_MORE
from signer.protocol import Purpose
from watchers import addresses, coins, fees, outgoing, outgoing_families, switches
from watchers.addresses import AddressRow
from watchers.chain import Coin, FeeQuote
from watchers.errors import CoinTaken
from watchers.outgoing import ChangeOutput, OutgoingDraft, PlannedPayment
from watchers.switches import Action

FEE_SHARE: Final = 10  # a move costs at most this part of the fee capital that is left
TARGET_BLOCKS: Final = 36  # nobody waits for it
LOOK_SECONDS: Final = 60.0  # the watcher samples fees once a minute

UPKEEP_REFUSED: Final = "upkeep_refused"
"""Alarm: the signer said no to a merge or split of own coins; the next signed one clears it."""

log = get_logger(__name__)


class Upkeep:
    """The upkeep step of one lane. Its memory only paces."""

    def __init__(self, lane: Lane) -> None:
        self._lane = lane
        self._policy = lane.registry.policy.coins.get(lane.network)
        self._looked_at_seconds: float | None = None

    def is_due(self) -> bool:
        """Whether to look now; a fresh process looks at once."""
        if self._policy is None:
            return False
        last, now = self._looked_at_seconds, self._lane.clock.monotonic_seconds()
        return last is None or now - last >= LOOK_SECONDS

    async def run(self) -> None:
        """Plan one move where one is due. Raises FeesUnknown, FeeAboveCap, PoolEmpty."""
        lane = self._lane
        self._looked_at_seconds = lane.clock.monotonic_seconds()
        try:
            if await lane.run(self._plan):
                lane.crash("payout.upkeep_planned")
        except CoinTaken as error:  # a batch was quicker
            log.info("payout.coin_taken", network=lane.network, detail=str(error))

    async def _plan(self, uow: Uow) -> bool:
        lane, policy = self._lane, self._policy
        if policy is None or await self._is_stopped(uow) or await self._is_soon(uow, policy):
            return False
        quote, rate = await self._rates(uow)
        cheap = await fees.cheap_rate(uow, network=lane.network)
        if rate > min(cheap, policy.rate_max * fee_policy.SAT_PER_VB_IN_KVB):
            return False
        found = await self._shape(uow, policy, quote=quote, rate=rate)
        if isinstance(found, str):
            return False
        attempt_id = await self.commit(uow, found)
        await consolidations.made_by_policy(
            uow,
            network=lane.network,
            asset=lane.spec.native_asset,
            shape=found,
            attempt_id=attempt_id,
            ids=lane.ids,
            at=lane.now(),
        )
        return True

    async def asked(self, uow: Uow, purpose: Purpose) -> Shape | str:
        """What a person's word comes to now, or by code why to nothing. It stores nothing. Raises
        FeesUnknown, FeeAboveCap."""
        lane, policy = self._lane, self._policy
        if policy is None:
            return "no_policy"
        if await self._is_stopped(uow):
            return "stopped"
        newest = await outgoing_families.newest_upkeep(uow, network=lane.network)
        if newest is not None and newest.is_open:
            return "move_open"
        quote, rate = await self._rates(uow)
        if rate > policy.rate_max * fee_policy.SAT_PER_VB_IN_KVB:
            return "rate_above_maximum"
        return await self._shape(uow, policy, quote=quote, rate=rate, asked=purpose)

    async def _is_stopped(self, uow: Uow) -> bool:
        """By people or a breaker, or because the signer knows more than these books."""
        lane = self._lane
        for action in (Action.BUILD, Action.SIGN, Action.BROADCAST):
            if await switches.is_stopped(
                uow, network=lane.network, asset=lane.spec.native_asset, action=action
            ):
                return True
        return await alarm_store.is_open(uow, kind=SIGNER_KNOWS_MORE, network=lane.network)

    async def _is_soon(self, uow: Uow, policy: CoinPolicy) -> bool:
        newest = await outgoing_families.newest_upkeep(uow, network=self._lane.network)
        pause = timedelta(seconds=policy.pause_seconds)
        return newest is not None and (
            newest.is_open or newest.created_at + pause > self._lane.now()
        )

    async def _rates(self, uow: Uow) -> tuple[FeeQuote, int]:
        lane = self._lane
        quote = await funds.current_quote(lane, uow)
        return quote, fee_policy.utxo_rate(
            quote, target_blocks=TARGET_BLOCKS, policy=lane.registry.policy.fees[lane.network]
        )

    async def _shape(
        self,
        uow: Uow,
        policy: CoinPolicy,
        *,
        quote: FeeQuote,
        rate: int,
        asked: Purpose | None = None,
    ) -> Shape | str:
        """The move that fits the coins, the fee capital and what waits; by code why there is none.
        `asked`: the one that a person wants, else whichever policy calls for."""
        lane = self._lane
        rows = await coins.spendable(uow, network=lane.network, limit=funds.COINS_MAX)
        mined = [row.coin() for row in rows if row.height is not None]
        free = await coin_cover.unsigned_by_any(lane, uow, rows)
        found = None
        if asked is not Purpose.CONSOLIDATE:
            found = coin_shapes.split(
                free,
                policy=policy,
                rate_sat_per_kvb=rate,
                size_of_parts=lambda count: self._size(1, count),
                unmined=len(rows) - len(mined),
                is_asked=asked is not None,
            )
        if found is None and asked is not Purpose.FAN_OUT:
            found = self._merge(free, policy, rate=rate, is_asked=asked is not None)
        if found is None:
            return "nothing_to_move"
        if not await self._is_affordable(uow, found):
            return "fee_capital"
        taken = {coin.outpoint for coin in found.coins}
        left = [coin for coin in mined if coin.outpoint not in taken]
        return found if await coin_cover.is_enough(lane, uow, left, quote) else "payouts_wait"

    def _merge(
        self, free: Sequence[Coin], policy: CoinPolicy, *, rate: int, is_asked: bool
    ) -> Shape | None:
        lane = self._lane
        return coin_shapes.merge(
            free,
            policy=policy,
            rate_sat_per_kvb=rate,
            size_of=lambda inputs: self._size(inputs, 1),
            dust_minor=lane.registry.assets[lane.spec.native_asset].dust_minor,
            is_asked=is_asked,
        )

    async def _is_affordable(self, uow: Uow, shape: Shape) -> bool:
        lane = self._lane
        left = await funds.room_beside(lane, uow, family_id=None)
        is_within = fee_policy.fits(shape.fee_minor, policy=lane.registry.policy.fees[lane.network])
        return is_within and shape.fee_minor * FEE_SHARE <= left

    def _size(self, inputs: int, outputs: int) -> int:
        return self._lane.chain.writer.estimate_size_vb(
            inputs=inputs, outputs=[P2WPKH_KEY] * outputs
        )

    async def commit(self, uow: Uow, shape: Shape) -> UUID:
        """Store bytes and reservations; the attempt's id. Raises CoinTaken, PoolEmpty, after which
        the unit of work must end without a commit."""
        lane = self._lane
        chosen = sorted(shape.coins, key=lambda c: (c.outpoint.txid, c.outpoint.vout))
        *parts, change = [
            await addresses.own_address(uow, network=lane.network, role="change")
            for _ in shape.parts_minor
        ]
        unsigned = drafts.utxo(
            lane,
            coins=chosen,
            payments=[self._part(*pair) for pair in zip(parts, shape.parts_minor, strict=False)],
            change=change,
            change_minor=shape.parts_minor[-1],
        )
        if unsigned.fee_minor != shape.fee_minor:
            raise BrokenAttempt(f"built fee {unsigned.fee_minor}, planned {shape.fee_minor}")
        attempt_id = lane.ids.new_id()
        outputs = [*unsigned.payment_outputs, *unsigned.change_outputs]
        draft = OutgoingDraft(
            id=attempt_id,
            network=lane.network,
            purpose=shape.purpose.value,
            family_id=attempt_id,
            unsigned=unsigned.data,
            payments=(),
            fee_cap_minor=unsigned.fee_minor,
            inputs=tuple(coin.outpoint for coin in chosen),
            change=tuple(
                ChangeOutput(vout=vout, address_id=address.id, amount_minor=amount)
                for vout, address, amount in zip(
                    outputs, [*parts, change], shape.parts_minor, strict=True
                )
            ),
        )
        await coins.reserve(uow, attempt_id=attempt_id, outpoints=draft.inputs)
        await outgoing.record(uow, draft, at=lane.now())
        log.info(
            "payout.upkeep_planned",
            network=lane.network,
            attempt_id=str(attempt_id),
            purpose=shape.purpose.value,
            coins=len(chosen),
            parts=len(shape.parts_minor),
            fee_minor=str(shape.fee_minor),
        )
        return attempt_id

    def _part(self, address: AddressRow, amount_minor: int) -> PlannedPayment:
        return PlannedPayment(
            asset=self._lane.spec.native_asset,
            address=address.address,
            key=address.key,
            amount_minor=amount_minor,
        )
