"""Leases with fencing: one instance of a single-writer loop works, the others wait.

Owns the rule that a loop which was stopped past its lease can change nothing afterwards (P13): each
money unit of work calls `check()` first, which fails once another fence stands and otherwise locks
the row until the commit, so that no one takes over in between. Time is the database's (P11). It
does not decide what a loop does.
"""

import asyncio

from config.database import AWAY, Database, Uow
from config.logs import get_logger
from gateway import leases_store

LEASE_SECONDS = 10  # a dead holder delays its lane this long at most
GIVE_BACK_SECONDS = 5.0  # for a clean stop; a lease that is not given back runs out by itself

log = get_logger(__name__)


class LeaseLost(Exception):
    """Another instance holds the lease now, or ours ran out; stop and take it again."""


class Lease:
    """One named lease of one holder.

    `holder` must be unique per process run. `fence` rises with every take-over and travels to the
    signer as the worker epoch (S23).
    """

    def __init__(self, *, name: str, holder: str, seconds: int = LEASE_SECONDS) -> None:
        self.name = name
        self.holder = holder
        self._seconds = seconds
        self._fence: int | None = None

    @property
    def fence(self) -> int:
        """The fence of the current hold; raises LeaseLost when there is none."""
        if self._fence is None:
            raise LeaseLost(f"{self.name}: not held")
        return self._fence

    @property
    def is_held(self) -> bool:
        """What this process believes; only `check()` in a unit of work proves it."""
        return self._fence is not None

    async def acquire(self, uow: Uow) -> bool:
        """Take the lease if it is free, expired or ours; the caller's commit makes it so."""
        self._fence = await leases_store.acquire(
            uow, name=self.name, holder=self.holder, seconds=self._seconds
        )
        return self._fence is not None

    async def renew(self, uow: Uow) -> None:
        """Extend the hold from now; raises LeaseLost."""
        fence = self.fence
        held = await leases_store.renew(
            uow, name=self.name, holder=self.holder, fence=fence, seconds=self._seconds
        )
        if not held:
            self._fence = None
            raise LeaseLost(f"{self.name}: fence {fence} has passed")

    async def check(self, uow: Uow) -> None:
        """Call first in every unit of work that moves money; raises LeaseLost."""
        fence = self.fence
        if not await leases_store.is_held(uow, name=self.name, holder=self.holder, fence=fence):
            self._fence = None
            raise LeaseLost(f"{self.name}: fence {fence} has passed")

    async def raise_fence(self, uow: Uow, *, above: int) -> None:
        """Put the fence above what another history of these books has used; raises LeaseLost.

        Only for a recovery that people confirmed. A unit of work that is not committed after it
        costs the hold, not safety.
        """
        fence = await leases_store.raise_fence(
            uow, name=self.name, holder=self.holder, fence=self.fence, above=above
        )
        if fence is None:
            raise LeaseLost(f"{self.name}: fence {self._fence} has passed")
        self._fence = fence

    async def release(self, uow: Uow) -> None:
        """Let another instance in at once (clean stop)."""
        if self._fence is not None:
            await leases_store.release(uow, name=self.name, holder=self.holder, fence=self._fence)
            self._fence = None


async def hold(database: Database, lease: Lease) -> bool:
    """Renew the lease, or take it when it is not held; False while another instance has it."""
    async with database.unit_of_work() as uow:
        if lease.is_held:
            try:
                await lease.renew(uow)
                return True
            except LeaseLost:
                pass  # ours ran out: it may still be free
        return await lease.acquire(uow)


async def give_back(database: Database, lease: Lease) -> None:
    """Let another instance in at once. Not being able to costs the lease's seconds, no more."""
    if not lease.is_held:
        return
    try:
        async with asyncio.timeout(GIVE_BACK_SECONDS), database.unit_of_work() as uow:
            await lease.release(uow)
    except AWAY as error:
        log.warning("lease.not_given_back", lease=lease.name, error=type(error).__name__)
