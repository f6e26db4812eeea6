"""The loop of one network's payouts: hold the lease, then every step, then wait.

Owns the order of the steps and what a failure of one means for the others. A node or signer that
is down delays its steps only; another instance with the lease stops this one (P13).
"""

import asyncio
from collections.abc import Awaitable, Callable
from functools import partial

from config.clock import Waker
from config.database import AWAY
from config.logs import get_logger
from gateway.leases import LEASE_SECONDS, LeaseLost, hold
from gateway.payouts import recovery, store
from gateway.payouts.aborts import AbortStep
from gateway.payouts.batcher import Batcher
from gateway.payouts.broadcaster import Broadcaster
from gateway.payouts.bumping import Bumping
from gateway.payouts.context import Lane
from gateway.payouts.errors import PayoutError, SignerUnavailable
from gateway.payouts.exits import ExitsStep
from gateway.payouts.families import FamilyStep
from gateway.payouts.liquidity import LiquidityStep
from gateway.payouts.outflow import OutflowStep
from gateway.payouts.own_moves import OwnMoves
from gateway.payouts.rebalance_step import RebalanceStep
from gateway.payouts.rebalances import SIGNED_HERE
from gateway.payouts.recovery import Standing
from gateway.payouts.refill_step import RefillStep
from gateway.payouts.refund_step import RefundStep
from gateway.payouts.safe_step import SafeStep
from gateway.payouts.settlement import Settlement
from gateway.payouts.setup_step import SetupStep
from gateway.payouts.signing import SigningStep, is_stopped
from gateway.payouts.sweeping import Sweeping
from gateway.payouts.time_limits import TimeLimitStep
from gateway.payouts.upkeep import Upkeep
from gateway.payouts.upkeep_asked import AskedUpkeep
from gateway.payouts.withdrawals import State
from watchers.errors import WatcherError

RENEW_SECONDS = LEASE_SECONDS / 3  # two renewals may fail before the lease runs out

log = get_logger(__name__)


