"""SQL of the block history that an ETA is made from."""

from sqlalchemy import RowMapping

from config.database import Uow


async def pace(uow: Uow, *, network: str, blocks: int) -> RowMapping:
    """The newest canonical blocks: how many, and how long from the first to the last (their own
    clocks: for show, never for money)."""
    result = await uow.execute(
        "SELECT count(*) AS blocks, max(time_seconds) - min(time_seconds) AS seconds FROM "
        "(SELECT time_seconds FROM chain.blocks WHERE network = :network AND is_canonical "
        "ORDER BY height DESC LIMIT :blocks) b",
        {"network": network, "blocks": blocks},
    )
    return result.mappings().one()


async def heights(uow: Uow, *, network: str) -> RowMapping | None:
    """Where the follower stands, and the chain's own finality."""
    result = await uow.execute(
        "SELECT height, finalised_height FROM chain.cursors WHERE network = :network",
        {"network": network},
    )
    return result.mappings().one_or_none()


async def fee_rate(uow: Uow, deposit_id: object) -> int | None:
    """What a deposit's tx pays per size, where the mempool showed it."""
    result = await uow.execute(
        "SELECT fee_rate FROM chain.deposits WHERE id = :id", {"id": deposit_id}
    )
    rate = result.scalar_one_or_none()
    return None if rate is None else int(rate)
