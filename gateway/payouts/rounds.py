"""Pages that go round: a bounded look at open rows in which nothing starves.

Owns only where the last page ended, in memory; losing it starts a new round. A row that never
leaves costs its place in the round and nobody else's turn.
"""

from collections.abc import Sequence
from datetime import datetime
from typing import TypeAlias
from uuid import UUID

from config.database import Uow
from gateway.payouts import store
from gateway.withdrawals_store import WithdrawalRow

OPEN_MAX = 500  # open attempts looked at per pass; 500 rounds of 1 s are far below any promise

Place: TypeAlias = tuple[datetime, UUID]


class AttemptRound:
    """Goes round the attempts of a network in some states, oldest first."""

    def __init__(self, network: str, states: Sequence[str], *, size: int = OPEN_MAX) -> None:
        self._network = network
        self._states = tuple(states)
        self._size = size
        self._after: UUID | None = None

    async def page(self, uow: Uow) -> list[UUID]:
        """The next attempts; from the start again where the last ones were reached."""
        found = await self._read(uow, self._after)
        is_end = len(found) < self._size
        if is_end and self._after is not None:
            start = await self._read(uow, None)
            found += [item for item in start if item not in set(found)]
            found = found[: self._size]
            self._after = None
            return found
        self._after = None if is_end else found[-1]
        return found

    async def _read(self, uow: Uow, after: UUID | None) -> list[UUID]:
        return await store.open_attempts(
            uow, network=self._network, states=self._states, after=after, limit=self._size
        )


class RowRound:
    """Goes round the rows of one state by promise; `code` and `but_code` narrow it."""

    def __init__(
        self,
        network: str,
        state: str,
        *,
        size: int,
        code: str | None = None,
        but_code: str | None = None,
    ) -> None:
        self._network = network
        self._state = state
        self._size = size
        self._code = code
        self._but_code = but_code
        self._after: Place | None = None
        self.is_whole = True
        """Whether the last page was all there is."""

    async def page(self, uow: Uow) -> list[WithdrawalRow]:
        """The next rows; from the start again where the last ones were reached."""
        after = self._after
        found = await self._read(uow, after)
        if after is not None and not found:
            after = None
            found = await self._read(uow, None)
        is_end = len(found) < self._size
        self.is_whole = is_end and after is None
        self._after = None if is_end else (found[-1].promise_at, found[-1].id)
        return found

    async def _read(self, uow: Uow, after: Place | None) -> list[WithdrawalRow]:
        return await store.in_state(
            uow,
            network=self._network,
            state=self._state,
            limit=self._size,
            code=self._code,
            but_code=self._but_code,
            after=after,
        )