class PayoutLane:
    """One network; any number of instances may run, one at a time works."""

    def __init__(self, lane: Lane) -> None:
        self._lane = lane
        self._liquidity = LiquidityStep(lane)
        self._batcher = Batcher(lane)
        self._signing = SigningStep(lane)
        self._broadcaster = Broadcaster(lane)
        self._bumping = Bumping(
            lane, self._broadcaster.fee_refused, chain_full=self._broadcaster.chain_full
        )
        self._families = FamilyStep(lane)
        self._settlement = Settlement(lane)
        self._own_moves = OwnMoves(lane)
        self._exits = ExitsStep(lane)
        self._recovery = recovery.Recovery(lane)
        self._aborts = AbortStep(lane)
        self._time_limits = TimeLimitStep(lane)
        self._setups = SetupStep(lane)
        self._refills = RefillStep(lane)
        self._refunds = RefundStep(lane)
        self._safes = SafeStep(lane)
        self._rebalances = [RebalanceStep(lane, way) for way in SIGNED_HERE]
        self._upkeep = Upkeep(lane)
        self._asked_upkeep = AskedUpkeep(lane, self._upkeep)
        self._sweeping = Sweeping(lane)
        self._outflow = OutflowStep(lane)
        self._has_reported = False

    async def run(self, waker: Waker) -> None:
        """Work for ever; ends by cancellation, between two units of work or inside a wait."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._keep_lease(), name=f"lease {self._lane.network}")
            group.create_task(self._work(waker), name=f"payouts {self._lane.network}")

    async def _keep_lease(self) -> None:
        while True:
            try:
                await hold(self._lane.database, self._lane.lease)
            except AWAY as error:  # the lease runs out by itself
                log.warning("payout.lease_unrenewed", network=self._lane.network, error=repr(error))
            await self._lane.clock.sleep(RENEW_SECONDS if self._lane.lease.is_held else 1.0)

    async def _work(self, waker: Waker) -> None:
        while True:
            if self._lane.lease.is_held:
                try:
                    await self.cycle()
                except Exception:  # the supervisor of the loop: nothing else may end a lane
                    log.exception("payout.cycle_failed", network=self._lane.network)
            else:
                self._has_reported = False
                self._recovery.forget()
            await waker.wait()

    async def cycle(self) -> None:
        """Every step once: what is furthest along goes first, so that balances are free early."""
        try:
            if not self._has_reported:
                await self._step("recover", partial(recovery.report, self._lane))
                self._has_reported = True
            standing = await self._recovery.look()
            await self._step("adopt", self._families.run)
            await self._step("settle", self._settlement.run)
            if standing is Standing.STOPPED:
                return
            if standing is Standing.READY:
                await self._step("own_moves", self._own_moves.run)
                await self._step("setups", self._setups.follow)
                await self._step("refills", self._refills.run)
                await self._step("sweeps", self._sweeping.follow)
                for moves in self._rebalances:
                    await self._step("rebalances", moves.follow)
            await self._step("broadcast", self._broadcaster.run)
            await self._step("send_sweeps", self._sweeping.send)
            if standing is Standing.BLIND:
                return
            await self._step("abort", self._aborts.run)
            await self._step("bump", self._bump)
            await self._step("exits", self._exits.run)
            await self._step("time_limits", self._time_limits.run)
            await self._step("liquidity", self._liquidity.run)
            await self._step("refunds", self._refunds.follow)
            await self._step("set_up", self._set_up)
            await self._step("rebalance", self._rebalance)
            await self._step("call_safe", self._call_safe)
            is_ready = await self._has_unsigned() and not await is_stopped(self._lane)
            if is_ready and await self._is_signer_up():
                await self._step("plan", self._batcher.plan)
                await self._step("plan_refunds", self._refunds.plan)
                await self._step("outflow", self._outflow.run)
                await self._step("sign", self._signing.run)
                await self._step("broadcast", self._broadcaster.run)
                await self._step("settle", self._settlement.run)
            await self._step("consolidate", self._asked_upkeep.run)
            if self._upkeep.is_due():
                await self._step("upkeep", self._upkeep.run)
            if not await is_stopped(self._lane):
                await self._step("sweep", self._sweeping.run)
        except AWAY as error:
            log.warning("payout.database_lost", network=self._lane.network, error=repr(error)[:300])
        except LeaseLost as error:
            log.warning("payout.lease_lost", network=self._lane.network, detail=str(error))

    async def _bump(self) -> None:
        if await self._bumping.run():
            await self._broadcaster.run()

    async def _set_up(self) -> None:
        if not await is_stopped(self._lane) and await self._setups.run():
            await self._broadcaster.run()

    async def _rebalance(self) -> None:
        for moves in self._rebalances:
            await moves.propose()
            if not await is_stopped(self._lane) and await moves.run():
                await self._broadcaster.run()

    async def _call_safe(self) -> None:
        if not await is_stopped(self._lane) and await self._safes.run():
            await self._broadcaster.run()

    async def _has_unsigned(self) -> bool:
        async with self._lane.database.unit_of_work() as uow:
            return await store.has_any(
                uow, network=self._lane.network, states=[State.QUEUED, State.PLANNED]
            )

    async def _is_signer_up(self) -> bool:
        """Without a signer nothing is planned: queued ones stay cancellable (S21)."""
        try:
            await self._lane.signer.head()
        except SignerUnavailable as error:
            log.warning("payout.signer_unavailable", network=self._lane.network, detail=str(error))
            return False
        return True

    async def _step(self, name: str, step: Callable[[], Awaitable[object]]) -> None:
        try:
            await step()
        except (PayoutError, WatcherError, *AWAY) as error:
            log.warning(
                "payout.step_delayed",
                network=self._lane.network,
                step=name,
                error=type(error).__name__,
                detail=str(error)[:300],
            )
