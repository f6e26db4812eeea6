"""SQL of the balance scan: which addresses may hold value, and a page of those that never did."""

from collections.abc import Sequence
from datetime import datetime
from uuid import UUID

from sqlalchemy import RowMapping

from config.database import Uow

_COLUMNS = (
    "a.id, a.network, a.role, a.brand, a.player_id, a.account, a.branch, a.address_index, a.path, "
    "a.key, a.address, a.scheme, a.is_verified, a.issued_at, a.retired_at, a.version"
)


async def used(uow: Uow, *, network: str) -> Sequence[RowMapping]:
    """Own wallets, and the deposit addresses that ever received anything we know of."""
    result = await uow.execute(
        f"SELECT {_COLUMNS} FROM chain.addresses a WHERE a.network = :network "
        f"AND a.role <> 'deposit' UNION ALL SELECT {_COLUMNS} FROM chain.addresses a WHERE a.id IN "
        "(SELECT address_id FROM chain.deposits WHERE network = :network "
        "UNION SELECT address_id FROM chain.inflows WHERE network = :network "
        "AND address_id IS NOT NULL "
        "UNION SELECT address_id FROM chain.scan_finds WHERE network = :network) "
        "AND a.role = 'deposit' ORDER BY account, branch, address_index",
        {"network": network},
    )
    return result.mappings().all()


async def page(
    uow: Uow, *, network: str, after: int, up_to: int | None, limit: int
) -> Sequence[RowMapping]:
    """Deposit addresses numbered after `after`, with their `number`, in its order."""
    result = await uow.execute(
        f"SELECT {_COLUMNS}, a.number FROM chain.addresses a WHERE a.network = :network "
        "AND a.role = 'deposit' AND a.number > :after "
        "AND a.number <= coalesce(CAST(:up_to AS bigint), a.number) ORDER BY a.number LIMIT :limit",
        {"network": network, "after": after, "up_to": up_to, "limit": limit},
    )
    return result.mappings().all()


async def position(uow: Uow, *, network: str) -> int:
    """The number of the last address that was looked at; 0 before the first."""
    result = await uow.execute(
        "SELECT number FROM chain.balance_scans WHERE network = :network", {"network": network}
    )
    found = result.scalar_one_or_none()
    return 0 if found is None else int(found)


async def move(uow: Uow, *, network: str, before: int, number: int, at: datetime) -> None:
    """The scan stands at `number` now, unless another instance moved it; a lower one is a new
    round."""
    await uow.execute(
        "INSERT INTO chain.balance_scans AS s (network, number, scanned_at) "
        "VALUES (:network, :number, :at) ON CONFLICT (network) DO UPDATE "
        "SET number = excluded.number, scanned_at = excluded.scanned_at, "
        "rounds = s.rounds + (excluded.number <= s.number)::integer WHERE s.number = :before",
        {"network": network, "before": before, "number": number, "at": at},
    )


async def keep(uow: Uow, *, network: str, address_ids: Sequence[UUID], at: datetime) -> None:
    """These hold something: they are compared in every cycle from now on."""
    await uow.execute(
        "INSERT INTO chain.scan_finds (network, address_id, found_at) "
        "SELECT :network, id, :at FROM unnest(CAST(:ids AS uuid[])) AS found (id) "
        "ON CONFLICT DO NOTHING",
        {"network": network, "ids": list(address_ids), "at": at},
    )
