"""What nodes say before a collect is planned: the collector stands, and who delegates to it.

Owns the pace of the question; its memory is a hint, since a leg whose address does not delegate
moves nothing and is tried again.
"""

from asyncio import timeout
from collections.abc import Mapping, Sequence
from typing import Final

from gateway.payouts.context import Lane
from watchers import collector
from watchers.chain import AccountState

LOOK_SECONDS: Final = 30.0  # one question to a node
LOOKED_EVERY_SECONDS: Final = 60.0  # whether the collector stands
KEYS_PER_CALL: Final = 200


class CollectorLook:
    """Of one lane."""

    def __init__(self, lane: Lane) -> None:
        self._lane = lane
        self._looked_at_seconds: float | None = None
        self.is_in_force = False

    async def look(self) -> None:
        """Whether it may be used now. Raises NodeUnavailable."""
        lane, now = self._lane, self._lane.clock.monotonic_seconds()
        last = self._looked_at_seconds
        if lane.spec.collector is None or (last is not None and now - last < LOOKED_EVERY_SECONDS):
            return
        async with timeout(LOOK_SECONDS):
            found = await collector.is_in_force(lane.database, lane.chain, lane.spec)
        self.is_in_force, self._looked_at_seconds = found, now

    async def accounts(self, keys: Sequence[str]) -> Mapping[str, AccountState]:
        """Delegation and number of each, at the tip: an authorisation used a number that no tx of
        the account tells of. Nothing where no address can delegate. Raises NodeUnavailable."""
        found: dict[str, AccountState] = {}
        if self._lane.spec.collector is None:
            return found
        reader, distinct = self._lane.chain.reader, sorted(set(keys))
        async with timeout(LOOK_SECONDS):
            tip = await reader.tip()
            for start in range(0, len(distinct), KEYS_PER_CALL):
                part = distinct[start : start + KEYS_PER_CALL]
                found |= await reader.account_states(part, block_hash=tip.hash)
        return found
