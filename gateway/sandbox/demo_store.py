"""The one SQL statement of the demo: a thief with the database's owner rights forges a row."""

from uuid import UUID

from config.database import Database


async def forge_address(database: Database, withdrawal_id: str, address: str) -> None:
    """Change a stored withdrawal's destination behind the system's back (public id `wd_...`)."""
    key = UUID(hex=withdrawal_id.rpartition("_")[2])
    async with database.unit_of_work() as uow:
        await uow.execute(
            "UPDATE gateway.withdrawals SET address = :address WHERE id = :id",
            {"address": address, "id": key},
        )
