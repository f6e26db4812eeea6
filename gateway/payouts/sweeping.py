"""The sweeps of one lane: what the chain shows first, then what is signed, then what is new.

Owns only the order of the steps and what stops them; each step is a module of its own.
"""

from gateway.payouts.context import Lane
from gateway.payouts.sweep_books import SweepBooks
from gateway.payouts.sweep_bumping import SweepBumping
from gateway.payouts.sweep_follow import SweepFollow
from gateway.payouts.sweep_sending import SweepSending
from gateway.payouts.sweep_step import SweepStep


class Sweeping:
    """One lane's sweeps; nothing on a network whose deposits are coins of the hot wallet."""

    def __init__(self, lane: Lane) -> None:
        self._lane = lane
        self._books = SweepBooks(lane)
        self._follow = SweepFollow(lane)
        self._step = SweepStep(lane)
        self._sending = SweepSending(lane)
        self._bumping = SweepBumping(lane)

    async def follow(self) -> None:
        """Book what is final, and go on by what the chain shows."""
        if self._lane.is_account_based:
            await self._books.run()
            await self._follow.run()

    async def send(self) -> None:
        """Send what is signed; look for what was sent. Raises NodeUnavailable."""
        if self._lane.is_account_based:
            await self._sending.send()

    async def run(self) -> None:
        """Sign what is planned, plan what is due. Raises SignerUnavailable, FeesUnknown,
        FeeAboveCap, PoolEmpty, NodeUnavailable."""
        if not self._lane.is_account_based:
            return
        await self._bumping.run()
        signed = await self._sending.sign()
        if await self._step.run():
            signed += await self._sending.sign()
        if signed:
            await self._sending.send()
