"""SQL of gateway.leases. Times are the database's own clock (P11), never the process's."""

from config.database import Uow


async def acquire(uow: Uow, *, name: str, holder: str, seconds: int) -> int | None:
    """Take a free or expired lease (or our own again) with the next fence; None while held."""
    result = await uow.execute(
        """
        INSERT INTO gateway.leases AS held (name, holder, fence, expires_at)
        VALUES (:name, :holder, 1, clock_timestamp() + make_interval(secs => :seconds))
        ON CONFLICT (name) DO UPDATE
            SET holder = excluded.holder, fence = held.fence + 1, expires_at = excluded.expires_at
            WHERE held.expires_at <= clock_timestamp() OR held.holder = excluded.holder
        RETURNING fence
        """,
        {"name": name, "holder": holder, "seconds": seconds},
    )
    row = result.first()
    return None if row is None else int(row.fence)


async def renew(uow: Uow, *, name: str, holder: str, fence: int, seconds: int) -> bool:
    """Extend a lease that is still ours; False once another fence stands or it has expired."""
    result = await uow.execute(
        """
        UPDATE gateway.leases
        SET expires_at = clock_timestamp() + make_interval(secs => :seconds)
        WHERE name = :name AND holder = :holder AND fence = :fence
            AND expires_at > clock_timestamp()
        RETURNING fence
        """,
        {"name": name, "holder": holder, "fence": fence, "seconds": seconds},
    )
    return result.first() is not None


async def is_held(uow: Uow, *, name: str, holder: str, fence: int) -> bool:
    """True while exactly this fence stands; the shared lock keeps it so until the commit."""
    result = await uow.execute(
        """
        SELECT 1 FROM gateway.leases
        WHERE name = :name AND holder = :holder AND fence = :fence
            AND expires_at > clock_timestamp()
        FOR SHARE
        """,
        {"name": name, "holder": holder, "fence": fence},
    )
    return result.first() is not None


async def raise_fence(uow: Uow, *, name: str, holder: str, fence: int, above: int) -> int | None:
    """The hold's new fence, over `above`; None when the hold is no longer ours."""
    result = await uow.execute(
        """
        UPDATE gateway.leases SET fence = GREATEST(fence, :above) + 1
        WHERE name = :name AND holder = :holder AND fence = :fence
            AND expires_at > clock_timestamp()
        RETURNING fence
        """,
        {"name": name, "holder": holder, "fence": fence, "above": above},
    )
    row = result.first()
    return None if row is None else int(row.fence)


async def release(uow: Uow, *, name: str, holder: str, fence: int) -> None:
    """Let another instance in at once; the fence stays, so that the next one is higher."""
    await uow.execute(
        """
        UPDATE gateway.leases SET expires_at = clock_timestamp()
        WHERE name = :name AND holder = :holder AND fence = :fence
        """,
        {"name": name, "holder": holder, "fence": fence},
    )
