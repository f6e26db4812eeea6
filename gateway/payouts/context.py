"""What every step of a payout lane works with, and its only way to open a money unit of work.

Owns the rule that each such unit of work first proves the lane's lease (P13). No step opens one
around it.
"""

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol, TypeVar

from config.chains import ChainSpec, Family
from config.clock import Clock
from config.database import Database, Uow
from config.ids import Ids
from config.registry import Registry
from gateway.leases import Lease
from gateway.payouts.crash import Crash
from ledger import lifecycle
from signer.protocol import (
    Head,
    LogPage,
    LogRequest,
    PoolRow,
    Refusal,
    SignedTx,
    SignRequest,
)
from watchers.chain import Chain

T = TypeVar("T")
ACTOR = "payouts"  # who the state history names


class Signer(Protocol):
    """What the lane asks of the signer; every call may raise SignerUnavailable, and RequestTooLarge
    for a message that was never sent."""

    async def head(self) -> Head: ...

    async def sign(self, request: SignRequest) -> SignedTx | Refusal: ...

    async def sign_many(self, requests: Sequence[SignRequest]) -> list[SignedTx | Refusal]: ...

    async def lookup(self, attempt_id: str) -> SignedTx | Refusal | None: ...

    async def log(self, request: LogRequest) -> LogPage: ...

    async def recall(self, attempt_id: str) -> SignRequest | None: ...

    async def verify_addresses(
        self, *, network: str, rows: Sequence[PoolRow]
    ) -> tuple[bool, ...]: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Lane:
    """One network's payout road, in one process, under one lease."""

    spec: ChainSpec
    registry: Registry
    chain: Chain
    database: Database
    lease: Lease
    signer: Signer
    clock: Clock
    ids: Ids
    crash: Crash

    @property
    def network(self) -> str:
        """The network's name."""
        return self.spec.network

    @property
    def is_account_based(self) -> bool:
        """True where a payout is one nonce of an account instead of coins."""
        return self.spec.family is Family.EVM

    def now(self) -> datetime:
        """Wall time for records."""
        return self.clock.now()

    async def run(self, work: Callable[[Uow], Awaitable[T]]) -> T:
        """Run one money unit of work under the lease; raises LeaseLost, retries 40001/40P01."""

        async def fenced(uow: Uow) -> T:
            await self.lease.check(uow)
            await lifecycle.set_actor(uow, ACTOR)
            return await work(uow)

        return await self.database.run(fenced)
