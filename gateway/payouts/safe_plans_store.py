"""SQL of gateway.safe_plans: what the owners of a Safe sign."""

from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from config.database import Uow


@dataclass(frozen=True, slots=True, kw_only=True)
class SafePlanRow:
    """One transaction of a Safe, planned; `id` is what its signatures are kept under."""

    id: UUID
    rebalance_id: UUID
    network: str
    safe_key: str
    nonce: int
    typed: bytes
    owners: tuple[str, ...]
    threshold: int


_COLUMNS = ", ".join(SafePlanRow.__slots__)


async def insert(uow: Uow, row: SafePlanRow, *, at: datetime) -> None:
    """Keep a plan before anybody can fetch it; its number is taken."""
    names = ", ".join(f":{name}" for name in SafePlanRow.__slots__)
    values = {name: getattr(row, name) for name in SafePlanRow.__slots__}
    await uow.execute(
        f"INSERT INTO gateway.safe_plans ({_COLUMNS}, created_at) VALUES ({names}, :at)",
        {**values, "owners": list(row.owners), "at": at},
    )


async def of_rebalance(uow: Uow, rebalance_id: UUID) -> SafePlanRow | None:
    """The plan of a refill that was not dropped."""
    result = await uow.execute(
        f"SELECT {_COLUMNS} FROM gateway.safe_plans "
        "WHERE rebalance_id = :id AND dropped_at IS NULL",
        {"id": rebalance_id},
    )
    row = result.mappings().one_or_none()
    if row is None:
        return None
    values = {**row, "typed": bytes(row["typed"]), "owners": tuple(row["owners"])}
    return SafePlanRow(**values)


async def next_nonce(uow: Uow, *, network: str, safe_key: str) -> int:
    """Above every number of a Safe that a plan has."""
    result = await uow.execute(
        "SELECT coalesce(max(nonce) + 1, 0) FROM gateway.safe_plans "
        "WHERE network = :network AND safe_key = :key AND dropped_at IS NULL",
        {"network": network, "key": safe_key},
    )
    return int(result.scalar_one())


async def drop(uow: Uow, plan_id: UUID, *, at: datetime) -> None:
    """Nothing is sent of it any more; its number may be another plan's."""
    await uow.execute(
        "UPDATE gateway.safe_plans SET dropped_at = :at WHERE id = :id AND dropped_at IS NULL",
        {"id": plan_id, "at": at},
    )
